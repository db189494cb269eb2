"""Tables of pandas, polars and pyarrow where the package takes arrays."""

import copy
import datetime
import decimal
import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest

import fastgd
from block_extras import has, needs_extra
from fastgd import Dense, Network, _kernels, load
from fastgd._frames import check_names, plain_names
from fastgd._validate import is_table

NAMES = ["age", "height", "weight"]
LIBRARIES = [name for name in ("pandas", "polars", "pyarrow") if has(name)]
needs_narwhals = needs_extra("narwhals", "data")


def frame(library, columns):
    """A table of one library from a dict of columns."""
    if library == "pandas":
        import pandas

        return pandas.DataFrame(columns)
    if library == "polars":
        import polars

        return polars.DataFrame(columns)
    import pyarrow

    return pyarrow.table(columns)


def column(library, values):
    if library == "pandas":
        import pandas

        return pandas.Series(values)
    if library == "polars":
        import polars

        return polars.Series(values)
    import pyarrow

    return pyarrow.chunked_array([values])


def named(library, X, names=NAMES):
    return frame(library, {name: X[:, i] for i, name in enumerate(names)})


@pytest.fixture(params=LIBRARIES)
def library(request):
    return request.param


@pytest.fixture
def X(rng):
    return rng.normal(size=(60, 3)).astype(np.float32)


@pytest.fixture
def y(X):
    return (X @ np.array([1, -1, 2], np.float32) > 0).astype(np.int64)


def network(**settings):
    layers = [Dense(5, "tanh"), Dense(2)]
    return Network(layers, "cross_entropy", "adam", **settings)


def fitted(library, X, y):
    net = network()
    net.fit(named(library, X), y, epochs=2, verbose=0)
    return net


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- wherever arrays are taken ------------------------------------------------------------------


@needs_narwhals
def test_every_method_takes_a_table_as_the_array_it_holds(library, X, y):
    table, target = named(library, X), column(library, y)
    weight = np.linspace(1, 2, len(X))
    weights = column(library, weight)
    one, other = network(), network()
    validation = {"validation_data": (table, target, weights), "metrics": "accuracy"}
    found = one.fit(table, target, 3, sample_weight=weights, verbose=0, **validation)
    validation["validation_data"] = (X, y, weight)
    expected = other.fit(X, y, 3, sample_weight=weight, verbose=0, **validation)
    del found.history["seconds"], expected.history["seconds"]
    assert found.history == expected.history
    assert one.train_step(table, target) == other.train_step(X, y)
    assert_same_weights(one, other)
    np.testing.assert_array_equal(one.predict(table), other.predict(X))
    assert one.evaluate(table, target, weights) == other.evaluate(X, y, weight)
    assert one.loss_and_grad(table, target)[0] == other.loss_and_grad(X, y)[0]
    assert one.gradient_flow(table, target).loss == other.gradient_flow(X, y).loss
    assert one.validate(table, target).operations == other.validate(X, y).operations
    row, label = named(library, X[:1]), column(library, y[:1])
    assert str(fastgd.explain(one, row, label)) == str(fastgd.explain(other, X[:1], y[:1]))
    assert one.feature_names == tuple(NAMES)
    assert other.feature_names is None


@needs_narwhals
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_table_of_targets_is_the_array_of_its_columns(library, X, n_outputs):
    Y = X[:, :n_outputs]
    layers = [Dense(n_outputs)]
    one, other = (Network(layers, "squared_error", n_inputs=3) for _ in range(2))
    one.fit(X, named(library, Y, NAMES[:n_outputs]), verbose=0)
    other.fit(X, Y, verbose=0)
    assert_same_weights(one, other)


@needs_narwhals
def test_a_one_column_table_of_labels_and_of_weights(library, X, y):
    one, other = network(), network()
    weight = np.linspace(1, 2, len(X))
    one.fit(X, frame(library, {"y": y}), sample_weight=frame(library, {"w": weight}), verbose=0)
    other.fit(X, y, sample_weight=weight, verbose=0)
    assert_same_weights(one, other)


