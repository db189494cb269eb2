"""What the installed scikit-learn has, asked of it and not of its version, and one repair.

Before 1.9 its MLPClassifier fails at early stopping if the labels are text or sparse: it asks of
predicted labels whether they are NaN. fastgd trains there as scikit-learn does from 1.9 on, and so
does scikit-learn once this module is imported: what fails could not be compared.
"""

import functools
import inspect
import warnings
from types import SimpleNamespace

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.neural_network._multilayer_perceptron import (
    BaseMultilayerPerceptron,
    MLPClassifier,
    MLPRegressor,
)
from sklearn.utils.multiclass import type_of_target


def works(call, *args):
    """Tell whether a call gets by without an error about what it was given."""
    try:
        with warnings.catch_warnings(action="ignore"):
            call(*args)
    except (TypeError, ValueError):
        return False
    return True


# From 1.7 on
HAS_SAMPLE_WEIGHT = "sample_weight" in inspect.signature(MLPClassifier.fit).parameters
HAS_REGRESSOR_LOSS = "loss" in inspect.signature(MLPRegressor).parameters
# Of labels, and of weights of an accuracy that are not finite
REFUSES_BYTES = not works(type_of_target, np.array([b"a", b"b"]))
REFUSES_NAN_WEIGHTS = not works(
    functools.partial(accuracy_score, sample_weight=[1.0, np.nan]), [0, 1], [0, 1]
)


def messages(caught):
    """Return recorded warnings as category, text and file, to be compared: filters go by the module
    that warns, which has the file of its code.

    But for scipy's of an option that it ignores, which scikit-learn 1.6 still passes to it.
    """
    shown = [(w.category, str(w.message), w.filename) for w in caught]
    return [one for one in shown if "`iprint`" not in one[1]]


def score_of(labels):
    """Score a prediction of labels as early stopping does."""
    model = SimpleNamespace(_predict=lambda X, check_input: labels)
    weights = {"sample_weight": None} if HAS_SAMPLE_WEIGHT else {}
    BaseMultilayerPerceptron._score_with_function(
        model, None, labels, score_function=lambda *args, **kwargs: 1.0, **weights
    )


def score_with_function(self, X, y, score_function, **weights):
    """Return the score of a prediction; NaN if that is not finite."""
    predicted = self._predict(X, check_input=False)
    if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
        return np.nan
    return score_function(y, predicted, **weights)


score_of(np.array([1, 2]))  # so that text is what fails, if it does
if not works(score_of, np.array(["a", "b"])):
    BaseMultilayerPerceptron._score_with_function = score_with_function
