"""Read single numbers and arrays: what they are, bounds, and whether a dtype holds them.

NumPy only, so that the reference and the activations can use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["as_array", "boolean", "held", "real", "reals"]


def real(
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite Python float within the given bounds; booleans are refused."""
    # float itself needs no look at the abstract class, which is slow.
    if type(value) is not float and (
        isinstance(value, bool | np.bool_) or not isinstance(value, Real)
    ):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    # Written so that nothing is formatted for a number that is right.
    wanted = (
        "finite" if not math.isfinite(number)
        else f"at least {minimum:g}" if minimum is not None and number < minimum
        else f"greater than {above:g}" if above is not None and number <= above
        else f"at most {maximum:g}" if maximum is not None and number > maximum
        else f"less than {below:g}" if below is not None and number >= below
        else ""
    )  # fmt: skip
    if wanted:
        given = repr(value) if math.isfinite(number) or type(value) is float else number
        raise ValueError(f"{name} must be {wanted}, not {given}")
    return number


def boolean(name: str, value: object) -> bool:
    """Return a Python bool; numbers and strings are refused."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def as_array(name: str, value: object) -> np.ndarray[Any, Any]:
    """Return an array, without a copy of one, but not of ragged lists and of what is masked."""
    try:
        if not _is_masked(value):
            return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    raise ValueError(f"{name} has masked elements; fill them first")


def _is_masked(value: object) -> bool:
    """Return whether NumPy would leave a mask out, of an array or of rows in a list."""
    if type(value) is np.ndarray:
        return False
    if isinstance(value, list | tuple):
        # Rows of plain numbers, of which there may be millions, are not looked at one by one.
        return not set(map(type, value)) <= {float, int} and any(map(_is_masked, value))
    mask = getattr(value, "mask", None)
    return isinstance(mask, np.ndarray | np.bool_) and bool(np.any(mask))


def reals(name: str, value: object, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Return what a caller's function gave as an array; NumPy would make numbers of text."""
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        given = f"an array of {array.dtype}" if array.ndim else repr(value)
        raise TypeError(f"{name} must be real numbers, not {given}")
    return array.astype(dtype, copy=False)


def one(name: str, value: object) -> float:
    """Return the number that a caller's function gave, also as an array of a single element."""
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf  # of whichever sign: no caller takes it
    array = reals(name, value)
    if array.size != 1:
        raise ValueError(f"{name} must be one number, not an array of shape {array.shape}")
    return float(array.item())


@lru_cache
def _normal(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest normal number, and the largest that is rounded to one."""
    info = np.finfo(dtype)
    return float(info.tiny), float(info.max) * (1 + 2.0 ** -(info.nmant + 2))


# In sums beside what they are factors of, a denormal is as good as the zero that it counts as.
_AS_GOOD_AS_ZERO = frozenset(
    {"momentum", "dampening", "beta1", "beta2", "weight_decay", "l1", "l2"}
)


def held(owner: str, settings: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
    """Refuse numbers that would be others in a dtype, or turn off what they are for.

    Denormals count as zero in the kernels, and what is beyond the range is infinite there. Zero
    itself passes: whether it makes sense was asked when the settings were made.
    """
    normal, most = _normal(dtype)
    for name, value in settings.items():
        least = 0.0 if name in _AS_GOOD_AS_ZERO else normal
        if isinstance(value, float) and value != 0 and not least <= abs(value) <= most:
            raise ValueError(
                f"{owner}: {name}={value!r} is too {'small' if abs(value) < least else 'large'} "
                f"for {dtype}, whose normal numbers go from {normal:.3g} to {most:.3g}"
            )
