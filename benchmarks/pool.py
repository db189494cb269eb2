"""Starts the worker processes, each with the right number of threads, and times in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.shapes import Job

ROOT = Path(__file__).resolve().parent.parent
_THREAD_VARIABLES = (
    "FASTGD_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_ids = count()


def cpus() -> list[int]:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class WorkerError(RuntimeError):
    """The worker could not do it; the message says why."""


class WorkerProcess:
    """The parent's end of one worker."""

    def __init__(self, peer: str, threads: int, isa: str = ""):
        env = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        # Compiled code is made in the process itself, which leaves no pool of idle processes.
        env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        env["JAX_PLATFORMS"] = "cpu"
        if isa:
            env["FASTGD_ISA"] = isa
        if peer == "jax" and threads == 1:
            env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        # The last ones, since the first usually serves the interrupts; one thread always has
        # the same CPU, whichever peer it belongs to.
        chosen = ",".join(map(str, cpus()[-threads:]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(threads), chosen],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, do: str, **arguments: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"the process ended with status {self.process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.send(do, **arguments)
        return self.receive()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Pool:
    """One worker for each peer, number of threads and instruction set, started when needed."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, int, str], WorkerProcess] = {}

    def get(self, peer: str, threads: int, isa: str = "") -> WorkerProcess:
        key = peer, threads, isa
        worker = self._workers.get(key)
        if worker is None or worker.process.poll() is not None:
            worker = self._workers[key] = WorkerProcess(*key)
        return worker

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Series:
    """What one worker does in each round of a case; `label` tells it from its neighbours."""

    peer: str
    threads: int
    job: Job
    isa: str = ""
    label: str = ""

    def keys(self) -> dict[str, Any]:
        job = self.job
        return {
            "peer": self.peer,
            "variant": self.label or job.variant,
            "threads": self.threads,
            "dtype": job.dtype,
            "isa": self.isa,
            "kind": job.kind,
            "network": job.name,
            "batch": job.batch,
        }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"median": middle, "q1": low, "q3": high, "rounds": len(values)}


class Disagreement(ArithmeticError):
    """A peer's loss is not that of the others; nothing is timed then."""


def compare_checks(checks: dict[str, float], tolerance: float) -> None:
    """Raise unless all losses agree relatively, each with the first one."""
    (first, reference), *others = checks.items()
    for name, value in others:
        if not abs(value - reference) <= tolerance * abs(reference):
            raise Disagreement(f"loss {value!r} ({name}) against {reference!r} ({first})")


def measure(
    pool: Pool,
    series: Iterable[Series],
    rounds: int,
    seconds: float,
    tolerance: float | None = 1e-4,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Prepare all, compare their losses, then time them in rounds that take turns.

    Returns
    -------
    rows
        Keys of the series with median, q1, q3, check, peak_memory.
    missing
        Keys of what could not be measured, with the reason.
    """
    ready: list[tuple[Series, int, dict[str, Any]]] = []
    missing: list[dict[str, Any]] = []
    for one in series:
        worker, id = pool.get(one.peer, one.threads, one.isa), next(_ids)
        try:
            reply = worker.ask("prepare", id=id, job=asdict(one.job), seconds=seconds)
        except WorkerError as error:
            missing.append(one.keys() | {"reason": str(error)})
            continue
        ready.append((one, id, reply))
    if tolerance is not None:
        checks = {
            f"{one.peer} {one.job.variant}, {one.threads} threads": reply["check"]
            for one, _, reply in ready
            if reply["check"] is not None
        }
        if checks:
            compare_checks(checks, tolerance)
    values: dict[int, list[float]] = {id: [] for _, id, _ in ready}
    for _ in range(rounds):
        for one, id, _ in ready:
            values[id].append(pool.get(one.peer, one.threads, one.isa).ask("run", id=id)["value"])
    rows = []
    for one, id, reply in ready:
        rows.append(
            one.keys()
            | spread(values[id])
            | {"check": reply["check"], "peak_memory": reply["peak_memory"]}
        )
        pool.get(one.peer, one.threads, one.isa).ask("drop", id=id)
    return rows, missing
