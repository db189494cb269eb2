"""Time training against a careful NumPy loop: `fastgd bench`, and the comparison in `fastgd demo`.

Run as a module with its work as one JSON argument, in a process of its own, because the number
of BLAS threads can be set only before NumPy is imported. Results are compared before any timing.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import fastgd
from fastgd import _kernels
from fastgd.datasets import load_digits_split

# Layer sizes, batch size, steps in an epoch.
SHAPES: tuple[tuple[tuple[int, ...], int, int], ...] = (
    ((4, 16, 3), 32, 64),
    ((8, 64, 64, 4), 64, 64),
    ((64, 100, 10), 200, 32),
    ((784, 256, 128, 10), 128, 16),
    ((1024, 1024, 10), 256, 8),
)
DIGITS: dict[str, Any] = {
    "sizes": [64, 128, 10],
    "epochs": 60,
    "batch_size": 32,
    "lr": 0.05,
    "momentum": 0.9,
}
_THREAD_VARIABLES = (
    "FASTGD_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_ROUND_SECONDS = 0.15
# Both sides round differently; after eight steps in float32 they agree to about 1e-6.
_SAME_LOSS, _SAME_WEIGHTS = 1e-5, 1e-4


class NumpyNetwork:
    """The same training in NumPy: every array allocated once, every operation in place.

    relu layers, softmax output, cross entropy, SGD with optional Nesterov momentum.
    """

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        biases: Sequence[np.ndarray],
        batch_size: int,
        lr: float,
        momentum: float = 0.0,
    ):
        self.W = [np.array(W, order="C") for W in weights]
        self.b = [np.array(b) for b in biases]
        dtype = self.W[0].dtype
        self.lr, self.momentum = dtype.type(lr), dtype.type(momentum)
        self.batch_size = batch_size
        sizes = [len(self.W[0]), *(W.shape[1] for W in self.W)]
        self.a = [np.empty((batch_size, size), dtype) for size in sizes]
        self.delta = [np.empty((batch_size, size), dtype) for size in sizes]
        self.positive = [np.empty((batch_size, size), bool) for size in sizes]
        self.row = np.empty((batch_size, 1), dtype)
        self.rows = np.arange(batch_size)
        self.dW = [np.empty_like(W) for W in self.W]
        self.db = [np.empty_like(b) for b in self.b]
        self.velocity = [np.zeros_like(p) for p in (*self.W, *self.b)] if momentum else []

    def step(self, X: np.ndarray, y: np.ndarray, index: np.ndarray) -> float:
        """Train on the samples of `index` and return their mean loss before the update."""
        n = len(index)
        a = [buffer[:n] for buffer in self.a]
        np.take(X, index, axis=0, out=a[0], mode="clip")
        for i, W in enumerate(self.W):
            np.matmul(a[i], W, out=a[i + 1])
            a[i + 1] += self.b[i]
            if i < len(self.W) - 1:
                np.maximum(a[i + 1], 0, out=a[i + 1])

        p, row, rows, labels = a[-1], self.row[:n], self.rows[:n], y[index]
        np.max(p, axis=1, keepdims=True, out=row)
        p -= row
        loss = -float(p[rows, labels].sum())
        np.exp(p, out=p)
        np.sum(p, axis=1, keepdims=True, out=row)
        p /= row
        np.log(row, out=row)
        loss += float(row.sum())
        p[rows, labels] -= 1
        p *= 1 / n

        delta = p
        for i in range(len(self.W) - 1, -1, -1):
            np.matmul(a[i].T, delta, out=self.dW[i])
            np.sum(delta, axis=0, out=self.db[i])
            if i:
                below, positive = self.delta[i][:n], self.positive[i][:n]
                np.matmul(delta, self.W[i].T, out=below)
                np.greater(a[i], 0, out=positive)
                np.multiply(below, positive, out=below)
                delta = below
        self._update()
        return loss / n

    def _update(self) -> None:
        gradients = (*self.dW, *self.db)
        for i, (p, g) in enumerate(zip((*self.W, *self.b), gradients, strict=True)):
            if self.velocity:
                v = self.velocity[i]
                v *= self.momentum
                v += g
                g += self.momentum * v
            g *= self.lr
            p -= g

    def fit(
        self, X: np.ndarray, y: np.ndarray, epochs: int, rng: np.random.Generator | None
    ) -> float:
        """Train for some epochs, shuffled if `rng` is given; return the last one's mean loss."""
        n, total = len(X), 0.0
        for _ in range(epochs):
            order = np.arange(n) if rng is None else rng.permutation(n)
            total = 0.0
            for first in range(0, n, self.batch_size):
                index = order[first : first + self.batch_size]
                total += self.step(X, y, index) * len(index)
        return total / n

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the output layer before its softmax, which keeps the order."""
        for i, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            X = X @ W + b
            if i < len(self.W) - 1:
                X = np.maximum(X, 0)
        return X


def make_pair(
    sizes: Sequence[int], batch_size: int, dtype: str, lr: float, momentum: float = 0.0
) -> tuple[fastgd.Network, NumpyNetwork]:
    """Make the same network twice, with the same weights."""
    layers = [fastgd.Dense(n, "relu") for n in sizes[1:-1]] + [fastgd.Dense(sizes[-1])]
    optimizer = fastgd.SGD(lr=lr, momentum=momentum, nesterov=momentum > 0)
    net = fastgd.Network(layers, "cross_entropy", optimizer, n_inputs=sizes[0], dtype=dtype)
    twin = NumpyNetwork(
        [layer.weight for layer in net.layers],
        [np.asarray(layer.bias) for layer in net.layers],
        batch_size,
        lr,
        momentum,
    )
    return net, twin


def flop_per_step(sizes: Sequence[int], batch_size: int) -> int:
    """Count the multiplications and additions of the products of matrices in one step."""
    products = [m * n for m, n in pairwise(sizes)]
    # Forward, weight gradient, and the gradient of the layer below, which the first does not need.
    return 2 * batch_size * (3 * sum(products) - products[0])


def compare(sizes: Sequence[int], batch_size: int, dtype: str, n_threads: int) -> None:
    """Train both for eight steps and raise if they do not agree."""
    net, twin = make_pair(sizes, batch_size, dtype, lr=0.05)
    X, y = _data(sizes, 8 * batch_size, dtype)
    history = net.fit(X, y, 1, batch_size, shuffle=False, verbose=0, n_threads=n_threads)
    ours, theirs = history.history["loss"][0], twin.fit(X, y, 1, None)
    if not abs(ours - theirs) <= _SAME_LOSS * abs(theirs):
        raise ArithmeticError(f"{_name(sizes)}: loss {ours!r}, in NumPy {theirs!r}")
    for layer, W in zip(net.layers, twin.W, strict=True):
        worst = float(np.abs(layer.weight - W).max())
        if not worst <= _SAME_WEIGHTS * float(np.abs(W).max()):
            raise ArithmeticError(f"{_name(sizes)}: weights differ from NumPy's by {worst!r}")


def _data(sizes: Sequence[int], n: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, sizes[0]), dtype=np.dtype(dtype).type)
    return X, rng.integers(0, sizes[-1], n)


def _name(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def _repeats(run: Callable[[int], object]) -> int:
    """Find how many epochs take about one round's time."""
    epochs = 1
    while True:
        begin = time.perf_counter()
        run(epochs)
        elapsed = time.perf_counter() - begin
        if elapsed >= _ROUND_SECONDS / 4:
            return max(1, round(epochs * _ROUND_SECONDS / elapsed))
        epochs *= 4


