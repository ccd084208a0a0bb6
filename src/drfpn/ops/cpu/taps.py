"""A 3x3 convolution with few output channels as a 1x1 convolution followed by a sum of shifted maps.

Libraries compute 16 output channels or more at once, so one or two cost as much as 16. As a 1x1 convolution to nine
times the channels (one for each tap of the kernel), only a sum of nine small maps is left; and a 1x1 convolution can be
composed with others on the same map. The result is that of a convolution with zero padding of 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def kernel_to_taps(kernel: Tensor) -> Tensor:
    """Turn the kernel (O, C, 3, 3) of a 3x3 convolution into that of a 1x1 convolution, (9 O, C)."""
    # fold shifts tap k by k - 1; a convolution reads tap k at k - 1, which is a shift by 1 - k
    return kernel.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)


def sum_taps(products: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sum the shifted results of the 1x1 convolution.

    Args:
        products: (N, H, W, 9 O).
        bias: (O,) of the 3x3 convolution.

    Returns:
        (N, O, H, W), in float32 at least.
    """
    height, width = products.shape[1:3]
    dtype = torch.promote_types(products.dtype, torch.float32)
    taps = products.to(dtype).flatten(1, 2).transpose(1, 2)
    added = F.fold(taps, (height, width), kernel_size=3, padding=1)
    return added if bias is None else added + bias.to(dtype)[:, None, None]
