"""fastgd.kernels against fastgd.reference, on every instruction set and in both dtypes.

Results are held to forward error bounds, and to equal bits where the inputs make every operation
exact.
"""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgd import _check, _kernels, _pairing, activations, kernels, losses, reference
from fastgd._verify import measure

ELEMENTWISE = [name for name in _kernels.ACTIVATIONS if name != "softmax"]
CASES = {
    "layers": _check._layers,
    "activations": _check._activations,
    "losses": _check._losses,
    "updates": _check._updates,
    "dropout": _check._dropout,
}
# (n_samples, fan_in, fan_out)
SHAPES = [(1, 1, 1), (1, 7, 3), (2, 17, 5), (15, 16, 17), (31, 33, 4), (48, 5, 48), (70, 130, 65)]
BOTH = pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])


def numbers(rng, *shape, dtype):
    return rng.normal(size=shape).astype(dtype)


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("part", CASES)
def test_kernels_stay_within_the_bounds_of_the_reference(isa, dtype, rng, part, shape):
    for kernel, op, inputs, outputs in CASES[part](rng, shape, dtype):
        for comparison in measure(op, 0, inputs, outputs):
            assert comparison.share <= 1, (kernel, comparison)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90)),
    part=st.sampled_from(["layers", "losses", "updates"]),
    seed=st.integers(0, 1000),
)
def test_any_shape_stays_within_the_bounds(isa, dtype, shape, part, seed):
    for kernel, op, inputs, outputs in CASES[part](np.random.default_rng(seed), shape, dtype):
        for comparison in measure(op, 0, inputs, outputs):
            assert comparison.share <= 1, (kernel, comparison)


@pytest.mark.parametrize("name", _kernels.ACTIVATIONS)
def test_activations_over_their_whole_range(isa, dtype, rng, name):
    far = 120.0 if dtype == "float32" else 800.0
    z = np.concatenate(
        [
            rng.uniform(-6, 6, 4000),
            rng.uniform(-far, far, 4000),
            np.exp2(rng.uniform(-90, 10, 2000)) * rng.choice([-1, 1], 2000),
        ]
    )
    z = z.astype(dtype).reshape(-1, 4)
    act = activations.get(name)
    a = kernels.activation(name, z)
    inputs = {"z": z, "activation": name, "param": act.param}
    (comparison,) = measure("activation", None, inputs, {"a": a})
    assert comparison.share <= 1, comparison
    if name == "identity":
        return
    da = numbers(rng, *z.shape, dtype=dtype)
    x = a if act.consumes == "a" else z
    with np.errstate(all="ignore"):
        keep = np.isfinite(a).all(axis=1)
    da, x = da[keep], x[keep]
    dz = kernels.activation_grad(name, da, **{act.consumes: x})
    inputs = {"da": da, "x": x, "activation": name, "param": act.param}
    (comparison,) = measure("activation_grad", None, inputs, {"dz": dz})
    assert comparison.share <= 1, comparison


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_special_values(isa, dtype, name):
    info = np.finfo(dtype)
    z = np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, -info.tiny, 3, -3,
         info.smallest_subnormal, -info.smallest_subnormal, info.tiny * 0.75, -info.tiny * 0.75],
        dtype,
    )  # fmt: skip
    got, want = kernels.activation(name, z), reference.activation(name, z)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, want, rtol=8 * info.eps, atol=4 * info.tiny)
        ones = np.ones_like(z)
        got = kernels.activation_grad(name, ones, z=z, a=reference.activation(name, z))
        z = np.where(np.abs(z) < info.tiny, 0 * z, z)  # which the kernels take for 0
        want = reference.activation_grad(name, ones, z=z, a=reference.activation(name, z))
        np.testing.assert_allclose(got, want, rtol=8 * info.eps, atol=8 * info.eps)


@pytest.mark.parametrize("act", [activations.LeakyReLU(0.3), activations.ELU(1.7)])
def test_parameters_of_activations_reach_the_kernels(isa, dtype, rng, act):
    X, W = numbers(rng, 20, 9, dtype=dtype), numbers(rng, 9, 11, dtype=dtype)
    z = np.empty((20, 11), dtype)
    a = kernels.forward(X, W, None, act, z_out=z)
    np.testing.assert_array_equal(a, kernels.activation(act, z))
    np.testing.assert_allclose(a, reference.activation(act, z), rtol=5e-7)
    delta = numbers(rng, 20, 11, dtype=dtype)
    X = reference.activation(act, X)
    got = kernels.backward(delta, W, act, a=X)
    exact = kernels.backward(delta, W)
    np.testing.assert_array_equal(got, kernels.activation_grad(act, exact, a=X))


