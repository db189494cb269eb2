"""Programs of tests/c: how a test compiles and runs one."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def compile_library(folder, source):
    """Compile a file of tests/c as a shared library, and load it."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    library = folder / f"{Path(source).stem}.so"
    flags = ["-std=c11", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Icsrc"]
    command = [compiler, *flags, f"tests/c/{source}", "-o", str(library)]
    subprocess.run(command, cwd=ROOT, check=True)
    return ctypes.CDLL(str(library))


def compile_and_run(tmp_path, flags, *sources, arguments=(), timeout=300, env=None):
    """Compile a program of tests/c and run it."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    binary = tmp_path / "test"
    flags = f"-std=c11 {flags} -pthread -ffp-contract=off -Wall -Wextra -Werror -Icsrc".split()
    command = [compiler, *flags, f"tests/c/{sources[0]}", *sources[1:], "-lm", "-o", str(binary)]
    subprocess.run(command, cwd=ROOT, check=True)
    # Older sanitizers do not know the address-space layout of newer kernels.
    without = [which, "-R"] if (which := shutil.which("setarch")) else []
    return subprocess.run(
        [*without, str(binary), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | (env or {}),
    )
