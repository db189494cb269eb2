"""Run the suite under AddressSanitizer and UndefinedBehaviorSanitizer, file by file.

    python tools/sanitizers.py [--threads] [--only test_engine test_io] [-- arguments for pytest]

--threads: under ThreadSanitizer. The first report of the others ends a process. Each build has an
environment of its own, .venv-asan or .venv-tsan, with a copy of the sources in it, so that what is
built in place stays as it is. Reports are shown at the end, those of processes that a test starts
as well.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "csrc",
    "src/fastgd",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)
EXTRAS = ("data", "plot", "sklearn", "onnx", "examples", "test")

# PyTorch and Jupyter are not in this environment, and test_memory has an allocator of its own.
NOT_RUN = ("test_torch_", "test_notebooks", "test_memory")


class Failed(Exception):
    """Something that the run needs is missing or could not be made."""


class Sanitizer(NamedTuple):
    """What -fsanitize gets, libraries to preload, an environment, options by variable, tests that
    do not hold, and packages that cannot be imported."""

    flags: str
    libraries: tuple[str, ...]
    folder: Path
    options: dict[str, str]
    not_here: tuple[str, ...]
    without: tuple[str, ...] = ()

    @property
    def python(self):
        return self.folder / "bin" / "python"

    @property
    def source(self):
        return self.folder / "source"

    @property
    def reports(self):
        return self.folder / "reports"

    def environment(self):
        """Return the variables of a run."""
        log = f"log_path={self.reports}/report"
        options = {name: f"{value}:{log}" for name, value in self.options.items()}
        return os.environ | options | {"LD_PRELOAD": " ".join(map(library, self.libraries))}


MEMORY = Sanitizer(
    flags="address,undefined",
    libraries=("libasan.so", "libstdc++.so.6"),
    folder=ROOT / ".venv-asan",
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
        "test_validate_modes.py::test_validating_a_large_network_takes_little_memory",
        "test_threads.py::test_threads_without_cores_cost_little",
        "test_threads.py::test_team_has_no_race",
    ),
)
THREADS = Sanitizer(
    flags="thread",
    libraries=("libtsan.so",),
    folder=ROOT / ".venv-tsan",
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
    without=("polars",),  # whose import ends the process; the last two of the above need it
)


def make(sanitizer):
    """Make the environment and build the package in it, where something has changed."""
    if shutil.which("gcc") is None:
        raise Failed("gcc is missing. Debian: apt-get install gcc libc6-dev")
    for name in sanitizer.libraries:
        library(name)
    folder, python = sanitizer.folder, sanitizer.python
    folder.mkdir(exist_ok=True)
    if not python.exists():
        print(f"Making {folder.name} ...", flush=True)
        run(sys.executable, "-m", "venv", folder)
    copy_sources(sanitizer.source)
    stamp, now = folder / ".built", made_of(sanitizer)
    if stamp.exists() and stamp.read_text("utf-8") == now:
        return
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    wanted = subprocess.check_output(
        [sys.executable, ROOT / "tools" / "requirements.py", *EXTRAS], text=True
    )
    print(
        f"Building fastgd with -fsanitize={sanitizer.flags}, which takes some minutes ...",
        flush=True,
    )
    run(*pip, *(line for line in wanted.split("\n")[:-1] if not line.startswith(sanitizer.without)))
    env = {"CC": "gcc"} | os.environ | {"FASTGD_SANITIZE": sanitizer.flags}
    run(*pip, "-e", sanitizer.source, env=env)
    stamp.write_text(now, "utf-8")


def copy_sources(source):
    """Bring the copy of the sources up to date; times of files that are equal stay."""
    for name in COPIED:
        at, copy = ROOT / name, source / name
        files = [path for path in at.rglob("*") if path.is_file()] if at.is_dir() else [at]
        for path in files:
            target = copy / path.relative_to(at) if at.is_dir() else copy
            if path.suffix in (".so", ".pyc", ".c") and name != "csrc":
                continue
            if target.exists() and target.read_bytes() == path.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def made_of(sanitizer):
    """Return a digest of all that the build depends on."""
    digest = hashlib.sha256(f"{sanitizer.flags} {sys.version}".encode())
    compiled = (".c", ".h", ".pyx", ".pxd", ".toml")
    for path in sorted(sanitizer.source.rglob("*")):
        parts = path.relative_to(sanitizer.source).parts
        is_built = "build" in parts or (path.suffix == ".c" and parts[0] != "csrc")
        if path.name == "setup.py" or (path.suffix in compiled and not is_built):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def library(name):
    """Return the path of one of gcc's libraries."""
    path = subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
    if "/" not in path:
        raise Failed(f"gcc has no {name}. Debian: apt-get install gcc g++")
    return path


def run(*command, env=None):
    """Run a command that must succeed."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    if done.returncode:
        raise Failed(f"failed: {' '.join(map(str, command))}")


def test_files(chosen):
    """Return the files of tests to run, all if none is chosen."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    unknown = set(chosen) - {path.stem for path in files}
    if unknown:
        raise Failed(f"--only: there is no tests/{sorted(unknown)[0]}.py")
    kept = [path for path in files if not path.name.startswith(NOT_RUN)]
    return [path for path in files if path.stem in chosen] if chosen else kept


def test(sanitizer, path, options):
    """Run one file; return its line and whether it passed."""
    report = sanitizer.folder / "result.xml"
    report.unlink(missing_ok=True)
    begin = time.monotonic()
    command = [sanitizer.python, "-m", "pytest", "-q"]
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", action="store_true", help="ThreadSanitizer")
    parser.add_argument("--only", nargs="+", default=[], help="files of tests, without .py")
    parser.add_argument("options", nargs="*", help="after --: arguments for pytest")
    arguments = parser.parse_args()
    sanitizer = THREADS if arguments.threads else MEMORY
    try:
        files = [f for f in test_files(arguments.only) if f.name not in sanitizer.not_here]
        make(sanitizer)
    except Failed as error:
        sys.exit(str(error))
    shutil.rmtree(sanitizer.reports, ignore_errors=True)
    sanitizer.reports.mkdir()
    results = [test(sanitizer, path, arguments.options) for path in files]
    print()
    for line, passed in results:
        print("passed" if passed else "FAILED", line, sep="  ")
    # A size that a test asks for, to be refused, is told of too.
    reports = [
        path
        for path in sorted(sanitizer.reports.iterdir())
        if not all("failed to allocate" in line for line in path.read_text("utf-8").splitlines())
    ]
    for path in reports:
        print(f"\n{path.name}\n{path.read_text('utf-8', 'replace')[:6000]}")
    print(f"\n{len(reports)} reports of the sanitizers")
    sys.exit(bool(reports) or not all(passed for _, passed in results))


if __name__ == "__main__":
    main()
