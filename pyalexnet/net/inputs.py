"""What a net is to look at: checked, and brought into a program's arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import INPUT_CHANNELS, INPUT_SIZE
from pyalexnet.device.arguments import INTEGERS, Argument
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.native import NativeArray
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.program import Program
from pyalexnet.net.transfers import Transfers
from pyalexnet.system.checks import shown


@dataclass(frozen=True)
class Input:
    """A batch that a caller gave, checked; nothing of it has been copied.

    Attributes:
        arrays: by the names that a program's input arrays have.
        scale: of 8-bit images, of which a program prepares what the net looks at; None where they are that already.
    """

    arrays: dict[str, Argument]
    scale: float | None

    @classmethod
    def of(cls, x: ArrayLike | ImageBatch, crop: int) -> Input:
        """What :meth:`AlexNet.forward` takes.

        Raises:
            TypeError: ``x`` is no array of float32, or has one of another dtype than it must have.
            ValueError: an array has another shape, or the batch makes no sense otherwise.
        """
        if isinstance(x, ImageBatch):
            return cls(x.arguments(crop), float(x.scale))
        return cls({"joint": Argument.of("x", x, shape=("N", INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS))}, None)

    @property
    def count(self) -> int:
        """How many images it has."""
        return next(iter(self.arrays.values())).shape[0]

    def cut(self, parts: int) -> Iterator[Input]:
        """It in so many parts of as many images, one after the other; in host memory, if there is more than one."""
        if parts == 1:
            yield self
            return
        cut = {name: array.cut(parts) for name, array in self.arrays.items() if name != "mean"}
        for number in range(parts):
            part = {name: cut[name][number] if name in cut else array for name, array in self.arrays.items()}
            yield Input(part, self.scale)


class InputArrays:
    """Brings batches into the arrays that programs read them from, and knows what lies there.

    A mean image in host memory is not copied again as long as it is the same and no other program has been turned to:
    the programs share their memory.
    """

    def __init__(self, transfers: Transfers, places: int) -> None:
        """Nothing lies anywhere yet.

        Args:
            transfers: what copies.
            places: how many devices there are.
        """
        self._transfers = transfers
        self._places = places
        self._program: Program | None = None
        self._mean: npt.NDArray[np.float32] | None = None

    def turn_to(self, program: Program | None) -> None:
        """What follows is for that program; what lay in the arrays of another one is not relied on any more."""
        if program is not self._program:
            self._program, self._mean = program, None

    def upload(self, program: Program, given: Input, *, already_there: Collection[str] = ()) -> None:
        """Bring a batch to each device.

        Args:
            program: the one of the batch's size.
            given: the batch.
            already_there: names of arrays that need not be copied again.
        """
        self.turn_to(program)
        for name, array in given.arrays.items():
            if name in already_there:
                continue
            to = {place: program.array(f"input.{name}", place) for place in range(self._places)}
            if name == "mean":
                self._upload_mean(to, array)
            else:
                self._transfers.upload(to, array)

    def _upload_mean(self, to: Mapping[int, NativeArray], mean: Argument) -> None:
        on_gpu = mean.device is not None and mean.device.target == "cuda"
        values: npt.NDArray[np.float32] | None = None if on_gpu else mean.host()
        if values is not None and self._mean is not None and _same_bits(values, self._mean):
            return
        self._mean = None  # until all devices have the new one
        self._transfers.upload(to, mean)
        self._mean = None if values is None else values.copy()


def as_labels(labels: ArrayLike | Sequence[int], count: int, num_classes: int) -> Argument:
    """Labels as int32 in host memory.

    Raises:
        TypeError: they are no integers.
        ValueError: there are not as many as images, or one is no class.
    """
    array = _array_of(labels) if isinstance(labels, Sequence) else labels
    given = Argument.of("labels", array, INTEGERS, (count,))
    values = given.host()
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"labels[{first}] is {values[first]}; it must be from 0 to num_classes - 1 = {num_classes - 1}"
        )
    return Argument("labels", values.astype(np.int32))


def _array_of(labels: Sequence[int]) -> npt.NDArray[np.generic]:
    try:
        return np.array(labels)
    except ValueError as error:  # lists of different lengths
        raise TypeError(f"labels is {shown(labels)}; it must be a list of integers") from error


def _same_bits(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    return np.array_equal(one.view(np.int32), other.view(np.int32))
