"""`fastgd train` and `fastgd predict`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import math
import os
import shlex
import sys
import zlib
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from . import DivergenceError, ModelFileError, active_isa, optimizers, schedules, tables
from ._plots import pyplot
from .callbacks import Callback, Checkpoint, EarlyStopping
from .config import threads_in_force
from .history import History
from .io import load, write_atomically
from .layers import Dense
from .network import Network
from .preprocess import Preprocessor
from .tables import Arrays, Table

__all__ = ["checked_output", "encoder_of", "predict", "train"]

# Highest learning rate of a one-cycle or cosine schedule; a constant one is a third of it.
_LEARNING_RATES = {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3, "rmsprop": 1e-3, "adagrad": 0.03}
# Small files get more epochs, until there are about this many steps.
_STEPS = 3000
_CLASS_LOSSES = ("cross_entropy", "log_loss")
_PICTURES = (".png", ".svg", ".pdf")
# The options that a resumed training takes from the interrupted one. Where the files lie, and what
# is shown, may differ.
_KEPT = (
    "target", "drop", "task", "validation_split", "hidden", "activation", "loss", "dropout", "l2",
    "dtype", "optimizer", "lr", "clip_norm", "schedule", "epochs", "batch_size", "early_stopping",
    "seed", "checkpoint",
)  # fmt: skip
_NOT_TYPED = object()


def train(options: argparse.Namespace) -> int:
    """Train a network as the options say, print its metrics, and save it."""
    read = (options.file, options.labels, options.test, options.test_labels)
    out = checked_output(options.out or options.resume or "model.safetensors", *read)
    _check_replaces_model(out)
    if options.predictions:
        checked_output(options.predictions, *read, options.resume, out)
    if options.plot:
        _checked_picture(options.plot, *read, options.resume, out, options.predictions)
    net = encoder = None
    if options.resume:
        net, encoder = _interrupted(options)
    data = tables.read(
        options.file,
        target=options.target,
        labels=options.labels,
        text=() if encoder is None else encoder.text_columns,
    )
    if isinstance(data, Arrays) and options.target and not options.file.endswith(".npz"):
        raise ValueError(f"{options.file}: has no columns, so --target does not go with it")
    if options.drop and options.target in options.drop:
        raise ValueError(f"--drop: {options.target!r} is the target")
    if encoder is None:
        encoder = Preprocessor.fit(
            data,
            target=options.target,
            task=options.task,
            scale_target=options.loss != "poisson",
            drop=options.drop or (),
        )
    loss = _loss_for(encoder.task, options.loss)
    test = None
    if options.test:
        test = tables.read(
            options.test,
            target=options.target if isinstance(data, Arrays) else None,
            labels=options.test_labels,
            text=encoder.text_columns,
        )
    elif options.test_labels:
        raise ValueError("--test-labels needs --test")

    sets = {"training": _encoded(encoder, data, options.dtype)}
    if options.validation_split is None:
        options.validation_split = 0.0 if test is not None else 0.1
    if options.validation_split:
        sets |= _split(*sets["training"], options.validation_split, options.seed)
    if test is not None:
        sets["test"] = _encoded(encoder, test, options.dtype)
    if options.early_stopping and "validation" not in sets:
        raise ValueError("--early-stopping needs a --validation-split above 0")

    X, y = sets["training"]
    batch_size = options.batch_size or min(128, max(8, 2 ** round(math.log2(len(X) / 50 + 1))))
    batch_size = min(batch_size, len(X))
    steps = -(-len(X) // batch_size)
    epochs = options.epochs or min(500, max(10, -(-_STEPS // steps)))
    options.batch_size, options.epochs = batch_size, epochs
    if net is None:
        net = _network(options, encoder, loss, X.shape[1], epochs * steps)
        net.metadata = {"preprocessing": encoder.config}
        if options.checkpoint:
            net.metadata["training"] = _training_record(options, sets)
    elif net.metadata["training"]["data"] != _fingerprint(sets):
        raise ValueError(f"{options.file}: is not the data that {options.resume} was trained on")
    _describe(options, encoder, data, net, sets, epochs, batch_size)

    validation = None
    if "validation" in sets:
        Xv, yv = sets["validation"]
        validation = (Xv, _network_targets(net, yv))
    callbacks: list[Callback] = []
    if options.early_stopping:
        callbacks.append(EarlyStopping("val_loss", patience=options.early_stopping))
    if options.checkpoint:
        callbacks.append(Checkpoint(out, every=options.checkpoint))
    try:
        history = net.fit(
            X,
            _network_targets(net, y),
            epochs,
            batch_size,
            validation_data=validation,
            callbacks=callbacks,
            verbose=0 if options.quiet else "auto",
            n_threads=options.threads,
            resume=bool(options.resume),
        )
    except KeyboardInterrupt:
        _keep_interrupted(options, net, out)
        return 130
    except DivergenceError as error:
        rate = min(_learning_rate(options) / 10, _LEARNING_RATES[options.optimizer])
        remedy = "" if options.clip_norm else " or --clip-norm 1"
        raise ValueError(
            f"training diverged in epoch {(error.epoch or 0) + 1}; try --lr {rate:.1g}{remedy}"
        ) from None
    if len(history.epoch) < epochs:
        print(f"stopped early   after epoch {len(history.epoch)}, best weights restored")
    for name, (X, y) in sets.items():
        print(f"{name:<16}{_metrics(encoder, net.predict(X), y)}")
    # A training that has ended is not gone on with.
    net.metadata.pop("training", None)
    net.save(out)
    print(f"{'model':<16}{out}")
    if options.predictions:
        _write_predictions(options.predictions, encoder, net, data if test is None else test)
        print(f"{'predictions':<16}{options.predictions}")
    if options.plot:
        _write_picture(options.plot, history)
        print(f"{'picture':<16}{options.plot}")
    return 0


def _interrupted(options: argparse.Namespace) -> tuple[Network, Preprocessor]:
    """Load the checkpoint of an interrupted training, and set the options to those of it."""
    path = options.resume
    net = load(path)
    if not {"training", "preprocessing"} <= net.metadata.keys():
        raise ValueError(
            f"{path}: holds no interrupted training; fastgd train --checkpoint N keeps one, and a "
            "network whose training has ended is trained further by fastgd.load and fit in Python"
        )
    encoder = encoder_of(path, net)
    assert encoder is not None
    malformed = ValueError(f"{path}: malformed settings of an interrupted training")
    training = net.metadata["training"]
    try:
        if training.keys() != {"options", "data"} or training["options"].keys() != set(_KEPT):
            raise malformed
    except AttributeError:
        raise malformed from None
    # Read as they were when they were typed, so that they are checked in the same way.
    typed = [
        f"--{_dashed(name)}={text}"
        for name, text in training["options"].items()
        if text is not None
    ]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            before = options.parser.parse_args([*typed, "--", options.file])
    except SystemExit:
        raise malformed from None
    # An option that was not typed keeps the value that it has here.
    now = argparse.Namespace(**dict.fromkeys(_KEPT, _NOT_TYPED))
    options.parser.parse_args(options.arguments, now)
    for name in _KEPT:
        given, kept = getattr(now, name), getattr(before, name)
        if given is not _NOT_TYPED and given != kept:
            had = "not given" if kept is None else _as_typed(kept)
            raise ValueError(
                f"--{_dashed(name)} is {_as_typed(given)}, but was {had} in the training that "
                f"{path} goes on with; leave it out"
            )
        setattr(options, name, kept)
    return net, encoder


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _as_typed(value: Any) -> str:
    """Write the value of an option as the command line reads it."""
    if not isinstance(value, list):
        return str(value)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(value)
    return line.getvalue() or "none"


def _training_record(
    options: argparse.Namespace, sets: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Return what a later --resume must know: the options that matter, and what the data were."""
    kept = {name: getattr(options, name) for name in _KEPT}
    return {
        "options": {
            name: None if value is None else _as_typed(value) for name, value in kept.items()
        },
        "data": _fingerprint(sets),
    }


