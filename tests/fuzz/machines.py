"""Sequences of calls on a network, beside a twin that comes to the same by plainer ways.

The model of what must be true: weights and states of both are equal to the bit, steps and epochs
are counted, and whatever was refused or ended by an error has left a network that is that of the
steps done. Used by tests/test_sequences.py for a few examples, by tools/fuzz.py for many.
"""

import copy
import functools
import pickle
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

import fastgd
from fastgd import schedules
from targets import check_message, state

OPTIMIZERS = {
    "sgd": lambda: fastgd.SGD(0.05),
    "nesterov": lambda: fastgd.SGD(0.02, 0.9, nesterov=True, weight_decay=1e-3),
    "clipped": lambda: fastgd.SGD(0.05, clip_norm=1.0),
    "adam": lambda: fastgd.Adam(0.01),
    "adamw": lambda: fastgd.AdamW(schedules.Cosine(0.01, 50)),
    "rmsprop": lambda: fastgd.RMSprop(0.01, momentum=0.5),
    "adagrad": lambda: fastgd.Adagrad(schedules.WarmUp(0.05, 7)),
}
LOSSES = ("squared_error", "cross_entropy", "log_loss", "huber")
N_INPUTS, MOST_ROWS = 3, 21


class _Stop(fastgd.Callback):
    """End a fit by an error after an epoch, or after a step."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs):
        if epoch == self.epoch:
            raise InterruptedError


class _StopInEpoch(fastgd.Callback):
    def __init__(self, step):
        self.step = step

    def on_batch_end(self, step, loss):
        if step == self.step:
            raise InterruptedError


class _Diverged(Exception):
    """The network has diverged, which is no fault of it: the twin takes over what it kept."""


def may_diverge(training):
    """Make a rule of a method in which the network may diverge, but the twin not by itself."""

    @functools.wraps(training)
    def call(self, **choices):
        try:
            training(self, **choices)
        except _Diverged:
            assert all(np.isfinite(array).all() for array in self.net.get_weights())
            self.twin = copy.deepcopy(self.net)
            self.steps, self.epochs = self.net.step, self.net.epoch

    return call


@contextmanager
def diverging():
    try:
        yield
    except fastgd.DivergenceError as error:
        raise _Diverged from error


REFUSED = {
    "no rows": lambda net, X, y: net.fit(X[:0], y[:0], verbose=0),
    "too many features": lambda net, X, y: net.fit(np.hstack([X, X]), y, verbose=0),
    "unequal lengths": lambda net, X, y: net.train_step(X[1:], y),
    "nan": lambda net, X, y: net.train_step(np.full_like(X, np.nan), y),
    "infinite target": lambda net, X, y: net.fit(X, np.full(y.shape, np.inf), verbose=0),
    "batch size": lambda net, X, y: net.fit(X, y, batch_size=0, verbose=0),
    "epochs": lambda net, X, y: net.fit(X, y, epochs=1.5, verbose=0),
    "sample weight": lambda net, X, y: net.fit(X, y, sample_weight=-np.ones(len(X)), verbose=0),
    "metric": lambda net, X, y: net.fit(X, y, metrics="no such", verbose=0),
    "monitor": lambda net, X, y: net.fit(
        X, y, callbacks=[fastgd.EarlyStopping("val_loss")], verbose=0
    ),
    "threads": lambda net, X, y: net.fit(X, y, n_threads=0, verbose=0),
    "weights": lambda net, X, y: net.set_weights(net.get_weights()[:-1]),
    "weights that are not finite": lambda net, X, y: net.set_weights(
        [np.full_like(array, np.nan) for array in net.get_weights()]
    ),
    "folder": lambda net, X, y: net.save("/no/such/folder/model"),
    "metadata": lambda net, X, y: net.save("/tmp/never-written", metadata={"a": object()}),
    "resume": lambda net, X, y: net.fit(X, y, resume="yes", verbose=0),
    "text": lambda net, X, y: net.predict([["a", "b", "c"]]),
    "optimizer": lambda net, X, y: setattr(net, "optimizer", "no such"),
}


class Calls(RuleBasedStateMachine):
    """A network, and its twin."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "model"

    def teardown(self):
        self._folder.cleanup()

    @initialize(
        loss=st.sampled_from(LOSSES),
        optimizer=st.sampled_from(sorted(OPTIMIZERS)),
        dtype=st.sampled_from(("float32", "float64")),
        hidden=st.lists(st.sampled_from((1, 4, 17)), max_size=2),
        activation=st.sampled_from(("relu", "tanh", "gelu", "identity")),
        dropout=st.sampled_from((0.0, 0.4)),
        seed=st.integers(0, 3),
    )
    def begin(self, loss, optimizer, dtype, hidden, activation, dropout, seed):
        units = 3 if loss == "cross_entropy" else 2

        def make():
            layers = [
                fastgd.Dense(n, activation, dropout=dropout, l2=1e-3, bias=n != 4) for n in hidden
            ]
            return fastgd.Network(
                [*layers, fastgd.Dense(units)], loss, OPTIMIZERS[optimizer](), N_INPUTS, dtype, seed
            )

        self.net, self.twin = make(), make()
        self.steps = self.epochs = 0
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(MOST_ROWS, N_INPUTS)).astype(dtype)
        self.y = rng.random((MOST_ROWS, units)).round(2).astype(dtype)
        if loss == "cross_entropy":
            self.y = np.arange(MOST_ROWS) % 3
        self.weight = rng.integers(0, 3, MOST_ROWS).astype(float) + 0.5

    def _trained(self, epochs, batch_size, rows):
        self.steps += epochs * -(-rows // batch_size)
        self.epochs += epochs

    # ---- training -----------------------------------------------------------------------------

    @rule(
        epochs=st.integers(1, 3),
        batch_size=st.sampled_from((1, 4, 8, 100)),
        rows=st.integers(1, MOST_ROWS),
        shuffle=st.booleans(),
        weighted=st.booleans(),
        threads=st.sampled_from((1, 2, None)),
        validated=st.booleans(),
    )
    @may_diverge
    def fit(self, epochs, batch_size, rows, shuffle, weighted, threads, validated):
        """One fit, and as many of one epoch each, on the data in other memory."""
        X, y = self.X[:rows], self.y[:rows]
        weight = self.weight[:rows] if weighted else None
        options = {"batch_size": batch_size, "shuffle": shuffle, "verbose": 0}
        extra = {"validation_data": (self.X, self.y)} if validated else {}
        with diverging():
            self.net.fit(
                X, y, epochs=epochs, sample_weight=weight, n_threads=threads, **extra, **options
            )
        copied = np.asfortranarray(X.astype(np.float64))
        for _ in range(epochs):
            self.twin.fit(copied, y.copy(order="F"), sample_weight=weight, **options)
        self._trained(epochs, batch_size, rows)

    @rule(first=st.integers(0, MOST_ROWS - 1), count=st.integers(1, 9))
    @may_diverge
    def train_step(self, first, count):
        """A step, and a fit of one batch without shuffling, whose epoch is then taken back."""
        X, y = self.X[first : first + count], self.y[first : first + count]
        with diverging():
            self.net.train_step(X, y)
        self.twin.fit(X, y, batch_size=count, shuffle=False, verbose=0)
        self.twin._engine.epoch -= 1  # a step belongs to no epoch, of which the order depends
        self.steps += 1

    @rule(epochs=st.integers(1, 3), at=st.integers(0, 2), batch_size=st.sampled_from((4, 100)))
    @may_diverge
    def interrupted_fit(self, epochs, at, batch_size):
        """A fit that a callback ends is a fit of the epochs done."""
        at = min(at, epochs - 1)
        options = {"batch_size": batch_size, "verbose": 0}
        try:
            with diverging():
                self.net.fit(self.X, self.y, epochs=epochs, callbacks=[_Stop(at)], **options)
            raise AssertionError("the callback's error has not come out")
        except InterruptedError:
            pass
        self.twin.fit(self.X, self.y, epochs=at + 1, **options)
        self._trained(at + 1, batch_size, MOST_ROWS)

    @rule(at=st.integers(0, 4))
    @may_diverge
    def fit_interrupted_within_an_epoch(self, at):
        """The steps done remain; the epoch is not counted."""
        try:
            with diverging():
                self.net.fit(
                    self.X,
                    self.y,
                    batch_size=4,
                    shuffle=False,
                    callbacks=[_StopInEpoch(at)],
                    verbose=0,
                )
            raise AssertionError("the callback's error has not come out")
        except InterruptedError:
            pass
        for i in range(at + 1):
            self.twin.train_step(self.X[4 * i : 4 * i + 4], self.y[4 * i : 4 * i + 4])
        self.steps += at + 1

    @rule(epochs=st.integers(2, 4), at=st.integers(0, 2), patience=st.sampled_from((1, 99)))
    @may_diverge
    def resumed_fit(self, epochs, at, patience):
        """A fit that is cut and resumed from its checkpoint is the whole fit."""
        at = min(at, epochs - 2)
        options = {"epochs": epochs, "batch_size": 8, "verbose": 0}
        before = self.twin.step, self.twin.epoch

        def stop():
            return fastgd.EarlyStopping("loss", patience=patience, min_delta=1e-3)

        cut = [stop(), fastgd.Checkpoint(self.path), _StopLast(at)]
        with diverging():
            try:
                self.net.fit(self.X, self.y, callbacks=cut, **options)
            except InterruptedError:
                self.net = fastgd.load(self.path)
                whole = [stop(), fastgd.Checkpoint(self.path)]
                self.net.fit(self.X, self.y, callbacks=whole, resume=True, **options)
        self.twin.fit(self.X, self.y, callbacks=[stop()], **options)
        self.steps += self.twin.step - before[0]
        self.epochs += self.twin.epoch - before[1]

    @rule(scale=st.sampled_from((0.5, -1.0, 0.0)), through_views=st.booleans())
    def set_weights(self, scale, through_views):
        """Weights that are set, and weights that are written through the live views."""
        weights = [array * scale for array in self.net.get_weights()]
        self.net.set_weights(weights)
        if not through_views:
            self.twin.set_weights([array.astype(np.float64) for array in weights])
            return
        for view, array in zip(self.twin._arrays(optimizer=False).values(), weights, strict=True):
            view[...] = array

    @rule(name=st.sampled_from(sorted(OPTIMIZERS)))
    def change_optimizer(self, name):
        """What is kept when the optimiser changes follows from its states alone."""
        kept = self.net.optimizer.state_layout() == OPTIMIZERS[name]().state_layout()
        self.net.optimizer = OPTIMIZERS[name]()
        self.twin.optimizer = OPTIMIZERS[name]()
        if not kept:
            self.steps = 0

    # ---- copies -------------------------------------------------------------------------------

    @rule()
    def save_and_load(self):
        self.net.save(self.path)
        self.net = fastgd.load(self.path)

    @rule(protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
    def pickled(self, protocol):
        self.net = pickle.loads(pickle.dumps(self.net, protocol))

    @rule(deep=st.booleans())
    def copied(self, deep):
        old = self.net
        self.net = (copy.deepcopy if deep else copy.copy)(old)
        before = state(self.net)
        old.set_weights([0 * array for array in old.get_weights()])
        assert state(self.net) == before, "a copy shares weights with what it was copied from"

    # ---- what changes nothing -------------------------------------------------------------------

    @rule(rows=st.integers(1, MOST_ROWS), isa=st.sampled_from(fastgd.available_isas()))
    def look(self, rows, isa):
        """Whoever looks changes nothing, and sees the same on every instruction set."""
        X, y = self.X[:rows], self.y[:rows]
        before = state(self.net)
        with fastgd.config(isa=isa):
            found = self.net.predict(X)
            value = self.net.evaluate(X, y)
            if not np.isfinite(value):  # as it may be after a step that has diverged
                return
            loss, gradients = self.net.loss_and_grad(X, y)
        np.testing.assert_array_equal(found, self.twin.predict(X.copy()))
        np.testing.assert_array_equal(found[:1], self.twin.predict(X[:1]))
        other_loss, others = self.twin.loss_and_grad(X, y)
        assert loss == other_loss
        for pair, other in zip(gradients, others, strict=True):
            for one, two in zip(pair, other, strict=True):
                np.testing.assert_array_equal(one, two)
        assert value == self.twin.evaluate(X, y)
        self.net.gradient_flow(X, y)
        assert state(self.net) == before

    @rule(name=st.sampled_from(sorted(REFUSED)))
    def refused(self, name):
        """A refused call has changed nothing, and says why."""
        before, history = state(self.net), self.net.history
        try:
            REFUSED[name](self.net, self.X, self.y)
        except (ValueError, TypeError, OSError) as error:
            check_message(error)
        else:
            raise AssertionError(f"not refused: {name}")
        assert state(self.net) == before
        assert self.net.history is history

    @rule()
    @may_diverge
    def diverged_step(self):
        """A step that would overflow keeps the last finite weights; one that does not is a step."""
        huge = np.full((1, N_INPUTS), np.finfo(self.net.dtype).max)
        with diverging():
            self.net.train_step(huge, self.y[:1])
        self.twin.train_step(huge.copy(), self.y[:1])
        self.steps += 1

    # ---- what must be true ----------------------------------------------------------------------

    @invariant()
    def equal_to_the_twin(self):
        if not hasattr(self, "net"):
            return
        arrays, steps, epochs = state(self.net)
        others, other_steps, other_epochs = state(self.twin)
        assert (steps, epochs) == (other_steps, other_epochs) == (self.steps, self.epochs)
        for name in arrays:
            assert arrays[name] == others[name], name


class _StopLast(_Stop):
    """After the Checkpoint."""

    last = True
