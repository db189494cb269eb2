"""scikit-learn's own classes, whatever `patch` has put in their place, and what they have.

What differs between the versions is asked of them here, and nowhere by the number of a version.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sklearn.neural_network import _multilayer_perceptron as _module
from sklearn.neural_network._base import ACTIVATIONS
from sklearn.neural_network._stochastic_optimizers import (
    AdamOptimizer,
    BaseOptimizer,
    SGDOptimizer,
)

__all__ = [
    "NEEDS_TWO_TO_VALIDATE",
    "TAKES_SAMPLE_WEIGHT",
    "AdamOptimizer",
    "BaseOptimizer",
    "MLPClassifier",
    "MLPRegressor",
    "SGDOptimizer",
    "computes",
    "parameters",
    "weighted_as_installed",
]

MLPClassifier = _module.MLPClassifier
MLPRegressor = _module.MLPRegressor

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
