"""Processes under fault: forks and other ways to start them, ends at any time, subinterpreters."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest

from fault_jobs import trained
from fault_runs import few_or, program, report, run, shown

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

# ---- other processes ------------------------------------------------------------------------

FORKS = """
import warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[3])
import fault_jobs
n_times, when = int(sys.argv[1]), sys.argv[2]
wanted = None

def child():
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if fault_jobs.trained(1) == wanted else 2
            if when == "during":
                busy.predict(X[:3])
                try:
                    busy.fit(X, Y, verbose=0)
                except RuntimeError:
                    pass  # it may have been within a fit
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return "hang"
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(done[1])

if when == "before":
    # Nothing has been trained in this process: the child tells what the bits are.
    reader, writer = os.pipe()
    def first():
        global wanted
        pid = os.fork()
        if pid == 0:
            os.write(writer, fault_jobs.trained(1)[:1000])
            os._exit(0)
        found = os.read(reader, 1000)
        assert os.waitpid(pid, 0)[1] == 0
        return found
    found = {first() for _ in range(n_times)} | {fault_jobs.trained(1)[:1000]}
    print(json.dumps([["codes", 0]] * n_times if len(found) == 1 else "other bits"))
    sys.exit()
wanted = fault_jobs.trained(1)
draw = np.random.default_rng(0)
over = threading.Event()
if when == "during":
    busy = network(128)
    busy.fit(X, Y, verbose=0)
    busy._engine.serial_flop = 0.0
    def fit():
        while not over.is_set():
            busy.fit(X, Y, 20, 32, verbose=0, n_threads=2)
    thread = threading.Thread(target=fit)
    thread.start()
codes = []
for _ in range(n_times):
    time.sleep(draw.uniform(0, 0.01))
    codes.append(["codes", child()])
    if codes[-1][1] != 0:
        break
over.set()
if when == "during":
    thread.join()
print(json.dumps(codes))
"""


@few_or(200, few=10)
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_forked_children_train_to_the_same_bits(when, n_times, record_property):
    codes = report(run(FORKS, n_times, when, Path(__file__).parent, timeout=400))
    shown(record_property, forks=len(codes), when=when)
    assert codes == [["codes", 0]] * n_times


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_trains_to_the_same_bits(method):
    expected = [trained(seed) for seed in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(trained, range(4)).get(120) == expected


@pytest.mark.parametrize("backend", ["loky"])
def test_joblib_trains_to_the_same_bits(backend):
    expected = [trained(seed) for seed in range(4)]
    jobs = (joblib.delayed(trained)(seed) for seed in range(4))
    assert joblib.Parallel(n_jobs=2, backend=backend, timeout=120)(jobs) == expected


def test_a_fork_while_another_thread_shows_a_bar_does_not_hang():
    """The bars have two locks, one of them shared with the parent, and both as they were."""
    code = """
    import warnings
    from tqdm import tqdm
    warnings.simplefilter("ignore")
    net = network()
    net.fit(X, Y, 1, 64, verbose=1)
    held, over = threading.Event(), threading.Event()
    def show():
        with tqdm.get_lock():
            held.set()
            over.wait()
    thread = threading.Thread(target=show)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        net.fit(X, Y, 1, 64, verbose=1)
        os._exit(0)
    code = os.waitpid(pid, 0)[1]
    over.set()
    thread.join()
    net.fit(X, Y, 1, 64, verbose=1)  # the child has taken nothing that it did not give back
    print(json.dumps(code))
    """
    assert report(run(code)) == 0


# ---- the end of the interpreter -------------------------------------------------------------

DAEMON = """
net = network(128)
net.fit(X, Y, 1, verbose=0)
net._engine.serial_flop = 0.0
def fit():
    while True:
        net.fit(X, Y, 10**6, 32, verbose=0, n_threads=2)
threading.Thread(target=fit, daemon=True).start()
time.sleep(0.05 + 0.05 * float(sys.argv[1]))
"""
SLOW = """
def blocks():
    for _ in range(100):
        yield X[:64], Y[:64]
        time.sleep(float(sys.argv[1]) * 0.02)
net = network()
source = fastgd.Blocks(blocks)
"""
IN_CALLBACK = """
class End(fastgd.Callback):
    def on_epoch_end(self, epoch, logs):
        if epoch == 1:
            WAY
net = network()
net.fit(X, Y, 10**6, 32, verbose=0, callbacks=End(), n_threads=2)
"""
IN_BLOCKS = (
    SLOW
    + """
