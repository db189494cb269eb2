"""Run the suite with the oldest versions that pyproject.toml allows.

    python tools/oldest.py [--list] [-- arguments for pytest]

Every requirement of the package, its build, its extras and its tests is pinned to its lower bound
in an environment of its own, .venv-oldest, where fastgd is built with the oldest Cython and
setuptools and installed as a wheel. PyTorch is left out: it is large. --list only prints the pins.
"""

import hashlib
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from requirements import of_extras
from sklearn_versions import ROOT, WARNINGS, run

# The requirements of matplotlib 3.9 name no upper limit; beside pyparsing 3.3 it warns.
LIMITS = ["pyparsing<3.3"]

EXTRAS = ("data", "plot", "sklearn", "onnx", "examples", "test")
ENVIRONMENT = ROOT / ".venv-oldest"
FOLDERS = ("csrc", "src")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
MADE = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")


def pins():
    """Return every requirement with its lower bound as its only version."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = settings["project"]
    wanted = [*settings["build-system"]["requires"], *project["dependencies"], *of_extras(EXTRAS)]
    return sorted({pinned(requirement) for requirement in wanted}, key=str.lower)


def pinned(requirement):
    """Return `name>=bound` as `name==bound`; anything else is refused."""
    found = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
    if found is None:
        sys.exit(f"pyproject.toml: {requirement!r} is not of the form name>=version")
    return f"{found[1]}=={found[2]}"


def check_python():
    """Refuse a Python other than the oldest that the package supports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    if "{}.{}".format(*sys.version_info) != oldest:
        sys.exit(
            f"the oldest versions are tested with Python {oldest}, and this is "
            f"{sys.version.split()[0]}. Try: make test-oldest PYTHON=python{oldest}"
        )


def environment(wanted):
    """Return the interpreter of the environment, which is made anew if its recipe has changed."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".made-of"
    built = ENVIRONMENT / ".built-from"
    wanted = [*wanted, *LIMITS]
    made_of = "\n".join([*wanted, sys.version])
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    if not stamp.exists() or stamp.read_text("utf-8") != made_of:
        print(f"Installing {len(wanted)} packages in {ENVIRONMENT.name} ...", flush=True)
        if run(sys.executable, "-m", "venv", "--clear", ENVIRONMENT):
            sys.exit(f"{ENVIRONMENT.name} cannot be made: see above")
        if run(*pip, "install", "-q", *wanted):
            sys.exit(f"pip cannot install {' '.join(wanted)}: see above")
        stamp.write_text(made_of, "utf-8")
    built_from = fingerprint()
    if built.exists() and built.read_text("utf-8") == built_from:
        return python
    # From a copy, so that nothing that another Cython has made in the clone is used.
    with tempfile.TemporaryDirectory() as folder:
        for name in FOLDERS:
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=MADE)
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        if run(*pip, "install", "-q", "--no-build-isolation", "--no-deps", folder):
            sys.exit("fastgd cannot be built: see above")
    built.write_text(built_from, "utf-8")
    return python


def fingerprint():
    """Return a hash of all that fastgd is built from."""
    digest = hashlib.sha256()
    made = {path for folder in FOLDERS for path in (ROOT / folder).glob("**/*") if path.is_file()}
    for path in sorted({*made, *(ROOT / name for name in FILES)}):
        if not MADE(str(path.parent), path.relative_to(ROOT).parts):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def main():
    options = sys.argv[1:]
    wanted = pins()
    if options[:1] == ["--list"]:
        print(*wanted, sep="\n")
        return
    check_python()
    python = environment(wanted)
    filters = "filterwarnings=" + "\n".join(WARNINGS)
    sys.exit(run(python, "-m", "pytest", "-o", filters, *options[options[:1] == ["--"] :]))


if __name__ == "__main__":
    main()
