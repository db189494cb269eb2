"""Fuzz the readers, the arguments, sequences of calls and the C core, and log what was done.

    python tools/fuzz.py [--seconds N] [--memory MB] [TARGET ...]

Each target runs for N seconds of the clock, beginning with the seeds of tests/fuzz/seeds and with
what earlier runs have found interesting, in .fuzz/corpus. A line for each is added to
tests/fuzz/log.csv: date, commit, target, CPU seconds, executions, findings. A finding ends its run;
the input is left in .fuzz/findings, and belongs in tests/fuzz/findings once it is mended.
--total prints the sums of the log instead.
"""

import argparse
import csv
import datetime
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".fuzz"
LOG = ROOT / "tests" / "fuzz" / "log.csv"
COLUMNS = ("date", "commit", "target", "cpu_seconds", "executions", "findings")
# atheris, libFuzzer and hypothesis, in this order
READERS = ("model_file", "idx_file", "table_file", "onnx_file", "arguments")
TARGETS = (*READERS, "net", "calls", "sequences")
# One input longer than this is a finding.
LONGEST_SECONDS = 5
LONGEST_INPUT = {"model_file": 20_000, "table_file": 8_000, "onnx_file": 8_000, "net": 4_000}

CLANG = "clang -std=c11 -O1 -g1 -ffp-contract=off -fno-omit-frame-pointer -pthread -Icsrc"
SANITIZERS = "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
# The kernels have a vector access in nearly every expression: with the checks of UBSan for each of
# them clang 14 had not compiled a file after six minutes.
OF_KERNELS = "-fsanitize=address"


def compiled():
    """Return the program that fuzzes the C core, built where a source is newer."""
    if shutil.which("clang") is None:
        sys.exit("fuzzing the C core needs clang: apt-get install clang libclang-rt-dev")
    sources = [ROOT / "tests" / "c" / "fuzz_net.c", *sorted((ROOT / "csrc").glob("*.c"))]
    newest = max(path.stat().st_mtime for path in [*sources, *(ROOT / "csrc").glob("**/*.h")])
    folder = WORK / "build"
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in sources:
        made = folder / f"{source.stem}.o"
        objects.append(made)
        if made.exists() and made.stat().st_mtime > newest:
            continue
        is_kernel = source.stem.startswith("kernels_")
        flags = f"{CLANG} {OF_KERNELS if is_kernel else SANITIZERS}"
        run([*shlex.split(flags), "-c", source, "-o", made])
    program = folder / "fuzz_net"
    if not program.exists() or program.stat().st_mtime < max(o.stat().st_mtime for o in objects):
        run([*shlex.split(CLANG), "-fsanitize=fuzzer,address,undefined", *objects, "-lm", "-o",
             program])  # fmt: skip
    return program


def run(command):
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(
            "the C fuzzer cannot be built: see above. It needs clang with its runtime library: "
            "apt-get install clang libclang-rt-dev (libclang-rt-14-dev for clang 14)"
        )


def command_of(target, seconds, megabytes):
    """Return the command that fuzzes a target."""
    here = ROOT / "tests" / "fuzz"
    if target in ("calls", "sequences"):
        return [sys.executable, here / "run_hypothesis.py", target, seconds]
    corpus = WORK / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-timeout={LONGEST_SECONDS}", "-print_final_stats=1",
        f"-max_len={LONGEST_INPUT.get(target, 1000)}", "-reload=0", "-verbosity=1",
        f"-artifact_prefix={WORK / 'findings' / target}-",
    ]  # fmt: skip
    folders = [corpus, here / "seeds" / target]
    if (here / "findings" / target).is_dir():
        folders.append(here / "findings" / target)
    if target == "net":
        return [compiled(), *options, f"-rss_limit_mb={2 * megabytes + 1024}", *folders]
    python = [sys.executable, here / "run_atheris.py", target, megabytes]
    return [*python, *options, "-rss_limit_mb=0", *folders]


def fuzz(target, seconds, megabytes):
    """Run one target, and return the line of the log and whether nothing was found."""
    (WORK / "findings").mkdir(parents=True, exist_ok=True)
    command = [str(part) for part in command_of(target, seconds, megabytes)]
    environment = os.environ | {"PYTHONHASHSEED": "0", "ASAN_OPTIONS": "detect_leaks=1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (WORK / f"{target}.log").open("w") as log:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    text = (WORK / f"{target}.log").read_text("utf-8", "replace")
    counts = re.findall(r"number_of_executed_units: (\d+)", text)
    line = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "target": target,
        "cpu_seconds": round(cpu),
        "executions": int(counts[-1]) if counts else 0,
        "findings": int(done.returncode != 0),
    }
    if done.returncode:
        print(*text.splitlines()[-60:], sep="\n")
    return line, done.returncode == 0


def commit():
    """Return the commit, with a plus sign if the folder differs from it."""
    git = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=10"]
    return subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def append(line):
    is_new = not LOG.exists()
    with LOG.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(line)


def total():
    """Print the sums of the log, as a table of Markdown."""
    print("| target | CPU minutes | executions | findings |\n|---|---:|---:|---:|")
    with LOG.open(newline="") as file:
        lines = list(csv.DictReader(file))
    for target in TARGETS:
        own = [line for line in lines if line["target"] == target]
        cpu, runs, findings = (sum(int(line[name]) for line in own) for name in COLUMNS[3:])
        print(f"| {target} | {cpu / 60:.0f} | {runs:,} | {findings} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--memory", type=int, default=512, help="megabytes that a reader may take")
    parser.add_argument("--total", action="store_true", help="print the sums of the log")
    options = parser.parse_args()
    if options.total:
        total()
        return
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"unknown target {unknown[0]!r}; choose from {', '.join(TARGETS)}")
    good = True
    for target in options.targets or TARGETS:
        line, passed = fuzz(target, options.seconds, options.memory)
        append(line)
        print(*(f"{name} {value}" for name, value in line.items()), sep=", ", flush=True)
        good &= passed
    sys.exit(not good)


if __name__ == "__main__":
    main()
