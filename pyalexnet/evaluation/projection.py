"""What in an image excites a unit: its activation taken back through the net to the pixels.

Three ways differ in what they do at a ReLU (Springenberg et al. 2015, figure 1), where y is what the ReLU gave on the
way up and r what comes back from above:

    gradient    r where y > 0           Simonyan et al. 2014, section 3: the derivative of the activation
    deconv      max(r, 0)               Zeiler & Fergus 2014, section 2.1: a deconvnet
    guided      max(r, 0) where y > 0   Springenberg et al. 2015, section 3.4: both

All three go back through a convolution by its transposed filters. Max-pooling is undone by its switches, the places of
the maxima, as in the gradient; where windows overlap, what is the maximum of two is given the sum of both. A deconvnet
leaves normalisations out, as Zeiler & Fergus do; the other ways take LRN's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeAlias, get_args

import numpy as np

import pyalexnet.ops as ops
from pyalexnet.architecture import SECOND_LRN, Conv, Linear, Options, layers
from pyalexnet.data.pictures import Pictures
from pyalexnet.evaluation.features import Values, activations_of
from pyalexnet.evaluation.predict import as_images
from pyalexnet.evaluation.units import as_units, most_active, strongest_positions, tower_of
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import as_model
from pyalexnet.net.network import AlexNet
from pyalexnet.net.receptive_field import Region, receptive_fields
from pyalexnet.system.checks import require

Rule: TypeAlias = Literal["deconv", "guided", "gradient"]

RULES: tuple[Rule, ...] = get_args(Rule)

DEFAULT_UNITS = 4
"""How many units are projected where none are named."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What in an image excites a unit.

    Attributes:
        layer: whose unit it is.
        unit: its number there, tower 0's first.
        tower: which tower computes it.
        activation: the unit's greatest, among all positions.
        position: row and column of that one in the layer; (0, 0) in fully connected layers.
        region: what that position sees of the image; beyond it, ``pixels`` are 0.
        pixels: float32 (227, 227, 3), for each pixel of the net's input what came back; of rule ``gradient``, the
            derivative of the activation. Less ``conv1_padding`` rows and columns of zeros before the image.
    """

    layer: str
    unit: int
    tower: int
    activation: float
    position: tuple[int, int]
    region: Region
    pixels: Values


def project_units(
    model: Classifier | str | PathLike[str],
    images: Pictures,
    layer: str = "conv5",
    *,
    units: Sequence[int] | None = None,
    rule: Rule = "deconv",
    on_images: Callable[[int], None] = lambda _count: None,
) -> list[list[Projection]]:
    """Units' strongest activations in the centre of each image, taken back to its pixels.

    What goes back begins as 1 at the unit's strongest position and 0 elsewhere. Zeiler & Fergus begin with the
    activation itself, which gives the same picture, ``activation`` times as bright.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        images: as :func:`pyalexnet.predict` takes them.
        layer: one of :func:`pyalexnet.architecture.activation_names`.
        units: which of its units, the towers' side by side; by default, of each image the :data:`DEFAULT_UNITS` that
            are most active there.
        rule: what happens at a ReLU, as the module's docstring tells.
        on_images: called with the number of images done since the last call.

    Returns:
        For each image a projection of each unit; of a unit that is 0 everywhere all zeros, but of rule ``gradient``
        where no ReLU makes it 0.

    Raises:
        DataError: an image cannot be read, or there is none.
        TypeError: an argument is of another type.
        ValueError: ``layer``, ``units`` or ``rule`` makes no sense, or ``rule`` is not ``"gradient"`` while the net's
            nonlinearity is tanh, which the others do not know.
        OutOfMemoryError: a device has not memory for an image.
    """
    require(rule in RULES, "rule", rule, f"one of {', '.join(map(repr, RULES))}")
    model = as_model(model)
    net = model.net
    net.require_layer(layer)
    if net.options.activation != "relu" and rule != "gradient":
        raise ValueError(
            f"rule is {rule!r}, but the net's activation is {net.options.activation!r}; rule must be 'gradient' then"
        )
    chosen = None if units is None else as_units(net, layer, units)
    path = _path_to(layer, net)
    parameters = net.parameters()
    found = []
    for image in as_images(images):
        outputs = activations_of(model, image[None], [layer, *_needed(path)])
        found.append(_projections(net, outputs, path, parameters, chosen, rule))
        on_images(1)
    return found


# The way up, and what of it the way back reads -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """A step of the forward pass.

    Attributes:
        name: what a user calls its result.
        kind: ``product``, ``nonlinearity``, ``lrn``, ``lrn_in_map`` or ``pool``.
        layer: of which it is a part.
        below: what a user calls what it takes; "" for the net's input.
    """

    name: str
    kind: str
    layer: Conv | Linear
    below: str


def _path_to(name: str, net: AlexNet) -> list[_Stage]:
    """The stages from the input to what has that name, in order."""
    stages = _stages(net)
    names = [stage.name for stage in stages]
    # conv1_pre is conv1 where the ReLU comes last. That ReLU has the last step's name, as its result has.
    wanted = name if name in names else name.removesuffix("_pre")
    return stages[: len(names) - names[::-1].index(wanted)]


def _stages(net: AlexNet) -> list[_Stage]:
    stages: list[_Stage] = []
    for layer in layers(net.num_classes, *net.options.computed_as):
        named = [(layer.name, "product")]
        steps = _steps(layer, net.options)
        if net.options.relu1_last and layer.name == "conv1":
            named += [*steps, (steps[-1][0], "nonlinearity")]
        elif isinstance(layer, Conv) or layer.hidden:
            named = [(f"{layer.name}_pre", "product"), (layer.name, "nonlinearity"), *steps]
        for name, kind in named:
            stages.append(_Stage(name, kind, layer, stages[-1].name if stages else ""))
    return stages


def _steps(layer: Conv | Linear, options: Options) -> list[tuple[str, str]]:
    """Name and kind of what follows a convolution and its nonlinearity."""
    steps = options.steps_after(layer) if isinstance(layer, Conv) else []
    return [(f"{step}{layer.name[-1]}", step) for step in steps]


def _needed(path: Sequence[_Stage]) -> list[str]:
    """Names of what the way back reads: what nonlinearities gave, and what steps and matrix products took."""
    needed = [stage.name if stage.kind == "nonlinearity" else stage.below for stage in path if not _is_conv(stage)]
    return list(dict.fromkeys(needed))


def _is_conv(stage: _Stage) -> bool:
    return stage.kind == "product" and isinstance(stage.layer, Conv)


# The way back --------------------------------------------------------------------------------------------------------


def _projections(
    net: AlexNet,
    values: Mapping[str, Values],
    path: Sequence[_Stage],
    parameters: Mapping[str, Values],
    chosen: Sequence[int] | None,
    rule: Rule,
) -> list[Projection]:
    """Of one image; the units go back side by side, as a batch."""
    layer, top = next(iter(values.items()))
    activations, positions = (found[0] for found in strongest_positions(top))
    units = most_active(activations, DEFAULT_UNITS) if chosen is None else chosen
    returning = np.zeros((len(units), *top.shape[1:]), np.float32)
    for one, unit in zip(returning, units, strict=True):
        at = (*positions[unit], unit) if top.ndim == 4 else (unit,)
        one[at] = 1.0 if activations[unit] != 0 or rule != "deconv" else 0.0
    for stage in reversed(path):
        returning = _back_through(net, stage, returning, values, parameters, rule)
    first = net.options.conv1_padding
    field = receptive_fields(net.options)[layer]
    return [
        Projection(
            layer=layer,
            unit=unit,
            tower=tower_of(net, layer, unit),
            activation=float(activations[unit]),
            position=(int(positions[unit, 0]), int(positions[unit, 1])),
            region=field.region(*positions[unit].tolist()),
            pixels=pixels,
        )
        for unit, pixels in zip(units, returning[:, first:, first:], strict=True)
    ]


def _back_through(
    net: AlexNet,
    stage: _Stage,
    returning: Values,
    values: Mapping[str, Values],
    parameters: Mapping[str, Values],
    rule: Rule,
) -> Values:
    """From a stage's result to what it took; ``returning`` is float32 (units, ...) of the result's shape."""
    if stage.kind == "product":
        return _through_product(net, stage, returning, values, parameters[f"{stage.layer.name}.weight"])
    if stage.kind == "nonlinearity":
        return _through_nonlinearity(net, returning, _for_each_unit(values[stage.name], returning), rule)
    x = _for_each_unit(values[stage.below], returning)
    if stage.kind == "pool":
        return np.asarray(ops.max_pool2d_backward(returning, x, **net.options.pool_arguments, device=net.devices[0]))
    return returning if rule == "deconv" else _through_norm(net, stage, returning, x)


def _through_product(
    net: AlexNet, stage: _Stage, returning: Values, values: Mapping[str, Values], weight: Values
) -> Values:
    """By the transposed filters; a layer that sees both towers gives back to both.

    By direct sums, which leave exactly 0 where no filter reaches: other algorithms leave what rounding does.
    """
    layer, n = stage.layer, len(returning)
    device, precision = net.devices[0], net.options.precision
    if isinstance(layer, Linear):
        flat = ops.linear_backward_input(returning, weight, device=device, precision=precision)
        return np.asarray(flat).reshape(n, *values[stage.below].shape[1:])
    found = ops.conv2d_backward_input(
        returning,
        weight,
        (n, layer.size, layer.size, layer.channels),
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups if layer.sees_both else layer.groups * layer.towers,
        device=device,
        algorithm="direct",
        precision=precision,
    )
    return np.asarray(found)


def _through_nonlinearity(net: AlexNet, returning: Values, y: Values, rule: Rule) -> Values:
    device = net.devices[0]
    if net.options.activation == "tanh":
        return np.asarray(ops.tanh_backward(returning, y, device=device))
    if rule != "gradient":
        returning = np.asarray(ops.relu(returning, device=device))
    return returning if rule == "deconv" else np.asarray(ops.relu_backward(returning, y, device=device))


def _through_norm(net: AlexNet, stage: _Stage, returning: Values, x: Values) -> Values:
    device = net.devices[0]
    if stage.kind == "lrn_in_map":
        _, scale = ops.lrn_in_map(x, **SECOND_LRN, device=device)
        return np.asarray(ops.lrn_in_map_backward(returning, x, scale, **SECOND_LRN, device=device))
    by_tower = (*x.shape[:-1], stage.layer.towers, -1)  # windows end with a tower's channels
    found = ops.lrn_backward(
        returning.reshape(by_tower), x.reshape(by_tower), **net.options.lrn_arguments, device=device
    )
    return np.asarray(found).reshape(x.shape)


def _for_each_unit(values: Values, returning: Values) -> Values:
    """What the one image gave, (1, ...), once for each of the units that go back."""
    return np.repeat(values, len(returning), axis=0)
