"""Names of devices, and the choice of an instruction set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import pyalexnet
from pyalexnet import DeviceNotFoundError
from pyalexnet.device import backend, natives


def test_both_cpu_targets_are_always_there() -> None:
    names = {info.name for info in pyalexnet.devices()}
    assert names >= {"cpu:0", "cpu:1", "sim:0", "sim:1"}
    for info in pyalexnet.devices():
        assert 0 < info.free_bytes <= info.total_bytes
        assert info.cores >= 1
    assert {info.peers for info in pyalexnet.devices() if info.name == "cpu:0"} == {("cpu:1",)}


@pytest.mark.parametrize("name", ["gpu:0", "cpu:x", "cpu:-1", "cpu:9", "", "cpu:"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceNotFoundError, match="device is"):
        backend.get_device(name)


@pytest.mark.parametrize("name", [0, 1.5, ("cpu:0",)])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match="it must be a name"):
        backend.get_device(name)  # type: ignore[arg-type]


def test_a_target_names_its_first_device() -> None:
    assert str(backend.get_device("sim")) == "sim:0"


def test_a_target_that_was_not_built_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    built = natives.is_built
    monkeypatch.setattr(natives, "is_built", lambda name: name != "_sim" and built(name))
    assert not [info.name for info in pyalexnet.devices() if info.name.startswith("sim")]
    with pytest.raises(DeviceNotFoundError, match=r"'sim:5', but .* without the 'sim' target \(run 'pip install "):
        backend.get_device("sim:5")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


SUPPORTED = backend.native_module("cpu").supported_instruction_sets()


@pytest.mark.parametrize("instruction_set", SUPPORTED)
def test_every_instruction_set_computes(instruction_set: str) -> None:
    if not natives.is_built(f"_cpu_{instruction_set}"):
        pytest.skip(f"this build has no kernels for {instruction_set}")
    code = (
        "import numpy as np; from pyalexnet import ops; r = np.random.default_rng(0)\n"
        "x, w = (r.standard_normal(s).astype('f') for s in ((2, 13, 13, 24), (3, 3, 24, 40)))\n"
        "y = np.asarray(ops.conv2d(x, w, padding=1, relu=True))[1, 6, 7]\n"
        "e = np.maximum(np.einsum('hwc,hwck->k', x[1, 5:8, 6:9].astype('d'), w), 0)\n"
        "np.testing.assert_allclose(y, e, rtol=0, atol=1e-4)\n"  # 216 terms of size 1, eps 1e-7 each
    )
    finished = run_python(code, PYALEXNET_CPU_ISA=instruction_set)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.long
def test_environment_variables_are_checked() -> None:
    finished = run_python("import pyalexnet; pyalexnet.devices()", PYALEXNET_CPU_ISA="mmx")
    assert "PYALEXNET_CPU_ISA is 'mmx'; it must be one of" in finished.stderr
    for wrong in ("many", "0", "-1", "4097", "2.5", ""):
        finished = run_python("import pyalexnet; pyalexnet.devices()", PYALEXNET_NUM_THREADS=wrong)
        refused = f"ValueError: PYALEXNET_NUM_THREADS is {wrong!r}; it must be a whole number from 1 to 4096\n"
        assert finished.stderr.endswith(refused)
    finished = run_python("import pyalexnet; print(pyalexnet.devices()[0].cores)", PYALEXNET_NUM_THREADS="3")
    assert finished.stdout.strip() == "3", finished.stderr
