"""PyTorch's losses in the engine's terms: a kernel, its output activation, targets and weights.

The engine sums a loss over the outputs and averages it over the samples; what PyTorch does instead
becomes a factor, weights of the samples, or rows of probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .. import losses
from .._pairing import check_classes
from .._validate import Array, _finite, labels, real_array
from ..activations import Activation
from ..losses import Loss
from ._modules import Output, refuse_hooks

__all__ = ["Objective", "Targets", "as_array", "objective"]


class Targets(NamedTuple):
    """Targets as the engine takes them, and weights of the samples or None."""

    y: Array
    weight: Array | None


@dataclass
class Objective:
    """A loss of PyTorch's, read.

    Attributes
    ----------
    loss : Loss
        The engine's.
    activation : str or Activation
        Of the last layer.
    scale : float
        The factor of the engine's loss and of its gradient.
    is_sum : bool
        Whether samples are added up, instead of averaged.
    prepare : callable
        ``prepare(y, n_samples, name)`` returns the targets, checked.
    """

    loss: Loss
    activation: str | Activation
    scale: float
    is_sum: bool
    prepare: Callable[[object, int, str], Targets]


def as_array(name: str, value: object) -> Array:
    """Return a tensor or array as an ndarray of a real dtype: a view, where the dtype allows it."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise ValueError(f"{name} is on {value.device}: give {name.split()[-1]}.cpu()")
        if value.layout != torch.strided:
            raise ValueError(f"{name} is {value.layout}: give {name.split()[-1]}.to_dense()")
        try:
            array = value.detach().resolve_conj().resolve_neg().numpy()
        except TypeError:  # bfloat16 and others that NumPy has not
            raise ValueError(f"{name} is {value.dtype}: give {name.split()[-1]}.float()") from None
        value = array
    return real_array(name, value)


def objective(loss: object, output: Output, n_outputs: int, dtype: str) -> Objective:
    """Return what to train for, or refuse a loss, an option, or its pair with the output.

    Raises
    ------
    TypeError
        For anything but one of the losses that are known.
    ValueError
        For options that are not supported, and an output that does not fit.
    """
    reader = _READERS.get(type(loss))  # type: ignore[arg-type]
    if reader is None:
        names = ", ".join(kind.__name__ for kind in _READERS)
        hint = ": write it with ()" if isinstance(loss, type) else ""
        raise TypeError(f"loss must be one of torch.nn's {names}, not {loss!r}{hint}")
    assert isinstance(loss, nn.Module)
    refuse_hooks(f"loss {type(loss).__name__}", loss)
    reduction = loss.reduction
    if reduction not in ("mean", "sum"):
        raise ValueError(f"loss has reduction={reduction!r}: use 'mean' or 'sum'")
    return reader(loss, output, n_outputs, np.dtype(dtype))


def _refuse_output(loss: nn.Module, output: Output, wanted: str) -> ValueError:
    pair = f"{type(loss).__name__} after {output.name}"
    return ValueError(f"{pair} is not supported: let the module end in {wanted}")


def _refuse_option(loss: nn.Module, option: str, otherwise: str) -> None:
    value = getattr(loss, option)
    if value is not None and value is not False:
        raise ValueError(f"{type(loss).__name__} with {option} is not supported: {otherwise}")


def _elementwise(
    loss: Any, kind: Loss, activation: str | Activation, n_outputs: int, dtype: Any, factor: float
) -> Objective:
    """Return the objective of a loss whose mean is one over samples and outputs alike."""

    def prepare(y: object, n_samples: int, name: str) -> Targets:
        array = as_array(name, y)
        if array.shape != (n_samples, n_outputs):
            hint = ""
            if array.ndim == 1 and n_outputs == 1:
                hint = f"; give {name.split()[-1]}.reshape(-1, 1), which PyTorch would broadcast"
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}; the module gives "
                f"({n_samples}, {n_outputs}){hint}"
            )
        _finite(name, array, dtype)
        return Targets(array, None)

    is_sum = loss.reduction == "sum"
    scale = factor if is_sum else factor / n_outputs
    return Objective(kind, activation, scale, is_sum, prepare)


