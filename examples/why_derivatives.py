"""
Why derivatives?
================

Why does gradient descent need derivatives? Seven answers, each measured with
:mod:`fastgd.kernels`: a training step is written out here, so that parts of it can be left out.

The data are the images of digits that are bundled with fastgd (E. Alpaydin and C. Kaynak, Optical
Recognition of Handwritten Digits, UCI, 1998, CC BY 4.0), and points that are drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from fastgd import kernels
from fastgd.datasets import load_digits_split

try:
    import matplotlib.pyplot as plt
except ImportError:
    raise SystemExit("this example needs matplotlib: pip install 'fastgd[plot]'") from None

# A network is a list of (W, b, activation), where b may be None; the last activation is the
# identity, so that the last output is z, which is what a loss takes.
Net = Sequence[tuple[np.ndarray, Any, str]]
# (z, y) -> (value of the loss, delta = what is sent back into the network)
Rule = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]

# Of Okabe and Ito: told apart with any colour vision. Line styles and markers say it again.
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"


# %%
# A training step, written out
# ----------------------------
# Every step goes through four functions of :mod:`fastgd.kernels`: forward, the loss, backward, and
# the update of the weights. ``deltas`` can leave the derivative of the hidden layers out.


def new_net(sizes, hidden, *, seed, dtype=np.float64) -> Net:
    """Draw the weights of a network: normal, of variance 1 / fan_in; biases 0."""
    rng = np.random.default_rng(seed)
    shapes = list(pairwise(sizes))
    return [
        (
            (rng.normal(size=shape) / np.sqrt(shape[0])).astype(dtype),
            np.zeros(shape[1], dtype),
            hidden if i < len(shapes) - 1 else "identity",
        )
        for i, shape in enumerate(shapes)
    ]


def forward(net: Net, X) -> list[np.ndarray]:
    """Return X and the output of every layer; the last is z."""
    outputs = [X]
    for W, b, activation in net:
        outputs.append(kernels.forward(outputs[-1], W, b, activation))
    return outputs


def deltas(net: Net, outputs, delta, *, hidden_derivative=True) -> list[np.ndarray]:
    """Send delta = dL/dz of the last layer back: one delta for each layer, first layer first.

    Without `hidden_derivative` the factor f'(z) of the chain rule is left out.
    """
    found = [delta]
    for i in range(len(net) - 1, 0, -1):
        activation = net[i - 1][2] if hidden_derivative else "identity"
        found.append(kernels.backward(found[-1], net[i][0], activation, a=outputs[i]))
    return found[::-1]


def gradient(net: Net, X, y, rule: Rule, *, hidden_derivative=True) -> np.ndarray:
    """Return the gradient (or what stands in for it) of all weights and biases as one vector."""
    outputs = forward(net, X)
    _, delta = rule(outputs[-1], y)
    parts = []
    for x, d in zip(
        outputs, deltas(net, outputs, delta, hidden_derivative=hidden_derivative), strict=False
    ):
        parts += [part.ravel() for part in kernels.weight_grad(x, d)]
    return np.concatenate(parts)


def train_step(net: Net, X, y, rule: Rule, lr, *, hidden_derivative=True) -> float:
    """Do one step of gradient descent in place; return the loss before it."""
    outputs = forward(net, X)
    value, delta = rule(outputs[-1], y)
    found = deltas(net, outputs, delta, hidden_derivative=hidden_derivative)
    for (W, b, _), x, d in zip(net, outputs, found, strict=False):
        kernels.sgd_update(W, b, x, d, lr=lr)
    return value


def loss_rule(name, output="canonical") -> Rule:
    """Return the true rule of a loss."""
    return lambda z, y: kernels.loss(name, z, y, output=output)


def accuracy(net: Net, X, y) -> float:
    """Return the share of samples on the right side of z = 0."""
    return float(((forward(net, X)[-1] > 0) == y).mean())


# %%
# Slopes measured without any formula
# -----------------------------------
# Central differences need two runs of the network for each weight. They are slow, and they are the
# judge: a rule that claims to be the gradient must agree with them.


def parameters(net: Net) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Yield (array, index) of every weight and bias, in the order of `gradient`."""
    for W, b, _ in net:
        for array in (W, b):
            for index in np.ndindex(array.shape):
                yield array, index


def central_differences(net: Net, function: Callable[[], float | np.ndarray], h=1e-5) -> np.ndarray:
    """Return (f(w + h) - f(w - h)) / 2h for every weight and bias w; the error is O(h^2)."""
    slopes = []
    for array, index in parameters(net):
        kept = array[index]
        array[index] = kept + h
        above = function()
        array[index] = kept - h
        below = function()
        array[index] = kept
        slopes.append((above - below) / (2 * h))
    return np.array(slopes)


