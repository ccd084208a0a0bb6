"""``drfpn app``: a web page with the detections, features, offsets and gates of a detector."""

import tempfile
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from drfpn.cli.common import Device, choose_device
from drfpn.utils.errors import UserError


def serve(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|FILE...]",
            help="Run folders, weights, or hf:USER/NAME for runs on the Hugging Face Hub; default: a small detector of "
            "synthetic shapes.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 for the whole network.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default: the first free one from 7860.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve a web page that shows detections, features, offsets and gates of one or two detectors for an image.

    No data leaves this machine. The examples are images of the validation split of the first run if it is a local one
    and they can be read, else synthetic shapes. Ctrl-C stops the server.
    """
    try:
        from drfpn.app.callbacks import Callbacks, DownloadFolder
        from drfpn.app.page import build_page
        from drfpn.app.page import serve as start
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "gradio":
            raise
        raise UserError("drfpn app needs Gradio, which is not installed: pip install 'drfpn[app]'") from error
    from drfpn.app import SHIPPED_WEIGHTS
    from drfpn.app.examples import write_examples
    from drfpn.app.predictors import PredictorPool
    from drfpn.app.rendering import detectors_markdown
    from drfpn.inference import load_predictor
    from drfpn.training.checkpoint import load_card
    from drfpn.utils.console import say
    from drfpn.utils.hub import is_hub_name
    from drfpn.utils.runs import name_runs

    files = runs or [SHIPPED_WEIGHTS]
    target_device = choose_device(device)
    cards = {name: load_card(file) for name, file in zip(name_runs(files), files, strict=True)}
    say(f"loading {', '.join(cards)}")
    predictors = {name: load_predictor(file, target_device) for name, file in zip(cards, files, strict=True)}
    with tempfile.TemporaryDirectory(prefix="drfpn-") as folder:
        first = None if is_hub_name(files[0]) else next(iter(cards.values()))  # whose data may be anything here
        examples = write_examples(first, Path(folder))
        callbacks = Callbacks(PredictorPool(predictors), examples, DownloadFolder(Path(folder)))
        page = build_page(callbacks, detectors_markdown(cards))
        typer.echo(f"{start(page, host, port)} (Ctrl-C stops it)")
        try:
            Event().wait()
        finally:
            page.close(verbose=False)
