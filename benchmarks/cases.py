"""What is measured: groups of cases, each a list of series that take turns.

The cases with a procedure of their own (import time, processes that share the CPUs, fork) are in
extras.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import shapes
from benchmarks.pool import Series
from benchmarks.shapes import Job, case_name

FASHION = Path("/usr/share/datasets/fashion-mnist")
ACTIVATIONS = (
    "identity",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "exp",
)
SGD = {"name": "sgd", "lr": 0.01}
OPTIMIZERS = {
    "momentum": SGD | {"momentum": 0.9},
    "nesterov": SGD | {"momentum": 0.9, "nesterov": True},
    "adam": {"name": "adam", "lr": 1e-4},
    "adamw": {"name": "adamw", "lr": 1e-4},
    "rmsprop": {"name": "rmsprop", "lr": 1e-5},
    "adagrad": {"name": "adagrad", "lr": 1e-4},
    "weight_decay": SGD | {"weight_decay": 1e-4},
    "clip_value": SGD | {"clip_value": 1.0},
    "schedule": SGD | {"schedule": True},
}
# Every size, and the batch, rounded up to a multiple of 16 in the twin of each.
ODD = {
    "13-29-7, 33": Job((13, 29, 7), 33, 200),
    "100-46-46-10, 128": Job((100, 46, 46, 10), 128, 50),
    "300-700-300-17, 96": Job((300, 700, 300, 17), 96, 8),
    "100-50-1 regression, 100": Job((100, 50, 1), 100, 50, loss="squared_error"),
    "64-100-10, 200 and a last batch of 9": Job((64, 100, 10), 200, 2, rows=209),
}


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    threads: tuple[int, ...] = (1,)
    quick: bool = False
    fashion: Path = FASHION
    isas: tuple[str, ...] = ()
    networks: tuple[Job, ...] = shapes.NETWORKS


@dataclass(frozen=True)
class Case:
    """Series that are checked against each other and then take turns."""

    group: str
    name: str
    series: list[Series]
    tolerance: float | None = 1e-4
    max_rounds: int = 1000
    notes: dict[str, object] = field(default_factory=dict)


def _ours(job: Job, threads: int, isa: str = "", label: str = "") -> Series:
    return Series("fastgd", threads, job, isa, label)


def _peaks(threads: Sequence[int], dtype: str = "float32", isa: str = "") -> list[Series]:
    return [_ours(Job(kind="peak", dtype=dtype), n, isa, f"peak {isa}".strip()) for n in threads]


def _loaded_peak(job: Job) -> Series:
    """Take an epoch of few steps where one takes a tenth of a second."""
    steps = max(1, min(job.steps, round(1e9 / shapes.flop(job))))
    job = replace(job, kind="loaded_peak", variant="fit", steps=steps)
    return _ours(job, 1, label=f"peak after steps {job.dtype}")


def _training(job: Job, threads: int) -> list[Series]:
    """List a network's series: ours, and every peer in each of its forms."""
    forms = {
        "fastgd": ("fit", "train_step"),
        "numpy": ("loop",),
        "sklearn": ("fit", "partial_fit") if len(job.sizes) > 2 else ("SGDRegressor",),
        "torch": ("eager", "foreach", "fused", "compile", "compile_step"),
        # Steps so long that the loop around them cannot count need no unrolling.
        "jax": ("step", "scan", "unrolled") if shapes.flop(job) < 1e7 else ("step", "scan"),
    }
    return [
        Series(peer, threads, replace(job, variant=variant))
        for peer, variants in forms.items()
        for variant in variants
    ]


def networks(options: Options) -> list[Case]:
    cases = []
    for job in options.networks:
        series = [one for n in options.threads for one in _training(job, n)]
        wide = job is shapes.WIDE
        name = case_name(job)
        if options.quick:
            series = [replace(s, job=replace(s.job, steps=min(s.job.steps, 50))) for s in series]
        series += _peaks(options.threads)
        if 1 in options.threads:
            series.append(_loaded_peak(job))
        cases.append(Case("networks", name, series, max_rounds=5 if wide else 1000))
    return cases


