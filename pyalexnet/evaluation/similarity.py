"""How alike what layers compute of the same images is: dissimilarity matrices, and measures between them.

Kriegeskorte, Mur, Bandettini: Representational similarity analysis, Frontiers in Systems Neuroscience 2, 2008.
Kornblith, Norouzi, Lee, Hinton: Similarity of neural network representations revisited, ICML 2019.
Song, Smola, Gretton, Bedo, Borgwardt: Feature selection via dependence maximization, JMLR 13, 2012.

Nothing depends on more of a layer's outputs than their products image by image, N×N numbers, which are summed over a
block of outputs at a time: features may be larger than memory, as those that :func:`pyalexnet.load_activations` finds.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyalexnet.data import DataSource, Subset
from pyalexnet.data.dataset import image_names
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.readable import OnError, readable, require_on_error
from pyalexnet.data.subset import sample
from pyalexnet.evaluation.activations import load_activations, save_activations
from pyalexnet.evaluation.choices import BATCH_SIZE, COMPARED_LAYERS, DISTANCES, Distance, Measure
from pyalexnet.evaluation.own_data import held_out_images
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import at_least, callback, flag, require, shown
from pyalexnet.system.ranks import working_alone

Matrix: TypeAlias = npt.NDArray[np.float64]
Features: TypeAlias = npt.NDArray[Any]

LEAST_IMAGES = 4
"""Fewer images have no unbiased estimate of HSIC."""

_BLOCK_VALUES = 2**23  # of float64: 64 MiB


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike layers are.

    Attributes:
        layers: those that rows stand for.
        other_layers: those that columns stand for: the same net's, or another's.
        values: by measure, one of :data:`MEASURES`, float64 (layers, other_layers).
        distance: by which the dissimilarity matrices were made, one of :data:`DISTANCES`.
        rdms: of each of ``layers``, float64 (N, N).
        other_rdms: of each of ``other_layers``; the same ones where there is no other net.
        names: what the images are called; () where nobody told.
        labels: int32 (N,), their indices into ``classes``; likewise.
        classes: the data set's classes.
    """

    layers: tuple[str, ...]
    other_layers: tuple[str, ...]
    values: Mapping[Measure, Matrix]
    distance: Distance
    rdms: Mapping[str, Matrix]
    other_rdms: Mapping[str, Matrix]
    names: tuple[str, ...] = ()
    labels: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    classes: tuple[str, ...] = ()

    @property
    def of_two_nets(self) -> bool:
        """Whether the columns are another net's."""
        return self.rdms is not self.other_rdms

    @property
    def count(self) -> int:
        """Number of images."""
        return len(next(iter(self.rdms.values())))

    def __repr__(self) -> str:
        nets = "two nets" if self.of_two_nets else "a net"
        return f"<Similarity of {len(self.layers)}×{len(self.other_layers)} layers of {nets}, {self.count} images>"


def rdm(features: Features, distance: Distance = "correlation") -> Matrix:
    """The dissimilarity of each two images (Kriegeskorte 2008): what a layer's outputs for one differ from the other's.

    Args:
        features: a layer's outputs, real numbers (N, ...), at least two images.
        distance: ``correlation``, 1 - Pearson's correlation of the two images' outputs; or ``euclidean``.

    Returns:
        float64 (N, N), symmetric, zeros along the diagonal. Distances come from products of images: the correlation's
        are right to 1e-14 or so, Euclidean ones to 1e-7 or so of the largest distance.

    Raises:
        TypeError: ``features`` are no real numbers.
        ValueError: they have another shape, or values that are not finite; there is no such distance; or an image's
            outputs are all alike, so that they correlate with nothing.
    """
    values = _checked(features)
    require(distance in DISTANCES, "distance", distance, f"one of {', '.join(map(repr, DISTANCES))}")
    return _euclidean(_products(values)) if distance == "euclidean" else _correlation(values)


