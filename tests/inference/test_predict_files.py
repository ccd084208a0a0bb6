import csv
import json
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from drfpn.inference import predict_files
from drfpn.inference.outputs import CSV_COLUMNS
from drfpn.utils.errors import UserError
from drfpn.utils.shard import Shard


def save_image(file: Path, box: tuple[int, int, int, int] = (10, 20, 40, 60)) -> Path:
    image = Image.new("RGB", (120, 100))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="white")
    image.save(file)
    return file


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_and_coco_results_hold_the_same_detections(bright, tmp_path) -> None:
    files = [save_image(tmp_path / "a, b.png"), save_image(tmp_path / "c.png", (50, 10, 70, 90))]
    summary = predict_files(bright(label=2), files, tmp_path / "out")
    assert (summary.images, summary.detections, summary.failed) == (2, 2, [])
    rows = read_csv(tmp_path / "out/results.csv")
    assert tuple(rows[0]) == CSV_COLUMNS
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


def test_csv_has_the_drawn_detections_and_the_results_have_all(bright, tmp_path) -> None:
    predict_files(bright(score=0.25), [save_image(tmp_path / "a.png")], tmp_path / "out", score_threshold=0.5)
    assert read_csv(tmp_path / "out/results.csv") == []
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 1


def test_broken_files_are_logged_and_skipped(bright, tmp_path, caplog, write_video) -> None:
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.png").write_bytes(b"nothing")
    (tmp_path / "c.mp4").write_bytes(b"nothing")
    save_image(tmp_path / "d.png")
    summary = predict_files(bright(), sorted(tmp_path.iterdir()), tmp_path / "out")
    assert (summary.images, summary.videos) == (1, 1)
    assert [Path(file).name for file in summary.failed] == ["b.png", "c.mp4"]
    assert "b.png cannot be decoded" in caplog.text
    assert "c.mp4 cannot be read as a video" in caplog.text
    names = {"a.mp4", "d.jpg", "images.json", "results.csv", "results.json", "categories.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names


@pytest.mark.parametrize("frame_stride", [1, 3])
def test_all_frames_of_a_video_are_drawn_and_csv_has_frame_numbers(bright, tmp_path, write_video, frame_stride) -> None:
    av = pytest.importorskip("av")
    lefts = write_video(tmp_path / "a.mov", frames=7, rate=12)
    predictor = bright()
    summary = predict_files(predictor, [tmp_path / "a.mov"], tmp_path / "out", frame_stride=frame_stride)
    detected = range(0, 7, frame_stride)
    assert predictor.model.calls == summary.frames == len(detected)
    with av.open(str(tmp_path / "out/a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, 12)
        assert sum(1 for _ in container.decode(stream)) == 7
    rows = read_csv(tmp_path / "out/results.csv")
    assert [int(row["frame"]) for row in rows] == list(detected)
    for row, number in zip(rows, detected, strict=True):
        assert float(row["x1"]) == pytest.approx(lefts[number], abs=1)
        assert float(row["x2"]) == pytest.approx(lefts[number] + 16, abs=1)
    index = json.loads((tmp_path / "out/images.json").read_text())
    assert [entry["frame"] for entry in index] == list(detected)
    assert [entry["id"] for entry in index] == [int(row["image_id"]) for row in rows]


def test_categories_are_written_by_name_since_ids_differ(bright, tmp_path) -> None:
    predict_files(bright(), [save_image(tmp_path / "a.png")], tmp_path / "out", compare_with=bright(name="two"))
    for name in ("categories.json", "categories-compare.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert written == [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog, brown"}]


@pytest.mark.parametrize("below", ["", "sub/folder"])
@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_an_output_folder_that_is_a_file_is_one_sentence(bright, tmp_path, below, shard) -> None:
    image = save_image(tmp_path / "a.png")
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match=r"The folder .* could not be created: .*out is a file\."):
        predict_files(bright(), [image], tmp_path / "out" / below, shard=shard)


def test_files_of_several_pages_and_without_bytes_are_named(bright, tmp_path, caplog) -> None:
    page = Image.open(save_image(tmp_path / "a.png"))
    files = [tmp_path / f"{number}.gif" for number in range(7)]
    for number, file in enumerate(files):
        page.save(file, save_all=number > 0, append_images=[Image.new("RGB", page.size, "red")] if number else ())
    empty = [tmp_path / "b.png", tmp_path / "c.mp4"]
    for file in empty:
        file.touch()
    pytest.importorskip("av")
    summary = predict_files(bright(), [*empty, *files], tmp_path / "out")
    assert summary.images == 7
    assert summary.failed == [str(file) for file in empty]
    assert [f"{file} is empty: it has 0 bytes." in caplog.messages for file in empty] == [True, True]
    assert len(summary.remarks) == 6
    assert "1.gif: it has 2 pages or frames, of which only the first is used" in summary.remarks[0]
    assert [text in caplog.messages for text in summary.remarks] == [True] * 5 + [False]
    assert "... and so on: 6 remarks in all." in caplog.messages


def test_detections_of_two_detectors_are_counted_for_each_image_and_all(bright, tmp_path) -> None:
    files = [save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png")]
    Image.new("RGB", (120, 100)).save(tmp_path / "c.png")
    second = bright(name="two", label=2)
    summary = predict_files(bright(), [*files, tmp_path / "c.png"], tmp_path / "same", compare_with=bright(name="two"))
    assert summary.compared == {"both": 2, "only_left": 0, "only_right": 0}
    predict_files(bright(), [*files, tmp_path / "c.png"], tmp_path / "out", compare_with=second)
    written = json.loads((tmp_path / "out/compare.json").read_text())
    assert (written["left"], written["right"]) == ("one", "two")
    assert written["all"] == {"both": 0, "only_left": 2, "only_right": 2}
    none = {"both": 0, "only_left": 0, "only_right": 0}
    assert written["images"][2] == {"id": 3, "file_name": str(tmp_path / "c.png"), **none}
    assert {row["class"] for row in read_csv(tmp_path / "out/results.csv")} == {"cat"}
    assert {row["class"] for row in read_csv(tmp_path / "out/results-compare.csv")} == {"dog, brown"}


def test_ctrl_c_preserves_results_written_before(bright, tmp_path, monkeypatch) -> None:
    files = [save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png")]
    predictor = bright()
    detect = predictor.model.detect

    def interrupt_second_call(images):
        if predictor.model.calls == 1:
            raise KeyboardInterrupt
        return detect(images)

    monkeypatch.setattr(predictor.model, "detect", interrupt_second_call)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, files, tmp_path / "out")
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 1
    assert len(read_csv(tmp_path / "out/results.csv")) == 1
    assert not list((tmp_path / "out").glob("*.part"))


def test_videos_without_pyav_or_with_two_detectors_are_refused_before_anything_is_written(
    bright, tmp_path, monkeypatch
) -> None:
    files = [save_image(tmp_path / "a.png"), tmp_path / "a.mp4"]
    if "av" not in sys.modules:
        pytest.importorskip("av")
    with pytest.raises(UserError, match=r"on images only, and .*a\.mp4 is a video"):
        predict_files(bright(), files, tmp_path / "out", compare_with=bright(name="two"))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install"):
        predict_files(bright(), files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
