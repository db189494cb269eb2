"""Count the tests of each command, and put the table into the page about reliability.

python tools/test_counts.py    # write docs/reliability.md, between its two markers

Needs the environment of `make test`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: made by tools/test_counts.py -->\n", "<!-- end of counts -->"
ALL = "pyarrow,matplotlib,sklearn,skl2onnx,onnx"
# command, what it is, arguments of pytest, packages that are blocked
COMMANDS = (
    ("make test", "the suite, in random order, warnings as errors", "", ""),
    ("make test-extras", "the suite again with each extra blocked; here with all of them", "", ALL),
    ("make test-grid", "exhaustive grids, of which the suite has a sample", "-m grid", ""),
    ("make test-data", "the whole of Fashion-MNIST", "-m data", ""),
)


def count(arguments: str, blocked: str) -> int:
    """Return how many tests pytest would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments.split()]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "FASTGD_BLOCK": blocked},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"^(\d+)(?:/\d+)? tests? collected", done.stdout, re.M)
    if not found:
        raise ValueError(f"pytest did not say how many tests it has: {done.stdout[-500:]}")
    return int(found[1])


def table() -> str:
    """Lay out the counts as Markdown."""
    lines = ["| command | what | tests |", "|---|---|---:|"]
    for command, what, arguments, blocked in COMMANDS:
        lines.append(f"| `{command}` | {what} | {count(arguments, blocked):,} |")
    return "\n".join(lines) + "\n"


def updated(page: str, counts: str) -> str:
    """Return the page with these counts between its markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks the markers of the counts")
    return before + begin + "\n" + counts + "\n" + end + after


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
