"""What the layers' parameters begin with, by name, as each source has it."""

from __future__ import annotations

import numpy as np
import pytest

from pyalexnet.architecture import Conv, Options, initial_parameters, layers, parameter_shapes

WEIGHT_STD = {
    "paper": dict.fromkeys(["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], 0.01),
    "notes": dict.fromkeys(["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"], 0.1),
    "source2012": {
        **dict.fromkeys(["conv1", "conv2", "fc6", "fc7", "fc8"], 0.01),
        **dict.fromkeys(["conv3", "conv4", "conv5"], 0.03),
    },
    "caffe": {
        **dict.fromkeys(["conv1", "conv2", "conv3", "conv4", "conv5", "fc8"], 0.01),
        **dict.fromkeys(["fc6", "fc7"], 0.005),
    },
}
ONES, ZEROS = ["conv2", "conv4", "conv5", "fc6", "fc7"], ["conv1", "conv3"]
BIASES = {
    "paper": {**dict.fromkeys(ONES, 1.0), **dict.fromkeys([*ZEROS, "fc8"], 0.0)},
    "notes": {**dict.fromkeys([*ONES, "fc8"], 1.0), **dict.fromkeys(ZEROS, 0.0)},
    "caffe": {**dict.fromkeys(ONES, 0.1), **dict.fromkeys([*ZEROS, "fc8"], 0.0)},
}


@pytest.mark.parametrize("weight_init", WEIGHT_STD)
def test_weights_have_the_source_s_deviation(weight_init: str) -> None:
    options = Options(weight_init=weight_init)
    values = {name: value for name, value in initial_parameters(10, options, seed=3) if name.endswith(".weight")}
    assert set(values) == {f"{layer}.weight" for layer in WEIGHT_STD[weight_init]}
    for layer, std in WEIGHT_STD[weight_init].items():
        drawn = values[f"{layer}.weight"].astype(np.float64)
        # Five standard errors of the deviation and of the mean of so many normal numbers.
        error = 5 / np.sqrt(drawn.size)
        assert drawn.std() == pytest.approx(std, rel=error / np.sqrt(2))
        assert abs(drawn.mean()) < std * error


@pytest.mark.parametrize("bias_init", BIASES)
def test_biases_have_the_source_s_value(bias_init: str) -> None:
    options = Options(bias_init=bias_init)
    values = {name: value for name, value in initial_parameters(10, options, seed=0) if name.endswith(".bias")}
    assert {name.removesuffix(".bias"): set(value.tolist()) for name, value in values.items()} == {
        layer: {float(np.float32(value))} for layer, value in BIASES[bias_init].items()
    }


@pytest.mark.parametrize("towers", [1, 2])
def test_towers_share_out_all_layers_but_the_last(towers: int) -> None:
    shapes = parameter_shapes(7, towers)
    for layer in layers(7, towers):
        outputs = layer.tower_filters if isinstance(layer, Conv) else layer.tower_outputs
        assert list(layer.computing_towers) == list(range(1 if layer.name == "fc8" else towers))
        assert outputs * len(layer.computing_towers) == shapes[f"{layer.name}.bias"][0]
