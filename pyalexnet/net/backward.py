"""The backward pass: from the loss to the gradients of all parameters, the last layer first.

A layer takes dy, the gradient by what it handed on, and goes back through what it did:

    loss                    softmax - label, divided by the batch size
    dropout, f, pool, LRN   dy by what they gave becomes dy by what they took
    convolution, product    dx from dy and w, dw from x and dy, db = Σ dy

Where a layer sees both towers, each tower's dx reaches back into both: their parts are added, tower 0's + tower 1's.
Below the lowest layer that is to move, there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyalexnet.architecture import SECOND_LRN, TOWERS, Conv, Linear
from pyalexnet.device.memory import Ref
from pyalexnet.net.draft import Draft, row_of
from pyalexnet.net.entry import EXCHANGE, LOSS, Entry
from pyalexnet.net.forward import LRN_POOL, reads_relu, steps_after, x_spectra

# What a layer does for the one below it alone.
_FOR_THE_LAYER_BELOW = (
    *("conv_backward_input", "linear_backward_input"),
    *("exchange_start", "exchange_finish", "add_slices"),
)


def describe_backward(draft: Draft) -> None:
    """From the loss back to conv1; every tower's gradient by its layer's output is handed on."""
    gradients = {draft.loss_tower: _loss(draft)}
    for layer in reversed(draft.layers):
        dy = {tower: _through_activation(draft, layer, tower, gradients[tower]) for tower in layer.computing_towers}
        gradients = _through_product(draft, layer, dy)


def layers_without_gradients(names: Sequence[str], frozen: frozenset[str]) -> Sequence[str]:
    """The layers that no gradient needs to reach: those below the first that moves; none where no layer moves.

    Args:
        names: all layers', in order.
        frozen: names of parameters, such as ``conv1.weight``, that keep their bits.
    """
    moves = [not frozen.issuperset((f"{name}.weight", f"{name}.bias")) for name in names]
    return names[: moves.index(True)] if True in moves else ()


def entries_above(entries: Sequence[Entry], names: Sequence[str], skipped: Sequence[str]) -> list[Entry]:
    """The part of a backward pass that gives the gradients of all layers but the lowest ones.

    Args:
        entries: the whole pass.
        names: all layers', in order.
        skipped: the names of the lowest layers.
    """
    if not skipped:
        return list(entries)
    lowest = names[len(skipped)]
    return [
        entry
        for entry in entries
        if entry.layer not in skipped and not (entry.layer == lowest and entry.operation in _FOR_THE_LAYER_BELOW)
    ]


def _loss(draft: Draft) -> Ref:
    """Each image's loss, and the gradient of their mean by the logits."""
    tower = draft.loss_tower
    logits = draft.arrays[f"{draft.layers[-1].name}.out", tower]
    losses = draft.new(LOSS, "losses", tower, (draft.batch_size,))
    labels = draft.new(LOSS, "labels", tower, (draft.batch_size,), "int32")
    dlogits = draft.new(LOSS, "dlogits", tower, logits.shape)
    draft.call(LOSS, "cross_entropy", tower, losses=losses, dlogits=dlogits, logits=logits, labels=labels)
    return dlogits


# From a layer's output to its convolution or matrix product ------------------------------------------------------


def _through_activation(draft: Draft, layer: Conv | Linear, tower: int, dy: Ref) -> Ref:
    if isinstance(layer, Conv):
        return _through_steps(draft, layer, tower, dy)
    if layer.hidden:
        y, dropout = draft.arrays[f"{layer.name}.y", tower], draft.options.dropout
        if dropout and not draft.is_relu:  # a ReLU goes back through it too: y is above 0 where both let pass
            row, arguments = row_of("dropout", layer), draft.dropout_arguments(layer, tower)
            draft.call(layer.name, "dropout_backward", tower, row=row, dx=dy, dy=dy, **arguments)
        _through_nonlinearity(draft, layer, tower, dy, y, relu_scale=1 / (1 - dropout))
    return dy


def _through_steps(draft: Draft, layer: Conv, tower: int, dy: Ref) -> Ref:
    """Back through pooling and LRN; the one that follows the ReLU goes on through it, as it reads its output."""
    steps = steps_after(draft, layer, tower)
    if draft.relu_comes_last(layer):
        _through_nonlinearity(draft, layer, tower, dy, draft.arrays[f"{layer.name}.out", tower])
    for step in reversed(steps):
        dy = _through_step(draft, layer, step, tower, dy)
    if not draft.is_relu or not (steps or draft.relu_comes_last(layer)):
        _through_nonlinearity(draft, layer, tower, dy, draft.arrays[f"{layer.name}.y", tower])
    return dy


