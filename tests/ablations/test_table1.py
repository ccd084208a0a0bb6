import pytest

from drfpn.ablations.table1 import TABLE, trainable_parameters
from drfpn.detectors import parse_name

BASELINES = [row for row in TABLE if row.method.endswith("*")]
NECKS = {
    "Libra R-CNN": "libra",
    "Faster R-CNN w/ CARAFE": "carafe",
    "Faster R-CNN w/ AugFPN": "augfpn",
    "Faster R-CNN w/ PConv": "pconv",
    "NAS-FPN 7@256": "nas_fpn",
    "Mask R-CNN w/ FPT": "fpt",
}
OURS = [row for row in TABLE if row.method.endswith("DRFPN")]


def test_the_gains_are_those_that_the_paper_prints() -> None:
    """The numbers in brackets, which the table leaves out, follow from its rows."""
    pairs = list(zip(BASELINES, OURS, strict=True))
    box = [1.9, 1.3, 2.2, 1.7, 2.0, 1.7, 1.8, 1.9, 1.9, 1.8, 1.6]
    mask = [1.9, 1.7, 1.8, 1.8, 1.5]
    assert [round(ours.box[0] - row.box[0], 1) for row, ours in pairs] == box
    assert [round(ours.mask[0] - row.mask[0], 1) for row, ours in pairs if row.mask] == mask


def test_each_row_has_coco_s_six_numbers_but_one() -> None:
    assert len(TABLE) == 31
    assert {len(row.box) for row in TABLE if "PConv" not in row.method} == {6}
    assert {len(row.mask) for row in (*BASELINES, *OURS) if "Mask" in row.method} == {6}


def test_a_row_and_its_model_have_the_same_backbone_and_pyramid() -> None:
    for row in TABLE:
        if row.model:
            _, backbone, neck = parse_name(row.model)
            there = row.backbone.lower().replace("-", "_")
            assert backbone == (f"lip_{there}" if "LIP" in row.method else there)
            assert neck == NECKS.get(row.method, "drfpn" if row in OURS else "fpn")


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    return trainable_parameters()


def test_the_counts_are_those_of_table_7(counts) -> None:
    assert counts["faster_rcnn_r50_fpn"] == 41_527_712
    assert counts["faster_rcnn_r50_drfpn"] == 48_382_371


def test_the_counts_of_baselines_are_the_sums_of_their_modules(counts) -> None:
    plain = counts["faster_rcnn_r50_fpn"]
    assert counts["faster_rcnn_r50_libra"] - plain == 263_168
    assert counts["faster_rcnn_r50_pconv"] - plain == 7_080_960
    assert counts["faster_rcnn_r50_augfpn"] - plain == 1_777_411 + 271_620 + 14_306_705


def test_what_is_not_built_has_nothing_done() -> None:
    assert not any(row.done for row in TABLE if not row.model)
