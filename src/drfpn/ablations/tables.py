"""Tables 2 to 7 of the paper (COCO val2017, Faster R-CNN with ResNet-50) and others, each row as a neck with options.

``docs/reproduction.md`` lists the choices for rows that the paper does not specify.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from drfpn.utils.errors import UsageError, did_you_mean

Numbers = tuple[float, ...]
"""AP, AP50, AP75, AP of small, medium and large objects, in %."""


class NeckConfig(NamedTuple):
    """A neck by name, with its options."""

    neck: str
    options: Mapping[str, Any]
    detector: Mapping[str, Any] = {}
    """Options of the detector; nothing else differs between the rows of a table."""


class Row(NamedTuple):
    """A row of a table."""

    key: str
    """A key of ``NECK_CONFIGS``; rows of several tables with the same key are trained once."""
    title: str
    """Name in the paper."""
    paper: Numbers = ()
    """Published metrics, if any."""


class Table(NamedTuple):
    """A table, whose first row is the baseline of the others."""

    title: str
    rows: Sequence[Row]


def _drfpn(**options: Any) -> NeckConfig:
    return NeckConfig("drfpn", options)


PAPER_NECKS: dict[str, NeckConfig] = {
    "fpn": NeckConfig("fpn", {}),
    "pafpn": NeckConfig("pafpn", {}),
    "drfpn": _drfpn(),
    "drfpn-release": _drfpn(convention="release"),
    "srb": _drfpn(bottom_up=None, context=None),
    "crb": _drfpn(top_down="nearest", context=None),
    "ppm": _drfpn(top_down="nearest", bottom_up=None),
    "srb-crb": _drfpn(context=None),
    "srb-ppm": _drfpn(bottom_up=None),
    "crb-ppm": _drfpn(top_down="nearest"),
    "bu-ppm": _drfpn(top_down="nearest", bottom_up="stride"),
    "td-srb-crb": _drfpn(top_down="crb_srb", bottom_up=None, context=None),
    "td-srb-crb-ppm": _drfpn(top_down="crb_srb", bottom_up=None),
    "td-crb-bu-srb": _drfpn(top_down="crb", bottom_up="srb", context=None),
    "td-crb-bu-srb-ppm": _drfpn(top_down="crb", bottom_up="srb"),
    "fpn-dcn": NeckConfig("fpn_dcn", {}),
    "spo": _drfpn(top_down="srb_offset"),
    "gir": _drfpn(top_down="srb_weight"),
    "srb-from-fine": _drfpn(top_down="srb_from_fine"),
    "srb-from-coarse": _drfpn(top_down="srb_from_coarse"),
    "srb-from-sum": _drfpn(top_down="srb_from_sum"),
    "crb-from-coarse": _drfpn(bottom_up="crb_from_coarse"),
    "crb-from-sum": _drfpn(bottom_up="crb_from_sum"),
    "crb-from-both": _drfpn(bottom_up="crb_from_both"),
    "non-local": _drfpn(context="non_local"),
    "dense-aspp": _drfpn(context="dense_aspp"),
}
"""Necks of the tables of the paper."""

BASELINE_NECKS: dict[str, NeckConfig] = {
    "panet": NeckConfig("panet", {}),
    "libra": NeckConfig("libra", {}),
    "libra-method": NeckConfig("libra", {}, {"box_loss": "balanced_l1", "sampler": "iou_balanced"}),
    "carafe": NeckConfig("carafe", {}),
    "dysample": NeckConfig("dysample", {}),
    "freqfusion": NeckConfig("freqfusion", {}),
    "fapn": NeckConfig("fapn", {}),
    "augfpn": NeckConfig("augfpn", {}),
    "augfpn-pyramid": NeckConfig("augfpn", {}, {"roi_pool": "level", "consistent_supervision": 0.0}),
    "pconv": NeckConfig("pconv", {}),
    "afpn": NeckConfig("afpn", {}),
    "bifpn": NeckConfig("bifpn", {}),
    "nas-fpn": NeckConfig("nas_fpn", {}),
    "fpt": NeckConfig("fpt", {}),
}
"""Necks of other methods; Libra R-CNN and AugFPN also without what they change in the detector."""

CENSUS_NECKS: dict[str, NeckConfig] = {
    "drfpn-paper": _drfpn(convention="paper"),
    "fpn-scale": NeckConfig("fpn_scale", {}),
    "fapn-still": NeckConfig("fapn", {"offsets": False}),
    "refined": NeckConfig("refined", {}),
}
"""DRFPN with the paper's equations, and necks with a single module of DRFPN or FaPN."""

