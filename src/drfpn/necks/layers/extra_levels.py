"""Extra levels behind the backbone's, such as P6 and P7 of one-stage detectors: the blocks and their level names."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from drfpn.necks.layers.convs import init_convs
from drfpn.utils.errors import UsageError


class ExtraPools(ExtraFPNBlock):
    """Adds levels by max pooling of size 1 and stride 2, as in mmdetection; one is torchvision's ``LastLevelMaxPool``.

    Args:
        count: number of levels.

    Attributes:
        level_names: names of the levels that are added.
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.level_names = tuple(f"pool{i}" if i > 1 else "pool" for i in range(1, count + 1))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append the levels; arguments and return value as of :class:`ExtraConvs`."""
        levels = list(results)
        for _ in self.level_names:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return levels, [*names, *self.level_names]


class ExtraConvs(ExtraFPNBlock):
    """Adds P6, P7, ... by 3x3 convolutions of stride 2, as in mmdetection and the authors' release.

    Args:
        in_channels: channels of the map that P6 is made from.
        out_channels: width of the neck.
        source: ``"input"`` makes P6 from the coarsest backbone map (RetinaNet), ``"output"`` from the coarsest
            output level of the neck (FCOS).
        relu: whether P7 and further levels are made behind a ReLU (FCOS: yes, RetinaNet: no).
        count: number of levels.

    Attributes:
        level_names: names of the levels that are added, from ``"p6"`` on.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        source: Literal["input", "output"] = "input",
        relu: bool = False,
        count: int = 2,
    ) -> None:
        super().__init__()
        self.level_names = tuple(f"p{6 + i}" for i in range(count))
        for i, name in enumerate(self.level_names):
            self.add_module(name, nn.Conv2d(out_channels if i else in_channels, out_channels, 3, stride=2, padding=1))
        self.source = source
        self.activation: nn.Module = nn.ReLU() if relu else nn.Identity()
        init_convs(self)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append P6, P7, ... to the levels.

        Args:
            results: levels (N, out_channels, H, W), finest first.
            x: the backbone's maps (N, C, H, W), finest first.
            names: names of the levels.

        Returns:
            All levels and their names.
        """
        level = {"input": x, "output": results}[self.source][-1]
        levels = list(results)
        for i, name in enumerate(self.level_names):
            level = getattr(self, name)(self.activation(level) if i else level)
            levels.append(level)
        return levels, [*names, *self.level_names]


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
            "take LastLevelMaxPool, LastLevelP6P7, ExtraConvs, ExtraPools or None."
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
