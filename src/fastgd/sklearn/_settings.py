"""The added parameters: what they may be, and what all parameters mean to the engine."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions

from .. import activations, optimizers, schedules
from ..activations import Activation
from ..callbacks import Callback
from ..config import threads_in_force
from ..losses import CrossEntropy, Huber, LogLoss, Loss
from ..optimizers import Optimizer
from . import _originals

__all__ = [
    "ADDED",
    "ADDED_TO_CLASSIFIER",
    "ADDED_TO_REGRESSOR",
    "CLASSIFIER_CONSTRAINTS",
    "REGRESSION_LOSSES",
    "REGRESSOR_CONSTRAINTS",
    "STOCHASTIC",
    "check",
    "check_loss",
    "hidden_activations",
    "hidden_dropout",
    "hidden_sizes",
    "init_factor",
    "loss_of",
    "loss_scale",
    "n_threads_of",
    "optimizer_of",
    "output_activation",
    "schedule_of",
]

#: name -> default of the keyword-only parameters that both classes add
ADDED: dict[str, Any] = {
    "dropout": 0.0,
    "lr_schedule": None,
    "weight_decay": 0.0,
    "clip_value": None,
    "clip_norm": None,
    "scoring": None,
    "callbacks": None,
    "progress_bar": False,
    "n_threads": None,
    "dtype": None,
}
ADDED_TO_CLASSIFIER: dict[str, Any] = {**ADDED, "class_weight": None}
# scikit-learn 1.6 has no loss: what a version lacks is added by keyword.
ADDED_TO_REGRESSOR: dict[str, Any] = {"loss": "squared_error", **ADDED}

STOCHASTIC = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
# Added parameters that change nothing where there are no mini-batches.
_OF_STOCHASTIC = ("lr_schedule", "weight_decay", "clip_value", "clip_norm", "scoring")
# scikit-learn's name of the sigmoid.
_LOGISTIC = "logistic"
HIDDEN_ACTIVATIONS = (
    _LOGISTIC,
    *(name for name in activations.NAMES if name != "softmax"),
)
REGRESSION_LOSSES = ("squared_error", "poisson", "absolute_error", "huber")

CONSTRAINTS: dict[str, list[Any]] = {
    "activation": [StrOptions(set(HIDDEN_ACTIVATIONS)), Activation, list, tuple],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC}), Optimizer],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "lr_schedule": [None, schedules.Schedule, callable],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_value": [None, Interval(Real, 0, None, closed="neither")],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "scoring": [None, StrOptions({"loss", *get_scorer_names()}), callable],
    "callbacks": [None, Callback, list, tuple],
    "progress_bar": ["boolean"],
    "n_threads": [None, Interval(Integral, 1, None, closed="left")],
    "dtype": [None, StrOptions({"float32", "float64"})],
}
CLASSIFIER_CONSTRAINTS = {**CONSTRAINTS, "class_weight": [None, dict, StrOptions({"balanced"})]}
REGRESSOR_CONSTRAINTS = {**CONSTRAINTS, "loss": [StrOptions(set(REGRESSION_LOSSES))]}


def check(estimator: Any, n_hidden: int) -> None:
    """Check what constraints cannot: values by layer, and those that would count for nothing."""
    hidden_activations(estimator.activation, n_hidden)
    rates = hidden_dropout(estimator.dropout, n_hidden)
    if isinstance(estimator.solver, Optimizer) or estimator.solver in STOCHASTIC:
        return
    if estimator.solver != "lbfgs":
        # In partial_fit parameters are not validated again.
        raise ValueError(
            f"solver must be one of lbfgs, {', '.join(STOCHASTIC)}, or an object from "
            f"fastgd.optimizers; got {estimator.solver!r}"
        )
    idle = [name for name in _OF_STOCHASTIC if getattr(estimator, name) != ADDED[name]]
    for name in [*(["dropout"] if any(rates) else []), *idle]:
        raise ValueError(
            f"{name}={getattr(estimator, name)!r} has no meaning for solver='lbfgs', which has no "
            f"mini-batches; use one of the solvers {', '.join(STOCHASTIC)}"
        )


def check_loss(estimator: Any) -> None:
    """Refuse a loss that does not go with the output activation of an earlier fit."""
    if (estimator.loss == "poisson") != (estimator.out_activation_ == "exp"):
        raise ValueError(
            f"loss={estimator.loss!r} does not go with the output activation "
            f"{estimator.out_activation_!r} of the fit that this one continues; begin anew, by fit "
            "with warm_start=False"
        )


def per_hidden_layer(name: str, value: Any, n_hidden: int) -> list[Any]:
    """Return one value for each hidden layer, given one for all or one for each."""
    if not isinstance(value, list | tuple):
        return [value] * n_hidden
    if len(value) != n_hidden:
        raise ValueError(
            f"{name} must be one value, or one for each of the {n_hidden} hidden layers; "
            f"got {len(value)}: {value!r}"
        )
    return list(value)


def hidden_activations(activation: Any, n_hidden: int) -> list[Activation]:
    """Return the activation of each hidden layer."""
    return [_activation(one) for one in per_hidden_layer("activation", activation, n_hidden)]


def _activation(one: Any) -> Activation:
    if isinstance(one, Activation) and one.name != "softmax":
        return one
    if not isinstance(one, str) or one not in HIDDEN_ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {', '.join(HIDDEN_ACTIVATIONS)}, an object from "
            f"fastgd.activations other than Softmax, or a list of them; got {one!r}"
        )
    return activations.get("sigmoid" if one == _LOGISTIC else one)


def init_factor(activation: Any, layer: int) -> float:
    """Return the numerator under the root in scikit-learn's bound of a layer's first weights.

    The output layer has that of the last hidden one.
    """
    each = activation if isinstance(activation, list | tuple) else [activation]
    return 2.0 if each and _activation(each[min(layer, len(each) - 1)]).name == "sigmoid" else 6.0


def output_activation(name: str) -> Activation:
    """Return the activation that scikit-learn's out_activation_ names."""
    return activations.get("sigmoid" if name == _LOGISTIC else name)


