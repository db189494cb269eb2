"""Repeat one compiled operation in float64 NumPy and hold its result to a forward error bound.

The reference starts from the operation's own inputs, so errors of earlier operations do not count.
Bounds follow from the order of roundings that the kernels promise, never from measured errors.
Work goes in tiles whose temporary arrays stay below 8 MB together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _kernels, activations, reference
from ._errors import ValidationError
from ._validate_arrays import Array

__all__ = ["Comparison", "measure", "verify"]

# A tile of a product: rows, columns, and how many terms of its sums at a time.
_ROWS, _COLUMNS, _TERMS = 128, 256, 512
_ELEMENTS = _ROWS * _COLUMNS

# How many roundings (of epsilon / 2 each) the errors of the kernels' activations may add up to:
# (of the value, relative, of the slope, relative); not relative means in units of 1, where the
# result crosses zero.  Counted along the formulas of csrc/template/activations.h with exp good to
# 2.5 roundings, log and log1p to 3, expm1 to 5 and the tail of the normal distribution to 6, for
# any order of evaluating their polynomials.  tests/c/test_math.c holds the C core to sharper ones.
_EXP = 2.5
_ROUNDINGS = {
    "identity": (0.0, True, 0.0, True),
    "relu": (0.0, True, 0.0, True),
    "leaky_relu": (1.0, True, 0.0, True),
    "elu": (6.0, True, 1.0, True),
    "selu": (7.0, True, 2.0, False),
    "gelu": (12.0, True, 6.0, False),
    "silu": (6.0, True, 9.0, False),
    "mish": (8.0, True, 14.0, False),
    "softplus": (7.0, True, 5.0, True),
    "softsign": (2.0, True, 4.0, True),
    "tanh": (7.0, True, 2.0, True),
    "sigmoid": (5.0, True, 2.0, True),
    "hard_sigmoid": (2.0, False, 1.0, True),
    "exp": (_EXP, True, 0.0, True),
}


class _Arithmetic:
    """The roundings of a dtype.

    The reference itself errs by less than one rounding in float32, which is nothing; in float64 it
    errs as the kernels do, so that every unit counts twice there.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        info = np.finfo(dtype)
        self.dtype = dtype
        self.u = float(info.eps) / 2 * (2 if dtype == np.float64 else 1)
        self.eps = float(info.eps)
        self.tiny = float(info.tiny)
        self.max = float(info.max)

    def gamma(self, k: float) -> float:
        """Return the bound k u / (1 - k u) on the relative error of k roundings in a row."""
        return k * self.u / (1 - k * self.u)

    def load(self, x: Array) -> Array:
        """Return a new float64 array; what is below the smallest normal number counts as 0."""
        x = x.astype(np.float64)
        x[np.abs(x) < self.tiny] = 0
        return x

    def rounded(self, x: float) -> float:
        """Return a number as the kernels hold it."""
        return float(self.dtype.type(x))


@dataclass
class Comparison:
    """One output of an operation beside the reference.

    Attributes
    ----------
    array : str
        Its name.
    share : float
        The largest error as a share of its bound; above 1 is wrong.
    index : tuple of int
        Where that is.
    got, expected, bound : float
        There: what was computed, what the reference gives, how far apart they may be.
    """

    array: str
    share: float = 0.0
    index: tuple[int, ...] = ()
    got: float = 0.0
    expected: float = 0.0
    bound: float = 0.0

    def add(
        self,
        arithmetic: _Arithmetic,
        got: Array,
        expected: Array,
        bound: Array | float,
        origin: tuple[int, ...],
        magnitude: Array | None = None,
    ) -> None:
        """Take in a tile; where the magnitude leaves the dtype's range, inf and NaN may stand."""
        got = got.astype(np.float64)
        bound = np.broadcast_to(bound, got.shape)
        error = np.abs(got - expected)
        share = np.where(error > 0, error / bound, 0.0)
        wild = ~np.isfinite(got) | ~np.isfinite(error)
        if wild.any():
            reach = np.abs(expected) + bound
            if magnitude is not None:
                reach = np.maximum(reach, magnitude)
            same = (got == expected) | (np.isnan(got) & np.isnan(expected))
            overflowed = ~(reach <= arithmetic.max) & (magnitude is not None)
            overflowed |= (
                np.isinf(got) & (np.sign(got) == np.sign(expected)) & ~(reach <= arithmetic.max)
            )
            share[wild] = np.where(same | overflowed, 0.0, np.inf)[wild]
        at = np.unravel_index(int(np.argmax(share)), share.shape)
        if self.index == () or share[at] > self.share:
            self.share = float(share[at])
            self.index = tuple(int(i) + o for i, o in zip(at, origin, strict=True))
            self.got, self.expected = float(got[at]), float(expected[at])
            self.bound = float(bound[at])


