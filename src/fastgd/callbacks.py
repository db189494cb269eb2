"""Callbacks: objects that a fit calls between epochs.

A fit without callbacks that need every epoch runs in one native call; each hook here is reached
from Python only between epochs, or after batches if ``on_batch_end`` is defined.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from ._threads import make_bars_fork_safe
from ._validate import Array, boolean, choice, integer, real
from .schedules import improved, is_higher_better, monitored

if TYPE_CHECKING:
    from ._flow import GradientFlowReport
    from ._plots import Display
    from ._training import Data
    from .network import Network

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "GradientFlow",
    "GradientFlowWarning",
    "ProgressBar",
]


class Callback:
    """Base of the callbacks: override the hooks that you need.

    Attributes
    ----------
    network : Network
        Set when the fit begins. ``network.stop_training = True`` ends the fit after the epoch;
        ``network.optimizer.lr = ...`` holds from the next epoch on.
    n_epochs, steps_per_epoch, first_epoch : int
        Of the fit, set when it begins; first_epoch is above 0 if the fit was resumed.
        steps_per_epoch is None until the first epoch has ended if `Blocks` do not know how many
        rows they have.
    monitor : str or None
        If not None, fit refuses to start unless the logs will have a value of this name.
    every_epoch : bool
        False lets several epochs run in one native call when nothing else needs each of them;
        ``on_epoch_begin`` is not called then, ``on_epoch_end`` for each of them afterwards.
    interval : int or None
        If not None, a native call ends whenever the number of epochs done is a multiple of it, so
        that ``on_epoch_end`` finds the network as that epoch left it.
    last : bool
        True puts ``on_epoch_end`` after that of the callbacks for which it is False.

    Notes
    -----
    Epochs and steps count from 0 in each fit, over all its parts if it was resumed. ``logs`` holds
    what History records for the epoch. Hooks may call predict, evaluate, get_weights, set_weights
    and save, but not fit or train_step.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> class Print(fastgd.Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, sorted(logs))
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
    >>> _ = net.fit(np.ones((4, 1)), np.ones(4), epochs=2, callbacks=[Print()], verbose=0)
    0 ['loss', 'lr', 'seconds']
    1 ['loss', 'lr', 'seconds']
    """

    network: Network
    n_epochs: int
    steps_per_epoch: int | None
    first_epoch = 0
    monitor: str | None = None
    every_epoch = True
    interval: int | None = None
    last = False

    def on_fit_begin(self) -> None:
        """Called once before the first epoch; a resumed fit has restored the state by then."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Called before each epoch."""

    def on_batch_end(self, step: int, loss: float) -> None:
        """Called after each step of the fit, counted from 0, if a class defines it."""

    def on_progress(self, steps: int) -> None:
        """Called with the steps done in this fit, at least every 100 ms, if a class defines it."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Called after each epoch."""

    def on_fit_end(self) -> None:
        """Called after the last epoch, unless the fit ended by an exception."""

    def close(self) -> None:
        """Called at the very end in every case, also after an exception."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must be kept to go on from here: JSON values, and lists of arrays."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; ``network`` is set. Refuse anything else."""