def test_loss_parameter_reaches_the_kernels(isa, dtype, rng):
    z, y = 3 * numbers(rng, 33, 5, dtype=dtype), numbers(rng, 33, 5, dtype=dtype)
    for output in ("identity", "tanh"):
        got = kernels.loss(losses.Huber(0.25), z, y, output=output)
        want = reference.loss(losses.Huber(0.25), z, y, output=output)
        assert got[0] == pytest.approx(want[0], rel=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("clip", [0.0, 1e-3, 0.2])
def test_clipped_probabilities_bound_the_loss_and_not_the_slope(isa, dtype, clip, rng):
    """Logits of both signs and all sizes, so that each bound is met on either side."""
    z = numbers(rng, 65, 4, dtype=dtype) * np.array([0.5, 3, 40, 300], dtype)
    labels = rng.integers(0, 4, 65)
    hits = (numbers(rng, 65, 4, dtype=dtype) > 0).astype(dtype)
    for kind, y, a in (
        (losses.CrossEntropy, labels, kernels.activation("softmax", z)),
        (losses.LogLoss, hits, kernels.activation("sigmoid", z)),
    ):
        value, delta = kernels.loss(kind(clip), z, y)
        again, slope = reference.loss(kind(clip), z, y)
        assert value == pytest.approx(again, rel=1e-5 if dtype == "float32" else 1e-13)
        np.testing.assert_array_equal(delta, kernels.loss(kind(), z, y)[1])
        # The bounds of delta are test_any_shape's; this only tells that it is the same quantity.
        np.testing.assert_allclose(delta, slope, rtol=1e-4, atol=1e-6)
        if clip:
            p = np.clip(a.astype(np.float64), clip, 1 - clip)
            terms = p[np.arange(65), y] if y.ndim == 1 else np.where(y, p, 1 - p)
            assert value == pytest.approx(-np.log(terms).sum() / 65, rel=1e-5)


@pytest.mark.parametrize("labels", ["u1", "i2", ">i4", "u8", "i8"])
def test_labels_of_any_integer_dtype(labels, rng):
    z = numbers(rng, 9, 4, dtype="float32")
    y = rng.integers(0, 4, 9)
    value, delta = kernels.loss("cross_entropy", z, y)
    again = kernels.loss("cross_entropy", z, y.astype(labels))
    assert again[0] == value
    np.testing.assert_array_equal(again[1], delta)


@BOTH
def test_weights_all_zero(module, dtype, rng):
    z, y = numbers(rng, 5, 3, dtype=dtype), numbers(rng, 5, 3, dtype=dtype)
    value, delta = module.loss("squared_error", z, y, sample_weight=np.zeros(5, dtype))
    assert value == 0
    assert not delta.any()


def test_one_unit_takes_flat_targets(rng):
    z, y = numbers(rng, 9, 1, dtype="float64"), numbers(rng, 9, dtype="float64")
    flat, column = kernels.loss("huber", z, y), kernels.loss("huber", z, y[:, None])
    assert flat[0] == column[0]
    np.testing.assert_array_equal(flat[1], column[1])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "adagrad"])
def test_states_are_those_of_the_reference(isa, dtype, rng, optimizer):
    got, want = {}, {}
    arrays = [numbers(rng, 7, 19, dtype=dtype), numbers(rng, 19, dtype=dtype)]
    own = [x.copy() for x in arrays]
    for _ in range(3):
        A_prev, delta = numbers(rng, 12, 7, dtype=dtype), numbers(rng, 12, 19, dtype=dtype)
        getattr(kernels, f"{optimizer}_update")(*arrays, A_prev, delta, got, lr=0.01)
        getattr(reference, f"{optimizer}_update")(*own, A_prev, delta, want, lr=0.01)
    assert got.keys() == want.keys()
    if "step" in want:
        assert got["step"] == want["step"] == 3
    tolerance = 1e-3 if dtype == "float32" else 1e-11
    for name in want.keys() - {"step"}:
        for one, other in zip(got[name], want[name], strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance / 100)


@BOTH
def test_layers_without_bias(module, dtype, rng):
    X, W = numbers(rng, 6, 5, dtype=dtype), numbers(rng, 5, 3, dtype=dtype)
    zero = np.zeros(3, dtype)
    np.testing.assert_array_equal(
        module.forward(X, W, None, "tanh"), module.forward(X, W, zero, "tanh")
    )
    delta, state = numbers(rng, 6, 3, dtype=dtype), {}
    with_bias = W.copy()
    module.adam_update(W, None, X, delta, state, lr=0.1)
    module.adam_update(with_bias, zero, X, delta, {}, lr=0.1)
    np.testing.assert_array_equal(W, with_bias)
    assert state["exp_avg"][1] is None
    module.adam_update(W, None, X, delta, state, lr=0.1)
    assert state["step"] == 2


@BOTH
def test_weights_that_would_overflow_are_kept(module, dtype):
    big = float(np.sqrt(np.finfo(dtype).max)) * 4
    W = np.arange(6, dtype=dtype).reshape(2, 3)
    before, velocity = W.copy(), (np.zeros_like(W), None)
    A_prev, delta = np.array([[1.0, big]], dtype), np.array([[1.0, big, -1.0]], dtype)
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        module.sgd_update(W, None, A_prev, delta, lr=0.5, velocity=velocity, momentum=0.5)
    kept = np.zeros((2, 3), bool)
    kept[1, 1] = True
    np.testing.assert_array_equal(W[kept], before[kept])
    assert velocity[0][1, 1] == 0
    assert (W[~kept] != before[~kept]).all()
    assert np.isfinite(W).all()


