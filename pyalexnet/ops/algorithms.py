"""How convolutions and matrix products can be computed."""

from __future__ import annotations

from pyalexnet.device.backend import DEFAULT_DEVICE, Device, get_device
from pyalexnet.system.checks import shown


def product_algorithms(device: str = DEFAULT_DEVICE) -> tuple[str, ...]:
    """The names that ``algorithm=`` takes on a device, of convolutions, fully connected layers and their gradients.

    ``direct_128x64`` adds up products in blocks of 128 rows and 64 columns of the result; on CPU cores ``direct_8x48``
    has 8 rows and 48 columns of it in registers. Which one is chosen where none is asked for follows from the shape
    (``src/kernels/product_plan.cu``).

    Raises:
        TypeError: ``device`` is no text.
        ValueError: it is no name of a device.
        DeviceNotFoundError: there is no such device.
    """
    return tuple(get_device(device).native.product_algorithms())


def named_algorithm(algorithm: str | None, on: Device) -> str | None:
    """Refuse what is no text; whether there is such an algorithm is the plan's to say.

    Raises:
        TypeError: ``algorithm`` is neither text nor None.
    """
    if algorithm is None or isinstance(algorithm, str):
        return algorithm
    names = ", ".join(on.native.product_algorithms())
    raise TypeError(f"algorithm is {shown(algorithm)}; it must be one of {names}")
