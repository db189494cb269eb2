"""What is fuzzed in Python: every target takes bytes, and raises unless all is as promised.

A reader may refuse a file by the exceptions that it documents, with a message; anything else is a
finding. What it accepts is then used. None of this needs a fuzzer: the tests replay seeds and past
findings through the same functions.
"""

import copy
import json
import os
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

import fastgd
from fastgd import ModelFileError, tables
from fastgd import io as model_io
from fastgd._idx import read_idx
from fastgd.preprocess import Preprocessor


def words(text):
    """Return the words of a text."""
    return tuple(text.split())


class _Equal(str):
    """A checksum that is equal to every other: no fuzzer guesses SHA-256."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


@contextmanager
def file_of(content):
    """Give the path of a file in memory that holds the bytes."""
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "file"
        path.write_bytes(content)
        yield path


def state(net):
    """Return everything that a call may change: bytes of the arrays, and the counters."""
    arrays = {name: view.tobytes() for name, view in net._arrays().items()}
    return arrays, net.step, net.epoch


def check_message(error):
    """Refuse an exception that says nothing."""
    assert str(error).strip(), f"{type(error).__name__} without a message"


# ---- model files ----------------------------------------------------------------------------


def model_file(data):
    """Load a model file whose checksum is taken for right, use it, and go on training."""
    with file_of(data) as path, fastgd.config(validate="off", n_threads=1):
        try:
            with mock.patch.object(model_io, "_digest", return_value=_Equal()):
                net = fastgd.load(path)
        except ModelFileError as error:
            check_message(error)
            return
        assert repr(net)
        assert net._repr_html_()
        outputs = net.predict(np.zeros((2, net.n_inputs)))
        assert outputs.shape == (2, net.n_outputs)
        net.save(path)
        again = fastgd.load(path)
        assert state(again) == state(net)
        assert again._resume is None or again._resume["done"] == net._resume["done"]
        if "preprocessing" in net.metadata:
            _refusable(Preprocessor, net.metadata["preprocessing"])
        if net._resume is not None:
            _resume(net, path)


def _refusable(call, *arguments):
    try:
        return call(*arguments)
    except ValueError as error:
        check_message(error)
        return None


def _resume(net, path):
    """Go on with the fit of the file for an epoch; what it refuses must leave the network alone."""
    callbacks = [fastgd.EarlyStopping("loss"), fastgd.Checkpoint(path), fastgd.GradientFlow()]
    X = np.linspace(-1, 1, 4 * net.n_inputs).reshape(4, net.n_inputs)
    y = np.zeros(4, int) if net.loss_name == "cross_entropy" else np.zeros((4, net.n_outputs))
    before, epochs = state(net), net._resume["done"] + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fastgd.callbacks.GradientFlowWarning)
            net.fit(X, y, epochs=epochs, resume=True, callbacks=callbacks, verbose=0)
    except fastgd.DivergenceError:
        pass
    except (ValueError, TypeError) as error:
        check_message(error)
        assert state(net) == before, "a refused fit has changed the network"
    assert all(np.isfinite(weight).all() for weight in net.get_weights())


# ---- data files -----------------------------------------------------------------------------


def idx_file(data):
    """Read an IDX file, plain or compressed."""
    with file_of(data) as path:
        array = _refusable(read_idx, path)
    if array is not None:
        assert array.dtype.isnative
        assert array.flags.writeable
        assert array.nbytes <= 1040 * len(data)


def table_file(data):
    """Read a data file of any kind, and learn the encoding of what it holds."""
    with file_of(data) as path, warnings.catch_warnings():
        # NumPy asks to write files of Python 2 anew.
        warnings.filterwarnings("ignore", "Reading .* required additional header parsing")
        found = _refusable(tables.read, path)
    if isinstance(found, tables.Arrays):
        assert found.X.ndim == 2
        assert found.y is None or found.y.shape == (found.n_rows,)
        _encode(found, None)
    elif found is not None:
        assert found.columns
        for column in found.columns.values():
            assert column.shape == (found.n_rows,)
            assert column.dtype in (np.int64, np.bool_, np.float64, object)
        for target in list(found.columns)[-2:]:
            _encode(found, target)


def _encode(data, target):
    """Learn an encoding; what was learned from rows encodes these rows, to finite numbers."""
    encoder = _refusable(lambda: Preprocessor.fit(data, target=target))
    if encoder is None:
        return
    again = Preprocessor(json.loads(json.dumps(encoder.config, allow_nan=False)))
    X = again.inputs(data, "float32")
    assert X.shape == (data.n_rows, len(again.feature_names))
    assert np.isfinite(X).all()
    y, known = again.targets(data)
    assert len(y) == known.sum()
    assert np.isfinite(y).all()


def onnx_file(data):
    """Read an ONNX model; what is read is written and read again."""
    try:
        net = fastgd.from_onnx(data)
    except ModelFileError as error:
        check_message(error)
        return
    X = np.linspace(-1, 1, 2 * net.n_inputs).reshape(2, net.n_inputs)
    with fastgd.config(validate="off", n_threads=1):
        outputs = net.predict(X)
        with file_of(b"") as path:
            net.to_onnx(path)
            again = fastgd.from_onnx(path)
        np.testing.assert_array_equal(again.predict(X), outputs)


# ---- arguments ------------------------------------------------------------------------------


class Source:
    """Choices that follow from bytes: each takes one or two of them, and the last is 0."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def integer(self, low, high):
        size = 1 if high - low < 256 else 2
        part = self._data[self._at : self._at + size]
        self._at += size
        return low + int.from_bytes(part, "little") % (high - low + 1)

    def pick(self, choices):
        return choices[self.integer(0, len(choices) - 1)]


