#!/usr/bin/env python3
"""Show what ptxas reported of every CUDA kernel, and fail where one spills registers to memory.

    tools/check_spills.py BUILD

BUILD is a build directory, where the cuda target leaves a report beside every object file (*.ptxas), or
one such file. The exit status is 1 where a kernel spills, and also where there is no kernel to judge.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)\w*'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Kernel:
    """One kernel for one GPU architecture, as ptxas reported it; sizes in bytes a thread."""

    symbol: str
    architecture: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int

    @property
    def spills(self) -> bool:
        """Whether some values did not fit into registers."""
        return self.spill_stores > 0 or self.spill_loads > 0


def main() -> int:
    """Print the table, spilling kernels last, and return the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("build", type=Path, metavar="BUILD")
    build = parser.parse_args().build

    files = sorted(build.rglob("*.ptxas")) if build.is_dir() else [build]
    kernels = read_reports("".join(file.read_text() for file in files))
    if not kernels:
        print(f"no kernel in {len(files)} compiler reports at {build}: is the cuda target built there?")
        return 1

    print(table(kernels))
    spilling = [kernel for kernel in kernels if kernel.spills]
    architectures = ", ".join(map(str, sorted({kernel.architecture for kernel in kernels})))
    print(f"{len(kernels)} kernels for sm_({architectures}): {len(spilling) or 'none'} spilling registers")
    return 1 if spilling else 0


def read_reports(text: str) -> list[Kernel]:
    """The kernels in ptxas's messages, by name and architecture, those that spill last.

    Raises:
        ValueError: a kernel's figures are not where they are expected.
    """
    _, *fields = ENTRY.split(text)
    kernels = [read_report(*kernel) for kernel in zip(fields[::3], fields[1::3], fields[2::3], strict=True)]
    return sorted(kernels, key=lambda kernel: (kernel.spills, kernel.symbol, kernel.architecture))


def read_report(symbol: str, architecture: str, report: str) -> Kernel:
    """One kernel from the lines after its announcement; functions it calls without inlining count with it."""
    frames = [[int(figure) for figure in frame] for frame in FRAME.findall(report)]
    registers = REGISTERS.search(report)
    if not frames or registers is None:
        raise ValueError(f"cannot read ptxas's report of {symbol}:{report}")
    stack, stores, loads = map(sum, zip(*frames, strict=True))
    return Kernel(symbol, int(architecture), int(registers[1]), stack, stores, loads)


def table(kernels: list[Kernel]) -> str:
    """The kernels one a line, with a heading."""
    lines = [f"{'sm':>4} {'registers':>9} {'stack':>6} {'stores':>6} {'loads':>6}  kernel (bytes a thread)"]
    for kernel, name in zip(kernels, demangle([kernel.symbol for kernel in kernels]), strict=True):
        lines.append(
            f"{kernel.architecture:>4} {kernel.registers:>9} {kernel.stack:>6} {kernel.spill_stores:>6} "
            f"{kernel.spill_loads:>6}  {name}{'  SPILLS' if kernel.spills else ''}"
        )
    return "\n".join(lines)


def demangle(symbols: list[str]) -> list[str]:
    """C++ names without their parameter lists, or the symbols themselves where there are no binutils."""
    if shutil.which("c++filt") is None:
        return symbols
    lines = "\n".join(symbols)
    names = subprocess.run(["c++filt", "-p"], input=lines, check=True, capture_output=True, text=True).stdout
    return re.sub(r"\bvoid |pyalexnet::|\(anonymous namespace\)::|_GLOBAL__N__\w+::", "", names).splitlines()


if __name__ == "__main__":
    sys.exit(main())
