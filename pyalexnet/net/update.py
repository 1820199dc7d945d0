"""The update: one step of gradient descent with momentum for every parameter.

v ← momentum·v - weight_decay·lr·w - lr·g; w ← w + v, with g the gradient of the mean loss. As an option, biases move
by twice the learning rate and without decay, as those of the 2012 code do; and rates can follow from norms, of which
each parameter has one on each tower.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pyalexnet.device.memory import Ref
from pyalexnet.net.draft import Draft, PlacedParameter
from pyalexnet.net.entry import UPDATE
from pyalexnet.ops.sgd import RATES
from pyalexnet.system.checks import number_within


def describe_update(draft: Draft, *, frozen: Collection[str] = (), follows_norms: bool = False) -> None:
    """One launch a device, after the whole backward pass has read the parameters.

    Args:
        draft: what the launches are written into.
        frozen: names of parameters that keep their bits, and that no launch has to do with.
        follows_norms: whether another launch scales the rates before it; :func:`plan_scaled_rates` has made room.
    """
    for place in range(len(draft.arenas)):
        moved = [found for found in _placed(draft, place) if found.name not in frozen]
        if not moved:
            continue
        rates = [draft.step_values("rates", found.name, place) for found in moved]
        if follows_norms:
            rates = _scaled_rates(draft, place, moved, rates)
        draft.call(
            UPDATE, "sgd_step", place,
            w=[found.parameter.value for found in moved],
            v=[found.parameter.momentum for found in moved],
            g=[found.parameter.gradient for found in moved],
            rates=rates,
        )  # fmt: skip


def plan_scaled_rates(draft: Draft) -> None:
    """Make room on each device for what scales its parameters' rates, some 20 KB."""
    for place, arena in enumerate(draft.arenas):
        parameters = _placed(draft, place)
        native = arena.device.native
        sums_bytes = native.lars_rates_workspace_bytes(w=[found.parameter.value for found in parameters])
        draft.arrays[f"{UPDATE}.rates", place] = arena.add(UPDATE, (len(parameters), 3))  # rate, momentum, decay
        draft.arrays[f"{UPDATE}.sums", place] = arena.add(UPDATE, (sums_bytes,), "uint8")


def _scaled_rates(draft: Draft, place: int, moved: Sequence[PlacedParameter], rates: Sequence[Ref]) -> list[Ref]:
    """Where a launch, which this lists, leaves the rates of some of a device's parameters, scaled by their norms."""
    whole = draft.arrays[f"{UPDATE}.rates", place]
    scaled = [whole.row(number) for number in range(len(moved))]
    draft.call(
        UPDATE, "lars_rates", place,
        w=[found.parameter.value for found in moved],
        g=[found.parameter.gradient for found in moved],
        rates=rates,
        scaled=scaled,
        trust=draft.step_values("trust", "", place),
        workspace=draft.arrays[f"{UPDATE}.sums", place],
    )  # fmt: skip
    return scaled


def _placed(draft: Draft, place: int) -> list[PlacedParameter]:
    """The parameters that lie on a device."""
    return [found for found in draft.all_parameters() if found.place == place]


def rates_by_parameter(lr: float | Mapping[str, float], parameters: Collection[str]) -> dict[str, float]:
    """A learning rate for each parameter.

    Args:
        lr: one for all; or rates by layer (``conv1``) and parameter (``conv1.bias``), where a parameter's own comes
            before its layer's.
        parameters: their names.

    Raises:
        TypeError: a rate is no number.
        ValueError: a rate is out of its range, or for nothing there is; or a parameter has none.
    """
    if not isinstance(lr, Mapping):
        return dict.fromkeys(parameters, as_rate("lr", lr))
    rates = {name: as_rate(f"lr[{name!r}]", rate) for name, rate in lr.items()}
    layer_of = {name: name.split(".")[0] for name in parameters}
    for name in rates:
        if name not in layer_of and name not in layer_of.values():
            raise ValueError(f"lr has {name!r}; it must name layers such as conv1, or parameters such as conv1.bias")
    if lacking := [name for name, layer in layer_of.items() if name not in rates and layer not in rates]:
        raise ValueError(f"lr has no rate for {', '.join(lacking)}")
    return {name: rates[name] if name in rates else rates[layer] for name, layer in layer_of.items()}


def as_rate(name: str, value: float) -> float:
    """A learning rate, a weight decay or a trust coefficient.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or below 0.
    """
    return number_within(name, value, RATES)
