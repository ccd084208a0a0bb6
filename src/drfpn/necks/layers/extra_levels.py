"""Extra levels behind the backbone's, such as P6 and P7 of one-stage detectors: the blocks and their level names."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from drfpn.necks.layers.convs import init_convs
from drfpn.utils.errors import UsageError


class ExtraConvs(ExtraFPNBlock):
    """Adds P6 and P7 by 3x3 convolutions of stride 2, as in mmdetection and the authors' release.

    Args:
        in_channels: channels of the map that P6 is made from.
        out_channels: width of the neck.
        source: ``"input"`` makes P6 from the coarsest backbone map (RetinaNet), ``"output"`` from the coarsest
            output level of the neck (FCOS).
        relu: whether P7 is made from P6 behind a ReLU (FCOS: yes, RetinaNet: no).

    Attributes:
        level_names: names of the levels that are added.
    """

    level_names = ("p6", "p7")

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
        """Append P6 and P7 to the levels.

        Args:
            results: levels (N, out_channels, H, W), finest first.
            x: the backbone's maps (N, C, H, W), finest first.
            names: names of the levels.

        Returns:
            All levels and their names.
        """
        p6 = self.p6({"input": x, "output": results}[self.source][-1])
        p7 = self.p7(self.activation(p6))
        return [*results, p6, p7], [*names, *self.level_names]


def extra_level_names(extra_blocks: ExtraFPNBlock | None) -> list[str]:
    """Return the names of the levels that a block adds, each of half the size of the one before.

    Args:
        extra_blocks: ``None``, a block of torchvision, or one with an attribute ``level_names``.

    Raises:
        UsageError: another block without ``level_names``.
    """
    match extra_blocks:
        case None:
            return []
        case LastLevelMaxPool():
            return ["pool"]
        case LastLevelP6P7():
            return ["p6", "p7"]
    names: Sequence[str] | None = getattr(extra_blocks, "level_names", None)
    if names is None:
        raise UsageError(
            f"The levels that {type(extra_blocks).__name__} adds are not known: set its attribute `level_names`, or "
            "take LastLevelMaxPool, LastLevelP6P7, ExtraConvs or None."
        )
    return list(names)


def reads_backbone_map(extra_blocks: ExtraFPNBlock | None) -> bool:
    """Return whether a block makes its first level from the backbone's coarsest map, not from the neck's.

    Args:
        extra_blocks: as of :func:`extra_level_names`.
    """
    if isinstance(extra_blocks, LastLevelP6P7):
        return not extra_blocks.use_P5
    return isinstance(extra_blocks, ExtraConvs) and extra_blocks.source == "input"
