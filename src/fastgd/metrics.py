"""Metrics: how good outputs are, as people count it. They never take part in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ._numbers import one
from ._validate import Array, choice

__all__ = ["accuracy", "get", "mae", "mse", "r2"]

MetricFunction: TypeAlias = Callable[..., Any]
Metrics: TypeAlias = str | MetricFunction | Sequence[str | MetricFunction]


def accuracy(
    y: Array, output: Array, sample_weight: Array | None = None, *, multilabel: bool = False
) -> float:
    """Return the share of right classifications.

    Parameters
    ----------
    y : ndarray
        Labels (n_samples,), or targets from 0 to 1 of the shape of output.
    output : ndarray (n_samples, units)
        The greatest output is the predicted class; a single output is a yes or no with the border
        at 0.5.
    sample_weight : ndarray (n_samples,), optional
    multilabel : bool
        Take every output as a yes or no of its own, as a network with log_loss means them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import metrics
    >>> metrics.accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    0.5
    """
    if y.ndim == 1 and output.shape[1] > 1:
        return _mean(output.argmax(axis=1) == y, sample_weight)
    _check_zero_to_one(y)
    if output.shape[1] > 1 and not multilabel:
        right = output.argmax(axis=1) == y.argmax(axis=1)
    else:
        right = ((output > 0.5) == (y.reshape(output.shape) > 0.5)).mean(axis=1)
    return _mean(right, sample_weight)


def mse(y: Array, output: Array, sample_weight: Array | None = None) -> float:
    """Return the mean squared error over samples and outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import metrics
    >>> metrics.mse(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    2.0
    """
    return _mean(np.square(_errors(y, output)).mean(axis=1), sample_weight)


def mae(y: Array, output: Array, sample_weight: Array | None = None) -> float:
    """Return the mean absolute error over samples and outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import metrics
    >>> metrics.mae(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    1.0
    """
    return _mean(np.abs(_errors(y, output)).mean(axis=1), sample_weight)


def r2(y: Array, output: Array, sample_weight: Array | None = None) -> float:
    """Return 1 - squared error / variance of the targets, averaged over outputs.

    An output whose targets are all the same counts 1 if it is exact and 0 otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import metrics
    >>> metrics.r2(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [2.0]]))
    0.5
    """
    target = _target(y, output)
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    mean = (weight @ target) / weight.sum()
    error = weight @ np.square(_errors(y, output))
    spread = weight @ np.square(target - mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(spread > 0, 1 - error / spread, np.where(error > 0, 0.0, 1.0))
    return float(scores.mean())


BUILT_IN: dict[str, MetricFunction] = {
    "accuracy": accuracy,
    "mse": mse,
    "mae": mae,
    "r2": r2,
}


def get(metrics: Metrics) -> dict[str, MetricFunction]:
    """Return functions by name for the ``metrics`` argument of fit and evaluate.

    Parameters
    ----------
    metrics : str or callable, or a sequence of them
        Names "accuracy", "mse", "mae", "r2", or functions called as ``f(y, output)``, and with
        ``sample_weight=`` as well if there are weights; they appear under their ``__name__``, and
        under ``val_`` and that name for validation data.

    Examples
    --------
    >>> from fastgd import metrics
    >>> list(metrics.get(["mse", "r2"]))
    ['mse', 'r2']
    """
    if isinstance(metrics, str) or callable(metrics):
        metrics = (metrics,)
    if not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be names or callables, not {metrics!r}")
    found: dict[str, MetricFunction] = {}
    for metric in metrics:
        if callable(metric):
            name, function = str(getattr(metric, "__name__", type(metric).__name__)), metric
        else:
            name = choice("metric", metric, BUILT_IN, ", or a callable")
            function = BUILT_IN[name]
        if name in found or name in ("loss", "lr", "seconds"):
            raise ValueError(f"two values would be called {name!r}; rename the metric")
        found[name] = function
    for name in ("loss", *found):
        if f"val_{name}" in found:
            raise ValueError(
                f"the metric 'val_{name}' has the name of {name!r} of validation data; rename it"
            )
    return found


def check(
    functions: Mapping[str, MetricFunction], y: Array, n_outputs: int, name: str = "y"
) -> None:
    """Refuse targets that a metric of the package would refuse, before anything is trained."""
    has_labels = y.ndim == 1 and n_outputs > 1
    if functions.get("accuracy") is accuracy and not has_labels:
        _check_zero_to_one(y, name)


def _check_zero_to_one(y: Array, name: str = "y") -> None:
    if y.min() < 0 or y.max() > 1:
        place = tuple(map(int, np.argwhere((y < 0) | (y > 1))[0]))
        index = ", ".join(map(str, place))
        raise ValueError(
            f"accuracy needs class labels, or targets from 0 to 1, but {name}[{index}] is "
            f"{y[place]}"
        )


def evaluate(
    functions: dict[str, MetricFunction],
    y: Array,
    output: Array,
    sample_weight: Array | None,
    prefix: str = "",
) -> dict[str, float]:
    """Return the values of metrics under their names."""
    extra = {} if sample_weight is None else {"sample_weight": sample_weight}
    return {
        prefix + name: one(f"what the metric {name!r} returns", function(y, output, **extra))
        for name, function in functions.items()
    }


def _target(y: Array, output: Array) -> Array:
    """Return targets of the output's shape in float64; labels become rows with a single one."""
    if y.ndim > 1 or output.shape[1] == 1:
        return y.reshape(output.shape).astype(np.float64)
    rows = np.zeros(output.shape)
    rows[np.arange(len(y)), y] = 1
    return rows


def _errors(y: Array, output: Array) -> Array:
    return output - _target(y, output)


def _mean(values: Array, sample_weight: Array | None) -> float:
    return float(np.average(values.astype(np.float64), weights=sample_weight))
