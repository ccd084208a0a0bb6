"""Files of earlier versions are read through the table of former names."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from drfpn.ablations.store import Store
from drfpn.training import RunConfig, resolve
from drfpn.training.checkpoint import load_card
from drfpn.training.config import check_config
from drfpn.training.resolve import read_config
from drfpn.utils.aliases import SETTINGS, rename_keys
from drfpn.utils.errors import UsageError

ROOT = Path(__file__).parents[2]
OLD = {"first": 200, "lr_per_16": 0.04, "decay": "cosine", "accumulate": 2, "flip": 0.25}
NEW = {"max_train_images": 200, "base_lr": 0.04, "lr_schedule": "cosine", "grad_accum_steps": 2, "hflip_prob": 0.25}
MODEL = {"model": "faster_rcnn_lite0_fpn", "data": "shapes"}


def test_every_top_level_name_in_the_table_is_a_setting() -> None:
    assert {name for name in SETTINGS.values() if "." not in name} <= set(RunConfig.model_fields)
    assert not {name for name in SETTINGS if "." not in name} & set(RunConfig.model_fields)


def test_old_settings_are_those_of_today() -> None:
    expected = RunConfig(**MODEL, **NEW)
    assert RunConfig(**MODEL, **OLD) == check_config(MODEL | OLD, saved=True) == expected
    assert resolve(**MODEL, **OLD) == resolve(**MODEL, **NEW)
    assert RunConfig(**MODEL, **OLD).changed(expected) == []


def test_an_old_config_file_is_read_with_a_note_on_demand(tmp_path, caplog) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MODEL | OLD))
    caplog.set_level(logging.WARNING, "drfpn")
    assert read_config(file) == RunConfig(**MODEL, **NEW)
    assert caplog.messages == []
    assert read_config(file, note=True) == RunConfig(**MODEL, **NEW)
    assert "'lr_per_16' is now called 'base_lr'." in caplog.messages


def test_an_override_with_an_old_name_is_applied_with_a_note(tmp_path, caplog) -> None:
    caplog.set_level(logging.WARNING, "drfpn")
    old = [f"{key}={value}" for key, value in OLD.items()]
    new = [f"{key}={value}" for key, value in NEW.items()]
    assert resolve(**MODEL, overrides=old) == resolve(**MODEL, overrides=new)
    assert caplog.messages == [f"'{a}' is now called '{b}'." for a, b in zip(OLD, NEW, strict=True)]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MODEL | OLD))
    assert read_config(file, ["lr_per_16=0.5"]).base_lr == 0.5
    assert read_config(file, ["base_lr=0.5"]).base_lr == 0.5


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({}, ["lr_per_16=0.5", "base_lr=0.25"]),
        ({}, ["base_lr=0.25", "lr_per_16=0.5"]),
        ({"base_lr": 0.25}, ["lr_per_16=0.5"]),
        ({"lr_per_16": 0.25}, ["base_lr=0.5"]),
    ],
)
def test_both_names_of_a_setting_cannot_be_given_together(settings, overrides) -> None:
    with pytest.raises(UsageError, match=r"^'lr_per_16' is the former name of 'base_lr': give one of them\.$"):
        resolve(**MODEL, **settings, overrides=overrides)


def test_both_names_of_a_detector_option_cannot_be_given_together() -> None:
    overrides = ["detector_options={region_pool: roi_align}", "detector_options.roi_pool=roi_align"]
    with pytest.raises(UsageError, match=r"'detector_options\.region_pool' is the former name of .*\.roi_pool'"):
        resolve(**MODEL, overrides=overrides)


def test_the_last_of_two_overrides_of_one_name_counts() -> None:
    assert resolve(**MODEL, overrides=["base_lr=0.5", "base_lr=0.25"]).base_lr == 0.25


def test_an_override_counts_before_the_former_name_in_a_file_with_one_note(tmp_path, caplog) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MODEL | {"first": 3}))
    caplog.set_level(logging.WARNING, "drfpn")
    assert read_config(file, ["max_train_images=4"], note=True).max_train_images == 4
    assert caplog.messages == ["'first' is now called 'max_train_images'."]


def test_both_names_in_one_file_are_refused(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MODEL | {"flip": 0.1, "hflip_prob": 0.2}))
    with pytest.raises(UsageError, match=r"'flip' is the former name of 'hflip_prob': give one of them"):
        read_config(file)


def test_keys_inside_of_others_are_renamed_in_place() -> None:
    aliases = {"options.size": "options.side", "top": "first"}
    values = {"a": {"size": 1}, "options": {"size": 2, "b": {"size": 3}}, "top": 4}
    renamed = rename_keys(values, aliases)
    assert renamed == {"a": {"size": 1}, "options": {"side": 2, "b": {"size": 3}}, "first": 4}
    assert list(renamed) == ["a", "options", "first"]
    with pytest.raises(UsageError, match=r"'options\.size' is the former name of 'options\.side'"):
        rename_keys({"options": {"size": 1, "side": 2}}, aliases)


def test_committed_results_are_read_and_equal_the_settings_of_today() -> None:
    file = ROOT / "experiments/bccd-faster_rcnn-short/results.jsonl"
    saved = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert {"lr_per_16", "accumulate", "decay", "flip", "first"} <= set(saved["config"])
    store = Store(file)
    record = store.records[saved["row"], saved["seed"]]
    assert record.config.base_lr == saved["config"]["lr_per_16"]
    assert record.config.hflip_prob == saved["config"]["flip"]
    store.check([(record.row, check_config(saved["config"], saved=True))], record.data)


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/**/results.jsonl")), ids=lambda file: file.parent.name)
def test_every_committed_result_is_read(file) -> None:
    assert len(Store(file).records) == len(file.read_text(encoding="utf-8").splitlines())


def test_the_card_of_the_app_s_detector_is_read() -> None:
    assert load_card(ROOT / "src/drfpn/app/shapes.safetensors").config.base_lr == 0.02
