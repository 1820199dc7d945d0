"""The images that excite units of a layer most, and where in them.

Looking at these is how Girshick et al. 2014 (section 3.1) and Zeiler & Fergus 2014 (section 4.1) find out what a unit
responds to: a unit of a convolution is a filter, wherever it is applied; of each image its strongest position counts,
and the pixels that it depends on there are its receptive field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.data import DataSource
from pyalexnet.data.dataset import image_names, name_of_label
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.readable import OnError, readable
from pyalexnet.errors import DataError
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.features import Values, feature_batches
from pyalexnet.evaluation.own_data import held_out_images
from pyalexnet.evaluation.units import as_units, most_active, strongest_positions, tower_of
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import as_model
from pyalexnet.net.receptive_field import ReceptiveField, receptive_fields
from pyalexnet.system.checks import at_least, callback

DEFAULT_UNITS = 6
"""How many units are looked at where none are named."""


@dataclass(frozen=True)
class StrongImage:
    """An image that excites a unit.

    Attributes:
        index: its number in the data.
        name: what it is called there.
        label: its class, "" where it has none.
        activation: the unit's greatest, among all positions.
        position: row and column of that one in the layer; (0, 0) in fully connected layers.
    """

    index: int
    name: str
    label: str
    activation: float
    position: tuple[int, int]


@dataclass(frozen=True)
class StrongestImages:
    """The images that excite a unit most.

    Attributes:
        layer: whose unit it is.
        unit: its number there, tower 0's first.
        tower: which tower computes it.
        field: what its positions see of the net's input.
        images: the strongest first.
    """

    layer: str
    unit: int
    tower: int
    field: ReceptiveField
    images: tuple[StrongImage, ...]


def find_strongest(
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    layer: str = "conv5",
    *,
    units: Sequence[int] | None = None,
    count: int = 9,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[StrongestImages]:
    """The images, by their centre, in which units of a layer are most active.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        data: where to look: images named as for :func:`pyalexnet.evaluate`. By default those that the model's own run
            held out.
        layer: one of :func:`pyalexnet.architecture.activation_names`.
        units: which of its units, the towers' side by side; by default the :data:`DEFAULT_UNITS` that are most active
            in the mean over their own ``count`` strongest images.
        count: how many images for each; fewer where the data has fewer.
        batch_size: images that the net computes at a time.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images done since the last call.

    Returns:
        For each unit its images; among equals the earlier in the data comes first.

    Raises:
        DataError: the data cannot serve.
        TypeError: an argument is of another type.
        ValueError: ``layer``, ``units``, ``count`` or ``batch_size`` makes no sense.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    batch_size, count = at_least("batch_size", batch_size, 1), at_least("count", count, 1)
    callback("on_images", on_images)
    model = as_model(model)
    model.net.require_layer(layer)
    chosen = None if units is None else as_units(model.net, layer, units)
    dataset = readable(held_out_images(model) if data is None else as_test_dataset(data), on_error)
    top = strongest(feature_batches(model, dataset, layer, batch_size, on_images), count)
    if chosen is None:
        chosen = most_active(top.activations.mean(axis=0), DEFAULT_UNITS)
    field, names = receptive_fields(model.net.options)[layer], image_names(dataset)
    return [
        StrongestImages(
            layer,
            unit,
            tower_of(model.net, layer, unit),
            field,
            tuple(
                StrongImage(
                    int(index),
                    names[index],
                    name_of_label(dataset.labels[index], dataset.classes),
                    float(activation),
                    (int(row), int(column)),
                )
                for index, activation, (row, column) in zip(
                    top.indices[:, unit], top.activations[:, unit], top.positions[:, unit], strict=True
                )
            ),
        )
        for unit in chosen
    ]


class Strongest(NamedTuple):
    """The images in which each unit of a layer is most active, the strongest first.

    Attributes:
        indices: intp (count, units), the images' numbers.
        activations: float32 (count, units), each the greatest among an image's positions.
        positions: intp (count, units, 2), row and column of that one.
    """

    indices: npt.NDArray[np.intp]
    activations: Values
    positions: npt.NDArray[np.intp]


def strongest(batches: Iterable[Values], count: int) -> Strongest:
    """The images in which each unit is most active.

    Args:
        batches: what a layer computed, float32 (n, height, width, channels) or (n, units), looked at once, one after
            the other.
        count: how many images to keep; fewer where there are fewer.

    Returns:
        Among equals, the earlier image and position come first. NaN is weaker than everything.
    """
    kept: Strongest | None = None
    seen = 0
    for batch in batches:
        activations, positions = strongest_positions(batch)
        indices = np.broadcast_to(np.arange(seen, seen + len(batch))[:, None], activations.shape)
        if kept is not None:
            indices = np.concatenate([kept.indices, indices])
            activations = np.concatenate([kept.activations, activations])
            positions = np.concatenate([kept.positions, positions])
        # A stable sort leaves equals in their order, and puts NaN last.
        best = np.argsort(-activations, axis=0, kind="stable")[:count]
        kept = Strongest(
            np.take_along_axis(indices, best, axis=0),
            np.take_along_axis(activations, best, axis=0),
            np.take_along_axis(positions, best[..., None], axis=0),
        )
        seen += len(batch)
    if kept is None:
        raise DataError("there are no images; there must be at least one")
    return kept
