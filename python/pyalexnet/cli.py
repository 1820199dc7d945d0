"""The command ``pyalexnet``: train, evaluate, predict, devices."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from pyalexnet.architecture import CHOICES
from pyalexnet.backend import devices
from pyalexnet.checkpoint import load_model
from pyalexnet.data.augmentation import VIEWS
from pyalexnet.errors import CudaError
from pyalexnet.evaluation import evaluate, predict
from pyalexnet.recipe import DIGITS, PAPER
from pyalexnet.training import MODEL_FILE, train

_FAILED, _WRONG_INPUT, _INTERRUPTED = 1, 2, 130

_DESCRIPTION = """\
AlexNet, the image classifier of 2012, on hand-written CUDA kernels that run on GPUs and on CPU cores.

examples:
  pyalexnet train                                learn handwritten digits: nothing to download, a few minutes
  pyalexnet train photos --out run --epochs 30   learn from photos/cat/*.jpg, photos/dog/*.jpg, ...
  pyalexnet evaluate run/model.safetensors test  how often the model is right on test/cat/*.jpg, ...
  pyalexnet predict run/model.safetensors a.jpg  what a.jpg shows
  pyalexnet devices                              where a net can run on this machine

`pyalexnet COMMAND --help` explains a command."""

_DATA_HELP = "a folder with one subfolder of JPEG or PNG images for each class"

_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own).

    Returns:
        Exit status: 0; 1 if the computer or the training failed; 2 if an argument or a file is wrong; 130
        after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("pyalexnet: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (CudaError, ArithmeticError, OSError, ValueError, TypeError) as error:
        if options.debug:
            raise
        print(f"pyalexnet {options.command}: {error}", file=sys.stderr)
        return _exit_status(error)


def _exit_status(error: Exception) -> int:
    wrong_input = isinstance(error, ValueError | TypeError | FileNotFoundError | FileExistsError | NotADirectoryError)
    return _WRONG_INPUT if wrong_input else _FAILED


def _train(options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in _TRAIN_ARGUMENTS and value is not None}
    result = train(options.data, **given)
    if result.validation_accuracy is not None:
        print(f"accuracy on held-out images: {result.validation_accuracy:.2%}")
    if options.out is not None:
        print(f"model: {options.out}/{MODEL_FILE}")
    if result.stopped == "interrupted":
        print(f"pyalexnet train: interrupted after {result.model.net.step} steps", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    model = load_model(options.model, devices=options.devices, memory_limit=options.memory_limit)
    found = evaluate(model, options.data, batch_size=options.batch_size, views=options.views)
    print(f"{found.count} images, {options.views} {'view' if options.views == 1 else 'views'} each")
    print(f"top-1 error {found.top1_error:7.2%}   (accuracy {found.accuracy:.2%})")
    print(f"top-5 error {found.top5_error:7.2%}")
    print(f"loss        {found.loss:7.4f}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    model = load_model(options.model, devices=options.devices, memory_limit=options.memory_limit)
    found = predict(model, options.images, top=options.top, views=options.views)
    for path, predictions in zip(options.images, found, strict=True):
        print(path)
        for label, probability in predictions:
            print(f"  {probability:7.2%}  {label}")
    return 0


def _devices(_options: argparse.Namespace) -> int:
    table = Table()
    for heading in ("device", "description", "cores", "memory free / total", "instructions", "peers"):
        table.add_column(heading, justify="right" if heading in ("cores", "memory free / total") else "left")
    for info in devices():
        memory = f"{_gib(info.free_bytes)} / {_gib(info.total_bytes)} GiB"
        table.add_row(info.name, info.description, str(info.cores), memory, info.instruction_set, " ".join(info.peers))
    Console(highlight=False).print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyalexnet", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pyalexnet {version('pyalexnet')}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_command(commands, "devices", _devices, "list the devices that a net can run on")
    return parser


def _add_train(commands: Any) -> None:
    command = _add_command(
        commands,
        "train",
        _train,
        "train a net",
        "Train AlexNet by the paper's recipe. With no DATA it learns scikit-learn's handwritten digits; so few "
        f"images need smaller steps and more of them: batches of {DIGITS.batch_size}, a learning rate of "
        f"{DIGITS.lr:g}, {DIGITS.epochs} epochs, biases from 0.1, no mirror images. Ctrl-C ends training and keeps "
        "what was learned.",
    )
    command.add_argument("data", nargs="?", metavar="DATA", help=f"{_DATA_HELP} (default: the digits)")
    command.add_argument("--out", metavar="DIR", help="write model.safetensors and run.json here, after each epoch")
    command.add_argument(
        "--validation",
        type=_fraction_or_folder,
        metavar="PART",
        help="the part of DATA that is held out to measure accuracy, 0 for none, or a folder like "
        f"DATA (default: {PAPER.validation:g}; digits {DIGITS.validation:g})",
    )
    _add_recipe(command)
    _add_placement(command)
    net = command.add_argument_group("the net, where its sources differ (see the README)")
    for name, choices in CHOICES.items():
        flag = f"--{name.replace('_', '-')}"
        if choices == (False, True):
            net.add_argument(flag, action="store_true", default=None, help="default: no")
        else:
            digits = f"; digits: {DIGITS.net_options[name]}" if name in DIGITS.net_options else ""
            net.add_argument(flag, choices=choices, help=f"default: {choices[0]}{digits}")
    net.add_argument("--dropout", type=float, metavar="P", help="chance to drop a hidden output (default: 0.5)")
    net.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: as many as DATA has classes)")
    command.add_argument("--quiet", dest="progress", action="store_false", default=None, help="show no progress")


def _add_recipe(command: argparse.ArgumentParser) -> None:
    recipe = command.add_argument_group("recipe")
    for name, kind in (("epochs", int), ("batch_size", int), ("lr", float)):
        paper, digits = getattr(PAPER, name), getattr(DIGITS, name)
        known = f"default: {paper:g}" if paper == digits else f"default: {paper:g}; digits {digits:g}"
        text = {"epochs": "passes over the images", "batch_size": "images a step", "lr": "learning rate"}[name]
        recipe.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar="N" if kind is int else "X",
            help=f"{text} ({known})",
        )
    recipe.add_argument("--momentum", type=float, metavar="X", help=f"default: {_default('momentum')}")
    recipe.add_argument("--weight-decay", type=float, metavar="X", help=f"default: {_default('weight_decay')}")
    recipe.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="divide the learning rate by 10 after N epochs in which the held-out images' error was not lower, 0 "
        f"for never (default: {PAPER.patience}; digits {DIGITS.patience})",
    )
    recipe.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same net (default: 0)")
    recipe.add_argument(
        "--reflect",
        action=argparse.BooleanOptionalAction,
        help="mirror half of the crops (default: yes; digits: no)",
    )
    recipe.add_argument(
        "--colour-noise",
        type=float,
        metavar="X",
        help=f"strength of random colour shifts (default: {_default('colour_noise')})",
    )
    recipe.add_argument(
        "--no-mean",
        dest="subtract_mean",
        action="store_false",
        default=None,
        help="feed raw pixels, without subtracting the mean image",
    )


def _add_evaluate(commands: Any) -> None:
    command = _add_command(commands, "evaluate", _evaluate, "measure a model's error on labelled images")
    _add_model(command)
    command.add_argument(
        "data", nargs="?", metavar="DATA", help=f"{_DATA_HELP} (default: the digits that training holds out)"
    )
    command.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images at a time (default: %(default)s)"
    )
    _add_views(command)
    _add_placement(command)


def _add_predict(commands: Any) -> None:
    command = _add_command(commands, "predict", _predict, "name what images show")
    _add_model(command)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG or PNG files")
    command.add_argument("--top", type=int, default=5, metavar="N", help="classes to name (default: %(default)s)")
    _add_views(command)
    _add_placement(command)


def _add_command(commands: Any, name: str, run: Any, summary: str, description: str = "") -> Any:
    command = commands.add_parser(name, help=summary, description=description or f"{summary.capitalize()}.")
    command.add_argument("--debug", action="store_true", help="show where in the program an error came from")
    command.set_defaults(run=run)
    return command


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help=f"a {MODEL_FILE} that train wrote")


def _add_views(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--views",
        type=int,
        choices=VIEWS,
        default=1,
        help="crops whose probabilities are averaged. 1: the centre; 5: and the corners; 10: and the mirror images "
        "of all, as in the paper, but not for writing (default: %(default)s)",
    )


def _add_placement(command: argparse.ArgumentParser) -> None:
    placement = command.add_argument_group("where to compute")
    placement.add_argument(
        "--devices",
        type=lambda text: text.split(","),
        metavar="NAMES",
        help="one device, or two with a half of the net each, such as cpu:0 or cuda:0,cuda:1 "
        "(default: the first GPU, else cpu:0)",
    )
    placement.add_argument(
        "--memory-limit",
        type=_byte_count,
        metavar="SIZE",
        help="what the net may take on each device, such as 3GiB (default: what it has)",
    )


def _default(argument: str) -> Any:
    return inspect.signature(train).parameters[argument].default


def _fraction_or_folder(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _byte_count(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give bytes, or a number with a unit, like 3GiB")
    return int(float(match[1]) * _SIZE_UNITS[match[2].upper()])


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f}"


_TRAIN_ARGUMENTS = {name for name in inspect.signature(train).parameters if name not in ("data", "net_options")} | {
    *CHOICES,
    "dropout",
}


if __name__ == "__main__":
    sys.exit(main())
