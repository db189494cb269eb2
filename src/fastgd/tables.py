"""Read data files for the command line: CSV, Parquet, NPZ and IDX, recognised by their content.

CSV and Parquet are read by pyarrow (the extra ``data``); nothing here changes a value's meaning:
encoding and scaling belong to `fastgd.preprocess.Preprocessor`.
"""

import csv
import gzip
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ._files import open_regular, printable
from ._idx import MAX_DEFLATE_RATIO, read_idx
from ._imports import needed
from ._listing import listed

__all__ = ["Arrays", "Table", "read"]

# Read as missing in every column of a CSV file, whatever their case.
MISSING = ("", "?", "na", "n/a", "#n/a", "nan", "-nan", "null", "none")
X_NAMES = ("X", "x", "data", "images", "x_train")
Y_NAMES = ("y", "Y", "target", "labels", "y_train")
# pyarrow takes some 10 KB for a column of CSV, however few bytes it has in the file: columns of any
# file, and the bytes for each from which there may be more.
_MOST_COLUMNS = 30_000
_COLUMN_BYTES = 100


@dataclass(frozen=True)
class Table:
    """Named columns of one length.

    Attributes
    ----------
    source : str
        The file that it came from, for messages.
    columns : dict of str to ndarray of shape (n_rows,)
        int64, bool, float64 (missing: NaN), or object holding str (missing: None).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.tables import Table
    >>> Table("made by hand", {"size": np.array([1.5, np.nan])}).n_rows
    2
    """

    source: str
    columns: dict[str, np.ndarray]

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True)
class Arrays:
    """Samples of one type, such as images, with or without a target.

    Attributes
    ----------
    source : str
        The file that it came from, for messages.
    X : ndarray of shape (n_rows, n_features)
        Real numbers; images are flattened.
    y : ndarray of shape (n_rows,) or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.tables import Arrays
    >>> Arrays("made by hand", np.zeros((3, 2)), None).n_rows
    3
    """

    source: str
    X: np.ndarray
    y: np.ndarray | None

    @property
    def n_rows(self) -> int:
        return len(self.X)


def read(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    text: Collection[str] = (),
) -> Table | Arrays:
    """Read one data file.

    Parameters
    ----------
    path : CSV (comma, semicolon or tab; gzip-compressed or not; first line = column names),
        Parquet, NPZ, or IDX (gzip-compressed or not).
    target : name of the array of an NPZ file that is the target; otherwise the first of y, Y,
        target, labels, y_train that the file holds.
    labels : IDX file of the labels. Without it, a file whose name is that of an images file
        (images-idx3) is looked for beside it under the name of its labels (labels-idx1).
    text : columns of a CSV file to keep as text even if every value is a number.

    Returns
    -------
    Table or Arrays

    Raises
    ------
    OSError
        A file cannot be opened.
    ValueError
        A file is not what it should be, or no regular file, such as a pipe; the message names the
        file and, for CSV, the line.
    ImportError
        CSV or Parquet without pyarrow; the message holds the command that installs it.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastgd import tables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "data.npz")
    ...     np.savez(path, X=np.zeros((3, 2)), y=np.arange(3))
    ...     data = tables.read(path)
    >>> data.X.shape, data.y
    ((3, 2), array([0, 1, 2]))
    """
    name = os.fspath(path)
    with open_regular(path) as file:
        start = file.read(512)
    if not start:
        raise ValueError(f"{name}: the file is empty")
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as stream:
                inner = stream.read(512)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{name}: damaged gzip data ({error})") from None
    else:
        inner = start

    if inner.startswith(b"\0\0"):
        return _read_idx_pair(name, os.fspath(labels) if labels else None)
    if labels is not None:
        raise ValueError(f"{name} is not an IDX file, so a file of labels does not go with it")
    if start.startswith(b"PK\x03\x04"):
        return _read_npz(name, target)
    if start.startswith(b"PAR1"):
        return _read_parquet(name)
    if b"\0" in inner:
        raise ValueError(f"{name}: neither CSV, Parquet, NPZ nor IDX")
    return _read_csv(name, compressed=start is not inner, text=text)


def _read_idx_pair(name: str, labels: str | None) -> Arrays:
    X = read_idx(name)
    if X.ndim < 2:
        raise ValueError(f"{name}: an IDX file of samples has two or more dimensions, not {X.ndim}")
    if labels is None:
        folder, file = os.path.split(name)
        sibling = os.path.join(folder, re.sub(r"images([-.])idx\d", r"labels\1idx1", file))
        labels = sibling if sibling != name and os.path.exists(sibling) else None
    y = None
    if labels is not None:
        y = read_idx(labels)
        if y.shape != X.shape[:1]:
            raise ValueError(f"{labels}: labels of shape {y.shape} for {len(X)} samples of {name}")
    return Arrays(name, X.reshape(len(X), math.prod(X.shape[1:])), y)


