"""``pyalexnet convert``: models of other programs, and models for them."""

from __future__ import annotations

import argparse
from typing import get_args

from pyalexnet.cli.arguments import add_command
from pyalexnet.cli.parser import Commands
from pyalexnet.formats.content import Colours
from pyalexnet.formats.conversion import convert
from pyalexnet.formats.registry import FORMATS, NAMES
from pyalexnet.formats.theano_alexnet import Library
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell


def add(commands: Commands) -> None:
    """Add the command."""
    formats = (f"{each.name} ({' '.join(each.endings)}{'' if each.write else ', read only'})" for each in FORMATS)
    command = add_command(
        commands,
        "convert",
        run,
        "bring a model from one file format to another",
        "Write a model for another program, or another program's as a model file. The formats are "
        + ", ".join(formats)
        + ". Values stay bit for bit what they are; a net that cannot be what it was is refused.",
    )
    command.add_argument(
        "source", metavar="FROM", help="a model of any format, a run's folder, or that of a model in several files"
    )
    command.add_argument("path", metavar="FILE", help="the file to write, whose ending says the format")
    command.add_argument("--to", choices=NAMES, help="the format, where an ending stands for several")
    command.add_argument(
        "--mean",
        type=mean,
        metavar="FILE|R,G,B",
        help="the mean image of a model that has none: Caffe's .binaryproto, NumPy's .npy, or numbers from 0 to 255",
    )
    command.add_argument("--classes", metavar="FILE", help="names of the outputs, one a line (default: the model's)")
    command.add_argument(
        "--colours",
        choices=get_args(Colours),
        help="the order in which another program's net takes colours (default: the format's usual one)",
    )
    command.add_argument(
        "--prototxt", metavar="FILE", help="the definition of a net of Caffe (default: that of its .caffemodel)"
    )
    command.add_argument(
        "--library",
        choices=get_args(Library),
        help="what computed the convolutions of a net of theano_alexnet, its lib_conv, which its files do not tell",
    )


def run(options: argparse.Namespace) -> int:
    """Convert, and tell what there is to know."""
    remarks = convert(
        options.source,
        options.path,
        to=options.to,
        mean=options.mean,
        classes=options.classes,
        colours=options.colours,
        prototxt=options.prototxt,
        library=options.library,
    )
    for remark in (*remarks, f"written: {options.path}"):
        tell(printable(remark))
    return 0


def mean(text: str) -> str | list[float]:
    """Numbers, or the name of a file."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return text
