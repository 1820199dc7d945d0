"""How tests start several processes that MPI brings together."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from rank_programs import OF_OPEN_MPI as OF_OPEN_MPI

SEARCHED = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
_MPIRUN = shutil.which("mpirun", path=SEARCHED)

NEEDS_MPI = pytest.mark.skipif(
    not (_MPIRUN and importlib.util.find_spec("mpi4py")), reason="needs mpi4py and Open MPI's mpirun"
)


def command(ranks: int, *program: str) -> list[str]:
    """What starts so many of a program; one is a process alone, that nobody launches."""
    return [*program] if ranks == 1 else [str(_MPIRUN), "-n", str(ranks), *program]


def lines_of(pattern: str, errors: str) -> list[Any]:
    """The lines that processes wrote by a pattern, or its groups.

    Where one of them aborts, mpirun says so in pieces, of which the last is a NUL, right before what comes next.
    """
    return re.findall(rf"^[\0 ]?{pattern}$", errors, re.MULTILINE)
