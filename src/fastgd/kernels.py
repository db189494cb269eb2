"""Forward, activation, derivative, backward, loss and fused updates on plain arrays, compiled.

The functions of ``fastgd.reference`` under the same names, with the same signatures, docstrings
and errors.  Arguments are checked and made contiguous here; the arithmetic is in ``_kernels``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from . import _kernels, reference
from . import _validate_arrays as check
from ._validate_arrays import Array
from .activations import Activation

__all__ = [
    "activation",
    "activation_grad",
    "adagrad_update",
    "adam_update",
    "adamw_update",
    "backward",
    "forward",
    "loss",
    "rmsprop_update",
    "sgd_update",
    "weight_grad",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _documented(function: _Function) -> _Function:
    function.__doc__ = getattr(reference, function.__name__).__doc__
    return function


def _target(out: Array | None, shape: tuple[int, ...], dtype: Any, *read: Array | None) -> Array:
    """Return where the C core may write a result: out itself, or a new array if it cannot be."""
    if (
        out is not None
        and out.flags.c_contiguous
        and out.flags.aligned
        and not any(x is not None and np.may_share_memory(out, x) for x in read)
    ):
        return out
    return np.empty(shape, dtype)


def _deliver(result: Array, out: Array | None) -> Array:
    if out is None:
        return result
    if result is not out:
        out[...] = result
    return out


def _plain(x: Array) -> Array:
    return np.require(x, requirements=("C", "A"))


def _read(x: Array | None) -> Array | None:
    return None if x is None else _plain(x)


@_documented
def forward(
    X: ArrayLike,
    W: ArrayLike,
    b: ArrayLike | None,
    activation: str | Activation = "identity",
    *,
    out: Array | None = None,
    z_out: Array | None = None,
) -> Array:
    X, W, b, act = check.forward(X, W, b, activation, out, z_out)
    shape = X.shape[0], W.shape[1]
    a = _target(out, shape, X.dtype, X, W, b)
    z = None if z_out is None else _target(z_out, shape, X.dtype, X, W, b)
    _kernels.forward(_read(X), _read(W), _read(b), act.name, act.param, a, z)
    if z is not None:
        _deliver(z, z_out)
    return _deliver(a, out)


@_documented
def activation(name: str | Activation, z: ArrayLike, *, out: Array | None = None) -> Array:
    act, z = check.activation(name, z, out)
    a = _target(out, z.shape, z.dtype, None if z is out else z)
    if z.size:
        rows = z.shape if act.name == "softmax" else (-1,)
        _kernels.activation(act.name, act.param, _plain(z).reshape(rows), a.reshape(rows))
    return _deliver(a, out)


def _consumed(act: Activation, z: Array | None, a: Array | None) -> Array | None:
    # As the reference: a is made from z where only z is given.
    if act.consumes == "z":
        return z
    if a is None and z is not None and act.name != "identity":
        return activation(act, z)
    return a


@_documented
def activation_grad(
    name: str | Activation,
    da: ArrayLike,
    *,
    z: ArrayLike | None = None,
    a: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    act, da, z, a = check.activation_grad(name, da, z, a, out)
    x = _consumed(act, z, a)
    if x is None:  # identity
        return _deliver(da.copy(), out)
    dz = _target(out, da.shape, da.dtype, None if da is out else da, x)
    if da.size:
        rows = da.shape if act.name == "softmax" else (-1,)
        given, consumed = (_plain(v).reshape(rows) for v in (da, x))
        _kernels.activation_grad(act.name, act.param, given, consumed, dz.reshape(rows))
    return _deliver(dz, out)


@_documented
def backward(
    delta: ArrayLike,
    W: ArrayLike,
    activation: str | Activation = "identity",
    *,
    z: ArrayLike | None = None,
    a: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    delta, W, act, z, a = check.backward(delta, W, activation, z, a, out)
    x = _consumed(act, z, a)
    if act.name == "softmax":  # never below another layer in a network, so not fused
        return activation_grad(act, backward(delta, W), a=x, out=out)
    result = _target(out, (delta.shape[0], W.shape[0]), delta.dtype, delta, W, x)
    _kernels.backward(_read(delta), _read(W), act.name, act.param, _read(x), result)
    return _deliver(result, out)


@_documented
def weight_grad(
    A_prev: ArrayLike, delta: ArrayLike, *, dW: Array | None = None, db: Array | None = None
) -> tuple[Array, Array]:
    A_prev, delta = check.weight_grad(A_prev, delta, dW, db)
    fan_in, fan_out = A_prev.shape[1], delta.shape[1]
    grad_W = _target(dW, (fan_in, fan_out), A_prev.dtype, A_prev, delta)
    grad_b = _target(db, (fan_out,), A_prev.dtype, A_prev, delta)
    _kernels.weight_grad(_read(A_prev), _read(delta), grad_W, grad_b)
    return _deliver(grad_W, dW), _deliver(grad_b, db)


@_documented
def loss(
    name: Any,
    z: ArrayLike,
    y: ArrayLike,
    *,
    output: str | Activation = "canonical",
    sample_weight: ArrayLike | None = None,
) -> tuple[float, Array]:
    kind, param, act, z, y, w = check.loss(name, z, y, output, sample_weight)
    delta = np.empty(z.shape, z.dtype)
    value = _kernels.loss(kind, param, act.name, act.param, _read(z), _read(y), _read(w), delta)
    return value, delta


def _update(name: str, u: check.Update) -> None:
    try:
        diverged = _updated(name, u)
    except MemoryError:
        u.uncount()
        raise
    check.refuse_divergence(diverged)


def _updated(name: str, u: check.Update) -> bool:
    """Do an update, or raise and leave all arrays as they are; return whether weights diverged."""
    p = dict(u.params)
    if name in ("adam", "adamw"):
        with _kernels.ordinary_fp_mode():
            p["bias1"] = reference._bias(p["beta1"], u.step)
            p["bias2"] = reference._bias(p["beta2"], u.step)
    # Arrays that the C core cannot take as they are go through copies.
    changed: list[tuple[Array, Array]] = []

    def writable(x: Array | None) -> Array | None:
        if x is None or (x.flags.c_contiguous and not _is_read(x, u)):
            return x
        changed.append((x, np.ascontiguousarray(x).copy()))
        return changed[-1][1]

    W, b = writable(u.W), writable(u.b)
    states = [tuple(writable(x) for x in pair) for pair in u.states]
    s1, s2 = (*states, None, None)[:2]
    result = _kernels.Assignment([x for x, _ in changed], [copy for _, copy in changed])
    diverged = _kernels.update(name, W, b, _read(u.A_prev), _read(u.delta), s1, s2, p)
    result.assign()
    return diverged


def _is_read(x: Array, u: check.Update) -> bool:
    return np.may_share_memory(x, u.A_prev) or np.may_share_memory(x, u.delta)


@_documented
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
    state = {} if velocity is None else {"velocity": velocity}
    update = check.update(
        "sgd", W, b, A_prev, delta, state,
        lr=lr, scale=scale, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant, dampening=dampening,
    )  # fmt: skip
    _update("sgd", update)


@_documented
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
    update = check.update(
        "adam", W, b, A_prev, delta, state,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant,
    )  # fmt: skip
    _update("adam", update)


@_documented
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
    update = check.update(
        "adamw", W, b, A_prev, delta, state,
        lr=lr, beta1=beta1, beta2=beta2, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value, variant=variant,
    )  # fmt: skip
    _update("adamw", update)


@_documented
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
    update = check.update(
        "rmsprop", W, b, A_prev, delta, state,
        lr=lr, alpha=alpha, eps=eps, momentum=momentum, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value,
    )  # fmt: skip
    _update("rmsprop", update)


@_documented
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
    update = check.update(
        "adagrad", W, b, A_prev, delta, state,
        lr=lr, eps=eps, scale=scale, weight_decay=weight_decay,
        l1=l1, l2=l2, clip_value=clip_value,
    )  # fmt: skip
    _update("adagrad", update)
