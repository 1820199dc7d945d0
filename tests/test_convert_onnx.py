"""ONNX: other engines compute the same, what is written comes back bit for bit, and the model zoo's graph is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exchange import NETS, channels_first, difference, images_for, run_by_onnxruntime, with_zeros_around
from foreign import BVLC, CLASSES, PAPER, ROUNDING, assert_equal, model_of
from pyalexnet import Classifier, ModelFileError, convert, load_model

onnx = pytest.importorskip("onnx")
NEEDS_ONNXRUNTIME = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs ONNX Runtime")


@pytest.fixture(scope="module", params=NETS)
def model(request: pytest.FixtureRequest) -> Classifier:
    return model_of(NETS[request.param])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    convert(model_of({}), path)
    return path


def run_by_reference(path: Path, x: Any) -> Any:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class LRN(OpRun):
        """Since that of onnx 1.23.2 loops over images instead of channels (onnx/onnx#7805)."""

        def _run(self, x: Any, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
            around = (size - 1) // 2
            squares = np.pad(x**2, ((0, 0), (around, size - 1 - around), (0, 0), (0, 0)))
            sums = sum(squares[:, place : place + x.shape[1]] for place in range(size))
            return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)

    evaluator = ReferenceEvaluator(os.fspath(path), new_ops=[LRN])
    return evaluator.run(None, {evaluator.input_names[0]: channels_first(x)})[0]


@NEEDS_ONNXRUNTIME
@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_computes_the_same(model: Classifier, batch: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    convert(model, path)
    onnx.checker.check_model(path, full_check=True)
    x = images_for(model, batch)
    assert difference(run_by_onnxruntime(path, x), model, x) < ROUNDING


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=pytest.mark.slow) if "2012" in name else name for name in NETS],  # its poolings are slow
    indirect=True,
)
def test_the_reference_computes_the_same(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    convert(model, path)
    x = images_for(model, 1)
    assert difference(run_by_reference(path, x), model, x) < ROUNDING


def test_there_and_back(model: Classifier, tmp_path: Path) -> None:
    convert(model, tmp_path / "model.onnx")
    assert_equal(load_model(tmp_path / "model.onnx", devices=["cpu:0"]), model)


def changed(path: Path, change: Callable[[Any], Any], to: Path) -> Path:
    """A model of which something is otherwise."""
    graph = onnx.load(path)
    change(graph)
    to.write_bytes(graph.SerializeToString())
    return to


def node(model: Any, name: str) -> Any:
    return next(each for each in model.graph.node if each.name == name)


def tensor(model: Any, name: str) -> Any:
    return next(each for each in model.graph.initializer if each.name == name)


def without_description(model: Any) -> None:
    del model.metadata_props[:]


def test_a_graph_without_description_is_read(model: Classifier, tmp_path: Path) -> None:
    convert(model, tmp_path / "model.onnx")
    path = changed(tmp_path / "model.onnx", without_description, tmp_path / "plain.onnx")
    if model.net.options.second_lrn:
        with pytest.raises(ModelFileError, match="'lrn2' is read by 2 nodes; it must be by one"):
            load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
        return
    expected = (
        pytest.warns(UserWarning, match="has torchvision's net")
        if model.net.options.filters == "2014"
        else nullcontext()
    )
    with expected:
        read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3), classes=CLASSES)
    assert (read.mean == [1, 2, 3]).all()
    x = with_zeros_around(model, images_for(model))
    assert read.net.forward(x).tobytes() == model.net.forward(x).tobytes()


# The model zoo ------------------------------------------------------------------------------------------------------


