import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from drfpn import build_detector
from drfpn.evaluation.flops import model_complexity
from drfpn.necks import AFPN
from drfpn.necks.afpn import ASFF, AFPNStage, Downsample, Upsample

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_authors_network() -> None:
    with torch.device("meta"):
        assert size(AFPN(R50)) == 11_392_069


def test_parameters_and_multiply_adds_of_a_detector_are_those_that_the_authors_report() -> None:
    """Faster R-CNN R50 at 640 x 640: 49.8 M and 89.7 G, 1.6 G less than with FPN; they count BatchNorm too."""
    with torch.device("meta"):
        afpn, fpn = (model_complexity(build_detector(f"faster_rcnn_r50_{neck}"), 640, 640) for neck in ("afpn", "fpn"))
    assert round(afpn.params / 1e6, 1) == 49.8
    assert afpn.macs / 1e9 == pytest.approx(89.7, rel=0.005)
    assert (fpn.macs - afpn.macs) / 1e9 == pytest.approx(91.3 - 89.7, abs=0.15)


def test_weights_of_each_pixel_sum_to_one() -> None:
    """So equal maps are unchanged, and a large bias selects one map."""
    fuse = ASFF(8, 3).eval()
    a, b, c = torch.randn(3, 2, 8, 5, 6).unbind()
    assert_close(fuse([a, a, a]), fuse.smooth(a))
    fuse.weigh.bias.data[1] = 1000
    assert_close(fuse([a, b, c]), fuse.smooth(b))


@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("hw", [(32, 40), (33, 47), (5, 1)])
def test_maps_of_any_level_are_resized_to_any_other(hw, rounded_up, pyramid_maps) -> None:
    levels = pyramid_maps((3, 4, 5, 6), *hw, rounded_up=rounded_up or hw[1] == 1)
    for i, source in enumerate(levels):
        for j, target in enumerate(levels):
            if i == j:
                continue
            n = source.shape[1], target.shape[1]
            resize = Upsample(*n) if i > j else Downsample(*n, stride=2 ** (j - i))
            assert resize(source, target).shape == target.shape


def test_downsampling_convolves_windows_that_do_not_overlap() -> None:
    down = Downsample(2, 3, stride=4).eval()
    conv, norm, _ = down.conv
    m, like = torch.randn(1, 2, 8, 12), torch.zeros(1, 3, 2, 3)
    windows = F.unfold(m, 4, stride=4)
    expected = (conv.weight.flatten(1) @ windows).view(1, 3, 2, 3)
    assert_close(down(m, like), norm(expected).relu())


def test_upsampling_is_bilinear_behind_a_projection() -> None:
    up = Upsample(4, 3).eval()
    m, like = torch.randn(1, 4, 3, 4), torch.zeros(1, 3, 9, 11)
    assert_close(up(m, like), F.interpolate(up.project(m), size=(9, 11), mode="bilinear"))


def test_a_stage_fuses_the_finest_levels_and_leaves_the_others_unchanged(pyramid_maps) -> None:
    levels = pyramid_maps((4, 6, 8, 10), 32, 48)
    stage = AFPNStage((4, 6), blocks=1).eval()
    out = stage(levels)
    assert [m.shape for m in out] == [m.shape for m in levels]
    assert out[2] is levels[2]
    assert out[3] is levels[3]
    first, second = stage.levels
    a, b = levels[:2]
    assert_close(out[0], first.blocks(first.fuse([a, first.resize[1](b, a)])))
    assert_close(out[1], second.blocks(second.fuse([second.resize[0](a, b), b])))


def test_the_coarsest_level_takes_part_from_the_last_stage_on(pyramid_maps) -> None:
    neck = AFPN((8, 16, 24, 32), 16, blocks=1)  # in evaluation mode the levels of an untrained neck are almost zero
    assert [len(stage.levels) for stage in neck.top_down] == [2, 3, 4]
    maps = pyramid_maps((8, 16, 24, 32), 32, 48)
    changed = [*maps[:3], torch.zeros_like(maps[3])]
    laterals = [[conv(m) for conv, m in zip([*neck.lateral, neck.top], c, strict=True)] for c in (maps, changed)]
    before = [neck.top_down[:2](levels)[0] for levels in laterals]
    assert_close(*before)
    assert not torch.allclose(neck(maps)[0], neck(changed)[0])


def test_initial_weights_are_small_and_initial_levels_are_not(pyramid_maps) -> None:
    """Xavier normal with gain 0.02; the norm behind each convolution rescales its output."""
    torch.manual_seed(0)
    neck = AFPN((8, 16, 24, 32), 16)
    for layer in neck.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 1000:
            fans = (layer.in_channels + layer.out_channels) * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx(0.02 * (2 / fans) ** 0.5, rel=0.15)
    assert all(0.4 < level.std() < 0.8 for level in neck(pyramid_maps((8, 16, 24, 32), 64, 96)))


def test_extra_blocks_are_not_initialized_again() -> None:
    """They have no norm that would rescale the output of small weights."""
    extra = LastLevelP6P7(16, 16)
    before = [p.clone() for p in extra.parameters()]
    AFPN((8, 16, 24, 32), 16, extra)
    assert_close(list(extra.parameters()), before)
