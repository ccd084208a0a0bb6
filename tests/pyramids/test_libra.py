import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drfpn import FPN
from drfpn.pyramids import ExtraConvs, LibraFPN
from drfpn.pyramids.libra import Attention, BalancedFeatures

C = (4, 6, 8, 10)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_adds_four_1x1_convolutions_to_fpn() -> None:
    r50 = (256, 512, 1024, 2048)
    with torch.device("meta"):
        assert size(LibraFPN(r50)) - size(FPN(r50)) == 263_168


def test_it_begins_as_fpn_plus_the_mean_of_all_levels(pyramid_maps) -> None:
    """Against the library's pooling; P3 and P4 do not divide by the coarser levels here."""
    maps = pyramid_maps(C, 37, 50)
    libra = LibraFPN(C, 8, LastLevelMaxPool())
    fpn = FPN(C, 8, LastLevelMaxPool())
    fpn.load_state_dict(libra.state_dict(), strict=False)
    levels = fpn(maps)
    size = levels[2].shape[-2:]
    mean = sum(F.adaptive_max_pool2d(m, size) for m in levels[:2]) / 5
    mean = mean + sum(F.interpolate(m, size=size) for m in levels[2:]) / 5
    scattered = [F.interpolate(mean, size=m.shape[-2:]) for m in levels[:2]]
    scattered += [F.adaptive_max_pool2d(mean, m.shape[-2:]) for m in levels[2:]]
    out = libra(maps)
    assert len(out) == 5  # the pooled level takes part
    assert_close([a - b for a, b in zip(out, levels, strict=True)], scattered)


def test_the_mean_has_the_size_of_p4_in_both_kinds_of_detectors() -> None:
    assert LibraFPN(C, 8, LastLevelMaxPool()).refine.gather == 2  # of P2..P6
    assert LibraFPN(C[1:], 8, ExtraConvs(10, 8)).refine.gather == 1  # of P3..P7


def test_attention_is_a_softmax_over_all_pixels_without_a_scale() -> None:
    block = Attention(6)
    for p in block.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(2, 6, 5, 7)
    theta, phi, g = (conv(x).flatten(2) for conv in (block.theta, block.phi, block.g))
    weights = torch.einsum("ncq,nck->nqk", theta, phi).exp()
    mean = torch.einsum("nqk,nck->ncq", weights / weights.sum(-1, keepdim=True), g)
    assert_close(block(x), x + block.out(mean.unflatten(2, (5, 7))))


def test_attention_stays_in_full_precision_under_autocast() -> None:
    """Likenesses of hundreds: eight bits of mantissa would blur which pixel is the likest."""
    block = Attention(32)
    for conv in (block.theta, block.phi, block.g, block.out):
        nn.init.dirac_(conv.weight)
    x = (8 * torch.randn(1, 32, 6, 6)).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        low = block(x)
    assert_close(low.float(), block(x), rtol=1e-2, atol=1e-2)


def test_levels_of_equal_content_stay_equal() -> None:
    levels = [torch.full((1, 3, side, side), 2.0) for side in (16, 8, 4, 2, 1)]
    out = BalancedFeatures(3, gather=2)(levels)
    assert_close(out, [2 * m for m in levels])
