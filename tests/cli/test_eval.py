import json
import shutil
import zipfile
from pathlib import Path

import pytest

from drfpn.cli.train import _finish as finish
from drfpn.data import open_dataset


def perfect(coco: Path) -> list[dict]:
    truth = json.loads((coco / "annotations/instances_val2017.json").read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return [{key: row[key] for key in keys} | {"score": 1} for row in truth["annotations"]]


def write(rows: object) -> None:
    Path("found.json").write_text(json.dumps(rows))


def test_results_of_other_tools_are_understood(drfpn, coco) -> None:
    rows = perfect(coco)
    for row in rows:
        row["image_id"] = float(row["image_id"])
        row["extra"] = "key"
        del row["bbox"]
    write(rows)
    said = drfpn("eval", "found.json", "--data", coco, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["mask"]["AP"] == pytest.approx(1)
    assert json.loads(said.out)["box"]["AP50"] == pytest.approx(1)
    write([])
    assert json.loads(drfpn("eval", "found.json", "--data", coco, "--json").out)["box"]["AP"] == 0


def test_unknown_ids_are_counted_and_a_dict_is_explained(drfpn, coco) -> None:
    rows = perfect(coco)
    rows[0]["image_id"] = rows[2]["image_id"] = 12345678
    write(rows)
    assert f"so are 2 of {len(rows)} entries" in drfpn("eval", "found.json", "--data", coco).err
    write({"annotations": rows})
    assert "its 'annotations' may be that list" in drfpn("eval", "found.json", "--data", coco).err
    write([perfect(coco)[0] | {"score": float("nan")}])
    assert "must be a finite number, not nan" in drfpn("eval", "found.json", "--data", coco).err


def test_a_report_has_numbers_and_pictures(drfpn, coco) -> None:
    write(perfect(coco))
    said = drfpn("eval", "found.json", "--data", coco, "--report", "report", "--resamples", 5)
    assert said.code == 0, said.err
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
    args = ("eval", "found.json", "--data", coco, "--split", "test-dev", "--format-only")
    assert drfpn(*args).code == 2
    assert drfpn(*args, "--out", "server", "--name", "a/b").code == 2
    said = drfpn(*args, "--out", "server", "--name", "mine")
    assert said.code == 0, said.err
    assert f"1 of {len(truth['images'])} images have no detection" in said.err
    stem = "detections_test-dev2017_mine_results"
    for kind, absent in {"bbox": "segmentation", "segm": "bbox"}.items() if masks else [("", "segmentation")]:
        with zipfile.ZipFile(Path("server") / kind / f"{stem}.zip") as archive:
            assert archive.namelist() == [f"{stem}.json"]
            sent = json.loads(archive.read(f"{stem}.json"))
        assert len(sent) == len(rows)
        assert all(absent not in row for row in sent)


def test_a_trained_run_has_its_submission_checked_and_written(drfpn, trained) -> None:
    args = ("--data", trained / "coco", "--split", "val", "--format-only", "--out", "server")
    said = drfpn("eval", trained / "run", *args, "--device", "cpu")
    assert said.code == 0, said.err
    assert Path("server/detections_val2017_drfpn_results.zip").is_file()


def test_what_on_bad_drops_is_said(drfpn, coco) -> None:
    write([])
    file = coco / "annotations/instances_val2017.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(truth))
    assert drfpn("eval", "found.json", "--data", coco).code == 1
    said = drfpn("eval", "found.json", "--data", coco, "--on-bad", "skip")
    assert said.code == 0
    assert said.err.strip()


def test_a_run_with_detections_is_analysed_in_its_report(trained, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    (run / "detections.json").write_text(json.dumps(perfect(trained / "coco")))
    splits = [open_dataset(str(trained / "coco"), split, masks=True) for split in ("train", "val")]
    finish(run, *splits, "cpu")
    assert json.loads((run / "metrics.json").read_text())["analysis"]["box"]["ap"] == pytest.approx(1)
    assert "Behind the numbers" in (run / "report.html").read_text()
