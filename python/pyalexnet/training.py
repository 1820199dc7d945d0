"""Training: stochastic gradient descent by the paper's recipe, from a data set to a classifier."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pyalexnet.checkpoint import require_room, save_model, write_atomically
from pyalexnet.classifier import Classifier, default_devices
from pyalexnet.data import Dataset, DataSource, Digits, as_dataset, split
from pyalexnet.data.augmentation import epoch_order, epoch_variations
from pyalexnet.data.dataset import labels_among
from pyalexnet.data.prefetch import in_batches, prefetch
from pyalexnet.data.statistics import Statistics, measure
from pyalexnet.errors import DataError, DivergedError, SaveError
from pyalexnet.evaluation import Evaluation, evaluate
from pyalexnet.interrupt import Interrupted, InterruptRequest
from pyalexnet.network import AlexNet, ImageBatch
from pyalexnet.progress import Display
from pyalexnet.recipe import DIGITS, PAPER, Settings, require

MODEL_FILE, RUN_FILE = "model.safetensors", "run.json"

_LR_DIVISOR = 10


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a training run.

    Attributes:
        epoch: its number, from 1 on.
        lr: learning rate.
        train_loss: mean over the steps, each measured before its update, with dropout.
        validation_loss: mean over the held-out images; None where none are held out, as in the next two.
        validation_error: the part of the held-out images that were classified wrongly.
        validation_accuracy: 1 - validation_error.
        images_per_second: training images by the time that their steps took.
        seconds: time of the whole epoch with validation.
    """

    epoch: int
    lr: float
    train_loss: float
    validation_loss: float | None
    validation_error: float | None
    validation_accuracy: float | None
    images_per_second: float
    seconds: float

    def __str__(self) -> str:
        accuracy = "" if self.validation_accuracy is None else f"  accuracy {self.validation_accuracy:6.2%}"
        return (
            f"epoch {self.epoch:3}  lr {self.lr:g}  loss {self.train_loss:.4f}{accuracy}"
            f"  {self.images_per_second:.1f} images/s  {self.seconds:.1f} s"
        )


@dataclass
class TrainingResult:
    """What :func:`train` returns.

    Attributes:
        model: the trained net with its classes and mean image, for :func:`pyalexnet.evaluate`,
            :func:`pyalexnet.predict` and :func:`pyalexnet.save_model`.
        history: one record for each whole epoch.
        settings: what was asked for, defaults filled in.
        stopped: why training ended: all epochs ``"finished"``, Ctrl-C ``"interrupted"`` it, or it
            ``"diverged"``.
    """

    model: Classifier
    history: list[EpochRecord]
    settings: Settings
    stopped: Literal["finished", "interrupted", "diverged"] = "finished"

    @property
    def validation_accuracy(self) -> float | None:
        """Accuracy on the held-out images after the last whole epoch."""
        return self.history[-1].validation_accuracy if self.history else None

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``run.json`` (settings and history) into a folder.

        Raises:
            OSError: a file cannot be written; what was there before is unchanged.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(folder / MODEL_FILE, self.model)
        run = {
            "settings": asdict(self.settings),
            "stopped": self.stopped,
            "steps": self.model.net.step,
            "history": [asdict(record) for record in self.history],
        }
        write_atomically(folder / RUN_FILE, (json.dumps(run, indent=2) + "\n").encode())


