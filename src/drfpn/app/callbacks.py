"""Event handlers of the web page, and its files to download."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from drfpn.app.predictors import PredictorPool
from drfpn.app.rendering import (
    detection_table,
    detections_json,
    render_detections,
    render_gates,
    render_levels,
    render_offsets,
)
from drfpn.inference import Detections
from drfpn.utils.errors import UserError, out_of_memory_message
from drfpn.utils.formatting import escape_markdown
from drfpn.visualization.hooks import NeckTensors

NO_DETECTOR = "(none)"
"""Choice of no second detector."""
MEAN_CHANNEL = "mean of all channels"
MOST_ACTIVE_CHANNEL = "most active channel"
SELECT_IMAGE = "Drop an image or select an example."
"""Message while no image is selected."""
LIFETIME = 3600
"""Age in seconds at which pictures and downloads are deleted."""


@dataclass(frozen=True)
class ImageDetections:
    """An image and its detections, kept together while the visitor changes the threshold."""

    file: str
    """Image file."""
    detections: dict[str, Detections]
    """Detections by name of the detector, before the threshold."""


class DownloadFolder:
    """Folder of pictures and JSON files to download, with a subfolder for each response.

    Args:
        folder: where to write; the caller deletes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, image_file: str, picture: Image.Image, content: Mapping[str, Any]) -> tuple[Path, Path]:
        """Write a picture and a JSON file, and delete those that are older than ``LIFETIME``.

        Args:
            image_file: image, whose name the files begin with.
            picture: to be written as PNG.
            content: to be written as JSON.

        Returns:
            The PNG and the JSON file.
        """
        for old in self.folder.glob("detections-*"):
            if time.time() - old.stat().st_mtime > LIFETIME:
                shutil.rmtree(old, ignore_errors=True)
        subfolder = Path(tempfile.mkdtemp(prefix="detections-", dir=self.folder))
        png, json_file = (subfolder / f"{Path(image_file).stem}-detections.{suffix}" for suffix in ("png", "json"))
        picture.save(png)
        json_file.write_text(json.dumps(content), encoding="utf-8")
        return png, json_file


class Callbacks:
    """Event handlers of the page.

    Args:
        pool: the detectors.
        examples: example images.
        downloads: where files to download are written.
    """

    def __init__(self, pool: PredictorPool, examples: Sequence[Path], downloads: DownloadFolder) -> None:
        self.pool = pool
        self.examples = examples
        self.downloads = downloads

    def select_example(self, event: gr.SelectData) -> str:
        """Return the file of the example that was clicked."""
        return str(self.examples[event.index])

    def detect(self, file: str | None, first: str, second: str) -> tuple[ImageDetections | None, str]:
        """Run one or two detectors on an image.

        Args:
            file: image file; ``None`` if none is selected.
            first: name of the first detector.
            second: name of the second detector, or ``NO_DETECTOR``.

        Returns:
            The detections, ``None`` after an error, and a message in Markdown.
        """
        if file is None:
            return None, SELECT_IMAGE
        try:
            image = self.pool.load_image(file)
        except UserError as error:
            return None, f"**{escape_markdown(str(error))}**"
        try:
            detections = {name: self.pool.detect(image, name) for name in (first, second) if name != NO_DETECTOR}
        except torch.OutOfMemoryError as error:
            return None, f"**{escape_markdown(out_of_memory_message(error))}**"
        return ImageDetections(
            file, detections
        ), f"{escape_markdown(Path(file).name)}, {image.shape[-1]} x {image.shape[-2]} pixels"

    def show_detections(self, result: ImageDetections | None, score_threshold: float) -> tuple[Any, ...]:
        """Show the detections with a score of at least ``score_threshold``.

        Args:
            result: detections of an image; ``None`` clears the outputs.
            score_threshold: confidence threshold, 0..1.

        Returns:
            Picture, counts in Markdown, rows of the table, and the buttons to download PNG and JSON.
        """
        if result is None:
            return None, "", [], *(gr.DownloadButton(value=None, interactive=False) for _ in range(2))
        picture = render_detections(self.pool.load_image(result.file), result.detections, score_threshold)
        table = detection_table(result.detections, score_threshold)
        content = detections_json(result.detections, score_threshold, Path(result.file).name)
        files = self.downloads.write(result.file, picture, content)
        buttons = (gr.DownloadButton(value=str(file), interactive=True) for file in files)
        return picture, _counts(result, table, score_threshold), table, *buttons

    def show_neck(self, result: ImageDetections | None, channel: str) -> tuple[Any, ...]:
        """Show the output levels of the necks of all detectors, and offsets and gates of the first.

        Args:
            result: detections of an image; ``None`` clears the outputs.
            channel: ``MEAN_CHANNEL`` or ``MOST_ACTIVE_CHANNEL``.

        Returns:
            Picture of the levels, picture of the offsets and their diagnoses in Markdown, and the same of the gates.
        """
        if result is None:
            return None, None, "", None, ""
        image, tensors = self._capture_neck_tensors(result)
        first = next(iter(tensors))
        offsets, offset_diagnoses = render_offsets(tensors[first], image, first)
        gates, gate_diagnoses = render_gates(tensors[first], first)
        levels = render_levels(tensors, mean=channel == MEAN_CHANNEL)
        return levels, offsets, _markdown_list(offset_diagnoses), gates, _markdown_list(gate_diagnoses)

    def show_levels(self, result: ImageDetections | None, channel: str) -> Image.Image | None:
        """Show the output levels of the necks of all detectors.

        Args:
            result: detections of an image; ``None`` clears the output.
            channel: ``MEAN_CHANNEL`` or ``MOST_ACTIVE_CHANNEL``.

        Returns:
            Picture of the levels.
        """
        if result is None:
            return None
        _, tensors = self._capture_neck_tensors(result)
        return render_levels(tensors, mean=channel == MEAN_CHANNEL)

    def _capture_neck_tensors(self, result: ImageDetections) -> tuple[Tensor, dict[str, NeckTensors]]:
        """Return the image, and the intermediate tensors of the necks by name of the detector."""
        image = self.pool.load_image(result.file)
        return image, {name: self.pool.capture_neck_tensors(image, name) for name in result.detections}


def _counts(result: ImageDetections, table: Sequence[Sequence[Any]], score_threshold: float) -> str:
    counts = {name: sum(row[0] == name for row in table) for name in result.detections}
    text = ", ".join(f"{count} by {escape_markdown(name)}" for name, count in counts.items())
    return f"Detections with a score of at least {score_threshold:g}: {text}"


def _markdown_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
