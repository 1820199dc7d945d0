"""Preparation: image files of any size, from folders or tars, become a folder of shards that training reads fast.

The work goes on in shards. A shard is decoded into an unfinished file, many images at a time by all workers; it is then
finished, renamed and recorded. Whatever stops the process, recorded shards are whole, and the next run makes the rest.
The manifest comes last: a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
import io
import signal
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import features

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import IMAGE_BYTES
from pyalexnet.data.decoders import Decoders, decode_for_first
from pyalexnet.data.finding import describe_left_out
from pyalexnet.data.manifest import (
    COLOUR_AXES_FILE,
    COVARIANCE_FILE,
    FORMAT,
    FORMAT_VERSION,
    LABELS_FILE,
    MANIFEST_FILE,
    MEAN_FILE,
    NAMES_FILE,
    PLAN_FORMAT,
    REPORT_FILE,
    ColourCovariance,
    Manifest,
    Plan,
    Shard,
    json_bytes,
    read_manifest,
)
from pyalexnet.data.prepared import PreparedImages
from pyalexnet.data.readable import StopOrSkip, require_stop_or_skip
from pyalexnet.data.shard_writer import PROGRESS
from pyalexnet.data.shards import Shards
from pyalexnet.data.sources import Source, find_images
from pyalexnet.errors import DataError
from pyalexnet.system.checks import as_path, at_least, flag, integer
from pyalexnet.system.files import remove_unfinished, require_room, write_atomically
from pyalexnet.system.folder_lock import locked_folder
from pyalexnet.system.interrupt import InterruptRequest, Terminated, keyboard_interrupt
from pyalexnet.system.machine import usable_cores
from pyalexnet.system.progress import Display
from pyalexnet.system.ranks import join_ranks

SHARD_SIZE = 4096

FirstLabel: TypeAlias = Literal[0, 1]

_PLAN_FILE = f"{PROGRESS}.json"
_ROOM_FOR_SMALL_FILES = 16 * 2**20


def prepare(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    *,
    labels: str | PathLike[str] | None = None,
    classes: str | PathLike[str] | None = None,
    first_label: FirstLabel | None = None,
    on_error: StopOrSkip = "stop",
    shard_size: int = SHARD_SIZE,
    workers: int | None = None,
    progress: bool = True,
) -> PreparedImages:
    """Bring images to 256×256 once and for all: shorter side to 256, the middle kept, 8-bit RGB.

    If the process is stopped, however roughly, a further call with the same arguments continues, and the files end
    with the same bytes. They do not depend on the number of workers, nor on whether images come from folders or tars.

    Processes that a launcher of MPI started share the decoding: each is a rank, and all call this with the same
    arguments. All read ``source``; rank 0 writes and shows progress.

    Args:
        source: a folder with one subfolder or one tar file a class; a tar file of either, such as ILSVRC's training
            tar; or, with ``labels``, a folder or tar file of images. Tars are read in place.
        destination: the folder to write; new, empty, or with an earlier call's work.
        labels: a list with the class's name or number of each image: one a line in the order of the images' sorted
            names, or with a column that names the images (:mod:`pyalexnet.data.labels`).
        classes: a prepared folder or a list of class names, for classes and their order (default: the names found,
            sorted).
        first_label: the number of the first class, where labels are numbers: 0 or 1. It must be told where both are
            possible.
        on_error: what a broken image does: ``"stop"`` raises, ``"skip"`` leaves it out and lists it in
            ``report.json``.
        shard_size: images a file.
        workers: threads that decode, of each process (default: the cores that it may use).
        progress: whether to show a progress bar, or lines where standard output is no terminal.

    Returns:
        The prepared data set; of several processes each opens it, so that it must lie under the same name for all.

    Raises:
        DataError: the source cannot serve, an image is broken, or ``destination`` holds other work; the message says
            which and why.
        TypeError: an argument is of a wrong kind; the message names it.
        ValueError: an argument makes no sense, or ranks do not agree; the message names it.
        LauncherError: several processes were started that cannot find each other by MPI; the message says how to.
        OSError: a file cannot be read or written, or the disk is full; what was finished is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was finished is kept.
    """
    ranks = join_ranks()
    with ranks.ending_together():
        preparation = Preparation(
            source=as_path("source", source),
            folder=as_path("destination", destination),
            labels=labels if labels is None else as_path("labels", labels),
            classes=classes if classes is None else as_path("classes", classes),
            first_label=first_label,
            on_error=on_error,
            shard_size=integer("shard_size", shard_size),
            workers=usable_cores() if workers is None else integer("workers", workers),
            progress=flag("progress", progress),
        )
        preparation.carry_out()
        return PreparedImages(destination)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is to be prepared and how; the attributes are arguments of :func:`prepare`."""

    source: Path
    folder: Path
    labels: str | PathLike[str] | None = None
    classes: str | PathLike[str] | None = None
    first_label: FirstLabel | None = None
    on_error: StopOrSkip = "stop"
    shard_size: int = SHARD_SIZE
    workers: int = field(default_factory=usable_cores)
    progress: bool = True

    def __post_init__(self) -> None:
        """Check what needs no look at files.

        Raises:
            ValueError: an argument makes no sense; the message names it.
            DataError: the folder to write lies in the source.
        """
        require_stop_or_skip(self.on_error)
        labels, first_label = self.labels, self.first_label
        if first_label not in (None, *get_args(FirstLabel)) or (first_label is not None and labels is None):
            needed = "0 or 1" if labels is not None else "left out where there are no labels"
            raise ValueError(f"first_label is {first_label!r}; it must be {needed}")
        at_least("shard_size", self.shard_size, 1)
        at_least("workers", self.workers, 1)
        _require_apart(self.source, self.folder)

    def carry_out(self) -> None:
        """Prepare, with the other ranks if there are such: all find the images, and rank 0 writes what all decode.

        Raises:
            DataError: as :func:`prepare` raises it, like the errors that follow.
            ValueError: ranks found different images, or have other libraries.
            OSError: see there.
            KeyboardInterrupt: see there.
        """
        ranks = join_ranks()
        with (
            ranks.ending_together(),
            Display(enabled=self.progress and ranks.is_first, live=ranks.size == 1) as display,
        ):
            display.line(f"listing the images of {self.source}")
            found = find_images(self.source, self.labels, self.classes, self.first_label)
            display.lines(describe_left_out(found.left_out))
            plan = _plan(found, self.shard_size)
            ranks.agree({"on_error": self.on_error, **_agreed_on(plan)})
            workers = ranks.gather(self.workers)
            interrupt = InterruptRequest(
                display.line, stopping="finishing the images under way", saving="what is finished is saved already"
            )

            def write() -> signal.Signals | None:
                return self._write_or_stop(
                    found, plan, Decoders(found.images, ranks, workers, interrupt), display, interrupt
                )

            if not ranks.is_first:
                decode_for_first(found.images, ranks, self.workers, interrupt)
            stopped_by = ranks.from_first(write)
            if stopped_by is not None:
                raise keyboard_interrupt(stopped_by)

    def _write_or_stop(
        self, found: Source, plan: Plan, decoders: Decoders, display: Display, interrupt: InterruptRequest
    ) -> signal.Signals | None:
        """What rank 0 does; the signal that stopped it, if one has. The others are dismissed in any case."""
        try:
            self._write(found, plan, decoders, display, interrupt)
        except KeyboardInterrupt as error:
            return error.signal if isinstance(error, Terminated) else signal.SIGINT
        finally:
            decoders.dismiss()
        return None

    def _write(
        self, found: Source, plan: Plan, decoders: Decoders, display: Display, interrupt: InterruptRequest
    ) -> None:
        """Write the folder, or what of it is not yet there."""
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; the destination must be a folder")
        with locked_folder(folder) as unlocked, interrupt:
            if unlocked:
                display.line(f"{folder} cannot be locked ({unlocked}): let no other process prepare it")
            if not _continues(folder, plan):
                _require_empty(folder)
            if not (folder / MANIFEST_FILE).exists():
                remove_unfinished(folder)
                shards = Shards(
                    found,
                    folder,
                    self.shard_size,
                    on_error=self.on_error,
                    workers=self.workers,
                    decoders=decoders,
                    display=display,
                    interrupt=interrupt,
                )
                left = shards.images_left
                require_room(folder, left * IMAGE_BYTES + _ROOM_FOR_SMALL_FILES, f"preparing {left:,} images")
                write_atomically(folder / _PLAN_FILE, json_bytes(asdict(plan)))
                shards.make()
                display.lines(_complete(folder, plan, found, shards))
            for file in folder.glob(f"{PROGRESS}*"):
                file.unlink()
            prepared = PreparedImages(folder)
            display.line(f"{len(prepared):,} images of {len(prepared.classes):,} classes are prepared in {folder}")


