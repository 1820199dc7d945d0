"""The fully connected layer and its gradients."""

from __future__ import annotations

from pyalexnet.architecture import Precision
from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty, workspace
from pyalexnet.ops.algorithms import product_choice
from pyalexnet.system.checks import flag


def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    relu: bool = False,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
) -> Tensor:
    """X · w + b, the fully connected layer.

    Args:
        x: float32 (batch, inputs).
        w: float32 (inputs, outputs).
        b: float32 (outputs,), or None for no bias.
        relu: whether max(·, 0) follows.
        device: where to compute when no argument is on a device yet.
        algorithm: one of :func:`pyalexnet.ops.product_algorithms`; by default the one that suits the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensor (batch, outputs).

    Raises:
        TypeError: an array is not of float32, or ``algorithm`` or ``precision`` no
            text.
        ValueError: the shapes do not fit together, an array is empty, they lie on different devices, or there is no
            such algorithm or precision on the device.
    """
    rows = Argument.of("x", x, shape=("batch", "inputs"))
    weights = Argument.of("w", w, shape=(rows.shape[1], "outputs"))
    bias = None if b is None else Argument.of("b", b, shape=weights.shape[1:])
    on = common_device(device, rows, weights, bias)
    relu = flag("relu", relu)
    plan = on.native.linear_forward_plan(
        x=rows, w=weights, **product_choice(algorithm, precision, on, on.native.product_algorithms)
    )
    y, memory = empty((rows.shape[0], weights.shape[1]), on), workspace(plan.workspace_bytes, on)
    added = None if bias is None else bias.native(on)
    on.native.linear_forward(plan, y.array, rows.native(on), weights.native(on), added, relu, memory.array, on.stream)
    on.stream.synchronize()
    return y


def linear_backward_input(
    dy: ArrayLike,
    w: ArrayLike,
    *,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
) -> Tensor:
    """The gradient of :func:`linear` (without ReLU) by its input: dy · wᵀ.

    Args:
        dy: float32 (batch, outputs), the loss's gradient by the layer's output.
        w: float32 (inputs, outputs).
        device: where to compute when no argument is on a device yet.
        algorithm: one of :func:`pyalexnet.ops.product_algorithms`; by default the one that suits the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensor (batch, inputs).

    Raises:
        TypeError: an array is not of float32, or ``algorithm`` or ``precision`` no
            text.
        ValueError: the shapes do not fit together, an array is empty, they lie on different devices, or there is no
            such algorithm or precision on the device.
    """
    weights = Argument.of("w", w, shape=("inputs", "outputs"))
    gradient = Argument.of("dy", dy, shape=("batch", weights.shape[1]))
    on = common_device(device, gradient, weights)
    dx = empty((gradient.shape[0], weights.shape[0]), on)
    plan = on.native.linear_backward_input_plan(
        dx=dx, w=weights, **product_choice(algorithm, precision, on, on.native.product_algorithms)
    )
    memory = workspace(plan.workspace_bytes, on)
    on.native.linear_backward_input(plan, dx.array, gradient.native(on), weights.native(on), memory.array, on.stream)
    on.stream.synchronize()
    return dx


def linear_backward_weight(
    x: ArrayLike,
    dy: ArrayLike,
    *,
    device: str | None = None,
    algorithm: str | None = None,
    precision: Precision = "fp32",
) -> tuple[Tensor, Tensor]:
    """The gradients of :func:`linear` (without ReLU) by its weights, xᵀ · dy, and its bias, the sum of dy's rows.

    Args:
        x: float32 (batch, inputs), the layer's input.
        dy: float32 (batch, outputs), the loss's gradient by the layer's output.
        device: where to compute when no argument is on a device yet.
        algorithm: one of :func:`pyalexnet.ops.product_algorithms`; by default the one that suits the shape.
        precision: what products round their operands to, ``fp32``, ``tf32``, ``bf16`` or ``tf32x3``; see
            :class:`pyalexnet.Options`.

    Returns:
        Tensors dw (inputs, outputs) and db (outputs,).

    Raises:
        TypeError: an array is not of float32, or ``algorithm`` or ``precision`` no
            text.
        ValueError: the shapes do not fit together, an array is empty, they lie on different devices, or there is no
            such algorithm or precision on the device.
    """
    rows = Argument.of("x", x, shape=("batch", "inputs"))
    gradient = Argument.of("dy", dy, shape=(rows.shape[0], "outputs"))
    on = common_device(device, rows, gradient)
    dw, db = empty((rows.shape[1], gradient.shape[1]), on), empty(gradient.shape[1:], on)
    plan = on.native.linear_backward_weight_plan(
        x=rows, dw=dw, **product_choice(algorithm, precision, on, on.native.product_algorithms)
    )
    memory = workspace(plan.workspace_bytes, on)
    on.native.linear_backward_weight(
        plan, dw.array, db.array, rows.native(on), gradient.native(on), memory.array, on.stream
    )
    on.stream.synchronize()
    return dw, db
