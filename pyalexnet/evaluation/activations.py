"""What several layers of a net compute of a data set, in a folder: an array a layer, written as it comes.

The folder holds ``conv1.npy`` and so on, float32 (N, height, width, channels) or (N, units); ``labels.npy``, int32
(N,), -1 where an image has none; ``names.npy`` and ``classes.npy``, texts; and ``activations.json``, which names the
layers and has a checksum of the net's parameters. They are NumPy's array files, since each grows by appending, and
``numpy.load(path, mmap_mode="r")`` reads any part of one with nothing else installed.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.data import Dataset, DataSource
from pyalexnet.data.dataset import image_names
from pyalexnet.data.readable import OnError
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.features import Values, collected_activations, images_to_compute, model_checksum
from pyalexnet.evaluation.sharing import heard_of_first
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.layer_table import layer_rows
from pyalexnet.net.model_file import as_model
from pyalexnet.net.network import AlexNet
from pyalexnet.system.array_file import array_header, read_array_header
from pyalexnet.system.checks import as_path, at_least, callback, reason_of
from pyalexnet.system.files import (
    file_written_through,
    folder_written_atomically,
    open_regular_file,
    require_room,
    write_through,
)
from pyalexnet.system.json_file import JsonFormat
from pyalexnet.system.ranks import join_ranks

_ABOUT = "activations.json"
_FORMAT = 1
_DTYPE = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Activations:
    """What layers computed of a number of images, as :func:`load_activations` finds it.

    Attributes:
        layers: by name float32 (N, height, width, channels) or (N, units), on the disk until they are looked at.
        labels: int32 (N,), indices into ``classes``; -1 where an image has none.
        names: what the images are called.
        classes: the data set's classes.
        model: :func:`pyalexnet.evaluation.features.model_checksum` of the net that computed them.
    """

    layers: Mapping[str, Values]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    model: str

    def __repr__(self) -> str:
        return f"<Activations of {len(self.names):,} images: {', '.join(self.layers)}>"


@dataclass(frozen=True, kw_only=True)
class _About:
    """What the JSON holds."""

    format: int
    layers: tuple[str, ...]
    model: str

    def __post_init__(self) -> None:
        for name in self.layers:
            if not name.isidentifier():  # it becomes a file's name
                raise ValueError(f"{name!r} is no layer")


_ABOUT_FORMAT = JsonFormat(_About, 2**16, DataError, version=("format", _FORMAT))


def save_activations(
    folder: str | PathLike[str],
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    layers: Sequence[str] = ("fc7",),
    *,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write what several layers compute of the centre of each image, in one pass over the images.

    Memory is taken for one batch at a time, however many images there are. The folder appears when it is whole.
    Processes that a launcher of MPI started share the images; all call this alike, and rank 0 alone writes.

    Args:
        folder: a new folder; the module's docstring tells what will be in it.
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        data: images, named as for :func:`pyalexnet.train`; of what comes in two parts, those to train on. By default
            those that the model's own run learned from.
        layers: names as :meth:`pyalexnet.AlexNet.features` takes them, such as ``["conv1_pre", "conv1", "fc7"]``.
        batch_size: images that the net computes at a time.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve.
        TypeError: an argument is of another type.
        ValueError: ``layers`` or ``batch_size`` makes no sense.
        OSError: ``folder`` exists or cannot be written, or its disk has not enough room.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    ranks = join_ranks()
    with ranks.ending_together():
        path = as_path("folder", folder)
        at_least("batch_size", batch_size, 1)
        callback("on_images", on_images)
        model = as_model(model, local_rank=ranks.local_rank)
        model.net.require_layers(layers)
        names = list(dict.fromkeys(layers))
        ranks.from_first(lambda: _require_new(path))
        dataset = images_to_compute(model, data, on_error, names, batch_size, ranks)
        needed = len(dataset) * activation_bytes(model.net, names)
        what = f"what {', '.join(names)} computed of {len(dataset):,} images"
        ranks.from_first(lambda: require_room(path.parent, needed, what))
        on_images = heard_of_first(ranks, on_images)
        collected = collected_activations(model, dataset, names, batch_size, on_images, ranks)
        if ranks.is_first:
            _write(path, model, dataset, names, collected)
        else:
            collections.deque(collected, maxlen=0)  # computes and sends


def _require_new(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it exists; it must be the name of a new folder", fspath(path))


def _write(
    path: Path, model: Classifier, dataset: Dataset, names: Sequence[str], collected: Iterator[dict[str, Values]]
) -> None:
    """The folder, whose layers' outputs come some images at a time."""
    with folder_written_atomically(path) as unfinished:
        _write_layers(unfinished, names, len(dataset), collected)
        _write_array(unfinished / "labels.npy", dataset.labels.astype("<i4"))
        _write_array(unfinished / "names.npy", np.array(image_names(dataset)))
        _write_array(unfinished / "classes.npy", np.array(dataset.classes, np.str_))
        about = _About(format=_FORMAT, layers=tuple(names), model=model_checksum(model))
        write_through(unfinished / _ABOUT, json.dumps(asdict(about), indent=2).encode() + b"\n")