def _plan(source: Source, shard_size: int) -> Plan:
    """What the files' bytes depend on, for comparison with an earlier run's."""
    listing = hashlib.sha256()
    for name in source.classes:
        listing.update(f"{name}\0".encode(errors="surrogateescape"))
    for image in source.images:
        listing.update(f"{image.name}\0{image.label}\0{image.size}\n".encode(errors="surrogateescape"))
    return Plan(
        format=FORMAT,
        version=FORMAT_VERSION,
        settings={"image_size": IMAGE_SIZE, "resampling": "bicubic", "shard_size": shard_size},
        source={
            "images": len(source.images),
            "classes": len(source.classes),
            "names, labels and sizes": listing.hexdigest(),
        },
        versions={
            "pyalexnet": version("pyalexnet"),
            "pillow": version("pillow"),
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg"),
        },
    )


def _agreed_on(plan: Plan) -> dict[str, object]:
    """What must be the same on all ranks, by what messages call it."""
    return {
        **plan.settings,
        **{f"{library}'s version": number for library, number in plan.versions.items()},
        **{f"the source's {what}": found for what, found in plan.source.items()},
    }


def _continues(folder: Path, plan: Plan) -> bool:
    """Whether the folder holds an earlier run's work, finished or not, by the same plan.

    Raises:
        DataError: it holds work by another plan; the message says how they differ.
    """
    if (folder / MANIFEST_FILE).exists():
        earlier: Plan = read_manifest(folder)
    elif (folder / _PLAN_FILE).exists():
        earlier = PLAN_FORMAT.read(folder / _PLAN_FILE)
    else:
        return False
    differences = [
        f"{part}: {name} was {getattr(earlier, part).get(name)}, is {value}"
        for part in ("settings", "source", "versions")
        for name, value in getattr(plan, part).items()
        if getattr(earlier, part).get(name) != value
    ]
    if differences:
        raise DataError(
            f"{folder} was begun from another source or with other settings ({'; '.join(differences)}); "
            "name another folder, or remove this one"
        )
    return True


