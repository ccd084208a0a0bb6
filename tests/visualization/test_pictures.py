import json

import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.evaluation import count
from drfpn.evaluation.flops import _published, _true, published_macs
from drfpn.visualization import contact_sheet, draw, save_curves
from drfpn.visualization.boxes import FILL


def test_multiply_adds_of_the_pyramid_follow_from_its_layers() -> None:
    model = build_detector("faster_rcnn_r18_fpn", 3, width=64)
    counts = count(model, 64, 96)
    pixels = [16 * 24, 8 * 12, 4 * 6, 2 * 3]  # of C2..C5
    lateral = sum(n * c * 64 for n, c in zip(pixels, (64, 128, 256, 512), strict=True))
    smooth = sum(n * 9 * 64 * 64 for n in pixels)
    assert counts.neck_macs == lateral + smooth
    assert counts.params == sum(p.numel() for p in model.parameters())
    assert counts.neck_params == sum(p.numel() for p in model.backbone.neck.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("neck", "giga"), [("fpn", 58.0), ("drfpn", 105.3)])
def test_multiply_adds_at_paper_size(neck: str, giga: float) -> None:
    counts = count(build_detector(f"faster_rcnn_r50_{neck}"), 800, 1280)
    assert counts.neck_macs / 1e9 == pytest.approx(giga, abs=0.05)


def test_a_deformable_convolution_counts_as_a_plain_one_and_what_predicts_its_offsets() -> None:
    fpn, deformable = (count(build_detector(f"faster_rcnn_r18_{neck}", 3, width=64), 64, 96) for neck in NECKS)
    pixels = sum((16 * 24, 8 * 12, 4 * 6, 2 * 3))
    assert deformable.neck_macs - fpn.neck_macs == pixels * 9 * 64 * 18


NECKS = ("fpn", "fpn_dcn")


def test_the_published_way_of_counting_adds_what_its_rules_say() -> None:
    """Transposed convolutions at the size they write, biases, BatchNorm (2), ReLU and pooling (1 an element)."""
    layers = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),  # 8 x 10
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),  # 4 x 5
        nn.ConvTranspose2d(6, 2, 3, stride=2, padding=1),  # 7 x 9
        nn.Flatten(),
        nn.Linear(126, 5),
    )
    with _published(layers) as counts:
        layers(torch.rand(1, 4, 8, 10))
    written = 2 * 7 * 9
    assert counts == [6 * 80 * (9 * 2 + 1), 2 * 6 * 80, 6 * 80, 6 * 80, written * (9 * 6 + 1), 126 * 5]
    with _true(layers) as counts:
        layers(torch.rand(1, 4, 8, 10))
    assert counts == [6 * 80 * 9 * 2 + 4 * 5 * 9 * 6 * 2 + 126 * 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neck", "options", "giga"), [("fpn", {}, 207), ("drfpn", {"context": None}, 263), ("drfpn", {}, 263)]
)
def test_counted_as_published_the_multiply_adds_are_table_7s(neck, options, giga) -> None:
    model = build_detector(f"faster_rcnn_r50_{neck}", neck_options=options)
    assert int(published_macs(model, 800, 1280) / 1e9) == giga


def test_drawing_keeps_small_images_legible_and_marks_boxes() -> None:
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    picture = draw(image, torch.tensor([[20.0, 20, 60, 50]]), torch.tensor([1]), ["cat"], torch.tensor([0.9]))
    assert min(picture.size) >= 480
    zoom = picture.width / 80
    assert picture.getpixel((round(40 * zoom), round(20 * zoom))) != (0, 0, 0)  # the upper edge
    assert picture.getpixel((round(40 * zoom), round(35 * zoom))) == (0, 0, 0)  # the inside


def test_masks_are_tinted_inside_and_outlined() -> None:
    image = torch.zeros(3, 480, 480, dtype=torch.uint8)
    masks = torch.zeros(1, 480, 480, dtype=torch.bool)
    masks[0, 100:300, 150:400] = True
    picture = draw(image, torch.tensor([[10.0, 10, 20, 20]]), torch.tensor([1]), ["cat"], masks=masks)
    blue = (0x00, 0x72, 0xB2)
    inside, edge, outside = (picture.getpixel(at) for at in ((200, 200), (200, 100), (200, 99)))
    assert inside == pytest.approx([FILL * value for value in blue], abs=1)
    assert edge == blue
    assert outside == (0, 0, 0)
    empty = draw(image, torch.zeros(1, 4), torch.tensor([1]), ["cat"], masks=torch.zeros_like(masks))
    assert empty.tobytes() == draw(image, torch.zeros(1, 4), torch.tensor([1]), ["cat"]).tobytes()


def test_drawing_nothing_is_the_image() -> None:
    image = torch.randint(256, (3, 480, 500), dtype=torch.uint8)
    picture = draw(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])
    assert picture.tobytes() == image.permute(1, 2, 0).contiguous().numpy().tobytes()


def test_a_contact_sheet_has_room_for_all() -> None:
    picture = draw(torch.zeros(3, 480, 480, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0), [])
    sheet = contact_sheet([picture] * 5, columns=2, gap=0)
    assert sheet.size == (960, 3 * 480)


def test_curves_cope_with_epochs_that_were_not_measured(tmp_path) -> None:
    rows = [{"epoch": 1, "loss": 2.0, "loss_a": 1.0}, {"epoch": 2, "loss": 1.0, "loss_a": 0.5, "AP": 0.3, "AP50": 0.5}]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    save_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
