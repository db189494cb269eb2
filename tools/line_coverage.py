"""Count the lines and branches of csrc and the lines of Python that the tests reach.

    python tools/line_coverage.py [--more | --report] [--only test_engine test_io] [-- for pytest]

Builds fastgd without optimisation and with gcov's counters in an environment of its own,
.venv-coverage, and runs the suite there, and the C programs that the suite compiles, with counters
as well. The kernels of each instruction set are counted by themselves: a line of a template is
reached with AVX2 only if a kernel of AVX2 reached it. Lines that are not reached must be listed
with their reason in tests/not_reached.toml; it fails if a line is in neither, or in both, or if
fewer branches or lines of Python are reached than must be. --more adds to what earlier runs have
reached; --report builds and runs nothing.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tomllib
from typing import NamedTuple

from builds import ROOT, Build, Failed, run, test_files

# gcov reads what gcc writes.
BUILD = Build(ROOT / ".venv-coverage", {"FASTGD_COVERAGE": "1", "CC": "gcc"}, extras=("coverage",))
# PyTorch and Jupyter are not in this environment, so that fastgd.torch is not counted; the others
# run what is written for readers, and measure.
NOT_RUN = (
    *("test_torch_", "test_notebooks", "test_benchmarks", "test_docs_"),
    *("test_readme", "test_examples", "test_why_derivatives", "test_packaging", "test_seeded_"),
)  # fmt: skip
NOT_REACHED = ROOT / "tests" / "not_reached.toml"
BRANCHES, PYTHON_LINES = 95, 95  # percent
# The counters ask for memory themselves, import modules and take time, in each process.
NOT_HERE = (
    "test_memory.py::test_no_memory_for_some_allocations_of_python",
    "test_memory.py::test_short_runs_leak_nothing",
    "test_config.py::test_import_is_light",
    "test_faults_processes.py::test_subinterpreters_are_refused_and_spoil_nothing",
    "test_threads.py::test_threads_without_cores_cost_little",
)


def folders():
    """Return where counters are: beside the package's objects, and where tests compile programs."""
    return BUILD.source / "build" / "coverage", BUILD.folder / "programs"


def compiler():
    """Write a compiler that counts as setup.py has it, and return its path."""
    path = BUILD.folder / "bin" / "gcc-coverage"
    path.write_text(
        '#!/bin/sh\nexec gcc "$@" -O0 -g -DNDEBUG --coverage '
        '"-DFGD_INLINE=static inline __attribute__((unused))"\n'
    )
    path.chmod(0o755)
    return path


def forget():
    """Remove what earlier runs have counted."""
    objects, programs = folders()
    shutil.rmtree(programs, ignore_errors=True)
    for path in [*objects.rglob("*.gcda"), *BUILD.folder.glob("coverage.data*")]:
        path.unlink()


def run_tests(files, options):
    """Run files of tests; return whether they passed."""
    programs = folders()[1]
    programs.mkdir(exist_ok=True)
    settings = BUILD.folder / "coveragerc"
    settings.write_text(
        f"[run]\nsource = fastgd\ndata_file = {BUILD.folder / 'coverage.data'}\nparallel = true\n"
        "concurrency = thread\nomit = */fastgd/torch/*\npatch = subprocess\n"
    )
    command = [BUILD.python, "-m", "coverage", "run", f"--rcfile={settings}", "-m", "pytest", "-q"]
    # The programs stay until they have been counted.
    command += [f"--deselect=tests/{name}" for name in NOT_HERE]
    of_run = programs / str(len(list(programs.iterdir())))
    command += [f"--basetemp={of_run}", "-o", "tmp_path_retention_policy=all", *options, *files]
    environment = os.environ | {"CC": str(compiler())}
    passed = not subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, check=False
    ).returncode
    run(BUILD.python, "-m", "coverage", "combine", "--append", f"--rcfile={settings}")
    return passed


class Lines(NamedTuple):
    """What was reached of csrc by some kernels, or by all that is no kernel."""

    reached: dict[tuple[str, int], bool]  # by file and number
    branches: int
    taken: int


def count_c(kernels):
    """Count the kernels of one instruction set, or, for None, all that is no kernel."""
    found = [path for folder in folders() for path in folder.rglob("*.gcda")]
    chosen = [
        path
        for path in found
        if (path.stem.endswith(f"kernels_{kernels}") if kernels else "kernels_" not in path.stem)
    ]
    if not chosen:
        raise Failed("nothing has been counted: run it without --report")
    report = BUILD.folder / f"{kernels or 'others'}.json"
    # It takes more than 2**32 for a mistake.
    much = "--gcov-suspicious-hits-threshold=0"
    run(BUILD.folder / "bin" / "gcovr", much, "--root", ROOT, "--json", report, *chosen)
    reached, branches = {}, []
    for file in json.loads(report.read_text("utf-8"))["files"]:
        if not file["file"].startswith("csrc/"):
            continue
        for line in file["lines"]:
            at = file["file"], line["line_number"]
            reached[at] = reached.get(at, False) or line["count"] > 0
            branches += [branch["count"] > 0 for branch in line["branches"]]
    return Lines(reached, len(branches), sum(branches))


