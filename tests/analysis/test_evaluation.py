import json

from PIL import Image

from drfpn.analysis import save_evaluation, write_report
from drfpn.data import ShapesDataset
from drfpn.engine import analyse, score
from tests.engine.test_evaluate import noisy_detections, noisy_masks


def test_every_picture_is_drawn_and_reported(tmp_path) -> None:
    truth = ShapesDataset("val", 8).ground_truth()
    results = noisy_masks(truth)
    analysis = analyse(truth, results, resamples=3)
    files = save_evaluation(analysis, tmp_path / "analysis")
    assert len(files) == 5
    for file in files:
        low, high = Image.open(file).convert("L").getextrema()
        assert low < high
    metrics = score(truth, results).model_dump() | {"analysis": analysis.model_dump()}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "config.yaml").write_text("model: m\n")
    (tmp_path / "log.jsonl").write_text(json.dumps({"epoch": 1, "seconds": 1, "loss": 1, "AP": 0.5}))
    files[0].replace(tmp_path / "curves.png")  # any picture
    page = write_report(tmp_path).read_text()
    assert page.count("<img") == 5
    assert page.count("in 95 % of 3 resamples") == 2


def test_data_without_objects_has_no_curve_but_a_confusion_matrix(tmp_path) -> None:
    truth = ShapesDataset("val", 4).ground_truth()
    results = noisy_detections(truth)
    analysis = analyse({**truth, "annotations": []}, results, resamples=2)
    assert analysis.box.ap == -1
    assert analysis.box.interval == (-1, -1)
    assert analysis.box.curves is None
    assert [file.stem for file in save_evaluation(analysis, tmp_path)] == ["confusion", "errors_box"]
