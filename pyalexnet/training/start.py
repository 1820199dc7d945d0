"""Where a training run begins: at its first step, or where a checkpoint of it left off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.architecture import IMAGE_SIZE, INPUT_CHANNELS, OptionArguments, Options, as_options, parameter_count
from pyalexnet.data import Dataset, DataSource, PreparedImages
from pyalexnet.data.choice import DataChoice, data_as_before, data_changes, require_share, unchecked_parts
from pyalexnet.data.dataset import IMAGE_BYTES, image_names, shortened
from pyalexnet.data.kept import KeptImages, keep_decoded
from pyalexnet.data.opening import is_name
from pyalexnet.data.prefetch import AHEAD
from pyalexnet.data.statistics import Statistics, measure
from pyalexnet.errors import DataError, DeviceNotFoundError, ModelFileError
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.network import AlexNet
from pyalexnet.net.origin import Origin, RunOrigin
from pyalexnet.net.placement import describe_placement, device_names
from pyalexnet.net.shards import Shards
from pyalexnet.system.checks import as_path, number, require
from pyalexnet.system.declaration import arguments_of
from pyalexnet.system.files import require_room
from pyalexnet.system.progress import Display
from pyalexnet.system.ranks import Ranks
from pyalexnet.training.checkpoint import Checkpoint, checkpoint_bytes, newest_checkpoint
from pyalexnet.training.fine_tuning import OPTIONS_OF_STEPS, Init, InitialModel, as_init, require_other_folder
from pyalexnet.training.recipe import Recipe, recipe_and_data
from pyalexnet.training.schedule import ENDING, PLATEAU, Description, as_description, by_single_names, make_schedule
from pyalexnet.training.settings import (
    SEED,
    Conduct,
    Settings,
    TrainArguments,
    differences,
    require_whole_shards,
    values_of,
)
from pyalexnet.training.state import RunState

# What a resumed run keeps, whatever is allowed: what its parameters are, what they began from, what they were learned
# for. So are all options of the net, but those that are only for the steps to come.
_SETTLED = ("preset", "init", "num_classes", "subtract_mean")

# Parameters and momentum, as arrays and as the bytes of files.
_COPIES_TO_SAVE = 4

# Of images of files that are decoded once: 21 thousand. Larger sets are prepared.
_MOST_KEPT_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Asked:
    """What a user asks of a run, checked; the rest is a recipe's, or that of the run that goes on.

    Attributes:
        data: what to learn from, if it was said.
        validation: what to hold out, if it was said.
        init: the model to begin with, if any.
        settings: values of :class:`Settings` by name.
        net_options: options of the net by name.
        conduct: how to carry it out.
    """

    data: DataSource | None
    validation: float | DataSource | None
    init: Init | None
    settings: Mapping[str, Any]
    net_options: OptionArguments
    conduct: Conduct

    def without_folder(self) -> Asked:
        """The same of a rank that writes and shows nothing."""
        conduct = replace(self.conduct, out=None, resume=False, tensorboard=False, progress=False)
        return replace(self, conduct=conduct)

    @classmethod
    def from_arguments(
        cls, data: DataSource | None, validation: float | DataSource | None, arguments: Mapping[str, Any]
    ) -> Asked:
        """What the arguments of :func:`pyalexnet.train` ask for.

        Raises:
            TypeError: an argument is unknown or of a wrong kind; the message names it.
            ValueError: an argument makes no sense; the message names it.
        """
        names = TrainArguments.__annotations__.keys()
        declared = {name: argument for name, argument in arguments_of(Settings).items() if name in names}
        settings, conduct, others, init = {}, {}, {}, None
        for name, value in arguments.items():
            if name in arguments_of(Conduct):
                conduct[name] = value
            elif name == "init":
                init = value
            elif name not in declared:
                others[name] = value
            elif value is not None:
                settings[name] = _in_full(name, declared[name].checked(value))
        net_options = as_options(others, "train", ["data", "validation", "callback", *names])
        _require_agreeing(settings)
        data, validation = _named("data", data), _named("validation", validation)
        if _is_share(validation):
            validation = number("validation", validation)
            require_share(validation)
        return cls(data, validation, as_init(init), settings, net_options, Conduct(**conduct))


def _in_full(name: str, value: Any) -> Any:
    """A setting in the form that a run keeps, where a call may give it in others."""
    if name == "lr_layers":
        return by_single_names(name, value)
    if name == "devices":
        return device_names(value)
    return as_description(value) if name == "schedule" else value


def _require_agreeing(asked: Mapping[str, Any]) -> None:
    """Refuse settings that do not go together, whatever a recipe says of the others.

    Raises:
        ValueError: two do not; the message names both.
    """
    if "schedule" in asked:
        _require_rates_taken(asked["schedule"], asked)
    if "lr" in asked:
        make_schedule(lr=asked["lr"], floor=asked.get("floor"))
    if "batch_size" in asked and "shards" in asked:
        require_whole_shards(asked["batch_size"], asked["shards"])


def _named(name: str, source: Any) -> Any:
    """What names data, unless it is a path that can name nothing."""
    if isinstance(source, str | PathLike):
        as_path(name, source)
    return source


@dataclass(frozen=True)
class StartingPoint:
    """All that the steps of a run follow from, whether they are its first ones or it goes on.

    Attributes:
        model: the classifier; its net has the momentum too.
        colour_axes: float32 (3, 3), see :class:`pyalexnet.data.statistics.Statistics`.
        state: where the run stands.
        settings: what it is asked to do from here on.
        chosen: its images.
        shards: how its batches are cut, and who computes them.
    """

    model: Classifier
    colour_axes: npt.NDArray[np.float32]
    state: RunState
    settings: Settings
    chosen: DataChoice
    shards: Shards


def starting_point(asked: Asked, display: Display, ranks: Ranks) -> StartingPoint:
    """The newest checkpoint's place in the run's folder, or where there is none, a new run's.

    Only rank 0 is asked for a folder; the others have from it what lies there.

    Raises:
        FileExistsError: there is a checkpoint, but nobody asked to go on.
        DataError: the data cannot serve; the message says why.
        ModelFileError: the checkpoint is damaged or none; the message names the file.
        OutOfMemoryError: the net does not fit.
        OSError: there is no room for what the run will write.
        TypeError: ``data`` or ``validation`` is of an unknown kind.
        ValueError: a setting makes no sense, or is not the run's, or is another one on another rank; the message names
            it.
    """
    checkpoint = ranks.from_first(lambda: _earlier_checkpoint(asked.conduct.out, asked.conduct.resume))
    return _fresh(asked, display, ranks) if checkpoint is None else _resumed(checkpoint, asked, display, ranks)


def _fresh(asked: Asked, display: Display, ranks: Ranks) -> StartingPoint:
    """A new net before its first step, with the statistics of its images."""
    conduct = asked.conduct
    init = _initial_model(asked, display)
    recipe, recipe_name, chosen = recipe_and_data(
        _data_or_digits(asked.data, display),
        asked.validation,
        asked.settings.get("preset"),
        initial_classes=None if init is None else init.classes_taken(asked.settings.get("num_classes")),
        on_error=conduct.on_error,
        on_stage=display.begin,
        on_images=display.advance,
        ranks=ranks,
    )
    settings = _settings(recipe, recipe_name, asked, init, chosen, ranks)
    shards = _shards_agreed_on(settings, asked, chosen, ranks)
    _require_enough_images_and_outputs(settings, chosen.training)
    # The last ones, the best and, before one goes, a new one.
    _require_room_for(conduct.keep + 2, settings, conduct.out)
    net = AlexNet(
        settings.num_classes,
        devices=settings.devices,
        memory_limit=conduct.memory_limit,
        seed=settings.seed,
        **settings.net_options,
    )
    if init is not None:
        display.line(init.give_to(net, chosen.training.classes))
    _take_from_first(net, ranks)
    chosen = _kept_in_memory(chosen, _spare_bytes(net, settings, shards, saving=conduct.out is not None))
    statistics = _statistics(chosen.training, display, ranks)
    if init is not None:
        mean = init.mean
    else:
        mean = statistics.mean if settings.subtract_mean else np.zeros_like(statistics.mean)
    model = _with_origin(Classifier(net, chosen.training.classes, mean), settings, chosen)
    return StartingPoint(model, statistics.colour_axes, RunState(), settings, chosen, shards)


def _resumed(path: Path, asked: Asked, display: Display, ranks: Ranks) -> StartingPoint:
    """Where a checkpoint stands, with what is asked for from there on."""
    conduct = asked.conduct
    devices = asked.settings.get("devices")
    if devices is None and ranks.size > 1:
        devices = default_devices(ranks.local_rank)
    checkpoint = _loaded_on_all(path, devices, conduct.memory_limit, ranks)
    data, validation = data_as_before(asked.data, asked.validation, checkpoint.data)
    again = {} if asked.init is None else {"init": InitialModel.read(asked.init).origin}
    asked_settings = {**asked.settings, **again} | ({} if devices is None else {"devices": devices})
    settings = _settings_from_now_on(checkpoint.settings, asked_settings, asked.net_options)
    _, _, chosen = recipe_and_data(
        data,
        validation,
        asked.settings.get("preset"),
        on_error=conduct.on_error,
        unreadable=checkpoint.data.get("unreadable"),
        on_stage=display.begin,
        on_images=display.advance,
        ranks=ranks,
    )
    for part in unchecked_parts(checkpoint.data, chosen.description):
        display.line(f"{part} may be other images: only their number, classes and labels can be checked")
    _require_same_run(checkpoint, settings, chosen, changes_allowed=conduct.allow_changes)
    shards = _shards_agreed_on(settings, asked, chosen, ranks)
    _require_enough_images_and_outputs(settings, chosen.training)
    _require_room_for(1, settings, conduct.out)
    _take_changes(checkpoint, settings, chosen)
    net = checkpoint.model.net
    display.line(f"going on at step {net.step}, in epoch {checkpoint.state.epoch}")
    chosen = _kept_in_memory(chosen, _spare_bytes(net, settings, shards, saving=conduct.out is not None))
    model = _with_origin(checkpoint.model, settings, chosen)
    return StartingPoint(model, checkpoint.colour_axes, checkpoint.state, settings, chosen, shards)


def _with_origin(model: Classifier, settings: Settings, chosen: DataChoice) -> Classifier:
    """A classifier that says which run learned it."""
    origin = Origin(run=RunOrigin.of(chosen.description, asdict(settings)))
    return replace(model, learned_from=chosen.description, origin=origin)


def _initial_model(asked: Asked, display: Display) -> InitialModel | None:
    """The model to begin with, if any, once what is asked for agrees with it.

    Raises:
        ModelFileError: as :meth:`InitialModel.read` raises it, like the errors that follow.
        ValueError: an option, a setting or the run's folder does not go with it; the message names both.
    """
    if asked.init is None:
        return None
    init = InitialModel.read(asked.init)
    require_other_folder(init.origin, asked.conduct.out)
    init.options(asked.net_options, asked.settings.get("preset"))
    init.subtracts_mean(asked.settings.get("subtract_mean"), asked.settings.get("preset"))
    display.lines(init.content.remarks)
    return init


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


def _loaded_on_all(path: Path, devices: Sequence[str] | None, memory_limit: int | None, ranks: Ranks) -> Checkpoint:
    """A checkpoint that rank 0 reads, on the devices of each rank."""
    if ranks.size == 1:
        return _loaded(path, devices, memory_limit)
    assert devices is not None
    read: list[Checkpoint] = []

    def about() -> tuple[Any, ...]:
        """What it holds but for the net's parameters."""
        read.append(checkpoint := _loaded(path, devices, memory_limit))
        model = checkpoint.model
        rest = checkpoint.colour_axes, checkpoint.state, checkpoint.settings, checkpoint.data
        return model.net.num_classes, model.net.options, model.net.seed, model.net.step, model.classes, model.mean, rest

    num_classes, options, seed, step, classes, mean, rest = ranks.from_first(about)
    if not read:
        net = AlexNet.unfilled(num_classes, devices=devices, memory_limit=memory_limit, **vars(options))
        net.seed, net.step = seed, step
        read.append(Checkpoint(Classifier(net, classes, mean), *rest))
    _take_from_first(read[0].model.net, ranks, momentum=True)
    return read[0]


