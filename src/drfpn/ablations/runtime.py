"""What the pyramids of a table cost at the paper's scale; Table 7 and section 4.6 of the paper are such a table."""

from typing import NamedTuple

import torch
from pydantic import BaseModel

from drfpn.ablations.costs import Cost, measure_costs
from drfpn.ablations.plan import plan
from drfpn.ablations.tables import Table


class Printed(NamedTuple):
    """What Table 7 prints."""

    seconds: float
    """Of a training iteration: 24 images on three RTX TITAN."""
    params: float
    """Millions."""
    gflops: int
    """Multiply-adds, as its counter has them, cut to whole numbers."""


PRINTED = {
    "fpn": Printed(1.14, 41.53, 207),
    "srb-crb": Printed(1.37, 47.79, 263),
    "drfpn": Printed(1.49, 48.38, 263),
    "non-local": Printed(1.60, 49.95, 265),
    "dense-aspp": Printed(1.89, 60.05, 275),
}
INFERENCE_MS = {"fpn": 12.2, "drfpn": 12.4}
"""Section 4.6: an image of a shorter side of 800 on one RTX TITAN, milliseconds."""


class Line(BaseModel):
    """A row of a table."""

    key: str
    title: str
    cost: Cost
    paper: dict[str, float]
    """What Table 7 prints; empty for other rows."""


def measure_table(
    table: Table,
    *,
    model: str = "faster_rcnn_r50",
    size: tuple[int, int] = (800, 1280),
    turns: int = 5,
    batch: int = 1,
    device: torch.device | str = "cpu",
) -> list[Line]:
    """Count and time the rows of a table at the paper's scale, with 80 classes.

    Args:
        table: its first row is the baseline.
        model: detector and backbone.
        size: height and width of the image.
        turns: measurements of each row; 0 leaves times out.
        batch: images at once.
        device: where to time.
    """
    # as with pretrained weights, of which nothing but what learns is counted
    settings = ["frozen_stages=1", "norm_eval=true"]
    runs = plan(table, "", scale="paper", model=model, overrides=settings)
    costs = measure_costs(runs, 80, device=torch.device(device), turns=turns, size=size, batch=batch)
    return [
        Line(
            key=row.key,
            title=row.title,
            cost=costs[row.key],
            paper=PRINTED[row.key]._asdict() if row.key in PRINTED else {},
        )
        for row in table.rows
    ]
