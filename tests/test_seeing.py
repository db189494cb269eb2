"""What shows a network and its training: numbers, words, pictures; looking changes nothing."""

import copy
import importlib
import io
import itertools
import pickle
import re
import sys
import types
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fastgd
from block_extras import needs_extra
from doc_cells import DOCS, assert_cells_print_what_is_shown
from fastgd import _flow, _verify, callbacks, reference
from fastgd._html import fold, table
from fastgd._pairing import LOSSES, fitting_outputs
from fastgd.callbacks import GradientFlowWarning
from fastgd.datasets import load_digits_split

ROOT = Path(__file__).resolve().parent.parent
with_plots = needs_extra("matplotlib", "plot")
HIDDEN = [name for name in reference._VALUES if name != "softmax"]
OPTIMIZERS = {
    "sgd": fastgd.SGD(0.1),
    "momentum": fastgd.SGD(0.1, momentum=0.9),
    "nesterov": fastgd.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sklearn": fastgd.SGD(0.1, momentum=0.9, variant="sklearn"),
    "adam": fastgd.Adam(0.01),
    "adam_sklearn": fastgd.Adam(0.01, variant="sklearn"),
    "adamw": fastgd.AdamW(0.01),
    "rmsprop": fastgd.RMSprop(0.01),
    "rmsprop_momentum": fastgd.RMSprop(0.01, momentum=0.5),
    "adagrad": fastgd.Adagrad(0.1, lr_decay=0.1),
    "clip_value": fastgd.SGD(0.1, clip_value=1e-2),
    "clip_norm": fastgd.Adam(0.01, clip_norm=1e-2),
    "schedule": fastgd.SGD(lr=lambda step: 0.1 / (1 + step)),
}


@pytest.fixture(autouse=True)
def no_figures_are_left():
    yield
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        pyplot.close("all")


def data(rng, loss="squared_error", n=40, n_inputs=5, units=3):
    """Inputs and fitting targets."""
    X = rng.normal(size=(n, n_inputs))
    if loss == "cross_entropy":
        return X, rng.integers(0, units, size=n)
    if loss in ("log_loss", "poisson"):
        return X, rng.uniform(0.1, 0.9, size=(n, units))
    return X, rng.normal(size=(n, units))


def network(activation="tanh", loss="squared_error", output=None, dtype="float64", **settings):
    layers = [fastgd.Dense(6, activation), fastgd.Dense(4, activation), fastgd.Dense(3, output)]
    return fastgd.Network(layers, loss, n_inputs=5, dtype=dtype, seed=1, **settings)


def everything(net):
    """All that a step may change, as bytes."""
    arrays = {name: np.array(view).tobytes() for name, view in net._arrays().items()}
    return arrays, net.step, net.epoch, net.seed


def held(op, layer, inputs, found):
    """Assert that the outputs of an operation are within the reference's bounds."""
    for comparison in _verify.measure(op, layer, inputs, found):
        assert comparison.share <= 1, (op, layer, comparison)


# ---- gradient_flow: numbers ------------------------------------------------------------------


def seen(net, X, y, weights=None):
    """Look as gradient_flow does; return the arrays of each operation, all held to the bounds."""
    kept = {}

    def watch(op, layer, inputs, found):
        if op != "gradient":
            held(op, layer, inputs, found)
        arrays = {**inputs, **found}
        kept[op, layer] = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in arrays.items()
        }

    loss = net._live().look(*net._check(X, y, weights), watch)
    return loss, kept