NECK_CONFIGS = PAPER_NECKS | BASELINE_NECKS | CENSUS_NECKS
"""Necks of all tables."""

# rows of several tables
_FPN = (37.2, 58.1, 40.0, 21.2, 40.9, 48.1)
_PPM = (37.8, 59.2, 41.2, 22.2, 41.3, 49.1)
_WITHOUT_SRB = (38.4, 59.6, 41.5, 23.1, 42.2, 49.4)
_WITHOUT_CRB = (38.3, 59.7, 41.2, 22.1, 42.1, 49.7)
_DRFPN = (39.1, 60.3, 42.5, 22.9, 43.1, 50.7)

TABLES: dict[str, Table] = {
    "table2": Table(
        "Table 2: performance of each module",
        (
            Row("fpn", "baseline", _FPN),
            Row("srb", "SRB", (37.8, 58.6, 41.0, 22.6, 41.5, 49.3)),
            Row("crb", "CRB", (38.0, 59.7, 41.0, 22.6, 41.8, 49.4)),
            Row("ppm", "PPM", _PPM),
            Row("srb-crb", "SRB + CRB", (38.3, 59.3, 41.5, 21.5, 41.7, 50.0)),
            Row("srb-ppm", "SRB + PPM", _WITHOUT_CRB),
            Row("crb-ppm", "CRB + PPM", _WITHOUT_SRB),
            Row("drfpn", "SRB + CRB + PPM", _DRFPN),
        ),
    ),
    "table3": Table(
        "Table 3: network design",
        (
            Row("fpn", "TD", _FPN),
            Row("pafpn", "TD + BU", (37.3, 58.6, 40.8, 21.4, 41.0, 48.6)),
            Row("ppm", "TD + PPM", _PPM),
            Row("bu-ppm", "TD + BU + PPM", (38.2, 59.8, 41.2, 22.0, 41.9, 49.9)),
            Row("td-srb-crb", "TD[SRB+CRB]", (37.7, 59.3, 40.8, 21.6, 41.8, 48.1)),
            Row("td-srb-crb-ppm", "TD[SRB+CRB] + PPM", (38.1, 59.4, 41.4, 22.4, 41.8, 48.6)),
            Row("td-crb-bu-srb", "TD[CRB] + BU[SRB]", (38.2, 59.1, 41.2, 22.0, 41.9, 50.2)),
            Row("srb-crb", "TD[SRB] + BU[CRB]", (38.3, 59.3, 41.5, 22.0, 41.7, 50.0)),
            Row("td-crb-bu-srb-ppm", "TD[CRB] + BU[SRB] + PPM", (38.9, 59.9, 42.2, 22.1, 42.4, 51.4)),
            Row("drfpn", "TD[SRB] + BU[CRB] + PPM", _DRFPN),
        ),
    ),
    "table4": Table(
        "Table 4: spatial refinement block",
        (
            Row("fpn", "FPN", _FPN),
            Row("fpn-dcn", "FPN w/ DCN", (38.2, 59.2, 41.6, 22.4, 41.8, 48.5)),
            Row("crb-ppm", "DRFPN w/o SRB", _WITHOUT_SRB),
            Row("spo", "SPO", (38.7, 59.8, 42.3, 22.7, 42.3, 50.1)),
            Row("gir", "GIR", (38.6, 59.7, 42.2, 23.0, 42.2, 49.7)),
            Row("drfpn", "SPO + GIR", _DRFPN),
        ),
    ),
    "table5": Table(
        "Table 5: what guides SRB (F_l: the finer map, F_h: the coarser)",
        (
            Row("fpn", "FPN", _FPN),
            Row("crb-ppm", "DRFPN w/o SRB", _WITHOUT_SRB),
            Row("srb-from-fine", "F_l", (38.4, 59.8, 41.9, 22.3, 42.0, 49.9)),
            Row("srb-from-coarse", "F_h", (38.3, 59.8, 41.5, 22.3, 42.7, 49.4)),
            Row("srb-from-sum", "add(F_l, F_h)", (38.9, 60.3, 42.4, 23.1, 43.0, 50.1)),
            Row("drfpn", "cat(F_l, F_h)", _DRFPN),
        ),
    ),
    "table6": Table(
        "Table 6: what gates CRB (F_l: the finer map, F_h: the coarser)",
        (
            Row("fpn", "FPN", _FPN),
            Row("srb-ppm", "DRFPN w/o CRB", _WITHOUT_CRB),
            Row("drfpn", "F_l", _DRFPN),
            Row("crb-from-coarse", "F_h", (38.4, 59.9, 41.3, 22.1, 42.1, 49.9)),
            Row("crb-from-sum", "add(F_l, F_h)", (38.9, 60.1, 42.2, 22.2, 42.9, 50.6)),
            Row("crb-from-both", "cat(F_l, F_h)", (38.9, 60.3, 42.4, 23.1, 43.0, 50.1)),
        ),
    ),
    "table7": Table(
        "Table 7: context module",
        (
            Row("fpn", "FPN", _FPN),
            Row("srb-crb", "DRFPN w/o PPM", (38.3, -1, -1, 21.5, 41.7, 50.0)),
            Row("drfpn", "+PPM", (39.1, -1, -1, 22.9, 43.1, 50.7)),
            Row("non-local", "+Non-Local", (38.9, -1, -1, 23.2, 42.4, 50.3)),
            Row("dense-aspp", "+DenseASPP", (39.0, -1, -1, 23.2, 42.3, 50.1)),
        ),
    ),
    "pyramids": Table(
        "Pyramids",
        (Row("fpn", "FPN"), Row("pafpn", "PAFPN"), Row("drfpn", "DRFPN"), Row("drfpn-release", "DRFPN (release)")),
    ),
    "census": Table(
        "Census: DRFPN's conventions, and necks with a single module of DRFPN or FaPN",
        (
            Row("fpn", "FPN"),
            Row("pafpn", "PAFPN"),
            Row("drfpn", "DRFPN"),
            Row("drfpn-paper", "DRFPN (paper)"),
            Row("drfpn-release", "DRFPN (release)"),
            Row("fpn-scale", "FPN, learned scale"),
            Row("fapn", "FaPN"),
            Row("fapn-still", "FaPN without offsets"),
            Row("refined", "Refined coarse map"),
        ),
    ),
    "baselines": Table(
        "Baselines: necks of other methods",
        (
            Row("fpn", "FPN"),
            Row("drfpn", "DRFPN"),
            Row("pafpn", "PAFPN"),
            Row("panet", "PANet"),
            Row("fpn-dcn", "FPN w/ DCN"),
            Row("libra", "Libra, neck only"),
            Row("libra-method", "Libra"),
            Row("carafe", "CARAFE"),
            Row("dysample", "DySample"),
            Row("freqfusion", "FreqFusion"),
            Row("fapn", "FaPN"),
            Row("augfpn-pyramid", "AugFPN, neck only"),
            Row("augfpn", "AugFPN"),
            Row("pconv", "PConv"),
            Row("afpn", "AFPN"),
            Row("bifpn", "BiFPN"),
            Row("nas-fpn", "NAS-FPN"),
            Row("fpt", "FPT"),
        ),
    ),
}
"""Tables by name; ``pyramids``, ``census`` and ``baselines`` are not in the paper."""


