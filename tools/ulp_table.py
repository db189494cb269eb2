"""Put the errors that tools/sweep.py has found into the page about numerics.

python tools/ulp_table.py           # write docs/kernels-and-numerics.md, between its two markers
python tools/ulp_table.py --print   # print the table

Each error is computed again, at the input where it is, by the kernels of this build and by mpmath
at 40 digits: one that the file does not have is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import sweep
from marked import updated

from fastgd import activations, kernels, reference

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kernels-and-numerics.md"
# Parameters of tests/c/exact.h; with alpha 1 elu would round once less.
LEAKY_ALPHA, ELU_ALPHA = float(np.float32(0.01)), 0.75


def _density(z: Any) -> Any:
    return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)


def _normal(z: Any) -> Any:
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + mpmath.exp(-z))


def _mish_slope(z: Any) -> Any:
    t = mpmath.tanh(mpmath.log1p(mpmath.exp(z)))
    return t + z * _sigmoid(z) * (1 - t * t)


def _selu_constants(dtype: str) -> tuple[Any, Any]:
    """Return scale and scale * alpha as the dtype has them."""
    round_ = np.dtype(dtype).type
    scale, alpha = reference.SELU_SCALE, reference.SELU_ALPHA
    return mpmath.mpf(float(round_(scale))), mpmath.mpf(float(round_(scale * alpha)))


def _selu(z: Any, dtype: str) -> Any:
    scale, product = _selu_constants(dtype)
    return scale * z if z > 0 else product * mpmath.expm1(z)


def _selu_slope(a: Any, dtype: str) -> Any:
    scale, product = _selu_constants(dtype)
    return scale if a > 0 else a + product


# name -> (value from z and the dtype, slope from what Activation.consumes names)
EXACT: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any, str], Any]]] = {
    "relu": (lambda z, _: max(z, 0), lambda a, _: 1 if a > 0 else 0),
    "leaky_relu": (
        lambda z, _: z if z > 0 else LEAKY_ALPHA * z,
        lambda a, _: 1 if a > 0 else LEAKY_ALPHA,
    ),
    "elu": (
        lambda z, _: z if z > 0 else ELU_ALPHA * mpmath.expm1(z),
        lambda a, _: 1 if a > 0 else a + ELU_ALPHA,
    ),
    "selu": (_selu, _selu_slope),
    "gelu": (lambda z, _: z * _normal(z), lambda z, _: _normal(z) + z * _density(z)),
    "silu": (lambda z, _: z * _sigmoid(z), lambda z, _: _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "mish": (
        lambda z, _: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
        lambda z, _: _mish_slope(z),
    ),
    "softplus": (lambda z, _: mpmath.log1p(mpmath.exp(z)), lambda z, _: _sigmoid(z)),
    "softsign": (lambda z, _: z / (1 + abs(z)), lambda z, _: 1 / (1 + abs(z)) ** 2),
    "tanh": (lambda z, _: mpmath.tanh(z), lambda a, _: 1 - a * a),
    "sigmoid": (lambda z, _: _sigmoid(z), lambda a, _: a * (1 - a)),
    "hard_sigmoid": (
        lambda z, _: min(max(z + 3, 0), 6) / mpmath.mpf(6),
        lambda z, _: 1 / mpmath.mpf(6) if abs(z) < 3 else mpmath.mpf(0),
    ),
    "exp": (lambda z, _: mpmath.exp(z), lambda a, _: a),
}


def activation(name: str) -> Any:
    """Return the activation with the parameter that it was swept with."""
    own = {"leaky_relu": activations.LeakyReLU(LEAKY_ALPHA), "elu": activations.ELU(ELU_ALPHA)}
    return own.get(name, activations.get(name))


def error_at(name: str, what: str, dtype: str, x: float, is_relative: bool) -> float:
    """Return the error of the kernels at x, in ULP of the exact result or of numbers below 1."""
    act, given = activation(name), np.array([x], dtype)
    if what == "value":
        got = kernels.activation(act, given)
    else:
        got = kernels.activation_grad(act, np.ones_like(given), z=given, a=given)
    info = np.finfo(dtype)
    with mpmath.workdps(40):
        exact = mpmath.mpf(EXACT[name][what == "slope"](mpmath.mpf(x), dtype))
        if abs(exact) < info.tiny and abs(got[0]) < 2 * info.tiny:
            return 0.0
        unit = mpmath.mpf(float(info.eps)) / 2
        if is_relative:
            size = max(abs(exact), mpmath.mpf(float(info.tiny)))
            unit = mpmath.ldexp(float(info.eps), mpmath.frexp(size)[1] - 1)
        return float(abs(mpmath.mpf(float(got[0])) - exact) / unit)


def table() -> str:
    """Lay out the errors of the sweep as Markdown, each computed anew where it is."""
    kept = sweep.read()
    one = kept["float32 tanh value"]
    lines = [
        f"The largest errors of {sweep.COUNTS['float32']:,} inputs in float32, which are all "
        f"there are, and of {sweep.COUNTS['float64']:,} random ones in float64; instruction sets "
        f"{', '.join(one['isas'])} gave the same bits for each. "
        f"On {one['machine']}, {one['when']}.",
        "",
        "| activation | of | unit | float32 | at | float64 | at | bound |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    fewer: dict[str, int] = {}  # dtype -> the fewest inputs of a function that was not swept whole
    for name in EXACT:
        for what in ("value", "slope"):
            cells = []
            for dtype in sweep.COUNTS:
                found = kept[f"{dtype} {name} {what}"]
                x, worst = float.fromhex(found["at"]), found["worst"]
                again = error_at(name, what, dtype, x, found["unit"] == "ULP")
                if abs(again - worst) > 0.01:
                    raise AssertionError(
                        f"{what} of {name} in {dtype} at {x!r} errs by {again:.3f} "
                        f"{found['unit']}, not by {worst:.3f} as {sweep.RECORD.name} has it"
                    )
                mark = ""
                if found["inputs"] < sweep.COUNTS[dtype]:
                    mark, fewer[dtype] = " *", min(found["inputs"], fewer.get(dtype, 1 << 32))
                cells += [f"{worst:.3f}{mark}", f"{x:.9g}"]
            lines.append(
                f"| {name} | {what} | {found['unit']} | {' | '.join(cells)} | {found['bound']:g} |"
            )
    if fewer:
        counts = ", ".join(f"{n:,} in {dtype}" for dtype, n in fewer.items())
        lines += ["", f"\\* Of fewer inputs, spread as the others: {counts}."]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    if "--print" in argv:
        print(table())
        return
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(updated(page, "errors", "ulp_table", table()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
