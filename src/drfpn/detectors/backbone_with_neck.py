"""A backbone with a neck on top: the ``backbone`` of torchvision's detectors."""

import torch
from torch import Tensor, nn

from drfpn.backbones import PlainBackbone, TimmBackbone
from drfpn.detectors.upgrade_neck import run_in_eval_mode
from drfpn.necks import Neck
from drfpn.necks.base import Level


class BackboneWithNeck(nn.Module):
    """Turns a batch of images into the levels that the heads read.

    Args:
        body: returns the backbone's maps by name.
        neck: turns these maps into levels of one width.
        out_channels: channels of these levels.
    """

    def __init__(self, body: TimmBackbone | PlainBackbone, neck: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.neck = neck
        self.out_channels = out_channels

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Turn a batch (N, 3, H, W) into its levels (N, out_channels, h, w) by name."""
        return self.neck(self.body(image))

    def out_levels(self) -> list[Level]:
        """Return names and strides of all levels that the heads read, finest first.

        A neck that is not a :class:`drfpn.necks.Neck` is run on small maps to measure them.
        """
        in_strides = dict(zip(self.body.names, self.body.strides, strict=True))
        if isinstance(self.neck, Neck):
            return self.neck.out_levels(in_strides)
        side = 4 * max(in_strides.values())
        reference = next(self.neck.parameters(), torch.zeros(()))
        maps = {
            name: reference.new_zeros(1, channels, side // stride, side // stride)
            for (name, stride), channels in zip(in_strides.items(), self.body.channels, strict=True)
        }
        levels: dict[str, Tensor] = run_in_eval_mode(self.neck, self.neck, maps)
        return [Level(name, side // level.shape[-1]) for name, level in levels.items()]
