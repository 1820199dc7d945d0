"""The net as a row of steps, as files with a graph have it: which steps a net makes, and which net steps make.

:func:`steps_of` lists what a net computes between its input and its logits. :func:`content_of` goes the other way: it
reads off the steps of a foreign file which options they come from, lists the steps of those, and compares. What is left
over is what this package does not compute, and the reason why the file is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import INPUT_SIZE, LRN_ALPHA, LRN_SIZE, SECOND_LRN, Conv, Options, layers
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import Content, channels_last, require_finite

Kind: TypeAlias = Literal["conv", "relu", "tanh", "lrn", "lrn_in_map", "pool", "linear"]

_CALLED = {
    "conv": "a convolution",
    "relu": "a ReLU",
    "tanh": "a tanh",
    "lrn": "an LRN",
    "lrn_in_map": "an LRN within maps",
    "pool": "a pooling",
    "linear": "a fully connected layer",
}


@dataclass(frozen=True)
class Step:
    """One operation.

    ``values`` of a convolution: filters, channels (of a group), kernel, stride, padding (above, left, below, right) and
    groups; of an LRN: size, alpha (not divided by it), beta, k, and towers, which are normalised apart; of a pooling:
    kernel, stride and, where windows reach beyond the maps, padding and ceiling; of a fully connected layer: inputs and
    outputs.

    Attributes:
        kind: what it does.
        name: what the file or, in :func:`steps_of`, this package calls it.
        values: how.
        arrays: weights, channels first, and biases.
    """

    kind: Kind
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: tuple[npt.NDArray[np.float32], ...] = ()


def steps_of(options: Options, num_classes: int) -> Iterator[Step]:
    """What a net computes, without dropout; its layers' names, and no arrays."""
    for layer in layers(num_classes, *options.computed_as):
        if isinstance(layer, Conv):
            yield Step("conv", layer.name, _convolution(layer, options))
            relu_last = options.relu1_last and layer.name == "conv1"
            if not relu_last:
                yield Step(options.activation, f"{options.activation}{layer.name[-1]}")
            for step in options.steps_after(layer):
                yield _after(step, layer, options)
            if relu_last:
                yield Step("relu", "relu1")
        else:
            yield Step("linear", layer.name, {"inputs": layer.inputs, "outputs": layer.outputs})
            if layer.hidden:
                yield Step(options.activation, f"{options.activation}{layer.name[-1]}")


def _convolution(layer: Conv, options: Options) -> dict[str, Any]:
    before, behind = layer.padding, layer.padding
    if layer.name == "conv1":
        before = options.conv1_padding
        behind = before or INPUT_SIZE - options.crop  # the last windows reach over a smaller crop
    groups = 1 if layer.sees_both else layer.towers * layer.groups
    return {
        "filters": layer.filters,
        "channels": layer.channels // groups,
        "kernel": (layer.kernel, layer.kernel),
        "stride": (layer.stride, layer.stride),
        "padding": (before, before, behind, behind),
        "groups": groups,
    }


def _after(step: str, layer: Conv, options: Options) -> Step:
    name = f"{step}{layer.name[-1]}"
    if step == "lrn":
        return Step("lrn", name, {**options.lrn_arguments, "towers": layer.towers})
    if step == "lrn_in_map":
        return Step("lrn_in_map", name, SECOND_LRN)
    how = options.pool_arguments
    return Step("pool", name, {"kernel": (how["kernel"],) * 2, "stride": (how["stride"],) * 2})


# From a foreign file's steps ---------------------------------------------------------------------------------------


def content_of(steps: Sequence[Step], size: int, dropout: float, source: str) -> Content:
    """The net that makes these steps.

    Args:
        steps: a foreign file's.
        size: height and width of the images that the file is for; 0 where it does not say.
        dropout: as :attr:`Options.dropout` has it.
        source: the file, for messages.

    Raises:
        ModelFileError: no net of this package makes them; the message says which step it would not make.
    """
    options = _options_of(steps, size, dropout, source)
    remarks: tuple[str, ...] = ()
    if size not in (0, options.crop):
        remarks = (
            f"{source} is for images of {size}×{size}; here its weights are those of the same net for images of "
            f"{options.crop}×{options.crop}",
        )
    last = [step.values["outputs"] for step in steps if step.kind == "linear"][-1:]
    if not last or last[0] < 2:
        raise ModelFileError(f"{source} has {last[0] if last else 'no'} outputs; there must be at least 2")
    expected = list(steps_of(options, last[0]))
    given = list(_without_empty_padding(steps, options, source))
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    for number, wanted in enumerate(expected):
        if number == len(given):
            raise ModelFileError(f"{source} ends before {_CALLED[wanted.kind]}, {wanted.name}; the net must have it")
        _require_same(given[number], wanted, source)
        if given[number].arrays:
            arrays[f"{wanted.name}.weight"], arrays[f"{wanted.name}.bias"] = given[number].arrays
    if len(given) > len(expected):
        extra = given[len(expected)]
        raise ModelFileError(f"{source} goes on with {_CALLED[extra.kind]}, {extra.name}; it must end with fc8")
    parameters = channels_last(arrays)
    require_finite(parameters, source)
    return Content(options=options, parameters=parameters, remarks=remarks)


