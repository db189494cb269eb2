"""The benchmark's own arithmetic: bars, report, README table. No peer is needed."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
# These are scripts of the repository, not modules of the package: found by path, imported after it.
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import readme_numbers  # noqa: E402
from benchmarks import bars, cases, pool, report, shapes  # noqa: E402
from benchmarks.run import add_shares, finish  # noqa: E402


def row(peer, threads, median, case="4-16-3 relu, 32", **keys):
    """A row as run.py writes it."""
    return {
        "group": "networks",
        "case": case,
        "peer": peer,
        "variant": "fit",
        "threads": threads,
        "dtype": "float32",
        "isa": "",
        "kind": "train",
        "unit": "us",
        "median": median,
        "q1": median * 0.9,
        "q3": median * 1.1,
        "rounds": 3,
        "gflops": 10.0,
        **keys,
    }


def result(rows, **keys):
    return {
        "schema": 2,
        "version": "0.2.0",
        "machine": "Some CPU",
        "cpus": 2,
        "threads": [1, 2],
        "isa": "avx2",
        "compiler": "gcc 12",
        "python": "3.11",
        "versions": {"fastgd": "0.2.0", "jax": "0.10.2"},
        "date": "2026-01-02",
        "rounds": 3,
        "quick": False,
        "seconds": 9,
        "rows": rows,
        "missing": [],
        "bars": [asdict(bar) | {"shown": bar.shown()} for bar in bars.judge(rows)],
        **keys,
    }


ROWS = [
    row("fastgd", 1, 2.0, share_of_peak=0.1),
    row("fastgd", 2, 2.5, share_of_peak=0.05),
    row("jax", 1, 9.0),
    row("jax", 2, 20.0),
    row("torch", 1, 400.0, variant="eager"),
    row("torch", 1, 310.0, variant="fused"),
]


def bar(rows, text):
    (found,) = (one for one in bars.judge(rows) if one.text == text)
    return found


def test_bars_take_each_peers_best_form():
    found = bar(ROWS, "4-16-3 relu, 32: torch / ours, 1 thread")
    assert (found.measured, found.met, found.required) == (155.0, True, ">= 150x")


def test_bars_name_torchs_whole_compiled_step_beside_the_bar():
    rows = [*ROWS, row("torch", 1, 40.0, variant="compile_step")]
    name = "4-16-3 relu, 32: torch / ours, 1 thread"
    assert bar(rows, name).measured == 155.0
    beside = bar(rows, f"{name}, its whole step compiled (torch.func)")
    assert (beside.measured, beside.met, beside.required) == (20.0, None, "no bar")
    assert "40.0 (20.00x)" in readme_numbers.section(result(rows))


def test_bars_that_are_not_met_say_so():
    found = bar(ROWS, "4-16-3 relu, 32: jax / ours, 1 thread")
    assert (found.measured, found.met) == (4.5, False)
    found = bar(ROWS, "4-16-3 relu, 32: gain of all threads over one")
    assert (found.measured, found.met) == (0.8, False)


def test_bars_show_beside_a_gain_by_threads_whether_these_had_cores():
    peaks = [row("fastgd", n, rate, kind="peak") for n, rate in ((1, 100.0), (2, 102.0))]
    text = "4-16-3 relu, 32: gain of all threads over one, of the FMA peak itself"
    found = bar([*ROWS, *peaks], text)
    assert (found.measured, found.met, found.required) == (1.02, None, "no bar")


def test_shares_are_of_the_peak_of_the_case_but_with_several_threads_of_the_highest():
    rows = []
    for case, one, two in (("a", 100.0, 102.0), ("b", 110.0, 200.0)):
        rows += [row("fastgd", n, 9.0, case, gflops=51.0, dtype="float32", isa="") for n in (1, 2)]
        for n, rate in ((1, one), (2, two)):
            rows.append(row("fastgd", n, rate, case, kind="peak", dtype="float32", isa=""))
            del rows[-1]["gflops"]
    add_shares(rows)
    found = {(r["case"], r["threads"]): r["share_of_peak"] for r in rows if r["kind"] == "train"}
    assert found == {("a", 1): 0.51, ("a", 2): 0.255, ("b", 1): 51 / 110, ("b", 2): 0.255}


def test_bars_let_a_peer_use_fewer_threads_but_not_more():
    case = shapes.case_name(shapes.IMAGES)
    rows = [row("fastgd", 1, 10.0, case), row("fastgd", 2, 5.0, case)]
    rows += [row("jax", 1, 8.0, case), row("jax", 2, 9.0, case)]
    assert bar(rows, f"{case}: jax / ours, all 2 threads").measured == 8 / 5
    rows[-1]["median"] = 1.0
    assert bar(rows, f"{case}: jax / ours, 1 thread").measured == 8 / 10


def test_bars_without_rows_have_no_verdict():
    for one in bars.judge([]):
        assert (one.measured, one.met, one.shown()) == (None, None, "not measured"), one.text


@pytest.mark.parametrize(("sweep", "peak", "met"), [(70.0, 1e9, True), (50.0, 1e9, False)])
def test_small_batches_are_held_to_the_slower_limit(sweep, peak, met):
    case = shapes.case_name(replace(shapes.WIDE, batch=1))
    rows = [
        row("fastgd", 1, 100.0, case, group="small_batches"),
        row("fastgd", 1, sweep, case, group="small_batches", kind="sweep"),
        row("fastgd", 1, peak, case, group="small_batches", kind="peak"),
    ]
    assert bar(rows, f"{case}: share of the bound, 1 thread").met is met
    # With so low a peak, arithmetic is the limit instead of memory.
    rows[2]["median"] = shapes.flop(replace(shapes.WIDE, batch=1)) / 90 / 1e3
    assert bar(rows, f"{case}: share of the bound, 1 thread").measured == pytest.approx(0.9)


def test_training_is_also_held_against_the_rate_right_after_it():
    """Without a verdict: the goal is a share of the rate in registers."""
    case = shapes.case_name(shapes.IMAGES)
    rows = [
        row("fastgd", 1, 800.0, case, gflops=150.0),
        row("fastgd", 1, 900.0, case, gflops=140.0),
        row("fastgd", 1, 200.0, case, kind="loaded_peak", unit="GFLOP/s"),
    ]
    found = bar(rows, f"{case}: share of the FMA peak at its clock right after training")
    assert (found.measured, found.met) == (0.75, None)


def test_figures_of_the_peak_are_not_taken_for_times():
    case = "one sample of 64-100-10"
    rows = [
        row("fastgd", 1, 2.0, case, group="predict", kind="predict"),
        row("fastgd", 1, 0.5, case, group="predict", kind="peak", unit="GFLOP/s"),
    ]
    assert bar(rows, f"{case}: time").measured == 2.0
    rows = [*ROWS, row("fastgd", 1, 0.5, kind="peak", unit="GFLOP/s")]
    assert bar(rows, "4-16-3 relu, 32: jax / ours, 1 thread").measured == 4.5


def test_every_case_that_a_bar_names_is_one_that_is_measured(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    options = cases.Options((1, 2), False, tmp_path, ("avx512", "avx2"))
    rows = []
    for make_cases in cases.GROUPS.values():
        for case in make_cases(options):
            new = [one.keys() | pool.spread([1e-6, 2e-6]) for one in case.series]
            rows += finish(new, case)
    add_shares(rows)
    extra = {"unit": "s", "median": 1.0}
    rows += [{"group": "import", "case": "import", "peer": p, **extra} for p in ("numpy", "fastgd")]
    for name in ("two processes", "four processes", "parking"):
        rows.append({"group": "threads", "case": name, "threads": 2, **extra})
    assert [one.text for one in bars.judge(rows) if one.measured is None] == []
    assert "## networks" in report.markdown(result(rows))


def test_report_marks_the_rows_where_a_peer_is_faster():
    rows = [row("fastgd", 1, 2.0), row("jax", 1, 1.0), row("torch", 1, 8.0)]
    lines = report.markdown(result(rows)).splitlines()
    (jax,) = (line for line in lines if line.startswith("| jax"))
    (torch,) = (line for line in lines if line.startswith("| torch"))
    assert "**0.50, faster than fastgd**" in jax
    assert "faster" not in torch
    assert "4.00" in torch


def test_report_lists_what_was_not_measured():
    missing = [row("jax", 1, 0.0) | {"reason": "No module named 'jax'"}]
    text = report.markdown(result(ROWS, missing=missing))
    assert "- jax fit, No module named 'jax': 4-16-3 relu, 32 (1 threads)" in text


def test_readme_table_shows_losses():
    text = readme_numbers.section(result(ROWS))
    assert "| 4-16-3 relu, 32 | 2.00 | 9.00 (4.50x) | 310 (155.00x) | 10.0 | 10% |" in text
    assert "No peer is faster" in text
    slow = [row("fastgd", 1, 2.0), row("jax", 1, 1.0)]
    text = readme_numbers.section(result(slow))
    assert "| 4-16-3 relu, 32 | 2.00 | 1.00 (0.50x) | 10.0 | – |" in text
    assert "Faster than fastgd: JAX on 4-16-3 relu, 32 with 1 thread (2.00x)." in text


def test_newest_result_is_of_the_highest_version_and_not_quick(tmp_path):
    for name, keys in {
        "a": {"version": "0.10.0"},
        "b": {"version": "0.9.0", "date": "2027-01-01"},
        "c": {"version": "0.11.0", "quick": True},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result(ROWS, **keys)))
    assert readme_numbers.newest(tmp_path)["version"] == "0.10.0"


def test_committed_results_are_whole():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        committed = json.loads(path.read_text())
        assert committed["schema"] == 2
        assert not committed["quick"]
        assert readme_numbers.section(committed)


def test_losses_that_differ_stop_the_run():
    pool.compare_checks({"a": 1.0, "b": 1.00005}, 1e-4)
    for value in (1.001, float("nan")):
        with pytest.raises(pool.Disagreement, match=r"\(b\) against 1.0 \(a\)"):
            pool.compare_checks({"a": 1.0, "b": value}, 1e-4)


def test_spread_is_median_and_quartiles():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert pool.spread(values) == {"median": 3.0, "q1": 2.0, "q3": 4.0, "rounds": 5}
    assert pool.spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0, "rounds": 1}


def test_flop_counts_samples_of_a_short_last_batch():
    job = shapes.Job((2, 3), 10, rows=15)
    # Forward and weight gradient, 15 samples in two steps.
    assert shapes.flop(job) == 2 * (2 * 3) * 2 * 7.5


def test_rounded_network_has_multiples_of_16():
    twin = cases.rounded(shapes.Job((64, 100, 10), 200, rows=209))
    assert (twin.sizes, twin.batch, twin.n_samples) == ((64, 112, 16), 208, 224)


def test_network_is_parsed_from_the_command_line():
    job = shapes.parse("300-200-5@64")
    assert (job.sizes, job.batch, job.loss) == ((300, 200, 5), 64, "cross_entropy")
    assert shapes.parse("20-1@1").loss == "squared_error"
    for text in ("300@64", "3-2", "3-0-2@4", "a-b@3"):
        # Any: int's own messages are among them, and argparse names the argument.
        with pytest.raises(ValueError):  # noqa: PT011
            shapes.parse(text)


def test_mean_loss_is_that_of_the_definition():
    job = shapes.Job((3, 4, 2), 5, activation="tanh")
    X, y = shapes.samples(job)
    weights = [p for pair in shapes.first_weights(job) for p in pair]
    expected = 0.0
    for x, label in zip(X.astype(float), y, strict=True):
        z = np.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]
        expected -= np.log(np.exp(z[label]) / np.exp(z).sum()) / 5
    assert shapes.mean_loss(job, weights, X, y) == pytest.approx(expected, rel=1e-6)


def test_quick_run_writes_what_it_measured(tmp_path):
    path = tmp_path / "result.json"
    command = ["benchmarks/run.py", "--quick", "--only", "calls", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, *command, "--json", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert written["quick"]
    assert [r["variant"] for r in written["rows"]] == [
        "train_step",
        "fit of one step",
        "a step within fit",
    ]
    assert all(0 < r["q1"] <= r["median"] <= r["q3"] for r in written["rows"])
    assert path.with_suffix(".md").read_text() in done.stdout


def test_unknown_group_is_refused():
    command = [sys.executable, "benchmarks/run.py", "--only", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'nonsense'" in done.stderr