def _take_from_first(net: AlexNet, ranks: Ranks, *, momentum: bool = False) -> None:
    """Give a net the parameters of rank 0's, and the momentum, if it is not all zero."""
    if ranks.size == 1:
        return
    kinds = ("parameters", "momentum") if momentum else ("parameters",)
    arrays = {
        kind: getattr(net, kind)()
        if ranks.is_first
        else {name: np.empty(shape, np.float32) for name, shape in net.shapes.items()}
        for kind in kinds
    }
    for of_kind in arrays.values():
        for array in of_kind.values():
            ranks.broadcast_array(array)
    if not ranks.is_first:
        net.load_parameters(**arrays)


def _shards_agreed_on(settings: Settings, asked: Asked, chosen: DataChoice, ranks: Ranks) -> Shards:
    """How batches are cut and who computes what, once all ranks are found to be about to do the same.

    Raises:
        ValueError: a setting, an image or a device is another one on another rank, or the number of shards no multiple
            of the number of ranks; the message says what and which.
    """
    if ranks.size > 1:
        images = {
            f"the {part.replace('_', '-')} data's {field}": value
            for part in ("training", "held_out", "unreadable")
            for field, value in dict(chosen.description.get(part) or {}).items()  # type: ignore[call-overload]
        }
        conduct = {name: getattr(asked.conduct, name) for name in ("report_relus", "fc_factors")}
        decided = values_of(settings) | {"devices": None} | conduct
        ranks.agree(decided | images | describe_placement(settings.devices))
    return Shards(settings.shards, ranks, asked.conduct.fc_factors)


