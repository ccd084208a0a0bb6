"""``drfpn app``."""

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
        typer.Argument(metavar="[RUN|FILE...]", help="Runs or weights; default: a small detector of shapes."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 lets the whole network in.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.")] = None,
    device: Device = "auto",
) -> None:
    """Serve a web page: drop an image, see detections, features, offsets and gates of one detector or of two.

    Nothing leaves this machine. Examples are images of the first run's validation split where they can be read,
    else synthetic shapes. Stop it with Ctrl-C.
    """
    try:
        from drfpn.app.page import Answers, Downloads, make_page
        from drfpn.app.page import serve as start
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "gradio":
            raise
        raise UserError("drfpn app needs Gradio, which is not installed: pip install 'drfpn[app]'") from error
    from drfpn.app import SHIPPED
    from drfpn.app.examples import write_examples
    from drfpn.app.viewer import Viewer, describe
    from drfpn.inference import load_predictor
    from drfpn.training.checkpoint import load_card
    from drfpn.utils.console import say
    from drfpn.utils.runs import name_runs

    files = runs or [SHIPPED]
    where = choose_device(device)
    cards = {name: load_card(file) for name, file in zip(name_runs(files), files, strict=True)}
    say(f"loading {', '.join(cards)}")
    predictors = {name: load_predictor(file, where) for name, file in zip(cards, files, strict=True)}
    with tempfile.TemporaryDirectory(prefix="drfpn-") as folder:
        examples = write_examples(next(iter(cards.values())), Path(folder))
        page = make_page(Answers(Viewer(predictors), examples, Downloads(Path(folder))), describe(cards))
        typer.echo(f"{start(page, host, port)} (Ctrl-C stops it)")
        try:
            Event().wait()
        finally:
            page.close(verbose=False)
