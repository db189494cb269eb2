"""The NumPy reference by itself: gradients, optimisers, random numbers, whole steps and fits.

Nothing here runs compiled kernels, except the examples in the docstrings.
"""

import ast
import math
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgd import _pairing, activations, losses, reference
from fastgd.reference import Layer

ELEMENTWISE = [name for name in reference._VALUES if name != "softmax"]
PAIRS = [(loss, out) for loss in _pairing.LOSSES for out in _pairing.fitting_outputs(loss)]


def central_differences(f, x, h=1e-5):
    """Return the gradient of f() by the elements of x, which f reads."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + h
        above = f()
        x[i] = kept - h
        below = f()
        x[i] = kept
        gradient[i] = (above - below) / (2 * h)
    return gradient


def assert_gradient(exact, numeric):
    """Hold a gradient to 1e-6 of its largest element."""
    assert np.max(np.abs(exact - numeric)) <= 1e-6 * np.max(np.abs(numeric))


def targets(rng, loss, n, units):
    if loss == "cross_entropy":
        return rng.integers(0, units, n)
    if loss in ("log_loss", "poisson"):
        return rng.uniform(0.1, 0.9, (n, units))
    return rng.normal(size=(n, units))


def smooth(loss, act, z, y):
    """Move z and y off the kinks of f and of the loss by more than a difference quotient's step."""
    for kink in {"hard_sigmoid": (-3, 3)}.get(act, (0,)):
        z = np.where(np.abs(z - kink) < 0.01, kink + 0.02, z)
    if loss in ("absolute_error", "huber"):
        a = reference.activation(act, z)
        for kink in (0,) if loss == "absolute_error" else (-1, 1):
            y = np.where(np.abs(a - y - kink) < 0.01, y + 0.05, y)
    return z, y


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "output"), PAIRS)
def test_loss_delta_is_the_gradient_by_z(rng, loss, output, weighted):
    z = rng.normal(size=(6, 4))
    y = targets(rng, loss, 6, 4)
    z, y = smooth(loss, output, z, y)
    w = rng.uniform(0.5, 2, 6) if weighted else None

    def value():
        return reference.loss(loss, z, y, output=output, sample_weight=w)[0]

    delta = reference.loss(loss, z, y, output=output, sample_weight=w)[1]
    assert_gradient(delta, central_differences(value, z))


def test_cross_entropy_takes_rows_of_probabilities(rng):
    z = rng.normal(size=(5, 3))
    y = rng.uniform(size=(5, 3))  # whose sums are not 1

    def value():
        return reference.loss("cross_entropy", z, y)[0]

    assert_gradient(reference.loss("cross_entropy", z, y)[1], central_differences(value, z))
    labels = np.array([0, 2, 1, 1, 0])
    by_label, by_row = (reference.loss("cross_entropy", z, t) for t in (labels, np.eye(3)[labels]))
    assert by_label[0] == pytest.approx(by_row[0], rel=1e-14)
    np.testing.assert_allclose(by_label[1], by_row[1], rtol=1e-14)


@pytest.mark.parametrize("name", reference._VALUES)
def test_activation_grad_is_the_derivative(rng, name):
    z, _ = smooth("", name, rng.normal(size=(7, 5)) * 3, None)
    upstream = rng.normal(size=z.shape)

    def value():
        return float((upstream * reference.activation(name, z)).sum())

    numeric = central_differences(value, z)
    assert_gradient(reference.activation_grad(name, upstream, z=z), numeric)
    if activations.get(name).consumes == "a":
        a = reference.activation(name, z)
        assert_gradient(reference.activation_grad(name, upstream, a=a), numeric)


