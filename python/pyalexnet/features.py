"""What a layer of a net computes of images, such as fc7's 4096 numbers: in memory, to a file, from a file.

A feature file is a NumPy archive (.npz) without compression: ``features`` float32 (N, ...), ``labels`` int32 (N,), -1
where there is none, and the texts ``names`` (N,), ``classes``, ``layer`` and ``model``, a checksum of the net's
parameters. ``numpy.load`` reads it; nothing in it is pickled. It is written and read a batch at a time, so that memory
does not grow with the images.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pyalexnet.classifier import Classifier
from pyalexnet.data import Dataset, DataSource
from pyalexnet.data.augmentation import view_variations
from pyalexnet.data.dataset import as_dataset, image_names
from pyalexnet.data.prefetch import AHEAD, in_batches, read_ahead
from pyalexnet.data.readable import OnError, readable
from pyalexnet.errors import DataError
from pyalexnet.evaluation import require_batch_size
from pyalexnet.files import file_written_atomically
from pyalexnet.own_data import training_images
from pyalexnet.tensor_file import checksum

Values = npt.NDArray[np.float32]

DEFAULT_LAYER = "fc7"

_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class Features:
    """A layer's outputs for a number of images.

    Attributes:
        layer: which layer's.
        values: float32 (N, units) or (N, height, width, channels).
        labels: int32 (N,), indices into ``classes``; -1 where an image has none.
        names: what the images are called.
        classes: the data set's classes.
    """

    layer: str
    values: Values
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    classes: tuple[str, ...]


def extract_features(
    model: Classifier,
    data: DataSource | None = None,
    layer: str = DEFAULT_LAYER,
    *,
    batch_size: int = 64,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> Features:
    """What a layer computes of the centre of each image.

    Args:
        model: the classifier.
        data: images, named as for :func:`pyalexnet.train`; of what comes in two parts, those to train on. By default
            those that the model's own run learned from.
        layer: one of :func:`pyalexnet.architecture.feature_names`, such as ``"conv1"``, ``"pool5"`` or ``"fc7"``.
        batch_size: images that the net computes at a time.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve.
        ValueError: ``layer`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    dataset = training_images(model) if data is None else as_dataset(data)
    dataset = readable(dataset, on_error)
    values = np.concatenate(list(feature_batches(model, dataset, layer, batch_size, on_images)))
    return Features(layer, values, dataset.labels, tuple(image_names(dataset)), dataset.classes)


def save_features(
    path: str | PathLike[str],
    model: Classifier,
    data: DataSource | None = None,
    layer: str = DEFAULT_LAYER,
    *,
    batch_size: int = 64,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write what :func:`extract_features` gives into a feature file, whole or not at all.

    Args:
        path: the file, whose name must end in ``.npz``.
        model: as in :func:`extract_features`, like the arguments that follow.
        data: see there.
        layer: see there.
        batch_size: see there.
        on_error: see there.
        on_images: see there.

    Raises:
        DataError: the data cannot serve.
        ValueError: ``path``, ``layer`` or ``batch_size`` makes no sense.
        OSError: the file cannot be written; what was there before is unchanged.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"path is {fspath(path)!r}; its name must end in .npz")
    dataset = training_images(model) if data is None else as_dataset(data)
    dataset = readable(dataset, on_error)
    batches = feature_batches(model, dataset, layer, batch_size, on_images)
    with file_written_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as part:
            for number, values in enumerate(batches):
                if number == 0:
                    shape = (len(dataset), *values.shape[1:])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(part, header)
                part.write(values.astype("<f4", copy=False).tobytes())
        for name, array in {
            "labels": dataset.labels,
            "names": np.array(image_names(dataset)),
            "classes": np.array(dataset.classes, np.str_),
            "layer": np.array(layer),
            "model": np.array(model_checksum(model)),
        }.items():
            with archive.open(f"{name}.npy", "w") as part:
                np.lib.format.write_array(part, array, allow_pickle=False)


class FeatureFile:
    """A feature file, read as it is asked for.

    Attributes:
        layer: which layer's outputs it holds.
        labels: int32 (N,), indices into ``classes``; -1 where an image has none.
        names: what the images are called.
        classes: the data set's classes.
        model: :func:`model_checksum` of the net that computed them.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Read all but the features.

        Raises:
            DataError: it is no feature file, or is damaged; the message names it.
        """
        self.path = Path(path)
        try:
            # NumPy does not close what it opened and found to be no archive.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                self.labels: npt.NDArray[np.int32] = archive["labels"]
                self.names = tuple(archive["names"].tolist())
                self.classes = tuple(archive["classes"].tolist())
                self.layer, self.model = str(archive["layer"]), str(archive["model"])
            with self._open() as part:
                self.shape, _ = _read_header(part)
            self._require_whole()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} is no file of features, or is damaged: {error}") from error

    def batches(self, on_images: Callable[[int], None] = lambda _count: None) -> Iterator[Values]:
        """The features in order, a number of images at a time.

        Args:
            on_images: called with the number of images done since the last call.

        Raises:
            DataError: the file is damaged or has become shorter.
        """
        try:
            with self._open() as part:
                shape, dtype = _read_header(part)
                for start in range(0, shape[0], _ROWS_AT_A_TIME):
                    rows = min(_ROWS_AT_A_TIME, shape[0] - start)
                    content = part.read(rows * int(np.prod(shape[1:])) * dtype.itemsize)
                    yield np.frombuffer(content, dtype).reshape(rows, *shape[1:])
                    on_images(rows)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"cannot read the features of {self.path}: {error}") from error

    def _require_whole(self) -> None:
        """Refuse parts that do not belong together, before a wrong index is met among them."""
        count = self.shape[0]
        if self.labels.shape != (count,) or len(self.names) != count:
            raise ValueError(
                f"it holds {count} images' features, {self.labels.size} labels and {len(self.names)} names"
            )
        if not np.issubdtype(self.labels.dtype, np.integer) or np.any(self.labels >= len(self.classes)):
            raise ValueError(f"its labels are not all indices into its {len(self.classes)} classes")

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self.path) as archive, archive.open("features.npy") as part:
            yield part


def feature_batches(
    model: Classifier,
    dataset: Dataset,
    layer: str,
    batch_size: int = 64,
    on_images: Callable[[int], None] = lambda _count: None,
) -> Iterator[Values]:
    """What :func:`extract_features` gives, batch by batch."""
    require_batch_size(batch_size)
    batches = in_batches(np.arange(len(dataset)), batch_size)
    buffers = model.net.image_buffers(min(batch_size, len(dataset)), AHEAD + 1)
    for images, _ in read_ahead(dataset, batches, buffers=buffers):
        yield features_of(model, images, layer)
        on_images(len(images))


def features_of(model: Classifier, images: npt.NDArray[np.uint8], layer: str) -> Values:
    """What a layer computes of the centres of images, uint8 (N, 256, 256, 3)."""
    (centre,) = view_variations(len(images), 1, model.net.options.crop)
    return model.net.features(model.input_batch(images, centre), layer)


def model_checksum(model: Classifier) -> str:
    """Of the net's parameters: what tells whether features are those of the same net."""
    return f"{checksum(model.net.parameters()):08x}"


def _read_header(part: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(part)
    if version != (1, 0):
        raise ValueError(f"its format is version {version}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(part)
    if fortran_order or dtype != np.dtype("<f4") or len(shape) < 2:
        raise ValueError(f"its features are {dtype} {shape}")
    return shape, dtype
