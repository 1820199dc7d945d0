"""Memory does not grow with the data: a prepared set far larger than the memory allowed is read all the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyalexnet.data import as_dataset
from pyalexnet.data.dataset import IMAGE_BYTES
from pyalexnet.data.manifest import (
    COLOUR_AXES_FILE,
    COVARIANCE_FILE,
    FORMAT,
    FORMAT_VERSION,
    LABELS_FILE,
    MANIFEST_FILE,
    MEAN_FILE,
    NAMES_FILE,
    REPORT_FILE,
)
from pyalexnet.data.shard_file import HEADER_BYTES

IMAGES, SHARDS = 8192, 4  # 1.6 GB
ALLOWED_BYTES = 512 * 2**20

STATUS = """
from pathlib import Path

def status_bytes(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
"""

# Two epochs as training reads them. What is mapped from files does not count against the limit on the process's own
# data, so the peak of all resident memory is reported too.
READER = f"""{STATUS}
import resource, sys
from pyalexnet.data import as_dataset
from pyalexnet.data.augmentation import epoch_order
from pyalexnet.data.prefetch import in_batches, read_ahead

dataset, hoard = as_dataset(sys.argv[1]), []
resource.setrlimit(resource.RLIMIT_DATA, ({ALLOWED_BYTES}, {ALLOWED_BYTES}))
read = 0
for epoch in (1, 2):
    order = epoch_order(len(dataset), seed=0, epoch=epoch)
    for images, labels in read_ahead(dataset, in_batches(order, 64)):
        read += len(images)
        if sys.argv[2] == "hoard":
            hoard.append(images)
print(read, status_bytes("VmHWM"))  # this program's own peak; ru_maxrss is the test's too
"""


@pytest.fixture
def large_set(tmp_path: Path) -> Path:
    """A prepared folder of sparse files, which take no room on the disk."""
    shards = []
    for number in range(SHARDS):
        with open(tmp_path / f"{number}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (IMAGES // SHARDS, 256, 256, 3)}
            )
            assert file.tell() == HEADER_BYTES
            file.truncate(HEADER_BYTES + IMAGES // SHARDS * IMAGE_BYTES)
        shards.append({"file": f"{number}.npy", "images": IMAGES // SHARDS, "sha256": ""})
    arrays = {
        LABELS_FILE: np.zeros(IMAGES, np.int32),
        MEAN_FILE: np.zeros((256, 256, 3), np.float32),
        COVARIANCE_FILE: np.zeros((3, 3)),
        COLOUR_AXES_FILE: np.zeros((3, 3), np.float32),
    }
    for name, values in arrays.items():
        np.save(tmp_path / name, values)
    for name in (NAMES_FILE, REPORT_FILE):
        (tmp_path / name).write_text("[]")
    files = (*arrays, NAMES_FILE, REPORT_FILE)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "settings": {},
        "source": {},
        "versions": {},
        "images": IMAGES,
        "skipped": 0,
        "passed_over": 0,
        "classes": ["all", "none"],
        "class_counts": [IMAGES, 0],
        "colour_covariance": {"eigenvalues": [0.0] * 3, "eigenvectors": [[0.0] * 3] * 3},
        "shards": shards,
        "files": {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in files},
    }
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest))
    return tmp_path


# A whole training run on the set. What the net takes is known beforehand, and a run keeps a copy of the parameters to
# go back to; beside these and what the program has once it has had a net, it may have the allowed bytes. The limit is
# one on addresses, of which the threads of a block reserve many for stacks that they hardly touch.
TRAINING = f"""{STATUS}
import resource, sys
import pyalexnet

options = {{"dropout": 0.0, "bias_init": "caffe"}}
net = pyalexnet.AlexNet(2, **options)
net_bytes = net.plan(64).total_bytes[0] + sum(value.nbytes for value in net.parameters().values())
del net

limit = status_bytes("VmData") + net_bytes + {ALLOWED_BYTES}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
result = pyalexnet.train(
    sys.argv[1], epochs=1, batch_size=64, validation=0, num_classes=2, devices=["cpu:0"], progress=False, **options
)
print(result.model.net.step, net_bytes, status_bytes("VmHWM"))
"""


def read_in_process(folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", READER, folder, mode], capture_output=True, text=True, timeout=200)


def test_a_set_three_times_as_large_as_memory_is_read(large_set: Path) -> None:
    assert len(as_dataset(large_set)) * IMAGE_BYTES >= 3 * ALLOWED_BYTES
    finished = read_in_process(large_set, "let go")
    assert finished.returncode == 0, finished.stderr
    read, peak_bytes = map(int, finished.stdout.split())
    assert read == 2 * IMAGES
    assert peak_bytes < ALLOWED_BYTES


def test_the_limit_holds(large_set: Path) -> None:
    """What the other test relies on: a process that keeps all images meets the limit."""
    finished = read_in_process(large_set, "hoard")
    assert finished.returncode != 0
    assert "MemoryError" in finished.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_net_is_trained_on_a_set_three_times_as_large_as_memory(large_set: Path) -> None:
    command = [sys.executable, "-c", TRAINING, large_set]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert finished.returncode == 0, finished.stderr
    steps, net_bytes, peak_bytes = map(int, finished.stdout.split())
    assert steps == IMAGES // 64
    assert IMAGES * IMAGE_BYTES >= 3 * ALLOWED_BYTES
    assert peak_bytes - net_bytes < ALLOWED_BYTES
