"""What training by several ranks costs on this machine: time a step, what is sent, and what of it backward hides.

    python benchmarks/cluster.py --ranks 1 2 4 --json benchmarks/cluster.json
    python benchmarks/cluster.py --ranks 2 --batch-size 64 --shards 8 --fc-factors

Each number of ranks is a program of its own, started by mpirun; the steps are of random images, by the paper's net. All
ranks have the same shards, and so compute the same bits, which is checked. On one machine the ranks share the cores, so
that more of them are not to be faster: the figures are what a network would have to carry.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from command_line import parser_of, positive
from pyalexnet.architecture import parameter_shapes
from pyalexnet.net.network import AlexNet
from pyalexnet.net.shards import Shards
from pyalexnet.net.timing import spread
from pyalexnet.system.ranks import join_ranks
from rank_programs import output_of_ranks

CLASSES = 1000
WARM_UP_STEPS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write; or be one of the ranks that are measured."""
    options = parse(arguments)
    if options.as_rank:
        measure_as_rank(options)
        return
    report = {
        "batch_size": options.batch_size,
        "shards": options.shards,
        "steps": options.steps,
        "bytes_by_layer": bytes_by_layer(),
        "runs": [measure(options, *run) for run in runs_of(options)],
    }
    require_same_bits(report["runs"])
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_list("--ranks", positive, continues=str.isdigit, default=[1, 2, 4], help="numbers of ranks")
    parser.add_argument("--batch-size", type=positive, default=32, help="images a step, of all ranks together")
    parser.add_argument("--shards", type=positive, default=4, help="parts of a batch, a multiple of each number")
    parser.add_argument("--steps", type=positive, default=8, help="steps that are measured")
    parser.add_argument("--fc-factors", action="store_true", help="send factors of fc6 to fc8 too, to compare")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def runs_of(options: argparse.Namespace) -> list[tuple[int, bool]]:
    """Each number of ranks, sending gradients and, where that is asked for, factors of fully connected layers' too."""
    ways = (False, True) if options.fc_factors else (False,)
    return [(ranks, factors) for ranks in options.ranks for factors in (ways if ranks > 1 else ways[:1])]


def measure(options: argparse.Namespace, ranks: int, factors: bool) -> dict[str, Any]:
    """What so many ranks find."""
    own = [sys.executable, __file__, "--as-rank", f"--batch-size={options.batch_size}"]
    own += [f"--shards={options.shards}", f"--steps={options.steps}", *(["--fc-factors"] if factors else [])]
    found: dict[str, Any] = json.loads(output_of_ranks(ranks, own))
    return found | {"fc_factors": factors}


def measure_as_rank(options: argparse.Namespace) -> None:
    """Make steps with the other ranks; the first one prints what all found."""
    ranks = join_ranks()
    shards = Shards(options.shards, ranks, options.fc_factors)
    net = AlexNet(CLASSES, devices=["cpu:0"])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.batch_size, 227, 227, 3), dtype=np.float32)
    labels = rng.integers(0, CLASSES, options.batch_size)
    count = options.batch_size // ranks.size
    own = slice(count * ranks.rank, count * (ranks.rank + 1))
    step_ms = []
    for number in range(WARM_UP_STEPS + options.steps):
        if number == WARM_UP_STEPS:
            before = asdict(net.traffic)
        start = time.perf_counter()
        net.train_step(x[own], labels[own], lr=1e-3, shards=shards)
        step_ms.append(1e3 * (time.perf_counter() - start))
    traffic = {name: value - before[name] for name, value in asdict(net.traffic).items()}
    checksum = zlib.crc32(net.parameters()["fc8.weight"].data)
    of_ranks = ranks.gather((traffic, checksum))
    if ranks.is_first:
        print(json.dumps(summary(step_ms[WARM_UP_STEPS:], of_ranks)))


def summary(step_ms: list[float], of_ranks: list[tuple[dict[str, float], int]]) -> dict[str, Any]:
    """A step of a rank, by the mean over ranks and steps; its time by the median."""
    steps = len(step_ms)
    mean = {name: statistics.mean(traffic[name] for traffic, _ in of_ranks) / steps for name in of_ranks[0][0]}
    return {
        "ranks": len(of_ranks),
        "step_ms": statistics.median(step_ms),
        "spread_ms": spread(step_ms),
        "sent_bytes": mean["sent_bytes"],
        "messages": mean["messages"],
        "under_way_ms": 1e3 * mean["seconds"],
        "waiting_ms": 1e3 * mean["waiting_seconds"],
        "checksums": sorted({checksum for _, checksum in of_ranks}),
    }


def require_same_bits(runs: list[dict[str, Any]]) -> None:
    """See that all ranks of all runs have the same weights."""
    found = {checksum for run in runs for checksum in run["checksums"]}
    if len(found) != 1:
        raise SystemExit(f"the runs' weights have {len(found)} checksums; they must all have one")


def bytes_by_layer() -> dict[str, int]:
    """What the gradients of each layer take."""
    found: dict[str, int] = {}
    for name, shape in parameter_shapes(CLASSES).items():
        layer = name.partition(".")[0]
        found[layer] = found.get(layer, 0) + 4 * int(np.prod(shape))
    return found


def show(report: dict[str, Any]) -> None:
    """The tables that a person reads."""
    console = Console()
    table = Table(title=f"A step of {report['batch_size']} images in {report['shards']} shards, by ranks")
    for column in ("ranks", "fc sends", "ms", "± ms", "MB", "pieces", "sending ms", "waiting ms", "hidden"):
        table.add_column(column, justify="right")
    for run in report["runs"]:
        hidden = f"{1 - run['waiting_ms'] / run['under_way_ms']:.0%}" if run["under_way_ms"] else ""
        sends = "" if run["ranks"] == 1 else "factors" if run["fc_factors"] else "gradients"
        table.add_row(
            *(
                str(run["ranks"]),
                sends,
                f"{run['step_ms']:.0f}",
                f"{run['spread_ms']:.0f}",
                f"{run['sent_bytes'] / 1e6:.1f}",
            ),
            *(f"{run['messages']:.0f}", f"{run['under_way_ms']:.0f}", f"{run['waiting_ms']:.0f}", hidden),
        )
    console.print(table)
    table = Table(title="Gradients")
    table.add_column("layer")
    table.add_column("MB", justify="right")
    table.add_column("share", justify="right")
    total = sum(report["bytes_by_layer"].values())
    for layer, size in report["bytes_by_layer"].items():
        table.add_row(layer, f"{size / 1e6:.2f}", f"{size / total:.1%}")
    table.add_row("all", f"{total / 1e6:.2f}", "")
    console.print(table)


if __name__ == "__main__":
    main()
