"""The example images and the detector that the library ships."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drfpn.app import SHIPPED_WEIGHTS
from drfpn.app.examples import MAX_EXAMPLES, write_examples
from drfpn.data import open_dataset
from drfpn.evaluation import detect, evaluate_results
from drfpn.training.checkpoint import load_card, load_detector


def test_examples_are_of_the_data_of_the_run_or_else_shapes(tmp_path: Path) -> None:
    card = load_card(SHIPPED_WEIGHTS)
    files = write_examples(card, tmp_path)
    assert len(files) == MAX_EXAMPLES
    expected = open_dataset("shapes", "val").image(2)
    torch.testing.assert_close(torch.from_numpy(np.asarray(Image.open(files[2]))).permute(2, 0, 1), expected)
    without_data = card.model_copy(update={"config": card.config.model_copy(update={"data": str(tmp_path / "gone")})})
    expected = open_dataset("shapes", "test").image(2)
    for other in (without_data, None):
        files = write_examples(other, tmp_path)
        torch.testing.assert_close(torch.from_numpy(np.asarray(Image.open(files[2]))).permute(2, 0, 1), expected)


def test_the_shipped_weights_and_their_card_stay_small() -> None:
    assert SHIPPED_WEIGHTS.stat().st_size + SHIPPED_WEIGHTS.with_suffix(".md").stat().st_size < 25e6


@pytest.mark.slow
def test_the_shipped_detector_is_as_good_as_its_card_says() -> None:
    model, card = load_detector(SHIPPED_WEIGHTS)
    dataset = open_dataset("shapes", "val")
    metrics = evaluate_results(dataset.ground_truth(), detect(model, dataset, category_ids=dataset.category_ids))
    assert metrics.box["AP"] == pytest.approx(card.metrics["AP"], abs=0.005)  # half precision, another machine
    assert "| box AP | 53.0," in SHIPPED_WEIGHTS.with_suffix(".md").read_text(encoding="utf-8")
