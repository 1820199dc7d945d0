"""The eight layers of AlexNet as data, and the choices on which its sources differ.

Sources, as the options name them: the paper (Krizhevsky, Sutskever, Hinton, NIPS 2012), reading notes on it, the
2012 source code as released in 2025, and Caffe. The net of 2014 is that of "One weird trick for parallelizing
convolutional neural networks" (Krizhevsky, arXiv:1404.5997), which torchvision calls AlexNet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from annotated_types import Interval
from typing_extensions import TypedDict

from pyalexnet.system.checks import MOST_INT
from pyalexnet.system.declaration import Setting, arguments_of, check_fields, require_known

IMAGE_SIZE = 256
INPUT_SIZE = 227
INPUT_CHANNELS = 3
TOWERS = 2
SEEDS = Interval(ge=0, le=MOST_INT)


@dataclass(frozen=True)
class Conv:
    """A convolution with its nonlinearity, then perhaps LRN and max-pooling; channels count all towers together.

    Attributes:
        name: as in the parameters' names.
        channels: input channels of the whole net.
        filters: output channels of the whole net.
        kernel: height and width of a filter.
        stride: pixels from one window to the next.
        padding: zeros on each side.
        size: height and width of the input.
        sees_both: whether a tower reads all towers' channels (which makes an exchange) or its own.
        lrn: whether local response normalisation follows.
        pool: whether max-pooling follows, over windows of 3×3 or 2×2 pixels, 2 apart: either gives the same size.
        towers: how many the filters are split over.
        groups: how many parts of equal size a tower's channels and filters have, each for itself.
    """

    name: str
    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    size: int
    sees_both: bool
    lrn: bool = False
    pool: bool = False
    towers: int = TOWERS
    groups: int = 1

    @property
    def computing_towers(self) -> range:
        """The towers that compute it: all."""
        return range(self.towers)

    @property
    def output_size(self) -> int:
        """Height and width after the convolution."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def pooled_size(self) -> int:
        """Height and width after the pooling."""
        return self.output_size // POOL_STRIDE if self.pool else self.output_size

    @property
    def tower_channels(self) -> int:
        """Input channels that one tower's filters read."""
        return self.channels if self.sees_both else self.channels // self.towers

    @property
    def tower_filters(self) -> int:
        """Filters of one tower."""
        return self.filters // self.towers

    @property
    def tower_weight_shape(self) -> tuple[int, ...]:
        """HWIO shape of one tower's weights."""
        return (self.kernel, self.kernel, self.tower_channels // self.groups, self.tower_filters)


@dataclass(frozen=True)
class Linear:
    """A fully-connected layer; it reads all towers' outputs.

    Attributes:
        name: as in the parameters' names.
        inputs: inputs of the whole net.
        outputs: outputs of the whole net.
        hidden: whether a nonlinearity and dropout follow, and the outputs are split over the towers; not in the last
            layer.
        towers: how many the outputs of a hidden layer are split over.
    """

    name: str
    inputs: int
    outputs: int
    hidden: bool = True
    towers: int = TOWERS

    @property
    def sees_both(self) -> bool:
        """Whether a tower reads both towers' outputs: always."""
        return True

    @property
    def computing_towers(self) -> range:
        """The towers that compute it: tower 0 alone the last layer, so that the loss needs no further exchange."""
        return range(self.towers if self.hidden else 1)

    @property
    def tower_outputs(self) -> int:
        """Outputs of one tower."""
        return self.outputs // len(self.computing_towers)

    @property
    def tower_weight_shape(self) -> tuple[int, ...]:
        """(inputs, outputs) of one tower's weights."""
        return (self.inputs, self.tower_outputs)


POOL_STRIDE = 2
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 2.0


class LrnArguments(TypedDict):
    """What the LRN kernels take beside arrays."""

    size: int
    alpha: float
    beta: float
    k: float


class PoolArguments(TypedDict):
    """What the pooling kernels take beside arrays."""

    kernel: int
    stride: int
    padding: int


# The 2012 code's cnorm2, whose scale of 0.001 is divided by the window's pixels.
SECOND_LRN: LrnArguments = {"size": 5, "alpha": 0.001 / 25, "beta": 0.75, "k": 1.0}

CONVOLUTIONS = (
    Conv("conv1", 3, 96, kernel=11, stride=4, padding=0, size=227, sees_both=True, lrn=True, pool=True),
    Conv("conv2", 96, 256, kernel=5, stride=1, padding=2, size=27, sees_both=False, lrn=True, pool=True),
    Conv("conv3", 256, 384, kernel=3, stride=1, padding=1, size=13, sees_both=True),
    Conv("conv4", 384, 384, kernel=3, stride=1, padding=1, size=13, sees_both=False),
    Conv("conv5", 384, 256, kernel=3, stride=1, padding=1, size=13, sees_both=False, pool=True),
)


def _in_one_tower(*filters: int) -> tuple[Conv, ...]:
    """The same convolutions of so many filters, each of which sees all of the layer before."""
    channels = (INPUT_CHANNELS, *filters)
    return tuple(
        replace(layer, channels=before, filters=own, sees_both=layer is CONVOLUTIONS[0], towers=1)
        for layer, before, own in zip(CONVOLUTIONS, channels, filters, strict=False)
    )


# The paper's net for one GPU (section 3.2 and its footnote): half the filters but in conv5, so that the fully-connected
# layers are as large as the two towers' together.
ONE_TOWER_CONVOLUTIONS = _in_one_tower(48, 128, 192, 192, 256)

# The net of 2014, one tower too.
CONVOLUTIONS_OF_2014 = _in_one_tower(64, 192, 384, 256, 256)

# Both towers' layers as groups of one tower, which sees all channels of a layer at once.
GROUPED_CONVOLUTIONS = tuple(
    replace(layer, towers=1, groups=1 if layer.sees_both else TOWERS) for layer in CONVOLUTIONS
)


# Outputs of fc6, and of fc7; where these layers do not matter, tests make nets with fewer.
HIDDEN_UNITS = 4096


# What the options may be, the default first.
Filters: TypeAlias = Literal["2012", "2014"]
WeightInit: TypeAlias = Literal["paper", "notes", "source2012", "caffe"]
BiasInit: TypeAlias = Literal["paper", "notes", "caffe"]
LrnAlpha: TypeAlias = Literal["paper", "caffe"]
LrnOver: TypeAlias = Literal["tower", "both"]
Crop: TypeAlias = Literal[227, 224]
Conv1Padding: TypeAlias = Literal[0, 2]
ColourDeviation: TypeAlias = Literal["none", "imagenet"]
BiasUpdate: TypeAlias = Literal["paper", "source2012"]
Activation: TypeAlias = Literal["relu", "tanh"]
Pooling: TypeAlias = Literal["overlapping", "plain"]
Towers: TypeAlias = Literal[2, 1]
ConvAlgorithm: TypeAlias = Literal["auto", "direct", "fourier", "winograd"]
Precision: TypeAlias = Literal["fp32", "tf32", "bf16", "tf32x3"]


def layers(
    num_classes: int, towers: int = TOWERS, groups: int = 1, filters: Filters = "2012"
) -> tuple[Conv | Linear, ...]:
    """All eight layers in order.

    Args:
        num_classes: outputs of the last one.
        towers: 2 for the net, 1 for the paper's net for one GPU and for that of 2014.
        groups: 2, with one tower, for the net whose two towers are groups of one.
        filters: as :attr:`Options.filters` has it; ``2014`` with one tower alone.
    """
    one_tower = CONVOLUTIONS_OF_2014 if filters == "2014" else ONE_TOWER_CONVOLUTIONS
    return (
        *(CONVOLUTIONS if towers == TOWERS else GROUPED_CONVOLUTIONS if groups > 1 else one_tower),
        Linear("fc6", 6 * 6 * 256, HIDDEN_UNITS, towers=towers),
        Linear("fc7", HIDDEN_UNITS, HIDDEN_UNITS, towers=towers),
        Linear("fc8", HIDDEN_UNITS, num_classes, hidden=False, towers=towers),
    )


# Standard deviations of ImageNet's red, green and blue, from 0 to 255, as torchvision divides by them.
IMAGENET_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True)
class Options:
    """What the sources disagree on, what the paper compares its net with, and how it is computed.

    Each default is the paper's net.

    Attributes:
        weight_init: standard deviation of the initial weights: ``paper`` 0.01; ``notes`` 0.1, with which training
            diverges; ``source2012`` 0.03 in conv3 to conv5 and 0.01 elsewhere; ``caffe`` 0.005 in fc6 and fc7 and 0.01
            elsewhere.
        bias_init: ``paper`` 1 in conv2, conv4, conv5, fc6 and fc7, else 0; ``notes`` 1 in fc8 too (the same softmax
            at the start); ``caffe`` 0.1 where the paper has 1, which avoids a long first plateau.
        lrn_alpha: ``paper`` as in the formula; ``caffe`` divided by the window's size, as the 2012 code does too.
        lrn_k: LRN's constant: 2 in the paper and the 2012 code, 1 in Caffe.
        lrn_over: ``tower`` a tower's own channels; ``both`` towers' channels as one row, as in Caffe, where the last
            of tower 0 and the first of tower 1 are neighbours. One device computes both towers then.
        pool_before_lrn: pool, then normalise (CaffeNet), instead of normalising first.
        second_lrn: conv2's LRN is followed by another one within each map, over 5×5 pixels, as in the 2012 code.
        relu1_last: conv1's ReLU comes after LRN and pooling, as in the 2012 code, instead of before them.
        crop: pixels a side that the net sees of an image: 227 as in Caffe, or 224 as the paper says, with 3 rows and
            columns of zeros below and to the right, where the 2012 code's last windows reach over the edge.
        conv1_padding: rows and columns of zeros on each side of a crop of 224: 0, or 2 as in torchvision, of which the
            last ones below and to the right are seen by no window.
        colour_deviation: what the colours are divided by once the mean is subtracted: ``none``, or ``imagenet`` for the
            standard deviations of that data set's red, green and blue, 58.4, 57.1 and 57.4, as torchvision does.
        bias_update: ``paper`` as weights; ``source2012`` twice the learning rate and no decay.
        dropout: the chance that a hidden output of fc6 and fc7 is dropped in training; 0 for none.
        activation: the nonlinearity of all layers but fc8; ``tanh`` is what section 3.1 compares ReLU with.
        pooling: over ``overlapping`` windows of 3×3, 2 apart, or over ``plain`` ones of 2×2, as section 3.4 compares.
        lrn: whether there is local response normalisation (section 3.3).
        towers: 2; or 1 for the net that section 3.2 compares two GPUs with: half the filters in conv1 to conv4, and
            every layer sees all of the one before.
        filters: how many conv1 to conv5 have: as in ``2012``, 96, 256, 384, 384 and 256, or as in ``2014``, 64, 192,
            384, 256 and 256 in one tower, which is the net of "One weird trick" and of torchvision.
        conv_algorithm: how convolutions are computed, which changes the rounding alone: ``direct`` sums over windows;
            ``fourier`` multiplies the spectra of whole maps (conv2 to conv5; conv1's maps are too large), but not where
            bits must not depend on the batch; ``winograd`` multiplies the points of small tiles (conv3 to conv5, whose
            kernels are 3×3); ``auto`` takes the fastest one for the batch and the device.
        precision: what both sides of a product, in convolutions, fully connected layers and their gradients, are
            rounded to before they are multiplied; weights and sums stay float32. ``tf32`` keeps 11 bits, ``bf16`` 8;
            ``tf32x3`` multiplies in three parts, with the error of ``fp32``. GPUs of compute capability 8.0 or newer
            have tensor cores for them; CPU cores round alike and are not faster.
    """

    weight_init: Annotated[WeightInit, Setting("spread of the initial weights")] = "paper"
    bias_init: Annotated[BiasInit, Setting("initial biases")] = "paper"
    lrn_alpha: Annotated[LrnAlpha, Setting("whether LRN's alpha is divided by the window's size")] = "paper"
    lrn_k: Annotated[float, Setting("LRN's constant; Caffe has 1", metavar="K", within=Interval(gt=0, lt=math.inf))] = (
        LRN_K
    )
    lrn_over: Annotated[LrnOver, Setting("whether LRN's windows end with a tower's channels; in Caffe they do not")] = (
        "tower"
    )
    pool_before_lrn: Annotated[Literal[False, True], Setting("pool, then normalise")] = False
    second_lrn: Annotated[
        Literal[False, True], Setting("another LRN behind conv2's, within each map, as in the 2012 code")
    ] = False
    relu1_last: Annotated[Literal[False, True], Setting("conv1's ReLU behind LRN and pooling, as in the 2012 code")] = (
        False
    )
    crop: Annotated[Crop, Setting("pixels a side that the net sees")] = 227
    conv1_padding: Annotated[Conv1Padding, Setting("zeros on each side of a crop of 224; torchvision has 2")] = 0
    colour_deviation: Annotated[
        ColourDeviation, Setting("what colours are divided by; torchvision divides by ImageNet's")
    ] = "none"
    bias_update: Annotated[BiasUpdate, Setting("whether biases move twice as fast and do not decay")] = "paper"
    dropout: Annotated[float, Setting("chance to drop a hidden output", metavar="P", within=Interval(ge=0, lt=1))] = 0.5
    activation: Annotated[Activation, Setting("the nonlinearity")] = "relu"
    pooling: Annotated[Pooling, Setting("windows of 3×3 or of 2×2, 2 apart")] = "overlapping"
    lrn: Annotated[Literal[True, False], Setting("local response normalisation")] = True
    towers: Annotated[Towers, Setting("2, or 1 for the paper's net for one GPU")] = 2
    filters: Annotated[Filters, Setting("as many as in 2012, or as in the net of 2014, torchvision's")] = "2012"
    conv_algorithm: Annotated[
        ConvAlgorithm,
        Setting("how convolutions are computed: by windows, by spectra, by tiles, or whichever is fastest"),
    ] = "auto"
    precision: Annotated[Precision, Setting("what products round their operands to, for tensor cores")] = "fp32"

    def __post_init__(self) -> None:
        """Check every choice; those of NumPy's types become Python's.

        Raises:
            TypeError: ``dropout`` or ``lrn_k`` is no number.
            ValueError: a choice is not among those listed above.
        """
        check_fields(self)
        if self.second_lrn and not self.lrn:
            raise ValueError("second_lrn is True, but lrn is False; lrn must be True then")
        if self.lrn_over == "both" and not self.lrn:
            raise ValueError("lrn_over is 'both', but lrn is False; lrn must be True then")
        if self.lrn_over == "both" and self.towers == 1:
            raise ValueError("lrn_over is 'both', but towers is 1; towers must be 2 then")
        if self.relu1_last and self.activation != "relu":
            raise ValueError(
                f"relu1_last is True, but activation is {self.activation!r}; activation must be 'relu' then"
            )
        if self.filters == "2014" and self.towers != 1:
            raise ValueError(f"filters is '2014', but towers is {self.towers}; towers must be 1 then")
        if self.conv1_padding and self.crop == INPUT_SIZE:
            raise ValueError(f"conv1_padding is {self.conv1_padding}, but crop is {self.crop}; crop must be 224 then")

    @property
    def computed_as(self) -> tuple[int, int, Filters]:
        """How many towers compute the net, in how many groups, and of which filters: what :func:`layers` takes."""
        towers, groups = (1, TOWERS) if self.lrn_over == "both" else (self.towers, 1)
        return towers, groups, self.filters

    @property
    def colour_divisors(self) -> tuple[float, float, float]:
        """What red, green and blue, from 0 to 255, are divided by once the mean is subtracted."""
        return IMAGENET_DEVIATION if self.colour_deviation == "imagenet" else (1.0, 1.0, 1.0)

    @property
    def lrn_arguments(self) -> LrnArguments:
        """Size, alpha, beta and k as the LRN kernels take them."""
        alpha = LRN_ALPHA / LRN_SIZE if self.lrn_alpha == "caffe" else LRN_ALPHA
        return {"size": LRN_SIZE, "alpha": alpha, "beta": LRN_BETA, "k": self.lrn_k}

    @property
    def pool_arguments(self) -> PoolArguments:
        """Kernel, stride and padding as the pooling kernels take them."""
        return {"kernel": 3 if self.pooling == "overlapping" else 2, "stride": POOL_STRIDE, "padding": 0}

    def steps_after(self, layer: Conv) -> list[str]:
        """What follows a convolution and its nonlinearity, in order: some of ``lrn``, ``lrn_in_map`` and ``pool``."""
        norms = [("lrn", layer.lrn and self.lrn), ("lrn_in_map", layer.name == "conv2" and self.second_lrn)]
        pool = [("pool", layer.pool)]
        return [step for step, wanted in (pool + norms if self.pool_before_lrn else norms + pool) if wanted]

    def conv_algorithm_of(self, layer: Conv) -> ConvAlgorithm:
        """How a convolution is computed: as was asked for, where that is a way to compute it."""
        if layer.stride != 1 and self.conv_algorithm != "auto":
            return "direct"
        return "direct" if self.conv_algorithm == "winograd" and layer.kernel != 3 else self.conv_algorithm

    def weight_std(self, layer: str) -> float:
        """Standard deviation of a layer's initial weights."""
        if self.weight_init == "notes":
            return 0.1
        if self.weight_init == "source2012" and layer in ("conv3", "conv4", "conv5"):
            return 0.03
        return 0.005 if self.weight_init == "caffe" and layer in ("fc6", "fc7") else 0.01

    def bias_value(self, layer: str) -> float:
        """Initial value of a layer's biases."""
        if layer in ("conv2", "conv4", "conv5", "fc6", "fc7"):
            return 0.1 if self.bias_init == "caffe" else 1.0
        return 1.0 if self.bias_init == "notes" and layer == "fc8" else 0.0


