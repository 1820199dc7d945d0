"""Foretell how long a step of many ranks takes, of what its layers take on one and what a network carries.

    python benchmarks/cluster_model.py --ranks 1 8 64 --gb-per-s 25 --latency-us 5
    mpirun -n 2 python benchmarks/cluster_model.py --check

A rank computes its layers one after the other, forward and backward. A layer's gradients go their way once backward has
them: each rank sends (n - 1)/n of them, in n - 1 messages, adds up what it has received, and sends as much again. The
network carries one layer's after the other's, in the order in which they are there; what it has not brought by the end
of backward is waited for. Copies between a GPU and its host take their time there too. Every rank has as many images as
the layers' times are of, so that the batch grows with the ranks.

`--check` is run by ranks: each measures its layers while the others do, all measure what they can send each other, and
the step that follows from it is compared with the step that they make.
"""

from __future__ import annotations

import argparse
import heapq
import json
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cluster import CLASSES, bytes_by_layer
from command_line import parser_of, positive
from pyalexnet.net.network import AlexNet
from pyalexnet.net.shards import Shards
from pyalexnet.net.timing import Stopwatch
from pyalexnet.system.ranks import MpiRanks, join_ranks

MEASURED = Path(__file__).parent / "layer_timing_h100.json"
PROBE_FLOATS = 2**22  # 16 MB, as a layer's slices are
STEPS = 5


