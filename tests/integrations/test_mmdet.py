"""In an environment with mmdetection: ``make test-mmdet``."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_checkpoint
from safetensors import safe_open

from tests.integrations import mmcv_ops

mmcv_ops.install()

import mmdet  # noqa: E402
from mmdet.models.necks import FPN, PAFPN  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.testing import demo_mm_inputs  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402

from drfpn.integrations.mmdet import FeaturePyramid  # noqa: E402
from drfpn.utils.errors import UsageError  # noqa: E402

CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
IMPORT_LINE = "custom_imports = dict(imports=['drfpn.integrations.mmdet'])"
DETECTORS = {
    "faster": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "mask": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}


def test_a_line_in_a_config_registers_the_necks(tmp_path) -> None:
    file = tmp_path / "config.py"
    file.write_text(f"{IMPORT_LINE}\nneck = dict(type='DRFPN', in_channels=[4, 6], out_channels=8, num_outs=3)\n")
    code = f"""
from tests.integrations import mmcv_ops
mmcv_ops.install()
from mmengine.config import Config
config = Config.fromfile({str(file)!r})
from mmdet.registry import MODELS
print(type(MODELS.build(config.neck).neck))
"""
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert "drfpn.necks.drfpn.neck.DRFPN" in result.stdout, result.stderr


@pytest.fixture(autouse=True, scope="module")
def _mmdet() -> None:
    logging.getLogger("mmengine").setLevel(logging.ERROR)
    register_all_modules()
    init_default_scope("mmdet")


def read_config(tmp_path: Path, detector: str, neck: str) -> Config:
    """Read a user's config: a base of mmdetection, the import of the necks, and a ResNet-18 for speed."""
    file = tmp_path / "config.py"
    backbone = "backbone=dict(depth=18, init_cfg=None), " if "fcos" not in detector else "backbone=dict(init_cfg=None),"
    file.write_text(
        f"_base_ = '{CONFIGS / DETECTORS[detector]}'\n{IMPORT_LINE}\nmodel = dict({backbone} neck={neck})\n"
    )
    return Config.fromfile(file)


def build(tmp_path: Path, detector: str, neck: str):
    """Build a detector with initialized weights, by the config's neck with ResNet-18's channels."""
    if "fcos" not in detector:
        neck = neck.replace("dict(", "dict(in_channels=[64, 128, 256, 512], ")
    config = read_config(tmp_path, detector, neck)
    model = MODELS.build(config.model)
    model.init_weights()
    return model


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_with_drfpn_trains_and_detects_by_a_line_in_its_config(detector, tmp_path) -> None:
    model = build(tmp_path, detector, "dict(type='DRFPN', init_cfg=None)")
    assert type(model.neck.neck).__module__ == "drfpn.necks.drfpn.neck"
    data = demo_mm_inputs(
        2, [[3, 96, 128], [3, 96, 96]], num_classes=80, num_items=[3, 2], with_mask=detector == "mask"
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.001)
    before = {name: p.detach().clone() for name, p in model.neck.named_parameters()}
    for _ in range(2):
        losses = model(**model.data_preprocessor(data, True), mode="loss")
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    assert [name for name, p in model.neck.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p).all() for p in model.neck.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in model.neck.named_parameters())
    model.eval()
    with torch.no_grad():
        assert len(model.test_step(data)) == 2


