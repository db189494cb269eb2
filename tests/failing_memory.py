"""A program: every allocation of a call fails once, and the call is none the worse for it.

    LD_PRELOAD=<tests/c/failing_memory.c, compiled> PYTHONMALLOC=malloc \
        python tests/failing_memory.py core|all [--stride n] [--only name ...]

core: the C core's allocations, each by itself, and all from it on; all: those of Python, NumPy and
the extensions. Allocations number 0, 1, 2, ... of each case below fail, until one call has fewer.
After each failure the network must be as it was, or in the middle of a long fit as after one of
its steps; nothing may stay allocated; and the same call must then give the bits that it gives in a
process with enough memory. Prints a line a case.
"""

import argparse
import copy
import ctypes
import faulthandler
import gc
import os
import pickle
import re
import sys
import tempfile
import threading
import traceback
from pathlib import Path

import numpy as np

import fastgd
from fastgd import _training, kernels

FOREVER = 1 << 40
WATCHED = {
    "core": "/fastgd/_kernels.",
    "all": "/fastgd/_kernels.,/fastgd/_engine.,/program,libpython,/_multiarray_umath.",
}
REPEATS = 7
# After so long, a call is one that does not return.
SECONDS = 300
WAITS = re.compile(r'threading\.py", line \d+ in start\b')
# What CPython says of want of memory in other words.
ELSE = (
    "path should be string",
    "can't allocate lock",
    "can't allocate read lock",
    "can't start new thread",
    "import of module",
    "not PosixPath",
)

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 9)).astype(np.float32)
BYTES = rng.integers(0, 255, size=(60, 9)).astype(np.uint8)
LABELS = np.arange(60) % 4
WEIGHTS = rng.uniform(0.5, 2, size=60)


def network(optimizer="sgd", *, dropout=0.0, n_inputs=9, dtype="float32", threads=False, **other):
    layers = [fastgd.Dense(18, "gelu", dropout=dropout), fastgd.Dense(4)]
    net = fastgd.Network(layers, "cross_entropy", optimizer, n_inputs, dtype, **other)
    if threads:
        net._engine.serial_flop = 0.0
    return net


def state(net):
    """Return all that a call without memory must leave alone, comparable."""
    kept = (net.n_inputs, net.step, net.epoch, net.feature_names, net._resume)
    if net._engine is None:
        return kept
    arrays = {name: view.tobytes() for name, view in net._arrays().items()}
    return (*kept, arrays, net.optimizer.params(), net.optimizer.name)


class Steps(fastgd.Callback):
    """Notes the state after each step."""

    def __init__(self):
        super().__init__()
        self.states = {}

    def on_batch_end(self, step, loss):
        self.states[self.network.step] = numbers(self.network)


def numbers(net):
    return {name: view.tobytes() for name, view in net._arrays().items()}


class Case:
    """One call: how its network is made, what is done with it, and what comes."""

    def __init__(self, make, call, *, steps=False):
        self.make = make
        self.call = call  # may run without memory
        # Whether a failure may come when some steps are done.
        self.steps = steps


def fit(**settings):
    def call(net):
        y = settings.get("y", LABELS)
        given = {key: value for key, value in settings.items() if key not in ("X", "y")}
        given = {"epochs": 2, "batch_size": 16, "verbose": 0, "n_threads": 1} | given
        net.fit(settings.get("X", X), y, **given)

    return Case(None, call, steps=True)


def made(make, case):
    case.make = make
    return case


def verified_fit(net):
    _training.verified.clear()
    net.fit(X, LABELS, epochs=1, batch_size=20, verbose=0)


def train_step(net):
    return net.train_step(X, LABELS)


def long_step(net):
    """As train_step, from the way that it prepares for the steps after it."""
    return net.train_step(X[:50], LABELS[:50])


def prepared():
    net = network("adam")
    net.train_step(X[:8], LABELS[:8])
    return net


def trained():
    """Return the same network each time, its history included."""
    global TRAINED
    if TRAINED is None:
        net = network(fastgd.SGD(0.1, momentum=0.9), dropout=0.25)
        net.fit(X, LABELS, epochs=1, batch_size=16, verbose=0)
        TRAINED = pickle.dumps(net)
    return pickle.loads(TRAINED)


