"""Table 7 and section 4.6 of the paper: what DRFPN and its context modules cost beside FPN."""

from typing import Any, NamedTuple

import torch
from pydantic import BaseModel

from drfpn.engine.config import resolve
from drfpn.experiments.costs import Cost, measure_costs
from drfpn.experiments.plan import Planned
from drfpn.experiments.tables import PYRAMIDS, TABLES

TABLE = TABLES["table7"]


class Printed(NamedTuple):
    """What the paper prints."""

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
    """A row of Table 7."""

    key: str
    title: str
    cost: Cost
    paper: dict[str, float]


def table7(
    *,
    model: str = "faster_rcnn_r50",
    size: tuple[int, int] = (800, 1280),
    turns: int = 5,
    device: torch.device | str = "cpu",
) -> list[Line]:
    """Count and time the rows of Table 7: 80 classes, the release's convention, as in the paper.

    Args:
        model: detector and backbone.
        size: height and width of the image.
        turns: measurements of each row; 0 leaves times out.
        device: where to time.
    """
    runs = []
    for row in TABLE.rows:
        pyramid = PYRAMIDS[row.key]
        options: dict[str, Any] = dict(pyramid.options)
        if pyramid.neck == "drfpn":
            options["convention"] = "release"
        name = f"{model}_{pyramid.neck}"
        config = resolve(name, "", scale="paper", neck_options=options, frozen_stages=1, norm_eval=True)
        runs.append(Planned(row.key, config))
    costs = measure_costs(runs, 80, device=torch.device(device), turns=turns, size=size)
    return [
        Line(key=row.key, title=row.title, cost=costs[row.key], paper=PRINTED[row.key]._asdict()) for row in TABLE.rows
    ]
