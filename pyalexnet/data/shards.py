"""All shards of a source: those that earlier runs have finished are checked, and the others are made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from pyalexnet.data.decoders import Decoders, quiet_pillow
from pyalexnet.data.finding import LeftOut
from pyalexnet.data.manifest import REPORT_FILE
from pyalexnet.data.readable import StopOrSkip
from pyalexnet.data.shard_writer import DecodedRows, FinishedShard, ShardRecord, ShardWriter
from pyalexnet.data.sources import Source, SourceImage
from pyalexnet.data.statistics import ImageSums
from pyalexnet.data.workers import Workers
from pyalexnet.errors import DataError
from pyalexnet.system.interrupt import Interrupted, InterruptRequest
from pyalexnet.system.names import printable
from pyalexnet.system.progress import Display

_SKIPS_SHOWN = 10


class Shards:
    """The shards of a prepared folder, from what earlier runs have finished to all.

    Attributes:
        finished: what is known of each shard that is finished and checked.
        sums: over their images.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        shard_size: int,
        *,
        on_error: StopOrSkip,
        workers: int,
        decoders: Decoders,
        display: Display,
        interrupt: InterruptRequest,
    ) -> None:
        """Look for the records of earlier runs.

        Args:
            source: the images.
            folder: where the shards lie.
            shard_size: images a shard.
            on_error: what a broken image does.
            workers: number of threads, for what is not decoding.
            decoders: who decodes.
            display: what shows how far the work has come.
            interrupt: what may stop it.
        """
        self.finished: dict[ShardWriter, ShardRecord] = {}
        self.sums = ImageSums()
        self._source = source
        self._on_error = on_error
        self._workers = workers
        self._decoders = decoders
        self._display = display
        self._interrupt = interrupt
        images = source.images
        starts = range(0, len(images), shard_size)
        self._shards = [
            ShardWriter(folder, number, images[start : start + shard_size], start)
            for number, start in enumerate(starts)
        ]
        self._recorded = {shard: record for shard in self._shards if (record := shard.recorded())}

    @property
    def images_left(self) -> int:
        """Number of source images in the shards that no earlier run has recorded."""
        return len(self._source.images) - sum(len(shard.images) for shard in self._recorded)

    def make(self) -> None:
        """Check what is recorded, and make the rest.

        Raises:
            DataError: an image is broken and is to stop.
            OSError: a file cannot be read or written.
            KeyboardInterrupt: a stop was asked for; what is finished is kept.
        """
        try:
            with quiet_pillow():
                self._check_recorded()
                self._make_missing()
        except Interrupted:
            self._display.line(f"interrupted: {self._images_kept():,} images are kept; run this again to continue")
            raise self._interrupt.keyboard_interrupt() from None
        finally:
            for shard in self._shards:
                shard.discard()

    def in_order(self) -> list[tuple[ShardWriter, ShardRecord]]:
        """All shards, once they are made, with what is known of them."""
        return [(shard, self.finished[shard]) for shard in self._shards]

    def images(self) -> tuple[list[SourceImage], list[LeftOut]]:
        """The source images that the shards have, once they are made, in order; and those that are skipped."""
        kept: list[SourceImage] = []
        skipped: list[LeftOut] = []
        for shard, record in self.in_order():
            failed = dict(record.failed)
            skipped += [LeftOut(shard.images[row].name, reason) for row, reason in failed.items()]
            kept += [image for row, image in enumerate(shard.images) if row not in failed]
        return kept, skipped

    def _check_recorded(self) -> None:
        """Keep the shards of earlier runs that are sound, and measure their images."""
        if self._recorded:
            self._display.begin("checking what is done", sum(record.images for record in self._recorded.values()))
        tasks = (partial(shard.check, record) for shard, record in self._recorded.items())
        with Workers[tuple[FinishedShard, bool]](self._workers, self._interrupt) as workers:
            for found, is_sound in workers.results(tasks):
                self._display.advance(found.record.images)
                if is_sound:
                    self._keep(found)
                else:
                    self._display.line(f"{found.shard.file.name} is damaged and is made again")

    def _make_missing(self) -> None:
        """Decode the images of the other shards, and finish each shard when all its images are decoded."""
        missing = [shard for shard in self._shards if shard not in self.finished]
        course = _Course(self._source, self._images_kept(), self._decoders, self._display)
        with Workers[DecodedRows | FinishedShard](self._decoders.count, self._interrupt) as workers:
            for result in workers.results(_decoding(missing, self._decoders)):
                if isinstance(result, FinishedShard):
                    self._keep(result)
                    continue
                shard = result.shard
                course.decoded(len(result.rows))
                for row, reason in result.failed:
                    if self._on_error == "stop":
                        raise _broken(shard.images[row], reason)
                    course.skipped(shard.images[row], reason)
                if shard.count_in(result):
                    workers.add(shard.finish)
        course.end()

    def _keep(self, found: FinishedShard) -> None:
        """Take a finished shard into account."""
        if found.record.failed and self._on_error == "stop":  # an earlier run skipped them
            row, reason = found.record.failed[0]
            raise _broken(found.shard.images[row], reason)
        self.finished[found.shard] = found.record
        self.sums.merge(found.sums)

    def _images_kept(self) -> int:
        """Number of source images in finished shards."""
        return sum(len(shard.images) for shard in self.finished)


class _Course:
    """Shows how far decoding has come, how fast, and what is skipped."""

    def __init__(self, source: Source, kept: int, decoders: Decoders, display: Display) -> None:
        total = len(source.images)
        done = f"; {kept:,} are done" if kept else ""
        display.line(f"preparing {total:,} images of {len(source.classes):,} classes with {decoders}{done}")
        display.begin("preparing", total, done=kept)
        self._display = display
        self._decoded = self._skipped = 0
        self._start = time.perf_counter()

    def decoded(self, count: int) -> None:
        """So many images more are."""
        self._decoded += count
        self._display.state(f"{self._decoded / (time.perf_counter() - self._start):,.0f} images/s")
        self._display.advance(count)

    def skipped(self, image: SourceImage, reason: str) -> None:
        """An image is left out; the first ones are named."""
        self._skipped += 1
        if self._skipped <= _SKIPS_SHOWN:
            self._display.line(f"skipped {printable(image.name)}: {reason}")
        elif self._skipped == _SKIPS_SHOWN + 1:
            self._display.line(f"more are skipped; {REPORT_FILE} will list all")

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.perf_counter() - self._start
        if self._decoded:
            rate = self._decoded / seconds
            self._display.line(f"{self._decoded:,} images in {seconds:.1f} s, {rate:,.0f} images/s")


def _decoding(shards: Iterable[ShardWriter], decoders: Decoders) -> Iterator[partial[DecodedRows]]:
    """The tasks that decode the images of shards; a shard is begun when its first task is taken."""
    for shard in shards:
        for rows in shard.begin():
            yield partial(shard.decode, rows, decoders)


def _broken(image: SourceImage, reason: str) -> DataError:
    return DataError(
        f"cannot read the image {printable(image.name)}: {reason}; on_error='skip' (--on-error skip) leaves such "
        f"images out and lists them in {REPORT_FILE}"
    )
