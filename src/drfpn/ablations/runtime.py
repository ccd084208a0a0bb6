"""Costs of the rows of a table at the paper's scale, beside those of Table 7 and Section 4.6."""

from typing import NamedTuple

import torch
from pydantic import BaseModel

from drfpn.ablations.costs import Cost, measure_costs
from drfpn.ablations.plan import plan
from drfpn.ablations.tables import Table


class PublishedCost(NamedTuple):
    """A row of Table 7 of the paper."""

    seconds: float
    """Time of a training iteration of 24 images on three RTX TITAN."""
    params: float
    """Parameters in millions."""
    gflops: int
    """Multiply-adds in 10^9 as the paper counts them, rounded down."""


PUBLISHED_COSTS = {
    "fpn": PublishedCost(1.14, 41.53, 207),
    "srb-crb": PublishedCost(1.37, 47.79, 263),
    "drfpn": PublishedCost(1.49, 48.38, 263),
    "non-local": PublishedCost(1.60, 49.95, 265),
    "dense-aspp": PublishedCost(1.89, 60.05, 275),
}
PUBLISHED_INFERENCE_MS = {"fpn": 12.2, "drfpn": 12.4}
"""Section 4.6: milliseconds for an image with a shorter side of 800 pixels on one RTX TITAN."""


class RowCost(BaseModel):
    """Measured and published costs of a row."""

    key: str
    title: str
    cost: Cost
    paper: dict[str, float]
    """The row of Table 7 as a dict; empty for rows that it does not have."""


def measure_table(
    table: Table,
    *,
    model: str = "faster_rcnn_r50",
    size: tuple[int, int] = (800, 1280),
    turns: int = 5,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
) -> list[RowCost]:
    """Measure the costs of the rows of a table at the paper's scale, with 80 classes.

    Args:
        table: table whose first row is the baseline.
        model: detector and backbone.
        size: height and width of the image.
        turns: timed turns; 0 for neither time nor memory.
        batch_size: images of a timed batch.
        device: device to time on.
    """
    # frozen as with pretrained weights, since trainable parameters are counted
    settings = ["frozen_stages=1", "norm_eval=true"]
    runs = plan(table, "", scale="paper", model=model, overrides=settings)
    costs = measure_costs(runs, 80, device=torch.device(device), turns=turns, size=size, batch_size=batch_size)
    return [
        RowCost(
            key=row.key,
            title=row.title,
            cost=costs[row.key],
            paper=PUBLISHED_COSTS[row.key]._asdict() if row.key in PUBLISHED_COSTS else {},
        )
        for row in table.rows
    ]
