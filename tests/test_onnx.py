"""ONNX: what is written computes the same in onnxruntime, what is read is the same network."""

import errno
import json
import os
import re
import time
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastgd
from doc_cells import assert_cells_print_what_is_shown
from fastgd import Dense, ModelFileError, Network, _onnx_reader, activations, from_onnx
from fastgd import _onnx_formulas as formulas
from fastgd import _onnx_writer as writer
from onnx_graphs import SPELLINGS, Graph, keras_layer, sklearn_layer, torch_layer, weights

# The agreement that is promised, of the largest output
BOUNDS = {"float32": 1e-5, "float64": 1e-12}
EVERY = [activations.get(name) for name in activations.NAMES]
EVERY += [activations.LeakyReLU(0.3), activations.ELU(1.7)]


def run(model, X):
    """Return what onnxruntime computes with a file or a model."""
    content = Path(model).read_bytes() if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})[0]


def close(found, expected, bound):
    """Hold to a bound of the largest output, which is how the agreement is promised."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * np.abs(expected).max())


def network(activation, n_layers, dtype, *, bias=True, input_scale=1.0, seed=1):
    """A network of an activation, with biases that are not 0."""
    is_softmax = activation.name == "softmax"
    hidden = "tanh" if is_softmax else activation
    layers = [Dense(5, hidden, bias=bias, bias_init=0.3) for _ in range(n_layers - 1)]
    layers.append(Dense(3, activation, bias=bias, bias_init=-0.2))
    loss = "cross_entropy" if is_softmax else "squared_error"
    settings = {"n_inputs": 4, "dtype": dtype, "seed": seed, "input_scale": input_scale}
    return Network(layers, loss, **settings)


def assert_same(one, two):
    assert repr(one.layers) == repr(two.layers)
    assert (one.dtype, one.loss, one.n_inputs) == (two.dtype, two.loss, two.n_inputs)
    # As they are used: to_onnx holds the scale in the network's dtype.
    assert one.dtype.type(one.input_scale) == two.dtype.type(two.input_scale)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- there and back --------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("activation", EVERY, ids=repr)
def test_every_activation_there_and_back(activation, n_layers, dtype, tmp_path, rng):
    path = tmp_path / "model.onnx"
    X = rng.normal(size=(50, 4)) * (0.1 if activation.name == "exp" else 4)
    for bias in (True, False):
        for input_scale in (1.0, 1 / 255):
            net = network(activation, n_layers, dtype, bias=bias, input_scale=input_scale)
            data = (X / input_scale).astype(dtype)
            net.to_onnx(path)
            close(run(path, data), net.predict(data), BOUNDS[dtype])
            again = from_onnx(path)
            assert_same(again, net)
            np.testing.assert_array_equal(again.predict(data), net.predict(data))


@pytest.mark.parametrize("activation", [a for a in EVERY if a.name != "softmax"], ids=repr)
def test_functions_agree_everywhere(activation, dtype, tmp_path):
    net = Network([Dense(1, activation)], "squared_error", n_inputs=1, dtype=dtype)
    net.set_weights([[[1.0]], [0.0]])
    net.to_onnx(tmp_path / "model.onnx")
    high = 80 if activation.name == "exp" else 1e4
    z = np.concatenate([np.linspace(-15, 15, 301), np.geomspace(16, high, 50)])
    z = np.concatenate([z, -np.geomspace(16, 1e4, 50), [0.0]])[:, np.newaxis].astype(dtype)
    found, expected = run(tmp_path / "model.onnx", z), net.predict(z)
    # Of each value or of 1
    error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    assert error.max() <= BOUNDS[dtype] / 10


@pytest.mark.parametrize(
    ("name", "z"),
    [("sigmoid", -13), ("softplus", -13), ("silu", -13), ("mish", -13), ("softmax", -13),
     ("elu", -1e-5), ("selu", -1e-5), ("exp", -13), ("tanh", 1e-5)],
)  # fmt: skip
def test_small_outputs_keep_their_digits(name, z, dtype, tmp_path):
    """The bound is a share of the largest output, also where that is small."""
    units = 2 if name == "softmax" else 1
    loss = "cross_entropy" if name == "softmax" else "squared_error"
    net = Network([Dense(units, name)], loss, n_inputs=1, dtype=dtype)
    net.set_weights([np.array([[1.0, 0.0][:units]]), np.zeros(units)])
    net.to_onnx(tmp_path / "model.onnx")
    X = np.array([[z], [z * 1.1]], dtype)
    found, expected = run(tmp_path / "model.onnx", X)[:, :1], net.predict(X)[:, :1]
    assert np.abs(expected).max() < 1e-4
    close(found, expected, BOUNDS[dtype])


def test_gelu_keeps_its_tail_in_float64(tmp_path):
    net = Network([Dense(1, "gelu")], "squared_error", n_inputs=1, dtype="float64")
    net.set_weights([[[1.0]], [0.0]])
    net.to_onnx(tmp_path / "model.onnx")
    z = np.array([[-8.0], [-9.0], [-20.0]])
    close(run(tmp_path / "model.onnx", z), net.predict(z), 1e-12)


def test_constants_of_gelu_are_those_of_the_kernels():
    header = Path(__file__).parents[1] / "csrc" / "template" / "math_coefs.h"
    text = header.read_text()
    (k,) = re.findall(r"FGD_NORMAL_TAIL_K_F64 (\S+)", text)
    (coefficients,) = re.findall(r"FGD_NORMAL_TAIL_POLY_F64 \\\n(.*?)\n\n", text, re.S)
    assert float(k) == formulas.NORMAL_TAIL_K
    expected = re.findall(r"-?0x[0-9a-fp.+-]+", coefficients)
    assert [float.fromhex(x) for x in expected] == list(formulas.NORMAL_TAIL)


def test_other_activations_per_layer(tmp_path, rng):
    layers = [Dense(6, "gelu"), Dense(5, activations.ELU(0.5), bias=False), Dense(4, "mish")]
    net = Network([*layers, Dense(3)], "cross_entropy", n_inputs=2)
    net.fit(rng.normal(size=(30, 2)), np.arange(30) % 3, verbose=0)
    net.to_onnx(tmp_path / "model.onnx")
    assert_same(from_onnx(tmp_path / "model.onnx"), net)


def test_training_goes_on(tmp_path, rng):
    X = rng.normal(size=(64, 3)).astype(np.float32)
    net = Network([Dense(8, "tanh"), Dense(1)], "huber", n_inputs=3)
    net.to_onnx(tmp_path / "model.onnx")
    again = from_onnx(tmp_path / "model.onnx", optimizer=fastgd.Adam(0.01), seed=7)
    assert again.optimizer.name == "adam"
    assert again.seed == 7
    before = again.evaluate(X, X[:, 0])
    again.fit(X, X[:, 0], epochs=20, verbose=0)
    assert again.evaluate(X, X[:, 0]) < before


# ---- the file --------------------------------------------------------------------------------


def test_file_declares_names_types_and_any_number_of_samples(dtype, tmp_path):
    net = network(activations.get("gelu"), 2, dtype)
    net.to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "fastgd"
    assert model.producer_version == fastgd.__version__
    for value, name, units in ((model.graph.input, "X", 4), (model.graph.output, "output", 3)):
        (value,) = value
        kind = value.type.tensor_type
        assert value.name == name
        assert kind.elem_type == helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        assert [dim.dim_param or dim.dim_value for dim in kind.shape.dim] == ["n_samples", units]
    assert {"layers.0.z", "layers.0.a", "layers.1.z"} <= {node.name for node in model.graph.node}
    names = [tensor.name for tensor in model.graph.initializer]
    assert {f"layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")} <= set(names)
    for n in (1, 7):
        X = np.ones((n, 4), dtype)
        close(run(tmp_path / "model.onnx", X), net.predict(X), BOUNDS[dtype])
    before = (tmp_path / "model.onnx").read_bytes()
    net.to_onnx(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("input_dtype", writer._INPUT_DTYPES)
def test_input_of_every_dtype(input_dtype, dtype, tmp_path, rng):
    net = network(activations.get("tanh"), 2, dtype, input_scale=1 / 255)
    net.to_onnx(tmp_path / "model.onnx", input_dtype=input_dtype)
    X = rng.integers(0, 127, size=(9, 4)).astype(input_dtype)
    close(run(tmp_path / "model.onnx", X), net.predict(X), BOUNDS[dtype])
    assert_same(from_onnx(tmp_path / "model.onnx"), net)


def test_input_dtype_is_checked(tmp_path):
    net = network(activations.get("tanh"), 1, "float32")
    with pytest.raises(ValueError, match="unknown input_dtype 'float16'; choose from float32"):
        net.to_onnx(tmp_path / "model.onnx", input_dtype="float16")
    assert not list(tmp_path.iterdir())


def test_metadata_travels(tmp_path):
    kept = {"classes": ["a", "b", "ü"], "feature_names": ["x 1", "x 2"], "n": 3, "none": None}
    net = network(activations.get("softmax"), 1, "float32")
    net.metadata = kept
    net.to_onnx(tmp_path / "model.onnx")
    properties = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(properties["classes"]) == ["a", "b", "ü"]
    assert json.loads(properties["fastgd.loss"]) == {"name": "cross_entropy"}
    assert from_onnx(tmp_path / "model.onnx").metadata == kept
    net.to_onnx(tmp_path / "model.onnx", metadata={"mine": 1})
    assert from_onnx(tmp_path / "model.onnx").metadata == {"mine": 1}
    assert net.metadata == kept
    model = onnx.load(tmp_path / "model.onnx")
    model.metadata_props.add(key="tool", value="of another's words")
    assert from_onnx(model).metadata == {"mine": 1, "tool": "of another's words"}


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"fastgd.loss": 1}, ValueError, "must not have the key 'fastgd.loss'"),
        ({"x": float("nan")}, ValueError, "JSON"),
        ({"x": object()}, TypeError, "JSON"),
        ([1], TypeError, "metadata must be a dict"),
    ],
)
def test_metadata_are_checked(metadata, error, message, tmp_path):
    net = network(activations.get("tanh"), 1, "float32")
    with pytest.raises(error, match=message):
        net.to_onnx(tmp_path / "model.onnx", metadata=metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", ["absolute_error", fastgd.Huber(0.3), "squared_error"])
def test_loss_is_kept(loss, tmp_path):
    net = Network([Dense(2)], loss, n_inputs=3)
    net.to_onnx(tmp_path / "model.onnx")
    assert from_onnx(tmp_path / "model.onnx").loss == net.loss
    assert from_onnx(tmp_path / "model.onnx", loss="huber").loss == fastgd.Huber()


def test_custom_loss_is_given_again(tmp_path):
    class Own:
        def value(self, output, y):
            return np.abs(output - y).sum(axis=1)

        def delta(self, output, y):
            return np.sign(output - y)

    net = Network([Dense(2)], Own(), n_inputs=3)
    net.to_onnx(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"custom loss.*give it as loss="):
        from_onnx(tmp_path / "model.onnx")
    assert from_onnx(tmp_path / "model.onnx", loss=Own()).loss_name == "custom"
    with pytest.raises(ValueError, match="cross_entropy"):
        from_onnx(tmp_path / "model.onnx", loss="cross_entropy")


def test_nothing_is_written_unless_all_is(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    net = network(activations.get("tanh"), 1, "float32")

    def assert_old():
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_LIMIT", 20)
        with pytest.raises(ValueError, match=r"holds 20 bytes; this network takes \d\d"):
            net.to_onnx(path)
    assert_old()
    with monkeypatch.context() as patch:

        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            net.to_onnx(path)
    assert_old()
    net.layers[0].weight[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"weights are not finite: layers\.0\.weight"):
        net.to_onnx(path)
    assert_old()
    with pytest.raises(RuntimeError, match="no weights yet"):
        Network([Dense(1)], "squared_error").to_onnx(path)
    assert_old()
    with pytest.raises(IsADirectoryError):
        network(activations.get("tanh"), 1, "float32").to_onnx(tmp_path)


# ---- as others write it ----------------------------------------------------------------------


def named(text):
    """Return leaky_relu(0.2) as an object."""
    name, _, param = text.rstrip(")").partition("(")
    return type(activations.get(name))(float(param)) if param else activations.get(name)


@pytest.mark.parametrize(
    "layer", [torch_layer, keras_layer, sklearn_layer], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(
    ("expected", "nodes"), [s[1:] for s in SPELLINGS], ids=[f"{s[1]} {s[0]}" for s in SPELLINGS]
)
def test_activations_however_they_are_spelled(expected, nodes, layer, rng):
    (W, b), (V, c) = weights(4, 3, 2)
    g = Graph()
    model = g.model(layer(g, nodes(g, layer(g, "input", W, b)), V, c))
    net = from_onnx(model)
    assert [layer.activation for layer in net.layers] == [named(expected), named("identity")]
    for found, array in zip(net.get_weights(), (W, b, V, c), strict=True):
        np.testing.assert_array_equal(found, array.astype(np.float32))
    X = rng.normal(size=(20, 4)).astype(np.float32) * 2
    close(net.predict(X), run(model, X), 1e-5)


@pytest.mark.parametrize("layer", [torch_layer, keras_layer], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("expected", "nodes"),
    [s[1:] for s in SPELLINGS if "equal slopes" not in s[0]],
    ids=[f"{s[1]} {s[0]}" for s in SPELLINGS if "equal slopes" not in s[0]],
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_single_unit_whose_constants_all_look_alike(expected, nodes, layer, bias, rng):
    (W, b), (V, c) = weights(4, 1, 1)
    g = Graph()
    z = layer(g, "input", W, b if bias else None)
    model = g.model(layer(g, nodes(g, z), V, c))
    net = from_onnx(model)
    assert [layer.activation for layer in net.layers] == [named(expected), named("identity")]
    X = rng.normal(size=(20, 4)).astype(np.float32) * 2
    close(net.predict(X), run(model, X), 1e-5)


@pytest.mark.parametrize("layer", [torch_layer, keras_layer], ids=lambda f: f.__name__)
def test_layers_without_bias_and_biases_of_zero(layer):
    (W, _), (V, _) = weights(4, 3, 1)
    g = Graph()
    net = from_onnx(g.model(layer(g, g("Tanh", layer(g, "input", W)), V, np.zeros(1))))
    assert [layer.use_bias for layer in net.layers] == [False, True]


@pytest.mark.parametrize(
    ("op", "loss"), [("Softmax", "cross_entropy"), ("Sigmoid", "log_loss"), ("Exp", "poisson"),
                     ("Relu", "squared_error"), ("Identity", "squared_error")],
)  # fmt: skip
def test_output_activation_gives_the_loss(op, loss, dtype):
    ((W, b),) = weights(4, 3)
    g = Graph(dtype=dtype)
    attributes = {"axis": 1} if op == "Softmax" else {}
    net = from_onnx(g.model(g(op, torch_layer(g, "input", W, b), **attributes)))
    assert net.loss_name == loss
    assert net.dtype == dtype
    assert net.metadata == {}


def _scaled(g, x):
    return g("Div", g("Sub", g("Div", x, 255.0), 0.5), 0.25)


def _scaler(g, x):
    return g(
        "Scaler", x, domain="ai.onnx.ml", offset=[1.0, 2.0, 3.0, 4.0], scale=[0.5, 1.0, 2.0, 3.0]
    )


def _shape_of(g, x):
    """torch's x.view(x.size(0), -1)."""
    size = g("Gather", g("Shape", x), np.array(0), axis=0)
    return g("Concat", g("Unsqueeze", size, np.array([0])), np.array([-1]), axis=0)


