"""The result of a run as Markdown and as charts; rows where fastgd loses are shown and marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_COLORS = {
    "fastgd": "#c0392b",
    "jax": "#2f6db3",
    "torch": "#e08e2b",
    "sklearn": "#3a9d5d",
    "numpy": "#777777",
    "onnxruntime": "#8056a8",
}
_TRAINED = ("fastgd", "jax", "torch", "sklearn", "numpy")
_VERDICTS = {True: "met", False: "**not met**", None: "–"}


def number(value: float) -> str:
    """Show three significant digits, or all of a larger number's."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def best_rows(result: dict[str, Any], group: str, threads: int) -> dict[str, dict[str, Any]]:
    """Return for each case the best row of each peer with up to that many threads.

    fastgd is taken with exactly that number: its own best must not hide a bad choice.
    """
    best: dict[str, dict[str, Any]] = {}
    for row in result["rows"]:
        if row["group"] != group or row.get("kind") not in ("train", "predict", "fit"):
            continue
        peer, count = row["peer"], row["threads"]
        if count > threads or (peer == "fastgd" and count != threads):
            continue
        known = best.setdefault(row["case"], {})
        if peer not in known or row["median"] < known[peer]["median"]:
            known[peer] = row
    return best


def _header(result: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    note = ["**A quick run: it shows that everything works, not how fast it is.**", ""]
    return [
        f"# Benchmark of fastgd {result['version']}",
        "",
        *(note if result["quick"] else []),
        f"{result['machine']}, {result['cpus']} CPUs, {result['isa']}, {result['compiler']}, "
        f"Python {result['python']}, {result['date']}.",
        f"{versions}.",
        f"Medians of up to {result['rounds']} rounds that take turns, in one run of "
        f"{result['seconds']} seconds.",
        "",
    ]


def _bars(bars: Sequence[dict[str, Any]]) -> list[str]:
    counts = [sum(bar["met"] is verdict for bar in bars) for verdict in (True, False, None)]
    lines = [
        "## Bars",
        "",
        f"{counts[0]} met, {counts[1]} not met, {counts[2]} without a verdict.",
        "",
        "| bar | required | measured | |",
        "|---|---:|---:|---|",
    ]
    lines += [
        f"| {bar['text']} | {bar['required']} | {bar['shown']} | {_VERDICTS[bar['met']]} |"
        for bar in bars
    ]
    return [*lines, ""]


def _row(row: dict[str, Any], ours: dict[int, float]) -> str:
    threads, unit = row.get("threads", ""), row["unit"]
    scale = 100 if unit == "loss" else 1
    unit = "%" if unit == "loss" else unit
    middle = number(row["median"] * scale)
    extent = ""
    if "q1" in row:
        extent = f"{number(row['q1'] * scale)} – {number(row['q3'] * scale)}"
    ratio = ""
    # Against our time with as many threads; "all" peers' rows are among the candidates.
    if row.get("peer") not in (None, "fastgd") and threads in ours:
        times = row["median"] / ours[threads]
        ratio = f"{times:.2f}" if times >= 1 else f"**{times:.2f}, faster than fastgd**"
    gflops = f"{row['gflops']:.1f}" if "gflops" in row else ""
    share = f"{row['share_of_peak']:.0%}" if "share_of_peak" in row else ""
    peak = number(row["peak_memory"]) if row.get("peak_memory") else ""
    return (
        f"| {row.get('peer', '')} | {row.get('variant', '')} | {threads} | {middle} {unit} "
        f"| {extent} | {ratio} | {gflops} | {share} | {peak} |"
    )


def _groups(result: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    group = case = None
    for row in result["rows"]:
        if row["unit"] == "passes":
            continue
        if row["group"] != group:
            group, case = row["group"], None
            lines += [f"## {group}", ""]
        if row["case"] != case:
            case = row["case"]
            same = [r for r in result["rows"] if (r["group"], r["case"]) == (group, case)]
            ours: dict[int, float] = {}
            for r in same:
                if r.get("peer") == "fastgd" and r.get("kind") in ("train", "predict", "fit"):
                    ours[r["threads"]] = min(r["median"], ours.get(r["threads"], r["median"]))
            lines += [
                f"### {case}",
                "",
                "| peer | form | threads | median | quartiles | times ours | GFLOP/s | of peak "
                "| peak MB |",
                "|---|---|---:|---:|---:|---:|---:|---:|---:|",
                *(_row(r, ours) for r in same if r["unit"] != "passes"),
                "",
            ]
    return lines


def _missing(missing: Sequence[dict[str, Any]]) -> list[str]:
    if not missing:
        return []
    lines = ["## Not measured", ""]
    seen = {}
    for row in missing:
        key = f"{row['peer']} {row['variant']}, {row['reason']}"
        seen.setdefault(key, []).append(f"{row['case']} ({row['threads']} threads)")
    lines += [f"- {key}: {'; '.join(dict.fromkeys(where))}" for key, where in seen.items()]
    return [*lines, ""]


def markdown(result: dict[str, Any]) -> str:
    """Lay out the bars, every row, and what could not be measured."""
    lines = _header(result) + _bars(result["bars"]) + _groups(result)
    return "\n".join(lines + _missing(result["missing"]))


def charts(result: dict[str, Any], stem: Path) -> list[Path]:
    """Draw peers' times over ours and shares of the peak, one PNG for each number of threads."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("charts: matplotlib is not installed; left out")
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    paths = []
    for threads in result["threads"]:
        best = {
            case: peers
            for case, peers in best_rows(result, "networks", threads).items()
            if "fastgd" in peers
        }
        if not best:
            continue
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 0.9 * len(best) + 1.6))
        for axes, field in ((left, "median"), (right, "share_of_peak")):
            for place, peers in enumerate(best.values()):
                for i, peer in enumerate(name for name in _TRAINED if name in peers):
                    value = peers[peer].get(field)
                    if value is None:
                        continue
                    if field == "median":
                        value /= peers["fastgd"]["median"]
                    else:
                        value *= 100
                    at = place + (i - 2) * 0.16
                    axes.barh(at, value, 0.15, color=_COLORS[peer])
                    axes.annotate(
                        f" {number(value)}", (value, at), va="center", fontsize=7, color="#333333"
                    )
            axes.invert_yaxis()
            axes.set_yticks(range(len(best)), list(best) if axes is left else [])
            axes.spines[["top", "right"]].set_visible(False)
        left.set_xscale("log")
        left.axvline(1, color="#333333", linewidth=0.8)
        left.set_xlabel("time of a step / fastgd's (below 1: faster than fastgd)")
        right.set_xlabel("share of the measured FMA peak, %")
        allowed = "1 thread" if threads == 1 else f"up to {threads} threads (fastgd: {threads})"
        figure.suptitle(
            f"One training step, float32, {allowed}: fastgd {result['version']}, "
            f"{result['machine']}, {result['isa']}"
        )
        handles = [plt.Rectangle((0, 0), 1, 1, color=_COLORS[p]) for p in _TRAINED]
        right.legend(handles, _TRAINED, loc="lower right", fontsize=8, frameon=False)
        figure.tight_layout()
        path = stem.with_name(f"{stem.name}-{threads}-threads.png")
        figure.savefig(path, dpi=110)
        plt.close(figure)
        paths.append(path)
    return paths
