#!/usr/bin/env python3
"""Build native modules into the source tree, where an editable install of the package finds them.

    tools/develop.py               _sim, and the _cpu module for this processor
    tools/develop.py _sim _cuda    the modules named; `all` builds every one

Only what changed is compiled again.
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

import pybind11

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Configure the build the first time, then build the modules asked for."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="native modules to build, or all")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build" / "develop", help="%(default)s")
    parser.add_argument("-D", dest="definitions", action="append", default=[], metavar="NAME=VALUE",
                        help="a CMake setting, such as PYALEXNET_CUDA=OFF; kept for later calls")  # fmt: skip
    arguments = parser.parse_args()

    if arguments.definitions or not (arguments.build_dir / "build.ninja").exists():
        configure(arguments.build_dir, arguments.definitions)
    modules = arguments.modules or ["_sim", f"_cpu_{instruction_set()}"]
    run("cmake", "--build", arguments.build_dir, "--target", *modules)


def configure(build_dir: Path, definitions: list[str]) -> None:
    """Let CMake write the build files, with the package's folder as the place for the modules."""
    definitions = [
        f"CMAKE_LIBRARY_OUTPUT_DIRECTORY={ROOT / 'pyalexnet'}",
        f"Python_EXECUTABLE={sys.executable}",
        f"pybind11_DIR={pybind11.get_cmake_dir()}",
        *definitions,
    ]
    run("cmake", "-S", ROOT, "-B", build_dir, "-G", "Ninja", *(f"-D{text}" for text in definitions))


def instruction_set() -> str:
    """The best instruction set of this processor among those that have a module."""
    machine = platform.machine()
    if machine != "x86_64":
        return machine
    features = set(Path("/proc/cpuinfo").read_text().split())
    if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= features:
        return "x86_64_v4"
    return "x86_64_v3" if {"avx2", "bmi2", "f16c", "fma"} <= features else "x86_64"


def run(*command: str | Path) -> None:
    """Run a command, this Python's own programs first on its path; stop with its exit status if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    status = subprocess.run(command, env={**os.environ, "PATH": path}).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
