"""Data larger than memory: where blocks of them come from, and the windows that a fit sees.

A source is read in blocks as it has them; a window is a buffer of a fixed number of rows, filled
from as many blocks as that takes. Nothing but windows reaches the network, so that no result
depends on where one block ends and the next begins.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._files import open_regular
from ._stored_rows import StoredRows, existing_folder
from ._training import Data
from ._validate import (
    Array,
    boolean,
    count_as_zero,
    features,
    integer,
    is_table,
    real_array,
    sample_weights,
    targets,
    too_small,
)

if TYPE_CHECKING:
    from .network import Network

__all__ = ["Blocks"]

# What is read at a time where a source leaves the choice: about so many bytes; of long rows
# more, since each of their hundreds of columns takes time in each batch of Parquet.
_READ_BYTES, _MOST_READ_BYTES = 1 << 22, 1 << 24
_READ_ROWS, _LEAST_ROWS = 1 << 13, 256
# Seconds that the end of a fit waits for a block that is being read
_WAITED = 0.1


class Blocks:
    """Data that are read block by block, in place of X in `Network.fit` and its kin.

    Parameters
    ----------
    source : array, table, path, callable or iterable
        An array (n_samples, n_features), such as a memory map, or anything with ``shape`` and
        ``dtype`` whose rows can be sliced; a table of pandas, polars or pyarrow; a Parquet file, or
        a folder of them, which are read in the order of their names; a callable that returns the
        blocks of one pass; an iterable of blocks. An iterator, such as a generator, can be read
        once only. A block is X, (X, y) or (X, y, sample_weight) of arrays or tables, or a table
        that y is a column of. Blocks may have any number of rows, also none.
    y : array, str or list of str, optional
        Beside an array or a table, the targets of its rows. Otherwise the column, or the columns,
        of the tables that are the target. `Network.predict` does without.
    sample_weight : array or str, optional
        In the same way, the samples' weights.
    columns : list of str, optional
        The columns of tables that are X; by default all but y and sample_weight.
    buffer_rows : int
        Rows that are held, and shuffled, at a time; rounded up to whole batches.
    prefetch : bool
        Whether a thread reads the next buffer while this one is trained on. The results are the
        same. Passes may then overlap, with validation data and the next epoch, so each needs a
        place to read of its own.
    cache : path of a folder, optional
        For a source that is slow to read, such as Parquet with hundreds of columns. The rows of
        the first whole pass are written to a file there as the network takes them, and every later
        pass, also of other fits, reads that file. It takes the memory of all rows (see Notes), and
        vanishes with this object. Changes of the source after that pass are not seen.

    Attributes
    ----------
    n_rows : int or None
        Samples in all; None as long as nobody has counted them.

    Raises
    ------
    ValueError, TypeError, OSError
        For a source that cannot be read, or settings that do not go with it.
    ImportError
        For Parquet without pyarrow, and for tables without narwhals.

    Notes
    -----
    Every epoch reads the source from its beginning. A fit takes the first buffer_rows rows, trains
    on them in batches, takes the next, and so on: batches have batch_size samples, also across the
    ends of blocks, and only the last of an epoch may be smaller. With shuffle=True each buffer is
    shuffled, from seed, epoch and the buffer's number alone. A buffer that holds all rows therefore
    gives the bits of a fit on arrays, and shuffle=False does with every buffer. Rows that lie far
    apart in the source never meet in a buffer: shuffle sorted data once before they are stored.

    A cache holds a row in so many bytes as a buffer does, with 8 for a target and for a weight; one
    more is made for networks of another dtype, loss, input_scale or number of outputs, and for
    `Network.predict`. Only whole passes are kept: an iterator whose first one is cut short is lost.

    Memory is that of two buffers, or of one without prefetch, in the network's dtype or in that of
    the blocks if it is smaller, and of some blocks. Metrics keep outputs and targets of all rows.

    A block is checked when it is read: an error ends the fit after the last whole buffer before it,
    and the network can be used, trained on and saved as it is then.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgd
    >>> def blocks():
    ...     rng = np.random.default_rng(0)
    ...     for _ in range(20):
    ...         X = rng.normal(size=(50, 2))
    ...         yield X, X[:, 0] - X[:, 1]
    >>> data = fastgd.Blocks(blocks, buffer_rows=256)
    >>> net = fastgd.Network([fastgd.Dense(1)], "squared_error", optimizer="adam")
    >>> history = net.fit(data, epochs=30, verbose=0)
    >>> data.n_rows, net.evaluate(data) < 0.5, net.predict(data).shape
    (1000, True, (1000, 1))
    """

    def __init__(
        self,
        source: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        buffer_rows: int = 65_536,
        prefetch: bool = True,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.buffer_rows: int = integer("buffer_rows", buffer_rows)
        self.prefetch: bool = boolean("prefetch", prefetch)
        self.cache: Path | None = None if cache is None else existing_folder("cache", cache)
        self._chosen = _Chosen(columns, y, sample_weight)
        self._source = _source_of(source, y, sample_weight, self._chosen)
        self._counted = self._source.n_rows
        self._stored: dict[tuple[Any, ...], StoredRows] = {}  # by what the checks of rows go by

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stored": {}}  # files without a name are no one else's

    @property
    def n_rows(self) -> int | None:
        return self._counted

    def __repr__(self) -> str:
        rows = "" if self.n_rows is None else f", {self.n_rows:,} rows"
        return f"Blocks({self._source.name}{rows}, buffer_rows={self.buffer_rows})"


class _Block(NamedTuple):
    """A block as it came, and what messages call it."""

    label: str
    X: Any
    y: Any = None
    sample_weight: Any = None


class _Chosen:
    """Which columns of a table are X, y and sample_weight."""

    def __init__(self, columns: Any, y: Any, sample_weight: Any) -> None:
        from ._frames import plain_names

        self.columns = None if columns is None else plain_names("columns", columns)
        self.y: str | list[str] | None = None
        self.sample_weight: str | None = None
        if _names_columns(y):
            self.y = y if isinstance(y, str) else plain_names("y", y)
        if isinstance(sample_weight, str):
            self.sample_weight = sample_weight
        twice = set(self.columns or ()) & set(self.others) or (
            set(self.targets) & {self.sample_weight}
        )
        if twice:
            raise ValueError(f"the column {min(map(str, twice))!r} cannot be two of X, y and "
                             "sample_weight")  # fmt: skip

    @property
    def targets(self) -> list[str]:
        return [] if self.y is None else [self.y] if isinstance(self.y, str) else self.y

    @property
    def others(self) -> list[str]:
        weight = [] if self.sample_weight is None else [self.sample_weight]
        return [*self.targets, *weight]

    def __bool__(self) -> bool:
        return self.columns is not None or bool(self.others)

    def features(
        self,
        name: str,
        labels: Sequence[str],
        with_target: bool,
        every: Sequence[str] | None = None,
    ) -> list[str]:
        """Return the columns that are X; all that is asked for must be among the labels.

        every: these and the columns that are not X unless they are chosen.
        """
        from ._frames import features_among

        others = self.others
        if not with_target:
            labels = [label for label in labels if label not in others]
            others = []
        return features_among(name, labels, self.columns, others, every)

    def split(self, label: str, table: Any, with_target: bool) -> _Block:
        """Return the parts of a table."""
        from ._frames import column_of, is_frame, is_of_pyarrow, labels_of, select

        name = f"{label}: X"
        if not is_frame(table):
            return _Block(label, table)
        every = table.schema.names if is_of_pyarrow(table) else None
        X = select(name, table, self.features(name, labels_of(table), with_target, every))
        y = weight = None
        if with_target:
            if isinstance(self.y, str):
                y = column_of(name, table, self.y)
            elif self.y is not None:
                y = select(name, table, self.y)
            if self.sample_weight is not None:
                weight = column_of(name, table, self.sample_weight)
        return _Block(label, X, y, weight)


def _names_columns(value: object) -> bool:
    if isinstance(value, str):
        return True
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(one, str) for one in value)
    )


# ---- sources --------------------------------------------------------------------------------


class _Source:
    """Where blocks come from."""

    name: str
    n_rows: int | None = None
    is_repeatable = True

    def blocks(self, with_target: bool) -> Iterator[_Block]:
        """Read the source from its beginning; rows in the order in which they lie there."""
        raise NotImplementedError


def _source_of(source: Any, y: Any, sample_weight: Any, chosen: _Chosen) -> _Source:
    if isinstance(source, Blocks):
        raise TypeError("source is Blocks already")
    if is_table(source):
        return _TableSource(source, y, sample_weight, chosen)
    is_path = isinstance(source, str | os.PathLike)
    if not is_path and hasattr(source, "shape") and hasattr(source, "dtype"):
        if chosen:
            raise TypeError(
                "source is an array, which has no named columns: give y and sample_weight as arrays"
            )
        return _ArraySource(source, y, sample_weight)
    for name, value, in_table in (
        ("y", y, chosen.y),
        ("sample_weight", sample_weight, chosen.sample_weight),
    ):
        if value is not None and in_table is None:
            raise TypeError(
                f"{name} must be the name of a column of the source's tables, not "
                f"{type(value).__name__}; arrays go into the blocks, as (X, y) or "
                "(X, y, sample_weight)"
            )
    if is_path:
        return _ParquetSource(Path(source), chosen)
    if callable(source):
        return _CalledSource(source, chosen)
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
        return _IteratedSource(source, chosen)
    raise TypeError(
        "source must be an array, a table, a path of Parquet, a callable that returns blocks, or "
        f"an iterable of them, not {source!r}"
    )


def _rows_at_a_time(row_bytes: int) -> int:
    few, most = (size // max(1, row_bytes) for size in (_READ_BYTES, _MOST_READ_BYTES))
    return max(_LEAST_ROWS, min(most, max(few, _READ_ROWS)))


def _byte_width(arrow_type: Any) -> int:
    try:
        return -(-int(arrow_type.bit_width) // 8)
    except ValueError:  # of a type whose values have no fixed width
        return 8


def _check_beside(name: str, value: Any, n_rows: int) -> None:
    shape = getattr(value, "shape", None)
    if shape is None or len(shape) == 0 or shape[0] != n_rows:
        found = "" if not shape else f" of {shape[0]} rows"
        raise ValueError(
            f"source has {n_rows} rows, but {name} is {type(value).__name__}{found}; give an array "
            "with one entry for each"
        )


class _ArraySource(_Source):
    """An array, or what can be sliced like one."""

    def __init__(self, X: Any, y: Any, sample_weight: Any) -> None:
        if len(X.shape) != 2:
            raise ValueError(f"source must have two dimensions, not {len(X.shape)}")
        self.X = X
        self.y = real_array("y", y) if is_table(y) else y
        self.weight = real_array("sample_weight", sample_weight) if is_table(sample_weight) else (
            sample_weight)  # fmt: skip
        self.n_rows = int(X.shape[0])
        for name, value in (("y", self.y), ("sample_weight", self.weight)):
            if value is not None:
                _check_beside(name, value, self.n_rows)
        kind = type(X).__name__
        self.name = f"{kind} of {X.dtype}"

    def blocks(self, with_target: bool) -> Iterator[_Block]:
        assert self.n_rows is not None
        step = _rows_at_a_time(self.X.shape[1] * getattr(self.X.dtype, "itemsize", 8))
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            rows = slice(first, last)
            y = None if self.y is None or not with_target else self.y[rows]
            weight = None if self.weight is None or not with_target else self.weight[rows]
            yield _Block(f"block of rows {first} to {last - 1}", self.X[rows], y, weight)


class _TableSource(_Source):
    """One table."""

    def __init__(self, table: Any, y: Any, sample_weight: Any, chosen: _Chosen) -> None:
        from ._frames import check_not_lazy, is_frame, is_of_pyarrow, labels_of

        check_not_lazy("source", table)
        if not is_frame(table):
            raise ValueError("source is a single column; give a table")
        self.table, self.chosen = table, chosen
        self.y = self.weight = None
        self.n_rows = len(table)
        if y is not None and chosen.y is None:
            self.y = real_array("y", y)
            _check_beside("y", self.y, self.n_rows)
        if sample_weight is not None and chosen.sample_weight is None:
            self.weight = real_array("sample_weight", sample_weight)
            _check_beside("sample_weight", self.weight, self.n_rows)
        every = table.schema.names if is_of_pyarrow(table) else None
        self.n_columns = len(chosen.features("source", labels_of(table), False, every))
        self.name = f"{type(table).__module__.partition('.')[0]} {type(table).__name__}"

    def blocks(self, with_target: bool) -> Iterator[_Block]:
        from ._frames import rows_of

        assert self.n_rows is not None
        step = _rows_at_a_time(8 * self.n_columns)
        for first in range(0, self.n_rows, step):
            last = min(first + step, self.n_rows)
            part = rows_of("source", self.table, first, last)
            label = f"block of rows {first} to {last - 1}"
            block = self.chosen.split(label, part, with_target)
            if self.y is not None and with_target:
                block = block._replace(y=self.y[first:last])
            if self.weight is not None and with_target:
                block = block._replace(sample_weight=self.weight[first:last])
            yield block


class _ParquetSource(_Source):
    """A Parquet file, or those in a folder, read batch by batch."""

    def __init__(self, path: Path, chosen: _Chosen) -> None:
        from ._frames import check_names, labels_of_schema, to_array
        from .tables import import_pyarrow

        pa, self._pq = import_pyarrow(str(path), "parquet")
        self.files = [path]
        if path.is_dir():
            entries = sorted(path.iterdir())
            self.files = [one for one in entries if one.suffix in (".parquet", ".pq")]
            folders = [one.name for one in entries if one.is_dir()]
            if folders:
                raise ValueError(
                    f"{path} has folders in it, such as {folders[0]!r}, which are not read: give a "
                    "callable that returns the tables of all of them"
                )
            if not self.files:
                raise ValueError(f"{path} holds no file whose name ends in .parquet or .pq")
        self.chosen, self.name = chosen, str(path)
        self.n_rows = 0
        labels: list[str] = []
        for file in self.files:
            # first of all, so that its own error is the message
            with open_regular(file) as opened:
                try:
                    about = self._pq.ParquetFile(opened)
                except (pa.ArrowException, OSError) as error:
                    raise ValueError(f"{file}: {str(error).partition(chr(10))[0]}") from None
                schema = about.schema_arrow
                self.n_rows += about.metadata.num_rows
            own = labels_of_schema(schema)
            if not labels:
                labels = own
            check_names(str(file), own, labels, f"{self.files[0].name} has")
            wanted = chosen.features(str(file), own, bool(chosen.others), schema.names)
            # Without rows it has all that can be refused by its types.
            to_array(str(file), schema.remove_metadata().empty_table().select(wanted))
        self.wanted = wanted
        self.row_bytes = sum(_byte_width(schema.field(label).type) for label in wanted)

    def blocks(self, with_target: bool) -> Iterator[_Block]:
        columns = [*self.wanted, *(self.chosen.others if with_target else [])]
        step = _rows_at_a_time(self.row_bytes)
        for file in self.files:
            with self._pq.ParquetFile(file, buffer_size=1 << 16, pre_buffer=False) as opened:
                first = 0
                batches = opened.iter_batches(step, columns=columns, use_threads=False)
                for batch in _noted(batches, str(file)):
                    label = f"{file.name}, block of rows {first} to {first + len(batch) - 1}"
                    yield self.chosen.split(label, batch, with_target)
                    first += len(batch)


def _noted(iterator: Iterator[Any], name: str) -> Iterator[Any]:
    """Yield the items of an iterator, and let what it raises say where it was."""
    number = 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            error.add_note(f"raised when block {number} of {name} was read")
            raise
        yield item
        number += 1


class _IteratedSource(_Source):
    """An iterable of blocks; an iterator can be read once."""

    def __init__(self, source: Iterable[Any], chosen: _Chosen) -> None:
        self.source, self.chosen = source, chosen
        self.is_repeatable = not isinstance(source, Iterator)
        self.name = type(source).__name__
        self._is_spent = False

    def begin(self) -> Iterator[Any]:
        if self._is_spent:
            raise ValueError(
                f"source is an iterator ({self.name}) that was read already; give a callable that "
                "returns a new one"
            )
        self._is_spent = not self.is_repeatable
        return iter(self.source)

    def blocks(self, with_target: bool) -> Iterator[_Block]:
        iterator = self.begin()
        try:
            for number, block in enumerate(_noted(iterator, self.name)):
                yield self._block(f"block {number}", block, with_target)
        finally:
            # One that was begun here is ended here, so that what it has open is closed.
            if self.is_repeatable and isinstance(iterator, Generator):
                iterator.close()

    def _block(self, label: str, block: Any, with_target: bool) -> _Block:
        if is_table(block):
            return self.chosen.split(label, block, with_target)
        if not isinstance(block, tuple | list):
            parts = [block]
        elif 1 <= len(block) <= 3:
            parts = list(block)
        else:
            raise ValueError(
                f"{label} is a {type(block).__name__} of {len(block)}; blocks are X, (X, y) or "
                "(X, y, sample_weight)"
            )
        if self.chosen.others and with_target:
            raise ValueError(
                f"{label} is {type(block).__name__}, not a table that "
                f"{self.chosen.others[0]!r} could be a column of"
            )
        if self.chosen.columns is not None:
            if not is_table(parts[0]):
                raise ValueError(f"{label}: X is no table that columns could be chosen from")
            parts[0] = self.chosen.split(label, parts[0], False).X
        if not with_target:
            parts = parts[:1]
        return _Block(label, *parts)


class _CalledSource(_IteratedSource):
    """A callable that returns the blocks of one pass."""

    def __init__(self, source: Callable[[], Iterable[Any]], chosen: _Chosen) -> None:
        self.call, self.chosen = source, chosen
        self.name = getattr(source, "__name__", type(source).__name__)

    def begin(self) -> Iterator[Any]:
        found = self.call()
        if is_table(found) or not isinstance(found, Iterable) or isinstance(found, np.ndarray):
            raise TypeError(
                f"source {self.name}() must return an iterable of blocks, not "
                f"{type(found).__name__}"
            )
        return iter(found)


# ---- windows --------------------------------------------------------------------------------


class _Failure(NamedTuple):
    """What reading raised, on its way to the thread that trains."""

    error: BaseException


class Windows:
    """The rows of blocks, checked for a network, in windows of a fixed number of rows.

    Each window is to be used before the next one is asked for, which takes its memory.

    Parameters
    ----------
    network : Network
    blocks : Blocks
    n_rows : int
        Of each window but the last of a pass.
    n_passes : int
    with_target : bool
    prefix : str
        Of the names in messages.
    names : sequence of str, optional
        Of the columns that tables must have; by default the network's.
    n_inputs : int, optional
        Features that X must have; by default the network's.
    prefetch : bool, optional
        By default that of the blocks.

    Attributes
    ----------
    names : tuple of str or None
        Of the features, once a block has been read.
    """

    def __init__(
        self,
        network: Network,
        blocks: Blocks,
        n_rows: int,
        *,
        n_passes: int = 1,
        with_target: bool = True,
        prefix: str = "",
        names: Sequence[str] | None = None,
        n_inputs: int | None = None,
        prefetch: bool | None = None,
    ) -> None:
        if n_passes > 1 and not (blocks._source.is_repeatable or blocks.cache):
            raise ValueError(
                f"{prefix}X is Blocks of an iterator ({blocks._source.name}), which can be read "
                f"once, not {n_passes} times: give a callable that returns a new one, or a cache"
            )
        self.blocks: Blocks = blocks
        self._network, self._n_passes = network, n_passes
        self._with_target, self._prefix = with_target, prefix
        self._n_rows = n_rows if blocks.n_rows is None else max(1, min(n_rows, blocks.n_rows))
        self.names = network._feature_names if names is None else tuple(names)
        self._n_inputs = network._n_inputs if n_inputs is None else n_inputs
        self._checked_for = (
            network.dtype, network.loss_name, network.n_outputs, network.input_scale, with_target,
        )  # fmt: skip
        self._like: Data | None = None  # the first block that had rows
        self._is_table = False
        prefetch = blocks.prefetch if prefetch is None else prefetch
        self._buffers: list[Data | None] = [None] * (2 if prefetch else 1)
        self._n_windows = 0  # so far
        self._peeked: list[Data] = []
        self._is_closed = False
        self._is_begun = False
        self._thread: threading.Thread | None = None
        if not prefetch:
            self._items = self._produce()
            return
        self._ready: SimpleQueue[Data | _Failure | None] = SimpleQueue()
        # An entry for each free buffer. threading's semaphores stay locked after some MemoryErrors.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in self._buffers:
            self._free.put(None)
        self._thread = threading.Thread(target=self._run, name="fastgd blocks", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._is_closed = True  # it may have begun all the same
            raise

    # -- for those who use the windows

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def peek(self) -> Data:
        """Return the first window of the next pass, which stays its first."""
        if not self._peeked:
            first = self._next()
            assert first is not None  # an empty pass raises
            self._peeked.append(first)
        return self._peeked[0]

    def one_pass(self) -> Iterator[Data]:
        """Return the windows of the next pass."""
        while (window := self._peeked.pop() if self._peeked else self._next()) is not None:
            yield window

    def _next(self) -> Data | None:
        if self._thread is None:
            return next(self._items)
        if self._is_begun:
            self._free.put(None)  # the window before this one has been used
        item = self._received()
        self._is_begun = item is not None  # the end of a pass takes no buffer
        if isinstance(item, _Failure):
            try:
                raise item.error
            finally:
                # The error's traceback holds this frame, which would hold the error.
                del item
        return item

    def _received(self) -> Data | _Failure | None:
        """Return what the reading thread has put next."""
        assert self._thread is not None
        while True:
            is_alive = self._thread.is_alive()
            try:
                return self._ready.get(timeout=_WAITED if is_alive else 0)
            except Empty:
                if not is_alive:
                    raise MemoryError("no memory for the thread that reads the blocks") from None

    def close(self) -> None:
        """End reading; waits for a block that is being read, but not for long."""
        self._is_closed = True
        if self._thread is None:
            self._items.close()
        else:
            with suppress(MemoryError):
                self._free.put(None)
            # A source that takes its time must not keep Ctrl-C waiting. What it brings then goes
            # nowhere, and its thread ends.
            self._thread.join(_WAITED)

    # -- reading, on the thread of its own if there is one

    def _run(self) -> None:
        try:
            for item in self._produce():
                self._ready.put(item)
        except _ClosedError:
            pass
        except BaseException as error:
            # Where even this gets no memory, the other thread sees that this one has ended.
            with suppress(MemoryError):
                self._ready.put(_Failure(error))

    def _produce(self) -> Generator[Data | None, None, None]:
        """Yield the windows of every pass, and None at the end of each."""
        for _ in range(self._n_passes):
            stored = self._usable_rows()
            if stored is not None or self.blocks.cache is None:
                yield from self._windows_of_pass(stored)
            else:
                with contextlib.closing(StoredRows(self.blocks.cache)) as new:
                    for window in self._windows_of_pass(None):
                        new.append(window)
                        yield window
                    # Of arrays, the names are those of the network alone.
                    new.finish(self.names if self._is_table else None, self._is_table)
                    self.blocks._stored[self._checked_for] = new
            yield None

    def _windows_of_pass(self, stored: StoredRows | None) -> Generator[Data, None, None]:
        filled = total = 0
        weight_sum, counts = 0.0, False
        for data in self._data_of_pass(stored):
            total += len(data.X)
            first = 0
            while first < len(data.X):
                if filled == 0:
                    buffer = self._next_buffer(data)
                n = min(len(data.X) - first, self._n_rows - filled)
                _copy(buffer, filled, data.rows(slice(first, first + n)))
                first, filled = first + n, filled + n
                if filled == self._n_rows:
                    yield buffer
                    filled = 0
            if data.sample_weight is not None:
                weight_sum += float(data.sample_weight.sum())
                counts = counts or not count_as_zero(data.sample_weight, self._network.dtype)
        if filled:
            yield buffer.rows(slice(filled))
        self._check_pass(total, weight_sum, counts)

    def _usable_rows(self) -> StoredRows | None:
        """Return the rows that an earlier pass has stored, if they suit the network.

        With others the source is read, whose checks then say what does not suit.
        """
        stored = self.blocks._stored.get(self._checked_for)
        if stored is None or self._n_inputs not in (None, stored.n_inputs):
            return None
        if self.names is not None and stored.feature_names not in (None, self.names):
            return None
        return stored

    def _check_pass(self, total: int, weight_sum: float, counts: bool) -> None:
        blocks = self.blocks
        if total == 0:
            raise ValueError(f"{self._prefix}X is empty: its blocks brought no rows")
        if blocks._counted not in (None, total):
            raise ValueError(
                f"{self._prefix}X brought {total} rows in this pass, but {blocks._counted} before; "
                "every pass must bring as many"
            )
        like = self._like
        if like is not None and like.sample_weight is not None and not 0 < weight_sum < np.inf:
            raise ValueError(f"the sum of {self._prefix}sample_weight must be positive and finite")
        if like is not None and like.sample_weight is not None and not counts:
            raise ValueError(too_small(f"{self._prefix}sample_weight", self._network.dtype))
        blocks._counted = total

    def _data_of_pass(self, stored: StoredRows | None) -> Iterator[Data]:
        if stored is None:
            iterator = self._checked_blocks()
        else:
            iterator = stored.blocks(self._n_rows)
            self.names = self.names or stored.feature_names
            self._is_table = stored.is_table
        with contextlib.closing(iterator):
            for data in iterator:
                if self._like is None:
                    self._like = data.evenly_spaced(1)
                yield data

    def _checked_blocks(self) -> Generator[Data, None, None]:
        iterator = self.blocks._source.blocks(self._with_target)
        try:
            for block in iterator:
                data = self._checked(block)
                if data is not None:
                    yield data
                if self._is_closed:
                    raise _ClosedError
        finally:
            close: Any = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _checked(self, block: _Block) -> Data | None:
        """Return the arrays of a block as the buffers take them; None if it has no rows."""
        label = f"{self._prefix}{block.label}"
        x_name, y_name, w_name = (f"{label}: {name}" for name in ("X", "y", "sample_weight"))
        X, names, network, like = block.X, None, self._network, self._like
        from_table = is_table(X)
        if like is not None and from_table != self._is_table:
            kinds = ("an array", "a table")
            raise ValueError(
                f"{x_name} is {kinds[from_table]}, but the blocks before it are "
                f"{kinds[not from_table]}s"
            )
        if from_table:
            from . import _frames

            names = _frames.names_of(x_name, X)
            if names is not None and self.names is not None:
                _frames.check_names(x_name, names, self.names)
            self.names = names if self.names is None else self.names
            X = _frames.to_features(x_name, X, network.dtype)
        X = real_array(x_name, X)
        if X.shape[:1] == (0,):
            return None
        X = features(X, None, network.dtype, x_name, network.input_scale, columns=names)
        if like is not None or self._n_inputs is not None:
            n_inputs = self._n_inputs if like is None else like.X.shape[1]
            of = "the network takes" if like is None else "the blocks before it have"
            if X.shape[1] != n_inputs:
                raise ValueError(f"{x_name} has {X.shape[1]} features, but {of} {n_inputs}")
        y, weight = np.empty((len(X), 0), np.int8), None
        if self._with_target:
            if block.y is None:
                raise ValueError(
                    f"{label} brings no y; give blocks (X, y) or (X, y, sample_weight), or tables "
                    "and the name of the column, as in Blocks(source, y='price')"
                )
            y = targets(
                block.y, network.loss_name, network.n_outputs, len(X), network.dtype, y_name, x_name
            )
            weight = sample_weights(
                block.sample_weight, len(X), network.dtype, w_name, x_name, is_part=True
            )
        if is_table(block.y) and not (y.ndim == 1 and y.dtype == np.int64):
            # Of tables an integer or a float may be in one block what it is not in the next.
            y = y.astype(np.float64, copy=False)
        data = Data(X, y, weight)
        if like is None:
            self._is_table = from_table
        else:
            self._check_like(data, like, x_name, y_name, w_name)
        return data

    def _check_like(self, data: Data, like: Data, x_name: str, y_name: str, w_name: str) -> None:
        """Refuse a block that does not fit into the buffers of those before it."""
        own_kind = _buffer_dtype(data.X, self._network.dtype, self._is_table)
        kind = _buffer_dtype(like.X, self._network.dtype, self._is_table)
        changed = own_kind != kind if self._is_table else data.X.dtype != like.X.dtype
        if changed:
            raise ValueError(
                f"{x_name} has dtype {data.X.dtype}, but the blocks before it have {like.X.dtype}"
            )
        if data.y.dtype != like.y.dtype or data.y.shape[1:] != like.y.shape[1:]:
            raise ValueError(
                f"{y_name} has {_described(data.y)}, but the blocks before it have "
                f"{_described(like.y)}"
            )
        if (data.sample_weight is None) != (like.sample_weight is None):
            has = "is missing, but the blocks before it have"
            if like.sample_weight is None:
                has = "is given, but the blocks before it have no"
            raise ValueError(f"{w_name} {has} weights")

    def _await_free(self) -> None:
        while not self._is_closed:
            # Whoever closes may have no memory to wake this thread.
            with suppress(Empty):
                self._free.get(timeout=_WAITED)
                break
        if self._is_closed:
            raise _ClosedError

    def _next_buffer(self, data: Data) -> Data:
        """Return a buffer that nobody uses; each is made once, of the first block's kind."""
        if self._thread is not None:
            self._await_free()
        number = self._n_windows % len(self._buffers)
        self._n_windows += 1
        buffer = self._buffers[number]
        if buffer is None:
            n, dtype = self._n_rows, _buffer_dtype(data.X, self._network.dtype, self._is_table)
            buffer = Data(
                np.empty((n, data.X.shape[1]), dtype),
                np.empty((n, *data.y.shape[1:]), data.y.dtype),
                None if data.sample_weight is None else np.empty(n),
            )
            self._buffers[number] = buffer
        return buffer


def _described(y: Array) -> str:
    shape = "".join(f", {n}" for n in y.shape[1:]) or ","
    return f"dtype {y.dtype} and shape (n_samples{shape})"


class _ClosedError(Exception):
    """Reading was ended from outside."""


def _buffer_dtype(X: Array, dtype: np.dtype[Any], is_table: bool) -> np.dtype[Any]:
    """Return the dtype in which rows wait: the blocks' own where it is smaller than the network's.

    The engine rounds a value to the network's dtype when it reads it, so that here is as good. Of
    tables only bytes keep their dtype: what others have may differ from block to block.
    """
    if is_table:
        return X.dtype if X.dtype == np.uint8 else dtype
    return X.dtype if X.dtype.itemsize < dtype.itemsize else dtype


def _copy(buffer: Data, first: int, data: Data) -> None:
    from ._frames import rows_into

    rows = slice(first, first + len(data.X))
    with np.errstate(all="ignore"):
        rows_into(buffer.X[rows], data.X)
    buffer.y[rows] = data.y
    if buffer.sample_weight is not None:
        buffer.sample_weight[rows] = data.sample_weight