def _fingerprint(sets: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, list[int]]:
    """Return checksums that tell whether the same samples are trained on, in the same order."""
    return {
        name: [zlib.crc32(np.ascontiguousarray(array).data) for array in arrays]
        for name, arrays in sets.items()
        if name != "test"
    }


def _keep_interrupted(options: argparse.Namespace, net: Network, out: str) -> None:
    """Keep what was learned until Ctrl-C, and say how to go on."""
    for path in dict.fromkeys((out, options.resume or out)):
        epoch = _checkpointed(path, net)
        if epoch:
            text = f"; {path} holds the network after epoch {epoch} of {options.epochs}. "
            text += f"To go on: {_resuming_command(options, path)}"
            break
    else:
        net.metadata.pop("training", None)
        net.save(out)
        text = f" after {net.step} steps; {out} holds what was learned"
        if options.checkpoint:
            text += ", but no checkpoint to go on from: the first comes after epoch "
            text += str(options.checkpoint)
    print(f"\nfastgd train: interrupted{text}", file=sys.stderr)


def _checkpointed(path: str, net: Network) -> int:
    """Return the number of epochs after which a file holds the training of a network, or 0.

    The file itself is asked: Ctrl-C may have come before the checkpoint of the newest epoch.
    """
    training = net.metadata.get("training")
    try:
        held = load(path)
    except (OSError, ValueError):
        return 0
    return held.epoch if training and held.metadata.get("training") == training else 0