def to_file(net):
    """The file, which is not the same each time, is read when there is memory again."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "model"
        path.write_bytes(b"old")
        try:
            net.save(path)
        except BaseException:
            assert path.read_bytes() == b"old", "the old file stays"
            assert os.listdir(folder) == ["model"], "no other file is left"
            raise
        KEPT.append(path.read_bytes())


def from_file(net):
    return fastgd.load(MODEL)


def new_optimizer(net):
    net.optimizer = "adam"


def other_rate(net):
    net.optimizer = fastgd.SGD(0.5, momentum=0.8, clip_norm=1.0)


def new_weights(net):
    net.set_weights([array + 1 for array in net.get_weights()])


class Arrays:
    """In a network's place, what an update changes."""

    n_inputs = step = epoch = 0

    def __init__(self):
        self.W, self.b = np.ones((9, 4), np.float32), np.ones(4, np.float32)
        self.velocity = np.zeros_like(self.W), np.zeros_like(self.b)
        self.state = {}
        self.delta = np.ones((60, 4), np.float32)


def array_state(arrays):
    counts = {name: value for name, value in arrays.state.items() if name == "step"}
    pairs = [value for name, value in arrays.state.items() if name != "step"]
    pairs += [(arrays.W, arrays.b), arrays.velocity]
    return counts, [x.tobytes() for pair in pairs for x in pair]


def adam_update(arrays):
    kernels.adam_update(arrays.W, arrays.b, X, arrays.delta, arrays.state, lr=0.1)


def later():
    """Return arrays with a state that counts on, and columns that go through copies."""
    arrays = Arrays()
    arrays.W = np.asfortranarray(arrays.W)
    squares = np.zeros_like(arrays.W), np.zeros_like(arrays.b)
    arrays.state = {"exp_avg": arrays.velocity, "exp_avg_sq": squares, "step": 3}
    return arrays


def sgd_update(arrays):
    W = arrays.W
    kernels.sgd_update(W, arrays.b, X, arrays.delta, lr=0.1, velocity=arrays.velocity, momentum=0.9)


def forward(arrays):
    return kernels.forward(X, arrays.W, arrays.b, "softmax")


def blocks_fit(net):
    blocks = fastgd.Blocks(X, LABELS, buffer_rows=32)
    net.fit(blocks, epochs=1, batch_size=16, verbose=0)


def predict(net):
    return net.predict(X, n_threads=2)


def evaluate(net):
    return net.evaluate(X, LABELS, WEIGHTS, metrics="accuracy")


def gradient(net):
    return net.loss_and_grad(X, LABELS)


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def copied(net):
    return copy.deepcopy(net)


def threads():
    return network("adam", dropout=0.2, threads=True)


FOLDER = os.environ.get("TMPDIR")
MODEL = TRAINED = None
KEPT = []
CASES = {
    "network": Case(lambda: None, lambda _: network("adam", dropout=0.1)),
    "fit": made(network, fit()),
    "fit, first": made(lambda: network(n_inputs=None), fit()),
    "fit, verified": Case(network, verified_fit, steps=True),
    "fit, momentum, weights": made(
        lambda: network(fastgd.SGD(0.1, momentum=0.9)), fit(sample_weight=WEIGHTS)
    ),
    "fit, adam, dropout, float64": made(
        lambda: network("adam", dropout=0.3, dtype="float64"), fit(shuffle=False)
    ),
    "fit, clipped, bytes": made(
        lambda: network(fastgd.SGD(0.1, clip_norm=1.0), input_scale=1 / 255), fit(X=BYTES)
    ),
    "fit, int32 labels, validation": made(
        network, fit(y=LABELS.astype(np.int32), validation_data=(X, LABELS), metrics="accuracy")
    ),
    "fit, 3 threads": made(threads, fit(n_threads=3)),
    "fit, blocks": Case(network, blocks_fit, steps=True),
    "train_step": Case(network, train_step, steps=True),
    "train_step, short": Case(prepared, long_step, steps=True),
    "predict": Case(trained, predict),
    "evaluate": Case(trained, evaluate),
    "loss_and_grad": Case(trained, gradient),
    "save": Case(trained, to_file),
    "load": Case(trained, from_file),
    "pickle": Case(trained, pickled),
    "copy": Case(trained, copied),
    "optimizer": Case(trained, new_optimizer),
    "optimizer, other rate": Case(trained, other_rate),
    "set_weights": Case(trained, new_weights),
    "kernels.forward": Case(Arrays, forward),
    "kernels.adam_update": Case(Arrays, adam_update),
    "kernels.adam_update, later": Case(later, adam_update),
    "kernels.sgd_update": Case(later, sgd_update),
}


