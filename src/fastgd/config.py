"""Settings of the process: how much is verified, how many threads, which instruction set.

They are plain globals, shared by all threads: the instruction set is one pointer in the C core,
and a setting that one thread did not see in time would be worse than one it did not ask for.
"""

from __future__ import annotations

import math
import os
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from . import _kernels
from ._validate import choice, integer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["config", "default_n_threads", "set_isa"]

ValidateMode = Literal["first_step", "always", "off"]
_MODES = ("first_step", "always", "off")
# The engine takes a C int, and uses no more threads than FGD_MAX_THREADS of csrc/fgd_team.h.
_MAX_THREADS = 2**31 - 1


class Settings:
    """One state of the settings. A change makes a new object, so identity tells of changes."""

    __slots__ = ("n_threads", "validate")

    def __init__(self, validate: str, n_threads: int | None) -> None:
        self.validate: str = validate
        self.n_threads: int | None = n_threads


class _Active:
    """Hold the settings in force."""

    __slots__ = ("settings",)

    def __init__(self) -> None:
        self.settings: Settings = Settings("first_step", None)


active: _Active = _Active()


class config:
    """Change settings of the process; as a context manager, only within the block.

    Parameters
    ----------
    validate : {"first_step", "always", "off"}, optional
        How much of training is repeated by the NumPy reference. "first_step", the default of the
        package: the first step of each new combination of instruction set, dtype and operations.
        "always": every step, slowly. "off": none.
    n_threads : int or "auto", optional
        Threads for calls that do not name a number themselves. "auto" takes the number from the
        CPUs this process may use, its cgroup quota, then OMP_NUM_THREADS, then
        FASTGD_NUM_THREADS, each overriding the one before. The bits of a result never depend on it.
        Above all of them, and above the argument of a call, stands threadpoolctl: within
        ``threadpool_limits(1)`` no call uses more than one thread.
    isa : str, optional
        The instruction set, one of `available_isas`.

    Attributes
    ----------
    validate, n_threads, isa
        The settings in force, read at any time.

    Raises
    ------
    ValueError
        For an unknown mode or instruction set, or one that this build or machine does not have.
        Nothing is changed then.

    Notes
    -----
    The settings belong to the process, not to a thread: a block in one thread is seen by all.
    Called as a function it takes effect at once and stays.

    Examples
    --------
    >>> import fastgd
    >>> with fastgd.config(validate="off", n_threads=1) as settings:
    ...     settings.validate, settings.n_threads
    ('off', 1)
    >>> fastgd.config().validate
    'first_step'
    """

    def __init__(
        self,
        *,
        validate: ValidateMode | None = None,
        n_threads: int | Literal["auto"] | None = None,
        isa: str | None = None,
    ) -> None:
        before = active.settings
        mode = before.validate if validate is None else choice("validate", validate, _MODES)
        threads = before.n_threads
        if isinstance(n_threads, str):
            choice("n_threads", n_threads, ("auto",), " or a number")
            threads = None
        elif n_threads is not None:
            threads = integer("n_threads", n_threads, 1, _MAX_THREADS)
        self._before = before, _kernels.active_isa()
        if isa is not None:
            _kernels.set_isa(isa, "isa")
        active.settings = Settings(mode, threads)

    @property
    def validate(self) -> str:
        return active.settings.validate

    @property
    def n_threads(self) -> int:
        threads, limit = threads_in_force(), _kernels.thread_limit()
        return min(threads, limit) if limit else threads

    @property
    def isa(self) -> str:
        return str(_kernels.active_isa())

    def __enter__(self) -> config:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        settings, isa = self._before
        if isa != _kernels.active_isa():
            _kernels.set_isa(isa)
        active.settings = Settings(settings.validate, settings.n_threads)

    def __repr__(self) -> str:
        return f"config(validate={self.validate!r}, n_threads={self.n_threads}, isa={self.isa!r})"


def set_isa(name: str) -> None:
    """Use one of `available_isas` from now on, in the whole process.

    Parameters
    ----------
    name : str
        An instruction set. A process begins with the best one, or with that of the environment
        variable FASTGD_ISA.

    Raises
    ------
    ValueError
        If the name is unknown, this build does not hold it, or this machine cannot run it; each
        has its own message.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.set_isa(fastgd.active_isa())
    """
    _kernels.set_isa(name)
    # A new object, so that networks notice and verify their first step again.
    active.settings = Settings(active.settings.validate, active.settings.n_threads)


def threads_in_force(n_threads: int | None = None) -> int:
    """Return the argument of a call, or else the setting, or else the default.

    The limit of threadpoolctl is not in it: the C core applies that one, to each call anew.
    """
    if n_threads is not None:
        return integer("n_threads", n_threads, 1, _MAX_THREADS)
    chosen = active.settings.n_threads
    return default_n_threads() if chosen is None else chosen


def default_n_threads() -> int:
    """Return the number of threads that "auto" stands for.

    Raises
    ------
    ValueError
        If FASTGD_NUM_THREADS is not a positive integer. An OMP_NUM_THREADS that cannot be read
        belongs to others and is ignored.

    Examples
    --------
    >>> from fastgd.config import default_n_threads
    >>> default_n_threads() >= 1
    True
    """
    of_environment = threads_of_environment()
    if of_environment is not None:
        return of_environment[0]
    if hasattr(os, "sched_getaffinity"):
        n_cpus = len(os.sched_getaffinity(0))
    else:
        n_cpus = os.cpu_count() or 1
    quota = _cgroup_quota()
    return n_cpus if quota is None else max(1, min(n_cpus, math.ceil(quota)))


def threads_of_environment() -> tuple[int, str] | None:
    """Return the number of threads that an environment variable asks for, and its name."""
    own = os.environ.get("FASTGD_NUM_THREADS", "").strip()
    if own:
        # Longer texts are not read at all: Python refuses some of them with another message.
        if not (own.isdecimal() and len(own) <= 10 and 1 <= int(own) <= _MAX_THREADS):
            raise ValueError(
                f"FASTGD_NUM_THREADS must be a positive integer, at most {_MAX_THREADS}, "
                f"not {own!r}"
            )
        return int(own), "FASTGD_NUM_THREADS"
    # OpenMP allows a list, one number for each level of nesting.
    openmp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if openmp.isdecimal() and len(openmp) <= 10 and 1 <= int(openmp) <= _MAX_THREADS:
        return int(openmp), "OMP_NUM_THREADS"
    return None


@cache
def _cgroup_quota() -> float | None:
    # Once in a process: the files take longer to read than a small fit takes.
    from pathlib import Path

    return cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def cgroup_quota(membership: Path, root: Path) -> float | None:
    """Return the CPUs that the control groups of this process allow, None without a limit.

    Both versions of the interface are read. The tightest limit on the way from the group to the
    root counts; a group that the file system does not show (containers) is taken as the root.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "", "")[:3]
        if controllers == "" and group:
            base, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / controllers, _quota_v1
            if not base.is_dir():
                base = root / "cpu"
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            limit = read(base.joinpath(*parts[:depth]))
            if limit is not None:
                limits.append(limit)
    return min(limits, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
