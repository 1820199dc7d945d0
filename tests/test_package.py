"""The package as a whole: imports run one way, and a checkout uses the native modules of where it was installed."""

from __future__ import annotations

import ast
import graphlib
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyalexnet
from pyalexnet.device import backend, natives
from pyalexnet.errors import StaleBuildError

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("system", "device", "ops", "data", "net", "formats", "training", "evaluation", "study", "cli")
"""From the bottom up: each imports those before it."""


def modules(folder: Path, prefix: str) -> dict[str, Path]:
    """A folder's Python files by what they are imported as."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join([prefix, *parts] if prefix else parts).removesuffix(".__init__")] = path
    return found


def imports(known: dict[str, Path], name: str) -> Iterator[str]:
    """The modules among the known ones that one imports, anywhere in it."""
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for imported in node.names:
                longer = f"{node.module}.{imported.name}"
                yield from (found for found in (longer if longer in known else node.module,) if found in known)
        elif isinstance(node, ast.Import):
            yield from (imported.name for imported in node.names if imported.name in known)


PACKAGE = modules(ROOT / "pyalexnet", "pyalexnet")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_what_stands_below_them(room: str) -> None:
    below = {f"pyalexnet.{other}" for other in ROOMS[: ROOMS.index(room) + 1]}
    below |= {"pyalexnet.architecture", "pyalexnet.errors"}
    within = [name for name in PACKAGE if name.startswith(f"pyalexnet.{room}.") or name == f"pyalexnet.{room}"]
    assert within
    wrong = [
        f"{name} imports {other}"
        for name in within
        for other in imports(PACKAGE, name)
        if ".".join(other.split(".")[:2]) not in below
    ]
    assert not wrong


def test_every_module_is_in_a_room() -> None:
    folders = {path.name for path in (ROOT / "pyalexnet").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)
    assert {path.stem for path in (ROOT / "pyalexnet").glob("*.py")} == {
        "__init__",
        "__main__",
        "architecture",
        "errors",
    }


def imports_of_the_root(name: str) -> Iterator[str]:
    """What a module asks the package's root for, which imports that module itself."""
    for node in ast.walk(ast.parse(PACKAGE[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module == "pyalexnet"):
            yield f"from {'.' * node.level}{node.module or ''} import {node.names[0].name}"
        elif isinstance(node, ast.Import):
            yield from ("import pyalexnet" for each in node.names if each.name == "pyalexnet")


def test_no_module_imports_from_the_root() -> None:
    below = [name for name in PACKAGE if name != "pyalexnet"]
    assert len(below) > 100
    assert [f"{name}: {wrong}" for name in below for wrong in imports_of_the_root(name)] == []


@pytest.mark.parametrize("folder", ["pyalexnet", "benchmarks", "tools"])
def test_no_imports_go_in_a_circle(folder: str) -> None:
    known = modules(ROOT / folder, "pyalexnet" if folder == "pyalexnet" else "")
    graph = {name: {other for other in imports(known, name) if other != name} for name in known}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_tests_import_no_tests() -> None:
    known = modules(ROOT / "tests", "")
    tests = {name for name in known if name.rpartition(".")[2].startswith("test_")}
    assert len(tests) > 100
    assert [f"{name} imports {other}" for name in known for other in imports(known, name) if other in tests] == []


def test_choices_are_listed_once() -> None:
    lists: dict[str, list[str]] = {}
    for name, path in PACKAGE.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
                choices = ast.literal_eval(node.slice)
                if isinstance(choices, tuple) and set(choices) != {False, True}:
                    lists.setdefault(repr(sorted(map(str, choices))), []).append(name)
    assert len(lists) > 20
    assert {choices: names for choices, names in lists.items() if len(names) > 1} == {}


def test_short_names_need_no_further_import() -> None:
    code = (
        "import pyalexnet\n"
        "for name in ('ablation', 'data', 'figures', 'ledger', 'ops', 'recipe', 'report', 'schedule', 'similarity', "
        "'timing'):\n"
        "    assert getattr(pyalexnet, name).__name__.endswith(name), name\n"
        "    assert name in dir(pyalexnet), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("first", ["import pyalexnet.schedule", "import pyalexnet.training.schedule", "import pickle"])
def test_short_names_can_be_imported(first: str) -> None:
    code = (
        f"{first}\n"
        "from pyalexnet.schedule import Rates\n"
        "import importlib, pickle, pyalexnet\n"
        "import pyalexnet.schedule as short\n"
        "import pyalexnet.training.schedule as own\n"
        "assert short is own and own.Rates is Rates and pyalexnet.schedule is own\n"
        "assert own.__name__ == own.__spec__.name == 'pyalexnet.training.schedule'\n"
        "assert pickle.loads(pickle.dumps(Rates)) is Rates\n"
        "assert importlib.reload(own) is own\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pyalexnet\.figure'"):
        importlib.import_module("pyalexnet.figure")
    with pytest.raises(AttributeError, match="module 'pyalexnet' has no attribute 'figure'"):
        pyalexnet.figure  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without native modules, to be used beside those of this installation."""
    shutil.copytree(ROOT / "pyalexnet", tmp_path / "pyalexnet", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / "src", tmp_path / "src")
    return tmp_path


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with the native modules of this installation on the path behind it."""
    installed = Path(str(backend.native_module("sim").__file__)).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_checkout_uses_the_installed_native_modules(checkout: Path) -> None:
    code = "import pyalexnet; print(pyalexnet.__file__, *(info.name for info in pyalexnet.devices()))"
    found = run_in(checkout, "-c", code)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[0] == str(checkout / "pyalexnet" / "__init__.py")
    assert {"cpu:0", "sim:0"} <= set(found.stdout.split())
    found = run_in(checkout, "-m", "pyalexnet", "devices")
    assert found.returncode == 0, found.stderr
    assert "cpu:0" in found.stdout


@pytest.mark.parametrize("change", ["edited", "renamed", "added", "removed"])
def test_native_modules_of_other_sources_are_refused(checkout: Path, change: str) -> None:
    kernel = checkout / "src" / "kernels" / "relu.cu"
    if change == "edited":
        kernel.write_text(kernel.read_text() + "\n")
    elif change == "renamed":
        kernel.rename(kernel.with_name("relu2.cu"))
    elif change == "added":
        (kernel.parent / "new.cuh").touch()
    else:
        kernel.unlink()
    found = run_in(checkout, "-c", "import pyalexnet; pyalexnet.devices()")
    assert found.returncode == 1
    assert (
        f"was built from other sources than those in {checkout / 'src'}; run 'pip install {checkout}'" in found.stderr
    )
    assert "StaleBuildError" in found.stderr


def test_native_modules_that_cannot_be_loaded_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_broken.py").write_text("raise ImportError('undefined symbol: f')")
    monkeypatch.setattr(pyalexnet, "__path__", [*pyalexnet.__path__, str(tmp_path)])
    with pytest.raises(StaleBuildError, match=r"_broken cannot be loaded \(undefined symbol: f\); run 'pip install "):
        natives.load("_broken")


@pytest.mark.parametrize(
    ("digest", "advice"),
    [
        ("0123", f"run 'pip install {ROOT}', or tools/develop.py"),
        (None, "--force-reinstall PATH' with the checkout or wheel that"),
    ],
)
def test_where_nothing_was_built_it_says_what_to_run(
    digest: str | None, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(natives, "digest_of_sources", lambda: digest)
    monkeypatch.setattr(natives, "_CHECKOUT", ROOT)
    monkeypatch.setattr(natives, "is_built", lambda _name: False)
    with pytest.raises(pyalexnet.DeviceNotFoundError, match=f"no 'cpu' target for this processor; .*{advice}"):
        backend.instruction_set.__wrapped__()


def test_an_empty_path_is_not_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls: dict[str, Callable[[Any], object]] = {
        "path": pyalexnet.load_model,
        "data": pyalexnet.data.opening.as_dataset,
        "folder": pyalexnet.load_run,
        "out": lambda out: pyalexnet.train(out=out),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name} is ''; it must be a path"):
            call("")
        with pytest.raises(TypeError, match=f"^{name} is "):
            call(3)
    assert list(tmp_path.iterdir()) == []
