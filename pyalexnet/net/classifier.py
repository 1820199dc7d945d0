"""A net together with what is needed to name what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS
from pyalexnet.data.augmentation import Variations
from pyalexnet.data.choice import DataDescription
from pyalexnet.device.arguments import Argument
from pyalexnet.device.backend import devices
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.network import AlexNet
from pyalexnet.net.origin import UNKNOWN, Origin
from pyalexnet.system.checks import shown
from pyalexnet.system.json_file import require_distinct


@dataclass(frozen=True, eq=False)
class Classifier:
    """A net, the classes' names and the mean image that its inputs are measured from.

    Attributes:
        net: the net; it may have more outputs than there are names.
        classes: names of the outputs, from the first on.
        mean: float32 (256, 256, 3), subtracted from images before the net sees them.
        learned_from: what its training images were, as :attr:`pyalexnet.data.choice.DataChoice.description` has it, or
            the folder of its model file, beside which ``run.json`` may tell; None where nobody knows.
        origin: where it came from, which its file will tell.
    """

    net: AlexNet
    classes: tuple[str, ...]
    mean: npt.NDArray[np.float32]
    learned_from: DataDescription | Path | None = None
    origin: Origin = UNKNOWN

    def __post_init__(self) -> None:
        """Check the parts; ``classes`` may be any list of names, ``mean`` an array of any library.

        Raises:
            TypeError: a part is of another type.
            ValueError: there are no names, more than outputs or one twice, or ``mean`` has another shape or NaN.
        """
        if not isinstance(self.net, AlexNet):
            raise TypeError(f"net is {shown(self.net)}; it must be an AlexNet")
        object.__setattr__(self, "classes", _names(self.classes, self.net.num_classes))
        mean = Argument.of("mean", self.mean, shape=(IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)).host()
        if not np.isfinite(mean).all():
            raise ValueError("mean has values that are NaN or infinite; all must be finite")
        object.__setattr__(self, "mean", mean)
        _require_description(self.learned_from)
        if not isinstance(self.origin, Origin):
            raise TypeError(f"origin is {shown(self.origin)}; it must be an Origin")

    def __repr__(self) -> str:
        return f"<Classifier of {_some(self.classes)}: {self.net!r}>"

    def input_batch(self, images: ArrayLike, variations: Variations) -> ImageBatch:
        """What the net takes: uint8 images (N, 256, 256, 3), each varied in its way, less the mean.

        Args:
            images: an array of NumPy, PyTorch or CuPy, or a Tensor.
            variations: as many.
        """
        return ImageBatch(images, variations.offsets, variations.flips, variations.shifts, self.mean, variations.scale)

    def class_name(self, output: int) -> str:
        """The name of an output; outputs beyond the named classes have their number."""
        return self.classes[output] if output < len(self.classes) else f"output {output}"


def _names(classes: object, outputs: int) -> tuple[str, ...]:
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise TypeError(f"classes is {shown(classes)}; it must be a list of names")
    names = tuple(classes)
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"classes[{place}] is {shown(name)}; it must be a name")
    if not 1 <= len(names) <= outputs:
        raise ValueError(f"classes has {len(names)} names; it must have 1 to {outputs}, as many as the net's outputs")
    require_distinct("classes", names)
    return names


def _require_description(learned_from: object) -> None:
    parts = {"source", "validation", "training", "held_out"}
    is_description = isinstance(learned_from, Mapping) and learned_from.keys() >= parts
    if not is_description and not isinstance(learned_from, Path | None):
        raise TypeError(f"learned_from is {shown(learned_from)}; it must be a description of data, a Path or None")


def _some(names: tuple[str, ...]) -> str:
    """The first names, escaped, and how many there are."""
    first = ", ".join(f"{name[:20]!r}" for name in names[:3])
    return f"{len(names)} classes ({first}{', …' if len(names) > 3 else ''})"


def default_devices(local_rank: int = 0) -> tuple[str, ...]:
    """A GPU where there is one, else the CPU.

    Args:
        local_rank: a process's number among those of its machine that work together: each takes another GPU, as far as
            there are enough.
    """
    best = [info.name for info in devices()]
    gpus = [name for name in best if name.startswith("cuda:")]
    return (gpus[local_rank % len(gpus)] if gpus else best[0],)
