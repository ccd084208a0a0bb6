"""RoIAlign, compared with torchvision's."""

import pytest
import torch
import torchvision
from torch.testing import assert_close

from drfpn.ops import roi_align


def random_rois(count: int = 60) -> torch.Tensor:
    """RoIs inside, across the borders, outside, thinner than a pixel, and with negative sides."""
    torch.manual_seed(0)
    boxes = torch.rand(count, 4, dtype=torch.float64) * 160 - 30
    boxes[: count // 2, 2:] = boxes[: count // 2, :2] + torch.rand(count // 2, 2, dtype=torch.float64) * 60
    boxes[0] = torch.tensor([8.0, 8.0, 8.0, 8.0])
    return torch.cat([torch.randint(0, 2, (count, 1)).double(), boxes], dim=1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "ratio"), [(7, 2), (14, 2), (3, 1)])
@pytest.mark.parametrize("hw", [(25, 31), (1, 40)])
def test_values_and_gradients_are_torchvision_s(layout, size, ratio, hw) -> None:
    level = torch.randn(2, 5, *hw, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    rois = random_rois()
    ours = roi_align(level, rois, size, 0.25, ratio)
    theirs = torchvision.ops.roi_align(level, rois, size, 0.25, ratio)
    assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    assert_close(*(torch.autograd.grad(out, level, upstream)[0] for out in (ours, theirs)))


def test_in_single_precision_points_are_rounded_as_torchvision_rounds_them() -> None:
    level, rois = torch.randn(2, 8, 200, 320), random_rois(300).float() * torch.tensor([1, 10, 6, 10, 6])
    assert_close(
        roi_align(level, rois, 7, 0.25, 2),
        torchvision.ops.roi_align(level, rois, 7, 0.25, 2),
        rtol=1e-5,
        atol=1e-5,
    )


def test_no_rois_give_no_cells_and_a_zero_gradient() -> None:
    level = torch.randn(1, 4, 6, 6, requires_grad=True)
    out = roi_align(level, torch.zeros(0, 5), 7, 1.0, 2)
    assert out.shape == (0, 4, 7, 7)
    out.sum().backward()
    assert_close(level.grad, torch.zeros_like(level))


def test_rois_whose_sides_overflow_read_nothing_outside_of_the_map() -> None:
    largest = torch.finfo(torch.float32).max
    rois = torch.tensor([[0.0, -largest, -largest, largest, largest]])
    out = roi_align(torch.randn(1, 4, 6, 6), rois, 7, 1.0, 2)
    assert out.isfinite().all()
