"""Softmax, and the cross-entropy loss with its gradient."""

from __future__ import annotations

from pyalexnet.device.arguments import INTEGERS, Argument, common_device
from pyalexnet.device.foreign import ArrayLike
from pyalexnet.device.tensor import Tensor
from pyalexnet.ops._memory import empty


def softmax(x: ArrayLike, *, device: str | None = None) -> Tensor:
    """exp(x) / Σ exp(x) over each row, without overflow (Krizhevsky et al. 2012, section 3.5).

    Args:
        x: float32 array (rows, columns).
        device: where to compute when ``x`` is not on a device yet.

    Returns:
        Tensor of x's shape, each row with the sum 1; NaN in rows with a NaN or an infinite maximum.

    Raises:
        TypeError: ``x`` is not a float32 array.
        ValueError: ``x`` is empty or has not two axes.
    """
    scores = Argument.of("x", x, shape=("rows", "columns"))
    on = common_device(device, scores)
    y = empty(scores.shape, on)
    on.native.softmax_forward(y.array, scores.native(on), on.stream)
    on.stream.synchronize()
    return y


def cross_entropy(logits: ArrayLike, labels: ArrayLike, *, device: str | None = None) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: each row's loss -log softmax(logits)[label], and the mean's gradient.

    Args:
        logits: float32 array (rows, columns).
        labels: array (rows,) of integers, each from 0 to columns - 1. They are checked in host memory, so labels on a
            GPU are read back first; int32 there is computed with as it is, other integers are narrowed.
        device: where to compute when neither array is on a device yet.

    Returns:
        losses: Tensor (rows,), in nats.
        dlogits: Tensor (rows, columns), the gradient of the mean of the losses: (softmax - one-hot) / rows.

    Raises:
        TypeError: ``logits`` is not a float32 array or ``labels`` not one of integers.
        ValueError: an array is empty or of the wrong shape, a label is not a column, or the devices differ.
    """
    scores = Argument.of("logits", logits, shape=("rows", "columns"))
    classes = Argument.of("labels", labels, INTEGERS, shape=scores.shape[:1])
    on = common_device(device, scores, classes)
    columns = classes.indices(on, scores.shape[1])
    losses, dlogits = empty(scores.shape[:1], on), empty(scores.shape, on)
    on.native.cross_entropy(losses.array, dlogits.array, scores.native(on), columns.array, on.stream)
    on.stream.synchronize()
    return losses, dlogits
