"""Data and parameters in every form, good and bad: the outcome is that of scikit-learn's classes.

The outcome is a result or an error, word for word, and the warnings. Each form of the data goes
through every operation that takes it.
"""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from fastgd.sklearn import _originals
from sklearn_features import (
    HAS_REGRESSOR_LOSS,
    HAS_SAMPLE_WEIGHT,
    REFUSES_BYTES,
    REFUSES_NAN_WEIGHTS,
)
from sklearn_pairs import ORIGINAL, OURS, assert_same, assert_same_outcome, fitted, outcome

RNG = np.random.RandomState(0)
N, FEATURES = 40, 6
X = RNG.randint(-3, 4, (N, FEATURES)) * (RNG.uniform(size=(N, FEATURES)) < 0.7) / 2
BINARY = (X.sum(axis=1) > 0).astype(int)
CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
LABELS = np.column_stack([BINARY, CLASSES == 0, X[:, 2] > 0]).astype(int)
NUMBERS = X @ RNG.normal(size=FEATURES)
TARGETS = np.column_stack([NUMBERS, X[:, 0], -X[:, 1]])
WEIGHTS = RNG.uniform(0.5, 2, N)
NAMES = np.array(["low", "middle", "high"])[CLASSES]

SETTINGS = {
    "hidden_layer_sizes": (5,),
    "batch_size": 16,
    "max_iter": 3,
    "learning_rate_init": 0.01,
    "random_state": 0,
}


def classifier(mlp, **changes):
    return mlp.MLPClassifier(**{**SETTINGS, **changes})


def regressor(mlp, **changes):
    return mlp.MLPRegressor(**{**SETTINGS, **changes})


def frozen(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def with_value(values, value):
    values = np.array(values, dtype=float)
    values.flat[7] = value
    return values


def spread(values):
    """Return the values as a view with gaps in both directions."""
    wide = np.full((2 * len(values), 3 * values.shape[1]), np.nan)
    wide[::2, ::3] = values
    return wide[::2, ::3]


def shuffled_csr(values):
    """Return a CSR matrix whose column indices are not sorted within a row."""
    matrix = scipy.sparse.csr_matrix(values)
    for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        matrix.indices[start:stop] = matrix.indices[start:stop][::-1].copy()
        matrix.data[start:stop] = matrix.data[start:stop][::-1].copy()
    matrix.has_sorted_indices = False
    return matrix


def duplicated_csr(values):
    """Return a CSR matrix that holds each element as two halves, and some zeros."""
    half = scipy.sparse.csr_matrix(values / 2).tocoo()
    rows, columns = (np.concatenate([i, i, [0, 3]]) for i in (half.row, half.col))
    data = np.concatenate([half.data, half.data, [0.0, 0.0]])
    order = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[order], np.arange(len(values) + 1))
    return scipy.sparse.csr_matrix((data[order], columns[order], indptr), values.shape)


def long_indices(matrix):
    matrix.indices, matrix.indptr = matrix.indices.astype("int64"), matrix.indptr.astype("int64")
    return matrix


def frame(values, **options):
    return pd.DataFrame(values, columns=list("abcdef")[: np.shape(values)[1]], **options)


def mixed_frame(values):
    table = frame(values)
    return table.assign(a=table.a.astype("float32"), b=(2 * table.b).astype(int), c=table.c > 0)


