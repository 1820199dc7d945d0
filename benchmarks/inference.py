"""Time the forward pass beside the engines that people use for it, in float32.

    python benchmarks/inference.py --compare torch,onnxruntime,openvino --json inference.json

Each engine runs in a process of its own, warmed up, and they take turns, with a pause in which the threads of the last
one stop spinning. A figure is the median over all rounds, its spread that of the middle half. Images lie in host memory
before and logits after; all nets are the paper's, random weights, with one LRN over both towers for the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import inference_engines
from counts import positive
from pyalexnet.architecture import parameter_shapes
from pyalexnet.cli.parser import CommandParser
from pyalexnet.device.backend import devices
from pyalexnet.net.timing import spread

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
    names = ["pyalexnet", *(way for peer in peers for way in inference_engines.WAYS[peer])]
    context = multiprocessing.get_context("spawn")
    processes, connections = [], {}
    try:
        for name in names:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, name, device, batch), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            if failure := ours.recv():
                print(f"{name}: not measured: {failure}", flush=True)
            else:
                connections[name] = ours
        times: dict[str, list[float]] = {name: [] for name in connections}
        for _ in range(rounds):
            for name, connection in connections.items():
                time.sleep(PAUSE_S)
                connection.send(True)
                times[name] += connection.recv()
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return [
        {"name": name, "ms": statistics.median(values), "spread_ms": spread(values)} for name, values in times.items()
    ]


def serve(connection: Connection, name: str, device: str, batch: int) -> None:
    """An engine's process: a message when it is ready, empty or what went wrong, then times whenever it is asked."""
    try:
        run = inference_engines.make(name, device, batch, CLASSES)
        for _ in range(3):
            run()
    except Exception as error:  # whatever another's engine meets: the rest are peers still
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    while connection.recv():
        times = []
        for _ in range(10 if batch < 32 else 2):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        connection.send(times)


def read_gb_per_s() -> float:
    """What all cores together read from memory, the best of five."""
    cores = os.cpu_count() or 1
    parts = np.ones((cores, 256 << 18), np.float32)  # 256 MB each
    best = 0.0
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(5):
            start = time.perf_counter()
            list(threads.map(np.sum, parts))
            best = max(best, parts.nbytes / (time.perf_counter() - start) / 1e9)
    return best


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = CommandParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
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
    for column in ("batch", "engine", "ms", "± ms", "images/s", "of ours"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for measured in report["batches"]:
        ours = measured["engines"][0]["ms"]
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
