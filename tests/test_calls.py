"""What a call costs beside its arithmetic: the short ways of train_step and predict."""

import copy
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import fastgd
from fastgd import Dense, Network, reference

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, 24)
VALUES = RNG.uniform(0.1, 0.9, size=(24, 3)).astype(np.float32)


def network(loss="cross_entropy", optimizer="sgd", **settings):
    return Network([Dense(7, "tanh"), Dense(3)], loss, optimizer, n_inputs=5, **settings)


def weights(net):
    return [array.tobytes() for array in net.get_weights()]


class LongWay(Exception):
    pass


@pytest.fixture
def only_short(monkeypatch):
    """Return a function that makes all but the short ways of a network raise LongWay."""

    def refuse(*_, **__):
        raise LongWay

    def prepare(net):
        net._checked_train_step = refuse
        # The long way of predict begins with it.
        monkeypatch.setattr("fastgd.network.threads_in_force", refuse)

    return prepare


LAYOUTS = {
    "contiguous": lambda a: a,
    "slice of rows": lambda a: np.concatenate([a, a])[len(a) :],
    "padded rows": lambda a: np.concatenate([a, a], axis=1)[:, : a.shape[1]],
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("loss", "y"),
    [("cross_entropy", LABELS), ("squared_error", VALUES), ("log_loss", VALUES),
     ("poisson", VALUES), ("huber", -VALUES)],
)  # fmt: skip
def test_train_step_takes_the_short_way_to_the_same_bits(loss, y, layout, only_short):
    long, short = network(loss), network(loss)
    short.train_step(X, y)
    batch = LAYOUTS[layout](X)
    losses = [long.train_step(X.tolist(), y.tolist()) for _ in range(4)]
    only_short(short)
    assert [short.train_step(batch, y) for _ in range(3)] == losses[1:]
    assert weights(short) == weights(long)
    assert short.step == 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [1, 2, 24])
def test_predict_takes_the_short_way_to_the_same_bits(n, layout, only_short):
    net = network()
    wanted = net.predict(X[:n].tolist())
    only_short(net)
    got = net.predict(LAYOUTS[layout](X[:n]))
    assert got.tobytes() == wanted.tobytes()
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert got.flags.owndata
    assert got.flags.writeable


class Subclass(np.ndarray):
    pass