def test_factors_of_the_input_that_no_input_scale_can_be():
    ((W, b),) = weights(4, 3)
    for factor, weight in ((-2.0, -2 * W), (1e-40, 0 * W)):
        g = Graph()
        model = g.model(torch_layer(g, g("Mul", "input", factor), W, b))
        net = from_onnx(model)
        assert net.input_scale == 1
        # One product rounded to float32; 1e-40 is a denormal number, which counts as zero.
        np.testing.assert_allclose(net.layers[0].weight, weight, rtol=1e-6, atol=1e-30)
    g = Graph()
    with pytest.raises(ModelFileError, match="not finite"):
        from_onnx(g.model(torch_layer(g, g("Div", "input", 0.0), W, b)))


PREPARATIONS = {
    "factor": (4, 1 / 255, lambda g, x: g("Mul", x, 1 / 255)),
    "quotient": (4, 1 / 255, lambda g, x: g("Div", x, 255.0)),
    "Keras's Rescaling": (4, 1 / 255, lambda g, x: g("Add", g("Mul", x, 1 / 255), 0.0)),
    "torchvision's Normalize": (4, 1, _scaled),
    "negative factor": (4, 1, lambda g, x: g("Neg", g("Mul", x, 0.5))),
    "difference from 1": (4, 1, lambda g, x: g("Sub", 1.0, x)),
    "one factor for each": (4, 1, lambda g, x: g("Mul", x, [1.0, 2.0, 3.0, 4.0])),
    "standardised": (4, 1, lambda g, x: g("Div", g("Sub", x, [1.0, 2, 3, 4]), [[2.0, 3, 4, 5]])),
    "differences of each": (4, 1, lambda g, x: g("Sub", [1.0, 2.0, 3.0, 4.0], x)),
    "StandardScaler": (4, 1, _scaler),
    "Flatten": ((2, 2), 1, lambda g, x: g("Flatten", x)),
    "Flatten and quotient": ((2, 1, 2), 0.25, lambda g, x: g("Flatten", g("Div", x, 4.0))),
    "Reshape": ((2, 2), 1, lambda g, x: g("Reshape", x, np.array([-1, 4]))),
    "Reshape by 0": ((2, 2), 1, lambda g, x: g("Reshape", x, np.array([0, -1]))),
    "view": ((2, 2), 1, lambda g, x: g("Reshape", x, _shape_of(g, x))),
    "Identity, Cast, Dropout": (
        4, 1, lambda g, x: g("Dropout", g("Cast", g("Identity", x), to=TensorProto.FLOAT))),
}  # fmt: skip


