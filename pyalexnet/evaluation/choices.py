"""What can be chosen, and what is taken where nothing is: for functions, and for the command, which starts fast.

Modules that compute take half a second to import; this one imports nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

BATCH_SIZE = 64
"""Images that a net computes at a time, wherever it judges or looks at images."""

Distance: TypeAlias = Literal["correlation", "euclidean"]
Measure: TypeAlias = Literal["cka", "cka_plain", "rsa"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
MEASURES: tuple[Measure, ...] = get_args(Measure)

MEASURE_NAMES: dict[Measure, str] = {"cka": "linear CKA, unbiased", "cka_plain": "linear CKA", "rsa": "RSA"}
"""What people call them."""

COMPARED_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
"""Those whose similarity is asked for where none is named."""
