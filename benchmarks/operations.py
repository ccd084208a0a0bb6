"""The operations that have a way of their own on CPUs, beside what they replace.

``python benchmarks/operations.py [--turns 7] [--threads 1]``

Of a pyramid of width 256 on an image of 800 x 1280: the sum that ends SRB from P3 to P2, and RoIAlign of 700 regions on
P2. Of a small detector: a deformable convolution on 8 maps of 64 x 60 x 80, also with its channels in 8 groups and
weighed points, as FaPN has it. Both ways give the same numbers, which is checked before they take their turns in one
process.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import DeformConv2d
from turns import take_turns

from drfpn.ops import add_warped, deform_conv, roi_align, warp

LAST = torch.channels_last
Way = Callable[..., Tensor]


class Operation(NamedTuple):
    """Two ways to compute the same from the same tensors."""

    library: Way
    ours: Way
    learned: Sequence[Tensor]
    """What has a gradient."""


def srb_sum() -> Operation:
    fine = torch.randn(1, 256, 200, 320).contiguous(memory_format=LAST)
    coarse = torch.randn(1, 256, 100, 160).contiguous(memory_format=LAST)
    offset, weight = torch.randn(1, 2, 200, 320), torch.rand(1, 1, 200, 320)

    def library(fine: Tensor, coarse: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        return fine + weight * warp(coarse, offset) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")

    return Operation(library, partial(add_warped, warp=warp), (fine, coarse, offset, weight))


def regions_of_p2() -> Operation:
    level = torch.randn(1, 256, 200, 320).contiguous(memory_format=LAST)
    corner, size = torch.rand(700, 2) * torch.tensor([1200.0, 720.0]), 20 + 60 * torch.rand(700, 2)
    regions = torch.cat([torch.zeros(700, 1), corner, corner + size], dim=1)
    settings = (7, 0.25, 2)
    return Operation(
        lambda m: torchvision.ops.roi_align(m, regions, *settings), lambda m: roi_align(m, regions, *settings), (level,)
    )


def deformable() -> Operation:
    conv = DeformConv2d(64, 64, 3, padding=1)
    m = torch.randn(8, 64, 60, 80).contiguous(memory_format=LAST)
    return Operation(conv, partial(deform_conv, conv), (m, torch.randn(8, 18, 60, 80)))


def deformable_groups() -> Operation:
    conv = DeformConv2d(64, 64, 3, padding=1)
    m = torch.randn(8, 64, 60, 80).contiguous(memory_format=LAST)
    offset, mask = torch.randn(8, 8 * 18, 60, 80), torch.rand(8, 8 * 9, 60, 80)
    return Operation(conv, partial(deform_conv, conv), (m, offset, mask))


OPERATIONS = {
    "SRB's sum, P3 to P2": srb_sum,
    "RoIAlign, 700 regions of P2": regions_of_p2,
    "deformable convolution, 8 x 64 x 60 x 80": deformable,
    "the same in 8 groups of channels": deformable_groups,
}


def forward(way: Way, tensors: Sequence[Tensor]) -> None:
    with torch.inference_mode():
        way(*tensors)


def both(way: Way, tensors: Sequence[Tensor]) -> None:
    learned = [tensor.detach().requires_grad_() for tensor in tensors]
    out = way(*learned)
    out.backward(torch.ones_like(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made = {name: make() for name, make in OPERATIONS.items()}
    works = {}
    for name, operation in made.items():
        with torch.inference_mode():
            assert_close(
                operation.ours(*operation.learned), operation.library(*operation.learned), rtol=1e-4, atol=1e-4
            )
        for kind, run in (("forward", forward), ("and backward", both)):
            works[name, kind, "library"] = partial(run, operation.library, operation.learned)
            works[name, kind, "ours"] = partial(run, operation.ours, operation.learned)
    taken = take_turns(works, options.turns)
    print(f"{'':42} {'':13} {'library, ms':>12} {'ours, ms':>9}  ours / library")
    for name in made:
        for kind in ("forward", "and backward"):
            library, ours = taken[name, kind, "library"], taken[name, kind, "ours"]
            ratios = [a / b for a, b in zip(ours, library, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
            times = f"{1e3 * statistics.median(library):12.0f} {1e3 * statistics.median(ours):9.0f}"
            print(f"{name:42} {kind:13} {times}  {ratio:.2f} ({low:.2f} to {high:.2f})")
    print(f"{options.threads} threads, torch {torch.__version__}, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
