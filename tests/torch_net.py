"""The net in PyTorch, for the tests of what goes forward and back through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.net.network import AlexNet


class TorchNet:
    """The net in PyTorch and float64, written down once more.

    Where rounding decides which of two values is the greater, or whether one is above zero, it decides as a step of
    ``net`` did, if that is asked for: one maximum of another place would change gradients by more than all rounding.
    """

    def __init__(self, torch: Any, net: AlexNet, *, decide_as_last_step: bool = False) -> None:
        self.torch, self.functional = torch, torch.nn.functional
        self.net, self.options = net, net.options
        self.decided = decide_as_last_step
        self.weights = {
            name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for name, value in net.parameters().items()
        }

    def logits(self, x: npt.NDArray[np.float32], masks: Mapping[str, Any] | None = None) -> Any:
        """Of x (N, 227, 227, 3); masks multiply fc6 and fc7."""
        towers, options = self.options.towers, self.options
        h = self.torch.tensor(x, dtype=self.torch.float64).permute(0, 3, 1, 2)
        h = self.conv("conv1", h, stride=4)
        h = self.act("conv1", self.norm_pool("conv1", h) if options.relu1_last else h)
        h = h if options.relu1_last else self.norm_pool("conv1", h)
        h = self.norm_pool("conv2", self.act("conv2", self.conv("conv2", h, padding=2, groups=towers)))
        h = self.act("conv3", self.conv("conv3", h, padding=1))
        h = self.act("conv4", self.conv("conv4", h, padding=1, groups=towers))
        h = self.pool("conv5", self.act("conv5", self.conv("conv5", h, padding=1, groups=towers)))
        h = h.permute(0, 2, 3, 1).flatten(1)
        for name in ("fc6", "fc7"):
            h = self.act(name, self.linear(name, h)) * (masks or {}).get(name, 1)
        return self.linear("fc8", h)

    def conv(self, name: str, h: Any, **geometry: Any) -> Any:
        kernel = self.weights[f"{name}.weight"].permute(3, 2, 0, 1)
        return self.functional.conv2d(h, kernel, self.weights[f"{name}.bias"], **geometry)

    def linear(self, name: str, h: Any) -> Any:
        return h @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def act(self, name: str, h: Any) -> Any:
        if self.options.activation == "tanh":
            return self.torch.tanh(h)
        if not self.decided:
            return self.functional.relu(h)
        last = self.options.relu1_last and name == "conv1"
        return h * (self.ours(f"{name}.{'out' if last else 'y'}") > 0)

    def norm_pool(self, name: str, h: Any) -> Any:
        if self.options.pool_before_lrn:
            return self.norm(name, self.pool(name, h))
        return self.pool(name, self.norm(name, h))

    def norm(self, name: str, h: Any) -> Any:
        h = self.lrn(h)
        if not (self.options.second_lrn and name == "conv2"):
            return h
        sums = 25 * self.functional.avg_pool2d(h**2, 5, 1, 2)
        return h / (1 + 0.001 / 25 * sums) ** 0.75

    def lrn(self, h: Any) -> Any:
        # PyTorch divides alpha by the window's size.
        alpha = 1e-4 * (5 if self.options.lrn_alpha == "paper" else 1)
        towers = h.chunk(1 if self.options.lrn_over == "both" else self.options.towers, dim=1)
        normalised = [self.functional.local_response_norm(t, 5, alpha, 0.75, self.options.lrn_k) for t in towers]
        return self.torch.cat(normalised, dim=1) if self.options.lrn else h

    def pool(self, name: str, h: Any) -> Any:
        kernel = 3 if self.options.pooling == "overlapping" else 2
        if not self.decided:
            return self.functional.max_pool2d(h, kernel, 2)
        places = self.winners_of_step(name, h.shape[3])
        if places is None:
            _, places = self.functional.max_pool2d(self.ours(f"{name}.pool.x"), kernel, 2, return_indices=True)
        return h.flatten(2).gather(2, places.flatten(2)).view_as(places)

    def winners_of_step(self, name: str, width: int) -> Any:
        """Where in a map of that width the step found each maximum; None where it kept what it pooled instead."""
        try:
            number = self.ours(f"{name}.winners").long()
        except KeyError:
            return None
        number[number == 255] = 0  # none is above 0, and all are the same
        rows, columns = (2 * self.torch.arange(extent) for extent in number.shape[2:])
        return (rows[:, None] + number // 3) * width + columns + number % 3

    def ours(self, name: str) -> Any:
        """An array of the step, all towers, as PyTorch lays it out."""
        step = self.net.last_step()
        parts = [self.net.read(step.array(name, tower), tower) for tower in range(self.options.computed_as[0])]
        return self.torch.tensor(np.moveaxis(np.concatenate(parts, axis=-1), -1, 1))
