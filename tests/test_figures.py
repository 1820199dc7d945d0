"""Figures from a net that learned real digits: what they show is what was measured, and files are written whole."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

import pyalexnet
from pyalexnet import cli
from pyalexnet.data import Digits, Subset
from pyalexnet.errors import DataError
from pyalexnet.evaluation.neighbours import find_neighbours
from pyalexnet.evaluation.predict import predict
from pyalexnet.net.network import AlexNet
from pyalexnet.study.figures import (
    colour_index,
    encoded,
    filter_pictures,
    learning_curves,
    neighbour_rows,
    prediction_panel,
    save_figure,
)
from pyalexnet.study.figures.curves import smoothed
from pyalexnet.study.figures.filters import colour_by_tower, mosaic, smoothness
from pyalexnet.study.figures.style import ORANGE
from pyalexnet.training.record import StepLog, load_run

DIGITS = Digits()


def drawn(figure: object) -> np.ndarray:
    with Image.open(io.BytesIO(encoded(figure, "png"))) as image:  # type: ignore[arg-type]
        return np.asarray(image.convert("RGB"))


# Filters --------------------------------------------------------------------------------------------------------------


def test_colour_index_is_the_share_that_is_not_grey(rng: np.random.Generator) -> None:
    grey = np.repeat(rng.standard_normal((11, 11, 1, 1)), 3, axis=2)
    colour = rng.standard_normal((11, 11, 3, 1))
    colour -= colour.mean(axis=2, keepdims=True)
    grey, colour = grey / np.linalg.norm(grey), colour / np.linalg.norm(colour)
    weights = np.concatenate([grey, colour, 0.6 * colour + 0.8 * grey, np.zeros_like(grey)], axis=3).astype(np.float32)
    found = colour_index(weights)
    # Weights are rounded to float32.
    np.testing.assert_allclose(found[:3], [0, 1, 0.6], rtol=0, atol=1e-6)
    assert np.isnan(found[3])


def test_colour_index_of_random_weights(rng: np.random.Generator) -> None:
    found = colour_index(rng.standard_normal((11, 11, 3, 1000)).astype(np.float32))
    # 363 values a filter: a filter's own index varies by about 0.02, the mean of 1000 by 0.0007.
    assert found.mean() == pytest.approx(np.sqrt(2 / 3), abs=0.004)


def test_smoothness_is_the_smooth_parts_share_of_the_squares(rng: np.random.Generator) -> None:
    noise = rng.standard_normal((11, 11, 3, 1000))
    found = smoothness(noise.astype(np.float32))
    assert abs(found.mean()) < 0.005
    assert found.std() == pytest.approx(0.04, abs=0.005)  # as LEARNED says
    mixed = smoothness((np.sqrt(0.7) * noise + np.sqrt(0.3)).astype(np.float32))
    assert mixed.mean() == pytest.approx(0.3, abs=0.01)
    rows = np.resize([1.0, -1.0], 11)  # equal along one axis, opposite along the other
    stripes = np.broadcast_to(rows[:, None, None, None], (11, 11, 3, 1))
    special = np.concatenate([np.ones((11, 11, 3, 1)), stripes, stripes * stripes.transpose(1, 0, 2, 3)], axis=3)
    np.testing.assert_allclose(smoothness(special.astype(np.float32)), [1, 0, -1], atol=1e-12)
    assert np.isnan(smoothness(np.zeros((11, 11, 3, 1), np.float32))).all()


def test_learned_filters_are_counted_by_tower() -> None:
    net = AlexNet(2, devices=["cpu:0"])
    model = pyalexnet.Classifier(net, ("a", "b"), np.zeros((256, 256, 3), np.float32))
    assert [tower.learned_count for tower in colour_by_tower(model)] == [0, 0]
    assert np.isnan(colour_by_tower(model)[0].learned_median)
    assert filter_pictures(model).axes[0].get_title(loc="left").endswith("; none of 48 filters has learned")
    weights = net.parameters()["conv1.weight"].copy()
    weights[..., 50:54] += [1.0, 0.1, 0.02, 0.003]  # the last is lost among random weights of 0.01
    weights[:, :, 0, 50] -= 1.0  # colourful
    net.load_parameters({**net.parameters(), "conv1.weight": weights})
    first, second = colour_by_tower(model)
    assert first.learned_count == 0
    assert np.flatnonzero(second.learned).tolist() == [2, 3, 4]
    assert second.learned_median == pytest.approx(np.median(np.array(second.values)[2:5]))


def test_mosaic_places_each_filter(rng: np.random.Generator) -> None:
    weights = rng.standard_normal((11, 11, 3, 20)).astype(np.float32)
    weights[..., 7] = 0.5
    picture = mosaic(weights)
    assert picture.shape == (2 * 12 - 1, 16 * 12 - 1, 3)
    for number in (0, 15, 16, 19):
        top, left = 12 * (number // 16), 12 * (number % 16)
        one = weights[..., number]
        part = picture[top : top + 11, left : left + 11]
        np.testing.assert_allclose(part, (one - one.min()) / (one.max() - one.min()), rtol=0, atol=1e-6)
    assert (picture[:11, 84:95] == 0.5).all()  # a filter of one value has no range to stretch
    assert (picture[11] == 1).all()


def test_filters_stand_tower_above_tower(digits_model: pyalexnet.Classifier) -> None:
    figure = filter_pictures(digits_model)
    first, second = colour_by_tower(digits_model)
    assert (len(first.values), len(second.values)) == (48, 48)
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    for tower, title in zip((first, second), titles, strict=True):
        assert title.startswith(f"tower {tower.tower}: median colour index {tower.median:.2f}; ")
    weights = digits_model.net.parameters()["conv1.weight"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), mosaic(weights[..., :48]))
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), mosaic(weights[..., 48:]))
    assert drawn(figure).std() > 10


def test_one_tower_has_one_picture(digits_model: pyalexnet.Classifier) -> None:
    alone = replace(digits_model, net=AlexNet(10, devices=["cpu:0"], towers=1))
    assert len(filter_pictures(alone).axes) == 2


# Predictions and neighbours -------------------------------------------------------------------------------------------


def test_bars_are_the_probabilities(digits_model: pyalexnet.Classifier) -> None:
    images, labels = DIGITS.images[:6], [DIGITS.classes[label] for label in DIGITS.labels[:6]]
    figure = prediction_panel(digits_model, list(images), labels)
    predictions = predict(digits_model, images)
    bars = [axes for axes in figure.axes if axes.patches]
    assert len(bars) == 6
    by_title = {number: figure.axes[8 * (number // 4) + number % 4] for number in range(6)}
    for number, (axes, found) in enumerate(zip(bars, predictions, strict=True)):
        assert [patch.get_width() for patch in axes.patches] == [prediction.probability for prediction in found]
        right = [to_hex(patch.get_facecolor()) == ORANGE.lower() for patch in axes.patches]
        assert right == [prediction.label == labels[number] for prediction in found]
        assert by_title[number].get_title() == labels[number]
    assert drawn(figure).std() > 10


def test_one_image_without_a_label(digits_model: pyalexnet.Classifier) -> None:
    (bars,) = [axes for axes in prediction_panel(digits_model, DIGITS.images[0]).axes if axes.patches]
    assert ORANGE.lower() not in {to_hex(patch.get_facecolor()) for patch in bars.patches}
    with pytest.raises(ValueError, match="labels has 1 names; it must have 2, one for each image"):
        prediction_panel(digits_model, DIGITS.images[:2], ["0"])
    with pytest.raises(DataError, match="there are no images"):
        prediction_panel(digits_model, [])


def test_neighbours_stand_in_rows(digits_model: pyalexnet.Classifier) -> None:
    queries, data = list(DIGITS.images[100:103]), Subset(DIGITS, np.arange(60))
    found = find_neighbours(digits_model, queries, data, count=4)
    figure = neighbour_rows(queries, found, data, ["a", "b", "c"])
    assert len(figure.axes) == 3 * 5
    for row, near in enumerate(found):
        pictures = figure.axes[5 * row : 5 * row + 5]
        assert pictures[0].get_title() == "abc"[row]
        for axes, neighbour in zip(pictures[1:], near, strict=True):
            assert axes.get_title() == f"{neighbour.label}\n{neighbour.distance:.1f}"
            shown = axes.images[0].get_array()
            np.testing.assert_array_equal(shown, data.batch(np.array([neighbour.index]))[0][0])
    with pytest.raises(ValueError, match="found has 2 entries; it must have 3, one for each query"):
        neighbour_rows(queries, found[:2], data)


# Curves ---------------------------------------------------------------------------------------------------------------


def test_smoothed_is_a_running_mean(rng: np.random.Generator) -> None:
    values = rng.standard_normal(50)
    for window in (1, 7, 100):
        expected = [values[max(0, end - window) : end].mean() for end in range(1, 51)]
        # Differences of sums of 50 numbers of size 1.
        np.testing.assert_allclose(smoothed(values, window), expected, rtol=0, atol=1e-13)


def test_curves_show_the_run(digits_run: Path) -> None:
    run = load_run(digits_run)
    above, below = learning_curves(run).axes
    raw, _, held_out, marked = above.lines
    np.testing.assert_array_equal(raw.get_ydata(), run.log.losses)
    assert held_out.get_ydata().tolist() == [run.history[0].validation_loss]
    assert below.lines[0].get_ydata().tolist() == [100 * (run.history[0].validation_error or 0)]
    assert list(marked.get_xdata()) == [13, 13]  # the first step at the lower rate
    assert [text.get_text() for text in above.texts] == ["lr 0.0005"]
    few = replace(run, log=replace(run.log, steps=np.arange(1, 19), losses=np.ones(18), rates=np.ones(18)), history=[])
    ticks = learning_curves(few).axes[1].get_xticks()
    assert np.array_equal(ticks, np.round(ticks)), "there is no step 2.5"


def test_curves_without_a_log_or_held_out_images(digits_run: Path) -> None:
    run = load_run(digits_run)
    bare = replace(run.history[0], validation_loss=None, validation_error=None, validation_accuracy=None)
    nothing = StepLog(np.empty(0, np.int64), np.empty(0), np.empty(0))
    for history in ((bare,), ()):
        figure = learning_curves(replace(run, history=history, log=nothing))
        assert figure.axes[1].texts[0].get_text() == "no images were held out"
        assert drawn(figure).std() > 1


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ["filters", "units", "occlusion", "deconv", "predictions", "neighbours", "curves"])
def test_formats_are_checked_before_any_work(
    figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no such model, which is found out later."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["figure", figure, "nothing", "out.jpg"]) == 2
    assert "path is 'out.jpg'; its name must end in .png, .svg, .pdf" in capsys.readouterr().err


def test_every_figure_is_checked() -> None:
    """Those of the command are those of the test above."""
    (mark,) = test_formats_are_checked_before_any_work.pytestmark  # type: ignore[attr-defined]
    drawn = {name.removeprefix("_draw_") for name in vars(cli.figure) if name.startswith("_draw_")}
    assert {*mark.args[1]} == drawn


def test_figures_are_written_in_the_format_of_their_name(digits_run: Path, tmp_path: Path) -> None:
    figure = learning_curves(load_run(digits_run))
    assert encoded(learning_curves(digits_run), "png") == encoded(figure, "png")
    for kind, begin in {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}.items():
        save_figure(figure, tmp_path / f"curves.{kind}")
        assert (tmp_path / f"curves.{kind}").read_bytes().startswith(begin)
    with pytest.raises(ValueError, match=r"path is 'curves\.jpg'; its name must end in \.png, \.svg, \.pdf"):
        save_figure(figure, "curves.jpg")
    assert encoded(figure, "png") == encoded(figure, "png")