def hidden_dropout(dropout: Any, n_hidden: int) -> list[float]:
    """Return the dropout of each hidden layer."""
    rates = per_hidden_layer("dropout", dropout, n_hidden)
    for rate in rates:
        if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
            raise ValueError(f"dropout must be from 0 to below 1; got {rate!r}")
    return [float(rate) for rate in rates]


def loss_of(estimator: Any, dtype: np.dtype[Any]) -> str | Loss:
    """Return the engine's loss, with probabilities clipped where scikit-learn clips them."""
    if estimator.loss == "log_loss":
        clip = float(np.finfo(dtype).eps)
        is_multiclass = estimator.out_activation_ == "softmax"
        return CrossEntropy(clip) if is_multiclass else LogLoss(clip)
    return Huber() if estimator.loss == "huber" else str(estimator.loss)


def loss_scale(estimator: Any) -> float:
    """Return what the summed loss of a sample counts: scikit-learn's squared error is a mean."""
    n_outputs = len(estimator.intercepts_[-1])
    return 1 / n_outputs if estimator.loss == "squared_error" else 1.0


def optimizer_of(estimator: Any) -> Optimizer:
    """Return the optimiser that the parameters ask for; the learning rate is the first one."""
    solver = estimator.solver
    # scikit-learn's adam has always left it aside.
    is_original = isinstance(solver, str) and solver in ("sgd", "adam")
    if estimator.learning_rate != "constant" and not is_original:
        raise ValueError(
            f"learning_rate={estimator.learning_rate!r} is for solver='sgd'; give "
            f"solver={solver!r} a schedule from fastgd.schedules as its learning rate"
        )
    if isinstance(solver, Optimizer):
        for name in ("lr_schedule", "weight_decay", "clip_value", "clip_norm"):
            if getattr(estimator, name) != ADDED[name]:
                raise ValueError(
                    f"{name}={getattr(estimator, name)!r} belongs to the optimizer object that "
                    f"solver holds: {solver!r}"
                )
        return solver.own_copy()
    lr = copy.deepcopy(estimator.lr_schedule)
    if lr is None:
        lr = float(estimator.learning_rate_init)
    elif solver == "sgd" and estimator.learning_rate != "constant":
        raise ValueError(
            f"give either lr_schedule or learning_rate={estimator.learning_rate!r}, not both"
        )
    common = {
        "weight_decay": estimator.weight_decay,
        "clip_value": estimator.clip_value,
        "clip_norm": estimator.clip_norm,
    }
    if solver == "sgd":
        momentum = float(estimator.momentum)
        nesterov = bool(estimator.nesterovs_momentum) and momentum > 0
        return optimizers.SGD(lr, momentum, nesterov, **common, variant="sklearn")
    if solver in ("adam", "adamw"):
        betas = float(estimator.beta_1), float(estimator.beta_2), float(estimator.epsilon)
        if solver == "adam":
            return optimizers.Adam(lr, *betas, **common, variant="sklearn")
        return optimizers.AdamW(lr, *betas, **common)
    kind = optimizers.RMSprop if solver == "rmsprop" else optimizers.Adagrad
    return kind(lr, **common)


def schedule_of(estimator: Any) -> _originals.BaseOptimizer:
    """Return scikit-learn's object for the learning rate from epoch to epoch, without arrays."""
    lr = estimator.learning_rate_init
    if isinstance(estimator.solver, str) and estimator.solver == "sgd":
        return _originals.SGDOptimizer(
            [],
            lr,
            estimator.learning_rate,
            estimator.momentum,
            estimator.nesterovs_momentum,
            estimator.power_t,
        )
    if isinstance(estimator.solver, str) and estimator.solver == "adam":
        return _originals.AdamOptimizer(
            [], lr, estimator.beta_1, estimator.beta_2, estimator.epsilon
        )
    return _originals.BaseOptimizer(lr)


def n_threads_of(estimator: Any) -> int:
    """Return the number of threads in force."""
    return threads_in_force(estimator.n_threads)


def hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return hidden_layer_sizes as a list."""
    is_one = not hasattr(hidden_layer_sizes, "__iter__")
    sizes = [hidden_layer_sizes] if is_one else list(hidden_layer_sizes)
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes
