"""The model of a step of many ranks, by hand where its answer is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cluster_model

SCRIPT = Path(cluster_model.__file__)
FORWARD, BACKWARD = {"conv1": 1.0, "fc8": 2.0}, {"conv1": 5.0, "fc8": 3.0}
SIZES = {"conv1": 1_000_000, "fc8": 10_000_000}


def network(latency_s: float = 0.0, gb_per_s: float = 10.0) -> cluster_model.Network:
    return cluster_model.Network(latency_s, 1e9 * gb_per_s, np.inf, np.inf)


def test_one_rank_waits_for_nothing() -> None:
    assert cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 1, network()) == (11.5, 0.0)


def test_what_backward_hides_is_not_waited_for() -> None:
    """fc8's 10 MB are there after 6 ms: two ranks send 5 MB twice, by 7 ms; conv1's 1 MB after 11: 0.1 ms more."""
    whole, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 2, network())
    assert waiting == pytest.approx(0.1)
    assert whole == pytest.approx(11.6)


def test_a_slow_network_is_waited_for() -> None:
    """At 1 GB/s fc8 takes from 6 to 16 ms; conv1's first half then, its second after it: 1 ms more."""
    _, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.0, SIZES, 2, network(gb_per_s=1))
    assert waiting == pytest.approx(17 - 11)


def test_latency_counts_by_message() -> None:
    few, many = (
        cluster_model.step_ms(FORWARD, BACKWARD, 0.0, SIZES, ranks, network(latency_s=1e-4, gb_per_s=1e9))[1]
        for ranks in (2, 9)
    )
    assert few == pytest.approx(2 * 0.1)  # conv1's two messages
    assert many == pytest.approx(2 * 0.8)


def test_cores_that_compute_also_send_and_add_up() -> None:
    """Two ranks send 5.5 MB twice, at 2 GB/s 5.5 ms, and add 5.5 MB, at 11 GB/s half a millisecond."""
    shared = cluster_model.Network(0.0, 1e12, np.inf, 11e9, core_bytes_per_s=2e9)
    whole, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 2, shared)
    assert waiting == pytest.approx(6.0)
    assert whole == pytest.approx(11.5 + 6.0)
    assert cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 1, shared) == (11.5, 0.0)
    factors = cluster_model.FactorCosts(bytes=2_000_000, add_ms=0.25)
    _, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 2, shared, factors)
    assert waiting == pytest.approx(1.0 + 0.5 + 0.5 / 11)  # 2 MB of factors, conv1's half twice, and its addition


def test_factors_take_the_place_of_fully_connected_layers_gradients() -> None:
    """fc8's dx is there after 4.5 ms; 2 MB take 2 ms at 1 GB/s, and conv1's 1 MB goes at 9.5 ms: 1 ms is waited for.

    Then come two ranks' products of 1.5 ms each, and an addition of 0.25.
    """
    factors = cluster_model.FactorCosts(bytes=2_000_000, add_ms=0.25)
    whole, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 2, network(gb_per_s=1), factors)
    assert waiting == pytest.approx(1.0)
    assert whole == pytest.approx(9.5 + 1.0 + 2 * 1.5 + 0.25 + 0.5)
    alone = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 1, network(), factors)
    assert alone == (11.5, 0.0)
    _, waiting = cluster_model.step_ms(FORWARD, BACKWARD, 0.5, SIZES, 9, network(gb_per_s=1), factors)
    assert waiting == pytest.approx(4.5 + 8 * 2 + 2 * 8 / 9 - 9.5)  # factors to eight ranks, and conv1 behind them


@pytest.mark.usefixtures("full_size")
def test_factors_of_an_image_are_what_layers_take_in_and_give() -> None:
    assert cluster_model.image_factors_bytes() == 4 * (9216 + 4096 + 4096 + 4096 + 4096 + 1000)
    costs = cluster_model.FactorCosts.of(128, update_ms=1.0)
    assert costs.bytes == 128 * 106_400
    assert costs.add_ms == pytest.approx(0.6 * 58_631_144 / 60_965_224)  # fc6 to fc8's part of the parameters
    costs = cluster_model.FactorCosts.of(128, update_ms=1.0, sum_ms=2.0)
    assert costs.add_ms == pytest.approx(2.0 * 58_631_144 / 60_965_224)


def test_published_runs_are_images_a_second() -> None:
    sun = cluster_model.PUBLISHED[-1]
    assert sun.images_per_s == pytest.approx(95 * 1_281_167 / 90)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    cluster_model.main(["--figure", str(path)])
    drawn = path.read_text()
    assert drawn.startswith("<?xml")
    assert drawn.count("<path") > 30


def test_rows_of_a_table_of_times_belong_to_layers() -> None:
    rows = [
        {"name": "conv1", "direction": "forward", "ms": 1.0},
        {"name": "lrn1", "direction": "forward", "ms": 2.0},
        {"name": "dropout6", "direction": "backward", "ms": 4.0},
        {"name": "update", "direction": "update", "ms": 8.0},
        {"name": "loss", "direction": "backward", "ms": 16.0},
    ]
    forward, backward, rest_ms = cluster_model.times_of(rows)
    assert (forward["conv1"], backward["fc6"], rest_ms) == (3.0, 4.0, 24.0)
    assert sum(forward.values()) + sum(backward.values()) == 7.0


def test_foretells_of_what_was_measured() -> None:
    command = [sys.executable, SCRIPT, "--ranks", "1,8"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert "NVIDIA H100" in finished.stdout
    assert "100%" in finished.stdout
