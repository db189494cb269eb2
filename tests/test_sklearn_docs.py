"""The page "From scikit-learn" runs as printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "from-scikit-learn.md"


def test_example_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")


def test_figures_of_the_page_are_those_of_the_benchmark_file():
    (path,) = (PAGE.parents[1] / "benchmarks" / "results" / "drop_in").glob("*.json")
    medians = {}
    for row in json.loads(path.read_text())["rows"]:
        medians.setdefault(row["case"], {})[row["peer"]] = row["median"]
    table = re.findall(r"^\| (.+?) \|.*?\| \**([\d.]+)x\**", PAGE.read_text("utf-8"), re.M)
    shown = {case: float(ratio) for case, ratio in table}
    expected = {case: m["sklearn"] / m["fastgd"] for case, m in medians.items()}
    assert shown == {case: float(f"{ratio:.1f}") for case, ratio in expected.items()}
