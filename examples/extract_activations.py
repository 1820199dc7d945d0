"""A net's activations for a folder of images, by thingsvision's extractor.

    pip install . thingsvision
    python examples/extract_activations.py run photos activations --layers pool5 fc7

Then ``activations/pool5/features.npy`` is float32 (N, outputs), channels first, likewise fc7's, and
``activations/file_names.txt`` has the images in the same order. Layers have the names that ``net.features`` takes; the
module calls its submodules so, where thingsvision's hooks find them.

thingsvision 2.7.3 asks for NumPy 1 and PyTorch 2.0, so it had better have an environment of its own, of Python 3.11.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from PIL import Image
from thingsvision import get_extractor_from_model
from thingsvision.utils.data import DataLoader, ImageDataset
from thingsvision.utils.storing import save_features

import pyalexnet
from pyalexnet.evaluation.predict import as_images


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what layers compute of the images in a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", help="a run's folder or a model file")
    parser.add_argument("images", help="a folder of images, or of one folder a class")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--layers", nargs="+", default=["fc7"], metavar="NAME", help="which (default: fc7)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: %(default)s)")
    options = parser.parse_args(arguments)

    module = pyalexnet.autograd.AlexNetModule(options.model)

    def prepared(picture: Image.Image) -> torch.Tensor:
        pixels = torch.from_numpy(as_images(picture)).permute(0, 3, 1, 2)
        return module.prepared(pixels)[0]

    extractor = get_extractor_from_model(
        model=module, device="cpu", backend="pt", preprocess=prepared, flatten_fn=staticmethod(flattened)
    )
    dataset = ImageDataset(root=options.images, out_path=options.out, backend="pt", transforms=prepared)
    batches = DataLoader(dataset=dataset, batch_size=options.batch_size, backend="pt")
    found = extractor.extract_features(batches=batches, module_names=options.layers, flatten_acts=True)
    for layer, values in found.items():
        save_features(values, out_path=f"{options.out}/{layer}", file_format="npy")
        print(f"{layer}: {values.shape[0]} images, {values.shape[1]} outputs each")
    return 0


def flattened(values: torch.Tensor) -> torch.Tensor:
    """(N, channels, height, width) as (N, outputs); thingsvision's own way refuses what lies as channels last."""
    return values.flatten(1)


if __name__ == "__main__":
    sys.exit(main())
