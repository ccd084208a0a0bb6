from urllib.error import URLError

import pytest
import torch

from drfpn import build_detector
from drfpn.detectors.published_weights import COCO, PUBLISHED, read_checkpoint
from drfpn.utils.errors import UsageError, UserError


def test_cocos_ids_are_80_of_90() -> None:
    assert len(COCO) == len(set(COCO)) == 80
    assert (COCO[0], COCO[11], COCO[-1]) == (1, 13, 90)  # 12, 26, 29, ... were never used
    assert {published.weights.meta["categories"][13] for published in PUBLISHED.values()} == {"stop sign"}


@pytest.mark.parametrize("name", ["cascade_rcnn_r50_fpn", "faster_rcnn_r101_fpn", "retinanet_lite0_drfpn"])
def test_what_torchvision_does_not_publish_is_said_before_anything_is_built(name) -> None:
    with pytest.raises(UserError, match="only for faster_rcnn_r50, mask_rcnn_r50, retinanet_r50, fcos_r50") as caught:
        build_detector(name, weights="torchvision")
    assert isinstance(caught.value, UsageError)


def test_a_backbone_has_one_source_of_weights() -> None:
    with pytest.raises(UserError, match="leave out `weights_backbone=True`"):
        build_detector("faster_rcnn_r50_fpn", weights="torchvision", weights_backbone=True)


@pytest.mark.parametrize("error", [URLError("no network"), TimeoutError(), RuntimeError("invalid hash value")])
def test_weights_that_cannot_be_fetched_can_be_given_as_a_file(error, monkeypatch) -> None:
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(UserError) as caught:
        read_checkpoint("fcos", "torchvision")
    assert PUBLISHED["fcos"].weights.url in str(caught.value)
    assert "give its path as `weights`" in str(caught.value)


def test_a_file_that_is_not_there_or_would_run_code_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no weights file"):
        read_checkpoint("fcos", tmp_path / "none.pth")
    torch.save({"a": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="read safely"):
        read_checkpoint("fcos", tmp_path / "code.pth")


def test_another_file_is_used_with_the_eps_it_was_made_with(tmp_path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "own.pth")
    assert not read_checkpoint("faster_rcnn", tmp_path / "own.pth").zero_eps
