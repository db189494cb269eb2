"""Everything that draws: curves over epochs, panels by layer, heat maps over time.

matplotlib is imported when something is drawn, never before. Colours are those of Okabe and Ito and
maps are viridis: both can be told apart with every kind of colour vision, and lines differ in style
as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._validate import Array, choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = [
    "Display",
    "add_right_axes",
    "draw_curve",
    "draw_flow",
    "draw_flow_over_time",
    "draw_history",
    "one_legend",
    "pyplot",
    "right_axes",
]

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# What is written beside the panel of a value; others are called by their name.
_LABELS = {"lr": "learning rate", "seconds": "seconds per epoch", "mse": "mean squared error",
           "mae": "mean absolute error", "r2": "R²"}  # fmt: skip
_PERIODS_SHOWN = 30  # up to so many epochs each has a dot


class Display:
    """A picture that was drawn.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        The panels, in reading order; bars of colours have axes of their own, which are not here.
    lines_ : dict of str to matplotlib Line2D
        The lines by the name of what they show.

    Examples
    --------
    >>> import fastgd
    >>> history = fastgd.History()
    >>> history.extend(0, {"loss": [3.0, 2.0, 1.5], "lr": [0.1, 0.1, 0.1]})
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> display = history.plot()
    >>> [ax.get_ylabel() for ax in display.axes_], sorted(display.lines_)
    (['loss', 'learning rate'], ['loss', 'lr'])
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, figure: Figure, axes: Sequence[Axes]) -> None:
        self.figure_ = figure
        self.axes_: list[Axes] = list(axes)
        self.lines_: dict[str, Line2D] = {}


def pyplot(owner: str) -> Any:
    """Return matplotlib.pyplot, or say how to install it for what the owner does."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(f"{owner} needs matplotlib: pip install 'fastgd[plot]'") from None
    return pyplot


# ---- curves over epochs ------------------------------------------------------------------------


def draw_curve(ax: Axes, values: Sequence[float], **style: Any) -> Line2D:
    """Draw one value for each epoch, counted from 1, and name the axis; return the line."""
    if len(values) <= _PERIODS_SHOWN:
        style = {"marker": ".", "markersize": 6} | style
    (line,) = ax.plot(range(1, len(values) + 1), values, **style)
    ax.set_xlabel("epoch")
    return line


def draw_history(
    values: Mapping[str, Sequence[float]],
    names: Sequence[str] | None,
    axes: Axes | Sequence[Axes] | None,
    log: bool | None,
) -> Display:
    """Draw the values of a fit, each in a panel with those of the validation data."""
    plt = pyplot("History.plot")
    if not any(values.values()):
        raise ValueError("the history is empty: there is nothing to plot before a fit")
    panels = _history_panels(values, names)
    if axes is None:
        heights = [2 if name not in ("lr", "seconds") else 1 for name in panels]
        figure, grid = plt.subplots(
            len(panels), 1, sharex=True, squeeze=False, layout="constrained",
            figsize=(6.4, 1.0 + 1.3 * sum(heights)), height_ratios=heights,
        )  # fmt: skip
        drawn = list(grid[:, 0])
    else:
        drawn = list(axes) if isinstance(axes, Sequence | np.ndarray) else [axes]
        if len(drawn) != len(panels):
            raise ValueError(
                f"axes holds {len(drawn)}, but {len(panels)} are needed: one for each of "
                f"{', '.join(panels)}"
            )
        figure = drawn[0].figure.figure  # not a part of one
    display = Display(figure, drawn)
    for ax, name in zip(drawn, panels, strict=True):
        _draw_panel(display, ax, name, values, log)
    if axes is None:
        for ax in drawn[:-1]:
            ax.set_xlabel("")
        figure.align_ylabels(drawn)
    return display


def _history_panels(
    values: Mapping[str, Sequence[float]], names: Sequence[str] | None
) -> list[str]:
    known = dict.fromkeys(name.removeprefix("val_") for name in values)
    if names is None:
        order = ["loss", *(n for n in known if n not in ("loss", "lr", "seconds")), "lr"]
        return [name for name in order if name in known]
    if isinstance(names, str):
        names = [names]
    if not names:
        raise ValueError(f"names is empty; choose from {', '.join(known)}")
    return [choice("name of a value", name, known) for name in names]


def _draw_panel(
    display: Display, ax: Axes, name: str, values: Mapping[str, Sequence[float]], log: bool | None
) -> None:
    label = _LABELS.get(name, name.replace("_", " "))
    shown = []
    for key, style in (
        (name, {"color": BLUE, "label": "training"}),
        (f"val_{name}", {"color": ORANGE, "linestyle": "--", "label": "validation"}),
    ):
        if key in values:
            shown.append(values[key])
            display.lines_[key] = draw_curve(ax, values[key], **style)
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.margins(x=0.02)
    _count_whole(ax)
    if log or (log is None and name == "loss" and _spans_decades(shown)):
        ax.set_yscale("log")
    elif name == "lr" and ax.get_yscale() == "linear":
        ax.set_ylim(bottom=0)
    if len(shown) > 1:
        ax.legend()


def _count_whole(ax: Axes) -> None:
    """Put ticks at whole epochs only."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(
        MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1)
    )