class Array:
    """An object that NumPy can make an array of."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class Labelled(np.ndarray):
    """A subclass of arrays."""


# name -> function of X, in which everything is a multiple of 1/2
GOOD_X = {
    "plain": lambda X: X,
    "fortran": np.asfortranarray,
    "read_only": frozen,
    "spread": spread,
    "every_other_row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed_rows": lambda X: X[::-1].copy()[::-1],
    "reversed_columns": lambda X: X[:, ::-1].copy()[:, ::-1],
    "broadcast_column": lambda X: np.broadcast_to(X[:, :1], X.shape),
    "unaligned": lambda X: (
        np.frombuffer(b"x" + X.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(X.shape)
    ),
    "swapped_bytes": lambda X: X.astype(X.dtype.newbyteorder()),
    "subclass": lambda X: X.view(Labelled),
    "float16": lambda X: X.astype("float16"),
    "longdouble": lambda X: X.astype("longdouble"),
    "int8": lambda X: (2 * X).astype("int8"),
    "int32": lambda X: (2 * X).astype("int32"),
    "int64": lambda X: (2 * X).astype("int64"),
    "int64_fortran": lambda X: np.asfortranarray((2 * X).astype("int64")),
    "uint8": lambda X: (2 * X + 6).astype("uint8"),
    "bool": lambda X: X > 0,
    "objects": lambda X: X.astype(object),
    "digits": lambda X: X.astype(str).astype(object),
    "lists": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "list_of_rows": list,
    "array_interface": Array,
    "masked_nothing": lambda X: np.ma.masked_array(X),
    "frame": frame,
    "frame_of_one_block": lambda X: frame(np.asfortranarray(X)),
    "mixed_frame": mixed_frame,
    "nullable_frame": lambda X: frame(X).astype("Float64"),
    "nullable_integers": lambda X: frame(2 * X).astype("Int64"),
    "sparse_frame": lambda X: frame(X).astype(pd.SparseDtype("float64", 0.0)),
    "frame_of_objects": lambda X: frame(X).astype(object),
    "frame_with_integer_names": pd.DataFrame,
    "csr": scipy.sparse.csr_matrix,
    "csc": scipy.sparse.csc_matrix,
    "coo": scipy.sparse.coo_matrix,
    "lil": scipy.sparse.lil_matrix,
    "dok": scipy.sparse.dok_matrix,
    "bsr": scipy.sparse.bsr_matrix,
    "csr_array": scipy.sparse.csr_array,
    "csc_array": scipy.sparse.csc_array,
    "csr_of_integers": lambda X: scipy.sparse.csr_matrix((2 * X).astype(int)),
    "csr_of_bools": lambda X: scipy.sparse.csr_matrix(X > 0),
    "csr_unsorted": shuffled_csr,
    "csr_duplicates": duplicated_csr,
    "csr_long_indices": lambda X: long_indices(scipy.sparse.csr_matrix(X)),
    "csc_long_indices": lambda X: long_indices(scipy.sparse.csc_matrix(X)),
    "csr_view": lambda X: scipy.sparse.csr_matrix(np.vstack([X, X]))[: len(X)],
    "csr_empty": lambda X: scipy.sparse.csr_matrix(X.shape),
}
FLOAT32_X = {
    "float32": lambda X: X.astype("float32"),
    "float32_fortran": lambda X: np.asfortranarray(X.astype("float32")),
    "float32_spread": lambda X: X.astype("float32").repeat(2, axis=1)[:, ::2],
    "float32_read_only": lambda X: frozen(X.astype("float32")),
    "float32_csr": lambda X: scipy.sparse.csr_matrix(X.astype("float32")),
    "float32_csc": lambda X: scipy.sparse.csc_matrix(X.astype("float32")),
    "float32_frame": lambda X: frame(X.astype("float32")),
}
BAD_X = {
    "nan": lambda X: with_value(X, np.nan),
    "nan_fortran": lambda X: np.asfortranarray(with_value(X, np.nan)),
    "infinity": lambda X: with_value(X, np.inf),
    "minus_infinity": lambda X: with_value(X, -np.inf),
    "nan_float32": lambda X: with_value(X, np.nan).astype("float32"),
    "infinities_that_cancel": lambda X: with_value(with_value(X, np.inf)[::-1], -np.inf),
    "nan_csr": lambda X: scipy.sparse.csr_matrix(with_value(X, np.nan)),
    "infinity_csc": lambda X: scipy.sparse.csc_matrix(with_value(X, np.inf)),
    "nan_frame": lambda X: frame(with_value(X, np.nan)),
    "missing_in_nullable_frame": lambda X: frame(with_value(X, np.nan)).astype("Float64"),
    "nan_objects": lambda X: with_value(X, np.nan).astype(object),
    "none_objects": lambda X: np.where(X > 1, None, X),
    "one_dimension": lambda X: X[:, 0],
    "number": lambda X: 1.0,
    "numpy_number": lambda X: np.float64(1),
    "three_dimensions": lambda X: X[:, :, None],
    "no_rows": lambda X: X[:0],
    "no_columns": lambda X: X[:, :0],
    "no_rows_csr": lambda X: scipy.sparse.csr_matrix((0, X.shape[1])),
    "fewer_columns": lambda X: X[:, :-1],
    "more_columns": lambda X: np.hstack([X, X]),
    "fewer_columns_csr": lambda X: scipy.sparse.csr_matrix(X[:, :-1]),
    "fewer_columns_frame": lambda X: frame(X[:, :-1]),
    "fewer_rows": lambda X: X[:-1],
    "complex": lambda X: X + 1j,
    "complex_csr": lambda X: scipy.sparse.csr_matrix(X + 1j),
    "text": lambda X: np.full(X.shape, "a"),
    "text_objects": lambda X: np.full(X.shape, "a", dtype=object),
    "bytes": lambda X: np.full(X.shape, b"1"),
    "dates": lambda X: np.zeros(X.shape, "datetime64[s]"),
    "ragged_lists": lambda X: [[1.0, 2.0], [3.0]],
    "none": lambda X: None,
    "word": lambda X: "X",
    "dictionary": lambda X: {"a": X[:, 0]},
    "matrix": lambda X: X.view(np.matrix),
    "record": lambda X: np.zeros(N, dtype=[("a", float), ("b", float)]),
    "text_frame": lambda X: frame(X).astype(object).assign(a="text"),
    "empty_list": lambda X: [],
    "frame_with_mixed_names": lambda X: pd.DataFrame(X, columns=["a", 1, 2, 3, 4, 5]),
}

GOOD_CLASSES = {
    "plain": lambda y: y,
    "binary": lambda y: y > 0,
    "int8": lambda y: y.astype("int8"),
    "uint8": lambda y: y.astype("uint8"),
    "uint64_of_64_bits": lambda y: y.astype("uint64") + np.uint64(2**63),
    "negative": lambda y: y - 1,
    "sparse_numbers": lambda y: 1000 * y,
    "read_only": frozen,
    "strided": lambda y: y.repeat(2)[::2],
    "float": lambda y: y.astype("float64"),
    "float32": lambda y: y.astype("float32"),
    "strings": lambda y: NAMES,
    "object_strings": lambda y: NAMES.astype(object),
    "list": lambda y: y.tolist(),
    "list_of_strings": lambda y: NAMES.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "column": lambda y: y[:, None],
    "column_of_strings": lambda y: NAMES[:, None],
    "list_of_columns": lambda y: y[:, None].tolist(),
    "one_class": lambda y: np.zeros(N, int),
    "one_string": lambda y: np.full(N, "a"),
    "series": pd.Series,
    "series_of_strings": lambda y: pd.Series(NAMES),
    "series_with_index": lambda y: pd.Series(y, index=np.arange(N)[::-1]),
    "nullable_series": lambda y: pd.Series(y, dtype="Int64"),
    "categories": lambda y: pd.Series(NAMES, dtype="category"),
    "one_column_frame": lambda y: pd.DataFrame({"y": y}),
    "labels": lambda y: LABELS,
    "labels_bool": lambda y: LABELS.astype(bool),
    "labels_float": lambda y: LABELS.astype(float),
    "labels_fortran": lambda y: np.asfortranarray(LABELS),
    "labels_list": lambda y: LABELS.tolist(),
    "labels_csr": lambda y: scipy.sparse.csr_matrix(LABELS),
    "labels_csc": lambda y: scipy.sparse.csc_matrix(LABELS),
    "labels_frame": lambda y: pd.DataFrame(LABELS),
    "labels_none_set": lambda y: np.zeros_like(LABELS),
    "two_labels": lambda y: LABELS[:, :2],
}
BAD_CLASSES = {
    "continuous": lambda y: NUMBERS,
    "continuous_table": lambda y: TARGETS,
    "objects": lambda y: y.astype(object),
    "nan": lambda y: with_value(y, np.nan),
    "infinity": lambda y: with_value(y, np.inf),
    "nan_objects": lambda y: with_value(y, np.nan).astype(object),
    "none_inside": lambda y: np.where(y == 0, None, y.astype(object)),
    "nan_series": lambda y: pd.Series(with_value(y, np.nan)),
    "missing": lambda y: pd.Series(with_value(y, np.nan)).astype("Int64"),
    "words_and_numbers": lambda y: np.where(y == 0, "a", y.astype(object)),
    "none": lambda y: None,
    "number": lambda y: 1,
    "word": lambda y: "y",
    "complex": lambda y: y + 1j,
    "short": lambda y: y[:-1],
    "long": lambda y: np.append(y, 0),
    "short_labels": lambda y: LABELS[:-1],
    "empty": lambda y: y[:0],
    "row": lambda y: y[None, :],
    "several_classes_each": lambda y: np.column_stack([y, y]),
    "three_dimensions": lambda y: LABELS[:, :, None],
    "ragged": lambda y: [[0], [1, 2]] * (N // 2),
    "dictionary": lambda y: {"y": y},
    "sparse_column": lambda y: scipy.sparse.csr_matrix(y[:, None]),
}
if REFUSES_BYTES:
    BAD_CLASSES["bytes"] = lambda y: NAMES.astype("S")
GOOD_NUMBERS = {
    "plain": lambda y: y,
    "column": lambda y: y[:, None],
    "one_row_of_columns": lambda y: y[:, None].tolist(),
    "list": lambda y: y.tolist(),
    "int64": lambda y: CLASSES,
    "int8": lambda y: CLASSES.astype("int8"),
    "bool": lambda y: BINARY.astype(bool),
    "float32": lambda y: y.astype("float32"),
    "float16": lambda y: y.astype("float16"),
    "longdouble": lambda y: y.astype("longdouble"),
    "swapped_bytes": lambda y: y.astype(">f8"),
    "read_only": frozen,
    "strided": lambda y: y.repeat(2)[::2],
    "reversed": lambda y: y[::-1],
    "objects": lambda y: y.astype(object),
    "series": pd.Series,
    "nullable_series": lambda y: pd.Series(y, dtype="Float64"),
    "frame": lambda y: pd.DataFrame(TARGETS),
    "targets": lambda y: TARGETS,
    "targets_fortran": lambda y: np.asfortranarray(TARGETS),
    "targets_float32": lambda y: TARGETS.astype("float32"),
    "targets_integers": lambda y: LABELS,
    "targets_strided": lambda y: TARGETS.repeat(2, axis=1)[:, ::2],
    "constant": lambda y: np.ones(N),
}
BAD_NUMBERS = {
    "nan": lambda y: with_value(y, np.nan),
    "infinity": lambda y: with_value(y, -np.inf),
    "nan_column": lambda y: with_value(y, np.nan)[:, None],
    "nan_targets": lambda y: with_value(TARGETS, np.nan),
    "nan_float32": lambda y: with_value(y, np.nan).astype("float32"),
    "missing": lambda y: pd.Series(with_value(y, np.nan)).astype("Float64"),
    "strings": lambda y: NAMES,
    "digits": lambda y: y.astype(str),
    "object_strings": lambda y: NAMES.astype(object),
    "none": lambda y: None,
    "number": lambda y: 1.0,
    "complex": lambda y: y + 1j,
    "short": lambda y: y[:-1],
    "long_targets": lambda y: np.vstack([TARGETS, TARGETS]),
    "empty": lambda y: y[:0],
    "row": lambda y: y[None, :],
    "three_dimensions": lambda y: TARGETS[:, :, None],
    "no_columns": lambda y: TARGETS[:, :0],
    "dates": lambda y: np.zeros(N, "datetime64[s]"),
}
GOOD_WEIGHTS = {
    "none": lambda w: None,
    "plain": lambda w: w,
    "integers": lambda w: np.arange(N) % 3,
    "bool": lambda w: np.arange(N) % 3 > 0,
    "list": lambda w: w.tolist(),
    "series": pd.Series,
    "strided": lambda w: w.repeat(2)[::2],
    "read_only": frozen,
    "objects": lambda w: w.astype(object),
    "number": lambda w: 2.0,
    "integer": lambda w: 3,
    "some_zero": lambda w: np.where(np.arange(N) % 5 == 0, 0, w),
    "negative": lambda w: np.where(np.arange(N) % 5 == 0, -0.1, w),
    "large": lambda w: 1e100 * w,
    "small": lambda w: 1e-100 * w,
}
BAD_WEIGHTS = {
    "nan": lambda w: with_value(w, np.nan),
    "infinity": lambda w: with_value(w, np.inf),
    "missing": lambda w: pd.Series(with_value(w, np.nan)),
    "short": lambda w: w[:-1],
    "long": lambda w: np.append(w, 1),
    "empty": lambda w: w[:0],
    "column": lambda w: w[:, None],
    "row": lambda w: w[None, :],
    "strings": lambda w: NAMES,
    "word": lambda w: "balanced",
    "complex": lambda w: w + 1j,
    "sparse": lambda w: scipy.sparse.csr_matrix(w[:, None]),
}


PREDICTING = ("predict", "predict_proba", "predict_log_proba")


def predictions(model, data=X):
    return [getattr(model, name)(data) for name in PREDICTING if hasattr(model, name)]


def partial_fit(model, data, y, **more):
    """Call partial_fit twice: the second finds an estimator that knows classes and features."""
    known = {"classes": [0, 1, 2]} if hasattr(model, "predict_proba") else {}
    return model.partial_fit(data, y, **known, **more).partial_fit(data, y, **more)


def state(data):
    """Return what a call may have changed in the caller's data."""
    if scipy.sparse.issparse(data):
        return [data.toarray(), getattr(data, "indices", None)]
    return np.array(data) if isinstance(data, (np.ndarray, pd.DataFrame, pd.Series)) else None