def zoo(tmp_path: Path, *, pool_first: bool, size: int) -> Path:
    """The zoo's bvlc_alexnet, which onnx has for its own tests, or the same with CaffeNet's order; random weights.

    Its fully connected layers have as many units as those of the tests' nets, and its images the size.
    """
    from onnx import helper, numpy_helper

    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_bvlc_alexnet.onnx"
    model = onnx.load(light)
    shapes = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    rng = np.random.default_rng(5)
    del model.graph.initializer[:]
    nodes = [each for each in model.graph.node if each.op_type != "ConstantOfShape"]
    for each in model.graph.node:
        if each.op_type == "ConstantOfShape":
            small = {(4096, 9216): (256, 9216), (4096, 4096): (256, 256), (1000, 4096): (9, 256), (1000,): (9,)}
            shape = tuple(map(int, shapes[each.input[0]]))
            shape = small.get(shape, (256,) if shape == (4096,) else shape)
            values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:] or [100])))
            model.graph.initializer.append(numpy_helper.from_array(values, each.output[0]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "OC2_DUMMY_1"))
    if pool_first:
        for place in (2, 6):
            lrn, pool = nodes[place : place + 2]
            pool.input[0], lrn.input[0] = lrn.input[0], f"between{place}"
            lrn.output[0], pool.output[0] = pool.output[0], f"between{place}"
            nodes[place : place + 2] = [pool, lrn]
    nodes = nodes[:-1]  # without the softmax: logits tell more
    x = helper.make_tensor_value_info("data_0", onnx.TensorProto.FLOAT, ["N", 3, size, size])
    logits = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "zoo", [x], [logits], model.graph.initializer)
    made = helper.make_model(graph, opset_imports=model.opset_import, producer_name=model.producer_name, ir_version=4)
    path = tmp_path / "zoo.onnx"
    onnx.save(made, path)
    return path


@pytest.mark.parametrize("run", [pytest.param(run_by_onnxruntime, marks=NEEDS_ONNXRUNTIME), run_by_reference])
@pytest.mark.parametrize("pool_first", [False, True])
def test_the_zoos_nets_are_read(pool_first: bool, run: Callable[[Path, Any], Any], tmp_path: Path) -> None:
    path = zoo(tmp_path, pool_first=pool_first, size=227)
    with pytest.warns(UserWarning, match="takes its images as BGR, like Caffe"):
        model = load_model(path, devices=["cpu:0"], mean=(122.679, 116.669, 104.007))
    options = model.net.options
    assert (options.lrn_over, options.lrn_k, options.lrn_alpha) == ("both", 1.0, "caffe")
    assert options.pool_before_lrn == pool_first
    x = images_for(model, 1)
    assert difference(run(path, x[..., ::-1]), model, x) < ROUNDING


def test_the_zoos_own_file_says_what_it_is_for(tmp_path: Path) -> None:
    path = zoo(tmp_path, pool_first=False, size=224)
    remarks = convert(path, tmp_path / "model.safetensors", mean=(122.679, 116.669, 104.007))
    assert any("is for images of 224×224; here" in remark for remark in remarks)
    assert any("takes its images as BGR" in remark for remark in remarks)


# What exporters make of a net ----------------------------------------------------------------------------------------


def set_attribute(name: str, **values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        without_description(model)
        for key, value in values.items():
            kept = [each for each in node(model, name).attribute if each.name != key]
            del node(model, name).attribute[:]
            node(model, name).attribute.extend([*kept, onnx.helper.make_attribute(key, value)])

    return change


def constant(model: Any, name: str, values: Any) -> str:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return name


def replace_node(model: Any, old: Any, new: list[Any]) -> None:
    """Put nodes at the place of one."""
    nodes = list(model.graph.node)
    place = nodes.index(old)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], *new, *nodes[place + 1 :]])


MAPS = {"lrn1": (96, 55), "lrn2": (256, 27)}  # channels; height and width


def lrn_as_pytorch_exports_it(batch: int | str, *, reshaped_back: bool = False) -> Callable[[Any], None]:
    """Each LRN in the nodes of torch.onnx.export with dynamo=True, for so many images or any number."""

    def change(model: Any) -> None:
        without_description(model)
        if isinstance(batch, int):
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        first, width = (batch, -1) if isinstance(batch, int) else (-1, None)
        for old in [each for each in model.graph.node if each.op_type == "LRN"]:
            how = {each.name: onnx.helper.get_attribute_value(each) for each in old.attribute}
            (x,), (y,) = old.input, old.output
            channels, height = MAPS[y[:4]]
            channels //= 2 if x.endswith(".x") else 1

            def value(name: str, values: Any, y: str = y) -> str:
                return constant(model, f"{y}/{name}", values)

            def made(kind: str, inputs: list[str], name: str, y: str = y, **attributes: Any) -> Any:
                output = f"{y}/{name}" if name else y
                return onnx.helper.make_node(kind, inputs, [output], output, **attributes)

            sizes = [first, 1, channels, height, width or height]
            nodes = [
                made("Mul", [x, x], "squares"),
                made("Reshape", [f"{y}/squares", value("sizes", sizes)], "apart", allowzero=1),
                made("Pad", [f"{y}/apart", value("pads", [0, 0, 2, 0, 0] * 2)], "padded", mode="constant"),
                made("AveragePool", [f"{y}/padded"], "means", kernel_shape=[5, 1, 1], count_include_pad=1),
                made("Squeeze", [f"{y}/means", value("axes", [1])], "mean"),
                made("Mul", [f"{y}/mean", value("alpha", np.float32(how["alpha"]))], "scaled"),
                made("Add", [value("k", np.float32(how["bias"])), f"{y}/scaled"], "sums"),
                made("Pow", [f"{y}/sums", value("beta", np.float32(how["beta"]))], "powers"),
                made("Div", [x, f"{y}/powers"], ""),
            ]
            if reshaped_back:
                nodes.insert(5, made("Reshape", [f"{y}/mean", value("back", [sizes[0], *sizes[2:]])], "again"))
                nodes[6].input[0] = f"{y}/again"
            replace_node(model, old, nodes)

    return change


