import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from drfpn.necks import FaPN
from drfpn.necks.fapn import FeatureAlignment, FeatureSelection, UnalignedAdd
from drfpn.necks.layers.dcn import OFFSET_UNIT
from drfpn.utils.errors import UsageError

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_authors_network() -> None:
    with torch.device("meta"):
        assert size(FaPN(R50)) == 7_786_888
        assert size(FeatureSelection(1024, 256)) == 1024 * 1024 + 1024 * 256
        assert size(FeatureAlignment(256)) == 512 * 256 + (9 * 256 * 216 + 216) + (9 * 256 * 256 + 256)


def test_selection_gates_each_channel_by_its_average(pyramid_maps) -> None:
    (c,) = pyramid_maps((6,), 5, 7)
    block = FeatureSelection(6, 8)
    weight = block.gate(c.mean(dim=(2, 3), keepdim=True)).sigmoid()
    assert_close(block(c), F.conv2d(c * (1 + weight), block.reduce.weight))
    nn.init.zeros_(block.gate.weight)
    assert_close(block(c), 1.5 * block.reduce(c))


@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_alignment_starts_as_half_a_convolution_of_the_upsampled_map(hw, rounded_up, pyramid_maps) -> None:
    """Offsets are 0, modulation weights sigmoid(0)."""
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    block = FeatureAlignment(8)
    nn.init.normal_(block.align.bias)
    upsampled = F.interpolate(coarse, size=hw, mode="bilinear")
    convolved = F.conv2d(upsampled, block.align.weight / 2, block.align.bias, padding=1)
    assert_close(block(fine, coarse), fine + convolved.relu())


def test_points_are_moved_by_the_offsets_and_weighted_by_the_modulation(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    offset, weight = block.offset.bias.data.split(block.split_sizes)
    offset.view(8, 9, 2)[:] = torch.tensor([0.0, 1.0]) / OFFSET_UNIT  # (y, x): every point one pixel to the right
    weight.fill_(100)
    upsampled = F.pad(F.interpolate(coarse, scale_factor=2, mode="bilinear"), (0, 1))[..., 1:]
    convolved = F.conv2d(upsampled, block.align.weight, padding=1).relu()
    assert_close((block(fine, coarse) - fine)[..., 1:-1], convolved[..., 1:-1], rtol=1e-4, atol=1e-5)


def test_without_offsets_it_equals_alignment_with_zero_offsets(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((16, 16), 10, 13, dtype=torch.float64)
    aligned, unaligned = FeatureAlignment(16).double(), UnalignedAdd(16).double()
    for parameter in unaligned.parameters():
        nn.init.normal_(parameter, std=0.3)
    aligned.guide.load_state_dict(unaligned.guide.state_dict())
    aligned.align.load_state_dict(unaligned.align.state_dict())
    aligned.offset.weight.data[aligned.split_sizes[0] :] = unaligned.weight.weight
    aligned.offset.bias.data[aligned.split_sizes[0] :] = unaligned.weight.bias
    assert_close(unaligned(fine, coarse), aligned(fine, coarse))
    assert isinstance(FaPN((4, 6), 8, offsets=False).top_down.steps[0], UnalignedAdd)


def test_offsets_are_predicted_from_the_fine_map_and_twice_the_coarse_one(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    nn.init.normal_(block.offset.weight, std=0.3)
    inputs_of_offset = []
    block.offset.register_forward_hook(lambda _, inputs, __: inputs_of_offset.append(inputs[0]))
    block(fine, coarse)
    both = torch.cat([fine, 2 * F.interpolate(coarse, scale_factor=2, mode="bilinear")], dim=1)
    assert_close(inputs_of_offset[0], F.conv2d(both, block.guide.weight))


def test_the_coarsest_level_is_a_1x1_convolution_and_steps_read_levels_before_their_3x3(pyramid_maps) -> None:
    channels = (4, 6, 10)
    neck = FaPN(channels, 8)
    c = pyramid_maps(channels, 21, 34)
    p = neck.top(c[2])
    expected = [p]
    for i in (1, 0):
        p = neck.top_down.steps[i](neck.lateral[i](c[i]), p)
        expected.insert(0, neck.smooth[i](p))
    assert_close(neck(c), expected)


def test_nan_offsets_give_nan(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 10, 12)
    block = FeatureAlignment(8)
    nn.init.normal_(block.offset.weight)
    fine[0, 0, 5, 5] = torch.nan
    out = block(fine, coarse)
    assert out[0, :, 4:7, 4:7].isnan().all()
    assert out[1].isfinite().all()
    out.nansum().backward()


def test_channels_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(UsageError, match="a multiple of its 8 groups, not 12"):
        FaPN((4, 6), 12)
