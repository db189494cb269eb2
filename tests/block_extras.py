"""Make optional packages unimportable: FASTGD_BLOCK=pyarrow,matplotlib.

Imported by conftest.py; run as a script, it is `python -m fastgd` with the same packages blocked.
`needs_extra` marks a test of something that an optional package does: without the package, the test
is that it fails with the message which says how to install it.
"""

import functools
import importlib.util
import os
import runpy
import sys

import pytest

BLOCKED = frozenset(filter(None, os.environ.get("FASTGD_BLOCK", "").split(",")))
if "narwhals" in BLOCKED:
    # From 1.9 on scikit-learn cannot be imported without it.
    BLOCKED |= {"sklearn"}


class Blocker:
    """Finder that stands before all others and refuses the blocked names."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
        return None


def install():
    """Refuse the blocked packages from now on."""
    present = BLOCKED & {name.partition(".")[0] for name in sys.modules}
    if present:
        raise RuntimeError(f"too late to block {', '.join(sorted(present))}")
    if Blocker not in sys.meta_path:
        sys.meta_path.insert(0, Blocker)


def has(package):
    """Tell whether a package can be imported, without importing it."""
    return package not in BLOCKED and importlib.util.find_spec(package) is not None


def needs_extra(package, extra):
    """Mark a test that needs a package of an extra; without it, expect the ImportError for it."""

    def mark(test):
        @functools.wraps(test)
        def checked(*args, **kwargs):
            if has(package):
                return test(*args, **kwargs)
            message = rf"^.*{package}.*pip install 'fastgd\[{extra}\]'$"
            with pytest.raises(ImportError, match=message):
                test(*args, **kwargs)
            return None

        return checked

    return mark


if __name__ == "__main__":
    install()
    sys.argv[0] = "fastgd"
    runpy.run_module("fastgd", run_name="__main__")
