"""Neighbours against naive NumPy, from images and from a feature file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyalexnet.data import ImageArrays
from pyalexnet.errors import DataError
from pyalexnet.evaluation.features import extract_features, save_features
from pyalexnet.evaluation.neighbours import find_neighbours, nearest
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.network import AlexNet

RNG = np.random.default_rng(8)
IMAGES = RNG.integers(0, 256, (9, 16, 16), np.uint8)
LABELS = np.arange(9) % 2
CLASSES = ("even", "odd")
DATA = ImageArrays(IMAGES, LABELS, CLASSES)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(AlexNet(2, devices=["cpu:0"]), CLASSES, np.full((256, 256, 3), 128, np.float32))


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [7, 7, 7, 7, 7, 5], [39, 1]])
@pytest.mark.parametrize("count", [1, 5, 40, 100])
def test_nearest_rows_are_found_whatever_the_batches(sizes: list[int], count: int) -> None:
    rows = RNG.standard_normal((40, 3, 5)).astype(np.float32)
    queries = RNG.standard_normal((4, 3, 5)).astype(np.float32)
    batches = np.split(rows, np.cumsum(sizes)[:-1])
    distances, indices = nearest(queries, batches, count)
    naive = np.sqrt(((queries[:, None].astype(np.float64) - rows) ** 2).sum(axis=(2, 3)))
    expected = np.argsort(naive, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(indices, expected)
    # Sums of 15 squares in another order.
    np.testing.assert_allclose(distances, np.take_along_axis(naive, expected, axis=1), rtol=1e-14)


def test_ties_go_to_the_earlier_row_and_nan_is_farthest() -> None:
    rows = np.array([[1.0], [np.nan], [-1.0], [3.0], [1.0]], np.float32)
    distances, indices = nearest(np.zeros((1, 1), np.float32), [rows[:2], rows[2:]], 5)
    assert indices.tolist() == [[0, 2, 4, 3, 1]]
    assert distances[0, :4].tolist() == [1, 1, 1, 3]
    assert np.isnan(distances[0, 4])


@pytest.mark.parametrize("layer", ["fc7", "pool5"])
def test_neighbours_are_those_of_the_features(model: Classifier, tmp_path: Path, layer: str) -> None:
    values = extract_features(model, DATA, layer).values.reshape(9, -1).astype(np.float64)
    found = find_neighbours(model, list(IMAGES[[4, 7]]), DATA, count=3, layer=layer, batch_size=4)
    for query, near in zip((4, 7), found, strict=True):
        distances = np.linalg.norm(values - values[query], axis=1)
        order = np.argsort(distances, kind="stable")[:3]
        assert [one.index for one in near] == order.tolist()
        assert [one.distance for one in near] == distances[order].tolist()
        assert near[0].index == query
        assert [one.label for one in near] == [CLASSES[LABELS[index]] for index in order]
        assert [one.name for one in near] == [str(index) for index in order]
    save_features(tmp_path / "known.npz", model, DATA, layer, batch_size=4)
    assert (
        find_neighbours(model, list(IMAGES[[4, 7]]), tmp_path / "known.npz", count=3, layer=layer, batch_size=4)
        == found
    )


def test_queries_that_cannot_be_read_may_be_skipped(model: Classifier) -> None:
    broken, errors = np.zeros((0, 3), np.uint8), []
    queries = [broken, IMAGES[4], broken, IMAGES[7]]
    found = find_neighbours(model, queries, DATA, count=3, batch_size=2, on_error=errors.append)
    assert found == [[], *find_neighbours(model, list(IMAGES[[4]]), DATA, count=3, batch_size=2), [], found[3]]
    assert found[3][0].index == 7
    assert [str(error) for error in errors] == ["an image has shape (0, 3); it must be (H, W) or (H, W, 3)"] * 2
    assert find_neighbours(model, [broken], DATA, on_error=errors.append) == [[]]
    with pytest.warns(UserWarning, match="^2 images are left out:") as warned:
        assert find_neighbours(model, queries, DATA, count=3, batch_size=2, on_error="skip") == found
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.raises(DataError, match="an image has shape"):
        find_neighbours(model, queries, DATA)


def test_files_of_another_net_or_layer_are_refused(model: Classifier, tmp_path: Path) -> None:
    save_features(tmp_path / "fc6.npz", model, DATA, "fc6")
    with pytest.raises(DataError, match=r"fc6\.npz holds features of fc6; they must be those of fc7"):
        find_neighbours(model, IMAGES[0], tmp_path / "fc6.npz")
    other = Classifier(AlexNet(2, devices=["cpu:0"], seed=1), CLASSES, model.mean)
    with pytest.raises(DataError, match=r"fc6\.npz holds another net's features"):
        find_neighbours(other, IMAGES[0], tmp_path / "fc6.npz", layer="fc6")
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        find_neighbours(model, IMAGES[0], DATA, batch_size=0)
    with pytest.raises(ValueError, match="count is 0; it must be at least 1"):
        find_neighbours(model, IMAGES[0], DATA, count=0)
    with pytest.raises(DataError, match="there are no images"):
        find_neighbours(model, [], DATA)
