#!/usr/bin/env python3
"""Rewrite the tables in README.md and docs/ that come from measurements and from the package itself.

    python benchmarks/layer_timing.py --device cpu:0 --compare torch --json benchmarks/layer_timing.json
    PYALEXNET_CPU_ISA=x86_64_v3 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
        python benchmarks/layer_timing.py --device cpu:0 --compare torch --json benchmarks/layer_timing_avx2.json
    python benchmarks/layer_timing.py --device cpu:0 --compare torch --json benchmarks/layer_timing_xeon.json
    python benchmarks/gpu_day.py --out gpu_day
    python benchmarks/roofline.py --json benchmarks/roofline.json
    python benchmarks/inference.py --compare torch,onnxruntime,openvino --json benchmarks/inference.json
    python benchmarks/scaling.py --json benchmarks/scaling.json --figure docs/figures/scaling.png
    python benchmarks/loader_speed.py --compare torch --json benchmarks/loader_speed.json
    python benchmarks/named_sets.py RUN --json benchmarks/fashion_mnist.json
    python benchmarks/named_sets.py RUN --json benchmarks/emoji.json
    python benchmarks/small_sets.py
    pyalexnet ablate fashion-mnist --out benchmarks/ablation.json
    tools/ladder.py --json docs/kernels/ladder.json
    python benchmarks/gpu_report.py --build --arch 75 80 90 120 --json benchmarks/gpu_report.json
    python benchmarks/exchange.py --json benchmarks/exchange.json
    python benchmarks/cluster_check.py --ranks 2 4 --gbit-per-s 1 4 --json benchmarks/cluster_check.json
    tools/update_docs.py --gpu-day gpu_day

Each stands between two comments that name it. ``--check`` writes nothing and fails where a table is not up to date.
``--gpu-day`` first makes layer_timing_h100.json, and one for each precision more, of what gpu_day.py left of an H100.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyalexnet.architecture import Options
from pyalexnet.net.judging import wilson_interval
from pyalexnet.study.ablation import read_ablation
from pyalexnet.study.ablation_tables import (
    RUN_HEADINGS,
    race_headings,
    race_rows,
    run_rows,
    search_headings,
    search_rows,
)
from pyalexnet.study.ledger import LEDGER, SOURCES, Way
from pyalexnet.system.files import write_atomically
from pyalexnet.system.progress import duration
from pyalexnet.training.recipe import recipe_for

ROOT = Path(__file__).resolve().parent.parent
ON_CORES, BY_AVX2, ON_XEON = "layer_timing.json", "layer_timing_avx2.json", "layer_timing_xeon.json"
ON_GPU = "layer_timing_h100.json"
ON_GPU_IN = {"fp32": ON_GPU} | {name: f"layer_timing_h100_{name}.json" for name in ("tf32x3", "tf32", "bf16")}
NAMED_SETS = ("fashion_mnist.json", "emoji.json")


@dataclass(frozen=True)
class Block:
    """A part of a text file that a function writes."""

    file: str
    name: str
    content: Callable[[], str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite all blocks, or check them.

    Returns:
        1 if a block that was to be checked is not up to date, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a table is not up to date")
    parser.add_argument("--gpu-day", type=Path, metavar="FOLDER", help="what benchmarks/gpu_day.py left of an H100")
    options = parser.parse_args(arguments)
    if options.gpu_day is not None:
        if options.check:
            parser.error("--check writes nothing, and --gpu-day does")
        take_gpu_day(options.gpu_day)
    stale = [block for block in BLOCKS if update(block, write=not options.check)]
    outcome = "is not up to date; run tools/update_docs.py" if options.check else "written"
    for block in stale:
        print(f"{block.file}: {block.name} {outcome}")
    return 1 if stale and options.check else 0


def take_gpu_day(folder: Path) -> None:
    """Make the times of layers that gpu_day.py left in a folder those of the documents, all that passed or none."""
    passed = {part["name"] for part in left_by_gpu_day(folder / "gpu_day.json")["parts"] if part["status"] == "passed"}
    taken = {}
    for precision, file in ON_GPU_IN.items():
        name = "layers" if precision == "fp32" else f"layers_{precision}"
        if name in passed:
            taken[file] = left_by_gpu_day(folder / f"{name}.json")
            require_comparable(taken[file], folder / f"{name}.json", precision)
    if not taken:
        raise SystemExit(f"{folder} has no times of layers: no part of gpu_day.py that measures them passed")
    for file, report in taken.items():
        write_atomically(ROOT / "benchmarks" / file, (json.dumps(report, indent=2) + "\n").encode())
        print(f"benchmarks/{file}: taken over")


def left_by_gpu_day(path: Path) -> dict[str, Any]:
    """What a file of gpu_day.py's folder has."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read ({error}); --gpu-day must name what gpu_day.py left") from error
    return found


