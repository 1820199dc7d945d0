"""Judge the machine code of the GPU kernels, without a GPU.

    python benchmarks/gpu_report.py                           all kernels of the module _cuda that is installed here
    python benchmarks/gpu_report.py --arch 75 90 --kernel patches_times_matrix
    python benchmarks/gpu_report.py --build --arch 90         compiles the kernels first
    python benchmarks/gpu_report.py --check                   fails where a kernel breaks a bound

Of every kernel it tells what one block takes and how many blocks fit on a multiprocessor, and of its main loop what an
iteration is made of. docs/gpu.md explains the columns; benchmarks/machine_code.py says how they are counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import machine_code
from machine_code import CompiledKernel, LoopFigures, MachineCodeError
from pyalexnet.device import natives

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Kernel:
    """A kernel as it was compiled for one architecture.

    Attributes:
        name: without namespaces, and with its template's arguments as words.
        registers: a thread's.
        threads: a block's.
        static_shared: bytes of shared memory that the kernel declares.
        dynamic_shared: bytes more that its launcher asks for.
        blocks: how many fit on a multiprocessor at a time.
        occupancy: their warps, of all that a multiprocessor has places for.
        stack: bytes a thread.
        local_loads: instructions that read what did not fit into registers, or the stack; local_stores write it.
        main_loop: None where no loop multiplies and adds.
    """

    name: str
    architecture: int
    registers: int
    threads: int
    static_shared: int
    dynamic_shared: int
    blocks: int
    occupancy: float
    stack: int
    local_loads: int
    local_stores: int
    instructions: int
    main_loop: LoopFigures | None


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has place for; bytes of shared memory, of which each block loses `reserved`."""

    blocks: int
    warps: int
    shared: int
    reserved: int


# CUDA programming guide, appendix on compute capabilities, tables "Device and Streaming Multiprocessor (SM)
# Information" and "Memory Information"; the system's part of a block's shared memory: the guide's text on 8.x.
MULTIPROCESSORS = {
    75: Multiprocessor(blocks=16, warps=32, shared=64 << 10, reserved=0),
    80: Multiprocessor(blocks=32, warps=64, shared=164 << 10, reserved=1 << 10),
    86: Multiprocessor(blocks=16, warps=48, shared=100 << 10, reserved=1 << 10),
    87: Multiprocessor(blocks=16, warps=48, shared=164 << 10, reserved=1 << 10),
    89: Multiprocessor(blocks=24, warps=48, shared=100 << 10, reserved=1 << 10),
    90: Multiprocessor(blocks=32, warps=64, shared=228 << 10, reserved=1 << 10),
    100: Multiprocessor(blocks=32, warps=64, shared=228 << 10, reserved=1 << 10),
    103: Multiprocessor(blocks=32, warps=64, shared=228 << 10, reserved=1 << 10),
    110: Multiprocessor(blocks=24, warps=48, shared=228 << 10, reserved=1 << 10),
    120: Multiprocessor(blocks=24, warps=48, shared=100 << 10, reserved=1 << 10),
    121: Multiprocessor(blocks=24, warps=48, shared=100 << 10, reserved=1 << 10),
}
# The same on all of these: registers are given to warps by 256, of a quarter of the multiprocessor each, and shared
# memory by so many bytes (cuda_occupancy.h).
QUARTERS, QUARTER_REGISTERS, REGISTER_UNIT, SHARED_UNIT = 4, 16 << 10, 256, 128

# Threads of a block where the kernel does not say how many it takes: those of src/device/elementwise.cuh and, at most,
# rows.cuh.
THREADS = 256

# The enumerators of template arguments, as words; they stand in src/device/patches.cuh, src/device/precision.cuh and
# src/kernels/spectra.cuh.
ENUMERATORS = {
    "Access": ("any", "vectors", "quads", "inside"),
    "Precision": ("fp32", "tf32", "bf16", "tf32x3"),
    "Side": ("left", "right"),
}