def relative_distance(a, b) -> float:
    """Return |a - b| / |b| in the Euclidean norm."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def degrees_between(a, b) -> float:
    """Return the angle between two vectors."""
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


# %%
# Arithmetic that is rounded once
# -------------------------------
# What the compiled kernels do with one fused multiply-add, in NumPy and in fractions.


def fma32(a, b, c) -> np.ndarray:
    """Return a * b + c for float32 arrays, rounded once.

    The product is exact in float64, the sum is not, and rounding it to float64 and then to float32
    could round twice.  So the sum is rounded to odd: if it is inexact, to the neighbour whose last
    bit is 1.  That bit then remembers the lost tail, and the rounding to float32 is right.
    """
    product = np.float64(a) * np.float64(b)
    c = np.float64(c)
    total = product + c
    # What the sum lost, exactly (Knuth's two-sum).
    part = total - product
    lost = (product - (total - part)) + (c - part)
    even = (np.atleast_1d(total).view(np.uint64).reshape(np.shape(total)) & 1) == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    odd = np.where((lost != 0) & even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def fma_exact(a, b, c) -> np.ndarray:
    """Return a * b + c for float64 arrays, rounded once: in fractions, hence slow."""
    one = np.frompyfunc(lambda a, b, c: float(Fraction(a) * Fraction(b) + Fraction(c)), 3, 1)
    return np.asarray(one(a, b, c), np.float64)


def bits_differ(a, b) -> int:
    """Count the elements of two float arrays whose bits are not the same."""
    unsigned = {4: np.uint32, 8: np.uint64}[a.itemsize]
    return int((np.ascontiguousarray(a).view(unsigned) != b.view(unsigned)).sum())


# %%
# The data
# --------
# Images of digits, of which often only the ink in some parts is used, and a disc inside a ring.


def standardise(X) -> np.ndarray:
    """Shift and scale every column to mean 0 and variance 1; constant columns become 0."""
    scale = X.std(0)
    return (X - X.mean(0)) / np.where(scale > 0, scale, 1)


def ink(X, rows, columns) -> np.ndarray:
    """Return the mean ink of each of rows x columns parts of the images, standardised."""
    parts = X.reshape(-1, rows, 8 // rows, columns, 8 // columns).mean((2, 4))
    return standardise(parts.reshape(-1, rows * columns))


def five_or_eight() -> tuple[np.ndarray, np.ndarray]:
    """Return the ink in the four quarters of images of 5 and 8, and whether it is an 8."""
    X, y, _, _ = load_digits_split()
    keep = (y == 5) | (y == 8)
    return ink(X[keep], 2, 2), (y[keep] == 8).astype(np.float64)[:, None]


def upper_and_lower_ink() -> tuple[np.ndarray, np.ndarray]:
    """Return the ink in the upper and in the lower half of all training images."""
    halves = ink(load_digits_split()[0], 2, 1)
    return halves[:, :1].copy(), halves[:, 1:].copy()


def ring(n=200, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a disc and of a ring around it, and which are of the disc."""
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < 0.5
    radius = np.where(inside, rng.normal(0.8, 0.15, n), rng.normal(2.0, 0.2, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    X = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return X, inside.astype(np.float64)[:, None]


# %%
# 1. Is the delta rule gradient descent?
# --------------------------------------
# Yes, for an identity output and the squared error: its derivative is 1. Written with one fused
# multiply-add, the rule ``w + lr (target - output) input`` has the bits of
# :func:`fastgd.kernels.sgd_update`.

results = {}


@dataclass(frozen=True)
class DeltaRule:
    """What `delta_rule` measured."""

    steps: int
    weights: int
    differing: int  # weights whose bits differ between rule and kernel, over all steps
    weights64: int
    differing64: int  # the same in float64, against exact fractions
    numpy_share: float  # share of updates that NumPy rounds otherwise
    numpy_ulp: float  # largest difference then, in ULP of the largest term
    textbook_ulp: float  # the same for W + lr * (target - output) * input, from left to right

    def __str__(self):
        return f"""\
{self.steps} steps on images of digits; {self.weights} weights and biases, identity output.
rule  w <- fma(-lr, (output - target) * input, w)  against  kernels.sgd_update, squared error
    float32: {self.differing} of {self.steps * self.weights} updates differ in any bit
    float64: {self.differing64} of {self.weights64} updates differ from exact fractions
rule in NumPy  w - lr * ((output - target) * input), which rounds the product too
    float32: {self.numpy_share:.1%} differ, by at most {self.numpy_ulp:.2g} ULP of the largest term
rule as in textbooks  w + lr * (target - output) * input, rounded from left to right
    float32: at most {self.textbook_ulp:.2g} ULP of the largest term"""


def delta_rule() -> DeltaRule:
    """Show that the delta rule and SGD on the squared error are one formula, bit for bit."""
    X, y, _, _ = load_digits_split()
    inputs = standardise(X)
    targets = np.eye(10)[y]

    def race(dtype, fma, n_steps):
        # The kernel and the rule, each on weights of its own from the same start.
        lr = dtype(0.01)
        [(W, b, _)] = new_net([64, 10], None, seed=0, dtype=dtype)
        W_rule, b_rule = W.copy(), b.copy()
        differing, unequal, ulp, textbook_ulp = 0, 0, 0.0, 0.0
        for i in range(n_steps):
            x, target = inputs[i : i + 1].astype(dtype), targets[i : i + 1].astype(dtype)
            output = kernels.forward(x, W, b)
            _, delta = kernels.loss("squared_error", output, target)
            before = W.copy()
            kernels.sgd_update(W, b, x, delta, lr=float(lr))

            error = kernels.forward(x, W_rule, b_rule) - target
            W_rule = fma(-lr, error * x.T, W_rule)
            b_rule = fma(-lr, error[0], b_rule)
            differing += bits_differ(W, W_rule) + bits_differ(b, b_rule)

            # NumPy's rounding, from the kernel's weights so that differences cannot add up.
            change = lr * ((output - target) * x.T)
            largest = np.maximum(np.maximum(np.abs(before), np.abs(change)), np.abs(W))
            distance = np.abs((before - change) - W) / np.spacing(largest)
            unequal += np.count_nonzero(distance)
            ulp = max(ulp, float(distance.max()))
            textbook = before + lr * (target - output) * x.T
            textbook_ulp = max(
                textbook_ulp, float((np.abs(textbook - W) / np.spacing(largest)).max())
            )
        return differing, unequal / (n_steps * W.size), ulp, textbook_ulp

    n_steps, n_steps64, n_weights = len(X), 10, 64 * 10 + 10
    differing, share, ulp, textbook_ulp = race(np.float32, fma32, n_steps)
    differing64, *_ = race(np.float64, fma_exact, n_steps64)
    return DeltaRule(
        n_steps, n_weights, differing, n_steps64 * n_weights, differing64, share, ulp, textbook_ulp
    )


results["delta_rule"] = delta_rule()
print(results["delta_rule"])

# %%
# 2. What if a sigmoid output leaves its derivative out?
# ------------------------------------------------------
# Then the step goes in another direction, since the factor differs from image to image. In the end
# ``7.0%`` of the images are on the wrong side, and ``5.6%`` with the derivative.


@dataclass(frozen=True)
class OutputDerivative:
    """What `output_derivative` measured; pairs are (with the derivative, without)."""

    looked_at: int  # the step of the true descent at which the two directions are compared
    from_differences: tuple[float, float]  # relative distance from central differences
    from_log_loss: float  # distance of the rule without from the gradient of the log loss
    angles: dict[int, float]  # step of the true descent -> degrees between the directions
    steps: int
    curves: tuple[np.ndarray, np.ndarray]  # the squared error before every step
    final: tuple[float, float]
    slope: tuple[float, float]  # the largest |gradient| of the squared error at the end
    wrong: tuple[float, float]  # share of training images on the wrong side

    def __str__(self):
        d, f, s, w = self.from_differences, self.final, self.slope, self.wrong
        start, *_, end = self.angles
        return f"""\
5 or 8, from the ink in four quarters of the image; sigmoid output, squared error.
                                           with f'(z)    without
at step {self.looked_at}, from central differences   {d[0]:13.1e} {d[1]:10.2f}   (relative)
squared error after {self.steps} steps        {f[0]:13.4f} {f[1]:10.4f}
largest slope of it that is left        {s[0]:13.1e} {s[1]:10.1e}
images on the wrong side                {w[0]:13.1%} {w[1]:10.1%}
Angle between the two directions: {self.angles[start]:.1f} degrees at the start, \
{self.angles[self.looked_at]:.0f} at step {self.looked_at},
{self.angles[end]:.0f} at step {end}.  Past 90 degrees, the rule without f'(z) climbs.
Left to itself it ends {f[1] / f[0] - 1:.0%} higher, on a slope that it does not see.  It descends
the log loss (from whose central differences it is {self.from_log_loss:.1e} away): it solves
another problem than the one that was set."""


def output_derivative() -> OutputDerivative:
    """Leave the derivative of a sigmoid output out, under the squared error."""
    X, y = five_or_eight()
    true, log_loss = loss_rule("squared_error", "sigmoid"), loss_rule("log_loss")

    def without(z, y):
        return true(z, y)[0], (kernels.activation("sigmoid", z) - y) / len(y)

    n_steps, looked_at, lr = 3000, 100, 5.0
    net = new_net([4, 1], None, seed=0)
    angles, distances, from_log_loss = {}, [np.nan, np.nan], np.nan
    for step in range(301):
        pair = [gradient(net, X, y, rule) for rule in (true, without)]
        if step % 10 == 0:
            angles[step] = degrees_between(*pair)
        if step == looked_at:
            differences, log_differences = (
                central_differences(net, lambda rule=rule: rule(forward(net, X)[-1], y)[0])
                for rule in (true, log_loss)
            )
            distances = [relative_distance(found, differences) for found in pair]
            from_log_loss = relative_distance(pair[1], log_differences)
        train_step(net, X, y, true, lr)

    curves, slope, wrong = [], [], []
    for rule in (true, without):
        net = new_net([4, 1], None, seed=0)
        curves.append(np.array([train_step(net, X, y, rule, lr) for _ in range(n_steps)]))
        slope.append(float(np.abs(gradient(net, X, y, true)).max()))
        wrong.append(1 - accuracy(net, X, y))
    return OutputDerivative(
        looked_at=looked_at,
        from_differences=(distances[0], distances[1]),
        from_log_loss=from_log_loss,
        angles=angles,
        steps=n_steps,
        curves=(curves[0], curves[1]),
        final=(float(curves[0][-1]), float(curves[1][-1])),
        slope=(slope[0], slope[1]),
        wrong=(wrong[0], wrong[1]),
    )


results["output_derivative"] = output_derivative()
print(results["output_derivative"])

# %%
# The shortcut is faster at first, as it does not multiply by a small number. Past 90 degrees it
# walks uphill.

found = results["output_derivative"]
_, (top, bottom) = plt.subplots(
    2, 1, num="output_derivative", figsize=(5.6, 6.0), layout="constrained"
)
for curve, label, colour, style in zip(
    found.curves, ("with f'(z)", "without"), (BLUE, ORANGE), ("-", "--"), strict=True
):
    top.plot(np.arange(found.steps) + 1, curve, style, color=colour, label=label)
top.set(xscale="log", xlabel="step", ylabel="squared error", ylim=(0.02, 0.1))
top.set_title("The shortcut starts faster and ends higher")
top.legend(frameon=False)
bottom.plot(list(found.angles), list(found.angles.values()), color=ORANGE)
bottom.axhline(90, color=BLACK, linewidth=1, linestyle=":")
bottom.text(300, 86, "beyond 90°: uphill", ha="right", va="top")
bottom.set(xlabel="step of the true descent", ylabel="angle between the directions (°)")
bottom.set(ylim=(0, 140))
bottom.set_title("... because it points elsewhere")

# %%
# 3. What if a hidden layer leaves its derivative out?
# ----------------------------------------------------
# Then the rule is the gradient of no function at all, and the network hardly learns: ``100.0%`` of
# the points are on the right side with the derivative, ``52.5%`` without.


@dataclass(frozen=True)
class HiddenDerivative:
    """What `hidden_derivative` measured; pairs are (with the derivative, without)."""

    from_differences: tuple[float, float]
    asymmetry: tuple[float, float]  # |J - J^T| / |J|, J the derivatives of the "gradient"
    second_direction: tuple[float, float]  # second / first singular value of dW of layer 1
    steps: int
    curves: tuple[np.ndarray, np.ndarray]
    accuracy: tuple[float, float]

    def __str__(self):
        d, a, r, c = self.from_differences, self.asymmetry, self.second_direction, self.accuracy
        return f"""\
A disc inside a ring; 8 hidden tanh units, sigmoid output with log loss.
                                         with f'(z)    without
distance from central differences     {d[0]:13.1e} {d[1]:10.2f}   (relative)
asymmetry of its derivatives          {a[0]:13.1e} {a[1]:10.2f}   (0 for every gradient)
second direction in the hidden update {r[0]:13.2f} {r[1]:10.1e}   (0: all units learn the same)
log loss after {self.steps} steps           {self.curves[0][-1]:13.4f} {self.curves[1][-1]:10.4f}
points on the right side              {c[0]:13.1%} {c[1]:10.1%}
Without f'(z) in the hidden layer the rule is the gradient of no function at all: the
derivatives of a gradient are symmetric.  Every hidden unit gets the update of one and the
same linear model, times a factor, and the network stays close to guessing."""


def hidden_derivative() -> HiddenDerivative:
    """Leave the derivative of a hidden layer out."""
    X, y = ring()
    rule = loss_rule("log_loss")
    net = new_net([2, 8, 1], "tanh", seed=0)
    differences = central_differences(net, lambda: rule(forward(net, X)[-1], y)[0])

    n_steps, distance, asymmetry, second, curves, right = 1000, [], [], [], [], []
    for keep in (True, False):
        net = new_net([2, 8, 1], "tanh", seed=0)
        direction = gradient(net, X, y, rule, hidden_derivative=keep)
        distance.append(relative_distance(direction, differences))
        first_dW = direction[: 2 * 8].reshape(2, 8)
        singular = np.linalg.svd(first_dW, compute_uv=False)
        second.append(float(singular[1] / singular[0]))
        J = central_differences(
            net, lambda keep=keep, net=net: gradient(net, X, y, rule, hidden_derivative=keep)
        )
        asymmetry.append(relative_distance(J, J.T))
        curves.append(
            np.array(
                [train_step(net, X, y, rule, 0.3, hidden_derivative=keep) for _ in range(n_steps)]
            )
        )
        right.append(accuracy(net, X, y))
    return HiddenDerivative(
        from_differences=(distance[0], distance[1]),
        asymmetry=(asymmetry[0], asymmetry[1]),
        second_direction=(second[0], second[1]),
        steps=n_steps,
        curves=(curves[0], curves[1]),
        accuracy=(right[0], right[1]),
    )


results["hidden_derivative"] = hidden_derivative()
print(results["hidden_derivative"])

# %%
# Guessing has a log loss of log 2, the dotted line.

found = results["hidden_derivative"]
_, ax = plt.subplots(num="hidden_derivative", figsize=(5.6, 3.8), layout="constrained")
for curve, label, colour, style in zip(
    found.curves, ("with f'(z)", "without"), (BLUE, ORANGE), ("-", "--"), strict=True
):
    ax.plot(curve, style, color=colour, label=label)
ax.axhline(np.log(2), color=BLACK, linewidth=1, linestyle=":")
ax.text(found.steps, np.log(2) + 0.02, "guessing", ha="right", va="bottom")
ax.set(xlabel="step", ylabel="log loss", ylim=(0, 0.85))
ax.set_title("Without the hidden derivative: no learning")
ax.legend(frameon=False, loc="center right")

# %%
# 4. Where did it go in sigmoid + log loss and softmax + cross-entropy?
# ---------------------------------------------------------------------
# It cancels: what is left of the chain is output minus target. So a big mistake is put right in
# ``9`` steps, where the squared error takes ``3011``.


@dataclass(frozen=True)
class CanonicalPairs:
    """What `canonical_pairs` measured."""

    sigmoid_distance: float  # largest |delta - (a - y)|, sigmoid and log loss
    softmax_distance: float  # the same, softmax and cross-entropy
    long_way: tuple[float, float]  # of dL/da through f'(z), from delta: sigmoid, softmax
    from_differences: tuple[float, float]  # of the gradients: sigmoid, softmax
    z: np.ndarray  # for y = 0: the pre-activation ...
    log_loss_delta: np.ndarray  # ... and both deltas
    squared_delta: np.ndarray
    steps_back: tuple[int, int]  # from z = 8 to z < 0, lr 1: log loss, squared error
    far_cancelled: float  # delta at z = 30, y = 0, float32
    far_long_way: float  # the same through dL/da * f'(z)

    def __str__(self):
        return f"""\
                                             sigmoid + log loss   softmax + cross-entropy
largest |delta - (output - target)|          {self.sigmoid_distance:18.1e} \
{self.softmax_distance:25.1e}
... of dL/da through the derivative          {self.long_way[0]:18.1e} {self.long_way[1]:25.1e}
gradient from central differences            {self.from_differences[0]:18.1e} \
{self.from_differences[1]:25.1e}
A weight that is wrong at z = 8 (output {1 / (1 + np.exp(-8)):.4f}, target 0) comes back, at lr 1,
in {self.steps_back[0]} steps with the log loss and in {self.steps_back[1]} with the squared error.
In float32 at z = 30 the output is 1: delta is {self.far_cancelled:g} with f'(z) cancelled on
paper, and {self.far_long_way} as f'(z) * dL/da = 0 * infinity."""


def canonical_pairs() -> CanonicalPairs:
    """Follow the derivative through sigmoid + log loss and softmax + cross-entropy."""
    # Sigmoid and log loss, one sample of many outputs: dL/da = (a - y) / (a (1 - a)).
    z = np.linspace(-8, 8, 161)[None, :]
    y = np.zeros_like(z)
    _, delta = kernels.loss("log_loss", z, y)
    a = kernels.activation("sigmoid", z)
    by_chain = kernels.activation_grad("sigmoid", (a - y) / (a * (1 - a)), a=a)
    _, squared_delta = kernels.loss("squared_error", z, y, output="sigmoid")

    # Softmax and cross-entropy on real labels: dL/da = -y / a, and f' couples the outputs.
    X, labels, _, _ = load_digits_split()
    X, labels = standardise(X)[:100], labels[:100]
    one_hot = np.eye(10)[labels]
    scores = forward(new_net([64, 10], None, seed=0), X)[-1]
    _, delta10 = kernels.loss("cross_entropy", scores, labels)
    p = kernels.activation("softmax", scores)
    by_chain10 = kernels.activation_grad("softmax", -one_hot / p / len(p), a=p)

    X2, y2 = five_or_eight()
    distances = []
    for sizes, data in (([4, 1], (X2, y2)), ([64, 10], (X, labels))):
        rule = loss_rule("log_loss" if sizes[-1] == 1 else "cross_entropy")
        net = new_net(sizes, None, seed=0)
        found = gradient(net, *data, rule)
        differences = central_differences(
            net, lambda net=net, data=data, rule=rule: rule(forward(net, data[0])[-1], data[1])[0]
        )
        distances.append(relative_distance(found, differences))

    far = np.full((1, 1), 30, np.float32)
    nothing = np.zeros_like(far)
    _, far_cancelled = kernels.loss("log_loss", far, nothing)
    far_a = kernels.activation("sigmoid", far)
    with np.errstate(divide="ignore", invalid="ignore"):
        far_long_way = kernels.activation_grad("sigmoid", 1 / (1 - far_a), a=far_a)
    return CanonicalPairs(
        sigmoid_distance=float(np.abs(delta - (a - y)).max()),
        softmax_distance=float(np.abs(delta10 - (p - one_hot) / len(p)).max()),
        long_way=(float(np.abs(by_chain - delta).max()), float(np.abs(by_chain10 - delta10).max())),
        from_differences=(distances[0], distances[1]),
        z=z[0],
        log_loss_delta=delta[0],
        squared_delta=squared_delta[0],
        steps_back=(
            steps_back(loss_rule("log_loss")),
            steps_back(loss_rule("squared_error", "sigmoid")),
        ),
        far_cancelled=float(far_cancelled[0, 0]),
        far_long_way=float(far_long_way[0, 0]),
    )


def steps_back(rule: Rule, limit=10_000) -> int:
    """Count the steps at lr 1 in which one weight gets from z = 8 to z < 0."""
    net = [(np.array([[8.0]]), None, "identity")]
    x, y = np.ones((1, 1)), np.zeros((1, 1))
    steps = 0
    while forward(net, x)[-1][0, 0] >= 0 and steps < limit:
        train_step(net, x, y, rule, 1.0)
        steps += 1
    return steps


results["canonical_pairs"] = canonical_pairs()
print(results["canonical_pairs"])

# %%
# An output that is completely wrong sits on the flat end of the sigmoid. With the squared error it
# learns next to nothing there.

found = results["canonical_pairs"]
_, ax = plt.subplots(num="canonical_pairs", figsize=(5.6, 3.8), layout="constrained")
ax.plot(found.z, found.log_loss_delta, color=BLUE, label="log loss: a - y")
ax.plot(found.z, found.squared_delta, "--", color=ORANGE, label="squared error: (a - y) a (1 - a)")
ax.set(
    ylim=(-0.04, 1.2),
    xlabel="z (right is more wrong; target 0)",
    ylabel="delta: what the weights learn",
)
ax.set_title("Sigmoid output: who learns from a big mistake?")
ax.legend(frameon=False, loc="upper left")

# %%
# 5. What does depth need?
# ------------------------
# A derivative that changes. Eight layers with the identity are one linear layer, to the last bits.


@dataclass(frozen=True)
class Depth:
    """What `depth` measured; dicts are by hidden activation, "none" is one linear layer."""

    layers: int
    collapse_distance: float  # of the deep stack from one layer, relative
    ring_loss: dict[str, float]
    ring_right: dict[str, float]
    digits_right: dict[str, float]  # odd or even, on test images
    nets: dict[str, Net]  # trained on the ring

    def __str__(self):
        rows = "\n".join(
            f"{'one linear layer' if name == 'none' else f'3 layers, hidden {name}':25}"
            f"{self.ring_loss[name]:12.4f} {self.ring_right[name]:14.1%} "
            f"{self.digits_right[name]:21.1%}"
            for name in self.ring_loss
        )
        return f"""\
{self.layers} identity layers, and the one layer that they multiply out to: outputs \
{self.collapse_distance:.0e} apart.
                                  ring           ring    digits odd or even
                              log loss     right side    right, test images
{rows}"""


def depth() -> Depth:
    """Compare deep stacks of identity layers with one layer, and with tanh and relu."""
    X, labels, X_test, labels_test = load_digits_split()
    X, X_test = X / 16 - 0.3, X_test / 16 - 0.3
    y, y_test = ((labels % 2)[:, None].astype(np.float64) for labels in (labels, labels_test))

    # (X W1 + b1) W2 + b2 = X (W1 W2) + (b1 W2 + b2): fold the layers into one.
    n_layers = 8
    deep = new_net([64] * n_layers + [10], "identity", seed=0)
    rng = np.random.default_rng(1)
    for _, b, _ in deep:
        b[:] = rng.normal(size=b.shape)
    W, b, _ = deep[0]
    for W_next, b_next, _ in deep[1:]:
        W, b = kernels.forward(W, W_next, None), kernels.forward(b[None, :], W_next, b_next)[0]
    collapse_distance = relative_distance(forward(deep, X)[-1], kernels.forward(X, W, b))

    rule = loss_rule("log_loss")
    X_ring, y_ring = ring()
    ring_loss, ring_right, digits_right, nets = {}, {}, {}, {}
    for name in ("none", "identity", "tanh", "relu"):
        net = new_net([2, 1] if name == "none" else [2, 8, 8, 1], name, seed=0)
        for _ in range(1000):
            train_step(net, X_ring, y_ring, rule, 0.3)
        ring_loss[name] = float(rule(forward(net, X_ring)[-1], y_ring)[0])
        ring_right[name] = accuracy(net, X_ring, y_ring)
        nets[name] = net

        net = new_net([64, 1] if name == "none" else [64, 32, 16, 1], name, seed=0)
        rng = np.random.default_rng(0)
        for _ in range(20):
            for rows in np.array_split(rng.permutation(len(X)), len(X) // 32):
                train_step(net, X[rows], y[rows], rule, 0.2)
        digits_right[name] = accuracy(net, X_test, y_test)
    return Depth(n_layers, collapse_distance, ring_loss, ring_right, digits_right, nets)


results["depth"] = depth()
print(results["depth"])

# %%
# Layers that are linear can only draw a straight line. tanh and relu draw a closed one around the
# inner points.

found = results["depth"]
X, y = ring()
grid = np.linspace(-2.8, 2.8, 141)
points = np.stack([axis.ravel() for axis in np.meshgrid(grid, grid)], axis=1)
_, panels = plt.subplots(
    1, 3, sharex=True, sharey=True, num="depth", figsize=(5.6, 2.5), layout="constrained"
)
for ax, name in zip(panels, ("identity", "tanh", "relu"), strict=True):
    z = forward(found.nets[name], points)[-1].reshape(len(grid), len(grid))
    ax.contourf(grid, grid, z, [-np.inf, 0, np.inf], colors=["#F3D9C6", "#CCE3F0"])
    ax.contour(grid, grid, z, [0], colors=BLACK, linewidths=1)
    for value, colour, marker in ((1, BLUE, "o"), (0, ORANGE, "^")):
        chosen = X[y[:, 0] == value]
        ax.plot(*chosen.T, marker, color=colour, markersize=3, linestyle="none")
    ax.set_title(f"{name}: {found.ring_right[name]:.0%} right")
    ax.set(aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    ax.set_xlabel("input 1")
panels[0].set_ylabel("input 2")

# %%
# 6. How long is a step?
# ----------------------
# As long as the slope is steep, times the learning rate: near the minimum of a squared error it
# shrinks by itself.


@dataclass(frozen=True)
class StepSize:
    """What `step_size` measured."""

    first_steps: dict[float, float]  # lr -> length of the first step
    doubled_exactly: bool  # whether twice the lr gives twice the step, bit for bit
    steps: dict[float, np.ndarray]  # lr -> length of every step
    shrinks_by: dict[float, float]  # lr -> length of a step / length of the one before
    path: tuple[np.ndarray, np.ndarray]  # weight and loss at every step of the lr 0.3
    curve: tuple[np.ndarray, np.ndarray]  # the loss over the weight

    def __str__(self):
        rows = "\n".join(
            f"{lr:6g} {self.first_steps[lr]:12.4f} {factor:22.4f} {1 - lr:12.4f}"
            f"   {'grows: the loss diverges' if abs(factor) > 1 else ''}".rstrip()
            for lr, factor in self.shrinks_by.items()
        )
        return f"""\
Predict the ink in the lower half of an image from the upper half; squared error, fixed lr.
    lr   first step   each step / last step       1 - lr
{rows}
Twice the learning rate is twice the step, bit for bit: {self.doubled_exactly}."""


def step_size() -> StepSize:
    """Measure the steps of gradient descent on a squared error, for several learning rates."""
    X, y = upper_and_lower_ink()
    rule = loss_rule("squared_error")
    first, steps, factors = {}, {}, {}
    path = np.empty(0), np.empty(0)
    for lr in (0.1, 0.3, 0.6, 1.5, 2.1):
        net = [(np.zeros((1, 1)), np.zeros(1), "identity")]
        weights, losses = [0.0], []
        for _ in range(25):
            losses.append(train_step(net, X, y, rule, lr))
            weights.append(float(net[0][0][0, 0]))
        signed = np.diff(weights)
        first[lr], steps[lr] = float(abs(signed[0])), np.abs(signed)
        factors[lr] = float(np.median(signed[1:12] / signed[:11]))
        if lr == 0.3:
            path = (np.array(weights[:-1]), np.array(losses))

    w = np.linspace(-1.2, 0.25, 80)
    loss = [kernels.loss("squared_error", X * value, y)[0] for value in w]
    return StepSize(first, 2 * first[0.3] == first[0.6], steps, factors, path, (w, np.array(loss)))


results["step_size"] = step_size()
print(results["step_size"])

# %%
# Between a learning rate of 0 and 1 the steps approach from one side, between 1 and 2 they jump
# over the minimum and come back, and beyond 2 they grow.

found = results["step_size"]
_, (top, bottom) = plt.subplots(2, 1, num="step_size", figsize=(5.6, 6.4), layout="constrained")
top.plot(*found.curve, color=BLACK, linewidth=1)
top.plot(*found.path, "o-", color=BLUE, markersize=5, linewidth=1)
top.set(xlabel="weight", ylabel="squared error")
top.set_title("Learning rate 0.3: steps shrink with the slope")
looks = zip(("o-", "s-", "^-", "D--", "x--"), (BLUE, GREEN, PURPLE, BLACK, ORANGE), strict=True)
for (lr, lengths), (style, colour) in zip(found.steps.items(), looks, strict=True):
    # Below this, what is left is rounding.
    shown = np.flatnonzero(lengths > 1e-9)
    bottom.plot(
        shown + 1, lengths[shown], style, color=colour, markersize=3, linewidth=1, label=f"{lr}"
    )
bottom.set(yscale="log", xlabel="step", ylabel="length of the step")
bottom.set_title("... by the same factor each time")
bottom.legend(frameon=False, title="learning rate")

# %%
# 7. What is wrong with a constant gradient?
# ------------------------------------------
# It never arrives. With the absolute error a weight circles its target at a distance that is
# proportional to the learning rate; the squared error ends at rounding.


@dataclass(frozen=True)
class ConstantGradient:
    """What `constant_gradient` measured."""

    lrs: tuple[float, ...]
    mean_distance: dict[str, dict[float, float]]  # loss -> lr -> from the minimum, at the end
    max_distance: dict[str, dict[float, float]]
    paths: dict[str, np.ndarray]  # distance of one weight at every step of the largest lr
    swing: dict[str, dict[float, float]]  # real data: spread of the slope over the last steps
    decaying: float  # mean distance with absolute_error and lr / (1 + step / 10)

    def __str__(self):
        def row(what, by_lr):
            return f"    {what:34}" + "".join(f"{by_lr[lr]:12.2e}" for lr in self.lrs)

        absolute, squared = (
            self.mean_distance[loss] for loss in ("absolute_error", "squared_error")
        )
        rows = [
            f"{'learning rate':38}" + "".join(f"{lr:12g}" for lr in self.lrs),
            "64 weights, a target each; distance from it over the last 100 of 1000 steps",
            row("absolute_error, mean", absolute),
            row("absolute_error, largest", self.max_distance["absolute_error"]),
            row("absolute_error, mean / lr", {lr: absolute[lr] / lr for lr in self.lrs}),
            row("squared_error, mean", squared),
            "ink of the lower half from the upper half; swing of the slope at the end",
            *(row(loss, self.swing[loss]) for loss in self.swing),
            f"absolute_error with lr = {self.lrs[0]:g} / (1 + step / 10): "
            f"mean distance after 2000 {self.decaying:.1e}",
        ]
        return "\n".join(rows)


def constant_gradient() -> ConstantGradient:
    """Train with a gradient that does not shrink towards the minimum, and with one that does."""
    lrs = (0.4, 0.2, 0.1, 0.05)
    x = np.ones((1, 1))
    targets = np.random.default_rng(0).uniform(1, 3, size=(1, 64))

    def distances(loss, schedule, n_steps):
        # |w - target| of every weight before every step: (steps, weights)
        W, found = np.zeros((1, 64)), []
        for step in range(n_steps):
            found.append(np.abs(W - targets)[0])
            _, delta = kernels.loss(loss, kernels.forward(x, W, None), targets)
            kernels.sgd_update(W, None, x, delta, lr=schedule(step))
        return np.array(found)

    mean, largest, paths = {}, {}, {}
    for loss in ("absolute_error", "squared_error"):
        found = {lr: distances(loss, lambda step, lr=lr: lr, 1000) for lr in lrs}
        mean[loss] = {lr: float(found[lr][-100:].mean()) for lr in lrs}
        largest[loss] = {lr: float(found[lr][-100:].max()) for lr in lrs}
        paths[loss] = found[lrs[0]][:40, 0]
    decaying = distances("absolute_error", lambda step: lrs[0] / (1 + step / 10), 2000)

    X, y = (part[::5].copy() for part in upper_and_lower_ink())
    swing: dict[str, dict[float, float]] = {}
    for loss in ("absolute_error", "huber", "squared_error"):
        swing[loss] = {}
        for lr in lrs:
            net = [(np.zeros((1, 1)), np.zeros(1), "identity")]
            slopes = []
            for _ in range(800):
                train_step(net, X, y, loss_rule(loss), lr)
                slopes.append(net[0][0][0, 0])
            swing[loss][lr] = float(np.std(slopes[-100:]))
    return ConstantGradient(lrs, mean, largest, paths, swing, float(decaying[-100:].mean()))


results["constant_gradient"] = constant_gradient()
print(results["constant_gradient"])

# %%
# A learning rate that decays is one remedy (see :mod:`fastgd.schedules`); the Huber loss, round at
# the bottom, is another.

found = results["constant_gradient"]
_, (top, bottom) = plt.subplots(
    2, 1, num="constant_gradient", figsize=(5.6, 6.4), layout="constrained"
)
looks = (("absolute_error", ORANGE, "s--"), ("squared_error", BLUE, "o-"))
for loss, colour, style in looks:
    top.plot(found.paths[loss], style, color=colour, markersize=3, linewidth=1, label=loss)
    by_lr = found.mean_distance[loss]
    bottom.plot(list(by_lr), list(by_lr.values()), style, color=colour, markersize=5, label=loss)
top.set(xlabel="step", ylabel="distance from the minimum", yscale="log")
top.set_title(f"One weight, learning rate {found.lrs[0]:g}")
top.legend(frameon=False)
bottom.set(xscale="log", yscale="log", ylim=(1e-17, 10))
bottom.set_xticks(found.lrs, [f"{lr:g}" for lr in found.lrs])
bottom.set_xticks([], minor=True)
bottom.set(xlabel="learning rate", ylabel="mean distance at the end")
bottom.set_title("What stays: lr / 2, and rounding")
bottom.legend(frameon=False, loc="center right")

plt.show()
