"""``pyalexnet features``: a layer's outputs for every image in a file, or several layers' in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyalexnet.cli.arguments import (
    DATA_HELP,
    OWN_HELD_OUT,
    OWN_TRAINING,
    Skipped,
    add_batch_size,
    add_command,
    add_model,
    add_on_error,
    add_placement,
    add_quiet,
    is_layer,
    names_of_layers,
    open_model,
)
from pyalexnet.cli.output import display_for
from pyalexnet.cli.parser import Commands
from pyalexnet.data.dataset import Dataset, remarks_on
from pyalexnet.data.folder import find_image_files
from pyalexnet.data.opening import as_dataset, as_test_dataset
from pyalexnet.data.readable import readable
from pyalexnet.evaluation.activations import save_activations
from pyalexnet.evaluation.features import DEFAULT_LAYER, save_features
from pyalexnet.evaluation.own_data import held_out_images, training_images
from pyalexnet.system.ranks import join_ranks


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "features",
        run,
        "write layers' outputs for every image into a file or folder",
        "Write what a layer computes of the centre of every image, fc7's 4096 numbers for example, into a NumPy "
        "archive: features, labels, names, classes, layer. numpy.load reads it; neighbours searches in it. Or write "
        "what several layers compute, in one pass, into a new folder: an array file a layer, which numpy.load reads "
        "with mmap_mode='r', labels.npy, names.npy and classes.npy.",
    )
    add_model(command)
    command.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help=f"{DATA_HELP}; with --files an image file, or a folder of them (default: {OWN_TRAINING}, or with "
        f"--held-out {OWN_HELD_OUT})",
    )
    command.add_argument("out", metavar="OUT", help="FILE.npz, the file to write; or a new folder")
    command.add_list(
        "--layer",
        str,
        continues=is_layer,
        default=[DEFAULT_LAYER],
        metavar="NAMES",
        help=f"{names_of_layers()}, behind ReLU; "
        f"conv1_pre to conv5_pre, fc6_pre or fc7_pre, before it; for a folder several (default: {DEFAULT_LAYER})",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--held-out", action="store_true", help="of what comes in two parts, the held-out one")
    which.add_argument("--files", action="store_true", help="DATA is an image, or a folder of images of no known class")
    add_batch_size(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Compute and write."""
    suffix, several = Path(options.out).suffix, len(options.layer) > 1
    if suffix == ".npz" and several:
        raise ValueError(f"--layer is {','.join(options.layer)}, and {options.out} holds one layer; name a new folder")
    is_folder = several or not suffix
    skipped = Skipped(options)
    data = _named_data(options)
    model = open_model(options)
    if data is None:
        data = held_out_images(model) if options.held_out else training_images(model)
    with display_for(options) as display:
        display.lines(remarks_on(data))
        data = readable(data, skipped.on_error, on_stage=display.begin, on_images=display.advance, ranks=join_ranks())
        layers = ", ".join(options.layer)
        display.begin(f"computing {layers}", len(data))
        size, advance = options.batch_size, display.advance
        if is_folder:
            save_activations(options.out, model, data, options.layer, batch_size=size, on_images=advance)
        else:
            save_features(options.out, model, data, *options.layer, batch_size=size, on_images=advance)
        display.line(f"{layers} of {len(data):,} images: {options.out}")
    return skipped.exit_status()


def _named_data(options: argparse.Namespace) -> Dataset | None:
    if options.data is None:
        if options.files:
            raise ValueError("DATA is missing; with --files it must be an image file, or a folder of them")
        return None
    if options.files:
        return find_image_files(options.data)
    return as_test_dataset(options.data) if options.held_out else as_dataset(options.data)
