"""Losses: formulas, derivatives, pairing with outputs, and losses of a user's own."""

import re

import numpy as np
import pytest

import fastgd
from fastgd import losses

LOSSES = {
    "squared_error": fastgd.SquaredError(),
    "absolute_error": fastgd.AbsoluteError(),
    "huber": fastgd.Huber(0.7),
    "log_loss": fastgd.LogLoss(),
    "cross_entropy": fastgd.CrossEntropy(),
    "poisson": fastgd.Poisson(),
}
CANONICAL = {
    "squared_error": "identity",
    "absolute_error": "identity",
    "huber": "identity",
    "log_loss": "sigmoid",
    "cross_entropy": "softmax",
    "poisson": "exp",
}
rng = np.random.default_rng(3)
X = rng.normal(size=(60, 4))
TARGETS = {
    "squared_error": rng.normal(size=(60, 3)),
    "absolute_error": rng.normal(size=(60, 3)),
    "huber": rng.normal(size=(60, 3)),
    "log_loss": rng.uniform(size=(60, 3)),
    "cross_entropy": rng.integers(0, 3, 60),
    "poisson": rng.poisson(2.0, size=(60, 3)),
}
WEIGHTS = rng.uniform(size=60)


def network(loss, units=3, activation=None, **settings):
    settings = {"n_inputs": 4, "dtype": "float64"} | settings
    layers = [fastgd.Dense(5, "tanh"), fastgd.Dense(units, activation)]
    return fastgd.Network(layers, loss, fastgd.SGD(0.1), **settings)


class Own:
    """A built-in loss in the shape of a user's own; mean=True returns one number."""

    def __init__(self, loss, mean=False):
        self.loss, self.mean = loss, mean

    def value(self, output, y):
        losses = self.loss.value(output, y)
        return losses.mean() if self.mean else losses

    def delta(self, output, y):
        return self.loss.delta(output, y) / (len(output) if self.mean else 1)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_value_agrees_with_the_engine(name):
    net = network(LOSSES[name])
    y = TARGETS[name]
    by_sample = LOSSES[name].value(net.predict(X), y)
    assert by_sample.shape == (60,)
    np.testing.assert_allclose(net.evaluate(X, y), by_sample.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        net.evaluate(X, y, WEIGHTS), np.average(by_sample, weights=WEIGHTS), rtol=1e-12
    )


@pytest.mark.parametrize("name", LOSSES)
def test_loss_delta_is_the_derivative_of_value(name):
    loss, y = LOSSES[name], TARGETS[name]
    output = rng.uniform(0.1, 0.8, size=(60, 3))
    h = 1e-6
    for unit in range(3):
        step = np.zeros(3)
        step[unit] = h
        numeric = (loss.value(output + step, y) - loss.value(output - step, y)) / (2 * h)
        np.testing.assert_allclose(loss.delta(output, y)[:, unit], numeric, rtol=1e-6, atol=1e-8)


