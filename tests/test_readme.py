"""The lines of code in the documents are true: kernels as the sources have them, Python as it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pyalexnet
from documents import ROOT, snippets
from pyalexnet.net.model_file import file_of, require_proof

IN_DOCS = sorted({document for document, _ in snippets("python") if document.startswith("docs/")})


def test_kernels_stand_in_the_sources_word_by_word() -> None:
    shown = [snippet for _, snippet in snippets("cuda")]
    sources = [
        path.read_text(encoding="utf-8") for folder in ("src", "docs") for path in (ROOT / folder).rglob("*.cu*")
    ]
    assert shown
    assert [snippet for snippet in shown if not any(snippet in source for source in sources)] == []


def test_kernels_that_profiling_names_are_there() -> None:
    text = (ROOT / "docs" / "profiling.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(\w+_kernel)\b", text))
    kernels = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "kernels").glob("*.cu*"))
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"\b{name}\(", kernels)} == set()


@pytest.fixture
def folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files that the documents speak of."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, count in (("photos", 10), ("more_photos", 2)):
        for kind, shade in (("cat", 60), ("dog", 190)):
            (tmp_path / folder / kind).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(shade - 30, shade + 30, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / kind / f"{number}.jpg")
    for name in ("cat.jpg", "dog.jpg"):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.usefixtures("folder_of_photos")
def test_python_of_the_readme_runs_as_printed() -> None:
    torch = pytest.importorskip("torch")
    on_gpus = {"cuda:0", "cuda:1"} <= {info.name for info in pyalexnet.devices()}
    rng = np.random.default_rng(0)
    given = {
        "torch": torch,
        "x": rng.standard_normal((2, 227, 227, 3), dtype=np.float32),
        "labels": [1, 2],
        "w": rng.standard_normal((11, 11, 3, 8), dtype=np.float32),
        "b": np.zeros(8, np.float32),
        "dy": rng.standard_normal((2, 55, 55, 8), dtype=np.float32),
    }
    shown = [snippet for document, snippet in snippets("python") if document == "README.md"]
    assert len(shown) >= 3
    assert len(IN_DOCS) >= 4
    for snippet in shown:
        code = snippet if on_gpus else snippet.replace("cuda:", "cpu:")
        exec(compile(code, "README.md", "exec"), given)


@pytest.mark.parametrize("document", IN_DOCS)
def test_python_of_the_documents_runs_as_printed(
    document: str, folder_of_photos: Path, digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"pyalexnet": pyalexnet}
    if document == "docs/exchange.md":
        torch = pytest.importorskip("torch")
        (folder_of_photos / "run").symlink_to(digits_run)
        (folder_of_photos / "model.safetensors").symlink_to(file_of(digits_run))
        given["images"] = torch.zeros((2, 3, 256, 256), dtype=torch.uint8)
    elif document == "docs/profiling.md":
        given["net"] = pyalexnet.AlexNet(10, devices=["cpu:0"])
    for shown, snippet in snippets("python"):
        if shown == document:
            exec(compile(snippet, document, "exec"), given)
    if document == "docs/exchange.md":
        assert capsys.readouterr().out.split() == [require_proof(digits_run)[1].sha256]
        assert given["x"].grad.abs().sum() > 0
    elif document == "docs/training.md":
        assert given["result"].history
        assert (folder_of_photos / "run").is_dir()
