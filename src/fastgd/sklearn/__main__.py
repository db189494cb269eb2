"""``python -m fastgd.sklearn``: run a program as python would, with the estimators exchanged."""

from __future__ import annotations

import argparse
import builtins
import io
import linecache
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pkgutil import read_code
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
    kind, what, *rest = _parse(list(sys.argv[1:] if arguments is None else arguments))
    patch()
    sys.excepthook = _without_own_frames
    sys.argv = [what, *rest]
    try:
        if kind == "-m":
            _run_module(what)
        elif kind == "-c":
            sys.argv[0] = kind
            if sys.version_info >= (3, 13):  # whose tracebacks show these lines
                lines = what.splitlines(keepends=True)
                linecache.cache["<string>"] = (len(what), None, lines, "<string>")
            _run_source(what, "<string>")
        elif what == "-":
            _run_source(sys.stdin.read(), "<stdin>", __file__="<stdin>")
        else:
            _run_script(what)
    except (ImportError, OSError) as error:
        # Raised by what looks for the program, not by the program.
        if _first_frame_of_the_program(error.__traceback__) is None:
            _fail(str(error))
        raise


def _parse(words: list[str]) -> list[str]:
    """Return "-m", "-c" or "", then the program and its arguments, which argparse must not see."""
    parser = argparse.ArgumentParser(
        prog=_PROG,
        usage=f"{_PROG} [-h] (script.py | - | -m module | -c program) [argument ...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "script",
        nargs="?",
        help="the program, or a folder or archive with a __main__.py, or - for standard input; "
        "then come the arguments for it",
    )
    parser.add_argument("-m", metavar="module", help="run a module instead, as python -m does")
    parser.add_argument("-c", metavar="program", help="run these lines instead, as python -c does")
    first = words[0] if words else ""
    for kind in ("-m", "-c"):
        if first.startswith(kind):
            # The module or the lines may follow without a space.
            rest = [first[2:], *words[1:]] if len(first) > 2 else words[1:]
            if rest:
                return [kind, *rest]
    if first == "--":
        words = words[1:]
    elif first != "-":
        parser.parse_args(words[:1])
    if not words:
        parser.error("name a script, a module after -m, or give a program after -c")
    return ["", *words]


def _run_script(path: str) -> None:
    """Run a file, or the __main__ of a folder or archive; their folder comes first on sys.path."""
    full = os.path.join(os.getcwd(), path)
    spec = PathFinder.find_spec("__main__", [full])
    if spec is not None:
        # It is added even where sys.path is safe, as by python: its modules are the program's.
        sys.path[: not sys.flags.safe_path] = [full]
        _run_spec(spec, "__main__")
        return
    with io.open_code(full) as file:
        source = file.read()
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(full))
    code = read_code(io.BytesIO(source))  # of a .pyc file; None of others
    _run(code or compile(source, full, "exec", dont_inherit=True), __file__=full)


def _run_module(name: str) -> None:
    """Run a module, or the __main__ of a package, that is found on sys.path."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = find_spec(name)
    if spec is None:
        raise ImportError(f"No module named {name}")
    sys.argv[0] = str(spec.origin)
    _run_spec(spec, name)


def _run_source(source: str, name: str, **attributes: object) -> None:
    """Run lines that are in no file, with the current folder as the first of sys.path."""
    if not sys.flags.safe_path:
        sys.path[0] = ""
    _run(compile(source, name, "exec", dont_inherit=True), **attributes)


def _run_spec(spec: ModuleSpec, name: str) -> None:
    get_code = getattr(spec.loader, "get_code", None)
    code = None if get_code is None else get_code(name)
    if code is None:
        raise ImportError(f"the module {name} has no Python code to run")
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