@pytest.mark.parametrize("activation", HIDDEN)
def test_flow_numbers_are_those_of_numpy(activation, dtype, rng):
    X, y = data(rng)
    net = network(activation, dtype=dtype)
    weights = rng.uniform(0.5, 2, size=len(X))
    report = net.gradient_flow(X, y, weights)
    loss, kept = seen(net, X, y, weights)
    assert report.loss == loss == pytest.approx(net.evaluate(X, y, weights), rel=1e-6)
    gradients = net.loss_and_grad(X, y, weights)[1]
    close = {"rtol": 1e-12, "atol": 0}  # float64 sums of the same numbers in another order
    for i in range(3):
        z, a = (kept["forward", i][name].astype(np.float64) for name in "za")
        # Means cancel: their error is one of the numbers' size, of which atol is a few roundings.
        np.testing.assert_allclose(report.z_mean[i], z.mean(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(report.z_std[i], z.std(), **close)
        np.testing.assert_allclose(report.a_mean[i], a.mean(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(report.a_std[i], a.std(), **close)
        delta = kept["weight_grad", i]["delta"].astype(np.float64)
        np.testing.assert_allclose(report.delta_norm[i], np.linalg.norm(delta), **close)
        # loss_and_grad promises the same bits.
        dW = gradients[i][0].astype(np.float64)
        np.testing.assert_allclose(report.dW_norm[i], np.linalg.norm(dW), **close)
        W = net.layers[i].weight.astype(np.float64)
        np.testing.assert_allclose(report.W_norm[i], np.linalg.norm(W), **close)


@pytest.mark.parametrize("activation", HIDDEN)
def test_flat_values_are_those_of_the_derivative(activation, rng):
    X, y = data(rng)
    net = network(activation)
    net.set_weights([5 * w for w in net.get_weights()])
    report = net.gradient_flow(X, y)
    _, kept = seen(net, X, y)
    if activation in ("identity", "leaky_relu", "exp"):
        assert np.isnan(report.saturated).all()
        assert np.isnan(report.dead).all()
        return
    z = np.linspace(-30, 30, 100_001)
    steepest = {"sigmoid": 0.25, "hard_sigmoid": 1 / 6}.get(activation, 1.0)
    f_prime = reference.activation_grad(activation, np.ones_like(z), z=z)
    assert f_prime.max() == pytest.approx(steepest, rel=1e-6) or f_prime.max() < 1.8
    for i in range(2):
        z = kept["forward", i]["z"]
        flat = reference.activation_grad(activation, np.ones_like(z), z=z) < 0.05 * steepest
        assert report.saturated[i] == flat.mean()
        assert report.dead[i] == flat.all(axis=0).mean()
    assert report.saturated[:2].max() > 0


def test_flatness_of_a_cancelled_output_does_not_count(rng):
    for loss, output in (("log_loss", "sigmoid"), ("cross_entropy", "softmax")):
        X, y = data(rng, loss)
        report = network("relu", loss, output).gradient_flow(X, y)
        assert np.isnan([report.saturated[-1], report.dead[-1]]).all()
    X, y = data(rng)
    assert not np.isnan(network("relu", output="sigmoid").gradient_flow(X, y).saturated[-1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_update_ratio_is_that_of_the_step_that_follows(optimizer, dtype, rng):
    X, y = data(rng)
    net = network(dtype=dtype, optimizer=OPTIMIZERS[optimizer])
    for _ in range(3):  # so that the states are not zero
        net.train_step(X, y)
    report = net.gradient_flow(X, y)
    before = [layer.weight.astype(np.float64) for layer in net.layers]
    net.train_step(X, y)
    for i, W in enumerate(before):
        change = np.linalg.norm(net.layers[i].weight - W)
        # A new weight is rounded, here and there, to half a unit of its last place.
        lost = 2 * np.finfo(dtype).eps * np.linalg.norm(W)
        size = np.linalg.norm(W)
        assert abs(report.update_ratio[i] * size - change) <= lost + 1e-5 * change
    assert report.lr == OPTIMIZERS[optimizer].learning_rates(3, 1)[0]


def test_large_weights_are_updated_in_blocks(rng, monkeypatch):
    X, y = data(rng)
    net = network(optimizer="adam")
    net.train_step(X, y)
    whole = net.gradient_flow(X, y)
    monkeypatch.setattr(_flow, "_BLOCK", 7)
    # The same numbers, added up in other groups in float64
    np.testing.assert_allclose(net.gradient_flow(X, y).update_ratio, whole.update_ratio, rtol=1e-13)


@pytest.mark.parametrize("settings", [{"l2": 0.5}, {"l1": 0.1}, {"dropout": 0.5}, {"bias": False}])
def test_flow_of_special_layers(settings, rng):
    X, y = data(rng)
    layers = [fastgd.Dense(6, "tanh", **settings), fastgd.Dense(3)]
    net = fastgd.Network(layers, "squared_error", n_inputs=5, dtype="float64")
    report = net.gradient_flow(X, y)
    loss, gradients = net.loss_and_grad(X, y)
    assert report.loss == loss
    assert report.dW_norm[0] == pytest.approx(np.linalg.norm(gradients[0][0]), rel=1e-12)


def test_flow_of_a_custom_loss(rng):
    class LogCosh:
        def value(self, output, y):
            return np.log(np.cosh(output - y)).sum(axis=1)

        def delta(self, output, y):
            return np.tanh(output - y)

    X, y = data(rng)
    net = network(loss=LogCosh())
    report = net.gradient_flow(X, y)
    output = net.predict(X)
    assert report.loss == pytest.approx(np.log(np.cosh(output - y)).sum(axis=1).mean(), rel=1e-12)
    delta = np.tanh(output - y) / len(X)
    assert report.delta_norm[-1] == pytest.approx(np.linalg.norm(delta), rel=1e-12)


# ---- looking changes nothing -------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_looking_changes_nothing(optimizer, rng):
    X, y = data(rng)
    layers = [fastgd.Dense(6, "relu", dropout=0.3, l2=0.1), fastgd.Dense(3)]
    nets = [
        fastgd.Network(layers, "squared_error", OPTIMIZERS[optimizer], n_inputs=5) for _ in "ab"
    ]
    for looks, net in enumerate(nets):
        for _ in range(3):
            net.fit(X, y, batch_size=8, verbose=0)
            if looks:
                before, given = everything(net), (X.copy(), y.copy())
                net.gradient_flow(X, y)
                fastgd.explain(net, X[0], y[0])
                net._repr_html_()
                assert everything(net) == before
                np.testing.assert_array_equal((X, y)[0], given[0])
                np.testing.assert_array_equal((X, y)[1], given[1])
            net.train_step(X, y)
    assert everything(nets[0]) == everything(nets[1])


@pytest.mark.parametrize("every", ["auto", 1, 3])
def test_callback_changes_no_bit_of_a_fit(every, rng):
    X, y = data(rng)
    results = []
    for hooks in ([], [fastgd.GradientFlow(every, warn=False)]):
        net = network("relu", optimizer="adam", dtype="float32")
        history = net.fit(X, y, epochs=30, batch_size=8, callbacks=hooks, verbose=0)
        results.append((everything(net), history.history["loss"]))
    assert results[0] == results[1]


def test_callback_sees_the_network_as_each_epoch_left_it(rng):
    X, y = data(rng)
    flow = fastgd.GradientFlow(every=2, n_samples=1000, warn=False)
    net = network()
    net.fit(X, y, epochs=7, callbacks=[flow], verbose=0)
    assert flow.epochs == [1, 3, 5, 6]
    twin = network()
    for epoch, report in zip(flow.epochs, flow.reports, strict=True):
        twin.fit(X, y, epochs=epoch + 1 - twin.epoch, verbose=0)
        assert repr(twin.gradient_flow(X, y)) == repr(report)
    assert flow.values("z_std").shape == (4, 3)
    np.testing.assert_array_equal(flow.values("z_std")[-1], flow.reports[-1].z_std)


def test_callback_looks_at_evenly_spaced_rows(rng):
    X, y = data(rng, n=100)
    flow = fastgd.GradientFlow(every=1, n_samples=30, warn=False)
    net = network()
    weights = rng.uniform(1, 2, size=100)
    net.fit(X, y, sample_weight=weights, callbacks=[flow], verbose=0)
    expected = net.gradient_flow(X[::4], y[::4], weights[::4])
    assert flow.reports[0].n_samples == 25
    assert repr(flow.reports[0]) == repr(expected)


def test_callback_ends_with_a_fit_that_is_stopped(rng):
    X, y = data(rng)
    stop = fastgd.EarlyStopping("loss", min_delta=1e9, patience=2)
    flow = fastgd.GradientFlow(every=100, warn=False)
    network().fit(X, y, epochs=50, callbacks=[flow, stop], verbose=0)
    assert flow.epochs == [2]


def test_auto_keeps_within_its_share_of_the_time(rng, monkeypatch):
    """Looks of 10 ms beside epochs of 20 ms: one in more than ten epochs."""
    X, y = data(rng)
    clock = itertools.count()
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: 0.010 * next(clock))
    flow = fastgd.GradientFlow(warn=False)

    class Driven(fastgd.Callback):
        """Gives the other one its epochs, with the time that they are to have taken."""

        def on_fit_begin(self):
            flow.network, flow.n_epochs = self.network, self.n_epochs
            flow.on_fit_begin()
            flow._cost = 0.010  # the guess before the first look

        def on_epoch_end(self, epoch, logs):
            flow.on_epoch_end(epoch, {**logs, "seconds": 0.020})
            if epoch + 1 < self.n_epochs:
                assert flow._spent <= 0.05 * flow._trained

    network().fit(X, y, epochs=500, callbacks=[Driven()], verbose=0)
    # 3 % of 500 epochs of 20 ms are 300 ms: 30 looks, and the last epoch.
    assert 26 <= len(flow.epochs) <= 31
    assert flow.epochs[-1] == 499


def test_auto_looks_at_most_two_hundred_times(rng):
    X, y = data(rng)
    flow = fastgd.GradientFlow(warn=False)
    net = network()
    net.fit(X, y, epochs=3, callbacks=[flow], verbose=0)
    assert flow.epochs[-1] == 2
    flow.n_epochs, flow._trained, flow.epochs = 2000, 1e9, [9]
    assert not flow._is_due(18)
    assert flow._is_due(19)


def test_callback_goes_on_in_a_resumed_fit(rng, tmp_path):
    X, y = data(rng)
    path = tmp_path / "model.safetensors"

    def hooks():
        return [fastgd.GradientFlow(every=2, warn=False), fastgd.Checkpoint(path)]

    whole = hooks()
    network("relu").fit(X, y, epochs=8, callbacks=whole, verbose=0)
    network("relu").fit(X, y, epochs=4, callbacks=hooks(), verbose=0)
    resumed = hooks()
    fastgd.load(path).fit(X, y, epochs=8, callbacks=resumed, verbose=0, resume=True)
    assert resumed[0].epochs == whole[0].epochs == [1, 3, 5, 7]
    for name in _flow.QUANTITIES:
        np.testing.assert_array_equal(resumed[0].values(name), whole[0].values(name))


@pytest.mark.parametrize(
    "change", [lambda report: report.update(loss=10**400),
               lambda report: report["values"].update(z_mean=[10**400, 0.0])]
)  # fmt: skip
def test_callback_refuses_reports_that_no_float_holds(change, rng, tmp_path):
    X, y = data(rng)
    path = tmp_path / "model.safetensors"
    net = network("relu")
    net.fit(
        X, y, callbacks=[fastgd.GradientFlow(1, warn=False), fastgd.Checkpoint(path)], verbose=0
    )
    net = fastgd.load(path)
    change(net._resume["callbacks"][0]["state"]["reports"][0])
    with pytest.raises(ValueError, match="the state of GradientFlow cannot be restored: Overflow"):
        net.fit(X, y, 2, callbacks=[fastgd.GradientFlow(1)], verbose=0, resume=True)
    assert net.epoch == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastgd.GradientFlow(every=0), ValueError, "every must be at least 1, not 0"),
        (lambda: fastgd.GradientFlow(every="often"), ValueError, "unknown every 'often'.* auto"),
        (lambda: fastgd.GradientFlow(every=1.5), TypeError, "every must be an integer, not 1.5"),
        (lambda: fastgd.GradientFlow(n_samples=0), ValueError, "n_samples must be at least 1"),
        (lambda: fastgd.GradientFlow(warn=1), TypeError, "warn must be True or False"),
        (lambda: fastgd.GradientFlow().values("z_std"), ValueError, "nothing to show.* a fit"),
        (lambda: fastgd.GradientFlow().values("z"), ValueError, "unknown name 'z'.* z_mean, z_std"),
    ],
)
def test_gradient_flow_refuses_what_it_cannot_use(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_gradient_flow_refuses_bad_data(rng):
    X, y = data(rng)
    net = network()
    with pytest.raises(ValueError, match="X has 4 features"):
        net.gradient_flow(X[:, :4], y)
    with pytest.raises(ValueError, match="y"):
        net.gradient_flow(X, y[:5])
    with pytest.raises(RuntimeError, match="no weights yet"):
        fastgd.Network([fastgd.Dense(1)], "squared_error").gradient_flow(X, y)
    net.layers[0].weight[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"not finite: layers\.0\.weight"):
        net.gradient_flow(X, y)


# ---- findings ----------------------------------------------------------------------------------


def kinds(report, **known):
    return [finding.kind for finding in _flow.findings(report, **known)]


def deep(activation, scale=1.0, depth=10, **settings):
    layers = [fastgd.Dense(16, activation) for _ in range(depth)] + [fastgd.Dense(3)]
    net = fastgd.Network(layers, "squared_error", n_inputs=5, **settings)
    net.set_weights([scale * w for w in net.get_weights()])
    return net


def test_healthy_network_has_no_findings(rng):
    X, y, _, _ = load_digits_split()
    for activation in ("relu", "tanh", "gelu"):
        layers = [fastgd.Dense(64, activation), fastgd.Dense(32, activation), fastgd.Dense(10)]
        net = fastgd.Network(layers, "cross_entropy", "adam", n_inputs=64)
        flow = fastgd.GradientFlow(every=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net.fit(X / 16, y, epochs=10, callbacks=[flow], verbose=0)
        assert [report.warnings for report in flow.reports] == [[]] * 10
        assert "Nothing unusual." in repr(flow.reports[0])


def test_vanishing_and_exploding_gradients_are_found(rng):
    X, y = data(rng)
    report = deep("sigmoid").gradient_flow(X, y)
    assert report.delta_norm[0] < 1e-3 * report.delta_norm[-1]
    assert "vanishing" in kinds(report)
    assert "exploding" in kinds(deep("identity", scale=4.0).gradient_flow(X, y))
    assert kinds(deep("relu", depth=3).gradient_flow(X, y)) == []


def test_dead_and_saturated_units_are_found(rng):
    X, y = data(rng)
    net = network("relu")
    net.layers[0].bias = [-100.0, -100.0, 0.0, 0.0, 0.0, 0.0]
    report = net.gradient_flow(X, y)
    assert report.dead[0] >= 1 / 3
    (finding,) = [f for f in _flow.findings(report) if f.kind == "dead"]
    assert re.match(
        r"Dead units in layer 0 relu \(\d\d%\).*Try a smaller lr, leaky_relu", finding.text
    )
    # Of few samples nothing can be said.
    assert "dead" not in kinds(net.gradient_flow(X[:31], y[:31]))
    assert "saturated" in kinds(deep("tanh", scale=20, depth=1).gradient_flow(X, y))


def test_learning_rates_out_of_range_are_found_and_the_advice_helps(rng):
    X, y = data(rng)
    high = network(optimizer=fastgd.SGD(100.0))
    report = high.gradient_flow(X, y)
    assert kinds(report) == ["lr_too_high"]
    advised = float(re.search(r"Try lr below ([\d.e+-]+),", report.warnings[0])[1])
    high.optimizer = fastgd.SGD(advised)
    assert kinds(high.gradient_flow(X, y)) == []
    high = network(optimizer=fastgd.SGD(1e300), dtype="float32")
    (warning,) = high.gradient_flow(X, y).warnings
    assert re.match(r"Learning rate too high: .* that are not finite\. Try a much smaller", warning)
    low = network(optimizer=fastgd.SGD(1e-9))
    report = low.gradient_flow(X, y)
    assert kinds(report) == ["lr_too_low"]
    assert "unless the loss has settled" in report.warnings[0]
    assert kinds(report, is_learning=True) == []


def test_loss_that_is_not_finite_is_a_finding(rng):
    X, y = data(rng)
    net = network("identity", dtype="float32")
    net.set_weights([1e15 * w for w in net.get_weights()])
    report = net.gradient_flow(X, y)
    assert np.isnan(report.loss)
    assert np.isnan(report.delta_norm).all()
    assert np.isfinite(report.z_std[:2]).all()
    assert kinds(report) == ["diverged"]


def test_weights_of_zero_are_no_finding(rng):
    X, y = data(rng)
    layers = [fastgd.Dense(3, weight_init="zeros")]
    report = fastgd.Network(layers, "squared_error", n_inputs=5).gradient_flow(X, y)
    assert np.isinf(report.update_ratio[0])
    assert report.warnings == []


def test_callback_warns_once_of_each_kind(rng):
    X, y = data(rng)
    net = deep("sigmoid", optimizer=fastgd.SGD(1e-3))
    with pytest.warns(GradientFlowWarning) as caught:
        net.fit(X, y, epochs=5, callbacks=[fastgd.GradientFlow(every=1)], verbose=0)
    assert len(caught) == 1
    assert str(caught[0].message).startswith("after epoch 1: Vanishing gradients: |delta| is ")


# ---- explain -----------------------------------------------------------------------------------


def check_explanation(net, x, y, explanation):
    """Hold every number of an explanation to the reference's bounds."""
    last = len(explanation.layers) - 1
    for i, layer in enumerate(explanation.layers):
        act = layer.activation
        named = {"activation": act.name, "param": act.param}
        x_, z, a, delta = (array[None] for array in (layer.x, layer.z, layer.a, layer.delta))
        consumed = z if act.consumes == "z" else a
        held("forward", i, {"X": x_, "W": layer.weight, "b": layer.bias, **named}, {"z": z, "a": a})
        gradient = {"dW": layer.dW, "db": layer.db}
        held("weight_grad", i, {"A_prev": x_, "delta": delta}, gradient)
        if act.name == "softmax":
            expected = np.diag(layer.a) - np.outer(layer.a, layer.a)
            np.testing.assert_array_equal(layer.derivative, expected)
        else:
            one = np.ones_like(z)
            outputs = {"dz": layer.derivative[None]}
            held("activation_grad", i, {"da": one, "x": consumed, **named}, outputs)
        if i < last:
            above = explanation.layers[i + 1]
            inputs = {"delta": above.delta[None], "W": above.weight, "mask": None}
            held("backward", i + 1, {**inputs, "x": consumed, **named}, {"delta": delta})
            identity = {"activation": "identity", "param": 0.0, "x": None}
            held("backward", i + 1, {**inputs, **identity}, {"delta": layer.da[None]})
            np.testing.assert_array_equal(layer.a, above.x)
    output = explanation.layers[last]
    held(
        "loss", last,
        {"z": output.z[None], "a": output.a[None], "y": net._check(x[None], y[None]).y,
         "sample_weight": None, "kind": net.loss_name, "loss_param": net.loss.param,
         "activation": output.activation.name, "param": output.activation.param},
        {"value": explanation.loss, "delta": output.delta[None]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "output"), [(loss, output) for loss in LOSSES for output in fitting_outputs(loss)]
)
def test_explanation_of_every_output_is_the_reference(loss, output, dtype, rng):
    X, y = data(rng, loss)
    net = network("tanh", loss, output, dtype)
    explanation = fastgd.explain(net, X[0], y[0])
    check_explanation(net, X[0], y[0], explanation)
    np.testing.assert_array_equal(explanation.output, net.predict(X[:1])[0])
    assert explanation.loss == pytest.approx(net.evaluate(X[:1], y[:1]), rel=1e-6)
    # The chain rule as it is written: some roundings of either side, of moderate numbers.
    top = explanation.layers[-1]
    product = top.derivative @ top.da if output == "softmax" else top.da * top.derivative
    slack = 32 * np.finfo(dtype).eps * max(1.0, np.abs(top.da).max())
    np.testing.assert_allclose(product, top.delta, rtol=0, atol=slack)
    canonical = output == fitting_outputs(loss)[0] and loss in (
        "log_loss",
        "cross_entropy",
        "poisson",
    )
    assert top.cancels == canonical
    assert ("the derivative cancels" in str(explanation)) == canonical


@pytest.mark.parametrize("activation", HIDDEN)
def test_explanation_of_every_activation_is_the_reference(activation, dtype, rng):
    X, y = data(rng)
    net = network(activation, dtype=dtype)
    explanation = fastgd.explain(net, X[0], y[0])
    check_explanation(net, X[0], y[0], explanation)
    _, gradients = net.loss_and_grad(X[:1], y[:1])
    for layer, (dW, db) in zip(explanation.layers, gradients, strict=True):
        np.testing.assert_array_equal(layer.dW, dW)
        np.testing.assert_array_equal(layer.db, db)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_explained_step_is_within_the_bounds_of_the_engine_s(optimizer, dtype, rng):
    X, y = data(rng)
    layers = [fastgd.Dense(6, "tanh", l1=0.01, l2=0.1), fastgd.Dense(3)]
    net = fastgd.Network(layers, "squared_error", OPTIMIZERS[optimizer], n_inputs=5, dtype=dtype)
    net.fit(X, y, epochs=2, verbose=0)
    explanation = fastgd.explain(net, X[0], y[0])
    twin = copy.deepcopy(net)
    updates = []

    def watch(op, layer, inputs, found):
        if op == "update":
            ours = explanation.layers[layer]
            held(op, layer, inputs, {**found, "W": ours.new_weight, "b": ours.new_bias})
            updates.append(layer)

    twin._live().checked_step(*twin._check(X[:1], y[:1]), explanation.lr, watch)
    assert updates == [0, 1]
    for layer, old in zip(explanation.layers, net.layers, strict=True):
        np.testing.assert_array_equal(layer.weight, old.weight)
    text = str(explanation)
    if optimizer in ("sgd", "schedule"):
        assert "W <- W - lr dL/dW" in text
    else:
        assert f"step of {type(net.optimizer).__name__} in W, lr = " in text


def test_explanation_takes_targets_as_a_person_writes_them(rng):
    one = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=2)
    wanted = fastgd.explain(one, [1.0, 2.0], 3.0).loss
    for x, y in (([1, 2], [3]), ([[1, 2]], 3), ([[1, 2]], [3]), ([[1, 2]], [[3]])):
        assert fastgd.explain(one, x, y).loss == wanted
    classes = fastgd.Network([fastgd.Dense(3)], "cross_entropy", n_inputs=2)
    wanted = fastgd.explain(classes, [1.0, 2.0], 2).loss
    assert fastgd.explain(classes, [[1.0, 2.0]], [2]).loss == wanted
    assert fastgd.explain(classes, [1.0, 2.0], [0.0, 0.0, 1.0]).loss == pytest.approx(wanted)


def test_explanation_shows_the_scaled_sample():
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=2, input_scale=0.5)
    explanation = fastgd.explain(net, np.array([4, 2], np.uint8), 1)
    np.testing.assert_array_equal(explanation.x, [2, 1])


def test_explanation_of_a_custom_loss(rng):
    class Cube:
        def value(self, output, y):
            return (np.abs(output - y) ** 3).sum(axis=1)

        def delta(self, output, y):
            return 3 * (output - y) * np.abs(output - y)

    X, y = data(rng)
    top = fastgd.explain(network(loss=Cube()), X[0], y[0]).layers[-1]
    error = top.a - y[0]
    np.testing.assert_array_equal(top.da, 3 * error * np.abs(error))
    np.testing.assert_array_equal(top.delta, top.da)


def test_explanation_without_bias_has_none(rng):
    net = fastgd.Network([fastgd.Dense(2, bias=False)], "squared_error", n_inputs=5)
    explanation = fastgd.explain(net, np.ones(5), np.ones(2))
    layer = explanation.layers[0]
    assert layer.bias is layer.db is layer.new_bias is None
    assert "z = x W =" in str(explanation)


def test_explanation_of_large_layers_is_short(rng):
    net = fastgd.Network(
        [fastgd.Dense(256, "relu"), fastgd.Dense(10)], "cross_entropy", n_inputs=784
    )
    explanation = fastgd.explain(net, rng.normal(size=784), 3)
    text = str(explanation)
    assert len(text.splitlines()) < 100
    assert max(map(len, text.splitlines())) < 170
    assert "... (780 more)" in text
    assert "(784 x 256 numbers)" in text
    assert len(explanation._repr_html_()) < 30_000


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.ones((2, 5)), np.ones((2, 3)), ValueError, r"x must be one sample.*\(5,\).*\(2, 5\)"),
        (np.ones(4), np.ones(3), ValueError, "X has 4 features"),
        (np.ones(5), np.ones(2), ValueError, "y"),
        (np.full(5, np.nan), np.ones(3), ValueError, "X"),
        (1.0, np.ones(3), ValueError, r"x must be one sample.*not \(\)"),
    ],
)
def test_explain_refuses_what_is_no_sample(x, y, error, message):
    with pytest.raises(error, match=message):
        fastgd.explain(network(), x, y)


