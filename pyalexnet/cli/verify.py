"""``pyalexnet verify``: whether a model file is what was written, and computes here what it did there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pyalexnet.cli.arguments import add_command, add_model, add_placement
from pyalexnet.cli.output import print_tables, table_of
from pyalexnet.cli.parser import Commands
from pyalexnet.cli.status import FAILED
from pyalexnet.errors import ModelFileError
from pyalexnet.net.model_file import Verification, verify_model
from pyalexnet.net.origin import RunOrigin
from pyalexnet.net.proof import Accuracy
from pyalexnet.system.names import printable
from pyalexnet.system.progress import tell

_NOT_TOLD = "not told"


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "verify",
        run,
        "check a model file: its checksum, what it computes here, where it came from",
        "Check the checksum of a model file, compute the logits of a known image and compare them with those that were "
        "written with it, and tell where the model came from and how accurate it was. The exit status is "
        f"{FAILED} where the file is damaged or does not prove itself.",
    )
    add_model(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Check and tell."""
    try:
        found = verify_model(options.model, devices=options.devices, memory_limit=options.memory_limit)
    except ModelFileError as error:
        return _refused(str(error))
    print_tables(table_of(("", "", "holds"), list(_rows(found)), text=(0, 1, 2), title=str(found.path)))
    return _refused(f"{found.path}: {found.problem}") if found.problem else 0


def _refused(reason: str) -> int:
    tell(printable(f"pyalexnet verify: {reason}"), on_stderr=True)
    return FAILED


def _rows(found: Verification) -> Iterator[tuple[str, str, str]]:
    """What, how it is, and whether it holds."""
    proof = found.about.proof
    if proof is None:
        yield "checksum", f"CRC-32 {found.about.checksum:08x}; no SHA-256, as in files of earlier versions", "yes"
        yield "logits", _NOT_TOLD, "no"
        yield "from", _NOT_TOLD, ""
        yield "accuracy", _NOT_TOLD, ""
        return
    yield "checksum", f"SHA-256 {proof.sha256}", "yes"
    if found.logits is None:
        yield "logits", _NOT_TOLD, "no"
    else:
        here = " and ".join(found.model.net.devices)
        yield (
            "logits",
            f"differ by {found.logits.difference:.1e} of the largest, rounding allows {found.logits.tolerance:.1e}; "
            f"written on {proof.device}, computed again on {here}",
            "yes" if found.logits.holds else "no",
        )
    run, files = proof.origin.run, proof.origin.files
    yield "from", _NOT_TOLD if run is None else _told(run), ""
    for file in files:
        yield "converted from", f"{file.name} ({file.format}), SHA-256 {file.sha256}", ""
    for each in proof.measured:
        yield "accuracy", _measured(each), ""
    if not proof.measured:
        yield "accuracy", _NOT_TOLD, ""
    yield "written by", f"pyalexnet {proof.version}, after {found.about.step:,} steps", ""


def _told(run: RunOrigin) -> str:
    """A run in a line; the file has all its settings."""
    data, settings = run.data, run.settings
    held_out = data.held_out.images if data.held_out else 0
    named = ("epochs", "batch_size", "lr", "seed")
    asked = ", ".join(f"{name} {settings[name]}" for name in named if name in settings)
    recipe = f"; recipe: {settings['recipe']}" if "recipe" in settings else ""
    return (
        f"a run on {data.source or 'images without a name'}: {data.training.images:,} images, {held_out:,} held out; "
        f"{asked}{recipe}"
    )


def _measured(accuracy: Accuracy) -> str:
    views = "one view" if accuracy.views == 1 else f"{accuracy.views} views"
    return f"{1 - accuracy.top1_error:.2%} of {accuracy.images:,} images, {accuracy.data}; {views}"
