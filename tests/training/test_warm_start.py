"""A run starts from the weights of another one."""

import logging
from pathlib import Path

import pytest
import torch

from drfpn.data import ShapesDataset
from drfpn.necks import DRFPN
from drfpn.training import resolve
from drfpn.training.checkpoint import Card, build, load_detector, save_detector
from drfpn.training.resolve import read_config
from drfpn.training.setup import build_run
from drfpn.training.source_run import is_run
from drfpn.training.trainer import fit
from drfpn.training.warm_start import load_source_weights
from drfpn.utils.errors import UserError

CLASSES = ("circle", "square", "triangle")


def save(folder: Path, config, classes=CLASSES) -> Path:
    """Leave weights as a run does, of a detector that is not trained."""
    card = Card(config=config, classes=classes, category_ids=tuple(range(1, len(classes) + 1)))
    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    save_detector(folder / "best.safetensors", build(card), card)
    return folder


def card_of(config, classes=CLASSES) -> Card:
    return Card(config=config, classes=classes, category_ids=tuple(range(1, len(classes) + 1)))


def start_from_fpn(tmp_path: Path, tiny_config, model: str, *overrides: str, classes=CLASSES):
    """Return the detector that starts from the weights of an FPN run, that of the run, and the message."""
    kind = model.rsplit("_", 1)[0]
    run = str(save(tmp_path / "fpn", tiny_config("width=64", model=f"{kind}_fpn")))
    config = tiny_config("width=64", f"weights={run}", *overrides, model=model)
    new = build(card_of(config, classes))
    message = load_source_weights(new, card_of(config, classes), run)
    return new.eval(), load_detector(run)[0], message


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn", "retinanet", "fcos"])
def test_a_drfpn_detects_the_same_as_the_fpn_run(tmp_path, tiny_config, kind) -> None:
    low = (
        "detector_options.score_thresh=0.0"
        if kind in ("retinanet", "fcos")
        else "detector_options.box_score_thresh=0.0"
    )
    run = str(save(tmp_path / "fpn", tiny_config(low, "width=64", model=f"{kind}_lite0_fpn")))
    config = tiny_config(f"weights={run}", low, "width=64", model=f"{kind}_lite0_drfpn")
    new = build(card_of(config)).to(memory_format=torch.channels_last)
    message = load_source_weights(new, card_of(config), run)
    assert "DRFPN starts from the weights of FPN" in message
    old, _ = load_detector(run)
    image = [torch.rand(3, 70, 90)]
    with torch.no_grad():
        (ours,), (theirs,) = new.eval()(image), old(image)
    assert len(theirs["boxes"]) > 0
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_a_run_logs_its_source_and_resumes_without_it(tmp_path, tiny_config, caplog) -> None:
    data = ShapesDataset("train", 4)
    run = save(tmp_path / "fpn", tiny_config(model="faster_rcnn_lite0_fpn"), tuple(data.classes))
    config = tiny_config(f"weights={run}")
    caplog.set_level(logging.INFO, "drfpn")
    fit(config, data, ShapesDataset("val", 2), tmp_path / "drfpn")
    assert "DRFPN starts from the weights of FPN" in caplog.text
    (run / "best.safetensors").unlink()
    loaded, card = load_detector(tmp_path / "drfpn")
    assert isinstance(loaded.backbone.neck, DRFPN)
    build_run(card, data, tmp_path / "drfpn", torch.device("cpu"), None, resume=True)


def test_another_convention_says_what_is_lost(tmp_path, tiny_config) -> None:
    *_, message = start_from_fpn(tmp_path, tiny_config, "faster_rcnn_lite0_drfpn", "neck_options.convention=paper")
    assert "DRFPN is not equal to FPN" in message


def test_layers_of_other_classes_are_newly_initialized_and_all_others_are_loaded(tmp_path, tiny_config) -> None:
    new, old, message = start_from_fpn(tmp_path, tiny_config, "faster_rcnn_lite0_drfpn", classes=("cat", "dog"))
    assert "the layers that depend on the classes are newly initialized" in message
    assert new.roi_heads.box_predictor.cls_score.out_features == 3
    ours, theirs = new.state_dict(), old.state_dict()
    for name, value in ours.items():
        if "box_predictor" not in name and "backbone.neck" not in name:
            assert torch.equal(value, theirs[name]), name


def test_layers_of_as_many_other_classes_are_newly_initialized(tmp_path, tiny_config) -> None:
    _, _, message = start_from_fpn(tmp_path, tiny_config, "faster_rcnn_lite0_drfpn", classes=("cat", "dog", "bird"))
    assert "the layers that depend on the classes are newly initialized" in message


