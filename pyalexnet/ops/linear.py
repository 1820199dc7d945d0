"""The fully connected layer and its gradients."""

from __future__ import annotations

from typing import Any

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, workspace
from pyalexnet.system.checks import flag


def linear(x: Any, w: Any, b: Any = None, *, relu: bool = False, device: str | None = None) -> Tensor:
    """X · w + b, the fully connected layer.

    Args:
        x: float32 (batch, inputs).
        w: float32 (inputs, outputs).
        b: float32 (outputs,), or None for no bias.
        relu: whether max(·, 0) follows.
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensor (batch, outputs).

    Raises:
        TypeError: an argument is not a float32 array.
        ValueError: the shapes do not fit together, an array is empty, or they lie on different devices.
    """
    x = Argument.of("x", x, shape=("batch", "inputs"))
    w = Argument.of("w", w, shape=(x.shape[1], "outputs"))
    b = None if b is None else Argument.of("b", b, shape=w.shape[1:])
    on = common_device(device, x, w, b)
    relu = flag("relu", relu)
    needed = on.native.linear_forward_workspace_bytes(x=x, w=w)
    y, memory = empty((x.shape[0], w.shape[1]), on), workspace(needed, on)
    bias = None if b is None else b.native(on)
    on.native.linear_forward(y.array, x.native(on), w.native(on), bias, relu, memory.array, on.stream)
    on.stream.synchronize()
    return y


def linear_backward_input(dy: Any, w: Any, *, device: str | None = None) -> Tensor:
    """The gradient of :func:`linear` (without ReLU) by its input: dy · wᵀ.

    Args:
        dy: float32 (batch, outputs), the loss's gradient by the layer's output.
        w: float32 (inputs, outputs).
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensor (batch, inputs).

    Raises:
        TypeError: an argument is not a float32 array.
        ValueError: the shapes do not fit together, an array is empty, or they lie on different devices.
    """
    w = Argument.of("w", w, shape=("inputs", "outputs"))
    dy = Argument.of("dy", dy, shape=("batch", w.shape[1]))
    on = common_device(device, dy, w)
    dx = empty((dy.shape[0], w.shape[0]), on)
    memory = workspace(on.native.linear_backward_input_workspace_bytes(dx=dx, w=w), on)
    on.native.linear_backward_input(dx.array, dy.native(on), w.native(on), memory.array, on.stream)
    on.stream.synchronize()
    return dx


def linear_backward_weight(x: Any, dy: Any, *, device: str | None = None) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`linear` (without ReLU) by its weights, xᵀ · dy, and its bias, the sum of dy's rows.

    Args:
        x: float32 (batch, inputs), the layer's input.
        dy: float32 (batch, outputs), the loss's gradient by the layer's output.
        device: where to compute when no argument is on a device yet.

    Returns:
        Tensors dw (inputs, outputs) and db (outputs,).

    Raises:
        TypeError: an argument is not a float32 array.
        ValueError: the shapes do not fit together, an array is empty, or they lie on different devices.
    """
    x = Argument.of("x", x, shape=("batch", "inputs"))
    dy = Argument.of("dy", dy, shape=(x.shape[0], "outputs"))
    on = common_device(device, x, dy)
    dw, db = empty((x.shape[1], dy.shape[1]), on), empty(dy.shape[1:], on)
    memory = workspace(on.native.linear_backward_weight_workspace_bytes(x=x, dw=dw), on)
    on.native.linear_backward_weight(dw.array, db.array, x.native(on), dy.native(on), memory.array, on.stream)
    on.stream.synchronize()
    return dw, db
