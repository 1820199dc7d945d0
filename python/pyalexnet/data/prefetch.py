"""Batches prepared in background threads while the device computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = min(8, os.cpu_count() or 1)


def prefetch(make: Callable[[Item], Result], items: Iterable[Item], *, threads: int = _THREADS) -> Iterator[Result]:
    """``make(item)`` of every item, in the items' order, up to ``threads`` results ahead of the one in use.

    An exception in ``make`` comes out where its result would have. Threads end when the iterator does.
    """
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


def in_batches(
    indices: npt.NDArray[np.intp], batch_size: int, *, drop_last: bool = False
) -> Iterator[npt.NDArray[np.intp]]:
    """Successive parts of ``indices``; ``drop_last`` leaves out a last part smaller than ``batch_size``."""
    end = len(indices) - len(indices) % batch_size if drop_last else len(indices)
    for start in range(0, end, batch_size):
        yield indices[start : start + batch_size]