def float64(options: Options) -> list[Case]:
    cases = []
    for job in shapes.NETWORKS:
        series = [
            _ours(replace(job, variant="fit", dtype=dtype), n, label=dtype)
            for dtype in ("float32", "float64")
            for n in options.threads
        ]
        series += _peaks(options.threads) + _peaks(options.threads, "float64")
        if 1 in options.threads:
            series.append(_loaded_peak(replace(job, dtype="float64")))
        cases.append(Case("float64", case_name(job), series, max_rounds=5))
    return cases


def isa(options: Options) -> list[Case]:
    names = [name for name in ("avx512", "avx2") if name in options.isas]
    if len(names) < 2:
        return []
    return [
        Case(
            "isa",
            case_name(job),
            [_ours(replace(job, variant="fit"), 1, name, name) for name in names]
            + [one for name in names for one in _peaks((1,), isa=name)],
            max_rounds=7,
        )
        for job in shapes.NETWORKS
    ]


def rounded(job: Job) -> Job:
    """Round every size, the batch and the last short batch up to multiples of 16."""
    up = lambda n: -(-n // 16) * 16  # noqa: E731
    whole, rest = divmod(job.n_samples, job.batch)
    sizes = tuple(map(up, job.sizes))
    return replace(job, sizes=sizes, batch=up(job.batch), rows=whole * up(job.batch) + up(rest))


def odd(options: Options) -> list[Case]:
    cases = []
    for name, job in ODD.items():
        job = replace(job, variant="fit")
        # The twin is another network: there is nothing to compare between the two.
        series = [_ours(job, 1, label="odd"), _ours(rounded(job), 1, label="rounded up")]
        cases.append(Case("odd", name, series + _peaks((1,)), tolerance=None))
    return cases


def small_batches(options: Options) -> list[Case]:
    cases = []
    for batch in (1, 2, 4, 8):
        job = replace(shapes.WIDE, batch=batch, steps=8, variant="fit")
        series = [_ours(job, n, label="fit") for n in options.threads]
        series += [_ours(replace(job, kind="sweep"), n, label="sweep") for n in options.threads]
        name = case_name(job)
        cases.append(Case("small_batches", name, series + _peaks(options.threads), max_rounds=7))
    return cases


def activations(options: Options) -> list[Case]:
    # Weights so small that exp does not overflow, and for exp a rate that keeps them so.
    job = replace(shapes.IMAGES, variant="fit", weight_scale=0.3)
    series = []
    for name in ("relu", *ACTIVATIONS):
        optimizer = {"name": "sgd", "lr": 1e-3 if name == "exp" else 0.05}
        series.append(_ours(replace(job, activation=name, optimizer=optimizer), 1, label=name))
    return [Case("activations", job.name, series + _peaks((1,)), tolerance=None)]


def optimizers(options: Options) -> list[Case]:
    cases = []
    for job in (shapes.IMAGES, shapes.WIDE):
        job = replace(job, variant="fit")
        series = [_ours(job, 1, label="sgd")]
        series += [_ours(replace(job, optimizer=o), 1, label=k) for k, o in OPTIMIZERS.items()]
        rounds = 5 if len(job.sizes) > 3 and job.batch > 200 else 1000
        series += _peaks((1,))
        cases.append(Case("optimizers", job.name, series, tolerance=None, max_rounds=rounds))
    return cases


def fit(options: Options) -> list[Case]:
    if not (options.fashion / "train-images-idx3-ubyte.gz").exists():
        print(f"fit: skipped, there is no Fashion-MNIST in {options.fashion} (--fashion FOLDER)")
        return []
    job = replace(
        shapes.IMAGES,
        kind="fit",
        rows=4000 if options.quick else 60_000,
        epochs=3,
        shuffle=True,
        data=str(options.fashion),
        optimizer={"name": "sgd", "lr": 0.1},
    )
    forms = {
        "fastgd": ("fit",),
        "torch": ("fused", "compile", "compile_step"),
        "sklearn": ("fit",),
        "jax": ("scan",),
        "numpy": ("loop",),
    }
    series = [
        Series(peer, n, replace(job, variant=variant))
        for n in options.threads
        for peer, variants in forms.items()
        for variant in variants
    ]
    # Each shuffles with its own generator, so that losses agree as two seeds do.
    return [Case("fit", "Fashion-MNIST, 3 epochs", series, tolerance=0.05, max_rounds=3)]


def predict(options: Options) -> list[Case]:
    many = replace(shapes.IMAGES, kind="predict", rows=10_000)
    one = replace(shapes.MEDIUM, kind="predict", rows=1)
    forms = (
        ("fastgd", "predict"),
        ("onnxruntime", "run"),
        ("torch", "eager"),
        ("torch", "compile"),
        ("jax", "jit"),
        ("numpy", "loop"),
    )
    cases = []
    for name, job in (("10,000 x 784", many), ("one sample of 64-100-10", one)):
        series = [
            Series(peer, n, replace(job, variant=variant))
            for n in options.threads
            for peer, variant in forms
        ]
        cases.append(Case("predict", name, series + _peaks(options.threads)))
    return cases


def calls(options: Options) -> list[Case]:
    job = replace(shapes.TINY, steps=1, optimizer={"name": "sgd", "lr": 0.1})
    series = [
        _ours(replace(job, variant="train_step"), 1, label="train_step"),
        _ours(replace(job, kind="fit_call"), 1, label="fit of one step"),
        _ours(replace(shapes.TINY, variant="fit"), 1, label="a step within fit"),
    ]
    return [Case("calls", "4-16-3, 32", series, tolerance=None)]


def rows(options: Options) -> list[Case]:
    cases = []
    for job in (shapes.DELTA_RULE, shapes.TINY, shapes.MEDIUM):
        job = replace(job, variant="fit", shuffle=True)
        sizes = (10_000, 100_000 if options.quick else 1_000_000)
        series = [_ours(replace(job, rows=n), 1, label=f"{n:,} rows") for n in sizes]
        cases.append(Case("rows", case_name(job), series, tolerance=None, max_rounds=5))
    return cases


def memory(options: Options) -> list[Case]:
    """Each in a process that has fitted nothing large before: see run.py."""
    momentum = OPTIMIZERS["momentum"]
    images = replace(shapes.IMAGES, kind="memory", rows=20_000, optimizer=momentum)
    jobs = {
        "784-256-128-10, float32": images,
        "784-256-128-10, uint8 input": replace(images, data="uint8", rows=60_000),
        "784-256-128-10, ten times as many steps": replace(images, variant="growth"),
        "1024-2048-2048-10, float32": replace(
            shapes.WIDE, kind="memory", rows=2048, optimizer=momentum
        ),
    }
    # The first step of a process is verified by the reference, whose memory is a cost of its own.
    wide = jobs["1024-2048-2048-10, float32"]
    jobs["1024-2048-2048-10, float32, not validated"] = replace(wide, variant="not validated")
    threads = max(options.threads)
    return [
        Case("memory", name, [_ours(job, threads)], None, 1, {"fresh": True})
        for name, job in jobs.items()
    ]


GROUPS: dict[str, Callable[[Options], list[Case]]] = {
    "networks": networks,
    "float64": float64,
    "isa": isa,
    "odd": odd,
    "small_batches": small_batches,
    "activations": activations,
    "optimizers": optimizers,
    "fit": fit,
    "predict": predict,
    "calls": calls,
    "rows": rows,
    "memory": memory,
}
