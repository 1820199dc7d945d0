"""What each entry of a program must do at least: the yardstick that a benchmark measures it by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyalexnet.device.native import NativeModule
from pyalexnet.net.entry import Entry


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
    """The cost of a bound entry, as its kernel's own file states it; an exchange moves bytes only.

    Args:
        entry: an entry of a program after ``build()``.
        native: the native module that runs it.
    """
    if entry.operation == "exchange_finish":
        return Cost(0, 0)
    if entry.operation == "exchange_start":
        return Cost(0, 2 * 4 * math.prod(entry.arguments["to"].shape))
    cost = getattr(native, f"{entry.operation}_cost")(**entry.arguments)
    return Cost(cost.flops, cost.bytes)
