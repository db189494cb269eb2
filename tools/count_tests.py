"""Count the tests of each command, and put the table into the page about reliability.

python tools/count_tests.py           # write docs/reliability.md, between its two markers
python tools/count_tests.py --check   # exit 1 if the page's numbers are too high, or far too low

Needs the environment of `make test`. Numbers are rounded down to hundreds, so that a few tests more
or less leave the page as it is. Many tests run once for each instruction set of the machine:
`--check` counts only where the page's instruction sets are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from marked import updated

from fastgd import available_isas

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
ALL = "pyarrow,narwhals,matplotlib,sklearn,skl2onnx,onnx"
# As many tests as the page may leave out before it is to be renewed
SLACK = 500
# command, what it is, arguments of pytest, packages that are blocked
COMMANDS = (
    ("make test", "the suite, in random order, warnings as errors", "", ""),
    ("make test-extras", "the suite again with each extra blocked; here with all of them", "", ALL),
    ("make test-grid", "exhaustive grids, of which the suite has a sample", "-m grid", ""),
    ("make test-faults", "kills, interrupts and forks by the hundred", "-m faults", ""),
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
    )
    found = re.search(r"^(\d+)(?:/\d+)? tests? collected", done.stdout, re.M)
    if done.returncode or not found:
        raise RuntimeError(f"pytest could not collect the tests: {done.stdout[-2000:]}")
    return int(found[1])


def counts() -> dict[str, int]:
    """Return the number of tests of each command."""
    return {command: count(arguments, blocked) for command, _, arguments, blocked in COMMANDS}


def rounded(number: int) -> str:
    """Show a number as the hundreds that it is over, and one up to a hundred as it is."""
    return f"{number}" if number <= 100 else f"over {(number - 1) // 100 * 100:,}"


def isas() -> str:
    """Name the instruction sets whose tests are counted."""
    return ", ".join(available_isas())


def table(found: dict[str, int]) -> str:
    """Lay out the counts as Markdown."""
    lines = [f"On a machine with {isas()}:", "", "| command | what | tests |", "|---|---|---:|"]
    for command, what, _, _ in COMMANDS:
        lines.append(f"| `{command}` | {what} | {rounded(found[command])} |")
    return "\n".join(lines) + "\n"


def stale(page: str, found: dict[str, int]) -> list[str]:
    """Return the commands whose numbers in the page are not so, or short by more than the slack."""
    rows = re.findall(r"^\| `([\w -]+)` \| .* \| (over )?([\d,]+) \|$", page, re.M)
    shown = {command: (bool(over), int(digits.replace(",", ""))) for command, over, digits in rows}
    return [
        command
        for command, number in found.items()
        if command not in shown or not _is_so(number, *shown[command])
    ]


def _is_so(number: int, over: bool, shown: int) -> bool:
    return shown < number <= shown + SLACK if over else number == shown


def main(argv: list[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    if "--check" not in argv:
        page = updated(page, "counts", "count_tests", table(counts()))
        PAGE.write_text(page, encoding="utf-8")
    elif f"On a machine with {isas()}:" not in page:
        print(f"not counted: {PAGE.name} is of other instruction sets than {isas()}")
    elif commands := stale(page, counts()):
        sys.exit(f"{PAGE.name} has wrong numbers for {', '.join(commands)}: run make test-counts")


if __name__ == "__main__":
    main(sys.argv[1:])
