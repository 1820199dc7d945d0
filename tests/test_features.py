"""Features: those of the arrays that the net computed, in memory and in files, also damaged ones."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyalexnet.architecture import Options, feature_names
from pyalexnet.classifier import Classifier
from pyalexnet.data import ImageArrays, ImageFolder, Subset
from pyalexnet.data.folder import ImageFiles
from pyalexnet.errors import DataError
from pyalexnet.features import FeatureFile, extract_features, model_checksum, save_features
from pyalexnet.network import AlexNet

CLASSES = ("a", "b", "c")
IMAGES = np.random.default_rng(5).integers(0, 256, (7, 20, 30, 3), np.uint8)
LABELS = np.arange(7) % 3


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(AlexNet(3, devices=["cpu:0"], seed=3), CLASSES, np.full((256, 256, 3), 128, np.float32))


@pytest.fixture(scope="module")
def data() -> ImageArrays:
    return ImageArrays(IMAGES, LABELS, CLASSES)


def centres(data: ImageArrays, model: Classifier) -> np.ndarray:
    images, _ = data.batch(np.arange(len(data)))
    return (images.astype(np.float32) - model.mean)[:, 14:241, 14:241]


SHAPES = {
    "conv1": (55, 55, 96), "lrn1": (55, 55, 96), "pool1": (27, 27, 96),
    "conv2": (27, 27, 256), "lrn2": (27, 27, 256), "pool2": (13, 13, 256),
    "conv3": (13, 13, 384), "conv4": (13, 13, 384), "conv5": (13, 13, 256), "pool5": (6, 6, 256),
    "fc6": (4096,), "fc7": (4096,), "fc8": (3,),
}  # fmt: skip


@pytest.mark.parametrize("layer", SHAPES)
def test_every_layer_can_be_read(model: Classifier, data: ImageArrays, layer: str) -> None:
    found = extract_features(model, Subset(data, np.arange(2)), layer)
    assert found.values.shape == (2, *SHAPES[layer])
    assert found.values.dtype == np.float32
    assert (found.values != 0).any()


def test_layers_follow_from_each_other(model: Classifier, data: ImageArrays) -> None:
    """fc7's outputs by fc8's weights are the logits; conv5's pooled are pool5's."""
    x, parameters = centres(data, model), model.net.parameters()
    fc7 = extract_features(model, data, "fc7", batch_size=3).values.astype(np.float64)
    logits = fc7 @ parameters["fc8.weight"] + parameters["fc8.bias"]
    np.testing.assert_allclose(model.net.forward(x), logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    conv5, pool5 = (extract_features(model, data, layer).values for layer in ("conv5", "pool5"))
    windows = np.lib.stride_tricks.sliding_window_view(conv5, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(pool5, windows.max(axis=(-1, -2)))


def test_two_devices_give_the_features_of_one(model: Classifier, data: ImageArrays) -> None:
    two = Classifier(AlexNet(3, devices=["cpu:0", "cpu:1"], seed=3), CLASSES, model.mean)
    for layer in ("conv2", "pool5", "fc6", "fc8"):
        one, other = (extract_features(each, data, layer).values for each in (model, two))
        np.testing.assert_array_equal(one, other)


def test_names_follow_the_options() -> None:
    assert list(feature_names(Options())) == list(SHAPES)
    swapped = list(feature_names(Options(pool_before_lrn=True)))
    assert swapped[:3] == ["conv1", "pool1", "lrn1"]
    assert "lrn1" not in feature_names(Options(lrn=False))
    net = AlexNet(2, devices=["cpu:0"], pool_before_lrn=True, towers=1)
    x = np.ones((1, 227, 227, 3), np.float32)
    assert net.features(x, "lrn2").shape == net.features(x, "pool2").shape == (1, 13, 13, 128)
    with pytest.raises(ValueError, match="layer is 'conv9'; it must be one of conv1, pool1, lrn1"):
        net.features(x, "conv9")


def test_a_file_holds_the_same(model: Classifier, data: ImageArrays, tmp_path: Path) -> None:
    counts: list[int] = []
    save_features(tmp_path / "fc6.npz", model, data, "fc6", batch_size=4, on_images=counts.append)
    assert counts == [4, 3]
    expected = extract_features(model, data, "fc6")
    with np.load(tmp_path / "fc6.npz") as archive:
        np.testing.assert_array_equal(archive["features"], expected.values)
        assert archive["labels"].tolist() == LABELS.tolist()
        assert archive["names"].tolist() == list(expected.names) == [str(number) for number in range(7)]
    file = FeatureFile(tmp_path / "fc6.npz")
    np.testing.assert_array_equal(np.concatenate(list(file.batches())), expected.values)
    assert (file.layer, file.classes, file.shape) == ("fc6", CLASSES, (7, 4096))
    assert file.model == model_checksum(model)
    assert [path.name for path in tmp_path.iterdir()] == ["fc6.npz"]


def test_images_keep_their_names(model: Classifier, tmp_path: Path) -> None:
    for number, pixels in enumerate(IMAGES[:3]):
        path = tmp_path / "photos" / CLASSES[number] / f"{number}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    folder = ImageFolder(tmp_path / "photos")
    found = extract_features(model, Subset(folder, np.array([2, 0])))
    assert found.names == ("c/2.png", "a/0.png")
    loose = ImageFiles(sorted((tmp_path / "photos").rglob("*.png")))
    unlabelled = extract_features(model, loose)
    assert unlabelled.labels.tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(unlabelled.values[[2, 0]], found.values)
    save_features(tmp_path / "loose.npz", model, loose)
    assert FeatureFile(tmp_path / "loose.npz").classes == ()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def text(path: Path) -> None:
    path.write_text("no archive")


def without_labels(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if name != "labels.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)


def pickled(path: Path) -> None:
    np.savez(path, features=np.array([{}], object), labels=[0], names=["a"], classes=["a"], layer="fc7", model="")


def whole_numbers(path: Path) -> None:
    np.savez(path, features=np.ones((1, 3), int), labels=[0], names=["a"], classes=["a"], layer="fc7", model="")


def without_names(path: Path) -> None:
    np.savez(path, features=np.ones((2, 3), "f4"), labels=[0, 0], names=["a"], classes=["a"], layer="fc7", model="")


def without_a_class(path: Path) -> None:
    np.savez(path, features=np.ones((1, 3), "f4"), labels=[1], names=["a"], classes=["a"], layer="fc7", model="")


@pytest.mark.parametrize(
    "spoil",
    [cut, text, without_labels, pickled, whole_numbers, without_names, without_a_class, Path.unlink],
)
def test_damaged_files_are_refused(
    model: Classifier, data: ImageArrays, tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    path = tmp_path / "fc7.npz"
    save_features(path, model, data)
    spoil(path)
    with pytest.raises(DataError, match=r"fc7\.npz is no file of features, or is damaged"):
        FeatureFile(path)


def test_nothing_is_left_of_a_file_that_fails(model: Classifier, tmp_path: Path) -> None:
    class Failing(ImageArrays):
        def batch(self, indices: Any) -> Any:
            if 6 in indices:
                raise DataError("image 6 is broken")
            return super().batch(indices)

    with pytest.raises(DataError, match="image 6 is broken"):
        save_features(tmp_path / "fc7.npz", model, Failing(IMAGES, LABELS, CLASSES), batch_size=2)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"path is 'fc7\.csv'; its name must end in \.npz"):
        save_features("fc7.csv", model, (IMAGES, LABELS))
    with pytest.raises(ValueError, match="batch_size is 0"):
        extract_features(model, (IMAGES, LABELS), batch_size=0)
