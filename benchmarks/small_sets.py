"""Train on five small sets of images as a person has them, with no setting given, beside a nearest mean colour.

    python benchmarks/small_sets.py

The script makes the sets: folders of JPEG and PNG files, a subfolder a class, in many sizes. What is held out is judged
by the net and by the mean colours of the training images' classes, of which the nearest one answers: what is to be
learned must be more than colour. Photographs are scikit-image's (pip install scikit-image) and scikit-learn's, of which
each image shows a part, turned, scaled and in other light.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_sample_image

from pyalexnet import train
from pyalexnet.data import Dataset
from pyalexnet.data.choice import choose_data
from pyalexnet.device.backend import devices, get_device
from pyalexnet.errors import DataError
from pyalexnet.net.classifier import default_devices
from pyalexnet.training.recipe import SMALL

Draw = Callable[[str, np.random.Generator], Image.Image]

COLOURS = {
    "red": (205, 60, 50),
    "green": (70, 160, 70),
    "blue": (60, 95, 200),
    "yellow": (220, 195, 60),
    "violet": (150, 75, 175),
}


# Photographs ------------------------------------------------------------------------------------------------------


@cache
def photograph(name: str) -> Image.Image:
    """A photograph that comes with a package, by the name that the package has for it."""
    if name.endswith(".jpg"):
        return Image.fromarray(load_sample_image(name))
    import skimage.data  # here, since no extra brings it

    return Image.fromarray(getattr(skimage.data, name)())


def part_of_photograph(name: str, rng: np.random.Generator) -> Image.Image:
    """A part of a photograph, turned by up to 20 degrees and in other light."""
    photo = photograph(name)
    width, height = random_size(rng)
    # The turned rectangle's diagonal fits into the photograph.
    zoom = rng.uniform(0.5, 0.95) * min(photo.size) / math.hypot(width, height)
    reach = zoom * math.hypot(width, height) / 2
    x, y = (rng.uniform(reach, side - reach) for side in photo.size)
    angle = math.radians(rng.uniform(-20, 20))
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    corner = (x - cos * width / 2 + sin * height / 2, y - sin * width / 2 - cos * height / 2)
    placed = photo.transform(
        (width, height), Image.Transform.AFFINE, (cos, -sin, corner[0], sin, cos, corner[1]), Image.Resampling.BILINEAR
    )
    return in_other_light(placed, rng)


def in_other_light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brighter or darker, of more or less contrast and, where there are colours, tinged."""
    pixels = np.asarray(image, np.float32)
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.8, 1.2, pixels.shape[2:])
    return as_image((pixels - 128) * gain + 128 + rng.uniform(-40, 40))


# Shapes -----------------------------------------------------------------------------------------------------------


def polygon(*corners: tuple[float, float]) -> Callable[[ImageDraw.ImageDraw, Callable[..., Any]], None]:
    """A shape of corners in the square from -1 to 1."""
    return lambda pen, place: pen.polygon([place(x, y) for x, y in corners], fill=255)


def star(points: int, inner: float) -> tuple[tuple[float, float], ...]:
    """The corners of a star."""
    radii = [1 if corner % 2 == 0 else inner for corner in range(2 * points)]
    return tuple(
        (radius * math.sin(math.pi * i / points), -radius * math.cos(math.pi * i / points))
        for i, radius in enumerate(radii)
    )


def regular(corners: int) -> tuple[tuple[float, float], ...]:
    """The corners of a regular polygon."""
    return star(corners, math.cos(math.pi / corners))


def ring(inner: float) -> Callable[[ImageDraw.ImageDraw, Callable[..., Any]], None]:
    """A disc with a hole."""

    def draw(pen: ImageDraw.ImageDraw, place: Callable[..., Any]) -> None:
        for radius, fill in ((1.0, 255), (inner, 0)):
            pen.polygon(
                [place(radius * math.cos(t), radius * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 60)], fill=fill
            )

    return draw


