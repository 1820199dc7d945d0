#!/usr/bin/env python3
"""Count what the steps of docs/kernels.md execute and move, from the naive kernel to the one in src/kernels.

    tools/ladder.py                                     prints the counts
    tools/ladder.py --json docs/kernels/ladder.json     writes them for tools/update_docs.py
    tools/ladder.py --gpu                               times the steps on the GPU of this machine

nvcc compiles each step to PTX, which the interpreter of the ptx target executes; src/ptx/traffic.h has the rules of
counting. ``--gpu`` needs no ptx target.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import numpy.typing as npt

from pyalexnet import ops
from pyalexnet.device import backend
from pyalexnet.device.native import NativeTraffic, PtxModule
from pyalexnet.device.tensor import Tensor

Floats = npt.NDArray[np.float32]

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "kernels"
ARCHITECTURE = "compute_75"
DEVICE = "ptx:0"
SHIPPED, SHIPPED_ALGORITHM = "patch_product.cu", "direct_128x128"


@dataclass(frozen=True)
class Layer:
    """The shapes of a convolution of 3×3 with a border of zeros."""

    images: int
    height: int
    width: int
    channels: int
    filters: int

    @property
    def pixels(self) -> int:
        """The rows of the product."""
        return self.images * self.height * self.width

    @property
    def multiply_adds(self) -> int:
        """Those of the sums, the border's zeros among them."""
        return self.pixels * 9 * self.channels * self.filters

    def packed(self) -> bytes:
        """The struct Layer of layer.cuh."""
        return struct.pack("5i", self.images, self.height, self.width, self.channels, self.filters)

    def arrays(self) -> tuple[Floats, Floats]:
        """Images x and weights w of N(0, 1) numbers."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.images, self.height, self.width, self.channels), dtype=np.float32)
        return x, rng.standard_normal((3, 3, self.channels, self.filters), dtype=np.float32)


# conv3's maps with fewer channels: nearly four tiles of 128 pixels, one of 128 filters, and sums in one part.
COUNTED = Layer(3, 13, 13, 48, 128)
TIMED = Layer(128, 13, 13, 256, 384)  # conv3 of both towers


@dataclass(frozen=True)
class Step:
    """A kernel of the ladder."""

    file: Path

    @property
    def name(self) -> str:
        """That of the file, without its ending."""
        return self.file.stem

    @property
    def multiple(self) -> int:
        """Of what channels and filters must be multiples."""
        return 4 if "multiples of four" in self.file.read_text(encoding="utf-8") else 1

    def constant(self, name: str) -> int:
        """The value of one of the file's constants."""
        found = re.search(rf"constexpr int .*?\b{name} = (\d+)", self.file.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError(f"{self.file} has no constant {name}")
        return int(found[1])

    def blocks(self, layer: Layer) -> int:
        """The blocks of a launch."""
        return -(-layer.pixels // self.constant("kRows")) * -(-layer.filters // self.constant("kColumns"))

    def run_ptx(self, layer: Layer, x: Floats, w: Floats) -> tuple[Floats, NativeTraffic]:
        """The result of the interpreter, and what it counted."""
        y = Tensor.empty((layer.images, layer.height, layer.width, layer.filters), device=DEVICE)
        arrays = [y, *(Tensor.from_array(array, device=DEVICE) for array in (x, w))]
        arguments: list[int | bytes] = [*(array.array.address for array in arrays), layer.packed()]
        on = backend.get_device(DEVICE)
        native = cast(PtxModule, on.native)
        native.count_traffic(True)
        try:
            blocks, threads = self.blocks(layer), self.constant("kThreads")
            native.launch_text(ptx_of(self.file), "convolve", blocks, threads, arguments, on.stream)
            on.stream.synchronize()
            (traffic,) = native.take_traffic()
        finally:
            native.count_traffic(False)
            native.take_traffic()
        return np.asarray(y), traffic


STEPS = [Step(file) for file in sorted(FOLDER.glob("[0-9]_*.cu"))]


@cache
def ptx_of(file: Path) -> str:
    """What nvcc makes of a kernel."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "step.ptx"
        command = [nvcc(), "-ptx", f"-arch={ARCHITECTURE}", "-lineinfo", "-ftz=true", "-std=c++17"]
        subprocess.run([*command, f"-I{FOLDER}", file, "-o", text], check=True)
        return text.read_text(encoding="utf-8")


class Counts(TypedDict):
    """A row of ladder.json."""

    name: str
    instructions: int
    global_sectors: int
    global_ideal: int
    shared_wavefronts: int
    shared_ideal: int


def main() -> None:
    """Count all steps and print or write what came out, or time them."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the counts")
    parser.add_argument("--gpu", action="store_true", help="time the steps on a GPU instead")
    options = parser.parse_args()

    if options.gpu:
        time_steps()
        return
    rows = count()
    report = {"layer": asdict(COUNTED), "multiply_adds": COUNTED.multiply_adds, "steps": rows}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['name']:18}" + "".join(f"{row[key]:>12,}" for key in COLUMNS))  # type: ignore[literal-required]