@needs_narwhals
def test_parts_of_a_table_of_pyarrow_are_tables_and_columns_too(library, X, y):
    one, other = network(), network()
    table, target = named(library, X), column(library, y)
    if library == "pyarrow":
        (table,), (target,) = table.to_batches(), target.chunks
    one.fit(table, target, verbose=0)
    other.fit(X, y, verbose=0)
    assert_same_weights(one, other)


# ---- names --------------------------------------------------------------------------------------


@needs_narwhals
def test_names_survive_copies_and_files(library, X, y, tmp_path):
    net = fitted(library, X, y)
    path = tmp_path / "model.safetensors"
    net.save(path)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), load(path)):
        assert other.feature_names == ("age", "height", "weight")
        np.testing.assert_array_equal(other.predict(named(library, X)), net.predict(X))
        with pytest.raises(ValueError, match="lacks the column 'age'"):
            other.predict(named(library, X, ["size", "height", "weight"]))


def test_a_file_without_names_is_what_older_versions_wrote(tmp_path):
    path = tmp_path / "model.safetensors"
    Network([Dense(1)], "squared_error", n_inputs=2).save(path)
    content = path.read_bytes()
    assert b"feature_names" not in content
    assert load(path).feature_names is None


def test_an_older_pickle_has_no_names():
    net = Network([Dense(1)], "squared_error", n_inputs=2)
    state = net.__getstate__()
    del state["feature_names"]
    other = Network.__new__(Network)
    other.__setstate__(state)
    assert other.feature_names is None


@needs_narwhals
@pytest.mark.parametrize("names", [["a"], ["a", "a", "b"], ["a", "b", 3], "abc", {"a": 1}])
def test_a_file_whose_names_do_not_fit_is_refused(X, y, tmp_path, names, monkeypatch):
    net = fitted("polars", X, y)
    path = tmp_path / "model.safetensors"
    with monkeypatch.context() as forging:
        forging.setattr(json, "dumps", _with_names(json.dumps, names))
        with pytest.raises(ValueError, match=r"not saved, .* feature_names are not one name for"):
            net.save(path)
        forging.setattr(fastgd.io, "_described", lambda *_: None)
        net.save(path)
    with pytest.raises(fastgd.ModelFileError, match="feature_names are not one name for each"):
        load(path)


def _with_names(dumps, names):
    def changed(value, **settings):
        if isinstance(value, dict) and "feature_names" in value:
            value = {**value, "feature_names": names}
        return dumps(value, **settings)

    return changed


@needs_narwhals
def test_columns_that_differ_are_named_and_what_is_expected(library, X, y):
    net = fitted(library, X, y)
    expected = "expected, in this order: 'age', 'height', 'weight'$"
    wide = np.hstack([X, X[:, :1]])
    for table, problem in (
        (named(library, X[:, :2], ["age", "weight"]), "X lacks the column 'height'; "),
        (named(library, wide, [*NAMES, "id"]), "X has the column 'id' beyond those that "),
        (
            named(library, X, ["size", "height", "mass"]),
            "lacks the columns 'age', 'weight' and has",
        ),
        (named(library, X, ["height", "age", "weight"]), "in another order: column 0 is 'height'"),
    ):
        before = net.get_weights()
        calls = [
            lambda t=table: net.predict(t),
            lambda t=table: net.evaluate(t, y),
            lambda t=table: net.fit(t, y, verbose=0),
            lambda t=table: net.fit(X, y, validation_data=(t, y), verbose=0),
            lambda t=table: net.train_step(t, y),
            lambda t=table: fastgd.explain(net, t[:1], y[:1]),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=f"{problem}.*{expected}"):
                call()
        assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda names: check_names("X", names[1:] + names[:1], names), "in another order"),
        (lambda names: check_names("X", names[1:], names), "lacks the column 'c0'"),
        (lambda names: plain_names("columns", [*names, "c7"]), "names 'c7' several times"),
    ],
)
def test_very_many_names_are_compared_in_time(call, message):
    """Without comparing all with all."""
    names = [f"c{i}" for i in range(10_000)]
    began = time.process_time()
    with pytest.raises(ValueError, match=message):
        call(names)
    assert time.process_time() - began < 0.5


