"""Non-local block (Wang et al., CVPR 2018): context module of a row of Table 7, and part of Libra R-CNN."""

import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.layers.convs import init_convs
from drfpn.ops import at_least_float32, full_precision


class Attention(nn.Module):
    """Adds to each pixel a mean of all pixels, weighted by similarity (embedded Gaussian of the paper).

    ``x + W(softmax(theta(x)^T phi(x)) g(x))``, without a scale and without subsampling.

    Initialization: as in the paper, embeddings N(0, 0.01) and W zero, so that it starts as the identity. W has a
    gradient immediately, the embeddings from the second step on.

    Args:
        channels: number of input and output channels.
        embedding: channels of the embeddings.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, embedding, 1)
        self.phi = nn.Conv2d(channels, embedding, 1)
        self.g = nn.Conv2d(channels, embedding, 1)
        self.out = nn.Conv2d(embedding, channels, 1)
        init_convs(self)
        for layer in (self.theta, self.phi, self.g):
            nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        maps = [layer(x) for layer in (self.theta, self.phi, self.g)]
        # one head, (N, 1, HW, E); in half precision a softmax without a scale could not tell pixels apart
        theta, phi, g = (at_least_float32(m).flatten(2).transpose(1, 2)[:, None] for m in maps)
        with full_precision(x.device):
            mean = F.scaled_dot_product_attention(theta, phi, g, scale=1.0)
        return x + self.out(mean[:, 0].transpose(1, 2).unflatten(2, x.shape[-2:]).to(maps[0].dtype))


class NonLocal(nn.Module):
    """Non-local attention on C5, followed by a 1x1 convolution.

    The embeddings have the width of the neck: half of C5's channels, as in the block's own paper, would give 56.2 M
    parameters where Table 7 has 49.95 M; this has 49.89 M. It starts as FPN's 1x1 convolution.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the neck.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.attention = Attention(in_channels, out_channels)
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        init_convs(self.reduce)

    def forward(self, c: Tensor) -> Tensor:
        """Return the lateral (N, out_channels, H, W) of C5, ``c`` (N, in_channels, H, W)."""
        out: Tensor = self.reduce(self.attention(c))
        return out
