"""Names of classes and files: shown, compared, refused."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyalexnet.errors import DataError
from pyalexnet.system.names import as_class, distinct_classes, printable, require_text

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # surrogates too


@given(st.binary().map(os.fsdecode) | ANY_TEXT)
def test_a_name_is_shown_as_text_without_control_characters(name: str) -> None:
    shown = printable(name)
    shown.encode()
    assert shown.isprintable()
    assert shown == name or not name.isprintable()


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    name = os.fsdecode(b"caf\xe9\n.jpg")
    assert printable(name) == r"caf\xe9\n.jpg"
    with pytest.raises(DataError, match=r"the class is 'caf\\xe9\\n\.jpg', which is no UTF-8; rename it"):
        require_text(name, "the class")


@given(st.lists(st.text(), unique_by=lambda name: unicodedata.normalize("NFC", name)))
def test_names_that_differ_are_kept_in_nfc(names: list[str]) -> None:
    found = distinct_classes((unicodedata.normalize("NFD", name) for name in names), "it")
    assert found == distinct_classes(names, "it") == tuple(map(as_class, names))


def test_names_that_are_equal_are_refused() -> None:
    with pytest.raises(DataError, match="the folder names the class 'a' 3 times; class names must differ"):
        distinct_classes(["a", "b", "a", "a"], "the folder")
    with pytest.raises(DataError, match=r"the class 'café' as 'caf\\xe9' and as 'cafe\\u0301'"):
        distinct_classes(["caf\xe9", "cafe\u0301"], "the folder")
    with pytest.raises(DataError, match="a class whose name is"):
        distinct_classes([os.fsdecode(b"\xff")], "the folder")
    assert distinct_classes(["Cat", "cat"], "the folder") == ("Cat", "cat")
