"""Optimisers as objects: settings with torch's formulas and defaults.

The engine computes them; here they are named, checked and turned into its parameters. All but the
learning rate are fixed once made.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import schedules
from ._spec import Spec
from ._validate import boolean, choice, real
from .schedules import LearningRate, Schedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "get"]

_BLOCK = 1 << 14


class Optimizer(Spec):
    """Base of the optimisers.

    Attributes
    ----------
    lr : float or schedule or callable
        The learning rate; may be assigned at any time and counts from the next epoch or
        train_step on. A schedule is copied, since it may have a state. Everything else is fixed:
        assign another optimiser to ``network.optimizer`` instead.

    Notes
    -----
    Order of one update: gradient with penalties; clip_value; clip_norm; weight_decay; formula.
    weight_decay acts on biases as well, as torch does it.

    Examples
    --------
    >>> import fastgd
    >>> optimizer = fastgd.SGD(lr=0.1)
    >>> optimizer.lr = 0.05
    >>> optimizer.lr
    0.05
    """

    weight_decay: float
    clip_value: float | None
    clip_norm: float | None
    fixed_lr: float | None

    def __init__(
        self,
        lr: LearningRate,
        weight_decay: float,
        clip_value: float | None,
        clip_norm: float | None,
        **settings: Any,
    ) -> None:
        self.__dict__.update(
            settings,
            weight_decay=real("weight_decay", weight_decay, minimum=0),
            clip_value=None if clip_value is None else real("clip_value", clip_value, above=0),
            clip_norm=None if clip_norm is None else real("clip_norm", clip_norm, above=0),
        )
        self.lr = lr

    @property
    def lr(self) -> LearningRate:
        return self._lr  # type: ignore[no-any-return]

    @lr.setter
    def lr(self, lr: LearningRate) -> None:
        lr = schedules.get(lr)
        if isinstance(lr, Schedule):
            lr = copy.deepcopy(lr)
        # For train_step: the learning rate if it is one number for all steps, else None.
        self.__dict__.update(_lr=lr, fixed_lr=lr if self._is_fixed(lr) else None)

    def __setattr__(self, name: str, value: object) -> None:
        if name != "lr":
            raise AttributeError(
                f"{type(self).__name__}.{name} is fixed; assign a new optimiser to "
                "network.optimizer instead"
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are not set; it tells type checkers that settings exist.
        raise AttributeError(f"{type(self).__name__} has no setting {name!r}")

    def params(self) -> dict[str, Any]:
        """Return the settings as the engine takes them."""
        keys = (key for key in self._fields if key not in ("lr", "lr_decay"))
        return {key: getattr(self, key) for key in keys}

    def learning_rates(self, step: int, n_steps: int) -> NDArray[np.float64]:
        """Return the learning rates of n_steps steps from the given one on."""
        rates = np.empty(n_steps, dtype=np.float64)
        # In parts, so that what a schedule computes on the way stays small beside the result.
        for first in range(0, n_steps, _BLOCK):
            last = min(first + _BLOCK, n_steps)
            steps = np.arange(step + first, step + last, dtype=np.float64)
            rates[first:last] = schedules.evaluate(self.lr, steps)
        return rates

    def _is_fixed(self, lr: LearningRate) -> bool:
        return type(lr) is float

    def state_layout(self) -> tuple[object, ...]:
        """Return what decides whether another optimiser can go on with this one's state."""
        return (self.name,)

    def own_copy(self) -> Optimizer:
        """Return a copy whose learning rate and its state are not shared."""
        other = copy.copy(self)
        other.lr = self.lr
        return other

    def _plain(self) -> dict[str, Any]:
        return super()._plain() | {"lr": schedules.plain(self.lr)}


