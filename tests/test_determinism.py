"""Equal bits for every number of threads and every instruction set, and on every machine.

Fits and operations are those of golden_cases.py, their digests those of golden/digests.json, which
`python tools/golden.py` writes: where the bits of a result are meant to change, and only then.
"""

import json
import sys

import pytest

import golden_cases
from c_programs import ROOT
from fastgd import _kernels, config

sys.path.insert(0, str(ROOT / "tools"))
import sweep

import golden

N_QUICK, N_ALL = 20, 1000


def cases():
    rest = pytest.mark.determinism
    return [pytest.param(number, marks=() if number < N_QUICK else rest) for number in range(N_ALL)]


def ways(number):
    """Return instruction set, threads, and whether gradients are stored: the plain way, others."""
    isas = _kernels.available_isas()
    h = golden_cases.Hash(3, number)
    yield isas[-1], 1, False
    yield isas[0], 1, False
    yield isas[-1], 2 + h.below(3), False
    yield h.choose(isas), 1 + h.below(4), h.below(2) == 0
    yield h.choose(isas), 2 + h.below(3), True


@pytest.mark.parametrize("number", cases())
def test_a_fit_has_the_same_bits_on_any_threads_and_instruction_set(number):
    case = golden_cases.Case(number)
    found = {way: case.run(*way) for way in ways(number)}
    assert len({*found.values()}) == 1, found


def recorded():
    return json.loads(golden.RECORD.read_text(encoding="utf-8"))


def test_fits_have_the_bits_of_the_golden_file():
    kept = recorded()
    isas = _kernels.available_isas()
    ways = {
        number: (isas[number % len(isas)], 1 + number % 4) for number in range(golden_cases.N_FITS)
    }
    differ = [
        (number, *way) for number, way in ways.items()
        if golden_cases.Case(number).run(*way) != kept["fits"][f"{number}"]
    ]  # fmt: skip
    assert not differ, f"other bits than on {kept['machine']}"


def test_operations_have_the_bits_of_the_golden_file(isa):
    kept = recorded()
    found = golden_cases.operation_digests()
    assert found.keys() == kept["operations"].keys()
    differ = [name for name in found if found[name] != kept["operations"][name]]
    assert not differ, f"other bits than on {kept['machine']}: {', '.join(differ)}"


def test_the_golden_file_has_a_hundred_of_each():
    kept = recorded()
    assert len(kept["fits"]) == golden_cases.N_FITS == 100
    assert len(kept["operations"]) >= 100


def test_digests_tell_the_last_bit_apart():
    case = golden_cases.Case(3)
    before = case.run(_kernels.active_isa(), 1)
    case.X = case.X.copy()
    case.X[0, 0] += 2.0**-20
    assert case.run(_kernels.active_isa(), 1) != before


# ---- the sweep's sample --------------------------------------------------------------------------


@pytest.mark.parametrize("name", sweep.NAMES)
def test_a_sample_has_the_bits_of_the_whole_sweep(name):
    """What was swept is what is here: if this fails, sweep anew (make test-sweep)."""
    for isa in _kernels.available_isas():
        for what in ("value", "slope"):
            kept = sweep.read()[f"float32 {name} {what}"]
            assert kept["inputs"] >= 2**26
            assert kept["worst"] <= kept["bound"]
            with config(isa=isa):
                found = golden_cases.sum_of_sample(name, what, sweep.SAMPLE)
            assert found == kept["sample"], (isa, what)


@pytest.mark.parametrize("dtype", sweep.COUNTS)
def test_everything_was_swept(dtype):
    kept = {key for key in sweep.read() if key.startswith(dtype)}
    assert kept == {f"{dtype} {name} {what}" for d, name, what in sweep.functions(sweep.NAMES)
                    if d == dtype}  # fmt: skip
