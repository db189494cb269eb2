"""fastgd: train dense networks on the CPU, fast, with arithmetic that is checked on your machine.

The names below are the public ones. Modules that training does not need are imported when their
name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# _start is imported for what it does, before all that needs the kernels.
from . import _start, _threads, activations, callbacks, losses, metrics, optimizers, schedules  # noqa: F401
from ._errors import ModelFileError, ValidationError
from ._kernels import active_isa, available_isas
from ._training import DivergenceError
from ._version import __version__
from .callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, GradientFlow, ProgressBar
from .config import config, set_isa
from .history import History
from .layers import Dense
from .losses import AbsoluteError, CrossEntropy, Huber, LogLoss, Poisson, SquaredError
from .network import Network
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

if TYPE_CHECKING:
    from . import kernels, reference
    from ._check import check
    from ._explain import Explanation, explain
    from ._flow import GradientFlowReport
    from ._onnx_reader import from_onnx
    from .blocks import Blocks
    from .io import load

__all__ = [
    "SGD",
    "AbsoluteError",
    "Adagrad",
    "Adam",
    "AdamW",
    "Blocks",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "CrossEntropy",
    "Dense",
    "DivergenceError",
    "EarlyStopping",
    "Explanation",
    "GradientFlow",
    "GradientFlowReport",
    "History",
    "Huber",
    "LogLoss",
    "ModelFileError",
    "Network",
    "Poisson",
    "ProgressBar",
    "RMSprop",
    "SquaredError",
    "ValidationError",
    "__version__",
    "activations",
    "active_isa",
    "available_isas",
    "callbacks",
    "check",
    "config",
    "explain",
    "from_onnx",
    "kernels",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "reference",
    "schedules",
    "set_isa",
]

# name -> (module, attribute; None for the module itself)
_LAZY = {
    "Blocks": ("blocks", "Blocks"),
    "Explanation": ("_explain", "Explanation"),
    "GradientFlowReport": ("_flow", "GradientFlowReport"),
    "check": ("_check", "check"),
    "explain": ("_explain", "explain"),
    "from_onnx": ("_onnx_reader", "from_onnx"),
    "kernels": ("kernels", None),
    "load": ("io", "load"),
    "reference": ("reference", None),
    # Of extras, so not among the names that `from fastgd import *` brings.
    "sklearn": ("sklearn", None),
    "torch": ("torch", None),
}


_threads.announce()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fastgd' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    found = import_module(f".{module}", __name__)
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
