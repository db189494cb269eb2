"""What a fit calls between its epochs: fastgd's callbacks and those of scikit-learn's protocol.

The loop itself is not here; it drives the object that `watchers` returns, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..callbacks import Callback, ProgressBar, overrides
from ..network import callback_list, check_monitors

if TYPE_CHECKING:
    from ..network import Network

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
except ImportError:  # scikit-learn before 1.9

    class CallbackSupport:  # type: ignore[no-redef]
        """Nothing: the installed scikit-learn has no callbacks of its own."""


__all__ = ["CallbackSupport", "Watchers", "watchers"]


def watchers(
    estimator: Any,
    network: Callable[[], Network],
    *,
    n_epochs: int,
    steps_per_epoch: int,
    names: Sequence[str],
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
) -> Watchers | None:
    """Return what is to be called in a fit of an estimator, or None if nothing is.

    Parameters
    ----------
    estimator : object
        With the parameters callbacks and progress_bar; scikit-learn's callbacks are those that its
        set_callbacks was given.
    network : callable
        Returns the network that shows the live weights; called only if there is something to call.
    n_epochs, steps_per_epoch : int
    names : sequence of str
        Of the values that the logs of an epoch will have.
    X, y : array or callable
        Training data as scikit-learn's scorers take them: labels, not their binary columns. What
        is callable is called only if a callback asks for the data.
    sample_weight : array, optional

    Raises
    ------
    TypeError
        If callbacks holds something that is not a fastgd.Callback.
    ValueError
        If a callback monitors a value that is not among the names.
    """
    callbacks = callback_list(estimator.callbacks)
    if estimator.progress_bar:
        callbacks.append(ProgressBar())
    if "_skl_callbacks" in vars(estimator):
        callbacks.append(_ScikitLearn(estimator, X, y, sample_weight))
    if not callbacks:
        return None
    check_monitors(None, callbacks, names)
    return Watchers(callbacks, network(), n_epochs, steps_per_epoch)


class Watchers:
    """The callbacks of one fit, called together.

    Attributes
    ----------
    every_epoch : bool
        Whether any of them needs each epoch by itself. Otherwise several may run in one native
        call: epoch_begin is left out then, and epoch_end comes for each of them afterwards.
    """

    def __init__(
        self, callbacks: Sequence[Callback], network: Network, n_epochs: int, steps_per_epoch: int
    ) -> None:
        self._callbacks = sorted(callbacks, key=lambda callback: callback.last)
        self._network = network
        self._n_epochs = n_epochs
        self._steps = steps_per_epoch
        self.every_epoch = any(callback.every_epoch for callback in callbacks)

    def fit_begin(self) -> None:
        """Call before the first epoch, within the try of which close is the end."""
        self._network.stop_training = False
        for callback in self._callbacks:
            callback.network = self._network
            callback.n_epochs = self._n_epochs
            callback.steps_per_epoch = self._steps
            callback.first_epoch = 0  # it may have been in a fit that was resumed
            callback.on_fit_begin()

    def epoch_begin(self, epoch: int) -> None:
        """Call before each epoch; they count from 0 in each fit."""
        for callback in self._callbacks:
            if callback.every_epoch:
                callback.on_epoch_begin(epoch)

    def on_slice(self, before: int) -> Callable[[int], None] | None:
        """Return what a native call after so many steps reports its own to, if any."""
        wanting = [c for c in self._callbacks if overrides(c, "on_progress")]

        def report(steps: int) -> None:
            for callback in wanting:
                callback.on_progress(before + steps)

        return report if wanting else None

    def on_batch(self, before: int) -> Callable[[int, float], None] | None:
        """Return what a native call after so many steps calls after each of its own, if any."""
        wanting = [c for c in self._callbacks if overrides(c, "on_batch_end")]

        def report(step: int, loss: float) -> None:
            for callback in wanting:
                callback.on_batch_end(before + step, loss)

        return report if wanting else None

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Call after each epoch; True asks for the end of the fit."""
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)
        return self._network.stop_training

    def fit_end(self) -> None:
        """Call after the last epoch, but not after an exception; it may change the weights."""
        for callback in self._callbacks:
            callback.on_fit_end()

    def close(self) -> None:
        """Call at the very end in every case."""
        with ExitStack() as stack:  # all of them, whatever one raises
            for callback in reversed(self._callbacks):
                # The callbacks are parameters of the estimator: its copies and pickles would hold
                # the network as well.
                stack.callback(vars(callback).pop, "network", None)
                stack.callback(callback.close)


class _ScikitLearn(Callback):
    """Call the callbacks of scikit-learn's protocol: the fit is a task, each epoch one within."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._done = 0

    def on_fit_begin(self) -> None:
        self._fit = self._estimator._init_callback_context(max_subtasks=self.n_epochs)
        self._fit.call_on_fit_task_begin(**self._data)

    def on_epoch_begin(self, epoch: int) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._fitted)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self._done = epoch + 1
        if self._epoch.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted):
            self.network.stop_training = True

    def on_fit_end(self) -> None:
        self._fit.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted)

    def close(self) -> None:
        # What _fit_context does at the end of a fit; it finds nothing left to do after this.
        from sklearn.callback._callback_support import callback_management_context

        with callback_management_context(self._estimator):
            pass

    def _fitted(self) -> dict[str, Any]:
        """Return the attributes of an estimator that had been fitted up to here."""
        weights = self.network.get_weights()
        return {"coefs_": weights[::2], "intercepts_": weights[1::2], "n_iter_": self._done}
