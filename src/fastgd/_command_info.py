"""`fastgd info`: what this build and this machine are, as a report of a problem should say."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__, _kernels
from ._bench import cpu_name
from ._command_train import encoder_of
from .config import default_n_threads, threads_of_environment
from .io import load

__all__ = ["info"]

_DTYPES = ("float32", "float64")


def info(options: argparse.Namespace) -> int:
    """Print version, machine, threads, build flags and optional packages; peaks if asked for.

    With a model file, what that holds instead.
    """
    if options.model:
        if options.measure:
            raise ValueError("--measure measures this machine; it does not go with a model file")
        _print_model(options.model)
        return 0
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


def _print_model(path: str) -> None:
    """Print the network of a model file, and what `fastgd train` has learned about its data."""
    net = load(path)
    encoder = encoder_of(path, net)
    print(net.summary())
    rows = [
        ("optimizer", repr(net.optimizer)),
        ("trained", f"{net.epoch} epochs, {net.step} steps"),
    ]
    names: Sequence[str] = net.feature_names or ()
    if encoder is not None:
        rows.append(("task", encoder.task))
        if encoder.target is not None:
            rows.append(("target", repr(encoder.target)))
        if encoder.task == "classification":
            rows.append(("classes", _some(encoder.classes)))
        names = encoder.feature_names
    if names:
        rows.append(("inputs", _some(names)))
    if "training" in net.metadata:
        rows.append(("interrupted", "fastgd train --resume goes on with its training"))
    for name, value in rows:
        print(f"{name:<16}{value}")


def _some(values: Sequence[Any], most: int = 12) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(repr, values[:most])) + more


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
            peaks = (f"{_kernels.fma_peak(dtype, 0.1):.4g} {dtype}" for dtype in _DTYPES)
            print(f"{f'GFLOP/s of {isa}':<24}{', '.join(peaks)}, one thread")
    finally:
        _kernels.set_isa(before)
