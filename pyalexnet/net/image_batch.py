"""8-bit images as the net takes them: a kernel makes its input of them on the device."""

from __future__ import annotations

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import cast

import numpy as np

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, INPUT_SIZE
from pyalexnet.device.arguments import INTEGERS, Argument
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.system.checks import number, require


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """8-bit images that the device itself crops, mirrors, centres and shifts into the net's input.

    Each array may be NumPy's, PyTorch's, CuPy's or a Tensor, in host memory or on a GPU of the net.

    Attributes:
        images: uint8 (N, 256, 256, 3), RGB.
        offsets: integers (N, 2), row and column of each crop's top left corner.
        flips: uint8 or bool (N,), 1 to mirror left and right.
        shifts: float32 (N, 3), added to every pixel's red, green and blue.
        mean: float32 (256, 256, 3) or (3,), subtracted before.
        scale: what all is multiplied by at the end, above 0.
    """

    images: ArrayLike
    offsets: ArrayLike
    flips: ArrayLike
    shifts: ArrayLike
    mean: ArrayLike
    scale: float = 1.0

    def __len__(self) -> int:
        return len(cast(Sized, self.images))

    def __repr__(self) -> str:
        return f"<ImageBatch of {len(self)} images, scale {self.scale}>"

    def arguments(self, crop: int = INPUT_SIZE) -> dict[str, Argument]:
        """All arrays by name, checked, with a mean for every pixel.

        Args:
            crop: height and width of what is taken from each image.

        Raises:
            TypeError: something is no array, or one of another dtype, or ``scale`` is no number.
            ValueError: an array has another shape, a crop would leave its image, or ``scale`` is not above 0.
        """
        size, scale = IMAGE_SIZE, number("scale", self.scale)
        images = Argument.of("images", self.images, "uint8", ("N", size, size, INPUT_CHANNELS))
        n = images.shape[0]
        offsets = Argument.of("offsets", self.offsets, INTEGERS, (n, 2)).host()
        if not 0 <= offsets.min() <= offsets.max() <= size - crop:
            raise ValueError(
                f"offsets reach from {offsets.min()} to {offsets.max()}; crops of {crop} lie inside "
                f"images of {size} only from 0 to {size - crop}"
            )
        mean = Argument.of("mean", self.mean)
        if len(mean.shape) == 1:
            mean.require_shape(INPUT_CHANNELS)
            mean = Argument("mean", np.broadcast_to(mean.host(), (size, size, INPUT_CHANNELS)))
        mean.require_shape(size, size, INPUT_CHANNELS)
        require(0 < scale < math.inf, "scale", self.scale, "above 0 and finite")
        return {
            "images": images,
            "offsets": Argument("offsets", offsets.astype(np.int32)),
            "flips": Argument.of("flips", self.flips, ("uint8", "bool"), (n,)),
            "shifts": Argument.of("shifts", self.shifts, shape=(n, INPUT_CHANNELS)),
            "mean": mean,
        }
