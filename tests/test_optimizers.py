"""Optimisers: torch's defaults, their formulas as a network applies them, and what is refused."""

import math

import numpy as np
import pytest

import fastgd
from fastgd import optimizers


def test_defaults_are_those_of_torch():
    adam = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    common = {"clip_value": None, "clip_norm": None}
    for made, wanted in [
        (fastgd.SGD(), {"lr": 0.01, "momentum": 0, "nesterov": False, "weight_decay": 0}),
        (fastgd.Adam(), {"lr": 0.001, "weight_decay": 0, **adam}),
        (fastgd.AdamW(), {"lr": 0.001, "weight_decay": 0.01, **adam}),
        (fastgd.RMSprop(), {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0}),
        (fastgd.Adagrad(), {"lr": 0.01, "lr_decay": 0, "eps": 1e-10, "weight_decay": 0}),
    ]:
        for key, value in (wanted | common).items():
            assert getattr(made, key) == value, (made, key)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_get_makes_one_for_each_name(name):
    made = optimizers.get(name)
    assert made.name == name
    assert optimizers.get(made) is made


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.get("sdg"), ValueError, "choose from sgd, adam, adamw, rmsprop, adag"),
        (lambda: optimizers.get(fastgd.SGD), TypeError, "optimizer must be one of"),
        (lambda: optimizers.get(0.1), TypeError, "optimizer must be one of"),
        (lambda: fastgd.SGD(lr=0), ValueError, "lr must be greater than 0"),
        (lambda: fastgd.SGD(lr=-0.1), ValueError, "lr must be greater than 0"),
        (lambda: fastgd.SGD(lr=None), TypeError, "lr must be a number"),
        (lambda: fastgd.SGD(momentum=-0.1), ValueError, "momentum must be at least 0"),
        (lambda: fastgd.SGD(momentum=1.1), ValueError, "momentum must be at most 1"),
        (lambda: fastgd.SGD(nesterov=True), ValueError, "nesterov=True needs a momentum"),
        (lambda: fastgd.SGD(dampening=0.5), ValueError, "dampening needs a momentum"),
        (lambda: fastgd.SGD(momentum=0.9, dampening=2), ValueError, "dampening must be at most 1"),
        (lambda: fastgd.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov must be True or"),
        (lambda: fastgd.SGD(weight_decay=-1), ValueError, "weight_decay must be at least 0"),
        (lambda: fastgd.SGD(clip_value=0), ValueError, "clip_value must be greater than 0"),
        (lambda: fastgd.SGD(clip_norm=-1), ValueError, "clip_norm must be greater than 0"),
        (lambda: fastgd.SGD(variant="keras"), ValueError, "choose from torch, sklearn"),
        (lambda: fastgd.Adam(beta1=1), ValueError, "beta1 must be less than 1"),
        (lambda: fastgd.Adam(beta2=-0.1), ValueError, "beta2 must be at least 0"),
        (lambda: fastgd.Adam(eps=0), ValueError, "eps must be greater than 0"),
        (lambda: fastgd.RMSprop(alpha=1.0), ValueError, "alpha must be less than 1"),
        (lambda: fastgd.Adagrad(lr_decay=-1), ValueError, "lr_decay must be at least 0"),
        (lambda: fastgd.Adam(weight_decay=math.nan), ValueError, "weight_decay must be finite"),
    ],
)
def test_optimizer_refuses_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_optimizer_is_fixed_but_for_lr():
    optimizer = fastgd.SGD(momentum=0.9)
    with pytest.raises(AttributeError, match="momentum is fixed"):
        optimizer.momentum = 0.5
    with pytest.raises(ValueError, match="greater than 0"):
        optimizer.lr = -1
    assert (optimizer.lr, optimizer.momentum) == (0.01, 0.9)
    optimizer.lr = 0.5
    assert optimizer == fastgd.SGD(0.5, 0.9)


def data(n=24):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 2))


def network(optimizer, **layer):
    return fastgd.Network(
        [fastgd.Dense(5, "tanh", **layer), fastgd.Dense(2)],
        "squared_error",
        optimizer,
        n_inputs=3,
        dtype="float64",
    )


def sgd(w, g, s, o, t, lr):
    if not o.momentum:
        return w - lr * g
    s["v"] = v = o.momentum * s.get("v", 0) + (1 - o.dampening if t > 1 else 1) * g
    return w - lr * (g + o.momentum * v if o.nesterov else v)


def sgd_sklearn(w, g, s, o, t, lr):
    s["v"] = v = o.momentum * s.get("v", 0) - lr * g
    return w + (o.momentum * v - lr * g if o.nesterov else v)


def adam(w, g, s, o, t, lr):
    s["m"] = m = o.beta1 * s.get("m", 0) + (1 - o.beta1) * g
    s["v"] = v = o.beta2 * s.get("v", 0) + (1 - o.beta2) * g * g
    bias1, bias2 = 1 - o.beta1**t, 1 - o.beta2**t
    return w - lr / bias1 * m / (np.sqrt(v) / np.sqrt(bias2) + o.eps)


def adamw(w, g, s, o, t, lr):
    return adam(w * (1 - lr * o.weight_decay), g, s, o, t, lr)


def adam_sklearn(w, g, s, o, t, lr):
    s["m"] = m = o.beta1 * s.get("m", 0) + (1 - o.beta1) * g
    s["v"] = v = o.beta2 * s.get("v", 0) + (1 - o.beta2) * g * g
    return w - lr * np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t) * m / (np.sqrt(v) + o.eps)