def _is_share(validation: object) -> bool:
    """Whether it is a number or meant as one, and neither names nor holds images."""
    return validation is not None and not isinstance(validation, str | PathLike | tuple | Dataset)


def _data_or_digits(data: DataSource | None, display: Display) -> DataSource:
    if data is None:
        return "digits"
    if isinstance(data, str) and is_name(data) and Path(data).is_dir():
        display.line(f"{data} is the data set of that name; the folder here is ./{data}")
    return data


def _settings(
    recipe: Recipe,
    recipe_name: str,
    asked: Asked,
    init: InitialModel | None,
    chosen: DataChoice,
    ranks: Ranks,
) -> Settings:
    """What is asked for, filled up from a recipe, and from the model to begin with, if any."""
    given = asked.settings
    values = {name: value for name, value in vars(recipe).items() if name in arguments_of(Settings)}
    if chosen.held_out is None:
        require(not given.get("patience"), "patience", given.get("patience"), "0 where no images are held out")
        values["patience"] = 0
    if "patience" in given and values["schedule"] in ENDING:
        values["schedule"] = PLATEAU
    values |= {"devices": default_devices(ranks.local_rank), "seed": SEED, "shards": ranks.size}
    values |= {"num_classes": len(chosen.training.classes)}
    values |= {"recipe": recipe_name, "net_options": recipe.net_options | dict(asked.net_options)}
    if init is not None:
        values["init"] = init.origin
        values["net_options"] |= init.options(asked.net_options, given.get("preset"))
        values["subtract_mean"] = init.subtracts_mean(given.get("subtract_mean"), given.get("preset"))
        if init.classes == tuple(chosen.training.classes):
            values["num_classes"] = init.content.num_classes
    return _self_contained(values | dict(given), given)