@pytest.mark.parametrize("param", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("cls", [activations.LeakyReLU, activations.ELU])
def test_parameters_of_activations_count(rng, cls, param):
    act = cls(param) if param else cls()
    z = np.array([-2.0, -0.5, 0.5, 2.0])
    expected = act.param * z if cls is activations.LeakyReLU else act.param * np.expm1(z)
    np.testing.assert_allclose(
        reference.activation(act, z), np.where(z > 0, z, expected), rtol=1e-15
    )

    def value():
        return float(reference.activation(act, z).sum())

    assert_gradient(reference.activation_grad(act, np.ones(4), z=z), central_differences(value, z))


def network(rng, hidden, n_hidden, output, *, units=3, **settings):
    sizes = [4, *[5] * n_hidden, units]
    acts = [hidden] * n_hidden + [output]
    return [
        Layer(rng.normal(size=(i, o)) / math.sqrt(i), rng.normal(size=o) * 0.3, act, **settings)
        for i, o, act in zip(sizes, sizes[1:], acts, strict=False)
    ]


@pytest.mark.parametrize("n_hidden", [1, 2, 3])
@pytest.mark.parametrize("hidden", ELEMENTWISE)
def test_loss_and_grad_is_the_gradient(rng, hidden, n_hidden):
    net = network(rng, hidden, n_hidden, "softmax", l1=0.01, l2=0.1)
    X, y = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)
    w = rng.uniform(0.5, 2, 6)

    def value():
        return reference.loss_and_grad(net, X, y, loss="cross_entropy", sample_weight=w)[0]

    gradients = reference.loss_and_grad(net, X, y, loss="cross_entropy", sample_weight=w)[1]
    for layer, (dW, db) in zip(net, gradients, strict=True):
        assert_gradient(dW, central_differences(value, layer.W))
        assert_gradient(db, central_differences(value, layer.b))


def test_a_step_with_dropout_follows_the_gradient(rng):
    net = network(rng, "tanh", 2, "identity", dropout=0.4)
    net[-1].dropout = 0.0
    X, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 3))

    def copied():
        return [Layer(n.W.copy(), n.b.copy(), n.activation, dropout=n.dropout) for n in net]

    def value():
        return reference.train_step(copied(), X, y, loss="squared_error", lr=1.0, seed=5, step=3)

    stepped = copied()
    reference.train_step(stepped, X, y, loss="squared_error", lr=1.0, seed=5, step=3)
    for layer, new in zip(net, stepped, strict=True):
        assert_gradient(layer.W - new.W, central_differences(value, layer.W))
        assert_gradient(layer.b - new.b, central_differences(value, layer.b))
    assert value() != reference.loss_and_grad(net, X, y, loss="squared_error")[0]


def test_integer_weights_count_as_repetitions(rng):
    net = network(rng, "relu", 1, "identity")
    X, y = rng.normal(size=(5, 4)), rng.normal(size=(5, 3))
    w = np.array([1.0, 0.0, 2.0, 3.0, 1.0])
    again = np.repeat(np.arange(5), w.astype(int))
    weighted = reference.loss_and_grad(net, X, y, loss="huber", sample_weight=w)
    repeated = reference.loss_and_grad(net, X[again], y[again], loss="huber")
    assert weighted[0] == pytest.approx(repeated[0], rel=1e-13)
    for one, other in zip(weighted[1], repeated[1], strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-11, atol=1e-14)


def test_all_weights_zero_give_no_loss_and_no_gradient(rng):
    z, y = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    value, delta = reference.loss("squared_error", z, y, sample_weight=np.zeros(3))
    assert value == 0
    assert not delta.any()


def test_loss_objects_bring_their_parameter(rng):
    z, y = 3 * rng.normal(size=(8, 2)), rng.normal(size=(8, 2))
    value, delta = reference.loss(losses.Huber(0.5), z, y)
    assert value == pytest.approx(losses.Huber(0.5).value(z, y).mean(), rel=1e-14)
    assert value < reference.loss("huber", z, y)[0]
    assert np.abs(delta).max() == pytest.approx(0.5 / 8)


# ---- values --------------------------------------------------------------------------------------

EXACT = {
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "selu": lambda z: (
        reference.SELU_SCALE * (z if z > 0 else reference.SELU_ALPHA * mpmath.expm1(z))
    ),
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "mish": lambda z: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "softsign": lambda z: z / (1 + abs(z)),
    "tanh": mpmath.tanh,
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "exp": mpmath.exp,
}