@pytest.mark.parametrize("name", PREPARATIONS)
def test_preparations_of_the_input(name, rng):
    shape, scale, nodes = PREPARATIONS[name]
    (W, b), (V, c) = weights(4, 3, 2)
    g = Graph(shape)
    h = g("Tanh", torch_layer(g, nodes(g, "input"), W, b))
    model = g.model(torch_layer(g, h, V, c))
    net = from_onnx(model)
    assert net.n_inputs == 4
    assert np.float32(net.input_scale) == np.float32(scale)
    X = rng.normal(size=(20, 4)).astype(np.float32) * 3
    shape = shape if isinstance(shape, tuple) else (shape,)
    close(net.predict(X), run(model, X.reshape(-1, *shape)), 1e-5)


def _normalised(g, z):
    return g("BatchNormalization", z, [1.0, 2, 3], [0.5, 0, -1], [0.1, 0.2, 0.3], [1.0, 2, 3])


BETWEEN = {
    "BatchNormalization before": lambda g, z: g("Tanh", _normalised(g, z)),
    "BatchNormalization after": lambda g, z: _normalised(g, g("Tanh", z)),
    "numbers for each unit after": lambda g, z: g(
        "Add", g("Mul", g("Relu", z), [1.0, 2.0, 3.0]), [[3.0, 2.0, 1.0]]),
    "numbers for each unit before": lambda g, z: g(
        "Relu", g("Sub", g("Mul", z, [1.0, 2.0, 3.0]), [3.0, 2.0, 1.0])),
    "numbers for all before": lambda g, z: g("Sigmoid", g("Add", g("Mul", z, -1.5), 0.7)),
    "numbers for all around silu": lambda g, z: _silu(g, g("Sub", g("Div", z, 3.0), -0.2)),
    "softplus far off": lambda g, z: g("Softplus", g("Add", z, 500.0)),
    "no activation": lambda g, z: g("Add", z, 1.0),
    "Dropout of inference": lambda g, z: g("Dropout", g("Relu", z), 0.5, np.array(False)),
}  # fmt: skip


def _silu(g, z):
    return g("Mul", z, g("Sigmoid", z))


@pytest.mark.parametrize("name", BETWEEN)
def test_constants_between_layers_are_taken_into_the_weights(name, rng):
    (W, b), (V, c) = weights(4, 3, 2)
    for units in (3, 1) if "all" in name else (3,):
        g = Graph()
        h = BETWEEN[name](g, keras_layer(g, "input", W[:, :units], b[:units]))
        model = g.model(torch_layer(g, h, V[:units], c))
        net = from_onnx(model)
        assert [layer.units for layer in net.layers] == [units, 2]
        X = rng.normal(size=(20, 4)).astype(np.float32)
        close(net.predict(X), run(model, X), 1e-5)


def test_gemm_with_all_its_attributes(rng):
    (W, b), (V, _) = weights(4, 3, 2)
    g = Graph()
    z = g("Gemm", "input", W.T, b[np.newaxis], alpha=0.5, beta=-2.0, transB=1)
    model = g.model(g("Gemm", g("Tanh", z), V, [0.25], alpha=3.0))
    net = from_onnx(model)
    X = rng.normal(size=(20, 4)).astype(np.float32)
    close(net.predict(X), run(model, X), 1e-5)


