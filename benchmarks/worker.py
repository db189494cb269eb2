"""The process of one peer at one number of threads; its parent drives it through a pipe.

    python -m benchmarks.worker PEER THREADS CPU,CPU,...

Requests and replies are lines of JSON. The affinity is set before anything else is imported,
because some peers can be limited to a number of threads in no other way. After each timing it
waits until the peer's own threads have stopped spinning, so that it leaves the CPU to the next
one without having to forbid spinning, which would slow the peer down.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

_QUIET_SECONDS = 0.004


def settle(limit: float = 1.0) -> float:
    """Wait until this process uses no CPU; return how long that took."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < limit:
        used = time.process_time()
        time.sleep(_QUIET_SECONDS)
        if time.process_time() - used < _QUIET_SECONDS / 10:
            break
    return time.perf_counter() - begin


class Worker:
    """Holds what is prepared, by a number that the parent chose."""

    def __init__(self, peer: str, threads: int):
        self.module = importlib.import_module(f"benchmarks.peers.{peer}_peer")
        self.threads = threads
        self.runners: dict[int, tuple[Any, int]] = {}

    def prepare(self, id: int, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Build, check, warm up, and find how many steps take about that many seconds."""
        from benchmarks.memory import peak_memory, reset_peak
        from benchmarks.shapes import Job

        gc.collect()
        reset_peak()
        runner = self.module.make(Job(**(job | {"sizes": tuple(job["sizes"])})), self.threads)
        check = runner.check()
        # A whole fit needs no further warm-up, and what a fit allocates is seen in the first only.
        n = 1
        if runner.job.kind not in ("fit", "memory"):
            n = self.calibrate(runner, seconds)
        self.runners[id] = runner, n
        settle()
        return {"check": check, "steps": n, "peak_memory": peak_memory()}

    @staticmethod
    def calibrate(runner: Any, seconds: float) -> int:
        """Run for a while, which is the second warm-up; return the steps for that time."""
        n = 1
        while True:
            begin = time.perf_counter()
            done = runner.run(n)
            elapsed = time.perf_counter() - begin
            if elapsed >= seconds / 4 or n >= 10**8:
                return max(1, round(done * seconds / elapsed))
            n = max(2 * n, done)

    def run(self, id: int) -> dict[str, Any]:
        runner, n = self.runners[id]
        gc.collect()
        gc.disable()
        try:
            value = runner.measure(n)
        finally:
            gc.enable()
        return {"value": value, "settled": settle()}

    def drop(self, id: int) -> dict[str, Any]:
        self.runners.pop(id, None)
        gc.collect()
        return {}

    def versions(self) -> dict[str, Any]:
        return self.module.versions()


def main() -> None:
    peer, threads, cpus = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, cpus.split(",")))
    # Whatever a library prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(peer, int(threads))
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            name = type(error).__name__
            message = str(error).strip().partition("\n")[0]
            reply = {"error": message if name == "Unsupported" else f"{name}: {message}"}
            if name not in ("Unsupported", "ModuleNotFoundError"):
                traceback.print_exc()
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
