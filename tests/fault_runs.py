"""What the tests of faults share: how often, and programs of their own.

A test of random moments takes `n_times`: a few in the plain suite, many under the mark `faults`.
"""

import json
import subprocess
import sys
import textwrap

import pytest

__all__ = ["few_or", "program", "report", "run", "shown"]


def few_or(many, few):
    """Parametrize a test by `n_times`: few in the plain suite, many in `make test-faults`."""
    return pytest.mark.parametrize(
        "n_times", [few, pytest.param(many, marks=pytest.mark.faults)], ids=["few", "many"]
    )


_START = """
import json, os, signal, sys, threading, time
import numpy as np
import fastgd
X = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
Y = np.arange(512) % 3
def network(hidden=32, seed=0, **settings):
    layers = [fastgd.Dense(hidden, "relu", dropout=0.1), fastgd.Dense(3)]
    return fastgd.Network(layers, "cross_entropy", fastgd.Adam(1e-3), 64, seed=seed, **settings)
def bits(net):
    return b"".join(array.tobytes() for array in net.get_weights())
"""


def program(code, *arguments):
    """Return the command that runs code in a new Python, after what these programs begin with."""
    return [sys.executable, "-W", "error", "-c", _START + textwrap.dedent(code),
            *map(str, arguments)]  # fmt: skip


def run(code, *arguments, timeout=60, check=True):
    """Run such a program to its end; return the process."""
    command = program(code, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def report(done):
    """Return the last line that a program has printed, which is JSON."""
    return json.loads(done.stdout.splitlines()[-1])


def shown(record_property, **figures):
    """Print figures, for docs/reliability.md, and keep them in a report of pytest."""
    for name, value in figures.items():
        record_property(name, value)
    print(json.dumps(figures))
