"""Check arguments and data; every message about them is written here.

Problems of data are ValueErrors that name the array and the first bad element. A parameter of the
wrong type is a TypeError, of a wrong value a ValueError. Nothing here changes what it is given,
and data are copied only when their dtype must be converted.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from . import _kernels
from ._numbers import as_array, boolean, real
from ._pairing import check_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .blocks import Blocks

__all__ = [
    "Array",
    "boolean",
    "choice",
    "count_as_zero",
    "features",
    "integer",
    "is_blocks",
    "is_table",
    "labels",
    "probabilities",
    "real",
    "real_array",
    "sample_weights",
    "targets",
]

Array: TypeAlias = "NDArray[Any]"

# dtypes that the engine gathers as they are; the others are converted first
_NATIVE = frozenset(np.dtype(code) for code in ("f4", "f8", *(k + s for k in "iu" for s in "1248")))
# rows of probabilities given in three or four decimals still pass
_SUM_TOLERANCE = 1e-3
# Kinds of tables and columns, and where they come from
_TABLES = ("DataFrame", "Table", "RecordBatch", "LazyFrame", "Series", "ChunkedArray", "Array")
_LIBRARIES = ("pandas", "polars", "pyarrow", "narwhals")
_CHUNK = 1 << 18


def integer(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """Return a Python int of at least the minimum; booleans and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {number}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, not {number}")
    return number