def test_another_detector_is_refused_with_the_one_that_fits(tmp_path, tiny_config) -> None:
    run = str(save(tmp_path / "fpn", tiny_config(model="faster_rcnn_lite0_fpn")))
    with pytest.raises(UserError, match=r"only the neck may differ, such as faster_rcnn_lite0_drfpn"):
        resolve("retinanet_lite0_drfpn", "shapes", weights=run)


def test_another_width_is_refused_with_its_name(tmp_path, tiny_config) -> None:
    with pytest.raises(UserError, match=r"'width'.* of the two runs differ"):
        start_from_fpn(tmp_path, tiny_config, "faster_rcnn_lite0_drfpn", "width=16")


def test_settings_that_the_weights_depend_on_are_taken_over_and_can_be_overridden(tmp_path, tiny_config) -> None:
    run = str(save(tmp_path / "fpn", tiny_config("detector_options.anchor_scale=8", model="faster_rcnn_lite0_fpn")))
    config = resolve("faster_rcnn_lite0_drfpn", "shapes", weights=run, overrides=["max_size=128"])
    assert (config.width, config.min_size, config.max_size) == (16, 64, 128)
    assert config.detector_options["anchor_scale"] == 8
    assert (config.weights, config.weights_backbone) == (run, None)
    assert config.neck_options == {"convention": "bounded"}
    assert not config.has_torchvision_levels


def test_levels_of_torchvision_s_kind_stay_of_that_kind(tmp_path, tiny_config) -> None:
    run = str(save(tmp_path / "fpn", tiny_config("weights=not-there.pth", model="retinanet_lite0_fpn")))
    config = resolve("retinanet_lite0_drfpn", "shapes", overrides=[f"weights={run}"])
    assert build(card_of(config)).backbone.neck.extra_blocks.source == "output"


def test_what_is_a_run_is_told_from_a_file_of_torchvision(tmp_path, tiny_config) -> None:
    run = save(tmp_path / "fpn", tiny_config(model="faster_rcnn_lite0_fpn"))
    assert is_run(str(run))
    assert is_run(str(run / "best.safetensors"))
    torch.save({}, tmp_path / "weights.pth")
    assert not is_run(str(tmp_path / "weights.pth"))
    assert not is_run("torchvision")
    assert not is_run(None)


def test_a_path_that_is_not_there_is_named_before_anything_is_built(tmp_path, tiny_config) -> None:
    config = tiny_config(f"weights={tmp_path / 'nothing'}")
    with pytest.raises(UserError, match=r"There is no run or weights file .*nothing"):
        fit(config, ShapesDataset("train", 2), ShapesDataset("val", 2), tmp_path / "out")


def test_the_same_pyramid_keeps_its_options(tmp_path, tiny_config) -> None:
    options = ["neck_options.convention=paper", "neck_options.context=null"]
    run = str(save(tmp_path / "drfpn", tiny_config(*options)))
    config = resolve("faster_rcnn_lite0_drfpn", "shapes", weights=run)
    assert config.neck_options == {"convention": "paper", "context": None}
    assert load_source_weights(build(card_of(config)), card_of(config), run).startswith(
        f"weights of {run}: DRFPN starts from"
    )


def test_an_explicit_scale_is_not_the_run_s(tmp_path, tiny_config) -> None:
    run = str(save(tmp_path / "fpn", tiny_config(model="faster_rcnn_lite0_fpn")))
    config = resolve("faster_rcnn_lite0_drfpn", "shapes", scale="paper", weights=run)
    assert (config.scale, config.width, config.min_size, config.batch_size) == ("paper", 256, 800, 16)


def test_pyramids_of_other_levels_are_told_apart(tmp_path, tiny_config) -> None:
    run = str(save(tmp_path / "nas", tiny_config(model="faster_rcnn_lite0_nas_fpn")))
    config = tiny_config(f"weights={run}")
    with pytest.raises(UserError, match=r"NASFPN of .* takes 3 levels of the backbone and DRFPN takes 4"):
        load_source_weights(build(card_of(config)), card_of(config), run)


def test_settings_of_an_fpn_run_become_those_of_a_drfpn_run(tmp_path, tiny_config) -> None:
    config = tiny_config(model="retinanet_lite0_fpn")
    run = save(tmp_path / "fpn", config)
    (run / "config.yaml").write_text(config.to_yaml())
    new = read_config(run / "config.yaml", ["model=retinanet_lite0_drfpn", f"weights={run}"])
    assert new.neck_options == {"convention": "bounded"}
    assert not new.has_torchvision_levels
    (run / "config.yaml").write_text(new.to_yaml())
    assert read_config(run / "config.yaml", ["model=retinanet_lite0_fpn"]).neck_options == {}
