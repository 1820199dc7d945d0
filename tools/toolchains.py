#!/usr/bin/env python3
"""Build and try the package with the oldest and the newest of what README.md and pyproject.toml promise.

    tools/toolchains.py               all of it that this machine has, some minutes each
    tools/toolchains.py gcc clang     those whose name has one of these words
    tools/toolchains.py --list        what would be tried, and what this machine lacks

Each trial has a virtual environment of its own, into which pip installs the package from a copy of the working tree;
then the smoke tests run. The last columns tell whether the compilers agree to the bit: checksums of what some
operations give, and of the weights after a training step.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from working_tree import ROOT, copy_working_tree

NEWEST_PYTHON = 14  # 3.14

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
how = {"padding": 1, "device": device}
found = [ops.conv2d(x, w, **how), ops.conv2d_backward_input(dy, w, x.shape, **how)]
found += ops.conv2d_backward_weight(x, dy, 3, **how)
found += [ops.lrn(x, device=device), ops.max_pool2d(x, device=device), ops.tanh(x, device=device)]
checksum = hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in found)).hexdigest()[:8]
net = AlexNet(5, devices=[device], seed=3)
net.train_step(60 * rng.standard_normal((2, 227, 227, 3), np.float32), np.array([1, 4]), lr=0.01)
step = hashlib.sha256(b"".join(value.tobytes() for value in net.parameters().values())).hexdigest()[:8]
print(checksum + "/" + step)
"""


@dataclass(frozen=True)
class Trial:
    """What the package is built with, and where that is found; None where this machine lacks it."""

    name: str
    python: str | None
    compiler: str | None
    requirements: tuple[str, ...] = ()  # for pip, beside the package's own
    cuda: str = "OFF"

    def lacks(self) -> str:
        """What is lacking, in words; empty where nothing is."""
        missing = [what for what, path in (("Python", self.python), ("compiler", self.compiler)) if path is None]
        return ", ".join(f"no such {what}" for what in missing)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: "passed" or what failed, and a checksum for each of BITS."""

    result: str
    bits: tuple[str, ...] = ("",) * 3


# Where bits are compared: a device, and the instruction set of `cpu`; None for the best there is.
BITS = {"sim": ("sim:0", None), "cpu, plainest": ("cpu:0", "x86_64"), "cpu, best": ("cpu:0", None)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them one after the other and print a table.

    Returns:
        1 if one did not build or its tests failed, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="try those whose name has one of these")
    parser.add_argument("--list", action="store_true", help="only show what would be tried")
    options = parser.parse_args(arguments)
    rows = [("what", "Python", "compiler", "result", *BITS)]
    for each in trials():
        if options.words and not any(word.lower() in each.name.lower() for word in options.words):
            continue
        outcome = Outcome(each.lacks() or "to be tried") if options.list or each.lacks() else attempt(each)
        rows.append((each.name, each.python or "-", each.compiler or "-", outcome.result, *outcome.bits))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 1 if any(row[3].startswith("FAILED") for row in rows) else 0


def trials() -> Iterator[Trial]:
    """What is promised, from its oldest to its newest."""
    project, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "README.md"))
    oldest_python = int(number_in(r'requires-python = ">=3\.(\d+)"', project))
    oldest_numpy = number_in(r'"numpy>=([\d.]+)"', project)
    usual = shutil.which(os.environ.get("CXX", "c++"))
    yield Trial(f"Python 3.{oldest_python}, NumPy {oldest_numpy}", python(oldest_python), usual,
                (f"numpy=={oldest_numpy}.*",))  # fmt: skip
    for minor in range(NEWEST_PYTHON, oldest_python, -1):
        yield Trial(f"Python 3.{minor}, newest NumPy", python(minor), usual)
        if python(minor):
            break
    here = Path(sys.executable).resolve()
    for family, command in (("GCC", "g++"), ("Clang", "clang++")):
        oldest = int(number_in(rf"{family} (\d+) or newer", readme))
        found = {version: path for version in range(oldest, 100) if (path := shutil.which(f"{command}-{version}"))}
        yield Trial(f"{family} {oldest}", str(here), found.pop(oldest, None))
        if found:
            newest = max(found)
            yield Trial(f"{family} {newest}", str(here), found[newest])
    oldest_cuda = number_in(r"`nvcc` of CUDA ([\d.]+) or newer", readme)
    yield Trial(f"an nvcc, of CUDA {oldest_cuda} at least", str(here) if shutil.which("nvcc") else None, usual,
                cuda="ON")  # fmt: skip


def number_in(pattern: str, text: str) -> str:
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
    assert trial.python is not None
    assert trial.compiler is not None
    with tempfile.TemporaryDirectory() as folder:
        tree, environment = Path(folder) / "tree", Path(folder) / "venv"
        copy_working_tree(tree)
        own_python = environment / "bin" / "python"
        variables = {
            **os.environ, "CXX": trial.compiler, "PYALEXNET_CUDA": trial.cuda, "PYALEXNET_WERROR": "ON",
            "PATH": f"{own_python.parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        variables.pop("PYTHONPATH", None)

        def run(*command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
            finished = subprocess.run(
                command,
                cwd=tree,
                env={**variables, **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if finished.returncode:
                print(finished.stdout[-4000:], flush=True)
            return finished

        if run(trial.python, "-m", "venv", environment).returncode:
            return Outcome("FAILED to make an environment")
        if run(own_python, "-m", "pip", "install", "--quiet", f"{tree}[test]", *trial.requirements).returncode:
            return Outcome("FAILED to build")
        tests = run(own_python, "-m", "pytest", "-q", "-m", "smoke", "-p", "no:cacheprovider")
        bits = []
        for device, instruction_set in BITS.values():
            chosen = (
                {"PYALEXNET_CPU_ISA": instruction_set} if instruction_set and os.uname().machine == "x86_64" else {}
            )
            told = run(own_python, "-c", CHECKSUM, device, **chosen)
            bits.append(told.stdout.strip() if told.returncode == 0 else "FAILED")
        return Outcome("FAILED the smoke tests" if tests.returncode else "passed", tuple(bits))


if __name__ == "__main__":
    sys.exit(main())
