"""What fastgd.torch does not train is refused by name, and nothing is changed."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

import fastgd.torch
from fastgd.torch import _losses, _modules

X, LABELS, ROWS = torch.randn(12, 4), torch.arange(12) % 3, torch.rand(12, 3)


def module(*middle, end=()):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), *middle, nn.Linear(5, 3), *end)


def refused(each, error, message, *, X=X, y=LABELS, loss=None, optimizer=None, **options):
    """Expect an error, and that module and optimizer are as they were."""
    if optimizer is None:
        optimizer = optim.SGD([p for p in each.parameters() if p.numel()], 0.1, momentum=0.9)
    loss = nn.CrossEntropyLoss() if loss is None else loss
    random = torch.get_rng_state()
    is_known = isinstance(optimizer, optim.Optimizer)
    before = copy.deepcopy((each.state_dict(), optimizer.state_dict() if is_known else None))
    with pytest.raises(error, match=message):
        fastgd.torch.fit(each, X, y, loss=loss, optimizer=optimizer, verbose=0, **options)
    assert str(each.state_dict()) == str(before[0])
    assert not is_known or str(optimizer.state_dict()) == str(before[1])
    assert torch.equal(torch.get_rng_state(), random)


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class OwnSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


def tied():
    each = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    each[1].weight = each[0].weight
    return each


def tied_by_memory():
    each = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    each[1].weight.data = each[0].weight.data[:]
    return each


def tied_by_numpy():
    """Two storages of PyTorch's in one array."""
    memory = torch.rand(24)
    each = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    each[0].weight.data, each[1].weight.data = (
        torch.from_numpy(memory[first : first + 16].reshape(4, 4).numpy()) for first in (0, 8)
    )
    return each


def with_parameter(name, value):
    each = module(nn.ReLU())
    setattr(each[0], name, nn.Parameter(value))
    return each


def with_forward():
    each = module(nn.ReLU())
    each[0].forward = lambda x: x
    return each


def repeated():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(4, 3))


def hooked():
    each = module(nn.ReLU())
    each[0].register_forward_hook(lambda *args: None)
    return each


def hooked_parameter():
    each = module(nn.ReLU())
    each[0].weight.register_hook(lambda grad: grad)
    return each


