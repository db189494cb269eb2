"""`fastgd info`: what this build and this machine are, as a report of a problem should say."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import sys

from . import __version__, _kernels
from ._bench import cpu_name
from .config import default_n_threads, threads_of_environment

__all__ = ["info"]

_DTYPES = ("float32", "float64")


def info(options: argparse.Namespace) -> int:
    """Print version, machine, threads, build flags and optional packages; peaks if asked for."""
    build = _kernels.build_info()
    asked = threads_of_environment()
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for name, value in (
        ("fastgd", __version__),
        ("python", sys.version.split()[0]),
        ("numpy", importlib.metadata.version("numpy")),
        ("system", platform.platform()),
        ("processor", f"{cpu_name()}, {cpus} to be used"),
        ("instruction sets built", " ".join(_kernels.built_isas())),
        ("available here", " ".join(_kernels.available_isas())),
        ("active", _kernels.active_isa()),
        ("threads", f"{default_n_threads()}, by {asked[1] if asked else 'processors and quota'}"),
        ("compiler", build["compiler"]),
        ("flags", build["flags"]),
        *((f"extra {name}", text) for name, text in _extras().items()),
    ):
        print(f"{name:<24}{value}")
    if options.measure:
        _print_peaks()
    return 0


def _extras() -> dict[str, str]:
    """Return the packages of each extra with their versions, or the command to install them."""
    found: dict[str, str] = {}
    for requirement in importlib.metadata.requires("fastgd") or ():
        match = re.match(r"([\w.-]+).*extra == [\"']([\w-]+)[\"']", requirement)
        if match is None or match[2] not in _SHOWN:
            continue
        package, extra = match.groups()
        try:
            text = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            text = f"no {package} (pip install 'fastgd[{extra}]')"
        found[extra] = f"{found[extra]}, {text}" if extra in found else text
    return found


# Those that add something to the package; the others are for its development and its examples.
_SHOWN = ("data", "plot", "sklearn", "onnx", "torch")


def _print_peaks() -> None:
    """Measure the rate of fused multiply-adds, which nothing exceeds, on one thread."""
    before = _kernels.active_isa()
    try:
        for isa in _kernels.available_isas():
            _kernels.set_isa(isa)
            peaks = (f"{_kernels.fma_peak(dtype, 0.1):.1f} {dtype}" for dtype in _DTYPES)
            print(f"{f'GFLOP/s of {isa}':<24}{', '.join(peaks)}, one thread")
    finally:
        _kernels.set_isa(before)
