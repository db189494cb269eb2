"""to_network and from_network: the same predictions, and clear words for what does not fit."""

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_iris

import fastgd
from fastgd import activations
from fastgd.sklearn import MLPClassifier, MLPRegressor, _conversion

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
LABELS = np.column_stack([Y == 0, Y == 1, Y > 0]).astype(int)
COUNTS = np.column_stack([Y, 2 - Y])

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# name -> (class, its parameters, y)
MODELS = {
    "multiclass": (MLPClassifier, {}, NAMES),
    "binary": (MLPClassifier, {"activation": "logistic"}, NAMES == "setosa"),
    "multilabel": (MLPClassifier, {"activation": "tanh"}, LABELS),
    "linear": (MLPClassifier, {"hidden_layer_sizes": ()}, Y),
    "lbfgs": (MLPClassifier, {"solver": "lbfgs"}, Y),
    "squared": (MLPRegressor, {"solver": "sgd"}, X[:, 0]),
    "several": (MLPRegressor, {"activation": "identity"}, X[:, :3]),
    "poisson": (MLPRegressor, {"loss": "poisson"}, COUNTS),
    "huber": (MLPRegressor, {"loss": "huber", "solver": "rmsprop"}, X[:, 1]),
    "absolute": (MLPRegressor, {"loss": "absolute_error", "solver": "adamw"}, X[:, 1]),
    "layers": (
        MLPRegressor,
        {"activation": ["silu", activations.ELU(0.5)], "dropout": [0.0, 0.25]},
        X[:, 1],
    ),
}


@pytest.fixture(params=MODELS)
def model(request, dtype):
    """A fitted estimator of each kind."""
    kind, settings, y = MODELS[request.param]
    settings = {"hidden_layer_sizes": (6, 4), "max_iter": 8, "random_state": 3} | settings
    return kind(**settings).fit(X.astype(dtype), y)


def output(model, X):
    """Return what the network of an estimator predicts, in the estimator's words."""
    if not isinstance(model, MLPClassifier | neural_network.MLPClassifier):
        return model.predict(X).reshape(len(X), -1)
    return model.predict_proba(X)[:, -model.n_outputs_ :]


def test_networks_predict_the_same_bits(model):
    network = model.to_network()
    assert network.dtype == model.coefs_[0].dtype
    data = X.astype(network.dtype)
    np.testing.assert_array_equal(network.predict(data), output(model, data))


def test_networks_are_copies(model):
    before = model.coefs_[0].copy()
    network = model.to_network()
    network.layers[0].weight[...] = 0
    np.testing.assert_array_equal(model.coefs_[0], before)


def test_estimators_come_back_from_their_networks(model):
    network = model.to_network()
    again = type(model).from_network(network)
    for name in ("coefs_", "intercepts_"):
        for left, right in zip(getattr(again, name), getattr(model, name), strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
    data = X.astype(network.dtype)
    np.testing.assert_array_equal(again.predict(data), model.predict(data))
    np.testing.assert_array_equal(output(again, data), output(model, data))
    assert again.predict(data).dtype.kind == model.predict(data).dtype.kind
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "loss"):
        assert getattr(again, name) == getattr(model, name), name
    for parameter in ("activation", "dropout", "hidden_layer_sizes"):
        if model.hidden_layer_sizes:
            assert getattr(again, parameter) == getattr(model, parameter), parameter
    assert again.alpha == pytest.approx(model.alpha, rel=1e-12)


def test_estimators_from_networks_go_on_training(model):
    again = type(model).from_network(model.to_network(), random_state=0)
    y = model.predict(X)
    y = y if isinstance(model, MLPClassifier) else y + 1
    before = again.coefs_[0].copy()
    assert again.partial_fit(X, y) is again
    assert again.n_iter_ == 1
    assert (again.coefs_[0] != before).any()
    assert again.fit(X, y).coefs_[0].shape == before.shape


@pytest.mark.parametrize("kind", [neural_network.MLPClassifier, neural_network.MLPRegressor])
def test_originals_become_networks(kind):
    model = kind(hidden_layer_sizes=(5,), activation="logistic", max_iter=9, random_state=0)
    model.fit(X, Y)
    network = _conversion.to_network(model)
    # Two orders of the same sums of five terms, each below 1
    np.testing.assert_allclose(network.predict(X), output(model, X), rtol=0, atol=1e-15 * 4)
    assert network.layers[0].activation == activations.Sigmoid()


def test_network_has_the_settings_of_the_estimator():
    model = MLPClassifier(
        (5,), solver="sgd", momentum=0.5, learning_rate_init=0.02, alpha=0.3, batch_size=30,
        dropout=0.25, clip_norm=1.5, weight_decay=0.01, random_state=7, max_iter=2,
    ).fit(X, Y)  # fmt: skip
    network = model.to_network()
    assert network.optimizer == fastgd.SGD(
        0.02, 0.5, True, weight_decay=0.01, clip_norm=1.5, variant="sklearn"
    )
    assert [layer.l2 for layer in network.layers] == [0.3 / 30] * 2
    assert [layer.dropout for layer in network.layers] == [0.25, 0.0]
    assert (network.loss_name, network.seed) == ("cross_entropy", 7)
    assert network.metadata == {"classes": [0, 1, 2]}


def test_network_of_lbfgs_gets_adam():
    model = MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", tol=1.0).fit(X, Y)
    assert model.to_network().optimizer.name == "adam"


