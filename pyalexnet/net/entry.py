"""One call of a program: a launch, or one end of an exchange, with all that it takes and where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pyalexnet.device.memory import Ref
from pyalexnet.device.native import NativeArray

# Work without a layer of its own: the input's preparation and the loss.
INPUT, LOSS = "input", "loss"
# Rows of tables of times that several layers share.
EXCHANGE, UPDATE = "exchange", "update"


class Entry:
    """One launch, or one end of an exchange, of a program.

    ``str()`` gives where it belongs, what it does to which arrays, and by which plan.

    Attributes:
        layer: ``conv1`` … ``fc8``, ``input`` or ``loss``; ``update`` of what moves all layers' parameters on a device.
        operation: the native function's name, or ``exchange_start`` and ``exchange_finish``.
        direction: ``forward``, ``backward`` or ``update``.
        tower: 0 or 1; for an exchange, the tower that receives; for an update, the device's position.
        arguments: what the function takes: Refs before binding, native arrays after it, or lists of such.
        row: what tables of times call the part of the layer that it belongs to: ``conv1``, ``lrn1``, ``pool1``, …;
            a nonlinearity belongs to its convolution or matrix product.
    """

    def __init__(
        self,
        layer: str,
        operation: str,
        direction: str,
        tower: int,
        function: Callable[..., None],
        arguments: dict[str, Any],
        row: str,
    ) -> None:
        """Describe one call."""
        self.layer = layer
        self.operation = operation
        self.direction = direction
        self.tower = tower
        self.arguments = arguments
        self.row = row
        self._function = function

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {text}" for name, value in self.arguments.items() if (text := _shape_text(value)))
        plan = f"  {self.arguments['plan']}" if "plan" in self.arguments else ""
        where = "device" if self.layer == UPDATE else "tower"
        return f"{self.direction:8}  {self.layer:6}  {where} {self.tower}  {self.operation}({shapes}){plan}"

    def __repr__(self) -> str:
        return f"<Entry: {' '.join(str(self).split())}>"

    def bind(self) -> None:
        """Replace Refs by the arrays that lie there; their arenas must have memory."""
        self.arguments = {name: _bound(value) for name, value in self.arguments.items()}

    def call(self, **instead: NativeArray) -> partial[None]:
        """What queues the work on its stream, of other arrays than its own where these are given."""
        return partial(self._function, **{**self.arguments, **instead})

    def run(self) -> None:
        """Queue the work on its stream; what changes from step to step is what lies on the device."""
        self.call()()


def _bound(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_bound(item) for item in argument]
    return argument.array() if isinstance(argument, Ref) else argument


def _shape_text(argument: Any) -> str:
    """An array's shape, or how many arrays there are; empty for what is no array."""
    if isinstance(argument, list):
        return f"of {len(argument)} arrays" if _shape_text(argument[0]) else ""
    return str(tuple(argument.shape)) if hasattr(argument, "shape") else ""