def test_denormals_count_as_zero_and_the_mode_is_restored(isa):
    z = np.array([1e-40, -1e-40], np.float32)
    assert not kernels.activation("leaky_relu", z).any()
    assert not kernels.forward(z[:, None], np.ones((1, 8), np.float32), None).any()
    assert np.float32(1e-40) * np.float32(0.5) > 0


# ---- equal bits ----------------------------------------------------------------------------------


def integers(rng, *shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def check_exact(rng, dtype, m, n, k, acts=("tanh",)):
    """Compare with NumPy where all sums are of small integers: A (m, k), W (k, n)."""
    X, W, b = (integers(rng, *s, dtype=dtype) for s in ((m, k), (k, n), (n,)))
    delta = integers(rng, m, n, dtype=dtype)
    exact = (X.astype("f8") @ W.astype("f8")).astype(dtype)
    np.testing.assert_array_equal(kernels.forward(X, W, None), exact)
    np.testing.assert_array_equal(kernels.forward(X, W, b), exact + b)
    np.testing.assert_array_equal(kernels.forward(X, W, b, "relu"), np.maximum(exact + b, 0))
    da = (delta.astype("f8") @ W.T.astype("f8")).astype(dtype)
    np.testing.assert_array_equal(kernels.backward(delta, W), da)
    dW, db = kernels.weight_grad(X, delta)
    exact_dW = (X.T.astype("f8") @ delta.astype("f8")).astype(dtype)
    np.testing.assert_array_equal(dW, exact_dW)
    np.testing.assert_array_equal(db, delta.sum(axis=0))
    new_W, new_b = W.copy(), b.copy()
    kernels.sgd_update(new_W, new_b, X, delta, lr=0.25, scale=1 / 64)
    np.testing.assert_array_equal(new_W, W - exact_dW / 256)
    np.testing.assert_array_equal(new_b, b - delta.sum(axis=0) / 256)
    # All other epilogues are the elementwise kernel, applied to the exact sums.
    for act in acts:
        z = np.empty_like(exact)
        a = kernels.forward(X, W, b, act, z_out=z)
        np.testing.assert_array_equal(z, exact + b)
        np.testing.assert_array_equal(a, kernels.activation(act, exact + b))
        below = kernels.activation(act, X)
        got = kernels.backward(delta, W, act, z=X, a=below)
        np.testing.assert_array_equal(got, kernels.activation_grad(act, da, z=X, a=below))


EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40]
LARGE = [(257, 129, 65), (33, 257, 511), (129, 3, 1031), (1, 515, 259), (67, 1, 1025)]


def test_integers_give_the_bits_of_numpy(isa, dtype, rng):
    acts = itertools.cycle(ELEMENTWISE)
    for _ in range(120):
        m, n, k = rng.choice(EDGES, 3)
        check_exact(rng, dtype, m, n, k, [next(acts)])


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_odd_sizes_give_the_bits_of_numpy(isa, dtype, rng, shape):
    check_exact(rng, dtype, *shape, ELEMENTWISE)


@pytest.mark.grid
def test_every_size_gives_the_bits_of_numpy(isa, dtype, rng):
    acts = itertools.cycle(ELEMENTWISE)
    for m, n, k in itertools.product(range(1, 41), repeat=3):
        check_exact(rng, dtype, m, n, k, [next(acts)])


@pytest.mark.parametrize(("optimizer", "params"), _check._OPTIMIZERS)
def test_fused_updates_are_the_update_of_the_exact_gradient(isa, dtype, rng, optimizer, params):
    X, delta = integers(rng, 32, 45, dtype=dtype), integers(rng, 32, 37, dtype=dtype)
    gradient = (X.T.astype("f8") @ delta.astype("f8")).astype(dtype)
    fused = numbers(rng, 45, 37, dtype=dtype)
    apart = fused.copy()
    for W, A_prev, d in ((fused, X, delta), (apart, np.eye(45, dtype=dtype), gradient)):
        state, extra = {}, dict(params)
        if optimizer == "sgd":
            args = ()
            extra["velocity"] = (np.zeros_like(W), None)
        else:
            args = (state,)
        for _ in range(2):
            getattr(kernels, f"{optimizer}_update")(W, None, A_prev, d, *args, lr=0.1, **extra)
    np.testing.assert_array_equal(fused, apart)


def results(dtype, seed):
    """Return all results of the functional layer on some shapes, as one list of arrays."""
    arrays = []
    for number, shape in enumerate([(5, 3, 2), (33, 19, 4), (40, 45, 37)]):
        for part in CASES.values():
            rng = np.random.default_rng(seed + number)
            for _, op, _, outputs in part(rng, shape, dtype):
                for name, value in outputs.items():
                    if name == "state":
                        arrays += [x for pair in value.values() for x in pair]
                    else:
                        arrays.append(np.atleast_1d(value))
                assert op
    return arrays


