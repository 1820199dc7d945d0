"""Runs each case of the C++ tests of src/hostcuda as a test of its own, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpp_programs import HOSTCUDA, case_names, compile_all, in_one, link, run_case

HERE = Path(__file__).parent
IN_ANY_ORDER = (HERE / "streams.cpp", HERE / "graphs.cpp")
SOURCES = sorted(HERE.glob("*.cpp"))

# How cores are shared out is not for a seed to say: shuffled operations run one at a time.
OF_CORES = ("one_device_gets_all_cores", "two_devices_share_the_cores")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled test program."""
    directory = tmp_path_factory.mktemp("hostcuda")
    wholes = [in_one(sources, directory) for sources in (HOSTCUDA, SOURCES)]
    return link(compile_all(wholes, directory), directory / "hostcuda_tests")


def test_every_case_is_listed(program: Path) -> None:
    assert sorted(run_case(program, "--list").stdout.split()) == sorted(case_names(*SOURCES))


@pytest.mark.parametrize("name", [name for name in case_names(*IN_ANY_ORDER) if name not in OF_CORES])
def test_streams_keep_their_rules_when_they_are_shuffled(program: Path, name: str) -> None:
    for seed in range(5):
        result = run_case(program, name, {"SHUFFLED_STREAMS_SEED": str(seed)})
        assert result.returncode == 0, f"seed {seed}: {result.stderr}"


@pytest.mark.parametrize("name", case_names(*SOURCES))
def test_case(program: Path, name: str) -> None:
    result = run_case(program, name)
    assert result.returncode == 0, result.stderr