# What zipfile and NumPy find wrong: methods of compression that zipfile does not know, passwords,
# names that are not there, members that end too early or have other bytes than they should, headers
# that are no Python
_NPZ_ERRORS = (
    ValueError, OSError, MemoryError, RuntimeError, LookupError, SyntaxError,
    tokenize.TokenError, zlib.error, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read one array of an NPZ file, whose size is compared with the file's before it is made."""
    about = archive.getinfo(f"{name}.npy")
    if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by another method than deflate")
    assert archive.fp is not None
    size = os.fstat(archive.fp.fileno()).st_size
    if about.header_offset + about.compress_size > size:
        raise ValueError(f"{name} takes {about.compress_size} bytes, more than the file has")
    ratio = 1 if about.compress_type == zipfile.ZIP_STORED else MAX_DEFLATE_RATIO
    if about.file_size > ratio * about.compress_size + 1024:
        raise ValueError(f"{name} claims {about.file_size} bytes, more than the file can hold")
    with archive.open(about) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADERS:
            raise ValueError(f"{name} is of version {version} of the format NPY")
        try:
            shape, _, dtype = _NPY_HEADERS[version](stream)
        except TypeError as error:  # NumPy sorts the keys, whatever they are
            raise ValueError(f"{name} has a header whose keys are no names") from error
    need = math.prod(shape) * max(dtype.itemsize, 1)
    if not all(0 <= n < 2**63 for n in shape):  # beside an axis of no elements, for instance
        raise ValueError(f"{name} of shape {shape} has an axis that no array can have")
    if need > about.file_size:
        raise ValueError(f"{name} of shape {shape} needs {need} bytes, more than the file holds")
    with archive.open(about) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    # Not the type that the header names: an array of small arrays is read as one of their elements.
    if array.dtype.kind == "U":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        points = np.ascontiguousarray(array).view(np.uint32)
        if (points > 0x10FFFF).any() or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ValueError(f"{name} holds text that is no Unicode")
    return array


_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _read_npz(name: str, target: str | None) -> Arrays:
    try:
        with open_regular(name) as raw, np.load(raw, allow_pickle=False) as file:
            x_name = next((key for key in X_NAMES if key in file.files and key != target), None)
            y_name = target or next((key for key in Y_NAMES if key in file.files), None)
            listing = listed(file.files) or "none"
            if x_name is None:
                names = ", ".join(X_NAMES)
                raise ValueError(f"holds no array named {names} (its arrays: {listing})")
            if y_name is not None and y_name not in file.files:
                raise ValueError(f"holds no array {y_name!r} (its arrays: {listing})")
            X = _member(file.zip, x_name)
            y = None if y_name is None else _member(file.zip, y_name)
    except EOFError:  # zipfile's has no text
        raise ValueError(f"{name}: the file ends within an array") from None
    except _NPZ_ERRORS as error:
        raise ValueError(f"{name}: {_one_line(error)}") from None
    if X.ndim < 2 or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: {x_name} must hold real numbers in two or more dimensions, "
            f"not {X.dtype} in {X.ndim}"
        )
    if y is not None:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != X.shape[:1] or y.dtype.kind not in "biufU":
            raise ValueError(
                f"{name}: {y_name} of shape {y.shape} and type {y.dtype} is no target for "
                f"{len(X)} samples"
            )
    return Arrays(name, X.reshape(len(X), math.prod(X.shape[1:])), y)


def import_pyarrow(name: str, module: str) -> tuple[ModuleType, ModuleType]:
    """Import pyarrow and one of its modules, or say how to install it."""
    pa, _, found = (
        needed(wanted, "data", f"reading {name}")
        for wanted in ("pyarrow", "pyarrow.compute", f"pyarrow.{module}")
    )
    return pa, found


def _read_csv(name: str, compressed: bool, text: Collection[str]) -> Table:
    pa, pa_csv = import_pyarrow(name, "csv")
    header, delimiter = _csv_header(name, compressed)
    try:
        with pa.input_stream(name, compression="gzip" if compressed else None) as stream:
            # As text first, so that a column's type follows from all of it, not from its first
            # block, and a code such as "7" can be kept apart from the number.
            data = pa_csv.read_csv(
                stream,
                pa_csv.ReadOptions(block_size=1 << 24),
                pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                pa_csv.ConvertOptions(
                    column_types={column: pa.string() for column in header},
                    strings_can_be_null=False,
                ),
            )
    except (ValueError, OSError) as error:
        ragged = _ragged_line(name, compressed, delimiter, len(header))
        raise ValueError(f"{name}: {ragged or _one_line(error)}") from None
    if not data.num_rows:
        raise ValueError(f"{name}: there are no rows below the column names")
    return Table(
        name,
        {
            column: _from_text(pa, data.column(i), keep=column in text, comma=delimiter == ";")
            for i, column in enumerate(map(str.strip, header))
        },
    )


