"""Fits on data that are read block by block, beside the same fit on arrays in memory.

Run as a module it measures in its own process and prints rows as JSON; extras.py does that. The
files are in the page cache: what is measured is the reading, not the disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import fastgd  # noqa: E402
from benchmarks import shapes  # noqa: E402
from benchmarks.pool import spread  # noqa: E402
from benchmarks.shapes import Job  # noqa: E402
from fastgd._idx import read_idx  # noqa: E402

FASHION = Path("/usr/share/datasets/fashion-mnist")
# Rows of a buffer, several of which make an epoch, of a block of the generator, and of a file
BUFFER_ROWS = 16_384
BLOCK_ROWS = 1_000
N_FILES = 4


def _images(fashion: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    X = read_idx(fashion / "train-images-idx3-ubyte.gz").reshape(-1, 784)[:n]
    return X, read_idx(fashion / "train-labels-idx1-ubyte.gz")[:n].astype(np.int64)


def _sources(X: np.ndarray, y: np.ndarray, folder: Path) -> dict[str, Callable[[], Any]]:
    """Store the data, and return what makes X of a fit for each way of reading them."""
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    parquet = folder / "parquet"
    parquet.mkdir()
    for i, rows in enumerate(np.array_split(np.arange(len(X)), N_FILES)):
        columns = {f"x{j}": np.ascontiguousarray(X[rows, j]) for j in range(X.shape[1])}
        pq.write_table(pa.table(columns | {"y": y[rows]}), parquet / f"part-{i}.parquet")

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(0, len(X), BLOCK_ROWS):
            yield X[first : first + BLOCK_ROWS], y[first : first + BLOCK_ROWS]

    settings = {"buffer_rows": BUFFER_ROWS}
    X_map, y_map = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "Xy")
    return {
        "memory map": lambda: fastgd.Blocks(X_map, y_map, **settings),
        "Parquet": lambda: fastgd.Blocks(parquet, "y", **settings),
        "Parquet, cached": lambda: fastgd.Blocks(parquet, "y", cache=folder, **settings),
        "generator": lambda: fastgd.Blocks(generate, **settings),
    }


def _network(job: Job) -> fastgd.Network:
    return fastgd.Network(
        [fastgd.Dense(units, job.activation) for units in job.sizes[1:-1]]
        + [fastgd.Dense(job.sizes[-1])],
        "cross_entropy",
        fastgd.SGD(job.learning_rate),
        n_inputs=job.sizes[0],
        input_scale=1 / 255 if job.data else 1.0,
    )


def measure(job: Job, rounds: int, epochs: int) -> list[dict[str, Any]]:
    """Return a row for each way, of one sample; refuses ways that do not give the same bits."""
    X, y = _images(Path(job.data), job.n_samples) if job.data else shapes.samples(job)
    case = f"{shapes.case_name(job)}, one of {len(X):,} rows of {X.dtype}"
    values: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        sources = _sources(X, y, Path(name))
        plain = _network(job)
        plain.fit(X, y, batch_size=job.batch, shuffle=False, verbose=0)
        for way, make in sources.items():
            network = _network(job)
            network.fit(make(), batch_size=job.batch, shuffle=False, verbose=0)
            pairs = zip(network.get_weights(), plain.get_weights(), strict=True)
            if not all(np.array_equal(one, other) for one, other in pairs):
                sys.exit(f"{case}: {way} trains to other weights than arrays")
        ways: dict[str, Callable[[], tuple[Any, ...]]] = {"arrays": lambda: (X, y)}
        ways |= {way: lambda make=make: (make(),) for way, make in sources.items()}
        for _ in range(rounds):
            for way, arguments in ways.items():
                network, given = _network(job), arguments()
                begin = time.perf_counter()
                network.fit(*given, epochs=epochs, batch_size=job.batch, verbose=0)
                seconds = time.perf_counter() - begin
                values.setdefault(way, []).append(seconds / (epochs * len(X)) * 1e6)
    shared = {"group": "blocks", "case": case, "kind": "fit", "unit": "us", "peer": "fastgd"}
    return [shared | {"variant": way, **spread(times)} for way, times in values.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fashion", type=Path, default=FASHION)
    options = parser.parse_args()
    fastgd.config(n_threads=options.threads)
    jobs = [replace(shapes.SMALL, rows=20_000 if options.quick else 400_000)]
    if options.fashion.is_dir():
        rows = 6_000 if options.quick else 60_000
        jobs.append(replace(shapes.IMAGES, rows=rows, data=str(options.fashion)))
    else:
        print(f"no folder {options.fashion}: images are left out", file=sys.stderr)
    rows = []
    for job in jobs:
        found = measure(job, options.rounds, 1 if options.quick else 5)
        rows += found
        for row in found:
            share = row["median"] / found[0]["median"]
            print(f"{row['case']}, {row['variant']}: {row['median']:.3f} us, {share:.2f}x",
                  file=sys.stderr, flush=True)  # fmt: skip
    print(json.dumps([row | {"threads": options.threads} for row in rows]))


if __name__ == "__main__":
    main()
