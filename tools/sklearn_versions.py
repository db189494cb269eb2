"""Run the tests of fastgd.sklearn with several versions of scikit-learn.

    python tools/sklearn_versions.py 1.6 1.9 [-- arguments for pytest]

Each version has an environment, .venv-sklearn-<version>, which is made anew only if what it was
made of has changed. fastgd in it is the one that is built in place.
"""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
TESTS = [*sorted(ROOT.glob("tests/test_sklearn_*.py")), ROOT / "tests" / "test_extras.py"]
FASTGD = "-e.[data,plot,sklearn,onnx,test]"
# The requirements of scikit-learn name no upper limits; these are theirs.
LIMITS = {
    # It gives L-BFGS-B the option iprint, which scipy 1.18 no longer has.
    "1.6": ["scipy<1.18"],
}
# Old versions beside new libraries warn, and nobody will change them. What fastgd and its tests
# cause in their own name is an error, as in the suite.
THIRD_PARTIES = ("joblib", "numpy", "onnx", "onnxruntime", "pandas", "scipy", "skl2onnx", "sklearn")
WARNINGS = [
    "error",
    rf"default:::({'|'.join(THIRD_PARTIES)})(\.|$)",
    # These have the name of whoever calls: scikit-learn 1.6 has an iterator where pytest wants a
    # list, and pytest.warns passes its iprint on.
    "default:Passing a non-Collection iterable",
    "default:.*the `disp` and `iprint` options",
]
FOUND = """
import json, numpy, scipy, sklearn
print(json.dumps({m.__name__: m.__version__ for m in (sklearn, scipy, numpy)}))
"""


class Failed(Exception):
    """An environment could not be made; the output of what failed has been shown."""


def run(*command):
    """Run a command in the clone, with its output shown; return its exit code."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


def environment(version):
    """Return the interpreter of a version's environment, which is made first where needed."""
    folder = ROOT / f".venv-sklearn-{version}"
    python, stamp = folder / "bin" / "python", folder / ".made-of"
    wanted = [FASTGD, f"scikit-learn=={version}.*", *LIMITS.get(version, [])]
    made_of = "\n".join([*wanted, sys.version, (ROOT / "pyproject.toml").read_text("utf-8")])
    if stamp.exists() and stamp.read_text("utf-8") == made_of:
        return python
    print(f"Installing scikit-learn {version} in {folder.name} ...", flush=True)
    if run(sys.executable, "-m", "venv", "--clear", folder):
        raise Failed(f"{folder.name} cannot be made: see above")
    if run(python, "-m", "pip", "--disable-pip-version-check", "install", *wanted):
        raise Failed(f"pip cannot install {' '.join(wanted)}: see above")
    stamp.write_text(made_of, "utf-8")
    return python


def test(version, options):
    """Run the tests with a version; return the line that sums them up, and whether all passed."""
    try:
        python = environment(version)
    except Failed as error:
        return f"scikit-learn {version}: {error}", False
    found = json.loads(subprocess.check_output([python, "-c", FOUND], cwd=ROOT))
    versions = "scikit-learn {sklearn}, scipy {scipy}, numpy {numpy}".format(**found)
    print(f"Testing with {versions} ...", flush=True)
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-o", "filterwarnings=" + "\n".join(WARNINGS)]
    code = run(*command, f"--junit-xml={report}", *options, *TESTS)
    if not report.exists():
        return f"{versions}: pytest ended with exit code {code}", False
    counts = ElementTree.parse(report).find("testsuite").attrib
    total, *others = (int(counts[name]) for name in ("tests", "failures", "errors", "skipped"))
    ends = "{} failed, {} errors, {} skipped".format(*others)
    return f"{versions}: {total - sum(others)} passed, {ends}", code == 0


def main():
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    versions, options = arguments[:end], arguments[end + 1 :]
    if not versions:
        sys.exit(__doc__)
    results = [test(version, options) for version in versions]
    print()
    for line, passed in results:
        print("passed" if passed else "FAILED", line, sep="  ")
    sys.exit(not all(passed for _, passed in results))


if __name__ == "__main__":
    main()
