import json
import shutil
import zipfile
from pathlib import Path

import pytest

from drfpn.data import open_dataset
from drfpn.training.workflow import write_run_report


def perfect(coco: Path) -> list[dict]:
    truth = json.loads((coco / "annotations/instances_val2017.json").read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{key: row[key] for key in keys} | {"score": 1} for row in truth["annotations"]]


def write(rows: object) -> None:
    Path("results.json").write_text(json.dumps(rows))


def test_results_of_other_tools_are_understood(drfpn, coco) -> None:
    rows = perfect(coco)
    for row in rows:
        row["image_id"] = float(row["image_id"])
        row["extra"] = "key"
        del row["bbox"]
    write(rows)
    result = drfpn("eval", "results.json", "--data", coco, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["mask"]["AP"] == pytest.approx(1)
    assert json.loads(result.out)["box"]["AP50"] == pytest.approx(1)
    write([])
    assert json.loads(drfpn("eval", "results.json", "--data", coco, "--json").out)["box"]["AP"] == 0


def test_boxes_with_empty_masks_are_evaluated_as_boxes(drfpn, coco) -> None:
    write([row | {"segmentation": [] if k % 2 else None} for k, row in enumerate(perfect(coco))])
    result = drfpn("eval", "results.json", "--data", coco, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["box"]["AP50"] == pytest.approx(1)


def test_unknown_ids_are_counted_and_a_dict_is_explained(drfpn, coco) -> None:
    rows = perfect(coco)
    rows[0]["image_id"] = rows[2]["image_id"] = 12345678
    write(rows)
    assert f"so are 2 of {len(rows)} entries" in drfpn("eval", "results.json", "--data", coco).err
    write({"annotations": rows})
    assert "its 'annotations' may be that list" in drfpn("eval", "results.json", "--data", coco).err
    write([perfect(coco)[0] | {"score": float("nan")}])
    assert "must be a finite number, not nan" in drfpn("eval", "results.json", "--data", coco).err


def test_predictions_are_joined_to_a_data_set_with_other_ids(drfpn, trained, coco) -> None:
    annotations = coco / "annotations/instances_val2017.json"
    truth = json.loads(annotations.read_text())
    ids = [image["id"] for image in truth["images"]]
    image_ids = dict(zip(ids, ids[1:] + ids[:1], strict=True))  # so names are numbers of other images
    category_ids = {row["id"]: 100 - row["id"] for row in truth["categories"]}  # in another order
    for rows, key, new in (
        (truth["images"], "id", image_ids),
        (truth["annotations"], "image_id", image_ids),
        (truth["categories"], "id", category_ids),
        (truth["annotations"], "category_id", category_ids),
    ):
        for row in rows:
            row[key] = new[row[key]]
    annotations.write_text(json.dumps(truth))
    assert drfpn("predict", trained / "run", "coco/val2017", "--out", "found").code == 0
    result = drfpn("eval", "found/results.json", "--data", coco, "--out", "joined.json")
    assert result.code == 0, result.err

    def by_name(results: Path, images: list[dict], categories: list[dict]) -> list[tuple]:
        files = {row["id"]: Path(row["file_name"]).name for row in images}
        names = {row["id"]: row["name"] for row in categories}
        rows = json.loads(results.read_text())
        return sorted((files[row["image_id"]], names[row["category_id"]], row["score"]) for row in rows)

    found = [json.loads(Path(f"found/{name}.json").read_text()) for name in ("images", "categories")]
    expected = by_name(Path("found/results.json"), *found)
    assert expected
    assert by_name(Path("joined.json"), truth["images"], truth["categories"]) == expected
    result = drfpn("eval", "found/results.json", "--data", coco, "--out", "found/results.json")
    assert result.code == 2
    assert "is beside the images.json of a prediction" in result.err
    result = drfpn("eval", trained / "run", "--data", coco, "--out", "direct.json", "--device", "cpu")
    assert result.code == 0, result.err
    direct = by_name(Path("direct.json"), truth["images"], truth["categories"])
    assert [row[:2] for row in direct if row[2] > 0.1] == [row[:2] for row in expected if row[2] > 0.1]


def test_results_in_another_format_are_refused_or_doubted(drfpn, coco) -> None:
    rows = [{key: row[key] for key in ("image_id", "category_id", "bbox", "score")} for row in perfect(coco)]
    write([row | {"score": 90} for row in rows])
    result = drfpn("eval", "results.json", "--data", coco, "--json")
    assert json.loads(result.out)["box"]["AP50"] == pytest.approx(1)
    assert "results.json: scores are from 90 to 90, expected 0 to 1: they seem to be in percent" in result.err
    corners = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    write([row | {"bbox": box} for row, box in zip(rows, corners, strict=True)])
    result = drfpn("eval", "results.json", "--data", coco)
    assert result.code == 0, result.err  # few objects prove nothing
    assert "bbox seems to be x1, y1, x2, y2." in result.err
    images = json.loads((coco / "annotations/instances_val2017.json").read_text())["images"]
    sizes = {image["id"]: [image["width"], image["height"]] * 2 for image in images}
    for row, box in zip(rows, corners, strict=True):
        row["bbox"] = [value / side for value, side in zip(box, sizes[row["image_id"]], strict=True)]
    write(rows)
    result = drfpn("eval", "results.json", "--data", coco)
    assert result.code == 1
    assert "no number in bbox is above 1" in result.err


def test_a_run_is_evaluated_in_tiles_and_results_are_not(drfpn, trained, coco) -> None:
    options = ("--data", trained / "coco", "--device", "cpu", "--tile", 120)
    result = drfpn("eval", trained / "run", *options, "--no-tile-full", "--out", "tiles.json")
    assert result.code == 0, result.err
    assert max(max(row["bbox"][2:]) for row in json.loads(Path("tiles.json").read_text())) <= 120
    write([])
    result = drfpn("eval", "results.json", *options)
    assert result.code == 2
    assert "--tile is for a detector" in result.err


def test_a_report_has_numbers_and_pictures(drfpn, coco) -> None:
    write(perfect(coco))
    result = drfpn("eval", "results.json", "--data", coco, "--report", "report", "--resamples", 5)
    assert result.code == 0, result.err
    analysis = json.loads(Path("report/metrics.json").read_text())["analysis"]
    confusion = analysis["confusion"]
    assert sum(map(sum, confusion)) == sum(confusion[k][k] for k in range(len(confusion))) == len(perfect(coco))
    assert analysis["box"]["interval"] == pytest.approx([1, 1])
    pictures = {file.stem for file in Path("report/analysis").glob("*.png")}
    kinds = {f"{what}_{kind}" for what in ("precision_recall", "errors") for kind in ("box", "mask")}
    assert pictures == {"confusion", *kinds}
    assert json.loads(Path("report/metrics.json").read_text())["box"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("masks", [False, True])
def test_a_submission_is_a_zip_as_the_server_wants_it(drfpn, coco, masks) -> None:
    truth = json.loads((coco / "annotations/instances_val2017.json").read_text())
    rows = [row for row in perfect(coco) if row["image_id"] != truth["images"][0]["id"]]
    if not masks:
        rows = [{key: value for key, value in row.items() if key != "segmentation"} for row in rows]
    write(rows)
    del truth["annotations"]
    (coco / "annotations/image_info_test-dev2017.json").write_text(json.dumps(truth))
    (coco / "val2017").rename(coco / "test2017")
    args = ("eval", "results.json", "--data", coco, "--split", "test-dev", "--format-only")
    assert drfpn(*args).code == 2
    assert drfpn(*args, "--out", "server", "--name", "a/b").code == 2
    result = drfpn(*args, "--out", "server", "--name", "mine")
    assert result.code == 0, result.err
    assert f"1 of {len(truth['images'])} images have no detection" in result.err
    stem = "detections_test-dev2017_mine_results"
    for kind, absent in {"bbox": "segmentation", "segm": "bbox"}.items() if masks else [("", "segmentation")]:
        with zipfile.ZipFile(Path("server") / kind / f"{stem}.zip") as archive:
            assert archive.namelist() == [f"{stem}.json"]
            sent = json.loads(archive.read(f"{stem}.json"))
        assert len(sent) == len(rows)
        assert all(absent not in row for row in sent)


def test_a_trained_run_has_its_submission_checked_and_written(drfpn, trained) -> None:
    args = ("--data", trained / "coco", "--split", "val", "--format-only", "--out", "server")
    result = drfpn("eval", trained / "run", *args, "--device", "cpu")
    assert result.code == 0, result.err
    assert Path("server/detections_val2017_drfpn_results.zip").is_file()


def test_what_on_bad_drops_is_said(drfpn, coco) -> None:
    write([])
    file = coco / "annotations/instances_val2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(truth))
    assert drfpn("eval", "results.json", "--data", coco).code == 1
    result = drfpn("eval", "results.json", "--data", coco, "--on-bad", "skip")
    assert result.code == 0
    assert result.err.strip()


def test_a_run_with_detections_is_analysed_in_its_report(trained, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    (run / "detections.json").write_text(json.dumps(perfect(trained / "coco")))
    splits = [open_dataset(str(trained / "coco"), split, masks=True) for split in ("train", "val")]
    write_run_report(run, *splits)
    assert json.loads((run / "metrics.json").read_text())["analysis"]["box"]["ap"] == pytest.approx(1)
    assert "<h2>Analysis</h2>" in (run / "report.html").read_text()
