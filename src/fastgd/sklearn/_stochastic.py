"""Training by mini-batches with scikit-learn's rules: order, learning rates, when to stop.

Epochs run natively, as many in one call as cannot be the last one; scikit-learn's random numbers
are drawn in its order.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from .. import _kernels
from .._engine import Divergence, shuffle_in_turn
from .._training import Data, run_verified
from ..config import active
from ..history import History
from ..network import check_monitors
from . import _fast_path, _live, _originals, _refusals, _settings
from ._callbacks import watchers

if TYPE_CHECKING:
    from ..network import Network

__all__ = [
    "NOT_FINITE",
    "NO_WEIGHT",
    "Validation",
    "deviance_at_best",
    "fit",
    "partial_fit_plainly",
    "take",
]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)
# NumPy's, of an average.
NO_WEIGHT = "Weights sum to zero, can't be normalized"
# Orders and learning rates of one native call have at most about this many entries.
_MAX_ENTRIES = 1 << 18


class Validation(NamedTuple):
    """Data that are only looked at; truth is y in the user's terms.

    In data y is as the engine takes it: class numbers, or (n_samples, n_outputs).
    """

    data: Data
    truth: Any


def take(data: Data, rows: Any) -> Data:
    """Return some rows of the data."""
    weight = data.sample_weight
    return Data(data.X[rows], data.y[rows], None if weight is None else weight[rows])


def split(estimator: Any, data: Data) -> tuple[Any, Validation]:
    """Return the rows to train on and the data to validate with, as scikit-learn divides them."""
    n = data.X.shape[0]
    is_binary = is_classifier(estimator) and estimator.n_outputs_ == 1
    stratify = data.y.astype(bool) if is_binary else None
    rows, held_out = train_test_split(
        np.arange(n),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(held_out) < 2 and _originals.NEEDS_TWO_TO_VALIDATE:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    kept = take(data, held_out)
    return rows, Validation(kept, estimator._truth(kept.y))


def fit(
    estimator: Any,
    data: Data,
    incremental: bool,
    is_first: bool,
    validation: Validation | None,
) -> None:
    """Train the estimator, whose first weights have been drawn."""
    network = _live.trained_network(estimator, estimator.dtype and np.dtype(estimator.dtype))
    with _refusals.fitting(estimator, network):
        _fit(estimator, network, data, incremental, is_first, validation)


def _fit(
    estimator: Any,
    network: Network,
    data: Data,
    incremental: bool,
    is_first: bool,
    validation: Validation | None,
) -> None:
    if not incremental or not hasattr(estimator, "_optimizer"):
        if not is_first:
            live = estimator._live
            _refusals.when_refused(estimator, partial(setattr, live, "kept", live.state(True)))
        estimator._optimizer = _settings.schedule_of(estimator)
        _live.restart_optimizer(estimator, network)
    if estimator.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    rows = None
    if estimator.early_stopping and validation is None:
        rows, validation = split(estimator, data)
    training = Training(estimator, network, data, rows, validation, incremental)
    if estimator.early_stopping and is_first:
        training.keep_best()
    training.run()


class Training:
    """One call of fit or partial_fit."""

    def __init__(
        self,
        estimator: Any,
        network: Network,
        data: Data,
        rows: Any,
        validation: Validation | None,
        incremental: bool,
    ) -> None:
        self.estimator = estimator
        self.network = network
        self.engine = network._live()
        self.data = data
        self.validation = validation
        self.incremental = incremental
        self.rows = rows
        self.n = data.X.shape[0] if rows is None else len(rows)
        self.batch_size = _batch_size(estimator, self.n)
        self.steps = -(-self.n // self.batch_size)
        self.index = np.arange(self.n)
        self.best: list[Any] | None = None
        self.has_diverged = False
        self.history = History()
        optimizer = network.optimizer
        self.own_lr = estimator.lr_schedule is not None or not isinstance(estimator.solver, str)
        self.shown_lr = optimizer.lr
        self.scorer: Any = None
        self.score_weights: dict[str, Any] = {}
        # Of a subclass.
        self.has_own_score = type(estimator)._score not in _originals.SCORES
        names = ["loss", "lr", "seconds"]
        if validation is not None:
            names += ["val_loss", self._score_name()]
            if estimator.scoring not in (None, "loss"):
                self.scorer = check_scoring(estimator, estimator.scoring)
            weight = validation.data.sample_weight
            if weight is not None and (self.scorer is None or _takes_weights(self.scorer)):
                self.score_weights = {"sample_weight": weight}
        check_monitors(optimizer.lr, (), names)
        # partial_fit is one epoch of someone else's loop.
        self.watch = None
        if not incremental:
            self.watch = watchers(
                estimator,
                lambda: network,
                n_epochs=estimator.max_iter,
                steps_per_epoch=self.steps,
                names=tuple(names),
                X=data.X,
                y=lambda: estimator._truth(data.y),
                sample_weight=data.sample_weight,
            )
        self.one_by_one = bool(
            estimator.verbose
            or validation is not None
            or getattr(optimizer.lr, "monitor", None) is not None
            or incremental
            or (self.watch is not None and self.watch.every_epoch)
        )
        self.n_threads = _settings.n_threads_of(estimator)
        self.is_watched = (
            self.one_by_one or self.watch is not None or hasattr(optimizer.lr, "epoch_end")
        )
        # What scikit-learn's Poisson deviance has beside the engine's a - y log a.
        is_poisson = estimator.loss == "poisson"
        self.constant: Any = deviance_at_best(data.y) if is_poisson else None

    # ---- the loop -------------------------------------------------------------------------

    def run(self) -> None:
        """Train until a rule, a callback, max_iter or Ctrl-C ends it."""
        estimator = self.estimator
        self.engine.seed = _seed(estimator)
        self._begin_counting()
        self.network.history = self.history
        try:
            if self.watch is not None:
                self.watch.fit_begin()
            try:
                self._epochs()
            except KeyboardInterrupt:
                _originals.warn("Training interrupted by user.")
            if self.best is not None:
                self._restore(self.best)
            elif self.has_diverged:
                raise ValueError(NOT_FINITE)
            if self.watch is not None:
                self.watch.fit_end()
        finally:
            self.engine.unbind()
            if self.watch is not None:
                self.watch.close()
        estimator.history_ = self.history
        if self._was_plain():
            estimator._live.ready = readiness(estimator, self.n)

    def _was_plain(self) -> bool:
        """Tell whether `partial_fit_plainly` would have done the same."""
        estimator = self.estimator
        return (
            self.incremental
            and estimator.n_iter_ == 1
            and estimator.batch_size in ("auto", self.n)
            and self.steps == 1
            and self.data.sample_weight is None
            and not _live.is_sparse(self.data.X)
            and self.constant is None
            and not self.own_lr
            and not estimator.verbose
            and not any(layer.dropout for layer in self.network.layers)
        )

    def _epochs(self) -> None:
        estimator = self.estimator
        estimator.n_iter_ = 0
        n_epochs = min(1, estimator.max_iter) if self.incremental else estimator.max_iter
        while estimator.n_iter_ < n_epochs:
            is_last = self._chunk(min(self._certain_epochs(), n_epochs - estimator.n_iter_))
            if is_last:
                return
        if not self.incremental:
            _originals.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
            )

    def _certain_epochs(self) -> int:
        """Return how many epochs will follow whatever their losses are."""
        if self.one_by_one:
            return 1
        left = self.estimator.n_iter_no_change + 1 - self.estimator._no_improvement_count
        return int(max(1, min(left, _MAX_ENTRIES // self.n)))

    def _chunk(self, n_epochs: int) -> bool:
        """Train some epochs; return whether the last of them ends the fit."""
        estimator, watch = self.estimator, self.watch
        first = estimator.n_iter_
        if watch is not None and watch.every_epoch:
            watch.epoch_begin(first)
        orders = self._orders(n_epochs)
        lrs = self._learning_rates(n_epochs)
        losses = np.full(n_epochs, np.nan)
        began = time.perf_counter()
        self._check_first_weights(orders)
        try:
            if not self.has_diverged:
                self._native(lrs, orders, losses)
        except Divergence:
            self._meet_divergence(orders)
        except KeyboardInterrupt:
            # The epochs that were finished count.
            n_epochs = int(np.isfinite(losses).sum())
            self._end_epochs(losses[:n_epochs], orders, lrs, began)
            raise
        return self._end_epochs(losses, orders, lrs, began)

    def _orders(self, n_epochs: int) -> Any:
        """Return the rows of the data that make up each epoch, or None for all as they lie."""
        estimator = self.estimator
        if not estimator.shuffle or self.steps == 1:
            # One batch of all samples has no order; only the random numbers are used up.
            if estimator.shuffle:
                draw_unused(estimator, self.n, n_epochs)
            return None if self.rows is None else np.tile(self.rows, (n_epochs, 1))
        # scikit-learn shuffles positions, and permutes the epoch before by them: that is the epoch
        # before, shuffled.
        orders = np.empty((n_epochs, self.n), dtype=np.int64)
        _shuffle_in_turn(estimator._random_state, self.index, orders)
        self.index = orders[-1].copy()
        return orders if self.rows is None else self.rows[orders]

    def _learning_rates(self, n_epochs: int) -> Any:
        """Return the learning rate of all steps, or of each."""
        estimator = self.estimator
        if self.own_lr:
            optimizer = self.network.optimizer
            if optimizer.fixed_lr is not None:
                return optimizer.fixed_lr
            return optimizer.learning_rates(self.engine.step, n_epochs * self.steps)
        schedule = estimator._optimizer
        if self.network.optimizer.lr != self.shown_lr:  # a callback has set it
            self.shown_lr = self.network.optimizer.lr
            schedule.learning_rate = float(self.network.optimizer.learning_rates(0, 1)[0])
        if getattr(schedule, "lr_schedule", None) != "invscaling" or n_epochs == 1:
            return float(schedule.learning_rate)
        rates = [schedule.learning_rate]
        ahead = copy.copy(schedule)
        for epoch in range(1, n_epochs):
            ahead.iteration_ends(estimator.t_ + epoch * self.n)
            rates.append(ahead.learning_rate)
        return np.repeat(np.asarray(rates, dtype=np.float64), self.steps)

    def _native(self, lrs: Any, orders: Any, losses: Any) -> None:
        """Train len(losses) epochs, and fill in their losses."""
        data = self.data
        self.engine.n_threads = self.n_threads
        if _live.is_sparse(data.X):
            for epoch in range(len(losses)):
                order = None if orders is None else orders[epoch]
                self._sparse_epoch(lrs, order, losses[epoch : epoch + 1], epoch * self.steps)
            return
        self.engine.bind(*data, self.batch_size, False, orders)
        run_verified(
            self.network,
            self.batch_size,
            data.sample_weight is None,
            lambda **verification: self._run_epochs(
                lrs, len(losses), losses=losses, **self._hooks(0), **verification
            ),
        )

    def _run_epochs(self, *arguments: Any, **settings: Any) -> Any:
        _refusals.begin(self.estimator)
        return self.engine.run_epochs(*arguments, **settings)

    def _hooks(self, step: int) -> dict[str, Any]:
        """Return what a native call reports to, with so many steps of the chunk before it."""
        if self.watch is None:
            return {}
        before = self.estimator.n_iter_ * self.steps + step
        return {"on_slice": self.watch.on_slice(before), "on_batch": self.watch.on_batch(before)}

    def _sparse_epoch(self, lrs: Any, order: Any, losses: Any, first_step: int) -> None:
        """Train one epoch on rows that are made dense a block of batches at a time."""
        data = self.data if order is None else take(self.data, order)
        total = 0.0
        for rows in _live.row_blocks(data.X, self.batch_size):
            block = take(data, rows)
            block = block._replace(X=_live.dense(block.X, slice(None)))
            step = first_step + rows.start // self.batch_size
            rates = lrs if isinstance(lrs, float) else lrs[step:]
            self.engine.bind(*block, self.batch_size, False)
            hooks = self._hooks(step)

            def train(rates: Any = rates, hooks: Any = hooks, **verification: Any) -> Any:
                return self._run_epochs(rates, 1, **hooks, **verification)

            is_plain = data.sample_weight is None
            n_rows = rows.stop - rows.start
            batch_size = min(self.batch_size, n_rows)
            total += run_verified(self.network, batch_size, is_plain, train)[0] * n_rows
        losses[0] = total / self.n

    # ---- the end of an epoch --------------------------------------------------------------

    def _end_epochs(self, losses: Any, orders: Any, lrs: Any, began: float) -> bool:
        """Record some epochs; return whether the last of them ends the fit."""
        estimator = self.estimator
        if self.constant is not None:
            for epoch in range(len(losses)):
                losses[epoch] += self._mean_constant(None if orders is None else orders[epoch])
        n_epochs, values = len(losses), losses.tolist()
        seconds = (time.perf_counter() - began) / max(1, n_epochs)
        if isinstance(lrs, float):
            rates = [lrs] * n_epochs
        else:
            rates = lrs[self.steps - 1 : n_epochs * self.steps : self.steps].tolist()
        if self.is_watched:
            # The weights are those after all of them, whichever asks for the end.
            is_end = False
            for loss, lr in zip(values, rates, strict=True):
                is_end |= self._end_watched({"loss": loss, "lr": lr, "seconds": seconds})
            if is_end:
                return True
        elif n_epochs > 0:
            logs = {"loss": values, "lr": rates, "seconds": [seconds] * n_epochs}
            self.history.extend(estimator.n_iter_, logs)
            for loss in values:
                end_epoch(estimator, loss, self.n)
        return estimator._no_improvement_count > estimator.n_iter_no_change and trigger(estimator)

    def _end_watched(self, logs: dict[str, float]) -> bool:
        """Record one epoch, and show it to all who look; return whether a callback ends the fit."""
        estimator = self.estimator
        record(estimator, logs["loss"], self.n)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self.validation is not None:
            logs |= self._validate(*self.validation)
        if estimator.early_stopping:
            self._count_score()
        else:
            count_loss(estimator, logs["loss"])
        estimator._optimizer.iteration_ends(estimator.t_)
        self.history.append(estimator.n_iter_ - 1, logs)
        schedule = self.network.optimizer.lr
        if hasattr(schedule, "epoch_end"):
            schedule.epoch_end(logs)
        return self.watch is not None and self.watch.epoch_end(estimator.n_iter_ - 1, logs)

    def _count_score(self) -> None:
        estimator = self.estimator
        score = estimator.validation_scores_[-1]
        # A score that is not a number is not worse.
        is_worse = score < estimator.best_validation_score_ + estimator.tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_worse else 0
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            self.keep_best()

    def keep_best(self) -> None:
        """Take note of the weights, of none if those of scikit-learn would not be numbers."""
        self.best = None if self.has_diverged else self.network.get_weights()

    def _restore(self, best: list[Any]) -> None:
        _kernels.Assignment(list(self.network._arrays(False).values()), best).assign()

    # ---- validation -----------------------------------------------------------------------

    def _begin_counting(self) -> None:
        # After a warm start the records go on; what an earlier fit had no use for begins here.
        estimator = self.estimator
        # After lbfgs there are none, and scikit-learn fails at the first that it needs.
        _ = estimator.loss_curve_
        if not estimator.early_stopping and estimator.best_loss_ is None:
            estimator.best_loss_ = np.inf
        if self.validation is None:
            return
        if estimator.early_stopping and estimator.best_validation_score_ is None:
            estimator.best_validation_score_ = -np.inf
        if estimator.validation_scores_ is None:
            estimator.validation_scores_ = []
        if not hasattr(estimator, "validation_loss_curve_") or not estimator.warm_start:
            estimator.validation_loss_curve_ = []

    def _score_name(self) -> str:
        if self.estimator.scoring is None:
            return "val_accuracy" if is_classifier(self.estimator) else "val_r2"
        return "val_score"

    def _validate(self, data: Data, truth: Any) -> dict[str, float]:
        """Return loss and score of the validation data, and record them."""
        estimator = self.estimator
        if self.has_diverged:
            # From there on scikit-learn's outputs are not numbers, and it goes on to score them.
            loss, output = np.nan, np.full((data.X.shape[0], self.network.n_outputs), np.nan)
        else:
            loss, output = _evaluate(estimator, self.network, data)
        score = self._score(loss, output, data, truth)
        estimator.validation_loss_curve_.append(loss)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        return {"val_loss": loss, self._score_name(): score}

    def _score(self, loss: float, output: Any, data: Data, truth: Any) -> float:
        estimator, weights = self.estimator, self.score_weights
        if self.scorer is not None:
            if self.has_diverged:
                return np.nan
            # The scorer gets arrays, which have no feature names.
            probe = copy.copy(estimator)
            probe.__dict__.pop("feature_names_in_", None)
            return float(self.scorer(probe, data.X, truth, **weights))
        if estimator.scoring == "loss":
            return -loss
        if self.has_own_score:
            return float(estimator._score(data.X, truth, **weights))
        return float(estimator._score_outputs(output, data, truth))

    # ---- details --------------------------------------------------------------------------

    def _mean_constant(self, order: Any) -> float:
        """Return what an epoch's mean deviance has beside the engine's loss."""
        weight = self.data.sample_weight
        constant = self.constant if order is None else self.constant[order]
        if weight is None:
            return float(constant.mean())
        weight = weight if order is None else weight[order]
        means = self._batch_sums(constant * weight) / self._batch_sums(weight)
        return float(means @ self._batch_sums(np.ones(self.n)) / self.n)

    def _batch_sums(self, values: Any) -> Any:
        return np.add.reduceat(values, np.arange(0, self.n, self.batch_size))

    def _check_first_weights(self, orders: Any) -> None:
        """Refuse weights with which no step could be taken, before any is."""
        weight = self.data.sample_weight
        if weight is not None and self.estimator.n_iter_ == 0:
            batch = slice(self.batch_size) if orders is None else orders[0][: self.batch_size]
            if weight[batch].sum() == 0:
                raise ZeroDivisionError(NO_WEIGHT)

    def _meet_divergence(self, orders: Any) -> None:
        weight = self.data.sample_weight
        if weight is not None:
            for order in [slice(None)] if orders is None else orders:
                if (self._batch_sums(weight[order]) == 0).any():
                    raise ZeroDivisionError(NO_WEIGHT) from None
        # scikit-learn goes on with weights that are not numbers to the last epoch, and then
        # restores the best ones or complains. Those epochs are not computed here.
        self.has_diverged = True


def end_epoch(estimator: Any, loss: float, n: int) -> None:
    """Do what ends an epoch of n samples that has no validation data."""
    record(estimator, loss, n)
    count_loss(estimator, loss)
    estimator._optimizer.iteration_ends(estimator.t_)


def record(estimator: Any, loss: float, n: int) -> None:
    """Note the loss of an epoch of n samples."""
    estimator.n_iter_ += 1
    estimator.loss_ = loss
    estimator.t_ += n
    estimator.loss_curve_.append(loss)


def count_loss(estimator: Any, loss: float) -> None:
    """Note whether an epoch's loss was better than the best one."""
    is_worse = loss > estimator.best_loss_ - estimator.tol
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_worse else 0
    if loss < estimator.best_loss_:
        estimator.best_loss_ = loss


