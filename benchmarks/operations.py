"""Times of the CPU implementations of operations, relative to the library's.

``python benchmarks/operations.py [--turns 7] [--threads 1]``

With 256 channels and an image of 800 x 1280: the sum at the end of SRB from P3 to P2, and RoIAlign of 700 RoIs on P2.
With 64 channels: a deformable convolution on 8 maps of 60 x 80, also with 8 offset groups and modulation, as in FaPN.
The results of both implementations are compared before they are timed in turns in one process.
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
from turns import time_in_turns

from drfpn.ops import add_warped, deform_conv, roi_align, warp

LAST = torch.channels_last
Function = Callable[..., Tensor]


class Operation(NamedTuple):
    """Two implementations of an operation, and their inputs."""

    library: Function
    ours: Function
    inputs: Sequence[Tensor]
    """Tensors with a gradient."""


def srb_sum() -> Operation:
    fine = torch.randn(1, 256, 200, 320).contiguous(memory_format=LAST)
    coarse = torch.randn(1, 256, 100, 160).contiguous(memory_format=LAST)
    offset, weight = torch.randn(1, 2, 200, 320), torch.rand(1, 1, 200, 320)

    def library(fine: Tensor, coarse: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        return fine + weight * warp(coarse, offset) + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")

    return Operation(library, partial(add_warped, warp=warp), (fine, coarse, offset, weight))


def roi_align_p2() -> Operation:
    level = torch.randn(1, 256, 200, 320).contiguous(memory_format=LAST)
    corner, size = torch.rand(700, 2) * torch.tensor([1200.0, 720.0]), 20 + 60 * torch.rand(700, 2)
    rois = torch.cat([torch.zeros(700, 1), corner, corner + size], dim=1)
    settings = (7, 0.25, 2)
    return Operation(
        lambda m: torchvision.ops.roi_align(m, rois, *settings), lambda m: roi_align(m, rois, *settings), (level,)
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
    "RoIAlign, 700 RoIs on P2": roi_align_p2,
    "deformable convolution, 8 x 64 x 60 x 80": deformable,
    "the same with 8 offset groups": deformable_groups,
}


def forward(function: Function, tensors: Sequence[Tensor]) -> None:
    with torch.inference_mode():
        function(*tensors)


def both(function: Function, tensors: Sequence[Tensor]) -> None:
    inputs = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*inputs)
    out.backward(torch.ones_like(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made = {name: make() for name, make in OPERATIONS.items()}
    functions = {}
    for name, operation in made.items():
        with torch.inference_mode():
            assert_close(operation.ours(*operation.inputs), operation.library(*operation.inputs), rtol=1e-4, atol=1e-4)
        for phase, run in (("forward", forward), ("and backward", both)):
            functions[name, phase, "library"] = partial(run, operation.library, operation.inputs)
            functions[name, phase, "ours"] = partial(run, operation.ours, operation.inputs)
    seconds = time_in_turns(functions, options.turns)
    print(f"{'':42} {'':13} {'library, ms':>12} {'ours, ms':>9}  ours / library")
    for name in made:
        for phase in ("forward", "and backward"):
            library, ours = seconds[name, phase, "library"], seconds[name, phase, "ours"]
            ratios = [a / b for a, b in zip(ours, library, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
            times = f"{1e3 * statistics.median(library):12.0f} {1e3 * statistics.median(ours):9.0f}"
            print(f"{name:42} {phase:13} {times}  {ratio:.2f} ({low:.2f} to {high:.2f})")
    print(f"{options.threads} threads, torch {torch.__version__}, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
