"""Images in memory once they are decoded: a photograph takes about as long to decode as to be learned from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import IMAGE_BYTES, Dataset, fingerprint, image_names, remarks_on
from pyalexnet.data.subset import whole


class KeptImages:
    """A data set whose images are decoded once each, as far as there is room for them; else it is the same.

    Its memory is taken by and by, as images come.

    Attributes:
        dataset: the data set.
        room: how many images are kept, the first ones.
    """

    def __init__(self, dataset: Dataset, room: int) -> None:
        """Keep at most ``room`` images."""
        self.dataset = dataset
        self.room = min(room, len(dataset))
        self._pixels = np.empty((self.room, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        self._is_kept = np.zeros(len(dataset), bool)

    @property
    def classes(self) -> tuple[str, ...]:
        """The data set's."""
        return self.dataset.classes

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The data set's."""
        return self.dataset.labels

    @property
    def names(self) -> list[str]:
        """The data set's."""
        return image_names(self.dataset)

    @property
    def remarks(self) -> list[str]:
        """The data set's."""
        return remarks_on(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`. Threads that need the same image at once both decode it."""
        kept = self._is_kept[indices]
        images = np.empty((len(indices), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        images[kept] = self._pixels[indices[kept]]
        if not kept.all():
            images[~kept], _ = self.dataset.batch(indices[~kept])
            new = ~kept & (indices < self.room)
            self._pixels[indices[new]] = images[new]
            self._is_kept[indices[new]] = True
        return images, self.labels[indices]

    def fingerprint(self) -> str | None:
        """See :class:`pyalexnet.data.Dataset`."""
        return fingerprint(self.dataset)


def keep_decoded(dataset: Dataset, room_bytes: int) -> Dataset:
    """A data set that keeps in so much memory what it decodes; itself, where it decodes nothing or there is no room."""
    room = room_bytes // IMAGE_BYTES
    return KeptImages(dataset, room) if getattr(whole(dataset), "decodes", False) and room > 0 else dataset
