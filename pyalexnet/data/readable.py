"""Images that cannot be read: they stop what needs them, or are left out, by name, before it begins.

One pass over a data set finds them. What is left is a data set like any other, so that order, split and statistics are
those of a folder in which the broken files had never been.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.data.dataset import Dataset, image_names
from pyalexnet.data.prefetch import shared_out
from pyalexnet.data.prepared import PreparedImages
from pyalexnet.data.subset import Subset, whole
from pyalexnet.errors import DataError, ImageError
from pyalexnet.system.checks import require
from pyalexnet.system.ranks import ALONE, Ranks

StopOrSkip: TypeAlias = Literal["stop", "skip"]
OnError: TypeAlias = StopOrSkip | Callable[[DataError], None]
"""What an image does that cannot be read: stop; be left out, with a warning; or that, and its error is handed over."""

_PART = 8  # images that a thread reads at a time
_NAMED = 10


def require_on_error(on_error: object) -> None:
    """Refuse what is no :data:`OnError`.

    Raises:
        ValueError: it is none.
    """
    if not callable(on_error):
        require_stop_or_skip(on_error)


def require_stop_or_skip(on_error: object) -> None:
    """Refuse what is no :data:`StopOrSkip`.

    Raises:
        ValueError: it is none.
    """
    choices = get_args(StopOrSkip)
    require(on_error in choices, "on_error", on_error, " or ".join(map(repr, choices)))


def readable(
    dataset: Dataset,
    on_error: OnError,
    *,
    on_stage: Callable[[str, int], None] = lambda _stage, _count: None,
    on_images: Callable[[int], None] = lambda _count: None,
    ranks: Ranks = ALONE,
) -> Dataset:
    """A data set without the images that cannot be read, if they are to be left out.

    Ranks share the looking at them; rank 0 alone says what it found.

    Args:
        dataset: the images.
        on_error: what becomes of them.
        on_stage: called with what begins, if that takes time, and how many images it will go through.
        on_images: called with the number of images done since the last call, by all ranks together.
        ranks: those that share the images, each with the same data.

    Raises:
        DataError: none can be read.
        ValueError: ``on_error`` is none.
    """
    require_on_error(on_error)
    if on_error == "stop" or _is_read_already(dataset):
        return dataset
    on_stage("checking the images", len(dataset))
    errors = find_unreadable(dataset, on_images, ranks)
    with reported(on_error, depth=2, ranks=ranks) as report:
        for error in errors.values():
            report(error)
    return without(dataset, errors)


@contextmanager
def reported(on_error: OnError, depth: int = 1, ranks: Ranks = ALONE) -> Iterator[Callable[[DataError], None]]:
    """What to call with each error that is met: it raises it, or lets the image be left out.

    Of ranks all must call it, with the same errors; what the user has to be told or asked, rank 0 does.

    Args:
        on_error: what becomes of the images.
        depth: how many calls below the user's this is, whose line a warning names.
        ranks: those that met the errors.

    Raises:
        DataError: the error, where it is to stop.
        ValueError: ``on_error`` is none.
    """
    require_on_error(on_error)
    if callable(on_error):
        yield lambda error: ranks.from_first(lambda: on_error(error))
        return
    skipped: list[str] = []

    def report(error: DataError) -> None:
        if on_error == "stop":
            raise error
        skipped.append(str(error))

    yield report
    if skipped and ranks.is_first:
        warnings.warn("\n".join(describe_unreadable(skipped)), stacklevel=3 + depth)


def describe_unreadable(errors: Sequence[str]) -> list[str]:
    """Lines that count and name the images that were left out as they cannot be read; of many the first."""
    if not errors:
        return []
    more = [f"and {len(errors) - _NAMED:,} more"] if len(errors) > _NAMED else []
    return [f"{len(errors):,} {'image is' if len(errors) == 1 else 'images are'} left out:", *errors[:_NAMED], *more]


def find_unreadable(
    dataset: Dataset, on_images: Callable[[int], None] = lambda _count: None, ranks: Ranks = ALONE
) -> dict[int, ImageError]:
    """The indices of the images that cannot be read, in order, with the errors; arguments as of :func:`readable`.

    Raises:
        DataError: none can be read.
    """
    if _is_read_already(dataset):
        return {}

    def errors_in(part: npt.NDArray[np.intp]) -> list[tuple[int, ImageError]]:
        try:
            dataset.batch(part)
        except ImageError as error:
            if len(part) == 1:
                return [(int(part[0]), error)]
            return [found for start in range(len(part)) for found in errors_in(part[start : start + 1])]
        return []

    found: dict[int, ImageError] = {}
    for errors in shared_out(errors_in, len(dataset), _PART, on_images=on_images, ranks=ranks):
        found.update(errors)
    if len(found) == len(dataset):
        raise DataError(f"none of the {len(dataset):,} images can be read; the first: {found[0]}")
    return found


def without(dataset: Dataset, indices: Iterable[int]) -> Dataset:
    """A data set without the images of these indices; itself, where there are none."""
    left_out = np.array(list(indices), np.intp)
    return Subset(dataset, np.delete(np.arange(len(dataset)), left_out)) if len(left_out) else dataset


def indices_of(dataset: Dataset, names: Iterable[str]) -> list[int]:
    """Where the images of these names are, as far as they are there."""
    wanted = set(names)
    return [index for index, name in enumerate(image_names(dataset)) if name in wanted] if wanted else []


def _is_read_already(dataset: Dataset) -> bool:
    return isinstance(whole(dataset), ImageArrays | PreparedImages)
