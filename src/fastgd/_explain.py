"""The chain rule of one sample, written out layer by layer with its numbers.

The numbers are the engine's own, of a step without dropout; those of the update follow from them by
the formulas of fastgd.reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels, losses
from ._flow import NextStep, cancels, slope
from ._html import block, fold, table
from ._validate import Array, is_blocks, is_table, real_array
from .activations import Activation
from .optimizers import SGD

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .network import Network

__all__ = ["Explanation", "LayerExplanation", "explain"]

_VALUE = {
    "identity": "z", "relu": "max(z, 0)", "leaky_relu": "z where z > 0, else alpha z",
    "elu": "z where z > 0, else alpha (exp(z) - 1)",
    "selu": "s z where z > 0, else s t (exp(z) - 1)", "gelu": "z Phi(z)", "silu": "z sigmoid(z)",
    "mish": "z tanh(log(1 + exp(z)))", "softplus": "log(1 + exp(z))", "softsign": "z / (1 + |z|)",
    "tanh": "tanh(z)", "sigmoid": "1 / (1 + exp(-z))", "hard_sigmoid": "min(max(z + 3, 0), 6) / 6",
    "exp": "exp(z)", "softmax": "exp(z_j) / sum_k exp(z_k)",
}  # fmt: skip
_SLOPE = {
    "identity": "1", "relu": "1 where a > 0, else 0", "leaky_relu": "1 where a > 0, else alpha",
    "elu": "1 where a > 0, else a + alpha", "selu": "s where a > 0, else a + s t",
    "gelu": "Phi(z) + z phi(z)", "silu": "sigmoid(z) (1 + z (1 - sigmoid(z)))",
    "mish": "tanh(s) + z sigmoid(z) (1 - tanh(s)^2), s = log(1 + exp(z))",
    "softplus": "sigmoid(z)", "softsign": "1 / (1 + |z|)^2", "tanh": "1 - a^2",
    "sigmoid": "a (1 - a)", "hard_sigmoid": "1/6 where |z| < 3, else 0", "exp": "a",
    "softmax": "da_j/dz_k = a_j ((j = k) - a_k)",
}  # fmt: skip
_LOSS = {
    "squared_error": "sum of 0.5 (a - y)^2", "absolute_error": "sum of |a - y|",
    "huber": "sum of 0.5 e^2, e = a - y, or d (|e| - 0.5 d) beyond d",
    "log_loss": "sum of -y log(a) - (1 - y) log(1 - a)", "cross_entropy": "-sum of y log(a)",
    "poisson": "sum of a - y log(a)",
}  # fmt: skip
_LOSS_SLOPE = {
    "squared_error": "a - y", "absolute_error": "sign(a - y)", "huber": "a - y held to [-d, d]",
    "log_loss": "(a - y) / (a (1 - a))", "cross_entropy": "-y / a", "poisson": "1 - y / a",
}  # fmt: skip
# Of longer vectors the first and last elements are shown, of longer sums the first terms.
_SHOWN, _EDGE, _TERMS = 10, 3, 4


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """The numbers of one layer for one sample; arrays have the network's dtype.

    Attributes
    ----------
    index : int
    activation : Activation
    x : ndarray (fan_in,)
        The layer's inputs: the sample, or the activations of the layer below.
    weight, bias : ndarray (fan_in, units), ndarray (units,) or None
        As they are, copied.
    z, a : ndarray (units,)
        z = x W + b and a = f(z).
    da : ndarray (units,)
        dL/da: the derivative of the loss, or delta of the layer above times its W transposed.
    derivative : ndarray (units,), for softmax (units, units)
        f'(z); of softmax the matrix of da_j/dz_k.
    delta : ndarray (units,)
        dL/dz = da * f'(z). Where ``cancels`` it is computed as a - y (times the sum of y).
    cancels : bool
        Whether the derivative of this output cancels with that of the loss.
    dW, db : ndarray (fan_in, units), ndarray (units,) or None
        dL/dW = x delta, penalties included, and dL/db = delta, both before clipping.
    new_weight, new_bias : ndarray (fan_in, units), ndarray (units,) or None
        After the optimiser's next step, if it took it on this sample alone.
    """

    index: int
    activation: Activation
    x: Array
    weight: Array
    bias: Array | None
    z: Array
    a: Array
    da: Array
    derivative: Array
    delta: Array
    cancels: bool
    dW: Array
    db: Array | None
    new_weight: Array
    new_bias: Array | None


class Explanation:
    """The chain rule of one sample with its numbers; it prints as text and shows as HTML.

    Attributes
    ----------
    x : ndarray (n_inputs,)
        The sample as the network takes it: in its dtype, and scaled.
    y : ndarray
        Its target.
    output : ndarray (n_outputs,)
    loss : float
        Of the sample, penalties included.
    lr : float
        The learning rate of the next step.
    layers : list of LayerExplanation
        From the first layer to the output.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1, "tanh")], "squared_error", n_inputs=1)
    >>> net.set_weights([np.array([[0.5]]), np.array([0.0])])
    >>> explanation = fastgd.explain(net, [0.0], 1.0)
    >>> explanation.loss, explanation.layers[0].delta.item()
    (0.5, -1.0)
    """

    def __init__(
        self, network: Network, x: Array, y: Array, loss: float, lr: float,
        layers: Sequence[LayerExplanation],
    ) -> None:  # fmt: skip
        self.x = x
        self.y = y
        self.output: Array = layers[-1].a
        self.loss = loss
        self.lr = lr
        self.layers: list[LayerExplanation] = list(layers)
        self._loss_name = network.loss_name
        self._optimizer = network.optimizer.own_copy()
        self._has_penalties = any(layer.l1 or layer.l2 for layer in network.layers)

    def __repr__(self) -> str:
        lines = []
        for title, steps in self._sections():
            lines += [title, *(f"  {line}" for step in steps for line in step.text()), ""]
        return "\n".join(lines[:-1])

    def _repr_html_(self) -> str:
        parts = []
        for title, steps in self._sections():
            rows = [(step.left, step.right()) for step in steps]
            parts.append(_formula_table(title, rows))
        return block(f"The chain rule for one sample: loss {self.loss:.6g}", *parts)

    def _sections(self) -> Iterator[tuple[str, list[_Step]]]:
        yield "The sample", [_Step("x", self.x), _Step("y", self.y)]
        for layer in self.layers:
            name = layer.activation.name
            yield f"Forward, layer {layer.index}: {_shape(layer)}, {name}", list(_forward(layer))
        yield (
            "Loss",
            [
                _Step(
                    f"L = {_LOSS.get(self._loss_name, 'the custom loss')}"
                    f"{' + penalties' if self._has_penalties else ''}",
                    self.loss,
                )
            ],
        )
        for layer in reversed(self.layers):
            yield (
                f"Backward, layer {layer.index}: {_shape(layer)}, {layer.activation.name}",
                [*self._backward(layer), *self._update(layer)],
            )

    def _backward(self, layer: LayerExplanation) -> Iterator[_Step]:
        is_output = layer is self.layers[-1]
        if is_output:
            of_loss = _LOSS_SLOPE.get(self._loss_name, "delta of the custom loss")
            yield _Step(f"dL/da = {of_loss}", layer.da)
        else:
            above = layer.index + 1
            yield _Step(f"dL/da = delta W^T, both of layer {above}", layer.da)
        yield _Step(f"f'(z): {_SLOPE[layer.activation.name]}", layer.derivative)
        if layer.cancels:
            yield _Step("delta = dL/da f'(z) = a - y, the derivative cancels", layer.delta)
        else:
            yield _Step("delta = dL/da f'(z)", layer.delta)

    def _update(self, layer: LayerExplanation) -> Iterator[_Step]:
        penalty = " + penalties" if self._has_penalties else ""
        yield _Step(f"dL/dW = x^T delta{penalty}", layer.dW)
        if layer.db is not None:
            yield _Step("dL/db = delta", layer.db)
        if self._is_plain_sgd():
            yield _Step(f"W <- W - lr dL/dW, lr = {self.lr:g}", layer.new_weight)
            if layer.new_bias is not None:
                yield _Step("b <- b - lr dL/db", layer.new_bias)
            return
        kind = type(self._optimizer).__name__
        yield _Step(f"step of {kind} in W, lr = {self.lr:g}", layer.new_weight - layer.weight)
        yield _Step("W after it", layer.new_weight)
        if layer.new_bias is not None and layer.bias is not None:
            yield _Step("step in b", layer.new_bias - layer.bias)
            yield _Step("b after it", layer.new_bias)

    def _is_plain_sgd(self) -> bool:
        o = self._optimizer
        return isinstance(o, SGD) and not (
            o.momentum or o.weight_decay or o.clip_value or o.clip_norm
        )


def explain(network: Network, x: ArrayLike, y: ArrayLike) -> Explanation:
    """Write out the chain rule of one sample, layer by layer; the network is not changed.

    Parameters
    ----------
    network : Network
        With weights.
    x : array (n_inputs,) or (1, n_inputs), or table of one row
        One sample.
    y : scalar or array
        Its target: a number, a label, or an array (n_outputs,); with x of shape (1, n_inputs) also
        as `Network.fit` takes it, with one row.

    Returns
    -------
    Explanation
        Its text and its HTML show z, a, the derivative, delta, dW and the new weights of each
        layer, long arrays abbreviated; its attributes hold all the numbers, unrounded.

    Raises
    ------
    ValueError, TypeError
        If x is not one sample, or x, y or the weights cannot be used.
    DivergenceError
        If the loss of the sample is not finite, and so has no gradient.
    RuntimeError
        If the network has no weights yet.

    Notes
    -----
    z, a, delta and the gradient are those that training computes, without dropout. The new weights
    follow by the optimiser's formula as fastgd.reference has it, and may differ from what a
    training step leaves by rounding.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1, "sigmoid")], "squared_error", fastgd.SGD(lr=2.0),
    ...                      n_inputs=2)
    >>> net.set_weights([np.array([[0.5], [-0.25]]), np.array([0.0])])
    >>> print(fastgd.explain(net, [1.0, 2.0], 1.0))
    The sample
      x = [1, 2]
      y = [1]
    <BLANKLINE>
    Forward, layer 0: 2 -> 1, sigmoid
      z = x W + b = [0]
        z_0 = 1 * 0.5 + 2 * -0.25 + 0 = 0
      a = f(z) = 1 / (1 + exp(-z)) = [0.5]
    <BLANKLINE>
    Loss
      L = sum of 0.5 (a - y)^2 = 0.125
    <BLANKLINE>
    Backward, layer 0: 2 -> 1, sigmoid
      dL/da = a - y = [-0.5]
      f'(z): a (1 - a) = [0.25]
      delta = dL/da f'(z) = [-0.125]
      dL/dW = x^T delta =
        [-0.125]
        [-0.25]
      dL/db = delta = [-0.125]
      W <- W - lr dL/dW, lr = 2 =
        [0.75]
        [0.25]
      b <- b - lr dL/db = [0.25]
    """
    from .network import Network

    if not isinstance(network, Network):
        raise TypeError(f"network must be a fastgd.Network, not {network!r}")
    engine = network._live()
    row = np.asarray(_array("x", x, network))
    target = np.asarray(_array("y", y, network))
    if row.ndim == 1:
        row, target = row[None], target[None]
    elif row.ndim != 2 or len(row) != 1:
        raise ValueError(
            f"x must be one sample, of shape ({network.n_inputs},) or (1, {network.n_inputs}), "
            f"not {row.shape}"
        )
    elif target.ndim == 0:
        target = target[None]
    data = network._check(row, target)
    network._check_weights()
    lr = float(network.optimizer.learning_rates(engine.step, 1)[0])
    found: dict[str, dict[int, Array]] = {name: {} for name in ("x", "z", "a", "delta")}
    gradients: list[tuple[Array, Array | None]] = []

    def watch(op: str, layer: int, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if op == "forward":
            found["x"][layer] = inputs["X"][0].copy()
            found["z"][layer] = outputs["z"][0].copy()
            found["a"][layer] = outputs["a"][0].copy()
        elif op == "weight_grad":
            found["delta"][layer] = inputs["delta"][0].copy()
        elif op == "gradient":
            db = outputs["db"]
            gradients.append((outputs["dW"].copy(), None if db is None else db.copy()))

    loss = float(engine.look(*data, watch))
    if not gradients:
        from ._training import DivergenceError

        raise DivergenceError(
            "the loss of this sample is not finite, and so has no gradient. Try smaller weights, "
            "or standardised inputs and targets."
        )
    step = NextStep(network, gradients, lr)
    layers = [
        _layer(network, i, {name: of[i] for name, of in found.items()}, gradients[i], step)
        for i in range(len(network.layers))
    ]
    # From the output downwards, as the chain rule goes.
    completed: list[LayerExplanation] = []
    da = _loss_slope(network, layers[-1]["a"], data.y)
    for values in reversed(layers):
        completed.insert(0, LayerExplanation(da=da, **values))
        da = kernels.backward(values["delta"][None], values["weight"])[0]
    return Explanation(network, found["x"][0], np.array(data.y[0]), loss, lr, completed)


def _layer(
    network: Network,
    i: int,
    found: Mapping[str, Array],
    gradient: tuple[Array, Array | None],
    step: NextStep,
) -> dict[str, Any]:
    """Return the fields of a LayerExplanation but da."""
    layer = network.layers[i]
    act = layer.activation
    assert act is not None
    z, a = found["z"], found["a"]
    derivative = np.diag(a) - np.outer(a, a) if act.name == "softmax" else slope(act, z, a)
    return {
        **found,
        "index": i,
        "activation": act,
        "weight": np.array(layer.weight, order="C"),
        "bias": None if layer.bias is None else layer.bias.copy(),
        "derivative": derivative,
        "cancels": cancels(network, i),
        "dW": np.ascontiguousarray(gradient[0]),
        "db": gradient[1],
        "new_weight": np.ascontiguousarray(step.weight(i)),
        "new_bias": step.bias(i),
    }


def _loss_slope(network: Network, output: Array, y: Array) -> Array:
    """Return dL/da (units,) of the one sample."""
    if network.loss_name == "custom":
        return losses.CustomAdapter(network.loss)(output[None], y)[1][0]
    if not (network.loss_name == "cross_entropy" and y.ndim == 1):
        y = y.reshape(1, -1).astype(output.dtype)
    return np.asarray(network.loss.delta(output[None], y), output.dtype)[0]


# ---- how it is written ---------------------------------------------------------------------------


class _Step:
    """A formula, what it gives, and lines that say more."""

    def __init__(self, left: str, value: Array | float, more: Sequence[str] = ()) -> None:
        self.left, self.value, self.more = left, value, more

    def text(self) -> Iterator[str]:
        rows = _rows(self.value)
        if len(rows) == 1:
            yield f"{self.left} = {rows[0]}"
        else:
            yield f"{self.left} ="
            yield from (f"  {row}" for row in rows)
        yield from (f"  {line}" for line in self.more)

    def right(self) -> list[str]:
        return [*_rows(self.value), *self.more]


def _forward(layer: LayerExplanation) -> Iterator[_Step]:
    plus = "" if layer.bias is None else " + b"
    terms = [
        f"{_number(x)} * {_number(w)}"
        for x, w in zip(layer.x[:_TERMS], layer.weight[:_TERMS, 0], strict=True)
    ]
    left_out = len(layer.x) - len(terms)
    if left_out:
        terms.append(f"... ({left_out} more)")
    if layer.bias is not None:
        terms.append(_number(layer.bias[0]))
    example = f"z_0 = {' + '.join(terms)} = {_number(layer.z[0])}"
    yield _Step(f"z = x W{plus}", layer.z, [example])
    yield _Step(f"a = f(z) = {_VALUE[layer.activation.name]}", layer.a)


def _shape(layer: LayerExplanation) -> str:
    fan_in, units = layer.weight.shape
    return f"{fan_in} -> {units}"


def _number(x: float) -> str:
    return f"{float(x) + 0.0:.6g}"  # -0 as 0


def _abbreviated(items: Sequence[Any]) -> list[Any]:
    """Return the items, None in place of those in the middle of many."""
    if len(items) <= _SHOWN:
        return list(items)
    return [*items[:_EDGE], None, *items[-_EDGE:]]


def _array(name: str, value: ArrayLike, network: Network) -> ArrayLike:
    """Return a table, or a column of one, as an array, and anything else as it is."""
    if is_blocks(value):
        return real_array(name, value)  # refuses them
    if not is_table(value):
        return value
    from ._frames import is_frame, to_array

    if name == "x" and is_frame(value):
        return network._features(value)  # checks the names
    return to_array(name, value)


def _rows(value: Array | float) -> list[str]:
    """Write a number, a vector in one line, or a matrix in lines."""
    array = np.asarray(value)
    if array.ndim == 0:
        return [_number(array.item())]
    if array.ndim == 1:
        cells = ["..." if x is None else _number(x) for x in _abbreviated(array.tolist())]
        size = f"  ({len(array)} numbers)" if len(array) > _SHOWN else ""
        return [f"[{', '.join(cells)}]{size}"]
    rows = [
        "..." if row is None else _rows(np.asarray(row))[0].partition("  (")[0]
        for row in _abbreviated(array.tolist())
    ]
    if max(array.shape) > _SHOWN:
        rows[-1] += f"  ({array.shape[0]} x {array.shape[1]} numbers)"
    return rows


def _formula_table(title: str, rows: Sequence[tuple[str, list[str]]]) -> str:
    shown = [(left, "\n".join(right)) for left, right in rows]
    return fold(title, table(("formula", "numbers"), shown, n_text=2, wrap=True))
