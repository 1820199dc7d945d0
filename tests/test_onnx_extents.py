"""Numbers that an ONNX graph computes of extents: what ONNX's reference computes, or not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyalexnet.formats.onnx_arrays import Arrays
from pyalexnet.formats.onnx_extents import ANY, Extents

onnx = pytest.importorskip("onnx")

TINY, HUGE = -(2**63) + 1, 2**31


def graph_of(*nodes: Any) -> Any:
    """A graph that computes y of images x and of constants, which are the inputs that are numbers."""
    constants, made = [], []
    for number, (kind, inputs, output, how) in enumerate(nodes):
        names = [each if isinstance(each, str) else f"{number}.{place}" for place, each in enumerate(inputs)]
        constants += [
            onnx.numpy_helper.from_array(np.asarray(each, np.int64), name)
            for each, name in zip(inputs, names, strict=True)
            if not isinstance(each, str)
        ]
        made.append(onnx.helper.make_node(kind, names, [output], **how))
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 5, 7])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, None)
    return onnx.helper.make_graph(made, "g", [x], [y], constants)


def found_in(graph: Any, extents: tuple[int, ...]) -> list[int] | None:
    known = Extents(graph, Arrays(graph, "it.onnx"))
    known.tell("x", extents)
    return known.integers("y")


SHAPE = ("Shape", ["x"], "s", {})


@pytest.mark.parametrize(
    "nodes",
    [
        [("Shape", ["x"], "y", {})],
        [SHAPE, ("Shape", ["s"], "y", {})],
        [SHAPE, ("Gather", ["s", [2, 1]], "y", {"axis": 0})],
        [SHAPE, ("Gather", ["s", 1], "g", {}), ("Unsqueeze", ["g", [0]], "y", {})],
        [SHAPE, ("Slice", ["s", [-1], [TINY], [0], [-1]], "y", {})],
        [SHAPE, ("Slice", ["s", [1], [3]], "y", {})],
        [SHAPE, ("Concat", ["s", [-1], "s"], "y", {"axis": 0})],
        [SHAPE, ("Reshape", ["s", [-1, 2]], "r", {}), ("Transpose", ["r"], "t", {}), ("Reshape", ["t", [-1]], "y", {})],
        [SHAPE, ("Reshape", ["s", [4, 1]], "r", {}), ("Squeeze", ["r", [1]], "y", {})],
        [SHAPE, ("Reshape", ["s", [1, 4]], "r", {}), ("Squeeze", ["r"], "y", {})],
        [SHAPE, ("Cast", ["s"], "c", {"to": 7}), ("Identity", ["c"], "y", {})],
        [SHAPE, ("Add", ["s", [1, 2, 3, 4]], "a", {}), ("Sub", ["a", [5]], "b", {}), ("Mul", ["b", "a"], "y", {})],
        [SHAPE, ("Div", ["s", [2]], "y", {})],
        [("ConstantOfShape", [[3]], "y", {"value": onnx.numpy_helper.from_array(np.array([6]))})],
    ],
    ids=lambda nodes: " ".join(node[0] for node in nodes),
)
def test_numbers_are_those_of_the_reference(nodes: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    graph = graph_of(*nodes)
    x = np.zeros((2, 3, 5, 7), np.float32)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert found_in(graph, x.shape) == ReferenceEvaluator(model).run(None, {"x": x})[0].tolist()


@pytest.mark.parametrize(
    "nodes",
    [
        [("Shape", ["x"], "y", {"start": 1})],
        [("Shape", ["elsewhere"], "y", {})],
        [SHAPE, ("Gather", ["s", [4]], "y", {})],
        [SHAPE, ("Gather", ["s", 1], "y", {})],  # no row
        [SHAPE, ("Reshape", ["s", [3]], "y", {})],
        [SHAPE, ("Reshape", ["s", [0]], "y", {})],
        [SHAPE, ("Squeeze", ["s", [0]], "y", {})],
        [SHAPE, ("Cast", ["s"], "y", {"to": 6})],
        [SHAPE, ("Transpose", ["s"], "y", {"perm": [1, 0]})],
        [SHAPE, ("Transpose", ["s"], "y", {"other": 5})],
        [SHAPE, ("Div", ["s", [0]], "y", {})],
        [SHAPE, ("Div", ["s", [-2]], "y", {})],
        [SHAPE, ("Mul", ["s", [HUGE]], "y", {})],
        [SHAPE, ("Add", ["s", [1, 2]], "y", {})],
        [SHAPE, ("Max", ["s", [2]], "y", {})],
        [SHAPE, ("Add", ["s"], "y", {})],
        [SHAPE, ("Concat", ["s"] * 17, "y", {"axis": 0})],
        [SHAPE, ("Concat", ["s", [ANY]], "y", {"axis": 0})],
        [("ConstantOfShape", [[2**40]], "y", {"value": onnx.numpy_helper.from_array(np.array([6]))})],
        [("ConstantOfShape", [[-1]], "y", {"value": onnx.numpy_helper.from_array(np.array([6]))})],
        [("Identity", ["y"], "y", {})],
        [("Identity", [[5]], "0", {}), *(("Add", [str(k), [1]], str(k + 1), {}) for k in range(90))],
        [("Add", ["y", "y"], "y", {})],
    ],
    ids=lambda nodes: " ".join(node[0] for node in nodes[:3]),
)
def test_what_is_not_known(nodes: Any) -> None:
    nodes = [*nodes[:-1], (*nodes[-1][:2], "y", nodes[-1][3])]
    assert found_in(graph_of(*nodes), (2, 3, 5, 7)) is None


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Concat", ["s", [-1]], "y", {"axis": 0})], [ANY, 3, 5, 7, -1]),
        ([("Gather", ["s", [1, 0]], "y", {})], [3, ANY]),
        ([("Add", ["s", [1]], "y", {})], None),
        ([("Mul", [[2], "s"], "y", {})], None),
        ([("Slice", [[1, 2, 3], "n", [3]], "y", {})], None),
        ([("Slice", [[1, 2, 3], [0], "n"], "y", {})], None),
        ([("Gather", [[1, 2, 3], "n"], "y", {})], None),
        ([("Reshape", [[1, 2, 3], "n"], "y", {})], None),
        ([("ConstantOfShape", ["n"], "y", {"value": onnx.numpy_helper.from_array(np.array([6]))})], None),
    ],
)
def test_any_number_of_images_is_moved_and_not_computed_with(nodes: Any, expected: list[int] | None) -> None:
    graph = graph_of(SHAPE, ("Gather", ["s", [0]], "n", {}), *nodes)
    assert found_in(graph, (ANY, 3, 5, 7)) == expected


@pytest.mark.parametrize(
    ("inputs", "expected"), [(["n", [2]], True), (["n", [3]], False), (["s", [2]], None), (["n"], None)]
)
def test_whether_numbers_are_equal(inputs: Any, expected: bool | None) -> None:
    graph = graph_of(SHAPE, ("Gather", ["s", [0]], "n", {}), ("Equal", inputs, "y", {}))
    for extents, found in (((2, 3, 5, 7), expected), ((ANY, 3, 5, 7), None)):
        known = Extents(graph, Arrays(graph, "it.onnx"))
        known.tell("x", extents)
        assert known.equal("y") is found
        assert known.equal("n") is None