MODULES = [
    (module(nn.Conv1d(1, 1, 1)), TypeError, r"module\[1\] is Conv1d.*not train.*Linear, Flatten"),
    (module(nn.BatchNorm1d(5)), TypeError, r"module\[1\] is BatchNorm1d"),
    (module(nn.Sequential(nn.ReLU6())), TypeError, r"module\[1\]\[0\] is ReLU6"),
    (nn.Sequential(Own(4, 3)), TypeError, r"module\[0\] is Own"),
    (OwnSequential(nn.Linear(4, 3)), TypeError, r"module is OwnSequential"),
    (module(nn.GELU("tanh")), ValueError, r"module\[1\] is GELU.*approximate='tanh'"),
    (module(nn.Softplus(beta=2)), ValueError, "beta=2.*use the default"),
    (module(nn.Softplus(threshold=0)), ValueError, "threshold=0.*above 0"),
    (module(nn.ELU(-1.0)), ValueError, r"module\[1\] is ELU.*alpha"),
    (module(nn.LeakyReLU(-1.0)), ValueError, r"module\[1\] is LeakyReLU.*alpha"),
    (module(nn.ReLU(), nn.Tanh()), ValueError, r"module\[2\] is Tanh\(\) after ReLU\(\); one"),
    (module(nn.Softmax(1)), ValueError, "followed by Softmax, which must be the last"),
    (module(nn.LogSoftmax(1)), ValueError, "after LogSoftmax, which must be the last"),
    (module(end=[nn.Softmax(0)]), ValueError, "dim=0 is not supported: use dim=1"),
    (module(end=[nn.LogSoftmax(0)]), ValueError, r"module\[2\] is LogSoftmax.dim=0.: dim=0 is not"),
    (module(nn.Dropout(0.1), nn.Tanh()), ValueError, "after Dropout; put the Dropout after"),
    (module(nn.Dropout(0.1), nn.Dropout(0.1)), ValueError, "after another Dropout"),
    (module(nn.Dropout(1.0)), ValueError, "drops everything; use a p below 1"),
    (module(end=[nn.Dropout(0.1)]), ValueError, r"module\[1\], the last Linear.*Dropout"),
    (nn.Sequential(nn.Dropout(0.1), *module()), ValueError, "before the first Linear; drop"),
    (nn.Sequential(nn.Tanh(), *module()), ValueError, "before the first Linear; apply it to X"),
    (nn.Sequential(nn.Flatten(0), *module()), ValueError, "only start_dim=1 and end_dim=-1"),
    (nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 3)), ValueError, r"module\[1\] takes 6.*gives 5"),
    (tied(), ValueError, r"module\[1\].weight is also module\[0\].weight"),
    (repeated(), ValueError, r"module\[2\].weight is also module\[0\].weight"),
    (tied_by_memory(), ValueError, r"module\[1\].weight shares memory with module\[0\].weight"),
    (tied_by_numpy(), ValueError, r"module\[1\].weight shares memory with module\[0\].weight"),
    (
        with_parameter("bias", torch.zeros(1).expand(5)), ValueError,
        r"module\[0\].bias is expanded, with elements that share memory: clone it",
    ),
    (
        with_parameter("bias", torch.zeros(1)), ValueError,
        r"module\[0\].bias has shape \(1,\), but should have \(5,\) in Linear.*agree",
    ),
    (
        with_parameter("weight", torch.zeros(5, 3)), ValueError,
        r"module\[0\].weight has shape \(5, 3\), but should have \(5, 4\)",
    ),
    (with_forward(), ValueError, r"module\[0\] \(Linear\) has a forward of its own; delete it"),
    (hooked(), ValueError, r"module\[0\] \(Linear\) has forward hooks; remove them"),
    (hooked_parameter(), ValueError, r"module\[0\].weight has hooks on its gradient"),
    (module().half(), ValueError, r"module\[0\].weight is torch.float16: use module.float\(\)"),
    (
        nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3).double()),
        ValueError,
        r"module\[1\].weight is",
    ),
    (nn.Sequential(nn.Linear(4, 3, device="meta")), ValueError, r"on meta: use module.cpu\(\)"),
]  # fmt: skip


@pytest.mark.parametrize(("each", "error", "message"), MODULES, ids=range(len(MODULES)))
def test_module_is_refused(each, error, message):
    refused(each, error, message)


def test_hooks_for_all_modules_and_optimizers_are_refused():
    for register, message in [
        (register_module_forward_pre_hook, "there are forward pre hooks for all modules"),
        (register_optimizer_step_post_hook, "there are hooks on the steps of all optimizers"),
    ]:
        handle = register(lambda *args: None)
        try:
            refused(module(nn.ReLU()), ValueError, message)
        finally:
            handle.remove()


def test_the_hook_of_pytorchs_own_profiler_is_let_be():
    """With KINETO_USE_DAEMON in the environment it is there from the import on."""
    each = module(nn.ReLU())
    before = [tensor.detach().clone() for tensor in each.parameters()]
    optimizer = optim.SGD(each.parameters(), 0.1)
    handle = register_optimizer_step_post_hook(torch.profiler._optimizer_post_hook)
    try:
        fastgd.torch.fit(
            each, X, LABELS, loss=nn.CrossEntropyLoss(), optimizer=optimizer, verbose=0
        )
    finally:
        handle.remove()
    assert not any(map(torch.equal, before, each.parameters()))


def test_parameters_may_lie_beside_each_other():
    each = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    memory = torch.rand(4, 8)
    each[0].weight.data, each[1].weight.data = memory[:, ::2], memory[:3, 1::2]
    before = memory.clone()
    optimizer = optim.SGD(each.parameters(), 0.1)
    fastgd.torch.fit(each, X, LABELS, loss=nn.CrossEntropyLoss(), optimizer=optimizer, verbose=0)
    assert (memory[:3] != before[:3]).any(dim=0).all()