def train(
    data: DataSource | None = None,
    *,
    validation: float | DataSource | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    patience: int | None = None,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    reflect: bool | None = None,
    colour_noise: float = 0.1,
    subtract_mean: bool = True,
    out: str | PathLike[str] | None = None,
    progress: bool = True,
    **net_options: Any,
) -> TrainingResult:
    """Train AlexNet on labelled images (Krizhevsky et al. 2012, sections 4 and 5).

    Each image is brought to 256×256; each time it is used, a random 227×227 crop of it, perhaps mirrored,
    less the training images' mean image, with a random colour shift. Order and variations depend on ``seed``
    and the epoch alone: the same seed gives the same bits on one device and on two. The last images of an
    epoch that fill no batch are left out of it, other ones each time.

    Where ``data`` is not named, the net learns scikit-learn's handwritten digits, by a recipe of their own
    (:data:`pyalexnet.recipe.DIGITS`): 6 epochs, batches of 32, a learning rate of 0.005, biases from 0.1, no mirror
    images.

    Args:
        data: a folder of JPEG and PNG files with one subfolder a class; or a pair ``(images, labels)``, uint8
            (N, H, W) or (N, H, W, 3) and integers (N,); or a :class:`pyalexnet.data.Dataset`.
        validation: what is held out and measured after each epoch: a part of the data (default 0.1, the
            digits 0.2; 0 for nothing), the same share of each class; or data of its own, named as ``data``
            is.
        epochs: passes over the training images (default 90).
        batch_size: images a step (default 128).
        lr: learning rate at the start (default 0.01).
        momentum: the part of the last update that is kept.
        weight_decay: pull of weights towards 0, relative to ``lr``.
        patience: divide ``lr`` by 10 whenever the validation error has not improved for so many epochs
            (default 5); 0 keeps it as it is.
        devices: one device, or two with a tower each, such as ``["cuda:0", "cuda:1"]``; by default the first
            GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.
        seed: of initial weights, order, crops, colours and dropout; not negative.
        num_classes: outputs of the net (default: as many as the data has classes).
        reflect: whether half of the crops are mirrored (default: yes, but not for the digits, whose mirror
            images are other signs). Turn it off where left and right matter, as in writing.
        colour_noise: standard deviation of the random factors on the colours' principal components.
        subtract_mean: whether the mean image is subtracted; if not, the net sees raw pixels.
        out: a folder for ``model.safetensors`` and ``run.json``, written after each epoch.
        progress: whether to show a progress bar, or a line an epoch where standard output is no terminal.
        **net_options: further options of :class:`pyalexnet.AlexNet`, such as ``bias_init="caffe"``.

    Returns:
        The model and its history. Ctrl-C ends training early and returns what there is.

    Raises:
        DataError: the data cannot serve; the message says why.
        TypeError: ``data``, ``validation`` or an option is of an unknown kind.
        ValueError: an argument makes no sense; the message names it.
        OutOfMemoryError: the net does not fit; the message has the table that shows why.
        DivergedError: the loss became infinite or NaN; its ``result`` has the model of the last whole epoch.
        OSError: ``out`` cannot be written; once training has begun a SaveError, which has the result so far.
    """
    is_digits = data is None or isinstance(data, Digits)
    recipe = DIGITS if is_digits else PAPER
    dataset = Digits() if data is None else as_dataset(data)
    training, held_out = _training_and_held_out(dataset, recipe.validation if validation is None else validation)
    net_options = recipe.net_options | net_options
    devices = default_devices() if devices is None else devices
    settings = Settings(
        epochs=recipe.epochs if epochs is None else epochs,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        lr=recipe.lr if lr is None else lr,
        momentum=momentum,
        weight_decay=weight_decay,
        patience=_patience(patience, recipe.patience, held_out),
        devices=tuple(devices),
        seed=seed,
        num_classes=len(training.classes) if num_classes is None else num_classes,
        reflect=recipe.reflect if reflect is None else reflect,
        colour_noise=colour_noise,
        subtract_mean=subtract_mean,
        net_options=net_options,
    )
    _require_enough_images_and_outputs(settings, training)
    if out is not None:
        require_room(out, settings.num_classes)
    net = AlexNet(settings.num_classes, devices=devices, memory_limit=memory_limit, seed=seed, **net_options)
    net.plan(settings.batch_size).require_fit()
    with Display(enabled=progress) as display:
        display.line(_summary(settings, training, held_out))
        display.begin("measuring the mean image", len(training))
        statistics = measure(training, display.advance)
        with InterruptRequest() as interrupt:
            return _Run(settings, net, training, held_out, statistics, display, interrupt, out).all_epochs()


