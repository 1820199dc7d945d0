"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection

from pyalexnet.cli.parser import CommandParser


def parser_of(documentation: str | None) -> CommandParser:
    """A parser whose help is a script's first paragraph and tells all defaults."""
    return CommandParser(
        description=(documentation or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """What reads a device's name, of those that are here."""

    def known(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name!r} is no device here; there are {', '.join(names)}")
        return name

    return known
