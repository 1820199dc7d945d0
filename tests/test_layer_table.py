"""The table of layers: known numbers, a net's own arrays, PyTorch's count of operations, and its formats."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest

from pyalexnet import AlexNet, LayerRow, layer_table
from pyalexnet.architecture import feature_names
from pyalexnet.cli import main

KNOWN = {
    "conv1": 105_415_200, "conv2": 223_948_800, "conv3": 149_520_384, "conv4": 112_140_288, "conv5": 74_760_192,
    "fc6": 37_748_736, "fc7": 16_777_216, "fc8": 4_096_000,
}  # fmt: skip

# Every option by which layers differ, and some together.
NETS: list[dict[str, Any]] = [
    {},
    {"towers": 1},
    {"pool_before_lrn": True, "pooling": "plain"},
    {"second_lrn": True, "relu1_last": True},
    {"filters": "2014", "towers": 1, "lrn": False},
    {"lrn": False, "activation": "tanh", "crop": 224},
]


@pytest.mark.usefixtures("full_size")
def test_the_papers_net_has_the_known_numbers() -> None:
    rows = layer_table()
    assert {row.name: row.multiply_adds for row in rows if row.multiply_adds} == KNOWN
    assert sum(row.multiply_adds for row in rows) == 724_406_816
    assert sum(row.parameters for row in rows) == 60_965_224
    assert sum(row.weight_bytes for row in rows) == 4 * 60_965_224
    groups = {row.name: row.groups for row in rows if row.kind == "conv"}
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    windows = [(row.kernel, row.stride, row.padding) for row in rows if row.kind in ("conv", "pool")]
    assert windows == [
        (11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1), (3, 2, 0),
    ]  # fmt: skip
    neurons = [math.prod(row.output_shape) for row in rows if row.multiply_adds]
    assert sum(neurons) == pytest.approx(650_000, rel=0.02)  # as the paper says


@pytest.mark.usefixtures("full_size")
def test_a_batch_multiplies_all_but_parameters() -> None:
    for one, many in zip(layer_table(), layer_table(batch_size=128), strict=True):
        assert many.multiply_adds == 128 * one.multiply_adds
        assert (many.input_bytes, many.output_bytes) == (128 * one.input_bytes, 128 * one.output_bytes)
        assert many.parameters == one.parameters
        assert one.output_bytes == 4 * math.prod(one.output_shape)


@pytest.mark.parametrize("options", NETS, ids=str)
def test_shapes_and_parameters_are_those_of_a_nets_arrays(options: dict[str, Any]) -> None:
    net = AlexNet(5, devices=["cpu:0"], **options)
    rows = layer_table(5, batch_size=2, **options)
    assert [row.name for row in rows] == list(feature_names(net.options))
    x = np.zeros((2, 227, 227, 3), np.float32)
    read: tuple[int, ...] = x.shape
    parameters = net.parameters()
    for row in rows:
        assert row.input_shape in (read, (2, math.prod(read[1:])))
        read = net.features(x, row.name).shape
        assert row.output_shape == read
        held = [value for name, value in parameters.items() if name.partition(".")[0] == row.name]
        assert row.weight_bytes == sum(value.nbytes for value in held)


@pytest.mark.parametrize("options", NETS, ids=str)
def test_towers_have_what_their_programs_compute(options: dict[str, Any]) -> None:
    net = AlexNet(5, devices=["cpu:0"], **options)
    program = net.program(3, training=False)
    wanted = {"conv_forward": "conv", "linear_forward": "linear", "maxpool_forward": "pool"}
    kinds = wanted | {"lrn_forward": "lrn", "lrn_in_map_forward": "lrn_in_map"}
    computed = {}
    for entry in program.forward:
        x, y = (entry.arguments.get(name) for name in "xy")
        if entry.operation in kinds:
            computed[kinds[entry.operation], entry.layer, entry.tower] = (x.shape, y.shape)
        elif entry.operation == "lrn_maxpool_forward":  # both, with no array between them
            computed["lrn", entry.layer, entry.tower] = (x.shape, x.shape)
            computed["pool", entry.layer, entry.tower] = (x.shape, y.shape)
    rows = layer_table(5, batch_size=3, by_tower=True, **options)
    assert len(rows) == len(computed)
    layers_by_number = {layer[-1]: layer for _, layer, _ in computed}
    for row in rows:
        x, y = computed[row.kind, layers_by_number[row.name[-1]], row.tower or 0]
        assert (row.input_shape, row.output_shape) == (tuple(x), tuple(y))
        assert row.groups in (None, 1)


@pytest.mark.parametrize("options", NETS, ids=str)
def test_towers_add_up(options: dict[str, Any]) -> None:
    parts: dict[str, list[LayerRow]] = {}
    for row in layer_table(7, by_tower=True, **options):
        parts.setdefault(row.name, []).append(row)
    for row in layer_table(7, **options):
        towers = parts[row.name]
        assert row.multiply_adds == sum(part.multiply_adds for part in towers)
        assert row.weight_bytes == sum(part.weight_bytes for part in towers)
        assert row.output_bytes == sum(part.output_bytes for part in towers)
        assert row.nonlinearity == towers[0].nonlinearity


@pytest.mark.parametrize("options", NETS, ids=str)
def test_pytorch_counts_the_same_multiply_adds(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    for row in layer_table(7, batch_size=2, **options):
        if row.kind not in ("conv", "linear"):
            continue
        if row.kind == "conv":
            assert row.groups
            window = (row.kernel, row.stride, row.padding)
            channels, filters = row.input_shape[3], row.output_shape[3]
            layer = torch.nn.Conv2d(channels, filters, *window, groups=row.groups, device="meta")
        else:
            layer = torch.nn.Linear(row.input_shape[1], row.output_shape[1], device="meta")
        with FlopCounterMode(display=False) as counter:
            y = layer(torch.empty(row.input_shape, device="meta").movedim(-1, 1))
        assert y.movedim(1, -1).shape == row.output_shape
        assert row.parameters == sum(value.numel() for value in layer.parameters())
        assert row.multiply_adds == counter.get_total_flops() // 2


def test_the_nonlinearity_stands_where_it_is_computed() -> None:
    then = {row.name: row.nonlinearity for row in layer_table(relu1_last=True) if row.nonlinearity}
    assert list(then) == ["pool1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert {row.nonlinearity for row in layer_table(activation="tanh")} == {"tanh", ""}


def test_what_makes_no_sense_is_refused() -> None:
    for arguments, message in [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"num_classes": 1}, "num_classes is 1; it must be at least 2"),
        ({"towers": 3}, "towers is 3; it must be one of 2, 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer_table(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="layer_table has no argument 'tower'; did you mean towers"):
        layer_table(tower=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="by_tower is 1; it must be True or False"):
        layer_table(by_tower=1)  # type: ignore[arg-type]


def test_programs_read_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["layers", "--classes", "10", "--batch-size", "4", "--by-tower", "--no-lrn", "--format"]
    assert main([*arguments, "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    rows = layer_table(10, batch_size=4, by_tower=True, lrn=False)
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        assert (record["layer"], record["tower"], record["batch_size"]) == (row.name, row.tower, 4)
        for side, shape in (("input", row.input_shape), ("output", row.output_shape)):
            extents = [record[f"{side}_{axis}"] for axis in ("height", "width", "channels")]
            assert extents == [*([1, 1] if len(shape) == 2 else []), *shape[1:]]
        for name in ("kernel", "stride", "padding", "groups", "multiply_adds", "parameters", "output_bytes"):
            assert record[name] == getattr(row, name)
    assert main([*arguments, "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["multiply_adds"] for line in lines] == [str(row.multiply_adds) for row in rows]
    assert [line["kernel"] for line in lines] == ["" if row.kernel is None else str(row.kernel) for row in rows]


@pytest.mark.usefixtures("full_size")
def test_people_read_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # in which nothing is cut
    assert main(["layers"]) == 0
    shown = capsys.readouterr().out
    assert "1 image: 724,406,816 multiply-adds; 60,965,224 parameters in 243,860,896 bytes" in shown
    (line,) = [line.split() for line in shown.splitlines() if line.startswith(" conv2")]
    assert line == ["conv2", "2", "27×27×256", "5/1/2", "relu", "223,948,800", "307,456"]
    assert main(["layers", "--batch-size", "0"]) == 2
    assert "pyalexnet layers: batch_size is 0" in capsys.readouterr().err
