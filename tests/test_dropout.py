"""Dropout: the generator against known answers, the mask against a NumPy generator, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import draw_of

# Philox4x32-10 as its authors publish it (Random123's known answers): counter, key, draw.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SEED, OFFSET = 0x123456789ABCDEF0, 0x1122334455667788


@pytest.mark.parametrize(("counter", "key", "draw"), KNOWN_ANSWERS)
def test_generator_gives_the_known_answers(
    device: str, counter: tuple[int, ...], key: int, draw: tuple[int, ...]
) -> None:
    assert get_device(device).native.philox(*counter, key) == draw
    assert tuple(references.philox(np.array([counter], np.uint32), key)[0]) == draw


@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (5, 7), (3, 4, 20), (128, 2048)])
@pytest.mark.parametrize("p", [0.0, 0.5, 0.1])
def test_both_directions_equal_reference(
    device: str, rng: np.random.Generator, shape: tuple[int, ...], p: float
) -> None:
    x = rng.standard_normal(shape, dtype=np.float32)
    kept = references.dropout_kept(np.arange(x.size, dtype=np.uint64), p, SEED, OFFSET).reshape(shape)
    expected = np.where(kept, x * np.float32(1 / (1 - p)), np.float32(0))
    arguments = {"p": p, "seed": SEED, "offset": OFFSET, "device": device}
    np.testing.assert_array_equal(np.asarray(ops.dropout(x, **arguments)), expected)
    np.testing.assert_array_equal(np.asarray(ops.dropout_backward(x, **arguments)), expected)


@pytest.mark.parametrize(("columns", "half"), [(4096, 2048), (24, 12), (22, 11), (10, 3)])
def test_slices_draw_what_the_whole_draws(device: str, rng: np.random.Generator, columns: int, half: int) -> None:
    x = rng.standard_normal((3, columns), dtype=np.float32)
    on = get_device(device)
    whole = np.asarray(ops.dropout(x, seed=SEED, device=device))
    for first, width in ((0, half), (half, columns - half)):
        part = np.ascontiguousarray(x[:, first : first + width])
        source, y = Tensor.from_array(part, device=device), Tensor.empty(part.shape, device=device)
        on.native.dropout_forward(y.array, source.array, 0.5, draw_of(on, SEED, 0), columns, first, on.stream)
        on.stream.synchronize()
        np.testing.assert_array_equal(np.asarray(y), whole[:, first : first + width])


def test_shares_offsets_and_seeds(device: str) -> None:
    ones = np.ones(100_000, np.float32)
    draws = [
        np.asarray(ops.dropout(ones, p=0.3, seed=seed, offset=offset, device=device)) > 0
        for seed, offset in ((1, 0), (2, 0), (1, 1))
    ]
    for kept in draws:
        # Five standard deviations of a mean of 100,000 independent draws.
        assert abs(kept.mean() - 0.7) <= 5 * np.sqrt(0.21 / kept.size)
    for other in draws[1:]:
        assert abs(np.mean(draws[0] == other) - 0.58) <= 5 * np.sqrt(0.58 * 0.42 / ones.size)


def test_a_dropped_nan_is_zero(device: str) -> None:
    x = np.full(1000, np.nan, np.float32)
    y = np.asarray(ops.dropout(x, seed=3, device=device))
    kept = references.dropout_kept(np.arange(1000, dtype=np.uint64), 0.5, 3, 0)
    assert np.isnan(y[kept]).all()
    assert (y[~kept] == 0).all()


def test_wrong_arguments_are_named(device: str) -> None:
    x = np.ones((2, 3), np.float32)
    for p in (-0.1, 1.0, 2.0, np.nan):
        with pytest.raises(ValueError, match=r"p is .*; it must be from 0 to below 1"):
            ops.dropout(x, p=p, seed=0, device=device)
    with pytest.raises(ValueError, match="seed is -1; it must be from 0"):
        ops.dropout(x, seed=-1, device=device)
    with pytest.raises(ValueError, match="offset is 18446744073709551616; it must be from 0"):
        ops.dropout_backward(x, seed=0, offset=2**64, device=device)
    with pytest.raises(TypeError, match=r"seed is 0\.5; it must be an integer"):
        ops.dropout(x, seed=0.5, device=device)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="p is 'half'; it must be a number"):
        ops.dropout_backward(x, p="half", seed=0, device=device)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x has dtype float16"):
        ops.dropout(x.astype(np.float16), seed=0, device=device)
    with pytest.raises(ValueError, match="must not be empty"):
        ops.dropout(x[:0], seed=0, device=device)