class EarlyStopping(Callback):
    """End a fit when a value has stopped improving, and restore the best weights.

    Parameters
    ----------
    monitor : str
        A name in the logs.
    min_delta : float
        How much better than the best a value must be to count.
    patience : int
        Epochs without improvement after which the fit ends.
    mode : {"auto", "min", "max"}
        Whether lower or higher is better; "auto" is "max" for accuracy and r2, else "min".
    restore_best : bool
        Whether the weights of the best epoch are put back at the end of the fit, however it
        ended, but for an exception. The optimiser's state stays that of the last epoch.

    Attributes
    ----------
    best : float or None
    best_epoch : int or None
    stopped : bool
        Whether this callback ended the fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", optimizer=fastgd.SGD(0.2))
    >>> stop = fastgd.EarlyStopping("loss", min_delta=1e-3, patience=2)
    >>> history = net.fit(X, 3 * X, epochs=1000, callbacks=[stop], verbose=0)
    >>> stop.stopped, len(history.epoch) - 1 - stop.best_epoch
    (True, 2)
    """

    monitor: str

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 10,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        self.monitor = _name("monitor", monitor)
        self.min_delta: float = real("min_delta", min_delta, minimum=0)
        self.patience: int = integer("patience", patience)
        self.mode: str = choice("mode", mode, ("auto", "min", "max"))
        self.restore_best: bool = boolean("restore_best", restore_best)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped: bool = False
        self._wait = 0
        self._best_weights: list[Array] | None = None
        self._resumed = False

    def on_fit_begin(self) -> None:
        if not (self._resumed and self.first_epoch):
            self._reset()
        self._resumed = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        value = monitored(logs, self.monitor)
        higher = is_higher_better(self.monitor, self.mode)
        if improved(value, self.best, self.min_delta, higher):
            self.best, self.best_epoch, self._wait = value, epoch, 0
            if self.restore_best:
                self._best_weights = self.network.get_weights()
            return
        self._wait += 1
        if self._wait >= self.patience:
            self.stopped = True
            self.network.stop_training = True

    def on_fit_end(self) -> None:
        if self._best_weights is not None:
            self.network.set_weights(self._best_weights)

    def close(self) -> None:
        self._best_weights = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "wait": self._wait,
            "best_weights": self._best_weights or [],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        best, epoch = state["best"], state["best_epoch"]
        best = None if best is None else real("best", best)
        epoch = None if epoch is None else integer("best_epoch", epoch, 0)
        stopped = boolean("stopped", state["stopped"])
        wait = integer("wait", state["wait"], 0)
        weights = list(state["best_weights"]) or None
        if weights is not None:
            weights = self.network._checked_weights(weights)
        self.best, self.best_epoch, self.stopped = best, epoch, stopped
        self._wait, self._best_weights, self._resumed = wait, weights, True


