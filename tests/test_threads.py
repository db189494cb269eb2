"""The worker team from Python: parking, forks, exits, limits, and how many threads there are."""

import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import threadpoolctl

import fastgd
from c_programs import ROOT, compile_and_run
from fastgd import _imports, _kernels, _threads
from fastgd.config import cgroup_quota

TASKS = Path("/proc/self/task")


def network(hidden=128, seed=0):
    layers = [fastgd.Dense(hidden, "relu"), fastgd.Dense(3)]
    net = fastgd.Network(layers, "cross_entropy", n_inputs=64, seed=seed)
    net.fit(X[:32], Y[:32], verbose=0, n_threads=1)  # its verification is not what is tested here
    # Small layers, so that tests are quick, and yet all threads.
    net._engine.serial_flop = 0.0
    return net


X = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
Y = np.arange(512) % 3


def run(code, timeout=60, env=None, check=True):
    """Run code in a new Python; it begins with what this module begins with."""
    start = """
        import os, sys, threading, time
        import numpy as np
        import fastgd
        X = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
        Y = np.arange(512) % 3
        def network(seed=0):
            layers = [fastgd.Dense(128, "relu"), fastgd.Dense(3)]
            net = fastgd.Network(layers, "cross_entropy", n_inputs=64, seed=seed)
            net.fit(X[:32], Y[:32], verbose=0, n_threads=1)
            net._engine.serial_flop = 0.0
            return net
        def workers():
            return [t for t in os.listdir("/proc/self/task")
                    if open(f"/proc/self/task/{t}/comm").read() == "fastgd\\n"]
    """
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(start) + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=timeout, check=check, env=env,
    )  # fmt: skip


def workers():
    """Return the tasks of the team that exist now, of whatever test started them."""
    return {t.name for t in TASKS.iterdir() if (t / "comm").read_text() == "fastgd\n"}


def cpu_seconds(task):
    return int((TASKS / task / "schedstat").read_text().split()[0]) * 1e-9


# ---- parking --------------------------------------------------------------------------------


def test_worker_parks_within_50_microseconds(tmp_path):
    """What it takes of a core after the end of a call: it spins, and goes to sleep for good."""
    done = compile_and_run(tmp_path, "-O2", "test_team.c", "csrc/fgd_cpu.c", arguments=["park"])
    after_call, asleep = map(int, done.stdout.split())
    assert 0 < after_call < 50_000
    assert asleep == 0


def test_a_thread_that_goes_to_sleep_meanwhile_is_woken(tmp_path):
    """`make test-qemu` runs it for AArch64."""
    done = compile_and_run(tmp_path, "-O2", "test_team.c", "csrc/fgd_cpu.c", arguments=["wake"])
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_the_faster_of_one_thread_and_all_is_found_and_found_again(tmp_path):
    done = compile_and_run(tmp_path, "-O2", "test_pace.c", "csrc/fgd_pace.c")
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_steps_that_change_between_one_thread_and_all_have_the_same_bits():
    fits = []
    for n_threads in (1, 2, 3):
        layers = [fastgd.Dense(128, "relu", dropout=0.2), fastgd.Dense(3)]
        rates = fastgd.schedules.Cosine(0.01, steps=100)
        net = fastgd.Network(layers, "cross_entropy", fastgd.Adam(rates), n_inputs=64, seed=0)
        history = net.fit(X, Y, 40, 100, verbose=0, n_threads=n_threads)
        fits.append((history.history["loss"], [w.tobytes() for w in net.get_weights()]))
    assert fits[0] == fits[1] == fits[2]


def test_threads_do_not_share_a_core_while_others_idle(tmp_path):
    """The scheduler wakes workers on the caller's core; without parting, 94 of 100 stay there."""
    most = 20 if len(os.sched_getaffinity(0)) > 1 else 100
    for _ in range(20):  # no core may have been idle
        source = "test_team.c", "csrc/fgd_cpu.c"
        shared = int(compile_and_run(tmp_path, "-O2", *source, arguments=["cores"]).stdout)
        if shared <= most:
            break
    assert shared <= most


def test_only_the_workers_of_a_call_wake():
    code = """
    net = network()
    net.fit(X, Y, verbose=0, n_threads=6)
    def switches():
        return {t: [line for line in open(f"/proc/self/task/{t}/status")
                    if line.startswith("voluntary")] for t in workers()}
    time.sleep(0.05)
    before = after = switches()
    until = time.monotonic() + 20  # other programs may make the team smaller for a while
    while after == before and time.monotonic() < until:
        for _ in range(20):
            net.fit(X, Y, verbose=0, n_threads=2)
            time.sleep(0.001)
        after = switches()
    print(len(before), sum(after[t] != before[t] for t in before))
    """
    assert run(code).stdout.split() == ["5", "1"]


