"""from_onnx: the network that a graph of ONNX computes, as other packages' exporters write it.

A graph is followed from its input. Linear operators make layers; what lies between two of them is
a function of one number, and is known by its values, so that its spelling does not matter: erf, or
Div, Erf, Add and Mul; Sigmoid and Mul; a Softplus with a threshold. Nothing is run by onnxruntime.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import activations
from ._errors import ModelFileError
from ._files import open_regular
from ._numbers import held
from ._onnx_functions import FUNCTIONS, PROBES, TOLERANCE, nearest_activation, shortest
from ._onnx_writer import LOSS_KEY, PRODUCER, import_onnx
from ._pairing import LOSSES, canonical_output, check_pairing
from ._validate import Array
from .activations import Activation
from .io import from_json, json_copy, loss_of, shown
from .layers import Dense
from .losses import CustomLoss, Loss, kind_of
from .network import Network
from .optimizers import Optimizer

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["from_onnx"]

# What may have a constant of its own for each unit
_BY_UNIT = ("Add", "Sub", "Mul", "Div")
# Kinds of numbers, V being bfloat16 and the like. Text comes as Python objects, whose size has no
# bound where they are added and multiplied.
_NUMBERS = "biufV"
# What may have constants that are none, such as names of classes
_OF_LABELS = ("Gather", "Identity", "ai.onnx.ml.ArrayFeatureExtractor")
# Nodes between two layers; the activations of exporters take up to a dozen.
_MOST_STEPS = 64
# What protobuf holds; larger models have their weights in a second file.
_LARGEST_FILE = 2**31 - 1
# What a node takes in memory beside its bytes, so that functions add some 100,000 at most
_NODE = 640
# Functions within functions; those of exporters take up to a dozen, and later onnx allows so many.
_MOST_NESTED = 100
# What may be computed to read a model, in bytes: so much, and so much for each number it holds.
_WORK = 1 << 26
_WORK_PER_NUMBER = 64
# A comparison with all activations takes about as long as so many functions of the probes.
_COMPARISON = 10
# Axes of a value, as in NumPy
_MOST_AXES = 64
# Of each node at most so much is kept to be told, in characters.
_LONGEST_LABEL = 200
_LONGEST_REFUSAL = 500
# Up to here the activation is told which was meant, such as gelu where it was computed by tanh.
_NEAR_MISS = 0.01


def from_onnx(
    model: str | os.PathLike[str] | bytes | ModelProto,
    *,
    loss: str | Loss | CustomLoss | None = None,
    optimizer: str | Optimizer = "sgd",
    output: str | None = None,
    seed: int | None = 0,
) -> Network:
    """Return the network that an ONNX model of dense layers computes.

    Parameters
    ----------
    model : str or path-like, bytes, or onnx.ModelProto
        A file, also one with its weights in a second file beside it; its content; or the model.
    loss : str or object, optional
        By default the one that `Network.to_onnx` has noted; for files of others the one whose
        canonical output the network has, else squared_error.
    optimizer : str or object
        For further training, as in `Network`.
    output : str, optional
        Name of the value of the graph that the network is to return, where the graph has several
        outputs, or where what comes last is not for fastgd, such as a LogSoftmax.
    seed : int or None
        For further training, as in `Network`.

    Returns
    -------
    Network
        In the dtype of the graph's weights, float32 or float64. ``metadata`` holds the model's
        metadata_props, and "classes" if the graph has labels.

    Raises
    ------
    ModelFileError
        If the model is damaged, is no network of dense layers (the message names the operator and
        its node), or holds weights that are not finite.
    ValueError, TypeError
        If loss and output do not go together.
    OSError
        If the file cannot be read.
    ImportError
        Without the package onnx, which the extra ``onnx`` installs.

    Notes
    -----
    Layers are Gemm, or MatMul and Add; Scaler, BatchNormalization and other multiples and sums with
    constants are taken into the weights beside them, and a positive factor of the input into
    input_scale. Between layers may stand whatever computes one of fastgd's activations, to 1e-6 of
    its value or of 1. Flatten, Reshape, Identity, Dropout and casts between float32 and float64
    change nothing. Of scikit-learn's classifiers the probabilities are read; for two classes the
    network has one output, the probability of the second.

    Models from others are safe to read: no code in them is run. ONNX has no checksum: a flipped bit
    within a weight is not found.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastgd
    >>> layers = [fastgd.Dense(4, "gelu"), fastgd.Dense(3)]
    >>> net = fastgd.Network(layers, "cross_entropy", n_inputs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     net.to_onnx(path)
    ...     again = fastgd.from_onnx(path)
    >>> again.layers
    (Dense(4, 'gelu'), Dense(3, 'softmax'))
    >>> bool((again.predict(np.eye(2)) == net.predict(np.eye(2))).all())
    True
    """
    onnx = import_onnx("from_onnx")
    what = "the model"
    if isinstance(model, str | os.PathLike):
        what = os.fspath(model)
        path = Path(model)
        with open_regular(path, ModelFileError) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_FILE:
                raise ModelFileError(f"{path} has {size:,} bytes, and no ONNX file more than 2 GiB")
            content: Any = file.read()
    elif isinstance(model, bytes | onnx.ModelProto):
        path, content = None, model
    else:
        raise TypeError(f"model must be a path, bytes or an onnx.ModelProto, not {model!r}")
    try:
        proto = _parsed(onnx, content, path)
        reader = _Reader(onnx, proto)
        # Infinite and missing values are results here; weights are checked in the end.
        with np.errstate(all="ignore"):
            layers, scale = reader.network(output)
        _check_held(layers, scale, np.dtype(reader.dtype))
        metadata = _metadata(proto, reader.classes)
        # That of the file is the loss of its output.
        is_inner = output is not None and output not in {x.name for x in proto.graph.output}
        if loss is None and not is_inner:
            loss = _noted_loss(proto, layers[-1].activation)
        if loss is None:
            loss = _fitting_loss(layers[-1].activation)
    except ModelFileError as error:
        raise ModelFileError(f"cannot read {what}: {shown(error)}") from error.__cause__
    network = Network(
        [Dense(one.weight.shape[1], one.activation, bias=one.bias is not None) for one in layers],
        loss,
        optimizer,
        len(layers[0].weight),
        reader.dtype,
        seed,
        input_scale=scale,
    )
    try:
        network.set_weights(
            [array for one in layers for array in (one.weight, one.bias) if array is not None]
        )
    except ValueError as error:
        raise ModelFileError(f"cannot read {what}: {error}") from None
    network.metadata = metadata
    return network


def _check_held(layers: Iterable[Any], scale: float, dtype: np.dtype[Any]) -> None:
    """Refuse numbers that the model's dtype does not hold: they are no settings of the caller."""
    try:
        held("the model", {"input_scale": scale}, dtype)
        for one in layers:
            held(f"its {type(one.activation).__name__}", vars(one.activation), dtype)
    except ValueError as error:
        raise ModelFileError(str(error)) from None


def _parsed(onnx: Any, content: Any, path: Path | None) -> Any:
    """Return the checked model, with the weights of a second file and without functions."""
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content) if isinstance(content, bytes) else content
        if path is None:
            for tensor in model.graph.initializer:
                _check_place(onnx, tensor)
        onnx.checker.check_model(model if path is None else str(path))
        if model.functions:
            import onnx.inliner

            _check_expansion(model)
            model = onnx.inliner.inline_local_functions(model)
            # Those of other versions of the operators are left, and are no part of the graph.
            del model.functions[:]
        _check_text(model)
        if path is not None:
            _check_second_files(onnx, model, path)
            onnx.load_external_data_for_model(model, str(path.parent))
    except DecodeError as error:
        raise ModelFileError("it is no ONNX model, or damaged or truncated") from error
    except ModelFileError:
        raise
    # What the checker finds, names of files that lead elsewhere, tensors shorter than they claim
    except (onnx.checker.ValidationError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"it is damaged, or no model that onnx knows: {error}") from error
    except OSError as error:
        raise ModelFileError(f"its weights are in a second file: {error}") from error
    except MemoryError as error:
        raise ModelFileError("it takes more memory than there is") from error
    return model