def test_frozen_parameters_may_be_expanded():
    each = with_parameter("bias", torch.ones(1).expand(5))
    each[0].bias.requires_grad_(False)
    before = copy.deepcopy(each.state_dict())
    optimizer = optim.SGD(each.parameters(), 0.1)
    fastgd.torch.fit(each, X, LABELS, loss=nn.CrossEntropyLoss(), optimizer=optimizer, verbose=0)
    same = [torch.equal(value, before[name]) for name, value in each.state_dict().items()]
    assert same == [False, True, False, False]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layer_without_units_is_named():
    each = nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 3))
    refused(each, ValueError, "units must be at least 1, not 0")


def test_module_without_anything_to_train_is_refused():
    optimizer = optim.SGD([torch.ones(1, requires_grad=True)], 0.1)
    refused(nn.Sequential(nn.Flatten()), ValueError, "no Linear layer", optimizer=optimizer)
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Sequential, not 3"):
        fastgd.torch.fit(3, X, LABELS, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"LazyLinear.*without a shape yet: call the module on"):
        fastgd.torch.fit(lazy, X, LABELS, loss=nn.CrossEntropyLoss(), optimizer=optimizer)


LOSSES = [
    (nn.KLDivLoss(), (), ROWS, TypeError, "loss must be one of torch.nn's CrossEntropyLoss"),
    (nn.MSELoss, (), ROWS, TypeError, r"MSELoss.*write it with \(\)"),
    (nn.functional.mse_loss, (), ROWS, TypeError, "loss must be one of"),
    (nn.MSELoss(reduction="none"), (), ROWS, ValueError, "reduction='none': use 'mean' or 'sum'"),
    (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), (), ROWS, ValueError, "with pos_weight"),
    (nn.BCEWithLogitsLoss(torch.ones(3)), (), ROWS, ValueError, "with weight is not supported"),
    (nn.BCELoss(torch.ones(3)), [nn.Sigmoid()], ROWS, ValueError, "with weight is not supported"),
    (nn.PoissonNLLLoss(full=True), (), ROWS, ValueError, "with full.*changes no gradient"),
    (nn.CrossEntropyLoss(), [nn.Softmax(1)], LABELS, ValueError, "after Softmax is not supported"),
    (nn.CrossEntropyLoss(), [nn.ReLU()], LABELS, ValueError, "after ReLU is not supported"),
    (nn.NLLLoss(), (), LABELS, ValueError, "NLLLoss after Linear.*end in LogSoftmax"),
    (nn.BCELoss(), (), ROWS, ValueError, "BCELoss after Linear.*use BCEWithLogitsLoss"),
    (nn.BCEWithLogitsLoss(), [nn.Sigmoid()], ROWS, ValueError, "after Sigmoid is not supported"),
    (nn.PoissonNLLLoss(), [nn.Softplus()], ROWS, ValueError, "after Softplus is not supported"),
    (nn.PoissonNLLLoss(log_input=False), (), ROWS, ValueError, "after Linear.*use log_input=True"),
    (nn.MSELoss(), [nn.LogSoftmax(1)], ROWS, ValueError, "MSELoss after LogSoftmax"),
    (nn.L1Loss(), [nn.Softmax(1)], ROWS, ValueError, "L1Loss after Softmax.*use MSELoss"),
    (nn.CrossEntropyLoss(torch.ones(2)), (), LABELS, ValueError, "loss.weight must hold 3 finite"),
    (nn.CrossEntropyLoss(-torch.ones(3)), (), LABELS, ValueError, "loss.weight must hold 3 finite"),
    (
        nn.CrossEntropyLoss(torch.tensor([1.0, 0.0, 1.0]), label_smoothing=0.1), (), LABELS,
        ValueError, "label_smoothing with a weight of 0",
    ),
    (
        nn.CrossEntropyLoss(torch.tensor([1.0, 1e-40, 1.0])), (), LABELS, ValueError,
        r"loss.weight\[1\] is 1e-40, below 1.18e-38",
    ),
    (
        nn.CrossEntropyLoss(label_smoothing=1.5), (), LABELS, ValueError,
        "label_smoothing=1.5: use one from 0 to 1",
    ),
    (
        nn.CrossEntropyLoss(label_smoothing=-0.1), (), LABELS, ValueError,
        "label_smoothing=-0.1: use one",
    ),
    (
        nn.CrossEntropyLoss(ignore_index=1), (), ROWS, ValueError,
        "y holds probabilities, which have no ignore_index=1: leave it out",
    ),
    (nn.CrossEntropyLoss(ignore_index=0), (), LABELS * 0, ValueError, "no label with a weight"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "end", "y", "error", "message"), LOSSES, ids=range(len(LOSSES)))
