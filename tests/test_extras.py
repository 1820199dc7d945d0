"""Without the libraries of the extras all works but what needs them, which says how to get them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from small import SMALL

# Run before a program: these libraries are not to be found, as after `pip install .` alone.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Missing(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {libraries} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Missing
"""
OTHERS = ("cv2", "google", "mpi4py", "nbformat", "nvtx", "onnx", "onnxruntime", "openvino", "skimage", "torch")
EVERY = ("fontTools", "jinja2", "matplotlib", "tensorboard")

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(
    path
    for folder in ("benchmarks", "tools")
    for path in (ROOT / folder).glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def run_without(libraries: tuple[str, ...], program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(libraries=set(libraries)) + SMALL + program
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=folder)


def test_training_and_judging_need_no_extra(tmp_path: Path, digits_run: Path) -> None:
    program = f"""
import pyalexnet
model = pyalexnet.load_model({str(digits_run)!r}, devices=["cpu:0"])
print(pyalexnet.evaluate(model).count)
"""
    finished = run_without(EVERY, program, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "49"


@pytest.mark.parametrize("missing", [("torch",), ("matplotlib",), ("jinja2",), ("torch", *EVERY), ()], ids=",".join)
def test_what_cannot_be_imported_is_not_listed(missing: tuple[str, ...], tmp_path: Path) -> None:
    program = """
import inspect, pydoc, pyalexnet
before = set(sys.modules)
names = dir(pyalexnet)
assert set(sys.modules) == before
print(*names)
assert set(dict(inspect.getmembers(pyalexnet))) == set(names)
assert "AlexNet" in pydoc.render_doc(pyalexnet)
"""
    finished = run_without(missing, program, tmp_path)
    assert finished.returncode == 0, finished.stderr
    needs = {"autograd": {"torch"}, "figures": {"matplotlib"}, "report": {"jinja2", "matplotlib"}, "ablation": set()}
    names = set(finished.stdout.split())
    for name, libraries in needs.items():
        there = all(importlib.util.find_spec(library) for library in libraries) and not libraries & set(missing)
        assert (name in names) == there, name


def test_a_report_asks_for_its_own_extra_where_both_libraries_are_missing(tmp_path: Path) -> None:
    finished = run_without(("jinja2", "matplotlib"), "import pyalexnet; pyalexnet.report", tmp_path)
    assert finished.stderr.strip().endswith(
        "jinja2 is not installed, which this needs: run pip install 'pyalexnet[report]'"
    )


@pytest.mark.parametrize(
    ("library", "extra", "program"),
    [
        ("matplotlib", "figures", "import pyalexnet; pyalexnet.figures"),
        ("matplotlib", "figures", "import pyalexnet; pyalexnet.report"),
        ("torch", "torch", "import pyalexnet; pyalexnet.autograd"),
        ("jinja2", "report", "import pyalexnet; pyalexnet.report"),
        ("nvtx", "profile", "from pyalexnet.net.timing import nvtx_ranges; nvtx_ranges()"),
        ("fontTools", "emoji", "import pyalexnet; pyalexnet.train('emoji', epochs=1)"),
        ("tensorboard", "tensorboard", "import pyalexnet; pyalexnet.train(epochs=1, out='run', tensorboard=True)"),
    ],
)
def test_what_needs_an_extra_says_so(library: str, extra: str, program: str, tmp_path: Path) -> None:
    if "emoji" in program and not Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf").exists():
        pytest.skip("the font is not installed")
    finished = run_without((library,), program, tmp_path)
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert last == (
        f"pyalexnet.errors.MissingLibraryError: {library} is not installed, which this needs: "
        f"run pip install 'pyalexnet[{extra}]'"
    )
    assert not (tmp_path / "run").exists()


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    program = "from pyalexnet.cli import main; sys.exit(main(['figure', 'curves', 'run', 'curves.png']))"
    finished = run_without(("matplotlib",), program, tmp_path)
    assert finished.returncode == 1
    assert finished.stderr == (
        "pyalexnet figure: matplotlib is not installed, which this needs: run pip install 'pyalexnet[figures]'\n"
    )


def program_of(script: Path, *arguments: str) -> str:
    """What runs a script from a folder of its own as Python runs it from the command line."""
    return (
        f"import runpy; sys.path.insert(0, {str(script.parent)!r}); sys.argv = {[script.name, *arguments]}; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )


@pytest.mark.long
@pytest.mark.parametrize("script", PROGRAMS, ids=lambda script: script.stem)
def test_programs_explain_themselves_without_any_extra(script: Path, tmp_path: Path) -> None:
    finished = run_without(EVERY + OTHERS, program_of(script, "--help"), tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("script", "arguments", "library"),
    [
        ("small_sets.py", ["--only", "two shapes", "textures"], "scikit-image"),
        ("inference.py", ["--compare", "openvino"], "openvino"),
        ("layer_timing.py", ["--compare", "torch"], "torch"),
        ("loader_speed.py", ["--compare", "torch"], "torch"),
    ],
)
def test_programs_say_what_to_install(script: str, arguments: list[str], library: str, tmp_path: Path) -> None:
    finished = run_without(EVERY + OTHERS, program_of(ROOT / "benchmarks" / script, *arguments), tmp_path)
    assert finished.returncode == 2
    assert f"pip install {library}" in finished.stderr
    assert "Traceback" not in finished.stderr
