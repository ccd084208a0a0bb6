from types import SimpleNamespace

import torch
from torch import nn

from drfpn.data import open_dataset
from drfpn.training import Card, resolve
from drfpn.training.checkpoint import build
from drfpn.visualization import draw_neck_figures


def detector(model: str) -> nn.Module:
    torch.manual_seed(0)
    config = resolve(model, "shapes", overrides=("width=16", "weights_backbone=null"))
    return build(Card(config=config, classes=("a",), category_ids=(1,))).eval()


def test_a_drfpns_levels_offsets_and_gates_are_drawn_and_diagnosed(tmp_path) -> None:
    figures = draw_neck_figures(detector("faster_rcnn_lite0_drfpn"), open_dataset("shapes", "val"), [3, 1], tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"levels.png", "offsets.png", "gates.png"}
    assert figures.image == "3"
    assert figures.images == 2
    assert [diagnosis.pair for diagnosis in figures.offsets] == ["C2-C3", "C3-C4", "C4-C5"]
    assert len(figures.weights) == len(figures.gates) == 3
    assert "over 2 images" in figures.gates[0].words or figures.gates[0].words.startswith("dead")


def test_an_fpn_has_levels_alone(tmp_path) -> None:
    figures = draw_neck_figures(detector("faster_rcnn_lite0_fpn"), open_dataset("shapes", "val"), [0], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["levels.png"]
    assert (figures.offsets, figures.weights, figures.gates) == ([], [], [])


def test_a_model_without_a_neck_of_this_library_has_no_figures(tmp_path) -> None:
    model = SimpleNamespace(backbone=nn.Identity())
    assert draw_neck_figures(model, open_dataset("shapes", "val"), [0], tmp_path) is None
    assert list(tmp_path.iterdir()) == []
