"""Measure the errors of the compiled activations, and put the table into the page about numerics.

python tools/ulp_table.py           # write docs/kernels-and-numerics.md, between its two markers
python tools/ulp_table.py --quick   # print the table of a hundredth of the points

Exact values come from mpmath at 40 digits, for float32 from fastgd.reference in float64, whose own
error is nothing beside float32's. Says nothing about NaN and infinities: the tests do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from marked import updated

from fastgd import activations, active_isa, kernels, reference

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kernels-and-numerics.md"
POINTS = {"float32": 4_000_000, "float64": 20_000}
# exp is 0 below about these, denormal results included, and infinite from 89 and 710 on.
LIMITS = {"float32": 104.0, "float64": 745.0}


def arguments(dtype: str, n: int) -> np.ndarray:
    """Return arguments from -8 to 8, within the limits, and of sizes 2^-40 to 8, a third each."""
    rng = np.random.default_rng(0)
    third, sign = n // 3, rng.choice([-1.0, 1.0], n - 2 * (n // 3))
    parts = [
        rng.uniform(-8, 8, third),
        rng.uniform(-LIMITS[dtype], LIMITS[dtype], third),
        sign * np.exp2(rng.uniform(-40, 3, len(sign))),
    ]
    return np.concatenate(parts).astype(dtype)


def _density(z: Any) -> Any:
    return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)


def _normal(z: Any) -> Any:
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + mpmath.exp(-z))


def _mish_slope(z: Any) -> Any:
    t = mpmath.tanh(mpmath.log1p(mpmath.exp(z)))
    return t + z * _sigmoid(z) * (1 - t * t)


def _selu(z: Any) -> Any:
    scale, alpha = reference.SELU_SCALE, reference.SELU_ALPHA
    return scale * z if z > 0 else mpmath.mpf(scale * alpha) * mpmath.expm1(z)


def bounds() -> dict[str, list[tuple[float, bool]]]:
    """Return the bounds that tests/c/test_math.c has for value and slope, and if by ULP."""
    source = (ROOT / "tests" / "c" / "test_math.c").read_text(encoding="utf-8")
    rows = re.findall(
        r'\{FGD_ACT_\w+, "(\w+)", ([\d.]+), (ULP|UNITS), ([\d.]+), (ULP|UNITS), \d\}', source
    )
    return {
        name: [(float(value), kind == "ULP"), (float(slope), slope_kind == "ULP")]
        for name, value, kind, slope, slope_kind in rows
    }


# name -> (value from z, slope from what Activation.consumes names)
EXACT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (lambda z: max(z, 0), lambda a: 1 if a > 0 else 0),
    "leaky_relu": (lambda z: z if z > 0 else 0.01 * z, lambda a: 1 if a > 0 else 0.01),
    "elu": (lambda z: z if z > 0 else mpmath.expm1(z), lambda a: 1 if a > 0 else a + 1),
    "selu": (
        _selu,
        lambda a: (
            reference.SELU_SCALE
            if a > 0
            else a + mpmath.mpf(reference.SELU_SCALE * reference.SELU_ALPHA)
        ),
    ),
    "gelu": (lambda z: z * _normal(z), lambda z: _normal(z) + z * _density(z)),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "mish": (lambda z: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))), _mish_slope),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), _sigmoid),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    "tanh": (mpmath.tanh, lambda a: 1 - a * a),
    "sigmoid": (_sigmoid, lambda a: a * (1 - a)),
    "hard_sigmoid": (
        lambda z: min(max(z + 3, 0), 6) / mpmath.mpf(6),
        lambda z: 1 / mpmath.mpf(6) if abs(z) < 3 else 0,
    ),
    "exp": (mpmath.exp, lambda a: a),
}


def exact_of_float32(act: activations.Activation, slope: bool, x: np.ndarray) -> np.ndarray:
    """Return a value or slope in float64, constants and parameters as float32 has them."""
    if act.name == "selu":
        scale = float(np.float32(reference.SELU_SCALE))
        product = float(np.float32(reference.SELU_SCALE * reference.SELU_ALPHA))
        if slope:
            return np.where(x > 0, scale, x + product)
        return np.where(x > 0, scale * x, product * np.expm1(np.minimum(x, 0)))
    if slope:
        return reference.activation_grad(act, np.ones_like(x), z=x, a=x)
    return reference.activation(act, x)


def error_in_ulp(
    got: np.ndarray, exact: list[Any] | np.ndarray, relative: bool
) -> tuple[float, int]:
    """Return the largest error, in ULP of the exact result or of numbers just below 1, and where.

    An exact result below the smallest normal number may be 0.
    """
    info = np.finfo(got.dtype)
    rounded = np.array([float(e) for e in exact]) if isinstance(exact, list) else exact
    if isinstance(exact, list):
        error = np.array([abs(float(g) - e) for g, e in zip(got.tolist(), exact, strict=True)])
        error = error.astype(np.float64)
    else:
        error = np.abs(got.astype(np.float64) - exact)
    error[(np.abs(rounded) < info.tiny) & (np.abs(got) < 2 * info.tiny)] = 0
    error[np.abs(rounded) > info.max] = 0
    size = np.maximum(np.abs(rounded), float(info.tiny))
    unit = np.exp2(np.floor(np.log2(size))) * float(info.eps) if relative else float(info.eps) / 2
    ulps = error / unit
    at = int(np.argmax(ulps))
    return float(ulps[at]), at


def measure(name: str, dtype: str, n: int, relative: list[bool]) -> list[tuple[float, float]]:
    """Return the worst error of value and of slope, and where it is."""
    z = arguments(dtype, n)
    made = activations.get(name)
    # A parameter counts as it is rounded to the dtype.
    act = type(made)(float(z.dtype.type(made.param))) if vars(made) else made
    a = kernels.activation(act, z)
    slope = kernels.activation_grad(act, np.ones_like(z), z=z, a=a)
    found = []
    for what, (got, x) in enumerate(((a, z), (slope, z if act.consumes == "z" else a))):
        keep = np.isfinite(x)
        got, x = got[keep], x[keep].astype(np.float64)
        exact: list[Any] | np.ndarray
        if dtype == "float64":
            with mpmath.workdps(40):
                exact = [EXACT[name][what](mpmath.mpf(value)) for value in x.tolist()]
                worst, at = error_in_ulp(got, exact, relative[what])
        else:
            exact = exact_of_float32(act, what == 1, x)
            worst, at = error_in_ulp(got, exact, relative[what])
        found.append((worst, float(x[at])))
    return found


def table(share: int = 1) -> str:
    """Lay out the errors of a share of the points as Markdown."""
    lines = [
        f"Largest errors among {POINTS['float32'] // share:,} arguments in float32 and "
        f"{POINTS['float64'] // share:,} in float64, measured with {active_isa()}.",
        "",
        "| activation | of | unit | float32 | float64 | bound |",
        "|---|---|---|---:|---:|---:|",
    ]
    for name, allowed in bounds().items():
        if name not in EXACT:
            continue
        kinds = [kind for _, kind in allowed]
        errors = [measure(name, dtype, n // share, kinds) for dtype, n in POINTS.items()]
        for what, (bound, is_relative) in zip(("value", "slope"), allowed, strict=True):
            cells = []
            for of_dtype in errors:
                error, at = of_dtype[what == "slope"]
                if error > bound + 1e-6:
                    raise AssertionError(f"{what} of {name} at {at!r}: {error} ULP, not {bound}")
                cells.append(f"{error:.2f}")
            unit = "ULP" if is_relative else "ULP of 1"
            lines.append(f"| {name} | {what} | {unit} | {' | '.join(cells)} | {bound:g} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    if "--quick" in argv:
        print(table(share=100))
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(updated(page, "errors", "ulp_table", table()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
