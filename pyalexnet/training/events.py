"""What a training run tells a function of its user's, and how that stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import Evaluation
from pyalexnet.training.state import EpochRecord

EventKind: TypeAlias = Literal["step", "evaluation", "epoch"]


@dataclass(eq=False)
class TrainingEvent:
    """What has just been done in a training run, for the ``callback`` of :func:`pyalexnet.train`.

    Attributes:
        kind: a ``"step"``; the ``"evaluation"`` of the held-out images after an epoch's steps, where some are held out;
            or the ``"epoch"``, after both, when its checkpoint has been written.
        epoch: which epoch, from 1 on.
        step: training steps done since the run began.
        loss: a step's mean over its batch, before its update; the held-out images' mean; the mean over an epoch's
            steps.
        lr: the learning rate of the step, or at the epoch's end.
        model: the classifier as it is. It may compute, such as features, which changes nothing; its parameters must
            stay.
        evaluation: of an evaluation what it found, else None.
        record: of an epoch its record in the history, else None.
    """

    kind: EventKind
    epoch: int
    step: int
    loss: float
    lr: float
    model: Classifier = field(repr=False)
    evaluation: Evaluation | None = None
    record: EpochRecord | None = None
    stop_asked: bool = field(default=False, init=False, repr=False)

    def stop(self) -> None:
        """End the run here as Ctrl-C does: it is saved, and can be resumed."""
        self.stop_asked = True


Callback: TypeAlias = Callable[[TrainingEvent], object]
