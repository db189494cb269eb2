"""Run many examples of machines.py or of targets.call_with: see tools/fuzz.py, which starts this.

python tests/fuzz/run_hypothesis.py {calls,sequences} SECONDS
"""

import random
import sys
import time

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import drivers
from machines import Calls

CHUNK = 200


def main():
    name, seconds = sys.argv[1], float(sys.argv[2])
    options = settings(
        max_examples=CHUNK,
        stateful_step_count=30,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number = random.SystemRandom().randrange(2**32)
        print(f"seed {number}", flush=True)
        try:
            if name == "sequences":
                machine = type("Seeded", (Calls,), {})
                run_state_machine_as_test(seed(number)(machine), settings=options)
            else:
                seed(number)(options(drivers.calls()))()
            done += CHUNK  # of one that fails nobody knows how many have run
        finally:
            # The words of libFuzzer, so that whoever started this reads one form.
            print(f"stat::number_of_executed_units: {done}", flush=True)


if __name__ == "__main__":
    main()