@pytest.mark.parametrize("name", EXACT)
def test_values_are_exact_to_a_few_ulp(rng, name):
    z = np.concatenate([rng.normal(size=150), rng.uniform(-36, 36, 150), [-1e-9, 1e-9, 30, -30]])
    with mpmath.workdps(60):
        exact = [EXACT[name](mpmath.mpf(float(x))) for x in z]
        got = reference.activation(name, z)
        ulps = [
            abs(mpmath.mpf(float(a)) - e) / float(np.spacing(abs(float(e))))
            for a, e in zip(got, exact, strict=True)
        ]
    assert max(ulps) <= 4


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_limits_at_infinity(name):
    z = np.array([-np.inf, np.inf, np.nan])
    far = np.array([-1e30, 1e30])
    a = reference.activation(name, z)
    if name in ("identity", "leaky_relu"):
        assert a[0] == -np.inf
    else:
        np.testing.assert_allclose(a[0], reference.activation(name, far)[0], atol=1e-20)
    assert a[1] == np.inf or a[1] == pytest.approx(1)
    assert np.isnan(a[2])
    slope = reference.activation_grad(name, np.ones(3), z=z)
    assert np.isfinite(slope[0])
    assert np.isfinite(slope[1]) or name == "exp"


def test_dtype_is_kept(dtype, rng):
    X, W = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(3, 2)).astype(dtype)
    b = np.zeros(2, dtype)
    for name in reference._VALUES:
        a = reference.forward(X, W, b, name)
        assert a.dtype == dtype
        assert reference.activation_grad(name, a, z=a, a=a).dtype == dtype
        assert reference.backward(X[:, :2], W[:, :2], name, z=X, a=X).dtype == dtype
    for loss, output in PAIRS:
        y = np.zeros(5, int) if loss == "cross_entropy" else np.full((5, 2), 0.5, dtype)
        value, delta = reference.loss(loss, a, y, output=output, sample_weight=np.ones(5, dtype))
        assert isinstance(value, float)
        assert delta.dtype == dtype
    for part in reference.weight_grad(X, a):
        assert part.dtype == dtype


def test_loss_of_far_outputs_is_finite():
    z = np.array([[800.0], [-800.0]])
    value, delta = reference.loss("log_loss", z, np.array([0.0, 1.0]))
    assert value == 800
    np.testing.assert_array_equal(delta, [[0.5], [-0.5]])
    value, _ = reference.loss("cross_entropy", np.array([[0.0, 2000.0]]), np.array([0]))
    assert value == 2000


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=70), st.booleans())
def test_sum16_adds_in_the_stated_order(values, weighted):
    x = np.array(values, np.float32)
    w = np.arange(1, len(x) + 1, dtype=np.float32) if weighted else None
    chains = [0.0] * 16
    for i, term in enumerate(x):
        chains[i % 16] += float(term) * (1.0 if w is None else float(w[i]))
    for h in (8, 4, 2, 1):
        for r in range(h):
            chains[r] += chains[r + h]
    assert reference.sum16(x, w) == chains[0]


# ---- optimisers ----------------------------------------------------------------------------------
# Each rule once more, for one number, as the papers and PyTorch's documentation state it.


def torch_sgd(w, gradients, lr, momentum=0.0, nesterov=False):
    buf = None
    for g in gradients:
        if momentum:
            buf = g if buf is None else momentum * buf + g
            g = g + momentum * buf if nesterov else buf
        w = w - lr * g
    return w


def sklearn_sgd(w, gradients, lr, momentum=0.0, nesterov=False):
    v = 0.0
    for g in gradients:
        v = momentum * v - lr * g
        w = w + (momentum * v - lr * g if nesterov else v)
    return w


