"""Units of a layer by number: how many there are, which tower computes one, and which are the most active.

A unit of a convolution, and of what follows it, is a filter, wherever it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import Conv, layers
from pyalexnet.net.network import AlexNet
from pyalexnet.system.checks import bounded, require, shown

Floats = npt.NDArray[np.floating[Any]]


def unit_count(net: AlexNet, layer: str) -> int:
    """How many units a layer has, in all towers together.

    Args:
        net: the net.
        layer: one of :func:`pyalexnet.architecture.activation_names`.

    Raises:
        TypeError: ``layer`` is no text.
        ValueError: there is no such layer.
    """
    found = _layer(net, layer)
    return found.filters if isinstance(found, Conv) else found.outputs


def tower_of(net: AlexNet, layer: str, unit: int) -> int:
    """The tower that computes a unit; the units of a layer stand side by side, tower 0's first."""
    return unit * len(_layer(net, layer).computing_towers) // unit_count(net, layer)


def as_units(net: AlexNet, layer: str, units: object) -> list[int]:
    """Numbers of units, checked.

    Raises:
        TypeError: they are no list of integers.
        ValueError: there is none, one comes twice, or the layer has no such unit.
    """
    if isinstance(units, str | bytes) or not isinstance(units, Sequence | np.ndarray):
        raise TypeError(f"units is {shown(units)}; it must be a list of numbers")
    require(len(units) > 0, "units", units, "one number or more")
    last = unit_count(net, layer) - 1
    found = [bounded(f"units[{place}]", unit, 0, last) for place, unit in enumerate(units)]
    require(len(set(found)) == len(found), "units", found, "different numbers")
    return found


def most_active(activity: Floats, count: int) -> list[int]:
    """The units of the greatest activity, the most active first, among equals the lower number; NaN is the least.

    Args:
        activity: one number a unit, (units,).
        count: how many; fewer where there are fewer.
    """
    return [int(unit) for unit in np.argsort(-activity, kind="stable")[:count]]


def strongest_positions(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Where each unit is most active in each image.

    Args:
        values: what a layer computed, float32 (N, height, width, channels) or (N, units).

    Returns:
        Its activation there, float32 (N, units), and row and column, intp (N, units, 2): among equals the first in
        row-major order, and (0, 0) where a layer has no positions. NaN is less than everything.
    """
    columns = values.shape[2] if values.ndim == 4 else 1
    by_position = values.reshape(len(values), -1, values.shape[-1])
    places = np.argmax(np.where(np.isnan(by_position), -np.inf, by_position), axis=1)
    activations = np.take_along_axis(by_position, places[:, None], axis=1)[:, 0]
    return activations, np.stack(np.divmod(places, columns), axis=-1)


def _layer(net: AlexNet, name: str) -> Any:
    net.require_layer(name)
    number = name.removesuffix("_pre")[-1]
    all_layers = layers(net.num_classes, net.options.towers, filters=net.options.filters)
    (found,) = (layer for layer in all_layers if layer.name[-1] == number)
    return found
