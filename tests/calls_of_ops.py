"""One good call of every public operation, from which the tests of what all have in common are generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet import ops


@dataclass(frozen=True)
class Call:
    """An operation with arguments that it takes.

    Attributes:
        name: the operation's.
        arrays: its array arguments, in their order.
        others: the other ones.
        id: what the call shows beside the operation's name.
    """

    name: str
    arrays: dict[str, Any]
    others: dict[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def operation(self) -> Callable[..., Any]:
        """The function."""
        return getattr(ops, self.name)  # type: ignore[no-any-return]

    def __call__(self, device: str, **changed: Any) -> Any:
        """Call it, with some arguments changed."""
        given = {"device": device, **self.others, **changed}
        arrays = [given.pop(name, value) for name, value in self.arrays.items()]
        return self.operation(*arrays, **given)

    def __str__(self) -> str:
        return f"{self.name}{'-' if self.variant else ''}{self.variant}"


def floats(*shape: int) -> Any:
    """Numbers around 0, the same in each run."""
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def _calls() -> list[Call]:
    x, image = floats(3, 40), floats(2, 7, 7, 8)
    conv = {"stride": 2, "padding": 1, "groups": 2}
    conv_arrays = {"x": image, "w": floats(3, 3, 4, 8), "b": floats(8)}
    windows = {"kernel": 3, "stride": 2, "padding": 0}
    padded = {"kernel": 2, "stride": 1, "padding": 1}
    norm = {"size": 5, "alpha": 0.3, "beta": 0.75, "k": 2.0}
    other_norm = {"size": 3, "alpha": 0.3, "beta": 0.5, "k": 2.0}
    draw = {"p": 0.25, "seed": 7, "offset": 3}
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 10, 3), dtype=np.uint8)
    crops = {
        "images_u8": pixels,
        "offsets": np.array([[0, 1], [2, 3]], np.int32),
        "flips": np.array([0, 1], np.uint8),
        "shifts": floats(2, 3),
        "mean": floats(9, 10, 3),
    }
    return [
        Call("conv2d", conv_arrays, {**conv, "relu": True}),
        Call("conv2d", {"x": image, "w": floats(3, 3, 8, 8), "b": None}, {"stride": 1}, "unpadded"),
        Call(
            "conv2d_backward_input",
            {"dy": floats(2, 4, 4, 8), "w": conv_arrays["w"]},
            {"input_shape": (2, 7, 7, 8), **conv},
        ),
        Call("conv2d_backward_weight", {"x": image, "dy": floats(2, 4, 4, 8)}, {"kernel_size": (3, 3), **conv}),
        Call("linear", {"x": x, "w": floats(40, 12), "b": floats(12)}, {"relu": True}),
        Call("linear_backward_input", {"dy": floats(3, 12), "w": floats(40, 12)}),
        Call("linear_backward_weight", {"x": x, "dy": floats(3, 12)}),
        Call("relu", {"x": x}),
        Call("relu_backward", {"dy": x, "y": floats(3, 40)[::-1].copy()}, {"scale": 2.0}),
        Call("tanh", {"x": x}),
        Call("tanh_backward", {"dy": x, "y": np.tanh(x)}),
        Call("lrn", {"x": image}, norm),
        Call("lrn", {"x": image}, other_norm, "other window"),
        Call("lrn_backward", {"dy": floats(2, 7, 7, 8)[::-1].copy(), "x": image}, {**norm, "x_from_relu": True}),
        Call("lrn_backward", {"dy": floats(2, 7, 7, 8)[::-1].copy(), "x": image}, other_norm, "other window"),
        Call("lrn_in_map", {"x": image}, norm),
        Call("lrn_in_map_backward", {"dy": image, "x": image, "scale": np.abs(image) + 2}, norm),
        Call("max_pool2d", {"x": image}, windows),
        Call("max_pool2d", {"x": image}, padded, "padded"),
        Call("max_pool2d_backward", {"dy": floats(2, 3, 3, 8), "x": image}, {**windows, "x_from_relu": True}),
        Call("max_pool2d_backward", {"dy": floats(2, 8, 8, 8), "x": image}, padded, "padded"),
        Call("dropout", {"x": x}, draw),
        Call("dropout_backward", {"dy": x}, draw),
        Call("softmax", {"x": x}),
        Call("cross_entropy", {"logits": x, "labels": np.array([0, 39, 7], np.int32)}),
        Call(
            "sgd_step",
            {"w": x, "v": floats(3, 40), "g": x[::-1].copy()},
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        ),
        Call("sgd_step", {"w": x, "v": floats(3, 40), "g": x[::-1].copy()}, {"lr": 5.0, "trust": 0.01}, "by norms"),
        Call("prepare_input", crops, {"crop": 6, "size": 8, "padding": 1, "deviation": (2.0, 3.0, 4.0), "scale": 0.5}),
        Call("prepare_input", {**crops, "mean": floats(3)}, {"crop": 6}, "one mean"),
    ]


CALLS = _calls()


def results(value: Any) -> list[npt.NDArray[Any]]:
    """What a call returned, as arrays of NumPy; of one that returns several, each."""
    return [np.array(part) for part in (value if isinstance(value, tuple) else (value,))]
