"""Encoding of inputs and targets: what is learned, what is kept, and what is refused."""

import contextlib
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastgd.preprocess import MAX_CATEGORIES, Preprocessor
from fastgd.tables import Arrays, Table


def text(*values):
    return np.array(values, dtype=object)


def table(**columns):
    return Table("file.csv", columns)


def column_of(encoder, data, name):
    return encoder.inputs(data, "float64")[:, encoder.feature_names.index(name)]


NUMBERS = np.array([1.0, 2.0, 3.0, 6.0, np.nan, 3.0])
COLORS = text("red", "blue", "red", None, "blue", "red")
PRICES = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])


def test_numbers_are_standardised_and_missing_ones_become_the_median():
    data = table(a=NUMBERS, y=PRICES)
    encoder = Preprocessor.fit(data, target="y")
    assert encoder.feature_names == ["a", "a is missing"]
    filled = np.array([1.0, 2.0, 3.0, 6.0, 3.0, 3.0])
    np.testing.assert_allclose(
        column_of(encoder, data, "a"), (filled - filled.mean()) / filled.std(), rtol=1e-15
    )
    assert column_of(encoder, data, "a is missing").tolist() == [0, 0, 0, 0, 1, 0]


def test_text_becomes_one_column_for_each_value_and_one_for_missing():
    data = table(c=COLORS, y=PRICES)
    encoder = Preprocessor.fit(data, target="y")
    assert encoder.feature_names == ["c = red", "c = blue", "c is missing"]
    np.testing.assert_array_equal(
        encoder.inputs(data, "float32"),
        [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]],
    )
    assert encoder.inputs(data, "float32").dtype == np.float32


def test_unknown_and_newly_missing_values_are_zeros():
    encoder = Preprocessor.fit(table(c=text("a", "b", "a", "b"), y=PRICES[:4]), target="y")
    new = table(c=text("b", "new", None))
    np.testing.assert_array_equal(encoder.inputs(new, "float64"), [[0, 1], [0, 0], [0, 0]])


def test_rare_values_of_a_wide_column_are_joined():
    values = [f"v{i}" for i in range(MAX_CATEGORIES + 20)]
    column = text(*(values + values[:30]))
    encoder = Preprocessor.fit(table(c=column, y=np.arange(len(column)) + 0.5), target="y")
    assert len(encoder.feature_names) == 31
    X = encoder.inputs(table(c=text("v0", "v50", "never seen")), "float64")
    assert encoder.feature_names[-1] == "c is any other"
    np.testing.assert_array_equal(X.sum(axis=1), [1, 1, 1])
    assert X[1, -1] == X[2, -1] == 1


def test_columns_that_teach_nothing_are_left_out():
    data = Table(
        "file.csv",
        {
            "": np.arange(6),
            "constant": np.full(6, 7),
            "same": text(*["x"] * 6),
            "name": text(*"uvwxyz"),
            "gone": np.full(6, np.nan),
            "a": np.arange(6),
            "only if missing": np.array([1, np.nan, 1, 1, 1, np.nan]),
            "y": PRICES,
        },
    )
    encoder = Preprocessor.fit(data, target="y")
    assert encoder.feature_names == ["a", "only if missing", "only if missing is missing"]
    assert np.isfinite(encoder.inputs(data, "float32")).all()


def test_booleans_are_numbers():
    data = table(b=np.array([True, False, True, True]), y=PRICES[:4])
    encoder = Preprocessor.fit(data, target="y")
    assert encoder.feature_names == ["b"]
    assert np.unique(encoder.inputs(data, "float64")).size == 2


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (text("a", "b", "a"), "classification"),
        (np.array([True, False, True]), "classification"),
        (np.array([0, 1, 1]), "classification"),
        (np.array([0.0, 1.0, np.nan]), "classification"),
        (np.repeat(np.arange(10), 5), "classification"),
        (np.repeat(np.arange(10), 4), "regression"),
        (np.repeat(np.arange(21), 50), "regression"),
        (np.array([0.5, 1.0, 1.0]), "regression"),
        (np.arange(50), "regression"),
    ],
)
def test_task_is_found_from_the_target_and_can_be_overridden(values, task):
    data = table(a=np.arange(len(values)), y=values)
    assert Preprocessor.fit(data, target="y").task == task
    if values.dtype.kind != "O":
        for forced in ("classification", "regression"):
            assert Preprocessor.fit(data, target="y", task=forced).task == forced


def test_classification_round_trip_keeps_the_type_of_the_classes():
    for values, classes in (
        (text("no", "yes", None, "no"), ["no", "yes"]),
        (np.array([3, 5, 5, 3]), [3, 5]),
        (np.array([3.0, np.nan, 5.0, 3.0]), [3, 5]),
        (np.array([True, False, True, True]), [False, True]),
        (np.array([0.5, 1.5, 1.5, 0.5]), [0.5, 1.5]),
    ):
        data = table(a=np.arange(4), y=values)
        encoder = Preprocessor.fit(data, target="y", task="classification")
        assert encoder.classes == classes
        assert [type(c) for c in encoder.classes] == [type(c) for c in classes]
        y, known = encoder.targets(data)
        assert y.dtype == np.int64
        assert len(y) == known.sum() == sum(v is not None and v == v for v in values)
        predicted = encoder.decode(np.eye(2)[y])
        assert predicted.tolist() == values[known].tolist()


