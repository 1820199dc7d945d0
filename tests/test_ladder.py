"""The steps of docs/kernels.md compute convolutions, on CUDA's rules and as nvcc's PTX, and their table is true."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import references
from cpp_programs import HOSTCUDA, compile_all, in_one, link
from pyalexnet import CudaError
from pyalexnet.device import natives

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "kernels"
NAMES = [path.stem for path in sorted(FOLDER.glob("[0-9]_*.cu"))]

# Images, height, width, channels, filters: what fits no tile; pixels in two tiles of all steps, filters in two; and for
# quads of channels and filters.
ANY = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 9), (1, 12, 11, 7, 130)]
QUADS = [(1, 1, 1, 4, 4), (2, 5, 7, 12, 20), (1, 12, 11, 4, 132)]

# One mistake a step: the text, and what stands there instead.
MISTAKES = {
    "1_naive": ("sum += from[c]", "sum = from[c]"),
    "2_coalesced": ("term.u * 3 + term.v", "term.u + term.v * 3"),
    "3_shared": ("    __syncthreads();\n    for (int k", "    for (int k"),
    "4_registers": ("    }\n    __syncthreads();\n  }", "    }\n  }"),
    "5_quads": ("int kNextDown = 16", "int kNextDown = 12"),
    "6_ahead": ("buffer = 1 - buffer;", ""),
}

on_ptx = pytest.mark.skipif(
    not natives.is_built("_ptx") or shutil.which("nvcc") is None, reason="_ptx is not built, or there is no nvcc"
)


@pytest.fixture(scope="module")
def ladder() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        return importlib.import_module("ladder")


@pytest.fixture(scope="module")
def hostcuda(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The objects that execute kernels by CUDA's rules."""
    directory = tmp_path_factory.mktemp("hostcuda")
    return compile_all([in_one(HOSTCUDA, directory)], directory)


def shapes(step: Any) -> list[tuple[int, int, int, int, int]]:
    return ANY + QUADS if step.multiple == 1 else QUADS


def program(folder: Path, file: Path, hostcuda: list[str]) -> Path:
    """run.cu with that step, for CPU cores."""
    flags = ["-Wno-unknown-pragmas", f"-I{FOLDER}", f'-DSTEP="{file}"']
    return link(hostcuda + compile_all([FOLDER / "run.cu"], folder, *flags), folder / "step")


def assert_close(layer: Any, x: Any, w: Any, y: Any) -> None:
    references.assert_sums_close(y, references.conv2d(x, w, padding=1), 9 * layer.channels)


def with_mistake(name: str, folder: Path) -> Path:
    """The step's file with its mistake."""
    text, mistake = (FOLDER / f"{name}.cu").read_text(encoding="utf-8"), MISTAKES[name]
    assert text.count(mistake[0]) == 1
    (path := folder / f"{name}.cu").write_text(text.replace(*mistake))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_the_reference_by_the_rules_of_cuda(
    ladder: ModuleType, hostcuda: list[str], tmp_path: Path, name: str
) -> None:
    step = ladder.Step(FOLDER / f"{name}.cu")
    compiled = program(tmp_path, step.file, hostcuda)
    for shape in shapes(step):
        layer = ladder.Layer(*shape)
        x, w = layer.arrays()
        assert_close(layer, x, w, ladder.run(compiled, layer, x, w)[0])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed_by_the_rules_of_cuda(
    ladder: ModuleType, hostcuda: list[str], tmp_path: Path, name: str
) -> None:
    step = program(tmp_path, with_mistake(name, tmp_path), hostcuda)
    layer = ladder.Layer(*QUADS[1])
    x, w = layer.arrays()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(layer, x, w, ladder.run(step, layer, x, w)[0])


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_the_program_compiles_for_gpus(tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-Werror=all-warnings", f'-DSTEP="{NAMES[-1]}.cu"', "-c", str(FOLDER / "run.cu")]
    subprocess.run([*command, "-o", tmp_path / "run.o"], check=True)


@on_ptx
@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_the_reference_as_ptx(ladder: ModuleType, name: str) -> None:
    step = ladder.Step(FOLDER / f"{name}.cu")
    for shape in shapes(step):
        layer = ladder.Layer(*shape)
        x, w = layer.arrays()
        assert_close(layer, x, w, step.run_ptx(layer, x, w)[0])


@on_ptx
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed_as_ptx(ladder: ModuleType, tmp_path: Path, name: str) -> None:
    step = ladder.Step(with_mistake(name, tmp_path))
    layer = ladder.Layer(*QUADS[1])
    x, w = layer.arrays()
    with pytest.raises((AssertionError, CudaError), match=r"Not equal to tolerance|race in"):
        assert_close(layer, x, w, step.run_ptx(layer, x, w)[0])


@on_ptx
def test_counts_are_those_of_the_document(ladder: ModuleType) -> None:
    report = json.loads((FOLDER / "ladder.json").read_text())
    assert report["layer"] == ladder.asdict(ladder.COUNTED)
    assert [row["name"] for row in report["steps"]] == [*NAMES, ladder.SHIPPED]
    found = {row["name"]: row for row in ladder.count()}
    for row in report["steps"]:
        for key in ladder.COLUMNS:  # another nvcc may take some instructions more or less, but moves as much
            tolerance = 0.1 if key == "instructions" else 0.01
            assert found[row["name"]][key] == pytest.approx(row[key], rel=tolerance), (row["name"], key)


def test_steps_say_which_shapes_they_take(ladder: ModuleType) -> None:
    assert [ladder.Step(FOLDER / f"{name}.cu").multiple for name in MISTAKES] == [1, 1, 1, 1, 4, 4]
