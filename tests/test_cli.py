"""The command line: what it prints, what it writes, and how it fails."""

import csv
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastgd
from block_extras import has, needs_extra
from fastgd import Dense, Network, _bench, _command_train, _kernels, cli
from fastgd.datasets import load_digits_split

SCRIPT = [sys.executable, str(Path(__file__).with_name("block_extras.py"))]
needs_pyarrow = needs_extra("pyarrow", "data")
needs_onnx = needs_extra("onnx", "onnx")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command line in an empty folder: run("train x.npz") -> (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        capfd.readouterr()
        code = cli.main(shlex.split(line))
        out, err = capfd.readouterr()
        if code == 2 and " needs " in err and "pip install" in err:
            raise ImportError(err.rstrip("\n"))
        return code, out, err

    return run


@pytest.fixture
def digits(tmp_path):
    """Two small NPZ files, for training and for testing."""
    X, y, X_test, y_test = load_digits_split()
    np.savez(tmp_path / "train.npz", X=X[:600], y=y[:600])
    np.savez(tmp_path / "test.npz", X=X_test[:200], y=y_test[:200])


def in_new_process(line, cwd, **options):
    return subprocess.run(
        [*SCRIPT, *shlex.split(line)], cwd=cwd, capture_output=True, text=True, **options
    )


def number_after(label, text):
    """Find the number that follows a label in the output."""
    return float(re.search(rf"{re.escape(label)} (-?[\d.]+)", text).group(1))


# As `python -m fastgd` starts, and as the console script does.
STARTS = {
    "module": [sys.executable, "-m", "fastgd", "info"],
    "one word": [sys.executable, "-mfastgd", "info"],
    "with another option": [sys.executable, "-Im", "fastgd", "info"],
    "script": [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['/somewhere/bin/fastgd', 'info'];"
        "from fastgd.cli import main; sys.exit(main())",
    ],
}


@pytest.mark.parametrize("start", STARTS)
def test_unknown_instruction_set_of_the_environment_is_one_line(start):
    done = subprocess.run(
        STARTS[start], env=os.environ | {"FASTGD_ISA": "sse9"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fastgd: error: environment variable FASTGD_ISA='sse9' is not ")
    assert done.stderr.count("\n") == 1
    done = subprocess.run(STARTS[start], capture_output=True, text=True, check=True)
    assert "instruction set" in done.stdout


def examples():
    """The example lines of every command's help; those of demo and bench have tests below."""
    for name, lines in cli._EXAMPLES.items():
        assert lines in cli._parser()._subparsers._group_actions[0].choices[name].epilog
        if name not in ("bench", "demo"):
            yield pytest.param(lines, id=name)


@pytest.mark.parametrize("lines", list(examples()))
def test_examples_of_the_help_work_as_printed(lines, run):
    def all_of_them():
        for line in lines.splitlines():
            program, _, arguments = line.strip().partition(" ")
            assert program == "fastgd"
            code, out, _ = run(arguments)
            assert code == 0, line
            assert out or "--out" in line or "--data" in line, line

    if ".csv" in lines and not has("pyarrow"):
        all_of_them = needs_pyarrow(all_of_them)
    elif "--plot" in lines:
        all_of_them = needs_extra("matplotlib", "plot")(all_of_them)
    if ".onnx" in lines:
        all_of_them = needs_onnx(all_of_them)
    all_of_them()


@needs_onnx
def test_export_writes_the_network_and_its_names(run, digits, tmp_path):
    run("train train.npz --epochs 2 --quiet")
    code, out, _ = run("export model.safetensors digits.onnx --input-dtype uint8")
    assert code == 0
    assert "inputs          64, as fastgd train has encoded them" in out
    assert "outputs         10, softmax\n" in out
    net = fastgd.from_onnx(tmp_path / "digits.onnx")
    saved = fastgd.load(tmp_path / "model.safetensors")
    for a, b in zip(net.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert net.metadata["classes"] == list(range(10))
    assert net.metadata["feature_names"] == [f"x{i}" for i in range(64)]
    assert net.metadata["preprocessing"] == saved.metadata["preprocessing"]


@needs_onnx
def test_export_of_other_networks(run, tmp_path):
    net = fastgd.Network([fastgd.Dense(2)], "squared_error", n_inputs=3)
    net.save(tmp_path / "own.safetensors", metadata={"mine": 1})
    code, out, _ = run("export own.safetensors own.onnx")
    assert (code, out.splitlines()[0]) == (0, "inputs          3")
    assert fastgd.from_onnx(tmp_path / "own.onnx").metadata == {"mine": 1}


@needs_onnx
def test_export_that_fails_is_one_line(run, tmp_path):
    fastgd.Network([fastgd.Dense(2)], "squared_error", n_inputs=3).save(
        tmp_path / "own.safetensors"
    )
    code, out, err = run("export own.safetensors own.onnx --input-dtype float16")
    assert (code, out) == (2, "")
    assert err.startswith("fastgd export: unknown input_dtype 'float16'; choose from float32, ")
    assert err.count("\n") == 1
    for line, message in (
        ("export absent.safetensors own.onnx", "absent.safetensors: No such file"),
        ("export own.safetensors absent/own.onnx", "there is no folder absent"),
    ):
        code, _, err = run(line)
        assert code == 2
        assert message in err
    assert not (tmp_path / "own.onnx").exists()


def test_every_command_has_help(capsys):
    for name in cli._COMMANDS:
        with pytest.raises(SystemExit) as caught:
            cli.main([name, "--help"])
        assert caught.value.code == 0
        assert "examples:\n  fastgd " in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastgd {fastgd.__version__}\n"


def test_train_on_arrays_and_predict_in_a_new_process(run, digits, tmp_path):
    code, out, err = run("train train.npz --test test.npz --predictions here.csv --epochs 20")
    assert code == 0
    assert "classification (10 classes, found from the target)" in out
    assert number_after("accuracy", out[out.index("\ntest ") :]) > 0.9
    assert "epoch 20/20" in err
    done = in_new_process("predict model.safetensors test.npz --out there.csv", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    here, there = (tmp_path / "here.csv").read_bytes(), (tmp_path / "there.csv").read_bytes()
    assert here == there
    assert here.startswith(b"predicted target\n")
    assert here.count(b"\n") == 201


def houses(path, n=1200):
    """Write a table with text, missing values, a column of names and a numeric target."""
    rng = np.random.default_rng(5)
    area, age = rng.uniform(20, 200, n), rng.integers(0, 100, n)
    city = rng.choice(["Bern", "Basel", "Genf"], n)
    factor = np.where(city == "Genf", 1.5, np.where(city == "Bern", 1.2, 1.0))
    price = 5000 * area * factor - 2000 * age + rng.normal(0, 20_000, n)
    rows = zip(area.tolist(), city.tolist(), age.tolist(), price.tolist(), strict=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "area", "city", "age", "balcony", "price"])
        for i, (a, c, years, p) in enumerate(rows):
            a = "NA" if i % 41 == 0 else f"{a:.1f}"
            c = "" if i % 37 == 0 else c
            writer.writerow([f"house {i}", a, c, years, "yes" if i % 3 else "no", f"{p:.2f}"])


@needs_pyarrow
def test_train_on_a_table_with_text_and_missing_values(run, tmp_path):
    houses(tmp_path / "houses.csv")
    code, out, _ = run("train houses.csv --target price --predictions here.csv")
    assert code == 0
    assert "left out        'name': nothing can be learned" in out
    assert "regression (found from the target)" in out
    validation = out[out.index("\nvalidation ") :]
    assert 0.9 < number_after("R^2", validation) <= 1
    assert number_after("MAE", validation) < number_after("RMSE", validation)
    done = in_new_process("predict model.safetensors houses.csv --out there.csv", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    # The same rows with the columns in another order, others added, and the target absent.
    with (tmp_path / "houses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["balcony", "extra", "age", "area", "city"]
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="1")
        writer.writeheader()
        writer.writerows(rows)
    assert run("predict model.safetensors new.csv --out other.csv")[0] == 0
    assert (tmp_path / "other.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


@needs_pyarrow
def test_train_on_parquet_and_compressed_csv_gives_the_same_model_as_csv(run, tmp_path):
    import gzip

    houses(tmp_path / "houses.csv", 300)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress((tmp_path / "houses.csv").read_bytes()))
    line = "train {} --target price --epochs 3 --out m --predictions {}.out"
    assert run(line.format("houses.csv", "csv"))[0] == 0
    assert run(line.format("z.csv.gz", "gz"))[0] == 0
    import pyarrow.csv
    import pyarrow.parquet

    options = pyarrow.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    table = pyarrow.csv.read_csv(tmp_path / "houses.csv", convert_options=options)
    pyarrow.parquet.write_table(table, tmp_path / "houses.parquet")
    assert run(line.format("houses.parquet", "parquet"))[0] == 0
    expected = (tmp_path / "csv.out").read_bytes()
    assert (tmp_path / "gz.out").read_bytes() == expected
    assert (tmp_path / "parquet.out").read_bytes() == expected


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def test_train_on_idx_files_with_given_and_with_found_labels(run, tmp_path):
    X, y, X_test, y_test = load_digits_split()
    (tmp_path / "some-images-idx3-ubyte").write_bytes(idx(X.reshape(-1, 8, 8)))
    (tmp_path / "some-labels-idx1-ubyte").write_bytes(idx(y.astype(np.uint8)))
    (tmp_path / "t").write_bytes(idx(X_test.reshape(-1, 8, 8)))
    (tmp_path / "u").write_bytes(idx(y_test.astype(np.uint8)))
    code, out, _ = run("train some-images-idx3-ubyte --test t --test-labels u --hidden 64 --quiet")
    assert code == 0
    assert "1433 training, 364 test" in out
    found = number_after("accuracy", out[out.index("\ntest ") :])
    assert found > 0.95
    code, again, _ = run(
        "train some-images-idx3-ubyte --labels some-labels-idx1-ubyte --test t --test-labels u "
        "--hidden 64 --quiet"
    )
    assert again == out


def test_probabilities_sum_to_one_and_lead_to_the_prediction(run, digits):
    assert run("train train.npz --epochs 5 --quiet")[0] == 0
    code, out, err = run("predict model.safetensors test.npz --probabilities")
    assert (code, err) == (0, "")
    rows = list(csv.reader(out.splitlines()))
    assert rows[0] == ["predicted target", *(f"p({i})" for i in range(10))]
    p = np.array([row[1:] for row in rows[1:]], dtype=np.float64)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert [int(row[0]) for row in rows[1:]] == p.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    "options",
    [
        "--optimizer sgd",
        "--optimizer adamw --schedule cosine",
        "--optimizer rmsprop --schedule constant",
        "--optimizer adagrad --activation tanh",
        "--dtype float64 --l2 1e-4",
        "--loss log_loss",
        "--hidden none",
        "--dropout 0.2 --hidden 200",
        "--epochs 100 --early-stopping 3",
        "--batch-size 7 --lr 0.001",
    ],
)
def test_options_of_training_lead_to_a_good_model(run, digits, options):
    code, out, _ = run(f"train train.npz --test test.npz --validation-split 0.1 --quiet {options}")
    assert code == 0
    assert number_after("accuracy", out[out.index("\ntest ") :]) > 0.9
    if "early" in options:
        assert "stopped early" in out


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "poisson"])
def test_losses_of_regression_predict_in_the_units_of_the_target(run, tmp_path, loss):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(800, 3))
    y = np.exp(1 + X @ [0.5, -0.3, 0.2])
    np.savez(tmp_path / "a.npz", X=X, y=y)
    code, out, _ = run(f"train a.npz --loss {loss} --quiet --validation-split 0.2")
    assert code == 0
    assert number_after("R^2", out[out.index("\nvalidation ") :]) > 0.95


def test_task_can_be_overridden(run, digits):
    code, out, _ = run("train train.npz --task regression --epochs 2 --quiet")
    assert code == 0
    assert "regression (as asked)" in out
    assert "R^2" in out


def test_number_of_threads_does_not_change_the_model(run, digits, tmp_path):
    models = []
    for threads in (1, 2, 3):
        assert (
            run(f"train train.npz --epochs 2 --hidden 300,200 --threads {threads} --quiet")[0] == 0
        )
        net = fastgd.load(tmp_path / "model.safetensors")
        models.append([np.asarray(w).tobytes() for w in net.get_weights()])
    assert models[0] == models[1] == models[2]


def test_quiet_training_is_silent_on_stderr(run, digits):
    code, _, err = run("train train.npz --epochs 2 --quiet")
    assert (code, err) == (0, "")


@pytest.fixture
def mistakes(tmp_path, digits):
    """Files to fail with."""
    (tmp_path / "text.bin").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "no" / "model")
    np.savez(tmp_path / "no_y.npz", X=np.zeros((9, 2)))
    np.savez(tmp_path / "few.npz", X=np.eye(2), y=[0, 1])
    np.savez(tmp_path / "wide.npz", X=np.eye(9), y=np.arange(9) % 2)
    np.savez(tmp_path / "strange.npz", X=np.zeros((5, 64), np.uint8), y=np.arange(5) + 8)
    net = fastgd.Network([fastgd.Dense(2)], "cross_entropy", n_inputs=64)
    net.save(tmp_path / "plain.safetensors")
    net.save(tmp_path / "bad.safetensors", metadata={"preprocessing": {"task": "classification"}})
    config = {"task": "regression", "target": None, "target_center": 0.0, "target_scale": 1.0}
    config |= {"n_features": 64, "center": [0.0], "scale": [1.0]}
    net.save(tmp_path / "unfit.safetensors", metadata={"preprocessing": config})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train absent.csv", "absent.csv: No such file"),
        ("train folder", "folder is not a regular file"),
        ("train text.bin", "text.bin: neither CSV"),
        ("train no_y.npz", "no_y.npz: there are no labels"),
        ("train few.npz --validation-split 0.9", "too few"),
        ("train train.npz --target cost", "'cost'"),
        ("train \x1b[2Jä", "fastgd train: \\x1b[2Jä: No such file"),
        ("train train.npz --loss huber", "--loss huber does not go with classification"),
        ("train train.npz --task regression --loss log_loss", "--loss log_loss does not go"),
        ("train train.npz --test-labels y", "--test-labels needs --test"),
        ("train train.npz --labels y", "not an IDX file"),
        ("train train.npz --test strange.npz", "training did not: '10', '11', '12'"),
        ("train train.npz --test wide.npz", "wide.npz: 9 values in a sample; the model takes 64"),
        ("train train.npz --early-stopping 2 --validation-split 0", "--early-stopping needs"),
        ("train train.npz --out folder", "folder: is not a file"),
        ("train train.npz --out no/model", "no/model: there is no folder no"),
        ("train train.npz --out link --quiet", "link: there is no folder "),
        ("train train.npz --plot no/p.png", "no/p.png: there is no folder no"),
        ("train train.npz --plot fit.txt", "fit.txt: the name must end in .png, .svg, .pdf"),
        ("train train.npz --predictions no/p.csv", "no/p.csv: there is no folder no"),
        (
            "train train.npz --optimizer sgd --lr 1e30 --quiet",
            "diverged in epoch 1; try --lr 0.1 or --clip-norm 1",
        ),
        (
            "train train.npz --optimizer sgd --lr 1e30 --clip-norm 1e9 --schedule constant --quiet",
            "diverged in epoch 1; try --lr 0.1",
        ),
        ("train train.npz --drop x", "train.npz: has no named columns, of which some could be"),
        ("info train.npz", "train.npz"),
        ("info --measure plain.safetensors", "--measure measures this machine"),
        ("info bad.safetensors", "bad.safetensors: malformed preprocessing"),
        ("predict absent test.npz", "absent"),
        ("predict train.npz test.npz", "train.npz"),
        ("predict plain.safetensors test.npz", "plain.safetensors: not written by fastgd train"),
        ("predict bad.safetensors test.npz", "bad.safetensors: malformed preprocessing"),
        ("predict unfit.safetensors test.npz", "does not fit its network"),
        ("check --isa mmx", "mmx"),
        ("demo --data digits.txt", "digits.txt: the name must end in .csv or .npz"),
        ("bench --rounds 1 --json no/bench.json", "no/bench.json: there is no folder"),
    ],
)
def test_mistakes_give_one_line_and_code_2(run, mistakes, tmp_path, line, message):
    code, _, err = run(line)
    assert code == 2
    assert err.startswith(f"fastgd {line.split()[0]}: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "COMMAND"),
        ("fly", "fly"),
        ("train", "FILE"),
        ("train a --hidden 3,x", "'3,x' is not a list such as 256,128, nor none"),
        ("train a --hidden 0", "'0' is not a list"),
        ("train a --lr 0", "'0' is not a number above 0"),
        ("train a --lr nan", "'nan' is not a number above 0"),
        ("train a --lr inf", "'inf' is not a number above 0"),
        ("train a --drop id,,date", "'id,,date' is not a list of columns such as id,date"),
        ("train a --clip-norm 0", "'0' is not a number above 0"),
        ("train a --epochs 0", "'0' is not a whole number from 1"),
        (f"train a --epochs {10**400}", "is not a whole number from 1 (see"),
        (f"train a --seed {10**400}", "is not a whole number from 0 to 1.84467e+19"),
        ("train a --drop 'a\nb'", r"'a\nb' is not a list of columns such as id,date"),
        (f"train a --drop {'a' * 131_073}", "is not a list of columns such as id,date"),
        ("train a --batch-size 1.5", "'1.5' is not a whole number from 1"),
        ("train a --validation-split 1", "'1' is not a number from 0 to below 1"),
        ("train a --dropout -0.1", "'-0.1' is not a number from 0 to below 1"),
        ("train a --seed -1", "'-1' is not a whole number from 0"),
        ("train a --threads 0", "'0' is not a whole number from 1"),
        ("train a --activation softmax", "'softmax'"),
        ("train a --optimizer newton", "'newton' (choose from"),
    ],
)
def test_wrong_arguments_give_one_line_and_code_2(capsys, line, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(shlex.split(line))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "train train.npz --out train.npz",
        "train train.npz --out ./folder/../train.npz",
        "train train.npz --out link.npz",
        "train train.npz --test test.npz --out test.npz",
        "train train.npz --predictions train.npz",
        "train train.npz --out m --predictions m",
        "train train.npz --plot m.png --predictions m.png",
        "train train.npz --out unrelated.txt",
        "train unrelated.txt --labels labels --out labels",
        "predict model.safetensors test.npz --out test.npz",
        "predict model.safetensors test.npz --out model.safetensors",
        "export model.safetensors model.safetensors",
    ],
)
def test_no_file_that_is_needed_is_overwritten(run, digits, tmp_path, line):
    fastgd.Network([fastgd.Dense(2)], "squared_error", n_inputs=3).save("model.safetensors")
    Path("unrelated.txt").write_text("precious")
    Path("labels").write_text("precious")
    Path("folder").mkdir()
    Path("link.npz").symlink_to("train.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    code, _, err = run(line)
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(r"choose another name(, or remove it)?$", err)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


@needs_pyarrow
def test_columns_can_be_dropped_and_misspelt_ones_are_guessed(run):
    houses(Path("houses.csv"), 300)
    text = Path("houses.csv").read_text()
    Path("houses.csv").write_text(text.replace("balcony", '"balcony, m2"', 1))
    line = "train houses.csv --target price --epochs 1"
    code, out, _ = run(f"{line} --drop 'age,\"balcony, m2\"' --quiet")
    assert code == 0
    assert "dropped         'age', 'balcony, m2'" in out
    names = fastgd.load("model.safetensors").metadata["preprocessing"]["columns"]
    assert [column["name"] for column in names] == ["area", "city"]
    for drop, message in (
        ("aeg", "no column 'aeg'; did you mean 'age'? (its columns:"),
        ("zzz", "no column 'zzz' (its columns:"),
        ("price", "--drop: 'price' is the target"),
    ):
        code, _, err = run(f"{line} --drop {drop}")
        assert code == 2
        assert message in err
    assert (
        "'Price' for the target; did you mean 'price'?" in run("train houses.csv --target Price")[2]
    )


@needs_pyarrow
def test_dropped_columns_stay_dropped_when_a_training_is_resumed(run, monkeypatch):
    houses(Path("houses.csv"), 300)
    options = "--target price --drop age,area --clip-norm 2 --epochs 4 --checkpoint 2 --quiet"
    run(f"train houses.csv {options} --out whole")

    class Interrupt(fastgd.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                raise KeyboardInterrupt

    fit = Network.fit

    def interrupted(self, *args, callbacks=(), **settings):
        return fit(self, *args, callbacks=[*callbacks, Interrupt()], **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "fit", interrupted)
        assert run(f"train houses.csv {options}")[0] == 130
    assert run("train houses.csv --resume model.safetensors --quiet")[0] == 0
    resumed, whole = fastgd.load("model.safetensors"), fastgd.load("whole")
    assert resumed.optimizer.clip_norm == whole.optimizer.clip_norm == 2
    assert resumed.metadata == whole.metadata
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_pyarrow
def test_words_that_training_did_not_have_are_named(run):
    houses(Path("houses.csv"))
    run("train houses.csv --target price --epochs 1 --quiet")
    Path("new.csv").write_text("name,city,age,area,balcony\na,Rome,3,40,yes\nb,,3,40,no\n")
    code, out, err = run("predict model.safetensors new.csv")
    assert code == 0
    assert out.count("\n") == 3
    assert "fastgd predict: 'city' has " in err
    assert "values that training did not have, such as 'Rome' in row 1" in err


@needs_pyarrow
def test_columns_that_are_nearly_numbers_are_named(run):
    rows = [f"{i % 7 + 0.5},{i % 5},{i}.25" for i in range(60)]
    rows[9] = "2o.5,1,3.5"
    rows[20] = "3.5,4,"
    Path("a.csv").write_text("\n".join(["size,count,price", *rows]))
    code, out, _ = run("train a.csv --target price --epochs 1 --quiet")
    assert code == 0
    notice = "'size' holds numbers but for 1 of 60 values, such as '2o.5' in row 10"
    assert f"read as text    {notice}\n" in out
    assert "left out        1 rows without a target\n" in out


@needs_pyarrow
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{i}.5", None),
        ("${i}", "holds numbers but for signs around them, such as '$0' in row 1"),
        ("{i},000", "holds numbers but for signs around them, such as '0,000' in row 1"),
        ("{odd}", "holds numbers but for 1 of 60 values, such as '5o' in row 6"),
        ("word {i}", "holds 60 different texts in 60 rows"),
    ],
)
def test_a_target_of_text_that_is_no_class_is_refused(run, value, message):
    lines = ["a,price"]
    for i in range(60):
        lines.append(f'{i % 7},"{value.format(i=i, odd="5o" if i == 5 else i)}"')
    Path("a.csv").write_text("\n".join(lines))
    code, _, err = run("train a.csv --target price --epochs 1 --quiet")
    if message is None:
        assert code == 0
        return
    assert code == 2
    assert f"a.csv: the target 'price' {message}. Correct it, or ask for classification" in err
    assert run("train a.csv --target price --epochs 1 --quiet --task classification")[0] == 0


