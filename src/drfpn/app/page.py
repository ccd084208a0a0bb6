"""The page itself, made of Gradio's components."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from drfpn.app.viewer import Viewer, coco, features, gates, offsets, picture, rows
from drfpn.inference import Detections
from drfpn.utils.errors import UserError, out_of_memory
from drfpn.visualization.hooks import Inspection

MAX_BYTES = 20 * 2**20
"""Larger uploads are refused."""
NOBODY = "(none)"
COLUMNS = ["detector", "class", "score", "x1", "y1", "x2", "y2"]
FORGET = 3600
"""After so many seconds pictures and downloads are deleted."""
MEAN = "mean of all channels"


@dataclass(frozen=True)
class Found:
    """What the detectors found in an image; both stay together, whatever a visitor clicks meanwhile."""

    file: str
    detections: dict[str, Detections]
    """By detector."""


class Downloads:
    """Pictures and detections to download, each answer's in a folder of its own.

    Args:
        folder: where they are written; its owner deletes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, image_file: str, picture: Image.Image, numbers: Mapping[str, Any]) -> tuple[Path, Path]:
        """Write both and return their files; those of an hour ago are deleted."""
        for old in self.folder.glob("found-*"):
            if time.time() - old.stat().st_mtime > FORGET:
                shutil.rmtree(old, ignore_errors=True)
        answer = Path(tempfile.mkdtemp(prefix="found-", dir=self.folder))
        drawn, listed = (answer / f"{Path(image_file).stem}-found.{end}" for end in ("png", "json"))
        picture.save(drawn)
        listed.write_text(json.dumps(numbers), encoding="utf-8")
        return drawn, listed


class Answers:
    """What the page does when something is chosen.

    Args:
        viewer: what it shows.
        examples: images to pick from.
        downloads: takes what a visitor may download.
    """

    def __init__(self, viewer: Viewer, examples: Sequence[Path], downloads: Downloads) -> None:
        self.viewer = viewer
        self.examples = examples
        self.downloads = downloads

    def pick(self, event: gr.SelectData) -> str:
        """Return the example that was clicked."""
        return str(self.examples[event.index])

    def detect(self, file: str | None, one: str, two: str) -> tuple[Found | None, str]:
        """Run one detector or two; return what they found, and what to tell about the image."""
        if file is None:
            return None, "Drop an image or pick an example."
        try:
            pixels = self.viewer.read(file)
        except UserError as error:
            return None, f"**{error}**"
        try:
            detections = {name: self.viewer.detect(pixels, name) for name in (one, two) if name != NOBODY}
        except torch.OutOfMemoryError as error:
            return None, f"**{out_of_memory(error)}**"
        return Found(file, detections), f"{Path(file).name}, {pixels.shape[-1]} x {pixels.shape[-2]} pixels"

    def show(self, found: Found | None, least: float) -> tuple[Any, ...]:
        """Return the picture, how many reach the score, the table, and both buttons to download."""
        if found is None:
            return None, "", [], *(gr.DownloadButton(value=None, interactive=False) for _ in range(2))
        image = picture(self.viewer.read(found.file), found.detections, least)
        listed = rows(found.detections, least)
        files = self.downloads.write(found.file, image, coco(found.detections, least, Path(found.file).name))
        buttons = (gr.DownloadButton(value=str(file), interactive=True) for file in files)
        return image, _count(found, listed, least), listed, *buttons

    def look(self, found: Found | None, what: str) -> tuple[Any, ...]:
        """Return the levels of all detectors, and offsets and gates of the first with their verdicts."""
        if found is None:
            return None, None, "", None, ""
        pixels, inside = self._inspect(found)
        one = next(iter(inside))
        offset, moved = offsets(inside[one], pixels, one)
        gate, weighed = gates(inside[one], one)
        return features(inside, mean=what == MEAN), offset, _list(moved), gate, _list(weighed)

    def look_at_levels(self, found: Found | None, what: str) -> Any:
        """Return the levels of all detectors alone, for another choice of channel."""
        if found is None:
            return None
        _, inside = self._inspect(found)
        return features(inside, mean=what == MEAN)

    def _inspect(self, found: Found) -> tuple[Tensor, dict[str, Inspection]]:
        """Return the image, and what flows inside of the pyramid of each detector."""
        pixels = self.viewer.read(found.file)
        return pixels, {name: self.viewer.inspect(pixels, name) for name in found.detections}


