"""The C core by itself, without Python: accuracy, rules and equal bits of all instruction sets."""

import pytest

from c_programs import ROOT, compile_and_run


@pytest.mark.grid
@pytest.mark.parametrize("name", ["test_math", "test_rules"])
def test_c_core_stays_within_its_bounds(name, tmp_path):
    kernels = map(str, sorted((ROOT / "csrc").glob("kernels_*.c")))
    done = compile_and_run(tmp_path, "-O2", f"{name}.c", *kernels)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