def seen(thing):
    """Return what can be compared with ==."""
    if isinstance(thing, Arrays):
        return array_state(thing)
    if isinstance(thing, fastgd.Network):
        return state(thing)
    if isinstance(thing, tuple | list):
        return [seen(part) for part in thing]
    return thing.tobytes() if isinstance(thing, np.ndarray) else thing


def is_for_memory(error):
    """Whether an exception says, or was raised because, memory is short."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        # CPython and NumPy in some places forget to say why they give up, or say something else.
        if isinstance(error, SystemError) or any(text in str(error) for text in ELSE):
            return True
        # safetensors, in Rust, panics.
        if type(error).__name__ == "PanicException":
            return True
        error = error.__cause__ or error.__context__
    return False


class Thing:
    pass


def with_cell(thing, other):
    return lambda: other


def call_with_cell(thing):
    with_cell(thing, None)


def tuple_of_many(thing):
    tuple(thing for _ in range(3))


# Functions of CPython, and calls in which their allocations fail: 3.11 and 3.12 lose the arguments
# of a call for one of whose cells they have no memory, and they and 3.13 the items of a tuple that
# they cannot resize.
SUSPECTS = {"PyCell_New": call_with_cell, "_PyTuple_Resize": tuple_of_many}


def loses_references(shim, function):
    """Whether this CPython, with nothing of fastgd, loses references where a function fails.

    For a child: some versions crash by it.
    """
    shim.fgd_suspect(function.encode())
    thing = Thing()
    for first in range(20):
        before = sys.getrefcount(thing)
        shim.fgd_fail(first, first + 1)
        raised = False
        try:
            SUSPECTS[function](thing)
        except MemoryError:
            raised = True
        shim.fgd_heal()
        if raised and shim.fgd_n_suspected() and sys.getrefcount(thing) > before:
            return 1, 0, 0
    return 0, 0, 0


def in_child(function, *arguments):
    """Call a function, in a child; return three numbers that it returns, and its crash or None."""
    read, write = os.pipe()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(errors.fileno(), 2)
                faulthandler.dump_traceback_later(SECONDS, exit=True)
                os.write(write, pickle.dumps(function(*arguments)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        with open(read, "rb") as pipe:
            found = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        text = errors.read().decode()
    if code and WAITS.search(text):
        return (0, 0, 0), "CPython: Thread.start waits for a thread that could not begin"
    if code == 1:
        raise AssertionError(text)
    if code:
        return (0, 0, 0), text.splitlines()[-1] if text else f"exit code {code}"
    return pickle.loads(found), None


def is_ours(crash):
    """Whether the first library of a crash, after those of C and of this test, is fastgd's."""
    if crash.startswith("CPython: "):
        return False
    frames = [name for name in crash.split() if "/" in name]
    others = [
        name for name in frames if not re.search(r"failing_memory|/libc|/libgcc|fm\.so", name)
    ]
    return not others or "/fastgd/" in others[0]


def forget_ended_threads():
    """CPython keeps one, and what it was to call, that had no memory as it began or ended."""
    with threading._active_limbo_lock:
        for known in (threading._active, threading._limbo):
            for name, thread in list(known.items()):
                if not thread.is_alive():
                    del known[name]


