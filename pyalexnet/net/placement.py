"""Which device each tower of a net computes on, and what brings arrays from one to the other."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from pyalexnet.architecture import TOWERS
from pyalexnet.device.backend import Device, get_device, instruction_set
from pyalexnet.device.native import NativeLink, NativeStream
from pyalexnet.errors import CudaError
from pyalexnet.system.checks import require, shown


@dataclass(frozen=True)
class Placement:
    """Which device each tower computes on.

    Attributes:
        devices: one device or two, which may be the same one: then the towers run side by side there.
        names: what they were asked for as.
        streams: the compute stream of each device.
        links: on two devices, for each tower the link that brings it the other tower's arrays; else empty.
    """

    devices: tuple[Device, ...]
    names: tuple[str, ...]
    streams: tuple[NativeStream, ...]
    links: tuple[NativeLink, ...]

    @classmethod
    def on(cls, names: tuple[str, ...], *, peer_access: bool) -> Placement:
        """Streams and links of their own on the devices of these names.

        Args:
            names: as :func:`device_names` gives them; tower 0 lies on the first.
            peer_access: False never copies from device to device, but through the host.

        Raises:
            DeviceNotFoundError: there is no such device.
        """
        devices = tuple(get_device(name) for name in names)
        native = devices[0].native
        streams = tuple(native.Stream(device.index) for device in devices)
        links = (
            (native.Link(streams[1], streams[0], peer_access), native.Link(streams[0], streams[1], peer_access))
            if len(devices) > 1
            else ()
        )
        return cls(devices, names, streams, links)

    def finish_exchanges(self) -> None:
        """End those that were broken off, so that the next ones can begin."""
        for link in self.links:
            with suppress(ValueError, CudaError):  # where none had begun
                link.finish()

    def wait_for_all_work(self) -> None:
        """Wait until nothing is under way on any device, whatever fails; what a graph does on one may go on there."""
        for device in self.devices:
            with suppress(CudaError):
                device.native.synchronize_device(device.index)

    def place(self, tower: int) -> int:
        """The position in ``devices`` of a tower's device."""
        return tower % len(self.devices)


def describe_placement(names: tuple[str, ...]) -> dict[str, object]:
    """What must be the same where nets are to compute the same bits, by what messages call it.

    Args:
        names: of one or two devices.

    Raises:
        DeviceNotFoundError: there is no such device.
    """
    devices = [get_device(name) for name in names]
    target = devices[0].target
    kind = instruction_set() if target == "cpu" else devices[0].native.device_info(devices[0].index)["name"]
    return {
        "the number of devices": len(devices),
        "the kind of device": f"{target} ({kind})",
        "the native module's sources": devices[0].native.source_digest,
    }


def device_names(devices: Iterable[str]) -> tuple[str, ...]:
    """The names of a net's one or two devices.

    Raises:
        TypeError: it is no list, or one of something else than names.
        ValueError: it is a single name, there are none or too many, or two are of different targets.
        DeviceNotFoundError: there is no such device.
    """
    wanted = "a list of one or two names, such as ['cpu:0']"
    if isinstance(devices, str):
        raise ValueError(f"devices is {devices!r}; it must be {wanted}")
    if not isinstance(devices, Iterable):
        raise TypeError(f"devices is {shown(devices)}; it must be {wanted}")
    names = tuple(devices)
    require(len(names) in (1, TOWERS), "devices", list(names), wanted)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"devices is {shown(list(names))}; it must be {wanted}")
    found = [get_device(name, f"devices[{place}]") for place, name in enumerate(names)]
    if len({device.target for device in found}) > 1:
        raise ValueError(f"devices is {list(names)}; two devices must be of the same target")
    return names
