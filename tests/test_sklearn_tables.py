"""Tables of pandas, polars and pyarrow in the drop-in: as scikit-learn has them, all alike."""

import numpy as np
import pytest
from sklearn.utils.validation import _get_feature_names

from block_extras import has
from fastgd.sklearn import MLPClassifier, MLPRegressor

NAMES = ["age", "height", "weight"]
LIBRARIES = [name for name in ("pandas", "polars", "pyarrow") if has(name)]
ESTIMATORS = [MLPClassifier, MLPRegressor]


@pytest.fixture
def X(rng):
    return rng.normal(size=(80, 3))


@pytest.fixture
def y(X):
    return (X.sum(axis=1) > 0).astype(np.int64)


def table(library, X, names=NAMES):
    columns = {name: X[:, i] for i, name in enumerate(names)}
    if library == "pandas":
        import pandas

        return pandas.DataFrame(columns)
    if library == "polars":
        import polars

        return polars.DataFrame(columns)
    import pyarrow

    return pyarrow.table(columns)


def sees_names(library):
    """Whether the installed scikit-learn does: before 1.9 not those of polars from 2.0 on."""
    return _get_feature_names(table(library, np.ones((1, 3)))) is not None


def model(estimator):
    return estimator(hidden_layer_sizes=(4,), max_iter=5, n_iter_no_change=99, random_state=0)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_table_gives_the_numbers_of_its_array_and_its_names(estimator, library, X, y):
    found, expected = (model(estimator).fit(data, y) for data in (table(library, X), X))
    for one, other in zip(found.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.predict(table(library, X)), expected.predict(X))
    assert not hasattr(expected, "feature_names_in_")
    assert hasattr(found, "feature_names_in_") == sees_names(library)
    if not sees_names(library):
        return
    assert found.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        found.predict(table(library, X, NAMES[::-1]))
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(table(library, X, ["age", "size", "weight"]))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        found.predict(X)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_networks_and_estimators_pass_the_names_on(estimator, library, X, y):
    fitted = model(estimator).fit(table(library, X), y)
    network = fitted.to_network()
    assert network.feature_names == (tuple(NAMES) if sees_names(library) else None)
    network._feature_names = tuple(NAMES)
    again = estimator.from_network(network)
    assert again.feature_names_in_.tolist() == NAMES
    if sees_names(library):
        np.testing.assert_array_equal(
            again.predict(table(library, X)), fitted.predict(table(library, X))
        )
    plain = model(estimator).fit(X, y).to_network()
    assert plain.feature_names is None
    assert not hasattr(estimator.from_network(plain), "feature_names_in_")