def test_threads_without_cores_cost_little():
    """On one core, asking for two threads costs no more CPU time than 15 % above one thread."""
    code = """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    net = network()
    costs = {1: [], 2: []}
    epochs = 20 if fastgd._kernels.active_isa() == "scalar" else 400  # plain C takes as long
    def cost(n_threads):
        started = time.process_time()
        net.fit(X, Y, epochs=epochs, batch_size=128,
                shuffle=False, verbose=0, n_threads=n_threads)
        return time.process_time() - started
    cost(2)
    for _ in range(20):
        for n_threads in costs:
            costs[n_threads].append(cost(n_threads))
    print(min(costs[2]) / min(costs[1]), sum(costs[2]) / sum(costs[1]))
    """
    best, mean = map(float, run(code).stdout.split())
    assert best < 1.15
    assert mean < 1.25


# ---- processes ------------------------------------------------------------------------------


def test_forks_during_a_fit_of_another_thread():
    """A hundred children, each of which trains with all threads to the parent's bits."""
    code = """
    before = network(1)
    before.fit(X, Y, epochs=2, verbose=0, n_threads=3)
    wanted = before.predict(X).tobytes()
    busy, stop = network(), threading.Event()
    def fit():
        while not stop.is_set():
            busy.fit(X, Y, epochs=20, verbose=0, n_threads=3)
    thread = threading.Thread(target=fit)
    thread.start()
    statuses = []
    for i in range(100):
        time.sleep(0.0005 * (i % 7))
        pid = os.fork()
        if pid == 0:
            net = network(1)
            net.fit(X, Y, epochs=2, verbose=0, n_threads=3)
            busy.predict(X[:2])
            os._exit(0 if net.predict(X).tobytes() == wanted and len(workers()) == 2 else 1)
        deadline = time.monotonic() + 20
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.0005)
        if done == (0, 0):
            os.kill(pid, 9)
            statuses.append("hang")
            break
        else:
            statuses.append(done[1])
    stop.set()
    thread.join()
    print(len(statuses), set(statuses))
    """
    assert run(code, timeout=300).stdout.strip() == "100 {0}"


def test_lock_stays_with_the_thread_that_forks():
    lock, other = _threads.fork_safe_lock(), _threads.fork_safe_lock()
    thread = threading.Thread(target=other.acquire)
    thread.start()
    thread.join()
    with lock:
        _threads._free_locks()
        assert lock._is_owned()
    assert other.acquire(blocking=False)
    other.release()


def train(seed):
    net = network(seed=seed)
    net.fit(X, Y, epochs=2, verbose=0, n_threads=2)
    return net.predict(X[:5]).tobytes(), len(workers())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_trains_with_all_threads(backend):
    expected = [train(seed)[0] for seed in range(8)]
    results = joblib.Parallel(n_jobs=4, backend=backend, timeout=120)(
        joblib.delayed(train)(seed) for seed in range(8)
    )
    assert [bits for bits, _ in results] == expected
    assert all(n >= 1 for _, n in results)


