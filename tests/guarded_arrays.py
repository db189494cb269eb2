"""A program: nothing beyond an array of the caller is touched, or this ends with a crash.

    python tests/guarded_arrays.py [rounds [seed]]

Each array lies between two pages that cannot be read or written, and ends or begins at one: X of
every dtype, layout and alignment, targets, weights, outputs, and the arrays of `fastgd.kernels`, at
random sizes, in both dtypes, on every instruction set of the machine. faulthandler tells where.
"""

import ctypes
import faulthandler
import itertools
import mmap
import sys

import numpy as np

import fastgd
from fastgd import kernels

PAGE = mmap.PAGESIZE
NO_ACCESS = 0  # PROT_NONE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
INPUTS = ("f4", "f8", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?")
# loss -> (activation of the output layer, or that of the loss; the kind of targets)
LOSSES = {
    "squared_error": (None, "f"), "absolute_error": ("tanh", "f"), "huber": (None, "f"),
    "log_loss": (None, "f"), "poisson": (None, "f"), "cross_entropy": (None, "i"),
}  # fmt: skip
ACTIVATIONS = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus",
    "softsign", "tanh", "sigmoid", "hard_sigmoid", "exp", "softmax",
)  # fmt: skip


class Guard:
    """Makes arrays between guards; they live as long as the views of them."""

    def __init__(self, rng):
        self.rng = rng

    def memory(self, size):
        """Return bytes that end at a guard, or begin after one."""
        room = max(1, -(-size // PAGE)) * PAGE
        block = mmap.mmap(-1, room + 2 * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        for guard in (address, address + PAGE + room):
            if LIBC.mprotect(guard, PAGE, NO_ACCESS):
                raise OSError(ctypes.get_errno(), "mprotect")
        first = PAGE + (room - size if self.rng.integers(2) else 0)
        return np.frombuffer(block, np.uint8)[first : first + size]

    def array(self, values):
        """Return a C-contiguous copy of values."""
        values = np.ascontiguousarray(values)
        copy = self.memory(values.nbytes).view(values.dtype).reshape(values.shape)
        copy[...] = values
        return copy

    def matrix(self, values):
        """Return a copy of values in any layout and alignment."""
        rng = self.rng
        kind = rng.integers(4)
        if kind == 0:
            return self.array(values)
        if kind == 1:
            return self.array(values.T).T
        if kind == 2:
            return self.array(values[::-1, ::-1])[::-1, ::-1]
        # Rows with a gap of some bytes between them, and not at their alignment.
        rows, width = len(values), values.shape[1] * values.itemsize
        gap, shift = int(rng.integers(1, 8)), int(rng.integers(8))
        memory = self.memory(shift + rows * width + (rows - 1) * gap)
        copy = np.ndarray(values.shape, values.dtype, memory.data, shift,
                          (width + gap, values.itemsize))  # fmt: skip
        copy[...] = values
        return copy

    def size(self):
        """Return a size that is small, or around a multiple of a vector's."""
        rng = self.rng
        near = 16 * int(rng.integers(1, 5)) + int(rng.integers(-1, 2))
        return near if rng.integers(2) else int(rng.integers(1, 40))


def plain_functions(guard, dtype):
    """Call every function of `fastgd.kernels` once for each of its kernels."""
    rng = guard.rng

    def some(*shape):
        return guard.array(rng.uniform(0.1, 0.9, shape).astype(dtype))

    n, k, m = guard.size(), guard.size(), guard.size()
    X, W, b, delta = some(n, k), some(k, m), some(m), some(n, m)
    for act in ACTIVATIONS:
        kernels.forward(X, W, b, act, out=some(n, m), z_out=some(n, m))
        kernels.activation(act, delta, out=some(n, m))
        kernels.activation_grad(act, delta, z=some(n, m), a=some(n, m), out=some(n, m))
        kernels.backward(delta, W, act, z=some(n, k), a=some(n, k), out=some(n, k))
    kernels.weight_grad(X, delta, dW=some(k, m), db=some(m))
    weight = guard.array(rng.uniform(1, 2, n))
    for name, (_, kind) in LOSSES.items():
        y = some(n, m) if kind == "f" else guard.array(rng.integers(0, m, n))
        kernels.loss(name, some(n, m), y, sample_weight=weight)
    kernels.loss("cross_entropy", some(n, m), some(n, m))
    updates = {
        "sgd": ("velocity",), "adam": ("exp_avg", "exp_avg_sq"),
        "adamw": ("exp_avg", "exp_avg_sq"), "rmsprop": ("square_avg", "momentum_buffer"),
        "adagrad": ("sum",),
    }  # fmt: skip
    for name, states in updates.items():
        update = getattr(kernels, f"{name}_update")
        pairs = {state: (some(k, m), some(m)) for state in states}
        if name == "sgd":
            update(W, b, X, delta, lr=0.1, momentum=0.9, **pairs)
            update(W, None, X, delta, lr=0.1, l1=0.1, l2=0.1, clip_value=1.0)
        else:
            momentum = {"momentum": 0.9} if name == "rmsprop" else {}
            counted = {"step": 3} if name.startswith("adam") else {}
            update(W, b, X, delta, pairs | counted, lr=0.1, **momentum)


def whole_calls(guard, dtype, x_dtype, loss):
    """Fit, train a step, evaluate, predict and differentiate."""
    rng = guard.rng
    act, kind = LOSSES[loss]
    n, n_inputs = guard.size(), guard.size()
    units = max(2, guard.size()) if kind == "i" else int(rng.choice([1, 3, guard.size()]))
    hidden = [fastgd.Dense(guard.size(), str(rng.choice(ACTIVATIONS[:-1])), dropout=0.2)]
    layers = hidden * int(rng.integers(2)) + [fastgd.Dense(units, act)]
    optimizer = [
        fastgd.SGD(0.01), fastgd.SGD(0.01, momentum=0.9), fastgd.SGD(0.01, clip_norm=1.0),
        "adam", "rmsprop", "adagrad",
    ][rng.integers(6)]  # fmt: skip
    net = fastgd.Network(layers, loss, optimizer, n_inputs, dtype, input_scale=0.125)
    net._engine.serial_flop = 0.0
    X = guard.matrix(rng.integers(0, 2 if x_dtype == "?" else 7, (n, n_inputs)).astype(x_dtype))
    if kind == "i":
        y = guard.array(rng.integers(0, units, n).astype(rng.choice(["i8", "i4", "u1"])))
    else:
        y = guard.matrix(rng.integers(0, 2, (n, units)).astype(rng.choice([dtype, "f8", "i2"])))
    weight = guard.array(rng.uniform(1, 2, n)) if rng.integers(2) else None
    batch_size = 1 if rng.integers(4) == 0 else int(rng.integers(1, n + 1))
    net.fit(X, y, 2, batch_size, sample_weight=weight, verbose=0, n_threads=int(rng.integers(1, 4)))
    net.train_step(X, y)
    net.train_step(X, y)
    net.loss_and_grad(X, y, weight)
    net.evaluate(X, y, weight)
    for _ in range(2):
        net.predict(X)
    net._engine.predict(X, guard.array(np.empty((n, units), dtype)))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    faulthandler.enable()
    fastgd.config(validate="off")
    guard, n_calls, n_diverged = Guard(rng), 0, 0
    for _ in range(rounds):
        for isa, dtype in itertools.product(fastgd.available_isas(), ("float32", "float64")):
            fastgd.set_isa(isa)
            plain_functions(guard, dtype)
            for i, loss in enumerate(LOSSES):
                for x_dtype in (dtype, "u1", INPUTS[(i + n_calls) % len(INPUTS)]):
                    try:
                        whole_calls(guard, dtype, x_dtype, loss)
                    except fastgd.DivergenceError:  # an exp of an exp, for one, soon overflows
                        n_diverged += 1
                    n_calls += 1
    assert n_diverged <= n_calls // 20, f"{n_diverged} of {n_calls} networks diverged"
    print(f"{n_calls} networks, nothing beyond an array")


if __name__ == "__main__":
    main()
