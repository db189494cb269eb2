"""The C core by itself, without Python: accuracy, rules and equal bits of all instruction sets."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.grid
@pytest.mark.parametrize("name", ["test_math", "test_rules"])
def test_c_core_stays_within_its_bounds(name, tmp_path):
    compiler = os.environ.get("CC") or shutil.which("gcc") or "clang"
    kernels = map(str, sorted((ROOT / "csrc").glob("kernels_*.c")))
    flags = ["-O2", "-std=gnu11", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
    sources = [str(ROOT / "tests" / "c" / f"{name}.c"), *kernels]
    binary = str(tmp_path / name)
    subprocess.run([compiler, *flags, *sources, "-lm", "-o", binary], check=True)
    done = subprocess.run([binary], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
