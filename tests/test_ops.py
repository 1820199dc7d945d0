"""What all operations have in common; generated from their list, so that a new one cannot be left out."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calls_of_ops import CALLS, Call, results
from pyalexnet import Tensor, ops
from pyalexnet.device import backend
from pyalexnet.device.backend import Device

every_call = pytest.mark.parametrize("call", CALLS, ids=str)


def test_every_operation_and_argument_has_a_call() -> None:
    elsewhere = {
        "device",
        "algorithm",
        "precision",
    }  # this file's own fixture, test_algorithms.py and test_precision.py
    operations = set(ops.__all__) - {"conv_algorithms", "product_algorithms"}
    assert {call.name for call in CALLS} == operations
    for name in operations:
        passed = {argument for call in CALLS if call.name == name for argument in (*call.arrays, *call.others)}
        assert passed == set(inspect.signature(getattr(ops, name)).parameters) - elsewhere, name


class Anything:
    """No array, no number."""


# What no argument of any operation takes, what no array argument does, and so on.
WRONG = ["a text", b"bytes", [1.0, [2.0]], {"a": 1}, Anything(), Anything, 1j, np.zeros(2, np.complex64)]
WRONG_ARRAYS = [True, 7, 10**40, 10**5000, float("nan"), np.float64(3), np.array("text"), np.array(None)]
WRONG_ARRAYS += [np.zeros((7, 7)), np.zeros((7, 7), np.float16), np.zeros((7, 7), ">f4"), np.zeros(0, np.float32)]
WRONG_NUMBERS = [np.array([1, 2]), 10**40, 10**5000, -(2**63), -(10**5000), float("nan")]
WRONG_INTEGERS = [True, np.True_, 2.0, np.float32(1), "1", np.int64(-1), -(2**61), 2**62, 2**63]
OF_ANY_SHAPE = {"relu", "tanh", "lrn", "dropout", "dropout_backward"}
WRONG_FLAGS = [0, 1, "yes", np.zeros(2, bool)]


def refusal(call: Call, name: str, value: Any) -> str:
    """The message that the wrong value is refused with, checked for what all must have."""
    try:
        call("cpu:0", **{name: value})
    except (TypeError, ValueError) as error:
        message = str(error)
        assert "incompatible function arguments" not in message
        assert len(message) < 400, f"{message!r} for {name}"
        return message
    pytest.fail(f"{call.name}({name}={type(value)!s}) was taken: {value!r:.50}")


@every_call
def test_wrong_arrays_are_named(call: Call) -> None:
    for name in call.arrays:
        may_be_left_out = inspect.signature(call.operation).parameters[name].default is None
        for value in WRONG + WRONG_ARRAYS + ([] if may_be_left_out else [None]):
            assert refusal(call, name, value).startswith(f"{name} "), (name, value)


@every_call
def test_arrays_that_do_not_fit_are_named(call: Call) -> None:
    for name, good in call.arrays.items():
        if good is None or call.name in OF_ANY_SHAPE:
            continue
        for value in (good[None, None], good[..., None], good[0] if good.ndim > 1 else np.array(good[0])):
            assert refusal(call, name, value).split(" ")[0] in call.arrays, (name, value.shape)


@every_call
def test_wrong_numbers_are_named(call: Call) -> None:
    for name, good in call.others.items():
        may_be_left_out = inspect.signature(call.operation).parameters[name].default is None
        wrong = WRONG + ([] if may_be_left_out else [None])
        wrong += WRONG_FLAGS if isinstance(good, bool) else [*WRONG_NUMBERS, True, np.True_]
        if isinstance(good, int) and not isinstance(good, bool):
            wrong = [*wrong, *WRONG_INTEGERS]
        # A seed may be as large, and a window of channels reaches as far as there are any.
        takes_large = name in ("seed", "offset") or call.name.startswith("lrn")
        for value in (value for value in wrong if not (takes_large and type(value) is int and value in (2**62, 2**63))):
            assert refusal(call, name, value).startswith((f"{name} ", f"{name}[")), (name, value)


@every_call
@pytest.mark.parametrize("value", ["gpu", "cpu:99", "", 0, ["cpu:0"], np.zeros(1), b"cpu:0"])
def test_wrong_devices_are_named(call: Call, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="device"):
        call(value)


@every_call
def test_integers_of_numpy_are_taken(call: Call, device: str) -> None:
    integers = {name: np.int16(value) for name, value in call.others.items() if type(value) is int}
    for want, got in zip(results(call(device)), results(call(device, **integers)), strict=True):
        np.testing.assert_array_equal(got, want)


def shifted(value: npt.NDArray[Any], on: Device, offset_bytes: int) -> Tensor:
    """A Tensor with the values, contiguous, at an address that is so many bytes behind a multiple of 64."""
    memory = np.full(value.nbytes + 128, 0xFF, np.uint8)
    start = -memory.ctypes.data % 64 + offset_bytes
    held = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    held[...] = value
    strides = [stride // value.itemsize for stride in held.strides]
    array = on.native.borrow(held, held.ctypes.data, value.dtype.name, list(value.shape), strides, on.index)
    return Tensor(array, on)


@every_call
@pytest.mark.parametrize("offset_bytes", [4, 8, 12])
def test_any_alignment_gives_the_same_bits(
    call: Call, device: str, offset_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On sim an access of 16 bytes to another address raises, as it ends a GPU's context."""
    if device.startswith("cuda"):
        pytest.skip("the memory of a GPU is not the host's")
    on = backend.get_device(device)
    want = results(call(device))
    arrays = {name: value for name, value in call.arrays.items() if value is not None}
    for names in ([name] for name in arrays):
        changed = {name: shifted(arrays[name], on, offset_bytes) for name in names}
        for expected, got in zip(want, results(call(device, **changed)), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=str(names))

    def shifted_result(shape: tuple[int, ...], device_of_result: Any) -> Tensor:
        return shifted(np.zeros(shape, np.float32), device_of_result, offset_bytes)

    module = sys.modules[call.operation.__module__]
    monkeypatch.setattr(module, "empty", shifted_result)
    everything = {name: shifted(value, on, offset_bytes) for name, value in arrays.items()}
    for changed in ({}, everything):
        for expected, got in zip(want, results(call(device, **changed)), strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=f"results and {[*changed]}")
