"""Judge a run that learned a data set by its name, for the tables of README.md and docs/results.md.

    pyalexnet train emoji --out run
    python benchmarks/named_sets.py run --json benchmarks/emoji.json

The training command is timed by the run itself: its folder has the seconds of each epoch, validation included. The
errors are those of the images that the set itself holds out, by one view and by several: ten as in the paper, or five
where the run saw no mirror images. Of conv1's filters it tells how colourful each tower's are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pyalexnet import evaluate, load_model
from pyalexnet.cli.evaluate import as_record
from pyalexnet.device.backend import devices
from pyalexnet.training.record import load_run


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    from pyalexnet.study.figures.filters import colour_by_tower  # here, since it needs Matplotlib

    run, model = load_run(options.run), load_model(options.run)
    device = next(info for info in devices() if info.name == model.net.devices[0])
    several = 10 if run.settings.reflect else 5
    report = {
        "data": run.data["source"],
        "device": device.name,
        "cores": device.cores,
        "description": device.description,
        "training_images": run.data["training"]["images"],
        "epochs": len(run.history),
        "planned_epochs": run.settings.epochs,
        "seconds": sum(record.seconds for record in run.history),
        "images_per_s": run.history[-1].images_per_second,
        "errors": {str(views): as_record(evaluate(model, run.data["source"], views=views)) for views in (1, several)},
        "filters": [
            {
                "tower": tower.tower,
                "filters": len(tower.values),
                "median": tower.median,
                "learned": tower.learned_count,
                "learned_median": tower.learned_median if tower.learned_count else None,
            }
            for tower in colour_by_tower(model)
        ],
    }
    for views, errors in report["errors"].items():
        print(f"views {views}: test accuracy {1 - errors['top1_error']:.2%}")
    for tower in report["filters"]:
        print(f"tower {tower['tower']}: median colour index {tower['median']:.2f}, {tower['learned']} have learned")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