# Each operation takes a new estimator, a form of the data, and for X a plain target.
ON_X = {
    "fit": lambda model, data, y: fitted(model.fit(data, y)),
    "partial_fit": lambda model, data, y: fitted(partial_fit(model, data, y)),
    "predict": lambda model, data, y: predictions(model.fit(X, y), data),
    "score": lambda model, data, y: model.fit(X, y).score(data, y),
}
ON_Y = {
    "fit": lambda model, y: [fitted(model.fit(X, y)), predictions(model)],
    "partial_fit": lambda model, y: fitted(partial_fit(model, X, y)),
    "early_stopping": lambda model, y: fitted(model.set_params(early_stopping=True).fit(X, y)),
    "score": lambda model, y: model.fit(X, y).score(X, y),
    "more": lambda model, y: fitted(model.fit(X, y).partial_fit(X, y)),
}
ON_WEIGHTS = {
    "fit": lambda model, w: fitted(model.fit(X, CLASSES, w)),
    "partial_fit": lambda model, w: fitted(partial_fit(model, X, CLASSES, sample_weight=w)),
    "early_stopping": lambda model, w: fitted(
        model.set_params(early_stopping=True).fit(X, CLASSES, sample_weight=w)
    ),
    "score": lambda model, w: model.fit(X, CLASSES).score(X, CLASSES, w),
}


