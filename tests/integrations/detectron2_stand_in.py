"""Stands in for the parts of detectron2, which is not on PyPI, that ``drfpn.integrations.detectron2`` uses."""

from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShapeSpec(NamedTuple):
    """``detectron2.layers.ShapeSpec``."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class CfgNode(dict):
    """``detectron2.config.CfgNode``: a dict whose keys are attributes too; keys that it lacks may be added or not."""

    def __init__(self, init: dict | None = None, new_allowed: bool = False) -> None:
        super().__init__(init or {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


class Registry(dict):
    """``fvcore.common.registry.Registry``."""

    def register(self, obj: Any) -> Any:
        """Add a class or function by its name."""
        assert obj.__name__ not in self
        self[obj.__name__] = obj
        return obj


class Backbone(nn.Module):
    """``detectron2.modeling.Backbone``."""

    @property
    def size_divisibility(self) -> int:
        return 0

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


class TinyResNet(Backbone):
    """Maps res2 to res5 with 4, 6, 8 and 10 channels."""

    def __init__(self) -> None:
        super().__init__()
        self._out_features = ["res2", "res3", "res4", "res5"]
        self._out_feature_channels = dict(zip(self._out_features, (4, 6, 8, 10), strict=True))
        self._out_feature_strides = dict(zip(self._out_features, (4, 8, 16, 32), strict=True))
        self.stages = nn.ModuleList(nn.Conv2d(3, channels, 1) for channels in (4, 6, 8, 10))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        strides = self._out_feature_strides
        return {
            name: F.avg_pool2d(stage(x), strides[name])
            for name, stage in zip(self._out_features, self.stages, strict=True)
        }


class FPN(Backbone):
    """``detectron2.modeling.backbone.FPN`` with the names of its parameters."""

    def __init__(self, bottom_up: TinyResNet, in_features: list[str], width: int, *, p6_p7: bool) -> None:
        super().__init__()
        self.bottom_up, self.in_features = bottom_up, in_features
        self.stages = [int(name[-1]) for name in in_features]
        shapes = bottom_up.output_shape()
        for name, stage in zip(in_features, self.stages, strict=True):
            self.add_module(f"fpn_lateral{stage}", nn.Conv2d(shapes[name].channels, width, 1))
            self.add_module(f"fpn_output{stage}", nn.Conv2d(width, width, 3, padding=1))
        self.top_block = LastLevelP6P7(shapes[in_features[-1]].channels, width) if p6_p7 else None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.bottom_up(x)
        levels: dict[str, Tensor] = {}
        top: Tensor | None = None
        for name, stage in reversed(list(zip(self.in_features, self.stages, strict=True))):
            lateral = getattr(self, f"fpn_lateral{stage}")(maps[name])
            top = lateral if top is None else lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
            levels = {f"p{stage}": getattr(self, f"fpn_output{stage}")(top)} | levels
        if self.top_block is None:
            levels["p6"] = F.max_pool2d(levels["p5"], 1, stride=2)
            return levels
        p6, p7 = self.top_block(maps["res5"])
        return levels | {"p6": p6, "p7": p7}


class LastLevelP6P7(nn.Module):
    """``detectron2.modeling.backbone.fpn.LastLevelP6P7``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)

    def forward(self, c5: Tensor) -> tuple[Tensor, Tensor]:
        p6 = self.p6(c5)
        return p6, self.p7(torch.relu(p6))


def modules() -> dict[str, ModuleType]:
    """Return the modules of detectron2 by name, for ``sys.modules``."""
    contents: dict[str, dict[str, Any]] = {
        "detectron2": {},
        "detectron2.layers": {"ShapeSpec": ShapeSpec},
        "detectron2.config": {"CfgNode": CfgNode},
        "detectron2.modeling": {"BACKBONE_REGISTRY": Registry()},
        "detectron2.modeling.backbone": {
            "Backbone": Backbone,
            "build_resnet_backbone": lambda cfg, input_shape: TinyResNet(),
        },
    }
    made = {}
    for name, attributes in contents.items():
        made[name] = ModuleType(name)
        made[name].__dict__.update(attributes)
    return made
