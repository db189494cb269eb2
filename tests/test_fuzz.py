"""Fuzzing's quick form: seeds and past findings once more, and some hundred new inputs.

`make fuzz` is the long form; tests/fuzz/log.csv says how long it has run.
"""

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import targets
from block_extras import has
from c_programs import ROOT
from mutators import MUTATORS

FUZZ = ROOT / "tests" / "fuzz"
# What a target reads with, besides what the package always has
NEEDS = {"table_file": ("pyarrow",), "onnx_file": ("onnx",)}
RUNNABLE = [name for name in targets.TARGETS if all(map(has, NEEDS.get(name, ())))]


def inputs(name):
    return sorted([*FUZZ.glob(f"seeds/{name}/*"), *FUZZ.glob(f"findings/{name}/*")])


@pytest.mark.parametrize("name", RUNNABLE)
def test_seeds_and_findings_are_refused_or_work(name):
    found = inputs(name)
    assert len(found) >= 4
    for path in found:
        try:
            targets.TARGETS[name](path.read_bytes())
        except BaseException as error:
            error.add_note(f"the input is {path}")
            raise


def _mutated(part, rng):
    """A simple mutation of bytes, in place of the fuzzer's."""
    changed = bytearray(part)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        action = rng.random()
        if action < 0.6 and at < len(changed):
            changed[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
        elif action < 0.8:
            changed[at:at] = rng.randbytes(rng.choice((1, 4)))
        else:
            del changed[at : at + rng.choice((1, 4, 40))]
    return bytes(changed)


@pytest.mark.parametrize("name", RUNNABLE)
def test_mutations_of_seeds_are_refused_or_work(name, request):
    """Others in every run: pytest-randomly sets the seed, and prints it."""
    rng = random.Random(random.randrange(2**32))
    seeds = [path.read_bytes() for path in inputs(name)]
    for _ in range(100):
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 2, 4))):
            if name in MUTATORS:
                data = MUTATORS[name](data, rng, lambda part: _mutated(part, rng))
            else:
                data = _mutated(data, rng)
        try:
            targets.TARGETS[name](data)
        except BaseException as error:
            error.add_note(f"the input is {data.hex()}")
            raise


def test_targets_find_what_is_wrong(monkeypatch):
    """A reader that lets an exception of another kind out is found."""
    monkeypatch.setattr(targets.fastgd, "load", lambda path: {}["no such key"])
    with pytest.raises(KeyError):
        targets.model_file(b"")


def test_a_refused_call_that_changes_the_network_is_found(monkeypatch):
    def changes(net, *arguments, **options):
        net.layers[0].weight[...] += 1
        raise ValueError("refused, but too late")

    for name in ("fit", "train_step", "predict", "evaluate", "loss_and_grad"):
        monkeypatch.setattr(targets.fastgd.Network, name, changes)
    with pytest.raises(AssertionError, match="has changed the network"):
        targets.arguments(bytes(100))


def test_log_names_targets_and_holds_numbers():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import fuzz
    finally:
        sys.path.pop(0)
    with (FUZZ / "log.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["target"] for line in lines} <= set(fuzz.TARGETS)
    assert {*targets.TARGETS, "net", "calls", "sequences"} == set(fuzz.TARGETS)
    for line in lines:
        assert int(line["cpu_seconds"]) >= 0
        assert int(line["executions"]) >= 0
        assert int(line["findings"]) in (0, 1)


def replayed(folder, files):
    """Run inputs of the C core, compiled without optimisation, so that it is compiled soon."""
    compiler, binary = os.environ.get("CC", "cc"), folder / "replay"
    sources = ["tests/c/fuzz_net.c", *map(str, sorted((ROOT / "csrc").glob("*.c")))]
    flags = "-std=c11 -O0 -DFGD_REPLAY -ffp-contract=off -pthread -Wall -Wextra -Werror -Icsrc"
    objects = [str(folder / f"{Path(source).stem}.o") for source in sources]
    compiling = [
        subprocess.Popen([compiler, *flags.split(), "-c", source, "-o", made], cwd=ROOT)
        for source, made in zip(sources, objects, strict=True)
    ]
    assert [process.wait() for process in compiling] == [0] * len(sources)
    subprocess.run([compiler, "-pthread", *objects, "-lm", "-o", binary], cwd=ROOT, check=True)
    done = subprocess.run([binary, *files], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (0, f"{len(files)} files\n"), done.stderr


def test_small_seeds_of_the_c_core_have_the_bits_of_scalar(tmp_path):
    replayed(tmp_path, sorted(inputs("net"), key=lambda path: path.stat().st_size)[:3])


@pytest.mark.grid
def test_all_seeds_of_the_c_core_have_the_bits_of_scalar(tmp_path):
    replayed(tmp_path, inputs("net"))
