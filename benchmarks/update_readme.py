"""Rewrite the README's table of layer times from what layer_timing.py measured.

python benchmarks/layer_timing.py --batch 128 --compare torch --json benchmarks/layer_timing.json
python benchmarks/update_readme.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
REPORT = HERE / "layer_timing.json"
BEGIN, END = "<!-- layer times: benchmarks/update_readme.py -->", "<!-- end of layer times -->"


def main() -> None:
    """Replace what stands between the two markers."""
    readme = README.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    if not re.search(pattern, readme, flags=re.DOTALL):
        raise SystemExit(f"{README} has no lines {BEGIN!r} and {END!r}")
    block = f"{BEGIN}\n{markdown(json.loads(REPORT.read_text()))}\n{END}"
    README.write_text(re.sub(pattern, lambda _: block, readme, flags=re.DOTALL), encoding="utf-8")


def markdown(report: dict[str, Any]) -> str:
    """The table and the sentence above it."""
    compared = report["step_ms_torch"] is not None
    rows = [["layer", "direction", "ms", "GFLOP/s", "of peak", *(["PyTorch ms", "ratio"] if compared else [])]]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    for layer in report["layers"]:
        row = [
            layer["name"],
            layer["direction"],
            f"{layer['ms']:.1f}",
            f"{layer['gflops']:.0f}",
            f"{layer['peak_fraction']:.0%}",
        ]
        if compared:
            torch_ms = layer["ms_torch"]
            row += [f"{torch_ms:.1f}", f"{torch_ms / layer['ms']:.2f}×"] if torch_ms else ["", ""]
        rows.append(row)
    total = ["**whole step**", "", f"**{report['step_ms']:.0f}**", "", ""]
    if compared:
        total += [f"**{report['step_ms_torch']:.0f}**", f"**{report['step_ms_torch'] / report['step_ms']:.2f}×**"]
    rows.append(total)
    images_per_s = 1e3 * report["batch"] / report["step_ms"]
    sentence = (
        f"Batch {report['batch']} on `{report['device']}` ({report['cores']} cores of {report['description']}, "
        f"{report['peak_gflops']:.0f} GFLOP/s measured multiply-add peak): {images_per_s:.0f} images/s. Medians of "
        f"{report['repeats']}; the middle half of the steps spans {report['step_spread_ms']:.0f} ms."
    )
    return "\n".join([sentence, "", *("| " + " | ".join(row) + " |" for row in rows)])


if __name__ == "__main__":
    main()
