"""Every public name has an example in its docstring, and every example of the package runs.

Those of fastgd.sklearn and fastgd.torch are in tests of theirs.
"""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fastgd
from block_extras import needs_extra
from doc_examples import run, run_drawing

PAGES = Path(__file__).parents[1] / "docs" / "api"


def modules():
    return [
        importlib.import_module(f"fastgd.{found.name}")
        for found in pkgutil.iter_modules(fastgd.__path__)
        if found.name not in ("sklearn", "torch", "__main__")
    ]


PUBLIC = {
    module.__name__: list(module.__all__)
    for module in (fastgd, *modules())
    if not module.__name__.startswith("fastgd._")
}


def examples():
    finder = doctest.DocTestFinder()
    found = [test for module in modules() for test in finder.find(module) if test.examples]
    return {test.name: test for test in found}


EXAMPLES = examples()


@needs_extra("onnx", "onnx")
def run_onnx(example):
    run(example)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[name]
    if "matplotlib" in example.docstring:
        run_drawing(example)
    elif name.endswith(("to_onnx", "from_onnx")):
        run_onnx(example)
    else:
        run(example)
    assert list(tmp_path.iterdir()) == []


def public_names():
    """Every public class and function, by where it is documented."""
    for name, attributes in PUBLIC.items():
        for attribute in attributes:
            found = getattr(importlib.import_module(name), attribute)
            if callable(found):
                yield pytest.param(found, id=f"{name}.{attribute}")


@pytest.mark.parametrize("found", list(public_names()))
def test_public_name_has_an_example(found):
    assert ">>>" in (inspect.getdoc(found) or "")


def public_methods():
    """Those of what a user builds or gets; the hooks of callbacks are not called by hand."""
    for kind in (fastgd.Network, fastgd.History, fastgd.GradientFlow, fastgd.GradientFlowReport):
        for name, found in vars(kind).items():
            hook = issubclass(kind, fastgd.Callback) and hasattr(fastgd.Callback, name)
            if callable(found) and not name.startswith("_") and not hook:
                yield pytest.param(found, id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize("found", list(public_methods()))
def test_public_method_has_an_example(found):
    assert ">>>" in (inspect.getdoc(found) or "")


def test_every_public_name_has_its_place_in_the_reference():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md")))
    whole = set(re.findall(r"\.\. automodule:: (\S+)\n   :members:\n", text))
    single = set(re.findall(r"\.\. auto(?:class|function|exception):: (?:\S+\.)?(\w+)", text))
    for names in re.findall(r"\.\. automodule:: \S+\n   :members: (.+)", text):
        single.update(names.split(", "))
    missing = []
    for module, names in PUBLIC.items():
        for name in set(names) - single:
            found = getattr(importlib.import_module(module), name)
            if callable(found) and not {module, found.__module__} & whole:
                missing.append(f"{module}.{name}")
    assert missing == []


def test_a_wrong_example_is_found():
    parser = doctest.DocTestParser()
    wrong = parser.get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(pytest.fail.Exception, match="printed 2"):
        run(wrong)
