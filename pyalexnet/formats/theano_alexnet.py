"""Weights of theano_alexnet (W. Ding and others, 2014): a folder with a ``.npy`` file for each array of an epoch.

The files are called by array, layer and epoch: ``W_0_65.npy`` has conv1's weights, ``W0_1_65.npy`` and ``W1_1_65.npy``
those of conv2's two groups, ``b_7_65.npy`` the biases of fc8. As ``layers.py`` and ``alex_net.py`` of the program have
it:

- a convolution's weights are (channels, height, width, filters). With ``lib_conv: cudnn`` Theano's ``dnn_conv`` turns
  them round by 180 degrees, as a convolution in the strict sense does; with ``cudaconvnet`` pylearn2's ``FilterActs``
  takes them as they are. No file tells which it was;
- fc6 takes its inputs channel by channel; weights are (inputs, outputs);
- pooling comes before LRN, which is over all channels, with the paper's numbers, alpha not divided;
- dropout multiplies by a half where nothing is learned, which the weights behind it take over here;
- images are RGB, less a mean image ``img_mean.npy`` of (3, 256, 256), in crops of 227.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import Options
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import MOST_BYTES, Content, channels_last, require_finite, shapes_channels_first
from pyalexnet.net.model_file import MODEL_FILE
from pyalexnet.net.origin import UNKNOWN, FileOrigin, Origin
from pyalexnet.system.array_file import any_array_from
from pyalexnet.system.checks import shown
from pyalexnet.system.files import file_sha256, read_regular_file

Library: TypeAlias = Literal["cudnn", "cudaconvnet"]

_OPTIONS = Options(lrn_over="both", pool_before_lrn=True)
_NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
_IN_GROUPS = ("conv2", "conv4", "conv5")
_BEHIND_DROPOUT = ("fc7", "fc8")
_FIRST = re.compile(r"W_0_([0-9]{1,9})\.npy")
_FLOATS = (np.dtype("<f4"), np.dtype("<f2"))


def first_of(path: Path) -> Path | None:
    """The file of conv1's weights that a path is, or that is in the folder that it is; None where there is none.

    Raises:
        ModelFileError: a folder has those of several epochs.
    """
    if not path.is_dir():
        return path if _FIRST.fullmatch(path.name) else None
    if (path / MODEL_FILE).exists():
        return None
    found = sorted(each.name for each in path.glob("W_0_*.npy") if _FIRST.fullmatch(each.name))
    if len(found) > 1:
        raise ModelFileError(f"{path} has the epochs of {shown(found)}; one of these files must be named")
    return path / found[0] if found else None


def read(path: Path, library: Library | None = None) -> Content:
    """What the files of an epoch hold.

    Args:
        path: the folder, or the file of conv1's weights.
        library: what computed the net's convolutions, its ``lib_conv``.

    Raises:
        OSError: the first file cannot be read.
        ModelFileError: ``library`` is None, or a file is missing, damaged or has an array of another shape.
    """
    first = first_of(path) or path
    if library is None:
        raise ModelFileError(
            f"{path} does not tell whether its filters are turned round: library must be one of "
            f"{', '.join(get_args(Library))}, which was lib_conv in config.yaml"
        )
    files = _Files(first)
    outputs = files.array("b_7", (None,)).size
    if outputs < 2:
        raise ModelFileError(f"{first} is of a net with {outputs} outputs; there must be at least 2")
    arrays = dict(_parameters(files, outputs, turned=library == "cudnn"))
    require_finite(arrays, str(first))
    remark = f"{first} has weights alone: its net is taken to be theano_alexnet's, computed by {library}"
    parameters = channels_last(arrays)
    return Content(options=_OPTIONS, parameters=parameters, mean_planes="rgb", origin=files.origin(), remarks=(remark,))


class _Files:
    """The files of an epoch, each an array."""

    def __init__(self, first: Path) -> None:
        found = _FIRST.fullmatch(first.name)
        assert found
        self._first, self._epoch = first, found[1]
        self._others: dict[Path, None] = {}

    def array(self, name: str, wanted: tuple[int | None, ...]) -> npt.NDArray[np.float32]:
        """One by its name without the epoch, of a shape whose extents may be any where they are None."""
        path = self._first.with_name(f"{name}_{self._epoch}.npy")
        try:
            values = any_array_from(read_regular_file(path, MOST_BYTES))
        except FileNotFoundError as error:
            raise ModelFileError(f"there is no {path}, which belongs to {self._first}") from error
        except ValueError as error:
            raise ModelFileError(f"{path} holds no weights: {error}") from error
        shape = values.shape
        alike = len(shape) == len(wanted) and all(
            want in (have, None) for have, want in zip(shape, wanted, strict=True)
        )
        if values.dtype not in _FLOATS or not alike:
            told = tuple("any" if extent is None else extent for extent in wanted)
            raise ModelFileError(f"{path} is {shape} of {values.dtype}; it must be {told} of float32 or float16")
        if path != self._first:
            self._others[path] = None
        return values.astype(np.float32)

    def origin(self) -> Origin:
        """Where the arrays came from, but for the first file."""
        origin = UNKNOWN
        for path in self._others:
            origin = origin.through(FileOrigin(name=path.name, format="theano_alexnet", sha256=file_sha256(path)))
        return origin


def _parameters(files: _Files, outputs: int, *, turned: bool) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Weights and biases in the layout of PyTorch."""
    shapes = shapes_channels_first(outputs, _OPTIONS)
    for number, name in enumerate(_NAMES):
        groups = ("0", "1") if name in _IN_GROUPS else ("",)
        filters, *inputs = shapes[f"{name}.weight"]
        own = filters // len(groups)
        parts = [files.array(f"W{group}_{number}", (*inputs, own)) for group in groups]
        weight = np.concatenate([np.moveaxis(part, -1, 0) for part in parts])
        if turned and weight.ndim == 4:
            weight = weight[:, :, ::-1, ::-1]
        yield f"{name}.weight", weight * np.float32(0.5) if name in _BEHIND_DROPOUT else weight
        yield f"{name}.bias", np.concatenate([files.array(f"b{group}_{number}", (own,)) for group in groups])
