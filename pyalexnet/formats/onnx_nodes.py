"""The nodes of an ONNX graph: by what they read, and what each of them says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyalexnet.errors import ModelFileError
from pyalexnet.formats.onnx_arrays import Arrays
from pyalexnet.formats.onnx_extents import Extents
from pyalexnet.system.checks import shown

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


class Nodes:
    """By the values that they read.

    Attributes:
        path: the file.
        arrays: the graph's.
        extents: the numbers that it computes of extents.
    """

    def __init__(self, graph: GraphProto, path: str) -> None:
        """Those of a graph that a file holds."""
        self.path = path
        self.arrays = Arrays(graph, path)
        self.extents = Extents(graph, self.arrays)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in _read_by(node):
                self._readers.setdefault(name, []).append(node)

    def readers(self, name: str) -> list[NodeProto]:
        """The nodes that read a value, but for those that read its extents alone."""
        return self._readers.get(name, [])

    def reader(self, name: str) -> NodeProto | None:
        """The one node that reads a value; None behind the last one.

        Raises:
            ModelFileError: there are several.
        """
        found = self.readers(name)
        if len(found) > 1:
            raise ModelFileError(f"{self.path}: {shown(name)} is read by {len(found)} nodes; it must be by one")
        return found[0] if found else None

    def attribute(self, node: NodeProto, name: str, default: Any) -> Any:
        """What a node says by a name, of the default's type.

        Raises:
            ModelFileError: it is of another type.
        """
        from onnx import helper

        found = [helper.get_attribute_value(each) for each in node.attribute if each.name == name]
        if not found:
            return default
        if not isinstance(found[0], list if isinstance(default, tuple) else type(default)):
            raise ModelFileError(f"{self.path}: {name} of {label(node)} is {shown(found[0])}, of another type")
        return found[0]

    def integers(self, node: NodeProto, number: int) -> list[int]:
        """What an input of a node is; nothing where it is missing or not known."""
        return (self.extents.integers(node.input[number]) or []) if len(node.input) > number else []

    def told(self, node: NodeProto, name: str, number: int) -> list[int]:
        """What a node says by a name or, since a later opset, by an input; nothing where by neither."""
        return list(self.attribute(node, name, ())) or self.integers(node, number)

    def zeros_around(self, node: NodeProto) -> list[int]:
        """How many zeros a Pad puts before each axis, and behind each; nothing where it does otherwise."""
        zero = self.attribute(node, "value", 0.0) if len(node.input) < 3 or not node.input[2] else None
        zero = self.arrays.number(node.input[2]) if zero is None else zero
        if zero != 0 or self.attribute(node, "mode", b"constant") != b"constant" or any(node.input[3:]):
            return []
        return self.told(node, "pads", 1)


def label(node: NodeProto) -> str:
    """A node as messages call it."""
    return shown(node.name or node.output[0])[1:-1]


def _read_by(node: NodeProto) -> set[str]:
    """The values that a node reads, in its branches too; none where it reads no more than extents."""
    if node.op_type == "Shape":
        return set()
    branches = [told.g for told in node.attribute] if node.op_type == "If" else []
    return {*node.input}.union(*(inner.input for branch in branches for inner in branch.node))
