"""What fastgd.sklearn adds, beside plain NumPy, fastgd.Network or an equal run of scikit-learn.

The trainer in NumPy knows every added parameter that changes a step: they are held to it alone and
in pairs. All is in float64 on standardised data, where the order of a sum moves a result by some
1e-14 of it in a few epochs.
"""

import copy
import itertools
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss, max_error, mean_squared_error, r2_score
from sklearn.metrics import make_scorer as scorer_of
from sklearn.utils.class_weight import compute_sample_weight

import fastgd
from fastgd import reference
from fastgd.sklearn import MLPClassifier, MLPRegressor
from sklearn_cases import (
    CLASSIFIER_KINDS,
    KINDS,
    ORIGINAL,
    OURS,
    estimator_type,
    make_data,
    make_weights,
    pairwise,
    sparsify,
)
from sklearn_features import HAS_SAMPLE_WEIGHT

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOUND = 1e-11
SETTINGS = {
    "hidden_layer_sizes": (7,),
    "learning_rate_init": 0.02,
    "batch_size": 32,
    "max_iter": 3,
    "random_state": 3,
}


def ours(kind, **settings):
    """Return an estimator of fastgd for a kind of targets."""
    settings = SETTINGS | settings
    if kind == "poisson":
        settings |= {"loss": "poisson"}
    return OURS[estimator_type(kind)](**settings)


def original(kind, **settings):
    """Return an estimator of scikit-learn for a kind of targets."""
    return ORIGINAL[estimator_type(kind)](**SETTINGS | settings)


def assert_close(found, wanted, bound=BOUND):
    """Compare arrays, or lists of them: the largest difference over the largest value."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.abs(np.subtract(a, b)).max() <= bound * np.abs(b).max()


def assert_same_model(found, wanted, bound=BOUND):
    """Compare weights and losses of two estimators."""
    assert_close(found.coefs_ + found.intercepts_, wanted.coefs_ + wanted.intercepts_, bound)
    if hasattr(wanted, "loss_curve_"):
        assert_close([found.loss_curve_], [wanted.loss_curve_], bound)


# ---- every parameter of a step beside NumPy -----------------------------------------------------


def first_weights(units, activation, seed=3):
    """Return the weights that scikit-learn draws, and the generator as it is afterwards."""
    rng = np.random.RandomState(seed)
    weights = []
    for fan_in, fan_out in itertools.pairwise(units):
        bound = np.sqrt((2 if activation in ("logistic", "sigmoid") else 6) / (fan_in + fan_out))
        weights.append(rng.uniform(-bound, bound, (fan_in, fan_out)))
        weights.append(rng.uniform(-bound, bound, fan_out))
    return weights, rng


def of_output(loss, z, y):
    """Return each sample's loss and dL/dz of an output."""
    if loss == "cross_entropy":
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return -np.log((p * y).sum(axis=1)), p - y
    e = z - y
    if loss == "squared_error":
        # scikit-learn's is a mean over the outputs, and its gradient that of their sum.
        return 0.5 * (e**2).mean(axis=1), e
    if loss == "absolute_error":
        return abs(e).sum(axis=1), np.sign(e)
    return np.where(abs(e) < 1, e**2 / 2, abs(e) - 0.5).sum(axis=1), np.clip(e, -1, 1)


class Step:
    """The optimisers' formulas: scikit-learn's of sgd and adam, torch's of the others."""

    def __init__(self, solver, weights):
        self.solver, self.t = solver, 0
        self.m, self.v = ([np.zeros_like(w) for w in weights] for _ in range(2))

    def __call__(self, weights, grads, lr, weight_decay):
        self.t += 1
        for w, g, m, v in zip(weights, grads, self.m, self.v, strict=True):
            if self.solver == "adamw":
                w *= 1 - lr * weight_decay
            else:
                g = g + weight_decay * w
            if self.solver == "sgd":
                v[...] = 0.9 * v - lr * g
                w += 0.9 * v - lr * g
            elif self.solver == "rmsprop":
                v[...] = 0.99 * v + 0.01 * g**2
                w -= lr * g / (np.sqrt(v) + 1e-8)
            elif self.solver == "adagrad":
                v += g**2
                w -= lr * g / (np.sqrt(v) + 1e-10)
            else:
                m[...] = 0.9 * m + 0.1 * g
                v[...] = 0.999 * v + 0.001 * g**2
                first, second = 1 - 0.9**self.t, 1 - 0.999**self.t
                if self.solver == "adam":
                    w -= lr * np.sqrt(second) / first * m / (np.sqrt(v) + 1e-8)
                else:
                    w -= lr / first * m / (np.sqrt(v / second) + 1e-8)


