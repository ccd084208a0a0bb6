import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.evaluation import model_complexity
from drfpn.evaluation.flops import _count_macs, _count_published_macs, published_macs


def test_multiply_adds_of_the_neck_follow_from_its_layers() -> None:
    model = build_detector("faster_rcnn_r18_fpn", 3, width=64)
    counts = model_complexity(model, 64, 96)
    pixels = [16 * 24, 8 * 12, 4 * 6, 2 * 3]  # of C2..C5
    lateral = sum(n * c * 64 for n, c in zip(pixels, (64, 128, 256, 512), strict=True))
    smooth = sum(n * 9 * 64 * 64 for n in pixels)
    assert counts.neck_macs == lateral + smooth
    assert counts.params == sum(p.numel() for p in model.parameters())
    assert counts.neck_params == sum(p.numel() for p in model.backbone.neck.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("neck", "giga"), [("fpn", 58.0), ("drfpn", 105.3)])
def test_multiply_adds_at_paper_size(neck: str, giga: float) -> None:
    counts = model_complexity(build_detector(f"faster_rcnn_r50_{neck}"), 800, 1280)
    assert counts.neck_macs / 1e9 == pytest.approx(giga, abs=0.05)


def test_a_deformable_convolution_counts_as_a_plain_one_and_what_predicts_its_offsets() -> None:
    fpn, deformable = (
        model_complexity(build_detector(f"faster_rcnn_r18_{neck}", 3, width=64), 64, 96) for neck in ("fpn", "fpn_dcn")
    )
    pixels = sum((16 * 24, 8 * 12, 4 * 6, 2 * 3))
    assert deformable.neck_macs - fpn.neck_macs == pixels * 9 * 64 * 18


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
    with _count_published_macs(layers) as counts:
        layers(torch.rand(1, 4, 8, 10))
    written = 2 * 7 * 9
    assert counts == [6 * 80 * (9 * 2 + 1), 2 * 6 * 80, 6 * 80, 6 * 80, written * (9 * 6 + 1), 126 * 5]
    with _count_macs(layers) as counts:
        layers(torch.rand(1, 4, 8, 10))
    assert counts == [6 * 80 * 9 * 2 + 4 * 5 * 9 * 6 * 2 + 126 * 5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("neck", "options", "giga"), [("fpn", {}, 207), ("drfpn", {"context": None}, 263), ("drfpn", {}, 263)]
)
def test_counted_as_published_the_multiply_adds_are_table_7s(neck, options, giga) -> None:
    model = build_detector(f"faster_rcnn_r50_{neck}", neck_options=options)
    assert int(published_macs(model, 800, 1280) / 1e9) == giga
