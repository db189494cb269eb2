"""Check the arrays and numbers of single operations; NumPy only, so that the reference can use it.

Shared by ``fastgd.kernels`` and ``fastgd.reference``, which therefore refuse the same arguments
with the same words.  Data of whole networks are checked in ``_validate.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from . import activations
from ._numbers import as_array, boolean, held, real
from ._pairing import canonical_output, check_classes, check_pairing, fitting_outputs
from ._spec import Spec

Array = np.ndarray[Any, Any]

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def _shape_text(shape: tuple[int | str, ...]) -> str:
    inner = ", ".join(str(n) for n in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def array(
    name: str,
    value: Any,
    shape: tuple[int | str, ...] | None = None,
    dtype: np.dtype[Any] | None = None,
    *,
    writable: bool = False,
    like: str = "X",
) -> Array:
    """Return the argument as an array, or say what is wrong with it.

    Parameters
    ----------
    shape : tuple, optional
        Its shape; a string stands for an axis of any length but 0, and names it.  None: any.
    dtype : dtype, optional
        The dtype it must have, that of the argument called ``like``; None: float32 or float64.
    writable : bool
        It must be a writable ndarray already: it will be changed in place.
    """
    if writable:
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"{name} is changed in place and must be a numpy.ndarray, "
                f"not {type(value).__name__}"
            )
        if not value.flags.writeable:
            raise ValueError(f"{name} is changed in place, but the array is read-only")
    result = as_array(name, value)
    if result.dtype not in _DTYPES:
        raise TypeError(f"{name} must have dtype float32 or float64, not {result.dtype}")
    if dtype is not None and result.dtype != dtype:
        raise TypeError(f"{name} must have the dtype of {like}, {dtype}, not {result.dtype}")
    if shape is not None:
        check_shape(name, result.shape, shape)
    return result


def check_shape(name: str, got: tuple[int, ...], shape: tuple[int | str, ...]) -> None:
    """Raise unless the shape fits the pattern; see `array`."""
    fits = len(got) == len(shape) and all(
        n > 0 if isinstance(want, str) else n == want for n, want in zip(got, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape {_shape_text(shape)}, not {got}")


def whole(name: str, value: Any, at_least: int = 0) -> int:
    """Return an int of at least a minimum, or say what is wrong with it."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {value!r}")
    return int(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of the choices, or name them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


# ---- one function for each operation: its arguments in, checked ones out ------------------------


def output(name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], like: str) -> None:
    """Check an optional array that is to receive a result."""
    if out is not None:
        array(name, out, shape, dtype, writable=True, like=like)


def _check_held(act: activations.Activation, dtype: np.dtype[Any]) -> None:
    if settings := vars(act):
        held(type(act).__name__, settings, dtype)


def forward(
    X: Any, W: Any, b: Any, activation: Any, out: Any, z_out: Any
) -> tuple[Array, Array, Array | None, activations.Activation]:
    act = activations.get(activation)
    X = array("X", X, ("n_samples", "fan_in"))
    _check_held(act, X.dtype)
    W = array("W", W, (X.shape[1], "fan_out"), X.dtype)
    if b is not None:
        b = array("b", b, (W.shape[1],), X.dtype)
    shape = X.shape[0], W.shape[1]
    output("out", out, shape, X.dtype, "X")
    output("z_out", z_out, shape, X.dtype, "X")
    if out is not None and z_out is not None and np.shares_memory(out, z_out):
        raise ValueError("out and z_out must not share memory")
    return X, W, b, act


def activation(name: Any, z: Any, out: Any) -> tuple[activations.Activation, Array]:
    act = activations.get(name)
    z = array("z", z, ("n_samples", "units") if act.name == "softmax" else None)
    _check_held(act, z.dtype)
    output("out", out, z.shape, z.dtype, "z")
    return act, z


def consumed(
    act: activations.Activation,
    z: Any,
    a: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    like: str,
) -> tuple[Array | None, Array | None]:
    """Check z and a as far as the derivative of an activation needs them."""
    if act.name != "identity" and z is None and (a is None or act.consumes == "z"):
        needs = "z" if act.consumes == "z" else "a or z"
        raise ValueError(f"the derivative of {act.name!r} is computed from {needs}; give {needs}")
    z = None if z is None else array("z", z, shape, dtype, like=like)
    a = None if a is None else array("a", a, shape, dtype, like=like)
    return z, a


def activation_grad(
    name: Any, da: Any, z: Any, a: Any, out: Any
) -> tuple[activations.Activation, Array, Array | None, Array | None]:
    act = activations.get(name)
    da = array("da", da, ("n_samples", "units") if act.name == "softmax" else None)
    _check_held(act, da.dtype)
    z, a = consumed(act, z, a, da.shape, da.dtype, "da")
    output("out", out, da.shape, da.dtype, "da")
    return act, da, z, a


