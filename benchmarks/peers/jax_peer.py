"""JAX: jit of one step, and jit of lax.scan over an epoch; weights are donated.

"unrolled" is the scan with eight steps in each turn of the loop, for steps so short that the
loop itself counts. The number of threads is set before the process starts.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import Runner, Unsupported, WholeFit, fashion, predicted_loss
from benchmarks.shapes import Job, first_weights, samples


def versions() -> dict[str, str]:
    import jaxlib

    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


_ACTIVATIONS = {"relu": lambda z: jnp.maximum(z, 0), "tanh": jnp.tanh}


def _forward(job: Job, weights, a):
    for i, (W, b) in enumerate(weights):
        a = a @ W + b
        if i < len(weights) - 1:
            a = _ACTIVATIONS[job.activation](a)
    return a


def _step_function(job: Job):
    if job.optimizer["name"] != "sgd" or job.dtype != "float32":
        raise Unsupported("jax is measured with plain SGD in float32")
    lr = job.learning_rate

    def loss(weights, x, y):
        out = _forward(job, weights, x)
        if job.loss == "squared_error":
            return 0.5 * ((out - y) ** 2).sum() / len(x)
        log_p = jax.nn.log_softmax(out)
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def step(weights, batch):
        value, gradient = jax.value_and_grad(loss)(weights, *batch)
        return jax.tree.map(lambda p, g: p - lr * g, weights, gradient), value

    return step


def _arrays(job: Job):
    return jax.tree.map(jnp.array, first_weights(job))


class Train(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        step = _step_function(job)
        self.params = _arrays(job)
        X = self.X.reshape(job.steps, job.batch, -1)
        y = self.y.astype(np.int32) if job.loss == "cross_entropy" else self.y
        y = y.reshape(job.steps, job.batch, *y.shape[1:])
        if job.variant == "step":
            self.step = jax.jit(step, donate_argnums=0)
            self.batches = [(jnp.array(x), jnp.array(t)) for x, t in zip(X, y, strict=True)]
        else:
            unroll = 8 if job.variant == "unrolled" else 1

            @partial(jax.jit, donate_argnums=0)
            def epoch(weights, batches):
                return lax.scan(step, weights, batches, unroll=unroll)

            self.step, self.batches = epoch, (jnp.array(X), jnp.array(y))

    def run(self, n: int) -> int:
        epochs = max(1, round(n / self.job.steps))
        params, step, batches = self.params, self.step, self.batches
        for _ in range(epochs):
            if self.job.variant == "step":
                for batch in batches:
                    params, _ = step(params, batch)
            else:
                params, _ = step(params, batches)
        self.params = jax.block_until_ready(params)
        return epochs * self.job.steps

    def weights(self) -> list[np.ndarray]:
        return [np.asarray(p) for pair in self.params for p in pair]


class Predict(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.params, self.x = _arrays(job), jnp.array(self.X)
        self.predict = jax.jit(lambda weights, x: jax.nn.softmax(_forward(job, weights, x)))

    def run(self, n: int) -> int:
        for _ in range(n):
            self.predict(self.params, self.x).block_until_ready()
        return n

    def check(self) -> float:
        return predicted_loss(self.job, np.asarray(self.predict(self.params, self.x)), self.y)


class Fit(WholeFit):
    """Each epoch is one call: permutation, then a scan that gathers its batches; then the rest."""

    def __init__(self, job: Job):
        super().__init__(job, fashion(job))
        self.x, self.labels = jnp.array(self.X), jnp.array(self.y.astype(np.int32))
        step, batch, n = _step_function(job), job.batch, len(self.X)
        whole = n // batch * batch

        @partial(jax.jit, donate_argnums=0)
        def epoch(weights, key, x, labels):
            order = jax.random.permutation(key, n)

            def on_rows(weights, rows):
                weights, value = step(weights, (x[rows], labels[rows]))
                return weights, value * len(rows)

            weights, values = lax.scan(on_rows, weights, order[:whole].reshape(-1, batch))
            total = values.sum()
            if whole < n:
                weights, value = on_rows(weights, order[whole:])
                total += value
            return weights, total / n

        self.epoch = epoch

    def run(self, n: int) -> int:
        for _ in range(n):
            params = _arrays(self.job)
            history = []
            for key in jax.random.split(jax.random.key(0), self.job.epochs):
                params, value = self.epoch(params, key, self.x, self.labels)
                history.append(float(value))
            jax.block_until_ready(params)
            self.last_loss = history[-1]
        return n


def make(job: Job, threads: int) -> Runner:
    return {"train": Train, "predict": Predict, "fit": Fit}[job.kind](job)