def _check_text(model: Any) -> None:
    """Refuse names that are not UTF-8, which protobuf gives as bytes."""
    graph = model.graph
    texts = [
        model.producer_name,
        *(text for x in model.metadata_props for text in (x.key, x.value)),
    ]
    texts += [x.name for part in (graph.initializer, graph.input, graph.output) for x in part]
    for node in graph.node:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    if not all(isinstance(text, str) for text in texts):
        raise ModelFileError("it has names or metadata that are not UTF-8")


class _Expansion(NamedTuple):
    """What nodes become when functions are written out.

    Attributes
    ----------
    n_bytes : what they take
    n_references : attributes that will be those of the call, whatever their size
    depth : functions within functions
    """

    n_bytes: int = 0
    n_references: int = 0
    depth: int = 0


def _function_id(domain: str, name: str, overload: str) -> str:
    """Return what onnx finds functions by, in which parts may hold the separator as well."""
    return "::".join(["" if domain == "ai.onnx" else domain, name, *([overload] * bool(overload))])


def _check_expansion(model: Any) -> None:
    """Refuse functions that call themselves, or each other so often that the model explodes."""
    functions = {_function_id(x.domain, x.name, x.overload): x for x in model.functions}
    known: dict[str, _Expansion] = {}

    def of_function(name: str, above: tuple[str, ...]) -> _Expansion:
        if name not in functions:
            return _Expansion()
        if name in above:
            raise ModelFileError(f"its function {name} calls itself")
        if len(above) + (known[name].depth if name in known else 1) > _MOST_NESTED:
            raise ModelFileError(f"its functions are nested more than {_MOST_NESTED} deep")
        if name not in known:
            one = functions[name]
            inner = of_nodes(one.node, (*above, name))
            # A call copies all of the function, also what is no node.
            beside = one.ByteSize() - sum(node.ByteSize() for node in one.node)
            defaults = sum(attribute.ByteSize() for attribute in one.attribute_proto)
            beside += inner.n_references * defaults
            known[name] = _Expansion(inner.n_bytes + beside, inner.n_references, inner.depth + 1)
        return known[name]

    def of_nodes(nodes: Any, above: tuple[str, ...]) -> _Expansion:
        n_bytes = n_references = depth = 0
        for node in nodes:
            called = of_function(_function_id(node.domain, node.op_type, node.overload), above)
            graphs = [
                of_nodes(graph.node, above)
                for attribute in node.attribute
                for graph in (attribute.g, *attribute.graphs)
            ]
            own = _NODE + node.ByteSize() + sum(one.n_bytes for one in graphs)
            passed = sum(bool(attribute.ref_attr_name) for attribute in node.attribute)
            passed += sum(one.n_references for one in graphs)
            # Each reference within the function becomes an attribute of this call.
            n_bytes += own * (1 + called.n_references) + called.n_bytes
            n_references += passed * (1 + called.n_references)
            depth = max(depth, called.depth, *(one.depth for one in graphs))
        return _Expansion(n_bytes, n_references, depth)

    once = sum(_NODE + node.ByteSize() for node in model.graph.node) + sum(
        _NODE * len(one.node) + one.ByteSize() for one in functions.values()
    )
    if of_nodes(model.graph.node, ()).n_bytes > once + _WORK:
        raise ModelFileError("its functions, written out, make it too large")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_second_files(onnx: Any, model: Any, path: Path) -> None:
    """Refuse tensors that together take more bytes than their files have, again and again."""
    own = path.stat()
    sizes: dict[tuple[int, int], int] = {}
    taken = 0
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        status = (path.parent / entries.get("location", "")).stat()
        if os.path.samestat(status, own):
            raise ModelFileError(f"its tensor {tensor.name!r} is said to be the model's own file")
        sizes[status.st_dev, status.st_ino] = status.st_size
        length = int(entries.get("length") or 0)
        # To older versions of onnx these mean all that follows.
        if length <= 0:
            length = max(0, status.st_size - int(entries.get("offset") or 0))
        taken += length
    if taken > sum(sizes.values()):
        raise ModelFileError(
            f"its tensors take {taken:,} bytes of files that have {sum(sizes.values()):,}"
        )


