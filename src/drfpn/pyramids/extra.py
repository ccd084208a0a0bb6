"""Levels beyond the backbone's: P6 and P7 of the one-stage detectors."""

from typing import Literal

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.pyramids.base import init_convs


class ExtraConvs(ExtraFPNBlock):
    """Adds P6 and P7 by 3x3 convolutions of stride 2, as mmdetection and the authors' release do.

    Args:
        in_channels: channels of the map that P6 is made from.
        out_channels: width of the pyramid.
        source: ``"input"`` makes P6 from the coarsest backbone map (RetinaNet), ``"output"`` from the coarsest
            level of the pyramid (FCOS).
        relu: whether P6 passes a ReLU on its way to P7 (FCOS: yes, RetinaNet: no).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Literal["input", "output"] = "input",
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        self.source = source
        self.activation: nn.Module = nn.ReLU() if relu else nn.Identity()
        init_convs(self)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append P6 and P7 to ``results``; ``x`` are the backbone's maps."""
        p6 = self.p6({"input": x, "output": results}[self.source][-1])
        p7 = self.p7(self.activation(p6))
        return [*results, p6, p7], [*names, "p6", "p7"]
