"""fastgd.torch.fit beside PyTorch: groups, frozen parameters, states, orders, interruptions."""

import copy
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

import fastgd.torch
from block_extras import needs_extra
from torch_pairs import distance, far_apart, fit, stack, train, twins

X = torch.randn(73, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.randint(0, 3, (73,), generator=torch.Generator().manual_seed(2))
LOSS = nn.CrossEntropyLoss()
BOTH = {"epochs": 10, "batch_size": 15}


def agree(module, make_optimizer, tolerance, X=X, y=Y, loss=LOSS):
    """Train twins, here and in PyTorch, and compare them."""
    pair = twins(module, make_optimizer)
    for (each, optimizer), run in zip(pair, (fit, train), strict=True):
        run(each, X, y, loss, optimizer, **BOTH)
    assert far_apart(pair, tolerance) == []
    return pair


# ---- groups, frozen parameters, states ---------------------------------------------------------


def groups(module, **settings):
    """Three groups with settings of their own; the last layer's bias is in none."""
    first, second, third = (each for each in module if isinstance(each, nn.Linear))
    return [
        {"params": [first.weight], "lr": 0.05, "weight_decay": 0.1},
        {"params": [first.bias, second.weight], "lr": 0.001, **settings},
        {"params": [second.bias, third.weight]},
    ]


@pytest.mark.parametrize(
    ("make", "tolerance"),
    [
        (lambda m: optim.SGD(groups(m), 0.02), 1e-12),
        (lambda m: optim.SGD(groups(m, momentum=0.5, dampening=0.1), 0.02, momentum=0.9), 1e-12),
        (lambda m: optim.SGD(groups(m, momentum=0.9, nesterov=True), 0.02), 1e-12),
        # PyTorch reads both beside a momentum only
        (lambda m: optim.SGD(groups(m, nesterov=True), 0.02), 1e-12),
        (lambda m: optim.SGD(groups(m), 0.02, dampening=0.5), 1e-12),
        (lambda m: optim.SGD(groups(m, maximize=True), 0.02, momentum=0.9), 1e-12),
        (lambda m: optim.Adam(groups(m, betas=(0.5, 0.9), eps=1e-4), 0.01), 1e-11),
        (lambda m: optim.AdamW(groups(m, maximize=True), 0.01), 1e-11),
        (lambda m: optim.RMSprop(groups(m, momentum=0.5, alpha=0.9), 0.002), 1e-11),
        (lambda m: optim.Adagrad(groups(m, lr_decay=0.3), 0.01), 1e-11),
    ],
)
@pytest.mark.parametrize("validate", ["always", "off"])
def test_groups_have_their_own_settings(make, tolerance, validate):
    module = stack(nn.Tanh())
    with fastgd.config(validate=validate):
        (mine, _), _ = agree(module, make, tolerance)
    assert torch.equal(mine[-2].bias, module[-2].bias)  # in no group


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.05, momentum=0.9), optim.Adam])
@pytest.mark.parametrize("frozen", [[0], [1, 2], [4], [0, 1, 2, 3]])
def test_frozen_parameters_stay(make, frozen):
    module = stack(nn.GELU())
    before = [parameter.clone() for parameter in module.parameters()]
    for i, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(i not in frozen)
    (mine, optimizer), _ = agree(module, lambda m: make(m.parameters()), 1e-11)
    for i, (parameter, old) in enumerate(zip(mine.parameters(), before, strict=True)):
        assert torch.equal(parameter, old) == (i in frozen)
        assert (parameter in optimizer.state) == (i not in frozen)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, 0.02, momentum=0.9, dampening=0.5),
        lambda p: optim.Adam(p, 0.01),
        lambda p: optim.AdamW(p, 0.01),
        lambda p: optim.RMSprop(p, 0.002, momentum=0.5),
        lambda p: optim.Adagrad(p, 0.01, lr_decay=0.1, initial_accumulator_value=0.1),
    ],
)
@pytest.mark.parametrize("order", [(fit, train), (train, fit), (fit, fit)])
def test_training_goes_on_here_and_in_torch(make, order):
    pair = twins(stack(nn.ReLU()), lambda m: make(m.parameters()))
    (mine, of_mine), (theirs, of_theirs) = pair
    for seed, run in enumerate(order):
        run(mine, X, Y, LOSS, of_mine, 5, 15, seed=seed)
        train(theirs, X, Y, LOSS, of_theirs, 5, 15, seed=seed)
    assert far_apart(pair, 1e-11) == []
    # What torch itself saves and loads
    again = make(mine.parameters())
    again.load_state_dict(copy.deepcopy(of_mine.state_dict()))


