"""fastgd.torch agrees with PyTorch over 50 steps, with every activation, loss and optimiser."""

import pytest
import torch
from torch import nn, optim

from torch_pairs import TOLERANCES, far_apart, fit, stack, train, twins

ACTIVATIONS = [
    nn.Identity(),
    nn.ReLU(),
    nn.LeakyReLU(0.1),
    nn.ELU(0.7),
    nn.SELU(),
    nn.GELU(),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(),
    nn.Softplus(threshold=1.0),
    nn.Softsign(),
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Hardsigmoid(),
]


def classes(n, units, generator):
    return torch.randint(0, units, (n,), generator=generator)


def some_ignored(n, units, generator):
    y = classes(n, units, generator)
    y[::5] = -100
    return y


def rows(n, units, generator):
    return torch.rand(n, units, generator=generator, dtype=torch.float64).softmax(1)


def numbers(n, units, generator):
    return torch.randn(n, units, generator=generator, dtype=torch.float64)


def zeros_and_ones(n, units, generator):
    return torch.randint(0, 2, (n, units), generator=generator).double()


def counts(n, units, generator):
    return torch.randint(0, 4, (n, units), generator=generator).double()


WEIGHT = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
# name -> (loss, output module, targets)
LOSSES = {
    "cross_entropy": (nn.CrossEntropyLoss(), None, classes),
    "cross_entropy weight": (nn.CrossEntropyLoss(WEIGHT), None, classes),
    "cross_entropy smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), None, classes),
    "cross_entropy weight smoothing": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1), None, classes,
    ),
    "cross_entropy ignored": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1), None, some_ignored,
    ),
    "cross_entropy sum": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1, reduction="sum"), None, classes,
    ),
    "cross_entropy rows": (nn.CrossEntropyLoss(), None, rows),
    "cross_entropy rows weight": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1), None, rows,
    ),
    "cross_entropy log_softmax": (nn.CrossEntropyLoss(), nn.LogSoftmax(1), classes),
    "nll": (nn.NLLLoss(WEIGHT), nn.LogSoftmax(1), some_ignored),
    "mse": (nn.MSELoss(), None, numbers),
    "mse sum": (nn.MSELoss(reduction="sum"), None, numbers),
    "mse softmax": (nn.MSELoss(), nn.Softmax(1), rows),
    "mse tanh": (nn.MSELoss(), nn.Tanh(), numbers),
    "l1": (nn.L1Loss(), None, numbers),
    "huber": (nn.HuberLoss(delta=0.5), None, numbers),
    "huber sum": (nn.HuberLoss(reduction="sum"), None, numbers),
    "bce": (nn.BCELoss(), nn.Sigmoid(), zeros_and_ones),
    "bce hardsigmoid": (nn.BCELoss(), nn.Hardsigmoid(), zeros_and_ones),
    "bce logits": (nn.BCEWithLogitsLoss(), None, zeros_and_ones),
    "poisson": (nn.PoissonNLLLoss(), None, counts),
    "poisson softplus": (nn.PoissonNLLLoss(log_input=False), nn.Softplus(), counts),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda p, lr: optim.SGD(p, lr),
    "momentum": lambda p, lr: optim.SGD(p, lr, momentum=0.9, weight_decay=1e-3),
    "dampening": lambda p, lr: optim.SGD(p, lr, momentum=0.9, dampening=0.5),
    "nesterov": lambda p, lr: optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "maximize": lambda p, lr: optim.SGD(p, lr / 10, weight_decay=1e-2, maximize=True),
    "adam": lambda p, lr: optim.Adam(p, lr, weight_decay=1e-3),
    "adamw": lambda p, lr: optim.AdamW(p, lr),
    # Its first steps are ten times those of Adam with the same learning rate.
    "rmsprop": lambda p, lr: optim.RMSprop(p, lr / 10),
    "rmsprop momentum": lambda p, lr: optim.RMSprop(p, lr / 10, momentum=0.5, weight_decay=1e-3),
    "adagrad": lambda p, lr: optim.Adagrad(p, lr, lr_decay=0.1),
}


# The derivative of an absolute error is 1 or -1: where a batch has as many of each, the gradient of
# a bias is 0, or what an order of the sum has left of it, which an adaptive optimiser enlarges.
N_SAMPLES, BATCH_SIZE = 73, 15  # each batch is odd, the last one of 13


def make(activation, loss_name, dtype):
    """Return a module, its loss and data."""
    loss, output, targets = LOSSES[loss_name]
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(N_SAMPLES, 9, generator=generator, dtype=torch.float64).to(dtype)
    y = targets(N_SAMPLES, 3, generator)
    return (
        stack(activation, dtype=dtype, output=output),
        loss.to(dtype),
        X,
        y if y.dtype == torch.int64 else y.to(dtype),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_fifty_steps_agree_with_torch(activation, loss_name, optimizer, dtype):
    module, loss, X, y = make(activation, loss_name, dtype)
    lr = 0.002 if loss.reduction == "sum" else 0.02
    pair = twins(module, lambda each: OPTIMIZERS[optimizer](each.parameters(), lr))
    (mine, of_mine), (theirs, of_theirs) = pair
    fit(mine, X, y, loss, of_mine, epochs=10, batch_size=BATCH_SIZE)
    sizes = train(theirs, X, y, loss, of_theirs, epochs=10, batch_size=BATCH_SIZE)
    tolerance = TOLERANCES[dtype, isinstance(of_mine, optim.SGD)]
    assert far_apart(pair, tolerance, sizes) == []
