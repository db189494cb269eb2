"""Check single numbers: what they are, their bounds, and whether a dtype holds them.

NumPy only, so that the reference and the activations can use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["held", "real"]


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
    wanted = [
        text
        for text, broken in (
            ("finite", not math.isfinite(number)),
            (f"at least {minimum:g}" if minimum is not None else "", not _ge(number, minimum)),
            (f"greater than {above:g}" if above is not None else "", not _gt(number, above)),
            (f"at most {maximum:g}" if maximum is not None else "", not _ge(maximum, number)),
            (f"less than {below:g}" if below is not None else "", not _gt(below, number)),
        )
        if broken
    ]
    if wanted:
        given = repr(value) if math.isfinite(number) or type(value) is float else number
        raise ValueError(f"{name} must be {wanted[0]}, not {given}")
    return number


def _ge(a: float | None, b: float | None) -> bool:
    return a is None or b is None or a >= b


def _gt(a: float | None, b: float | None) -> bool:
    return a is None or b is None or a > b


@lru_cache
def _normal(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest normal number."""
    return float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)


def held(owner: str, settings: Mapping[str, Any], dtype: np.dtype[Any]) -> None:
    """Refuse numbers that would be others in a dtype, or turn off what they are for.

    Denormals count as zero in the kernels, and what is beyond the range is infinite there. Zero
    itself passes: whether it makes sense was asked when the settings were made.
    """
    least, most = _normal(dtype)
    for name, value in settings.items():
        if isinstance(value, float) and value != 0 and not least <= abs(value) <= most:
            raise ValueError(
                f"{owner}: {name}={value!r} is too {'small' if abs(value) < least else 'large'} "
                f"for {dtype}, whose normal numbers go from {least:.3g} to {most:.3g}"
            )
