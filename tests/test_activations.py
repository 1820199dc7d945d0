"""Activations: what each layer computes before and behind its nonlinearity, several in a pass, and in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import references
from pyalexnet import AlexNet, Classifier, Tensor, load_activations, save_activations
from pyalexnet.architecture import (
    LRN_ALPHA,
    Conv,
    Options,
    activation_names,
    feature_names,
    layers,
)
from pyalexnet.cli import main
from pyalexnet.data import ImageArrays, Subset
from pyalexnet.data.folder import ImageFiles
from pyalexnet.errors import DataError, OutOfMemoryError
from pyalexnet.evaluation.features import extract_features, model_checksum

CLASSES = ("a", "b", "c")
IMAGES = np.random.default_rng(5).integers(0, 256, (5, 20, 30, 3), np.uint8)
DATA = ImageArrays(IMAGES, np.arange(5) % 3, CLASSES)
PRE = [*(f"conv{number}_pre" for number in range(1, 6)), "fc6_pre", "fc7_pre"]
EVERY = list(activation_names(Options()))

NETS: list[dict[str, Any]] = [
    {},
    {"towers": 1},
    {"activation": "tanh"},
    {"relu1_last": True, "pool_before_lrn": True},
    {"filters": "2014", "towers": 1, "crop": 224, "conv1_padding": 2, "colour_deviation": "imagenet"},
    {"lrn": False, "pooling": "plain"},
]


def without_biases(**arguments: Any) -> AlexNet:
    """A net whose sums are of both signs in every layer."""
    net = AlexNet(3, **{"devices": ["cpu:0"], "seed": 3, **arguments})
    values = net.parameters()
    net.load_parameters({name: value * ("weight" in name) for name, value in values.items()})
    return net


@pytest.fixture(scope="module")
def net() -> AlexNet:
    return without_biases()


@pytest.fixture(scope="module")
def x() -> npt.NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((3, 227, 227, 3), np.float32) * 60


@pytest.fixture(scope="module")
def model(net: AlexNet) -> Classifier:
    return Classifier(net, CLASSES, np.full((256, 256, 3), 128, np.float32))


def assert_same_bits(actual: npt.NDArray[Any], expected: npt.NDArray[Any], about: str = "") -> None:
    np.testing.assert_array_equal(np.asarray(actual).view(np.int32), np.asarray(expected).view(np.int32), about)


def test_names_stand_for_what_is_there() -> None:
    assert [*feature_names(Options()), *PRE] == EVERY
    assert activation_names(Options(relu1_last=True))["conv1_pre"] == "conv1.y"
    assert list(activation_names(Options(lrn=False)))[:2] == ["conv1", "pool1"]


# Values ---------------------------------------------------------------------------------------------------------------


def reference(net: AlexNet, x: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[np.float64], npt.NDArray[Any]]]:
    """Each layer of PyTorch's in float64 on what the net itself computed before it: its name, sums and their size."""
    torch = pytest.importorskip("torch")
    parameters = {name: torch.from_numpy(value.astype(np.float64)) for name, value in net.parameters().items()}
    found = net.activations(x, EVERY)
    source: npt.NDArray[Any] = x
    for layer in layers(3):
        weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
        given = torch.from_numpy(source.astype(np.float64))

        def sums(given: Any, weight: Any, bias: Any, layer: Any = layer) -> npt.NDArray[np.float64]:
            if isinstance(layer, Conv):
                images, filters = given.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1)
                groups = layer.channels // layer.tower_channels
                y = torch.nn.functional.conv2d(
                    images, filters, bias, layer.stride, layer.padding, groups=groups
                ).permute(0, 2, 3, 1)
            else:
                y = given.reshape(len(given), -1) @ weight + bias
            return np.asarray(y)

        yield layer.name, sums(given, weight, bias), sums(given.abs(), weight.abs(), bias.abs())
        following = [name for name in EVERY if name[-1] == layer.name[-1]]
        source = found[following[-1]]


def test_sums_are_those_of_a_float64_reference(net: AlexNet, x: npt.NDArray[np.float32]) -> None:
    found = net.activations(x, EVERY)
    for layer, expected, size in reference(net, x):
        name = f"{layer}_pre" if layer != "fc8" else layer
        # A sum of at most 9,217 terms in float32, in any order of parts: far below this many roundings of its terms.
        assert np.all(np.abs(found[name] - expected) <= 64 * 2.0**-24 * size), layer
        assert (found[name] < 0).any()


