"""The network behind a fitted estimator: its coefs_ and intercepts_ are live views of its weights.

Whoever replaces those arrays, or changes a parameter that the network depends on, gets a new one
from the same estimator; nothing needs to be told.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .. import losses
from .._threads import fork_safe_lock
from .._validate import real_array
from ..layers import Dense
from ..network import Network
from ..optimizers import Optimizer
from . import _conversion, _settings

__all__ = [
    "Live",
    "check_idle",
    "check_range",
    "dense",
    "dtype_of",
    "is_sparse",
    "keep_account",
    "live_network",
    "outputs",
    "restart_optimizer",
    "row_blocks",
    "trained_network",
]


Kept: TypeAlias = tuple[Optimizer, int, dict[str, list[Any]]]

# Held while a network is made: several threads may predict at once.
_lock = fork_safe_lock()
# A loss of which each output activation is the canonical one: predictions need no other.
_ANY_LOSS = {
    "identity": "squared_error",
    "exp": "poisson",
    "logistic": "log_loss",
    "softmax": "cross_entropy",
}


class Live:
    """A network, the arrays that show its weights, and the settings that it was given.

    A fitted estimator has one, unless it was put together by hand; before the first use it is
    without a network.
    """

    __slots__ = ("arrays", "kept", "network", "ready", "settings", "training")

    def __init__(
        self,
        network: Network | None = None,
        arrays: list[Any] | None = None,
        settings: tuple[Any, ...] | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.network = network
        self.arrays = arrays or []
        self.settings = settings
        #: the optimiser that training goes on with, unless it is in the network already
        self.kept = kept
        #: the parameters of training that the network was given
        self.training: tuple[Any, ...] | None = None
        #: with what a plain step was done last, as `_stochastic.readiness` has it
        self.ready: tuple[Any, ...] | None = None

    def shows(self, estimator: Any) -> bool:
        """Tell whether the estimator's arrays are still the live ones."""
        arrays = [*estimator.coefs_, *estimator.intercepts_]
        return len(arrays) == len(self.arrays) and all(map(_is, arrays, self.arrays))

    def state(self, with_arrays: bool) -> Kept | None:
        """Return the optimiser to go on with, its step count and copies of its arrays.

        Without the arrays it begins anew, with the settings that it has.
        """
        kept = self.kept
        if kept is None and self.network is not None:
            engine = self.network._live()
            pairs = engine.optimizer_state() if with_arrays else {}
            arrays = {
                name: [np.array(array, order="C") for pair in pairs[name] for array in pair]
                for name in pairs
            }
            kept = self.network.optimizer, engine.step, arrays
        return kept if kept is None or with_arrays else (kept[0], 0, {})


def _is(left: object, right: object) -> bool:
    return left is right


def _frozen(value: Any) -> Any:
    # A list is the user's, who may change it.
    return tuple(value) if isinstance(value, list) else value


def live_network(estimator: Any, dtype: np.dtype[Any] | None = None) -> Network:
    """Return the network whose weights the estimator's coefs_ and intercepts_ are.

    It is one to predict with: see `trained_network`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        With coefs_, intercepts_ and out_activation_.
    dtype : dtype, optional
        Of the network; by default that of the arrays.

    Notes
    -----
    If the network is made anew, the arrays are replaced by live views.
    """
    settings = _frozen(estimator.activation), estimator.out_activation_
    found = _fitting(estimator, settings, dtype)
    if found is not None:
        return found
    with _lock:
        # Another thread may have made it by now.
        found = _fitting(estimator, settings, dtype)
        if found is not None:
            return found
        network = _network(estimator, dtype)
        engine = network._live()
        coefs = [engine.weight(i) for i in range(engine.n_layers)]
        intercepts = [engine.bias(i) for i in range(engine.n_layers)]
        live: Live | None = estimator.__dict__.get("_live")
        kept = None if live is None else live.state(with_arrays=True)
        # Others may be iterating over the attributes, of which none is new.
        estimator.coefs_, estimator.intercepts_ = coefs, intercepts
        estimator._live = Live(network, [*coefs, *intercepts], settings, kept)
        return network


def _fitting(
    estimator: Any, settings: tuple[Any, ...], dtype: np.dtype[Any] | None
) -> Network | None:
    live: Live | None = estimator.__dict__.get("_live")
    if (
        live is not None
        and live.network is not None
        and live.settings == settings
        and live.shows(estimator)
        and (dtype is None or live.network.dtype == dtype)
    ):
        return live.network
    return None


def dtype_of(estimator: Any) -> np.dtype[Any]:
    """Return the dtype of a network that shows the estimator's arrays."""
    arrays = (*estimator.coefs_, *estimator.intercepts_)
    is_single = all(array.dtype == np.float32 for array in arrays)
    return np.dtype(np.float32 if is_single else np.float64)