def _settings_from_now_on(was: Settings, asked: Mapping[str, Any], net_options: OptionArguments) -> Settings:
    """A run's settings with what is asked for in their place.

    Raises:
        ValueError: something is asked for that is settled when a run begins; the message names it.
    """
    settled = {name: getattr(was, name) for name in _SETTLED} | vars(Options(**was.net_options))
    for name, value in {**asked, **net_options}.items():
        if name in settled and name not in OPTIONS_OF_STEPS:
            require(value == settled[name], name, value, f"{settled[name]!r} in a resumed run, as it was")
    now = {**vars(was), **asked, "init": was.init, "net_options": was.net_options | dict(net_options)}
    return _self_contained(now, asked)


def _self_contained(values: dict[str, Any], asked: Mapping[str, Any]) -> Settings:
    """Settings with the schedule in the form that needs no file."""
    rates = {name: values[name] for name in ("lr", "patience", "floor", "epochs")}
    schedule = make_schedule(values["schedule"], **rates).description
    _require_rates_taken(schedule, asked)
    return Settings(**{**values, "schedule": schedule})


def _require_rates_taken(schedule: Description, asked: Mapping[str, Any]) -> None:
    """Refuse what is asked for of rates that a schedule does not take.

    Raises:
        ValueError: there is such; the message names it.
    """
    for name in ("lr", "patience", "floor"):
        if name in asked:
            takes_it = schedule == PLATEAU or (schedule in ENDING and name != "patience")
            why = "falls by itself" if schedule in ENDING else "has rates of its own"
            require(takes_it, name, asked[name], f"left out, since the schedule {why}")


