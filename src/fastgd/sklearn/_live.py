"""The network behind a fitted estimator: its coefs_ and intercepts_ are live views of its weights.

Whoever replaces those arrays, or changes a parameter that the network depends on, gets a new one
from the same estimator; nothing needs to be told.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .._validate import real_array
from ..network import Network
from ..optimizers import Optimizer
from . import _conversion, _settings

__all__ = ["kept_state", "live_network", "outputs", "settings_of"]


Kept: TypeAlias = tuple[Optimizer, int, dict[str, list[Any]]]


class Live:
    """A network, the arrays that show its weights, and the settings it was made from."""

    __slots__ = ("arrays", "network", "ready", "settings")

    def __init__(self, network: Network, arrays: list[Any], settings: tuple[Any, ...]) -> None:
        self.network = network
        self.arrays = arrays
        self.settings = settings
        #: with what a plain step was done last, as `_stochastic.readiness` has it
        self.ready: tuple[Any, ...] | None = None

    def shows(self, estimator: Any) -> bool:
        """Tell whether the estimator's arrays are still the live ones."""
        arrays = [*estimator.coefs_, *estimator.intercepts_]
        return len(arrays) == len(self.arrays) and all(map(_is, arrays, self.arrays))


def _is(left: object, right: object) -> bool:
    return left is right


def settings_of(estimator: Any) -> tuple[Any, ...]:
    # What decides about the network besides the weights' shapes. The optimiser's settings do not:
    # as in scikit-learn, they hold from one fit, or first partial_fit, to the next fit.
    return (
        estimator.activation,
        estimator.out_activation_,
        estimator.loss,
        estimator.alpha,
        estimator.batch_size,
        estimator.dropout,
    )


def live_network(estimator: Any, dtype: np.dtype[Any] | None = None) -> Network:
    """Return the network whose weights the estimator's coefs_ and intercepts_ are.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        With coefs_, intercepts_, out_activation_ and n_outputs_.
    dtype : dtype, optional
        Of the network; by default that of the arrays.

    Notes
    -----
    If the network is made anew, the arrays are replaced by live views, and the optimiser and its
    state go on where the shapes allow it.
    """
    live: Live | None = estimator.__dict__.get("_live")
    settings = settings_of(estimator)
    if (
        live is not None
        and live.settings == settings
        and live.shows(estimator)
        and (dtype is None or live.network.dtype == dtype)
    ):
        return live.network
    kept = estimator.__dict__.pop("_state", None)
    if live is not None:
        kept = kept_state(live.network)
    network = _network(estimator, dtype, None if kept is None else kept[0])
    if kept is not None:
        _put_state(network, kept)
    engine = network._live()
    coefs = [engine.weight(i) for i in range(engine.n_layers)]
    intercepts = [engine.bias(i) for i in range(engine.n_layers)]
    estimator.coefs_, estimator.intercepts_ = coefs, intercepts
    estimator._live = Live(network, [*coefs, *intercepts], settings)
    return network


def _network(estimator: Any, dtype: np.dtype[Any] | None, optimizer: Optimizer | None) -> Network:
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    if dtype is None:
        is_single = all(array.dtype == np.float32 for array in (*coefs, *intercepts))
        dtype = np.dtype(np.float32 if is_single else np.float64)
    # Drawing first weights would be in vain.
    layers = _conversion.layers(estimator, weight_init="zeros")
    loss = _settings.loss_of(estimator, dtype)
    if optimizer is None and estimator.solver != "lbfgs":
        optimizer = _settings.optimizer_of(estimator)
    network = Network(layers, loss, optimizer or "sgd", n_inputs=coefs[0].shape[0], dtype=dtype)
    engine = network._live()
    keep_account(estimator, network)
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        engine.weight(i)[...] = W
        bias = engine.bias(i)
        assert bias is not None
        bias[...] = b
    return network


def keep_account(estimator: Any, network: Network) -> None:
    """Let losses and penalties be those of scikit-learn."""
    engine = network._live()
    engine.set_account("sklearn", _settings.loss_scale(estimator))
    engine.set_penalties([0.0] * engine.n_layers, [float(estimator.alpha)] * engine.n_layers)


def kept_state(network: Network) -> Kept:
    """Return the optimiser, its step count and copies of its arrays."""
    engine = network._live()
    state = {
        name: [np.array(array, order="C") for pair in pairs for array in pair]
        for name, pairs in engine.optimizer_state().items()
    }
    return network.optimizer, engine.step, state


def _put_state(network: Network, kept: Kept) -> None:
    """Let the optimiser go on from `kept_state`, if that is one of the same shapes."""
    engine = network._live()
    _, step, state = kept
    views: dict[str, list[Any]] = {
        name: [array for pair in pairs for array in pair]
        for name, pairs in engine.optimizer_state().items()
    }
    if _shapes(views) != _shapes(state):
        return
    engine.step = step
    for name, arrays in views.items():
        for array, values in zip(arrays, state[name], strict=True):
            array[...] = values


def _shapes(state: dict[str, list[Any]]) -> dict[str, list[tuple[int, ...]]]:
    return {name: [array.shape for array in arrays] for name, arrays in state.items()}


def restart_optimizer(estimator: Any, network: Network) -> None:
    """Begin with zeroed states and step 0, with the optimiser that the parameters ask for now."""
    optimizer = _settings.optimizer_of(estimator)
    engine = network._live()
    network._optimizer = optimizer
    engine.set_optimizer(optimizer.name, optimizer.params())
    engine.step = 0


def outputs(estimator: Any, X: Any) -> Any:
    """Return the outputs (n_samples, n_outputs_) for X that is checked already, dense or CSR."""
    network = live_network(estimator)
    engine = network._live()
    network._check_weights()
    network._use_threads(_settings.n_threads_of(estimator))
    out = np.empty((X.shape[0], network.n_outputs), network.dtype)
    for rows in row_blocks(X):
        engine.predict(real_array("X", dense(X, rows)), out[rows])
    # As NumPy's product of X and the weights.
    return out.astype(np.result_type(X.dtype, network.dtype), copy=False)


#: sparse rows are made dense in blocks of at most this many bytes
BLOCK_BYTES = 8 << 20


def is_sparse(X: Any) -> bool:
    """Tell whether X is one of scipy's sparse containers."""
    return not isinstance(X, np.ndarray)


def row_blocks(X: Any, unit: int = 1) -> list[slice]:
    """Return slices that cover the rows: one if X is dense, else blocks of bounded memory.

    unit: the number of rows in a block is a multiple of it, but for the last block.
    """
    n, width = X.shape
    if not is_sparse(X):
        return [slice(0, n)]
    size = max(1, BLOCK_BYTES // (max(1, width) * X.dtype.itemsize * unit)) * unit
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def dense(X: Any, rows: Any) -> Any:
    """Return these rows as an ndarray."""
    return X[rows].toarray() if is_sparse(X) else X[rows]
