"""Modules that import statements find by a shorter name than their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class ShortNames(MetaPathFinder, Loader):
    """Finds a module of a package by a short name, once it is on :data:`sys.meta_path`: the same module, not a copy.

    Args:
        package: the package's name.
        modules: full names by short ones.
    """

    def __init__(self, package: str, modules: Mapping[str, str]) -> None:
        self._modules = {f"{package}.{short}": full for short, full in modules.items()}
        self._own: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What stands for a short name; None for all others."""
        return ModuleSpec(name, self) if name in self._modules else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, imported where it was not yet."""
        module = import_module(self._modules[spec.name])
        self._own[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give back what describes the module, over which the import system has written the short name's."""
        assert module.__spec__ is not None
        module.__spec__ = self._own[module.__spec__.name]


def install(package: str, modules: Mapping[str, str]) -> None:
    """Let ``import`` find the modules, behind all that is found without this."""
    sys.meta_path.append(ShortNames(package, modules))