def test_a_parameter_that_thaws_counts_its_own_steps():
    module = stack(nn.Tanh())
    module[0].weight.requires_grad_(False)
    pair = twins(module, lambda m: optim.Adam(m.parameters(), 0.01))
    for seed in range(2):
        for (each, optimizer), run in zip(pair, (fit, train), strict=True):
            run(each, X, Y, LOSS, optimizer, 3, 15, seed=seed)
            each[0].weight.requires_grad_(True)
    assert far_apart(pair, 1e-11) == []
    (mine, optimizer), _ = pair
    assert optimizer.state[mine[0].weight]["step"] == 15
    assert optimizer.state[mine[0].bias]["step"] == 30


def test_bias_may_be_missing():
    module = nn.Sequential(nn.Linear(9, 5, bias=False), nn.Mish(), nn.Linear(5, 3, bias=False))
    agree(module.double(), lambda m: optim.Adam(m.parameters(), 0.01), 1e-11)


def test_a_scheduler_may_step_between_fits():
    pair = twins(stack(nn.ReLU()), lambda m: optim.Adam(m.parameters(), 0.02))
    for (each, optimizer), run in zip(pair, (fit, train), strict=True):
        scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for epoch in range(4):
            run(each, X, Y, LOSS, optimizer, 1, 15, seed=epoch)
            scheduler.step()  # warns if the optimizer has not stepped before
    assert far_apart(pair, 1e-11) == []


def test_settings_may_be_tensors_and_zero():
    module = stack(nn.ReLU())
    agree(
        module, lambda m: optim.Adam(m.parameters(), torch.tensor(0.01, dtype=torch.float64)), 1e-11
    )
    (mine, _), _ = agree(module, lambda m: optim.SGD(m.parameters(), 0.0), 0.0)
    assert torch.equal(mine[0].weight, module[0].weight)


def test_gradients_are_none_afterwards():
    module = stack(nn.ReLU())
    LOSS(module(X), Y).backward()
    fit(module, X, Y, LOSS, optim.SGD(module.parameters(), 0.01), 1, 15)
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("form", ["foreach", "fused"])
def test_forms_of_the_optimizer_make_no_difference(form):
    module = stack(nn.ReLU())
    agree(module, lambda m: optim.Adam(m.parameters(), 0.01, **{form: True}), 1e-11)


def test_states_are_made_before_training(monkeypatch):
    """Where there is no memory for them, nothing has changed."""
    module = stack(nn.ReLU())
    optimizer = optim.Adam(module.parameters())
    before = copy.deepcopy(module.state_dict())
    made, original = [], torch.empty_like

    def fails(*args, **options):
        made.append(args)
        if len(made) == 4:
            raise RuntimeError("not enough memory")
        return original(*args, **options)

    monkeypatch.setattr(torch, "empty_like", fails)
    with pytest.raises(RuntimeError, match="not enough memory"):
        fit(module, X, Y, LOSS, optimizer, 1, 15)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not optimizer.state