@pytest.mark.parametrize("options", [PAPER, BVLC, {**BVLC, "crop": 224}], ids=["towers", "both", "224"])
@pytest.mark.parametrize("change", [lrn_as_pytorch_exports_it("N"), lrn_as_pytorch_exports_it(2, reshaped_back=True)])
def test_lrn_as_pytorch_exports_it_is_read(options: Any, change: Callable[[Any], None], tmp_path: Path) -> None:
    model = model_of(options)
    convert(model, tmp_path / "model.onnx")
    path = changed(tmp_path / "model.onnx", change, tmp_path / "exported.onnx")
    read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
    assert replace(read.net.options, bias_init=model.net.options.bias_init) == model.net.options
    for name, value in model.net.parameters().items():
        assert read.net.parameters()[name].tobytes() == value.tobytes(), name
    x = images_for(model, 2)
    if find_spec("onnxruntime"):
        assert difference(run_by_onnxruntime(path, x), model, x) < ROUNDING


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch's own
@pytest.mark.parametrize("options", [PAPER, BVLC], ids=["towers", "both"])
def test_pytorchs_own_export_is_read(options: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from pyalexnet.formats import torch_module

    model = model_of(options)
    convert(model, tmp_path / "model.pth")
    net = torch_module.load(str(tmp_path / "model.pth")).eval()
    x = images_for(model, 2)
    given = (torch.from_numpy(channels_first(x)),)
    torch.onnx.export(net, given, tmp_path / "model.onnx", dynamo=True, verbose=False)
    assert (tmp_path / "model.onnx.data").exists()
    read = load_model(tmp_path / "model.onnx", devices=["cpu:0"], mean=(1, 2, 3))
    assert replace(read.net.options, bias_init=model.net.options.bias_init) == model.net.options
    assert read.net.forward(x).tobytes() == model.net.forward(x).tobytes()


def set_constant(name: str, values: Any) -> Callable[[Any], None]:
    return lambda model: tensor(model, name).CopyFrom(onnx.numpy_helper.from_array(np.asarray(values), name))


def computed_sizes(model: Any) -> None:
    """As the exporter does without dynamo."""
    model.graph.initializer.remove(tensor(model, "lrn1/sizes"))
    model.graph.node.insert(0, onnx.helper.make_node("Shape", ["relu1"], ["lrn1/sizes"]))


def squares_of_another(model: Any) -> None:
    node(model, "lrn1/squares").input[1] = "lrn1/k"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (computed_sizes, "its extents are others, or computed"),
        (set_constant("lrn1/sizes", [-1, 1, 48, 55, 110]), "its extents"),
        (set_constant("lrn1/sizes", [-1, 1, 96, 55, -1]), "its extents"),
        (set_constant("lrn1/sizes", [2, 1, 96, 55, 55]), "its extents"),
        (set_constant("lrn1/pads", [0, 0, 0, 2, 0] * 2), "its padding"),
        (set_constant("lrn1/pads", [0, 0, 2, 0, 0, 0, 0, 1, 0, 0]), "its padding"),
        (set_attribute("lrn1/padded", mode="edge"), "its padding"),
        (set_attribute("lrn1/means", kernel_shape=[5, 5, 1]), "its windows"),
        (set_attribute("lrn1/means", strides=[2, 1, 1]), "its windows"),
        (set_constant("lrn1/axes", [2]), "its axes"),
        (set_constant("lrn1/alpha", np.ones(96, np.float32)), "its alpha, k or beta"),
        (set_constant("lrn1/beta", np.float64(0.75)), "its alpha, k or beta"),
        (squares_of_another, "its squares"),
        (lambda model: setattr(node(model, "lrn1/sums"), "op_type", "Sub"), "its nodes are Mul, .* Sub, .*, not Mul"),
    ],
)
def test_other_nodes_are_no_lrn(change: Callable[[Any], None], reason: str, tmp_path: Path) -> None:
    def exported(model: Any) -> None:
        lrn_as_pytorch_exports_it("N")(model)
        change(model)

    convert(model_of(BVLC), tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=f"does not begin an LRN as torch.onnx.export writes it.*: {reason}"):
        load_model(changed(tmp_path / "model.onnx", exported, tmp_path / "other.onnx"), mean=(1, 2, 3))


