"""``pyalexnet figure``: the paper's figures, of one's own net."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyalexnet.cli.arguments import (
    DATA_HELP,
    OWN_HELD_OUT,
    OWN_TRAINING,
    Skipped,
    add_batch_size,
    add_command,
    add_layer,
    add_model,
    add_on_error,
    add_placement,
    add_quiet,
    add_views,
    open_model,
)
from pyalexnet.cli.output import print_tables, require_outputs, table_of
from pyalexnet.cli.parser import CommandParser, Commands
from pyalexnet.data.dataset import Dataset, image_names, remarks_on
from pyalexnet.data.folder import find_image_files
from pyalexnet.data.opening import as_dataset, as_test_dataset
from pyalexnet.data.readable import readable
from pyalexnet.data.subset import sample
from pyalexnet.evaluation.neighbours import find_neighbours
from pyalexnet.evaluation.occlusion import occlusion_maps, places_of
from pyalexnet.evaluation.own_data import held_out_images, training_images
from pyalexnet.evaluation.predict import as_images
from pyalexnet.evaluation.projection import DEFAULT_UNITS as DEFAULT_PROJECTIONS
from pyalexnet.evaluation.projection import RULES, project_units
from pyalexnet.evaluation.strongest import DEFAULT_UNITS, find_strongest
from pyalexnet.net.classifier import Classifier
from pyalexnet.system.progress import Display
from pyalexnet.training.record import load_run

Pixels = npt.NDArray[np.uint8]


def add(commands: Commands) -> None:
    """Add the command and its figures."""
    command = commands.add_parser(
        "figure", help="draw filters, what units and classes go by, predictions, neighbours or learning curves"
    )
    figures = command.add_subparsers(title="figures", dest="figure", metavar="FIGURE", required=True)
    _add_filters(figures)
    _add_units(figures)
    _add_occlusion(figures)
    _add_deconv(figures)
    _add_predictions(figures)
    _add_neighbours(figures)
    _add_curves(figures)


def _add_filters(figures: Commands) -> None:
    command = add_command(
        figures,
        "filters",
        _draw_filters,
        "conv1's filters, tower 0 above tower 1, and how far each is from grey",
        "Draw conv1's filters, tower 0 above tower 1 (the paper's figure 3), with the colour index of each: 0 is grey, "
        "1 colour alone, 0.82 what random weights have.",
    )
    add_model(command)
    _add_out(command)
    add_placement(command)


def _add_units(figures: Commands) -> None:
    command = add_command(
        figures,
        "units",
        _draw_units,
        "units of a layer, each with the parts of images that excite it most",
        "Draw units of a layer, each with the images of DATA in which it is most active: of each image the part that "
        "the unit sees at its strongest position.",
    )
    add_model(command)
    command.add_argument(
        "where",
        nargs="?",
        metavar="DATA",
        help=f"where to look: {DATA_HELP}; of what comes in two parts, the held-out one (default: {OWN_HELD_OUT})",
    )
    _add_out(command)
    add_layer(command, default="conv5")
    _add_units_option(command, f"the {DEFAULT_UNITS} most active")
    command.add_argument("--count", type=int, default=9, metavar="N", help="images each (default: %(default)s)")
    add_batch_size(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def _add_occlusion(figures: Commands) -> None:
    command = add_command(
        figures,
        "occlusion",
        _draw_occlusion,
        "images with a class's probability while a square covers one place after the other",
        "Draw images beside maps of how probable their class is while a grey square covers one place after the other "
        "(Zeiler & Fergus 2014, figure 6).",
    )
    add_model(command)
    _add_out(command)
    _add_images(command, 4, OWN_HELD_OUT)
    command.add_argument(
        "--class",
        dest="label",
        metavar="NAME",
        help="whose probability (default: of each image the most probable class)",
    )
    for name, default, text in (
        ("size", 48, "pixels of the square, in height and width"),
        ("stride", 12, "pixels from one place to the next"),
        ("grey", 128, "of the square, from 0, black, to 255, white"),
    ):
        command.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    add_batch_size(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def _add_deconv(figures: Commands) -> None:
    command = add_command(
        figures,
        "deconv",
        _draw_deconv,
        "images with what in them excites units of a layer",
        "Draw what in images excites units of a layer: each unit's strongest activation, taken back to the pixels as a "
        "deconvnet does (Zeiler & Fergus 2014, section 2.1).",
    )
    add_model(command)
    _add_out(command)
    _add_images(command, 2, OWN_HELD_OUT)
    add_layer(command, default="conv5")
    _add_units_option(command, f"of each image the {DEFAULT_PROJECTIONS} most active")
    command.add_argument(
        "--rule",
        choices=RULES,
        default=RULES[0],
        help="what passes back through a ReLU. deconv: what is above 0; gradient: what comes where the ReLU let pass; "
        "guided: both (default: %(default)s)",
    )
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def _add_predictions(figures: Commands) -> None:
    command = add_command(
        figures,
        "predictions",
        _draw_predictions,
        "images with their five most probable classes",
        "Draw images with the bars of their five most probable classes (the paper's figure 4, left).",
    )
    add_model(command)
    _add_out(command)
    _add_images(command, 8, OWN_HELD_OUT)
    add_views(command)
    add_batch_size(command)
    add_on_error(command)
    add_placement(command)


def _add_neighbours(figures: Commands) -> None:
    command = add_command(
        figures,
        "neighbours",
        _draw_neighbours,
        "images, each with the most similar ones of a data set",
        "Draw images, each with those of DATA that are nearest in a layer's outputs (the paper's figure 4, right).",
    )
    add_model(command)
    command.add_argument(
        "where", nargs="?", metavar="DATA", help=f"where to look: {DATA_HELP} (default: {OWN_TRAINING})"
    )
    _add_out(command)
    _add_images(command, 5, f"DATA; without DATA {OWN_HELD_OUT}", metavar="QUERY")
    command.add_argument("--count", type=int, default=6, metavar="N", help="neighbours each (default: %(default)s)")
    add_layer(command)
    add_batch_size(command)
    add_on_error(command)
    add_quiet(command)
    add_placement(command)


def _add_curves(figures: Commands) -> None:
    command = add_command(figures, "curves", _draw_curves, "a run's loss and error, with the learning rate's changes")
    command.add_argument("folder", metavar="RUN", help="a run's folder")
    _add_out(command)


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", metavar="FILE", help="the file to write; its name ends in .png, .svg or .pdf")


def _require_out(options: argparse.Namespace) -> None:
    from pyalexnet.study.figures import require_format

    require_format(options.out)
    require_outputs(options.out)


def _add_units_option(command: CommandParser, default: str) -> None:
    command.add_list(
        "--units",
        _unit,
        continues=str.isdecimal,
        metavar="NUMBERS",
        help=f"which of the layer's units, from 0 on, tower 0's first (default: {default})",
    )


def _unit(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number of a unit")
    return int(text)


def _add_images(command: argparse.ArgumentParser, count: int, default: str, metavar: str = "IMAGE") -> None:
    """Images to draw: those that are named, or some of a data set's."""
    command.add_argument("images", nargs="*", metavar=metavar, help="image files, or folders of them")
    command.add_argument(
        "--from",
        dest="data",
        metavar="DATA",
        help=f"take images of this data, classes by turns, with their labels: {DATA_HELP}; of what comes in two parts, "
        f"the held-out one (default: {default})",
    )
    command.add_argument("--sample", type=int, default=count, metavar="N", help="how many (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default: %(default)s)")


