"""A program: many calls of each kind leave the process as large as it was after some of them.

    python tests/long_runs.py [share [name ...]]

Prints for each kind how many calls there were, and how much resident memory and blocks of Python's
objects grew from the tenth part of them to the end; ends with 1 if that is more than noise. share:
of the calls, 1 by default.
"""

import gc
import pickle
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastgd
from fastgd import kernels

# A leak of 16 bytes a call is 1.4 MB more after 90,000 calls.
MOST_BYTES = 1 << 20
MOST_BLOCKS = 500

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 5)).astype(np.float32)
LABELS = np.arange(24) % 3
BAD = X.copy()
BAD[3, 2] = np.nan


def network(optimizer="sgd"):
    layers = [fastgd.Dense(8, "relu", dropout=0.1), fastgd.Dense(3)]
    return fastgd.Network(layers, "cross_entropy", optimizer, n_inputs=5)


NET, ADAM = network(), network("adam")
FOLDER = tempfile.TemporaryDirectory()
MODEL = Path(FOLDER.name) / "model"


def fit():
    NET.fit(X, LABELS, epochs=1, batch_size=8, verbose=0)


def new_network():
    """A network of its own each time, with every kind of state."""
    net = network("adam")
    net.fit(X, LABELS, epochs=1, batch_size=8, verbose=0, n_threads=2,
            validation_data=(X, LABELS), metrics="accuracy")  # fmt: skip


def train_step():
    ADAM.train_step(X, LABELS)


def other_sizes():
    """Work buffers that grow, and are freed, with the network."""
    net = fastgd.Network([fastgd.Dense(8, "gelu"), fastgd.Dense(3)], "cross_entropy", n_inputs=5)
    for n in (3, 24):
        net.train_step(X[:n], LABELS[:n])
        net.loss_and_grad(X[:n], LABELS[:n])


def predict():
    NET.predict(X)
    NET.evaluate(X, LABELS, metrics="accuracy")


def save_and_load():
    NET.save(MODEL)
    fastgd.load(MODEL)


def pickles():
    pickle.loads(pickle.dumps(ADAM))


def blocks():
    data = fastgd.Blocks(X, LABELS, buffer_rows=8)
    NET.fit(data, epochs=1, batch_size=4, verbose=0)
    NET.predict(fastgd.Blocks([X, X], buffer_rows=16))


def optimizers():
    ADAM.optimizer = "rmsprop"
    ADAM.optimizer = "adam"
    ADAM.set_weights(ADAM.get_weights())


def functions():
    state = {}
    W, b = np.ones((5, 3), np.float32), np.ones(3, np.float32)
    a = kernels.forward(X, W, b, "softmax")
    _, delta = kernels.loss("cross_entropy", a, LABELS)
    kernels.adam_update(W, b, X, delta, state, lr=0.1)


def refused(call, *arguments, **settings):
    try:
        call(*arguments, **settings)
    except (ValueError, TypeError, ArithmeticError):
        return
    raise AssertionError("nothing was refused")


def failures():
    refused(NET.fit, BAD, LABELS, verbose=0)
    refused(NET.fit, X, LABELS + 1, verbose=0)
    refused(NET.predict, X[:, :3])
    refused(NET.train_step, X, LABELS[:5])
    refused(NET.save, MODEL, metadata={"no JSON": object()})
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(1e30), n_inputs=5)
    refused(net.fit, X, X[:, 0] * 1e8, epochs=9, verbose=0)


def failing_blocks():
    def source():
        yield X[:8], LABELS[:8]
        yield BAD, LABELS

    refused(NET.fit, fastgd.Blocks(source, buffer_rows=8), verbose=0, batch_size=8)


def bad_files():
    MODEL.write_bytes(CONTENT[:-1])
    refused(fastgd.load, MODEL)
    MODEL.write_bytes(CONTENT[:60] + b"?" + CONTENT[61:])
    refused(fastgd.load, MODEL)


CALLS = {
    fit: 100_000,
    train_step: 100_000,
    predict: 100_000,
    new_network: 10_000,
    other_sizes: 10_000,
    save_and_load: 5_000,
    pickles: 10_000,
    blocks: 10_000,
    optimizers: 10_000,
    functions: 20_000,
    failures: 10_000,
    failing_blocks: 10_000,
    bad_files: 5_000,
}
NET.save(MODEL)
CONTENT = MODEL.read_bytes()


def size():
    """Return the resident memory in bytes, and the blocks of Python's objects."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), sys.getallocatedblocks()


def main():
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    names = sys.argv[2:]
    unknown = set(names) - {call.__name__ for call in CALLS}
    if unknown:
        sys.exit(f"there is no {sorted(unknown)[0]}")
    leaks = 0
    for call, n_all in CALLS.items():
        if names and call.__name__ not in names:
            continue
        n = max(200, round(n_all * share))
        began = time.perf_counter()
        for _ in range(n // 10):
            call()
        before = size()
        for _ in range(n - n // 10):
            call()
        growth = [after - old for after, old in zip(size(), before, strict=True)]
        is_leak = growth[0] > MOST_BYTES or growth[1] > MOST_BLOCKS
        leaks += is_leak
        print(f"{'LEAK' if is_leak else 'flat'}  {call.__name__}: {n:,} calls, "
              f"{growth[0] / 1024:+.0f} KiB, {growth[1]:+} blocks, "
              f"{time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
    sys.exit(leaks > 0)


if __name__ == "__main__":
    main()