def measure(
    sizes: Sequence[int], batch_size: int, steps: int, dtype: str, n_threads: int, rounds: int
) -> dict[str, Any]:
    """Time one shape, in rounds that take turns; seconds are for one step."""
    compare(sizes, batch_size, dtype, n_threads)
    net, twin = make_pair(sizes, batch_size, dtype, lr=0.01)
    X, y = _data(sizes, steps * batch_size, dtype)
    rng = np.random.default_rng(0)

    def ours(epochs: int) -> None:
        net.fit(X, y, epochs, batch_size, verbose=0, n_threads=n_threads)

    def theirs(epochs: int) -> None:
        twin.fit(X, y, epochs, rng)

    epochs = [_repeats(ours), _repeats(theirs)]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for side, run in enumerate((ours, theirs)):
            begin = time.perf_counter()
            run(epochs[side])
            seconds[side].append((time.perf_counter() - begin) / (epochs[side] * steps))
    fast, slow = map(statistics.median, seconds)
    gflop = flop_per_step(sizes, batch_size) / 1e9
    return {
        "sizes": list(sizes),
        "batch_size": batch_size,
        "fastgd_us": fast * 1e6,
        "fastgd_us_range": [min(seconds[0]) * 1e6, max(seconds[0]) * 1e6],
        "numpy_us": slow * 1e6,
        "numpy_us_range": [min(seconds[1]) * 1e6, max(seconds[1]) * 1e6],
        "speedup": slow / fast,
        "fastgd_gflops": gflop / fast,
        "numpy_gflops": gflop / slow,
    }


