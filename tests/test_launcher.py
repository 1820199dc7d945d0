"""What started a process is told by its environment, and what cannot be served is refused with what to do."""

from __future__ import annotations

import re

import pytest

from pyalexnet.errors import LauncherError
from pyalexnet.system.launcher import Launch, launch


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"PATH": "/bin"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "0"}, Launch("Open MPI's mpirun", 4)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Launch("Open MPI's mpirun", 2)),
        ({"PMI_SIZE": "3", "PMI_RANK": "1"}, Launch("an MPI launcher", 3)),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2", "PMIX_RANK": "1"}, Launch("Slurm", 2)),
        ({"PMIX_RANK": "0"}, Launch("an MPI launcher", None)),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"WORLD_SIZE": "4"}, None),  # as any program may call something
    ],
)
def test_launchers(environment: dict[str, str], expected: Launch | None) -> None:
    assert launch(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2"}, "Slurm's job has 4 tasks.*srun --mpi=pmix.*--ntasks=1"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "4"}, "Slurm's job has 2 tasks"),
        ({"RANK": "1", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, "one of 8 processes.*torchrun.*mpirun -n N"),
    ],
)
def test_processes_that_cannot_find_each_other(environment: dict[str, str], message: str) -> None:
    with pytest.raises(LauncherError, match=re.compile(message)):
        launch(environment)


@pytest.mark.parametrize(
    ("environment", "is_alone"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, False),
        ({"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "4"}, False),
    ],
)
def test_the_script_of_a_job_may_do_what_is_for_one_process(environment: dict[str, str], is_alone: bool) -> None:
    try:
        assert (launch(environment, of_job=False) is None) == is_alone
    except LauncherError:
        assert not is_alone
