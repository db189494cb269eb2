"""IDX files: what is read, and what is refused before it costs memory."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgd._idx import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """Encode an array as IDX, independently of the reader."""
    kind = array.dtype.str[1:]
    header = bytes([0, 0, CODES[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(">" + kind).tobytes()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", CODES)
def test_read_idx_returns_every_type(tmp_path, dtype, compress):
    array = (np.arange(24).reshape(2, 3, 4) * 5 - 50).astype(dtype)
    data = idx_bytes(array)
    path = tmp_path / "a-idx"
    path.write_bytes(gzip.compress(data) if compress else data)
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


def test_read_idx_accepts_an_empty_array(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(idx_bytes(np.zeros((0, 5), "u1")))
    assert read_idx(path).shape == (0, 5)


GOOD = idx_bytes(np.arange(12, dtype="u1").reshape(3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x01" + GOOD[1:], "not an IDX file"),
        (b"\0\0\x0a" + GOOD[3:], "not an IDX file"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"\0\0\x08\xff", "not an IDX file"),
        (GOOD[:9], "truncated IDX header"),
        (GOOD[:-1], "more than the file holds"),
        (GOOD + b"x", "goes on after"),
        (gzip.compress(GOOD[:-1]), "truncated IDX data: 11 bytes of 12"),
        (gzip.compress(GOOD + b"x"), "goes on after"),
        (gzip.compress(GOOD)[:-9], "damaged gzip"),
        (gzip.compress(GOOD)[:12] + b"\xff\xff\xff" + gzip.compress(GOOD)[15:], "damaged gzip"),
        (b"\x1f\x8bnot gzip", "damaged gzip"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1), "no array can have the"),
    ],
)
def test_read_idx_refuses_a_damaged_file_and_names_it(tmp_path, data, message):
    path = tmp_path / "bad-file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compress", [False, True])
def test_read_idx_refuses_a_huge_claim_without_reserving_it(tmp_path, compress):
    data = bytes([0, 0, 0x0E, 4]) + struct.pack(">4I", *[0xFFFFFFFF] * 4) + b"\0" * 100
    path = tmp_path / "huge"
    path.write_bytes(gzip.compress(data) if compress else data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than the file holds"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_read_idx_of_any_flipped_byte_is_read_or_refused(tmp_path_factory, place, flip):
    data = bytearray(GOOD)
    data[place] ^= flip
    path = tmp_path_factory.mktemp("idx") / "flipped"
    path.write_bytes(data)
    if place >= 12 or data[:4] == b"\0\0\x09\x02":  # every value of the data is legal
        assert read_idx(path).tobytes() == bytes(data[12:])
    else:
        with pytest.raises(ValueError, match="flipped"):
            read_idx(path)


def test_read_idx_of_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_idx(tmp_path / "absent")
