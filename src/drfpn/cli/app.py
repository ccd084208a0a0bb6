"""All commands under one name, and what becomes of a user's mistake."""

import sys
from typing import Annotated

import typer

from drfpn.cli import ablate, bench, data, doctor, evaluate, export, inspect, predict, report, serve, train, view
from drfpn.utils.errors import Stopped, UserError, message_of, out_of_memory

app = typer.Typer(
    name="drfpn",
    help="Train, measure and use object detectors with a better feature pyramid.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("info")(inspect.info)
app.command("models")(inspect.models)
app.command("report")(report.report)
app.command("ablate")(ablate.ablate)
app.command("bench")(bench.bench)
app.command("app")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("demo")(train.demo)
app.add_typer(data.app, name="data")
app.add_typer(view.app, name="view")


def _version(wanted: bool) -> None:
    if wanted:
        from drfpn import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit code 1 or 2."""
    try:
        app()
    except UserError as error:
        print(f"drfpn: {message_of(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("drfpn: stopped", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        from drfpn.utils import distributed

        # torch's own, which is imported inside of commands only; MPS has none
        if type(error).__name__ == "OutOfMemoryError" or "backend out of memory" in str(error):
            print(f"drfpn: {out_of_memory(error)}", file=sys.stderr)
            sys.exit(1)
        if not distributed.is_peer_failure(error):
            raise
        print("drfpn: another process of this training has ended", file=sys.stderr)
        sys.exit(distributed.ALONE)
    except Stopped as stop:
        print(f"drfpn: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