@needs_narwhals
def test_arrays_after_a_table_are_taken_and_keep_the_names(library, X, y):
    net = fitted(library, X, y)
    net.fit(X, y, verbose=0)
    net.train_step(X, y)
    assert net.feature_names == tuple(NAMES)
    with pytest.raises(ValueError, match="X has 2 features, but the network takes 3"):
        net.predict(X[:, :2])


@needs_narwhals
def test_a_network_without_names_checks_the_width_and_takes_names_when_it_trains(library, X, y):
    net = network(n_inputs=3)
    table = named(library, X)
    net.predict(table)
    net.evaluate(table, y)
    net.fit(X, y, validation_data=(table, y), verbose=0)
    assert net.feature_names is None
    with pytest.raises(ValueError, match="X has 2 features, but the network takes 3"):
        net.predict(named(library, X[:, :2], NAMES[:2]))
    net.train_step(table, y)
    assert net.feature_names == tuple(NAMES)


@needs_narwhals
def test_names_of_the_validation_data_are_those_of_x_already_in_the_first_fit(library, X, y):
    net = network()
    wrong = named(library, X, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"^validation X lacks the columns 'age', 'height'"):
        net.fit(named(library, X), y, validation_data=(wrong, y), verbose=0)
    assert net.feature_names is None
    assert net.n_inputs is None


@needs_narwhals
def test_columns_of_numbers_are_no_names_and_a_mixture_is_refused(X, y):
    import pandas

    net = network()
    net.fit(pandas.DataFrame(X), y, verbose=0)
    assert net.feature_names is None
    mixed = pandas.DataFrame(X, columns=["a", "b", 3])
    with pytest.raises(TypeError, match="columns with names of text and others, such as 3"):
        net.predict(mixed)
    twice = pandas.DataFrame(X, columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="several columns of the name 'a'"):
        network().fit(twice, y, verbose=0)


@needs_narwhals
def test_the_summary_names_the_features(library, X, y, capsys):
    net = fitted(library, X, y)
    assert net.summary().endswith("\nfeatures age, height, weight")
    assert capsys.readouterr().out.endswith("features age, height, weight\n")
    assert "features age, height, weight" in net._repr_html_()
    many = named(library, np.hstack([X] * 4), ["a b", "\x1b[2J", *map(str, range(10))])
    other = network()
    other.fit(many, y, verbose=0)
    assert other.summary().endswith("\nfeatures 'a b', '\\x1b[2J', 0, 1, 2, 3, 4, 5 and 4 more")
    capsys.readouterr()


# ---- what columns may hold ----------------------------------------------------------------------


def odd_columns(kind):
    """Columns of three values, by library; those that all libraries make of Python values."""
    values = {
        "text": ["a", "b", "c"],
        "gap": [1.0, None, 2.0],
        "NaN": [1.0, float("nan"), 2.0],
        "infinity": [1.0, float("inf"), 2.0],
        "beyond": [1.0, 1e300, 2.0],
        "time": [datetime.datetime(2020, 1, day) for day in (1, 2, 3)],
        "span": [datetime.timedelta(days=day) for day in (1, 2, 3)],
        "list": [[1], [2], [3]],
        "bytes": [b"a", b"b", b"c"],
    }
    return values[kind]