@functools.cache
def texts(file):
    """Return the lines of a file without what surrounds them."""
    return [line.strip() for line in (ROOT / file).read_text("utf-8").splitlines()]


class Entry:
    """Neighbouring lines of the list."""

    def __init__(self, entry):
        self.file, self.kernels = entry["file"], entry.get("kernels")
        self.somewhere = entry.get("somewhere", False)
        block = [line.strip() for line in entry["lines"].strip().splitlines()]
        found = texts(self.file)
        starts = [i for i in range(len(found)) if found[i : i + len(block)] == block]
        if len(starts) != 1:
            raise Failed(f"{self.file} has {len(starts)} times what is listed: {block[0]!r} ...")
        self.numbers = range(starts[0] + 1, starts[0] + 1 + len(block))

    def holds(self, kernels, file, number):
        """Return whether a line of some kernels is one of these."""
        is_here = self.file == file and number in self.numbers
        return is_here and kernels in (self.kernels or [kernels])


def judge(kernels, lines, entries):
    """Print what some kernels have reached; return mistakes."""
    wrong = []
    for (file, number), reached in sorted(lines.reached.items()):
        listed = [entry for entry in entries if entry.holds(kernels, file, number)]
        at = f"{file}:{number} ({kernels})"
        if not reached and not listed:
            wrong.append(f"{at} is not reached: {texts(file)[number - 1]}")
        if reached and any(not entry.somewhere for entry in listed):
            wrong.append(f"{at} is reached and listed: {texts(file)[number - 1]}")
    n_reached = sum(lines.reached.values())
    show(kernels, n_reached, len(lines.reached), lines.taken, lines.branches)
    return wrong


def show(name, n_reached, n_lines, n_taken, n_branches):
    """Print a row of the table; return the share of the branches in percent."""
    share = 100 * n_taken / n_branches
    taken = f"{n_taken:,} of {n_branches:,}"
    print(f"| {name} | {n_reached:,} of {n_lines:,} | {taken} | {share:.1f} % |")
    return share


def report():
    """Print the table, and what is wrong; return whether nothing is."""
    listed = tomllib.loads(NOT_REACHED.read_text("utf-8"))["not_reached"]
    entries = [Entry(entry) for entry in listed]
    available = subprocess.check_output(
        [BUILD.python, "-c", "from fastgd import _kernels as k; print(*k.available_isas())"],
        text=True,
    ).split()
    print("| C core | lines | branches | |\n|---|---:|---:|---:|")
    counted = {kernels or "others": count_c(kernels) for kernels in (*available, None)}
    wrong = [
        fault for kernels, lines in counted.items() for fault in judge(kernels, lines, entries)
    ]
    sums = (
        sum(sum(lines.reached.values()) for lines in counted.values()),
        sum(len(lines.reached) for lines in counted.values()),
        sum(lines.taken for lines in counted.values()),
        sum(lines.branches for lines in counted.values()),
    )
    share = show("all", *sums)
    if share < BRANCHES:
        wrong.append(f"{share:.1f} % of the branches are taken, not {BRANCHES}")
    settings = f"--rcfile={BUILD.folder / 'coveragerc'}"
    run(BUILD.python, "-m", "coverage", "json", settings, "-q", "-o", BUILD.folder / "python.json")
    totals = json.loads((BUILD.folder / "python.json").read_text("utf-8"))["totals"]
    share = totals["percent_covered"]
    covered, statements = totals["covered_lines"], totals["num_statements"]
    print(f"\nPython: {covered:,} of {statements:,} lines, {share:.1f} %")
    if share < PYTHON_LINES:
        wrong.append(f"{share:.1f} % of the lines of Python are reached, not {PYTHON_LINES}")
    print(*wrong, sep="\n")
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--more", action="store_true", help="add to what the last run has reached")
    parser.add_argument("--report", action="store_true", help="count what the last run has left")
    parser.add_argument("--only", nargs="+", default=[], help="files of tests, without .py")
    parser.add_argument("options", nargs="*", help="after --: arguments for pytest")
    arguments = parser.parse_args()
    try:
        files = test_files(arguments.only, NOT_RUN)
        if arguments.more or arguments.report:
            BUILD.copy_sources()
            if not BUILD.is_up_to_date():
                raise Failed(
                    "something has changed since the last run: run it without --more and --report"
                )
        else:
            BUILD.make()
            forget()
        passed = arguments.report or run_tests(files, arguments.options)
        passed &= report()
    except Failed as error:
        sys.exit(str(error))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
