"""The same net in PyTorch, eager and fp32, as the benchmark's peer: each layer alone, and the whole training step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyalexnet.architecture import CONVOLUTIONS, LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE


def lrn(x: Tensor) -> Tensor:
    """LRN inside each tower; PyTorch divides alpha by the window's size."""
    towers = [
        functional.local_response_norm(tower, LRN_SIZE, LRN_ALPHA * LRN_SIZE, LRN_BETA, LRN_K)
        for tower in x.chunk(2, dim=1)
    ]
    return torch.cat(towers, dim=1)


def pool(x: Tensor) -> Tensor:
    """Overlapping max-pooling."""
    return functional.max_pool2d(x, 3, 2)


class TorchAlexNet:
    """Layers by the benchmark's row names, in order, and an SGD step over them."""

    def __init__(self, device: str, batch: int, classes: int, cores: int) -> None:
        """Make the layers with random weights, and a random batch."""
        self.on_gpu = device.startswith("cuda")
        self.device = torch.device(device if self.on_gpu else "cpu")
        if not self.on_gpu:
            torch.set_num_threads(cores)
        torch.backends.cudnn.allow_tf32 = False  # fp32 against fp32
        self.layers: dict[str, Callable[[Tensor], Tensor]] = {}
        modules = nn.ModuleDict()
        for layer in CONVOLUTIONS:
            groups = 1 if layer.sees_both else 2
            modules[layer.name] = nn.Sequential(
                nn.Conv2d(layer.channels, layer.filters, layer.kernel, layer.stride, layer.padding, groups=groups),
                nn.ReLU(),
            )
            self.layers[layer.name] = modules[layer.name]
            if layer.lrn:
                self.layers[f"lrn{layer.name[-1]}"] = lrn
            if layer.pool:
                self.layers[f"pool{layer.name[-1]}"] = pool
        for number, (inputs, outputs) in {6: (9216, 4096), 7: (4096, 4096)}.items():
            modules[f"fc{number}"] = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs), nn.ReLU())
            modules[f"dropout{number}"] = nn.Dropout(0.5)
            for name in (f"fc{number}", f"dropout{number}"):
                self.layers[name] = modules[name]
        modules["fc8"] = nn.Linear(4096, classes)
        self.layers["fc8"] = modules["fc8"]
        modules.to(self.device)
        self.optimizer = torch.optim.SGD(modules.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
        self.parameters = {name: list(module.parameters()) for name, module in modules.items()}
        self.x = torch.randn(batch, 3, 227, 227, device=self.device)
        self.labels = torch.randint(classes, (batch,), device=self.device)
        self.inputs: dict[str, Tensor] = {}
        with torch.no_grad():
            h = self.x
            for name, layer_function in self.layers.items():
                self.inputs[name] = h
                h = layer_function(h)
        self.inputs["loss"] = h

    def time_layer(self, name: str, direction: str, repeats: int) -> float | None:
        """Median milliseconds of a row, or None where PyTorch has no such step."""
        if name == "update":
            for group in self.parameters.values():
                for parameter in group:
                    parameter.grad = torch.zeros_like(parameter)
            return self._median(lambda: self._elapsed_ms(self.optimizer.step), repeats)
        function: Callable[[Tensor], Tensor]
        if name == "loss":
            function = self._loss
        elif name in self.layers:
            function = self.layers[name]
        else:
            return None
        x = self.inputs[name].clone().requires_grad_(name != "conv1")
        if name == "loss":  # ours computes the loss and its gradient at once, as backward
            return self._median(lambda: self._elapsed_ms(lambda: function(x).backward()), repeats)
        if direction == "forward":
            return self._median(lambda: self._elapsed_ms(lambda: function(x)), repeats)
        wanted = [*self.parameters.get(name, []), *([x] if x.requires_grad else [])]

        def backward_ms() -> float:
            y = function(x)
            dy = torch.ones_like(y)
            return self._elapsed_ms(lambda: torch.autograd.grad(y, wanted, dy))

        return self._median(backward_ms, repeats)

    def time_step(self) -> float:
        """Milliseconds of one whole training step."""

        def step() -> float:
            self.optimizer.zero_grad()
            h = self.x
            for layer in self.layers.values():
                h = layer(h)
            loss = self._loss(h)
            loss.backward()
            self.optimizer.step()
            return float(loss.item())

        return self._elapsed_ms(step)

    def _loss(self, logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, self.labels)

    def _elapsed_ms(self, work: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return (time.perf_counter() - start) * 1e3

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    @staticmethod
    def _median(measure: Callable[[], float], repeats: int) -> float:
        measure()
        return statistics.median(measure() for _ in range(repeats))
