"""The activations in operators of ONNX, for all that write graphs: to_onnx, and for skl2onnx.

Only operators that onnxruntime has in float32 and float64, and forms that keep their accuracy where
the result is small: its own Sigmoid, for one, is right to a unit of 1, not of the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import sqrt
from typing import Any

from .activations import Activation

__all__ = ["Formulas"]

# Activations that are one operator
_SINGLE = {"identity": "Identity", "relu": "Relu", "tanh": "Tanh", "exp": "Exp"}

# (x + k) exp(x^2 / 2) Phi(-x) in (x - k) / (x + k), 0 <= x <= 38: k and the coefficients of the
# kernels, csrc/template/math_coefs.h, lowest degree first; made by tools/minimax.py.
NORMAL_TAIL_K = 3.46875
_COEFFICIENTS = """
    0x1.7cba514d63fc6p-1 -0x1.2000624f83b99p-1 0x1.3df237db8c567p-2 -0x1.c9342ce9d6034p-4
    0x1.f034e0bbfe287p-7 0x1.c3ce4654fb93fp-8 -0x1.86885b5c70142p-9 -0x1.23ab822165655p-11
    0x1.db769bff219b3p-12 0x1.74421c0f59109p-14 -0x1.28a8e5e1f1d92p-14 -0x1.800080167a2dap-16
    0x1.4f14c61c02e2cp-17 0x1.a78f8363db6adp-18 -0x1.6ef8e4c6a93c1p-21 -0x1.985cef4b1fadcp-20
    -0x1.24070b0ef6be7p-22 0x1.202eaa4ba111bp-22 0x1.3fa5eb6463ea8p-23 -0x1.25617bb0f2e88p-26
    -0x1.4cc7ff06a3b19p-25 -0x1.cb8306a191ae2p-28 0x1.4ba3937f0a532p-28 0x1.d2d5e09c2dfeap-30
    """
NORMAL_TAIL = tuple(map(float.fromhex, _COEFFICIENTS.split()))


class Formulas(ABC):
    """Adds activations to a graph, which the methods `node` and `number` of a subclass write to.

    Values are known by their names.

    Attributes
    ----------
    is_double : bool
        Whether the graph computes in float64.
    """

    is_double: bool

    @abstractmethod
    def node(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add an operator; return the name of its result, which is out if that is given."""

    @abstractmethod
    def number(self, value: float) -> str:
        """Add a constant without dimensions, in the graph's precision; return its name."""

    def activation(self, activation: Activation, z: str, out: str | None = None) -> str:
        """Add f(z); return the name of its result."""
        name, alpha = activation.name, activation.param
        if name in _SINGLE:
            return self.node(_SINGLE[name], z, out=out)
        if name == "softmax":
            return self.node("Softmax", z, out=out, axis=1)
        if name == "leaky_relu":
            below = self.times(alpha, self.below_zero(z))
            return self.node("Add", self.node("Relu", z), below, out=out)
        if name == "elu":
            return self.elu(z, alpha, out)
        if name == "selu":
            from .reference import SELU_ALPHA, SELU_SCALE

            return self.times(SELU_SCALE, self.elu(z, SELU_ALPHA), out)
        if name == "gelu":
            return (self.gelu_by_tail if self.is_double else self.gelu_by_erf)(z, out)
        if name == "sigmoid":
            return self.node("Reciprocal", self.one_and_exp_of_minus(z), out=out)
        if name == "silu":
            return self.node("Div", z, self.one_and_exp_of_minus(z), out=out)
        if name == "mish":
            return self.mish(z, out)
        if name == "softplus":
            # max(z, 0) + log(1 + exp(-|z|)), which does not overflow
            small = self.node("Exp", self.node("Neg", self.node("Abs", z)))
            return self.node("Add", self.node("Relu", z), self.log1p(small), out=out)
        if name == "softsign":
            return self.node("Div", z, self.plus(1.0, self.node("Abs", z)), out=out)
        assert name == "hard_sigmoid", name
        line = self.plus(0.5, self.times(1 / 6, z))
        return self.node("Min", self.node("Relu", line), self.number(1.0), out=out)

    # ---- their parts ----------------------------------------------------------------------

    def plus(self, value: float, z: str) -> str:
        return self.node("Add", z, self.number(value))

    def times(self, value: float, z: str, out: str | None = None) -> str:
        return self.node("Mul", z, self.number(value), out=out)

    def below_zero(self, z: str) -> str:
        """Add min(z, 0)."""
        return self.node("Min", z, self.number(0.0))

    def one_and_exp_of_minus(self, z: str) -> str:
        return self.plus(1.0, self.node("Exp", self.node("Neg", z)))

    def elu(self, z: str, alpha: float, out: str | None = None) -> str:
        # exp(x) - 1 = tanh(x / 2) (exp(x) + 1), where nothing cancels.
        x = self.below_zero(z)
        rise = self.node(
            "Mul", self.node("Tanh", self.times(0.5, x)), self.plus(1.0, self.node("Exp", x))
        )
        return self.node("Add", self.node("Relu", z), self.times(alpha, rise), out=out)

    def log1p(self, u: str) -> str:
        """Add log(1 + u), u >= 0."""
        # With w the rounded 1 + u, log(w) / (w - 1) is that of 1 + u nearly (Kahan).
        w = self.plus(1.0, u)
        rise = self.plus(-1.0, w)
        ratio = self.node("Div", self.node("Log", w), rise)
        is_lost = self.node("Equal", rise, self.number(0.0))
        return self.node("Where", is_lost, u, self.node("Mul", u, ratio))

    def mish(self, z: str, out: str | None = None) -> str:
        # tanh(log(1 + w)) = n / (n + 2), n = w (w + 2), w = exp(z): 1 long before z = 40.
        w = self.node("Exp", self.node("Min", z, self.number(40.0)))
        n = self.node("Mul", w, self.plus(2.0, w))
        return self.node("Mul", z, self.node("Div", n, self.plus(2.0, n)), out=out)

    def gelu_by_erf(self, z: str, out: str | None = None) -> str:
        """Add z (1 + erf(z / sqrt(2))) / 2; onnxruntime has erf in float32 only."""
        erf = self.node("Erf", self.times(sqrt(0.5), z))
        return self.times(0.5, self.node("Mul", z, self.plus(1.0, erf)), out)

    def gelu_by_tail(self, z: str, out: str | None = None) -> str:
        """Add max(z, 0) - x Phi(-x), x = min(|z|, 38), as the kernels compute it."""
        x = self.node("Min", self.node("Abs", z), self.number(38.0))
        u = self.node("Div", x, self.plus(NORMAL_TAIL_K, x))
        y = self.plus(-1.0, self.times(2.0, u))
        p = self.number(NORMAL_TAIL[-1])
        for coefficient in reversed(NORMAL_TAIL[:-1]):
            p = self.plus(coefficient, self.node("Mul", p, y))
        density = self.node("Exp", self.times(-0.5, self.node("Mul", x, x)))
        tail = self.node("Mul", self.node("Mul", p, u), density)
        return self.node("Sub", self.node("Relu", z), tail, out=out)
