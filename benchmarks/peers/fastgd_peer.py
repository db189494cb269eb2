"""fastgd itself: fit, train_step and predict, and the probes that only its own bars need.

The probes: "peak" (GFLOP/s of fused multiply-adds on all threads at once), "loaded_peak" (the
same on one thread, after steps), "sweep" (the time to read W and to read and write it once more),
"fit_call", "park" and "memory".
"""

from __future__ import annotations

import gc
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import fastgd
from benchmarks.memory import peak_memory, reset_peak, resident_memory, trim
from benchmarks.peers import Runner, WholeFit, fashion, predicted_loss
from benchmarks.shapes import ACTIVATIONS, Job, first_weights, samples
from fastgd import _kernels, schedules

_OPTIMIZERS = {
    "sgd": fastgd.SGD,
    "adam": fastgd.Adam,
    "adamw": fastgd.AdamW,
    "rmsprop": fastgd.RMSprop,
    "adagrad": fastgd.Adagrad,
}


def versions() -> dict[str, str]:
    return {
        "fastgd": fastgd.__version__,
        "isa": fastgd.active_isa(),
        "compiler": _kernels.build_info()["compiler"],
        "available_isas": " ".join(fastgd.available_isas()),
    }


def network(job: Job) -> fastgd.Network:
    """Make the network of a job with the common first weights."""
    settings = dict(job.optimizer)
    optimizer = _OPTIMIZERS[settings.pop("name")]
    if settings.pop("schedule", None):
        settings["lr"] = schedules.Cosine(settings["lr"], steps=10**9)
    hidden = [fastgd.Dense(n, job.activation) for n in job.sizes[1:-1]]
    net = fastgd.Network(
        [*hidden, fastgd.Dense(job.sizes[-1])],
        job.loss,
        optimizer(**settings),
        n_inputs=job.sizes[0],
        dtype=job.dtype,
    )
    net.set_weights([p for pair in first_weights(job) for p in pair])
    return net


class Train(Runner):
    """fit without shuffling (one call), or a train_step for each batch."""

    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.net = network(job)
        size = job.batch
        self.batches = [
            (self.X[i : i + size], self.y[i : i + size]) for i in range(0, len(self.X), size)
        ]

    def run(self, n: int) -> int:
        job = self.job
        epochs = max(1, round(n / job.n_steps))
        if job.variant == "train_step":
            step = self.net.train_step
            for _ in range(epochs):
                for x, y in self.batches:
                    step(x, y)
        else:
            self.net.fit(self.X, self.y, epochs, job.batch, shuffle=job.shuffle, verbose=0)
        return epochs * job.n_steps

    def weights(self) -> list[Any]:
        return self.net.get_weights()

    def check(self) -> float:
        if self.job.activation in ACTIVATIONS and self.job.n_samples <= 100_000:
            return super().check()
        # Only fastgd is measured with these; its first step is verified by its own reference.
        self.run(self.job.n_steps)
        part = slice(0, 10_000)
        return float(self.net.evaluate(self.X[part], self.y[part]))


