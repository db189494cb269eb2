"""The rest of scikit-learn around the estimators: the same results as around the originals.

Each function of CASES takes a namespace of MLPClassifier and MLPRegressor and returns what is to be
the same with both packages.
"""

import copy
import pickle
import re
import subprocess
import sys
from inspect import Parameter, signature

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import (
    calibration,
    compose,
    ensemble,
    inspection,
    model_selection,
    multiclass,
    multioutput,
    pipeline,
    preprocessing,
)
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.validation import has_fit_parameter

from sklearn_features import HAS_SAMPLE_WEIGHT
from sklearn_pairs import (
    FITTED,
    ORIGINAL,
    OURS,
    assert_same,
    assert_same_outcome,
    fitted,
)

CASES = []

ORDER = np.random.RandomState(0).permutation(150)
IRIS_X, IRIS_Y = (values[ORDER] for values in load_iris(return_X_y=True))
IRIS_NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS_Y]
IRIS_LABELS = np.column_stack([IRIS_Y == 1, IRIS_X[:, 0] > 6, IRIS_X[:, 1] > 3]).astype(int)
DIABETES_X, DIABETES_Y = (values[:150] for values in load_diabetes(return_X_y=True))
DIABETES_Y = (DIABETES_Y - DIABETES_Y.mean()) / DIABETES_Y.std()
TARGETS = np.column_stack([DIABETES_Y, DIABETES_Y[::-1]])
WEIGHT = np.random.RandomState(1).uniform(0.5, 2, 150)
FRAME = pd.DataFrame(IRIS_X, columns=["sepal length", "sepal width", "petal length", "petal width"])

# Stops by itself after 5 to 60 epochs: threads and processes must not warn, where nobody listens.
SMALL = {
    "hidden_layer_sizes": (8,),
    "batch_size": 30,
    "learning_rate_init": 0.01,
    "tol": 0.02,
    "n_iter_no_change": 2,
    "random_state": 0,
}


def case(function):
    """Register a piece of code that does the same with both packages."""
    CASES.append(function)
    return function


def case_with_sample_weight(function):
    """Register a piece of code that passes sample_weight to fit, if the installed version does."""
    return case(function) if HAS_SAMPLE_WEIGHT else function


def classifier(mlp, **changes):
    return mlp.MLPClassifier(**{**SMALL, **changes})


def regressor(mlp, **changes):
    return mlp.MLPRegressor(**{**SMALL, **changes})


def scaled(estimator):
    return pipeline.make_pipeline(preprocessing.StandardScaler(), estimator)


def without_times(results):
    return {key: value for key, value in results.items() if not key.endswith("_time")}


@case
def pipeline_predicts(mlp):
    model = scaled(classifier(mlp)).fit(IRIS_X, IRIS_NAMES)
    answers = [model.predict(IRIS_X), model.predict_proba(IRIS_X), model.predict_log_proba(IRIS_X)]
    return answers, model.score(IRIS_X, IRIS_NAMES), fitted(model[-1])


@case
def pipeline_of_a_regressor_predicts(mlp):
    model = scaled(regressor(mlp)).fit(DIABETES_X, TARGETS)
    return model.predict(DIABETES_X), model.score(DIABETES_X, TARGETS), fitted(model[-1])


@case
def end_of_the_epochs_warns(mlp):
    return fitted(scaled(classifier(mlp, max_iter=3)).fit(IRIS_X, IRIS_NAMES)[-1])


@case
def column_transformer_feeds(mlp):
    columns = compose.make_column_transformer(
        (preprocessing.StandardScaler(), ["sepal length", "petal width"]),
        (preprocessing.Binarizer(threshold=3), ["petal length"]),
    )
    model = pipeline.make_pipeline(columns, classifier(mlp)).fit(FRAME, IRIS_NAMES)
    return model.predict_proba(FRAME)


@case
def target_is_transformed(mlp):
    model = compose.TransformedTargetRegressor(
        scaled(regressor(mlp)), transformer=preprocessing.StandardScaler()
    )
    return model.fit(DIABETES_X, 10 * DIABETES_Y).predict(DIABETES_X)


