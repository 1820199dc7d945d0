"""``pyalexnet train``: a net learns from images."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from pyalexnet.architecture import Options
from pyalexnet.cli.arguments import (
    DATA_HELP,
    Skipped,
    add_command,
    add_declared,
    add_on_error,
    add_placement,
    fraction_or_name,
    readable,
)
from pyalexnet.cli.parser import Commands
from pyalexnet.cli.status import ended_by
from pyalexnet.net.model_file import MODEL_FILE
from pyalexnet.system.declaration import Argument, arguments_of
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell
from pyalexnet.system.ranks import join_ranks
from pyalexnet.training.recipe import DIGITS, LEAST_BATCH, MOST_EPOCHS, PAPER, PAPER_CLASSES, SMALL
from pyalexnet.training.settings import LEARNING_RATE, NET, RECIPE, Conduct, Settings, TrainArguments
from pyalexnet.training.train import train


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "train",
        run,
        "train a net",
        "Train AlexNet, by a recipe that follows from how many images and classes there are: for some thousand "
        "images small steps and few minutes on CPU cores, for a million of at least "
        f"{PAPER_CLASSES} classes the paper's. A line at the start tells it, --preset paper gives the paper's in any "
        "case, and what an option says holds. With no DATA the net learns scikit-learn's handwritten digits. Ctrl-C "
        "and SIGTERM finish the step, save and end; a second Ctrl-C stops at once. SIGUSR1, SIGUSR2 and SIGHUP save "
        "and go on.",
    )
    command.add_argument("data", nargs="?", metavar="DATA", help=f"{DATA_HELP} (default: digits)")
    command.add_argument(
        "--validation",
        type=fraction_or_name,
        metavar="PART",
        help="the part of DATA that is held out to measure accuracy, 0 for none, or data of its own "
        f"(default: what DATA itself holds out, else {PAPER.validation:g}; digits {DIGITS.validation:g})",
    )
    _add_settings(
        command, "recipe (defaults: the paper's; of few images or the digits where they differ)", _settings_of(RECIPE)
    )
    _add_settings(command, "learning rate", _settings_of(LEARNING_RATE))
    _add_settings(command, "the run", arguments_of(Conduct).values())
    add_on_error(command)
    add_placement(command)
    _add_settings(
        command,
        "the net, where its sources differ or the paper compares (see docs/ledger.md)",
        [*arguments_of(Options).values(), *_settings_of(NET)],
    )


def run(options: argparse.Namespace) -> int:
    """Train, and say what came of it."""
    given = {name: value for name, value in vars(options).items() if name in _NAMES and value is not None}
    result = train(options.data, **given)
    if not join_ranks().is_first:
        return ended_by(result.signal) if result.signal else 0
    if result.validation_accuracy is not None:
        tell(f"accuracy on held-out images: {result.validation_accuracy:.2%}")
    if options.out is not None:
        tell(printable(f"model: {options.out}/{MODEL_FILE}"))
    if result.signal is not None:
        advice = f"; to go on, repeat the command with --resume --out {options.out}" if options.out else ""
        ended = f"pyalexnet train: {result.stopped} after {result.model.net.step} steps{advice}"
        tell(printable(ended), on_stderr=True)
        return ended_by(result.signal)
    unreadable = result.data.get("unreadable", {})
    return Skipped(options).exit_status(error for part in unreadable.values() for error in part.values())


def _settings_of(group: str) -> list[Argument]:
    return [argument for argument in arguments_of(Settings).values() if argument.setting.group == group]


def _add_settings(command: argparse.ArgumentParser, title: str, settings: Iterable[Argument]) -> None:
    """Those that have an option here, below one heading, in the order of :func:`train`'s own arguments."""
    group = command.add_argument_group(title)
    for argument in sorted(settings, key=lambda argument: _NAMES.index(argument.name)):
        if argument.setting.help:
            add_declared(group, argument, _default(argument))


def _default(argument: Argument) -> str:
    """What the help calls the default: what the recipes say, those that do not say what the paper's does named."""
    if argument.setting.usual or argument.setting.off:
        return argument.setting.usual
    if argument.name in _PAPERS:
        paper, *others = (readable(values[argument.name]) for values in (_PAPERS, _FEW_IMAGES, _DIGITS))
        named = zip(("few images", "digits"), others, strict=True)
        return "".join([paper, *(f"; {name} {value}" for name, value in named if value != paper)])
    is_told = argument.default is not None and not isinstance(argument.default, bool)
    return readable(argument.default) if is_told else ""


_NAMES = ["validation", *TrainArguments.__annotations__]

_PAPERS, _DIGITS = PAPER.values(), DIGITS.values()
# Two of them follow from the number of images.
_FEW_IMAGES = SMALL.values() | {
    "epochs": f"{SMALL.epochs} to {MOST_EPOCHS}",
    "batch_size": f"{LEAST_BATCH} to {SMALL.batch_size}",
}
