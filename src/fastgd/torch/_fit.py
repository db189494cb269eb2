"""`fit`: a training loop on PyTorch's objects, run by the engine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .. import callbacks as _callbacks
from .._training import Data, Training
from .._validate import boolean, features, integer
from ..activations import Activation, HardSigmoid
from ..callbacks import Callback, Checkpoint, GradientFlow
from ..config import threads_in_force
from ..history import History
from ..layers import Dense
from ..network import Network, callback_list, check_monitors
from ..optimizers import Optimizer
from . import _losses, _modules, _optimizers
from ._losses import Objective, as_array
from ._modules import Stack

__all__ = ["Trainee", "fit"]


def fit(
    module: nn.Module,
    X: Any,
    y: Any,
    *,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    generator: torch.Generator | None = None,
    validation_data: Sequence[Any] | None = None,
    callbacks: Callback | Sequence[Callback] | None = (),
    verbose: Literal["auto", 0, 1, 2] = "auto",
    n_threads: int | None = None,
) -> History:
    """Train a module in place, as a loop over a DataLoader would, by compiled code.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, the activations that fastgd has (ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Mish,
        Softplus, Softsign, Tanh, Sigmoid, Hardsigmoid, Identity), Dropout, a Flatten at the front
        and a Softmax or LogSoftmax at the end; nested ones too. Dropout acts where it is in
        training mode; its random numbers are fastgd's.
    X : Tensor, array or table (n_samples, n_inputs)
        Of any real dtype and layout, or of more dimensions in front of a Flatten; read where it
        lies, without a copy, and converted to the module's dtype batch by batch.
    y : Tensor, array, column or table
        (n_samples, n_outputs); class numbers (n_samples,) or probabilities (n_samples, n_classes)
        for CrossEntropyLoss.
    loss : torch.nn loss
        CrossEntropyLoss (class weights, ignored labels, label smoothing), NLLLoss, MSELoss, L1Loss,
        HuberLoss, BCELoss, BCEWithLogitsLoss or PoissonNLLLoss, with reduction "mean" or "sum".
    optimizer : torch.optim.Optimizer
        SGD, Adam, AdamW, RMSprop or Adagrad, with its groups of parameters. Parameters that it has
        not, or that require no gradient, stay as they are.
    epochs, batch_size : int
    shuffle : bool
        Whether each epoch has an order of its own: that in which a DataLoader with shuffle=True
        would take the samples, from the same random numbers.
    generator : torch.Generator, optional
        Where these come from; by default PyTorch's own, which torch.manual_seed sets, and which
        Dropout draws from as well, here and in PyTorch in different ways.
    validation_data : (X, y), optional
        Evaluated after every epoch, without dropout.
    callbacks : sequence of fastgd.Callback, optional
        As in `fastgd.Network.fit`, such as `fastgd.EarlyStopping`; their ``network`` is one that
        trains in the module's place, and the module gets its weights when the fit ends, also when a
        callback ends it. `fastgd.Checkpoint` and `fastgd.GradientFlow` are refused, and so is an
        epoch before which a callback has changed the optimizer's settings.
    verbose, n_threads
        As in `fastgd.Network.fit`.

    Returns
    -------
    History
        "loss", and "val_loss" with validation data: over all samples of an epoch, reduced as the
        loss reduces those of a batch.

    Raises
    ------
    ValueError, TypeError
        For a module, loss, optimizer, data or callbacks that are not supported. Nothing is changed
        then.
    DivergenceError, ValidationError, KeyboardInterrupt
        As in `fastgd.Network.fit`. Module and optimizer are left as they were after the newest
        step, in agreement with each other.

    Notes
    -----
    At the end the parameters, moments and counts of steps are written into PyTorch's own objects,
    and gradients are None, as after zero_grad: a program can go on in PyTorch, or here. A scheduler
    of learning rates is stepped between two calls.

    Examples
    --------
    >>> import torch
    >>> import fastgd.torch
    >>> _ = torch.manual_seed(0)
    >>> X = torch.rand(256, 2)
    >>> y = (X[:, 0] > X[:, 1]).long()
    >>> module = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    >>> loss = torch.nn.CrossEntropyLoss()
    >>> history = fastgd.torch.fit(
    ...     module, X, y, loss=loss, optimizer=optimizer, epochs=20, verbose=0)
    >>> history.history["loss"][-1] < 0.3
    True
    >>> int(optimizer.state[module[0].weight]["step"])
    160
    """
    epochs = integer("epochs", epochs)
    batch_size = integer("batch_size", batch_size)
    shuffle = boolean("shuffle", shuffle)
    threads = threads_in_force(n_threads)
    reporters = _callbacks.reporters(verbose)
    hooks = _hooks(callbacks, validation_data is not None)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {generator!r}")
    stack = _modules.read(module)
    objective = _losses.objective(loss, stack.output, stack.n_outputs, stack.dtype)
    plan = _optimizers.read(optimizer, stack.linears)
    data = _data(stack, objective, X, y, "")
    validation = None
    if validation_data is not None:
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise TypeError(f"validation_data must be (X, y), not {_kind_of(validation_data)}")
        X_val, y_val = validation_data
        validation = _data(stack, objective, X_val, y_val, "validation ")

    if any(hook.every_epoch for hook in hooks):
        hooks.append(_Unchanged(plan))
    network = Trainee(stack, objective, plan)
    engine = network._live()
    engine.n_threads = threads
    if any(stage.dropout for stage in stack.stages):
        engine.seed = _draw(None)
    history = network.history = History()
    training = Training(
        network,
        data,
        validation,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=False,
        functions={},
        callbacks=hooks,
        reporters=reporters,
        history=history,
        first_epoch=0,
        orders=_orders(len(data.X), generator) if shuffle else None,
    )
    try:
        with network._fitting:
            training.run()
    finally:
        with _uninterrupted():
            plan.take_from(engine)
    return history


class Trainee(Network):
    """The network that trains in place of a module."""

    _can_clip = False  # PyTorch's optimisers do not

    def __init__(self, stack: Stack, objective: Objective, plan: _optimizers.Plan) -> None:
        stages = stack.stages
        layers = [
            Dense(
                stage.linear.out_features,
                _as_torch(objective.activation if stage is stages[-1] else stage.activation),
                dropout=stage.dropout,
                bias=stage.linear.bias is not None,
                weight_init="zeros",
            )
            for stage in stages
        ]
        super().__init__(layers, objective.loss, plan.optimizer, stack.n_inputs, stack.dtype)
        engine = self._live()
        _optimizers.load(engine, stack.linears)
        self._check_weights()
        self.objective = objective
        account = "sum" if objective.is_sum else "mean"
        engine.set_account(account, objective.scale, objective.scale)
        plan.put_into(engine)

    @property
    def optimizer(self) -> Optimizer:
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | Optimizer) -> None:
        raise ValueError(
            "the optimizer of fastgd.torch.fit is PyTorch's: give another one to another call"
        )

    def _reduced(self, loss: float, weight: float) -> float:
        return self.objective.scale * loss / (1.0 if self.objective.is_sum else weight)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copy is a network like any other, which trains in no module's place.
        return object.__new__, (Network,), self.__getstate__() | {"others": {}}


class _Unchanged(Callback):
    """Refuses an epoch with settings that other callbacks have changed, such as by a scheduler."""

    last = True

    def __init__(self, plan: _optimizers.Plan) -> None:
        self.plan = plan

    def on_epoch_begin(self, epoch: int) -> None:
        if not self.plan.is_unchanged():
            raise ValueError(
                "callbacks: the optimizer's settings, or what requires a gradient, were changed "
                "during the fit, which goes by those that it began with; change them, and step a "
                "scheduler, between two calls"
            )


def _as_torch(activation: str | Activation) -> str | Activation:
    """Return an activation as PyTorch computes it."""
    if isinstance(activation, HardSigmoid):
        return HardSigmoid(slope=float(np.float32(1) / np.float32(6)))
    return activation


def _data(stack: Stack, objective: Objective, X: Any, y: Any, prefix: str) -> Data:
    """Return the data as the engine takes them."""
    name = f"{prefix}X"
    for array_name, array in ((name, X), (f"{prefix}y", y)):
        if isinstance(array, DataLoader | Dataset):
            raise TypeError(
                f"{array_name} is a {type(array).__name__}; give the tensors themselves, such as "
                "those of TensorDataset.tensors, and batch_size and shuffle beside them"
            )
        if array is None:
            raise TypeError(f"{array_name} is missing")
    rows = as_array(name, X)
    # Not to be flattened without samples, which `features` names.
    if stack.flattens and rows.ndim > 1 and len(rows):
        rows = rows.reshape(len(rows), -1)
    rows = features(rows, stack.n_inputs, np.dtype(stack.dtype), name)
    targets = objective.prepare(y, len(rows), f"{prefix}y")
    return Data(rows, targets.y, targets.weight)


def _kind_of(value: object) -> str:
    kind = type(value).__name__
    return f"{kind} of {len(value)}" if isinstance(value, tuple | list) else kind


def _hooks(callbacks: object, has_validation: bool) -> list[Callback]:
    """Return the callbacks, checked."""
    hooks = callback_list(callbacks)
    for hook in hooks:
        if isinstance(hook, Checkpoint):
            raise ValueError(
                "callbacks: a Checkpoint keeps a fastgd.Network, not a module and its optimizer; "
                "call fit for some epochs at a time, and torch.save between"
            )
        if isinstance(hook, GradientFlow):
            raise ValueError(
                "callbacks: GradientFlow knows fastgd's losses and optimisers only; look at "
                "fastgd.torch.from_module(module, loss).gradient_flow(X, y)"
            )
    names = ["loss", "lr", "seconds", *(["val_loss"] if has_validation else [])]
    check_monitors(None, hooks, names)
    return hooks


def _draw(generator: torch.Generator | None) -> int:
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def _orders(n: int, generator: torch.Generator | None) -> Callable[[int], NDArray[np.int64]]:
    """Return a function that draws the orders of so many epochs, as a DataLoader does."""

    def draw(n_epochs: int) -> NDArray[np.int64]:
        orders = np.empty((n_epochs, n), np.int64)
        for order in orders:
            _draw(generator)  # for the workers that a DataLoader might have
            source = generator
            if source is None:
                source = torch.Generator()
                source.manual_seed(_draw(None))
            order[:] = torch.randperm(n, generator=source).numpy()
            if generator is not None:
                # A sampler draws for samples beyond a whole number of passes, of which none are.
                torch.randperm(n, generator=source)
        return orders

    return draw


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C waiting until the block has ended: half of a state would be worse than none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[Any] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, lambda *args: waiting.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            before(*waiting[0])
