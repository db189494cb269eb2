"""Sweep the activations and their derivatives over their inputs, and keep the largest errors.

python tools/sweep.py            # sweep all, and compare with tests/golden/sweep.json
python tools/sweep.py --write    # sweep all, and renew that file after each function
python tools/sweep.py --write --missing    # only those whose sample has other bits than the file's
python tools/sweep.py --quick tanh mish    # a sample of two functions

float32: all 2**32 numbers. float64: 10**8 random ones. tests/c/sweep.c says which, what an error
is, and what is compared. `--threads N` (2 unless given) and `--minutes M` (none begins after these)
fit a sweep into a day; `--inputs N` takes fewer inputs, and the file says so. Ends with 1 if a
bound is broken, if instruction sets differ, or if the bits of the results are not those of the
file, which hold for every machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "golden" / "sweep.json"
NAMES = [
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign",
    "tanh", "sigmoid", "hard_sigmoid", "exp",
]  # fmt: skip
# Of float64 whole chunks of the driver.
COUNTS = {"float32": 1 << 32, "float64": 24_415 * 4096}
SAMPLE = 1 << 16
# What the driver is made from
KERNEL_SOURCES = (
    "csrc/kernels_*.c", "csrc/isa/*.h", "csrc/template/*.h", "csrc/fgd_kernel_table*.h",
    "csrc/fgd_common.h", "csrc/fgd_types.h",
)  # fmt: skip
DRIVER_SOURCES = ("tests/c/sweep*", "tests/c/exact*", "tests/c/isas.h")


def machine() -> str:
    """Return the processor and the system that results come from."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {platform.system()} {platform.machine()}"


def compile_driver() -> Path:
    """Compile tests/c/sweep.c with every kernel, unless it has been since the sources changed."""
    name = os.environ.get("CC", "cc")
    compiler = shutil.which(name)
    if compiler is None:
        raise SystemExit(
            f"the sweep needs a C compiler, and there is no {name!r}: apt-get install gcc libc6-dev"
        )
    folder = ROOT / "build" / f"sweep-{Path(name).name}"
    binary = folder / "sweep"
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c11", "-O2", "-pthread", "-ffp-contract=off", "-Icsrc"]
    is_x86 = platform.machine() == "x86_64"
    objects = []
    for source in sorted((ROOT / "csrc").glob("kernels_*.c")):
        target = folder / f"{source.stem}.o"
        objects.append(target)
        # The library's fma() gives the same bits, much later.
        own = ["-mfma"] if source.stem == "kernels_scalar" and _has_fma() else []
        if is_older(target, KERNEL_SOURCES):
            command = [compiler, *flags, *own, "-c", source, "-o", target]
            subprocess.run(command, cwd=ROOT, check=True)
    if is_older(binary, (*KERNEL_SOURCES, *DRIVER_SOURCES)):
        # -fno-trapping-math lets its comparisons become vectors, and changes no value.
        flags += ["-O3", "-fno-trapping-math", *(["-march=native"] if is_x86 else [])]
        command = [compiler, *flags, "tests/c/sweep.c", *objects, "-lm", "-o", binary]
        subprocess.run(command, cwd=ROOT, check=True)
    return binary


def is_older(made: Path, patterns: tuple[str, ...]) -> bool:
    """Return whether a file is missing, or older than one of its sources."""
    sources = [path for pattern in patterns for path in ROOT.glob(pattern)]
    newest = max(path.stat().st_mtime for path in sources)
    return not made.exists() or made.stat().st_mtime < newest


def _has_fma() -> bool:
    if platform.machine() != "x86_64":
        return False
    return " fma " in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def run(binary: Path, dtype: str, name: str, what: str, n_threads: int, n: int) -> dict[str, Any]:
    """Run the driver; return what it has found, with its complaints."""
    command = [binary, f"f{dtype[-2:]}", name, what, str(n_threads), str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(f"the driver failed: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    found["complaints"] = done.stderr.strip()
    return found


def read() -> dict[str, dict[str, Any]]:
    """Return the file's results: "float32 tanh value" -> what was found."""
    if not RECORD.exists():
        return {}
    results: dict[str, dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))["results"]
    return results


def write(results: dict[str, dict[str, Any]]) -> None:
    """Replace the file, functions in their order."""
    order = [f"{dtype} {name} {what}" for dtype, name, what in functions(NAMES)]
    lines = [f'  "{key}": {json.dumps(results[key])}' for key in order if key in results]
    text = (
        '{"about": "made by tools/sweep.py --write",\n"results": {\n' + ",\n".join(lines) + "\n}}\n"
    )
    new = RECORD.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(RECORD)


def functions(names: list[str]) -> list[tuple[str, str, str]]:
    """Return dtype, name and what of everything that is swept."""
    return [
        (dtype, name, what) for dtype in COUNTS for name in names for what in ("value", "slope")
    ]


def main(argv: list[str]) -> int:
    """Sweep; return the exit status."""
    parser = argparse.ArgumentParser(description="Sweep the activations; see the top of the file.")
    parser.add_argument("names", nargs="*", help="activations; all unless given")
    parser.add_argument("--quick", action="store_true", help=f"{SAMPLE:,} inputs each")
    parser.add_argument("--write", action="store_true", help="renew the file")
    parser.add_argument("--missing", action="store_true", help="what the file has and holds stays")
    parser.add_argument("--inputs", type=int, help="fewer of each; a power of two from 4096 on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    given = parser.parse_args(argv)
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown activation {unknown.pop()!r}; choose from {', '.join(NAMES)}")
    if given.quick and given.write:
        parser.error("--write needs the whole sweep, not --quick")
    begin, status = time.monotonic(), 0
    binary = compile_driver()
    for dtype, name, what in functions(given.names or NAMES):
        key = f"{dtype} {name} {what}"
        kept = read().get(key)
        sample = run(binary, dtype, name, what, 1, SAMPLE)
        n = min(given.inputs or COUNTS[dtype], COUNTS[dtype])
        holds = kept is not None and kept["sample"] == sample["sum"] and kept["inputs"] >= n
        if given.missing and holds:
            continue
        if time.monotonic() - begin > 60 * given.minutes:
            print(f"{key}: not swept any more, after {given.minutes:g} minutes")
            return 1
        found = sample
        if not given.quick:
            found = run(binary, dtype, name, what, given.threads, n)
        complaints = found.pop("complaints")
        if kept is not None and not given.write and found["inputs"] in (SAMPLE, kept["inputs"]):
            wanted = kept["sample" if found["inputs"] == SAMPLE else "sum"]
            if wanted != found["sum"]:
                complaints += f" the bits are not those that {kept['machine']} has found"
        print(
            f"{key:30} {found['worst']:9.4f} {found['unit']} of {found['bound']:g} at "
            f"{float.fromhex(found['at']):.9g} among {found['inputs']:,} {complaints}",
            flush=True,
        )
        status |= bool(complaints)
        if given.write and not complaints:
            on = {"machine": machine(), "when": time.strftime("%Y-%m-%d", time.gmtime())}
            write(read() | {key: found | {"sample": sample["sum"]} | on})
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
