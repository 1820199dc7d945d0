"""A run in one HTML file that needs nothing else: curves, errors, figures, ledger, settings, times and memory."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from io import BytesIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from pyalexnet.system.extras import importing_extra

with importing_extra():
    import jinja2  # before figures, whose library the extra of reports brings too

from pyalexnet.architecture import Options
from pyalexnet.data import Dataset, DataSource, Subset
from pyalexnet.data.augmentation import require_views
from pyalexnet.data.dataset import remarks_on
from pyalexnet.data.opening import as_dataset, as_test_dataset
from pyalexnet.data.readable import OnError, readable, require_on_error
from pyalexnet.data.subset import sample
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.neighbours import find_neighbours
from pyalexnet.evaluation.own_data import data_of_run
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import CONFIDENCE, ClassResult, Evaluation, Interval
from pyalexnet.net.model_file import MODEL_FILE, load_model
from pyalexnet.net.network import AlexNet
from pyalexnet.net.timing import Stopwatch
from pyalexnet.study.figures import encoded, filter_pictures, learning_curves, neighbour_rows, prediction_panel
from pyalexnet.study.figures.filters import RANDOM_COLOUR_INDEX, colour_by_tower
from pyalexnet.study.ledger import LEDGER, SOURCES, Row
from pyalexnet.system.checks import as_path, at_least, callback, flag
from pyalexnet.system.files import require_writable, write_atomically
from pyalexnet.system.names import printable, shorten
from pyalexnet.system.progress import duration
from pyalexnet.system.ranks import working_alone
from pyalexnet.training.record import RunRecord, load_run
from pyalexnet.training.result import BEST_FILE
from pyalexnet.training.schedule import make_schedule, summary
from pyalexnet.training.settings import Settings
from pyalexnet.training.state import EpochRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SECTIONS = (
    ("curves", "Learning curves"),
    ("errors", "Errors"),
    ("figures", "Figures"),
    ("ledger", "Ledger"),
    ("settings", "Settings and data"),
    ("times", "Layer times"),
    ("memory", "Memory plan"),
)

# Of more classes than this the worst are shown, and no table of which is taken for which.
_FEW = 20

# Characters of a class's name that are shown.
_NAME = 60

_HISTORY_HEADINGS = ("epoch", "steps", "rate", "training loss", "held-out loss", "accuracy", "images/s", "time")

_SHOWN_IMAGES, _QUERIES, _SEARCHED = 8, 5, 5000
_REPEATS = 3


class Drawn(NamedTuple):
    """A figure as the page shows it; width and height in CSS pixels."""

    base64: str
    width: int
    height: int
    alt: str
    caption: str


class Images(NamedTuple):
    """The images that the page shows: some are judged, and among the others their neighbours are searched."""

    judged: Dataset
    judged_name: str
    searched: Dataset
    searched_name: str


class LedgerLine(NamedTuple):
    """A row of the ledger, filled in by a run."""

    what: str
    setting: str
    value: str
    sources: str
    paper: str
    as_paper: bool


def write_report(
    path: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    data: DataSource | None = None,
    best: bool = False,
    views: int = 1,
    overlap: bool | None = None,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    timing: bool = True,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    on_error: OnError = "stop",
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> None:
    """Write a run's report, whole or not at all.

    Args:
        path: the HTML file.
        folder: the run's, ``out`` of :func:`pyalexnet.train`.
        data: the images, named as for :func:`pyalexnet.train`; by default the run's own, where they have a name.
            Without images there are no errors, predictions and neighbours.
        best: show the net of the best epoch instead of the last.
        views: crops by which each held-out image is judged, as in :func:`pyalexnet.evaluate`.
        overlap: whether to find out which of the images judged the model learned from, as in
            :func:`pyalexnet.evaluate`.
        limit: how many held-out images are judged at most, a random part (default: all).
        batch_size: images that the net computes at a time.
        timing: whether to measure the layers' times, on a net of the same kind, with the run's batch size.
        devices: where the nets compute; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that a net may take on each device; by default what the device has.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_stage: called with what begins.

    Raises:
        DataError: the folder holds no run, or ``data`` cannot serve.
        TypeError: an argument is of another type.
        ModelFileError: the run's model is damaged.
        FileNotFoundError: the run's folder has no model.
        ValueError: an argument makes no sense.
        OSError: the file cannot be written; what was there before is unchanged.
        OutOfMemoryError: a net does not fit.
    """
    limit = None if limit is None else at_least("limit", limit, 1)
    views, batch_size = require_views(views), at_least("batch_size", batch_size, 1)
    best, timing = flag("best", best), flag("timing", timing)
    overlap = None if overlap is None else flag("overlap", overlap)
    require_on_error(on_error)
    callback("on_stage", on_stage)
    require_writable(as_path("path", path))
    run = load_run(folder)
    model = load_model(run.folder / (BEST_FILE if best else MODEL_FILE), devices=devices, memory_limit=memory_limit)
    chosen, no_data = _data(model, data, on_error)
    context = _about_run(run, model, views) | {"no_data": no_data, "errors": None, "times": None}
    found = None
    for line in remarks_on(chosen.judged, chosen.searched) if chosen else ():
        on_stage(line)
    on_stage("drawing filters")
    context["figures"] = [_filters(model)]
    if chosen is not None:
        found = _judged(model, chosen.judged, limit, views, batch_size, overlap, on_stage)
        context["errors"] = _errors(found, chosen.judged_name)
        on_stage("drawing predictions and neighbours")
        context["figures"] += _image_figures(model, chosen, batch_size)
    context["numbers"] = list(_numbers(run, found))
    if timing:
        on_stage("timing layers")
        context["times"] = _times(model, run.settings.batch_size, memory_limit)
    write_atomically(path, _page(context))


def _about_run(run: RunRecord, model: Classifier, views: int) -> dict[str, Any]:
    """What the page shows of a run without a look at its images."""
    return {
        "title": f"AlexNet: {run.folder.resolve().name}",
        "subtitle": _subtitle(run, model),
        "sections": _SECTIONS,
        "curves": _drawn(
            learning_curves(run), "Loss and held-out error over the steps", "Each dotted line is a change of rate."
        ),
        "history": [_history_row(record) for record in run.history],
        "history_headings": _HISTORY_HEADINGS,
        "ledger": [_ledger_line(row, run.settings, views) for row in LEDGER if row.setting],
        "settings": list(_settings_rows(run)),
        "memory": str(model.net.plan(run.settings.batch_size)).splitlines(),
    }


def _judged(
    model: Classifier,
    images: Dataset,
    limit: int | None,
    views: int,
    batch_size: int,
    overlap: bool | None,
    on_stage: Callable[[str], None],
) -> Evaluation:
    """How often the net is right on images, or on a random part of them."""
    with working_alone():
        return evaluate(
            model,
            _limited(images, limit),
            views=views,
            batch_size=batch_size,
            overlap=overlap,
            on_stage=lambda stage, count: on_stage(f"{stage}: {count:,} images"),
        )


def _page(context: dict[str, Any]) -> bytes:
    """The HTML file that shows all this."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyalexnet.study"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html").render(context).encode()