def require_comparable(report: dict[str, Any], path: Path, precision: str) -> None:
    """Refuse what the documents do not tell of: other GPUs, batches and precisions, and times without a peer."""
    for name, wanted in (("description", "NVIDIA H100 80GB HBM3"), ("batch", 128), ("precision", precision)):
        if report.get(name) != wanted:
            raise SystemExit(f"{path}: {name} is {report.get(name)!r}; in the documents it is {wanted!r}")
    if report.get("best_torch") is None:
        raise SystemExit(f"{path}: PyTorch was not measured, and the documents show it beside pyalexnet")


def update(block: Block, *, write: bool) -> bool:
    """Put a block's content between its markers; returns whether that changes the file."""
    path = ROOT / block.file
    begin, end = f"<!-- {block.name} -->", f"<!-- end of {block.name} -->"
    before = path.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*" + re.escape(end)
    if not re.search(pattern, before, flags=re.DOTALL):
        raise SystemExit(f"{path} has no lines {begin!r} and {end!r}")
    after = re.sub(pattern, lambda _: f"{begin}\n{block.content()}\n{end}", before, flags=re.DOTALL)
    if write and after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def steps() -> str:
    """A whole step on each device that layer_timing.py ran on, beside PyTorch's fastest."""
    heading = ["device", *STEP_HEADINGS]
    rows = [[device_text(report), *step_cells(report)] for report in map(measured, (ON_CORES, ON_XEON, ON_GPU))]
    return table(heading, rows, left=1)


def precisions() -> str:
    """A whole step on a GPU in each precision that was measured, beside PyTorch's fastest in the same one."""
    reports = {precision: measured(file) for precision, file in ON_GPU_IN.items() if exists(file)}
    missing = [precision for precision in ON_GPU_IN if precision not in reports]
    names, parts = ", ".join(f"`{each}`" for each in missing), " ".join(f"layers_{each}" for each in missing)
    still = f"Not measured beside PyTorch yet: {names} (`python benchmarks/gpu_day.py --parts {parts}`)."
    sentence = [still] if missing else []
    if len(reports) > 1:
        rows = [[f"`{precision}`", *step_cells(report)] for precision, report in reports.items()]
        where = " and ".join(dict.fromkeys(map(device_text, reports.values())))
        batch = reports["fp32"]["batch"]
        sentence[:0] = [f"Batch {batch} on {where}:", table(["precision", *STEP_HEADINGS], rows, left=1)]
    return "\n\n".join(sentence)


STEP_HEADINGS = ("a step", "images/s", "PyTorch at its best", "ratio")


def step_cells(report: dict[str, Any]) -> list[str]:
    """A whole step beside PyTorch's fastest, under :data:`STEP_HEADINGS`."""
    best = best_torch(report)
    return [
        f"**{milliseconds(report['step_ms'])} ms**",
        f"{1e3 * report['batch'] / report['step_ms']:,.0f}",
        f"{milliseconds(best['ms'])} ms ({best['way']})",
        f"**{best['ms'] / report['step_ms']:.2f}×**",
    ]


def layer_times(file: str) -> str:
    """What layer_timing.py measured on one device."""
    report = measured(file)
    heading = ["layer", "direction", "ms", "GFLOP/s", "of peak", "PyTorch eager ms", "ratio"]
    rows = [
        [
            *(layer["name"], layer["direction"], milliseconds(layer["ms"])),
            *(f"{layer['gflops']:,.0f}", f"{layer['peak_fraction']:.0%}"),
            *compared(layer["ms_torch"], layer["ms"]),
        ]
        for layer in report["layers"]
    ]
    for step in report["torch_steps"]:
        ours = f"**{milliseconds(report['step_ms'])}**"
        rows.append([f"step, {step['way']}", "", ours, "", "", *compared(step["ms"], report["step_ms"])])
    sentence = (
        f"Batch {report['batch']} on {device_text(report)}, {report['peak_gflops']:,.0f} GFLOP/s of multiply-adds in "
        f"registers: {1e3 * report['batch'] / report['step_ms']:,.0f} images/s. Medians of {report['repeats']}; the "
        f"middle half of the steps spans {report['step_spread_ms']:.2g} ms, of PyTorch's best "
        f"{best_torch(report)['spread_ms']:.2g} ms."
    )
    return f"{sentence}\n\n{table(heading, rows, left=2)}"


