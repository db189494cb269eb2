"""Network: training, use, state, copies, and the examples in the docstrings."""

import copy
import ctypes
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastgd
from fastgd import Dense, Network

OPTIMIZERS = ["sgd", fastgd.SGD(0.05, 0.9), "adam", "adamw", fastgd.RMSprop(0.01, momentum=0.5)]
OPTIMIZERS += ["rmsprop", "adagrad"]


def blobs(n=300, n_features=5, n_classes=3, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=3, size=(n_classes, n_features))
    y = rng.integers(0, n_classes, n)
    return (centres[y] + rng.normal(size=(n, n_features))).astype(dtype), y


def network(*, hidden=8, n_classes=3, optimizer="sgd", **settings):
    settings = {"n_inputs": 5} | settings
    layers = [Dense(hidden, "tanh"), Dense(n_classes)]
    return Network(layers, "cross_entropy", optimizer, **settings)


def assert_same(one, two, optimizer=True):
    """All numbers of two networks are the same bits."""
    arrays, others = one._arrays(optimizer), two._arrays(optimizer)
    assert list(arrays) == list(others)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    if optimizer:
        assert (one.step, one.epoch) == (two.step, two.epoch)


# ---- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_fit_learns(optimizer):
    X, y = blobs()
    net = network(optimizer=optimizer)
    history = net.fit(X, y, epochs=60, batch_size=32, metrics="accuracy", verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert net.evaluate(X, y, metrics="accuracy")["accuracy"] > 0.95
    assert history.history["accuracy"][-1] > 0.9


def test_history_has_an_entry_for_each_epoch():
    X, y = blobs()
    net = network()
    history = net.fit(X, y, epochs=4, validation_data=(X, y), metrics=["accuracy"], verbose=0)
    assert history is net.history
    assert history.epoch == [0, 1, 2, 3]
    names = ["loss", "lr", "seconds", "accuracy", "val_loss", "val_accuracy"]
    assert list(history.history) == names
    for values in history.history.values():
        assert len(values) == 4
        assert all(type(value) is float for value in values)
    assert history.history["lr"] == [0.01] * 4
    assert min(history.history["seconds"]) > 0
    assert repr(history).startswith("History(4 epochs; last: loss=")
    assert history.history["val_loss"][-1] == net.evaluate(X, y)


def test_history_without_epochs_has_a_repr():
    assert repr(fastgd.History()) == "History(0 epochs)"
    history = fastgd.History()
    history.extend(0, {"loss": [0.5]})
    history.history["cost"] = []  # as a file may have it
    assert repr(history) == "History(1 epochs; last: loss=0.5)"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_fit_goes_on_where_it_stopped(optimizer, dtype):
    X, y = blobs(dtype=dtype)
    one = network(optimizer=optimizer, dtype=dtype)
    two = network(optimizer=optimizer, dtype=dtype)
    first = one.fit(X, y, epochs=5, verbose=0)
    second = [two.fit(X, y, epochs=n, verbose=0) for n in (2, 3)]
    assert_same(one, two)
    assert first.history["loss"] == second[0].history["loss"] + second[1].history["loss"]
    assert (one.epoch, one.step) == (5, 50)


def test_epochs_one_by_one_are_the_bits_of_one_native_call():
    """Validation, metrics and callbacks make Python look at each epoch; nothing else changes."""
    X, y = blobs()
    calm, watched = network(optimizer="adam"), network(optimizer="adam")
    a = calm.fit(X, y, epochs=4, verbose=0)
    b = watched.fit(
        X, y, epochs=4, validation_data=(X, y), metrics="accuracy",
        callbacks=[fastgd.Callback()], verbose=0,
    )  # fmt: skip
    assert_same(calm, watched)
    assert a.history["loss"] == b.history["loss"]


def test_fit_with_nothing_between_epochs_is_one_native_call(monkeypatch):
    X, y = blobs()
    net = network()
    net.fit(X, y, epochs=1, verbose=0)
    calls = []

    class Spy:
        def __init__(self, engine):
            self.engine = engine

        def __getattr__(self, name):
            return getattr(self.engine, name)

        def run_epochs(self, lrs, n_epochs, **options):
            calls.append(n_epochs)
            return self.engine.run_epochs(lrs, n_epochs, **options)

    spy = Spy(net._engine)
    monkeypatch.setattr(net, "_live", lambda: spy)
    net.fit(X, y, epochs=50, verbose=0)
    assert calls == [50]
    net.fit(X, y, epochs=3, callbacks=[fastgd.Callback()], verbose=0)
    assert calls == [50, 1, 1, 1]


def test_train_step_over_batches_is_a_fit_without_shuffling():
    X, y = blobs(n=100)
    one, two = network(optimizer="adam"), network(optimizer="adam")
    history = one.fit(X, y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    losses = [
        [two.train_step(X[i : i + 32], y[i : i + 32]) for i in range(0, 100, 32)] for _ in range(2)
    ]
    for name, array in one._arrays().items():
        np.testing.assert_array_equal(array, two._arrays()[name])
    means = [np.average(epoch, weights=[32, 32, 32, 4]) for epoch in losses]
    np.testing.assert_allclose(history.history["loss"], means, rtol=1e-6)
    assert one.step == two.step == 8


def test_train_step_takes_both_ways_to_the_same_bits():
    """Lists, other dtypes and strides take the long way; arrays as they should be the short one."""
    X, y = blobs(n=64)
    short, long = network(), network()
    for _ in range(3):
        a = short.train_step(X, y)
        b = long.train_step(X.astype("float64")[:, ::1].tolist(), y.astype("int16"))
        assert a == b
        assert type(a) is float
    assert_same(short, long)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("squared_error", np.linspace(-1, 1, 20).reshape(10, 2)),
        ("log_loss", np.linspace(0, 1, 20).reshape(10, 2)),
        ("poisson", np.linspace(0, 5, 20).reshape(10, 2)),
        ("cross_entropy", np.arange(10) % 2),
        ("cross_entropy", np.full((10, 2), 0.5)),
        ("log_loss", -np.zeros((10, 2))),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_train_step_of_each_loss_equals_its_first_call(loss, y, dtype):
    """The second call may take the short way; a network that never does must agree."""
    X = np.random.default_rng(0).normal(size=(10, 3)).astype(dtype)
    y = y if loss == "cross_entropy" and y.ndim == 1 else y.astype(dtype)
    one = Network([Dense(2)], loss, n_inputs=3, dtype=dtype)
    two = Network([Dense(2)], loss, n_inputs=3, dtype=dtype)
    for _ in range(3):
        a = one.train_step(X, y)
        two._short = None
        assert a == two.train_step(X, y)
    assert_same(one, two)


def test_train_step_and_fit_use_sample_weights():
    X, y = blobs(n=40)
    weight = np.random.default_rng(5).uniform(size=40)
    one, two, three = network(), network(), network()
    one.train_step(X, y, weight)
    two.fit(X, y, batch_size=40, shuffle=False, sample_weight=weight, verbose=0)
    three.train_step(X, y)
    assert_same(one, two, optimizer=False)
    assert (one.layers[0].weight != three.layers[0].weight).any()


def test_weight_zero_leaves_a_sample_out():
    X, y = blobs(n=40)
    weight = np.ones(40)
    weight[::3] = 0
    one, two = network(dtype="float64"), network(dtype="float64")
    loss, gradients = one.loss_and_grad(X, y, weight)
    wanted, wanted_gradients = two.loss_and_grad(X[weight > 0], y[weight > 0])
    assert loss == pytest.approx(wanted, rel=1e-12)
    for pair, other in zip(gradients, wanted_gradients, strict=True):
        for a, b in zip(pair, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    assert one.evaluate(X, y, weight) == pytest.approx(
        one.evaluate(X[weight > 0], y[weight > 0]), rel=1e-12
    )


def test_batches_of_weight_zero_change_nothing():
    X, y = blobs(n=40)
    weight = np.zeros(40)
    weight[:10] = 1
    one, two = network(), network()
    one.fit(X, y, batch_size=10, shuffle=False, sample_weight=weight, verbose=0)
    two.train_step(X[:10], y[:10])
    assert_same(one, two, optimizer=False)


def test_shuffle_depends_on_seed_and_epoch():
    X, y = blobs()

    def trained(seed, shuffle=True, epochs=1):
        net = network(seed=seed)
        net.set_weights(network().get_weights())
        net.fit(X, y, epochs=epochs, shuffle=shuffle, verbose=0)
        return net.get_weights()[0]

    np.testing.assert_array_equal(trained(1), trained(1))
    assert (trained(1) != trained(2)).any()
    assert (trained(1) != trained(1, shuffle=False)).any()
    np.testing.assert_array_equal(trained(1, shuffle=False), trained(2, shuffle=False))


def test_seed_none_draws_one():
    one, two = network(seed=None), network(seed=None)
    assert one.seed != two.seed
    np.testing.assert_array_equal(network(seed=one.seed).layers[0].weight, one.layers[0].weight)


def test_largest_seed_works():
    net = network(seed=2**64 - 1)
    net.fit(*blobs(), verbose=0)
    assert net.seed == net._engine.seed == 2**64 - 1


def test_batch_larger_than_the_data_is_the_data():
    X, y = blobs(n=20)
    one, two = network(), network()
    one.fit(X, y, batch_size=1000, verbose=0)
    two.fit(X, y, batch_size=20, verbose=0)
    assert_same(one, two)
    assert one.step == 1


def test_first_fit_finds_the_inputs():
    X, y = blobs()
    waiting, ready = network(n_inputs=None), network()
    assert waiting.n_inputs is None
    assert (waiting.epoch, waiting.step) == (0, 0)
    for net in (waiting, ready):
        net.fit(X, y, verbose=0)
    assert waiting.n_inputs == 5
    assert_same(waiting, ready)


def test_network_without_weights_says_so():
    X, y = blobs()
    net = network(n_inputs=None)
    calls = [
        lambda: net.predict(X),
        lambda: net.evaluate(X, y),
        lambda: net.loss_and_grad(X, y),
        lambda: net.get_weights(),
        lambda: net.set_weights([]),
        lambda: net.save("never.safetensors"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="give n_inputs to Network, or call fit first"):
            call()


def test_validation_split_takes_the_last_samples():
    X, y = blobs(n=100)
    one, two = network(), network()
    a = one.fit(X, y, epochs=2, validation_split=0.25, verbose=0)
    b = two.fit(X[:75], y[:75], epochs=2, validation_data=(X[75:], y[75:]), verbose=0)
    assert_same(one, two)
    assert a.history["val_loss"] == b.history["val_loss"]


def test_validation_uses_its_weights():
    X, y = blobs(n=60)
    weight = np.linspace(0, 1, 60)
    net = network()
    a = net.fit(X, y, validation_data=(X, y, weight), metrics="accuracy", verbose=0)
    assert a.history["val_loss"] == [net.evaluate(X, y, weight)]
    assert a.history["val_accuracy"] == [net.evaluate(X, y, weight, metrics="accuracy")["accuracy"]]
    split = network().fit(X, y, sample_weight=weight, validation_split=0.5, verbose=0)
    twin = network()
    wanted = twin.fit(
        X[:30], y[:30], sample_weight=weight[:30], validation_data=(X[30:], y[30:], weight[30:]),
        verbose=0,
    )  # fmt: skip
    assert split.history["val_loss"] == wanted.history["val_loss"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_rows_that_are_asked_for_ahead_train_to_the_same_bits(threads, clip_norm):
    """Of more than 4 MB: in rows, backwards, with gaps, in columns, and in ways not asked for."""
    rng = np.random.default_rng(5)
    n, features = 110_001, 10
    X = rng.standard_normal((n, features), dtype=np.float32)
    y = rng.standard_normal((n, 2), dtype=np.float32)
    in_pairs = np.zeros((n, features, 2), dtype=np.float32)
    in_pairs[:, :, 1] = X
    apart = np.zeros((n, features, 15), dtype=np.float32)
    apart[:, :, 0] = X
    backwards = X[::-1, ::-1].copy()[::-1, ::-1], y[::-1].copy()[::-1]
    forms = [
        (X, y),
        backwards,
        (np.asfortranarray(X), y),
        (in_pairs[:, :, 1], np.asfortranarray(y)),
        (apart[:, :, 0], y),
    ]
    seen = set()
    for data, targets in forms:
        sgd = fastgd.SGD(lr=0.01, clip_norm=clip_norm)
        net = Network([Dense(20, "tanh"), Dense(2)], loss="squared_error", optimizer=sgd, seed=3)
        fit = {"epochs": 1, "batch_size": 600, "n_threads": threads, "verbose": 0}
        net.fit(data, targets, sample_weight=np.linspace(0.5, 1, n), **fit)
        seen.add(b"".join(a.tobytes() for a in net.get_weights()))
    assert len(seen) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_with_labels_that_are_asked_for_ahead_train_to_the_same_bits(threads):
    """A first layer of 280 KB, which threads divide by units, so that each gathers all rows."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((11_000, 100), dtype=np.float32)
    y = rng.integers(0, 3, len(X))
    long = np.zeros((len(X), 100, 2), dtype=np.float32)
    long[:, :, 0] = X
    nets = [Network([Dense(700, "relu"), Dense(3)], loss="cross_entropy", seed=4) for _ in range(2)]
    for net, data in zip(nets, (X, long[:, :, 0]), strict=True):
        net.fit(data, y, epochs=1, batch_size=100, n_threads=threads, verbose=0)
    assert_same(*nets)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_the_bits(dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 64)).astype(dtype)
    y = rng.integers(0, 10, 600)
    nets = []
    for n_threads in (1, 2, 3):
        layers = [Dense(160, "gelu", dropout=0.3, l2=1e-3), Dense(10)]
        net = Network(layers, "cross_entropy", "adam", 64, dtype)
        net.fit(X, y, epochs=2, batch_size=128, verbose=0, n_threads=n_threads)
        nets.append((net, net.predict(X, n_threads=n_threads)))
    for net, outputs in nets[1:]:
        assert_same(nets[0][0], net)
        np.testing.assert_array_equal(nets[0][1], outputs)


# ---- divergence and interruption ------------------------------------------------------------


def exploding():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 100
    return X, X.sum(axis=1, keepdims=True)


def test_divergence_names_epoch_and_step_and_keeps_finite_weights():
    X, y = exploding()
    net = Network([Dense(8, "relu"), Dense(1)], "squared_error", fastgd.SGD(0.5), 5)
    with pytest.raises(fastgd.DivergenceError, match=r"smaller lr.*clip_norm") as caught:
        net.fit(X, y, epochs=100, batch_size=16, verbose=0)
    error = caught.value
    assert isinstance(error, ArithmeticError)
    assert error.step // 4 == error.epoch
    assert f"epoch {error.epoch + 1}, step {error.step + 1} of the fit" in str(error)
    for array in net._arrays().values():
        assert np.isfinite(array).all()
    assert np.isfinite(net.predict(X)).all()


def test_divergence_is_the_same_in_one_call_and_epoch_by_epoch():
    X, y = exploding()
    errors = []
    for callbacks in ([], [fastgd.Callback()]):
        net = Network([Dense(8, "relu"), Dense(1)], "squared_error", fastgd.SGD(2e-4), 5)
        with pytest.raises(fastgd.DivergenceError) as caught:
            net.fit(X, y, epochs=100, batch_size=16, callbacks=callbacks, verbose=0)
        errors.append(
            (caught.value.epoch, caught.value.step, [a.tobytes() for a in net.get_weights()])
        )
    assert errors[0] == errors[1]
    assert errors[0][0] > 0, "or the test does not tell epochs apart"


def test_divergence_in_train_step():
    X, y = exploding()
    net = Network([Dense(8, "relu"), Dense(1)], "squared_error", fastgd.SGD(0.5), 5)
    first = net.get_weights()
    for _ in range(2):
        net.train_step(X, y)
    with pytest.raises(fastgd.DivergenceError, match="diverged in step 3") as caught:
        net.train_step(X, y)
    assert caught.value.epoch is None
    assert all(np.isfinite(array).all() for array in net.get_weights())
    net.set_weights(first)
    net.optimizer = fastgd.SGD(1e-9, clip_norm=1.0)
    assert net.train_step(X, y) < 1e9


def test_loss_without_a_gradient_is_refused():
    net = Network([Dense(1)], "poisson", n_inputs=1)
    net.loss_and_grad([[1.0]], [1.0])
    net.layers[0].weight = [[1000.0]]
    with pytest.raises(fastgd.DivergenceError, match="loss of these samples is not finite"):
        net.loss_and_grad([[1.0]], [1.0])


def test_divergence_advice_depends_on_the_optimizer():
    X, y = exploding()
    net = Network([Dense(1)], "squared_error", fastgd.SGD(1e30, clip_norm=1e30), 5)
    with pytest.raises(fastgd.DivergenceError) as caught:
        net.fit(X, y, epochs=20, verbose=0)
    assert "clip_norm" not in str(caught.value)
    assert "1e+30" in str(caught.value)


def test_interrupt_leaves_the_network_usable():
    X, y = blobs(n=4000)
    net = network(hidden=64)
    net.fit(X, y, verbose=0)
    before = net.step
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.daemon = True
    started = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=10**6, batch_size=16, verbose=0)
    assert time.monotonic() - started < 5
    assert net.step > before
    assert all(np.isfinite(array).all() for array in net._arrays().values())
    net.predict(X)
    net.fit(X, y, verbose=0)
    pickle.loads(pickle.dumps(net))


def test_network_is_one_fit_at_a_time():
    X, y = blobs()

    class Meddle(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            for call in (self.network.fit, self.network.train_step, self.network.loss_and_grad):
                with pytest.raises(RuntimeError, match="is being fitted"):
                    call(X, y)
            self.network.evaluate(X, y)
            self.network.predict(X)

    one, two = network(), network()
    for net in (one, two):
        net.train_step(X, y)
    one.fit(X, y, epochs=2, callbacks=Meddle(), verbose=0)
    two.fit(X, y, epochs=2, verbose=0)
    assert_same(one, two)


def test_unaligned_arrays_give_the_bits_of_aligned_ones():
    # As of a memory map that begins anywhere; undefined behaviour if C is told of other types.
    X, y = blobs()
    given = X, y.astype(np.int64), np.linspace(1, 2, len(y))
    moved = []
    for array in given:
        memory = np.zeros(array.nbytes + 1, np.uint8)
        moved.append(memory[1:].view(array.dtype).reshape(array.shape))
        moved[-1][...] = array
    one, two = network(), network()
    for net, (X_, y_, w) in ((one, given), (two, moved)):
        net.fit(X_, y_, sample_weight=w, epochs=2, verbose=0)
        net.train_step(X_, y_, w)
        for _ in range(2):
            net.train_step(X_, y_)
    assert_same(one, two)
    assert one.evaluate(*given) == two.evaluate(*moved)
    assert one.predict(X).tobytes() == two.predict(moved[0]).tobytes()


def test_of_two_fits_that_begin_at_once_one_is_refused():
    # Both pass the first check: the data of one arrive only while the other trains. Batches of the
    # larger would be written into the outputs of the smaller.
    began, tried = threading.Event(), threading.Event()
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 2)), np.zeros(8, dtype=int)
    large = rng.normal(size=(4096, 2))
    net = fastgd.Network([fastgd.Dense(2)], loss="cross_entropy", n_inputs=2)

    class Hold(fastgd.Callback):
        def on_epoch_begin(self, epoch):
            began.set()
            tried.wait(30)

    first = threading.Thread(
        target=net.fit,
        args=(X, y),
        kwargs={"batch_size": 1, "metrics": "accuracy", "callbacks": Hold(), "verbose": 0},
    )

    class Late:
        def __array__(self, dtype=None, copy=None):
            first.start()
            began.wait(30)
            return large

    with pytest.raises(RuntimeError, match="is being fitted"):
        net.fit(Late(), np.zeros(4096, dtype=int), batch_size=4096, verbose=0)
    tried.set()
    first.join()
    assert len(net.history.history["accuracy"]) == 1
    net.fit(X, y, verbose=0)


def test_number_of_inputs_may_be_settled_while_data_are_read():
    net = fastgd.Network([fastgd.Dense(2)], loss="cross_entropy")
    narrow = np.ones((4, 1))

    class Late:
        def __array__(self, dtype=None, copy=None):
            net.train_step(narrow, np.zeros(4, dtype=int))
            return np.zeros(4096, dtype=int)

    for call in (net.fit, net.train_step):
        with pytest.raises(ValueError, match="features"):
            call(np.ones((4096, 999)), Late())
        net = fastgd.Network([fastgd.Dense(2)], loss="cross_entropy")


# ---- use ------------------------------------------------------------------------------------


def test_predict_is_the_formula():
    X, _ = blobs(dtype="float64")
    net = network(dtype="float64")
    z = np.tanh(X @ net.layers[0].weight) @ net.layers[1].weight
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(net.predict(X), e / e.sum(axis=1, keepdims=True), rtol=1e-12)
    single = network()
    assert single.predict(X).dtype == np.float32
    assert single.predict(X).shape == (300, 3)
    assert Network([Dense(1)], "squared_error", n_inputs=5).predict(X).shape == (300, 1)


def test_predict_of_a_sample_does_not_depend_on_the_others():
    X, _ = blobs()
    net = network()
    whole = net.predict(X)
    for rows in ([0], [299], [5, 3, 250], slice(17, 100)):
        np.testing.assert_array_equal(net.predict(X[rows]), whole[rows])


def test_gradients_agree_with_central_differences():
    X, y = blobs(n=30, dtype="float64")
    net = network(dtype="float64")
    loss, gradients = net.loss_and_grad(X, y)
    assert loss == pytest.approx(net.evaluate(X, y), rel=1e-12)
    views = list(net._arrays(False).values())
    flat = [array for pair in gradients for array in pair]
    for view, gradient in zip(views, flat, strict=True):
        assert gradient.shape == view.shape
        for place in np.ndindex(*view.shape):
            old, h = view[place], 1e-6
            view[place] = old + h
            up = net.evaluate(X, y)
            view[place] = old - h
            down = net.evaluate(X, y)
            view[place] = old
            assert gradient[place] == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-9)


def test_loss_and_grad_changes_nothing():
    X, y = blobs()
    one, two = network(optimizer="adam"), network(optimizer="adam")
    for net in (one, two):
        net.fit(X, y, verbose=0)
    one.loss_and_grad(X, y)
    one.evaluate(X, y)
    one.predict(X)
    assert_same(one, two)


def test_clipping_does_not_act_on_loss_and_grad():
    X, y = blobs()
    _, plain = network().loss_and_grad(X, y)
    clipped = network(optimizer=fastgd.SGD(clip_value=1e-6, clip_norm=1e-6))
    _, gradients = clipped.loss_and_grad(X, y)
    np.testing.assert_array_equal(plain[0][0], gradients[0][0])


@pytest.mark.parametrize("given", ["training", "validation"])
def test_accuracy_of_other_targets_is_refused_before_training(given):
    net = Network([Dense(1)], "squared_error", n_inputs=2)
    before = net.get_weights()
    good, bad = np.array([0.0, 1.0, 0.0]), np.array([0.0, 3.0, 1.0])
    y, other = (bad, good) if given == "training" else (good, bad)
    data = np.ones((3, 2))
    name = "y" if given == "training" else "validation y"
    message = rf"accuracy needs class labels, or targets from 0 to 1, but {name}\[1, 0\] is 3\.0"
    with pytest.raises(ValueError, match=message):
        net.fit(data, y, validation_data=(data, other), metrics="accuracy", verbose=0)
    assert net.step == 0
    for one, two in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "what the metric 'own' returns must be real numbers, not None"),
        ("0.5", TypeError, "must be real numbers, not '0.5'"),
        (0.5j, TypeError, "must be real numbers, not 0.5j"),
        (np.zeros(3), ValueError, r"what the metric 'own' returns must be one number"),
    ],
)
def test_metrics_that_return_no_number_are_named(value, error, message):
    def own(y, output):
        return value

    net = Network([Dense(1)], "squared_error", n_inputs=2)
    for call in (net.fit, net.evaluate):
        with pytest.raises(error, match=message):
            call(np.ones((3, 2)), np.ones(3), metrics=own)


def test_metrics_may_return_numbers_of_every_kind():
    net = Network([Dense(1)], "squared_error", n_inputs=2)
    for value in (1, True, np.float32(1), np.array(1.0), np.array([1.0]), np.inf, np.nan):
        found = net.evaluate(np.ones((3, 2)), np.ones(3), metrics=lambda y, output, v=value: v)
        np.testing.assert_equal(found["<lambda>"], float(np.ravel(value)[0]))


def test_metrics_of_evaluate():
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(50, 5)), rng.uniform(size=50)
    y = X.sum(axis=1, keepdims=True) + rng.normal(size=(50, 1))
    net = Network([Dense(1)], "squared_error", n_inputs=5, dtype="float64")

    def worst(y, output, sample_weight=None):
        return np.abs(y - output).max()

    got = net.evaluate(X, y, metrics=["mse", "mae", "r2", worst])
    e = net.predict(X) - y
    assert list(got) == ["loss", "mse", "mae", "r2", "worst"]
    assert got["loss"] == pytest.approx(0.5 * (e**2).mean())
    assert got["mse"] == pytest.approx((e**2).mean())
    assert got["mae"] == pytest.approx(np.abs(e).mean())
    assert got["r2"] == pytest.approx(1 - (e**2).sum() / ((y - y.mean()) ** 2).sum())
    assert got["worst"] == np.abs(e).max()
    got = net.evaluate(X, y, w, metrics=["mse", "mae", "r2"])
    mean = np.average(y[:, 0], weights=w)
    assert got["mse"] == pytest.approx(np.average(e[:, 0] ** 2, weights=w))
    assert got["mae"] == pytest.approx(np.average(np.abs(e[:, 0]), weights=w))
    assert got["r2"] == pytest.approx(1 - w @ e[:, 0] ** 2 / (w @ (y[:, 0] - mean) ** 2))


def test_accuracy_of_each_kind_of_output():
    X, y = blobs()
    net = network(optimizer="adam")
    net.fit(X, y, epochs=3, verbose=0)
    right = (net.predict(X).argmax(axis=1) == y).mean()
    assert net.evaluate(X, y, metrics="accuracy")["accuracy"] == pytest.approx(right)
    rows = np.eye(3)[y]
    assert net.evaluate(X, rows, metrics="accuracy")["accuracy"] == pytest.approx(right)
    one = Network([Dense(1)], "log_loss", n_inputs=5)
    yes = (y > 0).astype(float)
    right = ((one.predict(X)[:, 0] > 0.5) == (yes > 0.5)).mean()
    assert one.evaluate(X, yes, metrics="accuracy")["accuracy"] == pytest.approx(right)
    many = Network([Dense(3)], "log_loss", n_inputs=5)
    right = ((many.predict(X) > 0.5) == (rows > 0.5)).mean()
    assert many.evaluate(X, rows, metrics="accuracy")["accuracy"] == pytest.approx(right)
    linear = Network([Dense(3)], "squared_error", n_inputs=5)
    right = (linear.predict(X).argmax(axis=1) == y).mean()
    assert linear.evaluate(X, rows, metrics="accuracy")["accuracy"] == pytest.approx(right)
    with pytest.raises(ValueError, match="class labels, or targets from 0 to 1"):
        linear.evaluate(X, 5 * rows, metrics="accuracy")


def test_training_metrics_use_the_outputs_of_the_steps():
    X, y = blobs(n=64)
    one, two = network(), network()
    a = one.fit(X, y, batch_size=64, metrics="accuracy", verbose=0)
    # One batch: its outputs are those before the step.
    assert a.history["accuracy"] == [two.evaluate(X, y, metrics="accuracy")["accuracy"]]
    # Many batches: every sample counts once, as it was when its turn came.
    net, steps, outputs = network(), network(), []
    b = net.fit(X, y, batch_size=8, shuffle=False, metrics=["mse"], verbose=0)
    for i in range(0, 64, 8):
        outputs.append(steps.predict(X[i : i + 8]))
        steps.train_step(X[i : i + 8], y[i : i + 8])
    error = np.concatenate(outputs) - np.eye(3)[y]
    assert b.history["mse"] == [pytest.approx((error**2).mean(), rel=1e-6)]


def test_r2_of_a_constant_target():
    from fastgd import metrics

    y = np.ones((4, 1))
    assert metrics.r2(y, y) == 1
    assert metrics.r2(y, y + 1) == 0


class OfWidth(fastgd.Network):
    """A subclass whose arguments are its own."""

    def __init__(self, width):
        super().__init__([Dense(width), Dense(3)], "cross_entropy", n_inputs=5)
        self.width = width
        self.names = ["a", "b"]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_of_a_subclass(copied):
    X, y = blobs()
    net = OfWidth(3)
    net.fit(X, y, verbose=0)
    net.owner = net.names
    twin = copied(net)
    assert type(twin) is OfWidth
    assert (twin.width, twin.names, twin.step) == (3, ["a", "b"], net.step)
    assert twin.owner is twin.names
    for a, b in zip(net.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    twin.fit(X, y, verbose=0)
    assert twin.step > net.step


def test_validate_of_a_subclass_copies_nothing_of_its_own():
    X, y = blobs()
    net = OfWidth(3)
    net.lock = threading.Lock()
    assert net.validate(X, y).operations


def test_metric_with_the_name_of_a_validation_value_is_refused():
    def val_loss(y, output):
        return 42.0

    def val_mse(y, output):
        return 42.0

    X, y = blobs()
    for given, name in ((val_loss, "val_loss"), ([val_mse, "mse"], "val_mse")):
        net = network()
        with pytest.raises(ValueError, match=f"metric '{name}' has the name of .* rename it"):
            net.fit(X, y, metrics=given, validation_data=(X, y), verbose=0)
        assert net.step == 0
    assert network().evaluate(X, y, metrics=val_mse)["val_mse"] == 42


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("acuracy", ValueError, "unknown metric 'acuracy'; choose from accuracy, mse, mae, r2"),
        (["mse", "mse"], ValueError, "two values would be called 'mse'"),
        ([3], TypeError, "unknown metric 3"),
    ],
)
def test_metrics_are_checked(given, error, message):
    X, y = blobs()
    with pytest.raises(error, match=message):
        network().evaluate(X, y, metrics=given)


def test_summary_counts_parameters(capsys):
    text = network().summary()
    assert capsys.readouterr().out == text + "\n"
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["0", "5", "->", "8", "tanh", "48", "192", "B"]
    assert lines[2] == ["1", "8", "->", "3", "softmax", "27", "108", "B"]
    assert lines[3] == ["total", "75", "300", "B"]
    big = Network([Dense(1024, bias=False)], "squared_error", n_inputs=1024, dtype="float64")
    assert "1,048,576  8.0 MiB" in big.summary()
    assert "? -> 8" in network(n_inputs=None).summary()


def test_repr_reads_like_the_call():
    net = Network([Dense(3, "relu"), Dense(1)], "huber", fastgd.Adam(0.1), 2, "float64", 7)
    names = vars(fastgd)
    again = eval(repr(net), {name: names[name] for name in ("Network", "Dense", "Adam", "Huber")})
    assert repr(again) == repr(net)
    assert_same(net, again)


@pytest.mark.parametrize(
    "name", ["layers", "loss", "dtype", "seed", "n_inputs", "n_outputs", "epoch", "step"]
)
def test_settings_of_a_network_are_fixed(name):
    """Assigning them would change nothing in the engine, so it is refused."""
    net = network()
    before = getattr(net, name)
    with pytest.raises(AttributeError):
        setattr(net, name, 1)
    assert getattr(net, name) == before


@pytest.mark.parametrize("name", ["units", "activation", "l1", "l2", "dropout", "use_bias"])
def test_settings_of_a_layer_are_fixed(name):
    for layer in (network().layers[0], Dense(3)):
        with pytest.raises(AttributeError, match=f"{name} of a layer is fixed"):
            setattr(layer, name, 1)


# ---- state ----------------------------------------------------------------------------------


def test_set_weights_takes_views_of_the_weights_themselves():
    net = Network([Dense(3, "tanh"), Dense(3)], "squared_error", n_inputs=3)
    first, second = (layer.weight.copy() for layer in net.layers)
    bias = np.zeros(3)
    net.set_weights([net.layers[1].weight.T, bias, net.layers[0].weight, bias])
    np.testing.assert_array_equal(net.layers[0].weight, second.T)
    np.testing.assert_array_equal(net.layers[1].weight, first)


def test_set_weights_checks_all_before_it_writes():
    net = network()
    before = net.get_weights()
    new = [array + 1 for array in before]
    new[-1] = np.full(3, np.nan)
    with pytest.raises(ValueError, match=r"layers\.1\.bias has values that are not finite"):
        net.set_weights(new)
    with pytest.raises(ValueError, match="3 arrays were given; the network has 4"):
        net.set_weights(new[:3])
    with pytest.raises(ValueError, match=r"layers\.0\.weight has shape"):
        net.set_weights(new[::-1])
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_get_weights_gives_copies():
    net = network()
    weights = net.get_weights()
    for array in weights:
        assert array.flags.c_contiguous
        assert array.flags.owndata
        array[:] = 7
    assert (net.layers[0].weight != 7).all()


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_copies_train_on_to_the_same_bits(copy_of, optimizer):
    X, y = blobs()
    net = network(optimizer=optimizer)
    net.fit(X, y, epochs=2, verbose=0)
    net.metadata = {"a": [1, 2]}
    twin = copy_of(net)
    assert_same(net, twin)
    assert (twin.metadata, repr(twin)) == (net.metadata, repr(net))
    assert twin.history.history == net.history.history
    net.fit(X, y, epochs=2, verbose=0)
    assert (net.layers[0].weight != twin.layers[0].weight).any(), "copies must not share"
    twin.fit(X, y, epochs=2, verbose=0)
    assert_same(net, twin)


def test_copies_of_a_network_without_weights():
    twin = copy.deepcopy(network(n_inputs=None))
    assert twin.n_inputs is None
    twin.fit(*blobs(), verbose=0)


def test_weights_spoilt_through_the_view_are_found():
    X, y = blobs()
    for call in ("fit", "train_step", "loss_and_grad", "evaluate", "validate", "predict"):
        net = network()
        net.layers[1].weight[0, 0] = np.nan
        with pytest.raises(ValueError, match=r"weights are not finite: layers\.1\.weight"):
            getattr(net, call)(*(X, y)[: 1 if call == "predict" else 2])
        assert net.step == 0


def test_weights_spoilt_between_two_steps_are_found():
    X, y = blobs()
    for data in ((X.astype(np.float64), y), (X.astype(np.float32), y.astype(np.int64))):
        net = network(dtype="float32")
        net.train_step(*data)
        net.train_step(*data)
        net.layers[1].weight[0, 0] = np.nan
        with pytest.raises(ValueError, match=r"weights are not finite: layers\.1\.weight"):
            net.train_step(*data)
        assert net.step == 2


def test_network_is_freed():
    import gc
    import weakref

    net = network()
    net.fit(*blobs(), verbose=0)
    ref = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert ref() is None, "a cycle keeps the network"
    finally:
        gc.enable()


def test_data_are_let_go_after_a_fit():
    import weakref

    net = network()
    X, y = blobs()
    ref = weakref.ref(X)
    net.fit(X, y, verbose=0)
    del X
    assert ref() is None


def test_train_step_is_quick():
    """The Python around the native call costs a few microseconds, not tens."""
    X, y = blobs(n=32)
    net = network()
    with fastgd.config(n_threads=1):
        net.train_step(X, y)
        native = net._engine.train_step

        def best(call):
            times = []
            for _ in range(30):
                started = time.perf_counter()
                for _ in range(200):
                    call()
                times.append((time.perf_counter() - started) / 200)
            return min(times)

        overhead = best(lambda: net.train_step(X, y)) - best(lambda: native(X, y, None, 0.01))
    assert overhead < 8e-6


def test_fit_in_a_forked_child():
    """A worker team of the parent does not hang a child."""
    code = """
import os, numpy as np, fastgd
X, y = np.random.default_rng(0).normal(size=(500, 64)), np.zeros(500, int)
net = fastgd.Network([fastgd.Dense(128, "relu"), fastgd.Dense(3)], "cross_entropy", n_inputs=64)
net.fit(X, y, batch_size=128, verbose=0, n_threads=2)
pid = os.fork()
if pid == 0:
    net.fit(X, y, batch_size=128, verbose=0, n_threads=2)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == "0"


def test_fits_of_two_networks_in_two_threads():
    X, y = blobs(n=2000)
    nets = [network(hidden=32, seed=seed) for seed in (1, 2)]
    alone = [copy.deepcopy(net) for net in nets]
    threads = [
        threading.Thread(target=net.fit, args=(X, y, 5), kwargs={"verbose": 0}) for net in nets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net, twin in zip(nets, alone, strict=True):
        twin.fit(X, y, 5, verbose=0)
        assert_same(net, twin)


# ---- data as they come ----------------------------------------------------------------------


def layouts():
    X = np.random.default_rng(0).integers(-50, 50, size=(60, 5)).astype(np.float64)
    padded = np.zeros((120, 11))
    padded[::2, 1:11:2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    yield "float64", X
    yield "float32", X.astype(np.float32)
    yield "float16", X.astype(np.float16)
    yield "long double", X.astype(np.longdouble)
    yield "big endian", X.astype(">f8")
    yield "big endian int", X.astype(">i2")
    for code in "bhilq":
        yield code, X.astype(code)
    yield "fortran", np.asfortranarray(X)
    yield "strided", padded[::2, 1:11:2]
    yield "negative strides", X[::-1, ::-1].copy()[::-1, ::-1]
    yield "read-only", read_only
    yield "list", X.tolist()
    yield "matrix of a subclass", X.view(type("Sub", (np.ndarray,), {}))
    yield (
        "unaligned",
        np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(60, 5),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "X"), list(layouts()), ids=[name for name, _ in layouts()])
def test_layout_of_the_data_does_not_matter(name, X, dtype):
    y = np.arange(60) % 3
    wanted = network(dtype=dtype)
    plain = np.array(X, dtype=np.float64)
    wanted.fit(plain, y, epochs=2, verbose=0)
    before = np.array(X, copy=True)
    net = network(dtype=dtype)
    net.fit(X, y, epochs=2, verbose=0)
    assert_same(wanted, net)
    np.testing.assert_array_equal(np.asarray(X), before)
    np.testing.assert_array_equal(net.predict(X), wanted.predict(plain))
    assert net.evaluate(X, y) == wanted.evaluate(plain, y)
    net.train_step(X, y)
    wanted.train_step(plain, y)
    assert_same(wanted, net)


def test_bool_features_count_as_0_and_1():
    X = np.random.default_rng(0).random((60, 5)) > 0.5
    y = np.arange(60) % 3
    one, two = network(), network()
    one.fit(X, y, verbose=0)
    two.fit(X.astype(float), y, verbose=0)
    assert_same(one, two)


def test_memory_mapped_data_are_not_copied_or_changed(tmp_path):
    X, y = blobs(n=2000)
    path = tmp_path / "X.npy"
    np.save(path, X)
    content = path.read_bytes()
    mapped = np.load(path, mmap_mode="r")
    one, two = network(), network()
    one.fit(mapped, y, verbose=0)
    two.fit(X, y, verbose=0)
    assert_same(one, two)
    assert path.read_bytes() == content


def test_data_are_handed_to_the_engine_without_a_copy():
    X, y = blobs()
    net = network()
    for given in (X, np.asfortranarray(X), X[::2], X.astype(np.int16), X > 0):
        assert np.shares_memory(net._check(given, y[: len(given)]).X, given)


def test_targets_of_one_unit_may_have_one_dimension():
    X, _ = blobs()
    y = X.sum(axis=1)
    one = Network([Dense(1)], "squared_error", n_inputs=5)
    two = Network([Dense(1)], "squared_error", n_inputs=5)
    for _ in range(2):
        one.train_step(X, y)
        two.train_step(X, y[:, None])
    one.fit(X, y, verbose=0)
    two.fit(X, y[:, None], verbose=0)
    assert_same(one, two)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u2", "i8", ">f4", "?"])
def test_targets_of_any_real_dtype(dtype):
    X, _ = blobs(n=40)
    y = (np.arange(80) % 2).reshape(40, 2)
    one = Network([Dense(2)], "squared_error", n_inputs=5)
    two = Network([Dense(2)], "squared_error", n_inputs=5)
    one.fit(X, y.astype(dtype), verbose=0)
    two.fit(X, y.astype(np.float32), verbose=0)
    assert_same(one, two)


def test_inputs_may_live_at_any_address():
    """Buffers of other libraries need not be aligned to more than their elements."""
    X, y = blobs(n=33)
    wanted = network()
    wanted.train_step(X, y)
    for offset in range(0, 64, 4):
        raw = (ctypes.c_char * (X.nbytes + 128))()
        start = -ctypes.addressof(raw) % 64 + offset
        moved = np.frombuffer(raw, np.uint8)[start : start + X.nbytes].view(np.float32)
        moved = moved.reshape(X.shape)
        moved[:] = X
        net = network()
        net.train_step(moved, y)
        assert_same(wanted, net)


def test_small_weights_are_rounded_to_zero_without_a_word():
    net = Network([Dense(1)], "squared_error", n_inputs=2)
    with np.errstate(all="raise"):
        net.set_weights([np.array([[1e-50], [1.0]]), np.array([-1e-320])])
        net.layers[0].bias = np.array([1e-310])
    assert [array.ravel().tolist() for array in net.get_weights()] == [[0.0, 1.0], [0.0]]
