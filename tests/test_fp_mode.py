"""The caller's floating-point mode: the same after every call, in every callback, and without an
effect on what is computed.

Modes are set and looked at by tests/c/fp_mode.c. Networks and data are made in the ordinary mode,
since NumPy draws numbers in the caller's.
"""

import contextlib
import functools
import os
import signal
import threading

import numpy as np
import pytest

import fastgd
from c_programs import compile_library
from fastgd import _check, kernels

ORDINARY = 0
MODES = {"ordinary": 0, "flushing": 1, "upward": 4, "flushing, to zero": 7}
DENORMAL = 1e-40


@pytest.fixture(scope="module")
def fp(tmp_path_factory):
    library = compile_library(tmp_path_factory.mktemp("fp"), "fp_mode.c")
    assert library.fp_mode() == ORDINARY
    return library


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


@contextlib.contextmanager
def in_mode(fp, mode):
    """Run calls in a mode, and find it as it was."""
    fp.set_fp_mode(mode)
    try:
        yield
        found = fp.fp_mode()
    finally:
        fp.set_fp_mode(ORDINARY)
    assert found == mode


def data(dtype, n=60):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 7)).astype(dtype)
    X[::5] *= np.array(DENORMAL if dtype == "float32" else 1e-310, dtype)
    return X, rng.integers(0, 3, n), rng.uniform(0.5, 1.5, n)


def network(dtype="float32", optimizer=None, loss="cross_entropy", **kwargs):
    layers = [
        fastgd.Dense(9, "gelu", dropout=0.25, l1=1e-3),
        fastgd.Dense(6, "mish", l2=1e-3),
        fastgd.Dense(3),
    ]
    net = fastgd.Network(layers, loss, optimizer or fastgd.Adam(lr=0.01), 7, dtype, **kwargs)
    net._engine.serial_flop = 0.0  # so that all threads are used
    return net


def test_the_library_of_the_tests_sets_modes(fp):
    one, tiny = np.ones(1, np.float32), np.array([DENORMAL], np.float32)
    third = {}
    for name, mode in MODES.items():
        with in_mode(fp, mode):
            third[name] = float((one / 3)[0])
            product = (tiny * one)[0] != 0
        assert product == ("flushing" not in name)
    assert third["ordinary"] == third["flushing"] > third["flushing, to zero"]
    assert third["upward"] > third["flushing, to zero"]


CALLS = {
    "fit": lambda net, X, y, w: net.fit(X, y, epochs=2, batch_size=20, verbose=0).history["loss"],
    "fit with weights": lambda net, X, y, w: net.fit(
        X, y, sample_weight=w, epochs=1, batch_size=20, verbose=0
    ).history["loss"],
    "fit on 3 threads": lambda net, X, y, w: net.fit(
        X, y, epochs=1, batch_size=30, verbose=0, n_threads=3
    ).history["loss"],
    "train_step": lambda net, X, y, w: [net.train_step(X, y) for _ in range(3)],
    "train_step with weights": lambda net, X, y, w: net.train_step(X, y, sample_weight=w),
    "loss_and_grad": lambda net, X, y, w: net.loss_and_grad(X, y),
    "predict": lambda net, X, y, w: net.predict(X),
    "predict on 2 threads": lambda net, X, y, w: net.predict(np.repeat(X, 9, axis=0), n_threads=2),
    "one sample": lambda net, X, y, w: net.predict(X[:1]),
    "validate": lambda net, X, y, w: net.validate(X, y) and None,
}


def as_bytes(net, found):
    arrays = [np.asarray(x) for x in flat(found)] + net.get_weights()
    return [array.tobytes() for array in arrays]


def flat(found):
    if isinstance(found, list | tuple):
        return [x for each in found for x in flat(each)]
    return [] if found is None else [found]


@pytest.mark.parametrize("call", CALLS)
def test_calls_keep_the_mode_and_do_not_depend_on_it(fp, dtype, call):
    X, y, w = data(dtype)
    for validate, optimizer in (
        ("always", fastgd.Adam(lr=0.01)),
        ("off", fastgd.SGD(lr=0.01, clip_norm=0.1)),
    ):
        found = {}
        for name, mode in MODES.items():
            net = network(dtype, optimizer)
            with fastgd.config(validate=validate), in_mode(fp, mode):
                result = CALLS[call](net, X, y, w)
            found[name] = as_bytes(net, result)
        for name in MODES:
            assert found[name] == found["ordinary"], (validate, name)


def test_functions_keep_the_mode_and_do_not_depend_on_it(fp, isa, dtype, monkeypatch):
    parts = (_check._layers, _check._activations, _check._losses, _check._updates)
    mode = ORDINARY
    for name in kernels.__all__:
        # Inputs are made in the ordinary mode, and only the calls are in the other.
        def call(function, *args, **kwargs):
            with in_mode(fp, mode):
                return function(*args, **kwargs)

        monkeypatch.setattr(kernels, name, functools.partial(call, getattr(kernels, name)))
    found = []
    for mode in MODES.values():  # noqa: B007 - read by the calls
        results = []
        for part in parts:
            for _, op, _, outputs in part(np.random.default_rng(7), (9, 7, 5), dtype):
                for name, value in outputs.items():
                    pairs = value.values() if name == "state" else [[value]]
                    results += [(op, name, np.asarray(x).tobytes()) for pair in pairs for x in pair]
        found.append(results)
    for other in found[1:]:
        assert other == found[0]


