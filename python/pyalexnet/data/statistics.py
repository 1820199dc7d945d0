"""What training measures over its images first: the mean image and the directions in which colours vary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import Dataset
from pyalexnet.data.prefetch import in_batches, prefetch

_BATCH = 64


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set's 256×256 images.

    Attributes:
        mean: float32 (256, 256, 3), the mean of every pixel and colour over all images.
        colour_axes: float32 (3, 3); column i is the principal component i of the RGB values, a unit vector,
            times its variance, in the unit of pixels from 0 to 255. ``colour_axes @ alpha``
            is a colour shift.
    """

    mean: npt.NDArray[np.float32]
    colour_axes: npt.NDArray[np.float32]


def measure(dataset: Dataset, on_images: Callable[[int], None] = lambda _count: None) -> Statistics:
    """One pass over a data set; memory does not grow with it.

    The sums are of integers below 2^53 and therefore exact: no order of summation changes a bit.

    Args:
        dataset: the images, at least one.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: an image cannot be read.
    """
    pixel_sum = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint64)
    products = np.zeros((3, 3))

    def batch_sums(
        indices: npt.NDArray[np.intp],
    ) -> tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
        images, _ = dataset.batch(indices)
        return (
            len(images),
            images.sum(axis=0, dtype=np.uint32),
            sum(map(_colour_products, images), np.zeros((3, 3))),
        )

    for count, batch_sum, batch_products in prefetch(batch_sums, in_batches(np.arange(len(dataset)), _BATCH)):
        pixel_sum += batch_sum
        products += batch_products
        on_images(count)
    pixels = len(dataset) * IMAGE_SIZE**2
    mean_colour = pixel_sum.sum(axis=(0, 1)) / pixels
    covariance = products / pixels - np.outer(mean_colour, mean_colour)
    return Statistics((pixel_sum / len(dataset)).astype(np.float32), _colour_axes(covariance))


def _colour_products(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    pixels = image.reshape(-1, 3).astype(np.float64)
    return pixels.T @ pixels


def _colour_axes(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    # The paper's p λ has the unit of a squared pixel. Taken for pixels from 0 to 1 and brought back to 0 to
    # 255 its shifts are a few grey levels; taken for 0 to 255 they would be 255 times that, far outside the
    # range.
    variances, axes = np.linalg.eigh(covariance / 255**2)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(3)]  # an eigenvector's sign is arbitrary: make it positive
    scaled: npt.NDArray[np.float64] = axes * np.sign(largest) * np.maximum(variances, 0) * 255
    return scaled.astype(np.float32)
