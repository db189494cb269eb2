"""Names for messages: quoted, the beginning of long ones, the first of many."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["listed", "quoted"]

# Characters of a name, and names, that a message shows at most
_LONGEST = 100
_MOST = 20


def listed(names: Collection[object]) -> str:
    """Return the first of some names, with commas, and how many more there are."""
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(quoted, islice(names, _MOST))) + more


def quoted(name: object) -> str:
    """Quote a name, or the beginning of a long one."""
    if isinstance(name, str) and len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}..."
    return repr(name)
