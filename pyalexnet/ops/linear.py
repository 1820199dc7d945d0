"""The fully connected layer and its gradients."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, workspace
from pyalexnet.system.checks import flag


def linear(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, relu: bool = False, device: str | None = None
) -> Tensor:
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
    rows = Argument.of("x", x, shape=("batch", "inputs"))
    weights = Argument.of("w", w, shape=(rows.shape[1], "outputs"))
    bias = None if b is None else Argument.of("b", b, shape=weights.shape[1:])
    on = common_device(device, rows, weights, bias)
    relu = flag("relu", relu)
    needed = on.native.linear_forward_workspace_bytes(x=rows, w=weights)
    y, memory = empty((rows.shape[0], weights.shape[1]), on), workspace(needed, on)
    added = None if bias is None else bias.native(on)
    on.native.linear_forward(y.array, rows.native(on), weights.native(on), added, relu, memory.array, on.stream)
    on.stream.synchronize()
    return y


def linear_backward_input(dy: ArrayLike, w: ArrayLike, *, device: str | None = None) -> Tensor:
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
    weights = Argument.of("w", w, shape=("inputs", "outputs"))
    gradient = Argument.of("dy", dy, shape=("batch", weights.shape[1]))
    on = common_device(device, gradient, weights)
    dx = empty((gradient.shape[0], weights.shape[0]), on)
    memory = workspace(on.native.linear_backward_input_workspace_bytes(dx=dx, w=weights), on)
    on.native.linear_backward_input(dx.array, gradient.native(on), weights.native(on), memory.array, on.stream)
    on.stream.synchronize()
    return dx


def linear_backward_weight(x: ArrayLike, dy: ArrayLike, *, device: str | None = None) -> tuple[Tensor, Tensor]:
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
    rows = Argument.of("x", x, shape=("batch", "inputs"))
    gradient = Argument.of("dy", dy, shape=(rows.shape[0], "outputs"))
    on = common_device(device, rows, gradient)
    dw, db = empty((rows.shape[1], gradient.shape[1]), on), empty(gradient.shape[1:], on)
    memory = workspace(on.native.linear_backward_weight_workspace_bytes(x=rows, dw=dw), on)
    on.native.linear_backward_weight(dw.array, db.array, rows.native(on), gradient.native(on), memory.array, on.stream)
    on.stream.synchronize()
    return dw, db