def test_cross_entropy_takes_labels_and_rows_alike():
    labels = TARGETS["cross_entropy"]
    rows = np.eye(3)[labels]
    loss = fastgd.CrossEntropy()
    output = rng.dirichlet(np.ones(3), 60)
    np.testing.assert_allclose(loss.value(output, labels), loss.value(output, rows))
    np.testing.assert_array_equal(loss.delta(output, labels), loss.delta(output, rows))
    nets = network("cross_entropy"), network("cross_entropy")
    for net, y in zip(nets, (labels, rows), strict=True):
        net.fit(X, y, epochs=3, verbose=0)
    np.testing.assert_allclose(nets[0].predict(X), nets[1].predict(X), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", ">i4", "u8", "f4", "f8", "f2"])
def test_cross_entropy_takes_labels_of_any_number_dtype(dtype):
    labels = TARGETS["cross_entropy"]
    one, two = network("cross_entropy"), network("cross_entropy")
    one.fit(X, labels, verbose=0)
    two.fit(X, labels.astype(dtype), verbose=0)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


def test_cross_entropy_takes_bool_labels_and_a_column():
    labels = TARGETS["cross_entropy"] > 0
    nets = [network("cross_entropy", 2) for _ in range(3)]
    for net, y in zip(nets, (labels.astype(int), labels, labels[:, None]), strict=True):
        net.fit(X, y, verbose=0)
    for net in nets[1:]:
        np.testing.assert_array_equal(nets[0].predict(X), net.predict(X))


@pytest.mark.parametrize("name", LOSSES)
def test_last_layer_takes_the_canonical_output(name):
    net = network(name)
    assert net.layers[-1].activation.name == CANONICAL[name]
    assert net.layers[0].activation.name == "tanh"
    assert net.loss_name == name


def test_huber_delta_reaches_the_engine():
    y = 3 + TARGETS["huber"]
    losses = [network(fastgd.Huber(delta)).evaluate(X, y) for delta in (0.5, 1.0, 2.0)]
    assert losses[0] < losses[1] < losses[2]
    assert network("huber").evaluate(X, y) == losses[1]
    assert repr(fastgd.Huber(0.5)) == "Huber(delta=0.5)"
    assert fastgd.Huber() == fastgd.Huber(1.0) != fastgd.Huber(0.5)


@pytest.mark.parametrize(
    ("loss", "activation", "message"),
    [
        ("cross_entropy", "sigmoid", "softmax"),
        ("log_loss", "identity", "hard_sigmoid, sigmoid"),
        ("log_loss", "softmax", "hard_sigmoid, sigmoid"),
        ("absolute_error", "softmax", "identity"),
        ("huber", "softmax", "identity"),
        ("poisson", "identity", "exp, hard_sigmoid, relu, sigmoid, softplus"),
        ("poisson", "softmax", "exp"),
        (Own(fastgd.SquaredError()), "softmax", "softmax goes with cross_entropy or squared_error"),
    ],
)
def test_network_refuses_outputs_that_do_not_fit(loss, activation, message):
    with pytest.raises(ValueError, match=message):
        network(loss, activation=activation)


def test_squared_error_on_softmax_is_trained_with_its_derivative():
    net = network("squared_error", activation="softmax")
    y = np.eye(3)[TARGETS["cross_entropy"]]
    before = net.evaluate(X, y)
    net.fit(X, y, epochs=20, verbose=0)
    assert net.evaluate(X, y) < before


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ("mse", ValueError, re.escape("choose from squared_error, absolute_error, huber, log_")),
        (fastgd.Huber, TypeError, "not the class Huber: write it with ()"),
        (None, TypeError, "value and delta"),
        (object(), TypeError, "value and delta"),
    ],
)
def test_get_refuses_what_is_no_loss(loss, error, message):
    with pytest.raises(error, match=message.replace("()", r"\(\)")):
        losses.get(loss)


@pytest.mark.parametrize(
    ("delta", "error"),
    [(0, ValueError), (-1, ValueError), (np.inf, ValueError), ("1", TypeError), (True, TypeError)],
)
def test_huber_refuses_a_bad_delta(delta, error):
    with pytest.raises(error, match="delta must be"):
        fastgd.Huber(delta)


def test_cross_entropy_refuses_a_single_output():
    with pytest.raises(ValueError, match="at least 2; for one output use log_loss"):
        network("cross_entropy", 1)


# ---- losses of a user's own -----------------------------------------------------------------

CUSTOM = [name for name in LOSSES if name != "cross_entropy"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CUSTOM)
def test_custom_loss_trains_like_the_built_in_one(name, dtype):
    """The same loss said in Python takes the same path, but for roundings of each step."""
    y = TARGETS[name]
    one = network(LOSSES[name], activation=CANONICAL[name], dtype=dtype)
    two = network(Own(LOSSES[name]), activation=CANONICAL[name], dtype=dtype)
    histories = [
        net.fit(X, y, epochs=3, batch_size=16, sample_weight=WEIGHTS, verbose=0)
        for net in (one, two)
    ]
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(
        histories[0].history["loss"], histories[1].history["loss"], rtol=tolerance
    )
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(one.evaluate(X, y), two.evaluate(X, y), rtol=tolerance)
    np.testing.assert_allclose(
        one.evaluate(X, y, WEIGHTS), two.evaluate(X, y, WEIGHTS), rtol=tolerance
    )


def test_custom_loss_may_return_the_mean():
    y = TARGETS["squared_error"]
    one, two = network("squared_error"), network(Own(fastgd.SquaredError(), mean=True))
    for net in (one, two):
        net.fit(X, y, epochs=3, batch_size=16, verbose=0)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(one.evaluate(X, y), two.evaluate(X, y), rtol=1e-12)


