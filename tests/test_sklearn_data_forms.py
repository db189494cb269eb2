"""Data and parameters in every form, good and bad: the outcome is that of scikit-learn's classes.

The outcome is a result or an error, word for word, and the warnings. Each form of the data goes
through every operation that takes it.
"""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from sklearn_pairs import HAS_SAMPLE_WEIGHT, assert_same_outcome, fitted

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
    "bytes": lambda y: NAMES.astype("S"),
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
    "nan_number": lambda w: np.nan,
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
        assert all(fails.values())