def trigger(estimator: Any) -> bool:
    """Stop, or lower an adaptive learning rate; return whether it is a stop."""
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} for "
        f"{estimator.n_iter_no_change} consecutive epochs."
    )
    if estimator._optimizer.trigger_stopping(message, estimator.verbose):
        return True
    estimator._no_improvement_count = 0
    return False


def draw_unused(estimator: Any, n: int, n_epochs: int) -> None:
    """Use up the random numbers of the orders of some epochs, unless they are nobody's else."""
    if isinstance(estimator.random_state, Integral):
        return
    unused = np.empty((n_epochs, n), dtype=np.int64)
    _shuffle_in_turn(estimator._random_state, np.empty(n, dtype=np.int64), unused)


def _shuffle_in_turn(random_state: Any, before: Any, orders: Any) -> None:
    """Make each row of orders by shuffling the one before it."""
    if type(random_state) is np.random.RandomState:
        shuffle_in_turn(random_state, before, orders)
        return
    for order in orders:
        order[...] = before
        random_state.shuffle(order)
        before = order


def readiness(estimator: Any, n: int) -> tuple[Any, ...] | None:
    """Return what must be the same for a plain step to go straight to the engine, if it may."""
    settings, key = active.settings, _fast_path.settings_key(estimator)
    # Where every step is verified, none goes straight.
    return None if key is None or settings.validate == "always" else (settings, n, key)


