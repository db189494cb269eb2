"""Train PyTorch modules in place with fastgd's engine, and turn them into networks and back.

`fit` takes the place of a training loop: module, loss and optimiser stay PyTorch's own objects, and
a program can go on with them afterwards.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError("fastgd.torch needs PyTorch (torch): pip install 'fastgd[torch]'") from _error

from ._conversion import from_module, to_module
from ._fit import fit

__all__ = ["fit", "from_module", "to_module"]

for _function in (fit, from_module, to_module):
    _function.__module__ = __name__
