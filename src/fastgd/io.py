"""Model files: safetensors with the configuration and a checksum in the header.

Reading never imports, looks up or calls anything that a file names, but for the package's own
fixed tables; everything is checked before a network is made of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import activations, losses, optimizers, schedules
from ._errors import ModelFileError
from ._files import open_regular, printable
from ._validate import Array, boolean, integer
from ._version import __version__
from .history import History
from .layers import Dense
from .losses import CustomLoss, Loss
from .schedules import LearningRate, Schedule

if TYPE_CHECKING:
    from .network import Network

__all__ = ["load", "save"]

_FORMAT = "fastgd 1"
# that of safetensors itself
_HEADER_LIMIT = 100_000_000
_TENSORS = "tensors"
_LONGEST_MESSAGE = 2000
# Steps and epochs
_MOST_COUNTED = 2**63 - 1
# The end of a temporary file's name: process, random number.
_TEMPORARY = re.compile(r"\d+\.[0-9a-f]{8}\.tmp")
# Left out where they say nothing, so that older versions read the file.
_OPTIONAL: dict[str, Any] = {"input_scale": 1.0, "feature_names": None}
_CONFIG_KEYS = {
    "fastgd",
    "n_inputs",
    "dtype",
    "seed",
    "epoch",
    "step",
    "layers",
    "loss",
    "optimizer",
    "has_optimizer_state",
    "schedule_state",
    "history",
    "resume",
    "metadata",
}
_LAYER_KEYS = {
    "units",
    "activation",
    "param",
    "l1",
    "l2",
    "dropout",
    "bias",
    "weight_init",
    "bias_init",
}


# ---- writing --------------------------------------------------------------------------------


def save(
    network: Network,
    path: str | os.PathLike[str],
    *,
    include_optimizer: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to a file, as `Network.save` does.

    Parameters
    ----------
    network : Network
    path, include_optimizer, metadata
        As in `Network.save`, which says what is raised.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastgd
    >>> from fastgd import io
    >>> net = fastgd.Network([fastgd.Dense(1)], "squared_error", n_inputs=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     io.save(net, path)
    ...     io.load(path).n_inputs
    2
    """
    include = boolean("include_optimizer", include_optimizer)
    kept = metadata_of(network, metadata)
    # Another thread may be training the network: its next step waits.
    with network._live().lock:
        content = _content(network, include, kept)
    write_atomically(Path(path), content)


