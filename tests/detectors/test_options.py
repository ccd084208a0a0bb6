"""Options that users give to detectors, under their present and former names."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.ablations.store import Store
from drfpn.detectors.augfpn import SoftRoIPool
from drfpn.detectors.options import DETECTOR_OPTION_ALIASES
from drfpn.utils.errors import UsageError

RESULTS = Path(__file__).parents[2] / "experiments/bccd-faster_rcnn-short/results.jsonl"


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_detector(name, 3, width=32, **options)


def test_former_names_are_accepted_with_a_note(caplog) -> None:
    caplog.set_level(logging.WARNING, "drfpn")
    assert on_meta("fcos_lite0_fpn", centre_sampling=1.5).center_sampling_radius == 1.5
    assert isinstance(on_meta("faster_rcnn_lite0_fpn", region_pool="soft").roi_heads.box_roi_pool, SoftRoIPool)
    notes = [f"'{former}' is now called '{name}'." for former, name in DETECTOR_OPTION_ALIASES.items()]
    assert caplog.messages == notes


def test_present_names_are_accepted_without_a_note(caplog) -> None:
    caplog.set_level(logging.WARNING, "drfpn")
    assert on_meta("fcos_lite0_fpn", center_sampling_radius=1.5).center_sampling_radius == 1.5
    assert isinstance(on_meta("faster_rcnn_lite0_fpn", roi_pool="soft").roi_heads.box_roi_pool, SoftRoIPool)
    assert caplog.messages == []


def test_a_former_name_beside_the_present_one_is_refused() -> None:
    with pytest.raises(UsageError, match="'centre_sampling' is the former name of 'center_sampling_radius'"):
        on_meta("fcos_lite0_fpn", centre_sampling=1.5, center_sampling_radius=1.5)


def test_former_names_in_committed_results_are_read() -> None:
    saved = next(json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines() if "region_pool" in line)
    config = Store(RESULTS).records[saved["row"], saved["seed"]].config
    assert config.detector_options["roi_pool"] == saved["config"]["detector_options"]["region_pool"]
    assert "region_pool" not in config.detector_options