# Which kernels a bound is for. At AlexNet's shapes products of matrices read all their arrays by whole quads, but for
# conv1's: it has 48 filters a tower, and runs of 33 floats.
GROUPS = {
    "wide products": r"patches_times_matrix 128x128/8x8 quads",
    "narrow products": r"patches_times_matrix 128x64/8x8 quads",
    "conv1's products": r"patches_times_matrix 128x48/8x8 inside",
    "products by quads": r"patches_times_matrix .*/8x8 quads",
    "all products": r"patches_times_matrix .*/8x8 (quads|inside)",
    "tensor cores' products": r"patches_times_matrix .* (tf32|bf16|tf32x3) quads",
    "all others": r"^(?!.*patches_times_matrix (.*/8x8 (quads|inside)|.* (tf32|bf16|tf32x3) ))",
}


@dataclass(frozen=True)
class Bound:
    """What a figure of some kernels must be.

    Attributes:
        figure: one of FIGURES.
        kernels: one of GROUPS.
        architectures: those that it is for.
        bound: the most or, if `at_least`, the least that passes: what holds today.
        goal: what it is to become; the bound may be past it.
        reason: why it matters.
    """

    figure: str
    kernels: str
    architectures: tuple[int, ...]
    bound: float
    goal: float
    reason: str
    at_least: bool = False

    def broken_by(self, value: float) -> bool:
        """Whether a kernel with this value breaks it; a NaN does."""
        return not (value >= self.bound if self.at_least else value <= self.bound)

    def text(self, value: float) -> str:
        """A value of its figure, for people."""
        return f"{value:.1%}" if self.figure == "share" else f"{value:g}"


@dataclass(frozen=True)
class Verdict:
    """A bound, and the kernel that comes nearest to breaking it or breaks it most."""

    bound: Bound
    kernel: Kernel
    worst: float


def narrow_global(kernel: Kernel) -> float:
    """Accesses to device memory in the main loop of less than 16 bytes, or by LD and ST, whose memory is not known."""
    accesses = kernel.main_loop.accesses if kernel.main_loop else {}
    return sum(
        count
        for way, count in accesses.items()
        if way.startswith(("LDG", "STG", "LD.", "ST.")) and way not in ("LDG.128", "STG.128", "LDGSTS.128")
    )


FIGURES: dict[str, Callable[[Kernel], float]] = {
    "registers": lambda kernel: kernel.registers,
    "local": lambda kernel: kernel.local_loads + kernel.local_stores,
    "blocks": lambda kernel: kernel.blocks,
    "share": lambda kernel: kernel.main_loop.share if kernel.main_loop else 0.0,
    "lds_least": lambda kernel: kernel.main_loop.lds_least or 0 if kernel.main_loop else 0,
    "lds_median": lambda kernel: kernel.main_loop.lds_median or 0 if kernel.main_loop else 0,
    "narrow_global": narrow_global,
}

ALL = tuple(MULTIPROCESSORS)
# Up to 8.0 a quarter of a multiprocessor takes two cycles for the multiply-adds of a warp, and other instructions find
# place in between; from 8.6 on it takes one, and all compete for it.
HALF_RATE, FULL_RATE = (75, 80), tuple(each for each in ALL if each > 80)
WITH_TENSOR_CORES = tuple(each for each in ALL if each >= 80)
_TENSOR_SHARE = "an instruction of a tensor core takes four cycles or more, in which as many others find place"
_SHARE = "what is no multiply-add takes its place, and from 8.6 on its cycle"
_AHEAD = "a load from shared memory takes as long as some 30 multiply-adds, more where others wait too"
_NARROW = "an access of 4 bytes costs as much as one of 16, and a branch around it parts the loop"
_LOCAL = "what does not fit into registers, or is indexed by what the compiler does not know, waits in memory"
_REGISTERS = "with 128 there are 16 warps on a multiprocessor"
_BLOCKS = "Tile::kBlocksPerMultiprocessor, which the plan of a product counts on"

