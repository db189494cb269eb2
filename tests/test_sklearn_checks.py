"""scikit-learn's checks of estimators: each that it makes of its own classes passes for ours."""

import os
import re
import subprocess
import sys
from collections import Counter
from unittest import SkipTest

import pytest
from sklearn.base import is_classifier
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastgd.sklearn import MLPClassifier, MLPRegressor
from sklearn_pairs import ORIGINAL

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ARRAY_API = """
import warnings
from sklearn.utils.estimator_checks import estimator_checks_generator
from fastgd.sklearn import MLPClassifier, MLPRegressor

warnings.simplefilter("ignore")
for estimator in (MLPClassifier(), MLPRegressor()):
    for instance, check in estimator_checks_generator(estimator):
        if check.func.__name__ == "check_array_api_input":
            check(instance)
            print(type(instance).__name__)
"""


def original_of(estimator):
    return ORIGINAL.MLPClassifier() if is_classifier(estimator) else ORIGINAL.MLPRegressor()


def names(estimator):
    return [check.func.__name__ for _, check in estimator_checks_generator(estimator)]


@pytest.mark.parametrize("estimator", [MLPClassifier(), MLPRegressor()], ids=["c", "r"])
def test_checks_include_all_of_the_originals(estimator):
    # An added parameter may bring a check of its own, as class_weight does.
    assert not Counter(names(original_of(estimator))) - Counter(names(estimator))


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_estimator_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as skipped:
        with pytest.raises(SkipTest, match=re.escape(str(skipped))):
            check(original_of(estimator))


def test_check_of_array_input_passes_where_scipy_lets_it_run():
    # SciPy asks this variable when it is imported; without it, the check is skipped above.
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ARRAY_API], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = [
        type(estimator).__name__
        for estimator in (MLPClassifier(), MLPRegressor())
        if "check_array_api_input" in names(original_of(estimator))
    ]
    assert done.stdout.split() == expected
