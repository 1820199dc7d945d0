"""What goes wrong inside a net while it trains: NaN and infinity, dead ReLUs, a loss that stays at chance.

All of it looks at the arrays that the last training step left on the devices, so it costs nothing until it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.checks import require
from pyalexnet.network import AlexNet
from pyalexnet.ops import dropout
from pyalexnet.program import INPUT, Entry

# The arrays that an entry of a program writes, by their argument's name, and what they hold.
_WRITTEN = {
    "y": "outputs",
    "losses": "losses",
    "dlogits": "gradient by the logits",
    "dx": "gradient by its input",
    "out": "gradient by its input",
    "dw": "gradient by its weights",
    "db": "gradient by its biases",
}

# A unit's share of a layer from which on the layer is called dead: what is left passes next to nothing on.
_DEAD_LAYER = 0.9

# How far one step moves a layer's weights, relative to their size, is usually near 1e-3. A hundredth of that moves
# nothing within thousands of steps; ten times as much, with momentum on top, throws away what was learned.
_SLOW, _FAST = 1e-5, 1e-2

# Stands in for the norm of weights that are all 0.
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class NonFinite:
    """Where a training step first met NaN or infinity; ``str()`` says it in one line.

    Attributes:
        layer: ``input``, ``conv1`` … ``fc8`` or ``loss``.
        kind: what the array holds, such as ``outputs``, ``gradient by its weights`` or ``weights``.
        tower: 0 or 1.
        nan_count: values that are NaN.
        infinite_count: values that are infinite.
        size: values of the array.
    """

    layer: str
    kind: str
    tower: int
    nan_count: int
    infinite_count: int
    size: int

    def __str__(self) -> str:
        return (
            f"the first NaN or infinity is in {self.layer}, tower {self.tower}, {self.kind}: "
            f"{self.nan_count} NaN and {self.infinite_count} infinite of {self.size} values"
        )


def first_non_finite(net: AlexNet) -> NonFinite | None:
    """The first array with NaN or infinity in the order in which the last training step computed them.

    That is the input, the layers' outputs from conv1 to fc8, the losses, the gradients from fc8 back to conv1, and the
    parameters after the update. Ask right after the step: what another step or :meth:`AlexNet.forward` computes
    replaces it. Outputs of a layer that is named first are not finite though its input is: its sums were too large, or
    its parameters were not finite before the step.

    The hidden fully-connected layers are seen behind their dropout, which drops NaN as it drops other values, and a
    gradient behind the ReLU and dropout that it passed back through.

    Args:
        net: a net after :meth:`AlexNet.train_step`.

    Returns:
        What was found, or None if all is finite.

    Raises:
        RuntimeError: there is no training step to look at.
    """
    with net.exclusive():
        for layer, kind, tower, array in _in_order(net):
            value = net.read(array, tower)
            if not np.isfinite(value).all():
                nan_count, infinite_count = int(np.isnan(value).sum()), int(np.isinf(value).sum())
                return NonFinite(layer, kind, tower, nan_count, infinite_count, value.size)
    return None


def _in_order(net: AlexNet) -> Iterator[tuple[str, str, int, Any]]:
    """Layer, kind, tower and native array of everything that a step computes, as it goes."""
    program = net.last_step()
    yield INPUT, "outputs", 0, program.array("input.joint")
    for entry in (*program.forward, *program.backward):
        for name, kind in _WRITTEN.items():
            if name in entry.arguments and (name != "y" or entry.direction == "forward"):  # backward only reads y
                yield entry.layer, kind, entry.tower, entry.arguments[name]
    for entry in program.update:
        w = entry.arguments["w"]
        yield entry.layer, "biases" if len(w.shape) == 1 else "weights", entry.tower, w


@dataclass(frozen=True)
class LayerActivity:
    """How much of a tower's layer is awake; ``str()`` gives a line of a table.

    Attributes:
        layer: ``conv1`` … ``fc7``.
        tower: 0 or 1.
        units: channels of a convolution, outputs of a fully-connected layer.
        dead_share: the part of the units that is 0 in all images, at all pixels.
        zero_share: the part of all values that is 0.
    """

    layer: str
    tower: int
    units: int
    dead_share: float
    zero_share: float

    def __str__(self) -> str:
        return (
            f"{self.layer:6}  tower {self.tower}  {self.units:5} units  {self.dead_share:6.1%} dead  "
            f"{self.zero_share:6.1%} zeros"
        )


def dead_relus(net: AlexNet) -> list[LayerActivity]:
    """How many ReLUs the last training step's batch left at 0, by layer and tower.

    A unit that is 0 for one batch may wake for another: the fewer images, the more units look dead. Where dropout
    follows, only what it kept is counted, and a unit that it kept in no image is left out.

    Args:
        net: a net after :meth:`AlexNet.train_step`.

    Returns:
        conv1 to fc7, tower 0 before tower 1 in each; nothing for a net without ReLUs.

    Raises:
        RuntimeError: there is no training step to look at.
    """
    with net.exclusive():
        forward = net.last_step().forward
        dropouts = {(entry.layer, entry.tower): entry for entry in forward if entry.operation == "dropout_forward"}
        return [
            _activity_of(net, entry, dropouts.get((entry.layer, entry.tower)))
            for entry in forward
            if entry.arguments.get("relu") or entry.operation == "relu_forward"
        ]


def _activity_of(net: AlexNet, entry: Entry, dropout_of: Entry | None) -> LayerActivity:
    """Of the ReLUs that an entry computes, and the dropout behind them, if there is one."""
    y = net.read(entry.arguments["y"], entry.tower)
    by_unit = y.reshape(-1, y.shape[-1])
    kept = _kept(net, dropout_of) if dropout_of else np.ones(by_unit.shape, np.bool_)
    return _activity(entry, by_unit > 0, kept)


def _kept(net: AlexNet, entry: Entry) -> npt.NDArray[np.bool_]:
    """The values (images, units) that a dropout of the last step kept: its draw once more."""
    arguments = entry.arguments
    images, units = arguments["y"].shape
    p, seed, offset = arguments["p"], arguments["seed"](net.knobs), arguments["offset"](net.knobs)
    rows = dropout(np.ones((images, arguments["row_elements"]), np.float32), p=p, seed=seed, offset=offset)
    first = arguments["first_column"]
    kept: npt.NDArray[np.bool_] = rows.numpy()[:, first : first + units] > 0
    return kept


def _activity(entry: Entry, awake: npt.NDArray[np.bool_], kept: npt.NDArray[np.bool_]) -> LayerActivity:
    judged = kept.any(axis=0)
    dead = judged & ~(awake & kept).any(axis=0)
    return LayerActivity(
        layer=entry.layer,
        tower=entry.tower,
        units=awake.shape[1],
        dead_share=float(dead.sum() / max(judged.sum(), 1)),
        zero_share=float((kept & ~awake).sum() / max(kept.sum(), 1)),
    )


class StuckLoss:
    """Tells when the loss has stayed at chance, ln(outputs), for a whole stretch of steps.

    A stretch counts as stuck when its mean loss is above 99% of chance. A loss counts as twice chance at most, and
    NaN as that, so that a few outliers do not hide that the others learn.

    How long to wait is a matter of how many classes there are. With ImageNet's 1000, nets that went on to learn began
    to after 1 to 2 thousand steps with biases of 0.1, one after 8 thousand, and nets that had not by 5 thousand mostly
    never did; with the paper's biases of 1 the loss stayed flat (https://github.com/BVLC/caffe/issues/59, 401, 2085;
    pull request 327). Ten classes show within a few hundred steps whether they are learned. So the default is 2 steps
    for each class and at least 200: it may speak while a plateau still ends by itself, which is why being stuck is
    something to report and no reason to stop.
    """

    def __init__(self, num_outputs: int, patience_steps: int | None = None) -> None:
        """Begin with no losses.

        Args:
            num_outputs: the net's outputs, at least 2.
            patience_steps: steps of a stretch, at least 1; by default 2 for each output and at least 200.

        Raises:
            ValueError: an argument is below its least value.
        """
        patience_steps = max(200, 2 * num_outputs) if patience_steps is None else patience_steps
        require(num_outputs >= 2, "num_outputs", num_outputs, "at least 2")
        require(patience_steps >= 1, "patience_steps", patience_steps, "at least 1")
        self.chance = math.log(num_outputs)
        self.patience_steps = patience_steps
        self._steps = 0
        self._sum = 0.0
        self._reported = False

    def update(self, loss: float) -> bool:
        """Take a step's loss into account.

        Returns:
            True at the end of the first stretch that is stuck; again only after one that is not.
        """
        self._steps += 1
        self._sum += min(2 * self.chance, float(loss))
        if self._steps < self.patience_steps:
            return False
        stuck = self._sum / self._steps > 0.99 * self.chance
        news = stuck and not self._reported
        self._steps, self._sum, self._reported = 0, 0.0, stuck
        return news

    def state(self) -> dict[str, int | float | bool]:
        """What :meth:`load_state` needs to go on exactly from here; JSON holds it without loss."""
        return {"steps": self._steps, "sum": self._sum, "reported": self._reported}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state` was asked.

        Raises:
            ValueError: it is no such state; nothing has changed then.
        """
        match state:
            case {"steps": int(steps), "sum": float(total), "reported": bool(reported)} if (
                steps is not True and 0 <= steps < self.patience_steps and math.isfinite(total)
            ):
                self._steps, self._sum, self._reported = steps, total, reported
            case _:
                require(False, "state", state, f"a StuckLoss's with patience_steps {self.patience_steps}")


