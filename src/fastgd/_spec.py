"""A base for the small objects that only hold settings: losses, optimisers, schedules.

It gives them a readable repr, equality, and the plain form that model files store. It knows
nothing about what the settings mean.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["Spec"]


class Spec:
    """Settings named by ``_fields``, each an attribute of the same name."""

    name: ClassVar[str]
    _fields: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={getattr(self, key)!r}" for key in self._fields)
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, key) == getattr(other, key) for key in self._fields)

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def _plain(self) -> dict[str, Any]:
        """Return the name and the settings as a dictionary of plain values."""
        return {"name": self.name} | {key: getattr(self, key) for key in self._fields}
