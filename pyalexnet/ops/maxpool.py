"""Max pooling over overlapping windows, and its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty
from pyalexnet.system.checks import bounded, flag

_IMAGES = ("images", "height", "width", "channels")


def max_pool2d(
    x: ArrayLike, *, kernel: int = 3, stride: int = 2, padding: int = 0, device: str | None = None
) -> Tensor:
    """The maximum of each window of kernel × kernel pixels (Krizhevsky et al. 2012, section 3.4).

    Padding never wins: a window is what of it lies inside of the image. A window with a NaN gives NaN.

    Args:
        x: float32 array (images, height, width, channels).
        kernel: height and width of a window.
        stride: pixels from one window to the next.
        padding: pixels by which windows may reach over each edge, fewer than ``kernel``, so that each holds a pixel.
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor (images, (height + 2 · padding - kernel) // stride + 1, width alike, channels).

    Raises:
        TypeError: ``x`` is not a float32 array, or a number is not an integer.
        ValueError: ``x`` is empty or has not four axes, a number is out of range, or the kernel is larger
            than the padded image.
    """
    images = Argument.of("x", x, shape=_IMAGES)
    on = common_device(device, images)
    windows = _windows(kernel, stride, padding)
    y = empty(tuple(on.native.maxpool_output_shape(images.shape, *windows)), on)
    on.native.maxpool_forward(y.array, images.native(on), *windows, on.stream)
    on.stream.synchronize()
    return y


def max_pool2d_backward(
    dy: ArrayLike,
    x: ArrayLike,
    *,
    kernel: int = 3,
    stride: int = 2,
    padding: int = 0,
    x_from_relu: bool = False,
    device: str | None = None,
) -> Tensor:
    """The gradient of :func:`max_pool2d` by its input.

    A window's gradient goes to its maximum; among equals to the first in row-major order, and with NaNs to
    the first NaN.

    Args:
        dy: float32 array of the shape that :func:`max_pool2d` returns, the loss's gradient by it.
        x: float32 array (images, height, width, channels), what :func:`max_pool2d` was given.
        kernel: as given to :func:`max_pool2d`, like ``stride`` and ``padding``.
        stride: see ``kernel``.
        padding: see ``kernel``.
        x_from_relu: whether ``x`` came out of a ReLU and the gradient by that ReLU's input is wanted: 0 where x is not
            positive.
        device: where to compute when neither array is on a device yet.

    Returns:
        Tensor of x's shape.

    Raises:
        TypeError: an array is not of float32, or a number is not an integer.
        ValueError: an array is empty or of the wrong shape, a number is out of range, or the devices differ.
    """
    images, gradient = Argument.of("x", x, shape=_IMAGES), Argument.of("dy", dy)
    on = common_device(device, gradient, images)
    windows, x_from_relu = _windows(kernel, stride, padding), flag("x_from_relu", x_from_relu)
    gradient.require_shape(*on.native.maxpool_output_shape(images.shape, *windows))
    dx = empty(images.shape, on)
    on.native.maxpool_backward(dx.array, gradient.native(on), images.native(on), *windows, x_from_relu, on.stream)
    on.stream.synchronize()
    return dx


def _windows(kernel: int, stride: int, padding: int) -> tuple[int, int, int]:
    return bounded("kernel", kernel), bounded("stride", stride), bounded("padding", padding)
