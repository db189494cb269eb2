"""The networks that are measured, their data and first weights, and what a step costs in FLOP.

Imports NumPy only, because every peer's process needs it. Everything follows from a `Job`, so
that each process makes the same arrays by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """One thing that one peer does over and over; travels to its process as JSON.

    kind: "train" (steps on prepared batches), "predict", "fit" (a whole shuffled fit), or one of
    fastgd's own probes. variant: the peer's way of doing it.
    """

    sizes: tuple[int, ...] = ()
    batch: int = 0
    steps: int = 1  # batches of an epoch
    kind: str = "train"
    variant: str = ""
    activation: str = "relu"
    loss: str = "cross_entropy"
    dtype: str = "float32"
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "sgd", "lr": 0.01})
    rows: int = 0  # samples of the data set; 0 stands for batch * steps
    shuffle: bool = False
    epochs: int = 1
    weight_scale: float = 1.0
    data: str = ""  # "uint8", or the folder of the Fashion-MNIST files

    @property
    def n_samples(self) -> int:
        return self.rows or self.batch * self.steps

    @property
    def n_steps(self) -> int:
        return -(-self.n_samples // self.batch)

    @property
    def name(self) -> str:
        return "-".join(map(str, self.sizes))

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer["lr"])


NETWORKS = (
    Job((4, 16, 3), 32, 1000),
    Job((8, 64, 64, 4), 64, 200, activation="tanh"),
    Job((8, 64, 64, 4), 64, 200),
    Job((64, 100, 10), 200, 50),
    Job((784, 256, 128, 10), 128, 16),
    Job((1024, 2048, 2048, 10), 512, 2),
    Job((20, 1), 1, 4000, loss="squared_error", optimizer={"name": "sgd", "lr": 0.001}),
)
TINY, TANH, SMALL, MEDIUM, IMAGES, WIDE, DELTA_RULE = NETWORKS


def parse(text: str) -> Job:
    """Make the job of a network that is written as 300-200-5@64; one output is a regression."""
    sizes, _, batch = text.partition("@")
    job = Job(tuple(map(int, sizes.split("-"))), int(batch))
    if len(job.sizes) < 2 or min(*job.sizes, job.batch) < 1:
        raise ValueError(text)
    # An epoch of at most 8 MB, which is long enough to hide the cost of a call.
    steps = max(2, min(1000, 2_000_000 // (job.batch * job.sizes[0])))
    loss = "squared_error" if job.sizes[-1] == 1 else "cross_entropy"
    return replace(job, steps=steps, loss=loss)


def case_name(job: Job) -> str:
    """Name a network and its batch, such as '64-100-10 relu, 200'."""
    activation = f" {job.activation}"
    if len(job.sizes) == 2:
        activation = " delta rule" if job.batch == 1 else " linear"
    return f"{job.name}{activation}, {job.batch}"


def first_weights(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw W (fan_in, fan_out) and b (fan_out,) of each layer, the same for every peer."""
    rng = np.random.default_rng(1)
    dtype = np.dtype(job.dtype).type
    return [
        (
            rng.standard_normal((m, n), dtype=dtype) * dtype(job.weight_scale * (1.5 / m) ** 0.5),
            rng.standard_normal(n, dtype=dtype) * dtype(0.1),
        )
        for m, n in pairwise(job.sizes)
    ]


def samples(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Make X (n_samples, n_inputs) and y: labels, or (n_samples, n_outputs) with noise."""
    rng = np.random.default_rng(0)
    n, dtype = job.n_samples, np.dtype(job.dtype).type
    if job.data == "uint8":
        X = rng.integers(0, 256, (n, job.sizes[0]), dtype=np.uint8)
    else:
        X = rng.standard_normal((n, job.sizes[0]), dtype=dtype)
    if job.loss == "cross_entropy":
        return X, rng.integers(0, job.sizes[-1], n)
    slope = rng.standard_normal((job.sizes[0], job.sizes[-1]), dtype=dtype)
    # The noise keeps the error, and with it every gradient, away from denormal numbers.
    return X, X @ slope + rng.standard_normal((n, job.sizes[-1]), dtype=dtype)


ACTIVATIONS = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "identity": lambda z: z}


def mean_loss(job: Job, weights: list[np.ndarray], X: np.ndarray, y: np.ndarray) -> float:
    """Compute in float64 the mean loss of weights [W, b, W, b, ...] on the data."""
    a = X.astype(np.float64)
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for i, (W, b) in enumerate(layers):
        a = a @ np.asarray(W, np.float64) + np.asarray(b, np.float64)
        if i < len(layers) - 1:
            a = ACTIVATIONS[job.activation](a)
    if job.loss == "squared_error":
        return float(0.5 * ((a - y) ** 2).sum() / len(X))
    top = a.max(axis=1, keepdims=True)
    total = np.log(np.exp(a - top).sum(axis=1)) + top[:, 0]
    return float((total - a[np.arange(len(a)), y]).mean())


def flop(job: Job) -> float:
    """Count the multiplications and additions of the products of matrices in one step.

    A step has the mean size of a batch, where the last one is short. Prediction counts the
    forward pass of all rows.
    """
    products = [m * n for m, n in pairwise(job.sizes)]
    if job.kind == "predict":
        return 2.0 * job.n_samples * sum(products)
    # Forward, weight gradient, and the gradient of the layer below, which the first does not need.
    return 2.0 * job.n_samples / job.n_steps * (3 * sum(products) - products[0])