def outcomes(operations, make, form, *target, tolerance=1e-9):
    """Hold every operation on new data of the form to the original's; return whether each fails."""
    fails = {}
    for name, operation in operations.items():

        def call(mlp, operation=operation):
            data = form()
            return operation(make(mlp), data, *target), state(data)

        fails[name] = assert_same_outcome(call, tolerance).error is not None
    return fails


BOTH = pytest.mark.parametrize("make", [classifier, regressor])


def target_of(make):
    return CLASSES if make is classifier else TARGETS


@BOTH
@pytest.mark.parametrize("name", GOOD_X)
def test_good_x(name, make):
    fails = outcomes(ON_X, make, lambda: GOOD_X[name](X), target_of(make))
    assert not any(fails.values())


@BOTH
@pytest.mark.parametrize("name", FLOAT32_X)
def test_x_of_float32(name, make):
    form = FLOAT32_X[name]
    fails = outcomes(ON_X, make, lambda: form(X), target_of(make), tolerance=1e-4)
    assert not any(fails.values())


@BOTH
@pytest.mark.parametrize("name", BAD_X)
def test_bad_x(name, make):
    fails = outcomes(ON_X, make, lambda: BAD_X[name](X), target_of(make))
    # Some are wrong only beside y, others only for what has learned from other features.
    assert fails["score"]


