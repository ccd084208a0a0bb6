"""Necks of this library behind detectron2's ResNets: ``MODEL.BACKBONE.NAME: build_resnet_drfpn_backbone``.

Before a config is read, it needs the keys of this library::

    from drfpn.integrations.detectron2 import add_drfpn_config

    cfg = get_cfg()
    add_drfpn_config(cfg)
    cfg.merge_from_file("faster_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.BACKBONE.NAME = "build_resnet_drfpn_backbone"
"""

from typing import Any

from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from drfpn.detectors.options import check_options
from drfpn.integrations.neck_weights import rename_detectron2_weights
from drfpn.necks import NECKS, ExtraConvs, Level, Neck
from drfpn.utils.choices import choose
from drfpn.utils.errors import UsageError
from drfpn.utils.packages import import_optional

_FEATURE = "drfpn.integrations.detectron2"
ShapeSpec = import_optional("detectron2.layers", feature=_FEATURE).ShapeSpec
CfgNode = import_optional("detectron2.config", feature=_FEATURE).CfgNode
BACKBONE_REGISTRY: Any = import_optional("detectron2.modeling", feature=_FEATURE).BACKBONE_REGISTRY
backbones = import_optional("detectron2.modeling.backbone", feature=_FEATURE)


def add_drfpn_config(cfg: Any) -> None:
    """Add the keys of this library to a config of detectron2.

    ``MODEL.DRFPN.NECK`` is the name of the neck in :data:`drfpn.necks.NECKS`, ``MODEL.DRFPN.OPTIONS`` holds options of
    the neck, such as ``{"convention": "paper"}``. Levels and width are those of ``MODEL.FPN``.

    Args:
        cfg: the config, a ``CfgNode``; changed in place.
    """
    cfg.MODEL.DRFPN = CfgNode({"NECK": "drfpn", "OPTIONS": CfgNode(new_allowed=True)})


class NeckBackbone(backbones.Backbone):  # type: ignore[name-defined]  # a class of an optional package
    """A backbone of detectron2 with a neck of this library, in place of detectron2's ``FPN``.

    Checkpoints of detectors with detectron2's ``FPN`` are loaded by their parameters' names. A DRFPN with its default
    options then computes the same levels, bit for bit, until it is trained.

    Args:
        bottom_up: the backbone.
        in_features: names of its maps that the neck reads, finest first.
        neck: the neck for the channels of these maps.
    """

    def __init__(self, bottom_up: Any, in_features: list[str], neck: Neck) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        self.bottom_up = bottom_up
        self.in_features = list(in_features)
        self.neck = neck
        levels = neck.out_levels(strides)
        self._out_feature_strides = {f"p{level.number}": level.stride for level in levels}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, neck.out_channels)
        self._size_divisibility = strides[-1]
        self._stages = {Level("", stride).number: index for index, stride in enumerate(strides)}
        self.register_load_state_dict_pre_hook(_rename_weights)

    @property
    def size_divisibility(self) -> int:
        """Height and width of images are padded to multiples of this, in pixels."""
        return int(self._size_divisibility)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output levels (N, C, H, W) by name, ``"p2"``, ``"p3"``, ..., of images (N, 3, H, W)."""
        maps = self.bottom_up(x)
        levels = self.neck([maps[name] for name in self.in_features])
        return dict(zip(self._out_features, levels, strict=True))


def build_resnet_drfpn_backbone(cfg: Any, input_shape: Any) -> NeckBackbone:
    """Build a ResNet with the neck ``MODEL.DRFPN.NECK`` and a max-pooled level behind it, for two-stage detectors.

    Args:
        cfg: the config.
        input_shape: ``ShapeSpec`` of the images.
    """
    return _build(cfg, input_shape, p6_p7=False)


def build_retinanet_resnet_drfpn_backbone(cfg: Any, input_shape: Any) -> NeckBackbone:
    """Build a ResNet with the neck ``MODEL.DRFPN.NECK`` and P6 and P7 made from C5, for RetinaNet.

    Args:
        cfg: the config.
        input_shape: ``ShapeSpec`` of the images.
    """
    return _build(cfg, input_shape, p6_p7=True)


for _builder in (build_resnet_drfpn_backbone, build_retinanet_resnet_drfpn_backbone):
    BACKBONE_REGISTRY.register(_builder)


def _build(cfg: Any, input_shape: Any, *, p6_p7: bool) -> NeckBackbone:
    for key, expected in (("NORM", ""), ("FUSE_TYPE", "sum")):
        value = getattr(cfg.MODEL.FPN, key, expected)
        if value != expected:
            raise UsageError(
                f"MODEL.FPN.{key} is {value!r}, expected {expected!r}: necks of drfpn do not have this key of FPN."
            )
    own = cfg.MODEL.get("DRFPN", {})
    name, options = own.get("NECK", "drfpn"), dict(own.get("OPTIONS", {}))
    neck_class = choose("MODEL.DRFPN.NECK", name, NECKS)
    check_options(options, f"option of the neck '{name}'", neck_class)
    bottom_up = backbones.build_resnet_backbone(cfg, input_shape)
    in_features, width = cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS
    channels = [bottom_up.output_shape()[feature].channels for feature in in_features]
    extra: ExtraFPNBlock = ExtraConvs(channels[-1], width, relu=True) if p6_p7 else LastLevelMaxPool()
    return NeckBackbone(bottom_up, in_features, neck_class(channels, width, extra, **options))


def _rename_weights(module: NeckBackbone, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_detectron2_weights(state_dict, prefix, module.neck, module._stages)
