"""Layers: what a network is made of, and how its first weights are drawn.

A layer given to a network is copied; the copies in ``network.layers`` show the live weights.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import activations
from ._validate import Array, boolean, choice, integer, real, real_array
from .activations import Activation

if TYPE_CHECKING:
    from ._engine import Engine

    # Not looked at when the package is imported, since numpy.random is slow to import.
    Initial: TypeAlias = (
        str | float | Array | Callable[[np.random.Generator, tuple[int, ...]], Array]
    )

__all__ = ["Dense"]

_RELU_LIKE = frozenset({"relu", "leaky_relu", "elu", "gelu", "silu", "mish"})
# name -> (distribution, numerator, fans that the variance is divided by)
_SCALED = {
    "he_uniform": ("uniform", 2.0, "in"),
    "he_normal": ("normal", 2.0, "in"),
    "glorot_uniform": ("uniform", 2.0, "both"),
    "glorot_normal": ("normal", 2.0, "both"),
    "lecun_uniform": ("uniform", 1.0, "in"),
    "lecun_normal": ("normal", 1.0, "in"),
}
_WEIGHT_INITS = ("auto", *_SCALED, "zeros", "ones")
_BIAS_INITS = ("zeros", "ones")
# By at most so many elements the engine pads a row
_MOST_PAD = 64


class Dense:
    """A fully connected layer: a = f(x W + b).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or object from fastgd.activations, optional
        None is "identity" on a hidden layer, and the loss's canonical output on the last one.
    l1, l2 : float
        Add l1 * sum |W| + l2 / 2 * sum W^2 to the mean loss; biases are not penalised.
    dropout : float
        Probability, from 0 to below 1, with which an output is set to zero while training; the
        others are divided by 1 - dropout. Not allowed on the last layer.
    bias : bool
        Whether there is a b.
    weight_init : str or array or callable
        "auto": He-uniform for relu, leaky_relu, elu, gelu, silu and mish, LeCun-normal for selu,
        Glorot-uniform for the others. Or one of "he_uniform", "he_normal", "glorot_uniform",
        "glorot_normal", "lecun_uniform", "lecun_normal", "zeros", "ones", an array
        (fan_in, units), or a function of a ``numpy.random.Generator`` and the shape.
    bias_init : str or float or array or callable
        "zeros", "ones", a number, an array (units,), or a function as for weight_init.

    Attributes
    ----------
    weight : ndarray (fan_in, units)
        The live weights of a layer in ``network.layers``: writing to the array, or assigning
        one, changes the network. Assigned arrays are checked first; what is written into the view
        is checked when training starts.
    bias : ndarray (units,) or None
        The live biases, likewise. All other attributes are fixed.

    Notes
    -----
    Weights are drawn from PCG64(seed) in float64, layer after layer, weights before biases, and
    rounded to the network's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(3, "relu"), fastgd.Dense(1)], loss="squared_error",
    ...                      n_inputs=2)
    >>> net.layers[0].weight.shape
    (2, 3)
    >>> net.layers[1].bias = np.array([0.5])
    >>> net.layers[1].bias
    array([0.5], dtype=float32)
    """

    def __init__(
        self,
        units: int,
        activation: str | Activation | None = None,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        bias: bool = True,
        weight_init: Initial = "auto",
        bias_init: Initial = "zeros",
    ) -> None:
        self.units: int = integer("units", units)
        self.activation: Activation | None = (
            None if activation is None else activations.get(activation)
        )
        self.l1: float = real("l1", l1, minimum=0)
        self.l2: float = real("l2", l2, minimum=0)
        self.dropout: float = real("dropout", dropout, minimum=0, below=1)
        self.use_bias: bool = boolean("bias", bias)
        self.weight_init: Initial = _initial("weight_init", weight_init, _WEIGHT_INITS)
        self.bias_init: Initial = _initial("bias_init", bias_init, _BIAS_INITS)
        self._engine: Engine | None = None
        self._index = 0

    @property
    def weight(self) -> Array:
        return self._live().weight(self._index)

    @weight.setter
    def weight(self, value: object) -> None:
        view = self.weight
        self._live().assign([view], [fitting("weight", value, view.shape, view.dtype)])

    @property
    def bias(self) -> Array | None:
        return self._live().bias(self._index)

    @bias.setter
    def bias(self, value: object) -> None:
        view = self.bias
        if view is None:
            raise ValueError("this layer was made with bias=False")
        self._live().assign([view], [fitting("bias", value, view.shape, view.dtype)])

    def _live(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(
                "this layer has no weights: read those of network.layers[i], after the network "
                "has been given n_inputs or was fitted"
            )
        return self._engine

    def _bound(self, engine: Engine | None, index: int, activation: Activation) -> Dense:
        """Return a copy that shows the weights of one layer of an engine."""
        layer = copy.copy(self)
        layer.__dict__.update(activation=activation, _engine=engine, _index=index)
        return layer

    def _draw(
        self, rng: np.random.Generator, fan_in: int, dtype: np.dtype[Any]
    ) -> tuple[Array, Array | None]:
        """Return first weights and biases."""
        shape = fan_in, self.units
        init = self.weight_init
        if isinstance(init, str) and init == "auto":
            name = self.activation.name if self.activation is not None else "identity"
            init = (
                "he_uniform" if name in _RELU_LIKE
                else "lecun_normal" if name == "selu"
                else "glorot_uniform"
            )  # fmt: skip
        weight = _values("weight_init", init, rng, shape, dtype)
        if not self.use_bias:
            return weight, None
        return weight, _values("bias_init", self.bias_init, rng, (self.units,), dtype)

    def __setattr__(self, name: str, value: object) -> None:
        # Settings are in the engine; changing them here would do nothing.
        if name in self.__dict__:
            raise AttributeError(f"{name} of a layer is fixed; make a new Dense instead")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_engine": None}

    def __repr__(self) -> str:
        parts = [str(self.units)]
        if self.activation is not None:
            default = activations.get(self.activation.name) == self.activation
            parts.append(repr(self.activation.name if default else self.activation))
        parts += [
            f"{name}={getattr(self, name)!r}"
            for name in ("l1", "l2", "dropout")
            if getattr(self, name)
        ]
        if not self.use_bias:
            parts.append("bias=False")
        return f"Dense({', '.join(parts)})"


def check_sizes(units: Sequence[int], n_inputs: int) -> None:
    """Refuse layers whose weights are more than any array can hold; allocates nothing."""
    fan_in = n_inputs
    for i, fan_out in enumerate(units):
        # Drawn in float64, and kept in rows that are padded.
        if 8 * fan_in * (fan_out + _MOST_PAD) > sys.maxsize:
            raise ValueError(
                f"layers[{i}] would have {fan_in:,} x {fan_out:,} weights, more than an array can "
                f"hold: give it fewer units, or fewer {'units before it' if i else 'n_inputs'}"
            )
        fan_in = fan_out


def fitting(name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array for weights of the given shape, checked for shape, dtype and values."""
    array = real_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; the layer needs {shape}")
    with np.errstate(over="ignore", under="ignore"):
        array = array.astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite in {dtype}")
    return array


def _initial(name: str, init: Any, choices: tuple[str, ...]) -> Initial:
    if isinstance(init, str):
        return choice(name, init, choices, ", an array or a callable")
    if callable(init):
        return init  # type: ignore[no-any-return]
    if name == "bias_init" and not hasattr(init, "__len__"):
        return real(name, init)
    return real_array(name, init).copy()


def _values(
    name: str,
    init: Initial,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Array:
    """Return initial values (shape) in the network's dtype."""
    if isinstance(init, str):
        if init not in _SCALED:
            return np.full(shape, 0.0 if init == "zeros" else 1.0, dtype)
        distribution, numerator, fans = _SCALED[init]
        variance = numerator / (shape[0] if fans == "in" else shape[0] + shape[1])
        if distribution == "normal":
            return rng.normal(0.0, math.sqrt(variance), shape).astype(dtype)
        limit = math.sqrt(3 * variance)
        return rng.uniform(-limit, limit, shape).astype(dtype)
    if callable(init):
        init = init(rng, shape)
    elif isinstance(init, float):
        init = np.full(shape, init)
    return fitting(name, init, shape, dtype)