def _resuming_command(options: argparse.Namespace, path: str) -> str:
    """Return the command that goes on with a training, with what the file does not hold."""
    words = ["fastgd", "train"]
    for name in ("labels", "test", "test_labels", "threads", "predictions", "plot"):
        value = getattr(options, name)
        if value is not None:
            words.append(f"--{_dashed(name)}={value}")
    words += ["--quiet"] * options.quiet
    words += ["--resume", path, *(["--"] if options.file.startswith("-") else []), options.file]
    return shlex.join(words)


def _checked_picture(path: str, *others: str | None) -> None:
    """Refuse, before the work is done, a picture that could not be drawn or written."""
    checked_output(path, *others)
    if not path.endswith(_PICTURES):
        raise ValueError(f"{path}: the name must end in {', '.join(_PICTURES)}")
    pyplot("--plot")


def _write_picture(path: str, history: History) -> None:
    figure = history.plot().figure_
    content = io.BytesIO()
    figure.savefig(content, format=path.rpartition(".")[2], dpi=150)
    pyplot("--plot").close(figure)
    write_atomically(Path(path), content.getvalue())


def predict(options: argparse.Namespace) -> int:
    """Write the predictions of a saved network as CSV."""
    if options.out:
        checked_output(options.out, options.model, options.file)
    net = load(options.model)
    encoder = encoder_of(options.model, net)
    if encoder is None:
        raise ValueError(f"{options.model}: not written by fastgd train; use fastgd.load in Python")
    if options.probabilities and encoder.task != "classification":
        raise ValueError(f"{options.model}: predicts numbers, so --probabilities does not apply")
    data = tables.read(options.file, text=encoder.text_columns)
    for notice in encoder.strange(data):
        print(f"fastgd predict: {notice}: taken for none of those it had", file=sys.stderr)
    _write_predictions(
        options.out, encoder, net, data, options.probabilities, n_threads=options.threads
    )
    return 0