@dataclass(frozen=True)
class Network:
    """What lies between the ranks.

    Attributes:
        latency_s: from the beginning of a message to its first byte.
        bytes_per_s: what a rank sends at most, while it receives as much.
        copy_bytes_per_s: between a device and its host; infinite where they share their memory.
        add_bytes_per_s: of what is received, and added up.
    """

    latency_s: float
    bytes_per_s: float
    copy_bytes_per_s: float
    add_bytes_per_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Foretell, or compare with what is measured."""
    options = parse(arguments)
    if options.check:
        check(options)
        return
    report = json.loads(options.layers.read_text())
    network = Network(1e-6 * options.latency_us, *(1e9 * getattr(options, name) for name in RATES))
    forward, backward, rest_ms = times_of(report["layers"])
    # What a step takes beside its layers, such as copies of images, it takes on every rank.
    rest_ms = max(rest_ms, report["step_ms"] - sum(forward.values()) - sum(backward.values()))
    table = Table(title=f"{report['description']}, {report['batch']} images a rank")
    for column in ("ranks", "ms a step", "waiting ms", "images/s", "of ideal"):
        table.add_column(column, justify="right")
    alone = step_ms(forward, backward, rest_ms, bytes_by_layer(), 1, network)[0]
    for ranks in options.ranks:
        whole, waiting = step_ms(forward, backward, rest_ms, bytes_by_layer(), ranks, network)
        images = f"{1e3 * ranks * report['batch'] / whole:,.0f}"
        table.add_row(str(ranks), f"{whole:.1f}", f"{waiting:.1f}", images, f"{alone / whole:.0%}")
    Console().print(table)


RATES = ("gb_per_s", "copy_gb_per_s", "add_gb_per_s")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_list("--ranks", positive, continues=str.isdigit, default=[1, 2, 4, 8, 16, 64], help="numbers of ranks")
    parser.add_argument("--layers", type=Path, default=MEASURED, metavar="FILE", help="what layer_timing.py measured")
    parser.add_argument("--latency-us", type=float, default=5.0, help="of a message, in microseconds")
    parser.add_argument("--gb-per-s", type=float, default=12.5, help="what a rank sends; 12.5 is 100 Gbit/s")
    parser.add_argument("--copy-gb-per-s", type=float, default=25.0, help="between a GPU and its host")
    parser.add_argument("--add-gb-per-s", type=float, default=10.0, help="of gradients that a host adds up")
    parser.add_argument("--check", action="store_true", help="compare with steps, by the ranks that run this")
    parser.add_argument("--images", type=positive, default=8, help="images a rank in the check")
    return parser.parse_args(arguments)


def times_of(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float], float]:
    """By layer, milliseconds of forward and of backward; and those of what belongs to none of them."""
    forward, backward, rest_ms = dict.fromkeys(bytes_by_layer(), 0.0), dict.fromkeys(bytes_by_layer(), 0.0), 0.0
    for row in rows:
        place = re.search(r"\d$", row["name"])
        of_direction = {"forward": forward, "backward": backward}.get(row["direction"])
        if place is None or of_direction is None:
            rest_ms += row["ms"]
        else:
            of_direction[f"{'conv' if int(place[0]) <= 5 else 'fc'}{place[0]}"] += row["ms"]
    return forward, backward, rest_ms


def step_ms(
    forward: Mapping[str, float],
    backward: Mapping[str, float],
    rest_ms: float,
    sizes: Mapping[str, int],
    ranks: int,
    network: Network,
) -> tuple[float, float]:
    """What a step takes, and for how much of it a rank waits for gradients.

    Args:
        forward: milliseconds by layer, in the layers' order.
        backward: likewise.
        rest_ms: what else a step does; after backward, as the update is.
        sizes: bytes of the gradients by layer.
        ranks: how many.
        network: what lies between them.
    """
    computed = 1e-3 * sum(forward.values())
    jobs: list[tuple[float, int, int, str]] = []  # when it may begin, its turn, its phase, its layer
    for turn, layer in enumerate(reversed(backward)):
        computed += 1e-3 * backward[layer]
        if ranks > 1:
            heapq.heappush(jobs, (computed + sizes[layer] / network.copy_bytes_per_s, turn, 1, layer))
    end = computed
    link_free = 0.0
    while jobs:
        ready, turn, phase, layer = heapq.heappop(jobs)
        part = sizes[layer] * (ranks - 1) / ranks
        link_free = max(ready, link_free) + (ranks - 1) * network.latency_s + part / network.bytes_per_s
        if phase == 1:
            heapq.heappush(jobs, (link_free + part / network.add_bytes_per_s, turn, 2, layer))
        else:
            end = max(end, link_free + sizes[layer] / network.copy_bytes_per_s)
    return 1e3 * end + rest_ms, 1e3 * (end - computed)


def check(options: argparse.Namespace) -> None:
    """Measure what the model asks for, and the step that it foretells."""
    ranks = join_ranks()
    if not isinstance(ranks, MpiRanks):
        raise SystemExit("--check compares ranks: start it by mpirun -n 2 or more")
    net = AlexNet(CLASSES, devices=["cpu:0"])
    watch = Stopwatch(net, options.images)
    ranks.gather(None)
    rows, _ = watch.time_layers(STEPS)
    forward, backward, rest_ms = times_of([vars(row) for row in rows])
    network = measured_network(ranks)
    x = np.random.default_rng(0).standard_normal((options.images, 227, 227, 3), dtype=np.float32)
    labels = np.arange(options.images)
    found = []
    for _ in range(1 + STEPS):
        ranks.gather(None)
        start = time.perf_counter()
        net.train_step(x, labels, lr=1e-6, shards=Shards(ranks.size, ranks))
        found.append(1e3 * (time.perf_counter() - start))
    foretold, waiting = step_ms(forward, backward, rest_ms, bytes_by_layer(), ranks.size, network)
    of_ranks = ranks.gather((foretold, waiting, statistics.median(found[1:])))
    if ranks.is_first:
        foretold, waiting, measured = (max(values) for values in zip(*of_ranks, strict=True))
        print(
            f"{ranks.size} ranks of {options.images} images: {foretold:.0f} ms foretold ({waiting:.0f} waiting, "
            f"{network.bytes_per_s / 1e9:.1f} GB/s, {1e6 * network.latency_s:.0f} µs), {measured:.0f} ms measured, "
            f"ratio {measured / foretold:.2f}"
        )


def measured_network(ranks: MpiRanks) -> Network:
    """What all ranks can send to their next ones at the same time."""
    out, into = np.ones(PROBE_FLOATS, np.float32), np.empty(PROBE_FLOATS, np.float32)

    def seconds(floats: int) -> float:
        times = []
        for _ in range(2 * STEPS):
            ranks.gather(None)
            start = time.perf_counter()
            requests = [
                ranks.start_receiving(into[:floats], (ranks.rank - 1) % ranks.size, 0),
                ranks.start_sending(out[:floats], (ranks.rank + 1) % ranks.size, 0),
            ]
            done = 0
            while done < len(requests):
                done += len(ranks.finished(requests))
            times.append(time.perf_counter() - start)
        return max(ranks.gather(statistics.median(times)))

    start = time.perf_counter()
    np.add(out, into, out=into)
    add_s = time.perf_counter() - start
    latency_s = seconds(1)
    return Network(latency_s, out.nbytes / max(seconds(PROBE_FLOATS) - latency_s, 1e-9), np.inf, out.nbytes / add_s)


if __name__ == "__main__":
    main()
