"""Open files to read, regular ones only, and quote what they hold. Writing them is `io`'s."""

from __future__ import annotations

import os
import stat
from io import BufferedReader

__all__ = ["open_regular", "printable"]


def open_regular(
    path: str | os.PathLike[str], error: type[ValueError] = ValueError
) -> BufferedReader:
    """Open a regular file; anything else, such as a pipe, a device or a folder, is the error."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except OSError:
        if os.path.exists(path) and not os.path.isfile(path):  # a folder, a socket
            raise error(f"{os.fspath(path)} is not a regular file") from None
        raise
    # Of what is open, since a name may mean another file by now.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(f"{os.fspath(path)} is not a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to is opened as well."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def printable(text: str) -> str:
    """Return text of a file as a terminal may show it: its control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
