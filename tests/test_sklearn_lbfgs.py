"""fastgd.sklearn's lbfgs beside scikit-learn's: the same path at first, an end that is as good."""

import os
import re
import signal
import threading
import warnings

import numpy as np
import pytest
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance

from fastgd.callbacks import EarlyStopping
from sklearn_cases import (
    ACTIVATIONS,
    KINDS,
    ORIGINAL,
    OURS,
    error,
    estimator_type,
    make_data,
    make_weights,
    sparsify,
)
from sklearn_features import HAS_SAMPLE_WEIGHT, messages

# with so much of a penalty that 200 iterations come near an optimum
SETTINGS = {"solver": "lbfgs", "hidden_layer_sizes": (7,), "alpha": 1.0, "random_state": 2}


class Recorded:
    """Stand-in for scipy.optimize.minimize that keeps the losses it is told."""

    def __init__(self, minimize):
        self.minimize = minimize
        self.losses = []

    def __call__(self, fun, x0, *args, **kwargs):
        def recorded(x, *rest):
            loss, gradient = fun(x, *rest)
            self.losses.append(float(loss))
            return loss, gradient

        assert kwargs["jac"] is True
        return self.minimize(recorded, x0, *args, **kwargs)


@pytest.fixture
def train(monkeypatch):
    """Return a function that fits both: ((original, losses, warnings), (ours, ...))."""

    def fit_both(kind, X, y, sample_weight=None, **settings):
        settings = SETTINGS | settings | ({"loss": "poisson"} if kind == "poisson" else {})
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        outcomes = []
        for classes in (ORIGINAL, OURS):
            record = Recorded(scipy.optimize.minimize)
            model = classes[estimator_type(kind)](**settings)
            with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                patch.setattr(scipy.optimize, "minimize", record)
                model.fit(X, y, **weights)
            outcomes.append((model, record.losses, messages(caught)))
        return outcomes

    return fit_both


def assert_alike(outcomes):
    """Check what is asked of a network with hidden layers."""
    (original, wanted, _), (ours, given, _) = outcomes
    assert error(wanted[:10], given[:10]) <= 1e-6
    assert ours.loss_ <= 1.01 * original.loss_
    for wanted, given in zip(
        original.coefs_ + original.intercepts_, ours.coefs_ + ours.intercepts_, strict=True
    ):
        assert (given.shape, given.dtype) == (wanted.shape, wanted.dtype)
    assert not hasattr(ours, "loss_curve_")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_losses_and_the_end(kind, activation, train):
    X, y = make_data(kind)
    for hidden in ((7,), (6, 5)):
        assert_alike(train(kind, X, y, hidden_layer_sizes=hidden, activation=activation))


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse(kind, layout, train):
    X, y = make_data(kind)
    assert_alike(train(kind, sparsify(X, layout), y))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_gives_float64_weights(kind, train):
    """scikit-learn rounds weights and gradients to float32 on the way there, fastgd does not.

    How far that takes it, after a few steps, depends on the processor's BLAS: the same numbers in
    float64 show where it would go without.
    """
    X, y = make_data(kind, "float32")
    (original, rounded, _), (ours, given, _) = train(kind, X, y)
    wanted = train(kind, X.astype(np.float64), y)[0][1]
    assert error(wanted[:10], given[:10]) <= 1e-6
    assert error(rounded[:3], given[:3]) <= 1e-6
    assert ours.loss_ <= 1.01 * original.loss_
    assert {w.dtype for w in ours.coefs_ + ours.intercepts_} == {np.dtype("float64")}
    assert ours.predict(X).dtype == original.predict(X).dtype
    if hasattr(ours, "predict_proba"):
        assert ours.predict_proba(X).dtype == original.predict_proba(X).dtype


if HAS_SAMPLE_WEIGHT:

    @pytest.mark.parametrize("kind", KINDS)
    def test_sample_weight(kind, train):
        X, y = make_data(kind)
        weights = make_weights(len(X))
        weighted = train(kind, X, y, sample_weight=weights)
        assert_alike(weighted)
        assert abs(weighted[1][0].loss_ / train(kind, X, y)[1][0].loss_ - 1) > 1e-3


@pytest.mark.parametrize("weighted", [False, True] if HAS_SAMPLE_WEIGHT else [False])
@pytest.mark.parametrize("kind", KINDS)
def test_linear_models_reach_the_same_optimum(kind, weighted, train):
    X, y = make_data(kind)
    weights = make_weights(len(X)) if weighted else None
    settings = {"hidden_layer_sizes": (), "tol": 1e-9, "max_iter": 2000, "alpha": 0.1}
    (original, _, _), (ours, _, _) = train(kind, X, y, sample_weight=weights, **settings)
    assert abs(ours.loss_ / original.loss_ - 1) <= 1e-6
    assert error(original.coefs_[0], ours.coefs_[0]) <= 1e-6
    assert error(original.intercepts_[0], ours.intercepts_[0]) <= 1e-6


