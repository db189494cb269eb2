"""Runs the programs of examples/ as a user does, and holds their text to what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

from block_extras import BLOCKED

EXAMPLES = Path(__file__).parents[1] / "examples"

# Blocked packages are neither imported nor found. Windows are PNG files here: show saves every
# figure that was drawn.
RUN = """
import importlib.util, runpy, sys
path, *blocked = sys.argv[1:]
class Blocker:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Blocker)
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: (
    None if name.partition(".")[0] in blocked else find_spec(name, *package)
)
try:
    from matplotlib import pyplot
except ImportError:
    pass
else:
    def show():
        for number in pyplot.get_fignums():
            pyplot.figure(number).savefig(f"{number}.png")
        pyplot.close("all")
    pyplot.show = show
sys.argv = [path]
runpy.run_path(path, run_name="__main__")
"""


def run(name, folder, **environment):
    """Run an example in a folder, with warnings as errors; return the finished process."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, EXAMPLES / f"{name}.py", *BLOCKED],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg", "PYTHONUTF8": "1"} | environment,
    )


def text_of(name):
    """Return the reStructuredText of an example: its docstring, and the comments after each %%."""
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    _, docstring, code = source.split('"""', 2)
    cells = re.findall(r"^# %%.*\n((?:#.*\n)*)", code, re.M)
    return "\n\n".join([docstring, *(re.sub(r"^# ?", "", cell, flags=re.M) for cell in cells)])


def figures_in(text):
    """Return the figures that a text states: its literals that are numbers."""
    return re.findall(r"``([-+]?\d[\d.,]*(?:e[-+]\d+)?%?)``", text)


def assert_runs(name, folder, n_figures, **environment):
    """Run an example: it draws its figures, and its text says what it prints; return that."""
    done = run(name, folder, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == n_figures
    for picture in pictures:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5_000
    assert_stated(name, done.stdout)
    return done.stdout


def assert_stated(name, printed):
    """Hold every figure that an example's text states to what it printed."""
    stated = figures_in(text_of(name))
    assert stated
    for figure in stated:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d%]|\.\d)", printed), figure
