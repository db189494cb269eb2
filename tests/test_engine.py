"""The compiled engine: whole fits against the reference, and the same bits on every ISA, with
every number of threads, step by step or in one call.
"""

import copy
import hashlib
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

import fastgd
from fastgd import _engine, _kernels, _verify, reference
from fastgd._engine import Divergence, Engine

ACTIVATIONS = [name for name in _kernels.ACTIVATIONS if name != "softmax"]
PARAMS = {"leaky_relu": 0.01, "elu": 1.0}
OPTIMIZERS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    ("sgd", {"momentum": 0.9, "variant": "sklearn"}),
    ("sgd", {"clip_value": 0.01}),
    ("adam", {"weight_decay": 1e-3}),
    ("adam", {"variant": "sklearn"}),
    ("adamw", {"weight_decay": 0.01, "clip_norm": 0.1}),
    ("rmsprop", {"alpha": 0.99}),
    ("rmsprop", {"alpha": 0.99, "momentum": 0.9}),
    ("adagrad", {"eps": 1e-10, "lr_decay": 0.01}),
]
FMA_ISAS = [isa for isa in _kernels.available_isas() if isa != "scalar"]


def optimizer_id(optimizer):
    return "-".join([optimizer[0], *optimizer[1]])


class Case:
    """A small network and its data; every engine and reference of a test starts from it."""

    def __init__(
        self,
        hidden=(29, 21),
        units=7,
        activation="tanh",
        output="softmax",
        loss="cross_entropy",
        dtype="float32",
        optimizer=("sgd", {}),
        dropout=0.3,
        penalty=1e-3,
        n=150,
        n_inputs=37,
        use_bias=True,
    ):
        self.loss, self.dtype, self.optimizer = loss, dtype, optimizer
        self.use_bias = use_bias
        self.sizes = [*hidden, units]
        self.activations = [activation] * len(hidden) + [output]
        self.dropout = [dropout] * len(hidden) + [0.0]
        self.penalty, self.n_inputs = penalty, n_inputs
        rng = np.random.default_rng(3)
        self.X = rng.normal(size=(n, n_inputs)).astype(dtype)
        self.y = rng.integers(0, units, n)
        if loss != "cross_entropy":
            self.y = rng.normal(size=(n, units)).astype(dtype)
        if loss in ("log_loss", "poisson"):
            self.y = np.round(np.abs(self.y)).clip(0, 1)
        self.weights = rng.uniform(0.5, 2.0, n)
        self.arrays = []
        for fan_in, fan_out in zip([n_inputs, *self.sizes], self.sizes, strict=False):
            W = rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)
            self.arrays.append((W.astype(dtype), rng.normal(size=fan_out).astype(dtype) / 10))

    def engine(self, n_threads=1):
        params = [(name, PARAMS.get(name, 0.0)) for name in self.activations]
        use_bias = [self.use_bias] * len(self.sizes)
        engine = Engine(self.n_inputs, self.sizes, params, use_bias, self.dtype, 11)
        engine.n_threads = n_threads
        engine.serial_flop = 0.0  # small as they are, steps are to be shared
        engine.set_loss(self.loss, 1.0 if self.loss == "huber" else 0.0)
        engine.set_optimizer(*self.optimizer)
        engine.set_dropout(self.dropout)
        engine.set_penalties([self.penalty] * len(self.sizes), [self.penalty] * len(self.sizes))
        for i, (W, b) in enumerate(self.arrays):
            engine.weight(i)[:] = W
            if self.use_bias:
                engine.bias(i)[:] = b
        return engine

    def fit(self, engine, epochs=3, batch_size=33, lr=0.01, **options):
        engine.bind(self.X, self.y, self.weights, batch_size, True)
        steps = engine.n_steps_per_epoch
        return engine.run_epochs(np.full(epochs * steps, lr), epochs, **options)

    def layers(self):
        return [
            reference.Layer(W.copy(), b.copy(), name, self.penalty, self.penalty, rate)
            for (W, b), name, rate in zip(self.arrays, self.activations, self.dropout, strict=True)
        ]


def digest(engine, *arrays):
    """Hash every weight, bias and state of an engine."""
    parts = [engine.weight(i) for i in range(engine.n_layers)]
    parts += [b for i in range(engine.n_layers) if (b := engine.bias(i)) is not None]
    parts += [a for pairs in engine.optimizer_state().values() for pair in pairs for a in pair]
    return hashlib.sha256(b"".join(a.tobytes() for a in [*parts, *arrays])).hexdigest()


@pytest.fixture(autouse=True)
def _same_isa_afterwards():
    before = _kernels.active_isa()
    yield
    _kernels.set_isa(before)


def fit_digests(case, settings):
    digests = {}
    for isa, n_threads in settings:
        _kernels.set_isa(isa)
        engine = case.engine(n_threads)
        losses = case.fit(engine)
        out = np.empty((len(case.X), case.sizes[-1]), case.dtype)
        engine.predict(case.X, out)
        digests[isa, n_threads] = digest(engine, losses, out)
    return digests


