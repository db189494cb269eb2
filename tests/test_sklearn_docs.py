"""The page "From scikit-learn" runs as printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "from-scikit-learn.md"


# Runs the cells in one namespace, and prints a list of what each of them has printed.
RUN = """
import contextlib, io, json, sys
printed, names = [], {"__name__": "__main__"}
for cell in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(cell, names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def test_cells_of_the_page_print_what_it_shows():
    text = PAGE.read_text(encoding="utf-8")
    cells = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", text, re.S)
    assert len(cells) == text.count("```python") == 5
    command = [sys.executable, "-W", "error", "-c", RUN]
    code = json.dumps([code for code, _ in cells])
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [shown for _, shown in cells]


def test_figures_of_the_page_are_those_of_the_benchmark_file():
    (path,) = (PAGE.parents[1] / "benchmarks" / "results" / "drop_in").glob("*.json")
    medians = {}
    for row in json.loads(path.read_text())["rows"]:
        medians.setdefault(row["case"], {})[row["peer"]] = row["median"]
    table = re.findall(r"^\| (.+?) \|.*?\| \**([\d.]+)x\**", PAGE.read_text("utf-8"), re.M)
    shown = {case: float(ratio) for case, ratio in table}
    expected = {case: m["sklearn"] / m["fastgd"] for case, m in medians.items()}
    assert shown == {case: float(f"{ratio:.1f}") for case, ratio in expected.items()}
