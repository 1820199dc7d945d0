"""The loop of a training run, which can stop after any step and go on from there bit for bit."""

from __future__ import annotations

import math
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pyalexnet.data.augmentation import epoch_order, epoch_variations
from pyalexnet.data.prefetch import AHEAD, in_batches, read_ahead
from pyalexnet.errors import DivergedError, SaveError
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.judging import Evaluation, judge
from pyalexnet.net.model_file import MODEL_FILE
from pyalexnet.net.network import AlexNet
from pyalexnet.system.files import link_atomically
from pyalexnet.system.interrupt import Interrupted, InterruptRequest
from pyalexnet.system.progress import Display
from pyalexnet.training.checkpoint import Checkpoint, prune_checkpoints
from pyalexnet.training.events import Callback, EventKind, TrainingEvent
from pyalexnet.training.logs import Log
from pyalexnet.training.recipe import recipe_for
from pyalexnet.training.result import BEST_FILE, TrainingResult
from pyalexnet.training.schedule import Rates, warm_up
from pyalexnet.training.start import StartingPoint
from pyalexnet.training.state import EpochRecord
from pyalexnet.training.watch import (
    LayerActivity,
    StuckLoss,
    can_tell_from_guessing,
    chance_loss,
    dead_relus,
    explain_explosion,
    explain_stuck,
    first_non_finite,
    no_better_than_guessing,
    patience_steps,
)

# After so many steps a net that learns at all is better than guessing.
_TELLING_STEPS = 100

Labels = npt.NDArray[np.int32]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Saving:
    """Where and how often a run's checkpoints are written.

    Attributes:
        folder: the run's folder.
        minutes: the time from one checkpoint to the next; each epoch's end has one in any case.
        keep: how many of the last ones stay; the best epoch's stays too.
    """

    folder: Path
    minutes: float
    keep: int