def grid_search(mlp, **parallel):
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__activation": ["relu", "tanh"]}
    search = model_selection.GridSearchCV(scaled(classifier(mlp)), grid, cv=3, **parallel)
    search.fit(IRIS_X, IRIS_Y)
    results = {k: v for k, v in without_times(search.cv_results_).items() if k[:6] != "param_"}
    return results, search.best_params_, search.predict_proba(IRIS_X)


@case
def grid_search_in_this_process(mlp):
    return grid_search(mlp)


@case
def grid_search_in_processes(mlp):
    with joblib.parallel_config(backend="loky"):
        return grid_search(mlp, n_jobs=2)


@case
def grid_search_in_threads(mlp):
    with joblib.parallel_config(backend="threading"):
        return grid_search(mlp, n_jobs=2)


@case
def cross_validation(mlp):
    results = model_selection.cross_validate(
        scaled(classifier(mlp)),
        IRIS_X,
        IRIS_NAMES,
        cv=3,
        scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"],
        return_train_score=True,
    )
    return without_times(results)


@case
def cross_validated_predictions(mlp):
    return model_selection.cross_val_predict(
        scaled(classifier(mlp)), IRIS_X, IRIS_NAMES, cv=3, method="predict_proba"
    )


@case
def learning_curve(mlp):
    return model_selection.learning_curve(
        scaled(regressor(mlp)), DIABETES_X, DIABETES_Y, cv=3, train_sizes=[0.5, 1.0]
    )


@case
def learning_curve_by_partial_fit(mlp):
    return model_selection.learning_curve(
        classifier(mlp),
        IRIS_X,
        IRIS_Y,
        cv=3,
        train_sizes=[0.5, 1.0],
        exploit_incremental_learning=True,
    )


@case
def validation_curve(mlp):
    return model_selection.validation_curve(
        classifier(mlp), IRIS_X, IRIS_Y, cv=3, param_name="alpha", param_range=[1e-4, 1.0]
    )


@case
def calibrated_classifier(mlp):
    model = calibration.CalibratedClassifierCV(scaled(classifier(mlp)), cv=3)
    return model.fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)


@case
def calibrated_classifier_without_ensemble(mlp):
    model = calibration.CalibratedClassifierCV(
        scaled(classifier(mlp)), cv=3, ensemble=False, method="isotonic"
    )
    return model.fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)


@case
def bagging(mlp):
    model = ensemble.BaggingClassifier(scaled(classifier(mlp)), n_estimators=3, random_state=0)
    return model.fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)


@case
def bagging_of_the_estimator_itself(mlp):
    model = ensemble.BaggingClassifier(
        classifier(mlp), n_estimators=3, max_features=0.5, random_state=0
    )
    model.fit(IRIS_X, IRIS_NAMES)
    return model.predict_proba(IRIS_X)


@case
def stacked_regressor(mlp):
    model = ensemble.StackingRegressor(
        [("mlp", scaled(regressor(mlp))), ("ridge", Ridge())], final_estimator=Ridge(), cv=3
    )
    model.fit(DIABETES_X, DIABETES_Y)
    return model.predict(DIABETES_X), model.transform(DIABETES_X)


@case
def stacked_classifier_as_a_frame(mlp):
    model = ensemble.StackingClassifier(
        [("mlp", scaled(classifier(mlp))), ("line", LogisticRegression(max_iter=500))], cv=3
    )
    return model.set_output(transform="pandas").fit_transform(FRAME, IRIS_NAMES)


@case
def voting(mlp):
    model = ensemble.VotingClassifier(
        [("mlp", classifier(mlp)), ("line", LogisticRegression(max_iter=500))], voting="soft"
    )
    return model.fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)


@case_with_sample_weight
def boosting(mlp):
    model = ensemble.AdaBoostClassifier(classifier(mlp), n_estimators=3, random_state=0)
    model.fit(IRIS_X, IRIS_NAMES)
    return model.predict_proba(IRIS_X), model.estimator_errors_


@case
def one_versus_rest(mlp):
    model = multiclass.OneVsRestClassifier(classifier(mlp))
    return model.fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)


@case
def classifier_chain(mlp):
    model = multioutput.ClassifierChain(classifier(mlp), order=[2, 0, 1])
    return model.fit(IRIS_X, IRIS_LABELS).predict_proba(IRIS_X)


