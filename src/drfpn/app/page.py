"""Layout of the web page (Gradio) and its server."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from drfpn.app.callbacks import LIFETIME, MEAN_CHANNEL, MOST_ACTIVE_CHANNEL, NO_DETECTOR, SELECT_IMAGE, Callbacks
from drfpn.app.rendering import TABLE_COLUMNS
from drfpn.utils.errors import UserError

MAX_UPLOAD_BYTES = 20 * 2**20
"""Larger uploads are refused."""

_PLAIN: dict[str, Any] = {"latex_delimiters": []}
"""Markdown without formulas: names may have dollar signs."""


@dataclass(frozen=True)
class _Inputs:
    """Components that the visitor operates."""

    upload: gr.File
    examples: gr.Gallery
    first: gr.Dropdown
    second: gr.Dropdown
    score_threshold: gr.Slider
    message: gr.Markdown


@dataclass(frozen=True)
class _Outputs:
    """Components that show results; ``channel`` is an input of the tab that it is in."""

    picture: gr.Image
    counts: gr.Markdown
    png: gr.DownloadButton
    json: gr.DownloadButton
    table: gr.Dataframe
    channel: gr.Radio
    levels: gr.Image
    offsets: gr.Image
    offset_diagnoses: gr.Markdown
    gates: gr.Image
    gate_diagnoses: gr.Markdown


def build_page(callbacks: Callbacks, about: str) -> gr.Blocks:
    """Build the page.

    Args:
        callbacks: event handlers.
        about: description of the detectors in Markdown.
    """
    with gr.Blocks(title="drfpn", analytics_enabled=False, delete_cache=(LIFETIME, LIFETIME)) as page:
        gr.Markdown(
            "# drfpn\nDetections in an image, and the features, sampling offsets and channel gates of the neck."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                inputs = _add_inputs(callbacks, about)
            with gr.Column(scale=3), gr.Tabs():
                outputs = _add_outputs()
        _connect(callbacks, inputs, outputs)
    return page


def _add_inputs(callbacks: Callbacks, about: str) -> _Inputs:
    names = list(callbacks.pool.predictors)
    upload = gr.File(label="Drop an image, or click to select one", height=150, elem_id="upload")
    examples = gr.Gallery(
        [str(file) for file in callbacks.examples],
        label="Or select an example",
        columns=3,
        height=210,
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )
    first = gr.Dropdown(names, value=names[0], label="Detector", elem_id="first")
    second = gr.Dropdown(
        [NO_DETECTOR, *names], value=NO_DETECTOR, label="Compare with", elem_id="second", visible=len(names) > 1
    )
    score_threshold = gr.Slider(
        0.05, 0.95, value=0.5, step=0.05, label="Confidence threshold", elem_id="score-threshold"
    )
    message = gr.Markdown(SELECT_IMAGE, elem_id="message", **_PLAIN)
    gr.Markdown(about, **_PLAIN)
    return _Inputs(upload, examples, first, second, score_threshold, message)


def _add_outputs() -> _Outputs:
    # without Gradio's button that shares a picture on a public site
    image: dict[str, Any] = {"format": "png", "show_label": False, "interactive": False, "buttons": ["fullscreen"]}
    with gr.Tab("Detections"):
        picture = gr.Image(**image, elem_id="picture")
        counts = gr.Markdown(elem_id="counts", **_PLAIN)
        with gr.Row():
            png = gr.DownloadButton("Picture (PNG)", interactive=False, elem_id="png")
            json = gr.DownloadButton("Detections (JSON)", interactive=False, elem_id="json")
        table = gr.Dataframe(headers=list(TABLE_COLUMNS), interactive=False, max_height=300, elem_id="table")
    with gr.Tab("Features"):
        channel = gr.Radio(
            [MEAN_CHANNEL, MOST_ACTIVE_CHANNEL], value=MEAN_CHANNEL, label="Channel of each level", elem_id="channel"
        )
        levels = gr.Image(**image, elem_id="features")
    with gr.Tab("Offsets"):
        offsets = gr.Image(**image, elem_id="offsets")
        offset_diagnoses = gr.Markdown(elem_id="offset-diagnoses", **_PLAIN)
    with gr.Tab("Gates"):
        gates = gr.Image(**image, elem_id="gates")
        gate_diagnoses = gr.Markdown(elem_id="gate-diagnoses", **_PLAIN)
    return _Outputs(
        picture, counts, png, json, table, channel, levels, offsets, offset_diagnoses, gates, gate_diagnoses
    )


def _connect(callbacks: Callbacks, inputs: _Inputs, outputs: _Outputs) -> None:
    """Register the event handlers."""
    file = gr.State(None, time_to_live=LIFETIME)  # path of the image
    result = gr.State(None, time_to_live=LIFETIME)  # ImageDetections, so that another threshold needs no inference
    detection_outputs = [outputs.picture, outputs.counts, outputs.table, outputs.png, outputs.json]
    neck_outputs = [outputs.levels, outputs.offsets, outputs.offset_diagnoses, outputs.gates, outputs.gate_diagnoses]
    private: dict[str, Any] = {"api_visibility": "private"}
    inputs.upload.change(lambda uploaded: uploaded, inputs.upload, file, **private)
    inputs.examples.select(callbacks.select_example, None, file, **private)
    detected = gr.on(
        [file.change, inputs.first.change, inputs.second.change],
        callbacks.detect,
        [file, inputs.first, inputs.second],
        [result, inputs.message],
        **private,
    )
    detected.then(callbacks.show_detections, [result, inputs.score_threshold], detection_outputs, **private)
    detected.then(callbacks.show_neck, [result, outputs.channel], neck_outputs, **private)
    inputs.score_threshold.change(
        callbacks.show_detections,
        [result, inputs.score_threshold],
        detection_outputs,
        trigger_mode="always_last",
        show_progress="hidden",
        **private,
    )
    outputs.channel.change(callbacks.show_levels, [result, outputs.channel], outputs.levels, **private)


def serve(page: gr.Blocks, host: str, port: int | None) -> str:
    """Start serving the page in background threads.

    Args:
        page: of :func:`build_page`.
        host: address to listen on.
        port: port to listen on; ``None`` for the first free one from 7860.

    Returns:
        URL of the page.

    Raises:
        UserError: the port is in use or not allowed, or the address is not one of this machine.
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
            max_file_size=MAX_UPLOAD_BYTES,
            state_session_capacity=100,
        )
    except (OSError, ValueError) as error:
        ports = f"port {port}" if port is not None else "any port from 7860"
        raise UserError(f"The page cannot be served on {host} at {ports}: {str(error).splitlines()[0]}") from error
    return address
