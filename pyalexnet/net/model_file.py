"""Model files: a classifier's weights, mean image, classes and options in one safetensors file.

Beside the parameters under their own names, the tensor ``input.mean`` holds the mean image. The description
(:mod:`pyalexnet.net.tensor_file`) has the classes, the number of outputs, the options and the training step, and what
the file proves itself by (:mod:`pyalexnet.net.proof`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from pyalexnet.architecture import IMAGE_SIZE, Options, parameter_shapes
from pyalexnet.errors import ModelFileError
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.network import AlexNet
from pyalexnet.net.origin import UNKNOWN
from pyalexnet.net.placement import device_names
from pyalexnet.net.programs import as_memory_limit
from pyalexnet.net.proof import Accuracy, LogitsCheck, Proof, check_logits
from pyalexnet.net.tensor_file import Description, Shapes, Tensors, description_format, open_tensors, pack
from pyalexnet.system.checks import as_path, flag, shown
from pyalexnet.system.files import write_atomically
from pyalexnet.system.folder_lock import locked_folder
from pyalexnet.system.json_file import require_distinct

MODEL_FILE = "model.safetensors"

MEAN = "input.mean"
"""The tensor that holds the mean image."""


def save_model(path: str | PathLike[str], model: Classifier) -> None:
    """Write a classifier to a file, whole or not at all.

    A file that was there stays until the new one is complete.

    Raises:
        TypeError: ``path`` is no path, or ``model`` no classifier.
        OSError: the file cannot be written; the message says why and how many bytes were needed.
    """
    if not isinstance(model, Classifier):
        raise TypeError(f"model is {shown(model)}; it must be a Classifier")
    write_atomically(as_path("path", path), model_content(model))


def model_content(
    model: Classifier,
    parameters: Tensors | None = None,
    *,
    accuracy: Accuracy | None = None,
    more_views: tuple[Accuracy, ...] = (),
) -> bytes:
    """What :func:`save_model` writes.

    Args:
        model: the classifier.
        parameters: its net's, from a caller who has them in host memory already.
        accuracy: how often it was wrong by one view, where that was measured.
        more_views: how often it was by more of them.
    """
    with model.net.exclusive():  # what the file says is all of one step
        about = described(model.classes, model.net.num_classes, model.net.options, model.net.step)
        tensors = {**(model.net.parameters() if parameters is None else parameters), MEAN: model.mean}
        proof = Proof.of(model, tensors, accuracy, more_views)
    return pack(tensors, {**about, "proof": asdict(proof)})


def record_accuracy(path: str | PathLike[str], model: Classifier, measured: Accuracy) -> None:
    """Write into a model file how often its net was wrong; its tensors and all else that it says stay as they are.

    Args:
        path: as in :func:`load_model`.
        model: what was measured.
        measured: how often it was wrong.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, damaged, without a proof, or has another net than ``model``.
        OSError: it cannot be written, or another process is at work in its folder; the file is as it was.
    """
    path = file_of(path)
    with locked_folder(path.parent):
        about, proof = require_proof(path)
        with open_tensors(path, "model file", MODEL_DESCRIPTION, model_shapes) as file:
            tensors = file.tensors()
        judged = {**model.net.parameters(), MEAN: model.mean}
        if any(values.tobytes() != judged[name].tobytes() for name, values in tensors.items()):
            raise ModelFileError(f"{path} is no more the net that was judged; nothing is written into it")
        said = described(about.classes, about.num_classes, about.options, about.step)
        write_atomically(path, pack(tensors, {**said, "proof": asdict(proof.with_accuracy(measured))}))


def require_proof(path: str | PathLike[str]) -> tuple[ModelDescription, Proof]:
    """What a model file says, and what it proves itself by.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, or of an earlier version, which wrote no proof.
    """
    path = file_of(path)
    with open_tensors(path, "model file", MODEL_DESCRIPTION, model_shapes) as file:
        about = file.description
    if about.proof is None:
        raise ModelFileError(
            f"{path} has no proof to hold an accuracy, as files of earlier versions; convert writes one"
        )
    return about, about.proof


def described(classes: Sequence[str], num_classes: int, options: Options, step: int) -> dict[str, object]:
    """What a model file says beside its tensors, but for what :func:`pyalexnet.net.tensor_file.pack` adds."""
    return {"classes": classes, "num_classes": num_classes, "options": asdict(options), "step": step}


def load_model(
    path: str | PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    verify: bool = False,
) -> Classifier:
    """Read a classifier from a file that :func:`save_model` wrote.

    Args:
        path: the file, or a run's folder, for its ``model.safetensors``.
        devices: where the net is to compute; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.
        verify: whether the net must compute the logits that were written with it.

    Raises:
        TypeError: an argument is of another type.
        ValueError: ``devices`` or ``memory_limit`` makes no sense.
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged, or it does not prove itself; the
            message says which.
    """
    verify = flag("verify", verify)
    if verify:
        found = verify_model(path, devices=devices, memory_limit=memory_limit)
        if found.problem:
            raise ModelFileError(f"{found.path}: {found.problem}")
        return found.model
    model, parameters, _ = read_model(path, devices=devices, memory_limit=memory_limit)
    model.net.load_parameters(parameters)
    return model


@dataclass(frozen=True)
class Verification:
    """A model file whose tensors are those that were written, and whether it proves itself.

    Attributes:
        path: the file.
        model: what it holds.
        about: what it says beside its tensors.
        logits: those of the known image beside those that were written; None where none were.
    """

    path: Path
    model: Classifier
    about: ModelDescription
    logits: LogitsCheck | None

    @property
    def problem(self) -> str:
        """Why it does not prove itself; empty where it does."""
        if self.about.proof is None:
            return "it has no SHA-256 and no logits to verify, as files of earlier versions; save_model writes them"
        if self.logits is None:
            return "it has no logits to verify: its writer had no room for an image, or a logit was not finite"
        return "" if self.logits.holds else str(self.logits)


def verify_model(
    path: str | PathLike[str], *, devices: Sequence[str] | None = None, memory_limit: int | None = None
) -> Verification:
    """Read a model file and compute the logits that were written with it; arguments and errors of :func:`load_model`.

    Raises:
        TypeError: as in :func:`load_model`, like the errors that follow.
        ValueError: see there.
        FileNotFoundError: see there.
        ModelFileError: see there, but for a file that does not prove itself: the result says why.
    """
    model, parameters, about = read_model(path, devices=devices, memory_limit=memory_limit)
    model.net.load_parameters(parameters)
    logits = about.proof.logits if about.proof else None
    return Verification(file_of(path), model, about, None if logits is None else check_logits(model, logits))


def file_of(path: str | PathLike[str]) -> Path:
    """A model file, or that of a run's folder."""
    path = as_path("path", path)
    return path / MODEL_FILE if path.is_dir() else path


