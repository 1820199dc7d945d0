"""The command ``pyalexnet``: one file a subcommand, which adds its arguments and runs it."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pyalexnet.cli import ablate, devices, evaluate, features, figure, neighbours, predict, prepare, report, train
from pyalexnet.cli.parser import CommandParser
from pyalexnet.cli.status import FAILED, INTERRUPTED, TERMINATED, WRONG_INPUT
from pyalexnet.data.names import printable
from pyalexnet.errors import CudaError
from pyalexnet.interrupt import Terminated

# What a system says of a path that cannot serve, where it is not the system that fails.
_WRONG_PATH = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
}

_COMMANDS = (prepare, train, evaluate, predict, features, neighbours, figure, report, ablate, devices)

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
  pyalexnet figure filters run filters.png       conv1's filters, tower 0 above tower 1
  pyalexnet report run report.html               all about a run in one file
  pyalexnet ablate fashion-mnist                 ReLU against tanh, LRN on and off, ...: what each brings
  pyalexnet devices                              where a net can run on this machine

`pyalexnet COMMAND --help` explains a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own).

    Returns:
        Exit status: 0; 1 if the computer or the training failed; 2 if an argument or a file is wrong; 130
        after Ctrl-C, 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that its encoding has not is no reason to fail
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt as error:
        print("pyalexnet: interrupted", file=sys.stderr)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except (CudaError, ArithmeticError, OSError, ValueError, TypeError, ImportError) as error:
        if options.debug:
            raise
        print(f"pyalexnet {options.command}: {_message(error)}", file=sys.stderr)
        return _exit_status(error)


def _message(error: Exception) -> str:
    """What went wrong, in one line but for CUDA's errors, which may have a table of memory in them."""
    if isinstance(error, CudaError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    return printable(str(error))


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
