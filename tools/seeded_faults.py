"""Make faults in a copy of the sources, one after the other, and see whether the suite finds each.

    python tools/seeded_faults.py [WORD ...]

The faults are those of tests/seeded_faults.py, or those of them whose names hold all the words. For
each the named file of tests is run, which must fail; and before, with nothing wrong, pass.
Everything is built without optimisation in an environment of its own, .venv-faults.
"""

import argparse
import os
import subprocess
import sys
import time

from instrumented import ROOT, SOURCES, Build, Failed

sys.path.insert(0, str(ROOT / "tests"))
from seeded_faults import FAULTS

# With the tests, whose C programs compile the sources that lie beside them.
BUILD = Build(ROOT / ".venv-faults", {"FASTGD_DEBUG": "1"}, copied=(*SOURCES, "tests"))
NONE_FAILED, SOME_FAILED = 0, 1  # exit codes of pytest


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
    """Run files of tests up to the first failure; return pytest's code and the name of the test."""
    done = subprocess.run(
        [BUILD.python, "-m", "pytest", "-x", "-q", *(f"tests/{name}.py" for name in files)],
        cwd=BUILD.source,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, failed[0][:150] if failed else done.stdout[-500:]


def is_found(fault):
    """Make one fault, run its tests, and undo it; return whether one failed, and its name."""
    path = BUILD.source / fault.file
    right = path.read_text("utf-8")
    compiled = path.suffix != ".py"
    path.write_text(fault.text(), "utf-8")
    try:
        if compiled:
            build()
        code, line = tests([fault.tests])
    finally:
        path.write_text(right, "utf-8")
    if code not in (NONE_FAILED, SOME_FAILED):
        raise Failed(line)
    return code == SOME_FAILED, line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="of the names of faults")
    words = parser.parse_args().words
    chosen = {name: fault for name, fault in FAULTS.items() if all(word in name for word in words)}
    missed = []
    try:
        BUILD.make()
        for name in ("docs", "examples"):  # which tests read
            if not (BUILD.source / name).exists():
                (BUILD.source / name).symlink_to(ROOT / name)
        build()  # the last fault may still be in it
        code, line = tests(sorted({fault.tests for fault in chosen.values()}))
        if code != NONE_FAILED:
            raise Failed(f"tests fail although nothing is wrong: {line}")
        for name, fault in chosen.items():
            begin = time.monotonic()
            found, line = is_found(fault)
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