def rmsprop(w, g, s, o, t, lr):
    s["v"] = v = o.alpha * s.get("v", 0) + (1 - o.alpha) * g * g
    d = g / (np.sqrt(v) + o.eps)
    if o.momentum:
        s["b"] = d = o.momentum * s.get("b", 0) + d
    return w - lr * d


def adagrad(w, g, s, o, t, lr):
    s["s"] = s.get("s", 0) + g * g
    return w - lr / (1 + (t - 1) * o.lr_decay) * g / (np.sqrt(s["s"]) + o.eps)


CASES = [
    (fastgd.SGD(0.1), sgd),
    (fastgd.SGD(0.1, momentum=0.9), sgd),
    (fastgd.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1), sgd),
    (fastgd.SGD(0.1, momentum=0.9, dampening=0.4), sgd),
    (fastgd.SGD(0.1, momentum=0.9, variant="sklearn"), sgd_sklearn),
    (fastgd.SGD(0.1, momentum=0.9, nesterov=True, variant="sklearn"), sgd_sklearn),
    (fastgd.SGD(0.1, clip_value=0.05), sgd),
    (fastgd.SGD(0.1, clip_norm=0.3), sgd),
    (fastgd.SGD(0.1, clip_value=0.1, clip_norm=0.2, weight_decay=0.3), sgd),
    (fastgd.Adam(0.05, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.1), adam),
    (fastgd.Adam(0.05, eps=1e-2, variant="sklearn"), adam_sklearn),
    (fastgd.AdamW(0.05, weight_decay=0.5), adamw),
    (fastgd.AdamW(0.05, clip_norm=0.1), adamw),
    (fastgd.RMSprop(0.05, weight_decay=0.1), rmsprop),
    (fastgd.RMSprop(0.05, alpha=0.5, momentum=0.9), rmsprop),
    (fastgd.Adagrad(0.05, lr_decay=0.5, weight_decay=0.1), adagrad),
]


@pytest.mark.parametrize(("optimizer", "formula"), CASES, ids=lambda case: str(case)[:60])
def test_network_applies_the_formula(optimizer, formula):
    """Five steps against the published formula in NumPy, from gradients that the network gives."""
    X, y = data()
    net = network(optimizer, l1=1e-3, l2=1e-2)
    weights = net.get_weights()
    states = [{} for _ in weights]
    for t in range(1, 6):
        _, gradients = net.loss_and_grad(X, y)
        grads = [array for pair in gradients for array in pair]
        if optimizer.clip_value:
            grads = [np.clip(g, -optimizer.clip_value, optimizer.clip_value) for g in grads]
        if optimizer.clip_norm:
            norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
            assert norm > optimizer.clip_norm, "or the test shows nothing"
            grads = [g * min(1, optimizer.clip_norm / (norm + 1e-6)) for g in grads]
        if formula is not adamw:
            grads = [g + optimizer.weight_decay * w for g, w in zip(grads, weights, strict=True)]
        weights = [
            formula(w, g, s, optimizer, t, optimizer.lr)
            for w, g, s in zip(weights, grads, states, strict=True)
        ]
        net.train_step(X, y)
        for got, wanted in zip(net.get_weights(), weights, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)
        weights = net.get_weights()


def test_clip_norm_leaves_small_gradients_alone():
    X, y = data()
    one, two = network(fastgd.SGD(0.1)), network(fastgd.SGD(0.1, clip_norm=1e6))
    for net in (one, two):
        net.fit(X, y, epochs=2, verbose=0)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_new_optimizer_of_the_same_kind_keeps_the_state():
    X, y = data()
    one = network(fastgd.SGD(0.1, momentum=0.9))
    two = network(fastgd.SGD(0.1, momentum=0.9))
    for net in (one, two):
        net.train_step(X, y)
    one.optimizer = fastgd.SGD(0.1, momentum=0.9, weight_decay=0.0)
    for net in (one, two):
        net.train_step(X, y)
    np.testing.assert_array_equal(one.layers[0].weight, two.layers[0].weight)
    one.optimizer = fastgd.SGD(0.1, momentum=0.9, weight_decay=0.5)
    for net in (one, two):
        net.train_step(X, y)
    assert (one.layers[0].weight != two.layers[0].weight).any()


def test_new_optimizer_of_another_kind_begins_anew():
    X, y = data()
    net = network(fastgd.SGD(0.1, momentum=0.9))
    net.train_step(X, y)
    net.optimizer = "sgd"
    fresh = network("sgd")
    fresh.set_weights(net.get_weights())
    for each in (net, fresh):
        each.train_step(X, y)
    np.testing.assert_array_equal(net.layers[0].weight, fresh.layers[0].weight)


def test_new_adam_corrects_its_bias_from_the_first_step():
    X, y = data()
    net = network("sgd")
    net.fit(X, y, epochs=5, verbose=0)
    net.optimizer = "adam"
    fresh = network("adam")
    fresh.set_weights(net.get_weights())
    for each in (net, fresh):
        each.train_step(X, y)
    np.testing.assert_array_equal(net.layers[0].weight, fresh.layers[0].weight)


def test_network_copies_its_optimizer():
    optimizer = fastgd.SGD(0.1)
    net = network(optimizer)
    optimizer.lr = 0.7
    assert net.optimizer.lr == 0.1
    net.optimizer.lr = 0.3
    assert optimizer.lr == 0.7


def test_new_lr_holds_at_once_in_train_step():
    X, y = data()
    one, two = network(fastgd.SGD(0.1)), network(fastgd.SGD(0.1))
    for net in (one, two):
        net.train_step(X, y)
        net.train_step(X, y)
    one.optimizer.lr = 0.2
    for net in (one, two):
        net.train_step(X, y)
    assert (one.layers[0].weight != two.layers[0].weight).any()
