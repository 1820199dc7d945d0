"""Where a model came from, as its file tells it: the run that learned it, and the files that it was converted from.

Of paths the last part is kept, since model files travel; of data what tells it again, and no lists of classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt

from pyalexnet.data.choice import DataDescription, PartDescription


@dataclass(frozen=True, kw_only=True)
class PartOrigin:
    """A part of a run's images; attributes as of :class:`pyalexnet.data.choice.PartDescription`."""

    images: Annotated[int, Ge(0)]
    labels_crc32: Annotated[int, Ge(0), Lt(2**32)]
    content: str | None


@dataclass(frozen=True, kw_only=True)
class DataOrigin:
    """A run's images; attributes as of :class:`pyalexnet.data.choice.DataDescription`."""

    source: str | None
    validation: float | str | None
    training: PartOrigin
    held_out: PartOrigin | None

    @classmethod
    def of(cls, description: DataDescription) -> DataOrigin:
        """What is kept of a description."""
        validation, held_out = description["validation"], description["held_out"]
        return cls(
            source=_last_part(description["source"]),
            validation=_last_part(validation) if isinstance(validation, str) else validation,
            training=_part(description["training"]),
            held_out=held_out and _part(held_out),
        )

    @property
    def held_out_name(self) -> str:
        """Which images were held out, in words."""
        if isinstance(self.validation, str):
            return self.validation
        whole = self.source or "images without a name"
        share = "the held-out part" if self.validation is None else f"a share of {self.validation:g}"
        return f"{share} of {whole}"


@dataclass(frozen=True, kw_only=True)
class RunOrigin:
    """The run that learned a model.

    Attributes:
        data: its images.
        settings: what it was asked to do, as ``run.json`` has it, but for its devices, which change nothing.
    """

    data: DataOrigin
    settings: dict[str, Any]

    @classmethod
    def of(cls, data: DataDescription, settings: Mapping[str, Any]) -> RunOrigin:
        """Of a run with these images and, as JSON holds them, these settings."""
        kept = {name: value for name, value in settings.items() if name != "devices"}
        if kept.get("init"):
            kept["init"] = {**kept["init"], "path": _last_part(kept["init"]["path"])}
        return cls(data=DataOrigin.of(data), settings=kept)


@dataclass(frozen=True, kw_only=True)
class FileOrigin:
    """A file that a model was converted from.

    Attributes:
        name: without folders.
        format: its format's name.
        sha256: of its content.
    """

    name: str
    format: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model came from.

    Attributes:
        run: the run that learned it; None where nobody knows.
        files: those that it was converted from, the first one first.
    """

    run: RunOrigin | None = None
    files: tuple[FileOrigin, ...] = ()

    def through(self, file: FileOrigin) -> Origin:
        """The same, after it was converted from a file."""
        return replace(self, files=(*self.files, file))


UNKNOWN = Origin()


def _part(description: PartDescription) -> PartOrigin:
    return PartOrigin(
        images=description["images"], labels_crc32=description["labels_crc32"], content=description.get("content")
    )


def _last_part(path: str | None) -> str | None:
    return path and (Path(path).name or path)
