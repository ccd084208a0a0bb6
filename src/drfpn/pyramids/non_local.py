"""Non-local block as the context module (Table 7; Wang et al., CVPR 2018)."""

from torch import Tensor, nn

from drfpn.pyramids.base import init_convs


class NonLocal(nn.Module):
    """Adds to each pixel of C5 a mean over all its pixels, weighed by likeness, then reduces it (1x1).

    The embedded Gaussian of the paper: ``c + W(softmax(theta(c)^T phi(c)) g(c))``. The embeddings have the width of
    the pyramid: half of C5's channels, as in their paper, would give 56.2 M parameters where Table 7 has 49.95 M;
    this has 49.89 M.

    Starting values are that paper's: embeddings N(0, 0.01), W zero, so it begins as FPN's 1x1 convolution. W has a
    gradient at once, the embeddings from the second step on.

    Args:
        in_channels: channels of the coarsest backbone map.
        out_channels: width of the pyramid.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(in_channels, out_channels, 1)
        self.phi = nn.Conv2d(in_channels, out_channels, 1)
        self.g = nn.Conv2d(in_channels, out_channels, 1)
        self.out = nn.Conv2d(out_channels, in_channels, 1)
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        init_convs(self)
        for embedding in (self.theta, self.phi, self.g):
            nn.init.normal_(embedding.weight, std=0.01)
        nn.init.zeros_(self.out.weight)

    def forward(self, c: Tensor) -> Tensor:
        """Turn C5 (N, in_channels, H, W) into the top lateral (N, out_channels, H, W)."""
        theta, phi, g = (embedding(c).flatten(2) for embedding in (self.theta, self.phi, self.g))  # (N, E, HW)
        likeness = (theta.transpose(1, 2) @ phi).softmax(dim=-1)  # (N, HW, HW), rows sum to 1
        mean = (g @ likeness.transpose(1, 2)).unflatten(2, c.shape[-2:])
        return self.reduce(c + self.out(mean))
