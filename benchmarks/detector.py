"""Inference and training times of whole detectors, relative to torchvision's with the same weights.

``python benchmarks/detector.py [--size 800x1280] [--batch 1] [--turns 5] [--threads 2] [--exported] [--out FILE.json]``

Faster R-CNN with ResNet-50: inference from uint8 images to boxes, and a training step. Torchvision's random weights are
loaded into our detectors; with FPN, outputs are then equal, which is checked. ``fused`` is the detector of
``drfpn predict``, with normalization folded into convolutions. ``--exported`` adds ONNX Runtime and OpenVINO. All are
timed in turns in one process; times are medians over the turns with quartiles, ratios medians of the ratios within a
turn.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from turns import time_in_turns

from drfpn import build_detector
from drfpn.ablations.timing import TimeRatio, time_ratio
from drfpn.export import load_exported, quantize, to_onnx
from drfpn.export.openvino import onnx_to_openvino
from drfpn.ops import fuse
from drfpn.training.trial_step import random_target

CLASSES = 80
BASE = "torchvision, fpn"


def make_models(size: tuple[int, int]) -> dict[str, nn.Module]:
    """Return the detectors by name."""
    torch.manual_seed(0)
    sides: dict[str, Any] = {"min_size": min(size), "max_size": max(size)}
    # the configuration of fasterrcnn_resnet50_fpn with pretrained weights
    body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3)
    theirs = FasterRCNN(body, CLASSES + 1, **sides)
    scale_norms(theirs)
    models: dict[str, nn.Module] = {BASE: theirs}
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        file = Path(folder) / "theirs.pth"
        torch.save(theirs.state_dict(), file)
        for neck in ("fpn", "drfpn"):
            model: Any = build_detector(f"faster_rcnn_r50_{neck}", CLASSES, weights=file, **sides)
            models[f"ours, {neck}"] = model.to(memory_format=torch.channels_last)
    return models


def export(models: dict[str, nn.Module], folder: Path) -> dict[str, Any]:
    """Return our exported detectors by name."""
    exported: dict[str, Any] = {}
    for name in ("fpn", "drfpn"):
        metadata = {"model": name, "classes": "[]", "category_ids": "[]"}
        model, onnx, xml = models[f"ours, {name}"], folder / f"{name}.onnx", folder / f"{name}.xml"
        print(f"exporting {name}", file=sys.stderr)
        to_onnx(model, onnx, metadata)
        onnx_to_openvino(onnx, xml, metadata)
        quantized = folder / f"{name}.int8.xml"
        noise = torch.randint(0, 256, (2, 3, 800, 1280), dtype=torch.uint8)
        quantize(xml, quantized, noise)  # the quantization ranges do not affect the time
        exported[f"ours, {name}, OpenVINO, 8 bits"] = load_exported(quantized)
        exported |= {f"ours, {name}, ONNX Runtime": load_exported(onnx), f"ours, {name}, OpenVINO": load_exported(xml)}
    return exported


def scale_norms(model: nn.Module) -> None:
    """Scale the frozen BatchNorm layers of a random ResNet so that its feature maps stay finite."""
    for name, buffer in model.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.2)


def detect(model: Any, images: list[Tensor]) -> Any:
    with torch.inference_mode():
        return model.eval()([image.float() / 255 for image in images])


def run_exported(model: Any, images: list[Tensor]) -> None:
    for image in images:
        model.run(image.numpy())


def train(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
    model.train()
    torch.stack(list(model([image.float() / 255 for image in images], targets).values())).sum().backward()
    model.zero_grad()


def show(title: str, times: dict[str, list[float]], base: str) -> dict[str, TimeRatio]:
    print(f"\n{title:32} {'ms':>24} {'of ' + base:>24}")
    ratios = {}
    for name, seconds in times.items():
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        ratios[name] = time_ratio(seconds, times[base])
        print(f"{name:32} {1e3 * median:8.0f} ({1e3 * low:5.0f} to {1e3 * high:5.0f}) {ratios[name].median:24.2f}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="800x1280")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exported", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    height, width = map(int, options.size.split("x"))
    models = make_models((height, width))
    torch.manual_seed(1)
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(options.batch)]
    targets = [random_target(height, width, 8, torch.device("cpu")) for _ in images]
    expected, scores = (detect(models[name], images)[0]["scores"] for name in (BASE, "ours, fpn"))
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)
    functions = {name: partial(detect, model, images) for name, model in models.items()}
    for name in ("fpn", "drfpn"):
        fused = copy.deepcopy(models[f"ours, {name}"])
        fused.backbone = fuse(fused.backbone, torch.zeros(1, 3, 128, 128))
        functions[f"ours, {name}, fused"] = partial(detect, fused, images)
    with tempfile.TemporaryDirectory() as folder:
        exported = export(models, Path(folder)) if options.exported else {}
    functions |= {name: partial(run_exported, model, images) for name, model in exported.items()}
    inference = time_in_turns(functions, options.turns)
    training = time_in_turns(
        {name: partial(train, model, images, targets) for name, model in models.items()}, options.turns
    )
    print(f"{height} x {width}, batch {options.batch}, {options.threads} threads, torch {torch.__version__}")
    results = {
        "inference": show("inference", inference, BASE),
        "training": show("training step", training, BASE),
        "inference, of our fpn": show("inference", inference, "ours, fpn"),
        "training, of our fpn": show("training step", training, "ours, fpn"),
    }
    if options.out is not None:
        numbers = {name: {key: r.model_dump() for key, r in ratios.items()} for name, ratios in results.items()}
        options.out.write_text(json.dumps({"size": options.size, "batch": options.batch} | numbers, indent=1))


if __name__ == "__main__":
    main()
