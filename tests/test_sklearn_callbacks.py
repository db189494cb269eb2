"""Callbacks of estimators: fastgd's own, the progress bar, and scikit-learn's protocol."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

import fastgd
from fastgd.sklearn import MLPClassifier, MLPRegressor
from fastgd.sklearn._callbacks import CallbackSupport, watchers

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**settings):
    return MLPClassifier(
        **{"hidden_layer_sizes": (4,), "max_iter": 5, "batch_size": 50, "random_state": 0}
        | settings
    )


class Recorder(fastgd.Callback):
    """Note every call."""

    def __init__(self):
        self.calls = []

    def on_fit_begin(self):
        self.calls.append(("begin", self.n_epochs, self.steps_per_epoch))

    def on_epoch_begin(self, epoch):
        self.calls.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs):
        self.calls.append(("end", epoch, *logs))

    def on_fit_end(self):
        self.calls.append("fit end")

    def close(self):
        self.calls.append("close")


def test_nothing_to_call_is_none():
    def refuse():
        raise AssertionError("the network is not needed")

    settings = {"n_epochs": 1, "steps_per_epoch": 1, "names": ("loss",)}
    assert watchers(classifier(), refuse, **settings) is None
    assert watchers(classifier(callbacks=[]), refuse, **settings) is None


def test_hooks_are_called_in_order():
    recorder = Recorder()
    model = classifier(max_iter=2, callbacks=[recorder]).fit(X, Y)
    logs = ("loss", "lr", "seconds")
    assert recorder.calls == [
        ("begin", 2, 3),
        ("epoch", 0), ("end", 0, *logs),
        ("epoch", 1), ("end", 1, *logs),
        "fit end", "close",
    ]  # fmt: skip
    assert model.history_.epoch == [0, 1]


def test_callbacks_change_no_bit():
    watched, calm = (classifier(callbacks=callbacks).fit(X, Y) for callbacks in (Recorder(), None))
    assert watched.loss_curve_ == calm.loss_curve_
    for left, right in zip(watched.coefs_, calm.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)


def test_logs_name_what_is_recorded_and_the_network_is_live():
    class Look(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            assert list(logs) == ["loss", "lr", "seconds", "val_loss", "val_accuracy"]
            output = self.network.predict(X[:20])
            accuracy = (output.argmax(axis=1) == Y[:20]).mean()
            assert accuracy == logs["val_accuracy"]
            assert model.loss_curve_[-1] == logs["loss"]
            seen.append(epoch)

    seen = []
    model = classifier(callbacks=[Look()], max_iter=3)
    model.fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert seen == [0, 1, 2]


def test_batch_hook_is_called_after_each_step():
    class Batches(fastgd.Callback):
        def on_batch_end(self, step, loss):
            steps.append(step)
            losses.append(loss)

    steps, losses = [], []
    model = classifier(callbacks=[Batches()], max_iter=2).fit(X, Y)
    assert steps == list(range(6))
    means = np.reshape(losses, (2, 3)).mean(axis=1)
    # Sums of three in two orders
    np.testing.assert_allclose(model.loss_curve_, means, rtol=1e-12)


def test_progress_is_counted_over_the_fit():
    class Progress(fastgd.Callback):
        def on_progress(self, steps):
            seen.append(steps)

    seen = []
    classifier(callbacks=[Progress()]).fit(X, Y)
    assert seen == sorted(seen)
    assert seen[-1] == 15


def test_stop_training_ends_the_fit_without_a_warning():
    class Stop(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                self.network.stop_training = True

    model = classifier(callbacks=[Stop()], max_iter=50, warm_start=True)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert model.fit(X, Y).n_iter_ == 3


def test_early_stopping_restores_the_best_weights():
    stop = fastgd.EarlyStopping("val_loss", patience=3)
    model = classifier(
        callbacks=[stop], learning_rate_init=0.3, solver="sgd", max_iter=300, activation="tanh"
    )
    model.fit(X, Y, X_val=X[::3], y_val=Y[::3])
    assert stop.stopped
    assert model.n_iter_ == stop.best_epoch + 4
    assert min(model.validation_loss_curve_) == stop.best
    assert model.to_network().evaluate(X[::3], Y[::3]) == pytest.approx(stop.best, rel=1e-12)


def test_checkpoint_and_log_write_their_files(tmp_path):
    path, log = tmp_path / "model.safetensors", tmp_path / "log.csv"
    model = classifier(callbacks=[fastgd.Checkpoint(path), fastgd.CSVLog(log)]).fit(X, Y)
    np.testing.assert_array_equal(fastgd.load(path).predict(X), model.predict_proba(X))
    lines = log.read_text().splitlines()
    assert lines[0] == "epoch,loss,lr,seconds"
    assert [float(line.split(",")[1]) for line in lines[1:]] == model.loss_curve_


def test_progress_bar_counts_all_steps(capsys):
    classifier(progress_bar=True).fit(X, Y)
    shown = capsys.readouterr().err
    assert "epoch 5/5" in shown
    assert "15.0/15.0" in shown


def test_progress_bar_alone_lets_epochs_run_together():
    settings = {"n_epochs": 4, "steps_per_epoch": 3, "names": ()}
    model = classifier(progress_bar=True)
    assert not watchers(model, classifier, **settings).every_epoch
    model.set_params(callbacks=[Recorder()])
    assert watchers(model, classifier, **settings).every_epoch


def test_wrong_callbacks_are_refused():
    with pytest.raises(TypeError, match=r"callbacks must be fastgd.Callback objects, not <class"):
        classifier(callbacks=[fastgd.ProgressBar]).fit(X, Y)
    with pytest.raises(ValueError, match=r"EarlyStopping monitors 'val_loss', which this fit does"):
        classifier(callbacks=[fastgd.EarlyStopping()]).fit(X, Y)


def test_callbacks_are_closed_after_an_exception():
    class Fail(Recorder):
        def on_epoch_end(self, epoch, logs):
            raise RuntimeError("enough")

    recorders = [Recorder(), Fail()]
    with pytest.raises(RuntimeError, match="enough"):
        classifier(callbacks=recorders).fit(X, Y)
    for recorder in recorders:
        assert recorder.calls[-1] == "close"
        assert "fit end" not in recorder.calls


def test_callbacks_are_closed_though_closing_one_fails():
    class Bad(Recorder):
        def close(self):
            super().close()
            raise OSError("disk full")

    recorders = [Recorder(), Bad(), Recorder()]
    with pytest.raises(OSError, match="disk full"):
        classifier(callbacks=recorders).fit(X, Y)
    for recorder in recorders:
        assert recorder.calls[-1] == "close"
        assert not hasattr(recorder, "network")


def test_fit_of_a_callback_that_has_seen_a_resumed_one_begins_at_0(tmp_path):
    class First(fastgd.Callback):
        def on_fit_begin(self):
            seen.append(self.first_epoch)

    seen = []
    path, callback = tmp_path / "model", First()
    network = classifier().fit(X, Y).to_network()
    network.fit(X, Y, epochs=3, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    fastgd.load(path).fit(X, Y, epochs=4, callbacks=[callback], resume=True, verbose=0)
    classifier(callbacks=[callback]).fit(X, Y)
    assert seen == [3, 0]


def test_ctrl_c_is_the_end_of_a_fit():
    class Interrupt(Recorder):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                raise KeyboardInterrupt

    recorder = Interrupt()
    with pytest.warns(UserWarning, match="interrupted by user"):
        assert classifier(callbacks=[recorder]).fit(X, Y).n_iter_ == 2
    assert recorder.calls[-2:] == ["fit end", "close"]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_end", "on_fit_end"])
def test_training_from_a_hook_is_refused_and_changes_nothing(hook, solver):
    def train(self, *given):
        for call in (
            lambda: self.network.fit(X, Y, verbose=0),
            lambda: self.network.train_step(X, Y[:, None]),
            lambda: self.network.loss_and_grad(X, Y[:, None]),
            lambda: model.fit(X, Y),
            lambda: model.partial_fit(X, Y) if solver == "adam" else model.fit(X, NAMES),
        ):
            with pytest.raises(RuntimeError, match="being fitted"):
                call()
            refused.append(hook)

    refused = []
    kind = type("Train", (fastgd.Callback,), {hook: train})
    model, calm = (classifier(solver=solver, callbacks=found) for found in (kind(), None))
    for fitted in (model, calm):
        fitted.fit(X, Y)
    assert bool(refused) == (solver == "adam" or hook != "on_batch_end")
    for name in ("n_iter_", "loss_", "classes_") + ("t_", "loss_curve_") * (solver == "adam"):
        np.testing.assert_array_equal(getattr(model, name), getattr(calm, name))
    for left, right in zip(model.coefs_, calm.coefs_, strict=True):
        np.testing.assert_array_equal(left, right)
    # The end of the fit is the end of that.
    model.set_params(callbacks=None).fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin", "on_epoch_end"])
def test_steps_of_a_network_of_an_earlier_fit_are_refused(hook, solver):
    """Whose short way had been prepared before the fit began."""

    def step(self, *given):
        with pytest.raises(RuntimeError, match="being fitted"):
            self.network.train_step(X, labels)
        refused.append(hook)

    def keep(self, epoch, logs):
        kept.append(self.network)

    refused, kept, labels = [], [], Y.astype(np.int64)
    watch = type("Keep", (fastgd.Callback,), {"on_epoch_end": keep})()
    model = classifier(solver=solver, warm_start=True, callbacks=[watch]).fit(X, Y)
    for _ in range(2):
        kept[0].train_step(X, labels)
    model.set_params(callbacks=[type("Step", (fastgd.Callback,), {hook: step})()]).fit(X, Y)
    assert refused
    assert model._live.network is kept[0]


def test_plain_step_is_refused_while_the_network_is_fitted():
    class Step(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            with pytest.raises(RuntimeError, match="being fitted"):
                model.partial_fit(X, Y)

    model = classifier(batch_size="auto").fit(X, Y)
    for _ in range(2):
        model.partial_fit(X, Y)
    before = model.t_, model.n_iter_, model.loss_, list(model.loss_curve_)
    network = model._live.network
    network.fit(X, Y, callbacks=[Step()], verbose=0)
    assert (model.t_, model.n_iter_, model.loss_, model.loss_curve_) == before


def test_copies_and_pickles_hold_no_network():
    model = classifier(callbacks=[Recorder()]).fit(X, Y)
    assert not hasattr(model.callbacks[0], "network")
    assert len(pickle.dumps(model)) < 10_000
    assert clone(model).callbacks[0].calls == model.callbacks[0].calls


def test_lbfgs_counts_iterations_as_epochs():
    class Stop(Recorder):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            self.network.stop_training = epoch == 3

    recorder = Stop()
    model = classifier(solver="lbfgs", max_iter=60, callbacks=[recorder]).fit(X, Y)
    assert model.n_iter_ == 4
    assert recorder.calls[0] == ("begin", 60, 1)
    assert [call[1] for call in recorder.calls if call[0] == "end"] == [0, 1, 2, 3]


def test_partial_fit_calls_nothing():
    recorder = Recorder()
    classifier(callbacks=[recorder]).partial_fit(X, Y, classes=[0, 1, 2])
    assert recorder.calls == []


# ---- scikit-learn's protocol ------------------------------------------------------------------

# Versions before 1.9 have none; there the tests hold that nothing pretends otherwise.
HAS_PROTOCOL = hasattr(CallbackSupport, "set_callbacks")


def with_protocol(test):
    """Without scikit-learn's protocol, test that its method is not there."""
    if HAS_PROTOCOL:
        return test

    def absent():
        assert not hasattr(MLPClassifier, "set_callbacks")

    absent.__name__ = test.__name__
    return absent


