"""The ledger agrees with the presets, the options and the documentation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pyalexnet.architecture import Options
from pyalexnet.study.ledger import LEDGER, SOURCES, Row
from pyalexnet.training.recipe import PRESETS

UPDATE_DOCS = Path(__file__).resolve().parent.parent / "tools" / "update_docs.py"

# What is no matter of the sources: the paper compares its own net with these.
COMPARISONS = {"activation", "pooling"}


@pytest.mark.parametrize("source", PRESETS)
def test_presets_do_what_the_ledger_says(source: str) -> None:
    recipe = PRESETS[source]
    settings = vars(recipe) | vars(Options(**recipe.net_options))
    rows = {row.setting: row for row in LEDGER if row.setting and row.setting != "views"}
    assert {name: row.ways[source].value for name, row in rows.items()} == {name: settings[name] for name in rows}


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@pytest.mark.parametrize("row", LEDGER, ids=lambda row: row.what)
def test_texts_say_what_the_values_are(row: Row) -> None:
    """What a preset does otherwise has a text of its own, and a number as a text is the value."""
    values = {way.text: way.value for way in row.ways.values() if way.value is not None}
    assert all(way.value in (None, values.get(way.text)) for way in row.ways.values())
    for text, value in values.items():
        assert number(text) is None or (number(text) == value and not isinstance(value, bool))


def test_every_option_has_a_row() -> None:
    settings = [row.setting for row in LEDGER if row.setting]
    assert len(settings) == len(set(settings))
    options = {field.name for field in fields(Options)}
    assert options - set(settings) == COMPARISONS | {"conv_algorithm", "precision"}  # which change the rounding alone


def test_every_row_tells_of_every_source() -> None:
    assert all(list(row.ways) == list(SOURCES) for row in LEDGER)


def test_documents_are_up_to_date() -> None:
    finished = subprocess.run([sys.executable, UPDATE_DOCS, "--check"], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
