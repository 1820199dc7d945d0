"""AlexNet as it is written by hand for PyTorch, and its ONNX file by PyTorch's older exporter; needs PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exchange import Images, channels_first
from small import HIDDEN_UNITS


class PlainNet(nn.Module):
    """AlexNet as it is written by hand for PyTorch, with ``nn.LocalResponseNorm``."""

    def __init__(self, classes: int, lrn: Any) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(inplace=True), lrn, nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), lrn, nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(0.5), nn.Linear(256 * 6 * 6, HIDDEN_UNITS), nn.ReLU(inplace=True)),
            *(nn.Dropout(0.5), nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS), nn.ReLU(inplace=True)),
            nn.Linear(HIDDEN_UNITS, classes),
        )

    def forward(self, x: Any) -> Any:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), 256 * 6 * 6))


class PlainNetInTowers(PlainNet):
    """The same, normalised within towers."""

    def forward(self, x: Any) -> Any:
        for layer in self.features:
            is_lrn = isinstance(layer, nn.LocalResponseNorm)
            x = torch.cat([layer(part) for part in x.split(x.shape[1] // 2, dim=1)], dim=1) if is_lrn else layer(x)
        return self.classifier(torch.flatten(x, 1))


def plain_net(kind: type[PlainNet], *, k: float = 2.0) -> Any:
    """A net of random weights whose logits are of usual size."""
    torch.manual_seed(3)
    net = kind(7, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=k))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return net.eval()


def export(net: Any, x: Images, path: Path, *, opset: int = 17, any_number: bool = True, **how: Any) -> Path:
    """A graph of PyTorch's older exporter."""
    images = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}} if any_number else {}
    given = (torch.from_numpy(channels_first(x)),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age, of folding, of training mode
        torch.onnx.export(net, given, path, dynamo=False, opset_version=opset, **images, **how)
    return path
