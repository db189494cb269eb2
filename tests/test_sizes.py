"""Sizes whose products leave 32 or 64 bits: data far apart in memory, and layers that no memory has
room for.

What is marked `large` (make test-large) reads whole arrays of more than 2**31 elements.
"""

import numpy as np
import pytest

import fastgd
from fastgd import _validate, kernels

# ---- layers too large for any array --------------------------------------------------------------

# (n_inputs, units of each layer, the layer whose weights are too many)
TOO_LARGE = [
    (2**31, [2**31], 0),
    (2**32, [2**32], 0),
    (2**62, [1], 0),
    (1, [2**62], 0),
    (2**64, [2**64], 0),
    (2**63, [1], 0),
    (1, [2**70], 0),
    (4, [3, 2**62, 1], 1),
    (4, [3, 2**31, 2**31, 1], 2),
    (4, [2**40, 2**24], 1),
]


@pytest.fixture
def no_allocation(monkeypatch):
    """Nothing may be drawn, and no engine be made."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was allocated first")

    monkeypatch.setattr(fastgd.layers.Dense, "_draw", refuse)
    monkeypatch.setattr(fastgd.network, "Engine", refuse)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n_inputs", "units", "at"), TOO_LARGE)
def test_layers_too_large_are_refused(no_allocation, n_inputs, units, at, dtype):
    layers = [fastgd.Dense(n) for n in units]
    message = rf"layers\[{at}\] would have [\d,]+ x {units[at]:,} weights, more than an array can"
    with pytest.raises(ValueError, match=message):
        fastgd.Network(layers, "squared_error", n_inputs=n_inputs, dtype=dtype)


def test_layers_too_large_for_the_inputs_of_a_fit_are_refused(no_allocation):
    net = fastgd.Network([fastgd.Dense(2**52), fastgd.Dense(1)], "squared_error")
    with pytest.raises(ValueError, match=r"layers\[0\] would have 512 x 4,503,599,627,370,496 w"):
        net.fit(np.ones((3, 512)), np.ones(3))
    assert net.n_inputs is None


def test_just_too_large_for_memory_is_a_memory_error():
    # Not too large for an array: what is missing is memory.
    layers = [fastgd.Dense(2**20, weight_init="zeros")]
    with pytest.raises(MemoryError):
        fastgd.Network(layers, "squared_error", n_inputs=2**27)


def test_more_classes_than_a_dtype_tells_apart_are_refused():
    y = np.array([0, 1])
    for dtype, most in (("float32", 2**24), ("float64", 2**53)):
        dtype = np.dtype(dtype)
        assert _validate.targets(y, "cross_entropy", most, 2, dtype).tolist() == [0, 1]
        with pytest.raises(ValueError, match=rf"y has labels of {most + 1:,} classes, and {dtype}"):
            _validate.targets(y, "cross_entropy", most + 1, 2, dtype)
    z = np.zeros((1, 2**24 + 1), np.float32)
    with pytest.raises(ValueError, match="labels of 16,777,217 classes, and float32 tells"):
        kernels.loss("cross_entropy", z, y[:1])


# ---- data far apart in memory --------------------------------------------------------------------

GIBIBYTE = 1 << 30


@pytest.fixture
def sparse(tmp_path):
    """Three gibibytes of a file of which next to nothing is stored."""
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(3 * GIBIBYTE)
    return np.memmap(path, np.uint8, "r+", shape=(3 << 20, 1024))


def layouts(sparse, dtype):
    """Yield views of few rows and columns that span almost three gibibytes."""
    wide = sparse.view(dtype)
    step = 1 << 18  # rows of 1024 bytes
    rng = np.random.default_rng(0)
    rows = wide[::step, :20]
    rows[...] = rng.integers(0, 99, rows.shape)
    yield "rows far apart", rows
    yield "backwards", rows[::-1]
    yield "columns far apart", rows.T
    yield "both backwards", rows.T[::-1, ::-1]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16"])
def test_rows_and_columns_gibibytes_apart(sparse, dtype):
    for what, X in layouts(sparse, dtype):
        assert max(abs(s) * (n - 1) for s, n in zip(X.strides, X.shape, strict=True)) > 2**31
        small = np.ascontiguousarray(X)
        y = np.arange(len(X)) % 3
        found = []
        for given in (X, small):
            net = fastgd.Network(
                [fastgd.Dense(20, "relu"), fastgd.Dense(3)], "cross_entropy",
                fastgd.SGD(lr=0.01), n_inputs=X.shape[1], input_scale=1 / 128,
            )  # fmt: skip
            net.fit(given, y, epochs=3, batch_size=5, verbose=0)
            net.train_step(given, y)
            # Targets that far apart, and the kernel of a single unit on single samples
            line = fastgd.Network(
                [fastgd.Dense(1)], "squared_error", fastgd.SGD(lr=1e-6), n_inputs=X.shape[1]
            )
            line.fit(given, given[:, 0], epochs=2, batch_size=1, verbose=0)
            found.append([
                net.predict(given), np.array(net.evaluate(given, y)),
                *net.get_weights(), *line.get_weights(),
            ])  # fmt: skip
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=what)


# ---- whole arrays of more than 2**31 elements ----------------------------------------------------

ROWS, COLUMNS = (1 << 21) + 3, 1025  # 2,149,586,675 elements
KNOWN = 64  # rows at the end that are not zero


def blocks(n, size):
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def needs_memory(gigabytes):
    """Fail, rather than bring the machine down, where there is too little."""
    with open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    if available < gigabytes * 1e6:
        pytest.fail(f"needs {gigabytes} GB of free memory, and {available / 1e6:.1f} GB are free")


def classifier(n_inputs, **kwargs):
    layers = [fastgd.Dense(5, "tanh"), fastgd.Dense(3)]
    return fastgd.Network(layers, "cross_entropy", fastgd.SGD(lr=0.01, momentum=0.5), n_inputs,
                          **kwargs)  # fmt: skip


def assert_trains_as_its_parts(X, y, make, batch_size, shuffle=False):
    """Fit X at once and as copies of its batches, to the same bits."""
    whole, parts = make(), make()
    whole.fit(X, y, batch_size=batch_size, shuffle=shuffle, verbose=0)
    order = None
    if shuffle:
        order = np.empty(len(X), np.int64)
        parts._engine.draw_order(order, parts.seed)
    for rows in blocks(len(X), batch_size):
        where = rows if order is None else order[rows]
        parts.train_step(np.array(X[where]), np.array(y[where]))
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    return whole


def fill_ends(X):
    """Put numbers into the last rows, and into some around the 2**31st element."""
    rng = np.random.default_rng(0)
    places = [
        slice(len(X) - KNOWN, len(X)),
        slice(2**31 // X.shape[1] - 5, 2**31 // X.shape[1] + 5),
    ]
    for rows in places:
        X[rows] = rng.integers(1, 200, X[rows].shape)
    return places


@pytest.mark.large
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_mapped_file_of_more_than_2_to_the_31_bytes(tmp_path, shuffle):
    needs_memory(6)
    path = tmp_path / "X"
    with open(path, "wb") as file:
        file.truncate(ROWS * COLUMNS)
    X = np.memmap(path, np.uint8, "r+", shape=(ROWS, COLUMNS))
    places = fill_ends(X)
    y = (np.arange(ROWS) % 3).astype(np.uint8)
    net = assert_trains_as_its_parts(
        X, y, lambda: classifier(COLUMNS, input_scale=1 / 255), 4096, shuffle
    )
    out = net.predict(X)
    nothing = net.predict(np.zeros((1, COLUMNS), np.uint8))
    for rows in places:
        np.testing.assert_array_equal(out[rows], net.predict(np.array(X[rows])))
        out[rows] = nothing
    assert (out == nothing).all()
    assert net.evaluate(X, y) == pytest.approx(np.log(3), rel=0.1)


@pytest.mark.large
def test_an_array_of_more_than_2_to_the_31_floats():
    needs_memory(4)  # pages that are only read are all the same one
    X = np.zeros((ROWS, COLUMNS), np.float32)
    places = fill_ends(X)
    y = (np.arange(ROWS) % 3).astype(np.uint8)
    net = assert_trains_as_its_parts(X, y, lambda: classifier(COLUMNS), 4096)
    out = net.predict(X)
    for rows in places:
        np.testing.assert_array_equal(out[rows], net.predict(np.array(X[rows])))
    X[-1, -1] = np.nan
    with pytest.raises(ValueError, match=rf"X\[{ROWS - 1}, {COLUMNS - 1}\] is nan"):
        net.predict(X)


@pytest.mark.large
def test_more_than_2_to_the_31_samples(tmp_path):
    """Of one feature, in the order in which they lie: an order would be 16 GB, outputs 8."""
    needs_memory(6)
    n = (1 << 31) + 70
    path = tmp_path / "X"
    with open(path, "wb") as file:
        file.truncate(n)
    X = np.memmap(path, np.uint8, "r+", shape=(n, 1))
    X[-KNOWN:, 0] = np.arange(KNOWN)
    X[2**31 - 3 : 2**31 + 3, 0] = 7

    def make():
        layers = [fastgd.Dense(1)]
        return fastgd.Network(layers, "squared_error", fastgd.SGD(lr=0.01), 1, input_scale=1 / 255)

    net = assert_trains_as_its_parts(X, X, make, 1 << 20)
    for w in net.get_weights():
        assert np.isfinite(w).all()
    np.testing.assert_array_equal(net.predict(X[-KNOWN:]), net.predict(np.array(X[-KNOWN:])))


@pytest.mark.large
def test_the_last_class_that_float32_can_name_is_told_from_the_one_before():
    z = np.zeros((1, 2**24), np.float32)
    for label in (2**24 - 1, 2**24 - 2):
        _, delta = kernels.loss("cross_entropy", z, np.array([label]))
        assert np.flatnonzero(delta[0] < 0).tolist() == [label]


@pytest.mark.large
def test_a_layer_of_more_than_2_to_the_31_weights():
    needs_memory(12)
    from fastgd._engine import Engine

    fan_in, units = (1 << 21) + 3, 1025
    engine = Engine(fan_in, [units], [("identity", 0.0)], [True], "float32", 0)
    engine.set_loss("squared_error", 0.0)
    engine.set_optimizer("sgd", {})
    W = engine.weight(0)
    W[-1], W[:, -1] = 2, 3
    X = np.zeros((2, fan_in), np.float32)
    X[0, -1], X[1, :7] = 5, 1
    out = np.empty((2, units), np.float32)
    assert engine.predict(X, out)
    want = np.zeros((2, units))
    want[0], want[0, -1], want[1, -1] = 10, 15, 21
    np.testing.assert_array_equal(out, want)
    engine.train_step(X, np.zeros((2, units), np.float32), None, 0.5)
    # dW = X^T (a - y) / 2
    assert (W[-1, 0], W[-1, -1], W[0, -1], W[7, -1]) == (
        2 - 0.5 * 25, 3 - 0.5 * 5 * 7.5, 3 - 0.5 * 10.5, 3,
    )  # fmt: skip
    assert not W[7:-1, :-1].any()
