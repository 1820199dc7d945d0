#!/usr/bin/env python3
"""Build and try the package with the oldest and the newest of what README.md and pyproject.toml promise.

    tools/toolchains.py               all of it that this machine has, some minutes each
    tools/toolchains.py gcc clang     those whose name has one of these words
    tools/toolchains.py --list        what would be tried, and what this machine lacks

Each trial has a virtual environment of its own, into which pip installs the package from a copy of the working tree;
then some of the tests run. The last columns show where compilers agree to the bit, which nothing promises: checksums of
what some operations give, of convolutions by spectra, and of the weights after a training step.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from working_tree import ROOT, copy_working_tree

NEWEST_PYTHON = 14  # 3.14

# What pytest runs: the smoke tests, and those of wrong arguments, since a compiler chooses which it evaluates first.
TESTS = (("-m", "smoke"), ("tests/test_arguments.py",))

# Where bits are compared: a device, and how the instruction set of `cpu` is chosen; else it is the processor's best.
PLAINEST = {"PYALEXNET_CPU_ISA": "x86_64"} if os.uname().machine == "x86_64" else {}
BITS: dict[str, tuple[str, dict[str, str]]] = {
    "sim": ("sim:0", {}),
    "cpu, plainest": ("cpu:0", PLAINEST),
    "cpu, best": ("cpu:0", {}),
}

CHECKSUM = """
import hashlib, sys
import numpy as np
from pyalexnet import ops
from pyalexnet.net.network import AlexNet
sys.path.append("tests")
import small
small.shrink()
device = sys.argv[1]
rng = np.random.default_rng(2012)
x, w, dy = (rng.standard_normal(shape, np.float32) for shape in ((2, 13, 13, 48), (3, 3, 48, 130), (2, 13, 13, 130)))

def convolutions(algorithm):
    chosen = {"padding": 1, "device": device, "algorithm": algorithm}
    weight_and_bias = ops.conv2d_backward_weight(x, dy, 3, **chosen)
    return [ops.conv2d(x, w, **chosen), ops.conv2d_backward_input(dy, w, x.shape, **chosen), *weight_and_bias]

def checksum(arrays):
    return hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in arrays)).hexdigest()[:6]

others = [ops.lrn(x, device=device), ops.max_pool2d(x, device=device), ops.tanh(x, device=device)]
net = AlexNet(5, devices=[device], seed=3)
net.train_step(60 * rng.standard_normal((2, 227, 227, 3), np.float32), np.array([1, 4]), lr=0.01)
parts = [convolutions("direct") + others, convolutions("fourier"), net.parameters().values()]
print("/".join(map(checksum, parts)))
"""


@dataclass(frozen=True)
class Trial:
    """What the package is built with, and where that is found; None where this machine lacks it."""

    name: str
    python: str | None
    compiler: str | None
    requirements: tuple[str, ...] = ()  # for pip, beside the package's own
    nvcc: str | None = ""  # empty where GPUs are left out

    def lacks(self) -> str:
        """What is lacking, in words; empty where nothing is."""
        places = {"Python": self.python, "compiler": self.compiler, "nvcc": self.nvcc}
        return ", ".join(f"no such {what}" for what, place in places.items() if place is None)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: "passed" or what failed, and a checksum for each of BITS, or "-"."""

    result: str
    bits: tuple[str, ...] = ("-",) * len(BITS)

    def failed(self) -> bool:
        """Whether anything did."""
        return any(text.startswith("FAILED") for text in (self.result, *self.bits))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them one after the other and print a table.

    Returns:
        1 if one did not build or its tests failed, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="try those whose name has one of these")
    parser.add_argument("--list", action="store_true", help="only show what would be tried")
    options = parser.parse_args(arguments)
    outcomes = {}
    for each in trials():
        if options.words and not any(word.lower() in each.name.lower() for word in options.words):
            continue
        lacking = each.lacks()
        outcomes[each] = Outcome(lacking or "to be tried") if options.list or lacking else attempt(each)
    print_table(outcomes)
    return 1 if any(outcome.failed() for outcome in outcomes.values()) else 0


