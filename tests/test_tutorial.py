"""The notebook runs from top to bottom."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_what_it_says() -> None:
    pytest.importorskip("nbclient", reason="the tutorial needs Jupyter")
    spec = importlib.util.spec_from_file_location("run_tutorial", ROOT / "scripts" / "run_tutorial.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    cells = script.run().cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "neck before: FeaturePyramidNetwork" in text
    assert "neck after:  DRFPN" in text
    assert "C2-C3 mean offset" in text
    assert "star 0.9" in text
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 4