def torch_adam(w, gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        w = w * (1 - lr * decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - lr * m_hat / (math.sqrt(v_hat) + eps)
    return w


def sklearn_adam(w, gradients, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        lr_t = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        w = w - lr_t * m / (math.sqrt(v) + eps)
    return w


def torch_rmsprop(w, gradients, lr, alpha=0.99, eps=1e-8, momentum=0.0):
    v = buf = 0.0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g**2
        step = g / (math.sqrt(v) + eps)
        buf = momentum * buf + step
        w = w - lr * (buf if momentum else step)
    return w


def torch_adagrad(w, gradients, lr, eps=1e-10):
    s = 0.0
    for g in gradients:
        s += g**2
        w = w - lr * g / (math.sqrt(s) + eps)
    return w


OPTIMIZERS = [
    ("sgd", {}, torch_sgd, {}),
    ("sgd", {"momentum": 0.9}, torch_sgd, {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}, torch_sgd, {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.9, "variant": "sklearn"}, sklearn_sgd, {"momentum": 0.9}),
    (
        "sgd",
        {"momentum": 0.9, "nesterov": True, "variant": "sklearn"},
        sklearn_sgd,
        {"momentum": 0.9, "nesterov": True},
    ),
    ("adam", {}, torch_adam, {}),
    ("adam", {"beta1": 0.5, "beta2": 0.75, "eps": 1e-3}, torch_adam,
     {"beta1": 0.5, "beta2": 0.75, "eps": 1e-3}),
    ("adam", {"variant": "sklearn", "eps": 1e-3}, sklearn_adam, {"eps": 1e-3}),
    ("adamw", {}, torch_adam, {"decay": 0.01}),
    ("rmsprop", {}, torch_rmsprop, {}),
    ("rmsprop", {"alpha": 0.5, "momentum": 0.9}, torch_rmsprop, {"alpha": 0.5, "momentum": 0.9}),
    ("adagrad", {}, torch_adagrad, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params", "rule", "same"), OPTIMIZERS)
def test_updates_follow_the_published_rules(rng, name, params, rule, same):
    W, b = rng.normal(size=(3, 2)), rng.normal(size=2)
    W0, b0 = W.copy(), b.copy()
    batches = [(rng.normal(size=(4, 3)), rng.normal(size=(4, 2))) for _ in range(5)]
    state = {}
    velocity = np.zeros_like(W), np.zeros_like(b)
    for A_prev, delta in batches:
        if name == "sgd":
            reference.sgd_update(W, b, A_prev, delta, lr=0.1, velocity=velocity, **params)
        else:
            getattr(reference, f"{name}_update")(W, b, A_prev, delta, state, lr=0.1, **params)
    for i in np.ndindex(W.shape):
        gradients = [float((A.T @ d)[i]) for A, d in batches]
        assert W[i] == pytest.approx(rule(W0[i], gradients, 0.1, **same), rel=1e-12)
    for j in range(2):
        gradients = [float(d.sum(axis=0)[j]) for _, d in batches]
        assert b[j] == pytest.approx(rule(b0[j], gradients, 0.1, **same), rel=1e-12)
    if name.startswith("adam"):
        assert state["step"] == 5


@pytest.mark.parametrize(("name", "params", "rule", "same"), OPTIMIZERS)
def test_whole_steps_use_the_same_rules(rng, name, params, rule, same):
    net = [Layer(rng.normal(size=(3, 2)), rng.normal(size=2))]
    single, state, own = [net[0].W.copy(), net[0].b.copy()], {}, {}
    velocity = np.zeros((3, 2)), np.zeros(2)
    for step in range(4):
        X, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
        delta = (X @ single[0] + single[1] - y) / 4
        if name == "sgd":
            reference.sgd_update(*single, X, delta, lr=0.1, velocity=velocity, **params)
        else:
            getattr(reference, f"{name}_update")(*single, X, delta, own, lr=0.1, **params)
        reference.train_step(
            net, X, y, loss="squared_error", lr=0.1, optimizer=name, params=params, state=state,
            step=step,
        )  # fmt: skip
    np.testing.assert_allclose(net[0].W, single[0], rtol=1e-12)
    np.testing.assert_allclose(net[0].b, single[1], rtol=1e-12)


def test_gradient_is_finished_in_the_stated_order():
    W, b = np.array([[2.0, -3.0, 0.0]]), np.array([1.0, 1.0, 1.0])
    A_prev, delta = np.array([[1.0], [1.0]]), np.array([[4.0, 6.0, 2.0]] * 2)
    reference.sgd_update(
        W, b, A_prev, delta, lr=0.5, scale=0.5, l1=1.0, l2=2.0, clip_value=5.0, weight_decay=0.25
    )
    # g = scale * sum = 4, 6, 2; + l2 w + l1 sign(w) = 9, -1, 2; clipped 5, -1, 2; + decay w
    np.testing.assert_array_equal(W, [[2 - 0.5 * 5.5, -3 + 0.5 * 1.75, -1.0]])
    # b: no penalties; clipped 4, 5, 2; + decay
    np.testing.assert_array_equal(b, [1 - 0.5 * 4.25, 1 - 0.5 * 5.25, 1 - 0.5 * 2.25])


def test_adagrad_lr_decay_and_step():
    net = [Layer(np.array([[1.0]]), None)]
    X, y = np.ones((1, 1)), np.zeros((1, 1))
    reference.train_step(
        net, X, y, loss="squared_error", lr=0.5, optimizer="adagrad", params={"lr_decay": 0.25},
        step=4,
    )  # fmt: skip
    assert net[0].W[0, 0] == pytest.approx(1 - 0.5 / 2)


def test_clip_norm_scales_all_layers_together(rng):
    net = network(rng, "tanh", 1, "identity", l2=0.1)
    X, y = 10 * rng.normal(size=(6, 4)), 10 * rng.normal(size=(6, 3))
    gradients = reference.loss_and_grad(net, X, y, loss="squared_error")[1]
    norm = math.sqrt(sum(float((g**2).sum()) for pair in gradients for g in pair))
    before = [(layer.W.copy(), layer.b.copy()) for layer in net]
    reference.train_step(net, X, y, loss="squared_error", lr=1.0, params={"clip_norm": 0.5})
    for layer, (W, b), (dW, db) in zip(net, before, gradients, strict=True):
        np.testing.assert_allclose(W - layer.W, dW * 0.5 / (norm + 1e-6), rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(b - layer.b, db * 0.5 / (norm + 1e-6), rtol=1e-10, atol=1e-15)


def test_a_weight_that_would_overflow_keeps_its_value_and_states():
    W, A_prev = np.array([[1.0], [2.0]]), np.array([[1e200, 1e-150]])
    state = {}
    with pytest.raises(FloatingPointError, match="infinite or NaN"):
        reference.rmsprop_update(W, None, A_prev, np.array([[1e150]]), state, lr=1.0, eps=1e-10)
    assert W[0, 0] == 1
    assert W[1, 0] != 2
    assert state["square_avg"][0][0, 0] == 0
    assert state["square_avg"][0][1, 0] > 0


# ---- random numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # of the generator's authors, for ten rounds
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    got = reference.philox4x32(counter, key)
    assert " ".join(f"{word:08x}" for word in got) == words
    block = reference.philox4x32([[counter] * 3] * 2, key)
    assert block.shape == (2, 3, 4)
    assert block.dtype == np.uint32
    np.testing.assert_array_equal(block, np.broadcast_to(got, (2, 3, 4)))


def slow_permutation(n, seed, epoch):
    order = list(range(n))
    for t, i in enumerate(range(n - 1, 0, -1)):
        half = t // 2
        words = reference.philox4x32(
            [half & 0xFFFFFFFF, half >> 32, epoch & 0xFFFFFFFF, 0x53484653],
            [seed & 0xFFFFFFFF, seed >> 32],
        )
        low, high = (int(words[2 * (t % 2) + k]) for k in (0, 1))
        j = ((high << 32 | low) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return order


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 101])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (7, 3), (2**64 - 1, 2**32 + 5)])
def test_permutation_follows_its_definition(n, seed, epoch):
    got = reference.permutation(n, seed, epoch)
    assert got.dtype == np.int64
    assert got.tolist() == slow_permutation(n, seed, epoch)


def test_permutations_differ_and_are_complete():
    orders = [
        reference.permutation(60_000, seed, epoch)
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (1 << 40, 0)]
    ]
    for i, order in enumerate(orders):
        assert np.array_equal(np.sort(order), np.arange(60_000))
        for other in orders[:i]:
            assert (order == other).mean() < 1e-3


def test_every_position_is_equally_likely():
    n, rounds = 6, 3000
    counts = np.zeros((n, n))
    for epoch in range(rounds):
        counts[np.arange(n), reference.permutation(n, 11, epoch)] += 1
    expected = rounds / n
    # 25 degrees of freedom: 60 has a probability of 1e-4, and the numbers never change.
    assert ((counts - expected) ** 2 / expected).sum() < 60


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share(p, dtype):
    mask = reference.dropout_mask(200, 300, p, seed=3, step=9, layer=1, dtype=dtype)
    assert mask.dtype == dtype
    kept = mask > 0
    assert set(np.unique(mask)) <= {0, np.dtype(dtype).type(1 / (1 - p))}
    assert abs(kept.mean() - (1 - p)) <= 4 * math.sqrt(p * (1 - p) / mask.size)
    for axis in (0, 1):  # no row and no column stands out
        shares, n = kept.mean(axis=axis), kept.shape[axis]
        assert np.all(np.abs(shares - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / n))


def test_dropout_masks_are_independent_and_do_not_depend_on_the_batch():
    def mask(n=64, units=50, seed=3, step=9, layer=1):
        return reference.dropout_mask(n, units, 0.5, seed=seed, step=step, layer=layer) > 0

    base = mask()
    np.testing.assert_array_equal(mask(n=7, units=20), base[:7, :20])
    part = reference._dropout_block(range(20, 31), range(7, 30), 0.5, 3, 9, 1)
    np.testing.assert_array_equal(part > 0, base[20:31, 7:30])
    for other in (mask(seed=4), mask(step=10), mask(layer=0), mask(seed=3 + 2**32),
                  mask(step=9 + 2**32)):  # fmt: skip
        assert abs((other == base).mean() - 0.5) < 4 * 0.5 / math.sqrt(base.size)


# ---- steps and fits ------------------------------------------------------------------------------


def test_fit_is_its_steps(rng):
    X, y = rng.normal(size=(11, 4)), rng.integers(0, 3, 11).astype(np.uint8)
    weights = rng.uniform(0.5, 2, 11)
    first, second = (network(np.random.default_rng(1), "tanh", 1, "softmax") for _ in range(2))
    for net in (first, second):
        net[0].dropout = 0.25
        net[0].l2 = 0.1
    settings = {"loss": "cross_entropy", "optimizer": "adam", "seed": 5}
    lrs = np.linspace(0.1, 0.01, 6)
    losses_ = reference.fit(
        first, X, y, lr=lrs, epochs=2, batch_size=4, sample_weight=weights, epoch=3, step=30,
        **settings,
    )  # fmt: skip
    state, done, expected = {}, 0, []
    for epoch in (3, 4):
        order = reference.permutation(11, 5, epoch)
        total = 0.0
        for rows in (order[:4], order[4:8], order[8:]):
            value = reference.train_step(
                second, X[rows], y[rows], lr=lrs[done], state=state, step=30 + done,
                sample_weight=weights[rows], **settings,
            )  # fmt: skip
            total += value * weights[rows].sum()
            done += 1
        expected.append(total / weights.sum())
    np.testing.assert_allclose(losses_, expected, rtol=1e-12)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.W, other.W)
        np.testing.assert_array_equal(one.b, other.b)


def test_fit_in_pieces_is_one_fit(rng):
    X, y = rng.normal(size=(10, 4)), rng.normal(size=(10, 3))
    whole, pieces = (network(np.random.default_rng(1), "relu", 1, "identity") for _ in range(2))
    settings = {"loss": "squared_error", "lr": 0.01, "batch_size": 4, "params": {"momentum": 0.9}}
    reference.fit(whole, X, y, epochs=3, **settings)
    state = {}
    for epoch in range(3):
        reference.fit(pieces, X, y, epochs=1, epoch=epoch, step=3 * epoch, state=state, **settings)
    np.testing.assert_array_equal(whole[0].W, pieces[0].W)


def test_fit_learns_xor():
    net = network(np.random.default_rng(0), "tanh", 1, "sigmoid", units=1)
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int8)
    X = np.hstack([X, X])
    y = np.array([0, 1, 1, 0])
    history = reference.fit(
        net, X, y, loss="log_loss", optimizer="adam", lr=0.05, epochs=300, batch_size=4
    )
    assert history[-1] < 0.05 < history[0]
    assert ((reference.predict(net, X)[:, 0] > 0.5) == y).all()


