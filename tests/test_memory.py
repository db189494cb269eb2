"""Memory that fails, and memory that is not given back; the programs say what they do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import failing_memory
from c_programs import ROOT

FOLDER = Path(__file__).parent
QUICK = (
    "network",
    "fit",
    "fit, adam, dropout, float64",
    "fit, clipped, bytes",
    "fit, 3 threads",
    "train_step",
    "predict",
    "load",
    "pickle",
    "optimizer",
    "set_weights",
    "kernels.sgd_update",
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """Return the path of the library that makes allocations fail."""
    binary = tmp_path_factory.mktemp("shim") / "failing_memory.so"
    source = ROOT / "tests" / "c" / "failing_memory.c"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    flags = ["-O1", "-g", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, source, "-o", binary, "-ldl"], check=True)
    return binary


def run_without_memory(shim, *arguments, timeout=600):
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-W", "ignore", FOLDER / "failing_memory.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def test_no_memory_for_the_c_core(shim):
    out = run_without_memory(shim, "core", "--no-leaks", "--only", *QUICK)
    assert out.count("errors for want of memory") == 2 * len(QUICK)


def test_no_memory_for_some_allocations_of_python(shim):
    run_without_memory(
        shim, "all", "--no-leaks", "--stride", "41", "--only",
        "fit", "train_step", "predict", "load", "set_weights", "kernels.adam_update",
    )  # fmt: skip


@pytest.mark.memory
@pytest.mark.parametrize("whose", ["core", "all"])
@pytest.mark.parametrize("case", failing_memory.CASES)
def test_no_memory_for_any_allocation(shim, whose, case):
    print(run_without_memory(shim, whose, "--only", case, timeout=7200))


def run_long(*arguments):
    command = [sys.executable, "-W", "ignore", FOLDER / "long_runs.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=3600)


def test_short_runs_leak_nothing():
    done = run_long("0.01")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.grid
def test_long_runs_leak_nothing():
    done = run_long()
    assert done.returncode == 0, done.stdout + done.stderr