class Tasks:
    """A callback of scikit-learn's protocol that notes every call."""

    def __init__(self, stop_after=None):
        self.calls, self.fitted, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name, context.max_subtasks))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.calls.append(("end", context.task_name, context.task_id))
        self.fitted.append((fitted_estimator, fitted_estimator.score(X, y), metadata))
        return context.task_name == "epoch" and context.task_id == self.stop_after

    def teardown(self, estimator, context):
        self.calls.append(("teardown",))


@with_protocol
def test_each_epoch_is_a_task():
    tasks = Tasks()
    model = classifier(max_iter=2).set_callbacks(tasks).fit(X, NAMES)
    assert tasks.calls == [
        ("setup", "fit", 2),
        ("begin", "fit", 0),
        ("begin", "epoch", 0), ("end", "epoch", 0),
        ("begin", "epoch", 1), ("end", "epoch", 1),
        ("end", "fit", 0),
        ("teardown",),
    ]  # fmt: skip
    first, second, last = (fitted for fitted, _, _ in tasks.fitted)
    assert (first.n_iter_, second.n_iter_, last.n_iter_) == (1, 2, 2)
    one_epoch = classifier(max_iter=1).fit(X, NAMES)
    np.testing.assert_array_equal(first.predict_proba(X), one_epoch.predict_proba(X))
    for fitted in (second, last):
        np.testing.assert_array_equal(fitted.predict_proba(X), model.predict_proba(X))
    assert tasks.fitted[-1][1] == model.score(X, NAMES)