def test_explain_refuses_other_objects_and_infinite_losses():
    with pytest.raises(TypeError, match=r"network must be a fastgd\.Network, not 3"):
        fastgd.explain(3, [1.0], 1.0)
    net = fastgd.Network([fastgd.Dense(1, weight_init="ones")], "squared_error", n_inputs=1)
    with pytest.raises(fastgd.DivergenceError, match=r"not finite, .* Try smaller weights"):
        fastgd.explain(net, [1e30], 0.0)


# ---- words and tables --------------------------------------------------------------------------


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects the texts."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def pages(rng):
    X, y = data(rng)
    net = network("relu", optimizer="adam")
    flow = fastgd.GradientFlow(every=1, warn=False)
    net.fit(X, y, callbacks=[flow], verbose=0)
    report = net.gradient_flow(X, y)
    return {
        "network": net,
        "report": report,
        "flow": flow,
        "sample": fastgd.explain(net, X[0], y[0]),
    }


def test_html_is_well_formed_and_has_no_colours_of_its_own(rng):
    for shown in pages(rng).values():
        html = shown._repr_html_()
        assert Tags(html).texts
        # Text of the theme on the theme's ground, and lines that both themes show.
        colours = set(re.findall(r"(?:color|background): ([^;\"]+)", html))
        assert colours <= {"inherit", "transparent"}
        assert set(re.findall(r"rgba\([^)]*\)|#[0-9a-fA-F]{3,}", html)) <= {
            "rgba(128, 128, 128, 0.4)"
        }


