"""What the tests of fastgd.sklearn beside scikit-learn share: data, axes, runs and comparison.

A cell is one value for each axis. `run` trains one class on a cell; `differences` holds two
trained estimators against each other. Nothing here knows how fastgd trains.
"""

import collections
import copy
import itertools
import warnings
from typing import NamedTuple

import numpy as np
from scipy import sparse

from fastgd.sklearn import MLPClassifier, MLPRegressor, _originals
from sklearn_features import HAS_REGRESSOR_LOSS, HAS_SAMPLE_WEIGHT, messages

ORIGINAL = {"classifier": _originals.MLPClassifier, "regressor": _originals.MLPRegressor}
OURS = {"classifier": MLPClassifier, "regressor": MLPRegressor}

SGD = {
    f"{schedule}-{momentum}": {"solver": "sgd", "learning_rate": schedule, **settings}
    for schedule in ("constant", "invscaling", "adaptive")
    for momentum, settings in {
        "plain": {"momentum": 0.0},
        "momentum": {"momentum": 0.9, "nesterovs_momentum": False},
        "nesterov": {"momentum": 0.9, "nesterovs_momentum": True},
    }.items()
}
SOLVERS = SGD | {"adam": {"solver": "adam"}}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
CLASSIFIER_KINDS = ("binary", "multiclass", "multilabel")
REGRESSOR_KINDS = ("regression", "multi-output", *(("poisson",) if HAS_REGRESSOR_LOSS else ()))
KINDS = CLASSIFIER_KINDS + REGRESSOR_KINDS
MODES = (
    "plain",
    *(("sample_weight",) if HAS_SAMPLE_WEIGHT else ()),
    "early_stopping",
    "warm_start",
    "partial_fit",
    "csr",
    "csc",
)
DTYPES = ("float64", "float32")
HIDDEN = ((7,), (6, 5))
# of 97 samples: one batch; a last one of a single sample; a last one of six
BATCH_SIZES = ("auto", 32, 13)

AXES = {
    "solver": tuple(SOLVERS),
    "activation": ACTIVATIONS,
    "kind": KINDS,
    "mode": MODES,
    "dtype": DTYPES,
    "hidden": ((), *HIDDEN),
    "batch_size": BATCH_SIZES,
}

EPOCHS = {"float64": 20, "float32": 5}
BOUND = {"float64": 1e-9, "float32": 1e-4}

# Attributes that must be equal, those that are numbers or arrays within the bound, and those that
# fastgd adds.
EXACT = (
    "n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_",
    "_no_improvement_count",
)  # fmt: skip
CLOSE = (
    "loss_", "best_loss_", "best_validation_score_", "loss_curve_", "validation_scores_", "coefs_",
    "intercepts_",
)  # fmt: skip
ADDED = {"history_", "validation_loss_curve_"}


class Cell(NamedTuple):
    """One value of each axis."""

    solver: str = "adam"
    activation: str = "relu"
    kind: str = "multiclass"
    mode: str = "plain"
    dtype: str = "float64"
    hidden: tuple = (7,)
    batch_size: object = 32

    def __str__(self):
        hidden = "x".join(map(str, self.hidden)) or "linear"
        return "-".join(map(str, (*self[:5], hidden, self.batch_size)))


def pairwise(axes):
    """Return rows in which every two values of different axes meet at least once.

    Greedy: each row starts from the first pair that has not met, and takes for every other axis
    the value that adds most pairs, of equals the one used least. Always the same rows for the same
    axes.
    """
    axes = [tuple(axis) for axis in axes]
    used = collections.Counter()
    missing = {
        (i, a, j, b): None  # a dict, since a set has no order
        for i, j in itertools.combinations(range(len(axes)), 2)
        for a in range(len(axes[i]))
        for b in range(len(axes[j]))
    }

    def gain(row, axis, value):
        pairs = ((axis, value, k, row[k]) if axis < k else (k, row[k], axis, value) for k in row)
        return sum(pair in missing for pair in pairs), -used[axis, value]

    rows = []
    while missing:
        i, a, j, b = next(iter(missing))
        row = {i: a, j: b}
        for axis in set(range(len(axes))) - {i, j}:
            gains = {v: gain(row, axis, v) for v in range(len(axes[axis]))}
            row[axis] = max(gains, key=gains.get)
        used.update(row.items())
        for k, m in itertools.combinations(range(len(axes)), 2):
            missing.pop((k, row[k], m, row[m]), None)
        rows.append(tuple(axis[row[k]] for k, axis in enumerate(axes)))
    return rows