def _require_same_run(checkpoint: Checkpoint, settings: Settings, chosen: DataChoice, *, changes_allowed: bool) -> None:
    """Let no run go on as what it is not.

    Raises:
        DataError: the classes changed, for which the net has its outputs.
        ValueError: other settings or data are not allowed, and something changed; the message names it all.
    """
    if chosen.training.classes != checkpoint.model.classes:
        raise DataError(
            f"the data has the classes {shortened(chosen.training.classes)}; in a resumed run they must be those that "
            f"it had, in their order: {shortened(checkpoint.model.classes)}"
        )
    # Where a run computes makes no difference to what it computes.
    changes = differences(checkpoint.settings, settings, ignoring=("devices",))
    changes += data_changes(checkpoint.data, chosen.description)
    if changes and not changes_allowed:
        raise ValueError(
            f"the run that is resumed had other settings: {'; '.join(changes)}. Give the old ones or none, or allow "
            "the changes (allow_changes=True, --allow-changes)"
        )


def _take_changes(checkpoint: Checkpoint, settings: Settings, chosen: DataChoice) -> None:
    """Bring a checkpoint's place and its net to other settings and data."""
    was, state, net = checkpoint.settings, checkpoint.state, checkpoint.model.net
    # The order of an epoch's images follows from these: an epoch under way begins again.
    other_order = (was.batch_size, was.seed) != (settings.batch_size, settings.seed)
    if other_order or data_changes(checkpoint.data, chosen.description):
        state.begin_epoch_again()
    if (was.schedule, was.lr, was.patience, was.floor) != (
        settings.schedule, settings.lr, settings.patience, settings.floor
    ):  # fmt: skip
        state.schedule = {}
    net.seed = settings.seed
    net.options = Options(**settings.net_options)


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


def _require_room_for(checkpoints: int, settings: Settings, out: str | PathLike[str] | None) -> None:
    if out is not None:
        each = checkpoint_bytes(settings.num_classes, Options(**settings.net_options))
        require_room(out, checkpoints * each, "the run with its checkpoints")


def _spare_bytes(net: AlexNet, settings: Settings, shards: Shards, *, saving: bool) -> int:
    """The host's memory that decoded images may take beside a run, of what the ranks of a machine share.

    Raises:
        OutOfMemoryError: there is too little for the run itself.
    """
    own_images = settings.batch_size // shards.ranks.size
    host_bytes = _host_bytes(settings, own_images, shards, saving=saving)
    plan = replace(net.plan(own_images, shards=shards), host_bytes=host_bytes)
    plan.require_fit()
    return min(_MOST_KEPT_BYTES, plan.spare_host_bytes // 2 // shards.ranks.local_size)


def _host_bytes(settings: Settings, own_images: int, shards: Shards, *, saving: bool) -> int:
    """What a run takes beside its net: batches that are read ahead, gradients of others, parameters to be kept."""
    batches = 2 * (AHEAD + 1) * own_images * IMAGE_SIZE**2 * INPUT_CHANNELS  # to learn from and to judge by
    parameters = 4 * parameter_count(settings.num_classes, *Options(**settings.net_options).computed_as)
    received = shards.received_nodes / shards.ranks.size  # to go back to, and to be saved, are whole
    return batches + int(parameters * (1 + received + (_COPIES_TO_SAVE if saving else 0)))


def _kept_in_memory(chosen: DataChoice, room_bytes: int) -> DataChoice:
    """The same images, those of files decoded once as far as the room reaches; those to learn from come first."""
    training = keep_decoded(chosen.training, room_bytes)
    if isinstance(training, KeptImages):
        room_bytes -= training.room * IMAGE_BYTES
    return replace(chosen, training=training, held_out=chosen.held_out and keep_decoded(chosen.held_out, room_bytes))


def _statistics(training: Dataset, display: Display, ranks: Ranks) -> Statistics:
    """Those of all training images, which a prepared folder has."""
    if isinstance(training, PreparedImages):
        return ranks.from_first(lambda: training.statistics)
    display.begin("measuring the mean image", len(training))
    return measure(training, display.advance, ranks)
