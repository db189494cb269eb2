"""Compare every kernel on every instruction set of this machine with the NumPy reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _kernels, _pairing, _validate_arrays, activations, kernels
from ._engine import Divergence, Engine
from ._validate_arrays import Array
from ._verify import Comparison, measure

__all__ = ["CheckReport", "CheckResult", "check"]

# The name in the report, the operation, its inputs and outputs; see _verify.verify.
_Case = tuple[str, str, Mapping[str, Any], Mapping[str, Any]]
_Shape = tuple[int, int, int]

_DTYPES = ("float32", "float64")
# (n_samples, fan_in, fan_out): below, at and beyond the widths of vectors and tiles; the narrow
# ones take the 16-chain sums.
_SHAPES = ((1, 1, 1), (5, 3, 2), (16, 16, 16), (33, 19, 4), (67, 45, 37))
# Beyond one tile of the bounds; beyond one band of an update, and few samples in a layer that is so
# wide that they have products of their own, or so large that plain SGD has an update of its own,
# and of more samples than one tile of products has.
_LARGE, _WIDE, _FAR = (131, 530, 259), (3, 27, 259), (7, 260, 259)
_OPTIMIZERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("sgd", {"momentum": 0.9, "variant": "sklearn"}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "variant": "sklearn", "l1": 0.01, "l2": 0.1}),
    ("adam", {}),
    ("adam", {"variant": "sklearn", "l2": 0.1}),
    ("adamw", {"weight_decay": 0.1, "clip_value": 0.5}),
    ("rmsprop", {}),
    ("rmsprop", {"momentum": 0.9, "weight_decay": 0.1}),
    ("adagrad", {"l1": 0.01}),
)


@dataclass(frozen=True)
class CheckResult:
    """One kernel on one instruction set in one dtype.

    Attributes
    ----------
    isa, dtype, kernel : str
        Which.
    share : float
        The largest error met, as a share of its bound.
    passed : bool
        Whether that is at most 1.
    shape : tuple of int
        (n_samples, fan_in, fan_out) where it was met.
    worst : str
        The element there: what was computed, and what the reference gives.
    """

    isa: str
    dtype: str
    kernel: str
    share: float
    passed: bool
    shape: _Shape
    worst: str


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes
    ----------
    results : list of CheckResult
    passed : bool
        Whether every kernel stayed within its bounds.

    Examples
    --------
    >>> import fastgd
    >>> report = fastgd.check(dtypes=["float64"], verbose=False)
    >>> report.passed
    True
    """

    results: list[CheckResult] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        width = max((len(result.kernel) for result in self.results), default=6)
        lines = [f"{'isa':7} {'dtype':8} {'kernel':{width}} {'error/bound':>11}"]
        for r in self.results:
            lines.append(
                f"{r.isa:7} {r.dtype:8} {r.kernel:{width}} {r.share:11.3f} "
                + ("ok" if r.passed else f"WRONG at {r.shape}: {r.worst}")
            )
        wrong = sum(not result.passed for result in self.results)
        lines.append(
            f"{len(self.results)} checks, "
            + (f"{wrong} WRONG" if wrong else "all within their error bounds")
        )
        return "\n".join(lines)


def _params(act: str) -> dict[str, Any]:
    made = activations.get(act)
    return {"activation": act, "param": made.param}


def _activations(
    rng: np.random.Generator, shape: tuple[int, int, int], dtype: str
) -> Iterator[_Case]:
    n, _, units = shape
    z = (4 * rng.standard_normal((n, units))).astype(dtype)
    da = rng.standard_normal((n, units)).astype(dtype)
    for act in _kernels.ACTIVATIONS:
        a = kernels.activation(act, z)
        yield f"activation {act}", "activation", {"z": z, **_params(act)}, {"a": a}
        if act == "identity":
            continue
        x = z if activations.get(act).consumes == "z" else a
        dz = kernels.activation_grad(act, da, z=z, a=a)
        inputs = {"da": da, "x": x, **_params(act)}
        yield f"activation_grad {act}", "activation_grad", inputs, {"dz": dz}


