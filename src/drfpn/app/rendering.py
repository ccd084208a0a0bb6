"""Pictures, tables, JSON and Markdown of the web page, made of detections and of tensors of necks."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from torch import Tensor

from drfpn.inference import Detections, compare, draw_comparison
from drfpn.training.checkpoint import Card
from drfpn.utils.formatting import escape_markdown, percent
from drfpn.visualization import feature_maps, side_by_side
from drfpn.visualization.diagnostics import Diagnosis, diagnose_gates, diagnose_offsets, diagnose_omegas
from drfpn.visualization.hooks import NeckTensors

TABLE_COLUMNS = ("detector", "class", "score", "x1", "y1", "x2", "y2")
"""Columns of :func:`detection_table`; boxes are in pixels of the image."""


def render_levels(tensors: Mapping[str, NeckTensors], *, mean: bool) -> Image.Image:
    """Draw the output levels of necks.

    Args:
        tensors: intermediate tensors of necks by name of the detector.
        mean: whether the mean over channels is drawn, else the most active channel.
    """
    return _render(lambda file: feature_maps.draw_output_levels(tensors, file, mean=mean))


def render_offsets(tensors: NeckTensors, image: Tensor, name: str) -> tuple[Image.Image | None, list[str]]:
    """Draw SRB's offsets and omega.

    Args:
        tensors: intermediate tensors of a neck.
        image: (3, H, W), RGB, uint8.
        name: name of the detector.

    Returns:
        The picture, ``None`` for a neck without SRB, and sentences on whether the blocks have any effect.
    """
    if not tensors.offsets and not tensors.omegas:
        return None, [f"The neck of {name} has no spatial refinement block (SRB), so there are no offsets to show."]
    sentences = _sentences("offsets", diagnose_offsets(tensors)) + _sentences("omega", diagnose_omegas(tensors))
    return _render(lambda file: feature_maps.draw_offsets(tensors, image, file)), sentences


def render_gates(tensors: NeckTensors, name: str) -> tuple[Image.Image | None, list[str]]:
    """Draw CRB's gates.

    Args:
        tensors: intermediate tensors of a neck.
        name: name of the detector.

    Returns:
        The picture, ``None`` for a neck without CRB, and sentences on whether the blocks have any effect.
    """
    if not tensors.gates:
        return None, [f"The neck of {name} has no channel refinement block (CRB), so there are no gates to show."]
    picture = _render(lambda file: feature_maps.draw_gates([tensors], file))
    return picture, _sentences("gates", diagnose_gates([tensors]))


def render_detections(image: Tensor, detections: Mapping[str, Detections], score_threshold: float) -> Image.Image:
    """Draw the detections of one detector, or of two side by side.

    Of two detectors with a common class, detections that match are gray.

    Args:
        image: (3, H, W), RGB, uint8.
        detections: by name of the detector.
        score_threshold: detections with lower scores are left out, 0..1.
    """
    drawn = {name: each.above(score_threshold) for name, each in detections.items()}
    if len(drawn) == 1:
        (single,) = drawn.values()
        return single.plot(image)
    first, second = drawn
    if not set(drawn[first].classes) & set(drawn[second].classes):
        return side_by_side([each.plot(image) for each in drawn.values()], [first, second])
    return draw_comparison(compare(drawn[first], drawn[second]), image, (first, second))


def detection_table(detections: Mapping[str, Detections], score_threshold: float) -> list[list[Any]]:
    """Return a row of ``TABLE_COLUMNS`` for each detection.

    Args:
        detections: by name of the detector.
        score_threshold: detections with lower scores are left out, 0..1.
    """
    table = []
    for name, each in detections.items():
        rows = each.above(score_threshold)
        for label, score, box in zip(rows.class_names(), rows.scores.tolist(), rows.boxes.tolist(), strict=True):
            table.append([name, label, round(score, 3), *(round(value, 1) for value in box)])
    return table


def detections_json(detections: Mapping[str, Detections], score_threshold: float, image_name: str) -> dict[str, Any]:
    """Return the content of the JSON file to download: categories and results in COCO's format by detector.

    Args:
        detections: by name of the detector.
        score_threshold: detections with lower scores are left out, 0..1.
        image_name: file name of the image.
    """
    return {
        "image": image_name,
        "score": score_threshold,
        "detectors": {
            name: {
                "categories": [
                    {"id": key, "name": label} for key, label in zip(each.category_ids, each.classes, strict=True)
                ],
                "results": each.above(score_threshold).to_coco(image_id=1),
            }
            for name, each in detections.items()
        },
    }


def detectors_markdown(cards: Mapping[str, Card]) -> str:
    """Return a Markdown list of detectors with their model, data, AP and classes.

    Args:
        cards: cards by name of the detector.
    """
    lines = []
    for name, card in cards.items():
        ap = f", box AP {percent(card.metrics['AP'])}" if "AP" in card.metrics else ""
        data = escape_markdown(Path(card.config.data).name)
        lines.append(
            f"- **{escape_markdown(name)}**: {card.config.model}, trained on {data} "
            f"({card.epoch} epochs{ap}); classes: {', '.join(map(escape_markdown, card.classes))}"
        )
    return "\n".join(lines)


def _sentences(title: str, diagnoses: Sequence[Diagnosis]) -> list[str]:
    return [f"{title} {diagnosis.pair}: {diagnosis.words}" for diagnosis in diagnoses]


def _render(draw: Callable[[BinaryIO], None]) -> Image.Image:
    """Return the picture that ``draw`` writes to a file."""
    stream = io.BytesIO()
    draw(stream)
    with Image.open(stream) as picture:
        return picture.convert("RGB")
