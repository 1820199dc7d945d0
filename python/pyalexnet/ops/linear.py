"""The fully connected layer and its gradients."""

from __future__ import annotations

from typing import Any

from pyalexnet.ops._arguments import common_device, empty, require_ndim, to_device, workspace
from pyalexnet.tensor import Tensor


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
    arrays = {"x": x, "w": w} | ({} if b is None else {"b": b})
    on = common_device(device, **arrays)
    x, w = to_device("x", x, on), to_device("w", w, on)
    bias = None if b is None else to_device("b", b, on).array
    require_ndim(2, x=x, w=w)
    y = empty((x.shape[0], w.shape[1]), on)
    memory = workspace(on.native.linear_forward_workspace_bytes(*x.shape, w.shape[1]), on)
    on.native.linear_forward(y.array, x.array, w.array, bias, relu, memory.array, on.stream)
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
    on = common_device(device, dy=dy, w=w)
    dy, w = to_device("dy", dy, on), to_device("w", w, on)
    require_ndim(2, dy=dy, w=w)
    dx = empty((dy.shape[0], w.shape[0]), on)
    memory = workspace(on.native.linear_backward_input_workspace_bytes(*dx.shape, w.shape[1]), on)
    on.native.linear_backward_input(dx.array, dy.array, w.array, memory.array, on.stream)
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
    on = common_device(device, x=x, dy=dy)
    x, dy = to_device("x", x, on), to_device("dy", dy, on)
    require_ndim(2, x=x, dy=dy)
    dw, db = empty((x.shape[1], dy.shape[1]), on), empty(dy.shape[1:], on)
    memory = workspace(on.native.linear_backward_weight_workspace_bytes(*x.shape, dy.shape[1]), on)
    on.native.linear_backward_weight(dw.array, db.array, x.array, dy.array, memory.array, on.stream)
    on.stream.synchronize()
    return dw, db
