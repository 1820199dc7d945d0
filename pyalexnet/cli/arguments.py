"""Arguments that several subcommands have, and how their texts become values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

from pyalexnet.architecture import Options, feature_names
from pyalexnet.cli.parser import CommandParser, Commands, Container, is_device
from pyalexnet.cli.status import WRONG_INPUT
from pyalexnet.data.augmentation import VIEWS
from pyalexnet.data.readable import OnError, StopOrSkip
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.features import DEFAULT_LAYER
from pyalexnet.evaluation.own_data import MOST_COMPARED
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.model_file import MODEL_FILE, load_model
from pyalexnet.system.declaration import Argument
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell
from pyalexnet.system.ranks import join_ranks

DATA_HELP = (
    "a folder that prepare made; or one with a subfolder of images for each class; or one of IDX files, as MNIST has; "
    "or digits, emoji or fashion-mnist (a folder that is called so is ./digits)"
)

OWN_HELD_OUT, OWN_TRAINING = "those that the model's own run held out", "those that the model's own run learned from"

# No net has more kinds of layers.
_WITH_ALL_STEPS = Options(second_lrn=True)

_TOO_LARGE = 2**63

_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], summary: str, description: str = ""
) -> CommandParser:
    """A subcommand with what all have; ``run`` takes the parsed arguments and returns the exit status."""
    command: CommandParser = commands.add_parser(
        name, help=summary, description=description or f"{summary[0].upper()}{summary[1:]}."
    )
    command.add_argument("--debug", action="store_true", help="show where in the program an error came from")
    command.set_defaults(run=run)
    return command


def add_declared(group: Container, argument: Argument, default: str = "") -> None:
    """An option for a setting; a command finds no value for it where it is not given.

    Args:
        group: what the option is added to.
        argument: the setting.
        default: what the help calls its default; empty for nothing. What is off, and has none to tell, is only turned
            on, what has one on and off.
    """
    setting = argument.setting
    text = f"{setting.help} (default: {default})" if default else setting.help
    if setting.off:
        group.add_argument(setting.off, dest=argument.name, action="store_false", default=None, help=text)
        return
    flag, choices = f"--{argument.name.replace('_', '-')}", argument.choices
    if argument.kind is bool or (choices and isinstance(choices[0], bool)):
        action: Any = argparse.BooleanOptionalAction if default else "store_true"
        group.add_argument(flag, action=action, default=None, help=text)
    elif choices:
        group.add_argument(flag, type=type(choices[0]), choices=choices, help=text)
    else:
        metavar = setting.metavar or ("N" if argument.kind is int else "X")
        group.add_argument(flag, type=_KINDS.get(argument.kind, str), metavar=metavar, help=text)


def readable(value: object) -> str:
    """A setting's value as the help shows it and the command takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ",".join(f"{name}={factor:g}" for name, factor in value.items()) or "none"
    if isinstance(value, tuple):
        return ",".join(map(readable, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_model(command: argparse.ArgumentParser) -> None:
    """The model; :func:`open_model` loads it."""
    command.add_argument(
        "model", metavar="MODEL", help=f"a model file that train wrote, or a run's folder, for its {MODEL_FILE}"
    )


def open_model(options: argparse.Namespace) -> Classifier:
    """The model that the arguments name, on the devices that they name, or the one that is this rank's turn."""
    devices = default_devices(join_ranks().local_rank) if options.devices is None else options.devices
    return load_model(options.model, devices=devices, memory_limit=options.memory_limit)


def add_views(command: argparse.ArgumentParser) -> None:
    """How many crops of an image are judged."""
    command.add_argument(
        "--views",
        type=int,
        choices=VIEWS,
        default=1,
        help="crops whose probabilities are averaged. 1: the centre; 5: and the corners; 10: and the mirror images "
        "of all, as in the paper, but not for writing (default: %(default)s)",
    )


def add_overlap(command: argparse.ArgumentParser) -> None:
    """Whether to find out which images the model learned from."""
    command.add_argument(
        "--overlap",
        action=argparse.BooleanOptionalAction,
        help="find out which of the images the model was trained on, which may take reading all of its training images "
        f"(default: if there are not over {MOST_COMPARED:,} to be read)",
    )


def add_batch_size(command: argparse.ArgumentParser) -> None:
    """How many images the net computes at a time."""
    command.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="images at a time (default: %(default)s)"
    )


def add_layer(command: argparse.ArgumentParser, default: str = DEFAULT_LAYER) -> None:
    """Which layer's outputs are meant."""
    command.add_argument(
        "--layer",
        default=default,
        metavar="NAME",
        help=f"{names_of_layers()} (default: %(default)s)",
    )


def names_of_layers() -> str:
    """What the paper's net computes, as the help lists it."""
    *names, last = feature_names(Options())
    return f"{', '.join(names)} or {last}"


def is_layer(text: str) -> bool:
    """Whether a text is names of layers, such as ``conv1`` or ``fc6_pre,lrn_in_map2``, whatever their numbers are."""
    kinds = {name.rstrip("0123456789") for name in feature_names(_WITH_ALL_STEPS)}
    name = rf"(?:{'|'.join(kinds)})\d(?:_pre)?"
    return re.fullmatch(f"{name}(?:,{name})*", text) is not None


def add_placement(command: CommandParser) -> None:
    """Devices and memory."""
    placement = command.add_argument_group("where to compute")
    command.add_list(
        "--devices",
        str,
        continues=is_device,
        group=placement,
        metavar="NAMES",
        help="one device, or two with a half of the net each, such as cpu:0 or cuda:0,cuda:1; the same GPU twice "
        "computes both halves at once (default: the first GPU, else cpu:0)",
    )
    placement.add_argument(
        "--memory-limit",
        type=byte_count,
        metavar="SIZE",
        help="what the net may take on each device, such as 3GiB (default: what it has)",
    )


def add_on_error(command: CommandParser) -> None:
    """What becomes of images that cannot be read; :class:`Skipped` keeps account of them."""
    command.add_argument(
        "--on-error",
        choices=get_args(StopOrSkip),
        default="stop",
        help="what an image does that cannot be read; those skipped are named, and the exit status is "
        f"{WRONG_INPUT} (default: %(default)s)",
    )


class Skipped:
    """The images that a command left out, since they cannot be read.

    Attributes:
        on_error: what a function that reads images takes by this name.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        """Leave images out if the arguments say so."""
        self._command = options.command
        self._errors: dict[str, None] = {}  # each once, though some images are read for several ends
        self.on_error: OnError = self._add if options.on_error == "skip" else "stop"

    def _add(self, error: DataError | str) -> None:
        self._errors[str(error)] = None

    def exit_status(self, errors: Iterable[DataError | str] = ()) -> int:
        """Name all on standard error, and ``errors`` too; the command's exit status."""
        for error in errors:
            self._add(error)
        for text in self._errors:
            tell(printable(f"pyalexnet {self._command}: skipped: {text}"), on_stderr=True)
        count = len(self._errors)
        if count:
            images = "1 image" if count == 1 else f"{count:,} images"
            tell(printable(f"pyalexnet {self._command}: {images} skipped"), on_stderr=True)
        return WRONG_INPUT if count else 0


def add_quiet(command: CommandParser) -> None:
    """Whether progress is shown."""
    command.add_argument("--quiet", action="store_true", help="show no progress")


def fraction_or_name(text: str) -> float | str:
    """A number, or what is none."""
    try:
        return float(text)
    except ValueError:
        return text


def factors(text: str) -> dict[str, float]:
    """Numbers by name, such as ``conv1=0,fc8=2``."""
    try:
        named = [(name.strip(), float(factor)) for name, factor in (part.split("=") for part in text.split(","))]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of factors such as conv1=0,fc8=2") from None
    names = [name for name, _ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise argparse.ArgumentTypeError(f"{text!r} names {twice[0]} twice")
    return dict(named)


def byte_count(text: str) -> int:
    """A size, such as ``3GiB``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give bytes, or a number with a unit, like 3GiB")
    size = float(match[1]) * _SIZE_UNITS[match[2].upper()]
    if size >= _TOO_LARGE:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is {size:g} bytes; no device has so many")
    return int(size)


_KINDS: dict[Any, Callable[[str], Any]] = {int: int, float: float, dict[str, float]: factors}
