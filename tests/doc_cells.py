"""The cells of a page of the docs: code, each followed by a block of what it prints."""

import json
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"

# Runs the cells in one namespace, and prints a list of what each of them has printed. Pictures are
# drawn without a screen.
RUN = """
import contextlib, io, json, os, sys
os.environ["MPLBACKEND"] = "Agg"
printed, names = [], {"__name__": "__main__"}
for cell in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(cell, names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def assert_cells_print_what_is_shown(page, folder):
    """Run a page's cells in a process of their own, in a folder, with warnings as errors."""
    text = (DOCS / page).read_text(encoding="utf-8")
    cells = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, re.S)
    assert len(cells) == text.count("```python") > 0
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input=json.dumps([code for code, _ in cells]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [shown for _, shown in cells]
