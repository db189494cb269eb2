"""Learning rates that change: functions of the optimiser step, counted from 0.

A schedule is called with one step or an array of steps. A network counts its steps over all fits,
so a second one goes on where the first one stopped. ReduceOnPlateau alone looks at results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from ._numbers import one, real, reals
from ._spec import Spec
from ._validate import choice, integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "WarmUp",
    "get",
]

# What steps are counted in
_MOST_STEPS = 2**63 - 1

Steps: TypeAlias = "NDArray[np.float64]"
#: warm-ups of warm-ups, down to what the last of them follows: each is a call within the others
MOST_NESTED = 8


class Schedule(Spec):
    """Base of the schedules: ``schedule(step)`` is the learning rate of a step.

    A subclass defines ``_at(steps)`` on a float64 array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.schedules import Step
    >>> schedule = Step(0.1, every=2, factor=0.5)
    >>> schedule(3)
    0.05
    >>> schedule(np.arange(5))
    array([0.1  , 0.1  , 0.05 , 0.05 , 0.025])
    """

    #: the value that is looked at after each epoch; None for a function of the step alone
    monitor: str | None = None

    @overload
    def __call__(self, step: int | float) -> float: ...

    @overload
    def __call__(self, step: NDArray[Any]) -> NDArray[np.float64]: ...

    def __call__(self, step: int | float | NDArray[Any]) -> float | NDArray[np.float64]:
        # NumPy rounds powers of single numbers differently from those of arrays.
        steps = np.atleast_1d(np.asarray(step, dtype=np.float64))
        # Small rates end at 0; `evaluate` names those that are too large.
        with np.errstate(over="ignore", under="ignore"):
            values = self._at(steps)
        return float(values[0]) if np.ndim(step) == 0 else values

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        raise NotImplementedError

    def epoch_end(self, logs: Mapping[str, float]) -> None:
        """Take note of an epoch's results; only a schedule with a monitor does anything."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must be kept, besides the settings, to go on from here."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state, but was given {sorted(state)}")


