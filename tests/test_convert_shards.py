"""State dicts in several files with an index: read as one, and refused where the index and the files disagree."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from foreign import assert_equal, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model, save_model
from pyalexnet.system.files import file_sha256

INDEX = "model.safetensors.index.json"
FILES = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of({})


def written(model: Classifier, folder: Path, prefix: str = "") -> Path:
    """A folder with a model in three files and their index, as huggingface_hub and transformers write them."""
    folder.mkdir()
    convert(model, folder / "whole.safetensors", to="pytorch")
    state = load_file(folder / "whole.safetensors")
    os.remove(folder / "whole.safetensors")
    weight_map = {f"{prefix}{name}": FILES[place % 3] for place, name in enumerate(sorted(state))}
    for file in FILES:
        part = {name: state[name.removeprefix(prefix)] for name, of_name in weight_map.items() if of_name == file}
        save_file(part, folder / file, {"format": "pt"})
    total = sum(value.nbytes for value in state.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    return folder


@pytest.fixture
def folder(model: Classifier, tmp_path: Path) -> Path:
    return written(model, tmp_path / "folder")


def test_an_index_and_its_folder_are_read(model: Classifier, folder: Path, tmp_path: Path) -> None:
    for path in (folder, folder / INDEX):
        assert_equal(load_model(path, devices=["cpu:0"]), model)
        convert(path, tmp_path / "back.safetensors")
        assert_equal(load_model(tmp_path / "back.safetensors", devices=["cpu:0"]), model)
        with safe_open(tmp_path / "back.safetensors", framework="numpy") as file:
            files = json.loads(file.metadata()["pyalexnet"])["proof"]["origin"]["files"]
        expected = [(name, "pytorch", file_sha256(folder / name)) for name in (*FILES, INDEX)]
        assert sorted((each["name"], each["format"], each["sha256"]) for each in files) == sorted(expected)


def test_a_prefix_of_all_names_goes(model: Classifier, tmp_path: Path) -> None:
    assert_equal(load_model(written(model, tmp_path / "folder", prefix="model."), devices=["cpu:0"]), model)


def test_links_as_in_a_cache_of_the_hub(model: Classifier, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for number, name in enumerate((*FILES, INDEX)):
        os.rename(folder / name, folder / f"blob{number}")
        (tmp_path / "snapshot" / name).symlink_to(folder / f"blob{number}")
    assert_equal(load_model(tmp_path / "snapshot", devices=["cpu:0"]), model)


def test_a_model_file_comes_before_an_index(model: Classifier, folder: Path) -> None:
    other = model_of({"towers": 1})
    save_model(folder / "model.safetensors", other)
    assert_equal(load_model(folder, devices=["cpu:0"]), other)
    assert_equal(load_model(folder / INDEX, devices=["cpu:0"]), model)


def told(name: str, file: Any) -> Callable[[Path], None]:
    """Another file for a tensor."""

    def change(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"][name] = file
        (folder / INDEX).write_text(json.dumps(index))

    return change


def left_out(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    del index["weight_map"]["conv1.weight"]
    (folder / INDEX).write_text(json.dumps(index))


def rewritten(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / INDEX).write_text(text) and None


def name_twice(folder: Path) -> None:
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"weight_map": {', f'"weight_map": {{"fc8.bias": "{FILES[0]}", '))


def tensor_twice(folder: Path) -> None:
    one, other = (load_file(folder / name) for name in FILES[:2])
    save_file(one | {next(iter(other)): next(iter(other.values()))}, folder / FILES[0])


def a_folder(folder: Path) -> None:
    os.remove(folder / FILES[1])
    (folder / FILES[1]).mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: os.remove(folder / FILES[1]), rf"{INDEX}: it has tensors in \S+{FILES[1]}, which is not there"),
        (lambda folder: os.truncate(folder / FILES[1], 10**5), rf"{FILES[1]} is no safetensors file or is cut short"),
        (lambda folder: os.truncate(folder / FILES[1], 5), rf"{FILES[1]} is no safetensors file or is cut short"),
        (lambda folder: os.truncate(folder / INDEX, 50), rf"{INDEX} is no JSON"),
        (a_folder, rf"{FILES[1]}"),
        (
            told("conv1.weight", "../model.safetensors"),
            r"it has tensors in '\.\./model\.safetensors'; it must be a file's",
        ),
        (told("conv1.weight", "/etc/passwd"), "it has tensors in '/etc/passwd'; it must be a file's name beside it"),
        (told("conv1.weight", ".."), r"it has tensors in '\.\.'; it must be a file's name beside it"),
        (told("conv1.weight", ""), "it has tensors in ''; it must be a file's name beside it"),
        (told("conv1.weight", "a\0b"), "it must be a file's name beside it"),
        (told("conv1.weight", 5), rf"{INDEX}: weight_map\['conv1\.weight'\] is 5; it must be a text"),
        (told("conv9.weight", FILES[0]), rf"{FILES[0]} lacks 'conv9\.weight', which \S+{INDEX} gives to it"),
        (told("fc8.weight", FILES[0]), rf"{FILES[0]} lacks 'fc8\.weight', which|has 'fc8\.weight', which"),
        (left_out, rf"has 'conv1\.weight', which \S+{INDEX} does not give to it"),
        (tensor_twice, rf"{FILES[0]} has '\S+', which \S+{INDEX} does not give to it"),
        (name_twice, "'fc8.bias' occurs twice in one object"),
        (rewritten("[]"), rf"{INDEX} is \[\]; it must be an object"),
        (rewritten("{}"), rf"{INDEX}: weight_map is missing"),
        (rewritten('{"weight_map": {}}'), rf"{INDEX} has no _extra_state"),
    ],
)
def test_other_indices_are_refused(change: Callable[[Path], None], message: str, folder: Path, tmp_path: Path) -> None:
    change(folder)
    for path in (folder, folder / INDEX):
        with pytest.raises(ModelFileError, match=message):
            convert(path, tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == ["folder"]


def test_folders_with_several_indices_or_none(folder: Path, tmp_path: Path) -> None:
    (folder / f"other.{INDEX}").write_bytes((folder / INDEX).read_bytes())
    with pytest.raises(ModelFileError, match=rf"has \['{INDEX}', 'other.{INDEX}'\]; one of them must be named"):
        load_model(folder)
    with pytest.raises(FileNotFoundError, match=rf"there is no model file .*nothing.{INDEX}"):
        load_model(folder / f"nothing.{INDEX}")
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=rf"cannot write .*new.{INDEX}: the formats and their endings are"):
        convert(folder / INDEX, tmp_path / f"new.{INDEX}")
