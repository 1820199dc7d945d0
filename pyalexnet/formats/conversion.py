"""Models of other programs, opened as classifiers and brought from one format to another."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np

from pyalexnet.data.class_lists import read_classes_list
from pyalexnet.errors import ModelFileError
from pyalexnet.formats import caffe, shards, theano_alexnet
from pyalexnet.formats.content import Colours, Content, as_mean, for_colours
from pyalexnet.formats.registry import format_called, format_of
from pyalexnet.formats.theano_alexnet import Library
from pyalexnet.net import model_file
from pyalexnet.net.classifier import Classifier, default_devices
from pyalexnet.net.origin import FileOrigin
from pyalexnet.net.placement import device_names
from pyalexnet.net.programs import as_memory_limit
from pyalexnet.system.array_file import any_array_from
from pyalexnet.system.checks import as_path, flag, require, shown
from pyalexnet.system.files import file_sha256, read_regular_file, write_together
from pyalexnet.system.json_file import require_distinct

Mean: TypeAlias = "str | PathLike[str] | Sequence[float] | np.ndarray[Any, Any]"
"""A mean image: its file, three numbers or an array (256, 256, 3), RGB."""
Classes: TypeAlias = "str | PathLike[str] | Sequence[str]"
"""Names of classes, or the file that lists them."""

_MOST_MEAN_BYTES = 4 * 2**20  # as float64 it takes 1.5 MiB
_IMAGENET = "122.679,116.669,104.007"


def load_model(
    path: str | PathLike[str],
    *,
    devices: Sequence[str] | None = None,
    memory_limit: int | None = None,
    mean: Mean | None = None,
    classes: Classes | None = None,
    colours: Colours | None = None,
    prototxt: str | PathLike[str] | None = None,
    library: Library | None = None,
    verify: bool = False,
) -> Classifier:
    """Read a classifier from a model file, this package's or another program's; docs/exchange.md lists the formats.

    Args:
        path: the file; a run's folder, for its ``model.safetensors``; or that of a model in several files,
            PyTorch's with their index or theano_alexnet's.
        devices: where the net is to compute; by default the first GPU, or the CPU where there is none.
        memory_limit: bytes that the net may take on each device; by default what the device has.
        mean: the mean image of another program's model: three numbers or an array (256, 256, 3), RGB, from 0 to 255,
            or a file, Caffe's ``.binaryproto`` or NumPy's ``.npy``; by default that of the file.
        classes: the outputs' names, or a text file with a name a line; by default those of the file, or numbers.
        colours: in which order another program's net takes an image's colours, ``rgb`` or ``bgr``; by default as nets
            of that format usually do.
        prototxt: the definition of a net of Caffe, where that of its ``.caffemodel`` is not the one that is meant.
        library: what computed theano_alexnet's convolutions, ``cudnn`` or ``cudaconvnet``, its ``lib_conv``; of its
            files alone, which do not tell.
        verify: whether the net must compute, on these devices, the logits of a known image that were written with it,
            but for rounding (:func:`pyalexnet.net.proof.tolerance`). Checksums of this package's files are always
            checked; files of earlier versions and other programs have no logits, and are refused.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument makes no sense, or ``mean`` is not given and the file has none.
        OSError: a file cannot be read; FileNotFoundError where there is none.
        MissingLibraryError: a library is not installed that the format needs.
        ModelFileError: it is no model, of a net that this package does not compute, of a newer format, or damaged, or
            it does not prove itself; the message says which.
    """
    path, verify = as_path("path", path), flag("verify", verify)
    given = any(each is not None for each in (mean, classes, colours, prototxt, library))
    if not given and format_of(path).name == "pyalexnet":
        return model_file.load_model(path, devices=devices, memory_limit=memory_limit, verify=verify)
    require(not verify, "verify", verify, f"False for {path}, as only a model file as it is has logits to verify")
    devices = default_devices() if devices is None else device_names(devices)
    memory_limit = as_memory_limit(memory_limit)
    content = read(path, mean=mean, classes=classes, colours=colours, prototxt=prototxt, library=library)
    for remark in content.remarks:
        warnings.warn(remark, stacklevel=2)
    return content.classifier(devices, memory_limit)


def convert(
    source: Classifier | str | PathLike[str],
    path: str | PathLike[str],
    *,
    to: str | None = None,
    mean: Mean | None = None,
    classes: Classes | None = None,
    colours: Colours | None = None,
    prototxt: str | PathLike[str] | None = None,
    library: Library | None = None,
) -> tuple[str, ...]:
    """Write a model for another program, or another program's as a model file; docs/exchange.md lists the formats.

    Nothing is computed but the order of values, which stay as they are, and the logits that a model file has for its
    proof.

    Args:
        source: a classifier, or what :func:`load_model` takes.
        path: the file to write, whose ending says the format.
        to: the format's name, where its ending stands for several: ``pytorch`` writes ``.safetensors`` for PyTorch,
            ``torchvision`` a state dict for torchvision's own module.
        mean: as in :func:`load_model`, like the arguments that follow.
        classes: see there.
        colours: see there.
        prototxt: see there.
        library: see there.

    Returns:
        What there is to know of the result, in sentences.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an argument makes no sense, ``mean`` is not given and the file has none, or the format cannot hold
            the net.
        OutOfMemoryError: there is no room for the net that computes the logits of a model file.
        OSError: a file cannot be read or written; nothing is half-written.
        MissingLibraryError: a library is not installed that a format needs.
        ModelFileError: as in :func:`load_model`.
    """
    path = as_path("path", path)
    form = format_called(to, path)
    if isinstance(source, Classifier):
        content = _given(content_of(source), "the model", mean, classes, colours)
    else:
        content = read(
            as_path("source", source), mean=mean, classes=classes, colours=colours, prototxt=prototxt, library=library
        )
    assert form.write is not None
    write_together(form.write(content, path))
    return content.remarks


def read(
    path: Path,
    *,
    mean: Mean | None,
    classes: Classes | None,
    colours: Colours | None,
    prototxt: str | PathLike[str] | None,
    library: Library | None = None,
) -> Content:
    """The whole content of a model file, with a mean and classes, for images in RGB.

    Raises:
        ValueError: as in :func:`load_model`, like the errors that follow.
        OSError: see there.
        ModelFileError: see there.
    """
    for name, named in (("mean", mean), ("classes", classes), ("prototxt", prototxt)):
        if isinstance(named, str | PathLike):
            as_path(name, named)  # before the model is read, which may take a while
    return _given(_stored(path, prototxt, library), str(path), mean, classes, colours)


def content_of(model: Classifier | str | PathLike[str]) -> Content:
    """A model as it is, for images in RGB; a mean or classes that its file lacks are None.

    Args:
        model: a classifier, a run's folder or a file.

    Raises:
        OSError: as in :func:`load_model`, like the errors that follow; FileNotFoundError where there is no such file.
        MissingLibraryError: see there.
        ModelFileError: see there.
    """
    if not isinstance(model, Classifier):
        return for_colours(_stored(as_path("model", model)), "rgb")
    return Content(
        options=model.net.options,
        parameters=model.net.parameters(),
        mean=model.mean,
        classes=model.classes,
        step=model.net.step,
        origin=model.origin,
    )


def _stored(path: Path, prototxt: str | PathLike[str] | None = None, library: Library | None = None) -> Content:
    """What a file holds, as :func:`read` does but for what a user says of it."""
    form = format_of(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no model file {path}")
    if library is not None:
        require(library in get_args(Library), "library", library, " or ".join(get_args(Library)))
        require(
            form.name == "theano_alexnet", "library", library, f"None for {path}, which theano_alexnet did not write"
        )
    if prototxt is not None:
        definition = as_path("prototxt", prototxt)
        require(form.name == "caffe", "prototxt", str(definition), f"None for {path}, which is no caffemodel")
        content = caffe.read(path, definition)
    elif form.name == "theano_alexnet":
        content = theano_alexnet.read(path, library)
    else:
        assert form.read is not None
        content = form.read(path)
    path = shards.index_of(path) or theano_alexnet.first_of(path) or model_file.file_of(path)
    file = FileOrigin(name=path.name, format=form.name, sha256=file_sha256(path))
    return replace(content, origin=content.origin.through(file))


def _given(
    content: Content, source: str, mean: Mean | None, classes: Classes | None, colours: Colours | None
) -> Content:
    """A content with what a user says of it."""
    require(colours is None or colours in get_args(Colours), "colours", colours, "rgb or bgr")
    content = for_colours(replace(content, colours=colours or content.colours), "rgb")
    if mean is not None:
        content = replace(content, mean=_mean(mean, content.mean_planes))
    if mean is not None or colours is not None:
        content = replace(content, accuracy=None, more_views=())  # that of a net which sees other images
    if content.mean is None:
        raise ValueError(
            f"mean is None, but {source} has no mean image; it must be its file, or numbers for red, green and blue, "
            f"which are {_IMAGENET} for nets that Caffe trained on ImageNet"
        )
    names = _classes(classes) if classes is not None else content.classes
    names = names or tuple(f"output {number}" for number in range(content.num_classes))
    if not 1 <= len(names) <= content.num_classes:
        raise ValueError(
            f"classes has {len(names)} names; it must have 1 to {content.num_classes}, as many as the net's outputs"
        )
    return replace(content, classes=names)


def _classes(classes: Classes) -> tuple[str, ...]:
    if isinstance(classes, str | PathLike):
        return read_classes_list(as_path("classes", classes))
    names = tuple(classes) if isinstance(classes, Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"classes is {shown(classes)}; it must be a list of names, or the file that has them")
    require_distinct("classes", names)
    return names


def _mean(mean: Mean, planes: Colours) -> np.ndarray[Any, Any]:
    if isinstance(mean, str | PathLike):
        return _read_mean(as_path("mean", mean), planes)
    values = np.asarray(mean)
    require(values.dtype.kind in "iuf", "mean", mean, "numbers, or the file that has them")
    return as_mean(values, "mean")


def _read_mean(path: Path, planes: Colours) -> np.ndarray[Any, Any]:
    """A mean image of a file, which may have its channels first, in the order of the program that wrote the model."""
    if path.suffix == ".binaryproto":
        return caffe.read_mean(path)
    content = read_regular_file(path, _MOST_MEAN_BYTES)
    try:
        values = any_array_from(content)
    except ValueError as error:
        raise ModelFileError(f"{path} holds no mean image: {error}") from error
    if values.ndim == 3 and len(values) == 3:
        values = (values[::-1] if planes == "bgr" else values).transpose(1, 2, 0)
    return as_mean(values, str(path))
