"""Data files as tables and arrays: types, missing values, and what is refused."""

import gzip
import io
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from block_extras import needs_extra
from fastgd._idx import read_idx
from fastgd.tables import Arrays, Table, read

needs_pyarrow = needs_extra("pyarrow", "data")

CSV = """\
age, city ,paid,member,empty,code
31,Bern,1.5,true,,7
,"Basel, Stadt",2,false,NA,008
-4,?,inf,TRUE,n/a,x
"""


def write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@needs_pyarrow
@pytest.mark.parametrize("compress", [False, True])
def test_csv_columns_have_the_types_of_their_values(tmp_path, compress):
    data = gzip.compress(CSV.encode()) if compress else CSV
    # The name does not matter: compression is seen from the content.
    table = read(write(tmp_path / "people", data))
    assert isinstance(table, Table)
    assert table.n_rows == 3
    assert list(table.columns) == ["age", "city", "paid", "member", "empty", "code"]
    np.testing.assert_array_equal(table.columns["age"], [31.0, np.nan, -4.0])
    assert table.columns["city"].tolist() == ["Bern", "Basel, Stadt", None]
    np.testing.assert_array_equal(table.columns["paid"], [1.5, 2.0, np.inf])
    assert table.columns["member"].dtype == bool
    assert table.columns["member"].tolist() == [True, False, True]
    assert np.isnan(table.columns["empty"]).all()
    assert table.columns["code"].tolist() == ["7", "008", "x"]


@needs_pyarrow
def test_csv_integers_stay_integers_and_text_stays_text_if_asked(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n1,01\n2,2\n")
    assert read(path).columns["b"].dtype == np.int64
    kept = read(path, text=["b"]).columns
    assert kept["a"].tolist() == [1, 2]
    assert kept["b"].tolist() == ["01", "2"]


@needs_pyarrow
def test_csv_type_follows_from_the_whole_column_not_its_first_block(tmp_path):
    rows = "".join(f"{i},{'0' * 80}\n" for i in range(250_000))  # 21 MB
    path = write(tmp_path / "long.csv", "a,b\n" + rows + "late,0\n")
    table = read(path)
    assert table.n_rows == 250_001
    assert table.columns["a"][-2:].tolist() == ["249999", "late"]


@needs_pyarrow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n1;2,5\n2;3\n", [2.5, 3.0]),
        ("a\tb\n1\t2.5\n2\t3\n", [2.5, 3.0]),
        ("\ufeffa,b\n1,2.5\n\n2,3\n", [2.5, 3.0]),
        ("a,b\r\n1,2.5\r\n2,3", [2.5, 3.0]),
        ('a,b\n"1\n2",2.5\nx,3\n', [2.5, 3.0]),
    ],
)
def test_csv_dialects(tmp_path, text, expected):
    table = read(write(tmp_path / "a.csv", text))
    assert list(table.columns) == ["a", "b"]
    assert table.columns["b"].tolist() == expected


@needs_pyarrow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,4\n5\n", "line 4: 1 fields where line 1 has 2"),
        ('a,b\n"1\n\n",2\n\n3,4,5\n', "line 6: 3 fields where line 1 has 2"),
        ("a,b,a\n1,2,3\n", "twice: 'a'"),
        ("a,a \n1,2\n", "twice: 'a'"),
        ("a,b\n", "no rows"),
        ("\n\n", "no columns"),
        ("1.5,2\n3,4\n", "line 1 holds numbers"),
        (b"a,b\n\xff\xfe,1\n", "UTF-?8"),
        (b"\xff\xfea,b\n", "UTF-?8"),
    ],
)
def test_csv_mistakes_name_the_file_and_the_place(tmp_path, text, message):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_pyarrow
def test_csv_ragged_line_is_found_in_a_compressed_file(tmp_path):
    path = write(tmp_path / "bad.csv.gz", gzip.compress(b"a,b\n1,2\n3\n"))
    with pytest.raises(ValueError, match=r"line 3: 1 fields"):
        read(path)


def test_truncated_gzip_is_refused(tmp_path):
    data = gzip.compress(CSV.encode())
    path = write(tmp_path / "cut.csv.gz", data[: len(data) // 2])
    # Without pyarrow the message may be about that instead; either way nothing is read.
    with pytest.raises((ValueError, ImportError), match=str(path)):
        read(path)


@needs_pyarrow
def test_parquet_columns(tmp_path):
    import datetime
    import decimal

    from block_extras import has

    path = tmp_path / "t.parquet"
    if not has("pyarrow"):
        read(write(path, b"PAR1...."))
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "i": pa.array([1, 2], pa.int8()),
        "big": pa.array([1, 2**64 - 1], pa.uint64()),
        "gap": pa.array([1, None], pa.int32()),
        "f": pa.array([0.5, None], pa.float32()),
        "flag": pa.array([True, False]),
        "flag_gap": pa.array([True, None]),
        "s": pa.array(["x", None]),
        "big_s": pa.array(["x", "y"], pa.large_string()),
        "d": pa.array(["u", "v"]).dictionary_encode(),
        "dec": pa.array([decimal.Decimal("1.25"), None]),
        "day": pa.array([datetime.date(1970, 1, 3), None]),
        "time": pa.array([datetime.datetime(1970, 1, 1, 12), None]),
        "none": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), path)
    table = read(path).columns
    nan = np.nan
    expected = {
        "i": [1, 2],
        "big": [1.0, 2.0**64],
        "gap": [1.0, nan],
        "f": [0.5, nan],
        "flag": [True, False],
        "flag_gap": [1.0, nan],
        "s": ["x", None],
        "big_s": ["x", "y"],
        "d": ["u", "v"],
        "dec": [1.25, nan],
        "day": [2.0, nan],
        "time": [0.5, nan],
        "none": [nan, nan],
    }
    assert list(table) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table[name], np.array(values, table[name].dtype), name)
    assert table["i"].dtype == np.int64
    assert table["flag"].dtype == bool


