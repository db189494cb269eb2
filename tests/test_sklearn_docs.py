"""The page "From scikit-learn" runs as printed."""

import json
import re

from doc_cells import DOCS, assert_cells_print_what_is_shown

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
