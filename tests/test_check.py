"""fastgd.check and the verification of operations: sound kernels pass, broken ones do not."""

import copy
import tracemalloc

import numpy as np
import pytest

import fastgd
from fastgd import _check, _kernels, reference
from fastgd._check import check
from fastgd._engine import Engine
from fastgd._verify import measure, verify

FAULTS = ["gemm", "activation", "activation_grad", "loss", "update"]
# The operations of a step in which each broken kernel shows first.
CAUGHT_IN = {
    "gemm": "forward",
    "activation": "forward",
    "activation_grad": "backward",
    "loss": "loss",
    "update": "update",
}
PARTS = [_check._layers, _check._activations, _check._losses, _check._updates, _check._dropout]
PARTS.append(_check._online)


@pytest.fixture
def fault():
    """Break kernels of the active table; heal them at the end."""
    yield _kernels.inject_fault
    _kernels.inject_fault(None)


def test_a_kernel_that_cannot_be_broken_is_refused():
    with pytest.raises(ValueError, match="kernel='none' is not one that can be broken"):
        _kernels.inject_fault("none")


def engine(dtype="float32", *, output="softmax", loss="cross_entropy", optimizer=None, units=5):
    made = Engine(
        7, [9, 6, units], [("tanh", 0.0), ("gelu", 0.0), (output, 0.0)], [True] * 3, dtype, 3
    )
    rng = np.random.default_rng(0)
    for layer in range(3):
        weight = made.weight(layer)
        weight[...] = rng.normal(size=weight.shape) / np.sqrt(len(weight))
    made.set_loss(loss, 1.0 if loss == "huber" else 0.0)
    name, params = optimizer or ("sgd", {"momentum": 0.9})
    made.set_optimizer(name, reference._DEFAULTS[name] | params)
    made.set_dropout([0.25, 0.0, 0.0])
    made.set_penalties([0.0, 1e-3, 0.0], [1e-2, 0.0, 1e-3])
    return made


def batch(loss="cross_entropy", n=21, units=5, dtype="float32"):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 7)).astype(dtype)
    if loss == "cross_entropy":
        return X, rng.integers(0, units, n), rng.uniform(0.5, 2, n)
    return X, rng.uniform(size=(n, units)).astype(dtype), rng.uniform(0.5, 2, n)


# ---- check ---------------------------------------------------------------------------------------


def test_check_passes_on_every_instruction_set(capsys):
    before = _kernels.active_isa()
    report = check()
    assert report.passed
    assert _kernels.active_isa() == before
    assert {r.isa for r in report.results} == set(_kernels.available_isas())
    assert {r.dtype for r in report.results} == {"float32", "float64"}
    kernels = {r.kernel for r in report.results}
    assert {"forward", "backward", "weight_grad", "dropout", "adamw_update"} <= kernels
    assert {f"activation {name}" for name in _kernels.ACTIVATIONS} <= kernels
    assert all(0 <= r.share <= 1 and r.passed for r in report.results)
    table = capsys.readouterr().out
    assert table == str(report) + "\n"
    assert table.count(" ok\n") == len(report.results)
    assert "all within their error bounds" in table


def test_check_of_a_part_is_silent_if_asked(capsys):
    report = check("scalar", np.float64, verbose=False)
    assert capsys.readouterr().out == ""
    assert {(r.isa, r.dtype) for r in report.results} == {("scalar", "float64")}
    assert report.passed


@pytest.mark.parametrize(
    ("args", "message"),
    [((["sse9"],), "sse9"), ((None, ["float16"]), "dtype must be one of 'float32', 'float64'")],
)
def test_check_refuses_unknown_names(args, message):
    before = _kernels.active_isa()
    with pytest.raises(ValueError, match=message):
        check(*args, verbose=False)
    assert _kernels.active_isa() == before


