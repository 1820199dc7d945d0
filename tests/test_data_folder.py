"""Folders of image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyalexnet.data import ImageFolder
from pyalexnet.errors import DataError


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def plain(mode: str, colour: object, size: tuple[int, int] = (300, 280)) -> Image.Image:
    return Image.new(mode, size, colour)


def test_subfolders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "b.PNG", plain("RGB", (2, 2, 2)), format="png")
    save(tmp_path / "dog" / "a.jpeg", plain("RGB", (1, 1, 1)), format="jpeg")
    save(tmp_path / "cat" / "c.png", plain("RGB", (3, 3, 3)))
    (tmp_path / "cat" / "notes.txt").write_text("passed over")
    (tmp_path / "cat" / ".hidden.png").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.names == ["cat/c.png", "dog/a.jpeg", "dog/b.PNG"]
    images, labels = dataset.batch(np.array([2, 0]))
    assert labels.tolist() == [1, 0]
    assert images[:, 0, 0, 0].tolist() == [2, 3]


def test_folders_that_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no subfolders"):
        ImageFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="cat has no images"):
        ImageFolder(tmp_path)
