"""How an example of a docstring is run as a test."""

import doctest
import importlib

import pytest

from block_extras import needs_extra


def run(example):
    """Run an example; let its exceptions through, and show what differs."""
    try:
        doctest.DebugRunner().run(example)
    except doctest.UnexpectedException as error:
        raise error.exc_info[1] from None
    except doctest.DocTestFailure as failure:
        pytest.fail(f"{failure.example.source}printed {failure.got}not {failure.example.want}")


@needs_extra("matplotlib", "plot")
def run_drawing(example):
    importlib.import_module("fastgd._plots").pyplot("this test")
    run(example)
