"""The NumPy twin of ``fastgd.kernels``, and the definition of what the engine computes.

Same names, signatures and errors as the kernels, in plain NumPy and in the dtype of the arrays.
Below them, a whole training step and a whole fit.  Nothing here is fast or calls compiled code.

Where the compiled code fixes an order of rounding, the docstrings state it under Notes; NumPy
rounds in an order of its own, so that the two agree within forward error bounds, not to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import _validate_arrays as check
from ._pairing import canonical_output
from ._validate_arrays import Array
from .activations import Activation
from .activations import get as get_activation

__all__ = [
    "Layer",
    "activation",
    "activation_grad",
    "adagrad_update",
    "adam_update",
    "adamw_update",
    "backward",
    "dropout_mask",
    "fit",
    "forward",
    "loss",
    "loss_and_grad",
    "permutation",
    "philox4x32",
    "predict",
    "rmsprop_update",
    "sgd_update",
    "sum16",
    "train_step",
    "weight_grad",
]

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def _quiet() -> np.errstate:
    # Overflow to inf and underflow to 0 are results here, as in the kernels, not accidents.
    return np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")


# ---- activations: values -------------------------------------------------------------------------
# Each takes (z, param) and is written so that no intermediate value overflows or cancels.


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _log1p_exp(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _hold(z: Array, limit: float) -> Array:
    # Where z exp(-|z|) would be inf * 0 for an infinite z, a finite one gives the limit.
    return np.clip(z, -limit, limit)


_ROOT_HALF = 0.7071067811865476, -4.833646656726457e-17  # 1 / sqrt(2) = high + low


def _normal_cdf(z: Array) -> Array:
    """Return erfc(-z / sqrt(2)) / 2 in float64 to some 2 ULP; |z| at most 40."""
    z = z.astype(np.float64)
    high, low = _ROOT_HALF
    t = -z * high
    # A rounded argument costs erfc t^2 ULP, so what t lacks is put back to first order.  It is
    # -z (high + low) - t; the product is exact in halves (Dekker).
    z_top, c_top = (x * 134217729.0 - (x * 134217729.0 - x) for x in (z, np.float64(high)))
    z_rest, c_rest = z - z_top, high - c_top
    lost = -(((z_top * c_top + t) + z_top * c_rest + z_rest * c_top) + z_rest * c_rest + z * low)
    erfc = np.asarray(np.frompyfunc(math.erfc, 1, 1)(t), dtype=np.float64)  # NumPy has none
    return 0.5 * (erfc - lost * (2 / math.sqrt(math.pi)) * np.exp(-t * t))


def _gelu(z: Array) -> Array:
    return np.where(z > 40, z, _hold(z, 40) * _normal_cdf(_hold(z, 40)))


def _mish(z: Array) -> Array:
    # tanh(log(1 + exp(z))) = n / (n + 2), n = exp(z) (exp(z) + 2), in powers of exp(-|z|).
    e = np.exp(-np.abs(z))
    above = (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
    below = e * (e + 2) / (e * (e + 2) + 2)
    return np.maximum(z, -800) * np.where(z >= 0, above, below)


def _softsign(z: Array) -> Array:
    return np.where(np.isinf(z), np.sign(z), z / (1 + np.abs(z)))


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _beyond(z: Array, threshold: float) -> Any:
    return z > (threshold if threshold > 0 else np.inf)


_VALUES: dict[str, Callable[[Array, float], Array]] = {
    "identity": lambda z, p: z,
    "relu": lambda z, p: np.where(z <= 0, 0, z),
    "leaky_relu": lambda z, p: np.where(z > 0, z, p * z),
    "elu": lambda z, p: np.where(z > 0, z, p * np.expm1(np.minimum(z, 0))),
    "selu": lambda z, p: np.where(
        z > 0, SELU_SCALE * z, (SELU_SCALE * SELU_ALPHA) * np.expm1(np.minimum(z, 0))
    ),
    "gelu": lambda z, p: _gelu(z),
    "silu": lambda z, p: np.maximum(z, -800) * _sigmoid(z),  # held: -inf * 0 is NaN
    "mish": lambda z, p: _mish(z),
    "softplus": lambda z, p: np.where(_beyond(z, p), z, _log1p_exp(z)),
    "softsign": lambda z, p: _softsign(z),
    "tanh": lambda z, p: np.tanh(z),
    "sigmoid": lambda z, p: _sigmoid(z),
    "hard_sigmoid": lambda z, p: np.minimum(np.maximum(z + 3, 0), 6) * (1 / 6),
    "exp": lambda z, p: np.exp(z),
    "softmax": lambda z, p: _softmax(z),
}

# ---- activations: derivatives --------------------------------------------------------------------
# Each takes (x, param) with x the array that Activation.consumes names, z or a.


def _gelu_slope(z: Array) -> Array:
    z = _hold(z, 40).astype(np.float64)
    return _normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _silu_slope(z: Array) -> Array:
    # e (1 + e + z) / (1 + e)^2 with e = exp(z), here in powers of exp(-|z|).
    z = _hold(z, 800)
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 + e + z * e, e * (1 + e + z)) / ((1 + e) * (1 + e))


def _mish_slope(z: Array) -> Array:
    z = _hold(z, 800)
    e = np.exp(-np.abs(z))
    d_above = 1 + 2 * e + 2 * e * e
    d_below = e * (e + 2) + 2
    above = ((1 + 2 * e) * d_above + 4 * z * e * e * (1 + e)) / (d_above * d_above)
    below = e * ((e + 2) * d_below + 4 * z * (e + 1)) / (d_below * d_below)
    return np.where(z >= 0, above, below)


_SLOPES: dict[str, Callable[[Array, float], Any]] = {
    "identity": lambda x, p: 1,
    "relu": lambda a, p: np.where(a > 0, 1, 0),
    "leaky_relu": lambda a, p: np.where(a > 0, 1, p),
    "elu": lambda a, p: np.where(a > 0, 1, a + p),
    "selu": lambda a, p: np.where(a > 0, SELU_SCALE, a + SELU_SCALE * SELU_ALPHA),
    "gelu": lambda z, p: _gelu_slope(z),
    "silu": lambda z, p: _silu_slope(z),
    "mish": lambda z, p: _mish_slope(z),
    "softplus": lambda z, p: np.where(_beyond(z, p), 1, _sigmoid(z)),
    "softsign": lambda z, p: 1 / np.square(1 + np.abs(z)),
    "tanh": lambda a, p: (1 - a) * (1 + a),  # 1 - a^2 without its cancellation
    "sigmoid": lambda a, p: a * (1 - a),
    "hard_sigmoid": lambda z, p: np.where(np.abs(z) < 3, p or 1 / 6, 0),
    "exp": lambda a, p: a,
}


def _value(act: Activation, z: Array) -> Array:
    with _quiet():
        return _VALUES[act.name](z, act.param).astype(z.dtype, copy=False)


def _consumed(act: Activation, z: Array | None, a: Array | None) -> Array | None:
    # a is made from z where only z is given; for the identity neither is needed.
    if act.consumes == "z":
        return z
    return _value(act, z) if a is None and z is not None else a


def _times_slope(act: Activation, da: Array, x: Array | None) -> Array:
    if act.name == "identity" or x is None:
        return da
    with _quiet():
        if act.name == "softmax":
            return x * (da - (da * x).sum(axis=-1, keepdims=True))
        return da * np.asarray(_SLOPES[act.name](x, act.param)).astype(da.dtype, copy=False)


def _store(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


# ---- the kernels' twins --------------------------------------------------------------------------


def forward(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    activation: str | Activation = "identity",
    *,
    out: Array | None = None,
    z_out: Array | None = None,
) -> Array:
    """Compute one dense layer: a = f(z), z = X W + b.

    Parameters
    ----------
    X : array_like, shape (n_samples, fan_in), float32 or float64
        Inputs, any strides; not changed.  All arrays have one dtype.
    W : array_like, shape (fan_in, fan_out)
        Weights.
    b : array_like, shape (fan_out,), or None
        Bias; None counts as zeros.
    activation : str or Activation
        f; see ``fastgd.activations``.
    out : ndarray, shape (n_samples, fan_out), optional
        Receives a; any strides, may overlap the inputs.
    z_out : ndarray, shape (n_samples, fan_out), optional
        Receives z; may overlap the inputs, not ``out``.

    Returns
    -------
    ndarray, shape (n_samples, fan_out)
        a: ``out`` if given, else a new array.

    Raises
    ------
    ValueError
        If a shape does not fit, an array to be written is read-only, or the activation is unknown.
    TypeError
        If a dtype is not float32 or float64, or differs from that of X.

    Notes
    -----
    The compiled kernel computes each z as one chain of fused multiply-adds that starts from the
    bias, z = fma(x_k, w_k, z) for k ascending.  With fan_out <= 4 there are 16 chains, chain r
    taking k = r, r + 16, ..., the first starting from the bias and the others from zero, added by
    ``for h in (8, 4, 2, 1): c[r] += c[r + h] for r < h``.  Here NumPy chooses the order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import forward  # or from fastgd.reference
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> W = np.array([[1.0, -1.0], [0.5, 0.25]])
    >>> forward(X, W, np.array([0.5, 0.0]), "relu")
    array([[2.5, 0. ],
           [5.5, 0. ]])
    """
    X, W, b, act = check.forward(X, W, b, activation, out, z_out)
    with _quiet():
        z = X @ W
        if b is not None:
            z = z + b
    a = _value(act, z)
    if z_out is not None:
        z_out[...] = z
    return _store(a, out)


def activation(name: str | Activation, z: ArrayLike, *, out: Array | None = None) -> Array:
    """Apply an activation function: a = f(z).

    Parameters
    ----------
    name : str or Activation
        f; see ``fastgd.activations`` for the formulas.
    z : array_like, float32 or float64
        Pre-activations of any shape; for softmax (n_samples, units).
    out : ndarray of the same shape and dtype, optional
        Receives a; any strides, may be z itself.

    Returns
    -------
    ndarray of z's shape and dtype
        ``out`` if given, else a new array.

    Raises
    ------
    ValueError
        If the activation is unknown, a shape does not fit, or ``out`` is read-only.
    TypeError
        If a dtype is not float32 or float64, or differs from that of z.

    Notes
    -----
    The compiled kernels use polynomials of their own; `fastgd.check` prints how far each may be
    from the exact value.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import activation  # or from fastgd.reference
    >>> activation("hard_sigmoid", np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    act, z = check.activation(name, z, out)
    a = _value(act, z)
    return _store(a.copy() if a is z and out is None else a, out)


def activation_grad(
    name: str | Activation,
    da: ArrayLike,
    *,
    z: ArrayLike | None = None,
    a: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """Multiply a gradient by an activation's derivative: dz = da * f'.

    Parameters
    ----------
    name : str or Activation
        f.
    da : array_like, float32 or float64
        Gradient by the activation; any shape, for softmax (n_samples, units).
    z, a : array_like of the same shape and dtype, optional
        Pre-activation and activation.  The one that the derivative consumes is used
        (``Activation.consumes``); an a that is not given is computed from z.
    out : ndarray of the same shape and dtype, optional
        Receives dz; any strides, may be da itself.

    Returns
    -------
    ndarray of da's shape and dtype
        ``out`` if given, else a new array.

    Raises
    ------
    ValueError
        If the derivative consumes z and only a is given, the activation is unknown, a shape does
        not fit, or ``out`` is read-only.
    TypeError
        If a dtype is not float32 or float64, or differs from that of da.

    Notes
    -----
    The derivative of softmax couples the units of a sample: dz_j = a_j (da_j - sum_k da_k a_k).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import activation_grad  # or from fastgd.reference
    >>> activation_grad("tanh", np.array([1.0, 2.0]), a=np.array([0.0, 0.5]))
    array([1. , 1.5])
    """
    act, da, z, a = check.activation_grad(name, da, z, a, out)
    dz = _times_slope(act, da, _consumed(act, z, a))
    return _store(dz.copy() if dz is da and out is None else dz, out)


def backward(
    delta: ArrayLike,
    W: ArrayLike,
    activation: str | Activation = "identity",
    *,
    z: ArrayLike | None = None,
    a: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """Take delta through one layer to the layer below: (delta W^T) * f'.

    Parameters
    ----------
    delta : array_like, shape (n_samples, fan_out), float32 or float64
        dL/dz of this layer.
    W : array_like, shape (fan_in, fan_out)
        Weights of this layer, as they were in the forward pass.
    activation : str or Activation
        f of the layer below, whose units are this layer's inputs.
    z, a : array_like, shape (n_samples, fan_in), optional
        Pre-activation and activation of the layer below, as in `activation_grad`.
    out : ndarray, shape (n_samples, fan_in), optional
        Receives the result; any strides, may overlap the inputs.

    Returns
    -------
    ndarray, shape (n_samples, fan_in)
        dL/dz of the layer below: ``out`` if given, else a new array.

    Raises
    ------
    ValueError
        If the derivative's z or a is missing, the activation is unknown, a shape does not fit, or
        ``out`` is read-only.
    TypeError
        If a dtype is not float32 or float64, or differs from that of delta.

    Notes
    -----
    The compiled kernel computes each element of delta W^T as one chain of fused multiply-adds from
    zero over fan_out ascending, then multiplies it by f'.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import backward  # or from fastgd.reference
    >>> W = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> backward(np.array([[1.0, -1.0]]), W, "relu", a=np.array([[0.0, 0.5, 2.0]]))
    array([[-0., -1., -1.]])
    """
    delta, W, act, z, a = check.backward(delta, W, activation, z, a, out)
    with _quiet():
        da = delta @ W.T
    return _store(_times_slope(act, da, _consumed(act, z, a)), out)


def weight_grad(
    A_prev: ArrayLike, delta: ArrayLike, *, dW: Array | None = None, db: Array | None = None
) -> tuple[Array, Array]:
    """Compute the gradients of a layer's weights and bias, summed over samples.

    dW = A_prev^T delta, db = sum over samples of delta.

    Parameters
    ----------
    A_prev : array_like, shape (n_samples, fan_in), float32 or float64
        The layer's inputs.
    delta : array_like, shape (n_samples, fan_out)
        dL/dz of the layer.
    dW : ndarray, shape (fan_in, fan_out), optional
        Receives the weights' gradient; any strides, may overlap the inputs, not db.
    db : ndarray, shape (fan_out,), optional
        Receives the bias's gradient; likewise.

    Returns
    -------
    (dW, db) : tuple of ndarray
        The arrays given, or new ones.

    Raises
    ------
    ValueError
        If a shape does not fit or an array to be written is read-only.
    TypeError
        If a dtype is not float32 or float64, or differs from that of A_prev.

    Notes
    -----
    The compiled kernel computes each element of dW as one chain of fused multiply-adds from zero,
    and each of db as one chain of additions, over samples ascending.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import weight_grad  # or from fastgd.reference
    >>> dW, db = weight_grad(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]]))
    >>> dW
    array([[31.],
           [42.]])
    >>> db
    array([11.])
    """
    A_prev, delta = check.weight_grad(A_prev, delta, dW, db)
    with _quiet():
        grad_W, grad_b = A_prev.T @ delta, delta.sum(axis=0)
    return _store(grad_W, dW), _store(grad_b, db)


def sum16(x: ArrayLike, w: ArrayLike | None = None) -> float:
    """Sum an array in float64 in the order that all sums over samples have here.

    Parameters
    ----------
    x : array_like, shape (n,)
        Terms.
    w : array_like, shape (n,), optional
        Their weights.

    Returns
    -------
    float
        sum_i w_i x_i: chain r of 16 adds the terms i = r, r + 16, ... from zero; the chains are
        added by ``for h in (8, 4, 2, 1): c[r] += c[r + h] for r < h``.

    Notes
    -----
    The compiled code multiplies and adds in one rounding.  So does this for float32 terms, whose
    products are exact in float64; for float64 terms NumPy rounds the product first.

    Examples
    --------
    >>> from fastgd.reference import sum16
    >>> sum16([1.0] * 100)
    100.0
    >>> sum16([1.0, 2.0], [0.5, 4.0])
    8.5
    """
    terms = np.asarray(x, dtype=np.float64)
    if w is not None:
        terms = terms * np.asarray(w, dtype=np.float64)
    rows = np.zeros((1 + -(-len(terms) // 16), 16))
    rows[1:].reshape(-1)[: len(terms)] = terms
    chains = np.add.accumulate(rows, axis=0)[-1]  # accumulate, unlike sum, fixes the order
    for h in (8, 4, 2, 1):
        chains = chains[:h] + chains[h : 2 * h]
    return float(chains[0])


# ---- losses --------------------------------------------------------------------------------------


def _clipped_log(value: Array, clip: float) -> Array:
    """Return -log(p) where p is clipped to [clip, 1 - clip]; as it is for a clip of 0."""
    if clip == 0:
        return value
    clip = value.dtype.type(clip)
    return np.clip(value, -np.log1p(-clip), -np.log(clip))


def _loss_terms(
    kind: str, param: float, act: Activation, z: Array, a: Array, y: Array
) -> tuple[Array, Array, bool]:
    """Return losses (n_samples, units or 1), a derivative, and whether that is by z (else by a)."""
    canonical = canonical_output(kind) == act.name
    if kind == "squared_error":
        return 0.5 * (a - y) * (a - y), a - y, False
    if kind == "absolute_error":
        return np.abs(a - y), np.sign(a - y), False
    if kind == "huber":
        clipped = np.clip(a - y, -param, param)
        return clipped * ((a - y) - 0.5 * clipped), clipped, False
    if kind == "log_loss" and canonical:
        # a - y, so that neither a small a nor a small 1 - a is lost when y is 0 or 1.
        value = np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))
        value = _clipped_log(value, param)
        return value, np.where(z < 0, a - y, (1 - y) - _sigmoid(-z)), True
    if kind == "log_loss":
        eps = np.finfo(a.dtype).eps
        p = np.clip(a, eps, 1 - eps)
        return -y * np.log(p) - (1 - y) * np.log1p(-p), (p - y) / (p * (1 - p)), False
    if kind == "poisson" and canonical:
        # Where exp(z) is infinite so is the loss, even if y z is rounded to infinity as well.
        return np.where((a == np.inf) & (z < np.inf), a, a - y * z), a - y, True
    if kind == "poisson":
        p = np.maximum(a + a.dtype.type(param), np.finfo(a.dtype).tiny)
        return a - y * np.log(p), 1 - y / p, False
    # cross_entropy: -sum_k y_k log(softmax(z)_k)
    m = z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(z - m).sum(axis=1, keepdims=True))
    if y.ndim == 1:
        onehot = np.arange(z.shape[1]) == y[:, None]
        value = _clipped_log((m - z)[onehot][:, None] + log_sum, param)
        return value, a - onehot.astype(a.dtype), True
    return y * ((m - z) + log_sum), a * y.sum(axis=1, keepdims=True) - y, True


def _loss_sums(
    kind: str,
    param: float,
    act: Activation,
    z: Array,
    a: Array,
    y: Array,
    w: Array | None,
    reduction: str = "mean",
    scale: float = 1.0,
) -> tuple[float, float, Array]:
    """Return the weighted sum of the samples' losses, the sum of weights, and delta = dL/dz.

    L is the losses' weighted mean or sum, times the scale.
    """
    dtype = z.dtype
    with _quiet():
        terms, slope, by_z = _loss_terms(kind, param, act, z, a, y)
        losses = np.add.accumulate(terms, axis=1)[:, -1]  # over units ascending
        if w is None:
            total = float(len(z))
            loss_sum = sum16(losses)
            coef = np.full(len(z), 1 / total)
        else:
            w = w.astype(dtype, copy=False)
            total = sum16(w)
            loss_sum = sum16(losses, w)
            coef = w.astype(np.float64) / total if total != 0 else np.zeros(len(z))
        if reduction == "sum":
            coef = np.ones(len(z)) if w is None else w.astype(np.float64)
        delta = slope.astype(dtype, copy=False) * (scale * coef).astype(dtype)[:, None]
        if not by_z:
            delta = _times_slope(act, delta, z if act.consumes == "z" else a)
    return loss_sum, total, delta


def loss(
    name: Any,
    z: ArrayLike,
    y: ArrayLike,
    *,
    output: str | Activation = "canonical",
    sample_weight: ArrayLike | None = None,
) -> tuple[float, Array]:
    """Compute a loss, summed over units and averaged over samples, and delta = dL/dz.

    Parameters
    ----------
    name : str or loss object
        One of squared_error 0.5 (a - y)^2, absolute_error, huber (threshold 1 by name),
        log_loss, cross_entropy, poisson; or a built-in object of ``fastgd.losses``.
    z : array_like, shape (n_samples, units), float32 or float64
        Pre-activations of the output layer.
    y : array_like
        Targets (n_samples, units) of z's dtype, or (n_samples,) for one unit.  log_loss takes
        them from 0 to 1, poisson from 0.  cross_entropy takes class labels (n_samples,) of any
        integer dtype, or rows of probabilities (n_samples, units).
    output : str or Activation
        Output activation f.  "canonical": identity for squared_error, absolute_error and huber,
        softmax for cross_entropy, sigmoid for log_loss, exp for poisson.
    sample_weight : array_like, shape (n_samples,), float32 or float64, optional
        Weights, not negative.  They are rounded to z's dtype.

    Returns
    -------
    value : float
        The weighted mean over samples; 0 if all weights are 0.
    delta : ndarray, shape (n_samples, units)
        Its derivative by z, the output activation's derivative included.

    Raises
    ------
    ValueError
        If the loss or activation is unknown, the two do not fit (the message names the choices), a
        shape does not fit, a label or a target is out of range, or a weight is negative.
    TypeError
        If a dtype is not float32 or float64, or that of y differs from that of z.

    Notes
    -----
    For the canonical pairs of log_loss, cross_entropy and poisson delta is (a - y) c with
    c = w / sum w, or 1 / n_samples: the derivative of the output cancels.  All others are
    dL/da * c * f'.  There, log_loss holds a within epsilon of 0 and 1, and poisson above the
    smallest normal number.  The mean is taken by `fastgd.reference.sum16`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import loss  # or from fastgd.reference
    >>> loss("squared_error", np.array([[1.0], [3.0]]), np.array([0.0, 1.0]))
    (1.25, array([[0.5],
           [1. ]]))
    """
    kind, param, act, z, y, w = check.loss(name, z, y, output, sample_weight)
    loss_sum, total, delta = _loss_sums(kind, param, act, z, _value(act, z), y, w)
    return (loss_sum / total if total > 0 else 0.0), delta


# ---- updates -------------------------------------------------------------------------------------


# w, g and states are arrays, or intervals of arrays where _verify.py derives bounds from this.


def _finished_grad(g: Any, w: Any, p: dict[str, Any], l1: float, l2: float) -> Any:
    """Scale a summed gradient, add the penalties and clip by value."""
    g = p.get("scale", 1.0) * g + l2 * w + l1 * np.sign(w)
    clip = p.get("clip_value")
    return g if clip is None else np.clip(g, -clip, clip)


def _bias(beta: float, t: int) -> float:
    """Return 1 - beta^t, the power by squaring: the same double as in the C core."""
    power = 1.0
    while t:
        if t & 1:
            power *= beta
        t >>= 1
        beta *= beta
    return 1 - power


def _counted(p: dict[str, Any], step: int) -> dict[str, Any]:
    """Return the parameters of a step, counted from 0: with its learning rate and dampening."""
    dampening = p.get("dampening", 0.0) if step > 0 else 0.0
    lr = p["lr"] / (1 + step * p.get("lr_decay", 0.0))
    return p | {"lr": lr, "dampening": dampening, "step": step}


def _new_values(
    name: str, w: Any, g: Any, states: list[Any], t: int, p: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Return new weights and states of one optimiser; t counts steps from 1."""
    lr = p["lr"]
    if name == "adamw":
        w = w * (1 - lr * p["weight_decay"])
    else:
        g = g + p["weight_decay"] * w
    if name == "sgd":
        mu = p["momentum"]
        if not states:
            return w - lr * g, []
        (v,) = states
        if p["variant"] == "sklearn":
            v = mu * v - lr * g
            return w + (mu * v - lr * g if p["nesterov"] else v), [v]
        v = mu * v + (1 - p["dampening"]) * g
        return w - lr * (mu * v + g if p["nesterov"] else v), [v]
    if name in ("adam", "adamw"):
        m, v = states
        bias1, bias2 = _bias(p["beta1"], t), _bias(p["beta2"], t)
        m = p["beta1"] * m + (1 - p["beta1"]) * g
        v = p["beta2"] * v + (1 - p["beta2"]) * g * g
        if p["variant"] == "sklearn":
            return w - (lr * math.sqrt(bias2) / bias1) * (m / (np.sqrt(v) + p["eps"])), [m, v]
        return w - (lr / bias1) * (m / (np.sqrt(v) * (1 / math.sqrt(bias2)) + p["eps"])), [m, v]
    if name == "rmsprop":
        v = p["alpha"] * states[0] + (1 - p["alpha"]) * g * g
        d = g / (np.sqrt(v) + p["eps"])
        if len(states) == 1:
            return w - lr * d, [v]
        buf = p["momentum"] * states[1] + d
        return w - lr * buf, [v, buf]
    s = states[0] + g * g  # adagrad
    return w - lr * (g / (np.sqrt(s) + p["eps"])), [s]


def _update_array(
    name: str, w: Array, g: Array, states: list[Array], t: int, p: dict[str, Any]
) -> bool:
    """Update an array and its states in place; return whether a new number was not finite."""
    with _quiet():
        new_w, new_states = _new_values(name, w, g, states, t, p)
    finite = np.isfinite([new_w, *new_states]).all(axis=0)
    np.copyto(w, new_w, where=finite)
    for state, new in zip(states, new_states, strict=True):
        np.copyto(state, new, where=finite)
    return not finite.all()


def _update(name: str, u: check.Update) -> None:
    p = u.params
    dW, db = weight_grad(u.A_prev, u.delta)
    with _quiet():
        dW = _finished_grad(dW, u.W, p, p["l1"], p["l2"])
        db = db if u.b is None else _finished_grad(db, u.b, p, 0.0, 0.0)
    diverged = _update_array(name, u.W, dW, [pair[0] for pair in u.states], u.step, p)
    if u.b is not None:
        of_b = [pair[1] for pair in u.states if pair[1] is not None]
        diverged |= _update_array(name, u.b, db, of_b, u.step, p)
    check.refuse_divergence(diverged)


def sgd_update(
    W: Array,
    b: Array | None,
    A_prev: ArrayLike,
    delta: ArrayLike,
    *,
    lr: float,
    scale: float = 1.0,
    velocity: tuple[Array, Array | None] | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
    variant: str = "torch",
    dampening: float = 0.0,
) -> None:
    """Update one layer by stochastic gradient descent, in place, without storing its gradient.

    With g the gradient (below): w <- w - lr g.  With momentum: v <- momentum v + g, then
    w <- w - lr v, or by Nesterov w <- w - lr (momentum v + g).  With dampening:
    v <- momentum v + (1 - dampening) g.

    Parameters
    ----------
    W : ndarray, shape (fan_in, fan_out), float32 or float64
        Weights; changed in place, any strides.  All arrays have one dtype.
    b : ndarray, shape (fan_out,), or None
        Bias, changed in place.
    A_prev : array_like, shape (n_samples, fan_in)
        The layer's inputs.
    delta : array_like, shape (n_samples, fan_out)
        dL/dz of the layer.
    lr : float
        Learning rate, above 0.
    scale : float
        Factor of the summed gradient, such as 1 / n_samples where delta is not a mean's.
    velocity : (ndarray, ndarray or None), optional
        v of W and of b, changed in place; begin with zeros.  Needed with momentum.
    momentum : float
        From 0 to 1.
    nesterov : bool
        Nesterov's form of momentum.
    weight_decay : float
        Adds weight_decay w to g, after clipping; acts on b too.
    l1, l2 : float
        Penalties: add l1 sign(w) + l2 w to g before clipping; they do not act on b.
    clip_value : float, optional
        Clips g to [-clip_value, clip_value]; acts on b too.
    variant : {"torch", "sklearn"}
        "sklearn" keeps lr in the velocity: v <- momentum v - lr g, then w <- w + v, or by Nesterov
        w <- w + (momentum v - lr g).  The two differ when lr changes.
    dampening : float
        From 0 to 1; for the variant "torch" without Nesterov.  In the first step, where v is
        zero, PyTorch takes 0 whatever it is set to: so does `fastgd.reference.train_step`, but not
        this function, which does not count steps.

    Raises
    ------
    ValueError
        If a shape or a number does not fit, an array to be changed is read-only or overlaps another
        one, or velocity is missing.
    TypeError
        If a dtype is not float32 or float64, or differs from that of W.
    FloatingPointError
        If new weights would be infinite or NaN.  These keep their values and states; all others
        are updated.

    Notes
    -----
    The gradient is g = scale * sum over samples + penalties, clipped, + weight_decay w; numbers are
    kept in double and rounded once to the arrays' dtype.  Momentum as in Sutskever et al., On the
    importance of initialization and momentum in deep learning, 2013, in PyTorch's form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import sgd_update  # or from fastgd.reference
    >>> W, b = np.array([[1.0], [2.0]]), np.array([0.5])
    >>> sgd_update(W, b, np.array([[1.0, 2.0]]), np.array([[2.0]]), lr=0.25)
    >>> W, b
    (array([[0.5],
           [1. ]]), array([0.]))
    """
    state = {} if velocity is None else {"velocity": velocity}
    update = check.update(
        "sgd", W, b, A_prev, delta, state,
        lr=lr, scale=scale, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant, dampening=dampening,
    )  # fmt: skip
    _update("sgd", update)


def adam_update(
    W: Array,
    b: Array | None,
    A_prev: ArrayLike,
    delta: ArrayLike,
    state: dict[str, Any],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    scale: float = 1.0,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
    variant: str = "torch",
) -> None:
    """Update one layer by Adam, in place, without storing its gradient.

    m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2, and at step t, counted from 1,
    w <- w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps).

    Parameters
    ----------
    W, b, A_prev, delta, lr, scale, weight_decay, l1, l2, clip_value
        As in `sgd_update`.
    state : dict
        An empty dict before the first call, which fills it with zeros: ``"step"``, an int, and the
        pairs of arrays (for W, for b) ``"exp_avg"`` m and ``"exp_avg_sq"`` v.  Changed in place.
    beta1, beta2 : float
        From 0 to below 1.
    eps : float
        At least the smallest normal number of the dtype.
    variant : {"torch", "sklearn"}
        "sklearn" does not correct the bias below eps:
        w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps).

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `sgd_update`; a ValueError also if the state is of another optimiser.

    Notes
    -----
    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, in PyTorch's form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import adam_update  # or from fastgd.reference
    >>> W, state = np.array([[1.0]]), {}
    >>> adam_update(W, None, np.array([[1.0]]), np.array([[4.0]]), state, lr=0.5)
    >>> W.round(6), state["step"]
    (array([[0.5]]), 1)
    """
    update = check.update(
        "adam", W, b, A_prev, delta, state,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant,
    )  # fmt: skip
    _update("adam", update)


def adamw_update(
    W: Array,
    b: Array | None,
    A_prev: ArrayLike,
    delta: ArrayLike,
    state: dict[str, Any],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    scale: float = 1.0,
    weight_decay: float = 0.01,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
    variant: str = "torch",
) -> None:
    """Update one layer by AdamW, in place, without storing its gradient.

    w <- (1 - lr weight_decay) w, then as `adam_update` with a gradient free of weight_decay.

    Parameters
    ----------
    W, b, A_prev, delta, lr, scale, l1, l2, clip_value
        As in `sgd_update`.
    state, beta1, beta2, eps, variant
        As in `adam_update`.
    weight_decay : float
        Shrinks the weights and the bias instead of joining the gradient.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `adam_update`.

    Notes
    -----
    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import adamw_update  # or from fastgd.reference
    >>> W = np.array([[1.0]])
    >>> adamw_update(W, None, np.ones((1, 1)), np.ones((1, 1)), {}, lr=0.5, weight_decay=0.5)
    >>> W.round(6)
    array([[0.25]])
    """
    update = check.update(
        "adamw", W, b, A_prev, delta, state,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant,
    )  # fmt: skip
    _update("adamw", update)


def rmsprop_update(
    W: Array,
    b: Array | None,
    A_prev: ArrayLike,
    delta: ArrayLike,
    state: dict[str, Any],
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    scale: float = 1.0,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
) -> None:
    """Update one layer by RMSprop, in place, without storing its gradient.

    v <- alpha v + (1 - alpha) g^2, d = g / (sqrt(v) + eps), w <- w - lr d.  With momentum:
    buf <- momentum buf + d, w <- w - lr buf.

    Parameters
    ----------
    W, b, A_prev, delta, lr, scale, weight_decay, l1, l2, clip_value
        As in `sgd_update`.
    state : dict
        An empty dict before the first call, which fills it with zeros: the pairs of arrays (for W,
        for b) ``"square_avg"`` v and, with momentum, ``"momentum_buffer"``.  Changed in place.
    alpha : float
        From 0 to 1.
    eps : float
        At least the smallest normal number of the dtype.
    momentum : float
        From 0 to 1.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `adam_update`.

    Notes
    -----
    Source: Hinton, Neural Networks for Machine Learning, lecture 6e, 2012, in PyTorch's form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import rmsprop_update  # or from fastgd.reference
    >>> W = np.array([[1.0]])
    >>> rmsprop_update(W, None, np.ones((1, 1)), np.ones((1, 1)), {}, lr=0.5, alpha=0.75)
    >>> W.round(6)
    array([[0.]])
    """
    update = check.update(
        "rmsprop", W, b, A_prev, delta, state,
        lr=lr, alpha=alpha, eps=eps, momentum=momentum, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value,
    )  # fmt: skip
    _update("rmsprop", update)


def adagrad_update(
    W: Array,
    b: Array | None,
    A_prev: ArrayLike,
    delta: ArrayLike,
    state: dict[str, Any],
    *,
    lr: float,
    eps: float = 1e-10,
    scale: float = 1.0,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
) -> None:
    """Update one layer by Adagrad, in place, without storing its gradient.

    s <- s + g^2, w <- w - lr g / (sqrt(s) + eps).  A decay of lr is the caller's.

    Parameters
    ----------
    W, b, A_prev, delta, lr, scale, weight_decay, l1, l2, clip_value
        As in `sgd_update`.
    state : dict
        An empty dict before the first call, which fills it with zeros: the pair of arrays (for W,
        for b) ``"sum"`` s.  Changed in place.
    eps : float
        At least the smallest normal number of the dtype.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        As `adam_update`.

    Notes
    -----
    Source: Duchi, Hazan and Singer, Adaptive Subgradient Methods, 2011, in PyTorch's form.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.kernels import adagrad_update  # or from fastgd.reference
    >>> W = np.array([[1.0]])
    >>> adagrad_update(W, None, np.ones((1, 1)), np.full((1, 1), 4.0), {}, lr=0.25)
    >>> W.round(6)
    array([[0.75]])
    """
    update = check.update(
        "adagrad", W, b, A_prev, delta, state,
        lr=lr, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value,
    )  # fmt: skip
    _update("adagrad", update)


# ---- random numbers ------------------------------------------------------------------------------

_LOW32 = 0xFFFFFFFF


def philox4x32(counter: ArrayLike, key: ArrayLike) -> Array:
    """Compute the counter-based random numbers that shuffling and dropout draw from.

    Parameters
    ----------
    counter : array_like of integers, shape (..., 4)
        Blocks to be turned into random words, each 0 ... 2^32 - 1.
    key : array_like of integers, shape (2,)
        Selects the stream.

    Returns
    -------
    ndarray, shape (..., 4), uint32
        Four random words for each counter.

    Notes
    -----
    Philox4x32-10 of Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3,
    2011.

    Examples
    --------
    >>> from fastgd.reference import philox4x32
    >>> [hex(word) for word in philox4x32([0, 0, 0, 0], [0, 0])]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = (int(k) for k in np.asarray(key, dtype=np.uint64))
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> 32) ^ c1 ^ k0,
            p1 & _LOW32,
            (p0 >> 32) ^ c3 ^ k1,
            p0 & _LOW32,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _LOW32, (k1 + 0xBB67AE85) & _LOW32
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def permutation(n: int, seed: int, epoch: int) -> Array:
    """Return the order in which an epoch takes the samples.

    Parameters
    ----------
    n : int
        Number of samples, below 2^32.
    seed : int
        Of the network, 0 ... 2^64 - 1.
    epoch : int
        Epochs since the network was made, from 0.

    Returns
    -------
    ndarray, shape (n,), int64
        A permutation of 0 ... n - 1.

    Notes
    -----
    Fisher and Yates's shuffle: for i = n - 1 down to 1, with r the next 64 random bits, element i
    is swapped with element j = floor(r (i + 1) / 2^64).  Bits number t are the words 2 (t mod 2)
    (low half) and 2 (t mod 2) + 1 of philox4x32 for the counter (t // 2 low, t // 2 high, epoch,
    0x53484653) and the key (seed low, seed high), low and high being halves of 32 bits.

    Examples
    --------
    >>> from fastgd.reference import permutation
    >>> permutation(8, seed=0, epoch=0)
    array([6, 3, 2, 0, 5, 1, 7, 4])
    """
    order = list(range(n))
    block = np.arange(n // 2, dtype=np.uint64)
    counter = np.empty((len(block), 4), dtype=np.uint64)
    counter[:, 0], counter[:, 1] = block & _LOW32, block >> 32
    counter[:, 2], counter[:, 3] = epoch & _LOW32, 0x53484653
    words = philox4x32(counter, [seed & _LOW32, seed >> 32]).astype(np.uint64).reshape(-1, 2)
    low, high = words[: max(n - 1, 0)].T
    # floor(r (i + 1) / 2^64) in 64-bit integers: (high (i + 1) + carry of the low half) / 2^32.
    choices = np.arange(n, 1, -1, dtype=np.uint64)
    partners = (high * choices + (low * choices >> 32)) >> 32
    for i, j in zip(range(n - 1, 0, -1), partners.tolist(), strict=True):
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)


def dropout_mask(
    n_samples: int,
    units: int,
    p: float,
    *,
    seed: int,
    step: int,
    layer: int,
    dtype: Any = np.float32,
) -> Array:
    """Return the factors by which dropout multiplies a layer's activations.

    Parameters
    ----------
    n_samples, units : int
        Shape of the activations.
    p : float
        Probability of 0, from 0 to below 1.
    seed : int
        Of the network, 0 ... 2^64 - 1.
    step : int
        Optimiser steps since the network was made, from 0.
    layer : int
        Index of the layer, from 0.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray, shape (n_samples, units)
        0 or 1 / (1 - p).

    Notes
    -----
    Sample s of unit j draws word s mod 4 of philox4x32 for the counter (s // 4, j, layer, step low)
    and the key (seed low ^ 0x44524F50, seed high ^ step high), low and high being halves of 32
    bits; it is kept if the word is at least floor(p 2^32).

    Examples
    --------
    >>> from fastgd.reference import dropout_mask
    >>> dropout_mask(2, 3, 0.5, seed=0, step=0, layer=0)
    array([[0., 0., 2.],
           [2., 0., 0.]], dtype=float32)
    """
    samples, columns = range(n_samples), range(units)
    return _dropout_block(samples, columns, p, seed, step, layer).astype(dtype)


def _dropout_block(
    samples: range, units: range, p: float, seed: int, step: int, layer: int
) -> Array:
    """Return the part of a mask for these samples, the first a multiple of 4, and these units."""
    first, last = samples.start // 4, -(-samples.stop // 4)
    counter = np.empty((len(units), last - first, 4), dtype=np.uint64)
    counter[..., 0] = np.arange(first, last)
    counter[..., 1] = np.arange(units.start, units.stop)[:, None]
    counter[..., 2], counter[..., 3] = layer, step & _LOW32
    key = [(seed & _LOW32) ^ 0x44524F50, (seed >> 32) ^ (step >> 32 & _LOW32)]
    words = philox4x32(counter, key).reshape(len(units), -1)[:, : len(samples)].T
    return np.where(words >= math.floor(p * 2**32), 1 / (1 - p), 0.0)


# ---- whole steps and fits ------------------------------------------------------------------------


#: parameters of W and of b, or None for one that is frozen, of every layer
OwnUpdates: TypeAlias = Sequence[tuple[dict[str, Any] | None, dict[str, Any] | None]]


@dataclass
class Layer:
    """One dense layer of the functions below.

    Parameters
    ----------
    W : ndarray, shape (fan_in, fan_out), float32 or float64
        Weights.
    b : ndarray, shape (fan_out,), or None
        Bias.
    activation : str or Activation
        f.
    l1, l2 : float
        Penalties l1 sum |W| + l2 / 2 sum W^2, added to the mean loss.
    dropout : float
        Probability that an activation is dropped in training; 0 on the last layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.reference import Layer, predict
    >>> predict([Layer(np.eye(2), None), Layer(np.ones((2, 1)), np.array([0.5]))], np.ones((1, 2)))
    array([[2.5]])
    """

    W: Array
    b: Array | None
    activation: str | Activation = "identity"
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0


def _inputs(X: ArrayLike, dtype: np.dtype[Any], scale: float) -> Array:
    """Return X in the dtype of the weights, times the scale in that dtype."""
    X = np.asarray(X).astype(dtype)
    return X if scale == 1 else X * dtype.type(scale)


def predict(layers: Sequence[Layer], X: ArrayLike, *, input_scale: float = 1.0) -> Array:
    """Return the outputs of a network, without dropout.

    Parameters
    ----------
    layers : sequence of Layer
    X : array_like, shape (n_samples, n_inputs), any real dtype
        Cast to the dtype of the weights, then multiplied by input_scale, rounded to it as well.
    input_scale : float

    Returns
    -------
    ndarray, shape (n_samples, units)

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.reference import Layer, predict
    >>> predict([Layer(np.array([[2.0]]), None, "relu")], [[-1.0], [3.0]])
    array([[0.],
           [6.]])
    """
    a = _inputs(X, layers[0].W.dtype, input_scale)
    for layer in layers:
        a = forward(a, layer.W, layer.b, layer.activation)
    return a


def _penalty(layers: Sequence[Layer]) -> float:
    total = 0.0
    for layer in layers:
        if layer.l1 or layer.l2:
            W = layer.W.astype(np.float64)
            total += sum16([layer.l1 * sum16(abs(r)) + layer.l2 / 2 * sum16(r, r) for r in W])
    return total


def _backpropagate(
    layers: Sequence[Layer],
    X: Array,
    y: ArrayLike,
    loss_name: Any,
    sample_weight: ArrayLike | None,
    dropout: tuple[int, int] | None,
    reduction: str = "mean",
    scale: float = 1.0,
) -> tuple[float, float, list[tuple[Array, Array]]]:
    """Return sum of losses, sum of weights and (dW, db) of every layer, all without penalties."""
    if layers[-1].dropout:
        raise ValueError("dropout is not possible on the last layer")
    acts = [get_activation(layer.activation) for layer in layers]
    inputs, zs, activated, masks = [X], [], [], []
    for i, layer in enumerate(layers):
        z = np.empty((len(X), layer.W.shape[1]), dtype=X.dtype)
        a = forward(inputs[i], layer.W, layer.b, acts[i], z_out=z)
        mask = None
        if dropout is not None and layer.dropout:
            seed, step = dropout
            mask = dropout_mask(
                len(a), a.shape[1], layer.dropout, seed=seed, step=step, layer=i, dtype=X.dtype
            )
        zs.append(z)
        activated.append(a)
        masks.append(mask)
        inputs.append(a if mask is None else a * mask)

    targets = np.asarray(y)
    if check.loss_kind(loss_name)[0] != "cross_entropy" or targets.ndim > 1:
        targets = targets.astype(X.dtype)
    kind, param, act, z, targets, weights = check.loss(
        loss_name, zs[-1], targets, acts[-1], sample_weight
    )
    loss_sum, total, delta = _loss_sums(
        kind, param, act, z, activated[-1], targets, weights, reduction, scale
    )

    gradients = []
    for i in range(len(layers) - 1, -1, -1):
        gradients.append(weight_grad(inputs[i], delta))
        if i > 0:
            da = backward(delta, layers[i].W)
            mask = masks[i - 1]
            delta = activation_grad(
                acts[i - 1], da if mask is None else da * mask, z=zs[i - 1], a=activated[i - 1]
            )
    return loss_sum, total, gradients[::-1]


def loss_and_grad(
    layers: Sequence[Layer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Any,
    sample_weight: ArrayLike | None = None,
    input_scale: float = 1.0,
) -> tuple[float, list[tuple[Array, Array]]]:
    """Return the loss of a network on data and its gradients, penalties included, no dropout.

    Parameters
    ----------
    layers : sequence of Layer
        Not changed.
    X : array_like, shape (n_samples, n_inputs), any real dtype
    y : array_like
        As in `loss`.
    loss : str or loss object
    sample_weight : array_like, shape (n_samples,), optional
    input_scale : float
        As in `predict`.

    Returns
    -------
    loss : float
    gradients : list of (dW, db)
        One pair for each layer, in the shapes of W and b.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.reference import Layer, loss_and_grad
    >>> net = [Layer(np.array([[2.0]]), np.array([0.0]))]
    >>> loss_and_grad(net, [[1.0], [3.0]], np.array([0.0, 6.0]), loss="squared_error")
    (1.0, [(array([[1.]]), array([1.]))])
    """
    X = _inputs(X, layers[0].W.dtype, input_scale)
    loss_sum, total, gradients = _backpropagate(layers, X, y, loss, sample_weight, None)
    finished = [
        (_finished_grad(dW, layer.W, {}, layer.l1, layer.l2), db)
        for layer, (dW, db) in zip(layers, gradients, strict=True)
    ]
    return (loss_sum / total if total > 0 else 0.0) + _penalty(layers), finished


_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {
        "momentum": 0.0, "nesterov": False, "variant": "torch", "weight_decay": 0.0,
        "dampening": 0.0,
    },
    "adam": {
        "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "variant": "torch", "weight_decay": 0.0,
    },
    "adamw": {
        "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "variant": "torch", "weight_decay": 0.01,
    },
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-10, "weight_decay": 0.0, "lr_decay": 0.0},
}  # fmt: skip