SHAPES = {
    "disc": ring(0.0),
    "ring": ring(0.6),
    "square": polygon((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),
    "triangle": polygon(*regular(3)),
    "star": polygon(*star(5, 0.4)),
    "cross": polygon(
        *((-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)),
        *((0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)),
    ),
    "bar": polygon((-1, -0.25), (1, -0.25), (1, 0.25), (-1, 0.25)),
    "post": polygon((-0.25, -1), (0.25, -1), (0.25, 1), (-0.25, 1)),
    "arrow": polygon((-0.25, 1), (-0.25, -0.1), (-0.8, -0.1), (0, -1), (0.8, -0.1), (0.25, -0.1), (0.25, 1)),
    "bowl": polygon((-1, -0.3), (1, -0.3), (0.6, 0.6), (-0.6, 0.6)),
}


def shape_of_any_colour(name: str, rng: np.random.Generator) -> Image.Image:
    """A shape whose colour and ground tell nothing."""
    return drawn_shape(name, rng.uniform(30, 225, 3), rng)


def coloured_shape(name: str, rng: np.random.Generator) -> Image.Image:
    """A shape in about the colour that its name says, such as ``red star``, before any ground."""
    colour, shape = name.split()
    return drawn_shape(shape, np.clip(np.array(COLOURS[colour]) + rng.normal(0, 15, 3), 0, 255), rng)


def drawn_shape(shape: str, colour: npt.NDArray[np.float64], rng: np.random.Generator) -> Image.Image:
    """A shape somewhere before an uneven ground that differs from it."""
    width, height = random_size(rng)
    radius = rng.uniform(0.25, 0.42) * min(width, height)
    x, y = (rng.uniform(radius, side - radius) for side in (width, height))
    angle = math.radians(rng.uniform(-20, 20))
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    mask = Image.new("L", (width, height))
    SHAPES[shape](ImageDraw.Draw(mask), lambda u, v: (x + cos * u - sin * v, y + sin * u + cos * v))
    ground = rng.uniform(30, 225, 3)
    while np.abs(ground - colour).max() < 60:
        ground = rng.uniform(30, 225, 3)
    image = as_image(ground + blurred_noise(width, height, 20, rng)[..., None] * 15)
    image.paste(tuple(colour.astype(int).tolist()), mask=mask.filter(ImageFilter.GaussianBlur(1)))
    return as_image(np.asarray(image, np.float32) + rng.normal(0, 6, (height, width, 3)))


# Textures ---------------------------------------------------------------------------------------------------------


def texture(name: str, rng: np.random.Generator) -> Image.Image:
    """Grey stuff: three photographs' and seven computed ones."""
    if name in ("brick", "grass", "gravel"):
        return part_of_photograph(name, rng)
    width, height = random_size(rng)
    scale = min(width, height) / 256
    angle = rng.uniform(-0.2, 0.2)
    y, x = np.mgrid[:height, :width] / scale
    u, v = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    period = rng.uniform(16, 24)
    phases = rng.uniform(0, 2 * math.pi, 2)
    across, along = np.sin(2 * math.pi * u / period + phases[0]), np.sin(2 * math.pi * v / period + phases[1])
    pattern = {
        "upright stripes": lambda: np.sign(across),
        "level stripes": lambda: np.sign(along),
        "fine stripes": lambda: np.sign(np.sin(2 * math.pi * 2.5 * u / period + phases[0])),
        "checks": lambda: np.sign(across * along),
        "dots": lambda: np.where((across > 0.3) & (along > 0.3), 1.0, -0.6),
        "clouds": lambda: blurred_noise(width, height, 12 * scale, rng),
        "grain": lambda: blurred_noise(width, height, scale, rng),
    }[name]()
    grey = rng.uniform(80, 170) + rng.uniform(20, 60) * pattern
    return as_image(grey + rng.normal(0, 12, grey.shape))


# What all have in common ------------------------------------------------------------------------------------------


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """A width and a height, from a thumbnail's to a screen's."""
    shorter = round(math.exp(rng.uniform(math.log(100), math.log(600))))
    longer = round(shorter * rng.uniform(1, 1.6))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def blurred_noise(width: int, height: int, radius: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise without what is finer than ``radius`` pixels, of mean 0 and deviation 1: (height, width)."""
    small = max(1, round(radius))
    coarse = rng.standard_normal((height // small + 2, width // small + 2)).astype(np.float32)
    noise = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return (noise - noise.mean()) / noise.std()


def as_image(pixels: npt.NDArray[Any]) -> Image.Image:
    """An image of values that may reach beyond 0 and 255."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class SmallSet:
    """A set of images to make.

    Attributes:
        name: what it is called.
        draw: makes an image of a class.
        counts: how many images of each class.
        endings: of its files, each as often as the others.
    """

    name: str
    draw: Draw
    counts: dict[str, int]
    endings: tuple[str, ...] = ("jpg",)


SETS = (
    SmallSet("two shapes", shape_of_any_colour, {"ring": 150, "triangle": 150}, ("png",)),
    SmallSet(
        "photographs",
        part_of_photograph,
        dict.fromkeys(("astronaut", "chelsea", "coffee", "rocket", "china.jpg", "flower.jpg"), 225),
    ),
    SmallSet(
        "unbalanced greys",
        part_of_photograph,
        {"camera": 800, "moon": 400, "coins": 240, "clock": 160, "page": 120, "text": 80, "cell": 60, "brick": 40},
        ("jpg", "png"),
    ),
    SmallSet(
        "textures",
        texture,
        dict.fromkeys(
            (
                *("brick", "grass", "gravel", "upright stripes", "level stripes"),
                *("fine stripes", "checks", "dots", "clouds", "grain"),
            ),
            300,
        ),
    ),
    SmallSet(
        "coloured shapes",
        coloured_shape,
        {f"{colour} {shape}": 200 for colour in COLOURS for shape in SHAPES},
        ("jpg", "png"),
    ),
)

SHOW_PHOTOGRAPHS = (part_of_photograph, texture)

SAVING: dict[str, dict[str, Any]] = {"jpg": {"quality": 90}, "png": {"compress_level": 1}}


def write(small: SmallSet, folder: Path, seed: int) -> None:
    """Make a set's files: a subfolder for each class."""
    rng = np.random.default_rng(seed)
    for name, count in small.counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            ending = small.endings[number % len(small.endings)]
            small.draw(name, rng).save(folder / name / f"{number:05}.{ending}", **SAVING[ending])


def mean_colours(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Each image's mean red, green and blue: (n, 3)."""
    parts = np.array_split(np.arange(len(dataset)), math.ceil(len(dataset) / 64))
    return np.concatenate([dataset.batch(part)[0].mean(axis=(1, 2)) for part in parts])


def accuracy_by_colour(training: Dataset, held_out: Dataset) -> float:
    """How many held-out images the nearest of the classes' mean colours answers rightly."""
    colours = mean_colours(training)
    centres = np.stack([colours[training.labels == label].mean(axis=0) for label in range(len(training.classes))])
    apart = np.linalg.norm(mean_colours(held_out)[:, None] - centres, axis=2)
    return float(np.mean(apart.argmin(axis=1) == held_out.labels))


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    name: str
    images: int
    classes: int
    epochs: int
    accuracy: float
    by_colour: float
    largest_share: float
    seconds: float


def measure(small: SmallSet, folder: Path, seed: int) -> Result:
    """Train on a set's folder as a person does who gives no setting, and compare."""
    start = time.perf_counter()
    trained = train(folder, seed=seed)
    seconds = time.perf_counter() - start
    if trained.stopped != "finished" or trained.validation_accuracy is None:
        raise KeyboardInterrupt
    chosen = choose_data(folder, None, SMALL.validation)
    if chosen.held_out is None:
        raise DataError(f"{small.name}: no images are held out")
    return Result(
        name=small.name,
        images=len(chosen.training) + len(chosen.held_out),
        classes=len(chosen.training.classes),
        epochs=trained.settings.epochs,
        accuracy=trained.validation_accuracy,
        by_colour=accuracy_by_colour(chosen.training, chosen.held_out),
        largest_share=float(np.bincount(chosen.held_out.labels).max() / len(chosen.held_out)),
        seconds=seconds,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the sets, train and compare."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    names = [small.name for small in SETS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="SET", help="some sets; the others' figures stay"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the images and of the training")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_suffix(".json"), metavar="FILE", help="write all figures there"
    )
    options = parser.parse_args(arguments)
    if any(small.draw in SHOW_PHOTOGRAPHS for small in SETS if small.name in options.only):
        require_scikit_image(parser)
    device = next(info for info in devices() if info.name == str(get_device(default_devices()[0])))
    where = {"device": device.name, "cores": device.cores, "description": device.description}
    found = {result["name"]: result for result in earlier_results(options.json, where)}
    for small in SETS:
        if small.name in options.only:
            with tempfile.TemporaryDirectory() as folder:
                write(small, Path(folder), options.seed)
                found[small.name] = asdict(measure(small, Path(folder), options.seed))
            print(found[small.name])
            sets = [found[name] for name in names if name in found]
            options.json.write_text(json.dumps({**where, "sets": sets}, indent=1) + "\n")


def require_scikit_image(parser: argparse.ArgumentParser) -> None:
    """End the program before it trains for minutes where the photographs are missing."""
    try:
        import skimage.data  # noqa: F401
    except ModuleNotFoundError:
        parser.error("sets with photographs need scikit-image: pip install scikit-image")


def earlier_results(path: Path, where: dict[str, Any]) -> list[dict[str, Any]]:
    """What a file holds that was measured on the same machine; nothing where there is none."""
    if not path.exists():
        return []
    report = json.loads(path.read_text())
    return list(report["sets"]) if {name: report[name] for name in where} == where else []


if __name__ == "__main__":
    main()
