"""HTML reports of one run and of several runs."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from drfpn.data import ShapesDataset
from drfpn.evaluation import evaluate_results
from drfpn.training import resolve
from drfpn.utils.errors import UserError
from drfpn.utils.formatting import printable
from drfpn.visualization import save_training_curves, write_comparison, write_report
from drfpn.visualization.class_bars import save_class_bars
from tests.names import NAMES


def make_run(folder: Path, *, masks: bool = False, ap: float = 0.25, **settings) -> Path:
    """Write the files of a finished run with made-up metrics."""
    folder.mkdir(parents=True)
    metrics = evaluate_results(ShapesDataset("val", 2).ground_truth(), [], masks=masks).model_dump()
    metrics["box"]["AP"] = ap
    metrics["examples"] = []
    metrics["cost"] = {"params": 4e6, "neck_params": 1e6, "macs": 2e9, "neck_macs": 1e9, "width": 320, "height": 240}
    metrics["data"] = {"train": {"images": 20, "objects": 70}, "val": {"images": 2, "objects": 7}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(resolve("faster_rcnn_lite0_fpn", **{"data": "shapes"} | settings).to_yaml())
    rows = [
        {"epoch": 1, "loss": 2.0, "seconds": 60.0},
        {"epoch": 2, "loss": 1.0, "seconds": 60.0, "AP": ap, "AP50": ap},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_training_curves(folder / "log.jsonl", folder / "curves.png")
    return folder


class Page(HTMLParser):
    """Parses a page: URLs that a browser would load, and elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("masks", [False, True])
def test_a_report_shows_the_numbers_of_boxes_and_of_masks_where_there_are_some(tmp_path, masks: bool) -> None:
    page = write_report(make_run(tmp_path / "run", masks=masks)).read_text()
    assert "AP of boxes" in page
    assert ("AP of masks" in page) is masks
    assert "faster_rcnn_lite0_fpn" in page
    assert "20 images with 70 objects" in page
    assert "2 epochs in 2.0 minutes" in page


def test_a_report_needs_nothing_else_and_is_sound_html(tmp_path) -> None:
    run = make_run(tmp_path / "a <b> & c")
    page = Page(write_report(run).read_text())
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert page.open == []
    assert "<b>" not in write_report(run).read_text()


def test_a_report_shows_best_and_worst_images_with_their_counts(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    (run / "pictures").mkdir()
    for name in ("good.jpg", "bad.jpg"):
        Image.new("RGB", (20, 10)).save(run / "pictures" / name)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["examples"] = [
        {"file": "good.jpg", "kind": "best", "f1": 1.0, "right": 3, "false": 0, "missed": 0},
        {"file": "bad.jpg", "kind": "worst", "f1": 0.2, "right": 1, "false": 5, "missed": 3},
    ]
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(run).read_text()
    assert (
        page.index("Images with the best F1")
        < page.index("good: 3 true positives, 0 false positives")
        < page.index("Images with the worst F1")
    )
    assert "bad: 1 true positives, 5 false positives, 3 missed objects" in page


def test_a_run_that_was_stopped_before_its_end_says_how_to_finish_it(tmp_path) -> None:
    run = make_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["cost"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="run is not finished: resume"):
        write_report(run)


def test_several_runs_are_compared_by_what_differs(tmp_path) -> None:
    a = make_run(tmp_path / "a", ap=0.25, epochs=3)
    b = make_run(tmp_path / "b", ap=0.30, epochs=5)
    text = write_comparison([a, b], tmp_path / "page.html").read_text()
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert ["epochs", "3", "5"] in cells
    assert not [row for row in cells if row[0] == "base_lr"]
    assert [row[:2] for row in cells if row[0] in ("a", "b")][:2] == [["a", "25.0"], ["b", "30.0"]]
    assert "With one run each" in text
    assert Page(text).open == []


def test_runs_on_other_images_or_of_other_classes_are_not_called_comparable(tmp_path) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", val_split="train")
    metrics = json.loads((b / "metrics.json").read_text())
    metrics["per_class"] = {"cat": {"AP": 0.5, "AP50": 0.5}}
    (b / "metrics.json").write_text(json.dumps(metrics))
    text = write_comparison([a, b], tmp_path / "page.html").read_text()
    assert "their metrics are not comparable" in text
    assert "different classes" in text


def test_runs_of_one_name_are_told_apart_by_their_folder_and_others_refused(tmp_path) -> None:
    a, b = make_run(tmp_path / "x/run"), make_run(tmp_path / "y/run")
    assert "x/run" in write_comparison([a, b], tmp_path / "page.html").read_text()
    with pytest.raises(UserError, match="Two of the runs are called 'x/run'"):
        write_comparison([a, a], tmp_path / "page.html")
    (b / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"run is not the folder of a finished run: metrics\.json cannot be read"):
        write_comparison([a, b], tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_bars_have_room_for_many_classes_and_say_where_there_is_no_object(tmp_path) -> None:
    few = {"a": 0.5, "b": None}
    save_class_bars({"run": few}, tmp_path / "few.png")
    save_class_bars({"run": {f"class {i}": i / 80 for i in range(80)}}, tmp_path / "many.png")
    short, tall = (Image.open(tmp_path / f"{name}.png").height for name in ("few", "many"))
    assert tall > 10 * short


def test_a_run_of_an_earlier_version_is_reported_and_compared(tmp_path) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    metrics = json.loads((a / "metrics.json").read_text())
    metrics["engine"] = metrics.pop("backend")
    (a / "metrics.json").write_text(json.dumps(metrics))
    config = (a / "config.yaml").read_text()
    (a / "config.yaml").write_text(config.replace("base_lr:", "lr_per_16:"))
    assert f"with {metrics['engine']}" in write_report(a).read_text()
    assert "the same settings" in write_comparison([a, b], tmp_path / "page.html").read_text()


def test_names_are_literal_in_reports_and_comparisons(tmp_path) -> None:
    a, b = make_run(tmp_path / "run [i] #1 100%"), make_run(tmp_path / "R&D <b>")
    for run in (a, b):
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["per_class"] = {name: {"AP": 0.5, "AP50": 0.5} for name in NAMES.values()}
        (run / "metrics.json").write_text(json.dumps(metrics))
    for file in (write_report(a), write_comparison([a, b], tmp_path / "runs.html")):
        page = file.read_text()
        assert Page(page).open == []
        assert "run [i] #1 100%" in page
        assert "<b>" not in page
        for name in NAMES.values():
            assert f"<td>{html.escape(printable(name, None))}</td>" in page or file.name == "runs.html"


def test_metrics_that_are_not_defined_are_dashes_in_a_report(tmp_path) -> None:
    run = make_run(tmp_path / "run", data="a: b #c")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["box"] = dict.fromkeys(metrics["box"])
    metrics["per_class"] = {name: dict.fromkeys(of) for name, of in metrics["per_class"].items()}
    (run / "metrics.json").write_text(json.dumps(metrics))
    rows = [{"epoch": epoch, "loss": 1.0, "seconds": 60.0, "AP": None, "AP50": None} for epoch in (1, 2)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run).read_text()
    assert "It has no objects, so AP is not defined." in page
    assert "-100" not in page
    assert "nan" not in re.sub("base64,[^']*", "", page)
    assert page.count("<td>-</td>") == len(metrics["box"]) + 2 * len(metrics["per_class"])
