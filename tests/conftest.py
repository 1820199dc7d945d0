"""Fixtures that every test shares."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pyalexnet
import small

# Tests send signals to programs, which inherit that these are ignored where pytest itself runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

small.shrink()

AVAILABLE = {info.name for info in pyalexnet.devices()}

# What `pytest -m smoke` runs, in under a minute: every kernel on every device, and the package's own order.
SMOKE = {
    *(
        "test_add",
        "test_algorithms",
        "test_augment",
        "test_conv",
        "test_dropout",
        "test_exchange",
        "test_linear",
        "test_lrn",
    ),
    *("test_lrn_in_map", "test_maxpool", "test_native_types", "test_package", "test_relu", "test_sgd"),
    *("test_softmax", "test_tanh"),
}

# Whole commands, runs, ranks and benchmarks, most of them in processes of their own, and what is compiled for a test:
# with single tests elsewhere that take seconds, more than half of the time. They run where their file is named, or with
# `-m long`.
LONG = {
    *("test_ablation", "test_callbacks", "test_cli", "test_cluster", "test_cluster_benchmark"),
    *("test_cluster_check", "test_emoji", "test_examples", "test_extras", "test_fine_tuning", "test_gpu_day"),
    *("test_host_time", "test_inference_benchmark", "test_interrupt", "test_ladder", "test_layer_timing"),
    *("test_loader_speed", "test_memory_use", "test_named_sets", "test_notebooks", "test_output"),
    *("test_processes", "test_progress", "test_races", "test_readable", "test_readme", "test_report"),
    *("test_resume", "test_scaling_benchmark"),
    "test_shared_work",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        on_ptx = "ptx:0" in item.name
        # There whole nets take minutes, and what sim repeats bit for bit need not be repeated.
        if on_ptx and (item.path.stem not in SMOKE or item.name.startswith("test_repeats_bit_for_bit")):
            item.add_marker(pytest.mark.slow)
        elif item.path.stem in SMOKE and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.smoke)
        if item.path.stem in LONG and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.long)
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and "long" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture
def full_size() -> Iterator[None]:
    """Nets are the paper's and the digits all there are, which :mod:`small` makes otherwise."""
    with small.full_size():
        yield


@pytest.fixture(params=["cpu:0", "sim:0", "cuda:0", "ptx:0"])
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device of each target that this machine has."""
    if request.param not in AVAILABLE:
        pytest.skip(f"no device {request.param} on this machine")
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same for each run of a test."""
    return np.random.default_rng(2012)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learned handwritten digits for one epoch, its rate divided on the way.

    It is made once for all processes in which pytest-xdist runs tests, and only read.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    out = shared / "digits" / "run"
    with open(shared / "digits.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            recipe = {"epochs": 1, "batch_size": 12, "schedule": "0.005@0,0.0005@0.75"}
            pyalexnet.train("digits", out=out, devices=["cpu:0"], progress=False, **recipe)
    return out


@pytest.fixture(scope="session")
def digits_model(digits_run: Path) -> pyalexnet.Classifier:
    """The net of that run."""
    return pyalexnet.load_model(digits_run, devices=["cpu:0"])
