"""The model card says what is true of the pushed weights."""

import html
import re

from huggingface_hub import ModelCard

from drfpn.hub import push
from drfpn.training.checkpoint import load_card, load_detector, save_detector
from tests.hub.conftest import CLASSES


def card_of(hub, run, **options: object) -> str:
    commit = push(run, "me/mine", **options).commit
    return hub.repos["me/mine"].commits[commit]["README.md"].decode()


def change_card(run, name: str, **fields: object) -> None:
    """Write another card into the weights of a run."""
    model, card = load_detector(run / name)
    config = card.config.model_copy(update=fields.pop("config", {}))
    save_detector(run / name, model, card.model_copy(update={"config": config, **fields}))


def test_the_metadata_are_those_of_the_run(hub, run) -> None:
    data = ModelCard(card_of(hub, run, license="cc-by-4.0")).data
    assert (data.library_name, data.license, data.pipeline_tag) == ("drfpn", "cc-by-4.0", "object-detection")
    assert {"faster_rcnn", "drfpn"} <= set(data.tags)
    assert data.base_model is None
    first, second = data.eval_results
    assert (first.metric_name, first.metric_value, first.dataset_name, first.dataset_split) == (
        "box AP",
        50,
        "farm",
        "val",
    )
    assert (second.metric_name, second.metric_value) == ("box AP50", 75)


def test_the_text_has_data_classes_metrics_and_the_way_to_use_it(hub, run) -> None:
    text = card_of(hub, run)
    for part in (
        "drfpn predict hf:me/mine",
        'load_predictor("hf:me/mine")',
        "farm; train: 7 images with 20 objects; val: 4 images with 9 objects",
        "![Detections in an image of the validation split](<pictures/seen.jpg>)",
        "on the split val of farm, 4 images",
        "| boxes | 50.0 | 75.0 | 25.0 | - | - | - |",
        "drfpn train --config config.yaml -o data=path/to/dataset",
        "none, trained from scratch",
        "None is stated",
    ):
        assert part in text


def test_names_of_classes_cannot_format_the_card(hub, run) -> None:
    text = card_of(hub, run)
    assert "<i>" not in text
    (row,) = re.findall(r"^\| classes \| (.*) \|$", text, flags=re.MULTILINE)
    assert html.unescape(row) == ", ".join(CLASSES)
    assert row.count("|") == 0


def test_metrics_of_another_epoch_are_not_given_as_those_of_the_weights(hub, run) -> None:
    assert "| cat | 50.0 |" in card_of(hub, run)
    change_card(run, "last.safetensors", epoch=4)
    text = card_of(hub, run)
    assert "| cat |" not in text
    assert "metrics.json and the pictures are of the last epoch, 4" in text


def test_initial_weights_of_the_hub_are_the_base_model(hub, run) -> None:
    change_card(run, "best.safetensors", config={"weights": "hf:us/fpn@v1"})
    text = card_of(hub, run)
    assert ModelCard(text).data.base_model == "us/fpn"
    assert load_card("hf:me/mine").config.weights == "hf:us/fpn@v1"
    change_card(run, "best.safetensors", config={"weights": None, "weights_backbone": True})
    assert ModelCard(card_of(hub, run)).data.base_model == "timm/test_efficientnet.r160_in1k"


def test_without_pictures_the_card_shows_none(hub, run) -> None:
    assert "![" not in card_of(hub, run, pictures=False)
