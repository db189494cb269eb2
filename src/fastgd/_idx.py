"""Reader of IDX files (MNIST and its kin), plain or gzip-compressed. Does not write them.

Every size that a file states is compared with its real length before memory is reserved for it.
"""

import gzip
import math
import os
import zlib
from typing import BinaryIO

import numpy as np

from ._files import open_regular

# Third byte of the magic number -> element type; all are stored big-endian.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 8
# Deflate cannot expand its input by more than this, so a larger claim is false.
MAX_DEFLATE_RATIO = 1040
_CHUNK = 1 << 24


def is_idx(start: bytes) -> bool:
    """Tell whether a file that begins with these (at least four) bytes looks like IDX."""
    return (
        len(start) >= 4
        and start[:2] == b"\0\0"
        and start[2] in _DTYPES
        and 1 <= start[3] <= _MAX_DIMENSIONS
    )


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX array.

    Parameters
    ----------
    path : path of the file; gzip compression is recognised by its content.

    Returns
    -------
    ndarray
        In the machine's byte order, of the file's shape and type, writable.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    ValueError
        The file is not IDX, is truncated, is longer than it says, is damaged, or no regular file.
        The message names the file.
    """
    name = os.fspath(path)
    with open_regular(path) as raw:
        limit = os.fstat(raw.fileno()).st_size
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            return _read(raw, name, limit)
        try:
            with gzip.open(raw) as stream:
                return _read(stream, name, limit * MAX_DEFLATE_RATIO)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{name}: damaged gzip data ({error})") from None


def _read(stream: BinaryIO | gzip.GzipFile, name: str, limit: int) -> np.ndarray:
    """Read the array from an open stream that can hold at most `limit` bytes."""
    magic = stream.read(4)
    if not is_idx(magic):
        raise ValueError(f"{name}: not an IDX file (it begins with {magic.hex(' ') or 'nothing'})")
    dtype, ndim = np.dtype(_DTYPES[magic[2]]), magic[3]
    header = stream.read(4 * ndim)
    if len(header) != 4 * ndim:
        raise ValueError(f"{name}: truncated IDX header")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    need = math.prod(shape) * dtype.itemsize
    if need + 4 + 4 * ndim > limit:
        raise ValueError(f"{name}: IDX shape {shape} needs {need} bytes, more than the file holds")

    data = bytearray()  # grows with what is really there, so a false claim costs nothing
    while len(data) < need and (chunk := stream.read(min(_CHUNK, need - len(data)))):
        data += chunk
    if len(data) < need:
        raise ValueError(f"{name}: truncated IDX data: {len(data)} bytes of {need}")
    if stream.read(1):
        raise ValueError(f"{name}: IDX data goes on after the {need} bytes of shape {shape}")
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError:  # beside an axis of no elements the others may be any number
        raise ValueError(f"{name}: no array can have the IDX shape {shape}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)
