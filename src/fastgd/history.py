"""The record of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._plots import Display

__all__ = ["History"]


class History:
    """What happened in each epoch of a fit.

    Attributes
    ----------
    epoch : list of int
        Numbers of the epochs, from 0 in each fit.
    history : dict of str to list of float
        One list for each value, one entry for each epoch: "loss" (the mean over the epoch's
        batches with penalties, as the weights moved), "lr" (of the epoch's last step), "seconds"
        (of training, without validation; epochs that ran in one native call share its time
        equally), then "val_loss" and the metrics if they were asked for.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> history = net.fit(X, 2 * X, epochs=3, verbose=0)
    >>> history.epoch, sorted(history.history)
    ([0, 1, 2], ['loss', 'lr', 'seconds'])
    >>> history.history["loss"][0] > history.history["loss"][2]
    True
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add the values of one epoch.

        Examples
        --------
        >>> import fastgd
        >>> history = fastgd.History()
        >>> history.append(0, {"loss": 0.5})
        >>> history.epoch, history.history
        ([0], {'loss': [0.5]})
        """
        self._add(epoch, 1, {name: (value,) for name, value in logs.items()})

    def extend(self, first_epoch: int, logs: Mapping[str, Sequence[float]]) -> None:
        """Add the values of consecutive epochs, a sequence of the same length for each name.

        Examples
        --------
        >>> import fastgd
        >>> history = fastgd.History()
        >>> history.extend(3, {"loss": [0.5, 0.4]})
        >>> history.epoch, history.history
        ([3, 4], {'loss': [0.5, 0.4]})
        """
        self._add(first_epoch, len(next(iter(logs.values()))), logs)

    def _add(self, first_epoch: int, n_epochs: int, logs: Mapping[str, Sequence[float]]) -> None:
        before = len(self.epoch)
        try:
            for name, values in logs.items():
                self.history.setdefault(name, []).extend(values)
            # Last: whoever looks from another thread finds a value for each number.
            self.epoch.extend(range(first_epoch, first_epoch + n_epochs))
        except BaseException:  # Ctrl-C: epochs have all of their values, or are not there
            del self.epoch[before:]
            for column in self.history.values():
                del column[before:]
            raise

    def _copy(self) -> History:
        """Return a copy, also while another thread adds epochs."""
        copy = History()
        copy.epoch = list(self.epoch)
        n_epochs = len(copy.epoch)
        copy.history = {name: column[:n_epochs] for name, column in dict(self.history).items()}
        return copy

    def plot(
        self,
        names: str | Sequence[str] | None = None,
        *,
        axes: Axes | Sequence[Axes] | None = None,
        log: bool | None = None,
    ) -> Display:
        """Draw the values by epoch, counted from 1: losses, metrics, learning rate.

        Parameters
        ----------
        names : str or sequence of str, optional
            Names in ``history``, without ``val_``: a panel for each, which shows the validation
            data as well if they were recorded. By default the loss, all metrics, and lr.
        axes : matplotlib Axes or sequence of them, optional
            Where to draw, one for each panel; by default a new figure.
        log : bool, optional
            Whether scales are logarithmic; by default that of a loss is if it is positive and spans
            more than a factor of 50.

        Returns
        -------
        Display
            With ``figure_``, ``axes_`` (a list, one for each panel) and ``lines_`` (a dict, by the
            names in ``history``), all of matplotlib.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If the history is empty, a name is unknown, or the number of axes is wrong.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error")
        >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
        >>> history = net.fit(X, 2 * X, epochs=3, validation_split=0.2, verbose=0)
        >>> display = history.plot("loss")
        >>> sorted(display.lines_), display.axes_[0].get_ylabel()
        (['loss', 'val_loss'], 'loss')
        >>> matplotlib.pyplot.close(display.figure_)
        """
        from ._plots import draw_history

        return draw_history(self.history, names, axes, log)

    def __repr__(self) -> str:
        last = ", ".join(
            f"{name}={values[-1]:.6g}" for name, values in self.history.items() if values
        )
        return f"History({len(self.epoch)} epochs{'; last: ' + last if last else ''})"