def test_float32_fit_stays_float32(rng):
    net = [Layer(np.zeros((2, 1), np.float32), np.zeros(1, np.float32))]
    X = rng.normal(size=(20, 2))
    reference.fit(
        net, X, X @ [[1.0], [2.0]], loss="squared_error", lr=0.5, epochs=50, batch_size=10,
        optimizer="sgd", params={"momentum": 0.5}, shuffle=False,
    )  # fmt: skip
    assert net[0].W.dtype == np.float32
    np.testing.assert_allclose(net[0].W, [[1], [2]], atol=1e-4)


def test_divergence_is_an_error_and_keeps_the_weights():
    net = [Layer(np.array([[1.0]]), None)]
    with pytest.raises(FloatingPointError, match="loss is not finite"):
        reference.train_step(net, [[1e200]], [[0.0]], loss="squared_error", lr=1.0)
    assert net[0].W[0, 0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "sdg"}, "optimizer must be one of 'sgd'.*not 'sdg'"),
        ({"loss": "mse"}, "unknown loss 'mse'; choose from absolute_error, cross_entropy"),
        ({"params": {"beta1": 0.9}}, "sgd has no parameter beta1"),
        ({"params": {"lr_decay": 0.1}, "optimizer": "adam"}, "adam has no parameter lr_decay"),
    ],
)
def test_bad_settings_of_a_step(change, message):
    settings = {"loss": "squared_error", "lr": 0.1} | change
    with pytest.raises(ValueError, match=message):
        reference.train_step([Layer(np.eye(2), None)], np.ones((1, 2)), np.ones((1, 2)), **settings)