def _draw_filters(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import filter_pictures, save_figure
    from pyalexnet.study.figures.filters import RANDOM_COLOUR_INDEX, colour_by_tower

    _require_out(options)
    model = open_model(options)
    save_figure(filter_pictures(model), options.out)
    rows = [
        (
            f"{found.tower}",
            *(f"{index:.2f}" for index in (found.median, min(found.values), max(found.values))),
            f"{found.learned_count} of {len(found.values)}",
            f"{found.learned_median:.2f}" if found.learned_count else "",
        )
        for found in colour_by_tower(model)
    ]
    print_tables(
        table_of(("tower", "median colour index", "lowest", "highest", "have learned", "their median"), rows, text=[0]),
        f"0: grey, 1: colour alone, {RANDOM_COLOUR_INDEX:.2f}: random weights",
    )
    return 0


def _draw_units(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import save_figure, unit_rows

    _require_out(options)
    skipped = Skipped(options)
    model = open_model(options)
    data = held_out_images(model) if options.where is None else as_test_dataset(options.where)
    with Display(enabled=not options.quiet) as display:
        data = _to_search(data, skipped, display)
        found = find_strongest(
            model,
            data,
            options.layer,
            units=options.units,
            count=options.count,
            batch_size=options.batch_size,
            on_images=display.advance,
        )
    save_figure(unit_rows(found, data, crop=model.net.options.crop), options.out)
    return skipped.exit_status()


def _draw_occlusion(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import occlusion_panel, save_figure

    _require_out(options)
    skipped = Skipped(options)
    model = open_model(options)
    images, _ = _chosen(options, model, skipped)
    with Display(enabled=not options.quiet) as display:
        display.begin("computing", len(images) * len(places_of(model.net.options.crop, options.stride)))
        found = occlusion_maps(
            model,
            list(images),
            label=options.label,
            size=options.size,
            stride=options.stride,
            grey=options.grey,
            batch_size=options.batch_size,
            on_images=display.advance,
        )
    save_figure(occlusion_panel(list(images), found), options.out)
    return skipped.exit_status()


def _draw_deconv(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import projection_panel, save_figure

    _require_out(options)
    skipped = Skipped(options)
    model = open_model(options)
    images = list(_chosen(options, model, skipped)[0])
    with Display(enabled=not options.quiet) as display:
        display.begin("computing", len(images))
        found = project_units(
            model, images, options.layer, units=options.units, rule=options.rule, on_images=display.advance
        )
    save_figure(projection_panel(images, found, crop=model.net.options.crop), options.out)
    return skipped.exit_status()


def _draw_predictions(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import prediction_panel, save_figure

    _require_out(options)
    skipped = Skipped(options)
    model = open_model(options)
    images, labels = _chosen(options, model, skipped)
    panel = prediction_panel(model, list(images), labels, views=options.views, batch_size=options.batch_size)
    save_figure(panel, options.out)
    return skipped.exit_status()


def _draw_neighbours(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import neighbour_rows, save_figure

    if options.where is not None and _names_figure(options.where):  # the file to write, and then come the images
        options.images.insert(0, options.out)
        options.where, options.out = None, options.where
    _require_out(options)
    skipped = Skipped(options)
    model = open_model(options)
    images, labels = _chosen(options, model, skipped, default=options.where)
    data = training_images(model) if options.where is None else as_dataset(options.where)
    with Display(enabled=not options.quiet) as display:
        data = _to_search(data, skipped, display)
        found = find_neighbours(
            model,
            list(images),
            data,
            count=options.count,
            layer=options.layer,
            batch_size=options.batch_size,
            on_images=display.advance,
        )
    save_figure(neighbour_rows(list(images), found, data, labels), options.out)
    return skipped.exit_status()


def _draw_curves(options: argparse.Namespace) -> int:
    from pyalexnet.study.figures import learning_curves, save_figure

    _require_out(options)
    save_figure(learning_curves(load_run(options.folder)), options.out)
    return 0


def _to_search(data: Dataset, skipped: Skipped, display: Display) -> Dataset:
    """What of a data set can be read; the display then stands before a search of it."""
    display.lines(remarks_on(data))
    data = readable(data, skipped.on_error, on_stage=display.begin, on_images=display.advance)
    display.begin("searching", len(data))
    return data


def _names_figure(text: str) -> bool:
    from pyalexnet.study.figures import FORMATS

    return Path(text).suffix.removeprefix(".").lower() in FORMATS and not Path(text).is_dir()


def _chosen(
    options: argparse.Namespace, model: Classifier, skipped: Skipped, default: str | None = None
) -> tuple[Pixels, list[str] | None]:
    """The images that the arguments name, or some of a data set's with their labels."""
    if options.images and options.data:
        raise ValueError(f"--from is {options.data!r}; it must be left out where images are named")
    if options.images:
        return as_images(image_names(readable(find_image_files(*options.images), skipped.on_error))), None
    data = options.data or default
    dataset = held_out_images(model) if data is None else as_test_dataset(data)
    dataset = readable(dataset, skipped.on_error)
    images, labels = dataset.batch(sample(dataset, options.sample, seed=options.seed))
    return images, [dataset.classes[label] for label in labels]
