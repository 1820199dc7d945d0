"""Foretell how long a step of many ranks takes, of what its layers take on one and what a network carries.

    python benchmarks/cluster_model.py --ranks 1 8 64 --gb-per-s 25 --latency-us 5
    python benchmarks/cluster_model.py --figure docs/figures/cluster.png

A rank computes its layers one after the other, forward and backward. A layer's gradients go their way once backward has
them: each rank sends (n - 1)/n of them, in n - 1 messages, adds up what it has received, and sends as much again. The
network carries one layer's after the other's, in the order in which they are there; what it has not brought by the end
of backward is waited for. Copies between a GPU and its host take their time there too. Where the cores that compute
also send, receive and add up, as those of ranks on CPU cores do, that comes on top of what they compute. Every rank has
as many images as the layers' times are of, so that the batch grows with the ranks.

With factors of fully connected layers' gradients (pyalexnet/net/factors.py) backward leaves their weights out, which is
half of it. Each rank sends the factors of its images to all others once fc6 has been gone through. When all have come
it computes the products of all ranks' images and adds each to the sum; where that was not measured, at the speed of the
update, which reads three arrays and writes two where an addition reads two and writes one.

cluster_check.py compares it with steps that ranks make.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster import CLASSES, bytes_by_layer
from command_line import parser_of, positive
from pyalexnet.architecture import Linear, layers

MEASURED = Path(__file__).parent / "layer_timing_h100.json"


@dataclass(frozen=True)
class Network:
    """What lies between the ranks.

    Attributes:
        latency_s: from the beginning of a message to its first byte.
        bytes_per_s: what a rank sends at most, while it receives as much.
        copy_bytes_per_s: between a device and its host; infinite where they share their memory.
        add_bytes_per_s: of what is received, and added up.
        core_bytes_per_s: what cores that also compute send and receive, and they add up too; infinite where others do.
    """

    latency_s: float
    bytes_per_s: float
    copy_bytes_per_s: float
    add_bytes_per_s: float
    core_bytes_per_s: float = math.inf

    def core_s(self, sent: float, added: float) -> float:
        """What a rank's computing cores have to do for so many bytes."""
        if math.isinf(self.core_bytes_per_s):
            return 0.0
        return sent / self.core_bytes_per_s + added / self.add_bytes_per_s


@dataclass(frozen=True)
class FactorCosts:
    """What the factors of fully connected layers' gradients take in place of these.

    Attributes:
        bytes: of a rank's images.
        add_ms: to add one rank's products to a sum.
    """

    bytes: int
    add_ms: float

    @classmethod
    def of(cls, images: int, update_ms: float, sum_ms: float | None = None) -> FactorCosts:
        """Of so many images, where the update of all parameters and the sum of two gradients of them take so long."""
        sizes = bytes_by_layer()
        share = sum(size for layer, size in sizes.items() if layer in FULLY_CONNECTED) / sum(sizes.values())
        return cls(images * image_factors_bytes(), share * (3 / 5 * update_ms if sum_ms is None else sum_ms))


FULLY_CONNECTED = ("fc6", "fc7", "fc8")


def image_factors_bytes() -> int:
    """What these layers take in of an image, and what they give."""
    return 4 * sum(layer.inputs + layer.outputs for layer in layers(CLASSES) if isinstance(layer, Linear))


@dataclass(frozen=True)
class Published:
    """What others reached with AlexNet on ImageNet, by their abstracts.

    Attributes:
        source: who.
        ranks: how many processors, and of which kind.
        kind: likewise.
        epochs: of 1,281,167 images.
        minutes: how long these took.
    """

    source: str
    ranks: int
    kind: str
    epochs: int
    minutes: float

    @property
    def images_per_s(self) -> float:
        """Of all."""
        return self.epochs * 1_281_167 / (60 * self.minutes)


