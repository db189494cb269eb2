"""The README says what is so: its example prints its output, its table is the benchmark's."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Scripts of the repository, not modules of the package: imported after their path is known.
sys.path.insert(0, str(ROOT / "tools"))
import marked  # noqa: E402
import readme_numbers  # noqa: E402


def block(language):
    """The one fenced block of a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return text


def test_readme_example_prints_its_output(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("python")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == block("text")


def test_readme_example_is_short():
    statements = re.split(r"\n(?=\S)(?!\))", block("python").strip())
    assert len(statements) <= 10


def with_table_of(result):
    return marked.updated(README, "numbers", "readme_numbers", readme_numbers.section(result))


def test_readme_table_is_that_of_the_newest_benchmark_file():
    result = readme_numbers.newest(ROOT / "benchmarks" / "results")
    assert with_table_of(result) == README
    # A figure that is not in the file would be noticed.
    result["rows"][0]["median"] *= 2
    assert with_table_of(result) != README


def test_readme_links_lead_to_files():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_commands_exist():
    from fastgd import cli

    for command in re.findall(r"^    fastgd (\w+)", README, re.M):
        assert command in cli._COMMANDS
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
