"""Convert nets to other programs' files and compare what those programs compute of them with what this package does.

    python benchmarks/exchange.py --json benchmarks/exchange.json

Each known net, of the paper's size and with random weights, is written in each format, computed by a program that
reads it (PyTorch, ONNX Runtime, OpenCV), and read back. A figure is the largest difference of any logit, of the largest
logit.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from command_line import parser_of, positive
from pyalexnet import AlexNet, Classifier, convert, load_model
from pyalexnet.formats.torchvision import OPTIONS as TORCHVISION

Images = npt.NDArray[np.float32]

# Known nets by the options that they are; those behind the first six have what none of these has.
NETS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    "the paper's, one GPU": {"towers": 1, "dropout": 0.0},
    "2012, net 145": {"lrn_alpha": "caffe", "second_lrn": True, "relu1_last": True, "crop": 224},
    "BVLC AlexNet": {"lrn_over": "both", "lrn_alpha": "caffe", "lrn_k": 1.0, "bias_init": "caffe"},
    "CaffeNet": {"lrn_over": "both", "lrn_alpha": "caffe", "lrn_k": 1.0, "pool_before_lrn": True, "dropout": 0.25},
    "torchvision's": {**vars(TORCHVISION)},
    "tanh, 2×2 pooling, no LRN": {"activation": "tanh", "pooling": "plain", "lrn": False},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print; write JSON if asked."""
    parser = parser_of(__doc__)
    parser.add_argument("--classes", type=positive, default=1000, metavar="N", help="outputs (default: %(default)s)")
    parser.add_argument("--images", type=positive, default=4, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    nets = []
    for name, of_net in NETS.items():
        found = compare(model_of(of_net, options.classes), options.images)
        nets.append({"name": name, "formats": found})
        print(f"{name}: {', '.join(f'{form} {result}' for form, result in found.items())}", flush=True)
    report = {"judges": {judge.package: version(judge.package) for judge in JUDGES}, "nets": nets}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def compare(model: Classifier, images: int) -> dict[str, float | str]:
    """By format, the difference of logits, or why there is no such file."""
    found: dict[str, float | str] = {}
    x = images_for(model, images)
    for judge in JUDGES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{judge.ending}"
            try:
                convert(model, path, to=judge.form)
            except ValueError as error:
                found[f"{judge.form} {judge.ending}"] = str(error)
                continue
            found[f"{judge.form} {judge.ending}"] = difference(judge.run(path, x), model, x)
            require_same_weights(path, model)
    return found


def require_same_weights(path: Path, model: Classifier) -> None:
    """Refuse a file that does not come back bit for bit."""
    expected = model.net.parameters()
    for name, value in load_model(path, mean=model.mean).net.parameters().items():
        if value.tobytes() != expected[name].tobytes():
            raise RuntimeError(f"{path.name}: {name} does not come back as it was")


# Models and images --------------------------------------------------------------------------------------------------


def model_of(options: dict[str, Any], classes: int, names: Sequence[str] = ("one",)) -> Classifier:
    """A classifier of random weights, of a size that keeps that of values from layer to layer."""
    net = AlexNet(classes, devices=["cpu:0"], seed=3, **options)
    rng = np.random.default_rng(7)
    scale = {name: np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1 for name, shape in net.shapes.items()}
    net.load_parameters(
        {name: rng.standard_normal(shape, np.float32) * np.float32(scale[name]) for name, shape in net.shapes.items()}
    )
    net.step = 42
    return Classifier(net, tuple(names), rng.uniform(0, 255, (256, 256, 3)).astype(np.float32))


def images_for(model: Classifier, count: int = 3) -> Images:
    """What a net takes: RGB less a mean."""
    size = model.net.options.crop
    return np.random.default_rng(1).uniform(-128, 128, (count, size, size, 3)).astype(np.float32)


def channels_first(x: Images) -> Images:
    """Images as other programs take them."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def with_zeros_around(model: Classifier, x: Images) -> Images:
    """Images of a smaller crop than 227, with the zeros that the windows at its edges reach."""
    before = model.net.options.conv1_padding
    around = (before, 227 - x.shape[1] - before)
    return np.pad(x, ((0, 0), around, around, (0, 0)))


def difference(logits: Images, model: Classifier, x: Images) -> float:
    """The largest difference to a model's own logits, of the largest of those; infinite where one is NaN."""
    own = model.net.forward(with_zeros_around(model, x))
    if logits.shape != own.shape:
        raise RuntimeError(f"logits are {logits.shape}; they must be {own.shape}")
    found = float(np.abs(logits - own).max() / np.abs(own).max())
    return found if found >= 0 else np.inf


# Judges -------------------------------------------------------------------------------------------------------------


def run_by_torch(path: Path, x: Images) -> Images:
    """Logits by PyTorch, of the module that comes with the package."""
    import torch

    from pyalexnet.formats import torch_module

    with torch.inference_mode():
        logits: Images = torch_module.load(os.fspath(path)).eval()(torch.from_numpy(channels_first(x))).numpy()
    return logits


def run_by_onnxruntime(path: Path, x: Images) -> Images:
    """Logits by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: Images = session.run(None, {session.get_inputs()[0].name: channels_first(x)})[0]
    return logits


def run_by_opencv(path: Path, x: Images) -> Images:
    """Logits by OpenCV's importer of Caffe's files, from RGB images."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(os.fspath(path.with_suffix(".prototxt")), os.fspath(path))
    net.setInput(channels_first(x[..., ::-1]))
    logits: Images = net.forward("fc8")
    return logits


@dataclass(frozen=True)
class Judge:
    """A program that computes the nets of a format."""

    form: str
    ending: str
    package: str
    run: Callable[[Path, Images], Images]


JUDGES = (
    Judge("pytorch", ".pth", "torch", run_by_torch),
    Judge("pytorch", ".safetensors", "torch", run_by_torch),
    Judge("onnx", ".onnx", "onnxruntime", run_by_onnxruntime),
    Judge("caffe", ".caffemodel", "opencv-python-headless", run_by_opencv),
)


if __name__ == "__main__":
    main()