def test_a_fit_in_inference_mode_can_be_gone_on_with():
    pair = twins(stack(nn.ReLU()), lambda m: optim.Adam(m.parameters()))
    (mine, of_mine), (theirs, of_theirs) = pair
    with torch.inference_mode():
        fit(mine, X, Y, LOSS, of_mine, 1, 15)
    train(mine, X, Y, LOSS, of_mine, 1, 15, seed=1)
    for seed in range(2):
        train(theirs, X, Y, LOSS, of_theirs, 1, 15, seed=seed)
    assert far_apart(pair, 1e-11) == []


@pytest.mark.parametrize("inside", [False, True])
def test_states_of_inference_mode_are_gone_on_with(inside):
    """PyTorch cannot write to them either, but they are not found out after the training."""
    pair = twins(stack(nn.ReLU()), lambda m: optim.Adam(m.parameters()))
    for each, optimizer in pair:
        train(each, X, Y, LOSS, optimizer, 1, 15, seed=0)
    (mine, of_mine), (theirs, of_theirs) = pair
    with torch.inference_mode():
        of_mine.load_state_dict(copy.deepcopy(of_mine.state_dict()))
    assert of_mine.state[mine[0].weight]["exp_avg"].is_inference()
    with torch.inference_mode(inside):
        fit(mine, X, Y, LOSS, of_mine, 1, 15, seed=1)
    train(mine, X, Y, LOSS, of_mine, 1, 15, seed=2)
    for seed in (1, 2):
        train(theirs, X, Y, LOSS, of_theirs, 1, 15, seed=seed)
    assert far_apart(pair, 1e-11) == []


# ---- modules and data --------------------------------------------------------------------------


def test_nested_modules_and_a_leading_flatten():
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(9, 7), nn.Sequential(nn.Identity(), nn.SiLU()))
    module = nn.Sequential(nn.Flatten(), body, nn.Sequential(nn.Linear(7, 3)), nn.LogSoftmax(-1))
    images = X.reshape(-1, 3, 3)
    agree(
        module.double(), lambda m: optim.Adam(m.parameters(), 0.01), 1e-11,
        X=images, loss=nn.NLLLoss(),
    )  # fmt: skip


def test_dropout_before_relu_is_that_after_it():
    for seed in range(2):
        trained = []
        for modules in ((nn.ReLU(), nn.Dropout(0.4)), (nn.Dropout(0.4), nn.ReLU())):
            torch.manual_seed(seed)
            module = nn.Sequential(nn.Linear(9, 7), *modules, nn.Linear(7, 3)).double()
            fit(module, X, Y, LOSS, optim.Adam(module.parameters(), 0.01), 3, 15, seed=seed)
            trained.append(module[0].weight)
        assert torch.equal(*trained)


def test_dropout_acts_in_training_mode_only():
    module = nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 3)).double()
    ends = []
    for mode in (True, True, False):
        each = copy.deepcopy(module).train(mode)
        # Of a seed of its own each time
        torch.manual_seed(len(ends))
        fastgd.torch.fit(each, X, Y, loss=LOSS, optimizer=optim.SGD(each.parameters(), 0.1),
                         epochs=2, shuffle=False, verbose=0)  # fmt: skip
        ends.append(each)
    assert not torch.equal(ends[0][0].weight, ends[1][0].weight)
    agree(module.eval(), lambda m: optim.Adam(m.parameters(), 0.01), 1e-11)


def test_data_are_read_where_they_lie(monkeypatch):
    seen = []
    original = fastgd.torch._fit.Training

    def spy(network, data, *args, **options):
        seen.append(data)
        return original(network, data, *args, **options)

    monkeypatch.setattr(fastgd.torch._fit, "Training", spy)
    single, labels = X.float(), Y
    module = stack(nn.ReLU(), dtype=torch.float32)
    fit(module, single, labels, LOSS, optim.SGD(module.parameters(), 0.01), 1, 15)
    assert seen[0].X.__array_interface__["data"][0] == single.data_ptr()
    assert seen[0].y.__array_interface__["data"][0] == labels.data_ptr()


