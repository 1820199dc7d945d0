"""Compiles and runs C++ test programs, whose cases are each run as a test and a process of their own.

The compiler is ``$CXX`` or c++. Where it is one for other processors, ``$CROSSCOMPILING_EMULATOR`` runs its programs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HOSTCUDA = sorted((SOURCE / "hostcuda").glob("*.cpp"))
SECONDS_A_CASE = 60  # cases take at most a second or two; the rest is for a busy machine


def case_names(*sources: Path) -> list[str]:
    """The names of all cases, read from the sources so that collecting tests needs no compiler."""
    return [
        line[len("TEST(") : line.index(")")]
        for source in sources
        for line in source.read_text().splitlines()
        if line.startswith("TEST(")
    ]


def compiler() -> str:
    """The C++ compiler to test with; skips the test where there is none."""
    found = os.environ.get("CXX") or shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler: neither $CXX nor c++")
    return found


def compile_all(sources: list[Path], directory: Path, *flags: str, first: Path | None = None) -> list[str]:
    """Compiles `sources`, kernels too, two at a time, and returns the paths of the objects; each includes `first`."""
    command = [compiler(), "-std=c++20", "-O1", "-g1", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags]
    command += [f"-I{SOURCE / 'hostcuda'}", f"-I{SOURCE}"]
    if len(sources) > 3:  # for few it takes longer than it saves
        first = precompiled(command, directory, first)
    command += ["-include", str(first)] if first else []
    command += ["-x", "c++"]
    objects = [str(directory / "_".join((*source.parts[-3:-1], f"{source.stem}.o"))) for source in sources]
    waiting = list(zip(sources, objects, strict=True))
    running: list[subprocess.Popen[bytes]] = []
    failed = False
    while waiting or running:
        while waiting and len(running) < 2:
            source, target = waiting.pop()
            running.append(subprocess.Popen([*command, "-c", str(source), "-o", target]))
        failed |= running.pop(0).wait() != 0
    assert not failed, "a source of the test program does not compile"
    return objects


def in_one(sources: list[Path], directory: Path) -> Path:
    """A source that includes all of `sources`, since reading headers takes longer than compiling what is in a file."""
    whole = directory / f"{'_'.join(sources[0].parts[-3:-1])}.cpp"
    whole.write_text("".join(f'#include "{source}"\n' for source in sources))
    return whole


def precompiled(command: list[str], directory: Path, first: Path | None) -> Path:
    """A header of what most sources include, and of `first`; beside it, where compilers look, is its compiled form."""
    standard = (
        "algorithm",
        "atomic",
        "cmath",
        "functional",
        "memory",
        "mutex",
        "sstream",
        "string",
        "thread",
        "vector",
    )
    header = directory / "first.h"
    header.write_text("".join(f"#include <{name}>\n" for name in (*standard, first or "hostcuda.h")))
    subprocess.run([*command, "-x", "c++-header", str(header), "-o", f"{header}.gch"], check=True)
    return header


def link(objects: list[str], program: Path, *flags: str) -> Path:
    """Links `objects` and returns the program's path."""
    subprocess.run([compiler(), *flags, "-pthread", *objects, "-ldl", "-o", str(program)], check=True)
    return program


def run_case(
    program: Path, name: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs one case, or `--list`, to its end, with `environment` on top of this process's."""
    variables = {**os.environ, **(environment or {})}
    emulator = shlex.split(os.environ.get("CROSSCOMPILING_EMULATOR", ""))
    return subprocess.run(
        [*emulator, program, name], capture_output=True, text=True, timeout=SECONDS_A_CASE, env=variables
    )
