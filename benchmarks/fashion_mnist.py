"""Judge the run that learned Fashion-MNIST, for the README's table.

    pyalexnet train fashion-mnist --out run
    python benchmarks/fashion_mnist.py run --json benchmarks/fashion_mnist.json

The training command is timed by the run itself: its folder has the seconds of each epoch, validation included. The
errors are those of the 10,000 test images, by one view and by five; mirrored clothes are none that the net has seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pyalexnet import evaluate, load_model
from pyalexnet.backend import devices
from pyalexnet.cli.evaluate import as_record
from pyalexnet.run_record import load_run

VIEWS = (1, 5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    run, model = load_run(options.run), load_model(options.run)
    device = next(info for info in devices() if info.name == model.net.devices[0])
    report = {
        "device": device.name,
        "cores": device.cores,
        "description": device.description,
        "training_images": run.data["training"]["images"],
        "epochs": len(run.history),
        "seconds": sum(record.seconds for record in run.history),
        "images_per_s": run.history[-1].images_per_second,
        "errors": {str(views): as_record(evaluate(model, "fashion-mnist", views=views)) for views in VIEWS},
    }
    for views, errors in report["errors"].items():
        print(f"{views} views: test accuracy {1 - errors['top1_error']:.2%}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
