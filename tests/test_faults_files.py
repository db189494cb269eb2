"""Files under fault: kills while they are written, full disks, folders that refuse or vanish."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

import block_extras
import fastgd
from fastgd import cli
from fault_runs import few_or, program, report, run, shown

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
Y = RNG.integers(0, 3, 64)


def network():
    return fastgd.Network([fastgd.Dense(300, "relu"), fastgd.Dense(3)], "cross_entropy", "adam", 8)


# ---- kill -9 --------------------------------------------------------------------------------

# One process forks those that are killed: a new Python for each would take most of the time.
KILLS = """
folder, kind, n_times, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
path = os.path.join(folder, "model.safetensors")
draw = np.random.default_rng(seed)
EPOCHS = 20

def start(call):
    \"\"\"Run call in a child; return its number once it has begun.\"\"\"
    began, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(begin, b"x")
            call()
        finally:
            os._exit(0)
    os.close(begin)
    os.read(began, 1)
    os.close(began)
    return pid

def kill(pid):
    \"\"\"Kill a child at a random moment; return whether it had not ended by itself.\"\"\"
    time.sleep(draw.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

def left_over():
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]

def fit(net, resume, callbacks):
    net.fit(X, Y, EPOCHS, 64, verbose=0, callbacks=callbacks, resume=resume, n_threads=1)

if kind == "save":
    def call():
        net = network(256)
        while True:
            net.train_step(X, Y)
            net.save(path)
    whole, wanted = network(256), {}
    whole.train_step(X, Y)  # its verification takes longer than a life of the children
    wanted[1] = bits(whole)
    whole.save(path)  # imports what saving needs
    def check():
        net = fastgd.load(path)
        while whole.step < net.step:
            whole.train_step(X, Y)
            wanted[whole.step] = bits(whole)
        assert bits(net) == wanted[net.step], "not a state that training has been in"
        return net.step
elif kind == "checkpoint":
    def call():
        net = fastgd.load(path) if os.path.exists(path) else network(256)
        fit(net, os.path.exists(path), [fastgd.Checkpoint(path)])
    whole = network(256)
    fit(whole, False, [])
    def check():
        net = fastgd.load(path)
        done = net.epoch
        fit(net, True, [])
        assert bits(net) == bits(whole), "a resumed fit has other bits"
        return done
else:
    import contextlib, io, shutil
    from fastgd.cli import main
    data = os.path.join(folder, "data.npz")
    np.savez(data, X=X, y=Y)
    def train(path, *options):
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["train", *options, "--quiet", "--out", path, data]) == 0
    first = ("--hidden=256", "--epochs=20", "--batch-size=64", "--checkpoint=1", "--dropout=0.1")
    def call():
        train(path, *(("--resume", path) if os.path.exists(path) else first))
    apart = os.path.join(folder, "apart")
    os.mkdir(apart)
    train(os.path.join(apart, "whole.st"), *first)
    whole = fastgd.load(os.path.join(apart, "whole.st"))
    def check():
        net = fastgd.load(path)
        done = net.epoch
        if "training" in net.metadata:
            train(os.path.join(apart, "resumed.st"), "--resume", path)
            net = fastgd.load(os.path.join(apart, "resumed.st"))
        assert bits(net) == bits(whole), "a resumed training has other bits"
        return done

# A whole call tells how long one takes; "save" never ends.
longest = 0.2
if kind != "save":
    began = time.monotonic()
    pid = start(call)
    os.waitpid(pid, 0)
    longest = 1.2 * (time.monotonic() - began)
    os.remove(path)
kills = within = ended = most_left = checked = 0
reached = newest = 0
while kills < n_times:
    had_file = os.path.exists(path)
    was_killed = kill(start(call))
    kills += was_killed
    left = left_over()
    within += bool(left)
    most_left = max(most_left, len(left))
    if had_file:
        assert os.path.exists(path), "the old file is gone"
    if not os.path.exists(path):
        continue
    reached = check()
    checked += 1
    assert kind == "save" or reached >= newest, "an older file than before"
    newest = reached
    if kind != "save" and reached == EPOCHS:
        ended += 1
        newest = 0
        os.remove(path)
network(256).save(path)
print(json.dumps({
    "kills": kills, "files checked": checked, "within a write": within,
    "temporary files at most": most_left, "after the next write": len(left_over())}))
