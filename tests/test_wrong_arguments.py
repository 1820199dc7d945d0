"""Every argument of the net and of what works with models, with every kind of wrong value: refused by name, at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyalexnet
from pyalexnet import AlexNet, Classifier, Options
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.system.declaration import arguments_of

CLASSES = 4

NOT_INTEGERS = (2.5, 2.0, np.float32(2), "2", b"2", True, np.True_, 2j, [2], (2,), {}, np.array([2]), object())
NOT_NUMBERS = ("0.1", b"0.1", True, np.False_, None, 1j, [0.1], {}, np.array([0.1]), object())
NOT_RATES = (*NOT_NUMBERS, math.nan, math.inf, -0.1, np.float32("nan"), 10**400)
NOT_FLAGS = (0, 1, 1.0, "True", None, [], np.array(True), object())
NOT_LAYERS = ("conv9", "conv1 ", "", None, 1, ["conv1"], b"conv1", object())
NOT_FUNCTIONS = (5, "print", [], object())
NOT_PATHS = (5, None, b"run", ["run"], 1.5, object())
NOT_COUNTS = (*NOT_INTEGERS, None, 0, -1, np.int64(0))
NOT_DEVICES = (
    *("cpu:0", "cpu", 5, [], ["cpu:0", "cpu:1", "cpu:0"], ["cpu:0", "sim:0"], [5], [None]),
    *(["tpu:0"], ["cpu:99"], ["cpu:-1"], ["cpu:x"], [["cpu:0"]], {}, True, b"cpu:0", object()),
)
NOT_LIMITS = (*NOT_INTEGERS, 0, -1, "3GB")
NOT_NETS = (None, 5, "net", object(), CLASSES)
NOT_NAMES = ("abc", None, 5, [], [1, 2], [None], [b"cat"], list("aa"), list("abcde"), object())
NOT_MEANS = (
    *(None, 0, "grey", [128.0], np.zeros(3, np.float32), np.zeros((256, 256, 3)), np.zeros((224, 224, 3), np.float32)),
    np.full((256, 256, 3), np.nan, np.float32),
)
NOT_MODELS = (None, 5, ["run"], b"run", object(), np.zeros(3))

NOT_X = (
    *(None, 5, "cat.jpg", [[1.0]], np.float32(1), np.zeros((1, 227, 227, 3)), np.zeros((1, 224, 224, 3), np.float32)),
    *(np.zeros((227, 227, 3), np.float32), np.zeros((0, 227, 227, 3), np.float32), object()),
    np.zeros((1, 227, 227, 3), np.uint8),
)
NOT_LABELS = (
    *(None, 1, "1", [1.0], ["1"], [True], [None], [[1]], [-1], [CLASSES], [2**70], [1, 2], np.array([1.0])),
    *(np.array([], np.int64), np.array([[1]]), [[1], [1, 2]], {"1"}, object()),
)

NOT_OPTIONS = {
    "dropout": (*NOT_NUMBERS, math.nan, -0.1, 1, 1.5),
    "lrn_k": (*NOT_NUMBERS, math.nan, math.inf, 0, -1),
} | {
    name: ("zero", b"paper", None, 5, 1.0, [], np.float32(2), *(() if isinstance(option.choices[0], bool) else (True,)))
    for name, option in arguments_of(Options).items()
    if option.choices
}


@pytest.fixture(scope="module")
def net() -> AlexNet:
    return AlexNet(CLASSES)


@pytest.fixture(scope="module")
def model(net: AlexNet) -> Classifier:
    return Classifier(net, tuple("abcd"), np.zeros((256, 256, 3), np.float32))


def cases(call: Callable[..., Any], given: dict[str, Any], wrong: dict[str, tuple[Any, ...]]) -> Iterator[str]:
    """Call with one wrong argument after the other; what was not refused as it must be."""
    for name, values in wrong.items():
        for value in values:
            try:
                call(**{**given, name: value})
            except (TypeError, ValueError) as error:
                message = str(error).splitlines()[0]
                if not re.search(rf"\b{name.removesuffix('s')}s?\b.*\b(must|has|lacks?|have|only)\b", message):
                    yield f"{name}={value!r}: {type(error).__name__}: {message}"
            except BaseException as error:
                yield f"{name}={value!r}: {error!r}"
            else:
                yield f"{name}={value!r} was taken"


def test_of_a_net() -> None:
    wrong = {
        "num_classes": (*NOT_COUNTS, 1),
        "devices": NOT_DEVICES,
        "memory_limit": NOT_LIMITS,
        "seed": (*NOT_INTEGERS, None, -1, 2**63),
        "peer_access": NOT_FLAGS,
        **NOT_OPTIONS,
    }
    assert not list(cases(AlexNet, {"num_classes": CLASSES}, wrong))


def test_of_options() -> None:
    assert NOT_OPTIONS.keys() == {field.name for field in fields(Options)}
    assert not list(cases(Options, {}, NOT_OPTIONS))
    with pytest.raises(TypeError, match="AlexNet has no argument 'colour'; the net's options are weight_init, bias"):
        AlexNet(CLASSES, colour="red")
    for wrong, meant in (("drop_out", "dropout"), ("device", "devices"), ("lrn_K", "lrn_k")):
        with pytest.raises(TypeError, match=f"AlexNet has no argument '{wrong}'; did you mean {meant}\\?"):
            AlexNet(CLASSES, **{wrong: 1})


def test_of_a_nets_methods(net: AlexNet) -> None:
    x, labels = np.zeros((1, 227, 227, 3), np.float32), np.array([1])
    before = net.parameters()["fc8.weight"].tobytes()
    step = {"x": x, "labels": labels, "lr": 0.01}
    by_layer = ({"conv1": 0.1}, {"conv9": 0.1}, {1: 0.1}, {"conv1": "0.1"}, {})
    batch = {"batch_size": NOT_COUNTS, "training": NOT_FLAGS}
    tower = (*NOT_INTEGERS, None, -1, 2)
    array = net.program(1, training=False).array("fc8.out")
    values = {"parameters": net.parameters()}
    wrong_values = (None, 5, "file", [], {}, {"conv1.weight": 1}, net.parameters() | {"fc8.bias": [0.0] * CLASSES})
    found = [
        *cases(net.plan, {"batch_size": 1}, batch),
        *cases(net.program, {"batch_size": 1, "training": False}, batch),
        *cases(net.forward, {"x": x}, {"x": NOT_X, "as_tensor": NOT_FLAGS}),
        *cases(net.features, {"x": x, "layer": "fc7"}, {"x": NOT_X, "layer": NOT_LAYERS, "as_tensor": NOT_FLAGS}),
        *cases(
            net.train_step,
            step,
            {"x": NOT_X, "labels": NOT_LABELS, "momentum": (*NOT_RATES, 1), "weight_decay": NOT_RATES}
            | {"lr": (*(rate for rate in NOT_RATES if rate != {}), *by_layer)},
        ),
        *cases(net.read, {"array": array}, {"array": (None, 5, x, "conv1.y"), "tower": tower}),
        *cases(net.image_buffers, {"batch_size": 1, "count": 1}, {"batch_size": NOT_COUNTS, "count": NOT_COUNTS}),
        *cases(net.load_parameters, values, {"parameters": (*wrong_values, None), "momentum": wrong_values[1:]}),
    ]
    assert not found
    assert net.step == 0
    assert net.parameters()["fc8.weight"].tobytes() == before


def test_of_an_image_batch(net: AlexNet) -> None:
    good = {
        "images": np.zeros((2, 256, 256, 3), np.uint8),
        "offsets": np.zeros((2, 2), np.int32),
        "flips": np.zeros(2, np.uint8),
        "shifts": np.zeros((2, 3), np.float32),
        "mean": np.zeros(3, np.float32),
    }
    anything = (None, 5, "a", [0], np.zeros((2, 2)), np.zeros((2, 3, 1), np.float32), object())
    wrong: dict[str, tuple[Any, ...]] = dict.fromkeys(good, anything)
    wrong["offsets"] = (*anything, np.full((2, 2), 30, np.int32), np.full((2, 2), -1, np.int32))
    wrong["images"] = (*anything, np.zeros((0, 256, 256, 3), np.uint8), good["images"].astype(np.float32))
    wrong["scale"] = (*NOT_NUMBERS, 0, -1, math.nan, math.inf)
    assert not list(cases(lambda **given: net.forward(ImageBatch(**given)), good, wrong))


def test_of_a_classifier(net: AlexNet, model: Classifier) -> None:
    good = {"net": net, "classes": list("abcd"), "mean": model.mean}
    wrong = {"net": NOT_NETS, "classes": NOT_NAMES, "mean": NOT_MEANS}
    wrong |= {"learned_from": (5, "run", {}, {"source": "run"}, True, object()), "origin": (None, 5, "run", {})}
    assert not list(cases(Classifier, good, wrong))


def test_of_what_works_with_models(model: Classifier, tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    data = images, np.array([0, 1])
    common = {"model": NOT_MODELS, "batch_size": NOT_COUNTS, "on_images": NOT_FUNCTIONS}
    views = (*NOT_COUNTS, 2, 3, 100)
    not_images = (None, 5, True, 1.5, {"cat": "cat.jpg"}, object(), np.uint8(3))
    overlap = tuple(value for value in NOT_FLAGS if value is not None)
    file = tmp_path / "f.npz"
    found = [
        *cases(
            pyalexnet.evaluate,
            {"model": model, "data": data},
            common | {"views": views, "overlap": overlap, "on_stage": NOT_FUNCTIONS},
        ),
        *cases(
            pyalexnet.predict,
            {"model": model, "images": images},
            common | {"images": not_images, "top": NOT_COUNTS, "views": views, "on_error": NOT_FUNCTIONS},
        ),
        *cases(pyalexnet.extract_features, {"model": model, "data": data}, common | {"layer": NOT_LAYERS}),
        *cases(
            pyalexnet.save_features,
            {"path": file, "model": model, "data": data},
            common | {"layer": NOT_LAYERS, "path": (*NOT_PATHS, "features.csv", "")},
        ),
        *cases(
            pyalexnet.find_neighbours,
            {"model": model, "queries": images, "data": data},
            common | {"layer": NOT_LAYERS, "count": NOT_COUNTS},
        ),
        *cases(
            pyalexnet.load_model,
            {"path": tmp_path / "nothing"},
            {"path": NOT_PATHS, "devices": NOT_DEVICES[:5], "memory_limit": NOT_LIMITS},
        ),
        *cases(
            pyalexnet.save_model,
            {"path": tmp_path / "model", "model": model},
            {"path": NOT_PATHS, "model": (*NOT_MODELS, "run", model.net)},
        ),
    ]
    assert not found
    assert not list(tmp_path.iterdir())


def test_of_figures(model: Classifier, tmp_path: Path) -> None:
    images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1])
    figures, data = pyalexnet.figures, (images, labels)
    not_names = (1, True, "ab", {}, ["a"], ["a", 1], ["a", None], object())
    not_found = (1, None, "ab", [], [1, 2], object())
    path = tmp_path / "figure.png"
    wrong_run = (1, None, b"run", [], object(), "", "a\0b")
    neighbours: list[list[pyalexnet.Neighbour]] = [[], []]
    found = [
        *cases(figures.prediction_panel, {"model": model, "images": images}, {"labels": not_names}),
        *cases(
            figures.neighbour_rows,
            {"queries": images, "found": neighbours, "data": data},
            {"labels": not_names, "found": not_found, "queries": (0, None)},
        ),
        *cases(figures.occlusion_panel, {"images": images, "found": []}, {"found": not_found, "images": (0, None)}),
        *cases(figures.projection_panel, {"images": images, "found": []}, {"found": not_found, "images": (0, None)}),
        *cases(figures.unit_rows, {"data": data}, {"found": not_found}),
        *cases(figures.similarity_panel, {}, {"found": not_found}),
        *cases(figures.learning_curves, {}, {"run": wrong_run}),
        *cases(
            figures.save_figure,
            {"figure": figures.filter_pictures(model), "path": path},
            {"figure": (1, None, "x", object()), "path": (*NOT_PATHS, "", "figure.jpg")},
        ),
        *cases(figures.encoded, {"figure": figures.filter_pictures(model)}, {"kind": ("jpg", 1, None, "")}),
    ]
    assert not found
    assert not list(tmp_path.iterdir())


def test_of_recipes_and_schedules() -> None:
    recipe, schedule = pyalexnet.recipe, pyalexnet.schedule
    not_rates = (*NOT_NUMBERS, math.nan, math.inf, 0, -1)
    schedules = (1, None, 0.01, {"epoch": 0}, b"falling", "fast", "", object())
    at_least_0 = (*NOT_INTEGERS, None, -1)
    plan = pyalexnet.ablation.Plan
    not_several = (1, "1", None, (), ("x",), [None], {1: 2}, np.array(1))
    found = [
        *cases(recipe.recipe_for, {"images": 5, "classes": 2}, {"images": NOT_COUNTS, "classes": NOT_COUNTS}),
        *cases(recipe.reason_for, {"images": 5, "classes": 2}, {"images": NOT_COUNTS, "classes": NOT_COUNTS}),
        *cases(recipe.recipe_of, {"data": "digits"}, {"preset": ("x", "", 1, [], True)}),
        *(
            problem
            for kind in ("plateau", "falling", "poly", "0.01", "source2012")
            for problem in cases(
                schedule.make_schedule,
                {"schedule": kind, "lr": 0.01},
                {"lr": not_rates, "patience": at_least_0, "epochs": NOT_COUNTS, "schedule": schedules},
            )
        ),
        *cases(schedule.make_schedule, {"lr": 0.01}, {"floor": ("x", True, [], -1, math.nan, 1)}),
        *cases(schedule.PlateauSchedule, {"lr": 0.01, "patience": 1}, {"lr": not_rates, "patience": at_least_0}),
        *cases(schedule.FallingSchedule, {"lr": 0.01, "epochs": 1}, {"lr": not_rates, "epochs": NOT_COUNTS}),
        *cases(
            plan, {}, {"lrs": (*not_several, (0,)), "race_lrs": not_several, "seeds": (*not_several, (-1,), (1.5,))}
        ),
    ]
    assert not found


def test_of_an_ablation_and_a_report(tmp_path: Path) -> None:
    ablation = {"data": "nowhere", "out": tmp_path / "ablation.json"}
    report = {"path": tmp_path / "report.html", "folder": tmp_path / "nowhere"}
    views = (*NOT_COUNTS, 2, 3, 100)
    found = [
        *cases(
            pyalexnet.ablation.ablate,
            ablation,
            {"plan": (1, {}, "plan", (), object()), "devices": (0, True, "cpu:0", [], ["cpu:0", "cpu:1"], ["nope:0"])}
            | {"memory_limit": NOT_LIMITS, "on_error": (1, "x"), "on_begin": NOT_FUNCTIONS, "on_result": NOT_FUNCTIONS},
        ),
        *cases(
            pyalexnet.report.write_report,
            report,
            {"limit": ("x", 1.5, True, 0, -1), "best": ("x", 1, None), "timing": ("x", 1, None), "overlap": ("x", 1)}
            | {"views": views, "batch_size": NOT_COUNTS, "on_error": (1, "x"), "on_stage": NOT_FUNCTIONS}
            | {"path": (*NOT_PATHS, ""), "folder": (*NOT_PATHS, "")},
        ),
    ]
    assert not found
    assert not list(tmp_path.iterdir())


def test_of_conversions_and_comparisons(model: Classifier, tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    path = tmp_path / "net.onnx"
    found = [
        *cases(pyalexnet.convert, {"source": model, "path": path}, {"to": (True, 0, "", "ONNX", b"onnx", [])}),
        *cases(pyalexnet.load_model, {"path": path, "mean": (1, 2, 3)}, {"classes": ("",), "mean": ("",)}),
        *cases(pyalexnet.find_neighbours, {"model": model}, {"queries": (0, None, True, 1.5, {})}),
        *cases(pyalexnet.predict, {"images": images}, {"model": ("", "a\0b")}),
    ]
    assert not found
    assert not list(tmp_path.iterdir())


def test_of_paths_that_can_name_nothing(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty or with a NUL: refused by name by every function that takes a path, before anything is written."""
    monkeypatch.chdir(tmp_path)
    images, data = np.zeros((2, 8, 8, 3), np.uint8), (np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    foreign = {"path": tmp_path / "net.onnx", "mean": (1, 2, 3)}
    prepared = {"source": tmp_path, "destination": tmp_path / "set"}
    train_on = {"data": data, "validation": 0, "progress": False}
    figure = pyalexnet.figures.filter_pictures(model)
    of_model: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        *((function, {"data": data}) for function in (pyalexnet.evaluate, pyalexnet.extract_features)),
        *((function, {"images": images}) for function in (pyalexnet.predict, pyalexnet.project_units)),
        (pyalexnet.occlusion_maps, {"images": images}),
        (pyalexnet.find_strongest, {"data": data}),
        (pyalexnet.find_neighbours, {"queries": images, "data": data}),
        (pyalexnet.figures.filter_pictures, {}),
        (pyalexnet.similarity.compare_nets, {"data": data}),
    )
    calls: tuple[tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]], ...] = (
        *((function, {"model": model, **given}, ("model",)) for function, given in of_model),
        (pyalexnet.evaluate, {"model": model}, ("data",)),
        (pyalexnet.find_neighbours, {"model": model, "queries": images}, ("data",)),
        (pyalexnet.similarity.compare_nets, {"model": model, "data": data}, ("other",)),
        (pyalexnet.save_features, {"path": "f.npz", "model": model, "data": data}, ("path", "model")),
        (pyalexnet.save_activations, {"folder": "f", "model": model, "data": data}, ("folder", "model")),
        (pyalexnet.load_activations, {}, ("folder",)),
        (pyalexnet.load_model, foreign, ("path", "mean", "classes", "prototxt")),
        (pyalexnet.convert, {"source": model, "path": tmp_path / "net.onnx"}, ("source", "path", "mean", "classes")),
        (pyalexnet.save_model, {"model": model}, ("path",)),
        (pyalexnet.load_run, {}, ("folder",)),
        (pyalexnet.prepare, prepared, ("source", "destination", "labels", "classes")),
        (pyalexnet.train, train_on, ("data", "validation", "init", "out", "schedule")),
        (pyalexnet.ablation.ablate, {"data": data}, ("out",)),
        (pyalexnet.ablation.read_ablation, {}, ("path",)),
        (pyalexnet.report.write_report, {"path": tmp_path / "r.html", "folder": tmp_path}, ("path", "folder")),
        (pyalexnet.figures.save_figure, {"figure": figure}, ("path",)),
        (pyalexnet.schedule.load_schedule, {}, ("path",)),
        (pyalexnet.data.ImageFolder, {}, ("path",)),
        (pyalexnet.data.PreparedImages, {}, ("path",)),
    )
    for call, given, names in calls:
        path_like = {"schedule": (Path("a\0.json"), "a\0.json")}
        wrong = {name: path_like.get(name, ("", "a\0b", "a\0.npz", Path("a\0b"))) for name in names}
        found = list(cases(lambda call=call, given=given, **changed: call(**{**given, **changed}), {}, wrong))
        assert not found, call
    assert not list(tmp_path.iterdir())


def test_numpys_numbers_are_taken() -> None:
    net = AlexNet(
        np.int64(CLASSES),
        devices=(name for name in ("cpu:0",)),
        memory_limit=np.int64(2**31),
        seed=np.uint32(7),
        peer_access=np.True_,
        dropout=np.float32(0.25),
        crop=np.int16(224),
        lrn=np.False_,
        bias_init=np.str_("caffe"),
    )
    assert (net.num_classes, net.seed, net.devices) == (CLASSES, 7, ("cpu:0",))
    assert net.options == Options(dropout=0.25, crop=224, lrn=False, bias_init="caffe")
    for name in (field.name for field in fields(Options)):
        assert type(getattr(net.options, name)) in (bool, int, float, str)
    assert net.plan(np.int64(2)).batch_size == 2
    x = np.zeros((1, 227, 227, 3), np.float32)
    net.train_step(x, [np.uint8(1)], lr=np.float32(0.5), momentum=np.float64(0.5), weight_decay=np.int64(0))
    net.train_step(x, [1], lr={f"{name}": np.float32(0.5) for name in net.shapes}, momentum=0)
    assert net.step == 2
