"""Machine code of GPU kernels, as NVIDIA's disassembler prints it, and what can be counted there without a GPU.

A kernel's main loop is found from its branches. A branch to an instruction that does not stand behind it closes a
loop: all instructions from which the branch is reached without passing its target, and the target. Of the loops that
hold multiply-adds, and no other loop that does, it is the one with most. All instructions of a loop count, those of
branches that are rarely taken too; only what the assembler fills gaps with (NOP) does not.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "cuobjdump": "pip install nvidia-cuda-cuobjdump",
    "nvdisasm": "pip install nvidia-cuda-nvdisasm",
    "c++filt": "install binutils",
}


class MachineCodeError(Exception):
    """What stands in the way of reading machine code: a tool that is missing, or what it printed."""


@dataclass(frozen=True)
class Instruction:
    """One instruction; `predicate` is empty where it is always executed."""

    predicate: str
    opcode: str
    operands: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The opcode without what modifies it."""
        return self.opcode.split(".")[0]

    @property
    def multiplies_and_adds(self) -> bool:
        """Whether this is what the kernel is there for: multiply-adds of floats or of a tensor core's tiles."""
        return self.base in ("FFMA", "HMMA")

    @functools.cached_property
    def written(self) -> frozenset[int]:
        """The registers that it writes."""
        if self.base in _WITHOUT_RESULT or not self.operands:
            return frozenset()
        return registers_of(self.operands[0], _result_width(self)) if self.operands[0].startswith("R") else frozenset()

    @functools.cached_property
    def read(self) -> frozenset[int]:
        """The registers that it reads."""
        sources = self.operands[1:] if self.written else self.operands
        widths = _source_widths(self, len(sources))
        return frozenset().union(*(registers_of(text, width) for text, width in zip(sources, widths, strict=True)))


@dataclass(frozen=True)
class Function:
    """A kernel's instructions, and where its labels stand among them."""

    symbol: str
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoopFigures:
    """What one iteration of a kernel's main loop is made of.

    Attributes:
        instructions: all of them.
        multiply_adds: FFMA, or HMMA where there is one.
        share: multiply_adds / instructions.
        accesses: how many of each kind and width in bits, such as "LDG.128".
        lds_least: the least number of multiply-adds between a load from shared memory and the first use of what it
            loaded, across the loop's end where it is used in the next iteration; None where nothing is loaded.
        lds_median: the median of these distances.
        barriers: of the whole block.
        reuse_share: multiply-adds that keep an operand for the next instruction, which then reads fewer registers.
        conflict_share: multiply-adds whose three operands come from one register bank, which takes a cycle more:
            registers with even numbers are one bank, those with odd ones the other, and what the instruction before
            kept at the same place comes from neither.
    """

    instructions: int
    multiply_adds: int
    share: float
    accesses: dict[str, int]
    lds_least: int | None
    lds_median: float | None
    barriers: int
    reuse_share: float
    conflict_share: float


