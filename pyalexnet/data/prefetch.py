"""Batches prepared in background threads while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE
from pyalexnet.data.dataset import Dataset
from pyalexnet.system.machine import usable_cores
from pyalexnet.system.ranks import ALONE, Ranks

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Batches that are read ahead of the one in use."""

_MOST_THREADS, _MOST_READERS = 8, 32
_PART = 8  # images: enough to make a part's own costs small, few enough for all threads to share a batch


def read_ahead(
    dataset: Dataset,
    batches: Iterable[npt.NDArray[np.intp]],
    *,
    buffers: Sequence[npt.NDArray[np.uint8]] = (),
    threads: int | None = None,
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]]:
    """Images and labels of one batch after the other, read in background threads while the last one is in use.

    All threads read one batch together before they begin the next: the first comes soon, and memory is taken for
    :data:`AHEAD` + 1 batches, however many threads, cores or images there are. An error in reading comes out in place
    of its batch. Threads end when the iterator does.

    Args:
        dataset: what is read.
        batches: the indices of each batch, intp (n,).
        buffers: AHEAD + 1 arrays, uint8 (at least n, 256, 256, 3), that the images are read into by turns, so that a
            batch is there only until the next one is asked for; without any, each batch has new arrays.
        threads: how many read at the same time; by default as many as there are cores to use.

    Yields:
        uint8 (n, 256, 256, 3) and int32 (n,).

    Raises:
        DataError: an image cannot be read.
    """
    threads = min(_MOST_READERS, usable_cores()) if threads is None else threads
    with ThreadPoolExecutor(threads, thread_name_prefix="pyalexnet-data") as pool:
        pending: deque[_BatchInReading] = deque()
        try:
            for number, indices in enumerate(batches):
                # The buffer's last batch was in use until this one was asked for.
                images = buffers[number % (AHEAD + 1)][: len(indices)] if buffers else _new_images(len(indices))
                pending.append(_BatchInReading(dataset, indices, images, pool))
                if len(pending) > AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _BatchInReading:
    """A batch whose parts are read by the threads of a pool."""

    def __init__(
        self,
        dataset: Dataset,
        indices: npt.NDArray[np.intp],
        images: npt.NDArray[np.uint8],
        pool: ThreadPoolExecutor,
    ) -> None:
        self.images = images
        self.labels = np.empty(len(indices), np.int32)

        def read(part: slice) -> None:
            self.images[part], self.labels[part] = dataset.batch(indices[part])

        parts = [slice(start, start + _PART) for start in range(0, len(indices), _PART)]
        self.parts = [pool.submit(read, part) for part in parts]

    def result(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Wait for all parts."""
        for part in self.parts:
            part.result()
        return self.images, self.labels


def _new_images(count: int) -> npt.NDArray[np.uint8]:
    return np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)


def prefetch(make: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None) -> Iterator[Result]:
    """``make(item)`` of every item, in the items' order, up to ``threads`` results ahead of the one in use.

    By default there are as many threads as cores to use, eight at most.

    An exception in ``make`` comes out where its result would have. Threads end when the iterator does.
    """
    threads = min(_MOST_THREADS, usable_cores()) if threads is None else threads
    with ThreadPoolExecutor(threads, thread_name_prefix="pyalexnet-data") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(make, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def shared_out(
    make: Callable[[npt.NDArray[np.intp]], Result],
    count: int,
    part_size: int,
    *,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> Iterator[Result]:
    """``make(part)`` of successive parts of images' indices, as :func:`prefetch` gives it.

    Ranks take parts by turns, and each has the results of all.

    Args:
        make: what is done with a part, intp (n,).
        count: of images.
        part_size: images a part.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: who share the parts.

    Raises:
        ValueError: ``count`` is another one on another rank.
    """
    ranks.agree({"the number of images": count})
    parts = list(in_batches(np.arange(count), part_size))
    own = prefetch(make, parts[ranks.rank :: ranks.size])
    sizes = map(len, parts)
    for of_round in ranks.in_rounds(own, len(parts)):
        for result in of_round:
            yield result
            on_images(next(sizes))


def in_batches(
    indices: npt.NDArray[np.intp], batch_size: int, *, drop_last: bool = False
) -> Iterator[npt.NDArray[np.intp]]:
    """Successive parts of ``indices``; ``drop_last`` leaves out a last part smaller than ``batch_size``."""
    end = len(indices) - len(indices) % batch_size if drop_last else len(indices)
    for start in range(0, end, batch_size):
        yield indices[start : start + batch_size]


def batch_count(images: int, batch_size: int) -> int:
    """How many parts :func:`in_batches` makes of so many images."""
    return -(-images // batch_size)
