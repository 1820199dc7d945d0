"""A net as a PyTorch module that computes on this package's kernels, and PyTorch's autograd goes back through it.

    module = AlexNetModule("run").eval()
    x = module.prepared(images).requires_grad_()  # uint8 (N, 3, 256, 256), RGB
    module(x)[:, 3].sum().backward()
    x.grad  # how the score of class 3 changes with each pixel

Each step of the net is a submodule under the name that :meth:`pyalexnet.AlexNet.features` has for it, and gives what
that gives, channels first: libraries that take activations and their gradients by forward hooks find them there. The
state dict is the one that ``pyalexnet convert`` writes and :func:`pyalexnet.load_model` reads.

Tensors of the host are computed on ``cpu:0``, those of a GPU there. Images are channels first for PyTorch's users, and
lie in memory as the kernels take them (``torch.channels_last``), so nothing is moved from one layer to the next.
Weights likewise have PyTorch's shapes over this package's order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import pyalexnet.ops as ops
from pyalexnet.architecture import (
    SECOND_LRN,
    TOWERS,
    Conv,
    Linear,
    LrnArguments,
    Options,
    PoolArguments,
    layers,
)
from pyalexnet.device.tensor import Tensor as DeviceTensor
from pyalexnet.formats.content import Content, channels_first
from pyalexnet.formats.conversion import content_of, read
from pyalexnet.net.classifier import Classifier
from pyalexnet.system.checks import as_path, shown
from pyalexnet.system.extras import importing_extra

with importing_extra():
    import torch
    from torch import Tensor, nn

    from pyalexnet.formats.torch_module import Described

_MOST_SEED = 2**63 - 1


class AlexNetModule(Described):
    """A trained net for PyTorch, on this package's kernels.

    Parameters, gradients and hooks are PyTorch's own. Gradients flow to the parameters and to the input, once: a
    gradient of a gradient is refused. In training mode, as a new module is, fc6 and fc7 have dropout, which PyTorch's
    generator draws: ``torch.manual_seed`` makes it repeatable.
    """

    def __init__(self, model: Classifier | str | PathLike[str]) -> None:
        """Copy a model.

        Args:
            model: a classifier, a run's folder, or a file that :func:`pyalexnet.load_model` opens without being told
                more.

        Raises:
            TypeError: it is something else.
            ValueError: another program's file has no mean image.
            OSError: the file cannot be read; FileNotFoundError where there is none.
            ModelFileError: it is no model, of a net that this package does not compute, or damaged.
        """
        content = _content(model)
        super().__init__(json.loads(content.description()))
        assert content.mean is not None
        self.mean.copy_(torch.from_numpy(np.array(content.mean)).permute(2, 0, 1))
        parameters = channels_first(content.parameters)
        for layer in layers(content.num_classes, 1, content.options.towers, content.options.filters):
            weight, bias = parameters[f"{layer.name}.weight"], parameters[f"{layer.name}.bias"]
            for name, module in _modules(layer, weight, bias, content.options).items():
                self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Logits.

        Args:
            x: float32 (N, 3, 227, 227), RGB less the mean, or of 224 where the model's crops are; see :meth:`prepared`.

        Returns:
            float32 (N, classes), on x's device.

        Raises:
            TypeError: ``x`` is not of float32.
            ValueError: it has another shape, or lies elsewhere than the parameters.
        """
        self._require_images(x, self.options["crop"])
        x = self.framed(x)
        for module in self.children():
            x = module(x)
        return x

    def _require_images(self, x: Tensor, size: int) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"x is {shown(x)}; it must be a PyTorch tensor")
        if x.dtype != torch.float32:
            raise TypeError(f"x has dtype {x.dtype}; it must be float32")
        shape = tuple(x.shape)
        if x.ndim != 4 or shape[1:] != (3, size, size):
            raise ValueError(f"x has shape {shape}; it must be (N, 3, {size}, {size}), as prepared() gives it")
        if not len(x):
            raise ValueError(f"x has shape {shape}; it must not be empty")
        if x.device != self.mean.device:
            raise ValueError(f"x is on {x.device}; it must be on {self.mean.device}, as the parameters are")