def test_constants_as_nodes_and_turned_weights(rng):
    (W, b), (V, c) = weights(4, 3, 2)
    g = Graph()
    tensor = onnx.numpy_helper.from_array(W.T.astype(np.float32))
    z = g("MatMul", "input", g("Transpose", g("Constant", value=tensor), perm=[1, 0]))
    z = g("Add", g("Identity", g.constant(b)), z)
    h = g("LeakyRelu", g("Mul", z, g("Constant", value_float=2.0)), alpha=0.01)
    again = g(
        "Reshape", g("Cast", g.constant(c, "float64"), to=TensorProto.FLOAT), np.array([1, 2])
    )
    W2 = g("Squeeze", g("Unsqueeze", g.constant(V), np.array([0])), np.array([0]))
    model = g.model(g("Add", g("MatMul", h, W2), again))
    net = from_onnx(model)
    assert repr(net.layers) == "(Dense(3, 'leaky_relu'), Dense(2, 'identity'))"
    X = rng.normal(size=(20, 4)).astype(np.float32)
    close(net.predict(X), run(model, X), 1e-5)


def test_functions_of_a_model_are_looked_into(rng):
    (W, b), (V, c) = weights(4, 3, 2)
    body = [helper.make_node("Sigmoid", ["z"], ["s"]), helper.make_node("Mul", ["z", "s"], ["a"])]
    opsets = [helper.make_opsetid("", 17)]
    swish = helper.make_function("own", "swish", ["z"], ["a"], body, opsets)
    g = Graph()
    h = g("swish", torch_layer(g, "input", W, b), domain="own")
    model = g.model(torch_layer(g, h, V, c), functions=[swish])
    assert from_onnx(model).layers[0].activation.name == "silu"


def classifier(n_classes, *, labels=("a", "b", "c"), zipmap=False, output="probabilities"):
    """The end of a classifier, as skl2onnx writes it."""
    units = 1 if n_classes == 2 else n_classes
    (W, b), (V, c) = weights(4, 3, units)
    g = Graph()
    x = g("Cast", "input", to=TensorProto.FLOAT)
    z = sklearn_layer(g, g("Relu", sklearn_layer(g, x, W, b)), V, c)
    if n_classes == 2:
        p = g("Sigmoid", z)
        p = g("Concat", g("Sub", 1.0, p), p, axis=1)
    else:
        p = g("Softmax", z)
    values = np.array(labels[:n_classes])
    if values.dtype.kind == "U":
        text = [label.encode() for label in labels[:n_classes]]
        g.constants.append(helper.make_tensor("classes", TensorProto.STRING, [n_classes], text))
    else:
        g.constant(values, name="classes")
    best = g("ArgMax", p, axis=1)
    label = g("ArrayFeatureExtractor", "classes", best, domain="ai.onnx.ml")
    label = g("Reshape", label, np.array([-1]), out="label")
    if zipmap:
        key = "classlabels_strings" if values.dtype.kind == "U" else "classlabels_int64s"
        g("ZipMap", p, domain="ai.onnx.ml", out=output, **{key: list(labels[:n_classes])})
    else:
        g("Identity", p, out=output)
    kinds = [
        TensorProto.STRING if values.dtype.kind == "U" else TensorProto.INT64,
        TensorProto.FLOAT,
    ]
    return g.model("label", output, kinds=kinds, checked=not zipmap, producer_name="skl2onnx")


@pytest.mark.parametrize("zipmap", [True, False], ids=["ZipMap", "array"])
@pytest.mark.parametrize("labels", [("a", "b", "ü"), (0, 7, 9)], ids=["text", "int"])
@pytest.mark.parametrize(("n_classes", "output"), [(2, "sigmoid"), (3, "softmax")])
def test_classifiers_of_scikit_learn(n_classes, output, labels, zipmap):
    net = from_onnx(classifier(n_classes, labels=labels, zipmap=zipmap))
    assert net.layers[-1].activation.name == output
    assert net.n_outputs == (1 if n_classes == 2 else 3)
    assert net.metadata == {"classes": list(labels[:n_classes])}


@pytest.mark.parametrize(
    ("kind", "labels"),
    [(TensorProto.COMPLEX64, [1j, 2j]), (TensorProto.FLOAT, [1.0, np.nan])],
    ids=["complex", "not finite"],
)
def test_classes_that_no_model_file_could_hold_are_refused(kind, labels):
    g = Graph()
    g.constants.append(helper.make_tensor("classes", kind, [2], labels))
    z = g("MatMul", "input", np.ones((4, 2)), out="out")
    g("ArrayFeatureExtractor", "classes", g("ArgMax", z, axis=1), domain="ai.onnx.ml")
    with pytest.raises(ModelFileError, match="its classes are neither text nor numbers"):
        from_onnx(g.model("out"))


def test_an_output_without_its_axis():
    (W, b), (V, c) = weights(4, 3, 1)
    for op, argument in (("Squeeze", -1), ("Reshape", -1)):
        g = Graph()
        z = torch_layer(g, g("Relu", torch_layer(g, "input", W, b)), V, c)
        assert from_onnx(g.model(g(op, z, np.array([argument])))).n_outputs == 1


def several_outputs():
    (W, b), (V, c) = weights(4, 3, 2)
    g = Graph()
    h = g("Relu", torch_layer(g, "input", W, b), out="features")
    z = g("Gemm", h, V, c, out="logits")
    g("LogSoftmax", z, axis=1, out="log_probabilities")
    return g.model("features", "logits", "log_probabilities")


def test_output_chooses_a_value():
    model = several_outputs()
    with pytest.raises(
        ModelFileError, match=r"several outputs; choose.*output=: features, logits$"
    ):
        from_onnx(model)
    assert from_onnx(model, output="features").n_outputs == 3
    assert from_onnx(model, output="logits").n_outputs == 2
    with pytest.raises(ModelFileError, match=r"LogSoftmax.*is no activation.*output='logits'$"):
        from_onnx(model, output="log_probabilities")
    with pytest.raises(ModelFileError, match="has no value 'else'"):
        from_onnx(model, output="else")


# ---- refusals --------------------------------------------------------------------------------


def _chain(*nodes, n_inputs=4, **settings):
    """A layer, some nodes, and another layer."""
    (W, b), (V, c) = weights(4, 3, 2)

    def build():
        g = Graph(n_inputs, **settings)
        x = torch_layer(g, "input", W, b)
        for node in nodes:
            x = node(g, x)
        return g.model(torch_layer(g, x, V, c))

    return build


def _first(op, *inputs, n_inputs=4, **attributes):
    (W, b), _ = weights(4, 3, 2)

    def build():
        g = Graph(n_inputs)
        return g.model(torch_layer(g, g(op, "input", *inputs, name="it", **attributes), W, b))

    return build


def _last(*nodes):
    ((W, b),) = weights(4, 3)

    def build():
        g = Graph()
        x = torch_layer(g, "input", W, b)
        for node in nodes:
            x = node(g, x)
        return g.model(x)

    return build


def _node(op, *inputs, **attributes):
    return lambda g, x: g(op, x, *inputs, name=f"the_{op}", **attributes)


def _half(g, x):
    return g("MatMul", x, g.constant(np.ones((3, 3)), "float16"), name="it")


def _two_inputs():
    g = Graph(2, inputs=["a", "b"])
    return g.model(torch_layer(g, g("Concat", "a", "b", axis=1), np.ones((4, 2)), np.ones(2)))


