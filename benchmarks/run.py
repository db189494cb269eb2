"""Measure fastgd and its peers; write one JSON, a table and charts for this release and machine.

    python benchmarks/run.py [--only GROUP ...] [--rounds N] [--quick] [--json PATH]

Only a whole run, without --only and --quick, writes to benchmarks/results by itself.
docs/benchmarks.md describes the method. `make bench` runs it with all peers installed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / part) for part in ("", "src")]

import fastgd  # noqa: E402
from benchmarks import bars, cases, extras, report, shapes  # noqa: E402
from benchmarks.peers import NAMES  # noqa: E402
from benchmarks.pool import Disagreement, Pool, WorkerError, cpus, measure  # noqa: E402
from fastgd._bench import cpu_name  # noqa: E402

SCHEMA = 2
RESULTS = Path(__file__).resolve().parent / "results"
_UNITS = {"peak": "GFLOP/s", "loaded_peak": "GFLOP/s", "memory": "MB"}


def finish(rows: list[dict[str, Any]], case: cases.Case) -> list[dict[str, Any]]:
    """Give the rows of a case their names, units and GFLOP/s."""
    jobs = {(one.peer, one.label or one.job.variant): one.job for one in case.series}
    done = []
    for row in rows:
        row = {"group": case.group, "case": case.name} | row
        row["unit"] = _UNITS.get(row["kind"], "us")
        if row["unit"] == "us":
            gflop = 0.0
            if row["kind"] in ("train", "predict"):
                gflop = shapes.flop(jobs[row["peer"], row["variant"]]) / 1e9
            if gflop:
                row["gflops"] = gflop / row["median"]
            row |= {name: row[name] * 1e6 for name in ("median", "q1", "q3")}
        done.append(row)
    return done


def add_shares(rows: list[dict[str, Any]]) -> None:
    """Give rows their share of the peak.

    With one thread it is the peak of the same case, measured in turns with it. Several threads
    of a virtual machine may share a core for some minutes: theirs is the highest of the run.
    """
    peaks: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row.get("kind") == "peak":
            kind = row["threads"], row["dtype"], row["isa"]
            for key in ((row["group"], row["case"], *kind), kind):
                peaks[key] = max(row["median"], peaks.get(key, 0.0))
    for row in rows:
        if "gflops" not in row:
            continue
        place = (row["group"], row["case"]) if row["threads"] == 1 else ()
        kind = *place, row["threads"], row["dtype"]
        if peak := peaks.get((*kind, row["isa"])) or peaks.get((*kind, "")):
            row["share_of_peak"] = row["gflops"] / peak


def versions(pool: Pool) -> dict[str, str]:
    """Ask every peer that is installed for its versions."""
    found: dict[str, str] = {}
    for name in NAMES:
        try:
            found |= pool.get(name, 1).ask("versions")
        except WorkerError as error:
            print(f"{name}: {error}; left out", flush=True)
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    groups = [*cases.GROUPS, *extras.EXTRAS]
    parser.add_argument("--only", nargs="+", choices=groups, metavar="GROUP", default=groups)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each case (9)")
    parser.add_argument("--quick", action="store_true", help="see that it works; not for keeping")
    parser.add_argument("--json", type=Path, help="where to write; table and charts go beside it")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads (1 and all)")
    parser.add_argument("--fashion", type=Path, default=cases.FASHION, help="Fashion-MNIST folder")
    parser.add_argument(
        "--network",
        nargs="+",
        type=shapes.parse,
        metavar="SIZES@BATCH",
        help="measure these instead of the listed networks, such as 300-200-5@64 (one output: "
        "regression); implies --only networks",
    )
    parser.epilog = f"groups: {' '.join(groups)}"
    options = parser.parse_args(argv)
    if options.network:
        options.only = ["networks"]
    options.whole = set(options.only) == set(groups) and not options.quick
    if options.quick:
        options.rounds = min(options.rounds, 2)
    available = len(cpus())
    if options.threads is None:
        # On larger machines some peers are at their best below the full number.
        options.threads = sorted({1, available, *([available // 2] if available >= 4 else [])})
    if not 1 <= min(options.threads) <= max(options.threads) <= available:
        parser.error(f"--threads must be from 1 to {available}")
    return options


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the groups chosen and return everything that goes into the file."""
    begin = time.perf_counter()
    chosen = cases.Options(
        tuple(options.threads),
        options.quick,
        options.fashion,
        tuple(fastgd.available_isas()),
        tuple(options.network or shapes.NETWORKS),
    )
    seconds = 0.01 if options.quick else 0.1
    rows: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    with Pool() as pool:
        found = versions(pool)
        for name, make_cases in cases.GROUPS.items():
            if name not in options.only:
                continue
            for case in make_cases(chosen):
                rounds = min(options.rounds, case.max_rounds)
                try:
                    if case.notes.get("fresh"):
                        with Pool() as fresh:
                            new, lost = measure(fresh, case.series, rounds, 0, case.tolerance)
                    else:
                        new, lost = measure(pool, case.series, rounds, seconds, case.tolerance)
                except Disagreement as error:
                    sys.exit(f"{case.group}, {case.name}: {error}; nothing is written")
                rows += finish(new, case)
                missing += [{"group": case.group, "case": case.name} | row for row in lost]
                passed = time.perf_counter() - begin
                print(f"[{passed:5.0f} s] {case.group}: {case.name}", flush=True)
    add_shares(rows)
    for name, measure_extra in extras.EXTRAS.items():
        if name in options.only:
            rows += measure_extra(chosen, options.rounds)
            print(f"[{time.perf_counter() - begin:5.0f} s] {name}", flush=True)
    return {
        "schema": SCHEMA,
        "version": fastgd.__version__,
        "machine": cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(cpus()),
        "threads": list(options.threads),
        "isa": found.pop("isa", fastgd.active_isa()),
        "compiler": found.pop("compiler", ""),
        "available_isas": found.pop("available_isas", "").split(),
        "python": platform.python_version(),
        "versions": found,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "rounds": options.rounds,
        "quick": options.quick,
        "seconds": round(time.perf_counter() - begin),
        "rows": rows,
        "missing": missing,
        "bars": [asdict(bar) | {"shown": bar.shown()} for bar in bars.judge(rows)],
    }


def main(argv: list[str] | None = None) -> None:
    options = parse(sys.argv[1:] if argv is None else argv)
    result = run(options)
    text = report.markdown(result)
    print("\n" + text)
    path = options.json
    if path is None and options.whole:
        machine = re.sub(r"[^a-z0-9]+", "-", result["machine"].lower()).strip("-")
        path = RESULTS / f"{result['version']}-{machine}-{result['isa']}.json"
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    charts = report.charts(result, path.with_suffix(""))
    print(f"written: {path}, {path.with_suffix('.md')}, {len(charts)} charts")


if __name__ == "__main__":
    main()