def _spans_decades(curves: Sequence[Sequence[float]]) -> bool:
    """Return whether positive numbers differ by more than a factor of 50."""
    finite = [value for curve in curves for value in curve if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 50 * min(finite)


def right_axes(ax: Axes, label: str) -> Axes | None:
    """Return the axes of this label that an earlier plot has put on top of others."""
    for other in ax.get_shared_x_axes().get_siblings(ax):
        if other.get_ylabel() == label and other.bbox.bounds == ax.bbox.bounds:
            return other
    return None


def add_right_axes(ax: Axes, label: str) -> Axes:
    """Return new axes on top of others, with a scale of their own on the right."""
    right: Axes = ax.twinx()
    right.set_ylabel(label)
    return right


def one_legend(ax: Axes, right: Axes | None) -> None:
    """Name the lines of both axes in one legend, above all lines."""
    if right is None:
        ax.legend(handles=ax.lines)
        return
    earlier = ax.get_legend()
    if earlier is not None:
        earlier.remove()
    # Between falling losses and rising scores
    right.legend(handles=[*ax.lines, *right.lines], loc="center right")


# ---- gradient flow -----------------------------------------------------------------------------


def draw_flow(layers: Sequence[str], values: Mapping[str, Array]) -> Display:
    """Draw one look at a network: four panels over its layers."""
    plt = pyplot("GradientFlowReport.plot")
    # One below the other: side by side they are too small to be read on a phone.
    figure, panels = plt.subplots(4, 1, sharex=True, figsize=(6.4, 8.8), layout="constrained")
    display = Display(figure, list(panels))
    at = np.arange(len(layers))
    spread, flat, norms, ratio = display.axes_
    for name, color, shift, marker in (("z", BLUE, -0.08, "o"), ("a", ORANGE, 0.08, "s")):
        bar = spread.errorbar(
            at + shift, values[f"{name}_mean"], values[f"{name}_std"],
            color=color, fmt=marker, capsize=3, label=f"{name}: mean ± std",
        )  # fmt: skip
        display.lines_[name] = bar.lines[0]
    spread.set_ylabel("z and a")
    for name, color, shift, label in (
        ("saturated", BLUE, -0.2, "saturated values"),
        ("dead", ORANGE, 0.2, "dead units"),
    ):
        flat.bar(at + shift, 100 * values[name], width=0.38, color=color, label=label)
    for i in map(int, np.flatnonzero(np.isnan(values["dead"]))):
        flat.text(i, 2, "n/a", ha="center", fontsize="small", color="0.4")
    flat.set(ylabel="share in %", ylim=(0, 100))
    for name, color, marker, label in (
        ("delta_norm", BLUE, "o-", "|delta|"),
        ("dW_norm", ORANGE, "s--", "|dW|"),
    ):
        (display.lines_[name],) = norms.plot(
            at, _positive(values[name]), marker, color=color, label=label
        )
    norms.set(ylabel="norm", yscale="log")
    (display.lines_["update_ratio"],) = ratio.plot(
        at, _positive(values["update_ratio"]), "o-", color=BLUE, label="next step / weights"
    )
    ratio.axhspan(1e-4, 1e-2, color=GREEN, alpha=0.15, label="usual")
    ratio.set(ylabel="|change of W| / |W|", yscale="log")
    for ax in display.axes_:
        ax.set_xticks(at, layers if len(layers) <= 5 else [name.split()[0] for name in layers])
        ax.set_xlim(-0.5, len(layers) - 0.5)
        ax.grid(alpha=0.3)
        # Above the panel, where it covers nothing
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    ratio.set_xlabel("layer")
    figure.align_ylabels(display.axes_)
    return display


def draw_flow_over_time(
    layers: Sequence[str],
    epochs: Sequence[int],
    values: Mapping[str, Array],
    names: Mapping[str, str],
) -> Display:
    """Draw heat maps, one below the other: layers by epochs, a column since the one before it.

    names: value -> what stands beside its colours; norms and ratios are coloured by their
    logarithms.
    """
    plt = pyplot("GradientFlow.plot")
    height = 0.9 + max(1.2, 0.32 * len(layers) + 0.5) * len(names)
    figure, grid = plt.subplots(
        len(names), 1, sharex=True, squeeze=False, figsize=(6.4, height), layout="constrained"
    )
    display = Display(figure, list(grid[:, 0]))
    edges = np.array([0, *(epoch + 1 for epoch in epochs)])
    has_grey = False
    for ax, (name, label) in zip(display.axes_, names.items(), strict=True):
        shown = values[name].T
        if name.endswith(("norm", "ratio")):
            with np.errstate(divide="ignore", invalid="ignore"):
                shown = np.log10(shown)
        is_share = name in ("saturated", "dead")
        masked = np.ma.masked_invalid(100 * shown if is_share else shown)
        has_grey |= bool(masked.mask.any())
        mesh = ax.pcolormesh(
            edges, np.arange(len(layers) + 1) - 0.5, masked, cmap="viridis",
            vmin=0 if is_share else None, vmax=100 if is_share else None,
        )  # fmt: skip
        ax.set_facecolor("0.85")
        bar = figure.colorbar(mesh, ax=ax)
        bar.set_label(label)
        ax.set_yticks(range(len(layers)), layers)
        ax.invert_yaxis()
        _count_whole(ax)
    display.axes_[-1].set_xlabel(f"epochs done{'  (grey: does not apply)' if has_grey else ''}")
    return display


def _positive(values: Array) -> Array:
    """Return values for a logarithmic axis: zeros leave a gap."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)
