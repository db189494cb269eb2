"""What the installed scikit-learn has, asked of it and not of its version, and one repair.

Before 1.9 its MLPClassifier fails at early stopping if the labels are text or sparse: it asks of
predicted labels whether they are NaN. fastgd trains there as scikit-learn does from 1.9 on, and so
does scikit-learn once this module is imported: what fails could not be compared.
"""

import inspect
import warnings
from types import SimpleNamespace

import numpy as np
from sklearn.neural_network._multilayer_perceptron import (
    BaseMultilayerPerceptron,
    MLPClassifier,
    MLPRegressor,
)
from sklearn.utils.multiclass import type_of_target


def works(call, *args):
    """Tell whether a call gets by without a TypeError."""
    try:
        with warnings.catch_warnings(action="ignore"):
            call(*args)
    except TypeError:
        return False
    return True


# From 1.7 on
HAS_SAMPLE_WEIGHT = "sample_weight" in inspect.signature(MLPClassifier.fit).parameters
HAS_REGRESSOR_LOSS = "loss" in inspect.signature(MLPRegressor).parameters
REFUSES_BYTES = not works(type_of_target, np.array([b"a", b"b"]))


def messages(caught):
    """Return recorded warnings as pairs that can be compared.

    But for scipy's of an option that it ignores, which scikit-learn 1.6 still passes to it.
    """
    pairs = [(warning.category, str(warning.message)) for warning in caught]
    return [pair for pair in pairs if "`iprint`" not in pair[1]]


def score_of_text():
    """Score a prediction of text as early stopping does."""
    model = SimpleNamespace(_predict=lambda X, check_input: np.array(["a"]))
    weights = {"sample_weight": None} if HAS_SAMPLE_WEIGHT else {}
    BaseMultilayerPerceptron._score_with_function(
        model, None, np.array(["a"]), score_function=lambda *args, **kwargs: 1.0, **weights
    )


def score_with_function(self, X, y, score_function, **weights):
    """Return the score of a prediction; NaN if that is not finite."""
    predicted = self._predict(X, check_input=False)
    if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
        return np.nan
    return score_function(y, predicted, **weights)


if not works(score_of_text):
    BaseMultilayerPerceptron._score_with_function = score_with_function
