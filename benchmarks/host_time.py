#!/usr/bin/env python3
"""What a training step costs the host: the processor's time that the calling thread spends, kernels and waits left out.

    python benchmarks/host_time.py --device cpu:0
    python benchmarks/host_time.py --device cpu:0 cpu:1 --images bytes

On CPU cores kernels and copies are the work of other threads. With a GPU the thread may spin while it waits for the
device, which counts: the figure is then that of the whole step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.network import AlexNet


def main() -> None:
    """Time steps and print what is left of the waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", nargs="+", default=["cpu:0"], help="one device or two; by default cpu:0")
    parser.add_argument("--images", choices=("floats", "bytes"), default="floats", help="what a step is given")
    parser.add_argument("--batch", type=int, default=1, help="images of a step")
    parser.add_argument("--one-by-one", action="store_true", help="launch each kernel, without a CUDA graph")
    parser.add_argument("--steps", type=int, default=50, help="how many are timed")
    arguments = parser.parse_args()
    net = AlexNet(10, devices=arguments.device)
    net.captures = not arguments.one_by_one
    step = step_of(net, arguments.images, arguments.batch)
    for _ in range(5):
        step()
    values = [host_ms(step) for _ in range(arguments.steps)]
    print(
        f"{net!r}, {arguments.images}: {statistics.median(values):.3f} ms of the host a step, least {min(values):.3f}"
    )


def step_of(net: AlexNet, kind: str, count: int) -> Callable[[], float]:
    """A training step of random images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, net.num_classes, count)
    if kind == "floats":
        x = rng.standard_normal((count, 227, 227, 3), dtype=np.float32)
        return lambda: net.train_step(x, labels, lr=1e-6)
    (images,) = net.image_buffers(count, 1)
    images[:] = rng.integers(0, 256, images.shape)
    offsets, flips = np.zeros((count, 2), np.int32), np.zeros(count, np.uint8)
    shifts, mean = np.zeros((count, 3), np.float32), np.full((256, 256, 3), 128, np.float32)
    return lambda: net.train_step(ImageBatch(images, offsets, flips, shifts, mean), labels, lr=1e-6)


def host_ms(step: Callable[[], float]) -> float:
    """Milliseconds of the calling thread on a processor."""
    before = time.thread_time_ns()
    step()
    return (time.thread_time_ns() - before) / 1e6


if __name__ == "__main__":
    main()
