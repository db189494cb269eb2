"""Callbacks: when they are called, the built-in ones, and what fit shows of itself."""

import io
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import fastgd
from fastgd import callbacks
from fastgd.callbacks import EpochLines

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)


def network(lr=0.05, **settings):
    layers = [fastgd.Dense(6, "tanh"), fastgd.Dense(1)]
    return fastgd.Network(layers, "squared_error", fastgd.SGD(lr, 0.9), 3, **settings)


class Recorder(fastgd.Callback):
    """Note every call."""

    def __init__(self, calls, name=""):
        self.calls, self.name = calls, name

    def on_fit_begin(self):
        self.calls.append(f"{self.name}begin")

    def on_epoch_begin(self, epoch):
        self.calls.append(f"{self.name}epoch {epoch}")

    def on_epoch_end(self, epoch, logs):
        self.calls.append(f"{self.name}end {epoch}")

    def on_fit_end(self):
        self.calls.append(f"{self.name}fit end")

    def close(self):
        self.calls.append(f"{self.name}close")


def test_hooks_are_called_in_order():
    calls = []

    class Last(Recorder):
        last = True

    network().fit(X, Y, epochs=2, callbacks=[Last(calls, "c "), Recorder(calls, "a ")], verbose=0)
    assert calls == [
        "a begin", "c begin",
        "a epoch 0", "c epoch 0", "a end 0", "c end 0",
        "a epoch 1", "c epoch 1", "a end 1", "c end 1",
        "a fit end", "c fit end", "a close", "c close",
    ]  # fmt: skip


def test_callback_knows_its_fit():
    net = network()

    class Look(fastgd.Callback):
        def on_fit_begin(self):
            assert self.network is net
            assert (self.n_epochs, self.steps_per_epoch) == (3, 4)

        def on_epoch_end(self, epoch, logs):
            assert list(logs) == ["loss", "lr", "seconds", "mse", "val_loss", "val_mse"]
            assert self.network.history.epoch[-1] == epoch
            assert self.network.epoch == epoch + 1
            assert self.network.evaluate(X, Y) == logs["val_loss"]
            seen.append(epoch)

    seen = []
    net.fit(
        X, Y, epochs=3, batch_size=12, validation_data=(X, Y), metrics="mse", callbacks=[Look()],
        verbose=0,
    )  # fmt: skip
    assert seen == [0, 1, 2]


def test_batch_hook_is_called_after_each_step():
    steps = []

    class Batches(fastgd.Callback):
        def on_batch_end(self, step, loss):
            steps.append((step, loss, self.network.step))

    watched, calm = network(), network()
    history = watched.fit(X, Y, epochs=2, batch_size=16, callbacks=[Batches()], verbose=0)
    calm.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    assert [step for step, _, _ in steps] == list(range(6))
    assert [step for _, _, step in steps] == list(range(1, 7))
    means = [np.average([loss for _, loss, _ in part], weights=[16, 16, 8]) for part in
             (steps[:3], steps[3:])]  # fmt: skip
    np.testing.assert_allclose(history.history["loss"], means, rtol=1e-6)
    np.testing.assert_array_equal(watched.layers[0].weight, calm.layers[0].weight)