def test_every_instruction_set_gives_the_same_bits(dtype):
    before = _kernels.active_isa()
    found = []
    for name in _kernels.available_isas():
        _kernels.set_isa(name)
        found.append(results(dtype, 1))
    _kernels.set_isa(before)
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8))


@pytest.mark.parametrize("units", [3, 4, 5, 20])
def test_a_sample_does_not_depend_on_its_batch(isa, dtype, rng, units):
    X, W, b = (numbers(rng, *s, dtype=dtype) for s in ((50, 70), (70, units), (units,)))
    whole = kernels.forward(X, W, b, "gelu")
    for rows in (slice(0, 1), slice(7, 20), slice(49, 50), slice(None, None, 3)):
        np.testing.assert_array_equal(kernels.forward(X[rows], W, b, "gelu"), whole[rows])


# ---- where results go ----------------------------------------------------------------------------


def layouts(x):
    """Yield writable arrays of x's shape and values in every layout, and what surrounds them."""
    yield x.copy(), None
    yield np.asfortranarray(x), None
    if x.ndim == 2:
        wide = np.full((x.shape[0], x.shape[1] * 2 + 3), 77, x.dtype)
        wide[:, 1:-2:2] = x
        yield wide[:, 1:-2:2], wide
        tall = np.full((x.shape[0] + 2, x.shape[1]), 77, x.dtype)
        tall[1:-1] = x[::-1]
        yield tall[-2:0:-1], tall
    else:
        wide = np.full(2 * len(x) + 1, 77, x.dtype)
        wide[1::2] = x
        yield wide[1::2], wide


def calls(rng, dtype):
    """Yield name, positional arrays, keyword arguments, and names and shapes of out arrays."""
    X, W, b, delta = (numbers(rng, *s, dtype=dtype) for s in ((9, 7), (7, 5), (5,), (9, 5)))
    yield "forward", (X, W, b, "tanh"), {}, {"out": (9, 5), "z_out": (9, 5)}
    yield "forward", (X, W, b, "softmax"), {}, {"out": (9, 5)}
    yield "activation", ("gelu", X), {}, {"out": (9, 7)}
    yield "activation", ("softmax", X), {}, {"out": (9, 7)}
    yield "activation_grad", ("silu", X), {"z": X + 1}, {"out": (9, 7)}
    yield "activation_grad", ("tanh", X), {"z": X + 1}, {"out": (9, 7)}
    yield "activation_grad", ("identity", X), {}, {"out": (9, 7)}
    yield "activation_grad", ("softmax", X), {"z": X + 1}, {"out": (9, 7)}
    yield "backward", (delta, W, "softsign"), {"z": X}, {"out": (9, 7)}
    yield "backward", (delta, W, "softmax"), {"z": X}, {"out": (9, 7)}
    yield "backward", (delta, W), {}, {"out": (9, 7)}
    yield "weight_grad", (X, delta), {}, {"dW": (7, 5), "db": (5,)}
    yield "loss", ("squared_error", delta, W[:1].repeat(9, axis=0)), {"output": "mish"}, {}
    yield "loss", ("log_loss", delta, np.abs(np.tanh(delta))), {}, {}


def same(got, want, module):
    if isinstance(want, tuple):
        for x, y in zip(got, want, strict=True):
            same(x, y, module)
    elif module is kernels:
        np.testing.assert_array_equal(got, want)
    else:  # BLAS may choose another order for another layout
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@BOTH
def test_results_in_given_arrays(module, dtype, rng):
    for name, args, kwargs, outs in calls(rng, dtype):
        function = getattr(module, name)
        want = function(*args, **kwargs)
        for out, shape in outs.items():
            for array, around in layouts(np.zeros(shape, dtype)):
                got = function(*args, **kwargs, **{out: array})
                returned = got if isinstance(got, tuple) else (got,)
                expected = want if isinstance(want, tuple) else (want,)
                if out == "z_out":
                    same(array, module.forward(*args[:3]), module)
                else:
                    assert any(x is array for x in returned)
                same(returned, expected, module)
                if around is not None:
                    assert np.count_nonzero(around == 77) == around.size - array.size


@BOTH
def test_inputs_of_any_layout_stay_as_they_are(module, dtype, rng):
    for name, args, kwargs, _ in calls(rng, dtype):
        function = getattr(module, name)
        want = function(*args, **kwargs)
        named = {**dict(enumerate(args)), **kwargs}
        for key, value in named.items():
            if not isinstance(value, np.ndarray):
                continue
            for array, _ in layouts(value):
                array.flags.writeable = False
                changed = {**named, key: array}
                got = function(
                    *(changed[i] for i in range(len(args))), **{k: changed[k] for k in kwargs}
                )
                same(got, want, module)
                np.testing.assert_array_equal(array, value)
                assert not any(
                    np.shares_memory(x, array)
                    for x in (got if isinstance(got, tuple) else (got,))
                    if isinstance(x, np.ndarray)
                )