class Checkpoint(Callback):
    """Save the network, with all that is needed to resume, after every so many epochs.

    Parameters
    ----------
    path : str or path-like
        The file, replaced each time in one step: a crash leaves the old one.
    monitor : str, optional
        A name in the logs, needed for save_best_only.
    save_best_only : bool
        Save only when the monitored value is the best so far.
    every : int
        Epochs between two looks at whether to save.
    mode : {"auto", "min", "max"}
        As in `EarlyStopping`.

    Notes
    -----
    Saving comes after the other callbacks have seen the epoch, and their states go into the file.
    ``fastgd.load(path).fit(..., resume=True)`` with the same data, arguments and callbacks then
    ends with the same bits as if the first fit had not been interrupted.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastgd
    >>> X, y = np.eye(4), np.arange(4.0)
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     _ = net.fit(X, y, epochs=2, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    ...     resumed = fastgd.load(path)
    >>> _ = net.fit(X, y, epochs=3, verbose=0)
    >>> _ = resumed.fit(X, y, epochs=5, verbose=0, resume=True)
    >>> bool((net.layers[0].weight == resumed.layers[0].weight).all())
    True
    """

    last = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        save_best_only: bool = False,
        every: int = 1,
        mode: str = "auto",
    ) -> None:
        self.path: str = _path(path)
        self.monitor: str | None = None if monitor is None else _name("monitor", monitor)
        self.save_best_only: bool = boolean("save_best_only", save_best_only)
        self.every: int = integer("every", every)
        self.mode: str = choice("mode", mode, ("auto", "min", "max"))
        if self.save_best_only and self.monitor is None:
            raise ValueError("save_best_only=True needs a monitor, such as 'val_loss'")
        self._best: float | None = None
        self._resumed = False

    def on_fit_begin(self) -> None:
        from .io import replaceable

        # Better now than after the first epoch.
        folder = os.fspath(replaceable(self.path).parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no permission to write the checkpoint into {folder!r}")
        if not (self._resumed and self.first_epoch):
            self._best = None
        self._resumed = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if (epoch + 1) % self.every:
            return
        if self.save_best_only and self.monitor is not None:
            value = monitored(logs, self.monitor)
            if not improved(value, self._best, 0.0, is_higher_better(self.monitor, self.mode)):
                return
            self._best = value
        self.network.save(self.path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        best = state["best"]
        self._best = None if best is None else real("best", best)
        self._resumed = True


class CSVLog(Callback):
    """Write a line of comma-separated values after every epoch.

    Parameters
    ----------
    path : str or path-like
        The file; its first line names the columns.
    append : bool
        Continue a file that an earlier fit began, without a second line of names, as a resumed
        fit does. Otherwise the file is replaced after the first epoch.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "log.csv")
    ...     _ = net.fit(np.eye(4), np.ones(4), epochs=2, callbacks=[fastgd.CSVLog(path)], verbose=0)
    ...     with open(path) as file:
    ...         lines = file.read().splitlines()
    >>> lines[0], len(lines)
    ('epoch,loss,lr,seconds', 3)
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path: str = _path(path)
        self.append: bool = boolean("append", append)
        self._file: IO[str] | None = None
        self._named = False

    def on_fit_begin(self) -> None:
        self._named = self.append and os.path.exists(self.path) and os.path.getsize(self.path) > 0
        # An old log stays until there is a line to replace it by: the fit may not come so far.
        self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        assert self._file is not None
        if not self._named:
            if not self.append and os.fstat(self._file.fileno()).st_size:
                self._file.truncate(0)
            self._file.write(",".join(["epoch", *logs]) + "\n")
            self._named = True
        self._file.write(",".join([str(epoch), *map(repr, map(float, logs.values()))]) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class GradientFlowWarning(UserWarning):
    """What `GradientFlow` has found wrong while a network was trained, and what to try.

    Examples
    --------
    >>> import fastgd
    >>> issubclass(fastgd.callbacks.GradientFlowWarning, UserWarning)
    True
    """


class GradientFlow(Callback):
    """Look at the gradient flow of a network while it is trained, and warn of what goes wrong.

    Parameters
    ----------
    every : int or "auto"
        Epochs between two looks. "auto" looks at most 200 times in a fit, and only as often as all
        looks together take at most 3 % of the time that training has taken; the last epoch is
        looked at in any case.
    n_samples : int
        Rows of the training data that are looked at, evenly spaced over all of them; of `Blocks`,
        over their first buffer.
    warn : bool
        Whether each kind of finding is a `GradientFlowWarning` the first time in a fit.

    Attributes
    ----------
    epochs : list of int
        The epochs after which it looked, counted from 0 as in History.
    reports : list of GradientFlowReport
        One for each of them; see `Network.gradient_flow`.

    Notes
    -----
    Looking changes no bit of the result: nothing is drawn from a random stream, and weights,
    optimiser state and counters stay as they are. With "auto", which epochs are looked at depends
    on the time that they take.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> net = fastgd.Network([fastgd.Dense(8, "tanh"), fastgd.Dense(1)], "squared_error")
    >>> flow = fastgd.GradientFlow(every=5)
    >>> _ = net.fit(X, X[:, 0], epochs=12, callbacks=[flow], verbose=0)
    >>> flow.epochs, flow.values("update_ratio").shape
    ([4, 9, 11], (3, 2))
    """

    every_epoch = False
    last = True

    def __init__(
        self, every: int | Literal["auto"] = "auto", n_samples: int = 256, warn: bool = True
    ) -> None:
        if isinstance(every, str):
            choice("every", every, ("auto",), ", or a number of epochs")
            self.interval = None
        else:
            self.interval = integer("every", every)
        self.every: int | Literal["auto"] = every
        self.n_samples: int = integer("n_samples", n_samples)
        self.warn: bool = boolean("warn", warn)
        self._data: Data | None = None
        self._resumed = False
        self._reset()

    def _reset(self) -> None:
        self.epochs: list[int] = []
        self.reports: list[GradientFlowReport] = []
        self._first_loss: float | None = None
        self._warned: set[str] = set()

    def on_fit_begin(self) -> None:
        # Loaded now, so that the import counts neither as training nor as a look.
        from . import _flow  # noqa: F401

        if not (self._resumed and self.first_epoch):
            self._reset()
        self._resumed = False
        training = self.network._training
        if training is None:
            raise TypeError(
                "GradientFlow is for Network.fit, not for an estimator; of a fitted one use "
                "estimator.to_network().gradient_flow(X, y)"
            )
        self._epochs_before = self.network.epoch - self.first_epoch
        self._data = training.data.evenly_spaced(self.n_samples)
        self._trained = self._spent = 0.0
        self._n_trained = 0  # epochs
        # A guess before the first look: arithmetic at a modest pace, and the calls of a few layers.
        n_weights = sum(array.size for array in self.network._arrays(optimizer=False).values())
        self._cost = 1e-3 + 2e-10 * self.n_samples * n_weights
        if self.every == "auto":
            self.interval = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self._trained += logs["seconds"]
        self._n_trained += 1
        if self._first_loss is None:
            self._first_loss = logs["loss"]
        if self.network.epoch - self._epochs_before != epoch + 1:
            return  # one of several epochs of a native call: the network is past it
        is_final = epoch + 1 == self.n_epochs or self.network.stop_training
        if not (is_final or self._is_due(epoch)):
            return
        began = time.perf_counter()
        self._look(epoch, logs["loss"])
        self._cost = time.perf_counter() - began
        self._spent += self._cost
        if self.every == "auto":
            # Ends native calls when the next look can be afforded.
            budget = _LOOKING_SHARE * max(self._trained, 1e-9) / self._n_trained  # of an epoch
            affordable = self._cost / budget
            self.interval = math.ceil(max(affordable, self.n_epochs / _MOST_LOOKS))

    def _is_due(self, epoch: int) -> bool:
        if not isinstance(self.every, str):
            return (epoch + 1) % self.every == 0
        newest = self.epochs[-1] if self.epochs else -1
        return (
            epoch - newest >= self.n_epochs / _MOST_LOOKS
            and self._spent + self._cost <= _LOOKING_SHARE * self._trained
        )

    def _look(self, epoch: int, loss: float) -> None:
        from ._flow import findings, look

        assert self._data is not None
        report = look(self.network, self._data)
        self.epochs.append(epoch)
        self.reports.append(report)
        if not self.warn:
            return
        assert self._first_loss is not None
        for finding in findings(report, is_learning=loss < 0.99 * self._first_loss):
            if finding.kind not in self._warned:
                self._warned.add(finding.kind)
                text = f"after epoch {epoch + 1}: {finding.text}"
                warnings.warn(text, GradientFlowWarning, stacklevel=2)

    def close(self) -> None:
        self._data = None

    def values(self, name: str) -> Array:
        """Return one quantity over time, shape (looks, n_layers).

        Parameters
        ----------
        name : str
            An array of `GradientFlowReport`: "z_mean", "z_std", "a_mean", "a_std", "saturated",
            "dead", "delta_norm", "dW_norm", "W_norm" or "update_ratio".

        Raises
        ------
        ValueError
            If the name is unknown, or nothing was looked at yet.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3, "relu"), fastgd.Dense(1)], "squared_error")
        >>> flow = fastgd.GradientFlow(every=2, warn=False)
        >>> history = net.fit(np.eye(4), np.ones(4), epochs=6, callbacks=[flow], verbose=0)
        >>> flow.values("delta_norm").shape
        (3, 2)
        """
        from ._flow import QUANTITIES

        choice("name", name, QUANTITIES)
        self._check_looked()
        return np.array([report.values(name) for report in self.reports])

    def _check_looked(self) -> None:
        if not self.reports:
            raise ValueError("there is nothing to show: give this GradientFlow to a fit first")

    def plot(
        self, names: str | Sequence[str] = ("a_std", "saturated", "delta_norm", "update_ratio")
    ) -> Display:
        """Draw heat maps over time: epochs to the right, layers downwards.

        Parameters
        ----------
        names : str or sequence of str
            Quantities as in `values`, a map for each. Norms and ratios are coloured by their
            logarithm; grey is where a notion does not apply. Each column reaches back to the look
            before it.

        Returns
        -------
        Display
            With ``figure_`` and ``axes_`` of matplotlib.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If a name is unknown, or nothing was looked at yet.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> import numpy as np
        >>> import fastgd
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> net = fastgd.Network([fastgd.Dense(8, "tanh"), fastgd.Dense(1)], "squared_error")
        >>> flow = fastgd.GradientFlow(every=1)
        >>> _ = net.fit(X, X[:, 0], epochs=4, callbacks=[flow], verbose=0)
        >>> len(flow.plot().axes_)
        4
        >>> matplotlib.pyplot.close()
        """
        from ._flow import QUANTITIES
        from ._plots import draw_flow_over_time

        chosen = [names] if isinstance(names, str) else list(names)
        if not chosen:
            raise ValueError(f"names is empty; choose from {', '.join(QUANTITIES)}")
        values = {name: self.values(name) for name in chosen}
        labels = {name: QUANTITIES[name][1] for name in chosen}
        return draw_flow_over_time(self.reports[-1].layers, self.epochs, values, labels)

    def __repr__(self) -> str:
        head = f"GradientFlow(every={self.every!r}, n_samples={self.n_samples}): "
        if not self.reports:
            return head + "no looks yet"
        return f"{head}{len(self.reports)} looks, the last after epoch {self.epochs[-1] + 1}\n" + (
            repr(self.reports[-1])
        )

    def _repr_html_(self) -> str | None:
        return self.reports[-1]._repr_html_() if self.reports else None

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": list(self.epochs),
            "first_loss": self._first_loss,
            "warned": sorted(self._warned),
            "reports": [_plain_report(report) for report in self.reports],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        epochs = [integer("epoch", epoch, 0) for epoch in state["epochs"]]
        first = state["first_loss"]
        first = None if first is None else real("first_loss", first)
        warned = set(map(str, state["warned"]))
        reports = [_report(plain) for plain in state["reports"]]
        if len(reports) != len(epochs):
            raise ValueError("GradientFlow must have a report for each epoch")
        self.epochs, self.reports = epochs, reports
        self._first_loss, self._warned, self._resumed = first, warned, True


# GradientFlow(every="auto"): at most so many looks in a fit, and this share of its time.  The share
# leaves room within the promised 5 % for the last look, for looks that take longer than the one
# before, and for shorter native calls.
_MOST_LOOKS = 200
_LOOKING_SHARE = 0.03


def _plain_report(report: GradientFlowReport) -> dict[str, Any]:
    """Return a report as JSON, which has no NaN and no infinity."""
    from ._flow import QUANTITIES

    return {
        "layers": report.layers,
        "n_samples": report.n_samples,
        "loss": repr(report.loss),
        "lr": report.lr,
        "values": {name: [repr(float(x)) for x in report.values(name)] for name in QUANTITIES},
    }


def _report(plain: Mapping[str, Any]) -> GradientFlowReport:
    from ._flow import QUANTITIES, GradientFlowReport

    layers = [str(name) for name in plain["layers"]]
    values = {name: np.array([float(x) for x in plain["values"][name]]) for name in QUANTITIES}
    if any(array.shape != (len(layers),) for array in values.values()):
        raise ValueError("a report of GradientFlow must have a number for each layer")
    samples = integer("n_samples", plain["n_samples"])
    return GradientFlowReport(
        layers, samples, float(plain["loss"]), real("lr", plain["lr"]), values
    )


class ProgressBar(Callback):
    """Show a progress bar over the steps of a fit, with the newest values beside it.

    fit adds one by itself with ``verbose=1``, and with "auto" on a terminal or in a notebook.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
    >>> _ = net.fit(np.eye(4), np.ones(4), callbacks=[fastgd.ProgressBar()], verbose=0)
    """

    every_epoch = False

    def __init__(self) -> None:
        self._bar: Any = None

    def on_fit_begin(self) -> None:
        stream = _stderr()
        if stream is None:
            return
        steps = self.steps_per_epoch
        self._bar = _bar_class()(
            total=None if steps is None else self.n_epochs * steps,
            initial=0 if steps is None else self.first_epoch * steps,
            unit="step",
            unit_scale=True,
            dynamic_ncols=True,
            file=stream,
        )
        self._describe(self.first_epoch)

    def _describe(self, epoch: int) -> None:
        current = min(epoch + 1, self.n_epochs)
        self._bar.set_description(f"epoch {current}/{self.n_epochs}", refresh=False)

    def on_progress(self, steps: int) -> None:
        if self._bar is not None:
            known = self.steps_per_epoch
            self._describe(self.first_epoch if known is None else steps // known)
            self._bar.update(steps - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if self._bar is None:
            return
        shown = {name: f"{value:.4g}" for name, value in logs.items() if name != "seconds"}
        self._bar.set_postfix(shown, refresh=False)
        assert self.steps_per_epoch is not None  # by now they have been counted
        self._bar.total = self.n_epochs * self.steps_per_epoch
        self.on_progress((epoch + 1) * self.steps_per_epoch)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EpochLines(Callback):
    """Write a line to stderr for every epoch, or with a pause for the newest one only."""

    every_epoch = False

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self._next = 0.0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        now, stream = time.monotonic(), _stderr()
        if stream is None:  # where print would write to stdout
            return
        if now < self._next and epoch + 1 < self.n_epochs and not self.network.stop_training:
            return
        self._next = now + self._pause
        values = "  ".join(f"{name} {value:.6g}" for name, value in logs.items())
        print(f"epoch {epoch + 1}/{self.n_epochs}  {values}", file=stream)
        if hasattr(stream, "flush"):
            stream.flush()


def reporters(verbose: object) -> list[Callback]:
    """Return the callbacks that fit's ``verbose`` stands for."""
    if verbose == "auto":
        stream = _stderr()
        if _is_in_notebook() or (hasattr(stream, "isatty") and stream.isatty()):
            return [ProgressBar()]
        return [] if stream is None else [EpochLines(pause=1.0)]
    if isinstance(verbose, str) or integer("verbose", verbose, 0) > 2:
        raise ValueError(f"unknown verbose {verbose!r}; choose from 0, 1, 2, 'auto'")
    if verbose == 0:
        return []
    return [ProgressBar() if verbose == 1 else EpochLines()]


