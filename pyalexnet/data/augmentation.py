"""The paper's augmentation: which crop, whether mirrored, which colour shift; and the crops of a test.

What is drawn here a kernel applies (prepare_input). All draws of an epoch depend on the seed and the epoch
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_SIZE
from pyalexnet.system.checks import integer, require

Views: TypeAlias = Literal[1, 5, 10]
VIEWS: tuple[Views, ...] = get_args(Views)


@dataclass(frozen=True)
class Variations:
    """How each of n images is shown to the net.

    Attributes:
        offsets: int32 (n, 2), row and column at which the crop begins.
        flips: uint8 (n,), 1 where the crop is mirrored left to right.
        shifts: float32 (n, 3), added to every pixel's red, green and blue.
        scale: what all pixels are multiplied by at the end.
    """

    offsets: npt.NDArray[np.int32]
    flips: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.float32]
    scale: float = 1.0

    def __getitem__(self, positions: npt.NDArray[np.intp]) -> Variations:
        """The variations at these positions."""
        return Variations(self.offsets[positions], self.flips[positions], self.shifts[positions], self.scale)


def epoch_order(count: int, *, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """The indices 0 … count-1 in the random order of an epoch."""
    return np.random.default_rng([seed, epoch, 0]).permutation(count)


def epoch_variations(
    count: int,
    *,
    seed: int,
    epoch: int,
    reflect: bool,
    colour_noise: float,
    colour_axes: npt.NDArray[np.float32],
    colour_noise_scaled: bool = False,
    crop: int = INPUT_SIZE,
) -> Variations:
    """Random variations for the ``count`` images of an epoch, in the order in which they are used.

    Args:
        count: number of images.
        seed: seed of the run, not negative.
        epoch: number of the epoch.
        reflect: mirror half of the crops.
        colour_noise: standard deviation of the factors on ``colour_axes``; 0 leaves colours as they are.
        colour_axes: float32 (3, 3), see :class:`pyalexnet.data.statistics.Statistics`.
        colour_noise_scaled: divide the centred and shifted images by 1 + ``colour_noise``, as the 2012 code does.
        crop: height and width of the crops.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    offsets = rng.integers(0, IMAGE_SIZE - crop + 1, (count, 2), np.int32)
    flips = rng.integers(0, 2, count, np.uint8)
    alpha = rng.standard_normal((count, 3), np.float32) * np.float32(colour_noise)
    # Products summed by hand, colour by colour: a matrix product's order of sums would be the BLAS's own.
    shifts = alpha[:, :1] * colour_axes[:, 0] + alpha[:, 1:2] * colour_axes[:, 1] + alpha[:, 2:] * colour_axes[:, 2]
    scale = 1 / (1 + colour_noise) if colour_noise_scaled else 1.0
    return Variations(offsets, flips if reflect else np.zeros_like(flips), shifts, scale)


def view_variations(count: int, views: int, crop: int = INPUT_SIZE) -> list[Variations]:
    """The crops by which ``count`` images are judged.

    Args:
        count: number of images.
        views: 1 for the centre; 5 for the centre and the four corners; 10 for these and their mirror images.
        crop: height and width of the crops.

    Raises:
        ValueError: ``views`` is another number.
    """
    views = require_views(views)
    last = IMAGE_SIZE - crop
    centre = last // 2
    places = [(centre, centre), (0, 0), (0, last), (last, 0), (last, last)]
    flips = (0, 1) if views == 10 else (0,)
    return [
        Variations(
            np.tile(np.array(place, np.int32), (count, 1)),
            np.full(count, flip, np.uint8),
            np.zeros((count, 3), np.float32),
        )
        for flip in flips
        for place in places[: 1 if views == 1 else None]
    ]


def require_views(views: int) -> int:
    """One of :data:`VIEWS`.

    Raises:
        TypeError: it is no integer.
        ValueError: it is another number.
    """
    found = integer("views", views)
    require(found in VIEWS, "views", views, f"one of {', '.join(map(str, VIEWS))}")
    return found
