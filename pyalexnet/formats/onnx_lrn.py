"""LRN as PyTorch exports it to ONNX, in several nodes: x / (k + alpha · mean of squares)^beta.

The squares (N, channels, height, width) become (N, 1, channels, height, width), with zeros around the channels, and an
average pooling over these is the mean. By ``dynamo=True`` the extents are constants; the older exporter computes them,
and squeezes in a branch of an If, for where there is nothing to squeeze.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyalexnet.errors import ModelFileError
from pyalexnet.formats.onnx_arrays import Arrays
from pyalexnet.formats.onnx_nodes import Nodes, label
from pyalexnet.formats.steps import Step, from_float32
from pyalexnet.system.checks import shown

if TYPE_CHECKING:
    from onnx import NodeProto

_ROW = ["Mul", "Reshape", "Pad", "AveragePool", "Squeeze", "Mul", "Add", "Pow", "Div"]
_ROW_BY_IF = ["If" if kind == "Squeeze" else kind for kind in _ROW]
_MOST = len(_ROW) + 3  # with what may be there beside


@dataclass(frozen=True)
class Normed:
    """An LRN, and the value that it ends in."""

    step: Step
    output: str


@dataclass(frozen=True)
class _Link:
    """A node, and the value by which it goes on from the one before."""

    node: NodeProto
    read: str

    @property
    def kind(self) -> str:
        return shown(self.node.op_type)[1:-1]


def lrn_of_nodes(nodes: Nodes, x: str) -> Normed | None:
    """LRN of a value whose extents are told; None where nothing like it begins.

    Raises:
        ModelFileError: something else goes on as LRN begins.
    """
    readers = {node.op_type: node for node in nodes.readers(x)}
    squares, quotient = readers.get("Mul"), readers.get("Div")
    following = nodes.reader(squares.output[0]) if squares and quotient else None
    if not squares or not quotient or not following or following.op_type not in ("Reshape", "Unsqueeze"):
        return None
    row = _row(nodes, _Link(squares, x), quotient)
    if [link.kind for link in row[1:3]] == ["Unsqueeze", "Reshape"]:  # of PyTorch before 2; reshaping does it too
        del row[1]
    if [link.kind for link in row[2:4]] == ["Pad", "Pad"] and not any(nodes.zeros_around(row[3].node) or [1]):
        del row[3]
    back = row.pop(5) if [link.kind for link in row[5:6]] == ["Reshape"] else None
    kinds = [link.kind for link in row]
    if kinds not in (_ROW, _ROW_BY_IF) or any(link.node.domain for link in row) or len(nodes.readers(x)) != 2:
        raise _no_lrn(nodes, squares, f"its nodes are {', '.join(kinds)}, not {', '.join(_ROW)}")
    _, reshaped, pad, mean, squeeze, scaled, summed, power, _ = row
    size = next(iter(nodes.attribute(mean.node, "kernel_shape", [])), 0)
    beside = size // 2
    batch, channels, *maps = nodes.extents.told(x) or (0, 0)
    nodes.extents.tell(mean.node.output[0], (batch, 1, channels, *maps))
    alpha, k, beta = _factor(nodes, scaled), _factor(nodes, summed), nodes.arrays.number(power.node.input[-1])
    wrong = {
        "squares": list(squares.input) != [x, x],
        "extents": not _extends(nodes, reshaped.node, [batch, 1, channels, *maps])
        or (back and not _extends(nodes, back.node, [batch, channels, *maps])),
        "padding": nodes.zeros_around(pad.node) != [0, 0, beside, 0, 0] * 2 or size % 2 == 0,
        "windows": not _averages_channels(nodes, mean.node, size),
        "axes": _squeezed(nodes, squeeze) != [1],
        "alpha, k or beta": None in (alpha, k, beta) or power.node.input[0] != power.read,
        "quotient": list(quotient.input) != [x, power.node.output[0]],
    }
    if what := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise _no_lrn(nodes, squares, f"its {what[0]} are others, or computed")
    assert alpha is not None and k is not None and beta is not None  # noqa: PT018
    values = {"size": size, "alpha": from_float32(alpha) / size, "beta": from_float32(beta), "k": from_float32(k)}
    return Normed(Step("lrn", label(quotient), {**values, "towers": 1}), quotient.output[0])


def _no_lrn(nodes: Nodes, node: NodeProto, reason: str) -> ModelFileError:
    return ModelFileError(f"{nodes.path}: {label(node)} does not begin an LRN as torch.onnx.export writes it: {reason}")


def _row(nodes: Nodes, first: _Link, last: NodeProto) -> list[_Link]:
    """What goes on from a node, each from the one before, up to another node or as far as an LRN can go."""
    row = [first]
    while len(row) < _MOST and row[-1].node != last:
        read = row[-1].node.output[0]
        following = nodes.reader(read)
        if not following:
            break
        row.append(_Link(following, read))
    return row


def _extends(nodes: Nodes, node: NodeProto, expected: list[int]) -> bool:
    """Whether a Reshape makes these extents of as many values; one of its numbers may be left open."""
    extents = nodes.integers(node, 1)
    if len(extents) != len(expected) or extents.count(-1) > 1:
        return False
    copied = extents[0] == 0 and not nodes.attribute(node, "allowzero", 0)
    return all(found in (wanted, -1) for found, wanted in zip(extents[copied:], expected[copied:], strict=True))


def _averages_channels(nodes: Nodes, node: NodeProto, size: int) -> bool:
    defaults: dict[str, Any] = {"kernel_shape": [], "strides": [1] * 3, "pads": [0] * 6, "dilations": [1] * 3}
    wanted = {**defaults, "kernel_shape": [size, 1, 1], "ceil_mode": 0, "auto_pad": b"NOTSET"}
    return all(nodes.attribute(node, name, defaults.get(name, want)) == want for name, want in wanted.items())


def _squeezed(nodes: Nodes, link: _Link) -> list[int]:
    """The axes that a Squeeze leaves out, or an If that comes to one; nothing where it does not."""
    from onnx import GraphProto

    if link.kind == "Squeeze":
        return nodes.told(link.node, "axes", 1)
    equal = nodes.extents.equal(link.node.input[0])
    branch = nodes.attribute(link.node, "then_branch" if equal else "else_branch", GraphProto())
    own = Arrays(branch, nodes.path)
    rest = [node for node in branch.node if node.op_type != "Constant"]
    if equal is None or len(rest) != 1 or len(branch.output) != 1 or rest[0].op_type != "Squeeze" or rest[0].domain:
        return []
    if rest[0].input[0] != link.read or rest[0].output[0] != branch.output[0].name:
        return []
    if len(rest[0].input) > 1 and rest[0].input[1] in own:
        return own.integers(rest[0].input[1]) or []
    return nodes.told(rest[0], "axes", 1)


def _factor(nodes: Nodes, link: _Link) -> float | None:
    """The number that a node multiplies or adds; None where it is computed."""
    others = [name for name in link.node.input if name != link.read]
    return nodes.arrays.number(others[0]) if len(others) == 1 else None
