"""Bilinear sampling at learned positions (Eqs. 2 and 3 of the paper).

Convention, here and in all that builds on it:

- positions are ``(x, y)`` and normalised: -1 and 1 are the outer borders of the map (``align_corners=False``),
  so the map of W pixels spans 2 units and one of its pixels 2 / W;
- grids are made from ``torch.arange``, since an exported ``linspace`` with a symbolic size fails at other sizes;
- positions are computed in float32 at least, under autocast too, which lowers none of the operations used here:
  bfloat16 cannot tell neighbouring pixels of a map of 300 apart.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.dispatch import must_repeat

Padding = Literal["border", "zeros"]


Grid = Callable[[int, int, Tensor], Tensor]
"""(height, width, like) -> normalised positions (height, width, 2)."""


def kept(grid: Grid) -> Grid:
    """Keep the grids of the last sizes: a pyramid needs the same ones each time, each of them nine small kernels."""

    @lru_cache(maxsize=64)
    def made(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # one of inference mode could not be used in training
            return grid(height, width, torch.empty((), device=device, dtype=dtype))

    @wraps(grid)
    def find(height: int, width: int, like: Tensor) -> Tensor:
        # a tensor of another kind stays with its kind, and what a CUDA graph records with the graph
        recorded = like.is_cuda and torch.cuda.is_current_stream_capturing()
        if torch.compiler.is_compiling() or type(like) is not Tensor or recorded:
            return grid(height, width, like)
        return made(height, width, like.device, like.dtype)

    return find


@kept
def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the pixel centres of a map as normalised positions (height, width, 2)."""
    # one division of exact integers: as close as the dtype allows
    y = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + (1 - height)) / height
    x = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + (1 - width)) / width
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


@kept
def corner_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return positions (height, width, 2) whose first and last row and column lie at -1 and 1.

    The authors' release lays its grid out like this. Read with ``align_corners=False`` the outermost positions
    lie half a pixel outside of the outermost pixel centres.
    """
    rows, columns = height - 1, width - 1
    y = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 - rows) / max(rows, 1)
    x = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 - columns) / max(columns, 1)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def sample(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Read ``image`` bilinearly at ``positions`` (Eq. 3).

    Takes plain gathers where ``grid_sample`` has no backward (MPS), and an embedding bag where it has no deterministic
    one (CUDA under ``torch.use_deterministic_algorithms``). The dtype of ``image`` is kept; the arithmetic is done in
    that of ``positions``.

    Args:
        image: (N, C, h, w).
        positions: (N, H, W, 2), normalised (x, y).
        padding: what lies outside: the border's values, or zeros.

    Returns:
        (N, C, H, W).
    """
    # in training: backwards leave their memory at a position that is no number
    where = positions.nan_to_num() if positions.requires_grad else positions
    if must_repeat(image.device):  # grid_sample's backward on CUDA adds with atomics, and then refuses to run
        read = sample_by_rows(image, where, padding)
    elif image.device.type == "mps":
        read = sample_by_gathers(image, where, padding)
    else:
        values = image.to(positions.dtype)
        read = F.grid_sample(values, where, mode="bilinear", padding_mode=padding, align_corners=False)
    if positions.requires_grad:
        read = read + (positions - where).sum(dim=-1)[:, None]  # yet such a position must be seen: it gives NaN
    return read.to(image.dtype)


def corners(positions: Tensor, height: int, width: int, padding: Padding = "border") -> tuple[Tensor, Tensor]:
    """Return the four pixels of a map around each position, and how much of each a bilinear reading takes.

    Args:
        positions: (N, H, W, 2), normalised (x, y).
        height: of the map.
        width: of the map.
        padding: what lies outside; of zeros nothing is taken.

    Returns:
        Indices of pixels, row by row, and their shares, (N, H, W, 4). An index is valid whatever the position.
    """
    x = ((positions[..., 0] + 1) * width - 1) / 2  # pixels of the map
    y = ((positions[..., 1] + 1) * height - 1) / 2
    if padding == "border":
        x, y = _to_border(x, width - 1), _to_border(y, height - 1)
    return pixel_corners(x, y, height, width)


def _to_border(position: Tensor, last: int) -> Tensor:
    """Clamp to a map's pixels 0 to ``last``; as with ``grid_sample``, what lies on the border has no gradient."""
    return torch.where((position > 0) & (position < last), position, position.detach().clamp(0, last))


