"""Losses as objects, and how a name or a user's own object becomes one.

Built-in losses are computed by the engine; value and delta here state their formulas in NumPy.
Nothing here knows the pairing of losses and output activations.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ._numbers import real, reals
from ._spec import Spec
from ._validate import Array, choice

__all__ = [
    "AbsoluteError",
    "CrossEntropy",
    "CustomLoss",
    "Huber",
    "LogLoss",
    "Loss",
    "Poisson",
    "SquaredError",
    "get",
]


@runtime_checkable
class CustomLoss(Protocol):
    """What an object needs to serve as a loss.

    ``value(output, y)`` gets outputs (n_samples, units) and their targets, and returns the losses
    of the samples, shape (n_samples,), or their mean as one number; with the latter, sample
    weights are refused. ``delta(output, y)`` returns the derivative of what value returned with
    respect to output, shape (n_samples, units); the engine multiplies it by the derivative of the
    output activation. Both must leave their arguments as they are.

    Targets come as they were given to fit, one or two dimensions of bool or any real dtype (bool of
    tables as uint8); for a network with one unit, (n_samples,) becomes (n_samples, 1).

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> class LogCosh:
    ...     def value(self, output, y):
    ...         return np.log(np.cosh(output - y)).sum(axis=1)
    ...     def delta(self, output, y):
    ...         return np.tanh(output - y)
    >>> net = fastgd.Network([fastgd.Dense(1)], loss=LogCosh(), n_inputs=2)
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> loss, gradients = net.loss_and_grad(X, np.zeros(2))
    >>> gradients[0][0].shape
    (2, 1)
    """

    def value(self, output: Array, y: Array, /) -> Any: ...

    def delta(self, output: Array, y: Array, /) -> Any: ...


class Loss(Spec):
    """Base of the built-in losses: summed over outputs, averaged over samples.

    Examples
    --------
    >>> import fastgd
    >>> isinstance(fastgd.Huber(), fastgd.losses.Loss)
    True
    """

    @property
    def param(self) -> float:
        """The loss's one number, 0 where it has none."""
        return 0.0

    def value(self, output: Array, y: Array) -> Any:
        """Return the losses (n_samples,) of outputs (n_samples, units)."""
        raise NotImplementedError

    def delta(self, output: Array, y: Array) -> Any:
        """Return the derivative of each sample's loss by its outputs, (n_samples, units)."""
        raise NotImplementedError


class SquaredError(Loss):
    """0.5 * (a - y)^2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.SquaredError().value(np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]))
    array([2.5])
    """

    name = "squared_error"

    def value(self, output: Array, y: Array) -> Any:
        return 0.5 * np.square(output - y).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        return output - y


class AbsoluteError(Loss):
    """|a - y|, with derivative 0 where they are equal.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.AbsoluteError().delta(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
    array([[0., 1.]])
    """

    name = "absolute_error"

    def value(self, output: Array, y: Array) -> Any:
        return np.abs(output - y).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        return np.sign(output - y)


class Huber(Loss):
    """0.5 * e^2 for errors e up to delta, delta * (|e| - 0.5 * delta) beyond.

    Parameters
    ----------
    delta : float
        Where the square turns into a line; positive. Read it as ``threshold``: the name
        ``delta`` of the object is the method that every loss has.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.Huber(delta=1.0).value(np.array([[0.5], [3.0]]), np.zeros((2, 1)))
    array([0.125, 2.5  ])
    """

    name = "huber"
    _fields = ("threshold",)

    def __init__(self, delta: float = 1.0) -> None:
        self.threshold: float = real("delta", delta, above=0)

    def __repr__(self) -> str:
        return f"Huber(delta={self.threshold!r})"

    @property
    def param(self) -> float:
        return self.threshold

    def value(self, output: Array, y: Array) -> Any:
        e = np.abs(output - y)
        d = self.threshold
        return np.where(e <= d, 0.5 * e * e, d * (e - 0.5 * d)).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        return np.clip(output - y, -self.threshold, self.threshold)

    def _plain(self) -> dict[str, Any]:
        return {"name": self.name, "delta": self.threshold}


class _Clipped(Loss):
    """A loss of probabilities that may be clipped."""

    def __init__(self, clip: float = 0.0) -> None:
        self.clip: float = real("clip", clip, minimum=0, below=0.5)

    _fields = ("clip",)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({f'clip={self.clip!r}' if self.clip else ''})"

    @property
    def param(self) -> float:
        return self.clip

    def _plain(self) -> dict[str, Any]:
        return super()._plain() if self.clip else {"name": self.name}


class LogLoss(_Clipped):
    """-y log(a) - (1 - y) log(1 - a), for targets and outputs from 0 to 1, each output by itself.

    Parameters
    ----------
    clip : float
        Where it is not 0, the value for targets 0 and 1 is that of a clipped to
        [clip, 1 - clip], as scikit-learn reports it; the derivative is that of a itself. Only for
        the canonical output, sigmoid.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.LogLoss().value(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])).round(4)
    array([1.3863])
    """

    name = "log_loss"

    def value(self, output: Array, y: Array) -> Any:
        p = self._inside(output)
        return -(y * np.log(p) + (1 - y) * np.log1p(-p)).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        p = self._inside(output)
        return (p - y) / (p * (1 - p))

    @staticmethod
    def _inside(output: Array) -> Any:
        eps = np.finfo(output.dtype).eps
        return np.clip(output, eps, 1 - eps)