@case
def one_regressor_per_target(mlp):
    return (
        multioutput.MultiOutputRegressor(regressor(mlp))
        .fit(DIABETES_X, TARGETS)
        .predict(DIABETES_X)
    )


@case
def permutation_importance(mlp):
    model = scaled(regressor(mlp)).fit(DIABETES_X, DIABETES_Y)
    return dict(
        inspection.permutation_importance(
            model, DIABETES_X, DIABETES_Y, n_repeats=2, random_state=0
        )
    )


@case
def partial_dependence(mlp):
    model = scaled(classifier(mlp)).fit(IRIS_X, IRIS_NAMES)
    return inspection.partial_dependence(model, IRIS_X, [0], kind="average")["average"]


@case
def pipeline_passes_frames_on(mlp):
    model = scaled(classifier(mlp)).set_output(transform="pandas").fit(FRAME, IRIS_NAMES)
    return model.predict_proba(FRAME), fitted(model[-1]), model[-1].feature_names_in_


@case
def frame_then_array_warns(mlp):
    model = classifier(mlp).fit(FRAME, IRIS_NAMES)
    return model.predict_proba(IRIS_X), model.score(IRIS_X, IRIS_NAMES)


@case
def array_then_frame_warns(mlp):
    model = classifier(mlp).fit(IRIS_X, IRIS_NAMES)
    return model.predict_proba(FRAME), hasattr(model, "feature_names_in_")


@case
def other_feature_names_are_refused(mlp):
    classifier(mlp).fit(FRAME, IRIS_NAMES).predict(FRAME.rename(columns={"petal width": "width"}))


@case
def other_order_of_features_is_refused(mlp):
    classifier(mlp).fit(FRAME, IRIS_NAMES).predict(FRAME.iloc[:, ::-1])


@case
def partial_fit_with_other_feature_names_is_refused(mlp):
    model = classifier(mlp).partial_fit(FRAME, IRIS_NAMES, classes=np.unique(IRIS_NAMES))
    model.partial_fit(FRAME.iloc[:, ::-1], IRIS_NAMES)


@case
def frame_with_numbers_and_names_is_refused(mlp):
    classifier(mlp).fit(FRAME.rename(columns={"petal width": 4}), IRIS_NAMES)


@case
def clone_forgets_what_was_learned(mlp):
    copied = clone(classifier(mlp, alpha=0.5).fit(IRIS_X, IRIS_NAMES))
    return repr(copied), fitted(copied), fitted(copied.fit(IRIS_X, IRIS_NAMES))


@case
def deep_copy_goes_on_alone(mlp):
    model = classifier(mlp).partial_fit(IRIS_X, IRIS_Y, classes=[0, 1, 2])
    copied = copy.deepcopy(model).partial_fit(IRIS_X, IRIS_Y)
    return fitted(copied), fitted(model), fitted(model.partial_fit(IRIS_X, IRIS_Y))


@case
def pickle_goes_on_with_partial_fit(mlp):
    model = classifier(mlp).partial_fit(IRIS_X, IRIS_Y, classes=[0, 1, 2])
    model = pickle.loads(pickle.dumps(model)).partial_fit(IRIS_X, IRIS_Y)
    return fitted(model), model.predict_proba(IRIS_X)


@case
def pickle_goes_on_with_a_warm_start(mlp):
    model = regressor(mlp, solver="sgd", warm_start=True, learning_rate="adaptive")
    model = pickle.loads(pickle.dumps(model.fit(DIABETES_X, DIABETES_Y)))
    return fitted(model), fitted(model.fit(DIABETES_X, DIABETES_Y))


@case
def text_shows_changed_parameters(mlp):
    models = [mlp.MLPClassifier(), classifier(mlp), regressor(mlp), scaled(classifier(mlp))]
    return [repr(model) for model in models]


@case
def tags(mlp):
    return [mlp.MLPClassifier().__sklearn_tags__(), mlp.MLPRegressor().__sklearn_tags__()]


@case
def parameters_are_set(mlp):
    model = scaled(classifier(mlp)).set_params(mlpclassifier__alpha=0.25)
    return (
        model[-1].alpha,
        model.get_params()["mlpclassifier__alpha"],
        model[-1].get_params()["tol"],
    )