def _layers(rng: np.random.Generator, shape: _Shape, dtype: str) -> Iterator[_Case]:
    n, fan_in, fan_out = shape
    X, W, b, delta, below = (
        rng.standard_normal(s).astype(dtype)
        for s in ((n, fan_in), (fan_in, fan_out), (fan_out,), (n, fan_out), (n, fan_in))
    )
    for act in ("identity", "relu", "gelu", "softmax"):
        z = np.empty((n, fan_out), dtype)
        a = kernels.forward(X, W, b, act, z_out=z)
        inputs = {"X": X, "W": W, "b": b, **_params(act)}
        yield "forward", "forward", inputs, {"z": z, "a": a}
    for act in ("identity", "tanh", "gelu"):
        x = kernels.activation("tanh", below) if act == "tanh" else below
        got = kernels.backward(delta, W, act, z=below, a=x)
        inputs = {"delta": delta, "W": W, "x": x, "mask": None, **_params(act)}
        yield "backward", "backward", inputs, {"delta": got}
    dW, db = kernels.weight_grad(X, delta)
    yield "weight_grad", "weight_grad", {"A_prev": X, "delta": delta}, {"dW": dW, "db": db}


def _losses(rng: np.random.Generator, shape: _Shape, dtype: str) -> Iterator[_Case]:
    n, _, units = shape
    z = (2 * rng.standard_normal((n, units))).astype(dtype)
    rows = rng.uniform(size=(n, units))
    labels = rng.integers(0, units, n)
    weights = rng.uniform(0.5, 2.0, n).astype(dtype)
    for kind in _pairing.LOSSES:
        targets = [rows.astype(dtype)]
        if kind == "cross_entropy":
            targets = [labels, (rows / rows.sum(axis=1, keepdims=True)).astype(dtype)]
        for output in _pairing.fitting_outputs(kind):
            for y in targets:
                w = weights if output in ("sigmoid", "softmax") else None
                value, delta = kernels.loss(kind, z, y, output=output, sample_weight=w)
                inputs = {
                    "z": z, "a": kernels.activation(output, z), "y": y, "sample_weight": w,
                    "kind": kind, "loss_param": _validate_arrays.loss_kind(kind)[1],
                    **_params(output),
                }  # fmt: skip
                yield f"loss {kind}", "loss", inputs, {"value": value, "delta": delta}


def _updates(rng: np.random.Generator, shape: _Shape, dtype: str) -> Iterator[_Case]:
    n, fan_in, fan_out = shape
    X, W, b, delta = (
        rng.standard_normal(s).astype(dtype)
        for s in ((n, fan_in), (fan_in, fan_out), (fan_out,), (n, fan_out))
    )
    # Without a scale plain SGD updates as in training, see sgd_tile and streamed_update; with one
    # by a kernel of its own.
    of_tiles = [("sgd", params, 1.0) for params in ({}, {"weight_decay": 0.1, "clip_value": 0.5})]
    others = [(optimizer, params, 1 / n) for optimizer, params in _OPTIMIZERS]
    for optimizer, params, scale in of_tiles if shape == _FAR else [*of_tiles, *others]:
        state: dict[str, Any] = {}
        if optimizer == "sgd" and "momentum" in params:
            state["velocity"] = np.zeros_like(W), np.zeros_like(b)
        weights = W.copy(), b.copy()
        for step in range(2):  # the second begins from states that are not zero
            before = _copies(state)
            inputs = {
                "W": weights[0].copy(), "b": weights[1].copy(), "A_prev": X, "delta": delta,
                "state": before, "lr": 0.05, "step": step, "optimizer": optimizer,
                "params": {**params, "scale": scale},
            }  # fmt: skip
            update = getattr(kernels, f"{optimizer}_update")
            settings = {**params, "lr": 0.05, "scale": scale}
            if optimizer == "sgd":
                update(*weights, X, delta, velocity=state.get("velocity"), **settings)
            else:
                update(*weights, X, delta, state, **settings)
            after = _copies(state)
            inputs["state"] = before or {
                name: (np.zeros_like(W), np.zeros_like(b)) for name in after
            }
            outputs = {"W": weights[0], "b": weights[1], "state": after}
            yield f"{optimizer}_update", "update", inputs, outputs


