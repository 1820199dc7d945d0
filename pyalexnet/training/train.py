"""Training: stochastic gradient descent by the paper's recipe, from a data set to a classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, Options, as_options, parameter_count
from pyalexnet.data import Dataset, DataSource, Digits, PreparedImages
from pyalexnet.data.choice import (
    DataChoice,
    choose_data,
    data_as_before,
    data_changes,
    unchecked_parts,
    unreadable_lines,
)
from pyalexnet.data.dataset import IMAGE_BYTES, image_names, remarks_on, shortened
from pyalexnet.data.kept import KeptImages, keep_decoded
from pyalexnet.data.opening import is_name
from pyalexnet.data.prefetch import AHEAD
from pyalexnet.data.statistics import Statistics, measure
from pyalexnet.errors import DataError, DeviceNotFoundError, ModelFileError
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.network import AlexNet
from pyalexnet.system.checks import as_declared, number, require
from pyalexnet.system.files import remove_unfinished, require_room
from pyalexnet.system.folder_lock import locked_folder
from pyalexnet.system.interrupt import InterruptRequest
from pyalexnet.system.progress import Display
from pyalexnet.training.checkpoint import Checkpoint, checkpoint_bytes, newest_checkpoint
from pyalexnet.training.logs import (
    METRICS_FILE,
    TENSORBOARD_FOLDER,
    Log,
    MetricsLog,
    TensorBoardLog,
    require_tensorboard,
)
from pyalexnet.training.loop import Run, Saving
from pyalexnet.training.recipe import PRESETS, RECIPES, SMALL, Recipe, Settings, differences, reason_for, recipe_for
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.schedule import FALLING, PLATEAU, make_schedule
from pyalexnet.training.state import RunState

_SETTINGS = {setting.name for setting in fields(Settings)} - {"net_options", "recipe"}

# What a resumed run keeps, whatever is allowed: what its parameters are, what they began from, what they were learned
# for. So are all options of the net, but those that are only for the steps to come.
_SETTLED = ("preset", "num_classes", "subtract_mean")
_OPTIONS_OF_STEPS = ("dropout", "bias_update")

# Parameters and momentum, as arrays and as the bytes of files.
_COPIES_TO_SAVE = 4

# Of images of files that are decoded once: 21 thousand. Larger sets are prepared.
_MOST_KEPT_BYTES = 4 * 2**30

# No report or figure is so long in being written into a run's folder.
_LONG_AGO_SECONDS = 3600.0


def train(
    data: DataSource | None = None,
    *,
    preset: str | None = None,
    validation: float | DataSource | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    lr_layers: Mapping[str, float] | None = None,
    warmup: int | None = None,
    schedule: str | PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    patience: int | None = None,
    floor: float | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    seed: int | None = None,
    num_classes: int | None = None,
    reflect: bool | None = None,
    colour_noise: float | None = None,
    colour_noise_scaled: bool | None = None,
    subtract_mean: bool | None = None,
    out: str | PathLike[str] | None = None,
    checkpoint_minutes: float = 15,
    keep: int = 2,
    resume: bool = False,
    allow_changes: bool = False,
    tensorboard: bool = False,
    report_relus: bool = False,
    on_error: Literal["stop", "skip"] = "stop",
    progress: bool = True,
    **net_options: Any,
) -> TrainingResult:
    """Train AlexNet on labelled images (Krizhevsky et al. 2012, sections 4 and 5).

    Each image is brought to 256×256; each time it is used, a random 227×227 crop of it, perhaps mirrored,
    less the training images' mean image, with a random colour shift. Order and variations depend on ``seed``
    and the epoch alone: the same seed gives the same bits on one device and on two, stopped and resumed or not. The
    last images of an epoch that fill no batch are left out of it, other ones each time.

    What is not said comes from a recipe: ``preset``'s; else the one of a named data set, such as ``"digits"``; else one
    that follows from the number of training images and classes, which for a million images is the paper's
    (:func:`pyalexnet.training.recipe.recipe_for`). A line at the start tells it. Where ``data`` is not named, the net
    learns scikit-learn's handwritten digits.

    Args:
        data: a folder that ``pyalexnet prepare`` made; a folder of JPEG and PNG files with one subfolder a class; a
            folder of IDX files, as MNIST has; a name, ``"digits"``, ``"emoji"`` or ``"fashion-mnist"``; a pair
            ``(images, labels)``, uint8 (N, H, W) or (N, H, W, 3) and integers (N,); or a
            :class:`pyalexnet.data.Dataset`.
        preset: a source's whole recipe: ``"paper"``, ``"notes"``, ``"source2012"`` or ``"caffe"``.
        validation: what is held out and measured after each epoch: a part of the data (0 for nothing), the same share
            of each class; or data of its own, named as ``data`` is. By default what ``data`` itself holds out (the
            test part of IDX files and names, ``val`` of prepared folders), else a tenth (a fifth of the digits).
        epochs: passes over the training images.
        batch_size: images a step.
        lr: learning rate at the start, of a plateau or falling schedule.
        lr_layers: factors by which the rates of layers differ from what the schedule says: of layers (``"conv1"``),
            parameters (``"conv1.bias"``) or all ``"biases"``, the narrower name before the wider; 0 freezes.
        warmup: steps at the start whose rate rises evenly to the one that the schedule says; 0 for none.
        schedule: ``"plateau"``: divide ``lr`` by 10 whenever the validation error stops improving; or ``"falling"``:
            evenly from ``lr`` to ``floor`` over all epochs; or rates by epoch, such as ``"0.01@0,0.001@30"``; or
            ``"source2012"``; or a schedule file (:mod:`pyalexnet.training.schedule`).
        patience: how many epochs in a row without a lower validation error make a plateau; 0 keeps ``lr``. Given
            without a schedule, it asks for ``"plateau"``.
        floor: these two schedules go no lower (default: ``lr`` / 1000).
        momentum: the part of the last update that is kept.
        weight_decay: pull of weights towards 0, relative to ``lr``.
        devices: one device, or two with a tower each, such as ``["cuda:0", "cuda:1"]``; by default the first
            GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.
        seed: of initial weights, order, crops, colours and dropout; not negative (default 0).
        num_classes: outputs of the net (default: as many as the data has classes).
        reflect: whether half of the crops are mirrored. Turn it off where left and right matter, as in writing.
        colour_noise: standard deviation of the random factors on the colours' principal components.
        colour_noise_scaled: whether images are divided by 1 + ``colour_noise`` after it, as in the 2012 code.
        subtract_mean: whether the mean image is subtracted; if not, the net sees raw pixels.
        out: a folder for the run: ``model.safetensors`` (the last), ``best.safetensors`` (of the epoch with the lowest
            validation error), ``run.json``, ``metrics.jsonl`` and ``checkpoints``.
        checkpoint_minutes: time from one checkpoint to the next; there is one after each epoch in any case.
        keep: how many of the last checkpoints stay; the best epoch's stays too.
        resume: go on from the newest checkpoint in ``out``, bit for bit as if the run had not stopped, or begin if
            there is none. Settings and data that are not given are the run's own.
        allow_changes: let a resumed run have other settings or other data than it had. ``num_classes``, the classes,
            ``subtract_mean``, ``preset`` and all options of the net but ``dropout`` and ``bias_update`` stay.
        tensorboard: write TensorBoard's event files into ``out`` too; needs ``pyalexnet[tensorboard]``.
        report_relus: show after each epoch, by layer and tower, how many ReLUs are dead.
        on_error: what an image does that cannot be read: ``"stop"`` raises when it is met; with ``"skip"`` one pass
            finds all such before training begins, and the run, resumed too, is as if they were not there;
            ``result.data["unreadable"]`` names them.
        progress: whether to show a progress bar, or lines where standard output is no terminal.
        **net_options: further options of :class:`pyalexnet.AlexNet`, such as ``bias_init="caffe"``.

    Returns:
        The model and its history. Ctrl-C, SIGTERM and SIGXCPU finish the step, save, and return what there is; SIGUSR1,
        SIGUSR2 and SIGHUP finish the step, save and go on.

    Raises:
        KeyboardInterrupt: a second Ctrl-C, or a first one before there was anything to save.
        DataError: the data cannot serve; the message says why.
        TypeError: an argument is of a wrong kind; the message names it. Numbers and truth values may be NumPy's.
        ValueError: an argument makes no sense, or a resumed run's settings changed; the message names them.
        ModelFileError: the checkpoint to go on from is damaged or no checkpoint; the message names the file.
        FileExistsError: ``out`` has a run already, and ``resume`` is not set.
        OutOfMemoryError: the net does not fit; the message has the table that shows why.
        DivergedError: the loss became infinite or NaN; its ``result`` has the model of the last whole epoch.
        OSError: ``out`` cannot be written, or another process trains in it; once training has begun a SaveError, which
            has the result so far.
    """
    given = as_declared(train, locals())
    asked = {name: value for name, value in given.items() if name in _SETTINGS and value is not None}
    checkpoint_minutes, keep, memory_limit = (given[name] for name in ("checkpoint_minutes", "keep", "memory_limit"))
    validation = validation if validation is None or _is_data(validation) else number("validation", validation)
    net_options = as_options(net_options, "train", given.keys() - {"net_options"})
    _require_consistent(out, checkpoint_minutes, keep, resume=resume, tensorboard=tensorboard)
    with Display(enabled=progress) as display, _interrupt(out, display) as interrupt, _for_itself(out, display):
        earlier = _earlier_checkpoint(out, resume)
        checkpoint = _loaded(earlier, devices, memory_limit) if earlier else None
        if checkpoint:
            data, validation = data_as_before(data, validation, checkpoint.data)
        elif data is None:
            data = "digits"
        elif isinstance(data, str) and is_name(data) and Path(data).is_dir():
            display.line(f"{data} is the data set of that name; the folder here is ./{data}")
        if checkpoint:
            settings = _settings_from_now_on(checkpoint.settings, asked, net_options)
        recipe, its_name, chosen = recipe_and_data(
            data,
            validation,
            preset,
            on_error=on_error,
            unreadable=checkpoint.data.get("unreadable") if checkpoint else None,
            on_stage=display.begin,
            on_images=display.advance,
        )
        if checkpoint:
            for part in unchecked_parts(checkpoint.data, chosen.description):
                display.line(f"{part} may be other images: only their number, classes and labels can be checked")
            _take_changes(checkpoint, settings, chosen, allow_changes)
        else:
            settings = _settings(recipe, its_name, asked, net_options, chosen)
        _require_enough_images_and_outputs(settings, chosen.training)
        if out is not None:
            written = 1 if checkpoint else keep + 2  # the last ones, the best and, before one goes, a new one
            room = written * checkpoint_bytes(settings.num_classes, Options(**settings.net_options).towers)
            require_room(out, room, "the run with its checkpoints")
        if checkpoint:
            net = checkpoint.model.net
            display.line(f"going on at step {net.step}, in epoch {checkpoint.state.epoch}")
        else:
            net = AlexNet(
                settings.num_classes,
                devices=settings.devices,
                memory_limit=memory_limit,
                seed=settings.seed,
                **settings.net_options,
            )
        plan = net.plan(settings.batch_size)
        plan = replace(plan, host_bytes=_host_bytes(settings, saving=out is not None))
        plan.require_fit()
        chosen = _kept_in_memory(chosen, min(_MOST_KEPT_BYTES, plan.spare_host_bytes // 2))
        if not checkpoint:
            checkpoint = _beginning(net, settings, chosen, display)
        display.lines(remarks_on(chosen.training, chosen.held_out))
        display.lines(unreadable_lines(chosen.description))
        display.line(_summary(settings, chosen))
        display.line(settings.recipe_line())
        model = replace(checkpoint.model, learned_from=chosen.description)
        result = TrainingResult(model, checkpoint.state.history, settings, chosen.description)
        logs = _logs(out, checkpoint, tensorboard)
        try:
            interrupt.defer()
            Run(
                result,
                checkpoint,
                settings.make_schedule(),
                chosen.training,
                chosen.held_out,
                saving=None if out is None else Saving(Path(out), checkpoint_minutes, keep),
                logs=logs,
                display=display,
                interrupt=interrupt,
                report_relus=report_relus,
            ).to_the_end()
        finally:
            for log in logs:
                _close(log, display)
        display.table(result.history)
    return result


def _require_consistent(
    out: str | PathLike[str] | None, checkpoint_minutes: float, keep: int, *, resume: bool, tensorboard: bool
) -> None:
    require(checkpoint_minutes >= 0, "checkpoint_minutes", checkpoint_minutes, "at least 0")
    require(keep >= 1, "keep", keep, "at least 1")
    if out is None:
        require(not resume, "resume", resume, "False where out names no folder")
        require(not tensorboard, "tensorboard", tensorboard, "False where out names no folder")
    if tensorboard:
        require_tensorboard()


def _interrupt(out: str | PathLike[str] | None, display: Display) -> InterruptRequest:
    """What signals ask for; as long as there is no run, a stop is granted at once."""
    if out is None:
        stopping, saving = "finishing the step, then ending", "nothing is saved, as no folder was named for it"
    else:
        stopping, saving = "finishing the step, then saving and ending", "saving after this step"
    return InterruptRequest(display.line, stopping=stopping, saving=saving, deferred=False)


@contextlib.contextmanager
def _for_itself(out: str | PathLike[str] | None, display: Display) -> Iterator[None]:
    """Keep other processes out of the run's folder, if there is one.

    Raises:
        OSError: another process is at work in it, or it cannot be written to; the message says which.
    """
    if out is None:
        yield
        return
    with locked_folder(out) as unlocked:
        if unlocked:
            display.line(f"{fspath(out)} cannot be locked ({unlocked}): let no other process work in it")
        remove_unfinished(Path(out), older_than_seconds=_LONG_AGO_SECONDS)
        yield


def _earlier_checkpoint(out: str | PathLike[str] | None, resume: bool) -> Path | None:
    """The checkpoint to go on from, if there is one.

    Raises:
        FileExistsError: there is one, but nobody asked to go on.
    """
    earlier = None if out is None else newest_checkpoint(out)
    if earlier and not resume:
        raise FileExistsError(
            f"{out} holds a run with checkpoints; go on with it (resume=True, --resume) or name another folder"
        )
    return earlier


def _loaded(path: Path, devices: Sequence[str] | None, memory_limit: int | None) -> Checkpoint:
    try:
        return Checkpoint.load(path, devices=devices, memory_limit=memory_limit)
    except DeviceNotFoundError as error:
        if devices is not None:
            raise
        raise DeviceNotFoundError(
            f"the run that is resumed was on devices that are not here: {error}. It goes on to the same bits "
            "on others: devices=['cpu:0'], --devices cpu:0"
        ) from error
    except ModelFileError as error:
        raise ModelFileError(f"{error}. To go on from the checkpoint before it, remove the folder {path}") from error


def recipe_of(data: DataSource, preset: str | None) -> Recipe | None:
    """The preset's recipe, else the one of a named data set; None where neither is named, so that the size decides.

    Raises:
        ValueError: there is no such preset.
    """
    require(preset is None or preset in PRESETS, "preset", preset, f"one of {', '.join(map(repr, PRESETS))}")
    return PRESETS[preset] if preset is not None else RECIPES.get(_name_of(data))


def recipe_and_data(
    data: DataSource, validation: float | DataSource | None, preset: str | None, **reading: Any
) -> tuple[Recipe, str, DataChoice]:
    """What fills in the settings that are not given, what it is called, and a run's images.

    Args:
        data: as in :func:`train`.
        validation: as in :func:`train`.
        preset: as in :func:`train`; by default the recipe is the data's own, else it follows from their size.
        **reading: as in :func:`pyalexnet.data.choice.choose_data`.

    Raises:
        DataError: the data cannot serve; the message says why.
        TypeError: ``data`` or ``validation`` is of an unknown kind.
        ValueError: there is no such preset, or ``validation`` is a number out of its range.
    """
    recipe = recipe_of(data, preset)
    chosen = choose_data(data, validation, (recipe or SMALL).validation, **reading)
    if recipe is not None:
        return recipe, f"that of {_name_of(data)}" if preset is None else f"preset {preset}", chosen
    images, classes = len(chosen.training), len(chosen.training.classes)
    return recipe_for(images, classes), f"by size, {reason_for(images, classes)}", chosen


def _name_of(data: DataSource) -> str:
    """The name of a data set that has one, else nothing."""
    return "digits" if isinstance(data, Digits) else data if isinstance(data, str) and is_name(data) else ""


def _settings(
    recipe: Recipe, its_name: str, asked: Mapping[str, Any], net_options: Mapping[str, Any], chosen: DataChoice
) -> Settings:
    """What is asked for, filled up from a recipe."""
    names = {setting.name for setting in fields(Recipe)} & _SETTINGS
    values: dict[str, Any] = {name: getattr(recipe, name) for name in names}
    if chosen.held_out is None:
        require(not asked.get("patience"), "patience", asked.get("patience"), "0 where no images are held out")
        values["patience"] = 0
    if "patience" in asked and values["schedule"] == FALLING:
        values["schedule"] = PLATEAU
    values |= {"devices": default_devices(), "seed": 0, "num_classes": len(chosen.training.classes)}
    values |= {"recipe": its_name, "net_options": recipe.net_options | dict(net_options)}
    return _self_contained(values | dict(asked), asked)


def _settings_from_now_on(was: Settings, asked: Mapping[str, Any], net_options: Mapping[str, Any]) -> Settings:
    """A run's settings with what is asked for in their place.

    Raises:
        ValueError: something is asked for that is settled when a run begins; the message names it.
    """
    settled = {name: getattr(was, name) for name in _SETTLED} | vars(Options(**was.net_options))
    for name, value in {**asked, **net_options}.items():
        if name in settled and name not in _OPTIONS_OF_STEPS:
            require(value == settled[name], name, value, f"{settled[name]!r} in a resumed run, as it was")
    return _self_contained({**vars(was), **asked, "net_options": was.net_options | dict(net_options)}, asked)


def _self_contained(values: dict[str, Any], asked: Mapping[str, Any]) -> Settings:
    """Settings with the schedule in the form that needs no file."""
    rates = {name: values[name] for name in ("lr", "patience", "floor", "epochs")}
    schedule = make_schedule(values["schedule"], **rates).description
    for name in ("lr", "patience", "floor"):
        if name in asked:
            takes_it = schedule == PLATEAU or (schedule == FALLING and name != "patience")
            wanted = (
                f"left out, since the schedule {'falls by itself' if schedule == FALLING else 'has rates of its own'}"
            )
            require(takes_it, name, asked[name], wanted)
    return Settings(**{**values, "schedule": schedule, "devices": _device_names(values["devices"])})


def _is_data(validation: float | DataSource) -> bool:
    """Whether it names or holds images, and is no number or what was meant as one."""
    return isinstance(validation, str | PathLike | tuple | Dataset)


def _device_names(devices: Sequence[str]) -> tuple[str, ...]:
    if isinstance(devices, str):
        raise ValueError(f"devices is {devices!r}; it must be a list of one or two names, such as ['cpu:0']")
    return tuple(devices)


def _take_changes(checkpoint: Checkpoint, settings: Settings, chosen: DataChoice, allowed: bool) -> None:
    """Let a checkpoint go on with other settings or data, if that is allowed.

    Raises:
        DataError: the classes changed, for which the net has its outputs.
        ValueError: it is not allowed, and something changed; the message names it all.
    """
    if chosen.training.classes != checkpoint.model.classes:
        raise DataError(
            f"the data has the classes {shortened(chosen.training.classes)}; in a resumed run they must be those that "
            f"it had, in their order: {shortened(checkpoint.model.classes)}"
        )
    was, data = checkpoint.settings, data_changes(checkpoint.data, chosen.description)
    # Where a run computes makes no difference to what it computes.
    changes = differences(was, settings, ignoring=("devices",)) + data
    if changes and not allowed:
        raise ValueError(
            f"the run that is resumed had other settings: {'; '.join(changes)}. Give the old ones or none, or allow "
            "the changes (allow_changes=True, --allow-changes)"
        )
    # The order of an epoch's images follows from these: an epoch under way begins again.
    if data or was.batch_size != settings.batch_size or was.seed != settings.seed:
        checkpoint.state.begin_epoch_again()
    if (was.schedule, was.lr, was.patience, was.floor) != (
        settings.schedule, settings.lr, settings.patience, settings.floor
    ):  # fmt: skip
        checkpoint.state.schedule = {}
    checkpoint.model.net.seed = settings.seed
    checkpoint.model.net.options = Options(**settings.net_options)
    checkpoint.settings, checkpoint.data = settings, chosen.description


def _kept_in_memory(chosen: DataChoice, room_bytes: int) -> DataChoice:
    """The same images, those of files decoded once as far as the room reaches; those to learn from come first."""
    training = keep_decoded(chosen.training, room_bytes)
    if isinstance(training, KeptImages):
        room_bytes -= training.room * IMAGE_BYTES
    return replace(chosen, training=training, held_out=chosen.held_out and keep_decoded(chosen.held_out, room_bytes))


def _beginning(net: AlexNet, settings: Settings, chosen: DataChoice, display: Display) -> Checkpoint:
    """Where a new run stands: a fresh net, and the statistics of its images."""
    statistics = _statistics(chosen.training, display)
    mean = statistics.mean if settings.subtract_mean else np.zeros_like(statistics.mean)
    model = Classifier(net, chosen.training.classes, mean)
    return Checkpoint(model, statistics.colour_axes, RunState(), settings, chosen.description)


def _host_bytes(settings: Settings, *, saving: bool) -> int:
    """What a run takes beside its net: batches that are read ahead, parameters to go back to, and those to be saved."""
    batches = 2 * (AHEAD + 1) * settings.batch_size * IMAGE_SIZE**2 * INPUT_CHANNELS  # to learn from and to judge by
    parameters = 4 * parameter_count(settings.num_classes, Options(**settings.net_options).towers)
    return batches + parameters * (1 + (_COPIES_TO_SAVE if saving else 0))


def _statistics(training: Dataset, display: Display) -> Statistics:
    """Those of all training images, which a prepared folder has."""
    if isinstance(training, PreparedImages):
        return training.statistics
    display.begin("measuring the mean image", len(training))
    return measure(training, display.advance)


def _logs(out: str | PathLike[str] | None, checkpoint: Checkpoint, tensorboard: bool) -> list[Log]:
    """The logs of a run, without what a process that stopped had written of later steps."""
    if out is None:
        return []
    steps, epochs = checkpoint.model.net.step, len(checkpoint.state.history)
    logs: list[Log] = [MetricsLog(Path(out) / METRICS_FILE, keep_steps=steps or -1, keep_epochs=epochs)]
    if tensorboard:
        logs.append(TensorBoardLog(Path(out) / TENSORBOARD_FOLDER, keep_steps=steps))
    return logs


def _close(log: Log, display: Display) -> None:
    try:
        log.close()
    except OSError as error:
        display.line(f"{error.strerror or error}; the log lacks its last lines")


def _require_enough_images_and_outputs(settings: Settings, training: Dataset) -> None:
    if len(training) < settings.batch_size:
        raise DataError(
            f"batch_size is {settings.batch_size}, but there are only {len(training)} training images to fill one"
        )
    class_count = len(training.classes)
    if class_count < 2:
        hint = _where_classes_are(training)
        raise DataError(f"the data has only the class {training.classes[0]!r}; it must have at least 2 classes{hint}")
    if settings.num_classes < class_count:
        raise DataError(f"num_classes is {settings.num_classes}; it must be at least {class_count}, as the data has")


def _where_classes_are(training: Dataset) -> str:
    """A hint, where the only class's folder has subfolders, as an archive unpacked into a folder of its name does."""
    subfolders = sorted({parts[1] for name in image_names(training) if len(parts := name.split("/")) > 2})
    if len(subfolders) < 2:
        return ""
    return f". If {shortened(subfolders)} are classes, give the folder {training.classes[0]!r} in it as data"


def _summary(settings: Settings, chosen: DataChoice) -> str:
    training, held_out = chosen.training, chosen.held_out
    held = f"{len(held_out)} held out" if held_out else "none held out"
    epochs = f"{settings.epochs} {'epoch' if settings.epochs == 1 else 'epochs'}"
    return (
        f"training on {len(training)} images of {len(training.classes)} classes ({held}), "
        f"{epochs}, batch {settings.batch_size}, on {' and '.join(settings.devices)}"
    )
