import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from drfpn.necks import FaPN
from drfpn.necks.fapn import FeatureAlignment, FeatureSelection, UnalignedAddition
from drfpn.necks.fpn_dcn import OFFSET_UNIT
from drfpn.utils.errors import UserError

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_authors_network() -> None:
    with torch.device("meta"):
        assert size(FaPN(R50)) == 7_786_888
        assert size(FeatureSelection(1024, 256)) == 1024 * 1024 + 1024 * 256
        assert size(FeatureAlignment(256)) == 512 * 256 + (9 * 256 * 216 + 216) + (9 * 256 * 256 + 256)


def test_selection_adds_each_channel_again_by_its_average(pyramid_maps) -> None:
    (c,) = pyramid_maps((6,), 5, 7)
    block = FeatureSelection(6, 8)
    weight = block.gate(c.mean(dim=(2, 3), keepdim=True)).sigmoid()
    assert_close(block(c), F.conv2d(c * (1 + weight), block.reduce.weight))
    nn.init.zeros_(block.gate.weight)
    assert_close(block(c), 1.5 * block.reduce(c))


@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_alignment_begins_as_half_a_convolution_of_the_upsampled_map(hw, rounded_up, pyramid_maps) -> None:
    """No point moves, and each counts sigmoid(0)."""
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    block = FeatureAlignment(8)
    nn.init.normal_(block.align.bias)
    upsampled = F.interpolate(coarse, size=hw, mode="bilinear")
    convolved = F.conv2d(upsampled, block.align.weight / 2, block.align.bias, padding=1)
    assert_close(block(fine, coarse), fine + convolved.relu())


def test_a_point_reads_where_it_is_told_and_counts_what_it_is_told(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    offset, weight = block.offset.bias.data.split(block.counts)
    offset.view(8, 9, 2)[:] = torch.tensor([0.0, 1.0]) / OFFSET_UNIT  # (y, x): every point one pixel to the right
    weight.fill_(100)
    upsampled = F.pad(F.interpolate(coarse, scale_factor=2, mode="bilinear"), (0, 1))[..., 1:]
    convolved = F.conv2d(upsampled, block.align.weight, padding=1).relu()
    assert_close((block(fine, coarse) - fine)[..., 1:-1], convolved[..., 1:-1], rtol=1e-4, atol=1e-5)


def test_without_offsets_it_is_alignment_whose_offsets_are_zero(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 10, 13, dtype=torch.float64)
    aligned, still = FeatureAlignment(16).double(), UnalignedAddition(16).double()
    for parameter in still.parameters():
        nn.init.normal_(parameter, std=0.3)
    aligned.guide.load_state_dict(still.guide.state_dict())
    aligned.align.load_state_dict(still.align.state_dict())
    aligned.offset.weight.data[aligned.counts[0] :] = still.weight.weight
    aligned.offset.bias.data[aligned.counts[0] :] = still.weight.bias
    assert_close(still(fine, coarse), aligned(fine, coarse))
    assert isinstance(FaPN((4, 6), 8, offsets=False).top_down.steps[0], UnalignedAddition)


def test_what_predicts_the_offsets_reads_the_fine_map_and_twice_the_coarse_one(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    nn.init.normal_(block.offset.weight, std=0.3)
    seen = []
    block.offset.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    block(fine, coarse)
    both = torch.cat([fine, 2 * F.interpolate(coarse, scale_factor=2, mode="bilinear")], dim=1)
    assert_close(seen[0], F.conv2d(both, block.guide.weight))


def test_the_coarsest_level_is_a_1x1_convolution_and_others_hand_on_what_comes_before_their_3x3(pyramid_maps) -> None:
    channels = (4, 6, 10)
    pyramid = FaPN(channels, 8)
    c = pyramid_maps(channels, 21, 34)
    p = pyramid.top(c[2])
    expected = [p]
    for i in (1, 0):
        p = pyramid.top_down.steps[i](pyramid.lateral[i](c[i]), p)
        expected.insert(0, pyramid.smooth[i](p))
    assert_close(pyramid(c), expected)


def test_an_offset_that_is_no_number_shows_in_the_result(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    nn.init.normal_(block.offset.weight)
    fine[0, 0, 5, 5] = torch.nan
    out = block(fine, coarse)
    assert out[0, :, 4:7, 4:7].isnan().all()
    assert out[1].isfinite().all()
    out.nansum().backward()


def test_channels_that_cannot_be_grouped_are_named() -> None:
    with pytest.raises(UserError, match="8 groups of channels, of which 12 is no multiple"):
        FaPN((4, 6), 12)