def best_torch(report: dict[str, Any]) -> dict[str, Any]:
    """PyTorch's fastest way to make a step."""
    return next(step for step in report["torch_steps"] if step["way"] == report["best_torch"])


def device_text(report: dict[str, Any]) -> str:
    """A device as tables name it; the cores of a GPU are multiprocessors, which its name tells already."""
    on_gpu = report["device"].startswith("cuda")
    return report["description"] if on_gpu else f"{report['cores']} cores of {report['description']}"


def milliseconds(ms: float) -> str:
    """Three digits, and all those before the point."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"


def compared(torch_ms: float | None, ms: float) -> list[str]:
    """PyTorch's milliseconds and how many times ours they are; empty where it has no such step."""
    return [milliseconds(torch_ms), f"{torch_ms / ms:.2f}×"] if torch_ms else ["", ""]


def roofline_steps() -> str:
    """What roofline.py allows a step on each GPU, and what part of the measured time that is."""
    report = measured("roofline.json")
    heading = [
        *("GPU", "products in", "TFLOP/s", "GB/s", "ms by direct sums", "images/s"),
        *("ms as planned", "images/s", "measured ms", "by direct sums", "as planned"),
    ]
    rows = []
    for gpu in report["gpus"]:
        for precision, tflops in gpu["tflops"].items():
            direct, planned = (report[step]["least_ms"][gpu["name"]][precision] for step in ("step", "step_as_planned"))
            cells = [gpu["name"], f"`{precision}`", f"{tflops:,.4g}", f"{gpu['gb_per_s']:,}"]
            for ms in (direct, planned):
                cells += [milliseconds(ms), f"{1e3 * report['batch'] / ms:,.0f}"]
            timing = timing_on(gpu, precision, report["batch"])
            if timing:
                step_ms = timing["step_ms"]
                cells += [milliseconds(step_ms), f"{direct / step_ms:.0%}", f"{planned / step_ms:.0%}"]
            else:
                cells += [""] * 3
            rows.append(cells)
    sources = "; ".join(f"{gpu['name']}: {gpu['source']}" for gpu in report["gpus"])
    return f"{table(heading, rows, left=2)}\n\nPeaks and bandwidths: {sources}."


def roofline_layers() -> str:
    """What roofline.py allows each layer, and what part of the measured time that is where it was measured."""
    report = measured("roofline.json")
    columns = [(gpu, precision) for gpu in report["gpus"] for precision in gpu["tflops"]]
    times = {
        (gpu["name"], precision): {(layer["name"], layer["direction"]): layer["ms"] for layer in timing["layers"]}
        for gpu, precision in columns
        if (timing := timing_on(gpu, precision, report["batch"]))
    }
    by_spectra = {(row["name"], row["direction"]): row for row in report["by_spectra"]}
    heading = ["layer", "direction", "GFLOP", "MB", *(f"{gpu['name']} {precision}" for gpu, precision in columns)]
    rows = []
    for row in report["layers"]:
        key = (row["name"], row["direction"])
        for counted, name in ((row, row["name"]), (by_spectra.get(key), f"{row['name']}, by spectra")):
            if counted is None:
                continue
            cells = [name, row["direction"], f"{counted['flops'] / 1e9:.1f}", f"{counted['bytes'] / 1e6:,.0f}"]
            for gpu, precision in columns:
                least = counted["least_ms"][gpu["name"]].get(precision)
                ms = times.get((gpu["name"], precision), {}).get(key)
                cells.append("" if least is None else f"{least:.3g}" + (f" ({least / ms:.0%})" if ms else ""))
            rows.append(cells)
    return table(heading, rows, left=2)