def _through_step(draft: Draft, layer: Conv, step: str, tower: int, dy: Ref) -> Ref:
    """Back through pooling or a normalisation, and through the ReLU before it where there is one."""
    x = draft.arrays[f"{layer.name}.{step}.x", tower]
    dx = draft.new(layer.name, f"d{step}", tower, x.shape)
    through_relu = reads_relu(draft, layer, tower, step)
    arguments: dict[str, object] = {"dx": dx, "dy": dy, "x": x}
    if step == "lrn":
        arguments |= {"x_from_relu": through_relu, **draft.options.lrn_arguments}
        draft.call(layer.name, "lrn_backward", tower, row=row_of("lrn", layer), **arguments)
    elif step == "lrn_in_map":
        scale = draft.arrays[f"{layer.name}.scale", tower]
        terms = draft.new(layer.name, "terms", tower, x.shape)
        arguments |= {"scale": scale, "terms": terms, **SECOND_LRN}
        draft.call(layer.name, "lrn_in_map_backward", tower, row=row_of("lrn", layer), **arguments)
    elif step == LRN_POOL:
        arguments |= {"winners": draft.arrays[f"{layer.name}.winners", tower], "x_from_relu": through_relu}
        arguments |= {**draft.options.lrn_arguments, **draft.options.pool_arguments}
        draft.call(layer.name, "lrn_maxpool_backward", tower, row=row_of(LRN_POOL, layer), **arguments)
    elif (f"{layer.name}.winners", tower) in draft.arrays:  # which know of the ReLU
        winners = draft.arrays[f"{layer.name}.winners", tower]
        arguments = {"dx": dx, "dy": dy, "winners": winners, **draft.options.pool_arguments}
        draft.call(layer.name, "maxpool_backward_by_winners", tower, row=row_of("pool", layer), **arguments)
    else:
        arguments |= {"x_from_relu": through_relu, **draft.options.pool_arguments}
        draft.call(layer.name, "maxpool_backward", tower, row=row_of("pool", layer), **arguments)
    return dx


def _through_nonlinearity(
    draft: Draft, layer: Conv | Linear, tower: int, dy: Ref, y: Ref, *, relu_scale: float = 1.0
) -> None:
    """Back through the ReLU or tanh that gave y, in place; the ReLU's with what dropout multiplied by."""
    scale: dict[str, Any] = {"scale": relu_scale} if draft.is_relu else {}
    draft.call(layer.name, f"{draft.options.activation}_backward", tower, dx=dy, dy=dy, y=y, **scale)


# Through the convolution or matrix product -----------------------------------------------------------------------


def _through_product(draft: Draft, layer: Conv | Linear, dy: dict[int, Ref]) -> dict[int, Ref]:
    """Gradients by input, weights and biases; returns those by the previous layer's outputs, by tower.

    The gradient by the input comes first, so that its exchange runs while the gradient by the weights is computed.
    conv1 has nobody to hand one to.
    """
    dx = {} if layer.name == "conv1" else {tower: _input_gradient(draft, layer, tower, dy[tower]) for tower in dy}
    towers_meet = bool(dx) and layer.sees_both and layer.towers > 1
    received = _start_exchange(draft, layer, dx) if towers_meet else {}
    for tower in dy:
        _weight_gradient(draft, layer, tower, dy[tower])
    return _sums(draft, layer, dx, received) if towers_meet else dx


def _input_gradient(draft: Draft, layer: Conv | Linear, tower: int, dy: Ref) -> Ref:
    x = draft.arrays[f"{layer.name}.x", tower]
    weight, _ = draft.parameters(layer, tower)
    dx = draft.new(layer.name, "dx", tower, x.shape)
    if isinstance(layer, Conv):
        draft.call_product(
            layer.name, "conv_backward_input", tower, dx=dx, dy=dy, w=weight.value, choices=draft.convolution(layer)
        )
    else:
        draft.call_product(
            layer.name, "linear_backward_input", tower,
            dx=dx.reshaped(draft.batch_size, layer.inputs), dy=dy, w=weight.value,
        )  # fmt: skip
    return dx


def _weight_gradient(draft: Draft, layer: Conv | Linear, tower: int, dy: Ref) -> None:
    x = draft.arrays[f"{layer.name}.x", tower]
    weight, bias = draft.parameters(layer, tower)
    if isinstance(layer, Conv):
        draft.call_product(
            layer.name, "conv_backward_weight", tower,
            dw=weight.gradient, db=bias.gradient, x=x, dy=dy, choices=draft.convolution(layer),
            **x_spectra(draft, layer, tower),
        )  # fmt: skip
    else:
        draft.call_product(
            layer.name, "linear_backward_weight", tower,
            dw=weight.gradient, db=bias.gradient, x=x.reshaped(draft.batch_size, layer.inputs), dy=dy,
        )  # fmt: skip


# Between the towers ----------------------------------------------------------------------------------------------


def _start_exchange(draft: Draft, layer: Conv | Linear, dx: dict[int, Ref]) -> dict[int, Ref]:
    """By the tower that it is for: what the other tower computed of the gradient by this one's half of the input."""
    received = {}
    for tower in range(TOWERS):
        other = 1 - tower
        if other not in dx:
            continue
        received[tower] = part = dx[other].part(tower, TOWERS)
        if draft.has_two_devices:
            received[tower] = draft.new(layer.name, "received", tower, part.shape)
            draft.start_exchange(layer, tower, received[tower], part)
    return received


def _sums(draft: Draft, layer: Conv | Linear, dx: dict[int, Ref], received: dict[int, Ref]) -> dict[int, Ref]:
    """By tower, the gradient by its half of the joint input: what each tower that computes the layer has of it."""
    if draft.has_two_devices:
        for tower in received:
            draft.finish_exchange(layer, tower)
    sums = {}
    for tower in range(TOWERS):
        parts = {tower: dx[tower].part(tower, TOWERS)} if tower in dx else {}
        if tower in received:
            parts[1 - tower] = received[tower]
        sums[tower] = _sum(draft, layer, tower, [parts[computing] for computing in sorted(parts)])
    return sums


def _sum(draft: Draft, layer: Conv | Linear, tower: int, parts: list[Ref]) -> Ref:
    """Tower 0's part plus tower 1's, or the only one there is."""
    if len(parts) == 1:
        return parts[0]
    total = draft.new(layer.name, "sum", tower, parts[0].shape)
    draft.call(layer.name, "add_slices", tower, row=EXCHANGE, out=total, a=parts[0], b=parts[1])
    return total
