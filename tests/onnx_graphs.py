"""Builds ONNX graphs by hand, as the exporters of torch, Keras and scikit-learn write them."""

import itertools

import numpy as np
import onnx
from onnx import helper, numpy_helper

KINDS = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}


class Graph:
    """A graph in the making: g("Relu", x) adds an operator and returns its result's name."""

    def __init__(self, n_inputs=4, dtype="float32", inputs=None, opset=17):
        self.dtype = dtype
        self.opset = opset
        self.nodes, self.constants = [], []
        shape = n_inputs if isinstance(n_inputs, tuple) else (n_inputs,)
        kind = KINDS[dtype]
        inputs = ["input"] if inputs is None else inputs
        self.inputs = [helper.make_tensor_value_info(x, kind, ["n", *shape]) for x in inputs]

    def __call__(self, op, *inputs, name=None, out=None, domain="", n_outputs=1, **attributes):
        """Add a node; numbers and arrays among its inputs become constants."""
        name = name or f"/{len(self.nodes)}/{op}"
        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        outputs = [out or f"{name}_output_{i}" for i in range(n_outputs)]
        node = helper.make_node(op, inputs, outputs, name, domain=domain, **attributes)
        self.nodes.append(node)
        return outputs[0]

    def constant(self, value, dtype=None, name=None):
        """Add an initializer; floats in the graph's precision."""
        array = np.asarray(value)
        if dtype or array.dtype.kind == "f":
            array = array.astype(dtype or self.dtype)
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def model(self, *outputs, checked=True, kinds=None, functions=(), **settings):
        """Return the model whose outputs have the names given."""
        kinds = kinds or [KINDS[self.dtype]] * len(outputs)
        described = [
            helper.make_tensor_value_info(
                name, kind, ["n", "m"] if kind in KINDS.values() else ["n"]
            )
            for name, kind in zip(outputs, kinds, strict=True)
        ]
        graph = helper.make_graph(self.nodes, "by_hand", self.inputs, described, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 1)]
        opsets += [helper.make_opsetid("com.example", 1)]
        opsets += [helper.make_opsetid(f.domain, 1) for f in functions]
        settings = {"ir_version": 8, "producer_name": "pytorch"} | settings
        made = helper.make_model(graph, opset_imports=opsets, functions=functions, **settings)
        if checked:
            onnx.checker.check_model(made)
        return made


def weights(*sizes, seed=0, scale=0.7):
    """Weights and biases of layers, [(W (fan_in, units), b), ...]."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(m, n)) * scale, rng.normal(size=n) * scale)
        for m, n in itertools.pairwise(sizes)
    ]


def torch_layer(g, x, W, b=None):
    """nn.Linear, whose weight is (units, fan_in)."""
    if b is None:
        return g("MatMul", x, W)
    return g("Gemm", x, W.T, b, alpha=1.0, beta=1.0, transB=1)


def keras_layer(g, x, W, b=None):
    """A Dense of Keras, by tf2onnx."""
    z = g("MatMul", x, W)
    return z if b is None else g("Add", z, b)


def sklearn_layer(g, x, W, b):
    """A layer of an MLP, by skl2onnx, whose intercepts have two dimensions."""
    return g("Add", g("MatMul", x, W), b[np.newaxis])


# (who writes it so, the activation that it is, its nodes)
SPELLINGS = [
    ("torch", "relu", lambda g, z: g("Relu", z)),
    ("torch", "tanh", lambda g, z: g("Tanh", z)),
    ("torch", "sigmoid", lambda g, z: g("Sigmoid", z)),
    ("torch", "exp", lambda g, z: g("Exp", z)),
    ("torch", "softsign", lambda g, z: g("Div", z, g("Add", g("Abs", z), 1.0))),
    ("torch", "leaky_relu(0.2)", lambda g, z: g("LeakyRelu", z, alpha=0.2)),
    ("torch, one slope", "leaky_relu(0.25)", lambda g, z: g("PRelu", z, [0.25])),
    ("torch, equal slopes", "leaky_relu(0.25)", lambda g, z: g("PRelu", z, [0.25] * 3)),
    ("torch's newer, equal slopes", "leaky_relu(0.25)", lambda g, z: g("PRelu", z, [[0.25] * 3])),
    ("torch", "elu(1.5)", lambda g, z: g("Elu", z, alpha=1.5)),
    ("torch", "selu", lambda g, z: g("Selu", z)),
    ("torch celu", "elu", lambda g, z: g("Celu", z, alpha=1.0)),
    ("torch", "silu", lambda g, z: g("Mul", z, g("Sigmoid", z))),
    ("torch", "mish", lambda g, z: g("Mul", z, g("Tanh", g("Softplus", z)))),
    ("torch", "softplus", lambda g, z: g("Softplus", z)),
    ("torch with its threshold", "softplus",
     lambda g, z: g("Where", g("Greater", z, 20.0), z, g("Softplus", z))),
    ("torch", "hard_sigmoid", lambda g, z: g("HardSigmoid", z, alpha=1 / 6, beta=0.5)),
    ("torch before opset 20", "gelu", lambda g, z: g(
        "Mul", g("Mul", z, g("Add", g("Erf", g("Div", z, 2**0.5)), 1.0)), 0.5)),
    ("keras", "gelu", lambda g, z: g(
        "Mul", g("Mul", z, 0.5), g("Add", g("Erf", g("Mul", z, 0.5**0.5)), 1.0))),
    ("keras relu6(z + 3) / 6", "hard_sigmoid",
     lambda g, z: g("Div", g("Clip", g("Add", z, 3.0), 0.0, 6.0), 6.0)),
    ("keras by Min and Relu", "hard_sigmoid",
     lambda g, z: g("Mul", g("Min", g("Relu", g("Add", z, 3.0)), 6.0), 1 / 6)),
    ("keras", "softsign", lambda g, z: g("Softsign", z)),
    ("keras", "leaky_relu(0.3)", lambda g, z: g("LeakyRelu", z, alpha=0.3)),
    ("keras by Max", "leaky_relu(0.3)", lambda g, z: g("Max", z, g("Mul", z, 0.3))),
    ("keras", "elu", lambda g, z: g(
        "Where", g("Greater", z, 0.0), z, g("Sub", g("Exp", z), 1.0))),
    ("keras", "silu", lambda g, z: g("Mul", g("Sigmoid", g("Mul", z, 1.0)), z)),
    ("naive", "softplus", lambda g, z: g("Log", g("Add", g("Exp", z), 1.0))),
    ("naive", "sigmoid", lambda g, z: g("Reciprocal", g("Add", g("Exp", g("Neg", z)), 1.0))),
    ("a mask", "relu", lambda g, z: g(
        "Mul", z, g("Cast", g("Greater", z, 0.0), to=onnx.TensorProto.FLOAT))),
    ("nothing", "identity", lambda g, z: g("Identity", z)),
]  # fmt: skip