class Watcher(fastgd.Callback):
    """Notes the mode of every call."""

    def __init__(self, fp, fails_at=None):
        self.fp, self.fails_at, self.modes = fp, fails_at, {}

    def note(self, what):
        self.modes.setdefault(what, set()).add(self.fp.fp_mode())
        if what == self.fails_at:
            raise RuntimeError("as it should")

    def on_train_begin(self, network):
        self.note("train_begin")

    def on_epoch_begin(self, epoch):
        self.note("epoch_begin")

    def on_batch_end(self, step, loss):
        self.note("batch_end")

    def on_progress(self, steps):
        self.note("progress")

    def on_epoch_end(self, epoch, logs):
        self.note("epoch_end")

    def on_train_end(self, logs):
        self.note("train_end")


class Watched:
    """A loss of one's own that notes the mode as well."""

    def __init__(self, watcher):
        self.watcher = watcher

    def value(self, a, y):
        self.watcher.note("value")
        return 0.5 * np.square(a - y).sum(axis=1)

    def delta(self, a, y):
        self.watcher.note("delta")
        return a - y


def test_callbacks_run_in_the_mode_of_the_caller(fp, mode):
    X, y, _ = data("float32")
    watcher = Watcher(fp)

    def lr(step):
        watcher.note("lr")
        return 0.01

    net = network(optimizer=fastgd.SGD(lr=lr))
    with in_mode(fp, mode):
        net.fit(X, y, epochs=2, batch_size=20, verbose=0, callbacks=[watcher], n_threads=2,
                validation_data=(X, y))  # fmt: skip
    own = network(loss=Watched(watcher))
    with in_mode(fp, mode):
        own.fit(X, np.eye(3)[y], epochs=1, verbose=0)
        own.train_step(X, np.eye(3)[y])
    assert {"batch_end", "epoch_begin", "epoch_end", "lr", "value", "delta"} <= {*watcher.modes}
    for what, modes in watcher.modes.items():
        assert modes == {mode}, what


def test_errors_leave_the_mode_as_it_was(fp, mode):
    X, y, _ = data("float32")
    spoiled = X.copy()
    spoiled[3, 2] = np.nan
    for kind, call in (
        (ValueError, lambda net: net.fit(spoiled, y, verbose=0)),
        (ValueError, lambda net: net.train_step(X, y + 7)),
        (ValueError, lambda net: net.predict(spoiled)),
        (ValueError, lambda net: net.predict(X[:, :3])),
        (fastgd.DivergenceError, lambda net: net.fit(X * 1e19, y, epochs=200, verbose=0)),
        (RuntimeError, lambda net: net.fit(
            X, y, verbose=0, callbacks=[Watcher(fp, "batch_end")])),
        (RuntimeError, lambda net: net.fit(
            X, y, verbose=0, callbacks=[Watcher(fp, "epoch_end")])),
        (ValueError, lambda net: kernels.forward(X, X, None)),
        (FloatingPointError, lambda net: kernels.sgd_update(
            X.copy(), None, np.ones((1, 60), "f4"), np.full((1, 7), 3e38, "f4"), lr=1e9)),
    ):  # fmt: skip
        layers = [fastgd.Dense(3)]
        net = fastgd.Network(layers, "cross_entropy", fastgd.SGD(lr=1e25), 7)
        with in_mode(fp, mode), pytest.raises(kind):
            call(net)
    own = network(loss=Watched(Watcher(fp, "delta")))
    with in_mode(fp, mode), pytest.raises(RuntimeError, match="as it should"):
        own.train_step(X, np.eye(3)[y])


def test_a_faulty_kernel_leaves_the_mode_as_it_was(fp, mode):
    from fastgd import _kernels

    X, y, _ = data("float32")
    net = network()
    _kernels.inject_fault("gemm")
    try:
        with (
            fastgd.config(validate="always"),
            in_mode(fp, mode),
            pytest.raises(fastgd.ValidationError),
        ):
            net.fit(X, y, verbose=0)
    finally:
        _kernels.inject_fault(None)


def test_ctrl_c_between_steps_and_within_one(fp, mode):
    """The handler runs in the caller's mode, wherever the signal finds the fit."""
    modes = []

    def handle(number, frame):
        modes.append(fp.fp_mode())
        raise KeyboardInterrupt

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(1024, 512)).astype("f4"), rng.integers(0, 3, 1024)
    before = signal.signal(signal.SIGINT, handle)
    try:
        for long_flop in (1e30, 0.0):
            layers = [fastgd.Dense(1024, "relu"), fastgd.Dense(1024, "relu"), fastgd.Dense(3)]
            net = fastgd.Network(layers, "cross_entropy", fastgd.SGD(lr=1e-3), 512)
            net._engine.long_flop = long_flop
            with fastgd.config(validate="off"):
                net.train_step(X[:8], y[:8])
                timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                with in_mode(fp, mode), pytest.raises(KeyboardInterrupt):
                    net.fit(X, y, epochs=1000, batch_size=1024, verbose=0, n_threads=2)
                timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert modes == [mode, mode]
