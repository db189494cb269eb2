"""Plain arrays past scikit-learn's validation, with the same outcomes.

Each function returns None, and has changed nothing, where it does not know that the long way would
accept its arguments as they are: that way then decides.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.preprocessing import LabelBinarizer

from .._kernels import all_finite

__all__ = [
    "class_numbers",
    "features",
    "first_classes",
    "is_allowed",
    "is_native",
    "regression_targets",
    "settings_key",
]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_MOST = np.iinfo(np.int64).max
_PLAIN = frozenset((bool, int, float, str, tuple, type(None)))


def features(X: Any, n_features: int | None) -> bool:
    """Tell whether X is a matrix that scikit-learn takes as it is.

    n_features: as many columns it must have; None for any.
    """
    return (
        type(X) is np.ndarray
        and (X.dtype is _FLOAT64 or X.dtype is _FLOAT32)
        and X.ndim == 2
        and X.shape[0] > 0
        and (X.shape[1] == n_features if n_features is not None else X.shape[1] > 0)
        and all_finite(X)
    )


def _integers(y: Any, n: int) -> bool:
    return (
        type(y) is np.ndarray
        and y.ndim == 1
        and y.dtype.kind in "iu"
        and y.dtype.isnative
        and len(y) == n
    )


def first_classes(y: Any, n: int) -> tuple[LabelBinarizer, Any] | None:
    """Return the binarizer of new integer classes, and each sample's number of its class."""
    if not _integers(y, n):
        return None
    low, high = int(y.min()), int(y.max())
    if low >= 0 and high < 4 * n + 64:
        # NumPy before 2.2.4 counts no uint64.
        counts = np.bincount(y.astype(np.intp, copy=False), minlength=high + 1)
        classes = np.flatnonzero(counts).astype(y.dtype)
        numbers = (np.cumsum(counts > 0) - 1)[y]
    else:
        classes, numbers = np.unique(y, return_inverse=True)
    # scikit-learn warns of y that looks like a regression's.
    if len(classes) < 2 or 2 * len(classes) > n:
        return None
    binarizer = LabelBinarizer()
    binarizer.y_type_ = "multiclass" if len(classes) > 2 else "binary"
    binarizer.sparse_input_ = False
    binarizer.classes_ = classes
    return binarizer, numbers.astype(np.int64, copy=False)


def class_numbers(y: Any, n: int, classes: Any) -> Any:
    """Return each sample's number of its class, all of which are known."""
    if not _integers(y, n) or classes.dtype.kind not in "iu" or len(classes) < 2:
        return None
    # Labels and classes meet as int64.
    if any(array.dtype == np.uint64 and int(array.max()) > _MOST for array in (y, classes)):
        return None
    first = int(classes[0])
    if int(classes[-1]) - first == len(classes) - 1:
        numbers = y.astype(np.int64, copy=False) - first
        if int(numbers.min()) < 0 or int(numbers.max()) >= len(classes):
            return None
        return numbers
    numbers = np.searchsorted(classes, y)
    numbers[numbers == len(classes)] = 0
    return numbers if (classes[numbers] == y).all() else None


def is_native(dtype: np.dtype[Any]) -> bool:
    """Tell whether the engine takes arrays of this dtype as they are."""
    return dtype.isnative and dtype.char in "?bBhHiIlLqQfd"


def regression_targets(y: Any, n: int) -> bool:
    """Tell whether y is what scikit-learn takes as it is for a regression."""
    return (
        type(y) is np.ndarray
        and (y.dtype is _FLOAT64 or y.dtype is _FLOAT32)
        and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] > 1))
        and len(y) == n
        and all_finite(y)
    )


@lru_cache(maxsize=64)
def _parameter_names(cls: type) -> tuple[str, ...]:
    return tuple(cls._get_param_names())  # type: ignore[attr-defined]


def settings_key(estimator: Any) -> tuple[Any, ...] | None:
    """Return the estimator's parameters if all are plain values, of which none can change."""
    cls: Any = type(estimator)
    try:
        values = itemgetter(*_parameter_names(cls))(vars(estimator))
    except KeyError:
        return None
    types = tuple(map(type, values))
    if not _PLAIN.issuperset(types):
        return None
    for value in values:
        if type(value) is tuple and not all(type(one) is int for one in value):
            return None
    # 1, 1.0 and True are equal, but not all of them are valid.
    return cls, types, values


def is_allowed() -> bool:
    """Tell whether nothing asks for scikit-learn's own ways: metadata routing, array API."""
    config = get_config()
    return not (config["enable_metadata_routing"] or config["array_api_dispatch"])
