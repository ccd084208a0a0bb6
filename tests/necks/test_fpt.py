"""FPT's own: parameters, attention without a map of all pairs, and levels of any size."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from drfpn import build_detector
from drfpn.necks import FPT
from drfpn.necks.fpt import (
    SIMILARITIES,
    GroundingTransformer,
    RenderingTransformer,
    SelfTransformer,
    dot,
    euclidean,
    mixture_of_softmaxes,
)
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, loss_history

C = (4, 6, 8, 10)
WIDTH = 16


def test_parameters_follow_from_the_layers() -> None:
    """Those of the authors' classes but the two layers of RT that nothing reads (196,608 in each of six)."""
    c, half, norm = 256, 128, 2 * 256
    own = 2 * (c * c + c) + 2 * c + c * c + norm
    grounding = 3 * (c * half + half) + half * c + c + norm
    rendering = c * c + 2 * 9 * c * c + 3 * norm
    merge = 5 * c * c * 9 + c
    lateral = sum(channels * c + c for channels in (256, 512, 1024, 2048))
    assert (own, grounding, rendering) == (198_144, 132_224, 1_443_328 - 196_608)
    expected = 4 * own + 6 * grounding + 6 * rendering + 4 * merge + lateral
    with torch.device("meta"):
        pyramid = FPT([256, 512, 1024, 2048])
    assert sum(p.numel() for p in pyramid.parameters()) == expected == 21_847_808


def tensors(keys: int = 15) -> tuple[torch.Tensor, ...]:
    return torch.randn(2, 24, 8), torch.randn(2, keys, 8), torch.randn(2, keys, 8)


def test_the_mixture_is_that_of_naive_softmaxes() -> None:
    q, k, v = tensors()
    shares = torch.rand(2, 2).softmax(-1)
    expected = sum(
        shares[:, i, None, None] * ((0.3 * a @ b.transpose(1, 2)).softmax(-1) @ v)
        for i, (a, b) in enumerate(zip(q.split(4, -1), k.split(4, -1), strict=True))
    )
    assert_close(mixture_of_softmaxes(q, k, v, shares, 0.3), expected)


def test_the_euclidean_form_is_a_softmax_over_squared_distances() -> None:
    q, k, v = tensors()
    assert_close(euclidean(q, k, v), (-torch.cdist(q, k).square()).softmax(-1) @ v, rtol=1e-4, atol=1e-5)


def test_the_linear_form_is_the_product_of_all_pairs() -> None:
    q, k, v = tensors()
    assert_close(dot(q, k, v), q @ k.transpose(1, 2) / 15 @ v, rtol=1e-4, atol=1e-5)


def test_half_precision_keeps_the_euclidean_form() -> None:
    q, k, v = (x.bfloat16() for x in tensors())
    with torch.autocast("cpu", torch.bfloat16):
        out = euclidean(q, k + 20, v)
    expected = euclidean(q.float(), (k + 20).float(), v.float())
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_attention_needs_no_map_of_all_pairs(similarity, pyramid_maps) -> None:
    """The kernel that makes none is the only one allowed: it refuses what it cannot take."""
    pyramid = FPT(C, WIDTH, similarity=similarity)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        sum(m.square().mean() for m in pyramid(pyramid_maps(C))).backward()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_shapes_alone_can_be_computed(similarity, pyramid_maps) -> None:
    """As the count of multiply-adds does."""
    maps = [m.to("meta") for m in pyramid_maps(C)]
    out = FPT(C, WIDTH, similarity=similarity).to("meta")(maps)
    assert [m.shape[-2:] for m in out] == [m.shape[-2:] for m in maps]


@pytest.mark.parametrize("size", [(25, 42), (1, 1), (8, 3)])
def test_the_self_transformer_by_hand(size) -> None:
    block = SelfTransformer(WIDTH)
    m = torch.randn(2, WIDTH, *size)
    asked, value = block.query_key(m), block.value(m)
    shares = (asked.mean((2, 3)) @ block.shares.weight.T).softmax(-1)
    key, value = (F.avg_pool2d(x, 3, 2, 1, count_include_pad=False).flatten(2) for x in (asked, value))
    mixed = sum(
        shares[:, i, None, None] * (a.transpose(1, 2) @ b / WIDTH**0.5).softmax(-1)
        for i, (a, b) in enumerate(zip(asked.flatten(2).split(8, 1), key.split(8, 1), strict=True))
    )
    mean = (mixed @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, m.shape[-2:])
    assert_close(block(m), m + block.out(mean), rtol=1e-4, atol=1e-5)


def test_the_grounding_transformer_begins_silent_and_the_rendering_gate_is_its_channels_mean() -> None:
    fine, coarse = torch.randn(2, WIDTH, 9, 7), torch.randn(2, WIDTH, 3, 2)
    assert not GroundingTransformer(WIDTH, dot)(fine, coarse).any()
    block = RenderingTransformer(WIDTH)
    gate = block.gate(fine.mean((2, 3), keepdim=True))
    detail = block.down(F.avg_pool2d(fine, 2, ceil_mode=True))
    assert_close(block(coarse, fine, 2), F.relu(gate * block.refine(coarse) + detail[..., :2]))


@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("size", [(32, 48), (75, 53), (8, 8), (9, 100)])
@pytest.mark.parametrize("channels", [C, C[1:]])
def test_any_sizes_that_halve_keep_names_and_sizes(channels, size, rounded_up, pyramid_maps) -> None:
    maps = dict(zip("0123", pyramid_maps(channels, *size, rounded_up=rounded_up), strict=False))
    out = FPT(channels, WIDTH)(maps)
    assert {name: m.shape for name, m in out.items()} == {name: (2, WIDTH, *m.shape[-2:]) for name, m in maps.items()}
    assert all(m.isfinite().all() for m in out.values())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("size", [(32, 48), (8, 8)], ids=["usual", "one pixel on top"])
def test_every_parameter_gets_a_gradient_after_one_step_with_a_batch_of_one(similarity, size, pyramid_maps) -> None:
    pyramid = FPT(C, WIDTH, similarity=similarity).train()
    optimizer = torch.optim.SGD(pyramid.parameters(), lr=0.01)
    for seed in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in pyramid(pyramid_maps(C, *size, batch=1, seed=seed))).backward()
        optimizer.step()
    without = [name for name, p in pyramid.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == [] or size == (8, 8)  # over one key there is nothing to choose
    assert all(p.grad.isfinite().all() for p in pyramid.parameters())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_bfloat16_autocast_runs_both_ways(similarity, pyramid_maps) -> None:
    pyramid = FPT(C, WIDTH, similarity=similarity)
    exact = pyramid(pyramid_maps(C))
    with torch.autocast("cpu", torch.bfloat16):
        out = pyramid(pyramid_maps(C))
    for low, high in zip(out, exact, strict=True):
        assert (low.float() - high).std() < 0.05 * high.std()
    sum(m.float().sum() for m in out).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pyramid.parameters())


@pytest.mark.parametrize(
    ("options", "said"), [({"out_channels": 20}, "multiple of 16"), ({"similarity": "eucl"}, "Did you mean 'euclid")]
)
def test_what_it_cannot_be_made_of_is_said(options, said) -> None:
    with pytest.raises(UserError, match=said):
        FPT(C, **{"out_channels": WIDTH} | options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_learns_two_images_by_heart(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    options |= {"frozen_stages": -1, "norm_eval": False}
    history = loss_history(build_detector(f"{name}_lite0_fpt", 3, **SMALL[name], **options).train(), steps=8)
    assert min(history) < 0.8 * history[0], history
