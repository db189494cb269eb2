"""What the packaging files say, as far as it can be seen without a build."""

import importlib.metadata
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest

import fastgd

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_version_is_the_same_everywhere():
    assert importlib.metadata.version("fastgd") == fastgd.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{fastgd.__version__}]" in changelog


def test_licence_is_stated_and_there():
    assert PROJECT["project"]["license"] == "BSD-3-Clause"
    assert importlib.metadata.metadata("fastgd")["License-Expression"] == "BSD-3-Clause"
    assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text()
    data = (ROOT / "src" / "fastgd" / "data" / "README.md").read_text()
    assert "CC BY 4.0" in data
    assert "10.24432/C50P49" in data


def test_hard_dependencies_are_three():
    names = {re.split(r"[<>=]", text)[0] for text in PROJECT["project"]["dependencies"]}
    assert names == {"numpy", "safetensors", "tqdm"}


def test_package_data_is_installed():
    package = Path(fastgd.__file__).parent
    for name in ("py.typed", "_kernels.pyi", "_engine.pyi", "data/digits.npz", "data/README.md"):
        assert (package / name).is_file(), name


def test_console_script_is_the_command_line():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="fastgd")
    from fastgd import cli

    assert script.load() is cli.main


@pytest.mark.parametrize("package", ["pyarrow", "matplotlib", "sklearn", "torch", "onnx"])
def test_import_takes_no_optional_package(package):
    code = f"import fastgd, sys; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_import_loads_no_module_that_training_does_not_need():
    code = "import sys, fastgd; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    for name in ("tqdm", "safetensors", "argparse", "importlib.metadata", "subprocess"):
        assert name not in loaded, name
    for name in (
        "cli",
        "reference",
        "kernels",
        "io",
        "tables",
        "preprocess",
        "datasets",
        "_explain",
        "_flow",
        "_html",
        "_plots",
    ):
        assert f"fastgd.{name}" not in loaded, name


def test_build_flags_keep_the_arithmetic_portable():
    from fastgd import _kernels

    flags = _kernels.build_info()["flags"].split()
    assert "-ffp-contract=off" in flags
    assert not [f for f in flags if f.startswith(("-march", "-mtune", "-ffast", "-Ofast"))]


def test_makefile_names_each_command_once():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):.*##", makefile, re.M)
    assert len(targets) == len(set(targets))
    assert {"demo", "test", "lint", "bench", "package-check", "test-arm64"} <= set(targets)


def test_typed_program_of_a_user_runs():
    """`make lint` and `make package-check` have mypy and pyright look at it."""
    program = ROOT / "tests" / "typing" / "user_program.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("layer  shape     activation  parameters")
    assert "gradient of the kernels 50.508\n" in done.stdout


def test_requirements_of_extras_are_those_of_the_project():
    found = subprocess.run(
        [sys.executable, ROOT / "tools" / "requirements.py", "all", "plot"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    extras = PROJECT["project"]["optional-dependencies"]
    names = ("data", "plot", "sklearn", "onnx", "torch")
    assert found == [one for name in names for one in extras[name]]


def setup_script(monkeypatch):
    """Run setup.py without a build, and without the packages of one; return its names."""
    for name in ("Cython", "Cython.Build", "setuptools", "setuptools.command.build_ext"):
        monkeypatch.setitem(sys.modules, name, mock.MagicMock(build_ext=object))
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "setup.py"))


class Compiler:
    """As setuptools' for Windows, before it has looked for Microsoft's tools."""

    initialized = False
    cc = "cl.exe"

    def initialize(self):
        self.initialized = True


@pytest.mark.parametrize("name", ["cl.exe", "no-such-compiler"])
def test_windows_needs_clang_cl(name, monkeypatch):
    names = setup_script(monkeypatch)
    monkeypatch.setenv("CC", name)
    with pytest.raises(SystemExit, match=r"needs clang-cl on Windows, and '.*' is not that"):
        names["use_clang_cl"](Compiler())


def test_windows_is_compiled_by_clang_cl(tmp_path, monkeypatch):
    names = setup_script(monkeypatch)
    path = tmp_path / "clang-cl.exe"
    path.touch(mode=0o755)
    monkeypatch.setenv("CC", str(path))
    compiler = Compiler()
    names["use_clang_cl"](compiler)
    assert (compiler.initialized, compiler.cc) == (True, str(path))


def test_wheels_are_built_for_the_pythons_that_are_declared():
    declared = [
        text.rpartition(" ")[2].replace(".", "")
        for text in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", text)
    ]
    assert PROJECT["tool"]["cibuildwheel"]["build"].split() == [f"cp{n}-*" for n in declared]


def test_modules_do_not_claim_to_be_safe_without_the_interpreters_lock():
    """Where nothing is claimed, a free-threaded Python takes its lock back, and warns."""
    assert "freethreading_compatible" not in (ROOT / "setup.py").read_text()
    for path in (ROOT / "src" / "fastgd").glob("*.pyx"):
        assert "freethreading_compatible" not in path.read_text()


def test_every_requirement_has_a_lower_bound():
    """`make test-oldest` installs those of the package, its build, its extras and its tests."""
    found = subprocess.run(
        [sys.executable, ROOT / "tools" / "oldest.py", "--list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in found)
    names = {pin.partition("==")[0] for pin in found}
    assert {"numpy", "safetensors", "Cython", "pyarrow", "onnx", "scikit-learn"} <= names
    every = [one for part in PROJECT["project"]["optional-dependencies"].values() for one in part]
    for requirement in [*PROJECT["project"]["dependencies"], *every]:
        assert requirement.startswith("fastgd[") or ">=" in requirement, requirement


def test_security_policy_is_in_the_sdist():
    assert "SECURITY.md" in (ROOT / "MANIFEST.in").read_text().split()