LAYOUTS = {
    "one pooled level": {"num_outs": 5},
    "two pooled levels": {"num_outs": 6},
    "no further level": {"num_outs": 4},
    "from C5": {"num_outs": 5, "start_level": 1, "add_extra_convs": "on_input"},
    "from C5, by True": {"num_outs": 5, "start_level": 1, "add_extra_convs": True},
    "from P5 behind ReLU": {
        "num_outs": 6,
        "start_level": 1,
        "add_extra_convs": "on_output",
        "relu_before_extra_convs": True,
    },
    "an earlier last level": {"num_outs": 2, "start_level": 1, "end_level": 2},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("theirs", [FPN, PAFPN])
def test_fpn_and_pafpn_compute_mmdetections_levels_from_its_weights(theirs, layout, pyramid_maps) -> None:
    maps = tuple(pyramid_maps(rounded_up=True))
    expected = theirs([4, 6, 8, 10], 8, **LAYOUTS[layout])
    expected.init_weights()
    neck = MODELS.build(
        {"type": "FeaturePyramid", "neck": theirs.__name__.lower(), "in_channels": [4, 6, 8, 10], "out_channels": 8}
        | LAYOUTS[layout]
    )
    neck.load_state_dict(expected.state_dict())
    for ours, theirs_level in zip(neck(maps), expected(maps), strict=True):
        torch.testing.assert_close(ours, theirs_level)


@pytest.mark.parametrize("detector", ["faster", "retinanet", "fcos"])
def test_drfpn_loaded_from_a_detector_with_fpn_computes_its_levels_bit_for_bit(detector, tmp_path) -> None:
    trained = build(tmp_path, detector, "dict(type='FPN')").eval()
    file = tmp_path / "fpn.pth"
    torch.save({"state_dict": trained.state_dict()}, file)
    model = build(tmp_path, detector, "dict(type='DRFPN', init_cfg=None)").eval()
    load_checkpoint(model, str(file), map_location="cpu", logger="silent")
    images = torch.rand(1, 3, 128, 160)
    with torch.no_grad():
        for level, expected in zip(model.extract_feat(images), trained.extract_feat(images), strict=True):
            torch.testing.assert_close(level, expected, rtol=0, atol=0)


def test_a_checkpoint_of_drfpn_itself_is_loaded_again(pyramid_maps) -> None:
    config = {"type": "DRFPN", "in_channels": [4, 6, 8, 10], "out_channels": 8, "num_outs": 5}
    first, second = MODELS.build(config), MODELS.build(config)
    second.load_state_dict(first.state_dict())
    maps = tuple(pyramid_maps())
    torch.testing.assert_close(first(maps), second(maps), rtol=0, atol=0)


def test_the_authors_weights_are_loaded_by_their_names(assets) -> None:
    with safe_open(assets / "golden/two_stage_eval.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        widths = json.loads(file.metadata()["in_channels"])
    weights = {name.removeprefix("release."): t for name, t in tensors.items() if name.startswith("release.")}
    out_channels = tensors["output.0"].shape[1]
    config = {"type": "DRFPN", "in_channels": widths, "out_channels": out_channels, "num_outs": 5}
    neck = MODELS.build(config | {"convention": "release"}).eval()
    neck.load_state_dict(weights)
    for i, level in enumerate(neck([tensors[f"input.{i}"] for i in range(4)])):
        expected = tensors[f"output.{i}"]
        torch.testing.assert_close(level, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("neck", ["fapn", "bifpn", "carafe", "libra", "nas_fpn", "augfpn"])
def test_other_necks_are_named_by_their_key(neck, pyramid_maps) -> None:
    config = {"type": "FeaturePyramid", "neck": neck, "in_channels": [4, 6, 8, 10], "out_channels": 32, "num_outs": 5}
    levels = MODELS.build(config)(tuple(pyramid_maps(height=64, width=64)))
    assert [tuple(level.shape[1:]) for level in levels] == [(32, s, s) for s in (64, 32, 16, 8, 4)]


def test_init_weights_keeps_the_necks_own_start() -> None:
    neck = MODELS.build({"type": "DRFPN", "in_channels": [4, 6, 8, 10], "out_channels": 8, "num_outs": 5})
    before = {name: value.clone() for name, value in neck.state_dict().items()}
    neck.init_weights()
    torch.testing.assert_close(dict(neck.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_cfg": {"type": "BN"}}, "`norm_cfg` is"),
        ({"num_outs": 3}, "`num_outs` is 3, expected at least 4"),
        ({"start_level": 4}, "`start_level` 4 and `end_level` -1 do not choose from 4 maps"),
        ({"add_extra_convs": "on_lateral"}, "`add_extra_convs` is 'on_lateral', expected 'on_input'"),
        ({"convetnion": "paper"}, "Did you mean 'convention'?"),
        ({"neck": "drfp"}, "Did you mean 'drfpn'?"),
    ],
)
def test_a_wrong_argument_is_named(change, message) -> None:
    arguments = {"in_channels": [4, 6, 8, 10], "out_channels": 8, "num_outs": 5, "neck": "drfpn"} | change
    with pytest.raises(UsageError) as caught:
        FeaturePyramid(**arguments)
    assert message in str(caught.value)
