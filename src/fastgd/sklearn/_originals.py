"""scikit-learn's own classes, whatever `patch` has put in their place, and what they have.

What differs between the versions is asked of them here, and nowhere by the number of a version.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

from sklearn.neural_network import _multilayer_perceptron as _module
from sklearn.neural_network._base import ACTIVATIONS
from sklearn.neural_network._stochastic_optimizers import (
    AdamOptimizer,
    BaseOptimizer,
    SGDOptimizer,
)
from sklearn.utils.optimize import _check_optimize_result

__all__ = [
    "CHECKS",
    "NEEDS_TWO_TO_VALIDATE",
    "SCORES",
    "TAKES_SAMPLE_WEIGHT",
    "AdamOptimizer",
    "BaseOptimizer",
    "MLPClassifier",
    "MLPRegressor",
    "SGDOptimizer",
    "check_optimize_result",
    "computes",
    "parameters",
    "warn",
    "weighted_as_installed",
]

MLPClassifier = _module.MLPClassifier
MLPRegressor = _module.MLPRegressor

# How validation data are scored, unless a subclass has another way.
SCORES = MLPClassifier._score, MLPRegressor._score

# How data are checked, likewise.
CHECKS = MLPClassifier._validate_input, MLPRegressor._validate_input

# From 1.7 on.
TAKES_SAMPLE_WEIGHT = "sample_weight" in inspect.signature(MLPClassifier.fit).parameters
# Before that a single sample will do for early stopping; the error came with the weights.
NEEDS_TWO_TO_VALIDATE = TAKES_SAMPLE_WEIGHT


def parameters(original: type) -> list[inspect.Parameter]:
    """Return the parameters of a class's constructor, without self."""
    return list(inspect.signature(original).parameters.values())


def computes(estimator: Any) -> bool:
    """Tell whether the originals have the activations of an estimator."""
    is_one = isinstance(estimator.activation, str)
    return is_one and {estimator.activation, estimator.out_activation_} <= ACTIVATIONS.keys()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as training by mini-batches does: filters go by the module, and what is shown by line.

    The registry that would keep a repeated warning back is new: scikit-learn's forgets all it knows
    whenever data are checked, which is in each fit.
    """
    code = _module.BaseMultilayerPerceptron._fit_stochastic.__code__
    where = code.co_filename, code.co_firstlineno, _module.__name__
    warnings.warn_explicit(message, category, *where, registry={})


def _ask(result: Any, max_iter: int) -> Any:
    return _check_optimize_result("lbfgs", result, max_iter)


def check_optimize_result(result: Any, max_iter: int) -> int:
    """Return the iterations that scipy's L-BFGS-B made; warns if it did not converge.

    scikit-learn's function warns in the name of its caller, which is to be where the originals call
    it.
    """
    theirs = _module.BaseMultilayerPerceptron._fit_lbfgs.__code__
    code = _ask.__code__.replace(
        co_filename=theirs.co_filename, co_firstlineno=theirs.co_firstlineno
    )
    names = {"__name__": _module.__name__, _check_optimize_result.__name__: _check_optimize_result}
    return int(FunctionType(code, names)(result, max_iter))


def weighted_as_installed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method without its parameter sample_weight if the originals have none.

    It could be kept by keyword, but meta-estimators look for its name: bagging, for one, draws
    weights in place of samples where it finds it, and the numbers would be others.
    """
    if TAKES_SAMPLE_WEIGHT:
        return method
    parameters = dict(inspect.signature(method).parameters)
    del parameters["sample_weight"]
    signature = inspect.Signature(list(parameters.values()))

    @functools.wraps(method)
    def without(*args: Any, **kwargs: Any) -> Any:
        return method(**signature.bind(*args, **kwargs).arguments)

    without.__signature__ = signature  # type: ignore[attr-defined]
    return without