# ---- tiles -------------------------------------------------------------------------------------


def _blocks(n: int, size: int) -> Iterator[slice]:
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


def _row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield blocks of whole rows of some _ELEMENTS elements; at least one row each."""
    return _blocks(shape[0], max(1, _ELEMENTS // max(1, shape[1])))


def _product(
    arithmetic: _Arithmetic, A: Array, B: Array, start: Array | None = None
) -> Iterator[tuple[tuple[slice, slice], Array, Array]]:
    """Yield tiles (where, value, magnitude) of start + A B and |start| + |A| |B|, in float64."""
    for i in _blocks(A.shape[0], _ROWS):
        for j in _blocks(B.shape[1], _COLUMNS):
            first = np.zeros(B.shape[1] if start is None else 0)[j] if start is None else start[j]
            value = np.repeat(arithmetic.load(first)[None], i.stop - i.start, axis=0)
            magnitude = np.abs(value)
            for k in _blocks(A.shape[1], _TERMS):
                a, b = arithmetic.load(A[i, k]), arithmetic.load(B[k, j])
                value += a @ b
                np.abs(a, out=a)
                np.abs(b, out=b)
                magnitude += a @ b
                del a, b
            yield (i, j), value, magnitude


def _chain_error(arithmetic: _Arithmetic, roundings: int, terms: int, magnitude: Array) -> Array:
    # Each step may also lose a result below the smallest normal number.
    return arithmetic.gamma(roundings) * magnitude + (terms + 1) * arithmetic.tiny


def _sum_roundings(fan_in: int, fan_out: int) -> int:
    """Return how many roundings a term of a forward sum meets at most; see reference.forward."""
    return min(fan_in, -(-fan_in // 16) + 4) + 1 if fan_out <= 4 else fan_in + 1


# ---- activations -------------------------------------------------------------------------------


def _activation(name: str, param: float, arithmetic: _Arithmetic) -> activations.Activation:
    act = activations.get(name)
    if vars(act):  # its one setting is the parameter
        return type(act)(arithmetic.rounded(param))  # type: ignore[call-arg]
    return act


def _softmax_spread(arithmetic: _Arithmetic, z: Array, a: Array) -> tuple[Array, Array]:
    """Return bounds on the relative errors of the exponentials and of their sum."""
    # The difference to the maximum is rounded, and the rounding becomes relative.
    distance = z.max(axis=1, keepdims=True) - z
    of_exp = arithmetic.u * (distance + _EXP)
    weighted = np.where(a > 0, of_exp * a, 0.0).sum(axis=1, keepdims=True)
    return of_exp, weighted + arithmetic.u * z.shape[1]


def _activation_bound(
    arithmetic: _Arithmetic, act: activations.Activation, z: Array
) -> tuple[Array, Array]:
    """Return a = f(z) and how far a kernel's may be from it."""
    a = reference.activation(act, z)
    if act.name == "softmax":
        of_exp, of_sum = _softmax_spread(arithmetic, z, a)
        bound = a * (of_exp + of_sum + 2 * arithmetic.u)
        return a, np.where(np.isnan(a), 0.0, bound) + 2 * arithmetic.tiny
    roundings, relative, _, _ = _ROUNDINGS[act.name]
    bound = roundings * arithmetic.u * (np.abs(a) if relative else np.ones_like(a))
    return a, bound + (2 * arithmetic.tiny if roundings else 0.0)


def _slope_bound(
    arithmetic: _Arithmetic,
    act: activations.Activation,
    da: Array,
    da_error: Array | float,
    x: Array | None,
) -> tuple[Array, Array]:
    """Return da * f'(x) and its bound, da being known up to an error."""
    if act.name == "identity" or x is None:
        return da, da_error + np.zeros_like(da)
    consumed: dict[str, Any] = {act.consumes: x}
    dz = reference.activation_grad(act, da, **consumed)
    if act.name == "softmax":
        terms = np.abs(da * x)
        spread = np.abs(da) + terms.sum(axis=1, keepdims=True)
        shared = np.sum(da_error * x + np.zeros_like(x), axis=1, keepdims=True)
        bound = np.abs(x) * (da_error + shared + arithmetic.gamma(da.shape[1] + 3) * spread)
        return dz, bound + (da.shape[1] + 2) * arithmetic.tiny
    slope = reference.activation_grad(act, np.ones_like(da), **consumed)
    _, _, roundings, relative = _ROUNDINGS[act.name]
    of_slope = roundings * arithmetic.u * (np.abs(slope) if relative else 1.0)
    bound = (np.abs(da) + da_error) * of_slope + da_error * np.abs(slope)
    bound += arithmetic.u * (np.abs(dz) + bound)
    return dz, bound + (1 + np.abs(da)) * arithmetic.tiny


def _measure_activation(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    z, a = inputs["z"], outputs["a"]
    arithmetic = _Arithmetic(a.dtype)
    act = _activation(inputs["activation"], inputs["param"], arithmetic)
    result = Comparison("a")
    for rows in _row_blocks(z.shape):
        expected, bound = _activation_bound(arithmetic, act, arithmetic.load(z[rows]))
        result.add(arithmetic, a[rows], expected, bound, (rows.start, 0))
    return [result]


def _measure_activation_grad(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> list[Comparison]:
    da, x, dz = inputs["da"], inputs["x"], outputs["dz"]
    arithmetic = _Arithmetic(dz.dtype)
    act = _activation(inputs["activation"], inputs["param"], arithmetic)
    result = Comparison("dz")
    for rows in _row_blocks(da.shape):
        upstream, consumed = arithmetic.load(da[rows]), arithmetic.load(x[rows])
        expected, bound = _slope_bound(arithmetic, act, upstream, 0.0, consumed)
        result.add(arithmetic, dz[rows], expected, bound, (rows.start, 0))
    return [result]


# ---- layers ------------------------------------------------------------------------------------


def _measure_forward(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    X, W, z = inputs["X"], inputs["W"], outputs["z"]
    arithmetic = _Arithmetic(z.dtype)
    fan_in, fan_out = W.shape
    roundings = _sum_roundings(fan_in, fan_out)
    result = Comparison("z")
    for (i, j), value, magnitude in _product(arithmetic, X, W, inputs["b"]):
        bound = _chain_error(arithmetic, roundings, fan_in, magnitude)
        result.add(arithmetic, z[i, j], value, bound, (i.start, j.start), magnitude)
    return [result, *_measure_activation({**inputs, "z": z}, outputs)]


def _measure_backward(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    delta, W, x, mask = inputs["delta"], inputs["W"], inputs["x"], inputs["mask"]
    got = outputs["delta"]
    arithmetic = _Arithmetic(got.dtype)
    act = _activation(inputs["activation"], inputs["param"], arithmetic)
    roundings = W.shape[1] + (1 if mask is None else 2)
    result = Comparison("delta")
    for (i, j), da, magnitude in _product(arithmetic, delta, W.T):
        reach = magnitude  # a sum that overflows does so before it is dropped
        if mask is not None:
            factor = mask[i, j].astype(np.float64)
            da, magnitude = da * factor, magnitude * factor
            reach = np.maximum(reach, magnitude)
        error = _chain_error(arithmetic, roundings, W.shape[1], magnitude)
        consumed = None if x is None else arithmetic.load(x[i, j])
        expected, bound = _slope_bound(arithmetic, act, da, error, consumed)
        result.add(arithmetic, got[i, j], expected, bound, (i.start, j.start), reach)
    return [result]


def _sample_sums(arithmetic: _Arithmetic, delta: Array) -> tuple[Array, Array]:
    """Return sum over samples of delta, and of |delta|."""
    total, magnitude = np.zeros(delta.shape[1]), np.zeros(delta.shape[1])
    for rows in _row_blocks(delta.shape):
        block = arithmetic.load(delta[rows])
        total += block.sum(axis=0)
        magnitude += np.abs(block).sum(axis=0)
    return total, magnitude


def _measure_weight_grad(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    A_prev, delta, dW, db = inputs["A_prev"], inputs["delta"], outputs["dW"], outputs["db"]
    arithmetic = _Arithmetic(dW.dtype)
    n, first_row = len(delta), inputs.get("first_row", 0)
    weights, bias = Comparison("dW"), Comparison("db")
    for (i, j), value, magnitude in _product(arithmetic, A_prev.T, delta):
        bound = _chain_error(arithmetic, n, n, magnitude)
        origin = first_row + i.start, j.start
        weights.add(arithmetic, dW[i, j], value, bound, origin, magnitude)
    if db is None:
        return [weights]
    total, magnitude = _sample_sums(arithmetic, delta)
    bound = _chain_error(arithmetic, n, n, magnitude)
    bias.add(arithmetic, db, total, bound, (0,), magnitude)
    return [weights, bias]


def _measure_dropout(
    layer: int | None, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> list[Comparison]:
    a, p = inputs["a"], inputs["p"]
    arithmetic = _Arithmetic(a.dtype)
    seed, step = inputs["seed"], inputs["step"]
    mask, product = Comparison("mask"), Comparison("a")
    for i in _blocks(a.shape[0], _ROWS):  # a multiple of 4, as the generator wants
        for j in _blocks(a.shape[1], _COLUMNS):
            rows, columns = range(i.start, i.stop), range(j.start, j.stop)
            factor = reference._dropout_block(rows, columns, p, seed, step, layer or 0)
            factor = factor.astype(a.dtype)
            origin = i.start, j.start
            mask.add(arithmetic, outputs["mask"][i, j], factor.astype(np.float64), 0.0, origin)
            dropped = (a[i, j] * factor).astype(np.float64)
            product.add(arithmetic, outputs["a"][i, j], dropped, arithmetic.tiny, origin)
    return [mask, product]


# ---- losses ------------------------------------------------------------------------------------


def _loss_bound(
    arithmetic: _Arithmetic, kind: str, param: float, output: str, z: Array, a: Array, y: Array
) -> tuple[Array, Array, Array, Array, bool]:
    """Return the terms of the losses and their bounds, slopes and theirs, and whether by z.

    The constants count the roundings in the formulas of csrc/template/losses.h, as _ROUNDINGS does.
    """
    u, tiny = arithmetic.u, arithmetic.tiny
    act = activations.get(output)
    terms, slope, by_z = reference._loss_terms(kind, param, act, z, a, y)
    size = np.abs(terms)
    if kind in ("squared_error", "absolute_error"):
        # The sign of an error below the smallest normal number is lost.
        lost = (np.abs(a - y) < tiny) if kind == "absolute_error" else 0.0
        return terms, 3 * u * size, slope, u * np.abs(slope) + lost, by_z
    if kind == "huber":
        of_term = 4 * u * np.abs(slope) * (np.abs(a - y) + np.abs(slope))
        return terms, of_term, slope, 2 * u * np.abs(slope), by_z
    if kind == "log_loss" and by_z:
        e = np.exp(-np.abs(z))
        of_term = u * (np.abs(np.maximum(z, 0) - y * z) + 6 * np.log1p(e) + size)
        of_slope = u * (5 * e / (1 + e) + (1 - y) + np.abs(slope))
        return terms, of_term, slope, of_slope, by_z
    if kind == "log_loss":
        of_term = u * (4 * np.abs(y * np.log(a)) + 7 * np.abs((1 - y) * np.log1p(-a)))
        return terms, of_term, slope, 5 * u * np.abs(slope), by_z
    if kind == "poisson" and by_z:
        return terms, u * (_EXP * a + size), slope, u * (_EXP * a + np.abs(slope)), by_z
    if kind == "poisson":
        p = np.maximum(a + param, tiny)
        adds = 1.0 if param > 0 else 0.0  # a rounding; relative, in a logarithm absolute
        of_term = u * (4 * np.abs(y * np.log(p)) + adds * y + size)
        return terms, of_term, slope, u * ((1 + adds) * y / p + np.abs(slope)), by_z
    # cross_entropy
    of_exp, of_sum = _softmax_spread(arithmetic, z, a)
    m = z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(z - m).sum(axis=1, keepdims=True))
    of_log = of_sum + 3 * u * np.abs(log_sum)
    if y.ndim == 1:
        of_term = of_log + u * ((np.abs(terms) + np.abs(log_sum)) + size)
        total: Array | float = 1.0
    else:
        of_term = y * (of_log + u * (m - z + np.abs(m - z + log_sum))) + u * size
        total = y.sum(axis=1, keepdims=True)
    scaled = a * total
    of_slope = scaled * (of_exp + of_sum + u * (z.shape[1] + 2)) + u * np.abs(slope)
    return terms, of_term, slope, of_slope, by_z


def _in_range(arithmetic: _Arithmetic, kind: str, param: float, output: str, a: Array) -> Array:
    """Hold outputs where the losses hold them, by the dtype's own limits."""
    if kind == "log_loss" and output != "sigmoid":
        return np.clip(a, arithmetic.eps, 1 - arithmetic.eps)
    if kind == "poisson" and output != "exp":
        # It is a + param that is held.
        return np.maximum(a, arithmetic.tiny - param)
    return a


def _measure_loss(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    z, a, delta = inputs["z"], inputs["a"], outputs["delta"]
    kind, output = inputs["kind"], inputs["activation"]
    arithmetic = _Arithmetic(delta.dtype)
    act = _activation(output, inputs["param"], arithmetic)
    loss_param = arithmetic.rounded(inputs["loss_param"])
    y = np.asarray(inputs["y"])
    labels = kind == "cross_entropy" and y.ndim == 1
    n, units = z.shape
    w = inputs["sample_weight"]
    w = np.ones(n) if w is None else arithmetic.load(np.asarray(w).astype(delta.dtype))
    # In the order of the contract, so that the coefficients are those of the kernel to the bit.
    total = reference.sum16(w)
    loss_sum = error_sum = size_sum = 0.0
    deltas = Comparison("delta")
    for rows in _row_blocks(z.shape):
        z64 = arithmetic.load(z[rows])
        a64 = _in_range(arithmetic, kind, loss_param, output, arithmetic.load(a[rows]))
        target = y[rows] if labels else arithmetic.load(y[rows].astype(delta.dtype))
        target = target if labels else target.reshape(z64.shape)
        if kind == "cross_entropy":
            a64 = reference.activation("softmax", z64)
        if kind == "poisson" and output == "exp":
            a64 = np.exp(z64)
        terms, of_term, slope, of_slope, by_z = _loss_bound(
            arithmetic, kind, loss_param, output, z64, a64, target
        )
        size = np.abs(terms).sum(axis=1)
        of_loss = of_term.sum(axis=1) + arithmetic.gamma(units) * size
        of_loss += 8 * units * arithmetic.tiny
        loss_sum += float(w[rows] @ terms.sum(axis=1))
        # scikit-learn allows weights below zero.
        error_sum += float(np.abs(w[rows]) @ of_loss)
        size_sum += float(np.abs(w[rows]) @ size)
        # The coefficient is rounded, and so is its product.
        divisor = 1.0 if inputs.get("is_sum") else total
        share = w[rows] / divisor if divisor != 0 else np.zeros_like(w[rows])
        c = inputs.get("scale", 1.0) * share[:, None]
        upstream = slope * c
        of_upstream = of_slope * np.abs(c)
        of_upstream = of_upstream + 2 * arithmetic.u * (np.abs(upstream) + of_upstream)
        of_upstream = of_upstream + 4 * arithmetic.tiny
        if by_z:
            expected, bound = upstream, of_upstream
        else:
            x = arithmetic.load((z if act.consumes == "z" else a)[rows])
            expected, bound = _slope_bound(arithmetic, act, upstream, of_upstream, x)
        deltas.add(arithmetic, delta[rows], expected, bound, (rows.start, 0))
    value = Comparison("value")
    # Samples that weigh nothing together have no mean: the engine gives 0.
    mean = total if total != 0 else np.inf
    summing = (n + 4) * 2.0**-52 * size_sum  # sums in double, here and there
    value.add(
        arithmetic,
        np.array([outputs["value"]]),
        np.array([loss_sum / mean]),
        np.array([(error_sum + summing) / abs(mean)]),
        (0,),
    )
    return [value, deltas]


# ---- updates -----------------------------------------------------------------------------------


class _Interval:
    """Bounds that hold for every order of rounding of a formula; the formula is the reference's.

    Each operation widens its result by one rounding and by the smallest normal number; a number
    beside an interval counts both as it is and rounded to the dtype.
    """

    def __init__(self, arithmetic: _Arithmetic, lo: Any, hi: Any) -> None:
        self.arithmetic, self.lo, self.hi = arithmetic, lo, hi

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any) -> Any:
        if method != "__call__" or args != (self,):
            return NotImplemented
        if ufunc is np.sqrt:
            return self._wide(np.sqrt(np.maximum(self.lo, 0)), np.sqrt(np.maximum(self.hi, 0)))
        if ufunc is np.sign:
            return _Interval(self.arithmetic, np.sign(self.lo), np.sign(self.hi))
        return NotImplemented

    def clip(self, least: float, most: float, **_: Any) -> _Interval:
        """Serve np.clip."""
        lo, hi = (sorted((x, self.arithmetic.rounded(x))) for x in (least, most))
        return _Interval(
            self.arithmetic, np.clip(self.lo, lo[0], hi[0]), np.clip(self.hi, lo[1], hi[1])
        )

    def _wide(self, lo: Array, hi: Array) -> _Interval:
        u, tiny = self.arithmetic.u, self.arithmetic.tiny
        return _Interval(
            self.arithmetic, lo - (u * np.abs(lo) + tiny), hi + (u * np.abs(hi) + tiny)
        )

    def _hull(self, *ends: Array) -> _Interval:
        return self._wide(np.minimum.reduce(ends), np.maximum.reduce(ends))

    def __add__(self, x: _Interval | float) -> _Interval:
        if isinstance(x, _Interval):
            return self._wide(self.lo + x.lo, self.hi + x.hi)
        if x == 0:
            return self
        lo, hi = sorted((x, self.arithmetic.rounded(x)))
        return self._wide(self.lo + lo, self.hi + hi)

    def __sub__(self, x: _Interval | float) -> _Interval:
        if not isinstance(x, _Interval):
            return self + -x
        return self._wide(self.lo - x.hi, self.hi - x.lo)

    def __mul__(self, x: _Interval | float) -> Any:
        if isinstance(x, _Interval):
            if x is not self:
                return self._hull(self.lo * x.lo, self.lo * x.hi, self.hi * x.lo, self.hi * x.hi)
            a, b = self.lo * self.lo, self.hi * self.hi  # a square is not negative
            least = np.where((self.lo < 0) & (self.hi > 0), 0.0, np.minimum(a, b))
            return self._wide(least, np.maximum(a, b))
        if x == 0:
            return 0.0
        if x == 1:
            return self
        y = self.arithmetic.rounded(x)
        return self._hull(*(end * c for c in {x, y} for end in (self.lo, self.hi)))

    def __truediv__(self, x: _Interval) -> _Interval:
        # Denominators are root + eps >= eps, which is at least the smallest normal number.
        lo = np.maximum(x.lo, self.arithmetic.tiny / 2)
        hi = np.maximum(x.hi, lo)
        return self._hull(self.lo / lo, self.lo / hi, self.hi / lo, self.hi / hi)

    __radd__ = __add__
    __rmul__ = __mul__


def _array_params(inputs: Mapping[str, Any], which: int) -> dict[str, Any] | None:
    """Return the parameters of the step of W (0) or b (1); None for an array that is frozen.

    Among them "step", counted from 0.
    """
    optimizer, step, given = inputs["optimizer"], inputs["step"], dict(inputs["params"])
    own = inputs.get("own")
    if own is None:
        given["lr"] = inputs["lr"]
    elif own[which] is None:
        return None
    else:
        given |= own[which]
        step += given.get("ahead", 0)
    params = {"norm_scale": 1.0} | reference._DEFAULTS[optimizer] | given
    return reference._counted(params, step)


def _measure_array_update(
    arithmetic: _Arithmetic,
    optimizer: str,
    params: dict[str, Any] | None,
    penalties: tuple[float, float],
    gradient: tuple[Array, Array, Array],
    before: list[Array],
    after: list[tuple[Comparison, Array]],
    origin: tuple[int, ...],
) -> None:
    """Compare one tile of an array and its states; gradient is (value, error, magnitude)."""
    if params is None:
        for (comparison, got), old in zip(after, before, strict=True):
            comparison.add(arithmetic, got, old.astype(np.float64), 0.0, origin)
        return
    value, error, reach = gradient
    g = _Interval(arithmetic, value - error, value + error)
    w, *states = (_Interval(arithmetic, x, x) for x in map(arithmetic.load, before))
    g = reference._finished_grad(g, w, params, *penalties)
    scale = params["norm_scale"]
    if scale != 1:
        # The norm is a sum over all weights in double, in chains of up to some thousands.
        slack = 1e-12 * scale
        # Of gradients near the largest number it may be denormal in the dtype, and count as zero.
        least = scale - slack if scale > arithmetic.tiny else 0.0
        g = g * _Interval(arithmetic, np.float64(least), np.float64(scale + slack))
    new_w, new_states = reference._new_values(
        optimizer,
        w,
        g,
        states,
        params["step"] + 1,
        params,
    )
    results = [new_w, *new_states]
    magnitudes = [np.maximum(np.abs(new.lo), np.abs(new.hi)) for new in results]
    # A weight keeps its value, and its states theirs, where one of them would overflow.
    greatest = np.maximum.reduce(magnitudes)
    if params.get("nesterov"):
        # So does it where its step overflows, the gradient joined with the new velocity.
        largest_g = np.maximum(np.abs(g.lo), np.abs(g.hi))
        greatest = np.maximum(greatest, largest_g + params["momentum"] * magnitudes[1])
    sum_overflows = ~(reach <= arithmetic.max)
    of_arrays = zip(after, before, results, magnitudes, strict=True)
    for (comparison, got), old, new, magnitude in of_arrays:
        middle = 0.5 * (new.lo + new.hi)
        half = 0.5 * (new.hi - new.lo) + arithmetic.u * magnitude
        half[~(greatest <= arithmetic.max)] = np.inf
        # Where the gradient's sum does, they are kept, though a step from it might fit.
        half[sum_overflows & (got == old)] = np.inf
        comparison.add(arithmetic, got, middle, half, origin, greatest)


def _measure_update(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Comparison]:
    W, b, A_prev, delta = (inputs[name] for name in ("W", "b", "A_prev", "delta"))
    arithmetic = _Arithmetic(W.dtype)
    optimizer, given = inputs["optimizer"], inputs["params"]
    before, after = inputs["state"], outputs["state"]
    n, first_row = len(delta), inputs.get("first_row", 0)

    of_W = [Comparison("W")] + [Comparison(f"{name} of W") for name in before]
    old_W = [W] + [pair[0] for pair in before.values()]
    new_W = [outputs["W"]] + [after[name][0] for name in before]
    penalties = given.get("l1", 0.0), given.get("l2", 0.0)
    for (i, j), value, magnitude in _product(arithmetic, A_prev.T, delta):
        gradient = value, _chain_error(arithmetic, n, n, magnitude), magnitude
        _measure_array_update(
            arithmetic, optimizer, _array_params(inputs, 0), penalties, gradient,
            [x[i, j] for x in old_W], [(c, x[i, j]) for c, x in zip(of_W, new_W, strict=True)],
            (first_row + i.start, j.start),
        )  # fmt: skip
    if b is None:
        return of_W

    of_b = [Comparison("b")] + [Comparison(f"{name} of b") for name in before]
    old_b = [b] + [pair[1] for pair in before.values()]
    new_b = [outputs["b"]] + [after[name][1] for name in before]
    total, magnitude = _sample_sums(arithmetic, delta)
    error = _chain_error(arithmetic, n, n, magnitude)
    for j in _blocks(len(b), _ELEMENTS):
        gradient = total[j], error[j], magnitude[j]
        _measure_array_update(
            arithmetic, optimizer, _array_params(inputs, 1), (0.0, 0.0), gradient,
            [x[j] for x in old_b], [(c, x[j]) for c, x in zip(of_b, new_b, strict=True)],
            (j.start,),
        )  # fmt: skip
    return of_W + of_b


# ---- the two entrances -------------------------------------------------------------------------

_MEASURES = {
    "forward": _measure_forward,
    "activation": _measure_activation,
    "activation_grad": _measure_activation_grad,
    "loss": _measure_loss,
    "backward": _measure_backward,
    "weight_grad": _measure_weight_grad,
    "update": _measure_update,
}


def measure(
    op: str, layer: int | None, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> list[Comparison]:
    """Return how far each output of an operation is from the reference.

    Parameters
    ----------
    op, layer, inputs, outputs
        As in `verify`.

    Returns
    -------
    list of Comparison
    """
    # What overflows is judged as a result, not warned of.
    with _kernels.ordinary_fp_mode(), np.errstate(all="ignore"):
        if op == "dropout":
            return _measure_dropout(layer, inputs, outputs)
        return _MEASURES[op](inputs, outputs)


def verify(
    op: str, layer: int | None, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> None:
    """Repeat one operation; raise if a result leaves its forward error bound.

    Parameters
    ----------
    op : str
        "forward", "dropout", "loss", "backward", "weight_grad", "update", or "activation" and
        "activation_grad" by themselves.
    layer : int or None
        The layer it belongs to, from 0.
    inputs, outputs : mapping of str to ndarray and others
        What it read and wrote, arrays sample-major; see ``Engine.checked_step``.  "weight_grad"
        and "update" may be given some rows of W: from inputs["first_row"] on, with columns of
        A_prev that belong to them, and the bias's arrays None but with the first row.

    Raises
    ------
    ValidationError
        Naming layer, operation, and the worst element.
    """
    worst = max(measure(op, layer, inputs, outputs), key=lambda c: c.share)
    if worst.share <= 1:
        return
    where = op if layer is None else f"{op} of layer {layer}"
    at = ", ".join(map(str, worst.index))
    raise ValidationError(
        f"{where}: {worst.array}[{at}] is {worst.got:.9g}, but the reference gives "
        f"{worst.expected:.9g}, and they may differ by {worst.bound:.3g} at most "
        f"(instruction set {_kernels.active_isa()})",
        op=op,
        layer=layer,
        array=worst.array,
        index=worst.index,
        got=worst.got,
        expected=worst.expected,
        bound=worst.bound,
    )