ACTIVATIONS = words(
    "identity relu leaky_relu elu selu gelu silu mish softplus softsign tanh sigmoid hard_sigmoid"
)
LOSSES = ("squared_error", "cross_entropy", "log_loss", "absolute_error", "huber", "poisson")
DTYPES = ("float32", "float64", "uint8", "int64", "bool", "int16", "float16", ">f4", "uint64",
          "longdouble", "complex64", "object", "U3", "int8", "datetime64[s]")  # fmt: skip
VALUES = (0.0, 1.0, -1.0, 0.5, 3e38, -1e300, np.nan, np.inf, -np.inf, 1e-45, 2.0**53)
ODD = (None, "text", b"", 3, -1, 1.5, True, [], {}, (), [[1], [1, 2]], object(), np.float64(2),
       np.nan, 2**70, [[]], "relu", [None], range(3), {"a": 1}, np.ma.masked)  # fmt: skip


def network(source):
    """Return a small network of any kind, whose weights are there."""
    loss = source.pick(LOSSES)
    layers = [
        fastgd.Dense(
            source.integer(1, 20),
            source.pick(ACTIVATIONS),
            dropout=source.pick((0.0, 0.3)),
            bias=source.pick((True, False)),
            l1=source.pick((0.0, 1e-3)),
        )
        for _ in range(source.integer(0, 2))
    ]
    optimizers = (
        fastgd.SGD(0.1), fastgd.SGD(0.05, momentum=0.9), fastgd.Adam(0.01), fastgd.RMSprop(0.01),
        fastgd.Adagrad(0.1), fastgd.SGD(0.1, clip_norm=1.0), fastgd.AdamW(0.01),
    )  # fmt: skip
    return fastgd.Network(
        [*layers, fastgd.Dense(source.integer(1, 5) + (loss == "cross_entropy"))],
        loss,
        source.pick(optimizers),
        source.integer(1, 9),
        source.pick(("float32", "float64")),
        seed=source.integer(0, 3),
    )


def array(source, shape, low=-8, high=8):
    """Return an array that is nearly always of this shape, in any dtype and layout."""
    shape = list(shape)
    kind = source.integer(0, 31)
    if kind == 0:
        return source.pick(ODD)
    if kind == 1 and shape:
        shape[source.integer(0, len(shape) - 1)] += source.pick((-1, 1, 7))
        shape = [max(0, size) for size in shape]
    elif kind == 2:
        shape.append(source.pick((1, 2, 0)))
    elif kind == 3:
        shape = shape[:-1]
    dtype = source.pick((*DTYPES, *["float32", "float64"] * 8))
    # Rows and columns of more than is needed, and perhaps backwards
    steps = [source.pick((1, 1, 1, -1, 2, -3)) for _ in shape]
    whole = [max(1, size) * abs(step) for size, step in zip(shape, steps, strict=True)]
    rng = np.random.default_rng(source.integer(0, 255))
    values = np.asarray(rng.integers(low, high, whole) / source.pick((1, 1, 7)))
    if source.integer(0, 15) == 0 and values.size:
        values.flat[source.integer(0, values.size - 1)] = source.pick(VALUES)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        values = np.asarray(values.astype(dtype))
    if source.pick((False, False, True)):
        values = np.asfortranarray(values)
    cut = (slice(None, None, step) for step in steps)
    # An array of no dimensions would become a number.
    values = np.asarray(values[tuple(cut)])
    values = np.asarray(values[tuple(slice(size) for size in shape)])
    if source.integer(0, 15) == 0:
        return values.tolist()
    return values