def _full_params(optimizer: str, params: dict[str, Any] | None) -> dict[str, Any]:
    check.choice("optimizer", optimizer, tuple(_DEFAULTS))
    every = {"clip_value": None, "clip_norm": None}
    p = every | _DEFAULTS[optimizer] | (params or {})
    unknown = set(p) - set(every) - set(_DEFAULTS[optimizer])
    if unknown:
        raise ValueError(f"{optimizer} has no parameter {', '.join(sorted(unknown))}")
    return p


def _train_batch(
    layers: Sequence[Layer],
    X: Array,
    y: ArrayLike,
    loss_name: Any,
    optimizer: str,
    params: dict[str, Any],
    state: dict[str, Any],
    lr: float,
    sample_weight: ArrayLike | None,
    seed: int,
    step: int,
    reduction: str,
    scale: float,
    own_updates: OwnUpdates | None,
) -> tuple[float, float]:
    """Train one mini-batch; return the sum of losses with penalties, and what divides it."""
    loss_sum, total, gradients = _backpropagate(
        layers, X, y, loss_name, sample_weight, (seed, step), reduction, scale
    )
    if not math.isfinite(loss_sum):
        raise FloatingPointError("the loss is not finite; the weights are those before the step")
    penalty = _penalty(layers)
    for key in check.state_names(optimizer, params.get("momentum", 0.0)):
        state.setdefault(
            key,
            [
                (np.zeros_like(layer.W), None if layer.b is None else np.zeros_like(layer.b))
                for layer in layers
            ],
        )

    # All gradients first: the norm is that of all layers together, biases included.
    finished = []
    for layer, (dW, db) in zip(layers, gradients, strict=True):
        finished.append(_finished_grad(dW, layer.W, params, layer.l1, layer.l2))
        if layer.b is not None:
            finished.append(_finished_grad(db, layer.b, params, 0.0, 0.0))
    factor = 1.0
    if params["clip_norm"] is not None:
        norm = math.sqrt(sum(sum16([sum16(r, r) for r in np.atleast_2d(g)]) for g in finished))
        factor = min(1.0, params["clip_norm"] / (norm + 1e-6))

    pairs = [state[key] for key in check.state_names(optimizer, params.get("momentum", 0.0))]
    diverged = False
    for i, layer in enumerate(layers):
        for which, w in enumerate((layer.W, layer.b)):
            if w is None:
                continue
            g = finished.pop(0) * factor
            own = {} if own_updates is None else own_updates[i][which]
            if own is None:
                continue
            p = _counted(params | {"lr": lr} | own, step + own.get("ahead", 0))
            states = [pair[i][which] for pair in pairs]
            diverged |= _update_array(
                optimizer, w, g * own.get("scale", 1.0), states, p["step"] + 1, p
            )
    check.refuse_divergence(diverged)
    if reduction == "sum":
        return scale * loss_sum + penalty, 1.0
    return scale * loss_sum + penalty * total, total


