"""Converters to ONNX for skl2onnx, which finds them as soon as it is imported.

skl2onnx itself is not imported here. Its own converters for scikit-learn's classes are not used:
they know four activations, and one output of a regressor.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from .._imports import when_imported
from ..activations import Activation
from ._settings import hidden_activations, output_activation

__all__ = ["announce"]

# Activations that are one operation of ONNX
_SINGLE = {
    "identity": "Identity",
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "exp": "Exp",
}
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "output_class_labels": [False, True],
    "nocl": [True, False],
}


def announce() -> None:
    """Register the converters now if skl2onnx has been imported, else when it is."""
    when_imported("skl2onnx", lambda module: _register())


def _register() -> None:
    """Tell skl2onnx of the estimators, and of the originals if it has seen only ours."""
    from . import _estimators, _originals

    try:
        from skl2onnx import update_registered_converter
        from skl2onnx._supported_operators import sklearn_operator_name_map as known

        for module in (_estimators, _originals):
            for name, shapes, convert, options in (
                ("MLPClassifier", _classifier_shapes, _convert_classifier, _OPTIONS),
                ("MLPRegressor", _regressor_shapes, _convert_regressor, None),
            ):
                cls = getattr(module, name)
                if module is _estimators or cls not in known:
                    update_registered_converter(
                        cls, f"Fastgd{name}", shapes, convert, options=options
                    )
    except Exception as error:
        # The import of skl2onnx, of which this is a part, must not fail for it.
        warnings.warn(f"skl2onnx will not convert fastgd's estimators: {error}", stacklevel=2)


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType
    from skl2onnx.common.utils import check_input_and_output_numbers
    from skl2onnx.common.utils_classifier import get_label_classes

    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=2)
    model = operator.raw_operator
    n_samples = operator.inputs[0].get_first_dimension()
    classes = get_label_classes(operator.scope_inst, model)
    is_text = classes.dtype.kind not in "biuf"
    shape = [n_samples, model.n_outputs_] if _is_multilabel(model) else [n_samples]
    operator.outputs[0].set_type((StringTensorType if is_text else Int64TensorType)(shape))
    columns = 2 if model.n_outputs_ == 1 else model.n_outputs_
    operator.outputs[1].type.shape = [n_samples, columns]


def _regressor_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.utils import check_input_and_output_numbers

    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=1)
    is_double = isinstance(operator.inputs[0].type, DoubleTensorType)
    shape = [operator.inputs[0].get_first_dimension(), operator.raw_operator.n_outputs_]
    operator.outputs[0].set_type((DoubleTensorType if is_double else FloatTensorType)(shape))


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    from skl2onnx.common.utils_classifier import get_label_classes

    model = operator.raw_operator
    graph = _Graph(scope, operator, container)
    output = graph.forward(model)
    labels, probabilities = (variable.full_name for variable in operator.outputs)
    scores = output
    if model.n_outputs_ == 1:
        both = graph.node("Concat", graph.node("Sub", graph.number(1.0), output), output, axis=1)
        graph.node("Identity", both, out=probabilities)
        # A single class has no column for the other one, which could never be right.
        scores = both if len(model.classes_) == 2 else output
    else:
        graph.node("Identity", output, out=probabilities)
    if _is_multilabel(model):
        above = graph.node("Greater", output, graph.number(0.5))
        graph.node("Cast", above, out=labels, to=graph.proto.INT64)
        return
    classes = _labels(get_label_classes(scope, model))
    kind = graph.proto.STRING if classes.dtype.kind in "SO" else graph.proto.INT64
    names = graph.constant(kind, classes.shape, list(classes))
    best = graph.node("ArgMax", scores, axis=1, keepdims=0)
    graph.node("Gather", names, best, out=labels, axis=0)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    graph = _Graph(scope, operator, container)
    output = graph.forward(operator.raw_operator)
    graph.node("Identity", output, out=operator.outputs[0].full_name)


def _is_multilabel(model: Any) -> bool:
    return bool(model._label_binarizer.y_type_ == "multilabel-indicator")


def _labels(classes: Any) -> Any:
    """Return classes as ONNX has them: integers, or encoded strings."""
    if classes.dtype.kind in "biuf":
        # scikit-learn takes numbers for classes only if they are whole.
        return classes.astype(np.int64)
    return np.array([str(label).encode() for label in classes], dtype=object)


class _Graph:
    """Adds nodes to a container, each named by its result."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import guess_proto_type
        from skl2onnx.proto import onnx_proto

        self.proto = onnx_proto.TensorProto
        self._scope = scope
        self._container = container
        self._input = operator.inputs[0].full_name
        is_double = guess_proto_type(operator.inputs[0].type) == self.proto.DOUBLE
        self._type = self.proto.DOUBLE if is_double else self.proto.FLOAT

    def node(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add an operation; return the name of its result."""
        out = out or self._scope.get_unique_variable_name(op.lower())
        name = self._scope.get_unique_operator_name(op)
        self._container.add_node(op, list(inputs), [out], name=name, **attributes)
        return out

    def constant(self, kind: int, shape: Sequence[int], values: Any) -> str:
        """Add an array; return its name."""
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(shape), values)
        return name

    def number(self, value: float) -> str:
        return self.constant(self._type, [], [value])

    def forward(self, model: Any) -> str:
        """Add the layers of a model; return the name of the last one's output (n, n_outputs)."""
        a = self.node("Cast", self._input, to=self._type)
        hidden = hidden_activations(model.activation, len(model.coefs_) - 1)
        each = [*hidden, output_activation(model.out_activation_)]
        for W, b, activation in zip(model.coefs_, model.intercepts_, each, strict=True):
            product = self.node("MatMul", a, self.constant(self._type, W.shape, W.ravel()))
            z = self.node("Add", product, self.constant(self._type, b.shape, b))
            a = self.activation(activation, z)
        return a

    def activation(self, activation: Activation, z: str) -> str:
        """Add f(z), of operations that onnxruntime has in both precisions."""
        name, alpha = activation.name, activation.param
        if name in _SINGLE:
            return self.node(_SINGLE[name], z)
        if name == "softmax":
            return self.node("Softmax", z, axis=1)
        if name == "leaky_relu":
            return self.node("Add", self.node("Relu", z), self.times(alpha, self.below_zero(z)))
        if name == "elu":
            return self.elu(z, alpha)
        if name == "selu":
            from ..reference import SELU_ALPHA, SELU_SCALE

            return self.times(SELU_SCALE, self.elu(z, SELU_ALPHA))
        if name == "softplus":
            return self.softplus(z)
        if name == "softsign":
            return self.node("Div", z, self.plus(1.0, self.node("Abs", z)))
        if name == "hard_sigmoid":
            risen = self.node("Relu", self.plus(3.0, z))
            return self.times(1 / 6, self.node("Min", risen, self.number(6.0)))
        if name == "silu":
            return self.node("Mul", z, self.node("Sigmoid", z))
        if name == "mish":
            return self.node("Mul", z, self.node("Tanh", self.softplus(z)))
        assert name == "gelu"
        # All but erf, which is there in single precision only.
        single = self.node("Cast", self.times(sqrt(0.5), z), to=self.proto.FLOAT)
        erf = self.node("Cast", self.node("Erf", single), to=self._type)
        return self.times(0.5, self.node("Mul", z, self.plus(1.0, erf)))

    def plus(self, value: float, z: str) -> str:
        return self.node("Add", z, self.number(value))

    def times(self, value: float, z: str) -> str:
        return self.node("Mul", z, self.number(value))

    def below_zero(self, z: str) -> str:
        """Add min(z, 0)."""
        return self.node("Min", z, self.number(0.0))

    def elu(self, z: str, alpha: float) -> str:
        rise = self.plus(-1.0, self.node("Exp", self.below_zero(z)))
        return self.node("Add", self.node("Relu", z), self.times(alpha, rise))

    def softplus(self, z: str) -> str:
        # Without an overflow: max(z, 0) + log(1 + exp(-|z|))
        small = self.node("Exp", self.node("Neg", self.node("Abs", z)))
        return self.node("Add", self.node("Relu", z), self.node("Log", self.plus(1.0, small)))
