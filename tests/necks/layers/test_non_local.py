import torch
from torch import nn
from torch.testing import assert_close

from drfpn.necks.layers.non_local import Attention, NonLocal


def test_attention_is_a_softmax_over_all_pixels_without_a_scale() -> None:
    block = Attention(6, 4)
    for p in block.parameters():
        nn.init.normal_(p, std=0.5)
    x = torch.randn(2, 6, 5, 7)
    theta, phi, g = (conv(x).flatten(2) for conv in (block.theta, block.phi, block.g))
    weights = torch.einsum("ncq,nck->nqk", theta, phi).exp()
    mean = torch.einsum("nqk,nck->ncq", weights / weights.sum(-1, keepdim=True), g)
    assert_close(block(x), x + block.out(mean.unflatten(2, (5, 7))))


def test_attention_stays_in_full_precision_under_autocast() -> None:
    """Likenesses of hundreds: eight bits of mantissa would blur which pixel is the likest."""
    block = Attention(32, 32)
    for conv in (block.theta, block.phi, block.g, block.out):
        nn.init.dirac_(conv.weight)
    x = (8 * torch.randn(1, 32, 6, 6)).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        low = block(x)
    assert_close(low.float(), block(x), rtol=1e-2, atol=1e-2)


def test_non_local_starts_as_a_1x1_convolution_and_reduces_what_attention_adds_to(pyramid_maps) -> None:
    (c5,) = pyramid_maps((10,), 5, 7)
    block = NonLocal(10, 4)
    assert_close(block(c5), block.reduce(c5))
    for p in block.attention.parameters():
        nn.init.normal_(p, std=0.5)
    assert_close(block(c5), block.reduce(block.attention(c5)))
    assert (block(c5) - block.reduce(c5)).abs().max() > 0.1