def test_linear_poisson_model_is_that_of_the_poisson_regressor():
    """Also beside versions of scikit-learn whose MLPRegressor has no such loss."""
    X, y = make_data("poisson")
    alpha = 0.1
    ours = OURS["regressor"](
        loss="poisson",
        hidden_layer_sizes=(),
        solver="lbfgs",
        alpha=alpha,
        tol=1e-9,
        max_iter=2000,
        random_state=2,
        warm_start=True,
    ).fit(X, y)
    # Its penalty is not divided by the samples, and Newton's steps end at the optimum.
    other = PoissonRegressor(alpha=alpha / len(X), solver="newton-cholesky", tol=1e-9).fit(X, y)

    def objective(coef, prediction):
        penalty = 0.5 * alpha * float(np.square(coef).sum()) / len(X)
        return mean_poisson_deviance(y, prediction) / 2 + penalty

    assert ours.loss_ == pytest.approx(objective(ours.coefs_[0], ours.predict(X)), rel=1e-9)
    # scipy ends L-BFGS-B where a step changes the loss by less than 2.2e-9 of it. It is flat there:
    # how far the weights are off depends on the start and on each rounding.
    optimum = objective(other.coef_, other.predict(X))
    assert optimum <= ours.loss_ * (1 + 1e-12)
    assert ours.loss_ <= optimum * (1 + 1e-6)
    # From the other's optimum there is nowhere to go.
    ours.coefs_ = [other.coef_[:, np.newaxis]]
    ours.intercepts_ = [np.array([other.intercept_])]
    ours.fit(X, y)
    assert ours.loss_ == pytest.approx(optimum, rel=1e-12)
    assert error(other.coef_, ours.coefs_[0].ravel()) <= 1e-8
    assert error(other.intercept_, ours.intercepts_[0].item()) <= 1e-8
    assert error(other.predict(X), ours.predict(X)) <= 1e-8


def test_scipy_gets_no_option_that_it_ignores():
    X, y = make_data("regression")
    with warnings.catch_warnings(action="error"):
        model = OURS["regressor"](**SETTINGS | {"tol": 0.01}).fit(X, y)
    assert model.n_iter_ > 0


@pytest.mark.parametrize("limit", [{"max_iter": 5}, {"max_fun": 8}, {"max_iter": 1}])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_limits_and_their_warnings(kind, limit, train):
    X, y = make_data(kind)
    (original, wanted, wanted_warnings), (ours, given, given_warnings) = train(kind, X, y, **limit)
    assert given_warnings == wanted_warnings
    assert [category for category, *_ in given_warnings] == [ConvergenceWarning]
    assert ours.n_iter_ == original.n_iter_
    assert len(given) == len(wanted)
    for wanted, given in zip(
        original.coefs_ + original.intercepts_, ours.coefs_ + ours.intercepts_, strict=True
    ):
        assert error(wanted, given) <= 1e-9


# Of several outputs scikit-learn's squared error has another gradient than its loss, which scipy
# may or may not notice before the end.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "multi-output"])
def test_no_warning_where_it_converges(kind, train):
    X, y = make_data(kind)
    outcomes = train(kind, X, y, alpha=1.0, hidden_layer_sizes=(), tol=1e-3)
    assert [warned for _, _, warned in outcomes] == [[], []]
    (original, _, _), (ours, _, _) = outcomes
    assert ours.n_iter_ == original.n_iter_ < 200
    assert type(ours.n_iter_) is type(original.n_iter_)


def test_warm_start_goes_on(train):
    X, y = make_data("multiclass")
    ends = []
    for classes in (ORIGINAL, OURS):
        model = classes["classifier"](**SETTINGS | {"warm_start": True, "max_iter": 5})
        losses = []
        for _ in range(3):
            with pytest.warns(ConvergenceWarning):
                losses.append(model.fit(X, y).loss_)
        assert losses[2] < losses[1] < losses[0]
        ends.append(losses)
    assert error(*ends) <= 1e-6


@pytest.mark.parametrize("verbose", [True, 1, 5])
def test_verbose_prints_as_scipy_does(verbose, capfd):
    """What scipy prints, with numbers that may end in other digits."""
    X, y = make_data("regression")
    printed = []
    for classes in (ORIGINAL, OURS):
        model = classes["regressor"](**SETTINGS | {"verbose": verbose, "max_iter": 5})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        printed.append((capfd.readouterr().out, messages(caught)))
    (wanted, wanted_warnings), (given, given_warnings) = printed
    number = re.compile(r"[-+]?\d[\d.]*(?:[eEdD][-+]?\d+)?")
    assert number.sub("#", given) == number.sub("#", wanted)
    assert given_warnings == wanted_warnings


def test_interrupt_is_passed_on():
    """scikit-learn keeps the weights at Ctrl-C in its own epochs, not in scipy's iterations."""
    X, y = make_data("regression", n=20_000, n_features=30)
    model = OURS["regressor"](solver="lbfgs", hidden_layer_sizes=(200, 200), max_iter=10_000)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    timer.join()


def test_partial_fit_is_refused():
    X, y = make_data("binary")
    raised = []
    for classes in (ORIGINAL, OURS):
        model = classes["classifier"](solver="lbfgs")
        with pytest.raises(AttributeError) as error_info:
            model.partial_fit(X, y, classes=["no", "yes"])
        raised.append((str(error_info.value), str(error_info.value.__cause__)))
        assert not hasattr(model, "partial_fit")
    assert raised[1] == raised[0]


def test_refused_callbacks_leave_the_losses_of_minibatches():
    """A fit that is refused before its first step changes nothing for the solvers that follow."""
    X, y = make_data("regression")
    curves = []
    for callbacks in (None, [EarlyStopping("nothing")]):
        model = OURS["regressor"](**SETTINGS | {"solver": "adam"}, warm_start=True, max_iter=2)
        with pytest.warns(ConvergenceWarning):
            model.fit(X, y)
        if callbacks is not None:
            model.set_params(solver="lbfgs", callbacks=callbacks)
            with pytest.raises(ValueError, match="monitors 'nothing'"):
                model.fit(X, y)
            model.set_params(solver="adam", callbacks=None)
        with pytest.warns(ConvergenceWarning):
            curves.append(model.fit(X, y).loss_curve_)
    assert curves[1] == curves[0]
