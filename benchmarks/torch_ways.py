"""The ways in which the benchmarks run PyTorch's net, known without PyTorch."""

from __future__ import annotations

from typing import NamedTuple


class Way(NamedTuple):
    """Whether images and weights lie channels last, and whether torch.compile has compiled the net."""

    channels_last: bool
    compiled: bool


TORCH_WAYS = {
    "eager": Way(channels_last=False, compiled=False),
    "eager, channels last": Way(channels_last=True, compiled=False),
    "torch.compile": Way(channels_last=False, compiled=True),
    "torch.compile, channels last": Way(channels_last=True, compiled=True),
}