PUBLISHED = (
    Published("You et al. 2018", 1024, "CPUs", 100, 11),
    Published("Jia et al. 2018", 1024, "Tesla P40", 95, 4),
    Published("Sun et al. 2019", 512, "Tesla V100", 95, 1.5),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Foretell, and draw or print it."""
    options = parse(arguments)
    report = json.loads(options.layers.read_text())
    network = Network(1e-6 * options.latency_us, *(1e9 * getattr(options, name) for name in RATES))
    if options.figure:
        draw(report, network, options.figure)
        return
    table = Table(title=f"{report['description']}, {report['batch']} images a rank")
    for column in ("ranks", "fc sends", "ms a step", "waiting ms", "images/s", "of ideal"):
        table.add_column(column, justify="right")
    alone = foretell(report, 1, network, factors=False)[0]
    for ranks in options.ranks:
        for factors in (False, True) if ranks > 1 else (False,):
            whole, waiting = foretell(report, ranks, network, factors=factors)
            sends = "" if ranks == 1 else "factors" if factors else "gradients"
            images = f"{1e3 * ranks * report['batch'] / whole:,.0f}"
            table.add_row(str(ranks), sends, f"{whole:.1f}", f"{waiting:.1f}", images, f"{alone / whole:.0%}")
    Console().print(table)


def foretell(report: Mapping[str, Any], ranks: int, network: Network, *, factors: bool) -> tuple[float, float]:
    """What a step takes, and for how much of it a rank waits, by a report of layer_timing.py or cluster_check.py."""
    forward, backward, rest_ms = times_of(report["layers"])
    # What a step takes beside its layers, such as copies of images, it takes on every rank.
    rest_ms = max(rest_ms, report["step_ms"] - sum(forward.values()) - sum(backward.values()))
    update_ms = sum(row["ms"] for row in report["layers"] if row["direction"] == "update")
    costs = FactorCosts.of(report["batch"], update_ms, report.get("sum_ms")) if factors else None
    return step_ms(forward, backward, rest_ms, bytes_by_layer(), ranks, network, costs)


def draw(report: Mapping[str, Any], network: Network, path: Path) -> None:
    """Images a second by the number of ranks, for networks of several speeds, with gradients and with factors."""
    from matplotlib import colormaps

    from pyalexnet.study.figures.save import save_figure
    from pyalexnet.study.figures.style import NORMAL, SMALL, new_figure

    figure = new_figure(8.6, 3.6)
    axes = figure.subplots()
    ranks = [2**power for power in range(11)]
    batch = report["batch"]
    alone = foretell(report, 1, network, factors=False)[0]
    axes.plot(ranks, [1e3 * batch * count / alone for count in ranks], color="0.7", linewidth=1, label="no waiting")
    for number, gbit_per_s in enumerate(DRAWN_GBIT_PER_S):
        of_speed = replace(network, bytes_per_s=1e9 / 8 * gbit_per_s)
        for factors, style in ((False, "-"), (True, "--")):
            images = [1e3 * batch * n / foretell(report, n, of_speed, factors=factors)[0] for n in ranks]
            axes.plot(ranks, images, style, color=colormaps["viridis"](number / len(DRAWN_GBIT_PER_S)), linewidth=1.4,
                      label=f"{gbit_per_s} Gbit/s, {'factors' if factors else 'gradients'}")  # fmt: skip
    for run in PUBLISHED:
        axes.plot(run.ranks, run.images_per_s, "x", color="black", markersize=5)
        what = f"  {run.source}, {run.kind}"
        axes.annotate(what, (run.ranks, run.images_per_s), fontsize=SMALL, va="center")
    axes.set_xlim(0.8, 8 * ranks[-1])  # room for what the points are
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ranks, [f"{count:,}" for count in ranks])
    axes.set_xlabel(f"ranks, each with {batch} images", fontsize=NORMAL)
    axes.set_ylabel("images a second", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left")
    save_figure(figure, path)


DRAWN_GBIT_PER_S = (10, 100, 400)


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
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw 1 to 1,024 ranks there: .png, .svg or .pdf")
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
    factors: FactorCosts | None = None,
) -> tuple[float, float]:
    """What a step takes, and for how much of it a rank waits for gradients.

    Args:
        forward: milliseconds by layer, in the layers' order.
        backward: likewise.
        rest_ms: what else a step does; after backward, as the update is.
        sizes: bytes of the gradients by layer.
        ranks: how many.
        network: what lies between them.
        factors: what takes the place of fully connected layers' gradients, if anything does.
    """
    multiplied = FULLY_CONNECTED if factors and ranks > 1 else ()
    computed = 1e-3 * sum(forward.values())
    products_s, sent = 0.0, 0.0
    jobs: list[tuple[float, int, int, str]] = []  # when it may begin, its turn, its phase, its layer
    for turn, layer in enumerate(reversed(list(backward))):
        if layer in multiplied:
            products_s += 1e-3 * backward[layer] / 2
            computed += 1e-3 * backward[layer] / 2
            sent = computed
        else:
            computed += 1e-3 * backward[layer]
        if ranks > 1 and layer not in multiplied:
            heapq.heappush(jobs, (computed + sizes[layer] / network.copy_bytes_per_s, turn, 1, layer))
    end = computed
    link_free = 0.0
    parts = {layer: sizes[layer] * (ranks - 1) / ranks for layer in backward if layer not in multiplied}
    if ranks > 1:
        of_factors = (ranks - 1) * factors.bytes if multiplied and factors else 0
        end += network.core_s(2 * sum(parts.values()) + of_factors, sum(parts.values()))
    if multiplied and factors:
        there = sent + factors.bytes / network.copy_bytes_per_s
        link_free = there + (ranks - 1) * (network.latency_s + factors.bytes / network.bytes_per_s)
        end = max(end, link_free)
    while jobs:
        ready, turn, phase, layer = heapq.heappop(jobs)
        part = parts[layer]
        link_free = max(ready, link_free) + (ranks - 1) * network.latency_s + part / network.bytes_per_s
        if phase == 1:
            heapq.heappush(jobs, (link_free + part / network.add_bytes_per_s, turn, 2, layer))
        else:
            end = max(end, link_free + sizes[layer] / network.copy_bytes_per_s)
    waiting = end - computed
    if multiplied and factors:
        end += ranks * (products_s + factors.bytes / network.copy_bytes_per_s) + (ranks - 1) * 1e-3 * factors.add_ms
    return 1e3 * end + rest_ms, 1e3 * waiting


if __name__ == "__main__":
    main()
