"""The hand-written loop: every array allocated once, every operation in place."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import Runner, Unsupported, WholeFit, fashion, predicted_loss
from benchmarks.shapes import Job, first_weights, samples
from fastgd._bench import NumpyNetwork


def versions() -> dict[str, str]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}"}


def _network(job: Job) -> NumpyNetwork:
    if job.activation != "relu" or job.loss != "cross_entropy" or job.optimizer["name"] != "sgd":
        raise Unsupported("the hand-written loop has relu, cross entropy and plain SGD only")
    W, b = zip(*first_weights(job), strict=True)
    return NumpyNetwork(W, b, job.batch, job.learning_rate)


class Train(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.net = _network(job)

    def run(self, n: int) -> int:
        epochs = max(1, round(n / self.job.steps))
        self.net.fit(self.X, self.y, epochs, None)
        return epochs * self.job.steps

    def weights(self) -> list[np.ndarray]:
        return [p for pair in zip(self.net.W, self.net.b, strict=True) for p in pair]


class DeltaRule(Runner):
    """w += lr * (target - output) * x, one sample at a time."""

    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        ((W, b),) = first_weights(job)
        self.w, self.b = W[:, 0].copy(), float(b[0])
        self.targets = self.y[:, 0].tolist()

    def run(self, n: int) -> int:
        epochs = max(1, round(n / self.job.steps))
        w, b, lr = self.w, self.b, self.job.learning_rate
        for _ in range(epochs):
            for x, target in zip(self.X, self.targets, strict=True):
                step = lr * (target - float(x.dot(w)) - b)
                w += np.float32(step) * x
                b += step
        self.b = b
        return epochs * self.job.steps

    def weights(self) -> list[np.ndarray]:
        return [self.w[:, None], np.array([self.b])]


class Predict(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.net = _network(job)

    def outputs(self) -> np.ndarray:
        z = self.net.predict(self.X)
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    def run(self, n: int) -> int:
        for _ in range(n):
            self.outputs()
        return n

    def check(self) -> float:
        return predicted_loss(self.job, self.outputs(), self.y)


class Fit(WholeFit):
    def __init__(self, job: Job):
        super().__init__(job, fashion(job))

    def run(self, n: int) -> int:
        for _ in range(n):
            net = _network(self.job)
            rng = np.random.default_rng(0)
            for _ in range(self.job.epochs):
                self.last_loss = net.fit(self.X, self.y, 1, rng)
        return n


def make(job: Job, threads: int) -> Runner:
    if job.kind == "train" and job.sizes[1:] == (1,) and job.batch == 1:
        return DeltaRule(job)
    return {"train": Train, "predict": Predict, "fit": Fit}[job.kind](job)