def _content(model: Classifier | str | PathLike[str]) -> Content:
    if isinstance(model, Classifier):
        return content_of(model)
    return read(as_path("model", model), mean=None, classes=None, colours=None, prototxt=None)


def _modules(
    layer: Conv | Linear, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], options: Options
) -> dict[str, nn.Module]:
    """What a layer consists of, in order and by name."""
    number = layer.name[-1]
    if isinstance(layer, Linear):
        found: dict[str, nn.Module] = {layer.name: _Linear(weight, bias, options, hidden=layer.hidden)}
        return found | ({f"dropout{number}": _Dropout(options.dropout)} if layer.hidden else {})
    relu_last = options.relu1_last and layer.name == "conv1"
    found = {layer.name: _Conv(weight, bias, layer, options, activated=not relu_last)}
    steps: dict[str, nn.Module] = {
        "lrn": _Lrn(options.lrn_arguments, parts=TOWERS if options.computed_as[0] == TOWERS else 1),
        "lrn_in_map": _LrnInMap(),
        "pool": _Pool(options.pool_arguments),
    }
    found |= {f"{step}{number}": steps[step] for step in options.steps_after(layer)}
    if relu_last:
        last = next(reversed(found))
        found[last] = nn.Sequential(found[last], _Activation("relu"))
    return found


# Modules: channels first ------------------------------------------------------------------------------------------


class _Conv(nn.Module):
    """A convolution and its nonlinearity."""

    def __init__(
        self,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        layer: Conv,
        options: Options,
        *,
        activated: bool,
    ) -> None:
        super().__init__()
        hwio = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
        self.weight = nn.Parameter(torch.from_numpy(hwio).permute(3, 2, 0, 1))
        self.bias = nn.Parameter(torch.from_numpy(bias))
        self.activation = options.activation if activated else ""
        algorithm = options.conv_algorithm_of(layer)
        self.how = {
            "stride": layer.stride,
            "padding": layer.padding,
            "groups": layer.groups,
            "precision": options.precision,
            "algorithm": None if algorithm == "auto" else algorithm,
        }

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight.permute(2, 3, 1, 0)
        return _first(_product(_CONV, _last(x), w, self.bias, self.how, self.activation))


class _Linear(nn.Module):
    """A fully connected layer and its nonlinearity; it takes what it is given as one row an image."""

    def __init__(
        self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], options: Options, *, hidden: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight.T)).t())
        self.bias = nn.Parameter(torch.from_numpy(bias))
        self.activation = options.activation if hidden else ""
        self.how = {"precision": options.precision}

    def forward(self, x: Tensor) -> Tensor:
        return _product(_LINEAR, x.flatten(1), self.weight.t(), self.bias, self.how, self.activation)


class _Activation(nn.Module):
    """The nonlinearity where it is a step of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _first(_activation(_last(x), self.name))


class _Lrn(nn.Module):
    """Normalisation across channels, those of each tower by themselves."""

    def __init__(self, numbers: LrnArguments, *, parts: int) -> None:
        super().__init__()
        self.numbers, self.parts = numbers, parts

    def forward(self, x: Tensor) -> Tensor:
        images = _last(x)
        rows = images.unflatten(3, (self.parts, -1))  # a window ends with its row
        return _first(_step(rows, ops.lrn, ops.lrn_backward, "x", self.numbers).flatten(3))


class _LrnInMap(nn.Module):
    """Normalisation within maps."""

    def forward(self, x: Tensor) -> Tensor:
        return _first(_step(_last(x), ops.lrn_in_map, ops.lrn_in_map_backward, "x", SECOND_LRN))


class _Pool(nn.Module):
    """Max-pooling."""

    def __init__(self, windows: PoolArguments) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, x: Tensor) -> Tensor:
        return _first(_step(_last(x), ops.max_pool2d, ops.max_pool2d_backward, "x", self.windows))


class _Dropout(nn.Module):
    """Dropout in training, nothing else."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        draw = {"p": self.p, "seed": int(torch.randint(_MOST_SEED, ()))}
        return _step(x, ops.dropout, ops.dropout_backward, "nothing", draw)


def _last(x: Tensor) -> Tensor:
    """Images with their channels last, a view."""
    return x.permute(0, 2, 3, 1)