def _mixed():
    g = Graph(4)
    x = g("Cast", torch_layer(g, "input", np.ones((4, 3)), np.ones(3)), to=TensorProto.DOUBLE)
    W = g.constant(np.ones((3, 2)), "float64")
    return g.model(g("MatMul", x, W, name="it"), kinds=[TensorProto.DOUBLE])


def _not_constant():
    g = Graph(4)
    return g.model(g("MatMul", "input", g("Transpose", "input"), name="it"))


def _transposed_input():
    g = Graph(4)
    return g.model(g("Gemm", "input", np.ones((5, 2)), name="it", transA=1))


REFUSALS = {
    "convolution": (
        _first("Conv", np.ones((3, 1, 2, 2)), n_inputs=(1, 3, 3)),
        r"Conv \(node it\) is no part of a dense network"),
    "recurrence": (
        _first("LSTM", np.ones((1, 4, 4)), np.ones((1, 4, 1)), n_inputs=(1, 4)),
        r"LSTM \(node it\) is no part"),
    "another domain": (
        _last(_node("Fancy", domain="com.example")), r"com\.example\.Fancy \(node it\) is no part"),
    "trees": (_last(_node("Normalizer", domain="ai.onnx.ml")), r"ai\.onnx\.ml\.Normalizer"),
    "relu6": (_chain(_node("Clip", 0.0, 6.0)),
              r"Gemm .* takes what Clip \(node it\) computes, which is none of fastgd's activ\w+$"),
    "gelu by tanh": (
        _chain(_node("Gelu", approximate="tanh"), opset=20),
        r"what Gelu \(node it\) computes.* \(GELU\(\) differs from it by up to 0\.00047\)"),
    "clipped far off": (_chain(_node("Min", 2000.0)), r"what Min \(node it\)"),
    "input left out": (_chain(lambda g, x: g("Min", x, "", name="it")),
                       r"Min \(node it\) lacks an input"),
    "hard swish": (_last(_node("HardSwish")), r"the output takes what HardSwish \(node it\)"),
    "celu": (_chain(_node("Celu", alpha=2.0)), "Celu"),
    "elu downwards": (_chain(_node("Elu", alpha=-1.0)), "Elu"),
    "slopes": (_chain(_node("PRelu", np.array([0.1, 0.2, 0.3]))), "PRelu.*differs from unit"),
    "log softmax": (_last(_node("LogSoftmax", axis=1)),
                    r"LogSoftmax \(node it\) is no activation.* output='/0/Gemm_output_0'"),
    "softmax between": (_chain(_node("Softmax", axis=1)), "from the probabilities of a softmax"),
    "softmax over samples": (_last(_node("Softmax", axis=0)), r"Softmax \(node it\) has axis=0"),
    "softmax of relu": (_last(_node("Relu"), _node("Softmax")), "another activation, relu"),
    "scaled output": (_last(_node("Tanh"), _node("Mul", np.ones(3) * 2)), "last activation"),
    "scaled output by one number": (_last(_node("Tanh"), _node("Mul", 2.0)), r"Mul \(node it\)"),
    "sum of rows": (_last(_node("ReduceMean", axes=[1])), "ReduceMean"),
    "residual": (_chain(lambda g, x: g("Add", x, torch_layer(g, x, np.eye(3), np.ones(3)),
                                       name="it")), r"Add \(node it\) joins two branches"),
    "training": (_chain(_node("Dropout", 0.5, np.array(True))), "is in training mode"),
    "activation of the input": (_first("Relu"), r"takes relu of what no layer returns"),
    "activation of an activation": (_chain(_node("Relu"), _node("Mul", np.ones(3) * 2.0),
                                           _node("Tanh")), "takes tanh of what no layer returns"),
    "image without Flatten": (
        _first("Identity", n_inputs=(3, 4)),
        r"multiplies a value of shape \(n, 3, 4\) by weights of shape \(4, 3\)"),
    "turned": (_first("Transpose"), r"Transpose \(node it\) turns samples"),
    "reshaped": (_first("Reshape", np.array([-1, 2])), r"makes \[-1, 2\] of a value of shape"),
    "columns": (_first("Gather", np.array([0, 1]), axis=1), r"Gather \(node it\) selects"),
    "slice": (_first("Slice", np.array([0]), np.array([2]), np.array([1])), "selects"),
    "joined": (_first("Concat", "input", axis=1), r"Concat \(node it\) joins"),
    "cast to integers": (_first("Cast", to=TensorProto.INT64), r"makes int64 of"),
    "too many axes": (_chain(_node("Add", np.ones((1, 1, 3)))), "adds axes"),
    "constant by sample": (_chain(_node("Add", np.ones((5, 3)))), r"constant of shape \(5, 3\)"),
    "division": (_chain(lambda g, x: g("Div", np.ones(3), x, name="it")), "differs from unit"),
    "half precision": (_chain(_half), "weights of float16; fastgd has float32 and float64"),
    "mixed precision": (_mixed, "weights of float64, after others of float32"),
    "two inputs": (_two_inputs, "takes one input, an array of all features; it has a, b"),
    "weights that are computed": (_not_constant, "turns samples and features"),
    "features by samples": (_transposed_input, r"Gemm \(node it\) has transA=1"),
    "no layer": (lambda: (g := Graph()).model(g("Identity", "input")), "has no layer"),
    "labels": (lambda: (g := Graph()).model(
        g("ArgMax", torch_layer(g, "input", *weights(4, 3)[0]), axis=1),
        kinds=[TensorProto.INT64]), "has labels only"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_others_are_refused_by_the_name_of_the_operator(name):
    build, message = REFUSALS[name]
    model = build()
    message = message.replace("node it", r"node '(it|the_\w+)'")
    with pytest.raises(ModelFileError, match=message) as caught:
        from_onnx(model)
    assert str(caught.value).startswith("cannot read the model: ")
    assert "\n" not in str(caught.value)


# ---- files -----------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path):
    net = network(activations.get("silu"), 2, "float32")
    net.to_onnx(tmp_path / "model.onnx", metadata={"classes": [1, 2, 3]})
    return tmp_path / "model.onnx"


def test_paths_bytes_and_models_are_read(written):
    expected = from_onnx(written)
    for given in (str(written), written.read_bytes(), onnx.load(written)):
        assert_same(from_onnx(given), expected)
    with pytest.raises(TypeError, match=r"path, bytes or an onnx\.ModelProto, not 3"):
        from_onnx(3)
    with pytest.raises(FileNotFoundError):
        from_onnx(written.with_name("absent.onnx"))
    with pytest.raises(ModelFileError, match="is not a regular file"):
        from_onnx(written.parent)


def test_truncated_files_are_refused(written):
    content = written.read_bytes()
    short = written.with_name("short.onnx")
    for length in range(0, len(content) - 1, 23):
        short.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=rf"cannot read {short}: "):
            from_onnx(short)


def test_damaged_files_are_refused_or_another_network(written, rng):
    """ONNX has no checksum; whatever the damage, there is no other error."""
    content = written.read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), size=3):
            damaged[place] = rng.integers(0, 256)
        try:
            assert isinstance(from_onnx(bytes(damaged)), Network)
        except ModelFileError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"{}"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other.onnx").write_bytes(content)
    for given in (tmp_path / "other.onnx", content):
        with pytest.raises(ModelFileError):
            from_onnx(given)