class End(fastgd.Callback):
    def on_batch_end(self, step, loss):
        if step == 5:
            WAY
net.fit(source, epochs=100, verbose=0, callbacks=End())
"""
)
IN_SOURCE = """
def blocks():
    yield X[:64], Y[:64]
    WAY
network().fit(fastgd.Blocks(blocks, prefetch=False), epochs=3, verbose=0)
"""
BLOCKS_IN_DAEMON = (
    SLOW
    + """
def fit():
    while True:
        net.fit(source, epochs=10**6, verbose=0)
threading.Thread(target=fit, daemon=True).start()
time.sleep(0.2)
"""
)
AT_EXIT = (
    DAEMON
    + """
import atexit
atexit.register(lambda: network().fit(X, Y, 2, verbose=0))
"""
)


def ends(code, way):
    """Put into a program how it ends; first it tells when, and how long it has lacked a core."""
    now = "print(json.dumps([time.monotonic(), lacked()]), flush=True)"
    return code.replace("WAY", f"{now}; {way}")


# Program, exit code, the end of stderr
ENDS = {
    "daemon thread": (ends(DAEMON + "WAY", "pass"), 0, ""),
    "daemon thread, sys.exit": (ends(DAEMON + "WAY", "sys.exit(3)"), 3, ""),
    "daemon thread, error": (ends(DAEMON + "WAY", "raise KeyError(1)"), 1, "KeyError: 1\n"),
    "daemon thread, os._exit": (ends(DAEMON + "WAY", "os._exit(4)"), 4, ""),
    "daemon thread, fit at exit": (ends(AT_EXIT + "WAY", "pass"), 0, ""),
    "daemon thread with blocks": (ends(BLOCKS_IN_DAEMON + "WAY", "pass"), 0, ""),
    "callback, sys.exit": (ends(IN_CALLBACK, "sys.exit(5)"), 5, ""),
    "callback, os._exit": (ends(IN_CALLBACK, "os._exit(6)"), 6, ""),
    "callback with blocks, sys.exit": (ends(IN_BLOCKS, "sys.exit(7)"), 7, ""),
    "callback with blocks, os._exit": (ends(IN_BLOCKS, "os._exit(8)"), 8, ""),
    "source, sys.exit": (ends(IN_SOURCE, "sys.exit(9)"), 9, ""),
}
LACKED = """
def lacked():
    with open("/proc/self/schedstat") as file:
        return int(file.read().split()[1]) * 1e-9
"""


@few_or(20, few=1)
@pytest.mark.parametrize("kind", ENDS)
def test_a_process_ends_within_a_second(kind, n_times, record_property):
    """With the right code, no crash and no output; waits for a core are taken off."""
    code, wanted, error = ENDS[kind]
    took = []
    for i in range(n_times):
        command = program(LACKED + code, i % 7)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            ended = time.monotonic()
            lacked = int(Path(f"/proc/{child.pid}/schedstat").read_text().split()[1]) * 1e-9
            out, err = child.communicate()
        began, lacked_before = json.loads(out)
        assert child.returncode == wanted
        assert err.decode().endswith(error)
        assert bool(err) == bool(error)
        took.append(ended - began - (lacked - lacked_before))
    shown(record_property, kind=kind, times=n_times, worst_ms=round(1000 * max(took)))
    assert max(took) < 1


# ---- subinterpreters ------------------------------------------------------------------------

INTERPRETERS = """
import importlib
for name in ("_xxsubinterpreters", "_interpreters"):  # before Python 3.13, and from then on
    try:
        interpreters = importlib.import_module(name)
        break
    except ImportError:
        pass
def in_another(code):
    number = interpreters.create()
    try:
        interpreters.run_string(number, code)
    finally:
        interpreters.destroy(number)
in_another('''
try:
    import fastgd
except ImportError as error:
    assert "cannot be imported in a subinterpreter" in str(error), error
else:
    raise AssertionError("it was imported")
''')
"""
TRAIN = """
import numpy, fastgd
X, y = numpy.eye(4), numpy.ones(4)
fastgd.Network([fastgd.Dense(1)], "squared_error").fit(X, y, verbose=0)
print("trained")
"""


@pytest.mark.parametrize("before", ["", "import numpy", "import fastgd"])
def test_subinterpreters_are_refused_and_spoil_nothing(before):
    """The main interpreter imports and trains afterwards, whatever it had imported before."""
    code = f"import sys\n{before}\n{INTERPRETERS}\n{TRAIN}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "trained\n", "")
