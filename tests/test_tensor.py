"""Tensors: no copy where none is needed, and clear refusals."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from pyalexnet import OutOfMemoryError, Tensor, ops
from pyalexnet.device import backend


def host_device(device: str) -> None:
    if device.startswith("cuda"):
        pytest.skip("the memory of a GPU is not the host's")


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_numpy_round_trip(device: str, dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensor = Tensor.from_array(values, device=device)
    assert (tensor.shape, tensor.dtype, tensor.ndim, tensor.size) == ((2, 3, 4), np.dtype(dtype), 3, 24)
    assert tensor.nbytes == values.nbytes
    assert len(tensor) == 2
    np.testing.assert_array_equal(np.asarray(tensor), values)
    np.testing.assert_array_equal(np.asarray(tensor, dtype=np.float64), values)


def test_host_arrays_are_shared_both_ways(device: str) -> None:
    host_device(device)
    values = np.zeros((4, 16), np.float32)
    tensor = Tensor.from_array(values, device=device)
    values[2] = 5
    view = np.asarray(tensor)
    assert view[2, 3] == 5
    view[1] = 7
    assert values[1, 0] == 7


def test_memory_lives_as_long_as_anyone_uses_it() -> None:
    native = backend.get_device("cpu:0").native
    gc.collect()  # of what other tests left
    free = native.device_info(0)["free_bytes"]
    view = np.asarray(Tensor.empty((1024, 1024)))
    view[:] = 3  # the Tensor is gone, its memory is not
    gc.collect()
    assert native.device_info(0)["free_bytes"] == free - view.nbytes
    assert view.min() == 3
    del view
    gc.collect()
    assert native.device_info(0)["free_bytes"] == free


def test_borrowed_arrays_are_released() -> None:
    class Tracked(np.ndarray):
        pass

    values = np.zeros(16, np.float32).view(Tracked)
    alive = weakref.ref(values)
    tensor = Tensor.from_array(values)
    assert np.asarray(tensor).shape == (16,)
    del values, tensor
    gc.collect()
    assert alive() is None


def test_arrays_that_lie_otherwise_are_copied(device: str) -> None:
    values = np.arange(64, dtype=np.float32).reshape(8, 8)
    for other in (values.T, values[:, ::2], values[::-1], np.broadcast_to(values[0], (3, 8))):
        np.testing.assert_array_equal(np.asarray(Tensor.from_array(other, device=device)), other)


def test_dlpack_shares_memory_with_numpy(device: str) -> None:
    host_device(device)
    tensor = Tensor.from_array(np.arange(32, dtype=np.float32).reshape(4, 8), device=device)
    shared = np.from_dlpack(tensor)
    np.testing.assert_array_equal(shared, np.asarray(tensor))
    np.asarray(tensor)[0, 0] = 42
    assert shared[0, 0] == 42


def test_dlpack_copies_where_asked_to(device: str) -> None:
    host_device(device)
    tensor = Tensor.from_array(np.arange(32, dtype=np.float32).reshape(4, 8), device=device)
    kind, index = tensor.__dlpack_device__()

    class Copied:
        def __dlpack__(self, **_arguments: object) -> object:
            return tensor.__dlpack__(copy=True)

        def __dlpack_device__(self) -> tuple[int, int]:
            return kind, index

    copied = np.from_dlpack(Copied())
    np.testing.assert_array_equal(copied, np.asarray(tensor))
    assert not np.shares_memory(copied, np.asarray(tensor))
    with pytest.raises(BufferError, match="dl_device is"):
        tensor.__dlpack__(dl_device=(kind, index + 1))


def test_read_only_arrays_are_copied(device: str) -> None:
    values = np.ones(16, np.float32)
    values.flags.writeable = False
    tensor = Tensor.from_array(values, device=device)
    np.asarray(tensor)[0] = 2
    assert values[0] == 1


def test_indices_and_operators_give_what_numpy_gives(device: str) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = Tensor.from_array(values.copy(), device=device)
    for index in (
        0,
        -1,
        slice(1, 3),
        (slice(None), -1),
        ...,
        None,
        (0, 1),
        [2, 0],
        values > 5,
        (slice(None, None, -2), 1),
    ):
        np.testing.assert_array_equal(tensor[index], values[index])
    with pytest.raises(IndexError):
        tensor[3]
    for got, want in zip(tensor, values, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(tensor == tensor, np.ones_like(values, dtype=bool))
    np.testing.assert_array_equal(2 * tensor - values, values)
    np.testing.assert_array_equal(tensor @ values.T, values @ values.T)
    assert np.mean(tensor) == 5.5
    assert tensor.tolist() == values.tolist()
    assert 11 in tensor
    assert float(Tensor.from_array(values[:1, 1:2].copy(), device=device)) == 1
    with pytest.raises(ValueError, match="size 1"):
        tensor.item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(tensor)
    tensor[1] = 7
    tensor += 1
    assert isinstance(tensor, Tensor)
    np.testing.assert_array_equal(tensor[:2], [[1, 2, 3, 4], [8, 8, 8, 8]])


def test_copies_and_pickles_have_memory_of_their_own(device: str) -> None:
    tensor = Tensor.from_array(np.arange(4, dtype=np.int32), device=device)
    for other in (copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        other[0] = 9
        assert (str(other.device), other.tolist()) == (device, [9, 1, 2, 3])
    assert tensor.tolist() == [0, 1, 2, 3]


def test_repr_shows_a_few_values_but_asks_no_gpu(device: str) -> None:
    about = f"Tensor(shape=(2, 50), dtype=float32, device={device}"
    text = repr(Tensor.from_array(np.arange(100, dtype=np.float32).reshape(2, 50), device=device))
    shown = "" if device.startswith("cuda") else ", values=[ 0.,  1.,  2., ..., 97., 98., 99.]"
    assert text == f"{about}{shown})"


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_arrays_at_any_address_are_shared(device: str, offset: int) -> None:
    host_device(device)
    whole = np.zeros(64, np.float32)
    np.asarray(Tensor.from_array(whole[offset:], device=device))[0] = 5
    assert whole[offset] == 5


def test_arrays_without_axes(device: str) -> None:
    tensor = Tensor.from_array(np.array(-3, np.float32), device=device)
    assert tensor.shape == ()
    assert np.asarray(tensor) == -3
    assert ops.relu(tensor).shape == ()


def test_pytorch_tensors_are_shared() -> None:
    torch = pytest.importorskip("torch")
    ones = torch.ones(4, 8)
    tensor = Tensor.from_array(ones)
    ones[0, 0] = 9
    assert np.asarray(tensor)[0, 0] == 9
    back = torch.from_dlpack(tensor)
    back[3, 7] = 4
    assert ones[3, 7] == 4


def test_interfaces_belong_to_their_memory(device: str) -> None:
    tensor = Tensor.from_array(np.zeros(4, np.float32), device=device)
    on_gpu = device.startswith("cuda")
    assert hasattr(tensor, "__cuda_array_interface__") == on_gpu
    assert hasattr(tensor, "__array_interface__") != on_gpu


def test_wrong_arguments_are_named(device: str) -> None:
    with pytest.raises(TypeError, match="dtype float64; it must be float32, int32, uint8"):
        Tensor.from_array(np.zeros(3), device=device)
    with pytest.raises(TypeError, match="data is an object; it must be an array"):
        Tensor.from_array(object(), device=device)
    with pytest.raises(ValueError, match=r"shape is \(0, 3\); every extent must be at least 1"):
        Tensor.empty((0, 3), device=device)
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        Tensor.empty((3,), dtype="float16", device=device)
    other = device.replace(":0", ":1")
    if other in {info.name for info in backend.devices()}:
        with pytest.raises(ValueError, match=f"the tensor is on {device}; it must be on {other}"):
            Tensor.from_array(Tensor.empty((1,), device=device), device=other)


def test_more_memory_than_there_is(device: str) -> None:
    with pytest.raises(OutOfMemoryError, match=r"cudaMalloc of 4503599627370496 bytes .*cudaErrorMemoryAllocation"):
        Tensor.empty((2**50,), device=device)
    assert Tensor.empty((4,), device=device).shape == (4,), "the device goes on working"
