"""Preparation: image files of any size, from folders or tars, become a folder of shards that training reads fast.

The work goes on in shards. A shard is decoded into an unfinished file, many images at a time by all workers; it is then
finished, renamed and recorded. Whatever stops the process, recorded shards are whole, and the next run makes the rest.
The manifest comes last: a folder that has one is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from PIL import features

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.finding import describe_left_out
from pyalexnet.data.images import DECODING_BYTES, decode_image
from pyalexnet.data.prepared import (
    COLOUR_AXES_FILE,
    COVARIANCE_FILE,
    FORMAT,
    FORMAT_VERSION,
    HEADER_BYTES,
    IMAGE_BYTES,
    LABELS_FILE,
    MANIFEST_FILE,
    MEAN_FILE,
    NAMES_FILE,
    PLAN_FORMAT,
    REPORT_FILE,
    Plan,
    PreparedImages,
    Shard,
    examine,
    read_manifest,
)
from pyalexnet.data.readable import StopOrSkip
from pyalexnet.data.sources import Source, SourceImage, find_images
from pyalexnet.data.statistics import ImageSums
from pyalexnet.errors import DataError
from pyalexnet.system.array_file import array_header
from pyalexnet.system.files import locked_folder, remove_unfinished, require_room, write_atomically
from pyalexnet.system.interrupt import Interrupted, InterruptRequest
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.system.machine import usable_cores
from pyalexnet.system.names import printable
from pyalexnet.system.progress import Display

SHARD_SIZE = 4096

FirstLabel: TypeAlias = Literal[0, 1]

# Files that are there only while preparation goes on: the plan, and for each shard its pixels and its record.
_PROGRESS = ".progress"
_PLAN_FILE = f"{_PROGRESS}.json"

_IMAGES_A_TASK = 32
_TASKS_A_WORKER = 4
_ROOM_FOR_SMALL_FILES = 16 * 2**20
_SKIPS_SHOWN = 10


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
        workers: threads that decode (default: the cores that this process may use).
        progress: whether to show a progress bar, or lines where standard output is no terminal.

    Returns:
        The prepared data set.

    Raises:
        DataError: the source cannot serve, an image is broken, or ``destination`` holds other work; the message says
            which and why.
        ValueError: an argument makes no sense; the message names it.
        OSError: a file cannot be read or written, or the disk is full; what was finished is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was finished is kept.
    """
    if on_error not in get_args(StopOrSkip):
        raise ValueError(f"on_error is {on_error!r}; it must be 'stop' or 'skip'")
    if first_label not in (None, *get_args(FirstLabel)) or (first_label is not None and labels is None):
        needed = "0 or 1" if labels is not None else "left out where there are no labels"
        raise ValueError(f"first_label is {first_label!r}; it must be {needed}")
    if shard_size < 1:
        raise ValueError(f"shard_size is {shard_size}; it must be at least 1")
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    destination = Path(destination)
    _require_apart(Path(source), destination)
    with Display(enabled=progress) as display:
        display.line(f"listing the images of {source}")
        found = find_images(source, labels, classes, first_label)
        display.lines(describe_left_out(found.left_out))
        plan = _plan(found, shard_size)
        if destination.exists() and not destination.is_dir():
            raise DataError(f"{destination} is a file; the destination must be a folder")
        interrupt = InterruptRequest(
            display.line, stopping="finishing the images under way", saving="what is finished is saved already"
        )
        with locked_folder(destination) as unlocked, interrupt:
            if unlocked:
                display.line(f"{destination} cannot be locked ({unlocked}): let no other process prepare it")
            if not _continues(destination, plan):
                _require_empty(destination)
            if not (destination / MANIFEST_FILE).exists():
                _Preparation(found, plan, destination, shard_size, on_error, workers, display, interrupt).run()
            _remove_progress(destination)
            prepared = PreparedImages(destination)
            display.line(f"{len(prepared):,} images of {len(prepared.classes):,} classes are prepared in {destination}")
    return prepared


