"""Checked rows of blocks in files without a name, so that they are read and decoded only once."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from ._training import Data
from ._validate import Array

__all__ = ["StoredRows", "existing_folder"]


def existing_folder(name: str, value: Any) -> Path:
    """Return the path of a folder that is there."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a folder, not {type(value).__name__}")
    path = Path(value)
    if not path.is_dir():
        found = "a file" if path.exists() else "missing"
        raise ValueError(f"{name} must be an existing folder; {path} is {found}")
    return path


class StoredRows:
    """Rows as a network takes them, in their order.

    Parameters
    ----------
    folder : Path
        Where the files lie. They have no name there: they vanish with this object, or with the
        process, however that ends.

    Attributes
    ----------
    feature_names : tuple of str or None
    is_table : bool
        Whether the rows come from tables.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[io.FileIO] = []
        self._like: Data | None = None
        self._n_rows = 0
        self.feature_names: tuple[str, ...] | None = None
        self.is_table = False

    @property
    def n_inputs(self) -> int:
        assert self._like is not None
        return int(self._like.X.shape[1])

    def append(self, data: Data) -> None:
        """Write some rows, of contiguous arrays, behind those before them, which they are like."""
        try:
            if self._like is None:
                self._like = data.evenly_spaced(1)
                # One is open for as long as the object is.
                self._files = [
                    tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                    for _ in data
                ]
            for file, array in zip(self._files, data, strict=True):
                left = b"" if array is None or not array.size else array.data.cast("B")
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: cache must be a folder with room for all rows",
                str(self._folder),
            ) from None
        self._n_rows += len(data.X)

    def finish(self, feature_names: tuple[str, ...] | None, is_table: bool) -> None:
        """Make the rows readable, to which no more can be added then."""
        self.feature_names, self.is_table = feature_names, is_table
        assert self._like is not None
        x_file, y_file, weight_file = self._files
        X, y, weight = self._like
        self._data = Data(
            self._mapped(x_file, X),
            self._mapped(y_file, y),
            None if weight is None else self._mapped(weight_file, weight),
        )

    def _mapped(self, file: io.FileIO, like: Array) -> Array:
        shape = (self._n_rows, *like.shape[1:])
        if 0 in shape:  # of which there can be no map
            return np.empty(shape, like.dtype)
        return np.memmap(file, like.dtype, "r", shape=shape)

    def close(self) -> None:
        """Close the files; rows that are readable stay so, since a map holds its file."""
        for file in self._files:
            file.close()

    def blocks(self, n_rows: int) -> Generator[Data, None, None]:
        """Read the rows from the first, so many at a time."""
        assert self._data is not None
        for first in range(0, self._n_rows, n_rows):
            yield self._data.rows(slice(first, first + n_rows))
