"""Loads the kernels before the rest of the package, which needs them.

What the environment asks of them may not exist: `import fastgd` raises then, but the command
`fastgd`, which is this import and little else, says so in one line.
"""

from __future__ import annotations

import sys

__all__: list[str] = []


def _is_command() -> bool:
    """Return whether this process is `fastgd ...` or `python -m fastgd ...`."""
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":  # until Python has found the module
        return "fastgd" in sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1]
    name = program.replace("\\", "/").rpartition("/")[2]
    return name in ("fastgd", "fastgd.exe")


try:
    from . import _kernels  # noqa: F401
except ValueError as error:
    if not _is_command():
        raise
    print(f"fastgd: error: {error}", file=sys.stderr)
    sys.exit(2)
