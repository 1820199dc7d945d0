"""What each layer takes, holds and computes, from the architecture alone: for those who build machines for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from typing_extensions import Unpack

from pyalexnet.architecture import SECOND_LRN, Conv, Linear, OptionArguments, Options, as_options, layers
from pyalexnet.system.checks import at_least, flag

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerRow:
    """A layer of the net, or a tower's part of it, in the forward pass; where an attribute has no meaning it is None.

    Attributes:
        name: as :meth:`pyalexnet.AlexNet.features` has it.
        kind: ``conv``, ``lrn``, ``lrn_in_map``, ``pool`` or ``linear``.
        tower: whose part it is; None for all towers together.
        input_shape: (N, height, width, channels) or (N, units) of what is read.
        output_shape: the same of what is written.
        kernel: height and width of the windows; of ``lrn``, which goes along channels, None.
        stride: pixels from one window to the next.
        padding: zeros on each side.
        groups: parts of the channels that do not see each other, such as towers.
        nonlinearity: ``relu`` or ``tanh``, where such follows at once; else "".
        multiply_adds: those of the sums of convolutions and matrix products; biases are not counted.
        parameters: weights and biases.
    """

    name: str
    kind: Literal["conv", "lrn", "lrn_in_map", "pool", "linear"]
    tower: int | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel: int | None = None
    stride: int | None = None
    padding: int | None = None
    groups: int | None = None
    nonlinearity: str = ""
    multiply_adds: int = 0
    parameters: int = 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights and biases, float32."""
        return _FLOAT_BYTES * self.parameters

    @property
    def input_bytes(self) -> int:
        """Bytes that are read beside the parameters, float32."""
        return _FLOAT_BYTES * math.prod(self.input_shape)

    @property
    def output_bytes(self) -> int:
        """Bytes that are written, float32."""
        return _FLOAT_BYTES * math.prod(self.output_shape)


def layer_table(
    num_classes: int = 1000, *, batch_size: int = 1, by_tower: bool = False, **options: Unpack[OptionArguments]
) -> list[LayerRow]:
    """All layers in order, without a device.

    Dropout is left out, which does nothing at test. With ``crop=224`` conv1 reads 227×227 pixels all the same, three of
    the rows and columns of them zeros.

    Args:
        num_classes: outputs of fc8, at least 2.
        batch_size: images at a time.
        by_tower: a row for each tower that computes a layer, instead of one for all, in which towers are groups.
        options: fields of :class:`pyalexnet.architecture.Options`.

    Raises:
        TypeError: an argument is of another type, or there is no such option.
        ValueError: an argument is out of its range.
    """
    num_classes, batch_size = at_least("num_classes", num_classes, 2), at_least("batch_size", batch_size, 1)
    by_tower = flag("by_tower", by_tower)
    chosen = Options(**as_options(options, "layer_table", ("num_classes", "batch_size", "by_tower")))
    return list(layer_rows(num_classes, chosen, batch_size, by_tower=by_tower))


def layer_rows(
    num_classes: int, options: Options, batch_size: int = 1, *, by_tower: bool = False
) -> Iterator[LayerRow]:
    """What :func:`layer_table` gives, of arguments that have been checked."""
    for layer in layers(num_classes, options.towers, filters=options.filters):
        for tower in layer.computing_towers if by_tower else (None,):
            if isinstance(layer, Conv):
                yield from _convolution(layer, tower, batch_size, options)
            else:
                yield _linear(layer, tower, batch_size, options)


def _convolution(layer: Conv, tower: int | None, n: int, options: Options) -> Iterator[LayerRow]:
    """A convolution, and what follows it before the next one."""
    *steps, last = ["conv", *options.steps_after(layer)]
    relu_last = options.relu1_last and layer.name == "conv1"
    for kind in (*steps, last):
        nonlinearity = options.activation if kind == (last if relu_last else "conv") else ""
        if kind == "conv":
            row = _products(layer, tower, n, nonlinearity)
        else:
            row = _step(layer, kind, tower, row.output_shape, options, nonlinearity)
        yield row


def _products(layer: Conv, tower: int | None, n: int, nonlinearity: str) -> LayerRow:
    filters, channels = layer.filters, layer.channels
    if tower is not None:
        filters, channels = layer.tower_filters, layer.tower_channels
    pixels, terms = layer.output_size**2, layer.kernel**2 * layer.tower_channels
    return LayerRow(
        layer.name,
        "conv",
        tower,
        (n, layer.size, layer.size, channels),
        (n, layer.output_size, layer.output_size, filters),
        layer.kernel,
        layer.stride,
        layer.padding,
        groups=channels // layer.tower_channels,
        nonlinearity=nonlinearity,
        multiply_adds=n * pixels * terms * filters,
        parameters=(terms + 1) * filters,
    )


def _step(
    layer: Conv, kind: str, tower: int | None, shape: tuple[int, ...], options: Options, nonlinearity: str
) -> LayerRow:
    """A normalisation or pooling of an array of that shape."""
    name = f"{kind}{layer.name[-1]}"
    if kind == "lrn":  # stays inside a tower
        groups = 1 if tower is not None else layer.towers
        return LayerRow(name, "lrn", tower, shape, shape, groups=groups, nonlinearity=nonlinearity)
    if kind == "lrn_in_map":
        size = SECOND_LRN["size"]
        return LayerRow(name, "lrn_in_map", tower, shape, shape, size, 1, size // 2, nonlinearity=nonlinearity)
    pooled = (shape[0], layer.pooled_size, layer.pooled_size, shape[-1])
    return LayerRow(name, "pool", tower, shape, pooled, **options.pool_arguments, nonlinearity=nonlinearity)


def _linear(layer: Linear, tower: int | None, n: int, options: Options) -> LayerRow:
    outputs = layer.outputs if tower is None else layer.tower_outputs
    return LayerRow(
        layer.name,
        "linear",
        tower,
        (n, layer.inputs),
        (n, outputs),
        nonlinearity=options.activation if layer.hidden else "",
        multiply_adds=n * layer.inputs * outputs,
        parameters=(layer.inputs + 1) * outputs,
    )
