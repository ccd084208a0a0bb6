"""Levels beyond the backbone's: P6 and P7 of the one-stage detectors."""

from typing import Literal

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from drfpn.necks.base import init_convs
from drfpn.utils.errors import UserError


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


def names_added(extra_blocks: ExtraFPNBlock | None) -> list[str]:
    """Return the names of the levels that a block adds, for a pyramid that makes them itself.

    Raises:
        UserError: a block of one's own, of which that is not known.
    """
    match extra_blocks:
        case None:
            return []
        case LastLevelMaxPool():
            return ["pool"]
        case ExtraConvs() | LastLevelP6P7():
            return ["p6", "p7"]
    raise UserError(
        "This pyramid makes the levels beyond the backbone's itself and cannot tell which "
        f"{type(extra_blocks).__name__} would add: give LastLevelMaxPool, LastLevelP6P7, ExtraConvs or None."
    )
