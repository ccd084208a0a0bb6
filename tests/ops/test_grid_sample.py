import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck
from torch.testing import assert_close

from drfpn.ops import pixel_grid, sample, sample_by_embedding_bag, sample_by_gather, warp, warp_released

SIZES = [((4, 6), (8, 12)), ((5, 3), (9, 6)), ((5, 3), (10, 5)), ((1, 1), (2, 2)), ((19, 38), (37, 76))]


@pytest.mark.parametrize(("coarse", "fine"), SIZES)
def test_a_zero_offset_is_bilinear_upsampling(coarse, fine) -> None:
    image = torch.randn(2, 3, *coarse, dtype=torch.float64)
    expected = F.interpolate(image, size=fine, mode="bilinear", align_corners=False)
    assert_close(warp(image, torch.zeros(2, 2, *fine, dtype=torch.float64)), expected)
    assert_close(warp(image.float(), torch.zeros(2, 2, *fine)), expected.float())


@pytest.mark.parametrize("axis", [0, 1])
def test_an_offset_of_one_fine_pixel_moves_by_one_fine_pixel(axis) -> None:
    """On a ramp (linear in the axis) bilinear reading is exact, so a step of one pixel adds one."""
    height, width = 16, 24
    coarse_size = (height // 2, width // 2)[1 - axis]
    ramp = torch.arange(coarse_size, dtype=torch.float64) * 2  # fine pixels
    image = ramp[None, :].expand(8, 12) if axis == 0 else ramp[:, None].expand(8, 12)
    image = image[None, None].contiguous()
    one_pixel = (height + width) / (width, height)[axis]  # units of delta
    offset = torch.zeros(1, 2, height, width, dtype=torch.float64)
    still = warp(image, offset)
    offset[:, axis] = one_pixel
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert_close(warp(image, offset)[inner], still[inner] + 1)


def test_an_offset_of_one_fine_pixel_reads_the_neighbor() -> None:
    image = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    offset = torch.zeros(1, 2, 12, 16, dtype=torch.float64)
    offset[:, 0] = (12 + 16) / 16
    still = warp(image, torch.zeros_like(offset))
    assert_close(warp(image, offset)[..., :-1], still[..., 1:])


@pytest.mark.parametrize("axis", [0, 1])
def test_the_releases_offset_of_two_moves_one_fine_pixel(axis) -> None:
    """On a ramp in fine pixels, whatever the spacing of the corner grid, a step of one pixel adds one."""
    rows, columns = torch.meshgrid(torch.arange(6.0) * 2, torch.arange(10.0) * 2, indexing="ij")
    image = (columns, rows)[axis].double()[None, None]
    offset = torch.zeros(1, 2, 12, 20, dtype=torch.float64)
    still = warp_released(image, offset)
    offset[:, axis] = 2
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert_close(warp_released(image, offset)[inner], still[inner] + 1)


def test_the_release_fades_the_border_to_a_half_and_the_corners_to_a_quarter() -> None:
    result = warp_released(torch.ones(1, 1, 6, 8), torch.zeros(1, 2, 12, 16))[0, 0]
    assert_close(result[0, 0], torch.tensor(0.25))
    assert_close(result[-1, -1], torch.tensor(0.25))
    assert_close(result[0, 1:-1], torch.full((14,), 0.5))
    assert_close(result[1:-1, -1], torch.full((10,), 0.5))
    assert_close(result[1:-1, 1:-1], torch.ones(10, 14))


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("size", [(5, 7), (1, 6), (1, 1)])
def test_gathers_equal_grid_sample_in_value_and_gradient(size, padding) -> None:
    image = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    positions = (torch.rand(2, 9, 11, 2, dtype=torch.float64) * 3 - 1.5).requires_grad_()  # a third lies outside
    weight = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    values, gradients = [], []
    for function in (sample, sample_by_gather, sample_by_embedding_bag):
        value = function(image, positions, padding)
        values.append(value)
        gradients.append(torch.autograd.grad((value * weight).sum(), (image, positions)))
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        assert_close(value, values[0])
        assert_close(gradient, gradients[0])


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("size", [(4, 8), (1, 8), (1, 1)])
def test_gathers_have_grid_sample_s_gradient_on_a_pixel_too(size, padding) -> None:
    """Powers of two, so that positions come out at whole pixels exactly."""
    height, width = size
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    positions = pixel_grid(height, width, image)[None].requires_grad_()
    weight = torch.randn(1, 3, *size, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((f(image, positions, padding) * weight).sum(), positions)[0]
        for f in (sample, sample_by_gather, sample_by_embedding_bag)
    ]
    for gradient in gradients[1:]:
        assert_close(gradient, gradients[0])


@pytest.mark.parametrize("function", [sample, sample_by_gather, sample_by_embedding_bag])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_samplers_keep_the_dtype_of_the_image(function, dtype) -> None:
    image, positions = torch.randn(1, 2, 4, 5, dtype=dtype), torch.rand(1, 3, 4, 2) * 2 - 1
    exact = F.grid_sample(image.double(), positions.double(), padding_mode="border", align_corners=False)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert_close(function(image, positions), exact.to(dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", [warp, warp_released])
def test_warps_pass_gradcheck(function) -> None:
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(1, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(function, (image, offset), fast_mode=True)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_gathers_pass_gradcheck(padding) -> None:
    image = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    positions = (torch.rand(1, 3, 4, 2, dtype=torch.float64) * 2.4 - 1.2).requires_grad_()
    assert gradcheck(lambda a, b: sample_by_gather(a, b, padding), (image, positions), fast_mode=True)


@pytest.mark.parametrize("function", [warp, warp_released])
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_positions_are_float32_however_low_the_offset(function, value) -> None:
    """In bfloat16, positions of a map 400 wide would fall together."""
    image = torch.arange(200, dtype=torch.float32).expand(1, 1, 4, 200).contiguous()
    offset = torch.full((1, 2, 8, 400), value)
    exact = function(image, offset)
    with torch.autocast("cpu", torch.bfloat16):
        low = function(image, offset.bfloat16())
        lowest = function(image.bfloat16(), offset.bfloat16())
    assert_close(low, exact)
    assert low[0, 0, 4, 4:-4].diff().min() > 0.4  # neighbors are half a coarse pixel apart
    assert_close(lowest, exact.bfloat16(), rtol=1e-2, atol=1e-2)


def test_the_pixel_grid_is_that_of_affine_grid() -> None:
    identity = torch.eye(2, 3, dtype=torch.float64)[None]
    expected = F.affine_grid(identity, [1, 1, 5, 8], align_corners=False)[0]
    assert_close(pixel_grid(5, 8, identity), expected)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_nan_coordinates_give_nan_and_have_a_backward(padding) -> None:
    image = torch.rand(1, 2, 4, 4, requires_grad=True)
    positions = torch.rand(1, 3, 3, 2)
    positions[0, 1, 2, 0] = torch.nan
    positions.requires_grad_()
    read = sample(image, positions, padding)
    assert read[0, :, 1, 2].isnan().all()
    assert read.isnan().sum() == 2
    read.nan_to_num().sum().backward()
    assert image.grad.isfinite().all()
