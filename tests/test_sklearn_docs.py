"""The page "From scikit-learn" and the examples of the docstrings run as printed."""

import doctest
import inspect
import json
import re
import subprocess
import sys

import pytest

import fastgd.sklearn
from doc_cells import DOCS, assert_cells_print_what_is_shown
from doc_examples import run_drawing

PAGE = DOCS / "from-scikit-learn.md"


def test_cells_of_the_page_print_what_it_shows(tmp_path):
    assert_cells_print_what_is_shown(PAGE.name, tmp_path)


def test_figures_of_the_page_are_those_of_the_benchmark_file():
    (path,) = (PAGE.parents[1] / "benchmarks" / "results" / "drop_in").glob("*.json")
    medians = {}
    for row in json.loads(path.read_text())["rows"]:
        medians.setdefault(row["case"], {})[row["peer"]] = row["median"]
    table = re.findall(r"^\| (.+?) \|.*?\| \**([\d.]+)x\**", PAGE.read_text("utf-8"), re.M)
    shown = {case: float(ratio) for case, ratio in table}
    expected = {case: m["sklearn"] / m["fastgd"] for case, m in medians.items()}
    assert shown == {case: float(f"{ratio:.1f}") for case, ratio in expected.items()}


# In a process of its own: `patch` warns where the program has imported the originals, as tests do.
RUN = """
import doctest, importlib, pkgutil, sys
import fastgd.sklearn

modules = [fastgd.sklearn]
for found in pkgutil.iter_modules(fastgd.sklearn.__path__):
    if found.name != "__main__":
        modules.append(importlib.import_module(f"fastgd.sklearn.{found.name}"))
finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
for test in (test for module in modules for test in finder.find(module)):
    if "matplotlib" not in test.docstring:
        runner.run(test)
print(runner.tries, runner.failures)
"""


def test_examples_of_docstrings_run():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    tries, failures = map(int, done.stdout.splitlines()[-1].split())
    assert tries > 20
    assert failures == 0, done.stdout


def test_example_of_the_display_runs():
    display = fastgd.sklearn.LossCurveDisplay
    found = doctest.DocTestFinder().find(display, module=False)
    assert sum(len(test.examples) for test in found) > 12
    for example in found:
        run_drawing(example)


@pytest.mark.parametrize("name", fastgd.sklearn.__all__)
def test_public_name_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(fastgd.sklearn, name))
