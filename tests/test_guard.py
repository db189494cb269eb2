"""Nothing beyond an array is touched: arrays lie between pages that cannot be read or written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_programs import ROOT, compile_and_run

PROGRAM = Path(__file__).with_name("guarded_arrays.py")


def run(*arguments):
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def test_nothing_beyond_the_arrays_of_a_caller_is_touched():
    seed = os.getpid()
    done = run(1, seed)
    assert (done.returncode, done.stderr) == (0, ""), f"seed {seed}: {done.stdout}"
    assert done.stdout.endswith("nothing beyond an array\n")


@pytest.mark.grid
@pytest.mark.parametrize("seed", range(4))
def test_nothing_beyond_the_arrays_of_a_caller_is_touched_at_many_sizes(seed):
    done = run(15, seed)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


SOURCES = ("fgd_team.c", "fgd_cpu.c", "fgd_pace.c")


def guarded_program(tmp_path, core, *arguments, kernels="kernels_*.c", flags=""):
    """Compile tests/c/test_guard.c with the C core in a folder, and run it."""
    sources = [*sorted(core.glob(kernels)), *(core / name for name in SOURCES)]
    flags += f" -O1 -g -I{core}"
    return compile_and_run(
        tmp_path, flags, "test_guard.c", *map(str, sources), arguments=arguments, timeout=1500
    )


@pytest.mark.grid
def test_no_kernel_and_no_fit_of_the_c_core_touches_anything_beyond_its_arrays(tmp_path):
    done = guarded_program(tmp_path, ROOT / "csrc", "300")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("nothing beyond an array\n")


# file, what is there, what reads or writes an element too far in its place
BROKEN = {
    "sum": ("template/reduce.h", "for (; i + 16 <= n; i += 16) FN(add_block)",
            "for (; i < n; i += 16) FN(add_block)"),
    "gather": ("template/gather.h", "features - f < CHUNK ? features - f : CHUNK",
               "features - f < CHUNK ? features - f + 1 : CHUNK"),
    "column_sums": ("template/gemm.h", "for (size_t p = 0; p < k; p++) acc = V(add)",
                    "for (size_t p = 0; p <= k; p++) acc = V(add)"),
    "tile": ("template/gemm.h", "for (size_t left = k % FGD_UKR_STEPS; left > 0; left--)",
             "for (size_t left = k % FGD_UKR_STEPS + 1; left > 0; left--)"),
    "turned": ("template/few_samples.h", "const size_t whole = k / TURNED * TURNED;",
               "const size_t whole = (k / TURNED + 1) * TURNED;"),
    "streamed": ("template/few_samples.h", "for (size_t p = 0; p < k; p++) {",
                 "for (size_t p = 0; p <= k; p++) {"),
    "streamed_update": ("template/few_samples.h", "for (size_t s = 0; s < n; s++) {",
                        "for (size_t s = 0; s <= n; s++) {"),
    "online": ("template/online.h", "at + AHEAD < run->end", "at + AHEAD < x->rows"),
}  # fmt: skip


# One instruction set is enough for these, and sooner compiled.
SCALAR = {"kernels": "kernels_scalar.c", "flags": "-DFGD_SCALAR_ONLY"}


def test_the_program_of_guarded_arrays_runs_with_the_core_as_it_is(tmp_path):
    done = guarded_program(tmp_path, ROOT / "csrc", "3", **SCALAR)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("nothing beyond an array\n")


def broken_core(kernel):
    """Return the file that a kernel of BROKEN is in, and its text with the kernel broken."""
    name, right, wrong = BROKEN[kernel]
    text = (ROOT / "csrc" / name).read_text()
    count = text.count(right)
    assert count == 1, f"{name}: what is to be broken is there {count} times"
    return name, text.replace(right, wrong)


@pytest.mark.parametrize("kernel", BROKEN)
def test_what_is_broken_on_purpose_is_still_in_the_core(kernel):
    broken_core(kernel)  # asserts it


@pytest.mark.grid
@pytest.mark.parametrize("kernel", BROKEN)
def test_an_element_too_far_ends_the_program(kernel, tmp_path):
    core = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", core)
    name, text = broken_core(kernel)
    (core / name).write_text(text)
    done = guarded_program(tmp_path, core, "20", **SCALAR)
    assert done.returncode == 3
    assert "access to guarded memory" in done.stdout