class _Run:
    """The state of a training run from epoch to epoch."""

    def __init__(
        self,
        settings: Settings,
        net: AlexNet,
        training: Dataset,
        held_out: Dataset | None,
        statistics: Statistics,
        display: Display,
        interrupt: InterruptRequest,
        out: str | PathLike[str] | None,
    ) -> None:
        mean = statistics.mean if settings.subtract_mean else np.zeros_like(statistics.mean)
        self.settings = settings
        self.training = training
        self.held_out = held_out
        self.colour_axes = statistics.colour_axes
        self.display = display
        self.interrupt = interrupt
        self.out = out
        self.result = TrainingResult(Classifier(net, training.classes, mean), [], settings)
        self.steps_an_epoch = len(training) // settings.batch_size
        self.schedule = PlateauSchedule(settings.lr, settings.patience)
        self.remember()

    def all_epochs(self) -> TrainingResult:
        """Train until the epochs are done, Ctrl-C is pressed or the loss is not finite."""
        images_an_epoch = self.steps_an_epoch * self.settings.batch_size + len(self.held_out or ())
        self.display.begin("training", self.settings.epochs * images_an_epoch)
        try:
            for epoch in range(1, self.settings.epochs + 1):
                self.result.history.append(self.one_epoch(epoch))
                self.display.line(str(self.result.history[-1]))
                self.schedule.update(self.result.history[-1].validation_error)
                self.remember()
                self.save()
        except Interrupted:
            self.result.stopped = "interrupted"
            self.display.line(f"interrupted at step {self.result.model.net.step}")
            self.save()
        except DivergedError as error:
            self.result.stopped = "diverged"
            self.go_back()
            self.save()
            error.result = self.result
            raise
        return self.result

    def one_epoch(self, epoch: int) -> EpochRecord:
        """All steps of an epoch, then the validation."""
        lr = self.schedule.lr
        start = time.perf_counter()
        losses = self.steps(epoch, lr)
        trained = time.perf_counter()
        validation = self.validate(epoch)
        if validation:
            self.require_finite(validation.loss, "validation loss", epoch, lr)
        return EpochRecord(
            epoch=epoch,
            lr=lr,
            train_loss=math.fsum(losses) / len(losses),
            validation_loss=validation.loss if validation else None,
            validation_error=validation.top1_error if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            images_per_second=len(losses) * self.settings.batch_size / (trained - start),
            seconds=time.perf_counter() - start,
        )

    def steps(self, epoch: int, lr: float) -> list[float]:
        """The losses of an epoch's steps."""
        settings, net = self.settings, self.result.model.net
        self.display.stage(f"epoch {epoch}/{settings.epochs}")
        losses: list[float] = []
        start = time.perf_counter()
        for batch, labels in self.batches(epoch):
            self.interrupt.raise_if_requested()
            loss = net.train_step(batch, labels, lr=lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
            self.require_finite(loss, "loss", epoch, lr)
            losses.append(loss)
            rate = len(losses) * settings.batch_size / (time.perf_counter() - start)
            self.display.advance(settings.batch_size)
            self.display.state(self.state(loss, rate))
        return losses

    def batches(self, epoch: int) -> Any:
        """The epoch's batches in order, prepared in the background: pairs of the net's input and labels."""
        count = len(self.training)
        order = epoch_order(count, seed=self.settings.seed, epoch=epoch)
        variations = epoch_variations(
            count,
            seed=self.settings.seed,
            epoch=epoch,
            reflect=self.settings.reflect,
            colour_noise=self.settings.colour_noise,
            colour_axes=self.colour_axes,
        )

        def prepare(positions: npt.NDArray[np.intp]) -> tuple[ImageBatch, npt.NDArray[np.int32]]:
            images, labels = self.training.batch(order[positions])
            return self.result.model.input_batch(images, variations[positions]), labels

        return prefetch(prepare, in_batches(np.arange(count), self.settings.batch_size, drop_last=True))

    def validate(self, epoch: int) -> Evaluation | None:
        """The measure of the held-out images, if any."""
        if self.held_out is None:
            return None
        self.display.stage(f"validation {epoch}/{self.settings.epochs}")

        def on_images(count: int) -> None:
            self.interrupt.raise_if_requested()
            self.display.advance(count)

        return evaluate(self.result.model, self.held_out, batch_size=self.settings.batch_size, on_images=on_images)

    def remember(self) -> None:
        """Keep the parameters of the moment, to go back to."""
        net = self.result.model.net
        self.last_good = (net.step, net.parameters())

    def go_back(self) -> None:
        """Take the last parameters that were kept."""
        net = self.result.model.net
        net.step, parameters = self.last_good
        net.load_parameters(parameters)

    def save(self) -> None:
        """Write what there is, where a folder was named."""
        if self.out is None:
            return
        try:
            self.result.save(self.out)
        except OSError as error:
            failure = SaveError(error.errno, f"{error.strerror or error}; what was there before is unchanged")
            failure.result = self.result
            raise failure from error

    def state(self, loss: float, images_per_second: float) -> str:
        """What stands beside the progress bar."""
        accuracy = self.result.validation_accuracy
        known = "" if accuracy is None else f"  accuracy {accuracy:.2%}"
        return f"loss {loss:.4f}{known}  {images_per_second:.1f} images/s"

    def require_finite(self, loss: float, kind: str, epoch: int, lr: float) -> None:
        """End training where a loss is not finite.

        Raises:
            DivergedError: it is not; the message says when and what to try.
        """
        if math.isfinite(loss):
            return
        kept = f"The model as of epoch {epoch - 1} is kept" if epoch > 1 else "The initial model is kept"
        where = "as the error's result" if self.out is None else f"in {fspath(self.out)}"
        raise DivergedError(
            f"training diverged: the {kind} is {loss} at step {self.result.model.net.step}, in epoch "
            f"{epoch}, with lr {lr:g}. Try a smaller lr, such as {lr / 10:g}, or smaller initial weights "
            f"(weight_init 'paper'). {kept} {where}."
        )


class PlateauSchedule:
    """The paper's schedule: the learning rate is divided by 10 when the validation error stops improving."""

    def __init__(self, lr: float, patience: int) -> None:
        """Begin with ``lr``; with ``patience`` 0 it stays."""
        self.lr = lr
        self.patience = patience
        self.best_error = math.inf
        self.epochs_without_improvement = 0

    def update(self, validation_error: float | None) -> None:
        """Take an epoch's validation error into account."""
        if not self.patience or validation_error is None:
            return
        if validation_error < self.best_error:
            self.best_error = validation_error
            self.epochs_without_improvement = 0
            return
        self.epochs_without_improvement += 1
        if self.epochs_without_improvement == self.patience:
            self.lr /= _LR_DIVISOR
            self.epochs_without_improvement = 0


def _training_and_held_out(dataset: Dataset, validation: float | DataSource) -> tuple[Dataset, Dataset | None]:
    if isinstance(validation, int | float):
        require(0 <= validation < 1, "validation", validation, "at least 0 and below 1, or data")
        return split(dataset, validation) if validation else (dataset, None)
    held_out = as_dataset(validation)
    labels_among(held_out, dataset.classes)
    return dataset, held_out


def _require_enough_images_and_outputs(settings: Settings, training: Dataset) -> None:
    if len(training) < settings.batch_size:
        raise DataError(
            f"batch_size is {settings.batch_size}, but there are only {len(training)} training images to fill one"
        )
    class_count = len(training.classes)
    if class_count < 2:
        raise DataError(f"the data has only the class {training.classes[0]!r}; it must have at least 2 classes")
    if settings.num_classes < class_count:
        raise DataError(f"num_classes is {settings.num_classes}; it must be at least {class_count}, as the data has")


def _patience(asked: int | None, usual: int, held_out: Dataset | None) -> int:
    if held_out is None:
        require(not asked, "patience", asked, "0 where no images are held out to measure an error on")
        return 0
    return usual if asked is None else asked


def _summary(settings: Settings, training: Dataset, held_out: Dataset | None) -> str:
    held = f"{len(held_out)} held out" if held_out else "none held out"
    epochs = f"{settings.epochs} {'epoch' if settings.epochs == 1 else 'epochs'}"
    return (
        f"training on {len(training)} images of {len(training.classes)} classes ({held}), "
        f"{epochs}, batch {settings.batch_size}, on {' and '.join(settings.devices)}"
    )
