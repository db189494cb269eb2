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

    # Wide and low, with letters that are legible where a telephone scales it down.
    figure = Figure(figsize=(7, 3.4), dpi=160, layout="constrained")
    ax = figure.subplots()
    is_speed = name == "speed"
    bar = {"markersize": 12, "markeredgewidth": 2.5, "zorder": 3}
    if is_speed:
        ax.axvline(1, color=LOOKS["fastgd"][0], linewidth=1.5, label=NAMES["fastgd"])
    for place, (peer, (colour, marker)) in enumerate(LOOKS.items()):
        # A little apart, so that no marker hides another.
        apart = 0 if peer == "fastgd" else (place - 2.5) * 0.2
        points = [
            (of[peer] * (1 if is_speed else 100), row + apart)
            for row, of in enumerate(shown.values())
            if peer in of
        ]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, marker, color=colour, label=NAMES[peer], linestyle="none",
                    **(bar if peer == "fastgd" else {"markersize": 5}))  # fmt: skip
    ax.set_yticks(range(len(shown)), [case.replace(", ", ", batch ") for case in shown])
    ax.tick_params(axis="y", labelsize=9.5, length=0)
    ax.tick_params(axis="x", labelsize=9.5)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    for row in range(0, len(shown), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#f0f0f0", linewidth=0, zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if is_speed:
        ax.set_xscale("log")
        ticks = (1, 10, 100, 1000)
        ax.set_xticks(ticks, [f"{tick:,}x" for tick in ticks])
        title = "Time of a training step over fastgd's (left of the line: faster)"
    else:
        ax.set_xlim(-1, 101)
        ax.xaxis.set_major_formatter("{x:.0f} %")
        title = "Share of the measured FMA peak that a training step reaches"
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(
        f"one thread, float32, {result['machine']}, {result['isa']}", fontsize=9, color="#444444"
    )
    ax.legend(
        loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=5, fontsize=9.5,
        frameon=False, handlelength=1, handletextpad=0.3, columnspacing=1.2,
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