def train_in_numpy(
    X, y, weight, *, loss, activation, solver, alpha, lr, batch_size, epochs, **more
):
    """Train one hidden layer of 7 units; return weights and the loss of each epoch."""
    n, name = len(X), "sigmoid" if activation == "logistic" else activation
    weights, rng = first_weights([X.shape[1], 7, y.shape[1]], activation)
    order, step, losses = np.arange(n), Step(solver, weights), []
    for _ in range(epochs):
        rng.shuffle(order)
        total = 0.0
        for first in range(0, n, batch_size):
            rows = order[first : first + batch_size]
            x, w = X[rows], weight[rows]
            W1, b1, W2, b2 = weights
            z = x @ W1 + b1
            a = reference.activation(name, z)
            value, delta = of_output(loss, a @ W2 + b2, y[rows])
            delta = delta * w[:, None] / w.sum()
            below = reference.activation_grad(name, delta @ W2.T, z=z, a=a)
            share = alpha / w.sum()
            penalty = 0.5 * share * ((W1**2).sum() + (W2**2).sum())
            total += (value @ w / w.sum() + penalty) * len(rows)
            grads = [x.T @ below + share * W1, below.sum(axis=0)]
            grads += [a.T @ delta + share * W2, delta.sum(axis=0)]
            if more["clip_value"]:
                grads = [np.clip(g, -more["clip_value"], more["clip_value"]) for g in grads]
            if more["clip_norm"]:
                norm = np.sqrt(sum((g**2).sum() for g in grads))
                grads = [g * min(1.0, more["clip_norm"] / (norm + 1e-6)) for g in grads]
            step(weights, grads, lr(step.t), more["weight_decay"])
        losses.append(total / n)
    return weights, losses


def falling(step):
    """Learning rate that differs in every step."""
    return 0.03 / (1 + 0.5 * step)


# The first value of each axis is the default, or takes its place.
STEPS = {
    "loss": ("squared_error", "absolute_error", "huber", "cross_entropy"),
    "activation": ("relu", "gelu", "selu", "mish", "sigmoid"),
    "solver": ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
    "weights": (
        (None, "sample_weight", "class_weight", "both")
        if HAS_SAMPLE_WEIGHT
        else (None, "class_weight")
    ),
    "lr_schedule": (None, falling, fastgd.schedules.Cosine(0.05, 12)),
    "weight_decay": (0.0, 0.3),
    "clip_value": (None, 0.02),
    "clip_norm": (None, 0.1),
    "batch_size": (32, 97),
}
DEFAULTS = tuple(values[0] for values in STEPS.values())
ALONE = [
    (*DEFAULTS[:i], value, *DEFAULTS[i + 1 :])
    for i, values in enumerate(STEPS.values())
    for value in values[1:]
]


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("row", [DEFAULTS, *ALONE, *pairwise(STEPS.values())], ids=str)
def test_steps_are_those_of_numpy(row, layout):
    given = dict(zip(STEPS, row, strict=True))
    loss, kind = given.pop("loss"), given.pop("weights")
    is_class = loss == "cross_entropy"
    X, y = make_data("multiclass" if is_class else "multi-output")
    if layout == "sparse":
        X = sparsify(X, "csr").toarray()
    weight, fit = np.ones(len(X)), {}
    if is_class:
        targets = (y[:, None] == np.unique(y)).astype(float)
        if kind in ("class_weight", "both"):
            given["class_weight"] = {-3: 0.5, 2: 3.0, 5: 1.0, 11: 2.0}
            weight = compute_sample_weight(given["class_weight"], y)
    else:
        targets, given["loss"] = y, loss
    if kind in ("sample_weight", "both"):
        fit["sample_weight"] = make_weights(len(X))
        weight = weight * fit["sample_weight"]
    model = ours("multiclass" if is_class else "multi-output", alpha=0.5, **given)
    model.fit(sparse.csr_array(X) if layout == "sparse" else X, y, **fit)
    given.pop("class_weight", None)
    schedule = given.pop("lr_schedule")
    wanted, losses = train_in_numpy(
        X, targets, weight, **given | {"loss": loss}, alpha=0.5, epochs=3,
        lr=schedule or (lambda step: 0.02),
    )  # fmt: skip
    found = [array for pair in zip(model.coefs_, model.intercepts_, strict=True) for array in pair]
    # A gradient of 1e-8 is noise that rmsprop and its kin divide by its own size, and the clipping
    # by a norm multiplies all by one rounding.
    assert_close(found, wanted, 1e-9)
    assert_close([model.loss_curve_], [losses])