class OptionArguments(TypedDict, total=False):
    """:class:`Options` as keyword arguments, for type checkers and editors."""

    weight_init: WeightInit
    bias_init: BiasInit
    lrn_alpha: LrnAlpha
    lrn_over: LrnOver
    pool_before_lrn: bool
    second_lrn: bool
    relu1_last: bool
    crop: Crop
    conv1_padding: Conv1Padding
    colour_deviation: ColourDeviation
    bias_update: BiasUpdate
    activation: Activation
    pooling: Pooling
    lrn: bool
    towers: Towers
    filters: Filters
    conv_algorithm: ConvAlgorithm
    precision: Precision
    lrn_k: float
    dropout: float


def as_options(given: Mapping[str, Any], caller: str, others: Iterable[str] = ()) -> OptionArguments:
    """Options by name, checked and of Python's types; those that are not given are not in it.

    Args:
        given: values by name.
        caller: which function or class was given them, for messages.
        others: its further arguments, of which one may have been meant.

    Raises:
        TypeError: there is no such option, or what must be a number is none.
        ValueError: a choice is not among those that :class:`Options` lists.
    """
    options = arguments_of(Options)
    others = [name for name in others if name not in options]
    known = f"the net's options are {', '.join(options)}"
    known += f"; the other arguments are {', '.join(others)}" if others else ""
    require_known(given, [*options, *others], caller, known)
    checked = Options(**given)
    return cast(OptionArguments, {name: getattr(checked, name) for name in given})


