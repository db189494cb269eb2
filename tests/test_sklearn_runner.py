"""python -m fastgd.sklearn: programs cannot tell it from python, but for their estimators."""

import os
import py_compile
import subprocess
import sys
import textwrap
import zipfile

import pytest

from fastgd.sklearn import __main__

PYTHON = [sys.executable]
RUNNER = [sys.executable, "-m", "fastgd.sklearn"]

PROGRAM = """
import __main__
import atexit
import pickle
import sys

def fail():
    raise ValueError("wrong")

class Pickled:
    pass

if __name__ == "__main__":
    print(sys.argv[1:], sys.path[0], __file__, __main__.__file__, __name__, __doc__)
    print(__spec__ and __spec__.name)
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode == "chain":
        try:
            fail()
        except ValueError as error:
            raise KeyError("again") from error
    elif mode == "exit":
        sys.exit(7)
    elif mode == "interrupt":
        raise KeyboardInterrupt
    elif mode == "file":
        open("/no/such/file")
    elif mode == "import":
        import no_such_module
    else:
        print(type(pickle.loads(pickle.dumps(Pickled()))) is __main__.Pickled)
        atexit.register(lambda: print(Pickled, sys.argv))

        def hinted(x: print("an annotation, evaluated")): pass
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a program, the same in a package, and a folder below it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "encoded.py").write_bytes(
        "# coding: latin-1\nprint(len('\xe9'))\n".encode("latin-1")
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "part.py").write_text(PROGRAM)
    (tmp_path / "below").mkdir()
    os.symlink(tmp_path / "program.py", tmp_path / "below" / "link.py")
    py_compile.compile(str(tmp_path / "program.py"), str(tmp_path / "compiled.pyc"))
    return tmp_path


def run(command, cwd):
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def main(folder, monkeypatch):
    """The command line without a process of its own, and without its patch."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(__main__, "patch", lambda: None)
    # What it changes for the program's sake
    for name in ("argv", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.syspath_prepend(folder)
    yield __main__.main
    sys.modules.pop("package", None)


def same(arguments, cwd):
    """Run by python and by fastgd.sklearn; hold the two against each other."""
    expected, found = run([*PYTHON, *arguments], cwd), run([*RUNNER, *arguments], cwd)
    assert found.stdout == expected.stdout
    assert found.stderr == expected.stderr
    assert found.returncode == expected.returncode
    return found


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plain", "-h", "--help", "-m", "b c", "--", "-"], 0),
        (["chain"], 1),
        (["exit"], 7),
        (["interrupt"], -2),
        (["import"], 1),
        (["file"], 1),
    ],
)
def test_script_runs_as_with_python(arguments, code, folder):
    assert same(["program.py", *arguments], folder).returncode == code


WHERE = """
import sys
import __main__
print(__name__, sys.argv, sys.path[0], hasattr(__main__, "__file__"), __spec__ and __spec__.name)
print(__main__.__dict__.get("__package__"))
1 / 0
"""


@pytest.mark.parametrize(
    "place", [["-c", WHERE], ["whole"], ["./whole.pyz"], ["-"], ["--", "where.py"]], ids=str
)
def test_programs_in_every_place(place, folder):
    """Lines, folders, archives, standard input, and what comes after the options' end."""
    (folder / "whole").mkdir()
    for file in ("whole/__main__.py", "where.py"):
        (folder / file).write_text(WHERE)
    with zipfile.ZipFile(folder / "whole.pyz", "w") as archive:
        archive.writestr("__main__.py", WHERE)
    found = []
    for way in (PYTHON, RUNNER):
        done = subprocess.run(
            [*way, *place, "fail", "--", "-m"], input=WHERE, capture_output=True, text=True,
            cwd=folder,
        )  # fmt: skip
        # python itself runs a folder by a module, which it shows.
        lines = [line for line in done.stderr.splitlines() if "<frozen runpy>" not in line]
        found.append((done.stdout, lines, done.returncode))
    assert found[1] == found[0]
    assert found[1][2] == 1


def test_lines_may_follow_their_option(main, capsys):
    main(["-cprint(1 + 1)"])
    assert capsys.readouterr().out == "2\n"


@pytest.mark.parametrize(
    "script", ["below/link.py", "below/../program.py", "encoded.py", "broken.py", "compiled.pyc"]
)
def test_script_is_found_and_read_as_with_python(script, folder):
    same([script], folder)


@pytest.mark.parametrize("mode", ["plain", "chain"])
def test_module_runs_as_with_python(mode, folder):
    arguments = ["-m", "package.part", mode, "-h"]
    expected, found = run([*PYTHON, *arguments], folder), run([*RUNNER, *arguments], folder)
    assert found.stdout == expected.stdout
    assert found.returncode == expected.returncode
    # python's own runpy shows in its tracebacks.
    shown = [line for line in expected.stderr.splitlines() if "<frozen runpy>" not in line]
    assert found.stderr.splitlines() == shown


def test_program_gets_fastgds_estimators(folder):
    (folder / "which.py").write_text(
        "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
        "import fastgd.sklearn as ours\n"
        "print(MLPClassifier is ours.MLPClassifier, MLPRegressor is ours.MLPRegressor)\n"
    )
    done = run([*RUNNER, "which.py"], folder)
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_safe_path_is_kept(folder):
    command = [sys.executable, "-P", "-m", "fastgd.sklearn", "program.py"]
    expected = run([sys.executable, "-P", "program.py"], folder)
    assert run(command, folder).stdout == expected.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py"], "No such file or directory: '{folder}/missing.py'"),
        (["below"], "Is a directory: '{folder}/below'"),
        (["-m", "missing"], "No module named missing"),
        (["-m", "package"], "No module named package.__main__"),
        (["-m", "fastgd._engine"], "the module fastgd._engine has no Python code to run"),
        (["-m", "missing.part"], "No module named 'missing'"),
    ],
)
def test_program_that_is_not_there_gives_one_line(arguments, message, folder, main, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("python -m fastgd.sklearn: error: ")
    assert message.format(folder=folder) in line


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--unknown", "program.py"]])
def test_wrong_arguments_give_usage(arguments, main, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "usage: python -m fastgd.sklearn [-h] (script.py | - | -m module | -c program) "
    )


def test_example_of_the_help_runs_as_printed(folder):
    text = run([*RUNNER, "--help"], folder).stdout
    assert max(map(len, text.splitlines())) < 100
    example = textwrap.dedent(text.partition("example:\n")[2])
    bin_first = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-ec", example],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": bin_first},
    )
    assert done.stderr == ""
    assert done.stdout.startswith("fastgd.sklearn")
