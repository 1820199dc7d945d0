"""What started this process, as far as its environment tells: one of several that a launcher started, or alone.

MPI itself is asked only where a launcher has started this process, since asking makes it part of a world of processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pyalexnet.errors import LauncherError

# Where each kind of launcher says how many processes it started. An inner one comes before what it was started by:
# mpirun passes on what Slurm said of the whole job.
_SIZES = {
    "Open MPI's mpirun": "OMPI_COMM_WORLD_SIZE",
    "an MPI launcher": "PMI_SIZE",
    "MVAPICH's launcher": "MV2_COMM_WORLD_SIZE",
}

# A job step's own number comes before the whole job's, which the job's script is told too.
_SLURM_STEP, _SLURM_JOB = "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"


@dataclass(frozen=True)
class Launch:
    """A launcher that MPI can be asked about.

    Attributes:
        launcher: its name, for messages.
        size: how many processes it says that it started; None where it does not say.
    """

    launcher: str
    size: int | None


def launch(environment: Mapping[str, str] | None = None, *, of_job: bool = True) -> Launch | None:
    """The launcher of this process; None where it is alone.

    Args:
        environment: variables by name; by default the process's own.
        of_job: whether a process counts as one of several, too, that may be the script of a job of several tasks: what
            all tasks could share would be done by one of them there.

    Raises:
        LauncherError: one of several processes was started that cannot find each other by MPI; the message says how to
            start them.
    """
    known = os.environ if environment is None else environment
    for launcher, variable in _SIZES.items():
        if variable in known:
            return Launch(launcher, _number(known, variable))
    sizes = (_SLURM_STEP, _SLURM_JOB) if of_job else (_SLURM_STEP,)
    tasks = next((_number(known, variable) for variable in sizes if variable in known), None)
    if "PMIX_RANK" in known or "PMI_RANK" in known:
        return Launch("Slurm" if tasks else "an MPI launcher", tasks)
    if tasks and tasks > 1:
        raise LauncherError(
            f"Slurm's job has {tasks} tasks, of which each would do all of the work: they were started without MPI. In "
            "the job's script start them by srun --mpi=pmix (srun --mpi=list tells what there is) or by mpirun; to "
            "work in one process, ask for --ntasks=1"
        )
    if "RANK" in known and (size := _number(known, "WORLD_SIZE") or 1) > 1:
        raise LauncherError(
            f"RANK and WORLD_SIZE say that this is one of {size} processes of a launcher such as torchrun, which "
            "starts them without MPI; start them by mpirun -n N, or by srun --mpi=pmix"
        )
    return None


def _number(known: Mapping[str, str], variable: str) -> int | None:
    text = known.get(variable, "")
    return int(text) if text.isdecimal() else None
