"""Every notebook runs top to bottom, on small nets, and lies in the repository without outputs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from small import SMALL

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

# Smaller than what a reader sees; each is a name of the cell that is tagged `parameters`.
PARAMETERS: dict[str, dict[str, int]] = {
    "net_of_2012": {"BATCH_SIZE": 16},
    "one_source_three_targets": {"BATCH_SIZE": 4, "REPEATS": 1},
    "representations": {"BATCH_SIZE": 16, "IMAGES": 20, "STRIDE": 64},
}
DIGITS = 100
FIGURES = {"net_of_2012": 7, "one_source_three_targets": 1, "representations": 4}


@pytest.fixture(autouse=True)
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter without this user's settings, and with a kernel ``this`` of the interpreter that runs the tests."""
    for name in [name for name in os.environ if name.startswith(("JUPYTER", "IPYTHON", "MPL"))]:
        monkeypatch.delenv(name)
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    kernel = tmp_path / "JUPYTER_DATA_DIR" / "kernels" / "this"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    if path.stem == "one_source_three_targets" and not (os.environ.get("CXX") or shutil.which("c++")):
        pytest.skip("no C++ compiler: neither $CXX nor c++")
    notebook = smaller(nbformat.read(path, as_version=4), PARAMETERS[path.stem])
    client = nbclient.NotebookClient(
        notebook, timeout=250, kernel_name="this", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "".join(output.text for output in outputs if output.get("name") == "stderr") == ""
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES[path.stem]
    assert not list((tmp_path / "TMPDIR").iterdir()), "the notebook left files behind"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_lies_without_outputs_as_jupyter_writes_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"the cell {cell.id} has outputs: clear them"
        assert cell.get("execution_count") is None
    assert path.read_text() == nbformat.writes(notebook) + "\n"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


def test_every_notebook_is_listed() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PARAMETERS)
    table = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert f"]({path.name})" in table


def smaller(notebook: Any, parameters: dict[str, int]) -> Any:
    """The notebook, on small nets and with other parameters than its own."""
    (place,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    for name in parameters:
        assert f"{name} = " in notebook.cells[place].source
    changed = "\n".join(f"{name} = {value}" for name, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(f"{SMALL}small.DIGITS = {DIGITS}\n{changed}"))
    return notebook
