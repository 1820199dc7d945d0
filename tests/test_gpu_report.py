"""benchmarks/gpu_report.py finds main loops in machine code, counts what it says, and fails where a bound breaks.

What nvcc makes of a kernel is judged too, where there are nvcc and NVIDIA's disassembler.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import gpu_report
import machine_code
from cpp_programs import SOURCE, compiler
from gpu_report import BOUNDS, FIGURES, GROUPS, MULTIPROCESSORS, Bound, Kernel
from machine_code import Instruction, LoopFigures, MachineCodeError

# As nvdisasm prints it: a loop in a loop. The outer one has a branch to code behind the kernel's end; the inner one
# holds the multiply-adds, and another loop without any. R8 to R11 are used in the next iteration.
SASS = """
	.target	sm_90

//--------------------- .text._Z6kernelPf --------------------------
	.section	.text._Z6kernelPf,"ax",@progbits
_Z6kernelPf:
.text._Z6kernelPf:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   STL [R1], R5 ;
.L_x_1:
        /*0020*/                   LDG.E.128 R16, desc[UR4][R2.64] ;
        /*0030*/               @P0 BRA `(.L_x_4) ;
.L_x_2:
        /*0040*/                   FFMA R20, R8, R12.reuse, R20 ;
        /*0050*/                   LDS.128 R8, [R4] ;
        /*0060*/                   FFMA R22, R24, R12, R22 ;
        /*0070*/                   LDS R13, [R4+0x10] ;
        /*0080*/                   FFMA.FTZ R21, R13.reuse, R15, R21 ;
        /*0090*/                   FFMA R23, R13, R15, -R23 ;
        /*00a0*/              @!P2 LDG.E R5, desc[UR4][R2.64+0x10] ;
.L_x_3:
        /*00b0*/                   ISETP.NE.AND P3, PT, R5, RZ, PT ;
        /*00c0*/               @P3 BRA `(.L_x_3) ;
        /*00d0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00e0*/                   NOP ;
        /*00f0*/               @P1 BRA `(.L_x_2) ;
        /*0100*/                   FFMA R20, R20, R21, R22 ;
.L_x_5:
        /*0110*/              @!P1 BRA `(.L_x_1) ;
        /*0120*/                   LDL R5, [R1] ;
        /*0130*/                   EXIT ;
.L_x_4:
        /*0140*/                   IADD3 R4, R4, 0x1, RZ ;
        /*0150*/                   BRA `(.L_x_5) ;
.L_x_6:
        /*0160*/                   BRA `(.L_x_6);
