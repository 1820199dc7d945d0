"""What kernels compute, by a C++ program: where the compiler is one for other processors, an emulator runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpp_programs import HOSTCUDA, SOURCE, case_names, compile_all, link, run_case

HERE = Path(__file__).parent
CASES = HERE / "arithmetic.cpp"
RUNNER = HERE.parent / "hostcuda" / "runner.cpp"
FLAGS = ("-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")  # those of cmake/host

pytestmark = pytest.mark.slow  # all kernels are compiled anew; from Python they are tested in each run


@pytest.fixture(scope="session", params=["CPU", "SIM"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases with all kernels, for a target."""
    directory = tmp_path_factory.mktemp("arithmetic")
    sources = [*HOSTCUDA, RUNNER, CASES, SOURCE / "device" / "check.cpp", *sorted((SOURCE / "kernels").glob("*.cu"))]
    objects = compile_all(sources, directory, f"-DPYALEXNET_TARGET_{request.param}", *FLAGS)
    return link(objects, directory / "arithmetic")


@pytest.mark.parametrize("name", case_names(CASES))
def test_case(program: Path, name: str) -> None:
    result = run_case(program, name)
    assert result.returncode == 0, result.stderr
