"""Builds in environments of their own, with sanitizers, counters or faults.

Each has a copy of the sources in it, so that what is built in place stays as it is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "csrc",
    "src/fastgd",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)
EXTRAS = ("data", "plot", "sklearn", "onnx", "examples", "test")


class Failed(Exception):
    """Something that the run needs is missing or could not be made."""


class Build(NamedTuple):
    """The folder of an environment, the variables of its build, extras beside those of the tests,
    packages that it is to do without, and what is copied."""

    folder: Path
    switches: dict[str, str]
    extras: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    copied: tuple[str, ...] = SOURCES

    @property
    def python(self):
        return self.folder / "bin" / "python"

    @property
    def source(self):
        return self.folder / "source"

    @property
    def stamp(self):
        return self.folder / ".built"

    def is_up_to_date(self):
        """Return whether the build is that of the copied sources."""
        return self.stamp.exists() and self.stamp.read_text("utf-8") == self.made_of()

    def make(self):
        """Make the environment and build the package in it, where something has changed."""
        need_gcc()
        self.folder.mkdir(exist_ok=True)
        if not self.python.exists():
            print(f"Making {self.folder.name} ...", flush=True)
            run(sys.executable, "-m", "venv", self.folder)
        self.copy_sources()
        if self.is_up_to_date():
            return
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        wanted = subprocess.check_output(
            [sys.executable, ROOT / "tools" / "requirements.py", *EXTRAS, *self.extras], text=True
        )
        shown = " ".join(f"{name}={value}" for name, value in self.switches.items())
        print(f"Building fastgd with {shown}, which takes some minutes ...", flush=True)
        run(*pip, *(line for line in wanted.split("\n")[:-1] if not line.startswith(self.without)))
        run(*pip, "-e", self.source, env={"CC": "gcc"} | os.environ | self.switches)
        self.stamp.write_text(self.made_of(), "utf-8")

    def copy_sources(self):
        """Bring the copy of the sources up to date; times of files that are equal stay."""
        for name in self.copied:
            at, copy = ROOT / name, self.source / name
            files = [path for path in at.rglob("*") if path.is_file()] if at.is_dir() else [at]
            for path in files:
                target = copy / path.relative_to(at) if at.is_dir() else copy
                is_built = path.suffix == ".c" and name == "src/fastgd"
                if is_built or path.suffix in (".so", ".pyc"):
                    continue
                if target.exists() and target.read_bytes() == path.read_bytes():
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def made_of(self):
        """Return a digest of all that the build depends on."""
        parts_of_it = self.switches, EXTRAS, self.extras, self.without, sys.version
        digest = hashlib.sha256(repr(parts_of_it).encode())
        compiled = (".c", ".h", ".pyx", ".pxd", ".toml")
        for path in sorted(self.source.rglob("*")):
            parts = path.relative_to(self.source).parts
            is_built = "build" in parts or (path.suffix == ".c" and parts[0] != "csrc")
            if parts[0] == "tests":
                continue
            if path.name == "setup.py" or (path.suffix in compiled and not is_built):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def need_gcc():
    """Say so if gcc is missing."""
    if shutil.which("gcc") is None:
        raise Failed("gcc is missing. Debian: apt-get install gcc libc6-dev")


def run(*command, env=None):
    """Run a command that must succeed."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=False)
    if done.returncode:
        raise Failed(f"failed: {' '.join(map(str, command))}")


def test_files(chosen, not_run):
    """Return the chosen files of tests, or all but those whose names begin so."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    unknown = set(chosen) - {path.stem for path in files}
    if unknown:
        raise Failed(f"--only: there is no tests/{sorted(unknown)[0]}.py")
    if chosen:
        return [path for path in files if path.stem in chosen]
    return [path for path in files if not path.name.startswith(not_run)]
