"""Python threads under fault: one network for all of them, a network each, limits that change."""

import threading
import time

import numpy as np
import pytest
import threadpoolctl

import fastgd
from fastgd._engine import BUSY
from fault_runs import few_or, report, run, shown

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 32)).astype(np.float32)
Y = RNG.integers(0, 3, 256)


def network(seed=0, hidden=64):
    layers = [fastgd.Dense(hidden, "relu"), fastgd.Dense(3)]
    return fastgd.Network(layers, "cross_entropy", fastgd.Adam(1e-3), 32, seed=seed)


def bits(arrays):
    return b"".join(array.tobytes() for array in arrays)


def in_threads(*calls, timeout=120):
    """Run calls at once, each in a thread; return what they raised."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive(), "a thread hangs"
    return errors


# ---- one network ----------------------------------------------------------------------------


@few_or(500, few=15)
def test_eight_threads_share_a_network(n_times, tmp_path, record_property):
    """Two fit, and others predict, evaluate, save, copy and read; no result is a mixture.

    Each thing that is seen of the network must be that of one state that training went through.
    """
    net = network()
    twin = network()
    net.fit(X, Y, verbose=0)
    twin.fit(X, Y, verbose=0)
    start = net.step
    refused, fits = [], [0]
    seen = {name: [] for name in ("weights", "saved", "copied", "predicted")}
    over = threading.Event()

    def fit():
        while not over.is_set():
            try:
                net.fit(X, Y, 2, 32, shuffle=False, verbose=0)
                fits[0] += 1
            except RuntimeError as error:
                refused.append(str(error))
                time.sleep(0.0005)

    def step():
        # Never trains: a fit is nearly always running, and otherwise it is refused by its shape.
        while not over.is_set():
            with pytest.raises((RuntimeError, ValueError)):
                net.train_step(X[:, :3], Y)
            time.sleep(0.001)

    def loop(name, look):
        def call():
            for _ in range(n_times):
                seen[name].append(look())

        return call

    def save():
        path = tmp_path / "file"
        net.save(path)
        other = fastgd.load(path)
        return other.step, bits(other.get_weights())

    def copy():
        import copy

        other = copy.deepcopy(net)
        return other.step, bits(other.get_weights())

    looks = [
        loop("weights", lambda: bits(net.get_weights())),
        loop("saved", save),
        loop("copied", copy),
        loop("predicted", lambda: net.predict(X[:40]).tobytes()),
        lambda: [net.evaluate(X, Y, metrics="accuracy") for _ in range(n_times)],
    ]

    def until_all_have_looked():
        try:
            errors.extend(in_threads(*looks, timeout=400))
        finally:
            over.set()

    errors = []
    errors += in_threads(fit, fit, step, until_all_have_looked, timeout=400)
    assert errors == []
    # The twin goes the same way alone.
    wanted = {}
    while twin.step < net.step:
        for first in range(0, len(X), 32):
            twin.train_step(X[first : first + 32], Y[first : first + 32])
            wanted[twin.step] = bits(twin.get_weights()), twin.predict(X[:40]).tobytes()
    begin = network()
    begin.fit(X, Y, verbose=0)
    wanted[start] = bits(begin.get_weights()), begin.predict(X[:40]).tobytes()
    assert bits(net.get_weights()) == wanted[net.step][0]
    all_weights, all_outputs = ({pair[i] for pair in wanted.values()} for i in (0, 1))
    assert set(seen["weights"]) <= all_weights
    assert set(seen["predicted"]) <= all_outputs
    for step_number, weights in (*seen["saved"], *seen["copied"]):
        assert weights == wanted[step_number][0]
    shown(record_property, looks=5 * n_times, fits=fits[0], refused=len(refused),
          states=len(wanted))  # fmt: skip
    assert fits[0] > 0
    assert set(refused) <= {BUSY}


def test_others_are_served_during_a_long_native_call():
    """A fit of many epochs is one native call: without turns they would wait for its end."""
    net = network()
    net.fit(X, Y, verbose=0)
    weights = net.get_weights()
    stop = threading.Event()

    class Stop(fastgd.Callback):
        every_epoch = False

        def on_progress(self, steps):
            if stop.is_set():
                raise InterruptedError

    def fit():
        with pytest.raises(InterruptedError):
            net.fit(X, Y, 10**6, 32, verbose=0, callbacks=Stop())

    thread = threading.Thread(target=fit)
    thread.start()
    try:
        while net._training is None:
            time.sleep(0.001)
        waits = []
        for look in (net.get_weights, lambda: net.predict(X), lambda: net.evaluate(X, Y)) * 3:
            began = time.monotonic()
            look()
            waits.append(time.monotonic() - began)
        for train in (net.fit, net.train_step, net.loss_and_grad):
            with pytest.raises(RuntimeError, match="being fitted"):
                train(X, Y)
    finally:
        stop.set()
        thread.join()
    # Two slices of 40 ms and a step would do; other programs may take their time.
    assert sorted(waits)[len(waits) // 2] < 0.5
    net.set_weights(weights)  # so many epochs may have taken the loss to 0
    assert net.train_step(X, Y) > 0


def test_a_step_that_was_let_in_too_late_is_refused():
    """It has passed the first check before the fit began."""
    net = network()
    net.fit(X, Y, verbose=0)
    net._engine.bind(X, Y, None, 32, False)
    before = bits(net.get_weights())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="being fitted"):
            net.train_step(X, Y)
    assert bits(net.get_weights()) == before
    net._engine.unbind()
    net.train_step(X, Y)


def test_threads_that_build_a_network_at_once_build_one():
    for _ in range(20):
        layers = [fastgd.Dense(8), fastgd.Dense(3)]
        net = fastgd.Network(layers, "cross_entropy")
        barrier = threading.Barrier(4)

        def step(net=net, barrier=barrier):
            barrier.wait()
            net.train_step(X, Y)

        assert in_threads(*[step] * 4) == []
        assert net.step == 4


def test_what_is_saved_within_an_epoch_is_not_resumed(tmp_path):
    """Nor by another thread, nor between the epochs of one native call."""
    net = network()

    class Save(fastgd.Callback):
        def on_batch_end(self, step, loss):
            if step == 11:  # of 8 to an epoch
                self.network.save(tmp_path / "within")

        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                self.network.save(tmp_path / "end")
                thread = threading.Thread(target=self.network.save, args=(tmp_path / "other",))
                thread.start()
                thread.join()

    net.fit(X, Y, 3, 32, verbose=0, callbacks=Save())
    for name in ("within", "other"):
        with pytest.raises(ValueError, match="no fit to resume"):
            fastgd.load(tmp_path / name).fit(X, Y, 3, 32, verbose=0, resume=True)
    resumed = fastgd.load(tmp_path / "end")
    resumed.fit(X, Y, 3, 32, verbose=0, resume=True)
    assert bits(resumed.get_weights()) == bits(net.get_weights())


def test_what_is_saved_between_epochs_of_one_native_call_is_not_resumed(tmp_path):
    class Save(fastgd.Callback):
        every_epoch = False

        def on_epoch_end(self, epoch, logs):
            self.network.save(tmp_path / str(epoch))

    net = network()
    net.fit(X, Y, 40, 32, verbose=0, callbacks=Save())
    can_resume = [fastgd.load(tmp_path / str(epoch))._resume is not None for epoch in range(40)]
    assert can_resume[-1]
    assert not all(can_resume)
    for epoch in range(40):
        if can_resume[epoch]:
            resumed = fastgd.load(tmp_path / str(epoch))
            assert resumed.epoch == epoch + 1
            resumed.fit(X, Y, 40, 32, verbose=0, resume=True)
            assert bits(resumed.get_weights()) == bits(net.get_weights())


def test_every_callback_is_closed_whatever_one_raises():
    closed = []

    class Close(fastgd.Callback):
        def close(self):
            closed.append(self)
            raise OSError(f"callback {len(closed)}")

    callbacks = [Close(), Close()]
    net = network()
    with pytest.raises(OSError, match="callback 2"):
        net.fit(X, Y, verbose=0, callbacks=callbacks)
    assert closed == callbacks
    net.fit(X, Y, verbose=0)


# ---- a network for each ---------------------------------------------------------------------


def test_eight_networks_train_at_once_to_the_bits_of_one_after_the_other():
    alone = [network(seed, 256) for seed in range(8)]
    for net in alone:
        net.fit(X, Y, 5, 32, verbose=0)
    nets = [network(seed, 256) for seed in range(8)]
    calls = [lambda net=net: net.fit(X, Y, 5, 32, verbose=0) for net in nets]
    assert in_threads(*calls) == []
    assert [bits(n.get_weights()) for n in nets] == [bits(n.get_weights()) for n in alone]


def test_eight_networks_train_in_parallel(record_property):
    """Threads are at work, or ready and without a core, at once: none waits for the interpreter."""
    nets = [network(seed, 512) for seed in range(8)]
    for net in nets:
        net.fit(X, Y, 1, 32, verbose=0, n_threads=1)
    many, labels = np.tile(X, (8, 1)), np.tile(Y, 8)
    ready = []

    def own_time():
        with open("/proc/thread-self/schedstat") as file:
            return sum(int(text) * 1e-9 for text in file.read().split()[:2])

    def fit(net):
        before = own_time()
        net.fit(many, labels, 10, 128, verbose=0, n_threads=1)
        ready.append(own_time() - before)

    began = time.perf_counter()
    for net in nets:
        fit(net)
    in_turn, spent = time.perf_counter() - began, sum(ready)
    ready.clear()
    began = time.perf_counter()
    assert in_threads(*[lambda net=net: fit(net) for net in nets]) == []
    at_once = time.perf_counter() - began
    shown(record_property, speedup=round(in_turn / at_once, 2), at_work_in_turn=spent / in_turn,
          at_work_at_once=sum(ready) / at_once)  # fmt: skip
    assert sum(ready) / at_once > 2 > 1.5 * spent / in_turn


# ---- limits ---------------------------------------------------------------------------------


@few_or(2000, few=50)
def test_limits_that_another_thread_changes_during_a_fit_change_no_bit(n_times):
    wanted = network(hidden=256)
    wanted.fit(X, Y, 60, 64, verbose=0, n_threads=1)
    net = network(hidden=256)
    net._engine.serial_flop = 0.0
    over = threading.Event()

    def change():
        draw = np.random.default_rng(1)
        for _ in range(n_times):
            if over.is_set():
                break
            with threadpoolctl.threadpool_limits(int(draw.integers(1, 5)), user_api="fastgd"):
                time.sleep(0.0002)
                with threadpoolctl.threadpool_limits(int(draw.integers(1, 5))):
                    time.sleep(0.0002)
                with fastgd.config(n_threads=int(draw.integers(1, 5))):
                    time.sleep(0.0002)

    def fit():
        try:
            net.fit(X, Y, 60, 64, verbose=0, n_threads=4)
        finally:
            over.set()

    assert in_threads(fit, change) == []
    assert bits(net.get_weights()) == bits(wanted.get_weights())
    infos = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "fastgd"]
    assert len(infos) == 1
    assert fastgd._kernels.thread_limit() == 0


def test_a_limit_holds_from_the_next_region_on():
    """Set by another thread during a fit, in a program that has started no workers for others."""
    code = """
    import threadpoolctl
    net = network(128)
    net.fit(X, Y, 1, verbose=0, n_threads=1)
    net._engine.serial_flop = 0.0
    def workers():
        return {t: open(f"/proc/self/task/{t}/schedstat").read().split()[0]
                for t in os.listdir("/proc/self/task")
                if open(f"/proc/self/task/{t}/comm").read() == "fastgd\\n"}
    class Stop(fastgd.Callback):
        every_epoch = False
        def on_progress(self, steps):
            if over.is_set():
                raise InterruptedError
    over = threading.Event()
    def fit():
        try:
            net.fit(X, Y, 10**6, 32, verbose=0, n_threads=3, callbacks=Stop())
        except InterruptedError:
            pass
    thread = threading.Thread(target=fit)
    thread.start()
    while len(workers()) < 2:
        time.sleep(0.001)
    with threadpoolctl.threadpool_limits(1, user_api="fastgd"):
        time.sleep(0.3)  # the region that runs ends within 40 ms
        before = workers()
        time.sleep(0.2)
        idle = workers() == before
    time.sleep(0.9)  # a busy machine may have made the team smaller for 0.8 s
    again = workers() != before
    over.set()
    thread.join()
    print(json.dumps([idle, again]))
    """
    assert report(run(code)) == [True, True]
