import json

from PIL import Image

from drfpn.data import ShapesDataset
from drfpn.evaluation import analyze, evaluate_results
from drfpn.visualization import save_evaluation_figures, write_report
from tests.evaluation.test_coco import noisy_detections, noisy_masks
from tests.visualization.report.test_report import make_run


def test_every_picture_is_drawn_and_reported(tmp_path) -> None:
    ground_truth = ShapesDataset("val", 8).ground_truth()
    results = noisy_masks(ground_truth)
    analysis = analyze(ground_truth, results, resamples=3)
    files = save_evaluation_figures(analysis, tmp_path / "analysis")
    assert len(files) == 5
    for file in files:
        low, high = Image.open(file).convert("L").getextrema()
        assert low < high
    run = make_run(tmp_path / "run")
    (tmp_path / "analysis").rename(run / "analysis")
    metrics = json.loads((run / "metrics.json").read_text()) | evaluate_results(ground_truth, results).model_dump()
    (run / "metrics.json").write_text(json.dumps(metrics | {"analysis": analysis.model_dump()}))
    page = write_report(run).read_text()
    assert page.count("<img") == 5 + 3  # and the loss, and the bars of both kinds
    assert page.count("over 3 bootstrap resamples") == 2


def test_data_without_objects_has_no_curve_but_a_confusion_matrix(tmp_path) -> None:
    ground_truth = ShapesDataset("val", 4).ground_truth()
    results = noisy_detections(ground_truth)
    analysis = analyze({**ground_truth, "annotations": []}, results, resamples=2)
    assert analysis.box.ap is None
    assert analysis.box.interval is None
    assert analysis.box.curves is None
    assert [file.stem for file in save_evaluation_figures(analysis, tmp_path)] == ["confusion", "errors_box"]
