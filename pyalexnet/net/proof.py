"""What a model file proves itself by: digests of its tensors, the logits of a known image, its origin and its error.

A model's checksum is the SHA-256 of a text with a line for each tensor of its file, in the order of the names' bytes::

    conv1.bias F32 96 5c9f…
    conv1.weight F32 11,11,3,96 1d02…

name, dtype, extents and the SHA-256 of the values as the file holds them (little-endian, the last axis fastest), in
lower-case hexadecimal digits; each line ends in a line feed. docs/exchange.md has a program for it.

The known image is uint8 (256, 256, 3) with (y + 1) (x + 3) (c + 2) mod 251 in row y, column x and colour c of red,
green and blue. The net sees the crop at its centre, less the mean image.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, Options, layers
from pyalexnet.data.augmentation import Views, view_variations
from pyalexnet.errors import OutOfMemoryError
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.origin import Origin
from pyalexnet.net.placement import describe_placement
from pyalexnet.net.tensor_file import Tensors

_ROUNDED_BY = {"tf32": 2.0**-11, "bf16": 2.0**-8}


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often a model was wrong.

    Attributes:
        data: by which images, in words.
        images: how many.
        views: crops by which each of them was judged.
        top1_error: the part of them for which another class was the most probable.
    """

    data: str
    images: Annotated[int, Ge(1)]
    views: Views
    top1_error: Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a model file says for its own proof.

    Attributes:
        version: of the pyalexnet that wrote it.
        sha256: the model's checksum.
        tensors: the SHA-256 of each tensor's values by its name.
        logits: of the known image, one an output; None where the device had no room for an image, or a logit was not
            finite.
        device: the kind of device that computed them.
        origin: where the model came from.
        accuracy: as it was measured by one view; None where it was not.
        more_views: as it was measured of the same net by more views, fewest first, each number of them once.
    """

    version: str
    sha256: str
    tensors: dict[str, str]
    logits: tuple[float, ...] | None
    device: str
    origin: Origin
    accuracy: Accuracy | None
    more_views: tuple[Accuracy, ...] = ()

    @classmethod
    def of(
        cls, model: Classifier, tensors: Tensors, accuracy: Accuracy | None, more_views: tuple[Accuracy, ...]
    ) -> Proof:
        """The proof of a model as it is.

        Args:
            model: the classifier; nobody else may change its net meanwhile.
            tensors: all that its file will hold.
            accuracy: as the attribute.
            more_views: as the attribute.
        """
        digests = _digests(tensors)
        logits = _logits_to_record(model)
        return cls(
            version=version("pyalexnet"),
            sha256=_checksum(tensors, digests),
            tensors=digests,
            logits=None if logits is None else tuple(logits.tolist()),
            device=str(describe_placement(model.net.devices)["the kind of device"]),
            origin=model.origin,
            accuracy=accuracy,
            more_views=more_views,
        )

    @property
    def measured(self) -> tuple[Accuracy, ...]:
        """How accurate it was by each number of views, fewest first."""
        return (*([self.accuracy] if self.accuracy else []), *self.more_views)

    def with_accuracy(self, measured: Accuracy) -> Proof:
        """The same of a net that was measured again, which takes the place of what was known by as many views."""
        if measured.views == 1:
            return replace(self, accuracy=measured)
        others = [known for known in self.more_views if known.views != measured.views]
        return replace(self, more_views=tuple(sorted([*others, measured], key=lambda known: known.views)))

    def damage(self, tensors: Tensors) -> str:
        """How tensors differ from those that were written; empty where they do not."""
        digests = _digests(tensors)
        differ = sorted(name for name, digest in digests.items() if digest != self.tensors.get(name))
        if differ:
            return f"{', '.join(differ)} {'does' if len(differ) == 1 else 'do'} not match the SHA-256 written with it"
        return "" if _checksum(tensors, digests) == self.sha256 else "its tensors do not match its checksum"


@dataclass(frozen=True)
class LogitsCheck:
    """Logits of the known image beside those that were written.

    Attributes:
        difference: the largest of any logit, as a part of the largest logit; NaN where one is not finite.
        tolerance: what rounding allows of it.
    """

    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether rounding explains the difference."""
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"its logits of the known image differ by {self.difference:.1e} of the largest from those written with "
            f"it; rounding allows {self.tolerance:.1e}"
        )


def check_logits(model: Classifier, logits: tuple[float, ...]) -> LogitsCheck:
    """Compute the known image's logits and compare them with those that were written.

    Raises:
        OutOfMemoryError: a device has no memory for an image.
    """
    written = np.array(logits, np.float64)
    difference = np.abs(known_logits(model) - written).max() / (np.abs(written).max() or 1.0)
    return LogitsCheck(float(difference), tolerance(model.net.options, model.net.num_classes))


def known_image() -> npt.NDArray[np.uint8]:
    """The image whose logits are written with a model, uint8 (256, 256, 3); the formula is above."""
    y, x, c = np.ogrid[:IMAGE_SIZE, :IMAGE_SIZE, :INPUT_CHANNELS]
    return np.asarray((y + 1) * (x + 3) * (c + 2) % 251, np.uint8)


def known_logits(model: Classifier) -> npt.NDArray[np.float32]:
    """The logits of the known image, float32 (outputs,).

    Raises:
        OutOfMemoryError: a device has no memory for an image.
    """
    (centre,) = view_variations(1, 1, model.net.options.crop)
    found: npt.NDArray[np.float32] = model.net.forward(model.input_batch(known_image()[np.newaxis], centre))[0]
    return found


def tolerance(options: Options, num_classes: int) -> float:
    """By which part of the largest logit two devices may differ: each adds up a sum's terms in an order of its own.

    A sum of n terms is off by some sqrt(n) units in the last place of float32, the root of the number of its roundings
    (Higham 2002, section 2.8), and each layer hands on what the one before is off by: the roots add up. Where operands
    are rounded to fewer bits, an output that is off may be rounded the other way: by two of those roundings in each
    layer.
    """
    terms = (math.prod(layer.tower_weight_shape[:-1]) for layer in layers(num_classes, *options.computed_as))
    eps = float(np.finfo(np.float32).eps)
    return sum(eps * math.sqrt(count) + 2 * _ROUNDED_BY.get(options.precision, 0.0) for count in terms)


def _logits_to_record(model: Classifier) -> npt.NDArray[np.float32] | None:
    """None where no file can hold them, or where a net fills its device but for less than an image takes."""
    try:
        logits = known_logits(model)
    except OutOfMemoryError:
        return None
    return logits if np.isfinite(logits).all() else None


def _digests(tensors: Tensors) -> dict[str, str]:
    """Of several tensors at a time, since a core takes the better part of a second for a net's."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def _digest(values: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").data).hexdigest()


def _checksum(tensors: Tensors, digests: Mapping[str, str]) -> str:
    lines = (f"{name} F32 {','.join(map(str, tensors[name].shape))} {digests[name]}\n" for name in sorted(tensors))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