def _content(network: Network, include: bool, metadata: Mapping[str, Any]) -> bytes:
    """Return what the file of a network holds."""
    tensors = {
        name: np.ascontiguousarray(view)
        for name, view in network._arrays(optimizer=include).items()
    }
    resume = network._resume_state() if include else None
    lr = network.optimizer.lr
    config: dict[str, Any] = {
        "fastgd": __version__,
        "n_inputs": network.n_inputs,
        "dtype": network.dtype.name,
        "seed": network.seed,
        "epoch": network.epoch if include else 0,
        "step": network.step if include else 0,
        "layers": [_plain_layer(layer) for layer in network.layers],
        "loss": plain_loss(network),
        "optimizer": network.optimizer._plain(),
        "has_optimizer_state": include,
        "schedule_state": lr.state_dict()
        if include and isinstance(lr, Schedule) and schedules.plain(lr) != {"name": "custom"}
        else {},
        "history": _plain_history(network.history) if include else None,
        "resume": _plain_resume(resume, tensors),
        "metadata": metadata,
    }
    if network.input_scale != 1:
        config["input_scale"] = network.input_scale
    if network.feature_names is not None:
        config["feature_names"] = list(network.feature_names)
    # A file that load would refuse must not take the place of a good one.
    bad = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    if bad:
        raise ValueError(f"values that are not finite are not saved: {', '.join(bad)}")
    text = json.dumps(config, allow_nan=False, separators=(",", ":"))
    # The text is quoted within the header, where each tensor has an entry too.
    size = len(json.dumps(text)) + 300 * (len(tensors) + 1)
    if size > _HEADER_LIMIT:
        raise ValueError(
            f"history and metadata take {size:,} bytes; a model file holds {_HEADER_LIMIT:,}. Set "
            "network.history to None, or save with include_optimizer=False"
        )
    try:
        # What a file cannot hold is replaced by anything that is allowed there.
        loss = network.loss if config["loss"] == {"name": "custom"} else None
        stand_in = None if _is_stored(config["optimizer"]["lr"]) else 1.0
        _described(text, tensors, loss, stand_in)
    except ModelFileError as error:
        message = f"the network is not saved, since its file could not be loaded: {error}"
        raise ValueError(message) from error
    header = {"format": _FORMAT, "config": text, "sha256": _digest(text, tensors)}
    from safetensors.numpy import save as to_bytes

    content: bytes = to_bytes(tensors, metadata=header)
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step; whatever fails, the old file stays and no other is left.

    A process that is killed on the way leaves a temporary file, which the next one to write this
    path removes.
    """
    path = replaceable(path)
    # A name may be as long as names can be, which is counted in bytes: no half of a character.
    name = os.fsencode(path.name)[:100].decode(sys.getfilesystemencoding(), "ignore")
    beginning = f".{name}."
    try:
        _remove_abandoned(path.parent, beginning)
        while not _replace(path, beginning, content):
            pass
    except OSError as error:
        # Name the file that was asked for, which the operation itself may not know.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    _sync_folder(path.parent)


def replaceable(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path stands for, or refuse what could not be written and replaced."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"cannot write to {path}: it is a folder")
    # Replacing would take the place of a device such as /dev/null, for everybody.
    if path.exists() and not path.is_file():
        raise OSError(f"cannot write to {path}: it is not a regular file")
    if not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
        raise FileNotFoundError(errno.ENOENT, reason, os.fspath(path))
    return path


def _replace(path: Path, beginning: str, content: bytes) -> bool:
    """Replace a file; False if another process took the new file for an abandoned one."""
    temporary = path.with_name(f"{beginning}{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            _lock(file.fileno(), waits=True)
            if not temporary.exists():
                return False
            if path.exists() and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "posix":  # as long as it is locked
                os.replace(temporary, path)
        if os.name != "posix":  # where an open file keeps its name
            os.replace(temporary, path)
    except FileExistsError:
        raise  # it is another's
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def _lock(descriptor: int, waits: bool = False) -> bool:
    """Lock an open file until it is closed, if only by the end of its process.

    False if another process has locked it, or if the system cannot lock: then nobody can, and no
    file is taken for abandoned.
    """
    if os.name != "posix":
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _remove_abandoned(folder: Path, beginning: str) -> None:
    """Remove temporary files whose writers, who would hold a lock on them, are gone."""
    try:
        names = os.listdir(folder)
    except PermissionError:  # a folder may be written to and not be read
        return
    for name in names:
        if not (name.startswith(beginning) and _TEMPORARY.fullmatch(name[len(beginning) :])):
            continue
        abandoned = os.path.join(folder, name)
        with contextlib.suppress(OSError), open(abandoned, "r+b") as file:
            if _lock(file.fileno()):
                os.unlink(abandoned)


def _sync_folder(folder: Path) -> None:
    """Bring a new name in a folder to the disk, where the system has a way to do so."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written to and not be read; the file is there
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain_loss(network: Network) -> dict[str, Any]:
    """Return the loss of a network as JSON."""
    if isinstance(network.loss, Loss) and network.loss_name != "custom":
        return network.loss._plain()
    return {"name": "custom"}


def _plain_layer(layer: Dense) -> dict[str, Any]:
    assert layer.activation is not None
    weight_init, bias_init = (
        init if isinstance(init, str | float) else default
        for init, default in ((layer.weight_init, "auto"), (layer.bias_init, "zeros"))
    )
    return {
        "units": layer.units,
        "activation": layer.activation.name,
        "param": float(layer.activation.param),
        "l1": layer.l1,
        "l2": layer.l2,
        "dropout": layer.dropout,
        "bias": layer.use_bias,
        "weight_init": weight_init,
        "bias_init": bias_init,
    }


def _plain_history(history: History | None) -> dict[str, Any] | None:
    if history is None:
        return None
    whole = history._copy()
    # JSON has no NaN and no infinity, which a user's metric may well return.
    values = {
        name: [value if math.isfinite(value) else repr(value) for value in _floats(name, column)]
        for name, column in whole.history.items()
    }
    return {"epoch": whole.epoch, "values": values}