@pytest.mark.parametrize("name", GOOD_CLASSES)
def test_good_classes(name):
    fails = outcomes(ON_Y, classifier, lambda: GOOD_CLASSES[name](CLASSES))
    assert not fails["fit"]


@pytest.mark.parametrize("name", BAD_CLASSES)
def test_bad_classes(name):
    fails = outcomes(ON_Y, classifier, lambda: BAD_CLASSES[name](CLASSES))
    assert all(fails.values())


if not REFUSES_BYTES:

    @pytest.mark.parametrize("name", ON_Y)
    def test_classes_of_bytes(name):
        def call(mlp):
            return ON_Y[name](classifier(mlp), NAMES.astype("S"))

        expected, found = outcome(call, ORIGINAL), outcome(call, OURS)
        assert found.error == expected.error
        assert (expected.error is not None) == (name == "partial_fit")  # of other classes
        assert_same(found.result, expected.result)
        # scikit-learn says that they are deprecated whenever it looks at them, fastgd looks less.
        assert set(found.warnings) == set(expected.warnings)


@pytest.mark.parametrize("name", GOOD_NUMBERS)
def test_good_numbers(name):
    fails = outcomes(ON_Y, regressor, lambda: GOOD_NUMBERS[name](NUMBERS))
    assert not any(fails.values())


@pytest.mark.parametrize("name", BAD_NUMBERS)
def test_bad_numbers(name):
    fails = outcomes(ON_Y, regressor, lambda: BAD_NUMBERS[name](NUMBERS))
    assert all(fails.values())


