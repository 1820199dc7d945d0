"""What type checkers are told: of native modules, that it is what they contain; what users may give, and what not."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast, get_type_hints

import numpy as np
import pytest

import pyalexnet
from pyalexnet.device import backend, native, natives
from pyalexnet.device.native import NativeDeviceInfo

# The words of pybind11's signatures, which are others in its versions, and ours.
SPELLINGS = (
    (r"typing\.SupportsInt( \| typing\.SupportsIndex)?", "int"),
    (r"typing\.SupportsFloat( \| typing\.SupportsIndex)?", "float"),
    (r"collections\.abc\.(Sequence|Callable)", r"\1"),
    (r"(typing_extensions|types)\.CapsuleType", "CapsuleType"),
    (r"pyalexnet\._\w+\.(\w+)", r"Native\1"),
    (r"-> dict$", "-> NativeDeviceInfo"),
    (r"-> list$", "-> list[NativeTraffic]"),
    (r"= \[\]", "= ()"),
    (r"\*\*kwargs", "**kwargs: object"),
)


def loadable() -> Iterator[str]:
    """The names of the native modules that are here and that this processor can load."""
    yield from (f"_{target}" for target in ("sim", "cuda", "ptx") if natives.is_built(f"_{target}"))
    for instruction_set in backend.native_module("cpu").supported_instruction_sets():
        if natives.is_built(f"_cpu_{instruction_set}"):
            yield f"_cpu_{instruction_set}"


# Those that a module has.
TYPES = {"_cuda": ("NativeModule",), "_ptx": ("NativeModule", "CoresModule", "PtxModule")}


def declared(name: str) -> dict[str, str]:
    """What ``device/native.py`` says of a module: its names and those of its classes, each with its signature."""
    classes = {node.name: node for node in ast.parse(inspect.getsource(native)).body if isinstance(node, ast.ClassDef)}
    modules = {kind: classes.pop(kind) for kind in ("NativeModule", "CoresModule", "PtxModule")}
    del classes["NativeDeviceInfo"], classes["NativeTraffic"]
    kinds = TYPES.get(name, ("NativeModule", "CoresModule"))
    found = {member: what for kind in kinds for member, what in members(modules[kind])}
    of_class = {name: dict(members(node)) for name, node in classes.items()}
    bases = {name: {base.id for base in node.bases if isinstance(base, ast.Name)} for name, node in classes.items()}
    for name in classes.keys() - set().union(*bases.values()):
        for owner in (*(bases[name] & classes.keys()), name):
            found |= {f"{name}.{member}": what for member, what in of_class[owner].items()}
    return found


def members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for member in node.body:
        if isinstance(member, ast.AnnAssign):
            yield ast.unparse(member.target), ast.unparse(member.annotation)
        elif isinstance(member, ast.FunctionDef) and member.name != "__buffer__":  # no name in Python before 3.12
            member.args.args.pop(0)  # self
            yield member.name, f"{'property ' if member.decorator_list else ''}{signature(member)}"


def signature(function: ast.FunctionDef) -> str:
    returned = ast.unparse(function.returns) if function.returns else "?"
    return f"({ast.unparse(function.args)}) -> {returned}"


def bound(module: ModuleType) -> dict[str, str]:
    """The same of a module that was built."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if isinstance(value, str):
            found[name] = "str"
        elif isinstance(value, type):
            found[name] = f"type[Native{name}]"
            found |= {f"Native{name}.{member}": what for member, what in bound_members(value)}
        else:
            found[name] = documented(value)
    return found


def bound_members(kind: type) -> Iterator[tuple[str, str]]:
    for name, value in vars(kind).items():
        if isinstance(value, property):
            assert value.fset is None
            yield name, f"property {documented(value.fget, method=True)}"
        elif not name.startswith("_") or (value.__doc__ or "").startswith("__init__(self"):
            yield name, documented(value, method=True)


def documented(function: object, method: bool = False) -> str:
    """The signature in the first line of what pybind11 wrote as documentation."""
    text = (function.__doc__ or "").strip().splitlines()[0]
    text = text[text.index("(") :]
    for pattern, ours in SPELLINGS:
        text = re.sub(pattern, ours, text)
    parsed = ast.parse(f"def function{text}: ...").body[0]
    assert isinstance(parsed, ast.FunctionDef)
    if method:
        parsed.args.args.pop(0)
    return signature(parsed)


@pytest.mark.parametrize("name", [*loadable()])
def test_a_native_module_contains_what_its_type_says(name: str) -> None:
    # pybind11 does not write which arrays may be None: that is the next test's.
    said = {what: text.replace(" | None", "") for what, text in declared(name).items()}
    assert bound(natives.load(name)) == said


