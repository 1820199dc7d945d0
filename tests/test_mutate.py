"""The mutations of tools/mutate.py fit the code as it is, so that what one shows is not lost when code moves."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_each_mutation_changes_one_place_and_names_tests_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    mutations = importlib.import_module("mutate").MUTATIONS
    for each in mutations:
        assert (ROOT / each.file).read_text(encoding="utf-8").count(each.old) == 1, each.name
        assert each.new != each.old, each.name
        tests = [part for part in each.tests.split() if part.startswith("tests/")]
        assert tests, each.name
        assert all((ROOT / path).exists() for path in tests), each.name
    assert len({each.name for each in mutations}) == len(mutations)
