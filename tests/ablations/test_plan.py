"""Planned runs of a table."""

import pytest
import torch

from drfpn.ablations.plan import plan
from drfpn.ablations.runner import assign_devices
from drfpn.ablations.tables import TABLES
from drfpn.utils.errors import UserError


def test_rows_differ_in_the_neck_alone_and_are_ordered_by_seed() -> None:
    runs = plan(TABLES["table4"], "shapes", seeds=range(2), epochs=3, overrides=["base_lr=0.04"])
    assert [run.name for run in runs][:7] == ["fpn-0", "fpn-dcn-0", "crb-ppm-0", "spo-0", "gir-0", "drfpn-0", "fpn-1"]
    models = {run.row: run.config.model for run in runs}
    assert models["fpn-dcn"] == "faster_rcnn_lite0_fpn_dcn"
    assert runs[3].config.neck_options == {"convention": "bounded", "top_down": "srb_offset"}
    first = runs[0].config
    for run in runs:
        differs = set(first.changed(run.config)) - {"seed"}
        assert differs <= {"model", "neck_options"}
        assert (run.config.base_lr, run.config.epochs) == (0.04, 3)


def test_a_convention_applies_to_every_drfpn_that_does_not_set_one() -> None:
    options = {run.row: run.config.neck_options for run in plan(TABLES["pyramids"], "shapes", convention="paper")}
    assert options["fpn"] == options["pafpn"] == {}
    assert options["drfpn"] == {"convention": "paper"}
    assert options["drfpn-release"] == {"convention": "release"}
    with pytest.raises(UserError, match="`convention` must be 'bounded', 'paper' or 'release', not 'papr'"):
        plan(TABLES["pyramids"], "shapes", convention="papr")


def test_the_options_of_every_row_survive_yaml() -> None:
    """None must stay None."""
    import yaml

    for name in TABLES:
        for run in plan(TABLES[name], "shapes"):
            assert yaml.safe_load(run.config.to_yaml())["neck_options"] == dict(run.config.neck_options)


def test_the_paper_s_scale_takes_its_schedule_and_another_detector_by_name() -> None:
    runs = plan(TABLES["table2"], "coco", scale="paper", schedule="1x")
    assert runs[0].config.model == "faster_rcnn_r50_fpn"
    assert (runs[0].config.width, runs[0].config.milestones) == (256, [8, 11])
    assert plan(TABLES["table2"], "shapes", model="retinanet_lite0")[1].config.model == "retinanet_lite0_drfpn"
    with pytest.raises(UserError, match="Unknown model 'retinanett_lite0_fpn'"):
        plan(TABLES["table2"], "shapes", model="retinanett_lite0")


def test_runs_are_assigned_to_the_devices_and_divide_the_cpu_cores(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert assign_devices("auto", None) == (["cpu"], None)
    assert assign_devices("cpu", 2) == (["cpu", "cpu"], 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert assign_devices("auto", None) == (["cuda:0", "cuda:1"], None)
    assert assign_devices("auto", 3)[0] == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert assign_devices("cpu", 2)[1] is None


def test_detector_options_of_a_method_are_in_its_row_and_the_rest_is_equal() -> None:
    runs = {run.row: run.config for run in plan(TABLES["baselines"], "shapes")}
    fpn = runs["fpn"].detector_options
    assert runs["libra"].detector_options == fpn
    assert runs["libra-method"].detector_options == {**fpn, "box_loss": "balanced_l1", "sampler": "iou_balanced"}
    for config in runs.values():
        assert set(runs["fpn"].changed(config)) <= {"model", "neck_options", "detector_options"}
