"""patch and unpatch, each in a process of its own, since they change what every module imports."""

import pickle
import subprocess
import sys

import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor

NAMES = ("MLPClassifier", "MLPRegressor")


def run(code, *arguments, warnings="error", cwd=None):
    """Run code in a new process, where a warning is an error; return what it printed."""
    done = subprocess.run(
        [sys.executable, f"-W{warnings}", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_patch_exchanges_the_public_names_and_unpatch_restores_them():
    run("""
import sklearn.neural_network as public
before = dict(vars(public))
import fastgd.sklearn
fastgd.sklearn.unpatch()  # nothing to do yet
assert vars(public) == before
for _ in range(2):
    fastgd.sklearn.patch()
    for name in ("MLPClassifier", "MLPRegressor"):
        assert getattr(public, name) is getattr(fastgd.sklearn, name)
from sklearn.neural_network import MLPClassifier, MLPRegressor
assert MLPRegressor is fastgd.sklearn.MLPRegressor
assert isinstance(MLPClassifier(), before["MLPClassifier"])
for _ in range(2):
    fastgd.sklearn.unpatch()
    assert vars(public) == before
""")


def test_patched_estimators_take_the_originals_place_in_programs():
    out = run("""
import fastgd.sklearn
fastgd.sklearn.patch()
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
last = neural_network.MLPClassifier((5,), max_iter=9999, random_state=0)
model = make_pipeline(StandardScaler(), last)
search = GridSearchCV(clone(model), {"mlpclassifier__alpha": [1e-4, 1e-2]}, cv=2)
X, y = load_iris(return_X_y=True)
print(type(search.fit(X, y).best_estimator_[-1]).__module__.partition("._")[0])
""")
    assert out == "fastgd.sklearn\n"


def test_all_estimators_has_fastgds_classes_once_and_not_the_originals():
    run(
        """
import fastgd.sklearn
fastgd.sklearn.patch()
from sklearn.utils import all_estimators
found = [pair for pair in all_estimators() if pair[0] in ("MLPClassifier", "MLPRegressor")]
assert found == [("MLPClassifier", fastgd.sklearn.MLPClassifier),
                 ("MLPRegressor", fastgd.sklearn.MLPRegressor)], found
""",
        warnings="default",
    )


@pytest.mark.parametrize("original", [MLPClassifier, MLPRegressor])
def test_pickles_of_originals_stay_originals(original, tmp_path):
    X, y = load_iris(return_X_y=True)
    model = original(hidden_layer_sizes=(3,), solver="lbfgs", tol=0.1, random_state=0).fit(X, y)
    file = tmp_path / "model.pickle"
    file.write_bytes(pickle.dumps(model))
    run(
        """
import pickle, sys
from pathlib import Path
import fastgd.sklearn
fastgd.sklearn.patch()
file = Path(sys.argv[1])
model = pickle.loads(file.read_bytes())
assert not isinstance(model, (fastgd.sklearn.MLPClassifier, fastgd.sklearn.MLPRegressor))
file.write_bytes(pickle.dumps(model))
""",
        file,
    )
    again = pickle.loads(file.read_bytes())
    assert type(again) is original
    assert (again.predict(X) == model.predict(X)).all()


def test_pickles_of_patched_estimators_need_no_patch(tmp_path):
    file = tmp_path / "model.pickle"
    code = """
import pickle, sys
import fastgd.sklearn
fastgd.sklearn.patch()
from sklearn.neural_network import MLPRegressor
model = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs").fit([[0.0], [1.0]], [0.0, 1.0])
with open(sys.argv[1], "wb") as file:
    pickle.dump(model, file)
"""
    run(code, file)
    run("import pickle, sys; pickle.load(open(sys.argv[1], 'rb')).predict([[0.5]])", file,
        warnings="ignore")  # fmt: skip


def test_early_importers_are_told():
    out = run(
        """
import sys, types, warnings
early = types.ModuleType("early")
early.Net = __import__("sklearn.neural_network").neural_network.MLPRegressor
early.neural_network = __import__("sklearn.neural_network").neural_network
sys.modules["early"] = early
sys.modules["sklearn_like"] = types.ModuleType("sklearn_like")
sys.modules["odd"] = object()
from sklearn.neural_network import MLPClassifier
import fastgd.sklearn
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fastgd.sklearn.patch()
    fastgd.sklearn.patch()
for warning in caught:
    print(warning.category.__name__, warning.filename, warning.message)
""",
    )
    assert out == (
        "UserWarning <string> these modules imported scikit-learn's classes before "
        "fastgd.sklearn.patch() was called, and go on using them: __main__ (MLPClassifier), early "
        "(MLPRegressor). Call patch() before they are imported, or run the program by `python -m "
        "fastgd.sklearn`.\n"
    )


def test_looking_for_importers_loads_no_lazy_module(tmp_path):
    (tmp_path / "waiting.py").write_text("raise RuntimeError('loaded')")
    run(
        """
import importlib.util, sys
spec = importlib.util.find_spec("waiting")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["waiting"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["waiting"])
import fastgd.sklearn
fastgd.sklearn.patch()
""",
        cwd=tmp_path,
    )


def test_unpatch_leaves_what_others_have_put_there():
    run("""
import sklearn.neural_network as public
import fastgd.sklearn
fastgd.sklearn.patch()
public.MLPClassifier = "another's"
fastgd.sklearn.unpatch()
assert public.MLPClassifier == "another's"
assert public.MLPRegressor is not fastgd.sklearn.MLPRegressor
""")


@pytest.mark.parametrize("name", NAMES)
def test_patch_and_unpatch_leave_the_home_of_pickles_alone(name):
    run(f"""
from sklearn.neural_network import _multilayer_perceptron as home
import fastgd.sklearn
before = [home.{name}]
fastgd.sklearn.patch()
assert home.{name} is before[0]
""")


def test_docstring_examples_run():
    # On their own: in this process the test modules are early importers.
    run("""
import doctest
from fastgd.sklearn import _patch
result = doctest.testmod(_patch)
assert result.attempted > 8 and not result.failed, result
""")