@needs_pyarrow
def test_parquet_mistakes_name_the_file_and_the_column(tmp_path):
    path = write(tmp_path / "bad.parquet", b"PAR1 this is no parquet file PAR1")
    with pytest.raises(ValueError, match=r"bad\.parquet"):
        read(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1], "pair": [[1, 2]]}), path)
    with pytest.raises(ValueError, match=r"bad\.parquet: column 'pair' is of type list"):
        read(path)


def test_npz_holds_samples_and_target(tmp_path):
    path = tmp_path / "a.npz"
    X = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    np.savez(path, x=X, y=np.array([[0], [1], [0], [1]]), other=np.arange(4.0))
    arrays = read(path)
    assert isinstance(arrays, Arrays)
    np.testing.assert_array_equal(arrays.X, X.reshape(4, 6))
    assert arrays.y.tolist() == [0, 1, 0, 1]
    assert read(path, target="other").y.tolist() == [0.0, 1.0, 2.0, 3.0]
    np.savez_compressed(path, data=X)
    assert read(path).y is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, r"no array named X.*its arrays: 'a'\)"),
        ({"X": np.zeros(3)}, "two or more dimensions"),
        ({"X": np.zeros((3, 2), complex)}, "complex128"),
        ({"X": np.array([["a"]])}, "real numbers"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, r"y of shape \(2,\)"),
        ({"X": np.zeros((3, 2)), "y": np.zeros((3, 2))}, r"y of shape \(3, 2\)"),
        ({"X": np.array([[object()]])}, "pickle"),
    ],
)
def test_npz_mistakes_name_the_file_and_the_array(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_npz_whose_arrays_have_strange_names_or_many_is_shown_as_text(tmp_path):
    path = tmp_path / "a.npz"
    npz_of(path, {"\x1b]0;pwned\x07.npy": b"", "b\nc.npy": b"", "d" * 999 + ".npy": b""})
    with pytest.raises(ValueError, match="holds no array named") as caught:
        read(path)
    end = f"(its arrays: '\\x1b]0;pwned\\x07', 'b\\nc', '{'d' * 100}...')"
    assert str(caught.value).endswith(end)
    npz_of(path, {f"a{i}.npy": b"" for i in range(1000)})
    with pytest.raises(ValueError, match=r"'a19' and 980 more\)$"):
        read(path)


@needs_pyarrow
def test_what_a_message_quotes_of_a_file_is_shown_as_text(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n1,2\n\x1b]0;pwned\x07,3\n")
    read(write(tmp_path / "good.csv", CSV))
    import pyarrow.csv

    def fails(*arguments):
        raise pyarrow.ArrowInvalid("what is quoted: \x1b]0;pwned\x07 ä\nmore")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyarrow.csv, "read_csv", fails)
        with pytest.raises(ValueError, match=r": what is quoted: \\x1b]0;pwned\\x07 ä$"):
            read(path)


def test_npz_target_that_is_not_there_lists_the_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 2)), y=np.zeros(3))
    with pytest.raises(ValueError, match=r"no array 'cost' \(its arrays: 'X', 'y'\)"):
        read(tmp_path / "a.npz", target="cost")


def test_npz_damaged_or_with_a_false_size_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, X=np.random.default_rng(0).random((50, 4)))
    good = path.read_bytes()
    for data in (good[: len(good) // 2], good[:200] + bytes(20) + good[220:]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.npz"):
            read(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824, 1024), }\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match=r"a\.npz"):
        read(path)


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def test_idx_labels_are_given_or_found_beside_the_images(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    labels = np.array([1, 0, 2], dtype=np.uint8)
    path = write(tmp_path / "t10k-images-idx3-ubyte.gz", gzip.compress(idx(images)))
    assert read(path).y is None
    other = write(tmp_path / "other", idx(labels))
    arrays = read(path, labels=other)
    np.testing.assert_array_equal(arrays.X, images.reshape(3, 8))
    assert arrays.y.tolist() == [1, 0, 2]
    write(tmp_path / "t10k-labels-idx1-ubyte.gz", gzip.compress(idx(labels[::-1].copy())))
    assert read(path).y.tolist() == [2, 0, 1]
    write(other, idx(labels[:2]))
    with pytest.raises(ValueError, match=r"other: labels of shape \(2,\) for 3 samples"):
        read(path, labels=other)
    with pytest.raises(ValueError, match="two or more dimensions"):
        read(other)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"\x7fELF\0\0\0\0", "neither CSV"), (b"ab\0\0", "neither CSV")],
)
def test_foreign_files_are_refused(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "foreign", data))


