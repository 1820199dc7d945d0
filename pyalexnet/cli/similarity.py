"""``pyalexnet similarity``: how alike layers are, of one net or of two."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from pyalexnet.cli.arguments import (
    DATA_HELP,
    OWN_HELD_OUT,
    Skipped,
    add_batch_size,
    add_command,
    add_on_error,
    add_placement,
    add_quiet,
    is_layer,
    open_model,
)
from pyalexnet.cli.output import add_output, print_tables, require_outputs, table_of, write_rows
from pyalexnet.cli.parser import Commands
from pyalexnet.data.dataset import remarks_on
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.readable import readable
from pyalexnet.evaluation.choices import COMPARED_LAYERS, DISTANCES, MEASURE_NAMES, MEASURES
from pyalexnet.evaluation.own_data import held_out_images
from pyalexnet.net.model_file import MODEL_FILE, load_model
from pyalexnet.system.files import file_written_atomically
from pyalexnet.system.progress import Display

if TYPE_CHECKING:
    from pyalexnet.evaluation.choices import Measure
    from pyalexnet.evaluation.similarity import Similarity


def add(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "similarity",
        run,
        "compare what layers compute, of one net or of two",
        "Compare layers of a net with each other, or with those of another net, by what they compute of the same "
        "images: linear centred kernel alignment (CKA), unbiased and plain, and representational similarity analysis "
        "(RSA), Spearman's correlation of their dissimilarity matrices. A table shows one measure; CSV and JSON have "
        "all.",
    )
    for name, text in (("model", "a"), ("other", "another")):
        command.add_argument(
            name,
            metavar=name.upper(),
            nargs="?" if name == "other" else None,
            help=f"{text} model file that train wrote, or a run's folder, for its {MODEL_FILE}",
        )
    command.add_argument(
        "--from",
        dest="data",
        metavar="DATA",
        help=f"take images of this data: {DATA_HELP}; of what comes in two parts, the held-out one (default: "
        f"{OWN_HELD_OUT})",
    )
    command.add_argument(
        "--sample", type=int, default=200, metavar="N", help="how many, classes by turns (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: %(default)s)")
    command.add_list(
        "--layers",
        str,
        continues=is_layer,
        default=list(COMPARED_LAYERS),
        metavar="NAMES",
        help=f"as features takes them (default: {', '.join(COMPARED_LAYERS)})",
    )
    command.add_argument(
        "--measure", choices=MEASURES, default="cka", help="what table and figure show (default: %(default)s)"
    )
    command.add_argument(
        "--distance", choices=DISTANCES, default="correlation", help="between images, for RSA (default: %(default)s)"
    )
    command.add_argument(
        "--figure",
        metavar="FILE",
        help="draw dissimilarity matrices and the table; its name ends in .png, .svg or .pdf",
    )
    command.add_argument("--rdms", metavar="FILE.npz", help="write the dissimilarity matrices, for numpy.load")
    add_output(command)
    add_batch_size(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def run(options: argparse.Namespace) -> int:
    """Compare, show and write."""
    from pyalexnet.evaluation.similarity import compare_nets

    if options.rdms is not None and not options.rdms.endswith(".npz"):
        raise ValueError(f"--rdms is {options.rdms!r}; its name must end in .npz")
    if options.figure is not None:
        from pyalexnet.study.figures import require_format

        require_format(options.figure)
    require_outputs(options.rdms, options.figure, options.output)
    skipped = Skipped(options)
    model = open_model(options)
    other = None
    if options.other is not None:
        other = load_model(options.other, devices=options.devices, memory_limit=options.memory_limit)
    data = held_out_images(model) if options.data is None else as_test_dataset(options.data)
    with Display(enabled=not options.quiet, on_stderr=True) as display:
        display.lines(remarks_on(data))
        data = readable(data, skipped.on_error, on_stage=display.begin, on_images=display.advance)
        display.begin("computing", min(options.sample, len(data)) * (1 if other is None else 2))
        found = compare_nets(
            model,
            other,
            data,
            layers=options.layers,
            distance=options.distance,
            count=options.sample,
            seed=options.seed,
            batch_size=options.batch_size,
            on_images=display.advance,
        )
    if options.rdms is not None:
        _write_rdms(options.rdms, found)
    if options.figure is not None:
        from pyalexnet.study.figures import save_figure, similarity_panel

        save_figure(similarity_panel(found, options.measure), options.figure)
    if options.format == "table" and options.output is None:
        _show(found, options.measure)
    else:
        write_rows(_rows(found), options.format, options.output)
    return skipped.exit_status()


def _rows(found: Similarity) -> list[dict[str, object]]:
    return [
        {
            "layer": layer,
            "other_layer": other,
            **{measure: float(values[row, column]) for measure, values in found.values.items()},
            "distance": found.distance,
            "images": found.count,
        }
        for row, layer in enumerate(found.layers)
        for column, other in enumerate(found.other_layers)
    ]


def _show(found: Similarity, measure: Measure) -> None:
    """The table that a person reads."""
    values = found.values[measure]
    rows = [(layer, *(f"{value:.3f}" for value in row)) for layer, row in zip(found.layers, values, strict=True)]
    of_rsa = f" ({found.distance})" if measure == "rsa" else ""
    sides = "; rows: the net, columns: the other" if found.of_two_nets else ""
    print_tables(
        table_of(("", *found.other_layers), rows, text=[0]),
        f"{MEASURE_NAMES[measure]}{of_rsa}, {found.count} images{sides}",
    )


def _write_rdms(path: str, found: Similarity) -> None:
    arrays: dict[str, Any] = {
        "names": np.array(found.names),
        "labels": found.labels,
        "classes": np.array(found.classes),
    }
    arrays |= found.rdms
    if found.of_two_nets:
        arrays |= {f"other_{name}": matrix for name, matrix in found.other_rdms.items()}
    with file_written_atomically(path) as file:
        np.savez(file, **arrays)
