"""`fastgd demo`: train on real data, check the arithmetic, and compare the speed with NumPy."""

from __future__ import annotations

import csv
import io
import json
from itertools import groupby
from pathlib import Path

import numpy as np

from . import __version__, _bench, active_isa
from ._check import check
from .config import threads_in_force
from .datasets import load_digits, load_digits_split
from .io import write_atomically

__all__ = ["demo", "write_digits"]

_WANTED = 0.97


def demo() -> int:
    """Run the demo.

    Returns
    -------
    int
        Exit code: 1 if the accuracy is too low or a check fails.
    """
    plan = _bench.DIGITS
    X_train, y_train, X_test, y_test = load_digits_split()
    X_train, X_test = X_train / np.float32(16), X_test / np.float32(16)
    print(f"fastgd {__version__}, {active_isa()}, threads: {threads_in_force()}")
    print(f"\n1. Training on {len(X_train)} images of handwritten digits (8 x 8, UCI)")
    net, _ = _bench.make_pair(
        plan["sizes"], plan["batch_size"], "float32", plan["lr"], plan["momentum"]
    )
    history = net.fit(X_train, y_train, plan["epochs"], plan["batch_size"], verbose=1)
    accuracy = float((net.predict(X_test).argmax(axis=1) == y_test).mean())
    losses = history.history["loss"]
    print(f"   loss {losses[0]:.4f} -> {losses[-1]:.4f} in {plan['epochs']} epochs")
    print(f"   test accuracy {accuracy:.4f} on {len(y_test)} other images (wanted: {_WANTED})")

    print("\n2. Every kernel on every instruction set here, against the NumPy reference")
    report = check(verbose=False)
    for (isa, dtype), group in groupby(report.results, lambda result: (result.isa, result.dtype)):
        results = list(group)
        good = sum(result.passed for result in results)
        worst = max(results, key=lambda result: result.share)
        print(
            f"   {isa:<8} {dtype}: {good} of {len(results)} within their error bounds; "
            f"largest error {worst.share:.2f} of its bound ({worst.kernel})"
        )

    print("\n3. The same fit in NumPy, float32, one thread each")
    figures = json.loads(_bench.start({"kind": "digits"}, n_threads=1, capture=True))
    print(
        f"   fastgd {figures['fastgd_seconds'] * 1e3:8.1f} ms   "
        f"accuracy {figures['fastgd_accuracy']:.4f}\n"
        f"   NumPy  {figures['numpy_seconds'] * 1e3:8.1f} ms   "
        f"accuracy {figures['numpy_accuracy']:.4f}\n"
        f"   {figures['speedup']:.1f} times as fast"
    )
    ok = accuracy >= _WANTED and report.passed
    print(f"\n{'All well.' if ok else 'NOT as it should be: see above.'}")
    return 0 if ok else 1


def write_digits(path: str) -> None:
    """Write the bundled digits as CSV or NPZ, for trying the other commands."""
    X, y = load_digits()
    if path.endswith(".npz"):
        content = io.BytesIO()
        np.savez_compressed(content, X=X, y=y)
        write_atomically(Path(path), content.getvalue())
    elif path.endswith(".csv"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["digit", *(f"pixel{i}" for i in range(X.shape[1]))])
        writer.writerows(np.column_stack([y, X]).tolist())
        write_atomically(Path(path), text.getvalue().encode())
    else:
        raise ValueError(f"{path}: the name must end in .csv or .npz")