def test_html_of_a_network_shows_layers_parameters_and_memory(rng, capsys):
    X, y = data(rng)
    net = network("relu", optimizer="adam", dtype="float32")
    net.fit(X, y, batch_size=20, verbose=0)
    texts = Tags(net._repr_html_()).texts
    for cell in ("5 -> 6", "relu", "36", "144 B", "79", "316 B"):
        assert cell in texts
    assert any("1 epochs and 2 steps done; optimiser state 632 B" in text for text in texts)
    assert any(text.startswith("Adam(lr=0.001") for text in texts)
    assert capsys.readouterr().out == ""
    unknown = Tags(fastgd.Network([fastgd.Dense(2)], "squared_error")._repr_html_()).texts
    assert {"? -> 2", "?"} <= set(unknown)


def test_html_is_escaped():
    inner = table(("<b>", "&"), [("<script>", "1 < 2")], foot=("<u>", ""))
    texts = Tags(fold('"<i>"', inner)).texts
    assert texts == ['"<i>"', "<b>", "&", "<script>", "1 < 2", "<u>"]

    class Sneaky:
        def value(self, output, y):
            return np.zeros(len(output))

        def delta(self, output, y):
            return np.zeros_like(output)

        def __repr__(self):
            return "<script>alert(1)</script>"

    net = fastgd.Network([fastgd.Dense(1)], Sneaky(), n_inputs=1)
    for shown in (net, fastgd.explain(net, [1.0], 1.0)):
        assert "<script>" not in shown._repr_html_()


