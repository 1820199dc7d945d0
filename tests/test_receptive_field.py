"""Receptive fields: known sizes, and that what lies outside of one does not touch the unit's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyalexnet.architecture import INPUT_SIZE, Options, activation_names
from pyalexnet.net.network import AlexNet
from pyalexnet.net.receptive_field import WHOLE_INPUT, ReceptiveField, Region, receptive_fields


def test_the_papers_net() -> None:
    found = receptive_fields(Options())
    # By hand: 11; then 2 strides of 4 more for pool1's 3×3, 4 strides of 8 more for conv2's 5×5, and so on.
    expected = {
        "conv1": (11, 4, 0), "lrn1": (11, 4, 0), "pool1": (19, 8, 0),
        "conv2": (51, 8, -16), "pool2": (67, 16, -16),
        "conv3": (99, 16, -32), "conv4": (131, 16, -48), "conv5": (163, 16, -64), "pool5": (195, 32, -64),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == {
        name: ReceptiveField(*numbers) for name, numbers in expected.items()
    }
    assert found["conv3_pre"] == found["conv3"]
    assert found["fc6"] == found["fc8"] == WHOLE_INPUT
    assert list(found) == list(activation_names(Options()))


def test_squares_are_cut_at_the_edges() -> None:
    field = receptive_fields(Options())["conv5"]
    assert field.square(0, 6) == Region(-64, 32, 99, 195)
    assert field.region(0, 6) == Region(0, 32, 99, 195)
    assert field.region(12, 12) == Region(128, 128, 227, 227)
    assert WHOLE_INPUT.region(0, 0) == Region(0, 0, 227, 227)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"second_lrn": True, "pool_before_lrn": True},
        {"pooling": "plain", "towers": 1, "lrn": False},
        {"relu1_last": True},
        {"filters": "2014", "towers": 1},
    ],
)
def test_pixels_outside_leave_the_bits_alone_and_those_inside_do_not(
    options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Two noise images that agree on a unit's field alone give it the same bits; its outermost pixels are seen."""
    net = AlexNet(2, devices=["cpu:0"], **options)
    fields = receptive_fields(net.options)
    # Weights of one sign lose no pixel on the way: no unit is 0.
    positive = {name: np.abs(value) for name, value in net.parameters().items()}
    net.load_parameters(positive)
    names = [name for name in activation_names(net.options) if not (name.startswith("fc") or name.endswith("_pre"))]
    image, other = rng.random((2, INPUT_SIZE, INPUT_SIZE, 3), np.float32)
    whole = net.activations(image[None], names)
    for name in names:
        rows, columns = whole[name].shape[1:3]
        for row, column in ((0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)):
            top, left, bottom, right = fields[name].region(row, column)
            same_inside = other.copy()
            same_inside[top:bottom, left:right] = image[top:bottom, left:right]
            edges: dict[str, Any] = {"top": np.s_[top, left:right], "bottom": np.s_[bottom - 1, left:right]}
            edges |= {"left": np.s_[top:bottom, left], "right": np.s_[top:bottom, right - 1]}
            changed = {}
            for edge, at in edges.items():
                changed[edge] = image.copy()
                changed[edge][at] += 100  # so that maxima move there, and LRN still grows with what it gets
            found = net.features(np.stack([same_inside, *changed.values()]), name)[:, row, column]
            expected = whole[name][0, row, column]
            np.testing.assert_array_equal(found[0].view(np.int32), expected.view(np.int32), err_msg=name)
            # At the input's own edge, windows of 2x2 leave a position out.
            within = {"top": top > 0, "left": left > 0, "bottom": bottom < INPUT_SIZE, "right": right < INPUT_SIZE}
            for values, edge in zip(found[1:], changed, strict=True):
                assert (values != expected).any() or not within[edge], (name, row, column, edge)