def _options_of(steps: Sequence[Step], size: int, dropout: float, source: str) -> Options:
    """The options from which the steps can come, if they come from any."""
    first = _of_first_convolution(steps)
    norms = [step for step in steps if step.kind == "lrn"]
    pools = [step for step in steps if step.kind == "pool"]
    kinds = [step.kind for step in first]
    options: dict[str, Any] = {
        "activation": "tanh" if any(step.kind == "tanh" for step in steps) else "relu",
        "lrn": bool(norms),
        "pooling": "plain" if pools and pools[0].values["kernel"] == (2, 2) else "overlapping",
        "second_lrn": any(step.kind == "lrn_in_map" for step in steps),
        "dropout": dropout,
    }
    if first:
        one = first[0].values
        options["filters"] = "2014" if one["filters"] == 64 else "2012"
        options["towers"] = 1 if one["filters"] in (48, 64) else 2
        options["conv1_padding"] = 2 if one["padding"] == (2, 2, 2, 2) and size in (0, 224) else 0
        options["crop"] = 224 if options["conv1_padding"] or one["padding"] == (0, 0, 3, 3) else 227
        options["relu1_last"] = kinds.index("relu") > kinds.index("pool") if {"relu", "pool"} <= {*kinds} else False
    if norms:
        how = norms[0].values
        options["lrn_alpha"] = "caffe" if math.isclose(how["alpha"], LRN_ALPHA / LRN_SIZE, rel_tol=1e-5) else "paper"
        options["lrn_k"] = how["k"]
        options["lrn_over"] = "both" if how["towers"] == 1 and options.get("towers") == 2 else "tower"
        options["pool_before_lrn"] = {"pool", "lrn"} <= {*kinds} and kinds.index("pool") < kinds.index("lrn")
    try:
        return Options(**options)
    except ValueError as error:
        raise ModelFileError(f"{source}: {error}") from error


def _of_first_convolution(steps: Iterable[Step]) -> list[Step]:
    """The first convolution and what follows it up to the second."""
    found: list[Step] = []
    for step in steps:
        if step.kind in ("conv", "linear") and found:
            break
        if step.kind == "conv" or found:
            found.append(step)
    return found


def _without_empty_padding(steps: Iterable[Step], options: Options, source: str) -> Iterator[Step]:
    """The steps; poolings without padding and ceiling where these add nothing to any window."""
    size = options.crop
    for step in steps:
        values = step.values
        if min(values.get("stride", (1, 1))) < 1:
            raise ModelFileError(f"{source}: stride of {step.name} is {values['stride']}; it must be at least 1")
        if step.kind == "conv":
            size = (size + values["padding"][0] + values["padding"][2] - values["kernel"][0]) // values["stride"][0] + 1
        if step.kind == "pool":
            kernel, stride, size_before = values["kernel"][0], values["stride"][0], size
            size = (size_before - kernel) // stride + 1
            padding = values.get("padding", (0, 0, 0, 0))
            room = size_before + padding[2] - kernel
            padded = (-(-room // stride) if values.get("ceiling") else room // stride) + 1
            if padded == size and padding[:2] == (0, 0) and padding[2] == padding[3]:
                values = {"kernel": values["kernel"], "stride": values["stride"]}
                step = Step("pool", step.name, values)
        yield step


def _require_same(given: Step, wanted: Step, source: str) -> None:
    if given.kind != wanted.kind:
        raise ModelFileError(
            f"{source} has {_CALLED[given.kind]}, {given.name}, where the net has {_CALLED[wanted.kind]}, {wanted.name}"
        )
    for name in sorted(given.values.keys() | wanted.values.keys()):
        found, expected = given.values.get(name), wanted.values.get(name)
        if not _alike(found, expected):
            be = "absent" if expected is None else expected
            raise ModelFileError(f"{source}: {name} of {given.name} is {found}; it must be {be}, as in {wanted.name}")


def _alike(found: object, expected: object) -> bool:
    """Whether they are equal, numbers but for the rounding of float32."""
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-6)
    return found == expected


def from_float32(value: float) -> float:
    """The shortest decimal number that rounds to a float32: 0.75 and 1e-4 as they were written."""
    return float(str(np.float32(value)))
