from pathlib import Path

import numpy as np
from PIL import Image

from drfpn.data import Annotations
from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.visualization.samples import choose_samples, draw_samples


def annotations(root: Path, labels: list[list[int]], box: tuple[float, ...] = (5, 5, 10, 10)) -> Annotations:
    objects = AnnotationBuilder()
    for index, of_image in enumerate(labels):
        Image.new("RGB", (60, 40), "black").save(root / f"{index}.png")
        for label in of_image:
            objects.add(image_index=index, box=list(box), label=label, area=100)
    return Annotations(
        root=root,
        source=root,
        classes=("cat", "dog", "cow"),
        category_ids=np.array([1, 2, 3]),
        image_ids=np.arange(len(labels)),
        file_names=np.array([f"{index}.png" for index in range(len(labels))]),
        sizes=np.tile([40, 60], (len(labels), 1)),
        **objects.arrays(len(labels)),
    )


def test_images_with_issues_and_one_of_each_class_come_first(tmp_path: Path) -> None:
    data = annotations(tmp_path, [[1], [1], [], [1], [2], [1], [3], [1]])
    assert choose_samples(data, 3) == [0, 4, 6]
    assert choose_samples(data, 4, flagged={2, 7}) == [2, 4, 6, 7]
    assert choose_samples(data, 2, flagged=range(8)) == [0, 4]
    assert choose_samples(data, 7) == [0, 1, 3, 4, 5, 6, 7]  # the one without objects comes last
    assert choose_samples(annotations(tmp_path, [[], []]), 5) == [0, 1]


def test_the_sheet_shows_the_boxes_and_leaves_out_what_cannot_be_drawn(tmp_path: Path) -> None:
    data = annotations(tmp_path, [[1], [2], []], (5, 5, 10, 10))
    (tmp_path / "1.png").write_bytes(b"x")
    sheet = draw_samples({"train": data})
    assert sheet is not None
    assert sheet.width < 2 * 480 + 20  # two of three images
    title = sheet.height - 320  # a picture of 480 x 320 px is below its title
    pixels = np.asarray(sheet)[title:, :480].astype(int)
    rows, columns = np.nonzero(pixels[..., 2] > pixels[..., 0] + 80)  # the blue of class 1
    assert abs(rows.max() - 120) < 6
    assert abs(columns.max() - 120) < 6
    for index in (0, 2):
        (tmp_path / f"{index}.png").unlink()
    assert draw_samples({"train": data}) is None


def test_boxes_that_are_not_finite_or_outside_are_no_obstacle(tmp_path: Path) -> None:
    for box in ((float("nan"), 0, 1, 1), (-100, -100, 20, 20), (50, 30, 500, 500), (5, 5, -3, 0)):
        assert draw_samples({"train": annotations(tmp_path, [[1]], box)}) is not None