def test_values_that_are_not_finite_are_refused(written):
    model = onnx.load(written)
    (tensor,) = (t for t in model.graph.initializer if t.name == "layers.0.weight")
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0, 0] = np.inf
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(ModelFileError, match="not finite"):
        from_onnx(model)


def test_tensors_shorter_than_they_claim_are_refused(written):
    model = onnx.load(written)
    (tensor,) = (t for t in model.graph.initializer if t.name == "layers.0.weight")
    tensor.dims[0] = 2**40
    with pytest.raises(ModelFileError, match="damaged"):
        from_onnx(model)


@pytest.mark.parametrize(
    "loss",
    ["{}", "no JSON", '{"name": "huber", "delta": -1}', '{"name": 3}', "7", "[" * 100_000,
     '{"name": "huber", "delta": 1' + "0" * 400 + "}", '{"name": "cross_entropy"}'],
    ids=range(8),
)  # fmt: skip
def test_damaged_notes_of_the_loss_are_refused(loss, written):
    model = onnx.load(written)
    for entry in model.metadata_props:
        if entry.key == "fastgd.loss":
            entry.value = loss
    with pytest.raises(ModelFileError):
        from_onnx(model)
    model.producer_name = "another"
    assert from_onnx(model).loss_name == "squared_error"


def test_weights_in_a_second_file(written, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    model = onnx.load(written)
    settings = {"save_as_external_data": True, "size_threshold": 0, "location": "model.data"}
    onnx.save(model, folder / "model.onnx", **settings)
    assert_same(from_onnx(folder / "model.onnx"), from_onnx(written))
    with pytest.raises(ModelFileError, match="second file"):
        from_onnx((folder / "model.onnx").read_bytes())
    (folder / "model.data").write_bytes(b"short")
    with pytest.raises(ModelFileError, match="cannot read"):
        from_onnx(folder / "model.onnx")
    (folder / "model.data").unlink()
    with pytest.raises(ModelFileError, match="cannot read"):
        from_onnx(folder / "model.onnx")


def test_second_files_elsewhere_are_not_read(written, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))
    folder = tmp_path / "inner"
    folder.mkdir()
    model = onnx.load(written)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="cannot read"):
        from_onnx(folder / "model.onnx")


def in_second_files(written, folder, *entries):
    """Write the model with a tensor for each of the entries, and return the path."""
    folder.mkdir(exist_ok=True)
    model = onnx.load(written)
    for i, one in enumerate(entries):
        tensor = model.graph.initializer.add(name=f"t{i}", data_type=TensorProto.UINT8, dims=[1000])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in one.items():
            tensor.external_data.add(key=key, value=str(value))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


PART = {"location": "data", "length": 1000}


@pytest.mark.parametrize(
    "entries",
    [
        [PART, PART, PART],
        [PART, PART | {"location": "linked"}, PART],
        [{"location": "data", "offset": 1000}, {"location": "data"}],
        [PART | {"offset": 1000}, PART | {"length": 0}],
    ],
    ids=["the same", "two names", "no length", "length of 0"],
)
def test_bytes_of_second_files_are_taken_once(entries, written, tmp_path):
    path = in_second_files(written, tmp_path / "inner", *entries)
    (path.parent / "data").write_bytes(bytes(2000))
    message = r"tensors take [23],000 bytes of files that have 2,000"
    if any(one["location"] == "linked" for one in entries):
        os.link(path.parent / "data", path.parent / "linked")
        message += "|multiple hard links"
    with pytest.raises(ModelFileError, match=message):
        from_onnx(path)


def test_parts_of_second_files_are_read(written, tmp_path):
    entries = PART, PART | {"offset": 1000}, PART | {"location": "other"}
    path = in_second_files(written, tmp_path / "inner", *entries)
    (path.parent / "data").write_bytes(bytes(2000))
    (path.parent / "other").write_bytes(bytes(1000))
    assert_same(from_onnx(path), from_onnx(written))


def test_a_model_is_not_its_own_second_file(written, tmp_path):
    path = in_second_files(written, tmp_path / "inner", PART | {"location": "model.onnx"})
    with pytest.raises(ModelFileError, match="'t0' is said to be the model's own file"):
        from_onnx(path)


def test_files_that_claim_terabytes_are_refused(written, tmp_path, monkeypatch):
    path = in_second_files(written, tmp_path / "inner", PART)
    (path.parent / "data").write_bytes(bytes(1000))

    def too_large(*arguments):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(onnx, "load_external_data_for_model", too_large)
        with pytest.raises(ModelFileError, match="takes more memory than there is"):
            from_onnx(path)
    with path.open("r+b") as file:
        try:
            file.truncate(2**43)
        except OSError:
            # The size that a file claims is the point, and 8 TB cannot be written.
            pytest.skip("this file system has no such files")
    with pytest.raises(ModelFileError, match="has 8,796,093,022,208 bytes, and no ONNX file more"):
        from_onnx(path)


# ---- the page --------------------------------------------------------------------------------


def test_cells_of_the_page_print_what_it_shows(tmp_path):
    assert_cells_print_what_is_shown("onnx.md", tmp_path)


# ---- graphs that ask for more than they hold ---------------------------------------------------

TOO_MUCH = "asks for more work than a model of its size may"


def squared(g):
    """A column and a row of 3,000, and their sum, of 9 million numbers."""
    column, row = np.zeros((3000, 1)), np.zeros((1, 3000))
    return g("Add", g("Constant", value=numpy_helper.from_array(column.astype(np.float32))), row)


def doubled(g, op="Concat"):
    """Twice as long with every node: 2**40 numbers in the end."""
    value = g.constant(np.zeros(1))
    for _ in range(40):
        value = g("Concat", value, value, axis=0)
    return value


def gathered(g):
    value = g.constant(np.zeros((1, 1000)))
    return g("Gather", value, g.constant(np.zeros(100_000), "int64"), axis=0)


@pytest.mark.parametrize("make", [squared, doubled, gathered])
def test_constants_that_explode_are_refused_before_they_are_made(make):
    g = Graph(n_inputs=2)
    z = g("MatMul", "input", np.ones((2, 2)))
    model = g.model(g("Add", z, make(g), out="out"), checked=False)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=TOO_MUCH):
            from_onnx(model)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def many_operands(g, z):
    constant = g.constant(np.ones(100_000))
    return g("Max", *[constant] * 40)


def looked_through(g, z):
    """A constant that each of many nodes looks through, to make nothing."""
    value, axes = g.constant(np.ones(1)), g.constant(np.zeros(100_000), "int64")
    return [g("Unsqueeze", value, axes) for _ in range(40)][-1]


def weights_of_many(g, z):
    """Layers of the same weights, each of which is kept in float64."""
    W = g.constant(np.ones((300, 300)))
    x = g("MatMul", z, np.ones((2, 300)))
    for _ in range(40):
        x = g("MatMul", x, W)
    return x


def factors_of_many(g, z):
    """Constants for each unit, which nodes with a number for all of them would make again."""
    x = g("Add", g("Mul", z, np.ones(100_000)), 1.0)
    return [g("MatMul", x, np.ones((2, 2))) for _ in range(40)][-1]


