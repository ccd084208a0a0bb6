"""BatchNorm and GroupNorm layers of necks."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm that uses its running statistics where a channel has a single value, whose variance is not defined."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (N, C, H, W)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a GroupNorm with 8 channels a group (32 groups for 256), or more where 8 does not divide ``channels``."""
    return nn.GroupNorm(math.gcd(max(1, channels // 8), channels), channels)
