"""PyTorch's DataLoader on the same files, as the benchmark's peer: every image is prepared by NumPy in its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from loader_work import Work
from pyalexnet.architecture import IMAGE_SIZE, INPUT_SIZE
from pyalexnet.data import Dataset, ImageFolder
from pyalexnet.data.prepared import PreparedImages

Pixels = npt.NDArray[np.uint8]


class TorchImages(torch.utils.data.Dataset[torch.Tensor]):
    """Item i is the image that is used as the i-th, varied in its way, float32 (227, 227, 3)."""

    def __init__(self, read: Callable[[int], Pixels], work: Work) -> None:
        """Keep how to read an image by its index, uint8 (256, 256, 3), and what to do with it."""
        self.read = read
        self.work = work

    def __len__(self) -> int:
        return len(self.work.order)

    def __getitem__(self, position: int) -> torch.Tensor:
        variations = self.work.variations
        top, left = variations.offsets[position]
        window = np.s_[top : top + INPUT_SIZE, left : left + INPUT_SIZE]
        pixels = np.subtract(self.read(self.work.order[position])[window], self.work.mean[window], dtype=np.float32)
        pixels += variations.shifts[position]
        if variations.flips[position]:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return torch.from_numpy(pixels)


def torch_batches(dataset: Dataset, work: Work, workers: int) -> Iterator[torch.Tensor]:
    """The work's batches, float32 (batch, 227, 227, 3)."""
    loader: Any = DataLoader(TorchImages(_reader(dataset), work), batch_size=work.batch, num_workers=workers)
    return iter(loader)


def _reader(dataset: Dataset) -> Callable[[int], Pixels]:
    if isinstance(dataset, ImageFolder):
        return partial(_decode, [dataset.path / file for file in dataset.names])
    assert isinstance(dataset, PreparedImages)
    shards = [np.load(dataset.path / shard.file, mmap_mode="r") for shard in dataset.shards]
    return partial(_row, shards, np.cumsum([0, *map(len, shards)]))


def _decode(files: list[Path], index: int) -> Pixels:
    with Image.open(files[index]) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def _row(shards: list[Pixels], starts: npt.NDArray[np.intp], index: int) -> Pixels:
    number = int(np.searchsorted(starts, index, side="right")) - 1
    return shards[number][index - starts[number]]
