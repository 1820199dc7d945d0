"""Time the forward pass beside the engines that people use for it, in float32.

    pip install torch onnx onnxruntime openvino
    python benchmarks/inference.py --compare torch,onnxruntime,openvino --json inference.json

Each engine runs in a process of its own, warmed up, and they take turns, with a pause in which the threads of the last
one stop spinning. A figure is the median over all rounds, its spread that of the middle half. Images lie in host memory
before and logits after; all nets are the paper's, random weights, with one LRN over both towers for the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import inference_engines
from command_line import parser_of, positive
from pyalexnet.architecture import parameter_shapes
from pyalexnet.device.backend import devices
from pyalexnet.net.timing import spread
from workers import Worker, WorkerError

CLASSES = 1000
PEERS = ("torch", "onnxruntime", "openvino")
PAUSE_S = 0.3


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; write JSON if asked."""
    options = parse(arguments)
    (device,) = (info for info in devices() if info.name == options.device)
    weight_bytes = 4 * sum(int(np.prod(shape)) for shape in parameter_shapes(CLASSES).values())
    report: dict[str, Any] = {
        "device": device.name,
        "description": device.description,
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "weight_bytes": weight_bytes,
        "read_gb_per_s": read_gb_per_s() if device.name.startswith("cpu") else None,
        "batches": [
            {"batch": batch, "engines": time_engines(options.device, batch, options.compare, options.rounds)}
            for batch in options.batch
        ],
    }
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def time_engines(device: str, batch: int, peers: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """The engines' times for a batch, ours first, in turn."""
    names = [*inference_engines.OURS, *(way for peer in peers for way in inference_engines.WAYS[peer])]
    times: dict[str, list[float]] = {}
    with ExitStack() as running:
        workers = {}
        for name in names:
            try:
                workers[name] = running.enter_context(Worker(warm_engine, name, device, batch))
            except WorkerError as error:  # the rest are peers still
                print(f"{name}: not measured: {error}", flush=True)
        for _ in range(rounds):
            for name, worker in workers.items():
                time.sleep(PAUSE_S)
                times.setdefault(name, []).extend(worker.ask())
    return [
        {"name": name, "ms": statistics.median(values), "spread_ms": spread(values)} for name, values in times.items()
    ]


def warm_engine(name: str, device: str, batch: int) -> Callable[[], list[float]]:
    """What an engine's process measures when asked: some forward passes, in milliseconds."""
    run = inference_engines.make(name, device, batch, CLASSES)
    for _ in range(3):
        run()

    def measure() -> list[float]:
        times = []
        for _ in range(10 if batch < 32 else 2):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    return measure


def read_gb_per_s() -> float:
    """What all cores together read from memory, the best of five; sums of products take no longer than that."""
    cores = os.cpu_count() or 1
    parts = np.ones((cores, 256 << 18), np.float32)  # 256 MB each
    best = 0.0
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(5):
            start = time.perf_counter()
            list(threads.map(np.dot, parts, parts))
            best = max(best, parts.nbytes / (time.perf_counter() - start) / 1e9)
    return best


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = parser_of(__doc__)
    default = "cuda:0" if "cuda:0" in names else "cpu:0"
    parser.add_argument("--device", choices=names, default=default, help="where ours and PyTorch compute")
    parser.add_list("--batch", positive, continues=str.isdigit, default=[1, 10, 128], help="images at a time")
    parser.add_list("--compare", str, continues=PEERS.__contains__, default=[], help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each engine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    for peer in options.compare:
        if peer not in PEERS:
            parser.error(f"--compare has {peer}; it must be some of {', '.join(PEERS)}")
        for needed in (peer,) if peer == "torch" else (peer, "onnx"):
            if importlib.util.find_spec(needed) is None:
                parser.error(f"--compare {peer} needs {needed}: pip install {needed}")
    return options


def show(report: dict[str, Any]) -> None:
    """The table that a person reads."""
    table = Table(title=f"AlexNet's forward pass on {report['device']} ({report['description']}), float32")
    for column in ("batch", "engine", "ms", "± ms", "images/s", "of our best"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for measured in report["batches"]:
        ours = min(engine["ms"] for engine in measured["engines"] if engine["name"] in inference_engines.OURS)
        for engine in measured["engines"]:
            table.add_row(
                str(measured["batch"]), engine["name"], f"{engine['ms']:.1f}", f"{engine['spread_ms']:.1f}",
                f"{1e3 * measured['batch'] / engine['ms']:.0f}", f"{engine['ms'] / ours:.2f}×",
            )  # fmt: skip
        table.add_section()
    console = Console()
    console.print(table)
    if report["read_gb_per_s"]:
        limit_ms = report["weight_bytes"] / report["read_gb_per_s"] / 1e6
        console.print(f"The weights are read in {limit_ms:.1f} ms at {report['read_gb_per_s']:.1f} GB/s.")


if __name__ == "__main__":
    main()