def _require_empty(folder: Path) -> None:
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no preparation to continue; name a new folder")


def _require_apart(source: Path, destination: Path) -> None:
    inner, outer = destination.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise DataError(f"the destination {destination} lies in the source {source}; name a folder elsewhere")


def _complete(folder: Path, plan: Plan, source: Source, shards: Shards) -> list[str]:
    """Write labels, statistics, report and, when all else is on disk, the manifest.

    Returns:
        Lines that tell of the files that are not among the images.

    Raises:
        DataError: there are no images.
    """
    kept, skipped = shards.images()
    if not kept:
        raise DataError(f"none of the {len(skipped)} images can be read; the first, {': '.join(skipped[0])}")
    labels = np.array([image.label for image in kept], np.int32)
    covariance, statistics = shards.sums.covariance(), shards.sums.statistics()
    report = {
        "images": len(kept),
        "skipped": [left_out._asdict() for left_out in skipped],
        "passed_over": [left_out._asdict() for left_out in source.left_out],
    }
    small_files = {
        LABELS_FILE: _npy_bytes(labels),
        NAMES_FILE: json_bytes([image.name for image in kept]),
        MEAN_FILE: _npy_bytes(statistics.mean),
        COVARIANCE_FILE: _npy_bytes(covariance),
        COLOUR_AXES_FILE: _npy_bytes(statistics.colour_axes),
        REPORT_FILE: json_bytes(report),
    }
    for name, content in small_files.items():
        write_atomically(folder / name, content)
    variances, components = np.linalg.eigh(covariance)
    manifest = Manifest(
        **vars(plan),
        images=len(kept),
        skipped=len(skipped),
        passed_over=len(source.left_out),
        classes=source.classes,
        class_counts=tuple(np.bincount(labels, minlength=len(source.classes)).tolist()),
        colour_covariance=ColourCovariance(tuple(variances.tolist()), tuple(components.T.tolist())),
        shards=tuple(Shard(shard.file.name, record.images, record.sha256) for shard, record in shards.in_order()),
        files={name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()},
    )
    write_atomically(folder / MANIFEST_FILE, json_bytes(asdict(manifest)))
    missing = ((skipped, "could not be read", "skipped"), (source.left_out, "were left out", "passed_over"))
    return [
        f"{len(files):,} files {why}: see {part!r} in {folder / REPORT_FILE}" for files, why, part in missing if files
    ]


def _npy_bytes(array: npt.NDArray[np.generic]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
