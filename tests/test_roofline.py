"""The least time that a GPU's roofline allows: small cases counted by hand, and a step of the paper's net."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import roofline
from pyalexnet import AlexNet
from pyalexnet.net.costs import Cost, cost_of, spectral_costs
from pyalexnet.net.entry import Entry

SCRIPT = Path(roofline.__file__)
# A trillion multiply-adds and a hundred billion bytes a second; in bf16 four times the multiply-adds.
GPU = roofline.Gpu("test", "Test GPU", 100, {"fp32": 2, "bf16": 8}, "made up")


def array(*shape: int) -> SimpleNamespace:
    return SimpleNamespace(shape=shape)


def entry(operation: str, **arrays: SimpleNamespace) -> Entry:
    return Entry("conv3", operation, "forward", 0, lambda: None, arrays, "conv3")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return roofline.report_of(128)


@pytest.mark.parametrize(
    ("flops", "data", "is_product", "precision", "ms"),
    [
        (4e9, 1e6, True, "fp32", 2),  # 4 / 2 ms by the peak, 0.01 by memory
        (4e9, 1e6, True, "bf16", 0.5),
        (4e9, 1e6, False, "bf16", 2),  # what is no product stays in float32
        (4e9, 3e8, True, "fp32", 3),  # 3 by memory
        (4e9, 3e8, True, "bf16", 3),
    ],
)
def test_the_slower_of_peak_and_memory_counts(
    flops: float, data: float, is_product: bool, precision: str, ms: float
) -> None:
    kernel = roofline.Kernel(Cost(int(flops), int(data)), is_product)
    assert kernel.least_ms(GPU, precision) == pytest.approx(ms)


def test_kernels_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "GPUS", (GPU,))
    product, other = roofline.Kernel(Cost(4 * 10**9, 10**6), True), roofline.Kernel(Cost(10**3, 3 * 10**8), False)
    row = roofline.row_of("conv3", "forward", {"fp32": [product, other], "tf32": [product], "bf16": [product, other]})
    assert (row.flops, row.bytes) == (4 * 10**9 + 10**3, 301 * 10**6)
    assert row.least_ms == {"test": {"fp32": pytest.approx(2 + 3), "bf16": pytest.approx(0.5 + 3)}}


# A 13 x 13 map of 3 x 3 windows lies on 14 x 14 points: 4 real numbers and 14 * 14 / 2 - 2 = 96 complex ones, of three
# real products each, are 292. Two images of 4 channels, 6 filters: 2336 numbers of x, 7008 of w, 3504 of y.
@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("conv_forward", ("x", "w", "y")),
        ("conv_backward_input", ("dx", "w", "dy")),
        ("conv_backward_weight", ("x", "dw", "dy")),
    ],
)
def test_spectra_counted_by_hand(operation: str, names: tuple[str, str, str]) -> None:
    shapes = (array(2, 13, 13, 4), array(3, 3, 4, 6), array(2, 13, 13, 6))
    assert spectral_costs(entry(operation, **dict(zip(names, shapes, strict=True)))) == (
        Cost(0, 4 * (2 * 169 * 4 + 2336)),
        Cost(0, 4 * (9 * 4 * 6 + 7008)),
        Cost(0, 4 * (2 * 169 * 6 + 3504)),
        Cost(2 * 292 * 2 * 4 * 6, 4 * (2336 + 7008 + 3504)),
    )


def test_spectra_that_serve_several_count_once() -> None:
    x, w, y, spectra = array(2, 13, 13, 4), array(3, 3, 4, 6), array(2, 13, 13, 6), array(2336)
    assert spectral_costs(entry("conv_x_spectra", x=x, spectra=spectra)) == (Cost(0, 4 * (2 * 169 * 4 + 2336)),)
    alone = spectral_costs(entry("conv_forward", x=x, w=w, y=y))
    assert spectral_costs(entry("conv_forward", x=x, w=w, y=y, x_spectra=spectra)) == alone[1:]
    of_w = array(7008)
    assert spectral_costs(entry("conv_w_spectra", w=w, spectra=of_w)) == (Cost(0, 4 * (9 * 4 * 6 + 7008)),)
    assert spectral_costs(entry("conv_forward", x=x, w=w, y=y, w_spectra=of_w)) == (alone[0], *alone[2:])
    assert spectral_costs(entry("conv_forward", x=x, w=w, y=y, x_spectra=spectra, w_spectra=of_w)) == alone[2:]


@pytest.mark.parametrize(
    ("x", "w", "y", "planes"),
    [
        ((1, 27, 27, 1), (5, 5, 1, 1), (1, 27, 27, 1), 1348),  # 29 points of 30
        ((1, 14, 14, 1), (3, 3, 1, 1), (1, 12, 12, 1), 292),  # no padding: 14 of 14
        ((1, 14, 14, 1), (3, 3, 1, 1), (1, 14, 14, 1), 1348),  # with it 15
        ((1, 5, 8, 1), (3, 2, 1, 1), (1, 3, 7, 1), 94),  # 8 of 8, along the rows alone
    ],
)
def test_padding_takes_room_on_the_torus(
    x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], planes: int
) -> None:
    product = spectral_costs(entry("conv_forward", x=array(*x), w=array(*w), y=array(*y)))[-1]
    assert product == Cost(2 * planes, 4 * 3 * planes)


def test_maps_without_spectra_are_refused() -> None:
    wide = entry("conv_forward", x=array(1, 30, 30, 1), w=array(3, 3, 1, 1), y=array(1, 30, 30, 1))
    with pytest.raises(ValueError, match=r"x \(1, 30, 30, 1\).*need 31 points a side, of 30 at most"):
        spectral_costs(wide)


def test_spectra_take_the_workspace_that_the_kernels_ask_for() -> None:
    program = roofline.described(128, "fp32")
    entries = [
        each
        for each in program.forward
        if each.operation == "conv_forward" and each.arguments["plan"].algorithm == "fourier"
    ]
    assert {each.layer for each in entries} == {"conv2", "conv3", "conv4", "conv5"}
    for each in entries:
        plan = each.arguments["plan"]
        assert plan.parts == 1  # so the product needs no workspace beside the three spectra
        planes = 1348 if each.layer == "conv2" else 292
        (batch, *_, channels), (*_, filters) = each.arguments["x"].shape, each.arguments["y"].shape
        floats = [planes * maps for maps in (batch * channels, channels * filters, batch * filters)]
        assert spectral_costs(each)[-1].bytes == 4 * sum(floats)
        # A plane takes an odd number of lines of 16 floats, all planes together a multiple of 256 bytes.
        padded = [planes * (-(-count // planes // 16) | 1) * 16 for count in floats]
        assert plan.workspace_bytes == sum(-(-4 * count // 256) * 256 for count in padded)


def test_a_program_costs_the_same_before_and_after_it_is_built() -> None:
    net = AlexNet(roofline.CLASSES, devices=["sim:0"])
    built, described = net.program(2, training=True), roofline.described(2, "fp32")
    native = net.placement.devices[0].native
    for before, after in zip(
        (*described.forward, *described.backward, *described.update),
        (*built.forward, *built.backward, *built.update),
        strict=True,
    ):
        assert cost_of(before, native) == cost_of(after, native), str(after)


@pytest.mark.usefixtures("full_size")
def test_a_step_of_the_papers_net() -> None:
    report = roofline.report_of(128)
    # Sums are rounded once, so whatever Python this is.
    assert json.loads(json.dumps(report)) == json.loads(SCRIPT.with_suffix(".json").read_text())
    rows = {(row["name"], row["direction"]): row for row in report["layers"]}
    conv1, update = rows["conv1", "forward"], rows["update", "update"]
    # 55 x 55 outputs of 96 filters, each of 11 x 11 x 3 products; each tower reads the images, and its filters.
    assert conv1["flops"] == 128 * 2 * 55 * 55 * 96 * 363
    assert conv1["bytes"] == 4 * (2 * 128 * 227 * 227 * 3 + 363 * 96 + 128 * 55 * 55 * 96)
    assert conv1["least_ms"]["GTX 580"] == {"fp32": pytest.approx(conv1["flops"] / 1.581e9)}  # bound by its peak
    assert conv1["least_ms"]["H100"]["bf16"] == pytest.approx(conv1["bytes"] / 3.352e9)  # bound by memory
    # Of 60,965,224 parameters: value, momentum and gradient are read, value and momentum written.
    assert update["bytes"] == 5 * 4 * 60_965_224
    assert update["least_ms"]["A100"]["tf32"] == pytest.approx(update["bytes"] / 2.039e9)


def test_the_step_is_the_sum_of_its_layers(report: dict[str, Any]) -> None:
    by_spectra = {(row["name"], row["direction"]): row for row in report["by_spectra"]}
    assert set(by_spectra) == {(f"conv{n}", direction) for n in range(2, 6) for direction in ("forward", "backward")}
    for gpu in report["gpus"]:
        for precision in gpu["tflops"]:
            direct = planned = 0.0
            for row in report["layers"]:
                ms = row["least_ms"][gpu["name"]][precision]
                otherwise = by_spectra.get((row["name"], row["direction"]), row)["least_ms"][gpu["name"]]
                direct += ms
                planned += otherwise.get(precision, ms)
            assert report["step"]["least_ms"][gpu["name"]][precision] == pytest.approx(direct)
            assert report["step_as_planned"]["least_ms"][gpu["name"]][precision] == pytest.approx(planned)
    for row in by_spectra.values():  # tensor cores make direct sums
        assert all(set(least_ms) == {"fp32"} for least_ms in row["least_ms"].values())


def test_dense_peaks_of_tensor_cores() -> None:
    for gpu in roofline.GPUS:
        assert all(math.isfinite(value) and value > 0 for value in gpu.tflops.values())
        if "bf16" in gpu.tflops:
            assert gpu.tflops["bf16"] == pytest.approx(2 * gpu.tflops["tf32"])


def test_shares_of_what_was_measured(report: dict[str, Any]) -> None:
    timing = {
        "description": "NVIDIA H100 80GB HBM3",
        "step_ms": 10 * report["step"]["least_ms"]["H100"]["fp32"],
        "layers": [
            {"name": "conv2", "direction": "forward", "ms": 2.0},
            {"name": "dropout7", "direction": "backward", "ms": 1.0},  # a kernel of an older step
        ],
    }
    table = roofline.table_of_shares(report, timing)
    cells = [list(column.cells) for column in table.columns]
    direct, planned = (
        next(row["least_ms"]["H100"]["fp32"] for row in report[rows] if row["name"] == "conv2")
        for rows in ("layers", "by_spectra")
    )
    assert cells[0] == ["conv2", "step"]
    assert cells[3] == [f"{direct / 2:.0%}", "10%"]
    assert cells[4][0] == f"{planned / 2:.0%}"


@pytest.mark.parametrize("batch", ["1", "1024"])
def test_prints_at_80_columns_and_writes_json(batch: str, tmp_path: Path) -> None:
    file = tmp_path / "roofline.json"
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--batch", batch, "--json", file], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert max(map(len, finished.stdout.splitlines())) <= 80
    assert "…" not in finished.stdout
    written = json.loads(file.read_text())
    assert written["batch"] == int(batch)
    assert written["step"]["flops"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--batch", "0"], "0 is not at least 1"), (["--json", "nowhere/roofline.json"], "cannot write nowhere/roof")],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert finished.returncode != 0
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
