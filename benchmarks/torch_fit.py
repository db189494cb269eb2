"""fastgd.torch.fit beside a plain loop in PyTorch: the same module, data, optimiser and epochs.

Run as a module it measures in its own process and prints rows as JSON; extras.py does that.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import torch  # noqa: E402
from torch import nn  # noqa: E402

import fastgd.torch  # noqa: E402
from benchmarks import shapes  # noqa: E402
from benchmarks.pool import spread  # noqa: E402
from benchmarks.shapes import Job  # noqa: E402

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.001),
}


def _module(job: Job) -> nn.Sequential:
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for fan_in, fan_out in pairwise(job.sizes):
        modules += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[job.activation]()]
    return nn.Sequential(*modules[:-1])


def _loop(
    module: nn.Module, X: Any, y: Any, loss: Any, optimizer: Any, job: Job, shuffle: bool
) -> None:
    """Train one epoch, batched by hand: faster than a DataLoader."""
    order = torch.randperm(len(X)) if shuffle else torch.arange(len(X))
    for rows in order.split(job.batch):
        optimizer.zero_grad()
        loss(module(X[rows]), y[rows]).backward()
        optimizer.step()


def _fit(
    module: nn.Module, X: Any, y: Any, loss: Any, optimizer: Any, job: Job, shuffle: bool
) -> None:
    settings = {"batch_size": job.batch, "shuffle": shuffle, "verbose": 0}
    fastgd.torch.fit(module, X, y, loss=loss, optimizer=optimizer, **settings)


def measure(job: Job, name: str, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each way, of one epoch; refuses ways that do not train to the same loss."""
    X, y = (torch.from_numpy(array) for array in shapes.samples(job))
    loss: nn.Module = nn.CrossEntropyLoss()
    if job.loss == "squared_error":
        loss, y = nn.MSELoss(), y.reshape(len(X), -1)
    ways = {"torch": _loop, "fastgd": _fit}
    case = f"{shapes.case_name(job)}, {name}, {len(X):,} rows"
    start = _module(job)
    values: dict[str, list[float]] = {peer: [] for peer in ways}
    ends: dict[str, float] = {}
    for turn in range(rounds + 1):
        for peer, way in ways.items():
            module = copy.deepcopy(start)
            optimizer = _OPTIMIZERS[name](module.parameters())
            begin = time.perf_counter()
            # First of all in the order of the rows, in which both come to the same.
            way(module, X, y, loss, optimizer, job, shuffle=turn > 0)
            if turn:
                values[peer].append((time.perf_counter() - begin) * 1e6)
                continue
            with torch.no_grad():
                ends[peer] = loss(module(X), y).item()
        if not abs(ends["torch"] - ends["fastgd"]) <= 1e-3 * abs(ends["torch"]):
            sys.exit(f"{case}: {ends}")
    shared = {"group": "torch_fit", "case": case, "kind": "fit", "unit": "us"}
    return [shared | {"peer": peer, **spread(times)} for peer, times in values.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fastgd.config(n_threads=options.threads)
    rows = []
    # An epoch of the wide network's own two steps would measure the way in and out of the module.
    jobs = [replace(job, steps=8) if job == shapes.WIDE else job for job in shapes.NETWORKS]
    for job in jobs[:2] if options.quick else jobs:
        for name in _OPTIMIZERS:
            rows += measure(job, name, options.rounds)
            theirs, mine = (row["median"] for row in rows[-2:])
            case = rows[-1]["case"]
            print(f"{case}: {theirs / mine:.2f}x", file=sys.stderr, flush=True)
    print(json.dumps([row | {"threads": options.threads} for row in rows]))


if __name__ == "__main__":
    main()
