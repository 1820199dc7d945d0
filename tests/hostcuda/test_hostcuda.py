"""Runs each case of the C++ tests of src/hostcuda as a test of its own, in a process of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "hostcuda"
SECONDS_A_CASE = 60  # cases take at most a second or two; the rest is for a busy machine
RACE_REPORTED = 66  # ThreadSanitizer's exit status


def case_names(directory: Path) -> list[str]:
    """The names of all cases, read from the sources so that collecting tests needs no compiler."""
    return [
        line[len("TEST(") : line.index(")")]
        for source in sorted(directory.glob("*.cpp"))
        for line in source.read_text().splitlines()
        if line.startswith("TEST(")
    ]


def compiler() -> str:
    """The C++ compiler to test with; skips the test where there is none."""
    found = os.environ.get("CXX") or shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler: neither $CXX nor c++")
    return found


def compile_all(sources: list[Path], directory: Path, *flags: str) -> list[str]:
    """Compiles `sources`, two at a time, and returns the paths of the objects."""
    command = [
        compiler(),
        "-std=c++20",
        "-O1",
        "-g",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{SOURCE}",
        *flags,
    ]
    objects = [str(directory / "_".join((*source.parts[-3:-1], f"{source.stem}.o"))) for source in sources]
    waiting = list(zip(sources, objects, strict=True))
    running: list[subprocess.Popen[bytes]] = []
    failed = False
    while waiting or running:
        while waiting and len(running) < 2:
            source, target = waiting.pop()
            running.append(subprocess.Popen([*command, "-c", str(source), "-o", target]))
        failed |= running.pop(0).wait() != 0
    assert not failed, "a source of hostcuda or of its tests does not compile"
    return objects


def link(objects: list[str], program: Path, *flags: str) -> Path:
    """Links `objects` and returns the program's path."""
    subprocess.run([compiler(), *flags, "-pthread", *objects, "-ldl", "-o", str(program)], check=True)
    return program


def run_case(program: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Runs one case, or `--list`, to its end."""
    return subprocess.run([program, name], capture_output=True, text=True, timeout=SECONDS_A_CASE)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled test program."""
    directory = tmp_path_factory.mktemp("hostcuda")
    sources = sorted(SOURCE.glob("*.cpp")) + sorted(HERE.glob("*.cpp"))
    return link(compile_all(sources, directory), directory / "hostcuda_tests")


@pytest.fixture(scope="session")
def race_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of race/ under ThreadSanitizer, executed by code that it does not look at."""
    directory = tmp_path_factory.mktemp("hostcuda_race")
    kernels = compile_all([HERE / "runner.cpp", HERE / "race" / "kernels.cpp"], directory, "-fsanitize=thread")
    executor = compile_all(sorted(SOURCE.glob("*.cpp")), directory, "-DHOSTCUDA_RACE_CHECK")
    try:
        program = link(kernels + executor, directory / "hostcuda_race_tests", "-fsanitize=thread")
    except subprocess.CalledProcessError:
        pytest.skip("the compiler comes without ThreadSanitizer")
    if run_case(program, "--list").returncode != 0:
        pytest.skip("ThreadSanitizer does not run here")
    return program


def test_every_case_is_listed(program: Path) -> None:
    assert sorted(run_case(program, "--list").stdout.split()) == sorted(case_names(HERE))


@pytest.mark.parametrize("name", case_names(HERE))
def test_case(program: Path, name: str) -> None:
    result = run_case(program, name)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", case_names(HERE / "race"))
def test_races_are_reported(race_program: Path, name: str) -> None:
    result = run_case(race_program, name)
    if name.startswith("racy_"):
        assert result.returncode == RACE_REPORTED, result.stderr
        assert "data race" in result.stderr
        assert "race/kernels.cpp" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
