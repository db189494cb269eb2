"""Run the C drivers and short tests of the package under valgrind's memcheck, on AVX2.

    python tools/memcheck.py [c] [python]

Every report with one of fastgd's files on its stack is shown and is a failure; no report of our
code is suppressed. Reports that are wholly those of other libraries, of which the interpreter's
come under CPython's own suppressions, are counted. Memory that a C driver has lost is a failure.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
FLAGS = [
    "-std=c11",
    "-O1",
    "-g",
    "-pthread",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Icsrc",
]
C_CORE = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
KERNELS = [path for path in C_CORE if "kernels_" in path]
TEAM = [str(ROOT / "csrc" / f"{name}.c") for name in ("fgd_team", "fgd_cpu")]
# program -> (what it is linked with, its arguments)
PROGRAMS = {
    "test_team": (TEAM[1:], []),
    "test_fits": (C_CORE, []),
    "test_rules": (KERNELS, []),
}
SUPPRESSIONS = Path("/usr/lib/valgrind/python3.supp")
OURS = ("/fastgd/", "/csrc/", "/tests/c/")


def check_tools():
    """End with one line where a program is missing."""
    for program, package in (("valgrind", "valgrind"), ("gcc", "gcc libc6-dev")):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing. Debian: apt-get install {package}")


def reports(path):
    """Return the reports in a file of valgrind's, as (is it of our code, text)."""
    found = []
    for error in ElementTree.parse(path).iter("error"):
        what = error.findtext("what") or error.findtext("xwhat/text")
        lines, ours = [], False
        for frame in error.iter("frame"):
            place = f"{frame.findtext('dir', '')}/{frame.findtext('file', '')}"
            library = frame.findtext("obj", "")
            lines.append(f"    {frame.findtext('fn', '?')} ({place} {frame.findtext('line', '')}, "
                         f"{library})")  # fmt: skip
            ours |= any(part in text for part in OURS for text in (place, library))
        found.append((ours, "\n".join([f"{error.findtext('kind')}: {what}", *lines])))
    return found


def memcheck(name, command, environment, *options, harmless=()):
    """Run a command; return whether it passed, without a report of our code but harmless ones."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        done = subprocess.run(
            ["valgrind", "--quiet", "--xml=yes", f"--xml-file={file.name}", "--num-callers=30",
             "--fair-sched=yes", *options, *map(str, command)],
            cwd=ROOT, env=os.environ | environment, check=False,
        )  # fmt: skip
        found = [report for report in reports(file.name) if not report[1].startswith(harmless)]
    ours = [text for is_ours, text in found if is_ours]
    for text in ours:
        print(text)
    passed = done.returncode == 0 and not ours
    print(f"{'passed' if passed else 'FAILED'}  {name}: exit code {done.returncode}, "
          f"{len(ours)} reports of our code, {len(found) - len(ours)} of other libraries, "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    return passed


def c_programs():
    """Compile the C drivers and run them; return whether all passed."""
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for name, (sources, arguments) in PROGRAMS.items():
            binary = Path(folder) / name
            source = ROOT / "tests" / "c" / f"{name}.c"
            subprocess.run(["gcc", *FLAGS, source, *sources, "-lm", "-o", binary], cwd=ROOT,
                           check=True)  # fmt: skip
            # What the team's threads, which live as long as the program, have is reachable.
            passed &= memcheck(name, [binary, *arguments], {}, "--leak-check=full",
                               "--show-leak-kinds=definite,indirect")  # fmt: skip
    return passed


def python_tests():
    """Run tests/smoke.py; return whether it passed."""
    options = [f"--suppressions={SUPPRESSIONS}"] if SUPPRESSIONS.exists() else []
    environment = {"PYTHONMALLOC": "malloc", "FASTGD_ISA": "avx2"}
    command = [sys.executable, ROOT / "tests" / "smoke.py"]
    # With --xml memcheck looks for leaks in any case. What Python's collector manages is pointed at
    # behind its head, and counts as possibly lost while it is in use.
    return memcheck("tests/smoke.py", command, environment, *options,
                    harmless=("Leak_PossiblyLost",))  # fmt: skip


def main():
    check_tools()
    parts = {"c": c_programs, "python": python_tests}
    chosen = sys.argv[1:] or list(parts)
    if set(chosen) - set(parts):
        sys.exit(__doc__)
    results = [parts[name]() for name in chosen]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
