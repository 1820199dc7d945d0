"""tools/traffic.py adds up what launches move, row by row, and prints it at 80 columns."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest

from pyalexnet import ops
from pyalexnet.device import backend, natives
from pyalexnet.device.tensor import Tensor

_spec = importlib.util.spec_from_file_location("traffic", Path(__file__).parents[1] / "tools" / "traffic.py")
assert _spec is not None
assert _spec.loader is not None
traffic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(traffic)


def entry(direction: str, layer: str, run: Callable[[], object]) -> Any:
    return SimpleNamespace(direction=direction, layer=layer, run=run)


@pytest.fixture
def net() -> Any:
    """What the tool asks of a net, with a step of three kernels, of which one runs twice."""
    if not natives.is_built("_ptx"):
        pytest.skip("_ptx is not built")
    x = Tensor.from_array(np.ones(4096, np.float32), device="ptx:0")
    rows = Tensor.from_array(np.ones((4, 32), np.float32), device="ptx:0")
    program = SimpleNamespace(
        forward=[entry("forward", "conv1", lambda: ops.relu(x)), entry("forward", "conv1", lambda: ops.relu(x))],
        backward=[entry("backward", "loss", lambda: ops.softmax(rows))],
        update=[entry("update", "conv1", lambda: ops.tanh(x))],
    )
    return SimpleNamespace(
        num_classes=10,
        placement=SimpleNamespace(devices=[backend.get_device("ptx:0")]),
        program=Mock(return_value=program),
        train_step=Mock(),
    )


def test_rows_are_the_sums_of_their_launches(net: Any) -> None:
    rows = traffic.measure(net, 2)
    assert list(rows) == [
        ("forward", "conv1", "relu_forward"),
        ("backward", "loss", "softmax_forward"),
        ("update", "conv1", "tanh_forward"),
    ]
    relu = rows["forward", "conv1", "relu_forward"]
    assert relu["global_loads"] == relu["global_stores"] == (2 * 4096 // 8, 2 * 4096 // 8)
    assert relu["shared_loads"] == relu["shared_stores"] == (0, 0)
    assert rows["update", "conv1", "tanh_forward"]["global_loads"] == (4096 // 8, 4096 // 8)
    assert rows["backward", "loss", "softmax_forward"]["shared_loads"][0] > 0


def test_rows_are_those_of_the_layers_asked_for(net: Any) -> None:
    assert {layer for _, layer, _ in traffic.measure(net, 2, ["loss"])} == {"loss"}


def test_the_table_has_80_columns() -> None:
    sums = {"global_loads": (999_949_999, 31_250_000), "global_stores": (9, 9), "shared_loads": (0, 0)}
    sums["shared_stores"] = (3_000_000_000, 2_000_000_000)
    rows = {("forward", "conv1", "multiply_patches_with_a_long_name"): sums, ("update", "input", "sgd"): sums}
    lines = cast(str, traffic.table(rows)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if " " not in line] == ["forward", "update"]
    assert lines[3].split() == ["conv1", "multiply_patches_with_a_l", "1000M", "32.00", "9", "1.00", "3.0G", "1.50"]


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("void pyalexnet::multiply_kernel<(int)8, pyalexnet::Tile<4, 4>>", "multiply"),
        ("pyalexnet::relu_forward_kernel", "relu_forward"),
        ("coalesced", "coalesced"),
    ],
)
def test_names_of_kernels_are_short(kernel: str, name: str) -> None:
    assert traffic.short_name(kernel) == name