def cpu_name() -> str:
    """Name the processor as the system does; on Linux x86-64 with its family and model."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if not line.strip():
                    break  # the next processor
                key, _, value = line.partition(":")
                found[key.strip()] = value.strip()
    except OSError:
        pass
    name = found.get("model name")
    if not name:
        return platform.processor() or platform.machine()
    # Virtual machines give processors of several generations one name.
    if "cpu family" not in found or "model" not in found:
        return name
    return f"{name} (family {found['cpu family']} model {found['model']})"


def _blas_name() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def run_shapes(dtype: str, n_threads: int, rounds: int, json_path: str | None) -> None:
    """Measure every shape, print a table, and write the figures to a file if asked."""
    peak = _kernels.fma_peak(dtype, 0.3)
    result: dict[str, Any] = {
        "version": fastgd.__version__,
        "machine": cpu_name(),
        "isa": fastgd.active_isa(),
        "compiler": _kernels.build_info()["compiler"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": _blas_name(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "dtype": dtype,
        "threads": n_threads,
        "rounds": rounds,
        "fma_peak_gflops_per_thread": peak,
        "shapes": [],
    }
    print(
        f"fastgd {fastgd.__version__} ({result['isa']}) and NumPy {np.__version__} "
        f"({result['blas']}), {dtype}, threads: {n_threads}\n"
        f"{result['machine']}, measured FMA peak {peak:.0f} GFLOP/s per thread\n"
        f"One training step: SGD, relu, softmax, cross entropy; median of {rounds} rounds\n\n"
        "network               batch   fastgd us    NumPy us   speedup   GFLOP/s   of peak",
        flush=True,
    )
    # What is timed is training as such, with the comparison with NumPy already done.
    with fastgd.config(validate="off"):
        for sizes, batch_size, steps in SHAPES:
            row = measure(sizes, batch_size, steps, dtype, n_threads, rounds)
            row["share_of_peak"] = row["fastgd_gflops"] / (peak * n_threads)
            result["shapes"].append(row)
            print(
                f"{_name(sizes):<20} {batch_size:>6} {row['fastgd_us']:>11.2f} "
                f"{row['numpy_us']:>11.2f} {row['speedup']:>8.1f}x {row['fastgd_gflops']:>9.1f} "
                f"{row['share_of_peak']:>8.0%}",
                flush=True,
            )
    if json_path:
        with open(json_path, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


def run_digits() -> None:
    """Time the demo's fit on both sides; print one JSON object."""
    X_train, y_train, X_test, y_test = load_digits_split()
    X_train, X_test = X_train / np.float32(16), X_test / np.float32(16)
    options = {key: DIGITS[key] for key in ("lr", "momentum")}
    seconds: list[list[float]] = [[], []]
    accuracy = [0.0, 0.0]
    with fastgd.config(validate="off"):
        for _ in range(3):
            net, twin = make_pair(DIGITS["sizes"], DIGITS["batch_size"], "float32", **options)
            rng = np.random.default_rng(0)
            begin = time.perf_counter()
            net.fit(X_train, y_train, DIGITS["epochs"], DIGITS["batch_size"], verbose=0)
            middle = time.perf_counter()
            twin.fit(X_train, y_train, DIGITS["epochs"], rng)
            seconds[1].append(time.perf_counter() - middle)
            seconds[0].append(middle - begin)
            for side, outputs in enumerate((net.predict(X_test), twin.predict(X_test))):
                accuracy[side] = float((outputs.argmax(axis=1) == y_test).mean())
    fast, slow = map(statistics.median, seconds)
    figures = {"fastgd_seconds": fast, "numpy_seconds": slow, "speedup": slow / fast}
    print(json.dumps(figures | {"fastgd_accuracy": accuracy[0], "numpy_accuracy": accuracy[1]}))


def start(work: dict[str, Any], n_threads: int, capture: bool = False) -> str:
    """Run this module on some work in a new process with that many threads.

    Returns
    -------
    str
        What it printed, if `capture`; otherwise it prints as it goes.

    Raises
    ------
    RuntimeError
        It failed; the message is the last line of what it said.
    """
    env = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
    done = subprocess.run(
        [sys.executable, "-m", "fastgd._bench", json.dumps(work)],
        env=env,
        text=True,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or "the benchmark was stopped")
    return done.stdout or ""


def main() -> None:
    """Do the work that the one argument describes."""
    work = json.loads(sys.argv[1])
    if work.pop("kind") == "digits":
        run_digits()
    else:
        run_shapes(**work)


if __name__ == "__main__":
    main()
