"""What this process may use of the machine: cores and memory, within its cgroups' and its own limits.

A container's limits are those of a control group, version 1 or 2, and of the groups that it lies in: the tightest
counts. Of what a group uses, files that are only cached give way and do not count.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")

# Version 1 has no word for "no limit", but a number that no machine has.
_NO_LIMIT = 2**60

_MOST_THREADS = 4096

_sharing_processes = 1


@dataclass(frozen=True)
class _Group:
    """A control group: its folder, and the version of its files."""

    folder: Path
    version: int

    def number(self, name: str) -> int | None:
        """What a file of it holds; None where there is none, or no limit."""
        text = self.text(name).strip()
        return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None

    def text(self, name: str) -> str:
        """A file of it, empty where there is none."""
        try:
            return (self.folder / name).read_text()
        except OSError:
            return ""

    @property
    def memory_limit(self) -> int | None:
        """Bytes from which on the kernel holds back or kills, if there is a limit."""
        names = ("memory.max", "memory.high") if self.version == 2 else ("memory.limit_in_bytes",)
        return min((limit for name in names if (limit := self.number(name)) is not None), default=None)

    @property
    def memory_used(self) -> int:
        """Bytes that nothing but its processes' end gives back."""
        used = self.number("memory.current" if self.version == 2 else "memory.usage_in_bytes") or 0
        prefix = "" if self.version == 2 else "total_"
        fields = dict(line.split() for line in self.text("memory.stat").splitlines())
        names = (f"{prefix}active_file", f"{prefix}inactive_file", "slab_reclaimable")
        return max(0, used - sum(int(fields.get(name, 0)) for name in names))

    @property
    def cores(self) -> float | None:
        """Cores' time that its processes get, if there is a limit."""
        if self.version == 2:
            quota, _, period = self.text("cpu.max").partition(" ")
        else:
            quota, period = self.text("cpu.cfs_quota_us").strip(), self.text("cpu.cfs_period_us")
        return int(quota) / int(period) if quota.isdecimal() and int(period or 0) else None


def threads_to_use() -> int:
    """How many threads execute kernels: ``PYALEXNET_NUM_THREADS`` of the environment, or :func:`usable_cores`.

    Raises:
        ValueError: the variable holds no such number.
    """
    asked = os.environ.get("PYALEXNET_NUM_THREADS")
    if asked is None:
        return usable_cores()
    if not asked.isdecimal() or not 1 <= int(asked) <= _MOST_THREADS:
        raise ValueError(f"PYALEXNET_NUM_THREADS is {asked!r}; it must be a whole number from 1 to {_MOST_THREADS}")
    return int(asked)


def usable_cores(root: Path = _ROOT) -> int:
    """How many threads compute at the same time: the cores that may be used, or as many as their time makes up.

    Where several processes share them, it is this one's part.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    limits = [limit for group in _groups(root, "cpu") if (limit := group.cores) is not None]
    cores = min([len(os.sched_getaffinity(0)), *(max(1, math.ceil(limit)) for limit in limits)])
    return max(1, cores // _sharing_processes)


def let_share_cores(processes: int) -> None:
    """From now on, :func:`usable_cores` counts with so many processes, this one included, that use the same cores."""
    global _sharing_processes
    _sharing_processes = processes


def memory_bytes(root: Path = _ROOT) -> int:
    """The memory that the machine, or the group that this process is in, has altogether.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    limits = [limit for group in _groups(root, "memory") if (limit := group.memory_limit) is not None]
    return min([_meminfo(root, "MemTotal"), *limits])


def available_bytes(root: Path = _ROOT) -> int:
    """The memory that this process can still take without swapping, being killed, or being refused it.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    free = [_meminfo(root, "MemAvailable")]
    for group in _groups(root, "memory"):
        if group.memory_limit is not None:
            free.append(group.memory_limit - group.memory_used)
    for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            free.append(soft - _kilobytes(root / "proc/self/status", field))
    return max(0, min(free))


def _groups(root: Path, controller: str) -> Iterator[_Group]:
    """The group of this process that a controller limits, and those that it lies in."""
    mounts = list(_mounts(root))
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = 1 if controllers else 2
        if controllers and controller not in controllers.split(","):
            continue
        for kind, options, inner, place in mounts:
            if (kind == "cgroup2") != (version == 2) or (version == 1 and controller not in options):
                continue
            # What is mounted may be a group itself; where the path is that of the outside, it is this one.
            below = os.path.relpath(path, inner)
            top = root / place.lstrip("/")
            folder = top if below.startswith("..") else top / below
            yield _Group(top, version)
            for part in range(1, len(folder.relative_to(top).parts) + 1):
                yield _Group(top.joinpath(*folder.relative_to(top).parts[:part]), version)


def _mounts(root: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """Of each mounted tree of control groups: kind, options, which group is mounted, and where."""
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, (kind, *_, options) = before.split(), after.split()
        if kind in ("cgroup", "cgroup2"):
            yield kind, options.split(","), fields[3], fields[4]


def _meminfo(root: Path, field: str) -> int:
    return _kilobytes(root / "proc/meminfo", field)


def _kilobytes(path: Path, field: str) -> int:
    """A field of a file of lines such as ``MemTotal:  16384 kB``, in bytes.

    Raises:
        OSError: the file does not tell it.
    """
    for line in path.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} does not tell {field}")
