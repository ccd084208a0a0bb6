import csv
import json
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from drfpn.inference import predict_files
from drfpn.inference.outputs import COLUMNS
from drfpn.utils.errors import UserError


def picture(file: Path, box: tuple[int, int, int, int] = (10, 20, 40, 60)) -> Path:
    image = Image.new("RGB", (120, 100))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="white")
    image.save(file)
    return file


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_and_coco_results_say_the_same(bright, tmp_path) -> None:
    files = [picture(tmp_path / "a, b.png"), picture(tmp_path / "c.png", (50, 10, 70, 90))]
    done = predict_files(bright(label=2), files, tmp_path / "out")
    assert (done.images, done.detections, done.failed) == (2, 2, [])
    rows = table(tmp_path / "out/results.csv")
    assert tuple(rows[0]) == COLUMNS
    results = json.loads((tmp_path / "out/results.json").read_text())
    for row, result, file in zip(rows, results, files, strict=True):
        assert row["file"] == str(file)
        assert row["frame"] == ""
        assert row["class"] == "dog, brown"
        assert int(row["image_id"]) == result["image_id"]
        assert float(row["score"]) == result["score"]
        x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
        assert [x1, y1, x2 - x1, y2 - y1] == result["bbox"]
    assert results[0]["bbox"] == [10, 20, 30, 40]
    assert results[0]["category_id"] == 9
    assert json.loads((tmp_path / "out/images.json").read_text()) == [
        {"id": number + 1, "file_name": str(file), "height": 100, "width": 120} for number, file in enumerate(files)
    ]


def test_the_table_lists_what_is_drawn_and_the_results_list_all(bright, tmp_path) -> None:
    predict_files(bright(score=0.25), [picture(tmp_path / "a.png")], tmp_path / "out", min_score=0.5)
    assert table(tmp_path / "out/results.csv") == []
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 1


def test_broken_files_are_named_and_do_not_cost_the_others(bright, tmp_path, capsys, write_video) -> None:
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.png").write_bytes(b"nothing")
    (tmp_path / "c.mp4").write_bytes(b"nothing")
    picture(tmp_path / "d.png")
    done = predict_files(bright(), sorted(tmp_path.iterdir()), tmp_path / "out")
    assert (done.images, done.videos) == (1, 1)
    assert [Path(file).name for file in done.failed] == ["b.png", "c.mp4"]
    told = capsys.readouterr().err
    assert "b.png cannot be decoded" in told
    assert "c.mp4 cannot be read as a video" in told
    names = {"a.mp4", "d.jpg", "images.json", "results.csv", "results.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names


@pytest.mark.parametrize("every", [1, 3])
def test_a_video_is_drawn_whole_and_its_table_has_frame_numbers(bright, tmp_path, write_video, every) -> None:
    av = pytest.importorskip("av")
    lefts = write_video(tmp_path / "a.mov", frames=7, rate=12)
    predictor = bright()
    done = predict_files(predictor, [tmp_path / "a.mov"], tmp_path / "out", every=every)
    looked = range(0, 7, every)
    assert predictor.model.looks == done.frames == len(looked)
    with av.open(str(tmp_path / "out/a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, 12)
        assert sum(1 for _ in container.decode(stream)) == 7
    rows = table(tmp_path / "out/results.csv")
    assert [int(row["frame"]) for row in rows] == list(looked)
    for row, number in zip(rows, looked, strict=True):
        assert float(row["x1"]) == pytest.approx(lefts[number], abs=1)
        assert float(row["x2"]) == pytest.approx(lefts[number] + 16, abs=1)
    index = json.loads((tmp_path / "out/images.json").read_text())
    assert [entry["frame"] for entry in index] == list(looked)
    assert [entry["id"] for entry in index] == [int(row["image_id"]) for row in rows]


def test_two_detectors_are_counted_for_each_image_and_all(bright, tmp_path) -> None:
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]
    Image.new("RGB", (120, 100)).save(tmp_path / "c.png")
    other = bright(name="two", label=2)
    done = predict_files(bright(), [*files, tmp_path / "c.png"], tmp_path / "same", other=bright(name="two"))
    assert done.compared == {"both": 2, "only_left": 0, "only_right": 0}
    predict_files(bright(), [*files, tmp_path / "c.png"], tmp_path / "out", other=other)
    said = json.loads((tmp_path / "out/compare.json").read_text())
    assert (said["left"], said["right"]) == ("one", "two")
    assert said["all"] == {"both": 0, "only_left": 2, "only_right": 2}
    none = {"both": 0, "only_left": 0, "only_right": 0}
    assert said["images"][2] == {"id": 3, "file_name": str(tmp_path / "c.png"), **none}
    assert {row["class"] for row in table(tmp_path / "out/results.csv")} == {"cat"}
    assert {row["class"] for row in table(tmp_path / "out/results-compare.csv")} == {"dog, brown"}


def test_a_stop_keeps_what_is_done(bright, tmp_path, monkeypatch) -> None:
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]
    predictor = bright()
    detect = predictor.model.detect

    def stop_at_the_second(images):
        if predictor.model.looks == 1:
            raise KeyboardInterrupt
        return detect(images)

    monkeypatch.setattr(predictor.model, "detect", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, files, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 1
    assert len(table(tmp_path / "out/results.csv")) == 1
    assert not list((tmp_path / "out").glob("*.part"))


def test_videos_without_pyav_or_with_two_detectors_are_refused_before_anything_is_done(
    bright, tmp_path, monkeypatch
) -> None:
    files = [picture(tmp_path / "a.png"), tmp_path / "a.mp4"]
    if "av" not in sys.modules:
        pytest.importorskip("av")
    with pytest.raises(UserError, match=r"on images only, and .*a\.mp4 is a video"):
        predict_files(bright(), files, tmp_path / "out", other=bright(name="two"))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install"):
        predict_files(bright(), files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
