"""What is left of the parts that need optional packages where these cannot be imported."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fastgd
from block_extras import has


def test_fastgd_does_not_import_scikit_learn():
    code = (
        "import fastgd, sys; sys.exit(any(m.partition('.')[0] == 'sklearn' for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "package"), [("sklearn", "sklearn"), ("torch", "torch")])
def test_modules_of_extras_need_no_import_of_their_own(name, package):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import block_extras
block_extras.install()
import fastgd
print(fastgd.{name}.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if has(package):
        assert done.stdout == f"fastgd.{name}\n", done.stderr
    else:
        assert f"pip install 'fastgd[{name}]'" in done.stderr


def test_torch_says_how_to_install_what_it_needs(monkeypatch):
    """Also where PyTorch is there: it is taken away for the test."""
    for name in [*sys.modules]:
        if name.startswith("fastgd.torch"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"\(torch\): pip install 'fastgd\[torch\]'$"):
        importlib.import_module("fastgd.torch")


def test_drop_in_says_how_to_install_what_it_needs(monkeypatch):
    """Also where scikit-learn is there: it is taken away for the test."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == "sklearn" or name.startswith("fastgd.sklearn"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'fastgd\[sklearn\]'$"):
        importlib.import_module("fastgd.sklearn")


def test_onnx_says_how_to_install_what_it_needs(monkeypatch, tmp_path):
    """Also where onnx is there: it is taken away for the test."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = tmp_path / "model.onnx"
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=1)
    command = r"needs onnx; install it with: pip install 'fastgd\[onnx\]'$"
    with pytest.raises(ImportError, match=f"^to_onnx {command}"):
        net.to_onnx(path)
    assert not path.exists()
    with pytest.raises(ImportError, match=f"^from_onnx {command}"):
        fastgd.from_onnx(path)
