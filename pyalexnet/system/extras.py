"""Libraries that only some functions need, and which extra of the package brings each."""

from __future__ import annotations

from pyalexnet.errors import MissingLibraryError

_EXTRAS = {
    "fontTools": "emoji",
    "jinja2": "report",
    "matplotlib": "figures",
    "scipy": "emoji",
    "tensorboard": "tensorboard",
}


def missing(error: ModuleNotFoundError) -> ImportError:
    """What to raise where a library cannot be imported: how to get it, or the error itself for any other library."""
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
        return error
    return MissingLibraryError(
        f"{library} is not installed, which this needs: run pip install 'pyalexnet[{_EXTRAS[library]}]'", name=library
    )
