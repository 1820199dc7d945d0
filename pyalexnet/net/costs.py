"""What each entry of a program must do at least: the yardstick that a benchmark measures it by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pyalexnet.net.program import Entry


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


def cost_of(entry: Entry, native: Any) -> Cost:
    """The cost of a bound entry, as its kernel's own file states it; an exchange moves bytes only.

    Args:
        entry: an entry of a program after ``build()``.
        native: the native module that runs it.
    """
    arguments = entry.arguments
    if entry.operation == "exchange_finish":
        return Cost(0, 0)
    if entry.operation == "exchange_start":
        return Cost(0, 2 * 4 * math.prod(arguments["to"].shape))
    # Dropout does the same either way.
    stem = "dropout" if entry.operation.startswith("dropout") else entry.operation
    cost = getattr(native, f"{stem}_cost")(*_shape_arguments(entry.operation, arguments))
    return Cost(cost.flops, cost.bytes)


def _shape_arguments(operation: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """What the native cost function takes."""
    shape = {name: list(value.shape) for name, value in arguments.items() if hasattr(value, "shape")}
    kind = operation.split("_")[0]
    if kind == "conv":
        geometry = (arguments["stride"], arguments["padding"], arguments["groups"])
        return (shape.get("x", shape.get("dx")), shape.get("w", shape.get("dw")), *geometry)
    if kind == "linear":
        inputs, outputs = shape.get("w", shape.get("dw", []))
        return (shape.get("x", shape.get("dx", []))[0], inputs, outputs)
    if kind == "maxpool":
        return (*shape["x"], arguments["kernel"], arguments["stride"], arguments["padding"])
    if kind == "prepare":
        return (shape["images"][0], arguments["crop"], shape["out"][1], arguments["out"].strides[1], True)
    if kind == "cross":
        return tuple(shape["logits"])
    main = shape.get("out") or shape.get("y") or shape.get("w") or shape["dx"]
    if kind in ("relu", "sgd", "tanh") or operation.startswith("lrn_in_map"):
        return (math.prod(main),)
    return (math.prod(main[:-1]), main[-1])
