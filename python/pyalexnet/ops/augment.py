"""From 8-bit images to a net's input: crop, reflection, mean image and colour shift."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyalexnet.ops._arguments import common_device, empty, require_integers, require_numbers, to_device
from pyalexnet.tensor import Tensor


def prepare_input(
    images_u8: Any,
    offsets: Any,
    flips: Any,
    shifts: Any,
    mean: Any = None,
    *,
    crop: int = 227,
    size: int | None = None,
    scale: float = 1.0,
    device: str | None = None,
) -> Tensor:
    """Crop, mirror where asked, subtract the mean, add a colour (Krizhevsky et al. 2012, sections 2 and 4.1), scale.

    The mean image is cropped and mirrored with the image: it belongs to pixels, not to places of the crop.

    Args:
        images_u8: uint8 array (images, height, width, 3), RGB.
        offsets: int32 array (images, 2), each crop's upper left pixel as (y, x).
        flips: uint8 array (images,); mirrored left to right where not 0.
        shifts: float32 array (images, 3), added to every pixel.
        mean: float32 array (height, width, 3) or (3,), or None to subtract nothing.
        crop: height and width of what is taken from each image.
        size: height and width of the output, at least ``crop``, with zeros below and to the right of the crop
            (default: ``crop``).
        scale: what the result is multiplied by, above 0; the 2012 code has 1 / 1.1 where colours are added.
        device: where to compute when no array is on a device yet.

    Returns:
        Tensor (images, size, size, 3) of float32.

    Raises:
        TypeError: an argument is not an array of its dtype, ``crop`` or ``size`` no integer or ``scale`` no number.
        ValueError: an array is empty or of the wrong shape, the crop is larger than the images or the output, an offset
            leaves the image, the scale is not above 0 and finite, or the devices differ.
    """
    arrays = {"images_u8": images_u8, "offsets": offsets, "flips": flips, "shifts": shifts}
    on = common_device(device, **arrays, **({} if mean is None else {"mean": mean}))
    images = to_device("images_u8", images_u8, on, dtype="uint8")
    offsets = to_device("offsets", offsets, on, dtype="int32")
    flips = to_device("flips", flips, on, dtype="uint8")
    shifts = to_device("shifts", shifts, on)
    mean = None if mean is None else to_device("mean", mean, on)
    size = crop if size is None else size
    require_integers(crop=crop, size=size)
    require_numbers(scale=scale)
    _check_crops(images, offsets, crop)
    if size < crop:
        raise ValueError(f"size is {size}; it must be at least the crop's {crop}")
    out = empty((images.shape[0], size, size, 3), on)
    on.native.prepare_input(
        out.array,
        images.array,
        offsets.array,
        flips.array,
        shifts.array,
        None if mean is None else mean.array,
        crop,
        scale,
        on.stream,
    )
    on.stream.synchronize()
    return out


def _check_crops(images: Tensor, offsets: Tensor, crop: int) -> None:
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images_u8 has shape {images.shape}; it must be (images, height, width, 3)")
    count, height, width, _ = images.shape
    if offsets.shape != (count, 2):
        raise ValueError(f"offsets has shape {offsets.shape}; it must be {(count, 2)}")
    if not 1 <= crop <= min(height, width):
        raise ValueError(f"crop is {crop}; it must be from 1 to the images' smaller side, {min(height, width)}")
    values, last = offsets.numpy(), np.array([height - crop, width - crop])
    wrong = np.argwhere((values < 0) | (values > last))
    if wrong.size:
        image, axis = (int(i) for i in wrong[0])
        raise ValueError(
            f"offsets[{image}, {axis}] is {values[image, axis]}; it must be from 0 to {last[axis]}"
            f" for crops of {crop} pixels"
        )