def explain_stuck(net: AlexNet) -> str:
    """Why the loss may be stuck at chance: dead layers, the size of the steps, and what to try; several lines.

    Args:
        net: a net after :meth:`AlexNet.train_step`.

    Raises:
        RuntimeError: there is no training step to look at.
    """
    with net.exclusive():
        activities, steps = dead_relus(net), _relative_steps(net)
    chance = f"the loss stays at ln({net.num_classes}) = {math.log(net.num_classes):.4f}, as if the net guessed"
    return "\n".join(
        (chance, _describe_activities(activities), _describe_steps(steps), *_advice(net, activities, steps))
    )


def _relative_steps(net: AlexNet) -> dict[str, float]:
    """By layer, how far the last gradient alone moved its weights, relative to their size; none that are frozen."""
    gradients, parameters, rates = net.gradients(), net.parameters(), net.knobs.lr
    names = [name for name in net.shapes if name.endswith(".weight")]
    return {
        name.removesuffix(".weight"): float(
            rates[name] * np.linalg.norm(gradients[name]) / max(np.linalg.norm(parameters[name]), _TINY)
        )
        for name in names
        if rates[name]
    }


def _describe_activities(activities: Sequence[LayerActivity]) -> str:
    if not activities:
        return "the net has no ReLUs that could be dead"
    dead = [activity for activity in activities if activity.dead_share >= _DEAD_LAYER]
    if dead:
        return "dead layers: " + ", ".join(f"{a.layer} tower {a.tower} ({a.dead_share:.0%} of its ReLUs)" for a in dead)
    worst = max(activities, key=lambda activity: activity.dead_share)
    return f"no layer is dead; {worst.layer} tower {worst.tower} has the most dead ReLUs, {worst.dead_share:.0%}"