@needs_narwhals
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", r"X: column 'odd' is \S+, not numbers; encode text as numbers first$"),
        ("gap", "X: column 'odd' has no value in row 1; fill the gaps or leave out those rows$"),
        ("NaN", "X: column 'odd' (is nan in row 1; all|has no value in row 1)"),
        ("infinity", "X: column 'odd' is inf in row 1; all values must be finite$"),
        ("beyond", r"X: column 'odd' is 1e\+300 in row 1, beyond the range of float32$"),
        ("time", "X: column 'odd' is .*, not numbers; turn times into numbers first"),
        ("span", "X: column 'odd' is .*, not numbers; turn times into numbers first"),
        ("list", "X: column 'odd' is .*, not numbers; (give each|convert)"),
        ("bytes", "X: column 'odd' is .*, not numbers; convert it to a column of numbers first$"),
    ],
)
@pytest.mark.parametrize("beside", [[1.0, 2.0, 3.0], [1, 2, 3]])
def test_a_column_that_is_not_numbers_is_named(library, kind, message, beside):
    table = frame(library, {"plain": beside, "odd": odd_columns(kind)})
    net = network()
    with pytest.raises(ValueError, match=message):
        net.fit(table, [0, 1, 0], verbose=0)
    assert net.n_inputs is None
    net = network(n_inputs=2)
    with pytest.raises(ValueError, match=message):
        net.predict(table)


@needs_narwhals
def test_categories_dates_and_what_else_one_library_has_are_refused():
    import pandas
    import polars

    tables = {
        "categories": [
            pandas.DataFrame({"c": pandas.Categorical(["a", "b"])}),
            polars.DataFrame({"c": ["a", "b"]}, schema={"c": polars.Categorical}),
            polars.DataFrame({"c": ["a", "b"]}, schema={"c": polars.Enum(["a", "b"])}),
        ],
        "turn times": [polars.DataFrame({"c": [datetime.date(2020, 1, 1)]})],
        "give each": [polars.DataFrame({"c": [{"a": 1}]})],
        "to a dense": [pandas.DataFrame({"c": pandas.arrays.SparseArray([0.0, 1.0])})],
        "convert it": [
            pandas.DataFrame({"c": np.array([1, 2], dtype=object)}),
            pandas.DataFrame({"c": [1j]}),
            polars.DataFrame({"c": [1]}, schema={"c": polars.Int128}),
        ],
    }
    if has("pyarrow"):
        import pyarrow

        tables["categories"].append(
            pyarrow.table({"c": pyarrow.array(["a", "b"]).dictionary_encode()})
        )
        tables["turn times"].append(pyarrow.table({"c": [datetime.date(2020, 1, 1)]}))
    for message, group in tables.items():
        for table in group:
            with pytest.raises(ValueError, match=f"X: column 'c' is .*, not numbers; .*{message}"):
                network(n_inputs=1).predict(table)


@needs_narwhals
def test_numbers_of_every_kind_are_taken(library):
    net = Network([Dense(1, weight_init=np.eye(5)[:, :1] + 1)], "squared_error", n_inputs=5)
    columns = {
        "a": np.array([1, -2], np.int8),
        "b": np.array([3, 4], np.uint64),
        "c": np.array([True, False]),
        "d": np.array([0.5, 0.25], np.float32),
        "e": np.array([2.0, 3.0]),
    }
    X = np.stack([values.astype(np.float64) for values in columns.values()], axis=1)
    np.testing.assert_array_equal(net.predict(frame(library, columns)), net.predict(X))
    flags = frame(library, {"a": [True, False], "b": [False, False]})
    small = Network([Dense(1)], "squared_error", n_inputs=2)
    np.testing.assert_array_equal(small.predict(flags), small.predict([[1, 0], [0, 0]]))


@needs_narwhals
def test_nullable_columns_without_gaps_half_floats_and_decimals_are_taken():
    import pandas
    import polars

    decimals = [decimal.Decimal("1.5"), decimal.Decimal("-2.25")]
    tables = {
        "Int64": pandas.DataFrame({"c": pandas.array([1, 2], dtype="Int64")}),
        "Float64": pandas.DataFrame({"c": pandas.array([1.5, 2], dtype="Float64")}),
        "boolean": pandas.DataFrame({"c": pandas.array([True, False], dtype="boolean")}),
        "half": pandas.DataFrame({"c": np.array([0.5, 1], np.float16)}),
        "decimal": polars.DataFrame({"c": decimals}),
    }
    values = {"Int64": [1, 2], "Float64": [1.5, 2], "boolean": [1, 0], "half": [0.5, 1]}
    values["decimal"] = [1.5, -2.25]
    if has("pyarrow"):
        import pyarrow

        tables["arrow"] = pandas.DataFrame({"c": pandas.array([1, 2], dtype="int32[pyarrow]")})
        tables["arrow decimal"] = pyarrow.table({"c": decimals})
        values |= {"arrow": [1, 2], "arrow decimal": [1.5, -2.25]}
    net = Network([Dense(1)], "squared_error", n_inputs=1)
    for name, table in tables.items():
        expected = net.predict(np.array(values[name])[:, np.newaxis])
        np.testing.assert_array_equal(net.predict(table), expected)


