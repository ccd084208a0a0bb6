"""A backbone with a pyramid on top: what torchvision's detectors take as ``backbone``."""

from torch import Tensor, nn

from drfpn.backbones import TimmBackbone


class PyramidBackbone(nn.Module):
    """Turns a batch of images into the levels that the heads see.

    Args:
        body: gives the backbone's maps by name.
        neck: turns them into the levels of the pyramid.
        out_channels: width of these levels.
    """

    def __init__(self, body: TimmBackbone, neck: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.neck = neck
        self.out_channels = out_channels

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Turn a batch (N, 3, H, W) into its levels by name."""
        return self.neck(self.body(image))
