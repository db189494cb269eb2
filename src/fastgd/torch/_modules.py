"""What of a module is trained: its Linear layers, with the activation and the dropout of each.

A module is only read here. Whatever the engine would not compute as PyTorch does is refused by its
place in the module, its class, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.nn.modules.lazy import LazyModuleMixin

from .. import activations
from .._validate import Array
from ..activations import Activation

__all__ = ["Output", "Stack", "Stage", "activation_module", "read", "refuse_hooks"]

_DTYPES = (torch.float32, torch.float64)
# f(c z) = c f(z) for c > 0, so that dropout before f is dropout after it.
_HOMOGENEOUS = ("identity", "relu", "leaky_relu")


def _gelu(module: Any) -> Activation:
    if module.approximate != "none":
        raise ValueError(
            f"approximate={module.approximate!r} is not supported: use the default, 'none'"
        )
    return activations.GELU()


def _softplus(module: Any) -> Activation:
    if module.beta != 1:
        raise ValueError(f"beta={module.beta!r} is not supported: use the default, 1")
    if not module.threshold > 0:
        raise ValueError(f"threshold={module.threshold!r} is not supported: give one above 0")
    return activations.Softplus(float(module.threshold))


def _rows(module: Any) -> None:
    # dim=None is 1 for two dimensions.
    if module.dim not in (1, -1, None):
        raise ValueError(f"dim={module.dim!r} is not supported: use dim=1, over the outputs")


def _softmax(module: Any) -> Activation:
    _rows(module)
    return activations.Softmax()


def _log_softmax(module: Any) -> Activation:
    _rows(module)
    return activations.Identity()


_ACTIVATIONS: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.ReLU: lambda module: activations.ReLU(),
    nn.LeakyReLU: lambda module: activations.LeakyReLU(float(module.negative_slope)),
    nn.ELU: lambda module: activations.ELU(float(module.alpha)),
    nn.SELU: lambda module: activations.SELU(),
    nn.GELU: _gelu,
    nn.SiLU: lambda module: activations.SiLU(),
    nn.Mish: lambda module: activations.Mish(),
    nn.Softplus: _softplus,
    nn.Softsign: lambda module: activations.Softsign(),
    nn.Tanh: lambda module: activations.Tanh(),
    nn.Sigmoid: lambda module: activations.Sigmoid(),
    nn.Hardsigmoid: lambda module: activations.HardSigmoid(),
    nn.Softmax: _softmax,
    nn.LogSoftmax: _log_softmax,
}
_MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "identity": lambda act: nn.Identity(),
    "relu": lambda act: nn.ReLU(),
    "leaky_relu": lambda act: nn.LeakyReLU(act.alpha),
    "elu": lambda act: nn.ELU(act.alpha),
    "selu": lambda act: nn.SELU(),
    "gelu": lambda act: nn.GELU(),
    "silu": lambda act: nn.SiLU(),
    "mish": lambda act: nn.Mish(),
    # PyTorch has no softplus without a threshold; beyond 700 the two are equal in float64.
    "softplus": lambda act: nn.Softplus(threshold=act.threshold or 700.0),
    "softsign": lambda act: nn.Softsign(),
    "tanh": lambda act: nn.Tanh(),
    "sigmoid": lambda act: nn.Sigmoid(),
    "hard_sigmoid": lambda act: nn.Hardsigmoid(),
    "softmax": lambda act: nn.Softmax(dim=1),
}
_KNOWN = (
    "Linear, Flatten, Dropout, Identity, "
    f"{', '.join(kind.__name__ for kind in _ACTIVATIONS)} and Sequential of them"
)


def activation_module(activation: Activation) -> nn.Module:
    """Return the module of an activation; KeyError where PyTorch has none."""
    return _MODULES[activation.name](activation)


@dataclass
class Stage:
    """A Linear module and what follows it up to the next one.

    Attributes
    ----------
    path : str
        Where it is in the module.
    linear : Linear
    activation : Activation
        The identity where none follows.
    module : Module or None
        The activation as it is in the module.
    dropout : float
        0 as well where the Dropout module is in evaluation mode.
    """

    path: str
    linear: nn.Linear
    activation: Activation
    module: nn.Module | None = None
    dropout: float = 0.0


@dataclass
class Output:
    """What the last layer ends in: an activation, or the logarithm of softmax."""

    activation: Activation
    is_log_softmax: bool = False
    name: str = "Linear"


@dataclass
class Stack:
    """A module that has been read."""

    stages: list[Stage]
    output: Output
    flattens: bool
    dtype: str

    @property
    def linears(self) -> list[nn.Linear]:
        return [stage.linear for stage in self.stages]

    @property
    def n_inputs(self) -> int:
        return int(self.stages[0].linear.in_features)

    @property
    def n_outputs(self) -> int:
        return int(self.stages[-1].linear.out_features)


_HOOKS = ("forward_pre", "forward", "backward_pre", "backward")


def refuse_hooks(what: str, module: nn.Module) -> None:
    """Refuse hooks, which nobody would call, and a forward that was put in the class's place."""
    for kind in _HOOKS:
        if getattr(module, f"_{kind}_hooks", None):
            raise ValueError(f"{what} has {kind.replace('_', ' ')} hooks; remove them to train it")
    if "forward" in vars(module):
        raise ValueError(f"{what} has a forward of its own; delete it from the object to train it")