def test_data_of_other_dtypes_layouts_and_arrays():
    whole = (X * 10).round().clamp(0, 20)
    ends = []
    for data, y in [
        (whole, Y),
        (whole.to(torch.uint8), Y.to(torch.int32)),
        (whole.T.contiguous().T, Y),
        (whole.numpy(), Y.numpy()),
        (whole.tolist(), Y.tolist()),
        (whole.clone().requires_grad_(), Y),
        (torch.complex(whole, -whole).conj().imag, Y),  # negated when it is read
    ]:
        module = stack(nn.ReLU())
        fit(module, data, y, LOSS, optim.SGD(module.parameters(), 0.001), 2, 15)
        ends.append(module[0].weight)
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_history_has_the_losses_of_torch():
    """The loss of an epoch is that of its steps; with one batch, the loss before the step."""
    for loss in (
        LOSS,
        nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]).double(), reduction="sum"),
        nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]).double(), label_smoothing=0.2),
    ):
        module = stack(nn.ReLU())
        start = copy.deepcopy(module)
        optimizer = optim.SGD(module.parameters(), 0.001)
        history = fit(module, X, Y, loss, optimizer, 2, 73, validation_data=(X[:30], Y[:30]))
        assert history.history["loss"][0] == pytest.approx(loss(start(X), Y).item(), rel=1e-12)
        value = loss(module(X[:30]), Y[:30]).item()
        assert history.history["val_loss"][-1] == pytest.approx(value, rel=1e-12)
        assert history.history["lr"] == [0.001, 0.001]


def test_sums_are_added_up_over_an_epoch():
    module = stack(nn.ReLU())
    y = torch.randn(73, 3, dtype=torch.float64)
    loss = nn.MSELoss(reduction="sum")
    optimizer = optim.SGD(module.parameters(), 0.0)
    history = fit(module, X, y, loss, optimizer, 1, 15)
    assert history.history["loss"][0] == pytest.approx(loss(module(X), y).item(), rel=1e-12)


# ---- the order of the samples ------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_orders_are_those_of_a_data_loader(own):
    def generator():
        return torch.Generator().manual_seed(5) if own else None

    source = generator()
    torch.manual_seed(4)
    mine = fastgd.torch._fit._orders(10, source)(3)
    after = torch.rand(1)
    torch.manual_seed(4)
    loader = DataLoader(TensorDataset(torch.arange(10)), 4, shuffle=True, generator=generator())
    theirs = [torch.cat([batch for (batch,) in loader]).tolist() for _ in range(3)]
    assert mine.tolist() == theirs
    assert torch.equal(torch.rand(1), after)


def test_without_shuffle_samples_come_as_they_lie():
    pair = twins(stack(nn.ReLU()), lambda m: optim.SGD(m.parameters(), 0.05))
    (mine, of_mine), (theirs, of_theirs) = pair
    fit(mine, X, Y, LOSS, of_mine, 2, 15, shuffle=False)
    for _ in range(2):
        for first in range(0, 73, 15):
            rows = slice(first, first + 15)
            of_theirs.zero_grad()
            LOSS(theirs(X[rows]), Y[rows]).backward()
            of_theirs.step()
    assert far_apart(pair, 1e-12) == []


def test_many_epochs_are_the_same_in_several_calls(monkeypatch):
    ends = []
    for entries in (1 << 18, 1):
        monkeypatch.setattr("fastgd._training._MAX_ENTRIES", entries)
        module = stack(nn.ReLU())
        fit(module, X, Y, LOSS, optim.Adam(module.parameters()), 5, 15)
        ends.append(module)
    assert torch.equal(ends[0][0].weight, ends[1][0].weight)


# ---- when something goes wrong -----------------------------------------------------------------


