"""Fits on data that are read block by block: the same numbers, whatever the blocks."""

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastgd
from block_extras import has, needs_extra
from doc_cells import assert_cells_print_what_is_shown
from fastgd import Blocks, Dense, Network, reference
from fastgd import blocks as _blocks

N, BATCH = 500, 32
needs_narwhals = needs_extra("narwhals", "data")


def needs_parquet(test):
    """Mark a test of Parquet files, which need both packages of the extra."""
    missing = [name for name in ("pyarrow", "narwhals") if not has(name)]
    return needs_extra(missing[0], "data")(use_parquet) if missing else test


def use_parquet(tmp_path):
    """In place of a test: what pyarrow, or else narwhals, is first asked for."""
    table = tmp_path / "a.parquet"
    if has("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"a": [1.0]}), table)
    Blocks(table)


@pytest.fixture
def X(rng):
    return rng.normal(size=(N, 3))


@pytest.fixture
def y(X):
    return (X.sum(axis=1) > 0).astype(np.int64)


@pytest.fixture
def weight(rng):
    return rng.uniform(0.5, 2, N)


def network(**settings):
    layers = [Dense(6, "relu", dropout=0.2), Dense(2)]
    return Network(layers, "cross_entropy", fastgd.Adam(0.01), **settings)


def cut(sizes, *arrays):
    """A callable whose blocks have these sizes, and what is left in the last one."""

    def blocks():
        first = 0
        for size in [*sizes, len(arrays[0])]:
            yield tuple(array[first : first + size] for array in arrays)
            first += size
            if first >= len(arrays[0]):
                return

    return blocks


def assert_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def values(history):
    return {name: column for name, column in history.history.items() if name != "seconds"}


CUTS = [[], [1] * 20, [0, 31, 0, 1, 32, 33, 0], [7] * 71, [499], [N, 0, 0]]


# ---- the numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("sizes", CUTS)
def test_in_order_every_cut_and_buffer_gives_the_bits_of_arrays(X, y, weight, sizes, prefetch):
    plain = network()
    settings = {"epochs": 3, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    settings |= {"metrics": ("accuracy", "mse")}
    expected = plain.fit(X, y, sample_weight=weight, **settings)
    for rows in (1, 64, 100, N, 10 * N):
        net = network()
        blocks = Blocks(cut(sizes, X, y, weight), buffer_rows=rows, prefetch=prefetch)
        assert values(net.fit(blocks, **settings)) == values(expected)
        assert_same(net, plain)
        assert (net.step, net.epoch) == (plain.step, plain.epoch) == (48, 3)
        assert blocks.n_rows == N


@pytest.mark.parametrize("rows", [64, 160, N])
def test_shuffled_the_result_depends_on_seed_and_buffer_alone(X, y, rows):
    found = []
    for sizes in CUTS:
        for threads in (1, 2):
            net = network(seed=5)
            blocks = Blocks(cut(sizes, X, y), buffer_rows=rows, prefetch=threads == 1)
            net.fit(blocks, epochs=2, batch_size=BATCH, n_threads=threads, verbose=0)
            found.append(net)
    for net in found[1:]:
        assert_same(net, found[0])
    other = network(seed=5)
    other.fit(Blocks(X, y, buffer_rows=96), epochs=2, batch_size=BATCH, verbose=0)
    assert not np.array_equal(other.get_weights()[0], found[0].get_weights()[0])


def test_a_buffer_that_holds_everything_gives_the_bits_of_arrays(X, y):
    plain = network()
    plain.fit(X, y, 3, BATCH, verbose=0)
    for rows in (N - 10, N, 10 * N):  # N - 10 is rounded up to whole batches, which hold all
        net = network()
        net.fit(Blocks(X, y, buffer_rows=rows), epochs=3, batch_size=BATCH, verbose=0)
        assert_same(net, plain)


def test_the_order_within_a_buffer_is_that_of_its_seed_and_epoch(X, y):
    """Epochs in order, on rows that are put in the order of the definition beforehand."""
    rows, seed = 96, 11
    net, plain = network(seed=seed), network(seed=seed)
    net.fit(Blocks(X, y, buffer_rows=rows), epochs=2, batch_size=BATCH, verbose=0)
    for epoch in range(2):
        order = []
        for number, first in enumerate(range(0, N, rows)):
            n, key = min(rows, N - first), (seed + number * 0x9E3779B97F4A7C15) % 2**64
            order.append(first + reference.permutation(n, key, epoch))
        order = np.concatenate(order)
        assert sorted(order) == list(range(N))
        plain.fit(X[order], y[order], batch_size=BATCH, shuffle=False, verbose=0)
    assert_same(net, plain)


def test_batches_are_whole_across_blocks_and_the_last_of_an_epoch_is_short(X, y):
    sizes = []

    class Watched:
        def value(self, output, y):
            sizes.append(len(output))
            return ((output - y) ** 2).sum(axis=1)

        def delta(self, output, y):
            return 2 * (output - y)

    net = Network([Dense(1)], Watched())
    blocks = Blocks(cut([5] * 30, X, X[:, 0].copy()), buffer_rows=40)
    with fastgd.config(validate="off"):
        net.fit(blocks, epochs=2, batch_size=BATCH, verbose=0)
    assert sizes == 2 * ([BATCH] * (N // BATCH) + [N % BATCH])


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_losses_dtypes_and_schedules(X, loss, dtype):
    Y = np.abs(X[:, :2]) / np.abs(X).max()
    nets = []
    for given in ((X, Y), (Blocks(cut([77] * 4, X, Y), buffer_rows=128),)):
        schedule = fastgd.schedules.InverseScaling(0.1)
        net = Network([Dense(2)], loss, fastgd.SGD(schedule, momentum=0.9), dtype=dtype)
        history = net.fit(*given, epochs=3, batch_size=BATCH, shuffle=False, verbose=0)
        nets.append((net, values(history)))
    assert nets[0][1] == nets[1][1]
    assert_same(nets[0][0], nets[1][0])


def test_bytes_stay_bytes_in_the_buffer(rng, y):
    X = rng.integers(0, 256, (N, 3), dtype=np.uint8)
    nets = []
    for given in ((X, y), (Blocks(X, y, buffer_rows=64),)):
        net = network(input_scale=1 / 255)
        net.fit(*given, shuffle=False, verbose=0)
        nets.append(net)
    assert_same(*nets)


def test_evaluate_and_predict_read_blocks(X, y, weight):
    net = network()
    net.fit(X, y, verbose=0)
    for sizes in CUTS:
        blocks = Blocks(cut(sizes, X, y, weight), buffer_rows=N)
        expected = net.evaluate(X, y, weight, metrics=("accuracy", "r2"))
        assert net.evaluate(blocks, metrics=("accuracy", "r2")) == expected
        np.testing.assert_array_equal(net.predict(blocks), net.predict(X))
        small = Blocks(cut(sizes, X, y, weight), buffer_rows=70)
        found = net.evaluate(small, metrics=("accuracy", "r2"))
        # The sums of seven buffers are added: seven more roundings, of float64.
        assert abs(found["loss"] - expected["loss"]) <= 8 * 2**-23 * expected["loss"]
        assert found["accuracy"] == expected["accuracy"]
        np.testing.assert_array_equal(net.predict(small), net.predict(X))
    only = Blocks(cut([3] * 9, X), buffer_rows=70)
    np.testing.assert_array_equal(net.predict(only), net.predict(X))
    lists = [[X[:9], y[:9]], X[9:20], (X[20:],)]
    np.testing.assert_array_equal(net.predict(Blocks(lists)), net.predict(X))


def test_block_that_changes_after_its_check_is_refused(X, y, monkeypatch):
    """The engine leaves outputs unwritten then."""
    net = network()
    net.fit(X, y, verbose=0)
    outputs = net._outputs

    def late(block, *more):
        block[1, 0] = np.nan
        return outputs(block, *more)

    monkeypatch.setattr(net, "_outputs", late)
    with pytest.raises(ValueError, match=r"X\[1, 0\] is nan"):
        net.predict(Blocks(cut([3] * 9, X.astype("float32")), buffer_rows=70))


def test_validation_data_are_blocks_too(X, y):
    nets = []
    for given in ((X[:90], y[:90]), Blocks(cut([11] * 3, X[:90], y[:90]))):
        net = network()
        history = net.fit(X, y, 2, validation_data=given, metrics="accuracy", verbose=0)
        nets.append(values(history))
    assert nets[0] == nets[1]
    assert len(nets[0]["val_accuracy"]) == 2


# ---- sources ------------------------------------------------------------------------------------


def test_memory_maps_are_read_and_not_changed(X, y, tmp_path):
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    np.save(tmp_path / "y.npy", y)
    X_map, y_map = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xy")
    plain, direct, blocks = network(), network(), network()
    plain.fit(X.astype(np.float32), y, verbose=0)
    direct.fit(X_map, y_map, verbose=0)
    blocks.fit(Blocks(X_map, y_map), verbose=0)
    assert_same(direct, plain)
    assert_same(blocks, plain)


def test_what_slices_like_an_array_is_read_slice_by_slice(X, y):
    slices = []

    class OnDisk:
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, rows):
            slices.append(rows)
            return X[rows]

    net, plain = network(), network()
    net.fit(Blocks(OnDisk(), y), verbose=0)
    plain.fit(X, y, verbose=0)
    assert_same(net, plain)
    assert all(type(rows) is slice for rows in slices)
    assert slices


def test_an_iterator_is_read_once(X, y):
    blocks = Blocks(iter([(X, y)]))
    net = network()
    with pytest.raises(ValueError, match=r"can be read once, not 2 times: give a callable"):
        net.fit(blocks, epochs=2, verbose=0)
    assert net.n_inputs is None
    net.fit(blocks, verbose=0)
    assert net.epoch == 1
    with pytest.raises(ValueError, match=r"an iterator .* that was read already; give a callable"):
        net.fit(blocks, verbose=0)
    with pytest.raises(ValueError, match="validation X is Blocks of an iterator"):
        net.fit(X, y, 2, validation_data=Blocks(iter([(X, y)])), verbose=0)
    history = net.fit(X, y, 1, validation_data=Blocks(iter([(X, y)])), verbose=0)
    assert "val_loss" in history.history


def test_a_callable_is_called_for_each_pass_and_its_generator_is_closed(X, y):
    events = []

    def source():
        events.append("begin")
        try:
            yield X, y
        finally:
            events.append("end")

    net = network()
    net.fit(Blocks(source), epochs=3, verbose=0)
    assert events == ["begin", "end"] * 3

    class Stop(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.stop_training = True

    net.fit(Blocks(source, buffer_rows=64), epochs=9, callbacks=[Stop()], verbose=0)
    assert events.count("begin") == events.count("end")
    assert net.epoch == 4


@needs_narwhals
@pytest.mark.parametrize("library", [name for name in ("pandas", "polars", "pyarrow") if has(name)])
def test_blocks_of_tables_with_a_column_of_targets(X, y, weight, library):
    from test_frames import frame

    columns = {"a": X[:, 0], "y": y, "b": X[:, 1], "w": weight, "c": X[:, 2]}

    def source():
        for first in range(0, N, 60):
            rows = slice(first, first + 60)
            # An integer column in one block, of floats in the others.
            part = {name: values[rows] for name, values in columns.items()}
            yield frame(library, part)

    plain = network()
    plain.fit(X, y, sample_weight=weight, verbose=0)
    whole = frame(library, columns)
    for given in (source, whole):
        blocks = Blocks(given, "y", "w", buffer_rows=1000)
        net = network()
        net.fit(blocks, verbose=0)
        assert_same(net, plain)
        assert net.feature_names == ("a", "b", "c")
        np.testing.assert_array_equal(net.predict(blocks), net.predict(X))
        assert net.evaluate(blocks) == net.evaluate(X, y, weight)
    two = Network([Dense(1)], "squared_error", n_inputs=2)
    two.fit(Blocks(source, y=["y"], columns=["b", "a"]), verbose=0)
    assert two.feature_names == ("b", "a")
    beside = network()
    features = frame(library, {name: columns[name] for name in "abc"})
    beside.fit(Blocks(features, y, weight), verbose=0)
    assert_same(beside, plain)


@needs_narwhals
def test_a_column_of_integers_may_hold_floats_in_a_later_block(y):
    import pandas

    whole = np.arange(N, dtype=np.float64)
    whole[300:] += 0.5
    parts = [whole[:300].astype(np.int64), whole[300:]]
    tables = [pandas.DataFrame({"x": part, "t": part}) for part in parts]
    nets = [Network([Dense(1)], "squared_error", input_scale=1e-3) for _ in range(2)]
    nets[0].fit(Blocks(tables, "t"), verbose=0, metrics="mse")
    nets[1].fit(whole[:, None], whole, verbose=0, metrics="mse")
    assert_same(*nets)
    assert values(nets[0].history) == values(nets[1].history)


def write_parquet(folder, X, y, cuts=3, names="abc"):
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(np.arange(len(X)), cuts)):
        columns = {name: X[rows, j] for j, name in enumerate(names)}
        pyarrow.parquet.write_table(
            pyarrow.table(columns | {"y": y[rows]}), folder / f"part-{i}.parquet", row_group_size=50
        )
    return folder


@needs_parquet
def test_a_folder_of_parquet_files_and_one_of_them(X, y, tmp_path):
    plain = network()
    plain.fit(X, y, 2, verbose=0)
    folder = write_parquet(tmp_path / "data", X, y)
    (folder / "_SUCCESS").write_text("")
    blocks = Blocks(folder, "y")
    assert blocks.n_rows == N
    net = network()
    net.fit(blocks, epochs=2, verbose=0)
    assert_same(net, plain)
    assert net.feature_names == ("a", "b", "c")
    one = write_parquet(tmp_path / "one", X, y, cuts=1) / "part-0.parquet"
    np.testing.assert_array_equal(net.predict(Blocks(str(one), "y")), net.predict(X))
    np.testing.assert_array_equal(
        net.predict(Blocks(str(one), columns=["a", "b", "c"])), net.predict(X)
    )
    with pytest.raises(ValueError, match="has the column 'y' beyond those that"):
        net.predict(Blocks(one))
    with pytest.raises(ValueError, match="lacks the column 'price'; it has 'a', 'b', 'c', 'y'"):
        Blocks(folder, "price")


@needs_parquet
@pytest.mark.parametrize("named", [True, False])
def test_the_index_of_a_pandas_frame_is_no_feature(X, y, tmp_path, named):
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y).sample(frac=1, random_state=0)
    if named:
        frame.index.name = "id"
    frame.to_parquet(tmp_path / "a.parquet")
    table = pa.Table.from_pandas(frame)
    assert len(table.column_names) == 5
    plain = network()
    plain.fit(frame[["a", "b", "c"]], frame["y"], verbose=0)
    for data in (
        Blocks(tmp_path / "a.parquet", "y"),
        Blocks(table, "y"),
        Blocks([table[:100], table[100:]], "y"),
    ):
        net = network()
        net.fit(data, verbose=0)
        assert net.feature_names == ("a", "b", "c")
        assert_same(net, plain)
    net = network()
    net.fit(table.drop_columns("y"), frame["y"], verbose=0)
    assert_same(net, plain)
    if named:  # asked for by its name it is a column like others
        for data in (Blocks(tmp_path / "a.parquet", "y", columns=["a", "id"]),
                     Blocks(table, "y", columns=["a", "id"])):  # fmt: skip
            net = network()
            net.fit(data, verbose=0)
            assert net.feature_names == ("a", "id")


@needs_parquet
@pytest.mark.parametrize(
    "noted",
    [b"[1]", b"5", b"null", b'{"index_columns":null}', b'{"index_columns":{"a":1}}',
     b'{"index_columns":[["a"],3]}', b"[" * 100_000, b"[", b"\xff"],
)  # fmt: skip
def test_what_pandas_could_not_have_noted_of_a_table_counts_not(X, y, tmp_path, noted):
    import pyarrow as pa
    import pyarrow.parquet

    columns = {name: X[:, i] for i, name in enumerate("abc")}
    table = pa.table(columns | {"y": y}).replace_schema_metadata({"pandas": noted})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for data in ((Blocks(tmp_path / "a.parquet", "y"),), (table.drop_columns("y"), table["y"])):
        net = network()
        net.fit(*data, verbose=0)
        assert net.feature_names == ("a", "b", "c")


@needs_narwhals
@pytest.mark.parametrize("name", ["column_names", "num_rows", "schema", "columns", "shape"])
def test_columns_may_be_called_as_attributes_are(X, y, name):
    import pandas as pd

    table = pd.DataFrame({name: X[:, 0], "b": X[:, 1], "t": y})
    plain = network()
    plain.fit(X[:, :2], y, verbose=0)
    for data in ((table[[name, "b"]], table["t"]), (Blocks(table, "t"),), (Blocks([table], "t"),)):
        net = network()
        net.fit(*data, verbose=0)
        assert_same(net, plain)


@needs_parquet
def test_columns_of_one_name_are_refused(X, y, tmp_path):
    import pyarrow as pa

    columns = [pa.array(X[:, 0]), pa.array(X[:, 1]), pa.array(y)]
    for names in (["a", "a", "t"], ["a", "t", "t"]):
        table = pa.Table.from_arrays(columns, names=names)
        twice = max(names, key=names.count)
        with pytest.raises(ValueError, match=f"has several columns of the name '{twice}'"):
            network().fit(Blocks([table], "t"), verbose=0)


@needs_parquet
def test_parquet_that_cannot_be_used_is_refused_before_anything_is_read(X, y, tmp_path):
    import pyarrow
    import pyarrow.parquet

    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"holds no file whose name ends in \.parquet or \.pq$"):
        Blocks(empty, "y")
    with pytest.raises(FileNotFoundError):
        Blocks(tmp_path / "nothing.parquet", "y")
    os.mkfifo(empty / "pipe.parquet")
    with pytest.raises(ValueError, match=r"pipe\.parquet is not a regular file$"):
        Blocks(empty)
    os.unlink(empty / "pipe.parquet")
    (empty / "bad.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match=r"bad\.parquet: "):
        Blocks(empty, "y")
    folder = write_parquet(tmp_path / "data", X, y)
    text = pyarrow.table({"a": [1.0], "b": ["x"], "c": [1.0], "y": [1]})
    pyarrow.parquet.write_table(text, folder / "part-7.parquet")
    with pytest.raises(ValueError, match=r"part-7\.parquet: column 'b' is string, not numbers"):
        Blocks(folder, "y")
    other = pyarrow.table({"a": [1.0], "c": [1.0], "y": [1]})
    pyarrow.parquet.write_table(other, folder / "part-7.parquet")
    with pytest.raises(ValueError, match=r"part-7\.parquet lacks the column 'b'"):
        Blocks(folder, "y")
    (folder / "year=2020").mkdir()
    with pytest.raises(ValueError, match="has folders in it, such as 'year=2020'"):
        Blocks(folder, "y")


def test_parquet_without_pyarrow_says_how_to_install_it(monkeypatch, tmp_path):
    """Also where pyarrow is there: it is taken away for the test."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    command = r"^reading .* needs pyarrow; install it with: pip install 'fastgd\[data\]'$"
    with pytest.raises(ImportError, match=command):
        Blocks(tmp_path, "y")


# ---- what does not fit --------------------------------------------------------------------------


def first_block(X, y, *others):
    return Blocks([(X[:40], y[:40]), *others], buffer_rows=32)


@pytest.mark.parametrize("prefetch", [True, False])
def test_a_block_that_does_not_fit_is_named(X, y, prefetch):
    nan = X[:9].copy()
    nan[4, 1] = np.nan
    cases = {
        "block 1: X has 2 features, but the blocks before it have 3": (X[:9, :2], y[:9]),
        "block 1: X has dtype float32, but the blocks before it have float64": (
            X[:9].astype(np.float32),
            y[:9],
        ),
        r"block 1: X\[4, 1\] is nan; all values must be finite": (nan, y[:9]),
        "block 1: X has 9 samples, but block 1: y has 8": (X[:9], y[:8]),
        r"label block 1: y\[3\] = 2 is beyond the network's 2 outputs": (
            X[:9],
            np.array([0, 1, 0, 2, 0, 0, 0, 0, 0]),
        ),
        r"block 1: y has dtype float64 and shape \(n_samples, 2\), but the blocks .* dtype int64": (
            X[:9],
            np.full((9, 2), 0.5),
        ),
        "block 1 brings no y; give blocks": X[:9],
        "block 1: sample_weight is given, but the blocks before it have no weights": (
            X[:9],
            y[:9],
            np.ones(9),
        ),
        "block 1: sample_weight must not be negative": (X[:9], y[:9], -np.ones(9)),
        "block 1 is a tuple of 4; blocks are X": (X[:9], y[:9], y[:9], y[:9]),
        r"block 1: X must have two dimensions, not 1": (X[0], y[:3]),
        "block 1: X has dtype <U1; real numbers are needed": (np.array([["a"] * 3]), y[:1]),
    }
    for message, block in cases.items():
        blocks = Blocks([(X[:40], y[:40]), block], buffer_rows=32, prefetch=prefetch)
        net, plain = network(), network()
        with pytest.raises(ValueError, match=message):
            net.fit(blocks, shuffle=False, verbose=0)
        # What came before it was trained on, in whole buffers.
        plain.fit(X[:32], y[:32], shuffle=False, verbose=0)
        assert_same(net, plain)
        net.fit(X, y, verbose=0)
        assert net.step == 17


def test_a_first_block_that_does_not_fit_leaves_everything_as_it_was(X, y):
    net = network()
    with pytest.raises(ValueError, match="block 0: y has dtype <U1"):
        net.fit(Blocks([(X, np.array(["a"] * N))]), verbose=0)
    assert (net.n_inputs, net.step, net.history) == (None, 0, None)
    net = network(n_inputs=4)
    with pytest.raises(ValueError, match="block 0: X has 3 features, but the network takes 4"):
        net.fit(Blocks([(X, y)]), verbose=0)
    net = network()
    with pytest.raises(ValueError, match="validation X has 2 features, but X has 3"):
        net.fit(X, y, validation_data=Blocks([(X[:, :2], y)]), verbose=0)
    assert (net.n_inputs, net.step) == (None, 0)


@needs_narwhals
def test_tables_and_arrays_do_not_mix(X, y):
    import pandas

    table = pandas.DataFrame(X, columns=list("abc"))
    with pytest.raises(ValueError, match="block 1: X is an array, but the blocks before it are a"):
        network().fit(Blocks([(table, y), (X, y)]), verbose=0)
    other = pandas.DataFrame(X, columns=list("abd"))
    message = "block 1: X lacks the column 'c' and has the column 'd' beyond"
    with pytest.raises(ValueError, match=message):
        network().fit(Blocks([(table, y), (other, y)]), verbose=0)
    text = table.assign(b="x")
    with pytest.raises(ValueError, match=r"block 1: X: column 'b' is .*, not numbers"):
        network().fit(Blocks([(table, y), (text, y)]), verbose=0)
    with pytest.raises(ValueError, match="block 0: X lacks the column 'price'; it has 'a', 'b'"):
        network().fit(Blocks([table], "price"), verbose=0)


@pytest.mark.parametrize("blocks", [[], [(np.empty((0, 3)), np.empty(0, int))] * 2])
def test_a_source_without_rows_is_refused(blocks):
    net = network()
    with pytest.raises(ValueError, match="X is empty: its blocks brought no rows"):
        net.fit(Blocks(blocks), verbose=0)
    assert net.n_inputs is None


def test_every_pass_must_bring_as_many_rows(X, y):
    passes = iter([N, N - 1])

    def source():
        n = next(passes)
        yield X[:n], y[:n]

    net = network()
    with pytest.raises(ValueError, match="brought 499 rows in this pass, but 500 before"):
        net.fit(Blocks(source), epochs=2, verbose=0)
    assert net.predict(X).shape == (N, 2)


def test_weights_that_are_all_zero_are_refused_and_those_of_one_block_are_not(X, y):
    zero = np.zeros(N)
    with pytest.raises(ValueError, match="the sum of sample_weight must be positive"):
        network().fit(Blocks(cut([100] * 4, X, y, zero)), verbose=0)
    weight = np.ones(N)
    weight[:200] = 0
    net, plain = network(), network()
    net.fit(Blocks(cut([100] * 4, X, y, weight)), verbose=0)
    plain.fit(X, y, sample_weight=weight, verbose=0)
    assert_same(net, plain)


def test_weights_that_the_dtype_takes_for_zero_are_refused(X, y):
    tiny = np.full(N, 1e-60)
    net = network()
    for use in (net.fit, net.evaluate):
        options = {"verbose": 0} if use == net.fit else {}
        with pytest.raises(ValueError, match=r"^all of sample_weight are below 1\.18e-38"):
            use(Blocks(X, y, tiny), **options)
        net.fit(X, y, verbose=0)


def test_validation_data_are_looked_at_before_the_fit_reads(X, y):
    """With prefetch=False one pass ends before the next begins: they may share a place to read."""
    place = []

    def shared():
        place[:] = [0]
        while place[0] < N:
            place[0] += 50
            yield X[place[0] - 50 : place[0]], y[place[0] - 50 : place[0]]

    data = [Blocks(shared, buffer_rows=64, prefetch=False) for _ in range(2)]
    net, plain = network(), network()
    net.fit(data[0], epochs=2, validation_data=data[1], shuffle=False, verbose=0)
    plain.fit(X, y, epochs=2, validation_data=(X, y), shuffle=False, verbose=0)
    assert_same(net, plain)


def test_errors_of_validation_data_say_so(X, y):
    many = np.tile(X, (4, 1))
    many[1500, 1] = np.nan
    with pytest.raises(ValueError, match=r"^validation block 1: X\[500, 1\] is nan"):
        network().fit(X, y, validation_data=Blocks(cut([1000], many, np.tile(y, 4))), verbose=0)
    wide = np.ones((N, 5))
    with pytest.raises(ValueError, match=r"^validation X has 5 features, but X has 3$"):
        network().fit(X, y, validation_data=Blocks(wide, y), verbose=0)


def test_what_is_refused_before_reading_does_not_use_up_an_iterator(X, y):
    blocks = Blocks(iter([(X, y)]))
    with pytest.raises(ValueError, match="which this fit does not record"):
        network().fit(blocks, callbacks=fastgd.EarlyStopping("val_loss"), verbose=0)
    network().fit(blocks, verbose=0)


def test_one_batch_of_blocks_is_refused(X, y):
    net = network()
    net.fit(X, y, verbose=0)
    with pytest.raises(TypeError, match="x is Blocks, which Network"):
        fastgd.explain(net, Blocks(X, y), 1)


def test_an_error_of_the_source_holds_no_buffers(X, y):
    import gc
    import tracemalloc

    def source():
        yield np.ones((100_000, 50), np.float32), np.ones(100_000)
        raise OSError("gone")

    net = Network([Dense(1)], "squared_error")
    gc.disable()
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="gone"):
            net.fit(Blocks(source, buffer_rows=100_000), verbose=0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 5e6


@pytest.mark.parametrize("prefetch", [True, False])
def test_what_the_source_raises_comes_out_and_the_network_stays_usable(X, y, prefetch):
    class OwnError(Exception):
        pass

    def source():
        yield X[:100], y[:100]
        raise OwnError("the disk is on fire")

    net, plain = network(), network()
    with pytest.raises(OwnError, match="the disk is on fire") as caught:
        net.fit(Blocks(source, buffer_rows=32, prefetch=prefetch), shuffle=False, verbose=0)
    assert caught.value.__notes__[0] == "raised when block 1 of source was read"
    plain.fit(X[:96], y[:96], shuffle=False, verbose=0)
    assert_same(net, plain)
    net.fit(Blocks(X, y), epochs=2, verbose=0)
    assert not [thread for thread in threading.enumerate() if "blocks" in thread.name]


def test_settings_and_sources_that_do_not_fit(X, y):
    for arguments, error, message in (
        ((3,), TypeError, "source must be an array, a table, a path of Parquet"),
        (({"X": X},), TypeError, "source must be an array"),
        ((Blocks(X),), TypeError, "source is Blocks already"),
        ((X[0],), ValueError, "source must have two dimensions, not 1"),
        ((X, y[:9]), ValueError, "source has 500 rows, but y is ndarray of 9 rows"),
        ((X, y, 3), ValueError, "source has 500 rows, but sample_weight is int; give an array"),
        ((X, "y"), TypeError, "source is an array, which has no named columns"),
        (([(X, y)], y), TypeError, "y must be the name of a column of the source's tables, not nd"),
        (([X], None, y), TypeError, "sample_weight must be the name of a column"),
        (([X], ["a", "a"]), ValueError, "y names 'a' several times"),
        (([X], "a", "a"), ValueError, "the column 'a' cannot be two of X, y and sample_weight"),
    ):
        with pytest.raises(error, match=message):
            Blocks(*arguments)
    for settings, error, message in (
        ({"buffer_rows": 0}, ValueError, "buffer_rows must be at least 1, not 0"),
        ({"buffer_rows": 1.5}, TypeError, "buffer_rows must be an integer"),
        ({"prefetch": 1}, TypeError, "prefetch must be True or False"),
        ({"columns": "a", "y": "a"}, ValueError, "the column 'a' cannot be two of X, y and"),
        ({"columns": 3}, TypeError, "columns must be names of columns, not 3"),
    ):
        with pytest.raises(error, match=message):
            Blocks([X], **settings)
    with pytest.raises(TypeError, match=r"source <lambda>\(\) must return an iterable of blocks"):
        network().fit(Blocks(lambda: X), verbose=0)
    with pytest.raises(ValueError, match="block 0 is tuple, not a table that 'y' could be a col"):
        network().fit(Blocks([(X, y)], "y"), verbose=0)
    net, blocks = network(n_inputs=3), Blocks(X, y)
    for call, error, message in (
        (lambda: net.fit(blocks, y, verbose=0), TypeError, "y must come with the blocks"),
        (
            lambda: net.fit(blocks, sample_weight=y, verbose=0),
            TypeError,
            "sample_weight must come with the blocks",
        ),
        (lambda: net.evaluate(blocks, y), TypeError, "y must come with the blocks"),
        (
            lambda: net.fit(blocks, validation_split=0.5, verbose=0),
            ValueError,
            "validation_split needs all rows at once",
        ),
        (lambda: net.fit(X, verbose=0), TypeError, "y is missing; only Blocks bring their own"),
        (lambda: net.evaluate(X), TypeError, "y is missing"),
        (lambda: net.train_step(blocks, y), TypeError, "X is Blocks, which Network.fit, its val"),
        (lambda: net.loss_and_grad(blocks, y), TypeError, "X is Blocks"),
        (lambda: net.gradient_flow(blocks, y), TypeError, "X is Blocks"),
        (lambda: net.validate(blocks, y), TypeError, "X is Blocks"),
        (
            lambda: net.fit(X, y, validation_data=(blocks, y), verbose=0),
            TypeError,
            "validation X is Blocks",
        ),
        (lambda: net.fit(Blocks(X), verbose=0), ValueError, "brings no y"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert net.step == 0
    assert repr(blocks) == "Blocks(ndarray of float64, 500 rows, buffer_rows=65536)"


# ---- the course of a fit ------------------------------------------------------------------------


class Recorder(fastgd.Callback):
    def __init__(self):
        self.events = []

    def on_fit_begin(self):
        self.events.append(("begin", self.steps_per_epoch))

    def on_batch_end(self, step, loss):
        self.events.append((step, round(loss, 12)))

    def on_epoch_end(self, epoch, logs):
        self.events.append(("epoch", epoch, self.steps_per_epoch))


def test_callbacks_hear_what_they_hear_of_arrays(X, y):
    heard = {}
    for name, given in {
        "arrays": (X, y),
        "known": (Blocks(X, y, buffer_rows=64),),
        "unknown": (Blocks(cut([50] * 6, X, y), buffer_rows=64),),
    }.items():
        recorder = Recorder()
        network().fit(
            *given, epochs=2, batch_size=BATCH, shuffle=False, callbacks=[recorder], verbose=0
        )
        heard[name] = recorder.events
    assert heard["known"] == heard["arrays"]
    assert heard["unknown"][0] == ("begin", None)
    assert heard["unknown"][1:] == heard["arrays"][1:]


def test_gradient_flow_early_stopping_and_the_plateau(X, y):
    found = []
    for data in ((X, y), (Blocks(cut([50] * 6, X, y), buffer_rows=64),)):
        flow = fastgd.GradientFlow(every=1, warn=False)
        stop = fastgd.EarlyStopping("loss", patience=2, min_delta=0.05)
        plateau = fastgd.schedules.ReduceOnPlateau(0.01, patience=1, min_delta=0.1)
        net = Network([Dense(6, "relu"), Dense(2)], "cross_entropy", fastgd.Adam(plateau))
        history = net.fit(*data, epochs=60, shuffle=False, callbacks=[flow, stop], verbose=0)
        assert stop.stopped
        assert len(flow.reports) == len(history.epoch) < 60
        assert history.history["lr"][-1] < 0.01
        found.append((net, values(history), flow))
    (plain, expected, _), (net, given, flow) = found
    assert_same(net, plain)
    assert given == expected
    assert flow.reports[0].n_samples <= 64


@pytest.mark.parametrize("known", [True, False])
def test_the_progress_bar_counts_what_it_can(X, y, known, capsys):
    source = (X, y) if known else (cut([50] * 6, X, y),)
    network().fit(Blocks(*source, buffer_rows=64), epochs=2, batch_size=BATCH, verbose=1)
    shown = capsys.readouterr().err
    assert "epoch 2/2: 100%" in shown
    assert "32.0/32.0" in shown
    assert ("0.00/32.0" in shown) == known


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_fit_gives_the_bits_of_one(X, y, tmp_path, known):
    path = tmp_path / "model.safetensors"

    def data():
        if known:
            return Blocks(X, y, buffer_rows=96)
        return Blocks(cut([33] * 9, X, y), buffer_rows=96)

    class Interrupt(fastgd.Callback):
        last = True

        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                raise KeyboardInterrupt

    whole = network()
    recorder = Recorder()
    whole.fit(data(), epochs=4, batch_size=BATCH, callbacks=[recorder], verbose=0)
    first = network()
    with pytest.raises(KeyboardInterrupt):
        first.fit(
            data(),
            epochs=4,
            batch_size=BATCH,
            callbacks=[fastgd.Checkpoint(path), Interrupt()],
            verbose=0,
        )
    second = fastgd.load(path)
    again = Recorder()
    history = second.fit(
        data(), epochs=4, batch_size=BATCH, callbacks=[again], verbose=0, resume=True
    )
    assert_same(second, whole)
    assert values(history) == values(whole.history)
    # Steps are counted over both parts.
    assert [e for e in again.events if e[0] != "begin"] == recorder.events[1 + 2 * 17 :]


def test_ctrl_c_ends_a_fit_that_waits_for_its_source(X, y):
    code = """
import os, signal, threading, time
import numpy as np, fastgd
def source():
    X = np.ones((64, 2), dtype=np.float32)
    for _ in range(10_000):
        time.sleep(0.01)
        yield X, X[:, :1]
net = fastgd.Network([fastgd.Dense(1)], "squared_error")
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    net.fit(fastgd.Blocks(source, buffer_rows=128), verbose=0)
except KeyboardInterrupt:
    assert net.step > 0
    assert np.isfinite(net.get_weights()[0]).all()
    net.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    print("interrupted", [t.name for t in threading.enumerate() if "blocks" in t.name])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("interrupted []\n", "")


def test_ctrl_c_does_not_wait_for_a_block_that_does_not_come():
    code = """
import os, signal, sys, threading, time
import numpy as np, fastgd
def source():
    yield np.ones((256, 2), dtype=np.float32), np.ones(256)
    time.sleep(100)
net = fastgd.Network([fastgd.Dense(1)], "squared_error")
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    net.fit(fastgd.Blocks(source, buffer_rows=128), verbose=0)
except KeyboardInterrupt:
    print("interrupted", net.predict(np.ones((4, 2))).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout, done.stderr) == ("interrupted (4, 1)\n", "")


@pytest.mark.parametrize("known", [True, False])
def test_a_fit_that_began_on_arrays_goes_on_with_blocks(X, y, tmp_path, known):
    path = tmp_path / "model.safetensors"
    network().fit(X, y, 2, BATCH, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    steps = []

    class Steps(fastgd.Callback):
        def on_batch_end(self, step, loss):
            steps.append(step)

    net, plain = fastgd.load(path), network()
    data = Blocks(X, y) if known else Blocks(cut([33] * 9, X, y))
    net.fit(data, epochs=3, batch_size=BATCH, callbacks=[Steps()], verbose=0, resume=True)
    plain.fit(X, y, 3, BATCH, verbose=0)
    assert_same(net, plain)
    assert steps == list(range(2 * 16, 3 * 16))


def test_divergence_says_where(X):
    net = Network([Dense(1)], "squared_error", fastgd.SGD(1e30))
    blocks = Blocks(X, 1e8 * X[:, 0], buffer_rows=64)
    with pytest.raises(fastgd.DivergenceError) as caught:
        net.fit(blocks, epochs=9, batch_size=BATCH, shuffle=False, verbose=0)
    plain = Network([Dense(1)], "squared_error", fastgd.SGD(1e30))
    with pytest.raises(fastgd.DivergenceError) as expected:
        plain.fit(X, 1e8 * X[:, 0], 9, BATCH, shuffle=False, verbose=0)
    assert str(caught.value) == str(expected.value)
    assert (caught.value.epoch, caught.value.step) == (expected.value.epoch, expected.value.step)


# ---- memory -------------------------------------------------------------------------------------

MEMORY = """
import sys
sys.path.insert(0, {root!r})
import numpy as np, fastgd
from benchmarks.memory import peak_memory, reset_peak, resident_memory
from fastgd import Blocks, Dense, Network
{source}
net = Network([Dense(1)], "squared_error", "adam")
small = Blocks({small}, buffer_rows={rows})
net.fit(small, verbose=0)  # all that is loaded and kept once
net.predict(small)
before = resident_memory()
reset_peak()
data = Blocks({large}, buffer_rows={rows})
net.fit(data, epochs=2, verbose=0)
print(net.evaluate(data) >= 0, data.n_rows, peak_memory() - before)
"""


def peak(source, small, large, rows):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = MEMORY.format(root=root, source=source, small=small, large=large, rows=rows)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    right, n_rows, megabytes = done.stdout.split()
    assert right == "True"
    return int(n_rows), float(megabytes)


def test_memory_stays_near_two_buffers():
    """600 MB of rows through buffers of 6 MB."""
    source = """
def generate(n):
    X = np.random.default_rng(0).normal(size=(5_000, 100)).astype(np.float32)
    for _ in range(n):
        yield X, X[:, 0]
"""
    n_rows, megabytes = peak(source, "lambda: generate(10)", "lambda: generate(300)", 15_000)
    assert n_rows == 1_500_000
    assert megabytes < 30


MAPPED = """
import sys, threading
sys.path.insert(0, {root!r})
import numpy as np, fastgd
from benchmarks.memory import _status
X = np.memmap({path!r}, np.float32, "r", shape=(1_000_000, 80))
net = fastgd.Network([fastgd.Dense(1)], "squared_error", "adam")
net.fit(fastgd.Blocks(X[:9_000], X[:9_000, 0], buffer_rows=9_000), verbose=0)
before = peak = _status("RssAnon") or 0.0  # what Linux cannot give to others, unlike mapped pages
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, _status("RssAnon") or 0.0)
watcher = threading.Thread(target=watch)
watcher.start()
net.fit({arguments}, verbose=0)
done.set()
watcher.join()
print(peak - before)
"""


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ("fastgd.Blocks(X, X[:, 0], buffer_rows=15_000)", 30),  # two buffers of 5 MB
        ("X, X[:, 0]", 30),  # the order, 8 MB
    ],
)
def test_memory_maps_are_not_loaded(tmp_path, arguments, most):
    """320 MB of zeros, a hole in the file."""
    path = tmp_path / "X.bin"
    with open(path, "wb") as file:
        file.truncate(1_000_000 * 80 * 4)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = MAPPED.format(root=root, path=str(path), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert float(done.stdout) < most


@needs_parquet
def test_memory_of_parquet_stays_near_two_buffers(tmp_path):
    """200 MB of columns, in row groups of 20 MB, through buffers of 4 MB."""
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng(0)
    for name, n in (("small", 40_000), ("large", 1_000_000)):
        columns = {f"x{i}": rng.random(n, dtype=np.float32) for i in range(50)}
        pyarrow.parquet.write_table(
            pyarrow.table(columns),
            tmp_path / f"{name}.parquet",
            row_group_size=100_000,
            use_dictionary=False,  # a reader keeps the dictionary of each column, up to 1 MB
        )
    small, large = (f"{str(tmp_path / name)!r} + '.parquet', 'x0'" for name in ("small", "large"))
    n_rows, megabytes = peak("", small, large, 20_000)
    assert n_rows == 1_000_000
    assert megabytes < 80


# ---- rows that are kept in a file -----------------------------------------------------------


def counted(blocks, passes):
    def source():
        passes.append(0)
        yield from blocks()

    return source


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("rows", [64, 10 * N])
def test_a_cache_reads_the_source_once_and_changes_no_bit(X, y, weight, tmp_path, rows, prefetch):
    passes, settings = [], {"epochs": 3, "batch_size": BATCH, "verbose": 0}
    source = counted(cut([7, 0, 33], X, y, weight), passes)
    plain, net = network(), network()
    expected = plain.fit(Blocks(source, buffer_rows=rows), **settings)
    passes.clear()
    blocks = Blocks(source, buffer_rows=rows, prefetch=prefetch, cache=tmp_path)
    assert values(net.fit(blocks, **settings)) == values(expected)
    assert_same(net, plain)
    assert len(passes) == 1
    assert blocks.n_rows == N
    assert list(tmp_path.iterdir()) == []  # the file has no name that could be left behind

    # Other fits, evaluation and validation read the same file, with whatever buffers.
    other = network()
    blocks.buffer_rows = 100
    history = other.fit(blocks, validation_data=blocks, shuffle=False, **settings)
    assert history.history["val_loss"][-1] == other.evaluate(blocks)
    plain = network()
    plain.fit(X, y, sample_weight=weight, shuffle=False, **settings)
    assert_same(other, plain)
    assert len(passes) == 1
    # What is checked in another way is read anew, once.
    for _ in range(2):
        np.testing.assert_array_equal(net.predict(blocks), net.predict(X))
        double = network(dtype="float64")
        double.fit(blocks, **settings)
    assert len(passes) == 3
    plain = network(dtype="float64")
    plain.fit(Blocks(X, y, weight, buffer_rows=100), **settings)
    assert_same(double, plain)


def test_a_cache_keeps_bytes_and_several_targets(rng, tmp_path):
    X = rng.integers(0, 256, (N, 9), dtype=np.uint8)
    Y = X[:, :2] / 255
    nets = [Network([Dense(2, "sigmoid")], "squared_error", input_scale=1 / 255) for _ in range(2)]
    blocks = Blocks(X, Y, cache=tmp_path)
    for net, data in zip(nets, [(blocks,), (X, Y)], strict=True):
        net.fit(*data, epochs=3, verbose=0)
    assert_same(*nets)
    (stored,) = blocks._stored.values()
    assert (stored._data.X.dtype, stored._data.y.shape) == (np.uint8, (N, 2))


def test_an_iterator_with_a_cache_trains_for_several_epochs(X, y, tmp_path):
    net, plain = network(), network()
    blocks = Blocks(cut([100] * 4, X, y)(), cache=tmp_path)
    net.fit(blocks, epochs=3, validation_data=blocks, verbose=0)
    plain.fit(X, y, epochs=3, verbose=0)
    assert_same(net, plain)
    with pytest.raises(ValueError, match=r"iterator \(generator\) that was read already"):
        network(dtype="float64").fit(blocks, verbose=0)


def test_what_a_cache_holds_does_not_let_an_unfit_network_pass(X, y, tmp_path):
    blocks = Blocks(X, y, cache=tmp_path)
    network().fit(blocks, verbose=0)
    with pytest.raises(ValueError, match="X has 3 features, but the network takes 4"):
        network(n_inputs=4).fit(blocks, verbose=0)


@needs_narwhals
def test_a_cache_keeps_the_names_of_columns(X, y, tmp_path):
    import pandas

    table = pandas.DataFrame(X, columns=list("abc")).assign(y=y)
    passes = []
    blocks = Blocks(counted(lambda: iter([table[:200], table[200:]]), passes), "y", cache=tmp_path)
    net, plain = network(), network()
    net.fit(blocks, epochs=2, verbose=0)
    plain.fit(table[list("abc")], table["y"], epochs=2, verbose=0)
    assert_same(net, plain)
    other = network()
    other.fit(blocks, verbose=0)
    assert net.feature_names == other.feature_names == ("a", "b", "c")
    assert len(passes) == 1
    other = network()
    other.fit(table[list("cba")], table["y"], verbose=0)
    with pytest.raises(ValueError, match="columns in another order"):
        other.evaluate(blocks)


@needs_parquet
def test_a_cache_of_parquet(X, y, tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: X[:, i] for i, name in enumerate("abc")} | {"y": y})
    file, net, plain = tmp_path / "a.parquet", network(), network()
    pyarrow.parquet.write_table(table, file)
    blocks = Blocks(file, "y", cache=tmp_path)
    net.fit(blocks, verbose=0)
    file.unlink()
    net.fit(blocks, epochs=2, verbose=0)
    plain.fit(X, y, epochs=3, verbose=0)
    assert_same(net, plain)


def test_a_pass_that_ends_early_leaves_nothing_in_the_cache(X, y, tmp_path):
    class Stop(fastgd.Callback):
        def on_batch_end(self, batch, logs):
            raise RuntimeError("enough")

    blocks = Blocks(X, y, buffer_rows=64, cache=tmp_path)
    with pytest.raises(RuntimeError, match="enough"):
        network().fit(blocks, batch_size=BATCH, callbacks=[Stop()], verbose=0)
    assert blocks._stored == {}
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, numpy as np, fastgd
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
X = np.zeros((10_000, 8), "f4"); y = np.zeros(10_000)
net = fastgd.Network([fastgd.Dense(1)], "squared_error")
blocks = fastgd.Blocks(X, y, buffer_rows=1024, cache=".")
try:
    net.fit(blocks, epochs=2, verbose=0)
except OSError as error:
    print(error.errno, error)
print(net.step, blocks._stored)
net.fit(X, y, verbose=0)
"""


def test_a_full_disk_ends_the_fit_and_names_the_folder(tmp_path):
    command = [sys.executable, "-W", "error", "-c", FULL]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert found.stdout.splitlines() == [
        "27 [Errno 27] File too large: cache must be a folder with room for all rows: '.'",
        "96 {}",
    ]


def test_a_cache_must_be_a_folder(X, y, tmp_path):
    (tmp_path / "file").touch()
    for cache, error, message in (
        (tmp_path / "none", ValueError, "cache must be an existing folder; .*none is missing"),
        (tmp_path / "file", ValueError, "cache must be an existing folder; .*file is a file"),
        (True, TypeError, "cache must be the path of a folder, not bool"),
    ):
        with pytest.raises(error, match=message):
            Blocks(X, y, cache=cache)


def test_a_copy_of_blocks_has_a_cache_of_its_own(X, y, tmp_path):
    blocks = Blocks(X, y, cache=tmp_path)
    network().fit(blocks, verbose=0)
    copy = pickle.loads(pickle.dumps(blocks))
    assert (len(blocks._stored), len(copy._stored)) == (1, 0)
    network().fit(copy, verbose=0)
    assert (len(blocks._stored), len(copy._stored)) == (1, 1)


@needs_parquet
def test_docs_cells_print_what_is_shown(tmp_path):
    assert_cells_print_what_is_shown("data.md", tmp_path)


def test_a_reader_that_cannot_tell_of_its_failure_does_not_keep_a_fit_waiting(monkeypatch):
    """Its thread has no memory for the message."""

    class NoMemory(_blocks._Failure):
        def __new__(cls, error):
            raise MemoryError

    def source():
        yield np.ones((8, 2)), np.ones(8)
        raise OSError("the source has failed")

    monkeypatch.setattr(_blocks, "_Failure", NoMemory)
    net = fastgd.Network([fastgd.Dense(1)], "squared_error")
    with pytest.raises(MemoryError, match="the thread that reads the blocks"):
        net.fit(fastgd.Blocks(source, buffer_rows=4), verbose=0)


def test_a_reader_ends_whose_start_has_failed_after_it_had_begun(X, y, monkeypatch):
    begun = []
    plain_start = threading.Thread.start

    def start(thread):
        plain_start(thread)
        begun.append(thread)
        raise MemoryError

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MemoryError):
        network().fit(Blocks(lambda: iter([(X, y)] * 100), buffer_rows=4), verbose=0)
    begun[0].join(30)
    assert not begun[0].is_alive()


def test_a_reader_ends_though_there_is_no_memory_to_wake_it(X, y, monkeypatch):
    class Full:
        def put(self, item):
            raise MemoryError

    class Stop(fastgd.Callback):
        def on_fit_begin(self):
            raise KeyboardInterrupt

    def close(windows):
        threads.append(windows._thread)
        windows._free = Full()
        plain_close(windows)

    threads = []
    plain_close = _blocks.Windows.close
    monkeypatch.setattr(_blocks.Windows, "close", close)
    blocks = Blocks(lambda: iter([(X, y)] * 100), buffer_rows=4)
    with pytest.raises(KeyboardInterrupt):
        network().fit(blocks, verbose=0, callbacks=[Stop()])
    threads[0].join(30)
    assert not threads[0].is_alive()
