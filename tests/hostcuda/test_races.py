"""Races of kernels, found by ThreadSanitizer: those made on purpose are reported, and those shipped have none.

A report does not depend on the order in which threads happened to run: that no barrier lies between two accesses is
enough. What two blocks do to the same memory is seen only if different cores ran them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cpp_programs import HOSTCUDA, SOURCE, case_names, compile_all, in_one, link, run_case

HERE = Path(__file__).parent
MADE, SHIPPED = HERE / "race" / "kernels.cpp", HERE / "race" / "shipped.cpp"
SANITIZE = "-fsanitize=thread"
RACE_REPORTED = 66  # ThreadSanitizer's exit status
# Cases wait for their kernels, so no race is still to come when they end.
NO_SECOND_AT_EXIT = {"TSAN_OPTIONS": "atexit_sleep_ms=0"}

# A barrier is left out in cases that need it. The two products share theirs, but not how they fetch slices.
CASES_WITH_BARRIERS_OF = {
    "product_block.cuh": ["conv_forward_ragged_in_parts", "conv_backward_weight_ragged_in_parts"],
    "reduce.cuh": ["reductions_in_a_row"],
    "softmax.cu": ["cross_entropy_in_place"],
    "spectra.cu": ["conv_forward_by_spectra"],
    "tensor_block.cuh": ["conv_forward_in_tf32", "conv_backward_weight_in_tf32x3"],
}


def barriers() -> list[tuple[Path, int]]:
    """The file and line of each barrier in the shipped kernels and in what they include."""
    return [
        (source, number)
        for folder in ("device", "kernels")
        for source in sorted((SOURCE / folder).glob("*.cu*"))
        for number, line in enumerate(source.read_text().splitlines(), start=1)
        if "__syncthreads();" in line
    ]


@pytest.fixture(scope="session")
def executor(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The objects that execute kernels and that ThreadSanitizer does not look at; skips the test where it fails."""
    directory = tmp_path_factory.mktemp("executor")
    (empty := directory / "empty.cpp").write_text("int main() {}\n")
    compiled = compile_all([empty], directory)
    try:
        program = link(compiled, directory / "empty", SANITIZE)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler comes without ThreadSanitizer")
    if run_case(program, "", NO_SECOND_AT_EXIT).returncode != 0:
        pytest.skip("ThreadSanitizer does not run here")
    return compile_all([in_one(HOSTCUDA, directory), HERE / "runner.cpp"], directory, "-DHOSTCUDA_RACE_CHECK")


@pytest.fixture(scope="session")
def made(executor: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the kernels that were made for this test."""
    directory = tmp_path_factory.mktemp("made")
    return link(executor + compile_all([MADE], directory, SANITIZE), directory / "made", SANITIZE)


@pytest.fixture(scope="session")
def shipped(executor: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the kernels of src/kernels as they are, but for the barrier that the environment names."""
    directory = tmp_path_factory.mktemp("shipped")
    sources = [SHIPPED, SOURCE / "device" / "check.cpp", *sorted((SOURCE / "kernels").glob("*.cu"))]
    barrier = HERE / "race" / "skip_barrier.h"
    objects = compile_all(sources, directory, SANITIZE, "-DPYALEXNET_TARGET_SIM", first=barrier)
    return link(executor + objects, directory / "shipped", SANITIZE)


@pytest.mark.parametrize("name", case_names(MADE))
def test_races_are_reported(made: Path, name: str) -> None:
    result = run_case(made, name, NO_SECOND_AT_EXIT)
    if name.startswith("racy_"):
        assert result.returncode == RACE_REPORTED, result.stderr
        assert "data race" in result.stderr
        assert "race/kernels.cpp" in result.stderr
    else:
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", case_names(SHIPPED))
def test_shipped_kernels_have_no_races(shipped: Path, name: str) -> None:
    result = run_case(shipped, name, NO_SECOND_AT_EXIT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("source", "line"), barriers(), ids=lambda value: getattr(value, "name", value))
def test_no_barrier_can_be_left_out(shipped: Path, source: Path, line: int) -> None:
    for name in CASES_WITH_BARRIERS_OF[source.name]:
        result = run_case(shipped, name, NO_SECOND_AT_EXIT | {"SKIPPED_BARRIER": f"{source}:{line}"})
        assert result.returncode == RACE_REPORTED, result.stderr
        assert "data race" in result.stderr
        assert source.name in result.stderr