def _floats(name: str, column: Sequence[object]) -> list[float]:
    for value in column:
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
            raise TypeError(f"network.history has {value!r} among its {name}, which is no number")
    try:
        return [float(value) for value in column]  # type: ignore[arg-type]
    except OverflowError:
        raise ValueError(f"network.history has a number beyond float64 among its {name}") from None


def _is_stored(plain: Any) -> bool:
    """Return whether a file holds all of a learning rate; see `schedules.plain`."""
    while isinstance(plain, dict):
        if plain["name"] == "custom":
            return False
        plain = plain.get("schedule")
    return True


def _plain_resume(
    resume: Mapping[str, Any] | None, tensors: dict[str, Array]
) -> dict[str, Any] | None:
    """Return the state of a fit as JSON; lists of arrays of the callbacks become tensors."""
    if resume is None:
        return None
    states = []
    for i, callback in enumerate(resume["callbacks"]):
        state: dict[str, Any] = {}
        for key, value in callback["state"].items():
            if isinstance(value, list) and any(isinstance(item, np.ndarray) for item in value):
                for j, array in enumerate(value):
                    tensors[f"callbacks.{i}.{key}.{j}"] = np.ascontiguousarray(array)
                value = {_TENSORS: len(value)}
            state[key] = value
        state = json_copy(state, f"state_dict() of {callback['name']}")
        states.append({"name": callback["name"], "state": state})
    counts = {name: resume[name] for name in ("done", "stopped", "steps") if name in resume}
    return counts | {"callbacks": states}


def metadata_of(network: Network, given: object) -> dict[str, Any]:
    """Return a copy of the metadata that a file is to hold: those given, else the network's."""
    if given is None:
        return json_copy(network.metadata, "network.metadata")
    return json_copy(given, "metadata")


def json_copy(value: object, name: str) -> dict[str, Any]:
    """Return a dict as a file would give it back, or refuse what JSON cannot hold."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, not {value!r}")
    try:
        return _parse(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be made of JSON values: {error}") from error


def _digest(config: str, tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of the configuration and of every tensor's name, dtype, shape, bytes."""
    digest = hashlib.sha256()
    for part in (_FORMAT, config):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    for name in sorted(tensors):
        array = tensors[name]
        head = json.dumps([name, array.dtype.name, list(array.shape)]).encode()
        digest.update(len(head).to_bytes(8, "little") + head)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).data.cast("B") if array.size else b"")
    return digest.hexdigest()


# ---- reading --------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str],
    *,
    loss: str | Loss | CustomLoss | None = None,
    lr: LearningRate | None = None,
) -> Network:
    """Return the network that `Network.save` has written.

    Parameters
    ----------
    path : str or path-like
    loss : object, optional
        The custom loss of a network that was trained with one.
    lr : float or schedule or callable, optional
        In place of the stored learning rate; needed where that was a callable.

    Raises
    ------
    ModelFileError
        If the file is not one of fastgd, is truncated or damaged in any bit, holds unknown
        settings, tensors that do not fit them, or values that are not finite.
    OSError
        If the file cannot be read.

    Notes
    -----
    Files from others are safe to load: no code in them is run, and no memory is reserved for what a
    file claims and does not hold. The checksum finds damage; it does not tell who wrote the file.
    A pickled network is another matter: unpickling runs whatever the pickle says.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastgd
    >>> layers = [fastgd.Dense(2, "tanh"), fastgd.Dense(1)]
    >>> net = fastgd.Network(layers, "squared_error", n_inputs=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     net.save(path)
    ...     again = fastgd.load(path)
    >>> X = np.ones((1, 3))
    >>> bool((net.predict(X) == again.predict(X)).all())
    True
    """
    path = Path(path)
    file = open_regular(path, ModelFileError)
    try:
        with file:
            # Before all of it is read, which need not fit into memory.
            _check_beginning(file.read(9), os.fstat(file.fileno()).st_size)
            file.seek(0)
            content = file.read()
        return _network(content, loss, lr)
    except ModelFileError as error:
        raise ModelFileError(f"cannot load {path}: {shown(error)}") from error.__cause__


