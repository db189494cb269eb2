"""scikit-learn's MLPs beside fastgd.sklearn's: the same data, parameters and epochs, taking turns.

Run as a module it measures in its own process and prints rows as JSON; extras.py does that.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")


class Case(NamedTuple):
    """What is timed: `prepare(classes)` returns the call, whose result is compared first.

    The result is a number, or a model: its loss and, of solvers with epochs, how many there were.
    """

    name: str
    required: float
    prepare: Callable[[Any], Callable[[], Any]]
    #: most rounds, and calls in each of them
    rounds: int = 1000
    calls: int = 1


def _fashion(folder: Path, rows: int) -> tuple[Any, Any]:
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        X = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)[:rows]
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)[:rows].astype(np.int64)
    return (X / np.float32(255)).astype(np.float32), y


def cases(quick: bool, fashion: Path) -> list[Case]:
    """List the cases; each network is trained to the end that its own rules set."""
    from sklearn.datasets import load_diabetes, load_digits, load_iris
    from sklearn.model_selection import GridSearchCV

    digits, iris, diabetes = (
        load(return_X_y=True) for load in (load_digits, load_iris, load_diabetes)
    )
    few = {"max_iter": 3} if quick else {}

    def fit(kind: str, data: Any, **parameters: Any) -> Callable[[Any], Callable[[], Any]]:
        def prepare(classes: Any) -> Callable[[], Any]:
            made = classes[kind]
            return lambda: made(random_state=0, **parameters | few).fit(*data)

        return prepare

    def partial_fit(classes: Any) -> Callable[[], Any]:
        X, y = np.ascontiguousarray(digits[0][:32]), digits[1][:32]
        model = classes["classifier"](random_state=0)
        model.partial_fit(X, y, classes=np.arange(10))
        return lambda: model.partial_fit(X, y).t_

    def predict(classes: Any) -> Callable[[], Any]:
        model = classes["classifier"](random_state=0, max_iter=5).fit(*digits)
        row = np.ascontiguousarray(digits[0][:1])
        return lambda: int(model.predict(row)[0])

    def search(classes: Any) -> Callable[[], Any]:
        grid = {
            "hidden_layer_sizes": [(50,), (100,)],
            "alpha": [1e-4, 1e-3, 1e-2],
            "learning_rate_init": [1e-3, 3e-3],
            "activation": ["relu", "tanh"],
        }
        if quick:
            grid = {"alpha": [1e-4, 1e-3]}
        model = classes["classifier"](random_state=0, max_iter=3 if quick else 30)
        return lambda: GridSearchCV(model, grid, cv=5).fit(*digits).best_score_

    found = [
        Case("digits, (100,), adam", 4, fit("classifier", digits), 5),
        Case("iris, (100,), adam", 9, fit("classifier", iris)),
        Case("diabetes, (50, 50)", 6, fit("regressor", diabetes, hidden_layer_sizes=(50, 50))),
        Case("digits, lbfgs", 2, fit("classifier", digits, solver="lbfgs"), 5),
        Case("partial_fit of 32 digits", 20, partial_fit, calls=50),
        Case("predict of one digit", 5, predict, calls=100),
        Case("digits, GridSearchCV, 24 candidates x 5 folds", 3.5, search, 3),
    ]
    if not (fashion / "train-images-idx3-ubyte.gz").exists():
        return found
    X, y = _fashion(fashion, 2000 if quick else 60_000)
    images = {"hidden_layer_sizes": (256, 128), "batch_size": 128, "max_iter": 3}
    for dtype, limit in ((np.float32, 3), (np.float64, 2.5)):
        data = X.astype(dtype), y
        name = f"Fashion-MNIST, (256, 128), {np.dtype(dtype).name}, 3 epochs"
        found.append(Case(name, limit, fit("classifier", data, **images), 3))
    return found


def _numbers(result: Any) -> tuple[float, int | None]:
    """Return what two packages must agree in: a value, and a number of epochs if there are any."""
    if not hasattr(result, "loss_"):
        return float(result), None
    return float(result.loss_), len(result.loss_curve_) if hasattr(result, "loss_curve_") else None


def measure(case: Case, rounds: int, quick: bool) -> list[dict[str, Any]]:
    """Return a row for each package; refuses figures of two results that differ."""
    import sklearn.neural_network as original

    from benchmarks.pool import spread
    from fastgd import sklearn as ours

    packages = {
        "sklearn": {"classifier": original.MLPClassifier, "regressor": original.MLPRegressor},
        "fastgd": {"classifier": ours.MLPClassifier, "regressor": ours.MLPRegressor},
    }
    calls = {peer: case.prepare(classes) for peer, classes in packages.items()}
    results = {peer: call() for peer, call in calls.items()}
    numbers = {peer: _numbers(result) for peer, result in results.items()}
    (value, epochs), (own, own_epochs) = numbers["sklearn"], numbers["fastgd"]
    if not np.isclose(value, own, rtol=0.02) or epochs != own_epochs:
        sys.exit(f"{case.name}: (value, epochs) {numbers}")
    n_calls = min(case.calls, 3) if quick else case.calls
    values: dict[str, list[float]] = {peer: [] for peer in calls}
    for _ in range(min(rounds, case.rounds)):
        for peer, call in calls.items():
            begin = time.perf_counter()
            for _ in range(n_calls):
                call()
            values[peer].append((time.perf_counter() - begin) / n_calls * 1e6)
    shared = {"group": "drop_in", "case": case.name, "kind": "fit", "unit": "us"}
    return [
        shared | {"peer": peer, "required": case.required, **spread(times)}
        for peer, times in values.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--only", nargs="+", help="parts of the cases' names")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for case in cases(options.quick, options.fashion):
        if options.only and not any(part in case.name for part in options.only):
            continue
        rows += measure(case, options.rounds, options.quick)
        theirs, mine = (row["median"] for row in rows[-2:])
        print(f"{case.name}: {theirs / mine:.2f}x", file=sys.stderr, flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(root), str(root / "src")]
    main()
