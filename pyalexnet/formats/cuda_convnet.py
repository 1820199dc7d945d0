"""Checkpoints of cuda-convnet, the program of 2012, and of cuda-convnet2: pickles of which nothing is executed.

Such a file is a dict with ``model_state``, which has ``layers``: dicts, by their names or in a list, as A. Krizhevsky's
``layer.py`` makes them and his ``layer.cu`` computes with them (the 2012 source code as released in 2025, and
cuda-convnet2). What is read of a layer:

- ``type``; ``inputs``, the layers that it leads on from, by name or place in the list;
- of ``conv``: ``weights``, for each input float32 (channels of a group · filterSize², filters), channel by channel and
  row by row; ``biases`` (filters, 1); and, with a value for each input, ``channels``, ``filterSize``, ``stride``,
  ``padding`` (0 or negative), ``groups``, ``imgSize``. The last windows may reach over the images' edge, as far as
  rounding the number of windows up makes them;
- of ``fc``: ``weights``, for each input float32 (inputs, outputs), channel by channel; ``biases`` (1, outputs);
- of ``cmrnorm``, LRN, and ``rnorm``, LRN within maps: ``size``, ``scale`` (already divided by the window), ``pow``,
  ``minDiv``;
- of ``pool``: ``pool``, which must be ``max``, ``sizeX``, ``stride``, ``start``;
- of ``neuron``: ``neuron``, a dict with ``type`` and ``params``;
- of ``hs`` of 2012 and ``dropout2``, by which a net that is not learning multiplies: ``keep``; of cuda-convnet2's
  ``dropout``, which divides by it in learning and does nothing else: the same.

Two layers side by side, one a tower, are one of this package's layers: each leads on from its own tower or from both.
Images are RGB, less a mean that another file has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import MOST_BYTES, Content
from pyalexnet.formats.pickles import Opaque, PickledArray, told, unpickled
from pyalexnet.formats.steps import Step, content_of
from pyalexnet.system.files import open_regular_file, read_regular_file

_PROTOCOL = b"\x80"  # what pickles but those of the oldest kind begin with
_OBJECTS = frozenset({"BINFLOAT", "FLOAT", "LONG", "OBJ", "INST", "POP", "POP_MARK"})
_ENDS = ("softmax", "cost.")
_DROPOUTS = ("hs", "dropout", "dropout2")

Arrays: TypeAlias = "list[npt.NDArray[np.float32]]"


def read(path: Path) -> Content:
    """What a checkpoint holds.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is no checkpoint, its pickle does something else than build arrays, or its net is one that
            this package does not compute.
    """
    content = read_regular_file(path, MOST_BYTES)
    if not content.startswith(_PROTOCOL):
        raise ModelFileError(f"{path} is no pickle, as checkpoints of cuda-convnet are")
    whole = unpickled(content, str(path), encoding="latin1", instructions=_OBJECTS, stand_in=_option)
    net = _Net(_layers(whole, str(path)), str(path))
    steps = list(_nonlinearity_before_pooling(net.steps()))
    return replace(content_of(steps, net.size, net.dropout, str(path)), colours="rgb")


def is_checkpoint(path: Path) -> bool:
    """Whether a file may be one: those that cuda-convnet wrote are called by epoch and batch, such as ``90.100``."""
    try:
        with open_regular_file(path) as file:
            return file.read(1) == _PROTOCOL
    except OSError:
        return False


def _option(module: str, _name: str) -> Any:
    """What stands in for the options that a run was given, which are classes of its own and not needed."""
    return Opaque if module == "options" else None


def _layers(whole: object, path: str) -> Mapping[str, Mapping[str, Any]]:
    """The layers by name."""
    state = whole.get("model_state") if isinstance(whole, Mapping) else None
    found = state.get("layers") if isinstance(state, Mapping) else None
    several = list(found.values()) if isinstance(found, Mapping) else found
    if not isinstance(several, list) or not all(isinstance(layer, Mapping) for layer in several):
        raise ModelFileError(f"{path} is no checkpoint of cuda-convnet: it has no model_state with layers")
    names = [layer.get("name") for layer in several]
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            raise ModelFileError(f"{path}: a layer's name is {told(name)}; it must be a text of its own")
    return dict(zip(names, several, strict=True))


def _nonlinearity_before_pooling(steps: Iterator[Step]) -> Iterator[Step]:
    """The same net: what only rises can be taken before the maximum as well as after it."""
    before: list[Step] = []
    for step in steps:
        if step.kind in ("relu", "tanh") and [each.kind for each in before] == ["conv", "pool"]:
            before.insert(1, step)
            continue
        if step.kind == "conv" or len(before) == 2:
            yield from before
            before = []
        before.append(step)
    yield from before


@dataclass(frozen=True)
class _Stage:
    """The layers of both towers, or the one that there is, that do the same side by side.

    Attributes:
        names: theirs, tower 0's first.
        layers: what the file says of them.
        joint: whether each leads on from all of the stage before.
    """

    names: tuple[str, ...]
    layers: tuple[Mapping[str, Any], ...]
    joint: bool

    @property
    def label(self) -> str:
        """As messages call it."""
        return " and ".join(map(told, self.names)).replace("'", "")


class _Net:
    """A checkpoint's layers as a row of steps.

    Attributes:
        size: height and width of the images, 0 where there is no convolution.
        dropout: the chance to drop an output.
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Any]], source: str) -> None:
        self._layers = layers
        self._source = source
        self._inputs = {name: self._inputs_of(name) for name in layers}
        self.size = 0
        self.dropout = 0.0

    def steps(self) -> Iterator[Step]:
        """What the layers do, one after the other."""
        factor, keeps = 1.0, []
        stage = self._images()
        while (following := self._following(stage)) is not None:
            before, stage = stage, following
            kind = self._same(stage, "type", str)
            if factor != 1 and kind not in (*_DROPOUTS, "fc"):
                self._refuse(f"{stage.label} is behind a dropout; there must be a fully connected layer")
            if kind in _DROPOUTS:
                keeps.append(self._keep(stage))
                factor *= self._factor(stage, keeps[-1]) if kind != "dropout" else 1.0
            elif kind == "conv":
                yield self._convolution(stage, before)
            elif kind == "fc":
                yield self._linear(stage, before, factor)
                factor = 1.0
            elif kind == "neuron":
                yield from self._neuron(stage)
            elif kind == "pool":
                yield self._pool(stage)
            elif kind in ("cmrnorm", "rnorm"):
                yield self._lrn(stage, kind)
            else:
                self._refuse(f"{stage.label} is {told(kind)}, which the net has not")
        if factor != 1:
            self._refuse(f"{stage.label} ends with a dropout; behind it there must be a fully connected layer")
        if any(keep != keeps[0] for keep in keeps):
            self._refuse(f"dropout keeps {keeps}; it must be the same for all")
        self.dropout = 1 - keeps[0] if keeps else 0.0

    # From one stage to the next

    def _inputs_of(self, name: str) -> tuple[str, ...]:
        given = self._layers[name].get("inputs", [])
        names = list(self._layers)
        if isinstance(given, list):
            given = [names[each] if type(each) is int and 0 <= each < len(names) else each for each in given]
        if not isinstance(given, list) or not all(isinstance(each, str) and each in self._layers for each in given):
            self._refuse(f"inputs of {name} are not names of layers")
        return tuple(given)

    def _images(self) -> _Stage:
        """The layer that gives images: the one that something else leads on from than a cost."""
        found = [
            name for name, layer in self._layers.items() if layer.get("type") == "data" and self._consumers((name,))
        ]
        if len(found) != 1:
            self._refuse(f"{len(found)} layers give images; it must be one")
        return _Stage((found[0],), (self._layers[found[0]],), joint=True)

    def _consumers(self, names: Sequence[str]) -> list[str]:
        """What leads on from any of these and is no end, by GPU and name."""

        def place(name: str) -> tuple[int, str]:
            gpu = self._layers[name].get("gpu")
            return gpu if type(gpu) is int else 0, name

        return sorted(
            (
                name
                for name, inputs in self._inputs.items()
                if {*inputs} & {*names} and not str(self._kind(name)).startswith(_ENDS)
            ),
            key=place,
        )

    def _kind(self, name: str) -> object:
        kind = self._layers[name].get("type")
        return kind if isinstance(kind, str) else None

    def _following(self, stage: _Stage) -> _Stage | None:
        """What leads on from a stage: its towers each by itself, or from all of it."""
        found = self._consumers(stage.names)
        if not found:
            return None
        inputs = [self._inputs[name] for name in found]
        layers = tuple(self._layers[name] for name in found)
        if len(found) <= 2 and all(sorted(each) == sorted(stage.names) for each in inputs):
            return _Stage(tuple(found), layers, joint=True)
        if sorted(inputs) != sorted((name,) for name in stage.names):
            self._refuse(
                f"{', '.join(found[:4])} lead on from {stage.label}; it must be one layer, or one a tower, from its "
                "own tower or from both"
            )
        own = tuple(found[inputs.index((name,))] for name in stage.names)
        return _Stage(own, tuple(self._layers[name] for name in own), joint=False)

    # What a stage does

    def _convolution(self, stage: _Stage, before: _Stage) -> Step:
        kernel, padding = self._each(stage, "filterSize"), -self._each(stage, "padding")
        stride, groups, size = self._each(stage, "stride"), self._each(stage, "groups", 1), self._each(stage, "imgSize")
        if min(kernel, stride, groups) < 1 or padding < 0 or size < 1 or any(map(self._is_sparse, stage.layers)):
            self._refuse(f"{stage.label} has windows, strides, groups or connections that no convolution here has")
        towers = len(stage.names)
        if groups > 1 and (towers > 1 or len(before.names) > 1):
            self._refuse(f"groups of {stage.label} is {groups}; it must be 1 within a tower")
        of_towers, biases = [], []
        for name, layer in zip(stage.names, stage.layers, strict=True):
            parts, bias = self._parameters(name, layer, self._order(stage, before, name))
            rows = [part.reshape(-1, kernel, kernel, part.shape[1]) for part in parts if len(part) % kernel**2 == 0]
            if len(rows) != len(parts):
                self._refuse(f"weights of {name} have rows that are no multiple of {kernel}·{kernel}")
            of_towers.append(np.concatenate(rows).transpose(3, 0, 1, 2))
            biases.append(bias)
        if len({each.shape for each in of_towers}) > 1:
            self._refuse(f"weights of {stage.label} are of different shapes")
        weight = np.concatenate(of_towers)
        windows = -(-(size + 2 * padding - kernel) // stride) + 1
        beyond = max(0, (windows - 1) * stride + kernel - size - 2 * padding)
        self.size = self.size or size
        values = {
            "filters": len(weight),
            "channels": weight.shape[1],
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "padding": (padding, padding, padding + beyond, padding + beyond),
            "groups": groups if stage.joint or towers == 1 else towers,
        }
        return Step("conv", stage.label, values, (weight, np.concatenate(biases)))

    def _linear(self, stage: _Stage, before: _Stage, factor: float) -> Step:
        if not stage.joint:
            self._refuse(f"{stage.label} see their own tower alone; fully connected layers must see both")
        of_towers, biases = [], []
        for name, layer in zip(stage.names, stage.layers, strict=True):
            parts, bias = self._parameters(name, layer, self._order(stage, before, name))
            of_towers.append(np.concatenate(parts).T)
            biases.append(bias)
        if len({each.shape[1] for each in of_towers}) > 1:
            self._refuse(f"weights of {stage.label} are of different shapes")
        weight = np.concatenate(of_towers) * np.float32(factor)
        values = {"inputs": weight.shape[1], "outputs": len(weight)}
        return Step("linear", stage.label, values, (weight, np.concatenate(biases)))

    def _lrn(self, stage: _Stage, kind: str) -> Step:
        self._require_own(stage)
        if any(layer.get("blocked") for layer in stage.layers):
            self._refuse(f"{stage.label} normalises by blocks, which the net does not")
        values = {
            "size": self._same(stage, "size", int),
            "alpha": self._same(stage, "scale", float),
            "beta": self._same(stage, "pow", float),
            "k": self._same(stage, "minDiv", float, 1.0),
        }
        if kind == "rnorm":
            return Step("lrn_in_map", stage.label, values)
        return Step("lrn", stage.label, {**values, "towers": len(stage.names)})

    def _pool(self, stage: _Stage) -> Step:
        self._require_own(stage)
        kind, start = self._same(stage, "pool", str), self._same(stage, "start", int, 0)
        if kind != "max" or start != 0:
            self._refuse(f"{stage.label} pools by {told(kind)} from {start} on; it must be by 'max' from 0 on")
        size, stride = self._same(stage, "sizeX", int), self._same(stage, "stride", int)
        values = {"kernel": (size, size), "stride": (stride, stride), "padding": (0, 0, 0, 0), "ceiling": True}
        return Step("pool", stage.label, values)

    def _neuron(self, stage: _Stage) -> Iterator[Step]:
        self._require_own(stage)
        kinds = {self._nonlinearity(layer) for layer in stage.layers}
        kind = kinds.pop()
        if kinds or kind is None:
            self._refuse(f"{stage.label} is no ReLU, and no tanh with a and b of 1, or not the same in both towers")
        if kind != "ident":
            yield Step(kind, stage.label)

    def _nonlinearity(self, layer: Mapping[str, Any]) -> Literal["relu", "tanh", "ident"] | None:
        """Which one of this package's nonlinearities a layer is, or none at all; None for others."""
        how = layer.get("neuron")
        kind, params = (how.get("type"), how.get("params")) if isinstance(how, Mapping) else (None, None)
        if kind == "relu" or kind == "ident":
            return "relu" if kind == "relu" else "ident"
        return "tanh" if kind == "tanh" and isinstance(params, Mapping) and [*params.values()] == [1, 1] else None

    def _keep(self, stage: _Stage) -> float:
        """The share of the outputs that dropout keeps."""
        self._require_own(stage)
        keep = float(self._same(stage, "keep", float))
        if not 0 < keep <= 1:
            self._refuse(f"keep of {stage.label} is {keep}; it must be above 0 and at most 1")
        return keep

    def _factor(self, stage: _Stage, keep: float) -> float:
        """The same, where weights must take it over without rounding."""
        if math.frexp(keep)[0] != 0.5:
            self._refuse(
                f"keep of {stage.label} is {keep}; it must be a power of two such as 0.5, which the weights behind it "
                "take over without rounding"
            )
        return keep

    # Values and arrays

    def _order(self, stage: _Stage, before: _Stage, name: str) -> list[int]:
        """Where among a layer's inputs each layer of the stage before is, tower 0 first."""
        inputs = self._inputs[name]
        return [inputs.index(each) for each in before.names] if stage.joint else [0]

    def _parameters(
        self, name: str, layer: Mapping[str, Any], order: Sequence[int]
    ) -> tuple[Arrays, npt.NDArray[np.float32]]:
        """Weights by input, each of two axes, and as many biases as they have columns."""
        given, biases = layer.get("weights"), layer.get("biases")
        weights = [each for each in given if isinstance(each, PickledArray)] if isinstance(given, list) else []
        if len(weights) != len(order) or not isinstance(biases, PickledArray):
            self._refuse(f"{name} must have biases and as many arrays of weights as inputs, {len(order)}")
        parts = [weights[place].float32(self._source) for place in order]
        bias = biases.float32(self._source)
        columns = {part.shape[1] if part.ndim == 2 else -1 for part in parts}
        if columns != {bias.size} or any(part.size == 0 for part in parts):
            shapes = [part.shape for part in parts]
            self._refuse(f"{name} has weights {shapes} and {bias.size} biases; it must have as many as filters")
        return parts, bias.reshape(-1)

    def _is_sparse(self, layer: Mapping[str, Any]) -> bool:
        sparse = layer.get("randSparse", [False])
        return not isinstance(sparse, list) or any(sparse)

    def _require_own(self, stage: _Stage) -> None:
        if stage.joint and any(len(self._inputs[name]) > 1 for name in stage.names):
            self._refuse(f"{stage.label} leads on from both towers; it must lead on from one")
        if stage.joint and len(stage.names) > 1:
            self._refuse(f"{stage.label} lead on from the same layer; there must be one")

    def _each(self, stage: _Stage, name: str, default: int | None = None) -> int:
        """A whole number that is the same for all inputs of all layers of a stage."""
        found = []
        for layer in stage.layers:
            given = layer.get(name, default)
            found.extend(given if isinstance(given, list) else [given])
        if not found or any(type(value) is not int or value != found[0] for value in found):
            values = ", ".join(map(told, found[:4]))
            self._refuse(
                f"{name} of {stage.label} is {values or 'missing'}; it must be one whole number for all inputs"
            )
        return int(found[0])

    def _same(self, stage: _Stage, name: str, kind: type, default: object = None) -> Any:
        """A value that is the same for all layers of a stage."""
        found = [layer.get(name, default) for layer in stage.layers]
        kinds = (int, float) if kind is float else (kind,)
        if any(type(value) not in kinds or value != found[0] for value in found):
            wanted = {str: "a text", int: "a whole number", float: "a number"}[kind]
            self._refuse(
                f"{name} of {stage.label} is {', '.join(map(told, found))}; it must be {wanted}, one for all towers"
            )
        return kind(found[0])

    def _refuse(self, reason: str) -> NoReturn:
        raise ModelFileError(f"{self._source}: {reason}")
