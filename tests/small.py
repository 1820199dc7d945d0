"""What most tests train is small: nets with few hidden units, and the first of the handwritten digits.

Filling, updating, writing and reading 230 MB of weights would take most of the time of a short run, and it is the same
code for 20. Tests of the layers themselves ask for the paper's net by the fixture ``full_size``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyalexnet import architecture
from pyalexnet.data import Digits

HIDDEN_UNITS, DIGITS = 256, 240

# The same in a program of its own: what it begins with, and the command line as `python -m pyalexnet.cli` is.
SMALL = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import small; small.shrink()\n"
SMALL_CLI = [sys.executable, "-c", f"{SMALL}from pyalexnet.cli import main; sys.exit(main())"]

_FULL = architecture.HIDDEN_UNITS, Digits.__init__


def _few_digits(self: Digits) -> None:
    _FULL[1](self)
    self.images, self.labels = self.images[:DIGITS], self.labels[:DIGITS]


def shrink() -> None:
    """Make this process's nets and digits small."""
    architecture.HIDDEN_UNITS, Digits.__init__ = HIDDEN_UNITS, _few_digits  # type: ignore[method-assign]


@contextmanager
def full_size() -> Iterator[None]:
    """Within a ``with`` block, nets are the paper's and the digits all there are."""
    architecture.HIDDEN_UNITS, Digits.__init__ = _FULL  # type: ignore[method-assign]
    try:
        yield
    finally:
        shrink()
