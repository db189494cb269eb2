"""Hold what tests/c/digests.c prints on other processors and systems to tests/c/digests.txt.

    python tools/digests.py native   # each instruction set of this machine; compiler: CC, or cc
    python tools/digests.py qemu     # AArch64, and x86-64 without AVX-512 and without AVX2 and FMA
    python tools/digests.py cross    # Windows, macOS and musl: compile, link, and run what can be;
                                     # names of targets behind it choose some
    python tools/digests.py write    # renew tests/c/digests.txt after a change of the contract

`qemu` emulates the processors, with qemu-user, and the package of this environment as well: it is
imported, fitted and checked there. `cross` compiles with the clang of the package ziglang; programs
for Windows run in Wine and those for AArch64 in qemu-user where these are installed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "tests" / "c" / "digests.txt"
FLAGS = ["-std=c11", "-O2", "-DNDEBUG", "-ffp-contract=off", "-Icsrc"]
FLAGS += ["-Wall", "-Wextra", "-Werror"]
# Seconds for a program, of which an emulated one beside others takes some tens
TIMEOUT = 900
PACKAGES = {
    "qemu-x86_64": "qemu-user",
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "objdump": "binutils",
    "cc": "gcc libc6-dev",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
# Of ziglang's clang: whether programs run here, and with what. Threads come from the system.
TARGETS = {
    "x86_64-linux-musl": [],
    "aarch64-linux-musl": ["qemu-aarch64"],
    "x86_64-windows-gnu": ["wine64"],
    "aarch64-windows-gnu": None,
    "x86_64-macos": None,
    "aarch64-macos": None,
}
TRIAL = """
import hashlib, numpy as np, fastgd
from fastgd import _kernels
rng = np.random.default_rng(0)
X, y = rng.normal(size=(60, 9)), np.arange(60) % 3
net = fastgd.Network([fastgd.Dense(16, "gelu"), fastgd.Dense(3)], "cross_entropy", n_inputs=9,
                     optimizer=fastgd.Adam(lr=0.01), seed=0)
net.fit(X, y, epochs=3, batch_size=20, verbose=0)
bits = b"".join(np.ascontiguousarray(l.weight).tobytes() for l in net.layers)
{check}
print(_kernels.active_isa(), hashlib.sha256(bits).hexdigest()[:16])
"""
CHECK = "assert fastgd.check(verbose=False).passed"


def need(*programs):
    """Exit with the command to install what is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[program] for program in missing))
        sys.exit(f"{', '.join(missing)} not found. On Debian: apt-get install {packages}")


def compile_all(compiler, folder, flags=()):
    """Compile the C core and the driver in parallel; return the objects."""
    sources = [*sorted((ROOT / "csrc").glob("*.c")), ROOT / "tests" / "c" / "digests.c"]
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source):
        to = folder / f"{source.stem}.o"
        source = source.relative_to(ROOT)
        subprocess.run([*compiler, *FLAGS, *flags, "-c", source, "-o", to], cwd=ROOT, check=True)
        return to

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def build(compiler, folder, flags=(), link=(), suffix=""):
    """Compile and link the driver; return its path."""
    objects = compile_all(compiler, folder, flags)
    program = folder / f"digests{suffix}"
    subprocess.run([*compiler, *flags, *objects, *link, "-o", program], cwd=ROOT, check=True)
    return program


