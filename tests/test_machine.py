"""Cores and memory within control groups, versions 1 and 2, in containers, and within the process's own limits."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pyalexnet.device.memory import MemoryPlan
from pyalexnet.system import machine
from pyalexnet.system.machine import available_bytes, memory_bytes, usable_cores

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GiB, 12 of them free, and 8 cores, without control groups."""
    write(tmp_path / "proc", "meminfo", "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n")
    write(tmp_path / "proc/self", "status", "Name:\tpython\nVmSize:\t2097152 kB\nVmData:\t1048576 kB\n")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _process: set(range(8)))
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def write(folder: Path, name: str, text: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{text}\n")


def mounted(root: Path, kind: str, place: str, *, inner: str = "/", path: str, options: str = "rw") -> Path:
    """A tree of control groups, and where it has this process."""
    controllers = "" if kind == "cgroup2" else options.split(",", 1)[1]
    with open(root / "proc/self/mountinfo", "a") as file:
        file.write(f"30 23 0:26 {inner} {place} rw,nosuid shared:4 - {kind} cgroup {options}\n")
    with open(root / "proc/self/cgroup", "a") as file:
        file.write(f"{0 if kind == 'cgroup2' else 5}:{controllers}:{path}\n")
    return root / place.lstrip("/")


def test_a_machine_without_control_groups(root: Path) -> None:
    assert (usable_cores(root), memory_bytes(root), available_bytes(root)) == (8, 16 * GIB, 12 * GIB)


def test_version_2_what_is_only_cached_gives_way(root: Path) -> None:
    group = mounted(root, "cgroup2", "/sys/fs/cgroup", path="/job") / "job"
    write(group, "memory.max", 4 * GIB)
    write(group, "memory.current", 3 * GIB)
    write(group, "memory.stat", f"anon {GIB}\nactive_file {GIB}\ninactive_file {GIB // 2}\nslab_reclaimable 0")
    assert (memory_bytes(root), available_bytes(root)) == (4 * GIB, 5 * GIB // 2)
    write(group, "memory.high", 3 * GIB)
    assert (memory_bytes(root), available_bytes(root)) == (3 * GIB, 3 * GIB // 2)
    write(group, "memory.high", "max")
    write(group, "memory.max", "max")
    assert (memory_bytes(root), available_bytes(root)) == (16 * GIB, 12 * GIB)


def test_of_groups_within_groups_the_tightest_counts(root: Path) -> None:
    top = mounted(root, "cgroup2", "/sys/fs/cgroup", path="/a/b/c")
    for name, limit, used in (("a", 8, 7), ("a/b", 6, 1), ("a/b/c", "max", 1)):
        write(top / name, "memory.max", limit if limit == "max" else int(limit) * GIB)
        write(top / name, "memory.current", used * GIB)
    assert (memory_bytes(root), available_bytes(root)) == (6 * GIB, GIB)
    write(top / "a", "cpu.max", "250000 100000")
    write(top / "a/b", "cpu.max", "max 100000")
    write(top / "a/b/c", "cpu.max", "600000 100000")
    assert usable_cores(root) == 3  # two and a half


def test_version_1(root: Path) -> None:
    memory = mounted(root, "cgroup", "/sys/fs/cgroup/memory", path="/job", options="rw,memory")
    cpu = mounted(root, "cgroup", "/sys/fs/cgroup/cpu", path="/job", options="rw,cpu,cpuacct")
    write(memory, "memory.limit_in_bytes", 9223372036854771712)  # no limit
    write(memory / "job", "memory.limit_in_bytes", 2 * GIB)
    write(memory / "job", "memory.usage_in_bytes", GIB)
    write(memory / "job", "memory.stat", f"inactive_file 0\ntotal_inactive_file {GIB // 4}")
    write(cpu / "job", "cpu.cfs_quota_us", 50000)
    write(cpu / "job", "cpu.cfs_period_us", 100000)
    assert (usable_cores(root), memory_bytes(root), available_bytes(root)) == (1, 2 * GIB, 5 * GIB // 4)
    write(cpu / "job", "cpu.cfs_quota_us", -1)
    assert usable_cores(root) == 8


@pytest.mark.parametrize(("inner", "path"), [("/docker/1", "/docker/1"), ("/", "/"), ("/", "/../../outside")])
def test_in_a_container_what_is_mounted_is_the_group(root: Path, inner: str, path: str) -> None:
    group = mounted(root, "cgroup2", "/sys/fs/cgroup", inner=inner, path=path)
    write(group, "memory.max", GIB)
    write(group, "cpu.max", "200000 100000")
    assert (usable_cores(root), memory_bytes(root)) == (2, GIB)


def test_a_group_that_is_over_its_limit_has_nothing_left(root: Path) -> None:
    group = mounted(root, "cgroup2", "/sys/fs/cgroup", path="/")
    write(group, "memory.max", GIB)
    write(group, "memory.current", 2 * GIB)
    assert available_bytes(root) == 0


@pytest.mark.parametrize(("kind", "left"), [(resource.RLIMIT_AS, 3), (resource.RLIMIT_DATA, 4)])
def test_the_process_s_own_limits(root: Path, monkeypatch: pytest.MonkeyPatch, kind: int, left: int) -> None:
    def limits(asked: int) -> tuple[int, int]:
        return (5 * GIB if asked == kind else resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(machine.resource, "getrlimit", limits)
    assert available_bytes(root) == left * GIB


def test_devices_share_the_computer_s_memory() -> None:
    plan = MemoryPlan(8, True, ("cpu:0", "cpu:1"), ({"conv1": 600}, {"conv1": 600}), (1000, 1000), 1200)
    assert plan.fits
    plan = MemoryPlan(8, True, ("cpu:0", "cpu:1"), ({"conv1": 600}, {"conv1": 600}), (1000, 1000), 1200, 1)
    assert not plan.fits
    assert "together" in str(plan)
    assert MemoryPlan(8, True, ("cuda:0",), ({"conv1": 600},), (1000,), None, 1).fits


MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.slow
@pytest.mark.skipif(not (MEMORY_GROUPS / "cgroup.procs").exists(), reason="no control groups of version 1")
@pytest.mark.timeout(1200)
def test_a_net_that_does_not_fit_is_refused_before_the_kernel_kills() -> None:
    group = MEMORY_GROUPS / "pyalexnet-test"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(1300 * 2**20))
        for batch_size, status in ((128, 1), (2, 0)):
            command = (
                f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -m pyalexnet.cli train --quiet --epochs 1 "
            )
            command += f"--schedule 0.005@0 --validation 0 --devices cpu:0 --batch-size {batch_size}"
            finished = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
            assert finished.returncode == status, finished.stderr
            assert ("memory left" in finished.stderr) == (status == 1)
    finally:
        group.rmdir()