def feature_names(options: Options) -> dict[str, str]:
    """What a net computes on its way, in order: what a user calls it, and the name of the program's array.

    ``conv1`` to ``conv5`` are outputs of a convolution behind its nonlinearity (but conv1's before it, where
    ``relu1_last`` puts it behind the pooling), ``lrn1``, ``pool1`` and so on what follows, ``fc6`` and ``fc7`` the
    hidden layers' outputs, without dropout, and ``fc8`` the logits.
    """
    names = {}
    for layer in layers(2, *options.computed_as):
        if isinstance(layer, Conv):
            names[layer.name] = f"{layer.name}.y"
            for step in options.steps_after(layer):
                names[f"{step}{layer.name[-1]}"] = f"{layer.name}.{step}.y"
        else:
            names[layer.name] = f"{layer.name}.out"
    return names


def activation_names(options: Options) -> dict[str, str]:
    """All of a net's outputs that can be asked for: what a user calls each, and the name of the program's array.

    They are :func:`feature_names`, and then ``conv1_pre`` to ``conv5_pre``, ``fc6_pre`` and ``fc7_pre``: what the layer
    sums, biases included, before its nonlinearity. Arrays whose names end in ``.pre`` are those of programs that keep
    them. Where ``relu1_last`` puts conv1's ReLU behind the pooling, ``conv1`` and ``conv1_pre`` are the same.
    """
    names = feature_names(options)
    for layer in layers(2, *options.computed_as):
        if isinstance(layer, Conv) or layer.hidden:
            kept = not (options.relu1_last and layer.name == "conv1")
            names[f"{layer.name}_pre"] = f"{layer.name}.{'pre' if kept else 'y'}"
    return names


