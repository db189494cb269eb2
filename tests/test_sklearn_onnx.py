"""Conversion to ONNX by skl2onnx: registered in any order of imports, the same outputs."""

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import onnxruntime
import pytest
import skl2onnx
from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgd import activations
from fastgd.sklearn import MLPClassifier, MLPRegressor, _onnx, _settings

X, Y = load_iris(return_X_y=True)
X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
LABELS = np.column_stack([Y == 0, Y > 0]).astype(int)
LOSSES = ("squared_error", "absolute_error", "huber", "poisson")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(y, **settings):
    settings = {"hidden_layer_sizes": (6, 5), "max_iter": 20, "random_state": 1} | settings
    return MLPClassifier(**settings).fit(X, y)


def regressor(y, **settings):
    settings = {"hidden_layer_sizes": (6, 5), "max_iter": 20, "random_state": 1} | settings
    return MLPRegressor(**settings).fit(X, y)


def run(model, data=X, **settings):
    """Convert, check the declared shapes, and return what onnxruntime computes."""
    converted = skl2onnx.to_onnx(model, data[:1], **settings)
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {session.get_inputs()[0].name: data})
    # What the file declares; the session reports what it has inferred itself.
    for declared, array in zip(converted.graph.output, found, strict=True):
        if isinstance(array, np.ndarray):
            shape = declared.type.tensor_type.shape.dim
            assert [axis.dim_value for axis in shape[1:]] == list(array.shape[1:])
    return found


def close(found, expected, bound=1e-5):
    assert found.shape == expected.shape
    # The agreement that is promised, of the largest output
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * max(1, abs(expected).max()))


# ---- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [Y, Y.astype(np.int16) - 1, Y.astype(float), NAMES, NAMES.astype(object), Y == 1, LABELS,
     np.where(Y, "b", "a")],
    ids=["int", "negative", "float", "text", "object", "bool", "multilabel", "two texts"],
)  # fmt: skip
def test_classifier(y):
    model = classifier(y)
    labels, probabilities = run(model, options={"zipmap": False})
    np.testing.assert_array_equal(labels, model.predict(X))
    close(probabilities, model.predict_proba(X))
    assert probabilities.dtype == np.float32


def test_classifier_of_one_class():
    model = classifier(np.full(len(X), 7))
    labels, probabilities = run(model, options={"zipmap": False})
    assert (labels == 7).all()
    close(probabilities, model.predict_proba(X))


def test_probabilities_come_as_dictionaries_as_with_the_originals():
    model = classifier(NAMES)
    labels, probabilities = run(model)
    np.testing.assert_array_equal(labels, model.predict(X))
    expected = model.predict_proba(X)
    for row, values in zip(probabilities[:5], expected[:5], strict=True):
        assert list(row) == list(model.classes_)
        # As `close` has it for float32
        np.testing.assert_allclose(list(row.values()), values, atol=1e-5)


def test_options_of_the_originals_are_taken():
    model = classifier(NAMES)
    *_, first, second, third = run(model, options={"zipmap": "columns"})
    close(np.column_stack([first, second, third]), model.predict_proba(X))
    settings = {"zipmap": False, "output_class_labels": True}
    assert [name.decode() if isinstance(name, bytes) else name
            for name in run(model, options=settings)[2]] == list(model.classes_)  # fmt: skip
    numbers, _ = run(model, options={"zipmap": False, "nocl": True})
    np.testing.assert_array_equal(model.classes_[numbers], model.predict(X))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_regressor(loss, n_outputs):
    y = np.abs(X[:, :n_outputs]) * 2
    model = regressor(y[:, 0] if n_outputs == 1 else y, loss=loss)
    (found,) = run(model)
    close(found, model.predict(X).reshape(-1, n_outputs))


EVERY = [
    *(name for name in _settings.HIDDEN_ACTIVATIONS if name != "exp"),
    activations.LeakyReLU(0.3),
    activations.ELU(1.7),
]


@pytest.mark.parametrize("activation", EVERY, ids=str)
@pytest.mark.parametrize("data", [X, X.astype(np.float64)], ids=["float32", "float64"])
def test_every_activation(activation, data):
    model = regressor(X[:, 0], activation=activation, dtype=data.dtype.name)
    (found,) = run(model, data * 10)
    assert found.dtype == data.dtype
    # erf is there in single precision only.
    is_double = data.dtype == np.float64 and activation != "gelu"
    close(found, model.predict(data * 10).reshape(-1, 1), 1e-13 if is_double else 1e-5)


def test_exp_between_layers():
    model = regressor(X[:, 0], activation="exp")
    (found,) = run(model)
    close(found, model.predict(X).reshape(-1, 1))


def test_an_activation_for_each_layer():
    model = classifier(Y, activation=["mish", activations.ELU(0.5)])
    close(run(model, options={"zipmap": False})[1], model.predict_proba(X))