if HAS_SAMPLE_WEIGHT:

    @BOTH
    @pytest.mark.parametrize("name", GOOD_WEIGHTS)
    def test_good_weights(name, make):
        fails = outcomes(ON_WEIGHTS, make, lambda: GOOD_WEIGHTS[name](WEIGHTS))
        assert not fails["fit"]

    @BOTH
    def test_weights_of_float32(make):
        # scikit-learn adds them up in float32.
        fails = outcomes(ON_WEIGHTS, make, lambda: WEIGHTS.astype("float32"), tolerance=1e-4)
        assert not any(fails.values())

    @BOTH
    @pytest.mark.parametrize("name", BAD_WEIGHTS)
    def test_bad_weights(name, make):
        fails = outcomes(ON_WEIGHTS, make, lambda: BAD_WEIGHTS[name](WEIGHTS))
        if make is classifier and name in ("nan", "infinity", "missing"):
            assert fails.pop("score") == REFUSES_NAN_WEIGHTS
        assert all(fails.values())


# ---- dtypes that meet ----------------------------------------------------------------------------

DTYPES = ["float16", "float32", "float64", "int8", "int64", "bool"]


@BOTH
@pytest.mark.parametrize("other", DTYPES)
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_dtype_of_predictions(own, other, make):
    def call(mlp):
        model = make(mlp).fit(X.astype(own), target_of(make))
        again = (
            make(mlp)
            .fit(X.astype(own), target_of(make))
            .partial_fit(X.round().astype(other), target_of(make))
        )
        return predictions(model, X.round().astype(other)), fitted(again)

    assert assert_same_outcome(call, 1e-4).error is None


# ---- calls that are wrong, or nearly -------------------------------------------------------------