def trials() -> Iterator[Trial]:
    """What is promised, from its oldest to its newest."""
    project, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "README.md"))
    oldest_python = int(promised(r'requires-python = ">=3\.(\d+)"', project))
    oldest_numpy = promised(r'"numpy>=([\d.]+)"', project)
    usual = shutil.which(os.environ.get("CXX", "c++"))
    yield Trial(f"Python 3.{oldest_python}, NumPy {oldest_numpy}", python(oldest_python), usual,
                (f"numpy=={oldest_numpy}.*",))  # fmt: skip
    for minor in range(NEWEST_PYTHON, oldest_python, -1):
        yield Trial(f"Python 3.{minor}, newest NumPy", python(minor), usual)
        if python(minor):
            break
    this_python = str(Path(sys.executable).resolve())
    for family, command in (("GCC", "g++"), ("Clang", "clang++")):
        oldest = int(promised(rf"{family} (\d+) or newer", readme))
        found = {version: path for version in range(oldest, 100) if (path := shutil.which(f"{command}-{version}"))}
        yield Trial(f"{family} {oldest}", this_python, found.pop(oldest, None))
        if found:
            newest = max(found)
            yield Trial(f"{family} {newest}", this_python, found[newest])
    oldest_cuda = promised(r"`nvcc` of CUDA ([\d.]+) or newer", readme)
    yield Trial(f"an nvcc, of CUDA {oldest_cuda} at least", this_python, usual, nvcc=shutil.which("nvcc"))


def promised(pattern: str, text: str) -> str:
    """What a pattern's group finds; ends the program where the text no longer says it."""
    found = re.search(pattern, text)
    return found[1] if found else sys.exit(f"nothing is promised any more by {pattern!r}")


def python(minor: int) -> str | None:
    """A Python of that version which can make virtual environments: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (shutil.which(f"python3.{minor}"), *map(str, pyenv.glob(f"3.{minor}.*/bin/python"))):
        if candidate and subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return candidate
    return None


def attempt(trial: Trial) -> Outcome:
    """Build, install and test the package in an environment of its own."""
    print(f"--- {trial.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tree, environment = Path(folder) / "tree", Path(folder) / "venv"
        copy_working_tree(tree)
        own_python = str(environment / "bin" / "python")
        settings = {
            "CXX": str(trial.compiler),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYALEXNET_CUDA": "ON" if trial.nvcc else "OFF",
            "PYALEXNET_WERROR": "ON",
        }
        if output_of([str(trial.python), "-m", "venv", str(environment)], tree, settings) is None:
            return Outcome("FAILED to make an environment")
        install = [own_python, "-m", "pip", "install", "--quiet", f"{tree}[test]", *trial.requirements]
        if output_of(install, tree, settings) is None:
            return Outcome("FAILED to build")
        pytest = [own_python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        failed = [" ".join(tests) for tests in TESTS if output_of([*pytest, *tests], tree, settings) is None]
        checksums = (
            output_of([own_python, "-c", CHECKSUM, device], tree, {**settings, **chosen})
            for device, chosen in BITS.values()
        )
        result = f"FAILED: {', '.join(failed)}" if failed else "passed"
        return Outcome(result, tuple(each or "FAILED" for each in checksums))


def output_of(command: Sequence[str], folder: Path, settings: Mapping[str, str]) -> str | None:
    """What a command prints; None if it fails, and then its last lines are shown."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(command, cwd=folder, env={**inherited, **settings}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)  # fmt: skip
    if finished.returncode:
        print(finished.stdout[-4000:], flush=True)
        return None
    return finished.stdout.strip()


def print_table(outcomes: Mapping[Trial, Outcome]) -> None:
    """A line a trial, its columns as wide as their widest text."""
    rows = [("what", "Python", "compiler", "result", *BITS)]
    for trial, outcome in outcomes.items():
        rows.append((trial.name, trial.python or "-", trial.compiler or "-", outcome.result, *outcome.bits))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