@dataclass(frozen=True)
class Resources:
    """What a kernel takes, by the compiler's own record; bytes of shared memory a block, of the stack a thread."""

    registers: int
    static_shared: int
    stack: int
    most_threads: int | None  # of a block, where the source says so


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel as it was compiled for one architecture."""

    symbol: str
    architecture: int
    resources: Resources
    function: Function


def find_tool(name: str) -> str:
    """The path of one of NVIDIA's tools: on PATH, beside nvcc, in its package from PyPI.

    Raises:
        MachineCodeError: it is nowhere; the message says how to install it.
    """
    places: list[str | None] = [None]  # PATH
    if nvcc := shutil.which("nvcc"):
        places.append(str(Path(nvcc).resolve().parent))
    places.append("/usr/local/cuda/bin")
    spec = importlib.util.find_spec("nvidia")
    for package in spec.submodule_search_locations or () if spec else ():
        places += map(str, sorted(Path(package).glob("*/bin")))
    for place in places:
        if found := shutil.which(name, path=place):
            return found
    raise MachineCodeError(f"{name} is neither on PATH nor beside nvcc nor a package of this Python: {PACKAGES[name]}")


def read_kernels(file: Path, architectures: Sequence[int] | None = None) -> list[CompiledKernel]:
    """The kernels in a native module, an object file or a cubin, for these architectures or for all that it has.

    Raises:
        MachineCodeError: a tool is missing or fails, or there is no code for one of the architectures.
    """
    kernels = []
    with tempfile.TemporaryDirectory() as folder:
        _run(find_tool("cuobjdump"), "-xelf", "all", str(file.resolve()), folder=folder)
        cubins = [(architecture_of(path.name), path) for path in sorted(Path(folder).glob("*.cubin"))]
        there = {architecture for architecture, _ in cubins}
        if missing := set(architectures or there) - there:
            known = ", ".join(map(str, sorted(there))) or "none at all"
            raise MachineCodeError(f"{file} has no code for {', '.join(map(str, sorted(missing)))}; it has {known}")
        for architecture, cubin in cubins:
            if architecture in (architectures or there):
                kernels += read_cubin(cubin, architecture)
    return kernels


def architecture_of(cubin: str) -> int:
    """90 for `_cuda.7.sm_90.cubin` and `_cuda.7.sm_90a.cubin`."""
    found = re.search(r"sm_(\d+)", cubin)
    if not found:
        raise MachineCodeError(f"{cubin} does not say for which architecture it is")
    return int(found[1])


def read_cubin(cubin: Path, architecture: int) -> list[CompiledKernel]:
    """The kernels of a cubin."""
    usage = _run(find_tool("cuobjdump"), "-res-usage", str(cubin))
    resources = parse_resources(usage, _run(find_tool("cuobjdump"), "-elf", str(cubin)), architecture)
    functions = parse_functions(_run(find_tool("nvdisasm"), "-c", str(cubin)))
    return [
        CompiledKernel(symbol, architecture, taken, functions[symbol])
        for symbol, taken in resources.items()
        if symbol in functions
    ]


def compiler_of(file: Path) -> str:
    """The compiler that wrote the code, by the note that it left there; empty where it left none."""
    found = re.search(rb"Cuda compilation tools, release [\d.]+, (V[\d.]+)", file.read_bytes())
    return f"CUDA {found[1].decode().removeprefix('V')}" if found else ""


def parse_resources(usage: str, elf: str, architecture: int) -> dict[str, Resources]:
    """What each kernel takes, from what `cuobjdump -res-usage` and `cuobjdump -elf` print."""
    threads = {}
    for section in re.split(r"^\.nv\.info\.", elf, flags=re.MULTILINE)[1:]:
        found = re.search(r"EIATTR_MAX_THREADS\s+Format:\s+\w+\s+Value:\s+0x(\w+) 0x(\w+) 0x(\w+)", section)
        if found and (sides := [int(side, 16) for side in found.groups()]):
            threads[section.split()[0]] = sides[0] * sides[1] * sides[2]
    resources = {}
    for symbol, figures in re.findall(r"^ Function (\S+):\s+(REG:.*)$", usage, flags=re.MULTILINE):
        taken = {name: int(value) for name, value in re.findall(r"(\w+(?:\[\d\])?):(\d+)", figures)}
        # From 9.0 on, the system's own KB counts with the shared memory of kernels that take some.
        static = max(taken["SHARED"] - (1024 if architecture >= 90 else 0), 0)
        resources[symbol] = Resources(taken["REG"], static, taken["STACK"], threads.get(symbol))
    return resources


def parse_functions(text: str) -> dict[str, Function]:
    """The functions in what `nvdisasm -c` prints, by symbol."""
    _, *parts = re.split(r"^//-+ \.text\.(\S+) -+$", text, flags=re.MULTILINE)
    functions = {}
    for symbol, body in zip(parts[::2], parts[1::2], strict=True):
        function = functions[symbol] = Function(symbol)
        for line in body.splitlines():
            if label := _LABEL.match(line):
                function.labels[label[1]] = len(function.instructions)
            elif found := _INSTRUCTION.match(line):
                predicate, opcode, operands = found.groups()
                function.instructions.append(
                    Instruction(predicate or "", opcode, tuple(part.strip() for part in operands.split(",") if part))
                )
    return functions


_LABEL = re.compile(r"^(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")


def main_loop(function: Function) -> list[Instruction] | None:
    """The instructions of one iteration of the main loop, in their order; None where no loop multiplies and adds."""
    loops = [loop for loop in loops_of(function) if _multiply_adds(function, loop)]
    innermost = [loop for loop in loops if not any(other < loop for other in loops)]
    if not innermost:
        return None
    largest = max(innermost, key=lambda loop: _multiply_adds(function, loop))
    return [function.instructions[place] for place in sorted(largest)]


def loops_of(function: Function) -> list[frozenset[int]]:
    """The places of each loop's instructions; loops that begin at one instruction are one."""
    before: list[list[int]] = [[] for _ in function.instructions]
    closing = []
    for place in range(len(function.instructions)):
        for successor in _successors(function, place):
            before[successor].append(place)
            if successor <= place:
                closing.append((place, successor))
    loops: dict[int, set[int]] = {}
    for end, head in closing:
        members = {head}
        waiting = [end]
        while waiting:
            place = waiting.pop()
            if place not in members:
                members.add(place)
                waiting += before[place]
        # Whoever comes from the function's start without passing the head jumps into the middle: that is no loop.
        if head == 0 or 0 not in members:
            loops.setdefault(head, set()).update(members)
    return [frozenset(members) for members in loops.values()]