def test_none_is_taken_for_the_arrays_whose_type_says_so(device: str) -> None:
    on = backend.get_device(device)
    array = on.native.Memory(on.index, 64).array(0, [1])
    values = {"NativeArray": array, "NativeStream": on.stream, "int": 1, "float": 0.5, "bool": False}
    values |= {"Sequence[NativeArray]": [array], "Sequence[float]": [0.5]}
    image, matrix = np.ones((1, 1, 1, 1)), np.ones((1, 1))
    values["NativeConvPlan"] = on.native.conv_forward_plan(x=image, w=image, stride=1, padding=0, groups=1)
    values["NativeLinearPlan"] = on.native.linear_forward_plan(x=matrix, w=matrix)
    for name, text in declared("_cuda").items():
        arguments = dict(re.findall(r"(\w+): ([\w |\[\]]+)", text.partition(" -> ")[0]))
        if "." in name or "NativeStream" not in arguments.values():
            continue
        given = {argument: values[kind.partition(" |")[0]] for argument, kind in arguments.items()}
        for argument in (argument for argument in arguments if "NativeArray" in arguments[argument]):
            # Where None is taken, arrays of one axis still are not.
            wanted = ValueError if arguments[argument].endswith("| None") else TypeError
            nothing = [None] if arguments[argument].startswith("Sequence") else None
            with pytest.raises(wanted):
                getattr(on.native, name)(**given | {argument: nothing})


@pytest.mark.skipif(shutil.which("nm") is None, reason="binutils is not here")
@pytest.mark.parametrize("name", [*loadable()])
def test_a_native_module_shows_nothing_but_its_entry(name: str) -> None:
    file = inspect.getfile(cast(ModuleType, natives.load(name)))
    listed = subprocess.run(["nm", "-D", "--defined-only", file], check=True, capture_output=True, text=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == [f"PyInit_{name}"]


def test_what_a_module_tells_of_a_device(device: str) -> None:
    on = backend.get_device(device)
    told = on.native.device_info(on.index)
    hints = get_type_hints(NativeDeviceInfo)
    assert {name: type(value) for name, value in told.items()} == hints
    assert memoryview(on.native.PinnedMemory(8)).nbytes == 8


ARRAYS = """\
from array import array

import numpy as np
import numpy.typing as npt
import torch

from pyalexnet import ops
from pyalexnet.device.tensor import Tensor

x: npt.NDArray[np.float32] = np.ones((2, 3), np.float32)
y: Tensor = ops.relu(x)
y = ops.relu(y)
y = ops.relu(torch.ones(2, 3))
y = ops.linear(x, torch.nn.Parameter(torch.ones(3, 4)), None)
y, again = ops.cross_entropy(y, array("i", [0, 1]))
y = Tensor.from_array(x)
back: npt.NDArray[np.float32] = np.asarray(y)
number: float = y.sum() if isinstance(y, np.ndarray) else Tensor.from_array(x[:1, :1]).item()
shared: torch.Tensor = torch.utils.dlpack.from_dlpack(y)
ops.relu([[1.0]])  # refused
ops.relu(1.0)  # refused
ops.relu("x")  # refused
ops.relu(None)  # refused
ops.linear(x, x, 0)  # refused
Tensor.from_array([1, 2])  # refused
Tensor(x, y.device)  # refused
y.device.native.relu_forward(y.array, y.array)  # refused
y.device.native.relu_forward(y.array, y.device.stream, y.array)  # refused
y.device.native.relu_forwards(y.array, y.array, y.device.stream)  # refused
"""


OPTIONS = """\
from pathlib import Path

import numpy as np
from PIL import Image

from pyalexnet import AlexNet, predict, train
from pyalexnet.training.recipe import Recipe

net = AlexNet(10, devices=["cpu:0"], lrn_k=1, crop=224, second_lrn=True, activation="tanh", towers=1)
AlexNet.unfilled(10, devices=["cpu:0"], memory_limit=None, dropout=0.0)
train("digits", epochs=1, crop=224)
Recipe(net_options={"dropout": 0.0})
predict("run", [Path("a.jpg"), "b.jpg", b"...", open("c.jpg", "rb"), Image.new("L", (8, 8)), np.ones((8, 8), np.uint8)])
predict("run", np.ones((2, 8, 8, 3), np.uint8))
AlexNet(10, drop_out=0.0)  # refused
AlexNet(10, dropout="0.5")  # refused
AlexNet(10, crop=225)  # refused
AlexNet(10, second_lrn=1)  # refused
AlexNet(10, weight_init="papers")  # refused
AlexNet.unfilled(10, devices=["cpu:0"], memory_limit=None, tower=1)  # refused
AlexNet.unfilled(10, devices=["cpu:0"], memory_limit=None, towers=3)  # refused
train("digits", crops=224)  # refused
train("digits", crop="224")  # refused
Recipe(net_options={"drop_out": 0.0})  # refused
Recipe(net_options={"towers": 3})  # refused
predict("run", 5)  # refused
predict("run", [5])  # refused
"""


@pytest.mark.slow
@pytest.mark.parametrize("usage", [ARRAYS, OPTIONS], ids=["arrays", "options"])
def test_type_checkers_take_what_is_meant_and_refuse_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usage: str
) -> None:
    api = pytest.importorskip("mypy.api")
    if "import torch" in usage:
        pytest.importorskip("torch")
    monkeypatch.setenv("MYPYPATH", str(Path(pyalexnet.__file__).parents[1]))
    file = tmp_path / "usage.py"
    file.write_text(usage)
    found, _, _ = api.run(["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(file)])
    refused = {number for number, line in enumerate(usage.splitlines(), 1) if line.endswith("# refused")}
    assert {int(number) for number in re.findall(r"usage\.py:(\d+): error", found)} == refused, found