def timing_on(gpu: dict[str, Any], precision: str, batch: int) -> dict[str, Any] | None:
    """What layer_timing.py measured of a step of that many images on a GPU in a precision, if it did."""
    if not exists(ON_GPU_IN[precision]):
        return None
    report: dict[str, Any] = measured(ON_GPU_IN[precision])
    return report if (report["description"], report["batch"]) == (gpu["device"], batch) else None


def inference() -> str:
    """What inference.py measured: each engine's fastest way, at every batch."""
    report = measured("inference.json")
    batches = report["batches"]
    names = [engine["name"] for engine in batches[0]["engines"]]
    heading = ["engine", *(f"ms at batch {each['batch']}" for each in batches)]
    times = {name: [engine_ms(each, name) for each in batches] for name in names}
    rows = [[name, *map(milliseconds, values)] for name, values in times.items()]
    ours, theirs = ([name for name in names if name.startswith("pyalexnet") == own] for own in (True, False))
    ratios = [
        min(times[name][place] for name in theirs) / min(times[name][place] for name in ours)
        for place in range(len(batches))
    ]
    rows.append(["**the fastest other, of our fastest**", *(f"**{ratio:.2f}×**" for ratio in ratios)])
    limit_ms = report["weight_bytes"] / report["read_gb_per_s"] / 1e6
    sentence = (
        f"On {device_text(report)}, medians of {report['rounds']} turns. Reading the weights once takes {limit_ms:.1f} "
        f"ms there, at {report['read_gb_per_s']:.1f} GB/s:"
    )
    return f"{sentence}\n\n{table(heading, rows, left=1)}"


def engine_ms(of_batch: dict[str, Any], name: str) -> float:
    """An engine's milliseconds at a batch."""
    return next(float(engine["ms"]) for engine in of_batch["engines"] if engine["name"] == name)


def scaling() -> str:
    """What scaling.py measured of the whole step."""
    report = measured("scaling.json")
    cores = sorted({step["cores"] for step in report["steps"]})
    found = {(step["cores"], step["batch"]): step["ms"] for step in report["steps"]}
    heading = ["images a step", *(f"ms an image, {count} core{'s' if count > 1 else ''}" for count in cores), "ratio"]
    rows = [
        [
            str(batch),
            *(f"{found[count, batch] / batch:.1f}" for count in cores),
            f"{found[cores[0], batch] / found[cores[-1], batch]:.2f}×",
        ]
        for batch in sorted({batch for _, batch in found})
    ]
    return table(heading, rows, left=0)


def ways_of_convolutions() -> str:
    """What transform_costs.py measured of conv3: in training three passes, in inference one."""
    names = {"direct": "direct sums", "winograd": "by tiles", "fourier": "by spectra"}
    rows = []
    for cores, file in (("AVX-512", "transform_costs.json"), ("AVX2", "transform_costs_avx2.json")):
        times: dict[int, dict[str, dict[str, float]]] = {}
        for row in measured(file)["rows"]:
            if row["layer"] == "conv3":
                found = {name: algorithm["ms"] for name, algorithm in row["algorithms"].items()}
                times.setdefault(row["batch"], {})[row["pass"]] = found
        for batch, passes in times.items():
            training = {
                name: sum(passes[each][name] for each in ("forward", "gradient by x", "gradient by w"))
                for name in names
            }
            inference = {**passes["forward"], **passes["forward, weights kept"]}
            rows.append([cores, str(batch), *cells_of_times(training, names), *cells_of_times(inference, names)])
    heading = [
        "cores",
        "images",
        *(f"training, {name}" for name in names.values()),
        *(f"inference, {name}" for name in names.values()),
    ]
    return table(heading, rows, left=1)


def cluster_steps() -> str:
    """What cluster_check.py foretold and measured of ranks."""
    rows = []
    for row in measured("cluster_check.json")["rows"]:
        network = row["network"] if isinstance(row["network"], str) else f"{row['network']:g} Gbit/s a rank"
        times = [f"{row[name]:,.0f}" for name in ("foretold_ms", "measured_ms")]
        ratio = f"{row['measured_ms'] / row['foretold_ms']:.2f}"
        rows.append([network, "factors" if row["fc_factors"] else "gradients", str(row["ranks"]), *times, ratio])
    return table(["network", "of fc6 to fc8", "ranks", "ms foretold", "ms measured", "ratio"], rows, left=2)


