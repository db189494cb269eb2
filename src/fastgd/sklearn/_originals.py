"""scikit-learn's own classes, whatever `patch` has put in their place, and what they have."""

from __future__ import annotations

import inspect

from sklearn.neural_network import _multilayer_perceptron as _module
from sklearn.neural_network._stochastic_optimizers import (
    AdamOptimizer,
    BaseOptimizer,
    SGDOptimizer,
)

__all__ = [
    "TAKES_SAMPLE_WEIGHT",
    "AdamOptimizer",
    "BaseOptimizer",
    "MLPClassifier",
    "MLPRegressor",
    "SGDOptimizer",
    "parameters",
]

MLPClassifier = _module.MLPClassifier
MLPRegressor = _module.MLPRegressor

# From 1.7 on.
TAKES_SAMPLE_WEIGHT = "sample_weight" in inspect.signature(MLPClassifier.fit).parameters


def parameters(original: type) -> list[inspect.Parameter]:
    """Return the parameters of a class's constructor, without self."""
    return list(inspect.signature(original).parameters.values())