def test_exit_while_a_daemon_thread_trains():
    code = """
    net = network()
    def fit():
        while True:
            net.fit(X, Y, epochs=50, verbose=0, n_threads=3)
    threading.Thread(target=fit, daemon=True).start()
    time.sleep(0.05)
    print("end")
    """
    for _ in range(5):
        done = run(code, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize(("room", "n_workers"), [(4, 0), (12, 1)])
def test_threads_that_cannot_be_started_are_done_without(room, n_workers):
    """Room for the stacks of so many threads (8 MB each) is left in the address space."""
    code = f"""
    import resource
    twin, net = network(), network()
    twin.fit(X, Y, verbose=0, n_threads=1)
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    most = size + ({room} << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    net.fit(X, Y, verbose=0, n_threads=4)
    print(len(workers()), net.predict(X).tobytes() == twin.predict(X).tobytes())
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    try:
        resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, hard))
        assert run(code).stdout.split() == [str(n_workers), "True"]
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


@pytest.mark.parametrize("n_threads", [2, 3, 4, 7, 256])
def test_more_threads_than_cores_and_samples_give_the_same_bits(n_threads):
    nets = [network(), network()]
    for net, n in zip(nets, (1, n_threads), strict=True):
        net.fit(X[:200], Y[:200], epochs=2, batch_size=64, verbose=0, n_threads=n)
    one, many = (net.predict(X, n_threads=n) for net, n in zip(nets, (1, n_threads), strict=True))
    assert one.tobytes() == many.tobytes()


RACES = "-O1 -g -fsanitize=thread"


def test_team_has_no_race(tmp_path):
    done = compile_and_run(tmp_path, RACES, "test_team.c", "csrc/fgd_cpu.c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.grid
def test_teams_of_children_have_no_race(tmp_path):
    done = compile_and_run(
        tmp_path, RACES, "test_team.c", "csrc/fgd_cpu.c", arguments=["fork"],
        env={"TSAN_OPTIONS": "die_after_fork=0"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.grid
def test_fits_have_no_race(tmp_path):
    sources = map(str, sorted((ROOT / "csrc").glob("*.c")))
    done = compile_and_run(tmp_path, RACES, "test_fits.c", *sources)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


# ---- how many threads -----------------------------------------------------------------------


def threads_used(call):
    """Return how many threads a call uses, in a process that has no team yet."""
    code = f"""
    net = network()
    {call}
    print(1 + len(workers()))
    """
    return int(run(code, env=plain_environment()).stdout)


def plain_environment(**variables):
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return env | variables


@pytest.mark.parametrize(
    ("call", "n_threads"),
    [
        ("net.fit(X, Y, verbose=0, n_threads=3)", 3),
        ("fastgd.config(n_threads=4); net.fit(X, Y, verbose=0)", 4),
        ("fastgd.config(n_threads=4); net.fit(X, Y, verbose=0, n_threads=2)", 2),
        ("fastgd.config(n_threads=4); net.train_step(X, Y)", 4),
        ("fastgd.config(n_threads=4); net.predict(X)", 4),
        ("net.predict(X, n_threads=3)", 3),
        ("fastgd.config(n_threads=4); net.evaluate(X, Y)", 4),
        ("os.environ['FASTGD_NUM_THREADS'] = '3'; net.fit(X, Y, verbose=0)", 3),
        ("os.environ['OMP_NUM_THREADS'] = '5'; net.fit(X, Y, verbose=0)", 5),
        ("os.environ |= {'OMP_NUM_THREADS': '5', 'FASTGD_NUM_THREADS': '2'};"
         "net.fit(X, Y, verbose=0)", 2),
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); net.fit(X, Y, verbose=0)", 1),
    ],
)  # fmt: skip
def test_number_of_threads_is_honoured(call, n_threads):
    assert threads_used(call) == n_threads


def test_affinity_may_change_between_calls():
    code = """
    net = network()
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    net.fit(X, Y, verbose=0)
    print(fastgd.config().n_threads, 1 + len(workers()))
    os.sched_setaffinity(0, cpus)
    net.fit(X, Y, verbose=0)
    print(fastgd.config().n_threads, 1 + len(workers()))
    """
    allowed = len(os.sched_getaffinity(0))
    out = run(code, env=plain_environment()).stdout.split()
    assert out == ["1", "1", str(allowed), str(allowed)]


def limit_v1(folder, quota):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")


def test_quota_of_cgroup_1_is_the_tightest_on_the_way(tmp_path):
    (tmp_path / "membership").write_text("not a line\n\n3:cpu,cpuacct:/a/b\n0::/\n")
    cpu = tmp_path / "cpu"  # the mount often goes by this name only
    limit_v1(cpu / "a" / "b", -1)
    assert cgroup_quota(tmp_path / "membership", tmp_path) is None
    limit_v1(cpu / "a", 150_000)
    assert cgroup_quota(tmp_path / "membership", tmp_path) == 1.5
    limit_v1(cpu / "a" / "b", 50_000)
    assert cgroup_quota(tmp_path / "membership", tmp_path) == 0.5
    limit_v1(cpu, 25_000)
    assert cgroup_quota(tmp_path / "membership", tmp_path) == 0.25


def test_quota_of_both_versions_is_the_tighter(tmp_path):
    """A hybrid system: version 2 without a limit, or with its own."""
    (tmp_path / "membership").write_text("3:cpu:/a\n0::/b/c\n")
    limit_v1(tmp_path / "cpu" / "a", 300_000)
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path / "membership", tmp_path) == 3
    (tmp_path / "b" / "cpu.max").write_text("200000 100000\n")
    assert cgroup_quota(tmp_path / "membership", tmp_path) == 2


# ---- threadpoolctl --------------------------------------------------------------------------


def ours():
    (info,) = (i for i in threadpoolctl.threadpool_info() if i["internal_api"] == "fastgd")
    return info


def test_threadpool_info_shows_the_package():
    info = ours()
    assert info["user_api"] == "fastgd"
    assert info["prefix"] == "_kernels."
    assert info["filepath"] == os.path.realpath(_kernels.__file__)
    assert info["version"] == fastgd.__version__
    with fastgd.config(n_threads=5):
        assert ours()["num_threads"] == 5


def test_threadpool_limits_nest_and_are_restored():
    with fastgd.config(n_threads=6):
        with threadpoolctl.threadpool_limits(3):
            assert ours()["num_threads"] == 3 == fastgd.config().n_threads
            with threadpoolctl.threadpool_limits(1, user_api="fastgd"):
                assert ours()["num_threads"] == 1 == fastgd.config().n_threads
                with threadpoolctl.threadpool_limits(4):
                    assert fastgd.config().n_threads == 4
                assert ours()["num_threads"] == 1
            assert ours()["num_threads"] == 3
        assert ours()["num_threads"] == 6
        assert _kernels.thread_limit() == 0
        with threadpoolctl.threadpool_limits(6):
            assert _kernels.thread_limit() == 6, "an equal number is a limit too"
        assert _kernels.thread_limit() == 0
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert _kernels.thread_limit() == 0


@pytest.mark.parametrize(
    "call", ["train_step(X, Y)", "fit(X, Y, verbose=0, n_threads=3)", "predict(X, n_threads=3)",
             "evaluate(X, Y)"]
)  # fmt: skip
def test_threadpool_limits_hold_for_every_call(call):
    """Also for the short way that train_step has prepared before."""
    code = f"""
    import threadpoolctl
    fastgd.config(n_threads=3)
    net = network()
    net._engine.serial_flop = 1e12
    net.train_step(X, Y)
    net.train_step(X, Y)
    net._engine.serial_flop = 0.0
    with threadpoolctl.threadpool_limits(1):
        net.{call}
        print(len(workers()))
        with threadpoolctl.threadpool_limits(2):
            net.{call}
            print(len(workers()))
    net.{call}
    print(len(workers()))
    """
    assert run(code).stdout.split() == ["0", "1", "2"]


IMPORTS = {
    "before": "import threadpoolctl, fastgd",
    "after": "import fastgd, threadpoolctl",
    "by name": "import fastgd; from threadpoolctl import threadpool_info",
    "by another package": "import fastgd, sys; sys.path.insert(0, %r); import importer",
    "looked for first": "import fastgd, importlib.util;"
    "importlib.util.find_spec('threadpoolctl'); import threadpoolctl",
}


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_threadpoolctl_may_be_imported_before_or_after(imports, tmp_path):
    (tmp_path / "importer.py").write_text("from threadpoolctl import threadpool_limits\n")
    imports = imports.replace("%r", repr(str(tmp_path)))
    code = f"""
    {imports}
    import sys, threadpoolctl
    print([i["num_threads"] for i in threadpoolctl.threadpool_info()
           if i["user_api"] == "fastgd"], sum("fastgd" in str(f) for f in sys.meta_path))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True,
        env=plain_environment(FASTGD_NUM_THREADS="7"),
    )  # fmt: skip
    assert done.stdout == "[7] 0\n"


def test_threadpoolctl_is_not_imported_and_not_needed():
    code = """
    import sys, fastgd
    assert "threadpoolctl" not in sys.modules
    sys.path[:] = [p for p in sys.path if "site-packages" not in p]
    sys.path_importer_cache.clear()
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        print("absent")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "absent\n"


def test_another_package_with_such_a_file_is_not_ours():
    """threadpoolctl asks a controller before it looks at the symbols."""
    (cls,) = (c for c in threadpoolctl._ALL_CONTROLLERS if c.internal_api == "fastgd")
    other = cls(filepath=sys.modules["_json"].__file__, prefix="_kernels.")
    assert other.get_num_threads() is None
    assert not any(hasattr(other.dynlib, name) for name in cls.check_symbols)


def test_import_is_not_slowed_by_waiting_for_threadpoolctl():
    finder = _imports._Finder("threadpoolctl", print)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        for _ in range(100):
            finder.find_spec("json")
        times.append((time.perf_counter() - started) / 100)
    assert min(times) < 1e-6
