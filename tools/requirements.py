"""Print the requirements of some extras, one a line, so that pip need not build the package again.

python tools/requirements.py sklearn test
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def of_extras(names):
    """Return the requirements of extras, those that an extra takes from others among them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    found = []
    for name in names:
        for requirement in extras[name]:
            own = re.fullmatch(r"fastgd\[([\w,-]+)\]", requirement)
            found += of_extras(own[1].split(",")) if own else [requirement]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print(*of_extras(sys.argv[1:]), sep="\n")
