"""The forward pass in each engine that benchmarks/inference.py compares, as a function without arguments."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from pyalexnet.architecture import CONVOLUTIONS, LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE
from torch_ways import TORCH_WAYS

SIDE = 227
OURS = ("pyalexnet", "pyalexnet, batch_invariant=False")
WAYS = {
    "torch": tuple(f"PyTorch, {way}" for way in TORCH_WAYS),
    "onnxruntime": ("ONNX Runtime",),
    "openvino": ("OpenVINO",),
}


def make(name: str, device: str, batch: int, classes: int) -> Callable[[], Any]:
    """One forward pass of random images, from host memory to logits in host memory."""
    cores = os.cpu_count() or 1
    if name in OURS:
        return of_pyalexnet(device, batch, classes, batch_invariant=name == OURS[0])
    if name.startswith("PyTorch"):
        return of_torch(name.removeprefix("PyTorch, "), device, batch, classes, cores)
    if not device.startswith("cpu"):
        raise ValueError(f"device is {device}; it must be cpu:0 here")
    images = np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE), dtype=np.float32)
    if name == "ONNX Runtime":
        return of_onnxruntime(onnx_model(batch, classes), images, cores)
    return of_openvino(onnx_model(batch, classes), images, cores)


def of_pyalexnet(device: str, batch: int, classes: int, *, batch_invariant: bool) -> Callable[[], Any]:
    """This package."""
    from pyalexnet import AlexNet

    net = AlexNet(classes, devices=[device])
    images = np.random.default_rng(0).standard_normal((batch, SIDE, SIDE, 3), dtype=np.float32)
    return lambda: net.forward(images, batch_invariant=batch_invariant)


def of_torch(way: str, device: str, batch: int, classes: int, cores: int) -> Callable[[], Any]:
    """PyTorch in one of its ways."""
    import torch

    import torch_layers

    memory_format = torch_layers.memory_format_of(way)
    on = torch_layers.device_for(device, cores)
    torch.backends.cudnn.benchmark = True
    net = torch_layers.whole_net(classes).eval().to(on, memory_format=memory_format)
    compute: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net) if TORCH_WAYS[way].compiled else net
    images = torch.randn(batch, 3, SIDE, SIDE).contiguous(memory_format=memory_format)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return compute(images.to(on)).cpu()

    return run


def of_onnxruntime(model: bytes, images: np.ndarray, cores: int) -> Callable[[], Any]:
    """ONNX Runtime on CPU cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": images})


def of_openvino(model: bytes, images: np.ndarray, cores: int) -> Callable[[], Any]:
    """OpenVINO on CPU cores."""
    import openvino

    how = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", how)
    return lambda: compiled([images])


def onnx_model(batch: int, classes: int) -> bytes:
    """The net as an ONNX file, its weights random."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def add(operation: str, source: str, shapes: tuple[tuple[int, ...], ...] = (), **attributes: Any) -> str:
        number = len(nodes)
        names = [f"weight{number}_{i}" for i in range(len(shapes))]
        for name, shape in zip(names, shapes, strict=True):
            values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.01)
            weights.append(numpy_helper.from_array(values, name))
        nodes.append(helper.make_node(operation, [source, *names], [f"value{number}"], **attributes))
        return f"value{number}"

    last = "x"
    for layer in CONVOLUTIONS:
        groups = 1 if layer.sees_both else 2
        shapes = ((layer.filters, layer.channels // groups, layer.kernel, layer.kernel), (layer.filters,))
        last = add("Conv", last, shapes, strides=[layer.stride] * 2, pads=[layer.padding] * 4, group=groups)
        last = add("Relu", last)
        if layer.lrn:
            last = add("LRN", last, alpha=LRN_ALPHA * LRN_SIZE, beta=LRN_BETA, bias=float(LRN_K), size=LRN_SIZE)
        if layer.pool:
            last = add("MaxPool", last, kernel_shape=[3, 3], strides=[2, 2])
    last = add("Flatten", last)
    for inputs, outputs in ((9216, 4096), (4096, 4096), (4096, classes)):
        last = add("Gemm", last, ((outputs, inputs), (outputs,)), transB=1)
        last = add("Relu", last) if outputs != classes else last
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, classes])
    graph = helper.make_graph(nodes, "alexnet", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