def test_labels_go_with_idx_only(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not an IDX file"):
        read(tmp_path / "a.npz", labels=tmp_path / "y")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    images = write(tmp_path / "images", idx(np.zeros((3, 2, 4), np.uint8)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    calls = [
        lambda: read(pipe),
        lambda: read(images, labels=pipe),
        lambda: read(tmp_path),
        lambda: read_idx(pipe),
        lambda: read_idx("/dev/zero"),
        lambda: read("/dev/zero"),
    ]
    with os.fdopen(os.open(pipe, os.O_RDWR), "r+b", 0) as file:
        file.write(b"\x7fELF".ljust(4096, b"\0"))
        for call in calls:
            with pytest.raises(ValueError, match="is not a regular file"):
                call()
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        read(pipe)


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.csv")


def npz_of(name, members):
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def npy(shape, dtype="<f8", data=b""):
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**6, 10**6)), r"X of shape \(1000000, 1000000\) needs 8000000000000 bytes"),
        (npy((2, 2), "<f8", bytes(24)), "expected 32 bytes got 24"),
        (npy((2, 2), "|O"), "Object arrays cannot be loaded"),
        (npy((-1, 4)), "a.npz"),
        (b"\x93NUMPY\x07\x00", "version"),
        (b"", "a.npz"),
    ],
)
def test_npz_that_claims_more_than_it_holds_is_refused(tmp_path, content, message):
    """Before NumPy reserves what the header says."""
    npz_of(tmp_path / "a.npz", {"X.npy": content})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("method", "packed", "unpacked", "extra", "message"),
    [
        (zipfile.ZIP_STORED, 10**8, 10**8, 0, "X takes 100000000 bytes, more than the file has"),
        (zipfile.ZIP_DEFLATED, 10**8, 10**8, 0, "X takes 100000000 bytes, more than the file has"),
        (zipfile.ZIP_STORED, 2000, 10**6, 0, "X claims 1000000 bytes, more than the file can hold"),
        (zipfile.ZIP_STORED, 3000, 3000, 500, "the file ends within an array"),
    ],
)
def test_npz_whose_directory_claims_more_than_the_file_has_is_refused(
    tmp_path, method, packed, unpacked, extra, message
):
    path = tmp_path / "a.npz"
    array = npy((unpacked - 100, 1), "|u1", bytes(2000))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("X.npy", (bytes(extra) + array).ljust(3000))
    content = bytearray(path.read_bytes())
    content[28:30] = struct.pack("<H", extra)  # bytes between the member's name and its content
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", packed, unpacked)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"a\.npz: {message}"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_npz_of_other_methods_of_compression_is_refused(tmp_path):
    """Their ratio has no bound."""
    file = io.BytesIO()
    np.save(file, np.zeros((3, 2)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("X.npy", file.getvalue())
    with pytest.raises(ValueError, match="another method than deflate"):
        read(tmp_path / "a.npz")


@needs_pyarrow
def test_very_many_columns_are_read_in_time(tmp_path):
    """Two equal names among them are found without comparing all with all."""
    names = [f"c{i}" for i in range(60_000)]
    path = tmp_path / "a.csv"
    path.write_text(",".join([*names, "c7"]) + "\n" + ",".join("1" * 60_001) + "\n")
    began = time.process_time()
    with pytest.raises(ValueError, match=r"column names occur twice: 'c7'$"):
        read(path)
    assert time.process_time() - began < 5


@needs_pyarrow
@pytest.mark.parametrize(
    ("n_columns", "value", "is_read"), [(30_000, "1", True), (30_001, "1", False),
                                        (30_001, "1" * 100, True)]
)  # fmt: skip
def test_csv_files_of_little_else_than_columns_are_refused(tmp_path, n_columns, value, is_read):
    """Each takes memory, however little of it is in the file."""
    names = ",".join(f"c{i}" for i in range(n_columns))
    path = write(tmp_path / "a.csv", f"{names}\n{','.join([value] * n_columns)}\n")
    if is_read:
        assert len(read(path).columns) == n_columns
        return
    with pytest.raises(ValueError, match=r"a\.csv: 30,001 columns in [0-9,]+ bytes; more than 30,"):
        read(path)


@needs_pyarrow
def test_a_message_about_equal_names_does_not_list_thousands(tmp_path):
    names = [f"c{i}" for i in range(1000)]
    (tmp_path / "a.csv").write_text(",".join(names + names) + "\n" + ",".join("1" * 2000) + "\n")
    with pytest.raises(ValueError, match=r"and 980 more$"):
        read(tmp_path / "a.csv")
