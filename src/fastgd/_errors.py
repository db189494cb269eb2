"""The package's own exceptions; each derives from the built-in one that callers would expect."""

from __future__ import annotations


class ModelFileError(ValueError):
    """A model file that cannot be trusted: truncated, corrupted, foreign or malicious.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastgd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(b"not a model")
    ...     try:
    ...         fastgd.load(path)
    ...     except fastgd.ModelFileError as error:
    ...         print(str(error).startswith("cannot load"))
    True
    """


class ValidationError(ArithmeticError):
    """A compiled operation whose result left its forward error bound.

    Parameters
    ----------
    message : str
        What went wrong, in words.
    op : str
        The operation: ``"forward"``, ``"activation"``, ``"loss"``, ``"update"``, ...
    layer : int or None
        Index of the layer, counted from 0; None for a single kernel.
    array : str
        Name of the output that is wrong.
    index : tuple of int
        Where the worst element is.
    got, expected, bound : float
        The worst element, what the reference gives, and how far apart they may be.

    Examples
    --------
    >>> import fastgd
    >>> error = fastgd.ValidationError("a is wrong", op="activation", layer=0, array="a",
    ...                                index=(3, 1), got=0.5, expected=0.25, bound=1e-7)
    >>> error.op, error.layer, error.index
    ('activation', 0, (3, 1))
    """

    def __init__(
        self,
        message: str,
        *,
        op: str,
        layer: int | None,
        array: str,
        index: tuple[int, ...],
        got: float,
        expected: float,
        bound: float,
    ) -> None:
        super().__init__(message)
        self.op: str = op
        self.layer: int | None = layer
        self.array: str = array
        self.index: tuple[int, ...] = index
        self.got: float = got
        self.expected: float = expected
        self.bound: float = bound
