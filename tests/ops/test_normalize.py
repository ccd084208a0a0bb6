import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.ops import root_mean_square


@pytest.mark.parametrize("dims", [(1, 2, 3), (1,)])
def test_it_is_the_root_of_the_mean_of_the_squares_of_each_image(dims) -> None:
    m = torch.randn(3, 4, 5, 6) * torch.tensor([1.0, 100.0, 0.01])[:, None, None, None]
    assert_close(root_mean_square(m, dims), m.square().mean(dims, keepdim=True).sqrt())


def test_it_has_the_gradient_of_its_formula() -> None:
    assert gradcheck(root_mean_square, torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_something_divided_by_that_of_zeros_stays_zero(kind) -> None:
    zeros = torch.zeros(1, 2, 3, 3, dtype=kind, requires_grad=True)
    divided = zeros / root_mean_square(zeros)
    assert torch.equal(divided, torch.zeros_like(zeros))
    divided.sum().backward()
    assert zeros.grad.isfinite().all()


def test_large_numbers_of_half_precision_do_not_overflow() -> None:
    m = torch.full((1, 8, 16, 16), 3e4, dtype=torch.float16)
    assert_close(root_mean_square(m), torch.full((1, 1, 1, 1), 3e4, dtype=torch.float16))
