"""One module for each peer: `versions()`, and `make(job, threads)`, which returns a `Runner`.

A module is imported only in a process of its own, after the number of threads has been set.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.shapes import Job, first_weights, mean_loss

NAMES = ("fastgd", "numpy", "sklearn", "torch", "jax", "onnxruntime")


class Unsupported(Exception):
    """The peer has no such thing: the report says so instead of showing a time."""


class Runner:
    """What is timed. A subclass has `run`, and `weights` or its own `check`."""

    def __init__(self, job: Job, data: tuple[np.ndarray, np.ndarray] | None = None):
        self.job = job
        if data is not None:
            self.X, self.y = data

    def run(self, n: int) -> int:
        """Do about n steps (or calls), wait until they are done, and return how many it did."""
        raise NotImplementedError

    def weights(self) -> list[Any]:
        """Return the weights as they are now: [W, b, W, b, ...], W (fan_in, fan_out)."""
        raise NotImplementedError

    def check(self) -> float | None:
        """Do one epoch from the first weights; return the loss that is compared among peers."""
        done = self.run(self.job.n_steps)
        if done != self.job.n_steps:
            raise RuntimeError(f"{done} steps instead of {self.job.n_steps}")
        first = [p for pair in first_weights(self.job) for p in pair]
        before = mean_loss(self.job, first, self.X, self.y)
        after = mean_loss(self.job, self.weights(), self.X, self.y)
        # Equal losses would prove little if the steps did not change them.
        if not abs(before - after) > 1e-3 * before:
            raise ArithmeticError(f"the loss stays at {before}")
        return after

    def measure(self, n: int) -> float:
        """Return the seconds of one step."""
        begin = time.perf_counter()
        done = self.run(n)
        return (time.perf_counter() - begin) / done


def predicted_loss(job: Job, outputs: np.ndarray, y: np.ndarray) -> float:
    """Return the mean of -log p of the labels, which compares predictions among peers."""
    return float(-np.log(np.asarray(outputs, np.float64)[np.arange(len(y)), y]).mean())


def fashion(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Read the training images of Fashion-MNIST as float32 in [0, 1], and their labels."""
    from pathlib import Path

    from fastgd._idx import read_idx

    folder = Path(job.data)
    X = read_idx(folder / "train-images-idx3-ubyte.gz")[: job.n_samples]
    y = read_idx(folder / "train-labels-idx1-ubyte.gz")[: job.n_samples]
    X = X.reshape(len(X), -1) / np.float32(255)
    return X, y.astype(np.int64)


class WholeFit(Runner):
    """A whole fit from the first weights: one unit is one fit; `last_loss` is its last epoch's."""

    last_loss = float("nan")

    def check(self) -> float:
        self.run(1)
        return self.last_loss