@pytest.mark.parametrize("options", NETS, ids=str)
def test_the_nonlinearity_of_what_is_before_it_is_what_is_behind(
    options: dict[str, Any], x: npt.NDArray[np.float32]
) -> None:
    net = without_biases(**options)
    found = net.activations(x, list(activation_names(net.options)))
    for name in PRE:
        before, behind = found[name], found[name.removesuffix("_pre")]
        assert 0.1 < np.mean(before < 0) < 0.9
        if options.get("relu1_last") and name == "conv1_pre":
            assert_same_bits(behind, before)
        elif options.get("activation") == "tanh":
            np.testing.assert_allclose(behind, np.tanh(before.astype(np.float64)), rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(behind, references.relu(before))


def test_steps_behind_a_convolution_follow_from_it(net: AlexNet, x: npt.NDArray[np.float32]) -> None:
    found = net.activations(x[:1], EVERY)
    for number, pooled in ((1, "lrn1"), (2, "lrn2"), (5, "conv5")):
        if pooled.startswith("lrn"):
            towers = np.split(found[f"conv{number}"].astype(np.float64), 2, axis=-1)
            expected = np.concatenate([references.lrn(tower, alpha=LRN_ALPHA) for tower in towers], axis=-1)
            np.testing.assert_allclose(found[pooled], expected, rtol=1e-5)
        windows = np.lib.stride_tricks.sliding_window_view(found[pooled], (3, 3), axis=(1, 2))[:, ::2, ::2]
        np.testing.assert_array_equal(found[f"pool{number}"], windows.max(axis=(-1, -2)))


def test_nan_is_not_hidden(x: npt.NDArray[np.float32]) -> None:
    net = AlexNet(3, devices=["cpu:0"])
    broken = net.parameters()
    broken["fc6.bias"][7] = np.nan
    net.load_parameters(broken)
    found = net.activations(x[:1], ["fc6_pre", "fc6", "fc8"])
    assert np.isnan(found["fc6_pre"][0, 7])
    assert_same_bits(found["fc6"], net.features(x[:1], "fc6"))
    assert_same_bits(found["fc8"], net.forward(x[:1]))


# Bits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", NETS, ids=str)
def test_several_layers_at_once_are_those_one_by_one(options: dict[str, Any], x: npt.NDArray[np.float32]) -> None:
    net = without_biases(**options)
    names = list(activation_names(net.options))
    plain = {name: net.features(x, name) for name in feature_names(net.options)}  # before any sums were asked for
    together = net.activations(x, names[::-1])
    assert list(together) == names[::-1]
    for name in names:
        assert_same_bits(together[name], net.features(x, name), name)
        if name in plain:
            assert_same_bits(together[name], plain[name], name)


def test_an_image_has_its_bits_in_any_batch_and_on_any_device(net: AlexNet, x: npt.NDArray[np.float32]) -> None:
    whole = net.activations(x, EVERY)
    for start, stop in ((0, 1), (1, 3)):
        for name, values in net.activations(x[start:stop], EVERY).items():
            assert_same_bits(values, whole[name][start:stop], name)
    for devices in (["cpu:1"], ["cpu:0", "cpu:1"]):
        other = without_biases(devices=devices)
        for name, values in other.activations(x, EVERY).items():
            assert_same_bits(values, whole[name], f"{name} on {devices}")


def test_every_target_computes_them(device: str, net: AlexNet, x: npt.NDArray[np.float32]) -> None:
    expected = net.activations(x[:1], EVERY)
    for name, values in without_biases(devices=[device]).activations(x[:1], EVERY).items():
        # Other orders of sums, in which a value may fall on the other side of 0.
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-4 * np.abs(expected[name]).max())


def test_who_does_not_ask_pays_nothing(x: npt.NDArray[np.float32]) -> None:
    net = AlexNet(3, devices=["cpu:0"])
    entries, planned = list(map(str, net.program(3, training=False).forward)), net.plan(3, training=False)
    net.activations(x, ["conv2_pre", "fc7_pre"])
    assert list(map(str, net.program(3, training=False).forward)) == entries
    assert not any("relu_forward" in entry for entry in entries)
    assert net.plan(3, training=False).bytes_by_layer == planned.bytes_by_layer


def test_what_lies_behind_is_not_computed(x: npt.NDArray[np.float32]) -> None:
    net = without_biases(devices=["cpu:0", "cpu:1"])
    logits = net.forward(x)
    program = net.program(3, training=False)
    left = net.read(program.array("conv3.y", 1), 1)
    pool2 = net.features(x[::-1], "pool2")
    assert_same_bits(net.read(program.array("conv3.y", 1), 1), left)
    assert_same_bits(net.forward(x), logits)
    assert_same_bits(pool2, net.features(x, "pool2")[::-1])


