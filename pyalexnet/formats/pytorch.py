"""State dicts of PyTorch, as ``.pth`` and as ``.safetensors``: of the module in ``torch_module.py``, and torchvision's.

The former has each layer's ``weight`` and ``bias`` under this package's names, channels first; ``mean``, the mean
image (3, 256, 256); and ``_extra_state``, the description as JSON in bytes, which PyTorch calls so. A prefix of all
names goes: wrappers put it there, as DataParallel's ``module.`` and the ``_orig_mod.`` of torch.compile. Weights of
half the bits, float16 and bfloat16, become the float32 that they stand for.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS
from pyalexnet.errors import ModelFileError
from pyalexnet.formats import torchvision
from pyalexnet.formats.content import (
    Content,
    as_mean,
    channels_first,
    channels_last,
    read_description,
    require_finite,
    shapes_channels_first,
    with_description,
)
from pyalexnet.net.model_file import ModelDescription
from pyalexnet.net.tensor_file import Tensors, require_short_header
from pyalexnet.system.checks import reason_of, shown
from pyalexnet.system.extras import importing_extra
from pyalexnet.system.files import open_regular_file

if TYPE_CHECKING:
    import torch

_DESCRIPTION, _MEAN = "_extra_state", "mean"
_ARCHIVE = b"PK\3\4"
_MOST_DESCRIPTION_BYTES = 16 * 2**20

_KINDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8"}
_FLOATS = ("float32", "float16", "bfloat16")  # what float32 holds all values of


def write_pth(state: Tensors) -> bytes:
    """A state dict in a file that ``torch.load(..., weights_only=True)`` reads.

    Raises:
        MissingLibraryError: PyTorch is not installed.
    """
    with importing_extra():
        import torch

    file = io.BytesIO()
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, file)
    return file.getvalue()


def write_safetensors(state: Tensors) -> bytes:
    """The same in a file that needs no PyTorch."""
    return safetensors.numpy.save(state, {"format": "pt"})


def state_of(content: Content) -> Tensors:
    """The state dict of the module that computes as a model does."""
    assert content.mean is not None
    return {
        **channels_first(content.parameters),
        _MEAN: np.ascontiguousarray(content.mean.transpose(2, 0, 1)),
        _DESCRIPTION: np.frombuffer(bytearray(content.description().encode()), np.uint8),
    }


def read_pth(path: Path) -> Content:
    """What a file of ``torch.save`` holds; nothing in it is executed.

    Raises:
        OSError: it cannot be read.
        MissingLibraryError: PyTorch is not installed.
        ModelFileError: it is no state dict of the module.
    """
    with importing_extra():
        import torch

    with open_regular_file(path) as file:
        try:
            _require_stored(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelFileError(
                f"{path} holds no weights that PyTorch reads: it has other objects than tensors, or is damaged; save "
                f"net.state_dict() instead of a whole module ({_reason(error)})"
            ) from error
        except Exception as error:  # torch has no type for what can be wrong with a file
            raise ModelFileError(f"{path} holds no weights that PyTorch reads: {reason_of(error)}") from error
    state = _state_dict(state, path)
    shapes = {name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in state.items()}
    return content_of(str(path), shapes, lambda name: _float32(state[name]))


def _float32(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Its values, those of half the bits as float32."""
    values: npt.NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
    return values


def _reason(error: pickle.UnpicklingError) -> str:
    """What PyTorch found, without its advice to execute the file."""
    told = str(error).partition("WeightsUnpickler error:")[2].partition(" was not an allowed")[0]
    return reason_of(ValueError(told)) or "it begins with none"