def cells_of_times(times: Mapping[str, float], names: Iterable[str]) -> list[str]:
    """Milliseconds in the order of the names, the least set bold."""
    least = min(times.values())
    return [f"**{times[name]:.3g}**" if times[name] == least else f"{times[name]:.3g}" for name in names]


def loader_speed() -> str:
    """What loader_speed.py measured."""
    report = measured("loader_speed.json")
    heading = ["source", "images/s", "±", "PyTorch images/s", "±", "ratio"]
    rows = [
        [
            speed["source"],
            f"{speed['median']:.0f}",
            f"{speed['spread']:.0f}",
            f"{speed['median_torch']:.0f}",
            f"{speed['spread_torch']:.0f}",
            f"{speed['ratio']:.2f}×",
        ]
        for speed in report["speeds"]
    ]
    sentence = (
        f"Images a second on {report['cores']} cores, batch {report['batch']}, medians of {report['repeats']} with the "
        f"width of the middle half; PyTorch's DataLoader with {report['torch_workers']} workers."
    )
    return f"{sentence}\n\n{table(heading, rows, left=1)}"


def named_sets() -> str:
    """What named_sets.py measured of each set."""
    reports = [measured(file) for file in NAMED_SETS]
    heading = ["data", "test images", "accuracy", "95% interval", "with more views", "training", "images/s"]
    rows = []
    for report in reports:
        (_, one), (views, several) = report["errors"].items()
        low, high = one["top1_interval"]
        epochs, planned = report["epochs"], report["planned_epochs"]
        of_planned = "" if epochs == planned else f" of {planned}"
        rows.append(
            [
                f"`{report['data']}`",
                f"{one['images']:,}",
                f"**{1 - one['top1_error']:.2%}**",
                f"{1 - high:.2%} to {1 - low:.2%}",
                f"{1 - several['top1_error']:.2%} ({views})",
                f"{duration(report['seconds'])}, {epochs}{of_planned} {'epoch' if planned == 1 else 'epochs'}",
                f"{report['images_per_s']:.1f}",
            ]
        )
    places = dict.fromkeys(
        f"`{report['device']}`, {report['cores']} cores of {report['description']}" for report in reports
    )
    return f"On {' and '.join(places)}; one view but where said:\n\n{table(heading, rows, left=1)}"


def small_sets() -> str:
    """What small_sets.py measured; the way to measure it where that was not done."""
    if not exists("small_sets.json"):
        return "`python benchmarks/small_sets.py` makes five sets of 2 to 50 classes, trains on each and compares."
    report = measured("small_sets.json")
    heading = ["set", "images", "classes", "epochs", "accuracy", "nearest mean colour", "most frequent class", "time"]
    rows = [
        [
            *(each["name"], f"{each['images']:,}", str(each["classes"]), str(each["epochs"])),
            *(f"**{each['accuracy']:.1%}**", f"{each['by_colour']:.1%}", f"{each['largest_share']:.1%}"),
            duration(each["seconds"]),
        ]
        for each in report["sets"]
    ]
    where = f"With no option given, on `{report['device']}`, {report['cores']} cores of {report['description']}:"
    return f"{where}\n\n{table(heading, rows, left=1)}"


def fine_tuning() -> str:
    """What fine_tuning.py measured: each way's accuracy, on the mean and draw by draw."""
    report = measured("fine_tuning.json")
    rows = []
    for each in report["transfers"]:
        before, count = each["before"], each["judged_by"]
        for way in dict.fromkeys(result["way"] for result in each["results"]):
            accuracies = [result["accuracy"] for result in each["results"] if result["way"] == way]
            mean = statistics.fmean(accuracies)
            low, high = wilson_interval(round(mean * count), count)
            rows.append(
                [
                    f"{each['name']}, {each['a_class']} of each of {each['classes']} classes",
                    f"{before['images']:,} of {before['classes']}",
                    *(way, f"**{mean:.1%}**", f"{low:.1%} to {high:.1%}"),
                    ", ".join(f"{accuracy:.1%}" for accuracy in accuracies),
                    f"{each['largest_share']:.1%}",
                ]
            )
    heading = ["pictures", "before", "way", "accuracy", "95% interval", "by draw", "most frequent class"]
    where = f"On `{report['device']}`, {report['cores']} cores of {report['description']}:"
    return f"{where}\n\n{table(heading, rows, left=3)}"


