"""How convolutions and matrix products can be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, get_args

from pyalexnet.architecture import Precision
from pyalexnet.device.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.system.checks import shown


def product_algorithms(device: str = DEFAULT_DEVICE) -> tuple[str, ...]:
    """The names that ``algorithm=`` takes on a device, of fully connected layers and their gradients.

    ``direct_128x64`` adds up products in blocks of 128 rows and 64 columns of the result; on CPU cores ``direct_8x48``
    has 8 rows and 48 columns of it in registers. Which one is chosen where none is asked for follows from the shape
    (``src/kernels/product_plan.cu``).

    Raises:
        TypeError: ``device`` is no text.
        ValueError: it is no name of a device.
        DeviceNotFoundError: there is no such device.
    """
    return tuple(get_device(device).native.product_algorithms())


def conv_algorithms(device: str = DEFAULT_DEVICE) -> tuple[str, ...]:
    """The names that ``algorithm=`` takes on a device, of convolutions and their gradients.

    ``direct`` adds up products over the windows, by the one of :func:`product_algorithms` that suits the shape, or by
    the one that is named instead. ``fourier`` multiplies the spectra of whole maps (``src/kernels/fourier_conv.cuh``),
    for stride 1 and maps of at most 30 pixels a side, padding on one side included; a number that is not finite spreads
    to its whole map. ``winograd`` multiplies tiles of 2×2 results point by point (``src/kernels/winograd_conv.cuh``),
    for stride 1 and kernels of 3×3; there such a number spreads to the tiles that see it. Where none is asked for the
    fastest one is chosen, as the shape and the kind of device say.

    Raises:
        TypeError: ``device`` is no text.
        ValueError: it is no name of a device.
        DeviceNotFoundError: there is no such device.
    """
    return tuple(get_device(device).native.conv_algorithms())


class ProductChoice(TypedDict):
    """What plans take of how a product is to be computed."""

    algorithm: str | None
    precision: str


def product_choice(
    algorithm: str | None, precision: str, on: Device, known: Callable[[], Sequence[str]]
) -> ProductChoice:
    """What was asked for; whether there is such an algorithm is the plan's to say.

    Args:
        algorithm: one of those ``known``, or None.
        precision: one of :data:`pyalexnet.architecture.Precision`.
        on: where to compute.
        known: the algorithms of the device, for messages.

    Raises:
        TypeError: ``algorithm`` is neither text nor None, or ``precision`` no text.
        ValueError: there is no such ``precision``, or not on this device.
    """
    if algorithm is not None and not isinstance(algorithm, str):
        raise TypeError(f"algorithm is {shown(algorithm)}; it must be one of {', '.join(known())}")
    if not isinstance(precision, str):
        raise TypeError(f"precision is {shown(precision)}; it must be one of {', '.join(get_args(Precision))}")
    on.require_precision(precision)
    return {"algorithm": algorithm, "precision": precision}