def test_ctrl_c_leaves_module_and_optimizer_in_agreement():
    module = stack(nn.ReLU(), (9, 300, 3))
    optimizer = optim.Adam(module.parameters())
    start = module[0].weight.clone()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(module, X, Y, LOSS, optimizer, 10**6, 1)
    timer.join()
    steps = {float(state["step"]) for state in optimizer.state.values()}
    assert len(optimizer.state) == 4
    assert len(steps) == 1
    assert steps.pop() > 0
    assert not torch.equal(module[0].weight, start)
    train(module, X, Y, LOSS, optimizer, 1, 15)
    fit(module, X, Y, LOSS, optimizer, 1, 15)


def test_ctrl_c_waits_for_what_is_written_back():
    # It is the end of the block that raises, not one of its lines.
    with pytest.raises(KeyboardInterrupt), fastgd.torch._fit._uninterrupted():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_fit_may_run_in_another_thread():
    module = stack(nn.ReLU())
    optimizer = optim.Adam(module.parameters())
    thread = threading.Thread(target=fit, args=(module, X, Y, LOSS, optimizer, 1, 15))
    thread.start()
    thread.join()
    assert optimizer.state[module[0].weight]["step"] == 5


def test_divergence_leaves_the_last_finite_weights():
    module = stack(nn.Identity(), dtype=torch.float32)
    optimizer = optim.SGD(module.parameters(), 1e20)
    y = torch.randn(73, 3)
    with pytest.raises(fastgd.DivergenceError, match=r"smaller lr .it was [^,]*., or standardised"):
        fit(module, X.float(), y, nn.MSELoss(), optimizer, 3, 15)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_a_broken_kernel_is_found_and_nothing_is_changed():
    from fastgd import _kernels

    module = stack(nn.Mish(), (9, 11, 3))
    optimizer = optim.Adagrad(groups_of_two(module), 0.02)
    before = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    _kernels.inject_fault("update")
    try:
        with fastgd.config(validate="always"), pytest.raises(fastgd.ValidationError):
            fit(module, X, Y, LOSS, optimizer, 1, 15)
    finally:
        _kernels.inject_fault(None)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[0][name])
    assert str(optimizer.state_dict()) == str(before[1])


def groups_of_two(module):
    weights = [each.weight for each in module if isinstance(each, nn.Linear)]
    biases = [each.bias for each in module if isinstance(each, nn.Linear)]
    return [{"params": weights}, {"params": biases, "lr": 0.01}]


def test_progress_is_shown(capsys):
    module = stack(nn.ReLU())
    fastgd.torch.fit(module, X, Y, loss=LOSS, optimizer=optim.SGD(module.parameters(), 0.1),
                     epochs=2, verbose=2)  # fmt: skip
    assert capsys.readouterr().err.count("loss") == 2


# ---- callbacks ---------------------------------------------------------------------------------


def test_early_stopping_ends_where_a_loop_would():
    """The same batches, and the random numbers go on as if no later epoch had been meant."""
    stopping = fastgd.EarlyStopping("loss", patience=1, min_delta=0.05)
    (mine, optimizer), (theirs, other) = pair = twins(
        stack(nn.Tanh()), lambda m: optim.SGD(m.parameters(), 0.2, momentum=0.9)
    )
    history = fit(mine, X, Y, LOSS, optimizer, 60, 15, callbacks=stopping)
    after = torch.rand(())
    n_epochs = len(history.epoch)
    assert 1 < n_epochs < 60
    train(theirs, X, Y, LOSS, other, n_epochs, 15)
    assert torch.equal(torch.rand(()), after)
    best = stopping.best_epoch + 1
    assert best == n_epochs - 1
    # The best weights are those of the epoch before; the moments are of the last step.
    assert far_apart(pair, 1e-12) != []
    ((again, third),) = twins(stack(nn.Tanh()), lambda m: optim.SGD(m.parameters(), 0.2, 0.9))[:1]
    train(again, X, Y, LOSS, third, best, 15)
    for parameter, expected in zip(mine.parameters(), again.parameters(), strict=True):
        assert distance(parameter, expected) <= 1e-12