UNUSUAL = {
    "list": X.tolist(),
    "float64": X.astype(np.float64),
    "fortran": np.asfortranarray(X),
    "columns apart": np.repeat(X, 2, axis=1)[:, ::2],
    "subclass": X.view(Subclass),
    "masked": np.ma.masked_array(X),
    "byte order": X.astype(">f4"),
    "one dimension": X[0],
    "three dimensions": X[:, :, None],
    "a column short": X[:, :4],
    "no rows": X[:0],
    "nan": np.where(np.arange(5) == 4, np.nan, X).astype(np.float32),
    "inf": np.where(np.arange(5) == 4, np.inf, X).astype(np.float32),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_arrays_take_the_long_way(case, only_short):
    net = network()
    net.train_step(X, LABELS)
    net.predict(X)
    assert net._engine.short_predict(UNUSUAL[case]) is None
    assert net._engine.short_step(UNUSUAL[case], LABELS, net.optimizer) is None
    assert net.step == 1
    only_short(net)
    with pytest.raises(LongWay):
        net.predict(UNUSUAL[case])
    with pytest.raises(LongWay):
        net.train_step(UNUSUAL[case], LABELS)


UNUSUAL_TARGETS = {
    ("cross_entropy", "no dimension"): np.array(1),
    ("squared_error", "no dimension"): np.array(1, np.float32),
    ("squared_error", "unaligned"): np.frombuffer(
        b"x" + VALUES.tobytes(), VALUES.dtype, offset=1
    ).reshape(VALUES.shape),
    ("cross_entropy", "int32"): LABELS.astype(np.int32),
    ("cross_entropy", "probabilities"): VALUES,
    ("cross_entropy", "column"): LABELS[:, None],
    ("cross_entropy", "strided"): np.repeat(LABELS, 2)[::2],
    ("cross_entropy", "negative"): LABELS - 1,
    ("cross_entropy", "beyond"): LABELS + 1,
    ("cross_entropy", "short"): LABELS[:-1],
    ("squared_error", "short"): VALUES[:-1],
    ("squared_error", "labels"): LABELS,
    ("squared_error", "one dimension"): VALUES[:, 0],
    ("squared_error", "narrow"): VALUES[:, :2],
    ("squared_error", "fortran"): np.asfortranarray(VALUES),
    ("squared_error", "nan"): np.where(np.arange(3) == 2, np.nan, VALUES).astype(np.float32),
    ("log_loss", "beyond"): np.where(np.arange(3) == 2, 1.5, VALUES).astype(np.float32),
    ("log_loss", "negative"): np.where(np.arange(3) == 2, -0.5, VALUES).astype(np.float32),
    ("poisson", "negative"): np.where(np.arange(3) == 2, -0.5, VALUES).astype(np.float32),
    ("poisson", "inf"): np.where(np.arange(3) == 2, np.inf, VALUES).astype(np.float32),
}


@pytest.mark.parametrize("case", UNUSUAL_TARGETS, ids="-".join)
def test_unusual_targets_take_the_long_way(case):
    net = network(case[0])
    before = weights(net)
    assert net._engine.short_step(X, UNUSUAL_TARGETS[case], net.optimizer) is None
    assert weights(net) == before


def test_sample_weights_and_threads_take_the_long_way(only_short):
    net = network()
    net.train_step(X, LABELS)
    net.predict(X)
    only_short(net)
    with pytest.raises(LongWay):
        net.train_step(X, LABELS, np.ones(24))
    with pytest.raises(LongWay):
        net.predict(X, n_threads=1)


def test_a_change_of_settings_ends_the_short_ways(only_short):
    net = network()
    net.train_step(X, LABELS)
    net.predict(X)
    only_short(net)
    with fastgd.config(validate="always"):
        with pytest.raises(LongWay):
            net.train_step(X, LABELS)
        with pytest.raises(LongWay):
            net.predict(X)


def test_short_way_asks_a_schedule_once_for_a_step_that_it_takes():
    asked = []

    def lr(step):
        asked.append(step)
        return 0.1 / (1 + step)

    net = network(optimizer=fastgd.SGD(lr=lr))
    fixed = network()
    for step in range(3):
        net.train_step(X, LABELS)
        fixed.optimizer.lr = 0.1 / (1 + step)
        fixed.train_step(X, LABELS)
    with pytest.raises(ValueError, match="label"):
        net.train_step(X, LABELS + 1)
    assert asked == [0, 1, 2]
    assert weights(net) == weights(fixed)


@pytest.mark.parametrize("lr", [1e30, lambda step: 1e30 if step else 1e-3])
def test_divergence_reads_the_same_from_both_ways(lr):
    messages = []
    for batch in (X, X.tolist()):
        net = network("squared_error", fastgd.SGD(lr=lr if callable(lr) else 1e-3))
        net.train_step(batch, VALUES)
        if not callable(lr):
            net.optimizer.lr = lr
        with pytest.raises(fastgd.DivergenceError) as caught:
            [net.train_step(batch, VALUES) for _ in range(9)]
        messages.append((str(caught.value), caught.value.step, weights(net)))
    assert messages[0] == messages[1]
    assert "lr (it was 1e+30)" in messages[0][0]


def test_short_ways_are_refused_within_a_step_and_by_custom_losses():
    class Mean:
        def value(self, output, y):
            return ((output - y) ** 2).mean(axis=1)

        def delta(self, output, y):
            with pytest.raises(RuntimeError, match="in the middle of a step"):
                net._engine.short_predict(X)
            return 2 * (output - y) / 3

    net = network(Mean())
    net.train_step(X, VALUES)
    assert net._engine.short_step(X, VALUES, net.optimizer) is None


def test_predictions_of_the_short_way_are_arrays_of_their_own():
    net = network()
    net.predict(X)
    first = net.predict(X)
    kept = first.copy()
    net.predict(X + 1)
    np.testing.assert_array_equal(first, kept)
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[3, 2\] is nan"):
        net.predict(bad)


# ---- what a fit sets up ---------------------------------------------------------------------


def test_one_learning_rate_for_many_steps_is_a_rate_for_each():
    """More steps than get their rates at once, by a number and by a schedule."""
    n = 9000
    x = RNG.normal(size=(n, 2)).astype(np.float32)
    histories, nets = [], []
    for lr in (0.01, lambda step: 0.01):
        net = Network([Dense(1)], "squared_error", fastgd.SGD(lr=lr))
        histories.append(net.fit(x, x[:, :1] - x[:, 1:], epochs=2, batch_size=1, verbose=0))
        nets.append(net)
    assert nets[0].step == 2 * n
    assert weights(nets[0]) == weights(nets[1])
    for name in ("loss", "lr"):
        assert histories[0].history[name] == histories[1].history[name]


def test_rates_of_a_schedule_do_not_depend_on_how_many_are_asked_for():
    schedule = fastgd.schedules.Cosine(0.1, steps=40_000)
    rates = fastgd.SGD(lr=schedule).learning_rates(7, 40_000)
    np.testing.assert_array_equal(rates, schedule(np.arange(7, 40_007)))


def test_kept_operations_follow_the_optimizer_and_the_instruction_set():
    from fastgd._training import operations

    net = network()
    first = operations(net)
    assert operations(net) is first
    net.optimizer = "adam"
    assert operations(net) != first
    net.optimizer = "sgd"
    assert operations(net) == first
    for isa in fastgd.available_isas():
        with fastgd.config(isa=isa):
            assert operations(net)[0] == isa
    assert operations(network("squared_error")) != first


@pytest.mark.parametrize("bad", [3, -1, 0.5, np.nan])
def test_a_bad_label_is_found_wherever_it_is(bad):
    y = np.zeros(600_000, np.float64)
    y[555_555] = bad
    with pytest.raises(ValueError, match=r"y\[555555\]"):
        Network([Dense(3)], "cross_entropy").fit(np.zeros((len(y), 1), np.float32), y)


# ---- import ---------------------------------------------------------------------------------


def test_import_loads_what_training_needs_and_no_more():
    """Counted against NumPy alone: times depend on the machine, modules do not."""
    script = (
        "import sys, numpy; before = set(sys.modules); import fastgd;"
        "print(*(set(sys.modules) - before))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    own = {name for name in found if name.split(".")[0] == "fastgd"}
    lazy = {"_check", "_verify", "cli", "datasets", "io", "kernels", "reference", "tables"}
    lazy |= {"_onnx_reader", "_onnx_writer", "_frames", "blocks"}
    assert not {f"fastgd.{name}" for name in lazy} & own
    # NumPy before 2.1 leaves importlib to others.
    others = {name for name in set(found) - own if "cython" not in name}
    others = {name for name in others if name.split(".")[0] != "importlib"}
    assert others <= {"__future__", "copy"}


def test_activations_are_equal_by_kind_and_parameter_and_fixed():
    from fastgd.activations import ELU, LeakyReLU, ReLU, Tanh

    assert ELU(0.5) == ELU(alpha=0.5) != ELU()
    assert LeakyReLU(1.0) != ELU(1.0)
    assert ReLU() == ReLU() != Tanh()
    assert len({ReLU(), ReLU(), Tanh(), ELU(1.0), ELU(2.0), LeakyReLU(1.0)}) == 5
    for twin in (pickle.loads(pickle.dumps(ELU(0.5))), copy.deepcopy(ELU(0.5))):
        assert twin == ELU(0.5)
        assert repr(twin) == "ELU(alpha=0.5)"
    with pytest.raises(AttributeError, match="ELU is fixed"):
        ELU(0.5).alpha = 1.0
    with pytest.raises(AttributeError, match="ELU is fixed"):
        del ELU(0.5).alpha


# ---- input_scale ----------------------------------------------------------------------------

IMAGES = RNG.integers(0, 256, size=(40, 70), dtype=np.uint8)
CLASSES = RNG.integers(0, 3, 40)
SCALE = 1 / 255


def scaled(dtype, scale=SCALE, array=IMAGES):
    """Return what the network should see: both rounded to the dtype, then their product."""
    return array.astype(dtype) * np.dtype(dtype).type(scale)


def imager(dtype="float32", loss="cross_entropy", **settings):
    layers = [Dense(9, "relu", dropout=0.2), Dense(3)]
    return Network(layers, loss, fastgd.SGD(0.1, 0.9), n_inputs=70, dtype=dtype, **settings)


@pytest.fixture(params=fastgd.available_isas())
def isa(request):
    with fastgd.config(isa=request.param):
        yield request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_scaled_inputs_give_the_bits_of_inputs_that_were_scaled_before(source, dtype, isa):
    raw = IMAGES.astype(source)
    if np.dtype(source).kind == "f":
        raw = raw + np.dtype(source).type(0.3)
    plain, direct = imager(dtype), imager(dtype, input_scale=SCALE)
    X = scaled(dtype, array=raw)
    pair = ((plain, X), (direct, raw))
    losses = [net.fit(x, CLASSES, 2, 16, verbose=0).history["loss"] for net, x in pair]
    assert losses[0] == losses[1]
    for call in (
        lambda net, x: [net.train_step(x, CLASSES) for _ in range(3)],
        lambda net, x: net.predict(x).tobytes(),
        lambda net, x: net.predict(x[:1]).tobytes(),
        lambda net, x: net.evaluate(x, CLASSES),
        lambda net, x: [g[0].tobytes() for g in net.loss_and_grad(x, CLASSES)[1]],
    ):
        assert call(*pair[0]) == call(*pair[1])
    assert weights(plain) == weights(direct)
    assert max(direct.validate(raw, CLASSES).shares) <= 1


@pytest.mark.parametrize("source", ["u1", "f4"])
def test_scaled_inputs_train_online_to_the_same_bits(source, isa):
    """One unit, one sample a step: a path of its own in the C core."""
    raw, y = IMAGES.astype(source), RNG.normal(size=40).astype(np.float32)
    plain, direct = (
        Network([Dense(1)], "squared_error", fastgd.SGD(1e-3), 70, input_scale=scale)
        for scale in (1.0, SCALE)
    )
    plain.fit(scaled("float32"), y, 2, 1, verbose=0)
    direct.fit(raw, y, 2, 1, verbose=0)
    assert weights(plain) == weights(direct)


def test_short_predict_leaves_broken_weights_to_the_long_way():
    net = network()
    net.predict(X)
    net.layers[0].weight[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"weights are not finite: layers\.0\.weight"):
        net.predict(X)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scaled_inputs_of_any_layout(layout):
    wanted = imager().predict(scaled("float32"))
    raw = LAYOUTS[layout](IMAGES)
    for array in (raw, np.asfortranarray(raw), np.repeat(raw, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(imager(input_scale=SCALE).predict(array), wanted)


def test_bytes_take_the_short_ways(only_short):
    net, twin = imager(input_scale=SCALE), imager(input_scale=SCALE)
    for each in (net, twin):
        each.train_step(IMAGES, CLASSES)
        each.predict(IMAGES)
    twin._short = twin._short_predict = None
    wanted = twin.train_step(IMAGES, CLASSES), twin.predict(IMAGES[:5]).tobytes()
    only_short(net)
    assert (net.train_step(IMAGES, CLASSES), net.predict(IMAGES[:5]).tobytes()) == wanted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reference_rounds_scaled_inputs_as_the_engine_does(dtype):
    """An identity network shows what a network takes its inputs for."""
    net = Network([Dense(70, weight_init=np.eye(70))], "squared_error", n_inputs=70, dtype=dtype,
                  input_scale=SCALE)  # fmt: skip
    layers = [reference.Layer(np.eye(70, dtype=dtype), np.zeros(70, dtype))]
    got = reference.predict(layers, IMAGES, input_scale=SCALE)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, net.predict(IMAGES))
    np.testing.assert_array_equal(got, scaled(dtype))


def test_reference_trains_on_scaled_inputs_as_the_engine_does():
    net = Network([Dense(3)], "cross_entropy", n_inputs=70, dtype="float64", input_scale=SCALE)
    layers = [reference.Layer(*(array.copy() for array in net.get_weights()), "softmax")]
    settings = {"loss": "cross_entropy", "input_scale": SCALE}
    loss, [(dW, db)] = reference.loss_and_grad(layers, IMAGES, CLASSES, **settings)
    wanted, [(engine_dW, engine_db)] = net.loss_and_grad(IMAGES, CLASSES)
    assert loss == pytest.approx(wanted, rel=1e-13)
    # All of order 1 or less in float64: some units in the last place, as NumPy sums otherwise.
    np.testing.assert_allclose(dW, engine_dW, rtol=0, atol=1e-14)
    np.testing.assert_allclose(db, engine_db, rtol=0, atol=1e-14)
    settings["lr"] = 0.01
    reference.train_step(layers, IMAGES, CLASSES, **settings)
    reference.fit(
        layers, IMAGES, CLASSES, epochs=2, batch_size=16, seed=net.seed, step=1, **settings
    )
    net.train_step(IMAGES, CLASSES)
    net.fit(IMAGES, CLASSES, 2, 16, verbose=0)
    np.testing.assert_allclose(layers[0].W, net.layers[0].weight, rtol=0, atol=1e-14)


def test_input_scale_is_kept_by_files_copies_and_pickles(tmp_path):
    net = imager(input_scale=SCALE)
    net.fit(IMAGES, CLASSES, verbose=0)
    net.save(tmp_path / "model")
    wanted = net.predict(IMAGES)
    for twin in (fastgd.load(tmp_path / "model"), copy.deepcopy(net),
                 pickle.loads(pickle.dumps(net))):  # fmt: skip
        assert twin.input_scale == SCALE
        np.testing.assert_array_equal(twin.predict(IMAGES), wanted)
    assert "input_scale=0.00392" in repr(net)
    assert net.summary().endswith("seed 0, input_scale 0.00392157")


def test_files_without_input_scale_load_as_one(tmp_path):
    """As older versions wrote them, and as this one does where there is nothing to say."""
    net = imager()
    net.save(tmp_path / "model")
    assert b"input_scale" not in (tmp_path / "model").read_bytes()
    assert fastgd.load(tmp_path / "model").input_scale == 1.0
    assert "input_scale" not in repr(net) + net.summary()


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(0, ValueError), (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError),
     (1e-60, ValueError), (1e60, ValueError), ("1", TypeError), (True, TypeError),
     (None, TypeError)],
)  # fmt: skip
def test_bad_input_scales_are_refused(bad, kind):
    with pytest.raises(kind, match=r"input_scale(=1e.60 is too| must be)"):
        imager(input_scale=bad)


def test_inputs_that_the_scale_makes_infinite_are_refused():
    net = Network([Dense(1)], "squared_error", n_inputs=2, input_scale=1e30)
    good = np.ones((4, 2), np.float32)
    net.train_step(good * 1e-30, good[:, :1])
    net.predict(good)
    before = weights(net)
    bad = good.copy()
    bad[2, 1] = -1e10
    for call in (net.fit, net.train_step, net.evaluate, net.loss_and_grad):
        with pytest.raises(ValueError, match=r"is -1.*; times input_scale=1e\+30"):
            call(bad, good[:, :1])
    with pytest.raises(ValueError, match=r"X\[2, 1\] is"):
        net.predict(bad)
    twin = Network([Dense(1)], "squared_error", n_inputs=1, input_scale=1e37)
    with pytest.raises(ValueError, match=r"X\[0, 0\] is 200; times input_scale=1e\+37"):
        twin.predict(np.array([[200]], np.uint8))
    assert weights(net) == before


# ---- memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64])
def test_a_fit_allocates_the_order_of_the_samples_and_nothing_of_their_size(source, shuffle):
    """What NumPy and Python allocate; 64 features make a copy of X many times the bound."""
    n = 50_000
    X = np.ones((n, 64), source)
    y = np.zeros(n, np.int64)
    net = Network([Dense(2)], "cross_entropy", n_inputs=64, input_scale=0.5)
    net.fit(X[:64], y[:64], verbose=0)
    tracemalloc.start()
    try:
        net.fit(X, y, 2, 50, shuffle=shuffle, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * shuffle + 200_000
