"""Training with lower precision: the network in 16 bits, boxes and losses in 32."""

import pytest
import torch
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.data import ShapesDataset
from drfpn.training.trainer import fit
from tests.detectors.scenes import SMALL, scene

BOTH = [torch.bfloat16, torch.float16]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("detector", SMALL)
def test_losses_are_float32_and_near_those_of_full_precision(detector, dtype) -> None:
    torch.manual_seed(0)
    model = build_detector(f"{detector}_lite0_drfpn", 3, **SMALL[detector]).train()
    images, targets = scene((96, 128), (128, 96))
    losses = {}
    for enabled in (False, True):
        torch.manual_seed(1)  # of the samplers
        with torch.autocast("cpu", dtype, enabled=enabled):
            losses[enabled] = model(images, targets)
    for name, value in losses[True].items():
        assert value.dtype == torch.float32
        # rounding moves proposals, and with them which RoIs are sampled
        of_samples = detector.endswith("rcnn") and name not in ("loss_objectness", "loss_rpn_box_reg")
        assert_close(value, losses[False][name], rtol=0.3 if of_samples else 0.1, atol=0.02)
    torch.stack(list(losses[True].values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("kind", ["black", "white", "stripes", "tiny"])
def test_extreme_images_give_finite_losses_in_half_precision(kind, dtype) -> None:
    images, targets = scene((96, 128))
    if kind == "stripes":
        images = [(torch.arange(128) % 2).float().expand(3, 96, 128).contiguous()]
    elif kind == "tiny":
        images, targets = scene((3, 5), objects=1)
    else:
        images = [torch.full_like(image, float(kind == "white")) for image in images]
    model = build_detector("faster_rcnn_lite0_drfpn", 3, **SMALL["faster_rcnn"]).train()
    with torch.autocast("cpu", dtype):
        losses = model(images, targets)
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_run_in_half_precision_learns(amp, tmp_path, tiny_config) -> None:
    options = ["batch_size=4", "optimizer=adamw", "base_lr=0.004", "warmup_steps=5", "eval_every=0", "hflip_prob=0"]
    config = tiny_config(f"amp={amp}", *options, epochs=15, model="retinanet_lite0_fpn")
    four = ShapesDataset("train", 4)
    fit(config, four, four, tmp_path)
    from drfpn.training.loggers import TableLogger

    rows = TableLogger(tmp_path, "log").rows()
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