def _open_text(name: str, compressed: bool) -> Any:
    opener = gzip.open if compressed else open
    return opener(name, "rt", encoding="utf-8-sig", newline="")


def _csv_header(name: str, compressed: bool) -> tuple[list[str], str]:
    """Read the column names and find the delimiter, refusing names that cannot be told apart."""
    try:
        with _open_text(name, compressed) as file:
            first = next((line for line in file if line.strip()), "")
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            header = next((row for row in csv.reader(file, delimiter=delimiter) if row), [])
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{name}: damaged gzip data ({_one_line(error)})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name}: not UTF-8 text ({_one_line(error)})") from None
    _check_names(name, [column.strip() for column in header])
    size = os.path.getsize(name)
    if len(header) > max(_MOST_COLUMNS, size // _COLUMN_BYTES):
        raise ValueError(
            f"{name}: {len(header):,} columns in {size:,} bytes; more than {_MOST_COLUMNS:,} are "
            f"read where the file has {_COLUMN_BYTES} bytes for each. Parquet and NPZ take any"
        )
    numbers = [is_number(column) for column in header]
    if all(numbers) and header != [str(i) for i in range(len(header))]:
        raise ValueError(f"{name}: line 1 holds numbers where the column names should be")
    return header, delimiter


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ragged_line(name: str, compressed: bool, delimiter: str, width: int) -> str | None:
    """Find the first line with too many or too few fields and describe it."""
    try:
        with _open_text(name, compressed) as file:
            rows = csv.reader(file, delimiter=delimiter)
            for row in rows:
                if row and len(row) != width:
                    return f"line {rows.line_num}: {len(row)} fields where line 1 has {width}"
    except (csv.Error, UnicodeDecodeError, EOFError, OSError, zlib.error):
        pass
    return None


def _check_names(name: str, columns: list[str]) -> None:
    if not columns:
        raise ValueError(f"{name}: there are no columns")
    twice = sorted(column for column, count in Counter(columns).items() if count > 1)
    if twice:
        raise ValueError(f"{name}: column names occur twice: {listed(twice)}")


def _from_text(pa: Any, column: Any, keep: bool, comma: bool) -> np.ndarray:
    """Convert a column of text: integers, else floats, else booleans, else text.

    With `comma`, as where semicolons separate the fields, 2,5 is a number too.
    """
    pc = pa.compute
    column = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(pc.utf8_lower(column), pa.array(MISSING))
    column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    if not keep:
        points = pc.replace_substring(column, ",", ".") if comma else column
        # Integers first: "0" and "1" would pass for booleans.
        for values, kind in ((column, pa.int64()), (points, pa.float64()), (column, pa.bool_())):
            try:
                return _to_numpy(pa, values.cast(kind))
            except pa.ArrowInvalid:
                continue
    return _to_numpy(pa, column)


def _read_parquet(name: str) -> Table:
    pa, pq = import_pyarrow(name, "parquet")
    try:
        data = pq.read_table(name)
    except (ValueError, OSError, MemoryError, pa.ArrowException) as error:
        raise ValueError(f"{name}: {_one_line(error)}") from None
    _check_names(name, data.column_names)
    if not data.num_rows:
        raise ValueError(f"{name}: there are no rows")
    columns = {}
    for field, column in zip(data.schema, data.columns, strict=True):
        try:
            columns[field.name] = _from_arrow(pa, column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(
                f"{name}: column {field.name!r} is of type {field.type}, which cannot be used"
            ) from None
        except pa.ArrowException as error:  # text that is not UTF-8
            raise ValueError(f"{name}: column {field.name!r}: {_one_line(error)}") from None
    return Table(name, columns)


def _from_arrow(pa: Any, column: Any) -> np.ndarray:
    """Convert a typed column; times become days since 1970."""
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_integer(kind) and kind != pa.uint64():
        column = column.cast(pa.int64())
    elif types.is_temporal(kind) and (types.is_timestamp(kind) or types.is_date(kind)):
        micro = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        column = pa.compute.divide(micro.cast(pa.float64(), safe=False), 86_400e6)
    elif not (types.is_boolean(kind) or types.is_string(kind)):
        text = types.is_large_string(kind) or types.is_string_view(kind)
        column = column.cast(pa.string() if text else pa.float64(), safe=False)
    return _to_numpy(pa, column)


def _to_numpy(pa: Any, column: Any) -> np.ndarray:
    """Convert int64, float64, bool or string to the forms that `Table` states."""
    types = pa.types
    if column.null_count and not types.is_string(column.type):
        if types.is_boolean(column.type):
            column = column.cast(pa.int8())
        column = column.cast(pa.float64(), safe=False)
    if types.is_floating(column.type):
        column = column.fill_null(math.nan)
    return np.array(column.to_numpy(zero_copy_only=False))


def _one_line(error: BaseException) -> str:
    return printable(str(error).strip().split("\n", 1)[0]) or type(error).__name__