def test_existing_model_survives_a_failed_training(run, digits, tmp_path):
    assert run("train train.npz --epochs 1 --quiet")[0] == 0
    before = (tmp_path / "model.safetensors").read_bytes()
    assert run("train train.npz --optimizer sgd --lr 1e30 --quiet")[0] == 2
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_ctrl_c_keeps_what_was_learned(digits, tmp_path):
    process = subprocess.Popen(
        [*SCRIPT, "train", "train.npz", "--epochs", "1000000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr.readline().startswith("epoch ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert re.search(r"interrupted after \d+ steps; model\.safetensors holds", err)
    assert fastgd.load(tmp_path / "model.safetensors").step > 0
    done = in_new_process("predict model.safetensors test.npz", tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 201


@pytest.fixture
def interrupt(monkeypatch):
    """Let Ctrl-C come in the epoch of this number, once: before its checkpoint, or after."""

    def interrupt(number, before=False):
        class Interrupted(fastgd.Checkpoint):
            def on_epoch_end(self, epoch, logs):
                if not before:
                    super().on_epoch_end(epoch, logs)
                if epoch + 1 == number:
                    monkeypatch.setattr(_command_train, "Checkpoint", fastgd.Checkpoint)
                    raise KeyboardInterrupt
                if before:
                    super().on_epoch_end(epoch, logs)

        monkeypatch.setattr(_command_train, "Checkpoint", Interrupted)

    return interrupt


def command_to_go_on(err):
    """Return the command that the message of an interrupted training shows."""
    return re.search(r"To go on: fastgd (.*)\n$", err)[1]


RESUMED = "--hidden 20 --dropout 0.2 --epochs 12 --early-stopping 3 --checkpoint 3"


@pytest.mark.parametrize(("at", "before", "held"), [(8, False, 6), (9, False, 9), (9, True, 6)])
def test_resumed_training_ends_with_the_same_bits(run, digits, interrupt, at, before, held):
    code, whole, _ = run(f"train train.npz {RESUMED} --out whole --quiet")
    assert code == 0
    interrupt(at, before)
    code, _, err = run(f"train train.npz {RESUMED} --quiet")
    assert code == 130
    message = f"interrupted; model.safetensors holds the network after epoch {held} of 12. To go on"
    assert message in err
    assert fastgd.load("model.safetensors").epoch == held
    assert command_to_go_on(err) == "train --quiet --resume model.safetensors train.npz"
    code, out, _ = run(command_to_go_on(err))
    assert code == 0
    assert out == whole.replace("whole", "model.safetensors")
    expected, net = fastgd.load("whole"), fastgd.load("model.safetensors")
    for a, b in zip(expected.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (expected.step, expected.history.epoch) == (net.step, net.history.epoch)
    assert expected.history.history["val_loss"] == net.history.history["val_loss"]
    assert net.metadata.keys() == {"preprocessing"}


def test_the_command_to_go_on_names_all_files(run, digits, interrupt, tmp_path):
    Path("train.npz").rename("-a b.npz")
    options = "--epochs 4 --checkpoint 1 --test=test.npz --predictions=p.csv --threads=1"
    assert run(f"train {options} --out whole --quiet -- '-a b.npz'")[0] == 0
    expected = Path("p.csv").read_bytes()
    interrupt(2)
    code, _, err = run(f"train {options} --quiet -- '-a b.npz'")
    assert code == 130
    Path("p.csv").unlink()
    assert run(command_to_go_on(err))[0] == 0
    assert Path("p.csv").read_bytes() == expected


def test_training_can_be_interrupted_again_and_go_to_another_file(run, digits, interrupt):
    interrupt(4)
    run(f"train train.npz {RESUMED} --quiet")
    interrupt(5)
    code, _, err = run("train train.npz --resume model.safetensors --out other --quiet")
    assert code == 130
    assert "; model.safetensors holds the network after epoch 3 of 12. To go on" in err
    assert not Path("other").exists()
    interrupt(7)
    code, _, err = run("train train.npz --resume model.safetensors --out other --quiet")
    assert "; other holds the network after epoch 6 of 12. To go on" in err
    assert run("train train.npz --resume other --quiet")[0] == 0
    assert fastgd.load("model.safetensors").epoch == 3


@pytest.mark.parametrize("at", [2, 3])
@pytest.mark.parametrize("older", [None, "--epochs 1", "--epochs 1 --checkpoint 1"])
def test_ctrl_c_before_the_first_checkpoint_keeps_what_was_learned(
    run, digits, interrupt, at, older
):
    if older:  # a file of another training is not taken for a checkpoint of this one
        assert run(f"train train.npz {older} --quiet")[0] == 0
    interrupt(at, before=True)
    code, _, err = run(f"train train.npz {RESUMED} --quiet")
    assert code == 130
    assert "holds what was learned, but no checkpoint to go on from: the first comes after" in err
    net = fastgd.load("model.safetensors")
    assert net.metadata.keys() == {"preprocessing"}
    assert net.epoch == at
    code, _, err = run("train train.npz --resume model.safetensors")
    assert code == 2
    assert "holds no interrupted training; fastgd train --checkpoint N keeps one" in err


def changed_validation():
    """The file of the training with another label in one row, which is kept for validation."""
    with np.load("train.npz") as file:
        X, y = file["X"], file["y"]
    held = np.random.default_rng(0).permutation(600)[:60]
    y[held[0]] = (y[held[0]] + 1) % 10
    np.savez("changed.npz", X=X, y=y)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("test.npz --resume model.safetensors", "test.npz: is not the data that model.safe"),
        ("changed.npz --resume model.safetensors", "changed.npz: is not the data that model.safe"),
        ("train.npz --resume model.safetensors --hidden 30", "--hidden is 30, but was 20 in"),
        ("train.npz --resume model.safetensors --hidden 128,64", "--hidden is 128,64, but was 20"),
        ("train.npz --resume model.safetensors --lr 1", "--lr is 1.0, but was not given in"),
        ("train.npz --resume model.safetensors --hidden none", "--hidden is none, but was 20"),
        ("train.npz --resume absent", "absent"),
        ("train.npz --resume train.npz", "train.npz"),
        ("train.npz --resume number", "number: malformed settings of an interrupted training"),
        ("train.npz --resume unknown", "unknown: malformed settings of an interrupted training"),
        ("train.npz --resume empty", "empty: malformed settings of an interrupted training"),
        ("train.npz --resume value", "value: malformed settings of an interrupted training"),
        ("train.npz --resume much", "much: malformed settings of an interrupted training"),
        ("train.npz --resume unfit", "unfit: its preprocessing does not fit its network"),
    ],
)
def test_resume_refuses_what_it_cannot_go_on_with(run, digits, interrupt, line, message):
    interrupt(4)
    run(f"train train.npz {RESUMED} --quiet")
    changed_validation()
    net = fastgd.load("model.safetensors")
    training = net.metadata["training"]
    kept = training["options"]
    for name, other in {
        "number": 3,
        "unknown": training | {"options": kept | {"rate": "3"}},
        "empty": training | {"options": {}},
        "value": training | {"options": kept | {"hidden": "x"}},
        "much": training | {"options": kept | {"epochs": "9" * 400}},
    }.items():
        net.save(name, metadata=net.metadata | {"training": other})
    encoding = net.metadata["preprocessing"]
    encoding = encoding | {"classes": [*encoding["classes"], 10]}
    net.save("unfit", metadata=net.metadata | {"preprocessing": encoding})
    before = Path("model.safetensors").read_bytes()
    code, _, err = run(f"train {line} --quiet")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert Path("model.safetensors").read_bytes() == before


def test_resume_takes_options_that_say_the_same(run, digits, interrupt):
    interrupt(4)
    run(f"train train.npz {RESUMED} --quiet")
    same = f"{RESUMED} --validation-split 0.1 --batch-size 16 --seed 0"
    assert run(f"train train.npz {same} --resume model.safetensors --quiet")[0] == 0


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@needs_extra("matplotlib", "plot")
def test_plot_draws_the_fit(run, digits, monkeypatch, suffix):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    code, out, _ = run(f"train train.npz --epochs 3 --quiet --plot fit.{suffix}")
    assert code == 0
    assert out.endswith(f"picture         fit.{suffix}\n")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert Path(f"fit.{suffix}").read_bytes().startswith(start)


def test_a_reader_that_leaves_is_no_error(digits, tmp_path):
    np.savez(tmp_path / "long.npz", X=np.zeros((200_000, 64), np.uint8))
    assert in_new_process("train train.npz --epochs 1 --quiet", tmp_path).returncode == 0
    process = subprocess.Popen(
        [*SCRIPT, "predict", "model.safetensors", "long.npz", "--probabilities"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"predicted target,p(0),")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert err == b""


def test_info_tells_version_instruction_sets_and_flags(run):
    code, out, _ = run("info")
    assert code == 0
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert re.search(rf"^fastgd +{re.escape(fastgd.__version__)}$", out, re.M)
    assert re.search(rf"^active +{fastgd.active_isa()}$", out, re.M)
    assert "-ffp-contract=off" in facts["flags"]
    assert "march" not in facts["flags"]
    assert "GFLOP/s" not in out


@needs_pyarrow
def test_info_shows_what_a_model_file_holds(run, digits, tmp_path):
    run("train train.npz --hidden 20 --epochs 1 --quiet")
    code, out, _ = run("info model.safetensors")
    assert code == 0
    assert "64 -> 20" in out
    assert "classes         0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in out
    assert "'x11' and 52 more\n" in out
    assert "trained         1 epochs, " in out
    houses(tmp_path / "houses.csv")
    run("train houses.csv --target price --epochs 1 --quiet")
    out = run("info model.safetensors")[1]
    assert "task            regression\ntarget          'price'\n" in out
    net = Network([Dense(1)], "squared_error", n_inputs=2)
    net.save(tmp_path / "plain")
    out = run("info plain")[1]
    assert out.endswith("trained         0 epochs, 0 steps\n")


def test_info_tells_where_threads_come_from(run, monkeypatch):
    monkeypatch.delenv("FASTGD_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert ", by processors and quota\n" in run("info")[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "what")
    assert ", by processors and quota\n" in run("info")[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert re.search(r"^threads +3, by OMP_NUM_THREADS$", run("info")[1], re.M)
    monkeypatch.setenv("FASTGD_NUM_THREADS", "5")
    assert re.search(r"^threads +5, by FASTGD_NUM_THREADS$", run("info")[1], re.M)


def test_info_names_packages_of_the_extras_and_how_to_install_them(run, monkeypatch):
    def version(name):
        if name in ("numpy", "scikit-learn"):
            return "7.8"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    out = run("info")[1]
    assert re.search(r"^extra sklearn +scikit-learn 7\.8, no joblib \(pip install ", out, re.M)
    assert re.search(r"^extra torch +no torch \(pip install 'fastgd\[torch\]'\)$", out, re.M)
    shown = re.findall(r"^extra (\S+)", out, re.M)
    assert sorted(shown) == ["data", "onnx", "plot", "sklearn", "torch"]


def test_info_measures_peaks_on_request(run):
    before = fastgd.active_isa()
    code, out, _ = run("info --measure")
    assert (code, fastgd.active_isa()) == (0, before)
    peaks = re.findall(r"^GFLOP/s of (\w+) +([\d.]+) float32, ([\d.]+) float64", out, re.M)
    assert tuple(isa for isa, _, _ in peaks) == fastgd.available_isas()
    assert all(float(value) > 0 for _, *pair in peaks for value in pair)


def test_check_fails_when_a_kernel_is_broken(run):
    isa = fastgd.active_isa()
    _kernels.inject_fault("gemm")
    try:
        code, out, _ = run(f"check --isa {isa} --dtype float32")
    finally:
        _kernels.inject_fault(None)
    assert code == 1
    assert "forward" in out
    assert run(f"check --isa {isa} --dtype float32")[0] == 0


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "processor: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nmodel\t: 3\n",
            "AMD EPYC (family 26 model 2)",
        ),
        ("model name\t: Some Arm\nmodel\t\t: 7\n", "Some Arm"),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_processors_are_named_with_family_and_model(monkeypatch, cpuinfo, expected):
    def opened(path):
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return io.StringIO(cpuinfo)

    monkeypatch.setattr(_bench, "open", opened, raising=False)
    assert _bench.cpu_name() == expected


def test_bench_compares_results_before_it_times():
    for dtype in ("float32", "float64"):
        for sizes, batch_size, _ in _bench.SHAPES[:3]:
            _bench.compare(sizes, batch_size, dtype, n_threads=1)
    _kernels.inject_fault("gemm")
    try:
        with (
            fastgd.config(validate="off"),
            pytest.raises(ArithmeticError, match=r"4-16-3: .* NumPy"),
        ):
            _bench.compare((4, 16, 3), 32, "float32", n_threads=1)
    finally:
        _kernels.inject_fault(None)


def test_bench_numpy_twin_has_the_gradient_of_its_loss():
    _, twin = _bench.make_pair((3, 5, 4), 8, "float64", lr=1.0)
    rng = np.random.default_rng(0)
    X, y, index = rng.normal(size=(8, 3)), rng.integers(0, 4, 8), np.arange(8)
    before = [W.copy() for W in twin.W]
    twin.step(X, y, index)
    gradient = [a - b for a, b in zip(before, twin.W, strict=True)]  # lr is 1
    h = 1e-6
    for layer, (i, j) in ((0, (1, 2)), (1, (3, 1))):
        losses = []
        for sign in (1, -1):
            _, other = _bench.make_pair((3, 5, 4), 8, "float64", lr=1.0)
            other.W[layer][i, j] += sign * h
            losses.append(other.step(X, y, index))
        assert gradient[layer][i, j] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6)


def test_bench_counts_the_operations_of_a_step():
    # 2 x 3 x 5: forward and weight gradient for both layers, data gradient for the second.
    assert _bench.flop_per_step((2, 3, 5), 7) == 2 * 7 * (2 * (6 + 15) + 15)


def test_bench_writes_its_figures(run, tmp_path):
    (example,) = cli._EXAMPLES["bench"].split("\n")
    code, out, _ = run(example.removeprefix("  fastgd "))
    assert code == 0
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["version"] == fastgd.__version__
    assert figures["isa"] == fastgd.active_isa()
    assert len(figures["shapes"]) == len(_bench.SHAPES) == out.count("x ")
    for row in figures["shapes"]:
        assert row["speedup"] == pytest.approx(row["numpy_us"] / row["fastgd_us"])
        assert 0 < row["share_of_peak"] < 1.1


def test_demo_shows_accuracy_check_and_speed(run):
    first, second = cli._EXAMPLES["demo"].split("\n")
    code, out, err = run(first.removeprefix("  fastgd "))
    assert code == 0
    assert number_after("test accuracy", out) >= 0.97
    for isa in fastgd.available_isas():
        assert re.search(rf"{isa} +float32: (\d+) of \1 within their error bounds", out)
    assert re.search(r"[\d.]+ times as fast", out)
    assert "100%" in err
    assert run(second.removeprefix("  fastgd "))[0] == 0
    with np.load("digits.npz") as data:
        assert data["X"].shape == (1797, 64)


@pytest.mark.data
def test_fashion_mnist_reaches_its_accuracy(run):
    folder = os.environ.get("FASTGD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
    code, out, _ = run(
        f"train {folder}/train-images-idx3-ubyte.gz --test {folder}/t10k-images-idx3-ubyte.gz "
        "--hidden 256,128 --epochs 10"
    )
    assert code == 0
    assert number_after("accuracy", out[out.index("\ntest ") :]) >= 0.885
