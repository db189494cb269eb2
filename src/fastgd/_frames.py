"""Tables of pandas, polars and pyarrow to arrays, through narwhals (the extra `data`).

Nothing is imported before a table comes. What is not plainly a number is refused, and the column
is named: encoding is the caller's, or `preprocess.Preprocessor`'s.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from . import _kernels
from ._imports import needed
from ._listing import listed
from ._validate import _NATIVE, Array, _finite

__all__ = [
    "check_names",
    "check_not_lazy",
    "column_of",
    "features_among",
    "is_frame",
    "is_of_pyarrow",
    "labels_of",
    "labels_of_schema",
    "names_line",
    "names_of",
    "plain_names",
    "rows_into",
    "rows_of",
    "select",
    "to_array",
    "to_features",
]

_FRAMES = ("DataFrame", "Table", "RecordBatch")
# Bytes of the columns of another dtype that are converted at a time
_CONVERTED_BYTES = 1 << 22
# Names of columns that a summary lists at most
_MOST_NAMES = 8


def is_frame(value: object) -> bool:
    """Return whether a value that `is_table` has columns, and is not one itself."""
    return any(kind.__name__ in _FRAMES for kind in type(value).__mro__)


def _narwhals() -> ModuleType:
    return needed("narwhals", "data", "reading a table")


def _read(name: str, value: Any) -> Any:
    """Return a table as narwhals has it: a DataFrame or a Series."""
    nw = _narwhals()
    check_not_lazy(name, value)
    kinds = [kind.__name__ for kind in type(value).__mro__]
    root = type(value).__module__.partition(".")[0]
    if root == "pyarrow" and "Table" not in kinds and "ChunkedArray" not in kinds:
        import pyarrow as pa

        is_batch = "RecordBatch" in kinds
        value = pa.Table.from_batches([value]) if is_batch else pa.chunked_array([value])
    _check_unique(name, labels_of(value) if is_frame(value) else [])
    return nw.from_native(value, eager_only=True, allow_series=True, pass_through=False)


def check_not_lazy(name: str, value: object) -> None:
    if any(kind.__name__ == "LazyFrame" for kind in type(value).__mro__):
        own = name.split()[-1]
        raise ValueError(f"{name} is a LazyFrame, which holds no rows yet; give {own}.collect()")


def labels_of(table: Any) -> list[Any]:
    """Return the names of the columns as the table has them; pandas takes any object."""
    if is_of_pyarrow(table):
        return labels_of_schema(table.schema)
    return list(table.columns)


def is_of_pyarrow(table: object) -> bool:
    return type(table).__module__.partition(".")[0] == "pyarrow"


def labels_of_schema(schema: Any) -> list[str]:
    """Return the names of the columns but those that hold the index of a pandas frame."""
    names: list[str] = schema.names
    left_out = _index_labels(schema) if schema.metadata else None
    return [label for label in names if label not in left_out] if left_out else names


def _index_labels(schema: Any) -> set[str]:
    """Return the names that pandas notes for an index; what it could not have noted counts not."""
    try:
        about = schema.pandas_metadata
    except (ValueError, RecursionError):  # no JSON, no UTF-8, too deep
        return set()
    index = about.get("index_columns") if isinstance(about, dict) else None
    return (
        {label for label in index if isinstance(label, str)} if isinstance(index, list) else set()
    )


def _without_index(table: Any) -> Any:
    """Return a table of pyarrow without the columns that hold the index of a pandas frame."""
    labels = labels_of_schema(table.schema)
    return table if len(labels) == table.num_columns else table.select(labels)


def _check_unique(name: str, labels: list[Any]) -> None:
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise ValueError(f"{name} has several columns of the name {listed(twice)}; rename them")


def names_of(name: str, table: Any) -> tuple[str, ...] | None:
    """Return the names of a table's columns; None if none of them is text, as by default."""
    if not is_frame(table):
        return None
    labels = labels_of(table)
    texts = [isinstance(label, str) for label in labels]
    if not any(texts):
        return None
    if not all(texts):
        odd = labels[texts.index(False)]
        raise TypeError(
            f"{name} has columns with names of text and others, such as {odd!r}; make all of them "
            "text, for example with .columns.astype(str)"
        )
    return tuple(labels)


def check_names(
    name: str, found: Sequence[str], expected: Sequence[str], of: str = "the network was fitted on"
) -> None:
    """Refuse columns that are not those expected in their order, and say which are not."""
    if tuple(found) == tuple(expected):
        return
    there, known = set(found), set(expected)
    missing = [label for label in expected if label not in there]
    added = [label for label in found if label not in known]
    problems = [f"lacks {_columns(missing)}"] * bool(missing)
    problems += [f"has {_columns(added)} beyond those that {of}"] * bool(added)
    if not problems:
        pairs = list(zip(found, expected, strict=True))
        at = next(i for i, (one, other) in enumerate(pairs) if one != other)
        problems.append(
            f"has its columns in another order: column {at} is {found[at]!r} where "
            f"{expected[at]!r} is expected"
        )
    raise ValueError(
        f"{name} {' and '.join(problems)}; expected, in this order: {listed(expected)}"
    )