class CrossEntropy(_Clipped):
    """-sum(y log(a)) for rows of probabilities, -log(a[label]) for integer labels.

    Parameters
    ----------
    clip : float
        Where it is not 0, the value for integer labels is that of a clipped to [clip, 1 - clip],
        as scikit-learn reports it; the derivative is that of a itself.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.CrossEntropy().value(np.array([[0.25, 0.75]]), np.array([1])).round(4)
    array([0.2877])
    """

    name = "cross_entropy"

    def value(self, output: Array, y: Array) -> Any:
        log_p = np.log(self._positive(output))
        if y.ndim == 1:
            return -log_p[np.arange(len(y)), y]
        return -(y * log_p).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        p = self._positive(output)
        if y.ndim == 1:
            rows = np.zeros_like(p)
            rows[np.arange(len(y)), y] = 1
            y = rows
        return -y / p

    @staticmethod
    def _positive(output: Array) -> Any:
        return np.maximum(output, np.finfo(output.dtype).tiny)


class Poisson(Loss):
    """a - y log(a), for targets that are not negative and positive outputs.

    Parameters
    ----------
    eps : float
        Added to a within the logarithm; not for the canonical output, exp, whose logarithm needs
        none. PyTorch has 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> fastgd.Poisson().value(np.array([[1.0], [2.0]]), np.array([[3.0], [0.0]]))
    array([1., 2.])
    """

    name = "poisson"
    _fields = ("eps",)

    def __init__(self, eps: float = 0.0) -> None:
        self.eps: float = real("eps", eps, minimum=0)

    def __repr__(self) -> str:
        return f"Poisson({f'eps={self.eps!r}' if self.eps else ''})"

    @property
    def param(self) -> float:
        return self.eps

    def value(self, output: Array, y: Array) -> Any:
        return (output - y * np.log(self._positive(output))).sum(axis=1)

    def delta(self, output: Array, y: Array) -> Any:
        return 1 - y / self._positive(output)

    def _positive(self, output: Array) -> Array:
        return np.maximum(output + output.dtype.type(self.eps), np.finfo(output.dtype).tiny)

    def _plain(self) -> dict[str, Any]:
        return super()._plain() if self.eps else {"name": self.name}


BUILT_IN: dict[str, type[Loss]] = {
    kind.name: kind for kind in (SquaredError, AbsoluteError, Huber, LogLoss, CrossEntropy, Poisson)
}


def get(loss: str | Loss | CustomLoss) -> Loss | CustomLoss:
    """Return a loss object for a name, a built-in loss or a custom one.

    Parameters
    ----------
    loss : str or object
        One of "squared_error", "absolute_error", "huber", "log_loss", "cross_entropy",
        "poisson", an object of their classes, or an object as `CustomLoss` describes.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.losses.get("huber")
    Huber(delta=1.0)
    """
    if isinstance(loss, str):
        return BUILT_IN[choice("loss", loss, BUILT_IN, ", or an object with value and delta")]()
    if isinstance(loss, type):
        raise TypeError(f"loss must be an object, not the class {loss.__name__}: write it with ()")
    if callable(getattr(loss, "value", None)) and callable(getattr(loss, "delta", None)):
        return loss
    raise TypeError(
        f"loss must be one of {', '.join(BUILT_IN)}, or an object with value and delta, "
        f"not {loss!r}"
    )


def kind_of(loss: Loss | CustomLoss) -> str:
    """Return the engine's name of a loss: "custom" for all but the built-in classes themselves."""
    # A subclass may have changed value or delta, so it is trained by what it says.
    return (
        loss.name if isinstance(loss, Loss) and BUILT_IN.get(loss.name) is type(loss) else "custom"
    )


class CustomAdapter:
    """Call a custom loss for the engine and check what it returns."""

    def __init__(self, loss: CustomLoss) -> None:
        self._loss = loss
        #: whether value has returned one number for all samples
        self.returns_mean: bool = False

    def __call__(self, output: Array, y: Array) -> tuple[Any, Array]:
        value = reals("value of the custom loss", self._loss.value(output, y))
        if value.shape not in ((), (len(output),)):
            raise ValueError(
                f"value of the custom loss returned shape {value.shape}; it must return one loss "
                f"for each sample, ({len(output)},), or their mean"
            )
        delta = reals("delta of the custom loss", self._loss.delta(output, y), output.dtype)
        if delta.shape != output.shape:
            raise ValueError(
                f"delta of the custom loss returned shape {delta.shape}, not that of the output, "
                f"{output.shape}"
            )
        self.returns_mean = value.ndim == 0
        losses = float(value) if value.ndim == 0 else value.astype(output.dtype)
        return losses, np.ascontiguousarray(delta)