def test_regression_target_is_scaled_and_predictions_are_scaled_back():
    data = table(a=np.arange(6), y=PRICES)
    encoder = Preprocessor.fit(data, target="y")
    y, known = encoder.targets(data)
    assert known.all()
    assert abs(y.mean()) < 1e-15
    assert abs(y.std() - 1) < 1e-15
    np.testing.assert_allclose(encoder.decode(y[:, None]), PRICES, rtol=1e-15)
    plain = Preprocessor.fit(data, target="y", scale_target=False)
    np.testing.assert_array_equal(plain.targets(data)[0], PRICES)


def test_config_survives_json_and_encodes_the_same():
    data = table(a=NUMBERS / 3, c=COLORS, y=PRICES / 7)
    encoder = Preprocessor.fit(data, target="y")
    again = Preprocessor(json.loads(json.dumps(encoder.config, allow_nan=False)))
    assert again.feature_names == encoder.feature_names
    np.testing.assert_array_equal(again.inputs(data, "float32"), encoder.inputs(data, "float32"))
    np.testing.assert_array_equal(again.targets(data)[0], encoder.targets(data)[0])
    outputs = np.random.default_rng(0).random((6, 1)).astype(np.float32)
    np.testing.assert_array_equal(again.decode(outputs), encoder.decode(outputs))


@pytest.mark.parametrize(("n_columns", "length"), [(40, 6000), (5000, 60)])
def test_a_column_of_another_name_is_asked_about_in_time(n_columns, length):
    """Names of the same letters take the longest to compare; long ones are not shown in full."""
    random = np.random.default_rng(0)
    letters = [chr(0x4E00 + i % 125) for i in range(length)]
    target, *names = ("".join(random.permutation(letters)) for _ in range(1 + n_columns))
    table = Table("a.csv", {name: np.arange(3.0) for name in names})
    began = time.process_time()
    with pytest.raises(ValueError, match=r"a\.csv: no column '") as caught:
        Preprocessor.fit(table, target=target)
    assert time.process_time() - began < 2
    assert len(str(caught.value)) < 21 * 110 + 100


def test_text_columns_include_a_target_of_text():
    data = table(a=np.arange(4), c=text("1", "x", "1", "x"), y=text("1", "2", "b", "b"))
    assert Preprocessor.fit(data, target="y").text_columns == ["c", "y"]
    encoder = Preprocessor.fit(table(a=np.arange(4), y=np.array([0, 1, 0, 1])), target="y")
    assert encoder.text_columns == []