def test_callbacks_see_the_weights_in_training():
    class Watch(fastgd.Callback):
        def __init__(self):
            self.weights, self.logs, self.steps = [], [], 0

        def on_batch_end(self, step, loss):
            self.steps += 1

        def on_epoch_end(self, epoch, logs):
            self.weights.append(self.network.layers[0].weight.copy())
            self.logs.append(sorted(logs))

    watch = Watch()
    module = stack(nn.Tanh())
    options = {"callbacks": [watch], "validation_data": (X, Y)}
    fit(module, X, Y, LOSS, optim.Adam(module.parameters()), 3, 15, **options)
    assert watch.logs == 3 * [["loss", "lr", "seconds", "val_loss"]]
    assert watch.steps == 3 * 5
    assert not np.array_equal(watch.weights[1], watch.weights[2])
    assert np.array_equal(watch.weights[2], module[0].weight.detach().numpy().T)


def test_callbacks_evaluate_with_metrics_and_take_copies():
    class Look(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            found = self.network.evaluate(X.numpy(), Y.numpy(), metrics="accuracy")
            classes = self.network.predict(X.numpy()).argmax(axis=1)
            assert found["accuracy"] == (classes == Y.numpy()).mean()
            assert abs(found["loss"] - logs["val_loss"]) <= 1e-12
            for copied in (copy.deepcopy(self.network), pickle.loads(pickle.dumps(self.network))):
                assert type(copied) is fastgd.Network
                assert (copied.predict(X.numpy()) == self.network.predict(X.numpy())).all()
            assert self.network.validate(X.numpy(), Y.numpy()).operations
            seen.append(epoch)

    seen = []
    module = stack(nn.Tanh())
    options = {"callbacks": [Look()], "validation_data": (X, Y)}
    fit(module, X, Y, LOSS, optim.Adam(module.parameters()), 2, 15, **options)
    assert seen == [0, 1]


def test_a_callback_cannot_train():
    class Trains(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            for call in (self.network.fit, self.network.train_step):
                with pytest.raises(RuntimeError, match="being fitted"):
                    call(X.numpy(), Y.numpy())

    pair = twins(stack(nn.Tanh()), lambda m: optim.Adam(m.parameters()))
    (mine, optimizer), (theirs, other) = pair
    fit(mine, X, Y, LOSS, optimizer, 2, 15, callbacks=Trains())
    train(theirs, X, Y, LOSS, other, 2, 15)
    assert far_apart(pair, 1e-11) == []


def test_a_callback_that_fails_leaves_module_and_optimizer_in_agreement():
    class Fails(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                raise RuntimeError("full")

    pair = twins(stack(nn.Tanh()), lambda m: optim.Adam(m.parameters()))
    (mine, optimizer), (theirs, other) = pair
    with pytest.raises(RuntimeError, match="full"):
        fit(mine, X, Y, LOSS, optimizer, 5, 15, callbacks=Fails())
    train(theirs, X, Y, LOSS, other, 2, 15)
    assert far_apart(pair, 1e-11) == []


@pytest.mark.parametrize("other", ["sgd", fastgd.Adam(0.1)])
def test_a_callback_cannot_take_the_optimizer_away(other):
    class Replaces(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.optimizer = other

    pair = twins(stack(nn.Tanh()), lambda m: optim.SGD(m.parameters(), 0.1, momentum=0.9))
    (mine, optimizer), (theirs, third) = pair
    with pytest.raises(ValueError, match=r"the optimizer of fastgd\.torch\.fit is PyTorch's"):
        fit(mine, X, Y, LOSS, optimizer, 5, 15, callbacks=Replaces())
    train(theirs, X, Y, LOSS, third, 1, 15)
    assert far_apart(pair, 1e-12) == []


@pytest.mark.parametrize("what", ["lr", "requires_grad"])
def test_a_callback_cannot_change_what_is_trained_how(what):
    """It would have no effect, unless in the next call."""

    class Changes(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1 and what == "lr":
                optimizer.param_groups[0]["lr"] *= 0.5
            elif epoch == 1:
                mine[0].weight.requires_grad_(False)

    pair = twins(stack(nn.Tanh()), lambda m: optim.SGD(m.parameters(), 0.1, momentum=0.9))
    (mine, optimizer), (theirs, other) = pair
    with pytest.raises(ValueError, match=r"^callbacks: the optimizer's settings.* two calls"):
        fit(mine, X, Y, LOSS, optimizer, 5, 15, callbacks=Changes())
    train(theirs, X, Y, LOSS, other, 2, 15)
    assert far_apart(pair, 1e-12) == []


def test_a_callback_may_step_a_scheduler_for_the_next_call():
    class Steps(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            optimizer.param_groups[0]["lr"] *= 0.5

    module = stack(nn.Tanh())
    optimizer = optim.SGD(module.parameters(), 0.1)
    for lr in (0.1, 0.05):
        history = fit(module, X, Y, LOSS, optimizer, 1, 15, callbacks=Steps())
        assert history.history["lr"] == [lr]


def test_a_callback_takes_copies_where_nothing_moves():
    class Look(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            copied.append(pickle.loads(pickle.dumps(self.network)))

    copied = []
    module = stack(nn.Tanh())
    fit(module, X, Y, LOSS, optim.SGD(module.parameters(), 0.0), 1, 15, callbacks=Look())
    assert np.array_equal(copied[0].layers[0].weight, module[0].weight.detach().numpy().T)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (fastgd.Checkpoint("absent"), "^callbacks: a Checkpoint keeps a fastgd.Network"),
        ([fastgd.GradientFlow()], r"^callbacks: GradientFlow .*from_module\(module, loss\)"),
        (fastgd.EarlyStopping("val_loss"), "monitors 'val_loss', which this fit does not record"),
        (["loss"], "callbacks must be fastgd.Callback objects, not 'loss'"),
    ],
)
def test_callbacks_that_cannot_be_used_are_refused(callbacks, message):
    module = stack(nn.Tanh())
    before = copy.deepcopy(module.state_dict())
    with pytest.raises((ValueError, TypeError), match=message):
        fit(module, X, Y, LOSS, optim.Adam(module.parameters()), 5, 15, callbacks=callbacks)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_threads_make_no_difference():
    ends = []
    for n_threads in (1, 3):
        module = stack(nn.ReLU(), (9, 300, 300, 3))
        optimizer = optim.SGD(groups_of_two(module), 0.02, momentum=0.9)
        fit(module, X.repeat(9, 1), Y.repeat(9), LOSS, optimizer, 2, 300, n_threads=n_threads)
        ends.append(module)
    for a, b in zip(*(end.parameters() for end in ends), strict=True):
        assert torch.equal(a, b)
    assert distance(ends[0][0].weight, stack(nn.ReLU(), (9, 300, 300, 3))[0].weight) > 0
    assert np.isfinite(ends[0][0].weight.detach().numpy()).all()


@needs_extra("narwhals", "data")
def test_tables_are_taken_as_arrays_are_and_blocks_are_refused():
    import pandas

    table = pandas.DataFrame(X.numpy(), columns=list("abcdefghi"))
    labels = pandas.Series(Y.numpy())
    weights = []
    for rows, target in ((X, Y), (table, labels)):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(9, 3)).double()
        optimizer = optim.SGD(module.parameters(), 0.1)
        fastgd.torch.fit(module, rows, target, loss=LOSS, optimizer=optimizer, verbose=0)
        weights.append(module[0].weight.detach().clone())
    assert torch.equal(*weights)
    blocks = fastgd.Blocks(X.numpy(), Y.numpy())
    with pytest.raises(TypeError, match=r"X is Blocks, which Network\.fit"):
        fastgd.torch.fit(module, blocks, Y, loss=LOSS, optimizer=optimizer, verbose=0)
