"""Targets and devices: which native module serves which device name.

One kernel source is compiled into native modules: ``_cpu_*`` (one an instruction set), ``_sim`` and, where nvcc
was there at build time, ``_cuda``. A device is named ``target:index``, for example ``cpu:0`` or ``cuda:1``. Developers
may build ``_ptx``, which executes on CPU cores what nvcc makes of the kernels.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import cast

from pyalexnet.device import natives
from pyalexnet.device.native import CoresModule, NativeModule, NativeStream
from pyalexnet.errors import DeviceNotFoundError
from pyalexnet.system.checks import shown
from pyalexnet.system.machine import available_bytes

TARGETS = ("cuda", "cpu", "sim", *(["ptx"] if natives.is_built("_ptx") else []))
DEFAULT_DEVICE = "cpu:0"

_INSTRUCTION_SETS = ("x86_64", "x86_64_v3", "x86_64_v4", "aarch64")  # of a kind the plainest first


@dataclass(frozen=True)
class Device:
    """One device of one target.

    Attributes:
        target: ``"cpu"``, ``"sim"`` or ``"cuda"``; ``"ptx"`` where it was built.
        index: number of the device within its target.
    """

    target: str
    index: int

    def __str__(self) -> str:
        return f"{self.target}:{self.index}"

    @property
    def native(self) -> NativeModule:
        """The native module that holds the target's kernels."""
        return native_module(self.target)

    @property
    def free_bytes(self) -> int:
        """Memory that can still be taken: virtual devices hand out no more than this process may still take."""
        free = self.native.device_info(self.index)["free_bytes"]
        return free if self.target == "cuda" else min(free, available_bytes())

    def require_precision(self, precision: str) -> None:
        """See that products can be computed in a precision, for which a GPU needs tensor cores.

        Raises:
            ValueError: they cannot, or there is no such precision.
        """
        self.native.require_precision(precision, self.index)

    @functools.cached_property
    def stream(self) -> NativeStream:
        """The stream that ``pyalexnet.ops`` uses on this device."""
        return self.native.Stream(self.index)


@dataclass(frozen=True)
class DeviceInfo:
    """What :func:`devices` tells of a device.

    Attributes:
        name: what to pass as ``device=``, for example ``"cpu:0"``.
        description: the processor's or GPU's own name.
        cores: CPU cores or multiprocessors; the virtual devices of a CPU share them.
        total_bytes: memory that the device hands out.
        free_bytes: memory that can still be taken.
        instruction_set: for ``cpu``, the instruction set whose kernels were chosen at import, else empty.
        peers: names of the devices whose memory it can access without a detour through the host.
    """

    name: str
    description: str
    cores: int
    total_bytes: int
    free_bytes: int
    instruction_set: str
    peers: tuple[str, ...]


def get_device(name: str, argument: str = "device") -> Device:
    """The device of that name.

    Args:
        name: the device's.
        argument: what messages call it.

    Raises:
        TypeError: the name is no string.
        DeviceNotFoundError: the name is malformed, or there is no such device here; the message lists what is.
    """
    if not isinstance(name, str):
        raise TypeError(f"{argument} is {shown(name)}; it must be a name, like 'cpu:0'")
    found = _known_device(name)
    if isinstance(found, str):
        raise DeviceNotFoundError(f"{argument} is {name!r}{found}")
    return found


@functools.cache
def _known_device(name: str) -> Device | str:
    """The device of that name, or how a message about one that is not here ends."""
    target, colon, number = name.partition(":")
    if target not in TARGETS or (colon and not number.isdecimal()):
        return f"; it must be one of {TARGETS} and a number, like 'cpu:0'"
    index = int(number or 0)
    count = _device_count(target)
    if index >= count:
        known = ", ".join(info.name for info in devices())
        return f", but {_absence(target, count)}. Devices here: {known}"
    return Device(target, index)


def devices() -> list[DeviceInfo]:
    """All devices of this machine that a net can run on, best target first."""
    found = []
    for target in TARGETS:
        for index in range(_device_count(target)):
            device = Device(target, index)
            info = device.native.device_info(index)
            found.append(
                DeviceInfo(
                    name=str(device),
                    description=info["name"],
                    cores=info["multiprocessors"],
                    total_bytes=info["total_bytes"],
                    free_bytes=device.free_bytes,
                    instruction_set=instruction_set() if target == "cpu" else "",
                    peers=tuple(
                        f"{target}:{peer}"
                        for peer in range(_device_count(target))
                        if peer != index and device.native.can_access_peer(index, peer)
                    ),
                )
            )
    return found


@functools.cache
def native_module(target: str) -> NativeModule:
    """The native module of a target.

    Raises:
        DeviceNotFoundError: the target was not built.
        StaleBuildError: its module does not go with this package.
    """
    name = f"_cpu_{instruction_set()}" if target == "cpu" else f"_{target}"
    if not natives.is_built(name):
        raise DeviceNotFoundError(f"this installation of pyalexnet has no {target!r} target")
    return natives.load(name)


@functools.cache
def instruction_set() -> str:
    """The best instruction set that this processor has and this installation was built for.

    The environment variable ``PYALEXNET_CPU_ISA`` asks for another one.

    Raises:
        DeviceNotFoundError: the one asked for is not supported here.
    """
    built = [name for name in _INSTRUCTION_SETS if natives.is_built(f"_cpu_{name}")]
    # The plainest one is asked, since a module for another may need on loading what this processor has not.
    known = cast(CoresModule, natives.load(f"_cpu_{built[0]}")).supported_instruction_sets() if built else []
    supported = [name for name in known if name in built]
    if not supported:
        raise DeviceNotFoundError(
            f"this installation of pyalexnet has no 'cpu' target for this processor; {natives.what_to_run()}"
        )
    asked = os.environ.get("PYALEXNET_CPU_ISA", supported[0])
    if asked not in supported:
        raise DeviceNotFoundError(f"PYALEXNET_CPU_ISA is {asked!r}; it must be one of {', '.join(supported)}")
    return asked


def _device_count(target: str) -> int:
    if target != "cpu" and not natives.is_built(f"_{target}"):
        return 0
    return native_module(target).device_count()


def _absence(target: str, count: int) -> str:
    if count:
        return f"{target} has only {count} devices"
    if not natives.is_built(f"_{target}"):
        needed = "it needs nvcc at build time" if target == "cuda" else natives.what_to_run()
        return f"pyalexnet was installed without the {target!r} target ({needed})"
    return f"the {target} driver reports no device"
