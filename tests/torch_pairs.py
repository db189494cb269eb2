"""A fit by fastgd.torch beside the same by PyTorch: one module, one optimiser, the same batches."""

import copy
import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastgd.torch

# By dtype, and whether the optimiser is SGD: what results may differ by after 50 steps, norm-wise
# for each array
TOLERANCES = {
    (torch.float32, True): 1e-5,
    (torch.float64, True): 1e-12,
    (torch.float32, False): 1e-4,
    (torch.float64, False): 1e-11,
}


def train(module, X, y, loss, optimizer, epochs, batch_size, seed=0):
    """Train as a program in PyTorch does; return the largest norm of each state over the steps."""
    torch.manual_seed(seed)
    sizes = {}
    for _ in range(epochs):
        for x_batch, y_batch in DataLoader(TensorDataset(X, y), batch_size, shuffle=True):
            optimizer.zero_grad()
            loss(module(x_batch), y_batch).backward()
            optimizer.step()
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    size = torch.as_tensor(value).double().norm().item()
                    sizes[parameter, key] = max(size, sizes.get((parameter, key), 0.0))
    return sizes


def fit(module, X, y, loss, optimizer, epochs, batch_size, seed=0, **options):
    """The same by fastgd."""
    torch.manual_seed(seed)
    return fastgd.torch.fit(
        module, X, y, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
        verbose=0, **options,
    )  # fmt: skip


def distance(a, b, size=None):
    """Return |a - b| / |b|, or |a - b| where b is zero; or by a size other than |b|."""
    a, b = a.detach().double(), b.detach().double()
    size = b.norm().item() if size is None else size
    return (a - b).norm().item() / (size if size > 0 else 1.0)


def far_apart(pair, tolerance, sizes=None):
    """Return what of two (module, optimizer) differs by more: parameters, and their states.

    States are sums over steps. By chance one may end near zero, where nothing but the rounding of
    its terms is left: with sizes, those that `train` returns, an error is compared with the largest
    that the state has been.
    """
    (mine, of_mine), (theirs, of_theirs) = pair
    wrong = []
    named = zip(mine.named_parameters(), theirs.parameters(), strict=True)
    for (name, parameter), expected in named:
        found = {"": (parameter, expected, None)}
        state, other = of_mine.state.get(parameter, {}), of_theirs.state.get(expected, {})
        if set(state) != set(other):
            wrong.append((name, set(state) ^ set(other)))
            continue
        for key in state:
            size = None if sizes is None else sizes[expected, key]
            found[key] = (state[key], other[key], size)
        wrong += [
            (name, key, distance(*three)) for key, three in found.items()
            if not distance(*three) <= tolerance
        ]  # fmt: skip
        if any(mine.dtype != theirs.dtype for mine, theirs, _ in found.values()):
            wrong.append((name, "dtype"))
    return wrong


def twins(module, make_optimizer):
    """Return two of (module, optimizer) that begin alike."""
    return [(each, make_optimizer(each)) for each in (module, copy.deepcopy(module))]


def stack(activation, sizes=(9, 14, 8, 3), dtype=torch.float64, output=None, seed=0):
    """Return Linear layers of these sizes with an activation between them."""
    torch.manual_seed(seed)
    modules = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        modules += [nn.Linear(fan_in, fan_out), copy.deepcopy(activation)]
    modules[-1] = nn.Identity() if output is None else output
    return nn.Sequential(*modules).to(dtype)