def make_page(answers: Answers, about: str) -> gr.Blocks:
    """Lay the page out.

    Args:
        answers: what it does.
        about: Markdown on the detectors.
    """
    names = list(answers.viewer.predictors)
    # without Gradio's button that shares a picture with strangers
    still: dict[str, Any] = {"format": "png", "show_label": False, "interactive": False, "buttons": ["fullscreen"]}
    with gr.Blocks(title="drfpn", analytics_enabled=False, delete_cache=(FORGET, FORGET)) as page:
        gr.Markdown("# drfpn\nWhat a detector finds in an image, and what its feature pyramid does on the way.")
        chosen = gr.State(None, time_to_live=FORGET)  # path of the image
        found = gr.State(None, time_to_live=FORGET)  # Found, so that another threshold costs nothing
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.File(label="Drop an image, or click to choose one", height=150, elem_id="upload")
                gallery = gr.Gallery(
                    [str(file) for file in answers.examples],
                    label="Or pick an example",
                    columns=3,
                    height=210,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id="examples",
                )
                first = gr.Dropdown(names, value=names[0], label="Detector", elem_id="first")
                second = gr.Dropdown(
                    [NOBODY, *names], value=NOBODY, label="Compare with", elem_id="second", visible=len(names) > 1
                )
                score = gr.Slider(0.05, 0.95, value=0.5, step=0.05, label="Least score", elem_id="score")
                message = gr.Markdown("Drop an image or pick an example.", elem_id="message")
                gr.Markdown(about)
            with gr.Column(scale=3), gr.Tabs():
                with gr.Tab("Detections"):
                    shown = gr.Image(**still, elem_id="shown")
                    counted = gr.Markdown(elem_id="counted")
                    with gr.Row():
                        save_picture = gr.DownloadButton("Picture (PNG)", interactive=False, elem_id="png")
                        save_json = gr.DownloadButton("Detections (JSON)", interactive=False, elem_id="json")
                    table = gr.Dataframe(headers=COLUMNS, interactive=False, max_height=300, elem_id="table")
                with gr.Tab("Features"):
                    kind = gr.Radio([MEAN, "most active channel"], value=MEAN, label="Of each level", elem_id="kind")
                    levels = gr.Image(**still, elem_id="features")
                with gr.Tab("Offsets"):
                    moved = gr.Image(**still, elem_id="offsets")
                    offset_words = gr.Markdown(elem_id="offset-words")
                with gr.Tab("Gates"):
                    weighed = gr.Image(**still, elem_id="gates")
                    gate_words = gr.Markdown(elem_id="gate-words")

        private: dict[str, Any] = {"api_visibility": "private"}
        upload.change(lambda file: file, upload, chosen, **private)
        gallery.select(answers.pick, None, chosen, **private)
        detected = gr.on(
            [chosen.change, first.change, second.change],
            answers.detect,
            [chosen, first, second],
            [found, message],
            **private,
        )
        detected.then(answers.show, [found, score], [shown, counted, table, save_picture, save_json], **private)
        detected.then(answers.look, [found, kind], [levels, moved, offset_words, weighed, gate_words], **private)
        score.change(
            answers.show,
            [found, score],
            [shown, counted, table, save_picture, save_json],
            trigger_mode="always_last",
            show_progress="hidden",
            **private,
        )
        kind.change(answers.look_at_levels, [found, kind], levels, **private)
    return page


def serve(page: gr.Blocks, host: str, port: int | None) -> str:
    """Serve the page from threads of their own and return its address.

    Raises:
        UserError: the port is taken or not allowed, or the address is not this machine's.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            inbrowser=False,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=MAX_BYTES,
            state_session_capacity=100,
        )
    except (OSError, ValueError) as error:
        where = f"port {port}" if port is not None else "any port from 7860 on"
        raise UserError(f"The page cannot be served on {host} at {where}: {str(error).splitlines()[0]}") from error
    return address


def _count(found: Found, listed: Sequence[Sequence[Any]], least: float) -> str:
    counts = {name: sum(row[0] == name for row in listed) for name in found.detections}
    return f"From score {least:g} on: " + ", ".join(f"{count} by {name}" for name, count in counts.items())


def _list(words: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in words)
