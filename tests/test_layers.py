"""Dense: first weights, live views, what the settings do, and which are refused."""

import math
import pickle

import numpy as np
import pytest

import fastgd
from fastgd import Dense, activations

X = np.random.default_rng(0).normal(size=(32, 6))
Y = X @ np.random.default_rng(1).normal(size=(6, 2))


def network(*layers, **settings):
    settings = {"loss": "squared_error", "n_inputs": 6, "dtype": "float64"} | settings
    return fastgd.Network(list(layers), **settings)


@pytest.mark.parametrize(
    ("activation", "kind", "variance"),
    [
        ("relu", "uniform", 2 / 300),
        ("leaky_relu", "uniform", 2 / 300),
        ("elu", "uniform", 2 / 300),
        ("gelu", "uniform", 2 / 300),
        ("silu", "uniform", 2 / 300),
        ("mish", "uniform", 2 / 300),
        ("selu", "normal", 1 / 300),
        ("tanh", "uniform", 2 / 500),
        ("sigmoid", "uniform", 2 / 500),
        ("identity", "uniform", 2 / 500),
        ("softplus", "uniform", 2 / 500),
    ],
)
def test_auto_weights_follow_the_activation(activation, kind, variance):
    weight = network(Dense(200, activation), n_inputs=300).layers[0].weight
    n = weight.size
    assert abs(weight.mean()) < 5 * math.sqrt(variance / n)
    # the variance of a sample variance: 0.8 v^2 / n for uniform numbers, 2 v^2 / n for normal ones
    spread = variance * math.sqrt((0.8 if kind == "uniform" else 2.0) / n)
    assert abs(weight.var() - variance) < 5 * spread
    limit = math.sqrt(3 * variance)
    beyond = np.abs(weight) > limit
    if kind == "uniform":
        assert not beyond.any()
        assert np.abs(weight).max() > 0.99 * limit
    else:
        assert 0.06 < beyond.mean() < 0.11, "8.3 % of normal numbers are beyond sqrt(3) sigma"


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
        ("glorot_uniform", 2 / 500),
        ("glorot_normal", 2 / 500),
        ("lecun_uniform", 1 / 300),
        ("lecun_normal", 1 / 300),
    ],
)
def test_named_weights_have_their_variance(init, variance):
    weight = network(Dense(200, weight_init=init), n_inputs=300).layers[0].weight
    assert weight.var() == pytest.approx(variance, rel=0.05)


def test_first_weights_are_those_of_numpy():
    net = network(Dense(4, "relu"), Dense(2), seed=7, dtype="float32")
    rng = np.random.Generator(np.random.PCG64(7))
    for layer, limit in zip(net.layers, (math.sqrt(6 / 6), math.sqrt(6 / 6)), strict=True):
        wanted = rng.uniform(-limit, limit, layer.weight.shape).astype(np.float32)
        np.testing.assert_array_equal(layer.weight, wanted)
        np.testing.assert_array_equal(layer.bias, 0)


