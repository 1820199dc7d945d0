"""`convert` and `load_model` in general: formats, means, classes and colours that a user gives, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import exchange
import pyalexnet
from exchange import images_for
from foreign import BVLC, CLASSES, ROUNDING, assert_equal, model_of
from pyalexnet import Classifier, ModelFileError, cli, convert, load_model, save_model
from pyalexnet.formats.conversion import read
from pyalexnet.formats.registry import FORMATS, NAMES
from small import SMALL

pytest.importorskip("onnx")
pytest.importorskip("google.protobuf")

ENDINGS = (".onnx", ".caffemodel", ".safetensors")


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of(BVLC)


@pytest.fixture(scope="module")
def foreign(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without mean and classes."""
    path = tmp_path_factory.mktemp("foreign") / "model.caffemodel"
    convert(model, path)
    return path


def test_every_format_leads_to_every_other(model: Classifier, tmp_path: Path) -> None:
    """And what comes back at last is the model, but for what Caffe cannot tell."""
    save_model(tmp_path / "start.safetensors", model)
    convert(tmp_path / "start.safetensors", tmp_path / "1.onnx")
    convert(tmp_path / "1.onnx", tmp_path / "2.safetensors", to="pytorch")
    convert(tmp_path / "2.safetensors", tmp_path / "3.safetensors")
    assert_equal(load_model(tmp_path / "3.safetensors", devices=["cpu:0"]), model)
    convert(tmp_path / "3.safetensors", tmp_path / "4.caffemodel")
    beside = {"mean": tmp_path / "4_mean.binaryproto", "classes": tmp_path / "4_classes.txt"}
    convert(tmp_path / "4.caffemodel", tmp_path / "5.safetensors", **beside)
    found, expected = (load_model(tmp_path / f"{name}.safetensors", devices=["cpu:0"]) for name in ("5", "start"))
    x = images_for(model)
    assert found.net.forward(x).tobytes() == expected.net.forward(x).tobytes()
    assert (found.classes, found.mean.tobytes()) == (expected.classes, expected.mean.tobytes())


@pytest.mark.long
def test_a_run_is_converted(digits_run: Path, digits_model: Classifier, tmp_path: Path) -> None:
    convert(digits_run, tmp_path / "model.onnx")
    assert_equal(load_model(tmp_path / "model.onnx", devices=["cpu:0"]), digits_model)


def test_what_was_opened_is_used_like_any_model(foreign: Path) -> None:
    found = load_model(foreign, devices=["cpu:0"], mean=(1, 2, 3), classes=CLASSES)
    (predictions,) = pyalexnet.predict(found, [np.zeros((256, 256, 3), np.uint8)], top=2)
    assert all(each.label in (*CLASSES, "output 5", "output 6") for each in predictions)
    assert found.learned_from is None


MEAN = np.random.default_rng(0).uniform(0, 255, (256, 256, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ((1, 2.5, 255), np.broadcast_to(np.float32([1, 2.5, 255]), (256, 256, 3))),
        (np.array([1, 2, 3], np.uint8), np.broadcast_to(np.float32([1, 2, 3]), (256, 256, 3))),
        (MEAN, MEAN),
        (MEAN.astype(np.float64), MEAN),
    ],
)
def test_a_mean_is_given(foreign: Path, mean: Any, expected: Any, tmp_path: Path) -> None:
    assert (load_model(foreign, devices=["cpu:0"], mean=mean).mean == expected).all()
    np.save(tmp_path / "mean.npy", np.asarray(mean))
    assert (load_model(foreign, devices=["cpu:0"], mean=tmp_path / "mean.npy").mean == expected).all()