def make_data(kind, dtype="float64", n=97, n_features=6, seed=0):
    """Return standardised X and a y that depends on it, with some noise."""
    rng = np.random.default_rng([seed, n, n_features])
    X = rng.normal(size=(n, n_features))
    z = np.tanh(X @ rng.normal(size=(n_features, 4))) + 0.8 * rng.normal(size=(n, 4))
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(dtype)
    if kind == "binary":
        return X, np.array(["no", "yes"])[(z[:, 0] > 0).astype(int)]
    if kind == "multiclass":
        return X, np.array([-3, 2, 5, 11])[z.argmax(axis=1)]
    if kind == "multilabel":
        return X, (z[:, :3] > 0.1).astype(int)
    if kind == "poisson":
        return X, rng.poisson(np.exp(z[:, 0])).astype(float)
    return X, z[:, 0] if kind == "regression" else z[:, :3]


def make_weights(n, seed=0):
    """Return sample weights from 0.1 to 3."""
    return np.random.default_rng([seed, n]).uniform(0.1, 3.0, size=n)


def sparsify(X, layout):
    """Return X without its entries of small magnitude, as a sparse array of the layout."""
    return getattr(sparse, f"{layout}_array")(np.where(abs(X) < 0.5, 0, X).astype(X.dtype))


def estimator_type(kind):
    """Return the key into ORIGINAL and OURS for a kind of targets."""
    return "classifier" if kind in CLASSIFIER_KINDS else "regressor"


def first_classes(kind, y):
    """Return what the first partial_fit needs besides X and y."""
    if kind == "multilabel":
        return {"classes": np.arange(y.shape[1])}
    return {"classes": np.unique(y)} if kind in CLASSIFIER_KINDS else {}


