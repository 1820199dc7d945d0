"""The interpreter of PTX: its checks by planted faults, its arithmetic, and the kernels beside those of ``sim``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

import pyalexnet
from pyalexnet import CudaError, ops
from pyalexnet.device import backend, natives
from pyalexnet.device.native import NativeTraffic, PtxModule
from pyalexnet.device.tensor import Tensor

pytestmark = pytest.mark.skipif(not natives.is_built("_ptx"), reason="_ptx is not built")

FAULTY, TRAFFIC = (Path(__file__).parent / "ptx" / name for name in ("faulty.cu", "traffic.cu"))
THREADS = 64


@pytest.fixture(scope="module")
def native() -> PtxModule:
    return cast(PtxModule, backend.native_module("ptx"))


def compiled(source: Path, folder: Path, architecture: str = "compute_75") -> str:
    """The PTX of the kernels in a file."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on the path")
    text = folder / "kernels.ptx"
    command = [nvcc, "-ptx", f"-arch={architecture}", "-lineinfo", "-ftz=true", "-std=c++17", source, "-o", text]
    subprocess.run(command, check=True)
    return text.read_text()


@pytest.fixture(scope="module", params=["compute_75", "compute_120"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PTX of the kernels in ``faulty.cu``, of either code generator that nvcc has."""
    return compiled(FAULTY, tmp_path_factory.mktemp("ptx"), request.param)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PTX of the kernels in ``traffic.cu``."""
    return compiled(TRAFFIC, tmp_path_factory.mktemp("ptx"))


@pytest.fixture
def unfused(native: PtxModule) -> Iterator[None]:
    """Multiply-adds that round twice, as sim's do."""
    native.set_fused(False)
    yield
    native.set_fused(True)


def run(native: PtxModule, text: str, kernel: str, *arguments: Tensor | int | bytes, blocks: int = 1) -> None:
    """Runs a kernel of a text to its end."""
    on = backend.get_device("ptx:0")
    values = [argument.array.address if isinstance(argument, Tensor) else argument for argument in arguments]
    native.launch_text(text, kernel, blocks, THREADS, values, on.stream)
    on.stream.synchronize()


def line_of(marker: str) -> int:
    return next(number for number, line in enumerate(FAULTY.read_text().splitlines(), 1) if marker in line)


# ---- what is checked ----


@pytest.mark.parametrize(
    ("kernel", "told"),
    [
        ("out_of_bounds", r"thread \(63, 0, 0\): out of bounds of global memory: 4 bytes written, 0 bytes behind"),
        ("shared_out_of_bounds", "out of bounds of shared memory: 4 bytes written"),
        ("misaligned", "misaligned access to global memory: 8 bytes read"),
        ("divergent_barrier", "divergent barrier"),
        ("barrier_of_some_warps", "divergent barrier"),
        ("bad_shuffle_mask", "bad shuffle mask"),
        ("shuffle_from_outside_of_the_mask", "bad shuffle mask: the value is that of lane"),
        ("shared_race", "race in shared memory"),
        ("global_race", "race in global memory"),
        ("unwritten_shared", "shared memory read that nothing has written"),
        ("unwritten_global", "global memory read that nothing has written"),
    ],
)
def test_a_fault_is_told_with_kernel_and_lines(native: PtxModule, faulty: str, kernel: str, told: str) -> None:
    to, given = Tensor.empty((THREADS - 1,), device="ptx:0"), Tensor.from_array(np.zeros(256, "f"), device="ptx:0")
    with pytest.raises(CudaError, match=told) as caught:
        run(native, faulty, kernel, to, given)
    message = str(caught.value)
    assert f" {kernel}: block (0, 0, 0)" in message
    assert "in PTX line " in message
    assert f"faulty.cu:{line_of('// here: ' + kernel)}" in message


def test_races_of_blocks_are_told(native: PtxModule, faulty: str) -> None:
    to = Tensor.empty((THREADS,), device="ptx:0")
    with pytest.raises(CudaError, match="race in global memory"):
        run(native, faulty, "race_of_blocks", to, blocks=8)


def test_what_is_in_order_is_no_fault(native: PtxModule, faulty: str) -> None:
    to, given = Tensor.empty((THREADS,), device="ptx:0"), Tensor.from_array(np.arange(64, dtype="f"), device="ptx:0")
    run(native, faulty, "reversed_in_order", to, given)
    assert np.array_equal(np.asarray(to), np.arange(64)[::-1])
    run(native, faulty, "read_twice_by_its_writer", to, given)
    assert np.array_equal(np.asarray(to), 2 * np.arange(64))


def test_a_device_is_as_new_after_a_fault(native: PtxModule, faulty: str) -> None:
    test_a_fault_is_told_with_kernel_and_lines(native, faulty, "misaligned", "misaligned")
    test_what_is_in_order_is_no_fault(native, faulty)


def test_copies_carry_what_was_never_written(native: PtxModule, faulty: str) -> None:
    to, given = (Tensor.empty((256,), device="ptx:0") for _ in range(2))
    on = backend.get_device("ptx:0")
    native.copy(given.array, Tensor.empty((256,), device="ptx:0").array, on.stream)
    with pytest.raises(CudaError, match="nothing has written"):
        run(native, faulty, "reversed_in_order", to, given)


HEAD = ".version 9.0\n.target sm_75\n.address_size 64\n"


def kernel_of(body: str) -> str:
    return (
        f"{HEAD}.visible .entry k(.param .u64 k_param_0)\n{{\n.reg .b32 %r<8>;\n.reg .f32 %f<8>;\n.reg .b64 %rd<8>;\n"
        f"ld.param.u64 %rd1, [k_param_0];\n{body}\nret;\n}}\n"
    )


@pytest.mark.parametrize(
    "instruction", ["add.f32 %f1, %f2, %f3", "bar.red.popc.u32 %r1, 0, %p1", "add.s32 %r1, %rd1, 1", "frobnicate.b32"]
)
def test_an_unknown_instruction_is_named_and_not_skipped(native: PtxModule, instruction: str) -> None:
    with pytest.raises(CudaError, match="unknown instruction") as caught:
        run(native, kernel_of(f"{instruction};"), "k", Tensor.empty((1,), device="ptx:0"))
    assert f"in PTX line 10 `{instruction}`" in str(caught.value)


def test_an_unknown_instruction_that_is_not_reached_does_not_matter(native: PtxModule) -> None:
    run(native, kernel_of("bra $end;\nfrobnicate.b32;\n$end:"), "k", Tensor.empty((1,), device="ptx:0"))


# A thread's quad by an asynchronous copy, and what it then finds at byte READ of it.
COPIED = """
.shared .align 16 .b8 tile[1024];
mov.u32 %r2, %tid.x;\nshl.b32 %r3, %r2, 4;\nmul.wide.u32 %rd4, %r2, 16;
ld.param.u64 %rd2, [k_param_1];\nadd.s64 %rd2, %rd2, %rd4;\nadd.s64 %rd2, %rd2, SHIFT;
mov.u32 %r4, tile;\nadd.s32 %r4, %r4, %r3;\nmov.u32 %r5, BYTES;
cp.async.cg.shared.global [%r4], [%rd2], 16, %r5;\nCOMMIT\nWAIT
ld.shared.f32 %f1, [%r4+READ];
mul.wide.u32 %rd4, %r2, 4;\nadd.s64 %rd1, %rd1, %rd4;\nst.global.f32 [%rd1], %f1;
"""


def copied(native: PtxModule, **given: int | str) -> Tensor:
    """What each thread finds; ``given`` takes the place of the capitals."""
    values = {"SHIFT": 0, "BYTES": 16, "READ": 0, "COMMIT": "cp.async.commit_group;", "WAIT": "cp.async.wait_group 0;"}
    text = kernel_of(COPIED).replace("k_param_0)", "k_param_0, .param .u64 k_param_1)")
    for name, value in {**values, **given}.items():
        text = text.replace(name, str(value))
    to = Tensor.empty((THREADS,), device="ptx:0")
    run(native, text, "k", to, Tensor.from_array(np.arange(1, 4 * THREADS + 1, dtype="f"), device="ptx:0"))
    return to


def test_an_asynchronous_copy_is_there_behind_its_wait(native: PtxModule) -> None:
    quads = np.arange(1, 4 * THREADS + 1).reshape(THREADS, 4)
    for place in range(4):
        np.testing.assert_array_equal(copied(native, READ=4 * place), quads[:, place])
    np.testing.assert_array_equal(copied(native, READ=4, BYTES=8), quads[:, 1])
    np.testing.assert_array_equal(copied(native, READ=8, BYTES=8), 0)  # nothing is read behind them
    np.testing.assert_array_equal(copied(native, READ=0, BYTES=0, SHIFT=1 << 40), 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"WAIT": ""}, "shared memory read that nothing has written"),
        ({"WAIT": "cp.async.wait_group 1;"}, "shared memory read that nothing has written"),
        ({"COMMIT": ""}, "shared memory read that nothing has written"),
        ({"SHIFT": 4}, "misaligned access to global memory: 16 bytes read"),
        ({"SHIFT": 16}, "out of bounds of global memory: 4 bytes read"),
        ({"BYTES": 20}, "a copy of 16 bytes reads 20"),
    ],
)
def test_what_an_asynchronous_copy_does_wrong_is_told(
    native: PtxModule, given: dict[str, int | str], told: str
) -> None:
    with pytest.raises(CudaError, match=told):
        copied(native, **given)