def product_and_sum(model: Any) -> None:
    """fc6 and fc7 by MatMul and Add."""
    for name in ("fc6", "fc7"):
        weight = tensor(model, f"{name}.weight")
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).T.copy(), weight.name))
        old = node(model, name)
        product = onnx.helper.make_node("MatMul", old.input[:2], [f"{name}/product"], f"{name}/product")
        terms = [f"{name}/product", old.input[2]] if name == "fc6" else [old.input[2], f"{name}/product"]
        replace_node(model, old, [product, onnx.helper.make_node("Add", terms, old.output, name)])


def weights_as_they_multiply(model: Any) -> None:
    weight = tensor(model, "fc7.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).T.copy(), weight.name))
    set_attribute("fc7", transB=0)(model)


def parameters_as_constants(model: Any) -> None:
    values = [onnx.helper.make_node("Constant", [], [each.name], value=each) for each in model.graph.initializer]
    nodes = [*values, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)


def sizes_by_shape(model: Any) -> None:
    """x.view(x.size(0), -1), as PyTorch's older exporter writes it."""
    flatten = next(each for each in model.graph.node if each.op_type == "Flatten")
    made, last = onnx.helper.make_node, flatten.input[0]
    rows, rest = constant(model, "0", np.array([0])), constant(model, "-1", np.array([-1]))
    sizes = [made("Shape", [last], ["shape"]), made("Gather", ["shape", rows], ["rows"])]
    joined = made("Concat", ["rows", rest], ["sizes"], axis=0)
    replace_node(model, flatten, [*sizes, joined, made("Reshape", [last, "sizes"], flatten.output)])


def behind(name: str, kind: str, **attributes: Any) -> Callable[[Any], None]:
    """One more node behind another one, under whose output's name its own goes on."""

    def change(model: Any) -> None:
        old = node(model, name)
        output, old.output[0] = old.output[0], "before"
        nodes = list(model.graph.node)
        nodes.insert(nodes.index(old) + 1, onnx.helper.make_node(kind, ["before"], [output], kind, **attributes))
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        product_and_sum,
        weights_as_they_multiply,
        parameters_as_constants,
        sizes_by_shape,
        behind("pool5", "AveragePool", kernel_shape=[1, 1]),  # an adaptive pooling to 6×6
        behind("logits", "Softmax", axis=-1),
        behind("logits", "LogSoftmax", axis=1),
    ],
)
def test_other_ways_to_write_the_same(written: Path, change: Callable[[Any], None], tmp_path: Path) -> None:
    def other(model: Any) -> None:
        without_description(model)
        change(model)

    path = changed(written, other, tmp_path / "other.onnx")
    onnx.checker.check_model(path)
    read = load_model(path, devices=["cpu:0"], mean=(1, 2, 3))
    for name, value in load_model(written, devices=["cpu:0"]).net.parameters().items():
        assert read.net.parameters()[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("shared", [True, False])
def test_biases_of_zeros(shared: bool, written: Path, tmp_path: Path) -> None:
    """Exporters leave them out, or write those of equal length once."""

    def without_biases(model: Any) -> None:
        without_description(model)
        for name in ("conv3", "conv4", "fc8"):
            layer, bias = node(model, "logits" if name == "fc8" else name), tensor(model, f"{name}.bias")
            bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(bias.dims[0], np.float32), bias.name))
            if not shared:
                del layer.input[2]
            if not shared or name == "conv4":
                model.graph.initializer.remove(bias)
        if shared:
            model.graph.node.insert(0, onnx.helper.make_node("Identity", ["conv3.bias"], ["conv4.bias"]))

    path = changed(written, without_biases, tmp_path / "other.onnx")
    onnx.checker.check_model(path)
    found = load_model(path, devices=["cpu:0"], mean=(1, 2, 3)).net.parameters()
    for name, value in load_model(written, devices=["cpu:0"]).net.parameters().items():
        is_zero = name in ("conv3.bias", "conv4.bias", "fc8.bias")
        assert found[name].tobytes() == (np.zeros_like(value) if is_zero else value).tobytes(), name