"""


def function_of(body: str) -> machine_code.Function:
    """A kernel of these lines, each an instruction or a label."""
    lines = [f"{line}:" if line.startswith(".L") else f"        /*{0:04x}*/   {line} ;" for line in body.splitlines()]
    header = "//--------------------- .text.kernel --------------------------\n"
    return machine_code.parse_functions(header + "\n".join(lines))["kernel"]


def loop_of(body: str) -> LoopFigures:
    """The figures of a loop of these lines."""
    loop = machine_code.main_loop(function_of(f".L_x_0\n{body.strip()}\n@P0 BRA `(.L_x_0)\nEXIT"))
    assert loop is not None
    return machine_code.loop_figures(loop)


def test_the_main_loop_is_the_innermost_that_multiplies_and_adds() -> None:
    (function,) = machine_code.parse_functions(SASS).values()
    assert function.symbol == "_Z6kernelPf"
    loop = machine_code.main_loop(function)
    assert loop is not None
    figures = machine_code.loop_figures(loop)
    assert (figures.instructions, figures.multiply_adds, figures.barriers) == (11, 4, 1)
    assert figures.share == 4 / 11
    assert figures.accesses == {"LDG.32": 1, "LDS.128": 1, "LDS.32": 1}
    assert machine_code.lds_distances(loop) == [3, 0]
    assert (figures.lds_least, figures.lds_median) == (0, 1.5)


def test_code_behind_the_kernels_end_belongs_to_the_loop_that_it_is_in() -> None:
    (function,) = machine_code.parse_functions(SASS).values()
    opcodes = [
        sorted({function.instructions[place].opcode for place in loop}) for loop in machine_code.loops_of(function)
    ]
    (outer,) = [names for names in opcodes if "LDG.E.128" in names]
    assert {"IADD3", "FFMA", "ISETP.NE.AND"} <= set(outer)
    assert not {"LDC", "EXIT", "LDL"} & set(outer)


def test_a_kernel_without_multiply_adds_in_loops_has_no_main_loop() -> None:
    assert machine_code.main_loop(function_of("FFMA R0, R1, R2, R0\nEXIT")) is None
    assert machine_code.main_loop(function_of(".L_x_0\nIADD3 R0, R0, 0x1, RZ\n@P0 BRA `(.L_x_0)\nEXIT")) is None


@pytest.mark.parametrize("branch", ["BRA.U UP0, `(.L_x_0)", "@!P0 BRA `(.L_x_0)", "BRA P1, `(.L_x_0)"])
def test_conditional_branches_go_on_behind_themselves(branch: str) -> None:
    # If they did not, nothing would lead to the second branch, which makes the loop larger.
    body = f".L_x_0\nFFMA R0, R1, R2, R0\n{branch}\nIADD3 R4, R4, 0x1, RZ\n@P0 BRA `(.L_x_0)\nEXIT"
    loop = machine_code.main_loop(function_of(body))
    assert loop is not None
    assert [instruction.base for instruction in loop] == ["FFMA", "BRA", "IADD3", "BRA"]


@pytest.mark.parametrize(
    ("body", "distances"),
    [
        # Used by what is no multiply-add, such as an address.
        ("LDS.64 R4, [R0]\nIADD3 R6, R5, 0x1, RZ\nFFMA R8, R9, R9, R8", [0]),
        # Overwritten before it is used; a predicated instruction may leave it.
        ("LDS R4, [R0]\nMOV R4, RZ\nFFMA R8, R4, R9, R8", []),
        ("LDS R4, [R0]\n@P1 MOV R4, RZ\nFFMA R8, R9, R9, R8\nFFMA R8, R4, R9, R8", [1]),
        # The pair of registers of an address, the four of a value that is stored.
        ("LDS.64 R4, [R0]\nFFMA R8, R9, R9, R8\nLDG.E R6, desc[UR4][R4.64]", [1]),
        ("LDS R7, [R0]\nFFMA R8, R9, R9, R8\nSTS.128 [R0], R4", [1]),
        # A tensor core's A has four registers, of which the fourth is loaded; URs are other registers.
        (
            "LDS R7, [R0]\nUMOV UR7, UR8\nHMMA.1688.F32.TF32 R12, R20, R24, R12\nHMMA.1688.F32.TF32 R12, R4, R10, R12",
            [1],
        ),
        ("LDSM.16.M88.4 R4, [R0]\nHMMA.16816.F32 R12, R20, R24, R12\nHMMA.16816.F32 R12, R20, R6, R12", [1]),
    ],
)
def test_distances_from_a_load_to_its_use(body: str, distances: list[int]) -> None:
    loop = machine_code.main_loop(function_of(f".L_x_0\n{body}\n@P0 BRA `(.L_x_0)\nEXIT"))
    assert loop is not None
    assert machine_code.lds_distances(loop) == distances


@pytest.mark.parametrize(
    ("body", "reuse", "conflicts"),
    [
        ("FFMA R0, R2, R4, R6", 0, 1),
        ("FFMA R0, R2, R4, -R7", 0, 0),
        ("FFMA R0, R2, R2, R6", 0, 0),
        ("FFMA R0, R2, c[0x0][0x10], R6", 0, 0),
        # What was kept is read from no bank, if the next instruction wants it at the same place.
        ("FFMA R1, R2.reuse, R5, R6\nFFMA R0, R2, R4, R6", 0.5, 0),
        ("FFMA R1, R2.reuse, R5, R6\nFFMA R0, R4, R2, R6", 0.5, 0.5),
        ("FFMA R1, R2.reuse, R5, R6\nMOV R9, RZ\nFFMA R0, R2, R4, R6", 0.5, 0.5),
    ],
)
def test_banks_of_registers(body: str, reuse: float, conflicts: float) -> None:
    figures = loop_of(body)
    assert (figures.reuse_share, figures.conflict_share) == (reuse, conflicts)


@pytest.mark.parametrize(
    ("opcode", "bits"),
    [
        ("LDG.E.128.CONSTANT", 128),
        ("LDS.U.64", 64),
        ("STG.E", 32),
        ("LDG.E.U8", 8),
        ("LDS.S16", 16),
        ("LDSM.16.M88.4", 128),
    ],
)
def test_widths_of_accesses(opcode: str, bits: int) -> None:
    assert machine_code.access_bits(opcode) == bits


USAGE = """
Resource usage:
 Common:
  GLOBAL:0
 Function _Z3oneIfEv:
  REG:40 STACK:32 SHARED:2224 LOCAL:0 CONSTANT[0]:360 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z3twov:
  REG:10 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:360 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
