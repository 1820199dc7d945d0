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
from pyalexnet.data import ImageArrays, ImageFolder, Subset
from pyalexnet.data.folder import ImageFiles
from pyalexnet.errors import DataError
from pyalexnet.evaluation.features import FeatureFile, extract_features, model_checksum, save_features
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.network import AlexNet
from small import HIDDEN_UNITS

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
    "fc6": (HIDDEN_UNITS,), "fc7": (HIDDEN_UNITS,), "fc8": (3,),
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
    assert (file.layer, file.classes, file.shape) == ("fc6", CLASSES, (7, HIDDEN_UNITS))
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


PARTS = {
    "features": np.arange(8, dtype=np.float32).reshape(2, 4),
    "labels": np.array([0, -1], np.int32),
    "names": np.array(["a/1.jpg", "größe.jpg"]),
    "classes": np.array(["a", "b"]),
    "layer": np.array("fc7"),
    "model": np.array("0a1b2c3d"),
}


def with_part(name: str, array: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **(PARTS | {name: array}))


def with_header(text: str) -> Callable[[Path], None]:
    """Features that begin otherwise, in an archive whose checksums are right."""

    def change(path: Path) -> None:
        header = f"{text:<117}\n".encode()
        content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + PARTS["features"].tobytes()
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, old in parts.items():
                archive.writestr(name, content if name == "features.npy" else old)

    return change


def compressed(path: Path) -> None:
    np.savez_compressed(path, **PARTS)


def with_bytes(old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return change


def encrypted(path: Path) -> None:
    """The flag of encryption, in both places where an archive has flags."""
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + place] |= 1
    path.write_bytes(content)


def with_two_of_one_name(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", archive.read("labels.npy"))


def with_a_long_directory(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(100):
            archive.writestr(f"{number}.npy", b"")


def with_a_part_that_quotes_the_file(path: Path) -> None:
    """Of a wrong length of a part's name zipfile tells with the whole name, which may be 64 KB of the file."""
    content = bytearray(path.read_bytes())
    content[26:28] = (1000).to_bytes(2, "little")
    path.write_bytes(content)


def test_a_small_file_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "fc7.npz", **PARTS)
    found = FeatureFile(tmp_path / "fc7.npz")
    assert (found.layer, found.model, found.names, found.classes) == (
        "fc7", "0a1b2c3d", ("a/1.jpg", "größe.jpg"), ("a", "b"),
    )  # fmt: skip
    assert found.labels.tolist() == [0, -1]
    np.testing.assert_array_equal(np.concatenate(list(found.batches())), PARTS["features"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (encrypted, "is compressed or encrypted; it must be stored as it is"),
        (compressed, "is compressed or encrypted; it must be stored as it is"),
        (with_two_of_one_name, "it must hold one .npy of each of features, labels"),
        (with_a_long_directory, "its list of parts has .* bytes; it must have at most 4,096"),
        (with_a_part_that_quotes_the_file, "File name in directory 'features.npy' and header .{,200}…$"),
        (with_part("extra", np.zeros(3)), "it must hold one .npy of each of features, labels"),
        (with_part("labels", np.array([0, -2], np.int32)), "not all indices into its 2 classes, or -1 for none"),
        (with_part("labels", np.array([0, 2**40])), "not all indices into its 2 classes, or -1 for none"),
        (with_part("labels", np.array([0.0, 1.0])), "its labels are float64"),
        (with_part("labels", np.array([[0, 1]])), r"its labels are int64 \(1, 2\)"),
        (with_part("classes", np.array(["a", "a"])), "its list of classes has 'a' 2 times"),
        (with_part("names", np.array([1, 2])), "its names are int64"),
        (with_part("features", np.zeros((2, 4))), "its features are float64"),
        (with_part("features", np.zeros(2, np.float32)), r"its features are float32 \(2,\)"),
        (with_part("features", np.zeros((2, 0), np.float32)), r"its features are float32 \(2, 0\)"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 9**9), }"), "its header is not as NumPy"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (((((((("), "its header is not as NumPy"),
        (with_header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 4), }"), "its header is not as NumPy"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2999999999999, 4), }"),
            "have not the size of",
        ),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2999999999999), }"), "its features are"),
        (
            with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (2, 4), }"),
            "it has the dtype <f3, which",
        ),
        (with_bytes(b"r\0\0\0\xf6", b"r\0\x11\0\xf6"), "its names are no texts|CRC"),
    ],
)
def test_archives_that_are_not_as_they_are_written(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "fc7.npz"
    np.savez(path, **PARTS)
    spoil(path)
    with pytest.raises(DataError, match=rf"fc7\.npz is no file of features, or is damaged: .*({message})"):
        FeatureFile(path)


def test_features_that_are_not_finite_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "fc7.npz"
    np.savez(path, **(PARTS | {"features": np.array([[1, np.nan]] * 2, np.float32)}))
    with pytest.raises(DataError, match=r"cannot read the features of .*fc7\.npz: some are NaN or infinite"):
        list(FeatureFile(path).batches())
    np.savez(path, **(PARTS | {"features": np.full((2, 4096), 7, np.float32)}))
    with_bytes(np.full(4096, 7, np.float32).tobytes(), np.full(4096, 8, np.float32).tobytes())(path)
    with pytest.raises(DataError, match=r"cannot read the features of .*fc7\.npz: Bad CRC-32"):
        list(FeatureFile(path).batches())


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
