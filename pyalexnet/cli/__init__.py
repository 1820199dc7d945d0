"""The command ``pyalexnet``: one file a subcommand, which adds its arguments and runs it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TextIO

from pyalexnet.cli import (
    ablate,
    convert,
    devices,
    evaluate,
    features,
    figure,
    layers,
    neighbours,
    predict,
    prepare,
    report,
    similarity,
    time,
    train,
    verify,
)
from pyalexnet.cli.parser import CommandParser
from pyalexnet.cli.status import FAILED, WRONG_INPUT, ended_by
from pyalexnet.errors import CudaError, LauncherError
from pyalexnet.system.interrupt import Terminated, terminated_by_signal
from pyalexnet.system.launcher import launch
from pyalexnet.system.names import printable
from pyalexnet.system.progress import let_go, tell
from pyalexnet.system.ranks import ALONE, Ranks, is_said_elsewhere, join_ranks, working_alone

# What a system says of a path that cannot serve, where it is not the system that fails.
_WRONG_PATH = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
}

_COMMANDS = (
    prepare,
    train,
    evaluate,
    predict,
    features,
    neighbours,
    similarity,
    figure,
    report,
    convert,
    verify,
    ablate,
    layers,
    time,
    devices,
)

# What several processes share that a launcher of MPI started; everything else is for one.
_SHARED = ("prepare", "train", "evaluate", "predict", "features")

_DESCRIPTION = """\
AlexNet, the image classifier of 2012, on hand-written CUDA kernels that run on GPUs and on CPU cores.

examples:
  pyalexnet train                                learn handwritten digits: nothing to download, a few minutes
  pyalexnet train photos --out run --epochs 30   learn from photos/cat/*.jpg, photos/dog/*.jpg, ...
  pyalexnet prepare ILSVRC2012_img_train.tar set bring a large data set to 256×256 once, for fast training
  pyalexnet evaluate run                         how often the model is right on the images that it held out
  pyalexnet evaluate run test --views 10         how often it is right on test/cat/*.jpg, ...
  pyalexnet predict run a.jpg more_photos        what a.jpg and the images in more_photos show
  pyalexnet features run fc7.npz                 fc7's 4096 numbers of every training image
  pyalexnet neighbours run photos a.jpg          the photos most like a.jpg
  pyalexnet similarity run other_run             how alike the layers of two nets are
  pyalexnet figure filters run filters.png       conv1's filters, tower 0 above tower 1
  pyalexnet report run report.html               all about a run in one file
  pyalexnet convert run alexnet.onnx             the model for ONNX Runtime; .pth for PyTorch, .caffemodel
  pyalexnet verify model.safetensors             whether a model file is whole and computes here what it should
  pyalexnet ablate fashion-mnist                 ReLU against tanh, LRN on and off, ...: what each brings
  pyalexnet layers --format csv                  shapes, windows, parameters and multiply-adds of each layer
  pyalexnet time --batch-size 32                 how long each layer of a training step takes here
  pyalexnet devices                              where a net can run on this machine

`pyalexnet COMMAND --help` explains a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own).

    Returns:
        Exit status: 0; 1 if the computer or the training failed; 2 if an argument or a file is wrong; 128 and the
        signal's number after Ctrl-C and signals that ask to end, and SIGPIPE's where nobody reads the output on.
    """
    _occupy_standard_descriptors()
    with contextlib.redirect_stdout(_whole(sys.stdout)), contextlib.redirect_stderr(_whole(sys.stderr)):
        try:
            return _run(arguments)
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    let_go(stream)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parsed(arguments)
    except BrokenPipeError:
        return ended_by(signal.SIGPIPE)
    except OSError as error:
        tell(f"pyalexnet: {_message(error)}", on_stderr=True)
        return FAILED
    try:
        with terminated_by_signal(), (ranks := _ranks_for(options)).ending_together():
            status = _carried_out(options, ranks)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as error:
        if not is_said_elsewhere(error):
            tell("pyalexnet: interrupted", on_stderr=True)
        return ended_by(error.signal if isinstance(error, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        return ended_by(signal.SIGPIPE)
    except (
        CudaError,
        LauncherError,
        ArithmeticError,
        OSError,
        ValueError,
        TypeError,
        ImportError,
        MemoryError,
    ) as error:
        if options.debug:
            raise
        if not is_said_elsewhere(error):
            tell(f"pyalexnet {options.command}: {_message(error)}", on_stderr=True)
        return _exit_status(error)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What a command line asks for.

    Raises:
        SystemExit: it is wrong, or asked for no more than help or the version.
        OSError: these cannot be written.
    """
    try:
        return _parser().parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()
        raise


def _ranks_for(options: argparse.Namespace) -> Ranks:
    """The processes that carry out a command, or are to be told that it is for one of them.

    Raises:
        LauncherError: there are several that cannot find each other.
        MissingLibraryError: a launcher started this process, and mpi4py is not installed.
    """
    if options.command in _SHARED:
        return join_ranks()
    launched = launch(of_job=False)
    return ALONE if launched is None or launched.size == 1 else join_ranks()


def _carried_out(options: argparse.Namespace, ranks: Ranks) -> int:
    """A command's exit status, once it is done, by all ranks together or by a process alone.

    Raises:
        LauncherError: it is for one process, and there are several.
    """
    if options.command in _SHARED:
        return int(options.run(options))
    if ranks.size > 1:
        raise LauncherError(
            f"it is done by one process, and a launcher started {ranks.size}: start it without one. What several share "
            f"is {', '.join(_SHARED[:-1])} and {_SHARED[-1]}"
        )
    with working_alone():
        return int(options.run(options))


def _message(error: Exception) -> str:
    """What went wrong, in one line but for CUDA's errors, which may have a table of memory in them."""
    if isinstance(error, CudaError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return printable(f"{name}{error.strerror}")
    return printable(str(error)) or type(error).__name__


def _occupy_standard_descriptors() -> None:
    """Where the program was started without standard streams, let none of its files take their numbers.

    What takes them can be neither read nor written, so that output fails as on a closed descriptor.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - open until the process ends, as the next one
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _whole(stream: TextIO) -> TextIO:
    """A standard stream that writes all that it is given, or fails.

    A name that its encoding has not is no reason to. Where Python does without buffers (``-u``, PYTHONUNBUFFERED), it
    drops without a word what a disk that fills up does not take of a text; there a buffer is written at each new line.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if isinstance(stream.buffer, io.RawIOBase):
        return open(stream.fileno(), "w", 1, stream.encoding, "backslashreplace", closefd=False)
    stream.reconfigure(errors="backslashreplace")
    return stream


def _exit_status(error: Exception) -> int:
    wrong_input = isinstance(error, ValueError | TypeError | FileNotFoundError | FileExistsError | NotADirectoryError)
    return WRONG_INPUT if wrong_input or getattr(error, "errno", None) in _WRONG_PATH else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="pyalexnet", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pyalexnet {version('pyalexnet')}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add(commands)
    return parser
