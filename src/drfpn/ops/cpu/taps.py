"""A 3x3 convolution with few outputs, as a product followed by a sum of shifted maps.

Libraries work on 16 outputs or more at once, so one or two cost as much as 16. Written with nine times the outputs as a
1x1 convolution (a tap each), what is left is adding nine small maps; and a 1x1 convolution can be joined with others on
the same map. The zeros around the map are those of a convolution with a padding of 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def to_taps(weight: Tensor) -> Tensor:
    """Turn the weight (O, C, 3, 3) of a convolution into that of a product, (9 O, C)."""
    # fold moves what is at tap k by k - 1, a convolution reads at k - 1, which moves it by 1 - k
    return weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)


def sum_taps(products: Tensor, bias: Tensor | None = None) -> Tensor:
    """Add up what the product made of each pixel: (N, H, W, 9 O) to (N, O, H, W), in float32 at least."""
    height, width = products.shape[1:3]
    kind = torch.promote_types(products.dtype, torch.float32)
    taps = products.to(kind).flatten(1, 2).transpose(1, 2)
    added = F.fold(taps, (height, width), kernel_size=3, padding=1)
    return added if bias is None else added + bias.to(kind)[:, None, None]