def ablation() -> str:
    """What `pyalexnet ablate` measured."""
    found = read_ablation(ROOT / "benchmarks" / "ablation.json")
    plan = found.plan
    race = table(race_headings(plan), race_rows(found), left=1)
    search = table(search_headings(plan), search_rows(found), left=1)
    runs = table(RUN_HEADINGS, run_rows(found), left=2)
    return (
        f"Steps of {plan.batch_size} images to a training error of {plan.race_error:.0%}, at most {plan.race_steps}, "
        "without regularisation:\n\n"
        f"{race}\n\n"
        f"Held-out error after {plan.epochs} epochs of {plan.images:,} training images, on {plan.held_out:,} held-out "
        f"images, at each rate with seed {plan.seeds[0]}:\n\n{search}\n\n"
        f"Each net at its best rate with each of the seeds {', '.join(map(str, plan.seeds))}, and the means:\n\n"
        f"{runs}\n\n"
        f"Measured in {duration(found.seconds)} on {' and '.join(found.devices)}."
    )


def gpu_products() -> str:
    """What gpu_report.py found in the kernels of matrix products."""
    report = measured("gpu_report.json")
    heading = ["kernel", "sm", "registers", "blocks", "instructions", "share", "LDS least", "median", "reuse", "global"]
    rows = []
    for kernel in sorted(report["kernels"], key=lambda kernel: (kernel["name"], kernel["architecture"])):
        if not is_product(kernel) or on_tensor_cores(kernel):
            continue
        loop = kernel["main_loop"]
        moves = [way.split(".") for way in loop["accesses"] if way.startswith("LDG")]
        rows.append(
            [
                *(f"`{kernel['name']}`", str(kernel["architecture"]), str(kernel["registers"]), str(kernel["blocks"])),
                *(str(loop["instructions"]), f"{loop['share']:.1%}", str(loop["lds_least"]), f"{loop['lds_median']:g}"),
                f"{loop['reuse_share']:.0%}",
                ", ".join(f"{loop['accesses'][f'{way}.{bits}']} of {bits} bits" for way, bits in moves),
            ]
        )
    return f"Compiled by {report['compiler']}.\n\n{table(heading, rows, left=1)}"


def on_tensor_cores(kernel: dict[str, Any]) -> bool:
    """Whether the kernel's operands are rounded for tensor cores."""
    return any(f" {precision} " in kernel["name"] for precision in ("tf32", "bf16", "tf32x3"))


def gpu_tensor_products() -> str:
    """The same of products on tensor cores, where a chip has them."""
    rows = [
        [
            *(f"`{kernel['name']}`", str(kernel["architecture"]), str(kernel["registers"]), str(kernel["blocks"])),
            *(str(loop["instructions"]), str(loop["multiply_adds"]), f"{loop['share']:.1%}"),
        ]
        for kernel in sorted(
            measured("gpu_report.json")["kernels"], key=lambda each: (each["name"], each["architecture"])
        )
        if is_product(kernel) and on_tensor_cores(kernel) and kernel["name"].endswith("quads")
        if (loop := kernel["main_loop"])
    ]
    return table(["kernel", "sm", "registers", "blocks", "instructions", "HMMA", "share"], rows, left=1)


def gpu_others() -> str:
    """What gpu_report.py found in all other kernels, those of one template in one row."""
    report = measured("gpu_report.json")
    architectures = report["architectures"]
    names = dict.fromkeys(
        kernel["name"].split()[0] for kernel in report["kernels"] if "times_matrix" not in kernel["name"]
    )
    rows = []
    for name in names:
        of_name = [kernel for kernel in report["kernels"] if kernel["name"].split()[0] == name]
        columns = [[kernel for kernel in of_name if kernel["architecture"] == number] for number in architectures]
        rows.append(
            [
                f"`{name}`",
                *(range_text(kernel["registers"] for kernel in column) for column in columns),
                *(range_text((kernel["occupancy"] for kernel in column), "{:.0%}") for column in columns),
                range_text(kernel["local_loads"] + kernel["local_stores"] for kernel in of_name),
            ]
        )
    registers, warps = ([f"{what} {number}" for number in architectures] for what in ("registers", "occupancy"))
    return table(["kernel", *registers, *warps, "local"], rows, left=1)


