"""Put the table of the newest benchmark file into README.md, between its two markers.

python tools/readme_numbers.py           # write
python tools/readme_numbers.py --check   # exit 1 if the README is not up to date

Needs the standard library only. Rows where a peer is faster than fastgd are shown like the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from marked import updated

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"jax": "JAX", "torch": "PyTorch", "sklearn": "scikit-learn", "numpy": "NumPy loop"}


def newest(folder: Path) -> dict[str, Any]:
    """Return the newest release's figures; of several files, the one of the latest date."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    results = [result for result in results if not result["quick"]]
    return max(results, key=lambda r: (tuple(map(int, r["version"].split("."))), r["date"]))


def best(rows: list[dict[str, Any]], threads: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by case and peer the fastest row: fastgd's with that many threads, peers' up to it."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["group"] != "networks" or row["kind"] != "train":
            continue
        if row["threads"] > threads or (row["peer"] == "fastgd" and row["threads"] < threads):
            continue
        peers = found.setdefault(row["case"], {})
        if row["peer"] not in peers or row["median"] < peers[row["peer"]]["median"]:
            peers[row["peer"]] = row
    return {case: peers for case, peers in found.items() if "fastgd" in peers}


def figure(microseconds: float) -> str:
    """Show at least three significant digits."""
    if microseconds >= 100:
        return f"{microseconds:,.0f}"
    return f"{microseconds:.{1 if microseconds >= 10 else 2 if microseconds >= 1 else 3}f}"


def table(result: dict[str, Any], threads: int) -> list[str]:
    """Lay out the figures for one number of threads, with every peer that was measured."""
    cases = best(result["rows"], threads)
    peers = [name for name in PEERS if any(name in found for found in cases.values())]
    lines = [
        "| network, batch | fastgd | "
        + " | ".join(PEERS[name] for name in peers)
        + " | GFLOP/s | share of peak |",
        "|---|---:|" + "---:|" * len(peers) + "---:|---:|",
    ]
    for case, found in cases.items():
        ours = found["fastgd"]
        cells = [figure(ours["median"])]
        for name in peers:
            if name not in found:
                cells.append("–")
                continue
            ratio = found[name]["median"] / ours["median"]
            cells.append(f"{figure(found[name]['median'])} ({ratio:.2f}x)")
        share = f"{ours['share_of_peak']:.0%}" if "share_of_peak" in ours else "–"
        lines.append(f"| {case} | {' | '.join(cells)} | {ours['gflops']:.1f} | {share} |")
    return lines


def losses(result: dict[str, Any]) -> list[str]:
    """Name every network on which a peer is faster than fastgd."""
    named = []
    for threads in result["threads"]:
        for case, found in best(result["rows"], threads).items():
            for name in PEERS:
                row = found.get(name)
                if row and row["median"] < found["fastgd"]["median"]:
                    ratio = found["fastgd"]["median"] / row["median"]
                    count = f"{threads} thread{'s' * (threads > 1)}"
                    named.append(f"{PEERS[name]} on {case} with {count} ({ratio:.2f}x)")
    return named


def section(result: dict[str, Any]) -> str:
    """Write everything between the markers."""
    versions = result["versions"]
    shown = ("numpy", "scikit-learn", "torch", "jax")
    known = [f"{name} {versions[name]}" for name in shown if name in versions]
    lines = [
        "One training step in microseconds (plain SGD, float32; median of up to "
        f"{result['rounds']} rounds that take turns), in parentheses the peer's time over "
        f"fastgd's, on {result['machine']} with {result['isa']}: fastgd {result['version']}, "
        f"{', '.join(known)}, {result['date']}.",
        "",
    ]
    for threads in result["threads"]:
        if threads == 1:
            lines += ["With one thread:", ""]
        else:
            lines += [f"With {threads} threads, each peer at its best number up to that:", ""]
        lines += [*table(result, threads), ""]
    faster = losses(result)
    if faster:
        lines += [f"Faster than fastgd: {'; '.join(faster)}.", ""]
    else:
        lines += ["No peer is faster than fastgd on any of these.", ""]
    judged = [bar for bar in result["bars"] if bar["met"] is not None]
    if judged:
        met = sum(bar["met"] for bar in judged)
        lines += [
            f"Of {len(judged)} goals set for the speed of this release, {met} are met on this "
            "machine; benchmarks/results has each of them.",
            "",
        ]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    made = section(newest(ROOT / "benchmarks" / "results"))
    new = updated(old, "numbers", "readme_numbers", made)
    if "--check" in argv:
        if new != old:
            sys.exit("README.md does not show the newest benchmark file: run make readme")
        return
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
