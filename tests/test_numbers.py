"""Numbers at the ends of their range through every kernel: NaN, infinities, zeros of both signs,
denormals, the smallest and the largest.

test_kernels.py has the activations. Everything is compared with fastgd.reference on the same
numbers, denormals being zeros: NaN where it gives NaN, infinity with its sign, and finite numbers
as near as a few roundings.
"""

import contextlib
import itertools

import numpy as np
import pytest

import fastgd
from fastgd import _check, _kernels, _pairing, kernels, reference
from fastgd._engine import Engine


def specials(dtype):
    """Return numbers of every class; squares of the large ones are in the range."""
    info = np.finfo(dtype)
    large = 2.0 ** (60 if dtype == "float32" else 500)
    sizes = [0, info.smallest_subnormal, info.tiny - info.smallest_subnormal, info.tiny,
             3 * info.tiny, 1 / large, 1, 3, large, info.max, np.inf]  # fmt: skip
    positive = np.array(sizes, dtype)
    return np.concatenate([positive, -positive, [np.array(np.nan, dtype)]])


def flushed(x):
    """Return x with zeros, of the same sign, in place of denormals."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def assert_same_class(got, want, roundings=8, tiny=4, size=0.0):
    """Hold results to the reference's: NaN, infinities, and finite ones within some roundings.

    tiny: how many times the smallest normal number may be lost. size: of what a result that
    crosses zero is a multiple of; roundings are of it as well.
    """
    got, want = np.asarray(got), np.asarray(want)
    info = np.finfo(got.dtype)
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    infinite = np.isinf(want)
    np.testing.assert_array_equal(np.isinf(got), infinite)
    np.testing.assert_array_equal(got[infinite], want[infinite])
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.longdouble) - want)
        bound = roundings * info.eps / 2 * (np.abs(want) + size) + tiny * float(info.tiny)
    within = (error <= bound) | ~np.isfinite(want)
    assert within.all(), (got[~within], want[~within])
    # No kernel leaves a denormal, but for copies.
    assert not ((got != 0) & (np.abs(got) < info.tiny)).any()


@contextlib.contextmanager
def quiet():
    with np.errstate(all="ignore"):
        yield


# ---- products ------------------------------------------------------------------------------------


def one_term(dtype, k, others):
    """Return A (pairs, k), B (k, columns) whose products have one special term, and it in float64.

    All other terms are others.
    """
    x = specials(dtype)
    A = np.full((len(x), k), others, dtype)
    B = np.full((k, len(x)), others, dtype)
    A[:, k // 2] = x
    B[k // 2] = x
    with quiet():
        # In a wider type, where no product of two leaves the range.
        wide = flushed(x).astype(np.longdouble)
        exact = wide[:, None] * wide + (k - 1) * others**2
        return A, B, exact.astype(dtype)


# k: short and long sums, and one whose weights are many enough for the kernels of few samples.
@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("k", [1, 19, 1100])
def test_products_of_two_numbers_of_every_class(isa, dtype, k, others):
    A, B, exact = one_term(dtype, k, others)
    want = flushed(exact)
    n = len(A)
    roundings = k + 2
    for units in (slice(0, n), *(slice(i, i + 3) for i in range(0, n, 3))):  # 3: sixteen chains
        assert_same_class(kernels.forward(A, B[:, units].copy(), None), want[:, units], roundings)
    for rows in (slice(0, 1), slice(1, 7), slice(7, n)):
        assert_same_class(kernels.forward(A[rows].copy(), B, None), want[rows], roundings)
        assert_same_class(kernels.backward(A[rows].copy(), B.T.copy()), want[rows], roundings)
    dW, db = kernels.weight_grad(A.T.copy(), B)
    assert_same_class(dW, want, roundings)
    with quiet():
        assert_same_class(db, flushed(flushed(B).sum(axis=0)), roundings)


def test_biases_of_every_class(isa, dtype):
    x = specials(dtype)
    for b in (x, *np.array_split(x, 8)):  # 8: at most four units
        z = kernels.forward(np.zeros((20, 3), dtype), np.ones((3, len(b)), dtype), b)
        assert_same_class(z, np.broadcast_to(flushed(b), z.shape))


def test_relu_in_the_registers_of_a_product(isa, dtype):
    A, B, exact = one_term(dtype, 5, 0)
    n = len(A)
    with quiet():
        want = reference.activation("relu", flushed(exact))
        assert_same_class(kernels.forward(A, B, None, "relu"), want)
        # delta W^T, times the slope of every class of a
        for a in specials(dtype):
            below = np.full((n, n), a, dtype)
            slope = reference.activation_grad("relu", flushed(exact), a=flushed(below))
            assert_same_class(kernels.backward(A, B.T.copy(), "relu", a=below), slope)


# ---- activations that take two numbers, losses ---------------------------------------------------


def test_softmax_of_every_class(isa, dtype):
    x = specials(dtype)
    z = np.array(list(itertools.product(x, x, [np.nan, 1])), dtype)
    with quiet():
        want = reference.activation("softmax", flushed(z))
        assert_same_class(kernels.activation("softmax", z), want)
        da, a = z[:, [1, 2, 0]].copy(), np.abs(z) / 4
        want = reference.activation_grad("softmax", flushed(da), a=flushed(a))
        assert_same_class(kernels.activation_grad("softmax", da, a=a), want)


def valid_targets(kind, dtype):
    y = specials(dtype)
    most = {"poisson": np.inf, "log_loss": 1}.get(kind)
    return y[np.isfinite(y)] if most is None else y[(y >= 0) & (y <= most) & np.isfinite(y)]


@pytest.mark.parametrize("kind", [kind for kind in _pairing.LOSSES if kind != "cross_entropy"])
def test_losses_of_every_class(isa, dtype, kind):
    pairs = np.array(list(itertools.product(specials(dtype), valid_targets(kind, dtype))), dtype)
    z, y = pairs[:, :1].copy(), pairs[:, 1:].copy()
    with quiet():
        for output in _pairing.fitting_outputs(kind):
            if output != "softmax":
                _, got = kernels.loss(kind, z, y, output=output)
                _, want = reference.loss(kind, flushed(z), flushed(y), output=output)
                # What a - y and the slope are differences of
                a = reference.activation(output, flushed(z))
                slope = reference.activation_grad(output, np.ones_like(z), z=flushed(z), a=a)
                size = (np.abs(a) + np.abs(y)) * (1 + np.abs(slope)) / len(z)
                # The sign of a difference below the smallest normal number is lost.
                has_sign = ~(np.abs(a - flushed(y)) < np.finfo(dtype).tiny) | (a == flushed(y))
                assert_same_class(got[has_sign], want[has_sign], 64, size=size[has_sign])
        for i in range(len(z)):
            got, _ = kernels.loss(kind, z[i : i + 1], y[i : i + 1])
            want, _ = reference.loss(kind, flushed(z[i : i + 1]), flushed(y[i : i + 1]))
            assert_same_class(np.array(got, dtype), np.array(want, dtype), 64)


def test_cross_entropy_of_every_class(isa, dtype):
    x = specials(dtype)
    z = np.array(list(itertools.product(x, x, [1])), dtype)
    labels = np.arange(len(z)) % 3
    rows = np.eye(3, dtype=dtype)[labels]
    with quiet():
        for y in (labels, rows, (rows + flushed(x[1])) * 0.5):
            y = y if y.ndim == 1 else y.astype(dtype)
            _, got = kernels.loss("cross_entropy", z, y)
            _, want = reference.loss("cross_entropy", flushed(z), y)
            assert_same_class(got, want, 64)
            for i in range(0, len(z), 3):
                got, _ = kernels.loss("cross_entropy", z[i : i + 1], y[i : i + 1])
                want, _ = reference.loss("cross_entropy", flushed(z[i : i + 1]), y[i : i + 1])
                assert_same_class(np.array(got, dtype), np.array(want, dtype), 64)


@pytest.mark.parametrize("kind", ["squared_error", "log_loss"])
def test_sample_weights_of_every_class(isa, dtype, kind):
    w = specials(dtype)
    w = w[(w >= 0) & (w < np.finfo(dtype).max)]
    z, y = np.full((len(w), 1), 0.75, dtype), np.full((len(w), 1), 0.25, dtype)
    got = kernels.loss(kind, z, y, sample_weight=w)
    want = reference.loss(kind, z, y, sample_weight=flushed(w))
    assert_same_class(np.array(got[0], dtype), np.array(want[0], dtype), 64)
    assert_same_class(got[1], want[1], 64)
    # Weights all of which are denormal are none.
    tiny = np.full(len(w), np.finfo(dtype).smallest_subnormal, dtype)
    value, delta = kernels.loss(kind, z, y, sample_weight=tiny)
    assert (value, np.count_nonzero(delta)) == (0, 0)


# ---- updates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "params"), _check._OPTIMIZERS)
def test_updates_of_every_class(isa, dtype, optimizer, params):
    """Weights and states of every finite class, gradients of every class."""
    g = specials(dtype)
    w = g[np.isfinite(g)]
    info = np.finfo(dtype)
    states_and_clips = [(0, None), (info.smallest_subnormal, None), (1, 0.5), (info.max / 2, None)]
    for state, clip in states_and_clips:
        found = []
        for module, prepared in ((kernels, lambda x: x), (reference, flushed)):
            W = prepared(np.repeat(w[:, None], len(g), axis=1).astype(dtype))
            b = np.full(len(g), 2, dtype)
            A_prev, delta = np.ones((1, len(w)), dtype), prepared(g[None].astype(dtype))
            settings = {**params, "lr": 0.25, "clip_value": clip or params.get("clip_value")}
            names = reference.check.state_names(optimizer, params.get("momentum", 0.0))
            pairs = {
                name: (prepared(np.full_like(W, state)), prepared(np.full_like(b, state)))
                for name in names
            }
            if optimizer == "sgd":
                states, args = pairs, ()
                settings |= {"velocity": pairs["velocity"]} if pairs else {}
            else:
                states = dict(pairs, step=3) if optimizer in ("adam", "adamw") else dict(pairs)
                args = (states,)
            update = getattr(module, f"{optimizer}_update")
            with quiet(), contextlib.suppress(FloatingPointError):
                update(W, b, A_prev, delta, *args, **settings)
            found.append([W, b, *(x for name in names for x in states[name])])
        for i, (got, want) in enumerate(zip(*found, strict=True)):
            # What is kept because it would not be finite may be a denormal.  A denormal mean of
            # gradients is 0, where the reference divides it by eps, which is 1e-10 at least.
            lost = 64 if i > 1 and "buffer" not in names[i // 2 - 1] else 64e10
            assert_same_class(flushed(got), flushed(want), 64, lost)


def test_clipping_by_norm_of_every_magnitude(isa, dtype):
    info = np.finfo(dtype)
    for size in (info.smallest_subnormal, info.tiny, 1, np.sqrt(float(info.max)), info.max / 4):
        engine = Engine(2, [3], [("identity", 0.0)], [True], dtype, 0)
        engine.set_loss("absolute_error", 0.0)
        engine.set_optimizer("sgd", {"clip_norm": 0.5})
        X = np.full((1, 2), size, dtype)
        engine.train_step(X, np.full((1, 3), -1, dtype), None, 1.0)
        steps = -np.concatenate([engine.weight(0).ravel(), engine.bias(0)]).astype(np.longdouble)
        gradient = np.array([flushed(X)[0, 0]] * 6 + [1] * 3, np.longdouble)
        # The norm is a sum of squares in double, and beyond its range the scale is 0.
        with quiet():
            norm = np.sqrt((gradient.astype(np.float64) ** 2).sum())
        scale = flushed(np.array(min(1, 0.5 / (float(norm) + 1e-6)), dtype))
        want = gradient * scale
        assert_same_class(steps.astype(dtype), flushed(want.astype(dtype)), 16)


# ---- dropout, and how data come in ---------------------------------------------------------------


def test_dropout_of_every_class(isa, dtype):
    x = np.repeat(specials(dtype), 8)
    engine = Engine(1, [5, 1], [("identity", 0.0)] * 2, [False, False], dtype, 1)
    engine.set_dropout([0.5, 0.0])
    engine.weight(0)[...] = 1
    seen = []

    def watch(op, layer, inputs, outputs):
        if op == "dropout":
            seen.append([np.array(a) for a in (inputs["a"], outputs["mask"], outputs["a"])])

    with contextlib.suppress(ArithmeticError):
        engine.checked_step(x[:, None], np.zeros((len(x), 1), dtype), None, 0.1, watch)
    ((a, mask, dropped),) = seen
    np.testing.assert_array_equal(a, np.repeat(flushed(x)[:, None], 5, axis=1))
    assert {*mask.ravel()} == {0, 2}
    with quiet():
        assert_same_class(dropped, flushed(a * mask), 0)


@pytest.mark.parametrize("source", ["f4", "f8", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_inputs_of_every_dtype_and_class(isa, dtype, source):
    if source[0] == "f":
        x = specials({"f4": "float32", "f8": "float64"}[source])
        x = x[np.isfinite(x) & (np.abs(x.astype("f8")) <= float(np.finfo(dtype).max))]
    else:
        limits = np.iinfo(source)
        x = np.array([limits.min, limits.max, limits.max // 2, 0, 1, 5], source)
    engine = Engine(1, [1], [("identity", 0.0)], [False], dtype, 0)
    engine.weight(0)[...] = 1
    for scale in (1.0, 1 / 255, 2.0**-20, 1e-30):
        engine.input_scale = scale
        with quiet():
            want = flushed(flushed(flushed(x).astype(dtype)) * np.array(scale, dtype))
        for X in (x[:, None], np.repeat(x, 3)[::3, None], x[::-1, None][::-1]):
            out = np.empty((len(x), 1), dtype)
            assert engine.predict(X, out)
            assert_same_class(out[:, 0], want, 1)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_found_anywhere(isa, dtype, bad):
    info = np.finfo(dtype)
    fine = np.resize([info.max, -info.max, info.tiny, info.smallest_subnormal, 0, -0.0, 1], 71)
    for n in (1, 2, 15, 16, 17, 63, 64, 65, 71):
        x = fine[:n].astype(dtype)
        assert _kernels.all_finite(x)
        for at in range(n):
            spoiled = x.copy()
            spoiled[at] = bad
            assert not _kernels.all_finite(spoiled)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "clipped"])
def test_every_step_of_a_fit_is_validated_at_any_magnitude(isa, dtype, optimizer):
    """Inputs of each size through whole steps, which the reference repeats."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(5)
    X, y = rng.uniform(-1, 1, (24, 6)), rng.integers(0, 3, 24)
    made = {
        "sgd": fastgd.SGD(lr=1e-3, momentum=0.9),
        "adam": fastgd.Adam(lr=1e-3),
        "clipped": fastgd.SGD(lr=1e-3, clip_norm=0.5, clip_value=0.25),
    }[optimizer]
    for size in (float(info.tiny) / 16, float(info.tiny) * 4, 1e-5, 1e5, float(info.max) / 1024):
        layers = [fastgd.Dense(9, "tanh", dropout=0.25), fastgd.Dense(7, "gelu"), fastgd.Dense(3)]
        net = fastgd.Network(layers, "cross_entropy", made, 6, dtype)
        with fastgd.config(validate="always"):
            net.fit((X * size).astype(dtype), y, batch_size=9, verbose=0)
        assert all(np.isfinite(w).all() for w in net.get_weights())


def test_single_steps_of_one_unit_are_validated_at_any_magnitude(isa, dtype):
    """The kernel of its own that a line has, which the engine also takes in the general way."""
    X = np.random.default_rng(6).uniform(-1, 1, (9, 20))
    for exponent in (-310, -40, -5, 0, 5, 18, 25):
        net = fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(lr=1e-3), 20, dtype)
        # Where it diverges, it does so as the reference does, and the last finite weights stay.
        with fastgd.config(validate="always"), contextlib.suppress(fastgd.DivergenceError):
            net.fit((X * 10.0**exponent).astype(dtype), np.ones(9), batch_size=1, verbose=0)
        assert all(np.isfinite(w).all() for w in net.get_weights())