WARM = {"warm_start": True, "solver": "sgd"}
CALLS = {
    "predict_before_fit": lambda mlp: classifier(mlp).predict(X),
    "predict_proba_before_fit": lambda mlp: classifier(mlp).predict_proba(X),
    "predict_numbers_before_fit": lambda mlp: regressor(mlp).predict(X),
    "score_before_fit": lambda mlp: regressor(mlp).score(X, NUMBERS),
    "predict_none_before_fit": lambda mlp: classifier(mlp).predict(None),
    "partial_fit_without_classes": lambda mlp: classifier(mlp).partial_fit(X, CLASSES),
    "partial_fit_with_other_classes_later": lambda mlp: (
        classifier(mlp)
        .partial_fit(X, CLASSES, classes=[0, 1, 2])
        .partial_fit(X, CLASSES, classes=[0, 1])
    ),
    "partial_fit_with_an_unknown_class": lambda mlp: (
        classifier(mlp).partial_fit(X, CLASSES, classes=[0, 1, 2]).partial_fit(X, CLASSES + 1)
    ),
    "partial_fit_with_an_unknown_class_at_once": lambda mlp: classifier(mlp).partial_fit(
        X, CLASSES, classes=[0, 1]
    ),
    "partial_fit_with_an_unknown_string": lambda mlp: (
        classifier(mlp)
        .partial_fit(X, NAMES, classes=np.unique(NAMES))
        .partial_fit(X, np.full(N, "other"))
    ),
    "partial_fit_of_classes_after_strings": lambda mlp: (
        classifier(mlp).fit(X, NAMES).partial_fit(X, CLASSES)
    ),
    "partial_fit_of_continuous_values_after_classes": lambda mlp: (
        classifier(mlp).fit(X, CLASSES).partial_fit(X, NUMBERS)
    ),
    "partial_fit_of_floats_after_classes": lambda mlp: fitted(
        classifier(mlp).fit(X, CLASSES).partial_fit(X, CLASSES.astype(float))
    ),
    "partial_fit_of_some_classes": lambda mlp: fitted(
        classifier(mlp).fit(X, CLASSES).partial_fit(X[CLASSES < 2], CLASSES[CLASSES < 2])
    ),
    "partial_fit_of_one_sample": lambda mlp: fitted(
        classifier(mlp).fit(X, CLASSES).partial_fit(X[:1], CLASSES[:1])
    ),
    "partial_fit_of_one_sample_at_first": lambda mlp: fitted(
        classifier(mlp).partial_fit(X[:1], CLASSES[:1], classes=[0, 1, 2])
    ),
    "partial_fit_of_labels": lambda mlp: fitted(
        classifier(mlp).partial_fit(X, LABELS, classes=[0, 1, 2]).partial_fit(X, LABELS)
    ),
    "partial_fit_of_fewer_labels": lambda mlp: (
        classifier(mlp).fit(X, LABELS).partial_fit(X, LABELS[:, :2])
    ),
    "partial_fit_of_binary_classes": lambda mlp: fitted(
        classifier(mlp).partial_fit(X, BINARY, classes=[0, 1]).partial_fit(X[:1], [1])
    ),
    "partial_fit_of_fewer_targets": lambda mlp: fitted(
        # the first goes the long way, the second may go straight to the engine
        regressor(mlp).fit(X, TARGETS).partial_fit(X, NUMBERS).partial_fit(X, NUMBERS)
    ),
    "partial_fit_with_early_stopping": lambda mlp: classifier(mlp, early_stopping=True).partial_fit(
        X, CLASSES, classes=[0, 1, 2]
    ),
    "partial_fit_with_lbfgs": lambda mlp: classifier(mlp, solver="lbfgs").partial_fit,
    "has_partial_fit": lambda mlp: [
        hasattr(make(mlp, solver=solver), "partial_fit")
        for make in (classifier, regressor)
        for solver in ("lbfgs", "sgd", "adam")
    ],
    "fit_of_other_classes_in_a_warm_start": lambda mlp: (
        classifier(mlp, **WARM).fit(X, CLASSES).fit(X, CLASSES + 1)
    ),
    "fit_of_fewer_classes_in_a_warm_start": lambda mlp: (
        classifier(mlp, **WARM).fit(X, CLASSES).fit(X, BINARY)
    ),
    "fit_of_strings_in_a_warm_start": lambda mlp: (
        classifier(mlp, **WARM).fit(X, CLASSES).fit(X, NAMES)
    ),
    "fit_of_fewer_features_in_a_warm_start": lambda mlp: (
        regressor(mlp, **WARM).fit(X, NUMBERS).fit(X[:, :2], NUMBERS)
    ),
    "fit_of_fewer_features_anew": lambda mlp: fitted(
        regressor(mlp).fit(X, NUMBERS).fit(X[:, :2], NUMBERS)
    ),
    "fit_of_other_classes_anew": lambda mlp: fitted(
        classifier(mlp).fit(X, CLASSES).fit(X, NAMES[::-1])
    ),
    "early_stopping_with_few_samples": lambda mlp: fitted(
        classifier(mlp, early_stopping=True).fit(X[:10], CLASSES[:10])
    ),
    "early_stopping_with_a_rare_class": lambda mlp: classifier(mlp, early_stopping=True).fit(
        X, np.arange(N) == 0
    ),
    "batch_larger_than_the_data": lambda mlp: fitted(
        classifier(mlp, batch_size=1000).fit(X, CLASSES)
    ),
    "batch_of_an_odd_size": lambda mlp: fitted(classifier(mlp, batch_size=7).fit(X, CLASSES)),
    "values_that_overflow": lambda mlp: regressor(
        mlp, solver="sgd", activation="identity", learning_rate_init=10.0, max_iter=100
    ).fit(100 * X, NUMBERS),
    "verbose": lambda mlp: printed(classifier(mlp, verbose=True, early_stopping=True)),
    "verbose_end": lambda mlp: printed(
        classifier(mlp, verbose=1, tol=10.0, n_iter_no_change=1, max_iter=9)
    ),
    "verbose_adaptive": lambda mlp: printed(
        classifier(
            mlp,
            verbose=True,
            tol=10.0,
            n_iter_no_change=1,
            max_iter=30,
            solver="sgd",
            learning_rate="adaptive",
        )
    ),
}
# These are meant to succeed; all others are meant to fail.
SUCCEED = {
    "partial_fit_of_floats_after_classes",
    "partial_fit_of_some_classes",
    "partial_fit_of_one_sample",
    "partial_fit_of_one_sample_at_first",
    "partial_fit_of_labels",
    "partial_fit_of_binary_classes",
    "partial_fit_of_fewer_targets",
    "has_partial_fit",
    "fit_of_fewer_features_anew",
    "fit_of_other_classes_anew",
    "batch_larger_than_the_data",
    "batch_of_an_odd_size",
    "verbose",
    "verbose_end",
    "verbose_adaptive",
}
if not _originals.NEEDS_TWO_TO_VALIDATE:
    SUCCEED.add("early_stopping_with_few_samples")


