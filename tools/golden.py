"""Write tests/golden/digests.json: what fits and operations must give on every machine, to the bit.

python tools/golden.py           # compare, and name what differs
python tools/golden.py --write   # renew the file; a change of bits belongs into CHANGELOG.md

What is computed is in tests/golden_cases.py. The file names the machine that wrote it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sweep import machine

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "golden" / "digests.json"
sys.path.insert(0, str(ROOT / "tests"))


def found() -> dict[str, Any]:
    """Return the digests of all cases, and where and when they were computed."""
    import golden_cases

    return {
        "about": "made by tools/golden.py --write",
        "machine": machine(),
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "fits": golden_cases.fit_digests(),
        "operations": golden_cases.operation_digests(),
    }


def main(argv: list[str]) -> int:
    """Compare or write; return the exit status."""
    now = found()
    if argv == ["--write"]:
        RECORD.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        return 0
    kept = json.loads(RECORD.read_text(encoding="utf-8"))
    differ = [
        f"{part[:-1]} {key}"
        for part in ("fits", "operations")
        for key in {**kept[part], **now[part]}
        if kept[part].get(key) != now[part].get(key)
    ]
    print("\n".join(differ) or f"all bits are those of {kept['machine']}, {kept['when']}")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
