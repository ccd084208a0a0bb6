"""Plain reimplementation of the layers of the authors' DRFPN, the baseline of the timings.

Layers are named as in the release, so that ``drfpn.load_release(plain.state_dict())`` returns the library's module with
the same weights. Sizes must halve exactly, as in the release.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Module):
    """A convolution, with BatchNorm and ReLU if ``norm``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=not norm)
        self.bn = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else F.relu(self.bn(x))


class PPM(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.reduceDim_conv = nn.Conv2d(inputs, width, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(width, width, 1, bias=False)) for bins in (1, 2, 3, 6)
        )
        self.bottleneck = nn.Conv2d(5 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduceDim_conv(x)
        pooled = [F.interpolate(stage(x), size=x.shape[-2:], mode="nearest") for stage in self.stages]
        return F.relu(self.bottleneck(torch.cat([*pooled, x], dim=1)))


class SRB(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.down_h = nn.Conv2d(width, half, 1, bias=False)
        self.down_l = nn.Conv2d(width, half, 1, bias=False)
        self.deconv = nn.ConvTranspose2d(half, half, 3, stride=2, padding=1, output_padding=1)
        self.offset_make = nn.Conv2d(width, 2, 3, padding=1, bias=False)
        self.spatial_weight = nn.Sequential(
            nn.Conv2d(width, half, 1, bias=False), nn.ReLU(), nn.Conv2d(half, 1, 3, padding=1)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        height, width = low.shape[-2:]
        both = torch.cat([self.deconv(self.down_h(high)), self.down_l(low)], dim=1)
        offset, weight = self.offset_make(both), self.spatial_weight(both)
        rows = torch.linspace(-1, 1, height, device=low.device).view(-1, 1).repeat(1, width)
        columns = torch.linspace(-1, 1, width, device=low.device).repeat(height, 1)
        grid = torch.stack([columns, rows], dim=2).repeat(len(low), 1, 1, 1)
        grid = grid + offset.permute(0, 2, 3, 1) / offset.new_tensor([width, height])
        sampled = F.grid_sample(high, grid, align_corners=False)
        return low + weight * sampled + F.interpolate(high, scale_factor=2, mode="nearest")


class CRB(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.supervise_conv1x1 = Conv(width, width, 1, norm=True)
        self.input_conv3x3 = Conv(width, width, 3, norm=True)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return self.input_conv3x3(coarse) * self.supervise_conv1x1(F.adaptive_avg_pool2d(fine, 1))


class PlainDRFPN(nn.Module):
    """DRFPN from C2.. to N2.., with a max-pooled extra level."""

    def __init__(self, in_channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        pairs = range(len(in_channels) - 1)
        self.lateral_convs = nn.ModuleList(Conv(channels, width, 1) for channels in in_channels[:-1])
        self.PPM_head = PPM(in_channels[-1], width)
        self.srb_list = nn.ModuleList(SRB(width) for _ in pairs)
        self.fpn_convs = nn.ModuleList(Conv(width, width, 3) for _ in in_channels)
        self.crb_list = nn.ModuleList(CRB(width) for _ in pairs)
        self.downsample_convs = nn.ModuleList(Conv(width, width, 3, stride=2) for _ in pairs)
        self.pafpn_convs = nn.ModuleList(Conv(width, width, 3) for _ in pairs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        p = [conv(m) for conv, m in zip(self.lateral_convs, maps, strict=False)] + [self.PPM_head(maps[-1])]
        for i in reversed(range(len(self.srb_list))):
            p[i] = self.srb_list[i](p[i], p[i + 1])
        n = [conv(m) for conv, m in zip(self.fpn_convs, p, strict=True)]
        for i, (crb, down) in enumerate(zip(self.crb_list, self.downsample_convs, strict=True)):
            n[i + 1] = crb(n[i], n[i + 1]) + down(n[i])
        outputs = [n[0], *(conv(m) for conv, m in zip(self.pafpn_convs, n[1:], strict=True))]
        return [*outputs, F.max_pool2d(outputs[-1], 1, stride=2)]
