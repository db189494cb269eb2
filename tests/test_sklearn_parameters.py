"""When parameters are validated, and how their mistakes are named: as scikit-learn does."""

from numbers import Real

import numpy as np
import pytest
from sklearn.utils._param_validation import Interval

import fastgd
from sklearn_cases import ORIGINAL, OURS, attempt, make_data
from sklearn_features import HAS_SAMPLE_WEIGHT

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def subclass(original):
    """Return a class with a parameter of its own."""

    class Own(original):
        # As scikit-learn's classes have it, without an annotation
        _parameter_constraints = {  # noqa: RUF012
            **original._parameter_constraints,
            "gamma": [Interval(Real, 0, None, closed="left")],
        }

        def __init__(self, gamma=1.0, max_iter=200, random_state=None):
            super().__init__(max_iter=max_iter, random_state=random_state)
            self.gamma = gamma

    return Own


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_parameters_of_a_subclass_are_validated_each_time(kind):
    X, y = make_data("multiclass")
    errors = []
    for classes in (ORIGINAL, OURS):
        own = subclass(classes[kind])
        assert list(own().get_params()) == ["gamma", "max_iter", "random_state"]
        assert attempt(own(gamma=1.0, max_iter=2).fit, X, y)[0] is None
        errors.append(attempt(own(gamma=-1.0, max_iter=2).fit, X, y)[0])
    assert errors[1] == errors[0]
    assert errors[0][1].startswith("The 'gamma' parameter of Own must be a float")


@pytest.mark.parametrize("changes", [{"tol": -1.0}, {"momentum": 7}, {"max_fun": 0}], ids=str)
def test_partial_fit_of_a_fitted_estimator_validates_nothing(changes):
    X, y = make_data("regression")
    outcomes = []
    for classes in (ORIGINAL, OURS):
        fresh = classes["regressor"](random_state=0, **changes)
        model = classes["regressor"](random_state=0).partial_fit(X, y).set_params(**changes)
        calls = fresh.partial_fit, model.partial_fit, model.fit
        outcomes.append([attempt(call, X.tolist(), y) for call in calls])
    assert outcomes[1] == outcomes[0]
    assert [error is None for error, _ in outcomes[0]] == [False, True, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": "adamw", "learning_rate": "invscaling"},
        {"solver": fastgd.SGD(0.1), "weight_decay": 0.1},
        {"solver": "sgd", "learning_rate": "adaptive", "lr_schedule": lambda step: 0.1},
        {"callbacks": [3]},
        {"callbacks": [3], "solver": "lbfgs"},
        {"callbacks": [fastgd.EarlyStopping("nothing")]},
        {"callbacks": [fastgd.EarlyStopping("nothing")], "solver": "lbfgs"},
        {"early_stopping": True, "validation_fraction": 0.999},
        {"early_stopping": True, "scoring": "nothing"},
        {"lr_schedule": fastgd.schedules.ReduceOnPlateau(0.1, monitor="val_loss")},
    ],
    ids=str,
)
def test_refused_parameters_leave_an_earlier_fit(changes):
    X, y = make_data("multiclass")
    for fitted in (False, True):
        model = OURS["classifier"](random_state=0, max_iter=3)
        before = model.fit(X, y).predict_proba(X) if fitted else None
        with pytest.raises((TypeError, ValueError)):
            model.set_params(**changes).fit(X, y)
        if fitted:
            assert model.n_iter_ == 3
            np.testing.assert_array_equal(model.predict_proba(X), before)
        else:
            assert not hasattr(model, "coefs_")


if HAS_SAMPLE_WEIGHT:

    def test_refused_weights_leave_the_number_of_outputs():
        X, y = make_data("regression")
        found = []
        for classes in (ORIGINAL, OURS):
            model = classes["regressor"](random_state=0, max_iter=3).fit(X, y)
            found.append([attempt(model.fit, X, np.c_[y, y], [1.0]), model.n_outputs_])
        assert found[1] == found[0]
        assert found[1][1] == 1

    @pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2)])
    def test_refused_weights_leave_the_classes(first, second):
        """Unlike scikit-learn, whose refused fit leaves classes that are none of the outputs'."""
        X, _ = make_data("multiclass")
        model = OURS["classifier"](random_state=0, max_iter=3)
        before = model.fit(X, np.arange(len(X)) % first).predict(X)
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(X, np.arange(len(X)) % second, [1.0])
        np.testing.assert_array_equal(model.predict(X), before)
        assert model.n_outputs_ == (1 if first == 2 else first)

    @pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2)])
    def test_classes_of_other_outputs_are_not_predicted(first, second):
        X, _ = make_data("multiclass")
        outcomes = []
        for classes in (ORIGINAL, OURS):
            model, other = (
                classes["classifier"](random_state=0, max_iter=3).fit(X, np.arange(len(X)) % n)
                for n in (first, second)
            )
            model.classes_, model._label_binarizer = other.classes_, other._label_binarizer
            outcomes.append(attempt(model.predict, X))
        assert outcomes[1] == outcomes[0]
        assert outcomes[1][0] is not None


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_constructors_name_mistakes_as_the_originals_do(kind):
    for args, kwargs in (
        ((), {"foo": 1}),
        (("squared_error", (3,), "relu", "adam"), {}),
        (((3,),), {"hidden_layer_sizes": (4,), "loss": "squared_error", "foo": 3}),
        ((), {"foo": 1, "dropout": 0.5}),
    ):
        shared = {name: value for name, value in kwargs.items() if name != "dropout"}
        wanted, _ = attempt(ORIGINAL[kind], *args, **shared)
        assert wanted is not None
        assert attempt(OURS[kind], *args, **kwargs)[0] == wanted
    assert OURS[kind].__init__.__qualname__ == f"{OURS[kind].__name__}.__init__"


def test_solver_that_is_no_solver():
    X, y = make_data("multiclass")
    for classes in (ORIGINAL, OURS):
        model = classes["classifier"]().partial_fit(X, y, classes=[-3, 2, 5, 11])
        model.set_params(solver="foo")
        with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
            _ = model.partial_fit
    model = OURS["regressor"]().partial_fit(X, y).set_params(solver="foo")
    with pytest.raises(ValueError, match=r"solver must be one of lbfgs, sgd, .* got 'foo'"):
        model.partial_fit(X, y)


@pytest.mark.parametrize(("sizes", "at"), [((2**62,), 0), ((2, 2**31, 2**31), 2), ((4, 2**62), 1)])
def test_layers_too_large_are_refused_before_weights_are_drawn(sizes, at, monkeypatch):
    model = OURS["regressor"](hidden_layer_sizes=sizes)
    monkeypatch.setattr(type(model), "_initialize", None)
    X, y = make_data("regressor")
    with pytest.raises(ValueError, match=rf"layers\[{at}\] would have .* more than an array can"):
        model.fit(X, y)
