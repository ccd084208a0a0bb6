import json

import pytest
import torch

from drfpn.visualization import contact_sheet, draw_boxes, save_training_curves
from drfpn.visualization.boxes import MASK_OPACITY


def test_drawing_keeps_small_images_legible_and_marks_boxes() -> None:
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    picture = draw_boxes(image, torch.tensor([[20.0, 20, 60, 50]]), torch.tensor([1]), ["cat"], torch.tensor([0.9]))
    assert min(picture.size) >= 480
    zoom = picture.width / 80
    assert picture.getpixel((round(40 * zoom), round(20 * zoom))) != (0, 0, 0)  # the upper edge
    assert picture.getpixel((round(40 * zoom), round(35 * zoom))) == (0, 0, 0)  # the inside


def test_masks_are_tinted_inside_and_outlined() -> None:
    image = torch.zeros(3, 480, 480, dtype=torch.uint8)
    masks = torch.zeros(1, 480, 480, dtype=torch.bool)
    masks[0, 100:300, 150:400] = True
    picture = draw_boxes(image, torch.tensor([[10.0, 10, 20, 20]]), torch.tensor([1]), ["cat"], masks=masks)
    blue = (0x00, 0x72, 0xB2)
    inside, edge, outside = (picture.getpixel(at) for at in ((200, 200), (200, 100), (200, 99)))
    assert inside == pytest.approx([MASK_OPACITY * value for value in blue], abs=1)
    assert edge == blue
    assert outside == (0, 0, 0)
    empty = draw_boxes(image, torch.zeros(1, 4), torch.tensor([1]), ["cat"], masks=torch.zeros_like(masks))
    assert empty.tobytes() == draw_boxes(image, torch.zeros(1, 4), torch.tensor([1]), ["cat"]).tobytes()


def test_drawing_nothing_is_the_image() -> None:
    image = torch.randint(256, (3, 480, 500), dtype=torch.uint8)
    picture = draw_boxes(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])
    assert picture.tobytes() == image.permute(1, 2, 0).contiguous().numpy().tobytes()


def test_a_contact_sheet_has_room_for_all() -> None:
    picture = draw_boxes(torch.zeros(3, 480, 480, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0), [])
    sheet = contact_sheet([picture] * 5, columns=2, gap=0)
    assert sheet.size == (960, 3 * 480)


def test_curves_cope_with_epochs_that_were_not_measured(tmp_path) -> None:
    rows = [{"epoch": 1, "loss": 2.0, "loss_a": 1.0}, {"epoch": 2, "loss": 1.0, "loss_a": 0.5, "AP": 0.3, "AP50": 0.5}]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    save_training_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