@case
def unknown_parameter_is_named(mlp):
    try:
        mlp.MLPClassifier().set_params(alfa=1)
    except ValueError as error:
        return str(error).partition(" Valid parameters are")[0]


@case_with_sample_weight
def pipeline_takes_weights_by_name(mlp):
    model = scaled(classifier(mlp)).fit(IRIS_X, IRIS_NAMES, mlpclassifier__sample_weight=WEIGHT)
    return model.predict_proba(IRIS_X), model.score(IRIS_X, IRIS_NAMES, sample_weight=WEIGHT)


@case_with_sample_weight
def weights_are_routed(mlp):
    with sklearn.config_context(enable_metadata_routing=True):
        last = classifier(mlp).set_fit_request(sample_weight=True)
        scaler = preprocessing.StandardScaler().set_fit_request(sample_weight=False)
        model = pipeline.make_pipeline(scaler, last).fit(IRIS_X, IRIS_Y, sample_weight=WEIGHT)
        return model.predict_proba(IRIS_X), fitted(model[-1])


@case_with_sample_weight
def weights_are_routed_through_cross_validation(mlp):
    with sklearn.config_context(enable_metadata_routing=True):
        model = (
            regressor(mlp).set_fit_request(sample_weight="w").set_score_request(sample_weight="w")
        )
        results = model_selection.cross_validate(
            model, DIABETES_X, DIABETES_Y, params={"w": WEIGHT}, cv=3
        )
        return without_times(results)


@case_with_sample_weight
def weights_that_nobody_requested_are_refused(mlp):
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline.make_pipeline(classifier(mlp)).fit(IRIS_X, IRIS_Y, sample_weight=WEIGHT)


@case_with_sample_weight
def weights_for_partial_fit_are_routed(mlp):
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier(mlp).set_partial_fit_request(sample_weight=True, classes=True)
        model = multioutput.MultiOutputClassifier(model)
        model.partial_fit(IRIS_X, IRIS_LABELS, classes=[[0, 1]] * 3, sample_weight=WEIGHT)
        return model.predict_proba(IRIS_X)


@case_with_sample_weight
def requests_are_set_and_read(mlp):
    with sklearn.config_context(enable_metadata_routing=True):
        model = mlp.MLPClassifier().set_fit_request(sample_weight=True)
    requests = model.get_metadata_routing()
    return [
        requests.fit.requests["sample_weight"],
        *(getattr(requests, method).requests for method in ("partial_fit", "predict", "score")),
    ]


@pytest.mark.parametrize("code", CASES, ids=lambda code: code.__name__)
def test_same_with_both_packages(code):
    expected = assert_same_outcome(code)
    # What fails with both is the same with both, too: only what says so may fail or warn.
    assert (expected.error is not None) == code.__name__.endswith("_refused")
    assert (expected.warnings != []) == code.__name__.endswith("_warns")


LOADS = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    tasks = pickle.load(file)
answers = [getattr(model, method)(X) for model, method, X in tasks]
with open(sys.argv[1], "wb") as file:
    pickle.dump(answers, file)
