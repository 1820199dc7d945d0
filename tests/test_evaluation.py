"""Errors, losses and predictions against plain NumPy on the net's own outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import ImageArrays
from pyalexnet.errors import DataError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.predict import predict
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import _rank, _softmax, mean_probabilities, wilson_interval
from pyalexnet.net.network import AlexNet

CLASSES = tuple("abcdefgh")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 256, 256, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> Classifier:
    net = AlexNet(8, devices=["cpu:0"], weight_init="source2012")
    # Weights far above the initial ones, so that probabilities differ clearly between images and classes.
    parameters = net.parameters()
    parameters["fc8.weight"] *= 30
    net.load_parameters(parameters)
    mean = np.random.default_rng(2).uniform(100, 150, (256, 256, 3)).astype(np.float32)
    return Classifier(net, CLASSES, mean)


def naive_probabilities(model: Classifier, images: np.ndarray, row: int, column: int, mirrored: bool) -> np.ndarray:
    centred = (images.astype(np.float32) - model.mean)[:, row : row + 227, column : column + 227]
    logits = model.net.forward(np.ascontiguousarray(centred[:, :, ::-1] if mirrored else centred))
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_one_view_is_the_centre(model: Classifier, images: np.ndarray) -> None:
    expected = naive_probabilities(model, images, 14, 14, mirrored=False)
    assert expected.max() > 0.3  # far from all alike
    # The input is the same; only the softmax here is less careful.
    np.testing.assert_allclose(mean_probabilities(model, images), expected, rtol=1e-6)


def test_ten_views_are_averaged(model: Classifier, images: np.ndarray) -> None:
    places = [(14, 14), (0, 0), (0, 29), (29, 0), (29, 29)]
    views = [naive_probabilities(model, images, *place, mirrored=flip) for place in places for flip in (False, True)]
    np.testing.assert_allclose(mean_probabilities(model, images, 10), np.mean(views, axis=0), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_evaluate_counts_errors(model: Classifier, images: np.ndarray, batch_size: int) -> None:
    probabilities = naive_probabilities(model, images, 14, 14, mirrored=False)
    order = np.argsort(-probabilities, axis=1)
    labels = order[np.arange(5), [0, 0, 1, 4, 5]]  # two right, two more among the first five, one not
    found = evaluate(model, ImageArrays(images, labels, CLASSES), batch_size=batch_size)
    assert (found.count, found.top1_error, found.top5_error) == (5, 3 / 5, 1 / 5)
    assert found.accuracy == 1 - 3 / 5
    assert found.loss == pytest.approx(-np.log(probabilities[np.arange(5), labels]).mean(), rel=1e-6)


def test_classes_are_matched_by_name(model: Classifier, images: np.ndarray) -> None:
    labels = np.arange(5)
    backwards = ImageArrays(images, 7 - labels, CLASSES[::-1])
    found, expected = evaluate(model, backwards), evaluate(model, ImageArrays(images, labels, CLASSES))
    assert found.loss == expected.loss
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    np.testing.assert_array_equal(found.top5_wrong, expected.top5_wrong)
    with pytest.raises(DataError, match="the data has the class '0'; the net knows only 'a', 'b'"):
        evaluate(model, (images, labels))


def test_confusion_and_classes_are_counted(model: Classifier, images: np.ndarray) -> None:
    probabilities = naive_probabilities(model, images, 14, 14, mirrored=False)
    labels = np.array([2, 2, 0, 7, 2])
    found = evaluate(model, ImageArrays(images, labels, CLASSES))
    expected = np.zeros((8, 8), int)
    for label, best in zip(labels, probabilities.argmax(axis=1), strict=True):
        expected[label, best] += 1
    np.testing.assert_array_equal(found.confusion, expected)
    by_class = found.by_class()
    assert [one.name for one in by_class] == list(CLASSES)
    assert [one.count for one in by_class] == [1, 0, 3, 0, 0, 0, 0, 1]
    assert by_class[2].top1_error == pytest.approx(1 - expected[2, 2] / 3, abs=1e-15)
    assert np.isnan(by_class[1].top1_error)
    assert by_class[1].top1_interval == (0.0, 1.0)
    top5 = np.argsort(-probabilities, axis=1)[:, :5]
    wrong = [label not in best for label, best in zip(labels, top5, strict=True)]
    assert found.top5_error == np.mean(wrong)
    assert by_class[7].top5_error == wrong[3]


@pytest.mark.parametrize(("wrong", "count"), [(0, 10), (10, 10), (3, 10), (1204, 10000), (1, 1)])
def test_intervals_are_wilsons(wrong: int, count: int) -> None:
    z, share = 1.959963984540054, wrong / count  # the normal distribution's quantile of 0.975
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # Both are a few float64 operations.
    np.testing.assert_allclose(wilson_interval(wrong, count), (centre - half, centre + half), rtol=0, atol=1e-12)


def test_rank_counts_ties_by_index_and_nan_as_wrong() -> None:
    labels = np.array([0, 1, 2], np.int32)
    ties = np.full((3, 3), 1 / 3)
    assert _rank(ties, labels).tolist() == [0, 1, 2]
    assert (_rank(np.full((3, 3), np.nan), labels) > 0).all()


def test_softmax_of_extreme_logits() -> None:
    extreme = np.array([[3e38, 0, 0], [1e4, 1e4, -1e4]], np.float32)
    np.testing.assert_array_equal(_softmax(extreme), [[1, 0, 0], [0.5, 0.5, 0]])
    assert np.isnan(_softmax(np.array([[np.inf, 0.0]], np.float32))).any()


def test_predict_names_the_most_probable(model: Classifier, images: np.ndarray, tmp_path: Path) -> None:
    probabilities = naive_probabilities(model, images, 14, 14, mirrored=False)
    paths = []
    for number, pixels in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    from_files = predict(model, paths, top=3, batch_size=2)
    assert from_files == predict(model, images, top=3, batch_size=2)
    assert [found[0].label for found in from_files] == [CLASSES[best] for best in probabilities.argmax(axis=1)]
    for found, expected in zip(from_files, probabilities, strict=True):
        np.testing.assert_allclose([p.probability for p in found], np.sort(expected)[:-4:-1], rtol=1e-6)
    assert predict(model, paths[0]) == predict(model, images[0]) == predict(model, [images[0]])
    assert len(predict(model, paths[0], top=100)[0]) == 8


def test_unreadable_images_may_be_skipped(model: Classifier, images: np.ndarray) -> None:
    broken, errors = np.zeros((0, 3), np.uint8), []
    mixed = [images[0], broken, images[1], broken]
    for batch_size in (1, 3):
        found = predict(model, mixed, batch_size=batch_size, on_error=errors.append)
        assert [len(predictions) for predictions in found] == [5, 0, 5, 0]
        assert [found[0], found[2]] == predict(model, images[:2])
    assert [str(error) for error in errors] == ["an image has shape (0, 3); it must be (H, W) or (H, W, 3)"] * 4
    assert predict(model, [broken], on_error=errors.append) == [[]]
    with pytest.raises(DataError, match=r"an image has shape \(0, 3\)"):
        predict(model, mixed)
    with pytest.warns(UserWarning, match=r"^2 images are left out:\nan image has shape \(0, 3\)") as warned:
        assert [len(predictions) for predictions in predict(model, mixed, on_error="skip")] == [5, 0, 5, 0]
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.raises(ValueError, match="on_error is 'ask'; it must be 'stop' or 'skip'"):
        predict(model, mixed, on_error="ask")  # type: ignore[arg-type]


def test_outputs_beyond_the_classes_have_a_number(model: Classifier, images: np.ndarray) -> None:
    labels = {found.label for found in predict(Classifier(model.net, ("a",), model.mean), images[0], top=8)[0]}
    assert labels == {"a", *(f"output {number}" for number in range(1, 8))}


def test_arguments_that_make_no_sense(model: Classifier, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate(model, (images, np.arange(5)), batch_size=0)
    with pytest.raises(ValueError, match="views is 3; it must be one of 1, 5, 10"):
        predict(model, images, views=3)
    with pytest.raises(ValueError, match="top is 0"):
        predict(model, images, top=0)
    with pytest.raises(DataError, match="an image has dtype float32"):
        predict(model, images[0].astype(np.float32))
    with pytest.raises(DataError, match=r"an image has shape \(2, 2, 4\)"):
        predict(model, [np.zeros((2, 2, 4), np.uint8)])
    with pytest.raises(DataError, match=r"cannot read the image .*nothing\.jpg"):
        predict(model, tmp_path / "nothing.jpg")
