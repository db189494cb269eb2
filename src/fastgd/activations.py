"""Activation functions as small immutable objects: a name, a parameter, what the derivative reads.

The arithmetic is not here: it is in the compiled kernels and in ``fastgd.reference``.
"""

from __future__ import annotations

from typing import ClassVar

from ._numbers import real

__all__ = [
    "ELU", "GELU", "SELU", "Activation", "Exp", "HardSigmoid", "Identity", "LeakyReLU", "Mish",
    "ReLU", "Sigmoid", "SiLU", "Softmax", "Softplus", "Softsign", "Tanh", "get",
]  # fmt: skip


class Activation:
    """Base of all activations.

    Attributes
    ----------
    name : str
        The name under which kernels and model files know it.
    param : float
        The function's parameter; 0.0 where it has none.
    consumes : {"a", "z"}
        What the derivative is computed from: the activation ``a`` or the pre-activation ``z``.

    Examples
    --------
    >>> from fastgd import activations
    >>> activations.LeakyReLU(0.2)
    LeakyReLU(alpha=0.2)
    >>> activations.GELU().consumes
    'z'
    """

    name: ClassVar[str]
    consumes: ClassVar[str] = "a"

    # Written out, since fifteen dataclasses cost more than the rest of the package's import.

    @property
    def param(self) -> float:
        return 0.0

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is fixed; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is fixed; make a new one")


class Identity(Activation):
    """f(z) = z; f' = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Identity(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-1.,  0.,  2.])
    """

    name = "identity"


class ReLU(Activation):
    """f(z) = max(z, 0); f' = 1 where a > 0, else 0 (also at zero).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.ReLU(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([0., 0., 2.])
    """

    name = "relu"


class LeakyReLU(Activation):
    """f(z) = z where z > 0, else alpha z; f' = 1 where a > 0, else alpha.

    Parameters
    ----------
    alpha : float, default 0.01
        Slope of the negative side, at least 0 (the sign of a must tell the sign of z).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.LeakyReLU(0.25), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.25,  0.  ,  2.  ])
    """

    name = "leaky_relu"
    alpha: float

    def __init__(self, alpha: float = 0.01) -> None:
        self.__dict__["alpha"] = real("LeakyReLU: alpha", alpha, minimum=0)

    @property
    def param(self) -> float:
        return self.alpha


class ELU(Activation):
    """f(z) = z where z > 0, else alpha (exp(z) - 1); f' = 1 where a > 0, else a + alpha.

    Parameters
    ----------
    alpha : float, default 1.0
        Minus the limit at minus infinity, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.ELU(2.0), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-1.264,  0.   ,  2.   ])
    """

    name = "elu"
    alpha: float

    def __init__(self, alpha: float = 1.0) -> None:
        self.__dict__["alpha"] = real("ELU: alpha", alpha, above=0)

    @property
    def param(self) -> float:
        return self.alpha


class SELU(Activation):
    """f(z) = s z where z > 0, else s t (exp(z) - 1); f' = s where a > 0, else a + s t.

    s = 1.0507009873554805, t = 1.6732632423543772.  Source: Klambauer et al., Self-Normalizing
    Neural Networks, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.SELU(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-1.111,  0.   ,  2.101])
    """

    name = "selu"


class GELU(Activation):
    """f(z) = z Phi(z), Phi the normal distribution function (by erf, not the tanh approximation).

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.GELU(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.159,  0.   ,  1.954])
    """

    name = "gelu"
    consumes = "z"


class SiLU(Activation):
    """f(z) = z sigmoid(z).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.SiLU(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.269,  0.   ,  1.762])
    """

    name = "silu"
    consumes = "z"


class Mish(Activation):
    """f(z) = z tanh(softplus(z)).

    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Mish(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.303,  0.   ,  1.944])
    """

    name = "mish"
    consumes = "z"


class Softplus(Activation):
    """f(z) = log(1 + exp(z)); f' = sigmoid(z).

    Parameters
    ----------
    threshold : float, default 0.0
        If it is not 0, f(z) = z and f' = 1 for z above it; at least 0. PyTorch has 20.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Softplus(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([0.313, 0.693, 2.127])
    """

    name = "softplus"
    consumes = "z"
    threshold: float

    def __init__(self, threshold: float = 0.0) -> None:
        self.__dict__["threshold"] = real("Softplus: threshold", threshold, minimum=0)

    @property
    def param(self) -> float:
        return self.threshold


class Softsign(Activation):
    """f(z) = z / (1 + |z|); f' = 1 / (1 + |z|)^2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Softsign(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.5  ,  0.   ,  0.667])
    """

    name = "softsign"
    consumes = "z"


class Tanh(Activation):
    """f(z) = tanh(z); f' = 1 - a^2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Tanh(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([-0.762,  0.   ,  0.964])
    """

    name = "tanh"


class Sigmoid(Activation):
    """f(z) = 1 / (1 + exp(-z)); f' = a (1 - a).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Sigmoid(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([0.269, 0.5  , 0.881])
    """

    name = "sigmoid"


class HardSigmoid(Activation):
    """f(z) = min(max(z + 3, 0), 6) / 6; f' = 1/6 where -3 < z < 3, else 0.

    Parameters
    ----------
    slope : float, default 0.0
        If it is not 0, f' has this in place of 1/6; at least 0. PyTorch has 1/6 rounded to
        float32, in float64 as well.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.HardSigmoid(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([0.333, 0.5  , 0.833])
    """

    name = "hard_sigmoid"
    consumes = "z"
    slope: float

    def __init__(self, slope: float = 0.0) -> None:
        self.__dict__["slope"] = real("HardSigmoid: slope", slope, minimum=0)

    @property
    def param(self) -> float:
        return self.slope


class Exp(Activation):
    """f(z) = exp(z); f' = a.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Exp(), np.array([-1.0, 0.0, 2.0])).round(3)
    array([0.368, 1.   , 7.389])
    """

    name = "exp"


class Softmax(Activation):
    """f(z)_j = exp(z_j) / sum_k exp(z_k), over the units of a sample; an output activation only.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd import activations, kernels
    >>> kernels.activation(activations.Softmax(), np.array([[0.0, 0.0, 1.0]])).round(3)
    array([[0.212, 0.212, 0.576]])
    """

    name = "softmax"


_CLASSES: dict[str, type[Activation]] = {
    cls.name: cls
    for cls in (
        Identity, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Mish, Softplus, Softsign, Tanh, Sigmoid,
        HardSigmoid, Exp, Softmax,
    )
}  # fmt: skip


#: the names of all activations
NAMES = tuple(_CLASSES)


def get(activation: str | Activation) -> Activation:
    """Return the activation object for a name, or the object itself.

    Parameters
    ----------
    activation : str or Activation
        A name gives the activation with its default parameter.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        For an unknown name; the message lists the choices.
    TypeError
        For anything that is neither a name nor an activation.

    Examples
    --------
    >>> from fastgd import activations
    >>> activations.get("elu")
    ELU(alpha=1.0)
    >>> activations.get("elus")
    Traceback (most recent call last):
        ...
    ValueError: unknown activation 'elus'; choose from elu, exp, gelu, hard_sigmoid, identity, \
leaky_relu, mish, relu, selu, sigmoid, silu, softmax, softplus, softsign, tanh
    """
    if isinstance(activation, Activation) and type(activation) is not Activation:
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"an activation must be a name or an object from fastgd.activations, got {activation!r}"
        )
    try:
        return _CLASSES[activation]()
    except KeyError:
        raise ValueError(
            f"unknown activation {activation!r}; choose from {', '.join(sorted(_CLASSES))}"
        ) from None