def test_first_weights_depend_on_the_seed_alone():
    one, two, three = (network(Dense(4), seed=seed).layers[0].weight for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()
    single = network(Dense(4), seed=1, dtype="float32").layers[0].weight
    np.testing.assert_array_equal(single, one.astype(np.float32))


def test_given_first_weights():
    W = np.arange(12.0).reshape(6, 2)
    assert network(Dense(2, weight_init=W)).layers[0].weight.tolist() == W.tolist()
    W[0, 0] = 5.0
    layer = Dense(2, weight_init=W, bias_init=[1, 2])
    W[0, 0] = -1.0
    net = network(layer)
    assert net.layers[0].weight[0, 0] == 5.0, "the layer must keep a copy"
    assert net.layers[0].bias.tolist() == [1, 2]
    assert network(Dense(2, weight_init="zeros", bias_init="ones")).get_weights()[1].tolist() == [
        1,
        1,
    ]
    assert network(Dense(2, bias_init=0.25)).layers[0].bias.tolist() == [0.25, 0.25]
    drawn = network(Dense(2, weight_init=lambda rng, shape: rng.normal(size=shape)), seed=3)
    wanted = np.random.Generator(np.random.PCG64(3)).normal(size=(6, 2))
    np.testing.assert_array_equal(drawn.layers[0].weight, wanted)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (np.zeros((2, 6)), r"weight_init has shape \(2, 6\); the layer needs \(6, 2\)"),
        (np.full((6, 2), np.nan), "not finite"),
        (lambda rng, shape: np.zeros(3), r"weight_init has shape \(3,\)"),
        (lambda rng, shape: np.full(shape, np.inf), "not finite"),
    ],
)
def test_given_first_weights_are_checked(init, message):
    with pytest.raises(ValueError, match=message):
        network(Dense(2, weight_init=init))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "units must be at least 1, not 0"),
        (lambda: Dense(-3), ValueError, "units must be at least 1"),
        (lambda: Dense(2.0), TypeError, "units must be an integer"),
        (lambda: Dense(True), TypeError, "units must be an integer"),
        (lambda: Dense("2"), TypeError, "units must be an integer"),
        (lambda: Dense(2, "rellu"), ValueError, "unknown activation 'rellu'; choose from elu, exp"),
        (lambda: Dense(2, 3), TypeError, "activation"),
        (lambda: Dense(2, l1=-1), ValueError, "l1 must be at least 0"),
        (lambda: Dense(2, l2=np.nan), ValueError, "l2 must be finite"),
        (lambda: Dense(2, dropout=1), ValueError, "dropout must be less than 1"),
        (lambda: Dense(2, dropout=-0.1), ValueError, "dropout must be at least 0"),
        (lambda: Dense(2, bias=1), TypeError, "bias must be True or False"),
        (lambda: Dense(2, weight_init="he"), ValueError, "choose from auto, he_uniform"),
        (lambda: Dense(2, bias_init="auto"), ValueError, "choose from zeros, ones"),
        (lambda: Dense(2, bias_init=np.inf), ValueError, "bias_init must be finite"),
        (lambda: Dense(2, bias_init=None), TypeError, "bias_init must be a number, not None"),
        (lambda: Dense(2, bias_init=[1, [2]]), ValueError, "bias_init cannot be read as an array"),
        (
            lambda: Dense(2, weight_init=[[1], [1, 2]]),
            ValueError,
            "weight_init cannot be read as an array: .*inhomogeneous",
        ),
        (lambda: network(), ValueError, "at least one layer"),
        (lambda: network(Dense(2), "relu"), TypeError, "Dense objects, not 'relu'"),
        (lambda: fastgd.Network(Dense(2), "huber"), TypeError, "a list of Dense layers"),
        (lambda: network(Dense(3, "softmax"), Dense(2)), ValueError, "last layer only"),
        (lambda: network(Dense(2, dropout=0.5)), ValueError, "dropout is not allowed on the last"),
    ],
)
def test_layers_refuse_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- live views -----------------------------------------------------------------------------


@pytest.mark.parametrize("units", [1, 2, 3, 16, 17])
def test_weight_is_a_live_view(units):
    net = network(Dense(units))
    layer = net.layers[0]
    assert layer.weight.shape == (6, units)
    assert layer.bias.shape == (units,)
    layer.weight[:] = 0
    layer.weight[2, -1] = 3.0
    layer.bias[0] += 0.5
    wanted = np.zeros((32, units))
    wanted[:, -1] = 3 * X[:, 2]
    wanted[:, 0] += 0.5
    np.testing.assert_allclose(net.predict(X), wanted, rtol=1e-15)
    view = layer.weight
    net.train_step(X, np.ones((32, units)))
    np.testing.assert_array_equal(view, layer.weight)
    assert (view[:, -1] != [0, 0, 3, 0, 0, 0]).any()


def test_weight_and_bias_can_be_assigned():
    net = network(Dense(2), dtype="float32")
    net.layers[0].weight = np.arange(12).reshape(6, 2)
    net.layers[0].bias = [0.5, 1]
    assert net.layers[0].weight.dtype == np.float32
    np.testing.assert_allclose(net.predict(np.eye(6))[3], [6.5, 8])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 6)), "has shape"),
        (np.zeros(2), "has shape"),
        (0.0, "has shape"),
        (np.full((6, 2), np.nan), "not finite"),
        (np.full((6, 2), 1e300), "not finite in float32"),
        (np.full((6, 2), "a"), "encode text"),
        (np.zeros((6, 2), complex), "complex128"),
        (np.zeros((6, 2), object), "object"),
    ],
)
def test_assigned_weight_is_checked_before_it_is_written(value, message):
    net = network(Dense(2), dtype="float32")
    before = net.get_weights()
    with pytest.raises(ValueError, match=message):
        net.layers[0].weight = value
    with pytest.raises(ValueError, match=message):
        net.set_weights([value, np.zeros(2)])
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_view_outlives_its_network():
    view = network(Dense(2, weight_init="ones")).layers[0].weight
    assert view.sum() == 12


def test_layer_without_bias():
    net = network(Dense(3, "tanh", bias=False), Dense(2))
    assert net.layers[0].bias is None
    assert [array.shape for array in net.get_weights()] == [(6, 3), (3, 2), (2,)]
    net.fit(X, Y, epochs=2, verbose=0)
    _, gradients = net.loss_and_grad(X, Y)
    assert gradients[0][1] is None
    np.testing.assert_allclose(
        net.predict(X),
        np.tanh(X @ net.layers[0].weight) @ net.layers[1].weight + net.layers[1].bias,
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="bias=False"):
        net.layers[0].bias = np.zeros(3)


