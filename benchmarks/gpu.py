"""Correctness, time and memory on one GPU, in six to eight minutes (estimated: it has not run on one).

``python benchmarks/gpu.py [--budget 480] [--out benchmarks/results/gpu.json] [--only SECTION,...] [--tiny]``

Sections, in this order; those that would exceed the budget (seconds) are skipped, and a failed one does not stop the
others:

- ``necks``: outputs and gradients of every neck compared with float64 on the CPU; half precision; host waits.
- ``detectors``: losses, gradients and detections compared with the CPU; steps in bfloat16 and float16; host waits.
- ``deterministic``: gradients of two equal steps under ``torch.use_deterministic_algorithms``.
- ``full_size``: section 4.6 and Table 7 of the paper: Faster R-CNN R50 at 800 x 1333 with FPN, PAFPN and DRFPN:
  inference of an image, training steps of eight; float32, TF32, bfloat16, float16; memory formats; neck compiled.
- ``neck_alone``: the necks on maps of 800 x 1344 by batch and memory format; the neck as a CUDA graph.
- ``training``: 25 seconds each of ``faster_rcnn_lite0_{fpn,drfpn}`` on synthetic images in bfloat16, and the loss.

Without a GPU, or with ``--tiny``, all run at toy sizes, to test this program. Besides torch, torchvision and timm
(with timm's own dependencies) it needs one wheel, hotcoco: where nothing can be installed, unpack it into a folder on
PYTHONPATH beside ``src``. Tried at toy size with Python 3.11, torch 2.14, torchvision 0.29 and with Python 3.12,
torch 2.11, torchvision 0.26. The last line of stdout is the result as JSON, which ``--out`` also writes after each
section.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts, for the deterministic section

import torch
from torch import Tensor, nn

from drfpn import DRFPN, FPN, PAFPN, build_detector
from drfpn.detectors import DETECTORS, samplers
from drfpn.necks import NECKS, SimpleFPN
from drfpn.ops import fuse

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if GPU else torch.device("cpu")
LAST, FIRST = torch.channels_last, torch.contiguous_format
PAPER = {"fpn": {"inference ms": 12.2, "training s": 1.14}, "drfpn": {"inference ms": 12.4, "training s": 1.49}}
"""Section 4.6 and Table 7: on an RTX TITAN, eight of them in training."""


class Sizes:
    """Image size, batch size, model size and repetitions.

    Args:
        tiny: toy sizes.
    """

    def __init__(self, tiny: bool) -> None:
        self.tiny = tiny
        self.image = (96, 128) if tiny else (800, 1333)
        self.batch = 2 if tiny else 8
        self.body = "r18" if tiny else "r50"
        self.width = 32 if tiny else 256
        self.map_area = (64, 96) if tiny else (256, 336)
        """Height and width of the image whose maps the section ``necks`` compares."""
        self.compared_width = 32 if tiny else 64
        self.times = 1 if tiny else 10
        self.seconds = 2.0 if tiny else 25.0
        """Duration of the section ``training`` for each neck."""


def synchronize() -> None:
    """Wait for the GPU."""
    if GPU:
        torch.cuda.synchronize()


def allow_tf32(allowed: bool) -> None:
    """Let products and convolutions of float32 round their inputs to 10 bits, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def autocast(dtype: torch.dtype | None) -> torch.autocast:
    """Return the context for a precision; ``None`` for float32."""
    return torch.autocast(DEVICE.type, dtype or torch.bfloat16, enabled=dtype is not None)


def relative(value: Tensor, exact: Tensor, eps: float = 1e-12) -> float:
    """Return the norm of the difference over that of the exact value."""
    value, exact = value.detach().double().cpu(), exact.detach().double().cpu()
    return float((value - exact).norm() / exact.norm().clamp(min=eps))


def milliseconds(do: Callable[[], Any], times: int, warm: int = 3) -> list[float]:
    """Return quartiles of the time of a call, the device idle before and after."""
    taken = []
    for _ in range(warm + times):
        synchronize()
        start = time.perf_counter()
        do()
        synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    taken = taken[-times:]
    return [round(value, 3) for value in (statistics.quantiles(taken, n=4) if times > 1 else taken)]


