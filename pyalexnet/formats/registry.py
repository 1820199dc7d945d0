"""Which formats there are, and which one a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pyalexnet.errors import ModelFileError
from pyalexnet.formats import (
    caffe,
    cuda_convnet,
    numpy_dict,
    onnx_graph,
    own,
    pytorch,
    shards,
    theano_alexnet,
    torchvision,
)
from pyalexnet.formats.content import Content
from pyalexnet.net.tensor_file import Tensors, require_short_header
from pyalexnet.system.checks import require


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: how a user asks for it.
        endings: of the files' names.
        read: what a file holds; None where another format of the same ending reads it.
        write: the files that hold a content, by path, the one that is asked for last; None where none is written.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[Path], Content] | None
    write: Callable[[Content, Path], dict[Path, bytes]] | None


def _one_file(write: Callable[[Content], bytes]) -> Callable[[Content, Path], dict[Path, bytes]]:
    return lambda content, path: {path: write(content)}


def _state_dict(
    state_of: Callable[[Content], Tensors], write: Callable[[Tensors], bytes]
) -> Callable[[Content, Path], dict[Path, bytes]]:
    return _one_file(lambda content: write(state_of(content)))


_OWN = Format("pyalexnet", (".safetensors",), own.read, _one_file(own.write))
_SAFETENSORS = Format(
    "pytorch", (".safetensors",), pytorch.read_safetensors, _state_dict(pytorch.state_of, pytorch.write_safetensors)
)
_PTH = Format("pytorch", (".pth", ".pt"), pytorch.read_pth, _state_dict(pytorch.state_of, pytorch.write_pth))
_SHARDS = Format("pytorch", (shards.ENDING,), shards.read, None)
_THEANO_ALEXNET = Format("theano_alexnet", (".npy",), theano_alexnet.read, None)
_CUDA_CONVNET = Format("cuda-convnet", (".pkl", ".pickle"), cuda_convnet.read, None)

# Of one ending, what is meant where nothing else tells comes first.
FORMATS = (
    _OWN,
    _SAFETENSORS,
    _PTH,
    _SHARDS,
    Format("torchvision", (".safetensors",), None, _state_dict(torchvision.state_of, pytorch.write_safetensors)),
    Format("torchvision", (".pth", ".pt"), None, _state_dict(torchvision.state_of, pytorch.write_pth)),
    Format("onnx", (".onnx",), onnx_graph.read, _one_file(onnx_graph.write)),
    Format("caffe", (".caffemodel",), caffe.read, caffe.write),
    Format("numpy", (".npy",), numpy_dict.read, None),
    _THEANO_ALEXNET,
    _CUDA_CONVNET,
)

NAMES = tuple(dict.fromkeys(each.name for each in FORMATS if each.write))
"""Those in which a user can ask for a file."""


def format_of(path: Path) -> Format:
    """By its ending, or its content where that stands for several or none; what tells nothing is this package's.

    Raises:
        ModelFileError: a folder has several indices of files, or weights of several epochs.
    """
    if path.is_dir() and shards.index_of(path):
        return _SHARDS
    if theano_alexnet.first_of(path):
        return _THEANO_ALEXNET
    if path.is_dir():
        return _OWN
    found = [each for each in _with_ending(path) if each.read]
    if not found:
        if cuda_convnet.is_checkpoint(path):
            return _CUDA_CONVNET
        return _PTH if pytorch.is_archive(path) else _OWN
    return _SAFETENSORS if len(found) > 1 and _is_state_dict(path) else found[0]


def format_called(name: str | None, path: Path) -> Format:
    """The format in which a file is to be written.

    Raises:
        ValueError: there is none of that name and ending, or none is written.
    """
    require(name is None or name in NAMES, "to", name, f"one of {', '.join(map(repr, NAMES))}, or None")
    found = [each for each in _with_ending(path) if name in (None, each.name) and each.write]
    if not found:
        known = ", ".join(f"{each.name} ({' '.join(each.endings)})" for each in FORMATS if each.write)
        raise ValueError(
            f"cannot write {path}{f' as {name}' if name is not None else ''}: the formats and their endings are {known}"
        )
    return found[0]


def _with_ending(path: Path) -> Iterator[Format]:
    return (each for each in FORMATS if path.name.lower().endswith(each.endings))


def _is_state_dict(path: Path) -> bool:
    """Whether a safetensors file is PyTorch's; what cannot be read is not."""
    try:
        require_short_header(path, "model file")
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            return "pyalexnet" not in (file.metadata() or {}) and bool(pytorch.known_names(names))
    except (SafetensorError, OSError, ModelFileError):
        return False
