"""A shard in the making: from image files to a finished file with a record of what is in it.

Threads decode images into an unfinished file, each into its row. When all are through, the rows that stayed empty are
closed up, the file gets its header and its name, and a record is written. Whatever stops the process, a shard that has
a record is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Ge

from pyalexnet.data.dataset import IMAGE_BYTES
from pyalexnet.data.decoders import Decoders
from pyalexnet.data.manifest import json_bytes
from pyalexnet.data.shard_file import examine, row_offset, shard_header
from pyalexnet.data.sources import SourceImage
from pyalexnet.data.statistics import ImageSums
from pyalexnet.system.files import write_atomically
from pyalexnet.system.json_file import JsonFormat

PROGRESS = ".progress"
"""How the names of files begin that are there only while preparation goes on."""

_IMAGES_A_TASK = 32


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard.

    Attributes:
        images: how many it has.
        sha256: its checksum.
        failed: positions among the shard's source images that could not be decoded, with the reason.
    """

    images: Annotated[int, Ge(0)]
    sha256: str
    failed: list[tuple[Annotated[int, Ge(0)], str]]


RECORD_FORMAT = JsonFormat(ShardRecord, 64 * 2**20, ValueError)


class DecodedRows(NamedTuple):
    """That some rows of a shard have been gone through, and those whose image could not be decoded, with the reason."""

    shard: ShardWriter
    rows: range
    failed: list[tuple[int, str]]


class FinishedShard(NamedTuple):
    """A shard that is whole and recorded, and the sums over its images."""

    shard: ShardWriter
    record: ShardRecord
    sums: ImageSums


class ShardWriter:
    """Writes one shard.

    Attributes:
        images: the source images, a row each until those that could not be decoded are closed up.
        file: the shard, once it is finished.
    """

    def __init__(self, folder: Path, number: int, images: Sequence[SourceImage], first: int) -> None:
        """Write nothing yet.

        Args:
            folder: where the shard is to lie.
            number: its place among the shards.
            images: what it is made of, at least one.
            first: the place of the first of them among all images.
        """
        self.images = images
        self._first = first
        self.file = folder / f"images-{number:05}.npy"
        self._unfinished = folder / f"{PROGRESS}-{number:05}.npy"
        self._record_file = folder / f"{PROGRESS}-{number:05}.json"
        self._rows_left = len(images)
        self._failed: list[tuple[int, str]] = []

    def recorded(self) -> ShardRecord | None:
        """What an earlier run has recorded of the shard, if it is there and the record can be one of these images."""
        try:
            record = RECORD_FORMAT.read(self._record_file)
        except (OSError, ValueError):
            return None
        rows = {row for row, _ in record.failed}
        sound = (
            record.images == len(self.images) - len(rows)
            and len(rows) == len(record.failed)
            and all(row < len(self.images) for row in rows)
        )
        return record if sound and self.file.is_file() else None

    def check(self, record: ShardRecord) -> tuple[FinishedShard, bool]:
        """Read the shard of an earlier run: what it is, and whether it is still as it was recorded.

        Raises:
            OSError: it cannot be read.
        """
        checksum, sums = examine(self.file)
        return FinishedShard(self, record, sums), checksum == record.sha256

    def begin(self) -> list[range]:
        """Make room for the images.

        Returns:
            Rows, a part for each task, for :meth:`decode`.

        Raises:
            OSError: the file cannot be written.
        """
        rows = range(len(self.images))
        with _writing(self._unfinished), open(self._unfinished, "wb") as file:
            file.truncate(row_offset(len(rows)))
        return [rows[start : start + _IMAGES_A_TASK] for start in range(0, len(rows), _IMAGES_A_TASK)]

    def decode(self, rows: range, decoders: Decoders) -> DecodedRows:
        """Decode the images of some rows; several threads may at once, each its own rows.

        Args:
            rows: which ones.
            decoders: who decodes them.

        Raises:
            OSError: an image cannot be read, or the shard cannot be written.
        """
        failed: list[tuple[int, str]] = []
        with contextlib.ExitStack() as opened:
            with _writing(self._unfinished):
                file = opened.enter_context(open(self._unfinished, "r+b", buffering=0))
            places = range(self._first + rows.start, self._first + rows.stop)
            decoded = opened.enter_context(decoders.decoding(places))
            for row, found in zip(rows, decoded, strict=True):
                if isinstance(found, str):
                    failed.append((row, found))
                    continue
                with _writing(self._unfinished):
                    _write_at(file.fileno(), row_offset(row), found)
        return DecodedRows(self, rows, failed)

    def count_in(self, decoded: DecodedRows) -> bool:
        """Take decoded rows into account: whether now all are decoded, so that the shard can be finished."""
        self._rows_left -= len(decoded.rows)
        self._failed += decoded.failed
        return not self._rows_left

    def finish(self) -> FinishedShard:
        """Close the gaps in the shard, give it its header and its name, and record it.

        Raises:
            OSError: that cannot be written.
        """
        failed = sorted(self._failed)
        empty = {row for row, _ in failed}
        kept = [row for row in range(len(self.images)) if row not in empty]
        with _writing(self.file):
            with open(self._unfinished, "r+b", buffering=0) as file:
                descriptor = file.fileno()
                for new, old in enumerate(kept):
                    if new != old:
                        _write_at(descriptor, row_offset(new), os.pread(descriptor, IMAGE_BYTES, row_offset(old)))
                file.truncate(row_offset(len(kept)))
                _write_at(descriptor, 0, shard_header(len(kept)))
                os.fsync(descriptor)
            checksum, sums = examine(self._unfinished)
            os.replace(self._unfinished, self.file)
        record = ShardRecord(len(kept), checksum, failed)
        write_atomically(self._record_file, json_bytes(asdict(record)))  # makes the shard's new name last, too
        return FinishedShard(self, record, sums)

    def discard(self) -> None:
        """Remove what is unfinished, if there is anything.

        Raises:
            OSError: it cannot be removed.
        """
        self._unfinished.unlink(missing_ok=True)


def _write_at(descriptor: int, offset: int, content: bytes) -> None:
    while content:
        count = os.pwrite(descriptor, content, offset)
        content, offset = content[count:], offset + count


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {file}: {error.strerror or error}; run this again to continue"
        ) from error
