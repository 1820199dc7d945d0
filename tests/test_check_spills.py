"""tools/check_spills.py reads ptxas's messages and fails where a kernel spills or nothing was compiled."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "check_spills.py"


def report(kernel: str, *, spill_bytes: int = 0) -> str:
    """What ptxas prints of a kernel."""
    return (
        f"ptxas info    : Compiling entry function '{kernel}' for 'sm_90'\n"
        f"ptxas info    : Function properties for {kernel}\n"
        f"    16 bytes stack frame, {spill_bytes} bytes spill stores, {spill_bytes} bytes spill loads\n"
        "ptxas info    : Used 64 registers, used 1 barriers, 368 bytes cmem[0]\n"
    )


def check(path: Path) -> tuple[int, str]:
    """The tool's exit status and everything it prints."""
    result = subprocess.run([sys.executable, TOOL, path], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def test_kernels_without_spills_pass(tmp_path: Path) -> None:
    (tmp_path / "object").mkdir()
    (tmp_path / "object" / "lrn.cu.o.ptxas").write_text(report("lrn_kernel") + report("relu_kernel"))
    status, output = check(tmp_path)
    assert status == 0, output
    assert "2 kernels for sm_(90): none spilling" in output


def test_a_spilling_kernel_fails_by_name(tmp_path: Path) -> None:
    (tmp_path / "conv.cu.o.ptxas").write_text(report("relu_kernel") + report("conv_kernel", spill_bytes=8))
    status, output = check(tmp_path)
    assert status == 1
    assert "conv_kernel  SPILLS" in output
    assert "relu_kernel  SPILLS" not in output


@pytest.mark.parametrize("text", ["", "ptxas info    : 0 bytes gmem\n"])
def test_no_kernel_at_all_fails(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty.cu.o.ptxas").write_text(text)
    status, output = check(tmp_path)
    assert status == 1
    assert "no kernel" in output


def test_a_report_that_cannot_be_read_fails(tmp_path: Path) -> None:
    (tmp_path / "conv.cu.o.ptxas").write_text(report("conv_kernel").replace("spill stores", "spilled"))
    status, output = check(tmp_path)
    assert status != 0
    assert "conv_kernel" in output
