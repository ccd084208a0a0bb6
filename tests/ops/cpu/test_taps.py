"""3x3 convolutions as a 1x1 convolution and a sum of shifted maps."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from drfpn.ops import kernel_to_taps, sum_taps


@pytest.mark.parametrize("hw", [(5, 7), (1, 4), (1, 1)])
def test_product_and_sum_are_the_convolution_with_its_zeros_at_the_borders(hw) -> None:
    m, weight = torch.randn(2, 6, *hw, dtype=torch.float64), torch.randn(3, 6, 3, 3, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    taps = m.permute(0, 2, 3, 1) @ kernel_to_taps(weight).T
    assert_close(sum_taps(taps, bias), F.conv2d(m, weight, bias, padding=1))
    assert_close(sum_taps(taps), F.conv2d(m, weight, padding=1))


def test_both_have_a_backward() -> None:
    m, weight = torch.randn(1, 4, 4, 2, dtype=torch.float64), torch.randn(1, 2, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda m, weight: sum_taps(m @ kernel_to_taps(weight).T), (m.requires_grad_(), weight.requires_grad_())
    )


def test_half_precision_is_added_up_in_full() -> None:
    assert sum_taps(torch.randn(1, 3, 3, 9, dtype=torch.bfloat16)).dtype == torch.float32
