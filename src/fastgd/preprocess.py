"""Turn the columns of a data file into the numbers that a network takes, and its outputs back.

What was learned from the training file is kept as a dict of JSON types, so that it can travel in
the header of a model file. All is computed in float64 and rounded once to the network's type.
"""

import difflib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ._listing import listed, quoted
from .tables import Arrays, Table, is_number

__all__ = ["Preprocessor"]

# More categories than this share one input, "any other".
MAX_CATEGORIES = 100
# A target of so few different whole numbers is read as classes.
MAX_INTEGER_CLASSES = 20
# Standard deviations from the centre at which an input is cut off.
FARTHEST = 1e6
# Names that are looked at for one that was meant: their characters and their number at most
_COMPARED = 60
_MOST_COMPARED = 1000


class Preprocessor:
    """Encoding of inputs and target, learned from one file and applied to others.

    Numeric columns are centred and divided by their standard deviation; a missing value becomes
    the median, and a second column says that it was missing. Text columns become one column for
    each value; a missing value counts as a value, and one that is not known from training gives
    zeros, or the column "any other" if rare values were joined to one. Columns that hold one value
    only, that have no name, or whose every text is different are left out. Arrays of bytes, such
    as images, share one centre and one scale; other arrays have one for each feature.

    The target of a classification becomes class numbers; the target of a regression is centred and
    scaled like a numeric column, and predictions are scaled back.

    Parameters
    ----------
    config : dict
        As made by `fit`, in ``config``, for instance from a model file.

    Raises
    ------
    ValueError
        The dict is not one that `fit` makes.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.preprocess import Preprocessor
    >>> from fastgd.tables import Table
    >>> table = Table("rooms.csv", {
    ...     "area": np.array([20.0, 40.0, np.nan, 30.0]),
    ...     "side": np.array(["north", "south", "south", "south"], dtype=object),
    ...     "rent": np.array([400.0, 900.0, 700.0, 600.5]),
    ... })
    >>> encoder = Preprocessor.fit(table, target="rent")
    >>> encoder.task, encoder.feature_names
    ('regression', ['area', 'area is missing', 'side = south', 'side = north'])
    >>> encoder.inputs(table, "float32").shape
    (4, 4)
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config
        try:
            self._check()
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"malformed preprocessing ({error!r})") from None

    def _check(self) -> None:
        """Touch everything that the other methods rely on."""
        config = self.config
        valid = config["task"] in ("classification", "regression")
        if config["task"] == "classification":
            classes = config["classes"]
            valid &= isinstance(classes, list) and len(classes) >= 2
            valid &= all(isinstance(c, int | float) or _is_text(c) for c in classes)
        else:
            valid &= _is_scale(config["target_center"], config["target_scale"])
        valid &= config["target"] is None or _is_text(config["target"])
        if "columns" in config:
            valid &= isinstance(config["columns"], list) and len(config["columns"]) >= 1
            for column in config["columns"]:
                valid &= isinstance(column["name"], str)
                if column["kind"] == "text":
                    valid &= isinstance(column["values"], list)
                    valid &= all(v is None or isinstance(v, str) for v in column["values"])
                    valid &= isinstance(column["other"], bool) and len(column["values"]) >= 1
                else:
                    valid &= column["kind"] == "number" and isinstance(column["missing"], bool)
                    valid &= math.isfinite(column["fill"])
                    valid &= _is_scale(column["center"], column["scale"])
        else:
            centers, scales = config["center"], config["scale"]
            n_features = config["n_features"]
            valid &= isinstance(centers, list) and isinstance(scales, list)
            valid &= isinstance(n_features, int) and not isinstance(n_features, bool)
            valid &= n_features >= 1 and len(centers) == len(scales)
            valid &= len(centers) in (1, config["n_features"])
            valid &= all(map(_is_scale, centers, scales))
        if not valid:
            raise ValueError("malformed preprocessing")

    @classmethod
    def fit(
        cls,
        data: Table | Arrays,
        *,
        target: str | None = None,
        task: str = "auto",
        scale_target: bool = True,
        drop: Sequence[str] = (),
    ) -> "Preprocessor":
        """Learn the encoding from the rows to train on.

        Parameters
        ----------
        data : what `fastgd.tables.read` returns.
        target : name of the target's column; needed for a Table.
        task : "classification", "regression", or "auto": classification for text, booleans and at
            most 20 different whole numbers that occur five times each on average.
        scale_target : whether a regression's target is centred and scaled.
        drop : names of columns that are no inputs, such as a number of the row.

        Returns
        -------
        Preprocessor

        Raises
        ------
        ValueError
            No such target or column to drop, no usable input, a target of one value only, infinite
            values; the message names the file and the column.
        """
        values = _known_targets(data, target)[0]
        config: dict[str, Any] = {"target": target if isinstance(data, Table) else None}
        if task == "auto":
            task = _guess_task(values)
            if values.dtype.kind == "O":
                _check_are_classes(data.source, target, values)
        config["task"] = task
        if task == "classification":
            classes = sorted(
                # Whole numbers come as floats from a column in which some are missing.
                int(value) if isinstance(value, float) and value.is_integer() else value
                for value in set(values.tolist())
            )
            if len(classes) < 2:
                raise ValueError(f"{data.source}: the target has one class only: {classes[0]!r}")
            config["classes"] = classes
        elif task == "regression":
            if values.dtype.kind not in "biuf":
                raise ValueError(
                    f"{data.source}: the target is text such as {values[0]!r}; "
                    "regression needs numbers"
                )
            values = values.astype(np.float64)
            _refuse_infinity(values, data.source, "the target")
            center, scale = _center_scale(values) if scale_target else (0.0, 1.0)
            config |= {"target_center": center, "target_scale": scale or 1.0}
        else:
            raise ValueError(f"task must be auto, classification or regression, not {task!r}")

        if isinstance(data, Table):
            _check_columns(data, drop)
            columns = (
                _fit_column(data.source, name, column)
                for name, column in data.columns.items()
                if name != target and name not in drop
            )
            config["columns"] = [column for column in columns if column is not None]
            if not config["columns"]:
                raise ValueError(f"{data.source}: no column besides the target can be used")
        elif drop:
            raise ValueError(f"{data.source}: has no named columns, of which some could be dropped")
        else:
            config |= _fit_features(data)
        return cls(config)

    def notices(self, data: Table) -> list[str]:
        """Name the columns that are read as text although most of their values are numbers.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.preprocess import Preprocessor
        >>> from fastgd.tables import Table
        >>> size = np.array(["1", "2", "2", "1o"], dtype=object)
        >>> data = Table("a.csv", {"size": size, "y": np.array([0.5, 1.0, 1.2, 2.0])})
        >>> Preprocessor.fit(data, target="y").notices(data)
        ["'size' holds numbers but for 1 of 4 values, such as '1o' in row 4"]
        """
        found = []
        for column in self.config["columns"]:
            notice = None
            if column["kind"] == "text":
                notice = _nearly_numbers(data.columns[column["name"]])
            if notice is not None:
                found.append(f"{column['name']!r} {notice}")
        return found

    def strange(self, data: Table | Arrays) -> list[str]:
        """Name the columns of text with values that training did not have: they count as none.

        Columns whose rare values share one input are not named, since there a new one does as well.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.preprocess import Preprocessor
        >>> from fastgd.tables import Table
        >>> def table(*cities):
        ...     return Table("a.csv", {"city": np.array(cities, dtype=object),
        ...                            "y": np.arange(len(cities)) / 3})
        >>> encoder = Preprocessor.fit(table("Ulm", "Bonn", "Ulm", "Bonn"), target="y")
        >>> encoder.strange(table("Ulm", "Rom", "Bonn"))
        ["'city' has 1 of 3 values that training did not have, such as 'Rom' in row 2"]
        """
        found: list[str] = []
        if not isinstance(data, Table):
            return found
        for column in self.config.get("columns", ()):
            if column["kind"] == "text" and column["name"] in data.columns:
                keys = _text_keys(data.columns[column["name"]])
                known = set(column["values"])
                rows = [row for row, key in enumerate(keys) if key not in known]
                if rows and not column["other"]:
                    what = keys[rows[0]]
                    found.append(
                        f"{column['name']!r} has {len(rows):,} of {len(keys):,} values that "
                        f"training did not have, such as "
                        f"{'an empty one' if what is None else repr(what)} in row {rows[0] + 1}"
                    )
        return found

    @property
    def task(self) -> str:
        """Say whether a class or a number is predicted: "classification" or "regression"."""
        return self.config["task"]

    @property
    def target(self) -> str | None:
        """Name the target's column; None if the data were arrays."""
        return self.config["target"]

    @property
    def classes(self) -> list[Any]:
        """List the classes in the order of the network's outputs; classification only."""
        return self.config["classes"]

    @property
    def text_columns(self) -> list[str]:
        """List the columns that are to be read as text."""
        names = [c["name"] for c in self.config.get("columns", ()) if c["kind"] == "text"]
        if self.task == "classification" and isinstance(self.classes[0], str):
            names += [self.target] if self.target else []
        return names

    @property
    def n_inputs(self) -> int:
        """Count the inputs of the network, without the memory that their names take."""
        if "columns" not in self.config:
            return self.config["n_features"]
        return sum(
            1 + column["missing"]
            if column["kind"] == "number"
            else len(column["values"]) + column["other"]
            for column in self.config["columns"]
        )

    @property
    def feature_names(self) -> list[str]:
        """Name every input of the network."""
        if "columns" not in self.config:
            return [f"x{i}" for i in range(self.config["n_features"])]
        names = []
        for column in self.config["columns"]:
            name = column["name"]
            if column["kind"] == "number":
                names += [name] + [f"{name} is missing"] * column["missing"]
            else:
                names += [
                    f"{name} = {v}" if v is not None else f"{name} is missing"
                    for v in column["values"]
                ]
                names += [f"{name} is any other"] * column["other"]
        return names

    def inputs(self, data: Table | Arrays, dtype: str) -> np.ndarray:
        """Encode the inputs of every row.

        Parameters
        ----------
        data : Table or Arrays, of the kind that the encoding was learned from.
        dtype : "float32" or "float64".

        Returns
        -------
        ndarray of shape (n_rows, n_features)

        Raises
        ------
        ValueError
            A column is missing, holds text where numbers are expected, or is infinite.
        """
        if "columns" not in self.config:
            return self._array_inputs(data, dtype)
        if not isinstance(data, Table):
            raise ValueError(f"{data.source}: the model was trained on a table of named columns")
        _check_columns(data, [column["name"] for column in self.config["columns"]])
        X = np.zeros((data.n_rows, self.n_inputs), dtype)
        at = 0
        for column in self.config["columns"]:
            values = data.columns[column["name"]]
            if column["kind"] == "number":
                at += _encode_number(column, values, X[:, at:], data.source)
            else:
                at += _encode_text(column, values, X[:, at:])
        return X

    def _array_inputs(self, data: Table | Arrays, dtype: str) -> np.ndarray:
        n_features = self.config["n_features"]
        if not isinstance(data, Arrays):
            raise ValueError(f"{data.source}: the model was trained on arrays, not on a table")
        if data.X.shape[1] != n_features:
            raise ValueError(
                f"{data.source}: {data.X.shape[1]} values in a sample; the model takes {n_features}"
            )
        if not np.isfinite(data.X).all():
            raise ValueError(f"{data.source}: the samples hold NaN or infinity")
        center, scale = np.array(self.config["center"]), np.array(self.config["scale"])
        X = np.empty(data.X.shape, dtype)
        for rows in range(0, len(X), 4096):  # a float64 copy of all of it could be too large
            part = slice(rows, rows + 4096)
            X[part] = _standardise(data.X[part], center, scale)
        return X

    def targets(self, data: Table | Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Encode the target.

        Parameters
        ----------
        data : Table or Arrays with a target.

        Returns
        -------
        y : ndarray, int64 class numbers or float64 scaled targets, of shape (n_known,)
        known : ndarray of bool, shape (n_rows,)
            Rows that have a target.

        Raises
        ------
        ValueError
            No target, a class that training did not have, or text where numbers are expected.
        """
        values, known = _known_targets(data, self.target)
        if self.task == "classification":
            number = {value: i for i, value in enumerate(self.classes)}
            strange = sorted({str(v) for v in values.tolist() if v not in number})
            if strange:
                raise ValueError(
                    f"{data.source}: the target has classes that training did not: "
                    f"{listed(strange)}"
                )
            return np.array([number[v] for v in values.tolist()], dtype=np.int64), known
        if values.dtype.kind not in "biuf":
            raise ValueError(f"{data.source}: the target is text such as {values[0]!r}")
        values = values.astype(np.float64)
        _refuse_infinity(values, data.source, "the target")
        return (values - self.config["target_center"]) / self.config["target_scale"], known

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Turn the network's outputs into predictions.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_outputs)

        Returns
        -------
        ndarray of shape (n_rows,)
            The class of the largest output, of the target's own type; or the value in the target's
            own units, float64.
        """
        if self.task == "classification":
            classes = np.array(self.classes, dtype=object)
            return classes[outputs.argmax(axis=1)]
        center, scale = self.config["target_center"], self.config["target_scale"]
        return outputs[:, 0].astype(np.float64) * scale + center


_SURROGATE = re.compile("[\ud800-\udfff]")


def _is_text(value: object) -> bool:
    """Return whether a value can be written as UTF-8, which surrogates cannot."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_scale(center: float, scale: float) -> bool:
    return math.isfinite(center) and math.isfinite(scale) and scale > 0


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "O":
        return np.array([value is None for value in values], dtype=bool)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)


def _target_values(data: Table | Arrays, target: str | None) -> np.ndarray:
    if isinstance(data, Arrays):
        if data.y is None:
            raise ValueError(f"{data.source}: there are no labels or targets for its samples")
        return data.y
    if target is None:
        raise ValueError(
            f"{data.source}: which column is the target? Its columns: {listed(data.columns)}"
        )
    if target not in data.columns:
        raise ValueError(
            f"{data.source}: no column {quoted(target)} for the target"
            f"{_similar([target], data.columns)} "
            f"(its columns: {listed(data.columns)})"
        )
    return data.columns[target]


def _check_columns(data: Table, names: Iterable[str]) -> None:
    absent = [name for name in names if name not in data.columns]
    if absent:
        raise ValueError(
            f"{data.source}: no column {listed(absent)}{_similar(absent, data.columns)} "
            f"(its columns: {listed(data.columns)})"
        )


def _similar(absent: list[str], names: Iterable[str]) -> str:
    """Ask whether the first name that is absent was meant to be one of the others."""
    # Comparing two names can take the cube of their length.
    if len(absent[0]) > _COMPARED:
        return ""
    short = (name for name in names if len(name) <= _COMPARED)
    plain = {name.strip().lower(): name for name in itertools.islice(short, _MOST_COMPARED)}
    found = difflib.get_close_matches(absent[0].strip().lower(), plain, 1)
    return f"; did you mean {plain[found[0]]!r}?" if found else ""


def _known_targets(data: Table | Arrays, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets that are there, and which rows have one."""
    values = _target_values(data, target)
    known = ~_is_missing(values)
    if not known.any():
        raise ValueError(f"{data.source}: the target has no values")
    return values[known], known


def _guess_task(values: np.ndarray) -> str:
    if values.dtype.kind not in "iuf":
        return "classification"
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        return "regression"
    distinct = len(np.unique(values))
    few = distinct <= 2 or (distinct <= MAX_INTEGER_CLASSES and 5 * distinct <= len(values))
    return "classification" if few else "regression"


def _refuse_infinity(values: np.ndarray, source: str, what: str) -> None:
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise ValueError(f"{source}: {what} holds infinity (row {infinite[0] + 1})")


def _center_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, safe from overflow; the latter 0 for a single value."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low, 0.0
    # Within [-1, 1], where squares neither overflow nor vanish.
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    unit = (values - middle) / half
    mean = float(unit.mean())
    return middle + mean * half, float(unit.std()) * half


def _standardise(values: np.ndarray, center: Any, scale: Any) -> np.ndarray:
    """Centre and scale; what lies absurdly far out is held where float32 does not overflow."""
    with np.errstate(over="ignore"):
        return np.clip((values - center) / scale, -FARTHEST, FARTHEST)


def _check_are_classes(source: str, target: str | None, values: np.ndarray) -> None:
    """Refuse text as classes by itself where it rather looks like something else."""
    notice = _nearly_numbers(values)
    n_classes = len(set(values.tolist()))
    if notice is None and n_classes > MAX_INTEGER_CLASSES and 2 * n_classes > len(values):
        notice = f"holds {n_classes:,} different texts in {len(values):,} rows"
    if notice is not None:
        raise ValueError(
            f"{source}: the target {target!r} {notice}. Correct it, or ask for classification if "
            "these are classes"
        )


# What people write around numbers
_AROUND_NUMBERS = str.maketrans("", "", ",'$€£¥% ")


def _nearly_numbers(values: np.ndarray) -> str | None:
    """Describe what keeps a column of text from being one of numbers; None if it is not near it."""
    counts = Counter(value for value in values.tolist() if isinstance(value, str))
    odd = [value for value in counts if not is_number(value)]
    plain = sum(counts.values()) - sum(counts[value] for value in odd)
    marked = sum(counts[v] for v in odd if is_number(v.translate(_AROUND_NUMBERS)))
    total = sum(counts.values())
    if not odd or 2 * (plain + marked) <= total:
        return None
    row = values.tolist().index(odd[0]) + 1
    which = f"{total - plain:,} of {total:,} values" if plain else "signs around them"
    return f"holds numbers but for {which}, such as {odd[0]!r} in row {row}"


def _fit_column(source: str, name: str, values: np.ndarray) -> dict[str, Any] | None:
    """Describe one column of a table; None if nothing can be learned from it."""
    missing = _is_missing(values)
    known = values[~missing]
    if not name or not len(known):
        return None
    if values.dtype.kind == "O":
        counts = Counter(values.tolist())
        if len(counts) < 2 or max(counts.values()) < 2:
            return None
        kept = sorted(counts, key=lambda value: (-counts[value], value is None, value or ""))
        if len(kept) > MAX_CATEGORIES:
            kept = [value for value in kept[:MAX_CATEGORIES] if counts[value] > 1]
        return {"name": name, "kind": "text", "values": kept, "other": len(kept) < len(counts)}
    known = known.astype(np.float64)
    _refuse_infinity(known, source, f"column {name!r}")
    fill = float(np.median(known))
    center, scale = _center_scale(np.where(missing, fill, values.astype(np.float64)))
    if not scale and not missing.any():
        return None
    return {
        "name": name,
        "kind": "number",
        "fill": fill,
        "center": center,
        "scale": scale or 1.0,
        "missing": bool(missing.any()),
    }


def _fit_features(data: Arrays) -> dict[str, Any]:
    """Describe an array: one centre and scale for bytes, else one for each feature."""
    X = data.X
    if not X.size:
        raise ValueError(f"{data.source}: there are no samples")
    if not np.isfinite(X).all():
        raise ValueError(f"{data.source}: the samples hold NaN or infinity")
    n_features = X.shape[1]
    if X.dtype == np.uint8:
        # Exact for bytes: a histogram holds all that the mean and the deviation depend on.
        counts = np.bincount(X.reshape(-1), minlength=256)
        center = float(counts @ np.arange(256) / X.size)
        scale = math.sqrt(counts @ (np.arange(256) - center) ** 2 / X.size)
        return {"n_features": n_features, "center": [center], "scale": [scale or 1.0]}
    pairs = [_center_scale(X[:, i].astype(np.float64)) for i in range(n_features)]
    return {
        "n_features": n_features,
        "center": [center for center, _ in pairs],
        "scale": [scale or 1.0 for _, scale in pairs],
    }


def _encode_number(column: dict[str, Any], values: np.ndarray, out: np.ndarray, source: str) -> int:
    """Fill the first columns of `out`; return how many."""
    name = column["name"]
    missing = _is_missing(values)
    if values.dtype.kind == "O":
        if not missing.all():
            row = int(np.flatnonzero(~missing)[0])
            raise ValueError(
                f"{source}: column {name!r} holds text such as {values[row]!r} (row {row + 1}) "
                "where training had numbers"
            )
        values = np.full(len(values), np.nan)
    values = values.astype(np.float64)
    _refuse_infinity(values, source, f"column {name!r}")
    filled = np.where(missing, column["fill"], values)
    out[:, 0] = _standardise(filled, column["center"], column["scale"])
    if not column["missing"]:
        return 1
    out[:, 1] = missing
    return 2


def _text_keys(values: np.ndarray) -> list[str | None]:
    """Return the values of a column as text."""
    if values.dtype.kind == "O":
        return values.tolist()
    # Every value of this file looked like a number.
    missing = _is_missing(values)
    return [None if gone else str(v) for v, gone in zip(values.tolist(), missing, strict=True)]


def _encode_text(column: dict[str, Any], values: np.ndarray, out: np.ndarray) -> int:
    """Fill the first columns of `out`, which holds zeros; return how many."""
    known = column["values"]
    place = {value: i for i, value in enumerate(known)}
    at = np.array([place.get(key, len(known)) for key in _text_keys(values)], dtype=np.intp)
    width = len(known) + column["other"]
    rows = np.flatnonzero(at < width)
    out[rows, at[rows]] = 1
    return width
