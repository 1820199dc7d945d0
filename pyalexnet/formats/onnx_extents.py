"""Whole numbers that an ONNX graph computes of extents: what PyTorch's older exporter cuts and reshapes values by.

It writes as nodes what PyTorch traced of ``x.size()``, of paddings and of ``chunk``. They are evaluated here as far as
a few numbers go that are moved about, added, multiplied and divided; what else a graph computes of them is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.formats.onnx_arrays import MOST_INTEGERS, Arrays

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

ANY = int(np.iinfo(np.int64).min)
"""Stands for the number of images where the graph takes any; no extent can be it."""

_DEEPEST = 40  # ample for one number of another
_LARGEST = 2**31  # of numbers that are added and multiplied, so that no result is beyond int64

Integers: TypeAlias = "npt.NDArray[np.int64]"


class Extents:
    """The numbers by name; those of values once :meth:`tell` has told how large these are."""

    def __init__(self, graph: GraphProto, arrays: Arrays) -> None:
        """Those of a graph, whose constants are given."""
        self._arrays = arrays
        self._makers = {output: node for node in graph.node for output in node.output}
        self._told: dict[str, tuple[int, ...]] = {}
        self._found: dict[str, Integers] = {}

    def tell(self, name: str, extents: tuple[int, ...]) -> None:
        """Say how large a value is; :data:`ANY` of an extent that is not known."""
        self._told[name] = extents

    def told(self, name: str) -> tuple[int, ...] | None:
        """What :meth:`tell` said."""
        return self._told.get(name)

    def integers(self, name: str) -> list[int] | None:
        """A row of numbers; None where the name is no such row's."""
        found = self._of(name)
        row: list[int] | None = found.tolist() if found is not None and found.ndim == 1 else None
        return row

    def equal(self, name: str) -> bool | None:
        """Whether two numbers are equal that a node compares; None where that is not known."""
        node = self._makers.get(name)
        if node is None or node.op_type != "Equal" or node.domain:
            return None
        both = [self._of(each) for each in node.input]
        numbers = [each.item() for each in both if each is not None and each.size == 1]
        return numbers[0] == numbers[1] if len(numbers) == len(both) == 2 and ANY not in numbers else None

    def _of(self, name: str, depth: int = 0) -> Integers | None:
        if name not in self._found:
            found = self._arrays.whole_numbers(name) if name in self._arrays else self._made(name, depth)
            if found is None or (name in self._arrays and (found == ANY).any()):
                return None
            self._found[name] = found
        return self._found[name]

    def _made(self, name: str, depth: int) -> Integers | None:
        """What a node makes of numbers that are known."""
        from onnx import helper

        node = self._makers.get(name)
        if node is None or node.domain or depth == _DEEPEST:
            return None
        if node.op_type == "Shape":
            return self._shape(node, depth)
        make, inputs = _MADE_BY.get(node.op_type), []
        for each in node.input if make else ():
            inputs.append(self._of(each, depth + 1) if each else None)
            if each and inputs[-1] is None:
                return None
        if node.op_type != "Concat" and any(each is not None and ANY in each for each in inputs[1:]):
            return None  # an index or a size that is not known
        how = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        try:
            made = make(*inputs, **how) if make else None
        except (ArithmeticError, IndexError, TypeError, ValueError):  # a graph that no program computes
            return None
        return np.asarray(made) if made is not None and made.size <= MOST_INTEGERS else None  # no scalar of NumPy's

    def _shape(self, node: NodeProto, depth: int) -> Integers | None:
        name = node.input[0] if len(node.input) == 1 and not node.attribute else ""
        extents = self._arrays.shape(name) if name in self._arrays else self._told.get(name)
        if extents is None and (numbers := self._of(name, depth + 1)) is not None:
            extents = numbers.shape
        return np.array(extents, np.int64) if extents is not None and len(extents) <= MOST_INTEGERS else None


def _cast(data: Integers, *, to: int) -> Integers | None:
    from onnx import TensorProto

    return data if to == TensorProto.INT64 else None


def _gather(data: Integers, places: Integers, *, axis: int = 0) -> Integers:
    return np.take(data, places, axis)


def _unsqueeze(data: Integers, given: Integers | None = None, *, axes: Sequence[int] = ()) -> Integers:
    return np.expand_dims(data, tuple(axes if given is None else given))


def _squeeze(data: Integers, given: Integers | None = None, *, axes: Sequence[int] | None = None) -> Integers:
    along = axes if given is None else given
    return np.squeeze(data, None if along is None else tuple(along))


def _concat(*parts: Integers, axis: int) -> Integers:
    return np.concatenate(parts, axis)


def _constant_of_shape(shape: Integers, *, value: Any) -> Integers | None:
    from onnx import numpy_helper

    number = numpy_helper.to_array(value)
    if number.dtype != np.int64 or shape.ndim != 1 or not 0 <= math.prod(shape.tolist()) <= MOST_INTEGERS:
        return None
    return np.full(shape, number.item())


def _reshape(data: Integers, shape: Integers, *, allowzero: int = 0) -> Integers | None:
    return None if allowzero or not shape.all() else data.reshape(shape)


def _slice(
    data: Integers, starts: Integers, ends: Integers, axes: Integers | None = None, steps: Integers | None = None
) -> Integers:
    along = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(along, starts.tolist(), ends.tolist(), by, strict=True):
        cuts[axis] = slice(start, end, step)
    return data[tuple(cuts)]


def _transpose(data: Integers, *, perm: Sequence[int] | None = None) -> Integers:
    return data.transpose(perm)


def _of_two(compute: Callable[[Integers, Integers], Integers]) -> Callable[[Integers, Integers], Integers | None]:
    def made(a: Integers, b: Integers) -> Integers | None:
        small = all((each > -_LARGEST).all() and (each < _LARGEST).all() for each in (a, b))  # ANY is not
        return compute(a, b) if small else None

    return made


def _quotient(a: Integers, b: Integers) -> Integers:
    if (a < 0).any() or (b <= 0).any():  # which NumPy and ONNX round otherwise
        raise ArithmeticError
    return a // b


_MADE_BY: dict[str, Callable[..., Integers | None]] = {
    "Add": _of_two(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _of_two(_quotient),
    "Gather": _gather,
    "Identity": lambda data: data,
    "Mul": _of_two(np.multiply),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _of_two(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
