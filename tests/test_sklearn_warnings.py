"""What fastgd.sklearn warns of is filtered, counted and shown as scikit-learn's warnings are."""

import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import fastgd
from sklearn_cases import ORIGINAL, OURS, make_data
from sklearn_features import IGNORED, messages
from test_sklearn_training import Interrupting

X, Y = make_data("multiclass")


def short(classes):
    classes["classifier"](max_iter=2).fit(X, Y)


def short_lbfgs(classes):
    classes["classifier"](solver="lbfgs", max_iter=2).fit(X, Y)


def clipped(classes):
    classes["classifier"](batch_size=1000).partial_fit(X, Y, classes=np.unique(Y))


def interrupted(classes):
    printed, sys.stdout = sys.stdout, Interrupting("Iteration", 2)
    try:
        classes["classifier"](verbose=True).fit(X, Y)
    finally:
        sys.stdout = printed


CASES = {
    short: (ConvergenceWarning, "Stochastic Optimizer: Maximum iterations"),
    short_lbfgs: (ConvergenceWarning, "lbfgs failed to converge"),
    clipped: (UserWarning, "Got `batch_size`"),
    interrupted: (UserWarning, "Training interrupted by user."),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("classes", [ORIGINAL, OURS], ids=["original", "ours"])
def test_filters_of_scikit_learn_hold(classes, case):
    category, message = CASES[case]
    with pytest.warns(category, match=f"^{message}"):
        case(classes)
    for module in (r"sklearn", r"sklearn\.neural_network\._multilayer_perceptron$"):
        with warnings.catch_warnings(action="error"):
            warnings.filterwarnings("ignore", category=category, module=module)
            warnings.filterwarnings("ignore", message=IGNORED)
            case(classes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_files_that_are_shown(case):
    """Not the lines, which no program can know."""
    shown = []
    for classes in (ORIGINAL, OURS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            case(classes)
        shown.append(messages(caught))
    assert shown[0] == shown[1]


def test_default_filters_show_it_in_each_fit():
    for classes in (ORIGINAL, OURS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            warnings.simplefilter("default")
            for case in (short, clipped, short_lbfgs) * 2:
                case(classes)
        assert len(messages(caught)) == 6


def test_filters_hold_under_a_patch():
    try:
        with warnings.catch_warnings(action="ignore"):  # it names who has imported the originals
            fastgd.sklearn.patch()
        from sklearn.neural_network import MLPClassifier

        with warnings.catch_warnings(action="error"):
            warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
            model = MLPClassifier(max_iter=2).fit(X, Y)
        assert isinstance(model, fastgd.sklearn.MLPClassifier)
        assert model.n_iter_ == 2
    finally:
        fastgd.sklearn.unpatch()