def rsa(one: Matrix, other: Matrix) -> float:
    """Spearman's correlation of two dissimilarity matrices (Kriegeskorte 2008), each pair of images counted once.

    Args:
        one: float64 (N, N), as :func:`rdm` gives them, at least three images.
        other: the same of the same images.

    Returns:
        From -1 to 1; ranks of equal distances are averaged.

    Raises:
        TypeError: one is no array of real numbers.
        ValueError: the matrices are not square, not of one size, too small, or one's distances are all alike.
    """
    for name, matrix in (("one", one), ("other", other)):
        _require_array(name, matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 3:
            raise ValueError(f"{name} has shape {matrix.shape}; it must be (N, N) of three images or more")
    if one.shape != other.shape:
        raise ValueError(f"one has shape {one.shape} and other {other.shape}; they must be of the same images")
    return float(_pearson(*(_ranks(name, matrix) for name, matrix in (("one", one), ("other", other)))))


def linear_cka(one: Features, other: Features, *, unbiased: bool = True) -> float:
    """Centred kernel alignment of two layers' outputs, by the linear kernel (Kornblith 2019).

    With K and L the products of each two images' outputs, CKA = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)). Plain is
    HSIC = tr(K H L H) / (N - 1)², which says that few images of many outputs are alike whatever these are; unbiased is
    the estimate of Song 2012, around 0 where there is nothing alike. Turned, mirrored, shifted and evenly stretched
    outputs count as the same: 1.

    Args:
        one: a layer's outputs, real numbers (N, ...), at least four images.
        other: another's of the same images; it may have more or fewer.
        unbiased: which estimate of HSIC.

    Returns:
        Plain from 0 to 1, unbiased from about -1 to 1.

    Raises:
        TypeError: outputs are no real numbers.
        ValueError: they are of other shapes, or have values that are not finite; or all images have the same outputs.
    """
    unbiased = flag("unbiased", unbiased)
    values = {name: _checked(given, name, LEAST_IMAGES) for name, given in (("one", one), ("other", other))}
    if len(one) != len(other):
        raise ValueError(f"one is of {len(one)} images and other of {len(other)}; they must be of the same images")
    ready = [_hsic_ready(_products(features, name), unbiased, name) for name, features in values.items()]
    return float(np.vdot(*ready))


def compare(
    one: Mapping[str, Features], other: Mapping[str, Features] | None = None, *, distance: Distance = "correlation"
) -> Similarity:
    """How alike each two layers are, by every measure.

    Args:
        one: layers' outputs for N images by name, real numbers (N, ...), at least four images: of one pass over them,
            from :func:`pyalexnet.load_activations`, or from elsewhere, such as recordings of neurons.
        other: those of another net for the same images; by default the same ones.
        distance: as in :func:`rdm`, for RSA.

    Raises:
        TypeError: outputs are no real numbers, or not by layer.
        ValueError: there is no such distance; or outputs are of other shapes, of other images, or cannot be compared;
            the message names the layer.
    """
    require(distance in DISTANCES, "distance", distance, f"one of {', '.join(map(repr, DISTANCES))}")
    for argument, given in (("one", one), ("other", {} if other is None else other)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{argument} is {shown(given)}; it must be outputs by layer")
    mine = {name: _Layer(name, features, distance) for name, features in one.items()}
    theirs = mine if other is None else {name: _Layer(name, features, distance) for name, features in other.items()}
    if not mine or not theirs:
        raise ValueError("there are no layers to compare; there must be one or more")
    counts = {len(layer.rdm) for layer in (*mine.values(), *theirs.values())}
    if len(counts) > 1:
        raise ValueError(f"layers are of {sorted(counts)} images; they must be of the same ones")
    values: dict[Measure, Matrix] = {
        "cka": np.array([[np.vdot(a.unbiased, b.unbiased) for b in theirs.values()] for a in mine.values()]),
        "cka_plain": np.array([[np.vdot(a.plain, b.plain) for b in theirs.values()] for a in mine.values()]),
        "rsa": np.array([[_pearson(a.ranks, b.ranks) for b in theirs.values()] for a in mine.values()]),
    }
    rdms = {name: layer.rdm for name, layer in mine.items()}
    others = rdms if other is None else {name: layer.rdm for name, layer in theirs.items()}
    return Similarity(tuple(mine), tuple(theirs), values, distance, rdms, others)


def compare_nets(
    model: Classifier | str | PathLike[str],
    other: Classifier | str | PathLike[str] | None = None,
    data: DataSource | None = None,
    *,
    layers: Sequence[str] = COMPARED_LAYERS,
    other_layers: Sequence[str] | None = None,
    distance: Distance = "correlation",
    count: int = 200,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_error: OnError = "stop",
    on_images: Callable[[int], None] = lambda _count: None,
) -> Similarity:
    """How alike layers of a net, or of two, are for some images, sorted by class.

    What layers compute lies in a temporary file meanwhile (200 images of the default layers take 0.5 GB, where
    ``TMPDIR`` says); memory is taken for a batch, and for N×N numbers a few times a layer.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        other: another one; by default layers of the one are compared with each other.
        data: images, named as for :func:`pyalexnet.train`; of what comes in two parts, the held-out one. By default
            those that the first model's own run held out.
        layers: names as :meth:`pyalexnet.AlexNet.features` takes them.
        other_layers: those of the other net, if there is one; by default the same names.
        distance: as in :func:`rdm`.
        count: how many images, of all classes by turns; fewer where the data has fewer.
        seed: which ones.
        batch_size: images that a net computes at a time.
        on_error: what an image does that cannot be read, as in :func:`pyalexnet.evaluate`.
        on_images: called with the number of images that a net has done since the last call.

    Raises:
        DataError: the data cannot serve.
        TypeError: an argument is of another type.
        ValueError: an argument makes no sense, or a layer has nothing to compare; the message names it.
        OSError: the temporary file cannot be written.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    require(distance in DISTANCES, "distance", distance, f"one of {', '.join(map(repr, DISTANCES))}")
    count, seed = at_least("count", count, LEAST_IMAGES), at_least("seed", seed, 0)
    batch_size = at_least("batch_size", batch_size, 1)
    callback("on_images", on_images)
    require_on_error(on_error)
    if other is None:
        require(other_layers is None, "other_layers", other_layers, "None where other is None")
    nets = [as_model(model)] + ([] if other is None else [as_model(other, name="other")])
    names = [layers] + ([] if other is None else [layers if other_layers is None else other_layers])
    nets[0].net.require_layers(layers)
    if other is not None:
        nets[1].net.require_layers(names[1], "layers" if other_layers is None else "other_layers")
    dataset = readable(held_out_images(nets[0]) if data is None else as_test_dataset(data), on_error)
    chosen = np.sort(sample(dataset, count, seed=seed))
    images = Subset(dataset, chosen[np.argsort(dataset.labels[chosen], kind="stable")])
    with tempfile.TemporaryDirectory(prefix="pyalexnet-") as folder, working_alone():
        kept = []
        for number, (net, wanted) in enumerate(zip(nets, names, strict=True)):
            path = Path(folder) / str(number)
            save_activations(path, net, images, wanted, batch_size=batch_size, on_images=on_images)
            kept.append(load_activations(path).layers)
        found = compare(*kept, distance=distance)
    return Similarity(
        found.layers,
        found.other_layers,
        found.values,
        distance,
        found.rdms,
        found.other_rdms,
        tuple(image_names(images)),
        images.labels,
        images.classes,
    )


class _Layer:
    """What all measures need of a layer.

    Attributes:
        rdm: its dissimilarity matrix.
        ranks: of that, centred and of length 1, so that a product of two is their correlation.
        plain: the products of images, centred and of length 1, so that a product of two is their CKA.
        unbiased: the same for the unbiased CKA.
    """

    def __init__(self, name: str, features: Features, distance: Distance) -> None:
        values = _checked(features, name, LEAST_IMAGES)
        products = _products(values, name)
        self.rdm = _euclidean(products) if distance == "euclidean" else _correlation(values, name)
        self.ranks = _ranks(name, self.rdm)
        self.plain = _hsic_ready(products, False, name)
        self.unbiased = _hsic_ready(products, True, name)


def _checked(features: Features, name: str = "features", least: int = 2) -> Features:
    """Outputs as a matrix (N, units), where they lie."""
    _require_array(name, features)
    if features.ndim < 2 or len(features) < least or not math.prod(features.shape):
        raise ValueError(f"{name} has shape {features.shape}; it must be (N, ...) of {least} images or more")
    return features.reshape(len(features), -1)


def _require_array(name: str, values: object) -> None:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise TypeError(f"{name} is {shown(values)}; it must be an array of real numbers")


def _blocks(values: Features, name: str = "features") -> Iterator[Matrix]:
    """The columns, some at a time, in float64."""
    width = max(1, _BLOCK_VALUES // len(values))
    for start in range(0, values.shape[1], width):
        block = values[:, start : start + width].astype(np.float64)
        if not np.isfinite(block).all():
            raise ValueError(f"{name} has values that are NaN or infinite; all must be finite")
        yield block


def _products(values: Features, name: str = "features") -> Matrix:
    """The products of each two images' outputs, which are measured from the images' mean: H K H."""
    products, squares = np.zeros((len(values), len(values))), 0.0
    for block in _blocks(values, name):
        squares += float(np.vdot(block, block))
        block -= block.mean(axis=0)
        products += block @ block.T
    is_rounding = np.trace(products) <= 1e-28 * squares  # where all images have the same outputs
    return np.zeros_like(products) if is_rounding else products


def _euclidean(products: Matrix) -> Matrix:
    """Distances from products: |x - y|² = |x|² + |y|² - 2 x·y."""
    squares = np.diag(products)
    distances: Matrix = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    np.fill_diagonal(distances, 0)
    return distances


def _correlation(values: Features, name: str = "features") -> Matrix:
    """1 - Pearson's correlation of each two images, whose outputs are measured from the image's own mean."""
    means = sum(block.sum(axis=1) for block in _blocks(values, name)) / values.shape[1]
    products = np.zeros((len(values), len(values)))
    for block in _blocks(values, name):
        block -= np.asarray(means)[:, None]
        products += block @ block.T
    lengths = np.sqrt(np.diag(products))
    # What rounding leaves of outputs that are all alike is no deviation.
    flat = np.flatnonzero(lengths <= 1e-12 * math.sqrt(values.shape[1]) * np.abs(means))
    if len(flat):
        raise ValueError(
            f"{name}: the outputs for image {flat[0]} are all alike, so that they correlate with nothing; "
            "the distance must be 'euclidean'"
        )
    distances: Matrix = np.clip(1 - products / np.outer(lengths, lengths), 0, 2)
    np.fill_diagonal(distances, 0)
    return distances


def _ranks(name: str, distances: Matrix) -> Matrix:
    """The ranks of the distances above the diagonal, centred and of length 1."""
    ranks = stats.rankdata(distances[np.triu_indices(len(distances), 1)])
    return _of_length_1(ranks - ranks.mean(), f"{name}: all distances are alike")


def _pearson(one: Matrix, other: Matrix) -> float:
    return float(np.clip(np.vdot(one, other), -1, 1))


def _hsic_ready(products: Matrix, unbiased: bool, name: str) -> Matrix:
    """Centred products, of length 1: the HSIC of two layers over the root of their own ones is a product of two such.

    Unbiased, that of Song 2012, is a product of matrices that are centred otherwise, U-centred (Székely and Rizzo,
    Partial distance correlation with methods for dissimilarities, Annals of Statistics 42, 2014): with zeros along the
    diagonal, and rows that come to zero.
    """
    if not unbiased:
        return _of_length_1(products, f"{name}: all images have the same outputs")
    n = len(products)
    outer = products.copy()
    np.fill_diagonal(outer, 0)
    rows = outer.sum(axis=0) / (n - 2)
    outer -= rows[:, None] + rows - rows.sum() / (n - 1)
    np.fill_diagonal(outer, 0)
    return _of_length_1(outer, f"{name}: all images have the same outputs")


def _of_length_1(values: Matrix, otherwise: str) -> Matrix:
    length = np.linalg.norm(values)
    if not length > 0:
        raise ValueError(f"{otherwise}, so that there is nothing to compare")
    found: Matrix = values / length
    return found