# What is refused ----------------------------------------------------------------------------------------------------


def circle(model: Any) -> None:
    without_description(model)
    node(model, "relu5").input[0] = "pool5"
    node(model, "pool5").input[0] = "relu5"
    node(model, "relu1").input[0] = "x"
    node(model, "conv1").input[0] = "nothing"
    node(model, "lrn1.0.y").input[0] = "nothing"
    next(each for each in model.graph.node if each.op_type == "Split").input[0] = "nothing"
    node(model, "relu2").input[0], node(model, "relu2").output[0] = "relu1", "x"


def replaced(name: str, values: Any) -> Callable[[Any], None]:
    return lambda model: tensor(model, name).CopyFrom(onnx.numpy_helper.from_array(values, name))


def lying(model: Any) -> None:
    tensor(model, "conv1.bias").raw_data = b"1234"


def huge(model: Any) -> None:
    tensor(model, "conv1.bias").dims[0] = 2**62


def property_of(name: str, value: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        next(each for each in model.metadata_props if each.key == name).value = value

    return change


def softmax_within(model: Any) -> None:
    without_description(model)
    node(model, "relu7").op_type = "Softmax"


def one_more(model: Any) -> None:
    without_description(model)
    model.graph.node.append(onnx.helper.make_node("Relu", ["logits"], ["positive"], name="relu8"))
    model.graph.output[0].name = "positive"


def no_output(model: Any) -> None:
    without_description(model)
    model.graph.output[0].name = "other"


def other_domain(model: Any) -> None:
    without_description(model)
    node(model, "relu7").domain = "com.example"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_attribute("conv1", pads=[2, 2, 2, 2]), r"padding of conv1 is \(2, 2, 2, 2\); it must be \(0, 0, 0, 0\)"),
        (set_attribute("conv1", strides=[0, 0]), r"stride of conv1 is \(0, 0\); it must be at least 1"),
        (set_attribute("conv1", strides=[4, 4, 4]), "must be of two axes"),
        (set_attribute("conv1", strides=1.5), "strides of conv1 is 1.5, of another type"),
        (set_attribute("conv1", dilations=[2, 2]), "conv1 has auto_pad or dilations"),
        (set_attribute("conv2", group=1), "groups of conv2 is 1; it must be 2"),
        (set_attribute("pool1", pads=[1, 1, 1, 1]), r"padding of pool1 is \(1, 1, 1, 1\); it must be absent"),
        (set_attribute("fc6", alpha=2.0), r"fc6 has alpha, beta or transA; it must be x·w \+ b"),
        (set_attribute("fc6", transB=0), r"fc6.* is \(256,\); it must be \(9216,\)|'fc6.bias' is"),
        (set_attribute("lrn1.0.y", alpha=0.1), "is Split, which the net has around LRN alone"),
        (circle, "go round in a circle at 'x'"),
        (one_more, "goes on with a ReLU, relu8; it must end with fc8"),
        (no_output, "its nodes end with 'logits', which is no output"),
        (softmax_within, "relu7 is Softmax, which the net has not there"),
        (other_domain, r"relu7 is com\.example\.Relu, which the net has not there"),
        (behind("logits", "Softmax", axis=0), "Softmax is Softmax, which the net has not there"),
        (behind("pool5", "AveragePool", kernel_shape=[3, 3]), "AveragePool is AveragePool, which the net has not"),
        (behind("fc7", "MatMul"), "MatMul is MatMul, behind which Add must follow with biases"),
        (lying, "'conv1.bias' is damaged"),
        (huge, r"'conv1.bias' is \(4611686018427387904,\); it must be \(96,\)"),
        (replaced("conv1.bias", np.zeros(96)), "'conv1.bias' is of double; it must be of float32"),
        (replaced("conv1.bias", np.full(96, np.inf, np.float32)), r"conv1\.bias has 96 NaN or infinite"),
        (property_of("pyalexnet", "{}"), "format is missing"),
        (property_of("pyalexnet.mean", "eJw="), "its entry pyalexnet.mean holds no mean image"),
        (property_of("pyalexnet.mean", "é"), "its entry pyalexnet.mean holds no mean image"),
    ],
)
def test_other_graphs_are_refused(written: Path, change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = changed(written, change, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=message):
        convert(path, tmp_path / "model.safetensors", mean=(1, 2, 3))
    assert os.listdir(tmp_path) == ["other.onnx"]


@pytest.mark.parametrize("kept", [0, 5, 1000, 10**6])
def test_cut_short(written: Path, kept: int, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(written.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"cut\.onnx is no ONNX file"):
        load_model(tmp_path / "cut.onnx")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("a text that is no message")
    with pytest.raises(ModelFileError, match=r"text\.onnx is no ONNX file"):
        load_model(tmp_path / "text.onnx")


@pytest.mark.parametrize(
    ("known", "other", "message"),
    [
        (b'"classes"', b'"cl\xffsses"', "is no JSON"),
        (b"Relu", b"Re\xffu", r"relu1 is .*Re\\xffu.*, which the net has not there"),
        (b"pyalexnet.mean", b"pyalexnet.m\xffan", "mean is None, but"),
    ],
)
def test_texts_that_are_no_utf8(written: Path, known: bytes, other: bytes, message: str, tmp_path: Path) -> None:
    content = written.read_bytes()
    assert known in content
    (tmp_path / "other.onnx").write_bytes(content.replace(known, other))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "other.onnx")


def test_nodes_of_an_lrn_that_are_no_utf8(tmp_path: Path) -> None:
    convert(model_of(BVLC), tmp_path / "model.onnx")
    content = changed(tmp_path / "model.onnx", lrn_as_pytorch_exports_it("N"), tmp_path / "it.onnx").read_bytes()
    assert b"Squeeze" in content
    (tmp_path / "other.onnx").write_bytes(content.replace(b"Squeeze", b"Squee\xffe"))
    with pytest.raises(ModelFileError, match=r"its nodes are Mul, .*Squee\\xffe.*, not Mul"):
        load_model(tmp_path / "other.onnx", mean=(1, 2, 3))


def test_images_of_any_size_are_those_of_the_net(written: Path, tmp_path: Path) -> None:
    def of_any_size(model: Any) -> None:
        without_description(model)
        for place, name in ((2, "H"), (3, "W")):
            model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = name

    path = changed(written, of_any_size, tmp_path / "other.onnx")
    assert convert(path, tmp_path / "model.safetensors", mean=(1, 2, 3)) == ()


def test_a_crop_of_224_is_read_off_the_graph(tmp_path: Path) -> None:
    convert(model_of({"crop": 224}), tmp_path / "model.onnx")
    path = changed(tmp_path / "model.onnx", without_description, tmp_path / "plain.onnx")
    assert load_model(path, devices=["cpu:0"], mean=(1, 2, 3)).net.options.crop == 224


def test_a_changed_number_is_not_taken_for_what_its_description_says(written: Path, tmp_path: Path) -> None:
    def shrink(model: Any) -> None:
        next(each for each in node(model, "conv1").attribute if each.name == "pads").ints[:] = [2, 2, 2, 2]

    with pytest.raises(ModelFileError, match="padding of conv1"):
        load_model(changed(written, shrink, tmp_path / "other.onnx"))


def test_a_changed_graph_is_not_taken_for_what_its_description_says(written: Path, tmp_path: Path) -> None:
    """Here its LRN is made to span both towers."""

    def span(model: Any) -> None:
        lrn = node(model, "lrn1.0.y")
        lrn.input[0], lrn.output[0] = "relu1", "lrn1"
        gone = [each for each in model.graph.node if each.op_type in ("Split", "Concat") and "lrn1" in str(each)]
        for each in [*gone, node(model, "lrn1.1.y")]:
            model.graph.node.remove(each)

    path = changed(written, span, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=r"towers of .* is 2; it must be 1"):
        load_model(path)
