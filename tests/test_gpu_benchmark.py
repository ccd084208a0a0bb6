"""The GPU benchmark runs at toy sizes without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SECTIONS = ["necks", "detectors", "deterministic", "full_size", "neck_alone", "training"]


def run(*arguments: str) -> dict:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu.py"), "--tiny", *arguments]
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
    assert "| drfpn, TF32 |" in process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_section_runs_and_agrees_with_the_cpu(tmp_path) -> None:
    result = run("--budget", "3000", "--out", str(tmp_path / "results" / "gpu.json"))
    assert [name for name in result if name not in ("machine", "seconds")] == SECTIONS  # none failed
    assert all(row["ok"] for row in result["necks"].values())
    for row in result["detectors"].values():
        assert row["cpu"]["losses"].keys() == row["device"]["losses"].keys()
        assert row["gradient's error"] < 1e-3
    assert not any("failed" in way for row in result["full_size"].values() for way in row)
    assert all(row["same bits"] for row in result["deterministic"].values())
    assert json.loads((tmp_path / "results" / "gpu.json").read_text()) == result


@pytest.mark.slow
def test_sections_beyond_the_budget_are_skipped() -> None:
    result = run("--budget", "10")
    assert list(result) == ["machine", "seconds"]