def _dropout(rng: np.random.Generator, shape: _Shape, dtype: str) -> Iterator[_Case]:
    # It has no function of its own, only a place in the engine's step.
    n, fan_in, units = shape
    engine = Engine(fan_in, [units, 1], [("relu", 0.0), ("identity", 0.0)], [True, True], dtype, 1)
    engine.set_loss("squared_error", 0.0)
    engine.set_optimizer("sgd", {})
    engine.set_dropout([0.3, 0.0])
    for layer in range(2):
        weight = engine.weight(layer)
        weight[...] = rng.standard_normal(weight.shape)
    cases: list[_Case] = []

    def keep(op: str, layer: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if op == "dropout":
            cases.append((op, op, _kept(inputs), _kept(outputs)))

    X = rng.standard_normal((n, fan_in)).astype(dtype)
    engine.checked_step(X, np.zeros((n, 1), dtype), None, 1e-3, keep)
    yield from cases


def _online(rng: np.random.Generator, shape: _Shape, dtype: str) -> Iterator[_Case]:
    # The engine takes a checked step twice: in the general way, and with this kernel.
    fan_in = shape[1]
    engine = Engine(fan_in, [1], [("identity", 0.0)], [True], dtype, 1)
    engine.set_loss("squared_error", 0.0)
    engine.set_optimizer("sgd", {})
    engine.weight(0)[...] = rng.standard_normal((fan_in, 1))
    updates: list[_Case] = []

    def keep(op: str, layer: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if op == "update":
            updates.append(("online", op, _kept(inputs), _kept(outputs)))

    X = rng.standard_normal((1, fan_in)).astype(dtype)
    with contextlib.suppress(Divergence):
        engine.checked_step(X, np.ones((1, 1), dtype), None, 0.05, keep)
    yield from updates[1:]  # nothing if the general way is so broken that it diverged


def _kept(shown: Any) -> Any:
    # The views that a checked step shows last as long as the call.
    if isinstance(shown, Mapping):
        return {name: _kept(value) for name, value in shown.items()}
    if isinstance(shown, tuple):
        return tuple(map(_kept, shown))
    return shown.copy() if isinstance(shown, np.ndarray) else shown


def _copies(state: Mapping[str, Any]) -> dict[str, tuple[Array, Array]]:
    return {k: (v[0].copy(), v[1].copy()) for k, v in state.items() if isinstance(v, tuple)}


def _check_one(isa: str, dtype: str) -> list[CheckResult]:
    worst: dict[str, tuple[Comparison, _Shape]] = {}
    beyond = {_layers: (_WIDE, _FAR, _LARGE), _updates: (_WIDE, _FAR)}
    for part in (_layers, _activations, _losses, _updates, _dropout, _online):
        for shape in (*_SHAPES, *beyond.get(part, (_WIDE,))):
            rng = np.random.default_rng(shape)
            for kernel, op, inputs, outputs in part(rng, shape, dtype):
                for comparison in measure(op, 0, inputs, outputs):
                    if kernel not in worst or comparison.share > worst[kernel][0].share:
                        worst[kernel] = comparison, shape
    results = []
    for kernel, (c, shape) in worst.items():
        at = f"{c.array}{list(c.index)} is {c.got:.9g}, the reference gives {c.expected:.9g}"
        results.append(CheckResult(isa, dtype, kernel, c.share, c.share <= 1, shape, at))
    return results


def check(
    isas: str | Sequence[str] | None = None,
    dtypes: str | type | np.dtype[Any] | Sequence[DTypeLike] = _DTYPES,
    *,
    verbose: bool = True,
) -> CheckReport:
    """Compare every kernel on every instruction set of this machine with the NumPy reference.

    Parameters
    ----------
    isas : str or sequence of str, optional
        Instruction sets; default all of `available_isas`.
    dtypes : sequence of {"float32", "float64"}, or one of them
        Element types.
    verbose : bool
        Print a table.

    Returns
    -------
    CheckReport
        For each kernel the largest error as a share of its forward error bound, and ``passed``.

    Raises
    ------
    ValueError
        If an instruction set is unknown, not built or not supported here, or a dtype is unknown.

    Notes
    -----
    Takes some seconds.  The active instruction set is changed while it runs, for the whole process,
    and restored afterwards.

    Examples
    --------
    >>> import fastgd
    >>> report = fastgd.check([fastgd.active_isa()], ["float32"], verbose=False)
    >>> report.passed, report.results[0].kernel
    (True, 'forward')
    """
    before = _kernels.active_isa()
    if isas is None:
        isas = _kernels.available_isas()
    names = [isas] if isinstance(isas, str) else list(isas)
    types = [dtypes] if isinstance(dtypes, str | type | np.dtype) else list(dtypes)
    checked = [_validate_arrays.choice("dtype", np.dtype(t).name, _DTYPES) for t in types]
    report = CheckReport()
    try:
        # The active one first, and as it is: selecting it anew would hide a fault in it.
        for isa in sorted(names, key=lambda name: name != before):
            if isa != _kernels.active_isa():
                _kernels.set_isa(isa, "isa")
            for dtype in checked:
                report.results.extend(_check_one(isa, dtype))
    finally:
        if _kernels.active_isa() != before:
            _kernels.set_isa(before)
    if verbose:
        print(report)
    return report
