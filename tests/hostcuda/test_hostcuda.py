"""Runs each case of the C++ tests of src/hostcuda as a test of its own, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpp_programs import HOSTCUDA, case_names, compile_all, link, run_case

SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled test program."""
    directory = tmp_path_factory.mktemp("hostcuda")
    return link(compile_all(HOSTCUDA + SOURCES, directory), directory / "hostcuda_tests")


def test_every_case_is_listed(program: Path) -> None:
    assert sorted(run_case(program, "--list").stdout.split()) == sorted(case_names(*SOURCES))


@pytest.mark.parametrize("name", case_names(*SOURCES))
def test_case(program: Path, name: str) -> None:
    result = run_case(program, name)
    assert result.returncode == 0, result.stderr