class Run:
    """A training run on its way."""

    def __init__(
        self,
        result: TrainingResult,
        start: StartingPoint,
        *,
        saving: Saving | None,
        logs: list[Log],
        display: Display,
        interrupt: InterruptRequest,
        report_relus: bool,
        callback: Callback | None,
    ) -> None:
        """Stand at ``start``, whose state the run carries on; ``result`` shares its model and history."""
        self.result = result
        self.settings = start.settings
        self.shards = start.shards
        self.ranks = start.shards.ranks
        self.model = start.model
        self.net = start.model.net
        self.colour_axes = start.colour_axes
        self.reached = start.state
        self.schedule = start.settings.make_schedule()
        self.training = training = start.chosen.training
        self.held_out = held_out = start.chosen.held_out
        self.saving = saving
        self.is_saved = self.ranks.from_first(lambda: saving is not None)
        self.logs = logs
        self.display = display
        self.interrupt = interrupt
        self.report_relus = report_relus
        self.activities: list[LayerActivity] = []
        self.callback = callback
        self.calls_back = self.ranks.from_first(lambda: callback is not None)
        self.callback_error: Exception | None = None
        self.failing_logs: list[Log] = []
        self.steps_an_epoch = len(training) // self.settings.batch_size
        steps = self.settings.epochs * self.steps_an_epoch
        self.stuck_loss = StuckLoss(chance_loss(training.labels), patience_steps(self.net.num_classes, steps))
        if self.reached.schedule:
            self.schedule.load_state(self.reached.schedule)
        if self.reached.stuck_loss:
            self.stuck_loss.load_state(self.reached.stuck_loss)
        self.held_out_count = 0 if held_out is None else len(held_out)
        self.largest_share = 0.0 if held_out is None else float(np.bincount(held_out.labels).max() / len(held_out))
        self.held_out_tells = can_tell_from_guessing(self.held_out_count, self.largest_share)
        self.own_images = self.settings.batch_size // self.ranks.size  # of each batch, those that this rank looks at
        self.buffers = self.net.image_buffers(self.own_images, AHEAD + 1)
        self.last_saved = time.monotonic()
        self.remember()

    def to_the_end(self) -> None:
        """Train until all epochs are done or a stop is asked for; the result says which.

        Raises:
            DivergedError: a loss was not finite; the net has the parameters of the last whole epoch, or those that
                it began with in this process.
            SaveError: a checkpoint could not be written.
            Exception: one of the callback's; the run is saved as it stood.
        """
        images_an_epoch = self.steps_an_epoch * self.settings.batch_size + len(self.held_out or ())
        done = (self.reached.epoch - 1) * images_an_epoch + len(self.reached.losses) * self.settings.batch_size
        self.display.begin("training", self.settings.epochs * images_an_epoch, done=done)
        try:
            while self.reached.epoch <= self.settings.epochs:
                self.finish_epoch()
            self.result.stopped = "finished"
        except Interrupted:
            self.result.signal = self.interrupt.signal
            self.result.stopped = "interrupted" if self.result.signal in (signal.SIGINT, None) else "terminated"
            if self.reached.epoch > self.settings.epochs:  # a callback's stop changes nothing there
                self.result.stopped = "finished"
            self.display.line(f"{self.result.stopped} at step {self.net.step}")
        except DivergedError as error:
            self.tell_event("diverged", str(error))
            self.go_back()
            self.result.stopped = "diverged"
            error.result = self.result
            self.ranks.from_first(self.write_result)
            raise
        self.save()
        if self.callback_error:
            raise self.callback_error

    def write_result(self) -> None:
        """Write the model and the run's record alone, without a checkpoint, by the rank that writes."""
        if self.saving:
            self.result.save(self.saving.folder)

    def finish_epoch(self) -> None:
        """The epoch's steps that are still to do, then the validation."""
        start = time.perf_counter() - self.reached.epoch_seconds
        self.steps(start)
        validation = self.validate()
        if validation:
            self.require_finite(validation.loss, "validation loss")
            self.call_back("evaluation", validation.loss, self.rates().lr, evaluation=validation)
        record = EpochRecord(
            epoch=self.reached.epoch,
            steps=self.net.step,
            lr=self.rates().lr,
            train_loss=math.fsum(self.reached.losses) / len(self.reached.losses),
            validation_loss=validation.loss if validation else None,
            validation_error=validation.top1_error if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            images_per_second=len(self.reached.losses) * self.settings.batch_size / self.reached.train_seconds,
            seconds=time.perf_counter() - start,
        )
        self.schedule.update(record.validation_error)
        self.reached.begin_next_epoch(record)
        self.display.line(str(record))
        self.tell_epoch(record)
        self.tell_chance()
        self.remember()
        self.save()
        self.call_back("epoch", record.train_loss, record.lr, record=record)

    def steps(self, epoch_start: float) -> None:
        """The steps of the epoch that are still to do."""
        settings = self.settings
        self.display.stage(f"epoch {self.reached.epoch}/{settings.epochs}")
        start = time.perf_counter() - self.reached.train_seconds
        for batch, labels in self.batches():
            rates = self.rates()
            loss = self.net.train_step(
                batch,
                labels,
                lr=rates.for_step(settings.lr_layers),
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                lars=settings.lars,
                shards=self.shards,
            )
            self.require_finite(loss, "loss", of_step=True)
            now = time.perf_counter()
            self.reached.losses.append(loss)
            self.reached.train_seconds, self.reached.epoch_seconds = now - start, now - epoch_start
            self.tell_step(loss, rates)
            if self.report_relus and len(self.reached.losses) == self.steps_an_epoch:
                # Now, since what is computed from here on takes the step's memory.
                self.activities = self.of_last_shard(dead_relus)
            self.call_back("step", loss, rates.lr)
            self.grant_requests(may_be_due=True)

    def batches(self) -> Iterator[tuple[ImageBatch, Labels]]:
        """This rank's part of the rest of the epoch's batches, read in the background: the net's input, and labels."""
        count, settings = len(self.training), self.settings
        order = epoch_order(count, seed=settings.seed, epoch=self.reached.epoch)
        noise = self.rates().colour_noise
        variations = epoch_variations(
            count,
            seed=settings.seed,
            epoch=self.reached.epoch,
            reflect=settings.reflect,
            colour_noise=settings.colour_noise if noise is None else noise,
            colour_axes=self.colour_axes,
            colour_noise_scaled=settings.colour_noise_scaled,
            crop=self.net.options.crop,
        )
        todo = np.arange(len(self.reached.losses) * settings.batch_size, count)
        own = slice(self.ranks.rank * self.own_images, (self.ranks.rank + 1) * self.own_images)
        batches = [positions[own] for positions in in_batches(todo, settings.batch_size, drop_last=True)]
        images_read = read_ahead(self.training, (order[positions] for positions in batches), buffers=self.buffers)
        for positions, (images, labels) in zip(batches, images_read, strict=True):
            yield self.model.input_batch(images, variations[positions]), labels

    def rates(self) -> Rates:
        """What the schedule says at this place, less where the run warms up."""
        rates = self.schedule.at(self.reached.epoch - 1 + len(self.reached.losses) / self.steps_an_epoch)
        return rates.scaled(warm_up(self.net.step, self.settings.warmup))

    def validate(self) -> Evaluation | None:
        """The measure of the held-out images, if any."""
        if self.held_out is None:
            return None
        self.display.stage(f"validation {self.reached.epoch}/{self.settings.epochs}")

        def on_images(count: int) -> None:
            self.grant_requests()
            self.display.advance(count)

        return judge(self.model, self.held_out, batch_size=self.own_images, on_images=on_images, ranks=self.ranks)

    def grant_requests(self, *, may_be_due: bool = False) -> None:
        """Save or leave the loop, between two steps or batches, if any rank was asked to.

        Args:
            may_be_due: whether to save if the last checkpoint is long ago, too.

        Raises:
            Interrupted: the loop is to be left.
        """
        due = may_be_due and self.saving is not None and self.seconds_since_saved() >= 60 * self.saving.minutes
        of_ranks = self.ranks.gather((self.interrupt.take_stop_request(), self.interrupt.take_save_request(), due))
        stops, saves, dues = zip(*of_ranks, strict=True)
        if stop := next(filter(None, stops), None):
            self.interrupt.signal = stop
            raise Interrupted
        if any(saves) and self.is_saved:
            self.save()
            self.display.line(f"saved at step {self.net.step}")
        elif any(dues):
            self.save()

    def seconds_since_saved(self) -> float:
        """How long the last checkpoint is ago, or the run's beginning."""
        return time.monotonic() - self.last_saved

    def call_back(
        self,
        kind: EventKind,
        loss: float,
        lr: float,
        *,
        evaluation: Evaluation | None = None,
        record: EpochRecord | None = None,
    ) -> None:
        """Tell the user's function what has been done, where there is one.

        Raises:
            Interrupted: it asks to stop, or failed; :attr:`callback_error` has its exception.
        """
        if not self.calls_back:
            return
        epoch = record.epoch if record else self.reached.epoch  # the next one is under way then
        event = TrainingEvent(kind, epoch, self.net.step, loss, lr, self.model, evaluation, record)
        try:
            stop_asked = self.ranks.from_first(partial(self.is_stop_asked, event))
        except Exception as error:
            self.callback_error = error
            raise Interrupted from error
        if stop_asked:
            raise Interrupted

    def is_stop_asked(self, event: TrainingEvent) -> bool:
        """Whether the user's function asks to stop when it is told of something."""
        if self.callback is not None:
            self.callback(event)
        return event.stop_asked

    def of_last_shard(self, look: Callable[[AlexNet], Found]) -> Found:
        """What is found in the last step of the rank that computed the batch's last shard; every rank must ask."""
        return self.ranks.gather(look(self.net))[-1]

    def tell_step(self, loss: float, rates: Rates) -> None:
        """Show and log a step; explain a loss that has not moved."""
        images_per_second = len(self.reached.losses) * self.settings.batch_size / self.reached.train_seconds
        self.log("step", epoch=self.reached.epoch, loss=loss, lr=rates.lr, images_per_second=images_per_second)
        self.display.advance(self.settings.batch_size)
        self.display.state(self.state(loss, images_per_second))
        news = self.stuck_loss.update(loss)
        if news == "exploded":
            self.tell(news, explain_explosion(loss, self.stuck_loss.chance, rates.lr))
        elif news == "stuck":
            look = partial(explain_stuck, chance=self.stuck_loss.chance, peak=self.stuck_loss.peak)
            self.tell(news, self.of_last_shard(look))

    def tell_epoch(self, record: EpochRecord) -> None:
        """Log an epoch and, if asked, show each tower's share of ReLUs that its last step found dead.

        Where a run goes on behind that step, nobody knows them any more.
        """
        self.log("epoch", **{name: value for name, value in vars(record).items() if name != "steps"})
        for activity in self.activities:
            self.display.line(f"  {activity}")
            self.log("relus", **vars(activity))
        self.activities = []

    def tell_chance(self) -> None:
        """Say that the epochs so far brought no more than guessing: in the first epoch that shows it, and the last."""
        history = self.reached.history
        is_last = history[-1].epoch == self.settings.epochs
        before = len(history) > 1 and self.is_at_chance(history[-2])
        if self.is_at_chance(history[-1]) and (is_last or not before):
            self.tell("chance", self.explain_chance(history[-1]))

    def is_at_chance(self, record: EpochRecord) -> bool:
        """Whether an epoch that comes late enough to tell, or is the last, brought no more than guessing."""
        enough_steps = min(self.stuck_loss.patience_steps, _TELLING_STEPS)
        if record.steps < enough_steps and record.epoch < self.settings.epochs:
            return False
        if self.held_out_tells:
            right = round((record.validation_accuracy or 0.0) * self.held_out_count)
            return no_better_than_guessing(right, self.held_out_count, self.largest_share)
        return not record.train_loss < self.stuck_loss.chance

    def explain_chance(self, record: EpochRecord) -> str:
        """What an epoch that brought no more than guessing shows, and what to try."""
        if self.held_out_tells:
            shown = (
                f"{record.validation_accuracy:.2%} of {self.held_out_count:,} held-out images is no better than always "
                f"answering the most frequent class, {self.largest_share:.2%}"
            )
        else:
            shown = f"its mean loss of {record.train_loss:.4f} is that of guessing, {self.stuck_loss.chance:.4f}"
        peak = self.stuck_loss.peak
        why = f". {str(peak).capitalize()}: the steps were too large" if peak else ""
        return (
            f"after epoch {record.epoch} the net has learned nothing that shows: {shown}{why}. Try {self.advice()}a "
            "smaller lr, more epochs; and check whether the labels belong to their images"
        )

    def advice(self) -> str:
        """The recipe that fits so many images, where the run has another one."""
        fitting, settings = recipe_for(len(self.training), len(self.training.classes)), self.settings
        names = ("lr", "batch_size", "warmup", "epochs")
        if all(getattr(fitting, name) == getattr(settings, name) for name in names):
            return ""
        values = ", ".join(f"{name} {getattr(fitting, name):g}" for name in names)
        return f"the recipe for so many images, which leaving out all options gives ({values}), "

    def tell(self, event: str, text: str) -> None:
        """Show and log something that happened."""
        self.display.lines(text.splitlines())
        self.tell_event(event, text)

    def tell_event(self, event: str, text: str) -> None:
        """Log something that happened."""
        self.log("event", event=event, text=text)

    def log(self, kind: str, **values: object) -> None:
        """Put figures into the logs, or say, once in a row, that one cannot be written, which ends no training."""
        for log in self.logs:
            try:
                log.write(kind, step=self.net.step, **values)
            except OSError as error:
                if log not in self.failing_logs:
                    self.display.line(f"{error.strerror or error}; training goes on, and the log lacks lines")
                    self.failing_logs.append(log)
            else:
                if log in self.failing_logs:
                    self.failing_logs.remove(log)

    def state(self, loss: float, images_per_second: float) -> str:
        """What stands beside the progress bar."""
        accuracy = self.reached.history[-1].validation_accuracy if self.reached.history else None
        known = "" if accuracy is None else f"  accuracy {accuracy:.2%}"
        return f"loss {loss:.4f}{known}  {images_per_second:.1f} images/s"

    def save(self) -> None:
        """Write a checkpoint, where a folder was named, and let older ones go.

        Raises:
            SaveError: it could not be written; the checkpoints before it are as they were.
        """
        try:
            self.ranks.from_first(self.write_checkpoint)
        except SaveError as error:
            error.result = self.result
            raise
        self.last_saved = time.monotonic()

    def write_checkpoint(self) -> None:
        """As :meth:`save` does, by the rank that writes."""
        if self.saving is None:
            return
        folder = self.saving.folder
        self.reached.schedule, self.reached.stuck_loss = self.schedule.state(), self.stuck_loss.state()
        try:
            step, parameters = self.last_good
            path = self.checkpoint().save(folder, parameters if step == self.net.step else None)
            link_atomically(path / MODEL_FILE, folder / MODEL_FILE)
            if self.result.best and self.result.best.steps == self.net.step and not self.reached.losses:
                link_atomically(path / MODEL_FILE, folder / BEST_FILE)
            self.result.save_record(folder)
            prune_checkpoints(folder, keep=self.saving.keep, best=self.result.best)
        except OSError as error:
            raise SaveError(error.errno, f"{error.strerror or error}; what was there before is unchanged") from error

    def checkpoint(self) -> Checkpoint:
        """All from which the run can go on from here."""
        return Checkpoint(self.model, self.colour_axes, self.reached, self.settings, self.result.data)

    def remember(self) -> None:
        """Keep the parameters of the moment, to go back to.

        Raises:
            ValueError: another rank has other ones: it computes otherwise, or its memory fails.
        """
        self.last_good = (self.net.step, self.net.parameters())
        if self.ranks.size > 1:
            checksum = reduce(lambda before, array: zlib.crc32(array.data, before), self.last_good[1].values(), 0)
            self.ranks.agree({f"the checksum of the net's parameters after step {self.net.step}": f"{checksum:08x}"})

    def go_back(self) -> None:
        """Take the last parameters that were kept."""
        self.net.step, parameters = self.last_good
        self.net.load_parameters(parameters)

    def require_finite(self, loss: float, kind: str, *, of_step: bool = False) -> None:
        """End training where a loss is not finite.

        Args:
            loss: what must be finite.
            kind: what the message calls it.
            of_step: whether it is the last step's, whose arrays are still there to be looked at.

        Raises:
            DivergedError: it is not; the message says when, where in the net it began and what to try.
        """
        if math.isfinite(loss):
            return
        lr = self.rates().lr
        found = self.of_last_shard(first_non_finite) if of_step else None
        where = f" At that step {found}." if found else ""
        raise DivergedError(
            f"training diverged: the {kind} is {loss} at step {self.net.step}, in epoch {self.reached.epoch}, with lr "
            f"{lr:g}.{where} Try a smaller lr, such as {lr / 10:g}, or smaller initial weights (weight_init 'paper'). "
            f"The model as of step {self.last_good[0]} is kept {self.ranks.from_first(self.kept_where)}."
        )

    def kept_where(self) -> str:
        """Where a model lies that the run ends with."""
        return f"in {self.saving.folder}" if self.saving else "as the error's result"