def printed(model):
    """Return what a model prints while it learns."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        model.fit(X, CLASSES)
    return stream.getvalue()


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    expected = assert_same_outcome(CALLS[name])
    assert (expected.error is None) == (name in SUCCEED)


def test_random_state_of_the_caller_is_drawn_from():
    def call(mlp):
        random_state = np.random.RandomState(5)
        model = classifier(mlp, random_state=random_state, early_stopping=True).fit(X, CLASSES)
        return fitted(model.fit(X, CLASSES)), random_state.uniform()

    assert_same_outcome(call)


def test_random_state_of_the_process_is_drawn_from():
    def call(mlp):
        # The legacy generator is the one that random_state=None stands for.
        np.random.seed(3)  # noqa: NPY002
        model = classifier(mlp, random_state=None).fit(X, CLASSES)
        return fitted(model), np.random.uniform()  # noqa: NPY002

    assert_same_outcome(call)


# ---- parameters ----------------------------------------------------------------------------------

GOOD_PARAMETERS = [
    {"hidden_layer_sizes": 4},
    {"hidden_layer_sizes": np.int64(4)},
    {"hidden_layer_sizes": [4, 3]},
    {"hidden_layer_sizes": np.array([4, 3])},
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (np.int32(4),)},
    {"alpha": 1},
    {"alpha": np.float32(0.5)},
    {"batch_size": np.int64(5)},
    {"learning_rate_init": np.float64(0.5)},
    {"max_iter": np.int64(2)},
    {"tol": 0},
    {"verbose": 0},
    {"n_iter_no_change": np.inf},
    {"momentum": 0, "solver": "sgd"},
    {"momentum": 1, "solver": "sgd"},
    {"power_t": 0, "solver": "sgd", "learning_rate": "invscaling"},
    {"shuffle": np.bool_(False)},
    {"beta_1": 0},
    {"validation_fraction": 0},
    {"activation": np.str_("tanh")},
]
BAD_PARAMETERS = [
    {"hidden_layer_sizes": 0},
    {"hidden_layer_sizes": -1},
    {"hidden_layer_sizes": (4, 0)},
    {"hidden_layer_sizes": 2.5},
    {"hidden_layer_sizes": "4"},
    {"hidden_layer_sizes": None},
    {"alpha": -1},
    {"alpha": "big"},
    {"alpha": None},
    {"alpha": np.nan},
    {"batch_size": 0},
    {"batch_size": "all"},
    {"batch_size": 2.5},
    {"learning_rate": "fast"},
    {"learning_rate_init": 0},
    {"learning_rate_init": np.nan},
    {"power_t": -1},
    {"max_iter": 0},
    {"max_iter": 2.0},
    {"shuffle": "yes"},
    {"random_state": -1},
    {"random_state": "seed"},
    {"random_state": 1.5},
    {"tol": -1},
    {"verbose": -1},
    {"verbose": "yes"},
    {"warm_start": "yes"},
    {"momentum": -0.1},
    {"momentum": 2},
    {"nesterovs_momentum": "yes"},
    {"early_stopping": "yes"},
    {"validation_fraction": -0.1},
    {"validation_fraction": 1},
    {"beta_1": 1},
    {"beta_2": -0.5},
    {"epsilon": 0},
    {"n_iter_no_change": 0},
    {"max_fun": 0},
    {"max_fun": 10.0},
    # The first of several is named.
    {"alpha": -1, "beta_1": 1},
    {"epsilon": 0, "max_iter": 0},
]


@BOTH
@pytest.mark.parametrize("parameters", GOOD_PARAMETERS, ids=str)
def test_good_parameters(parameters, make):
    def call(mlp):
        model = make(mlp, **parameters)
        return fitted(model.fit(X, target_of(make))), fitted(model.partial_fit(X, target_of(make)))

    assert assert_same_outcome(call).error is None


@BOTH
@pytest.mark.parametrize("parameters", BAD_PARAMETERS, ids=str)
def test_bad_parameters(parameters, make):
    def fit(mlp):
        make(mlp, **parameters).fit(X, target_of(make))

    def partial_fit(mlp):
        known = {"classes": [0, 1, 2]} if make is classifier else {}
        make(mlp, **parameters).partial_fit(X, target_of(make), **known)

    assert assert_same_outcome(fit).error is not None
    assert assert_same_outcome(partial_fit).error is not None


if HAS_REGRESSOR_LOSS:
    POISSON_TARGETS = {
        "zeros": lambda: np.abs(TARGETS).round(),
        "integers": lambda: CLASSES,
        "negative": lambda: NUMBERS,
        "large": lambda: 1e6 * np.abs(NUMBERS),
        "float32": lambda: np.abs(NUMBERS).astype("float32"),
    }

    @pytest.mark.parametrize("name", POISSON_TARGETS)
    def test_targets_of_poisson(name):
        fails = outcomes(ON_Y, lambda mlp: regressor(mlp, loss="poisson"), POISSON_TARGETS[name])
        assert not fails["score"]

    def test_loss_of_an_unknown_name_is_refused():
        # The choices in the message are more than scikit-learn's.
        with pytest.raises(ValueError, match=r"'loss' parameter of MLPRegressor must be .*poisson"):
            regressor(OURS, loss="square").fit(X, NUMBERS)
