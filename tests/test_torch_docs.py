"""The page "From PyTorch" runs as printed, and the examples of the docstrings as well."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import fastgd.torch

PAGE = Path(__file__).parents[1] / "docs" / "from-pytorch.md"


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
    assert len(cells) == text.count("```python") == 4
    command = [sys.executable, "-W", "error", "-c", RUN]
    code = json.dumps([code for code, _ in cells])
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [shown for _, shown in cells]


def test_examples_of_docstrings_run():
    for name in fastgd.torch.__all__:
        function = getattr(fastgd.torch, name)
        (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0


def test_the_page_names_all_that_is_taken():
    from fastgd.torch import _losses, _modules, _optimizers

    text = PAGE.read_text(encoding="utf-8")
    for known in (_losses._READERS, _modules._ACTIVATIONS, _optimizers._READERS):
        for kind in known:
            assert f"`{kind.__name__}`" in text, kind
