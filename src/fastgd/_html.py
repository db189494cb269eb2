"""Tables for notebooks: escaped, and in the colours of the page, be it light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["block", "escape", "note", "table"]

# Lines are half-transparent grey and nothing else has a colour of its own: both themes show it.
_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_CELL = (
    "font-variant-numeric: tabular-nums; padding: 0.2em 0.7em; background: transparent; "
    "white-space: pre; vertical-align: top;"
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
    caption: str = "",
    n_text: int = 1,
    foot: Sequence[str] | None = None,
) -> str:
    """Return an HTML table of plain texts; all but the first n_text columns hold numbers."""

    def row(cells: Sequence[str], tag: str, border: str) -> str:
        shown = "".join(
            f'<{tag} style="text-align: {"left" if i < n_text else "right"}; {_CELL} '
            f'border: 0; border-{border}: {_LINE}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f'<tr style="background: transparent">{shown}</tr>'

    body = "".join(row(cells, "td", "bottom") for cells in rows)
    end = "" if foot is None else f"<tfoot>{row(foot, 'th', 'top')}</tfoot>"
    title = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    return (
        f'<table style="border-collapse: collapse; color: inherit; margin: 0.5em 0">{title}'
        f"<thead>{row(header, 'th', 'bottom')}</thead><tbody>{body}</tbody>{end}</table>"
    )


def note(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"
