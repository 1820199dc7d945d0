"""The report of a run that learned real digits: complete, self-contained, and sound in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyalexnet
from pyalexnet.data import Digits, Subset
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.subset import sample
from pyalexnet.errors import DataError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.study.ledger import LEDGER
from pyalexnet.study.report import write_report


@pytest.fixture(scope="module")
def report(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, digits_run, limit=30, devices=["cpu:0"])
    return path


class Page(HTMLParser):
    """Tags with their attributes, the text of each table cell, and what is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


def test_the_page_has_all_parts(report: Path) -> None:
    page = Page(report)
    assert page.open == []
    anchors = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    ids = {f"#{attributes['id']}" for tag, attributes in page.tags if tag == "h2"}
    assert anchors == ids == {"#curves", "#errors", "#figures", "#ledger", "#settings", "#times", "#memory"}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(image["alt"] for image in images)
    assert {row.what for row in LEDGER if row.setting} <= set(page.cells)
    assert {"weight_decay", "bias_init", "conv1", "update"} <= set(page.cells)
    assert "Memory in MiB for training at batch size 12" in page.text


def test_the_page_refers_to_nothing_outside(report: Path) -> None:
    for _, attributes in Page(report).tags:
        for name in ("src", "href", "action", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), target
    assert "@import" not in report.read_text(encoding="utf-8")
    assert "<script" not in report.read_text(encoding="utf-8")


def test_the_ledger_tells_what_the_run_did(report: Path) -> None:
    cells = Page(report).cells

    def line(setting: str) -> list[str]:
        place = cells.index(setting)  # the ledger stands before the settings
        return cells[place - 1 : place + 4]

    paper = "1 in conv2, conv4, conv5, fc6, fc7, else 0"
    assert line("bias_init") == ["initial biases", "bias_init", "caffe", "Caffe, LARS 4K, LARS 8K", paper]
    assert line("batch_size")[2:4] == ["12", "none of the sources"]
    assert line("lrn")[2:4] == ["yes", "paper, notes, 2012 code, Caffe, LARS 4K, LARS 8K"]


def test_errors_are_those_of_the_net(report: Path, digits_model: pyalexnet.Classifier) -> None:
    held_out = as_test_dataset("digits")
    found = evaluate(digits_model, Subset(held_out, np.sort(sample(held_out, 30))))
    page = Page(report)
    assert f"30 held-out images, 1 view each: top-1 error {found.top1_error:.2%}" in page.text
    start = page.cells.index("top-5 error") + 2
    rows = [page.cells[place : place + 3] for place in range(start, start + 60, 6)]
    assert rows == [[one.name, str(one.count), f"{one.top1_error:.2%}"] for one in found.by_class()]


def test_a_run_on_arrays_says_what_is_missing(tmp_path: Path, digits_run: Path) -> None:
    for name in ("run.json", "metrics.jsonl", "model.safetensors"):
        shutil.copy(digits_run / name, tmp_path / name)
    described = json.loads((tmp_path / "run.json").read_text())
    described["data"]["source"] = None
    (tmp_path / "run.json").write_text(json.dumps(described))
    options: dict[str, Any] = {"timing": False, "devices": ["cpu:0"]}
    write_report(tmp_path / "bare.html", tmp_path, **options)
    page = Page(tmp_path / "bare.html")
    assert "The run's images are not at hand: the run learned from arrays" in page.text
    assert "They were not measured." in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    digits = Digits()
    write_report(tmp_path / "given.html", tmp_path, data=(digits.images[:50], digits.labels[:50]), **options)
    page = Page(tmp_path / "given.html")
    assert "50 images of the data given, 1 view each" in page.text
    assert "was not checked: the run learned from arrays, which have no name." in page.text


def test_names_are_escaped(tmp_path: Path, digits_run: Path) -> None:
    folder = tmp_path / "<script>alert(1)</script>".replace("/", "_")
    folder.mkdir()
    for name in ("run.json", "metrics.jsonl", "model.safetensors"):
        shutil.copy(digits_run / name, folder / name)
    write_report(tmp_path / "report.html", folder, timing=False, limit=20, devices=["cpu:0"])
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_wrong_arguments_leave_no_file(tmp_path: Path, digits_run: Path) -> None:
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        write_report(tmp_path / "report.html", digits_run, limit=0)
    with pytest.raises(DataError, match="the net knows only"):
        write_report(tmp_path / "report.html", digits_run, data=(np.zeros((3, 8, 8), np.uint8), [0, 1, 77]))
    assert list(tmp_path.iterdir()) == []


# In a browser ---------------------------------------------------------------------------------------------------------

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_readable_in_a_browser(report: Path, browser: Any, width: int) -> None:
    browser.set_window_size(width, 1000)
    # A headless window is wider than its page by a frame, which differs from version to version.
    browser.set_window_size(2 * width - browser.execute_script("return window.innerWidth"), 1000)
    browser.get(report.as_uri())
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser's own pages, such as that of a new tab, ask for parts of theirs.
    requests = {one["request"]["url"] for one in sent if one["documentURL"] == report.as_uri()}
    assert report.as_uri() in requests
    assert {url.split(":", 1)[0] for url in requests} <= {"file", "data"}
    assert len([url for url in requests if url.startswith("file:")]) == 1
    # Nothing but tables and the plan, which scroll by themselves, is wider than the window.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('main > *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert browser.execute_script(wide) == []
    images = "return [...document.images].map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    for complete, natural, shown in browser.execute_script(images):
        assert complete
        assert natural > 400
        assert 0.8 * min(width, natural / 2) < shown <= width
    size = "return parseFloat(getComputedStyle(document.querySelector('p')).fontSize)"
    assert browser.execute_script(size) >= 14
