"""Measure `fastgd bench` and keep the figures as results/<version>-<machine>.json.

    python benchmarks/run.py [--dtype float64] [--threads N] [--rounds N]

The README's table comes from the newest float32 file with one thread (`make readme`).
"""

import argparse
import re
from pathlib import Path

import fastgd
from fastgd import _bench


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    machine = re.sub(r"[^a-z0-9]+", "-", _bench.cpu_name().lower()).strip("-")
    name = f"{fastgd.__version__}-{machine}-{fastgd.active_isa()}"
    name += f"-{options.dtype}" * (options.dtype != "float32")
    name += f"-{options.threads}threads" * (options.threads != 1)
    path = Path(__file__).with_name("results") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    work = {
        "kind": "shapes",
        "dtype": options.dtype,
        "n_threads": options.threads,
        "rounds": options.rounds,
        "json_path": str(path),
    }
    _bench.start(work, options.threads)
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
