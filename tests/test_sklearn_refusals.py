"""Calls that are refused before they train leave an estimator as it was; one trains at a time."""

import copy
import pickle
import threading

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

import fastgd
from fastgd.sklearn import _lbfgs, _live, _settings
from sklearn_cases import OURS, is_unchanged, make_data, state

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SETTINGS = {"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (5,)}


def refused(model, changes, call, kind, message):
    """Make a call with changed parameters, which changes nothing; put the parameters back."""
    parameters = {name: getattr(model, name) for name in changes}
    model.set_params(**changes)
    before = state(model)
    with pytest.raises(kind, match=message):
        call(model)
    assert is_unchanged(model, before)
    model.set_params(**parameters)


def assert_same(model, calm):
    for left, right in zip(model.coefs_, calm.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)
    assert model.loss_curve_ == calm.loss_curve_
    assert model.t_ == calm.t_


def hook(name, does):
    return [type("Hook", (fastgd.Callback,), {name: lambda self, *args: does(self.network)})()]


def fail(*args):
    raise RuntimeError("enough")


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_refused_calls_leave_all_attributes_and_the_optimizer(kind, warm_start, tmp_path):
    """What was trained goes on as if nothing had been asked."""
    X, y = make_data("multiclass" if kind == "classifier" else "regression")

    def fit(model):
        model.fit(X, y)

    calls = [
        (ValueError, "inconsistent|features", {}, lambda model: model.fit(X[:, :1], y[:1])),
        (ValueError, "features", {}, lambda model: model.fit(X, y, X_val=X[:, :1], y_val=y)),
        (ValueError, "contains NaN", {}, lambda model: model.fit(np.full_like(X, np.nan), y)),
        (ValueError, "'no'", {"early_stopping": True, "scoring": "no"}, fit),
        (ValueError, "early_st", {"early_stopping": True}, lambda model: model.partial_fit(X, y)),
        (ValueError, "range", {"dtype": "float32"}, lambda model: model.partial_fit(X * 1e39, y)),
        (RuntimeError, "enough", {"lr_schedule": fail}, fit),
    ]
    for solver in ("adam", "lbfgs"):
        for callbacks, error, message in (
            ([fastgd.EarlyStopping("no")], ValueError, "monitors 'no'"),
            ([fastgd.CSVLog(tmp_path / "none" / "log")], OSError, "none"),
            (hook("on_fit_begin", fail), RuntimeError, "enough"),
        ):
            calls.append((error, message, {"callbacks": callbacks, "solver": solver}, fit))
    settings = {**SETTINGS, "warm_start": warm_start}
    model, calm = (OURS[kind](**settings).fit(X, y).partial_fit(X, y) for _ in range(2))
    for error, message, changes, call in calls:
        refused(model, changes, call, error, message)
    for each in (model, calm):
        each.partial_fit(X, y).partial_fit(X, y)
    assert_same(model, calm)


def test_refused_first_calls_leave_nothing():
    X, y = make_data("multiclass")
    for message, call in (
        ("inconsistent", lambda model: model.fit(X, y[:1])),
        ("inconsistent", lambda model: model.partial_fit(X, y[:1], classes=np.unique(y))),
        ("classes not in|not in `classes`", lambda m: m.partial_fit(X, y, classes=[-3, 2])),
    ):
        refused(OURS["classifier"](), {}, call, ValueError, message)


def test_stochastic_solvers_that_cannot_go_on_from_lbfgs_leave_its_fit():
    X, y = make_data("regression")
    model = OURS["regressor"](**SETTINGS, solver="lbfgs", warm_start=True).fit(X, y)
    for call in (lambda model: model.fit(X, y), lambda model: model.partial_fit(X, y)):
        refused(model, {"solver": "adam"}, call, AttributeError, "loss_curve_")
    model.fit(X, y)


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
def test_what_has_begun_is_not_undone(as_given):
    X, y = make_data("multiclass")
    X = as_given(X)
    for solver in ("adam", "lbfgs"):
        model = OURS["classifier"](**SETTINGS, solver=solver).fit(X, y)
        before = model.coefs_[0]
        model.set_params(callbacks=hook("on_epoch_end", fail))
        with pytest.raises(RuntimeError, match="enough"):
            model.fit(X, y)
        assert model.coefs_[0] is not before


def test_ctrl_c_while_losses_and_penalties_are_set(monkeypatch):
    X, y = make_data("multiclass")

    def interrupt(*args):
        raise KeyboardInterrupt

    model, calm = (OURS["classifier"](**SETTINGS, warm_start=True).fit(X, y) for _ in range(2))
    with monkeypatch.context() as patch:
        prepare = _live._prepare
        patch.setattr(_live, "_prepare", lambda *args: interrupt(prepare(*args)))
        refused(model, {"alpha": 100.0}, lambda m: m.partial_fit(X, y), KeyboardInterrupt, None)
    for each in (model, calm):
        each.partial_fit(X, y)
    assert_same(model, calm)
    with monkeypatch.context() as patch:
        patch.setattr(_lbfgs, "_keep_layout", interrupt)
        model.set_params(solver="lbfgs")
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
        model.set_params(solver="adam")
    for each in (model, calm):
        each.partial_fit(X, y)
    assert_same(model, calm)


# One at a time.


def test_a_second_call_is_refused_while_the_first_prepares():
    """Putting back what the second has changed would undo the first."""
    X, y = make_data("multiclass")
    classes = np.unique(y)
    seen = []

    class Twice(OURS["classifier"]):
        def _validate_input(self, *args, **kwargs):
            if threading.current_thread() is threading.main_thread():
                second = threading.Thread(target=self.again)
                second.start()
                second.join()
            return super()._validate_input(*args, **kwargs)

        def again(self):
            for call in (self.fit, self.partial_fit):
                try:
                    call(X, np.full_like(y, 7))
                except RuntimeError as error:
                    seen.append(str(error))

    model = Twice(**SETTINGS).partial_fit(X, y, classes=classes)
    calm = OURS["classifier"](**SETTINGS).partial_fit(X, y, classes=classes)
    assert len(seen) == 2
    assert all("being fitted" in message for message in seen)
    assert_same(model, calm)


def test_a_plain_step_is_refused_while_another_call_prepares(monkeypatch):
    X, y = make_data("multiclass", n=60)
    model = OURS["classifier"](**SETTINGS)
    for _ in range(3):
        model.partial_fit(X, y, classes=np.unique(y))
    messages = []

    def step():
        try:
            model.partial_fit(X, y)
        except RuntimeError as error:
            messages.append(str(error))

    def wait(*args):
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        raise ValueError("wrong")

    with monkeypatch.context() as patch:
        patch.setattr(_settings, "check", wait)
        refused(model, {}, lambda model: model.fit(X, y), ValueError, "wrong")
    assert len(messages) == 1
    assert "being fitted" in messages[0]


def test_threads_of_good_and_refused_calls_leave_all_good_ones():
    X, y = make_data("multiclass", n=60)
    model = pickle.loads(pickle.dumps(OURS["classifier"](**SETTINGS).fit(X, y)))
    done = 0

    def wrong():
        for _ in range(300):
            try:
                model.partial_fit(np.full_like(X, np.nan), y)
            except (ValueError, RuntimeError):
                continue

    model.t_, model.loss_curve_ = 0, []
    thread = threading.Thread(target=wrong)
    thread.start()
    for _ in range(300):
        try:
            model.partial_fit(X, y)
        except RuntimeError:
            continue
        done += 1
    thread.join()
    assert model.t_ == done * len(X)
    assert len(model.loss_curve_) == done


def test_copies_and_pickles_are_other_estimators():
    """Also those of the attributes alone, which subclasses may make."""
    X, y = make_data("multiclass")
    model = OURS["classifier"](**SETTINGS).fit(X, y)
    assert b"_attempts" not in pickle.dumps(model)
    plain = OURS["classifier"]()
    vars(plain).update(vars(model))
    unpickled, copied = OURS["classifier"](), OURS["classifier"]()
    vars(unpickled).update(pickle.loads(pickle.dumps(vars(model))))
    vars(copied).update(copy.deepcopy(vars(model)))
    others = [copy.copy(model), copy.deepcopy(model), clone(model), plain, unpickled, copied]
    done = []

    def fit_others(network):
        if not done:
            done.append(True)
            for each in others:
                changes = {"callbacks": [fastgd.EarlyStopping("no")]}
                refused(each, changes, lambda m: m.fit(X, y), ValueError, "monitors 'no'")
                each.fit(X, y)

    model.set_params(callbacks=hook("on_epoch_end", fit_others)).fit(X, y)
    assert done


def test_a_subclass_may_train_before_it_trains():
    X, y = make_data("multiclass")
    classes = np.unique(y)

    class First(OURS["classifier"]):
        def _fit(self, X, y, sample_weight=None, incremental=False, **settings):
            if not incremental:
                for _ in range(3):
                    self.partial_fit(X, y, classes=classes)
            return super()._fit(X, y, sample_weight, incremental, **settings)

    model = First(**SETTINGS, warm_start=True).fit(X, y)
    calm = OURS["classifier"](**SETTINGS, warm_start=True)
    for _ in range(3):
        calm.partial_fit(X, y, classes=classes)
    assert_same(model, calm.fit(X, y))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("at", ["on_fit_begin", "on_epoch_end"])
def test_a_callback_trains_no_other_network_of_the_same_estimator(at, solver):
    """Such as one that predictions have made since, as the weights had been replaced."""
    X, y = make_data("multiclass")

    def train(network):
        model.coefs_ = [W.copy() for W in model.coefs_]
        model.predict(X)
        assert model._live.network is not network
        for call in (model.fit, model.partial_fit) if solver == "adam" else (model.fit,):
            with pytest.raises(RuntimeError, match="being fitted"):
                call(X, y)
        done.append(at)

    done = []
    model = OURS["classifier"](**SETTINGS, solver=solver, warm_start=True).fit(X, y)
    model.set_params(callbacks=hook(at, train)).fit(X, y)
    assert done


def test_parameters_that_are_set_within_a_refused_call_stay():
    X, y = make_data("multiclass")

    def change(network):
        model.set_params(alpha=7.0)
        raise RuntimeError("enough")

    model = OURS["classifier"](**SETTINGS).fit(X, y)
    before = state(model)
    model.set_params(callbacks=hook("on_fit_begin", change))
    with pytest.raises(RuntimeError, match="enough"):
        model.fit(X, y)
    assert is_unchanged(model, before)
    assert model.alpha == 7.0


def test_weights_with_which_there_is_no_step_leave_an_earlier_fit():
    X, y = make_data("multiclass")
    for solver in ("adam", "lbfgs"):
        for given in (X, sparse.csr_matrix(X)):
            model = OURS["classifier"](**SETTINGS, solver=solver, batch_size=5).fit(given, y)
            changes = {"class_weight": dict.fromkeys(np.unique(y).tolist(), 0)}
            refused(model, changes, lambda m, X=given: m.fit(X, y), ZeroDivisionError, "to zero")
