"""Mutations that know a format, since bytes changed at random end at its checksums and lengths.

Each takes (bytes, random.Random, the fuzzer's own mutation of bytes) and returns bytes.
"""

import gzip
import io
import json
import math
import struct
import zipfile
import zlib

from targets import words

NUMBERS = (0, 1, -1, 2, 3, 0.5, -0.5, 1e308, 1e-320, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64,
           10**30, 10**400, -(2**63), 65536, 255)  # fmt: skip
JUNK = (None, True, False, "", "nan", "inf", "x", "\ud7ff\0", [], {}, [0], {"a": 1}, [[]],
        {"tensors": 1}, {"tensors": 10**9}, {"name": "custom"})  # fmt: skip
NAMES = words(
    "relu tanh gelu softmax sigmoid exp leaky_relu elu identity squared_error cross_entropy "
    "log_loss poisson huber absolute_error sgd adam adamw rmsprop adagrad constant step "
    "exponential cosine inverse_scaling one_cycle warm_up plateau custom EarlyStopping Checkpoint "
    "GradientFlow float32 float64 auto zeros he_normal preprocessing best_weights"
)


# ---- model files: JSON within JSON, and tensors ---------------------------------------------


def model_file(data, rng, mutate):
    """Change the configuration, an entry of the header, or the numbers."""
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        config = json.loads(header["__metadata__"]["config"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return mutate(data)
    body = bytearray(data[8 + size :])
    kind = rng.random()
    if kind < 0.1:
        return mutate(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if kind < 0.7:
            config = _json(config, rng)
        elif kind < 0.85:
            header = _json(header, rng)
        elif body:
            at = rng.randrange(0, len(body), 4)
            body[at : at + 4] = struct.pack(
                "<f", rng.choice((0.0, 1.0, -2.0, math.nan, math.inf, 3e38, 1e-40, 1e10))
            )
    about = header.get("__metadata__") if isinstance(header, dict) else None
    if kind < 0.7 and isinstance(about, dict):
        text = json.dumps(config)
        # Numbers as people may write them
        about["config"] = text.replace(": 1.0", ": 1e999", 1) if rng.random() < 0.02 else text
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _json(value, rng):
    """Return a JSON value with one place of it changed."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        copied = value.copy()
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        action = rng.random()
        if action < 0.85:
            copied[key] = _json(value[key], rng)
        elif action < 0.9:
            del copied[key]
        elif isinstance(value, list):
            copied.insert(key, value[key])
        else:
            copied[rng.choice((rng.choice(NAMES), *map(str, value)))] = copied.pop(key)
        return copied
    if isinstance(value, int | float) and rng.random() < 0.6:
        return rng.choice((*NUMBERS, value + 1, value - 1, -value, value * 2))
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice(NAMES)
    return rng.choice((*JUNK, *NUMBERS, *NAMES))


# ---- ONNX: a message of protobuf ------------------------------------------------------------


def onnx_file(data, rng, mutate):
    """Change, repeat or leave out fields of the message."""
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # whatever protobuf's implementation raises
        return mutate(data)
    if rng.random() < 0.1:
        return mutate(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            _change(model, rng, mutate)
        except (ValueError, TypeError, OverflowError):
            continue  # a value that the field does not take
    return model.SerializeToString()


OPERATORS = words(
    "Gemm MatMul Add Sub Mul Div Relu Tanh Sigmoid Softmax LogSoftmax Erf Exp Log Sqrt Pow Neg "
    "Abs Clip Min Max Identity Dropout Flatten Reshape Shape Gather Concat Cast Constant Squeeze "
    "Unsqueeze Transpose Slice ArgMax BatchNormalization Softplus LeakyRelu Elu Selu Gelu Mish "
    "HardSigmoid Where Greater Less Equal Not And Or Scaler ZipMap ArrayFeatureExtractor "
    "ai.onnx.ml"
)


def _change(message, rng, mutate):
    """Go down into a message at random, and change one field."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    is_repeated = hasattr(value, "__len__") and not isinstance(value, str | bytes)
    if field.message_type is not None:
        if not is_repeated:
            _change(value, rng, mutate)
        elif len(value) == 0 or rng.random() < 0.1:
            _rearrange(value, rng)
        else:
            _change(rng.choice(value), rng, mutate)
        return
    if rng.random() < 0.05:
        message.ClearField(field.name)
    elif not is_repeated:
        setattr(message, field.name, _scalar(value, rng, mutate))
    elif rng.random() < 0.2:
        value.append(_scalar(value[0], rng, mutate))
    elif rng.random() < 0.2:
        del value[rng.randrange(len(value))]
    else:
        value[rng.randrange(len(value))] = _scalar(rng.choice(value), rng, mutate)


def _rearrange(messages, rng):
    """Repeat a message of a list, or leave one out."""
    if not len(messages):
        return
    at = rng.randrange(len(messages))
    if rng.random() < 0.5:
        messages.add().CopyFrom(messages[at])
    else:
        del messages[at]


def _scalar(value, rng, mutate):
    if isinstance(value, bytes):
        return mutate(value) if rng.random() < 0.8 else bytes(rng.randrange(64))
    if isinstance(value, str):
        return rng.choice((rng.choice(OPERATORS), "", "a", value + "x"))
    if isinstance(value, float):
        return rng.choice((0.0, 1.0, -1.0, math.nan, math.inf, 1e38, 1e-45, value * 2))
    return rng.choice((0, 1, 2, -1, 7, 10, 11, 2**31 - 1, 2**62, value + 1, value - 1))


# ---- data files -----------------------------------------------------------------------------


def data_file(data, rng, mutate):
    """Change what is compressed, and compress it again."""
    if rng.random() < 0.1:
        return mutate(data)
    if data[:2] == b"\x1f\x8b":
        try:
            inner = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return mutate(data)
        return gzip.compress(mutate(inner), 1, mtime=0)
    if data[:4] == b"PK\x03\x04":
        return _zip(data, rng, mutate)
    if rng.random() < 0.02:
        return gzip.compress(data, 1, mtime=0)
    return mutate(data)


def _zip(data, rng, mutate):
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, ValueError, NotImplementedError, EOFError, RuntimeError, zlib.error,
            zipfile.BadZipFile):  # fmt: skip
        return mutate(data)
    if not members:
        return mutate(data)
    chosen = rng.choice(sorted(members))
    members[chosen] = mutate(members[chosen])
    if rng.random() < 0.1:
        members[rng.choice(("X.npy", "y.npy", "data.npy", "X", ""))] = members.pop(chosen)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((0, 8))) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


MUTATORS = {
    "model_file": model_file,
    "idx_file": data_file,
    "table_file": data_file,
    "onnx_file": onnx_file,
}