def test_layer_without_a_network_has_no_weights():
    layer = Dense(2)
    waiting = fastgd.Network([layer], "squared_error")
    for each in (layer, waiting.layers[0], pickle.loads(pickle.dumps(network(layer).layers[0]))):
        with pytest.raises(RuntimeError, match="has no weights"):
            _ = each.weight
        with pytest.raises(RuntimeError, match="has no weights"):
            each.bias = np.zeros(2)


def test_network_copies_its_layers():
    layer = Dense(2)
    one, two = network(layer), network(layer)
    one.layers[0].weight[:] = 0
    assert two.layers[0].weight.any()
    assert layer.activation is None
    assert one.layers[0].activation == activations.Identity()


def test_layer_repr_reads_like_its_call():
    layer = Dense(3, activations.LeakyReLU(0.2), l2=0.1, dropout=0.5, bias=False)
    assert repr(layer) == "Dense(3, LeakyReLU(alpha=0.2), l2=0.1, dropout=0.5, bias=False)"
    assert repr(Dense(3, "leaky_relu")) == "Dense(3, 'leaky_relu')"
    assert repr(Dense(3)) == "Dense(3)"


# ---- penalties and dropout ------------------------------------------------------------------


def test_penalties_join_loss_and_gradient_but_not_evaluate():
    plain = network(Dense(4, "tanh"), Dense(2))
    penalised = network(Dense(4, "tanh", l1=0.01, l2=0.1), Dense(2, l2=0.3))
    W0, W1 = plain.layers[0].weight, plain.layers[1].weight
    loss, gradients = plain.loss_and_grad(X, Y)
    got, with_penalty = penalised.loss_and_grad(X, Y)
    penalty = 0.01 * np.abs(W0).sum() + 0.05 * (W0**2).sum() + 0.15 * (W1**2).sum()
    assert got == pytest.approx(loss + penalty, rel=1e-12)
    wanted = [
        (gradients[0][0] + 0.01 * np.sign(W0) + 0.1 * W0, gradients[0][1]),
        (gradients[1][0] + 0.3 * W1, gradients[1][1]),
    ]
    for pair, pair_wanted in zip(with_penalty, wanted, strict=True):
        for a, b in zip(pair, pair_wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert penalised.evaluate(X, Y) == plain.evaluate(X, Y) == pytest.approx(loss, rel=1e-12)


def test_penalties_count_in_the_losses_of_training():
    plain, penalised = network(Dense(2)), network(Dense(2, l1=0.5))
    penalty = 0.5 * np.abs(plain.layers[0].weight).sum()
    wanted = plain.train_step(X, Y) + penalty
    assert penalised.train_step(X, Y) == pytest.approx(wanted, rel=1e-12)
    history = network(Dense(2, l1=0.5)).fit(X, Y, batch_size=32, verbose=0)
    assert history.history["loss"][0] == pytest.approx(wanted, rel=1e-12)


def test_dropout_acts_in_training_only():
    layers = Dense(200, weight_init="zeros", bias_init="ones", dropout=0.4), Dense(2)
    net = network(*layers)
    np.testing.assert_array_equal(net.predict(X), net.predict(X))
    assert net.evaluate(X, Y) == pytest.approx(net.loss_and_grad(X, Y)[0], rel=1e-12)
    first = net.evaluate(X, Y)
    assert net.train_step(X, Y) != pytest.approx(first, rel=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean():
    """The gradient of a linear layer above shows the dropped activations of the layer below."""
    net = network(
        Dense(500, weight_init="zeros", bias_init="ones", dropout=0.4, bias=True),
        Dense(1, weight_init="zeros", bias=False),
        optimizer=fastgd.SGD(1.0),
    )
    net.train_step(X[:1], np.array([1.0]))
    # delta = -1, lr = 1: the new weights are the activations after dropout.
    kept = net.layers[1].weight[:, 0]
    assert set(np.round(np.unique(kept), 12)) == {0.0, round(1 / 0.6, 12)}
    assert abs((kept == 0).mean() - 0.4) < 5 * math.sqrt(0.24 / 500)


def test_dropout_masks_depend_on_the_seed():
    def trained(seed):
        W = [np.ones((6, 8)), np.ones(8), np.ones((8, 2)), np.zeros(2)]
        net = network(Dense(8, "tanh", dropout=0.5), Dense(2), seed=seed)
        net.set_weights(W)
        net.fit(X, Y, shuffle=False, verbose=0)
        return net.predict(X)

    np.testing.assert_array_equal(trained(1), trained(1))
    assert (trained(1) != trained(2)).any()
