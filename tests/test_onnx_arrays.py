"""Arrays of ONNX files that lie beside them: read where they are, and from nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from foreign import assert_equal, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model
from pyalexnet.formats.onnx_arrays import Arrays
from pyalexnet.system.files import file_sha256

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of({})


@pytest.fixture
def written(model: Classifier, tmp_path: Path) -> Path:
    """A model whose arrays are in a file beside it."""
    convert(model, tmp_path / "inside.onnx")
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    inside = onnx.load(tmp_path / "inside.onnx")
    onnx.save(inside, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


def test_arrays_beside_the_file_are_read(model: Classifier, written: Path, tmp_path: Path) -> None:
    assert written.stat().st_size < 2**20
    assert_equal(load_model(written, devices=["cpu:0"]), model)
    convert(written, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        files = json.loads(file.metadata()["pyalexnet"])["proof"]["origin"]["files"]
    assert [(each["name"], each["sha256"]) for each in files] == [
        (path.name, file_sha256(path)) for path in (written.with_name("model.onnx.data"), written)
    ]


def told(name: str, value: str) -> Callable[[Any], None]:
    """Another entry of where an array lies."""

    def change(where: Any) -> None:
        kept = [(each.key, each.value) for each in where.external_data if each.key != name]
        del where.external_data[:]
        for key, known in [*kept, (name, value)]:
            where.external_data.add(key=key, value=known)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (told("location", "/etc/passwd"), "lies in '/etc/passwd'; it must be in the file's own folder"),
        (told("location", "../inside.onnx"), r"lies in '\.\./inside\.onnx'; it must be in the file's own folder"),
        (told("location", "link"), "lies in 'link'; it must be in the file's own folder"),
        (told("location", ""), "lies in ''; it must be in the file's own folder"),
        (told("location", "a\0b"), "it must be in the file's own folder"),
        (told("location", "other.data"), r"lies in \S+other\.data, which is not there"),
        (told("location", "."), "cannot be read from .*folder: .*[Dd]irectory|a folder"),
        (told("location", "fifo"), "cannot be read from .*fifo: .*a FIFO"),
        (told("offset", "-4"), "cannot be read from"),
        (told("offset", str(2**40)), "cannot be read from"),
        (told("offset", "four"), "cannot be read from"),
        (told("length", "380"), r"cannot be read from .*: 384 bytes, of which there are 380"),
        (lambda where: where.dims.__setitem__(0, 2**61), r"is \(2305843009213693952,\); it must be \(96,\)"),
    ],
)
def test_other_places_are_refused(change: Callable[[Any], None], message: str, written: Path) -> None:
    os.mkfifo(written.with_name("fifo"))
    written.with_name("link").symlink_to("/etc/passwd")
    other = onnx.load(written, load_external_data=False)
    change(next(each for each in other.graph.initializer if each.name == "conv1.bias"))
    written.write_bytes(other.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        load_model(written)


def test_a_place_that_is_no_utf8(written: Path) -> None:
    written.write_bytes(written.read_bytes().replace(b"model.onnx.data", b"model.onnx.dat\xff"))
    with pytest.raises(ModelFileError, match=r"lies in b'model\.onnx\.dat\\xff'; it must be in the file's own folder"):
        load_model(written)


def test_a_file_that_is_cut_short_is_refused(written: Path) -> None:
    os.truncate(written.with_name("model.onnx.data"), 10**6)
    with pytest.raises(ModelFileError, match="cannot be read from"):
        load_model(written)


@pytest.mark.parametrize(
    ("told", "integers", "number"),
    [
        ({"value_ints": [3, -1]}, [3, -1], None),
        ({"value_int": 3}, None, None),
        ({"value_float": 0.5}, None, 0.5),
        ({"value_floats": [0.5]}, None, 0.5),
        ({"value": np.array([4, 5])}, [4, 5], None),
        ({"value_string": "five"}, None, None),
    ],
)
def test_constants(told: dict[str, Any], integers: list[int] | None, number: float | None) -> None:
    told = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in told.items()
    }
    graph = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], **told)], "one", [], [])
    arrays = Arrays(graph, "one.onnx")
    assert (arrays.integers("c"), arrays.number("c")) == (integers, number)
    assert (arrays.integers("d"), arrays.number("d")) == (None, None)
