"""What goes wrong inside a net while it trains: NaN and infinity, dead ReLUs, a loss that stays at chance.

All of it looks at the arrays that the last training step left on the devices, so it costs nothing until it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyalexnet.device.native import NativeArray
from pyalexnet.net.entry import INPUT, Entry
from pyalexnet.net.network import AlexNet
from pyalexnet.ops import dropout
from pyalexnet.system.checks import require, shown

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

# A mean loss above this part of chance is one that has not moved; a loss so far above chance has exploded.
_AT_CHANCE, _EXPLODED = 0.99, 4.0

# Fewer steps than this tell nothing of a net.
_LEAST_PATIENCE = 50

# What chance alone gives less often than this is no chance.
_SIGNIFICANT = 0.05

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


def _in_order(net: AlexNet) -> Iterator[tuple[str, str, int, NativeArray]]:
    """Layer, kind, tower and native array of everything that a step computes, as it goes."""
    program = net.last_step()
    yield INPUT, "outputs", 0, program.array("input.joint")
    for entry in (*program.forward, *program.backward_without(net.step_values.frozen)):
        for name, kind in _WRITTEN.items():
            if name in entry.arguments and (name != "y" or entry.direction == "forward"):  # backward only reads y
                yield entry.layer, kind, entry.tower, entry.arguments[name]
    for name, tower, value in program.parameters():
        layer, kind = name.split(".")
        yield layer, "biases" if kind == "bias" else "weights", tower, value


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
    p, (seed, offset) = arguments["p"], net.step_values.draw(entry.layer)
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


@dataclass(frozen=True)
class Peak:
    """Where a loss exploded: the largest one, and its step, counted from 1."""

    loss: float
    step: int

    def __str__(self) -> str:
        return f"the loss rose to {self.loss:.1f} at step {self.step}"


class StuckLoss:
    """Tells when the loss has stayed at chance for a whole stretch of steps, and when it explodes.

    A stretch counts as stuck when its mean loss is above 99% of chance. A loss counts as twice chance at most, and
    NaN as that, so that a few outliers do not hide that the others learn. A loss has exploded where it is 4 above
    chance: the right classes then have a 55th of the probability that guessing gives them.

    How long to wait is a matter of how many classes there are. With ImageNet's 1000, nets that went on to learn began
    to after 1 to 2 thousand steps with biases of 0.1, one after 8 thousand, and nets that had not by 5 thousand mostly
    never did; with the paper's biases of 1 the loss stayed flat (https://github.com/BVLC/caffe/issues/59, 401, 2085;
    pull request 327). Ten classes show within a few hundred steps whether they are learned. So the stretch is 2 steps
    for each class and at least 200, in a short run a third of it, but 50 at least: it may speak while a plateau still
    ends by itself, which is why being stuck is something to report and no reason to stop.
    """

    def __init__(self, chance: float, patience_steps: int) -> None:
        """Begin with no losses.

        Args:
            chance: the loss of guessing, above 0; see :func:`chance_loss`.
            patience_steps: steps of a stretch, at least 1; see :func:`patience_steps`.

        Raises:
            ValueError: an argument is not as described.
        """
        require(0 < chance < math.inf, "chance", chance, "above 0 and finite")
        require(patience_steps >= 1, "patience_steps", patience_steps, "at least 1")
        self.chance = chance
        self.patience_steps = patience_steps
        self.peak: Peak | None = None
        self._seen = 0
        self._steps = 0
        self._sum = 0.0
        self._reported = False

    def update(self, loss: float) -> Literal["exploded", "stuck"] | None:
        """Take a step's loss into account.

        Returns:
            What is new: the first loss that exploded; or the end of the first stretch that is stuck, and again only
            after one that is not.
        """
        self._seen += 1
        self._steps += 1
        self._sum += min(2 * self.chance, float(loss))
        exploded = self.chance + _EXPLODED < loss < math.inf
        first = exploded and self.peak is None
        if exploded and (self.peak is None or loss > self.peak.loss):
            self.peak = Peak(float(loss), self._seen)
        if self._steps < self.patience_steps:
            return "exploded" if first else None
        stuck = self._sum / self._steps > _AT_CHANCE * self.chance
        news = stuck and not self._reported
        self._steps, self._sum, self._reported = 0, 0.0, stuck
        return "stuck" if news else "exploded" if first else None

    def state(self) -> dict[str, object]:
        """What :meth:`load_state` needs to go on exactly from here; JSON holds it without loss."""
        peak = None if self.peak is None else [self.peak.loss, self.peak.step]
        return {
            "seen": self._seen, "steps": self._steps, "sum": self._sum, "reported": self._reported, "peak": peak
        }  # fmt: skip

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from where :meth:`state` was asked, perhaps with another patience.

        Raises:
            ValueError: it is no such state; nothing has changed then.
        """
        match state:
            case {
                "seen": int(seen), "steps": int(steps), "sum": float(total), "reported": bool(reported), "peak": peak,
            } if not {type(seen), type(steps)} & {bool} and 0 <= steps <= seen and math.isfinite(total):  # fmt: skip
                self.peak = _peak(peak, state)
                self._seen, self._steps, self._sum, self._reported = seen, steps, total, reported
            case _:
                require(False, "state", state, "a StuckLoss's")