def test_every_added_parameter_is_tested_here():
    """Those that change no step are below, in test_sklearn_callbacks.py or in both."""
    elsewhere = {"dropout", "scoring", "callbacks", "progress_bar", "n_threads", "dtype"}
    for kind in ("classifier", "regressor"):
        added = OURS[kind]().get_params().keys() - ORIGINAL[kind]().get_params().keys()
        assert added <= {*STEPS, *elsewhere, "class_weight"}


# ---- weights of classes --------------------------------------------------------------------------

if HAS_SAMPLE_WEIGHT:

    @pytest.mark.parametrize("class_weight", ["balanced", {-3: 5.0, 2: 1.0}])
    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_class_weight_is_a_sample_weight(solver, early_stopping, class_weight):
        X, y = make_data("multiclass")
        settings = {"solver": solver, "early_stopping": early_stopping}
        weight = compute_sample_weight(class_weight, y)
        for more in (np.ones(len(X)), make_weights(len(X))):
            wanted = original("multiclass", **settings).fit(X, y, sample_weight=weight * more)
            for data in (X, sparse.csr_array(X)):
                found = ours("multiclass", **settings, class_weight=class_weight)
                assert_same_model(found.fit(data, y, sample_weight=more), wanted)
                if early_stopping:
                    assert found.validation_scores_ == wanted.validation_scores_

    @pytest.mark.parametrize("kind", CLASSIFIER_KINDS)
    def test_class_weight_of_every_kind_of_targets(kind):
        X, y = make_data(kind)
        weight = compute_sample_weight("balanced", y)
        wanted = original(kind).fit(X, y, sample_weight=weight)
        assert_same_model(ours(kind, class_weight="balanced").fit(X, y), wanted)

    def test_class_weight_with_lbfgs():
        X, y = make_data("multiclass")
        settings = {"solver": "lbfgs", "hidden_layer_sizes": (), "max_iter": 5}
        wanted = original("multiclass", **settings)
        wanted.fit(X, y, sample_weight=compute_sample_weight("balanced", y))
        found = ours("multiclass", **settings, class_weight="balanced").fit(X, y)
        assert_same_model(found, wanted, 1e-9)

    def test_class_weight_that_comes_between_partial_fits():
        X, y = make_data("multiclass")
        models = [build("multiclass", batch_size="auto") for build in (original, ours)]
        weight = {-3: 10.0}
        for model in models:
            model.partial_fit(X, y, classes=np.unique(y)).partial_fit(X, y)
        models[1].set_params(class_weight=weight)
        for _ in range(3):
            models[0].partial_fit(X, y, sample_weight=compute_sample_weight(weight, y))
            models[1].partial_fit(X, y)
            assert_same_model(*models[::-1])
        models[1].set_params(class_weight=None)
        for model in models:
            model.partial_fit(X, y).partial_fit(X, y)
        assert_same_model(*models[::-1])

    @pytest.mark.parametrize("kind", ["binary", "multiclass", "strings"])
    def test_class_weight_of_classes_that_a_part_of_the_data_lacks(kind):
        X, y = make_data("binary" if kind == "binary" else "multiclass")
        y = np.array([f"class {label}" for label in y]) if kind == "strings" else y
        classes = np.unique(y)
        weight = {classes[-1]: 10.0}
        settings = {"batch_size": "auto"}
        models = [
            original("multiclass", **settings),
            ours("multiclass", **settings, class_weight=weight),
        ]
        for part in (y != classes[-1], y == classes[-1], y != classes[0], y == y):
            weights = np.where(y[part] == classes[-1], 10.0, 1.0)
            models[0].partial_fit(X[part], y[part], classes=classes, sample_weight=weights)
            models[1].partial_fit(X[part], y[part], classes=classes)
            assert_same_model(*models[::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_class_weights_that_are_not_finite_are_named(value):
    X, y = make_data("multiclass")
    model = ours("multiclass", class_weight={y[0]: value})
    for fit in (model.fit, lambda X, y: model.partial_fit(X, y, classes=np.unique(y))):
        with pytest.raises(ValueError, match="class_weight must hold finite weights"):
            fit(X, y)


def test_balanced_weights_are_not_for_partial_fit():
    X, y = make_data("multiclass")
    model = ours("multiclass", class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight='balanced' is not for partial_fit"):
        model.partial_fit(X, y, classes=np.unique(y))


# ---- activations, dropout, threads, dtype --------------------------------------------------------


@pytest.mark.parametrize("form", ["name", "list", "object", "logistic list"])
def test_names_of_the_sigmoid_begin_alike(form):
    X, y = make_data("regression")
    sigmoid = fastgd.activations.get("sigmoid")
    activation = {
        "name": "sigmoid", "list": ["sigmoid"] * 2, "object": sigmoid,
        "logistic list": ["logistic", sigmoid],
    }[form]  # fmt: skip
    settings = {"hidden_layer_sizes": (5, 4), "solver": "adam"}
    wanted = original("regression", activation="logistic", **settings).fit(X, y)
    assert_same_model(ours("regression", activation=activation, **settings).fit(X, y), wanted)


def network_of(model, units, activations, dropout, seed, lr):
    """Return a fastgd.Network with first weights like an estimator's."""
    layers = [fastgd.Dense(7, activations[0], dropout=dropout[0])]
    layers += [fastgd.Dense(5, activations[1], dropout=dropout[1]), fastgd.Dense(units[-1])]
    network = fastgd.Network(
        layers, "squared_error", fastgd.SGD(lr), n_inputs=units[0], dtype="float64", seed=seed
    )
    network.set_weights(model)
    return network


@pytest.mark.parametrize("dropout", [0.0, 0.4, [0.3, 0.0]])
@pytest.mark.parametrize("activations", [["tanh", "elu"], ["softplus", "relu"]])
def test_layers_are_those_of_a_network(activations, dropout):
    """Each layer's activation and dropout, in steps of the whole batch."""
    X, y = make_data("multi-output")
    units = [X.shape[1], 7, 5, y.shape[1]]
    weights, rng = first_weights(units, "relu")
    seed = int(rng.randint(2**31)) if dropout else 0
    rates = dropout if isinstance(dropout, list) else [dropout] * 2
    network = network_of(weights, units, activations, rates, seed, 0.02)
    model = ours(
        "multi-output", hidden_layer_sizes=(7, 5), activation=activations, dropout=dropout,
        solver="sgd", momentum=0.0, alpha=0.0, batch_size=97, shuffle=False,
    )  # fmt: skip
    model.fit(X, y)
    losses = [network.train_step(X, y) for _ in range(3)]
    # The same engine in the same order: what a step sums differs in nothing.
    found = [array for pair in zip(model.coefs_, model.intercepts_, strict=True) for array in pair]
    assert_close(found, network.get_weights(), 1e-15)
    assert_close([np.multiply(model.loss_curve_, 3)], [losses], 1e-15)
    # Predictions have no dropout.
    assert_close([model.predict(X)], [network.predict(X)], 1e-15)


@pytest.mark.parametrize("activation", ["gelu", ["tanh"], "sigmoid", "logistic"])
@pytest.mark.parametrize("dtype", ["float16", "longdouble", ">f8", ">f4", "int8", "bool", "O"])
def test_dtypes_of_X_for_every_activation(dtype, activation):
    X, y = make_data("regression")
    model = ours("regression", activation=activation).fit(X, y)
    given = (2 * X).astype(dtype)
    found = model.predict(given)
    assert_close([found], [model.predict(given.astype(np.float64))], 1e-15)
    assert_close([model.predict(given.tolist())], [found], 1e-15)


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", ["multiclass", "multi-output"])
def test_numbers_beyond_the_dtype_are_named(kind, solver, layout):
    X, y = make_data(kind)
    large = X.copy()
    large[3, 1] = -1e39
    given = layout(large)
    model = ours(kind, solver=solver, dtype="float32").fit(X, y)
    before = copy.deepcopy(model.coefs_)
    calls = [lambda: model.fit(given, y), lambda: model.predict(given)]
    if solver == "adam":
        model.partial_fit(X, y).partial_fit(X, y)
        before = copy.deepcopy(model.coefs_)
        calls.append(lambda: model.partial_fit(given, y))
    if kind == "multiclass":
        calls += [lambda: model.predict_proba(given), lambda: model.score(given, y)]
    for call in calls:
        with pytest.raises(ValueError, match=r"X\[3, 1\] is -1e\+39, beyond the range of float32"):
            call()
    if solver == "adam":
        with pytest.raises(ValueError, match=r"X_val\[3, 1\] is -1e\+39, beyond the range"):
            model.fit(X, y, X_val=given, y_val=y)
    if kind == "multi-output":
        far = y.copy()
        far[2, 1] = 1e39
        for call in (model.fit, model.partial_fit) if solver == "adam" else (model.fit,):
            with pytest.raises(ValueError, match=r"y\[2, 1\] is 1e\+39, beyond the range"):
                call(X, far)
        if solver == "adam":
            with pytest.raises(ValueError, match=r"y_val\[2, 1\] is 1e\+39, beyond the range"):
                model.fit(X, y, X_val=X, y_val=far)
    for W, old in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(W, old)


@pytest.mark.parametrize("activation", ["gelu", ["tanh"]])
def test_long_doubles_beyond_float64_are_named(activation):
    X, y = make_data("regression")
    model = ours("regression", activation=activation).fit(X, y)
    given = X.astype(np.longdouble)
    if np.finfo(given.dtype).max == np.finfo(X.dtype).max:
        # Then there is no number beyond float64 that could be given.
        pytest.skip("long double is float64 here")
    given[1, 2] = np.longdouble("1e400")
    with pytest.raises(ValueError, match=r"X\[1, 2\] is 1e\+400, beyond the range of float64"):
        model.predict(given)


def test_number_of_threads_changes_nothing():
    X, y = make_data("multiclass", n=600, n_features=40)
    one, two = (
        ours("multiclass", hidden_layer_sizes=(300,), batch_size=200, n_threads=n).fit(X, y)
        for n in (1, 2)
    )
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("kind", KINDS)
def test_dtype_is_that_of_converted_data(kind):
    X, y = make_data(kind)
    single = X.astype(np.float32)
    poisson = {"loss": "poisson"} if kind == "poisson" else {}
    for dtype, given, data, bound in (
        ("float32", X, single, 1e-4),
        ("float64", single, single.astype(float), 1e-9),
    ):
        found = ours(kind, dtype=dtype).fit(given, y)
        wanted = original(kind, **poisson).fit(data, y)
        assert {array.dtype.name for array in found.coefs_ + found.intercepts_} == {dtype}
        assert_same_model(found, wanted, bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_have_the_dtype_that_is_asked_for(dtype):
    X, y = make_data("multiclass")
    model = ours("multiclass", dtype=dtype).fit(X, y)
    for data in (
        X,
        X.astype(np.float32),
        X.astype(np.float16),
        X.astype(np.longdouble),
        X.tolist(),
    ):
        for given in (data, data[:1]):
            assert model.predict_proba(given).dtype == dtype
    # In float64 a sum that is off by the rounding of float32 is complained of.
    assert log_loss(y, model.predict_proba(X)) > 0
    stopping = ours("multiclass", dtype=dtype, early_stopping=True, scoring="neg_log_loss")
    assert np.isfinite(stopping.fit(X, y).validation_scores_).all()


def test_dtype_that_changes_under_warm_start():
    X, y = make_data("regression")
    model = ours("regression", warm_start=True).fit(X, y)
    model.set_params(dtype="float32").fit(X, y)
    assert {array.dtype.name for array in model.coefs_ + model.intercepts_} == {"float32"}
    model.set_params(dtype="float64").partial_fit(X, y)
    assert {array.dtype.name for array in model.coefs_ + model.intercepts_} == {"float64"}
    assert len(model.loss_curve_) == 7


def test_schedule_of_plateaus_finds_what_it_monitors():
    X, y = make_data("regression")
    plateau = fastgd.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1, min_delta=1e9)
    for schedule in (plateau, fastgd.schedules.WarmUp(plateau, 1)):
        model = ours("regression", lr_schedule=schedule, max_iter=4).fit(X, y)
        assert model.history_.history["lr"][-3:] == [0.1, 0.05, 0.025]
    unknown = fastgd.schedules.ReduceOnPlateau(0.1, monitor="val_loss")
    with pytest.raises(ValueError, match=r"ReduceOnPlateau monitors 'val_loss', which this fit"):
        ours("regression", lr_schedule=unknown).fit(X, y)
    for callback in (fastgd.EarlyStopping("auto"), fastgd.Checkpoint("model", "auto", True)):
        model = ours("regression", callbacks=[callback])
        with pytest.raises(ValueError, match=r"monitors 'auto', which this fit does not record"):
            model.fit(X, y)


# ---- validation ----------------------------------------------------------------------------------


def epochs_of(model, X, y, n, **fit):
    """Return the model as it is after each of its first n epochs."""
    return [copy.deepcopy(model).set_params(max_iter=k + 1).fit(X, y, **fit) for k in range(n)]


SCORERS = {
    None: {"classifier": scorer_of(accuracy_score), "regressor": scorer_of(r2_score)},
    "neg_max_error": {"regressor": lambda model, X, y: -max_error(y, model.predict(X))},
    "neg_mean_squared_error": {"regressor": scorer_of(mean_squared_error, greater_is_better=False)},
    "neg_log_loss": {
        "classifier": scorer_of(log_loss, greater_is_better=False, response_method="predict_proba")
    },
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scoring", [*SCORERS, "loss"], ids=str)
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_validation_data_are_scored_after_every_epoch(kind, scoring, weighted):
    by = SCORERS.get(scoring, {}).get(estimator_type(kind))
    if by is None and scoring != "loss":
        scoring, by = None, SCORERS[None][estimator_type(kind)]
    weighted = weighted and scoring != "neg_max_error"
    X, y = make_data(kind)
    X_val, y_val = X[70:], y[70:]
    weight = make_weights(len(X_val)) if weighted else None
    known = {} if weight is None else {"sample_weight": weight}
    model = ours(kind, scoring=scoring, alpha=0.7)
    model.fit(X[:70], y[:70], X_val=X_val, y_val=y_val, sample_weight_val=weight)
    scores, losses = [], []
    for one in epochs_of(ours(kind, alpha=0.7), X[:70], y[:70], 3):
        if kind == "multiclass":
            losses.append(log_loss(y_val, one.predict_proba(X_val), **known))
        else:
            losses.append(mean_squared_error(y_val, one.predict(X_val), **known) / 2)
        scores.append(-losses[-1] if scoring == "loss" else by(one, X_val, y_val, **known))
    assert_close([model.validation_loss_curve_], [losses])
    assert_close([model.validation_scores_], [scores])
    assert model.history_.history["val_loss"] == model.validation_loss_curve_


if HAS_SAMPLE_WEIGHT:

    def test_scorers_get_the_weights_of_early_stopping():
        X, y = make_data("multiclass")
        weight = make_weights(len(X))
        settings = {"early_stopping": True, "max_iter": 8}
        wanted = original("multiclass", **settings).fit(X, y, sample_weight=weight)
        found = ours("multiclass", **settings, scoring="accuracy")
        found.fit(X, y, sample_weight=weight)
        assert_close([found.validation_scores_], [wanted.validation_scores_])


def test_scorer_of_ones_own_may_do_without_weights():
    X, y = make_data("regression")
    seen = []

    def score(model, X, y):
        seen.append(len(y))
        return -abs(model.predict(X) - y).max()

    model = ours("regression", scoring=score, early_stopping=True)
    model.fit(X, y, **({"sample_weight": make_weights(97)} if HAS_SAMPLE_WEIGHT else {}))
    assert seen == [10] * 3


def test_validation_data_of_ones_own_stop_a_fit():
    X, y = make_data("multiclass")
    data = {"X_val": X[60:], "y_val": y[60:]}
    settings = {"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3, "scoring": "loss"}
    model = ours("multiclass", learning_rate_init=0.1, **settings).fit(X[:60], y[:60], **data)
    assert model.n_iter_ < 60
    best = int(np.argmax(model.validation_scores_))
    assert best < model.n_iter_ - 1
    wanted = ours("multiclass", learning_rate_init=0.1, max_iter=best + 1).fit(X[:60], y[:60])
    assert_close(model.coefs_, wanted.coefs_, 1e-15)


def test_score_of_a_subclass_is_asked():
    X, y = make_data("regression")

    class Own(MLPRegressor):
        def _score(self, X, y, sample_weight=None):
            return float(len(y))

    model = Own(early_stopping=True, max_iter=2, random_state=0).fit(X, y)
    assert model.validation_scores_ == [10.0, 10.0]


def test_validation_loss_curve_goes_with_its_fit():
    X, y = make_data("multiclass")
    model = ours("multiclass", early_stopping=True).fit(X, y)
    assert len(model.validation_loss_curve_) == 3
    model.set_params(early_stopping=False).fit(X, y)
    assert not hasattr(model, "validation_loss_curve_")


@pytest.mark.parametrize("kind", KINDS)
def test_y_val_in_the_forms_of_y(kind):
    X, y = make_data(kind)
    X_val, y_val = X[70:], y[70:]

    def curve(given):
        model = ours(kind).fit(X[:70], y[:70], X_val=X_val, y_val=given)
        return model.validation_loss_curve_

    wanted = curve(y_val)
    assert curve(y_val.tolist()) == wanted
    if y.ndim == 1:
        assert curve(y_val.reshape(-1, 1)) == wanted
    if kind == "multilabel":
        assert curve(sparse.csr_array(y_val)) == wanted
        assert curve(y_val.astype(bool)) == wanted


def bad_y_val(kind, y):
    """Yield unusable y_val, and what is said of it."""
    yield y[:5], "X_val has 97 samples, but y_val has 5"
    if kind in ("multilabel", "multi-output"):
        yield y[:, 0], "y_val must have as many columns as y, 3, not 1"
    else:
        yield np.stack([y, y], axis=1), "y_val must have as many columns as y, 1, not 2"
    if kind in ("regression", "multi-output"):
        yield np.where(y > 0, np.nan, y), "Input y_val contains NaN"
    if kind == "multiclass":
        yield y + 100, r"y_val has classes \[ 97 102 105 111\] that y does not have"


@pytest.mark.parametrize("kind", KINDS)
def test_y_val_that_does_not_fit_is_named(kind):
    X, y = make_data(kind)
    model = ours(kind, warm_start=True).fit(X, y)
    before = model.n_outputs_
    for given, message in bad_y_val(kind, y):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, X_val=X, y_val=given)
        assert model.n_outputs_ == before


# ---- what does not go together -------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"dropout": 0.5},
        {"dropout": [0.5]},
        {"lr_schedule": falling},
        {"weight_decay": 0.1},
        {"clip_value": 1.0},
        {"clip_norm": 1.0},
        {"scoring": "loss"},
    ],
    ids=str,
)
def test_lbfgs_names_what_it_has_no_use_for(given):
    X, y = make_data("regression")
    (name,) = given
    with pytest.raises(ValueError, match=rf"^{name}=.* has no meaning for solver='lbfgs'.* sgd, "):
        ours("regression", solver="lbfgs", **given).fit(X, y)
    # What changes nothing is no mistake.
    ours("regression", solver="lbfgs", dropout=[0.0], clip_norm=None).fit(X, y)


def test_lbfgs_in_float32():
    """Noise of the size of float32 ends a line search: that far the ends agree."""
    X, y = make_data("regression")
    settings = {"solver": "lbfgs", "hidden_layer_sizes": (), "max_iter": 200}
    wanted = original("regression", **settings).fit(X, y)
    found = ours("regression", dtype="float32", **settings).fit(X, y)
    assert {array.dtype.name for array in found.coefs_ + found.intercepts_} == {"float32"}
    assert found.loss_ == pytest.approx(wanted.loss_, rel=2.0**-20)
    # The loss is flat at its end: weights are off by the root of what it is off by.
    assert_close(found.coefs_, wanted.coefs_, 2.0**-10)


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", "adagrad", fastgd.SGD(0.1)], ids=str)
def test_schedules_of_sgd_are_for_sgd(solver):
    X, y = make_data("regression")
    with pytest.raises(ValueError, match="learning_rate='adaptive' is for solver='sgd'"):
        ours("regression", solver=solver, learning_rate="adaptive").fit(X, y)


def test_parameters_are_kept_as_they_were():
    """Changing a list afterwards is changing the parameter."""
    X, y = make_data("regression")
    activation = ["tanh"]
    model = ours("regression", activation=activation).fit(X, y)
    activation[0] = "relu"
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    wanted = (hidden @ model.coefs_[1] + model.intercepts_[1]).ravel()
    assert_close([model.predict(X)], [wanted], 1e-14)


def test_fit_ends_where_a_callback_that_is_told_late_asks_for_it():
    """What is recorded belongs to the weights, which are those of all epochs of the call."""
    X, y = make_data("regression")

    class Late(fastgd.Callback):
        every_epoch = False

        def on_epoch_end(self, epoch, logs):
            self.network.stop_training = epoch == 1

    model = ours("regression", callbacks=[Late()], max_iter=50).fit(X, y)
    assert 2 <= model.n_iter_ == len(model.loss_curve_) == len(model.history_.epoch) < 50
    wanted = ours("regression", max_iter=model.n_iter_).fit(X, y)
    assert_close(model.coefs_, wanted.coefs_, 1e-15)


def test_callback_ends_lbfgs_without_a_warning():
    X, y = make_data("regression")

    class Stop(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.stop_training = epoch == 2

    with warnings.catch_warnings(action="error"):
        model = ours("regression", solver="lbfgs", max_iter=50, callbacks=[Stop()]).fit(X, y)
    assert model.n_iter_ == 3


class Steps(fastgd.Callback):
    """Keeps what is reported of single steps."""

    def on_fit_begin(self):
        self.batches, self.progress = [], []

    def on_batch_end(self, step, loss):
        self.batches.append((step, loss))

    def on_progress(self, steps):
        self.progress.append(steps)


def test_steps_of_sparse_data_are_reported(monkeypatch):
    X, y = make_data("multiclass")
    # Two batches a block.
    monkeypatch.setattr("fastgd.sklearn._live.BLOCK_BYTES", 2 * 32 * X.shape[1] * 8)
    seen = []
    for data in (X, sparse.csr_array(X)):
        steps = Steps()
        ours("multiclass", callbacks=[steps]).fit(data, y)
        seen.append(steps)
    dense, by_blocks = seen
    assert [step for step, _ in by_blocks.batches] == list(range(12))
    assert_close([by_blocks.batches], [dense.batches])
    assert by_blocks.progress == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("kind", CLASSIFIER_KINDS)
def test_checkpoint_knows_the_classes(kind, tmp_path):
    X, y = make_data(kind)
    path = tmp_path / "best.safetensors"
    model = ours(kind, callbacks=[fastgd.Checkpoint(path)]).fit(X, y)
    again = MLPClassifier.from_network(fastgd.load(path))
    assert again.predict(X).tolist() == model.predict(X).tolist()


@pytest.mark.parametrize("category", [ConvergenceWarning])
def test_nothing_else_warns(category):
    X, y = make_data("multiclass")
    with pytest.warns(category):
        ours("multiclass", dropout=0.1, clip_norm=1.0).fit(X, y)