@needs_narwhals
def test_a_column_of_y_that_is_not_numbers_says_how_to_number_classes(library, X):
    labels = column(library, ["a", "b"] * 30)
    with pytest.raises(ValueError, match=r"^y is \S+, not numbers; .*np.unique\(y, return_inv"):
        network().fit(X, labels, verbose=0)
    with pytest.raises(ValueError, match=r"^y has no value in row 1; fill"):
        network().fit(X, column(library, [1, None] * 30), verbose=0)


@needs_narwhals
def test_what_holds_no_rows_yet_or_is_one_column_is_refused(library, X, y):
    import polars

    net = network(n_inputs=3)
    with pytest.raises(ValueError, match=r"X is a LazyFrame.*give X.collect\(\)$"):
        net.predict(polars.LazyFrame({"a": [1]}))
    with pytest.raises(ValueError, match="X is a single column; give a table"):
        net.predict(column(library, [1.0, 2.0]))
    with pytest.raises(ValueError, match="X is empty: it has no samples"):
        net.predict(named(library, X[:0]))


# ---- copies -------------------------------------------------------------------------------------


@needs_narwhals
def test_a_table_of_one_array_is_read_where_it_lies():
    import pandas
    import polars

    from fastgd._frames import to_features

    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    columns = np.asfortranarray(rows)
    tables = [
        (rows, pandas.DataFrame(rows, columns=NAMES, copy=False)),
        (columns, pandas.DataFrame(columns, columns=NAMES, copy=False)),
        (columns, polars.DataFrame({name: columns[:, i] for i, name in enumerate(NAMES)})),
    ]
    if has("pyarrow"):
        import pyarrow

        parts = {name: pyarrow.array(columns[:, i]) for i, name in enumerate(NAMES)}
        tables.append((columns, pyarrow.table(parts)))
    for source, table in tables:
        found = to_features("X", table, np.dtype(np.float32))
        np.testing.assert_array_equal(found, rows)
        assert np.shares_memory(found, source) or type(table).__module__.startswith("polars")
        assert not found.flags.writeable
        assert not found.flags.owndata


@needs_narwhals
def test_scattered_columns_become_rows_of_the_dtype_that_holds_them(library):
    from fastgd._frames import to_features

    f4, f8 = np.dtype(np.float32), np.dtype(np.float64)
    blocks = [np.arange(5 * i, 5 * i + 5) for i in range(20)]
    for kinds, dtype, expected in (
        ([np.uint8], f4, np.uint8),
        ([np.float64], f4, np.float32),
        ([np.float32], f8, np.float32),
        ([np.int64, np.float32], f4, np.float32),
        ([np.int64, np.float32], f8, np.float64),
    ):
        # A third, unequal distance from one column to the next
        arrays = [
            np.array(values, kinds[i % len(kinds)])
            for i, values in enumerate([*blocks[:7], *blocks[9:]])
        ]
        table = frame(library, {f"c{i}": array for i, array in enumerate(arrays)})
        found = to_features("X", table, dtype)
        np.testing.assert_array_equal(found, np.stack(arrays, axis=1))
        if found.flags.owndata:
            assert found.dtype == expected
            assert found.flags.c_contiguous


