"""``pyalexnet prepare``: image files of any size become shards that training reads fast."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from pyalexnet.cli.arguments import add_command, add_quiet
from pyalexnet.cli.output import say
from pyalexnet.cli.parser import Commands
from pyalexnet.data import PreparedImages
from pyalexnet.data.prepare import SHARD_SIZE, FirstLabel, Preparation
from pyalexnet.data.readable import StopOrSkip
from pyalexnet.system.machine import usable_cores
from pyalexnet.system.ranks import join_ranks


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "prepare",
        run,
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
        help="list with the class of each image: a name or number a line in the order of the images' sorted names, or "
        "columns, one of which names the images, separated by spaces, tabs, commas or semicolons",
    )
    command.add_argument(
        "--first-label",
        type=int,
        choices=get_args(FirstLabel),
        help="number of the first class, where labels are numbers (default: what they leave no doubt of)",
    )
    command.add_argument(
        "--classes",
        metavar="FILE",
        help="a folder that prepare made, or a list with a class name a line: the classes and their order "
        "(default: the names found, sorted)",
    )
    command.add_argument(
        "--on-error",
        choices=get_args(StopOrSkip),
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
    add_quiet(command)


def run(options: argparse.Namespace) -> int:
    """Prepare or, if asked, verify."""
    if options.verify:
        join_ranks().from_first(lambda: _verify(options.source))
        return 0
    if options.destination is None:
        raise ValueError("DEST is missing; it must be the folder to write")
    preparation = Preparation(
        source=Path(options.source),
        folder=Path(options.destination),
        labels=options.labels,
        classes=options.classes,
        first_label=options.first_label,
        on_error=options.on_error,
        shard_size=options.shard_size,
        workers=usable_cores() if options.workers is None else options.workers,
        progress=not options.quiet,
    )
    preparation.carry_out()
    return 0


def _verify(source: str) -> None:
    prepared = PreparedImages(source)
    prepared.verify()
    say(f"{len(prepared):,} images of {len(prepared.classes):,} classes in {source}: all as written")
