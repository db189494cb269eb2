"""The plot of a fit: losses, and scores if there are any, by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from .._plots import add_right_axes, draw_curve, one_legend, pyplot, right_axes
from .._validate import choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

__all__ = ["LossCurveDisplay"]

_CURVES = {"loss": "validation_loss_curve_", "score": "validation_scores_"}
_SCORES = "validation score"


class LossCurveDisplay:
    """The losses of a fit by epoch, and beside them those, or the scores, of validation data.

    Use `from_estimator` to make one.

    Parameters
    ----------
    loss_curve : sequence of float
        The training loss of each epoch.
    validation_curve : sequence of float, optional
        A value for each epoch.
    validation : {"loss", "score"}
        What validation_curve holds. Losses share the axis of the training loss, scores get one of
        their own on the right.
    estimator_name : str, optional
        Shown in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The training loss.
    validation_line_ : matplotlib Line2D or None
    ax_ : matplotlib Axes
    validation_ax_ : matplotlib Axes or None
        The axes of ``validation_line_``: ``ax_`` itself for losses.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from fastgd.sklearn import LossCurveDisplay
    >>> display = LossCurveDisplay([0.9, 0.5, 0.4], validation_curve=[0.6, 0.7, 0.72],
    ...                            validation="score", estimator_name="net").plot()
    >>> display.line_.get_label(), display.validation_line_.get_label()
    ('net: loss', 'net: validation score')
    >>> matplotlib.pyplot.close(display.figure_)
    """

    line_: Line2D
    validation_line_: Line2D | None
    ax_: Axes
    validation_ax_: Axes | None
    figure_: Figure | SubFigure

    def __init__(
        self,
        loss_curve: Sequence[float],
        *,
        validation_curve: Sequence[float] | None = None,
        validation: str = "loss",
        estimator_name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_curve = validation_curve
        self.validation: str = choice("validation", validation, _CURVES)
        self.estimator_name = estimator_name

    def plot(
        self, ax: Axes | None = None, *, name: str | None = None, **kwargs: Any
    ) -> LossCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure. Several displays may share one.
        name : str, optional
            Used in place of estimator_name.
        **kwargs
            Given to matplotlib's plot, for both lines; the validation line is dashed and of the
            training line's colour.

        Returns
        -------
        LossCurveDisplay
            Itself.

        Raises
        ------
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from fastgd.sklearn import LossCurveDisplay
        >>> display = LossCurveDisplay([0.9, 0.5, 0.4]).plot(name="mine", color="black")
        >>> display.ax_.get_ylabel(), display.line_.get_color()
        ('loss', 'black')
        >>> matplotlib.pyplot.close(display.figure_)
        """
        if ax is None:
            _, ax = pyplot("LossCurveDisplay").subplots()
        self.ax_ = ax
        self.figure_ = ax.figure
        name = self.estimator_name if name is None else name
        prefix = "" if name is None else f"{name}: "
        self.line_ = draw_curve(ax, self.loss_curve, **{"label": f"{prefix}loss"} | kwargs)
        ax.set_ylabel("loss")
        self.validation_line_ = self.validation_ax_ = None
        if self.validation_curve is not None:
            self.validation_ax_ = ax
            if self.validation == "score":
                self.validation_ax_ = right_axes(ax, _SCORES) or add_right_axes(ax, _SCORES)
            style = {
                "linestyle": "--",
                "color": self.line_.get_color(),
                "label": f"{prefix}validation {self.validation}",
            }
            self.validation_line_ = draw_curve(
                self.validation_ax_, self.validation_curve, **kwargs | style
            )
        one_legend(ax, right_axes(ax, _SCORES))
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Axes | None = None,
        name: str | None = None,
        validation: str | None = "auto",
        **kwargs: Any,
    ) -> LossCurveDisplay:
        """Draw the curves that a fitted estimator has kept.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Of fastgd or of scikit-learn, fitted by a solver that records its losses.
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure. Several estimators may share one.
        name : str, optional
            Shown in the legend; by default the name of the estimator's class.
        validation : {"auto", "loss", "score"} or None
            Which of ``validation_loss_curve_`` and ``validation_scores_`` to draw; "auto" takes the
            first of them that the estimator has, or none.
        **kwargs
            As in `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ValueError
            If the estimator has not recorded what is asked for.
        NotFittedError
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from sklearn.datasets import load_iris
        >>> from fastgd.sklearn import LossCurveDisplay, MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = MLPClassifier(early_stopping=True, max_iter=500, random_state=0).fit(X, y)
        >>> display = LossCurveDisplay.from_estimator(model, validation="score")
        >>> display.validation_ax_.get_ylabel()
        'validation score'
        >>> matplotlib.pyplot.close(display.figure_)
        """
        check_is_fitted(estimator)
        wanted: tuple[str, ...] = ()
        if validation == "auto":
            wanted = tuple(_CURVES)
        elif validation is not None:
            wanted = (choice("validation", validation, ("auto", *_CURVES), ", or None"),)
        losses = getattr(estimator, "loss_curve_", None)
        if losses is None:
            raise ValueError(
                f"this {type(estimator).__name__} has no loss_curve_: estimators fitted by "
                "solvers with epochs, such as sgd and adam, have one. Of a pipeline or a search, "
                "give the estimator within it."
            )
        found = [kind for kind in wanted if getattr(estimator, _CURVES[kind], None) is not None]
        if not found and validation not in ("auto", None):
            raise ValueError(
                f"validation={validation!r} needs the estimator's {_CURVES[wanted[0]]}, which it "
                "has only if it was fitted with validation data"
            )
        kind = found[0] if found else "loss"
        display = cls(
            losses,
            validation_curve=getattr(estimator, _CURVES[kind]) if found else None,
            validation=kind,
            estimator_name=type(estimator).__name__ if name is None else name,
        )
        return display.plot(ax, **kwargs)
