"""Where AlexNet's sources differ, row by row: what each does, and which setting gives it here.

Sources: ``paper`` (Krizhevsky, Sutskever, Hinton, NIPS 2012); ``notes``, reading notes on it; ``source2012``, the 2012
source code as released in 2025 (net 145: ``layers-145.cfg`` and ``layer-params-145-2010.cfg``, whose run on ILSVRC-2010
gave the paper's errors); ``caffe``, BVLC AlexNet; ``lars4096`` and ``lars8192``, the same with the solver files for
large batches of LARS's authors (borisgin/nvcaffe); ``torchvision``, which has the net of a later paper and a recipe of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyalexnet.training.recipe import PRESETS

SOURCES = {
    "paper": "paper",
    "notes": "notes",
    "source2012": "2012 code",
    "caffe": "Caffe",
    "lars4096": "LARS 4K",
    "lars8192": "LARS 8K",
    "torchvision": "torchvision",
}


@dataclass(frozen=True)
class Way:
    """How a source does something.

    Attributes:
        text: what it does.
        value: what the row's setting must be for that; None where no setting gives it.
    """

    text: str
    value: Any = None


@dataclass(frozen=True)
class Row:
    """One difference.

    Attributes:
        what: what it is about.
        setting: the argument's name, of :func:`pyalexnet.train`, :class:`pyalexnet.AlexNet` (its options) or, for
            ``views``, :func:`pyalexnet.evaluate`; empty where there is none.
        ways: for each of :data:`SOURCES`, how it does it.
    """

    what: str
    setting: str
    ways: Mapping[str, Way]


# What the settings and options of a source are, where it is a preset.
_VALUES = {source: recipe.values() for source, recipe in PRESETS.items()}


def _row(
    what: str,
    setting: str = "",
    *,
    paper: str | Way | None = None,
    notes: str | None = None,
    source2012: str | None = None,
    caffe: str | Way | None = None,
    lars: str | Way | None = None,
    torchvision: str | Way | None = None,
) -> Row:
    """A row of texts, whose values are the presets'; a Way says a value that no preset has.

    A source of which nothing is said does as the paper does, or has a number for a value that is told by itself; LARS's
    authors took Caffe's net.
    """
    lars = caffe if lars is None else lars
    ways: dict[str, Way] = {}
    for source, told in zip(SOURCES, (paper, notes, source2012, caffe, lars, lars, torchvision), strict=True):
        values = _VALUES.get(source, {})
        if isinstance(told, Way):
            ways[source] = told
        elif told is not None:
            ways[source] = Way(told, values.get(setting))
        elif ways and values.get(setting, ways["paper"].value) == ways["paper"].value:
            ways[source] = ways["paper"]
        else:
            ways[source] = Way(f"{values[setting]:g}", values[setting])
    return Row(what, setting, ways)


LEDGER = (
    _row(
        "towers",
        "towers",
        paper="two",
        caffe="two, as groups on one device",
        torchvision=Way("one", 1),
    ),
    _row(
        "filters of conv1 to conv5",
        "filters",
        paper="96, 256, 384, 384, 256",
        torchvision=Way("64, 192, 384, 256, 256, as in a net of 2014", "2014"),
    ),
    _row(
        "initial weights",
        "weight_init",
        paper="N(0, 0.01²)",
        notes="N(0, 0.1²): diverges",
        source2012="0.03 in conv3–5",
        caffe="0.005 in fc6, fc7",
        torchvision="uniform, ±1/√inputs",
    ),
    _row(
        "initial biases",
        "bias_init",
        paper="1 in conv2, conv4, conv5, fc6, fc7, else 0",
        notes="1 in fc8 too",
        caffe="0.1 in place of 1",
        torchvision="uniform, ±1/√inputs",
    ),
    _row("LRN", "lrn", paper="after conv1 and conv2", torchvision=Way("none", False)),
    _row(
        "alpha = 0.0001 of LRN",
        "lrn_alpha",
        paper="as it is",
        source2012="divided by the window's 5",
        caffe="divided by the window's 5",
        torchvision="no LRN",
    ),
    _row("k of LRN", "lrn_k", torchvision="no LRN"),
    _row(
        "channels of LRN",
        "lrn_over",
        paper="a tower's own",
        caffe="both towers' as one row, as `both` has it; the preset keeps to what two devices can do",
        torchvision="no LRN",
    ),
    _row(
        "LRN and pooling",
        "pool_before_lrn",
        paper="LRN first",
        caffe="LRN first; CaffeNet: pooling first",
        torchvision="no LRN",
    ),
    _row(
        "conv1's ReLU",
        "relu1_last",
        paper="before LRN",
        source2012="after LRN and pooling",
        torchvision=Way("before pooling", False),
    ),
    _row(
        "second LRN in conv2",
        "second_lrn",
        paper="none",
        source2012="within each map, over 5×5 pixels",
    ),
    _row(
        "crop",
        "crop",
        paper="224 by its text; 227 here, which the layers' sizes need",
        source2012="224; the last windows reach over the edge",
        caffe="227",
        torchvision=Way("224, zeros around", 224),
    ),
    _row("zeros around a crop of 224", "conv1_padding", paper="none", torchvision=Way("2", 2)),
    _row(
        "colours' deviation",
        "colour_deviation",
        paper="as it is",
        torchvision=Way("divided by ImageNet's", "imagenet"),
    ),
    _row(
        "image to 256×256",
        paper="shorter side to 256, the middle kept",
        caffe="its script can stretch; images of 256×256 stay as they are here",
        torchvision="a random part of random shape",
    ),
    _row(
        "mean image",
        "subtract_mean",
        paper="subtracted",
        notes="raw pixels",
        torchvision="one of each colour",
    ),
    _row("reflections", "reflect", paper="half of the crops"),
    _row(
        "colour noise",
        "colour_noise",
        caffe="none",
        torchvision=Way("none", 0.0),
    ),
    _row(
        "scale after colour noise",
        "colour_noise_scaled",
        paper="as it is",
        source2012="divided by 1 + 0.1",
    ),
    _row(
        "dropout",
        "dropout",
        paper="0.5 of fc6 and fc7",
        torchvision="0.5 of conv5 and fc6",
    ),
    _row("batch", "batch_size", torchvision=Way("256", 256)),
    _row("learning rate at first", "lr"),
    _row("layers' own rates", "lr_layers", paper="none"),
    _row("warm-up of the rate", "warmup", paper="none"),
    _row("rates by norms", "lars", paper="none", lars="LARS"),
    _row(
        "schedule",
        "schedule",
        paper="÷10 when validation stops improving",
        source2012="by hand: its log, replayed",
        caffe="÷10 every 20 epochs",
        lars="with the square of what is left",
        torchvision=Way("÷10 every 30 epochs", "0.01@0,0.001@30,0.0001@60"),
    ),
    _row("momentum", "momentum"),
    _row("weight decay", "weight_decay", torchvision=Way("0.0001", 1e-4)),
    _row(
        "biases' updates",
        "bias_update",
        paper="as the weights'",
        source2012="twice the rate, no decay",
        caffe="twice the rate, no decay",
        lars="as the weights'",
    ),
    _row("epochs", "epochs"),
    _row(
        "views of a test image",
        "views",
        paper=Way("10", 10),
        caffe=Way("1", 1),
        torchvision=Way("1", 1),
    ),
)
