"""``drfpn push``: upload of a run to the Hugging Face Hub."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from drfpn.cli.common import Json, print_json


def push(
    run: Annotated[Path, typer.Argument(help="Run folder or weights (.safetensors).")],
    repo: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hub; it is created if missing.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see and download the run; default: private.")
    ] = False,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="LICENSE", help="License of the weights, such as apache-2.0; default: none."),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Upload pictures of validation images and the curves.")
    ] = True,
    json: Json = False,
) -> None:
    """Upload the weights, settings, metrics and pictures of a run to the Hugging Face Hub, with a model card.

    Afterwards hf:USER/NAME names the run in other commands. The token is that of 'hf auth login' or HF_TOKEN. Paths of
    this machine, the state of training and the logs are not uploaded; pictures show images of the validation split.
    """
    from drfpn.hub import push as push_run

    result = push_run(run, repo, public=public, license=license_, pictures=pictures)
    if json:
        print_json(asdict(result))
    else:
        typer.echo(
            f"{result.url} ({'private' if result.private else 'public'}): use it as hf:{repo.removeprefix('hf:')}"
        )