def _successors(function: Function, place: int) -> Iterator[int]:
    """Where the instruction at `place` may lead."""
    instruction = function.instructions[place]
    always = not instruction.predicate
    if instruction.base == "BRA":
        label = re.search(r"`\((\S+)\)", ",".join(instruction.operands))
        if label and label[1] in function.labels:
            yield function.labels[label[1]]
        always = always and len(instruction.operands) == 1  # others are conditions
    ends = instruction.base in ("BRA", "EXIT", "RET", "BRX", "JMX", "KILL")
    if not (ends and always) and place + 1 < len(function.instructions):
        yield place + 1


def _multiply_adds(function: Function, places: frozenset[int]) -> int:
    return sum(function.instructions[place].multiplies_and_adds for place in places)


def loop_figures(loop: Sequence[Instruction]) -> LoopFigures:
    """What can be counted in one iteration of a loop that multiplies and adds."""
    loop = [instruction for instruction in loop if instruction.base != "NOP"]
    multiply_adds = [instruction for instruction in loop if instruction.multiplies_and_adds]
    distances = lds_distances(loop)
    return LoopFigures(
        instructions=len(loop),
        multiply_adds=len(multiply_adds),
        share=len(multiply_adds) / len(loop),
        accesses=count_accesses(loop),
        lds_least=min(distances, default=None),
        lds_median=statistics.median(distances) if distances else None,
        barriers=sum(instruction.base == "BAR" for instruction in loop),
        reuse_share=sum(any(".reuse" in text for text in each.operands) for each in multiply_adds) / len(multiply_adds),
        conflict_share=sum(_conflicts(loop)) / len(multiply_adds),
    )


def lds_distances(loop: Sequence[Instruction]) -> list[int]:
    """Of each load from shared memory, the multiply-adds from there to the first use of what it loaded.

    What is overwritten first, or used behind the loop alone, has none.
    """
    distances = []
    for place, load in enumerate(loop):
        if load.base not in ("LDS", "LDSM"):
            continue
        waiting = set(load.written)
        multiply_adds = 0
        for instruction in (*loop[place + 1 :], *loop[: place + 1]):
            if waiting & instruction.read:
                distances.append(multiply_adds)
                break
            if not instruction.predicate:
                waiting -= instruction.written
            multiply_adds += instruction.multiplies_and_adds
    return distances