def parameters(cell):
    """Return the constructor's arguments for a cell."""
    made = {
        "hidden_layer_sizes": cell.hidden,
        "activation": cell.activation,
        "alpha": 0.01,
        "batch_size": cell.batch_size,
        "learning_rate_init": 0.02,
        "max_iter": EPOCHS[cell.dtype],
        "random_state": 7,
        "n_iter_no_change": EPOCHS[cell.dtype],
        **SOLVERS[cell.solver],
    }
    if made.get("learning_rate") == "adaptive":
        # so that the rate is reduced several times on the way
        made |= {"tol": 0.02, "n_iter_no_change": 2 if cell.dtype == "float64" else 1}
    if cell.kind == "poisson":
        # With 0.02 a cell's only output bias ends at 4e-4, where adding up scikit-learn's own sums
        # in reverse moves it by 4e-4 of itself: nothing could agree to 1e-4 there.
        made |= {"loss": "poisson", "learning_rate_init": 0.005}
    if cell.mode == "early_stopping":
        made |= {"early_stopping": True, "validation_fraction": 0.2}
    if cell.mode == "warm_start":
        made |= {"warm_start": True, "max_iter": EPOCHS[cell.dtype] // 2}
    return made


def run(classes, cell):
    """Train on a cell; return the estimator and the warnings as (category, message)."""
    X, y = make_data(cell.kind, cell.dtype)
    model = classes[estimator_type(cell.kind)](**parameters(cell))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if cell.mode == "sample_weight":
            model.fit(X, y, sample_weight=make_weights(len(X)))
        elif cell.mode == "warm_start":
            model.fit(X, y)
            model.set_params(max_iter=EPOCHS[cell.dtype] - model.max_iter).fit(X, y)
        elif cell.mode == "partial_fit":
            first = first_classes(cell.kind, y)
            for epoch in range(EPOCHS[cell.dtype]):
                # every third call has fewer samples than the others
                rows = slice(60 if epoch % 3 == 1 else None)
                model.partial_fit(X[rows], y[rows], **(first if epoch == 0 else {}))
        elif cell.mode in ("csr", "csc"):
            model.fit(sparsify(X, cell.mode), y)
        else:
            model.fit(X, y)
    return model, messages(caught)


def attempt(action, *args, **kwargs):
    """Return what a call raises, as (type, message), or None; and the warnings before it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action(*args, **kwargs)
        except Exception as raised:
            return (type(raised), str(raised)), messages(caught)
    return None, messages(caught)


def state(model):
    """Return the attributes but for the parameters."""
    names = vars(model).keys() - model.get_params(deep=False).keys() - {"_attempts"}
    return {name: getattr(model, name) for name in names}


def is_unchanged(model, before):
    """Tell whether the attributes are still those that `state` has returned."""
    now = state(model)
    return now.keys() == before.keys() and all(now[name] is before[name] for name in now)


def attempt_both(action, original, ours):
    """Return what a function of the estimator raises with either, as `attempt` does.

    A call that is refused before it trains leaves ours as it was, and the original with first
    weights, other classes and the like: then it is put back.
    """
    before, kept = copy.deepcopy(original), state(ours)
    wanted, given = (attempt(action, model) for model in (original, ours))
    if wanted[0] is not None and is_unchanged(ours, kept):
        # What the original has trained is not put back.
        assert getattr(original, "loss_curve_", []) in ([], getattr(before, "loss_curve_", []))
        parameters = original.get_params(deep=False)
        vars(original).clear()
        vars(original).update(vars(before))
        original.set_params(**parameters)
    return wanted, given


def error(wanted, given):
    """Return the largest difference over the largest value; inf where shapes or NaNs differ."""
    wanted, given = np.asarray(wanted), np.asarray(given)
    if wanted.shape != given.shape or (np.isnan(wanted) != np.isnan(given)).any():
        return np.inf
    wanted, given = (np.nan_to_num(a.astype(float)) for a in (wanted, given))
    difference = abs(wanted - given).max(initial=0)
    return difference / abs(wanted).max() if difference else 0.0


def number_errors(original, ours, X):
    """Return the error of every number that training has left, by name."""
    errors = {}
    for name in CLOSE:
        wanted, given = getattr(original, name, None), getattr(ours, name, None)
        if wanted is None or given is None:
            errors[name] = 0.0 if wanted is given else np.inf
        elif name in ("coefs_", "intercepts_"):
            for i, (w, g) in enumerate(zip(wanted, given, strict=True)):
                errors[f"{name}[{i}]"] = error(w, g) if w.dtype == g.dtype else np.inf
        else:
            errors[name] = error(wanted, given)
    if hasattr(getattr(original, "_optimizer", None), "lr_schedule"):
        rates = (model._optimizer.learning_rate for model in (original, ours))
        errors["learning_rate"] = error(*rates)
    method = "predict_proba" if hasattr(original, "predict_proba") else "predict"
    wanted, given = getattr(original, method)(X), getattr(ours, method)(X)
    errors[method] = error(wanted, given) if wanted.dtype == given.dtype else np.inf
    return errors


def fitted(model):
    """Return the names of the public attributes that training has made."""
    return {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}


def differences(original, ours, X, bound):
    """Return what differs between two trained estimators: {name: how}; empty if they agree."""
    found = {
        name: (getattr(original, name, None), getattr(ours, name, None))
        for name in EXACT
        if getattr(original, name, None) != getattr(ours, name, None)
    }
    if fitted(ours) - ADDED != fitted(original):
        found["attributes"] = fitted(ours) ^ fitted(original)
    if hasattr(original, "classes_"):
        for name, wanted, given in (
            ("classes_", original.classes_, ours.classes_),
            ("predict", original.predict(X), ours.predict(X)),
        ):
            if wanted.dtype != given.dtype or not np.array_equal(wanted, given):
                found[name] = (wanted, given)
    errors = number_errors(original, ours, X)
    # "not at most" and not "above", so that NaN is a difference
    return found | {name: size for name, size in errors.items() if not size <= bound}


def reordered(original):
    """Return a subclass of scikit-learn's class that adds up every dot product in reverse.

    For dense X without sample weights. What its results differ by from the original's is the part
    of them that rounding decides.
    """

    class Reordered(original):
        def _backprop(self, X, y, *rest):
            X = rest[-4][0] = X[::-1]  # also the first of the activations
            return super()._backprop(X, y[::-1], *rest)

        def _forward_pass(self, activations):
            forward = copy.copy(self)
            X, first = activations[0], self.coefs_[0]
            forward.coefs_ = [np.ascontiguousarray(first[::-1]), *self.coefs_[1:]]
            activations[0] = np.ascontiguousarray(X[:, ::-1])
            original._forward_pass(forward, activations)
            activations[0] = X
            return activations

    return Reordered
