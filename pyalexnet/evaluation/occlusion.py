"""Which parts of an image a class hangs on: its probability while a grey square covers one place after the other.

Zeiler & Fergus 2014, section 4.2. Where the probability falls, the square hides what the net went by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.pictures import Pictures
from pyalexnet.data.prefetch import in_batches
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.predict import as_images
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import mean_probabilities
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import at_least, bounded, callback, require


@dataclass(frozen=True, eq=False)
class OcclusionMap:
    """The probability of a class by the place of a square over an image.

    Attributes:
        label: the class.
        probability: that of the image without a square.
        probabilities: float64 (rows, columns), each with the square around the middle of one cell of ``stride`` ×
            ``stride`` pixels; the cells lie side by side over the centre of the image that the net sees, and may end
            beyond it.
        size: height and width of the square in pixels.
        stride: pixels from one place to the next.
        crop: height and width of what the net sees.
    """

    label: str
    probability: float
    probabilities: npt.NDArray[np.float64]
    size: int
    stride: int
    crop: int


def occlusion_maps(
    model: Classifier | str | PathLike[str],
    images: Pictures,
    *,
    label: str | None = None,
    size: int = 48,
    stride: int = 12,
    grey: int = 128,
    batch_size: int = BATCH_SIZE,
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[OcclusionMap]:
    """How probable a class is while a square covers one place of an image after the other.

    The square's middle goes over a grid up to the edges of the view, where the square is cut off. A probability has the
    same bits as :func:`pyalexnet.predict`'s of the image with the square drawn into it, whatever ``batch_size`` is.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        images: as :func:`pyalexnet.predict` takes them.
        label: the class; by default, for each image the one that is most probable without a square.
        size: height and width of the square, 1 to 256 pixels.
        stride: pixels from one place to the next, 1 to 256. The number of images to compute is (227 / stride)².
        grey: the square's red, green and blue, 0 to 255.
        batch_size: images that the net computes at a time.
        on_images: called with the number of images with a square done since the last call.

    Raises:
        DataError: an image cannot be read, or there is none.
        TypeError: an argument is of another type.
        ValueError: a number is out of its range, or the model has no such class.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    size, grey = bounded("size", size, 1, IMAGE_SIZE), bounded("grey", grey, 0, 255)
    stride, batch_size = bounded("stride", stride, 1, IMAGE_SIZE), at_least("batch_size", batch_size, 1)
    callback("on_images", on_images)
    model = as_model(model)
    output = None if label is None else _output(model, label)
    return [
        _occlusion_map(model, image, output, size, stride, grey, batch_size, on_images) for image in as_images(images)
    ]


def places_of(crop: int, stride: int) -> npt.NDArray[np.intp]:
    """Where the middles of the squares lie in a view, intp (rows · columns, 2): row and column, in row-major order.

    Raises:
        TypeError: ``stride`` is no integer.
        ValueError: it is out of its range.
    """
    stride = bounded("stride", stride, 1, IMAGE_SIZE)
    middles = np.arange(stride // 2, crop + stride // 2, stride)
    return np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1).reshape(-1, 2)


def _occlusion_map(
    model: Classifier,
    image: npt.NDArray[np.uint8],
    output: int | None,
    size: int,
    stride: int,
    grey: int,
    batch_size: int,
    on_images: Callable[[int], None],
) -> OcclusionMap:
    crop = model.net.options.crop
    whole = mean_probabilities(model, image[None])[0]
    if output is None:
        output = int(np.argmax(whole))
    found: list[npt.NDArray[np.float64]] = []
    for batch in occluded_batches(image, crop, size, stride, grey, batch_size):
        found.append(mean_probabilities(model, batch)[:, output])
        on_images(len(batch))
    probabilities = np.concatenate(found)
    side = -(-crop // stride)
    return OcclusionMap(
        model.class_name(output), float(whole[output]), probabilities.reshape(side, side), size, stride, crop
    )


def occluded_batches(
    image: npt.NDArray[np.uint8], crop: int, size: int, stride: int, grey: int, batch_size: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """Copies of an image, uint8 (256, 256, 3), each with the square at one of :func:`places_of`, batch by batch."""
    start = (IMAGE_SIZE - crop) // 2
    middles = places_of(crop, stride)
    for indices in in_batches(np.arange(len(middles)), batch_size):
        batch = np.repeat(image[None], len(indices), axis=0)
        for occluded, middle in zip(batch, middles[indices], strict=True):
            top, left = np.maximum(start + middle - size // 2, 0)
            bottom, right = start + middle - size // 2 + size
            occluded[top:bottom, left:right] = grey
        yield batch


def _output(model: Classifier, label: str) -> int:
    require(label in model.classes, "label", label, f"one of the model's classes, such as {model.classes[0]!r}")
    return model.classes.index(label)
