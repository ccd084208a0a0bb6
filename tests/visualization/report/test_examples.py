import pytest

from drfpn import build_detector
from drfpn.data import ShapesDataset
from drfpn.evaluation import detect
from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.matching import count_per_image, match_detections
from drfpn.visualization.report.examples import draw_examples
from tests.detectors.scenes import SMALL


@pytest.mark.parametrize("name", ["{}.jpg", "site{}/1.jpg"])
def test_each_image_has_a_picture_of_its_own(name, tmp_path, monkeypatch) -> None:
    dataset = ShapesDataset("val", 4)
    monkeypatch.setattr(dataset, "name", name.format)
    model = build_detector("faster_rcnn_lite0_fpn", len(dataset.classes), **SMALL["faster_rcnn"]).eval()
    results = detect(model, dataset, category_ids=dataset.category_ids)
    counts = count_per_image(match_detections(choose_backend(), dataset.ground_truth(), results, "bbox"))
    examples = draw_examples(model, dataset, counts, tmp_path, 4)
    assert len({example.file for example in examples}) == 4
    assert {file.name for file in tmp_path.iterdir()} == {example.file for example in examples}