def _shown(value: object) -> object:
    """A text without control characters, nor what changes the direction of writing; HTML is escaped by Jinja."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _data(model: Classifier, data: DataSource | None, on_error: OnError) -> tuple[Images | None, str]:
    """The images to show and judge by, or why there are none."""
    if data is not None:
        name = fspath(data) if isinstance(data, str | PathLike) else "the data given"
        judged, searched = (readable(opened(data), on_error) for opened in (as_test_dataset, as_dataset))
        return Images(judged, f"images of {name}", searched, f"images of {name}"), ""
    try:
        own = data_of_run(model)
    except DataError as error:
        return None, f"The run's images are not at hand: {error}."
    if own.held_out is None:
        return Images(own.training, "training images, as none were held out", own.training, "training images"), ""
    return Images(own.held_out, "held-out images", own.training, "training images"), ""


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    if limit is None or limit >= len(dataset):
        return dataset
    return Subset(dataset, np.sort(sample(dataset, limit)))


# Pieces of the page ------------------------------------------------------------------------------------------------


def _subtitle(run: RunRecord, model: Classifier) -> str:
    epochs = len(run.history)
    return (
        f"{run.stopped} after {epochs} of {run.settings.epochs} epochs, {run.steps:,} steps; the net shown is that of "
        f"step {model.net.step:,}. pyalexnet {version('pyalexnet')}"
    )


def _numbers(run: RunRecord, found: Evaluation | None) -> Iterator[tuple[str, str]]:
    if found:
        yield "top-1 error", f"{found.top1_error:.2%}"
        if found.unseen:
            yield "top-1 error of images not trained on", f"{found.unseen.top1_error:.2%}"
        yield "top-5 error", f"{found.top5_error:.2%}"
        yield "images judged", f"{found.count:,}"
    elif run.best and run.best.validation_error is not None:
        yield "lowest held-out error", f"{run.best.validation_error:.2%}"
    yield "steps", f"{run.steps:,}"
    if run.history:
        yield "training", duration(sum(record.seconds for record in run.history))
        speeds = [record.images_per_second for record in run.history]
        yield "images a second", f"{statistics.median(speeds):.1f}"


def _history_row(record: EpochRecord) -> tuple[str, ...]:
    return (
        str(record.epoch),
        f"{record.steps:,}",
        f"{record.lr:g}",
        f"{record.train_loss:.4f}",
        "" if record.validation_loss is None else f"{record.validation_loss:.4f}",
        "" if record.validation_accuracy is None else f"{record.validation_accuracy:.2%}",
        f"{record.images_per_second:.1f}",
        duration(record.seconds),
    )


def _errors(found: Evaluation, which: str) -> dict[str, object]:
    results = [one for one in found.by_class() if one.count]
    shown = results if len(results) <= _FEW else sorted(results, key=lambda one: -one.top1_error)[:_FEW]
    views = f"{found.views} {'view' if found.views == 1 else 'views'} each"
    unseen = f"; the {found.unseen.count:,} others alone: {_totals(found.unseen)}" if found.unseen else ""
    return {
        "sentence": f"{found.count:,} {which}, {views}: {_totals(found)}. Intervals hold {CONFIDENCE:.0%}.",
        "overlap": f"{found.overlap}{unseen}.",
        "classes": [_class_row(one) for one in shown],
        "left_out": f"The {_FEW} worst of {len(results)} classes." if len(shown) < len(results) else "",
        "names": [shorten(name, _NAME) for name in found.classes],
        "confusion": found.confusion[:, : len(found.classes)].tolist() if len(found.classes) <= _FEW else None,
    }


def _totals(found: Evaluation) -> str:
    return (
        f"top-1 error {found.top1_error:.2%} ({_interval(found.top1_interval)}), top-5 error {found.top5_error:.2%} "
        f"({_interval(found.top5_interval)}), loss {found.loss:.4f}"
    )


def _class_row(one: ClassResult) -> tuple[str, ...]:
    return (
        shorten(one.name, _NAME),
        f"{one.count:,}",
        f"{one.top1_error:.2%}",
        _interval(one.top1_interval),
        f"{one.top5_error:.2%}",
        _interval(one.top5_interval),
    )


def _interval(interval: Interval) -> str:
    return f"{interval.low:.2%} to {interval.high:.2%}"


def _filters(model: Classifier) -> Drawn:
    medians = " and ".join(f"{tower.median:.2f} (tower {tower.tower})" for tower in colour_by_tower(model))
    return _drawn(
        filter_pictures(model),
        "conv1's filters, tower by tower, and the colour index of each",
        f"conv1's filters. Their colour index, 0 for grey and 1 for colour alone, has the median {medians}; random "
        f"weights have {RANDOM_COLOUR_INDEX:.2f}.",
    )


def _image_figures(model: Classifier, chosen: Images, batch_size: int) -> list[Drawn]:
    images, labels = chosen.judged.batch(sample(chosen.judged, _SHOWN_IMAGES))
    names = [chosen.judged.classes[label] for label in labels]
    panel = prediction_panel(model, list(images), names, batch_size=batch_size)
    searched = _limited(chosen.searched, _SEARCHED)
    queries, query_names = list(images[:_QUERIES]), names[:_QUERIES]
    found = find_neighbours(model, queries, searched, batch_size=batch_size)
    rows = neighbour_rows(queries, found, searched, query_names)
    return [
        _drawn(
            panel,
            "images, each with bars for its five most probable classes",
            f"Some {chosen.judged_name}, with the net's five most probable classes; orange is right.",
        ),
        _drawn(
            rows,
            "images, each with the ones nearest to it",
            f"The same images with the nearest of {len(searched):,} {chosen.searched_name}, by the Euclidean distance "
            "between fc7's outputs, written below the class.",
        ),
    ]


def _drawn(figure: Figure, alt: str, caption: str) -> Drawn:
    content = encoded(figure, "png")
    with Image.open(BytesIO(content)) as image:
        width, height = image.size
    return Drawn(base64.b64encode(content).decode(), 2 * width // 3, 2 * height // 3, alt, caption)


def _ledger_line(row: Row, settings: Settings, views: int) -> LedgerLine:
    values = vars(settings) | vars(Options(**settings.net_options)) | {"views": views}
    value = values[row.setting]
    sources = [source for source in SOURCES if _does(row, source, value, settings)]
    paper = row.ways["paper"]
    return LedgerLine(
        what=row.what,
        setting=row.setting,
        value=_readable(value),
        sources=", ".join(SOURCES[source] for source in sources) or "none of the sources",
        paper=paper.text,
        as_paper="paper" in sources,
    )


def _does(row: Row, source: str, value: object, settings: Settings) -> bool:
    way = row.ways[source].value
    if way is None:
        return False
    if row.setting == "schedule":
        return bool(make_schedule(way, lr=settings.lr).description == value)
    return bool(way == value)


def _settings_rows(run: RunRecord) -> Iterator[tuple[str, str]]:
    for name, value in asdict(run.settings).items():
        if name != "net_options":
            yield name, _readable(value)
    for name, value in asdict(Options(**run.settings.net_options)).items():
        yield name, _readable(value)
    yield "data", run.data["source"] or "arrays"
    for part, name in ((run.data["training"], "training images"), (run.data["held_out"], "held-out images")):
        images, classes = (part["images"], len(part["classes"])) if part else (0, 0)
        yield name, f"{images:,} of {classes:,} classes"


def _readable(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return summary(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "not set" if value is None else str(value)


def _times(model: Classifier, batch_size: int, memory_limit: int | None) -> dict[str, object]:
    net = AlexNet(
        model.net.num_classes, devices=model.net.devices, memory_limit=memory_limit, **vars(model.net.options)
    )
    watch = Stopwatch(net, batch_size)
    timings, peak_gflops = watch.time_layers(_REPEATS)
    step_ms = statistics.median(watch.time_step() for _ in range(_REPEATS))
    return {
        "sentence": (
            f"Batch {batch_size} on {' and '.join(net.devices)} ({watch.cores} cores of {watch.description}), medians "
            f"of {_REPEATS}, ± the width of the middle half; a whole step takes {step_ms:.0f} ms, "
            f"{1e3 * batch_size / step_ms:.1f} images/s. Peak: {peak_gflops:.0f} GFLOP/s of multiply-adds, measured."
        ),
        "rows": [
            (
                row.name,
                row.direction,
                f"{row.ms:.1f}",
                f"{row.spread_ms:.1f}",
                f"{row.gflops:.0f}",
                f"{row.gb_per_s:.1f}",
                f"{row.peak_fraction:.0%}",
            )
            for row in timings
        ],
    }