def parameter_shapes(
    num_classes: int, towers: int = TOWERS, groups: int = 1, filters: Filters = "2012"
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of the whole net, towers side by side along the last axis."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(num_classes, towers, groups, filters):
        outputs = layer.filters if isinstance(layer, Conv) else layer.outputs
        shapes[f"{layer.name}.weight"] = (*layer.tower_weight_shape[:-1], outputs)
        shapes[f"{layer.name}.bias"] = (outputs,)
    return shapes


def parameter_count(num_classes: int, towers: int = TOWERS, groups: int = 1, filters: Filters = "2012") -> int:
    """Number of learned values: 60,965,224 with 1000 classes."""
    return sum(math.prod(shape) for shape in parameter_shapes(num_classes, towers, groups, filters).values())


def initial_parameters(num_classes: int, options: Options, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Initial weights N(0, σ²) and constant biases, one parameter at a time.

    Each parameter draws from a generator of its own (Philox, key = seed and the parameter's number), so that its
    values do not depend on the others' sizes.
    """
    for place, (name, shape) in enumerate(parameter_shapes(num_classes, *options.computed_as).items()):
        layer, kind = name.split(".")
        if kind == "bias":
            yield name, np.full(shape, options.bias_value(layer), np.float32)
        else:
            generator = np.random.Generator(np.random.Philox(key=[seed, place]))
            yield name, generator.standard_normal(shape, np.float32) * np.float32(options.weight_std(layer))