def shown(error: Exception) -> str:
    """Return a message that can be shown, whatever it quotes of a file, and however much."""
    text = str(error)
    more = " ..." if len(text) > _LONGEST_MESSAGE else ""
    return printable(text[:_LONGEST_MESSAGE]) + more


def _network(
    content: bytes, loss: str | Loss | CustomLoss | None, lr: LearningRate | None
) -> Network:
    text, tensors = _open(content)
    network, config = _described(text, tensors, loss, lr)
    with _as_refusals():
        for name in ("step", "epoch"):  # as many more can be counted, and saved, from there
            integer(name, config[name], 0, _MOST_COUNTED // 2)
        network._build(config["n_inputs"])
        views = network._arrays(optimizer=config["has_optimizer_state"])
        wanted = {name: view.shape for name, view in views.items()}
        _check_tensors(tensors, wanted, config["dtype"])
        extra = {name for name in tensors if not name.startswith("callbacks.")} - set(wanted)
        if extra:
            raise ModelFileError(f"it holds tensors that do not belong there: {sorted(extra)[:5]}")
        network._load_numbers(config["step"], config["epoch"], tensors)
    return network


@contextlib.contextmanager
def _as_refusals() -> Iterator[None]:
    """Whatever a constructor, a cast or a missing key finds wrong is wrong in the file."""
    try:
        yield
    except ModelFileError:
        raise
    except (
        ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelFileError(f"its configuration is not valid: {error}") from error


def _open(content: bytes) -> tuple[str, dict[str, Array]]:
    """Return the configuration's text and the tensors of a file whose checksum is right."""
    size = _check_beginning(content[:9], len(content))
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        about = _about(content[8 : 8 + size])
        tensors = from_bytes(content)
    except ModelFileError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelFileError(f"it is damaged or truncated: {error}") from error
    if _digest(about["config"], tensors) != about["sha256"]:
        raise ModelFileError("its checksum is wrong: it was damaged or changed")
    return about["config"], tensors


def _about(content: bytes) -> dict[str, str]:
    """Return what a header says of the file itself.

    The rest must be of the form of safetensors, whose own reader would take much memory for what is
    not before it found that out.
    """
    header = _parse(content.decode())
    about = header.pop("__metadata__", None)
    if not isinstance(about, dict) or "format" not in about:
        raise ModelFileError("it is a safetensors file, but not one of fastgd")
    if about["format"] != _FORMAT:
        raise ModelFileError(
            f"its format is {str(about['format'])[:40]!r}; this version reads {_FORMAT!r} only, "
            "so it is damaged or from a newer fastgd"
        )
    _keys("header", about, {"format", "config", "sha256"})
    if not all(isinstance(value, str) for value in about.values()):
        raise ModelFileError("its header holds something other than text")
    for entry in header.values():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError("it is damaged or truncated: a tensor is not described as one")
    return about


def _check_beginning(start: bytes, n_bytes: int) -> int:
    """Return the size of the header, from the first nine bytes of a file and the number of all."""
    if len(start) < 8:
        raise ModelFileError(f"it has only {len(start)} bytes; it is empty or truncated")
    size = int.from_bytes(start[:8], "little")
    if size > _HEADER_LIMIT or start[8:] != b"{":
        raise ModelFileError("it is not a safetensors file, such as fastgd writes")
    if size > n_bytes - 8:
        raise ModelFileError("it is truncated within its header")
    return size


def _parse(text: str) -> dict[str, Any]:
    """Return a JSON object, read as `from_json` does."""
    parsed = from_json(text)
    if not isinstance(parsed, dict):
        raise ValueError("it is not an object of JSON")
    return parsed


def from_json(text: str) -> Any:
    """Return a JSON value; repeated keys and numbers that are not finite are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key is repeated")
        return found

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):  # 1e999 is JSON, and no number of float64
            raise ValueError(f"{digits[:40]} is beyond the range of float64")
        return number

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)


def _keys(what: str, found: object, wanted: set[str]) -> None:
    if not isinstance(found, dict):
        raise ModelFileError(f"its {what} is not a table")
    if set(found) != wanted:
        unknown, missing = sorted(set(found) - wanted), sorted(wanted - set(found))
        problems = [f"has unknown keys {unknown}"] * bool(unknown)
        problems += [f"lacks {missing}"] * bool(missing)
        raise ModelFileError(f"its {what} {' and '.join(problems)}")


def _described(
    text: str,
    tensors: Mapping[str, Array],
    loss: str | Loss | CustomLoss | None,
    lr: LearningRate | None,
) -> tuple[Network, dict[str, Any]]:
    """Return a network that has no weights yet, and the checked configuration of a file.

    `save` asks it as well: a file that load would refuse must not take the place of a good one.
    """
    from .network import Network

    with _as_refusals():
        config = _OPTIONAL | _parse(text)
        _keys("configuration", config, _CONFIG_KEYS | set(_OPTIONAL))
        if not isinstance(config["fastgd"], str):
            raise ModelFileError("its configuration does not name a version")
        n_inputs = integer("n_inputs", config["n_inputs"])
        dtype = config["dtype"]
        if dtype not in ("float32", "float64"):
            raise ModelFileError("its dtype is neither float32 nor float64")
        layers = [_layer(plain) for plain in config["layers"]]
        # Before any memory is asked for: the tensors must be there in the sizes that are claimed.
        wanted: dict[str, tuple[int, ...]] = {}
        fan_in = n_inputs
        for i, layer in enumerate(layers):
            wanted[f"layers.{i}.weight"] = fan_in, layer.units
            if layer.use_bias:
                wanted[f"layers.{i}.bias"] = (layer.units,)
            fan_in = layer.units
        _check_tensors(tensors, wanted, dtype)

        network = Network(
            layers,
            loss_of(config["loss"], loss),
            _optimizer(config["optimizer"], lr),
            None,
            dtype,
            integer("seed", config["seed"], 0),
            input_scale=config["input_scale"],
        )
        network._resume = _resume(config["resume"], tensors)
        network.history = _history(config["history"])
        if not isinstance(config["metadata"], dict):
            raise ModelFileError("its metadata are not a table")
        network.metadata = config["metadata"]
        network._feature_names = _feature_names(config["feature_names"], n_inputs)
        integer("step", config["step"], 0, _MOST_COUNTED)
        integer("epoch", config["epoch"], 0, _MOST_COUNTED)
        boolean("has_optimizer_state", config["has_optimizer_state"])
        _schedule_state(network.optimizer.lr, config["schedule_state"], lr is not None)
    return network, config


def _feature_names(plain: object, n_inputs: int) -> tuple[str, ...] | None:
    if plain is None:
        return None
    if (
        not isinstance(plain, list)
        or not all(isinstance(name, str) for name in plain)
        or len(set(plain)) != n_inputs
        or len(plain) != n_inputs
    ):
        raise ModelFileError("its feature_names are not one name for each input")
    return tuple(plain)


def _check_tensors(
    tensors: Mapping[str, Array], wanted: Mapping[str, tuple[int, ...]], dtype: str
) -> None:
    for name, shape in wanted.items():
        if name not in tensors:
            raise ModelFileError(f"the tensor {name} is missing")
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ModelFileError(f"{name} has shape {tensor.shape}; {shape} is needed")
        if tensor.dtype != dtype:
            raise ModelFileError(f"{name} has dtype {tensor.dtype}; {dtype} is needed")
        _check_finite(name, tensor)


def _check_finite(name: str, tensor: Array) -> None:
    if not np.isfinite(tensor).all():
        raise ModelFileError(f"{name} has values that are not finite")


def _layer(plain: object) -> Dense:
    _keys("layer", plain, _LAYER_KEYS)
    assert isinstance(plain, dict)
    activation = activations.get(plain["activation"])
    if vars(activation):  # its one setting is the parameter
        kind: Any = type(activation)
        activation = kind(plain["param"])
    elif activation.param != plain["param"]:
        raise ModelFileError(f"{plain['activation']} takes no parameter")
    for name in ("weight_init", "bias_init"):
        if not isinstance(plain[name], str | float):
            raise ModelFileError(f"its {name} is neither a name nor a number")
    return Dense(
        plain["units"],
        activation,
        l1=plain["l1"],
        l2=plain["l2"],
        dropout=plain["dropout"],
        bias=plain["bias"],
        weight_init=plain["weight_init"],
        bias_init=plain["bias_init"],
    )


def loss_of(plain: Mapping[str, Any], given: str | Loss | CustomLoss | None) -> Loss | CustomLoss:
    """Return the loss that `plain_loss` described; one that is given must not differ."""
    settings = dict(plain)
    name = settings.pop("name")
    if name == "custom" and not settings:
        if given is None:
            raise ModelFileError(
                "it was trained with a custom loss, which a file cannot hold: give it as loss="
            )
        return losses.get(given)
    found = losses.BUILT_IN[name](**settings)
    if given is not None and losses.get(given) != found:
        raise ModelFileError(f"it was trained with the loss {found!r}, not {given!r}")
    return found


def _optimizer(plain: Mapping[str, Any], given: LearningRate | None) -> optimizers.Optimizer:
    settings = dict(plain)
    kind = optimizers.BUILT_IN[settings.pop("name")]
    _keys("optimizer", settings, set(kind._fields))
    stored = settings.pop("lr")
    return kind(lr=_learning_rate(stored) if given is None else given, **settings)


def _learning_rate(plain: object, depth: int = 1) -> LearningRate:
    if depth > schedules.MOST_NESTED:
        raise ModelFileError(f"its schedules are nested more than {schedules.MOST_NESTED} deep")
    if isinstance(plain, int | float):
        return schedules.get(plain)
    settings = dict(plain)  # type: ignore[call-overload]
    name = settings.pop("name")
    if name == "custom":
        raise ModelFileError(
            "its learning rate was a callable, which a file cannot hold: give one as lr="
        )
    kind = schedules.BUILT_IN[name]
    _keys("schedule", settings, set(kind._fields))
    if "schedule" in settings:
        settings["schedule"] = _learning_rate(settings["schedule"], depth + 1)
    return kind(**settings)


def _schedule_state(lr: LearningRate, state: object, is_replaced: bool) -> None:
    if not isinstance(state, dict):
        raise ModelFileError("the state of its schedule is not a table")
    if isinstance(lr, Schedule) and not is_replaced and state:
        lr.load_state_dict(state)


def _history(plain: Any) -> History | None:
    if plain is None:
        return None
    _keys("history", plain, {"epoch", "values"})
    history = History()
    history.epoch = [integer("epoch", epoch, 0, _MOST_COUNTED) for epoch in plain["epoch"]]
    for name, column in plain["values"].items():
        history.history[name] = [_number(value) for value in column]
        if len(column) > len(history.epoch):
            raise ModelFileError(f"its history has more values of {name} than epochs")
    return history


def _number(value: object) -> float:
    if isinstance(value, bool) or not (
        isinstance(value, int | float) or value in ("nan", "inf", "-inf")
    ):
        raise ModelFileError("its history holds something other than numbers")
    return float(value)


def _resume(plain: Any, tensors: Mapping[str, Array]) -> dict[str, Any] | None:
    used = 0
    callbacks: list[dict[str, Any]] = []
    if plain is not None:
        optional = {"steps"} & set(plain)
        _keys("resume", plain, {"done", "stopped", "callbacks"} | optional)
        for i, callback in enumerate(plain["callbacks"]):
            _keys("callback", callback, {"name", "state"})
            state = dict(callback["state"])
            for key, value in state.items():
                if isinstance(value, dict) and set(value) == {_TENSORS}:
                    count = integer("count", value[_TENSORS], 0, len(tensors))
                    names = [f"callbacks.{i}.{key}.{j}" for j in range(count)]
                    for name in names:
                        _check_finite(name, tensors[name])
                    # Copies, since the file's own bytes are read-only.
                    state[key] = [tensors[name].copy() for name in names]
                    used += count
            callbacks.append({"name": str(callback["name"]), "state": state})
    if used != sum(name.startswith("callbacks.") for name in tensors):
        raise ModelFileError("it holds tensors of callbacks that do not belong there")
    if plain is None:
        return None
    found = {
        "done": integer("done", plain["done"], 0, _MOST_COUNTED),
        "stopped": boolean("stopped", plain["stopped"]),
        "callbacks": callbacks,
    }
    return found | {name: integer(name, plain[name], 0, _MOST_COUNTED) for name in optional}
