"""Signals at random moments: Ctrl-C, SIGTERM, and the places between two calls of Python."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import block_extras
import fastgd
from fault_runs import few_or, program, report, run, shown

# Another process sends the signals and notes when; how long the threads of this one were ready and
# had no core since then, because of other programs, is taken off.
SENDER = """def delay(pid):
    \"\"\"Nanoseconds that the threads of a process were ready and had no core, each.\"\"\"
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                found[task] = int(file.read().split()[1])
        except OSError:
            pass
    return found

def sender(number):
    \"\"\"Start a process that sends a signal when told; return its number and two pipes.\"\"\"
    pid = os.getpid()
    orders, order = os.pipe()
    news, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(order)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while (text := os.read(orders, 64)):
            time.sleep(float(text))
            before, sent = delay(pid), time.monotonic()
            os.kill(pid, number)
            os.write(tell, json.dumps([sent, before]).encode())
        os._exit(0)
    os.close(orders)
    return child, order, news

def latency(news, caught, after):
    \"\"\"Return how long ago a signal was sent, without and with the waits for a core.\"\"\"
    sent, before = json.loads(os.read(news, 1 << 16))
    # Of all threads: each may have waited for another one at a barrier.
    waited = sum((after[task] - before.get(task, 0)) * 1e-9 for task in after)
    return max(0.0, caught - sent - waited), caught - sent

def percentiles(values):
    return [round(1000 * float(np.percentile(values, p)), 1) for p in (50, 90, 99, 100)]
"""

INTERRUPTS = (
    SENDER
    + """
import warnings
kind, n_threads, n_times, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
draw = np.random.default_rng(seed)
child, order, news = sender(signal.SIGINT)

fastgd.config(validate="off", n_threads=n_threads)  # but where it is what is tested
big = np.random.default_rng(1).normal(size=(4096, 1024)).astype(np.float32)
big_y = np.arange(4096) % 3
def large(loss="cross_entropy"):
    layers = [fastgd.Dense(2048, "relu"), fastgd.Dense(2048, "relu"), fastgd.Dense(3)]
    return fastgd.Network(layers, loss, fastgd.SGD(1e-3), 1024)

class Own:
    def value(self, a, y):
        return 0.5 * ((a - y) ** 2).sum(axis=1)
    def delta(self, a, y):
        return a - y

def slow_blocks():
    for first in range(0, 512, 64):
        time.sleep(0.4)
        yield X[first:first + 64], Y[first:first + 64]

def endless(call):
    while True:
        call()

x, y = X, Y
if kind == "python":
    net = network()
    def call():
        while True:
            pass
elif kind == "fit":
    net = network(128)
    call = lambda: net.fit(X, Y, 10**7, 32, verbose=0)
elif kind == "small fits":
    net = network(8)
    call = lambda: endless(lambda: net.fit(X, Y, 3, 64, verbose=0, validation_split=0.1,
                                           metrics="accuracy"))
elif kind == "evaluate":
    net, x, y = large(), big[:64], big_y[:64]
    call = lambda: endless(lambda: net.evaluate(big, big_y, metrics="accuracy"))
elif kind == "predict":
    net, x, y = large(), big[:64], big_y[:64]
    call = lambda: endless(lambda: net.predict(big))
elif kind == "train_step":
    net = network(128)
    call = lambda: endless(lambda: net.train_step(X, Y))
elif kind == "big steps":
    net, x, y = large(), big[:64], big_y[:64]
    call = lambda: net.fit(big, big_y, 10**6, 4096, verbose=0)
elif kind == "verified big steps":
    net, x, y = large(), big[:64], big_y[:64]
    def call():
        with fastgd.config(validate="always"):
            net.fit(big, big_y, 10**6, 2048, verbose=0)
elif kind == "custom loss, big steps":
    net, x, y = large(Own()), big[:64], np.zeros((64, 3), np.float32)
    call = lambda: net.fit(big, np.zeros((4096, 3), np.float32), 10**6, 4096, verbose=0)
elif kind == "gradients":
    net, x, y = large(), big[:64], big_y[:64]
    call = lambda: endless(lambda: net.loss_and_grad(big, big_y))
elif kind in ("slow blocks", "slow blocks, no prefetch"):
    net = network()
    blocks = fastgd.Blocks(slow_blocks, prefetch=kind == "slow blocks")
    call = lambda: net.fit(blocks, epochs=1000, batch_size=32, verbose=0)