"""


def test_pickle_predicts_in_another_process(tmp_path):
    path = tmp_path / "tasks.pickle"

    def tasks(mlp):
        labels = classifier(mlp).fit(IRIS_X, IRIS_LABELS)
        return [
            (classifier(mlp).fit(IRIS_X, IRIS_NAMES), "predict_proba", IRIS_X),
            (scaled(regressor(mlp)).fit(DIABETES_X, TARGETS), "predict", DIABETES_X),
            (labels, "predict", IRIS_X),
        ]

    path.write_bytes(pickle.dumps(tasks(OURS)))
    # Nothing but the pickle names fastgd there.
    subprocess.run([sys.executable, "-W", "error", "-c", LOADS, path], check=True)
    found = pickle.loads(path.read_bytes())
    assert_same(found, [getattr(model, method)(X) for model, method, X in tasks(ORIGINAL)])


def test_joblib_file_predicts_and_learns_on_from_memory_maps(tmp_path):
    def answers(mlp):
        path = tmp_path / f"{mlp.MLPClassifier.__module__}.joblib"
        model = classifier(mlp, hidden_layer_sizes=(50,))
        model.partial_fit(IRIS_X, IRIS_NAMES, classes=np.unique(IRIS_NAMES))
        joblib.dump(model, path)
        model = joblib.load(path, mmap_mode="c")
        assert isinstance(model.coefs_[0], np.memmap)
        before = model.predict_proba(IRIS_X)
        return before, model.partial_fit(IRIS_X, IRIS_NAMES).predict_proba(IRIS_X)

    assert_same_outcome(answers)


def test_read_only_weights_predict(tmp_path):
    def answers(mlp):
        path = tmp_path / f"{mlp.MLPClassifier.__module__}.joblib"
        joblib.dump(classifier(mlp).fit(IRIS_X, IRIS_NAMES), path)
        return joblib.load(path, mmap_mode="r").predict_proba(IRIS_X)

    assert_same_outcome(answers)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("hidden", [(100,), (50, 20)], ids=str)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_pickle_is_not_larger_than_the_originals(method, hidden):
    def size(mlp):
        model = mlp.MLPClassifier(hidden, random_state=0)
        more = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
        return len(pickle.dumps(getattr(model, method)(IRIS_X, IRIS_Y, **more)))

    assert size(OURS) <= size(ORIGINAL)


def texts(html):
    """Return what a reader sees in HTML, as a set: the pieces of text between tags."""
    visible = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.DOTALL)
    return {piece.strip() for piece in re.split(r"<[^>]*>", visible)}


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("learned", [False, True])
def test_html_shows_what_that_of_the_original_shows(name, learned):
    ours, original = getattr(OURS, name)(**SMALL), getattr(ORIGINAL, name)(**SMALL)
    if learned:
        ours.fit(IRIS_X, IRIS_Y)
        original.fit(IRIS_X, IRIS_Y)
    wanted = {name, "Fitted", "Not fitted", *original.get_params(), *FITTED}
    shown = texts(original._repr_html_()) & wanted
    assert len(shown) > 1
    assert texts(ours._repr_html_()) & wanted == shown
    assert texts(ours._repr_mimebundle_()["text/html"]) & wanted == shown
    assert name in texts(scaled(ours)._repr_html_())


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_instance_of_the_original(name):
    assert issubclass(getattr(OURS, name), getattr(ORIGINAL, name))
    assert getattr(OURS, name).__name__ == name
    assert is_classifier(getattr(OURS, name)()) == (name == "MLPClassifier")


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_of_the_original_come_first_with_their_defaults(name):
    original, ours = (signature(getattr(mlp, name)).parameters for mlp in (ORIGINAL, OURS))
    assert list(ours.values())[: len(original)] == list(original.values())
    assert {p.kind for p in list(ours.values())[len(original) :]} <= {Parameter.KEYWORD_ONLY}
    shared = {key: getattr(OURS, name)().get_params()[key] for key in original}
    assert shared == getattr(ORIGINAL, name)().get_params()


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_weights_are_taken_where_the_original_takes_them(name):
    """Meta-estimators decide by it what they do, with or without metadata routing."""
    ours, original = getattr(OURS, name), getattr(ORIGINAL, name)
    for method in ("fit", "partial_fit", "score"):
        taken = "sample_weight" in signature(getattr(original, method)).parameters
        assert ("sample_weight" in signature(getattr(ours, method)).parameters) == taken
        setter = f"set_{method}_request"
        assert hasattr(ours, setter) >= hasattr(original, setter)
        requests = getattr(ours().get_metadata_routing(), method).requests
        assert ("sample_weight" in requests) == taken
    assert has_fit_parameter(ours(), "sample_weight") == HAS_SAMPLE_WEIGHT


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_methods_take_what_those_of_the_original_take(name):
    def forms(parameters):
        return [parameter.replace(annotation=Parameter.empty) for parameter in parameters]

    ours, original = getattr(OURS, name), getattr(ORIGINAL, name)
    public = [n for n in dir(original) if not n.startswith("_") and callable(getattr(original, n))]
    for method in public:
        expected = signature(getattr(original, method)).parameters
        found = signature(getattr(ours, method)).parameters
        shared = [found[key] for key in expected]
        assert forms(shared) == forms(expected.values()), method
        added = [parameter for key, parameter in found.items() if key not in expected]
        assert {parameter.kind for parameter in added} <= {Parameter.KEYWORD_ONLY}, method
