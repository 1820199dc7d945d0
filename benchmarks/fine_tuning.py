"""Learn few pictures a class from scratch and from a net that learned other classes, for the table of docs/training.md.

    python benchmarks/fine_tuning.py

A net learns some classes of a data set. Then others are to be told apart, of which there are few pictures: from scratch
with no option given, with --init, and with --init and the convolutions frozen. The few are drawn several times; all
ways learn the same draws, and many other pictures judge. Of the emoji, the few are of the part that the set holds out
and the others of its training part, so that variants of one picture are all on one side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet import evaluate, train
from pyalexnet.data import Dataset, Digits
from pyalexnet.data.dataset import image_names
from pyalexnet.data.emoji import Emoji
from pyalexnet.data.subset import Subset, sample, split
from pyalexnet.device.backend import devices, get_device
from pyalexnet.net.classifier import default_devices
from pyalexnet.training.recipe import DIGITS
from pyalexnet.training.record import load_run

WAYS: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "--init": {},
    "--init, convolutions frozen": {"lr_layers": {"conv1-conv5": 0, "fc8": 10}},
}


class Classes:
    """The pictures of some classes of data sets that have the same ones."""

    decodes = True  # see pyalexnet.data.kept

    def __init__(self, classes: Sequence[str], *datasets: Dataset) -> None:
        """Take those of ``classes``, in this order."""
        self.classes = tuple(classes)
        self._places = [
            (dataset, index)
            for dataset in datasets
            for index, label in enumerate(dataset.labels)
            if dataset.classes[label] in classes
        ]
        names = [dataset.classes[dataset.labels[index]] for dataset, index in self._places]
        self.labels = np.array([self.classes.index(name) for name in names], np.int32)
        names_of = {id(dataset): image_names(dataset) for dataset in datasets}
        self.names = [names_of[id(dataset)][index] for dataset, index in self._places]

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """See :meth:`pyalexnet.data.Dataset.batch`."""
        places = [self._places[index] for index in indices]
        return np.concatenate([dataset.batch(np.array([index]))[0] for dataset, index in places]), self.labels[indices]


@dataclass(frozen=True)
class Transfer:
    """What is learned first, and what then.

    Attributes:
        before: what the net learns first.
        pictures: those of which few are drawn, and those that judge.
        a_class: how many of each class are drawn.
        settings: of all runs, where the recipe's do not suit the pictures.
        settings_before: of the first one besides.
    """

    before: Callable[[], Dataset]
    pictures: Callable[[], tuple[Dataset, Dataset]]
    a_class: int
    settings: dict[str, Any] = field(default_factory=dict)
    settings_before: dict[str, Any] = field(default_factory=dict)


EMOJI_BEFORE = ("Smileys & Emotion", "People & Body", "Activities", "Objects", "Symbols", "Flags")
EMOJI = ("Animals & Nature", "Food & Drink", "Travel & Places")

TRANSFERS = {
    "digits": Transfer(
        before=lambda: Classes("01234", Digits()),
        pictures=lambda: split(Classes("56789", Digits()), 0.8),
        a_class=2,
        settings={"reflect": DIGITS.reflect},
        settings_before={"epochs": 4},
    ),
    "emoji": Transfer(
        before=lambda: Classes(EMOJI_BEFORE, Emoji("train"), Emoji("test")),
        pictures=lambda: (Classes(EMOJI, Emoji("test")), Classes(EMOJI, Emoji("train"))),
        a_class=10,
    ),
}


def trained(transfer: Transfer, way: str, draw: int, learned: Path) -> dict[str, Any]:
    """Learn a draw of pictures by one way, and what came of it."""
    pool, others = transfer.pictures()
    few = Subset(pool, sample(pool, transfer.a_class * len(pool.classes), seed=draw))
    init = {} if way == "from scratch" else {"init": learned}
    start = time.perf_counter()
    result = train(few, validation=0, seed=draw, progress=False, **transfer.settings, **init, **WAYS[way])
    seconds = time.perf_counter() - start
    if result.stopped != "finished":
        raise KeyboardInterrupt
    accuracy = evaluate(result.model, others).accuracy
    return {"way": way, "draw": draw, "steps": result.model.net.step, "seconds": seconds, "accuracy": accuracy}


def about(name: str, transfer: Transfer, learned: Path) -> dict[str, Any]:
    """What a transfer is, without its results."""
    before, (_, others) = load_run(learned), transfer.pictures()
    return {
        "name": name,
        "before": {
            "classes": len(before.data["training"]["classes"]),
            "images": before.data["training"]["images"],
            "epochs": len(before.history),
            "accuracy": before.history[-1].validation_accuracy,
        },
        "classes": len(others.classes),
        "a_class": transfer.a_class,
        "judged_by": len(others),
        "largest_share": float(np.bincount(others.labels).max() / len(others)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn what comes before, then the few by all ways, and write."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", choices=TRANSFERS, help="one data set; the other's figures stay")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="how often pictures are drawn")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="the runs that learn what comes before; made where there are none"
    )
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_suffix(".json"), metavar="FILE", help="write all figures there"
    )
    options = parser.parse_args(arguments)
    device = next(info for info in devices() if info.name == str(get_device(default_devices()[0])))
    where = {"device": device.name, "cores": device.cores, "description": device.description}
    found = {each["name"]: each for each in earlier_results(options.json, where)}
    with tempfile.TemporaryDirectory() as folder:
        for name, transfer in TRANSFERS.items():
            if options.only not in (None, name):
                continue
            learned = (options.runs or Path(folder)) / name
            train(transfer.before(), out=learned, resume=True, **transfer.settings, **transfer.settings_before)
            results: list[dict[str, Any]] = []
            for draw in range(options.draws):
                results += [trained(transfer, way, draw, learned) for way in WAYS]
                print(name, *results[-len(WAYS) :], sep="\n", flush=True)
                found[name] = {**about(name, transfer, learned), "results": results}
                transfers = [found[each] for each in TRANSFERS if each in found]
                options.json.write_text(json.dumps({**where, "transfers": transfers}, indent=1) + "\n")


def earlier_results(path: Path, where: dict[str, Any]) -> list[dict[str, Any]]:
    """What a file holds that was measured on the same machine; nothing where there is none."""
    if not path.exists():
        return []
    report = json.loads(path.read_text())
    return list(report["transfers"]) if {name: report[name] for name in where} == where else []


if __name__ == "__main__":
    main()