@BOTH
def test_stretched_inputs(module, dtype):
    X = np.broadcast_to(np.array([1.0, 2.0], dtype), (6, 2))
    W = np.broadcast_to(np.array([[1.0], [0.5]], dtype), (2, 7))
    np.testing.assert_array_equal(module.forward(X, W, None), np.full((6, 7), 2, dtype))


@BOTH
def test_out_may_be_an_input(module, dtype, rng):
    square = numbers(rng, 6, 6, dtype=dtype)
    W, b, z = (numbers(rng, *s, dtype=dtype) for s in ((6, 6), (6,), (6, 6)))
    for function in (
        lambda x, out: module.forward(x, W, b, "elu", out=out),
        lambda x, out: module.forward(W, x, b, "elu", out=out),
        lambda x, out: module.activation("mish", x, out=out),
        lambda x, out: module.activation("softmax", x, out=out),
        lambda x, out: module.activation_grad("tanh", x, a=z, out=out),
        lambda x, out: module.activation_grad("tanh", z, a=x, out=out),
        lambda x, out: module.activation_grad("softmax", x, a=z, out=out),
        lambda x, out: module.backward(x, W, "gelu", z=z, out=out),
        lambda x, out: module.backward(z, x, "gelu", z=x, out=out),
        lambda x, out: module.weight_grad(x, z, dW=out)[0],
    ):
        want = function(square.copy(), None)
        for view in (lambda x: x, lambda x: x.T, lambda x: x[::-1]):
            x = square.copy()
            got = function(x, view(x))
            same(got, want, module)
            same(view(x), want, module)


@BOTH
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adagrad"])
def test_updates_of_any_layout(module, dtype, rng, optimizer):
    W, b, A_prev, delta = (numbers(rng, *s, dtype=dtype) for s in ((7, 5), (5,), (9, 7), (9, 5)))

    def run(W, b, first, second):
        if optimizer == "sgd":
            module.sgd_update(W, b, A_prev, delta, lr=0.1, momentum=0.9, velocity=(first, second))
            return
        state = dict.fromkeys(reference.check.state_names(optimizer, 0.0), (first, second))
        if optimizer == "adam":
            state = {"step": 0, "exp_avg": (first, second),
                     "exp_avg_sq": (np.zeros_like(W), np.zeros_like(b))}  # fmt: skip
        getattr(module, f"{optimizer}_update")(W, b, A_prev, delta, state, lr=0.1)

    want = [W.copy(), b.copy(), np.zeros_like(W), np.zeros_like(b)]
    run(*want)
    for w, bias in itertools.product(layouts(W), layouts(b)):
        for s, t in zip(layouts(np.zeros_like(W)), itertools.cycle(layouts(b * 0))):
            given = [x[0].copy(order="K") if x[1] is None else x[0] for x in (w, bias, s, t)]
            given[0][...], given[1][...] = W, b
            given[2][...], given[3][...] = 0, 0
            run(*given)
            for got, expected in zip(given, want, strict=True):
                same(got, expected, kernels)
    for array, around in layouts(W):
        run(array, b.copy(), np.zeros_like(W), np.zeros_like(b))
        if around is not None:
            assert np.count_nonzero(around == 77) == around.size - array.size


@BOTH
def test_an_update_may_read_the_weights_it_changes(module, dtype, rng):
    W = numbers(rng, 6, 6, dtype=dtype)
    delta = numbers(rng, 6, 6, dtype=dtype)
    want = W.copy()
    module.sgd_update(want, None, W.copy(), delta, lr=0.1)
    module.sgd_update(W, None, W, delta, lr=0.1)
    np.testing.assert_array_equal(W, want)


# ---- bad input -----------------------------------------------------------------------------------

F4 = np.float32
X, W, B, D = np.ones((4, 3), F4), np.ones((3, 2), F4), np.ones(2, F4), np.ones((4, 2), F4)
LABELS = np.array([0, 1, 1, 0])


def read_only(shape):
    array = np.ones(shape, F4)
    array.flags.writeable = False
    return array


RAGGED = [[1.0], [1.0, 2.0]]
MASKED = np.ma.array(X, mask=np.arange(12).reshape(4, 3) == 7)

