"""Run the tests of fastgd.sklearn with several versions of scikit-learn, each in an environment.

    python tools/sklearn_versions.py 1.6 1.9 [-- arguments for pytest]

An environment, .venv-sklearn-<version>, is made anew only if what it was made of has changed.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
TESTS = [*sorted(ROOT.glob("tests/test_sklearn_*.py")), ROOT / "tests" / "test_extras.py"]
FASTGD = "-e.[data,plot,sklearn,onnx,test]"
# What a version needs beside its own requirements, which name no upper limits.
LIMITS = {
    # It passes the option iprint to L-BFGS-B, which scipy 1.18 no longer knows.
    "1.6": ["scipy<1.18"],
}
# Old versions beside new libraries warn, and nobody can change them any more. What fastgd and its
# tests cause in their own name are errors, as in the suite.
THIRD_PARTIES = "joblib numpy onnx onnxruntime pandas scipy skl2onnx sklearn"
WARNINGS = ["error", rf"default:::({THIRD_PARTIES.replace(' ', '|')})(\.|$)"]
FOUND = """
import json, numpy, scipy, sklearn
print(json.dumps({m.__name__: m.__version__ for m in (sklearn, scipy, numpy)}))
"""


class Failed(Exception):
    """A command that another one needs has failed; its output has been shown."""


def run(*command):
    """Run a command in the clone, with its output shown; return its exit code."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


def environment(version):
    """Return the interpreter of a version's environment, made or made anew where needed."""
    folder = ROOT / f".venv-sklearn-{version}"
    python, stamp = folder / "bin" / "python", folder / ".made-of"
    wanted = [FASTGD, f"scikit-learn=={version}.*", *LIMITS.get(version, [])]
    made_of = "\n".join([*wanted, sys.version, (ROOT / "pyproject.toml").read_text("utf-8")])
    if stamp.exists() and stamp.read_text("utf-8") == made_of:
        return python
    print(f"Installing scikit-learn {version} in {folder.name} ...", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    if run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *wanted):
        raise Failed(f"{' '.join(wanted)} cannot be installed: see above")
    stamp.write_text(made_of, "utf-8")
    return python


def test(version, options):
    """Run the tests with a version; return the line that sums them up, and whether all passed."""
    try:
        python = environment(version)
    except (Failed, subprocess.CalledProcessError) as error:
        return f"scikit-learn {version}: {error}", False
    found = json.loads(subprocess.check_output([python, "-c", FOUND], cwd=ROOT))
    versions = "scikit-learn {sklearn}, scipy {scipy}, numpy {numpy}".format(**found)
    print(f"Testing with {versions} ...", flush=True)
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-o", "filterwarnings=" + "\n".join(WARNINGS)]
    code = run(*command, f"--junit-xml={report}", *options, *TESTS)
    if not report.exists():
        return f"{versions}: pytest ended with exit code {code}", False
    suite = ElementTree.parse(report).find("testsuite").attrib
    total, *others = (int(suite[name]) for name in ("tests", "failures", "errors", "skipped"))
    counts = "{} failed, {} errors, {} skipped".format(*others)
    return f"{versions}: {total - sum(others)} passed, {counts}", code == 0


def main():
    versions, _, options = " ".join(sys.argv[1:]).partition("--")
    if not versions.split():
        sys.exit(__doc__)
    results = [test(version, options.split()) for version in versions.split()]
    print()
    for line, passed in results:
        print("passed" if passed else "FAILED", line)
    sys.exit(not all(passed for _, passed in results))


if __name__ == "__main__":
    main()
