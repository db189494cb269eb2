"""scikit-learn's own tests, from the installed package, with fastgd's classes put in place.

They run in processes of their own, with settings of their own, as scikit-learn's developers run
them: a fixed order, and warnings that are no errors.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "sklearn.neural_network.tests"
TESTS = Path(__file__).resolve().parent


@pytest.fixture
def run_pytest(tmp_path):
    """Run pytest on a module of scikit-learn's tests; return all that it printed."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(module, *options):
        command = [sys.executable, "-m", "pytest", "-q", "-c", tmp_path / "pytest.ini"]
        command += ["-p", "no:randomly", "-p", "no:cacheprovider"]
        command += [*options, "--pyargs", f"{PACKAGE}.{module}"]
        # Options meant for this suite are not meant for that one.
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
        environment["PYTHONPATH"] = str(TESTS)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("module", ["test_mlp", "test_base", "test_stochastic_optimizers"])
def test_every_test_of_scikit_learn_passes(module, run_pytest):
    collected = run_pytest(module, "--collect-only")
    (count,) = re.findall(r"^(\d+) tests collected in ", collected, re.M)
    printed = run_pytest(module, "-p", "swap_mlp")
    # Nothing skipped, expected to fail or left out: the line would say so.
    pattern = rf"^{count} passed(, \d+ warnings?)? in [\d.]+s"
    assert re.search(pattern, printed.splitlines()[-1]), printed
