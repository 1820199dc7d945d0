"""Libraries that only some functions need, and which extra of the package brings each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from pyalexnet.errors import MissingLibraryError

_EXTRAS = {
    "fontTools": "emoji",
    "google": "caffe",
    "jinja2": "report",
    "matplotlib": "figures",
    "mpi4py": "mpi",
    "nvtx": "profile",
    "onnx": "onnx",
    "tensorboard": "tensorboard",
    "torch": "torch",
}

_PACKAGES = {"google": "protobuf"}
"""Those that are imported by another name than they are installed by."""


def are_installed(libraries: Iterable[str]) -> bool:
    """Whether all can be imported, as far as that shows without importing one."""
    try:
        return all(find_spec(library) is not None for library in libraries)
    except (ModuleNotFoundError, ValueError):  # what hides a library, and a module that does not tell where it is from
        return False


@contextmanager
def importing_extra() -> Iterator[None]:
    """Let the imports within tell how to get a library of an extra that is missing.

    Raises:
        MissingLibraryError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRAS:
            raise
        raise MissingLibraryError(
            f"{_PACKAGES.get(library, library)} is not installed, which this needs: "
            f"run pip install 'pyalexnet[{_EXTRAS[library]}]'",
            name=library,
        ) from error
