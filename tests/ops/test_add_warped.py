import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.ops import add_warped, warp, warp_released

SIZES = [((4, 6), (8, 12)), ((5, 3), (9, 6)), ((5, 3), (10, 5)), ((1, 1), (2, 2)), ((19, 38), (37, 76))]


def maps(coarse, fine, dtype=torch.float64):
    torch.manual_seed(0)
    return (
        torch.randn(2, 3, *fine, dtype=dtype),
        torch.randn(2, 3, *coarse, dtype=dtype),
        2 * torch.randn(2, 2, *fine, dtype=dtype),
        torch.randn(2, 1, *fine, dtype=dtype),
    )


def plainly(fine, coarse, offset, weight, by):
    return fine + weight * by(coarse, offset) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("by", [warp, warp_released])
@pytest.mark.parametrize(("coarse", "fine"), SIZES)
def test_the_sum_is_that_of_its_terms_in_value_and_gradient(coarse, fine, by, memory_format) -> None:
    inputs = [m.contiguous(memory_format=memory_format).requires_grad_() for m in maps(coarse, fine)]
    towards = torch.randn(2, 3, *fine, dtype=torch.float64)
    values = [function(*inputs, by) for function in (add_warped, plainly)]
    assert_close(*values)
    assert_close(*(torch.autograd.grad((value * towards).sum(), inputs) for value in values))


@pytest.mark.parametrize("by", [warp, warp_released])
def test_the_sum_passes_gradcheck(by) -> None:
    inputs = [m.requires_grad_() for m in maps((4, 3), (7, 6))]
    assert gradcheck(lambda *m: add_warped(*m, by), inputs, fast_mode=True)


def test_positions_stay_float32_and_the_result_as_low_as_the_maps() -> None:
    fine, coarse, offset, weight = maps((6, 8), (12, 16), torch.float32)
    low = [m.bfloat16() for m in (fine, coarse, offset, weight)]
    result = add_warped(*low, warp)
    assert result.dtype == torch.bfloat16
    assert_close(result, plainly(*(m.double() for m in low), warp).bfloat16(), rtol=2e-2, atol=2e-2)


def test_nan_coordinates_give_nan_there_only() -> None:
    fine, coarse, offset, weight = maps((4, 4), (8, 8), torch.float32)
    offset[0, 0, 3, 2] = torch.nan
    offset[1, 1, 5, 5] = torch.inf
    offset.requires_grad_()
    result = add_warped(fine, coarse, offset, weight, warp)
    assert result[0, :, 3, 2].isnan().all()
    assert result.isnan().sum() == 3
    result.nan_to_num().sum().backward()


def test_a_traced_graph_has_the_plain_terms() -> None:
    class Sum(torch.nn.Module):
        def forward(self, *inputs):
            return add_warped(*inputs, warp)

    inputs = maps((4, 6), (8, 12), torch.float32)
    program = torch.export.export(Sum(), inputs)
    assert "embedding_bag" not in str(program.graph)
    assert_close(program.module()(*inputs), add_warped(*inputs, warp))