def test_classifier_of_one_class_becomes_a_network_and_back():
    y = np.full(len(X), "all")
    model = MLPClassifier((2,), max_iter=2, random_state=0).fit(X, y)
    net = model.to_network()
    np.testing.assert_array_equal(net.predict(X), model.predict_proba(X)[:, 1:])
    again = MLPClassifier.from_network(net)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.predict(X).tolist() == model.predict(X).tolist() == y.tolist()
    # Of several labels at once each has its column.
    several = fastgd.Network([fastgd.Dense(2)], "log_loss", n_inputs=X.shape[1])
    with pytest.raises(ValueError, match=r"classes has shape \(1,\)"):
        MLPClassifier.from_network(several, classes=["all"])


def test_network_needs_a_fitted_estimator():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        MLPClassifier().to_network()


# ---- from a network of one's own ---------------------------------------------------------------


def network(*layers, loss="cross_entropy", n_inputs=4, optimizer="adam", **settings):
    return fastgd.Network(list(layers), loss, optimizer, n_inputs, **settings)


def test_a_trained_network_becomes_a_classifier():
    net = network(fastgd.Dense(8, "gelu", l2=0.01), fastgd.Dense(3, l2=0.01))
    net.fit(X, Y, epochs=20, verbose=0)
    model = MLPClassifier.from_network(net, classes=["a", "b", "c"], batch_size=32, n_threads=1)
    np.testing.assert_array_equal(model.predict_proba(X.astype("f4")), net.predict(X))
    assert model.predict(X[:1]) == ["a"]
    assert model.score(X, np.array(["a", "b", "c"])[Y]) > 0.6
    assert model.get_params()["activation"] == "gelu"
    assert (model.alpha, model.batch_size, model.n_threads) == (pytest.approx(0.32), 32, 1)
    assert (model.dtype, model.n_iter_) == ("float32", 20)
    assert model.solver == net.optimizer
    assert model.solver is not net.optimizer


@pytest.mark.parametrize(
    ("layers", "settings", "kind", "message"),
    [
        ([fastgd.Dense(1)], {"loss": "squared_error"}, MLPClassifier,
         r"the loss 'squared_error' does not become an MLPClassifier; .*cross_entropy, log_loss"),
        ([fastgd.Dense(3)], {}, MLPRegressor,
         r"the loss 'cross_entropy' does not become an MLPRegressor; it needs one of squ"),
        ([fastgd.Dense(1, "sigmoid")], {"loss": "squared_error"}, MLPRegressor,
         r"output activation is 'sigmoid'; with the loss 'squared_error' .* has 'identity'"),
        ([fastgd.Dense(1)], {"loss": fastgd.Huber(2.0)}, MLPRegressor,
         r"has the loss Huber\(delta=2.0\); an MLPRegressor has Huber\(delta=1.0\)"),
        ([fastgd.Dense(2)], {}, MLPClassifier, r"a softmax over 2 classes; .*'log_loss'"),
        ([fastgd.Dense(3)], {"input_scale": 0.5}, MLPClassifier, r"input_scale=0.5"),
        ([fastgd.Dense(3, bias=False)], {}, MLPClassifier, r"layer 0 has no bias"),
        ([fastgd.Dense(3, l1=0.1)], {}, MLPClassifier, r"layer 0 has l1=0.1"),
        ([fastgd.Dense(2), fastgd.Dense(3, l2=0.1)], {}, MLPClassifier,
         r"layer 1 has l2=0.1 and layer 0 has 0.0"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit_are_refused(layers, settings, kind, message):
    with pytest.raises(ValueError, match=message):
        kind.from_network(network(*layers, **settings))


def test_custom_losses_are_refused():
    class Own:
        def value(self, output, y):
            return np.square(output - y).sum(axis=1)

        def delta(self, output, y):
            return 2 * (output - y)

    with pytest.raises(ValueError, match="with the loss 'custom' does not become"):
        MLPRegressor.from_network(network(fastgd.Dense(1), loss=Own()))


@pytest.mark.parametrize(
    ("units", "loss", "classes", "message"),
    [
        (3, "cross_entropy", [0, 1], r"classes has shape \(2,\); .* 3 outputs .* needs \(3,\)"),
        (3, "cross_entropy", ["b", "a", "c"], r"classes must be sorted and different, not"),
        (3, "cross_entropy", [0, 1, 1], r"classes must be sorted and different, not \[0, 1, 1\]"),
        (1, "log_loss", [0, 1, 2], r"classes has shape \(3,\); .* 1 output and .* needs \(2,\)"),
        (3, "log_loss", ["a", "b", "c"], r"classes must be \[0, 1, 2\] for several labels at once"),
    ],
)
def test_classes_must_fit_the_outputs(units, loss, classes, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier.from_network(network(fastgd.Dense(units), loss=loss), classes=classes)


def test_other_wrong_arguments_are_named():
    net = network(fastgd.Dense(3))
    with pytest.raises(TypeError, match=r"network must be a fastgd.Network, not MLPClassifier\(\)"):
        MLPClassifier.from_network(MLPClassifier())
    with pytest.raises(TypeError, match="activation is the network's, and cannot be given"):
        MLPClassifier.from_network(net, activation="relu")
    with pytest.raises(TypeError, match="classes is for MLPClassifier only"):
        MLPRegressor.from_network(network(fastgd.Dense(1), loss="squared_error"), classes=[0, 1])
    with pytest.raises(RuntimeError, match="no weights yet"):
        MLPClassifier.from_network(network(fastgd.Dense(3), n_inputs=None))


def test_regressor_from_a_network_scores():
    data, target = load_diabetes(return_X_y=True)
    net = network(fastgd.Dense(1), loss="squared_error", n_inputs=10, dtype="float64",
                  optimizer=fastgd.SGD(0.3))  # fmt: skip
    net.fit(data * 20, target / 100, epochs=200, verbose=0)
    model = MLPRegressor.from_network(net)
    assert model.score(data * 20, target / 100) > 0.45
    np.testing.assert_array_equal(model.predict(data), net.predict(data).ravel())
