"""PyTorch's optimisers in the engine's terms, and their states from and back to PyTorch's.

Every parameter has settings and a count of steps of its own: those of its group, and its state's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn, optim
from torch.optim import optimizer as optimizer_hooks

from .. import optimizers
from .._engine import Engine

if TYPE_CHECKING:
    from ..optimizers import Optimizer

__all__ = ["Plan", "load", "read", "store"]

# The engine's names of states, where PyTorch has others.
_STATES = {"velocity": "momentum_buffer"}


def _sgd(group: Mapping[str, Any]) -> dict[str, Any]:
    names = ("momentum", "dampening", "nesterov", "weight_decay")
    settings = {name: _plain(group[name]) for name in names}
    if not settings["momentum"]:
        # PyTorch reads the others beside a momentum only.
        return settings | {"dampening": 0.0, "nesterov": False}
    if settings["nesterov"] and settings["dampening"]:
        raise ValueError(
            f"nesterov=True and dampening={settings['dampening']!r} are not supported together: "
            "leave one out"
        )
    return settings


def _adam(group: Mapping[str, Any]) -> dict[str, Any]:
    beta1, beta2 = group["betas"]
    return {
        "beta1": _plain(beta1),
        "beta2": _plain(beta2),
        "eps": _plain(group["eps"]),
        "weight_decay": _plain(group["weight_decay"]),
    }


def _rmsprop(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(group[name]) for name in ("alpha", "eps", "momentum", "weight_decay")}


def _adagrad(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(group[name]) for name in ("lr_decay", "eps", "weight_decay")}


_READERS: dict[type, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    optim.SGD: _sgd,
    optim.Adam: _adam,
    optim.AdamW: _adam,
    optim.RMSprop: _rmsprop,
    optim.Adagrad: _adagrad,
}
_REFUSED = {
    "amsgrad": "leave it out",
    "centered": "leave it out",
    "capturable": "leave it out: it is for CUDA graphs",
    "differentiable": "leave it out: no graph is recorded",
}


def _plain(value: Any) -> Any:
    """Return a setting as a Python number; PyTorch takes tensors of one element as well."""
    return value.item() if isinstance(value, torch.Tensor) else value


class Parameter(NamedTuple):
    """A parameter that is trained, with its settings as the engine takes them."""

    tensor: nn.Parameter
    update: dict[str, Any]


class Plan:
    """How the arrays of an engine are updated, and whose they are.

    Parameters
    ----------
    original : torch.optim.Optimizer
    linears : sequence of Linear
    name : str
        Of fastgd's optimiser.
    arrays : dict of (int, int) to (Parameter or None)
        For each layer and 0 for its weight or 1 for its bias, if it has one: None for a parameter
        that is frozen.

    Attributes
    ----------
    optimizer : Optimizer
        fastgd's, with the settings of the first parameter that is trained.
    """

    def __init__(
        self,
        original: optim.Optimizer,
        linears: Sequence[nn.Linear],
        name: str,
        arrays: dict[tuple[int, int], Parameter | None],
    ) -> None:
        self.original = original
        self.linears = linears
        self.name = name
        self.arrays = arrays
        self.settings = _settings(arrays)
        self.trained = {at: array for at, array in arrays.items() if array is not None}
        # PyTorch's; those that it has not yet, or of inference mode, that cannot be written to, are
        # made before training, so that none fails after it
        self.states: dict[tuple[tuple[int, int], str], torch.Tensor] = {}
        first = next(iter(self.trained.values())).update
        self.step: int = first["ahead"]
        for parameter in self.trained.values():
            parameter.update["ahead"] -= self.step
        self.is_shared = first["scale"] == 1 and all(
            array is not None and array.update == first for array in arrays.values()
        )
        settings = {key: first[key] for key in first if key not in ("lr", "scale", "ahead")}
        if name in ("sgd", "rmsprop") and not self.is_shared:
            # Those without momentum take part in the states of those that have it.
            momentum = max(array.update["momentum"] for array in self.trained.values())
            settings |= {"momentum": min(momentum, 1.0)}
            if name == "sgd":
                settings |= {"nesterov": False, "dampening": 0.0}
        # fastgd's own rates are above 0.
        rate: Any = first["lr"] if first["lr"] > 0 else _no_rate
        self.optimizer: Optimizer = optimizers.BUILT_IN[name](rate, **settings)

    def put_into(self, engine: Engine) -> None:
        """Give an engine, whose optimiser is that of the plan, its updates and states."""
        engine.step = self.step
        if not self.is_shared:
            updates = [
                tuple(
                    None if array is None else array.update
                    for array in (self.arrays.get((i, 0)), self.arrays.get((i, 1)))
                )
                for i in range(engine.n_layers)
            ]
            engine.set_own_updates(updates)  # type: ignore[arg-type]
        for at, array in self.trained.items():
            state = self.original.state.get(array.tensor, {})
            for name, view in self._views(engine, at):
                if not self._keeps(array, name):
                    continue
                kept = state.get(name)
                if kept is not None:
                    view.copy_(kept)
                if kept is None or kept.is_inference():
                    with torch.inference_mode(False):
                        kept = torch.empty_like(array.tensor if kept is None else kept)
                self.states[at, name] = kept

    def take_from(self, engine: Engine) -> None:
        """Write the engine's weights, states and counts of steps back to PyTorch's objects."""
        n_steps = engine.step - self.step
        if n_steps == 0:
            return
        # What inference mode makes could not be trained outside of it.
        with torch.inference_mode(False), torch.no_grad():
            for at, array in self.trained.items():
                tensor = array.tensor
                tensor.copy_(_weights(engine, at))
                tensor.grad = None
                # SGD without momentum keeps nothing, and looks nothing up.
                if self.name == "sgd" and not array.update["momentum"]:
                    continue
                state = self.original.state[tensor]
                for name, view in self._views(engine, at):
                    if self._keeps(array, name):
                        state[name] = self.states[at, name].copy_(view)
                if self.name != "sgd":
                    _count(state, self.step + array.update["ahead"] + n_steps)
        # What a learning-rate scheduler asks, to warn of steps in the wrong order.
        self.original._opt_called = True  # type: ignore[attr-defined]

    def is_unchanged(self) -> bool:
        """Return whether PyTorch's objects still say what was read from them."""
        return _settings(_arrays(self.original, self.linears)) == self.settings

    def _keeps(self, array: Parameter, name: str) -> bool:
        """Return whether PyTorch's optimiser has this state of an array."""
        return name != "momentum_buffer" or bool(array.update["momentum"])

    def _views(self, engine: Engine, at: tuple[int, int]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the names of the states, and tensors that show the engine's."""
        layer, which = at
        for name, pairs in engine.optimizer_state().items():
            yield _STATES.get(name, name), _tensor(pairs[layer][which])


def _no_rate(steps: Any) -> Any:
    # A function that copies of the network can be pickled with
    return 0.0 * steps


def _tensor(view: Any) -> torch.Tensor:
    # (fan_in, fan_out) in the engine, (out, in) in PyTorch
    return torch.from_numpy(view.T)


def _weights(engine: Engine, at: tuple[int, int]) -> torch.Tensor:
    layer, which = at
    return _tensor(engine.bias(layer) if which else engine.weight(layer))


def _count(state: dict[str, Any], steps: int) -> None:
    count = state.get("step")
    if isinstance(count, torch.Tensor) and not count.is_inference():
        count.fill_(float(steps))
    else:
        state["step"] = torch.tensor(float(steps))


def load(engine: Engine, linears: Iterable[nn.Linear]) -> None:
    """Copy the parameters of modules into an engine."""
    with torch.no_grad():
        for at, tensor in _each(linears):
            _weights(engine, at).copy_(tensor)


def store(engine: Engine, linears: Iterable[nn.Linear]) -> None:
    """Copy an engine's weights into modules."""
    with torch.no_grad():
        for at, tensor in _each(linears):
            tensor.copy_(_weights(engine, at))


def _each(linears: Iterable[nn.Linear]) -> Iterator[tuple[tuple[int, int], nn.Parameter]]:
    """Yield (layer, 0 for its weight or 1 for its bias), and the parameter."""
    for i, linear in enumerate(linears):
        yield (i, 0), linear.weight
        if linear.bias is not None:
            yield (i, 1), linear.bias


def read(optimizer: object, linears: Sequence[nn.Linear]) -> Plan:
    """Return how the parameters of a module are updated, or refuse an optimiser or an option.

    Raises
    ------
    TypeError
        For anything but one of the optimisers that are known.
    ValueError
        For options that are not supported, and an optimiser that has none of the parameters.
    """
    if type(optimizer) not in _READERS:
        names = ", ".join(kind.__name__ for kind in _READERS)
        hint = ": write it with its parameters" if isinstance(optimizer, type) else ""
        raise TypeError(f"optimizer must be one of torch.optim's {names}, not {optimizer!r}{hint}")
    assert isinstance(optimizer, optim.Optimizer)
    what = type(optimizer).__name__
    for kind in ("pre", "post"):
        if getattr(optimizer, f"_optimizer_step_{kind}_hooks", None):
            raise ValueError(f"{what} has hooks on its steps; remove them")
        hooks = getattr(optimizer_hooks, f"_global_optimizer_{kind}_hooks", {})
        # PyTorch's own counts steps for a profiler, in every program with KINETO_USE_DAEMON set.
        if any(getattr(hook, "__module__", None) != "torch.profiler" for hook in hooks.values()):
            raise ValueError("there are hooks on the steps of all optimizers; remove them")
    arrays = _arrays(optimizer, linears)
    if not any(arrays.values()):
        raise ValueError(f"{what} has no parameter of the module that requires a gradient")
    return Plan(optimizer, linears, _name(optimizer), arrays)


def _arrays(
    optimizer: optim.Optimizer, linears: Iterable[nn.Linear]
) -> dict[tuple[int, int], Parameter | None]:
    """Return the parameters that are trained, and None for those that are not."""
    what = type(optimizer).__name__
    groups: dict[int, tuple[int, dict[str, Any]]] = {}
    for i, group in enumerate(optimizer.param_groups):
        for option, otherwise in _REFUSED.items():
            if group.get(option):
                raise ValueError(
                    f"{what} with {option}=True (group {i}) is not supported: {otherwise}"
                )
        groups |= {id(tensor): (i, group) for tensor in group["params"]}
    arrays: dict[tuple[int, int], Parameter | None] = {}
    for at, tensor in _each(linears):
        found = groups.get(id(tensor)) if tensor.requires_grad else None
        arrays[at] = None
        if found is not None:
            if tensor.is_inference():
                raise ValueError(
                    f"the {('weight', 'bias')[at[1]]} of layer {at[0]} was made in inference mode, "
                    "where nothing is trained: make the module outside of it"
                )
            arrays[at] = Parameter(tensor, _update(optimizer, tensor, *found))
    return arrays


def _settings(arrays: Mapping[tuple[int, int], Parameter | None]) -> dict[tuple[int, int], Any]:
    """Return how each array is updated, whatever steps it has taken."""
    return {
        at: None if array is None else {**array.update, "ahead": 0} for at, array in arrays.items()
    }


def _name(optimizer: optim.Optimizer) -> str:
    """Return the name of fastgd's optimiser; Adam may be AdamW by an option of its groups."""
    if not isinstance(optimizer, optim.Adam):
        return type(optimizer).__name__.lower()
    default = isinstance(optimizer, optim.AdamW)
    decoupled = {
        bool(group.get("decoupled_weight_decay", default))
        for group in optimizer.param_groups
        if _plain(group["weight_decay"])
    }
    if len(decoupled) > 1:
        raise ValueError(
            f"{type(optimizer).__name__} with decoupled_weight_decay in some of its groups only is "
            "not supported: use one optimizer for each kind"
        )
    return "adamw" if decoupled == {True} else "adam"


def _update(
    optimizer: optim.Optimizer, tensor: nn.Parameter, number: int, group: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a parameter, its learning rate, and the steps it has taken."""
    what = f"{type(optimizer).__name__} (group {number})"
    try:
        update = _READERS[type(optimizer)](group)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    lr = float(_plain(group["lr"]))
    if not 0 <= lr < math.inf:
        raise ValueError(f"{what}: lr must be finite and at least 0, not {lr!r}")
    state = optimizer.state.get(tensor, {})
    if type(optimizer) is optim.SGD:
        # PyTorch counts no steps: what matters is whether there is a buffer already.
        steps = int(bool(update["momentum"]) and state.get("momentum_buffer") is not None)
    else:
        steps = int(_plain(state.get("step", 0)))
    scale = -1.0 if group.get("maximize") else 1.0
    return update | {"lr": lr, "scale": scale, "ahead": steps}
