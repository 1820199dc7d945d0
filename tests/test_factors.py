"""Which factors fully connected layers' gradients are products of; that ranks send them is in test_cluster.py."""

from __future__ import annotations

import numpy as np
import pytest

from pyalexnet import AlexNet
from pyalexnet.net.factors import factors_of, is_product


@pytest.mark.usefixtures("full_size")
@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_towers_share_inputs_and_have_outputs_of_their_own(devices: list[str]) -> None:
    program = AlexNet(1000, devices=devices).program(2, training=True)
    factors = factors_of(entry for entry in program.backward if is_product(entry))
    assert factors == [
        ("fc8", "x", (0,), (2, 4096)),
        ("fc8", "dy", (0,), (2, 1000)),
        ("fc7", "x", (0, 1), (2, 4096)),
        ("fc7", "dy", (0,), (2, 2048)),
        ("fc7", "dy", (1,), (2, 2048)),
        ("fc6", "x", (0, 1), (2, 9216)),
        ("fc6", "dy", (0,), (2, 2048)),
        ("fc6", "dy", (1,), (2, 2048)),
    ]
    assert sum(4 * np.prod(shape) for *_, shape in factors) == 2 * 106_400  # bytes, as the documents say


def test_a_net_of_one_tower_has_no_second_ones() -> None:
    program = AlexNet(5, devices=["cpu:0"], towers=1).program(3, training=True)
    factors = factors_of(entry for entry in program.backward if is_product(entry))
    assert {towers for _, _, towers, _ in factors} == {(0,)}
    assert [(layer, name) for layer, name, *_ in factors] == [
        (layer, name) for layer in ("fc8", "fc7", "fc6") for name in ("x", "dy")
    ]
