"""The C core by itself, without Python: accuracy, rules and equal bits of all instruction sets."""

import platform
import subprocess

import pytest

from c_programs import ROOT, compile_and_run
from fastgd import _kernels


@pytest.mark.grid
@pytest.mark.parametrize("name", ["test_math", "test_rules"])
def test_c_core_stays_within_its_bounds(name, tmp_path):
    kernels = map(str, sorted((ROOT / "csrc").glob("kernels_*.c")))
    done = compile_and_run(tmp_path, "-O2", f"{name}.c", *kernels)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]


def test_digests_of_every_instruction_set_are_those_of_all_machines(tmp_path):
    """Unoptimised, which compiles soonest; `tools/digests.py` has optimised builds, and others."""
    sources = map(str, sorted((ROOT / "csrc").glob("*.c")))
    expected = (ROOT / "tests" / "c" / "digests.txt").read_text()
    compile_and_run(tmp_path, "-O0", "digests.c", *sources)
    for isa in _kernels.available_isas():
        done = subprocess.run([tmp_path / "test", isa], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, f"isa {isa}\n")
        assert done.stdout == expected


def test_networks_do_without_memory_that_they_do_not_get(tmp_path):
    """The linker leads allocations to functions of the program, which fail one after the other."""
    sources = map(str, sorted((ROOT / "csrc").glob("*.c")))
    wrapped = ",".join(f"--wrap={name}" for name in ("calloc", "realloc", "posix_memalign", "free"))
    flags = f"-O0 -Wl,{wrapped}"
    done = compile_and_run(tmp_path, flags, "test_memory.c", *sources)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert int(done.stdout.split()[0]) > 100


def test_rows_are_asked_for_ahead_each_once_and_no_others(tmp_path):
    """The program includes the network's file, to see what that asks for."""
    sources = [str(path) for path in (ROOT / "csrc").glob("*.c") if path.name != "fgd_net.c"]
    done = compile_and_run(tmp_path, "-O0", "test_ahead.c", *sources)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("tunables", ["", "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2"])
def test_fma_of_plain_c_is_exact_where_denormals_count_as_zero(tunables, tmp_path):
    """Also with the fma() that glibc has for processors without the instruction."""
    done = compile_and_run(
        tmp_path, "-O2", "test_fma.c", "csrc/fgd_cpu.c", env={"GLIBC_TUNABLES": tunables}
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    if tunables and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc":
        # Otherwise the second run would show no more than the first.
        assert int(done.stdout.split()[-1]) > 1000
