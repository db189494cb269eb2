"""Cases with a procedure of their own: import time, sharing the CPUs, fork, threadpoolctl.

Each function returns rows with `group`, `case`, `unit` and a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

from benchmarks import shapes
from benchmarks.cases import Options
from benchmarks.pool import ROOT, WorkerError, WorkerProcess, spread

_IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"

_NETWORK = """
import numpy as np, fastgd
def train():
    layers = [fastgd.Dense(256, "relu"), fastgd.Dense(10)]
    net = fastgd.Network(layers, "cross_entropy", n_inputs=784)
    X, y = np.ones((512, 784), np.float32), np.zeros(512, int)
    return net.fit(X, y, 2, 128, verbose=0, **options).history["loss"][-1]
"""
# Each prints "ok", or fails. They run with a time limit, since a hang is what they look for.
_CHECKS = {
    "fork: training with all threads in a child": _NETWORK
    + """
import multiprocessing, os
options = {"n_threads": max(2, os.cpu_count())}
before = train()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert [pool.apply(train) for _ in range(2)] == [before] * 2
print("ok")
""",
    "joblib: four workers": _NETWORK
    + """
from joblib import Parallel, delayed
import multiprocessing
options = {}
before = train()
four = Parallel(n_jobs=4, backend="multiprocessing")
assert four(delayed(train)() for _ in range(4)) == [before] * 4
print("ok")
""",
    "threadpoolctl: fastgd in threadpool_info": """
import fastgd, threadpoolctl
assert any("fastgd" in str(sorted(info.items())) for info in threadpoolctl.threadpool_info())
print("ok")
""",
    "threadpoolctl: threadpool_limits is honoured": """
import fastgd, os, threadpoolctl
if fastgd.config().n_threads == 1:
    fastgd.config(n_threads=2)
with threadpoolctl.threadpool_limits(1):
    assert fastgd.config().n_threads == 1, fastgd.config()
assert fastgd.config().n_threads > 1
print("ok")
""",
    "n_threads from the environment": """
import os
os.environ["FASTGD_NUM_THREADS"] = "3"
from fastgd.config import threads_in_force
assert threads_in_force() == 3
print("ok")
""",
    "n_threads from the affinity": """
import os
os.environ.pop("OMP_NUM_THREADS", None)
os.environ.pop("FASTGD_NUM_THREADS", None)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fastgd.config import threads_in_force
assert threads_in_force() == 1
print("ok")
""",
}


def _python(code: str, timeout: float = 60) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise WorkerError(done.stderr.strip().rpartition("\n")[2])
    return done.stdout.strip()


def import_time(options: Options, rounds: int) -> list[dict[str, Any]]:
    """Time both imports in processes that take turns; the first of each warms the disk."""
    names = ("numpy", "fastgd")
    values: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            seconds = float(_python(_IMPORT.format(name)))
            if turn:
                values[name].append(seconds)
    return [
        {"group": "import", "case": "import", "peer": name, "unit": "s", **spread(values[name])}
        for name in names
    ]


def _together(workers: Sequence[WorkerProcess]) -> float:
    for worker in workers:
        worker.send("run", id=0)
    return fmean(worker.receive()["value"] for worker in workers)


def threads(options: Options, rounds: int) -> list[dict[str, Any]]:
    """Measure what processes lose that share the CPUs, how soon workers park, and the rest."""
    n_threads = max(options.threads)
    rows: list[dict[str, Any]] = []
    job = asdict(replace(shapes.IMAGES, variant="fit"))
    seconds = 0.1 if options.quick else 0.4
    workers = [WorkerProcess("fastgd", n_threads) for _ in range(4)]
    try:
        steps = [worker.ask("prepare", id=0, job=job, seconds=seconds) for worker in workers]
        values: dict[str, list[float]] = {"two processes": [], "four processes": []}
        for _ in range(rounds):
            alone = _together(workers[:1])
            for n, name in ((2, "two processes"), (4, "four processes")):
                # With perfect sharing, n processes take n times as long as one alone.
                values[name].append(_together(workers[:n]) / (n * alone) - 1)
        for name, losses in values.items():
            row = {"group": "threads", "case": name, "unit": "loss", **spread(losses)}
            rows.append(row | {"threads": n_threads, "steps": steps[0]["steps"]})
        park = asdict(replace(shapes.IMAGES, kind="park", variant="train_step"))
        workers[0].ask("prepare", id=1, job=park, seconds=0.01)
        parked = [workers[0].ask("run", id=1)["value"] * 1e6 for _ in range(rounds)]
        row = {"group": "threads", "case": "parking", "unit": "us", **spread(parked)}
        rows.append(row | {"threads": n_threads})
    finally:
        for worker in workers:
            worker.close()
    for name, code in _CHECKS.items():
        try:
            passed, reason = _python(code) == "ok", ""
        except (WorkerError, subprocess.TimeoutExpired) as error:
            passed, reason = False, str(error).strip()[:200]
        row = {"group": "threads", "case": name, "unit": "passes", "median": float(passed)}
        rows.append(row | ({"reason": reason} if reason else {}))
    return rows


def drop_in(options: Options, rounds: int) -> list[dict[str, Any]]:
    """Time scikit-learn's classes and ours in one process of their own."""
    command = [str(ROOT / "benchmarks" / "drop_in.py"), "--rounds", str(rounds)]
    command += ["--fashion", str(options.fashion), *(["--quick"] if options.quick else [])]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise WorkerError(done.stderr.strip().rpartition("\n")[2])
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [row | {"threads": max(options.threads)} for row in rows]


def torch_fit(options: Options, rounds: int) -> list[dict[str, Any]]:
    """Time fastgd.torch beside PyTorch, with one thread and with all, each in a process."""
    return _in_processes("torch_fit.py", options, rounds)


def blocks(options: Options, rounds: int) -> list[dict[str, Any]]:
    """Time fits on blocks beside fits on arrays, with one thread and with all, in processes."""
    return _in_processes("blocks.py", options, rounds, "--fashion", str(options.fashion))


def _in_processes(script: str, options: Options, rounds: int, *more: str) -> list[dict[str, Any]]:
    """Run a script with one thread and with all, and return the rows that it prints as JSON."""
    rows: list[dict[str, Any]] = []
    for threads in sorted({1, max(options.threads)}):
        command = [str(ROOT / "benchmarks" / script), "--rounds", str(rounds)]
        command += ["--threads", str(threads), *more, *(["--quick"] if options.quick else [])]
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise WorkerError(done.stderr.strip().rpartition("\n")[2])
        rows += json.loads(done.stdout)
    return rows


EXTRAS: dict[str, Callable[[Options, int], list[dict[str, Any]]]] = {
    "import": import_time,
    "threads": threads,
    "drop_in": drop_in,
    "torch_fit": torch_fit,
    "blocks": blocks,
}
