"""The native modules: which are there, and whether they were built from the sources that lie beside this package.

In a checkout the package is Python alone: the native modules lie where it was installed, or where ``tools/develop.py``
put them. Kernels of other sources than one reads would be a riddle, so they are refused.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pyalexnet.device.native import CoresModule, NativeModule, PtxModule
from pyalexnet.errors import StaleBuildError
from pyalexnet.system.machine import memory_bytes, threads_to_use

_CHECKOUT = Path(__file__).resolve().parents[2]
_SOURCE_SUFFIXES = (".cpp", ".cu", ".cuh", ".h")


def is_built(name: str) -> bool:
    """Whether there is a native module of that name, such as ``_sim``."""
    return importlib.util.find_spec(f"pyalexnet.{name}") is not None


# A module is configured once, whichever thread asks for it first.
_loading = threading.Lock()


def load(name: str) -> NativeModule:
    """A native module, ready for use.

    Raises:
        StaleBuildError: it does not go with this package; the message names the command that builds it anew.
        ValueError: a variable of the environment that says how to use it has no such value.
    """
    with _loading:
        return _loaded(name)


@functools.cache
def _loaded(name: str) -> NativeModule:
    try:
        module = importlib.import_module(f"pyalexnet.{name}")
    except ImportError as error:
        raise StaleBuildError(f"the native module {name} cannot be loaded ({error}); {what_to_run()}") from error
    expected = digest_of_sources()
    if expected is not None and getattr(module, "source_digest", None) != expected:
        raise StaleBuildError(
            f"{module.__file__} was built from other sources than those in {_CHECKOUT / 'src'}; {what_to_run()}"
        )
    if name == "_ptx":
        cast(PtxModule, module).set_architecture(_architecture_to_execute(module.architectures()))
    if name != "_cuda":
        cast(CoresModule, module).configure(threads_to_use(), memory_bytes())
    return cast(NativeModule, module)


def what_to_run() -> str:
    """How to get native modules that go with this package."""
    if digest_of_sources() is None:
        return "run 'pip install --force-reinstall PATH' with the checkout or wheel that pyalexnet was installed from"
    return f"run 'pip install {_CHECKOUT}', or tools/develop.py"


def _architecture_to_execute(built: Sequence[int]) -> int:
    asked = os.environ.get("PYALEXNET_PTX_ARCHITECTURE", str(built[0]))
    known = [str(architecture) for architecture in built]
    if asked not in known:
        raise ValueError(f"PYALEXNET_PTX_ARCHITECTURE is {asked!r}; this module has PTX for {', '.join(known)}")
    return int(asked)


@functools.cache
def digest_of_sources() -> str | None:
    """What ``cmake/source_digest.cmake`` writes into native modules; None where no sources lie beside the package."""
    if not (_CHECKOUT / "src" / "kernels").is_dir():
        return None
    files = [path for path in (_CHECKOUT / "src").rglob("*") if path.suffix in _SOURCE_SUFFIXES and path.is_file()]
    names = {path.relative_to(_CHECKOUT).as_posix(): path for path in files}
    lines = (f"{name} {hashlib.sha256(names[name].read_bytes()).hexdigest()}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