def _refuse_global_hooks() -> None:
    for kind in _HOOKS:
        if getattr(module_hooks, f"_global_{kind}_hooks", None):
            raise ValueError(
                f"there are {kind.replace('_', ' ')} hooks for all modules; remove them to train "
                "this one"
            )


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, LazyModuleMixin):
        raise ValueError(f"{path} is {module!r}, without a shape yet: call the module on a batch")
    refuse_hooks(f"{path} ({type(module).__name__})", module)
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        # named_children() would leave out what comes a second time.
        for name, child in module._modules.items():
            if child is not None:
                yield from _leaves(child, f"{path}[{name}]")
    else:
        yield path, module


class _Reader:
    """Collects the stages of a module, one leaf after the other."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.flattens = False
        self.is_log_softmax = False

    def take(self, path: str, module: nn.Module) -> None:
        what = f"{path} is {module!r}"
        if self.is_log_softmax and not isinstance(module, nn.Identity):
            raise ValueError(f"{what}, after LogSoftmax, which must be the last")
        if type(module) is nn.Linear:
            self._linear(path, module)
        elif type(module) is nn.Flatten:
            self._flatten(what, module)
        elif type(module) is nn.Dropout:
            self._dropout(what, module)
        elif type(module) in _ACTIVATIONS:
            try:
                activation = _ACTIVATIONS[type(module)](module)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None
            self._activation(what, module, activation)
            self.is_log_softmax = type(module) is nn.LogSoftmax
        elif type(module) is not nn.Identity:
            raise TypeError(
                f"{what}, which fastgd.torch does not train; it takes {_KNOWN}. Train such a "
                "module with PyTorch"
            )

    def _linear(self, path: str, module: nn.Linear) -> None:
        if self.stages:
            before = self.stages[-1]
            if before.activation.name == "softmax":
                raise ValueError(f"{before.path} is followed by Softmax, which must be the last")
            if before.linear.out_features != module.in_features:
                raise ValueError(
                    f"{path} takes {module.in_features} features, but {before.path} gives "
                    f"{before.linear.out_features}"
                )
        self.stages.append(Stage(path, module, activations.Identity()))

    def _flatten(self, what: str, module: nn.Flatten) -> None:
        if module.start_dim != 1 or module.end_dim != -1:
            raise ValueError(
                f"{what}: only start_dim=1 and end_dim=-1, the defaults, are supported"
            )
        # Between layers the samples are rows already.
        self.flattens = self.flattens or not self.stages

    def _dropout(self, what: str, module: nn.Dropout) -> None:
        if not module.training or module.p == 0:
            return
        if not self.stages:
            raise ValueError(f"{what} before the first Linear; drop features from X instead")
        if module.p == 1:
            raise ValueError(f"{what}, which drops everything; use a p below 1")
        if self.stages[-1].dropout:
            raise ValueError(f"{what} after another Dropout; use one with the share of both")
        self.stages[-1].dropout = float(module.p)

    def _activation(self, what: str, module: nn.Module, activation: Activation) -> None:
        if not self.stages:
            raise ValueError(f"{what} before the first Linear; apply it to X instead")
        stage = self.stages[-1]
        if stage.module is not None:
            raise ValueError(
                f"{what} after {stage.module!r}; one activation may follow each Linear"
            )
        if stage.dropout and activation.name not in _HOMOGENEOUS:
            raise ValueError(f"{what} after Dropout; put the Dropout after the activation")
        stage.module, stage.activation = module, activation


def read(module: nn.Module) -> Stack:
    """Return what of a module is trained, or refuse it.

    Raises
    ------
    TypeError
        For something that is not a module, or a module of a class that is not known.
    ValueError
        For options and places that are not supported, parameters that share memory, are not on the
        CPU, or of other shapes than their module says or dtypes than float32 or float64.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Sequential, not {module!r}")
    _refuse_global_hooks()
    reader = _Reader()
    for path, leaf in _leaves(module, "module"):
        reader.take(path, leaf)
    stages = reader.stages
    if not stages:
        raise ValueError("module has no Linear layer to train")
    last = stages[-1]
    if last.dropout:
        raise ValueError(f"{last.path}, the last Linear, is followed by Dropout; remove it")
    name = "Linear" if last.module is None else type(last.module).__name__
    output = Output(last.activation, reader.is_log_softmax, name)
    return Stack(stages, output, reader.flattens, _parameters(stages))


