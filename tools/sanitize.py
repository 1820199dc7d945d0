#!/usr/bin/env python3
"""Run kernels, exchange and a training step under one of the compiler's sanitizers; fail on any report.

    tools/sanitize.py address      accesses beyond arrays, stacks and allocations, and after they are gone
    tools/sanitize.py undefined    what C++ leaves undefined: overflows, shifts, misaligned accesses, null pointers
    tools/sanitize.py thread       races: of the runtime itself, of two streams, of a kernel's threads
    tools/sanitize.py address --planted    break the code on purpose, and show that the sanitizer tells of it

The working tree is copied to build/sanitize, so it stays as it is. What runs there are the tests of src/hostcuda and,
from Python with the sanitizer's runtime preloaded, those of the operations, the exchange and the net, on `sim` and
`cpu`. Needs GCC with its sanitizers; ten minutes or so each on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from working_tree import ROOT, copy_working_tree, planted

CPU_MODULE = "_cpu_aarch64" if os.uname().machine == "aarch64" else "_cpu_x86_64"


@dataclass(frozen=True)
class Fault:
    """A mistake to plant: a text in a file, what to put in its place, the tests that meet it, and what is reported."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    reported: str


@dataclass(frozen=True)
class Sanitizer:
    """One of the compiler's.

    Attributes:
        library: its runtime, which Python has to load before anything else.
        options: the environment variable of its options, and their values.
        simulates_step: whether a step of a net runs on simulated threads too.
        not_for_it: cases of the tests of hostcuda that do on purpose what it reports.
        faults: what ``--planted`` plants.
    """

    library: str
    options: tuple[str, str]
    simulates_step: bool
    not_for_it: tuple[str, ...]
    faults: tuple[Fault, ...]


EXCHANGE = "tests/test_exchange.py"
# One call of every operation, convolutions by spectra, links between devices, and steps of a net on one and on two.
TESTS = (
    "tests/test_guarded_memory.py::test_operations_stay_within_their_arrays",
    "tests/test_transformed_conv.py::test_is_as_exact_as_direct_sums",
    EXCHANGE,
    "tests/test_network.py::test_placements_give_the_same_bits[cpu:0]",
)
# On simulated threads a step of the tests' net takes minutes, so there it is one of one image.
SIMULATED_STEP = """
import numpy as np, small
small.shrink()
from pyalexnet.net.network import AlexNet
net = AlexNet(5, devices=["sim:0", "sim:1"])
net.train_step(np.random.default_rng(1).standard_normal((1, 227, 227, 3), np.float32), np.array([3]), lr=0.01)
"""