def test_no_dropout_on_the_last_layer():
    with pytest.raises(ValueError, match="last layer"):
        reference.train_step(
            [Layer(np.eye(2), None, dropout=0.5)], np.ones((1, 2)), np.ones((1, 2)),
            loss="squared_error", lr=0.1,
        )  # fmt: skip


# ---- names and documentation ---------------------------------------------------------------------


def test_pairing_names_the_choices():
    assert _pairing.canonical_output("poisson") == "exp"
    with pytest.raises(ValueError, match="unknown loss 'l2'; choose from absolute_error"):
        _pairing.canonical_output("l2")
    with pytest.raises(ValueError, match="with 'cross_entropy' choose from softmax"):
        _pairing.check_pairing("cross_entropy", "sigmoid")
    with pytest.raises(ValueError, match="'huber' does not fit the output activation 'softmax'"):
        _pairing.check_pairing("huber", "softmax")
    for loss, output in PAIRS:
        _pairing.check_pairing(loss, output)


def test_activations_by_name_and_object():
    for name in reference._VALUES:
        act = activations.get(name)
        assert act.name == name
        assert activations.get(act) is act
        assert act == activations.get(name)
        assert hash(act) == hash(activations.get(name))
        assert act.consumes in ("a", "z")
    assert activations.LeakyReLU(0.3).param == 0.3
    assert activations.ELU(2) != activations.ELU()
    with pytest.raises(ValueError, match=r"unknown activation 'rleu'; choose from elu, exp, gelu"):
        activations.get("rleu")
    with pytest.raises(TypeError, match="name or an object"):
        activations.get(3)
    with pytest.raises(AttributeError):
        activations.ELU().alpha = 2.0


