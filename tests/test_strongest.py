"""The images that excite units most: those of a naive search, in batches of any size, and their figure."""

from __future__ import annotations

import numpy as np
import pytest

import pyalexnet
from pyalexnet.data import Digits, ImageArrays, Subset
from pyalexnet.evaluation.features import extract_features
from pyalexnet.evaluation.strongest import find_strongest, strongest
from pyalexnet.evaluation.units import tower_of, unit_count
from pyalexnet.net.network import AlexNet
from pyalexnet.net.receptive_field import WHOLE_INPUT, Region, receptive_fields
from pyalexnet.study.figures import unit_rows
from pyalexnet.study.figures.units import part_seen

DATA = Subset(Digits(), np.arange(40))


def test_strongest_images_are_those_of_a_naive_search(rng: np.random.Generator) -> None:
    values = rng.integers(0, 6, (23, 3, 4, 5)).astype(np.float32)  # many equals
    for batch_size in (1, 4, 23):
        found = strongest((values[start : start + batch_size] for start in range(0, 23, batch_size)), 7)
        for unit in range(5):
            most = [(-values[n, :, :, unit].max(), n) for n in range(23)]
            expected = sorted(most)[:7]
            ranked = zip(-found.activations[:, unit], found.indices[:, unit], strict=True)
            assert list(ranked) == expected
            for (_, n), position in zip(expected, found.positions[:, unit], strict=True):
                of_image = values[n, :, :, unit]
                places = [(r, c) for r in range(3) for c in range(4) if of_image[r, c] == of_image.max()]
                assert tuple(position) == places[0]


def test_nan_is_weaker_than_everything() -> None:
    values = np.array([[np.nan, 1], [-5, np.nan], [np.nan, 2]], np.float32)
    found = strongest([values[:2], values[2:]], 3)
    assert found.indices.T.tolist() == [[1, 0, 2], [2, 0, 1]]
    in_map = np.array([np.nan, -1, -2, np.nan], np.float32).reshape(1, 2, 2, 1)
    assert strongest([in_map], 1).positions.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("layer", ["conv1", "conv3_pre", "pool5", "fc7", "fc8"])
def test_units_of_a_net(digits_model: pyalexnet.Classifier, layer: str) -> None:
    values = extract_features(digits_model, DATA, layer).values
    last = values.shape[-1] - 1
    found = find_strongest(digits_model, DATA, layer, units=[last, 0], count=3, batch_size=7)
    assert [unit.unit for unit in found] == [last, 0]
    assert [unit.tower for unit in found] == [int(layer != "fc8"), 0]
    for unit in found:
        of_unit = values[..., unit.unit].reshape(40, -1).max(axis=1)
        assert [image.index for image in unit.images] == np.argsort(-of_unit, kind="stable")[:3].tolist()
        for image in unit.images:
            at = (image.index, *image.position, unit.unit) if values.ndim == 4 else (image.index, unit.unit)
            assert image.activation == values[at] == of_unit[image.index]
            assert image.label == DATA.classes[DATA.labels[image.index]]
        assert unit.field == receptive_fields(digits_model.net.options)[layer]


def test_most_active_units_are_taken_where_none_are_named(digits_model: pyalexnet.Classifier) -> None:
    values = extract_features(digits_model, DATA, "conv4").values.max(axis=(1, 2))
    means = np.sort(values, axis=0)[-9:].mean(axis=0)
    found = find_strongest(digits_model, DATA, "conv4")
    assert [unit.unit for unit in found] == np.argsort(-means)[:6].tolist()
    assert all(len(unit.images) == 9 for unit in found)


def test_units_lie_in_towers() -> None:
    two, one = AlexNet(7, devices=["cpu:0"]), AlexNet(7, devices=["cpu:0"], towers=1)
    assert [tower_of(two, "pool1", unit) for unit in (0, 47, 48, 95)] == [0, 0, 1, 1]
    assert [tower_of(two, "fc8", unit) for unit in (0, 6)] == [0, 0]
    assert tower_of(one, "conv1", 47) == 0
    assert [unit_count(one, name) for name in ("lrn2", "conv3_pre", "fc8")] == [128, 192, 7]


def test_arguments_that_make_no_sense(digits_model: pyalexnet.Classifier) -> None:
    for units, message in (
        ([256], r"units\[0\] is 256; it must be from 0 to 255"),
        ([], r"units is \[\]; it must be one number or more"),
        ([1, 1], r"units is \[1, 1\]; it must be different numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            find_strongest(digits_model, DATA, "conv5", units=units)
    with pytest.raises(TypeError, match="units is '12'; it must be a list of numbers"):
        find_strongest(digits_model, DATA, "conv5", units="12")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer is 'conv6'; it must be one of conv1"):
        find_strongest(digits_model, DATA, "conv6")
    with pytest.raises(ValueError, match="count is 0; it must be at least 1"):
        find_strongest(digits_model, DATA, count=0)


# The figure -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop", [227, 224])
def test_part_seen_is_cut_from_the_centre(crop: int, rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (256, 256, 3), np.uint8)
    start = (256 - crop) // 2
    square = Region(-20, 190, 79, 289)
    part = part_seen(picture, square, crop)
    assert part.shape == (99, 99, 3)
    for row, column in ((0, 0), (19, 5), (20, 0), (20, crop - 191), (20, crop - 190), (98, 3)):
        y, x = square.top + row, square.left + column
        expected = picture[start + y, start + x] if 0 <= y < crop and 0 <= x < crop else [217] * 3
        np.testing.assert_array_equal(part[row, column], expected)
    np.testing.assert_array_equal(
        part_seen(picture, WHOLE_INPUT.square(0, 0), crop)[:crop, :crop],
        picture[start : start + crop, start : start + crop],
    )


def test_rows_show_what_was_found(digits_model: pyalexnet.Classifier) -> None:
    found = find_strongest(digits_model, DATA, "conv2", units=[200, 3], count=4)
    axes = unit_rows(found, DATA).axes
    assert len(axes) == 2 * 4
    assert [axes[0].get_ylabel(), axes[4].get_ylabel()] == ["conv2\nunit 200", "conv2\nunit 3"]
    for place, image in enumerate(found[0].images):
        assert axes[place].get_title() == f"{image.label}\n{image.activation:.3g}"
        picture = DATA.batch(np.array([image.index]))[0][0]
        expected = part_seen(picture, found[0].field.square(*image.position), 227)
        np.testing.assert_array_equal(axes[place].images[0].get_array(), expected)
    with pytest.raises(ValueError, match="found is"):
        unit_rows([], DATA)


def test_fewer_images_than_asked_for(digits_model: pyalexnet.Classifier) -> None:
    few = ImageArrays(Digits().images[:2], np.array([3, 4]), Digits().classes)
    found = find_strongest(digits_model, few, "fc8", units=[1], count=9)
    assert len(found[0].images) == 2
    assert len(unit_rows(found, few).axes) == 2
