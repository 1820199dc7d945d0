"""What each entry of a program must do at least: the yardstick that a benchmark measures it by.

A convolution counts as direct sums, however it is computed: that is what it is compared by with others. What it does by
spectra is counted apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyalexnet.device.native import NativeModule
from pyalexnet.net.entry import Entry

# The points a side of the tori that there are spectra of; src/kernels/spectra.cuh has the kernels.
_SPECTRUM_POINTS = (8, 14, 30)


@dataclass(frozen=True)
class Cost:
    """Work of one call.

    Attributes:
        flops: floating-point operations, a multiply-add counted as two.
        bytes: of device memory, each input read once and each output written once.
    """

    flops: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def cost_of(entry: Entry, native: NativeModule) -> Cost:
    """The cost of an entry, as its kernel's own file states it; an exchange moves bytes only.

    Args:
        entry: an entry of a program; whether it is built does not matter.
        native: the native module that runs it.
    """
    if entry.operation == "exchange_finish":
        return Cost(0, 0)
    if entry.operation == "exchange_start":
        return Cost(0, 2 * 4 * math.prod(entry.arguments["to"].shape))
    cost = getattr(native, f"{entry.operation}_cost")(**entry.arguments)
    return Cost(cost.flops, cost.bytes)


def spectral_costs(entry: Entry) -> tuple[Cost, ...]:
    """What a convolution of stride 1, or a gradient of one, costs by spectra, kernel by kernel.

    Three kernels transform x, w and y or their gradients, two of them there and one back, and one multiplies: so each
    spectrum is written once and read once. The transforms count by their bytes alone: some N / 2 multiply-adds an
    element of a map on N by N points are one to three floating-point operations a byte, and GPUs make eight and more
    in the time in which a byte comes. ``src/kernels/fourier_conv.cuh`` has the formulas.

    Where x's spectra are computed once for several of these, by ``conv_x_spectra``, its transform counts there alone;
    likewise w's where they are kept, by ``conv_w_spectra``.

    Args:
        entry: one of ``conv_x_spectra``, ``conv_w_spectra``, ``conv_forward``, ``conv_backward_input`` or
            ``conv_backward_weight``, however it is planned.

    Raises:
        ValueError: there are no spectra of maps that large.
    """
    if "spectra" in entry.arguments:
        maps = entry.arguments["x" if entry.operation == "conv_x_spectra" else "w"]
        return (Cost(0, 4 * (math.prod(maps.shape) + math.prod(entry.arguments["spectra"].shape))),)
    x, w, y = (_shape(entry, name) for name in "xwy")
    # Image and padding, on one side, of each axis: y = x + 2 padding - w + 1.
    needed = max(*((x[axis] + y[axis] + w[axis - 1] - 1) // 2 for axis in (1, 2)), *y[1:3], *w[:2])
    if needed > _SPECTRUM_POINTS[-1]:
        raise ValueError(f"entry is {entry}; its maps need {needed} points a side, of {_SPECTRUM_POINTS[-1]} at most")
    points = next(points for points in _SPECTRUM_POINTS if points >= needed)
    planes = 4 + 3 * (points**2 // 2 - 2)  # four real numbers and the rest complex, of three real products each
    batch, depth, filters = x[0], w[2], y[3]
    spectra = planes * batch * x[3], planes * depth * filters, planes * batch * filters
    transforms = [
        Cost(0, 4 * (math.prod(shape) + spectrum)) for shape, spectrum in zip((x, w, y), spectra, strict=True)
    ]
    if "w_spectra" in entry.arguments:
        del transforms[1]
    if "x_spectra" in entry.arguments:
        del transforms[0]
    return (*transforms, Cost(2 * planes * batch * depth * filters, 4 * sum(spectra)))


def _shape(entry: Entry, name: str) -> tuple[int, ...]:
    """The shape of an argument or, where that is what the entry computes, of its gradient."""
    given = entry.arguments
    return tuple((given[name] if name in given else given[f"d{name}"]).shape)
