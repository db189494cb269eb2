"""The page "From PyTorch" runs as printed, and the examples of the docstrings as well."""

import doctest

import fastgd.torch
from doc_cells import DOCS, assert_cells_print_what_is_shown

PAGE = DOCS / "from-pytorch.md"


def test_cells_of_the_page_print_what_it_shows(tmp_path):
    assert_cells_print_what_is_shown(PAGE.name, tmp_path)


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
