"""The images that a net finds most alike: nearest in a layer's outputs (Krizhevsky et al. 2012, section 6.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt

from pyalexnet.data import Dataset, DataSource
from pyalexnet.data.dataset import image_names, name_of_label
from pyalexnet.data.opening import as_dataset
from pyalexnet.data.pictures import Pictures
from pyalexnet.data.readable import OnError, readable
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.features import (
    DEFAULT_LAYER,
    FeatureFile,
    Values,
    feature_batches,
    features_of,
    model_checksum,
)
from pyalexnet.evaluation.own_data import training_images
from pyalexnet.evaluation.predict import readable_images
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import as_path, at_least, callback


@dataclass(frozen=True)
class Neighbour:
    """An image near a query.

    Attributes:
        index: its number in the data.
        name: what it is called there.
        label: its class, "" where it has none.
        distance: Euclidean, between the layer's outputs.
    """

    index: int
    name: str
    label: str
    distance: float


def find_neighbours(
    model: Classifier | str | PathLike[str],
    queries: Pictures,
    data: DataSource | FeatureFile | None = None,
    *,
    count: int = 6,
    layer: str = DEFAULT_LAYER,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[list[Neighbour]]:
    """The images nearest to each query, by the Euclidean distance between a layer's outputs.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        queries: images, as :func:`pyalexnet.predict` takes them.
        data: where to look: images named as for :func:`pyalexnet.train` (of what comes in two parts, those to train
            on), or a feature file, itself or its path (``.npz``), of the same net, which saves computing them again. By
            default the images that the model's own run learned from.
        count: how many to find for each query; fewer where the data has fewer.
        layer: by which layer's outputs; of a feature file, the layer that it holds.
        batch_size: images that the net computes at a time.
        on_error: what an image that cannot be read does: of ``data``, as in :func:`pyalexnet.evaluate`; a query, as in
            :func:`pyalexnet.predict`: it has no neighbours.
        on_images: called with the number of images looked at since the last call.

    Returns:
        For each query its neighbours, the nearest first; among equally near ones the earlier in the data first.

    Raises:
        DataError: an image or the data cannot serve, or a feature file is another net's or another layer's.
        TypeError: an argument is of another type.
        ValueError: ``count``, ``layer`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    batch_size, count = at_least("batch_size", batch_size, 1), at_least("count", count, 1)
    callback("on_images", on_images)
    images = readable_images(queries, on_error, "queries")
    model = as_model(model)
    model.net.require_layer(layer)
    wanted = [image for image in images if image is not None]
    if not wanted:
        return [[] for _ in images]
    features = np.concatenate(
        [
            features_of(model, np.stack(wanted[start : start + batch_size]), layer)
            for start in range(0, len(wanted), batch_size)
        ]
    )
    where = where_to_look(model, data)
    if isinstance(where, FeatureFile):
        _require_same(where, model, layer)
        batches, names = where.batches(on_images), where.names
    else:
        where = readable(where, on_error)
        batches, names = feature_batches(model, where, layer, batch_size, on_images), tuple(image_names(where))
    labels, classes = where.labels, where.classes
    distances, indices = nearest(features, batches, count)
    found = iter(
        [
            Neighbour(int(index), names[index], name_of_label(labels[index], classes), float(distance))
            for distance, index in zip(*row, strict=True)
        ]
        for row in zip(distances, indices, strict=True)
    )
    return [[] if image is None else next(found) for image in images]


def where_to_look(model: Classifier, data: DataSource | FeatureFile | None) -> Dataset | FeatureFile:
    """What :func:`find_neighbours` searches: the run's own images, a feature file opened, else a data set.

    Raises:
        DataError: the data cannot serve, or the file is no feature file.
    """
    if data is None:
        return training_images(model)
    if isinstance(data, FeatureFile):
        return data
    if isinstance(data, str | PathLike) and as_path("data", data).suffix == ".npz":
        return FeatureFile(data)
    return as_dataset(data)


def nearest(
    queries: Values, batches: Iterable[Values], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The rows nearest to each query.

    Args:
        queries: float32 (Q, ...).
        batches: the rows in order, float32 (n, ...) each; they are looked at once, one batch after the other.
        count: how many to find.

    Returns:
        Distances, float64 (Q, count), the nearest first, and row numbers, intp (Q, count); fewer columns where there
        are fewer rows. NaN is farther than everything. A distance follows from its two rows alone, to the last bit,
        whatever the other queries and the batches are.
    """
    flat = queries.reshape(len(queries), -1).astype(np.float64)
    distances: npt.NDArray[np.float64] = np.empty((len(flat), 0))
    indices: npt.NDArray[np.intp] = np.empty((len(flat), 0), np.intp)
    seen = 0
    for batch in batches:
        rows = batch.reshape(len(batch), -1).astype(np.float64)
        # Each norm is a sum along one row, in an order that follows from its length; that of a matrix product would
        # follow from the shapes of both matrices.
        found = np.stack([np.linalg.norm(rows - query, axis=1) for query in flat])
        numbers = np.broadcast_to(np.arange(seen, seen + len(batch)), found.shape)
        distances, indices = np.hstack([distances, found]), np.hstack([indices, numbers])
        # A stable sort leaves equals in the order of their numbers, and puts NaN last.
        best = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances = np.take_along_axis(distances, best, axis=1)
        indices = np.take_along_axis(indices, best, axis=1)
        seen += len(batch)
    return distances, indices


def _require_same(file: FeatureFile, model: Classifier, layer: str) -> None:
    if file.layer != layer:
        raise DataError(f"{file.path} holds features of {file.layer}; they must be those of {layer}")
    if file.model != model_checksum(model):
        raise DataError(f"{file.path} holds another net's features; compute them again with this one")