"""


@few_or(200, few=4)
@pytest.mark.parametrize("kind", ["save", "checkpoint", "command line"])
def test_killed_writers_leave_the_old_or_the_new_file(kind, n_times, tmp_path, record_property):
    done = run(KILLS, tmp_path, kind, n_times, 1, timeout=500)
    figures = report(done)
    shown(record_property, **figures)
    assert figures["kills"] == n_times
    assert figures["temporary files at most"] <= 1
    assert figures["after the next write"] == 0
    assert figures["files checked"] > 0


def test_abandoned_temporary_files_go_and_others_stay(tmp_path):
    path = tmp_path / "model.safetensors"
    others = ["model.safetensors.tmp", ".model.safetensors.1.tmp", ".model.safetensors.1.xyz.tmp",
              ".other.1.01234567.tmp", ".model.safetensors.12.01234567.tmp.kept"]  # fmt: skip
    abandoned = [".model.safetensors.12.01234567.tmp", ".model.safetensors.999999.89abcdef.tmp"]
    for name in (*others, *abandoned):
        (tmp_path / name).write_bytes(b"x")
    network().save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, *others])


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path):
    """Each looks for temporary files of the others, which are locked."""
    code = """
    net = network(seed=int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        net.save(sys.argv[1])
    """
    path = tmp_path / "model.safetensors"
    writers = [subprocess.Popen(program(code, path, seed, 60)) for seed in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == [path.name]
    assert fastgd.load(path).seed in range(3)


# ---- no space, no permission, no folder -----------------------------------------------------


def train_command(folder, *options):
    data = folder / "data.npz"
    if not data.exists():
        np.savez(data, X=X, y=Y)
    words = ["train", str(data), "--epochs=2", "--hidden=300", "--quiet", *options]
    return cli.main(words)


def prepared(folder):
    """Put what the commands read into a folder that nothing happens to."""
    net = network()
    net.fit(X, Y, verbose=0)
    net.save(folder / "plain.safetensors")
    assert train_command(folder, "--out", str(folder / "trained.safetensors")) == 0
    return net


# What writes a file: (net, folder of what is read, path); a command returns its exit code.
WRITERS = {
    "save": lambda net, data, path: net.save(path),
    "Checkpoint": lambda net, data, path: net.fit(
        X, Y, 2, verbose=0, callbacks=fastgd.Checkpoint(path)
    ),
    "CSVLog": lambda net, data, path: net.fit(
        X, Y, 2000, 64, verbose=0, callbacks=fastgd.CSVLog(path)
    ),
    "fastgd train --out": lambda net, data, path: train_command(data, "--out", str(path)),
    "fastgd train --checkpoint": lambda net, data, path: train_command(
        data, "--checkpoint=1", "--out", str(path)
    ),
    "fastgd train --predictions": lambda net, data, path: train_command(
        data, "--out", str(data / "again.safetensors"), "--predictions", str(path)
    ),
    "fastgd predict": lambda net, data, path: cli.main(
        ["predict", str(data / "trained.safetensors"), str(data / "many.npz"), "--out", str(path)]
    ),
    "fastgd demo --data": lambda net, data, path: cli.main(["demo", "--data", f"{path}.npz"]),
}
if block_extras.has("onnx"):
    WRITERS["to_onnx"] = lambda net, data, path: net.to_onnx(path)
    WRITERS["fastgd export"] = lambda net, data, path: cli.main(
        ["export", str(data / "plain.safetensors"), str(path)]
    )
if block_extras.has("matplotlib"):
    WRITERS["fastgd train --plot"] = lambda net, data, path: train_command(
        data, "--out", str(data / "again.safetensors"), "--plot", f"{path}.png"
    )
# Appends line by line, so that what it has written stays.
KEEPS_NO_OLD_FILE = {"CSVLog"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "many.npz", X=np.tile(X, (200, 1)))
    prepared(folder)
    return folder


@contextlib.contextmanager
def full_disk(folder):
    """Make a folder a full disk, or where that may not be done let no file grow beyond a page."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            (folder / "filler").touch()
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(folder):
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def outcome(writer, net, data, path, capsys):
    """Return the error of a writer: an exception, or the one line of a command that failed."""
    try:
        code = WRITERS[writer](net, data, path)
    except OSError as error:
        return str(error)
    assert code == 2, (writer, code)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Traceback" not in line
    return line


def check_usable(net):
    """The network trains, predicts and saves as if nothing had been."""
    twin = network()
    twin.set_weights(net.get_weights())
    assert net.predict(X).tobytes() == twin.predict(X).tobytes()
    net.fit(X, Y, verbose=0)
    assert all(np.isfinite(array).all() for array in net.get_weights())


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_leaves_the_old_file(writer, data, tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir()
    net = network()
    net.fit(X, Y, verbose=0)
    with full_disk(folder):
        old = {}
        for name in ("file", "file.png", "file.npz"):
            # Of a kind that may be replaced; small, so that it fits.
            small = fastgd.Network([fastgd.Dense(2)], "squared_error", n_inputs=1)
            small.save(folder / name)
            old[name] = (folder / name).read_bytes()
        fill(folder)
        capsys.readouterr()
        message = outcome(writer, net, data, folder / "file", capsys)
        assert os.strerror(errno.ENOSPC) in message or os.strerror(errno.EFBIG) in message
        assert writer in KEEPS_NO_OLD_FILE or str(folder / "file") in message
        found = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "filler"}
        if writer in KEEPS_NO_OLD_FILE:
            found["file"] = old["file"]
        assert found == old
    check_usable(net)
    WRITERS[writer](net, data, folder / "file")


@pytest.mark.parametrize("writer", WRITERS)
def test_vanished_folder_is_named(writer, data, tmp_path, capsys):
    net = network()
    net.fit(X, Y, verbose=0)
    gone = tmp_path / "gone"
    capsys.readouterr()
    message = outcome(writer, net, data, gone / "file", capsys)
    assert str(gone) in message
    assert not gone.exists()
    check_usable(net)


def test_folder_that_vanishes_during_a_fit_is_named(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    class Vanish(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                shutil.rmtree(folder)

    net = network()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        net.fit(X, Y, 5, verbose=0, callbacks=[Vanish(), fastgd.Checkpoint(folder / "file")])
    assert net.epoch == 3
    check_usable(net)


def drop_capabilities():
    """Give up root's right to pass over the modes of files; files stay this user's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    version_3, this_thread = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_thread)
    none = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    if libc.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def without_privileges(call):
    """Run call as a user that is not root does; return what it returned, as JSON has it."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        try:
            if os.getuid() == 0:
                drop_capabilities()
            os.write(into, json.dumps(call()).encode())
        except BaseException as error:
            os.write(into, json.dumps(["failed", repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(into)
    with open(out, "rb") as file:
        found = json.loads(file.read())
    os.waitpid(pid, 0)
    return found


@pytest.mark.parametrize("writer", WRITERS)
def test_folder_that_may_not_be_written_to_is_named(writer, data, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir()
    for name in ("file", "file.png", "file.npz"):
        fastgd.Network([fastgd.Dense(2)], "squared_error", n_inputs=1).save(locked / name)
        (locked / name).chmod(0o444)  # CSVLog appends to a file that there is
    before = {p.name: p.read_bytes() for p in locked.iterdir()}
    locked.chmod(0o555)
    net = network()
    net.fit(X, Y, verbose=0)
    capsys.readouterr()

    def call():
        message = outcome(writer, net, data, locked / "file", capsys)
        check_usable(net)
        return message

    message = without_privileges(call)
    assert "ermission" in message or "cannot be written to" in message
    assert str(locked) in message
    assert {p.name: p.read_bytes() for p in locked.iterdir()} == before


def test_folder_that_may_be_written_to_and_not_read_takes_files(tmp_path):
    box = tmp_path / "box"
    net = network()

    def call():
        os.mkdir(box, 0o300)
        with pytest.raises(PermissionError):
            os.listdir(box)
        net.save(box / "file")
        os.chmod(box, 0o700)
        return os.listdir(box)

    assert without_privileges(call) == ["file"]
    assert fastgd.load(box / "file").n_inputs == 8


def test_predictions_that_stdout_does_not_take_are_an_error(data):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastgd", "predict", str(data / "trained.safetensors"),
             str(data / "many.npz")],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"fastgd predict: [Errno 28] {os.strerror(errno.ENOSPC)}\n"


def test_old_files_keep_their_mode(tmp_path):
    path = tmp_path / "file"
    network().save(path)
    path.chmod(0o640)
    network().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_locked_temporary_files_are_not_taken(tmp_path):
    """While a writer holds its file, another one leaves it alone; after a kill it goes."""
    path = tmp_path / "file"
    code = """
    os.fsync = lambda descriptor: (print("writing", flush=True), time.sleep(60))
    network().save(sys.argv[1])
    """
    writer = subprocess.Popen(program(code, path), stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"writing\n"
        network().save(path)
        assert len(os.listdir(tmp_path)) == 2
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        network().save(path)
        assert os.listdir(tmp_path) == ["file"]
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