def _of_errors(loss: Any, output: Output, n_outputs: int, dtype: Any) -> Objective:
    """Read MSELoss, L1Loss and HuberLoss."""
    if output.is_log_softmax:
        raise _refuse_output(loss, output, "Softmax, or train it with NLLLoss")
    factor = 1.0
    kind: Loss
    if type(loss) is nn.MSELoss:
        kind, factor = losses.SquaredError(), 2.0
    else:
        if output.activation.name == "softmax":
            raise _refuse_output(loss, output, "Linear, or use MSELoss")
        kind = losses.AbsoluteError()
        if type(loss) is nn.HuberLoss:
            kind = losses.Huber(float(loss.delta))
    return _elementwise(loss, kind, output.activation, n_outputs, dtype, factor)


def _bce(loss: Any, output: Output, n_outputs: int, dtype: Any) -> Objective:
    _refuse_option(loss, "weight", "weigh the samples in the data instead")
    if output.activation.name not in ("sigmoid", "hard_sigmoid"):
        raise _refuse_output(loss, output, "Sigmoid, or use BCEWithLogitsLoss after Linear")
    kind = losses.LogLoss()
    read = _elementwise(loss, kind, output.activation, n_outputs, dtype, 1.0)
    return _within(read, 0.0, 1.0)


def _bce_with_logits(loss: Any, output: Output, n_outputs: int, dtype: Any) -> Objective:
    _refuse_option(loss, "weight", "weigh the samples in the data instead")
    _refuse_option(loss, "pos_weight", "weigh the samples in the data instead")
    _need_logits(loss, output)
    return _elementwise(loss, losses.LogLoss(), "sigmoid", n_outputs, dtype, 1.0)


def _poisson(loss: Any, output: Output, n_outputs: int, dtype: Any) -> Objective:
    _refuse_option(loss, "full", "leave it out, since it changes no gradient")
    if loss.log_input:
        _need_logits(loss, output)
        return _elementwise(loss, losses.Poisson(), "exp", n_outputs, dtype, 1.0)
    if output.activation.name not in ("softplus", "sigmoid", "hard_sigmoid", "relu"):
        raise _refuse_output(
            loss, output, "Softplus or another output that is not negative, or use log_input=True"
        )
    kind = losses.Poisson(float(loss.eps))
    return _elementwise(loss, kind, output.activation, n_outputs, dtype, 1.0)


def _need_logits(loss: nn.Module, output: Output) -> None:
    if output.activation.name != "identity" or output.is_log_softmax:
        raise _refuse_output(loss, output, "Linear: this loss takes what comes before it")


def _within(objective: Objective, low: float, high: float) -> Objective:
    """Let an objective refuse targets outside of a range, as PyTorch does."""
    inner = objective.prepare

    def prepare(y: object, n_samples: int, name: str) -> Targets:
        targets = inner(y, n_samples, name)
        if targets.y.min() < low or targets.y.max() > high:
            raise ValueError(f"{name} must lie from {low:g} to {high:g}")
        return targets

    objective.prepare = prepare
    return objective


def _cross_entropy(loss: Any, output: Output, n_outputs: int, dtype: Any) -> Objective:
    """Read CrossEntropyLoss and NLLLoss, which is the same after LogSoftmax."""
    if type(loss) is nn.NLLLoss:
        if not output.is_log_softmax:
            raise _refuse_output(loss, output, "LogSoftmax, or use CrossEntropyLoss after Linear")
        smoothing = 0.0
    else:
        # The logarithm of softmax is its own logarithm of softmax.
        if output.activation.name != "identity":
            raise _refuse_output(loss, output, "Linear: this loss takes what comes before softmax")
        smoothing = float(loss.label_smoothing)
        if not 0 <= smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss has label_smoothing={loss.label_smoothing!r}: use one from 0 "
                "to 1"
            )
    if n_outputs == 1:
        raise ValueError(
            f"{type(loss).__name__} needs one output for each class, at least 2; for one output "
            "use BCEWithLogitsLoss"
        )
    weight = None
    if loss.weight is not None:
        weight = as_array("loss.weight", loss.weight).astype(np.float64)
        if weight.shape != (n_outputs,) or not (np.isfinite(weight) & (weight >= 0)).all():
            raise ValueError(
                f"loss.weight must hold {n_outputs} finite numbers that are not negative"
            )
        least = np.finfo(dtype).tiny
        lost = np.flatnonzero((weight > 0) & (weight < least))
        if len(lost):
            raise ValueError(
                f"loss.weight[{lost[0]}] is {weight[lost[0]]:.3g}, below {least:.3g}, the smallest "
                f"number that {dtype} tells from 0; multiply all by a constant"
            )
    classes = _Classes(loss, n_outputs, dtype, weight, smoothing)
    return Objective(
        losses.CrossEntropy(), "softmax", 1.0, loss.reduction == "sum", classes.prepare
    )