def test_report_prints_a_table(rng):
    report = pages(rng)["report"]
    lines = repr(report).splitlines()
    assert re.match(r"Gradient flow of 40 samples: loss [\d.]+, lr 0.001$", lines[0])
    assert lines[1].split()[:3] == ["layer", "z", "mean"]
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["0", "relu"],
        ["1", "relu"],
        ["2", "identity"],
    ]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert "-" in lines[4].split()


def test_callback_prints_its_newest_look(rng):
    flow = pages(rng)["flow"]
    assert repr(flow).startswith(
        "GradientFlow(every=1, n_samples=256): 1 looks, the last after epoch 1\n"
    )
    fresh = fastgd.GradientFlow()
    assert repr(fresh) == "GradientFlow(every='auto', n_samples=256): no looks yet"
    assert fresh._repr_html_() is None


def test_reports_can_be_pickled(rng):
    for name, shown in pages(rng).items():
        if name in ("report", "sample"):
            assert repr(pickle.loads(pickle.dumps(shown))) == repr(shown)


# ---- pictures ----------------------------------------------------------------------------------


def assert_legible(display):
    """Assert that no text is cut off by the edge of the picture or lies on another one."""
    from matplotlib.text import Text

    figure = display.figure_
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    shown = []
    for text in figure.findobj(Text):
        if (
            text.get_visible()
            and text.get_text().strip()
            and text.get_window_extent(renderer).width
        ):
            shown.append((text.get_text(), text.get_window_extent(renderer)))
    # Tick labels beyond the limits of an axis exist but are not drawn.
    drawn = {
        id_: (name, box) for id_, (name, box) in enumerate(shown) if is_drawn(figure, name, box)
    }
    edge = figure.bbox
    for name, box in drawn.values():
        assert edge.x0 - 1 <= box.x0, name
        assert box.x1 <= edge.x1 + 1, name
        assert edge.y0 - 1 <= box.y0, name
        assert box.y1 <= edge.y1 + 1, name
    for (name, box), (other, second) in itertools.combinations(drawn.values(), 2):
        width = min(box.x1, second.x1) - max(box.x0, second.x0)
        height = min(box.y1, second.y1) - max(box.y0, second.y0)
        assert width <= 1 or height <= 1, (name, other)


