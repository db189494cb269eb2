"""Optional packages: one that is needed now, and what is to be done once another is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["needed", "when_imported"]


def when_imported(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call with the module of this name, now or as soon as it has been imported."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
    else:
        sys.meta_path.insert(0, _Finder(name, call))  # type: ignore[arg-type]


class _Finder:
    """Waits for the import of a module, which it leaves to the finders after it."""

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self.name, self.call = name, call

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        spec = None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None:
                spec = find(name, path, target)
                if spec is not None:
                    break
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)  # type: ignore[arg-type]
                self.call(module)

        try:
            # On this loader, which belongs to this one import.
            loader.exec_module = exec_module
        except AttributeError:
            return None
        return spec


def needed(name: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an extra, or say in one line how to install it."""
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose} needs {package}; install it with: pip install 'fastgd[{extra}]'"
        ) from None