def _peak(found: object, state: object) -> Peak | None:
    match found:
        case None:
            return None
        case [float(loss), int(step)] if step is not True and step >= 1 and math.isfinite(loss):
            return Peak(loss, step)
    raise ValueError(f"state is {shown(state)}; its peak must be None or a loss and a step")


def chance_loss(labels: npt.NDArray[np.int32]) -> float:
    """The mean loss of answering each class with its share: ln(classes) where all have as many images.

    Args:
        labels: int32 (n,), of at least two classes.
    """
    shares = np.bincount(labels) / len(labels)
    return float(-sum(share * math.log(share) for share in shares if share))


def patience_steps(num_outputs: int, run_steps: int) -> int:
    """How long a loss may stay at chance before :class:`StuckLoss` tells.

    Args:
        num_outputs: the net's outputs.
        run_steps: steps of the whole run.
    """
    return min(max(200, 2 * num_outputs), max(_LEAST_PATIENCE, run_steps // 3))


def can_tell_from_guessing(count: int, largest_share: float) -> bool:
    """Whether so many images are enough for :func:`no_better_than_guessing` to be ever False.

    Args:
        count: images that are judged.
        largest_share: the most frequent class's part of them.
    """
    return count > 0 and not no_better_than_guessing(count, count, largest_share)


def no_better_than_guessing(right: int, count: int, largest_share: float) -> bool:
    """Whether so many right answers can well come of always answering the most frequent class (5%, one-sided).

    Args:
        right: images that were classified rightly.
        count: all images that were judged, at least 1.
        largest_share: the most frequent class's part of them.
    """
    return _binomial_tail(right, count, largest_share) > _SIGNIFICANT


def _binomial_tail(least: int, count: int, share: float) -> float:
    """How probable it is that at least ``least`` of ``count`` trials succeed, each of which does with ``share``."""
    if least == 0 or share == 1:
        return 1.0

    def logarithm(successes: int) -> float:
        ways = math.lgamma(count + 1) - math.lgamma(successes + 1) - math.lgamma(count - successes + 1)
        return ways + successes * math.log(share) + (count - successes) * math.log1p(-share)

    return math.fsum(math.exp(logarithm(successes)) for successes in range(least, count + 1))


def explain_stuck(net: AlexNet, chance: float | None = None, peak: Peak | None = None) -> str:
    """Why the loss may be stuck at chance: dead layers, the size of the steps, and what to try; several lines.

    Args:
        net: a net after :meth:`AlexNet.train_step`.
        chance: the loss of guessing; by default ln(outputs), as where all classes have as many images.
        peak: where the loss had exploded before, if it had.

    Raises:
        RuntimeError: there is no training step to look at.
    """
    with net.exclusive():
        activities, steps = dead_relus(net), _relative_steps(net)
    even = math.log(net.num_classes)
    chance = even if chance is None else chance
    told = f"ln({net.num_classes}) = {even:.4f}" if math.isclose(chance, even, rel_tol=1e-3) else f"{chance:.4f}"
    before = f"{peak} and now stays at" if peak else "the loss stays at"
    said = f"{before} {told}, as if the net guessed by the classes' shares"
    return "\n".join(
        (said, _describe_activities(activities), _describe_steps(steps), *_advice(net, activities, steps, peak))
    )


def explain_explosion(loss: float, chance: float, lr: float) -> str:
    """What an exploded loss means, in one line.

    Args:
        loss: of the step.
        chance: the loss of guessing.
        lr: the step's learning rate.
    """
    return (
        f"the loss is {loss:.1f}, where guessing gives {chance:.2f}: steps with lr {lr:g} are too large for this net, "
        f"and what follows is often a loss that stays at chance. Try a smaller lr, such as {lr / 10:g}, a warm-up, "
        "bias_init 'caffe', or no options, for the recipe that fits the number of images"
    )


def _relative_steps(net: AlexNet) -> dict[str, float]:
    """By layer, how far the last gradient alone moved its weights, relative to their size; none that are frozen."""
    gradients, parameters, rates = net.gradients(), net.parameters(), net.step_values.lr
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


def _advice(
    net: AlexNet, activities: Sequence[LayerActivity], steps: dict[str, float], peak: Peak | None
) -> Iterator[str]:
    """What to try, the likeliest first."""
    rate = max(net.step_values.lr.values())
    if peak:
        yield f"try: from the start, a smaller lr, such as {rate / 10:g}, or a warm-up: the loss exploded with this one"
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
