"""The command ``pyalexnet``: prepare, train, evaluate, predict, devices."""

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
from pyalexnet.data import PreparedImages
from pyalexnet.data.augmentation import VIEWS
from pyalexnet.data.prepare import SHARD_SIZE, prepare
from pyalexnet.errors import CudaError
from pyalexnet.evaluation import evaluate, predict
from pyalexnet.interrupt import Terminated
from pyalexnet.model_file import MODEL_FILE, load_model
from pyalexnet.recipe import DIGITS, PAPER, PRESETS
from pyalexnet.training import train

_FAILED, _WRONG_INPUT, _INTERRUPTED, _TERMINATED = 1, 2, 130, 143

_DESCRIPTION = """\
AlexNet, the image classifier of 2012, on hand-written CUDA kernels that run on GPUs and on CPU cores.

examples:
  pyalexnet train                                learn handwritten digits: nothing to download, a few minutes
  pyalexnet train photos --out run --epochs 30   learn from photos/cat/*.jpg, photos/dog/*.jpg, ...
  pyalexnet prepare ILSVRC2012_img_train.tar set bring a large data set to 256×256 once, for fast training
  pyalexnet evaluate run/model.safetensors test  how often the model is right on test/cat/*.jpg, ...
  pyalexnet predict run/model.safetensors a.jpg  what a.jpg shows
  pyalexnet devices                              where a net can run on this machine

`pyalexnet COMMAND --help` explains a command."""

_DATA_HELP = (
    "a folder that prepare made; or one with a subfolder of JPEG or PNG images for each class; or one of IDX files, as "
    "MNIST has; or digits or fashion-mnist"
)

_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own).

    Returns:
        Exit status: 0; 1 if the computer or the training failed; 2 if an argument or a file is wrong; 130
        after Ctrl-C, 143 after SIGTERM.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt as error:
        print("pyalexnet: interrupted", file=sys.stderr)
        return _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED
    except (CudaError, ArithmeticError, OSError, ValueError, TypeError) as error:
        if options.debug:
            raise
        print(f"pyalexnet {options.command}: {error}", file=sys.stderr)
        return _exit_status(error)


def _exit_status(error: Exception) -> int:
    wrong_input = isinstance(error, ValueError | TypeError | FileNotFoundError | FileExistsError | NotADirectoryError)
    return _WRONG_INPUT if wrong_input else _FAILED


def _prepare(options: argparse.Namespace) -> int:
    if options.verify:
        prepared = PreparedImages(options.source)
        prepared.verify()
        print(f"{len(prepared):,} images of {len(prepared.classes):,} classes in {options.source}: all as written")
        return 0
    if options.destination is None:
        raise ValueError("DEST is missing; it must be the folder to write")
    prepare(
        options.source,
        options.destination,
        labels=options.labels,
        classes=options.classes,
        on_error=options.on_error,
        shard_size=options.shard_size,
        workers=options.workers,
        progress=not options.quiet,
    )
    return 0


def _train(options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in _TRAIN_ARGUMENTS and value is not None}
    result = train(options.data, **given)
    if result.validation_accuracy is not None:
        print(f"accuracy on held-out images: {result.validation_accuracy:.2%}")
    if options.out is not None:
        print(f"model: {options.out}/{MODEL_FILE}")
    if result.stopped in ("interrupted", "terminated"):
        advice = f"; to go on, repeat the command with --resume --out {options.out}" if options.out else ""
        print(f"pyalexnet train: {result.stopped} after {result.model.net.step} steps{advice}", file=sys.stderr)
        return _INTERRUPTED if result.stopped == "interrupted" else _TERMINATED
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
    _add_prepare(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_command(commands, "devices", _devices, "list the devices that a net can run on")
    return parser


def _add_prepare(commands: Any) -> None:
    command = _add_command(
        commands,
        "prepare",
        _prepare,
        "bring image files to 256×256 once, for fast training",
        "Write the images of SOURCE into DEST: shorter side to 256, the middle kept, 8-bit RGB, in large files that "
        "training reads fast (192 KiB an image), with mean image, colour statistics and checksums. If it is stopped, "
        "however roughly, the same command continues.",
    )
    command.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with one subfolder or one tar file a class; an uncompressed tar file of either, such as "
        "ILSVRC2012_img_train.tar; or, with --labels, a folder or tar file of images, such as ILSVRC2012_img_val.tar",
    )
    command.add_argument("destination", metavar="DEST", nargs="?", help="the folder to write")
    command.add_argument(
        "--labels",
        metavar="FILE",
        help="text file with the class of each image: a name or number a line in the order of the images' sorted "
        "names, or lines 'file label'; numbers count from 0 if one is 0, else from 1",
    )
    command.add_argument(
        "--classes",
        metavar="FILE",
        help="a folder that prepare made, or a text file with a class name a line: the classes and their order "
        "(default: the names found, sorted)",
    )
    command.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what a broken image does; those skipped are listed in DEST/report.json (default: %(default)s)",
    )
    command.add_argument(
        "--shard-size", type=int, default=SHARD_SIZE, metavar="N", help="images a file (default: %(default)s)"
    )
    command.add_argument("--workers", type=int, metavar="N", help="threads (default: one for each core)")
    command.add_argument(
        "--verify", action="store_true", help="only check the files of SOURCE, which prepare made, by their checksums"
    )
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_train(commands: Any) -> None:
    command = _add_command(
        commands,
        "train",
        _train,
        "train a net",
        "Train AlexNet by the paper's recipe. With no DATA it learns scikit-learn's handwritten digits; so few "
        f"images need smaller steps and more of them: batches of {DIGITS.batch_size}, a learning rate of "
        f"{DIGITS.lr:g}, {DIGITS.epochs} epochs, biases from 0.1, no mirror images. Ctrl-C and SIGTERM finish the "
        "step, save and end; a second Ctrl-C stops at once.",
    )
    command.add_argument("data", nargs="?", metavar="DATA", help=f"{_DATA_HELP} (default: digits)")
    command.add_argument(
        "--validation",
        type=_fraction_or_folder,
        metavar="PART",
        help="the part of DATA that is held out to measure accuracy, 0 for none, or data of its own "
        f"(default: what DATA itself holds out, else {PAPER.validation:g}; digits {DIGITS.validation:g})",
    )
    _add_recipe(command)
    _add_schedule(command)
    _add_run(command)
    _add_placement(command)
    net = command.add_argument_group("the net, where its sources differ or the paper compares (see docs/ledger.md)")
    for name, choices in CHOICES.items():
        flag, default = f"--{name.replace('_', '-')}", choices[0]
        if isinstance(default, bool):
            net.add_argument(flag, action=argparse.BooleanOptionalAction, help=f"default: {'yes' if default else 'no'}")
        else:
            digits = f"; digits: {DIGITS.net_options[name]}" if name in DIGITS.net_options else ""
            net.add_argument(flag, type=type(default), choices=choices, help=f"default: {default}{digits}")
    net.add_argument("--lrn-k", type=float, metavar="K", help="constant of the normalisation (default: 2; Caffe: 1)")
    net.add_argument("--dropout", type=float, metavar="P", help="chance to drop a hidden output (default: 0.5)")
    net.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: as many as DATA has classes)")