COLUMNS = ("instructions", "global_sectors", "global_ideal", "shared_wavefronts", "shared_ideal")


def count() -> list[Counts]:
    """The rows of all steps, and of the shipped kernel."""
    rows = [counts(step.name, step.run_ptx(COUNTED, *COUNTED.arrays())[1]) for step in STEPS]
    return [*rows, counts_of_shipped()]


def counts(name: str, traffic: NativeTraffic) -> Counts:
    """Loads and stores together."""
    to_global = (traffic["global_loads"], traffic["global_stores"])
    to_shared = (traffic["shared_loads"], traffic["shared_stores"])
    return {
        "name": name,
        "instructions": traffic["instructions"],
        "global_sectors": sum(moved for _, moved, _ in to_global),
        "global_ideal": sum(ideal for *_, ideal in to_global),
        "shared_wavefronts": sum(moved for _, moved, _ in to_shared),
        "shared_ideal": sum(ideal for *_, ideal in to_shared),
    }


def counts_of_shipped() -> Counts:
    """Those of the engine's own kernel, with the tile of the last steps."""
    native = cast(PtxModule, backend.native_module("ptx"))
    native.count_traffic(True)
    try:
        x, w = COUNTED.arrays()
        ops.conv2d(x, w, padding=1, device=DEVICE, algorithm=SHIPPED_ALGORITHM)
        (traffic,) = native.take_traffic()
    finally:
        native.count_traffic(False)
    return counts(SHIPPED, traffic)


def time_steps() -> None:
    """Print what each step takes on a GPU."""
    x, w = TIMED.arrays()
    print(f"conv3 of both towers, {TIMED.images} images")
    for step in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "step"
            command = [nvcc(), "-std=c++17", "-O3", "-ftz=true", "-arch=native", f'-DSTEP="{step.file.name}"']
            subprocess.run([*command, FOLDER / "run.cu", "-o", program], check=True)
            milliseconds = run(program, TIMED, x, w)[1]
        print(f"{step.name:18}{milliseconds:10.3f} ms{2e-6 * TIMED.multiply_adds / milliseconds:10,.0f} GFLOP/s")


def run(program: Path, layer: Layer, x: Floats, w: Floats) -> tuple[Floats, float]:
    """The result of run.cu's program and the milliseconds that it took."""
    command = [str(program), *map(str, asdict(layer).values())]
    done = subprocess.run(command, input=x.tobytes() + w.tobytes(), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr.decode()}")
    y = np.frombuffer(done.stdout, np.float32).reshape(layer.images, layer.height, layer.width, layer.filters)
    return y, float(done.stderr.split()[0])


def nvcc() -> str:
    """The compiler's path."""
    found = shutil.which("nvcc")
    if found is None:
        raise SystemExit("there is no nvcc on the path")
    return found


if __name__ == "__main__":
    main()