def _network(estimator: Any, dtype: np.dtype[Any] | None) -> Network:
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    if dtype is None:
        dtype = dtype_of(estimator)
    activations = _conversion.activations_of(estimator)
    layers = [
        # Drawing first weights would be in vain.
        Dense(len(b), activation, weight_init="zeros")
        for b, activation in zip(intercepts, activations, strict=True)
    ]
    loss = _ANY_LOSS[estimator.out_activation_]
    network = Network(layers, loss, n_inputs=coefs[0].shape[0], dtype=dtype)
    engine = network._live()
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        engine.weight(i)[...] = W
        bias = engine.bias(i)
        assert bias is not None
        bias[...] = b
    return network


def check_idle(estimator: Any) -> None:
    """Refuse to train an estimator whose network is being trained, as from one of its callbacks."""
    live: Live | None = estimator.__dict__.get("_live")
    if live is not None and live.network is not None:
        live.network._fitting.check()


def trained_network(estimator: Any, dtype: np.dtype[Any] | None = None) -> Network:
    """Return the live network with all that the parameters of training ask for.

    The optimiser's settings are not among them: as in scikit-learn, they hold from one fit, or
    first partial_fit, to the next fit.  It goes on where it was, if the shapes allow it.
    """
    network = live_network(estimator, dtype)
    live: Live = estimator._live
    training = (
        estimator.loss,
        estimator.alpha,
        estimator.batch_size,
        _frozen(estimator.dropout),
    )
    if live.training != training:
        live.training = None  # if Ctrl-C comes meanwhile
        _prepare(estimator, network)
        live.training = training
    if live.kept is not None:
        _put_state(network, live.kept)
        live.kept = None
    # Until the step to come turns out to be a plain one.
    live.ready = None
    # A step by itself, as from a callback, is to find out that the network is being fitted.
    network._short = None
    return network


def _prepare(estimator: Any, network: Network) -> None:
    """Give the network the loss, penalties and dropout of the estimator."""
    engine = network._live()
    loss = losses.get(_settings.loss_of(estimator, network.dtype))
    assert isinstance(loss, losses.Loss)
    layers = _conversion.layers(estimator)
    network._loss, network._loss_name = loss, losses.kind_of(loss)
    network._layers = tuple(
        layer._bound(engine, i, layer.activation)
        for i, layer in enumerate(layers)
        if layer.activation is not None
    )
    network.metadata.update(_conversion.metadata(estimator))
    engine.set_loss(network.loss_name, loss.param)
    engine.set_dropout([layer.dropout for layer in layers])
    keep_account(estimator, network)


def keep_account(estimator: Any, network: Network) -> None:
    """Let losses and penalties be those of scikit-learn."""
    engine = network._live()
    engine.set_account("sklearn", _settings.loss_scale(estimator))
    engine.set_penalties([0.0] * engine.n_layers, [float(estimator.alpha)] * engine.n_layers)


def _put_state(network: Network, kept: Kept) -> None:
    """Let the optimiser go on from `Live.state`; without arrays of its shapes it begins anew."""
    engine = network._live()
    optimizer, step, state = kept
    network.optimizer = optimizer
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


def outputs(estimator: Any, X: Any) -> Any:
    """Return the outputs (n_samples, n_outputs_) for X that is checked already, dense or CSR.

    None if X in the network's dtype is not finite.
    """
    network = live_network(estimator)
    engine = network._live()
    network._check_weights()
    network._use_threads(_settings.n_threads_of(estimator))
    out = np.empty((X.shape[0], network.n_outputs), network.dtype)
    for rows in row_blocks(X):
        if not engine.predict(real_array("X", dense(X, rows)), out[rows]):
            return None
    if estimator.dtype is not None:
        return out
    # As NumPy's product of X and the weights.
    return out.astype(np.result_type(X.dtype, network.dtype), copy=False)


def check_range(name: str, array: Any, dtype: np.dtype[Any]) -> None:
    """Refuse numbers of an array, dense or CSR, that are beyond the range of a narrower dtype."""
    numbers = array.data if is_sparse(array) else array
    if numbers.dtype.kind != "f" or numbers.dtype.itemsize <= dtype.itemsize or not numbers.size:
        return
    most = np.finfo(dtype).max
    # NaN, which scikit-learn can be told to let pass, is not greater.
    if max(numbers.max(), -numbers.min()) > most:
        place = tuple(int(indices[0]) for indices in (abs(array) > most).nonzero())
        where = f"{name}[{', '.join(map(str, place))}]"
        raise ValueError(f"{where} is {array[place]!s}, beyond the range of {dtype}")


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
