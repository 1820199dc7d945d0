"""Where AlexNet's sources differ, row by row: what each does, and which setting gives it here.

Sources: ``paper`` (Krizhevsky, Sutskever, Hinton, NIPS 2012); ``notes``, reading notes on it; ``source2012``, the 2012
source code as released in 2025 (net 145: ``layers-145.cfg`` and ``layer-params-145-2010.cfg``, whose run on ILSVRC-2010
gave the paper's errors); ``caffe``, BVLC AlexNet; ``torchvision``, which has the net of a later paper and a recipe of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOURCES = {
    "paper": "paper",
    "notes": "notes",
    "source2012": "2012 code",
    "caffe": "Caffe",
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


def _row(
    what: str,
    setting: str,
    *,
    paper: Way,
    notes: Way | None = None,
    source2012: Way | None = None,
    caffe: Way | None = None,
    torchvision: Way | None = None,
) -> Row:
    """A row in which a source that is not named does as the paper does."""
    given = (paper, notes, source2012, caffe, torchvision)
    return Row(what, setting, {source: way or paper for source, way in zip(SOURCES, given, strict=True)})


LEDGER = (
    _row(
        "towers",
        "towers",
        paper=Way("two", 2),
        caffe=Way("two, as groups on one device", 2),
        torchvision=Way("one of 64, 192, 384, 256, 256 filters"),
    ),
    _row(
        "initial weights",
        "weight_init",
        paper=Way("N(0, 0.01²)", "paper"),
        notes=Way("N(0, 0.1²): diverges", "notes"),
        source2012=Way("0.03 in conv3–5", "source2012"),
        caffe=Way("0.005 in fc6, fc7", "caffe"),
        torchvision=Way("uniform, ±1/√inputs"),
    ),
    _row(
        "initial biases",
        "bias_init",
        paper=Way("1 in conv2, conv4, conv5, fc6, fc7, else 0", "paper"),
        notes=Way("1 in fc8 too", "notes"),
        caffe=Way("0.1 in place of 1", "caffe"),
        torchvision=Way("uniform, ±1/√inputs"),
    ),
    _row("LRN", "lrn", paper=Way("after conv1 and conv2", True), torchvision=Way("none", False)),
    _row(
        "alpha = 0.0001 of LRN",
        "lrn_alpha",
        paper=Way("as it is", "paper"),
        source2012=Way("divided by the window's 5", "caffe"),
        caffe=Way("divided by the window's 5", "caffe"),
        torchvision=Way("no LRN"),
    ),
    _row("k of LRN", "lrn_k", paper=Way("2", 2.0), caffe=Way("1", 1.0), torchvision=Way("no LRN")),
    _row(
        "LRN and pooling",
        "pool_before_lrn",
        paper=Way("LRN first", False),
        caffe=Way("LRN first; CaffeNet: pooling first", False),
        torchvision=Way("no LRN"),
    ),
    _row(
        "conv1's ReLU",
        "relu1_last",
        paper=Way("before LRN", False),
        source2012=Way("after LRN and pooling", True),
        torchvision=Way("before pooling", False),
    ),
    _row(
        "second LRN in conv2",
        "second_lrn",
        paper=Way("none", False),
        source2012=Way("within each map, over 5×5 pixels", True),
    ),
    _row(
        "crop",
        "crop",
        paper=Way("224 by its text; 227 here, which the layers' sizes need", 227),
        source2012=Way("224; the last windows reach over the edge", 224),
        caffe=Way("227", 227),
        torchvision=Way("224, zeros around"),
    ),
    _row(
        "image to 256×256",
        "",
        paper=Way("shorter side to 256, the middle kept"),
        caffe=Way("its script can stretch; images of 256×256 stay as they are here"),
        torchvision=Way("a random part of random shape"),
    ),
    _row(
        "mean image",
        "subtract_mean",
        paper=Way("subtracted", True),
        notes=Way("raw pixels", False),
        torchvision=Way("mean and deviation by colour"),
    ),
    _row("reflections", "reflect", paper=Way("half of the crops", True)),
    _row(
        "colour noise",
        "colour_noise",
        paper=Way("0.1", 0.1),
        caffe=Way("none", 0.0),
        torchvision=Way("none", 0.0),
    ),
    _row(
        "scale after colour noise",
        "colour_noise_scaled",
        paper=Way("as it is", False),
        source2012=Way("divided by 1 + 0.1", True),
    ),
    _row(
        "dropout",
        "dropout",
        paper=Way("0.5 of fc6 and fc7", 0.5),
        torchvision=Way("0.5 of conv5 and fc6"),
    ),
    _row("batch", "batch_size", paper=Way("128", 128), caffe=Way("256", 256), torchvision=Way("256", 256)),
    _row("learning rate at first", "lr", paper=Way("0.01", 0.01)),
    _row("layers' own rates", "lr_layers", paper=Way("none", {})),
    _row("warm-up of the rate", "warmup", paper=Way("none", 0)),
    _row(
        "schedule",
        "schedule",
        paper=Way("÷10 when validation stops improving", "plateau"),
        source2012=Way("by hand: its log, replayed", "source2012"),
        caffe=Way("÷10 every 20 epochs", "0.01@0,0.001@20,0.0001@40,0.00001@60,0.000001@80"),
        torchvision=Way("÷10 every 30 epochs", "0.01@0,0.001@30,0.0001@60"),
    ),
    _row("momentum", "momentum", paper=Way("0.9", 0.9)),
    _row("weight decay", "weight_decay", paper=Way("0.0005", 5e-4), torchvision=Way("0.0001", 1e-4)),
    _row(
        "biases' updates",
        "bias_update",
        paper=Way("as the weights'", "paper"),
        source2012=Way("twice the rate, no decay", "source2012"),
        caffe=Way("twice the rate, no decay", "source2012"),
    ),
    _row("epochs", "epochs", paper=Way("90", 90), source2012=Way("93", 93)),
    _row(
        "views of a test image",
        "views",
        paper=Way("10", 10),
        caffe=Way("1", 1),
        torchvision=Way("1", 1),
    ),
)
