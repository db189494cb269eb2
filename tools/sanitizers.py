"""Run the suite under AddressSanitizer and UndefinedBehaviorSanitizer, file by file.

    python tools/sanitizers.py [--threads] [--only test_engine test_io] [-- arguments for pytest]

--threads: under ThreadSanitizer. The first report of the others ends a process. Each build has an
environment of its own, .venv-asan or .venv-tsan, with a copy of the sources in it, so that what is
built in place stays as it is. Reports are shown at the end, those of processes that a test starts
as well.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from typing import NamedTuple
from xml.etree import ElementTree

from builds import ROOT, Build, Failed, need_gcc, test_files

# PyTorch and Jupyter are not in this environment, and test_memory has an allocator of its own.
NOT_RUN = ("test_torch_", "test_notebooks", "test_memory")


class Sanitizer(NamedTuple):
    """A build, libraries to preload, options by variable, and tests that do not hold."""

    build: Build
    libraries: tuple[str, ...]
    options: dict[str, str]
    not_here: tuple[str, ...]

    @property
    def reports(self):
        return self.build.folder / "reports"

    def environment(self):
        """Return the variables of a run."""
        log = f"log_path={self.reports}/report"
        options = {name: f"{value}:{log}" for name, value in self.options.items()}
        return os.environ | options | {"LD_PRELOAD": " ".join(map(library, self.libraries))}


MEMORY = Sanitizer(
    build=Build(ROOT / ".venv-asan", {"FASTGD_SANITIZE": "address,undefined"}),
    libraries=("libasan.so", "libstdc++.so.6"),
    options={
        # The interpreter keeps what it has to the end, and a test asks for too much memory.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    },
    # The shadow memory takes terabytes of addresses; freed blocks are kept for a while, so that
    # resident memory says nothing; some programs take too long; and one is built with
    # ThreadSanitizer, beside which there is no AddressSanitizer.
    not_here=(
        "test_threads.py::test_threads_that_cannot_be_started_are_done_without",
        "test_blocks.py::test_memory_of_parquet_stays_near_two_buffers",
        "test_blocks.py::test_memory_maps_are_not_loaded",
        "test_blocks.py::test_memory_stays_near_two_buffers",
        "test_io.py::test_the_header_takes_memory_in_proportion_to_it",
        "test_validate_modes.py::test_validating_a_large_network_takes_little_memory",
        "test_threads.py::test_threads_without_cores_cost_little",
        "test_threads.py::test_team_has_no_race",
    ),
)
THREADS = Sanitizer(
    # The import of polars ends the process; the last two of not_here need it.
    build=Build(ROOT / ".venv-tsan", {"FASTGD_SANITIZE": "thread"}, without=("polars",)),
    libraries=("libtsan.so",),
    options={
        # A fork of a process with threads may start some; what the threads of NumPy's BLAS share,
        # which is not built with the sanitizer, is not looked at; tests hold the end of a process
        # to a second, and one asks for too much memory.
        "TSAN_OPTIONS": "die_after_fork=0:ignore_noninstrumented_modules=1:atexit_sleep_ms=0:"
        "allocator_may_return_null=1",
    },
    not_here=(
        *MEMORY.not_here,
        "test_blocks.py::test_docs_cells_print_what_is_shown",
        "test_frames.py",
    ),
)


def library(name):
    """Return the path of one of gcc's libraries."""
    need_gcc()
    path = subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
    if "/" not in path:
        raise Failed(f"gcc has no {name}. Debian: apt-get install gcc g++")
    return path


def test(sanitizer, path, options):
    """Run one file; return its line and whether it passed."""
    report = sanitizer.build.folder / "result.xml"
    report.unlink(missing_ok=True)
    begin = time.monotonic()
    command = [sanitizer.build.python, "-m", "pytest", "-q"]
    for name in sanitizer.not_here:
        if path.name in name:
            command += ["--deselect", f"tests/{name}"]
    # xunit1: a newer form has no place for the properties that some tests record.
    command += [f"--junit-xml={report}", "-o", "junit_family=xunit1", *options, path]
    # Older sanitizers do not know the address-space layout of newer kernels.
    without = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*without, *map(str, command)], cwd=ROOT, env=sanitizer.environment(), check=False
    )
    seconds = time.monotonic() - begin
    if not report.exists():
        return f"{path.stem}: pytest ended with exit code {done.returncode}", False
    counts = ElementTree.parse(report).find("testsuite").attrib
    total, *others = (int(counts[name]) for name in ("tests", "failures", "errors", "skipped"))
    ends = "{} failed, {} errors, {} skipped".format(*others)
    return f"{path.stem}: {total - sum(others)} passed, {ends}, {seconds:.0f} s", not any(others)


def is_told_of_too(line):
    """Whether this is no report: a size that a test asks for, to be refused, or a new thread in
    the child of a fork, whose number is that of a thread of the parent."""
    return "failed to allocate" in line or "dup thread with used id" in line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", action="store_true", help="ThreadSanitizer")
    parser.add_argument("--only", nargs="+", default=[], help="files of tests, without .py")
    parser.add_argument("options", nargs="*", help="after --: arguments for pytest")
    arguments = parser.parse_args()
    sanitizer = THREADS if arguments.threads else MEMORY
    try:
        files = [f for f in test_files(arguments.only, NOT_RUN) if f.name not in sanitizer.not_here]
        for name in sanitizer.libraries:
            library(name)
        sanitizer.build.make()
    except Failed as error:
        sys.exit(str(error))
    shutil.rmtree(sanitizer.reports, ignore_errors=True)
    sanitizer.reports.mkdir()
    results = [test(sanitizer, path, arguments.options) for path in files]
    print()
    for line, passed in results:
        print("passed" if passed else "FAILED", line, sep="  ")
    reports = [
        path
        for path in sorted(sanitizer.reports.iterdir())
        if not all(map(is_told_of_too, path.read_text("utf-8").splitlines()))
    ]
    for path in reports:
        print(f"\n{path.name}\n{path.read_text('utf-8', 'replace')[:6000]}")
    print(f"\n{len(reports)} reports of the sanitizers")
    sys.exit(bool(reports) or not all(passed for _, passed in results))


if __name__ == "__main__":
    main()