def is_drawn(figure, name, box):
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if not axis.get_visible():
                continue
            lo, hi = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                for label in (tick.label1, tick.label2):
                    same = (
                        label.get_text() == name and label.get_window_extent().bounds == box.bounds
                    )
                    if same and not lo <= tick.get_loc() <= hi:
                        return False
    return True


def fitted_history(rng, epochs=12, **settings):
    X, y = data(rng, "cross_entropy", n=60)
    net = network("tanh", "cross_entropy", optimizer=fastgd.SGD(0.1))
    return net.fit(X, y, epochs=epochs, verbose=0, **settings)


@with_plots
def test_history_is_drawn_in_panels(rng):
    history = fitted_history(rng, validation_split=0.3, metrics="accuracy")
    display = history.plot()
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "accuracy", "learning rate"]
    assert [ax.get_xlabel() for ax in display.axes_] == ["", "", "epoch"]
    assert set(display.lines_) == {"loss", "val_loss", "accuracy", "val_accuracy", "lr"}
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 13))
        np.testing.assert_array_equal(line.get_ydata(), history.history[name])
    styles = [display.lines_[name].get_linestyle() for name in ("loss", "val_loss")]
    colours = [display.lines_[name].get_color() for name in ("loss", "val_loss")]
    assert styles == ["-", "--"]
    assert colours == ["#0072B2", "#D55E00"]
    for ax in display.axes_[:2]:
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == ["training", "validation"]
    assert display.axes_[2].get_legend() is None
    assert display.figure_ is display.axes_[0].figure
    assert_legible(display)


