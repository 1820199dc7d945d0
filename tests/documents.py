"""The documents, and what stands in them to be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

_SNIPPET = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_VARIABLE = re.compile(r"[A-Z_]+=\S+ ")
_COMMAND = re.compile(r"(pyalexnet|mpirun|python|pip|pytest|apt|jupyter|benchmarks/\S+|tools/\S+) ")


def name_of(document: Path) -> str:
    """How messages call a document."""
    return str(document.relative_to(ROOT))


def snippets(language: str) -> Iterator[tuple[str, str]]:
    """Each snippet of a language, with the name of its document."""
    for document in DOCUMENTS:
        for found in _SNIPPET.finditer(document.read_text(encoding="utf-8")):
            if found[1] == language:
                yield name_of(document), found[2]


def prose_of(document: Path) -> str:
    """A document without its snippets."""
    return _SNIPPET.sub("", document.read_text(encoding="utf-8"))


def commands_of_snippets() -> Iterator[tuple[str, list[str]]]:
    """The words of each command line of sh snippets, with the name of its document.

    A line goes on behind a backslash and ends with a comment; a comment may be how the file that it heads is called.
    """
    for document, snippet in snippets("sh"):
        for line in snippet.replace("\\\n", " ").splitlines():
            head = re.match(r"# \w+\.sh: (.*)", line)
            yield from ((document, words) for words in _commands_in(head[1] if head else line))
    for document, snippet in snippets("yaml"):
        for listed in re.findall(r"command: \[(.*)\]", snippet):
            yield document, [word.strip('"') for word in listed.split(", ")]


def commands_of_text() -> Iterator[tuple[str, list[str]]]:
    """Likewise of code spans of the text that begin with a program's name and a space."""
    for document in DOCUMENTS:
        for span in re.findall(r"`([^`]+)`", prose_of(document)):
            command = _VARIABLE.sub("", " ".join(span.split()))
            if _COMMAND.match(command):
                yield from ((name_of(document), words) for words in _commands_in(command))


def _commands_in(line: str) -> Iterator[list[str]]:
    for command in _VARIABLE.sub("", line).split(" && "):
        if words := shlex.split(command, comments=True):
            yield words