def choice(name: str, value: object, choices: Iterable[str], also: str = "") -> str:
    """Return a string that is one of the choices, or name them all."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"unknown {name} {value!r}; choose from {', '.join(choices)}{also}")
    return value


def is_table(value: object) -> bool:
    """Return whether a value is a table or a column of another package; imports nothing."""
    if type(value) is np.ndarray:
        return False
    return any(
        kind.__name__ in _TABLES and kind.__module__.partition(".")[0] in _LIBRARIES
        for kind in type(value).__mro__
    )


def is_blocks(value: object) -> TypeGuard[Blocks]:
    """Return whether a value is `Blocks`; imports nothing."""
    # Whoever has made some has loaded their module.
    module = sys.modules.get("fastgd.blocks")
    return module is not None and isinstance(value, module.Blocks)


def real_array(name: str, value: object) -> Array:
    """Return the argument as an array of a native real dtype, without a copy where it has one.

    float16 becomes float32, long double float64, bool is read as bytes of 0 and 1, and another
    byte order is turned. Tables and their columns are read by `_frames`.
    """
    if is_table(value):
        from ._frames import to_array

        return to_array(name, value)
    if is_blocks(value):
        raise TypeError(
            f"{name} is Blocks, which Network.fit, its validation_data, evaluate and predict take; "
            "here give an array or a table"
        )
    if hasattr(value, "toarray"):
        raise ValueError(f"{name} is sparse; give {name.split()[-1]}.toarray()")
    array = as_array(name, value)
    dtype = array.dtype
    if dtype in _NATIVE:
        return array
    if dtype.kind == "b":
        return array.view(np.uint8)
    if dtype.kind in "iuf":
        if dtype.itemsize > 8:
            with np.errstate(over="ignore"):
                converted = array.astype(np.float64)
            if np.isinf(converted).sum() != np.isinf(array).sum():
                raise ValueError(f"{name} has values beyond the range of float64")
            return converted
        return array.astype(
            np.float32 if dtype.itemsize == 2 and dtype.kind == "f" else dtype.newbyteorder("=")
        )
    hint = {
        "O": "; convert it with .astype(float)",
        "U": "; encode text as numbers first",
        "S": "; encode text as numbers first",
        "T": "; encode text as numbers first",
        "c": "; split real and imaginary parts",
    }.get(dtype.kind, "")
    raise ValueError(f"{name} has dtype {dtype}; real numbers are needed{hint}")


def _finite(
    name: str, array: Array, dtype: np.dtype[Any], columns: Sequence[str] | None = None
) -> None:
    """Refuse NaN, infinity, and what the network's dtype cannot hold.

    columns: the names of those of a table, for the message.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    limit = float(np.finfo(dtype).max) if dtype.itemsize < array.dtype.itemsize else np.inf
    if limit == np.inf and (array.flags.c_contiguous or array.flags.f_contiguous):
        good = bool(_kernels.all_finite(array))
    else:
        # NaN passes through both, and fails the comparison.
        low, high = float(array.min()), float(array.max())
        good = -np.inf < low and high < np.inf and -limit <= low and high <= limit
    if good:
        return
    rows = max(1, _CHUNK // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        with np.errstate(invalid="ignore"):
            bad = np.argwhere(~(np.abs(block) <= min(limit, np.finfo(array.dtype).max)))
        if len(bad):
            place = (int(bad[0][0]) + start, *(int(i) for i in bad[0][1:]))
            value = array[place]
            where = f"{name}[{', '.join(map(str, place))}] is {value}"
            if columns is not None:
                where = f"{name}: column {columns[place[1]]!r} is {value} in row {place[0]}"
            if np.isfinite(value):
                raise ValueError(f"{where}, beyond the range of {dtype}")
            raise ValueError(f"{where}; all values must be finite")


def _scalable(name: str, array: Array, dtype: np.dtype[Any], scale: float) -> None:
    """Refuse finite values that the network's dtype cannot hold once they are multiplied."""
    with np.errstate(over="ignore"):
        for place in (array.argmin(), array.argmax()):
            at = np.unravel_index(int(place), array.shape)
            if not np.isfinite(array[at].astype(dtype) * dtype.type(scale)):
                index = ", ".join(str(int(i)) for i in at)
                raise ValueError(
                    f"{name}[{index}] is {array[at]}; times input_scale={scale:g} it is beyond "
                    f"the range of {dtype}"
                )


def features(
    X: object,
    n_inputs: int | None,
    dtype: np.dtype[Any],
    name: str = "X",
    scale: float = 1.0,
    *,
    values: bool = True,
    columns: Sequence[str] | None = None,
) -> Array:
    """Return X (n_samples, n_inputs), checked; scale is what it will be multiplied by.

    values: whether its values are to be checked here, and not by who reads them.
    columns: the names of those of a table, for messages.
    """
    array = real_array(name, X)
    # Empty lists have one dimension, so this message comes first.
    if array.size == 0 and array.shape[:1] == (0,):
        raise ValueError(f"{name} is empty: it has no samples")
    if array.ndim != 2:
        own = name.split()[-1]
        hint = f"{own}.reshape(len({own}), -1) to make each sample one row"
        if array.ndim == 0:
            hint = "an array (n_samples, n_features)"
        elif array.ndim == 1:
            hint = f"{own}.reshape(-1, 1) for one feature or {own}.reshape(1, -1) for one sample"
        raise ValueError(f"{name} must have two dimensions, not {array.ndim}: use {hint}")
    if array.shape[1] == 0:
        raise ValueError(f"{name} has no features")
    if n_inputs is not None and array.shape[1] != n_inputs:
        raise ValueError(f"{name} has {array.shape[1]} features, but the network takes {n_inputs}")
    if values:
        _finite(name, array, dtype, columns)
        if scale > 1:
            _scalable(name, array, dtype, scale)
    return array


def _same_length(name: str, array: Array, n_samples: int, of: str) -> None:
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array with one entry for each sample, not a number")
    if len(array) != n_samples:
        raise ValueError(f"{of} has {n_samples} samples, but {name} has {len(array)}")


def labels(y: Array, n_classes: int, name: str = "y") -> NDArray[np.int64]:
    """Return class numbers (n_samples,) as int64; floats pass if their values are integers."""
    y = y.reshape(len(y))
    # In parts, so that no temporary array is as long as the data.
    for start in range(0, len(y), _CHUNK):
        part = y[start : start + _CHUNK]
        if part.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                bad = np.flatnonzero(~(np.rint(part) == part) | np.isinf(part))
            if len(bad):
                i = int(bad[0]) + start
                raise ValueError(f"class labels must be integers, but {name}[{i}] is {y[i]}")
    if len(y) and not (y.min() >= 0 and y.max() < n_classes):
        i = int(np.flatnonzero((y < 0) | (y >= n_classes))[0])
        problem = "is negative" if y[i] < 0 else f"is beyond the network's {n_classes} outputs"
        # The integer 1e300 would be three hundred digits.
        value = f"{y[i]:.17g}" if y.dtype.kind == "f" else int(y[i])
        raise ValueError(
            f"label {name}[{i}] = {value} {problem}: labels run from 0 to {n_classes - 1}"
        )
    return np.ascontiguousarray(y, dtype=np.int64)


def probabilities(y: Array, name: str = "y") -> None:
    """Refuse rows (n_samples, n_classes) that are not probabilities."""
    if y.size and y.min() < 0:
        row, column = np.argwhere(y < 0)[0]
        raise ValueError(
            f"rows of {name} must be probabilities, but {name}[{row}, {column}] is {y[row, column]}"
        )
    sums = y.sum(axis=1, dtype=np.float64)
    bad = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
    if len(bad):
        raise ValueError(
            f"rows of {name} must be probabilities, but {name}[{bad[0]}] sums to {sums[bad[0]]:g}"
        )


def _is_text(y: object) -> bool:
    try:
        return as_array("y", y).dtype.kind in "OUST"
    except ValueError:  # what cannot be read at all
        return False


def targets(
    y: object,
    loss: str,
    units: int,
    n_samples: int,
    dtype: np.dtype[Any],
    name: str = "y",
    of: str = "X",
) -> Array:
    """Return the targets as the engine takes them, checked for the named loss.

    cross_entropy: int64 labels (n_samples,) or rows of probabilities (n_samples, units).
    custom: as given. Others: (n_samples, units) of any real dtype.
    """
    try:
        array = real_array(name, y)
    except ValueError as error:
        if loss == "cross_entropy" and _is_text(y):
            raise ValueError(
                f"{error}, for example with np.unique({name}, return_inverse=True)[1]"
            ) from None
        raise
    _same_length(name, array, n_samples, of)
    if loss == "cross_entropy" and (array.ndim == 1 or array.shape[1:] == (1,)):
        check_classes(units, dtype, name)
        return labels(array, units, name)
    if array.ndim == 1 and units == 1:
        array = array[:, np.newaxis]
    if loss == "custom" and array.ndim <= 2:
        _finite(name, array, dtype)
        # `real_array` reads bool as bytes, which are no masks.
        is_bool = array.dtype == np.uint8 and not is_table(y) and np.asarray(y).dtype == bool
        return array.view(bool) if is_bool else array
    if array.shape != (n_samples, units):
        wanted = f"({n_samples}, {units})"
        if loss == "cross_entropy":
            wanted = f"({n_samples},) for labels or {wanted} for probabilities"
        elif units == 1:
            wanted = f"({n_samples},) or {wanted}"
        raise ValueError(f"{name} has shape {array.shape}; the network needs {wanted}")
    _finite(name, array, dtype)
    if loss == "cross_entropy":
        probabilities(array, name)
    elif loss == "log_loss" and (array.min() < 0 or array.max() > 1):
        _outside(name, array, (array < 0) | (array > 1), "log_loss needs targets from 0 to 1")
    elif loss == "poisson" and array.min() < 0:
        _outside(name, array, array < 0, "poisson needs targets that are not negative")
    return array


def _outside(name: str, array: Array, bad: Array, need: str) -> None:
    row, column = np.argwhere(bad)[0]
    raise ValueError(f"{need}, but {name}[{row}, {column}] is {array[row, column]}")


def count_as_zero(weights: NDArray[np.float64], dtype: np.dtype[Any]) -> bool:
    """Return whether a network of the dtype takes all these weights for 0."""
    return bool(weights.max() < np.finfo(dtype).tiny)


def sample_weights(
    weights: object,
    n_samples: int,
    dtype: np.dtype[Any],
    name: str = "sample_weight",
    of: str = "X",
    *,
    is_part: bool = False,
) -> NDArray[np.float64] | None:
    """Return weights (n_samples,) as float64, checked for a network of the dtype, or None.

    is_part: more samples will follow, so that all of these may be 0.
    """
    if weights is None:
        return None
    array = real_array(name, weights)
    _same_length(name, array, n_samples, of)
    if array.shape[1:] == (1,) and is_table(weights):
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape ({n_samples},), not {array.shape}")
    array = np.ascontiguousarray(array, dtype=np.float64)
    _finite(name, array, dtype)
    if array.min() < 0:
        i = int(np.argmin(array))
        raise ValueError(f"{name} must not be negative, but {name}[{i}] is {array[i]}")
    with np.errstate(over="ignore"):
        total = float(array.sum())
    if is_part and total < np.inf:
        return array
    if not 0 < total < np.inf:
        raise ValueError(f"the sum of {name} must be positive and finite")
    if count_as_zero(array, dtype):
        raise ValueError(too_small(name, dtype))
    return array


def too_small(name: str, dtype: np.dtype[Any]) -> str:
    """Return what is said of weights all of which count as zero."""
    return (
        f"all of {name} are below {np.finfo(dtype).tiny:.3g}, the smallest number that {dtype} "
        "tells from 0; multiply them by a constant"
    )
