"""Occlusion maps: the probabilities that predict finds for the same images with a square drawn by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyalexnet
from pyalexnet.data import Digits
from pyalexnet.evaluation.occlusion import occlusion_maps, places_of
from pyalexnet.evaluation.predict import as_images, predict
from pyalexnet.net.network import AlexNet
from pyalexnet.study.figures import occlusion_panel

IMAGE = Digits().images[3]


def pixels(image: np.ndarray) -> np.ndarray:
    (found,) = as_images(image)
    return np.asarray(found)


@pytest.mark.parametrize(("size", "stride", "grey"), [(60, 50, 128), (31, 76, 0), (200, 114, 255)])
def test_probabilities_are_those_of_predict(
    digits_model: pyalexnet.Classifier, size: int, stride: int, grey: int
) -> None:
    (found,) = occlusion_maps(digits_model, IMAGE, size=size, stride=stride, grey=grey, batch_size=2)
    side = -(-227 // stride)
    assert found.probabilities.shape == (side, side)
    ((best, *_),) = predict(digits_model, IMAGE)
    assert (found.label, found.probability) == (best.label, best.probability)
    for row in range(side):
        for column in range(side):
            y, x = (14 + stride * place + stride // 2 - size // 2 for place in (row, column))
            covered = pixels(IMAGE).copy()
            covered[max(y, 0) : y + size, max(x, 0) : x + size] = grey
            (classes,) = predict(digits_model, covered, top=10)
            expected = {prediction.label: prediction.probability for prediction in classes}
            assert found.probabilities[row, column] == expected[best.label]  # the same bits


def test_same_bits_in_any_batch_and_of_any_class(digits_model: pyalexnet.Classifier) -> None:
    images = list(Digits().images[:2])
    done: list[int] = []
    maps = occlusion_maps(digits_model, images, label="8", stride=57, batch_size=5, on_images=done.append)
    assert sum(done) == 2 * 16
    for image, found in zip(images, maps, strict=True):
        (alone,) = occlusion_maps(digits_model, image, label="8", stride=57, batch_size=64)
        assert found.label == alone.label == "8"
        np.testing.assert_array_equal(found.probabilities, alone.probabilities)


def test_view_of_224_pixels() -> None:
    net = AlexNet(3, devices=["cpu:0"], crop=224)
    model = pyalexnet.Classifier(net, ("a", "b", "c"), np.zeros((256, 256, 3), np.float32))
    (found,) = occlusion_maps(model, IMAGE, size=20, stride=112)
    covered = pixels(IMAGE).copy()
    covered[16 + 168 - 10 : 16 + 168 + 10, 16 + 56 - 10 : 16 + 56 + 10] = 128
    (classes,) = predict(model, covered, top=3)
    assert found.probabilities[1, 0] == {each.label: each.probability for each in classes}[found.label]


def test_places_cover_the_view() -> None:
    for crop, stride in ((227, 12), (224, 16), (227, 256), (227, 1)):
        rows = np.unique(places_of(crop, stride)[:, 0])
        assert rows[0] == stride // 2
        assert len(rows) == -(-crop // stride)
        assert (np.diff(rows) == stride).all()


def test_arguments_that_make_no_sense(digits_model: pyalexnet.Classifier) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"size": 0}, "size is 0; it must be from 1 to 256"),
        ({"stride": 257}, "stride is 257; it must be from 1 to 256"),
        ({"grey": -1}, "grey is -1; it must be from 0 to 255"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"label": "cat"}, "label is 'cat'; it must be one of the model's classes, such as '0'"),
    )
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            occlusion_maps(digits_model, IMAGE, **arguments)


def test_panel_shows_images_and_maps(digits_model: pyalexnet.Classifier) -> None:
    images = list(Digits().images[:3])
    found = occlusion_maps(digits_model, images, stride=76)
    figure = occlusion_panel(images, found)
    for number, occluded in enumerate(found):
        left, right = figure.axes[2 * number : 2 * number + 2]
        np.testing.assert_array_equal(left.images[0].get_array(), pixels(images[number])[14:241, 14:241])
        assert left.get_title() == f"{occluded.label}  {occluded.probability:.1%}"
        np.testing.assert_array_equal(right.images[0].get_array(), occluded.probabilities)
        assert tuple(right.images[0].get_extent()) == (0, 228, 228, 0)
        assert right.images[0].get_clim() == (0, 1)
    with pytest.raises(ValueError, match="found has 2 entries; it must have 3, one for each image"):
        occlusion_panel(images, found[:2])