def test_sums_take_memory_that_is_planned(x: npt.NDArray[np.float32]) -> None:
    needed = AlexNet(3, devices=["cpu:0"]).plan(3, training=False).total_bytes[0]
    net = AlexNet(3, devices=["cpu:0"], memory_limit=needed)
    net.features(x, "conv1")
    with pytest.raises(OutOfMemoryError, match="batch_size 3 does not fit"):
        net.features(x, "conv1_pre")
    net.features(x, "conv1")


# Arrays of others -----------------------------------------------------------------------------------------------------


def test_pytorch_and_others_read_them_where_they_lie(net: AlexNet, x: npt.NDArray[np.float32]) -> None:
    torch = pytest.importorskip("torch")
    names = ["conv2_pre", "pool5", "fc7_pre", "fc8"]
    expected = net.activations(x, names)
    found = net.activations(x, names, as_tensor=True)
    net.forward(x[::-1])
    for name, values in found.items():
        assert isinstance(values, Tensor)
        read = torch.from_dlpack(values)
        assert read.data_ptr() == values.array.address
        assert_same_bits(read.numpy(), expected[name], "a result is its caller's own")


def test_cupy_reads_them_on_a_gpu(device: str, x: npt.NDArray[np.float32]) -> None:
    if not device.startswith("cuda"):
        pytest.skip("on GPUs alone")
    cupy = pytest.importorskip("cupy")
    net = AlexNet(3, devices=[device])
    names = ["conv2_pre", "fc7"]
    expected = net.activations(x, names)
    for name, values in net.activations(x, names, as_tensor=True).items():
        assert_same_bits(cupy.asnumpy(cupy.from_dlpack(values)), expected[name])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (
            ["conv1", "conv6_pre"],
            ValueError,
            r"layers\[1\] is 'conv6_pre'; it must be one of conv1, lrn1, .*fc8, conv1_pre",
        ),
        (["fc8_pre"], ValueError, r"layers\[0\] is 'fc8_pre'; it must be one of conv1"),
        (["fc6", 3], TypeError, r"layers\[1\] is 3; it must be one of conv1"),
        ("fc6", TypeError, "layers is 'fc6'; it must be a list of names"),
        ([], ValueError, r"layers is \[\]; it must be one name or more"),
    ],
)
def test_layers_that_there_are_not(
    net: AlexNet, model: Classifier, tmp_path: Path, names: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        net.activations(np.zeros((1, 227, 227, 3), np.float32), names)
    with pytest.raises(error, match=message):
        save_activations(tmp_path / "new", model, DATA, names)
    assert list(tmp_path.iterdir()) == []


# Files ----------------------------------------------------------------------------------------------------------------

NAMES = ["conv1_pre", "pool5", "fc7", "fc8"]


@pytest.fixture
def folder(model: Classifier, tmp_path: Path) -> Path:
    save_activations(tmp_path / "found", model, DATA, NAMES, batch_size=2)
    return tmp_path / "found"


def test_a_folder_holds_an_array_a_layer(folder: Path, model: Classifier) -> None:
    found = load_activations(folder)
    assert list(found.layers) == NAMES
    assert (found.names, found.classes, found.labels.tolist()) == (
        ("0", "1", "2", "3", "4"), CLASSES, [0, 1, 2, 0, 1],
    )  # fmt: skip
    assert found.model == model_checksum(model)
    assert repr(found) == "<Activations of 5 images: conv1_pre, pool5, fc7, fc8>"
    for name in NAMES:
        expected = extract_features(model, DATA, name, batch_size=5).values
        assert isinstance(found.layers[name], np.memmap)
        assert_same_bits(found.layers[name], expected)
        assert_same_bits(np.load(folder / f"{name}.npy", mmap_mode="r"), expected)
    kept = {path.name for path in folder.iterdir()}
    assert kept == {*(f"{name}.npy" for name in [*NAMES, "labels", "names", "classes"]), "activations.json"}


def test_images_without_labels(model: Classifier, tmp_path: Path) -> None:
    for name in ("größe.png", "b.png"):
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    save_activations(tmp_path / "found", model, ImageFiles([tmp_path / "größe.png", tmp_path / "b.png"]), ["fc8"])
    found = load_activations(tmp_path / "found")
    assert (found.classes, found.labels.tolist()) == ((), [-1, -1])
    assert found.names[0].endswith("größe.png")


def test_memory_does_not_grow_with_the_images(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch is held but the one that is written: each is collected before the next comes."""
    import gc
    import weakref

    held: list[Any] = []
    most = 0
    activations = AlexNet.activations

    def counted(self: AlexNet, *arguments: Any, **named: Any) -> Any:
        nonlocal most
        found = activations(self, *arguments, **named)
        gc.collect()
        held[:] = [reference for reference in held if reference() is not None]
        held.extend(weakref.ref(values) for values in found.values())
        most = max(most, len(held))
        return found

    monkeypatch.setattr(AlexNet, "activations", counted)
    save_activations(tmp_path / "found", model, DATA, ["conv1", "fc7"], batch_size=1)
    assert most <= 4  # of two layers, and of the batch before


def test_a_folder_is_whole_or_absent(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(ImageArrays):
        def batch(self, indices: Any) -> Any:
            if 4 in indices:
                raise DataError("image 4 is broken")
            return super().batch(indices)

    with pytest.raises(DataError, match="image 4 is broken"):
        save_activations(tmp_path / "found", model, Failing(IMAGES, DATA.labels, CLASSES), NAMES, batch_size=2)
    assert list(tmp_path.iterdir()) == []
    save_activations(tmp_path / "found", model, Subset(DATA, np.arange(1)), ["fc8"])
    with pytest.raises(FileExistsError, match="it exists; it must be the name of a new folder"):
        save_activations(tmp_path / "found", model, DATA, ["fc8"])
    monkeypatch.setattr("pyalexnet.evaluation.activations.activation_bytes", lambda *_: 2**60)
    with pytest.raises(OSError, match=r"what fc8 computed of 5 images needs .* bytes, and .* are free"):
        save_activations(tmp_path / "other", model, DATA, ["fc8"])


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def about(**changes: object) -> Callable[[Path], Any]:
    return rewritten("activations.json", lambda content: json.dumps(json.loads(content) | changes).encode())


def array(name: str, values: npt.NDArray[Any]) -> Callable[[Path], Any]:
    return lambda folder: np.save(folder / name, values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "activations.json").unlink(), "No such file"),
        (lambda folder: (folder / "fc7.npy").unlink(), "No such file"),
        (rewritten("fc7.npy", lambda content: content[:-4]), r"fc7\.npy has not the size of an array of"),
        (rewritten("fc7.npy", lambda _content: b"x"), "it is no NumPy array"),
        (rewritten("names.npy", lambda content: content[:-1]), r"names\.npy holds .* or has not the size"),
        (rewritten("names.npy", lambda content: content[:-1] + b"\xff"), r"names\.npy holds no texts"),
        (array("fc7.npy", np.zeros((4, 2), np.float32)), r"fc7\.npy holds float32 \(4, 2\); it must be float32 of 5"),
        (array("fc7.npy", np.zeros((5, 2))), r"fc7\.npy holds float64"),
        (array("labels.npy", np.full(5, 3, np.int32)), "its labels are not those of 5 images of 3 classes"),
        (array("labels.npy", np.zeros(4, np.int32)), "its labels are not those of 5 images of 3 classes"),
        (about(layers=["../fc7"]), "'../fc7' is no layer"),
        (about(layers=3), "layers is 3; it must be a list"),
        (about(format=2), "format"),
    ],
)
def test_damaged_folders_are_refused(folder: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=rf"found is no folder of activations, or is damaged: .*{message}"):
        load_activations(folder)


@pytest.mark.long
def test_the_command_writes_folders(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, where = str(digits_run), ["--devices", "cpu:0", "--held-out"]
    assert main(["features", run, "acts", "--layer", "fc6_pre", "fc8", *where]) == 0
    assert "fc6_pre, fc8 of 49 images: acts" in capsys.readouterr().out
    found = load_activations("acts")
    assert list(found.layers) == ["fc6_pre", "fc8"]
    assert len(found.names) == 49
    assert main(["features", "--layer=fc7", run, "one", *where]) == 0
    assert list(load_activations("one").layers) == ["fc7"]
    capsys.readouterr()
    for out, message in (
        ("acts", "acts: it exists; it must be the name of a new folder"),
        ("acts.npz", "--layer is fc6_pre,fc8, and acts.npz holds one layer; name a new folder"),
    ):
        assert main(["features", run, out, "--layer", "fc6_pre,fc8", *where]) == 2
        assert capsys.readouterr().err == f"pyalexnet features: {message}\n"