@pytest.mark.parametrize("kernel", [*FAULTS, "online"])
def test_check_catches_every_fault(isa, dtype, fault, kernel, capsys, monkeypatch):
    monkeypatch.setattr(_check, "_LARGE", (7, 9, 11))
    fault(kernel)
    report = check(isa, dtype)
    assert not report.passed
    wrong = [r for r in report.results if not r.passed]
    assert all(r.share > 1 for r in wrong)
    assert f"{len(wrong)} WRONG" in capsys.readouterr().out
    assert "WRONG at" in str(report)
    fault(None)
    assert check(isa, dtype, verbose=False).passed


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        ("turned_product", {"backward"}),
        ("streamed_product", {"forward"}),
        ("streamed_update", {"sgd_update"}),
    ],
)
def test_check_catches_a_fault_of_the_kernels_for_few_samples(isa, dtype, fault, kernel, found):
    """Plain C has no use for those of the products."""
    fault(kernel)
    wrong = {r.kernel for r in check(isa, dtype, verbose=False).results if not r.passed}
    assert wrong == (set() if isa == "scalar" and kernel.endswith("product") else found)


# ---- verification of a step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "loss"),
    [("softmax", "cross_entropy"), ("sigmoid", "log_loss"), ("mish", "huber"), ("exp", "poisson")],
)
@pytest.mark.parametrize("optimizer", _check._OPTIMIZERS[::2], ids=str)
def test_verify_passes_a_sound_step(isa, dtype, output, loss, optimizer):
    name, params = optimizer
    params = {k: v for k, v in params.items() if k not in ("l1", "l2")}
    made = engine(dtype, output=output, loss=loss, optimizer=(name, params))
    seen = set()

    def watch(op, layer, inputs, outputs):
        seen.add(op)
        verify(op, layer, inputs, outputs)

    for _ in range(3):
        made.checked_step(*batch(loss, dtype=dtype), 0.01, watch)
    assert seen == {"forward", "dropout", "loss", "backward", "weight_grad", "update"}


def test_a_weight_whose_gradient_overflows_may_be_kept():
    """Found by fuzzing: the reference's step from such a gradient fits the dtype."""
    A_prev = np.full((1, 1), np.finfo(np.float32).max, np.float32)
    delta, W, b = np.float32([[1.4]]), np.float32([[0.05]]), np.zeros(1, np.float32)
    inputs = {"W": W.copy(), "b": b.copy(), "A_prev": A_prev, "delta": delta, "state": {}}
    inputs |= {"lr": 0.05, "step": 0, "optimizer": "sgd", "params": {"scale": 1.0}}
    with pytest.raises(FloatingPointError):
        fastgd.kernels.sgd_update(W, b, A_prev, delta, lr=0.05)
    assert inputs["W"] == W
    outputs = {"W": W, "b": b, "state": {}}
    assert all(found.share <= 1 for found in measure("update", 0, inputs, outputs))
    outputs["W"] = W + np.float32(0.05 * 2**100)  # but no other value is right
    assert measure("update", 0, inputs, outputs)[0].share > 1


@pytest.mark.parametrize("optimizer", [("sgd", {}), ("adam", {}), ("adagrad", {"lr_decay": 0.1})])
@pytest.mark.parametrize("clip", [{"clip_norm": 0.1}, {"clip_norm": 1e6}, {"clip_value": 0.01}])
def test_verify_knows_clipping(dtype, optimizer, clip):
    name, params = optimizer
    made = engine(dtype, optimizer=(name, params | clip))
    for _ in range(3):
        made.checked_step(*batch(dtype=dtype), 0.01, verify)


@pytest.mark.parametrize("kernel", FAULTS)
def test_verify_catches_every_fault(isa, dtype, fault, kernel):
    made = engine(dtype)
    fault(kernel)
    with pytest.raises(fastgd.ValidationError) as caught:
        made.checked_step(*batch(dtype=dtype), 0.01, verify)
    error = caught.value
    assert error.op == CAUGHT_IN[kernel]
    assert error.layer in (0, 1, 2)
    assert abs(error.got - error.expected) > error.bound
    assert f"{error.op} of layer {error.layer}: {error.array}[" in str(error)
    assert isa in str(error)
    assert isinstance(error, ArithmeticError)


