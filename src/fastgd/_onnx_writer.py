"""Network.to_onnx: a network as an ONNX model, checked before it takes the place of a file.

The function is kept, and what names its inputs and classes; nothing of the training but the loss.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._onnx_formulas import Formulas
from ._validate import Array, choice
from ._version import __version__
from .io import metadata_of, plain_loss, write_atomically

if TYPE_CHECKING:
    from .network import Network

__all__ = ["LOSS_KEY", "PRODUCER", "import_onnx", "to_onnx"]

PRODUCER = "fastgd"
#: the loss among the model's metadata_props
LOSS_KEY = "fastgd.loss"

# The oldest that have all operators of the formulas in both precisions, for the oldest runtimes
_OPSET = 13
_IR_VERSION = 7
# The dtypes of X that a network takes as they are
_INPUT_DTYPES = (
    "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip
# Of protobuf, whose lengths are 32 bits with a sign; the names of values and nodes take little.
_LIMIT = 2**31 - 2**20


def import_onnx(purpose: str) -> Any:
    """Return the package onnx, or say in one line how to install it."""
    try:
        import onnx
    except ImportError:
        raise ImportError(
            f"{purpose} needs onnx; install it with: pip install 'fastgd[onnx]'"
        ) from None
    return onnx


def to_onnx(
    network: Network,
    path: str | os.PathLike[str],
    *,
    input_dtype: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as an ONNX model; see `Network.to_onnx`."""
    onnx = import_onnx("to_onnx")
    network._check_weights()
    wanted = network.dtype.name
    if input_dtype is not None:
        wanted = choice("input_dtype", input_dtype, _INPUT_DTYPES)
    kept = metadata_of(network, metadata)
    properties = {name: json.dumps(value, allow_nan=False) for name, value in kept.items()}
    if LOSS_KEY in properties:
        raise ValueError(f"metadata must not have the key {LOSS_KEY!r}: it holds the loss")
    properties[LOSS_KEY] = json.dumps(plain_loss(network))
    size = sum(array.nbytes for array in network._arrays(optimizer=False).values())
    size += sum(map(len, properties.values()))
    if size > _LIMIT:
        raise ValueError(f"an ONNX file holds {_LIMIT:,} bytes; this network takes {size:,}")

    with network._live().lock:  # another thread may be training it
        model = _model(onnx, network, np.dtype(wanted))
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(Path(path), model.SerializeToString(deterministic=True))


def _model(onnx: Any, network: Network, input_dtype: np.dtype[Any]) -> Any:
    graph = _Graph(onnx, network.dtype)
    helper = onnx.helper
    inputs = graph.shaped("X", input_dtype, network.n_inputs)
    outputs = graph.shaped("output", network.dtype, network.n_outputs)
    a = "X"
    if input_dtype != network.dtype:
        a = graph.node("Cast", a, to=helper.np_dtype_to_tensor_dtype(network.dtype))
    if network.input_scale != 1:
        a = graph.times(network.input_scale, a)
    last = len(network.layers) - 1
    for i, layer in enumerate(network.layers):
        assert layer.activation is not None
        parameters = [graph.constant(f"layers.{i}.weight", layer.weight)]
        if layer.bias is not None:
            parameters.append(graph.constant(f"layers.{i}.bias", layer.bias))
        z = graph.node("Gemm", a, *parameters, out=f"layers.{i}.z")
        a = graph.activation(layer.activation, z, "output" if i == last else f"layers.{i}.a")
    made = helper.make_graph(graph.nodes, "network", [inputs], [outputs], graph.constants)
    return helper.make_model(
        made,
        producer_name=PRODUCER,
        producer_version=__version__,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )


class _Graph(Formulas):
    """The nodes and constants of a graph; a node has the name of its result."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self.is_double = dtype == np.float64
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._onnx = onnx
        self._dtype = dtype
        self._numbers: dict[float, str] = {}

    def shaped(self, name: str, dtype: np.dtype[Any], units: int | None) -> Any:
        """Return the description of a value (n_samples, units)."""
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        return helper.make_tensor_value_info(name, kind, ["n_samples", units])

    def node(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"{op}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(op, inputs, [out], out, **attributes))
        return out

    def constant(self, name: str, array: Array) -> str:
        self.constants.append(
            self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        )
        return name

    def number(self, value: float) -> str:
        if value not in self._numbers:
            name = f"number_{len(self._numbers)}"
            self._numbers[value] = self.constant(name, np.array(value, self._dtype))
        return self._numbers[value]
