"""Offset and omega of SRB with all linear layers up to omega's ReLU composed into one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.cpu.taps import kernel_to_taps, sum_taps


def predict_offset_and_weight(
    conv_features: Callable[[Tensor], Tensor],
    offset_kernel: Tensor,
    reduce_kernel: Tensor,
    weight_kernel: Tensor,
    weight_bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Predict the offset and omega of Eq. 1, omega not bounded, without computing the guide's features.

    Args:
        conv_features: maps the kernel (K, F) of a 1x1 convolution on the guide's F features to its result
            (N, K, H, W).
        offset_kernel: (2, F, 3, 3), predicts the offset from the features.
        reduce_kernel: (R, F, 1, 1), predicts the hidden channels of omega, a ReLU behind it.
        weight_kernel: (1, R, 3, 3), predicts omega from the hidden channels.
        weight_bias: (1,).

    Returns:
        Offset (N, 2, H, W) and omega (N, 1, H, W), in float32 at least.
    """
    heads = torch.cat([reduce_kernel.flatten(1), kernel_to_taps(offset_kernel)])
    products = conv_features(heads).permute(0, 2, 3, 1)  # (N, H, W, R + 18)
    hidden, taps = products.split([reduce_kernel.shape[0], 18], dim=-1)
    omega = F.relu(hidden, inplace=not torch.is_grad_enabled()) @ kernel_to_taps(weight_kernel).T  # (N, H, W, 9)
    return sum_taps(taps), sum_taps(omega, weight_bias)
