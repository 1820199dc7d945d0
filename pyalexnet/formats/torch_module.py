"""AlexNet as a PyTorch module, for weights that ``pyalexnet convert`` writes as ``.pth`` or ``.safetensors``.

The file needs PyTorch alone and can be copied to where the weights are used:

    net = load("alexnet.pth").eval()
    images = torch.randint(256, (8, 3, 256, 256), dtype=torch.uint8)  # RGB
    probabilities = net(net.prepared(images)).softmax(dim=1)
    net.classes[probabilities[0].argmax()]
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_IMAGENET_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_FILTERS = {
    ("2012", 2): (96, 256, 384, 384, 256),
    ("2012", 1): (48, 128, 192, 192, 256),
    ("2014", 1): (64, 192, 384, 256, 256),
}


class Described(nn.Module):
    """What a state dict holds beside a net's weights, and what becomes of images.

    Attributes:
        about: ``classes``, ``num_classes``, ``options`` and ``step`` of the model, which state dicts have as JSON.
        classes: names of the outputs, from the first on.
        options: the net's; see ``pyalexnet.Options``.
        mean: float32 (3, 256, 256), RGB, subtracted from images before the net sees them.
    """

    mean: Tensor

    def __init__(self, about: dict[str, Any]) -> None:
        """A module without layers and with a mean of 0; ``about`` is as the attribute."""
        super().__init__()
        self.about = about
        self.classes, self.options = about["classes"], about["options"]
        self.register_buffer("mean", torch.zeros(3, 256, 256))

    def get_extra_state(self) -> Tensor:
        """What a state dict has beside weights and mean."""
        return torch.tensor(list(json.dumps(self.about).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take it over."""
        self.about = json.loads(bytes(state.tolist()))
        self.classes, self.options = self.about["classes"], self.about["options"]

    def prepared(self, images: Tensor) -> Tensor:
        """What ``forward`` takes: the centre of 8-bit RGB images (N, 3, 256, 256), less the mean, by the deviation."""
        size = self.options["crop"]
        first = (256 - size) // 2
        part = slice(first, first + size)
        centred = (images.float() - self.mean)[..., part, part]
        if self.options["colour_deviation"] == "none":
            return centred
        deviation = torch.tensor(_IMAGENET_DEVIATION, device=images.device)
        return centred / deviation.view(3, 1, 1)

    def framed(self, x: Tensor) -> Tensor:
        """Images (N, 3, 224, 224) with the zeros that conv1's windows at their edges reach; of 227 as they are."""
        before = self.options["conv1_padding"]
        behind = 227 - x.shape[-1] - before
        return functional.pad(x, (before, behind, before, behind))


class AlexNet(Described):
    """The net of Krizhevsky, Sutskever and Hinton (NIPS 2012), its two towers as groups."""

    def __init__(self, about: dict[str, Any], hidden_units: int = 4096) -> None:
        """A net whose weights are to be loaded.

        Args:
            about: as the attribute; for the options see ``pyalexnet.Options``.
            hidden_units: outputs of fc6, and of fc7.
        """
        super().__init__(about)
        towers = self.options["towers"]
        filters = _FILTERS[self.options["filters"], towers]
        self.conv1 = nn.Conv2d(3, filters[0], 11, stride=4)
        self.conv2 = nn.Conv2d(filters[0], filters[1], 5, padding=2, groups=towers)
        self.conv3 = nn.Conv2d(filters[1], filters[2], 3, padding=1)
        self.conv4 = nn.Conv2d(filters[2], filters[3], 3, padding=1, groups=towers)
        self.conv5 = nn.Conv2d(filters[3], filters[4], 3, padding=1, groups=towers)
        self.fc6 = nn.Linear(6 * 6 * 256, hidden_units)
        self.fc7 = nn.Linear(hidden_units, hidden_units)
        self.fc8 = nn.Linear(hidden_units, about["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of float32 (N, 3, 227, 227), or of 224 where the model's crops are."""
        x = self.conv1(self.framed(x))
        x = self._act(self._norm_and_pool(x)) if self.options["relu1_last"] else self._norm_and_pool(self._act(x))
        x = self._norm_and_pool(self._act(self.conv2(x)), second=True)
        x = self._act(self.conv4(self._act(self.conv3(x))))
        x = self._pool(self._act(self.conv5(x))).flatten(1)
        for layer in (self.fc6, self.fc7):
            x = functional.dropout(self._act(layer(x)), self.options["dropout"], self.training)
        logits: Tensor = self.fc8(x)
        return logits

    def _act(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if self.options["activation"] == "tanh" else torch.relu(x)

    def _norm_and_pool(self, x: Tensor, second: bool = False) -> Tensor:
        if self.options["pool_before_lrn"]:
            return self._norm(self._pool(x), second)
        return self._pool(self._norm(x, second))

    def _norm(self, x: Tensor, second: bool) -> Tensor:
        if self.options["lrn"]:
            alpha = 1e-4 if self.options["lrn_alpha"] == "caffe" else 5e-4  # which PyTorch divides by the window's 5
            apart = self.options["towers"] if self.options["lrn_over"] == "tower" else 1
            parts = x.chunk(apart, dim=1)
            x = torch.cat([functional.local_response_norm(p, 5, alpha, 0.75, self.options["lrn_k"]) for p in parts], 1)
        if second and self.options["second_lrn"]:
            x = x / (1 + 0.001 * functional.avg_pool2d(x**2, 5, stride=1, padding=2)) ** 0.75
        return x

    def _pool(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3 if self.options["pooling"] == "overlapping" else 2, stride=2)


def load(path: str) -> AlexNet:
    """The net whose weights a file holds; ``.safetensors`` needs the library of that name."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    about = json.loads(bytes(state["_extra_state"].tolist()))
    net = AlexNet(about, hidden_units=state["fc6.bias"].numel())
    net.load_state_dict(state)
    return net