@with_plots
def test_history_draws_what_is_asked_for_where_it_is_asked_for(rng):
    history = fitted_history(rng)
    display = history.plot("loss", log=True)
    assert display.axes_[0].get_yscale() == "log"
    both = history.plot(["seconds", "loss"])
    assert [ax.get_ylabel() for ax in both.axes_] == ["seconds per epoch", "loss"]
    again = history.plot("lr", axes=display.axes_[0])
    assert again.axes_ == display.axes_
    assert again.figure_ is display.figure_
    onto = history.plot(["lr", "loss"], axes=both.axes_)
    assert onto.axes_ == both.axes_
    part = both.figure_.subfigures()
    assert history.plot("loss", axes=part.subplots()).figure_ is both.figure_
    with pytest.raises(
        ValueError, match="axes holds 1, but 2 are needed: one for each of loss, lr"
    ):
        history.plot(axes=display.axes_[0])


@pytest.mark.parametrize("epochs", [1, 2, 400])
@with_plots
def test_history_of_any_length_is_legible(epochs, rng):
    history = fitted_history(rng, epochs, validation_split=0.2, metrics=("accuracy",))
    display = history.plot()
    assert_legible(display)
    assert (display.lines_["loss"].get_marker() == ".") == (epochs < 30)
    ticks = display.axes_[-1].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))


@with_plots
def test_losses_over_decades_get_a_logarithmic_scale():
    history = fastgd.History()
    history.extend(0, {"loss": [100.0, 10.0, 1.0]})
    assert history.plot().axes_[0].get_yscale() == "log"
    assert history.plot(log=False).axes_[0].get_yscale() == "linear"
    history.append(3, {"loss": -1.0})
    assert history.plot().axes_[0].get_yscale() == "linear"


@with_plots
def test_history_names_what_it_does_not_have(rng):
    history = fitted_history(rng, 2)
    with pytest.raises(
        ValueError, match="unknown name of a value 'acc'; choose from loss, lr, sec"
    ):
        history.plot("acc")
    with pytest.raises(ValueError, match="names is empty; choose from loss, lr, seconds"):
        history.plot([])
    with pytest.raises(ValueError, match="the history is empty: there is nothing to plot before"):
        fastgd.History().plot()


@pytest.mark.parametrize("depth", [0, 1, 3, 9])
@with_plots
def test_report_is_drawn_by_layer(depth, rng):
    X, y = data(rng)
    layers = [fastgd.Dense(8, "sigmoid") for _ in range(depth)] + [fastgd.Dense(3)]
    report = fastgd.Network(layers, "squared_error", n_inputs=5).gradient_flow(X, y)
    display = report.plot()
    labels = [ax.get_ylabel() for ax in display.axes_]
    assert labels == ["z and a", "share in %", "norm", "|change of W| / |W|"]
    assert all(ax.get_legend() is not None for ax in display.axes_)
    np.testing.assert_array_equal(display.lines_["delta_norm"].get_ydata(), report.delta_norm)
    np.testing.assert_array_equal(display.lines_["update_ratio"].get_ydata(), report.update_ratio)
    np.testing.assert_allclose(display.lines_["z"].get_ydata(), report.z_mean)
    assert_legible(display)


