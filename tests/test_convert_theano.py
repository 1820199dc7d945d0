"""Weights of theano_alexnet: computed as its layers say, written down once more in NumPy, and read bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors import safe_open

from exchange import difference
from foreign import ROUNDING, model_of
from pyalexnet import Classifier, ModelFileError, cli, convert, load_model, save_model
from pyalexnet.system.files import file_sha256
from small import HIDDEN_UNITS

Array = npt.NDArray[Any]
Weights = dict[str, Array]

LIBRARIES = ("cudnn", "cudaconvnet")
MEAN = (122.0, 117.0, 104.0)
GROUPED = {1: 2, 3: 1, 4: 1}  # layers in two groups, by their padding


def random_weights() -> Weights:
    """Arrays by their names without the epoch, of the shapes that ``alex_net.py`` has."""
    rng = np.random.default_rng(11)
    shapes: dict[str, tuple[int, ...]] = {"W_0": (3, 11, 11, 96), "b_0": (96,), "W_2": (256, 3, 3, 384), "b_2": (384,)}
    for group in (0, 1):
        shapes |= {f"W{group}_1": (48, 5, 5, 128), f"W{group}_3": (192, 3, 3, 192), f"W{group}_4": (192, 3, 3, 128)}
        shapes |= {f"b{group}_1": (128,), f"b{group}_3": (192,), f"b{group}_4": (128,)}
    shapes |= {"W_5": (9216, HIDDEN_UNITS), "b_5": (HIDDEN_UNITS,), "W_6": (HIDDEN_UNITS, HIDDEN_UNITS)}
    shapes |= {"b_6": (HIDDEN_UNITS,), "W_7": (HIDDEN_UNITS, 7), "b_7": (7,)}
    return {
        name: (rng.standard_normal(shape) * (np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1)).astype("<f4")
        for name, shape in shapes.items()
    }


def written(folder: Path, weights: Weights, epoch: int = 65) -> Path:
    """What ``tools.py`` saves, and what else the program leaves there."""
    folder.mkdir(exist_ok=True)
    for name, values in weights.items():
        np.save(folder / f"{name}_{epoch}.npy", values)
    np.save(folder / f"mom_0_{epoch}.npy", np.zeros(3))
    np.save(folder / "val_record.npy", np.zeros(epoch))
    return folder


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("theano") / "models", weights)


def read(path: Path, library: Any, **given: Any) -> Classifier:
    with pytest.warns(UserWarning, match=f"its net is taken to be theano_alexnet's, computed by {library}"):
        return load_model(path, devices=["cpu:0"], library=library, **{"mean": MEAN, **given})


# The net as its layers compute it, of images (channels, height, width) in float64 -------------------------------------


def convolved(x: Array, w: Array, b: Array, *, stride: int, padding: int, library: str) -> Array:
    """A convolution by weights (channels, height, width, filters): a true one by cuDNN, a correlation by cuda-convnet.

    y[i, j] = Σ x[i · stride + K - 1 - u, j · stride + K - 1 - v] · w[u, v], or x[i · stride + u, j · stride + v].
    """
    kernel = w.shape[1]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    size = (x.shape[1] - kernel) // stride + 1
    y = np.zeros((w.shape[3], size, size))
    for u in range(kernel):
        for v in range(kernel):
            row, column = (kernel - 1 - u, kernel - 1 - v) if library == "cudnn" else (u, v)
            seen = x[:, row : row + size * stride : stride, column : column + size * stride : stride][:, :size, :size]
            y += np.tensordot(w[:, u, v], seen, axes=(0, 0))
    return y + b[:, None, None]


def pooled(x: Array) -> Array:
    size = (x.shape[1] - 3) // 2 + 1
    parts = [x[:, u : u + 2 * size - 1 : 2, v : v + 2 * size - 1 : 2] for u in range(3) for v in range(3)]
    return np.max(parts, axis=0)


def normalised(x: Array) -> Array:
    """CrossChannelNormalization, whose alpha is divided by nothing."""
    squares = np.pad(x**2, ((2, 2), (0, 0), (0, 0)))
    sums = sum(squares[place : place + len(x)] for place in range(5))
    return np.asarray(x / (2 + 1e-4 * sums) ** 0.75)


def logits(x: Array, weights: Weights, library: str) -> Array:
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    for layer in range(5):
        padding = GROUPED.get(layer, 1 if layer == 2 else 0)
        how: Any = {"stride": 4 if layer == 0 else 1, "padding": padding, "library": library}
        if layer in GROUPED:
            halves = np.split(x, 2)
            parts = [convolved(half, w[f"W{n}_{layer}"], w[f"b{n}_{layer}"], **how) for n, half in enumerate(halves)]
            x = np.concatenate(parts)
        else:
            x = convolved(x, w[f"W_{layer}"], w[f"b_{layer}"], **how)
        x = np.maximum(x, 0)
        x = pooled(x) if layer in (0, 1, 4) else x
        x = normalised(x) if layer in (0, 1) else x
    x = np.maximum(x.reshape(-1) @ w["W_5"] + w["b_5"], 0)
    x = np.maximum(0.5 * x @ w["W_6"] + w["b_6"], 0)
    return np.asarray(0.5 * x @ w["W_7"] + w["b_7"])


@pytest.mark.parametrize("library", LIBRARIES)
def test_its_layers_compute_the_same(library: str, folder: Path, weights: Weights) -> None:
    found = read(folder, library)
    x = np.random.default_rng(5).uniform(-128, 128, (1, 227, 227, 3)).astype(np.float32)
    expected = {each: logits(x[0].transpose(2, 0, 1).astype(np.float64), weights, each)[None] for each in LIBRARIES}
    assert difference(expected.pop(library), found, x) < ROUNDING
    (other,) = expected.values()
    assert difference(other, found, x) > 100 * ROUNDING


@pytest.mark.parametrize("library", LIBRARIES)
def test_values_are_moved_bit_for_bit(library: str, folder: Path, weights: Weights) -> None:
    found = read(folder, library).net.parameters()
    turned = slice(None, None, -1 if library == "cudnn" else 1)
    assert (found["conv1.weight"] == weights["W_0"].transpose(1, 2, 0, 3)[turned, turned]).all()
    for tower in (0, 1):
        half = found["conv4.weight"][..., tower * 192 : (tower + 1) * 192]
        assert (half == weights[f"W{tower}_3"].transpose(1, 2, 0, 3)[turned, turned]).all()
    by_rows = weights["W_5"].reshape(256, 6, 6, -1).transpose(1, 2, 0, 3).reshape(9216, -1)
    assert (found["fc6.weight"] == by_rows).all()
    assert (found["fc7.weight"] * 2 == weights["W_6"]).all()
    assert (found["fc8.weight"] * 2 == weights["W_7"]).all()
    assert (found["conv5.bias"] == np.concatenate([weights["b0_4"], weights["b1_4"]])).all()


def test_an_epoch_is_named_by_its_first_file(weights: Weights, tmp_path: Path) -> None:
    folder = written(tmp_path / "models", weights, 60)
    other = {name: values + np.float32(1) for name, values in weights.items() if name.startswith("b")}
    written(folder, weights | other, 65)
    for epoch, bias in ((60, weights["b_7"]), (65, other["b_7"])):
        assert (read(folder / f"W_0_{epoch}.npy", "cudnn").net.parameters()["fc8.bias"] == bias).all()
    with pytest.raises(ModelFileError, match=r"has the epochs of \['W_0_60\.npy', 'W_0_65\.npy'\]; one of these files"):
        load_model(folder, library="cudnn", mean=MEAN)


def test_its_own_mean_image_is_rgb(folder: Path, tmp_path: Path) -> None:
    mean = np.random.default_rng(0).uniform(0, 255, (3, 256, 256))
    np.save(tmp_path / "img_mean.npy", mean)
    found = read(folder, "cudnn", mean=tmp_path / "img_mean.npy")
    assert (found.mean == mean.transpose(1, 2, 0).astype(np.float32)).all()


def test_weights_of_half_the_bits(weights: Weights, tmp_path: Path) -> None:
    halves = {name: values.astype(np.float16) for name, values in weights.items()}
    found = read(written(tmp_path / "half", halves), "cudaconvnet").net.parameters()
    assert (found["conv1.weight"] == halves["W_0"].astype(np.float32).transpose(1, 2, 0, 3)).all()


def test_where_it_came_from_and_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--mean", "122,117,104", "--library", "cudnn"]
    assert cli.main(["convert", str(folder), "model.safetensors", *arguments]) == 0
    assert "its net is taken to be theano_alexnet's, computed by cudnn" in capsys.readouterr().out
    with safe_open("model.safetensors", framework="numpy") as file:
        files = json.loads(file.metadata()["pyalexnet"])["proof"]["origin"]["files"]
    expected = [path for path in folder.iterdir() if path.name[0] in "Wb"]
    assert sorted((each["name"], each["format"], each["sha256"]) for each in files) == sorted(
        (path.name, "theano_alexnet", file_sha256(path)) for path in expected
    )
    assert cli.main(["convert", str(folder), "other.safetensors", "--mean", "122,117,104"]) == 2
    assert "does not tell whether its filters are turned round: library must be" in capsys.readouterr().err
    assert os.listdir() == ["model.safetensors"]


def test_the_library_is_of_these_files_alone(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", model_of({}))
    for path in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(
            ValueError, match=r"library is 'cudnn'; it must be None for .*, which theano_alexnet did not"
        ):
            load_model(path, library="cudnn")
    with pytest.raises(ValueError, match="library is 'cuDNN'; it must be cudnn or cudaconvnet"):
        load_model(folder, library="cuDNN", mean=MEAN)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"prototxt is .*; it must be None for .*, which is no caffemodel"):
        load_model(folder, library="cudnn", prototxt="net.prototxt", mean=MEAN)
    with pytest.raises(ModelFileError, match="does not tell whether its filters are turned round"):
        load_model(folder, mean=MEAN)


def array(name: str, values: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / f"{name}_65.npy", values)


def hostile(folder: Path) -> None:
    saved = np.empty(7, object)
    saved[:] = [os.mkdir] * 7
    np.save(folder / "b_7_65.npy", saved, allow_pickle=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: os.remove(folder / "b1_3_65.npy"), r"there is no \S+b1_3_65\.npy, which belongs to \S+W_0_65"),
        (lambda folder: os.truncate(folder / "W_5_65.npy", 10**6), r"W_5_65\.npy holds no weights: it has 1,000,000"),
        (lambda folder: os.truncate(folder / "W0_1_65.npy", 5), r"W0_1_65\.npy holds no weights: it is no NumPy array"),
        (
            array("W_0", np.zeros((96, 3, 11, 11), "f4")),
            r"W_0_65\.npy is \(96, 3, 11, 11\) of float32; it must be \(3, 11",
        ),
        (
            array("W1_4", np.zeros((192, 3, 3, 128))),
            r"W1_4_65\.npy is \(192, 3, 3, 128\) of float64; it must be .* of fl",
        ),
        (array("W_6", np.zeros((5, 5), "f4")), r"W_6_65\.npy is \(5, 5\) of float32; it must be"),
        (array("b_7", np.zeros(1, "f4")), "is of a net with 1 outputs; there must be at least 2"),
        (array("b_7", np.zeros((7, 1), "f4")), r"b_7_65\.npy is \(7, 1\) of float32; it must be \('any',\)"),
        (array("b_5", np.full(HIDDEN_UNITS, np.nan, "f4")), r"fc6\.bias has \d+ NaN or infinite"),
        (
            array("b_5", np.zeros(HIDDEN_UNITS, ">f4")),
            r"b_5_65\.npy holds no weights: its header is not as NumPy writes",
        ),
        (hostile, r"b_7_65\.npy holds no weights: its header is not as NumPy writes"),
    ],
)
def test_other_files_are_refused(
    change: Callable[[Path], None], message: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change(written(tmp_path / "models", weights))
    with pytest.raises(ModelFileError, match=message):
        convert("models", "model.safetensors", library="cudnn", mean=MEAN)
    assert os.listdir() == ["models"]