ELF = """
.nv.info
	<0x1>
	Attribute:	EIATTR_REGCOUNT
.nv.info._Z3oneIfEv
	<0x2>
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x20 0x4 0x1
.nv.info._Z3twov
	<0x1>
	Attribute:	EIATTR_CBANK_PARAM_SIZE
"""


def test_what_kernels_take_is_read() -> None:
    old, new = (machine_code.parse_resources(USAGE, ELF, architecture) for architecture in (80, 90))
    assert old["_Z3oneIfEv"] == machine_code.Resources(registers=40, static_shared=2224, stack=32, most_threads=128)
    assert new["_Z3oneIfEv"].static_shared == 1200  # the system's own KB is not the kernel's
    assert new["_Z3twov"] == machine_code.Resources(registers=10, static_shared=0, stack=0, most_threads=None)


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks"),
    [
        (75, 256, 128, 18752, 2),  # registers: 64 K / (256 x 128)
        (75, 256, 32, 0, 4),  # threads: 1024 / 256
        (75, 32, 32, 0, 16),  # blocks
        (75, 128, 32, 20000, 3),  # shared memory: 64 KB / 20,096 bytes
        (86, 128, 32, 20000, 4),  # 100 KB / 21,120 bytes, with the system's own KB
        (90, 128, 129, 0, 3),  # registers come by 256 a warp, of a quarter each: 3 warps of 136 x 32
        (90, 128, 168, 0, 3),
        (90, 128, 169, 0, 2),
        (90, 64, 32, 0, 32),
        (120, 1024, 64, 0, 1),
    ],
)
def test_blocks_on_a_multiprocessor(architecture: int, threads: int, registers: int, shared: int, blocks: int) -> None:
    assert gpu_report.resident_blocks(MULTIPROCESSORS[architecture], threads, registers, shared) == blocks


@pytest.mark.parametrize(
    ("demangled", "name"),
    [
        (
            "patches_times_matrix_kernel<GpuTile<128, 64, 8, 8, 8>, (Access)1>",
            "patches_times_matrix 128x64/8x8 vectors",
        ),
        (
            "transposed_patches_times_matrix_kernel<TensorTile<128, 64, 64, 32, (Precision)2>, (Access)2>",
            "transposed_patches_times_matrix 128x64/64x32 bf16 quads",
        ),
        ("to_spectra_kernel<14, (Side)0>", "to_spectra 14 left"),
        ("maxpool_forward_kernel<4, 3>", "maxpool_forward 4 3"),
        ("relu_forward_kernel", "relu_forward"),
    ],
)
def test_names_of_kernels_are_short(demangled: str, name: str) -> None:
    assert gpu_report.short_name(demangled) == name


def test_enumerators_are_those_of_the_sources() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.cuh"))
    for enumeration, words in gpu_report.ENUMERATORS.items():
        found = re.search(rf"enum class {enumeration} {{(.*?)}};", sources, flags=re.DOTALL)
        assert found is not None
        assert tuple(name.lower() for name in re.findall(r"\bk([A-Z]\w*)", re.sub("//.*", "", found[1]))) == words