BOUNDS = (
    Bound("share", "wide products", HALF_RATE, 0.86, 0.84, _SHARE, at_least=True),
    Bound("share", "wide products", FULL_RATE, 0.85, 0.82, _SHARE, at_least=True),
    Bound("share", "narrow products", HALF_RATE, 0.83, 0.84, _SHARE, at_least=True),
    Bound("share", "narrow products", FULL_RATE, 0.82, 0.82, _SHARE, at_least=True),
    Bound("share", "conv1's products", HALF_RATE, 0.79, 0.84, _SHARE, at_least=True),
    Bound("share", "conv1's products", FULL_RATE, 0.78, 0.82, _SHARE, at_least=True),
    Bound("lds_least", "all products", ALL, 0, 48, _AHEAD, at_least=True),
    Bound("lds_median", "products by quads", ALL, 32, 48, _AHEAD, at_least=True),
    Bound("lds_median", "conv1's products", ALL, 18, 48, _AHEAD, at_least=True),
    Bound("narrow_global", "wide products", ALL, 0, 0, _NARROW),
    Bound("narrow_global", "narrow products", ALL, 0, 0, _NARROW),
    Bound("narrow_global", "conv1's products", ALL, 8, 0, _NARROW),
    Bound("local", "all products", ALL, 0, 0, _LOCAL),
    Bound("local", "all others", ALL, 5, 0, _LOCAL),  # lrn_in_map_backward, where sums are huge
    Bound("share", "tensor cores' products", WITH_TENSOR_CORES, 0.07, 0.3, _TENSOR_SHARE, at_least=True),
    Bound("narrow_global", "tensor cores' products", WITH_TENSOR_CORES, 0, 0, _NARROW),
    Bound("local", "tensor cores' products", WITH_TENSOR_CORES, 0, 0, _LOCAL),
    Bound("blocks", "tensor cores' products", WITH_TENSOR_CORES, 1, 2, _BLOCKS, at_least=True),
    Bound("registers", "wide products", ALL, 128, 128, _REGISTERS),
    Bound("registers", "narrow products", ALL, 153, 128, _REGISTERS),
    Bound("registers", "conv1's products", ALL, 128, 128, _REGISTERS),
    Bound("blocks", "wide products", ALL, 2, 2, _BLOCKS, at_least=True),
    Bound("blocks", "narrow products", ALL, 3, 4, _BLOCKS, at_least=True),
    Bound("blocks", "conv1's products", ALL, 5, 5, _BLOCKS, at_least=True),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, print, judge.

    Returns:
        1 if a bound that was to be checked is broken, or if there was nothing to judge; else 0.
    """
    options = parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 170)
    try:
        module = build(options.arch) if options.build else options.module or installed_module()
        kernels = [kernel for kernel in read_report(module, options.arch) if re.search(options.kernel, kernel.name)]
    except MachineCodeError as error:
        print(error, file=sys.stderr)
        return 1
    if not kernels:
        print(f"{module} has no kernel whose name has {options.kernel!r}", file=sys.stderr)
        return 1
    verdicts = judge(kernels)
    show(console, kernels)
    if options.json:
        report = report_of(module, kernels, verdicts)
        options.json.write_text(json_of(report), encoding="utf-8")
    if not options.check:
        return 0
    show_bounds(console, verdicts)
    broken = broken_bounds(kernels)
    for line in broken:
        print(line)
    if not verdicts:
        print("no bound is for any of these kernels")
    return 1 if broken or not verdicts else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--module",
        type=Path,
        metavar="FILE",
        help="a native module, an object file or a cubin; by default the module _cuda of this Python",
    )
    source.add_argument("--build", action="store_true", help="compile the kernels, in build/gpu_report")
    parser.add_argument(
        "--arch",
        nargs="+",
        type=architecture,
        metavar="SM",
        help="compute capabilities, such as 75 or sm_90; all that the module has by default",
    )
    parser.add_argument("--kernel", default="", metavar="PATTERN", help="only kernels whose name has this pattern")
    parser.add_argument("--check", action="store_true", help="fail where a bound is broken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")  # fmt: skip
    return parser.parse_args(arguments)


def architecture(text: str) -> int:
    """A compute capability without its point: 90 for `90` and `sm_90`."""
    found = re.fullmatch(r"(?:sm_)?(\d+)", text)
    if not found or int(found[1]) not in MULTIPROCESSORS:
        known = ", ".join(map(str, MULTIPROCESSORS))
        raise argparse.ArgumentTypeError(f"{text!r} is no architecture known here; it must be one of {known}")
    return int(found[1])


def installed_module() -> Path:
    """The module _cuda of this Python's pyalexnet.

    Raises:
        MachineCodeError: there is none, or it was built from other sources than those beside the package.
    """
    spec = importlib.util.find_spec("pyalexnet._cuda")
    if spec is None or spec.origin is None:
        raise MachineCodeError("there is no module _cuda here: build it (--build), or name a file (--module)")
    module = Path(spec.origin)
    digest = natives.digest_of_sources()
    if digest is not None and digest.encode() not in module.read_bytes():
        raise MachineCodeError(f"{module} was built from other sources than those here; {natives.what_to_run()}")
    return module


def build(architectures: Sequence[int] | None) -> Path:
    """Compile the module _cuda, for these architectures or for those that a release has, in build/gpu_report.

    Raises:
        MachineCodeError: it does not compile.
    """
    folder = ROOT / "build" / "gpu_report"
    wanted = ";".join(f"{each}-real" for each in architectures or ())
    command = [sys.executable, str(ROOT / "tools" / "develop.py"), "_cuda", "--build-dir", str(folder)]
    command += ["-D", "PYALEXNET_CUDA=ON", "-D", f"PYALEXNET_CUDA_ARCHITECTURES={wanted}"]
    command += ["-D", f"CMAKE_LIBRARY_OUTPUT_DIRECTORY={folder}"]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise MachineCodeError("the kernels do not compile")
    (module,) = folder.glob("_cuda*.so")
    return module


def read_report(module: Path, architectures: Sequence[int] | None) -> list[Kernel]:
    """The kernels of a module, those that multiply and add in a loop first."""
    compiled = machine_code.read_kernels(module, architectures)
    names = machine_code.demangle([each.symbol for each in compiled]) if compiled else []
    kernels = [kernel_of(each, short_name(name)) for each, name in zip(compiled, names, strict=True)]
    return sorted(kernels, key=lambda kernel: (kernel.architecture, not_a_product(kernel), kernel.name))


def not_a_product(kernel: Kernel) -> bool:
    """Whether a kernel is none of the products of matrices."""
    return "times_matrix" not in kernel.name


def short_name(demangled: str) -> str:
    """A kernel's name with its template's arguments as words: `patches_times_matrix 128x64/8x8 vectors`."""
    name, _, arguments = demangled.partition("<")
    words = re.sub(r"GpuTile<(\d+), (\d+), (\d+), (\d+), \d+>", r"\1x\2/\3x\4", arguments.removesuffix(">"))
    words = re.sub(r"TensorTile<(\d+), (\d+), (\d+), (\d+), ([^>]*)>", r"\1x\2/\3x\4 \5", words)
    for enumeration, enumerators in ENUMERATORS.items():
        words = re.sub(rf"\({enumeration}\)(\d)", lambda found, of=enumerators: of[int(found[1])], words)  # type: ignore[misc]
    return f"{name.removesuffix('_kernel')} {words.replace(',', '')}".strip()


def kernel_of(compiled: CompiledKernel, name: str) -> Kernel:
    """A kernel's figures."""
    taken, code = compiled.resources, compiled.function
    threads = taken.most_threads or THREADS
    dynamic = dynamic_shared(name)
    limits = MULTIPROCESSORS[compiled.architecture]
    blocks = resident_blocks(limits, threads, taken.registers, taken.static_shared + dynamic)
    loop = machine_code.main_loop(code)
    accesses = machine_code.count_accesses(code.instructions)
    return Kernel(
        name=name,
        architecture=compiled.architecture,
        registers=taken.registers,
        threads=threads,
        static_shared=taken.static_shared,
        dynamic_shared=dynamic,
        blocks=blocks,
        occupancy=blocks * math.ceil(threads / 32) / limits.warps,
        stack=taken.stack,
        local_loads=sum(count for way, count in accesses.items() if way.startswith("LDL")),
        local_stores=sum(count for way, count in accesses.items() if way.startswith("STL")),
        instructions=sum(instruction.base != "NOP" for instruction in code.instructions),
        main_loop=machine_code.loop_figures(loop) if loop else None,
    )


def dynamic_shared(name: str) -> int:
    """Bytes of shared memory that a kernel's launcher asks for: sizeof(BlockMemory) and sizeof(RowSpectra)."""
    if product := re.search(r"^(transposed_)?patches_times_matrix (\d+)x(\d+)/.* (\w+)$", name):
        transposed, rows, columns, access = bool(product[1]), int(product[2]), int(product[3]), product[4]
        words = "128x48/8x8 " in name
        terms, buffers, padding = (6 if words else 8, 2, 4) if "/8x8 " in name else (16, 4, 0)
        left, right = terms * (rows + padding) * 4, terms * columns * 4
        slices, place = buffers * (round_up(left, 64) + round_up(right, 64)), 48
        origins = 0 if access in ("quads", "inside") else 16 * (rows // 4 if transposed and not words else rows)
        return round_up(slices + origins + place, 64)
    if spectra := re.search(r"^(?:to|from)_spectra (\d+)", name):
        lanes = 8
        return int(spectra[1]) ** 2 * lanes * 4
    return 0


def resident_blocks(limits: Multiprocessor, threads: int, registers: int, shared: int) -> int:
    """How many blocks are on a multiprocessor at a time."""
    warps = math.ceil(threads / 32)
    warps_by_registers = QUARTERS * (QUARTER_REGISTERS // round_up(registers * 32, REGISTER_UNIT))
    shared_taken = round_up(shared + limits.reserved, SHARED_UNIT)
    by_shared = limits.shared // shared_taken if shared_taken else limits.blocks
    return min(limits.blocks, limits.warps // warps, warps_by_registers // warps, by_shared)


def round_up(number: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-number // unit) * unit


def judge(kernels: Sequence[Kernel]) -> list[Verdict]:
    """Each bound that is for some of the kernels, with the one of them that comes nearest to it."""
    verdicts = []
    for bound in BOUNDS:
        if values := [(FIGURES[bound.figure](kernel), kernel) for kernel in judged_by(bound, kernels)]:
            nearest = min if bound.at_least else max
            worst, kernel = nearest(values, key=lambda pair: pair[0])
            verdicts.append(Verdict(bound, kernel, worst))
    return verdicts


def judged_by(bound: Bound, kernels: Iterable[Kernel]) -> list[Kernel]:
    """The kernels that a bound is for."""
    return [
        kernel
        for kernel in kernels
        if kernel.architecture in bound.architectures and re.search(GROUPS[bound.kernels], kernel.name)
    ]


def broken_bounds(kernels: Sequence[Kernel]) -> list[str]:
    """A line for each bound that a kernel breaks."""
    lines = []
    for bound in BOUNDS:
        for kernel in judged_by(bound, kernels):
            value = FIGURES[bound.figure](kernel)
            if bound.broken_by(value):
                limit = f"at {'least' if bound.at_least else 'most'} {bound.text(bound.bound)}"
                place = f"sm_{kernel.architecture} {kernel.name}"
                lines.append(f"{place}: {bound.figure} is {bound.text(value)}; it must be {limit} ({bound.reason})")
    return lines


def report_of(module: Path, kernels: Sequence[Kernel], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All figures, for a file."""
    return {
        "compiler": machine_code.compiler_of(module),
        "architectures": sorted({kernel.architecture for kernel in kernels}),
        "bounds": [
            {**asdict(verdict.bound), "worst": verdict.worst, "worst_architecture": verdict.kernel.architecture}
            for verdict in verdicts
        ],
        "kernels": [asdict(kernel) for kernel in kernels],
    }


def json_of(report: Mapping[str, Any]) -> str:
    """A report as JSON, a line a bound and a kernel, so that versions of it can be compared."""
    parts = []
    for name, value in report.items():
        lines = ",\n  ".join(map(json.dumps, value)) if name in ("bounds", "kernels") else ""
        parts.append(f'"{name}": ' + (f"[\n  {lines}\n]" if lines else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def show(console: Console, kernels: Sequence[Kernel]) -> None:
    """The tables that a person reads, two for each architecture."""
    for number in sorted({kernel.architecture for kernel in kernels}):
        here = [kernel for kernel in kernels if kernel.architecture == number]
        columns = ["registers", "threads", "shared", "dynamic", "blocks", "occupancy", "stack", "local loads, stores"]
        table = new_table(f"sm_{number}: what kernels take", columns)
        for kernel in here:
            table.add_row(kernel.name, *resource_cells(kernel))
        console.print(table)
        columns = ["instr.", "FFMA", "share", "LDS", "median", "bar.", "reuse", "conflicts", "accesses, count×bits"]
        table = new_table(f"sm_{number}: an iteration of the main loop", columns)
        for kernel in here:
            if kernel.main_loop:
                table.add_row(kernel.name, *loop_cells(kernel.main_loop))
        if table.row_count:
            console.print(table)


def resource_cells(kernel: Kernel) -> list[str]:
    """What a kernel takes, as text."""
    numbers = (kernel.registers, kernel.threads, kernel.static_shared, kernel.dynamic_shared, kernel.blocks)
    local = f"{kernel.local_loads}, {kernel.local_stores}"
    return [*map(str, numbers), f"{kernel.occupancy:.0%}", str(kernel.stack), local]


def loop_cells(loop: LoopFigures) -> list[str]:
    """A main loop's figures as text."""
    return [
        str(loop.instructions),
        str(loop.multiply_adds),
        f"{loop.share:.1%}",
        "" if loop.lds_least is None else str(loop.lds_least),
        "" if loop.lds_median is None else f"{loop.lds_median:g}",
        str(loop.barriers),
        f"{loop.reuse_share:.0%}",
        f"{loop.conflict_share:.1%}",
        accesses_text(loop.accesses),
    ]


def accesses_text(accesses: Mapping[str, int]) -> str:
    """`LDG 2×128 3×32, LDS 32×128`."""
    kinds: dict[str, list[str]] = {}
    for way, count in accesses.items():
        kind, bits = way.split(".")
        kinds.setdefault(kind, []).append(f"{count}×{bits}")
    return ", ".join(f"{kind} {' '.join(counts)}" for kind, counts in kinds.items())


def show_bounds(console: Console, verdicts: Sequence[Verdict]) -> None:
    """What is enforced, how near the kernels come to it, and what is the goal."""
    table = new_table("bounds", ["of", "sm", "bound", "worst here", "goal", "because"], first="figure")
    for verdict in verdicts:
        bound = verdict.bound
        table.add_row(
            bound.figure,
            bound.kernels,
            architectures_text(bound.architectures),
            f"{'≥' if bound.at_least else '≤'} {bound.text(bound.bound)}",
            f"{bound.text(verdict.worst)} (sm_{verdict.kernel.architecture})",
            bound.text(bound.goal),
            bound.reason,
        )
    console.print(table)


def architectures_text(architectures: Sequence[int]) -> str:
    """`75 to 80`, or `all`."""
    return "all" if len(architectures) == len(ALL) else f"{architectures[0]} to {architectures[-1]}"


def new_table(title: str, columns: Sequence[str], first: str = "kernel") -> Table:
    """A table whose first and last columns are set flush left, the others right."""
    table = Table(title=title)
    table.add_column(first, no_wrap=True)
    for column in columns[:-1]:
        table.add_column(column, justify="right", no_wrap=column in ("sm", "bound"))
    table.add_column(columns[-1])
    return table


if __name__ == "__main__":
    sys.exit(main())
