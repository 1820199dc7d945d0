"""How unlike images look to a net: the distance of LPIPS, on a net of this package.

    pip install '.[torch]' lpips
    python examples/perceptual_distance.py run reference.png other.png another.png

A line for each of the other images has its distance from the first: 0 for the same image, and 2 a layer at most where
outputs are those of ReLUs. LPIPS compares what conv1 to conv5 compute, place by place, each place's outputs brought to
length 1 (Zhang et al., CVPR 2018, equation 1). The weights of outputs that come with lpips belong to torchvision's
AlexNet, which has other filters: here all count alike, as by its ``lpips=False``. The distance has gradients, so that
it is a loss as well.

lpips needs torchvision, which must have been built with the PyTorch that is there: docs/exchange.md has a pair.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

import lpips
import torch

import pyalexnet
from pyalexnet.evaluation.predict import as_images

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")


class Trunk(torch.nn.Module):
    """What LPIPS takes for a net: from inputs to several layers' outputs, each (N, channels, height, width)."""

    def __init__(self, module: pyalexnet.autograd.AlexNetModule) -> None:
        """Take the outputs of a module by hooks; dropout is switched off in it."""
        super().__init__()
        self.module = module.eval()
        self.seen: list[torch.Tensor] = []
        for layer in LAYERS:
            getattr(module, layer).register_forward_hook(lambda _layer, _given, output: self.seen.append(output))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of :data:`LAYERS` for what ``module.prepared`` gives."""
        self.seen = []
        self.module(x)
        return self.seen


def perceptual_distance(module: pyalexnet.autograd.AlexNetModule) -> lpips.LPIPS:
    """LPIPS of two batches that ``module.prepared`` gave: float32 (N, 1, 1, 1)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's, of how lpips asks it for a trunk
        # Version 0.0 leaves the input as it is, which the module has prepared. The random trunk makes way at once.
        distance = lpips.LPIPS(net="alex", version="0.0", lpips=False, pnet_rand=True, verbose=False)
    distance.net = Trunk(module)
    return distance


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each image's distance from the first one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", help="a run's folder or a model file")
    parser.add_argument("image", help="the image that the others are compared with")
    parser.add_argument("others", nargs="+", help="the other images")
    options = parser.parse_args(arguments)

    module = pyalexnet.autograd.AlexNetModule(options.model)
    distance = perceptual_distance(module)
    pixels = torch.from_numpy(as_images([options.image, *options.others])).permute(0, 3, 1, 2)
    first, *others = module.prepared(pixels).split(1)
    with torch.no_grad():
        for name, other in zip(options.others, others, strict=True):
            print(f"{distance(first, other).item():.4f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
