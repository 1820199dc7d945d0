"""A net together with what is needed to name what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.backend import devices
from pyalexnet.data.augmentation import Variations
from pyalexnet.image_batch import ImageBatch
from pyalexnet.network import AlexNet


@dataclass(frozen=True, eq=False)
class Classifier:
    """A net, the classes' names and the mean image that its inputs are measured from.

    Attributes:
        net: the net; it may have more outputs than there are names.
        classes: names of the outputs, from the first on.
        mean: float32 (256, 256, 3), subtracted from images before the net sees them.
        learned_from: what its training images were, as :attr:`pyalexnet.data.choice.DataChoice.description` has it, or
            the folder of its model file, beside which ``run.json`` may tell; None where nobody knows.
    """

    net: AlexNet
    classes: tuple[str, ...]
    mean: npt.NDArray[np.float32]
    learned_from: Mapping[str, Any] | Path | None = None

    def input_batch(self, images: npt.NDArray[np.uint8], variations: Variations) -> ImageBatch:
        """What the net takes: uint8 images (N, 256, 256, 3), each varied in its way, less the mean."""
        return ImageBatch(images, variations.offsets, variations.flips, variations.shifts, self.mean, variations.scale)

    def class_name(self, output: int) -> str:
        """The name of an output; outputs beyond the named classes have their number."""
        return self.classes[output] if output < len(self.classes) else f"output {output}"


def default_devices() -> tuple[str, ...]:
    """The first GPU where there is one, else the CPU."""
    return (devices()[0].name,)
