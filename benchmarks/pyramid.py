"""Time and memory of necks, relative to a plain reimplementation of the authors' code.

``python benchmarks/pyramid.py [--size 800x1280] [--width 256] [--batch 1] [--turns 7] [--threads 2] [--compile]
[--out FILE.json]``

All are timed in turns in one process, so that a varying load of the machine affects all of them; times are medians over
the turns, with quartiles. The last line is the rate of a matrix product of the size of the largest 3x3 convolution.
Memory is the peak of a new process without the memory in use before the first pass.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from plain import PlainDRFPN
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from turns import time_in_turns

from drfpn import DRFPN, FPN, PAFPN, load_release
from drfpn.ablations.peak_memory import peak_bytes, reset_peak

R50 = (256, 512, 1024, 2048)
LAST = torch.channels_last


def plain(width: int) -> nn.Module:
    torch.manual_seed(0)
    return PlainDRFPN(R50, width)


def ours(width: int) -> nn.Module:
    return load_release(plain(width).state_dict()).to(memory_format=LAST)  # type: ignore[call-overload]


class Torchvision(nn.Module):
    """torchvision's FPN on a sequence of maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(R50), width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(self.fpn({str(i): m for i, m in enumerate(maps)}).values())


NECKS: dict[str, Callable[[int], nn.Module]] = {
    "plain": plain,
    "drfpn, release": ours,
    "drfpn": lambda width: DRFPN(R50, width).to(memory_format=LAST),  # type: ignore[call-overload]
    "drfpn, paper": lambda width: DRFPN(R50, width, convention="paper").to(memory_format=LAST),  # type: ignore[call-overload]
    "pafpn": lambda width: PAFPN(R50, width).to(memory_format=LAST),  # type: ignore[call-overload]
    "fpn": lambda width: FPN(R50, width).to(memory_format=LAST),  # type: ignore[call-overload]
    "torchvision's fpn": Torchvision,
}
COMPILED: dict[str, Callable[[int], nn.Module]] = {
    "drfpn, torch.compile": lambda width: torch.compile(NECKS["drfpn"](width), dynamic=False),  # type: ignore[dict-item,return-value]
}
if find_spec("feneck"):  # another library of necks: pip install feneck
    NECKS["feneck's pafpn"] = lambda width: import_module("feneck").PAFPN(list(R50), [4, 8, 16, 32], width)


def make_maps(name: str, size: tuple[int, int], batch: int) -> list[Tensor]:
    """Return C2..C5 in the memory format that a neck is used with."""
    torch.manual_seed(1)
    others = ("plain", "torchvision's fpn", "feneck's pafpn")
    layout = torch.contiguous_format if name in others else LAST
    height, width = size
    return [
        torch.randn(batch, channels, height // (4 << i), width // (4 << i)).contiguous(memory_format=layout)
        for i, channels in enumerate(R50)
    ]


def infer(model: nn.Module, maps: Sequence[Tensor]) -> None:
    with torch.inference_mode():
        model.eval()(maps)


def train(model: nn.Module, maps: Sequence[Tensor]) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # BatchNorm on the gate fails for a single image
    for m in maps:
        m.requires_grad_()
    levels = model(maps)
    torch.autograd.backward(levels, [torch.ones_like(level) for level in levels])  # in the memory format of the levels
    for tensor in (*maps, *model.parameters()):
        tensor.grad = None


def compare(
    necks: dict[str, Callable[[int], nn.Module]], width: int, size: tuple[int, int], batch: int, turns: int
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each turn, by neck and pass."""
    models = {name: make(width) for name, make in necks.items()}
    maps = {name: make_maps(name, size, batch) for name in models}
    left, right = torch.randn(batch * size[0] * size[1] // 16, 9 * width), torch.randn(9 * width, width)
    functions: dict[tuple[str, str], Callable[[], Any]] = {
        (name, kind): partial(do, models[name], maps[name])
        for kind, do in (("inference", infer), ("training", train))
        for name in models
    }
    functions["matrix product", "inference"] = partial(torch.mm, left, right)
    times: dict[str, dict[str, list[float]]] = {}
    for (name, kind), seconds in time_in_turns(functions, turns).items():
        times.setdefault(name, {})[kind] = seconds
    return times


def peak_memory(name: str, width: int, size: tuple[int, int], batch: int) -> float:
    """Return the peak memory of a forward and backward pass in MiB; to be called in a new process."""
    model, maps = NECKS[name](width), make_maps(name, size, batch)
    train(model, make_maps(name, (64, 64), 1))  # loads libraries that are loaded on first use
    before = reset_peak("cpu")
    train(model, maps)
    return (peak_bytes("cpu") - before) / 2**20


def check(width: int) -> float:
    """Return the largest difference between our module with the release's weights and the reimplementation."""
    maps = make_maps("plain", (256, 384), 1)
    with torch.inference_mode():
        pairs = zip(plain(width).eval()(maps), ours(width).eval()(maps), strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="800x1280")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also time torch.compile; its memory is not measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.size.split("x"))
    size = (height // 32 * 32, width // 32 * 32)
    difference = check(64)
    assert difference < 1e-4, difference
    necks = NECKS | COMPILED if options.compile else NECKS
    times = compare(necks, options.width, size, options.batch, options.turns)
    memory = {}
    for name in NECKS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            memory[name] = pool.submit(peak_memory, name, options.width, size, options.batch).result()
    print(f"{'':22} {'inference, ms':>24} {'of plain':>9} {'training, ms':>24} {'of plain':>9} {'peak MiB':>9}")
    for name, kinds in times.items():
        cells = []
        for kind, seconds in kinds.items():
            low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
            ratio = statistics.median(a / b for a, b in zip(seconds, times["plain"][kind], strict=True))
            cells.append(f"{1e3 * median:8.0f} ({1e3 * low:5.0f} to {1e3 * high:5.0f}) {ratio:9.2f}")
        print(f"{name:22} {' '.join(cells)} {memory.get(name, float('nan')):9.0f}")
    macs = options.batch * size[0] * size[1] / 16 * 9 * options.width**2
    rate = macs / statistics.median(times["matrix product"]["inference"]) / 1e9
    print(f"matrix product: {rate:.0f} GMAC/s; {options.threads} threads, torch {torch.__version__}")
    if options.out is not None:
        settings = {"size": size, "width": options.width, "batch": options.batch, "threads": options.threads}
        result = {"settings": settings, "torch": torch.__version__, "seconds": times, "peak_mib": memory, "gmacs": rate}
        options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
