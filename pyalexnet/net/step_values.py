"""What changes from step to step: numbers that kernels read on the device when they run.

They lie in one piece of the host's memory and go to each device in one copy before a step. So the calls of a step are
the same each time, and what was captured of them can be launched again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pyalexnet.architecture import Options, layers
from pyalexnet.device.backend import Device
from pyalexnet.device.memory import Ref
from pyalexnet.device.native import NativeArray
from pyalexnet.device.tensor import DTYPES, host_array, pinned_array

_LAYERS = tuple(layer.name for layer in layers(1000))
_PARAMETERS = tuple(f"{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias"))
_NUMBERS = np.dtype(
    [
        ("draw", "uint64", (len(_LAYERS), 2)),  # of each layer's dropout: seed and offset
        ("rates", "float32", (len(_PARAMETERS), 3)),  # of each parameter: learning rate, momentum, weight decay
        ("trust", "float32", (1, 1)),  # where rates follow norms
        ("scale", "float32", (1, 1)),  # of the input
    ]
)
_ROWS = {"draw": _LAYERS, "rates": _PARAMETERS, "trust": ("",), "scale": ("",)}
# Native arrays have no integers of 64 bits.
_SEEN_AS = {"draw": "uint8", "rates": "float32", "trust": "float32", "scale": "float32"}

STEP_VALUES_BYTES = _NUMBERS.itemsize

# Of dropout's offset, above all steps.
_SHARD_BIT = 48


def part_of_step_values(whole: Ref, field: str, name: str = "") -> Ref:
    """Where some of the numbers are, in a device's memory of all of them.

    Args:
        whole: uint8 (STEP_VALUES_BYTES,).
        field: ``draw``, ``rates``, ``trust`` or ``scale``.
        name: the layer of a draw, such as ``fc6``, or the parameter that the rates are of, such as ``fc6.bias``.
    """
    numbers, first_byte = _NUMBERS[field], _NUMBERS.fields[field][1] if _NUMBERS.fields else 0
    row_bytes = numbers.itemsize // len(_ROWS[field])
    dtype = _SEEN_AS[field]
    return replace(
        whole,
        offset_bytes=whole.offset_bytes + first_byte + _ROWS[field].index(name) * row_bytes,
        shape=(row_bytes // DTYPES[dtype].itemsize,),
        dtype=dtype,
    )


class StepValues:
    """The numbers of the step to come, or of the last one.

    Attributes:
        array: all of them, uint8 (STEP_VALUES_BYTES,), in page-locked memory.
        lr: the learning rates by parameter.
        follows_norms: whether they are scaled by the parameters' norms.
    """

    def __init__(self, on: Device, options: Options) -> None:
        """All 0.

        Args:
            on: the device whose module is to copy them; it may be to another one.
            options: choices on which the sources differ.

        Raises:
            CudaError: there is not enough memory that can be locked.
        """
        memory = pinned_array(on, (STEP_VALUES_BYTES,), "uint8")
        memory[:] = 0
        self.array: NativeArray = host_array(on, memory)
        self.lr: Mapping[str, float] = {}
        self.follows_norms = False
        self._last_rates: tuple[Mapping[str, float], float, float, int, float | None] | None = None
        numbers = memory.view(_NUMBERS)[0]
        self._draws, self._rates, self._trust, self._scale = (numbers[field] for field in _ROWS)
        as_weights = [name.endswith(".weight") or options.bias_update == "paper" for name in _PARAMETERS]
        self._rate_factors = np.where(as_weights, 1.0, 2.0)
        self._decays = np.array(as_weights, np.float64)

    def set_step(self, seed: int, step: int, shard: int = 0) -> None:
        """Let dropout draw for a step: each shard, step and layer has an offset of its own."""
        self._draws[:, 0] = seed
        first = (shard << _SHARD_BIT) + step * len(_LAYERS)
        self._draws[:, 1] = range(first, first + len(_LAYERS))

    def set_rates(
        self,
        lr: Mapping[str, float],
        momentum: float,
        weight_decay: float,
        shards: int = 1,
        trust: float | None = None,
    ) -> None:
        """Give all parameters their rates; as an option, biases move by twice theirs and without decay.

        Args:
            lr: by parameter.
            momentum: share of the last step that is kept.
            weight_decay: pull of the weights to zero, scaled by the learning rate.
            shards: the gradients are the sum over so many shards, which the kernel's rate makes their mean; what it
                multiplies the weights by stays as it is, and so does what norms make of the rate.
            trust: what they are scaled with by the norms of parameters and gradients; None to leave them as they are.

        Raises:
            ValueError: one is too large for float32.
        """
        asked = lr, momentum, weight_decay, shards, trust
        if asked == self._last_rates:
            return
        self.lr, self._last_rates = lr, None
        with np.errstate(over="ignore"):
            self._rates[:, 0] = self._rate_factors * [lr[name] for name in _PARAMETERS] / shards
            self._rates[:, 1] = momentum
            self._rates[:, 2] = self._decays * weight_decay * shards
            self._trust[0, 0] = (trust or 0) * shards
        if not (np.isfinite(self._rates).all() and np.isfinite(self._trust).all()):
            raise ValueError("lr, momentum, weight_decay or lars is beyond the numbers of float32")
        self.follows_norms, self._last_rates = trust is not None, asked

    def set_scale(self, scale: float) -> None:
        """Multiply what is made of 8-bit images."""
        self._scale[0, 0] = scale

    @property
    def frozen(self) -> frozenset[str]:
        """The parameters that keep their bits, since their rate is 0."""
        return frozenset(name for name, rate in self.lr.items() if rate == 0)

    def draw(self, layer: str) -> tuple[int, int]:
        """The seed and the offset of a layer's dropout."""
        seed, offset = self._draws[_LAYERS.index(layer)].tolist()
        return seed, offset