def test_shared_memory_is_what_the_launchers_ask_for(tmp_path: Path) -> None:
    warps_of = {
        "tf32": ((128, 128, 64), (256, 64, 64)), "bf16": ((128, 128, 64), (256, 64, 64)),
        "tf32x3": ((128, 128, 32), (128, 64, 32)),
    }  # fmt: skip
    words = ("GpuTile<128, 48, 8, 8, 6>", "128x48/8x8")
    tiles = [(f"GpuTile<128, {columns}, 8, 8, 8>", f"128x{columns}/8x8") for columns in (128, 64)] + [
        (
            f"TensorTile<{rows}, {columns}, 64, {of_warp}, Precision::k{name.capitalize()}>",
            f"{rows}x{columns}/64x{of_warp} {name}",
        )
        for name, sizes in warps_of.items()
        for rows, columns, of_warp in sizes
    ]
    checks = [
        f"static_assert(sizeof(BlockMemory<{tile}, {left}<{tile}, Access::k{access.title()}>>) == "
        f"{gpu_report.dynamic_shared(f'{kernel} {words} {access}')});"
        for accesses, their_tiles in ((("any", "vectors", "quads"), tiles), (("any", "inside"), [words]))
        for access in accesses
        for tile, words in their_tiles
        for kernel, left in (
            ("patches_times_matrix", "PatchRows"),
            ("transposed_patches_times_matrix", "PatchColumns"),
        )
    ] + [
        f"static_assert(sizeof(RowSpectra<{points}>) == {gpu_report.dynamic_shared(f'to_spectra {points} left')});"
        for points in (8, 14, 30)
    ]
    program = tmp_path / "sizes.cpp"
    includes = '#include "kernels/patch_product.cu"\n#include "kernels/spectra.cu"\n'
    program.write_text(f"{includes}namespace pyalexnet {{\nnamespace {{\n{chr(10).join(checks)}\n}}\n}}\n")
    flags = ["-std=c++20", "-fsyntax-only", "-DPYALEXNET_TARGET_SIM", f"-I{SOURCE}", f"-I{SOURCE / 'hostcuda'}"]
    finished = subprocess.run([compiler(), *flags, str(program)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


# A kernel that reaches all goals.
GOOD_LOOP = LoopFigures(
    instructions=570,
    multiply_adds=512,
    share=512 / 570,
    accesses={"LDG.128": 3, "LDS.128": 32, "STS.32": 8},
    lds_least=50,
    lds_median=60.0,
    barriers=1,
    reuse_share=0.98,
    conflict_share=0.0,
)
GOOD = Kernel(
    name="patches_times_matrix 128x64/8x8 quads",
    architecture=75,
    registers=128,
    threads=128,
    static_shared=0,
    dynamic_shared=12608,
    blocks=4,
    occupancy=0.5,
    stack=0,
    local_loads=0,
    local_stores=0,
    instructions=4000,
    main_loop=GOOD_LOOP,
)


@pytest.mark.parametrize("name", ["patches_times_matrix 128x128/8x8 quads", GOOD.name, "lrn_forward true"])
def test_a_kernel_that_reaches_all_goals_breaks_no_bound(name: str) -> None:
    assert gpu_report.broken_bounds([replace(GOOD, name=name)]) == []


@pytest.mark.parametrize(
    ("figure", "worse"),
    [
        ("registers", replace(GOOD, registers=200)),
        ("blocks", replace(GOOD, blocks=1)),
        ("local", replace(GOOD, local_stores=1)),
        ("share", replace(GOOD, main_loop=replace(GOOD_LOOP, share=0.4))),
        ("share", replace(GOOD, main_loop=replace(GOOD_LOOP, share=float("nan")))),
        ("lds_median", replace(GOOD, main_loop=replace(GOOD_LOOP, lds_median=10.0))),
        ("narrow_global", replace(GOOD, main_loop=replace(GOOD_LOOP, accesses={"LDG.32": 12}))),
        ("narrow_global", replace(GOOD, main_loop=replace(GOOD_LOOP, accesses={"LD.128": 12}))),
    ],
)
def test_what_gets_worse_breaks_its_bound_by_name(figure: str, worse: Kernel) -> None:
    (line,) = gpu_report.broken_bounds([GOOD, worse])
    assert line.startswith(f"sm_75 {GOOD.name}: {figure} is ")


def test_a_product_without_a_main_loop_breaks_the_bounds_of_loops() -> None:
    figures = [line.split(": ")[1].split()[0] for line in gpu_report.broken_bounds([replace(GOOD, main_loop=None)])]
    assert figures == ["share", "lds_median"]


def test_bounds_are_of_what_there_is() -> None:
    for bound in BOUNDS:
        assert bound.figure in FIGURES
        assert bound.kernels in GROUPS
        assert set(bound.architectures) <= set(MULTIPROCESSORS)


def test_a_bound_that_is_met_exactly_passes_and_a_nan_does_not() -> None:
    least = Bound("share", "all", (75,), 0.5, 0.5, "", at_least=True)
    most = Bound("registers", "all", (75,), 128, 128, "")
    assert [least.broken_by(value) for value in (0.5, 0.49, float("nan"))] == [False, True, True]
    assert [most.broken_by(value) for value in (128, 129, float("nan"))] == [False, True, True]


def test_a_tool_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code.shutil, "which", lambda *_, **__: None)
    with pytest.raises(MachineCodeError, match=r"nvdisasm is neither .*: pip install nvidia-cuda-nvdisasm"):
        machine_code.find_tool("nvdisasm")


def test_an_unknown_architecture_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_report.main(["--arch", "sm_35"])
    assert "'sm_35' is no architecture known here" in capsys.readouterr().err


# The product's kernel in small, whose arguments are its own.
PRODUCT = """
namespace pyalexnet {
enum class Access { kAny, kVectors, kQuads, kInside };
template <int, int, int, int, int> struct GpuTile {};
template <class Tile, Access access>
__global__ void __launch_bounds__(128, BLOCKS) patches_times_matrix_kernel(float* out, const float* in, int slices) {
  extern __shared__ float4 slice[][64];
  float sums[SUMS] = {};
  for (int s = 0; s < slices; ++s) {
    slice[threadIdx.x / 64][threadIdx.x % 64] = reinterpret_cast<const float4*>(in)[s * 128 + threadIdx.x];
#ifdef NARROW
    for (int i = 0; i < 8; ++i) slice[i][threadIdx.x % 64].x = in[s * i + threadIdx.x];
#endif
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float4 left = slice[k][threadIdx.x % 8], right = slice[k + 4][threadIdx.x / 8];
#pragma unroll
      for (int i = 0; i < SUMS; ++i) sums[i] += (&left.x)[i % 4] * (&right.x)[i / 4 % 4];
    }
    __syncthreads();
  }
  for (int i = 0; i < SUMS; ++i) out[i * 128 + threadIdx.x] = sums[i];
}
using Tile = GpuTile<128, 64, 8, 8, 8>;
template __global__ void patches_times_matrix_kernel<Tile, Access::kQuads>(float*, const float*, int);
}
"""


@pytest.fixture(scope="module")
def tools() -> None:
    """Skips where a tool is missing."""
    try:
        for tool in machine_code.PACKAGES:
            machine_code.find_tool(tool)
    except MachineCodeError as error:
        pytest.skip(str(error))
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on the path")


def compiled(folder: Path, *definitions: str) -> Path:
    """The product in small, as a cubin for 7.5."""
    source, cubin = folder / "product.cu", folder / "product.cubin"
    source.write_text(PRODUCT)
    subprocess.run(["nvcc", "-arch=sm_75", "-cubin", *definitions, "-o", str(cubin), str(source)], check=True)
    return cubin


def report_of(cubin: Path, *arguments: str) -> tuple[int, Sequence[dict[str, object]]]:
    """The exit status, and the kernels of the report."""
    file = cubin.with_suffix(".json")
    status = gpu_report.main(["--module", str(cubin), "--json", str(file), *arguments])
    return status, json.loads(file.read_text())["kernels"]


@pytest.mark.usefixtures("tools")
def test_what_nvcc_makes_of_a_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, (kernel,) = report_of(compiled(tmp_path, "-DBLOCKS=4", "-DSUMS=16"), "--arch", "75")
    assert status == 0
    assert kernel["name"] == GOOD.name
    assert (kernel["threads"], kernel["dynamic_shared"], kernel["local_loads"]) == (
        128,
        gpu_report.dynamic_shared(GOOD.name),
        0,
    )
    loop = kernel["main_loop"]
    assert isinstance(loop, dict)
    assert (loop["multiply_adds"], loop["barriers"]) == (64, 2)
    assert loop["accesses"] == {"LDG.128": 1, "LDS.128": 8, "STS.128": 1}
    assert GOOD.name in capsys.readouterr().out


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("definitions", "figure"),
    [
        (("-DBLOCKS=4", "-DSUMS=16", "-DNARROW"), "narrow_global"),
        (("-DBLOCKS=4", "-DSUMS=4"), "share"),
        (("-DBLOCKS=8", "-DSUMS=96"), "local"),
        (("-DBLOCKS=1", "-DSUMS=180"), "registers"),
    ],
)
def test_a_kernel_made_worse_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], definitions: Sequence[str], figure: str
) -> None:
    status, _ = report_of(compiled(tmp_path, *definitions), "--check")
    assert status == 1
    assert f"sm_75 {GOOD.name}: {figure} is " in capsys.readouterr().out


@pytest.mark.usefixtures("tools")
def test_nothing_to_judge_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cubin = compiled(tmp_path, "-DBLOCKS=4", "-DSUMS=16")
    assert gpu_report.main(["--module", str(cubin), "--check", "--kernel", "lrn"]) == 1
    assert gpu_report.main(["--module", str(cubin), "--check", "--arch", "90"]) == 1
    errors = capsys.readouterr().err
    assert "has no kernel whose name has 'lrn'" in errors
    assert "has no code for 90; it has 75" in errors


def test_instructions_know_what_they_read_and_write() -> None:
    load = Instruction("", "LDS.128", ("R8", "[R4+0x10]"))
    assert (load.written, load.read) == ({8, 9, 10, 11}, {4})
    store = Instruction("", "STG.E.64", ("desc[UR4][R2.64]", "R6"))
    assert (store.written, store.read) == (set(), {2, 3, 6, 7})
    test = Instruction("", "ISETP.NE.AND", ("P0", "PT", "R3", "RZ", "PT"))
    assert (test.written, test.read) == (set(), {3})
