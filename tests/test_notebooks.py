"""The notebooks run from top to bottom, show what they promise, and are stored without outputs."""

import re

import nbclient
import nbformat
import pytest

import gallery

NOTEBOOKS = sorted((gallery.EXAMPLES / "notebooks").glob("*.ipynb"))


def run(name):
    """Run a notebook in a kernel of its own; return it with its outputs."""
    notebook = nbformat.read(gallery.EXAMPLES / "notebooks" / f"{name}.ipynb", as_version=4)
    return nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def printed(notebook, stream="stdout"):
    """Return what a notebook has written to a stream."""
    return "".join(o.text for o in outputs(notebook) if o.get("name") == stream)


def shown(notebook, kind):
    """Return the displayed results of a MIME type."""
    return [o.data[kind] for o in outputs(notebook) if kind in o.get("data", {})]


def assert_stated(notebook):
    """Hold every figure in the text to what was printed."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    figures = re.findall(r"`(-?\d+\.\d+)`", text)
    assert figures
    for figure in figures:
        assert re.search(rf"(?<![\d.-]){figure}(?!\d)", printed(notebook)), figure


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_is_stored_without_outputs(file):
    # So that no time, path or version of the machine that ran it last is in a difference.
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_start_in_five_minutes():
    notebook = run("start-in-five-minutes")
    assert_stated(notebook)
    assert "fastgd.Network" in shown(notebook, "text/html")[0]
    assert len(shown(notebook, "image/png")) == 1
    assert "epoch 60/60: 100%" in printed(notebook, "stderr")
    assert "the same predictions: True" in printed(notebook)
    assert any("largest error" in text for text in shown(notebook, "text/plain"))


def test_chain_rule_step_by_step():
    notebook = run("chain-rule-step-by-step")
    assert_stated(notebook)
    tables = shown(notebook, "text/html")
    assert len(tables) == 2
    assert "delta" in tables[1]
    assert "the same as by hand: True" in printed(notebook)
    measured, by_chain = re.search(
        r"measured (\S+), by the chain rule (\S+)", printed(notebook)
    ).groups()
    assert measured == by_chain


def test_every_notebook_has_a_test():
    tests = {name.removeprefix("test_") for name in globals()}
    assert all(file.stem.replace("-", "_") in tests for file in NOTEBOOKS)
    assert len(NOTEBOOKS) == 2
