"""Cards of runs on the Hub, which anybody may have written."""

import json

import pytest
from safetensors.torch import load_file, save

from drfpn.training import load_detector
from drfpn.training.checkpoint import Card, build, save_detector
from drfpn.utils.errors import UserError
from tests.hub.fake_hub import Repo


@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    [
        ({"width": 10**9}, {}, "cannot be used|do not fit"),
        ({"width": 20_000}, {}, "do not fit"),
        ({"detector_options": {"representation_size": 10**8}}, {}, "do not fit"),
        ({"detector_options": {"anchor_scale": "x"}}, {}, "cannot be used"),
        ({"detector_options": {"num_classes": 3}}, {}, "cannot be used"),
        ({"neck_options": {"x": 1}}, {}, "'x' is not an option"),
        ({"model": "faster_rcnn_hf-hub:you/code_drfpn"}, {}, "Unknown backbone"),
        ({}, {"classes": []}, "holds no card"),
        ({}, {"classes": ["a", "b", "c"]}, "holds no card"),
        ({}, {"category_ids": ["x"]}, "holds no card"),
    ],
)
def test_a_card_that_does_not_fit_its_weights_is_refused_before_memory_is_allocated(
    hub, tiny_config, tmp_path, settings, fields, message
) -> None:
    card = Card(config=tiny_config(), classes=("a", "b"), category_ids=(1, 2))
    save_detector(tmp_path / "run.safetensors", build(card), card)
    text = card.model_dump(mode="json")
    text["config"] |= settings
    metadata = {"drfpn": json.dumps(text | fields)}
    data = save(load_file(tmp_path / "run.safetensors"), metadata=metadata)
    hub.repos["you/run"] = Repo()
    hub.repos["you/run"].commit({"best.safetensors": data})
    with pytest.raises(UserError, match=message) as error:
        load_detector("hf:you/run")
    assert "\n" not in str(error.value)
