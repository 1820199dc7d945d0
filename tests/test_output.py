"""Names that come from outside, in every output of the command: shown whole, and never taken for anything else."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyalexnet.cli import main
from pyalexnet.cli.evaluate import _shown
from pyalexnet.cli.output import as_csv, as_json, print_tables, table_of, write_rows, write_text
from pyalexnet.net.judging import Evaluation
from pyalexnet.study.figures.style import _family_with, literally, name_shown, new_figure
from pyalexnet.system.names import shorten
from pyalexnet.system.progress import Display

# What each is shown as in a terminal, a figure and a page.
HOSTILE = {
    "=1+1": "=1+1",
    "+2": "+2",
    "-3": "-3",
    "@SUM(1)": "@SUM(1)",
    "\ttab": r"\ttab",
    "\rback": r"\rback",
    "$a$ $b_": "$a$ $b_",
    "[red]x": "[red]x",
    ":dog:": ":dog:",
    "\x1b[31mred": r"\x1b[31mred",
    "new\nline": r"new\nline",
    "\u202eevil": r"\u202eevil",
    "<script>1": "<script>1",
    "a&b\"'": "a&b\"'",
    "{{ 7*7 }}": "{{ 7*7 }}",
}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "photos"
    rng = np.random.default_rng(0)
    for name in HOSTILE:
        (folder / name).mkdir(parents=True)
        for file in ("=a.png", "\x1b[1mb.png"):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / name / file)
    return folder


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    out = photos.parent / "run"
    small = ["--epochs", "1", "--batch-size", "8", "--validation", "0.5", "--devices", "cpu:0", "--lr", "0.001"]
    assert main(["train", str(photos), "--out", str(out), "--quiet", *small]) == 0
    return out


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command shows, checked for what would control a terminal."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--devices", "cpu:0"]) == 0
    shown = capsys.readouterr()
    assert not CONTROL.search(shown.out + shown.err)
    return shown.out


def test_evaluate(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "evaluate", run, photos, "--json", tmp_path / "errors.json")
    assert f"{len(HOSTILE)} of {2 * len(HOSTILE)} images were trained on" in shown
    for name in HOSTILE.values():
        assert f"\n {name} " in shown
    assert {one["name"] for one in json.loads((tmp_path / "errors.json").read_text())["classes"]} == HOSTILE.keys()


def test_predict(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = ("--top", len(HOSTILE))
    image = photos / "=1+1" / "=a.png"
    shown = printed(capsys, "predict", run, image, *top)
    for name in HOSTILE.values():
        assert f"   {name} " in shown
    assert {row["label"] for row in json.loads(printed(capsys, "predict", run, image, *top, "--format", "json"))} == {
        *HOSTILE
    }
    file = tmp_path / "found.csv"
    printed(capsys, "predict", run, photos / "\ttab", *top, "--format", "csv", "--output", file)
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert {row["label"].removeprefix("'") for row in rows} == HOSTILE.keys()
    assert not any(row["label"].startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in rows)


def test_neighbours_and_features(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = tmp_path / "fc8\x1b[1m.npz"
    assert rf"{tmp_path}/fc8\x1b[1m.npz" in printed(capsys, "features", run, photos, features, "--layer", "fc8")
    everything = ("--count", 2 * len(HOSTILE), "--layer", "fc8")
    shown = printed(capsys, "neighbours", run, features, photos / "-3" / "=a.png", *everything)
    for name in HOSTILE.values():
        assert f"   {name} " in shown


def test_figures_and_report(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        printed(capsys, "figure", "predictions", run, tmp_path / "p.svg", "--from", photos, "--sample", len(HOSTILE))
        printed(capsys, "figure", "neighbours", run, photos, tmp_path / "n.png", photos / "-3", "--layer", "fc8")
        printed(capsys, "report", run, tmp_path / "report.html", "--data", photos, "--no-timing")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not CONTROL.search(page)
    assert "<script" not in page
    parser, text = HTMLParser(), []
    parser.handle_data = text.append  # type: ignore[method-assign]
    parser.feed(page)
    assert set(HOSTILE.values()) <= set(text)
    assert f"{len(HOSTILE)} of {2 * len(HOSTILE)} images were trained on; the {len(HOSTILE)} others alone: " in page


def test_errors_show_names_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = tmp_path / "\x1b[31m\u202e\nevil"
    for arguments in (
        ["train", evil],
        ["evaluate", evil],
        ["predict", evil, evil],
        ["report", evil, "out.html"],
        ["figure", "curves", evil, "out.png"],
        ["ablate", evil],
        ["prepare", evil, tmp_path / "set"],
    ):
        assert main([*map(str, arguments)]) == 2
        shown = capsys.readouterr().err
        assert not CONTROL.search(shown)
        assert shown.count("\n") == 1
        assert r"\x1b[31m\u202e\nevil" in shown


def test_csv_holds_no_formulas() -> None:
    texts = ["=1", "+1", "-1", "@x", "\t1", "\r1", "\n1", "＝1", "plain", "a=1", 'say "x", y', "a\rb", "c\0d", ""]  # noqa: RUF001
    rows = [{"text": text, "number": -1.5} for text in texts]
    found = list(csv.reader(io.StringIO(as_csv(rows), newline="")))
    assert found[0] == ["text", "number"]
    assert [row[0] for row in found[1:]] == [
        *("'=1", "'+1", "'-1", "'@x", "'\t1", "'\r1", "'\n1", "'＝1"),  # noqa: RUF001
        *("plain", "a=1", 'say "x", y', "a\rb", r"c\x00d", ""),
    ]
    assert {row[1] for row in found[1:]} == {"-1.5"}
    assert as_csv([]) == "\n"


def test_names_that_are_no_text_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image": "a\udcff.jpg"}]
    for kind in ("table", "json", "csv"):
        write_rows(rows, kind, tmp_path / kind)
        write_rows(rows, kind, None)
        assert re.search(r"a(\\udcff|\\xff)\.jpg", (tmp_path / kind).read_text())
        assert re.search(r"a(\\udcff|\\xff)\.jpg", capsys.readouterr().out)
    assert json.loads(as_json(rows)) == rows


def test_csv_on_a_terminal_controls_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = as_csv([{"label": "\x1b[31m"}])
    write_text(text, None)
    assert capsys.readouterr().out == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    write_text(text, None)
    assert capsys.readouterr().out == '"label"\n"\\x1b[31m"\n'


@pytest.mark.parametrize("width", [80, 110])
def test_tables_of_many_classes_with_long_names_are_readable(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    classes = tuple(f"{number:04}{'x' * 196}" for number in range(1000))
    confusion = np.diag(np.full(1000, 40))
    confusion[7, 8] = 123456
    print_tables(*_shown(Evaluation(1, 1.0, classes, confusion, np.zeros(1000, int)), "images", by_class=False))
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) < 60
    assert any(re.match(r" 0007x+…?x* +123496 +99\.97% +99\.9\d% to 99\.9\d% +0\.00%", line) for line in lines)
    assert any(re.match(r" 0007x+…?x* +0008x+…?x* +123456", line) for line in lines)


@pytest.mark.parametrize(("classes", "whole"), [(7, True), (20, False)])
def test_mistakes_are_a_table_where_that_has_room(
    classes: int, whole: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    confusion = np.full((classes, classes), 1000)
    found = Evaluation(1, 1.0, tuple(map(str, range(classes))), confusion, np.zeros(classes, int))
    print_tables(*_shown(found, "images", by_class=False))
    shown = capsys.readouterr().out
    assert ("class (row) taken for" in shown) == whole
    assert ("the most frequent mistakes" in shown) != whole
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_figures_of_a_table_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_tables(table_of(("name", "n"), [("y" * 90, "1234567")], text=[0], title="[b]:cat:"))
    shown = capsys.readouterr().out
    assert "1234567" in shown
    assert shown.count("y") == 90
    assert "[b]:cat:" in shown


def test_a_display_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(log_seconds=0) as display:
        display.line("[red]:dog:\x1b[31m\nnext")
        display.begin("stage\x1b[0m", 2)
        display.state("\u202e:cat:")
        display.advance(1)
    shown = capsys.readouterr().out
    assert "[red]:dog:\\x1b[31m\\nnext\n" in shown
    assert re.search(r"stage\\x1b\[0m .*\\u202e:cat:", shown)


def test_names_in_figures() -> None:
    assert shorten("a" * 10, 10) == "a" * 10
    assert shorten("begin" + "-" * 90 + "end", 10) == "begin-…end"
    assert name_shown("\x1b中" * 1 + "x", 40) in (r"\x1b中x", r"\x1b\u4e2dx")
    nobody_has = "\U0010fffd"
    assert _family_with(nobody_has) is None
    assert name_shown(f"x{nobody_has}", 20) == r"x\U0010fffd"
    assert _family_with("ß") == ""
    figure = new_figure(2, 1)
    texts: list[Any] = []
    for name in ("$a$ $b_", r"\alpha", "${"):
        texts.append(figure.text(0.1, 0.5, name, **literally(name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert all(text.get_text() == name for text, name in zip(texts, ("$a$ $b_", r"\alpha", "${"), strict=True))
    assert not any(text.get_parse_math() for text in texts)
