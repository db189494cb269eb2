"""Draw the newest benchmark file's figures into docs/img: speed.png and share-of-peak.png.

python tools/docs_charts.py           # write
python tools/docs_charts.py --check   # exit 1 if a picture is not of the newest figures

Writing needs matplotlib; checking reads the figures' fingerprint from the pictures.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from readme_numbers import PEERS, ROOT, best, newest

FOLDER = ROOT / "docs" / "img"
# Of Okabe and Ito: told apart with any colour vision. The markers say it again.
LOOKS = {
    "fastgd": ("#000000", "|"),
    "jax": ("#0072B2", "o"),
    "torch": ("#D55E00", "s"),
    "sklearn": ("#009E73", "^"),
    "numpy": ("#CC79A7", "D"),
}
NAMES = {"fastgd": "fastgd", **PEERS}


def figures(result: dict[str, Any], field: str) -> dict[str, dict[str, float]]:
    """Return by case and peer a figure of the fastest form, with one thread."""
    found = best(result["rows"], 1)
    return {
        case: {peer: rows[peer][field] for peer in NAMES if field in rows.get(peer, {})}
        for case, rows in found.items()
    }


def charts(result: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return what each picture shows."""
    times = figures(result, "median")
    ratios = {
        case: {peer: time / of["fastgd"] for peer, time in of.items() if peer != "fastgd"}
        for case, of in times.items()
    }
    return {"speed": ratios, "share-of-peak": figures(result, "share_of_peak")}


def fingerprint(result: dict[str, Any], shown: dict[str, dict[str, float]]) -> str:
    """Return a text that changes with whatever a picture shows."""
    known = [result["version"], result["machine"], result["isa"], shown]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def draw(name: str, result: dict[str, Any], shown: dict[str, dict[str, float]], path: Path) -> None:
    """Draw one picture: a row for each network, a marker for each peer."""
    from matplotlib.figure import Figure

    # Narrow, so that the letters are legible where a telephone scales it down.
    figure = Figure(figsize=(4.8, 0.55 * len(shown) + 1.9), dpi=160, layout="constrained")
    ax = figure.subplots()
    scale = 1 if name == "speed" else 100
    for place, (peer, (colour, marker)) in enumerate(LOOKS.items()):
        # A little apart, so that no marker hides another.
        apart = 0 if peer == "fastgd" else (place - 2.5) * 0.16
        points = [
            (of[peer] * scale, row + apart) for row, of in enumerate(shown.values()) if peer in of
        ]
        if points:
            size = {"markersize": 14, "markeredgewidth": 3} if peer == "fastgd" else {}
            x, y = zip(*points, strict=True)
            ax.plot(x, y, marker, color=colour, label=NAMES[peer], linestyle="none",
                    **{"markersize": 6, **size})  # fmt: skip
    ax.set_yticks(range(len(shown)), [case.replace(", ", "\nbatch ") for case in shown])
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_ylim(len(shown) - 0.6, -0.4)
    ax.grid(axis="y", color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if name == "speed":
        ax.set_xscale("log")
        ax.axvline(1, color="#000000", linewidth=1)
        ax.text(1, -0.4, "fastgd", ha="center", va="bottom", fontsize=8)
        ticks = (1, 10, 100, 1000)
        ax.set_xticks(ticks, [f"{tick:,}x" for tick in ticks])
        ax.set_xlabel("time of a step / fastgd's (left of the line: faster)", fontsize=8)
        title = "One training step, one thread"
    else:
        ax.set_xlim(-2, 102)
        ax.set_xlabel("share of the measured FMA peak, %", fontsize=8)
        title = "Arithmetic of one training step, one thread"
    figure.suptitle(f"{title}\n{result['machine']}, {result['isa']}, float32", fontsize=9)
    figure.legend(
        loc="outside lower center", ncols=3, fontsize=8, frameon=False, handletextpad=0.3,
        columnspacing=1.2,
    )  # fmt: skip
    figure.savefig(path, metadata={"Software": None, "Description": fingerprint(result, shown)})


def is_current(result: dict[str, Any], name: str, shown: dict[str, dict[str, float]]) -> bool:
    """Tell whether a picture in the folder shows these figures."""
    path = FOLDER / f"{name}.png"
    return path.is_file() and fingerprint(result, shown).encode() in path.read_bytes()


def main(argv: list[str]) -> None:
    result = newest(ROOT / "benchmarks" / "results")
    for name, shown in charts(result).items():
        if "--check" not in argv:
            draw(name, result, shown, FOLDER / f"{name}.png")
        elif not is_current(result, name, shown):
            sys.exit(f"docs/img/{name}.png does not show the newest benchmark file: make readme")


if __name__ == "__main__":
    main(sys.argv[1:])