def _stderr() -> Any:
    """Return sys.stderr, of which programs' own may have no more than write; None if it is none.

    There is none under pythonw, and none to write to where a program has closed it.
    """
    return None if getattr(sys.stderr, "closed", False) else sys.stderr


def overrides(callback: Callback, hook: str) -> bool:
    """Return whether a callback defines a hook itself."""
    return getattr(type(callback), hook, None) is not getattr(Callback, hook)


def _is_in_notebook() -> bool:
    """Return whether this process is a notebook's kernel, and not one that merely starts some."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and hasattr(get_shell(), "kernel")


def _bar_class() -> Any:
    if _is_in_notebook():
        from importlib.util import find_spec

        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as notebook_bar

            return _unwatched(notebook_bar)
    from tqdm.std import tqdm

    return _unwatched(tqdm)


def _unwatched(kind: Any) -> Any:
    """Return a kind of bar that starts no watching thread: fit itself reports often enough."""
    # In a child of fork another thread's bar would hold it for ever.
    make_bars_fork_safe(kind.get_lock())

    class Bar(kind):  # type: ignore[misc, unused-ignore]
        monitor_interval = 0

    return Bar


def _path(path: object) -> str:
    found = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(found, str):
        raise TypeError(f"path must be a string or path-like, not {path!r}")
    return found


def _name(parameter: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{parameter} must be a string, not {value!r}")
    return value