def train_step(
    layers: Sequence[Layer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Any,
    lr: float,
    optimizer: str = "sgd",
    params: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    sample_weight: ArrayLike | None = None,
    seed: int = 0,
    step: int = 0,
    input_scale: float = 1.0,
    reduction: str = "mean",
    scale: float = 1.0,
    own_updates: OwnUpdates | None = None,
) -> float:
    """Train one mini-batch: forward, dropout, loss, backward, clipping, update.

    Parameters
    ----------
    layers : sequence of Layer
        Their W and b are changed in place.
    X : array_like, shape (n_samples, n_inputs), any real dtype
        Cast to the dtype of the weights.
    y : array_like
        As in `loss`.
    loss : str or loss object
    lr : float
        Learning rate of this step.
    optimizer : {"sgd", "adam", "adamw", "rmsprop", "adagrad"}
    params : dict, optional
        The optimiser's parameters by name, as in `sgd_update` and so on, and ``clip_value``,
        ``clip_norm`` and Adagrad's ``lr_decay``: lr <- lr / (1 + step lr_decay).
    state : dict, optional
        The optimiser's states, a list of pairs (for W, for b) by name; changed in place.  An empty
        one begins anew.
    sample_weight : array_like, shape (n_samples,), optional
    seed, step : int
        For dropout, and Adam's bias: steps done before this one.
    input_scale : float
        As in `predict`.
    reduction : {"mean", "sum"}
        Whether the samples' losses are averaged, by their weights, or added up.
    scale : float
        By which that is multiplied, and with it the gradient.
    own_updates : list of (dict or None, dict or None), optional
        For each layer, parameters of W and of b where they are not those of params: by the same
        names, and "lr"; "scale", a factor of the gradient; and "ahead", the steps that the array
        has taken beyond step.  None for an array that keeps its values.

    Returns
    -------
    float
        The mean loss before the update, with dropout and penalties.

    Raises
    ------
    FloatingPointError
        If the loss or a new weight is not finite.

    Notes
    -----
    The gradient of all weights, penalties included, is clipped by value, then multiplied by
    min(1, clip_norm / (norm + 1e-6)) with the norm over all layers; weight_decay comes after.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.reference import Layer, train_step
    >>> net = [Layer(np.array([[2.0]]), np.array([0.0]))]
    >>> train_step(net, [[1.0], [3.0]], np.array([0.0, 6.0]), loss="squared_error", lr=0.5)
    1.0
    >>> net[0].W, net[0].b
    (array([[1.5]]), array([-0.5]))
    """
    loss_sum, total = _train_batch(
        layers, _inputs(X, layers[0].W.dtype, input_scale), y, loss, optimizer,
        _full_params(optimizer, params), {} if state is None else state, lr, sample_weight, seed,
        step, check.choice("reduction", reduction, ("mean", "sum")), scale, own_updates,
    )  # fmt: skip
    return loss_sum / total if total > 0 else _penalty(layers)


def fit(
    layers: Sequence[Layer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Any,
    lr: ArrayLike,
    epochs: int,
    batch_size: int,
    shuffle: bool = True,
    optimizer: str = "sgd",
    params: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    sample_weight: ArrayLike | None = None,
    seed: int = 0,
    step: int = 0,
    epoch: int = 0,
    input_scale: float = 1.0,
    reduction: str = "mean",
    scale: float = 1.0,
    own_updates: OwnUpdates | None = None,
) -> Array:
    """Train whole epochs of mini-batches.

    Parameters
    ----------
    layers, X, y, loss, optimizer, params, state, sample_weight, seed, step, input_scale
        As in `train_step`.
    reduction, scale, own_updates
        As in `train_step`.
    lr : float or array_like, shape (n_steps,)
        Learning rate, or one for each step of this call.
    epochs : int
        How many.
    batch_size : int
        Samples in a mini-batch; the last one of an epoch takes what is left.
    shuffle : bool
        Take the samples of each epoch in the order of `permutation`.
    epoch : int
        Epochs done before this call.

    Returns
    -------
    ndarray, shape (epochs,), float64
        The mean loss of each epoch as met in training: the batches' means, penalties included,
        weighted by the sums of their samples' weights; or the sum of the batches' sums.

    Raises
    ------
    FloatingPointError
        If the loss or a new weight is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.reference import Layer, fit
    >>> net = [Layer(np.zeros((1, 1)), np.zeros(1))]
    >>> X = np.array([[-1.0], [0.0], [1.0]])
    >>> losses = fit(net, X, 2 * X + 1, loss="squared_error", lr=0.5, epochs=100, batch_size=2)
    >>> net[0].W.round(6), net[0].b.round(6)
    (array([[2.]]), array([1.]))
    """
    X, y = np.asarray(X), np.asarray(y)
    n = len(X)
    rates = np.broadcast_to(np.asarray(lr, dtype=np.float64), (epochs * -(-n // batch_size),))
    full, state = _full_params(optimizer, params), {} if state is None else state
    losses = np.zeros(epochs)
    done = 0
    for e in range(epochs):
        order = permutation(n, seed, epoch + e) if shuffle else np.arange(n)
        loss_sum = total = 0.0
        for first in range(0, n, batch_size):
            rows = order[first : first + batch_size]
            weights = None if sample_weight is None else np.asarray(sample_weight)[rows]
            inputs = _inputs(X[rows], layers[0].W.dtype, input_scale)
            batch_sum, batch_total = _train_batch(
                layers, inputs, y[rows], loss, optimizer, full, state, float(rates[done]), weights,
                seed, step + done, reduction, scale, own_updates,
            )  # fmt: skip
            loss_sum += batch_sum
            total = total + batch_total if reduction == "mean" else 1.0
            done += 1
        losses[e] = loss_sum / total if total > 0 else 0.0
    return losses