ALL_SETTINGS = [(isa, n) for isa in FMA_ISAS for n in (1, 2, 3)] + [("scalar", 1), ("scalar", 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fit_has_same_bits_on_every_isa_and_thread_count(activation, dtype):
    # exp in two hidden layers overflows unless its inputs stay small
    case = Case(
        activation=activation, dtype=dtype, hidden=(29,) if activation == "exp" else (29, 21)
    )
    assert len(set(fit_digests(case, ALL_SETTINGS).values())) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizer_has_same_bits_on_every_isa_and_thread_count(optimizer, dtype):
    case = Case(optimizer=optimizer, dtype=dtype)
    assert len(set(fit_digests(case, ALL_SETTINGS).values())) == 1


PAIRINGS = [
    ("squared_error", "tanh"),
    ("squared_error", "softmax"),
    ("absolute_error", "identity"),
    ("huber", "mish"),
    ("log_loss", "sigmoid"),
    ("log_loss", "hard_sigmoid"),
    ("poisson", "exp"),
    ("poisson", "softplus"),
    ("cross_entropy", "softmax"),
]


@pytest.mark.parametrize(("loss", "output"), PAIRINGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("hidden", "units"), [((29,), 7), ((29,), 3), ((), 1), ((), 20)])
def test_loss_has_same_bits_on_every_isa_and_thread_count(loss, output, dtype, hidden, units):
    case = Case(hidden, units, loss=loss, output=output, dtype=dtype)
    assert len(set(fit_digests(case, ALL_SETTINGS).values())) == 1


def relative_difference(ours, theirs):
    scale = np.abs(theirs).max()
    return np.abs(ours - theirs).max() / (scale if scale > 0 else 1.0)


def assert_equals_reference(case, tolerance):
    engine = case.engine()
    losses = case.fit(engine)
    layers = case.layers()
    state = {}
    name, params = case.optimizer
    loss = case.loss
    expected = reference.fit(
        layers, case.X, case.y, loss=loss, lr=0.01, epochs=3, batch_size=33, optimizer=name,
        params=params, state=state, sample_weight=case.weights, seed=11,
    )  # fmt: skip
    assert relative_difference(losses, expected) < tolerance
    for i, layer in enumerate(layers):
        assert relative_difference(engine.weight(i), layer.W) < tolerance
        assert relative_difference(engine.bias(i), layer.b) < tolerance
    for key, pairs in engine.optimizer_state().items():
        for ours, theirs in zip(pairs, state[key], strict=True):
            assert relative_difference(ours[0], theirs[0]) < 10 * tolerance


# Fifteen steps in double precision: the order of summation alone moves a weight by some 1e-14 of
# the largest; Adam and its kin divide by the root of tiny squares and lose three digits more.
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_fit_equals_reference_for_every_optimizer(optimizer):
    assert_equals_reference(Case(optimizer=optimizer, dtype="float64"), 1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fit_equals_reference_for_every_activation(activation):
    hidden = (29,) if activation == "exp" else (29, 21)
    case = Case(hidden, activation=activation, dtype="float64")
    assert_equals_reference(case, 1e-12)


@pytest.mark.parametrize(("loss", "output"), PAIRINGS)
@pytest.mark.parametrize("units", [1, 3, 7])
def test_fit_equals_reference_for_every_loss(loss, output, units):
    case = Case(units=units, loss=loss, output=output, dtype="float64")
    assert_equals_reference(case, 1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_checked_steps_have_the_bits_of_a_plain_fit(optimizer):
    case = Case(optimizer=optimizer)
    plain, checked = case.engine(), case.engine()
    seen = []
    losses = case.fit(plain)
    checked_losses = case.fit(checked, verify=lambda op, *_: seen.append(op), verify_all=True)
    assert digest(plain, losses) == digest(checked, checked_losses)
    assert set(seen) == {"forward", "dropout", "loss", "backward", "weight_grad", "update"}


WIDE = {"hidden": (500, 300), "n_inputs": 410, "dropout": 0, "penalty": 1e-3}


@pytest.mark.parametrize("n", [9, 33])
@pytest.mark.parametrize("optimizer", [("sgd", {}), ("adam", {}), ("adam", {"clip_norm": 0.1})])
def test_a_checked_step_shows_every_row_once_before_a_weight_changes(optimizer, n):
    case = Case(**WIDE, optimizer=optimizer, n=n)
    plain, checked = case.engine(), case.engine()
    before = [checked.weight(layer).copy() for layer in range(3)]
    biases = [checked.bias(layer).copy() for layer in range(3)]
    rows = {(op, layer): 0 for op in ("weight_grad", "update") for layer in range(3)}
    calls = []

    def watch(op, layer, inputs, outputs):
        if op not in ("weight_grad", "update"):
            return
        shown = outputs["dW" if op == "weight_grad" else "W"]
        first = inputs["first_row"]
        end = first + len(shown)
        assert rows[op, layer] == first, "in order, without gaps"
        assert inputs["A_prev"].shape == (n, len(shown))
        assert (outputs["db" if op == "weight_grad" else "b"] is None) == (first > 0)
        rows[op, layer] = end
        calls.append((op, layer))
        if op == "weight_grad":
            return
        assert (inputs["W"] == before[layer][first:end]).all()
        for number, W in enumerate(before):
            same = checked.weight(number) == W
            if number == layer:
                same[first:end] = True
            assert same.all(), "only the rows that are shown may have changed"
            assert (checked.bias(number) == biases[number]).all() or (first, number) == (0, layer)

    data = case.X, case.y, case.weights
    assert checked.checked_step(*data, 0.01, watch) == plain.train_step(*data, 0.01)
    assert digest(checked) == digest(plain)
    for (_, layer), end in rows.items():
        assert end == len(before[layer])
    assert calls.count(("update", 0)) > 1, "the layer must be large, or this tests nothing"
    stores = "clip_norm" in optimizer[1]
    assert checked.has_gradient == stores, "what only verification reads must not stay"
    assert (calls.count(("weight_grad", 0)) > 1) != stores


@pytest.mark.parametrize("optimizer", [("sgd", {}), ("adam", {}), ("adam", {"clip_norm": 0.1})])
@pytest.mark.parametrize("op", ["weight_grad", "update"])
def test_one_wrong_element_of_a_later_row_is_named(op, optimizer):
    case = Case(**WIDE, optimizer=optimizer, n=33)
    engine = case.engine()
    before = digest(engine)
    name = {"weight_grad": "dW", "update": "W"}[op]

    def spoil(op_now, layer, inputs, outputs):
        first = inputs.get("first_row", 0)
        if (op_now, layer) == (op, 1) and first <= 400 < first + len(outputs[name]):
            outputs[name][400 - first, 299] += 1
        _verify.verify(op_now, layer, inputs, outputs)

    with pytest.raises(fastgd.ValidationError) as caught:
        engine.checked_step(case.X, case.y, case.weights, 0.01, spoil)
    error = caught.value
    assert (error.op, error.layer, error.array, error.index) == (op, 1, name, (400, 299))
    assert digest(engine) == before
    assert engine.step == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_that_are_read_once_are_verified_in_the_blocks_of_a_step(optimizer):
    """Of one thread: 16 rows, and what is left."""
    made = Engine(
        20, [289, 300, 5], [("relu", 0.0)] * 2 + [("softmax", 0.0)], [True] * 3, "float32", 0
    )
    made.set_loss("cross_entropy", 0.0)
    made.set_optimizer(optimizer, reference._DEFAULTS[optimizer])
    rng = np.random.default_rng(0)
    for layer in range(3):
        made.weight(layer)[...] = 0.1 * rng.standard_normal(made.weight(layer).shape)
    rows = []

    def watch(op, layer, inputs, outputs):
        if (op, layer) == ("update", 1):
            rows.append(len(outputs["W"]))

    X = rng.standard_normal((3, 20)).astype(np.float32)
    made.checked_step(X, np.array([0, 1, 1]), None, 0.01, watch)
    assert rows == [16] * 18 + [1]


def test_an_interrupted_verification_takes_back_what_it_tried():
    case = Case(**WIDE, optimizer=("adam", {}), n=33)
    engine = case.engine()
    before = digest(engine)

    def interrupt(op, layer, inputs, outputs):
        if op == "update" and inputs["first_row"] > 0:
            assert digest(engine) != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.checked_step(case.X, case.y, case.weights, 0.01, interrupt)
    assert digest(engine) == before
    assert engine.step == 0


def test_one_call_and_many_have_the_same_bits():
    case = Case(optimizer=("adam", {}))
    whole, parts, batches = case.engine(), case.engine(), case.engine()
    case.fit(whole, epochs=4)
    for _ in range(4):
        case.fit(parts, epochs=1)
    seen = []
    case.fit(batches, epochs=4, on_batch=lambda step, loss: seen.append((step, loss)))
    assert digest(whole) == digest(parts) == digest(batches)
    assert [step for step, _ in seen] == list(range(20))
    assert whole.step == parts.step == 20
    assert whole.epoch == parts.epoch == 4


def test_train_step_is_one_step_of_a_fit():
    case = Case()
    fitted, stepped = case.engine(), case.engine()
    fitted.bind(case.X[:33], case.y[:33], None, 33, False)
    loss = fitted.run_epochs(np.array([0.01]), 1)[0]
    assert stepped.train_step(case.X[:33], case.y[:33], None, 0.01) == loss
    assert digest(fitted) == digest(stepped)


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: np.repeat(X, 3, axis=1)[:, ::3],
        lambda X: X[::-1][::-1],
        lambda X: X.astype(np.float64),
    ],
    ids=["fortran", "every second row", "every third column", "negative strides", "other dtype"],
)
def test_layout_of_x_does_not_change_bits(convert):
    case = Case()
    expected = digest(case.engine(), case.fit(case.engine()))
    plain = case.engine()
    case.fit(plain)
    case.X = convert(case.X)
    case.X.flags.writeable = False
    other = case.engine()
    case.fit(other)
    assert digest(plain) == digest(other)
    assert expected != digest(plain)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"])
def test_integer_x_is_converted_exactly(dtype):
    case = Case()
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2 if dtype == "?" else 100, case.X.shape).astype(dtype)
    case.X = X.astype(np.float32)
    plain = case.engine()
    case.fit(plain)
    case.X = X
    converted = case.engine()
    case.fit(converted)
    assert digest(plain) == digest(converted)


def test_sample_output_does_not_depend_on_place_in_batch():
    case = Case()
    engine = case.engine()
    together = np.empty((150, 7), np.float32)
    engine.predict(case.X, together)
    for rows in (slice(0, 1), slice(17, 50), slice(149, 150)):
        alone = np.empty((len(range(*rows.indices(150))), 7), np.float32)
        engine.predict(case.X[rows], alone)
        assert alone.tobytes() == together[rows].tobytes()


def test_outputs_are_those_met_in_training():
    case = Case(dropout=0.0, n=33)
    engine = case.engine()
    before = np.empty((33, 7), np.float32)
    engine.predict(case.X, before)
    outputs = np.zeros((33, 7), np.float32)
    case.fit(engine, epochs=1, outputs=outputs)
    assert outputs.tobytes() == before.tobytes()


def test_arrays_that_do_not_fit_are_refused():
    # Network has checked them, but a wrong size here would be written beyond the end.
    case = Case(n=33)
    engine = case.engine()
    for shape in ((32, 7), (33, 6)):
        with pytest.raises(ValueError, match="do not fit the bound data"):
            case.fit(engine, epochs=1, outputs=np.zeros(shape, np.float32))
    engine.unbind()
    wide, out = np.zeros((33, case.n_inputs + 1), np.float32), np.empty((33, 7), np.float32)
    for call in (
        lambda: engine.predict(wide, out),
        lambda: engine.train_step(wide, case.y, None, 0.1),
        lambda: engine.evaluate(wide, case.y, None),
    ):
        with pytest.raises(ValueError, match="features"):
            call()


def test_denormals_count_as_zero_in_every_sum():
    # Products of weight and loss, and half of the weights, are below the smallest normal number.
    case = Case(loss="squared_error", output="identity", dtype="float64", dropout=0.0, penalty=0.0)
    case.weights = np.where(np.arange(len(case.X)) % 2, 1e-155, 1e-310)
    for i, (W, b) in enumerate(case.arrays):
        case.arrays[i] = np.zeros_like(W), np.zeros_like(b)
    case.y = np.full_like(case.y, 1e-77)
    data = case.X, case.y, case.weights
    plain, checked = case.engine(), case.engine()
    loss, weight = plain.evaluate(*data)
    assert loss == 0.0
    assert weight == pytest.approx(1e-155 * (len(case.X) // 2), rel=1e-12, abs=0)
    steps = plain.train_step(*data, 0.1), checked.checked_step(*data, 0.1, lambda *_: None)
    assert steps == (0.0, 0.0)


def test_number_of_threads_has_a_ceiling():
    engine = Case().engine()
    for asked, used in ((1, 1), (3, 3), (257, 256), (2**31, 256), (10**30, 256)):
        engine.n_threads = asked
        assert engine.n_threads == used


def test_data_cannot_be_replaced_while_they_are_trained_on():
    case = Case(n=33)
    engine = case.engine()

    def replace(step, loss):
        with pytest.raises(RuntimeError, match="is being fitted"):
            engine.bind(case.X, case.y, None, 1, False)

    case.fit(engine, epochs=1, batch_size=8, on_batch=replace)
    case.fit(engine, epochs=1)


def test_loss_and_grad_changes_nothing_and_matches_reference():
    case = Case(dtype="float64", optimizer=("sgd", {"clip_value": 1e-3}))
    engine = case.engine()
    before = digest(engine)
    value, grads = engine.loss_and_grad(case.X, case.y, case.weights)
    assert digest(engine) == before
    expected, expected_grads = reference.loss_and_grad(
        case.layers(), case.X, case.y, loss=case.loss, sample_weight=case.weights
    )
    assert value == pytest.approx(expected, rel=1e-13)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert relative_difference(ours[0], theirs[0]) < 1e-12
        assert relative_difference(ours[1], theirs[1]) < 1e-12


def test_custom_loss_equals_the_built_in_one():
    case = Case(loss="squared_error", output="tanh", dtype="float64")
    built_in = case.engine()
    losses = case.fit(built_in)
    case.loss = "custom"
    custom = case.engine()
    custom.custom_loss = lambda a, y: (0.5 * ((a - y) ** 2).sum(axis=1), a - y)
    assert relative_difference(case.fit(custom), losses) < 1e-13
    for i in range(3):
        assert relative_difference(custom.weight(i), built_in.weight(i)) < 1e-12
    ours = custom.evaluate(case.X, case.y, case.weights)
    assert ours == pytest.approx(built_in.evaluate(case.X, case.y, case.weights), rel=1e-6)


def test_custom_loss_of_a_wrong_shape_is_refused():
    case = Case(loss="squared_error", output="identity")
    case.loss = "custom"
    engine = case.engine()
    engine.custom_loss = lambda a, y: ((a - y).sum(axis=1), (a - y)[:, :1])
    before = digest(engine)
    with pytest.raises(ValueError, match=r"delta must have the output's shape \(33, 7\)"):
        case.fit(engine)
    assert digest(engine) == before


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("lr", [1e38, 1e10])
def test_divergence_leaves_finite_weights(lr, n_threads):
    case = Case(loss="squared_error", output="identity", activation="relu")
    engine = case.engine(n_threads)
    with pytest.raises(Divergence) as caught:
        case.fit(engine, epochs=200, lr=lr)
    assert engine.all_finite()
    assert caught.value.epoch_in_call <= caught.value.step_in_call


def test_weights_are_live_views_that_outlive_the_engine():
    case = Case()
    engine = case.engine()
    weight = engine.weight(0)
    out = np.empty((150, 7), np.float32)
    engine.predict(case.X, out)
    weight *= 2
    changed = np.empty((150, 7), np.float32)
    engine.predict(case.X, changed)
    assert not np.array_equal(out, changed)
    kept = weight.copy()
    state_engine = Case(optimizer=("adam", {})).engine()
    state = state_engine.optimizer_state()["exp_avg"][0][0]
    state[:] = 3.0
    state_engine.set_optimizer("sgd", {})
    del engine, state_engine
    assert np.array_equal(weight, kept)
    assert (state == 3.0).all()


def test_floating_point_mode_of_the_caller_is_restored():
    case = Case()
    case.fit(case.engine(2))
    tiny = np.float32(1e-38)
    assert tiny / np.float32(16) > 0  # a denormal: flush-to-zero would make it 0


def test_ctrl_c_stops_a_long_fit_soon_and_leaves_it_usable():
    case = Case(n=2000, dropout=0.0)
    engine = case.engine(2)
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        case.fit(engine, epochs=10**4, lr=1e-6)
    assert time.monotonic() - sent[0] < 1.0  # 0.04 s a slice, on a machine that may be busy
    timer.join()
    assert engine.all_finite()
    assert np.isfinite(case.fit(engine, epochs=1)).all()


def test_on_slice_is_called_in_time_and_may_raise():
    case = Case(n=2000)
    engine = case.engine()
    calls = []

    def stop(step):
        calls.append(step)
        if len(calls) == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        case.fit(engine, epochs=10**4, lr=1e-6, on_slice=stop)
    assert calls == sorted(set(calls))
    assert engine.all_finite()


def fit_in_child(queue):
    case = Case()
    engine = case.engine(2)
    case.fit(engine)
    queue.put(digest(engine))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_threads_work_in_child_processes(method):
    case = Case()
    engine = case.engine(2)
    case.fit(engine)  # the team exists before the fork
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=fit_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == digest(engine)
    child.join(60)
    assert child.exitcode == 0


def test_threads_may_train_networks_at_once():
    expected = {}
    for dtype in ("float32", "float64"):
        case = Case(dtype=dtype)
        engine = case.engine(2)
        case.fit(engine)
        expected[dtype] = digest(engine)
    results = []

    def work(dtype):
        case = Case(dtype=dtype)
        engine = case.engine(2)
        case.fit(engine)
        results.append((dtype, digest(engine)))

    threads = [threading.Thread(target=work, args=(d,)) for d in list(expected) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(expected[dtype] == value for dtype, value in results)


def test_memory_for_absurd_layers_is_refused():
    with pytest.raises(MemoryError, match=r"layers of \[1000000000000\] units"):
        Engine(2**40, [10**12], [("identity", 0.0)], [True], "float32", 0)


@pytest.mark.parametrize("rows", [slice(None, None, 2), slice(None, None, -1)], ids=str)
def test_strided_data_is_followed(rows):
    case = Case()
    strided = case.X[rows], case.y[rows], case.weights[rows]
    case.X, case.y, case.weights = map(np.ascontiguousarray, strided)
    plain = case.engine()
    expected = digest(plain, case.fit(plain))
    sums = plain.evaluate(case.X, case.y, case.weights)
    case.X, case.y, case.weights = strided
    other = case.engine()
    assert digest(other, case.fit(other)) == expected
    assert other.evaluate(*strided) == sums


def test_callback_that_evaluates_does_not_change_the_fit():
    case = Case()
    plain, watched = case.engine(), case.engine()
    rows = np.eye(7)[case.y]
    losses = case.fit(plain)

    def evaluate(step, loss):
        watched.evaluate(case.X, rows, None)

    assert digest(watched, case.fit(watched, on_batch=evaluate)) == digest(plain, losses)


def test_callback_may_switch_clipping_by_norm_on():
    case = Case()
    engine = case.engine(2)
    losses = case.fit(
        engine, on_batch=lambda step, loss: engine.update_optimizer({"clip_norm": 0.1})
    )
    assert np.isfinite(losses).all()
    assert digest(engine) != digest(case.engine())


@pytest.mark.parametrize("use", ["predict", "assign"])
def test_custom_loss_that_uses_its_own_network_is_refused(use):
    case = Case(loss="squared_error", output="identity")
    case.loss = "custom"
    engine = case.engine()

    def own(a, y):
        if use == "predict":
            engine.predict(case.X, np.empty((150, 7), np.float32))
        else:
            engine.assign([engine.bias(0)], [engine.bias(0) + 1])
        return ((a - y) ** 2).sum(axis=1) / 2, a - y

    engine.custom_loss = own
    before = digest(engine)
    with pytest.raises(RuntimeError, match="in the middle of a step"):
        case.fit(engine)
    assert digest(engine) == before
    engine.custom_loss = lambda a, y: (((a - y) ** 2).sum(axis=1) / 2, a - y)
    assert np.isfinite(case.fit(engine)).all()


def test_what_looks_at_a_step_must_not_use_its_network():
    """As a signal's handler might that runs then: the work buffers hold the step."""
    case = Case()
    engine = case.engine()
    batch = case.X[:16], case.y[:16], None

    def use(*args):
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            engine.predict(case.X, np.empty((150, 7), np.float32))
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            engine.evaluate(case.X, case.y, None)
        used.append(args[0])

    used = []
    engine.checked_step(*batch, 0.1, use)
    assert {"forward", "loss", "backward", "weight_grad", "update"} <= set(used)
    used.clear()
    engine.look(*batch, use)
    assert "gradient" in used
    twin = case.engine()
    twin.train_step(*batch, 0.1)
    assert digest(engine) == digest(twin)
    engine.predict(case.X, np.empty((150, 7), np.float32))


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_a_handler_cannot_change_what_a_long_call_is_at(call):
    """Targets of another kind have another loss; a call without memory leaves no work buffers."""
    case = Case(loss="cross_entropy", output="softmax")
    engine = case.engine()
    rows = np.eye(7, dtype=np.float32)[:8]

    def handler(*args):
        try:
            engine.evaluate(case.X[: len(rows)], rows, None)
        except RuntimeError:
            refused.append(args)

    def result(X):
        if call == "evaluate":
            return engine.evaluate(X, np.arange(len(X)) % 7, None)
        out = np.empty((len(X), 7), np.float32)
        assert engine.predict(X, out)
        return out.tobytes()

    # It looks for signals every 40 ms.
    n, took, refused = 100_000, 0.0, []
    while took < 0.2:
        n *= 2
        X = np.broadcast_to(case.X[0], (n, case.X.shape[1]))
        began = time.perf_counter()
        expected = result(X)
        took = time.perf_counter() - began
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        got = result(X)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refused
    assert got == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_an_input_that_overflows_leaves_nothing_in_the_work_buffers(activation, dtype):
    """Sums of few samples fill rows of work buffers that belong to no unit."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, 20)).astype(dtype), rng.normal(size=(4, 1)).astype(dtype)
    layers = [fastgd.Dense(200, "relu"), fastgd.Dense(203, activation), fastgd.Dense(1)]
    sgd = fastgd.SGD(1e-3)
    net = fastgd.Network(layers, "squared_error", sgd, n_inputs=20, dtype=dtype)
    twin = copy.deepcopy(net)
    net.train_step(X, y)
    net.gradient_flow(X * (np.finfo(dtype).max / 8), y)
    net.train_step(X, y)
    for _ in range(2):
        twin.train_step(X, y)
    assert (net.predict(X) == twin.predict(X)).all()


def test_divergence_of_a_weight_names_its_step():
    case = Case(loss="squared_error", output="identity", activation="identity", penalty=0.0)
    case.y = 1e10 * case.y
    engine = case.engine()
    with pytest.raises(Divergence) as caught:
        case.fit(engine, epochs=1, lr=1e35)
    assert (caught.value.what, caught.value.step_in_call) == ("weight", 0)


def test_eps_below_the_smallest_normal_is_refused():
    engine = Case(optimizer=("adam", {})).engine()
    with pytest.raises(ValueError, match=r"eps=1e-40 is too small for float32"):
        engine.set_optimizer("adam", {"eps": 1e-40})


def test_unbound_engine_refuses_to_run():
    with pytest.raises(RuntimeError, match="no data is bound"):
        Case().engine().run_epochs(np.zeros(1), 1)


def test_thread_count_may_change_while_another_thread_trains():
    case = Case(dropout=0.0)
    engine = case.engine(2)
    out = np.empty((150, 7), np.float32)
    stop = threading.Event()

    def predict():
        while not stop.is_set():
            engine.n_threads = 1
            engine.predict(case.X, out)
            engine.n_threads = 3

    other = threading.Thread(target=predict)
    other.start()
    try:
        for _ in range(200):
            engine.train_step(case.X, case.y, None, 1e-6)
    finally:
        stop.set()
        other.join()
    assert engine.all_finite()


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_long_steps_have_the_bits_of_short_ones(optimizer, n_threads):
    case = Case(optimizer=optimizer, dtype="float64", hidden=(70, 65))
    short, long = case.engine(), case.engine(n_threads)
    long.long_flop = 1.0
    assert digest(long, case.fit(long)) == digest(short, case.fit(short))


@pytest.mark.parametrize("rule", [("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {})])
def test_gradients_shorter_than_clip_norm_stay_as_they_are(isa, dtype, rule):
    name, options = rule
    ends = []
    for clip in ({}, {"clip_norm": 1e4}):
        case = Case(dtype=dtype, optimizer=(name, options | clip))
        engine = case.engine()
        losses = case.fit(engine)
        ends.append(digest(engine, losses))
    assert ends[0] == ends[1]


BY_UNITS = [300, 300, 950]  # layers so large that threads divide them by units


@pytest.mark.parametrize("sizes", [BY_UNITS, [4, *BY_UNITS], [*BY_UNITS, 7]], ids=str)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"momentum": 0.9}], ids=str)
@pytest.mark.parametrize("batch_size", [5, 16, 77])
@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_layers_divided_by_units_have_the_bits_of_one_thread(sizes, options, batch_size, penalty):
    *hidden, units = sizes
    case = Case(hidden, units, n_inputs=300, n=80, optimizer=("sgd", options), penalty=penalty)
    expected = None
    for n_threads in (1, 2, 3):
        for long_flop in (2e10, 1.0):
            engine = case.engine(n_threads)
            engine.long_flop = long_flop
            found = digest(engine, case.fit(engine, epochs=2, batch_size=batch_size))
            assert found == (expected or found)
            expected = found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_samples_in_wide_layers_have_the_bits_of_many(dtype):
    """The forward pass of few samples turns the sums around, also where units are divided."""
    case = Case(hidden=(900, 300), units=300, n_inputs=70, dtype=dtype, dropout=0, n=150)
    many = np.empty((150, 300), dtype)
    case.engine().predict(case.X, many)
    for n in (1, 5, 6, 7, 8, 11, 12, 13, 16, 17):
        for n_threads in (1, 2):
            few = np.empty((n, 300), dtype)
            case.engine(n_threads).predict(case.X[:n], few)
            assert few.tobytes() == many[:n].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 8, 9, 16, 20])
@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_few_samples_in_wide_layers_train_with_the_bits_of_any_path(
    batch_size, activation, dtype, penalty
):
    """Vector units turn rows of W for the delta of few samples; plain C takes them as they lie.

    Of 20 samples the second of two threads has few.
    """
    # Divided by units, the last vector of rows incomplete, and not; enough weights for 16 samples
    hidden = (290, 909, 150)
    case = Case(
        hidden, 131, activation, n_inputs=20, dtype=dtype, n=2 * batch_size, penalty=penalty
    )
    found = set()
    for isa, n_threads in [("scalar", 1), *((isa, n) for isa in FMA_ISAS for n in (1, 2, 3))]:
        _kernels.set_isa(isa)
        engine = case.engine(n_threads)
        found.add(digest(engine, case.fit(engine, epochs=1, batch_size=batch_size)))
    assert len(found) == 1


# Two layers whose weights are read once for delta and update, one small and one first.
READ_ONCE = (20, 290, 269, 400)
# Steps that read once; those that could be abandoned before the first update; stored gradients.
LONG_FLOPS = (2e10, 3e7, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [4, 13])
@pytest.mark.parametrize(
    ("activation", "dropout", "penalty"), [("tanh", 0.3, 1e-3), ("relu", 0.0, 0.0)]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=optimizer_id)
def test_weights_read_once_for_delta_and_update_get_the_bits_of_other_ways(
    optimizer, activation, dropout, penalty, batch_size, dtype
):
    case = Case(
        READ_ONCE, 5, activation, n_inputs=9, n=batch_size + 5, dtype=dtype, optimizer=optimizer,
        dropout=dropout, penalty=penalty,
    )  # fmt: skip
    found = set()
    for long_flop in LONG_FLOPS:
        for n_threads in (1, 2, 3):
            engine = case.engine(n_threads)
            engine.long_flop = long_flop
            losses = case.fit(engine, epochs=2, batch_size=batch_size)
            found.add(digest(engine, losses))
    assert len(found) == 1


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("long_flop", [2e10, 1.0], ids=["read once", "stored"])
def test_no_weight_that_is_read_once_changes_if_the_loss_is_not_finite(long_flop, n_threads):
    case = Case(READ_ONCE, 5, "relu", "identity", "squared_error", n_inputs=9, n=12)
    engine, twin = case.engine(n_threads), case.engine(n_threads)
    engine.long_flop = long_flop
    good, case.X[8:] = case.X[:8].copy(), 1e38
    engine.bind(case.X, case.y, case.weights, 4, False)
    with pytest.raises(Divergence) as caught:
        engine.run_epochs(np.full(3, 1e-3), 1)
    assert caught.value.step_in_call == 2
    twin.bind(good, case.y[:8], case.weights[:8], 4, False)
    twin.run_epochs(np.full(2, 1e-3), 1)
    assert digest(engine) == digest(twin)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [300, 650])
@pytest.mark.parametrize(
    "options", [{}, {"clip_value": 1e-3}, {"weight_decay": 0.1, "clip_value": 0.01}], ids=str
)
def test_sgd_within_a_tile_has_the_same_bits_from_all_blocks_of_samples(options, batch_size, dtype):
    """Their size differs between instruction sets; plain C has the longest, and no such tiles.

    Nor have stored gradients.
    """
    optimizer = ("sgd", options)
    case = Case((130, 70), n_inputs=700, penalty=0, n=650, dtype=dtype, optimizer=optimizer)
    found = set()
    settings = [("scalar", 1), *((isa, n) for isa in FMA_ISAS for n in (1, 2)), (FMA_ISAS[-1], 1)]
    for number, (isa, n_threads) in enumerate(settings, 1):
        _kernels.set_isa(isa)
        engine = case.engine(n_threads)
        engine.long_flop = 1.0 if number == len(settings) else 2e10
        found.add(digest(engine, case.fit(engine, epochs=2, batch_size=batch_size)))
    assert len(found) == 1


def test_predicting_keeps_no_gradient():
    case = Case(hidden=(600, 500), dropout=0, optimizer=("sgd", {"clip_norm": 1.0}), n=300)
    engine = case.engine()
    engine.long_flop = 1.0
    assert not engine.has_gradient
    engine.predict(case.X, np.empty((300, 7), np.float32))
    engine.evaluate(case.X, case.y, None)
    assert not engine.has_gradient
    case.fit(engine, epochs=1)
    assert engine.has_gradient


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("long_flop", [2e10, 1e8])
def test_interrupt_of_a_long_step_of_several_threads(n_threads, long_flop):
    case = Case(n=60_000, hidden=(300, 600), dropout=0, penalty=0)
    engine = case.engine(n_threads)
    engine.long_flop = long_flop
    for delay in (0.02, 0.1, 0.2):
        interrupt = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            case.fit(engine, epochs=100_000, batch_size=60_000, lr=1e-6)
        interrupt.join()
        assert engine.all_finite()


def test_interrupt_abandons_a_long_step_before_a_weight_has_changed():
    case = Case(n=400_000, hidden=(300, 200), dropout=0, penalty=0)
    engine = case.engine()
    before = digest(engine)
    interrupt = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        case.fit(engine, batch_size=400_000)
    assert engine.step == 0, "the step must be long, or this tests nothing"
    assert digest(engine) == before
    interrupt.join()
    case.fit(engine, epochs=1)
    assert engine.step > 0


ONLINE = [
    ("identity", "squared_error"),
    ("tanh", "squared_error"),
    ("gelu", "huber"),
    ("relu", "absolute_error"),
    ("sigmoid", "log_loss"),
    ("tanh", "log_loss"),
    ("exp", "poisson"),
    ("softmax", "squared_error"),
]


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("output", "loss"), ONLINE)
def test_online_steps_have_the_bits_of_the_general_path(isa, dtype, output, loss):
    # Weights of one leave the arithmetic as it is, but take the general path.
    _kernels.set_isa(isa)
    for n_inputs in (1, 5, 16, 20, 37):
        options = {"hidden": (), "units": 1, "output": output, "loss": loss, "dtype": dtype}
        case = Case(**options, dropout=0, penalty=0, n=40, n_inputs=n_inputs)
        if loss == "log_loss" and output == "tanh":
            case.arrays[0] = (np.abs(case.arrays[0][0]), np.abs(case.arrays[0][1]))
            case.X = np.abs(case.X)  # a logarithm of the output is taken
        case.X[3, 0] = -0.0
        case.weights = None
        for X in (case.X, case.X[:, ::-1], case.X.astype("float16").astype("float64")):
            case.X = X
            online = case.engine()
            losses = case.fit(online, batch_size=1)
            case.weights = np.ones(len(X))
            general = case.engine()
            assert digest(general, case.fit(general, batch_size=1)) == digest(online, losses)
            case.weights = None


def online_case(n_inputs, dtype, **options):
    options = {"n": 40, "dropout": 0, "penalty": 0, "loss": "squared_error"} | options
    return Case((), 1, output="identity", dtype=dtype, n_inputs=n_inputs, **options)


def ends(case, rates, shuffle=True, input_scale=1.0):
    """What single-sample steps leave, online and (weights of one) by the general path."""
    found = []
    for weights in (None, np.ones(len(case.X))):
        engine = case.engine()
        engine.input_scale = input_scale
        engine.bind(case.X, case.y, weights, 1, shuffle)
        try:
            losses = engine.run_epochs(rates, len(rates) // len(case.X))
            found.append((digest(engine, losses), None))
        except Divergence as error:
            found.append((digest(engine), (error.what, error.step_in_call)))
    return found


def rates_of(case, epochs=2, most=0.02):
    return np.random.default_rng(5).uniform(most / 2, most, epochs * len(case.X))


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_online_steps_of_any_width_have_the_bits_of_the_general_path(isa, dtype):
    """Every tail of the 16 chains, and both sides of where the vectors' width changes."""
    _kernels.set_isa(isa)
    for n_inputs in [*range(1, 71), 112, 127, 128, 129, 200, 333, 9001]:
        for use_bias in (True, False):
            case = online_case(n_inputs, dtype, use_bias=use_bias)
            case.X[3, 0] = -0.0
            case.X[5] = 0
            case.y[5] = 0
            rates = rates_of(case, most=0.5 / n_inputs)
            rates[7] = 0
            online, general = ends(case, rates, shuffle=n_inputs % 2 == 0)
            assert online == general
            assert online[1] is None


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_online_steps_on_any_matrix_have_the_bits_of_the_general_path(isa, dtype):
    """Rows that are read where they lie, at any distance, and rows that are converted."""
    _kernels.set_isa(isa)
    for n_inputs in (1, 3, 15, 16, 20, 35, 64, 66, 130):
        case = online_case(n_inputs, dtype)
        X, y = case.X, case.y
        wide = np.full((len(X), n_inputs + 7), np.nan, dtype)
        wide[:, 2 : n_inputs + 2] = X
        for matrix in (
            wide[:, 2 : n_inputs + 2],
            np.asfortranarray(X),
            X[::-1, ::-1],
            (X * 10).astype(np.int8),
            np.abs(X * 10).astype(np.uint16),
            X.astype("float32"),
            X.astype("float64"),
        ):
            case.X = matrix
            for case.y in (y, y.astype("float64"), np.repeat(y, 2, axis=0)[::2]):
                rates = rates_of(case, most=0.01 / n_inputs)
                scale = 1.0 if matrix.dtype.kind == "f" else 1 / 255
                online, general = ends(case, rates, input_scale=scale)
                assert online == general
                assert online[1] is None


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", ["first", "last", "bias", "loss"])
def test_online_steps_overflow_as_the_general_path_does(isa, dtype, place):
    """One weight, or only the bias, would be infinite, in any lane of a vector, at any step."""
    _kernels.set_isa(isa)
    most = float(np.finfo(dtype).max)
    for n_inputs in (1, 2, 4, 7, 8, 9, 15, 16, 17, 20, 31, 33, 64, 70, 129, 150):
        for step in (0, 1, 11, 38, 39):
            case = online_case(n_inputs, dtype)
            case.X[:] = 0
            rates = np.full(len(case.X), 0.01)
            case.y[step] = 4
            if place == "loss":
                case.y[step] = most / 4  # whose square is too large
            elif place == "bias":
                rates[step] = most
            else:
                # The product with delta, which the bias takes without it, is too large.
                case.X[step, -1 if place == "last" else 0] = most / 2
                case.arrays[0][0][:] = 0
            online, general = ends(case, rates, shuffle=False)
            assert online == general
            what, at = online[1]
            assert at == step
            assert what == ("loss" if place == "loss" else "weight")


@pytest.mark.parametrize("spoilt", ["target", "rate"])
def test_online_steps_end_where_the_general_path_does(spoilt):
    case = Case(hidden=(), units=1, output="identity", loss="squared_error", dropout=0, penalty=0)
    rate = 0.01
    if spoilt == "target":
        case.y[77] = np.inf
    else:
        rate = 1e30
    ends = []
    for weights in (None, np.ones(len(case.X))):
        case.weights = weights
        engine = case.engine()
        with pytest.raises(Divergence) as caught:
            case.fit(engine, batch_size=1, lr=rate)
        ends.append((caught.value.what, caught.value.step_in_call, digest(engine)))
    assert ends[0] == ends[1]


# ---- orders of the caller's, and scikit-learn's account ---------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3])
def test_given_orders_train_like_rows_that_lie_in_them(n_threads, rng):
    case = Case(dropout=0.0)
    orders = np.stack([rng.permutation(150)[:70] for _ in range(3)])
    engine = case.engine(n_threads)
    engine.bind(case.X, case.y, case.weights, 33, True, orders)
    assert engine.n_steps_per_epoch == 3
    losses = np.zeros(3)
    engine.run_epochs(0.01, 3, losses=losses)
    twin = case.engine()
    for i, order in enumerate(orders):
        twin.bind(case.X[order], case.y[order], case.weights[order], 33, False)
        assert twin.run_epochs(0.01, 1)[0] == losses[i]
    assert digest(engine) == digest(twin)


def test_orders_must_be_enough():
    case = Case()
    engine = case.engine()
    engine.bind(case.X, case.y, None, 33, False, np.arange(150).reshape(1, -1))
    with pytest.raises(ValueError, match="order has 1 rows for 2 epochs"):
        engine.run_epochs(0.01, 2)


def test_losses_of_finished_epochs_outlive_a_divergence():
    case = Case(loss="squared_error", output="identity", dropout=0.0)
    engine = case.engine()
    engine.bind(case.X, case.y, None, 33, False)
    rates = np.full(3 * engine.n_steps_per_epoch, 1e-3)
    rates[-2:] = 1e30
    losses = np.full(3, np.nan)
    with pytest.raises(Divergence):
        engine.run_epochs(rates, 3, losses=losses)
    assert np.isfinite(losses).tolist() == [True, True, False]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("stepwise", [False, True])
def test_sklearn_account_of_losses_and_penalties(weighted, stepwise):
    """One linear layer, restated: penalties over the sum of weights, epochs by numbers of rows."""
    case = Case(hidden=(), units=3, loss="squared_error", output="identity", dtype="float64",
                dropout=0.0, penalty=0.0)  # fmt: skip
    l1, l2, scale, lr = 0.3, 0.7, 1 / 3, 0.01
    engine = case.engine()
    engine.set_penalties([l1], [l2])
    engine.set_account("sklearn", scale)
    weights = case.weights if weighted else None
    engine.bind(case.X, case.y, weights, 40, False)
    checks = {"verify": lambda *args: None, "verify_all": True} if stepwise else {}
    losses = engine.run_epochs(lr, 2, **checks)
    (W, b), w = case.arrays[0], case.weights if weighted else np.ones(150)
    expected = []
    for _ in range(2):
        total = 0.0
        for first in range(0, 150, 40):
            rows = slice(first, first + 40)
            X, e, part = case.X[rows], case.X[rows] @ W + b - case.y[rows], w[rows]
            share = part.sum()
            penalty = l1 * np.abs(W).sum() + l2 / 2 * (W**2).sum()
            total += len(X) * (scale * (part @ (e**2).sum(axis=1)) / 2 + penalty) / share
            delta = e * part[:, None] / share
            W, b = (
                W - lr * (X.T @ delta + (l2 * W + l1 * np.sign(W)) / share),
                b - lr * delta.sum(axis=0),
            )
        expected.append(total / 150)
    # Two orders of sums of up to 150 terms in float64, over 8 steps
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(engine.weight(0), W, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(engine.bias(0), b, rtol=1e-11, atol=1e-13)


def test_sklearn_account_refuses_a_batch_without_weight():
    case = Case()
    engine = case.engine()
    engine.set_account("sklearn", 1.0)
    engine.bind(case.X, case.y, np.zeros(150), 33, False)
    with pytest.raises(Divergence, match="loss"):
        engine.run_epochs(0.01, 1)


@pytest.mark.parametrize("case", [Case(dropout=0.0), Case(hidden=(600, 500), dropout=0.0)])
def test_gradient_has_same_bits_on_every_isa_and_thread_count(case):
    found = set()
    for isa, n_threads in ALL_SETTINGS:
        _kernels.set_isa(isa)
        engine = case.engine(n_threads)
        loss, pairs = engine.loss_and_grad(case.X, case.y, case.weights)
        found.add(digest(engine, np.array(loss), *(array for pair in pairs for array in pair)))
    assert len(found) == 1


# ---- what PyTorch's losses and optimisers ask for ----------------------------------------------

OWN = {
    "sgd": {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.01},
    "adam": {"beta1": 0.5, "weight_decay": 0.01},
    "adamw": {"beta2": 0.9, "weight_decay": 0.1},
    "rmsprop": {"momentum": 0.5, "alpha": 0.9},
    "adagrad": {"lr_decay": 0.2},
}


def own_updates(name):
    """Two arrays with settings and steps of their own, two that are frozen, one that climbs."""
    common = reference._DEFAULTS[name] | {"momentum": 0.0}
    other = common | OWN[name]
    return [
        (other | {"lr": 0.02, "ahead": 3}, common | {"lr": 0.01, "scale": -1.0}),
        (None, other | {"lr": 0.005}),
        (common | {"lr": 0.01, "ahead": 1}, None),
    ]


@pytest.mark.parametrize("long_flop", [0.0, 1e12], ids=["stored", "fused"])
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("name", OWN)
def test_own_updates_and_sums_agree_with_reference(name, n_threads, long_flop, isa, dtype):
    momentum = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    case = Case(loss="squared_error", output="tanh", dtype=dtype, optimizer=(name, momentum),
                penalty=0.0)  # fmt: skip
    engine = case.engine(n_threads)
    engine.long_flop = long_flop
    updates = own_updates(name)
    engine.set_own_updates(updates)
    engine.set_account("sum", 0.25, 0.25)
    layers, state = case.layers(), {}
    losses = case.fit(engine, epochs=2, lr=0.9)  # which nobody reads
    expected = reference.fit(
        layers, case.X, case.y, loss=case.loss, lr=0.9, epochs=2, batch_size=33,
        optimizer=name, params=momentum, state=state, sample_weight=case.weights, seed=11,
        reduction="sum", scale=0.25, own_updates=updates,
    )  # fmt: skip
    # The bound of a whole fit with adaptive steps, which enlarge roundings of small gradients
    tight = {"float32": 3e-4, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(losses, expected, rtol=tight)
    for i, layer in enumerate(layers):
        for found, wanted in ((engine.weight(i), layer.W), (engine.bias(i), layer.b)):
            assert np.linalg.norm(found - wanted) <= tight * np.linalg.norm(wanted)
    assert (engine.weight(1) == case.arrays[1][0]).all()
    assert (engine.bias(2) == case.arrays[2][1]).all()
    for key, pairs in engine.optimizer_state().items():
        for pair, other in zip(pairs, state[key], strict=True):
            for found, wanted in zip(pair, other, strict=True):
                size = np.linalg.norm(wanted)
                assert np.linalg.norm(found - wanted) <= 3 * tight * (size if size > 0 else 1)


@pytest.mark.parametrize("name", OWN)
def test_own_updates_have_the_same_bits_everywhere(name, dtype):
    """On every ISA, by any number of threads, and step by step, where each is verified."""
    momentum = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    case = Case(loss="squared_error", output="tanh", dtype=dtype, optimizer=(name, momentum))
    found = set()
    checks = {"verify": _verify.verify, "verify_all": True}
    for number, (isa, n_threads) in enumerate(ALL_SETTINGS):
        _kernels.set_isa(isa)
        for options in ({}, checks) if number < 2 else ({},):
            engine = case.engine(n_threads)
            engine.set_own_updates(own_updates(name))
            engine.set_account("sum", 3.0, 3.0)
            losses = case.fit(engine, epochs=1, **options)
            found.add(digest(engine, losses))
    assert len(found) == 1


def test_own_updates_of_weights_that_are_read_once(dtype):
    """Of three layers the middle one is frozen, and delta still passes through it."""
    case = Case((290, 269), 400, dtype=dtype, n=11)
    found = set()
    for long_flop in LONG_FLOPS:
        for n_threads in (1, 2, 3):
            engine = case.engine(n_threads)
            engine.long_flop = long_flop
            engine.set_own_updates(own_updates("sgd"))
            found.add(digest(engine, case.fit(engine, epochs=2, batch_size=6)))
    assert len(found) == 1
    assert (engine.weight(1) == case.arrays[1][0]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_scaled_mean_agrees_with_reference(weighted, isa, dtype):
    case = Case(loss="huber", output="identity", dtype=dtype, dropout=0.0, penalty=0.0)
    if not weighted:
        case.weights = None
    engine = case.engine()
    engine.set_account("mean", 2 / 7, 2 / 7)
    losses = case.fit(engine, verify=_verify.verify, verify_all=True)
    layers = case.layers()
    expected = reference.fit(
        layers, case.X, case.y, loss="huber", lr=0.01, epochs=3, batch_size=33,
        sample_weight=case.weights, seed=11, scale=2 / 7,
    )  # fmt: skip
    # Some 15 steps of plain SGD, each with a few roundings of every number
    tight = {"float32": 1e-5, "float64": 1e-13}[dtype]
    np.testing.assert_allclose(losses, expected, rtol=tight)
    for i, layer in enumerate(layers):
        assert np.linalg.norm(engine.weight(i) - layer.W) <= tight * np.linalg.norm(layer.W)


def test_dampening_spares_the_first_step(isa, dtype):
    """v = g in the first step, then v = momentum v + (1 - dampening) g."""
    params = {"momentum": 0.5, "dampening": 0.25}
    case = Case(hidden=(), units=3, loss="squared_error", output="identity", dropout=0.0,
                penalty=0.0, dtype=dtype, optimizer=("sgd", params))  # fmt: skip
    engine = case.engine()
    velocity = 0.0
    for step in range(3):
        _, [(dW, _)] = engine.loss_and_grad(case.X, case.y, None)
        velocity = 0.5 * velocity + (1 if step == 0 else 0.75) * dW
        engine.train_step(case.X, case.y, None, 0.01)
        found = engine.optimizer_state()["velocity"][0][0]
        # Three roundings of each term, and two sums of 150 samples in one order
        bound = 8 * np.finfo(dtype).eps * np.abs(velocity).max()
        np.testing.assert_allclose(found, velocity, rtol=0, atol=bound)


def test_own_updates_are_refused_where_they_do_not_fit():
    engine = Case().engine()
    with pytest.raises(ValueError, match="1 pairs of updates were given for 3 layers"):
        engine.set_own_updates([(None, None)])
    engine.set_optimizer("adam", {})
    with pytest.raises(ValueError, match="eps must be greater than 0"):
        engine.set_own_updates([({"lr": 0.1, "eps": 0.0}, None)] * 3)
    engine.set_optimizer("sgd", {"clip_norm": 1.0})
    with pytest.raises(ValueError, match="cannot be clipped by their norm"):
        engine.set_own_updates([(None, None)] * 3)
    engine.set_loss("custom", 0.0)
    with pytest.raises(ValueError, match="custom loss scales its own gradients"):
        engine.set_account("sum", 1.0)


def test_own_updates_end_with_the_optimizer():
    case = Case()
    ends = []
    for own in (False, True):
        engine = case.engine()
        if own:
            engine.set_own_updates(own_updates("sgd"))
            engine.update_optimizer({})
        case.fit(engine)
        ends.append(digest(engine))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 1000])
def test_shuffles_in_turn_are_those_of_random_state(n, generator):
    """scikit-learn draws positions, and permutes the order before by them."""
    ours, theirs = (np.random.RandomState(generator(5)) for _ in range(2))
    index = np.arange(n)
    orders = np.empty((4, n), dtype=np.int64)
    _engine.shuffle_in_turn(ours, index, orders)
    for order in orders:
        draw = np.arange(n)
        theirs.shuffle(draw)
        index = index[draw]
        np.testing.assert_array_equal(order, index)
    assert ours.randint(2**30) == theirs.randint(2**30)


def test_shuffles_in_turn_need_rows_of_one_length():
    with pytest.raises(ValueError, match="before has 3 entries for rows of 4"):
        _engine.shuffle_in_turn(
            np.random.RandomState(0), np.arange(3), np.empty((1, 4), dtype=np.int64)
        )
