"""from_module and to_module: the same weights, the same outputs, both ways."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

import fastgd
from fastgd import activations
from fastgd.torch import from_module, to_module
from torch_pairs import stack

X = torch.randn(31, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MODULES = [
    nn.Identity(), nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.5), nn.SELU(), nn.GELU(), nn.SiLU(),
    nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Tanh(), nn.Sigmoid(), nn.Hardsigmoid(),
]  # fmt: skip


def close(a, b, dtype):
    # Some tens of roundings in three layers
    return np.abs(a - b).max() <= 200 * np.finfo(dtype).eps * np.abs(b).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", MODULES, ids=repr)
def test_module_and_network_give_the_same_outputs(activation, dtype):
    kind = getattr(torch, dtype)
    module = stack(activation, dtype=kind)
    network = from_module(module, "squared_error")
    assert network.dtype == dtype
    expected = module(X.to(kind)).detach().numpy()
    assert close(network.predict(X.numpy()), expected, dtype)
    back = to_module(network)
    assert back(X.to(kind)).dtype == kind
    for mine, original in zip(back.parameters(), module.parameters(), strict=True):
        assert torch.equal(mine, original)
    assert close(back(X.to(kind)).detach().numpy(), expected, dtype)


def test_every_activation_that_torch_has_is_converted():
    for name in activations.NAMES:
        if name in ("exp", "softmax"):
            continue
        net = fastgd.Network([fastgd.Dense(3, name), fastgd.Dense(1)], "squared_error", n_inputs=9,
                             dtype="float64")  # fmt: skip
        assert close(to_module(net)(X).detach().numpy(), net.predict(X.numpy()), "float64")


@pytest.mark.parametrize(
    ("loss", "end"),
    [("cross_entropy", nn.Softmax(1)), ("log_loss", nn.Sigmoid()), ("poisson", None)],
)
def test_logits_leave_the_canonical_output_out(loss, end):
    network = from_module(stack(nn.Tanh()), loss)
    logits = to_module(network, logits=True)(X)
    value = logits.exp() if end is None else end(logits)
    assert close(value.detach().numpy(), network.predict(X.numpy()), "float64")
    if end is None:
        with pytest.raises(ValueError, match=r"no module for 'exp'.*logits=True leaves it out"):
            to_module(network)
    else:
        assert close(to_module(network)(X).detach().numpy(), network.predict(X.numpy()), "float64")


def test_dropout_and_missing_biases_are_kept():
    module = nn.Sequential(nn.Linear(9, 4, bias=False), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
    network = from_module(module, "cross_entropy", fastgd.Adam(), seed=5)
    assert (network.layers[0].dropout, network.layers[0].use_bias, network.seed) == (0.3, False, 5)
    assert network.dtype == "float32"
    again = to_module(network, logits=True)
    assert str(again) == str(module)
    assert from_module(module.eval(), "cross_entropy").layers[0].dropout == 0


def test_copies_are_independent():
    module = stack(nn.ReLU())
    network = from_module(module, "cross_entropy")
    before = module[0].weight.clone()
    network.layers[0].weight[...] = 0
    assert torch.equal(module[0].weight, before)
    to_module(network)[0].weight.data.fill_(1)
    assert not network.layers[0].weight.any()


def test_a_module_is_made_without_random_numbers():
    network = from_module(stack(nn.ReLU()), "cross_entropy")
    before = torch.get_rng_state()
    to_module(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_is_made_on_the_device_in_force():
    network = from_module(stack(nn.ReLU()), "cross_entropy")
    for device in ("cpu", "meta"):
        with torch.device(device):
            module = to_module(network)
        assert {each.device.type for each in module.parameters()} == {device}


def test_a_module_gets_the_weights_of_one_moment():
    """It waits, as get_weights does, while another thread is within a step."""
    network = from_module(stack(nn.ReLU()), "cross_entropy")
    thread = threading.Thread(target=to_module, args=(network,))
    with network._live().lock:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no LogSoftmax: leave it out"):
        from_module(stack(nn.ReLU(), output=nn.LogSoftmax(1)), "cross_entropy")
    with pytest.raises(ValueError, match="'log_loss' does not fit the output activation 'tanh'"):
        from_module(stack(nn.ReLU(), output=nn.Tanh()), "log_loss")
    with pytest.raises(TypeError, match="module\\[0\\] is Conv2d"):
        from_module(nn.Sequential(nn.Conv2d(1, 1, 1)), "squared_error")
    with pytest.raises(TypeError, match=r"must be a fastgd.Network, not 3"):
        to_module(3)
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=2, input_scale=0.5)
    with pytest.raises(ValueError, match=r"input_scale=0\.5"):
        to_module(net)
    with pytest.raises(RuntimeError, match="no weights yet"):
        to_module(fastgd.Network([fastgd.Dense(1)], "squared_error"))