def long_chain(g, z):
    """Layers of one number, of which each keeps a list of those below."""
    W = g.constant(np.ones((2, 2)))
    for _ in range(1200):
        z = g("MatMul", z, W)
    return z


def functions_of_many(g, z):
    """Functions of many steps, with as many ways in which they may be meant."""
    for _ in range(20):
        z = g("Add", z, 0.1)
    x = g("Exp", z)
    for _ in range(40):
        x = g("Erf", x)
        g("MatMul", x, np.ones((2, 2)))
    return g("MatMul", x, np.ones((2, 2)))


@pytest.mark.parametrize(
    "make",
    [many_operands, looked_through, weights_of_many, factors_of_many, long_chain,
     functions_of_many],
)  # fmt: skip
def test_nodes_that_name_the_same_again_and_again_are_refused(make, monkeypatch):
    monkeypatch.setattr(_onnx_reader, "_WORK", 1 << 22)
    g = Graph((None,) if make is factors_of_many else 2)
    z = "input" if make is factors_of_many else g("MatMul", "input", np.ones((2, 2)))
    model = g.model(g("Identity", make(g, z), out="out"), checked=False)
    with pytest.raises(ModelFileError, match=TOO_MUCH):
        from_onnx(model)


def test_slice_without_axes():
    g = Graph(n_inputs=2)
    start, end, step = (g.constant(np.array([n]), "int64") for n in (3, -(2**63), -2))
    b = g("Slice", g.constant(np.arange(4.0)), start, end, "", step)
    net = from_onnx(g.model(g("Add", g("MatMul", "input", np.ones((2, 2))), b)))
    np.testing.assert_array_equal(net.layers[0].bias, [3.0, 1.0])


def _minus_of_booleans(g, z):
    return g("Neg", g("Greater", z, 0.0), name="it")


NOT_UNDERSTOOD = {
    "Squeeze": (lambda g, z: g("Squeeze", np.ones((1, 2)), z, name="it"), "not constant"),
    "Unsqueeze": (lambda g, z: g("Unsqueeze", np.ones(2), z, name="it"), "not constant"),
    "Slice": (lambda g, z: g("Slice", np.ones(3), z, z, name="it"), "not constant"),
    "step of 0": (lambda g, z: g("Slice", np.ones(3), *[np.array([n]) for n in (0, 2, 0, 0)],
                                 name="it"), "is not understood"),
    "minus of booleans": (_minus_of_booleans, "output is not understood: .* boolean"),
    "power": (lambda g, z: g("Pow", np.array(3), np.array(-1), name="it"), "is not understood"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_operands_that_do_not_fit_are_refused(name):
    make, message = NOT_UNDERSTOOD[name]
    g = Graph(n_inputs=2)
    value = make(g, g("MatMul", "input", np.ones((2, 2))))
    with pytest.raises(ModelFileError, match=message):
        from_onnx(g.model(value, checked=False))


@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError, OverflowError, AttributeError])
def test_operators_that_fail_are_refused(error, monkeypatch):
    """Objects of Python are not computed with, but memory may be scarce."""

    def failing(x):
        raise error

    monkeypatch.setitem(_onnx_reader.FUNCTIONS, "Tanh", failing)
    for n_nodes in (1, 2):
        g = Graph(n_inputs=2)
        z = g("Tanh", g("MatMul", "input", np.ones((2, 2))))
        z = g("MatMul", z, np.ones((2, 2))) if n_nodes == 2 else z
        with pytest.raises(ModelFileError, match="is not understood"):
            from_onnx(g.model(z))


def test_values_of_more_axes_than_numpy_has_are_refused_before_they_are_counted():
    g = Graph(n_inputs=(2**40,) * 100)
    model = g.model(g("MatMul", g("Flatten", "input"), np.ones((2, 2)), out="out"), checked=False)
    with pytest.raises(ModelFileError, match="its input input has 101 axes"):
        from_onnx(model)
    g = Graph(n_inputs=2)
    target = np.full(65, 2**40)
    z = g("MatMul", g("Reshape", "input", target, name="it"), np.ones((2, 2)), out="out")
    with pytest.raises(ModelFileError, match=r"Reshape \(node 'it'\) makes 65 axes$"):
        from_onnx(g.model(z, checked=False))


def test_refusals_are_short():
    """Nodes of a few bytes may each be told with much of the file."""
    g = Graph(n_inputs=2)
    z = g("HardSwish", g("MatMul", "input", np.ones((2, 2))), name="n" * 10_000)
    with pytest.raises(ModelFileError, match=r"HardSwish \(node 'nnn") as caught:
        from_onnx(g.model(z))
    assert len(str(caught.value)) < 600
    g = Graph(n_inputs=2)
    g("Split", "input", n_outputs=2000, axis=1)
    model = g.model(g("MatMul", "input", np.ones((2, 2)), out="out"), checked=False)
    model.graph.node[0].name = ""
    tracemalloc.start()
    try:
        assert from_onnx(model.SerializeToString()).n_outputs == 2
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_outputs_beside_the_first_are_refused():
    g = Graph(n_inputs=2)
    g("Split", g("MatMul", "input", np.ones((2, 2))), name="it", n_outputs=2, axis=1)
    model = g.model(g("Relu", "it_output_1"), checked=False)
    with pytest.raises(ModelFileError, match=r"Split \(node 'it'\) has more than one output"):
        from_onnx(model)


def text_and_complex(g):
    """Names of constants: text, numbers that would become Python's, and complex ones."""
    g.constants.append(helper.make_tensor("text", TensorProto.STRING, [1], [b"ab"]))
    g.constants.append(helper.make_tensor("complex", TensorProto.COMPLEX64, [1], [1j]))
    return {
        "text": "text", "complex": "complex", "number": g.constant(np.array([3]), "int64"),
        "large": g.constant(np.array([10**6]), "int64"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "doing"),
    [
        ("Add", ["text", "text"], {}, "takes"),
        ("Mul", ["text", "large"], {}, "takes"),
        ("Reshape", ["text", "number"], {}, "takes"),
        ("Where", ["number", "text", "text"], {}, "takes"),
        ("Add", ["complex", "complex"], {}, "takes"),
        ("Cast", ["text"], {"to": TensorProto.FLOAT}, "takes"),
        ("Cast", ["complex"], {"to": TensorProto.FLOAT}, "takes"),
        ("Cast", ["large"], {"to": TensorProto.STRING}, "makes"),
        ("Cast", ["large"], {"to": TensorProto.COMPLEX64}, "makes"),
    ],
)
def test_nothing_is_computed_but_numbers(op, inputs, attributes, doing):
    g = Graph(n_inputs=2)
    named = text_and_complex(g)
    value = g(op, *[named[name] for name in inputs], name="it", **attributes)
    z = g("Add", g("MatMul", "input", np.ones((2, 2))), value, out="out")
    with pytest.raises(ModelFileError, match=rf"\(node 'it'\) {doing} something other than numb"):
        from_onnx(g.model(z, checked=False))


def test_weights_in_bfloat16_may_be_cast():
    g = Graph(n_inputs=2)
    g.constants.append(helper.make_tensor("W", TensorProto.BFLOAT16, [2, 1], [1.0, 2.0]))
    net = from_onnx(g.model(g("MatMul", "input", g("Cast", "W", to=TensorProto.FLOAT))))
    np.testing.assert_array_equal(net.layers[0].weight, [[1.0], [2.0]])