def partial_fit_plainly(estimator: Any, X: Any, y: Any) -> bool:
    """Train one step of partial_fit on plain arrays as the last one was done; False if it was not.

    y is as the engine takes it. Does what `Training` does in that case, and nothing else: any
    change of a parameter goes that way first. There must have been a plain step.
    """
    live, n = estimator._live, len(X)
    if live.ready is None or live.ready != readiness(estimator, n) or not live.shows(estimator):
        return False
    _live.check_range("X", X, live.network.dtype)
    _live.check_range("y", y, live.network.dtype)
    schedule = estimator._optimizer
    with live.network._fitting:
        if not isinstance(estimator.random_state, Integral):
            estimator._random_state = check_random_state(estimator.random_state)
            draw_unused(estimator, n, int(estimator.shuffle))
        lr = float(schedule.learning_rate)
        _refusals.begin(estimator)  # of what it may be within
        began = time.perf_counter()
        try:
            loss = live.network._live().train_step(X, y, None, lr)
        except Divergence:
            loss = math.nan
        seconds = time.perf_counter() - began
    estimator.n_iter_ = 0
    end_epoch(estimator, loss, n)
    if math.isnan(loss):
        live.ready = None
        raise ValueError(NOT_FINITE)
    estimator.history_ = History()
    estimator.history_.append(0, {"loss": loss, "lr": lr, "seconds": seconds})
    if estimator._no_improvement_count > estimator.n_iter_no_change:
        trigger(estimator)
    return True


