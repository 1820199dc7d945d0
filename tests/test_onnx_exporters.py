"""ONNX as PyTorch's exporters write it, the older one first: what is read computes what the graph does."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange import NETS, Images, channels_first, difference, images_for, run_by_onnxruntime, with_zeros_around
from foreign import ROUNDING, model_of
from fuzzing import damaged
from pyalexnet import Classifier, ModelFileError, convert, load_model
from pyalexnet.formats import conversion

torch = pytest.importorskip("torch")
torch_export = pytest.importorskip("torch_export")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
nn = torch.nn
PlainNet, PlainNetInTowers = torch_export.PlainNet, torch_export.PlainNetInTowers
plain_net, export = torch_export.plain_net, torch_export.export

OPSETS = [pytest.param(each, marks=() if each in (11, 17) else pytest.mark.long) for each in range(11, 21)]


def assert_computes_as_onnxruntime(path: Path, x: Images) -> Classifier:
    """What is read of a file, with the logits of ONNX Runtime."""
    read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
    assert difference(run_by_onnxruntime(path, x), read, x) < ROUNDING
    return read


@pytest.fixture(scope="module")
def images() -> Images:
    return np.random.default_rng(1).uniform(-128, 128, (2, 227, 227, 3)).astype(np.float32)


@pytest.mark.parametrize("folding", [True, False], ids=["folded", "as traced"])
@pytest.mark.parametrize("any_number", [True, False], ids=["any number", "two images"])
@pytest.mark.parametrize("opset", OPSETS)
def test_plain_nets_are_read(opset: int, any_number: bool, folding: bool, images: Images, tmp_path: Path) -> None:
    for kind, over in ((PlainNet, "both"), (PlainNetInTowers, "tower")):
        net, path = plain_net(kind), tmp_path / f"{over}.onnx"
        export(net, images, path, opset=opset, any_number=any_number, do_constant_folding=folding)
        options = assert_computes_as_onnxruntime(path, images).net.options
        assert (options.lrn_over, options.lrn_k, options.lrn_alpha) == (over, 2.0, "paper")


@pytest.mark.parametrize("name", [name for name in NETS if "2012" not in name and "torchvision" not in name])
def test_own_module_is_read_bit_for_bit(name: str, tmp_path: Path) -> None:
    from pyalexnet.formats import torch_module

    for options in (NETS[name], {**NETS[name], "crop": 224}):
        model = model_of(options)
        convert(model, tmp_path / "model.pth")
        x = images_for(model, 2)
        path = export(torch_module.load(str(tmp_path / "model.pth")).eval(), x, tmp_path / "model.onnx")
        read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
        unread = {each: getattr(model.net.options, each) for each in ("bias_init", "dropout")}
        assert replace(read.net.options, **unread) == model.net.options
        framed = with_zeros_around(model, x)
        assert read.net.forward(framed).tobytes() == model.net.forward(framed).tobytes()
        assert difference(run_by_onnxruntime(path, x), read, x) < ROUNDING


@pytest.mark.parametrize("opset", [11, 17])
def test_dropout_in_training_is_left_out(opset: int, images: Images, tmp_path: Path) -> None:
    net = plain_net(PlainNet)
    expected = assert_computes_as_onnxruntime(export(net, images, tmp_path / "model.onnx"), images)
    for mode in (torch.onnx.TrainingMode.PRESERVE, torch.onnx.TrainingMode.TRAINING):
        path = export(net.train(), images, tmp_path / "training.onnx", opset=opset, training=mode)
        assert any(node.op_type == "Dropout" for node in onnx.load(path).graph.node)
        read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
        assert read.net.forward(images).tobytes() == expected.net.forward(images).tobytes()


def test_an_axis_of_its_own_before_the_reshape(images: Images, tmp_path: Path) -> None:
    """As PyTorch 1 has it in its LRN."""

    class Old(nn.LocalResponseNorm):
        def forward(self, x: Any) -> Any:
            sizes = x.size()
            squares = x.mul(x).unsqueeze(1).view(sizes[0], 1, sizes[1], sizes[2], -1)
            padded = nn.functional.pad(squares, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
            means = nn.functional.avg_pool3d(padded, (self.size, 1, 1), stride=1).squeeze(1).view(sizes)
            return x / means.mul(self.alpha).add(self.k).pow(self.beta)

    net = plain_net(PlainNet)
    for place in (2, 6):
        net.features[place] = Old(5, 5e-4, 0.75, 2.0)
    assert_computes_as_onnxruntime(export(net, images, tmp_path / "model.onnx"), images)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch's own
@pytest.mark.parametrize("kind", [PlainNet, PlainNetInTowers])
def test_plain_nets_are_read_from_the_newer_exporter(kind: Any, images: Images, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    given = (torch.from_numpy(channels_first(images)),)
    torch.onnx.export(plain_net(kind), given, tmp_path / "model.onnx", dynamo=True, verbose=False)
    assert_computes_as_onnxruntime(tmp_path / "model.onnx", images)


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(images: Images, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    nets = {"both": PlainNet, "towers": PlainNetInTowers}
    return {name: export(plain_net(kind), images, folder / f"{name}.onnx") for name, kind in nets.items()}


def first(model: Any, kind: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == kind)


def set_attribute(node: Any, name: str, value: Any) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def set_input(node: Any, number: int, values: Any) -> Callable[[Any], None]:
    """Give a node a constant."""

    def change(model: Any) -> None:
        found = node(model)
        name = f"{found.name}.{number}"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        found.input[number] = name

    return change


def of(kind: str) -> Callable[[Any], Any]:
    return lambda model: first(model, kind)


def within(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """A change of the branch in which an If squeezes."""

    def change_it(model: Any) -> None:
        change(next(each.g for each in first(model, "If").attribute if each.name == "then_branch"))

    return change_it


def swap_branches(model: Any) -> None:
    for each in first(model, "If").attribute:
        each.name = {"then_branch": "else_branch", "else_branch": "then_branch"}[each.name]


def squeeze_another_axis(branch: Any) -> None:
    constant = first_in(branch, "Constant")
    set_attribute(constant, "value", onnx.numpy_helper.from_array(np.array([2])))


def squeeze_another_value(branch: Any) -> None:
    first_in(branch, "Squeeze").input[0] = "x"


def first_in(branch: Any, kind: str) -> Any:
    return next(node for node in branch.node if node.op_type == kind)


def called(name: str) -> Callable[[Any], Any]:
    return lambda model: next(node for node in model.graph.node if node.name == f"/features/features.2/{name}")


def window(size: int) -> Callable[[Any], None]:
    return lambda model: set_attribute(first(model, "AveragePool"), "kernel_shape", [size, 1, 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_input(of("Pad"), 1, [0, 0, 2, 0, 0, 0, 0, 1, 0, 0]), "its padding are others, or computed"),
        (set_input(of("Pad"), 1, [0, 0, 0, 2, 0, 0, 0, 0, 2, 0]), "its padding are others, or computed"),
        (set_input(of("Pad"), 2, np.float32(1)), "its padding are others, or computed"),
        (window(3), "its padding are others, or computed"),
        (window(4), "its padding are others, or computed"),
        (set_input(of("Reshape"), 1, [-1, 1, 48, 55, 110]), "its extents are others, or computed"),
        (set_input(called("Gather_1"), 1, 0), "its extents are others, or computed"),  # images as channels
        (set_input(called("Gather_2"), 1, 0), "its extents are others, or computed"),
        (set_input(of("If"), 0, np.bool_(True)), "its axes are others, or computed"),
        (swap_branches, "its axes are others, or computed"),
        (within(squeeze_another_axis), "its axes are others, or computed"),
        (within(squeeze_another_value), "'x' is read by 2 nodes; it must be by one"),
        (set_input(of("Pow"), 1, np.full(96, 0.75, np.float32)), "its alpha, k or beta are others, or computed"),
        (set_input(of("Add"), 1, np.full((96, 1, 1), 2, np.float32)), "its alpha, k or beta are others, or computed"),
        (lambda model: setattr(first(model, "Pow"), "op_type", "Mul"), "its nodes are .*, Add, Mul, Div, not Mul"),
    ],
)
def test_other_nodes_are_no_lrn(
    change: Callable[[Any], None], reason: str, exported: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(exported["both"])
    change(model)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=rf"other\.onnx: (/features\S+ does not begin an LRN .*: )?{reason}"):
        convert(tmp_path / "other.onnx", tmp_path / "model.safetensors", mean=(1, 2, 3))
    assert os.listdir(tmp_path) == ["other.onnx"]


def cut_unequally(model: Any) -> None:
    split = first(model, "Split")
    set_input(of("Split"), 1, [32, 64])(model)
    assert len(split.output) == 2


def join_the_other_way_round(model: Any) -> None:
    split = first(model, "Split")
    concat = next(node for node in model.graph.node if node.op_type == "Concat" and node.attribute[0].i == 1)
    assert len(concat.input) == len(split.output)
    concat.input[:] = [*reversed(concat.input)]


def as_slices(*bounds: tuple[int, int], axis: int = 1, step: int = 1) -> Callable[[Any], None]:
    """The first Split as a Slice for each part, as chunk is exported."""

    def change(model: Any) -> None:
        split = first(model, "Split")
        place = [*model.graph.node].index(split)
        nodes = []
        for output, (start, end) in zip(split.output, bounds, strict=True):
            names = [f"{output}/{number}" for number in range(4)]
            for name, value in zip(names, (start, end, axis, step), strict=True):
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
            nodes.append(onnx.helper.make_node("Slice", [split.input[0], *names], [output], name=output))
        others = [*model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend([*others[:place], *nodes, *others[place + 1 :]])

    return change


@pytest.mark.parametrize("bounds", [((0, 48), (48, 96)), ((-96, 48), (-48, 2**31))])
def test_slices_of_equal_parts_are_read(bounds: Any, exported: dict[str, Path], images: Images, tmp_path: Path) -> None:
    model = onnx.load(exported["towers"])
    as_slices(*bounds)(model)
    onnx.save(model, tmp_path / "sliced.onnx")
    assert_computes_as_onnxruntime(tmp_path / "sliced.onnx", images)


@pytest.mark.parametrize(
    "change",
    [
        cut_unequally,
        join_the_other_way_round,
        as_slices((0, 32), (32, 96)),
        as_slices((0, 48), (0, 48)),
        as_slices((0, 48), (47, 95)),
        as_slices((0, 48), (48, 96), axis=2),
        as_slices((0, 48), (48, 96), step=2),
    ],
)
def test_other_parts_are_refused(change: Callable[[Any], None], exported: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(exported["towers"])
    change(model)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=r"is (Split|Slice), which the net has around LRN alone, of equal parts"):
        load_model(tmp_path / "other.onnx", mean=(1, 2, 3))


@pytest.mark.long
@pytest.mark.parametrize("name", ["both", "towers"])
def test_damaged_graphs(name: str, exported: dict[str, Path], tmp_path: Path) -> None:
    """Damage of the nodes: weights lie beside them."""
    where = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 200}
    onnx.save(onnx.load(exported[name]), tmp_path / "good.onnx", **where)
    good = (tmp_path / "good.onnx").read_bytes()
    for seed in range(200):
        (tmp_path / "bad.onnx").write_bytes(damaged(good, random.Random(seed)))
        try:
            conversion.read(tmp_path / "bad.onnx", mean=(1, 2, 3), classes=None, colours=None, prototxt=None)
        except ModelFileError as error:
            assert "bad.onnx" in str(error)  # noqa: PT017