def _parameters(stages: list[Stage]) -> str:
    """Return the name of the dtype that all parameters have, or say which one does not fit."""
    seen: dict[int, str] = {}
    arrays: list[tuple[str, Array]] = []
    first = stages[0].linear.weight
    for stage in stages:
        for name, parameter in stage.linear.named_parameters():
            what = f"{stage.path}.{name}"
            if parameter.device.type != "cpu":
                raise ValueError(f"{what} is on {parameter.device}: use module.cpu()")
            if parameter.dtype not in _DTYPES or parameter.dtype != first.dtype:
                raise ValueError(
                    f"{what} is {parameter.dtype}: use module.float() or module.double()"
                )
            if id(parameter) in seen:
                raise ValueError(f"{what} is also {seen[id(parameter)]}; give each its own")
            seen[id(parameter)] = what
            if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
                raise ValueError(f"{what} has hooks on its gradient; remove them to train it")
            _check_shape(what, name, parameter, stage.linear)
            array = parameter.detach().numpy()
            # What is frozen is not written to, and strides are 0 in empty arrays, too.
            if parameter.requires_grad and array.size and _is_expanded(array):
                raise ValueError(f"{what} is expanded, with elements that share memory: clone it")
            # All of them: two storages of PyTorch's may lie in one array of NumPy's.
            for other, of_other in arrays:
                if np.shares_memory(array, of_other):
                    raise ValueError(f"{what} shares memory with {other}; give each its own")
            arrays.append((what, array))
    return str(first.dtype).removeprefix("torch.")


def _is_expanded(array: Array) -> bool:
    return any(n > 1 and step == 0 for n, step in zip(array.shape, array.strides, strict=True))


def _check_shape(what: str, name: str, parameter: nn.Parameter, linear: nn.Linear) -> None:
    """Refuse a parameter that was replaced by one of another shape, which broadcasts or does not.

    PyTorch goes by its shape, not by what the module says.
    """
    expected = {"weight": (linear.out_features, linear.in_features), "bias": (linear.out_features,)}
    if tuple(parameter.shape) != expected.get(name, tuple(parameter.shape)):
        raise ValueError(
            f"{what} has shape {tuple(parameter.shape)}, but should have {expected[name]} in "
            f"{linear!r}: let its shape and the module's features agree"
        )