def test_text_that_is_not_understood_is_refused(native: PtxModule) -> None:
    to = Tensor.empty((1,), device="ptx:0")
    with pytest.raises(CudaError, match=r"PTX line 4: '\.frobnicate' is not known"):
        run(native, f"{HEAD}.frobnicate 1;", "k", to)
    with pytest.raises(CudaError, match="there is no PTX of kernel other"):
        run(native, kernel_of(""), "other", to)
    with pytest.raises(CudaError, match="k takes 1 arguments, not 2"):
        run(native, kernel_of(""), "k", to, 1)
    with pytest.raises(CudaError, match="k: argument 0 has 4 bytes, not 8"):
        run(native, kernel_of(""), "k", bytes(4))


def test_the_environment_says_which_architecture_is_executed(native: PtxModule) -> None:
    code = "from pyalexnet.device import backend; print(backend.native_module('ptx').architecture())"

    def run_python(architecture: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYALEXNET_PTX_ARCHITECTURE": architecture}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    pattern = r"ValueError: PYALEXNET_PTX_ARCHITECTURE is 'sm_75'; this module has PTX for ([\d, ]+)"
    refused = re.search(pattern, run_python("sm_75").stderr)
    assert refused is not None
    built = refused[1].split(", ")
    assert str(native.architecture()) in built
    for architecture in built:
        assert run_python(architecture).stdout == f"{architecture}\n"


def test_all_instructions_of_the_kernels_are_known(native: PtxModule) -> None:
    assert native.unknown_instructions() == []


def test_a_parameter_is_read_where_a_register_says(native: PtxModule) -> None:
    to = Tensor.empty((THREADS,), device="ptx:0")
    body = (
        "mov.u32 %r2, %tid.x;\nmul.wide.u32 %rd4, %r2, 4;\nadd.s64 %rd1, %rd1, %rd4;\n"
        "mov.b64 %rd2, k_param_1;\nadd.s64 %rd3, %rd2, 4;\nld.param.u32 %r1, [%rd3+AT];\nst.global.u32 [%rd1], %r1;"
    )
    text = kernel_of(body).replace("k_param_0)\n{", "k_param_0, .param .align 4 .b8 k_param_1[12])\n{")
    words = np.array([1, 2, 3], np.int32).tobytes()
    run(native, text.replace("AT", "4"), "k", to, words)
    np.testing.assert_array_equal(np.asarray(to).view(np.int32), 3)
    with pytest.raises(CudaError, match="out of bounds of the parameters: 4 bytes read at byte 20 of 20"):
        run(native, text.replace("AT", "8"), "k", to, words)


# ---- what is counted ----


def counted(native: PtxModule, text: str, kernel: str, arrays: int = 2) -> NativeTraffic:
    """The traffic of a launch of two warps, to which one array is given or two."""
    to = Tensor.empty((4096,), device="ptx:0")
    given = Tensor.from_array(np.zeros(4096, "f"), device="ptx:0")
    native.count_traffic(True)
    try:
        run(native, text, kernel, *(to, given)[:arrays])
        (found,) = native.take_traffic()
    finally:
        native.count_traffic(False)
    assert found["kernel"] == kernel
    return found


@pytest.mark.parametrize(
    ("kernel", "loads", "stores"),
    [
        ("coalesced", (2, 8, 8), (2, 8, 8)),
        ("stride_2", (2, 16, 8), (2, 8, 8)),
        ("stride_32", (2, 8, 8), (2, 64, 8)),
        ("one_behind", (2, 10, 8), (2, 8, 8)),
        ("broadcast", (2, 2, 2), (2, 8, 8)),
        ("four_at_once", (2, 32, 32), (2, 32, 32)),
        ("half_of_the_lanes", (2, 8, 4), (2, 8, 4)),
        ("bytes", (2, 2, 2), (2, 2, 2)),
    ],
)
def test_sectors_of_global_memory(
    native: PtxModule, traffic: str, kernel: str, loads: tuple[int, ...], stores: tuple[int, ...]
) -> None:
    found = counted(native, traffic, kernel)
    assert (found["global_loads"], found["global_stores"]) == (loads, stores)
    assert found["shared_loads"] == found["shared_stores"] == (0, 0, 0)


@pytest.mark.parametrize(
    ("kernel", "loads", "stores"),
    [
        ("shared_broadcast", (2, 2, 2), (64, 64, 64)),
        ("shared_no_conflict", (2, 2, 2), (64, 64, 64)),
        ("shared_conflict_of_2", (2, 4, 2), (64, 64, 64)),
        ("shared_conflict_of_32", (2, 64, 2), (64, 64, 64)),
        ("pairs_in_order", (2, 4, 4), (8, 16, 16)),
        ("fours_in_order", (2, 8, 8), (8, 32, 32)),
        ("fours_at_every_second", (2, 16, 8), (8, 32, 32)),
        ("fours_shared_by_16", (2, 4, 4), (8, 32, 32)),
    ],
)
def test_wavefronts_of_shared_memory(
    native: PtxModule, traffic: str, kernel: str, loads: tuple[int, ...], stores: tuple[int, ...]
) -> None:
    found = counted(native, traffic, kernel)
    assert (found["shared_loads"], found["shared_stores"]) == (loads, stores)


@pytest.mark.parametrize(
    ("body", "of_both_warps"),
    [
        ("", 4),  # ld.param and ret
        ("mov.u32 %r1, 1;", 6),
        ("mov.u32 %r1, 1;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 mov.u32 %r2, 1;", 10),  # a guard that is false
        # The lanes of one warp jump all, those of the other partly; behind the jump they are together again.
        ("mov.u32 %r1, %tid.x;\nsetp.lt.u32 %p1, %r1, 40;\n@%p1 bra $end;\nmov.u32 %r2, 1;\n$end:", 11),
    ],
)
def test_instructions_of_warps(native: PtxModule, body: str, of_both_warps: int) -> None:
    found = counted(native, kernel_of(f".reg .pred %p<2>;\n{body}"), "k", arrays=1)
    assert found["instructions"] == of_both_warps


def test_nothing_is_counted_unless_asked(native: PtxModule, traffic: str) -> None:
    counted(native, traffic, "coalesced")
    to = Tensor.empty((THREADS,), device="ptx:0")
    run(native, traffic, "coalesced", to, Tensor.from_array(np.zeros(THREADS, "f"), device="ptx:0"))
    assert native.take_traffic() == []


# ---- what is computed ----


def test_multiply_add_rounds_once_and_when_asked_twice(native: PtxModule) -> None:
    a, c = np.float32(1 + 2**-12), np.float32(-1 - 2**-11)  # the square less its last bit
    bits = [f"0f{int(value.view('u4')):08X}" for value in (a, a, c)]
    text = kernel_of(
        f"mov.f32 %f1, {bits[0]};\nmov.f32 %f2, {bits[1]};\nmov.f32 %f3, {bits[2]};\n"
        "mov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd1, %rd1, %rd2;\n"
        "fma.rn.ftz.f32 %f4, %f1, %f2, %f3;\nst.global.f32 [%rd1], %f4;"
    )
    results = []
    for fused in (True, False):
        to = Tensor.empty((THREADS,), device="ptx:0")
        native.set_fused(fused)
        try:
            run(native, text, "k", to)
        finally:
            native.set_fused(True)
        results.append(set(np.asarray(to).tolist()))
    assert results == [{2.0**-24}, {0.0}]


Results = tuple[npt.NDArray[np.float32], ...]


def _conv(rng: np.random.Generator, device: str) -> Results:
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 13, 13, 24), (3, 3, 24, 40)))
    return (np.asarray(ops.conv2d(x, w, padding=1, relu=True, device=device)),)


