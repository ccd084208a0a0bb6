"""The GPU benchmark runs at toy sizes without a GPU."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parents[1]
SECTIONS = ["necks", "detectors", "deterministic", "full_size", "neck_alone", "training"]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", REPOSITORY / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(benchmark, monkeypatch, capsys) -> Any:
    """Run the program in this process and return what it printed."""

    class Shorter(benchmark.Sizes):
        def __init__(self, tiny: bool) -> None:
            super().__init__(tiny)
            self.seconds = 0.1

    time_calls, profilers = benchmark.milliseconds, iter([benchmark.profile])
    monkeypatch.setattr(benchmark, "Sizes", Shorter)
    monkeypatch.setattr(benchmark, "milliseconds", lambda do, times, warm=0: time_calls(do, 1, warm=0))
    monkeypatch.setattr(benchmark, "profile", lambda do: next(profilers, lambda do: {})(do))  # the first call only
    if not benchmark.GPU:  # where float16 is slow
        monkeypatch.setattr(
            benchmark, "autocast", lambda dtype: torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None)
        )

    def main(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", *arguments])
        benchmark.main()
        printed = capsys.readouterr()
        assert "| drfpn, TF32 |" in printed.err
        return json.loads(printed.out.splitlines()[-1])

    return main


@pytest.mark.slow
def test_every_section_runs_and_agrees_with_the_cpu(run, tmp_path) -> None:
    result = run("--budget", "3000", "--out", str(tmp_path / "results" / "gpu.json"))
    assert [name for name in result if name not in ("machine", "seconds")] == SECTIONS  # none failed
    assert all(row["ok"] for row in result["necks"].values())
    for row in result["detectors"].values():
        assert row["cpu"]["losses"].keys() == row["device"]["losses"].keys()
        assert row["gradient's error"] < 1e-3
    assert not any("failed" in way for row in result["full_size"].values() for way in row)
    assert all(row["same bits"] for row in result["deterministic"].values())
    assert json.loads((tmp_path / "results" / "gpu.json").read_text()) == result


def test_sections_beyond_the_budget_are_skipped(run) -> None:
    result = run("--budget", "10")
    assert list(result) == ["machine", "seconds"]
