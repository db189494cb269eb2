"""Fits and operations whose results must have the same bits on every machine, and their digests.

All inputs come from hashes of integers, by operations that are exact: no random generator and no
function of NumPy, whose bits may differ between its versions, has a part in a result.
"""

import hashlib
import itertools

import numpy as np

import fastgd
from fastgd import _check, _kernels, _pairing, activations, kernels, reference

N_FITS = 100
HIDDEN = [name for name in _kernels.ACTIVATIONS if name not in ("softmax", "exp")]
OPTIMIZERS = (
    lambda lr: fastgd.SGD(lr),
    lambda lr: fastgd.SGD(lr, momentum=0.875),
    lambda lr: fastgd.SGD(lr, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda lr: fastgd.SGD(lr, clip_norm=0.25),
    lambda lr: fastgd.SGD(lr, momentum=0.5, clip_value=0.125, clip_norm=1.5),
    lambda lr: fastgd.Adam(lr),
    lambda lr: fastgd.Adam(lr, weight_decay=0.01, clip_value=0.01),
    lambda lr: fastgd.AdamW(lr, weight_decay=0.1),
    lambda lr: fastgd.RMSprop(lr),
    lambda lr: fastgd.RMSprop(lr, momentum=0.9),
    lambda lr: fastgd.Adagrad(lr),
)


class Hash:
    """Whole numbers and fractions that follow from a key (SplitMix64)."""

    def __init__(self, *key):
        self.state = 0
        for number in key:
            self.state = self.below(1 << 64) ^ number

    def below(self, n):
        """Return a whole number from 0 to n - 1, n at most 2**64."""
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        x = self.state
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return (x ^ (x >> 31)) * n >> 64

    def choose(self, items):
        return items[self.below(len(items))]

    def bits(self, *shape):
        """Return an array of 64 hashed bits an element."""
        x = np.uint64(self.below(1 << 64)) + np.arange(
            1, int(np.prod(shape)) + 1, dtype=np.uint64
        ) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (x ^ (x >> np.uint64(31))).reshape(shape)

    def fractions(self, *shape, dtype="float64"):
        """Return multiples of 2**-20 from -1 to below 1: exact in both dtypes."""
        whole = (self.bits(*shape) >> np.uint64(43)).astype(np.int64)  # 21 bits
        return ((whole - (1 << 20)).astype(np.float64) * 2.0**-20).astype(dtype)

    def whole(self, n, *shape):
        """Return an array of whole numbers from 0 to n - 1, n below 2**31."""
        return ((self.bits(*shape) >> np.uint64(33)) * np.uint64(n) >> np.uint64(31)).astype(
            np.int64
        )

    def any_bits(self, dtype, *shape):
        """Return numbers of all exponents, infinities and NaN among them."""
        if dtype == "float64":
            return self.bits(*shape).view(np.float64)
        return (self.bits(*shape) >> np.uint64(32)).astype(np.uint32).view(np.float32)


class Case:
    """A fit that follows from its number; `run` repeats it, on any threads and instruction set."""

    def __init__(self, number):
        h = Hash(1, number)
        self.dtype = h.choose(["float32", "float64"])
        self.n = 1 + h.below(120)
        self.n_inputs = 1 + h.below(40)
        self.loss = h.choose(_pairing.LOSSES)
        n_hidden = h.below(4)
        self.units = [1 + h.below(40) for _ in range(n_hidden)] + [1 + h.below(9)]
        if n_hidden and h.below(5) == 0:  # large enough to be divided by its units
            self.n_inputs, self.units[0] = 160 + h.below(40), 420 + h.below(40)
        if self.loss == "cross_entropy":
            self.units[-1] += 1
        self.online = n_hidden == 0 and self.loss != "cross_entropy" and h.below(2) == 0
        if self.online:
            self.units = [1]
        self.batch_size = 1 if self.online else 1 + h.below(self.n)
        output = h.choose(_pairing.fitting_outputs(self.loss))
        names = [h.choose(HIDDEN) for _ in range(n_hidden)] + [output]
        rates = [h.choose([0.0, 0.0, 0.25, 0.5]) for _ in range(n_hidden)] + [0.0]
        penalised = h.below(3) == 0 and not self.online
        self.layers = [
            fastgd.Dense(
                units, name, dropout=rate, bias=h.below(8) > 0,
                l1=2.0**-10 if penalised else 0.0, l2=2.0**-8 if penalised else 0.0,
            )
            for units, name, rate in zip(self.units, names, rates, strict=True)
        ]  # fmt: skip
        self.optimizer = h.choose(OPTIMIZERS)(2.0 ** -(5 + h.below(4)))
        if self.online:
            self.optimizer = fastgd.SGD(2.0**-7)
        self.seed, self.epochs, self.shuffle = h.below(1 << 32), 1 + h.below(3), h.below(4) > 0
        self.scale = 1.0
        self.X = h.fractions(self.n, self.n_inputs, dtype=h.choose(["float32", "float64"]))
        if h.below(4) == 0:
            self.X, self.scale = h.whole(256, self.n, self.n_inputs).astype(np.uint8), 1 / 255
        self.y = self._targets(h)
        self.weights = h.whole(9, self.n) / 8 if h.below(4) == 0 and not self.online else None
        if self.weights is not None:
            self.weights[0] = 1
        fans = [self.n_inputs, *self.units]
        self.start = []
        for fan_in, layer in zip(fans, self.layers, strict=False):
            # The power of two next to 1 / sqrt(fan_in), found without a root
            size = 2.0 ** -(fan_in.bit_length() // 2)
            self.start.append(h.fractions(fan_in, layer.units) * size)
            if layer.use_bias:
                self.start.append(h.fractions(layer.units) * 0.125)

    def _targets(self, h):
        units = self.units[-1]
        if self.loss == "cross_entropy":
            labels = h.whole(units, self.n)
            return labels if h.below(2) else np.eye(units)[labels]
        if self.loss == "log_loss":
            return h.whole(5, self.n, units) / 4
        if self.loss == "poisson":
            return h.whole(6, self.n, units).astype(np.float64)
        return h.fractions(self.n, units)

    def run(self, isa, n_threads, is_stored=False):
        """Return the digest of everything that the fit leaves.

        is_stored: every step keeps its gradient until it is complete, as long steps do.
        """
        net = fastgd.Network(
            self.layers, self.loss, self.optimizer, self.n_inputs, self.dtype, self.seed,
            input_scale=self.scale,
        )  # fmt: skip
        net.set_weights(self.start)
        net._engine.serial_flop = 0.0  # so that all threads are used
        if is_stored:
            net._engine.long_flop = 0.0
        results = []
        with fastgd.config(validate="off", isa=isa):
            try:
                history = net.fit(
                    self.X, self.y, self.epochs, self.batch_size, shuffle=self.shuffle,
                    sample_weight=self.weights, n_threads=n_threads, verbose=0,
                )  # fmt: skip
                results.append(np.array(history.history["loss"]))
            except fastgd.DivergenceError:
                results.append(np.array([net.step]))
            results += net._arrays().values()
            results.append(net.predict(self.X, n_threads=n_threads))
        return digest(results)


def digest(arrays):
    """Return 16 hexadecimal digits of the SHA-256 of arrays; NaN counts as one number."""
    found = hashlib.sha256()
    for array in arrays:
        array = np.array(array, order="C")
        if array.dtype.kind == "f":
            array[np.isnan(array)] = np.nan
        found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:16]


def fit_digests(n=N_FITS):
    """Return the digests of the first fits, as the best instruction set computes them."""
    isa = _kernels.available_isas()[-1]
    return {f"{number}": Case(number).run(isa, 2) for number in range(n)}


def operations():
    """Yield the name of an operation of the active instruction set, and its results."""
    for number, dtype in enumerate(("float32", "float64")):
        h = Hash(2, number)
        z = np.concatenate([h.any_bits(dtype, 3000), h.fractions(5000, dtype=dtype) * 16])
        for name in _kernels.ACTIVATIONS:
            act = activations.get(name)
            x = z.reshape(-1, 5) if name == "softmax" else z
            a = kernels.activation(act, x)
            yield f"{dtype} {name}", [a]
            if name != "identity":
                da = h.fractions(*x.shape, dtype=dtype)
                yield f"{dtype} slope of {name}", [kernels.activation_grad(act, da, z=x, a=a)]
        for kind in _pairing.LOSSES:
            for output in (_pairing.canonical_output(kind), *_pairing.fitting_outputs(kind)[-1:]):
                outputs = h.fractions(101, 3, dtype=dtype) * 8
                y = np.abs(h.fractions(101, 3, dtype=dtype))
                if kind == "cross_entropy":
                    y = h.whole(3, 101)
                w = np.abs(h.fractions(101, dtype=dtype))
                value, delta = kernels.loss(kind, outputs, y, output=output, sample_weight=w)
                yield f"{dtype} {kind} of {output}", [np.array(value), delta]
        for shape in ((7, 300, 70), (67, 45, 37), (33, 129, 3)):
            yield f"{dtype} products {shape}", products(h, dtype, *shape)
        for optimizer, params in _check._OPTIMIZERS:
            settings = ", ".join(f"{k}={v}" for k, v in params.items())
            yield f"{dtype} {optimizer} {settings}", update(h, dtype, optimizer, params)


def products(h, dtype, n, fan_in, fan_out):
    X, W, b, delta = (
        h.fractions(*shape, dtype=dtype)
        for shape in ((n, fan_in), (fan_in, fan_out), (fan_out,), (n, fan_out))
    )
    dW, db = kernels.weight_grad(X, delta)
    return [kernels.forward(X, W, b, "gelu"), kernels.backward(delta, W, "mish", z=X), dW, db]


def update(h, dtype, optimizer, params):
    W, b = h.fractions(19, 21, dtype=dtype), h.fractions(21, dtype=dtype)
    names = reference.check.state_names(optimizer, params.get("momentum", 0.0))
    pairs = {name: (np.zeros_like(W), np.zeros_like(b)) for name in names}
    for _ in range(3):
        A_prev, delta = h.fractions(12, 19, dtype=dtype), h.fractions(12, 21, dtype=dtype)
        args, settings = (), {**params, "lr": 0.03125}
        if optimizer != "sgd":
            args = ({**pairs, "step": 2} if optimizer in ("adam", "adamw") else pairs,)
        elif pairs:
            settings["velocity"] = pairs["velocity"]
        getattr(kernels, f"{optimizer}_update")(W, b, A_prev, delta, *args, **settings)
    return [W, b, *itertools.chain(*pairs.values())]


def operation_digests():
    """Return the digests of all operations of the active instruction set."""
    return {name: digest(results) for name, results in operations()}


# Parameters of tests/c/exact.h
SWEPT = {"leaky_relu": activations.LeakyReLU(0.01), "elu": activations.ELU(0.75)}


def sample(n):
    """Return the n float32 inputs that tests/c/sweep.c takes, n a power of two."""
    index, step = np.arange(n, dtype=np.uint64), np.uint64((1 << 32) // n)
    low = (index * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (index * step + (low & (step - np.uint64(1)))).astype(np.uint32).view(np.float32)


def sum_of_sample(name, what, n):
    """Return what tests/c/sweep.c sums up of n results of the active instruction set."""
    x = sample(n)
    act = SWEPT.get(name, name)
    if what == "value":
        got = kernels.activation(act, x)
    else:
        got = kernels.activation_grad(act, np.ones_like(x), z=x, a=x)
    bits = got.view(np.uint32).astype(np.uint64)
    bits[np.isnan(got)] = 0x7F800001
    total = bits * (np.uint64(2) * x.view(np.uint32).astype(np.uint64) + np.uint64(1))
    return f"{int(total.sum(dtype=np.uint64)):016x}"
