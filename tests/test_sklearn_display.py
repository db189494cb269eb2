"""LossCurveDisplay: what is drawn, of whose estimators, and what is said when there is nothing."""

import sys
import warnings

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

from block_extras import needs_extra
from fastgd.sklearn import LossCurveDisplay, MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
with_plots = needs_extra("matplotlib", "plot")


def fitted(kind=MLPClassifier, **settings):
    settings = {"hidden_layer_sizes": (4,), "max_iter": 6, "random_state": 0} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(**settings).fit(X, Y)


@pytest.fixture(autouse=True)
def no_figures_are_left():
    yield
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        pyplot.close("all")


@pytest.mark.parametrize(
    "kind",
    [MLPClassifier, MLPRegressor, neural_network.MLPClassifier, neural_network.MLPRegressor],
)
@with_plots
def test_loss_is_drawn_by_epoch(kind):
    model = fitted(kind)
    display = LossCurveDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
    assert display.line_.get_label() == f"{kind.__name__}: loss"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")
    assert display.figure_ is display.ax_.figure
    assert display.validation_line_ is display.validation_ax_ is None


@pytest.mark.parametrize("kind", [MLPClassifier, neural_network.MLPClassifier])
@with_plots
def test_validation_scores_have_an_axis_of_their_own(kind):
    model = fitted(kind, early_stopping=True)
    display = LossCurveDisplay.from_estimator(model, validation="score")
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), model.validation_scores_)
    assert display.validation_ax_ is not display.ax_
    assert display.validation_ax_.get_ylabel() == "validation score"
    assert display.validation_ax_.yaxis.get_label_position() == "right"
    texts = [text.get_text() for text in display.validation_ax_.get_legend().get_texts()]
    assert texts == ["MLPClassifier: loss", "MLPClassifier: validation score"]


@with_plots
def test_validation_losses_share_the_axis():
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=4, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, Y, X_val=X[:30], y_val=Y[:30])
    for validation in ("auto", "loss"):
        display = LossCurveDisplay.from_estimator(model, validation=validation)
        values = display.validation_line_.get_ydata()
        np.testing.assert_array_equal(values, model.validation_loss_curve_)
        assert display.validation_ax_ is display.ax_
    assert LossCurveDisplay.from_estimator(model, validation=None).validation_line_ is None


@with_plots
def test_several_estimators_share_axes():
    first = LossCurveDisplay.from_estimator(
        fitted(early_stopping=True), name="a", validation="score"
    )
    second = LossCurveDisplay.from_estimator(
        fitted(early_stopping=True, alpha=1.0), name="b", ax=first.ax_, validation="score"
    )
    assert second.ax_ is first.ax_
    assert second.validation_ax_ is first.validation_ax_
    assert len(first.figure_.axes) == 2
    colors = [display.line_.get_color() for display in (first, second)]
    assert colors[0] != colors[1]
    assert [display.validation_line_.get_color() for display in (first, second)] == colors
    texts = [text.get_text() for text in first.validation_ax_.get_legend().get_texts()]
    assert texts == ["a: loss", "b: loss", "a: validation score", "b: validation score"]


@with_plots
def test_one_legend_names_all_lines():
    first = LossCurveDisplay.from_estimator(fitted(), name="a")
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["a: loss"]
    model = fitted(neural_network.MLPClassifier, early_stopping=True)
    second = LossCurveDisplay.from_estimator(model, name="b", ax=first.ax_)
    LossCurveDisplay.from_estimator(fitted(), name="c", ax=first.ax_)
    texts = [text.get_text() for text in second.validation_ax_.get_legend().get_texts()]
    assert texts == ["a: loss", "b: loss", "c: loss", "b: validation score"]
    assert second.validation_line_.get_color() == second.line_.get_color()
    assert first.ax_.get_legend() is None


@with_plots
def test_twins_of_other_axes_are_not_taken():
    figure = LossCurveDisplay([1.0]).plot().figure_
    figure.clear()
    left, right = figure.subplots(1, 2, sharex=True)
    model = fitted(neural_network.MLPClassifier, early_stopping=True)
    displays = [LossCurveDisplay.from_estimator(model, ax=ax) for ax in (left, right)]
    assert displays[0].validation_ax_ is not displays[1].validation_ax_


@with_plots
def test_line_settings_reach_both_lines():
    display = LossCurveDisplay.from_estimator(
        fitted(early_stopping=True), color="black", linewidth=3.0, label="mine"
    )
    for line in (display.line_, display.validation_line_):
        assert (line.get_color(), line.get_linewidth()) == ("black", 3.0)
    assert display.line_.get_label() == "mine"
    assert display.line_.get_linestyle() == "-"
    assert display.validation_line_.get_linestyle() == "--"


@with_plots
def test_plot_again_draws_elsewhere_under_another_name():
    display = LossCurveDisplay.from_estimator(fitted())
    before = display.ax_
    assert display.plot(name="again") is display
    assert display.ax_ is not before
    assert display.line_.get_label() == "again: loss"


def test_what_is_not_there_is_named():
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(MLPClassifier())
    lbfgs = MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", tol=1.0).fit(X, Y)
    with pytest.raises(ValueError, match=r"this MLPRegressor has no loss_curve_: .*sgd and adam,"):
        LossCurveDisplay.from_estimator(lbfgs)
    pipeline = make_pipeline(MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", tol=1.0))
    with pytest.raises(ValueError, match=r"this Pipeline has no loss_curve_: .*within it"):
        LossCurveDisplay.from_estimator(pipeline.fit(X, Y))
    with pytest.raises(ValueError, match=r"validation='score' needs .*validation_scores_"):
        LossCurveDisplay.from_estimator(fitted(), validation="score")
    with pytest.raises(ValueError, match=r"unknown validation 'both'; choose from auto, loss"):
        LossCurveDisplay.from_estimator(fitted(), validation="both")
    with pytest.raises(ValueError, match=r"unknown validation 'auto'; choose from loss, score"):
        LossCurveDisplay([1.0], validation="auto")


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"^LossCurveDisplay needs matplotlib: pip install 'fastgd\[plot\]'$"
    with pytest.raises(ImportError, match=message):
        LossCurveDisplay.from_estimator(fitted())
