"""Methods of other papers that may also change the detector, learning two images by heart."""

import pytest
import torch

from drfpn import build_detector
from tests.detectors.scenes import SMALL, loss_history

RIVALS = {
    "libra": {},
    "panet": {},
    "pconv": {"neck_options": {"layers": 1}},
    "sepc": {"neck_options": {"layers": 1}},
    "augfpn": {},
}
LIBRA = {"box_loss": "balanced_l1", "sampler": "iou_balanced"}
SETTINGS = {
    "faster_rcnn": {"width": 32, "box_batch_size_per_image": 64, "anchor_scale": 4},
    "retinanet": {"anchor_scale": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("neck", RIVALS)
def test_it_learns_two_images_by_heart(name, neck) -> None:
    torch.manual_seed(0)
    options = SMALL[name] | SETTINGS[name] | RIVALS[neck] | (LIBRA if (name, neck) == ("faster_rcnn", "libra") else {})
    model = build_detector(f"{name}_lite0_{neck}", 3, frozen_stages=-1, norm_eval=False, **options).train()
    history = loss_history(model, steps=12)
    assert sum(history[-3:]) < 0.75 * sum(history[:3]), history
