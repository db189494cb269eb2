"""Between a module and a fastgd.Network with the same weights, both ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import skip_init

from .._pairing import canonical_output
from ..layers import Dense
from ..losses import CustomLoss, Loss
from ..network import Network
from ..optimizers import Optimizer
from . import _modules, _optimizers

__all__ = ["from_module", "to_module"]


def from_module(
    module: nn.Module,
    loss: str | Loss | CustomLoss,
    optimizer: str | Optimizer = "sgd",
    *,
    seed: int | None = 0,
) -> Network:
    """Return a network with a copy of a module's weights.

    Parameters
    ----------
    module : torch.nn.Sequential
        As in `fit`, but without LogSoftmax.
    loss, optimizer, seed
        As in `fastgd.Network`: fastgd's own. Where the module ends in Linear, the network ends in
        the canonical output of the loss: with "cross_entropy" in softmax.

    Returns
    -------
    fastgd.Network
        Dropout has the module's rates, where it is in training mode.

    Raises
    ------
    ValueError, TypeError
        For a module that is not supported, and a loss that does not fit its output.

    Examples
    --------
    >>> import torch
    >>> from fastgd.torch import from_module
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    >>> from_module(module, "cross_entropy").predict(torch.zeros(1, 4)).shape
    (1, 3)
    """
    stack = _modules.read(module)
    if stack.output.is_log_softmax:
        raise ValueError(
            "a network has no LogSoftmax: leave it out, and take the loss 'cross_entropy'"
        )
    layers = [
        Dense(
            stage.linear.out_features,
            None if stage.module is None else stage.activation,
            dropout=stage.dropout,
            bias=stage.linear.bias is not None,
            weight_init="zeros",
        )
        for stage in stack.stages
    ]
    network = Network(layers, loss, optimizer, stack.n_inputs, stack.dtype, seed)
    _optimizers.load(network._live(), stack.linears)
    return network


def to_module(network: Network, *, logits: bool = False) -> nn.Sequential:
    """Return a module with a copy of a network's weights.

    Parameters
    ----------
    network : fastgd.Network
        With weights, and without input_scale.
    logits : bool
        Whether to leave out the output activation where it is the canonical one of the loss, as
        CrossEntropyLoss, BCEWithLogitsLoss and PoissonNLLLoss want it. Otherwise the module gives
        what `fastgd.Network.predict` gives.

    Returns
    -------
    torch.nn.Sequential
        Of Linear, the activations, and Dropout.

    Raises
    ------
    ValueError
        For an activation that PyTorch has not (exp), and for an input_scale.

    Examples
    --------
    >>> import fastgd
    >>> from fastgd.torch import to_module
    >>> net = fastgd.Network([fastgd.Dense(8, "relu"), fastgd.Dense(3)], "cross_entropy",
    ...                      n_inputs=4)
    >>> to_module(net)
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=3, bias=True)
      (3): Softmax(dim=1)
    )
    """
    if not isinstance(network, Network):
        raise TypeError(f"network must be a fastgd.Network, not {network!r}")
    engine = network._live()
    if network.input_scale != 1:
        raise ValueError(
            f"the network has input_scale={network.input_scale!r}; a module has none: scale X or "
            "the first layer's weights"
        )
    modules: list[nn.Module] = []
    fan_in: Any = network.n_inputs
    canonical = "" if network.loss_name == "custom" else canonical_output(network.loss_name)
    dtype = getattr(torch, network.dtype.name)
    device = torch.empty(0).device  # the one in force, where Linear would be by itself
    for i, layer in enumerate(network.layers):
        # Without first weights, for which PyTorch's random numbers would be drawn
        linear = skip_init(
            nn.Linear, fan_in, layer.units, bias=layer.use_bias, dtype=dtype, device=device
        )
        modules.append(linear)
        assert layer.activation is not None
        name = layer.activation.name
        is_left_out = logits and i == len(network.layers) - 1 and name == canonical
        if name != "identity" and not is_left_out:
            try:
                modules.append(_modules.activation_module(layer.activation))
            except KeyError:
                raise ValueError(
                    f"PyTorch has no module for {name!r}, the activation of layer {i}"
                    + ("; logits=True leaves it out" if name == canonical else "")
                ) from None
        if layer.dropout:
            modules.append(nn.Dropout(layer.dropout))
        fan_in = layer.units
    module = nn.Sequential(*modules)
    linears = [each for each in modules if isinstance(each, nn.Linear)]
    with engine.lock:  # between two steps of a fit in another thread
        _optimizers.store(engine, linears)
    return module