@pytest.mark.parametrize("kernel", FAULTS)
def test_networks_catch_every_fault(fault, kernel):
    X, y, _ = batch()
    net = fastgd.Network(
        [fastgd.Dense(8, "tanh"), fastgd.Dense(5)], loss="cross_entropy", n_inputs=7
    )
    net.validate(X, y)
    fault(kernel)
    with pytest.raises(fastgd.ValidationError):
        net.validate(X, y)
    with fastgd.config(validate="always"), pytest.raises(fastgd.ValidationError):
        net.fit(X, y, epochs=1, verbose=0)


# ---- sensitivity ---------------------------------------------------------------------------------


def arrays(outputs):
    """Yield all float arrays of an operation's outputs."""
    for value in outputs.values():
        if isinstance(value, dict):
            for pair in value.values():
                yield from pair
        elif isinstance(value, np.ndarray):
            yield value


@pytest.mark.parametrize("part", PARTS)
def test_one_wrong_element_is_enough(dtype, rng, part):
    """Errors of some hundred roundings in one element leave the bounds of every operation."""
    for kernel, op, inputs, outputs in part(rng, (13, 9, 6), dtype):
        for number, array in enumerate(arrays(outputs)):
            spoilt = copy.deepcopy(outputs)
            wrong = list(arrays(spoilt))[number]
            flat = wrong.reshape(-1)
            flat[flat.size // 2] += 1e-3 * (1 + abs(flat[flat.size // 2]))
            with pytest.raises(fastgd.ValidationError) as caught:
                verify(op, 0, inputs, spoilt)
            found = np.unravel_index(flat.size // 2, array.shape)
            assert caught.value.index == tuple(int(i) for i in found), kernel
        verify(op, 0, inputs, outputs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", PARTS)
def test_values_that_are_not_finite_are_wrong(rng, part, value):
    for _, op, inputs, outputs in part(rng, (5, 4, 3), "float32"):
        for number in range(len(list(arrays(outputs)))):
            spoilt = copy.deepcopy(outputs)
            list(arrays(spoilt))[number].reshape(-1)[0] = value
            with pytest.raises(fastgd.ValidationError):
                verify(op, 0, inputs, spoilt)


def test_a_wrong_loss_value_is_caught(rng):
    for _, op, inputs, outputs in _check._losses(rng, (13, 9, 6), "float64"):
        with pytest.raises(fastgd.ValidationError, match=r"value\[0\]"):
            verify(op, 2, inputs, outputs | {"value": outputs["value"] * (1 + 1e-6) + 1e-9})


def test_a_wrong_order_of_summing_is_no_error(rng):
    """The bound is for the exact result, so other orders of rounding pass as well."""
    X, W, b = (rng.normal(size=s).astype("float32") for s in ((40, 300), (300, 20), (20,)))
    z = (X @ W) + b
    inputs = {"X": X, "W": W, "b": b, "activation": "relu", "param": 0.0}
    verify("forward", 0, inputs, {"z": z, "a": np.maximum(z, 0)})
    assert (z != fastgd.kernels.forward(X, W, b)).any(), "it is another order"


def test_overflow_is_judged_as_a_result(isa):
    X, W = np.full((2, 3), 1e30, np.float32), np.full((3, 8), 1e30, np.float32)
    z = np.empty((2, 8), np.float32)
    a = fastgd.kernels.forward(X, W, None, "relu", z_out=z)
    assert np.isinf(z).all()
    inputs = {"X": X, "W": W, "b": np.zeros(8, np.float32), "activation": "relu", "param": 0.0}
    verify("forward", 0, inputs, {"z": z, "a": a})
    far = np.array([[90.0, -90.0, 1e4, -1e4]], np.float32)
    a = fastgd.kernels.activation("exp", far)
    verify("activation", None, {"z": far, "activation": "exp", "param": 0.0}, {"a": a})
    with pytest.raises(fastgd.ValidationError, match="activation: a"):
        verify("activation", None, {"z": far, "activation": "exp", "param": 0.0}, {"a": -a})


def test_a_sum_that_overflows_before_it_is_dropped_is_judged_as_a_result():
    W, mask = np.full((2, 3), 1e30, np.float32), np.zeros((1, 2), np.float32)
    x, nan = np.ones((1, 2), np.float32), np.full((1, 2), np.nan, np.float32)
    inputs = {"W": W, "x": x, "mask": mask, "activation": "tanh", "param": 0.0}
    verify("backward", 1, inputs | {"delta": np.full((1, 3), 1e30, np.float32)}, {"delta": nan})
    with pytest.raises(fastgd.ValidationError, match="is nan, but the reference gives"):
        verify("backward", 1, inputs | {"delta": np.ones((1, 3), np.float32)}, {"delta": nan})


def test_targets_of_other_dtypes_are_rounded_as_the_engine_does(dtype, rng):
    for y in (np.arange(42, dtype=np.uint8).reshape(21, 2) % 3, rng.uniform(size=(21, 2))):
        made = engine(dtype, output="identity", loss="squared_error", units=2)
        X, _, w = batch(dtype=dtype)
        made.checked_step(X, y, w, 0.01, verify)


@pytest.mark.parametrize("big", [(300, 600, 300), (3000, 40, 30), (3, 6000, 5), (5, 6, 9000)])
def test_temporary_arrays_stay_below_8_mb(rng, big):
    n, fan_in, fan_out = big
    X, W, b, delta = (
        rng.normal(size=s).astype("float32")
        for s in ((n, fan_in), (fan_in, fan_out), (fan_out,), (n, fan_out))
    )
    z = np.empty((n, fan_out), np.float32)
    a = fastgd.kernels.forward(X, W, b, "gelu", z_out=z)
    dW, db = fastgd.kernels.weight_grad(X, delta)
    value, by_z = fastgd.kernels.loss("squared_error", z, delta, output="mish")
    new_W, new_b, state = W.copy(), b.copy(), {}
    fastgd.kernels.adam_update(new_W, new_b, X, delta, state, lr=0.1)
    zeros = np.zeros_like(W), np.zeros_like(b)
    name = {"activation": "gelu", "param": 0.0}
    cases = [
        ("forward", {"X": X, "W": W, "b": b, **name}, {"z": z, "a": a}),
        (
            "backward",
            {"delta": delta, "W": W, "x": X, "mask": None, **name},
            {"delta": fastgd.kernels.backward(delta, W, "gelu", z=X)},
        ),
        ("weight_grad", {"A_prev": X, "delta": delta}, {"dW": dW, "db": db}),
        (
            "loss",
            {
                "z": z, "a": fastgd.kernels.activation("mish", z), "y": delta,
                "sample_weight": None, "kind": "squared_error", "loss_param": 0.0,
                "activation": "mish", "param": 0.0,
            },
            {"value": value, "delta": by_z},
        ),
        (
            "update",
            {
                "W": W, "b": b, "A_prev": X, "delta": delta, "lr": 0.1, "step": 0,
                "state": {"exp_avg": zeros, "exp_avg_sq": zeros}, "optimizer": "adam",
                "params": {},
            },
            {"W": new_W, "b": new_b, "state": {k: v for k, v in state.items() if k != "step"}},
        ),
    ]  # fmt: skip
    mask = reference.dropout_mask(n, fan_out, 0.5, seed=1, step=2, layer=0)
    inputs = {"a": a, "p": 0.5, "seed": 1, "step": 2}
    cases.append(("dropout", inputs, {"a": a * mask, "mask": mask}))
    for op, inputs, outputs in cases:
        tracemalloc.start()
        verify(op, 0, inputs, outputs)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 8 * 2**20, (op, peak)


def test_the_reference_in_the_same_dtype_passes_too(dtype, rng):
    """The bounds hold for NumPy's order of the same formulas where it rounds as often."""
    X, W, b = (rng.normal(size=s).astype(dtype) for s in ((30, 20), (20, 10), (10,)))
    z = np.empty((30, 10), dtype)
    a = reference.forward(X, W, b, "identity", z_out=z)
    inputs = {"X": X, "W": W, "b": b, "activation": "identity", "param": 0.0}
    assert all(c.share <= 1 for c in measure("forward", 0, inputs, {"z": z, "a": a}))
