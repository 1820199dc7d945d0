"""State dicts of PyTorch in several safetensors files, as Hugging Face's libraries write them, with an index beside.

The index, ``model.safetensors.index.json``, has under ``weight_map`` each tensor's file. A file that lacks a tensor
which the index gives to it, or has another one, is refused.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pyalexnet.errors import ModelFileError
from pyalexnet.formats import pytorch
from pyalexnet.formats.content import Content
from pyalexnet.net.model_file import MODEL_FILE
from pyalexnet.net.origin import UNKNOWN, FileOrigin
from pyalexnet.system.checks import shown
from pyalexnet.system.files import file_sha256
from pyalexnet.system.json_file import JsonFormat

ENDING = ".safetensors.index.json"


@dataclass(frozen=True)
class _Index:
    weight_map: dict[str, str]


_INDEX = JsonFormat(_Index, 2**20, ModelFileError, extra="ignore")


def index_of(path: Path) -> Path | None:
    """The index that a path is, or that is in the folder that it is; None where there is none but a model file.

    Raises:
        ModelFileError: a folder has several.
    """
    if not path.is_dir():
        return path if path.name.lower().endswith(ENDING) else None
    found = [] if (path / MODEL_FILE).exists() else sorted(path.glob(f"*{ENDING}"))
    if len(found) > 1:
        raise ModelFileError(f"{path} has {shown([each.name for each in found])}; one of them must be named")
    return found[0] if found else None


def read(path: Path) -> Content:
    """What the files of an index hold, which is named or is in the folder that is.

    Raises:
        OSError: the index cannot be read.
        ModelFileError: a file is missing, damaged or has other tensors than the index says, or all are no state dict.
    """
    index = index_of(path) or path
    names = _INDEX.read(index).weight_map
    files = {name: _beside(index, name) for name in dict.fromkeys(names.values())}
    with ExitStack() as stack:
        opened = {}
        for name, file in files.items():
            if not file.exists():
                raise ModelFileError(f"{index}: it has tensors in {file}, which is not there")
            opened[name] = stack.enter_context(pytorch.opened_safetensors(file))
            wanted = {tensor for tensor, of_tensor in names.items() if of_tensor == name}
            for tensor in sorted(wanted ^ opened[name].found.keys()):
                has = "lacks" if tensor in wanted else "has"
                gives = "gives" if tensor in wanted else "does not give"
                raise ModelFileError(f"{file} {has} {shown(tensor)}, which {index} {gives} to it")
        found = {tensor: opened[name].found[tensor] for tensor, name in names.items()}
        content = pytorch.content_of(str(index), found, lambda tensor: opened[names[tensor]].tensor(tensor))
    origin = UNKNOWN
    for file in files.values():
        origin = origin.through(FileOrigin(name=file.name, format="pytorch", sha256=file_sha256(file)))
    return replace(content, origin=origin)


def _beside(index: Path, name: str) -> Path:
    """A file by its plain name, beside the index."""
    if name in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(name):
        raise ModelFileError(f"{index}: it has tensors in {shown(name)}; it must be a file's name beside it")
    return index.parent / name
