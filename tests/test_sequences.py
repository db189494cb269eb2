"""Calls in any order, with any arguments: some examples of what `make fuzz` does at length."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import drivers
import fastgd
import machines

FEW = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    # Making a failing example small takes minutes: `make fuzz FUZZ_TARGETS=sequences` does it.
    phases=[Phase.generate],
)
UNTIL_ONE_FAILS = settings(FEW, max_examples=200, report_multiple_bugs=False)


def test_sequences_of_calls_do_what_plainer_ways_do():
    run_state_machine_as_test(machines.Calls, settings=FEW)


def test_sequences_find_a_fit_that_forgets_a_step(monkeypatch):
    """The model is one that can be wrong."""
    step = fastgd.Network.train_step

    def forgetful(net, X, y, sample_weight=None):
        return step(net, X, y) if len(X) % 2 else 0.0

    monkeypatch.setattr(fastgd.Network, "train_step", forgetful)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machines.Calls, settings=UNTIL_ONE_FAILS)


def test_calls_with_arguments_of_every_kind_are_refused_or_work():
    settings(FEW, max_examples=150)(drivers.calls())()