def test_an_array_in_columns_is_gathered_about_as_fast_as_one_in_rows(rng):
    """The rows of the next step were once asked for over the whole array: 68 times as slow."""
    X = rng.normal(size=(20_000, 8)).astype(np.float32)
    y = rng.integers(0, 2, len(X))
    best = {}
    for _ in range(4):
        for order in "CF":
            net = Network([Dense(32, "relu"), Dense(2)], "cross_entropy")
            data = np.array(X, order=order)
            began = time.process_time()
            net.fit(data, y, n_threads=1, verbose=0)
            best[order] = min(best.get(order, np.inf), time.process_time() - began)
    assert best["F"] < 8 * best["C"]


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "f2", "f4", "f8", ">f4", "g"])
@pytest.mark.parametrize("to", ["same", "f4", "f8"])
def test_rows_from_columns_of_any_number(rng, dtype, to):
    from fastgd._frames import rows_into

    to = dtype if to == "same" else to
    for n_rows, n_columns in ((0, 3), (1, 1), (1, 9), (7, 3), (1024, 8), (5001, 17), (3000, 700)):
        X = np.asfortranarray(rng.integers(0, 100, (n_rows, n_columns)), dtype)
        for columns in (X, X[::2], X[:, ::-1]):
            wide = np.full((len(columns), n_columns + 2), 7, to)
            rows_into(wide[:, 1:-1], columns)
            np.testing.assert_array_equal(wide[:, 1:-1], columns.astype(to))
            np.testing.assert_array_equal(wide[:, [0, -1]], np.full((len(columns), 2), 7, to))


def test_rows_from_columns_that_are_not_aligned():
    """Most processors read these as well; UndefinedBehaviorSanitizer (make test-asan) does not."""
    from fastgd._frames import rows_into

    memory = np.zeros(8 * 30 + 1, np.uint8)
    X = memory[1:].view(np.float64).reshape((10, 3), order="F")
    X[...] = np.arange(30).reshape(10, 3)
    assert not X.flags.aligned
    rows = np.empty((10, 3))
    rows_into(rows, X)
    np.testing.assert_array_equal(rows, np.arange(30).reshape(10, 3))


def test_rows_take_only_columns_like_them():
    rows = np.zeros((4, 2), np.float32)
    column = np.ones(4, np.float32)
    for bad in (
        [column],
        [column, np.ones(5, np.float32)],
        [column, np.ones(4)],
        [column, np.ones(8, np.float32)[::2]],
        [column, np.zeros(17, np.uint8)[1:].view(np.float32)],
    ):
        with pytest.raises(ValueError, match="column"):
            _kernels.rows_from_columns(rows, bad)
    for wrong in (
        np.zeros((2, 4), np.float32).T,
        np.zeros((4, 4), np.float32)[:, ::2],
        rows[::-1],
        np.zeros(33, np.uint8)[1:].view(np.float32).reshape(4, 2),
        np.zeros((4, 2), "V0"),
        np.zeros((), np.float32),
        np.zeros(4, np.float32),
    ):
        with pytest.raises(ValueError, match="rows must be contiguous"):
            _kernels.rows_from_columns(wrong, [column, column])
    assert not rows.any()


def test_arrays_import_no_package_of_tables():
    code = """
import sys
import numpy as np, fastgd
net = fastgd.Network([fastgd.Dense(1)], "squared_error")
X = np.ones((8, 2))
net.fit(X, X[:, :1], verbose=0)
net.predict(X), net.evaluate(X, X[:, :1]), net.train_step(X, X[:, :1])
net.fit(fastgd.Blocks(X, X[:, :1]), verbose=0)
print(sorted({"narwhals", "pandas", "polars", "pyarrow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_no_table():
    for value in (np.ones(2), [1.0], (1, 2), "text", 3, None, np.float64(1), np.ma.ones(2)):
        assert not is_table(value)


def test_the_message_without_narwhals_is_one_line(monkeypatch):
    """Also where narwhals is there: it is taken away for the test."""
    import polars

    monkeypatch.setitem(sys.modules, "narwhals", None)
    command = r"^reading a table needs narwhals; install it with: pip install 'fastgd\[data\]'$"
    with pytest.raises(ImportError, match=command):
        Network([Dense(1)], "squared_error", n_inputs=1).predict(polars.DataFrame({"a": [1]}))
