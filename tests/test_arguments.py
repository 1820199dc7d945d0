"""Arrays as callers hand them over: whose they may be, and how others are refused."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from pyalexnet import DeviceNotFoundError, Tensor, ops
from pyalexnet.device import backend
from pyalexnet.device.arguments import INTEGERS, Argument, common_device

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


class OnlyInterface:
    """An array of another library, which has nothing but NumPy's protocol."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.__array_interface__ = values.__array_interface__


class OnlyCapsule:
    """An array of another library, which has nothing but DLPack."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __dlpack__(self, **how: Any) -> Any:
        return self.values.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()  # type: ignore[no-any-return]


class OnGpu:
    """An array that says to lie on a GPU."""

    def __init__(self, **changed: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": (2, 3),
            "typestr": "<f4",
            "data": (4096, False),
            "version": 3,
        } | changed


@pytest.mark.parametrize("wrapped", [np.asarray, OnlyInterface, OnlyCapsule, memoryview])
def test_arrays_of_other_libraries_are_taken(device: str, wrapped: Any) -> None:
    tensor = Argument.of("x", wrapped(VALUES), shape=("rows", 3)).on(backend.get_device(device))
    np.testing.assert_array_equal(np.asarray(tensor), VALUES)
    assert str(tensor.device) == device


def test_buffers_are_taken_without_a_copy() -> None:
    numbers = array.array("f", [1.0, 2.0])
    Tensor.from_array(numbers)[1] = 5
    assert numbers[1] == 5


def test_arrays_of_pytorch_are_taken_parameters_too() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.nn.Parameter(torch.from_numpy(VALUES - 2))
    np.testing.assert_array_equal(np.asarray(ops.relu(weights)), np.maximum(VALUES - 2, 0))
    np.testing.assert_array_equal(np.asarray(ops.relu(weights.t())), np.maximum(VALUES - 2, 0).T)
    labels = torch.tensor([2, 0])
    assert ops.cross_entropy(weights, labels)[0].shape == (2,)
    with pytest.raises(TypeError, match=r"x has dtype torch\.bfloat16; it must be float32"):
        ops.relu(weights.bfloat16())
    with pytest.raises(TypeError, match="x is a Tensor that cannot be read as an array"):
        ops.relu(torch.empty(3, device="meta"))
    with pytest.raises(TypeError, match="x is a Tensor that cannot be read as an array"):
        ops.relu(torch.ones(2, 2).to_sparse())


def test_dlpack_of_both_ages_and_read_only(device: str) -> None:
    if device.startswith("cuda"):
        pytest.skip("NumPy reads no memory of GPUs")
    tensor = Tensor.from_array(VALUES.copy(), device=device)
    for how in ({}, {"max_version": None}, {"max_version": (0, 8)}, {"max_version": (1, 0)}, {"max_version": (2, 1)}):
        capsule = tensor.__dlpack__(**how)  # type: ignore[arg-type]
        assert ('"dltensor_versioned"' in repr(capsule)) == bool(how.get("max_version", None) and how["max_version"][0])
        held = tensor.device.native.from_dlpack(capsule)
        assert (held.shape, held.strides, held.type_bits, held.read_only) == ([2, 3], [3, 1], 32, False)
        assert held.address == tensor.array.address
        with pytest.raises(ValueError, match="no fresh"):
            tensor.device.native.from_dlpack(capsule)
    written = np.from_dlpack(tensor)
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # which reads the new capsules
        written[0, 0] = 9
        assert np.asarray(tensor)[0, 0] == 9
        sealed = VALUES.copy()
        sealed.flags.writeable = False
        assert tensor.device.native.from_dlpack(sealed.__dlpack__(max_version=(1, 0))).read_only


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_every_integer_type(device: str, dtype: str) -> None:
    logits = np.arange(12, dtype=np.float32).reshape(3, 4)
    labels = np.array([3, 0, 1])
    want = np.asarray(ops.cross_entropy(logits, labels.astype(np.int32), device=device)[0])
    np.testing.assert_array_equal(np.asarray(ops.cross_entropy(logits, labels.astype(dtype), device=device)[0]), want)
    with pytest.raises(ValueError, match=r"labels\[2\] is 4; it must be from 0 to 3"):
        ops.cross_entropy(logits, np.array([3, 0, 4], dtype), device=device)


def test_wide_labels_do_not_wrap(device: str) -> None:
    for label in (2**32, -(2**32), 2**62):
        with pytest.raises(ValueError, match=rf"labels\[0\] is {label}; it must be from 0 to 3"):
            ops.cross_entropy(np.ones((1, 4), np.float32), np.array([label]), device=device)


def test_masked_arrays_are_refused_where_something_is_masked() -> None:
    masked = np.ma.masked_array(VALUES, mask=VALUES == 2)
    with pytest.raises(ValueError, match="x is a masked array"):
        ops.relu(masked)
    np.testing.assert_array_equal(np.asarray(ops.relu(np.ma.masked_array(VALUES))), VALUES)


def test_shape_and_dtype_are_checked_before_anything_is_copied() -> None:
    huge = np.broadcast_to(np.float32(1), (2**40, 3))  # 12 TiB, were it copied
    with pytest.raises(ValueError, match=r"x has shape \(1099511627776, 3\); it must have 4 axes"):
        ops.conv2d(huge, np.ones((1, 1, 3, 1), np.float32))
    with pytest.raises(TypeError, match="x has dtype int8; it must be float32"):
        ops.relu(np.broadcast_to(np.int8(1), (2**40, 3)))
    with pytest.raises(MemoryError):
        ops.relu(huge)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 4}, "its __cuda_array_interface__ has version 4; 0 to 3 are known"),
        ({"mask": VALUES}, "has a mask"),
        ({"typestr": "<f8"}, "x has dtype float64; it must be float32"),
        ({"strides": (24, 4)}, r"x of shape \(2, 3\) has strides of \(24, 4\) bytes; on a GPU it must be contiguous"),
        ({"data": (4098, False)}, "x is at address 4098; it must be at a multiple of 4"),
        ({"shape": (0, 3)}, r"x has shape \(0, 3\); it must not be empty"),
        ({"shape": None}, "x is an OnGpu that cannot be read as an array"),
        ({"data": None}, "x is an OnGpu that cannot be read as an array"),
    ],
)
def test_arrays_on_a_gpu_that_cannot_be_used_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ops.relu(OnGpu(**changed))


def test_arrays_on_a_gpu_where_there_is_none() -> None:
    if any(info.name.startswith("cuda") for info in backend.devices()):
        pytest.skip("there is one")
    with pytest.raises(DeviceNotFoundError, match="x is on a GPU: device is 'cuda:0'"):
        ops.relu(OnGpu(strides=(12, 4)))


def test_arguments_on_several_devices_are_refused() -> None:
    one, other = (
        Argument.of(name, Tensor.from_array(VALUES, device=on)) for name, on in (("x", "cpu:0"), ("w", "cpu:1"))
    )
    host = Argument.of("b", VALUES)
    assert str(common_device(None, other, host, None)) == "cpu:1"
    assert str(common_device("sim:1", host)) == "sim:1"
    assert str(common_device(None, host)) == "cpu:0"
    with pytest.raises(ValueError, match="all arguments must be on one device: x is on cpu:0, w is on cpu:1"):
        common_device(None, one, other)
    with pytest.raises(ValueError, match="x is on cpu:0, device= is on cpu:1"):
        common_device("cpu:1", one)