def _describe_steps(steps: dict[str, float]) -> str:
    sizes = ", ".join(f"{layer} {size:.0e}" for layer, size in steps.items())
    return f"lr · |gradient| / |weights|, usually near 1e-03: {sizes}"


def _advice(net: AlexNet, activities: Sequence[LayerActivity], steps: dict[str, float]) -> Iterator[str]:
    """What to try, the likeliest first."""
    rate = max(net.knobs.lr.values())
    dead = next((activity.layer for activity in activities if activity.dead_share >= _DEAD_LAYER), None)
    if dead:
        yield (
            f"try: a smaller lr, such as {rate / 10:g}, from the start or an earlier checkpoint: no gradient passes "
            f"{dead}'s dead ReLUs, so they do not wake again"
        )
        if net.options.weight_init == "notes":
            yield "try: weight_init 'paper'; 'notes' begins with weights so large that training diverges"
        return
    if max(steps.values(), default=0.0) > _FAST:
        yield f"try: a smaller lr, such as {rate / 10:g}: its steps are large for the weights"
    if net.options.bias_init != "caffe":
        yield "try: bias_init 'caffe': biases of 0.1, as the paper's 1 make the loss flat for long"
    if min(steps.values(), default=0.0) < _SLOW:
        if net.options.weight_init == "paper":
            yield "try: weight_init 'source2012': larger weights in conv3 to conv5 pass larger gradients back"
        yield f"try: a larger lr, such as {3 * rate:g}: its steps are small for the weights"
    yield "check: whether the labels belong to their images"
