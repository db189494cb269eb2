"""The loop over the epochs of a fit: native calls, and what happens between them."""

from __future__ import annotations

import math
import time
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _kernels, metrics
from ._engine import Divergence
from ._validate import Array
from .callbacks import Callback, overrides
from .config import active
from .history import History

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .blocks import Windows
    from .network import Network

__all__ = ["BlockTraining", "Data", "DivergenceError", "Training"]

# A native call for many epochs returns at about this interval when something shows progress.
_REPORT_SECONDS = 0.1
# Learning rates of at most this many steps, or of one epoch, are laid out for one native call.
_MAX_RATES = 1 << 16
# Orders that are given have at most this many entries in one native call, or are one epoch's.
_MAX_ENTRIES = 1 << 18

# (ISA, dtype, operations) whose first step was repeated by the reference in this process
verified: set[tuple[object, ...]] = set()


class DivergenceError(FloatingPointError):
    """Training met a loss or a weight that is not finite; every weight keeps its last finite value.

    A step whose loss is not finite changes nothing. Where an update is not, that weight and its
    state stay as they were, and the others of that step are updated.

    Attributes
    ----------
    epoch, step : int
        Where in the fit it happened, both counted from 0; epoch is None in train_step.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", optimizer=fastgd.SGD(1e30))
    >>> X = np.ones((8, 1))
    >>> try:
    ...     net.fit(X, 1e8 * X, epochs=9, verbose=0)
    ... except fastgd.DivergenceError as error:
    ...     print(error.epoch < 9, bool(np.isfinite(net.layers[0].weight).all()))
    True True
    """

    def __init__(self, message: str, epoch: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


def divergence(
    error: Divergence, network: Network, lr: float, epoch: int | None, step: int
) -> DivergenceError:
    """Return the public form of the engine's exception, with advice."""
    where = (
        f"step {step + 1}" if epoch is None else f"epoch {epoch + 1}, step {step + 1} of the fit"
    )
    advice = f"a smaller lr (it was {lr:g})"
    if network._can_clip and network.optimizer.clip_norm is None:
        advice += ", clip_norm=1.0 in the optimizer"
    return DivergenceError(
        f"training diverged in {where}: a {error.what} is not finite. The network keeps its last "
        f"finite weights. Try {advice}, or standardised inputs and targets.",
        epoch,
        step,
    )


class Data(NamedTuple):
    """Checked arrays, as the engine takes them."""

    X: Array
    y: Array
    sample_weight: Array | None

    def rows(self, rows: slice) -> Data:
        """Return views of some rows."""
        weight = self.sample_weight
        return Data(self.X[rows], self.y[rows], None if weight is None else weight[rows])

    def evenly_spaced(self, most: int) -> Data:
        """Return copies of at most so many rows, evenly spaced."""
        chosen = self.rows(slice(None, None, -(-len(self.X) // most)))
        weight = chosen.sample_weight
        return Data(chosen.X.copy(), chosen.y.copy(), None if weight is None else weight.copy())

    def kept(self) -> Data:
        """Return copies of y and weights, beside which X has no columns."""
        weight = self.sample_weight
        return Data(self.X[:, :0], self.y.copy(), None if weight is None else weight.copy())

    @staticmethod
    def joined(parts: Sequence[Data]) -> Data:
        """Return the rows of all parts, which are alike."""
        weights = [part.sample_weight for part in parts if part.sample_weight is not None]
        return Data(
            np.concatenate([part.X for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate(weights) if weights else None,
        )


class Training:
    """One fit, all of whose arguments have been checked."""

    def __init__(
        self,
        network: Network,
        data: Data,
        validation: Data | None,
        *,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        functions: Mapping[str, metrics.MetricFunction],
        callbacks: Sequence[Callback],
        reporters: Sequence[Callback],
        history: History,
        first_epoch: int,
        orders: Callable[[int], NDArray[np.int64]] | None = None,
    ) -> None:
        self.network = network
        self.data = data
        self.validation = validation
        self.epochs = epochs
        self.batch_size = min(batch_size, len(data.X))
        self.shuffle = shuffle
        self.functions = dict(functions)
        self.callbacks = list(callbacks)
        self.all_callbacks = sorted([*callbacks, *reporters], key=lambda callback: callback.last)
        self.history = history
        self.done = first_epoch
        # After so many epochs the weights are as they are; None within one.
        self._trained: int | None = first_epoch
        self._thread = get_ident()
        # What draws the rows of so many epochs, (n_epochs, n_samples), in place of the engine.
        self.orders = orders
        self.steps: int | None = -(-len(data.X) // self.batch_size)
        self.steps_done = first_epoch * self.steps
        self._chunk = 1

    def run(self) -> None:
        """Train; callbacks are closed and the data let go in every case."""
        engine = self.network._live()
        try:
            self._bind()
            for callback in self.all_callbacks:
                callback.network = self.network
                callback.n_epochs = self.epochs
                callback.steps_per_epoch = self.steps
                callback.first_epoch = self.done
                callback.on_fit_begin()
            while self.done < self.epochs and not self.network.stop_training:
                self._train_chunk(self._next_chunk())
            for callback in self.all_callbacks:
                callback.on_fit_end()
        finally:
            engine.unbind()
            with ExitStack() as stack:  # all of them, whatever one raises
                for callback in reversed(self.all_callbacks):
                    stack.callback(callback.close)

    def _bind(self) -> None:
        self.network._live().bind(*self.data, self.batch_size, self.shuffle)

    def _next_chunk(self) -> int:
        """Return how many epochs the next native call runs."""
        assert self.steps is not None
        lr = self.network.optimizer.lr
        if (
            self.validation is not None
            or self.functions
            or getattr(lr, "monitor", None) is not None
            or any(callback.every_epoch for callback in self.all_callbacks)
        ):
            return 1
        most = min(self.epochs - self.done, max(1, _MAX_RATES // self.steps))
        for callback in self.all_callbacks:
            if callback.interval is not None:
                most = min(most, callback.interval - self.done % callback.interval)
        if self.orders is not None:
            most = min(most, max(1, _MAX_ENTRIES // len(self.data.X)))
        return min(most, self._chunk) if self.all_callbacks else most

    def _begin_epoch(self) -> None:
        for callback in self.all_callbacks:
            if callback.every_epoch:
                callback.on_epoch_begin(self.done)

    def _train_chunk(self, n_epochs: int) -> None:
        assert self.steps is not None
        network, engine = self.network, self.network._live()
        self._begin_epoch()
        optimizer = network.optimizer
        lrs: float | Array | None = optimizer.fixed_lr
        if lrs is None:
            lrs = optimizer.learning_rates(engine.step, n_epochs * self.steps)
        outputs = None
        if self.functions:
            outputs = np.zeros((len(self.data.X), network.n_outputs), network.dtype)
        if self.orders is not None:
            engine.bind(*self.data, self.batch_size, False, self.orders(n_epochs))
        began = time.perf_counter()
        self._trained = None
        losses = self._native(lrs, n_epochs, outputs)
        self._trained = self.done + n_epochs
        took = time.perf_counter() - began
        self._chunk = max(1, min(8 * n_epochs, int(n_epochs * _REPORT_SECONDS / max(took, 1e-9))))
        for i in range(n_epochs):
            logs = {
                "loss": float(losses[i]),
                "lr": lrs if isinstance(lrs, float) else float(lrs[(i + 1) * self.steps - 1]),
                "seconds": took / n_epochs,
            }
            self._end_epoch(logs, self.data, outputs)

    def _native(
        self,
        lrs: float | Array,
        n_epochs: int,
        outputs: Array | None,
        sums: NDArray[np.float64] | None = None,
    ) -> Array:
        """Train the bound data for some epochs; with sums, of which they are a part of one."""
        engine = self.network._live()
        before = self.steps_done
        progress = [c for c in self.all_callbacks if overrides(c, "on_progress")]
        batch = [c for c in self.all_callbacks if overrides(c, "on_batch_end")]

        def on_slice(steps: int) -> None:
            for callback in progress:
                callback.on_progress(before + steps)

        def on_batch(step: int, loss: float) -> None:
            for callback in batch:
                callback.on_batch_end(before + step, loss)

        def train(**verification: Any) -> Array:
            losses: Array = engine.run_epochs(
                lrs,
                n_epochs,
                outputs=outputs,
                on_slice=on_slice if progress else None,
                on_batch=on_batch if batch else None,
                sums=sums,
                **verification,
            )
            return losses

        is_plain = self.data.sample_weight is None and not self.functions
        try:
            found = run_verified(self.network, self.batch_size, is_plain, train)
        except Divergence as error:
            at = error.step_in_call
            lr = lrs if isinstance(lrs, float) else float(lrs[at])
            epoch = self.done + error.epoch_in_call
            raise divergence(error, self.network, lr, epoch, before + at) from None
        # Not by the engine's count, which begins anew with another optimizer.
        self.steps_done += n_epochs * engine.n_steps_per_epoch
        return found

    def _end_epoch(self, logs: dict[str, float], data: Data, outputs: Array | None) -> None:
        network, epoch = self.network, self.done
        if outputs is not None:
            logs.update(metrics.evaluate(self.functions, data.y, outputs, data.sample_weight))
        if self.validation is not None:
            logs.update(network._evaluate(self.validation, self.functions, "val_"))
        self.history.append(epoch, logs)
        self.done += 1
        lr = network.optimizer.lr
        if hasattr(lr, "epoch_end"):
            lr.epoch_end(logs)
        for callback in self.all_callbacks:
            callback.on_epoch_end(epoch, logs)

    def state(self) -> dict[str, Any] | None:
        """Return what a later fit needs to resume this one after the epochs done so far.

        None where the weights are those of another moment: within an epoch, for another thread, and
        after the first of several epochs of a native call.
        """
        if self._trained != self.done or self._thread != get_ident():
            return None
        return {
            "done": self.done,
            "stopped": self.network.stop_training,
            "steps": self.steps_done,
            "callbacks": [
                {"name": type(callback).__name__, "state": callback.state_dict()}
                for callback in self.callbacks
            ],
        }


class BlockTraining(Training):
    """A fit on the windows of blocks, which one after the other take the place of the data."""

    def __init__(
        self, network: Network, windows: Windows, *, first_step: int, **settings: Any
    ) -> None:
        super().__init__(network, windows.peek(), orders=None, **settings)
        self.windows = windows
        self.steps_done = first_step
        n_rows = windows.blocks.n_rows
        self.steps = None if n_rows is None else -(-n_rows // self.batch_size)

    def _bind(self) -> None:
        """Each window is bound when its turn has come."""

    def _next_chunk(self) -> int:
        return 1

    def _train_chunk(self, n_epochs: int) -> None:
        network, engine = self.network, self.network._live()
        self._begin_epoch()
        began, first_step = time.perf_counter(), self.steps_done
        self._trained = None
        sums = np.zeros(2)
        lr = math.nan
        seen: list[tuple[Data, Array]] = []
        for number, window in enumerate(self.windows.one_pass()):
            self.data, n_rows = window, len(window.X)
            order = None
            if self.shuffle:
                order = np.empty((1, n_rows), np.int64)
                engine.draw_order(order[0], window_seed(engine.seed, number))
            outputs = None
            if self.functions:
                outputs = np.zeros((n_rows, network.n_outputs), network.dtype)
                seen.append((window.kept(), outputs))
            engine.bind(*window, self.batch_size, False, order)
            lrs: float | Array | None = network.optimizer.fixed_lr
            if lrs is None:
                n_steps = -(-n_rows // self.batch_size)
                lrs = network.optimizer.learning_rates(engine.step, n_steps)
            (loss,) = self._native(lrs, 1, outputs, sums)
            lr = lrs if isinstance(lrs, float) else float(lrs[-1])
        engine.epoch += 1
        self._trained = self.done + 1
        steps = self.steps_done - first_step
        if self.steps != steps:
            self.steps = steps
            for callback in self.all_callbacks:
                callback.steps_per_epoch = steps
        logs = {"loss": float(loss), "lr": lr, "seconds": time.perf_counter() - began}
        parts, found = [part for part, _ in seen], [outputs for _, outputs in seen]
        data = Data.joined(parts) if seen else self.data
        self._end_epoch(logs, data, np.concatenate(found) if seen else None)


def window_seed(seed: int, number: int) -> int:
    """Return the seed of a window's order: that of the network for the first of an epoch."""
    # Multiples of the golden ratio, as of SplitMix64, keep the keys of the generator apart.
    return (seed + number * 0x9E3779B97F4A7C15) % 2**64


def run_verified(
    network: Network, batch_size: int, is_plain: bool, train: Callable[..., Array]
) -> Array:
    """Call train, a form of `Engine.run_epochs`, with the verification that the settings ask for.

    is_plain: the samples have no weights, and their outputs are not asked for.
    """
    mode = active.settings.validate
    if mode == "off":
        return train()
    if mode == "always":
        from ._verify import verify

        return train(verify=verify, verify_all=True)
    engine = network._live()
    key = *operations(network), engine.path(batch_size, is_plain), engine.forms
    if key in verified:
        return train()
    from ._verify import verify

    losses = train(verify=verify)
    verified.add(key)
    return losses


def restore_callbacks(
    network: Network, callbacks: Sequence[Callback], states: Sequence[Mapping[str, Any]]
) -> None:
    """Give each callback the first state left that one of its class has kept.

    Nothing of the network has changed when a state is refused.
    """
    left = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        for state in left:
            if state["name"] != name:
                continue
            left.remove(state)
            callback.network = network
            try:
                callback.load_state_dict(state["state"])
            except (
                ValueError, TypeError, LookupError, AttributeError, OverflowError,
            ) as error:  # fmt: skip
                raise ValueError(
                    f"the state of {name} cannot be restored: {error!r}. Fit without resume=True "
                    "to begin anew"
                ) from error
            break


def operations(network: Network) -> tuple[object, ...]:
    """Return the instruction set, the dtype and the operations of a step.

    It is kept in the network, since it costs more than a small step: all that it depends on is
    fixed, or replaced by another object.
    """
    isa, layers, optimizer = _kernels.active_isa(), network.layers, network.optimizer
    kept = network._operations
    if kept is not None and kept[0] is layers and kept[1] is optimizer and kept[2][0] == isa:
        return kept[2]
    found: set[object] = set()
    for layer in layers:
        assert layer.activation is not None
        # Layers of up to four units have a forward product of their own.
        found.add(("forward", layer.activation, layer.units <= 4, layer.use_bias))
        found.update(name for name in ("l1", "l2", "dropout") if getattr(layer, name))
    for layer in layers[:-1]:
        found.add(("backward", layer.activation))
    found.add(("loss", network.loss_name, layers[-1].activation))
    forms = [getattr(optimizer, name, False) for name in ("nesterov", "dampening")]
    found.add(("update", *optimizer.state_layout(), *map(bool, forms)))
    found.update(
        name for name in ("weight_decay", "clip_value", "clip_norm") if getattr(optimizer, name)
    )
    key = isa, network.dtype.name, frozenset(found)
    network._operations = layers, optimizer, key
    return key
