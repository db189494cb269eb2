"""How signals and gradients flow through a network: one look at it, and what the look says.

A look goes through a step on the engine's own work buffers and updates nothing. What the next step
would change is computed by the formulas of fastgd.reference on copies, some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import kernels, reference
from ._html import block, note, table
from ._pairing import canonical_output
from ._validate import Array, choice
from ._validate_arrays import state_names

if TYPE_CHECKING:
    from ._plots import Display
    from ._training import Data
    from .activations import Activation
    from .network import Network

__all__ = ["QUANTITIES", "Finding", "GradientFlowReport", "NextStep", "cancels", "findings", "look"]

# name -> (head of a table's column, what stands beside the colours of a heat map)
QUANTITIES = {
    "z_mean": ("z mean", "mean of z"),
    "z_std": ("z std", "std of z"),
    "a_mean": ("a mean", "mean of a"),
    "a_std": ("a std", "std of a"),
    "saturated": ("saturated", "saturated\nin %"),
    "dead": ("dead", "dead units\nin %"),
    "delta_norm": ("|delta|", "log10 |delta|"),
    "dW_norm": ("|dW|", "log10 |dW|"),
    "W_norm": ("|W|", "log10 |W|"),
    "update_ratio": ("update/W", "log10 of\nupdate / W"),
}

# ---- thresholds, and why ------------------------------------------------------------------------

# A value is saturated where f' is below this share of the steepest f': what little comes through
# is lost among the other samples.  For tanh that is |a| > 0.975, for sigmoid a beyond 0.013 or
# 0.987.
FLAT = 0.05
# The steepest f' where it is not about 1; the activations that can be flat at all.
_STEEPEST = {
    "relu": 1.0, "elu": 1.0, "selu": 1.0, "gelu": 1.0, "silu": 1.0, "mish": 1.0, "softplus": 1.0,
    "softsign": 1.0, "tanh": 1.0, "sigmoid": 1 / 4, "hard_sigmoid": 1 / 6,
}  # fmt: skip
# Flat on both sides, so that a value can be stuck on either.
_BOUNDED = frozenset({"softsign", "tanh", "sigmoid", "hard_sigmoid"})
# |delta| of the first layer by that of the last: five sigmoid layers at their steepest, 4^-5, are
# just below the one; the other is as far on the other side.
VANISHING, EXPLODING = 1e-3, 1e3
# Share of units of a layer that pass no gradient for any sample: healthy networks have some.
DEAD = 0.25
# Of fewer samples a healthy unit is off for all too easily: at one half each, 32 of 2^32.
DEAD_SAMPLES = 32
# Share of saturated values of a bounded activation: more than half learn at below FLAT of the pace.
SATURATED = 0.5
# |next change of W| / |W|; about 1e-3 is usual.  Above the one, ten steps may replace the weights,
# and a gradient tells nothing so far away; below the other, 100,000 steps change them by their
# own size.
TOO_HIGH, USUAL, TOO_LOW = 0.1, 1e-3, 1e-5

_BLOCK = 1 << 16  # elements of a weight matrix at a time


class Finding(NamedTuple):
    """What a look says: its kind in one word, and a sentence that says what to try."""

    kind: str
    text: str


class GradientFlowReport:
    """How values and gradients flow through the layers of a network, for some samples.

    Each attribute below that says (n_layers,) is a float64 array. NaN stands where a notion does
    not apply, and in place of all gradients if the loss is not finite.

    Attributes
    ----------
    layers : list of str
        Number and activation of each layer.
    n_samples : int
    loss : float
        The mean loss of the samples, penalties included, without dropout.
    lr : float
        The learning rate of the next step.
    z_mean, z_std, a_mean, a_std : ndarray (n_layers,)
        Mean and standard deviation of pre-activations and activations, over samples and units.
    saturated : ndarray (n_layers,)
        Share of them, from 0 to 1, where the derivative f' of the activation is below 5 % of its
        steepest. Does not apply to activations that are nowhere flat, or are meant to be (identity,
        leaky_relu, exp, softmax), nor to an output whose derivative the loss cancels.
    dead : ndarray (n_layers,)
        Share of the units, from 0 to 1, that are so for every sample: they pass no gradient.
    delta_norm : ndarray (n_layers,)
        Euclidean norm of delta = dL/dz, (n_samples, units), L being the mean loss.
    dW_norm, W_norm : ndarray (n_layers,)
        Euclidean norms of the gradient of W, penalties included, before clipping, and of W.
    update_ratio : ndarray (n_layers,)
        |change of W| / |W| if the optimiser took its next step on these samples.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(4, "tanh"), fastgd.Dense(1)], "squared_error",
    ...                      n_inputs=2)
    >>> report = net.gradient_flow(np.eye(2), np.ones(2))
    >>> report.layers, report.z_std.shape
    (['0 tanh', '1 identity'], (2,))
    """

    z_mean: Array
    z_std: Array
    a_mean: Array
    a_std: Array
    saturated: Array
    dead: Array
    delta_norm: Array
    dW_norm: Array
    W_norm: Array
    update_ratio: Array

    def __init__(
        self,
        layers: Sequence[str],
        n_samples: int,
        loss: float,
        lr: float,
        values: Mapping[str, Array],
    ) -> None:
        self.layers: list[str] = list(layers)
        self.n_samples = n_samples
        self.loss = loss
        self.lr = lr
        self.__dict__.update(values)

    def values(self, name: str) -> Array:
        """Return one of the arrays (n_layers,) by its name.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3, "relu"), fastgd.Dense(1)], "squared_error",
        ...                      n_inputs=2)
        >>> net.gradient_flow(np.eye(2), np.ones(2)).values("delta_norm").shape
        (2,)
        """
        found: Array = getattr(self, choice("name", name, QUANTITIES))
        return found

    @property
    def warnings(self) -> list[str]:
        """What is wrong, in plain words, and what to try; empty if nothing is."""
        return [finding.text for finding in findings(self)]

    def plot(self) -> Display:
        """Draw the numbers by layer: values, flat shares, norms, and the update-to-weight ratio.

        Returns
        -------
        Display
            With ``figure_`` and ``axes_`` of matplotlib, and ``lines_`` by the name of what they
            show.

        Raises
        ------
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(4, "tanh"), fastgd.Dense(1)], "squared_error",
        ...                      n_inputs=2)
        >>> display = net.gradient_flow(np.eye(2), np.ones(2)).plot()
        >>> [ax.get_ylabel() for ax in display.axes_]
        ['z and a', 'share in %', 'norm', '|change of W| / |W|']
        >>> matplotlib.pyplot.close(display.figure_)
        """
        from ._plots import draw_flow

        return draw_flow(self.layers, {name: self.values(name) for name in QUANTITIES})

    def _head(self) -> str:
        samples = f"{self.n_samples:,} sample{'s' if self.n_samples > 1 else ''}"
        return f"Gradient flow of {samples}: loss {self.loss:.6g}, lr {self.lr:g}"

    def _cells(self) -> list[tuple[str, ...]]:
        columns = [self.layers]
        for name in QUANTITIES:
            is_share = name in ("saturated", "dead")
            columns.append(
                [
                    "-" if math.isnan(x) else f"{x:.1%}" if is_share else f"{x:.3g}"
                    for x in self.values(name)
                ]
            )
        return list(zip(*columns, strict=True))

    def __repr__(self) -> str:
        rows = [("layer", *(head for head, _ in QUANTITIES.values())), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self._head()]
        for first, *rest in rows:
            cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            lines.append("  ".join([first.ljust(widths[0]), *cells]))
        return "\n".join([*lines, *(self.warnings or ["Nothing unusual."])])

    def _repr_html_(self) -> str:
        header = ("layer", *(head for head, _ in QUANTITIES.values()))
        notes = [note(text) for text in self.warnings or ["Nothing unusual."]]
        return block(self._head(), table(header, self._cells()), *notes)


# ---- looking -----------------------------------------------------------------------------------


def look(network: Network, data: Data) -> GradientFlowReport:
    """Look at a network that has weights, with checked data as one batch."""
    engine = network._live()
    acts = [_activation(network, i) for i in range(len(network.layers))]
    values = {name: np.full(len(acts), np.nan) for name in QUANTITIES}
    gradients: list[tuple[Array, Array | None]] = []
    lr = float(network.optimizer.learning_rates(engine.step, 1)[0])

    def watch(op: str, layer: int, inputs: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        if op == "forward":
            for name in "z", "a":
                array = found[name]
                mean = array.mean(dtype=np.float64)
                values[f"{name}_mean"][layer] = mean
                # In two steps, since the square of the mean may dwarf the variance.
                values[f"{name}_std"][layer] = math.sqrt(
                    np.square(array - mean, dtype=np.float64).mean()
                )
            is_flat = _flat(acts[layer], found["z"], found["a"])
            if is_flat is not None and not cancels(network, layer):
                values["saturated"][layer] = is_flat.mean()
                values["dead"][layer] = is_flat.all(axis=0).mean()
        elif op == "weight_grad":
            values["delta_norm"][layer] = _norm(inputs["delta"])
        elif op == "gradient":
            gradients.append((found["dW"], found["db"]))
            values["dW_norm"][layer] = _norm(found["dW"])
            values["W_norm"][layer] = _norm(inputs["W"])
            if layer == len(acts) - 1:
                # Now, while the gradients are still the engine's.
                step = NextStep(network, gradients, lr)
                for i in range(len(acts)):
                    values["update_ratio"][i] = _ratio(step.change_norm(i), values["W_norm"][i])

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        loss = float(engine.look(*data, watch))
    return GradientFlowReport(
        [f"{i} {act.name}" for i, act in enumerate(acts)], len(data.X), loss, lr, values
    )


class NextStep:
    """The optimiser's next step for given gradients; the network keeps its weights and states.

    Parameters
    ----------
    network : Network
    gradients : list of (dW, db)
        Of the mean loss, penalties included, not clipped.
    lr : float
        The learning rate of that step.
    """

    def __init__(
        self, network: Network, gradients: Sequence[tuple[Array, Array | None]], lr: float
    ) -> None:
        self._engine = network._live()
        self._name = network.optimizer.name
        given = network.optimizer.params()
        self._params = reference._full_params(self._name, given) | {"lr": lr}
        self._gradients = gradients
        states = self._engine.optimizer_state()
        self._states = [states[key] for key in state_names(self._name, given.get("momentum", 0.0))]
        self._factor = 1.0
        if network.optimizer.clip_norm is not None:
            total = math.hypot(*(_norm(self._clipped(g)) for pair in gradients for g in pair))
            self._factor = min(1.0, network.optimizer.clip_norm / (total + 1e-6))

    def _clipped(self, gradient: Array | None) -> Array:
        if gradient is None:
            return np.zeros(1)
        limit = self._params["clip_value"]
        return gradient if limit is None else np.clip(gradient, -limit, limit)

    def _new(self, old: Array, gradient: Array, states: list[Array]) -> Array:
        g = self._clipped(gradient) * self._factor
        step = int(self._engine.step) + 1
        with np.errstate(all="ignore"):
            new, _ = reference._new_values(self._name, old, g, states, step, self._params)
        return np.asarray(new)

    def weight(self, i: int, rows: slice = slice(None)) -> Array:
        """Return rows of the weights of layer i after the step: a new array."""
        states = [pairs[i][0][rows] for pairs in self._states]
        return self._new(self._engine.weight(i)[rows], self._gradients[i][0][rows], states)

    def bias(self, i: int) -> Array | None:
        """Return the biases of layer i after the step, None if it has none."""
        old, gradient = self._engine.bias(i), self._gradients[i][1]
        if old is None or gradient is None:
            return None
        states = [state for pairs in self._states if (state := pairs[i][1]) is not None]
        return self._new(old, gradient, states)

    def change_norm(self, i: int) -> float:
        """Return |change of W| of layer i."""
        W = self._engine.weight(i)
        return math.hypot(*(_norm(self.weight(i, rows) - W[rows]) for rows in _row_blocks(W)))


def cancels(network: Network, layer: int) -> bool:
    """Return whether a layer is an output whose derivative cancels with that of the loss."""
    return (
        layer == len(network.layers) - 1
        and network.loss_name in ("log_loss", "cross_entropy", "poisson")
        and _activation(network, layer).name == canonical_output(network.loss_name)
    )


def slope(act: Activation, z: Array, a: Array) -> Array:
    """Return f'(z) of an activation that acts on each unit by itself."""
    return kernels.activation_grad(act, np.ones(z.shape, z.dtype), z=z, a=a)


