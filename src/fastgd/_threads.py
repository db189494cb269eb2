"""What a fork of the process means for the package's locks."""

from __future__ import annotations

import os
import weakref
from threading import RLock
from typing import Any

__all__ = ["fork_safe_lock"]

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_safe_lock() -> Any:
    """Return a re-entrant lock that is free in a child of fork whose thread does not hold it.

    Without this a child would wait for ever for a thread that exists in its parent only.
    """
    lock = RLock()
    _locks.add(lock)
    return lock


def _free_locks() -> None:
    for lock in _locks:
        if not lock._is_owned():  # type: ignore[attr-defined]
            lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)
