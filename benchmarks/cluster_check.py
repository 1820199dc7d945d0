"""Compare what cluster_model.py foretells with steps that ranks make on this machine, over networks of known speed.

    python benchmarks/cluster_check.py --ranks 2 4 --gbit-per-s 1 4 --json benchmarks/cluster_check.json

Each rank measures its layers and steps of its own while the others do, all measure what they can send each other at the
same time, and the step that follows from it by the model is compared with the step that they make: with gradients of
the fully connected layers, and with factors of them. The ranks share memory; or all messages go by TCP through a
network namespace, which lets through all that the cores bring about, or so many bits a second a rank (Linux's token
bucket filter; tc of iproute2).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cluster import CLASSES
from cluster_model import Network, foretell
from command_line import parser_of, positive
from pyalexnet.net.network import AlexNet
from pyalexnet.net.shards import Shards
from pyalexnet.net.timing import Stopwatch
from pyalexnet.system.ranks import MpiRanks, join_ranks
from rank_programs import output_of_ranks

PROBE_FLOATS = 2**24  # 67 MB, as a part of fc6's gradients is: more than caches hold
STEPS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write; or be one of the ranks that are measured."""
    options = parse(arguments)
    if options.as_rank:
        check_as_rank(options.images, options.core_bytes_per_s)
        return
    own = [sys.executable, __file__, "--as-rank", f"--images={options.images}"]
    report: dict[str, Any] = {"images": options.images, "rows": []}
    for ranks in options.ranks:
        core_speed: list[str] = []
        for network in ("shared memory", "TCP", *options.gbit_per_s):
            limit = {"shared memory": None, "TCP": math.inf}.get(network, network)
            found = json.loads(output_of_ranks(ranks, own + core_speed, limit))
            report["rows"] += [{"ranks": ranks, "network": network} | row for row in found]
            if network == "TCP":
                core_speed = [f"--core-bytes-per-s={found[0]['bytes_per_s']}"]
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_list("--ranks", positive, continues=str.isdigit, default=[2, 4], help="numbers of ranks")
    parser.add_list(
        "--gbit-per-s",
        speed,
        continues=is_number,
        default=[1.0, 2.0, 4.0],
        help="what the network carries for each rank",
    )
    parser.add_argument("--images", type=positive, default=8, help="images a rank")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--core-bytes-per-s", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def speed(text: str) -> float:
    """A speed above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def is_number(text: str) -> bool:
    """Whether a word is one."""
    return text.replace(".", "", 1).isdigit()


def check_as_rank(images: int, core_bytes_per_s: float | None) -> None:
    """Measure what the model asks for, and the steps that it foretells; the first rank prints what all found.

    Args:
        images: of each rank.
        core_bytes_per_s: what the cores send by this network, where it lets through less; else that is what they send.
    """
    ranks = join_ranks()
    if not isinstance(ranks, MpiRanks):
        raise SystemExit("one rank sends nothing; --ranks must be 2 or more")
    net = AlexNet(CLASSES, devices=["cpu:0"])
    watch = Stopwatch(net, images)
    ranks.gather(None)
    rows = [vars(row) for row in watch.time_layers(STEPS)[0]]
    network = measured_network(ranks, core_bytes_per_s)
    own_ms, of_two_ms = (measured_step_ms(net, shards * images, ranks, shards) for shards in (1, 2))
    update_ms = sum(row["ms"] for row in rows if row["direction"] == "update")
    sum_ms = max(0.0, of_two_ms - 2 * own_ms + update_ms)  # of both shards' gradients
    report = {"layers": rows, "batch": images, "step_ms": own_ms, "sum_ms": sum_ms}
    found = []
    for factors in (False, True):
        foretold_ms, waiting_ms = foretell(report, ranks.size, network, factors=factors)
        measured_ms = measured_step_ms(net, images, ranks, Shards(ranks.size, ranks, factors))
        found.append((foretold_ms, waiting_ms, measured_ms))
    of_ranks = ranks.gather(found)
    if ranks.is_first:
        names = ("foretold_ms", "waiting_ms", "measured_ms")
        print(
            json.dumps(
                [
                    {"fc_factors": factors, "bytes_per_s": network.bytes_per_s, "latency_s": network.latency_s}
                    | dict(zip(names, map(max, zip(*of_way, strict=True)), strict=True))
                    for factors, of_way in zip((False, True), zip(*of_ranks, strict=True), strict=True)
                ]
            )
        )


def measured_step_ms(net: AlexNet, images: int, ranks: MpiRanks, shards: Shards | int) -> float:
    """The median of steps that all ranks begin at the same time, each by itself where they have no shards to send."""
    x = np.random.default_rng(0).standard_normal((images, 227, 227, 3), dtype=np.float32)
    times = []
    for _ in range(1 + STEPS):
        ranks.gather(None)
        start = time.perf_counter()
        net.train_step(x, np.arange(images), lr=1e-6, shards=shards)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def measured_network(ranks: MpiRanks, core_bytes_per_s: float | None) -> Network:
    """What all ranks can send to their next ones at the same time."""
    out, into = np.ones(PROBE_FLOATS, np.float32), np.ones(PROBE_FLOATS, np.float32)

    def send(floats: int) -> None:
        requests = [
            ranks.start_receiving(into[:floats], (ranks.rank - 1) % ranks.size, 0),
            ranks.start_sending(out[:floats], (ranks.rank + 1) % ranks.size, 0),
        ]
        done = 0
        while done < len(requests):
            done += len(ranks.finished(requests))

    def seconds(call: Any) -> float:
        times = []
        for _ in range(2 * STEPS):
            ranks.gather(None)
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return float(max(ranks.gather(statistics.median(times))))

    latency_s = seconds(lambda: send(1))
    sending_s = seconds(lambda: send(PROBE_FLOATS))
    adding_s = seconds(lambda: np.add(out, into, out=into))
    bytes_per_s = out.nbytes / max(sending_s - latency_s, 1e-9)
    return Network(latency_s, bytes_per_s, math.inf, out.nbytes / adding_s, core_bytes_per_s or bytes_per_s)


def show(report: dict[str, Any]) -> None:
    """The table that a person reads."""
    table = Table(title=f"A step of {report['images']} images a rank, as foretold and as measured")
    for column in ("ranks", "network", "fc sends", "foretold ms", "waiting ms", "measured ms", "ratio"):
        table.add_column(column, justify="left" if column in ("network", "fc sends") else "right")
    for row in report["rows"]:
        network = row["network"] if isinstance(row["network"], str) else f"{row['network']:g} Gbit/s"
        sends = "factors" if row["fc_factors"] else "gradients"
        times = [f"{row[name]:.0f}" for name in ("foretold_ms", "waiting_ms", "measured_ms")]
        table.add_row(str(row["ranks"]), network, sends, *times, f"{row['measured_ms'] / row['foretold_ms']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
