"""Training: stochastic gradient descent by the paper's recipe, from a data set to a classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path

from typing_extensions import Unpack

from pyalexnet.data import DataSource
from pyalexnet.data.choice import unreadable_lines
from pyalexnet.data.dataset import remarks_on
from pyalexnet.data.opening import require_apart
from pyalexnet.net.shards import Shards
from pyalexnet.system import checks
from pyalexnet.system.files import remove_unfinished
from pyalexnet.system.folder_lock import locked_folder
from pyalexnet.system.interrupt import InterruptRequest
from pyalexnet.system.progress import Display
from pyalexnet.system.ranks import Ranks, join_ranks, same_versions
from pyalexnet.training.events import Callback
from pyalexnet.training.logs import (
    METRICS_FILE,
    TENSORBOARD_FOLDER,
    Log,
    MetricsLog,
    TensorBoardLog,
    require_tensorboard,
)
from pyalexnet.training.loop import Run, Saving
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.settings import Conduct, TrainArguments
from pyalexnet.training.start import Asked, StartingPoint, starting_point

# No report or figure is so long in being written into a run's folder.
_LONG_AGO_SECONDS = 3600.0


def train(
    data: DataSource | None = None,
    *,
    validation: float | DataSource | None = None,
    callback: Callback | None = None,
    **settings: Unpack[TrainArguments],
) -> TrainingResult:
    """Train AlexNet on labelled images (Krizhevsky et al. 2012, sections 4 and 5).

    Each image is brought to 256×256; each time it is used, a random 227×227 crop of it, perhaps mirrored,
    less the training images' mean image, with a random colour shift. Order and variations depend on ``seed``
    and the epoch alone: the same seed gives the same bits on one device and on two, stopped and resumed or not. The
    last images of an epoch that fill no batch are left out of it, other ones each time.

    What is not said comes from a recipe: ``preset``'s; else the one of a named data set, such as ``"digits"``; else one
    that follows from the number of training images and classes, which for a million images is the paper's
    (:func:`pyalexnet.training.recipe.recipe_for`). Where ``init`` names a model, rates are those of fine-tuning
    (:func:`pyalexnet.training.recipe.fine_tuning`). A line at the start tells it. Where ``data`` is not named, the net
    learns scikit-learn's handwritten digits.

    Processes that a launcher of MPI started, such as ``mpirun -n 4``, train one net together: each is a rank, and all
    call this with the same arguments. Each computes its shards of every batch; rank 0 shows progress, reads and writes
    ``out`` and calls ``callback``. All return the same result.

    Args:
        data: a folder that ``pyalexnet prepare`` made; a folder of JPEG and PNG files with one subfolder a class; a
            folder of IDX files, as MNIST has; a name, ``"digits"``, ``"emoji"`` or ``"fashion-mnist"``; a pair
            ``(images, labels)``, uint8 (N, H, W) or (N, H, W, 3) and integers (N,); or a
            :class:`pyalexnet.data.Dataset`.
        callback: called with a :class:`pyalexnet.TrainingEvent` after each step, evaluation and epoch; its ``stop()``
            ends the run as Ctrl-C does. So does an exception, which is raised once the run is saved.
        preset: a source's whole recipe: ``"paper"``, ``"notes"``, ``"source2012"``, ``"caffe"``, or for large batches
            ``"lars4096"`` or ``"lars8192"``.
        init: fine-tune: begin with the parameters of a model, its options but those of steps and initial values, and
            its mean image: a :class:`pyalexnet.Classifier`, a run's folder, or a file of any format that
            :func:`pyalexnet.load_model` opens. fc8 begins anew where the data has other classes.
        validation: what is held out and measured after each epoch: a part of the data (0 for nothing), the same share
            of each class; or data of its own, named as ``data`` is. By default what ``data`` itself holds out (the
            test part of IDX files and names, ``val`` of prepared folders), else a tenth (a fifth of the digits).
        epochs: passes over the training images.
        batch_size: images a step, of all ranks together.
        shards: parts of as many images that a batch is computed in, each with dropout masks of its own, and whose
            gradients are added up in a fixed order (:mod:`pyalexnet.net.shards`). The same number gives the same bits
            with any number of ranks that divides it (default: as many as there are ranks).
        lr: learning rate at the start, of a plateau or falling schedule.
        lr_layers: factors by which the rates of layers differ from what the schedule says: of layers (``"conv1"``),
            ranges (``"conv1-conv5"``), parameters (``"conv1.bias"``) or all ``"biases"``, the narrower name before the
            wider; 0 freezes.
        warmup: steps at the start whose rate rises evenly to the one that the schedule says; 0 for none.
        lars: let the rate of each parameter be ``lr`` · ``lars`` · ‖w‖ / (‖g‖ + ``weight_decay`` · ‖w‖), with the
            Euclidean norms of what a tower has of it and of its gradient (You et al. 2017); by default it is ``lr``.
        schedule: ``"plateau"``: divide ``lr`` by 10 whenever the validation error stops improving; or ``"falling"``:
            evenly from ``lr`` to ``floor`` over all epochs; or ``"poly"``: with the square of what is left of them; or
            rates by epoch, such as ``"0.01@0,0.001@30"``; or ``"source2012"``; or a schedule file
            (:mod:`pyalexnet.training.schedule`).
        patience: how many epochs in a row without a lower validation error make a plateau; 0 keeps ``lr``. Given
            without a schedule, it asks for ``"plateau"``.
        floor: these three schedules go no lower (default: ``lr`` / 1000).
        momentum: the part of the last update that is kept, at least 0 and below 1.
        weight_decay: pull of weights towards 0, relative to ``lr``.
        devices: one device, or two with a tower each, such as ``["cuda:0", "cuda:1"]``; by default the first
            GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.
        seed: of initial weights, order, crops, colours and dropout; from 0 to 2**63 - 1 (default 0).
        num_classes: outputs of the net (default: as many as the data has classes).
        reflect: whether half of the crops are mirrored. Turn it off where left and right matter, as in writing.
        colour_noise: standard deviation of the random factors on the colours' principal components.
        colour_noise_scaled: whether images are divided by 1 + ``colour_noise`` after it, as in the 2012 code.
        subtract_mean: whether the mean image is subtracted; if not, the net sees raw pixels.
        out: a folder for the run: ``model.safetensors`` (the last), ``best.safetensors`` (of the epoch with the lowest
            validation error), ``run.json``, ``metrics.jsonl`` and ``checkpoints``.
        checkpoint_minutes: time from one checkpoint to the next (default 15); there is one after each epoch in any
            case.
        keep: how many of the last checkpoints stay (default 2); the best epoch's stays too.
        resume: go on from the newest checkpoint in ``out``, bit for bit as if the run had not stopped, or begin if
            there is none. Settings and data that are not given are the run's own.
        allow_changes: let a resumed run have other settings or other data than it had. ``num_classes``, the classes,
            ``subtract_mean``, ``preset``, ``init`` and all options of the net but ``dropout``, ``bias_update``,
            ``conv_algorithm`` and ``precision`` stay.
        tensorboard: write TensorBoard's event files into ``out`` too; needs ``pyalexnet[tensorboard]``.
        fc_factors: let ranks send each other what the gradients of fully connected layers are products of, in place of
            these (:mod:`pyalexnet.net.factors`): fewer bytes below some 4,000 images a step, for more to compute; the
            same bits.
        report_relus: show after each epoch, by layer and tower, how many ReLUs are dead.
        on_error: what an image does that cannot be read: ``"stop"`` raises when it is met; with ``"skip"`` one pass
            finds all such before training begins, and the run, resumed too, is as if they were not there;
            ``result.data["unreadable"]`` names them.
        progress: whether to show a progress bar, or lines where standard output is no terminal.
        weight_init: an option of the net, as are ``bias_init``, ``lrn_alpha``, ``lrn_k``, ``lrn_over``,
            ``pool_before_lrn``, ``second_lrn``, ``relu1_last``, ``crop``, ``conv1_padding``,
            ``colour_deviation``, ``bias_update``, ``dropout``, ``activation``, ``pooling``, ``lrn``, ``towers``,
            ``filters``, ``conv_algorithm`` and ``precision``; :class:`pyalexnet.Options` tells of each.

    Returns:
        The model and its history. Ctrl-C, SIGTERM and SIGXCPU finish the step, save, and return what there is; SIGUSR1,
        SIGUSR2 and SIGHUP finish the step, save and go on.

    Raises:
        Exception: one of ``callback``'s.
        KeyboardInterrupt: a second Ctrl-C, or a first one before there was anything to save.
        DataError: the data cannot serve; the message says why.
        TypeError: an argument is of a wrong kind; the message names it. Numbers and truth values may be NumPy's.
        ValueError: an argument makes no sense, or a resumed run's settings changed; the message names them.
        ModelFileError: the checkpoint to go on from is damaged or no checkpoint, or what ``init`` names is no model or
            has no mean image; the message names the file.
        FileNotFoundError: there is no file that ``init`` names.
        FileExistsError: ``out`` has a run already, and ``resume`` is not set.
        OutOfMemoryError: the net does not fit; the message has the table that shows why.
        LauncherError: several processes were started that cannot find each other by MPI; the message says how to.
        DivergedError: the loss became infinite or NaN; its ``result`` has the model of the last whole epoch.
        OSError: ``out`` cannot be written, or another process trains in it; once training has begun a SaveError, which
            has the result so far.
    """
    ranks = join_ranks()
    with ranks.ending_together():
        if callback is not None:
            checks.callback("callback", callback)
        asked = Asked.from_arguments(data, validation, settings)
        if asked.conduct.tensorboard:
            require_tensorboard()
        ranks.agree(same_versions())
        return _carry_out(asked if ranks.is_first else asked.without_folder(), callback, ranks)


def _carry_out(asked: Asked, callback: Callback | None, ranks: Ranks) -> TrainingResult:
    """Train as it was asked for."""
    conduct = asked.conduct
    with (
        Display(enabled=conduct.progress, live=ranks.size == 1) as display,  # a launcher's terminal may be a file
        _interrupt(conduct.out, display) as interrupt,
        contextlib.ExitStack() as held,
    ):
        ranks.from_first(lambda: held.enter_context(_for_itself(asked, display)))
        start = starting_point(asked, display, ranks)
        _introduce(start, display)
        result = TrainingResult(start.model, start.state.history, start.settings, start.chosen.description)
        with _logs(start, conduct, display) as logs:
            interrupt.defer()
            Run(
                result,
                start,
                saving=_saving(conduct),
                logs=logs,
                display=display,
                interrupt=interrupt,
                report_relus=conduct.report_relus,
                callback=callback,
            ).to_the_end()
        display.table(result.history)
    return result


def _interrupt(out: str | PathLike[str] | None, display: Display) -> InterruptRequest:
    """What signals ask for; as long as there is no run, a stop is granted at once."""
    if out is None:
        stopping, saving = "finishing the step, then ending", "nothing is saved, as no folder was named for it"
    else:
        stopping, saving = "finishing the step, then saving and ending", "saving after this step"
    return InterruptRequest(display.line, stopping=stopping, saving=saving, deferred=False)


@contextlib.contextmanager
def _for_itself(asked: Asked, display: Display) -> Iterator[None]:
    """Keep other processes out of the run's folder, if there is one.

    Raises:
        DataError: it would be among the data.
        OSError: another process is at work in it, or it cannot be written to; the message says which.
    """
    out = asked.conduct.out
    if out is None:
        yield
        return
    require_apart(out, asked.data, asked.validation)  # before the folder is there, and taken for a class
    with locked_folder(out) as unlocked:
        if unlocked:
            display.line(f"{fspath(out)} cannot be locked ({unlocked}): let no other process work in it")
        remove_unfinished(Path(out), older_than_seconds=_LONG_AGO_SECONDS)
        yield


def _introduce(start: StartingPoint, display: Display) -> None:
    """Say what will be done, and what to look out for."""
    training, held_out, settings = start.chosen.training, start.chosen.held_out, start.settings
    display.lines(remarks_on(training, held_out))
    display.lines(unreadable_lines(start.chosen.description))
    held = f"{len(held_out)} held out" if held_out else "none held out"
    epochs = f"{settings.epochs} {'epoch' if settings.epochs == 1 else 'epochs'}"
    display.line(
        f"training on {len(training)} images of {len(training.classes)} classes ({held}), "
        f"{epochs}, batch {settings.batch_size}, on {' and '.join(settings.devices)}"
    )
    if start.shards.count > 1:
        display.line(_shards_line(start.shards))
    display.line(settings.recipe_line())


def _shards_line(shards: Shards) -> str:
    ranks = shards.ranks
    where = "one machine" if ranks.machines == 1 else f"{ranks.machines} machines"
    who = f"shared by {ranks.size} ranks on {where}" if ranks.size > 1 else "one after the other"
    return f"{shards.count} shards a batch, {who}"


def _saving(conduct: Conduct) -> Saving | None:
    return None if conduct.out is None else Saving(Path(conduct.out), conduct.checkpoint_minutes, conduct.keep)


@contextlib.contextmanager
def _logs(start: StartingPoint, conduct: Conduct, display: Display) -> Iterator[list[Log]]:
    """The logs of a run, without what a process that stopped had written of later steps."""
    logs: list[Log] = []
    if conduct.out is not None:
        folder, steps, epochs = Path(conduct.out), start.model.net.step, len(start.state.history)
        logs.append(MetricsLog(folder / METRICS_FILE, keep_steps=steps or -1, keep_epochs=epochs))
        if conduct.tensorboard:
            logs.append(TensorBoardLog(folder / TENSORBOARD_FOLDER, keep_steps=steps))
    try:
        yield logs
    finally:
        for log in logs:
            _close(log, display)


def _close(log: Log, display: Display) -> None:
    try:
        log.close()
    except OSError as error:
        display.line(f"{error.strerror or error}; the log lacks its last lines")
