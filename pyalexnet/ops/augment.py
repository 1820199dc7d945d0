"""From 8-bit images to a net's input: crop, reflection, mean image and colour shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from annotated_types import Interval

from pyalexnet.architecture import INPUT_CHANNELS
from pyalexnet.device.arguments import INTEGERS, Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, settings
from pyalexnet.system.checks import bounded, number, number_within, require, several

_ABOVE_0 = Interval(gt=0, lt=math.inf)


def prepare_input(
    images_u8: ArrayLike,
    offsets: ArrayLike,
    flips: ArrayLike,
    shifts: ArrayLike,
    mean: ArrayLike | None = None,
    *,
    crop: int = 227,
    size: int | None = None,
    padding: int = 0,
    deviation: Sequence[float] = (1.0, 1.0, 1.0),
    scale: float = 1.0,
    device: str | None = None,
) -> Tensor:
    """Crop, mirror where asked, subtract the mean, add a colour (Krizhevsky et al. 2012, sections 2 and 4.1), scale.

    The mean image is cropped and mirrored with the image: it belongs to pixels, not to places of the crop.

    Args:
        images_u8: uint8 array (images, height, width, 3), RGB.
        offsets: array (images, 2) of integers, each crop's upper left pixel as (y, x); checked in host memory.
        flips: uint8 or bool array (images,); mirrored left to right where not 0.
        shifts: float32 array (images, 3), added to every pixel.
        mean: float32 array (height, width, 3) or (3,), or None to subtract nothing.
        crop: height and width of what is taken from each image.
        size: height and width of the output, with zeros around the crop; at least ``crop`` and ``padding`` (default:
            that).
        padding: rows and columns of zeros above and to the left of the crop; the others are below and to the right.
        deviation: what red, green and blue are divided by, above 0.
        scale: what the result is multiplied by, above 0; the 2012 code has 1 / 1.1 where colours are added.
        device: where to compute when no array is on a device yet.

    Returns:
        Tensor (images, size, size, 3) of float32.

    Raises:
        TypeError: an argument is not an array of its dtype, ``crop``, ``size`` or ``padding`` no integer, ``scale`` no
            number or ``deviation`` no three of them.
        ValueError: an array is empty or of the wrong shape, the crop is larger than the images, the output too small
            for it, an offset leaves the image, the scale or a deviation is not above 0 and finite, or the devices
            differ.
    """
    images = Argument.of("images_u8", images_u8, "uint8", ("images", "height", "width", 3))
    count, height, width, colours = images.shape
    places = Argument.of("offsets", offsets, INTEGERS, (count, 2))
    mirrored = Argument.of("flips", flips, ("uint8", "bool"), (count,))
    colour_shifts = Argument.of("shifts", shifts, shape=(count, colours))
    mean_image = None if mean is None else Argument.of("mean", mean)
    if mean_image is not None and len(mean_image.shape) != 1:
        mean_image.require_shape(height, width, colours)
    elif mean_image is not None:
        mean_image.require_shape(colours)
    on = common_device(device, images, places, mirrored, colour_shifts, mean_image)
    side = min(height, width)
    crop = bounded("crop", crop)
    require(1 <= crop <= side, "crop", crop, f"from 1 to the images' smaller side, {side}")
    padding = bounded("padding", padding, most=2**31 - 1)
    require(padding >= 0, "padding", padding, "not negative")
    size = crop + padding if size is None else bounded("size", size, most=2**31 - 1)
    require(size >= crop + padding, "size", size, f"at least the crop's {crop} and the padding's {padding}")
    divisors = _of_colours("deviation", deviation)
    scale = number("scale", scale)
    corners = places.indices(on, np.array([height - crop + 1, width - crop + 1]))
    out = empty((count, size, size, colours), on)
    on.native.prepare_input(
        out.array,
        images.native(on),
        corners.array,
        mirrored.native(on),
        colour_shifts.native(on),
        None if mean_image is None else mean_image.native(on),
        crop,
        padding,
        divisors,
        settings(on, scale),
        on.stream,
    )
    on.stream.synchronize()
    return out


def _of_colours(name: str, values: object) -> tuple[float, ...]:
    """A number above 0 for each colour.

    Raises:
        TypeError: it is no row of numbers.
        ValueError: there are not three, or one is not above 0 and finite.
    """
    wanted = "three numbers"
    found = several(name, values, partial(number_within, range_=_ABOVE_0), wanted)
    require(len(found) == INPUT_CHANNELS, name, values, wanted)
    return found