class Predict(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.net = network(job)

    def run(self, n: int) -> int:
        predict, X = self.net.predict, self.X
        for _ in range(n):
            predict(X)
        return n

    def check(self) -> float:
        return predicted_loss(self.job, self.net.predict(self.X), self.y)


class Fit(WholeFit):
    def __init__(self, job: Job):
        super().__init__(job, fashion(job))

    def run(self, n: int) -> int:
        for _ in range(n):
            net = network(self.job)
            history = net.fit(self.X, self.y, self.job.epochs, self.job.batch, verbose=0)
            self.last_loss = float(history.history["loss"][-1])
        return n


class FitCall(Runner):
    """Calls of fit for one epoch of one batch: what a call costs beside its step."""

    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.net = network(job)

    def run(self, n: int) -> int:
        fit, X, y, size = self.net.fit, self.X, self.y, self.job.batch
        for _ in range(n):
            fit(X, y, 1, size, shuffle=False, verbose=0)
        return n

    def weights(self) -> list[Any]:
        return self.net.get_weights()


class Probe(Runner):
    """Something without steps and without a loss; `measure` returns its figure."""

    def __init__(self, job: Job, threads: int):
        super().__init__(job)
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def check(self) -> None:
        return None

    def run(self, n: int) -> int:
        self.measure(n)
        return n


class Peak(Probe):
    """The rate over as long a time as training is measured for: the clock falls meanwhile."""

    SECONDS = 0.1

    def measure(self, n: int) -> float:
        def burn(_: int) -> float:
            rates = []
            end = time.perf_counter() + self.SECONDS
            while time.perf_counter() < end:
                rates.append(_kernels.fma_peak(self.job.dtype, 0))  # over a millisecond or two
            return statistics.fmean(rates)

        return sum(self.pool.map(burn, range(self.threads)))


class LoadedPeak(Probe):
    """The rate of one thread right after steps of the network, before the clock changes.

    Products load what they multiply, which takes power: some processors lower their clock for it,
    and raise it again when nothing but registers is used.
    """

    STEPS_SECONDS = 0.005
    BURST_SECONDS = 5e-5
    BURSTS = 15

    def __init__(self, job: Job, threads: int):
        super().__init__(job, threads)
        self.train = Train(job)

    def measure(self, n: int) -> float:
        rates = []
        for _ in range(self.BURSTS):
            loaded = time.perf_counter() + self.STEPS_SECONDS
            while time.perf_counter() < loaded:
                self.train.run(1)
            rates.append(_kernels.fma_peak(self.job.dtype, 0, self.BURST_SECONDS))
        return statistics.median(rates)


class Sweep(Probe):
    """Move as many bytes as W has: read them once, then read and write them once."""

    def __init__(self, job: Job, threads: int):
        super().__init__(job, threads)
        size = sum(W.size for W, _ in first_weights(job))
        self.parts = np.array_split(np.ones(size, job.dtype), threads)

    def measure(self, n: int) -> float:
        def sweep(w):
            np.dot(w, w)
            np.multiply(w, w.dtype.type(1.0), out=w)

        begin = time.perf_counter()
        for _ in range(n):
            list(self.pool.map(sweep, self.parts))
        return (time.perf_counter() - begin) / n


class Park(Probe):
    """CPU time that the workers use after a threaded call has returned."""

    def __init__(self, job: Job, threads: int):
        super().__init__(job, threads)
        self.train = Train(job)

    def measure(self, n: int) -> float:
        self.train.run(1)
        # The clocks of the threads themselves: the process's knows of the time of one that runs on
        # another CPU as late as at that CPU's next tick, and would count what came before the end.
        clocks = [
            (~int(task.name) << 3) | 6  # see clock_getcpuclockid(3)
            for task in Path("/proc/self/task").iterdir()
            if (task / "comm").read_text() == "fastgd\n"
        ]
        extra = []
        for _ in range(10):
            self.train.run(1)
            begin = sum(map(time.clock_gettime, clocks))
            time.sleep(0.005)
            extra.append((sum(map(time.clock_gettime, clocks)) - begin) / max(1, len(clocks)))
        return float(np.median(extra))


class Memory(Probe):
    """MB by which a fit raises the resident memory; X and y exist before it.

    variant "growth": by which a fit of ten times as many epochs raises it once more;
    "not validated": the same as without a variant, without the check of the first step.
    """

    def __init__(self, job: Job, threads: int):
        super().__init__(job, threads)
        self.X, self.y = samples(job)
        # What the first fit of any network takes (threads, modules) is not this fit's.
        small = Job((4, 8, 3), 8, 2, dtype=job.dtype)
        network(small).fit(*samples(small), 1, 8, verbose=0)
        self.net = network(job)

    def measure(self, n: int) -> float:
        gc.collect()
        fit, size = self.net.fit, self.job.batch
        epochs = 1
        if self.job.variant == "growth":
            fit(self.X, self.y, 1, size, verbose=0)
            epochs = 10
        trim()
        reset_peak()
        before = resident_memory()
        validate = "off" if self.job.variant == "not validated" else None
        with fastgd.config(validate=validate):
            fit(self.X, self.y, epochs, size, verbose=0)
        return peak_memory() - before


def make(job: Job, threads: int) -> Runner:
    kinds = {"train": Train, "predict": Predict, "fit": Fit, "fit_call": FitCall}
    probes = {
        "peak": Peak,
        "loaded_peak": LoadedPeak,
        "sweep": Sweep,
        "park": Park,
        "memory": Memory,
    }
    if job.kind in probes:
        return probes[job.kind](job, threads)
    return kinds[job.kind](job)