def test_loss_is_refused(loss, end, y, error, message):
    refused(module(end=end), error, message, loss=loss, y=y)


def test_more_classes_than_the_dtype_tells_apart_are_refused():
    output = _modules.Output(fastgd.activations.Identity())
    units = 2**24 + 2
    for dtype in ("float32", "float64"):
        read = _losses.objective(nn.CrossEntropyLoss(), output, units, dtype)
        y = torch.tensor([units - 1])
        if dtype == "float64":
            assert read.prepare(y, 1, "y").y == units - 1
        else:
            with pytest.raises(ValueError, match="y has labels of 16,777,218 classes, and float32"):
                read.prepare(y, 1, "y")


def test_one_output_is_no_classifier():
    refused(nn.Sequential(nn.Linear(4, 1)), ValueError, "at least 2.*use BCEWithLogitsLoss")


DATA = [
    ({"y": LABELS.float()}, ValueError, "needs class numbers .* of an integer"),
    ({"y": LABELS + 1}, ValueError, r"label y\[2\] = 3 is beyond the network's 3 outputs"),
    ({"y": LABELS[:5]}, ValueError, r"y has shape \(5,\)"),
    ({"y": LABELS[:, None]}, ValueError, "needs class numbers"),
    ({"X": X[:, :3]}, ValueError, "X has 3 features, but the network takes 4"),
    ({"X": X.reshape(12, 2, 2)}, ValueError, "X must have two dimensions"),
    ({"X": X.to_sparse()}, ValueError, r"X is torch.sparse_coo: give X.to_dense\(\)"),
    ({"X": X.bfloat16()}, ValueError, r"X is torch.bfloat16: give X.float\(\)"),
    ({"X": X.to("meta")}, ValueError, r"X is on meta: give X.cpu\(\)"),
    ({"X": X.to(torch.complex64)}, ValueError, "X has dtype complex64"),
    ({"X": X / 0}, ValueError, r"X\[0, 0\] is .*inf; all values must be finite"),
    ({"loss": nn.MSELoss(), "y": ROWS[:, :1]}, ValueError, r"the module gives \(12, 3\)"),
    ({"loss": nn.MSELoss(), "y": ROWS * np.nan}, ValueError, r"y\[0, 0\] is nan"),
    ({"X": X.to(torch.float8_e4m3fn)}, ValueError, r"X is torch.float8_e4m3fn: give X.float\(\)"),
    ({"X": None}, TypeError, "X is missing"),
    ({"y": None}, TypeError, "y is missing"),
    ({"validation_data": X}, TypeError, r"validation_data must be \(X, y\), not Tensor"),
    ({"validation_data": (X,)}, TypeError, r"validation_data must be \(X, y\), not tuple of 1"),
    ({"validation_data": (X[:, :2], LABELS)}, ValueError, "validation X has 2 features"),
    ({"validation_data": (X, LABELS - 1)}, ValueError, r"validation y\[0\] = -1 is negative"),
    ({"generator": 3}, TypeError, "generator must be a torch.Generator, not 3"),
    ({"epochs": 0}, ValueError, "epochs must be at least 1"),
    ({"batch_size": 1.5}, TypeError, "batch_size must be an integer"),
    ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
    ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
]


@pytest.mark.parametrize(("given", "error", "message"), DATA, ids=range(len(DATA)))
def test_data_and_settings_are_refused(given, error, message):
    refused(module(nn.ReLU()), error, message, **given)


