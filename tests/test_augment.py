"""Input preparation against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import references
from pyalexnet import ops
from pyalexnet.device.backend import get_device
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import settings

PLAIN = (0, (1.0, 1.0, 1.0))  # no padding, and what changes nothing


def _draw(rng: np.random.Generator, count: int, height: int, width: int, crop: int) -> dict[str, np.ndarray]:
    return {
        "images": rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8),
        "offsets": rng.integers(0, [height - crop + 1, width - crop + 1], (count, 2), dtype=np.int32),
        "flips": np.arange(count, dtype=np.uint8) % 2,
        "shifts": rng.standard_normal((count, 3), dtype=np.float32),
    }


@pytest.mark.parametrize(("height", "width", "crop"), [(256, 256, 227), (7, 9, 4), (5, 5, 5), (6, 4, 1), (33, 40, 31)])
@pytest.mark.parametrize("mean_shape", ["none", "colour", "pixel"])
def test_equals_reference(
    device: str, rng: np.random.Generator, height: int, width: int, crop: int, mean_shape: str
) -> None:
    drawn = _draw(rng, 3, height, width, crop)
    shape = {"none": None, "colour": (3,), "pixel": (height, width, 3)}[mean_shape]
    mean = None if shape is None else 100 * rng.random(shape, dtype=np.float32)
    out = ops.prepare_input(*drawn.values(), mean, crop=crop, device=device)
    # Two additions to numbers of at most 260, each rounding by 6e-8 of it.
    np.testing.assert_allclose(
        np.asarray(out), references.prepare_input(*drawn.values(), mean, crop), rtol=0, atol=4e-5
    )


def test_a_crop_never_leaves_its_image(device: str, rng: np.random.Generator) -> None:
    drawn = _draw(rng, 4, 9, 8, 5)
    corners = np.array([[-3, 2], [2, -1], [7, 1], [1, 2**31 - 1]], np.int32)  # which the functions above refuse
    on = get_device(device)
    there = [Tensor.from_array(array, device=device) for array in {**drawn, "offsets": corners}.values()]
    out = Tensor.empty((4, 5, 5, 3), device=device)
    on.native.prepare_input(
        out.array, *(tensor.array for tensor in there), None, 5, *PLAIN, settings(on, 1.0), on.stream
    )
    on.stream.synchronize()
    nearest = {**drawn, "offsets": np.clip(corners, 0, [9 - 5, 8 - 5]).astype(np.int32)}
    expected = ops.prepare_input(*nearest.values(), crop=5, device=device)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(expected))


def test_scale_multiplies_pixels_mean_and_shift(device: str, rng: np.random.Generator) -> None:
    drawn = _draw(rng, 3, 9, 8, 5)
    mean = 100 * rng.random((9, 8, 3), dtype=np.float32)
    out = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=5, scale=1 / 1.1, device=device))
    # As above, with a third rounding.
    expected = references.prepare_input(*drawn.values(), mean, 5, scale=1 / 1.1)
    np.testing.assert_allclose(out, expected, rtol=0, atol=6e-5)
    plain, again = (ops.prepare_input(*drawn.values(), mean, crop=5, device=device, **k) for k in ({}, {"scale": 1.0}))
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(again))
    assert np.abs(out - np.asarray(plain)).max() > 1


@pytest.mark.parametrize(("crop", "size"), [(224, 227), (5, 6), (4, 9)])
def test_zeros_surround_a_crop_smaller_than_the_output(
    device: str, rng: np.random.Generator, crop: int, size: int
) -> None:
    drawn = _draw(rng, 3, crop + 32, crop + 32, crop)
    mean = 100 * rng.random((crop + 32, crop + 32, 3), dtype=np.float32)
    out = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=crop, size=size, device=device))
    np.testing.assert_allclose(out, references.prepare_input(*drawn.values(), mean, crop, size=size), rtol=0, atol=4e-5)
    assert (out[:, crop:] == 0).all()
    assert (out[:, :, crop:] == 0).all()
    assert (out[:, :crop, :crop] != 0).any()


@pytest.mark.parametrize(("crop", "padding", "size"), [(224, 2, 227), (5, 3, 8), (4, 1, 9)])
def test_padding_moves_a_crop_away_from_the_corner(
    device: str, rng: np.random.Generator, crop: int, padding: int, size: int
) -> None:
    drawn = _draw(rng, 3, crop + 32, crop + 32, crop)
    mean = 100 * rng.random((crop + 32, crop + 32, 3), dtype=np.float32)
    out = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=crop, size=size, padding=padding, device=device))
    corner = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=crop, device=device))
    inside = slice(padding, padding + crop)
    np.testing.assert_array_equal(out[:, inside, inside], corner)
    out[:, inside, inside] = 0
    assert (out == 0).all()
    least = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=crop, padding=padding, device=device))
    assert least.shape == (3, padding + crop, padding + crop, 3)
    np.testing.assert_array_equal(least[:, inside, inside], corner)


def test_colours_are_divided_by_their_deviations(device: str, rng: np.random.Generator) -> None:
    drawn = _draw(rng, 3, 9, 8, 5)
    mean, deviation = 100 * rng.random((9, 8, 3), dtype=np.float32), (58.395, 2.0, 0.5)
    out = np.asarray(ops.prepare_input(*drawn.values(), mean, crop=5, scale=0.3, deviation=deviation, device=device))
    # As above, the scale's division and the product rounding by 6e-8 of the result too.
    expected = references.prepare_input(*drawn.values(), mean, 5, scale=0.3) / np.array(deviation)
    np.testing.assert_allclose(out, expected, rtol=2e-7, atol=4e-5)


@pytest.mark.parametrize("crop", [4, 5, 6, 7])
def test_rows_may_be_padded_with_zeros(device: str, rng: np.random.Generator, crop: int) -> None:
    drawn = _draw(rng, 2, 9, 8, crop)
    on, pitch = get_device(device), (crop * 3 + 3) // 4 * 4
    bytes_needed = 2 * crop * pitch * 4
    memory = on.native.Memory(on.index, bytes_needed)
    out = memory.array(0, [2, crop, crop, 3], "float32", [crop * pitch, pitch, 3, 1])
    tensors = [Tensor.from_array(array, device=device) for array in drawn.values()]
    on.native.prepare_input(
        out, *(tensor.array for tensor in tensors), None, crop, *PLAIN, settings(on, 1.0), on.stream
    )
    on.stream.synchronize()
    rows = np.asarray(Tensor(memory.array(0, [2, crop, pitch], "float32"), on))
    found = rows[:, :, : crop * 3].reshape(2, crop, crop, 3)
    np.testing.assert_allclose(found, references.prepare_input(*drawn.values(), None, crop), rtol=0, atol=4e-5)
    assert (rows[:, :, crop * 3 :] == 0).all()


def test_whole_numbers_stay_exact(device: str, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    zeros = np.zeros((2, 3), np.float32)
    out = ops.prepare_input(images, np.zeros((2, 2), np.int32), np.zeros(2, np.uint8), zeros, crop=8, device=device)
    np.testing.assert_array_equal(np.asarray(out), images)


def test_wrong_arguments_are_named(device: str, rng: np.random.Generator) -> None:
    good = _draw(rng, 2, 8, 9, 4)

    def prepare(mean: object = None, crop: int = 4, scale: object = 1.0, **changed: object) -> None:
        ops.prepare_input(*{**good, **changed}.values(), mean, crop=crop, scale=scale, device=device)  # type: ignore[arg-type]

    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"scale is .*; it must be above 0 and finite"):
            prepare(scale=scale)
    with pytest.raises(TypeError, match="scale"):
        prepare(scale="half")
    with pytest.raises(TypeError, match="images_u8 has dtype float32; it must be uint8"):
        prepare(images=good["images"].astype(np.float32))
    with pytest.raises(ValueError, match=r"images_u8 has shape \(2, 8, 9\); it must have 4 axes"):
        prepare(images=good["images"][..., 0])
    with pytest.raises(TypeError, match="offsets has dtype float64; it must be int32"):
        prepare(offsets=good["offsets"].astype(np.float64))
    with pytest.raises(ValueError, match=r"offsets has shape \(1, 2\); it must be \(2, 2\)"):
        prepare(offsets=good["offsets"][:1])
    with pytest.raises(ValueError, match=r"offsets\[1, 0\] is 5; it must be from 0 to 4"):
        prepare(offsets=np.array([[0, 5], [5, 0]], np.int32))
    with pytest.raises(ValueError, match=r"offsets\[0, 1\] is -1; it must be from 0 to 5"):
        prepare(offsets=np.array([[0, -1], [5, 0]], np.int32))
    with pytest.raises(ValueError, match=r"flips has shape \(3,\); it must be \(2,\)"):
        prepare(flips=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"shifts has shape \(2, 1\); it must be \(2, 3\)"):
        prepare(shifts=np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match=r"mean has shape \(9, 8, 3\); it must be \(8, 9, 3\)"):
        prepare(mean=np.zeros((9, 8, 3), np.float32))
    for crop in (0, 9, -2):
        with pytest.raises(ValueError, match=f"crop is {crop}; it must be from 1 to the images' smaller side, 8"):
            prepare(crop=crop)
    with pytest.raises(ValueError, match="size is 3; it must be at least the crop's 4"):
        ops.prepare_input(*good.values(), crop=4, size=3, device=device)
    with pytest.raises(ValueError, match="size is 5; it must be at least the crop's 4 and the padding's 2"):
        ops.prepare_input(*good.values(), crop=4, size=5, padding=2, device=device)
    with pytest.raises(ValueError, match="padding is -1; it must be not negative"):
        ops.prepare_input(*good.values(), crop=4, padding=-1, device=device)
    for deviation in ((1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(ValueError, match=r"deviation\[1\] is .*; it must be above 0 and finite"):
            ops.prepare_input(*good.values(), crop=4, deviation=deviation, device=device)
    with pytest.raises(ValueError, match=r"deviation is \(1\.0, 1\.0\); it must be three numbers"):
        ops.prepare_input(*good.values(), crop=4, deviation=(1.0, 1.0), device=device)
    for wrong in ("abc", 2.0, None):
        with pytest.raises(TypeError, match=r"deviation is .*; it must be three numbers"):
            ops.prepare_input(*good.values(), crop=4, deviation=wrong, device=device)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"crop is 2\.5; it must be an integer"):
        prepare(crop=2.5)  # type: ignore[arg-type]