def _evaluate(estimator: Any, network: Network, data: Data) -> tuple[float, Any]:
    """Return mean loss, without penalties, and outputs."""
    engine = network._live()
    output = np.empty((data.X.shape[0], network.n_outputs), network.dtype)
    loss_sum = weight_sum = 0.0
    for rows in _live.row_blocks(data.X):
        block = take(data, rows)
        part, weight = engine.evaluate(
            _live.dense(data.X, rows), block.y, block.sample_weight, output[rows]
        )
        loss_sum += part
        weight_sum += weight
    loss = loss_sum / weight_sum * _settings.loss_scale(estimator)
    if estimator.loss == "poisson":
        loss += float(np.average(deviance_at_best(data.y), weights=data.sample_weight))
    return loss, output


def _takes_weights(scorer: Any) -> bool:
    return "sample_weight" in inspect.signature(scorer).parameters


def deviance_at_best(y: Any) -> Any:
    """Return sum over outputs of y log y - y, shape (n_samples,)."""
    from scipy.special import xlogy

    y = np.asarray(y, dtype=np.float64)
    return (xlogy(y, y) - y).sum(axis=1)


def _batch_size(estimator: Any, n: int) -> int:
    size = estimator.batch_size
    if isinstance(size, str):
        return int(min(200, n))
    if size > n:
        _originals.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        )
    return int(np.clip(size, 1, n))


def _seed(estimator: Any) -> int:
    """Return the seed of dropout's masks, drawn only if there are any."""
    rates = estimator.dropout
    has_any = any(rates) if isinstance(rates, list | tuple) else rates
    return int(estimator._random_state.randint(2**31)) if has_any else 0
