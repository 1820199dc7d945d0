"""Data sets that users write: what is wrong with them is named, what can be converted is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import pyalexnet
from pyalexnet.data import Digits, ImageArrays, Subset, as_dataset, split
from pyalexnet.data.checked import CheckedDataset, host_array
from pyalexnet.data.dataset import image_names
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.prefetch import in_batches, read_ahead
from pyalexnet.data.statistics import measure
from pyalexnet.errors import DataError


@dataclass
class Users:
    """A data set as a user may write it; ``change`` spoils a batch."""

    classes: Any = ("cat", "dog")
    labels: Any = field(default_factory=lambda: np.array([0, 1, 1, 0], np.int32))
    change: Any = lambda images, labels: (images, labels)
    count: int = 4

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Any) -> Any:
        images = np.zeros((len(indices), 256, 256, 3), np.uint8) + np.asarray(indices, np.uint8)[:, None, None, None]
        return self.change(images, np.asarray(self.labels)[indices])


class OnDevice:
    """An array on a GPU, as CuPy has it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__cuda_array_interface__ = {"version": 3}

    def __array__(self) -> None:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def get(self) -> np.ndarray:
        return self.array


class WithGradient(OnDevice):
    """An array with gradients, as PyTorch has it."""

    def detach(self) -> WithGradient:
        return self

    def cpu(self) -> np.ndarray:
        return self.array


