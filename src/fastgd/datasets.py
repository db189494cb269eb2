"""The real data set that comes with the package, small enough for a demo and for tests."""

from pathlib import Path

import numpy as np

__all__ = ["load_digits", "load_digits_split"]


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load the bundled images of handwritten digits.

    Returns
    -------
    X : ndarray of shape (1797, 64), uint8
        Pixels 0..16 of 8 x 8 images, row by row.
    y : ndarray of shape (1797,), int64
        The digit of each image, 0..9.

    Notes
    -----
    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, doi 10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> from fastgd.datasets import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    with np.load(Path(__file__).with_name("data") / "digits.npz") as data:
        return data["X"], data["y"].astype(np.int64)


def load_digits_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Load the digits in one fixed division: of each class, every fifth image is for testing.

    Returns
    -------
    X_train, y_train, X_test, y_test : ndarray
        Shapes (1433, 64), (1433,), (364, 64), (364,); see `load_digits`. The order is kept.

    Examples
    --------
    >>> from fastgd.datasets import load_digits_split
    >>> [part.shape for part in load_digits_split()]
    [(1433, 64), (1433,), (364, 64), (364,)]
    """
    X, y = load_digits()
    test = np.zeros(len(y), dtype=bool)
    for digit in range(10):
        test[np.flatnonzero(y == digit)[::5]] = True
    return X[~test], y[~test], X[test], y[test]
