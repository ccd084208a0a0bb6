import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.necks import FPN, FreqFusion
from drfpn.necks.freqfusion import FrequencyAwareAdd, KernelPredictor, low_pass, sharpen, similarity, upsample
from drfpn.utils.errors import UsageError

R50 = (256, 512, 1024, 2048)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_are_those_of_the_authors_network() -> None:
    with torch.device("meta"):
        assert size(FrequencyAwareAdd(256)) == 104_690
        assert size(FreqFusion(R50)) - size(FPN(R50)) == 314_070


def test_kernels_start_as_their_window_and_sum_to_one() -> None:
    kernels = KernelPredictor(4, 5)
    encoded = torch.zeros(1, 25, 2, 3)
    window = torch.hamming_window(5, periodic=False)
    expected = torch.outer(window, window).flatten() / window.sum() ** 2
    assert_close(kernels.normalize(encoded), expected[:, None, None].expand(1, 25, 2, 3))
    assert_close(kernels.normalize(torch.randn(2, 25, 4, 4)).sum(dim=1), torch.ones(2, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert kernels.normalize(kernels.encode(torch.randn(1, 4, 5, 5))).dtype == torch.float32


def test_low_pass_weights_the_neighbors_of_each_pixel_and_repeats_the_border() -> None:
    m, kernels = torch.randn(2, 3, 5, 7), torch.randn(2, 9, 5, 7)
    neighbors = F.unfold(F.pad(m, (1, 1, 1, 1), mode="replicate"), 3).view(2, 3, 9, 5, 7)
    assert_close(low_pass(m, kernels), (neighbors * kernels[:, None]).sum(dim=2))


def test_sharpening_with_an_identity_kernel_changes_nothing() -> None:
    m = torch.randn(2, 3, 5, 7)
    kernels = torch.zeros(2, 9, 5, 7)
    kernels[:, 4] = 1
    assert_close(sharpen(m, kernels), m)


def test_similarity_is_the_cosine_with_neighbors_two_pixels_away() -> None:
    m = torch.randn(1, 16, 8, 9)
    actual = similarity(m)
    assert actual.shape == (1, 8, 8, 9)
    pixel = m[0, :, 4, 4]
    neighbors = [(dy, dx) for dy in (-2, 0, 2) for dx in (-2, 0, 2) if (dy, dx) != (0, 0)]
    expected = [F.cosine_similarity(pixel, m[0, :, 4 + dy, 4 + dx], dim=0) for dy, dx in neighbors]
    assert_close(actual[0, :, 4, 4], torch.stack(expected))
    assert not actual[0, 0, :2].any()  # neighbors outside of the map


@pytest.mark.parametrize("hw", [(12, 16), (9, 14), (1, 3)])
@pytest.mark.parametrize("rounded_up", [True, False])
def test_it_starts_as_fixed_filters(hw, rounded_up, pyramid_maps) -> None:
    """2 f - low_pass(f) with the 3x3 window, and the coarse map with the 5x5 window, upsampled by nearest neighbor."""
    fine, coarse = pyramid_maps((8, 8), *hw, rounded_up=rounded_up or hw[0] == 1)
    step = FrequencyAwareAdd(8)
    for conv in (step.low.encode, step.high.encode, step.resample.offset_fine, step.resample.offset_coarse):
        nn.init.zeros_(conv.weight)

    def filtered(m: torch.Tensor, k: int, **padding: str) -> torch.Tensor:
        window = torch.hamming_window(k, periodic=False)
        kernel = (torch.outer(window, window) / window.sum() ** 2).expand(8, 1, k, k)
        return F.conv2d(F.pad(m, (k // 2,) * 4, **padding), kernel, groups=8)

    upsampled = F.pad(F.interpolate(filtered(coarse, 5), scale_factor=2), (0, 1, 0, 1), mode="replicate")
    expected = 2 * fine - filtered(fine, 3, mode="replicate") + upsampled[..., : hw[0], : hw[1]]
    assert_close(step(fine, coarse), expected)


def test_a_positive_offset_samples_to_the_right(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((8, 8), 12, 16)
    step = FrequencyAwareAdd(8)
    unmoved = step.resample(fine, *[torch.zeros(2, 64, h, w) for h, w in ((12, 16), (6, 8))])
    assert_close(unmoved, fine)
    step.resample.offset_fine.bias.data.view(4, 2)[:, 0] = 2  # times sigmoid(0): one pixel to the right
    moved = step.resample(fine, *[torch.zeros(2, 64, h, w) for h, w in ((12, 16), (6, 8))])
    assert_close(moved[..., :-1], fine[..., 1:])
    assert coarse.shape[-1] == 8


def test_upsampled_maps_have_the_size_of_the_kernels() -> None:
    m = torch.randn(1, 2, 3, 4)
    for height, width in ((6, 8), (5, 7), (7, 9), (6, 7)):
        kernels = torch.zeros(1, 25, height, width)
        kernels[:, 12] = 1
        rows, columns = (torch.arange(n) // 2 for n in (height, width))
        expected = m[:, :, rows.clamp(max=2)][..., columns.clamp(max=3)]
        assert_close(upsample(m, kernels), expected)


def test_it_passes_gradcheck(pyramid_maps) -> None:
    step = FrequencyAwareAdd(4, compressed=8, groups=2).double()
    for parameter in step.parameters():
        nn.init.normal_(parameter, std=0.3)
    maps = [m.requires_grad_() for m in pyramid_maps((4, 4), 7, 6, batch=1, dtype=torch.float64)]
    assert gradcheck(step, maps, fast_mode=True)


def test_channels_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(UsageError, match="a multiple of its 4 groups, not 10"):
        FreqFusion((4, 6), 10)
