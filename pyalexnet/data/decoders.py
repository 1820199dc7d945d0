"""Who decodes the images that are prepared: threads of this process, and those of other ranks, for rank 0.

Rank 0 writes the shards. Each of its threads has a decoder: one that decodes by itself, or one that asks another rank
and waits for the pixels. So a task is taken by whoever has just ended one, a slow machine takes fewer, and rank 0 holds
no more images than it has asked for. A rank finds the images where it has found them itself; an image is named by its
place among them all.
"""

from __future__ import annotations

import contextlib
import io
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

from pyalexnet.data.images import DECODING_BYTES, decode_image
from pyalexnet.data.sources import SourceImage
from pyalexnet.errors import DataError
from pyalexnet.system.interrupt import InterruptRequest
from pyalexnet.system.ranks import Ranks

Decoded: TypeAlias = bytes | str
"""An image's 256×256 pixels, or why it cannot be decoded."""

# Tasks that a rank is asked for beyond what its threads do, so that the next one is there when one ends.
_AHEAD = 1

# Tags of messages: a question, and from here on the answer to each of those that are asked at the same time.
_QUESTION, _ANSWERS = 0, 1


class Decoders:
    """Decoders of rank 0's threads.

    Attributes:
        count: how many threads they are for.
    """

    def __init__(
        self, images: Sequence[SourceImage], ranks: Ranks, workers: Sequence[int], interrupt: InterruptRequest
    ):
        """Ask nobody yet.

        Args:
            images: all that there are, of this rank.
            ranks: who decodes; this is rank 0.
            workers: how many threads each rank decodes with.
            interrupt: what may stop the work; signals to other ranks reach it too.
        """
        self._images, self._ranks, self._interrupt = images, ranks, interrupt
        own: list[Callable[[range], Iterable[Decoded]]] = [partial(decode_all, images)] * workers[0]
        others: list[Callable[[range], Iterable[Decoded]]] = [
            partial(self._asked_for, rank, place)
            for place in range(max(workers) + _AHEAD)
            for rank in range(1, ranks.size)
            if place < workers[rank] + _AHEAD
        ]
        self.count, self._workers = len(own) + len(others), sum(workers)
        self._free: queue.SimpleQueue[Callable[[range], Iterable[Decoded]]] = queue.SimpleQueue()
        for decoder in (*own, *others):
            self._free.put(decoder)

    def __str__(self) -> str:
        workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
        return workers if self._ranks.size == 1 else f"{workers} of {self._ranks.size} ranks"

    @contextlib.contextmanager
    def decoding(self, places: range) -> Iterator[Iterable[Decoded]]:
        """Images decoded by whoever is free, which is busy until the block ends.

        Args:
            places: where they are among all.

        Raises:
            OSError: an image's file cannot be read.
        """
        decoder = self._free.get()
        try:
            yield decoder(places)
        finally:
            self._free.put(decoder)

    def dismiss(self) -> None:
        """Tell the other ranks that nothing more will be asked; nobody may wait for an answer."""
        for rank in range(1, self._ranks.size):
            self._ranks.send(None, rank, _QUESTION)

    def _asked_for(self, rank: int, place: int, places: range) -> list[Decoded]:
        """What another rank answers."""
        self._ranks.send((place, places), rank, _QUESTION)
        decoded, signal = self._ranks.receive(rank, _ANSWERS + place)
        if signal is not None:
            self._interrupt.ask_to_stop(signal)
        found: list[Decoded] = decoded
        return found


def decode_for_first(images: Sequence[SourceImage], ranks: Ranks, workers: int, interrupt: InterruptRequest) -> None:
    """Decode what rank 0 asks for, until it asks no more.

    Args:
        images: all that there are, of this rank.
        ranks: who decodes; this is none of rank 0.
        workers: number of threads.
        interrupt: what asks this rank to stop, which rank 0 is told of.

    Raises:
        OSError: an image's file cannot be read.
        KeyboardInterrupt: a stop was asked for again.
    """
    answers: list[Future[None]] = []

    def look() -> None:
        """Raise what an answer failed with."""
        interrupt.take_stop_request()
        for answer in [answer for answer in answers if answer.done()]:
            answers.remove(answer)
            answer.result()

    def answer(place: int, places: range) -> None:
        ranks.send((list(decode_all(images, places)), interrupt.signal), 0, _ANSWERS + place)

    with interrupt, quiet_pillow(), ThreadPoolExecutor(workers, thread_name_prefix="pyalexnet-prepare") as threads:
        while (question := ranks.receive(0, _QUESTION, meanwhile=look)) is not None:
            answers.append(threads.submit(answer, *question))


def decode_all(images: Sequence[SourceImage], places: range) -> Iterator[Decoded]:
    """The images of some places, decoded in this thread.

    Raises:
        OSError: an image's file cannot be read.
    """
    return (_decoded(images[place]) for place in places)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Within the block nothing is said of oddities of images that can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decoded(image: SourceImage) -> Decoded:
    """An image's pixels; a file of more bytes than a picture has that could be decoded is not read, as a whole."""
    if image.size > DECODING_BYTES:
        return (
            f"its {image.size / 2**20:,.0f} MiB are too many for an image file; it may have at most "
            f"{DECODING_BYTES / 2**20:,.0f} MiB"
        )
    try:
        return decode_image(io.BytesIO(image.read())).tobytes()
    except DataError as error:
        return str(error)