def _check_place(onnx: Any, tensor: Any) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelFileError("its weights are in a second file: give the path of the first")


def _metadata(model: Any, classes: list[Any] | None) -> dict[str, Any]:
    found = {entry.key: entry.value for entry in model.metadata_props}
    # Whoever has written it: to_onnx writes its own.
    found.pop(LOSS_KEY, None)
    if model.producer_name == PRODUCER:
        found = {key: _json_or_text(value) for key, value in found.items()}
    if classes is not None and "classes" not in found:
        try:
            found |= json_copy({"classes": classes}, "classes")
        except (TypeError, ValueError) as error:
            raise ModelFileError(f"its classes are neither text nor numbers: {error}") from error
    return found


def _json_or_text(text: str) -> Any:
    try:
        return from_json(text)
    except (ValueError, RecursionError):
        # Another tool has added it to a file of ours.
        return text


def _noted_loss(model: Any, output: Activation) -> Loss | CustomLoss | None:
    """Return the loss that to_onnx has noted, which must fit the output activation."""
    notes = {entry.key: entry.value for entry in model.metadata_props}
    if model.producer_name != PRODUCER or LOSS_KEY not in notes:
        return None
    try:
        loss = loss_of(from_json(notes[LOSS_KEY]), None)
        if isinstance(loss, Loss):
            check_pairing(kind_of(loss), output.name)
        return loss
    except ModelFileError:
        raise
    except (
        LookupError, TypeError, ValueError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelFileError(f"its loss is damaged: {error}") from error


def _fitting_loss(last: Activation) -> str:
    canonical = (loss for loss in LOSSES if canonical_output(loss) == last.name)
    return next(canonical, "squared_error")


# ---- what a value of the graph is -----------------------------------------------------------


class _Refused(Exception):
    """What makes a value none of a dense network; it is told if the network needs the value."""


_ABSENT = _Refused("is absent")
# What operands and attributes that do not fit each other may raise
_MISFITS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    weight: Array  # (fan_in, units)
    bias: Array | None  # (units,)
    activation: Activation


class _Affine(NamedTuple):
    """scale z + shift; has_shift says whether something was added, be it 0."""

    scale: Any = 1.0
    shift: Any = 0.0
    has_shift: bool = False


_IDENTITY = _Affine()


@dataclass(eq=False)
class _Base:
    """z = scale (x W) + shift, or scale x + shift, of the output x of the layers below.

    Attributes
    ----------
    below : the layers; with none of them, x is the input times input_scale
    weight : (fan_in, units), or None
    affine : with numbers or (units,)
    steps : the functions computed from z, each of the results of others: (function, operands)
    forms : those of the results that are affine functions of z, with numbers
    known : the layers of which a result is the output, or why there are none, by index
    """

    below: tuple[_Layer, ...]
    input_scale: float = 1.0
    weight: Array | None = None
    affine: _Affine = _IDENTITY
    steps: list[tuple[Callable[..., Any], list[Any]]] = field(default_factory=list)
    forms: list[_Affine] = field(default_factory=lambda: [_IDENTITY])
    known: dict[int, tuple[_Layer, ...] | str] = field(default_factory=dict)

    def moved(self, by: _Affine) -> _Base:
        """Return the base that is an affine function of this one."""
        scale, shift, has_shift = self.affine
        moved = _Affine(scale * by.scale, shift * by.scale + by.shift, has_shift or by.has_shift)
        return _Base(self.below, self.input_scale, self.weight, moved)

    def values(self, z: Array, index: int) -> Array:
        """Return the result of a step, index 0 being z itself."""
        results = [z]
        for function, operands in self.steps[:index]:
            arguments = (results[x.index] if isinstance(x, _Signal) else x for x in operands)
            results.append(function(*arguments))
        return np.broadcast_to(np.asarray(results[index], dtype=np.float64), z.shape)


@dataclass(frozen=True, eq=False)
class _Signal:
    """A function of each element of a base.

    Attributes
    ----------
    shape : without the samples; None for a size that is not known
    index : of the step of the base, 0 being z itself
    affine : the function of z if it is affine with numbers, else None
    label : of the node that made it
    """

    base: _Base
    shape: tuple[int | None, ...]
    index: int = 0
    affine: _Affine | None = _IDENTITY
    label: str = ""


@dataclass(frozen=True)
class _Finished:
    """Layers of which nothing may be computed any more: the last one has softmax."""

    layers: tuple[_Layer, ...]
    input_scale: float


@dataclass(frozen=True)
class _Labels:
    """The number of the largest output, or its class."""


# Or a constant array, or None for an input that is left out
_Value: TypeAlias = "_Signal | _Finished | _Labels | _Refused | Array | None"


class _Reader:
    """Follows the nodes of a graph."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.dtype = ""
        self.classes: list[Any] | None = None
        self._onnx = onnx
        self._graph = model.graph
        self._values: dict[str, Any] = {"": None}
        self._node: Any = None
        self._left = _WORK  # bytes that may still be computed

    def network(self, output: str | None) -> tuple[tuple[_Layer, ...], float]:
        """Return the layers and input_scale of the value named output, or of the output."""
        graph = self._graph
        self._read_constants()
        self._read_input()
        for node in graph.node:
            self._read(node)
        if output is not None:
            if output not in self._values:
                raise ModelFileError(f"it has no value {output!r} (output=...)")
            names = [output]
        else:
            # Two names of one value are one output.
            values = {x.name: self._values.get(x.name, _ABSENT) for x in graph.output}
            names = list({id(value): name for name, value in values.items()}.values())
        found = {name: self._finished(self._values.get(name, _ABSENT)) for name in names}
        labels = [name for name, one in found.items() if isinstance(one, _Labels)]
        refused = [one for one in found.values() if isinstance(one, _Refused)]
        networks = {
            name: one for name, one in found.items() if isinstance(one, _Finished) and one.layers
        }
        if len(networks) > 1:
            raise ModelFileError(
                f"it has several outputs; choose one by output=: {', '.join(networks)}"
            )
        if not networks:
            if refused:
                raise ModelFileError(str(refused[0]))
            kind = "labels only" if labels else "no layer"
            raise ModelFileError(f"the output {', '.join(names)} has {kind}")
        (one,) = networks.values()
        return one.layers, one.input_scale

    # ---- reading ------------------------------------------------------------------------------

    def _read_constants(self) -> None:
        if self._graph.sparse_initializer:
            raise ModelFileError("it has sparse tensors")
        for tensor in self._graph.initializer:
            self._values[tensor.name] = self._array(tensor)

    def _spend(self, n_bytes: int) -> None:
        """Account for what a node looks through, computes or keeps, before it does.

        Nodes are short and may name the same constants and functions again and again, so that
        neither time nor memory would be in proportion to the file.
        """
        if n_bytes > self._left:
            raise _Refused("asks for more work than a model of its size may")
        self._left -= n_bytes

    def _make(self, n_numbers: int) -> None:
        self._spend(8 * n_numbers)

    def _array(self, tensor: Any) -> Array:
        _check_place(self._onnx, tensor)
        try:
            array = np.asarray(self._onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, LookupError, RuntimeError) as error:
            raise ModelFileError(f"the tensor {tensor.name!r} is damaged: {error}") from error
        self._left += _WORK_PER_NUMBER * array.size
        return array

    def _read_input(self) -> None:
        inputs = [value for value in self._graph.input if value.name not in self._values]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise ModelFileError(
                f"a network takes one input, an array of all features; it has {names}"
            )
        (value,) = inputs
        if not value.type.HasField("tensor_type"):
            raise ModelFileError(f"its input {value.name} is no tensor")
        kind = value.type.tensor_type
        shape: tuple[int | None, ...] = (None,)
        if kind.HasField("shape"):
            shape = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in kind.shape.dim
            )[1:]
            if len(shape) >= _MOST_AXES:
                raise ModelFileError(f"its input {value.name} has {len(shape) + 1:,} axes")
            if not kind.shape.dim or not shape:
                raise ModelFileError(f"its input {value.name} has no axis of features")
        self._values[value.name] = _Signal(_Base(()), shape)

    def _read(self, node: Any) -> None:
        self._node = node
        operands = [self._values.get(name, _ABSENT) for name in node.input]
        result: _Value = next((x for x in operands if isinstance(x, _Refused)), None)
        if result is _ABSENT:
            absent = next(name for name in node.input if name not in self._values)
            result = self._refused(f"needs {absent}, which is absent")
        elif result is None:
            try:
                attributes = {a.name: self._attribute(a) for a in node.attribute}
                result = self._result(self._op, operands, attributes)
            except _Refused as error:
                result = self._refused(str(error))
            except _MISFITS as error:
                result = self._refused(f"is not understood: {error}")
        first, *others = node.output or ("",)
        if others:
            second = self._refused("has more than one output, of which the first alone is read")
            self._values.update((name, second) for name in others if name)
        if first:
            self._values[first] = result

    def _refused(self, reason: str) -> _Refused:
        return _Refused(f"{self._label} {reason}"[:_LONGEST_REFUSAL])

    @property
    def _op(self) -> str:
        node = self._node
        is_standard = node.domain in ("", "ai.onnx")
        return node.op_type if is_standard else f"{node.domain}.{node.op_type}"

    @property
    def _label(self) -> str:
        node = self._node
        name = node.name or ", ".join(node.output[:3])
        return f"{self._op[:_LONGEST_LABEL]} (node {name[:_LONGEST_LABEL]!r})"

    def _attribute(self, attribute: Any) -> Any:
        value = self._onnx.helper.get_attribute_value(attribute)
        return self._array(value) if isinstance(value, self._onnx.TensorProto) else value

    def _result(self, op: str, operands: list[Any], attributes: dict[str, Any]) -> _Value:
        arrays = [x for x in operands if isinstance(x, np.ndarray)]
        self._spend(sum(x.nbytes for x in arrays))
        if op not in _OF_LABELS and any(x.dtype.kind not in _NUMBERS for x in arrays):
            raise _Refused("takes something other than numbers")
        if op in _SPECIAL:
            return _SPECIAL[op](self, operands, attributes)
        if op not in FUNCTIONS:
            raise _Refused("is no part of a dense network")
        # Of these operators only Clip has inputs that may be left out.
        if op != "Clip" and any(x is None for x in operands):
            raise _Refused("lacks an input")
        function = FUNCTIONS[op]
        if attributes:
            plain = function
            function = lambda *x: plain(*x, **attributes)  # noqa: E731
            function(*(np.ones(1) for _ in operands))  # an attribute that it does not have
        if not any(isinstance(x, _Signal | _Finished | _Labels) for x in operands):
            shapes = [x.shape for x in operands if x is not None]
            # Of more than two operands results between them are made.
            self._make(math.prod(np.broadcast_shapes(*shapes)) * max(1, len(shapes) - 1))
            return np.asarray(function(*operands))
        return self._computed(op, function, operands)

    # ---- elementwise operators ----------------------------------------------------------------

    def _computed(self, op: str, function: Callable[..., Any], operands: list[Any]) -> _Signal:
        for x in operands:
            self._must_be_open(x)
        signals = [x for x in operands if isinstance(x, _Signal)]
        first = signals[0]
        if any(x.base is not first.base or x.shape != first.shape for x in signals):
            raise _Refused("joins two branches, or values before and after a layer")
        numbers: list[Any] = []
        for x in operands:
            if not isinstance(x, np.ndarray):
                numbers.append(x)
            elif x.ndim > len(first.shape) + 1:
                raise _Refused(f"adds axes, by a constant of shape {x.shape}")
            elif x.size == 1 or (op not in _BY_UNIT and _is_uniform(x, first.shape)):
                numbers.append(x.flat[0].astype(np.float64 if x.dtype.kind == "f" else x.dtype))
            else:
                return self._by_unit(op, operands, first)
        return self._step(first, function, numbers, _affine(op, function, numbers))

    def _step(
        self,
        signal: _Signal,
        function: Callable[..., Any],
        operands: list[Any],
        affine: _Affine | None,
    ) -> _Signal:
        """Return a function of signals of one base, and of numbers."""
        steps = signal.base.steps
        if len(steps) == _MOST_STEPS:
            raise _Refused(f"is beyond the {_MOST_STEPS} operators between two layers")
        steps.append((function, operands))
        if affine is not None:
            signal.base.forms.append(affine)
        return _Signal(signal.base, signal.shape, len(steps), affine, self._label)

    def _by_unit(self, op: str, operands: list[Any], signal: _Signal) -> _Signal:
        """Return the signal times or plus a constant of its own for each unit."""
        is_first = operands[0] is signal
        if op not in _BY_UNIT or (op == "Div" and not is_first):
            raise _Refused("differs from unit to unit")
        vector = operands[1 if is_first else 0]
        if vector.size != vector.shape[-1] or len(signal.shape) != 1:
            raise _Refused(f"has a constant of shape {vector.shape}, not one number for each unit")
        vector = vector.reshape(-1).astype(np.float64)
        if op in ("Mul", "Div"):
            return self._moved(signal, vector if op == "Mul" else 1 / vector)
        scale = 1.0 if op == "Add" or is_first else -1.0
        return self._moved(signal, scale, -vector if op == "Sub" and is_first else vector)

    def _moved(self, signal: _Signal, scale: Any, shift: Any = 0.0) -> _Signal:
        """Return scale * signal + shift, (units,) each or numbers, as a base of its own."""
        size = max(np.size(scale), np.size(shift))
        if size > 1 and signal.shape[0] not in (None, size):
            raise _Refused(f"has {size} constants for {signal.shape[0]} units")
        by = _Affine(scale, shift, np.ndim(shift) > 0)
        if signal.affine is not None:
            base = self._base(signal.base, signal.affine)
            return _Signal(self._base(base, by), signal.shape)
        layers = self._layers(signal)
        return _Signal(_Base(layers, signal.base.input_scale, None, by), signal.shape)

    def _base(self, base: _Base, by: _Affine) -> _Base:
        """Return the base that is an affine function of another."""
        self._make(2 * max(np.size(x) for x in (*base.affine[:2], *by[:2])))
        return base.moved(by)

    # ---- layers -------------------------------------------------------------------------------

    def _layers(self, signal: _Signal) -> tuple[_Layer, ...]:
        """Return the layers of which a signal is the output, looked for once."""
        known = signal.base.known
        if signal.index not in known:
            try:
                known[signal.index] = self._found_layers(signal)
            except _Refused as error:
                known[signal.index] = str(error)
        found = known[signal.index]
        if isinstance(found, str):
            raise _Refused(found)
        return found

    def _found_layers(self, signal: _Signal) -> tuple[_Layer, ...]:
        activation, form = self._identified(signal)
        base = self._base(signal.base, form)
        if base.weight is None:
            raise _Refused(
                f"takes {activation.name} of what no layer returns: of the input, or of another "
                "activation"
            )
        scale, shift, has_shift = base.affine
        is_scaled = bool(np.any(np.not_equal(scale, 1)))
        self._make(len(base.below) + (base.weight.size if is_scaled else 0))
        weight = base.weight * scale if is_scaled else base.weight
        bias = np.broadcast_to(shift, weight.shape[1:]) if has_shift else None
        return (*base.below, _Layer(weight, bias, activation))

    def _identified(self, signal: _Signal) -> tuple[Activation, _Affine]:
        """Return the activation f, and the affine function of the base that it is taken of."""
        if signal.affine is not None:
            return activations.get("identity"), signal.affine
        nearest: tuple[float, Any] = math.inf, None
        for form in dict.fromkeys(signal.base.forms):
            if form.scale == 0 or not math.isfinite(form.scale) or not math.isfinite(form.shift):
                continue
            z = (PROBES - form.shift) / form.scale
            self._make(_COMPARISON * len(PROBES))
            distance, activation = nearest_activation(self._evaluated(signal, z))
            if distance <= TOLERANCE:
                return activation, form
            nearest = min(nearest, (distance, activation), key=lambda pair: pair[0])
        near = f" ({nearest[1]!r} differs from it by up to {nearest[0]:.2g})"
        raise _Refused(
            f"takes what {signal.label} computes, which is none of fastgd's activations"
            f"{near if nearest[0] < _NEAR_MISS else ''}"
        )

    def _evaluated(self, signal: _Signal, z: Array) -> Array:
        base = signal.base
        self._make(len(z) * sum(len(operands) for _, operands in base.steps[: signal.index]))
        return base.values(z, signal.index)

    def _linear(self, signal: Any, weight: Any, bias: Any = None) -> _Signal:
        self._must_be_open(signal)
        if not isinstance(signal, _Signal) or not isinstance(weight, np.ndarray):
            raise _Refused("is not a product of a layer's output and constant weights")
        if not weight.size:
            raise _Refused("has no weights")
        if weight.dtype not in ("float32", "float64"):
            raise _Refused(f"has weights of {weight.dtype}; fastgd has float32 and float64")
        if weight.ndim != 2 or len(signal.shape) != 1 or signal.shape[0] not in (None, len(weight)):
            raise _Refused(
                f"multiplies a value of shape {_text(signal.shape)} by weights of shape "
                f"{weight.shape}; a layer is (n, fan_in) by (fan_in, units)"
            )
        if self.dtype not in ("", weight.dtype.name):
            raise _Refused(f"has weights of {weight.dtype}, after others of {self.dtype}")
        self.dtype = weight.dtype.name
        base, input_scale = signal.base, signal.base.input_scale
        self._make(weight.size)
        weight = weight.astype(np.float64)
        shift: Any = 0.0 if bias is None else bias.astype(np.float64)
        has_shift = bias is not None
        if base.weight is None and signal.affine is not None:
            below = base.below
            scale, before, _ = self._base(base, signal.affine).affine
            if np.any(before):
                shift = shift + np.broadcast_to(before, len(weight)) @ weight
                has_shift = True
            limits = np.finfo(self.dtype)
            is_number = np.ndim(scale) == 0 and limits.tiny <= scale <= limits.max
            if is_number and not below and not np.any(before):
                input_scale = shortest(float(scale))
            elif np.any(np.not_equal(scale, 1)):
                self._make(weight.size)
                weight = np.reshape(scale, (-1, 1)) * weight
        else:
            below = self._layers(signal)
        made = _Base(below, input_scale, weight, _Affine(1.0, shift, has_shift))
        return _Signal(made, weight.shape[1:])

    def _finished(self, value: _Value) -> _Value:
        """Return the layers of a value, if it is the output of some."""
        if not isinstance(value, _Signal):
            return value
        base = value.base
        try:
            if base.weight is not None:
                return _Finished(self._layers(value), base.input_scale)
            if base.below:
                raise _Refused("multiplies or adds to the last activation")
            return _Finished((), 1.0)
        except _Refused as error:
            return _Refused(f"the output {error}")
        except _MISFITS as error:
            return _Refused(f"the output is not understood: {error}")

    @staticmethod
    def _must_be_open(value: _Value) -> None:
        if isinstance(value, _Finished):
            raise _Refused("computes something from the probabilities of a softmax")
        if isinstance(value, _Labels):
            raise _Refused("computes something from labels")

    @staticmethod
    def _must_be_constant(*operands: _Value) -> None:
        if not all(x is None or isinstance(x, np.ndarray) for x in operands):
            raise _Refused("takes axes or places that are not constant")

    def _units(self, value: _Value) -> _Signal:
        """Return a value that has one axis, of features or units."""
        self._must_be_open(value)
        if not isinstance(value, _Signal) or len(value.shape) != 1:
            raise _Refused("is not over the units of a layer")
        return value

    # ---- operators with a method of their own: inputs, attributes -> result -------------------

    def _gemm(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        signal, weight, bias = (*operands, None)[:3]
        if attributes.get("transA", 0):
            raise _Refused("has transA=1: its first input has features by samples")
        if not isinstance(weight, np.ndarray):
            return self._linear(signal, weight)
        if attributes.get("transB", 0):
            weight = weight.T
        weight = self._times(weight, attributes.get("alpha", 1.0))
        if bias is not None:
            if not isinstance(bias, np.ndarray) or bias.size != math.prod(bias.shape[-1:]):
                raise _Refused("adds something other than one constant for each unit")
            bias = np.broadcast_to(bias.reshape(-1), weight.shape[-1:])
            bias = self._times(bias, attributes.get("beta", 1.0))
        return self._linear(signal, weight, bias)

    def _times(self, array: Array, factor: float) -> Array:
        if factor == 1:
            return array
        self._make(2 * array.size)
        return (array.astype(np.float64) * factor).astype(array.dtype)

    def _matmul(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        return self._linear(*operands)

    def _batch_normalization(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        signal = self._units(operands[0])
        if attributes.get("training_mode", 0):
            raise _Refused(_IS_TRAINING)
        gamma, beta, mean, variance = (np.asarray(x, dtype=np.float64) for x in operands[1:])
        scale = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        return self._moved(signal, scale, beta - mean * scale)

    def _scaler(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        scale, offset = (np.array(attributes[key], dtype=np.float64) for key in ("scale", "offset"))
        return self._moved(self._units(operands[0]), scale, -offset * scale)

    def _softmax(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        signal = self._units(operands[0])
        if attributes.get("axis", -1) not in (1, -1):
            raise _Refused(f"has axis={attributes['axis']}; it must be over the units, axis=1")
        if signal.shape == (1,):
            raise _Refused("is over a single unit")
        *below, last = self._layers(signal)
        self._make(len(below))
        if last.activation.name != "identity":
            raise _Refused(f"takes the output of another activation, {last.activation.name}")
        layers = (*below, replace(last, activation=activations.get("softmax")))
        return _Finished(layers, signal.base.input_scale)

    def _log_softmax(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        raise _Refused(
            "is no activation of fastgd, whose softmax returns probabilities; read the graph up to "
            f"its input by output={self._node.input[0]!r}"
        )

    def _identity(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value: _Value = operands[0]
        return value

    def _dropout(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        if len(operands) > 2 and operands[2] is not None and np.any(operands[2]):
            raise _Refused(_IS_TRAINING)
        return self._identity(operands, attributes)

    def _cast(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        (value,) = operands
        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
        if isinstance(value, np.ndarray):
            if dtype.kind not in _NUMBERS:
                raise _Refused("makes something other than numbers")
            self._make(value.size)
            return value.astype(dtype)
        if isinstance(value, _Labels):
            return value
        if dtype not in (np.float32, np.float64):
            raise _Refused(f"makes {dtype} of a layer's values")
        if isinstance(value, _Signal) and value.affine is None:
            # It may be of booleans.
            return self._step(value, lambda x: np.asarray(x, np.float64), [value], None)
        return self._identity(operands, attributes)

    def _constant(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        ((name, value),) = attributes.items()
        if isinstance(value, np.ndarray):
            return value
        dtypes = {"value_float": np.float32, "value_int": np.int64}
        if name.removesuffix("s") not in dtypes:
            raise _Refused("holds something other than numbers")
        return np.array(value, dtypes[name.removesuffix("s")])

    def _shape(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        (value,) = operands
        if isinstance(value, np.ndarray):
            dims: tuple[int | None, ...] = value.shape
        elif isinstance(value, _Signal):
            # The number of samples is -1, which Reshape takes for what remains.
            dims = (-1, *value.shape)
        else:
            raise _Refused("is of no layer")
        dims = dims[attributes.get("start", 0) : attributes.get("end")]
        if None in dims:
            raise _Refused("is that of an input whose size is not fixed")
        return np.array(dims, np.int64)

    def _flatten(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        (value,) = operands
        if attributes.get("axis", 1) != 1:
            raise _Refused(f"has axis={attributes['axis']}; samples are the first axis only")
        if not isinstance(value, _Signal):
            return self._identity(operands, attributes)
        return replace(value, shape=(_size(value.shape),))

    def _reshape(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value, target = operands
        if not isinstance(target, np.ndarray):
            raise _Refused("has a shape that is not constant")
        if target.size > _MOST_AXES:
            raise _Refused(f"makes {target.size:,} axes")
        if isinstance(value, np.ndarray):
            return value.reshape(target)
        if not isinstance(value, _Signal):
            return self._identity(operands, attributes)
        rest: list[int | None] = [int(dim) for dim in target[1:]]
        if not attributes.get("allowzero", 0):
            rest = [value.shape[i] if dim == 0 else dim for i, dim in enumerate(rest)]
        size = _size(value.shape)
        if size is None and rest in ([-1], [None]):
            return replace(value, shape=(None,))
        if rest.count(-1) == 1 and size is not None:
            known = math.prod(dim for dim in rest if dim not in (-1, None))  # type: ignore[misc]
            rest[rest.index(-1)] = size // max(1, known)
        if size is not None and (None in rest or _size(tuple(rest)) != size):
            raise _Refused(f"makes {target.tolist()} of a value of shape {_text(value.shape)}")
        return replace(value, shape=tuple(rest))

    def _squeeze(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value, axes = (*operands, None)[:2]
        self._must_be_constant(axes)
        axes = attributes.get("axes", None if axes is None else axes.tolist())
        if isinstance(value, np.ndarray):
            return np.squeeze(value, None if axes is None else tuple(axes))
        if isinstance(value, _Signal) and value.shape == (1,) and axes in (None, [1], [-1]):
            return replace(value, shape=())
        if isinstance(value, _Labels):
            return value
        raise _Refused("takes away an axis")

    def _unsqueeze(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value, axes = (*operands, None)[:2]
        self._must_be_constant(axes)
        if not isinstance(value, np.ndarray):
            raise _Refused("adds an axis")
        return np.expand_dims(value, tuple(attributes["axes"] if axes is None else axes.tolist()))

    def _transpose(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        (value,) = operands
        if not isinstance(value, np.ndarray):
            raise _Refused("turns samples and features")
        return value.transpose(attributes.get("perm"))

    def _concat(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        if all(isinstance(x, np.ndarray) for x in operands):
            self._make(sum(x.size for x in operands))
            return np.concatenate(operands, axis=attributes["axis"])
        if len(operands) == 2 and all(isinstance(x, _Signal) for x in operands):
            first, second = operands
            if first.base is second.base and attributes["axis"] in (1, -1):
                # scikit-learn writes a probability as two columns, 1 - p and p.
                values = (self._evaluated(x, PROBES) for x in operands)
                if np.abs(sum(values) - 1).max() <= TOLERANCE:
                    return second  # type: ignore[no-any-return]
        raise _Refused("joins values")

    def _gather(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value, indices = operands
        if isinstance(value, np.ndarray) and isinstance(indices, np.ndarray):
            rows = max(1, value.shape[attributes.get("axis", 0)])
            self._make(indices.size * (value.size // rows))
            return np.asarray(np.take(value, indices, axis=attributes.get("axis", 0)))
        if isinstance(value, np.ndarray) and isinstance(indices, _Labels):
            return self._labelled(value.reshape(-1).tolist())
        raise _Refused("selects some of the values")

    def _slice(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        value, *rest = operands
        if not isinstance(value, np.ndarray) or value.ndim != 1 or len(rest) < 2:
            raise _Refused("selects some of the values")
        self._must_be_constant(*rest)
        start, end, *more = (None if x is None else int(x.item()) for x in rest)
        return value[start : end : more[1] if len(more) > 1 else None]

    def _arg_max(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        if isinstance(operands[0], _Signal | _Finished):
            return _Labels()
        raise _Refused("is of no layer")

    def _zip_map(self, operands: list[Any], attributes: Mapping[str, Any]) -> _Value:
        for classes in attributes.values():
            self._labelled(classes)
        return self._identity(operands, attributes)

    def _labelled(self, classes: Sequence[Any]) -> _Labels:
        self.classes = [x.decode() if isinstance(x, bytes) else x for x in classes]
        return _Labels()


_IS_TRAINING = "is in training mode; export the model for inference"

_SPECIAL: dict[str, Callable[[_Reader, list[Any], Mapping[str, Any]], _Value]] = {
    "ArgMax": _Reader._arg_max,
    "BatchNormalization": _Reader._batch_normalization,
    "Cast": _Reader._cast,
    "Concat": _Reader._concat,
    "Constant": _Reader._constant,
    "Dropout": _Reader._dropout,
    "Flatten": _Reader._flatten,
    "Gather": _Reader._gather,
    "Gemm": _Reader._gemm,
    "Identity": _Reader._identity,
    "LogSoftmax": _Reader._log_softmax,
    "MatMul": _Reader._matmul,
    "Reshape": _Reader._reshape,
    "Shape": _Reader._shape,
    "Slice": _Reader._slice,
    "Softmax": _Reader._softmax,
    "Squeeze": _Reader._squeeze,
    "Transpose": _Reader._transpose,
    "Unsqueeze": _Reader._unsqueeze,
    "ai.onnx.ml.ArrayFeatureExtractor": _Reader._gather,
    "ai.onnx.ml.Scaler": _Reader._scaler,
    "ai.onnx.ml.ZipMap": _Reader._zip_map,
}


def _affine(op: str, function: Callable[..., Any], operands: list[Any]) -> _Affine | None:
    """Return the affine function that an operator computes of an affine signal and a number."""
    forms = [x.affine for x in operands if isinstance(x, _Signal)]
    if len(forms) != 1 or forms[0] is None:
        return None
    scale, shift, has_shift = forms[0]
    if op == "Neg":
        return _Affine(-scale, -shift, has_shift)
    is_first = isinstance(operands[0], _Signal)
    if op not in _BY_UNIT or (op == "Div" and not is_first):
        return None

    def with_number(of: float, number: Any) -> float:
        return float(function(of, number) if is_first else function(number, of))

    number = operands[1 if is_first else 0]
    is_sum = op in ("Add", "Sub")
    # The number is added to the shift alone, but multiplies both.
    return _Affine(
        with_number(scale, 0.0 if is_sum else number),
        with_number(shift, number),
        has_shift or is_sum,
    )


def _is_uniform(array: Array, shape: tuple[int | None, ...]) -> bool:
    """Return whether a constant is one number for all units."""
    of_units = array.size > 0 and array.shape[-1:] == shape and array.size == array.shape[-1]
    return of_units and bool((array == array.flat[0]).all())


def _size(shape: tuple[int | None, ...]) -> int | None:
    return None if None in shape else math.prod(shape)  # type: ignore[arg-type]


def _text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(['n', *('?' if dim is None else str(dim) for dim in shape)])})"
