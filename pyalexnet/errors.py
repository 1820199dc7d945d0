"""What can go wrong beyond Python's own exceptions."""

from __future__ import annotations

from typing import Any


class CudaError(RuntimeError):
    """A CUDA call or kernel failed; the message names it, CUDA's error and, where known, the reason."""


class OutOfMemoryError(CudaError, MemoryError):
    """A device's memory limit was met."""


class StaleBuildError(ImportError):
    """The native modules are not there, or were built from other sources; the message says what to run."""


class MissingLibraryError(ImportError):
    """A library is not installed that only some functions need; the message has the command that brings it."""


class LauncherError(RuntimeError):
    """Several processes were started that cannot work together by MPI, or are not to; the message says what to do."""


class DeviceNotFoundError(ValueError):
    """No such device on this machine, or its target was not built."""


class DataError(ValueError):
    """Images, labels or a folder of them cannot serve as data; the message names the file or the argument."""


class ImageError(DataError):
    """An image cannot be read; the message names it, and ``on_error`` can leave it out."""


class ModelFileError(ValueError):
    """A file is no model of this package, or is damaged; the message says how."""


class SaveError(OSError):
    """A training run could not write its model; what was learned is not lost.

    Attributes:
        result: the training's :class:`pyalexnet.TrainingResult` so far; its ``save`` writes it elsewhere.
    """

    result: Any = None


class DivergedError(ArithmeticError):
    """Training met a loss that is not finite; the message says when, and what to try.

    Attributes:
        result: the training's :class:`pyalexnet.TrainingResult` as of the last whole epoch.
    """

    result: Any = None
