"""All that is to be done on a machine with a GPU, by one command: tests, times beside PyTorch, copies, training runs.

    python benchmarks/gpu_day.py --out gpu_day          # about 20 minutes on one GPU
    python benchmarks/gpu_day.py --parts layers layers_bf16 copies
    tools/update_docs.py --gpu-day gpu_day              # its times of layers become the documents'

Each part is a command of its own with a time limit; whatever becomes of one, the others run. The folder then holds the
output and the figures of every part, and gpu_day.json what came of it all, written anew after each part. What a machine
lacks something for is left out, and said. The exit status is 1 if a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from command_line import one_of, parser_of
from pyalexnet.architecture import Precision
from pyalexnet.cli.parser import is_device
from pyalexnet.device.backend import DEFAULT_DEVICE, devices, get_device
from pyalexnet.system.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
PYALEXNET = (sys.executable, "-m", "pyalexnet")
PRECISIONS: tuple[str, ...] = get_args(Precision)


def of_precision(name: str, precision: str) -> str:
    """A name of its own for each precision but float32."""
    return name if precision == "fp32" else f"{name}_{precision}"


PARTS = (
    *("tests", *(of_precision("layers", precision) for precision in PRECISIONS), "direct", "forward", "copies"),
    *(*(of_precision("training", precision) for precision in PRECISIONS), "memcheck"),
)


@dataclass(frozen=True)
class Part:
    """A command, and what it is for.

    Attributes:
        name: of the part, of its output and of the file that it writes its figures to.
        what: for the table.
        command: what runs.
        limit_s: after so many seconds it counts as failed.
        lacks: what this machine lacks for it; empty where it can run.
    """

    name: str
    what: str
    command: tuple[str, ...]
    limit_s: int
    lacks: str = ""


@dataclass
class Outcome:
    """What came of a part: ``passed``, ``failed`` or ``timed out``, in how many seconds, and its last line.

    Or ``left out``, and why.
    """

    name: str
    status: str
    seconds: float
    last_line: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and report.

    Returns:
        1 if a part failed, else 0.
    """
    options = parse(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    report = {"devices": [asdict(info) for info in devices() if info.name in options.devices]}
    outcomes: list[Outcome] = []
    for part in parts(options):
        console.print(f"{part.name}: {part.what} …")
        outcomes.append(Outcome(part.name, "left out", 0, part.lacks) if part.lacks else run(part, out))
        report["parts"] = [asdict(outcome) for outcome in outcomes]
        write_atomically(out / "gpu_day.json", (json.dumps(report, indent=2) + "\n").encode())
    table = Table(title=f"{', '.join(options.devices)}, in {out}")
    for column in ("part", "status", "s", "last line"):
        table.add_column(column, justify="right" if column == "s" else "left", overflow="fold")
    for outcome in outcomes:
        table.add_row(outcome.name, outcome.status, f"{outcome.seconds:.0f}", outcome.last_line)
    console.print(table)
    return 0 if all(outcome.status in ("passed", "left out") for outcome in outcomes) else 1


def parts(options: argparse.Namespace) -> list[Part]:
    """The parts that are asked for, the most important first."""
    first, target = options.devices[0], options.devices[0].split(":")[0]
    quick = options.quick
    torch = () if options.without_torch else ("--compare", "torch")

    def figures(name: str) -> tuple[str, ...]:
        return ("--json", str(options.out / f"{name}.json"))

    def script(name: str, *rest: str) -> tuple[str, ...]:
        return (sys.executable, str(BENCHMARKS / name), *rest)

    def layers(precision: str) -> Part:
        name = of_precision("layers", precision)
        few = ("--batch", "2", "--repeats", "1") if quick else ("--repeats", "15")
        command = script("layer_timing.py", "--device", first, "--precision", precision, *torch, *figures(name), *few)
        return Part(name, f"layers and steps in {precision}, and PyTorch's", command, 300, lacking[precision])

    def training(precision: str) -> Part:
        name = of_precision("training", precision)
        few = ("--epochs", "1", "--batch-size", "128") if quick else ()
        command = (*PYALEXNET, "train", "digits", "--devices", ",".join(options.devices), "--precision", precision,
                   "--out", str(options.out / of_precision("run", precision)), "--quiet", *few)  # fmt: skip
        return Part(name, f"a run on the digits in {precision}", command, 300, lacking[precision])

    tests = (sys.executable, "-m", "pytest", "-q", "-n", str(min(8, os.cpu_count() or 1)), "-p", "no:cacheprovider")
    which = ("tests/test_relu.py",) if quick else ()
    times = ("time", "--devices", first, "--batch-size", "2" if quick else "128", "--format", "json", "--quiet")
    sanitizer = target == "cuda" and shutil.which("compute-sanitizer") is not None
    lacking = {precision: what_is_lacking(precision, options.devices) for precision in PRECISIONS}
    every = [
        Part("tests", f"every test that runs on {target}",
             (*tests, "-m", "long or not slow", "-k", f"{target} and not hostcuda", *which), 600),
        *map(layers, PRECISIONS),
        Part("direct", "layers and steps by direct sums alone",
             (*PYALEXNET, *times, "--conv-algorithm", "direct", "--output", str(options.out / "direct.json")), 120),
        Part("forward", "the forward pass, and PyTorch's",
             script("inference.py", "--device", first, *torch, *figures("forward"),
                    *(("--batch", "1", "--rounds", "1") if quick else ())), 300),
        Part("copies", "copies between host and devices",
             script("copies.py", "--device", ",".join(options.devices), *figures("copies"),
                    *(("--mib", "1") if quick else ())), 60),
        *map(training, PRECISIONS),
        Part("memcheck", "a training step under compute-sanitizer",
             ("compute-sanitizer", "--error-exitcode", "1", *PYALEXNET, *times, "--batch-size", "2", "--repeats", "1",
              "--output", str(options.out / "memcheck.json")), 300,
             "" if sanitizer else "a GPU and compute-sanitizer are needed"),
    ]  # fmt: skip
    return [part for part in every if not options.parts or part.name in options.parts]


def what_is_lacking(precision: str, names: Sequence[str]) -> str:
    """Why some device does not multiply in a precision; empty where all do."""
    try:
        for name in names:
            get_device(name).require_precision(precision)
    except ValueError as error:
        return str(error)
    return ""


def run(part: Part, out: Path) -> Outcome:
    """Run a part, with its output in a file of its name."""
    start = time.perf_counter()
    log = out / f"{part.name}.log"
    with log.open("wb") as output:
        try:
            finished = subprocess.run(
                part.command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=part.limit_s
            )
            status = "passed" if finished.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "timed out"
        except OSError as error:
            output.write(f"{error}\n".encode())
            status = "failed"
    lines = log.read_text(errors="replace").split("\n")
    last_line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Outcome(part.name, status, time.perf_counter() - start, last_line)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [info.name for info in devices()]
    parser = parser_of(__doc__)

    gpus = [name for name in names if name.startswith("cuda")]
    default = gpus[:2] or [DEFAULT_DEVICE]
    parser.add_list("--devices", one_of(names), continues=is_device, default=default, help="one or two")
    parser.add_argument("--out", type=Path, default=Path("gpu_day"), metavar="FOLDER", help="what it leaves")
    some = f"some of {', '.join(PARTS)}"
    parser.add_list("--parts", str, continues=PARTS.__contains__, default=[], help=f"these alone: {some}")
    parser.add_argument("--without-torch", action="store_true", help="compare with nothing")
    parser.add_argument("--quick", action="store_true", help="as little of each part as shows that it runs")
    options = parser.parse_args(arguments)
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"--parts has {name}; it must be {some}")
    options.out = options.out.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
