"""Training runs of a table: rows times seeds, with equal settings but for the neck."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from drfpn.ablations.tables import NECK_CONFIGS, Table
from drfpn.detectors import parse_name
from drfpn.necks.drfpn.conventions import CONVENTIONS
from drfpn.training.config import RunConfig
from drfpn.training.resolve import resolve
from drfpn.utils.choices import choose

MODELS = {"small": "faster_rcnn_lite0", "paper": "faster_rcnn_r50"}
"""Detector and backbone by scale."""


class PlannedRun(NamedTuple):
    """A training run of a table."""

    row: str
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.row}-{self.config.seed}"


def plan(
    table: Table,
    data: str,
    *,
    scale: str = "small",
    model: str | None = None,
    seeds: Sequence[int] = (0,),
    schedule: str | None = None,
    epochs: int | None = None,
    overrides: Sequence[str] = (),
    convention: str | None = None,
) -> list[PlannedRun]:
    """List the runs of a table, all rows of a seed before the next seed.

    Args:
        table: table with the rows.
        data: folder of the data set, or ``"shapes"``.
        scale: ``"small"`` or ``"paper"``.
        model: detector and backbone, such as ``"retinanet_lite0"``; ``None`` for Faster R-CNN at the scale's size.
        seeds: seeds of the runs of each row.
        schedule: as for ``resolve``.
        epochs: as for ``resolve``.
        overrides: as for ``resolve``, the same for every row.
        convention: DRFPN's ``convention`` in the rows that do not set one; ``None`` for its default.

    Raises:
        UsageError: an unknown model or setting.
    """
    if convention is not None:
        choose("convention", convention, CONVENTIONS)
    base = model or MODELS.get(scale, MODELS["small"])
    runs = []
    for seed in seeds:
        for row in table.rows:
            neck = NECK_CONFIGS[row.key]
            options: dict[str, Any] = dict(neck.options)
            if neck.neck == "drfpn" and convention is not None:
                options = {"convention": convention} | options
            name = f"{base}_{neck.neck}"
            parse_name(name)
            config = resolve(
                name,
                data,
                scale=scale,
                schedule=schedule,
                epochs=epochs,
                overrides=overrides,
                seed=seed,
                neck_options=options,
                detector_options=dict(neck.detector),
            )
            runs.append(PlannedRun(row.key, config))
    return runs
