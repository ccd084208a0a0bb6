"""Training with lower precision: the network in 16 bits, boxes and losses in 32."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.data import ShapesDataset
from drfpn.training.checkpoint import Card, build
from drfpn.training.trainer import fit
from tests.detectors.scenes import SMALL, scene

BOTH = [torch.bfloat16, torch.float16]


def keep_samples(model: nn.Module) -> None:
    """Let RoI heads use the RoIs of their first pass in every pass: rounding moves proposals, and with them samples."""
    for stage in model.roi_heads.stages if hasattr(model, "roi_heads") else ():
        stage.select_training_samples = cache_first(stage.select_training_samples)


def cache_first(function: Callable[..., Any]) -> Callable[..., Any]:
    results: list[Any] = []

    def call(*arguments: Any) -> Any:
        if not results:
            results.append(function(*arguments))
        return results[0]

    return call


@pytest.mark.slow
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("detector", SMALL)
def test_losses_are_float32_and_near_those_of_full_precision(detector, dtype) -> None:
    torch.manual_seed(0)
    smaller = SMALL[detector] | {"min_size": 64, "max_size": 96}  # float16 is slow on a CPU
    model = build_detector(f"{detector}_lite0_drfpn", 3, **smaller).train()
    images, targets = scene((64, 96), (96, 64))
    keep_samples(model)
    losses = {}
    for enabled in (False, True):
        torch.manual_seed(1)  # of the sampler of anchors
        with torch.autocast("cpu", dtype, enabled=enabled):
            losses[enabled] = model(images, targets)
    for name, value in losses[True].items():
        assert value.dtype == torch.float32
        assert_close(value, losses[False][name], rtol=0.05, atol=0.02)
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
def test_runs_in_half_precision_change_the_weights_as_one_in_full_precision(
    tmp_path, quick_config, monkeypatch
) -> None:
    monkeypatch.setattr(
        "drfpn.training.setup.GradScaler", partial(torch.amp.GradScaler, init_scale=256.0)
    )  # no overflow
    data = ShapesDataset("train", 4), ShapesDataset("val", 1)
    options = ["batch_size=4", "base_lr=0.001", "warmup_steps=0", "eval_every=0", "hflip_prob=0", "norm_eval=true"]
    weights = {}
    for amp in ("off", "bf16", "fp16"):
        config = quick_config(f"amp={amp}", *options)
        fit(config, *data, tmp_path / amp)
        weights[amp] = load_file(tmp_path / amp / "last.safetensors")
    torch.manual_seed(config.seed)
    start = build(Card(config=config, classes=data[0].classes, category_ids=range(1, 7))).state_dict()
    names = [name for name, value in weights["off"].items() if not value.equal(start[name])]
    assert len(names) > 20
    change = {
        amp: torch.cat([(of_run[name] - start[name]).flatten() for name in names]) for amp, of_run in weights.items()
    }
    for amp in ("bf16", "fp16"):
        assert not change[amp].equal(change["off"])
        assert torch.cosine_similarity(change["off"], change[amp], dim=0) > 0.95
