"""FPT: parameters, its attention functions, and detectors."""

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
from drfpn.utils.errors import UsageError
from tests.detectors.scenes import SMALL, loss_history

C = (4, 6, 8, 10)
WIDTH = 16


def test_parameters_are_the_sum_of_its_layers() -> None:
    """Those of the authors' classes without the two unused layers of RT (196,608 parameters in each of six)."""
    c, half, norm = 256, 128, 2 * 256
    own = 2 * (c * c + c) + 2 * c + c * c + norm
    grounding = 3 * (c * half + half) + half * c + c + norm
    rendering = c * c + 2 * 9 * c * c + 3 * norm
    merge = 5 * c * c * 9 + c
    lateral = sum(channels * c + c for channels in (256, 512, 1024, 2048))
    assert (own, grounding, rendering) == (198_144, 132_224, 1_443_328 - 196_608)
    expected = 4 * own + 6 * grounding + 6 * rendering + 4 * merge + lateral
    with torch.device("meta"):
        neck = FPT([256, 512, 1024, 2048])
    assert sum(p.numel() for p in neck.parameters()) == expected == 21_847_808


def tensors(keys: int = 15) -> tuple[torch.Tensor, ...]:
    return torch.randn(2, 24, 8), torch.randn(2, keys, 8), torch.randn(2, keys, 8)


def test_the_mixture_of_softmaxes_equals_a_naive_one() -> None:
    q, k, v = tensors()
    weights = torch.rand(2, 2).softmax(-1)
    expected = sum(
        weights[:, i, None, None] * ((0.3 * a @ b.transpose(1, 2)).softmax(-1) @ v)
        for i, (a, b) in enumerate(zip(q.split(4, -1), k.split(4, -1), strict=True))
    )
    assert_close(mixture_of_softmaxes(q, k, v, weights, 0.3), expected)


def test_euclidean_attention_is_a_softmax_over_squared_distances() -> None:
    q, k, v = tensors()
    assert_close(euclidean(q, k, v), (-torch.cdist(q, k).square()).softmax(-1) @ v, rtol=1e-4, atol=1e-5)


def test_dot_product_attention_equals_the_product_of_all_pairs() -> None:
    q, k, v = tensors()
    assert_close(dot(q, k, v), q @ k.transpose(1, 2) / 15 @ v, rtol=1e-4, atol=1e-5)


def test_euclidean_attention_is_accurate_in_half_precision() -> None:
    q, k, v = (x.bfloat16() for x in tensors())
    with torch.autocast("cpu", torch.bfloat16):
        out = euclidean(q, k + 20, v)
    expected = euclidean(q.float(), (k + 20).float(), v.float())
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_attention_does_not_store_the_matrix_of_all_pairs(similarity, pyramid_maps) -> None:
    """Only the flash attention kernel is allowed, and it raises for inputs that it does not support."""
    neck = FPT(C, WIDTH, similarity=similarity)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        sum(m.square().mean() for m in neck(pyramid_maps(C))).backward()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_it_runs_on_the_meta_device(similarity, pyramid_maps) -> None:
    """Multiply-adds are counted there."""
    maps = [m.to("meta") for m in pyramid_maps(C)]
    out = FPT(C, WIDTH, similarity=similarity).to("meta")(maps)
    assert [m.shape[-2:] for m in out] == [m.shape[-2:] for m in maps]


@pytest.mark.parametrize("size", [(25, 42), (1, 1), (8, 3)])
def test_the_self_transformer_equals_a_naive_one(size) -> None:
    block = SelfTransformer(WIDTH)
    m = torch.randn(2, WIDTH, *size)
    query, value = block.query_key(m), block.value(m)
    weights = (query.mean((2, 3)) @ block.shares.weight.T).softmax(-1)
    key, value = (F.avg_pool2d(x, 3, 2, 1, count_include_pad=False).flatten(2) for x in (query, value))
    mixed = sum(
        weights[:, i, None, None] * (a.transpose(1, 2) @ b / WIDTH**0.5).softmax(-1)
        for i, (a, b) in enumerate(zip(query.flatten(2).split(8, 1), key.split(8, 1), strict=True))
    )
    mean = (mixed @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, m.shape[-2:])
    assert_close(block(m), m + block.out(mean), rtol=1e-4, atol=1e-5)


def test_the_grounding_transformer_starts_at_zero_and_the_rendering_transformer_gates_by_channel_means() -> None:
    fine, coarse = torch.randn(2, WIDTH, 9, 7), torch.randn(2, WIDTH, 3, 2)
    assert not GroundingTransformer(WIDTH, dot)(fine, coarse).any()
    block = RenderingTransformer(WIDTH)
    gate = block.gate(fine.mean((2, 3), keepdim=True))
    detail = block.down(F.avg_pool2d(fine, 2, ceil_mode=True))
    assert_close(block(coarse, fine, stride=4), F.relu(gate * block.refine(coarse) + detail[..., :2]))


@pytest.mark.parametrize("rounded_up", [True, False])
@pytest.mark.parametrize("size", [(75, 53), (8, 8)])
def test_it_takes_three_maps(size, rounded_up, pyramid_maps) -> None:
    maps = pyramid_maps(C[1:], *size, rounded_up=rounded_up)
    out = FPT(C[1:], WIDTH)(maps)
    assert [m.shape for m in out] == [(2, WIDTH, *m.shape[-2:]) for m in maps]
    assert all(m.isfinite().all() for m in out)


@pytest.mark.parametrize(
    ("options", "message"), [({"out_channels": 20}, "multiple of 16"), ({"similarity": "eucl"}, "Did you mean 'euclid")]
)
def test_wrong_arguments_are_refused(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        FPT(C, **{"out_channels": WIDTH} | options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet"])
def test_it_overfits_two_images(name) -> None:
    options = {"anchor_scale": 2} if name == "retinanet" else {"anchor_scale": 4}
    options |= {"frozen_stages": -1, "norm_eval": False}
    history = loss_history(build_detector(f"{name}_lite0_fpt", 3, **SMALL[name], **options).train(), steps=8)
    assert min(history) < 0.8 * history[0], history
