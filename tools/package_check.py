"""Build sdist -> wheel -> empty environment, and see that what was installed works there.

    python tools/package_check.py

Needs `build`, mypy and pyright. The wheel must hold no sources of the compiled parts and stay below
2 MB; a typed program is checked against what was installed, and every public name must have a type.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 2_000_000
MUST_HOLD = ("py.typed", "_kernels.pyi", "_engine.pyi", "data/digits.npz", "data/README.md")
TRIAL = (ROOT / "tools" / "trial.py").read_text()

# Subclasses of scikit-learn's, which has no types.
UNTYPED = ["fastgd.sklearn.MLPClassifier", "fastgd.sklearn.MLPRegressor"]


def run(*command, cwd):
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def check_sdist(path):
    with tarfile.open(path) as file:
        names = file.getnames()
    made = [name for name in names if "/src/fastgd/" in name and name.endswith((".c", ".so"))]
    assert not made, f"generated files in the sdist: {made}"
    for wanted in ("/csrc/fgd_types.h", "/src/fastgd/_kernels.pyx", "/tests/", "/LICENSE"):
        assert any(wanted in name for name in names), f"no {wanted} in the sdist"


def check_wheel(path):
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    sources = [n for n in names if n.endswith((".c", ".h", ".pyx", ".pxd", ".o"))]
    assert not sources, f"sources in the wheel: {sources}"
    assert sum(name.endswith(".so") for name in names) == 2, names
    for wanted in MUST_HOLD:
        assert f"fastgd/{wanted}" in names, f"no {wanted} in the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names), "no licence in the wheel"
    size = path.stat().st_size
    assert size < LIMIT, f"the wheel has {size} bytes"
    print(f"{path.name}: {size} bytes, {len(names)} files")


def check_types(folder):
    """See the installed package as a user's type checkers do."""
    program = shutil.copy(ROOT / "tests" / "typing" / "user_program.py", folder)
    scripts = Path(sys.executable).parent
    python = folder / "env" / "bin" / "python"
    run(python, "-W", "error", program, cwd=folder)
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    run(scripts / "mypy", "--python-executable", python, program, cwd=folder)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    run(scripts / "pyright", "--pythonpath", python, program, cwd=folder)
    # It finds a package through the python that is first on the path.
    env = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [scripts / "pyright", "--verifytypes", "fastgd", "--ignoreexternal", "--outputjson"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [symbol for symbol in symbols if symbol["isExported"]]
    assert len(public) > 400, f"only {len(public)} public names are typed"
    bad = [one["name"] for one in public if not one["isTypeKnown"]]
    assert sorted(bad) == UNTYPED, f"unknown types are of {bad}, not of {UNTYPED}"
    print(f"{len(public) - len(bad)} public names have known types")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # build makes the sdist and then the wheel from the sdist, not from the tree.
        run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        (wheel,) = (folder / "dist").glob("*.whl")
        check_sdist(sdist)
        check_wheel(wheel)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=folder)
        run(python, "-W", "error", "-c", TRIAL, cwd=folder)
        run(folder / "env" / "bin" / "fastgd", "info", cwd=folder)
        check_types(folder)
    print("package check passed")


if __name__ == "__main__":
    main()