SANITIZERS = {
    # Python leaks what lives as long as the process; stacks that detect uses after a return do not go with fibers.
    "address": Sanitizer(
        "libasan.so", ("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0"),
        True,
        ("guarded_memory_ends_where_nobody_may_touch_it",),  # they touch it
        (
            Fault("a kernel writes behind its array", "src/kernels/relu.cu",
                  "store(y + i, relu(load<N>(x + i)));",
                  "y[count] = 0.0f;\n    store(y + i, relu(load<N>(x + i)));",
                  "tests/test_guarded_memory.py -k relu", "use-after-poison"),
            Fault("a kernel reads behind its array", "src/bindings/sgd.cpp",
                  ".count = weights.size(),", ".count = weights.size() + 1,",
                  "tests/test_sgd.py -k cpu", "buffer-overflow"),
        ),
    ),
    "undefined": Sanitizer(
        "libubsan.so", ("UBSAN_OPTIONS", "print_stacktrace=1"),
        True,
        ("guarded_memory_ends_where_nobody_may_touch_it",),  # a null pointer among what they touch
        (
            Fault("an index overflows", "src/kernels/relu.cu",
                  "store(y + i, relu(load<N>(x + i)));",
                  "volatile int last = 0x7fffffff;\n    last = last + 1;\n    store(y + i, relu(load<N>(x + i)));",
                  "tests/test_relu.py -k sim", "signed integer overflow"),
        ),
    ),
    "thread": Sanitizer(
        "libtsan.so", ("TSAN_OPTIONS", "atexit_sleep_ms=0"),
        False,  # to it each simulated thread is one of its own, and a step has too many of them
        (
            "guarded_memory_ends_where_nobody_may_touch_it",  # its faults are handled where memory may not be taken
            "pinned_memory_may_be_read_late_and_pageable_memory_is_read_at_once",  # the host writes meanwhile
            "pageable_memory_may_be_written_late",  # the host reads meanwhile
        ),
        (
            Fault("a copy does not wait for the stream that writes its source", "src/exchange/exchange.cpp",
                  "    destination_copies_.wait(source_ready_);", "",
                  f"{EXCHANGE}::test_transfers_wait_for_writers_and_readers[orderusual-sim-True]", "data race"),
            Fault("a kernel's warps do not wait for each other", "src/device/reduce.cuh",
                  "__syncthreads();\n", "\n",
                  "tests/test_softmax.py -k sim", "data race"),
        ),
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, then run everything.

    Returns:
        1 if anything was reported or failed, or if a planted fault was not reported, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sanitizer", choices=SANITIZERS)
    parser.add_argument("--planted", action="store_true", help="plant faults instead, each of which must be reported")
    parser.add_argument("-D", dest="definitions", action="append", default=[], metavar="NAME=VALUE",
                        help="a setting of CMake's")  # fmt: skip
    options = parser.parse_args(arguments)
    under = Under(options.sanitizer, options.definitions)
    copy_working_tree(under.tree)
    if options.planted:
        passed = [under.notices(fault) for fault in under.sanitizer.faults]
    else:
        under.build("hostcuda_tests", "_sim", CPU_MODULE)
        passed = [under.hostcuda_passes(), under.python_passes()]
    return 0 if all(passed) else 1


class Under:
    """A sanitizer with a copy of the tree that is built for it."""

    def __init__(self, name: str, definitions: list[str]) -> None:
        self.name = name
        self.sanitizer = SANITIZERS[name]
        self.place = ROOT / "build" / "sanitize" / name
        self.tree, self.reports = self.place / "tree", self.place / "reports"
        self.definitions = ["PYALEXNET_CUDA=OFF", f"PYALEXNET_SANITIZER={name}", *definitions]

    def build(self, *targets: str) -> None:
        """Build some of CMake's targets; end the program where that fails."""
        command = [sys.executable, self.tree / "tools" / "develop.py", "--build-dir", self.place / "build", *targets]
        command += [f"-D{definition}" for definition in self.definitions]
        if subprocess.run(command).returncode:
            sys.exit(f"{self.name}: the build failed")

    def hostcuda_passes(self) -> bool:
        """Run the cases of hostcuda's tests, each in a process of its own."""
        program = self.place / "build" / "cmake" / "host" / "hostcuda_tests"
        listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
        cases = [case for case in listed if case not in self.sanitizer.not_for_it]
        failed = [case for case in cases if not self.passes(f"case {case}", [str(program), case], {})]
        print(f"{self.name}: {len(cases) - len(failed)} of {len(cases)} cases of hostcuda's tests passed", flush=True)
        return not failed

    def python_passes(self) -> bool:
        """Run tests of the package, and a step of a net on simulated threads."""
        if not self.passes("the package's tests", pytest(TESTS), self.preloaded()):
            return False
        print(f"{self.name}: the package's tests passed", flush=True)
        if not self.sanitizer.simulates_step:
            return True
        if not self.passes("a simulated step", [sys.executable, "-c", SIMULATED_STEP], self.preloaded()):
            return False
        print(f"{self.name}: a simulated step passed", flush=True)
        return True

    def preloaded(self) -> dict[str, str]:
        """The environment in which Python loads the sanitizer's runtime, and the package from the copy."""
        compiler = os.environ.get("CXX", "c++")
        # Exceptions are intercepted in libstdc++, which Python itself does not load.
        libraries = [
            subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
            for name in (self.sanitizer.library, "libstdc++.so")
        ]
        paths = f"{self.tree}{os.pathsep}{self.tree / 'tests'}"
        preload = " ".join(os.path.realpath(library) for library in libraries)
        return {"LD_PRELOAD": preload, "PYTHONPATH": paths, "PYTHONMALLOC": "malloc"}

    def passes(self, what: str, command: Sequence[str], environment: dict[str, str]) -> bool:
        """Whether a program ends well and nothing is reported; prints what is."""
        finished = self.run(command, environment)
        reports = self.reports_of_last_run()
        passed = finished.returncode == 0 and not reports
        if not passed:
            output = f"{finished.stdout[-3000:]}{finished.stderr[-3000:]}"
            print(f"{self.name}: {what} failed\n{reports[:6000]}\n{output}", flush=True)
        return passed

    def run(self, command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a program whose reports, and those of what it starts, become files."""
        shutil.rmtree(self.reports, ignore_errors=True)
        self.reports.mkdir()
        variable, values = self.sanitizer.options
        settings = {variable: f"{values}:log_path={self.reports}/report"}
        return subprocess.run(command, cwd=self.tree, env={**os.environ, **environment, **settings},
                              capture_output=True, text=True)  # fmt: skip

    def reports_of_last_run(self) -> str:
        """What the sanitizer has written."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.reports.iterdir()))

    def notices(self, fault: Fault) -> bool:
        """Plant a fault, build, run its tests and put the code back; tells whether it was reported."""
        with planted(self.tree / fault.file, fault.old, fault.new):
            self.build("_sim", CPU_MODULE)
            self.run(pytest(fault.tests.split()), self.preloaded())
        reported = fault.reported in self.reports_of_last_run()
        print(f"{self.name}: {fault.name}: {'reported' if reported else 'NOT REPORTED'}", flush=True)
        return reported


def pytest(tests: Iterable[str]) -> list[str]:
    """The command that runs tests; how long each takes is the sanitizer's affair."""
    return [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=0", *tests]


if __name__ == "__main__":
    sys.exit(main())