def test_bytes_share_one_centre_and_scale_other_arrays_have_one_each():
    X = np.array([[0, 10], [20, 250]], dtype=np.uint8)
    encoder = Preprocessor.fit(Arrays("f", X, np.array([0, 1])))
    np.testing.assert_allclose(encoder.inputs(Arrays("f", X, None), "float64"),
                               (X - X.mean()) / X.std(), rtol=1e-15)  # fmt: skip
    X = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    encoder = Preprocessor.fit(Arrays("f", X, np.array([0, 1, 1])))
    Z = encoder.inputs(Arrays("f", X, None), "float64")
    np.testing.assert_allclose(Z[:, 0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-15)
    np.testing.assert_array_equal(Z[:, 1], 0)


FITTED = Preprocessor.fit(table(a=NUMBERS, c=COLORS, y=PRICES), target="y")
CLASSES = Preprocessor.fit(table(a=np.arange(4), y=text("u", "v", "u", "v")), target="y")
IMAGES = Preprocessor.fit(Arrays("f.npz", np.arange(6).reshape(3, 2), np.array([0, 1, 0])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FITTED.inputs(table(a=NUMBERS), "float32"), r"no column 'c' .*columns: 'a'\)"),
        (lambda: FITTED.inputs(table(a=text("x", None), c=text("red", "red")), "float32"),
         r"column 'a' holds text such as 'x' \(row 1\)"),
        (lambda: FITTED.inputs(table(a=np.array([1.0, np.inf]), c=text("a", "b")), "float32"),
         r"column 'a' holds infinity \(row 2\)"),
        (lambda: FITTED.inputs(Arrays("f.npz", np.zeros((2, 2)), None), "float32"), "table"),
        (lambda: FITTED.targets(table(a=NUMBERS)), "no column 'y' for the target"),
        (lambda: FITTED.targets(table(y=text("x", "y"))), "the target is text such as 'x'"),
        (lambda: FITTED.targets(table(y=np.array([np.nan]))), "the target has no values"),
        (lambda: CLASSES.targets(table(y=text("u", "w"))), "training did not: 'w'"),
        (lambda: IMAGES.inputs(table(a=NUMBERS), "float32"), "arrays"),
        (lambda: IMAGES.inputs(Arrays("f.npz", np.zeros((2, 3)), None), "float32"), "takes 2"),
        (lambda: IMAGES.inputs(Arrays("f.npz", np.full((1, 2), np.nan), None), "float32"), "NaN"),
        (lambda: IMAGES.targets(Arrays("f.npz", np.zeros((2, 2)), None)), "no labels"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_the_encoding_are_refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).startswith(("file.csv:", "f.npz:"))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (table(a=NUMBERS, y=PRICES), {}, "which column is the target.*'a', 'y'"),
        (table(a=NUMBERS, y=PRICES), {"target": "z"}, "no column 'z'.*'a', 'y'"),
        (table(y=PRICES), {"target": "y"}, "no column besides the target"),
        (table(a=NUMBERS, y=np.full(6, np.nan)), {"target": "y"}, "no values"),
        (table(a=NUMBERS, y=text(*"xxxxxx")), {"target": "y"}, "one class only: 'x'"),
        (table(a=NUMBERS, y=COLORS), {"target": "y", "task": "regression"}, "such as 'red'"),
        (table(a=NUMBERS, y=PRICES * np.inf), {"target": "y"}, "the target holds infinity"),
        (table(a=PRICES * np.inf, y=PRICES), {"target": "y"}, "column 'a' holds infinity"),
        (table(a=NUMBERS, y=PRICES), {"target": "y", "task": "ranking"}, "'ranking'"),
        (Arrays("file.npz", np.zeros((2, 2)), None), {}, "no labels"),
        (Arrays("file.npz", np.zeros((2, 0)), np.array([0, 1])), {}, "no samples"),
        (Arrays("file.npz", np.full((2, 1), np.nan), np.array([0, 1])), {}, "NaN"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor.fit(data, **options)


def paths(value, at=()):
    """Every place in a JSON value."""
    yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*at, key))


@pytest.mark.parametrize("encoder", [FITTED, CLASSES, IMAGES])
@pytest.mark.parametrize("junk", [None, [], {}, "x", -1, float("nan"), [None], {"kind": "text"}])
def test_malformed_configuration_is_refused_or_works(encoder, junk):
    for path in paths(encoder.config):
        config = json.loads(json.dumps(encoder.config))
        if path:
            inner = config
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = junk
        else:
            config = junk
        loaded = None
        # Junk may be legal where it is put; any error but this one is a failure.
        with contextlib.suppress(ValueError):
            loaded = Preprocessor(config)
        if loaded is None:
            with pytest.raises(ValueError, match="malformed"):
                Preprocessor(config)
            continue
        n = len(loaded.feature_names)
        outputs = np.zeros((1, len(loaded.classes) if loaded.task == "classification" else 1))
        assert n >= 1
        assert len(loaded.decode(outputs)) == 1
        assert isinstance(loaded.text_columns, list)


@pytest.mark.parametrize(
    ("encoder", "key", "value"),
    [
        (CLASSES, "classes", {"u": 1, "v": 2}),
        (CLASSES, "classes", "uv"),
        (CLASSES, "classes", ["u", "\ud800"]),
        (CLASSES, "target", "\ud800"),
        (CLASSES, "columns", {"u": 1, "v": 2}),
        (IMAGES, "center", "u"),
        (IMAGES, "scale", {"1": 1}),
    ],
)
def test_lists_and_text_of_a_configuration_are_lists_and_text(encoder, key, value):
    with pytest.raises(ValueError, match="malformed preprocessing"):
        Preprocessor(encoder.config | {key: value})


@pytest.mark.parametrize("values", ["uv", {"u": 1, "v": 2}])
def test_values_of_a_column_are_a_list(values):
    column = {"name": "c", "kind": "text", "values": values, "other": False}
    with pytest.raises(ValueError, match="malformed preprocessing"):
        Preprocessor(FITTED.config | {"columns": [column]})


@given(
    hnp.arrays(
        np.float64,
        st.integers(2, 30),
        elements=st.one_of(st.just(np.nan), st.floats(-1e300, 1e300, allow_subnormal=False)),
    )
)
def test_any_finite_numbers_are_encoded_finite(values):
    data = table(a=values, b=np.arange(len(values)), y=np.arange(len(values)) + 0.5)
    encoder = Preprocessor.fit(data, target="y")
    X = encoder.inputs(data, "float64")
    assert np.isfinite(X).all()
    if "a" in encoder.feature_names:
        assert np.abs(column_of(encoder, data, "a")).max() <= np.sqrt(len(values)) * (1 + 1e-9)


def test_a_value_absurdly_far_from_training_is_cut_off():
    new = table(a=np.array([1.7e308, -1.7e308]), c=text("red", "red"))
    X = FITTED.inputs(new, "float32")
    assert X[:, 0].tolist() == [1e6, -1e6]