def test_double_precision_and_integers_of_the_input_are_kept_in_mind():
    model = classifier(Y, hidden_layer_sizes=())
    data = X.astype(np.float64)
    _, probabilities = run(model, data, options={"zipmap": False})
    # The weights are float32, in which fastgd computes, and ONNX Runtime here in float64
    close(probabilities, model.predict_proba(data), 1e-6)
    assert probabilities.dtype == np.float64
    whole = (X * 3).astype(np.int64)
    close(run(model, whole, options={"zipmap": False})[1], model.predict_proba(whole))


@pytest.mark.parametrize("opset", [12, 15, 21])
def test_older_operation_sets(opset):
    model = classifier(Y, activation=["gelu", "hard_sigmoid"])
    found = run(model, options={"zipmap": False}, target_opset={"": opset, "ai.onnx.ml": 3})
    close(found[1], model.predict_proba(X))


# ---- within others -----------------------------------------------------------------------------


def test_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=9, random_state=0))
    pipeline.fit(X, NAMES)
    options = {id(pipeline): {"zipmap": False}}
    labels, probabilities = run(pipeline, options=options)
    np.testing.assert_array_equal(labels, pipeline.predict(X))
    close(probabilities, pipeline.predict_proba(X))
    search = GridSearchCV(MLPRegressor(max_iter=5, random_state=0), {"alpha": [0.1, 1.0]}, cv=2)
    search.fit(X, X[:, 0])
    close(run(search)[0], search.predict(X).reshape(-1, 1))


def test_originals_are_converted_by_skl2onnx_itself():
    model = neural_network.MLPClassifier((4,), max_iter=5, random_state=0).fit(X, Y)
    names = skl2onnx._supported_operators.sklearn_operator_name_map
    assert names[neural_network.MLPClassifier] == "SklearnMLPClassifier"
    close(run(model, options={"zipmap": False})[1], model.predict_proba(X))


# ---- registration ------------------------------------------------------------------------------


def run_code(code):
    """Run code in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


USE = """
import warnings
import numpy as np
warnings.simplefilter("ignore")
X = np.eye(3, dtype=np.float32)
model = fastgd.sklearn.MLPRegressor(hidden_layer_sizes=(2,), activation="gelu", max_iter=2)
model.fit(X, X)
outputs = skl2onnx.to_onnx(model, X).graph.output
assert outputs[0].type.tensor_type.shape.dim[1].dim_value == 3
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import skl2onnx, fastgd.sklearn",
        "import fastgd.sklearn, skl2onnx",
        "import fastgd.sklearn; fastgd.sklearn.patch(); import skl2onnx",
        "import fastgd.sklearn; import importlib.util; importlib.util.find_spec('skl2onnx'); "
        "import skl2onnx",
        "from skl2onnx import common; import fastgd.sklearn, skl2onnx",
        "import fastgd.sklearn; from skl2onnx.common import data_types; import skl2onnx",
    ],
)
def test_any_order_of_imports(imports):
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{USE}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_nothing_waits_after_the_import():
    """Other finders may be as old as Python allows, without find_spec."""
    code = """
        import sys
        import fastgd.sklearn
        old = type("Old", (), {"find_module": lambda self, name, path=None: None})
        sys.meta_path.append(old())
        assert any("fastgd" in str(finder) for finder in sys.meta_path)
        import skl2onnx
        import threadpoolctl
        assert not any("fastgd" in str(finder) for finder in sys.meta_path)
        """
    run_code(code)


def test_after_patch_the_originals_are_converted_too():
    code = f"""
        import fastgd.sklearn
        fastgd.sklearn.patch()
        import skl2onnx
        from sklearn.neural_network._multilayer_perceptron import MLPRegressor
        fastgd.sklearn.MLPRegressor = MLPRegressor
        {textwrap.indent(USE.replace('"gelu"', '"tanh"'), " " * 8).strip()}
        """
    run_code(code)


def test_skl2onnx_is_not_imported_and_need_not_be_there():
    code = """
        import sys
        import fastgd.sklearn
        assert "skl2onnx" not in sys.modules
        sys.modules["skl2onnx"] = None
        fastgd.sklearn.MLPRegressor(max_iter=1, solver="lbfgs", tol=9.0).fit([[0.0]], [1.0])
        del sys.modules["skl2onnx"]
        sys.path[:] = []
        try:
            import skl2onnx
        except ModuleNotFoundError as error:
            assert error.name == "skl2onnx"
        else:
            raise AssertionError
        """
    run_code(code)


def test_a_version_that_does_not_fit_is_told_of(monkeypatch):
    monkeypatch.delattr(skl2onnx, "update_registered_converter")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _onnx._register()
    (warning,) = caught
    assert str(warning.message).startswith("skl2onnx will not convert fastgd's estimators: ")