def _target(source, net, n_samples):
    if net.loss_name == "cross_entropy" and source.integer(0, 3):
        return array(source, (n_samples,), 0, net.n_outputs)
    shape = (n_samples, net.n_outputs)
    if net.n_outputs == 1 and source.pick((True, False)):
        shape = (n_samples,)
    if net.loss_name in ("log_loss", "poisson", "cross_entropy"):
        return array(source, shape, 0, 2)
    return array(source, shape)


def _options(source):
    """Return arguments of fit, each now and then an odd one."""
    wanted = {
        "epochs": (1, 2, 3),
        "batch_size": (1, 2, 5, 16, 17, 1000, 2**40),
        "shuffle": (True, False),
        "n_threads": (None, 1, 2, 3),
        "validation_split": (0.0, 0.5, 0.99),
        "metrics": (None, "mse", "accuracy", ["mae"]),
        "callbacks": (None, [], [fastgd.EarlyStopping("loss")]),
        "verbose": (0,),
        "resume": (False,),
    }
    options = {}
    for name, choices in wanted.items():
        if source.integer(0, 40) == 0:
            value = source.pick(ODD)
            # A bar or lines of progress are no error, but nobody wants to see them here.
            options[name] = 7 if name == "verbose" and value in (3, True) else value
        else:
            options[name] = source.pick(choices)
    if options["verbose"] in (None, 1, 2, "auto") or options["verbose"] is True:
        options["verbose"] = 0
    return options


def arguments(data):
    """Call a method with whatever follows from the bytes."""
    call_with(Source(data))


def call_with(source):
    """Call a method; it must refuse or work, and say the same of a plain copy of its arrays."""
    net = network(source)
    method = source.pick(("fit", "train_step", "predict", "evaluate", "loss_and_grad"))
    n_samples = source.integer(1, 33)
    X = array(source, (n_samples, net.n_inputs))
    given = [X]
    if method != "predict":
        given.append(_target(source, net, n_samples))
        if source.integer(0, 7) == 0:
            given.append(array(source, (n_samples,), 0, 4))
    options = _options(source) if method == "fit" else {}
    if method == "fit" and len(given) == 3:
        options["sample_weight"] = given.pop()
    twin = copy.deepcopy(net)
    kept = [x.copy() if isinstance(x, np.ndarray) else x for x in given]
    before = state(net)
    with fastgd.config(validate="off"):
        refusal, found = _outcome(net, method, given, options)
        if isinstance(refusal, fastgd.DivergenceError):
            assert all(np.isfinite(weight).all() for weight in net.get_weights())
        elif refusal is not None or method not in ("fit", "train_step"):
            assert state(net) == before, f"{method} has changed the network: {refusal}"
        for x, old in zip(given, kept, strict=True):
            if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
                is_same = np.asarray(x).tobytes() == np.asarray(old).tobytes()
                assert is_same, "an argument was changed"
        plain = [np.array(x, order="C") if isinstance(x, np.ndarray) else x for x in given]
        if "callbacks" in options:
            options = options | {"callbacks": copy.deepcopy(options["callbacks"])}
        refusal_too, found_too = _outcome(twin, method, plain, options)
    assert type(refusal) is type(refusal_too), (refusal, refusal_too)
    assert state(net) == state(twin), f"{method} depends on the layout of its arrays"
    if refusal is None and method != "fit":
        _assert_equal(found, found_too)


def _outcome(net, method, given, options):
    """Return what a call raised, if it may raise that, and what it returned."""
    try:
        return None, getattr(net, method)(*given, **options)
    except (TypeError, ValueError, fastgd.DivergenceError) as error:
        check_message(error)
        return error, None


def _assert_equal(one, two):
    if isinstance(one, tuple | list):
        for a, b in zip(one, two, strict=True):
            _assert_equal(a, b)
    elif one is not None:
        np.testing.assert_array_equal(one, two)


TARGETS = {
    "model_file": model_file,
    "idx_file": idx_file,
    "table_file": table_file,
    "onnx_file": onnx_file,
    "arguments": arguments,
}
