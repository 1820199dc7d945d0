"""Fine-tuning: a run begins with a model's parameters, and takes from it what they were learned for.

Every layer is taken, but fc8 where the run's outputs stand for other classes: it is initialised as in any other run.
The options that say what the parameters compute are the model's, and so is the mean image, by which an image gives at
the first step the very features that it gave the model. Caffe's example of fine-tuning keeps ImageNet's mean likewise
(models/finetune_flickr_style/train_val.prototxt).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Lt

from pyalexnet.architecture import OptionArguments
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import Content
from pyalexnet.formats.conversion import content_of
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import no_model
from pyalexnet.net.network import AlexNet
from pyalexnet.net.tensor_file import checksum
from pyalexnet.system.checks import as_path, require
from pyalexnet.training.recipe import PRESETS

Init: TypeAlias = Classifier | str | PathLike[str]
"""A model to begin with: itself, or what :func:`pyalexnet.load_model` opens without being told more."""

OPTIONS_OF_STEPS = ("dropout", "bias_update", "conv_algorithm", "precision")
"""Options of the net that are for the steps to come only, and not for what its parameters compute."""

_OPTIONS_OF_NEW_PARAMETERS = ("weight_init", "bias_init")
_NEW = "fc8"


@dataclass(frozen=True)
class Origin:
    """What a run's record says of the model that it began with; two are equal if their parameters are.

    Attributes:
        path: as the user named it; None of a model that was in memory.
        checksum: :func:`pyalexnet.net.tensor_file.checksum` of its parameters.
    """

    path: str | None = field(compare=False)
    checksum: Annotated[int, Ge(0), Lt(2**32)]

    def __repr__(self) -> str:
        return f"{'a model' if self.path is None else self.path} ({self.checksum:08x})"


@dataclass(frozen=True)
class InitialModel:
    """A model in host memory, to begin with.

    Attributes:
        content: what it is.
        origin: what the run's record says of it.
    """

    content: Content
    origin: Origin

    @classmethod
    def read(cls, init: Init) -> InitialModel:
        """Read it.

        Raises:
            FileNotFoundError: there is no such file.
            MissingLibraryError: a library is not installed that the format needs.
            ModelFileError: it is no model, of a net that this package does not compute, or damaged.
            ValueError: another program's file has no mean image.
        """
        content = content_of(init)
        path = None if isinstance(init, Classifier) else fspath(init)
        if content.mean is None:
            raise ModelFileError(
                f"init is {path!r}, which has no mean image; it must have the one that its net was trained with: "
                f"pyalexnet convert {path} model.safetensors --mean ... adds it"
            )
        return cls(content, Origin(path, checksum(content.parameters)))

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """float32 (256, 256, 3), what is subtracted from images; zeros where nothing is."""
        assert self.content.mean is not None
        return self.content.mean

    @property
    def classes(self) -> tuple[str, ...]:
        """What its outputs are called; none where its file does not tell."""
        return self.content.classes or ()

    def classes_taken(self, num_classes: int | None) -> tuple[str, ...]:
        """What fc8 was learned for; none where the user asks for another number of outputs, so that it is new."""
        return self.classes if num_classes in (None, self.content.num_classes) else ()

    def options(self, asked: OptionArguments, preset: str | None) -> OptionArguments:
        """The options of the net that say what its parameters compute.

        Args:
            asked: options that the user gave.
            preset: the recipe that the user named, if any.

        Raises:
            ValueError: an option is given, or the preset has it, that is not the model's; the message names both.
        """
        free = (*OPTIONS_OF_STEPS, *_OPTIONS_OF_NEW_PARAMETERS)
        models = {name: value for name, value in vars(self.content.options).items() if name not in free}
        presets = {} if preset is None else PRESETS[preset].values()
        for name, value in models.items():
            where = f"{name} of preset {preset}" if name in presets and name not in asked else name
            found = {**presets, **asked}.get(name, value)
            require(found == value, where, found, f"{value!r}, as init, {self.origin}, has it")
        return cast(OptionArguments, models)

    def subtracts_mean(self, asked: bool | None, preset: str | None) -> bool:
        """Whether the net was trained with a mean subtracted.

        Args:
            asked: what the user said of it, if anything.
            preset: the recipe that the user named, if any.

        Raises:
            ValueError: either says otherwise.
        """
        subtracts = bool(self.mean.any())
        has = "a mean image" if subtracts else "no mean image"
        name, found = "subtract_mean", asked
        if found is None and preset is not None:
            name, found = f"subtract_mean of preset {preset}", PRESETS[preset].subtract_mean
        require(found in (None, subtracts), name, found, f"{subtracts}, as init, {self.origin}, has {has}")
        return subtracts

    def give_to(self, net: AlexNet, classes: Sequence[str]) -> str:
        """Replace a new net's parameters by the model's, all that serve.

        Args:
            net: a net with :meth:`options`.
            classes: what its outputs stand for.

        Returns:
            A line that tells what was taken.
        """
        parameters = dict(self.content.parameters)
        reason = self._why_new(net, classes)
        if reason:
            initial = net.parameters()
            parameters |= {name: value for name, value in initial.items() if name.startswith(f"{_NEW}.")}
        net.load_parameters(parameters)
        what = f"all layers but {_NEW}, which is new: {reason}" if reason else f"all layers, {_NEW} too: same classes"
        return f"fine-tuning {self.origin}: {what}"

    def _why_new(self, net: AlexNet, classes: Sequence[str]) -> str:
        """Why fc8 cannot be taken; empty where it can."""
        models = self.content.num_classes
        if models != net.num_classes:
            return f"it has {net.num_classes} outputs, the model {models}"
        return "" if self.classes == tuple(classes) else "the data has other classes than the model"


def as_init(value: object) -> Init | None:
    """What may name a model to begin with, or None.

    Raises:
        TypeError: it is something else.
        ValueError: it is a path that can name nothing.
    """
    if isinstance(value, str | PathLike):
        as_path("init", value)
    elif value is not None and not isinstance(value, Classifier):
        raise no_model("init", value)
    return value


def require_other_folder(origin: Origin, out: str | PathLike[str] | None) -> None:
    """Refuse to write over the model that a run begins with.

    Raises:
        ValueError: the run's folder is where the model lies.
    """
    if out is None or origin.path is None:
        return
    model, folder = Path(origin.path).resolve(), Path(out).resolve()
    wanted = f"another folder than that of init, {origin.path}"
    require(folder not in (model, model.parent), "out", fspath(out), wanted)