def test_no_samples_to_flatten_are_refused():
    each = nn.Sequential(nn.Flatten(), *module())
    refused(each, ValueError, "X is empty: it has no samples", X=X[:0].reshape(0, 2, 2), y=LABELS)


def test_a_loader_is_no_data():
    data = torch.utils.data.TensorDataset(X, LABELS)
    for what in (data, torch.utils.data.DataLoader(data)):
        message = f"X is a {type(what).__name__}; give the tensors themselves"
        refused(module(), TypeError, message, X=what, y=None)
    refused(module(), TypeError, "y is a TensorDataset", y=data)


def test_targets_that_torch_would_broadcast_are_refused():
    each = nn.Sequential(nn.Linear(4, 1))
    refused(each, ValueError, r"give y.reshape\(-1, 1\)", y=torch.rand(12), loss=nn.MSELoss())
    outside = [(nn.Sigmoid(), nn.BCELoss(), "y must lie from 0 to 1")]
    for end, loss, message in outside:
        refused(nn.Sequential(nn.Linear(4, 1), end), ValueError, message,
                y=2 * torch.ones(12, 1), loss=loss)  # fmt: skip


def with_setting(make, **settings):
    def changed(parameters):
        optimizer = make(parameters)
        optimizer.param_groups[-1].update(settings)
        return optimizer

    return changed


OPTIMIZERS = [
    (lambda p: optim.Adamax(p), TypeError, "optimizer must be one of torch.optim's SGD, Adam"),
    (lambda p: optim.SGD, TypeError, "write it with its parameters"),
    (lambda p: optim.Adam(p, amsgrad=True), ValueError, "Adam with amsgrad=True .group 0."),
    (lambda p: optim.RMSprop(p, centered=True), ValueError, "RMSprop with centered=True"),
    (lambda p: optim.SGD(p, 0.1, differentiable=True), ValueError, "differentiable=True"),
    (lambda p: optim.Adam(p, eps=0.0), ValueError, "eps must be greater than 0"),
    (lambda p: optim.Adam(p, eps=1e-40), ValueError, "eps=1e-40 is too small for float32"),
    (lambda p: optim.SGD(p, 0.1, momentum=1.5), ValueError, "momentum must be at most 1"),
    (lambda p: optim.SGD([torch.ones(1)], 0.1), ValueError, "SGD has no parameter of the module"),
    *(
        (
            with_setting(lambda p: optim.SGD(p, 0.1), lr=lr), ValueError,
            rf"SGD \(group 0\): lr must be finite and at least 0, not {lr}",
        )
        for lr in (-0.1, np.nan, np.inf)
    ),
    (
        with_setting(
            lambda p: optim.SGD([{"params": p[:1]}, {"params": p[1:]}], 0.1, momentum=0.9),
            nesterov=True, dampening=0.5,
        ),
        ValueError, r"SGD \(group 1\): nesterov=True and dampening=0.5 are not supported together",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), OPTIMIZERS, ids=range(len(OPTIMIZERS)))
def test_optimizer_is_refused(make, error, message):
    each = module(nn.ReLU())
    refused(each, error, message, optimizer=make(list(each.parameters())))


def test_module_of_inference_mode_is_refused():
    with torch.inference_mode():
        each = module(nn.ReLU())
    refused(each, ValueError, "the weight of layer 0 was made in inference mode")


def test_hooks_of_an_optimizer_are_refused():
    each = module(nn.ReLU())
    optimizer = optim.SGD(each.parameters(), 0.1)
    optimizer.register_step_post_hook(lambda *args: None)
    refused(each, ValueError, "SGD has hooks on its steps", optimizer=optimizer)


def test_weights_that_are_not_finite_are_refused():
    each = module(nn.ReLU())
    with torch.no_grad():
        each[0].weight[0, 0] = np.nan
    refused(each, ValueError, re.escape("weights are not finite: layers.0.weight"))


def test_everything_frozen_is_refused():
    each = module(nn.ReLU()).requires_grad_(False)
    optimizer = optim.SGD(each.parameters(), 0.1)
    refused(each, ValueError, "no parameter of the module that requires", optimizer=optimizer)