@pytest.mark.parametrize(
    ("cls", "value", "error", "problem"),
    [
        (activations.LeakyReLU, -0.1, ValueError, "alpha must be at least 0, not -0.1"),
        (activations.LeakyReLU, math.nan, ValueError, "alpha must be finite, not nan"),
        (activations.LeakyReLU, 10**400, ValueError, "alpha must be finite, not inf"),
        (activations.LeakyReLU, "a", TypeError, "alpha must be a number, not 'a'"),
        (activations.LeakyReLU, True, TypeError, "alpha must be a number, not True"),
        (activations.ELU, 0.0, ValueError, "alpha must be greater than 0, not 0.0"),
        (activations.ELU, math.inf, ValueError, "alpha must be finite, not inf"),
        (activations.ELU, None, TypeError, "alpha must be a number, not None"),
        (activations.Softplus, np.array(0.1), TypeError, "threshold must be a number, not array"),
        (activations.HardSigmoid, 1j, TypeError, "slope must be a number, not 1j"),
    ],
)
def test_activation_parameters_are_checked(cls, value, error, problem):
    with pytest.raises(error, match=f"^{cls.__name__}: {problem}"):
        cls(value)


def test_activation_parameters_are_floats():
    for value in (np.float64(0.5), np.float16(0.5), Fraction(1, 2)):
        assert repr(activations.LeakyReLU(value)) == "LeakyReLU(alpha=0.5)"


def test_reference_needs_numpy_only():
    folder = Path(reference.__file__).parent
    own = {"reference", "_validate_arrays", "_pairing", "_numbers", "_spec", "activations"}
    for name in own:
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = {node.module} if node.module else {alias.name for alias in node.names}
                assert names <= own, (name, names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                first = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                top = first.partition(".")[0]
                assert top == "numpy" or top in sys.stdlib_module_names, first
