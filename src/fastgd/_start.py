"""Loads the kernels before the rest of the package, which needs them.

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


try:
    from . import _kernels  # noqa: F401
except ValueError as error:
    if not _is_command():
        raise
    print(f"fastgd: error: {error}", file=sys.stderr)
    sys.exit(2)
