"""Run one piece of code with scikit-learn's classes and with fastgd's, and compare what comes out.

What comes out is a result or an exception, and the warnings on the way. Tests of fastgd.sklearn
are in files named test_sklearn_*.py, which conftest.py leaves out where scikit-learn is missing.
"""

import copy
import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network

import fastgd.sklearn
from sklearn_features import messages

ORIGINAL = SimpleNamespace(
    MLPClassifier=sklearn.neural_network.MLPClassifier,
    MLPRegressor=sklearn.neural_network.MLPRegressor,
)
OURS = SimpleNamespace(
    MLPClassifier=fastgd.sklearn.MLPClassifier,
    MLPRegressor=fastgd.sklearn.MLPRegressor,
)

FITTED = (
    "best_loss_",
    "best_validation_score_",
    "classes_",
    "coefs_",
    "feature_names_in_",
    "intercepts_",
    "loss_",
    "loss_curve_",
    "n_features_in_",
    "n_iter_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "t_",
    "validation_scores_",
)


class Outcome(NamedTuple):
    """What a call did: a result or an error, as type and text, and the warnings, with the file."""

    result: Any
    error: Any
    warnings: list


def outcome(call, classes):
    """Call with a namespace of MLPClassifier and MLPRegressor, and return the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = call(classes), None
        except Exception as raised:
            result, error = None, (type(raised), str(raised))
    # Warnings of overflow are about NumPy's arithmetic, which fastgd does not use.
    kept = [shown for shown in messages(caught) if shown[0] is not RuntimeWarning]
    return Outcome(result, error, kept)


def fitted(estimator):
    """Return copies of the fitted attributes of scikit-learn that an estimator has."""
    found = {name: getattr(estimator, name) for name in FITTED if hasattr(estimator, name)}
    return copy.deepcopy(found)


def assert_same_outcome(call, tolerance=1e-9):
    """Hold fastgd's outcome to scikit-learn's; return the latter, so that a test can look at it."""
    expected = outcome(call, ORIGINAL)
    found = outcome(call, OURS)
    assert found.error == expected.error
    assert found.warnings == expected.warnings
    assert_same(found.result, expected.result, tolerance)
    return expected


def assert_same(found, expected, tolerance=1e-9, where="result"):
    """Compare results: floats to a tolerance relative to the largest value, the rest exactly."""
    if scipy.sparse.issparse(expected):
        assert found.format == expected.format, where
        found, expected = found.toarray(), expected.toarray()
    if hasattr(expected, "columns"):
        assert list(found.columns) == list(expected.columns), where
        assert list(found.index) == list(expected.index), where
        found, expected = found.to_numpy(), expected.to_numpy()
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(found[key], value, tolerance, f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected), where
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, tolerance, f"{where}[{i}]")
    elif isinstance(expected, (float, np.floating)):
        assert isinstance(found, (float, np.floating)), where
        assert found == pytest.approx(expected, rel=tolerance, abs=0, nan_ok=True), where
    elif isinstance(expected, np.ndarray):
        assert type(found) is type(expected), where
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        if expected.dtype.kind == "f":
            finite = np.abs(expected[np.isfinite(expected)])
            bound = tolerance * finite.max(initial=0)
            # The agreement that is promised: the largest difference over the largest value.
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=where)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where
