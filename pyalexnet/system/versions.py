"""The versions of what computes, and of what reads images: with others, a run may give other bits."""

from __future__ import annotations

from importlib.metadata import version


def versions() -> dict[str, str]:
    """Of this package, NumPy and Pillow, by name."""
    return {name: version(name) for name in ("pyalexnet", "numpy", "pillow")}
