"""`out_levels`: names and strides of the output levels of necks."""

import pytest
import torch
from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from drfpn.backbones import TimmBackbone
from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.necks import CARAFE, FPN, NECKS, ExtraConvs, Level
from drfpn.utils.errors import UsageError

IMAGE = (256, 384)
EXTRA_BLOCKS = {
    "none": lambda channels: None,
    "pool": lambda channels: LastLevelMaxPool(),
    "torchvision's p6, p7 from p5": lambda channels: LastLevelP6P7(16, 16),
    "torchvision's p6, p7 from c5": lambda channels: LastLevelP6P7(channels, 16),
    "p6, p7 from c5": lambda channels: ExtraConvs(channels, 16),
    "p6, p7 from p5": lambda channels: ExtraConvs(16, 16, source="output"),
}


@pytest.mark.parametrize("extra", EXTRA_BLOCKS)
@pytest.mark.parametrize("maps_used", [4, 3])
@pytest.mark.parametrize("name", [*NECKS, "carafe, mmdet"])
def test_out_levels_are_the_names_and_strides_of_the_real_levels(name, maps_used, extra) -> None:
    strides = NECKS[name.split(",")[0]].backbone_strides[-maps_used:]
    options = {"layout": "mmdet"} if name == "carafe, mmdet" else {}
    neck = NECKS[name.split(",")[0]]((8,) * len(strides), 16, EXTRA_BLOCKS[extra](8), **options).eval()
    in_strides = {f"c{i}": stride for i, stride in enumerate(strides)}
    maps = {key: torch.zeros(1, 8, IMAGE[0] // stride, IMAGE[1] // stride) for key, stride in in_strides.items()}
    with torch.no_grad():
        levels = neck(maps)
        in_order = neck(list(maps.values()))
    out_levels = neck.out_levels(in_strides)
    assert [level.name for level in out_levels] == list(levels)
    expected = [(IMAGE[0] // level.stride, IMAGE[1] // level.stride) for level in out_levels]
    assert [tuple(level.shape[-2:]) for level in levels.values()] == expected
    out_strides = [level.stride for level in neck.out_levels(list(strides))]
    assert [IMAGE[0] // stride for stride in out_strides] == [level.shape[-2] for level in in_order]


def test_levels_of_a_sequence_of_maps_are_named_by_index() -> None:
    assert FPN((4, 6), 8, LastLevelMaxPool()).out_levels([8, 16]) == [Level("0", 8), Level("1", 16), Level("pool", 32)]


def test_a_custom_extra_block_needs_level_names() -> None:
    class Custom(ExtraFPNBlock):
        pass

    neck = FPN((4, 6), 8, Custom())
    with pytest.raises(UsageError, match="Custom adds are not known: set its attribute `level_names`"):
        neck.out_levels([4, 8])
    Custom.level_names = ("p6",)
    assert neck.out_levels([4, 8])[-1] == Level("p6", 16)
    assert CARAFE((4, 6), 8, Custom(), layout="mmdet").out_levels([4, 8])[-1] == Level("p6", 16)


def test_a_neck_keeps_unused_extra_blocks_without_their_parameters() -> None:
    block = ExtraConvs(6, 8)
    neck = NECKS["bifpn"]((4, 6), 8, block)
    assert neck.given_extra_blocks is block
    assert neck.extra_blocks is None
    assert not any(parameter is block.p6.weight for parameter in neck.parameters())
    assert FPN((4, 6), 8, block).extra_blocks is block


class CustomNeck(nn.Module):
    """A module that is no ``Neck``, with other names and sizes."""

    def forward(self, maps):
        fine = maps["3"]
        return {"a": fine, "b": fine[..., ::2, ::2]}


def test_levels_of_a_custom_module_are_measured() -> None:
    backbone = BackboneWithNeck(TimmBackbone("lite0"), CustomNeck(), 320)
    assert backbone.out_levels() == [Level("a", 32), Level("b", 64)]
