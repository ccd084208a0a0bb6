import sys
from importlib import import_module

import pytest
import torch

from drfpn.necks import FPN as OurFPN
from drfpn.utils.errors import UsageError, UserError
from tests.integrations.detectron2_stand_in import FPN, CfgNode, TinyResNet, modules

TWO_STAGE, RETINANET = "build_resnet_drfpn_backbone", "build_retinanet_resnet_drfpn_backbone"
LEVELS = {TWO_STAGE: ["res2", "res3", "res4", "res5"], RETINANET: ["res3", "res4", "res5"]}


@pytest.fixture
def integration(monkeypatch):
    monkeypatch.delitem(sys.modules, "drfpn.integrations.detectron2", raising=False)
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield import_module("drfpn.integrations.detectron2")
    sys.modules.pop("drfpn.integrations.detectron2")


@pytest.fixture
def build(integration):
    def build(name: str = TWO_STAGE, **keys):
        fpn = CfgNode({"IN_FEATURES": LEVELS[name], "OUT_CHANNELS": 8, "NORM": "", "FUSE_TYPE": "sum"})
        cfg = CfgNode({"MODEL": CfgNode({"FPN": fpn})})
        integration.add_drfpn_config(cfg)
        for key, value in keys.items():
            section, _, last = key.partition("_")
            cfg.MODEL[section][last] = value
        return integration.BACKBONE_REGISTRY[name](cfg, None)

    return build


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        (TWO_STAGE, {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}),
        (RETINANET, {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}),
    ],
)
def test_a_backbone_is_registered_whose_levels_have_detectron2s_names_and_strides(build, name, strides) -> None:
    backbone = build(name)
    assert {level: shape.stride for level, shape in backbone.output_shape().items()} == strides
    assert {shape.channels for shape in backbone.output_shape().values()} == {8}
    assert backbone.size_divisibility == 32
    levels = backbone(torch.rand(1, 3, 128, 256))
    assert {level: tuple(m.shape) for level, m in levels.items()} == {
        level: (1, 8, 128 // stride, 256 // stride) for level, stride in strides.items()
    }


@pytest.mark.parametrize("name", [TWO_STAGE, RETINANET])
@pytest.mark.parametrize("neck", ["drfpn", "fpn"])
def test_a_neck_loaded_from_detectron2s_fpn_computes_its_levels_bit_for_bit(build, name, neck) -> None:
    trained = FPN(TinyResNet(), LEVELS[name], 8, p6_p7=name == RETINANET)
    backbone = build(name, DRFPN_NECK=neck)
    missing, unexpected = backbone.load_state_dict(trained.state_dict(), strict=False)
    assert unexpected == []
    assert (missing == []) == (neck == "fpn")
    images = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(backbone(images), trained(images), rtol=0, atol=0)


def test_its_own_weights_are_loaded_again(build) -> None:
    first, second = build(), build()
    second.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(first(images), second(images), rtol=0, atol=0)


def test_neck_and_options_are_keys_of_the_config(build) -> None:
    assert isinstance(build(DRFPN_NECK="fpn").neck, OurFPN)
    paper = build(DRFPN_OPTIONS={"convention": "paper", "context": None})
    assert "top.weight" in paper.neck.state_dict()
    with pytest.raises(UsageError, match=r"'contxt' is not an option of the neck 'drfpn'.* Did you mean 'context'"):
        build(DRFPN_OPTIONS={"contxt": None})


@pytest.mark.parametrize("key", [{"FPN_NORM": "GN"}, {"FPN_FUSE_TYPE": "avg"}])
def test_keys_of_fpn_without_a_counterpart_are_refused(build, key) -> None:
    with pytest.raises(UsageError, match=rf"MODEL.{next(iter(key)).replace('_', '.', 1)} is .*, expected "):
        build(**key)


@pytest.mark.parametrize("package", ["detectron2", "mmdet"])
def test_a_missing_framework_is_named_with_the_command_that_installs_it(monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"drfpn.integrations.{package}", raising=False)
    with pytest.raises(UserError, match=f"drfpn.integrations.{package} needs the package {package}.*not installed"):
        import_module(f"drfpn.integrations.{package}")
