"""The manifest of a prepared folder: what it tells, and the names of the files that it tells of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from annotated_types import Ge, Len, MinLen

from pyalexnet.errors import DataError
from pyalexnet.system.checks import require
from pyalexnet.system.json_file import JsonFormat, require_distinct

MANIFEST_FILE = "manifest.json"
FORMAT: Final = "pyalexnet prepared images"
FORMAT_VERSION = 1

LABELS_FILE, NAMES_FILE, REPORT_FILE = "labels.npy", "names.json", "report.json"
MEAN_FILE, COVARIANCE_FILE, COLOUR_AXES_FILE = "mean.npy", "covariance.npy", "colour_axes.npy"
SMALL_FILES = (LABELS_FILE, NAMES_FILE, MEAN_FILE, COVARIANCE_FILE, COLOUR_AXES_FILE, REPORT_FILE)
"""The files beside the shards, of which the manifest has the checksums."""

_Count = Annotated[int, Ge(0)]
_Three = Annotated[tuple[float, ...], Len(3, 3)]


@dataclass(frozen=True)
class Shard:
    """One file of images.

    Attributes:
        file: its name within the prepared folder.
        images: how many it has.
        sha256: checksum of the whole file, as sha256sum prints it.
    """

    file: str
    images: _Count
    sha256: str


@dataclass(frozen=True)
class Plan:
    """All that the bytes of a prepared folder depend on.

    Attributes:
        format: :data:`FORMAT`.
        version: :data:`FORMAT_VERSION`.
        settings: how the images were brought to their size, and how many a shard has.
        source: how many images and classes there were, and a checksum of their names, labels and sizes.
        versions: of the packages that decoded the images.
    """

    format: Literal["pyalexnet prepared images"]
    version: int
    settings: dict[str, int | str]
    source: dict[str, int | str]
    versions: dict[str, str | None]


@dataclass(frozen=True)
class ColourCovariance:
    """The covariance of red, green and blue over all pixels.

    Attributes:
        eigenvalues: in rising order.
        eigenvectors: in their order.
    """

    eigenvalues: _Three
    eigenvectors: Annotated[tuple[_Three, ...], Len(3, 3)]


@dataclass(frozen=True)
class Manifest(Plan):
    """What ``manifest.json`` tells of a prepared folder.

    Attributes:
        images: how many there are.
        skipped: how many could not be read.
        passed_over: how many files were no images.
        classes: the classes' names.
        class_counts: how many images each has.
        colour_covariance: of all images.
        shards: the images' files.
        files: each other file's SHA-256.
    """

    images: Annotated[int, Ge(1)]
    skipped: _Count
    passed_over: _Count
    classes: Annotated[tuple[str, ...], MinLen(1)]
    class_counts: tuple[_Count, ...]
    colour_covariance: ColourCovariance
    shards: tuple[Shard, ...]
    files: dict[str, str]

    def __post_init__(self) -> None:
        """Check what the fields are to each other.

        Raises:
            ValueError: numbers of images differ, a file is missing or lies elsewhere, or a name is there twice.
        """
        require_distinct("classes", self.classes)
        require_distinct("shards", [shard.file for shard in self.shards])
        for number, shard in enumerate(self.shards):
            inside = Path(shard.file).name == shard.file and "\0" not in shard.file
            require(inside, f"shards[{number}].file", shard.file, "a name without a folder")
        require(self.files.keys() == set(SMALL_FILES), "files", sorted(self.files), f"of {', '.join(SMALL_FILES)}")
        in_shards, in_classes = sum(shard.images for shard in self.shards), sum(self.class_counts)
        require(in_shards == self.images, "the shards' sum of images", in_shards, f"{self.images}, as images says")
        require(len(self.class_counts) == len(self.classes), "class_counts", self.class_counts, "one for each class")
        require(in_classes == self.images, "the sum of class_counts", in_classes, f"{self.images}, as images says")


MANIFEST_FORMAT = JsonFormat(Manifest, 64 * 2**20, DataError, version=("version", FORMAT_VERSION))
PLAN_FORMAT = JsonFormat(Plan, 2**20, DataError, version=("version", FORMAT_VERSION))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        DataError: there is none, or it is none of this format; the message says why.
    """
    path = folder / MANIFEST_FILE
    try:
        return MANIFEST_FORMAT.read(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no {MANIFEST_FILE}; `pyalexnet prepare` writes it when all else is done"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def json_bytes(content: object) -> bytes:
    """JSON as the files of a prepared folder have it, one value a line."""
    return (json.dumps(content, indent=1) + "\n").encode()
