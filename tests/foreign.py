"""Models that the tests of file formats convert, and how near another program's logits must be."""

from __future__ import annotations

from typing import Any

import numpy as np

import exchange
from exchange import NETS
from pyalexnet import Classifier

CLASSES = ("cat", "dog", "größe", "\U0001f600", "five")

# Of the largest logit: five products in a row of up to 9216 terms, which two programs sum up in orders of their own,
# round by about sqrt(9216) ulp each.
ROUNDING = 5 * np.sqrt(9216) * np.finfo(np.float32).eps

PAPER, BVLC = NETS["the paper's"], NETS["BVLC AlexNet"]


def model_of(options: dict[str, Any]) -> Classifier:
    """A classifier of random weights with fewer names than outputs."""
    return exchange.model_of(options, 7, CLASSES)


def assert_equal(found: Classifier, model: Classifier) -> None:
    """All of two models is the same, bit for bit."""
    assert found.classes == model.classes
    assert found.net.options == model.net.options
    assert found.net.step == model.net.step
    assert found.mean.tobytes() == model.mean.tobytes()
    expected = model.net.parameters()
    for name, value in found.net.parameters().items():
        assert value.tobytes() == expected[name].tobytes(), name
