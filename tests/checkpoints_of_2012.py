"""Checkpoints as cuda-convnet, the program of 2012, would have written them of a net of this package."""

# ruff: noqa: B023 - functions that are made in a loop are called in the same round of it

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet import Classifier

Layers = dict[str, dict[str, Any]]


class Options2012:
    """Stands for the classic class ``options.OptionsParser``, of which each checkpoint has an object."""


def checkpoint(model: Classifier, dropout: str = "hs") -> dict[str, Any]:
    """What the program would have written of this net."""
    layers: Layers = {"data": {"type": "data"}, "labels": {"type": "data"}}
    options = model.net.options
    towers = "ab" if options.towers == 2 and options.lrn_over == "tower" else ("",)  # type: ignore[assignment]
    front, size = ["data"], options.crop

    def add(name: str, inputs: list[list[str]], of_tower: Callable[[int], dict[str, Any]]) -> None:
        nonlocal front
        made = [f"{name}{tower}" for tower in (towers if len(inputs) > 1 else [""])]
        for number, (each, names) in enumerate(zip(made, inputs, strict=True)):
            layers[each] = {"inputs": names, "gpu": number, **of_tower(number)}
        front = made

    def own() -> list[list[str]]:
        return [[name] for name in front]

    def activate(name: str) -> None:
        params = {"a": 1.0, "b": 1.0} if options.activation == "tanh" else {}
        neuron = {"type": options.activation, "params": params, "usesActs": True}
        add(f"{name}_neuron", own(), lambda _: {"type": "neuron", "neuron": neuron, "src_layer": name})

    shapes = model.net.parameters()
    for number in range(1, 6):
        name = f"conv{number}"
        weight, bias = shapes[f"{name}.weight"], shapes[f"{name}.bias"]
        kernel, _, channels, filters = weight.shape
        stride, padding = (4, 0) if number == 1 else (1, kernel // 2)
        joint = number in (1, 3)
        inputs = [front[::-1] if tower == 1 else list(front) for tower in range(len(towers))] if joint else own()

        def conv(tower: int) -> dict[str, Any]:
            share = slice(tower * filters // len(towers), (tower + 1) * filters // len(towers))
            rows = weight[..., share].transpose(2, 0, 1, 3)
            parts = np.split(rows, len(inputs[tower]))
            parts = parts[::-1] if tower == 1 else parts
            groups = 2 if len(towers) == 1 and not joint and options.towers == 2 else 1
            each = {
                "channels": channels * groups // len(parts),
                "filterSize": kernel,
                "stride": stride,
                "padding": -padding,
                "imgSize": size,
                "groups": groups,
                "randSparse": False,
            }
            return {
                "type": "conv",
                "neuron": "relu",
                "sharedBiases": True,
                "filters": rows.shape[-1],
                "weights": [np.ascontiguousarray(part).reshape(-1, rows.shape[-1]) for part in parts],
                "weightsInc": [np.zeros((2, 2)) for _ in parts],  # of another dtype, which nobody needs
                "biases": bias[share].reshape(-1, 1),
                **{key: [value] * len(parts) for key, value in each.items()},
            }

        add(name, inputs, conv)
        size = -(-(size + 2 * padding - kernel) // stride) + 1
        pools, last = number in (1, 2, 5), number == 5 or (number == 1 and options.relu1_last)
        lrn = {"type": "cmrnorm", "size": 5, "scale": options.lrn_arguments["alpha"], "pow": 0.75, "blocked": False}
        steps = []
        if number < 3 and options.lrn:
            steps.append(("rnorm", lrn | {"minDiv": float(options.lrn_k)}))
        if number == 2 and options.second_lrn:
            steps.append(("cnorm", {"type": "rnorm", "size": 5, "scale": 0.001 / 25, "pow": 0.75}))
        if pools:
            pool = {"type": "pool", "pool": "max", "sizeX": 3, "stride": 2, "start": 0}
            steps.insert(0 if options.pool_before_lrn else len(steps), ("pool", pool))
            size = -(-(size - 3) // 2) + 1
        if not last:
            activate(name)
        for step, values in steps:
            add(f"{step}{number}", own(), lambda _, values=values: dict(values))  # type: ignore[misc]
        if last:
            activate(name)

    factor = 1.0
    for name in ("fc6", "fc7", "fc8"):
        weight, bias = shapes[f"{name}.weight"] / np.float32(factor), shapes[f"{name}.bias"]
        if name == "fc6":  # rows channel by channel
            weight = weight.reshape(6, 6, 256, -1).transpose(2, 0, 1, 3).reshape(9216, -1)
        count = 1 if name == "fc8" else len(towers)
        inputs = [front[::-1] if tower == 1 else list(front) for tower in range(count)]

        def fc(tower: int) -> dict[str, Any]:
            share = slice(tower * bias.size // count, (tower + 1) * bias.size // count)
            parts = np.split(weight[:, share], len(inputs[tower]))
            parts = parts[::-1] if tower == 1 else parts
            return {
                "type": "fc",
                "weights": [np.asfortranarray(part) for part in parts],
                "biases": bias[share].reshape(1, -1),
            }

        add(name, inputs, fc)
        if name != "fc8":
            activate(name)
            if options.dropout:
                keep = 1 - options.dropout
                factor = 1.0 if dropout == "dropout" else keep
                add(f"hs{name}", own(), lambda _: {"type": dropout, "keep": keep, "enable": True})
    layers["probs"] = {"type": "softmax", "inputs": list(front)}
    layers["logprob"] = {"type": "cost.logreg", "inputs": ["labels", "probs"], "coeff": 1.0}
    for name, layer in layers.items():
        layer["name"] = name
        if "inputs" in layer:
            layer["inputLayers"] = [layers[each] for each in layer["inputs"]]
    outputs = [({"logprob": [1.5, 0.25]}, 128)]
    state = {"layers": layers, "epoch": 90, "batchnum": 1, "train_outputs": outputs, "test_outputs": []}
    return {"model_state": state, "op": Options2012()}


def as_list(whole: dict[str, Any]) -> dict[str, Any]:
    """As the first versions had it, where layers lead on from places in a list."""
    layers = whole["model_state"]["layers"]
    names = list(layers)
    several = [
        {name: value for name, value in layer.items() if name != "inputLayers"}
        | ({"inputs": [names.index(each) for each in layer["inputs"]]} if "inputs" in layer else {})
        for layer in layers.values()
    ]
    return {**whole, "model_state": {**whole["model_state"], "layers": several}}


def of_python_2(value: object) -> bytes:
    """A pickle of protocol 2 as Python 2 writes it: texts are bytes, objects of classic classes, NumPy of then."""
    memo: dict[int, int] = {}

    def text(content: bytes) -> bytes:
        if len(content) < 256:
            return pickle.SHORT_BINSTRING + bytes([len(content)]) + content
        return pickle.BINSTRING + struct.pack("<i", len(content)) + content

    def put(value: object) -> bytes:
        memo[id(value)] = len(memo)
        return pickle.LONG_BINPUT + struct.pack("<I", memo[id(value)])

    def array(values: npt.NDArray[Any]) -> bytes:
        columns_first = values.flags.f_contiguous and not values.flags.c_contiguous
        extents = b"".join(pickle.BININT + struct.pack("<i", extent) for extent in values.shape)
        dtype = b"cnumpy\ndtype\n" + text(values.dtype.str[1:].encode()) + b"K\x00K\x01\x87R"
        dtype += b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        flag = pickle.NEWTRUE if columns_first else pickle.NEWFALSE
        state = b"(K\x01(" + extents + b"t" + dtype + flag + text(values.tobytes(order="A")) + b"tb"
        return made + put(values) + state

    def write(value: object) -> bytes:
        if id(value) in memo and isinstance(value, dict | list | np.ndarray):
            return pickle.LONG_BINGET + struct.pack("<I", memo[id(value)])
        match value:
            case None:
                return pickle.NONE
            case bool():
                return pickle.NEWTRUE if value else pickle.NEWFALSE
            case int():
                return pickle.BININT + struct.pack("<i", value)
            case float():
                return pickle.BINFLOAT + struct.pack(">d", value)
            case str():
                return text(value.encode())
            case np.ndarray():
                return array(value)
            case tuple():
                return b"(" + b"".join(map(write, value)) + b"t"
            case list():
                return b"]" + put(value) + b"(" + b"".join(map(write, value)) + b"e"
            case dict():
                return b"}" + put(value) + b"(" + b"".join(write(k) + write(v) for k, v in value.items()) + b"u"
            case Options2012():
                option = b"(coptions\nOption\no}(" + text(b"parser") + b"coptions\nIntegerOptionParser\nub"
                return b"(coptions\nOptionsParser\no}" + text(b"options") + b"}" + text(b"a") + option + b"ssb"
        raise TypeError(type(value))

    return b"\x80\x02" + write(value) + b"."


def of_python_3(value: dict[str, Any], protocol: int) -> bytes:
    return pickle.dumps({**value, "op": None}, protocol)
