"""What tools/sanitize.py names is there, so that what it shows is not lost when code or tests move."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from cpp_programs import case_names

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sanitize(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("sanitize")


def test_each_planted_fault_changes_one_place_and_names_tests_that_are_there(sanitize: ModuleType) -> None:
    for name, sanitizer in sanitize.SANITIZERS.items():
        assert sanitizer.faults, name
        for fault in sanitizer.faults:
            assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.old) == 1, fault.name
            assert fault.new != fault.old, fault.name
            tests = [part for part in fault.tests.split() if part.startswith("tests/")]
            assert tests, fault.name
            assert all(is_there(test) for test in tests), fault.name


def test_the_tests_that_run_are_there(sanitize: ModuleType) -> None:
    for test in sanitize.TESTS:
        assert is_there(test), test


def test_cases_that_are_left_out_are_there(sanitize: ModuleType) -> None:
    cases = set(case_names(*(ROOT / "tests" / "hostcuda").glob("*.cpp")))
    for sanitizer in sanitize.SANITIZERS.values():
        assert cases.issuperset(sanitizer.not_for_it)


def is_there(test: str) -> bool:
    """Whether pytest's name of a test, FILE or FILE::FUNCTION[PARAMETERS], has its file and function."""
    file, _, function = test.partition("::")
    path = ROOT / file
    return path.exists() and f"def {function.partition('[')[0]}" in path.read_text(encoding="utf-8")
