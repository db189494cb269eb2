"""Loads the kernels before the rest of the package, which needs them.

A subinterpreter is refused before: in one NumPy loads with a warning or not at all, and an
extension module that it has tried to load can be loaded in no other one from then on, nor in the
main interpreter.

What the environment asks of them may not exist: `import fastgd` raises then, but the command
`fastgd`, which is this import and little else, says so in one line.
"""

from __future__ import annotations

import re
import sys

__all__: list[str] = []


def _is_command() -> bool:
    """Return whether this process is `fastgd ...` or `python -m fastgd ...`."""
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":  # until Python has found the module: -m fastgd, -Im fastgd, -mfastgd
        return re.search(r"\0-\w*?m\0?fastgd\0", "\0".join([*sys.orig_argv, ""])) is not None
    name = program.replace("\\", "/").rpartition("/")[2]
    return name in ("fastgd", "fastgd.exe")


def _is_subinterpreter() -> bool:
    try:
        from ctypes import c_void_p, pythonapi

        current, main = pythonapi["PyInterpreterState_Get"], pythonapi["PyInterpreterState_Main"]
    except ImportError as error:  # one with a lock of its own is refused ctypes itself
        return "subinterpreter" in str(error)
    except AttributeError:  # not CPython: nothing to ask
        return False
    current.restype = main.restype = c_void_p
    return current() != main()


if _is_subinterpreter():
    raise ImportError(
        "fastgd cannot be imported in a subinterpreter, which NumPy does not support either: use a "
        "process of its own, as of multiprocessing; under mod_wsgi, WSGIApplicationGroup %{GLOBAL}"
    )
try:
    from . import _kernels  # noqa: F401
except ValueError as error:
    if not _is_command():
        raise
    print(f"fastgd: error: {error}", file=sys.stderr)
    sys.exit(2)