def test_custom_loss_that_returns_the_mean_refuses_weights():
    net = network(Own(fastgd.SquaredError(), mean=True))
    before = net.get_weights()
    for call in (net.fit, net.train_step, net.loss_and_grad, net.evaluate):
        with pytest.raises(ValueError, match="sample_weight"):
            call(X, TARGETS["squared_error"], sample_weight=WEIGHTS)
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_custom_loss_gets_the_output_activation_derivative():
    """Gradients of a sigmoid output against central differences of evaluate."""
    net = network(Own(fastgd.SquaredError()), activation="sigmoid")
    y = TARGETS["log_loss"]
    _, gradients = net.loss_and_grad(X, y)
    h = 1e-6
    for layer, (dW, _) in zip(net.layers, gradients, strict=True):
        weight = layer.weight
        for place in np.ndindex(*weight.shape):
            old = weight[place]
            weight[place] = old + h
            up = net.evaluate(X, y)
            weight[place] = old - h
            down = net.evaluate(X, y)
            weight[place] = old
            assert dW[place] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-9)


def test_custom_loss_gets_targets_as_they_were_given():
    seen = []

    class Watch(Own):
        def value(self, output, y):
            seen.append((y.dtype, y.shape))
            return np.zeros(len(output))

        def delta(self, output, y):
            return np.zeros_like(output)

    loss = Watch(None)
    network(loss).train_step(X, np.arange(60, dtype=np.int16))
    network(loss).train_step(X, np.zeros((60, 2), np.float32))
    network(loss, 1).train_step(X, np.zeros(60, np.uint8))
    network(loss).train_step(X, np.zeros((60, 2), bool))
    network(loss, 1).fit(X, [True, False] * 30, verbose=0, batch_size=60)
    assert [(str(dtype), shape) for dtype, shape in seen] == [
        ("int16", (60,)),
        ("float32", (60, 2)),
        ("uint8", (60, 1)),
        ("bool", (60, 2)),
        ("bool", (60, 1)),
    ]


@pytest.mark.parametrize(
    ("value", "delta", "error", "message"),
    [
        (np.zeros((60, 2)), 0, ValueError, r"value of the custom loss returned shape \(60, 2\)"),
        (0.0, np.zeros(60), ValueError, r"delta of the custom loss returned shape \(60,\)"),
        ("x", 0, TypeError, "value of the custom loss must be real numbers, not 'x'"),
        (None, 0, TypeError, "value of the custom loss must be real numbers, not None"),
        (1j, 0, TypeError, "value of the custom loss must be real numbers, not 1j"),
        (0.0, None, TypeError, "delta of the custom loss must be real numbers, not None"),
        (0.0, np.zeros((60, 2), complex), TypeError, "delta .*, not an array of complex128"),
        (0.0, np.full((60, 2), "1"), TypeError, "delta .*, not an array of <U1"),
        (0.0, [[1.0], [1.0, 2.0]], ValueError, "delta of the custom loss cannot be read as an"),
    ],
)
def test_what_a_custom_loss_returns_is_checked(value, delta, error, message):
    loss = Own(None)
    loss.value, loss.delta = (lambda a, y: value), (lambda a, y: delta)
    net = network(loss)
    for call in (net.train_step, net.loss_and_grad):
        with pytest.raises(error, match=message):
            call(X, TARGETS["squared_error"])
    assert net.step == 0


def test_exception_of_a_custom_loss_leaves_the_network_usable():
    class Fails(Own):
        calls = 0

        def value(self, output, y):
            Fails.calls += 1
            if Fails.calls == 3:
                raise ZeroDivisionError("of the user")
            return super().value(output, y)

    net = network(Fails(fastgd.SquaredError()))
    y = TARGETS["squared_error"]
    with pytest.raises(ZeroDivisionError, match="of the user"):
        net.fit(X, y, batch_size=10, verbose=0)
    assert net.step == 2
    net.fit(X, y, batch_size=10, verbose=0)
    assert net.step == 8


def test_subclass_of_a_built_in_loss_is_trained_by_what_it_says():
    class Doubled(fastgd.SquaredError):
        def value(self, output, y):
            return 2 * super().value(output, y)

        def delta(self, output, y):
            return 2 * super().delta(output, y)

    net = network(Doubled())
    y = TARGETS["squared_error"]
    assert net.loss_name == "custom"
    assert net.evaluate(X, y) == pytest.approx(2 * network("squared_error").evaluate(X, y))
