"""8-bit images as the net takes them: a kernel makes its input of them on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, INPUT_SIZE


@dataclass(frozen=True)
class ImageBatch:
    """8-bit images that the device itself crops, mirrors, centres and shifts into the net's input.

    Attributes:
        images: uint8 (N, 256, 256, 3), RGB.
        offsets: int32 (N, 2), row and column of each crop's top left corner.
        flips: uint8 (N,), 1 to mirror left and right.
        shifts: float32 (N, 3), added to every pixel's red, green and blue.
        mean: float32 (256, 256, 3) or (3,), subtracted before.
        scale: what all is multiplied by at the end, above 0.
    """

    images: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int32]
    flips: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, crop: int = INPUT_SIZE) -> dict[str, npt.NDArray[Any]]:
        """All arrays by name, contiguous and checked, with a mean for every pixel.

        Args:
            crop: height and width of what is taken from each image.

        Raises:
            TypeError: an array has another dtype.
            ValueError: an array has another shape, or a crop would leave its image.
        """
        n, size = len(self.images), IMAGE_SIZE
        if self.offsets.size and not 0 <= self.offsets.min() <= self.offsets.max() <= size - crop:
            raise ValueError(
                f"offsets reach from {self.offsets.min()} to {self.offsets.max()}; crops of {crop} lie inside "
                f"images of {size} only from 0 to {size - crop}"
            )
        return {
            "images": _checked("images", self.images, np.uint8, (n, size, size, INPUT_CHANNELS)),
            "offsets": _checked("offsets", self.offsets, np.int32, (n, 2)),
            "flips": _checked("flips", self.flips, np.uint8, (n,)),
            "shifts": _checked("shifts", self.shifts, np.float32, (n, INPUT_CHANNELS)),
            "mean": _checked(
                "mean",
                np.broadcast_to(self.mean, (size, size, INPUT_CHANNELS)) if self.mean.ndim == 1 else self.mean,
                np.float32,
                (size, size, INPUT_CHANNELS),
            ),
        }


def _checked(name: str, value: npt.NDArray[Any], dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if value.dtype != dtype:
        raise TypeError(f"{name} has dtype {value.dtype}; it must be {np.dtype(dtype)}")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}; it must be {shape}")
    return np.ascontiguousarray(value)