@with_protocol
def test_task_that_returns_true_ends_the_fit():
    assert classifier(max_iter=9).set_callbacks(Tasks(stop_after=3)).fit(X, Y).n_iter_ == 4
    regressor = MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", random_state=0)
    assert regressor.set_callbacks(Tasks(stop_after=1)).fit(X, X[:, :2]).n_iter_ == 2


@with_protocol
def test_sample_weights_reach_the_callbacks_as_metadata():
    tasks = Tasks()
    weight = np.linspace(0.5, 1.5, len(X))
    classifier(max_iter=1).set_callbacks(tasks).fit(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(tasks.fitted[0][2]["sample_weight"], weight)


@with_protocol
def test_teardown_follows_an_exception():
    class Fail(Tasks):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("enough")

    tasks = Fail()
    model = classifier().set_callbacks(tasks)
    for _ in range(2):
        tasks.calls.clear()
        with pytest.raises(RuntimeError, match="enough"):
            model.fit(X, Y)
        assert tasks.calls[-1] == ("teardown",)
        assert [call[0] for call in tasks.calls].count("teardown") == 1


@with_protocol
def test_teardown_needs_nothing_but_close():
    tasks = Tasks()
    model = classifier().set_callbacks(tasks)
    watch = watchers(model, classifier, n_epochs=1, steps_per_epoch=1, names=())
    watch.fit_begin()
    watch.close()
    assert tasks.calls[-1] == ("teardown",)
    assert not hasattr(model, "_callback_fit_ctx")


@with_protocol
def test_both_kinds_see_the_same_fit():
    tasks, recorder = Tasks(), Recorder()
    classifier(max_iter=3, callbacks=[recorder]).set_callbacks(tasks).fit(X, Y)
    assert [call[2] for call in tasks.calls if call[:2] == ("end", "epoch")] == [0, 1, 2]
    assert [call[1] for call in recorder.calls if call[0] == "end"] == [0, 1, 2]


@with_protocol
def test_scoring_monitor_scores_every_epoch():
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    model = classifier(max_iter=3).set_callbacks(monitor).fit(X, NAMES)
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows] == ["fit", "epoch", "epoch", "epoch"]
    assert rows[0]["accuracy"] == rows[-1]["accuracy"] == model.score(X, NAMES)


@with_protocol
def test_search_shows_the_epochs_of_its_candidates(capsys):
    from sklearn.callback import ProgressBar

    search = GridSearchCV(classifier(max_iter=2), {"alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    assert "MLPClassifier - fit" in capsys.readouterr().out
    assert not hasattr(search.best_estimator_, "_parent_callback_ctx")


def test_gradient_flow_says_that_it_is_for_networks():
    model = classifier(callbacks=[fastgd.GradientFlow()])
    with pytest.raises(
        TypeError, match=r"for Network\.fit, .*estimator\.to_network\(\)\.gradient_"
    ):
        model.fit(X, Y)
    network = classifier().fit(X, Y).to_network()
    assert network.gradient_flow(X, Y).layers == ["0 relu", "1 softmax"]
