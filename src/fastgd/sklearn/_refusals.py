"""One training of an estimator at a time; one that is refused before it trains changes nothing.

scikit-learn's classes draw first weights, and take over the classes of y, before all is checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .._engine import Claim
from . import _live

__all__ = ["begin", "claim_of", "undo_if_refused", "when_refused"]

Method = TypeVar("Method", bound=Callable[..., Any])


class Attempts:
    """The calls that train one estimator; kept by it, and in no copy or pickle."""

    __slots__ = ("before", "claim", "undo")

    def __init__(self) -> None:
        self.claim = Claim()
        #: the attributes before the call, until it trains
        self.before: dict[str, Any] | None = None
        #: what else is to be done if it is refused
        self.undo: list[Callable[[], object]] = []


def _of(estimator: Any) -> Attempts:
    attempts: Attempts | None = vars(estimator).get("_attempts")
    # Two threads may come here at once.
    return attempts or vars(estimator).setdefault("_attempts", Attempts())


def claim_of(estimator: Any) -> Claim:
    """Return what whoever trains the estimator must have."""
    return _of(estimator).claim


def undo_if_refused(method: Method) -> Method:
    """Make a method that trains the only one at a time, and let it undo what it has not begun.

    Until it calls `begin` an exception puts all attributes back, and does what `when_refused` has
    been given.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        attempts = _of(self)
        with attempts.claim:
            _live.check_idle(self)
            attempts.before = dict(vars(self))
            try:
                return method(self, *args, **kwargs)
            except BaseException:
                if attempts.before is not None:
                    _put_back(self, attempts)
                raise
            finally:
                begin(self)

    return call  # type: ignore[return-value]


def when_refused(estimator: Any, undo: Callable[[], object]) -> None:
    """Let this be done if the call is refused after all."""
    _of(estimator).undo.append(undo)


def begin(estimator: Any) -> None:
    """From here on the changes stay: weights are trained."""
    attempts = _of(estimator)
    attempts.before = None
    attempts.undo.clear()


def _put_back(estimator: Any, attempts: Attempts) -> None:
    before, attributes = attempts.before, vars(estimator)
    assert before is not None
    for name in attributes.keys() - before.keys():
        del attributes[name]
    attributes.update(before)
    for undo in reversed(attempts.undo):
        undo()