def gpu_bounds() -> str:
    """What gpu_report.py --check holds the kernels to."""
    report = measured("gpu_report.json")
    heading = ["figure", "of", "sm", "bound", "worst", "goal", "because"]
    rows = []
    for bound in report["bounds"]:
        values = (bound["bound"], bound["worst"], bound["goal"])
        limit, worst, goal = (f"{value:.1%}" if bound["figure"] == "share" else f"{value:g}" for value in values)
        rows.append(
            [
                *(f"`{bound['figure']}`", bound["kernels"]),
                "all" if bound["architectures"][0] == 75 and bound["architectures"][-1] > 80 else sm_text(bound),
                *(f"{'≥' if bound['at_least'] else '≤'} {limit}", worst, goal, bound["reason"]),
            ]
        )
    return table(heading, rows, left=len(heading))


def sm_text(bound: dict[str, Any]) -> str:
    """The architectures of a bound."""
    return f"{bound['architectures'][0]} to {bound['architectures'][-1]}"


def is_product(kernel: dict[str, Any]) -> bool:
    """Whether it is a product of matrices as AlexNet's layers have them: by quads, conv1's word by word."""
    return bool(re.search(r"times_matrix .* (quads|inside)", kernel["name"]))


def range_text(values: Iterable[float], form: str = "{}") -> str:
    """The least and the greatest of some numbers."""
    ordered = sorted(values)
    least, greatest = form.format(ordered[0]), form.format(ordered[-1])
    return least if least == greatest else f"{least} to {greatest}"


def recipes() -> str:
    """What train chooses by the number of images and classes."""
    heading = [
        *(
            "training images",
            "classes",
            "epochs",
            "batch",
            "lr",
            "of layers",
            "schedule",
            "warm-up",
            "dropout",
            "weights",
            "biases",
        ),
    ]
    rows = []
    for images, classes in RECIPE_SIZES:
        recipe = recipe_for(images, classes)
        options = Options(**recipe.net_options)
        rows.append(
            [
                *(f"{images:,}", f"{classes:,}", str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}"),
                ", ".join(f"{name} ×{factor:g}" for name, factor in recipe.lr_layers.items()) or "the same",
                *(recipe.schedule, f"{recipe.warmup} steps" if recipe.warmup else "none", f"{options.dropout:g}"),
                *(options.weight_init, options.bias_init),
            ]
        )
    return table(heading, rows, left=0)


# Sizes of a person's own sets, of known ones, and of what lies between.
RECIPE_SIZES = (
    *((270, 2), (1_200, 6), (3_000, 10), (9_000, 50), (20_000, 50), (60_000, 10)),
    *((200_000, 100), (500_000, 300), (1_000_000, 10), (1_281_167, 1000)),
)


def exchanged() -> str:
    """What exchange.py found of each net in each format."""
    report = measured("exchange.json")
    heading = ["net", *(f"`{form.split()[-1]}`" for form in report["nets"][0]["formats"])]
    rows = [
        [net["name"], *(f"{found:.1e}" if isinstance(found, float) else "refused" for found in net["formats"].values())]
        for net in report["nets"]
    ]
    judges = ", ".join(f"{name} {number}" for name, number in report["judges"].items())
    reasons = dict.fromkeys(
        found for net in report["nets"] for found in net["formats"].values() if isinstance(found, str)
    )
    refused = "".join(f"\n- {reason}" for reason in reasons)
    return f"By {judges}:\n\n{table(heading, rows, left=1)}\n\nRefused:\n{refused}"


def ledger() -> str:
    """Where the sources differ, and which setting gives what."""
    heading = ["what", "setting", *SOURCES.values()]
    rows = [
        [row.what, f"`{row.setting}`" if row.setting else "", *(way_text(row.ways[source]) for source in SOURCES)]
        for row in LEDGER
    ]
    return table(heading, rows, left=len(heading))


def way_text(way: Way) -> str:
    """What a source does and, in front of it, the setting's value that gives it."""
    if way.value is None:
        return way.text
    value = f"{way.value:g}" if isinstance(way.value, float) else str(way.value)
    return f"{way.text}: `{value}`" if way.text != value else f"`{value}`"