def _columns(labels: Sequence[Any]) -> str:
    return f"the column{'s' * (len(labels) > 1)} {listed(labels)}"


# ---- values ---------------------------------------------------------------------------------


def to_features(name: str, table: Any, dtype: np.dtype[Any]) -> Array:
    """Return a table as X (n_samples, n_columns): a view where it lies in memory as an array does.

    Columns of one dtype that lie at equal distances are such a view; that is what a table made of
    one array is, and often one that was read at once. Otherwise X is a copy in rows: in the
    columns' dtype if they share one that is not wider than the network's, else in the network's.
    """
    check_not_lazy(name, table)
    if not is_frame(table):
        own = name.split()[-1]
        raise ValueError(f"{name} is a single column; give a table, such as {own}.to_frame()")
    return to_array(name, table, dtype)


def to_array(name: str, table: Any, dtype: np.dtype[Any] | None = None) -> Array:
    """Return a table (n_rows, n_columns), or a column (n_rows,), as an array.

    Without dtype a table whose columns differ has the dtype that NumPy finds for all of them.
    """
    if not is_frame(table):
        return _column(name, None, _read(name, table))
    _narwhals()  # also for what does without it below: a table either can be read or not
    if is_of_pyarrow(table):
        table = _without_index(table)
    labels = labels_of(table)
    columns = _arrow_columns(name, table)
    if columns is None:
        found = _read(name, table)
        columns = [
            _column(name, label, series)
            for label, series in zip(labels, found.iter_columns(), strict=True)
        ]
        if not columns:
            return np.empty((len(found), 0), np.float32 if dtype is None else dtype)
    view = _as_one(columns)
    if view is not None:
        return view
    common = columns[0].dtype
    if any(column.dtype != common for column in columns):
        common = np.result_type(*columns) if dtype is None else dtype
    elif dtype is not None and common.itemsize > dtype.itemsize:
        common = dtype
    rows = np.empty((len(columns[0]), len(columns)), common)
    with np.errstate(over="ignore"):
        _fill(rows, columns)
    if dtype is not None and common.kind == "f" and not _kernels.all_finite(rows):
        for label, column in zip(labels, columns, strict=True):
            _finite(name, column[:, np.newaxis], dtype, (str(label),))
    return rows


def _arrow_columns(name: str, table: Any) -> list[Array] | None:
    """Return the columns of a table of pyarrow if it has some and all are numbers without gaps.

    It is the same as `_column` of each, and of hundreds of columns much sooner.
    """
    if not is_of_pyarrow(table):
        return None
    from pyarrow import types

    if not table.schema.types or not all(
        types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
        for kind in set(table.schema.types)
    ):
        return None
    _check_unique(name, labels_of(table))
    columns = table.columns
    if any(column.null_count for column in columns):
        return None
    return [column.to_numpy() for column in columns]


def _column(name: str, label: object, series: Any) -> Array:
    """Return a column as an array of a native real dtype, if it holds numbers without gaps."""
    nw = _narwhals()
    dtype = series.dtype
    where = name if label is None else f"{name}: column {label!r}"
    is_number = dtype.is_numeric() and dtype not in (nw.Int128, nw.UInt128)
    if not is_number and dtype != nw.Boolean:
        native = series.to_native()
        kind = getattr(native, "dtype", getattr(native, "type", dtype))
        raise ValueError(f"{where} is {kind}, not numbers; {_advice(nw, dtype, kind)}")
    if series.null_count():
        row = int(np.flatnonzero(series.is_null().to_numpy())[0])
        raise ValueError(
            f"{where} has no value in row {row}; fill the gaps or leave out those rows"
        )
    if dtype.is_decimal():
        series = series.cast(nw.Float64)
    array: Array = np.asarray(series.to_numpy())
    if array.dtype.kind == "O":  # such as Python's own integers
        array = array.astype(bool if dtype == nw.Boolean else np.float64)
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype not in _NATIVE:
        return array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array


def _advice(nw: ModuleType, dtype: Any, kind: object) -> str:
    if dtype in (nw.Categorical, nw.Enum):
        return "encode categories as numbers first, such as one column for each"
    if dtype in (nw.Date, nw.Datetime, nw.Duration, nw.Time):
        return "turn times into numbers first, such as days since a date"
    if dtype == nw.String:
        return "encode text as numbers first"
    if isinstance(dtype, nw.List | nw.Array | nw.Struct):
        return "give each of its parts a column"
    if "parse" in str(kind):
        return "convert it to a dense column first"
    return "convert it to a column of numbers first"