def comparisons(monkeypatch):
    """Return a list that grows with every comparison of values with the activations."""
    made = []
    nearest = _onnx_reader.nearest_activation

    def counted(values):
        made.append(values)
        return nearest(values)

    monkeypatch.setattr(_onnx_reader, "nearest_activation", counted)
    return made


def test_a_function_is_identified_once_for_all_that_take_it(monkeypatch):
    """Also where it is none of fastgd's activations."""
    compared = comparisons(monkeypatch)
    g = Graph(n_inputs=2)
    z = g("MatMul", "input", np.ones((2, 2)))
    known, unknown = g("Tanh", z), g("Sign", z)
    for _ in range(50):
        g("MatMul", known, np.ones((2, 2)))
        g("MatMul", unknown, np.ones((2, 2)))
    from_onnx(g.model(g("MatMul", known, np.ones((2, 2)), out="out")))
    assert len(compared) == 2


def test_forms_of_a_base_are_no_more_than_its_steps(monkeypatch):
    """Sums that are refused as beyond the most steps are no ways to mean a function."""
    compared = comparisons(monkeypatch)
    g = Graph(n_inputs=2)
    z = g("MatMul", "input", np.ones((2, 2)))
    unknown = g("Sign", z)
    for i in range(200):
        g("Add", z, float(i))
    with pytest.raises(ModelFileError, match="Sign"):
        from_onnx(g.model(g("MatMul", unknown, np.ones((2, 2)), out="out")))
    assert len(compared) <= 64


def test_endless_functions_of_one_number_are_refused_in_time():
    g = Graph(n_inputs=2)
    z = g("MatMul", "input", np.ones((2, 2)))
    for _ in range(3000):
        z = g("Add", z, np.ones(1))
    began = time.process_time()
    with pytest.raises(ModelFileError, match="beyond the 64 operators between two layers"):
        from_onnx(g.model(g("Tanh", z, out="out"), checked=False))
    assert time.process_time() - began < 5


OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]


def call(name, inputs, outputs, overload="", **attributes):
    node = helper.make_node(name, inputs, outputs, domain="com.example", **attributes)
    node.overload = overload
    return node


def function(name, nodes, inputs=("x",), outputs=("y",), **settings):
    return helper.make_function("com.example", name, inputs, outputs, nodes, OPSETS, **settings)


def nested_functions(n, n_calls=10, last=None):
    """Each calls the next one ten times, and the last is Relu."""
    made = []
    for i in range(n):
        nodes, name = [], "x"
        for j in range(n_calls):
            result = "y" if j + 1 == n_calls else f"y{j}"
            nodes.append(call(f"f{i + 1}", [name], [result]))
            name = result
        made.append(function(f"f{i}", nodes))
    return [*made, last or function(f"f{n}", [helper.make_node("Relu", ["x"], ["y"])])]


def empty_functions():
    """They double 2**40 times, and nothing is in the innermost."""
    made = [function("f0", [call("f1", ["x"], []), helper.make_node("Relu", ["x"], ["y"])])]
    for i in range(1, 40):
        made.append(function(f"f{i}", [call(f"f{i + 1}", ["x"], [])] * 2, outputs=[]))
    return [*made, function("f40", [], outputs=[])]


def deep_functions():
    """A chain of 110, the lower half of which is called first."""
    made = nested_functions(110, 1)
    made[0].node.insert(0, call("f60", ["x"], ["early"]))
    return made


def overloads(n_calls=10):
    """The same names throughout, with the smallest function last."""
    made = [function("f0", [call("f0", ["x"], ["y"], "7")])]
    for i in range(7, 0, -1):
        name, nodes = "x", []
        for j in range(n_calls):
            result = "y" if j + 1 == n_calls else f"y{j}"
            nodes.append(call("f0", [name], [result], str(i - 1 or "end")))
            name = result
        made.append(function("f0", nodes, overload=str(i)))
    return [*made, function("f0", [helper.make_node("Relu", ["x"], ["y"])], overload="end")]


def referring(by_default=False):
    """A constant of the call, or of the function, that each of a thousand nodes refers to."""
    tensor = numpy_helper.from_array(np.zeros(30_000, np.float32))
    nodes = []
    for i in range(1000):
        node = helper.make_node("Constant", [], [f"c{i}"])
        node.attribute.add(name="value", ref_attr_name="value", type=onnx.AttributeProto.TENSOR)
        nodes.append(node)
    nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    if by_default:
        defaults = [helper.make_attribute("value", tensor)]
        return [function("f0", nodes, attribute_protos=defaults)]
    inner = function("f1", nodes, attributes=["value"])
    return [function("f0", [call("f1", ["x"], ["y"], value=tensor)]), inner]


def described():
    """A long text that comes with every call."""
    last = function("f3", [helper.make_node("Relu", ["x"], ["y"])], doc_string="x" * 100_000)
    return nested_functions(3, last=last)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (nested_functions(11), "its functions, written out, make it too large"),
        (empty_functions(), "its functions, written out, make it too large"),
        (overloads(), "its functions, written out, make it too large"),
        (referring(), "its functions, written out, make it too large"),
        (referring(by_default=True), "its functions, written out, make it too large"),
        (described(), "its functions, written out, make it too large"),
        (nested_functions(2, last=function("f2", [call("f0", ["x"], ["y"])])),
         "function com.example::f0 calls itself|must not be recursive"),
        (nested_functions(110, 1), "nested more than 100 deep|depth exceeds limit"),
        (deep_functions(), "nested more than 100 deep|depth exceeds limit"),
    ],
    ids=["calls", "empty", "overloads", "references", "defaults", "text", "recursion",
         "depth", "half first"],
)  # fmt: skip
@pytest.mark.parametrize("is_checked", [True, False], ids=["", "by fastgd alone"])
def test_functions_that_explode_are_refused(functions, message, is_checked, monkeypatch):
    if not is_checked:
        # As with versions of onnx that find neither depth nor recursion
        monkeypatch.setattr(onnx.checker, "check_model", lambda model: None)
    g = Graph(n_inputs=2)
    z = g("f0", g("MatMul", "input", np.ones((2, 2))), domain="com.example", out="out")
    model = g.model(z, checked=False, functions=functions, ir_version=10)
    with pytest.raises(ModelFileError, match=message):
        from_onnx(model)


@pytest.mark.parametrize(
    "functions", [nested_functions(3, 3), overloads(1)[::-1]], ids=["", "overloads"]
)
def test_functions_in_functions_are_read(functions):
    g = Graph(n_inputs=2)
    z = g("f0", g("MatMul", "input", np.ones((2, 2))), domain="com.example", out="out")
    net = from_onnx(g.model(z, functions=functions, ir_version=10))
    assert [layer.activation.name for layer in net.layers] == ["relu"]


def test_metadata_of_others_that_are_not_finite_stay_text(written, tmp_path):
    """Or the network that is read could not be saved."""
    model = onnx.load(written)
    for key, value in {"a": "NaN", "b": "[" * 100_000, "c": "[1]", "d": "1e999"}.items():
        model.metadata_props.add(key=key, value=value)
    net = from_onnx(model)
    assert (net.metadata["a"], net.metadata["c"]) == ("NaN", [1])
    net.save(tmp_path / "model")
