"""Which pixels a prediction rests on: integrated gradients and Grad-CAM by Captum, on a net of this package.

    pip install '.[torch]' captum
    python examples/attribution.py run cat.jpg cat.png

The picture has the image, the attribution of each pixel, and where conv5 saw what speaks for the most probable class.
Integrated gradients (Sundararajan et al., ICML 2017) begin at the mean image, where the net's input is 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam
from PIL import Image

import pyalexnet
from pyalexnet.data.images import read_image


def main(arguments: Sequence[str] | None = None) -> int:
    """Attribute the most probable class to the pixels of an image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", help="a run's folder or a model file")
    parser.add_argument("image", help="the image file")
    parser.add_argument("out", help="the picture to write")
    parser.add_argument("--steps", type=int, default=32, metavar="N", help="points on the way (default: %(default)s)")
    options = parser.parse_args(arguments)

    module = pyalexnet.autograd.AlexNetModule(options.model).eval()
    image = torch.from_numpy(read_image(options.image)).permute(2, 0, 1)
    x = module.prepared(image[None])
    with torch.no_grad():
        logits, of_mean = module(torch.cat([x, torch.zeros_like(x)]))
    probabilities = logits.softmax(dim=0)
    best = int(probabilities.argmax())
    print(f"{module.classes[best]}: {probabilities[best]:.1%}")

    pixels, missing = IntegratedGradients(module).attribute(
        x, target=best, n_steps=options.steps, internal_batch_size=8, return_convergence_delta=True
    )
    total = logits[best] - of_mean[best]
    print(f"integrated gradients sum up to {pixels.sum():.3f} of {total:.3f} (off by {missing.item():.3f})")
    seen = LayerAttribution.interpolate(LayerGradCam(module, module.conv5).attribute(x, target=best), x.shape[2:])

    size = x.shape[-1]
    first = (image.shape[-1] - size) // 2
    shown = image[:, first : first + size, first : first + size].permute(1, 2, 0).numpy()
    parts = [shown, as_grey(pixels[0].abs().sum(dim=0)), as_grey(seen[0, 0].clamp(min=0))]
    Image.fromarray(np.concatenate(parts, axis=1)).save(options.out)
    return 0


def as_grey(values: torch.Tensor) -> np.ndarray:
    """A map as an image, the 99th percentile of its values white: uint8 (height, width, 3)."""
    scaled = (values / values.quantile(0.99).clamp(min=1e-12)).clamp(0, 1)
    return np.repeat((255 * scaled.detach().numpy()).astype(np.uint8)[..., None], 3, axis=2)


if __name__ == "__main__":
    sys.exit(main())
