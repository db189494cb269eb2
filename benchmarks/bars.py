"""The bars that a release must clear, each held against the rows of one run.

A bar is met, not met, or (when its rows are missing) not measured. Needs the standard library
and shapes.py only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks import shapes
from benchmarks.shapes import Job, case_name

# Two timings of the same thing differ by this much from run to run, so that "no slower" and
# "nothing measurable" mean: within it.
NOISE = 1.03


# The ratios to torch were set against these forms. A whole step compiled into one graph is often
# faster: it is in every table, and listed beside each of those bars without a verdict.
TORCH_FORMS = ["eager", "foreach", "fused", "compile"]


@dataclass(frozen=True)
class Bar:
    """One requirement; `measured` is None where rows are missing."""

    group: str
    text: str
    required: str
    measured: float | None
    met: bool | None
    unit: str = ""

    def shown(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.unit == "%":
            return f"{self.measured:.1%}"
        if self.unit == "passes":
            return "yes" if self.measured else "no"
        return f"{self.measured:.3g}{self.unit}"


class Figures:
    """Finds figures among the rows of one run."""

    def __init__(self, rows: Sequence[dict[str, Any]]):
        self.rows = rows
        counts = [row.get("threads", 1) for row in rows]
        self.all_threads = max(counts, default=1)

    def find(self, group: str, case: str, **keys: Any) -> list[dict[str, Any]]:
        """Return rows whose keys have these values, or one of them if it is a collection."""

        def fits(value: Any, wanted: Any) -> bool:
            return value in wanted if isinstance(wanted, (list, range)) else value == wanted

        return [
            row
            for row in self.rows
            if row["group"] == group
            and row["case"] == case
            and all(fits(row.get(key), wanted) for key, wanted in keys.items())
        ]

    def best(
        self, group: str, case: str, field: str = "median", highest: bool = False, **keys: Any
    ) -> float | None:
        """Return the lowest (or highest) figure of the rows found, None if there is none."""
        values = [
            row[field] for row in self.find(group, case, **keys) if row.get(field) is not None
        ]
        return (max if highest else min)(values, default=None)


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def at_least(group: str, text: str, limit: float, measured: float | None, unit: str = "") -> Bar:
    required = f">= {limit:.0%}" if unit == "%" else f">= {limit:g}{unit}"
    return Bar(
        group, text, required, measured, None if measured is None else measured >= limit, unit
    )


def at_most(group: str, text: str, limit: float, measured: float | None, unit: str = "") -> Bar:
    required = f"<= {limit:.0%}" if unit == "%" else f"<= {limit:g}{unit}"
    return Bar(
        group, text, required, measured, None if measured is None else measured <= limit, unit
    )


@dataclass(frozen=True)
class NetworkBars:
    """Least ratios peer / ours with one thread and with all; share of peak; gain by threads."""

    job: Job
    one: dict[str, float]
    all: dict[str, float]
    share: float | None = None
    gain: float | None = 1 / NOISE


NETWORKS = (
    NetworkBars(shapes.TINY, {"jax": 5, "torch": 150}, {}),
    NetworkBars(shapes.TANH, {"jax": 1.6, "torch": 12}, {}),
    NetworkBars(shapes.SMALL, {"jax": 1.6, "torch": 12}, {}),
    NetworkBars(shapes.MEDIUM, {"jax": 1.6, "torch": 5, "sklearn": 6}, {}, 0.75, 1.4),
    NetworkBars(
        shapes.IMAGES, {"jax": 1.12, "torch": 1.6, "sklearn": 2.8}, {"jax": 1.5}, 0.9, 1.85
    ),
    NetworkBars(
        shapes.WIDE,
        dict.fromkeys(("jax", "torch", "sklearn", "numpy"), 1.1),
        dict.fromkeys(("jax", "torch", "sklearn", "numpy"), 1.1),
        0.9,
        1.9,
    ),
    NetworkBars(shapes.DELTA_RULE, {"jax": 1.4}, {}, gain=None),
)


def _ours(figures: Figures, case: str, threads: int, field: str = "median") -> float | None:
    return figures.best(
        "networks", case, field, field != "median", peer="fastgd", threads=threads, kind="train"
    )


def networks(figures: Figures) -> Iterator[Bar]:
    everything = figures.all_threads
    for bars in NETWORKS:
        case = case_name(bars.job)
        for threads, ratios in ((1, bars.one), (everything, bars.all)):
            ours = _ours(figures, case, threads)
            for peer, limit in ratios.items():
                # With all threads allowed, a peer may be at its best with fewer.
                keys = {"peer": peer, "threads": range(1, threads + 1), "kind": "train"}
                named = {"variant": TORCH_FORMS} if peer == "torch" else {}
                theirs = figures.best("networks", case, **keys, **named)
                text = f"{case}: {peer} / ours, {_threads(threads, everything)}"
                yield at_least("networks", text, limit, _quotient(theirs, ours), "x")
                if named:
                    theirs = figures.best("networks", case, **keys, variant="compile_step")
                    ratio = _quotient(theirs, ours)
                    text += ", its whole step compiled (torch.func)"
                    yield Bar("networks", text, "no bar", ratio, None, "x")
        if bars.share is not None:
            share = _ours(figures, case, 1, "share_of_peak")
            text = f"{case}: share of the FMA peak"
            yield at_least("networks", text, bars.share, share, "%")
            yield _loaded_share(figures, "networks", case, text)
        if bars.gain is not None:
            gain = None
            if everything > 1:
                gain = _quotient(_ours(figures, case, 1), _ours(figures, case, everything))
            limit = round(bars.gain, 2)
            text = f"{case}: gain of all threads over one"
            yield at_least("networks", text, limit, gain, "x")
            yield _peak_gain(figures, case, text)


def _loaded_share(figures: Figures, group: str, case: str, text: str) -> Bar:
    """Hold our fastest training against the rate that the processor has right after it."""
    peaks = figures.find(group, case, kind="loaded_peak", threads=1)
    share = None
    if peaks:
        keys = {"peer": "fastgd", "kind": "train", "threads": 1, "dtype": peaks[0]["dtype"]}
        share = _quotient(figures.best(group, case, "gflops", True, **keys), peaks[0]["median"])
    return Bar(group, f"{text} at its clock right after training", "no bar", share, None, "%")


def _peak_gain(figures: Figures, case: str, text: str) -> Bar:
    """Tell whether the threads had cores: a virtual machine may share one for some minutes."""
    one, everything = (
        figures.best("networks", case, highest=True, kind="peak", threads=n)
        for n in (1, figures.all_threads)
    )
    gain = _quotient(everything, one) if figures.all_threads > 1 else None
    return Bar("networks", f"{text}, of the FMA peak itself", "no bar", gain, None, "x")


def _threads(threads: int, everything: int) -> str:
    if threads == 1:
        return "1 thread"
    return f"all {everything} threads"


def float64(figures: Figures) -> Iterator[Bar]:
    for bars in NETWORKS:
        if bars.share is None:
            continue
        case = case_name(bars.job)
        share = figures.best(
            "float64", case, "share_of_peak", True, kind="train", dtype="float64", threads=1
        )
        text = f"{case}: share of the float64 peak"
        yield at_least("float64", text, round(bars.share - 0.05, 2), share, "%")
        yield _loaded_share(figures, "float64", case, text)


def isa(figures: Figures) -> Iterator[Bar]:
    for bars in NETWORKS:
        case = case_name(bars.job)
        wide, narrow = (
            figures.best("isa", case, isa=name, kind="train") for name in ("avx512", "avx2")
        )
        peaks = [figures.best("isa", case, isa=name, kind="peak") for name in ("avx512", "avx2")]
        text = f"{case}: speed of AVX2 in that of AVX-512"
        bar = at_least("isa", text, 0.9, _quotient(wide, narrow), "%")
        ratio = _quotient(*peaks)
        if ratio is not None and ratio > 1.5:
            # Full-width units: the bar is about double-pumped ones.
            bar = Bar("isa", f"{text} (full 512-bit units)", "no bar", bar.measured, None, "%")
        yield bar


def odd(figures: Figures) -> Iterator[Bar]:
    from benchmarks.cases import ODD

    for case in ODD:
        speed, twin = (
            figures.best("odd", case, "gflops", True, variant=name)
            for name in ("odd", "rounded up")
        )
        text = f"{case}: GFLOP/s in those of the rounded-up network"
        yield at_least("odd", text, 0.75, _quotient(speed, twin), "%")


def small_batches(figures: Figures) -> Iterator[Bar]:
    for batch in (1, 2, 4, 8):
        from dataclasses import replace

        job = replace(shapes.WIDE, batch=batch, steps=8)
        case = case_name(job)
        for threads in sorted({1, figures.all_threads}):
            keys = {"threads": threads, "peer": "fastgd"}
            ours = figures.best("small_batches", case, kind="train", **keys)
            sweep = figures.best("small_batches", case, kind="sweep", **keys)
            peak = figures.best("small_batches", case, kind="peak", **keys)
            bound = None
            if sweep is not None and peak is not None:
                # The slower of the two limits says how short a step could be.
                bound = max(sweep, shapes.flop(job) / peak / 1e3)
            text = f"{case}: share of the bound, {_threads(threads, figures.all_threads)}"
            yield at_least("small_batches", text, 0.6, _quotient(bound, ours), "%")


def activations(figures: Figures) -> Iterator[Bar]:
    from benchmarks.cases import ACTIVATIONS

    case = shapes.IMAGES.name
    relu = figures.best("activations", case, variant="relu")
    for name in ACTIVATIONS:
        limit = 1.06 if name in ("tanh", "sigmoid") else 1.15
        ratio = _quotient(figures.best("activations", case, variant=name), relu)
        yield at_most("activations", f"{case}: time with {name} / with relu", limit, ratio, "x")


def optimizers(figures: Figures) -> Iterator[Bar]:
    for job, limit in ((shapes.IMAGES, 1.10), (shapes.WIDE, 1.05)):
        sgd = figures.best("optimizers", job.name, variant="sgd")
        named = dict.fromkeys(("momentum", "nesterov", "adam", "adamw"), limit)
        free = dict.fromkeys(("weight_decay", "clip_value", "schedule"), NOISE)
        for name, most in (named | free).items():
            ratio = _quotient(figures.best("optimizers", job.name, variant=name), sgd)
            text = f"{job.name}: time with {name} / plain SGD"
            yield at_most("optimizers", text, most, ratio, "x")


def fit(figures: Figures) -> Iterator[Bar]:
    case = "Fashion-MNIST, 3 epochs"
    ours = figures.best("fit", case, peer="fastgd")
    for peer, limit in (("torch", 2.2), ("sklearn", 3.0)):
        ratio = _quotient(figures.best("fit", case, peer=peer), ours)
        yield at_least("fit", f"{case}: {peer} / ours", limit, ratio, "x")


def predict(figures: Figures) -> Iterator[Bar]:
    case = "10,000 x 784"
    ours = figures.best("predict", case, peer="fastgd", kind="predict")
    for peer in ("onnxruntime", "torch"):
        ratio = _quotient(figures.best("predict", case, peer=peer), ours)
        yield at_least("predict", f"{case}: {peer} / ours", 1.0, ratio, "x")
    case = "one sample of 64-100-10"
    time = figures.best("predict", case, peer="fastgd", kind="predict")
    yield at_most("predict", f"{case}: time", 3, time, " us")


def memory(figures: Figures) -> Iterator[Bar]:
    everything = figures.all_threads
    for case, job in (
        ("784-256-128-10, float32", shapes.IMAGES),
        ("784-256-128-10, uint8 input", shapes.IMAGES),
        ("1024-2048-2048-10, float32", shapes.WIDE),
        ("1024-2048-2048-10, float32, not validated", shapes.WIDE),
    ):
        n_weights = sum((m + 1) * n for m, n in pairwise(job.sizes))
        # Weights and one state; activations, deltas and a transposed copy for each thread.
        buffers = 3 * job.batch * sum(job.sizes) * everything
        limit = (2 * n_weights + buffers) * 4 / 1e6 + 16
        grown = figures.best("memory", case)
        yield at_most("memory", f"{case}: memory that a fit adds", round(limit), grown, " MB")
    case = "784-256-128-10, ten times as many steps"
    grown = figures.best("memory", case)
    yield at_most("memory", f"{case}: memory that they add", 1, grown, " MB")


def rows(figures: Figures) -> Iterator[Bar]:
    for job in (shapes.DELTA_RULE, shapes.TINY, shapes.MEDIUM):
        case = case_name(job)
        few = figures.best("rows", case, variant="10,000 rows")
        many = figures.best("rows", case, variant="1,000,000 rows")
        limit = 1.1 if few is not None and few > 20 else 1.3
        text = f"{case}: cost of a sample, 1,000,000 rows / 10,000"
        yield at_most("rows", text, limit, _quotient(many, few), "x")


def calls(figures: Figures) -> Iterator[Bar]:
    case = "4-16-3, 32"
    step = figures.best("calls", case, variant="train_step")
    yield at_most("calls", f"{case}: train_step", 3, step, " us")
    one = figures.best("calls", case, variant="fit of one step")
    inner = figures.best("calls", case, variant="a step within fit")
    fixed = None if one is None or inner is None else one - inner
    yield at_most("calls", f"{case}: fixed cost of fit", 50, fixed, " us")
    ours, numpy = (figures.best("import", "import", peer=p) for p in ("fastgd", "numpy"))
    yield at_most("import", "import fastgd / import numpy", 1.3, _quotient(ours, numpy), "x")


def threads(figures: Figures) -> Iterator[Bar]:
    for case in ("two processes", "four processes"):
        lost = figures.best("threads", case)
        text = f"{case} training at once: loss against perfect sharing"
        yield at_most("threads", text, 0.15, lost, "%")
    idle = figures.best("threads", "parking")
    yield at_most("threads", "CPU time of a worker after a call's end", 50, idle, " us")
    names = [row["case"] for row in figures.rows if row.get("unit") == "passes"]
    for name in names:
        passes = figures.best("threads", name)
        yield Bar("threads", name, "passes", passes, bool(passes), "passes")


def drop_in(figures: Figures) -> Iterator[Bar]:
    for row in figures.rows:
        if row["group"] == "drop_in" and row["peer"] == "fastgd":
            theirs = figures.best("drop_in", row["case"], peer="sklearn")
            text = f"{row['case']}: sklearn / fastgd.sklearn"
            yield at_least("drop_in", text, row["required"], _quotient(theirs, row["median"]), "x")


def torch_fit(figures: Figures) -> Iterator[Bar]:
    for row in figures.rows:
        if row["group"] == "torch_fit" and row["peer"] == "fastgd":
            keys = {"peer": "torch", "threads": row["threads"]}
            theirs = figures.best("torch_fit", row["case"], **keys)
            text = f"{row['case']}: a loop in torch / fastgd.torch"
            text += f", {_threads(row['threads'], figures.all_threads)}"
            # In layers of 2,048 both wait for the memory.
            limit = 1 / NOISE if shapes.case_name(shapes.WIDE) in row["case"] else 1.0
            ratio = _quotient(theirs, row["median"])
            yield at_least("torch_fit", text, round(limit, 2), ratio, "x")


def blocks(figures: Figures) -> Iterator[Bar]:
    for row in figures.rows:
        if row["group"] == "blocks" and row["variant"] != "arrays":
            keys = {"variant": "arrays", "threads": row["threads"]}
            arrays = figures.best("blocks", row["case"], **keys)
            text = f"{row['case']}: {row['variant']} / arrays in memory"
            text += f", {_threads(row['threads'], figures.all_threads)}"
            yield at_most("blocks", text, 1.3, _quotient(row["median"], arrays), "x")


_GROUPS: tuple[Callable[[Figures], Iterator[Bar]], ...] = (
    networks,
    float64,
    isa,
    odd,
    small_batches,
    activations,
    optimizers,
    fit,
    predict,
    memory,
    rows,
    calls,
    threads,
    drop_in,
    torch_fit,
    blocks,
)


def judge(rows_: Sequence[dict[str, Any]]) -> list[Bar]:
    """Hold every bar against the rows of one run."""
    figures = Figures(rows_)
    return [bar for group in _GROUPS for bar in group(figures)]
