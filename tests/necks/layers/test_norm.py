"""Norms of necks."""

import pytest
import torch

from drfpn.necks.layers.norm import group_norm


@pytest.mark.parametrize("channels", [1, 5, 8, 12, 16, 20, 28, 64, 100, 256])
def test_group_norm_takes_any_width(channels) -> None:
    assert group_norm(channels)(torch.randn(2, channels, 1, 1)).isfinite().all()