def _state_dict(saved: object, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, or of the one that a training checkpoint has among its entries.

    Raises:
        ModelFileError: there is none, several, or one of other values than tensors in host memory.
    """
    import torch

    entries = saved if isinstance(saved, Mapping) else {}
    inner = [name for name, value in entries.items() if isinstance(value, Mapping) and known_names(value)]
    if len(inner) > 1:
        raise ModelFileError(f"{path} holds several state dicts, {shown(inner)}; it must hold one")
    state = entries[inner[0]] if inner else saved
    if not isinstance(state, Mapping):
        raise ModelFileError(f"{path} holds {shown(type(saved))}; it must be a state dict: tensors by name")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelFileError(
                f"{path} holds {shown(value)} as {shown(name)}; it must be a state dict: tensors by name"
            )
        whole = value.layout == torch.strided and not (value.is_nested or value.is_meta or value.is_neg())
        if not whole or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ModelFileError(f"{path}: {shown(name)} is no tensor that has all its values, one beside the other")
    return dict(state)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive as torch.save writes them, whatever its ending; what cannot be read is none."""
    try:
        with open_regular_file(path) as file:
            return file.read(len(_ARCHIVE)) == _ARCHIVE
    except OSError:
        return False


def _require_stored(file: BinaryIO) -> None:
    """Refuse an archive that would take more memory than the file's size; PyTorch compresses nothing.

    Raises:
        ValueError: it would.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(each.file_size for each in archive.infolist())
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if unpacked > size:
        raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}; they must be stored as they are")


def read_safetensors(path: Path) -> Content:
    """What a safetensors file of a state dict holds.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is no state dict of the module.
    """
    with opened_safetensors(path) as file:
        return content_of(str(path), file.found, file.tensor)


Found: TypeAlias = "Mapping[str, tuple[tuple[int, ...], str]]"
"""Shapes and dtypes of tensors."""


@dataclass(frozen=True)
class OpenedFile:
    """A file whose tensors are known before they are read.

    Attributes:
        found: what there is.
        tensor: reads one by its name.
    """

    found: Found
    tensor: Callable[[str], npt.NDArray[Any]]


@contextmanager
def opened_safetensors(path: Path) -> Iterator[OpenedFile]:
    """A safetensors file, open as long as its tensors are read.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is no such file or is cut short.
    """
    require_short_header(path, "state dict")
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {
                name: (tuple(part.get_shape()), _KINDS.get(part.get_dtype(), part.get_dtype()))
                for name, part in slices.items()
            }
            yield OpenedFile(found, lambda name: _values(file, path, name, *found[name]))
    except SafetensorError as error:
        raise ModelFileError(f"{path} is no safetensors file or is cut short: {reason_of(error)}") from error


def _values(file: Any, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """A tensor of an open file, its values of half the bits as float32."""
    if dtype == "bfloat16":  # of which NumPy knows nothing: the upper half of a float32
        upper = np.frombuffer(_stored_bytes(path, name), "<u2").astype(np.uint32)
        return (upper << 16).view(np.float32).reshape(shape)
    values: npt.NDArray[Any] = file.get_tensor(name)
    return values.astype(np.float32) if dtype == "float16" else values


def _stored_bytes(path: Path, name: str) -> bytes:
    """A tensor of a safetensors file whose header has been read before."""
    with open_regular_file(path) as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        first, last = json.loads(file.read(header_bytes))[name]["data_offsets"]
        file.seek(8 + header_bytes + first)
        return file.read(last - first)


def known_names(names: Iterable[object]) -> list[str]:
    """Those of a state dict's names by which its module is known, each behind the prefix of all."""
    known = tuple(f".{name}" for name in (_DESCRIPTION, torchvision.FIRST))
    return [name for name in names if isinstance(name, str) and f".{name}".endswith(known)]


def content_of(path: str, found: Found, tensor: Callable[[str], npt.NDArray[Any]]) -> Content:
    """A content from tensors of which shape and dtype are known first, under names that may all have a prefix.

    Raises:
        ModelFileError: they are no state dict of the module, nor of torchvision's.
    """
    first = next(iter(known_names(found)), "")
    prefix = first.removesuffix(_DESCRIPTION).removesuffix(torchvision.FIRST)
    if stray := sorted(name for name in found if not name.startswith(prefix)):
        raise ModelFileError(f"{path}: {shown(stray[0])} must begin with {shown(prefix)}, as {first} does")
    own = {name.removeprefix(prefix): known for name, known in found.items()}
    read_own = _read_torchvision if torchvision.FIRST in own else _read_module
    return read_own(path, own, lambda name: tensor(prefix + name))


def _read_torchvision(path: str, found: Found, tensor: Any) -> Content:
    shape, _ = found.get(torchvision.LAST, ("missing", ""))
    outputs = shape[0] if isinstance(shape, tuple) and len(shape) == 1 else 0
    if outputs < 2:
        raise ModelFileError(
            f"{path}: {torchvision.LAST} is {shape}; it must have a number for each of 2 classes or more"
        )
    wanted = torchvision.shapes(outputs)
    _require_shapes(path, found, wanted)
    return torchvision.content_of({name: tensor(name) for name in wanted}, path)


def _read_module(path: str, found: Found, tensor: Any) -> Content:
    about = _description(path, found, tensor)
    expected = shapes_channels_first(about.num_classes, about.options)
    wanted = {**expected, _MEAN: (INPUT_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)}
    _require_shapes(path, {name: known for name, known in found.items() if name != _DESCRIPTION}, wanted)
    parameters = {name: tensor(name) for name in expected}
    require_finite(parameters, path)
    mean = as_mean(tensor(_MEAN).transpose(1, 2, 0), path)
    content = Content(options=about.options, parameters=channels_last(parameters), mean=mean)
    return with_description(content, about)


def _require_shapes(path: str, found: Found, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse other tensors than are wanted, and those of which float32 does not hold all values."""
    for name in sorted(wanted.keys() | found.keys()):
        shape, dtype = found.get(name, ("missing", "float32"))
        if shape != wanted.get(name):
            label = name if name in wanted else shown(name)
            raise ModelFileError(f"{path}: {label} is {shape}; it must be {wanted.get(name, 'absent')}")
        if dtype not in _FLOATS:
            raise ModelFileError(f"{path}: {name} has dtype {dtype}; it must be float32, float16 or bfloat16")


def _description(path: str, found: Found, tensor: Any) -> ModelDescription:
    shape, dtype = found.get(_DESCRIPTION, ((), ""))
    if dtype != "uint8" or len(shape) != 1 or math.prod(shape) > _MOST_DESCRIPTION_BYTES:
        raise ModelFileError(
            f"{path} has no {_DESCRIPTION} that tells the net's options: it must be a state dict of "
            "pyalexnet.formats.torch_module.AlexNet or of torchvision.models.alexnet()"
        )
    return read_description(tensor(_DESCRIPTION).tobytes(), path)
