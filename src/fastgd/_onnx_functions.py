"""Operators of ONNX as functions of one number, and the activation that such a function is.

A function is known by its values at some thousand places; how it was written does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from . import activations, reference
from ._validate import Array
from .activations import Activation

__all__ = ["FUNCTIONS", "PROBES", "TOLERANCE", "nearest_activation", "shortest"]


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array, approximate: bytes = b"none") -> Array:
    if approximate == b"tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x * math.sqrt(0.5)))


def _clip(
    x: Array,
    low: float | None = None,
    high: float | None = None,
    min: float = -math.inf,
    max: float = math.inf,
) -> Array:
    return np.minimum(np.maximum(x, min if low is None else low), max if high is None else high)


def _elu(x: Array, alpha: float = 1.0, gamma: float = 1.0) -> Array:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _divide(x: Array, y: Array) -> Array:
    is_whole = np.asarray(x).dtype.kind in "iu" and np.asarray(y).dtype.kind in "iu"
    return np.asarray(np.trunc(x / y).astype(np.int64) if is_whole else x / y)


def _reduced(function: Any) -> Callable[..., Array]:
    return lambda *operands: reduce(function, operands)


# Operators as functions of their inputs and attributes
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "And": np.logical_and,
    "Celu": lambda x, alpha=1.0: np.maximum(x, 0) + np.minimum(alpha * np.expm1(x / alpha), 0),
    "Clip": _clip,
    "Div": _divide,
    "Elu": _elu,
    "Equal": np.equal,
    "Erf": _erf,
    "Exp": np.exp,
    "Gelu": _gelu,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, alpha=0.01: np.where(x > 0, x, alpha * x),
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Log": np.log,
    "Max": _reduced(np.maximum),
    "Min": _reduced(np.minimum),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Or": np.logical_or,
    "PRelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "Pow": np.power,
    "Reciprocal": lambda x: 1 / x,
    "Relu": lambda x: np.maximum(x, 0),
    "Selu": lambda x, alpha=reference.SELU_ALPHA, gamma=reference.SELU_SCALE: _elu(x, alpha, gamma),
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Sum": _reduced(np.add),
    "Swish": lambda x, alpha=1.0: x * _sigmoid(alpha * x),
    "Tanh": np.tanh,
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
    "Where": np.where,
}

# Where a function is compared with the activations, by fortieths first, among which is -1.
_LARGE = np.geomspace(1e-8, 80, 60)
_NEAR = np.concatenate([np.arange(-480, 481) / 40, _LARGE, -_LARGE])
# Here a spelling that overflows is excused.
_FAR = np.array([-1e6, -1e4, -1e3, -1e2, 1e2, 1e3, 1e4, 1e6])
PROBES = np.concatenate([_NEAR, _FAR])
TOLERANCE = 1e-6


def _distance(found: Array, expected: Array) -> float:
    """Return the largest difference, of the value or of 1; inf where a value is missing."""
    difference = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    difference[found == expected] = 0
    difference[~np.isfinite(difference)] = np.inf
    excused = (np.arange(len(found)) >= len(_NEAR)) & ~np.isfinite(found)
    return float(difference[~excused].max())


def _candidates(found: Array) -> list[Activation]:
    """Return the activations that values at the probes may belong to."""
    at = {float(w): float(f) for w, f in zip(PROBES, found, strict=True)}
    candidates = [
        activations.get(name)
        for name in activations.NAMES
        if name not in ("softmax", "leaky_relu", "elu")
    ]
    slope, depth = -at[-1.0], -at[-1e6]
    # Zero is relu's, and so are the slopes that float32 cannot hold, whatever the model's dtype.
    least = float(np.finfo(np.float32).tiny)
    if math.isfinite(slope) and slope >= least:
        candidates.append(activations.LeakyReLU(shortest(slope)))
    if math.isfinite(depth) and depth >= least:
        candidates.append(activations.ELU(shortest(depth)))
    return candidates


def shortest(value: float) -> float:
    """Return 0.01 for float32(0.01), as attributes and single precision hold it."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(str(single)) if float(single) == value else value


def nearest_activation(found: Array) -> tuple[float, Activation]:
    """Return how far values at the probes are from the nearest activation, and that one."""
    pairs = ((_distance(found, _values(one)), one) for one in _candidates(found))
    return min(pairs, key=lambda pair: pair[0])


@lru_cache(maxsize=64)
def _values(activation: Activation) -> Array:
    return reference.activation(activation, PROBES[:, None])[:, 0]
