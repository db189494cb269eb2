"""Model files: nothing is lost, every damage is found, writing is all or nothing, fits resume."""

import builtins
import contextlib
import errno
import json
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

import fastgd
from fastgd import ModelFileError, activations, schedules
from fastgd import io as model_io

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)

OPTIMIZERS = {
    "sgd": fastgd.SGD(0.05),
    "momentum": fastgd.SGD(0.05, 0.9, nesterov=True, weight_decay=1e-3, clip_norm=5.0),
    "sklearn": fastgd.SGD(0.05, 0.9, variant="sklearn"),
    "adam": fastgd.Adam(0.01, clip_value=1.0),
    "adamw": fastgd.AdamW(0.01),
    "rmsprop": fastgd.RMSprop(0.01, momentum=0.9),
    "adagrad": fastgd.Adagrad(0.1, lr_decay=0.01),
    "step": fastgd.SGD(schedules.Step(0.1, 7, 0.5)),
    "exponential": fastgd.SGD(schedules.Exponential(0.1, 0.99)),
    "cosine": fastgd.Adam(schedules.Cosine(0.1, 30, 0.001)),
    "inverse_scaling": fastgd.SGD(schedules.InverseScaling(0.1)),
    "one_cycle": fastgd.SGD(schedules.OneCycle(0.1, 30), 0.9),
    "constant": fastgd.SGD(schedules.Constant(0.1)),
    "warm_up": fastgd.SGD(schedules.WarmUp(schedules.Cosine(0.1, 30), 5)),
    "plateau": fastgd.SGD(schedules.ReduceOnPlateau(0.1, patience=1, min_delta=0.1)),
    "warm_up plateau": fastgd.SGD(
        schedules.WarmUp(schedules.ReduceOnPlateau(0.1, patience=2, min_delta=1.0), 4)
    ),
}


def network(optimizer="momentum", **settings):
    settings = {"loss": fastgd.Huber(0.8), "n_inputs": 3, "seed": 5} | settings
    layers = [
        fastgd.Dense(6, activations.LeakyReLU(0.2), dropout=0.25, l1=1e-4, l2=1e-3),
        fastgd.Dense(1, bias=False),
    ]
    optimizer = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    return fastgd.Network(layers, optimizer=optimizer, **settings)


def assert_same(one, two):
    arrays, others = one._arrays(), two._arrays()
    assert list(arrays) == list(others)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
    assert (one.step, one.epoch) == (two.step, two.epoch)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# ---- what is kept ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_load_gives_back_what_was_saved(name, dtype, path):
    net = network(name, dtype=dtype)
    net.fit(X, Y, epochs=3, batch_size=16, metrics="mse", verbose=0)
    net.save(path, metadata={"text": "grün \u2028 \x01", "list": [1, 2.5, None, {"a": True}]})
    again = fastgd.load(path)
    assert repr(again) == repr(net)
    assert_same(net, again)
    assert again.history.history == net.history.history
    assert again.history.epoch == [0, 1, 2]
    assert again.metadata == {"text": "grün \u2028 \x01", "list": [1, 2.5, None, {"a": True}]}
    np.testing.assert_array_equal(net.predict(X), again.predict(X))
    for layer, other in zip(net.layers, again.layers, strict=True):
        assert (layer.l1, layer.l2, layer.dropout) == (other.l1, other.l2, other.dropout)
        assert layer.activation == other.activation
    for each in (net, again):
        each.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    assert_same(net, again)
    assert net.history.history["lr"] == again.history.history["lr"]


def test_predictions_in_a_new_process_are_the_same(path):
    net = network()
    net.fit(X, Y, epochs=3, verbose=0)
    net.save(path)
    code = (
        "import sys, numpy as np, fastgd; X = np.load(sys.argv[2]);"
        "sys.stdout.buffer.write(fastgd.load(sys.argv[1]).predict(X).tobytes())"
    )
    np.save(path.with_suffix(".npy"), X)
    command = [sys.executable, "-c", code, str(path), str(path.with_suffix(".npy"))]
    out = subprocess.run(command, capture_output=True, check=True)
    assert out.stdout == net.predict(X).tobytes()


def test_save_without_the_optimizer_begins_anew(path):
    net = network("adam")
    net.fit(X, Y, epochs=3, verbose=0)
    net.save(path)
    size = path.stat().st_size
    net.save(path, include_optimizer=False)
    assert path.stat().st_size < size
    again = fastgd.load(path)
    assert (again.step, again.epoch, again.history) == (0, 0, None)
    np.testing.assert_array_equal(net.predict(X), again.predict(X))
    for name, array in again._arrays().items():
        assert name.startswith("layers.") or not array.any()
    again.fit(X, Y, verbose=0)


def test_metadata_stay_with_the_network(path):
    net = network()
    net.save(path, metadata={"a": 1})
    assert net.metadata == {}
    again = fastgd.load(path)
    again.save(path)
    assert fastgd.load(path).metadata == {"a": 1}
    again.save(path, metadata={})
    assert fastgd.load(path).metadata == {}


def assert_refused_before_writing(net, path, error, message, **settings):
    network().save(path)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        net.save(path, **settings)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("as_attribute", [False, True])
@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"a": object()}, TypeError, "made of JSON values: Object of type object"),
        ({"a": np.float32(1)}, TypeError, "made of JSON values: Object of type float32"),
        ({"a": np.arange(3)}, TypeError, "made of JSON values: Object of type ndarray"),
        ({"a": float("nan")}, ValueError, "made of JSON values: Out of range"),
        ({"1": 1, 1: 2}, ValueError, "made of JSON values: a key is repeated"),
        ([1, 2], TypeError, r"a dict, not \[1, 2\]"),
        ("text", TypeError, "a dict, not 'text'"),
        (3, TypeError, "a dict, not 3"),
    ],
)
def test_metadata_must_be_json(metadata, error, message, as_attribute, path):
    net = network()
    settings = {"metadata": metadata}
    if as_attribute:
        net.metadata, settings = metadata, {}
    name = "network.metadata" if as_attribute else "metadata"
    assert_refused_before_writing(net, path, error, f"^{name} must be {message}", **settings)