def _linear(rng: np.random.Generator, device: str) -> Results:
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((5, 70), (70, 36)))
    return (np.asarray(ops.linear(x, w, device=device)),)


def _max_pool2d(rng: np.random.Generator, device: str) -> Results:
    x = rng.standard_normal((2, 13, 13, 8), dtype=np.float32)
    return (np.asarray(ops.max_pool2d(x, device=device)),)


def _lrn(rng: np.random.Generator, device: str) -> Results:
    return (np.asarray(ops.lrn(rng.standard_normal((2, 4, 4, 16), dtype=np.float32), device=device)),)


EQUAL: list[Callable[[np.random.Generator, str], Results]] = [_conv, _linear, _max_pool2d, _lrn]


@pytest.mark.usefixtures("unfused")
@pytest.mark.parametrize("operation", EQUAL, ids=lambda operation: operation.__name__[1:])
def test_what_rounds_twice_equals_sim(operation: Callable[[np.random.Generator, str], Results]) -> None:
    expected, found = (operation(np.random.default_rng(1), device) for device in ("sim:0", "ptx:0"))
    assert [value.tobytes() for value in found] == [value.tobytes() for value in expected]


@pytest.mark.parametrize("operation", [_conv, _linear], ids=lambda operation: operation.__name__[1:])
def test_what_rounds_once_is_close_to_sim(operation: Callable[[np.random.Generator, str], Results]) -> None:
    expected, found = (operation(np.random.default_rng(1), device)[0] for device in ("sim:0", "ptx:0"))
    assert found.tobytes() != expected.tobytes()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # 216 terms of size 1, eps 1e-7 each


def test_exponentials_are_close_to_sim(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 10), dtype=np.float32)
    expected, found = (np.asarray(ops.tanh(x, device=device)) for device in ("sim:0", "ptx:0"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # some units in the last place, of 1e-7 each


def test_both_devices_are_there() -> None:
    assert {info.name for info in pyalexnet.devices()} >= {"ptx:0", "ptx:1"}