def count_waits(do: Callable[[], Any]) -> tuple[Any, dict[str, int] | None]:
    """Return the result of a call and where the host waited for the GPU in it, by torch's own warnings."""
    if not GPU:
        return do(), None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            out = do()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    lines = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchron" in str(w.message)]
    return out, {line: lines.count(line) for line in dict.fromkeys(lines)}


def profile(do: Callable[[], Any]) -> dict[str, float]:
    """Return how many kernels a call launches, how often it waits and copies, and how long the device was busy."""
    do()
    synchronize()
    with torch.profiler.profile() as profiler:
        do()
        synchronize()
    rows = profiler.key_averages()
    kinds = ("cudaLaunch", "cuLaunch", "cudaStreamSynch", "cudaMemcpyAsync")
    counts: dict[str, float] = {row.key: row.count for row in rows if row.key.startswith(kinds)}
    # of kernels alone: the rows of operators have the time of what they launched once more
    kernels = [row for row in rows if row.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(row.self_device_time_total for row in kernels)
    return counts | {"device ms": round(busy / 1e3, 2)}


@contextmanager
def peak_gib(into: dict[str, float | None], key: str) -> Any:
    """Store the peak of the memory allocated inside of the context."""
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    into[key] = round(torch.cuda.max_memory_allocated() / 2**30, 2) if GPU else None


def scene(
    size: Sequence[int], batch: int, device: torch.device = DEVICE
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return images of noise and their targets, the same on every device."""
    torch.manual_seed(1)
    images = [torch.rand(3, *size) for _ in range(batch)]
    targets = [random_target(*size) for _ in range(batch)]
    return [i.to(device) for i in images], [{k: v.to(device) for k, v in t.items()} for t in targets]


def random_target(height: int, width: int, objects: int = 4) -> dict[str, Tensor]:
    """Return boxes, labels and masks of some objects; not drfpn's own, which would bring matplotlib."""
    corner = torch.rand(objects, 2) * torch.tensor([width / 2, height / 2])
    boxes = torch.cat([corner, corner + torch.tensor([width / 4, height / 4])], dim=1)
    y, x = torch.arange(height)[:, None], torch.arange(width)
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    masks = ((x > x1) & (x < x2) & (y > y1) & (y < y2)).to(torch.uint8)
    return {"boxes": boxes, "labels": torch.arange(1, objects + 1), "masks": masks}


def detector(name: str, size: Sequence[int], device: torch.device = DEVICE, **options: Any) -> Any:
    """Build a random detector with BatchNorm statistics of noise, without which its outputs would not be finite."""
    torch.manual_seed(0)
    model: Any = build_detector(name, 80, norm_eval=False, min_size=min(size), max_size=max(size), **options)
    body = model.train().backbone.body
    with torch.no_grad():
        for _ in range(3):
            body(torch.randn(2, 3, 96, 128))
    body.norm_eval = True
    return model.to(device, memory_format=LAST)


def total(losses: dict[str, Tensor]) -> Tensor:
    """Add up loss terms."""
    return torch.stack(list(losses.values())).sum()


def gradients(model: nn.Module) -> Tensor:
    """Return all gradients as one vector."""
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


def necks(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Compare each neck with float64 on the CPU."""
    allow_tf32(False)
    for name, make in NECKS.items():
        strides = make.backbone_strides
        channels = [64 if make is SimpleFPN else 8 * stride for stride in strides]
        sides = [(sizes.map_area[0] // stride, sizes.map_area[1] // stride) for stride in strides]
        torch.manual_seed(0)
        neck: Any = make(channels, sizes.compared_width).to(memory_format=LAST).eval()  # type: ignore[call-overload]
        for parameter in neck.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))  # no layer stays zero
        maps = [torch.randn(2, c, *s).contiguous(memory_format=LAST) for c, s in zip(channels, sides, strict=True)]
        outputs, waits = {}, None
        ways = {"exact": (torch.float64, "cpu"), "cpu": (torch.float32, "cpu"), "device": (torch.float32, DEVICE)}
        for way, (dtype, device) in ways.items():
            one = copy.deepcopy(neck).to(device, dtype)
            inputs = [m.to(device, dtype, copy=True).requires_grad_() for m in maps]
            levels, waits = count_waits(lambda one=one, inputs=inputs: one(inputs))
            torch.autograd.backward(list(levels), [level.detach() for level in levels])
            outputs[way] = [*levels, *(m.grad for m in inputs), *(p.grad for p in one.parameters())]
        eps = 1e-3 * max(value.detach().norm().item() for value in outputs["exact"])  # some are zero but for rounding
        error = {
            way: max(relative(a, b, eps) for a, b in zip(outputs[way], outputs["exact"], strict=True))
            for way in ("cpu", "device")
        }
        row: dict[str, Any] = {"error": error, "ok": error["device"] < 20 * error["cpu"] + 1e-4, "waits": waits}
        for dtype in (torch.bfloat16, torch.float16):
            with autocast(dtype), torch.no_grad():
                levels = one([m.detach() for m in inputs])
            row[str(dtype)] = max(relative(a, b) for a, b in zip(levels, outputs["exact"], strict=False))
        rows[name] = row


def detectors(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Compare each detector with itself on the CPU, and take steps in half precision."""
    allow_tf32(False)
    size = (96, 128) if sizes.tiny else (256, 1344)
    sample_uniform = samplers._sample_uniform
    # a GPU's generator draws other numbers
    samplers._sample_uniform = lambda indices, count, generator: indices[:count]
    try:
        for name in DETECTORS:
            every = {"score_thresh" if name in ("retinanet", "fcos") else "box_score_thresh": 0.0}
            here = detector(f"{name}_lite0_drfpn", size, torch.device("cpu"), width=sizes.compared_width, **every)
            there = copy.deepcopy(here).to(DEVICE)
            sides: dict[str, Any] = {}
            for side, model, device in (("cpu", here, torch.device("cpu")), ("device", there, DEVICE)):
                images, targets = scene(size, 2, device)
                losses, waits = count_waits(lambda m=model, i=images, t=targets: m.train()(i, t))
                total(losses).backward()
                with torch.no_grad():
                    detections = [len(one["scores"]) for one in model.eval().detect(images)]
                losses = {key: value.item() for key, value in losses.items()}
                sides[side] = {"losses": losses, "detections": detections, "waits": waits}
            row: dict[str, Any] = sides | {"gradient's error": relative(gradients(there), gradients(here))}
            for dtype, scale in ((torch.bfloat16, 1.0), (torch.float16, 1024.0)):
                there.zero_grad()
                with autocast(dtype):
                    losses = there.train()(images, targets)
                (scale * total(losses)).backward()
                finite = bool(gradients(there).isfinite().all())
                row[str(dtype)] = {"finite": finite, **{key: value.item() for key, value in losses.items()}}
            rows[name] = row
    finally:
        samplers._sample_uniform = sample_uniform


def full_size(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Time Faster R-CNN at the paper's size with three necks."""
    rows["paper"] = PAPER
    images, targets = scene(sizes.image, sizes.batch)
    for name in ("fpn", "pafpn", "drfpn"):
        model = detector(f"faster_rcnn_{sizes.body}_{name}", sizes.image, width=sizes.width)
        rows[name] = {}
        inference(model, images, sizes, rows[name])
        training_steps(model, images, targets, sizes, rows[name])
        del model


def inference(model: Any, images: list[Tensor], sizes: Sizes, row: dict[str, Any]) -> None:
    """Time the detections of one image."""
    fused = copy.deepcopy(model).eval()
    fused.backbone = fuse(fused.backbone, torch.zeros(1, 3, 128, 128, device=DEVICE))
    for way, one, dtype, tf32 in (
        ("float32", model, None, False),
        ("TF32", model, None, True),
        ("TF32, norms folded", fused, None, True),
        ("bfloat16, norms folded", fused, torch.bfloat16, True),
    ):
        allow_tf32(tf32)

        def detect(one: Any = one, dtype: torch.dtype | None = dtype) -> Any:
            with torch.inference_mode(), autocast(dtype):
                return one.eval().detect(images[:1])

        row[f"inference {way}, ms"] = milliseconds(detect, 3 * sizes.times)
    row["inference, profile"] = profile(detect)
    row["inference, waits"] = count_waits(detect)[1]


def training_steps(
    model: Any, images: list[Tensor], targets: list[dict[str, Tensor]], sizes: Sizes, row: dict[str, Any]
) -> None:
    """Time training steps and measure their memory."""
    neck = model.backbone.neck
    ways: list[tuple[str, torch.dtype | None, bool, torch.memory_format, bool]] = [
        ("float32", None, False, LAST, False),
        ("TF32", None, True, LAST, False),
        ("bfloat16", torch.bfloat16, True, LAST, False),
        ("float16", torch.float16, True, LAST, False),
        ("bfloat16, contiguous", torch.bfloat16, True, FIRST, False),
    ]
    ways += [("bfloat16, neck compiled", torch.bfloat16, True, LAST, True)] * (GPU and isinstance(neck, DRFPN))
    for way, dtype, tf32, layout, compiled in ways:
        allow_tf32(tf32)
        model.to(memory_format=layout)
        model.backbone.neck = torch.compile(neck, dynamic=False) if compiled else neck
        step = training_step(model, images, targets, dtype)
        try:
            with peak_gib(row, f"training {way}, GiB"):
                row[f"training {way}, ms"] = milliseconds(step, max(1, sizes.times // 2), warm=2)
            if way == "bfloat16":
                row["training, profile"] = profile(step)
                row["training, waits"] = count_waits(step)[1]
        except Exception as error:  # out of memory, no compiler: the other ways are worth having
            row[f"training {way} failed"] = f"{type(error).__name__}: {str(error)[:300]}"
    model.backbone.neck = neck


def training_step(
    model: Any, images: list[Tensor], targets: list[dict[str, Tensor]], dtype: torch.dtype | None
) -> Callable[[], None]:
    """Return a training step in a precision."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6, momentum=0.9)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=dtype is torch.float16)

    def step() -> None:
        with autocast(dtype):
            loss = total(model.train()(images, targets))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step


def neck_alone(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Time the necks alone."""
    allow_tf32(True)
    channels = (256, 512, 1024, 2048)
    height, width = (96, 128) if sizes.tiny else (800, 1344)
    makes: dict[str, Callable[[], nn.Module]] = {
        "fpn": lambda: FPN(channels, sizes.width),
        "pafpn": lambda: PAFPN(channels, sizes.width),
        "drfpn": lambda: DRFPN(channels, sizes.width),
        "drfpn, paper": lambda: DRFPN(channels, sizes.width, convention="paper"),
    }
    for batch in (1, sizes.batch):
        for layout in (LAST, FIRST):
            maps = [
                torch.randn(batch, c, height >> i, width >> i, device=DEVICE).contiguous(memory_format=layout)
                for i, c in enumerate(channels, start=2)
            ]
            for name, make in makes.items():
                neck = make().to(DEVICE, memory_format=layout)  # type: ignore[call-overload]
                kind = "channels_last" if layout is LAST else "contiguous"
                rows[f"{name}, batch {batch}, {kind}"] = time_neck(neck, maps, sizes)


def time_neck(neck: nn.Module, maps: list[Tensor], sizes: Sizes) -> dict[str, Any]:
    """Time a neck on some maps."""
    row: dict[str, Any] = {}

    def infer(dtype: torch.dtype | None = None) -> Any:
        with torch.inference_mode(), autocast(dtype):
            return neck.eval()(maps)

    def train() -> None:
        inputs = [m.detach().requires_grad_() for m in maps]
        levels = neck.train()(inputs)
        torch.autograd.backward(list(levels), [torch.ones_like(level) for level in levels])

    row["inference TF32, ms"] = milliseconds(infer, sizes.times)
    row["inference bfloat16, ms"] = milliseconds(lambda: infer(torch.bfloat16), sizes.times)
    row["profile"] = profile(infer)
    if GPU:
        try:
            row["inference TF32, CUDA graph, ms"] = milliseconds(capture(neck, maps), sizes.times)
        except RuntimeError as error:
            row["CUDA graph failed"] = str(error)[:300]
    with peak_gib(row, "forward and backward, GiB"):
        row["forward and backward, ms"] = milliseconds(train, sizes.times)
    return row


def capture(neck: nn.Module, maps: list[Tensor]) -> Callable[[], None]:
    """Record a neck's inference as a CUDA graph, which launches all its kernels at once."""
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                neck.eval()(maps)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            neck(maps)
    return graph.replay


def training(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Train two small detectors on synthetic images in bfloat16, at the learning rate of the scale ``small``."""
    from drfpn.data import ShapesDataset

    allow_tf32(True)
    data = ShapesDataset("train", 64)
    samples = [data[i] for i in range(len(data))]
    for name in ("fpn", "drfpn"):
        torch.manual_seed(0)
        model = detector(f"faster_rcnn_lite0_{name}", (240, 320), width=64, anchor_scale=4, frozen_stages=-1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9, weight_decay=1e-4)
        losses: list[float] = []
        start = time.monotonic()
        while time.monotonic() - start < sizes.seconds:
            batch = [samples[i] for i in torch.randint(len(samples), (8,)).tolist()]
            images = [image.to(DEVICE).float() / 255 for image, _ in batch]
            targets = [{key: target[key].to(DEVICE) for key in ("boxes", "labels")} for _, target in batch]
            with autocast(torch.bfloat16):
                loss = total(model.train()(images, targets))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            losses.append(loss.item())
        tenth = max(1, len(losses) // 10)
        curve = [round(statistics.mean(losses[i : i + tenth]), 4) for i in range(0, len(losses), tenth)]
        rows[name] = {"steps": len(losses), "seconds": round(time.monotonic() - start, 1), "loss by tenths": curve}


def deterministic(sizes: Sizes, rows: dict[str, Any]) -> None:
    """Take the same step twice with deterministic operators alone."""
    names = [f"retinanet_lite0_{neck}" for neck in ("drfpn", "fpn_dcn", "sepc", "fapn", "dysample", "bifpn")]
    for name in ("faster_rcnn_lite0_drfpn", *names):
        model, (images, targets) = detector(name, (96, 128), width=64), scene((96, 128), 2)
        grads = []
        torch.use_deterministic_algorithms(True)
        try:
            for _ in range(2):
                torch.manual_seed(1)
                model.zero_grad()
                total(model.train()(images, targets)).backward()
                grads.append(gradients(model))
            rows[name] = {"same bits": bool(torch.equal(*grads))}
        except RuntimeError as error:
            rows[name] = {"refused": str(error).splitlines()[0][:160]}
        finally:
            torch.use_deterministic_algorithms(False)


SECTIONS = (necks, detectors, deterministic, full_size, neck_alone, training)


def table(result: dict[str, Any]) -> str:
    """Return section 4.6 of the paper beside what was measured, as Markdown."""
    rows: dict[str, Any] = result.get("full_size", {})
    lines = ["| | inference, ms | of FPN's | training step, ms | of FPN's |", "|---|---|---|---|---|"]
    for name in ("fpn", "pafpn", "drfpn"):
        for way in ("TF32", "bfloat16"):
            shown = way if way == "TF32" else "bfloat16, norms folded"
            cells = []
            for kind in (f"inference {shown}, ms", f"training {way}, ms"):
                ours, theirs = (rows.get(key, {}).get(kind) for key in (name, "fpn"))
                median = [values[len(values) // 2] if values else None for values in (ours, theirs)]
                cells += ["-", "-"] if None in median else [f"{median[0]:.1f}", f"{median[0] / median[1]:.2f}"]
            lines.append(f"| {name}, {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=480.0, help="seconds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    start = time.monotonic()
    sizes = Sizes(args.tiny or not GPU)
    name = torch.cuda.get_device_name() if GPU else "cpu"
    machine = {"device": name, "torch": torch.__version__, "image": sizes.image, "batch": sizes.batch}
    result: dict[str, Any] = {"machine": machine, "seconds": {}}
    for section in SECTIONS:
        key = section.__name__
        started = time.monotonic()
        if (args.only and key not in args.only.split(",")) or started - start > args.budget - 60:
            continue
        try:
            section(sizes, result.setdefault(key, {}))
        except Exception as error:  # whatever a GPU brings: the other sections are worth having
            where = traceback.format_exc(limit=-4)
            result[f"{key} failed"] = f"{type(error).__name__}: {str(error)[:300]}\n{where}"
        result["seconds"][key] = round(time.monotonic() - started, 1)
        print(f"{key}: {result['seconds'][key]} s", file=sys.stderr, flush=True)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result), file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
