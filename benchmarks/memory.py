"""Resident memory of this process, now and at its peak, in MB of 10^6 bytes."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys


def _status(field: str) -> float | None:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def max_rss() -> float:
    """Return the peak since the process started."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident_memory() -> float:
    """Return the memory resident now; the peak, where the system does not say."""
    value = _status("VmRSS")
    return max_rss() if value is None else value


def trim() -> None:
    """Give freed memory back to the system, so that its reuse shows as growth (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> None:
    """Let `peak_memory` count from now on, where the system can do that (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory() -> float:
    """Return the peak since `reset_peak`, or else since the process started."""
    value = _status("VmHWM")
    return max_rss() if value is None else value