def encoder_of(path: str, net: Network) -> Preprocessor | None:
    """Return the preprocessing that a model file holds, if it does; it must fit its network."""
    if "preprocessing" not in net.metadata:
        return None
    try:
        encoder = Preprocessor(net.metadata["preprocessing"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    n_outputs = len(encoder.classes) if encoder.task == "classification" else 1
    if (net.n_inputs, net.n_outputs) != (encoder.n_inputs, n_outputs):
        raise ValueError(f"{path}: its preprocessing does not fit its network")
    return encoder


def checked_output(path: str, *others: str | None) -> str:
    """Refuse, before the work is done, a path to which its result could not be written.

    others: files that the command reads, or writes besides; none of them may be the same.
    """
    if os.path.realpath(path) in {os.path.realpath(other) for other in others if other}:
        raise ValueError(f"{path}: is read, or also written, by this command; choose another name")
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if target.exists() and not target.is_file():
        raise ValueError(f"{path}: is not a file that could be replaced")
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path}: the folder {folder} cannot be written to")
    return path


def _check_replaces_model(path: str) -> None:
    """Refuse to let a model take the place of a file that is none."""
    if Path(path).exists():
        try:
            load(path)
        except ModelFileError:
            raise ValueError(
                f"{path}: is there already and is no model file; choose another name, or remove it"
            ) from None


def _loss_for(task: str, loss: str) -> str:
    """Find or check the loss for a task."""
    if loss == "auto":
        return "cross_entropy" if task == "classification" else "squared_error"
    if (task == "classification") != (loss in _CLASS_LOSSES):
        raise ValueError(f"--loss {loss} does not go with {task} (--task would change that)")
    return loss


def _encoded(
    encoder: Preprocessor, data: Table | Arrays, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Encode the rows that have a target."""
    y, known = encoder.targets(data)
    X = encoder.inputs(data, dtype)
    return (X if known.all() else X[known]), y


def _split(
    X: np.ndarray, y: np.ndarray, share: float, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Divide the rows at random."""
    n = max(1, round(share * len(X)))
    if n >= len(X):
        raise ValueError(f"{len(X)} rows with a target are too few for --validation-split {share}")
    order = np.random.default_rng(seed).permutation(len(X))
    kept, held = np.sort(order[n:]), np.sort(order[:n])
    return {"training": (X[kept], y[kept]), "validation": (X[held], y[held])}


def _network(
    options: argparse.Namespace, encoder: Preprocessor, loss: str, n_inputs: int, steps: int
) -> Network:
    layers = [
        Dense(units, options.activation, l2=options.l2, dropout=options.dropout)
        for units in options.hidden
    ]
    n_outputs = len(encoder.classes) if encoder.task == "classification" else 1
    layers.append(Dense(n_outputs, l2=options.l2))
    lr = _learning_rate(options)
    course: float | schedules.Schedule = lr
    if options.schedule == "one_cycle" and steps >= 2:
        course = schedules.OneCycle(lr, steps)
    elif options.schedule == "cosine":
        course = schedules.Cosine(lr, steps)
    extra: dict[str, Any] = (
        {"momentum": 0.9, "nesterov": True} if options.optimizer == "sgd" else {}
    )
    optimizer = optimizers.BUILT_IN[options.optimizer](
        lr=course, clip_norm=options.clip_norm, **extra
    )
    return Network(layers, loss, optimizer, n_inputs, options.dtype, options.seed)


def _learning_rate(options: argparse.Namespace) -> float:
    usual = _LEARNING_RATES[options.optimizer] / (3 if options.schedule == "constant" else 1)
    return float(options.lr or usual)


def _network_targets(net: Network, y: np.ndarray) -> np.ndarray:
    """Turn class numbers into the rows that log_loss takes; other targets stay."""
    if net.loss_name != "log_loss":
        return y
    rows = np.zeros((len(y), net.n_outputs), net.dtype)
    rows[np.arange(len(y)), y] = 1
    return rows


def _describe(
    options: argparse.Namespace,
    encoder: Preprocessor,
    data: Table | Arrays,
    net: Network,
    sets: dict[str, tuple[np.ndarray, np.ndarray]],
    epochs: int,
    batch_size: int,
) -> None:
    """Print what is about to be trained, on what."""
    rows = ", ".join(f"{len(X)} {name}" for name, (X, _) in sets.items())
    found = "found from the target" if options.task == "auto" else "as asked"
    if encoder.task == "classification":
        found = f"{len(encoder.classes)} classes, {found}"
    units = "-".join(str(n) for n in (net.n_inputs, *(layer.units for layer in net.layers)))
    lr = net.optimizer.lr
    course = f"{getattr(lr, 'lr', lr):g} {options.schedule}"
    print(f"{'rows':<16}{rows}")
    if isinstance(data, Table):
        used = {column["name"] for column in encoder.config["columns"]}
        left = [name for name in data.columns if name not in used and name != encoder.target]
        print(f"{'columns':<16}{len(used)} used, {net.n_inputs} inputs")
        dropped = [name for name in left if name in (options.drop or ())]
        left = [name for name in left if name not in dropped]
        if dropped:
            print(f"{'dropped':<16}{', '.join(map(repr, dropped))}")
        if left:
            print(f"{'left out':<16}{', '.join(map(repr, left))}: nothing can be learned from them")
        for notice in encoder.notices(data):
            print(f"{'read as text':<16}{notice}")
    without = data.n_rows - sum(len(X) for name, (X, _) in sets.items() if name != "test")
    if without:
        print(f"{'left out':<16}{without} rows without a target")
    print(f"{'task':<16}{encoder.task} ({found})")
    print(f"{'network':<16}{units}, {options.activation}, {net.loss_name}, {net.dtype}")
    print(
        f"{'training':<16}{options.optimizer}, lr {course}, batch {batch_size}, {epochs} epochs, "
        f"seed {options.seed}, {active_isa()}, threads: {threads_in_force(options.threads)}",
        flush=True,
    )


def _metrics(encoder: Preprocessor, outputs: np.ndarray, y: np.ndarray) -> str:
    """Describe how good outputs are: accuracy, or R^2 and errors in the target's own units."""
    if encoder.task == "classification":
        accuracy = float((outputs.argmax(axis=1) == y).mean())
        likely = np.maximum(outputs[np.arange(len(y)), y].astype(np.float64), 1e-300)
        return f"accuracy {accuracy:.4f}   log loss {-float(np.log(likely).mean()):.4f}"
    truth = encoder.decode(y[:, None])
    error = encoder.decode(outputs) - truth
    spread = float(((truth - truth.mean()) ** 2).mean())
    rms = math.sqrt(float((error**2).mean()))
    r2 = f"R^2 {1 - rms**2 / spread:.4f}   " if spread > 0 else ""
    return f"{r2}RMSE {rms:.6g}   MAE {float(np.abs(error).mean()):.6g}"


def _write_predictions(
    path: str | None,
    encoder: Preprocessor,
    net: Network,
    data: Table | Arrays,
    probabilities: bool = False,
    n_threads: int | None = None,
) -> None:
    """Write a line for each row; numbers in the shortest form that reads back to the same bits."""
    outputs = net.predict(encoder.inputs(data, net.dtype.name), n_threads=n_threads)
    name = encoder.target or "target"
    header = [f"predicted {name}"]
    columns: list[Any] = [encoder.decode(outputs).tolist()]
    if probabilities:
        header += [f"p({value})" for value in encoder.classes]
        columns += [map(str, column) for column in outputs.T]
    if path is None:
        _write_rows(sys.stdout, header, columns)
    else:
        text = io.StringIO(newline="")
        _write_rows(text, header, columns)
        write_atomically(Path(path), text.getvalue().encode())


def _write_rows(file: TextIO, header: list[str], columns: list[Any]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