class _Classes:
    """Targets of a classifier: labels and weights of their classes, or rows of probabilities.

    With weights w, smoothing s and C classes, the loss of label k is
    (1 - s) w_k (-log p_k) + s / C sum_c w_c (-log p_c), and the mean divides by the sum of w_k.
    """

    def __init__(
        self, loss: Any, n_classes: int, dtype: Any, weight: Array | None, smoothing: float
    ) -> None:
        self.loss, self.n_classes, self.dtype = loss, n_classes, dtype
        self.weight, self.smoothing = weight, smoothing

    def prepare(self, y: object, n_samples: int, name: str) -> Targets:
        array = as_array(name, y)
        takes_rows = type(self.loss) is nn.CrossEntropyLoss
        if array.dtype.kind in "iu" and array.shape == (n_samples,):
            return self._labels(array, name)
        if takes_rows and array.dtype.kind == "f" and array.shape == (n_samples, self.n_classes):
            _finite(name, array, self.dtype)
            if self.loss.ignore_index >= 0:
                raise ValueError(
                    f"{name} holds probabilities, which have no ignore_index="
                    f"{self.loss.ignore_index}: leave it out"
                )
            return Targets(self._smooth(array), None)
        rows = f", or probabilities ({n_samples}, {self.n_classes})" if takes_rows else ""
        raise ValueError(
            f"{name} has shape {tuple(array.shape)} and dtype {array.dtype}; "
            f"{type(self.loss).__name__} needs class numbers ({n_samples},) of an integer "
            f"dtype{rows}"
        )

    def _smooth(self, rows: Array) -> Array:
        if self.smoothing == 0 and self.weight is None:
            return rows
        smoothed = rows * (1 - self.smoothing) + self.smoothing / self.n_classes
        if self.weight is not None:
            smoothed *= self.weight
        return smoothed.astype(self.dtype)

    def _labels(self, y: Array, name: str) -> Targets:
        check_classes(self.n_classes, self.dtype, name)
        ignored = y == self.loss.ignore_index
        any_ignored = bool(ignored.any())
        found = labels(np.where(ignored, 0, y) if any_ignored else y, self.n_classes, name)
        if self.weight is None and not any_ignored:
            weight = None
        else:
            weight = np.ones(len(y)) if self.weight is None else self.weight[found]
            weight[ignored] = 0
            if not weight.any():
                raise ValueError(f"{name} has no label with a weight; all would be ignored")
        if self.smoothing == 0:
            return Targets(found, weight)
        each = np.ones(self.n_classes) if self.weight is None else self.weight
        if not each[found].all():
            raise ValueError(
                "label_smoothing with a weight of 0 is not supported: give all classes that occur "
                "in y a weight"
            )
        rows = np.empty((len(y), self.n_classes), self.dtype)
        shared = self.smoothing / self.n_classes * each
        rows[:] = shared / each[found][:, None]
        rows[np.arange(len(y)), found] += self.dtype.type(1 - self.smoothing)
        return Targets(rows, weight)


_READERS: dict[type, Callable[[Any, Output, int, Any], Objective]] = {
    nn.CrossEntropyLoss: _cross_entropy,
    nn.NLLLoss: _cross_entropy,
    nn.MSELoss: _of_errors,
    nn.L1Loss: _of_errors,
    nn.HuberLoss: _of_errors,
    nn.BCELoss: _bce,
    nn.BCEWithLogitsLoss: _bce_with_logits,
    nn.PoissonNLLLoss: _poisson,
}
