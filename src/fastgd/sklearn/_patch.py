"""Put fastgd's estimators in place of scikit-learn's, and back.

Only the public names are exchanged. sklearn.neural_network._multilayer_perceptron keeps the
originals, since that is where pickles of them, old and new, look for their class.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import sklearn.neural_network as _public

from . import _estimators, _originals

__all__ = ["patch", "unpatch"]

_NAMES = ("MLPClassifier", "MLPRegressor")
# What patch has replaced, by name.
_replaced: dict[str, object] = {}


def patch() -> None:
    """Make ``sklearn.neural_network`` give out fastgd's MLPClassifier and MLPRegressor.

    From then on ``from sklearn.neural_network import MLPClassifier``, in whatever module it is
    written, imports fastgd's class. Estimators that exist already stay what they are, and pickles
    of scikit-learn's estimators are read as those. A second call does nothing.

    Warns
    -----
    UserWarning
        If modules, or the program itself, have imported the original classes before: they go on
        using those. The warning names them.

    See Also
    --------
    unpatch : Undo it.

    Notes
    -----
    ``python -m fastgd.sklearn script.py`` patches before the first line of a program runs.
    Processes that are started anew rather than forked begin without the patch, but estimators
    that are sent to them are fastgd's.

    Examples
    --------
    >>> import fastgd.sklearn
    >>> fastgd.sklearn.patch()
    >>> from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier is fastgd.sklearn.MLPClassifier
    True
    >>> fastgd.sklearn.unpatch()
    >>> from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier is fastgd.sklearn.MLPClassifier
    False
    """
    if _replaced:
        return
    for name in _NAMES:
        _replaced[name] = getattr(_public, name)
        setattr(_public, name, getattr(_estimators, name))
    early = _importers()
    if early:
        warnings.warn(
            "these modules imported scikit-learn's classes before fastgd.sklearn.patch() was "
            f"called, and go on using them: {', '.join(early)}. Call patch() before they are "
            "imported, or run the program by `python -m fastgd.sklearn`.",
            stacklevel=2,
        )


def unpatch() -> None:
    """Give ``sklearn.neural_network`` back what `patch` replaced; without a patch, do nothing.

    Names that something else has replaced since then are left alone.

    Examples
    --------
    >>> import sklearn.neural_network
    >>> import fastgd.sklearn
    >>> original = sklearn.neural_network.MLPRegressor
    >>> fastgd.sklearn.patch()
    >>> fastgd.sklearn.unpatch()
    >>> sklearn.neural_network.MLPRegressor is original
    True
    """
    for name, original in _replaced.items():
        if getattr(_public, name) is getattr(_estimators, name):
            setattr(_public, name, original)
    _replaced.clear()


def _importers() -> list[str]:
    """Return the modules that hold an original class under a name of their own, and which."""
    originals = [getattr(_originals, name) for name in _NAMES]
    found, seen = [], set()
    for name, module in sorted(sys.modules.items()):
        ours = f"{name}.".startswith(("sklearn.", f"{__package__}."))
        # multiprocessing has the main module under a second name.
        if ours or not isinstance(module, ModuleType) or id(module) in seen:
            continue
        seen.add(id(module))
        # Asked for in the usual way, a module that is to be loaded later would be loaded now.
        values = list(object.__getattribute__(module, "__dict__").values())
        held = [cls.__name__ for cls in originals if any(value is cls for value in values)]
        if held:
            found.append(f"{name} ({', '.join(held)})")
    return found