def test_labels_and_images_of_every_kind_are_converted() -> None:
    numbers = [0, 1, 1, 0]
    whole = np.array(numbers)
    for labels in (numbers, tuple(numbers), whole, whole.astype(np.uint8), OnDevice(whole), WithGradient(whole)):
        assert as_dataset(Users(labels=labels)).labels.dtype == np.int32
        assert as_dataset(Users(labels=labels)).labels.tolist() == numbers
    for kind in (OnDevice, WithGradient, np.asfortranarray):
        dataset = as_dataset(Users(change=lambda images, labels, kind=kind: [kind(images), kind(labels.astype(int))]))
        images, labels = dataset.batch(np.array([2, 3]))
        assert (images[:, 0, 0, 0].tolist(), labels.tolist(), labels.dtype) == ([2, 3], [1, 0], np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": "ab"}, "classes is 'ab'; it must be a sequence of names"),
        ({"classes": 2}, "classes is 2; it must be a sequence of names"),
        ({"classes": ["a", 3]}, "classes has 3 among its names; all must be texts"),
        ({"classes": ["a", "a"]}, "classes names the class 'a' 2 times; class names must differ"),
        ({"classes": ["é", "e\u0301"]}, "classes names the class 'é' as"),
        ({"classes": ["a"]}, "classes has 1 names, but labels go up to 1"),
        ({"labels": [0, 1]}, r"labels has shape \(2,\); it must be \(4,\), one for each image"),
        ({"labels": [0.0, 1.0, 1.0, 0.0]}, "labels has dtype float64; it must be an integer type"),
        ({"labels": [True, False, True, True]}, "labels has dtype bool; it must be an integer type"),
        ({"labels": [0, 1, -1, 0]}, "labels go from -1 to 1; they must count classes from 0"),
        ({"labels": [[0], [1, 1], 0]}, "labels cannot become an array"),
        ({"labels": None}, r"labels has shape \(\)"),
        ({"labels": [], "count": 0}, "the data set has no images; it must have at least one"),
    ],
)
def test_what_is_wrong_as_a_whole_is_named_at_once(changes: dict[str, Any], message: str) -> None:
    for use in (as_dataset, as_test_dataset, lambda data: Subset(data, np.array([0])), lambda data: split(data, 0.5)):
        with pytest.raises(DataError, match=message):
            use(Users(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x / np.float32(255), y), "returned images of dtype float32 and shape .*; they must be uint8"),
        (lambda x, y: (x > 0, y), "returned images of dtype bool"),
        (lambda x, y: (x[..., 0], y), r"of shape \(3, 256, 256, 3\)"),
        (lambda x, y: (x[:, :224, :224], y), r"shape \(3, 224, 224, 3\); they must be uint8"),
        (lambda x, y: (x.transpose(0, 3, 1, 2), y), r"shape \(3, 3, 256, 256\)"),
        (lambda x, y: (x[:1], y), r"shape \(1, 256, 256, 3\)"),
        (lambda x, y: (x, y[:1]), r"other labels than its labels\[indices\] for 3 images: \[0\], not \[0, 1, 1\]"),
        (lambda x, y: (x, 1 - y), r"\[1, 0, 0\], not \[0, 1, 1\]"),
        (lambda x, y: (x, y + 0.5), "returned other labels"),
        (lambda x, _: x, r"returned a ndarray; it must be \(images, labels\)"),
        (lambda _x, _y: None, r"returned a NoneType; it must be \(images, labels\)"),
        (lambda x, y: (x, y, y), "returned a tuple; it must be"),
        (lambda x, y: ([x[0], x[0, :2]], y), "the images .* cannot become an array"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_batch_is_named_wherever_it_is_read(change: Any, message: str) -> None:
    dataset = as_dataset(Users(change=change))
    for read in (
        lambda: dataset.batch(np.arange(3)),
        lambda: list(read_ahead(dataset, in_batches(np.arange(3), 8))),
        lambda: measure(Subset(Users(change=change), np.arange(3))),
        lambda: split(Users(change=change, count=4), 0.5)[0].dataset.batch(np.arange(3)),
    ):
        with pytest.raises(DataError, match=message):
            read()


def test_training_evaluation_and_features_refuse_floats() -> None:
    net = pyalexnet.AlexNet(2, devices=["cpu:0"])
    model = pyalexnet.Classifier(net, ("cat", "dog"), np.zeros((256, 256, 3), np.float32))

    def scaled(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return images / 255, labels

    users = Users(change=scaled)
    for use in (
        lambda: pyalexnet.train(users, epochs=1, batch_size=2, validation=0, devices=["cpu:0"], progress=False),
        lambda: pyalexnet.evaluate(model, users),
        lambda: pyalexnet.extract_features(model, users),
    ):
        with pytest.raises(DataError, match="returned images of dtype float64"):
            use()


def test_names_are_checked_and_kept() -> None:
    users: Any = Users()
    assert image_names(as_dataset(users)) == ["0", "1", "2", "3"]
    assert not hasattr(as_dataset(users), "fingerprint")
    users.names = ["a", "b"]
    with pytest.raises(DataError, match="names has 2 names; it must have 4, one for each image"):
        as_dataset(users)
    users.names = ["a", "b", "c", "d"]
    users.fingerprint = lambda: "mine"
    assert image_names(as_dataset(users)) == users.names
    assert as_dataset(users).fingerprint() == "mine"


def test_own_data_sets_are_not_looked_at_twice_but_derived_ones_are() -> None:
    class Scaled(Digits):
        def batch(self, indices: Any) -> Any:
            images, labels = super().batch(indices)
            return images / 255, labels

    digits = Digits()
    assert as_dataset(digits) is digits
    checked = as_dataset(Scaled())
    assert isinstance(checked, CheckedDataset)
    assert as_dataset(checked) is checked
    with pytest.raises(DataError, match="images of dtype float64"):
        checked.batch(np.arange(2))


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (np.zeros((2, 8, 8), bool), [0, 1], None, "images has dtype bool; it must be uint8"),
        (np.zeros((2, 8, 8), object), [0, 1], None, "images has dtype object; it must be uint8"),
        ([np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8)], [0, 1], None, "images cannot become an array"),
        (np.zeros((2, 8, 8), np.uint8), [[0], [1]], None, r"labels has shape \(2, 1\); it must be \(2,\)"),
        (np.zeros((2, 8, 8), np.uint8), ["a", "b"], None, "labels has dtype <U1; it must be an integer type"),
        (np.zeros((2, 8, 8), np.uint8), np.array([0, 2**63], np.uint64), None, "labels go from 0 to 92233720"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], "ab", "classes is 'ab'; it must be a sequence of names"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], ["a", "a"], "classes names the class 'a' 2 times"),
        (np.zeros((2, 8, 8), np.uint8), [0, 1], ["a", None], "classes has None among its names"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_serve(images: Any, labels: Any, classes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageArrays(images, labels, classes)


def test_arrays_in_any_order_of_memory(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 256, 256, 3), np.uint8)
    for images in (np.asfortranarray(pixels), pixels[::-1][::-1], OnDevice(pixels), WithGradient(pixels), list(pixels)):
        dataset = ImageArrays(images, OnDevice(np.array([0, 1, 0])), ["é", "b"])
        assert np.array_equal(dataset.batch(np.array([2, 0]))[0], pixels[[2, 0]])
    assert host_array(range(3), "it").tolist() == [0, 1, 2]
