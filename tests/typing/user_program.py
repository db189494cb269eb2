"""A program of a user with types, for `mypy --strict` and pyright; a test runs it as well.

What a type checker makes of each result is asserted: an Any where a type was promised would
otherwise pass unseen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastgd
from fastgd import Dense, Network
from fastgd.activations import LeakyReLU
from fastgd.datasets import load_digits_split
from fastgd.schedules import Cosine, WarmUp

Array = NDArray[Any]


class Longest(fastgd.Callback):
    """Remember the epoch that took longest."""

    epoch: int | None = None
    seconds = 0.0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if logs["seconds"] > self.seconds:
            self.epoch, self.seconds = epoch, logs["seconds"]
        assert_type(self.network, Network)


class Cubed:
    """A loss of the user's own: the mean of |a - y| ** 3."""

    def value(self, a: Array, y: Array) -> float:
        return float((np.abs(a - y) ** 3).mean())

    def delta(self, a: Array, y: Array) -> Array:
        slopes: Array = 3 * (a - y) ** 2 * np.sign(a - y)
        return slopes


def train(folder: Path) -> Network:
    X, y, X_test, y_test = load_digits_split()
    net = Network(
        [Dense(32, LeakyReLU(0.1), l2=1e-4), Dense(16, "tanh", dropout=0.1), Dense(10)],
        loss="cross_entropy",
        optimizer=fastgd.AdamW(lr=WarmUp(Cosine(2e-3, 300), 20), weight_decay=1e-4),
        n_inputs=64,
        dtype="float32",
        seed=1,
        input_scale=1 / 16,
    )
    longest = Longest()
    history = net.fit(
        X,
        y,
        epochs=6,
        batch_size=32,
        validation_data=(X_test, y_test),
        callbacks=[fastgd.EarlyStopping("val_loss", patience=3), longest],
        metrics=("accuracy",),
        verbose=0,
        n_threads=1,
    )
    assert_type(history, fastgd.History)
    assert_type(history.history["val_accuracy"], list[float])
    assert longest.epoch is not None
    assert_type(net.evaluate(X_test, y_test), float)
    assert_type(net.evaluate(X_test, y_test, metrics=["accuracy"]), dict[str, float])
    assert_type(net.predict(X_test), Array)
    assert_type(net.train_step(X[:32], y[:32]), float)
    loss, gradients = net.loss_and_grad(X[:32], y[:32])
    assert_type(loss, float)
    assert_type(gradients, list[tuple[Array, Array | None]])
    assert_type(net.layers[0].weight, Array)
    assert_type(net.layers[0].bias, Array | None)
    assert_type(net.summary(), str)
    weights = net.get_weights()
    assert_type(weights, list[Array])
    net.set_weights(weights)
    net.save(folder / "digits.safetensors", metadata={"classes": list(range(10))})
    loaded = fastgd.load(folder / "digits.safetensors")
    assert_type(loaded, Network)
    return loaded


def look(net: Network) -> None:
    X, y, _, _ = load_digits_split()
    flow = net.gradient_flow(X[:64], y[:64])
    assert_type(flow, fastgd.GradientFlowReport)
    assert_type(flow.warnings, list[str])
    explained = fastgd.explain(net, X[0], int(y[0]))
    assert_type(explained, fastgd.Explanation)
    assert_type(explained.loss, float)


def own_loss_and_kernels() -> None:
    X = np.linspace(-1, 1, 60).reshape(20, 3)
    net = Network([Dense(1)], loss=Cubed(), optimizer="sgd", dtype="float64")
    net.fit(X, X.sum(axis=1), epochs=3, verbose=0)
    W, b = np.full((3, 2), 0.5), np.zeros(2)
    a = fastgd.kernels.forward(X, W, b, "relu")
    assert_type(a, np.ndarray[Any, Any])
    delta = fastgd.kernels.activation_grad("relu", np.ones_like(a), a=a)
    dW, db = fastgd.kernels.weight_grad(X, delta)
    fastgd.reference.sgd_update(W, b, X, delta, lr=0.1)
    print(f"gradient of the kernels {float(np.abs(dW).sum() + np.abs(db).sum()):.3f}")


def settings() -> None:
    with fastgd.config(validate="off", n_threads=1) as inside:
        assert_type(inside.isa, str)
        assert_type(inside.n_threads, int)
    assert_type(fastgd.available_isas(), tuple[str, ...])
    try:
        fastgd.load("absent.safetensors")
    except (fastgd.ModelFileError, OSError) as error:
        print(type(error).__name__)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        look(train(Path(name)))
    own_loss_and_kernels()
    settings()
