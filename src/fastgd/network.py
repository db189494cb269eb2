"""The network: what a user builds, trains, asks and keeps.

Arguments are checked here and in _validate; the arithmetic is the engine's, and the loop over
epochs is in _training.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from . import _kernels, losses, metrics, optimizers
from . import callbacks as _callbacks
from ._engine import Claim, Divergence, Engine
from ._errors import ValidationError
from ._numbers import held
from ._pairing import canonical_output, check_pairing
from ._threads import fork_safe_lock
from ._training import (
    BlockTraining,
    Data,
    DivergenceError,
    Training,
    divergence,
    operations,
    restore_callbacks,
    verified,
)
from ._validate import (
    Array,
    boolean,
    count_as_zero,
    features,
    integer,
    is_blocks,
    is_table,
    real,
    sample_weights,
    targets,
)
from .callbacks import Callback
from .config import Settings, active, threads_in_force
from .history import History
from .layers import Dense, check_sizes, fitting
from .losses import CustomLoss, Loss
from .metrics import MetricFunction, Metrics
from .optimizers import Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._flow import GradientFlowReport
    from .blocks import Blocks

__all__ = ["Network"]

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_all_finite = _kernels.all_finite


class Network:
    """A dense feed-forward network, trained by compiled code.

    Parameters
    ----------
    layers : sequence of Dense
        From the first to the output layer; they are copied.
    loss : str or object
        "squared_error", "absolute_error", "huber", "log_loss", "cross_entropy", "poisson", an
        object from fastgd.losses, or one of your own with value and delta
        (`fastgd.losses.CustomLoss`).
    optimizer : str or object
        "sgd", "adam", "adamw", "rmsprop", "adagrad", or an object from fastgd.optimizers; it is
        copied.
    n_inputs : int, optional
        Number of features; by default the first fit finds it.
    dtype : {"float32", "float64"}
        Of weights and arithmetic. Data of other real dtypes are converted batch by batch.
    seed : int or None
        Of the first weights, shuffling and dropout, from 0 to 2**64 - 1; None draws one.
    input_scale : float
        Positive. X is multiplied by it wherever the network takes X, as a batch is gathered: value
        and input_scale are rounded to dtype, then their product. With 1/255, images of uint8 are
        trained on as they are, without a copy of the data as floats.

    Attributes
    ----------
    layers : tuple of Dense
        With live weight and bias.
    loss, n_inputs, n_outputs, dtype, seed, input_scale
        As given, and fixed; seed is never None.
    optimizer : Optimizer
        May be assigned. If the new one is of the same kind its state is kept; else the state and
        the count of steps begin anew.
    feature_names : tuple of str or None
        The columns of the newest table that the network was trained on, which every later table
        must have in this order. Arrays, which have no names, are taken as well.
    epoch, step : int
        Epochs and optimiser steps over all fits.
    history : History or None
        Of the newest fit.
    metadata : dict
        What `save` was given, in a network from `fastgd.load`.
    stop_training : bool
        Set it in a callback to end the fit after the epoch.

    Raises
    ------
    ValueError, TypeError
        For settings that are unknown, out of range, or do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> net = fastgd.Network([fastgd.Dense(16, "tanh"), fastgd.Dense(2)], loss="cross_entropy",
    ...                      optimizer=fastgd.Adam(lr=0.05))
    >>> history = net.fit(X, y, epochs=30, verbose=0)
    >>> net.evaluate(X, y, metrics="accuracy")["accuracy"] > 0.9
    True
    """

    _can_clip = True  # whether clip_norm can be given to the optimizer

    def __init__(
        self,
        layers: Sequence[Dense],
        loss: str | Loss | CustomLoss,
        optimizer: str | Optimizer = "sgd",
        n_inputs: int | None = None,
        dtype: DTypeLike = "float32",
        seed: int | None = 0,
        *,
        input_scale: float = 1.0,
    ) -> None:
        self._loss = losses.get(loss)
        self._loss_name = losses.kind_of(self._loss)
        self._layers = _resolve(layers, self._loss_name)
        self._optimizer = optimizers.get(optimizer).own_copy()
        self._dtype = _dtype(dtype)
        self._check_held(self._optimizer)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        self._seed = integer("seed", seed, 0, 2**64 - 1)
        self._n_inputs = None if n_inputs is None else integer("n_inputs", n_inputs)
        self._feature_names: tuple[str, ...] | None = None
        self._input_scale = _scale(input_scale, self._dtype)
        self.metadata: dict[str, Any] = {}
        self.history: History | None = None
        self.stop_training: bool = False
        self._engine: Engine | None = None
        self._training: Training | None = None
        # Of the thread whose fit is running.
        self._fitting = Claim()
        self._resume: dict[str, Any] | None = None
        # The settings under which train_step and predict may take their short ways.
        self._short: Settings | None = None
        self._short_predict: Settings | None = None
        # Kept by _training.operations.
        self._operations: tuple[object, object, tuple[object, ...]] | None = None
        check_sizes([layer.units for layer in self._layers], self._n_inputs or 1)
        if self._n_inputs is not None:
            self._build(self._n_inputs)

    def _check_held(self, optimizer: Optimizer) -> None:
        """Refuse settings that are not the same numbers in the network's dtype."""
        dtype = self._dtype
        held(type(optimizer).__name__, optimizer.params(), dtype)
        if isinstance(self._loss, Loss) and self._loss_name != "custom":
            held(type(self._loss).__name__, self._loss._plain(), dtype)
        for i, layer in enumerate(self._layers):
            held(f"layers[{i}]", {"l1": layer.l1, "l2": layer.l2}, dtype)
            held(f"layers[{i}]: {type(layer.activation).__name__}", vars(layer.activation), dtype)

    # ---- construction and state -----------------------------------------------------------

    def _build_once(self, n_inputs: int) -> None:
        """Make the engine unless it is there, or another thread is making it."""
        with _building:
            if self._engine is None:
                self._build(n_inputs)

    def _build(self, n_inputs: int) -> None:
        """Make the engine and draw the first weights."""
        layers = self._layers
        check_sizes([layer.units for layer in layers], n_inputs)
        dtype = self.dtype
        rng = np.random.Generator(np.random.PCG64(self.seed))
        values = []
        fan_in = n_inputs
        for layer in layers:
            values.append(layer._draw(rng, fan_in, dtype))
            fan_in = layer.units
        engine = Engine(
            n_inputs,
            [layer.units for layer in layers],
            [_name_and_param(layer) for layer in layers],
            [layer.use_bias for layer in layers],
            dtype.name,
            self.seed,
        )
        for i, (weight, bias) in enumerate(values):
            engine.weight(i)[...] = weight
            view = engine.bias(i)
            if bias is not None and view is not None:
                view[...] = bias
        if isinstance(self.loss, Loss) and self._loss_name != "custom":
            engine.set_loss(self._loss_name, self.loss.param)
        else:
            engine.set_loss("custom", 0.0)
            engine.custom_loss = losses.CustomAdapter(self.loss)
        engine.set_optimizer(self._optimizer.name, self._optimizer.params())
        engine.set_penalties([layer.l1 for layer in layers], [layer.l2 for layer in layers])
        engine.set_dropout([layer.dropout for layer in layers])
        engine.input_scale = self._input_scale
        bound = tuple(
            layer._bound(engine, i, layer.activation)
            for i, layer in enumerate(layers)
            if layer.activation is not None
        )
        # Nothing of the network has changed until here, where nothing can fail; and nothing is
        # called in between, so that for other threads and for Ctrl-C it is one step.
        self._layers, self._n_inputs, self._engine = bound, n_inputs, engine

    def _live(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(
                "the network has no weights yet: give n_inputs to Network, or call fit first"
            )
        return self._engine

    @property
    def layers(self) -> tuple[Dense, ...]:
        return self._layers

    @property
    def loss(self) -> Loss | CustomLoss:
        return self._loss

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def input_scale(self) -> float:
        return self._input_scale

    @property
    def n_inputs(self) -> int | None:
        return self._n_inputs

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self._feature_names

    @property
    def n_outputs(self) -> int:
        return self._layers[-1].units

    @property
    def loss_name(self) -> str:
        """The name of the loss, "custom" for an object of one's own."""
        return self._loss_name

    @property
    def optimizer(self) -> Optimizer:
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | Optimizer) -> None:
        new = optimizers.get(optimizer).own_copy()
        self._check_held(new)
        if self._engine is not None:
            if new.state_layout() == self._optimizer.state_layout():
                self._engine.update_optimizer(new.params())
            else:
                self._engine.set_optimizer(new.name, new.params())
        self._optimizer = new
        self._short = None

    @property
    def epoch(self) -> int:
        return 0 if self._engine is None else int(self._engine.epoch)

    @property
    def step(self) -> int:
        return 0 if self._engine is None else int(self._engine.step)

    def _arrays(self, optimizer: bool = True) -> dict[str, Array]:
        """Return live views of everything that training changes, by name."""
        engine = self._live()
        views: dict[str, Array | None] = {}
        for i in range(len(self._layers)):
            views[f"layers.{i}.weight"] = engine.weight(i)
            views[f"layers.{i}.bias"] = engine.bias(i)
        if optimizer:
            for name, pairs in engine.optimizer_state().items():
                for i, (weight, bias) in enumerate(pairs):
                    views[f"optimizer.{name}.{i}.weight"] = weight
                    views[f"optimizer.{name}.{i}.bias"] = bias
        return {name: view for name, view in views.items() if view is not None}

    def get_weights(self) -> list[Array]:
        """Return copies of all weights: [W of layer 0, b of layer 0, W of layer 1, ...].

        Layers made with bias=False have no b in the list.

        Notes
        -----
        All copies are of one moment, between two steps of a fit in another thread.

        Examples
        --------
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3), fastgd.Dense(1)], "squared_error", n_inputs=2)
        >>> [array.shape for array in net.get_weights()]
        [(2, 3), (3,), (3, 1), (1,)]
        """
        with self._live().lock:
            return [np.array(view, order="C") for view in self._arrays(optimizer=False).values()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace all weights, given as `get_weights` returns them; all are checked first.

        The optimiser's state is left as it is. A fit in another thread goes on from the new
        weights with its next step.

        Raises
        ------
        ValueError, TypeError
            If the number of arrays, a shape, a dtype or a value is wrong. Nothing is changed then.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=1)
        >>> net.set_weights([np.array([[2.0]]), np.array([1.0])])
        >>> net.predict(np.array([[3.0]]))
        array([[7.]], dtype=float32)
        """
        new = self._checked_weights(weights)
        self._live().assign(list(self._arrays(optimizer=False).values()), new)

    def _checked_weights(self, weights: object) -> list[Array]:
        """Return weights as `set_weights` takes them, in the network's dtype."""
        views = self._arrays(optimizer=False)
        if not isinstance(weights, Iterable):
            raise TypeError(f"weights must be a list of arrays, not {weights!r}")
        weights = list(weights)
        if len(weights) != len(views):
            raise ValueError(
                f"{len(weights)} arrays were given; the network has {len(views)}: "
                f"{', '.join(views)}"
            )
        return [
            fitting(name, value, view.shape, view.dtype)
            for (name, view), value in zip(views.items(), weights, strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        if self._engine is None:
            return self._plain_state()
        with self._engine.lock:
            return self._plain_state()

    def _plain_state(self) -> dict[str, Any]:
        return {
            "arguments": {
                "layers": [copy.copy(layer) for layer in self._layers],
                "loss": self.loss,
                "optimizer": self._optimizer,
                "n_inputs": self._n_inputs,
                "dtype": self.dtype.name,
                "seed": self.seed,
                "input_scale": self._input_scale,
            },
            "feature_names": self._feature_names,
            "metadata": self.metadata,
            "history": None if self.history is None else self.history._copy(),
            "resume": self._resume_state(),
            "numbers": None
            if self._engine is None
            else (self.step, self.epoch, {k: v.copy() for k, v in self._arrays().items()}),
            # Of subclasses and of users.
            "others": {k: v for k, v in self.__dict__.items() if k not in _own_names()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not that of a subclass, which may take other arguments.
        Network.__init__(self, **state["arguments"])
        self.__dict__.update(state.get("others", {}))  # absent from older pickles
        self._feature_names = state.get("feature_names")  # absent from older pickles
        self.metadata, self.history = state["metadata"], state["history"]
        self._resume = state["resume"]
        if state["numbers"] is not None:
            step, epoch, arrays = state["numbers"]
            self._load_numbers(step, epoch, arrays)

    def _load_numbers(self, step: int, epoch: int, arrays: Mapping[str, Array]) -> None:
        """Take over checked numbers."""
        engine = self._live()
        found = [(view, arrays[name]) for name, view in self._arrays().items() if name in arrays]
        _kernels.Assignment([view for view, _ in found], [new for _, new in found]).assign()
        engine.step, engine.epoch = step, epoch

    def _resume_state(self) -> dict[str, Any] | None:
        training = self._training
        return self._resume if training is None else training.state()

    def __repr__(self) -> str:
        loss = repr(self._loss_name if self._loss_name != "custom" else self.loss)
        if isinstance(self.loss, Loss) and self.loss.param:
            loss = repr(self.loss)
        return (
            f"Network({list(self._layers)!r}, loss={loss}, optimizer={self._optimizer!r}, "
            f"n_inputs={self._n_inputs}, dtype={self.dtype.name!r}, seed={self.seed}"
            f"{f', input_scale={self._input_scale!r}' if self._input_scale != 1 else ''})"
        )

    # ---- checks ---------------------------------------------------------------------------

    def _check(
        self,
        X: object,
        y: object,
        sample_weight: object = None,
        prefix: str = "",
        expected: Sequence[str] | None = None,
    ) -> Data:
        """Return checked X, y and weights; nothing of the network is touched.

        expected: the names of the features, by default the network's.
        """
        x_name, y_name, w_name = (prefix + name for name in ("X", "y", "sample_weight"))
        checked = self._features(X, x_name, expected)
        if y is None:
            raise TypeError(f"{y_name} is missing; only Blocks bring their own")
        n_samples = len(checked)
        target = targets(y, self._loss_name, self.n_outputs, n_samples, self.dtype, y_name, x_name)
        weights = sample_weights(sample_weight, n_samples, self.dtype, w_name, x_name)
        return Data(checked, target, weights)

    def _features(
        self,
        X: object,
        name: str = "X",
        expected: Sequence[str] | None = None,
        *,
        values: bool = True,
    ) -> Array:
        """Return checked X; expected: the names of its columns, by default the network's."""
        names = None
        if is_table(X):
            from . import _frames

            names = _frames.names_of(name, X)
            expected = expected or self._feature_names
            if names is not None and expected is not None:
                _frames.check_names(name, names, expected)
            X = _frames.to_features(name, X, self.dtype)
        return features(
            X, self._n_inputs, self.dtype, name, self._input_scale, values=values, columns=names
        )

    def _check_weights(self) -> None:
        """Refuse weights that were made NaN or infinite through the live views."""
        if not self._live().all_finite():
            bad = [name for name, view in self._arrays(False).items() if not _all_finite(view)]
            raise ValueError(f"weights are not finite: {', '.join(bad)}")

    def _training_changes(self) -> dict[str, Any]:
        """Return the attributes that training changes before its first step: if it fails before
        one, they are put back."""
        names = (
            "_engine", "_n_inputs", "_layers", "_feature_names", "_resume", "_short",
            "history", "stop_training",
        )  # fmt: skip
        return {name: self.__dict__[name] for name in names}

    def _use_threads(self, n_threads: int) -> None:
        engine = self._live()
        if engine.n_threads != n_threads:
            engine.n_threads = n_threads
            # The short way of train_step keeps to the number that it began with.
            self._short = None

    # ---- training -------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        validation_data: Sequence[ArrayLike] | Blocks | None = None,
        validation_split: float = 0.0,
        callbacks: Callback | Sequence[Callback] | None = (),
        metrics: Metrics | None = (),
        verbose: Literal["auto", 0, 1, 2] = "auto",
        n_threads: int | None = None,
        resume: bool = False,
    ) -> History:
        """Train for a number of epochs; a second call goes on where the first one stopped.

        Parameters
        ----------
        X : array or table (n_samples, n_inputs), or Blocks
            An array of any real dtype and memory layout, read-only or memory-mapped; not copied
            unless its dtype needs it (float16, long double, another byte order), and never changed.
            A table of pandas, polars or pyarrow with columns of numbers, whose names are kept in
            ``feature_names``. Data larger than memory: `Blocks`, which bring y and sample_weight.
        y : array, column or table
            Targets (n_samples, units), or (n_samples,) for one unit. cross_entropy: class labels
            (n_samples,) of an integer dtype, bool, or floats with integer values; or rows of
            probabilities. Rows of tables are matched by their place, not by an index.
        epochs : int
            Passes over the data.
        batch_size : int
            Samples in one step; the last batch of an epoch may be smaller.
        shuffle : bool
            Whether each epoch draws a new order, from the network's seed and epoch alone.
        sample_weight : array (n_samples,), optional
            Not negative. A batch's loss is the weighted mean over its samples.
        validation_data : (X, y), (X, y, sample_weight) or Blocks, optional
            Evaluated after every epoch.
        validation_split : float
            Share of the samples, from 0 to below 1, that is kept for validation instead: the last
            ones, so shuffle sorted data first.
        callbacks : sequence of Callback, optional
        metrics : sequence of str or callable, optional
            As in `fastgd.metrics.get`; of the training data they use the outputs of the epoch's
            steps as the weights moved.
        verbose : {"auto", 0, 1, 2}
            0 silent; 1 a progress bar; 2 a line for each epoch; "auto" a bar on a terminal or in a
            notebook, elsewhere a line for the newest epoch, at most one a second, and for the
            last. All of it goes to stderr.
        n_threads : int, optional
            By default that of `fastgd.config`. The bits of the result do not depend on it.
        resume : bool
            Go on with the fit that a `Checkpoint` kept, in a network from `fastgd.load`; epochs
            counts those of the first fit as well.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            For data or settings that cannot be used. Nothing is changed then.
        DivergenceError
            When a loss or a weight is not finite; every weight keeps its last finite value.
        ValidationError
            When a compiled operation disagrees with the reference.
        KeyboardInterrupt
            After Ctrl-C; the network is left as it was after the newest step.
        RuntimeError
            While another thread fits the network: one at a time may train it.

        Notes
        -----
        Everything is checked before the first weight changes; of `Blocks`, each block before it is
        trained on. Without callbacks, metrics, validation or a display, all epochs on arrays run in
        one native call. Other threads that predict, evaluate, save, or get or set weights meanwhile
        do so between two steps.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", optimizer="adam")
        >>> history = net.fit(X, X, epochs=2, validation_split=0.25, verbose=0)
        >>> len(history.history["val_loss"])
        2
        """
        self._fitting.check()
        epochs = integer("epochs", epochs, maximum=2**63 - 1)
        batch_size = integer("batch_size", batch_size)
        shuffle = boolean("shuffle", shuffle)
        threads = threads_in_force(n_threads)
        functions = self._metric_functions(metrics)
        hooks = callback_list(callbacks)
        reporters = _callbacks.reporters(verbose)
        split = real("validation_split", validation_split, minimum=0, below=1)
        names = ["loss", "lr", "seconds", *functions]
        if validation_data is not None or split:
            names += ["val_loss", *(f"val_{name}" for name in functions)]
        if validation_data is not None and split:
            raise ValueError("give either validation_data or validation_split, not both")
        history, first_epoch, stopped, first_step = History(), 0, False, 0
        resume = boolean("resume", resume)
        if resume:
            if self._resume is None or self.history is None:
                raise ValueError(
                    "there is no fit to resume; load a file that a Checkpoint has written"
                )
            history, first_epoch = self.history, self._resume["done"]
            stopped, first_step = self._resume["stopped"], self._resume.get("steps", 0)
        left = max(1, epochs - first_epoch)
        check_monitors(self._optimizer.lr, hooks, names)
        # Before X is opened: both may read from the same place.
        looked = self._look_at(validation_data, left) if is_blocks(validation_data) else None

        with ExitStack() as stack:
            windows = None
            if is_blocks(X):
                from .blocks import Windows

                _check_beside_blocks(y, sample_weight, split)
                rows = -(-X.buffer_rows // batch_size) * batch_size
                windows = stack.enter_context(Windows(self, X, rows, n_passes=left))
                data, feature_names = windows.peek(), windows.names
            else:
                data = self._check(X, y, sample_weight)
                feature_names = self._names_of(X)
            validation = self._validation(validation_data, looked, data, feature_names)
            self._check_measurable(functions, data, validation)
            if split:
                data, validation = _split(data, split, self.dtype)
            if resume and self._resume is not None:
                restore_callbacks(self, hooks, self._resume["callbacks"])

            # Checking takes its time: another thread's fit may have begun meanwhile.
            with self._fitting:
                before = self._training_changes()
                engine: Engine | None = before["_engine"]
                first = 0 if engine is None else engine.n_run
                try:
                    self._build_once(data.X.shape[1])
                    self._check_weights()
                    self._live().n_threads = threads
                    self._feature_names = feature_names
                    self._resume = self._short = None
                    self.history = history
                    self.stop_training = stopped
                    settings: dict[str, Any] = {
                        "validation": validation,
                        "epochs": epochs,
                        "batch_size": batch_size,
                        "shuffle": shuffle,
                        "functions": functions,
                        "callbacks": hooks,
                        "reporters": reporters,
                        "history": history,
                        "first_epoch": first_epoch,
                    }
                    if windows is None:
                        training = Training(self, data, **settings)
                    else:
                        settings["first_step"] = first_step
                        training = BlockTraining(self, windows, **settings)
                    self._training = training
                    training.run()
                except (DivergenceError, ValidationError):
                    raise  # what a step has found is looked into in the network that it found
                except BaseException:
                    if self._engine is None or self._engine.n_run == first:
                        self.__dict__.update(before)
                    raise
                finally:
                    self._training = None
        return history

    def _names_of(self, X: object) -> tuple[str, ...] | None:
        """Return the names of the features of checked X: those of a table, else the ones known."""
        if is_table(X):
            from ._frames import names_of

            return names_of("X", X) or self._feature_names
        return self._feature_names

    def _look_at(self, blocks: Blocks, times: int) -> tuple[int, Sequence[str] | None] | None:
        """Check the first buffer of validation data; return its features' number and names.

        None of what can be read only once. times: how often they are to be read afterwards.
        """
        from .blocks import Windows

        looks = int(blocks._source.is_repeatable)
        with Windows(
            self,
            blocks,
            _VALIDATED_SAMPLES,
            n_passes=times + looks,
            prefix="validation ",
            prefetch=False,
        ) as windows:
            return (windows.peek().X.shape[1], windows.names) if looks else None

    def _validation(
        self,
        given: Sequence[ArrayLike] | Blocks | None,
        looked: tuple[int, Sequence[str] | None] | None,
        data: Data,
        names: Sequence[str] | None,
    ) -> Data | Blocks | None:
        n_inputs = data.X.shape[1]
        if given is None:
            return None
        if is_blocks(given):
            if looked is not None:
                if names is not None and looked[1] is not None:
                    from ._frames import check_names

                    check_names("validation X", looked[1], names)
                _check_widths(looked[0], n_inputs)
            return given
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise TypeError("validation_data must be (X, y), (X, y, sample_weight) or Blocks")
        weight = given[2] if len(given) == 3 else None
        checked = self._check(given[0], given[1], weight, "validation ", names)
        _check_widths(checked.X.shape[1], n_inputs)
        return checked

    def _metric_functions(self, given: Metrics | None) -> dict[str, MetricFunction]:
        functions = metrics.get(() if given is None else given)
        if functions.get("accuracy") is metrics.accuracy and self._loss_name == "log_loss":
            functions["accuracy"] = _multilabel_accuracy
        return functions

    def _check_measurable(
        self,
        functions: Mapping[str, MetricFunction],
        *parts: Data | Blocks | None,
    ) -> None:
        """Refuse targets that a metric cannot take; of blocks, those of the first window.

        parts: the training data, and those for validation.
        """
        for name, part in zip(("y", "validation y"), parts, strict=True):
            if isinstance(part, Data):
                metrics.check(functions, part.y, self.n_outputs, name)

    def train_step(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Train on one mini-batch: one step, one native call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. C-contiguous arrays of the network's dtype, and int64 labels, take the
            shortest way.

        Returns
        -------
        float
            The mean loss of the batch before the step, penalties included.

        Raises
        ------
        ValueError, DivergenceError, ValidationError, RuntimeError
            As in `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", n_inputs=2)
        >>> X, y = np.eye(2, dtype="float32"), np.ones((2, 1), dtype="float32")
        >>> first = net.train_step(X, y)
        >>> net.train_step(X, y) < first
        True
        """
        if self._short is active.settings and sample_weight is None:
            engine: Engine = self._engine  # type: ignore[assignment]
            try:
                loss = engine.short_step(X, y, self._optimizer)
            except Divergence as error:
                if error.lr is None:
                    raise
                self._check_weights()
                number = engine.step - (error.what == "weight")
                raise divergence(error, self, error.lr, None, number) from None
            if loss is not None:
                return loss
        return self._checked_train_step(X, y, sample_weight)

    def _checked_train_step(self, X: object, y: object, sample_weight: object) -> float:
        """Train on one mini-batch with all checks, and prepare the short way."""
        self._fitting.check()
        data = self._check(X, y, sample_weight)
        before, first = self._training_changes(), self.step
        try:
            return self._step_on(data, self._names_of(X))
        except (DivergenceError, ValidationError):
            raise
        except BaseException:
            if self.step == first:
                # Not under a fit that another thread has begun meanwhile.
                with suppress(RuntimeError), self._fitting:
                    self.__dict__.update(before)
            raise

    def _step_on(self, data: Data, feature_names: tuple[str, ...] | None) -> float:
        """Train on one mini-batch of checked data."""
        self._build_once(data.X.shape[1])
        self._feature_names = feature_names
        engine, optimizer, settings = self._live(), self._optimizer, active.settings
        if self._short is not settings:
            self._check_weights()
        engine.n_threads = threads_in_force()
        number = engine.step
        lr = float(optimizer.learning_rates(number, 1)[0])
        path = engine.path(len(data.X), data.sample_weight is None)
        key = *operations(self), path, engine.forms
        self._resume = self._short = None
        try:
            if settings.validate == "always" or (
                settings.validate == "first_step" and key not in verified
            ):
                from ._verify import verify

                loss = float(engine.checked_step(*data, lr, verify))
                verified.add(key)
            else:
                loss = float(engine.train_step(*data, lr))
        except Divergence as error:
            self._check_weights()
            raise divergence(error, self, lr, None, number) from None
        if settings.validate != "always" and self._loss_name != "custom":
            self._short = settings
            engine.short_path = path
        return loss

    def loss_and_grad(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, list[tuple[Array, Array | None]]]:
        """Return the loss and its gradient; nothing is updated.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; all samples are one batch.

        Returns
        -------
        loss : float
            Mean loss with penalties, without dropout.
        gradients : list of (dW, db)
            New arrays of the shapes of weight and bias of each layer; db is None without bias.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1, weight_init="zeros")], loss="squared_error",
        ...                      n_inputs=1)
        >>> loss, [(dW, db)] = net.loss_and_grad(np.array([[2.0]]), np.array([3.0]))
        >>> loss, dW.item(), db.item()
        (4.5, -6.0, -3.0)
        """
        self._fitting.check()
        engine = self._live()
        data = self._check(X, y, sample_weight)
        self._check_weights()
        engine.n_threads = threads_in_force()
        try:
            loss, gradients = engine.loss_and_grad(*data)
        except Divergence:
            raise DivergenceError(
                "the loss of these samples is not finite, and so has no gradient. Try smaller "
                "weights, or standardised inputs and targets."
            ) from None
        return float(loss), gradients

    def gradient_flow(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> GradientFlowReport:
        """Look at how values and gradients flow through the layers; nothing is changed.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; all samples are one batch, without dropout. Some hundred rows say as much
            as all of them.

        Returns
        -------
        GradientFlowReport
            For each layer mean and standard deviation of z and a, the shares of saturated values
            and of dead units, the norms of delta, dW and W, and the update-to-weight ratio of the
            optimiser's next step; ``warnings`` says what is wrong and what to try. It prints as a
            table, shows as one in a notebook, and has ``plot()``.

        Raises
        ------
        ValueError, TypeError
            For data that cannot be used, and for weights that are not finite.
        RuntimeError
            If the network has no weights yet.

        Notes
        -----
        Weights, optimiser state, counters and random streams stay as they are. A loss that is not
        finite is no error here but a warning of the report.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(8, "sigmoid") for _ in range(9)] + [fastgd.Dense(1)],
        ...                      "squared_error", n_inputs=2)
        >>> X = np.random.default_rng(0).normal(size=(64, 2))
        >>> report = net.gradient_flow(X, X[:, 0])
        >>> report.warnings[0][:19]
        'Vanishing gradients'
        """
        from ._flow import look

        self._live()
        data = self._check(X, y, sample_weight)
        self._check_weights()
        return look(self, data)

    # ---- use ------------------------------------------------------------------------------

    def predict(self, X: ArrayLike | Blocks, *, n_threads: int | None = None) -> Array:
        """Return the outputs (n_samples, units) of the last activation, in the network's dtype.

        Parameters
        ----------
        X : array or table (n_samples, n_inputs), or Blocks
        n_threads : int, optional

        Notes
        -----
        A sample's output does not depend, to the bit, on the others or on its place among them.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3)], loss="cross_entropy", n_inputs=2)
        >>> net.predict(np.zeros((4, 2))).shape
        (4, 3)
        """
        if self._short_predict is active.settings and n_threads is None:
            found = self._engine.short_predict(X)  # type: ignore[union-attr]
            if found is not None:
                return found
        self._live()
        settings = active.settings
        threads = threads_in_force(n_threads)
        if is_blocks(X):
            self._check_weights()
            self._use_threads(threads)
            return self._predict_blocks(X)
        checked = self._features(X, values=False)
        self._check_weights()
        self._use_threads(threads)
        out = self._outputs(checked, self._names_of(X) if is_table(X) else None)
        self._short_predict = settings
        return out

    def _predict_blocks(self, blocks: Blocks) -> Array:
        from .blocks import Windows

        with Windows(self, blocks, blocks.buffer_rows, with_target=False) as windows:
            parts = [self._outputs(data.X) for data in windows.one_pass()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _outputs(self, X: Array, columns: Sequence[str] | None = None) -> Array:
        """Return the outputs of X, or name its first value that is not finite in the dtype."""
        out = np.empty((len(X), self.n_outputs), self.dtype)
        if self._live().predict(X, out):
            return out
        features(X, self._n_inputs, self.dtype, scale=self._input_scale, columns=columns)
        raise ValueError("X has changed while it was read: some values were not finite")

    @overload
    def evaluate(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: None = None,
        n_threads: int | None = None,
    ) -> float: ...

    @overload
    def evaluate(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics,
        n_threads: int | None = None,
    ) -> dict[str, float]: ...

    def evaluate(
        self,
        X: ArrayLike | Blocks,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        metrics: Metrics | None = (),
        n_threads: int | None = None,
    ) -> float | dict[str, float]:
        """Return the mean loss, without penalties and dropout.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        metrics : sequence of str or callable, optional
            As in `fastgd.metrics.get`.
        n_threads : int, optional

        Returns
        -------
        float, or with metrics a dict of "loss" and each of them

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1, weight_init="zeros")], loss="squared_error",
        ...                      n_inputs=1)
        >>> net.evaluate(np.ones((4, 1)), np.ones(4), metrics=("mae",))
        {'loss': 0.5, 'mae': 1.0}
        """
        self._live()
        threads = threads_in_force(n_threads)
        functions = self._metric_functions(metrics)
        data: Data | Blocks
        if is_blocks(X):
            _check_beside_blocks(y, sample_weight)
            data = X
        else:
            data = self._check(X, y, sample_weight)
        self._check_weights()
        self._use_threads(threads)
        values = self._evaluate(data, functions)
        return values if functions else values["loss"]

    def _evaluate(
        self, data: Data | Blocks, functions: dict[str, MetricFunction], prefix: str = ""
    ) -> dict[str, float]:
        if not isinstance(data, Data):
            return self._evaluate_blocks(data, functions, prefix)
        outputs = np.empty((len(data.X), self.n_outputs), self.dtype) if functions else None
        values = {f"{prefix}loss": self._reduced(*self._loss_sums(data, outputs))}
        if outputs is not None:
            values |= metrics.evaluate(functions, data.y, outputs, data.sample_weight, prefix)
        return values

    def _evaluate_blocks(
        self, blocks: Blocks, functions: dict[str, MetricFunction], prefix: str
    ) -> dict[str, float]:
        from .blocks import Windows

        loss = weight = 0.0
        seen: list[tuple[Data, Array]] = []
        data_name = "validation " if prefix == "val_" else ""
        with Windows(self, blocks, blocks.buffer_rows, prefix=data_name) as windows:
            for data in windows.one_pass():
                outputs = None
                if functions:
                    outputs = np.empty((len(data.X), self.n_outputs), self.dtype)
                    seen.append((data.kept(), outputs))
                sums = self._loss_sums(data, outputs)
                loss, weight = loss + sums[0], weight + sums[1]
        values = {f"{prefix}loss": self._reduced(loss, weight)}
        if functions:
            data = Data.joined([part for part, _ in seen])
            outputs = np.concatenate([outputs for _, outputs in seen])
            values |= metrics.evaluate(functions, data.y, outputs, data.sample_weight, prefix)
        return values

    def _reduced(self, loss: float, weight: float) -> float:
        """Return the loss of all samples from the sums of their losses and weights."""
        return loss / weight

    def _loss_sums(self, data: Data, outputs: Array | None) -> tuple[float, float]:
        """Return the sums of the samples' losses and of their weights."""
        engine = self._live()
        loss, weight = engine.evaluate(*data, outputs)
        if data.sample_weight is not None and getattr(engine.custom_loss, "returns_mean", False):
            raise ValueError(
                "sample_weight needs a custom loss whose value returns one loss for each sample"
            )
        return float(loss), float(weight)

    def validate(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ValidationReport:
        """Repeat one training step by the NumPy reference, operation by operation.

        The network is not changed: the step is done on a copy. At most the first 1024 samples are
        used, as one batch.

        Returns
        -------
        ValidationReport

        Raises
        ------
        ValidationError
            If an operation's result leaves its error bound; it names layer, operation and the
            worst element.

        Examples
        --------
        >>> import numpy as np
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(2, "relu"), fastgd.Dense(1)], loss="squared_error")
        >>> report = net.validate(np.eye(3), np.ones(3))
        >>> report.operations[0]
        ('forward', 0)
        """
        from ._verify import measure, verify

        data = self._check(X, y, sample_weight).rows(slice(_VALIDATED_SAMPLES))
        twin = Network.__new__(Network)
        twin.__setstate__(copy.deepcopy(self.__getstate__() | {"others": {}}))
        if twin._engine is None:
            twin._build(data.X.shape[1])
        twin._check_weights()
        engine = twin._live()
        lr = float(twin._optimizer.learning_rates(engine.step, 1)[0])
        report = ValidationReport(_kernels.active_isa(), self.dtype.name, len(data.X))

        def watch(op: str, layer: int, inputs: Mapping[str, Any], found: Mapping[str, Any]) -> None:
            share = max(comparison.share for comparison in measure(op, layer, inputs, found))
            if not share <= 1:
                verify(op, layer, inputs, found)
            if inputs.get("first_row", 0) > 0:  # the operation goes on
                report.shares[-1] = max(report.shares[-1], share)
                return
            report.operations.append((op, layer))
            report.shares.append(share)

        try:
            engine.checked_step(*data, lr, watch)
        except Divergence as error:
            raise divergence(error, twin, lr, None, engine.step) from None
        return report

    def summary(self) -> str:
        """Print a table of the layers, and return it.

        Examples
        --------
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3, "relu"), fastgd.Dense(1)], "squared_error",
        ...                      n_inputs=2)
        >>> text = net.summary()
        layer  shape   activation  parameters  memory
        0      2 -> 3  relu                 9    36 B
        1      3 -> 1  identity             4    16 B
        total                              13    52 B
        loss squared_error, optimizer sgd, float32, seed 0
        """
        rows, total = self._layer_table()
        rows = [_SUMMARY_HEADER, *rows, *([] if total is None else [total])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        text = "\n".join([*lines, self._settings_line(), *self._names_lines()])
        print(text)
        return text

    def _layer_table(self) -> tuple[list[tuple[str, ...]], tuple[str, ...] | None]:
        """Return a row for each layer, and their total unless n_inputs is still unknown."""
        rows: list[tuple[str, ...]] = []
        total = 0
        fan_in = self._n_inputs
        size = self.dtype.itemsize
        for i, layer in enumerate(self._layers):
            name, _ = _name_and_param(layer)
            if fan_in is None:
                count, memory = "?", "?"
            else:
                parameters = (fan_in + layer.use_bias) * layer.units
                total += parameters
                count, memory = f"{parameters:,}", _bytes(parameters * size)
            shape = f"{'?' if fan_in is None else fan_in} -> {layer.units}"
            rows.append((str(i), shape, name, count, memory))
            fan_in = layer.units
        if self._n_inputs is None:
            return rows, None
        return rows, ("total", "", "", f"{total:,}", _bytes(total * size))

    def _names_lines(self) -> list[str]:
        if self._feature_names is None:
            return []
        from ._frames import names_line

        return [names_line(self._feature_names)]

    def _settings_line(self) -> str:
        return (
            f"loss {self._loss_name}, optimizer {self._optimizer.name}, {self.dtype.name}, "
            f"seed {self.seed}"
            f"{f', input_scale {self._input_scale:g}' if self._input_scale != 1 else ''}"
        )

    def _repr_html_(self) -> str:
        """Return the table of `summary` for notebooks, with optimiser states and progress."""
        from ._html import block, note, table

        rows, total = self._layer_table()
        notes = [self._settings_line(), *self._names_lines(), repr(self._optimizer)]
        if self._engine is not None:
            states = self._engine.optimizer_state()
            size = sum(a.nbytes for pairs in states.values() for p in pairs for a in p
                       if a is not None)  # fmt: skip
            notes.append(
                f"{self.epoch:,} epochs and {self.step:,} steps done; optimiser state "
                f"{_bytes(size)}"
            )
        parts = table(_SUMMARY_HEADER, rows, n_text=3, foot=total)
        return block("fastgd.Network", parts, *map(note, notes))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        include_optimizer: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the network to a file that `fastgd.load` reads.

        Parameters
        ----------
        path : str or path-like
            A safetensors file; an old one is replaced in one step, or left as it was if anything
            fails.
        include_optimizer : bool
            Whether to keep the optimiser's state, the counters of steps and epochs, and the
            history, with which training goes on to the same bits. Otherwise a loaded network
            begins anew from the weights.
        metadata : dict, optional
            JSON values of your own, in place of ``network.metadata``. They come back as JSON has
            them: keys are strings, and tuples lists. Arrays need ``.tolist()``.

        Raises
        ------
        OSError
            If the file cannot be written.
        RuntimeError
            If the network has no weights yet.
        TypeError, ValueError
            If metadata is not made of JSON values.
        ValueError
            If a weight, or a value of the optimiser's state, is not finite, if the history (of
            more than a million epochs) and the metadata are more than a file holds, or if `load`
            would refuse the file. The old file stays.

        Notes
        -----
        A custom loss or a learning rate that is a callable cannot be stored: give it again to
        `fastgd.load`. What is saved within an epoch of a fit, or by another thread than the fit's,
        can be trained further, but there is no fit to resume in it. Unlike a pickle, the file holds
        data only, and is safe to load from others.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", n_inputs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     net.save(path, metadata={"features": ["width", "height"]})
        ...     fastgd.load(path).metadata
        {'features': ['width', 'height']}
        """
        from .io import save

        save(self, path, include_optimizer=include_optimizer, metadata=metadata)

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        input_dtype: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the network as an ONNX model, which other runtimes and `fastgd.from_onnx` read.

        Parameters
        ----------
        path : str or path-like
            An old file is replaced in one step, or left as it was if anything fails.
        input_dtype : str, optional
            The dtype of the model's input: "float32", "float64", or an integer one such as
            "uint8"; by default the network's own. Others are cast to the network's dtype first, as
            `predict` does, so that with input_scale=1/255 a model takes images as bytes.
        metadata : dict, optional
            JSON values of your own, as in `save`: the model's metadata_props hold each as JSON
            under its key, and the loss under "fastgd.loss".

        Raises
        ------
        ImportError
            Without the package onnx, which the extra ``onnx`` installs.
        OSError
            If the file cannot be written.
        RuntimeError
            If the network has no weights yet.
        TypeError, ValueError
            If metadata is not made of JSON values, if a weight is not finite, or if the model
            is larger than the 2 GiB that one ONNX file holds.

        Notes
        -----
        The model has one input, "X" (n_samples, n_inputs), and one output, "output" (n_samples,
        units), what `predict` returns; the number of samples is free. Values between are called
        "layers.0.z", "layers.0.a", and so on. It computes in the network's dtype with operators
        that onnxruntime has in float32 and in float64 (operator set 13), and agrees with `predict`
        to 1e-5 and 1e-12 of the largest output. It holds nothing of the training but the loss.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastgd
        >>> net = fastgd.Network([fastgd.Dense(3)], "cross_entropy", n_inputs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.onnx")
        ...     net.to_onnx(path, metadata={"classes": ["red", "green", "blue"]})
        ...     fastgd.from_onnx(path).metadata
        {'classes': ['red', 'green', 'blue']}
        """
        from ._onnx_writer import to_onnx

        to_onnx(self, path, input_dtype=input_dtype, metadata=metadata)


@cache
def _own_names() -> frozenset[str]:
    """Return the names of the attributes that each network has."""
    return frozenset(vars(Network([Dense(1)], "squared_error")))


_building = fork_safe_lock()
_VALIDATED_SAMPLES = 1024
_SUMMARY_HEADER = ("layer", "shape", "activation", "parameters", "memory")


class ValidationReport:
    """What `Network.validate` has checked; that it exists says that all of it held.

    Attributes
    ----------
    isa, dtype : str
    n_samples : int
    operations : list of (str, int)
        Name of the operation and index of the layer, in the order of the step.
    shares : list of float
        For each operation, its largest error as a share of the error bound there.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> net = fastgd.Network([fastgd.Dense(1)], loss="squared_error", n_inputs=1)
    >>> max(net.validate(np.ones((2, 1)), np.ones(2)).shares) <= 1
    True
    """

    def __init__(self, isa: str, dtype: str, n_samples: int) -> None:
        self.isa = isa
        self.dtype = dtype
        self.n_samples = n_samples
        self.operations: list[tuple[str, int]] = []
        self.shares: list[float] = []

    def __repr__(self) -> str:
        return (
            f"ValidationReport({len(self.operations)} operations on {self.n_samples} samples, "
            f"{self.isa}, {self.dtype}: largest error {max(self.shares, default=0.0):.3g} of its "
            "bound)"
        )


def _resolve(layers: Sequence[Dense], loss_name: str) -> tuple[Dense, ...]:
    """Return copies of the layers with every activation settled, or say what does not fit."""
    if isinstance(layers, Dense) or not isinstance(layers, Sequence):
        raise TypeError(f"layers must be a list of Dense layers, not {layers!r}")
    if not layers:
        raise ValueError("layers must hold at least one layer")
    for layer in layers:
        if not isinstance(layer, Dense):
            raise TypeError(f"layers must be Dense objects, not {layer!r}")
    from .activations import get

    resolved = []
    for i, layer in enumerate(layers):
        is_last = i == len(layers) - 1
        if layer.activation is not None:
            activation = layer.activation
        elif is_last and loss_name != "custom":
            activation = get(canonical_output(loss_name))
        else:
            activation = get("identity")
        if activation.name == "softmax" and not is_last:
            raise ValueError(f"softmax is for the last layer only, not for layer {i}")
        resolved.append(layer._bound(None, i, activation))
    last = resolved[-1]
    assert last.activation is not None
    if loss_name != "custom":
        check_pairing(loss_name, last.activation.name)
    elif last.activation.name == "softmax":
        raise ValueError(
            "softmax goes with cross_entropy or squared_error only, not with a custom loss"
        )
    if loss_name == "cross_entropy" and last.units == 1:
        raise ValueError(
            "cross_entropy needs one output for each class, at least 2; for one output use log_loss"
        )
    if last.dropout:
        raise ValueError("dropout is not allowed on the last layer")
    return tuple(resolved)


def _name_and_param(layer: Dense) -> tuple[str, float]:
    assert layer.activation is not None
    return layer.activation.name, float(layer.activation.param)


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    # NumPy takes None for float64, also when it compares.
    if dtype is not None:
        try:
            found = np.dtype(dtype)
            if found in _DTYPES:
                return found
        except TypeError:
            pass
    raise ValueError(f"unknown dtype {dtype!r}; choose from float32, float64")


def _scale(input_scale: float, dtype: np.dtype[Any]) -> float:
    scale = real("input_scale", input_scale, above=0)
    held("Network", {"input_scale": scale}, dtype)
    return scale


def callback_list(callbacks: object) -> list[Callback]:
    """Return callbacks as a list, or refuse what is none."""
    if callbacks is None:
        return []
    if not isinstance(callbacks, Callback | Iterable):
        raise TypeError(f"callbacks must be fastgd.Callback objects, not {callbacks!r}")
    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be fastgd.Callback objects, not {callback!r}")
        if callback.interval is not None:
            integer(f"interval of {type(callback).__name__}", callback.interval)
    return found


def check_monitors(lr: object, callbacks: Sequence[Callback], names: Sequence[str]) -> None:
    """Refuse a schedule or callback that waits for a value which the fit does not record."""
    for owner in (lr, *callbacks):
        monitor = getattr(owner, "monitor", None)
        # Schedules find out what "auto" is, as those of a user may; these two look for the name.
        looks = isinstance(owner, _callbacks.EarlyStopping | _callbacks.Checkpoint)
        known = names if looks else [*names, "auto"]
        if monitor is not None and monitor not in known:
            hint = ""
            if str(monitor).startswith("val_") and "val_loss" not in names:
                hint = ", or give validation data"
            raise ValueError(
                f"{type(owner).__name__} monitors {monitor!r}, which this fit does not record; "
                f"choose from {', '.join(names)}{hint}"
            )


def _check_widths(validated: int, n_inputs: int) -> None:
    if validated != n_inputs:
        raise ValueError(f"validation X has {validated} features, but X has {n_inputs}")


def _check_beside_blocks(y: object, sample_weight: object, split: float = 0.0) -> None:
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise TypeError(f"{name} must come with the blocks where X is Blocks, not beside them")
    if split:
        raise ValueError(
            "validation_split needs all rows at once: give other Blocks as validation_data"
        )


def _split(data: Data, share: float, dtype: np.dtype[Any]) -> tuple[Data, Data]:
    """Return views of the first samples and of the last ones."""
    n_samples = len(data.X)
    first = n_samples - round(n_samples * share)
    if not 0 < first < n_samples:
        raise ValueError(
            f"validation_split={share:g} of {n_samples} samples leaves none for training or "
            "validation"
        )
    parts = [data.rows(rows) for rows in (slice(first), slice(first, None))]
    for part in parts:
        if part.sample_weight is not None and count_as_zero(part.sample_weight, dtype):
            raise ValueError("validation_split leaves a part whose sample weights are all zero")
    return parts[0], parts[1]


def _multilabel_accuracy(y: Array, output: Array, sample_weight: Array | None = None) -> float:
    return metrics.accuracy(y, output, sample_weight, multilabel=True)


def _bytes(count: int) -> str:
    value, units = float(count), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while value >= 1024 and unit != "TiB":
        value, unit = value / 1024, next(units)
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
