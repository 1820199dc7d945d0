"""Files of other programs, damaged anywhere: the documented error with the file's name, or a model that is whole."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoints_of_2012 import checkpoint, of_python_2
from foreign import BVLC, PAPER, model_of
from fuzzing import damaged
from pyalexnet import ModelFileError, architecture, convert
from pyalexnet.formats.conversion import read

EXAMPLES = int(os.environ.get("PYALEXNET_FUZZ_EXAMPLES", "25"))
WRITTEN = (".pth", ".safetensors", ".onnx", ".caffemodel")


@pytest.fixture(scope="module", autouse=True)
def few_units() -> Iterator[None]:
    """Files of a few megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture, "HIDDEN_UNITS", 16)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for library in ("torch", "onnx", "google.protobuf"):
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("fuzz")
    for ending in WRITTEN:
        convert(model_of(PAPER), folder / f"good{ending}", to="pytorch" if ending == ".safetensors" else None)
    parameters = model_of(BVLC).net.parameters()
    names = dict.fromkeys(name.partition(".")[0] for name in parameters)
    layers = {name: [parameters[f"{name}.weight"], parameters[f"{name}.bias"]] for name in names}
    np.save(folder / "good.npy", np.array(layers), allow_pickle=True)
    (folder / "good.pkl").write_bytes(of_python_2(checkpoint(model_of(PAPER))))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("ending", [*WRITTEN, ".npy", ".pkl"])
def test_damaged_files(folder: Path, ending: str) -> None:
    good, path = (folder / f"good{ending}").read_bytes(), folder / f"damaged{ending}"
    for seed in range(EXAMPLES):
        path.write_bytes(damaged(good, random.Random(seed)))
        try:
            content = read(path, mean=(1, 2, 3), classes=[*"abcdefg"], colours=None, prototxt=None)
        except ModelFileError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        shapes = architecture.parameter_shapes(content.num_classes, *content.options.computed_as)
        assert {name: value.shape for name, value in content.parameters.items()} == shapes
        assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in content.parameters.values())