class Constant(Schedule):
    """lr at every step.

    Examples
    --------
    >>> from fastgd.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    name = "constant"
    _fields = ("lr",)

    def __init__(self, lr: float) -> None:
        self.lr: float = real("lr", lr, above=0)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        return np.full_like(steps, self.lr)


class Step(Schedule):
    """lr * factor^floor(step / every).

    Parameters
    ----------
    lr : float
        The first learning rate.
    every : int
        Steps between two changes.
    factor : float
        What each change multiplies by.

    Examples
    --------
    >>> from fastgd.schedules import Step
    >>> Step(1.0, every=100, factor=0.5)(250)
    0.25
    """

    name = "step"
    _fields = ("lr", "every", "factor")

    def __init__(self, lr: float, every: int, factor: float = 0.1) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.every: int = integer("every", every, maximum=_MOST_STEPS)
        self.factor: float = real("factor", factor, above=0)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        return np.asarray(self.lr * self.factor ** np.floor(steps / self.every))


class Exponential(Schedule):
    """lr * factor^(step / every).

    Parameters
    ----------
    lr : float
        The first learning rate.
    factor : float
        What ``every`` steps together multiply by.
    every : int
        Usually the number of steps in an epoch.

    Examples
    --------
    >>> from fastgd.schedules import Exponential
    >>> Exponential(1.0, factor=0.25, every=10)(5)
    0.5
    """

    name = "exponential"
    _fields = ("lr", "factor", "every")

    def __init__(self, lr: float, factor: float, every: int = 1) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.factor: float = real("factor", factor, above=0)
        self.every: int = integer("every", every, maximum=_MOST_STEPS)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        return np.asarray(self.lr * self.factor ** (steps / self.every))


class Cosine(Schedule):
    """Half a cosine from lr at step 0 down to final at step ``steps``; final from then on.

    Parameters
    ----------
    lr, final : float
        The first and the last learning rate.
    steps : int
        The length, usually epochs * steps in an epoch.

    Examples
    --------
    >>> from fastgd.schedules import Cosine
    >>> [round(Cosine(1.0, steps=100)(step), 3) for step in (0, 50, 100, 200)]
    [1.0, 0.5, 0.0, 0.0]
    """

    name = "cosine"
    _fields = ("lr", "steps", "final")

    def __init__(self, lr: float, steps: int, final: float = 0.0) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.steps: int = integer("steps", steps, maximum=_MOST_STEPS)
        self.final: float = real("final", final, minimum=0)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        done = np.minimum(steps / self.steps, 1.0)
        return np.asarray(_half_cosine(self.lr, self.final, done))


class InverseScaling(Schedule):
    """lr / (step + 1)^power.

    Examples
    --------
    >>> from fastgd.schedules import InverseScaling
    >>> InverseScaling(0.5, power=0.5)(3)
    0.25
    """

    name = "inverse_scaling"
    _fields = ("lr", "power")

    def __init__(self, lr: float, power: float = 0.5) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.power: float = real("power", power, minimum=0)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        return np.asarray(self.lr / (steps + 1) ** self.power)


class OneCycle(Schedule):
    """Up from lr / div_factor to lr, then down to lr / (div_factor * final_div_factor).

    Both ways are half cosines; the first takes ``pct_start`` of the steps. The last learning rate
    is reached at step ``steps - 1`` and stays.

    Parameters
    ----------
    lr : float
        The highest learning rate.
    steps : int
        The whole length; at least 2.
    pct_start : float
        The share of the steps on the way up.
    div_factor, final_div_factor : float
        Where it starts, and how much further down it ends.

    References
    ----------
    L. N. Smith and N. Topin, "Super-convergence", 2018.

    Examples
    --------
    >>> from fastgd.schedules import OneCycle
    >>> schedule = OneCycle(0.5, steps=100)
    >>> round(schedule(0), 4), round(schedule(29), 4)
    (0.02, 0.5)
    """

    name = "one_cycle"
    _fields = ("lr", "steps", "pct_start", "div_factor", "final_div_factor")

    def __init__(
        self,
        lr: float,
        steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.steps: int = integer("steps", steps, 2, _MOST_STEPS)
        self.pct_start: float = real("pct_start", pct_start, minimum=0, below=1)
        self.div_factor: float = real("div_factor", div_factor, minimum=1)
        self.final_div_factor: float = real("final_div_factor", final_div_factor, minimum=1)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        first = self.lr / self.div_factor
        last = first / self.final_div_factor
        top = max(0.0, self.pct_start * self.steps - 1)
        up = _half_cosine(first, self.lr, np.minimum(steps / top, 1.0) if top else 1.0)
        fall = np.clip((steps - top) / (self.steps - 1 - top), 0.0, 1.0)
        return np.asarray(np.where(steps < top, up, _half_cosine(self.lr, last, fall)))


class WarmUp(Schedule):
    """Rise in a straight line to another schedule's first learning rate, then follow it.

    Step s of the rise has ``schedule(0) * (s + 1) / (steps + 1)``, so that no step is lost to a
    learning rate of zero; afterwards step s has ``schedule(s - steps)``.

    Parameters
    ----------
    schedule : float or schedule or callable
        What follows; a warm-up as well, up to eight schedules in all.
    steps : int
        The length of the rise.

    Examples
    --------
    >>> from fastgd.schedules import Cosine, WarmUp
    >>> schedule = WarmUp(Cosine(1.0, steps=100), steps=3)
    >>> [schedule(step) for step in range(4)]
    [0.25, 0.5, 0.75, 1.0]
    """

    name = "warm_up"
    _fields = ("schedule", "steps")

    def __init__(self, schedule: LearningRate, steps: int) -> None:
        self.schedule: LearningRate = get(schedule)
        depth, inner = 2, self.schedule
        while isinstance(inner, WarmUp):
            depth, inner = depth + 1, inner.schedule
        if depth > MOST_NESTED:
            raise ValueError(
                f"schedule makes {depth} schedules, one within the other; at most {MOST_NESTED} "
                "can be nested"
            )
        self.steps: int = integer("steps", steps, maximum=_MOST_STEPS)
        self.monitor: str | None = getattr(self.schedule, "monitor", None)

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        rise = np.minimum((steps + 1) / (self.steps + 1), 1.0)
        return np.asarray(evaluate(self.schedule, np.maximum(steps - self.steps, 0.0)) * rise)

    def epoch_end(self, logs: Mapping[str, float]) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.epoch_end(logs)

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict() if isinstance(self.schedule, Schedule) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.load_state_dict(state)
        else:
            super().load_state_dict(state)

    def _plain(self) -> dict[str, Any]:
        return {"name": self.name, "schedule": plain(self.schedule), "steps": self.steps}


class ReduceOnPlateau(Schedule):
    """Multiply the learning rate by factor when a value has stopped improving.

    Parameters
    ----------
    lr : float
        The first learning rate.
    factor : float
        Between 0 and 1.
    patience : int
        Epochs without improvement after which the learning rate falls.
    min_delta : float
        How much better than the best a value must be to count.
    cooldown : int
        Epochs after a change that are not counted.
    min_lr : float
        The learning rate falls no further.
    monitor : str
        A name in the history. "auto" is "val_loss" where fit has validation data, else "loss".
    mode : {"auto", "min", "max"}
        Whether lower or higher is better; "auto" is "max" for accuracy and r2, else "min".

    Examples
    --------
    >>> from fastgd.schedules import ReduceOnPlateau
    >>> schedule = ReduceOnPlateau(0.1, factor=0.5, patience=2, monitor="loss")
    >>> for loss in (1.0, 1.0, 1.0):
    ...     schedule.epoch_end({"loss": loss})
    >>> schedule(0)
    0.05
    """

    name = "reduce_on_plateau"
    _fields = ("lr", "factor", "patience", "min_delta", "cooldown", "min_lr", "monitor", "mode")

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        monitor: str = "auto",
        mode: str = "auto",
    ) -> None:
        self.lr: float = real("lr", lr, above=0)
        self.factor: float = real("factor", factor, above=0, below=1)
        self.patience: int = integer("patience", patience)
        self.min_delta: float = real("min_delta", min_delta, minimum=0)
        self.cooldown: int = integer("cooldown", cooldown, 0)
        self.min_lr: float = real("min_lr", min_lr, minimum=0)
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a string, not {monitor!r}")
        self.monitor: str = monitor
        self.mode: str = choice("mode", mode, ("auto", "min", "max"))
        self._now = self.lr
        self._best: float | None = None
        self._wait = 0
        self._cooling = 0

    def _at(self, steps: Steps) -> NDArray[np.float64]:
        return np.full_like(steps, self._now)

    def epoch_end(self, logs: Mapping[str, float]) -> None:
        monitor = self.monitor
        if monitor == "auto":
            monitor = "val_loss" if "val_loss" in logs else "loss"
        value = monitored(logs, monitor)
        if improved(value, self._best, self.min_delta, is_higher_better(monitor, self.mode)):
            self._best = value
            self._wait = 0
        elif self._cooling == 0:
            self._wait += 1
        self._cooling = max(0, self._cooling - 1)
        if self._wait >= self.patience:
            self._now = max(self._now * self.factor, min(self.min_lr, self._now))
            self._wait = 0
            self._cooling = self.cooldown

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self._now, "best": self._best, "wait": self._wait, "cooling": self._cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state) != {"lr", "best", "wait", "cooling"}:
            raise ValueError(f"ReduceOnPlateau cannot go on from the state {sorted(state)}")
        best = state["best"]
        self._now = real("lr", state["lr"], minimum=0)
        self._best = None if best is None else real("best", best)
        self._wait = integer("wait", state["wait"], 0)
        self._cooling = integer("cooling", state["cooling"], 0)


LearningRate: TypeAlias = float | Schedule | Callable[[int], float]

BUILT_IN: dict[str, type[Schedule]] = {
    kind.name: kind
    for kind in (
        Constant,
        Step,
        Exponential,
        Cosine,
        InverseScaling,
        OneCycle,
        WarmUp,
        ReduceOnPlateau,
    )
}


def get(lr: LearningRate) -> LearningRate:
    """Return a checked learning rate: a positive float, a schedule or a callable of the step.

    Examples
    --------
    >>> from fastgd import schedules
    >>> schedules.get(1)
    1.0
    """
    if isinstance(lr, type):
        raise TypeError(f"lr must be an object, not the class {lr.__name__}")
    if callable(lr):
        return lr
    return real("lr", lr, above=0)


def evaluate(lr: LearningRate, steps: Steps) -> NDArray[np.float64]:
    """Return the learning rates of the given steps, checked to be finite and not negative."""
    if isinstance(lr, Schedule):
        values = reals(f"learning rates of {lr!r}", lr(steps))
        if values.shape != steps.shape:
            raise ValueError(f"{lr!r} returned shape {values.shape} for {steps.shape} steps")
    elif callable(lr):
        given = [(int(step), lr(int(step))) for step in steps.flat]
        rates = [rate if type(rate) is float else _rate(step, rate) for step, rate in given]
        values = np.array(rates, dtype=np.float64).reshape(steps.shape)
    else:
        return np.full(steps.shape, lr)
    bad = ~((values >= 0) & (values < math.inf))
    if bad.any():
        step, value = int(steps[bad].flat[0]), values[bad].flat[0]
        raise ValueError(
            f"lr must be finite and not negative, but is {value} at step {step}: {lr!r}"
        )
    return values


def _rate(step: int, value: Any) -> float:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"lr at step {step} must be a number, not {value!r}")
    return one(f"lr at step {step}", value)


def plain(lr: LearningRate) -> Any:
    """Return a learning rate as model files store it; a callable is named "custom" only."""
    if isinstance(lr, Schedule):
        return lr._plain() if BUILT_IN.get(lr.name) is type(lr) else {"name": "custom"}
    return {"name": "custom"} if callable(lr) else lr


def is_higher_better(monitor: str, mode: str) -> bool:
    """Return whether a rising value is a better one."""
    if mode == "auto":
        return monitor.removeprefix("val_") in ("accuracy", "r2")
    return mode == "max"


def improved(value: float, best: float | None, min_delta: float, higher: bool) -> bool:
    """Return whether a value is better than the best by more than min_delta.

    NaN and infinity never are: no file holds them, and whatever is finite is better.
    """
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value > best + min_delta if higher else value < best - min_delta


def monitored(logs: Mapping[str, float], monitor: str) -> float:
    """Return the monitored value of an epoch, or name those there are."""
    if monitor not in logs:
        raise ValueError(f"monitor {monitor!r} is not among the values: {', '.join(logs)}")
    return logs[monitor]


def _half_cosine(start: float, end: float, done: Any) -> Any:
    """Go from start to end while done goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1 + np.cos(np.pi * done))