def _add_recipe(command: argparse.ArgumentParser) -> None:
    recipe = command.add_argument_group("recipe (defaults are the paper's)")
    recipe.add_argument("--preset", choices=PRESETS, help="a source's whole recipe, which the options below change")
    for name, kind, text in (
        ("epochs", int, "passes over the images"),
        ("batch_size", int, "images a step"),
        ("momentum", float, "share of the last update that is kept"),
        ("weight_decay", float, "pull of weights towards 0, relative to the learning rate"),
        ("colour_noise", float, "strength of random colour shifts"),
    ):
        _add_setting(recipe, name, kind, text)
    recipe.add_argument(
        "--colour-noise-scaled",
        action=argparse.BooleanOptionalAction,
        help="divide images by 1 + the strength of the colour shifts (default: no)",
    )
    recipe.add_argument(
        "--reflect", action=argparse.BooleanOptionalAction, help="mirror half of the crops (default: yes; digits: no)"
    )
    recipe.add_argument(
        "--no-mean",
        dest="subtract_mean",
        action="store_false",
        default=None,
        help="feed raw pixels, without subtracting the mean image",
    )
    recipe.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same net (default: 0)")


def _add_schedule(command: argparse.ArgumentParser) -> None:
    schedule = command.add_argument_group("learning rate")
    _add_setting(schedule, "lr", float, "learning rate at the start")
    schedule.add_argument(
        "--schedule",
        metavar="RATES",
        help="plateau: divide the rate by 10 when the held-out images' error stops improving; or rates by epoch, such "
        "as 0.01@0,0.001@30; or source2012; or a schedule file, FILE.json (default: plateau)",
    )
    _add_setting(schedule, "patience", int, "epochs in a row without a lower error that make a plateau, 0 for never")
    schedule.add_argument("--floor", type=float, metavar="X", help="the lowest rate (default: a thousandth of --lr)")


def _add_run(command: argparse.ArgumentParser) -> None:
    run = command.add_argument_group("the run")
    run.add_argument("--out", metavar="DIR", help="write the model, checkpoints, run.json and metrics.jsonl here")
    run.add_argument(
        "--resume", action="store_true", default=None, help="go on from the newest checkpoint in --out, if there is one"
    )
    run.add_argument(
        "--allow-changes", action="store_true", default=None, help="resume with other settings or data than before"
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=float,
        metavar="X",
        help="time between checkpoints; there is one after each epoch in any case "
        f"(default: {_default('checkpoint_minutes')})",
    )
    run.add_argument(
        "--keep", type=int, metavar="N", help=f"checkpoints that stay, beside the best (default: {_default('keep')})"
    )
    run.add_argument("--tensorboard", action="store_true", default=None, help="write TensorBoard's files into --out")
    run.add_argument(
        "--report-relus", action="store_true", default=None, help="after each epoch, tell how many ReLUs are dead"
    )
    run.add_argument("--quiet", dest="progress", action="store_false", default=None, help="show no progress")


def _add_setting(group: Any, name: str, kind: type, text: str) -> None:
    paper, digits = getattr(PAPER, name), getattr(DIGITS, name)
    known = f"default: {paper:g}" if paper == digits else f"default: {paper:g}; digits {digits:g}"
    group.add_argument(
        f"--{name.replace('_', '-')}", type=kind, metavar="N" if kind is int else "X", help=f"{text} ({known})"
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
    "lrn_k",
}


if __name__ == "__main__":
    sys.exit(main())
