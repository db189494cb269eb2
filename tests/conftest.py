"""Set up for every test: packages named in FASTGD_BLOCK cannot be imported; common fixtures.

The tests in test_sklearn_*.py are collected where scikit-learn can be imported, those of its ONNX
converters where skl2onnx can be, those of ONNX where onnx can be.
Those of examples/why_derivatives.py are where matplotlib can be, those of the notebooks where
nbclient can be. Those in test_torch_*.py are where torch can be imported: in the environment of
`make test-torch`.
"""

import signal
import zlib

import block_extras

block_extras.install()

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from fastgd import _kernels  # noqa: E402

# What a script starts in the background ignores Ctrl-C, which tests send to themselves and others.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without scikit-learn, its tests cannot even be imported: test_extras.py has the one that is left.
collect_ignore_glob = [] if block_extras.has("sklearn") else ["test_sklearn_*.py"]
if not block_extras.has("onnx"):
    collect_ignore_glob.append("test_*onnx.py")
elif not block_extras.has("skl2onnx"):
    collect_ignore_glob.append("test_sklearn_onnx.py")
if not block_extras.has("torch"):
    collect_ignore_glob.append("test_torch_*.py")
if not block_extras.has("matplotlib"):
    collect_ignore_glob.append("test_why_derivatives.py")
if not block_extras.has("nbclient"):
    collect_ignore_glob.append("test_notebooks.py")
pytest.register_assert_rewrite("gallery", "sklearn_pairs")


@pytest.fixture(params=_kernels.available_isas())
def isa(request):
    """Run the test on every instruction set of this machine."""
    before = _kernels.active_isa()
    _kernels.set_isa(request.param)
    yield request.param
    _kernels.set_isa(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run the test in both dtypes."""
    return request.param


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name only, whatever the order of the tests."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