else:
    from fastgd.sklearn import MLPClassifier
    estimator = MLPClassifier((256,), solver=kind.split()[1], max_iter=10**6, tol=0,
                              n_iter_no_change=10**6)
    def call():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Training interrupted by user."
            estimator.fit(big[:, :64], big_y)
    net = None

if net is not None:
    net.fit(x, y, 1, 64, verbose=0)
taken, raw, interrupted = [], [], 0
for _ in range(n_times):
    os.write(order, repr(float(draw.uniform(0.02, 0.15))).encode())
    try:
        try:
            call()
        except KeyboardInterrupt:
            interrupted += 1
        caught, after = time.monotonic(), delay(os.getpid())
        found = latency(news, caught, after)
    except KeyboardInterrupt:  # the call had ended before, which only an estimator's does
        caught, after = time.monotonic(), delay(os.getpid())
        found = latency(news, caught, after)
    taken.append(found[0])
    raw.append(found[1])
    if net is None:
        probabilities = estimator.predict_proba(big[:64, :64])
        assert np.isfinite(probabilities).all()
        continue
    assert all(np.isfinite(array).all() for array in net.get_weights())
    if net.history is not None:
        lengths = {len(column) for column in net.history.history.values()}
        assert lengths <= {len(net.history.epoch)}, "an epoch without all of its values"
    assert np.isfinite(net.predict(x)).all()
    if kind != "custom loss, big steps":
        steps = net.step
        net.fit(x, y, 1, 64, verbose=0)
        assert net.step > steps and len(net.history.epoch) == 1
    assert np.isfinite(net.train_step(x[:8], y[:8]))
os.close(order)
os.waitpid(child, 0)
print(json.dumps({"times": n_times, "raised": interrupted, "ms": percentiles(taken),
                  "ms with waits for a core": percentiles(raw)}))