def _activation(network: Network, layer: int) -> Activation:
    act = network.layers[layer].activation
    assert act is not None
    return act


def _flat(act: Activation, z: Array, a: Array) -> Array | None:
    """Return where f' is nearly 0, (n_samples, units), None where that means nothing."""
    if act.name not in _STEEPEST:
        return None
    if act.name == "relu":
        return np.equal(a, 0)
    return np.less(slope(act, z, a), FLAT * _STEEPEST[act.name])


def _norm(array: Array) -> float:
    squares = np.square(array, dtype=np.float64)
    return math.sqrt(squares.sum())


def _row_blocks(W: Array) -> Iterator[slice]:
    rows = max(1, _BLOCK // W.shape[1])
    for first in range(0, len(W), rows):
        yield slice(first, first + rows)


def _ratio(change: float, size: float) -> float:
    if size == 0:
        return math.nan if change == 0 else math.inf
    return change / size if math.isfinite(change) else math.inf


# ---- what a look says --------------------------------------------------------------------------


def findings(report: GradientFlowReport, is_learning: bool = False) -> list[Finding]:
    """Return what is wrong with a network, and what to try.

    is_learning: the loss is known to fall, so that small steps are no sign of a learning rate that
    is too low.
    """
    found = []
    if math.isnan(report.loss):
        found.append(
            Finding(
                "diverged",
                "Diverged: the loss of these samples is not finite. Try a smaller lr, "
                "clip_norm=1.0 in the optimizer, or standardised inputs and targets.",
            )
        )
    else:
        found += _of_gradients(report)
    found += _of_units(report)
    if not math.isnan(report.loss):
        found += _of_steps(report, is_learning)
    return found


def _of_gradients(report: GradientFlowReport) -> Iterator[Finding]:
    first, last = float(report.delta_norm[0]), float(report.delta_norm[-1])
    if last == 0 or len(report.layers) < 2:
        return
    where = (
        f"|delta| is {last:.2g} at the output and {first:.2g} at the first layer"
        f"{f', {last / first:,.0f} times less' if 0 < first < last else ''}"
    )
    if first < VANISHING * last:
        yield Finding(
            "vanishing",
            f"Vanishing gradients: {where}, so the first layers hardly learn. Try relu or another "
            "activation that is not flat on both sides, fewer layers, or greater first weights "
            "(weight_init='he_uniform').",
        )
    elif not first <= EXPLODING * last:
        yield Finding(
            "exploding",
            f"Exploding gradients: {where}. Try smaller first weights "
            "(weight_init='glorot_uniform'), clip_norm=1.0 in the optimizer, or fewer layers.",
        )


def _of_units(report: GradientFlowReport) -> Iterator[Finding]:
    bounded = [name.split()[1] in _BOUNDED for name in report.layers]
    if report.n_samples >= DEAD_SAMPLES:
        dead = [
            f"layer {name} ({share:.0%})"
            for name, share, is_bounded in zip(report.layers, report.dead, bounded, strict=True)
            if share > DEAD and not is_bounded
        ]
        if dead:
            yield Finding(
                "dead",
                f"Dead units in {', '.join(dead)}: they pass no gradient for any of the "
                f"{report.n_samples} samples and cannot learn. Try a smaller lr, leaky_relu or "
                "elu, or standardised inputs.",
            )
    stuck = [
        f"layer {name} ({share:.0%})"
        for name, share, is_bounded in zip(report.layers, report.saturated, bounded, strict=True)
        if share > SATURATED and is_bounded
    ]
    if stuck:
        yield Finding(
            "saturated",
            f"Saturated values in {', '.join(stuck)}: the derivative there is nearly 0, and little "
            "is learnt. Try standardised inputs, smaller first weights "
            "(weight_init='glorot_uniform'), a smaller lr, or relu.",
        )


def _of_steps(report: GradientFlowReport, is_learning: bool) -> Iterator[Finding]:
    # Weights of zero have no size to compare with.
    ratios = np.where(report.W_norm > 0, report.update_ratio, 0.0)
    worst = int(np.argmax(ratios))
    ratio = float(ratios[worst])
    if math.isinf(ratio):
        yield Finding(
            "lr_too_high",
            f"Learning rate too high: the next step would leave weights of layer "
            f"{report.layers[worst]} that are not finite. Try a much smaller lr than "
            f"{report.lr:g}, or clip_norm=1.0 in the optimizer.",
        )
    elif ratio > TOO_HIGH:
        yield Finding(
            "lr_too_high",
            f"Learning rate too high: the next step changes the weights of layer "
            f"{report.layers[worst]} by {ratio:.0%} of their norm, where 0.1 % is usual. Try lr "
            f"below {report.lr * 10 * USUAL / ratio:.1g}, or clip_norm=1.0 in the optimizer.",
        )
    elif 0 < ratio < TOO_LOW and not is_learning:
        yield Finding(
            "lr_too_low",
            f"Learning rate too low, unless the loss has settled: no step changes the weights of a "
            f"layer by more than {ratio:.1g} of their norm, where 0.001 is usual. Try a greater lr "
            f"than {report.lr:g}, such as {10 * report.lr:.1g}.",
        )
