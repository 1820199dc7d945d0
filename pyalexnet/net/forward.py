"""The forward pass: from 8-bit images to the net's input, and from there to logits.

    convolution   y = f(x * w + b), then LRN and max-pooling in the order that the options say
    fc6, fc7      y = dropout(f(x·w + b)), the dropout in training alone
    fc8           y = x·w + b

f is the ReLU or tanh. Each layer's input is known as ``x``, what its nonlinearity gave as ``y``, and what it hands on
as ``out``; or as ``joint``, where the next layer sees both towers. Products apply the ReLU on their way, but in layers
whose sums are asked for: these are ``pre`` then, and the nonlinearity reads them there. LRN and the pooling behind it
are one kernel, which never writes the map between them; where that map is asked for, it is ``lrn.y``, and they are two.
"""

from __future__ import annotations

from itertools import pairwise

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, INPUT_SIZE, SECOND_LRN, Conv, Linear
from pyalexnet.device.memory import Ref
from pyalexnet.net.draft import Draft, row_of
from pyalexnet.net.entry import INPUT
from pyalexnet.net.weight_spectra import MAKES_SPECTRA

# LRN and the pooling behind it, where they are one step.
LRN_POOL = "lrnpool"
# How the names of arrays end that are written only where they are asked for.
OTHERWISE_NOT_WRITTEN = (".pre", ".lrn.y")
# Each row of the input is padded to a multiple of 4 floats, so that conv1 can load 16 bytes at a time.
_INPUT_ROW_FLOATS = -(-INPUT_SIZE * INPUT_CHANNELS // 4) * 4
_INPUT_STRIDES = (INPUT_SIZE * _INPUT_ROW_FLOATS, _INPUT_ROW_FLOATS, INPUT_CHANNELS, 1)


def describe_input(draft: Draft) -> None:
    """The net's input from 8-bit images; each device makes its own, so that towers that share one read the same."""
    n = draft.batch_size
    draft.new_joint(INPUT, (n, INPUT_SIZE, INPUT_SIZE, INPUT_CHANNELS), _INPUT_STRIDES)
    for place in range(len(draft.arenas)):
        draft.call(
            INPUT, "prepare_input", place,
            out=draft.arrays["input.joint", place],
            images=draft.new(INPUT, "images", place, (n, IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS), "uint8"),
            offsets=draft.new(INPUT, "offsets", place, (n, 2), "int32"),
            flips=draft.new(INPUT, "flips", place, (n,), "uint8"),
            shifts=draft.new(INPUT, "shifts", place, (n, INPUT_CHANNELS)),
            mean=draft.new(INPUT, "mean", place, (IMAGE_SIZE, IMAGE_SIZE, INPUT_CHANNELS)),
            crop=draft.options.crop,
            padding=draft.options.conv1_padding,
            deviation=draft.options.colour_divisors,
            scale=draft.step_values("scale", "", place),
        )  # fmt: skip


def describe_forward(draft: Draft) -> None:
    """From the net's input to the logits, layer by layer."""
    feed_both = {layer.name for layer, following in pairwise(draft.layers) if following.sees_both}
    source = INPUT
    for layer in draft.layers:
        if source in feed_both:
            _exchange_halves(draft, layer, f"{source}.joint")
        for tower in layer.computing_towers:
            x = draft.arrays[f"{source}.joint" if layer.sees_both else f"{source}.out", tower]
            draft.arrays[f"{layer.name}.x", tower] = x
            out = _part_of_joint(draft, layer, tower) if layer.name in feed_both else None
            if isinstance(layer, Conv):
                _convolution(draft, layer, tower, x, out)
            else:
                _linear(draft, layer, tower, x, out)
        source = layer.name


def _exchange_halves(draft: Draft, layer: Conv | Linear, joint: str) -> None:
    """Bring each tower of the layer the half of its joint input that the other tower computed."""
    if not draft.has_two_devices:
        return
    for tower in layer.computing_towers:
        other = 1 - tower
        to, source = (draft.arrays[joint, side].part(other, layer.towers) for side in (tower, other))
        draft.start_exchange(layer, tower, to, source)
    for tower in layer.computing_towers:
        draft.finish_exchange(layer, tower)


def _part_of_joint(draft: Draft, layer: Conv | Linear, tower: int) -> Ref:
    """Where a tower writes its channels of what all towers of the next layer see."""
    if (f"{layer.name}.joint", tower) not in draft.arrays:
        n = draft.batch_size
        whole = (layer.pooled_size, layer.pooled_size, layer.filters) if isinstance(layer, Conv) else (layer.outputs,)
        draft.new_joint(layer.name, (n, *whole))
    return draft.arrays[f"{layer.name}.joint", tower].part(tower, layer.towers)


def _convolution(draft: Draft, layer: Conv, tower: int, x: Ref, out: Ref | None) -> None:
    """Convolution with its nonlinearity, then LRN and pooling; the last of them writes to ``out``, if it is given."""
    n, size, filters = draft.batch_size, layer.output_size, layer.tower_filters
    steps, relu_last = steps_after(draft, layer, tower), draft.relu_comes_last(layer)
    y = draft.new(layer.name, "y", tower, (n, size, size, filters))
    sums = _sums(draft, layer, tower, y)
    weight, bias = draft.parameters(layer, tower)
    fused = draft.is_relu and sums is y
    draft.call_product(
        layer.name, "conv_forward", tower, y=sums, x=x, w=weight.value, b=bias.value,
        relu=fused and not relu_last, choices=draft.forward_convolution(layer),
        **x_spectra(draft, layer, tower), **_w_spectra(draft, layer, tower),
    )  # fmt: skip
    if not fused:
        _nonlinearity(draft, layer, tower, y, sums)
    for step in steps:
        x, gives = y, "pool" if step == LRN_POOL else step
        size = layer.pooled_size if gives == "pool" else size
        y = out if out and step == steps[-1] else draft.new(layer.name, gives, tower, (n, size, size, filters))
        _step(draft, layer, step, tower, x, y)
        draft.arrays[f"{layer.name}.{step}.x", tower] = x
        draft.arrays[f"{layer.name}.{gives}.y", tower] = y
    if relu_last:
        draft.call(layer.name, "relu_forward", tower, y=y, x=y)
    draft.arrays[f"{layer.name}.out", tower] = y


def steps_after(draft: Draft, layer: Conv, tower: int) -> list[str]:
    """What follows a convolution on a tower, as the options say.

    LRN and pooling are one step where there is a kernel for both and nobody asks for the map between them.
    """
    options, size = draft.options, layer.output_size
    steps = options.steps_after(layer)
    if steps[-2:] != ["lrn", "pool"] or f"{layer.name}.lrn.y" in draft.kept:
        return steps
    shape = (draft.batch_size, size, size, layer.tower_filters)
    fits = draft.native(tower).fits_lrn_maxpool(shape, **options.lrn_arguments, **options.pool_arguments)
    return [*steps[:-2], LRN_POOL] if fits else steps


def reads_relu(draft: Draft, layer: Conv, tower: int, step: str) -> bool:
    """Whether a step reads what a ReLU gave, so that its backward goes on through that ReLU."""
    return draft.is_relu and not draft.relu_comes_last(layer) and step == steps_after(draft, layer, tower)[0]


def x_spectra(draft: Draft, layer: Conv, tower: int) -> dict[str, Ref]:
    """The spectra of a convolution's input, where its plan has some: forward and the weights' gradient take the same.

    Towers that see one array on one device share its spectra.
    """
    name = f"{layer.name}.x_spectra"
    if not draft.training:
        return {}
    if (name, tower) in draft.arrays:
        return {"x_spectra": draft.arrays[name, tower]}
    x, (weight, _) = draft.arrays[f"{layer.name}.x", tower], draft.parameters(layer, tower)
    plan = draft.forward_plan(layer, tower, x, weight.value)
    if not plan.x_spectra_bytes:
        return {}
    if tower and draft.arrays.get((f"{layer.name}.x", 0)) is x:
        spectra = draft.arrays[name, tower] = draft.arrays[name, 0]
    else:
        spectra = draft.new(layer.name, "x_spectra", tower, (plan.x_spectra_bytes // 4,))
        draft.call(layer.name, "conv_x_spectra", tower, plan=plan, spectra=spectra, x=x)
    return {"x_spectra": spectra}


def _w_spectra(draft: Draft, layer: Conv, tower: int) -> dict[str, Ref]:
    """The spectra of a convolution's weights, where its plan keeps them; who knows they are current skips the entry."""
    x, (weight, _) = draft.arrays[f"{layer.name}.x", tower], draft.parameters(layer, tower)
    plan = draft.forward_plan(layer, tower, x, weight.value)
    if not plan.w_spectra_bytes:
        return {}
    spectra = draft.new_w_spectra(layer.name, tower, plan)
    draft.call(layer.name, MAKES_SPECTRA, tower, plan=plan, spectra=spectra, w=weight.value)
    return {"w_spectra": spectra}


def _sums(draft: Draft, layer: Conv | Linear, tower: int, y: Ref) -> Ref:
    """Where a product writes: an array of its own where that is asked for, else where its nonlinearity does."""
    return draft.new(layer.name, "pre", tower, y.shape) if f"{layer.name}.pre" in draft.kept else y


def _nonlinearity(draft: Draft, layer: Conv | Linear, tower: int, y: Ref, sums: Ref) -> None:
    """The nonlinearity of what a product gave."""
    if not draft.is_relu:
        draft.call(layer.name, "tanh_forward", tower, y=y, x=sums)
        return
    whole = draft.new(layer.name, "relu", tower, y.shape) if y.strides else y  # the kernel fills contiguous arrays
    draft.call(layer.name, "relu_forward", tower, y=whole, x=sums)
    if whole is not y:
        draft.call(layer.name, "copy", tower, dst=y, src=whole)


def _step(draft: Draft, layer: Conv, step: str, tower: int, x: Ref, y: Ref) -> None:
    """Pooling or a normalisation, from x to y."""
    if step == "lrn":
        row = row_of("lrn", layer)
        draft.call(layer.name, "lrn_forward", tower, row=row, y=y, x=x, **draft.options.lrn_arguments)
    elif step == "lrn_in_map":
        row = row_of("lrn", layer)
        scale = draft.new(layer.name, "scale", tower, x.shape)
        draft.call(layer.name, "lrn_in_map_forward", tower, row=row, y=y, scale=scale, x=x, **SECOND_LRN)
    elif step == LRN_POOL:
        winners = draft.new(layer.name, "winners", tower, y.shape, "uint8") if draft.training else None
        arguments = {**draft.options.lrn_arguments, **draft.options.pool_arguments}
        row = row_of(LRN_POOL, layer)
        draft.call(layer.name, "lrn_maxpool_forward", tower, row=row, y=y, winners=winners, x=x, **arguments)
    elif draft.training and draft.native(tower).keeps_winners(x.shape, **draft.options.pool_arguments):
        row, winners = row_of("pool", layer), draft.new(layer.name, "winners", tower, y.shape, "uint8")
        arguments = {"x_from_relu": reads_relu(draft, layer, tower, step), **draft.options.pool_arguments}
        draft.call(layer.name, "maxpool_forward_with_winners", tower, row=row, y=y, winners=winners, x=x, **arguments)
    else:
        row = row_of("pool", layer)
        draft.call(layer.name, "maxpool_forward", tower, row=row, y=y, x=x, **draft.options.pool_arguments)


def _linear(draft: Draft, layer: Linear, tower: int, x: Ref, out: Ref | None) -> None:
    """Matrix product; in hidden layers with its nonlinearity, and with dropout when training."""
    y = out or draft.new(layer.name, "y", tower, (draft.batch_size, layer.tower_outputs))
    weight, bias = draft.parameters(layer, tower)
    has_dropout = bool(layer.hidden and draft.training and draft.options.dropout)
    # ReLU's backward finds what it needs behind the dropout, tanh's does not.
    inner = draft.new(layer.name, "tanh", tower, y.shape) if has_dropout and not draft.is_relu else y
    sums = _sums(draft, layer, tower, inner)
    fused = draft.is_relu and sums is inner
    draft.call_product(
        layer.name, "linear_forward", tower,
        y=sums, x=x.reshaped(draft.batch_size, layer.inputs), w=weight.value, b=bias.value,
        relu=layer.hidden and fused,
    )  # fmt: skip
    if layer.hidden and not fused:
        _nonlinearity(draft, layer, tower, inner, sums)
    if has_dropout:
        row, arguments = row_of("dropout", layer), draft.dropout_arguments(layer, tower)
        draft.call(layer.name, "dropout_forward", tower, row=row, y=y, x=inner, **arguments)
    draft.arrays[f"{layer.name}.y", tower] = inner
    draft.arrays[f"{layer.name}.out", tower] = y
