"""Names are drawn literally in all figures and pictures, whatever characters they have."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageDraw

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.evaluation import analyze
from drfpn.inference import Detections, compare
from drfpn.inference.compare import draw_comparison
from drfpn.visualization import draw_boxes, fonts, save_evaluation_figures, side_by_side
from drfpn.visualization.class_bars import save_class_bars
from drfpn.visualization.curves import save_compared_training_curves
from drfpn.visualization.dataset import save_dataset_histograms
from drfpn.visualization.feature_maps import draw_features_after_fusion
from drfpn.visualization.fonts import figure_name, find_font, load_font
from drfpn.visualization.hooks import NeckTensors
from tests.names import NAMES

SRC = Path(__file__).parents[2] / "src/drfpn"


def draw_evaluation(names: list[str], folder: Path) -> None:
    box = {"bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    ground_truth = {
        "images": [{"id": 1, "width": 64, "height": 64, "file_name": "1.png"}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 0, **box}],
    }
    results = [{"image_id": 1, "category_id": 0, "bbox": [5, 5, 20, 20], "score": 0.9}]
    save_evaluation_figures(analyze(ground_truth, results, resamples=0), folder)


def draw_bars(names: list[str], folder: Path) -> None:
    save_class_bars({"run": dict.fromkeys(names, 0.5)}, folder / "bars.png")


def draw_curves(names: list[str], folder: Path) -> None:
    rows = [{"epoch": 1, "loss": 1.0, "AP": None}, {"epoch": 2, "loss": 0.5, "AP": 0.5}]
    save_compared_training_curves(dict.fromkeys(names, rows), folder / "curves.png")


def draw_histograms(names: list[str], folder: Path) -> None:
    annotations = Annotations(
        root=folder,
        source=folder,
        classes=tuple(names),
        category_ids=np.arange(len(names)),
        image_ids=np.array([1]),
        file_names=np.array(["1.png"]),
        sizes=np.array([[64, 64]]),
        **AnnotationBuilder().arrays(1),
    )
    with (folder / "histograms.png").open("wb") as stream:
        save_dataset_histograms(annotations, stream)


def draw_features(names: list[str], folder: Path) -> None:
    maps = [torch.rand(2, 4, 4), torch.rand(2, 2, 2)]
    tensors = NeckTensors(levels=["C2", "C3"], laterals=maps, outputs=maps, offsets={}, omegas={}, gates={})
    draw_features_after_fusion(dict.fromkeys(names, tensors), 0, [None], {}, folder / "after.png")


FIGURES = [draw_evaluation, draw_bars, draw_curves, draw_histograms, draw_features]


@pytest.fixture
def drawn(monkeypatch) -> list[Text]:
    """The texts of all figures that are saved."""
    texts: list[Text] = []
    save = Figure.savefig

    def collect(self: Figure, *args: Any, **options: Any) -> None:
        save(self, *args, **options)
        texts.extend(self.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", collect)
    return texts


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_names_are_drawn_literally_and_in_fonts_that_have_their_characters(draw, tmp_path, drawn) -> None:
    few = ("formula", "lines", "chinese", "long")  # each has panels of its own
    names = [NAMES[key] for key in (few if draw is draw_features else NAMES)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(names, tmp_path)
    shown = {text.get_text() for text in drawn}
    for name in names:
        assert {figure_name(name, length) for length in (24, 36, 40)} & shown, name
        if len(name) <= 24 and name.isascii() and name.isprintable():
            assert name in shown
    assert not any(text.get_parse_math() or text.get_usetex() for text in drawn)


def test_every_figure_is_saved_by_one_function() -> None:
    files = [file for file in SRC.rglob("*.py") if ".savefig(" in file.read_text(encoding="utf-8")]
    assert [file.name for file in files] == ["fonts.py"]
    files = [file for file in SRC.rglob("*.py") if "ImageFont." in file.read_text(encoding="utf-8")]
    assert [file.name for file in files] == ["fonts.py"]


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The texts that are written on pictures."""
    texts: list[str] = []
    write = ImageDraw.ImageDraw.text

    def collect(self: Any, position: Any, text: str, *args: Any, **options: Any) -> None:
        texts.append(text)
        write(self, position, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", collect)
    return texts


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_written_literally_on_a_picture(name, written) -> None:
    box, label = torch.tensor([[4.0, 20, 40, 60]]), torch.tensor([1])
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    picture = draw_boxes(image, box, label, [name])
    side_by_side([picture, picture], [name, "other"])
    detections = Detections(box, label, torch.tensor([0.9]), (64, 64), (name,), (1,))
    draw_comparison(compare(detections, detections), image, (name, "other"))
    assert len(written) == 1 + 2 + (2 + 2 + 1)
    for text in written:
        assert not set(text) & set("\n\r\t\x07\x1b")
        font, _ = load_font([text], 20)
        assert font.getbbox(text) is not None
        assert all(c.isascii() or find_font(c) is not None for c in text)
    if name.isascii() and name.isprintable() and len(name) <= 40:
        assert written[0] == written[1] == name


@pytest.fixture
def without_system_fonts(monkeypatch) -> None:
    monkeypatch.setattr(fonts, "_system_fonts", list)
    find_font.cache_clear()
    fonts._warn_of_missing_fonts.cache_clear()


def test_characters_without_a_font_are_escaped_with_one_warning(without_system_fonts, caplog) -> None:
    caplog.set_level(logging.WARNING, "drfpn")
    assert figure_name("螺栓 m6") == r"\u87ba\u6813 m6"
    assert figure_name("größe") == "größe"
    assert load_font(["螺"], 20)[1]("螺") == r"\u87ba"
    assert len(caplog.messages) == 1
    assert "none of this system's fonts" in caplog.messages[0]
    find_font.cache_clear()


def test_a_font_of_the_system_is_taken_for_characters_that_the_default_lacks(monkeypatch) -> None:
    class Chinese(fonts.FontFile):
        def has(self, character: str) -> bool:
            return character in "螺栓" or super().has(character)

    default = fonts._default_font()
    chinese = Chinese(default.path, "DejaVu Serif")
    monkeypatch.setattr(fonts, "_system_fonts", lambda: [chinese])
    find_font.cache_clear()
    assert find_font("螺") is chinese
    assert find_font("é") is default
    assert figure_name("螺栓") == "螺栓"
    figure = Figure()
    text = figure.text(0, 0, "螺栓")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the glyph is not really there
        fonts.save_figure(figure, Path("/dev/null"), "png")
    assert text.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]
    find_font.cache_clear()


def test_long_names_keep_both_ends() -> None:
    assert figure_name("a" * 20 + "b" * 20, 11) == "aaaa...bbbb"
    assert figure_name("a" * 11, 11) == "a" * 11


def test_a_log_without_ap_has_no_legend_of_it(tmp_path) -> None:
    from drfpn.visualization import save_training_curves

    (tmp_path / "log.jsonl").write_text(json.dumps({"epoch": 1, "loss": 1.0, "AP": None, "AP50": None}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_training_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 500
