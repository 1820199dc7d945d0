"""What loaders are compared by: which images, in which order, each varied in its way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyalexnet.data.augmentation import Variations, epoch_order, epoch_variations
from pyalexnet.data.statistics import Statistics


@dataclass(frozen=True)
class Work:
    """What both loaders do: the images in the order of use, each with its crop, reflection and colour shift."""

    order: npt.NDArray[np.intp]
    variations: Variations
    mean: npt.NDArray[np.float32]
    batch: int


def make_work(count: int, epochs: int, batch: int, found: Statistics) -> Work:
    """Several epochs of random order and variations, in whole batches."""
    order = np.concatenate([epoch_order(count, seed=0, epoch=epoch) for epoch in range(epochs)])
    order = order[: len(order) - len(order) % batch]
    variations = epoch_variations(
        len(order), seed=0, epoch=0, reflect=True, colour_noise=0.1, colour_axes=found.colour_axes
    )
    return Work(order, variations, found.mean, batch)