def load_activations(folder: str | PathLike[str]) -> Activations:
    """What :func:`save_activations` wrote; layers are read from the disk where they are looked at.

    Raises:
        DataError: it is no such folder, or is damaged; the message names it.
        TypeError: ``folder`` is no path.
    """
    path = as_path("folder", folder)
    try:
        about = _ABOUT_FORMAT.read(path / _ABOUT)
        labels = _small_array(path / "labels.npy", "i").astype(np.int32)
        names, classes = (_texts(path / f"{name}.npy") for name in ("names", "classes"))
        if len(names) != len(labels) or np.any(labels < -1) or np.any(labels >= len(classes)):
            raise ValueError(f"its labels are not those of {len(names)} images of {len(classes)} classes")
        layers = {name: _on_disk(path / f"{name}.npy", len(names)) for name in about.layers}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no folder of activations, or is damaged: {reason_of(error)}") from error
    return Activations(layers, labels, names, classes, about.model)


def activation_bytes(net: AlexNet, layers: Sequence[str]) -> int:
    """Bytes of what layers compute of an image."""
    bytes_of = {row.name: row.output_bytes for row in layer_rows(net.num_classes, net.options)}
    return sum(bytes_of[name.removesuffix("_pre")] for name in layers)


def _write_layers(folder: Path, names: Sequence[str], images: int, collected: Iterator[dict[str, Values]]) -> None:
    """The files of the layers, all of them growing together."""
    with contextlib.ExitStack() as opened:
        files = {name: opened.enter_context(file_written_through(folder / f"{name}.npy")) for name in names}
        for number, batch in enumerate(collected):
            for name, values in batch.items():
                if number == 0:
                    files[name].write(array_header(_DTYPE, (images, *values.shape[1:])))
                files[name].write(values.astype(_DTYPE, copy=False).data)


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    write_through(path, array_header(array.dtype, array.shape) + array.tobytes())


def _on_disk(path: Path, count: int) -> Values:
    """A layer's file, of which nothing but the header has been read."""
    with open_regular_file(path) as file:
        dtype, shape, size = read_array_header(file)
        if dtype != _DTYPE or len(shape) < 2 or shape[0] != count or not math.prod(shape):
            raise ValueError(f"{path.name} holds {dtype} {shape}; it must be float32 of {count} images")
        if os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path.name} has not the size of an array of {shape}")
        return np.memmap(file, dtype, "r", file.tell(), shape)


def _small_array(path: Path, kinds: str) -> npt.NDArray[Any]:
    with open_regular_file(path) as file:
        dtype, shape, size = read_array_header(file)
        if dtype.kind not in kinds or len(shape) != 1 or os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path.name} holds {dtype} {shape}, or has not the size of such")
        return np.frombuffer(file.read(), dtype)


def _texts(path: Path) -> tuple[str, ...]:
    array = _small_array(path, "U")
    if array.size and array.view(np.uint32).max() > sys.maxunicode:
        raise ValueError(f"{path.name} holds no texts")
    return tuple(array.tolist())