def backward(
    delta: Any, W: Any, activation: Any, z: Any, a: Any, out: Any
) -> tuple[Array, Array, activations.Activation, Array | None, Array | None]:
    act = activations.get(activation)
    delta = array("delta", delta, ("n_samples", "fan_out"))
    _check_held(act, delta.dtype)
    W = array("W", W, ("fan_in", delta.shape[1]), delta.dtype, like="delta")
    shape = delta.shape[0], W.shape[0]
    z, a = consumed(act, z, a, shape, delta.dtype, "delta")
    output("out", out, shape, delta.dtype, "delta")
    return delta, W, act, z, a


def weight_grad(A_prev: Any, delta: Any, dW: Any, db: Any) -> tuple[Array, Array]:
    A_prev = array("A_prev", A_prev, ("n_samples", "fan_in"))
    delta = array("delta", delta, (A_prev.shape[0], "fan_out"), A_prev.dtype, like="A_prev")
    output("dW", dW, (A_prev.shape[1], delta.shape[1]), A_prev.dtype, "A_prev")
    output("db", db, (delta.shape[1],), A_prev.dtype, "A_prev")
    if dW is not None and db is not None and np.shares_memory(dW, db):
        raise ValueError("dW and db must not share memory")
    return A_prev, delta


def loss_kind(loss: Any) -> tuple[str, float]:
    """Return name and parameter of a loss given by name or as a built-in object."""
    if isinstance(loss, str):
        fitting_outputs(loss)
        return loss, 1.0 if loss == "huber" else 0.0
    name, param = getattr(loss, "name", None), getattr(loss, "param", None)
    if not isinstance(name, str) or param is None:
        raise TypeError(f"a loss must be a name or a built-in loss object, not {loss!r}")
    fitting_outputs(name)
    return name, float(param)


def loss(
    name: Any, z: Any, y: Any, output: Any, sample_weight: Any
) -> tuple[str, float, activations.Activation, Array, Array, Array | None]:
    kind, param = loss_kind(name)
    canonical = isinstance(output, str) and output == "canonical"
    act = activations.get(canonical_output(kind) if canonical else output)
    check_pairing(kind, act.name)
    z = array("z", z, ("n_samples", "units"))
    _check_held(act, z.dtype)
    if isinstance(name, Spec):
        held(type(name).__name__, name._plain(), z.dtype)
    y = targets(kind, y, z)
    if sample_weight is not None:
        sample_weight = array("sample_weight", sample_weight, (len(z),))
        if not (np.isfinite(sample_weight).all() and (sample_weight >= 0).all()):
            raise ValueError("sample_weight must be finite and not negative")
    return kind, param, act, z, y, sample_weight


def targets(kind: str, y: Any, z: Array) -> Array:
    """Return the targets of a loss on outputs z (n_samples, units): int64 labels or rows."""
    y = as_array("y", y)
    if kind == "cross_entropy" and y.dtype.kind in "iu":
        check_shape("y (class labels)", y.shape, (len(z),))
        check_classes(z.shape[1], z.dtype)
        wrong = np.flatnonzero((y < 0) | (y >= z.shape[1]))
        if len(wrong):
            raise ValueError(
                f"class labels must lie in 0 ... {z.shape[1] - 1} for {z.shape[1]} units, "
                f"but y[{wrong[0]}] = {y[wrong[0]]}"
            )
        return y.astype(np.int64)
    if z.shape[1] == 1 and y.ndim == 1:
        y = y[:, None]
    y = array("y", y, z.shape, z.dtype, like="z")
    low = -math.inf if kind in ("squared_error", "absolute_error", "huber") else 0.0
    high = 1.0 if kind in ("log_loss", "cross_entropy") else math.inf
    outside = np.argwhere((y < low) | (y > high))
    if len(outside):
        i, j = (int(k) for k in outside[0])
        need = "be >= 0" if high == math.inf else "lie in [0, 1]"
        raise ValueError(f"targets of {kind} must {need}, but y[{i}, {j}] = {y[i, j]}")
    return y


