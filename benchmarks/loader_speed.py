"""Measure how many images a second are read, decoded, cropped, mirrored, shifted in colour and freed of their mean.

    python benchmarks/loader_speed.py --compare torch --json loader_speed.json

The loader runs alone, as training runs it: threads read batches from prepared shards or from a folder of JPEG files,
and a kernel on the device turns them into the net's input, float32 (N, 227, 227, 3). PyTorch's DataLoader, if asked
for, makes the same input from the same files with the same crops and colours, NumPy in its workers, and the two
alternate. The script makes the files, 500×375 pixels of smooth noise, and reads them warm, from the page cache. Each
figure is the median over repeats, the loader's start included; the spread is that of the middle half.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from command_line import positive
from loader_work import Work, make_work
from pyalexnet.architecture import IMAGE_SIZE, INPUT_SIZE
from pyalexnet.data import Dataset, ImageFolder
from pyalexnet.data.prefetch import AHEAD, in_batches, read_ahead
from pyalexnet.data.prepare import prepare
from pyalexnet.device.backend import devices, get_device
from pyalexnet.device.tensor import Tensor, host_array, pinned_array
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.timing import spread

CLASSES = ("land", "sea")
UNCHANGED = (0, (1.0, 1.0, 1.0))  # by padding and by deviations
SIZE = (500, 375)  # ImageNet's most frequent
JPEG_QUALITY = 90
EPOCHS = {"shards": 8, "jpeg": 1}
"""Passes over the files in one measurement, so that each takes a second or more."""


@dataclass
class Speed:
    """One row of the table: images a second of each repeat."""

    source: str
    images_per_s: list[float] = field(default_factory=list)
    images_per_s_torch: list[float] = field(default_factory=list)


class DeviceInput:
    """The net's input on a device, which a kernel prepares from 8-bit images; as :class:`pyalexnet.AlexNet` does it."""

    def __init__(self, device: str, batch: int) -> None:
        """Take the memory for a batch."""
        self.device = get_device(device)
        self.out = Tensor.empty((batch, INPUT_SIZE, INPUT_SIZE, 3), device=device)
        self.arrays: dict[str, Any] = {}
        shape = (batch, IMAGE_SIZE, IMAGE_SIZE, 3)
        self.buffers = [pinned_array(self.device, shape, "uint8") for _ in range(AHEAD + 1)]

    def prepare(self, images: ImageBatch) -> None:
        """Copy a batch to the device, prepare it and wait."""
        native, stream = self.device.native, self.device.stream
        for name, argument in images.arguments().items():
            value = np.ascontiguousarray(argument.host())
            if name not in self.arrays:
                self.arrays[name] = Tensor.empty(value.shape, dtype=value.dtype.name, device=str(self.device)).array
            native.copy(self.arrays[name], host_array(self.device, value), stream)
        scale = host_array(self.device, np.array([images.scale], np.float32))
        native.prepare_input(self.out.array, *self.arrays.values(), INPUT_SIZE, *UNCHANGED, scale, stream)
        stream.synchronize()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON if asked."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="loader_speed_") as folder:
        speeds = measure_all(options, Path(folder))
    report = {
        "device": options.device,
        "cores": len(os.sched_getaffinity(0)),
        "images": options.images,
        "batch": options.batch,
        "repeats": options.repeats,
        "torch_workers": options.workers if options.compare else None,
        "speeds": [asdict(speed) | summary(speed) for speed in speeds],
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    default = "cuda:0" if "cuda:0" in names else "cpu:0"
    parser.add_argument("--device", default=default, choices=names, help="where the kernel prepares the input")
    parser.add_argument("--images", type=positive, default=1024, help="number of image files to make")
    parser.add_argument("--batch", type=positive, default=128, help="images a batch")
    parser.add_argument("--repeats", type=positive, default=5, help="measurements of each figure")
    parser.add_argument("--compare", choices=["torch"], help="time PyTorch's DataLoader too")
    parser.add_argument("--workers", type=positive, default=2, help="processes of PyTorch's DataLoader")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    if options.images < 2 * options.batch:
        parser.error(f"--images is {options.images}; it must be at least two batches, {2 * options.batch}")
    if options.compare == "torch" and importlib.util.find_spec("torch") is None:
        parser.error("--compare torch needs PyTorch: pip install torch")
    return options


def measure_all(options: argparse.Namespace, folder: Path) -> list[Speed]:
    """Images a second of each source, from files made in ``folder``."""
    make_jpegs(folder / "jpeg", options.images)
    shards = prepare(folder / "jpeg", folder / "shards", progress=False)
    sources: dict[str, Dataset] = {"shards": shards, "jpeg": ImageFolder(folder / "jpeg")}
    target = DeviceInput(options.device, options.batch)
    speeds = []
    for name, dataset in sources.items():
        work = make_work(len(dataset), EPOCHS[name], options.batch, shards.statistics)
        speed = Speed(name)
        if options.compare:
            from torch_loader import torch_batches

            require_equal(target, dataset, work, torch_batches(dataset, work, options.workers))
        else:
            images_per_second(our_batches(target, dataset, work), options.batch)
        for _ in range(options.repeats):
            speed.images_per_s.append(images_per_second(our_batches(target, dataset, work), options.batch))
            if options.compare:
                theirs = torch_batches(dataset, work, options.workers)
                speed.images_per_s_torch.append(images_per_second(theirs, options.batch))
        speeds.append(speed)
    return speeds


def make_jpegs(folder: Path, count: int) -> None:
    """Write JPEG files of smooth noise with some grain, in one subfolder a class."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), np.uint8))
        smooth = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-12, 13, (SIZE[1], SIZE[0], 1), np.int16)
        image = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        image.save(folder / CLASSES[number % len(CLASSES)] / f"{number}.jpg", quality=JPEG_QUALITY)


def our_batches(target: DeviceInput, dataset: Dataset, work: Work) -> Iterator[Tensor]:
    """The input of each batch; the same memory every time."""
    batches = list(in_batches(np.arange(len(work.order)), work.batch))
    images_read = read_ahead(dataset, (work.order[positions] for positions in batches), buffers=target.buffers)
    for positions, (images, _) in zip(batches, images_read, strict=True):
        drawn = work.variations[positions]
        target.prepare(ImageBatch(images, drawn.offsets, drawn.flips, drawn.shifts, work.mean))
        yield target.out


def images_per_second(batches: Iterator[Any], batch: int) -> float:
    """The rate from the loader's start to its last batch: at the first one, the next are partly done already."""
    start = time.perf_counter()
    count = sum(1 for _ in batches)
    return count * batch / (time.perf_counter() - start)


def require_equal(target: DeviceInput, dataset: Dataset, work: Work, theirs: Iterator[Any]) -> None:
    """Go through all batches of both loaders once, which also brings the files into the page cache.

    Raises:
        AssertionError: the two do not do the same work.
    """
    for ours, other in zip(our_batches(target, dataset, work), theirs, strict=True):
        # Sums of three numbers below 512 in another order: a few units in the last place of fp32.
        np.testing.assert_allclose(np.asarray(ours), np.asarray(other), rtol=0, atol=1e-4)


def summary(speed: Speed) -> dict[str, float | None]:
    """Median, spread and ratio of a row."""
    median, torch = statistics.median(speed.images_per_s), speed.images_per_s_torch
    return {
        "median": median,
        "spread": spread(speed.images_per_s),
        "median_torch": statistics.median(torch) if torch else None,
        "spread_torch": spread(torch) if torch else None,
        "ratio": median / statistics.median(torch) if torch else None,
    }


def show(report: dict[str, Any]) -> None:
    """The table that a person reads."""
    compared = report["torch_workers"] is not None
    table = Table(title=f"Images a second, {report['cores']} cores, batch {report['batch']}, to {report['device']}")
    table.add_column("source")
    columns = ["images/s", "±"] + (["PyTorch images/s", "±", "speed-up"] if compared else [])
    for column in columns:
        table.add_column(column, justify="right")
    for speed in report["speeds"]:
        cells = [f"{speed['median']:.0f}", f"{speed['spread']:.0f}"]
        if compared:
            cells += [f"{speed['median_torch']:.0f}", f"{speed['spread_torch']:.0f}", f"{speed['ratio']:.2f}×"]
        table.add_row(speed["source"], *cells)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