def pixel_corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Do what :func:`corners` does at points in pixels of the map, of any shape (...): (..., 4); outside lie zeros.

    A point on a pixel has the gradient of a step to the right and down, as with the libraries' operators.
    """
    column, across = _neighbours(x, width)
    row, down = _neighbours(y, height)
    index = row[..., None, :] * width + column[..., None]
    return index.flatten(-2), (across[..., None] * down[..., None, :]).flatten(-2)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return along one axis the pixels before and after each point and how much of each is taken: (..., 2)."""
    before = position.detach().floor()
    part = position - before
    pixel = torch.stack([before, before + 1], dim=-1)
    inside = (pixel >= 0) & (pixel < size)
    return pixel.long().clamp_(0, size - 1), torch.stack([1 - part, part], dim=-1) * inside


def sample_by_rows(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Do what :func:`sample` does by an embedding bag, whose backward gives the same bits each time."""
    images, channels, height, width = image.shape
    index, share = corners(positions, height, width, padding)
    first = torch.arange(images, device=image.device)[:, None, None, None] * (height * width)
    pixels = image.permute(0, 2, 3, 1).reshape(-1, channels).to(share.dtype)
    read = F.embedding_bag((index + first).view(-1, 4), pixels, per_sample_weights=share.view(-1, 4), mode="sum")
    return read.view(*positions.shape[:3], channels).permute(0, 3, 1, 2).to(image.dtype)


def sample_by_gathers(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Do what :func:`sample` does with ``gather`` alone: slower, but with a backward everywhere."""
    index, share = corners(positions, image.shape[-2], image.shape[-1], padding)
    flat = image.to(positions.dtype).flatten(2)  # (N, C, h w)
    result = flat.new_zeros(())
    for pixel, part in zip(index.unbind(-1), share.unbind(-1), strict=True):  # one map of the result's size at a time
        values = flat.gather(2, pixel.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
        result = result + values.unflatten(2, pixel.shape[1:]) * part[:, None]
    return result.to(image.dtype)


class Warp(NamedTuple):
    """How a map is read at the pixels of a finer one that an offset moves: ``warp(coarse, offset)``."""

    positions: Callable[[Tensor], Tensor]
    """Maps an offset (N, 2, H, W), (x, y), to normalised positions (N, H, W, 2): its unit, and the grid."""
    padding: Padding = "border"
    """What lies outside."""

    def __call__(self, coarse: Tensor, offset: Tensor) -> Tensor:
        """Read ``coarse`` (N, C, h, w); the result is (N, C, H, W), H and W of ``offset`` (N, 2, H, W)."""
        return sample(coarse, self.positions(offset), self.padding)


def at_least_float32(offset: Tensor) -> Tensor:
    """Return ``offset`` in float32, or as it is where it is in float64."""
    return offset.to(torch.promote_types(offset.dtype, torch.float32))


def moved_pixels(offset: Tensor) -> Tensor:
    """Return pixel centres moved by ``offset`` (Eq. 2).

    A position moves by ``2 offset / (H + W)`` normalised units, H and W of the finer map: by ``offset W / (H + W)`` of
    its pixels in x and ``offset H / (H + W)`` in y, half a pixel a unit where H = W.
    """
    delta = at_least_float32(offset)
    height, width = delta.shape[-2:]
    return pixel_grid(height, width, delta) + (delta * 2 / (height + width)).permute(0, 2, 3, 1)


def moved_corners(offset: Tensor) -> Tensor:
    """Return the release's grid moved by ``offset``: by ``offset / (W, H)`` normalised units, half a pixel a unit."""
    delta = at_least_float32(offset)
    height, width = delta.shape[-2:]
    shift = torch.stack([delta[:, 0] / width, delta[:, 1] / height], dim=-1)
    return corner_grid(height, width, delta) + shift


warp = Warp(moved_pixels, "border")
"""Reads a map as Eq. 2 says; the border repeats, so that a zero offset is bilinear upsampling exactly."""

warp_released = Warp(moved_corners, "zeros")
"""Reads a map as the authors' release does.

Zeros lie outside of a grid whose corners lie there too: with a zero offset and a map of ones the result is 1/4 in the
corners, 1/2 along the edges and 1 inside.
"""