_COMMON = ("weight_decay", "clip_value", "clip_norm")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

    Parameters
    ----------
    lr : float or schedule or callable
    momentum : float
        From 0 to 1. v = momentum * v + g; w -= lr * v.
    nesterov : bool
        w -= lr * (g + momentum * v) instead; needs momentum.
    weight_decay : float
        Adds weight_decay * w to the gradient.
    clip_value : float, optional
        Limits each element of the gradient to [-clip_value, clip_value].
    clip_norm : float, optional
        Scales the whole gradient down to this norm.
    variant : {"torch", "sklearn"}
        "sklearn" keeps lr inside the velocity: v = momentum * v - lr * g; w += v. The two differ
        when lr changes.
    dampening : float
        From 0 to 1: v = momentum * v + (1 - dampening) * g, but v = g in the first step, as in
        PyTorch; for the variant "torch", with a momentum and without nesterov.

    Examples
    --------
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error",
    ...                      optimizer=fastgd.SGD(lr=0.05, momentum=0.9, nesterov=True))
    """

    name = "sgd"
    _fields = ("lr", "momentum", "nesterov", *_COMMON, "variant", "dampening")

    def __init__(
        self,
        lr: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        *,
        variant: str = "torch",
        dampening: float = 0.0,
    ) -> None:
        momentum = real("momentum", momentum, minimum=0, maximum=1)
        if boolean("nesterov", nesterov) and momentum == 0:
            raise ValueError("nesterov=True needs a momentum greater than 0")
        dampening = real("dampening", dampening, minimum=0, maximum=1)
        if dampening and (momentum == 0 or nesterov or variant != "torch"):
            raise ValueError(
                "dampening needs a momentum greater than 0, without nesterov, and variant='torch'"
            )
        super().__init__(
            lr,
            weight_decay,
            clip_value,
            clip_norm,
            momentum=momentum,
            nesterov=bool(nesterov),
            variant=choice("variant", variant, ("torch", "sklearn")),
            dampening=dampening,
        )

    def state_layout(self) -> tuple[object, ...]:
        return (self.name, self.momentum > 0, self.variant)


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    lr : float or schedule or callable
    beta1, beta2 : float
        Decay of the two means, from 0 to below 1.
    eps : float
        Added to the denominator.
    weight_decay : float
        Adds weight_decay * w to the gradient; `AdamW` shrinks the weights instead.
    clip_value, clip_norm : float, optional
        As in `SGD`.
    variant : {"torch", "sklearn"}
        "sklearn" adds eps before the bias correction.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.Adam(lr=0.002).beta2
    0.999
    """

    name = "adam"
    _fields: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2", "eps", *_COMMON, "variant")

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        *,
        variant: str = "torch",
    ) -> None:
        super().__init__(
            lr,
            weight_decay,
            clip_value,
            clip_norm,
            beta1=real("beta1", beta1, minimum=0, below=1),
            beta2=real("beta2", beta2, minimum=0, below=1),
            eps=real("eps", eps, above=0),
            variant=choice("variant", variant, ("torch", "sklearn")),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: first w <- (1 - lr * weight_decay) w.

    Parameters
    ----------
    lr, beta1, beta2, eps, clip_value, clip_norm
        As in `Adam`.
    weight_decay : float

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.AdamW().weight_decay
    0.01
    """

    name = "adamw"
    _fields = ("lr", "beta1", "beta2", "eps", *_COMMON)

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay, clip_value, clip_norm)


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient.

    Parameters
    ----------
    lr : float or schedule or callable
    alpha : float
        Decay of the mean square, from 0 to below 1.
    eps : float
        Added to the denominator.
    momentum : float
        From 0 to 1.
    weight_decay, clip_value, clip_norm
        As in `SGD`.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.RMSprop().alpha
    0.99
    """

    name = "rmsprop"
    _fields = ("lr", "alpha", "eps", "momentum", *_COMMON)

    def __init__(
        self,
        lr: LearningRate = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr,
            weight_decay,
            clip_value,
            clip_norm,
            alpha=real("alpha", alpha, minimum=0, below=1),
            eps=real("eps", eps, above=0),
            momentum=real("momentum", momentum, minimum=0, maximum=1),
        )

    def state_layout(self) -> tuple[object, ...]:
        return (self.name, self.momentum > 0)


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

    Parameters
    ----------
    lr : float or schedule or callable
    lr_decay : float
        Step s uses lr / (1 + s * lr_decay).
    eps : float
        Added to the denominator.
    weight_decay, clip_value, clip_norm
        As in `SGD`.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods", 2011.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.Adagrad().eps
    1e-10
    """

    name = "adagrad"
    _fields = ("lr", "lr_decay", "eps", *_COMMON)

    def __init__(
        self,
        lr: LearningRate = 0.01,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            lr,
            weight_decay,
            clip_value,
            clip_norm,
            lr_decay=real("lr_decay", lr_decay, minimum=0),
            eps=real("eps", eps, above=0),
        )

    def learning_rates(self, step: int, n_steps: int) -> NDArray[np.float64]:
        steps = np.arange(step, step + n_steps, dtype=np.float64)
        return np.asarray(super().learning_rates(step, n_steps) / (1 + steps * self.lr_decay))

    def _is_fixed(self, lr: LearningRate) -> bool:
        return super()._is_fixed(lr) and self.lr_decay == 0


BUILT_IN: dict[str, type[SGD] | type[Adam] | type[RMSprop] | type[Adagrad]] = {
    kind.name: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimiser for a name, with its defaults, or check the given one.

    Examples
    --------
    >>> import fastgd
    >>> fastgd.optimizers.get("sgd").lr
    0.01
    """
    if isinstance(optimizer, str):
        return BUILT_IN[choice("optimizer", optimizer, BUILT_IN)]()
    if isinstance(optimizer, Optimizer) and BUILT_IN.get(optimizer.name) is type(optimizer):
        return optimizer
    raise TypeError(
        f"optimizer must be one of {', '.join(BUILT_IN)}, or an object of their classes, "
        f"not {optimizer!r}"
    )
