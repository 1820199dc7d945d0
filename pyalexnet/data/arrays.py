"""A data set held in two arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pyalexnet.data.checked import checked_classes, checked_labels, host_array
from pyalexnet.data.dataset import digest
from pyalexnet.data.images import fit_image
from pyalexnet.errors import DataError

# Read within a second; an array may be mapped from a file of any size.
_FINGERPRINT_BYTES = 2**28


class ImageArrays:
    """Images of one size in an array, resized to 256×256 as they are asked for."""

    def __init__(self, images: object, labels: object, classes: Sequence[str] | None = None) -> None:
        """Check the arrays and keep them, without a copy.

        Args:
            images: uint8 (N, H, W) greyscale, (N, H, W, 1) greyscale or (N, H, W, 3) RGB.
            labels: integers (N,) from 0 on.
            classes: names of the classes; by default "0", "1", … up to the largest label.

        Raises:
            DataError: a dtype, shape, label or name cannot serve; the message says which.
        """
        self.images = _checked_images(images)
        self.labels = checked_labels(labels, len(self.images))
        count = int(self.labels.max()) + 1
        self.classes = tuple(map(str, range(count))) if classes is None else checked_classes(classes)
        if len(self.classes) < count:
            raise DataError(f"classes has {len(self.classes)} names, but labels go up to {count - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        return np.stack([fit_image(self.images[index]) for index in indices]), self.labels[indices]

    def fingerprint(self) -> str:
        """See :class:`pyalexnet.data.Dataset`: all pixels or, of many, those of images spread over all."""
        count = len(self.images)
        read = min(count, max(1, _FINGERPRINT_BYTES // self.images[0].nbytes))
        return digest([str(self.images.shape), *(self.images[number * count // read] for number in range(read))])


def _checked_images(data: object) -> npt.NDArray[np.uint8]:
    images = host_array(data, "images")
    if images.dtype != np.uint8:
        raise DataError(f"images has dtype {images.dtype}; it must be uint8, pixels from 0 to 255")
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise DataError(f"images has shape {images.shape}; it must be (N, H, W) or (N, H, W, 3) and not empty")
    return images