class _Task(NamedTuple):
    """What a worker is to do, and what becomes of the result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: Callable[[Any], None]


@dataclass
class _ShardInWork:
    """A shard some of whose images are decoded."""

    number: int
    images: Sequence[SourceImage]
    file: Path
    tasks_left: int
    failed: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """What is known of a finished shard.

    Attributes:
        images: how many it has.
        sha256: its checksum.
        failed: positions among the shard's source images that could not be decoded, with the reason.
    """

    images: Annotated[int, Ge(0)]
    sha256: str
    failed: list[tuple[Annotated[int, Ge(0)], str]]


RECORD_FORMAT = JsonFormat(_Record, 64 * 2**20, ValueError)


class _Preparation:
    """One run of the preparation, from what earlier runs have finished to the manifest."""

    def __init__(
        self,
        source: Source,
        plan: dict[str, Any],
        folder: Path,
        shard_size: int,
        on_error: str,
        workers: int,
        display: Display,
        interrupt: InterruptRequest,
    ) -> None:
        self.source = source
        self.plan = plan
        self.folder = folder
        self.on_error = on_error
        self.workers = workers
        self.display = display
        self.interrupt = interrupt
        images = source.images
        self.parts = [images[start : start + shard_size] for start in range(0, len(images), shard_size)]
        self.records: dict[int, _Record] = {}
        self.sums = ImageSums()
        self.followers: deque[_Task] = deque()
        self.images_decoded = self.skips_shown = 0
        self.start = time.perf_counter()

    def run(self) -> None:
        """Do all that is left to do.

        Raises:
            KeyboardInterrupt: a stop was asked for.
        """
        remove_unfinished(self.folder)
        recorded = {number: record for number in range(len(self.parts)) if (record := self.recorded(number))}
        left = len(self.source.images) - sum(len(self.parts[number]) for number in recorded)
        require_room(self.folder, left * IMAGE_BYTES + _ROOM_FOR_SMALL_FILES, f"preparing {left:,} images")
        write_atomically(self.folder / _PLAN_FILE, _json(self.plan))
        try:
            with _workers(self.workers) as executor, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of oddities of images that it can read
                self.complete(executor, self.checks(recorded))
                self.begin_decoding()
                self.complete(executor, self.decoding())
                self.show_speed()
        except Interrupted:
            self.display.line(f"interrupted: {self.images_kept():,} images are kept; run this again to continue")
            raise self.interrupt.keyboard_interrupt() from None
        finally:
            for file in self.folder.glob(f"{_PROGRESS}-*.npy"):
                file.unlink()
        self.write_end()

    def complete(self, executor: Executor, tasks: Iterator[_Task]) -> None:
        """Have the workers do all tasks and those that follow from them, a few ahead."""
        pending: dict[Future[Any], _Task] = {}
        while True:
            while len(pending) < self.workers * _TASKS_A_WORKER and (task := self.next_task(tasks)):
                pending[executor.submit(task.function, *task.arguments)] = task
                self.interrupt.raise_if_requested()
            if not pending:
                return
            ended, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            self.interrupt.raise_if_requested()
            for future in [given for given in pending if given in ended]:  # in the order of the images
                pending.pop(future).done(future.result())

    def next_task(self, tasks: Iterator[_Task]) -> _Task | None:
        """The task to give out next; to end a shard goes before beginning another."""
        return self.followers.popleft() if self.followers else next(tasks, None)

    def checks(self, recorded: dict[int, _Record]) -> Iterator[_Task]:
        """Tasks that check and measure the shards of earlier runs."""
        if recorded:
            self.display.begin("checking what is done", sum(record.images for record in recorded.values()))
        for number, record in recorded.items():
            yield _Task(examine, (self.folder / _shard_file(number),), self.when_checked(number, record))

    def when_checked(self, number: int, record: _Record) -> Callable[[tuple[str, ImageSums]], None]:
        """Keep an earlier run's shard if it is sound."""

        def done(result: tuple[str, ImageSums]) -> None:
            checksum, sums = result
            self.display.advance(record.images)
            if checksum == record.sha256:
                self.keep(number, record, sums)
            else:
                self.display.line(f"{_shard_file(number)} is damaged and is made again")

        return done

    def begin_decoding(self) -> None:
        """Show what is to be done."""
        total, kept = len(self.source.images), self.images_kept()
        self.display.line(
            f"preparing {total:,} images of {len(self.source.classes):,} classes with {self.workers} "
            + ("worker" if self.workers == 1 else "workers")
            + (f"; {kept:,} are done" if kept else "")
        )
        self.display.begin("preparing", total, done=kept)
        self.start = time.perf_counter()

    def decoding(self) -> Iterator[_Task]:
        """Tasks that decode the images of the shards that are missing."""
        for number, images in enumerate(self.parts):
            if number in self.records:
                continue
            file = self.folder / f"{_PROGRESS}-{number:05}.npy"
            with _writing(file), open(file, "wb") as unfinished:
                unfinished.truncate(HEADER_BYTES + len(images) * IMAGE_BYTES)
            shard = _ShardInWork(number, images, file, tasks_left=-(-len(images) // _IMAGES_A_TASK))
            for row in range(0, len(images), _IMAGES_A_TASK):
                some = images[row : row + _IMAGES_A_TASK]
                yield _Task(_decode_rows, (file, row, some), self.when_decoded(shard, len(some)))

    def when_decoded(self, shard: _ShardInWork, count: int) -> Callable[[list[tuple[int, str]]], None]:
        """Count images of a shard that are decoded; when all are, have the shard finished."""

        def done(failed: list[tuple[int, str]]) -> None:
            self.show_advance(count)
            for row, reason in failed:
                self.on_failure(shard.images[row], reason)
            shard.failed += failed
            shard.tasks_left -= 1
            if not shard.tasks_left:
                arguments = (shard.file, self.folder, shard.number, len(shard.images), sorted(shard.failed))
                self.followers.append(_Task(_finish, arguments, self.when_finished(shard.number)))

        return done

    def when_finished(self, number: int) -> Callable[[tuple[_Record, ImageSums]], None]:
        """Keep a new shard."""
        return lambda result: self.keep(number, *result)

    def keep(self, number: int, record: _Record, sums: ImageSums) -> None:
        """Take a finished shard into account."""
        if record.failed and self.on_error == "stop":  # an earlier run skipped them
            row, reason = record.failed[0]
            raise _broken(self.parts[number][row], reason)
        self.records[number] = record
        self.sums.merge(sums)

    def on_failure(self, image: SourceImage, reason: str) -> None:
        """Stop, or say that an image is left out."""
        if self.on_error == "stop":
            raise _broken(image, reason)
        self.skips_shown += 1
        if self.skips_shown <= _SKIPS_SHOWN:
            self.display.line(f"skipped {printable(image.name)}: {reason}")
        elif self.skips_shown == _SKIPS_SHOWN + 1:
            self.display.line(f"more are skipped; {REPORT_FILE} will list all")

    def show_advance(self, count: int) -> None:
        """Show that so many images more are decoded."""
        self.images_decoded += count
        rate = f"{self.images_decoded / (time.perf_counter() - self.start):,.0f} images/s"
        self.display.state(rate)
        self.display.advance(count)

    def show_speed(self) -> None:
        """Say how long it took."""
        seconds = time.perf_counter() - self.start
        if self.images_decoded:
            rate = self.images_decoded / seconds
            self.display.line(f"{self.images_decoded:,} images in {seconds:.1f} s, {rate:,.0f} images/s")

    def images_kept(self) -> int:
        """Number of source images in finished shards."""
        return sum(len(self.parts[number]) for number in self.records)

    def recorded(self, number: int) -> _Record | None:
        """What an earlier run has recorded of a shard, if the shard is there."""
        try:
            record = RECORD_FORMAT.read(self.folder / _record_file(number))
        except (OSError, ValueError):
            return None
        images = len(self.parts[number])
        rows = {row for row, _ in record.failed}
        sound = (
            record.images == images - len(rows)
            and len(rows) == len(record.failed)
            and all(row < images for row in rows)
        )
        return record if sound and (self.folder / _shard_file(number)).is_file() else None

    def write_end(self) -> None:
        """Write labels, statistics, report and, when all else is on disk, the manifest."""
        skipped: list[tuple[str, str]] = []
        kept: list[SourceImage] = []
        for number, part in enumerate(self.parts):
            failed = dict(self.records[number].failed)
            skipped += [(part[row].name, reason) for row, reason in failed.items()]
            kept += [image for row, image in enumerate(part) if row not in failed]
        if not kept:
            raise DataError(f"none of the {len(skipped)} images can be read; the first, {': '.join(skipped[0])}")
        labels = np.array([image.label for image in kept], np.int32)
        covariance, statistics = self.sums.covariance(), self.sums.statistics()
        variances, components = np.linalg.eigh(covariance)
        report = {
            "images": len(kept),
            "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
            "passed_over": [{"name": name, "reason": reason} for name, reason in self.source.left_out],
        }
        small_files = {
            LABELS_FILE: _npy(labels),
            NAMES_FILE: _json([image.name for image in kept]),
            MEAN_FILE: _npy(statistics.mean),
            COVARIANCE_FILE: _npy(covariance),
            COLOUR_AXES_FILE: _npy(statistics.colour_axes),
            REPORT_FILE: _json(report),
        }
        for name, content in small_files.items():
            write_atomically(self.folder / name, content)
        manifest = self.plan | {
            "images": len(kept),
            "skipped": len(skipped),
            "passed_over": len(self.source.left_out),
            "classes": list(self.source.classes),
            "class_counts": np.bincount(labels, minlength=len(self.source.classes)).tolist(),
            "colour_covariance": {
                "eigenvalues": variances.tolist(),
                "eigenvectors": components.T.tolist(),
            },
            "shards": [
                asdict(Shard(_shard_file(number), record.images, record.sha256))
                for number, record in sorted(self.records.items())
            ],
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()},
        }
        write_atomically(self.folder / MANIFEST_FILE, _json(manifest))
        for count, what, where in (
            (len(skipped), "could not be read", "skipped"),
            (len(self.source.left_out), "were left out", "passed_over"),
        ):
            if count:
                self.display.line(f"{count:,} files {what}: see {where!r} in {self.folder / REPORT_FILE}")


@contextlib.contextmanager
def _workers(count: int) -> Iterator[Executor]:
    """Threads, which suffice as Pillow and NumPy let them all compute at once; an error leaves them no more tasks."""
    executor = ThreadPoolExecutor(count, thread_name_prefix="pyalexnet-prepare")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _decode_rows(file: Path, first: int, images: Sequence[SourceImage]) -> list[tuple[int, str]]:
    """Write images into an unfinished shard, from row ``first`` on.

    Returns:
        The rows that stay empty, with the reason why the image could not be decoded.
    """
    failed: list[tuple[int, str]] = []
    with contextlib.ExitStack() as opened:
        with _writing(file):
            shard = opened.enter_context(open(file, "r+b", buffering=0))
        for row, image in enumerate(images, first):
            try:
                _require_reasonable(image)
                pixels = decode_image(io.BytesIO(image.read()))
            except DataError as error:
                failed.append((row, str(error)))
                continue
            with _writing(file):
                _write_at(shard.fileno(), HEADER_BYTES + row * IMAGE_BYTES, pixels.tobytes())
    return failed


def _require_reasonable(image: SourceImage) -> None:
    """Refuse a file of more bytes than a picture that could be decoded has: it would be read as a whole."""
    if image.size > DECODING_BYTES:
        raise DataError(
            f"its {image.size / 2**20:,.0f} MiB are too many for an image file; it may have at most "
            f"{DECODING_BYTES / 2**20:,.0f} MiB"
        )


def _finish(
    unfinished: Path, folder: Path, number: int, rows: int, failed: list[tuple[int, str]]
) -> tuple[_Record, ImageSums]:
    """Close the gaps in a shard, give it its header and its name, and record it."""
    empty = {row for row, _ in failed}
    kept = [row for row in range(rows) if row not in empty]
    file = folder / _shard_file(number)
    with _writing(file):
        with open(unfinished, "r+b", buffering=0) as shard:
            descriptor = shard.fileno()
            for new, old in enumerate(kept):
                if new != old:
                    pixels = os.pread(descriptor, IMAGE_BYTES, HEADER_BYTES + old * IMAGE_BYTES)
                    _write_at(descriptor, HEADER_BYTES + new * IMAGE_BYTES, pixels)
            shard.truncate(HEADER_BYTES + len(kept) * IMAGE_BYTES)
            _write_at(descriptor, 0, _header(len(kept)))
            os.fsync(descriptor)
        checksum, sums = examine(unfinished)
        os.replace(unfinished, file)
    record = _Record(len(kept), checksum, failed)
    write_atomically(folder / _record_file(number), _json(asdict(record)))  # makes the shard's new name last, too
    return record, sums


def _write_at(descriptor: int, offset: int, content: bytes) -> None:
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count


def _header(images: int) -> bytes:
    return array_header(np.uint8, (images, IMAGE_SIZE, IMAGE_SIZE, 3))


def _shard_file(number: int) -> str:
    return f"images-{number:05}.npy"


def _record_file(number: int) -> str:
    return f"{_PROGRESS}-{number:05}.json"


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {file}: {error.strerror or error}; run this again to continue"
        ) from error