def test_metadata_none_is_no_metadata(path):
    net = network()
    net.metadata = None
    assert_refused_before_writing(net, path, TypeError, "network.metadata must be a dict, not None")


def test_metadata_come_back_as_json_has_them(path):
    network().save(path, metadata={1: (2, True)})
    assert fastgd.load(path).metadata == {"1": [2, True]}


def test_history_with_numbers_that_are_not_finite(path):
    def odd(y, output):
        return [np.nan, np.inf, -np.inf][len(seen)]

    seen = []

    class Count(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(epoch)

    net = network()
    net.fit(X, Y, epochs=3, metrics=[odd], callbacks=[Count()], verbose=0)
    net.save(path)
    again = fastgd.load(path).history.history["odd"]
    np.testing.assert_array_equal(again, [np.nan, np.inf, -np.inf])


def test_first_values_given_as_arrays_are_saved_as_weights(path):
    W = np.arange(3.0)[:, None]
    net = fastgd.Network(
        [fastgd.Dense(1, weight_init=W, bias_init=lambda rng, shape: np.ones(shape))], "huber",
        n_inputs=3,
    )  # fmt: skip
    net.save(path)
    np.testing.assert_array_equal(fastgd.load(path).layers[0].weight, W)


class Own:
    def value(self, output, y):
        return 0.5 * ((output - y) ** 2).sum(axis=1)

    def delta(self, output, y):
        return output - y


def test_custom_loss_is_given_again(path):
    net = network(loss=Own())
    net.fit(X, Y, verbose=0)
    net.save(path)
    with pytest.raises(ModelFileError, match=r"custom loss, which a file cannot hold.*loss="):
        fastgd.load(path)
    again = fastgd.load(path, loss=Own())
    assert_same(net, again)
    for each in (net, again):
        each.fit(X, Y, verbose=0)
    assert_same(net, again)


def test_stored_loss_cannot_be_replaced(path):
    network().save(path)
    fastgd.load(path, loss=fastgd.Huber(0.8))
    with pytest.raises(ModelFileError, match=r"trained with the loss Huber\(delta=0.8\)"):
        fastgd.load(path, loss="squared_error")


@pytest.mark.parametrize("lr", [lambda step: 0.1, schedules.WarmUp(lambda step: 0.1, 2)])
def test_callable_lr_is_given_again(lr, path):
    net = network(fastgd.SGD(lr))
    net.fit(X, Y, verbose=0)
    net.save(path)
    with pytest.raises(ModelFileError, match=r"callable, which a file cannot hold.*lr="):
        fastgd.load(path)
    again = fastgd.load(path, lr=lr)
    for each in (net, again):
        each.fit(X, Y, verbose=0)
    assert_same(net, again)


def test_lr_can_be_replaced(path):
    network("plateau").save(path)
    assert fastgd.load(path, lr=0.5).optimizer.lr == 0.5


# ---- resume ---------------------------------------------------------------------------------


class Interrupt(fastgd.Callback):
    """End the fit by an exception after some epochs, when the checkpoint has been written."""

    last = True

    def __init__(self, after):
        self.after = after

    def on_epoch_end(self, epoch, logs):
        if epoch + 1 == self.after:
            raise InterruptedError


def tools(path, after=None, patience=3):
    made = [
        fastgd.EarlyStopping("val_loss", patience=patience, min_delta=0.01),
        fastgd.Checkpoint(path),
        fastgd.CSVLog(path.with_suffix(".csv"), append=True),
    ]
    return made if after is None else [*made, Interrupt(after)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_fit_ends_with_the_bits_of_an_uninterrupted_one(name, dtype, tmp_path):
    """Weights, optimiser, shuffling, dropout, schedule, early stopping, history."""
    settings = {
        "epochs": 9, "batch_size": 16, "validation_data": (X[::2], Y[::2]), "metrics": "mse",
        "verbose": 0,
    }  # fmt: skip
    whole = network(name, dtype=dtype)
    wanted = whole.fit(X, Y, callbacks=tools(tmp_path / "whole"), **settings)
    cut = min(4, len(wanted.epoch) - 1)
    first = network(name, dtype=dtype)
    with pytest.raises(InterruptedError):
        first.fit(X, Y, callbacks=tools(tmp_path / "part", cut), **settings)
    resumed = fastgd.load(tmp_path / "part")
    assert resumed.epoch == cut
    stop = tools(tmp_path / "part")
    got = resumed.fit(X, Y, callbacks=stop, resume=True, **settings)
    assert_same(whole, resumed)
    assert got.epoch == wanted.epoch
    for key in wanted.history:
        if key != "seconds":
            assert got.history[key] == wanted.history[key], key
    lines = [(tmp_path / f"{each}.csv").read_text().splitlines() for each in ("whole", "part")]
    assert len(lines[0]) == len(lines[1]) == len(wanted.epoch) + 1


def test_resumed_fit_stops_early_where_the_whole_one_does(tmp_path):
    """Best weights from before the interruption are restored after it."""
    settings = {"epochs": 50, "validation_data": (X, -Y), "verbose": 0}
    whole, first = network("sgd"), network("sgd")
    wanted = whole.fit(X, Y, callbacks=tools(tmp_path / "whole", patience=5), **settings)
    assert len(wanted.epoch) < 50, "or nothing stops early"
    assert wanted.epoch[-1] - int(np.argmin(wanted.history["val_loss"])) == 5
    with pytest.raises(InterruptedError):
        first.fit(
            X, Y, callbacks=tools(tmp_path / "part", len(wanted.epoch) - 2, patience=5), **settings
        )
    resumed = fastgd.load(tmp_path / "part")
    callbacks = tools(tmp_path / "part", patience=5)
    resumed.fit(X, Y, callbacks=callbacks, resume=True, **settings)
    assert_same(whole, resumed)
    assert callbacks[0].stopped
    again = fastgd.load(tmp_path / "part")
    again.fit(X, Y, callbacks=tools(tmp_path / "part", patience=5), resume=True, **settings)
    assert again.epoch == whole.epoch, "a fit that was over stays over"
    np.testing.assert_array_equal(again.predict(X), whole.predict(X))


def test_resume_counts_the_epochs_of_the_first_fit(path):
    net = network("sgd")
    net.fit(X, Y, verbose=0)
    net.fit(X, Y, epochs=3, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    resumed = fastgd.load(path)
    assert resumed.fit(X, Y, epochs=5, resume=True, verbose=0).epoch == [0, 1, 2, 3, 4]
    assert resumed.epoch == 6
    with pytest.raises(ValueError, match="there is no fit to resume"):
        resumed.fit(X, Y, epochs=5, resume=True, verbose=0)
    finished = fastgd.load(path)
    finished.fit(X, Y, epochs=3, resume=True, verbose=0)
    assert_same(net, finished)


def test_resume_gives_each_callback_its_own_state(path):
    def pair():
        return [fastgd.EarlyStopping("loss", patience=99), fastgd.EarlyStopping("mse", patience=99)]

    first = network("sgd")
    callbacks = [*pair(), fastgd.Checkpoint(path)]
    first.fit(X, Y, epochs=3, metrics="mse", callbacks=callbacks, verbose=0)
    resumed, found = pair(), []

    class Look(fastgd.Callback):
        def on_fit_begin(self):
            found.extend(stop.best for stop in resumed)

    fastgd.load(path).fit(
        X, Y, epochs=4, metrics="mse", callbacks=[*resumed, Look()], resume=True, verbose=0
    )
    assert found == [min(first.history.history[name][:3]) for name in ("loss", "mse")]
    assert found[0] != found[1]


def test_divergence_in_a_resumed_fit_counts_over_the_whole_fit(path):
    net = network("sgd")
    net.fit(X, Y, epochs=2, batch_size=16, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    resumed = fastgd.load(path, lr=lambda step: 1e38)
    with pytest.raises(fastgd.DivergenceError, match=r"epoch 3, step [789] of the fit") as caught:
        resumed.fit(100 * X, Y, epochs=5, batch_size=16, resume=True, verbose=0)
    assert caught.value.epoch == caught.value.step // 3 == 2


def test_progress_of_a_resumed_fit_counts_over_the_whole_fit(path):
    net = network("sgd")
    net.fit(X, Y, epochs=2, batch_size=16, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    batches, progress = [], []

    class Watch(fastgd.Callback):
        def on_batch_end(self, step, loss):
            batches.append(step)

        def on_progress(self, steps):
            progress.append(steps)

    resumed = fastgd.load(path)
    resumed.fit(X, Y, epochs=4, batch_size=16, callbacks=[Watch()], resume=True, verbose=0)
    assert batches == list(range(6, 12))
    assert progress[-1] == 12


def test_resume_survives_saving_and_copying(path):
    net = network("adam")
    net.fit(X, Y, epochs=2, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    loaded = fastgd.load(path)
    loaded.save(path)
    for each in (fastgd.load(path), pickle.loads(pickle.dumps(loaded))):
        assert each.fit(X, Y, epochs=4, resume=True, verbose=0).epoch == [0, 1, 2, 3]


BAD_STATES = {
    "text": lambda state: state | {"best_weights": [[["nan"], [0.0]], ["inf"]]},
    "too few": lambda state: state | {"best_weights": state["best_weights"][:1]},
    "another shape": lambda state: state | {"best_weights": [np.ones((3, 3)), np.ones(1)]},
    "nan": lambda state: state | {"best_weights": [np.full((2, 1), np.nan), np.ones(1)]},
    "infinite in float32": lambda state: state | {"best_weights": [np.ones((2, 1)), [1e300]]},
    "a number": lambda state: state | {"best_weights": 7},
    "no best": lambda state: {key: state[key] for key in state if key != "best"},
    "best is text": lambda state: state | {"best": "0.5"},
    "best is infinite": lambda state: state | {"best": float("inf")},
    "wait": lambda state: state | {"wait": -1},
    "nothing": lambda state: {},
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_forged_best_weights_are_refused_before_anything_changes(name, small, path):
    """The file's own checks do not know what a callback's state means."""
    path.write_bytes(small)
    net = fastgd.load(path)
    kept = net._resume["callbacks"][0]
    kept["state"] = BAD_STATES[name](kept["state"])
    before = {name: view.copy() for name, view in net._arrays().items()}
    stop = fastgd.EarlyStopping("loss")
    with pytest.raises(ValueError, match="the state of EarlyStopping cannot be restored: "):
        net.fit(X[:, :2], Y, epochs=3, callbacks=[stop], resume=True, verbose=0)
    assert (net.step, net.epoch) == (2, 1)
    for key, view in net._arrays().items():
        np.testing.assert_array_equal(view, before[key])
    net.fit(X[:, :2], Y, epochs=2, callbacks=[stop], verbose=0)
    assert stop.best_epoch in (0, 1), "what was refused has left no trace in the callback"


def test_callbacks_of_a_refused_resume_begin_anew(small, path):
    """The first of two callbacks had its state back when that of the second was refused."""
    path.write_bytes(small)
    net = fastgd.load(path)
    net._resume["callbacks"][0]["state"]["best"] = -100.0
    net._resume["callbacks"][1]["state"] = {}
    callbacks = [fastgd.EarlyStopping("loss"), fastgd.Checkpoint(path)]
    with pytest.raises(ValueError, match="the state of Checkpoint cannot be restored: KeyError"):
        net.fit(X[:, :2], Y, epochs=3, callbacks=callbacks, resume=True, verbose=0)
    net.fit(X[:, :2], Y, epochs=2, callbacks=callbacks, verbose=0)
    assert callbacks[0].best > 0


def test_a_loss_that_is_not_finite_is_never_the_best(path):
    """The sum over an epoch can overflow where no step has diverged; the checkpoint is written."""
    net = fastgd.Network([fastgd.Dense(1)], "huber", fastgd.SGD(1e-9), 1, dtype="float64")
    net.set_weights([np.full((1, 1), 1.5e308), np.zeros(1)])
    stop = fastgd.EarlyStopping("loss")
    data = np.ones((4, 1))
    callbacks = [stop, fastgd.Checkpoint(path)]
    history = net.fit(data, data, batch_size=1, callbacks=callbacks, verbose=0)
    assert history.history["loss"] == [np.inf]
    assert stop.best is None
    assert fastgd.load(path).history.history["loss"] == [np.inf]


def test_a_new_step_makes_a_checkpoint_a_thing_of_the_past(path):
    net = network("adam")
    net.fit(X, Y, epochs=2, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    loaded = fastgd.load(path)
    loaded.train_step(X, Y)
    with pytest.raises(ValueError, match="no fit to resume"):
        loaded.fit(X, Y, epochs=4, resume=True, verbose=0)


# ---- damage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file that has everything in it, as bytes."""
    path = tmp_path_factory.mktemp("small") / "model"
    net = fastgd.Network([fastgd.Dense(1, "tanh")], "huber", fastgd.SGD(0.1, 0.9), 2)
    callbacks = [fastgd.EarlyStopping("loss"), fastgd.Checkpoint(path)]
    net.fit(X[:, :2], Y, callbacks=callbacks, verbose=0)
    return path.read_bytes()


def refused(content, path, match=None):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=match) as caught:
        fastgd.load(path)
    assert isinstance(caught.value, ValueError)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_flipped_bit_is_found(small):
    """All of them: header length, header, padding, tensors."""
    passed = []
    for i in range(len(small)):
        for bit in range(8):
            damaged = bytearray(small)
            damaged[i] ^= 1 << bit
            try:
                model_io._network(bytes(damaged), None, None)
            except ModelFileError:
                continue
            passed.append((i, bit, damaged[max(0, i - 20) : i + 20]))
    assert passed == []


def test_every_truncation_is_found(small, path):
    for length in range(len(small)):
        with pytest.raises(ModelFileError):
            model_io._network(small[:length], None, None)
    refused(small[:-1], path, "truncated")
    refused(b"", path, "empty or truncated")
    refused(small + b"\0", path)


FOREIGN = {
    "text": b"hello, world: this is no model",
    "pickle": pickle.dumps({"a": np.zeros(3)}),
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
    "zip": b"PK\x03\x04" + bytes(100),
    "other safetensors": write_tensors({"w": np.zeros(3)}),
    "other safetensors with metadata": write_tensors({"w": np.zeros(3)}, {"format": "pt"}),
    "no metadata text": write_tensors({"w": np.zeros(3)}, {"format": "fastgd 1"}),
    "newer": write_tensors(
        {"w": np.zeros(3)}, {"format": "fastgd 2", "config": "{}", "sha256": "0" * 64}
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused(name, path):
    message = refused(FOREIGN[name], path)
    if name == "newer":
        assert "newer fastgd" in message


def test_pickled_code_is_not_run(path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(path) + ".exploded",))

    for content in (pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0)):
        refused(content, path)
    assert not os.path.exists(str(path) + ".exploded")


def sealed(config, tensors):
    """A file with a right checksum: made on purpose, not damaged."""
    text = config if isinstance(config, str) else json.dumps(config)
    header = {"format": "fastgd 1", "config": text}
    header["sha256"] = model_io._digest(text, tensors)
    return write_tensors(tensors, header)


@pytest.fixture
def parts(small):
    size = int.from_bytes(small[:8], "little")
    config = json.loads(json.loads(small[8 : 8 + size])["__metadata__"]["config"])
    return config, read_tensors(small)


def test_sealed_parts_load(parts, path):
    """The malicious files below differ from this one in one place."""
    path.write_bytes(sealed(*parts))
    assert fastgd.load(path).layers


def set_in(*place):
    """Return a function that changes one entry of the configuration."""
    *way, last, value = place

    def change(config, tensors):
        for key in way:
            config = config[key]
        config[last] = value

    return change


def set_tensor(name, make):
    def change(config, tensors):
        tensors[name] = make(tensors.get(name))

    return change


MALICIOUS = {
    "unknown key": set_in("import", "os"),
    "layers is a number": set_in("layers", 3),
    "layers is empty": set_in("layers", []),
    "layer is a number": set_in("layers", 0, 3),
    "unknown key of a layer": set_in("layers", 0, "hook", "os.system"),
    "unknown activation": set_in("layers", 0, "activation", "os.system"),
    "activation is a list": set_in("layers", 0, "activation", ["tanh"]),
    "private activation": set_in("layers", 0, "activation", "__class__"),
    "parameter": set_in("layers", 0, "param", 2.0),
    "huge units": set_in("layers", 0, "units", 10**15),
    "negative units": set_in("layers", 0, "units", -1),
    "units is a float": set_in("layers", 0, "units", 1.0),
    "huge inputs": set_in("n_inputs", 2**62),
    "inputs beyond 64 bits": set_in("n_inputs", 2**80),
    "inputs missing": set_in("n_inputs", None),
    "initial values": set_in("layers", 0, "weight_init", ["x"]),
    "unknown loss": set_in("loss", "name", "eval"),
    "loss is text": set_in("loss", "huber"),
    "unknown key of a loss": set_in("loss", "code", "1"),
    "loss parameter": set_in("loss", "delta", -1.0),
    "loss and output": set_in("loss", {"name": "log_loss"}),
    "unknown optimizer": set_in("optimizer", "name", "__init__"),
    "unknown key of an optimizer": set_in("optimizer", "hook", 1),
    "momentum": set_in("optimizer", "momentum", 7.0),
    "other optimizer": set_in("optimizer", "name", "adam"),
    "momentum off": set_in("optimizer", "momentum", 0.0),
    "lr": set_in("optimizer", "lr", -1.0),
    "lr is a list": set_in("optimizer", "lr", [0.1]),
    "unknown schedule": set_in("optimizer", "lr", {"name": "eval"}),
    "unknown key of a schedule": set_in("optimizer", "lr", {"name": "constant", "lr": 1, "f": 2}),
    "deep schedule": set_in(
        "optimizer",
        "lr",
        json.loads('{"name":"warm_up","steps":1,"schedule":' * 400 + "0.1" + "}" * 400),
    ),
    "schedules that could be read and not be written": set_in(
        "optimizer",
        "lr",
        json.loads('{"name":"warm_up","steps":1,"schedule":' * 9 + "0.1" + "}" * 9),
    ),
    "schedule state": set_in("schedule_state", [1]),
    "dtype": set_in("dtype", "float16"),
    "dtype is a list": set_in("dtype", ["float32"]),
    "other dtype": set_in("dtype", "float64"),
    "seed": set_in("seed", -5),
    "seed beyond": set_in("seed", 2**64),
    "step": set_in("step", -1),
    "step beyond": set_in("step", 2**63),
    "epoch": set_in("epoch", 1.5),
    "version": set_in("fastgd", 3),
    "metadata": set_in("metadata", []),
    "optimizer state left out": set_in("has_optimizer_state", False),
    "optimizer state is text": set_in("has_optimizer_state", "yes"),
    "history": set_in("history", {"epoch": [0]}),
    "history epoch": set_in("history", "epoch", ["x"]),
    "history value": set_in("history", "values", {"loss": ["os"]}),
    "history is longer than its epochs": set_in("history", "values", {"loss": [1.0, 2.0]}),
    "history is text": set_in("history", "values", "loss"),
    "resume": set_in("resume", {"done": 1}),
    "resume done": set_in("resume", "done", -1),
    "resume done beyond": set_in("resume", "done", 2**63),
    "resume steps beyond": set_in("resume", "steps", 10**400),
    "history epoch beyond": set_in("history", "epoch", [10**400]),
    "resume stopped": set_in("resume", "stopped", 1),
    "callback": set_in("resume", "callbacks", 0, {"name": "EarlyStopping"}),
    "callback tensors": set_in("resume", "callbacks", 0, "state", {"x": {"tensors": 10**9}}),
    "no resume but its tensors": set_in("resume", None),
    "missing tensor": lambda config, tensors: tensors.pop("layers.0.bias"),
    "missing state": lambda config, tensors: tensors.pop("optimizer.velocity.0.bias"),
    "extra tensor": set_tensor("layers.1.weight", lambda _: np.zeros((1, 1), np.float32)),
    "unknown tensor": set_tensor("extra", lambda _: np.zeros(1, np.float32)),
    "shape": set_tensor("layers.0.weight", lambda a: a.reshape(1, 2)),
    "bigger": set_tensor("layers.0.weight", lambda a: np.zeros((3, 1), np.float32)),
    "tensor dtype": set_tensor("layers.0.weight", lambda a: a.astype(np.float64)),
    "integers": set_tensor("layers.0.weight", lambda a: a.astype(np.int32)),
    "nan": set_tensor("layers.0.weight", lambda a: np.full_like(a, np.nan)),
    "nan in the best weights": set_tensor(
        "callbacks.0.best_weights.1", lambda a: np.full_like(a, np.nan)
    ),
    "inf in the state": set_tensor("optimizer.velocity.0.bias", lambda a: np.full_like(a, np.inf)),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_files_are_refused(name, parts, path):
    MALICIOUS[name](*parts)
    refused(sealed(*parts), path)


@pytest.mark.parametrize("key", sorted(model_io._CONFIG_KEYS))
def test_missing_keys_are_named(key, parts, path):
    config, tensors = parts
    del config[key]
    refused(sealed(config, tensors), path, f"lacks.*{key}")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "",
        "{",
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"n_inputs": ' + "9" * 10_000 + "}",
        "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
    ids=range(10),
)
def test_configuration_that_is_no_json_object_is_refused(text, parts, path):
    refused(sealed(text, parts[1]), path)


@pytest.mark.parametrize("number", ["1e999", "-1E400", "NaN", "-Infinity"])
def test_numbers_that_no_float_holds_are_refused(number, parts, path):
    """Python reads them; what is loaded could not be saved."""
    config, tensors = parts
    config["metadata"] = {"a": "HERE"}
    refused(sealed(json.dumps(config).replace('"HERE"', number), tensors), path, number)


def test_repeated_keys_are_refused(parts, path):
    """Readers that take the first one and those that take the last would see different files."""
    config, tensors = parts
    text = json.dumps(config)
    refused(sealed(text[:-1] + ', "seed": 0}', tensors), path, "repeated")


def test_header_that_claims_much_is_refused_without_memory(small, path):
    for size in (2**63, 2**40, 2**31, len(small), 99_999_999):
        refused(size.to_bytes(8, "little") + small[8:], path)
    size = int.from_bytes(small[:8], "little")
    header = json.loads(small[8 : 8 + size])
    header["layers.0.weight"]["shape"] = [2**40, 2**40]
    text = json.dumps(header).encode()
    refused(len(text).to_bytes(8, "little") + text + small[8 + size :], path)


def framed(header, body=b""):
    """A file of safetensors with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


ABOUT = {"__metadata__": {"format": "fastgd 1", "config": "{}", "sha256": "0" * 64}}
FORGED = {
    "a name twice": framed(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        bytes(16),
    ),
    "two tensors in one place": framed(ABOUT | {"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)),
    "overlap": framed(ABOUT | {"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "hole": framed(ABOUT | {"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
    "beyond the end": framed(ABOUT | {"a": entry(0, 8)}, bytes(4)),
    "before the beginning": framed(ABOUT | {"a": entry(-8, 0)}, bytes(8)),
    "backwards": framed(ABOUT | {"a": entry(8, 0)}, bytes(8)),
    "beyond 64 bits": framed(ABOUT | {"a": entry(0, 2**64)}, bytes(8)),
    "bytes that belong to nothing": framed(ABOUT | {"a": entry(0, 8)}, bytes(9)),
    "shape of another size": framed(ABOUT | {"a": entry(0, 8, (3,))}, bytes(8)),
    "shape whose product overflows": framed(ABOUT | {"a": entry(0, 0, (2**32, 2**32))}),
    "empty and huge": framed(ABOUT | {"a": entry(0, 0, (0, 2**62))}),
    "negative shape": framed(ABOUT | {"a": entry(0, 8, (-2,))}, bytes(8)),
    "unknown dtype": framed(ABOUT | {"a": entry(0, 8, (2,), "F31")}, bytes(8)),
    "objects": framed(ABOUT | {"a": entry(0, 8, (1,), "O")}, bytes(8)),
    "entry is a number": framed(ABOUT | {"a": 3}),
    "metadata is a list": framed({"__metadata__": ["fastgd 1"]}),
    "checksum is a number": framed({"__metadata__": {"format": "fastgd 1", "config": "{}",
                                                     "sha256": 0}}),
    "not text": framed(b'{"\xff":1}'),
    "not an object": framed(b"[1]"),
    "deep": framed(b'{"a":' * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_headers_are_refused(name, path):
    refused(FORGED[name], path)


@pytest.mark.parametrize("name", ["weights", "list", "keys", "text"])
def test_loading_takes_memory_in_proportion_to_the_file(name, path):
    """Of tensors a copy or two; of JSON, which is all lists and keys, some 40 times its bytes."""
    config = {
        "weights": "{}",
        "list": json.dumps({"history": [[]] * 200_000}, separators=(",", ":")),
        "keys": json.dumps({str(i): {} for i in range(60_000)}, separators=(",", ":")),
        "text": json.dumps({"fastgd": "x" * 600_000}),
    }[name]
    tensors = {"a": np.zeros(2_000_000, np.float32)} if name == "weights" else {}
    content = sealed(config, tensors)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            fastgd.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 3000
    assert peak < (4 if name == "weights" else 40) * len(content) + 2**20


# Only Linux tells the peak; tracemalloc, which the test above asks, misses the part of safetensors.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
@pytest.mark.parametrize(
    "beside",
    [
        '"a":[' + ",".join(['{"":[]}'] * 200_000) + "]",
        '"a":[' + ",".join(["[" * 300 + "]" * 300] * 2_500) + "]",
        '"a":{"dtype":"F32","shape":[' + ",".join(['{"":[]}'] * 200_000) + '],"data_offsets":[]}',
        ",".join(f'"{i}":{json.dumps(entry(0, 0, (0,)))}' for i in range(25_000)),
    ],
    ids=["tables", "lists", "shape", "tensors"],
)
def test_the_header_takes_memory_in_proportion_to_it(beside, path):
    """Also what safetensors, which is no Python, takes of it."""
    content = framed(json.dumps(ABOUT)[:-1].encode() + b"," + beside.encode() + b"}")
    path.write_bytes(content)
    code = """
        import re, sys, fastgd, safetensors.numpy
        from pathlib import Path
        def size(name):
            status = Path("/proc/self/status").read_text()
            return int(re.search(name + r":\\s+(\\d+) kB", status)[1]) * 1024
        before = size("VmRSS")
        try:
            fastgd.load(sys.argv[1])
        except fastgd.ModelFileError:
            print(size("VmHWM") - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 * len(content) + 2**22


@pytest.mark.parametrize(
    ("beginning", "message"),
    [(b"", "not a safetensors file"), (b"\xff" * 7 + b"\0{", "it is not a safetensors file"),
     (b"\0" * 3 + b"\x05" + b"\0" * 4 + b"{", "truncated within its header")],
)  # fmt: skip
def test_a_file_that_begins_as_none_of_fastgd_is_not_read_to_its_end(beginning, message, path):
    path.write_bytes(beginning)
    os.truncate(path, 2**26)  # takes no room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=message):
            fastgd.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_files_that_claim_much_load_in_little_memory(parts, path):
    """The operating system refuses what goes beyond 300 MB, also memory that is never touched."""
    config, tensors = parts
    files = []
    for units in (10**6, 10**9, 10**12):
        changed = json.loads(json.dumps(config))
        changed["layers"][0]["units"] = units
        files.append(sealed(changed, tensors))
    files += FORGED.values()
    for i, content in enumerate(files):
        path.with_name(f"{i}.model").write_bytes(content)
    code = """
        import resource, sys, fastgd, safetensors.numpy
        from pathlib import Path
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 300 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in Path(sys.argv[1]).glob("*.model"):
            try:
                fastgd.load(path)
            except fastgd.ModelFileError:
                print(path.name)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(files)


def test_claimed_sizes_are_checked_before_memory_is_asked_for(parts, path, monkeypatch):
    """A network is only built when the tensors for it are there."""
    config, tensors = parts
    config["layers"][0]["units"] = 10**9

    def build(self, n_inputs):
        raise AssertionError("must not be reached")

    monkeypatch.setattr(fastgd.Network, "_build", build)
    refused(sealed(config, tensors), path, "has shape")


def test_load_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastgd.load(tmp_path / "missing")
    with pytest.raises(ModelFileError, match="not a regular file"):
        fastgd.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="not a regular file"):
        fastgd.load(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="not a regular file"):
        fastgd.load("/dev/zero")


def test_what_a_message_quotes_of_a_file_is_shown_as_text(parts, path):
    config, tensors = parts
    config["history"]["values"] = {"\x1b]0;pwned\x07ä": [0.0] * 1000}
    assert "more values of \\x1b]0;pwned\\x07ä than" in refused(sealed(config, tensors), path)


def test_old_message_names_the_file_once(path):
    assert refused(b"x" * 100, path).count(str(path)) == 1


# ---- writing --------------------------------------------------------------------------------


def spoil(name):
    """Return (module, function name, exception): one way in which writing can fail."""
    return {
        "disk full": (os, "fsync", OSError(errno.ENOSPC, "No space left on device")),
        "no permission": (builtins, "open", PermissionError(errno.EACCES, "Permission denied")),
        "replace": (os, "replace", OSError(errno.EIO, "Input/output error")),
        "interrupt": (os, "fsync", KeyboardInterrupt()),
        "memory": (model_io, "_digest", MemoryError()),
    }[name]


@pytest.mark.parametrize("name", ["disk full", "no permission", "replace", "interrupt", "memory"])
@pytest.mark.parametrize("old", [True, False])
def test_failed_save_leaves_everything_as_it_was(name, old, path, monkeypatch):
    net = network()
    if old:
        net.save(path)
    before = path.read_bytes() if old else None
    net.fit(X, Y, verbose=0)
    module, function, error = spoil(name)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail)
        with pytest.raises(type(error)) as caught:
            net.save(path)
    if isinstance(error, OSError):
        assert caught.value.filename == os.path.realpath(path)
    assert os.listdir(path.parent) == ([path.name] if old else [])
    if old:
        assert path.read_bytes() == before
    net.save(path)
    assert_same(net, fastgd.load(path))


CHANGED = {
    "an epoch below zero": (
        lambda net: net.history.epoch.__setitem__(0, -1),
        ValueError,
        "not saved, since its file could not be loaded: .* epoch must be at least 0, not -1",
    ),
    "text in a history": (
        lambda net: net.history.history["loss"].__setitem__(0, "low"),
        TypeError,
        "network.history has 'low' among its loss, which is no number",
    ),
    "schedules changed until they are too many": (
        lambda net: setattr(net.optimizer.lr, "schedule", nested(8)),
        ValueError,
        "not saved, since its file could not be loaded: its schedules are nested more than 8 deep",
    ),
}


def nested(n_schedules):
    schedule = 0.1
    for _ in range(n_schedules - 1):
        schedule = schedules.WarmUp(schedule, 1)
    return schedule


@pytest.mark.parametrize("name", CHANGED)
def test_what_load_would_refuse_does_not_replace_a_file(name, path):
    change, error, message = CHANGED[name]
    net = network(fastgd.SGD(nested(2)))
    net.fit(X, Y, verbose=0)
    change(net)
    assert_refused_before_writing(net, path, error, message)


@pytest.mark.parametrize("name", ["step", "epoch"])
def test_counts_from_which_none_could_be_saved_are_refused(name, path):
    net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=2)
    setattr(net._engine, name, 2**62 - 1)
    net.save(path)
    again = fastgd.load(path)
    again.train_step(np.ones((3, 2)), np.ones((3, 1)))
    again.save(path)
    setattr(net._engine, name, 2**63 - 1)
    net.save(path)
    with pytest.raises(fastgd.ModelFileError, match=f"{name} must be at most 4611686018427387903"):
        fastgd.load(path)


def test_numbers_of_numpy_in_a_history_are_saved(path):
    net = network()
    net.fit(X, Y, verbose=0)
    net.history.history |= {"mine": [np.float32(2)], "count": [3], "odd": [np.float32("nan")]}
    net.save(path)
    found = fastgd.load(path).history.history
    assert (found["mine"], found["count"]) == ([2.0], [3.0])
    assert np.isnan(found["odd"][0])


def test_as_many_schedules_are_nested_as_a_file_may_hold(path):
    net = network(fastgd.SGD(nested(8)))
    net.fit(X, Y, callbacks=[fastgd.Checkpoint(path)], verbose=0)
    assert fastgd.load(path).optimizer == net.optimizer
    with pytest.raises(ValueError, match=r"schedule makes 9 schedules, .* at most 8"):
        nested(9)


def test_a_state_that_json_does_not_hold_is_named(path):
    class Own(fastgd.Callback):
        def state_dict(self):
            return {"seen": np.float32(1)}

    with pytest.raises(TypeError, match=r"^state_dict\(\) of .*Own must be made of JSON values"):
        network().fit(X, Y, callbacks=[Own(), fastgd.Checkpoint(path)], verbose=0)
    assert not path.exists()


@pytest.mark.parametrize("name", ["layers.1.weight", "optimizer.exp_avg_sq.0.bias"])
def test_values_that_are_not_finite_do_not_replace_a_file(name, path):
    net = network("adam")
    net.save(path)
    before = path.read_bytes()
    net._arrays()[name][...] = np.inf
    with pytest.raises(ValueError, match=f"not finite are not saved: {name}$"):
        net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_best_weights_that_are_not_finite_are_named(parts, path):
    config, tensors = parts
    tensors["callbacks.0.best_weights.0"] = np.array([[np.inf], [0]], np.float32)
    message = "callbacks.0.best_weights.0 has values that are not finite"
    refused(sealed(config, tensors), path, message)


def test_state_of_a_callback_that_is_not_finite_does_not_replace_a_file(path):
    class Own(fastgd.Callback):
        def state_dict(self):
            return {"seen": [np.array([np.nan])]}

    callbacks = [Own(), fastgd.Checkpoint(path)]
    with pytest.raises(ValueError, match=r"not saved: callbacks\.0\.seen\.0$"):
        network().fit(X, Y, callbacks=callbacks, verbose=0)
    assert not path.exists()


def test_more_than_a_header_holds_does_not_replace_a_file(path, monkeypatch):
    net = network()
    net.fit(X, Y, epochs=300, verbose=0)
    net.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(model_io, "_HEADER_LIMIT", 8000)
    with pytest.raises(ValueError, match=r"history and metadata take .*; a model file holds 8,000"):
        net.save(path)
    assert path.read_bytes() == before
    net.save(path, include_optimizer=False)
    fastgd.load(path)
    net.history = None
    net.save(path)
    fastgd.load(path)


def run_limited(path, prepare):
    """Save over a file in a process that cannot write as much as it wants."""
    code = textwrap.dedent(
        """
        import sys, numpy as np, fastgd, fastgd.io, safetensors.numpy
        net = fastgd.Network([fastgd.Dense(300)], "squared_error", n_inputs=300)
        PREPARE
        try:
            net.save(sys.argv[1])
        except OSError as error:
            print(type(error).__name__, error.errno)
        """
    ).replace("PREPARE", prepare)
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    return out.stdout.split()


def test_really_full_disk_leaves_the_old_file(path):
    """The operating system itself ends the writing half-way."""
    network().save(path)
    before = path.read_bytes()
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    )
    assert run_limited(path, limit) == ["OSError", str(errno.EFBIG)]
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_really_unwritable_folder_leaves_the_old_file():
    # root may write anywhere, so a process of root becomes somebody else, who must be able to
    # reach the folder
    become = "import os; os.geteuid() or os.seteuid(65534)"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        network().save(path)
        before = path.read_bytes()
        os.chmod(folder, 0o555)
        try:
            assert run_limited(path, become) == ["PermissionError", str(errno.EACCES)]
        finally:
            os.chmod(folder, 0o755)
        assert path.read_bytes() == before
        assert os.listdir(folder) == [path.name]


def test_save_into_a_missing_folder_or_onto_a_folder(tmp_path):
    net = network()
    with pytest.raises(FileNotFoundError, match=r"missing.model'$"):
        net.save(tmp_path / "missing" / "model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        net.save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_save_does_not_replace_what_is_no_regular_file(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for place in (pipe, link):
        with pytest.raises(OSError, match="pipe: it is not a regular file"):
            network().save(place)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_save_keeps_the_mode_and_follows_links(tmp_path):
    net = network()
    real, link = tmp_path / "real", tmp_path / "link"
    net.save(real)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(real.stat().st_mode) == 0o666 & ~mask
    real.chmod(0o640)
    link.symlink_to(real)
    net.fit(X, Y, verbose=0)
    net.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert_same(net, fastgd.load(real))


def test_save_accepts_every_kind_of_path(tmp_path, monkeypatch):
    net = network()
    monkeypatch.chdir(tmp_path)
    for path in ("plain", tmp_path / "path", "with space ünï"):
        net.save(path)
        assert_same(net, fastgd.load(path))
    with contextlib.suppress(OSError):
        net.save("x" * 250)
        assert_same(net, fastgd.load("x" * 250))


@pytest.mark.parametrize(
    "name",
    ["模" * 84, "x" + "模" * 80, "é" * 127, os.fsdecode(b"\xff" * 250)],
    ids=["three bytes each", "cut within one", "two bytes each", "no characters"],
)
def test_a_name_may_be_as_long_as_names_can_be(name, tmp_path):
    """In bytes, also where these are no characters."""
    net = network()
    path = tmp_path / name
    for _ in range(2):
        net.save(path)
    assert_same(net, fastgd.load(path))
    assert os.listdir(tmp_path) == [name]


def test_readers_never_see_half_a_file(path):
    """A second process reads all the time while this one saves."""
    net = network()
    net.save(path)
    code = (
        "import sys, time, fastgd; end = time.time() + 1.5; n = 0\n"
        "while time.time() < end: fastgd.load(sys.argv[1]); n += 1\n"
        "print(n)"
    )
    reader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    while reader.poll() is None:
        net.train_step(X, Y)
        net.save(path)
    assert int(reader.stdout.read()) > 0
    reader.stdout.close()
    assert reader.returncode == 0


def test_files_do_not_depend_on_the_byte_order_or_layout_of_views(path):
    """The checksum is over little-endian bytes, whatever the memory holds."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    wanted = model_io._digest("{}", {"a": array})
    assert model_io._digest("{}", {"a": array.astype(">f4")}) == wanted
    assert model_io._digest("{}", {"a": np.asfortranarray(array)}) == wanted
    assert model_io._digest("{}", {"a": array.T}) != wanted
    assert model_io._digest("{ }", {"a": array}) != wanted
    assert model_io._digest("{}", {"b": array}) != wanted