class _Columns:
    """Columns that lie at equal distances, as one array; keeps all of them alive."""

    def __init__(self, columns: list[Array], stride: int) -> None:
        first = columns[0]
        self._columns = columns
        self.__array_interface__ = {
            "version": 3,
            "data": (first.__array_interface__["data"][0], True),
            "typestr": first.dtype.str,
            "shape": (len(first), len(columns)),
            "strides": (first.strides[0], stride),
        }


def _as_one(columns: list[Array]) -> Array | None:
    """Return columns as one read-only array without a copy, or None where they are scattered."""
    first = columns[0]
    if len(first) == 0 or any(
        column.dtype != first.dtype or column.strides != first.strides for column in columns
    ):
        return None
    places = [column.__array_interface__["data"][0] for column in columns]
    stride = places[1] - places[0] if len(places) > 1 else first.itemsize
    if stride % first.itemsize or any(
        place != places[0] + i * stride for i, place in enumerate(places)
    ):
        return None
    return np.asarray(_Columns(columns, stride))


def _fill(rows: Array, columns: Sequence[Array] | Array) -> None:
    """Copy columns into an array of rows."""
    n_rows, n_columns = rows.shape
    if rows.itemsize > 8:  # long doubles
        for j, column in enumerate(columns):
            rows[:, j] = column
        return
    is_ready = all(
        one.dtype == rows.dtype and one.flags.c_contiguous and one.flags.aligned for one in columns
    )
    step = n_rows if is_ready else max(64, _CONVERTED_BYTES // (n_columns * rows.itemsize))
    for first in range(0, n_rows, max(1, step)):
        parts = [one[first : first + step] for one in columns]
        if not is_ready:
            parts = [np.require(part, rows.dtype, ["C", "A"]) for part in parts]
        _kernels.rows_from_columns(rows[first : first + step], parts)


def rows_into(rows: Array, values: Array) -> None:
    """Copy values (n_samples, n_features) of any layout into an array of rows."""
    is_in_columns = values.ndim == 2 and abs(values.strides[0]) < abs(values.strides[1])
    if is_in_columns and values.shape[1] > 1:
        _fill(rows, values.T)
    else:
        rows[...] = values


# ---- parts of a table -----------------------------------------------------------------------


def features_among(
    name: str,
    labels: Sequence[str],
    chosen: Sequence[str] | None,
    others: Sequence[str],
    every: Sequence[str] | None = None,
) -> list[str]:
    """Return which columns are X: the chosen ones, or all but the others; none may be missing.

    every: names that may be asked for, if these are more than the labels.
    """
    wanted = [label for label in labels if label not in others] if chosen is None else list(chosen)
    known = set(labels if every is None else every)
    missing = [label for label in (*wanted, *others) if label not in known]
    if missing:
        raise ValueError(f"{name} lacks {_columns(missing)}; it has {listed(labels)}")
    return wanted


def select(name: str, table: Any, wanted: Sequence[str]) -> Any:
    """Return a table of the wanted columns, or the table itself if these are all of its own."""
    if labels_of(table) == list(wanted):
        return table
    if is_of_pyarrow(table):
        _check_unique(name, table.schema.names)
        # What has been asked for by name stays, though it be an index.
        return table.select(list(wanted)).replace_schema_metadata(None)
    return _read(name, table).select(list(wanted)).to_native()


def column_of(name: str, table: Any, label: str) -> Any:
    """Return one column of a table."""
    if is_of_pyarrow(table):
        _check_unique(name, table.schema.names)
        return table.column(label)
    return _read(name, table).get_column(label).to_native()


def rows_of(name: str, table: Any, first: int, last: int) -> Any:
    """Return some rows of a table, or of a column."""
    return _read(name, table)[first:last].to_native()


def plain_names(parameter: str, given: object) -> list[str]:
    """Return a parameter's names of columns as a list: one name, or several."""
    names = [given] if isinstance(given, str) else given
    if (
        not isinstance(names, Sequence)
        or not names
        or not all(isinstance(one, str) for one in names)
    ):
        raise TypeError(f"{parameter} must be names of columns, not {given!r}")
    twice = sorted(label for label, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{parameter} names {listed(twice)} several times")
    return list(names)


# A name that needs no quotes in a summary
_SIMPLE = re.compile(r"[^\s,]+")


def names_line(names: Sequence[str]) -> str:
    """Return the names of the features in one line, the first of many."""
    shown = [
        label if _SIMPLE.fullmatch(label) and label.isprintable() else repr(label)
        for label in names[:_MOST_NAMES]
    ]
    more = len(names) - len(shown)
    return f"features {', '.join(shown)}{f' and {more} more' if more else ''}"