def _first(x: Tensor) -> Tensor:
    """Images with their channels first, a view."""
    return x.permute(0, 3, 1, 2)


# On the kernels: channels last ------------------------------------------------------------------------------------


class _Kernels(NamedTuple):
    """What computes a product, its gradient by x, given w, and those by w and b, given x."""

    forward: Callable[..., DeviceTensor]
    backward_input: Callable[..., DeviceTensor]
    backward_weight: Callable[..., tuple[DeviceTensor, DeviceTensor]]


_CONV = _Kernels(
    ops.conv2d,
    lambda dy, w, x, **how: ops.conv2d_backward_input(dy, w, tuple(x.shape), **how),
    lambda dy, w, x, **how: ops.conv2d_backward_weight(x, dy, tuple(w.shape[:2]), **how),
)
_LINEAR = _Kernels(
    ops.linear,
    lambda dy, w, _x, **how: ops.linear_backward_input(dy, w, **how),
    lambda dy, _w, x, **how: ops.linear_backward_weight(x, dy, **how),
)


def _product(kernels: _Kernels, x: Tensor, w: Tensor, b: Tensor, how: Mapping[str, Any], activation: str) -> Tensor:
    """A convolution or matrix product and its nonlinearity, if any; the ReLU comes with it."""
    y: Tensor = _Product.apply(x, w, b, kernels, how, activation == "relu")
    return _activation(y, activation) if activation == "tanh" else y


def _activation(x: Tensor, name: str) -> Tensor:
    if name == "tanh":
        return _step(x, ops.tanh, ops.tanh_backward, "y", {})
    return _step(x, ops.relu, ops.relu_backward, "y", {})


def _step(
    x: Tensor,
    forward: Callable[..., DeviceTensor | tuple[DeviceTensor, DeviceTensor]],
    backward: Callable[..., DeviceTensor],
    keeps: Literal["x", "y", "nothing"],
    numbers: Mapping[str, Any],
) -> Tensor:
    """What has one array and some numbers for its arguments.

    Args:
        x: the array.
        forward: gives y, and perhaps what its backward takes besides.
        backward: takes dy, what is kept, and what forward gave besides.
        keeps: which of the two is kept.
        numbers: what both take by name.
    """
    y: Tensor = _Step.apply(x, partial(forward, **numbers), partial(backward, **numbers), keeps)
    return y


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor, kernels: _Kernels, how: Mapping[str, Any], relu: bool
    ) -> Tensor:
        x, w = x.contiguous(), w.contiguous()
        y = _as_torch(kernels.forward(x, w, b, relu=relu, **how))
        ctx.kernels, ctx.how = kernels, how
        ctx.save_for_backward(x, w, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        _require_no_graph()
        x, w, y = ctx.saved_tensors
        dy, dx, dw, db = dy.contiguous(), None, None, None
        if y is not None:
            dy = _as_torch(ops.relu_backward(dy, y))
        if ctx.needs_input_grad[0]:
            dx = _as_torch(ctx.kernels.backward_input(dy, w, x, **ctx.how))
        if any(ctx.needs_input_grad[1:3]):
            dw, db = map(_as_torch, ctx.kernels.backward_weight(dy, w, x, **ctx.how))
        return dx, dw, db, None, None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[..., Any], backward: Callable[..., Any], keeps: str) -> Tensor:
        x = x.contiguous()
        result = forward(x)
        y, *besides = map(_as_torch, result if isinstance(result, tuple) else (result,))
        ctx.back = backward
        ctx.save_for_backward(*{"x": [x], "y": [y], "nothing": []}[keeps], *besides)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        _require_no_graph()
        return _as_torch(ctx.back(dy.contiguous(), *ctx.saved_tensors)), None, None, None


def _require_no_graph() -> None:
    """Refuse to be a part of what is differentiated again, where the gradient would count as a constant.

    Raises:
        RuntimeError: autograd keeps a graph of this backward pass.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "AlexNetModule computes no gradient of a gradient: create_graph is True; it must be False. "
            "pyalexnet.formats.torch_module has the same net of PyTorch's own layers, which does"
        )


def _as_torch(result: DeviceTensor) -> Tensor:
    """A kernel's result, the same memory."""
    return torch.from_dlpack(result)
