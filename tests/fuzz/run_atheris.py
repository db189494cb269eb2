"""Fuzz one target of targets.py with atheris: see tools/fuzz.py, which starts this.

    python tests/fuzz/run_atheris.py TARGET MEGABYTES [arguments of libFuzzer] CORPUS ...

MEGABYTES is how much memory the process may ask for beyond what it has once all is imported, so
that a file cannot make a reader reserve what it merely claims.
"""

import random
import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fastgd"]):
    import targets

from mutators import MUTATORS


def pages():
    """Return the bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main():
    name, megabytes = sys.argv.pop(1), int(sys.argv.pop(1))
    target = targets.TARGETS[name]
    for seed in sorted((Path(__file__).parent / "seeds" / name).iterdir()):
        target(seed.read_bytes())  # whatever is imported or allocated only once
    limit = pages() + (megabytes << 20)

    def mutate(data, max_size, seed):
        rng = random.Random(seed)
        made = MUTATORS[name](data, rng, lambda part: atheris.Mutate(part, max(len(part), 64) + 64))
        return made if len(made) <= max_size else atheris.Mutate(data, max_size)

    def limited(data):
        target(data)

    options = {"custom_mutator": mutate} if name in MUTATORS else {}
    atheris.Setup(sys.argv, limited, **options)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
