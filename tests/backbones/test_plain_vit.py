"""Plain backbones: one map of a ViT for all levels."""

import pytest
import timm
import torch
from torch.testing import assert_close

from drfpn.backbones import PlainBackbone, TimmBackbone
from drfpn.utils.errors import UsageError, UserError

TINY = "vit_tiny_patch16_224"


@pytest.mark.parametrize(("size", "grid"), [((96, 160), (6, 10)), ((70, 33), (5, 3))])
def test_the_map_of_any_size_is_returned_once_for_each_level(size, grid) -> None:
    backbone = PlainBackbone(TINY).eval()
    maps = backbone(torch.rand(1, 3, *size))
    assert list(maps) == backbone.names == ["0", "1", "2", "3"]
    assert backbone.strides == (16, 16, 16, 16)
    assert backbone.channels == [192] * 4
    assert {tuple(m.shape) for m in maps.values()} == {(1, 192, *grid)}
    three = PlainBackbone(TINY, levels=3)
    assert (three.names, three.strides, three.channels) == (["1", "2", "3"], (16, 16, 16), [192] * 3)


def test_the_map_is_timms_last_block_before_the_norm(tmp_path) -> None:
    whole = timm.create_model(TINY).eval()
    torch.save(whole.state_dict(), tmp_path / "vit.pth")
    image = torch.rand(1, 3, 224, 224)
    expected = whole.forward_intermediates(image, indices=1, intermediates_only=True)[0]
    assert_close(PlainBackbone(TINY, tmp_path / "vit.pth").eval()(image)["2"], expected)


@pytest.mark.parametrize(("stages", "blocks"), [(-1, 0), (0, 0), (1, 3), (2, 6), (4, 12)])
def test_frozen_stages_are_the_embeddings_and_quarters_of_the_blocks(stages, blocks) -> None:
    model = PlainBackbone(TINY, frozen_stages=stages).body.model
    assert model.pos_embed.requires_grad is (stages < 0)
    assert model.patch_embed.proj.weight.requires_grad is (stages < 0)
    trained = [all(p.requires_grad for p in block.parameters()) for block in model.blocks]
    assert trained == [i >= blocks for i in range(12)]


def test_every_trained_parameter_gets_a_gradient() -> None:
    backbone = PlainBackbone(TINY, frozen_stages=-1).train()
    backbone(torch.rand(1, 3, 64, 96))["0"].square().mean().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["r50", "vit_small_patch32_224", "vit_small_patch14_dinov2", "vit_smal", "swin_tiny"])
def test_other_models_than_plain_vits_are_refused(name) -> None:
    with pytest.raises(UserError, match=f"'{name}' is no plain ViT .* patches of 16") as caught:
        PlainBackbone(name)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("options", "message"), [({"frozen_stages": 5}, "must be -1"), ({"weights": "pypi"}, "lite0 only")]
)
def test_wrong_options_are_refused(options, message) -> None:
    with pytest.raises(UserError, match=message):
        PlainBackbone(TINY, **options)


@pytest.mark.parametrize("name", ["vit_s", TINY])
def test_the_message_about_a_vit_without_strides_names_simple_fpn(name) -> None:
    with pytest.raises(UserError, match=r"strides \[16\].*use the neck simple_fpn"):
        TimmBackbone(name)
