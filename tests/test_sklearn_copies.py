"""What an estimator of fastgd.sklearn keeps in its attributes, copies and pickles."""

import copy
import pickle
import sys
import threading

import numpy as np
import pytest

from fastgd.sklearn import _live
from sklearn_cases import ORIGINAL, OURS, error, estimator_type, first_classes, make_data

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 3}
KINDS = ("multiclass", "regression")


def fitted(kind, classes=OURS, **settings):
    X, y = make_data(kind)
    return classes[estimator_type(kind)](**SETTINGS | settings).fit(X, y)


def begun(kind, classes=OURS, **settings):
    """Return an estimator after one partial_fit."""
    X, y = make_data(kind)
    model = classes[estimator_type(kind)](**SETTINGS | settings)
    return model.partial_fit(X, y, **first_classes(kind, y))


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


# ---- attributes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fitted, begun])
@pytest.mark.parametrize("copied", [through_pickle, copy.deepcopy, copy.copy, lambda model: model])
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_add_and_remove_no_attribute(kind, copied, make):
    """Other threads may be iterating over them, as scikit-learn does in every predict."""
    X, _ = make_data(kind)
    model = copied(make(kind))
    before = list(vars(model))
    for data in (X, X[:1], X.astype(np.float32), X.tolist()):
        model.predict(data)
        assert list(vars(model)) == before
    model.set_params(activation="tanh").predict(X)
    assert list(vars(model)) == before
    model.coefs_ = [np.array(W) for W in model.coefs_]
    model.predict(X)
    assert list(vars(model)) == before


def test_threads_share_the_first_prediction(monkeypatch):
    """One of them makes the network; what training goes on with is kept."""
    X, y = make_data("multiclass")
    original = begun("multiclass")
    wanted = through_pickle(original).partial_fit(X, y)
    model = through_pickle(original)
    made, network = [], _live._network
    barrier = threading.Barrier(8)

    def counted(*args):
        made.append(threading.get_ident())
        return network(*args)

    def predict():
        barrier.wait()
        results.append(model.predict_proba(X))

    monkeypatch.setattr(_live, "_network", counted)
    results, interval = [], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=predict) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(made) == 1
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(result, original.predict_proba(X))
    model.partial_fit(X, y)
    for a, b in zip(model.coefs_, wanted.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- parameters of training ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": -1},
        {"alpha": "x"},
        {"batch_size": 0},
        {"batch_size": -5},
        {"beta_1": 2},
        {"epsilon": 0},
        {"hidden_layer_sizes": -1},
        {"learning_rate_init": -1},
        {"loss": "poisson"},
        {"momentum": 7},
        {"random_state": "x"},
        {"solver": "foo"},
        {"dropout": 0.5},
        {"clip_norm": -1},
        {"lr_schedule": 3},
        {"activation": "tanh"},
    ],
    ids=str,
)
@pytest.mark.parametrize("copied", [through_pickle, lambda model: model])
def test_predictions_need_no_parameter_of_training(copied, changes):
    X, _ = make_data("regression")
    model = copied(fitted("regression").set_params(**changes))
    if changes.keys() <= ORIGINAL["regressor"]().get_params().keys():
        wanted = fitted("regression", ORIGINAL).set_params(**changes).predict(X)
    else:
        wanted = fitted("regression").predict(X)
    assert error(wanted, model.predict(X)) <= 1e-9


def test_parameters_of_training_make_no_new_network():
    X, y = make_data("regression")
    model = begun("regression")
    network = model._live.network
    for changes in ({"alpha": 0.5}, {"batch_size": 30}, {"dropout": 0.5}, {"loss": "huber"}):
        model.set_params(**changes).partial_fit(X, y).predict(X)
        assert model._live.network is network
    assert [layer.dropout for layer in network.layers] == [0.5, 0.0]
    assert [layer.l2 for layer in network.layers] == [0.5 / 30] * 2
    assert network.loss_name == "huber"


# ---- what training goes on with ------------------------------------------------------------------


@pytest.mark.parametrize("make", [fitted, begun])
@pytest.mark.parametrize("kind", KINDS)
def test_deep_copies_train_on_as_the_original(kind, make):
    X, y = make_data(kind)
    model = make(kind)
    twin = copy.deepcopy(model)
    theirs = make(kind, ORIGINAL)
    for _ in range(3):
        for one in (model, twin, theirs):
            one.partial_fit(X, y)
        for a, b, c in zip(model.coefs_, twin.coefs_, theirs.coefs_, strict=True):
            np.testing.assert_array_equal(a, b)
            assert error(c, a) <= 1e-9
    # Nothing is shared.
    twin.coefs_[0][...] = 0
    assert (model.coefs_[0] != 0).all()


@pytest.mark.parametrize("copied", [through_pickle, copy.deepcopy])
def test_copies_of_copies_that_have_not_been_used(copied):
    X, y = make_data("multiclass")
    model = begun("multiclass")
    twin = copied(copied(model))
    np.testing.assert_array_equal(
        twin.partial_fit(X, y).coefs_[0], model.partial_fit(X, y).coefs_[0]
    )


def test_pickles_hold_moments_for_partial_fit_only():
    X, y = make_data("multiclass")
    settings = {"hidden_layer_sizes": (200,)}
    plain = len(pickle.dumps(fitted("multiclass", **settings)))
    warm = fitted("multiclass", warm_start=True, **settings)
    # A warm start, too, begins with a new optimiser.
    assert len(pickle.dumps(warm)) == pytest.approx(plain, rel=0.01)
    going_on = begun("multiclass", **settings)
    assert len(pickle.dumps(going_on)) > 2 * plain
    assert len(pickle.dumps(going_on.fit(X, y))) == pytest.approx(plain, rel=0.01)
    with pytest.raises(ValueError, match="has classes not in"):
        going_on.partial_fit(X, y + 1)
    assert len(pickle.dumps(going_on)) == pytest.approx(plain, rel=0.01)


def test_unpickled_optimiser_keeps_its_settings():
    """As in scikit-learn parameters that are set later wait for the next fit."""
    X, y = make_data("regression")
    models = [begun("regression", classes, solver="sgd") for classes in (OURS, ORIGINAL)]
    for model in models:
        model.set_params(momentum=0.1, learning_rate_init=0.5)
    ours, theirs = (through_pickle(model) for model in models)
    for _ in range(3):
        ours.partial_fit(X, y)
        theirs.partial_fit(X, y)
        assert error(theirs.coefs_[0], ours.coefs_[0]) <= 1e-9