def read_model(
    path: str | PathLike[str], *, devices: Sequence[str] | None, memory_limit: int | None
) -> tuple[Classifier, Tensors, ModelDescription]:
    """A classifier as :func:`load_model` reads it, the parameters that its net is still to load, and its description.

    Args:
        path: as in :func:`load_model`, like the arguments that follow.
        devices: see there.
        memory_limit: see there.

    Raises:
        TypeError: as in :func:`load_model`, like the errors that follow.
        ValueError: see there.
        FileNotFoundError: see there.
        ModelFileError: see there.
    """
    devices = default_devices() if devices is None else device_names(devices)
    memory_limit = as_memory_limit(memory_limit)
    path = file_of(path)
    with open_tensors(path, "model file", MODEL_DESCRIPTION, model_shapes) as file:
        about = file.description
        # First the net, which says what memory it needs where there is not enough.
        net = AlexNet.unfilled(about.num_classes, devices=devices, memory_limit=memory_limit, **vars(about.options))
        tensors = file.tensors()
    mean = np.array(tensors.pop(MEAN))
    if not (mean.min() >= 0 and mean.max() <= 255):
        raise ModelFileError(f"{path}: {MEAN} is from {mean.min()} to {mean.max()}; it must be from 0 to 255")
    net.step = about.step
    origin = about.proof.origin if about.proof else UNKNOWN
    return Classifier(net, about.classes, mean, learned_from=path.parent, origin=origin), tensors, about


def as_model(model: Classifier | str | PathLike[str], *, name: str = "model", local_rank: int = 0) -> Classifier:
    """A classifier from what a user names: itself, or what :func:`load_model` takes.

    Args:
        model: what a user names.
        name: the argument's, for messages.
        local_rank: as in :func:`pyalexnet.net.classifier.default_devices`, for what is read.

    Raises:
        TypeError: it is neither.
        ValueError: it is a path that can name nothing.
        FileNotFoundError: there is no such file.
        ModelFileError: it is no model of this package, of a newer format, or damaged; the message says which.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, str | PathLike):
        return load_model(as_path(name, model), devices=default_devices(local_rank))
    raise no_model(name, model)


def no_model(name: str, value: object) -> TypeError:
    """The error that an argument is nothing that a model can be named by."""
    hint = "; its .model is one" if isinstance(getattr(value, "model", None), Classifier) else ""
    return TypeError(f"{name} is {shown(value)}; it must be a Classifier, a run's folder or a model file{hint}")


@dataclass(frozen=True, kw_only=True)
class ModelDescription(Description):
    """What a model file says beside its tensors.

    Attributes:
        classes: names of the outputs, from the first on.
        num_classes: outputs of the net.
        options: the net's.
        step: training steps done.
        proof: what the file proves itself by; None in files of earlier versions, and in those of other programs.
    """

    classes: tuple[str, ...]
    num_classes: Annotated[int, Ge(2)]
    options: Options
    step: Annotated[int, Ge(0)]
    proof: Proof | None = None

    def __post_init__(self) -> None:
        """Check what the fields are to each other.

        Raises:
            ValueError: there are more classes than outputs, a class is named twice, or there are not as many logits
                as outputs.
        """
        if len(self.classes) > self.num_classes:
            raise ValueError(
                f"classes has {len(self.classes)} names; it must have at most num_classes, {self.num_classes}"
            )
        require_distinct("classes", self.classes)
        logits = self.proof.logits if self.proof else None
        if logits is not None and len(logits) != self.num_classes:
            raise ValueError(f"proof has {len(logits)} logits; it must have as many as num_classes, {self.num_classes}")

    def damage(self, tensors: Tensors) -> str:
        """How tensors differ from those that were written; empty where they do not."""
        return super().damage(tensors) if self.proof is None else self.proof.damage(tensors)


MODEL_DESCRIPTION = description_format(ModelDescription)


def model_shapes(about: ModelDescription) -> Shapes:
    """The tensors that a model file has."""
    return {**parameter_shapes(about.num_classes, *about.options.computed_as), MEAN: (IMAGE_SIZE, IMAGE_SIZE, 3)}
