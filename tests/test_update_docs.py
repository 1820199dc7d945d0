"""The documents take over what a day with a GPU measured, all of it or none, and show what there is."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
TIMES = TOOLS.parent / "benchmarks" / "layer_timing_h100.json"


@pytest.fixture
def update_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for documents of which float32 was measured on a GPU before."""
    monkeypatch.syspath_prepend(TOOLS)
    module = importlib.import_module("update_docs")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / TIMES.name).write_text(TIMES.read_text())
    return module


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """What gpu_day.py leaves where all precisions were measured but one, whose part failed."""
    folder = tmp_path / "day"
    folder.mkdir()
    parts = []
    for ms, (name, precision) in enumerate(
        (("layers", "fp32"), ("layers_tf32", "tf32"), ("layers_bf16", "bf16"), ("layers_tf32x3", "tf32x3")), start=6
    ):
        write(folder / f"{name}.json", precision=precision, step_ms=float(ms))
        parts.append({"name": name, "status": "failed" if precision == "tf32x3" else "passed"})
    (folder / "gpu_day.json").write_text(json.dumps({"parts": parts}))
    return folder


def write(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(TIMES.read_text()), **changed}))


def test_what_passed_becomes_the_documents(update_docs: ModuleType, day: Path) -> None:
    update_docs.take_gpu_day(day)
    benchmarks = update_docs.ROOT / "benchmarks"
    steps_ms = {path.name: json.loads(path.read_text())["step_ms"] for path in benchmarks.iterdir()}
    assert steps_ms == {TIMES.name: 6, "layer_timing_h100_tf32.json": 7, "layer_timing_h100_bf16.json": 8}
    rows = [row.split(" | ") for row in update_docs.precisions().splitlines() if row.startswith("| `")]
    torch_ms = min(way["ms"] for way in json.loads(TIMES.read_text())["torch_steps"])
    assert [(row[0], row[1], row[4]) for row in rows] == [
        (f"| `{precision}`", f"**{ms} ms**", f"**{torch_ms / ms:.2f}×** |")
        for precision, ms in (("fp32", 6), ("tf32", 7), ("bf16", 8))
    ]
    assert "Not measured beside PyTorch yet: `tf32x3`" in update_docs.precisions()


def test_one_sentence_where_float32_alone_was_measured(update_docs: ModuleType) -> None:
    assert update_docs.precisions() == (
        "Not measured beside PyTorch yet: `tf32x3`, `tf32`, `bf16` "
        "(`python benchmarks/gpu_day.py --parts layers_tf32x3 layers_tf32 layers_bf16`)."
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"description": "Tesla T4"}, "description is 'Tesla T4'; in the documents it is 'NVIDIA H100 80GB HBM3'"),
        ({"batch": 2}, "batch is 2; in the documents it is 128"),
        ({"precision": "tf32"}, "precision is 'tf32'; in the documents it is 'bf16'"),
        ({"best_torch": None}, "PyTorch was not measured"),
    ],
)
def test_other_figures_are_refused_and_nothing_is_taken(
    update_docs: ModuleType, day: Path, changed: dict[str, Any], message: str
) -> None:
    write(day / "layers_bf16.json", **{"precision": "bf16", **changed})
    with pytest.raises(SystemExit, match=f"layers_bf16.json: {message}"):
        update_docs.take_gpu_day(day)
    assert [path.name for path in (update_docs.ROOT / "benchmarks").iterdir()] == [TIMES.name]
    assert (update_docs.ROOT / "benchmarks" / TIMES.name).read_text() == TIMES.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "gpu_day.json cannot be read .*--gpu-day must name what gpu_day.py left"),
        ("{", "gpu_day.json cannot be read"),
        (json.dumps({"parts": [{"name": "layers", "status": "timed out"}]}), "has no times of layers"),
    ],
)
def test_a_folder_without_figures_is_refused(
    update_docs: ModuleType, day: Path, content: str | None, message: str
) -> None:
    if content is None:
        (day / "gpu_day.json").unlink()
    else:
        (day / "gpu_day.json").write_text(content)
    with pytest.raises(SystemExit, match=message):
        update_docs.take_gpu_day(day)
