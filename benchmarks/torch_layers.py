"""The net in PyTorch, in float32, as the benchmark's peer: each layer alone, and the whole step, eager and compiled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyalexnet.architecture import CONVOLUTIONS, LRN_ALPHA, LRN_BETA, LRN_K, LRN_SIZE, Conv
from torch_ways import TORCH_WAYS


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


def device_for(name: str, cores: int, precision: str = "fp32") -> torch.device:
    """PyTorch's device of that name, which uses tensor cores in float32 where the precision is tf32 alone."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if name.startswith("cuda"):
        return torch.device(name)
    torch.set_num_threads(cores)
    return torch.device("cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """In bf16, how PyTorch's users compute in it; else nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def elapsed_ms(device: torch.device, work: Callable[[], Any]) -> float:
    """Milliseconds of some work, with nothing else under way on the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _device: None
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return (time.perf_counter() - start) * 1e3


def convolution(layer: Conv) -> nn.Conv2d:
    """A layer's convolution, its groups as the towers."""
    geometry = (layer.channels, layer.filters, layer.kernel, layer.stride, layer.padding)
    return nn.Conv2d(*geometry, groups=1 if layer.sees_both else 2)


def sgd(net: nn.Module) -> torch.optim.SGD:
    """The optimiser, fused into one pass over the parameters; the rate is so small that they hardly move."""
    return torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4, fused=True)


class TorchLayers:
    """Layers by the benchmark's row names, in order, each eager."""

    def __init__(self, device: str, batch: int, classes: int, cores: int, precision: str = "fp32") -> None:
        """Make the layers with random weights, and a random batch."""
        self.device = device_for(device, cores, precision)
        self.precision = precision
        self.layers: dict[str, Callable[[Tensor], Tensor]] = {}
        self.behind: dict[str, nn.Module] = {}  # what a row goes back through first, which has no row of its own there
        modules = nn.ModuleDict()
        for layer in CONVOLUTIONS:
            modules[layer.name] = nn.Sequential(convolution(layer), nn.ReLU())
            self.layers[layer.name] = modules[layer.name]
            if layer.lrn:
                self.layers[f"lrnpool{layer.name[-1]}"] = lambda h: pool(lrn(h))
            elif layer.pool:
                self.layers[f"pool{layer.name[-1]}"] = pool
        for number, (inputs, outputs) in {6: (9216, 4096), 7: (4096, 4096)}.items():
            modules[f"fc{number}"] = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs), nn.ReLU())
            modules[f"dropout{number}"] = nn.Dropout(0.5)
            for name in (f"fc{number}", f"dropout{number}"):
                self.layers[name] = modules[name]
            self.behind[f"fc{number}"] = modules[f"dropout{number}"]
        modules["fc8"] = nn.Linear(4096, classes)
        self.layers["fc8"] = modules["fc8"]
        modules.to(self.device)
        self.optimizer = sgd(modules)
        self.parameters = {name: list(module.parameters()) for name, module in modules.items()}
        self.x = torch.randn(batch, 3, 227, 227, device=self.device)
        self.labels = torch.randint(classes, (batch,), device=self.device)
        self.inputs: dict[str, Tensor] = {}
        with torch.no_grad(), autocast(self.device, precision):
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
        layer = self._loss if name == "loss" else self.layers.get(name)
        if layer is None:
            return None

        def function(x: Tensor) -> Tensor:
            with autocast(self.device, self.precision):
                return layer(x)

        x = self.inputs[name].clone().requires_grad_(name != "conv1")
        if name == "loss":  # ours computes the loss and its gradient at once, as backward
            return self._median(lambda: self._elapsed_ms(lambda: function(x).backward()), repeats)
        if direction == "forward":
            return self._median(lambda: self._elapsed_ms(lambda: function(x)), repeats)
        wanted = [*self.parameters.get(name, []), *([x] if x.requires_grad else [])]

        def backward_ms() -> float:
            y = function(x)
            if name in self.behind:
                y = self.behind[name](y)
            dy = torch.ones_like(y)
            return self._elapsed_ms(lambda: torch.autograd.grad(y, wanted, dy))

        return self._median(backward_ms, repeats)

    def _loss(self, logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, self.labels)

    def _elapsed_ms(self, work: Callable[[], Any]) -> float:
        return elapsed_ms(self.device, work)

    @staticmethod
    def _median(measure: Callable[[], float], repeats: int) -> float:
        measure()
        return statistics.median(measure() for _ in range(repeats))


class TorchStep:
    """A whole training step, from images on the device to the loss in host memory.

    LRN is one operation over all channels, where the net's is one a tower: the same work, in fewer and faster calls.
    """

    def __init__(self, way: str, device: str, batch: int, classes: int, cores: int, precision: str = "fp32") -> None:
        """Make the net and a random batch, and run steps until they are at speed.

        Raises:
            Exception: PyTorch cannot run this way here, such as compile without a compiler of its own.
        """
        memory_format, compiled = memory_format_of(way), TORCH_WAYS[way].compiled
        self.device = device_for(device, cores, precision)
        torch.backends.cudnn.benchmark = True
        net = whole_net(classes).to(self.device, memory_format=memory_format)
        x = torch.randn(batch, 3, 227, 227, device=self.device).contiguous(memory_format=memory_format)
        labels = torch.randint(classes, (batch,), device=self.device)
        optimizer = sgd(net)

        def loss_of_batch() -> Tensor:
            with autocast(self.device, precision):
                return functional.cross_entropy(net(x), labels)

        loss_function = torch.compile(loss_of_batch) if compiled else loss_of_batch

        def step() -> float:
            optimizer.zero_grad()
            loss = loss_function()
            loss.backward()
            optimizer.step()
            return float(loss.item())

        self._step = step
        for _ in range(3):
            self.time()

    def time(self) -> float:
        """Milliseconds of one step."""
        return elapsed_ms(self.device, self._step)


def memory_format_of(way: str) -> torch.memory_format:
    """How images and weights lie."""
    return torch.channels_last if TORCH_WAYS[way].channels_last else torch.contiguous_format


def whole_net(classes: int) -> nn.Sequential:
    """The net as a PyTorch user writes it."""
    modules: list[nn.Module] = []
    for layer in CONVOLUTIONS:
        modules += [convolution(layer), nn.ReLU()]
        if layer.lrn:
            modules.append(nn.LocalResponseNorm(LRN_SIZE, LRN_ALPHA * LRN_SIZE, LRN_BETA, LRN_K))
        if layer.pool:
            modules.append(nn.MaxPool2d(3, 2))
    modules.append(nn.Flatten())
    for inputs, outputs in ((9216, 4096), (4096, 4096)):
        modules += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*modules, nn.Linear(4096, classes))