def test_a_mean_of_caffes_python_is_bgr(foreign: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ilsvrc_2012_mean.npy", MEAN.astype(np.float64)[..., ::-1].transpose(2, 0, 1))
    assert (load_model(foreign, devices=["cpu:0"], mean=tmp_path / "ilsvrc_2012_mean.npy").mean == MEAN).all()


def test_a_mean_that_an_old_numpy_wrote(foreign: Path, tmp_path: Path) -> None:
    values = MEAN.astype(np.float64)[..., ::-1].transpose(2, 0, 1)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 256, 256), }"
    start = b"\x93NUMPY\1\0" + (70).to_bytes(2, "little") + header.ljust(69) + b"\n"  # 80 bytes; 128 since NumPy 1.14
    (tmp_path / "ilsvrc_2012_mean.npy").write_bytes(start + values.tobytes())
    assert (np.load(tmp_path / "ilsvrc_2012_mean.npy") == values).all()
    assert (load_model(foreign, devices=["cpu:0"], mean=tmp_path / "ilsvrc_2012_mean.npy").mean == MEAN).all()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, r"mean is None, but .*model\.caffemodel has no mean image; it must be its file, or numbers"),
        (
            {"mean": (1, 2)},
            ValueError,
            r"mean: the mean has shape \(2,\) and dtype int64; it must be three numbers, or",
        ),
        ({"mean": (1, 2, 256)}, ValueError, "mean: the mean is from 1 to 256; it must be from 0 to 255"),
        ({"mean": (1, 2, float("nan"))}, ValueError, "the mean is from nan to nan"),
        ({"mean": object()}, ValueError, "mean is <object object at .*>; it must be numbers, or the file"),
        ({"mean": "nothing.npy"}, FileNotFoundError, "nothing.npy"),
        ({"mean": __file__}, ValueError, r"test_convert\.py holds no mean image: it is no NumPy array"),
        ({"mean": (1, 2, 3), "classes": []}, TypeError, r"classes is \[\]; it must be a list of names"),
        ({"mean": (1, 2, 3), "classes": [1]}, TypeError, r"classes is \[1\]; it must be a list of names"),
        ({"mean": (1, 2, 3), "classes": ["a", "a"]}, ValueError, "classes has 'a' 2 times"),
        ({"mean": (1, 2, 3), "classes": [*"abcdefgh"]}, ValueError, "classes has 8 names; it must have 1 to 7"),
        ({"mean": (1, 2, 3), "colours": "red"}, ValueError, "colours is 'red'; it must be rgb or bgr"),
        ({"mean": (1, 2, 3), "devices": ["cpu:0", "cpu:1"]}, ValueError, "for a net whose LRN is over both towers"),
        ({"mean": (1, 2, 3), "memory_limit": 10**6}, MemoryError, "limit"),
        ({"mean": (1, 2, 3), "memory_limit": 0}, ValueError, "memory_limit is 0"),
    ],
)
def test_wrong_arguments(foreign: Path, given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_model(foreign, **{"devices": ["cpu:0"], **given})


def test_colours_may_be_told(model: Classifier, foreign: Path) -> None:
    found = load_model(foreign, devices=["cpu:0"], mean=(1, 2, 3), colours="rgb").net.parameters()["conv1.weight"]
    assert (found == model.net.parameters()["conv1.weight"][:, :, ::-1]).all()


def test_classes_and_mean_of_an_own_model_are_replaced(model: Classifier, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    save_model(tmp_path / "model.safetensors", model)
    convert(
        tmp_path / "model.safetensors", tmp_path / "new.safetensors", classes=tmp_path / "names.txt", mean=(1, 2, 3)
    )
    found = load_model(tmp_path / "new.safetensors", devices=["cpu:0"])
    assert found.classes == ("one", "two")
    assert (found.mean == [1, 2, 3]).all()
    assert found.net.step == 42


@pytest.mark.parametrize("ending", [*ENDINGS, ".npy", ".pth", ".PT", ""])
def test_files_that_are_not_there(ending: str, tmp_path: Path) -> None:
    for function in (load_model, lambda path: convert(path, tmp_path / "model.onnx")):
        with pytest.raises(FileNotFoundError, match=f"there is no model file .*nothing{ending}"):
            function(tmp_path / f"nothing{ending}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", [*ENDINGS, ".npy"])
def test_folders_and_other_files_are_no_models(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_text("a text that is no model of any kind")
    with pytest.raises(ModelFileError, match=f"model{ending} is no "):
        load_model(path)
    os.mkfifo(tmp_path / f"fifo{ending}")
    with pytest.raises((OSError, ModelFileError), match="FIFO"):
        load_model(tmp_path / f"fifo{ending}")


def test_a_foreign_safetensors_file_is_told_as_before(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="not one that pyalexnet wrote"):
        load_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("name", "to"), [("model.txt", None), ("model.onnx", "caffe"), ("model", "onnx"), ("m.npy", None)]
)
def test_formats_that_are_not_written(model: Classifier, name: str, to: str | None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot write .*{name}.*: the formats and their endings are pyalexnet"):
        convert(model, tmp_path / name, to=to)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_cannot_be_written_leaves_what_was_there(model: Classifier, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{ending}"
    path.write_text("as it was")
    path.chmod(0o400)
    if os.access(path, os.W_OK):  # root may write everything: nobody may write into what is no folder
        path = path / path.name
    with pytest.raises(OSError, match=r"cannot write|Not a directory"):
        convert(model, path)
    assert (tmp_path / f"model{ending}").read_text() == "as it was"


def test_a_net_too_large_for_a_message_is_refused(
    monkeypatch: pytest.MonkeyPatch, model: Classifier, tmp_path: Path
) -> None:
    monkeypatch.setattr("pyalexnet.formats.content.MOST_BYTES", 10**7)
    for ending in (".onnx", ".caffemodel"):
        with pytest.raises(ValueError, match=r"the net has .* bytes; .* can have 10,000,000"):
            convert(model, tmp_path / f"model{ending}")
    assert os.listdir(tmp_path) == []


def test_every_format_is_in_the_document() -> None:
    text = (Path(__file__).parent.parent / "docs" / "exchange.md").read_text()
    assert [ending for each in FORMATS for ending in each.endings if f"`{ending}`" not in text] == []


def test_the_command(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    arguments = ["--mean", "122.679,116.669,104.007", "--classes", "names.txt"]
    assert cli.main(["convert", str(foreign), "model.safetensors", *arguments]) == 0
    assert capsys.readouterr().out == "written: model.safetensors\n"
    assert load_model("model.safetensors", devices=["cpu:0"]).classes == ("one", "two")
    assert cli.main(["convert", "model.safetensors", "torch.safetensors", "--to", "pytorch"]) == 0
    assert load_model("torch.safetensors", devices=["cpu:0"]).classes == ("one", "two")
    capsys.readouterr()
    assert cli.main(["convert", str(foreign), "other.safetensors"]) == 2
    assert "pyalexnet convert: mean is None, but" in capsys.readouterr().err
    assert not Path("other.safetensors").exists()
    assert cli.main(["convert", "model.safetensors", "model.txt"]) == 2
    assert "cannot write model.txt" in capsys.readouterr().err


def test_names_are_those_of_formats_that_are_written() -> None:
    assert NAMES == ("pyalexnet", "pytorch", "torchvision", "onnx", "caffe")


@pytest.mark.parametrize(
    ("library", "package", "extra", "ending"),
    [
        ("torch", "torch", "torch", ".pth"),
        ("onnx", "onnx", "onnx", ".onnx"),
        ("google", "protobuf", "caffe", ".caffemodel"),
    ],
)
def test_libraries_that_are_missing(
    model: Classifier, library: str, package: str, extra: str, ending: str, tmp_path: Path
) -> None:
    save_model(tmp_path / "model.safetensors", model)
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {library!r}:
            raise ModuleNotFoundError("missing", name=name)
sys.meta_path.insert(0, Missing())
{SMALL}
from pyalexnet import convert
convert("model.safetensors", "other.safetensors", to="pytorch")
convert("model.safetensors", "other{ending}")
"""
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert finished.stderr.splitlines()[-1] == (
        f"pyalexnet.errors.MissingLibraryError: {package} is not installed, which this needs: "
        f"run pip install 'pyalexnet[{extra}]'"
    )
    assert sorted(os.listdir(tmp_path)) == ["model.safetensors", "other.safetensors"]


def test_the_differences_of_the_document_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torch", "onnxruntime", "cv2"):
        pytest.importorskip(library)
    monkeypatch.setattr(exchange, "NETS", {"a net": {"pooling": "plain"}})
    exchange.main(["--classes", "3", "--images", "1", "--json", str(tmp_path / "found.json")])
    report = json.loads((tmp_path / "found.json").read_text())
    (found,) = report["nets"]
    assert report["judges"].keys() == {"torch", "onnxruntime", "opencv-python-headless"}
    assert found["formats"].pop("caffe .caffemodel").startswith("pooling is 'plain'; for Caffe")
    assert all(value < ROUNDING for value in found["formats"].values())


def test_reading_takes_no_device(foreign: Path) -> None:
    content = read(foreign, mean=(1, 2, 3), classes=None, colours=None, prototxt=None)
    assert content.num_classes == 7
