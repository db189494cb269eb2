"""The command ``fastgd``: arguments, messages and exit codes; what a command does is elsewhere.

Exit codes: 0 done; 1 a check has failed; 2 wrong arguments or data, with one line on stderr;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import __version__, activations, losses, optimizers
from ._files import printable

__all__ = ["main"]

_EXAMPLES = {
    "train": """\
  fastgd demo --data digits.csv
  fastgd train digits.csv --target digit --out digits.safetensors
  fastgd train digits.csv --target digit --hidden 100,50 --epochs 30 --early-stopping 5
  fastgd train digits.csv --target digit --checkpoint 5 --plot digits.png""",
    "predict": """\
  fastgd demo --data digits.csv
  fastgd train digits.csv --target digit --out digits.safetensors
  fastgd predict digits.safetensors digits.csv --probabilities --out digits-predicted.csv""",
    "export": """\
  fastgd demo --data digits.npz
  fastgd train digits.npz --out digits.safetensors
  fastgd export digits.safetensors digits.onnx""",
    "check": "  fastgd check --dtype float32",
    "info": """\
  fastgd info
  fastgd info --measure
  fastgd demo --data digits.csv
  fastgd train digits.csv --target digit --out digits.safetensors
  fastgd info digits.safetensors""",
    "bench": "  fastgd bench --rounds 3 --json bench.json",
    "demo": "  fastgd demo\n  fastgd demo --data digits.npz",
}
_DATA_HELP = (
    "CSV (comma, semicolon or tab; a first line of column names), Parquet, NPZ or IDX; "
    "CSV and IDX also gzip-compressed"
)


# What whole numbers are counted in, but for seeds
_MOST = 2**63 - 1


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _number(
    kind: type[int] | type[float],
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> Callable[[str], int | float]:
    """Make a function that reads a number from low (or above it) to high (or below it)."""
    noun = "a whole number" if kind is int else "a number"
    limits = f"{'above' if above else 'from'} {low:g}"
    if high < math.inf:
        limits += f" {'to below' if below else 'to'} {high:g}"
    elif kind is int:
        high = _MOST

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(low) - 1
        inside = low < value if above else low <= value
        if not (inside and (value < high if below else value <= high) and value < math.inf):
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun} {limits}")
        return value

    return read


def _sizes(text: str) -> list[int]:
    """Read the units of the hidden layers: 256,128, or none."""
    if text == "none":
        return []
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 256,128, nor none")
    return sizes


def _names(text: str) -> list[str]:
    """Read names of columns: id,date; one that holds a comma stands in double quotes."""
    try:
        names = next(csv.reader([text]), [])
    except csv.Error:  # a line end, or more characters than csv takes
        names = []
    if not names or not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of columns such as id,date")
    return names


def _add_train(parser: argparse.ArgumentParser) -> None:
    positive = _number(int, 1)
    data = parser.add_argument_group("data")
    data.add_argument("file", metavar="FILE", help=_DATA_HELP)
    data.add_argument("--target", metavar="NAME", help="column (or NPZ array) to predict")
    data.add_argument(
        "--drop",
        type=_names,
        metavar="NAMES",
        help="columns that are no inputs, such as id,date",
    )
    data.add_argument(
        "--labels",
        metavar="FILE",
        help="IDX file of the labels (found by itself if it lies beside *-images-idx3-*)",
    )
    data.add_argument(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="auto: found from the target (text, booleans and few whole numbers are classes)",
    )
    data.add_argument("--test", metavar="FILE", help="second file, for the metrics at the end only")
    data.add_argument("--test-labels", metavar="FILE", help="IDX file of its labels")
    data.add_argument(
        "--validation-split",
        type=_number(float, 0, 1, below=True),
        metavar="SHARE",
        help="share of the rows that is kept for validation (default 0.1, with --test 0)",
    )

    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden",
        type=_sizes,
        default=[128, 64],
        metavar="UNITS",
        help="units of the hidden layers, such as 256,128, or none (default 128,64)",
    )
    names = [name for name in activations._CLASSES if name != "softmax"]
    network.add_argument("--activation", choices=names, default="relu", help="(default relu)")
    network.add_argument(
        "--loss",
        choices=["auto", *losses.BUILT_IN],
        default="auto",
        help="auto: cross_entropy for classes, squared_error for numbers",
    )
    network.add_argument(
        "--dropout",
        type=_number(float, 0, 1, below=True),
        default=0.0,
        metavar="P",
        help="dropped share of each hidden layer's outputs (default 0)",
    )
    network.add_argument(
        "--l2", type=_number(float, 0), default=0.0, metavar="X", help="penalty on squared weights"
    )
    network.add_argument(
        "--dtype", choices=["float32", "float64"], default="float32", help="(default float32)"
    )

    training = parser.add_argument_group("training")
    training.add_argument(
        "--optimizer", choices=list(optimizers.BUILT_IN), default="adam", help="(default adam)"
    )
    training.add_argument(
        "--lr",
        type=_number(float, 0, above=True),
        metavar="X",
        help="highest learning rate (default depends on the optimizer)",
    )
    training.add_argument(
        "--clip-norm",
        type=_number(float, 0, above=True),
        metavar="X",
        help="largest norm of a step's gradient, against divergence, such as 1 (default: none)",
    )
    training.add_argument(
        "--schedule",
        choices=["one_cycle", "cosine", "constant"],
        default="one_cycle",
        help="course of the learning rate (default one_cycle)",
    )
    training.add_argument(
        "--epochs", type=positive, metavar="N", help="(default: 10, more if the file is small)"
    )
    training.add_argument(
        "--batch-size", type=positive, metavar="N", help="(default: 128, less if it is small)"
    )
    training.add_argument(
        "--early-stopping",
        type=positive,
        metavar="N",
        help="stop when validation has not improved for N epochs; keep the best weights",
    )
    training.add_argument(
        "--seed", type=_number(int, 0, 2**64 - 1), default=0, metavar="N", help="(default 0)"
    )
    _add_threads(training)

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        metavar="FILE",
        help="model file (default model.safetensors, with --resume that one)",
    )
    output.add_argument(
        "--checkpoint",
        type=positive,
        metavar="N",
        help="write the model file after every N epochs as well, with what --resume needs",
    )
    output.add_argument(
        "--resume",
        metavar="MODEL",
        help="go on with an interrupted training from its checkpoint, with its options, to the "
        "same bits as if it had not been interrupted; FILE must hold the same data, and --labels, "
        "--test, --predictions and --plot are to be given again",
    )
    output.add_argument(
        "--plot",
        metavar="FILE",
        help="draw loss and learning rate by epoch: .png, .svg or .pdf (needs matplotlib)",
    )
    output.add_argument(
        "--predictions", metavar="FILE", help="CSV of the predictions for --test, else for FILE"
    )
    output.add_argument("--quiet", action="store_true", help="no progress")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file of fastgd train")
    parser.add_argument("file", metavar="FILE", help=_DATA_HELP)
    parser.add_argument("--out", metavar="CSV", help="where to write (default: standard output)")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="a column for each class beside the prediction",
    )
    _add_threads(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file of fastgd")
    parser.add_argument("out", metavar="ONNX", help="file to write")
    parser.add_argument(
        "--input-dtype",
        metavar="DTYPE",
        help="float32, float64 or an integer one such as uint8 (default: that of the network)",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--isa", help="one instruction set only (default: all of this machine)")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="one type only")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="show what this model file holds instead"
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure the peak of each instruction set as well (takes a second)",
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", choices=["float32", "float64"], default="float32", help="(default float32)"
    )
    parser.add_argument(
        "--threads",
        type=_number(int, 1),
        default=1,
        metavar="N",
        help="threads of either side (default 1)",
    )
    parser.add_argument(
        "--rounds", type=_number(int, 1), default=9, metavar="N", help="(default 9)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file as well")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="only write the digits to FILE (.csv or .npz), to try the other commands on",
    )


def _add_threads(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--threads",
        type=_number(int, 1),
        metavar="N",
        help="(default: the processors at hand); the results do not depend on it",
    )


def _train(options: argparse.Namespace) -> int:
    from ._command_train import train

    return train(options)


def _predict(options: argparse.Namespace) -> int:
    from ._command_train import predict

    return predict(options)


def _export(options: argparse.Namespace) -> int:
    from ._command_export import export

    return export(options)


def _check(options: argparse.Namespace) -> int:
    from ._check import check

    dtypes = [options.dtype] if options.dtype else ["float32", "float64"]
    return 0 if check(options.isa, dtypes).passed else 1


def _info(options: argparse.Namespace) -> int:
    from ._command_info import info

    return info(options)


def _bench(options: argparse.Namespace) -> int:
    from . import _bench
    from ._command_train import checked_output

    if options.json:
        checked_output(options.json)
    work = {
        "kind": "shapes",
        "dtype": options.dtype,
        "n_threads": options.threads,
        "rounds": options.rounds,
        "json_path": options.json,
    }
    _bench.start(work, options.threads)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from . import _command_demo

    if options.data:
        _command_demo.write_digits(options.data)
        return 0
    return _command_demo.demo()


_COMMANDS: dict[str, tuple[str, Callable[..., None], Callable[[argparse.Namespace], int]]] = {
    "train": ("train a network on a data file", _add_train, _train),
    "predict": ("apply a trained network to a data file", _add_predict, _predict),
    "export": ("write a trained network as an ONNX model", _add_export, _export),
    "check": ("compare every kernel with the NumPy reference", _add_check, _check),
    "info": (
        "show the version, instruction sets and threads; or what a model file holds",
        _add_info,
        _info,
    ),
    "bench": ("measure the speed beside a NumPy loop", _add_bench, _bench),
    "demo": ("train on bundled digits, check, and compare with NumPy", _add_demo, _demo),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastgd",
        description="Train dense networks on the CPU, with arithmetic that is checked here.",
    )
    parser.add_argument("--version", action="version", version=f"fastgd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (summary, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
        command.set_defaults(run=run, name=name, parser=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : the arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code; mistakes in the arguments themselves raise SystemExit with code 2.

    Examples
    --------
    >>> from fastgd.cli import main
    >>> main(["predict", "absent.safetensors", "absent.csv"])
    2
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(arguments)
    options.arguments = arguments[1:]
    try:
        code = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\nfastgd {options.name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, ArithmeticError, MemoryError, RuntimeError) as error:
        print(f"fastgd {options.name}: {_one_line(error)}", file=sys.stderr)
        return 2
    return code


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fspath(error.filename)}: {error.strerror}")
    return printable(" ".join(str(error).split())) or type(error).__name__
