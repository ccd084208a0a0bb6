"""Which runs a table needs: rows times seeds, everything but the pyramid equal."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from drfpn.ablations.tables import NECK_CONFIGS, Table
from drfpn.detectors import parse_name
from drfpn.detectors.options import choose
from drfpn.necks.drfpn.neck import CONVENTIONS
from drfpn.training.config import RunConfig, resolve

MODELS = {"small": "faster_rcnn_lite0", "paper": "faster_rcnn_r50"}
"""DetectorSpec and backbone of a scale."""


class Planned(NamedTuple):
    """A run to be made."""

    row: str
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of its folder."""
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
) -> list[Planned]:
    """List the runs of a table, all rows of a seed before the next seed.

    Args:
        table: its rows.
        data: name of the data set.
        scale: ``"small"`` or ``"paper"``.
        model: detector and backbone, such as ``"retinanet_lite0"``; ``None`` for Faster R-CNN at the scale's size.
        seeds: of the runs of each row.
        schedule: as of ``resolve``.
        epochs: as of ``resolve``.
        overrides: as of ``resolve``, the same for every row.
        convention: of DRFPN in the rows that do not say one; ``None`` for its default.

    Raises:
        UserError: an unknown model or setting.
    """
    if convention is not None:
        choose("convention", convention, CONVENTIONS)
    base = model or MODELS.get(scale, MODELS["small"])
    runs = []
    for seed in seeds:
        for row in table.rows:
            pyramid = NECK_CONFIGS[row.key]
            options: dict[str, Any] = dict(pyramid.options)
            if pyramid.neck == "drfpn" and convention is not None:
                options = {"convention": convention} | options
            name = f"{base}_{pyramid.neck}"
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
                detector_options=dict(pyramid.detector),
            )
            runs.append(Planned(row.key, config))
    return runs