"""
)

KINDS = [
    "python", "fit", "small fits", "predict", "evaluate", "train_step", "big steps",
    "verified big steps", "custom loss, big steps", "gradients", "slow blocks",
    "slow blocks, no prefetch",
]  # fmt: skip
if block_extras.has("sklearn"):
    KINDS += ["sklearn adam", "sklearn lbfgs"]
CHEAP = {"fit", "train_step", "slow blocks", "predict"}


@pytest.mark.parametrize(
    ("kind", "n_threads", "n_times"),
    [
        pytest.param(kind, n, times, marks=[pytest.mark.faults] * (times == 50))
        for kind in KINDS
        for n in (1, 2)
        for times in ((4, 50) if kind in CHEAP and n == 2 else (50,))
    ],
)
def test_ctrl_c_returns_within_200_ms(kind, n_threads, n_times, record_property):
    """At random moments; weights are finite, and the network is used and trained afterwards."""
    figures = report(run(INTERRUPTS, kind, n_threads, n_times, 1, timeout=500))
    shown(record_property, **figures)
    if not kind.startswith("sklearn"):
        assert figures["raised"] == n_times
    assert figures["ms"][-1] < 200


# ---- every place where Python looks for signals ---------------------------------------------


class Interrupt:
    """Raise KeyboardInterrupt after the n-th of the calls that code of the package makes.

    Python looks for signals after calls, and nowhere else that matters here: an exception between
    any two instructions would be one that no signal can be.
    """

    def __init__(self, n=None):
        self.n, self.seen = n, 0

    def __enter__(self):
        # Python 3.12 looks for opcodes only if some frame asks for them by now.
        sys._getframe().f_trace_opcodes = True
        self._before = sys.gettrace()  # of whoever counts the lines
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exception):
        sys.settrace(self._before)

    def _enter(self, frame, event, argument):
        if not frame.f_globals.get("__name__", "").startswith("fastgd"):
            return None
        frame.f_trace_opcodes = True
        return self._look

    def _look(self, frame, event, argument):
        if event != "opcode":
            return self._look
        code, at = frame.f_code.co_code, frame.f_lasti
        # Its caches come after a call.
        before = at - 2
        while before >= 0 and code[before] == 0:
            before -= 2
        if before >= 0 and self._is_call(code[before]):
            self.seen += 1
            if self.seen == self.n:
                sys.settrace(None)
                frame.f_trace = None
                raise KeyboardInterrupt
        return self._look

    @staticmethod
    def _is_call(number):
        import dis

        return dis.opname[number].startswith("CALL")


# A file that was opened, and to which Ctrl-C came before it had a name, closes itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@few_or(10**9, few=40)
@pytest.mark.parametrize("kind", ["fit", "train_step", "set_weights", "save"])
def test_network_is_usable_wherever_ctrl_c_comes(kind, n_times, tmp_path, record_property):
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    path = tmp_path / "file"

    def new():
        layers = [fastgd.Dense(4, "tanh"), fastgd.Dense(2)]
        net = fastgd.Network(layers, "cross_entropy", "adam")
        if kind != "fit":
            net.fit(X, y, 2, 16, verbose=0)
        return net

    def call(net):
        if kind == "fit":
            stop = fastgd.EarlyStopping("val_loss")
            net.fit(X, y, 3, 16, verbose=0, validation_split=0.2, callbacks=stop)
        elif kind == "train_step":
            net._short = None
            net.train_step(X, y)
        elif kind == "set_weights":
            net.set_weights([array + 1 for array in net.get_weights()])
        else:
            net.save(path)

    def traced():
        """Return a network of which Python 3.13 traces the first call as well.

        It looks for opcodes of a function from its second call on, and anew after an exception.
        """
        net = new()
        with Interrupt():
            call(net)
        return new()

    net = traced()
    with Interrupt() as counter:
        call(net)
    assert counter.seen > 10
    places = np.unique(np.linspace(1, counter.seen, min(n_times, counter.seen)).astype(int))
    reached = 0
    for place in places:
        net = traced()
        before = [array.copy() for array in net.get_weights()] if kind == "set_weights" else None
        interrupt = Interrupt(place)
        try:
            with interrupt:
                call(net)
        except KeyboardInterrupt:
            reached += 1
        else:  # Python 3.13 may leave out those of a function after an exception in it
            assert sys.version_info >= (3, 13)
            assert interrupt.seen < place
        if before is not None:
            changed = [(a != b).all() for a, b in zip(before, net.get_weights(), strict=True)]
            assert len(set(changed)) == 1, "some arrays are new and some are old"
        if net.history is not None:
            lengths = {len(column) for column in net.history.history.values()}
            assert lengths <= {len(net.history.epoch)}
        if kind == "save":
            assert {p.name for p in tmp_path.iterdir()} <= {"file"}
        net.fit(X, y, 2, 16, verbose=0)
        assert len(net.history.epoch) == 2
        assert np.isfinite(net.predict(X)).all()
        net.train_step(X, y)
        net.save(path)
        fastgd.load(path)
    assert reached > 0.75 * len(places)
    shown(record_property, kind=kind, places=reached)


# ---- SIGTERM --------------------------------------------------------------------------------

LONG = """
net = network(128)
net.fit(X, Y, 1, verbose=0)
print("begun", flush=True)
net.fit(X, Y, 10**8, 32, verbose=0, n_threads=2)
"""


def test_sigterm_ends_a_process_at_once():
    child = subprocess.Popen(program(LONG), stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"begun\n"
        time.sleep(0.1)
        sent = time.monotonic()
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM
        assert time.monotonic() - sent < 1


@few_or(200, few=5)
def test_handlers_of_sigterm_run_within_200_ms(n_times, record_property):
    """The fit goes on to the bits that it would have."""
    code = SENDER + textwrap.dedent("""
    n_times = int(sys.argv[1])
    net = network(128)
    net.fit(X, Y, 1, verbose=0)
    draw, taken, raw = np.random.default_rng(2), [], []
    child, order, news = sender(signal.SIGTERM)
    def arm():
        os.write(order, repr(float(draw.uniform(0.01, 0.08))).encode())
    def handler(number, frame):
        caught, after = time.monotonic(), delay(os.getpid())
        found = latency(news, caught, after)
        taken.append(found[0])
        raw.append(found[1])
        if len(taken) == n_times:
            net.stop_training = True
        else:
            arm()
    signal.signal(signal.SIGTERM, handler)
    class Quiet(fastgd.Callback):
        every_epoch = False  # native calls of many epochs
    arm()
    history = net.fit(X, Y, 10**7, 32, verbose=0, n_threads=2, callbacks=Quiet())
    os.close(order)
    os.waitpid(child, 0)
    twin = network(128)
    twin.fit(X, Y, 1, verbose=0)
    twin.fit(X, Y, len(history.epoch), 32, verbose=0)
    assert bits(net) == bits(twin)
    print(json.dumps({"times": len(taken), "ms": percentiles(taken),
                      "ms with waits for a core": percentiles(raw)}))
    """)
    figures = report(run(code, n_times, timeout=300))
    shown(record_property, **figures)
    assert figures["times"] == n_times
    assert figures["ms"][-1] < 200