@pytest.mark.parametrize(("depth", "epochs"), [(0, 1), (2, 30), (9, 7)])
@with_plots
def test_flow_over_time_is_drawn_as_heat_maps(depth, epochs, rng):
    X, y = data(rng)
    layers = [fastgd.Dense(8, "softsign") for _ in range(depth)] + [fastgd.Dense(3)]
    flow = fastgd.GradientFlow(every=3, warn=False)
    net = fastgd.Network(layers, "squared_error", n_inputs=5)
    net.fit(X, y, epochs=epochs, callbacks=[flow], verbose=0)
    display = flow.plot()
    assert len(display.axes_) == 4
    for ax in display.axes_:
        ticks = [text.get_text() for text in ax.get_yticklabels()]
        assert ticks == flow.reports[0].layers
    meshes = [ax.collections[0] for ax in display.axes_]
    shown = meshes[2].get_array().reshape(depth + 1, -1)
    np.testing.assert_allclose(shown, np.log10(flow.values("delta_norm").T))
    assert all(mesh.get_cmap().name == "viridis" for mesh in meshes)
    edges = meshes[0].get_coordinates()[0, :, 0]
    np.testing.assert_array_equal(edges, [0, *(epoch + 1 for epoch in flow.epochs)])
    assert display.axes_[-1].get_xlabel().startswith("epochs done")
    labels = [ax.get_ylabel() for ax in display.figure_.axes if ax not in display.axes_]
    assert labels == ["std of a", "saturated\nin %", "log10 |delta|", "log10 of\nupdate / W"]
    assert_legible(display)


@pytest.mark.parametrize("name", _flow.QUANTITIES)
@with_plots
def test_every_quantity_can_be_drawn_over_time(name, rng):
    display = pages(rng)["flow"].plot(name)
    assert len(display.axes_) == 1
    assert_legible(display)


def test_flow_over_time_refuses_what_it_cannot_draw(rng):
    flow = pages(rng)["flow"]
    with pytest.raises(ValueError, match="unknown name 'z'; choose from"):
        flow.plot("z")
    with pytest.raises(ValueError, match="names is empty; choose from z_mean"):
        flow.plot([])
    with pytest.raises(ValueError, match="nothing to show"):
        fastgd.GradientFlow().plot()


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch, rng):
    history, shown = fitted_history(rng, 1), pages(rng)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for owner, plot in (
        ("History.plot", history.plot),
        ("GradientFlowReport.plot", shown["report"].plot),
        ("GradientFlow.plot", shown["flow"].plot),
    ):
        message = rf"^{owner} needs matplotlib: pip install 'fastgd\[plot\]'$"
        with pytest.raises(ImportError, match=message):
            plot()


# ---- progress ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [1, 2])
def test_progress_without_any_stderr_is_silent(verbose, monkeypatch, capsys, rng):
    X, y = data(rng)
    monkeypatch.setattr(sys, "stderr", None)
    network().fit(X, y, epochs=2, verbose=verbose)
    assert capsys.readouterr().out == ""


def test_bar_of_a_resumed_fit_begins_where_it_stopped(monkeypatch, tmp_path, rng):
    X, y = data(rng)
    path = tmp_path / "model.safetensors"
    network().fit(X, y, epochs=3, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    begun = []

    class Begun(fastgd.Callback):
        def on_fit_begin(self):
            begun.append((bar._bar.n, bar._bar.initial, bar._bar.total))

    bar = fastgd.ProgressBar()
    net = fastgd.load(path)
    net.fit(X, y, epochs=5, callbacks=[bar, Begun()], verbose=0, resume=True)
    assert begun == [(6, 6, 10)]
    last = sys.stderr.getvalue().rstrip().split("\r")[-1]
    assert "epoch 5/5: 100%" in last


def test_bar_in_a_notebook_is_a_widget_without_a_thread(monkeypatch):
    notebook = importlib.import_module("tqdm.notebook")
    shell = types.SimpleNamespace(kernel=None)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: sys if name == "ipywidgets" else found(name)
    )
    kind = callbacks._bar_class()
    assert issubclass(kind, notebook.tqdm)
    assert kind.monitor_interval == 0
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not issubclass(callbacks._bar_class(), notebook.tqdm)


# ---- documentation -----------------------------------------------------------------------------

PAGE = DOCS / "seeing.md"


@with_plots
def test_cells_of_the_page_print_and_draw_what_it_shows(tmp_path):
    importlib.import_module("fastgd._plots").pyplot("this test")
    assert_cells_print_what_is_shown(PAGE.name, tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]{40,}\]\(img/([\w-]+\.png)\)", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures)
    for name in pictures:
        assert (PAGE.parent / "img" / name).read_bytes().startswith(b"\x89PNG")


def test_page_states_the_thresholds():
    text = PAGE.read_text(encoding="utf-8")
    assert (_flow.VANISHING, _flow.EXPLODING, _flow.DEAD) == (1 / 1000, 1000, 1 / 4)
    assert (_flow.DEAD_SAMPLES, _flow.SATURATED, _flow.FLAT) == (32, 0.5, 0.05)
    assert (_flow.TOO_HIGH, _flow.TOO_LOW) == (0.1, 1 / 100_000)
    for words in (
        "below 1/1000", "more than 1000 times", "more than a quarter", "at least 32 samples",
        "more than half", "below 5 % of the steepest", "more than 10 %", "more than 1/100,000",
    ):  # fmt: skip
        assert words in text
