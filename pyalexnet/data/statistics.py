"""What training measures over its images first: the mean image and the directions in which colours vary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import Dataset
from pyalexnet.data.prefetch import shared_out
from pyalexnet.system.ranks import ALONE, Ranks

_BATCH = 32


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


class ImageSums:
    """Sums over images from which :class:`Statistics` follow.

    They are sums of integers and exact: no order of summation and no division among workers changes a bit.
    """

    def __init__(self) -> None:
        """Sums over no images."""
        self.count = 0
        self._pixels = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint64)
        self._products = np.zeros((3, 3), np.uint64)

    def add(self, images: npt.NDArray[np.uint8]) -> None:
        """Count these images, uint8 (n, 256, 256, 3), in."""
        self.count += len(images)
        self._pixels += images.sum(axis=0, dtype=np.uint64)
        for image in images:
            self._products += _colour_products(image)

    def merge(self, other: ImageSums) -> None:
        """Count other images' sums in."""
        self.count += other.count
        self._pixels += other._pixels
        self._products += other._products

    def covariance(self) -> npt.NDArray[np.float64]:
        """Covariance of red, green and blue over all pixels, (3, 3), each value the float64 nearest to the true one."""
        pixels = self.count * IMAGE_SIZE**2
        colours = [int(total) for total in self._pixels.sum(axis=(0, 1))]
        products = self._products.tolist()
        # Python's integers are exact, and its division of them rounds once.
        return np.array(
            [[(pixels * products[i][j] - colours[i] * colours[j]) / pixels**2 for j in range(3)] for i in range(3)]
        )

    def statistics(self) -> Statistics:
        """The statistics of all images counted in, at least one."""
        return Statistics((self._pixels / self.count).astype(np.float32), _colour_axes(self.covariance()))


def measure(
    dataset: Dataset, on_images: Callable[[int], None] = lambda _count: None, ranks: Ranks = ALONE
) -> Statistics:
    """One pass over a data set; memory does not grow with it.

    Args:
        dataset: the images, at least one.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: those that share the images, each with the same data.

    Raises:
        DataError: an image cannot be read.
    """
    total, one_at_a_time = ImageSums(), Lock()

    def count_in(indices: npt.NDArray[np.intp]) -> None:
        sums = ImageSums()
        sums.add(dataset.batch(indices)[0])
        with one_at_a_time:
            total.merge(sums)

    for _ in shared_out(count_in, len(dataset), _BATCH, on_images=on_images, ranks=ranks):
        pass
    if ranks.is_first:
        for rank in range(1, ranks.size):
            total.merge(ranks.receive(rank))
    else:
        ranks.send(total, 0)
    return ranks.from_first(total.statistics)


def _colour_products(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    # The largest sum, 256² · 255², is just below 2³².
    colours = image.reshape(-1, 3).T.astype(np.uint32, order="C")
    products: npt.NDArray[np.uint32] = np.einsum("ip,jp->ij", colours, colours)
    return products


def _colour_axes(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    # The paper's p λ has the unit of a squared pixel. Taken for pixels from 0 to 1 and brought back to 0 to
    # 255 its shifts are a few grey levels; taken for 0 to 255 they would be 255 times that, far outside the
    # range.
    variances, axes = np.linalg.eigh(covariance / 255**2)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(3)]  # an eigenvector's sign is arbitrary: make it positive
    scaled: npt.NDArray[np.float64] = axes * np.sign(largest) * np.maximum(variances, 0) * 255
    return scaled.astype(np.float32)
