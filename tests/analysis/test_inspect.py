import pytest
import torch

from drfpn.analysis.inspect import inspect_pyramid
from drfpn.detectors import build_detector
from drfpn.errors import UserError


def build(name):
    torch.manual_seed(0)
    return build_detector(name, 3, weights=None, min_size=96, max_size=160).eval()


IMAGE = torch.rand(3, 75, 101, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_laterals_are_the_convolutions_of_the_backbones_maps_without_padding(detector):
    model = build(f"{detector}_lite0_fpn")
    found = inspect_pyramid(model, IMAGE)
    images, _ = model.transform([IMAGE])
    with torch.no_grad():
        c = next(iter(model.backbone.body(images.tensors).values()))
        expected = model.backbone.neck.lateral[0](c)[0]
    height, width = found.laterals[0].shape[-2:]
    torch.testing.assert_close(found.laterals[0], expected[:, :height, :width])
    stride = images.tensors.shape[-1] // c.shape[-1]
    assert (height, width) == tuple(-(-side // stride) for side in images.image_sizes[0])
    assert found.offsets == found.weights == found.gates == {}


def test_a_fresh_drfpn_is_dead_and_one_with_a_set_weight_works():
    model = build("faster_rcnn_lite0_drfpn")
    found = inspect_pyramid(model, IMAGE)
    assert found.dead_offsets() == found.dead_weights() == [0, 1, 2]
    assert found.dead_gates() == []
    for step in model.backbone.neck.top_down.steps:
        torch.nn.init.normal_(step.offset.weight)
        torch.nn.init.ones_(step.weight[-1].bias)
    found = inspect_pyramid(model, IMAGE)
    assert found.dead_offsets() == found.dead_weights() == []


def test_a_constant_offset_is_shown_in_pixels_of_the_finer_map():
    model = build("faster_rcnn_lite0_drfpn")
    step = model.backbone.neck.top_down.steps[0]
    step.offset.register_forward_hook(lambda _m, _i, out: torch.full_like(out, 4.0))
    images, _ = model.transform([IMAGE])
    height, width = images.tensors.shape[-2:]
    x, y = inspect_pyramid(model, IMAGE).offsets[0]
    torch.testing.assert_close(x, torch.full_like(x, 4 * width / (height + width)))
    torch.testing.assert_close(y, torch.full_like(y, 4 * height / (height + width)))


def test_a_model_without_a_pyramid_is_told_in_one_sentence():
    with pytest.raises(UserError, match="must have a pyramid"):
        inspect_pyramid(torch.nn.Linear(1, 1), IMAGE)
