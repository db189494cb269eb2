"""The package's threads as others see them: threadpoolctl, and a fork of the process.

threadpoolctl is told of the package as soon as both are imported, in either order, and is never
imported from here.
"""

from __future__ import annotations

import os
import weakref
from _thread import RLock
from typing import TYPE_CHECKING, Any

from ._imports import when_imported
from ._version import __version__

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["announce", "fork_safe_lock", "make_bars_fork_safe"]


class Unlimited(int):
    """The number of threads in force without a limit.

    threadpoolctl restores a state by setting the number that it got. This type tells the two
    apart: setting it takes the limit away, whereas an equal number would be a limit.
    """


def announce() -> None:
    """Register with threadpoolctl, now or when it is imported."""
    when_imported("threadpoolctl", _register)


def _register(module: ModuleType) -> None:
    """Make a module, threadpoolctl, control the shared object that holds the C core."""
    if not hasattr(module, "register"):  # before version 3.2
        return

    base: Any = module.LibController

    class FastgdController(base):  # type: ignore[misc, unused-ignore]
        """The limit on the worker team; no limit reads as the number of threads in force."""

        user_api = internal_api = "fastgd"
        filename_prefixes = ("_kernels.",)
        check_symbols = ("fastgd_get_num_threads", "fastgd_set_num_threads")

        def get_num_threads(self) -> int | None:
            from .config import threads_in_force

            get = self._get_symbol("fastgd_get_num_threads")
            # Another package may have a file of this name: asked before the symbols are checked.
            if get is None:
                return None
            return int(get()) or Unlimited(threads_in_force())

        def set_num_threads(self, num_threads: int) -> None:
            unlimited = isinstance(num_threads, Unlimited)
            set_limit = self._get_symbol("fastgd_set_num_threads")
            set_limit(0 if unlimited else max(1, int(num_threads)))

        def get_version(self) -> str:
            return __version__

    module.register(FastgdController)


_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_bar_locks: list[list[Any]] = []


def fork_safe_lock() -> Any:
    """Return a re-entrant lock that is free in a child of fork whose thread does not hold it.

    Without this a child would wait for ever for a thread that exists in its parent only.
    """
    lock = RLock()
    _locks.add(lock)
    return lock


def make_bars_fork_safe(lock: Any) -> None:
    """Do the same for the lock of tqdm's bars, which is made of two."""
    parts = getattr(lock, "locks", None)
    if not isinstance(parts, list):  # someone has set another kind of lock
        parts = [lock]
    _locks.update(part for part in parts if isinstance(part, RLock))
    if not any(parts is known for known in _bar_locks):
        _bar_locks.append(parts)


def _free_locks() -> None:
    for lock in _locks:
        if not lock._is_owned():  # type: ignore[attr-defined]
            lock._at_fork_reinit()  # type: ignore[attr-defined]
    for parts in _bar_locks:
        parts[:] = [part for part in parts if not _is_held_elsewhere(part)]


def _is_held_elsewhere(lock: Any) -> bool:
    """Return whether a lock of multiprocessing counts as held by a thread of the parent.

    The child would never release it again, as the count of that thread is above its own, and so
    block the parent as well.
    """
    semaphore = getattr(lock, "_semlock", None)
    return semaphore is not None and semaphore._count() > 0 and not semaphore._is_mine()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)
