"""What is repeated by the reference, and when; a broken kernel must not get past it."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastgd
from fastgd import _kernels, _training, _verify

FAULTS = ["gemm", "activation", "activation_grad", "loss", "update"]
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 5)).astype(np.float32)
Y = rng.integers(0, 3, 40)


@pytest.fixture(autouse=True)
def nothing_verified(monkeypatch):
    """Each test begins as a new process does, with kernels that are whole."""
    monkeypatch.setattr(_training, "verified", set())
    monkeypatch.setattr("fastgd.network.verified", _training.verified)
    yield
    _kernels.inject_fault(None)


@pytest.fixture
def calls(monkeypatch):
    """Return the list of operations that were repeated."""
    made = []
    original = _verify.verify

    def watch(op, layer, inputs, outputs):
        made.append((op, layer))
        original(op, layer, inputs, outputs)

    monkeypatch.setattr(_verify, "verify", watch)
    return made


def network(optimizer="adam", dtype="float32", activation="tanh", **settings):
    layers = [fastgd.Dense(6, activation, **settings), fastgd.Dense(3)]
    return fastgd.Network(layers, "cross_entropy", optimizer, 5, dtype)


def state(net):
    return {name: view.tobytes() for name, view in net._arrays().items()}, net.step, net.epoch


STEP = [
    ("forward", 0), ("forward", 1), ("loss", 1), ("backward", 1), ("weight_grad", 0),
    ("weight_grad", 1), ("update", 0), ("update", 1),
]  # fmt: skip


def test_first_step_is_the_default():
    assert fastgd.config().validate == "first_step"


def test_first_step_is_repeated_once(calls):
    net = network()
    net.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    assert sorted(calls) == sorted(STEP)
    net.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    net.train_step(X, Y)
    network().fit(X, Y, verbose=0)
    assert len(calls) == len(STEP)


def test_train_step_repeats_its_first_step(calls):
    net = network()
    for _ in range(3):
        net.train_step(X, Y)
    assert sorted(calls) == sorted(STEP)


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": "float64"},
        {"activation": "relu"},
        {"optimizer": "sgd"},
        {"optimizer": fastgd.Adam(clip_norm=1.0)},
        {"optimizer": fastgd.Adam(weight_decay=0.1)},
        {"l2": 0.1},
        {"dropout": 0.5},
        {"bias": False},
    ],
    ids=str,
)
def test_every_new_set_of_operations_is_repeated(other, calls):
    network().fit(X, Y, verbose=0)
    n = len(calls)
    network(**other).fit(X, Y, verbose=0)
    assert len(calls) > n
    if "dropout" in other:
        assert ("dropout", 0) in calls


def test_every_new_isa_is_repeated(calls):
    for n, isa in enumerate(fastgd.available_isas(), 1):
        with fastgd.config(isa=isa):
            network().fit(X, Y, epochs=2, verbose=0)
            network().fit(X, Y, epochs=2, verbose=0)
        assert len(calls) == n * len(STEP)


def test_always_repeats_every_step(calls):
    with fastgd.config(validate="always"):
        net = network()
        net.fit(X, Y, epochs=2, batch_size=8, verbose=0)
        assert len(calls) == 10 * len(STEP)
        net.train_step(X, Y)
        net.train_step(X, Y)
        assert len(calls) == 12 * len(STEP)


def test_off_repeats_nothing(calls):
    with fastgd.config(validate="off"):
        net = network()
        net.fit(X, Y, epochs=2, verbose=0)
        net.train_step(X, Y)
    assert calls == []
    net.train_step(X, Y)
    assert sorted(calls) == sorted(STEP), "off must not count as verified"


OPTIMIZERS = [fastgd.SGD(0.1), fastgd.SGD(0.1, 0.9), fastgd.Adam(clip_norm=0.1), fastgd.RMSprop()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_mode_does_not_change_the_bits(optimizer, dtype):
    states = []
    for mode in ("off", "first_step", "always"):
        with fastgd.config(validate=mode):
            net = network(optimizer, dtype, dropout=0.3, l2=1e-3)
            net.fit(X, Y, epochs=2, batch_size=16, verbose=0)
            for _ in range(2):
                net.train_step(X[:7], Y[:7])
        states.append(state(net))
    assert states[0] == states[1] == states[2]


# ---- broken kernels -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("call", ["fit", "train_step", "validate"])
@pytest.mark.parametrize("fault", FAULTS)
def test_broken_kernel_is_caught_before_it_does_harm(fault, call, dtype):
    net = network(dtype=dtype)
    with fastgd.config(validate="off"):
        net.train_step(X, Y)
    before = state(net)
    _kernels.inject_fault(fault)
    with pytest.raises(fastgd.ValidationError) as caught:
        getattr(net, call)(X, Y)
    error = caught.value
    assert isinstance(error, ArithmeticError)
    assert error.op in str(error)
    assert f"layer {error.layer}" in str(error)
    assert abs(error.got - error.expected) > error.bound
    _kernels.inject_fault(None)
    assert state(net) == before
    if call != "validate":
        assert not _training.verified, "what failed must not count as verified"
    net.fit(X, Y, verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("call", ["fit", "train_step", "validate"])
def test_broken_online_kernel_is_caught(call, dtype):
    """Also after batches of more samples, which do not use it, have been verified."""
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(0.1), 5, dtype)
    targets = np.ones((40, 1), dtype)
    net.train_step(X.astype(dtype), targets)
    net.train_step(X.astype(dtype), targets)
    before = state(net)
    _kernels.inject_fault("online")
    data = X[:1].astype(dtype), targets[:1]
    with pytest.raises(fastgd.ValidationError):
        net.fit(X, targets, batch_size=1, verbose=0) if call == "fit" else getattr(net, call)(*data)
    assert state(net) == before
    _kernels.inject_fault(None)
    net.fit(X, targets, batch_size=1, verbose=0)


def few_samples(widths, n_inputs, dtype="float32"):
    """Return a train_step by SGD on three samples."""
    X = np.random.default_rng(0).normal(size=(3, n_inputs)).astype(dtype)
    net = fastgd.Network(
        [*(fastgd.Dense(n, "relu") for n in widths[:-1]), fastgd.Dense(widths[-1])],
        "cross_entropy", n_inputs=n_inputs, optimizer=fastgd.SGD(), dtype=dtype,
    )  # fmt: skip
    return lambda: net.train_step(X, np.array([0, 1, 1]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "op", "n_inputs", "without", "with_it"),
    [
        # Wide, but the first, which needs no delta.
        ("turned_product", "backward", 40, (300, 8, 2), (40, 300, 2)),
        ("streamed_product", "forward", 40, (8, 8, 2), (300, 8, 2)),
        # Wide, but not so wide that its weights leave a cache.
        ("streamed_update", "update", 300, (80, 2), (300, 2)),
    ],
)
def test_broken_kernel_for_few_samples_is_caught(kernel, op, n_inputs, without, with_it, dtype):
    """Also after a network that differs in nothing but that it has no use for the kernel."""
    few_samples(without, n_inputs, dtype)()
    _kernels.inject_fault(kernel)
    refused = pytest.raises(fastgd.ValidationError, match=f"{op} of layer")
    # Plain C has no use for those of the products.
    unused = fastgd.active_isa() == "scalar" and kernel.endswith("product")
    with contextlib.nullcontext() if unused else refused:
        few_samples(with_it, n_inputs, dtype)()
    _kernels.inject_fault(None)


def test_small_layers_among_those_for_few_samples_are_verified():
    few_samples((350, 350), 300)()
    _kernels.inject_fault("update")
    with pytest.raises(fastgd.ValidationError, match="update of layer"):
        few_samples((350, 350, 10), 300)()  # the last one's weights stay in a cache
    _kernels.inject_fault(None)


@pytest.mark.parametrize("call", ["fit", "train_step"])
@pytest.mark.parametrize("fault", FAULTS)
def test_kernel_that_breaks_later_is_caught_by_always(fault, call):
    net = network()
    net.train_step(X, Y)
    _kernels.inject_fault(fault)
    with fastgd.config(validate="first_step"):
        getattr(net, call)(X, Y)
    with fastgd.config(validate="always"), pytest.raises(fastgd.ValidationError):
        getattr(net, call)(X, Y)
    with pytest.raises(fastgd.ValidationError):
        net.validate(X, Y)


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_kernel_trains_on_when_validation_is_off(fault):
    """The fault is real: without validation, other numbers come out."""
    nets = network("sgd"), network("sgd")
    with fastgd.config(validate="off"):
        nets[0].fit(X, Y, verbose=0)
        _kernels.inject_fault(fault)
        nets[1].fit(X, Y, verbose=0)
    assert state(nets[0]) != state(nets[1])


def test_new_network_is_not_left_half_built_by_a_broken_kernel():
    net = fastgd.Network([fastgd.Dense(6, "tanh"), fastgd.Dense(3)], "cross_entropy")
    _kernels.inject_fault("gemm")
    with pytest.raises(fastgd.ValidationError):
        net.fit(X, Y, verbose=0)
    _kernels.inject_fault(None)
    twin = network("sgd")
    for each in (net, twin):
        each.fit(X, Y, verbose=0)
    assert state(net) == state(twin)


# ---- Network.validate -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_validate_reports_and_changes_nothing(dtype):
    net = network(dtype=dtype, dropout=0.5)
    net.fit(X, Y, epochs=2, verbose=0)
    before, history = state(net), net.history
    report = net.validate(X, Y, np.linspace(0, 1, 40))
    assert state(net) == before
    assert net.history is history
    assert sorted(report.operations) == sorted([*STEP, ("dropout", 0)])
    assert len(report.shares) == len(report.operations)
    assert all(0 <= share <= 1 for share in report.shares)
    assert (report.isa, report.dtype, report.n_samples) == (fastgd.active_isa(), dtype, 40)
    assert "9 operations on 40 samples" in repr(report)


def test_validate_reports_an_operation_on_many_rows_once():
    net = fastgd.Network([fastgd.Dense(500, "tanh"), fastgd.Dense(3)], "cross_entropy", "adam", 300)
    data = np.tile(X, 60)
    report = net.validate(data, Y)
    assert sorted(report.operations) == sorted(STEP)
    assert len(report.shares) == len(STEP)


def test_validate_of_a_network_without_weights_leaves_it_so():
    net = fastgd.Network([fastgd.Dense(3)], "cross_entropy")
    net.validate(X, Y)
    assert net.n_inputs is None


def test_validate_works_whatever_the_mode():
    for mode in ("off", "always", "first_step"):
        with fastgd.config(validate=mode):
            assert network().validate(X, Y).operations


def test_validate_takes_at_most_its_samples():
    net = network()
    data = np.zeros((5000, 5), np.float32)
    assert net.validate(data, np.zeros(5000, int)).n_samples == 1024


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    ["adam", fastgd.AdamW(weight_decay=0.0), "rmsprop", fastgd.RMSprop(momentum=0.9), "adagrad"],
    ids=str,
)
@pytest.mark.parametrize("validate", ["off", "always"])
def test_mean_square_that_overflows_is_a_divergence(optimizer, dtype, validate):
    """The square of a finite gradient is infinite, and its weight stays where it was."""
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", optimizer, 1, dtype)
    size = 1e12 if dtype == "float32" else 1e100
    before = net.layers[0].weight.copy()
    with fastgd.config(validate=validate), pytest.raises(fastgd.DivergenceError):
        net.fit([[size]], [size], verbose=0)
    assert (net.layers[0].weight == before).all()
    for pairs in net._live().optimizer_state().values():
        assert all(np.isfinite(array).all() for pair in pairs for array in pair)


def test_validate_says_when_the_step_diverges():
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(1e38), 1)
    before = state(net)
    with pytest.raises(fastgd.DivergenceError):
        net.validate(np.full((4, 1), 1e15), np.zeros(4))
    assert state(net) == before


# ---- memory ---------------------------------------------------------------------------------

# In a process of its own, as the benchmark measures it.
FIT = """
import sys
from benchmarks.peers import fastgd_peer
from benchmarks.shapes import Job
adam = {"name": "adam", "lr": 1e-4}
job = Job((1024, 2048, 2048, 10), 32, 2, optimizer=adam, kind="memory", variant=sys.argv[1])
print(fastgd_peer.make(job, 1).measure(1))
"""


def test_validating_a_large_network_takes_little_memory():
    """Its weights take 25 MB, and with their states 76: there is no room for a copy of them."""
    root = Path(__file__).resolve().parent.parent
    added = {}
    for variant in ("fit", "not validated"):
        run = subprocess.run(
            [sys.executable, "-c", FIT, variant],
            capture_output=True, text=True, check=True, cwd=root,
        )  # fmt: skip
        added[variant] = float(run.stdout)
    assert 0 < added["not validated"] < added["fit"] < added["not validated"] + 16


ACTIVATIONS = [name for name in _kernels.ACTIVATIONS if name != "softmax"]
PAIRS = [("squared_error", name) for name in _kernels.ACTIVATIONS]
PAIRS += [(loss, name) for loss in ("absolute_error", "huber") for name in ACTIVATIONS]
PAIRS += [("log_loss", "sigmoid"), ("log_loss", "hard_sigmoid"), ("cross_entropy", "softmax")]
PAIRS += [("poisson", name) for name in ("exp", "softplus", "sigmoid", "hard_sigmoid", "relu")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_every_loss_and_output_passes(loss, output, dtype):
    y = rng.uniform(size=(40, 3))
    if loss == "cross_entropy":
        y /= y.sum(axis=1, keepdims=True)
    layers = [fastgd.Dense(6, "tanh"), fastgd.Dense(3, output)]
    net = fastgd.Network(layers, loss, "sgd", 5, dtype)
    assert max(net.validate(X, y).shares) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [0, 1, 2, 1e3, 1e20])
def test_poisson_passes_where_outputs_are_zero(factor, dtype):
    """There the logarithm is that of eps, however small, or of the smallest normal number."""
    eps = factor * float(np.finfo(dtype).tiny)
    layers = [fastgd.Dense(6, "tanh"), fastgd.Dense(3, "relu")]
    net = fastgd.Network(layers, fastgd.Poisson(eps=eps), "sgd", 5, dtype)
    assert (net.predict(X) == 0).any()
    assert max(net.validate(X, rng.uniform(size=(40, 3))).shares) <= 1


@pytest.mark.parametrize("hidden", ACTIVATIONS)
def test_every_hidden_activation_passes_a_watched_fit(hidden):
    with fastgd.config(validate="always"):
        net = network(fastgd.SGD(0.01), activation=hidden)
        history = net.fit(X, Y, epochs=2, batch_size=10, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


def test_custom_loss_is_repeated_but_for_the_loss(calls):
    class Own:
        def value(self, output, y):
            return 0.5 * ((output - y) ** 2).sum(axis=1)

        def delta(self, output, y):
            return output - y

    net = fastgd.Network([fastgd.Dense(6, "tanh"), fastgd.Dense(1)], Own(), "sgd", 5)
    net.fit(X, X[:, 0], verbose=0)
    assert sorted(calls) == sorted(call for call in STEP if call[0] != "loss")


def test_kernels_of_few_samples_are_verified_of_their_own(calls):
    """Wide layers take other ways for few samples: each is repeated once, by fit and train_step."""
    wide = fastgd.Network([fastgd.Dense(300), fastgd.Dense(300), fastgd.Dense(3)], "cross_entropy",
                          n_inputs=5)  # fmt: skip
    repeated = []
    for n in (40, 30, 12, 11, 8, 3, 40):
        wide.train_step(X[:n], Y[:n])
        wide.train_step(X[:n], Y[:n])
        wide.fit(X[:n], Y[:n], batch_size=n, epochs=1, verbose=0)
        repeated.append(len(calls) > 0)
        calls.clear()
    assert repeated == [True, False, True, False, True, False, False]


@pytest.mark.parametrize("n_inputs", [20, 200])
def test_each_online_kernel_is_verified_of_its_own(n_inputs, calls):
    """AVX-512 sums short columns up by the kernel of AVX2; others have one for all columns."""
    verified = []
    for inputs in (n_inputs, 220 - n_inputs):
        calls.clear()
        net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=inputs)
        net.fit(np.ones((4, inputs), np.float32), np.ones(4), batch_size=1, epochs=1, verbose=0)
        verified.append(len(calls) > 0)
    assert verified == [True, fastgd.active_isa() == "avx512"]


def test_a_step_of_nesterov_that_overflows_is_a_divergence():
    """Its gradient and its velocity are finite in float32, and not what is made of both."""
    net = fastgd.Network(
        [fastgd.Dense(3)], "cross_entropy", fastgd.SGD(0.02, 0.9, nesterov=True), n_inputs=1
    )
    net.set_weights([np.zeros((1, 3)), np.zeros(3)])
    with (
        fastgd.config(validate="always"),
        pytest.raises(fastgd.DivergenceError, match="a weight is not finite"),
    ):
        net.train_step(np.array([[3.4e38]], np.float32), np.array([0]))
    assert all(np.isfinite(array).all() for array in net.get_weights())


def test_clipping_of_gradients_near_the_largest_number_is_no_fault_of_a_kernel():
    """The factor is denormal in float32, so that the step is none."""
    optimizer = fastgd.SGD(0.05, clip_norm=1.0)
    net = fastgd.Network([fastgd.Dense(3)], "cross_entropy", optimizer, n_inputs=1)
    net.set_weights([np.zeros((1, 3)), np.zeros(3)])
    with fastgd.config(validate="always"):
        net.train_step(np.array([[3.4e38]], np.float32), np.array([0]))
    assert not net.layers[0].weight.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_whose_weights_are_all_denormal_change_nothing(batch_size, dtype):
    X, y = np.ones((4, 3), dtype), np.ones((4, 1))
    weight = np.array([np.finfo(dtype).tiny / 4, np.finfo(dtype).tiny / 4, 1, 1], dtype)
    fits = []
    for rows in (slice(None), slice(2, None)):
        net = fastgd.Network(
            [fastgd.Dense(1)], "squared_error", fastgd.SGD(0.1), n_inputs=3, dtype=dtype, seed=0
        )
        with fastgd.config(validate="always"):
            net.fit(X[rows], y[rows], epochs=1, batch_size=batch_size, shuffle=False, verbose=0,
                    sample_weight=weight[rows])  # fmt: skip
        fits.append(b"".join(w.tobytes() for w in net.get_weights()))
    assert fits[0] == fits[1]
