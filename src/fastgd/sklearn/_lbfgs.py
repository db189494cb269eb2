"""The solver "lbfgs": scipy's L-BFGS-B over the engine's loss and gradient."""

from __future__ import annotations

import inspect
import time
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize

from .._engine import Divergence
from .._training import Data
from ..history import History
from . import _live, _originals, _refusals, _settings
from ._callbacks import watchers
from ._stochastic import NO_WEIGHT, deviance_at_best, take

if TYPE_CHECKING:
    from ..network import Network

__all__ = ["fit"]

# Samples whose gradient is computed at a time: their activations stay in the cache.
_BLOCK = 512


class Objective:
    """Loss and gradient of all samples as functions of one vector: coefs, then intercepts."""

    def __init__(self, estimator: Any, network: Network, data: Data) -> None:
        self.estimator = estimator
        self.engine = network._live()
        self.data = data
        self.n_calls = 0
        self.alpha = float(estimator.alpha)
        engine = self.engine
        self.weights: list[Any] = [engine.weight(i) for i in range(engine.n_layers)]
        self.biases: list[Any] = [engine.bias(i) for i in range(engine.n_layers)]
        sizes = [array.size for array in (*self.weights, *self.biases)]
        self.slices = [slice(*ends) for ends in pairwise([0, *np.cumsum(sizes).tolist()])]
        n = data.X.shape[0]
        weight = data.sample_weight
        self.total = float(n if weight is None else weight.sum())
        if self.total == 0:
            raise ZeroDivisionError(NO_WEIGHT)
        self.constant = 0.0
        if estimator.loss == "poisson":
            self.constant = float(np.average(deviance_at_best(data.y), weights=weight))
        # Blocks are added up and divided by all weights: those of a block may cancel each other.
        # From here to keep_account the engine's losses are not those of mini-batches.
        engine.set_account("sum", _settings.loss_scale(estimator))
        # The penalty is added here, once.
        engine.set_penalties([0.0] * engine.n_layers, [0.0] * engine.n_layers)

    def packed(self) -> Any:
        """Return the network's weights as one vector of float64, as scipy has it."""
        arrays = [array.ravel() for array in (*self.weights, *self.biases)]
        return np.hstack(arrays, dtype=np.float64)

    def put(self, packed: Any) -> None:
        """Make a vector the network's weights."""
        for array, part in zip((*self.weights, *self.biases), self.slices, strict=True):
            array[...] = packed[part].reshape(array.shape)

    def __call__(self, packed: Any) -> tuple[float, Any]:
        if self.n_calls > 0:  # the first is for the weights that there are
            _refusals.begin(self.estimator)
        self.n_calls += 1
        self.put(packed)
        gradient = np.zeros_like(packed)
        loss = 0.0
        for rows in self._blocks():
            part = take(self.data, rows)
            X = _live.dense(self.data.X, rows)
            try:
                value, pairs = self.engine.loss_and_grad(X, part.y, part.sample_weight)
            except Divergence:
                return np.inf, gradient
            loss += value
            arrays: list[Any] = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
            for array, at in zip(arrays, self.slices, strict=True):
                gradient[at] += array.ravel()
        n_weights = self.slices[len(self.weights) - 1].stop
        W = packed[:n_weights]
        gradient[:n_weights] += self.alpha * W
        gradient /= self.total
        penalty = 0.5 * self.alpha * float(W @ W) / self.total
        return loss / self.total + self.constant + penalty, gradient

    def _blocks(self) -> list[slice]:
        return [
            slice(first, min(first + _BLOCK, rows.stop))
            for rows in _live.row_blocks(self.data.X)
            for first in range(rows.start, rows.stop, _BLOCK)
        ]


def fit(estimator: Any, data: Data) -> None:
    """Minimise from the estimator's weights on, in float64 unless the parameter dtype differs."""
    network = _live.trained_network(estimator, np.dtype(estimator.dtype or np.float64))
    with _refusals.fitting(estimator, network):
        _fit(estimator, network, data)


def _fit(estimator: Any, network: Network, data: Data) -> None:
    network._use_threads(_settings.n_threads_of(estimator))
    watch = watchers(
        estimator,
        lambda: network,
        n_epochs=estimator.max_iter,
        steps_per_epoch=1,
        names=("loss", "seconds"),
        X=data.X,
        y=lambda: estimator._truth(data.y),
        sample_weight=data.sample_weight,
    )
    history = History()
    try:
        if watch is not None:
            watch.fit_begin()
        objective = Objective(estimator, network, data)
        _keep_layout(estimator, objective)
        recorder = _Recorder(objective, history, watch)
        result = scipy.optimize.minimize(
            objective,
            objective.packed(),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxfun": estimator.max_fun,
                "maxiter": estimator.max_iter,
                "gtol": estimator.tol,
                **_verbosity(estimator),
            },
            callback=recorder,
        )
        # Who ends a fit needs no warning that it has not converged.
        if recorder.is_ended:
            estimator.n_iter_ = result.nit
        else:
            estimator.n_iter_ = _originals.check_optimize_result(result, estimator.max_iter)
        estimator.loss_ = result.fun
        objective.put(result.x)
        if watch is not None:
            watch.fit_end()
    finally:
        _live.keep_account(estimator, network)
        if watch is not None:
            watch.close()
    estimator.history_ = history


class _Recorder:
    """Keep the loss of every iteration, and let callbacks look at it."""

    def __init__(self, objective: Objective, history: History, watch: Any) -> None:
        self.objective, self.history, self.watch = objective, history, watch
        self.began = time.perf_counter()
        #: whether a callback has ended the fit
        self.is_ended = False

    def __call__(self, intermediate_result: Any) -> None:
        epoch = len(self.history.epoch)
        now = time.perf_counter()
        logs = {"loss": float(intermediate_result.fun), "seconds": now - self.began}
        self.began = now
        self.history.append(epoch, logs)
        if self.watch is None:
            return
        self.objective.put(intermediate_result.x)
        if self.watch.every_epoch:
            self.watch.epoch_begin(epoch)
        self.is_ended = self.watch.epoch_end(epoch, logs)
        if self.is_ended:
            raise StopIteration


def _keep_layout(estimator: Any, objective: Objective) -> None:
    """Set what scikit-learn's own `_unpack` reads."""
    parts = iter(objective.slices)
    estimator._coef_indptr = [
        (part.start, part.stop, W.shape) for W, part in zip(objective.weights, parts, strict=False)
    ]
    estimator._intercept_indptr = [
        (part.start, part.stop) for part in objective.slices[len(objective.weights) :]
    ]


@cache
def _scipy_prints() -> bool:
    # From 1.15 on it does not: it ignores the option, then warns of it.
    option = inspect.signature(scipy.optimize.fmin_l_bfgs_b).parameters.get("iprint")
    return option is not None and option.default == -1


def _verbosity(estimator: Any) -> dict[str, Any]:
    return {"iprint": 1 if estimator.verbose else -1} if _scipy_prints() else {}
