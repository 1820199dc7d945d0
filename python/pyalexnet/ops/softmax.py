"""Softmax, and the cross-entropy loss with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyalexnet.ops._arguments import common_device, empty, to_device
from pyalexnet.tensor import Tensor


def softmax(x: Any, *, device: str | None = None) -> Tensor:
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
    on = common_device(device, x=x)
    x = to_device("x", x, on)
    y = empty(x.shape, on)
    on.native.softmax_forward(y.array, x.array, on.stream)
    on.stream.synchronize()
    return y


def cross_entropy(logits: Any, labels: Any, *, device: str | None = None) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: each row's loss -log softmax(logits)[label], and the mean's gradient.

    Args:
        logits: float32 array (rows, columns).
        labels: int32 array (rows,), each from 0 to columns - 1.
        device: where to compute when neither array is on a device yet.

    Returns:
        losses: Tensor (rows,), in nats.
        dlogits: Tensor (rows, columns), the gradient of the mean of the losses: (softmax - one-hot) / rows.

    Raises:
        TypeError: ``logits`` is not a float32 array or ``labels`` not an int32 array.
        ValueError: an array is empty or of the wrong shape, a label is not a column, or the devices differ.
    """
    on = common_device(device, logits=logits, labels=labels)
    logits, labels = to_device("logits", logits, on), to_device("labels", labels, on, dtype="int32")
    losses, dlogits = empty(logits.shape[:1], on), empty(logits.shape, on)
    on.native.cross_entropy(losses.array, dlogits.array, logits.array, labels.array, on.stream)
    on.stream.synchronize()
    _check_labels(labels, logits.shape[1])
    return losses, dlogits


def _check_labels(labels: Tensor, columns: int) -> None:
    """The kernel turned the rows of impossible labels into NaN; here they become an error with a name."""
    values = labels.numpy()
    wrong = np.flatnonzero((values < 0) | (values >= columns))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] is {values[wrong[0]]}; it must be from 0 to {columns - 1}")
