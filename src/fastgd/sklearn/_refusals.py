"""One training of an estimator at a time; one that fails before its first step changes nothing.

scikit-learn's classes draw first weights, and take over the classes of y, before all is checked.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._engine import Attempt, Claim
from .._threads import fork_safe_lock
from . import _live

if TYPE_CHECKING:
    from ..network import Network

__all__ = ["begin", "fitting", "turn", "undo_if_refused", "when_refused"]

Method = TypeVar("Method", bound=Callable[..., Any])
_lock = fork_safe_lock()


class Attempts:
    """The calls that train one estimator, which keeps this among its attributes."""

    __slots__ = ("claim", "current", "fitting", "owner", "thread")

    def __init__(self, owner: Any = None) -> None:
        self.claim = Claim()
        #: the estimator: its attributes may have been copied to another one
        self.owner = None if owner is None else weakref.ref(owner)
        self.current: Attempt | None = None
        #: that of the network which was trained last
        self.fitting: Claim | None = None
        self.thread: int | None = None

    def __reduce__(self) -> Any:
        return Attempts, ()

    def is_nested(self) -> bool:
        """Tell whether the caller is within a call, as if a subclass trains before it trains.

        Raises RuntimeError while a network is being fitted, as from a callback.
        """
        current = self.current
        if current is None or not current.is_active or self.thread != get_ident():
            return False
        if self.fitting is not None:
            self.fitting.check()
        return True


def _of(estimator: Any) -> Attempts:
    found = _kept(estimator)
    if found is None:
        with _lock:  # two threads may come here at once
            found = _kept(estimator)
            if found is None:
                found = estimator._attempts = Attempts(estimator)
    return found


def _kept(estimator: Any) -> Attempts | None:
    found: Attempts | None = vars(estimator).get("_attempts")
    is_own = found is not None and found.owner is not None and found.owner() is estimator
    return found if is_own else None


def turn(estimator: Any) -> AbstractContextManager[object]:
    """Return what whoever trains the estimator, with nothing to undo, must enter."""
    attempts = _of(estimator)
    return nullcontext() if attempts.is_nested() else attempts.claim


def fitting(estimator: Any, network: Network) -> Claim:
    """Return what whoever trains the estimator's network must enter as well."""
    _of(estimator).fitting = network._fitting
    return network._fitting


def undo_if_refused(method: Method) -> Method:
    """Make a method that trains the only one at a time, and let it undo what it has not begun.

    Until it calls `begin` an exception puts back all attributes but the parameters, and does what
    `when_refused` has been given.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        attempts = _of(self)
        if attempts.is_nested():
            _live.check_idle(self)
            return method(self, *args, **kwargs)
        with attempts.claim:
            _live.check_idle(self)
            attempts.thread = get_ident()
            others = _parameters(cast(Hashable, type(self)))
            with Attempt(vars(self), others) as attempts.current:
                return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


@functools.lru_cache(maxsize=64)
def _parameters(kind: Any) -> frozenset[str]:
    return frozenset(kind._get_param_names())


def when_refused(estimator: Any, undo: Callable[[], object]) -> None:
    """Let this be done if the call is refused after all."""
    current = _of(estimator).current
    if current is not None:
        current.when_undone(undo)


def begin(estimator: Any) -> None:
    """From here on the changes stay: weights are trained."""
    current = _of(estimator).current
    if current is not None:
        current.keep()
