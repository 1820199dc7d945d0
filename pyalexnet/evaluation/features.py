"""What a layer of a net computes of images, such as fc7's 4096 numbers: in memory, to a file, from a file.

A feature file is a NumPy archive (.npz) without compression: ``features`` float32 (N, ...), ``labels`` int32 (N,), -1
where there is none, and the texts ``names`` (N,), ``classes``, ``layer`` and ``model``, a checksum of the net's
parameters. ``numpy.load`` reads it; nothing in it is pickled. It is written and read a batch at a time, so that memory
does not grow with the images.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pyalexnet.data import Dataset, DataSource
from pyalexnet.data.augmentation import view_variations
from pyalexnet.data.dataset import image_names
from pyalexnet.data.opening import as_dataset
from pyalexnet.data.prefetch import AHEAD, batch_count, in_batches, read_ahead
from pyalexnet.data.readable import OnError, readable
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.own_data import training_images
from pyalexnet.evaluation.sharing import agree_on, heard_of_first
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.model_file import as_model
from pyalexnet.net.tensor_file import checksum
from pyalexnet.system.array_file import read_array_header
from pyalexnet.system.checks import as_path, at_least, callback, reason_of, shown
from pyalexnet.system.files import file_written_atomically, open_regular_file
from pyalexnet.system.json_file import require_distinct
from pyalexnet.system.ranks import ALONE, Ranks, join_ranks

Values = npt.NDArray[np.float32]

DEFAULT_LAYER = "fc7"

_PARTS = ("features", "labels", "names", "classes", "layer", "model")

_ROWS_AT_A_TIME, _BYTES_AT_A_TIME = 256, 2**26
_MOST_UNITS = 2**20  # of an image; conv1 has 290,400
_MOST_SMALL_BYTES = 2**32
_MOST_DIRECTORY_BYTES = 2**12
_ENCRYPTED = 1  # a flag of a part of an archive

# What zipfile raises where an archive is damaged: encrypted and unknown parts are RuntimeErrors.
_NO_ARCHIVE = (OSError, ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, struct.error)


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

    def __repr__(self) -> str:
        about = f"{len(self.names):,} images of {len(self.classes)} classes"
        return f"<Features of {about}: {self.layer}, {self.values.dtype} {self.values.shape}>"


def extract_features(
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    layer: str = DEFAULT_LAYER,
    *,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> Features:
    """What a layer computes of the centre of each image.

    Processes that a launcher of MPI started share the images; all call this alike, and get the same result.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        data: images, named as for :func:`pyalexnet.train`; of what comes in two parts, those to train on. By default
            those that the model's own run learned from.
        layer: one of :func:`pyalexnet.architecture.activation_names`, such as ``"conv1"``, ``"pool5"`` or ``"fc7"``.
        batch_size: images that the net computes at a time.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve.
        TypeError: an argument is of another type.
        ValueError: ``layer`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    ranks = join_ranks()
    with ranks.ending_together():
        model, on_images = _checked(model, layer, batch_size, ranks), _checked_course(on_images, ranks)
        dataset = images_to_compute(model, data, on_error, [layer], batch_size, ranks)
        found: list[Values] = []
        own = (batch[layer] for batch in activation_batches(model, dataset, [layer], batch_size, ranks=ranks))
        for of_round in ranks.in_rounds(own, batch_count(len(dataset), batch_size)):
            found += of_round
            on_images(sum(map(len, of_round)))
        return Features(layer, np.concatenate(found), dataset.labels, tuple(image_names(dataset)), dataset.classes)


def save_features(
    path: str | PathLike[str],
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    layer: str = DEFAULT_LAYER,
    *,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write what :func:`extract_features` gives into a feature file, whole or not at all.

    Of processes that share the images rank 0 alone writes, and takes what the others computed some images at a time;
    they need not see ``path``.

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
    if as_path("path", path).suffix != ".npz":
        raise ValueError(f"path is {shown(fspath(path))}; its name must end in .npz")
    ranks = join_ranks()
    with ranks.ending_together():
        model, on_images = _checked(model, layer, batch_size, ranks), _checked_course(on_images, ranks)
        dataset = images_to_compute(model, data, on_error, [layer], batch_size, ranks)
        collected = collected_activations(model, dataset, [layer], batch_size, on_images, ranks)
        opened: list[BinaryIO] = []
        with contextlib.ExitStack() as held:
            ranks.from_first(lambda: opened.append(held.enter_context(file_written_atomically(path))))
            for file in opened:
                _write(file, model, dataset, layer, collected)
            collections.deque(collected, maxlen=0)  # elsewhere computes and sends


def _write(
    file: BinaryIO, model: Classifier, dataset: Dataset, layer: str, collected: Iterator[dict[str, Values]]
) -> None:
    """A feature file, whose features come some images at a time."""
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as part:
            for number, found in enumerate(collected):
                values = found[layer]
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
        self.path = as_path("path", path)
        try:
            with self._archive() as archive:
                self.shape = _features_shape(archive)
                labels, self.names, self.classes = (
                    _labels(archive),
                    _texts(archive, "names", 1),
                    _texts(archive, "classes", 1),
                )
                (self.layer,), (self.model,) = _texts(archive, "layer", 0), _texts(archive, "model", 0)
            self._require_whole(labels)
        except _NO_ARCHIVE as error:
            raise DataError(f"{self.path} is no file of features, or is damaged: {reason_of(error)}") from error
        self.labels: npt.NDArray[np.int32] = labels.astype(np.int32)

    def batches(self, on_images: Callable[[int], None] = lambda _count: None) -> Iterator[Values]:
        """The features in order, a number of images at a time.

        Args:
            on_images: called with the number of images done since the last call.

        Raises:
            DataError: the file is damaged or has become shorter.
        """
        count, *unit_shape = self.shape
        row_bytes = 4 * math.prod(unit_shape)
        rows_at_a_time = max(1, min(_ROWS_AT_A_TIME, _BYTES_AT_A_TIME // row_bytes))
        try:
            with self._archive() as archive, archive.open("features.npy") as part:
                read_array_header(part)
                for start in range(0, count, rows_at_a_time):
                    rows = min(rows_at_a_time, count - start)
                    values = np.frombuffer(part.read(rows * row_bytes), "<f4").reshape(rows, *unit_shape)
                    if not np.isfinite(values).all():
                        raise ValueError("some are NaN or infinite")
                    yield values
                    on_images(rows)
        except _NO_ARCHIVE as error:
            raise DataError(f"cannot read the features of {self.path}: {reason_of(error)}") from error

    def _require_whole(self, labels: npt.NDArray[Any]) -> None:
        """Refuse parts that do not belong together, before a wrong index is met among them."""
        count = self.shape[0]
        if len(labels) != count or len(self.names) != count:
            raise ValueError(f"it holds {count} images' features, {len(labels)} labels and {len(self.names)} names")
        if np.any(labels < -1) or np.any(labels >= len(self.classes)):
            raise ValueError(f"its labels are not all indices into its {len(self.classes)} classes, or -1 for none")
        require_distinct("its list of classes", self.classes)

    @contextlib.contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        with open_regular_file(self.path) as file:
            _require_short_directory(file)
            with zipfile.ZipFile(file) as archive:
                names = sorted(part.filename for part in archive.infolist())
                if names != sorted(f"{name}.npy" for name in _PARTS):
                    raise ValueError(f"it holds {shown(names)}; it must hold one .npy of each of {', '.join(_PARTS)}")
                for part in archive.infolist():
                    if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & _ENCRYPTED:
                        raise ValueError(f"{part.filename} is compressed or encrypted; it must be stored as it is")
                yield archive


def feature_batches(
    model: Classifier,
    dataset: Dataset,
    layer: str,
    batch_size: int = BATCH_SIZE,
    on_images: Callable[[int], None] = lambda _count: None,
) -> Iterator[Values]:
    """What :func:`extract_features` gives, batch by batch."""
    for batch in activation_batches(model, dataset, [layer], batch_size, on_images):
        yield batch[layer]


def activation_batches(
    model: Classifier,
    dataset: Dataset,
    layers: Sequence[str],
    batch_size: int = BATCH_SIZE,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> Iterator[dict[str, Values]]:
    """What several layers compute of the centre of each image, by name, batch by batch; ranks take batches by turns."""
    batches = list(in_batches(np.arange(len(dataset)), batch_size))[ranks.rank :: ranks.size]
    buffers = model.net.image_buffers(min(batch_size, len(dataset)), AHEAD + 1)
    for images, _ in read_ahead(dataset, batches, buffers=buffers):
        yield activations_of(model, images, layers)
        on_images(len(images))


def collected_activations(
    model: Classifier,
    dataset: Dataset,
    layers: Sequence[str],
    batch_size: int,
    on_images: Callable[[int], None],
    ranks: Ranks,
) -> Iterator[dict[str, Values]]:
    """What several layers compute of the centre of each image, by name, some images at a time, in their order.

    Ranks take batches by turns. Rank 0 has what all of them compute, of others in parts of :data:`_BYTES_AT_A_TIME` at
    most or one image; the others have nothing, but must go on to the end.
    """
    own = activation_batches(model, dataset, layers, batch_size, ranks=ranks)
    for number, indices in enumerate(in_batches(np.arange(len(dataset)), batch_size)):
        owner, left = number % ranks.size, len(indices)
        if owner == ranks.rank == 0:
            yield next(own)
        elif owner == ranks.rank:
            for part in _parts(next(own)):
                ranks.send(part, to=0)
        elif ranks.is_first:
            while left:
                part = ranks.receive(owner)
                left -= len(part[layers[0]])
                yield part
        on_images(len(indices))


def _parts(batch: dict[str, Values]) -> Iterator[dict[str, Values]]:
    """Some images at a time of a batch, as many as :data:`_BYTES_AT_A_TIME` hold."""
    images = len(next(iter(batch.values())))
    at_a_time = max(1, _BYTES_AT_A_TIME * images // sum(values.nbytes for values in batch.values()))
    for start in range(0, images, at_a_time):
        yield {name: values[start : start + at_a_time] for name, values in batch.items()}


def images_to_compute(
    model: Classifier,
    data: DataSource | None,
    on_error: OnError,
    layers: Sequence[str],
    batch_size: int,
    ranks: Ranks,
) -> Dataset:
    """The images of ``data``, or those that the model's own run learned from; unreadable ones as ``on_error`` says.

    Raises:
        DataError: the data cannot serve.
        ValueError: ranks are about to compute different things.
    """
    dataset = training_images(model) if data is None else as_dataset(data)
    agree_on(ranks, model, dataset, {"layers": list(layers), "batch_size": batch_size, "on_error": on_error})
    return readable(dataset, on_error, ranks=ranks)


def _checked(model: Classifier | str | PathLike[str], layer: str, batch_size: int, ranks: Ranks) -> Classifier:
    """The model, once the arguments are known to make sense."""
    at_least("batch_size", batch_size, 1)
    found = as_model(model, local_rank=ranks.local_rank)
    found.net.require_layer(layer)
    return found


def _checked_course(on_images: Callable[[int], None], ranks: Ranks) -> Callable[[int], None]:
    """What is called with the images done, on rank 0."""
    callback("on_images", on_images)
    return heard_of_first(ranks, on_images)


def features_of(model: Classifier, images: npt.NDArray[np.uint8], layer: str) -> Values:
    """What a layer computes of the centres of images, uint8 (N, 256, 256, 3)."""
    return model.net.features(_centres(model, images), layer)


def activations_of(model: Classifier, images: npt.NDArray[np.uint8], layers: Sequence[str]) -> dict[str, Values]:
    """What several layers compute of the centres of images, uint8 (N, 256, 256, 3), by name."""
    return model.net.activations(_centres(model, images), layers)


def _centres(model: Classifier, images: npt.NDArray[np.uint8]) -> ImageBatch:
    (centre,) = view_variations(len(images), 1, model.net.options.crop)
    return model.input_batch(images, centre)


def model_checksum(model: Classifier) -> str:
    """Of the net's parameters: what tells whether features are those of the same net."""
    return f"{checksum(model.net.parameters()):08x}"


def _require_short_directory(file: BinaryIO) -> None:
    """Refuse an archive whose list of parts is too long for what it should hold, before it is read.

    The list's length stands in the archive's last 22 bytes, and perhaps in 76 bytes before them that serve large ones.
    """
    file.seek(max(0, file.seek(0, os.SEEK_END) - 98))
    tail = file.read()
    if len(tail) < 98 or tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise ValueError("it does not end as an archive does")
    lengths = [int.from_bytes(tail[-10:-6], "little")]
    if tail[-42:-38] == b"PK\6\7":
        lengths.append(int.from_bytes(tail[-58:-50], "little"))
    if max(lengths) > _MOST_DIRECTORY_BYTES:
        raise ValueError(
            f"its list of parts has {max(lengths):,} bytes; it must have at most {_MOST_DIRECTORY_BYTES:,}"
        )


def _features_shape(archive: zipfile.ZipFile) -> tuple[int, ...]:
    with archive.open("features.npy") as part:
        dtype, shape, size = read_array_header(part)
    if dtype != np.dtype("<f4") or len(shape) < 2 or not 0 < math.prod(shape[1:]) <= _MOST_UNITS:
        raise ValueError(f"its features are {dtype} {shape}")
    if archive.getinfo("features.npy").file_size != size:
        raise ValueError(f"its features of {shape} have not the size of such")
    return shape


def _small_part(archive: zipfile.ZipFile, name: str, kinds: str, axes: int) -> npt.NDArray[Any]:
    """An array that is not the features."""
    with archive.open(f"{name}.npy") as part:
        dtype, shape, size = read_array_header(part)
        if dtype.kind not in kinds or len(shape) != axes or not dtype.itemsize:
            raise ValueError(f"its {name} are {dtype} {shape}")
        if archive.getinfo(f"{name}.npy").file_size != size or size > _MOST_SMALL_BYTES:
            raise ValueError(f"its {name} of {dtype} {shape} have not the size of such, or more than 4 GiB")
        return np.frombuffer(part.read(), dtype).reshape(shape)


def _labels(archive: zipfile.ZipFile) -> npt.NDArray[Any]:
    return _small_part(archive, "labels", "iu", 1)


def _texts(archive: zipfile.ZipFile, name: str, axes: int) -> tuple[str, ...]:
    array = _small_part(archive, name, "U", axes).reshape(-1)
    if array.size and array.view(np.uint32).max() > sys.maxunicode:
        raise ValueError(f"its {name} are no texts")
    return tuple(array.tolist())
