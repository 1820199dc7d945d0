"""Every operation stays within its arrays: on `sim`, memory beside an allocation is guarded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from calls_of_ops import CALLS, Call
from pyalexnet import CudaError, Tensor
from pyalexnet.device import backend


def in_device_memory(values: Any) -> Any:
    """A copy of an array in guarded memory of its own; other arguments as they are."""
    if not isinstance(values, np.ndarray):
        return values
    tensor = Tensor.empty(values.shape, dtype=str(values.dtype), device="sim:0")
    np.asarray(tensor)[...] = values
    return tensor


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_operations_stay_within_their_arrays(call: Call) -> None:
    guarded = {name: in_device_memory(values) for name, values in call.arrays.items()}
    expected, found = call("sim:0"), call("sim:0", **guarded)
    for one, other in zip(as_tuple(expected), as_tuple(found), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other))


@pytest.mark.parametrize(("floats", "message"), [
    (1024, r"kernel relu_forward_kernel, block .*, thread .* touches memory 0 bytes behind the end of an allocation of "
           r"4096 bytes of device 0"),
    (1000, r"kernel relu_forward_kernel, or what ran beside it, wrote right behind the end of an allocation of 4000 "
           r"bytes of device 0"),
])  # fmt: skip
def test_a_kernel_that_leaves_its_array_is_named(floats: int, message: str) -> None:
    on = backend.get_device("sim:0")
    x = np.ones(floats + 8, np.float32)
    y = on.native.Memory(on.index, 4 * floats).array(0, [floats], "float32")
    beyond = on.native.borrow(y, y.address, "float32", [floats + 8], [1], on.index)
    on.native.relu_forward(beyond, Tensor.from_array(x, device="sim:0").array, on.stream)
    with pytest.raises(CudaError, match=message):
        on.stream.synchronize()
    on.native.relu_forward(y, Tensor.from_array(x[:floats], device="sim:0").array, on.stream)
    on.stream.synchronize()
    np.testing.assert_array_equal(Tensor(y, on), x[:floats])


def test_the_hosts_own_mistakes_end_the_program() -> None:
    """A program that touches such memory itself ends as always, by the signal."""
    program = (
        "import ctypes, numpy, pyalexnet\n"
        "pyalexnet.ops.relu(numpy.ones(3, numpy.float32), device='sim:0')\n"
        "ctypes.string_at(0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200)
    assert finished.returncode == -11, finished.stderr


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