def test_stop_training_ends_after_the_epoch():
    class Stop(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.stop_training = epoch == 2

    net = network()
    assert net.fit(X, Y, epochs=50, callbacks=[Stop()], verbose=0).epoch == [0, 1, 2]
    assert net.fit(X, Y, epochs=2, verbose=0).epoch == [0, 1], "a new fit begins anew"


def test_lr_set_by_a_callback_holds_from_the_next_epoch():
    class Halve(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            self.network.optimizer.lr /= 2

    history = network(lr=0.4).fit(X, Y, epochs=3, callbacks=[Halve()], verbose=0)
    assert history.history["lr"] == [0.4, 0.2, 0.1]


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin", "on_epoch_end", "on_batch_end"])
def test_exception_of_a_callback_comes_through(hook):
    calls = []

    def fail(self, *args):
        raise ZeroDivisionError(hook)

    failing = type("Failing", (Recorder,), {hook: fail})(calls)
    net = network()
    with pytest.raises(ZeroDivisionError, match=hook):
        net.fit(X, Y, epochs=3, callbacks=[failing], verbose=0)
    assert calls[-1] == "close"
    assert "fit end" not in calls
    net.fit(X, Y, verbose=0)
    net.train_step(X, Y)


def test_callback_may_save_and_set_weights(tmp_path):
    class Freeze(fastgd.Callback):
        def on_fit_begin(self):
            self.weights = self.network.get_weights()

        def on_epoch_end(self, epoch, logs):
            self.network.set_weights(self.weights)
            self.network.save(tmp_path / "model")

    net = network()
    before = net.get_weights()
    net.fit(X, Y, epochs=2, callbacks=[Freeze()], verbose=0)
    np.testing.assert_array_equal(before[0], net.layers[0].weight)
    np.testing.assert_array_equal(before[0], fastgd.load(tmp_path / "model").layers[0].weight)


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_batch_end", "on_progress"])
def test_a_hook_may_wait_for_another_thread_that_predicts(hook):
    with ThreadPoolExecutor() as pool:

        def ask(self, *args):
            asked.append(pool.submit(self.network.predict, X).result(timeout=60))

        asked = []
        net = network()
        net.fit(X, Y, epochs=2, callbacks=[type("Asks", (fastgd.Callback,), {hook: ask})()])
    assert asked
    assert (asked[-1] == net.predict(X)).all()


def test_a_learning_rate_may_wait_for_another_thread_that_predicts():
    """In the short way of train_step, too, which then sees whether the step is still the same."""
    net = network()
    with ThreadPoolExecutor() as pool:

        def lr(step):
            if net.step:
                pool.submit(net.predict, X).result(timeout=60)
            return 0.1 / (1 + step)

        net.optimizer.lr = lr
        twin = network(lr=lambda step: 0.1 / (1 + step))
        for _ in range(4):
            net.train_step(X, Y)
            twin.train_step(X, Y)
    assert (net.predict(X) == twin.predict(X)).all()


def test_steps_count_on_where_a_callback_changes_the_optimizer():
    """The network's own count begins anew, which its states and schedules go by."""

    class Change(fastgd.Callback):
        def on_batch_end(self, step, loss):
            steps.append(step)
            if step == 5:
                self.network.optimizer = "adam"

        def on_epoch_end(self, epoch, logs):
            counted.append(self.network._training.state()["steps"])

    steps, counted = [], []
    net = network()
    net.fit(X, Y, 3, 10, callbacks=[Change()], verbose=0)
    assert steps == list(range(12))
    assert counted == [4, 8, 12]
    assert net.step == 6


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin"])
def test_a_fit_that_ends_before_its_first_step_changes_nothing(hook, tmp_path):
    def fail(self, *args):
        raise ZeroDivisionError

    failing = type("Failing", (fastgd.Callback,), {hook: fail})()
    net = fastgd.Network([fastgd.Dense(1)], "squared_error")
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, callbacks=[failing], verbose=0)
    assert net.history is None
    assert net.n_inputs is None
    net.optimizer.lr = lambda step: -1.0
    for train in net.train_step, net.fit:
        with pytest.raises(ValueError, match="lr"):
            train(X, Y)
        assert (net.history, net.n_inputs) == (None, None)
    net, path = network(), tmp_path / "model"
    net.fit(X, Y, 2, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    resumed, twin = fastgd.load(path), fastgd.load(path)
    with pytest.raises(ZeroDivisionError):
        resumed.fit(X, Y, 4, resume=True, callbacks=[fastgd.Checkpoint(path), failing], verbose=0)
    assert resumed.history.epoch == [0, 1]
    for each in resumed, twin:
        each.fit(X, Y, 4, resume=True, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    assert (resumed.predict(X) == twin.predict(X)).all()


def test_a_fit_that_ends_after_an_optimizer_of_another_kind_keeps_its_steps():
    """Though the network's count of steps is as it was before the fit."""

    class Change(fastgd.Callback):
        def on_batch_end(self, step, loss):
            self.network.optimizer = "adam" if step == 0 else "rmsprop"
            if step == 1:
                raise ZeroDivisionError

    net = network()
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, 3, 10, callbacks=[Change()], verbose=0)
    assert (net.step, net.n_inputs) == (0, 3)
    assert (net.predict(X) != network().predict(X)).any()


def test_steps_before_an_error_of_a_signal_handler_are_kept():
    """Also if it comes within the first native call, so that `fit` saw no step end."""

    def handler(*args):
        if net.step > 0:
            raise TimeoutError

    wide = [fastgd.Dense(700, "tanh"), fastgd.Dense(700, "tanh"), fastgd.Dense(1)]
    net = fastgd.Network(wide, "squared_error", fastgd.SGD(1e-3))
    samples = np.ones((100_000, 3), np.float32)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3, 0.1)
        with pytest.raises(TimeoutError):
            net.fit(samples, samples[:, :1], 10**6, 64, verbose=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert net.step > 0
    assert net.history is not None


def test_a_refused_step_leaves_the_fit_of_another_thread_alone():
    """It is refused though it began before the fit, which has built the network since."""
    asked, fitting = threading.Event(), threading.Event()
    refused = []

    def lr(step):
        if threading.current_thread() is stepping:
            asked.set()
            fitting.wait(60)
        return 0.1

    def step():
        try:
            net.train_step(X, Y)
        except RuntimeError as error:
            refused.append(error)

    class Waits(fastgd.Callback):
        def on_fit_begin(self):
            fitting.set()
            stepping.join(60)

    net = fastgd.Network([fastgd.Dense(1)], "squared_error", fastgd.SGD(lr))
    stepping = threading.Thread(target=step)
    stepping.start()
    asked.wait(60)
    history = net.fit(X, Y, 2, 10, callbacks=[Waits()], verbose=0)
    assert len(refused) == 1
    assert (net.step, net.history) == (8, history)


# ---- EarlyStopping --------------------------------------------------------------------------


class Script:
    """A metric whose values are written down beforehand; NumPy's name for it is its own."""

    __name__ = "scripted"

    def __init__(self, *values):
        self.values = iter(values)

    def __call__(self, y, output):
        return next(self.values)


def scripted_fit(values, stop, **options):
    """Fit with the monitored value of each epoch given; return the network and its weights then."""
    net, snapshots = network(), []

    class Watch(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            snapshots.append(self.network.get_weights()[0])

    net.fit(
        X, Y, epochs=len(values), metrics=[Script(*values)], callbacks=[stop, Watch()], verbose=0,
        **options,
    )  # fmt: skip
    return net, snapshots


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best", "stopped"),
    [
        ([5, 4, 3, 4, 4, 4, 4], {"patience": 2}, 5, 2, True),
        ([5, 4, 3, 4, 4, 2, 4], {"patience": 3}, 7, 5, False),
        ([5, 4.95, 4.9, 4.85], {"patience": 2, "min_delta": 0.2}, 3, 0, True),
        ([5, 4.9, 4.75, 4.9, 4.9], {"patience": 2, "min_delta": 0.2}, 5, 2, True),
        ([1, 2, 3, 2, 2, 9], {"patience": 2, "mode": "max"}, 5, 2, True),
        ([np.nan, 3, np.nan, np.nan, 1], {"patience": 2}, 4, 1, True),
        ([np.nan, np.nan, 1], {"patience": 2}, 2, None, True),
        ([3, 3, 3], {"patience": 1}, 2, 0, True),
        ([1, 2, 3], {"patience": 5}, 3, 0, False),
    ],
)
@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_stops_and_restores(values, settings, epochs, best, stopped, restore):
    stop = fastgd.EarlyStopping("scripted", restore_best=restore, **settings)
    net, snapshots = scripted_fit(values, stop)
    assert len(snapshots) == epochs
    assert stop.stopped is stopped
    assert stop.best_epoch == best
    assert stop.best == (None if best is None else values[best])
    wanted = best if restore and best is not None else -1
    np.testing.assert_array_equal(net.layers[0].weight, snapshots[wanted])


def test_early_stopping_knows_that_accuracy_rises():
    assert callbacks.is_higher_better("val_accuracy", "auto")
    assert callbacks.is_higher_better("r2", "auto")
    assert not callbacks.is_higher_better("val_loss", "auto")
    assert not callbacks.is_higher_better("accuracy", "min")


def test_early_stopping_begins_anew_in_each_fit():
    stop = fastgd.EarlyStopping("scripted", patience=1)
    for values in ([1, 2, 3], [5, 6, 7]):
        scripted_fit(values, stop)
        assert stop.best == values[0]


def test_early_stopping_restores_nothing_after_an_exception():
    class Fail(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                raise ZeroDivisionError

    net, twin = network(), network()
    stop = fastgd.EarlyStopping("scripted")
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, epochs=9, metrics=[Script(1, 2, 3)], callbacks=[stop, Fail()], verbose=0)
    twin.fit(X, Y, epochs=3, verbose=0)
    np.testing.assert_array_equal(net.layers[0].weight, twin.layers[0].weight)


# ---- Checkpoint -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("absent/model.safetensors", FileNotFoundError, "there is no folder .*absent"),
        ("link", FileNotFoundError, "there is no folder .*absent"),
        ("", IsADirectoryError, "cannot write to .*: it is a folder"),
        ("pipe", OSError, "pipe: it is not a regular file"),
    ],
)
def test_checkpoint_that_could_not_be_written_is_refused_before_training(
    place, error, message, tmp_path
):
    os.symlink(tmp_path / "absent" / "model", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    net = network()
    before = net.get_weights()
    checkpoint = fastgd.Checkpoint(tmp_path / place)
    with pytest.raises(error, match=message):
        net.fit(X, Y, callbacks=[checkpoint], verbose=0)
    assert net.step == 0
    for array, old in zip(net.get_weights(), before, strict=True):
        assert (array == old).all()


def test_checkpoint_saves_every_so_many_epochs(tmp_path):
    path = tmp_path / "model"
    seen = []

    class Look(fastgd.Callback):
        last = True

        def on_epoch_end(self, epoch, logs):
            seen.append(fastgd.load(path).epoch if path.exists() else 0)

    checkpoint = fastgd.Checkpoint(path, every=2)
    network().fit(X, Y, epochs=5, callbacks=[checkpoint, Look()], verbose=0)
    assert seen == [0, 2, 2, 4, 4]


def test_checkpoint_saves_the_best(tmp_path):
    path = tmp_path / "model"
    checkpoint = fastgd.Checkpoint(path, monitor="scripted", save_best_only=True)
    _, snapshots = scripted_fit([5, 3, 4, 2, np.nan, 6], checkpoint)
    np.testing.assert_array_equal(fastgd.load(path).layers[0].weight, snapshots[3])
    assert fastgd.load(path).epoch == 4
    risen = fastgd.Checkpoint(path, monitor="scripted", save_best_only=True, mode="max")
    scripted_fit([5, 6, 4], risen)
    assert fastgd.load(path).epoch == 2


# ---- CSVLog ---------------------------------------------------------------------------------


def test_csv_log_writes_a_line_for_each_epoch(tmp_path):
    path = tmp_path / "log.csv"
    net = network()
    history = net.fit(
        X, Y, epochs=3, validation_data=(X, Y), callbacks=[fastgd.CSVLog(path)], verbose=0
    )
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,lr,seconds,val_loss"
    assert len(lines) == 4
    for epoch, line in enumerate(lines[1:]):
        number, *values = line.split(",")
        assert int(number) == epoch
        assert [float(value) for value in values] == [
            column[epoch] for column in history.history.values()
        ]


def test_csv_log_appends_or_replaces(tmp_path):
    path = tmp_path / "log.csv"
    for append, n_lines in ((True, 3), (True, 5), (False, 3), (True, 5)):
        log = fastgd.CSVLog(path, append=append)
        network().fit(X, Y, epochs=2, callbacks=[log], verbose=0)
        lines = path.read_text().splitlines()
        assert len(lines) == n_lines
        assert sum(line.startswith("epoch,") for line in lines) == 1


@pytest.mark.parametrize("append", [False, True])
def test_csv_log_of_a_fit_that_fails_before_its_first_line_leaves_the_old_one(append, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.0\n")

    class Fail(fastgd.Callback):
        def on_fit_begin(self):
            raise ZeroDivisionError

    net = network()
    with pytest.raises(ZeroDivisionError):
        net.fit(X, Y, callbacks=[fastgd.CSVLog(path, append), Fail()], verbose=0)
    assert path.read_text() == "epoch,loss\n0,1.0\n"


def test_csv_log_may_be_no_file():
    net = network()
    net.fit(X, Y, epochs=2, callbacks=[fastgd.CSVLog("/dev/null")], verbose=0)
    assert net.history.epoch == [0, 1]


def test_csv_log_is_complete_after_each_epoch_and_closed_after_an_exception(tmp_path):
    path = tmp_path / "log.csv"
    log = fastgd.CSVLog(path)

    class Fail(fastgd.Callback):
        last = True

        def on_epoch_end(self, epoch, logs):
            assert len(path.read_text().splitlines()) == epoch + 2
            if epoch == 1:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        network().fit(X, Y, epochs=5, callbacks=[log, Fail()], verbose=0)
    assert log._file is None


# ---- what is shown --------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    def use(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return use


def test_verbose_0_is_silent(capfd):
    network().fit(X, Y, epochs=3, verbose=0)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_verbose_2_is_a_line_for_each_epoch(stderr):
    stream = stderr(io.StringIO())
    history = network().fit(X, Y, epochs=3, validation_data=(X, Y), verbose=2)
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert f"loss {history.history['loss'][0]:.6g}" in lines[0]
    assert f"val_loss {history.history['val_loss'][2]:.6g}" in lines[2]


@pytest.mark.parametrize("verbose", [1, "auto"])
def test_bar_counts_steps_on_a_terminal(stderr, verbose):
    stream = stderr(Terminal())
    network().fit(X, Y, epochs=3, batch_size=10, verbose=verbose)
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert "epoch 3/3: 100%" in last
    assert "12.0/12.0" in last
    assert "loss=" in last


def test_auto_is_lines_elsewhere(stderr):
    stream = stderr(io.StringIO())
    network().fit(X, Y, epochs=200, verbose="auto")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("epoch 1/200  loss ")
    assert lines[-1].startswith("epoch 200/200  loss ")
    assert len(lines) < 20, "at most one a second"


def test_a_monitor_of_validation_data_says_to_give_some():
    with pytest.raises(ValueError, match=r"does not record; .*, or give validation data$"):
        network().fit(X, Y, callbacks=fastgd.EarlyStopping("val_loss"), verbose=0)


def test_only_a_schedule_of_plateaus_knows_what_auto_is(tmp_path):
    for callback in (
        fastgd.EarlyStopping("auto"),
        fastgd.Checkpoint(tmp_path / "model", monitor="auto", save_best_only=True),
    ):
        net = network()
        with pytest.raises(ValueError, match=r"monitors 'auto', .*choose from loss, lr, seconds"):
            net.fit(X, Y, callbacks=callback, verbose=0)
        assert net.step == 0
    plateau = fastgd.schedules.ReduceOnPlateau(0.1, patience=1, min_delta=1e9)
    for schedule in (plateau, fastgd.schedules.WarmUp(fastgd.schedules.WarmUp(plateau, 1), 1)):
        net = network()
        net.optimizer.lr = schedule
        history = net.fit(X, Y, epochs=4, verbose=0).history
        assert history["lr"][-1] < history["lr"][1]


def test_a_program_that_starts_notebooks_is_none(stderr, monkeypatch):
    """Such as nbclient, which imports a part of ipykernel."""
    stream = stderr(io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    network().fit(X, Y, epochs=2, verbose="auto")
    assert stream.getvalue().startswith("epoch 1/2  loss ")


def test_auto_without_any_stderr_is_silent(stderr):
    stderr(None)
    assert network().fit(X, Y, epochs=2).epoch == [0, 1]


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_closed_stderr_is_none(stderr, verbose):
    stderr(io.StringIO()).close()
    assert len(network().fit(X, Y, epochs=3, verbose=verbose).epoch) == 3


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_stderr_may_have_only_write(stderr, verbose):
    parts = []
    stderr(SimpleNamespace(write=parts.append))
    network().fit(X, Y, epochs=3, verbose=verbose)
    assert "epoch 3/3" in "".join(parts)


def test_display_does_not_change_the_bits(stderr):
    nets = []
    for verbose in (0, 1, 2, "auto"):
        stderr(io.StringIO())
        net = network()
        net.fit(X, Y, epochs=40, verbose=verbose)
        nets.append(net.get_weights()[0])
    for other in nets[1:]:
        np.testing.assert_array_equal(nets[0], other)


def test_bar_is_closed_after_an_exception(stderr):
    stream = stderr(Terminal())
    bar = fastgd.ProgressBar()

    class Fail(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        network().fit(X, Y, epochs=3, callbacks=[bar, Fail()], verbose=0)
    assert bar._bar is None
    assert stream.getvalue().endswith("\n")


def test_bar_starts_no_thread(stderr):
    """A thread that watches the bar would live on, and be lost in a fork."""
    stderr(Terminal())
    before = threading.active_count()
    during = []

    class Count(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            during.append(threading.active_count())

    network().fit(X, Y, callbacks=[Count()], verbose=1, n_threads=1)
    assert during == [before]


def test_bar_moves_within_a_long_epoch(stderr):
    """Progress comes from inside the native call, not only from its end."""
    stderr(io.StringIO())
    seen = []

    class Watch(fastgd.Callback):
        every_epoch = False

        def on_progress(self, steps):
            seen.append(steps)

    n = 60_000
    big = rng.normal(size=(n, 64)).astype(np.float32)
    net = fastgd.Network(
        [fastgd.Dense(256, "relu"), fastgd.Dense(256, "relu"), fastgd.Dense(1)],
        "squared_error", n_inputs=64,
    )  # fmt: skip
    net.fit(big, np.zeros(n), batch_size=8, callbacks=[Watch()], verbose=0)
    assert seen[-1] == n // 8
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_epochs_without_a_watcher_share_native_calls(monkeypatch, stderr):
    """With a display only, many short epochs run in few native calls."""
    stderr(io.StringIO())
    epochs = []
    original = EpochLines.on_epoch_end
    monkeypatch.setattr(
        EpochLines,
        "on_epoch_end",
        lambda self, epoch, logs: (epochs.append(epoch), original(self, epoch, logs)),
    )
    net = network()
    history = net.fit(X, Y, epochs=500, verbose="auto")
    assert epochs == list(range(500))
    assert len(history.history["loss"]) == 500
    assert len(set(history.history["seconds"])) < 100


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastgd.EarlyStopping(patience=0), ValueError, "patience must be at least 1"),
        (lambda: fastgd.EarlyStopping(min_delta=-1), ValueError, "min_delta must be at least 0"),
        (lambda: fastgd.EarlyStopping(mode="best"), ValueError, "choose from auto, min, max"),
        (lambda: fastgd.EarlyStopping(monitor=1), TypeError, "monitor must be a string"),
        (lambda: fastgd.EarlyStopping(restore_best=1), TypeError, "restore_best must be True or"),
        (lambda: fastgd.Checkpoint("x", every=0), ValueError, "every must be at least 1"),
        (lambda: fastgd.Checkpoint("x", save_best_only=True), ValueError, "needs a monitor"),
        (lambda: fastgd.Checkpoint(3), TypeError, "path must be a string or path-like, not 3"),
        (lambda: fastgd.Checkpoint(b"x"), TypeError, "path must be a string .*, not b'x'"),
        (lambda: fastgd.CSVLog(None), TypeError, "path must be a string or path-like, not None"),
    ],
)
def test_callbacks_refuse_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()
