"""Which pixels of its input a unit of a layer depends on, from the architecture alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyalexnet.architecture import INPUT_SIZE, Options, activation_names
from pyalexnet.net.layer_table import layer_rows


class Region(NamedTuple):
    """A rectangle of pixels, from ``top`` and ``left`` to before ``bottom`` and ``right``."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class ReceptiveField:
    """The squares of an image that the positions of a layer see, from the first pixel on that the net takes of it.

    Attributes:
        size: height and width of a square.
        stride: pixels from one position's square to the next one's.
        offset: row and column at which the first position's square begins; below 0, where it reaches into the padding.
    """

    size: int
    stride: int
    offset: int

    def square(self, row: int, column: int) -> Region:
        """The square that a position sees, the padding around the input included."""
        top, left = (self.offset + place * self.stride for place in (row, column))
        return Region(top, left, top + self.size, left + self.size)

    def region(self, row: int, column: int) -> Region:
        """The part of the square that lies inside of the input of 227×227 pixels."""
        return Region(*(min(max(edge, 0), INPUT_SIZE) for edge in self.square(row, column)))


WHOLE_INPUT = ReceptiveField(INPUT_SIZE, 0, 0)
"""What units of fully connected layers see."""


def receptive_fields(options: Options) -> dict[str, ReceptiveField]:
    """The receptive field of each layer that can be asked for, by :func:`pyalexnet.architecture.activation_names`.

    Going up, a window of k positions, s apart and with p zeros before them, widens the field by k - 1 strides of the
    layer below, begins p of these strides earlier, and multiplies the stride by s. LRN across channels stays at its
    position. The zeros before the image that :attr:`Options.conv1_padding` adds count as conv1's.
    """
    fields: dict[str, ReceptiveField] = {}
    field = ReceptiveField(1, 1, -options.conv1_padding)
    for row in layer_rows(2, options):
        if row.kind == "linear":
            field = WHOLE_INPUT
        elif row.kernel is not None and row.stride is not None and row.padding is not None:
            field = ReceptiveField(
                size=field.size + (row.kernel - 1) * field.stride,
                stride=field.stride * row.stride,
                offset=field.offset - row.padding * field.stride,
            )
        fields[row.name] = field
    return {name: fields[name.removesuffix("_pre")] for name in activation_names(options)}