def ladder() -> str:
    """What the steps of the ladder execute and move, by their multiply-adds."""
    report = json.loads((ROOT / "docs" / "kernels" / "ladder.json").read_text())
    layer, multiply_adds = report["layer"], report["multiply_adds"]
    heading = ["step", "instructions", "bytes of global memory", "× ideal", "wavefronts of shared memory", "× ideal"]
    rows = []
    for step in report["steps"]:
        sectors, wavefronts = step["global_sectors"], step["shared_wavefronts"]
        file = f"kernels/{step['name']}.cu" if "." not in step["name"] else f"../src/kernels/{step['name']}"
        rows.append(
            [
                f"[`{step['name']}`]({file})",
                f"{32 * step['instructions'] / multiply_adds:.2f}",
                f"{32 * sectors / multiply_adds:.3g}",
                f"{sectors / step['global_ideal']:.2f}",
                f"{32 * wavefronts / multiply_adds:.3g}" if wavefronts else "",
                f"{wavefronts / step['shared_ideal']:.2f}" if wavefronts else "",
            ]
        )
    return (
        f"{layer['images']} images of {layer['height']}×{layer['width']}, {layer['channels']} channels, "
        f"{layer['filters']} filters: {multiply_adds / 1e6:.1f} million multiply-adds, with those of the border.\n\n"
        + table(heading, rows, left=1)
    )


def table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A Markdown table whose first columns are set flush left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(heading) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heading, rule, *rows))


def measured(name: str) -> Any:
    """The figures that a benchmark wrote."""
    return json.loads((ROOT / "benchmarks" / name).read_text())


def exists(name: str) -> bool:
    """Whether a benchmark has written figures."""
    return (ROOT / "benchmarks" / name).exists()


BLOCKS = (
    Block("README.md", "data sets with a name, by benchmarks/named_sets.py", named_sets),
    Block("README.md", "steps, by benchmarks/layer_timing.py", steps),
    Block("docs/speed.md", "layer times on CPU cores, by benchmarks/layer_timing.py", partial(layer_times, ON_CORES)),
    Block("docs/speed.md", "layer times by AVX2, by benchmarks/layer_timing.py", partial(layer_times, BY_AVX2)),
    Block("docs/speed.md", "layer times on a Xeon, by benchmarks/layer_timing.py", partial(layer_times, ON_XEON)),
    Block("docs/speed.md", "layer times on a GPU, by benchmarks/layer_timing.py", partial(layer_times, ON_GPU)),
    Block("docs/speed.md", "steps by precision, by benchmarks/layer_timing.py", precisions),
    Block("docs/speed.md", "least times of a step, by benchmarks/roofline.py", roofline_steps),
    Block("docs/speed.md", "least times of its layers, by benchmarks/roofline.py", roofline_layers),
    Block("docs/speed.md", "forward pass, by benchmarks/inference.py", inference),
    Block("docs/speed.md", "cores and batches, by benchmarks/scaling.py", scaling),
    Block("docs/speed.md", "ways of convolutions, by benchmarks/transform_costs.py", ways_of_convolutions),
    Block("docs/speed.md", "loader speed, by benchmarks/loader_speed.py", loader_speed),
    Block("docs/gpu.md", "products, by benchmarks/gpu_report.py", gpu_products),
    Block("docs/gpu.md", "tensor cores, by benchmarks/gpu_report.py", gpu_tensor_products),
    Block("docs/gpu.md", "other kernels, by benchmarks/gpu_report.py", gpu_others),
    Block("docs/gpu.md", "bounds, by benchmarks/gpu_report.py", gpu_bounds),
    Block("docs/cluster.md", "steps of ranks, by benchmarks/cluster_check.py", cluster_steps),
    Block("docs/exchange.md", "differences, by benchmarks/exchange.py", exchanged),
    Block("docs/ledger.md", "ledger, from pyalexnet/study/ledger.py", ledger),
    Block("docs/training.md", "small sets, by benchmarks/small_sets.py", small_sets),
    Block("docs/training.md", "fine-tuning, by benchmarks/fine_tuning.py", fine_tuning),
    Block("docs/ledger.md", "recipes by size, from pyalexnet/training/recipe.py", recipes),
    Block("docs/kernels.md", "counts of the ladder, by tools/ladder.py", ladder),
    Block("docs/results.md", "ablation, by pyalexnet ablate", ablation),
)


if __name__ == "__main__":
    sys.exit(main())
