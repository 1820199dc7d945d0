#!/usr/bin/env python3
"""Compile kernels and runtime for aarch64, and run their C++ tests on an emulated processor.

    tools/cross_check.py            the tests of src/hostcuda, and what kernels compute, as `cpu` and as `sim`
    tools/cross_check.py --short    in a minute or two: each of them once, and the kernels as `cpu` alone

Needs a cross compiler and qemu's user mode; on Debian and Ubuntu g++-aarch64-linux-gnu and qemu-user-static. The tests
in Python are not run: they would need Python, NumPy and the rest for that processor, not a compiler alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILER = "aarch64-linux-gnu-g++"
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
LIBRARIES = "/usr/aarch64-linux-gnu"  # where Debian's compiler has the processor's

# How cores are shared out is a matter of time, and of that an emulator has its own.
NOT_EMULATED = ("one_device_gets_all_cores", "two_devices_share_the_cores")
WHOLE = ["tests/hostcuda/test_hostcuda.py", "tests/kernels"]
SHORT = ["tests/hostcuda/test_hostcuda.py::test_case", "tests/kernels/test_arithmetic.py", "-k", "not SIM"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests.

    Returns:
        pytest's exit status; 2 where the compiler or the emulator is lacking.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the part that takes a minute or two")
    options = parser.parse_args(arguments)
    emulator = next((name for name in EMULATORS if shutil.which(name)), None)
    lacking = [name for name, found in ((COMPILER, shutil.which(COMPILER)), (EMULATORS[0], emulator)) if not found]
    if lacking:
        print(f"not on the path: {', '.join(lacking)}", file=sys.stderr)
        return 2
    environment = {**os.environ, "CXX": COMPILER, "CROSSCOMPILING_EMULATOR": f"{emulator} -L {LIBRARIES}"}
    deselected = [f"--deselect=tests/hostcuda/test_hostcuda.py::test_case[{name}]" for name in NOT_EMULATED]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "-p", "no:cacheprovider",
         *(SHORT if options.short else WHOLE), *deselected],
        cwd=ROOT, env=environment,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
