import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN, build_detector
from drfpn.backbones import TimmBackbone
from tests.detectors.scenes import SMALL_TWO_STAGE, loss_history, scene, share_samplers

SMALL = SMALL_TWO_STAGE


class TheirBackbone(nn.Module):
    """torchvision's own pyramid on a timm body, as its BackboneWithFPN joins them."""

    def __init__(self, body: TimmBackbone, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.channels, out_channels, LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.fpn(self.body(image))


def theirs_with_weights_of(ours: FasterRCNN, **options: object) -> FasterRCNN:
    """Make torchvision's Faster R-CNN with its own defaults and our weights; the background's deltas become zeros."""
    backbone, neck = TheirBackbone(ours.backbone.body, ours.backbone.out_channels), ours.backbone.neck
    blocks = [*backbone.fpn.inner_blocks, *backbone.fpn.layer_blocks]
    for block, conv in zip(blocks, [*neck.lateral, neck.top, *neck.smooth], strict=True):
        block[0].load_state_dict(conv.state_dict())
    predictor = ours.roi_heads.box_predictor
    theirs = FasterRCNN(backbone, predictor.cls_score.out_features, **options)
    theirs.rpn.head.load_state_dict(ours.rpn.head.state_dict())
    theirs.roi_heads.box_head.load_state_dict(ours.roi_heads.box_head.state_dict())
    theirs.roi_heads.box_predictor.cls_score.load_state_dict(predictor.cls_score.state_dict())
    with torch.no_grad():
        regression = theirs.roi_heads.box_predictor.bbox_pred
        regression.weight.zero_()[4:] = predictor.bbox_pred.weight
        regression.bias.zero_()[4:] = predictor.bbox_pred.bias
    return theirs


def test_losses_and_detections_equal_torchvisions_with_the_same_weights() -> None:
    options = {"min_size": 96, "max_size": 160, "rpn_post_nms_top_n_test": 50, "box_score_thresh": 0.0}
    ours = build_detector("faster_rcnn_lite0_fpn", 3, width=16, **options)
    normalization = {"image_mean": [127 / 255] * 3, "image_std": [128 / 255] * 3}
    theirs = theirs_with_weights_of(ours, **options, **normalization)
    share_samplers(theirs, ours)
    images, targets = scene((70, 90), (120, 50))
    values = []
    for model in (ours, theirs):
        torch.manual_seed(1)  # of the samplers
        values.append(model.train()(images, targets))
    assert_close(*values)
    for a, b in zip(ours.eval()(images), theirs.eval()(images), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_weights_of_the_pyramid_are_found_under_neck() -> None:
    model = build_detector("faster_rcnn_lite0_fpn", 3, **SMALL)
    assert isinstance(model.backbone.neck, FPN)
    assert model.transform.image_mean == [127 / 255] * 3


@pytest.mark.parametrize("classes", [1, 3])
def test_label_1_is_the_first_class_and_the_last_label_is_the_last(classes) -> None:
    """The scores say which class the head means: column 0 is the background."""
    model = build_detector("faster_rcnn_lite0_fpn", classes, **SMALL, box_score_thresh=0.5).eval()
    predictor = model.roi_heads.box_predictor
    nn.init.zeros_(predictor.cls_score.weight)
    for label in (1, classes):
        nn.init.zeros_(predictor.cls_score.bias)
        predictor.cls_score.bias.data[label] = 10
        (output,) = model([torch.rand(3, 96, 96)])
        assert set(output["labels"].tolist()) == {label}


@pytest.mark.slow
@pytest.mark.parametrize("neck", ["fpn", "pafpn", "drfpn"])
def test_it_learns_two_images_by_heart(neck) -> None:
    torch.manual_seed(0)
    options = SMALL | {"width": 32, "box_batch_size_per_image": 64, "anchor_scale": 4}
    model = build_detector(f"faster_rcnn_lite0_{neck}", 3, frozen_stages=-1, norm_eval=False, **options).train()
    history = loss_history(model, steps=30)
    assert sum(history[-5:]) < 0.4 * sum(history[:5]), history
