"""Fixtures that every test shares."""

from __future__ import annotations

import numpy as np
import pytest

import pyalexnet

AVAILABLE = {info.name for info in pyalexnet.devices()}


@pytest.fixture(params=["cpu:0", "sim:0", "cuda:0"])
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device of each target that this machine has."""
    if request.param not in AVAILABLE:
        pytest.skip(f"no device {request.param} on this machine")
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same for each run of a test."""
    return np.random.default_rng(2012)
