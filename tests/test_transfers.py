"""Nothing is copied between host and devices twice where once will do: every copy of the net's is counted."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyalexnet import Classifier, evaluate, load_model, save_model, train
from pyalexnet.architecture import Options, initial_parameters, layers, parameter_count
from pyalexnet.data.augmentation import view_variations
from pyalexnet.device import backend
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.judging import mean_probabilities
from pyalexnet.net.network import AlexNet
from pyalexnet.training.checkpoint import Checkpoint, newest_checkpoint

CLASSES = 10
ALL_PARAMETERS = 4 * parameter_count(CLASSES)
PARAMETER_SHAPES = {
    shape for layer in layers(CLASSES) for shape in (layer.tower_weight_shape, layer.tower_weight_shape[-1:])
}
IMAGE, HOST = (256, 256, 3), -1


@dataclass
class Copies:
    """Shapes and bytes of what went to devices, and of what came back."""

    up: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    down: list[tuple[tuple[int, ...], int]] = field(default_factory=list)

    def note(self, dst: Any, src: Any) -> None:
        values = tuple(dst.shape), int(np.prod(dst.shape)) * np.dtype(dst.dtype).itemsize
        if src.device == HOST != dst.device:
            self.up.append(values)
        elif dst.device == HOST != src.device:
            self.down.append(values)

    def of_parameters(self) -> tuple[float, float]:
        """How often all parameters were uploaded and downloaded, counting momentum and gradients as such."""
        up, down = (
            sum(size for shape, size in copies if shape in PARAMETER_SHAPES) / ALL_PARAMETERS
            for copies in (self.up, self.down)
        )
        return up, down

    def uploads_of(self, *shape: int) -> int:
        """How many arrays of a shape were uploaded."""
        return sum(found == shape for found, _ in self.up)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    """What is copied from here on on devices ``cpu``."""
    native, found = backend.native_module("cpu"), Copies()
    plain = native.copy

    def counted(dst: Any, src: Any, stream: Any) -> None:
        found.note(dst, src)
        plain(dst, src, stream)

    monkeypatch.setattr(native, "copy", counted)
    return found


def images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *IMAGE), np.uint8)


def batch(count: int, mean: npt.NDArray[np.float32], seed: int = 0) -> ImageBatch:
    (centre,) = view_variations(count, 1)
    return ImageBatch(images(count, seed), centre.offsets, centre.flips, centre.shifts, mean)


@pytest.fixture
def mean() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(100, 150, IMAGE).astype(np.float32)


def classifier(net: AlexNet, mean: npt.NDArray[np.float32]) -> Classifier:
    return Classifier(net, tuple(map(str, range(CLASSES))), mean)


# Parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_parameters_go_to_the_devices_once(copies: Copies, devices: list[str]) -> None:
    net = AlexNet(CLASSES, devices=devices)
    assert copies.of_parameters() == (1, 0)
    values = net.parameters()
    assert copies.of_parameters() == (1, 1)
    net.load_parameters(values)
    assert copies.of_parameters() == (2, 1)
    net.load_parameters(values, values)  # the momentum is not set to zeros first
    assert copies.of_parameters() == (4, 1)


def test_model_files_cost_one_copy(tmp_path: Path, copies: Copies, mean: npt.NDArray[np.float32]) -> None:
    model = classifier(AlexNet(CLASSES), mean)
    copies.up.clear()
    save_model(tmp_path / "model.safetensors", model)
    assert copies.of_parameters() == (0, 1)
    load_model(tmp_path / "model.safetensors", devices=["cpu:0"])
    assert copies.of_parameters() == (1, 1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("has_momentum", [False, True])
def test_a_copy_costs_one_copy_each_way(copies: Copies, copied: Callable[[Any], Any], has_momentum: bool) -> None:
    net = AlexNet(CLASSES)
    if has_momentum:
        net.load_parameters(net.parameters(), net.momentum())
    copies.up.clear()
    copies.down.clear()
    copied(net)
    assert copies.of_parameters() == ((2, 2) if has_momentum else (1, 1))


def test_a_run_reads_parameters_once_an_epoch(tmp_path: Path, copies: Copies) -> None:
    labels = np.arange(16) % 2
    short: dict[str, Any] = {
        "batch_size": 4, "num_classes": CLASSES, "devices": ["cpu:0"], "out": tmp_path, "progress": False,
        "validation": 0, "bias_init": "caffe", "checkpoint_minutes": 60,
    }  # fmt: skip
    train((images(16), labels), epochs=2, **short)
    # Values and a momentum of zeros go there; to go back to the beginning the values are read, and at the end of each
    # epoch, for that and the checkpoint, values and momentum.
    assert copies.of_parameters() == (2, 1 + 2 * 2)
    copies.up.clear()
    copies.down.clear()
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    Checkpoint.load(checkpoint)
    assert copies.of_parameters() == (2, 0)


def test_a_net_without_parameters_says_so_until_it_has_some() -> None:
    net = AlexNet.unfilled(CLASSES, devices=["cpu:0"], memory_limit=None)
    for work in (net.parameters, lambda: net.forward(np.zeros((1, 227, 227, 3), np.float32))):
        with pytest.raises(RuntimeError, match=r"^the net has no parameters yet: load_parameters\(\) gives it some$"):
            work()
    values = dict(initial_parameters(CLASSES, Options(), 3))
    net.load_parameters(values)
    for name, value in net.parameters().items():
        np.testing.assert_array_equal(value, values[name])


# Images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_images_of_ten_views_go_to_each_device_once(
    copies: Copies, devices: list[str], mean: npt.NDArray[np.float32]
) -> None:
    model = classifier(AlexNet(CLASSES, devices=devices), mean)
    evaluate(model, (images(4), np.arange(4)), views=10, batch_size=2)
    assert copies.uploads_of(2, *IMAGE) == 2 * len(devices)  # two batches
    assert copies.uploads_of(*IMAGE) == len(devices)


def test_views_are_what_forward_makes_of_each(mean: npt.NDArray[np.float32]) -> None:
    model, shown = classifier(AlexNet(CLASSES), mean), images(2)
    views = [model.input_batch(shown, view) for view in view_variations(2, 5)]
    found = model.net.forward_views(views)
    for logits, view in zip(found, views, strict=True):
        np.testing.assert_array_equal(logits, model.net.forward(view))
    assert len({logits.tobytes() for logits in found}) == 5
    # One array that is filled anew, as those of a data set's batches are.
    buffer = shown.copy()
    first = mean_probabilities(model, buffer, views=5)
    buffer[:] = images(2, seed=9)
    second = mean_probabilities(model, buffer, views=5)
    np.testing.assert_array_equal(second, mean_probabilities(model, images(2, seed=9), views=5))
    assert not np.array_equal(first, second)


def test_views_of_other_images_are_refused(mean: npt.NDArray[np.float32]) -> None:
    net, one = AlexNet(CLASSES), batch(1, mean)
    with pytest.raises(ValueError, match=r"^views\[1\] has images of its own; they must be those of views\[0\]$"):
        net.forward_views([one, batch(1, mean)])
    with pytest.raises(TypeError, match=r"^views\[0\] is .*; it must be an ImageBatch$"):
        net.forward_views([np.zeros((1, 227, 227, 3), np.float32)])  # type: ignore[list-item]
    assert net.forward_views([]) == []


# The mean image ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu:0", "cpu:1"]])
def test_a_mean_goes_to_each_device_once(copies: Copies, devices: list[str], mean: npt.NDArray[np.float32]) -> None:
    net = AlexNet(CLASSES, devices=devices)
    for seed in range(3):
        net.train_step(batch(2, mean, seed), [1, 2], lr=0.0)
    assert copies.uploads_of(*IMAGE) == len(devices)
    net.train_step(batch(2, mean.copy()), [1, 2], lr=0.0)  # the same values
    assert copies.uploads_of(*IMAGE) == len(devices)
    net.train_step(batch(2, mean + 1), [1, 2], lr=0.0)
    assert copies.uploads_of(*IMAGE) == 2 * len(devices)


def test_a_mean_that_changed_counts(mean: npt.NDArray[np.float32]) -> None:
    net = AlexNet(CLASSES, dropout=0.0)
    colour = np.array([120, 110, 100], np.float32)
    found = []
    for given in (mean, mean, colour, colour, mean):
        found.append(net.forward(batch(1, given)).tobytes())
        assert found[-1] == copy.deepcopy(net).forward(batch(1, given)).tobytes()
        given += np.float32(3)  # in place
    assert len(set(found)) == 5


def test_a_mean_does_not_outlive_its_memory(mean: npt.NDArray[np.float32]) -> None:
    """Batches of other sizes, training and single entries use the same memory."""
    net, x = AlexNet(CLASSES, dropout=0.0), np.full((8, 227, 227, 3), 7, np.float32)
    expected = {count: net.forward(batch(count, mean)) for count in (1, 2)}

    def run_alone(count: int) -> None:
        program = net.program(count, training=False)
        for entry in (*program.prepare, *program.forward):
            entry.run()

    others: list[Callable[[], Any]] = [
        lambda: net.forward(x[:4]),
        lambda: net.forward(x),
        lambda: net.train_step(x, np.zeros(8, np.int64), lr=0.0),
        lambda: net.train_step(batch(1, mean), [1], lr=0.0),
        lambda: run_alone(8),
    ]
    for other in others:
        for count, logits in expected.items():
            np.testing.assert_array_equal(net.forward(batch(count, mean)), logits)
            other()
            np.testing.assert_array_equal(net.forward(batch(count, mean)), logits)
