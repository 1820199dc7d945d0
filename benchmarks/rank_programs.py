"""How the benchmarks start ranks on this machine, and what network these may have between them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence

# More ranks than cores, and as root in a container.
OF_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
# Messages go by TCP through the loopback device of a namespace of their own, which may let through so many bits a
# second. No bucket is smaller than what goes through between two ticks of a slow clock.
_NAMESPACE = """
ip link set lo up && if [ "$1" ]; then tc qdisc add dev lo root tbf rate "$1"bit burst "$2" latency 100ms; fi &&
shift 2 && exec "$@"
"""
_LEAST_BUCKET_BYTES = 2**19
_TICK_S = 0.004
_BY_TCP = ("--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo")


def output_of_ranks(ranks: int, program: Sequence[str], gbit_per_s: float | None = None) -> str:
    """What so many ranks of a program print.

    Args:
        ranks: how many; on one machine, more of them than cores if need be.
        program: the command.
        gbit_per_s: what each can send while it receives as much, by the Linux kernel's network; infinite: as much as
            the cores bring about there. They share memory where there is none.

    Raises:
        SystemExit: they fail, and with what they said.
    """
    mpirun = ["mpirun", "-n", str(ranks)]
    if gbit_per_s is not None:
        missing = [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]
        if missing:
            raise SystemExit(f"a network of {gbit_per_s} Gbit/s needs {', '.join(missing)} (util-linux and iproute2)")
        limit = ("", "")
        if math.isfinite(gbit_per_s):
            bits = round(1e9 * ranks * gbit_per_s)  # all ranks' messages go through the one device
            limit = (str(bits), str(max(_LEAST_BUCKET_BYTES, round(bits / 8 * _TICK_S))))
        within = ["unshare", "--net", "--map-root-user", "sh", "-c", _NAMESPACE, "sh", *limit]
        mpirun = [*within, *mpirun, *_BY_TCP]
    finished = subprocess.run([*mpirun, *program], capture_output=True, text=True, env=os.environ | OF_OPEN_MPI)
    if finished.returncode:
        raise SystemExit(f"{ranks} ranks: {finished.stderr.strip()}")
    return finished.stdout