def find_table(name: str) -> Table:
    """Return a table by name.

    Args:
        name: key of ``TABLES``, or the number of one of the paper.

    Raises:
        UsageError: an unknown name; the message suggests the closest one.
    """
    key = f"table{name}" if name.isdigit() else name
    if key not in TABLES:
        raise UsageError(f"There is no table '{name}': choose {', '.join(TABLES)}.{did_you_mean(key, TABLES)}")
    return TABLES[key]


def choose_rows(table: Table, keys: Sequence[str]) -> Table:
    """Select rows of a table.

    Args:
        table: table to select from.
        keys: keys of the rows; empty for all.

    Returns:
        The table with its first row and the selected ones.

    Raises:
        UsageError: an unknown key; the message suggests the closest one.
    """
    known = [row.key for row in table.rows]
    for key in keys:
        if key not in known:
            message = f"{table.title.partition(':')[0]} has no row '{key}': choose among {', '.join(known)}."
            raise UsageError(message + did_you_mean(key, known))
    return table._replace(rows=[row for i, row in enumerate(table.rows) if not keys or i == 0 or row.key in keys])


def module_pairs(table: Table) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of rows that differ in one module alone.

    The modules of a row are read from its title, such as ``SRB + CRB``. Modules with a single pair are left out, since
    the table itself shows their difference.

    Args:
        table: table whose titles list modules.

    Returns:
        (key of the row with the module, key of the row without it) of each pair, by module.
    """
    modules = {row.key: frozenset(row.title.split(" + ")) - {"baseline"} for row in table.rows}
    pairs: dict[str, list[tuple[str, str]]] = {}
    for key, own in modules.items():
        for other, fewer in modules.items():
            if fewer < own and len(own) == len(fewer) + 1:
                (module,) = own - fewer
                pairs.setdefault(module, []).append((key, other))
    return {module: keys for module, keys in pairs.items() if len(keys) > 1}