def _state_pair(name: str, pair: Any, W: Array, b: Array | None) -> tuple[Array, Array | None]:
    """Check an optimiser's state: arrays (for W, for b), the second None where b is."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"{name} must be a pair of arrays (for W, for b), not {pair!r}")
    for_W = array(f"{name}[0]", pair[0], W.shape, W.dtype, writable=True, like="W")
    if b is None:
        if pair[1] is not None:
            raise ValueError(f"{name}[1] must be None where b is None")
        return for_W, None
    return for_W, array(f"{name}[1]", pair[1], b.shape, W.dtype, writable=True, like="W")


def _no_overlap(named: list[tuple[str, Array | None]]) -> None:
    present = [(name, x) for name, x in named if x is not None]
    for i, (name, x) in enumerate(present):
        for other, y in present[:i]:
            if np.shares_memory(x, y):
                raise ValueError(f"{other} and {name} are changed in place and must not overlap")


# The states of each optimiser, under PyTorch's names.
STATES = {
    "sgd": ("velocity",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
    "adagrad": ("sum",),
}


def state_names(optimizer: str, momentum: float) -> tuple[str, ...]:
    """Return the names of the states that an optimiser keeps."""
    names = STATES[choice("optimizer", optimizer, tuple(STATES))]
    if momentum == 0 and optimizer == "sgd":
        return ()
    return names[:1] if momentum == 0 and optimizer == "rmsprop" else names


@dataclass(frozen=True)
class Update:
    """The checked arguments of an update; the arrays are the caller's own."""

    W: Array
    b: Array | None
    A_prev: Array
    delta: Array
    states: list[tuple[Array, Array | None]]
    step: int  # counted from 1
    params: dict[str, Any]
    state: dict[str, Any]
    was_empty: bool

    def uncount(self) -> None:
        """Put the state back to what it was before this update, of which nothing has come."""
        if self.was_empty:
            self.state.clear()
        elif "step" in self.state:
            self.state["step"] = self.step - 1


def update(
    optimizer: str, W: Any, b: Any, A_prev: Any, delta: Any, state: Any, **params: Any
) -> Update:
    """Check an update; fill an empty state with zeros, and count the step."""
    W = array("W", W, ("fan_in", "fan_out"), writable=True)
    A_prev = array("A_prev", A_prev, ("n_samples", W.shape[0]), W.dtype, like="W")
    delta = array("delta", delta, (A_prev.shape[0], W.shape[1]), W.dtype, like="W")
    if b is not None:
        b = array("b", b, (W.shape[1],), W.dtype, writable=True, like="W")
    params = update_params(W.dtype, **params)
    if not isinstance(state, dict):
        raise TypeError(f"state must be a dict, empty before the first call, not {state!r}")
    names = state_names(optimizer, params.get("momentum", 0.0))
    if optimizer == "sgd" and names and not state:
        raise ValueError("momentum needs velocity=(for W, for b); begin with arrays of zeros")
    counts = optimizer in ("adam", "adamw")
    fresh = {
        name: (np.zeros(W.shape, W.dtype), None if b is None else np.zeros(b.shape, W.dtype))
        for name in names
    }
    if counts:
        fresh["step"] = 0  # type: ignore[assignment]
    source = state or fresh
    missing = [name for name in fresh if name not in source]
    if missing:
        raise ValueError(f"state lacks {', '.join(missing)}; give an empty dict to begin anew")
    labels = {name: name if optimizer == "sgd" else f"state[{name!r}]" for name in names}
    pairs = [_state_pair(labels[name], source[name], W, b) for name in names]
    _no_overlap(
        [("W", W), ("b", b)]
        + [
            (f"{label}[{i}]", x)
            for label, pair in zip(labels.values(), pairs, strict=True)
            for i, x in enumerate(pair)
        ]
    )
    step = whole("state['step']", source["step"]) + 1 if counts else 1
    checked = Update(W, b, A_prev, delta, pairs, step, params, state, was_empty=not state)
    try:
        state.update(source)
        if counts:
            state["step"] = step
    except MemoryError:
        checked.uncount()
        raise
    return checked


def refuse_divergence(diverged: bool) -> None:
    """Raise after an update that met weights it could not store."""
    if diverged:
        raise FloatingPointError(
            "the update would have made some weights infinite or NaN: these keep their values "
            "and states, all others are updated"
        )


def update_params(dtype: np.dtype[Any], **given: Any) -> dict[str, Any]:
    """Check the numbers of an update; those that an optimiser does not have are left out."""
    bounds: dict[str, dict[str, float]] = {
        "lr": {"above": 0}, "scale": {}, "weight_decay": {"minimum": 0}, "l1": {"minimum": 0},
        "l2": {"minimum": 0}, "momentum": {"minimum": 0, "maximum": 1},
        "dampening": {"minimum": 0, "maximum": 1},
        "beta1": {"minimum": 0, "below": 1}, "beta2": {"minimum": 0, "below": 1},
        "alpha": {"minimum": 0, "maximum": 1}, "eps": {"above": 0},
    }  # fmt: skip
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name in bounds:
            checked[name] = real(name, value, **bounds[name])
        elif name == "clip_value":
            checked[name] = None if value is None else real(name, value, above=0)
        elif name == "variant":
            checked[name] = choice(name, value, ("torch", "sklearn"))
        else:
            checked[name] = boolean(name, value)  # nesterov
    # A learning rate may fall below what the dtype holds, and a factor may be anything.
    held("update", {key: checked[key] for key in checked if key not in ("lr", "scale")}, dtype)
    if checked.get("nesterov") and not checked.get("momentum"):
        raise ValueError("nesterov=True needs momentum > 0")
    if checked.get("dampening") and (checked["nesterov"] or checked["variant"] == "sklearn"):
        raise ValueError("dampening goes with plain momentum of the variant 'torch' only")
    return checked
