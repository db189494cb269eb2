"""``python -m fastgd.sklearn``: run a program as python would, with the estimators exchanged."""

from __future__ import annotations

import argparse
import builtins
import io
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from ._patch import patch

_PROG = "python -m fastgd.sklearn"
_DESCRIPTION = """\
Run a Python program in which sklearn.neural_network's MLPClassifier and MLPRegressor
are fastgd's. Its arguments, exit code and tracebacks are as with python itself."""
_OWN_FILES = (__file__, find_spec.__code__.co_filename)
_EXAMPLE = f"""\
example:
  echo 'from sklearn.neural_network import MLPClassifier as M; print(M.__module__)' > which.py
  {_PROG} which.py"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program that the command line names.

    Its exceptions come out of here, so that the exit code is what it is without this.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    patch()
    sys.excepthook = _without_own_frames
    try:
        if given.module:
            name, *rest = given.module
            sys.argv = [name, *rest]
            _run_module(name)
        elif given.script:
            path, *rest = given.script
            sys.argv = [path, *rest]
            _run_script(path)
        else:
            parser.error("name a script, or a module after -m")
    except (ImportError, OSError) as error:
        # Raised by what looks for the program, not by the program.
        if _first_frame_of_the_program(error.__traceback__) is None:
            _fail(str(error))
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        usage=f"{_PROG} [-h] (script.py | -m module) [argument ...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rest = argparse.REMAINDER
    parser.add_argument("script", nargs=rest, help="the program, and the arguments for it")
    parser.add_argument(
        "-m",
        dest="module",
        nargs=rest,
        metavar=("module", "argument"),
        help="run a module instead, as python -m does",
    )
    return parser


def _run_script(path: str) -> None:
    """Run a file, with the folder that it is in as the first of sys.path."""
    full = os.path.join(os.getcwd(), path)
    with io.open_code(full) as file:
        source = file.read()
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(full))
    _run(compile(source, full, "exec", dont_inherit=True), __file__=full)


def _run_module(name: str) -> None:
    """Run a module, or the __main__ of a package, that is found on sys.path."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = find_spec(name)
    if spec is None:
        raise ImportError(f"No module named {name}")
    get_code = getattr(spec.loader, "get_code", None)
    code = None if get_code is None else get_code(name)
    if code is None:
        raise ImportError(f"the module {name} has no Python code to run")
    sys.argv[0] = str(spec.origin)
    _run(
        code,
        __file__=spec.origin,
        __package__=spec.parent,
        __spec__=spec,
        __loader__=spec.loader,
        __cached__=spec.cached,
    )


def _run(code: CodeType, **attributes: object) -> None:
    """Run code as the main module, which stays there until the process ends."""
    main = ModuleType("__main__")
    vars(main).update({"__builtins__": builtins, "__cached__": None} | attributes)
    sys.modules["__main__"] = main
    exec(code, vars(main))


def _first_frame_of_the_program(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that python itself would show; None if there is none."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename not in _OWN_FILES and not code.co_filename.startswith("<frozen "):
            break
        trace = trace.tb_next
    return trace


def _without_own_frames(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show an exception that the program has not caught as if nothing had called the program."""
    trace = _first_frame_of_the_program(trace)
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _fail(message: str) -> NoReturn:
    print(f"{_PROG}: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
