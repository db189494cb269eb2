"""scikit-learn's MLPClassifier and MLPRegressor on fastgd's engine.

Change one import, or none: `patch` puts them in place of the originals.
"""

from __future__ import annotations

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "fastgd.sklearn needs scikit-learn: pip install 'fastgd[sklearn]'"
    ) from _error

from . import _onnx
from ._display import LossCurveDisplay
from ._estimators import MLPClassifier, MLPRegressor
from ._patch import patch, unpatch

__all__ = ["LossCurveDisplay", "MLPClassifier", "MLPRegressor", "patch", "unpatch"]

for _class in (MLPClassifier, MLPRegressor, LossCurveDisplay):
    _class.__module__ = __name__

_onnx.announce()