def _broken(image: SourceImage, reason: str) -> DataError:
    return DataError(
        f"cannot read the image {printable(image.name)}: {reason}; on_error='skip' (--on-error skip) leaves such "
        f"images out and lists them in {REPORT_FILE}"
    )


def _plan(source: Source, shard_size: int) -> dict[str, Any]:
    """All that the files' bytes depend on, for comparison with an earlier run's."""
    listing = hashlib.sha256()
    for name in source.classes:
        listing.update(f"{name}\0".encode(errors="surrogateescape"))
    for image in source.images:
        listing.update(f"{image.name}\0{image.label}\0{image.size}\n".encode(errors="surrogateescape"))
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "settings": {"image_size": IMAGE_SIZE, "resampling": "bicubic", "shard_size": shard_size},
        "source": {
            "images": len(source.images),
            "classes": len(source.classes),
            "names, labels and sizes": listing.hexdigest(),
        },
        "versions": {
            "pyalexnet": version("pyalexnet"),
            "pillow": version("pillow"),
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg"),
        },
    }


def _continues(folder: Path, plan: dict[str, Any]) -> bool:
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
        for name, value in plan[part].items()
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


def _remove_progress(folder: Path) -> None:
    for file in folder.glob(f"{_PROGRESS}*"):
        file.unlink()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _npy(array: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()