BAD = [
    (lambda m: m.forward(X, W[:2], B), ValueError, r"W must have shape \(3, fan_out\), not"),
    (lambda m: m.forward(X[0], W, B), ValueError, r"X must have shape \(n_samples, fan_in\), not"),
    (lambda m: m.forward(X[:0], W, B), ValueError, r"X must have shape .* not \(0, 3\)"),
    (lambda m: m.forward(X, W, B[:1]), ValueError, r"b must have shape \(2,\), not \(1,\)"),
    (lambda m: m.forward(X, W, np.ones((1, 2), F4)), ValueError, r"b must have shape \(2,\)"),
    (lambda m: m.forward(X, W.astype("f8"), B), TypeError, "W must have the dtype of X, float32"),
    (lambda m: m.forward(X.astype(int), W, B), TypeError, "X must have dtype float32 or float64"),
    (lambda m: m.forward(X.astype(">f4"), W, B), TypeError, "float32 or float64, not >f4"),
    (lambda m: m.forward(X.astype("c8"), W, B), TypeError, "not complex64"),
    (lambda m: m.forward([["a"]], W, B), TypeError, "X must have dtype float32 or float64"),
    (lambda m: m.forward(X, W, B, "rleu"), ValueError, "unknown activation 'rleu'; choose from"),
    (lambda m: m.forward(X, W, B, 3), TypeError, "an activation must be a name"),
    (lambda m: m.forward(X, W, B, out=np.ones((2, 2), F4)), ValueError, r"out must have shape"),
    (lambda m: m.forward(X, W, B, out=np.ones((4, 2))), TypeError, "out must have the dtype of X"),
    (lambda m: m.forward(X, W, B, out=read_only((4, 2))), ValueError, "out .* read-only"),
    (lambda m: m.forward(X, W, B, z_out=[[0.0] * 2] * 4), TypeError, "z_out .* numpy.ndarray"),
    (lambda m: m.forward(X, W, B, out=D, z_out=D), ValueError, "must not share memory"),
    (lambda m: m.activation("softmax", B), ValueError, r"z must have shape \(n_samples, units\)"),
    (lambda m: m.activation("tanh", B, out=B[:1].copy()), ValueError, r"out must have shape"),
    (lambda m: m.activation_grad("gelu", X, a=X), ValueError, "'gelu' is computed from z; give z"),
    (lambda m: m.activation_grad("tanh", X), ValueError, "'tanh' is computed from a or z"),
    (lambda m: m.activation_grad("tanh", X, a=D), ValueError, r"a must have shape \(4, 3\)"),
    (lambda m: m.activation_grad("gelu", X, z=X.astype("f8")), TypeError, "z must have the dtype"),
    (lambda m: m.backward(D, W, "relu"), ValueError, "'relu' is computed from a or z"),
    (lambda m: m.backward(D, W, "mish", a=X), ValueError, "'mish' is computed from z; give z"),
    (lambda m: m.backward(D, W.T), ValueError, r"W must have shape \(fan_in, 2\), not \(2, 3\)"),
    (lambda m: m.weight_grad(X, D[:3]), ValueError, r"delta must have shape \(4, fan_out\)"),
    (lambda m: m.weight_grad(X, D, db=np.ones(3, F4)), ValueError, r"db must have shape \(2,\)"),
    (lambda m: m.loss("mse", D, D), ValueError, "unknown loss 'mse'; choose from absolute_error"),
    (lambda m: m.loss(3, D, D), TypeError, "a loss must be a name or a built-in loss object"),
    (lambda m: m.loss("huber", D, D, output="softmax"), ValueError, "does not fit .*choose from"),
    (lambda m: m.loss("cross_entropy", D, LABELS + 1), ValueError, r"0 ... 1 for 2.*y\[1\] = 2"),
    (lambda m: m.loss("cross_entropy", D, -LABELS), ValueError, r"y\[1\] = -1"),
    (lambda m: m.loss("cross_entropy", D, LABELS[:3]), ValueError, r"\(class labels\) must have"),
    (lambda m: m.loss("cross_entropy", D, D * 2), ValueError, r"cross_entropy must lie in"),
    (lambda m: m.loss("log_loss", D, D * 2), ValueError, r"must lie in \[0, 1\].*y\[0, 0\]"),
    (lambda m: m.loss("poisson", D, -D), ValueError, r"must be >= 0, but y\[0, 0\] = -1"),
    (lambda m: m.forward(RAGGED, W, B), ValueError, "X cannot be read as an array: .*inhomogen"),
    (lambda m: m.loss("cross_entropy", D, RAGGED), ValueError, "y cannot be read as an array"),
    (lambda m: m.forward(MASKED, W, B), ValueError, "X has masked elements; fill them first"),
    (lambda m: m.forward(list(MASKED), W, B), ValueError, "X has masked elements"),
    (lambda m: m.loss("cross_entropy", D, np.ma.masked_equal(LABELS, 0)), ValueError, "y has mask"),
    (lambda m: m.loss("huber", D, B), ValueError, r"y must have shape \(4, 2\), not \(2,\)"),
    (lambda m: m.loss("huber", D, D.astype(int)), TypeError, "y must have dtype float32"),
    (lambda m: m.loss("huber", D, D, sample_weight=B), ValueError, "sample_weight must have"),
    (
        lambda m: m.loss("huber", D, D, sample_weight=-X[:, 0]),
        ValueError,
        "sample_weight must be finite and not negative",
    ),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_arrays(module, number):
    function, kind, message = BAD[number]
    with pytest.raises(kind, match=message):
        function(module)


# optimizer, what differs from a good call, the error
BAD_UPDATES = [
    ("sgd", {"lr": 0.0}, ValueError, "lr must be greater than 0, not 0.0"),
    ("sgd", {"lr": np.nan}, ValueError, "lr must be finite"),
    ("sgd", {"lr": 10**400}, ValueError, "lr must be finite, not inf"),
    ("sgd", {"lr": "1"}, TypeError, "lr must be a number"),
    ("sgd", {"lr": True}, TypeError, "lr must be a number"),
    ("sgd", {"scale": np.inf}, ValueError, "scale must be finite"),
    ("sgd", {"momentum": 0.9}, ValueError, "momentum needs velocity"),
    ("sgd", {"momentum": 1.5}, ValueError, "momentum must be at most 1"),
    ("sgd", {"nesterov": "no"}, TypeError, "nesterov must be True or False, not 'no'"),
    ("sgd", {"nesterov": True}, ValueError, "nesterov=True needs momentum > 0"),
    ("sgd", {"weight_decay": -1}, ValueError, "weight_decay must be at least 0"),
    ("sgd", {"l1": -1}, ValueError, "l1 must be at least 0"),
    ("sgd", {"clip_value": 0}, ValueError, "clip_value must be greater than 0"),
    ("sgd", {"variant": "keras"}, ValueError, "variant must be one of 'torch', 'sklearn'"),
    ("sgd", {"A_prev": X[:2]}, ValueError, r"delta must have shape \(2, fan_out\)|\(2, 2\)"),
    ("sgd", {"W": read_only((3, 2))}, ValueError, "W is changed in place, .* read-only"),
    ("sgd", {"W": [[1.0, 1.0]] * 3}, TypeError, "W .* numpy.ndarray, not list"),
    ("sgd", {"b": np.ones(3, F4)}, ValueError, r"b must have shape \(2,\)"),
    (
        "sgd",
        {"momentum": 0.5, "velocity": W},
        TypeError,
        "velocity must be a pair",
    ),
    (
        "sgd",
        {"momentum": 0.5, "velocity": (W * 0, B * 0), "b": None},
        ValueError,
        r"velocity\[1\] must be None where b is None",
    ),
    ("adam", {"state": None}, TypeError, "state must be a dict"),
    ("adam", {"state": {"sum": 1}}, ValueError, "state lacks exp_avg, exp_avg_sq, step"),
    ("adam", {"beta1": 1.0}, ValueError, "beta1 must be less than 1"),
    ("adamw", {"eps": 0}, ValueError, "eps must be greater than 0"),
    ("rmsprop", {"alpha": 2}, ValueError, "alpha must be at most 1"),
    (
        "adagrad",
        {"state": {"sum": (W.T.copy(), B * 0)}},
        ValueError,
        r"state\['sum'\]\[0\] must have shape \(3, 2\)",
    ),
]


@BOTH
@pytest.mark.parametrize(("optimizer", "change", "kind", "message"), BAD_UPDATES)
def test_bad_updates_change_nothing(module, optimizer, change, kind, message):
    weights, bias = W.copy(), B.copy()
    call = {"W": weights, "b": bias, "A_prev": X, "delta": D, "lr": 0.5}
    if optimizer != "sgd":
        call["state"] = {}
    with pytest.raises(kind, match=message):
        getattr(module, f"{optimizer}_update")(**(call | change))
    np.testing.assert_array_equal(weights, W)
    np.testing.assert_array_equal(bias, B)


@BOTH
def test_arrays_that_are_changed_must_not_overlap(module):
    weights, velocity = W.copy(), W * 0
    with pytest.raises(ValueError, match="W and b are changed in place and must not overlap"):
        module.sgd_update(weights, weights[0], X, D, lr=1)
    with pytest.raises(ValueError, match=r"W and velocity\[0\] are changed in place"):
        module.sgd_update(weights, None, X, D, lr=1, momentum=0.5, velocity=(weights, None))
    state = {"step": 0, "exp_avg": (velocity, None), "exp_avg_sq": (velocity[::-1], None)}
    with pytest.raises(ValueError, match="must not overlap"):
        module.adam_update(weights, None, X, D, state, lr=1)
    apart = np.zeros((3, 4), F4)  # interleaved, but no element in common
    module.sgd_update(
        apart[:, ::2], None, X, D, lr=1, momentum=0.5, velocity=(apart[:, 1::2], None)
    )
    assert (apart == [[-4, 4] * 2] * 3).all()


def test_a_refused_state_stays_empty():
    state = {}
    with pytest.raises(ValueError, match="lr must be"):
        kernels.adam_update(W.copy(), None, X, D, state, lr=-1)
    assert state == {}


# ---- names and documentation ---------------------------------------------------------------------


@pytest.mark.parametrize("name", kernels.__all__)
def test_reference_has_the_same_signature_and_docstring(name):
    fast, slow = getattr(kernels, name), getattr(reference, name)
    assert inspect.signature(fast) == inspect.signature(slow)
    assert fast.__doc__ == slow.__doc__
    assert fast.__doc__.count(">>>") > 1
    assert name in reference.__all__


def test_pairing_knows_every_loss_and_activation():
    names = {name for loss in _pairing.LOSSES for name in _pairing.fitting_outputs(loss)}
    assert names == set(_kernels.ACTIVATIONS)


def unaligned(array):
    """Return a copy whose elements lie one byte beyond where their type wants them."""
    array = np.asarray(array)
    memory = np.zeros(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unaligned_arrays_give_the_bits_of_aligned_ones(dtype):
    # What this guards against is undefined behaviour: run it with FASTGD_SANITIZE=undefined.
    rng = np.random.default_rng(0)
    z, da, X = (rng.normal(size=(37, 5)).astype(dtype) for _ in range(3))
    W = rng.normal(size=(5, 5)).astype(dtype)
    out = unaligned(np.empty_like(z))
    for call, arrays in (
        (lambda z, out=None: kernels.activation("gelu", z, out=out), (z,)),
        (lambda z, out=None: kernels.activation("softmax", z, out=out), (z,)),
        (lambda d, z, out=None: kernels.activation_grad("gelu", d, z=z, out=out), (da, z)),
        (lambda X, W, out=None: kernels.forward(X, W, None, "tanh", out=out), (X, W)),
        (lambda d, W, z, out=None: kernels.backward(d, W, "gelu", z=z, out=out), (da, W, z)),
    ):
        call(*map(unaligned, arrays), out=out)
        assert out.tobytes() == call(*arrays).tobytes()
    weights, labels = rng.uniform(size=37), rng.integers(0, 5, 37)
    value, delta = kernels.loss("cross_entropy", z, labels, sample_weight=weights.astype(dtype))
    got = kernels.loss(
        "cross_entropy",
        *map(unaligned, (z, labels)),
        sample_weight=unaligned(weights.astype(dtype)),
    )
    assert (got[0], got[1].tobytes()) == (value, delta.tobytes())


# ---- parameters that PyTorch's forms of a function need ----------------------------------------


@pytest.mark.parametrize("act", [activations.Softplus(1.5), activations.HardSigmoid(0.2)], ids=repr)
def test_parameters_of_activations_agree_with_reference(act, isa, dtype, rng):
    z = np.concatenate([rng.normal(0, 3, 997), [1.5, 3.0, -3.0, np.inf, -np.inf, 0.0]])
    z = z.astype(dtype)[None]
    named = {"activation": act.name, "param": act.param}
    (value,) = measure("activation", None, {"z": z, **named},
                               {"a": kernels.activation(act, z)})  # fmt: skip
    assert value.share <= 1
    da = rng.normal(size=z.shape).astype(dtype)
    slope = {"dz": kernels.activation_grad(act, da, z=z)}
    (value,) = measure("activation_grad", None, {"da": da, "x": z, **named}, slope)
    assert value.share <= 1
    above = z > act.param
    if act.name == "softplus":
        assert (kernels.activation(act, z)[above] == z[above]).all()
        assert (slope["dz"][above] == da[above]).all()


def test_poisson_eps_agrees_with_reference(isa, dtype, rng):
    z = rng.normal(0, 2, (40, 3)).astype(dtype)
    y = rng.poisson(1.0, (40, 3)).astype(dtype)
    loss, named = losses.Poisson(eps=0.25), {"activation": "relu", "param": 0.0}
    value, delta = kernels.loss(loss, z, y, output="relu")
    inputs = {"z": z, "a": np.maximum(z, 0), "y": y, "sample_weight": None, "kind": "poisson",
              "loss_param": 0.25, **named}  # fmt: skip
    compared = measure("loss", None, inputs, {"value": value, "delta": delta})
    assert max(each.share for each in compared) <= 1
    assert value != kernels.loss("poisson", z, y, output="relu")[0]


def test_dampening_agrees_with_reference(isa, dtype, rng):
    W, velocity = rng.normal(size=(5, 7)).astype(dtype), rng.normal(size=(5, 7)).astype(dtype)
    A_prev, delta = rng.normal(size=(9, 5)).astype(dtype), rng.normal(size=(9, 7)).astype(dtype)
    found = []
    for module in (kernels, reference):
        arrays = W.copy(), velocity.copy()
        module.sgd_update(arrays[0], None, A_prev, delta, lr=0.5, velocity=(arrays[1], None),
                          momentum=0.5, dampening=0.25)  # fmt: skip
        found.append(arrays)
    # 9 terms of a sum, and four roundings after it
    bound = 13 * np.finfo(dtype).eps * (np.abs(A_prev).T @ np.abs(delta) + 2)
    for mine, theirs in zip(*found, strict=True):
        assert (np.abs(mine - theirs) <= bound).all()
    assert not (found[0][1] == velocity).any()


@pytest.mark.parametrize("wrong", [{"nesterov": True}, {"variant": "sklearn"}])
def test_dampening_goes_with_plain_momentum(wrong):
    W = np.ones((1, 1))
    for module in (kernels, reference):
        with pytest.raises(ValueError, match="dampening goes with plain momentum"):
            module.sgd_update(W, None, W.copy(), W.copy(), lr=0.5, velocity=(W * 0, None),
                              momentum=0.5, dampening=0.5, **wrong)  # fmt: skip
