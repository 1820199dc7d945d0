"""What changes from step to step lies where the kernels look for it, and is what the last calls said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet.architecture import Options, parameter_shapes
from pyalexnet.device.backend import get_device
from pyalexnet.device.memory import Arena
from pyalexnet.device.tensor import Tensor
from pyalexnet.net.step_values import STEP_VALUES_BYTES, StepValues, part_of_step_values

ON = get_device("cpu:0")
NAMES = tuple(parameter_shapes(10))
LAYERS = tuple(dict.fromkeys(name.split(".")[0] for name in NAMES))


def found(values: StepValues, field: str, name: str = "") -> npt.NDArray[np.generic]:
    """Some of the numbers, as a device has them."""
    arena = Arena(ON)
    arena.add("before", (100,))
    whole = arena.add("input", (STEP_VALUES_BYTES,), "uint8")
    arena.allocate()
    ON.native.copy(whole.array(), values.array, ON.stream)
    ON.stream.synchronize()
    return np.array(Tensor(part_of_step_values(whole, field, name).array(), ON))


@pytest.mark.parametrize("bias_update", ["paper", "source2012"])
def test_rates_are_those_of_the_last_call(bias_update: str) -> None:
    values = StepValues(ON, Options(bias_update=bias_update))
    rates = {name: 0.1 / (place + 1) for place, name in enumerate(NAMES)}
    for lr, momentum, weight_decay in ((rates, 0.9, 0.01), (dict(rates), 0.8, 0.01), (rates, 0.8, 0.02)):
        values.set_rates(lr, momentum, weight_decay)
        for name in NAMES:
            of_2012 = name.endswith(".bias") and bias_update == "source2012"
            wanted = (2 * lr[name], momentum, 0.0) if of_2012 else (lr[name], momentum, weight_decay)
            np.testing.assert_array_equal(found(values, "rates", name), np.array(wanted, np.float32))
    values.set_rates(rates | {"fc6.bias": 0.0}, 0.8, 0.02)
    assert found(values, "rates", "fc6.bias")[0] == values.lr["fc6.bias"] == 0


def test_rates_beyond_float32_are_refused() -> None:
    values = StepValues(ON, Options())
    small, large = dict.fromkeys(NAMES, 0.1), dict.fromkeys(NAMES, 1e39)
    values.set_rates(small, 0.9, 0.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="beyond the numbers of float32"):
            values.set_rates(large, 0.9, 0.0)
    values.set_rates(small, 0.9, 0.0)
    np.testing.assert_array_equal(found(values, "rates", "conv1.weight"), np.array([0.1, 0.9, 0], np.float32))


def test_each_step_and_layer_draws_from_an_offset_of_its_own() -> None:
    values, offsets = StepValues(ON, Options()), []
    for step in (0, 1, 2**40):
        values.set_step(2**63 - 1, step)
        for layer in LAYERS:
            seed, offset = found(values, "draw", layer).view(np.uint64).tolist()
            assert (seed, offset) == values.draw(layer)
            assert seed == 2**63 - 1
            offsets.append(offset)
    assert offsets[:8] == list(range(8))
    assert len(set(offsets)) == len(offsets)


def test_the_scale_is_the_last_one() -> None:
    values = StepValues(ON, Options())
    for scale in (0.5, 1 / 1.1):
        values.set_scale(scale)
        np.testing.assert_array_equal(found(values, "scale"), np.array([scale], np.float32))
