"""Make faults in a copy of the sources, one after the other, and see whether the suite finds each.

    python tools/find_seeded_faults.py [WORD ...]

The faults are those of tests/seeded_faults.py, or those of them whose names hold all the words. For
each the named file of tests is run, which must fail; and before, with nothing wrong, pass.
Everything is built without optimisation in an environment of its own, .venv-faults.
"""

import argparse
import os
import subprocess
import sys
import time

from builds import ROOT, SOURCES, Build, Failed

sys.path.insert(0, str(ROOT / "tests"))
from seeded_faults import FAULTS

# With the tests, whose C programs compile the sources that lie beside them.
BUILD = Build(ROOT / ".venv-faults", {"FASTGD_DEBUG": "1"}, copied=(*SOURCES, "tests"))
NO_TESTS = 5  # an exit code of pytest
MOST_SECONDS = 1800


def build():
    """Compile the copy in place."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],  # which has Cython
        cwd=BUILD.source,
        env=os.environ | BUILD.switches,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stdout + done.stderr)


def tests(files):
    """Run files of tests up to the first failure; return whether all passed, and what failed."""
    command = [BUILD.python, "-m", "pytest", "-x", "-q", *(f"tests/{name}.py" for name in files)]
    try:
        done = subprocess.run(
            command,
            cwd=BUILD.source,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False, f"not ended after {MOST_SECONDS} s"
    if done.returncode == NO_TESTS:
        raise Failed(done.stdout + done.stderr)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0][:150] if failed else done.stdout[-500:]


def is_found(fault):
    """Make one fault, run its tests, and undo it; return whether one failed, and its name."""
    path = BUILD.source / fault.file
    right, wrong = path.read_text("utf-8"), fault.text(BUILD.source)
    path.write_text(wrong, "utf-8")
    try:
        if is_compiled(fault):
            build()
        passed, line = tests([fault.tests])
    finally:
        path.write_text(right, "utf-8")
    return not passed, line


def is_compiled(fault):
    return not fault.file.endswith(".py")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="all of which are in the names of faults")
    words = parser.parse_args().words
    chosen = [name for name in FAULTS if all(word in name for word in words)]
    if not chosen:
        parser.error(f"no fault has {' and '.join(map(repr, words))} in its name")
    # What is compiled keeps a fault until the next one is compiled: those of Python come first.
    chosen.sort(key=lambda name: is_compiled(FAULTS[name]))
    missed = []
    try:
        BUILD.make()
        for name in ("docs", "examples"):  # which tests read
            if not (BUILD.source / name).exists():
                (BUILD.source / name).symlink_to(ROOT / name)
        build()  # the last fault may still be in it
        passed, line = tests(sorted({FAULTS[name].tests for name in chosen}))
        if not passed:
            raise Failed(f"tests fail although nothing is wrong: {line}")
        for name in chosen:
            begin = time.monotonic()
            found, line = is_found(FAULTS[name])
            if not found:
                missed.append(name)
            verdict = "found " if found else "MISSED"
            print(f"{verdict} {name} ({time.monotonic() - begin:.0f} s)\n    {line}", flush=True)
    except Failed as error:
        sys.exit(str(error))
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} faults found")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
