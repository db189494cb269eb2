"""Tables for notebooks: escaped, and in the colours of the page, be it light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["block", "escape", "fold", "note", "table"]

# Lines are half-transparent grey and nothing else has a colour of its own: both themes show it.
_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_CELL = (
    "font-variant-numeric: tabular-nums; padding: 0.2em 0.3em; background: transparent; "
    "vertical-align: top;"
)


def block(title: str, *parts: str) -> str:
    """Return HTML of a title and of parts that are HTML already."""
    return (
        '<div style="color: inherit; background: transparent; max-width: 100%; overflow-x: auto">'
        f"<p><strong>{escape(title)}</strong></p>{''.join(parts)}</div>"
    )


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    n_text: int = 1,
    foot: Sequence[str] | None = None,
    wrap: bool = False,
) -> str:
    """Return an HTML table of plain texts; all but the first n_text columns hold numbers.

    With wrap, long lines are broken where the page is narrow, as on a telephone.
    """
    space = f"white-space: {'pre-wrap' if wrap else 'pre'}"

    def row(cells: Sequence[str], tag: str, border: str) -> str:
        shown = "".join(
            f'<{tag} style="text-align: {"left" if i < n_text else "right"}; {_CELL} '
            f'{space}; border: 0; border-{border}: {_LINE}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f'<tr style="background: transparent">{shown}</tr>'

    body = "".join(row(cells, "td", "bottom") for cells in rows)
    end = "" if foot is None else f"<tfoot>{row(foot, 'th', 'top')}</tfoot>"
    return (
        '<table style="border-collapse: collapse; color: inherit; font-size: 0.85em; '
        'margin: 0.5em 0">'
        f"<thead>{row(header, 'th', 'bottom')}</thead><tbody>{body}</tbody>{end}</table>"
    )


def fold(title: str, part: str) -> str:
    """Return a part, HTML already, that a click on its title folds away."""
    summary = f'<summary style="cursor: pointer">{escape(title)}</summary>'
    return f"<details open>{summary}{part}</details>"


def note(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"
