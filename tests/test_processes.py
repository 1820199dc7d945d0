"""Threads and processes around the kernels: many at once, those that end in the middle, those that are forked."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from calls_of_ops import CALLS, results

FORKED = """
import os, sys
import numpy as np
from pyalexnet import CudaError, ops

x = np.ones(1000, np.float32)
ops.relu(x, device=sys.argv[1])
if os.fork() == 0:
    try:
        ops.relu(x, device=sys.argv[1])
    except CudaError as error:
        os._exit(3 if "forked" in str(error) else 4)
    os._exit(5)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""

ENDED = """
import sys, threading, time
import numpy as np
from pyalexnet import Tensor, ops

x, w = np.ones((4, 32, 32, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
works = {"relu": lambda: ops.relu(x), "lrn": lambda: ops.lrn(x), "conv2d": lambda: ops.conv2d(x, w)}
work = works[sys.argv[1]]
started = threading.Semaphore(0)

def repeat():
    while True:
        work()
        started.release()

for _ in range(3):
    threading.Thread(target=repeat, daemon=True).start()
for _ in range(6):
    started.acquire()
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("operation", ["relu", "lrn", "conv2d"])
def test_daemon_threads_in_an_operation_let_python_end(operation: str) -> None:
    for _ in range(4):  # each ends somewhere else
        ended = run(ENDED, operation)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_a_forked_process_is_told_so(device: str) -> None:
    if device.startswith("cuda"):
        pytest.skip("CUDA's own words")
    assert run(FORKED, device).returncode == 3


def test_many_threads_on_one_device(device: str) -> None:
    want = [results(call(device)) for call in CALLS]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda call: results(call(device)), CALLS * 4))
    for place, got in enumerate(found):
        for expected, part in zip(want[place % len(CALLS)], got, strict=True):
            np.testing.assert_array_equal(part, expected, err_msg=str(CALLS[place % len(CALLS)]))


def test_denormal_numbers_count_as_zero(device: str) -> None:
    """As an argument and as a result; the host's threads keep theirs."""
    smallest_normal = np.finfo(np.float32).smallest_normal
    denormal = np.full(64, smallest_normal / 4, np.float32)
    w = np.full(64, 1.5 * smallest_normal, np.float32)
    zeros = np.zeros(64, np.float32)
    rates = {"lr": 1.0, "momentum": 0.5, "weight_decay": 0.0}
    for call in (
        lambda: call_of("tanh")(denormal, device=device),
        lambda: call_of("sgd_step")(w, zeros, w * np.float32(0.5) + denormal, device=device, **rates)[0],
    ):
        np.testing.assert_array_equal(results(call())[0], zeros)
    assert (denormal * np.float32(1)).all()


def call_of(name: str) -> Any:
    return next(call.operation for call in CALLS if call.name == name)
