"""Whether AlexNet's layers read their matrices by vectors, as a program of the target with a GPU's tiles tells."""

from __future__ import annotations

from pathlib import Path

from cpp_programs import compile_all, link, run_case


def test_alexnets_layers_read_vectors(tmp_path: Path) -> None:
    source = Path(__file__).with_name("vector_access.cpp")
    program = link(compile_all([source], tmp_path, "-DPYALEXNET_TARGET_SIM"), tmp_path / "vector_access")
    result = run_case(program, "")
    assert result.returncode == 0, result.stdout
