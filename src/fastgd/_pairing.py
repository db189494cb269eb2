"""Which output activation each loss takes by default, which ones it fits, and how many classes."""

from __future__ import annotations

from typing import Any

import numpy as np

_EVERY_ELEMENTWISE = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "sigmoid", "hard_sigmoid", "exp",
)  # fmt: skip

# The first activation of each loss is its canonical one.  log_loss needs outputs within [0, 1] and
# poisson outputs >= 0: on the range of the others these two are undefined.
_FITS: dict[str, tuple[str, ...]] = {
    "squared_error": (*_EVERY_ELEMENTWISE, "softmax"),
    "absolute_error": _EVERY_ELEMENTWISE,
    "huber": _EVERY_ELEMENTWISE,
    "log_loss": ("sigmoid", "hard_sigmoid"),
    "cross_entropy": ("softmax",),
    "poisson": ("exp", "softplus", "sigmoid", "hard_sigmoid", "relu"),
}
LOSSES: tuple[str, ...] = tuple(_FITS)


def fitting_outputs(loss: str) -> tuple[str, ...]:
    """Return the names of the output activations that a loss fits, the canonical one first."""
    try:
        return _FITS[loss]
    except KeyError:
        raise ValueError(f"unknown loss {loss!r}; choose from {', '.join(sorted(_FITS))}") from None


def canonical_output(loss: str) -> str:
    """Return the name of the output activation that a loss takes when none is given."""
    return fitting_outputs(loss)[0]


def check_pairing(loss: str, activation: str) -> None:
    """Raise a ValueError that names the choices unless the loss fits the output activation."""
    choices = fitting_outputs(loss)
    if activation not in choices:
        raise ValueError(
            f"the loss {loss!r} does not fit the output activation {activation!r}; "
            f"with {loss!r} choose from {', '.join(sorted(choices))}"
        )


def check_classes(n_classes: int, dtype: np.dtype[Any], name: str = "y") -> None:
    """Refuse labels of so many classes that the dtype, in which they are compared, has no number
    for each."""
    most = 2 ** (np.finfo(dtype).nmant + 1)
    if n_classes > most:
        raise ValueError(
            f"{name} has labels of {n_classes:,} classes, and {dtype} tells {most:,} apart: use a "
            "network of float64, or rows of probabilities"
        )