class Tour:
    """All allocations of one case, one after the other."""

    def __init__(self, shim, name, length):
        self.shim, self.name, self.case, self.length = shim, name, CASES[name], length
        thing = self.case.make()
        self.expected = seen([self.case.call(thing), thing])
        self.states = {}
        if self.case.steps:
            self.note_steps()

    def note_steps(self):
        """Run the case with a callback that notes the state after each step."""
        net, noted, plain_fit = self.case.make(), Steps(), fastgd.Network.fit

        def noting_fit(self, *arguments, **settings):
            return plain_fit(self, *arguments, callbacks=[noted], **settings)

        fastgd.Network.fit = noting_fit
        try:
            assert seen([self.case.call(net), net]) == self.expected
        finally:
            fastgd.Network.fit = plain_fit
        self.states = noted.states | {net.step: numbers(net)}

    def attempt(self, first):
        """Fail at an allocation; return whether one was made to fail, and raised."""
        thing = self.case.make()
        before = seen(thing)
        KEPT.clear()
        found = error = None
        self.shim.fgd_fail(first, first + self.length)
        try:
            found = self.case.call(thing)
        except BaseException as caught:
            error = caught
        n_failed = self.shim.fgd_heal()
        where = f"{self.name}, allocation {first}"
        for content in KEPT:
            MODEL.write_bytes(content)
            assert state(fastgd.load(MODEL)) == before, f"{where}: another file"
        if error is None:
            assert seen([found, thing]) == self.expected, f"{where}: another result"
            return n_failed, False
        if not (n_failed and is_for_memory(error)):
            raise AssertionError(f"{where}: {error!r}") from error
        error = None
        now = seen(thing)
        done = 0 if thing is None else thing.step
        if now != before:
            assert self.case.steps, f"{where}: something has changed"
            assert done in self.states, f"{where}: step {done}"
            assert numbers(thing) == self.states[done], f"{where}: not as after step {done}"
        found = self.case.call(thing)
        if now == before:
            assert seen([found, thing]) == self.expected, f"{where}: another result afterwards"
        return n_failed, True

    def run(self, stride, leaks):
        at, n_errors, n_excused, crashes = 0, 0, 0, []
        while True:
            (n_failed, raised, excused), crash = in_child(self.look_at, at, leaks)
            if crash:
                if is_ours(crash):
                    raise AssertionError(f"{self.name}, allocation {at}: {crash}")
                crashes.append(f"{at}: {crash}")
            elif not n_failed:
                break
            n_errors += raised
            n_excused += excused
            at += stride
        for crash in sorted(set(crashes)):
            print("   ", crash[:900])
        return (
            f"{self.name}: {at} allocations, {n_errors} errors for want of memory, "
            f"{len(crashes)} crashes of CPython and NumPy, {n_excused} where CPython leaks"
        )

    def look_at(self, at, leaks):
        n_failed, raised = self.attempt(at)
        return n_failed, raised, bool(leaks and n_failed and not self.looked_for_leaks(at))

    def n_held(self):
        """Return how many blocks fastgd's own libraries hold.

        CPython's are not counted: after some failures it keeps a string a call, also of calls that
        succeed.
        """
        return self.shim.fgd_n_held(b"/fastgd/_")

    def looked_for_leaks(self, at):
        """Repeat a failure; what is allocated must not grow each time.

        Returns whether it can be told from what CPython loses itself.
        """
        held, suspected = [], []
        for _ in range(REPEATS):
            self.attempt(at)
            suspected.append(self.shim.fgd_n_suspected() > 0)
            forget_ended_threads()
            gc.collect()
            held.append(self.n_held())
        if (np.diff(held[2:]) <= 0).any():
            return True
        if all(suspected[3:]):
            return False
        self.shim.fgd_who_holds()
        raise AssertionError(f"{self.name}, allocation {at}: leaks, {held} blocks")


def main():
    global FOLDER, MODEL, SECONDS
    parser = argparse.ArgumentParser()
    parser.add_argument("allocations", choices=list(WATCHED))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--no-leaks", action="store_true")
    # Thread.start of CPython waits for ever for a thread that had no memory to begin.
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each child, at most")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    SECONDS = arguments.seconds
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    shim.fgd_catch_crashes()
    for name in ("fgd_heal", "fgd_n_suspected", "fgd_n_held"):
        getattr(shim, name).restype = ctypes.c_long
    shim.fgd_fail.argtypes = [ctypes.c_long, ctypes.c_long]
    FOLDER = tempfile.mkdtemp()
    MODEL = Path(FOLDER) / "kept"
    trained().save(MODEL)
    if shim.fgd_watch(WATCHED[arguments.allocations].encode()) == 0:
        sys.exit("none of the libraries is there")
    losing = [name for name in SUSPECTS if in_child(loses_references, shim, name)[0][0]]
    shim.fgd_suspect(",".join(losing).encode())
    # With no thread to be had, and the caller alone, the bits are those with threads.
    shim.fgd_fail_threads(1)
    alone, together = threads(), threads()
    CASES["fit, 3 threads"].call(alone)
    shim.fgd_fail_threads(0)
    CASES["fit, 3 threads"].call(together)
    assert state(alone) == state(together), "another result without threads"
    lengths = [1, FOREVER] if arguments.allocations == "core" else [1, 4]
    for name in arguments.only:
        for length in lengths:
            line = Tour(shim, name, length).run(arguments.stride, not arguments.no_leaks)
            print(
                line,
                "each"
                if length == 1
                else f"and {'all' if length == FOREVER else length - 1} after it",
                sep=", ",
                flush=True,
            )


if __name__ == "__main__":
    main()