def run(*command, isa=None):
    """Run the driver; return the instruction set that it took, and its lines."""
    command = [*map(str, command), *([isa] if isa else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        sys.exit(f"{shlex.join(command)} has not ended after {TIMEOUT} seconds")
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.returncode}\n{done.stdout[-500:]}{done.stderr}")
    # Wine adds remarks of its own.
    return re.search(r"^isa (\w+)$", done.stderr, re.M)[1], done.stdout.splitlines()


def check_team(name, compiler, folder, link, *emulator):
    """Exit unless the team's own test passes; with `wake`, no thread may sleep for ever."""
    program = folder / "test_team"
    sources = ["tests/c/test_team.c", "csrc/fgd_cpu.c"]
    subprocess.run([*compiler, *FLAGS, *sources, *link, "-o", program], cwd=ROOT, check=True)
    for arguments in ([], ["wake"]):
        command = list(map(str, [*emulator, program, *arguments]))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            sys.exit(f"{name}: {shlex.join(command)} has not ended after {TIMEOUT} seconds")
        if (done.returncode, done.stdout) != (0, "ok\n"):
            sys.exit(f"{name}: {done.returncode}\n{done.stdout}{done.stderr}")
    print(f"{name}: the team of threads works, and every sleeper is woken", flush=True)


def check(name, *command, isa=None, expected_isa=None):
    """Exit with the lines that differ from the expected ones, if any."""
    found_isa, lines = run(*command, isa=isa)
    expected = EXPECTED.read_text().splitlines()
    if found_isa != (isa or expected_isa or found_isa):
        sys.exit(f"{name}: chose {found_isa}, not {isa or expected_isa}")
    if lines != expected:
        odd = [line for line in lines if line not in expected]
        sys.exit("\n".join([f"{name}, {found_isa}: {len(odd)} lines differ", *odd]))
    print(f"{name}, {found_isa}: {len(lines)} digests as expected", flush=True)


def native(folder):
    compiler = shlex.split(os.environ.get("CC", "cc"))
    need(compiler[0])
    program = build(compiler, folder / "native", link=["-pthread", "-lm"])
    # It exits with 2 for an instruction set that this machine lacks.
    for isa in ("scalar", "neon", "avx2", "avx512"):
        if subprocess.run([program, isa, "no line"], stderr=subprocess.DEVNULL).returncode == 0:
            check(shlex.join(compiler), program, isa=isa)
    check(f"{shlex.join(compiler)}, chosen", program)


def check_baseline(objects):
    """See that what every x86-64 processor runs holds no instruction of AVX, AVX2 or FMA."""
    for path in objects:
        if path.stem in ("kernels_avx2", "kernels_avx512"):
            continue
        text = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", path],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        words = {line.split("\t")[1].split()[0] for line in text.splitlines() if "\t" in line}
        newer = {word for word in words if word.startswith("v") and not word.startswith("verr")}
        if newer:
            sys.exit(f"{path.name} has instructions of AVX: {sorted(newer)}")
    print("x86-64: no instruction of AVX but in the kernels for AVX2 and AVX-512", flush=True)


def qemu(folder):
    need("qemu-x86_64", "qemu-aarch64", "aarch64-linux-gnu-gcc", "cc", "objdump")
    static = ["-static", "-pthread", "-lm"]
    program = build(["aarch64-linux-gnu-gcc"], folder / "aarch64", link=static)
    check("AArch64 (gcc, qemu)", "qemu-aarch64", program, expected_isa="neon")
    check("AArch64 (gcc, qemu)", "qemu-aarch64", program, isa="scalar")
    check_team(
        "AArch64 (gcc, qemu)", ["aarch64-linux-gnu-gcc"], folder / "aarch64", static, "qemu-aarch64"
    )
    program = build(["cc"], folder / "x86_64", link=static)
    check_baseline(sorted((folder / "x86_64").glob("*.o")))
    for cpu, isa in (("Haswell", "avx2"), ("Nehalem", "scalar")):
        check(f"{cpu} (qemu)", "qemu-x86_64", "-cpu", cpu, program, expected_isa=isa)
    emulate_python()


def emulate_python():
    """Import, fit and check the package of this environment on other x86-64 processors."""

    def trial(check, *emulator):
        code = TRIAL.format(check=check)
        done = subprocess.run(
            [*emulator, sys.executable, "-W", "error", "-c", code],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{' '.join(emulator)}: Python exited with {done.returncode}\n{done.stderr}")
        return done.stdout.split()

    _, expected = trial("")
    # On some hosts NumPy's OpenBLAS does not see the emulated processor, and takes AVX for granted.
    for cpu, isa in (("Haswell", "avx2"), ("Nehalem", "scalar")):
        os.environ["OPENBLAS_CORETYPE"] = cpu
        found = trial(CHECK, "qemu-x86_64", "-cpu", cpu)
        if found != [isa, expected]:
            sys.exit(f"Python on {cpu}: {found}, not {[isa, expected]}")
        print(f"Python on {cpu} (qemu), {isa}: checked, a fit has the same bits", flush=True)


def cross(folder, *targets):
    zig = [sys.executable, "-m", "ziglang", "cc"]
    os.environ |= {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    os.environ["PATH"] += f"{os.pathsep}/usr/lib/wine"  # Debian keeps wine64 off the path
    for target in targets or TARGETS:
        if target not in TARGETS:
            sys.exit(f"{target} is none of {', '.join(TARGETS)}")
        emulator = TARGETS[target]
        is_windows, is_macos = "windows" in target, "macos" in target
        program = build(
            [*zig, "-target", target],
            folder / target,
            link=[] if is_windows or is_macos else ["-static"],
            suffix=".exe" if is_windows else "",
        )
        if emulator is None or not all(map(shutil.which, emulator)):
            what = "no way to run it here" if emulator is None else f"no {emulator[0]} here"
            print(f"{target}: compiled and linked without a warning; {what}", flush=True)
        else:
            for isa in (None, "scalar"):  # what is chosen; and the system's own fma()
                check(f"{target} ({' '.join(emulator) or 'here'})", *emulator, program, isa=isa)


def write(folder):
    program = build(["cc"], folder, link=["-pthread", "-lm"])
    lines = {isa: run(program, isa=isa)[1] for isa in ("scalar", None)}
    if lines["scalar"] != lines[None]:
        sys.exit("the instruction sets of this machine differ: python tools/digests.py native")
    EXPECTED.write_text("\n".join(lines[None]) + "\n")


def main():
    commands = {"native": native, "qemu": qemu, "cross": cross, "write": write}
    name, *arguments = sys.argv[1:] or [""]
    if name not in commands or (arguments and name != "cross"):
        sys.exit(f"usage: python tools/digests.py {'|'.join(commands)}")
    with tempfile.TemporaryDirectory() as folder:
        commands[name](Path(folder), *arguments)


if __name__ == "__main__":
    main()
