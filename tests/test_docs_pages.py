"""The pages run as printed, their links lead somewhere, and what tools have put in is current.

Pages that need an extra are run by the tests of their subject.
"""

import json
import re
import sys
import unicodedata
from pathlib import Path

import mpmath
import pytest

from doc_cells import DOCS, assert_cells_print_what_is_shown
from fastgd import _kernels

ROOT = DOCS.parent
TEXTS = [
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "api").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")),
]

# Scripts of the repository, not modules of the package: imported after their path is known.
sys.path.insert(0, str(ROOT / "tools"))
import count_tests  # noqa: E402
import docs_charts  # noqa: E402
import marked  # noqa: E402
import readme_numbers  # noqa: E402
import ulp_table  # noqa: E402


def run_elsewhere():
    """Return the pages whose cells other tests run."""
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if path != Path(__file__) and "assert_cells_print_what_is_shown(" in text:
            found.update(re.findall(r'"([\w-]+\.md)"', text))
    return found


PAGES = [
    path.name
    for path in sorted(DOCS.glob("*.md"))
    if "```python" in path.read_text(encoding="utf-8") and path.name not in run_elsewhere()
]


@pytest.mark.parametrize("page", PAGES)
def test_cells_of_the_page_print_what_it_shows(page, tmp_path):
    assert_cells_print_what_is_shown(page, tmp_path)


def test_pages_with_cells_are_known():
    assert {"index.md", "quickstart.md", "choosing.md", "why-derivatives.md"} <= {*PAGES}
    assert {"seeing.md", "onnx.md", "from-scikit-learn.md", "from-pytorch.md"} <= run_elsewhere()


# ---- links -----------------------------------------------------------------------------------


def text_of(path):
    """Return the Markdown of a page, or of a notebook's cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def prose(text):
    """Return a page without its blocks of code and its comments."""
    return re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)


def anchors(path):
    """Return the anchors of a page's headings, as repository browsers and MyST make them."""
    found = []
    text = re.sub(r"```.*?```", "", text_of(path), flags=re.S)
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = [c for c in plain if c in "-_ " or unicodedata.category(c)[0] in "LN"]
        slug = "".join(kept).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


def broken_links(path):
    """Return the relative links of a page that lead nowhere."""
    text = re.sub(r"`[^`\n]*`", "", prose(text_of(path)))
    broken = []
    for markdown, html in re.findall(r"\]\(([^)\s]+)\)|\b(?:src|href)=\"([^\"]+)\"", text):
        link = markdown or html
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert broken_links(path) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A (b) & c_d!\n\n## A (b) & c_d!\n\n[x](#a-b--c_d) [x](page.md#a-b--c_d-1)\n"
        "[x](#nowhere) [x](absent.md) [x](https://example.org) `[x](code.md)`\n\n"
        '<img src="absent.png"\nwidth="1"> <a href="page.md"><img src="page.md"></a>\n'
        '<a href="page.md#gone">x</a>\n\n'
        "```text\n[x](block.md)\n```\n"
    )
    assert broken_links(page) == ["#nowhere", "absent.md", "absent.png", "page.md#gone"]


def test_a_broken_link_of_a_notebook_is_found(tmp_path):
    notebook = tmp_path / "page.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["# A (b)\n", "[x](#a-b) [x](absent.md)"]},
        {"cell_type": "code", "source": ["# [x](code.md)"]},
        {"cell_type": "markdown", "source": ['<img src="absent.png">']},
    ]
    notebook.write_text(json.dumps({"cells": cells}))
    assert broken_links(notebook) == ["absent.md", "absent.png"]


def test_every_page_is_in_the_contents():
    contents = "\n".join(
        re.findall(r"```\{toctree\}.*?```", (DOCS / "index.md").read_text(encoding="utf-8"), re.S)
    )
    listed = set(re.findall(r"^([\w/-]+)$", contents, re.M))
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= listed


# ---- what tools have put in ------------------------------------------------------------------


def test_charts_are_of_the_newest_benchmark_file():
    result = readme_numbers.newest(ROOT / "benchmarks" / "results")
    charts = docs_charts.charts(result)
    assert sorted(charts) == ["share-of-peak", "speed"]
    for name, shown in charts.items():
        assert docs_charts.is_current(result, name, shown)
        shown[next(iter(shown))]["jax"] *= 1.01
        assert not docs_charts.is_current(result, name, shown)


def test_errors_of_the_page_are_those_of_the_sweep():
    page = ulp_table.PAGE.read_text(encoding="utf-8")
    # What stands there was computed anew by this build and mpmath.
    assert ulp_table.table() in page
    assert {*ulp_table.EXACT} == {*_kernels.ACTIVATIONS} - {"identity", "softmax"}


def test_errors_that_the_sweep_does_not_have_are_refused(monkeypatch):
    monkeypatch.setitem(ulp_table.EXACT, "tanh", (lambda z, _: mpmath.atan(z), lambda a, _: a))
    with pytest.raises(AssertionError, match=r"value of tanh in float32 at .* not by"):
        ulp_table.table()


def test_what_a_tool_puts_in_needs_its_markers():
    page = "a\n<!-- x: made by tools/y.py -->\nold\n<!-- end of x -->\nb"
    assert marked.updated(page, "x", "y", "new\n") == page.replace("old", "\nnew\n")
    for without in ("a", page.replace("end of", ""), page.replace("made by", "")):
        with pytest.raises(ValueError, match=r"lacks the markers <!-- x: made by tools/y\.py -->"):
            marked.updated(without, "x", "y", "new\n")


def test_counts_of_tests_that_are_stale_are_found():
    commands = [command for command, *_ in count_tests.COMMANDS]
    found = dict(zip(commands, (7_654, 5_001, 4_200, 52, 2), strict=True))
    page = count_tests.table(found)
    assert re.findall(r"\| ([^|]*\d) \|$", page, re.M) == [
        "over 7,600", "over 5,000", "over 4,100", "52", "2",
    ]  # fmt: skip
    assert count_tests.stale(page, found) == []
    assert count_tests.stale(page, found | {commands[0]: 8_100}) == []
    for command, number in zip(commands, (8_101, 5_000, 4_100, 53, 3), strict=True):
        assert count_tests.stale(page, found | {command: number}) == [command]
    assert count_tests.stale("no table", found) == commands


def test_page_about_reliability_has_a_count_for_each_command():
    page = count_tests.PAGE.read_text(encoding="utf-8")
    assert marked.updated(page, "counts", "count_tests", "") != page
    rows = re.findall(r"^\| `(make [\w-]+)` \| (.*) \| (?:over [\d,]+00|\d{1,2}) \|$", page, re.M)
    assert rows == [(command, what) for command, what, *_ in count_tests.COMMANDS]