def count_accesses(instructions: Sequence[Instruction]) -> dict[str, int]:
    """Loads and stores by kind and width in bits; LD and ST are those whose memory only the address tells."""
    counts = Counter(
        f"{each.base}.{access_bits(each.opcode)}"
        for each in instructions
        if each.base in ("LDG", "STG", "LD", "ST", "LDL", "STL", "LDS", "STS", "LDSM", "LDGSTS")
    )
    return dict(sorted(counts.items()))


def access_bits(opcode: str) -> int:
    """The width that an access has for each thread."""
    modifiers = opcode.split(".")[1:]
    if "M88" in modifiers:  # a matrix of 8x8 halves for each number behind it
        return 32 * int(modifiers[-1] if modifiers[-1].isdigit() else 1)
    for name, bits in (("128", 128), ("64", 64), ("U8", 8), ("S8", 8), ("U16", 16), ("S16", 16)):
        if name in modifiers:
            return bits
    return 32


def _conflicts(loop: Sequence[Instruction]) -> Iterator[bool]:
    """Of each FFMA, whether its operands come from one bank of registers."""
    kept: dict[int, str] = {}
    for instruction in loop:
        if instruction.base == "FFMA":
            numbers = {
                int(found[1])
                for slot, text in enumerate(instruction.operands[1:])
                if (found := re.match(r"-?R(\d+)", text)) and kept.get(slot) != found[0].lstrip("-")
            }
            yield len(numbers) == 3 and len({number % 2 for number in numbers}) == 1
        kept = {
            slot: text.split(".")[0].lstrip("-")
            for slot, text in enumerate(instruction.operands[1:])
            if ".reuse" in text
        }


def registers_of(text: str, width: int = 1) -> frozenset[int]:
    """The numbers of the registers that an operand names: `width` of them, or two for an address of 64 bits."""
    numbers: set[int] = set()
    for number, pair in re.findall(r"(?<![\w])R(\d+)((?:\.\w+)*)", text):
        numbers.update(range(int(number), int(number) + (2 if ".64" in pair else width)))
    return frozenset(numbers)


_WITHOUT_RESULT = {"ST", "STG", "STS", "STL", "RED", "LDGSTS", "BAR", "BRA", "EXIT", "NOP", "BSSY", "BSYNC", "R2UR"}


def _result_width(instruction: Instruction) -> int:
    """How many registers the result takes."""
    if instruction.base in ("LDG", "LD", "LDS", "LDL", "LDSM", "LDC"):
        return max(access_bits(instruction.opcode) // 32, 1)
    if instruction.base == "HMMA":
        return 4 if ".F32" in instruction.opcode else 2
    return 2 if ".WIDE" in instruction.opcode or ".64" in instruction.opcode or instruction.opcode == "CS2R" else 1


def _source_widths(instruction: Instruction, count: int) -> list[int]:
    """How many registers each source takes: values that are stored, and a tensor core's tiles A, B and C."""
    if instruction.base in ("ST", "STG", "STS", "STL"):
        return [1] * (count - 1) + [max(access_bits(instruction.opcode) // 32, 1)]
    if instruction.base == "HMMA":
        tile = re.search(r"\.(16816|1688|1684)", instruction.opcode)
        a, b = {"16816": (4, 2), "1688": (2, 1), "1684": (2, 1)}[tile[1] if tile else "1688"]
        if "TF32" in instruction.opcode:  # two elements to a register of halves, one of these
            a, b = {"1688": (4, 2), "1684": (2, 1)}[tile[1] if tile else "1688"]
        return [a, b, _result_width(instruction), *[1] * count][:count]
    return [1] * count


def demangle(symbols: Sequence[str]) -> list[str]:
    """C++ names without their parameters and namespaces."""
    names = _run(find_tool("c++filt"), "-p", stdin="\n".join(symbols))
    return re.sub(r"\bvoid |pyalexnet::|\(anonymous namespace\)::|_GLOBAL__N__\w+::", "", names).splitlines()


def _run(*command: str, folder: str | None = None, stdin: str | None = None) -> str:
    finished = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True)
    if finished.returncode:
        raise MachineCodeError(f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}")
    return finished.stdout
